/* Sorted sets: ranges by rank, score or member; replied, stored, counted, removed.
 *
 * All of ZRANGE and its older relatives is one request: parse the options, parse the two limits by what kind of range
 * it is, turn them into a part of the set (positions), go through the part. What is read from far ends is one part as
 * well, gone through backward. */

#include "command/effect.h"
#include "command/sorted_set_handlers.h"
#include "command/sorted_set_limits.h"

enum range_kind { RANGE_ANY, RANGE_RANK, RANGE_SCORE, RANGE_MEMBER };

struct range_request {
    enum range_kind kind; /* ANY: the options say it */
    bool reverse, may_reverse;
    bool stores;
    bool with_scores, limited;
    int64_t offset, most; /* of LIMIT; most negative: all */
    int64_t start, stop;  /* ranks */
    struct score_range scores;
    struct member_range members;
};

/* ---- arguments ---- */

/* The option at `at`; returns how many arguments it took, 0: it is none, -1: an error is composed. */
static int take_option(struct call *call, uint32_t at, struct range_request *request, enum range_kind declared) {
    if (!request->stores && call_is(call, at, "withscores")) {
        request->with_scores = true;
    } else if (call_is(call, at, "limit") && at + 2 < call->argc) {
        if (!call_integer(call, at + 1, &request->offset) || !call_integer(call, at + 2, &request->most)) return -1;
        request->limited = true;
        return 3;
    } else if (request->may_reverse && call_is(call, at, "rev")) {
        request->reverse = true;
    } else if (declared == RANGE_ANY && call_is(call, at, "bylex")) {
        request->kind = RANGE_MEMBER;
    } else if (declared == RANGE_ANY && call_is(call, at, "byscore")) {
        request->kind = RANGE_SCORE;
    } else {
        return 0;
    }
    return 1;
}

static bool parse_options(struct call *call, uint32_t first, struct range_request *request) {
    enum range_kind declared = request->kind;
    for (uint32_t at = first; at < call->argc;) {
        int taken = take_option(call, at, request, declared);
        if (taken == 0) reply_error(call->reply, ERROR_SYNTAX);
        if (taken <= 0) return false;
        at += (uint32_t)taken;
    }
    if (request->kind == RANGE_ANY) request->kind = RANGE_RANK;
    /* LIMIT 0 -1 says nothing, so it is let through, as Redis does; so is any other offset with -1. */
    if (request->limited && request->most != -1 && request->kind == RANGE_RANK) {
        reply_error(call->reply,
                    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
        return false;
    }
    if (request->with_scores && request->kind == RANGE_MEMBER) {
        reply_error(call->reply, "ERR syntax error, WITHSCORES not supported in combination with BYLEX");
        return false;
    }
    return true;
}

static bool parse_limits(struct call *call, uint32_t first, struct range_request *request) {
    uint32_t min = first, max = first + 1;
    if (request->kind == RANGE_RANK)
        return call_integer(call, min, &request->start) && call_integer(call, max, &request->stop);
    if (request->reverse) {
        min = first + 1;
        max = first;
    }
    return request->kind == RANGE_SCORE ? call_score_range(call, min, max, &request->scores)
                                        : call_member_range(call, min, max, &request->members);
}

/* ---- parts ---- */

static struct sorted_set_part part_of_ranks(uint64_t length, int64_t start, int64_t stop) {
    int64_t count = (int64_t)length;
    if (start < 0) start = start + count < 0 ? 0 : start + count;
    if (stop < 0) stop += count;
    if (start > stop || start >= count) return (struct sorted_set_part){0, 0};
    if (stop >= count) stop = count - 1;
    return (struct sorted_set_part){(uint64_t)start, (uint64_t)(stop - start + 1)};
}

/* LIMIT: counted from the end where the walk begins. */
static struct sorted_set_part limited(struct sorted_set_part part, const struct range_request *request) {
    if (request->offset < 0 || (uint64_t)request->offset >= part.count) return (struct sorted_set_part){0, 0};
    uint64_t count = part.count - (uint64_t)request->offset;
    if (request->most >= 0 && (uint64_t)request->most < count) count = (uint64_t)request->most;
    if (request->reverse)
        part.first += part.count - (uint64_t)request->offset - count;
    else
        part.first += (uint64_t)request->offset;
    part.count = count;
    return part;
}

static struct sorted_set_part part_of(struct sorted_set *set, const struct range_request *request) {
    struct sorted_set_part part;
    if (request->kind == RANGE_RANK) {
        uint64_t count = sorted_set_count(set);
        part = part_of_ranks(count, request->start, request->stop);
        if (request->reverse && part.count) part.first = count - part.first - part.count;
        return part;
    }
    part = request->kind == RANGE_SCORE ? sorted_set_by_score(set, &request->scores)
                                        : sorted_set_by_member(set, &request->members);
    return request->limited ? limited(part, request) : part;
}

/* ---- ZRANGE and relatives ---- */

static void reply_part(struct call *call, struct sorted_set *set, struct sorted_set_part part,
                       const struct range_request *request) {
    struct sorted_set_cursor at;
    sorted_set_reply_header(call->reply, part.count, request->with_scores);
    if (part.count == 0) return;
    uint64_t last = part.first + part.count - 1;
    if (request->reverse) {
        for (sorted_set_at(&at, set, last); at.valid && at.position >= part.first; sorted_set_previous(&at)) {
            if (!at.missing) sorted_set_reply_member(call->reply, at.member, at.score, request->with_scores);
            if (at.position == 0) break;
        }
    } else {
        for (sorted_set_at(&at, set, part.first); at.valid && at.position <= last; sorted_set_next(&at))
            if (!at.missing) sorted_set_reply_member(call->reply, at.member, at.score, request->with_scores);
    }
}

/* Redis fills a packed set, in the order of the range, as long as it may be one; in it a -0 becomes 0. */
static bool stays_packed(const struct call *call, const struct sorted_set_result *result, struct span member) {
    const struct value_limits *limits = &call->view.keyspace->limits;
    return (int64_t)result->count < limits->sorted_set_packed_entries &&
           (int64_t)member.length <= limits->sorted_set_packed_bytes;
}

static void gather_part(struct call *call, struct sorted_set *set, struct sorted_set_part part,
                        const struct range_request *request, struct sorted_set_result *result) {
    struct sorted_set_cursor at;
    bool packed =
        request->kind != RANGE_RANK || (int64_t)part.count <= call->view.keyspace->limits.sorted_set_packed_entries;
    uint64_t end = part.first + part.count;
    if (part.count == 0) return;
    sorted_set_at(&at, set, request->reverse ? end - 1 : part.first);
    while (at.valid && at.position >= part.first && at.position < end) {
        if (!at.missing) {
            packed = packed && stays_packed(call, result, at.member);
            if (!sorted_set_result_add(result, at.member, packed ? at.score + 0.0 : at.score, at.room)) return;
        }
        if (request->reverse && at.position == 0) return;
        if (request->reverse)
            sorted_set_previous(&at);
        else
            sorted_set_next(&at);
    }
}

/* By members a range of a set with different scores is what the search happens to find; its ranks are told. */
static void tell_stored_ranks(struct call *call, struct sorted_set_part part) {
    if (part.count == 0) {
        call_effect_of(call, "DEL", call->keys[0].name);
        return;
    }
    effect_begin(call);
    effect_put_text(call, "ZRANGESTORE");
    effect_put(call, call->keys[0].name);
    effect_put(call, call->keys[1].name);
    effect_put_integer(call, (int64_t)part.first);
    effect_put_integer(call, (int64_t)(part.first + part.count - 1));
    effect_end(call);
}

static void store_part(struct call *call, struct sorted_set *set, struct sorted_set_part part,
                       const struct range_request *request) {
    struct sorted_set_result result = {.count = 0};
    gather_part(call, set, part, request, &result);
    if (request->reverse) sorted_set_result_sort(&result);
    uint64_t errors = call->reply->errors;
    sorted_set_result_store(call, &call->keys[0], &result, "zrangestore");
    if (request->kind == RANGE_MEMBER && call->reply->errors == errors) tell_stored_ranks(call, part);
    sorted_set_result_free(&result);
}

static void run_range(struct call *call, struct range_request *request) {
    struct sorted_set set;
    uint32_t first = request->stores ? 3 : 2;
    const struct key *source = &call->keys[request->stores];
    if (!parse_options(call, first + 2, request) || !parse_limits(call, first, request)) return;
    if (!sorted_set_expect(call, source, SORTED_SET_FOR_READ, &set)) return;
    struct sorted_set_part part = part_of(&set, request);
    if (request->stores)
        store_part(call, &set, part, request);
    else
        reply_part(call, &set, part, request);
}

void command_zrange(struct call *call) {
    run_range(call, &(struct range_request){.may_reverse = true});
}
void command_zrangestore(struct call *call) {
    run_range(call, &(struct range_request){.may_reverse = true, .stores = true});
}
void command_zrevrange(struct call *call) {
    run_range(call, &(struct range_request){.kind = RANGE_RANK, .reverse = true});
}
void command_zrangebyscore(struct call *call) {
    run_range(call, &(struct range_request){.kind = RANGE_SCORE});
}
void command_zrevrangebyscore(struct call *call) {
    run_range(call, &(struct range_request){.kind = RANGE_SCORE, .reverse = true});
}
void command_zrangebylex(struct call *call) {
    run_range(call, &(struct range_request){.kind = RANGE_MEMBER});
}
void command_zrevrangebylex(struct call *call) {
    run_range(call, &(struct range_request){.kind = RANGE_MEMBER, .reverse = true});
}

/* ---- counting and removing ---- */

static void count_range(struct call *call, enum range_kind kind) {
    struct range_request request = {.kind = kind};
    struct sorted_set set;
    if (parse_limits(call, 2, &request) && sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set))
        reply_integer(call->reply, (int64_t)part_of(&set, &request).count);
}

void command_zcount(struct call *call) {
    count_range(call, RANGE_SCORE);
}
void command_zlexcount(struct call *call) {
    count_range(call, RANGE_MEMBER);
}

static void remove_range(struct call *call, enum range_kind kind, const char *event) {
    struct range_request request = {.kind = kind};
    struct sorted_set set;
    const struct key *key = &call->keys[0];
    if (!parse_limits(call, 2, &request) || !sorted_set_expect(call, key, SORTED_SET_FOR_WRITE, &set)) return;
    struct sorted_set_part part = part_of(&set, &request);
    uint64_t before = sorted_set_count(&set);
    enum page_status status = sorted_set_remove_part(&set, part);
    if (status != PAGE_DONE && status != PAGE_ABSENT) {
        sorted_set_tell_removed_ranks(call, set.key, part, before - sorted_set_count(&set));
        call_no_memory(call);
        return;
    }
    if (status == PAGE_DONE && kind == RANGE_MEMBER)
        sorted_set_tell_removed_ranks(call, key, part, before - sorted_set_count(&set));
    if (status == PAGE_DONE) call_notify(call, NOTIFY_SORTED_SET, event, key);
    if (status == PAGE_DONE && !sorted_set_exists(&set)) call_notify(call, NOTIFY_GENERIC, "del", key);
    reply_integer(call->reply, (int64_t)part.count);
}

void command_zremrangebyrank(struct call *call) {
    remove_range(call, RANGE_RANK, "zremrangebyrank");
}
void command_zremrangebyscore(struct call *call) {
    remove_range(call, RANGE_SCORE, "zremrangebyscore");
}
void command_zremrangebylex(struct call *call) {
    remove_range(call, RANGE_MEMBER, "zremrangebylex");
}
