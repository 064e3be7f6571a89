/* Sorted sets: adding, scoring, removing single members. */

#include "command/effect_chunks.h"
#include "command/sorted_set_handlers.h"

#include <math.h>

enum { SCORES_AT_HAND = 64 };

/* ---- ZADD ---- */

/* What became of one member. */
struct outcome {
    bool added, updated, processed;
    double score; /* it has now */
};

/* False: the error is composed. */
static bool add_member(struct call *call, struct sorted_set *set, const struct sorted_set_addition *addition,
                       struct span member, double score, struct outcome *outcome) {
    double old = 0;
    enum page_status found = sorted_set_score(set, member, &old);
    *outcome = (struct outcome){.score = score};
    if (found == PAGE_DONE) {
        if (addition->if_absent) return true;
        if (addition->increments) outcome->score = score + old;
        if (isnan(outcome->score)) {
            reply_error(call->reply, "ERR resulting score is not a number (NaN)");
            return false;
        }
        if ((addition->if_less && outcome->score >= old) || (addition->if_greater && outcome->score <= old))
            return true;
        outcome->processed = true;
        outcome->updated = outcome->score != old;
        if (!outcome->updated) return true;
    } else if (found == PAGE_ABSENT) {
        if (addition->if_present) return true;
        outcome->processed = outcome->added = true;
    }
    if ((found == PAGE_DONE || found == PAGE_ABSENT) &&
        sorted_set_put(set, member, outcome->score, found, old) == PAGE_DONE)
        return true;
    call_no_memory(call);
    return false;
}

static void reply_addition(struct call *call, const struct sorted_set_addition *addition, int64_t count,
                           const struct outcome *last) {
    if (!addition->increments)
        reply_integer(call->reply, count);
    else if (last->processed)
        reply_double(call->reply, last->score);
    else
        reply_null(call->reply);
}

void sorted_set_add(struct call *call, const struct sorted_set_addition *addition) {
    struct sorted_set set;
    struct outcome outcome = {.processed = false};
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_WRITE, &set)) return;
    if (!sorted_set_exists(&set) && addition->if_present) {
        reply_addition(call, addition, 0, &outcome);
        return;
    }
    const struct span *member = call->argv + addition->first;
    if (addition->count > 1 && set.root && set.access.source) {
        for (uint32_t i = 0; i < addition->count; i++) (void)sorted_set_touch(&set, member[i * addition->stride]);
        if (set.access.missing) return;
    }
    int64_t added = 0, updated = 0;
    bool done = true;
    for (uint32_t i = 0; done && i < addition->count; i++, member += addition->stride) {
        done = add_member(call, &set, addition, *member, addition->scores[i], &outcome);
        if (!done) {
            uint32_t begin = addition->first + 1 - addition->stride;
            call_effect_part(call, begin + i * addition->stride, begin);
            break;
        }
        added += outcome.added;
        updated += outcome.updated;
    }
    if (added || updated) call_notify(call, NOTIFY_SORTED_SET, addition->increments ? "zincr" : "zadd", &call->keys[0]);
    if (done) reply_addition(call, addition, addition->counts_changes ? added + updated : added, &outcome);
}

/* Returns the first argument that is no option. */
static uint32_t parse_options(const struct call *call, struct sorted_set_addition *addition) {
    uint32_t at = 2;
    for (; at < call->argc; at++) {
        if (call_is(call, at, "nx"))
            addition->if_absent = true;
        else if (call_is(call, at, "xx"))
            addition->if_present = true;
        else if (call_is(call, at, "gt"))
            addition->if_greater = true;
        else if (call_is(call, at, "lt"))
            addition->if_less = true;
        else if (call_is(call, at, "ch"))
            addition->counts_changes = true;
        else if (call_is(call, at, "incr"))
            addition->increments = true;
        else
            break;
    }
    return at;
}

static const char *refusal_of(const struct sorted_set_addition *addition) {
    if (addition->if_absent && addition->if_present) return "ERR XX and NX options at the same time are not compatible";
    if ((addition->if_greater && (addition->if_absent || addition->if_less)) ||
        (addition->if_less && addition->if_absent))
        return "ERR GT, LT, and/or NX options at the same time are not compatible";
    if (addition->increments && addition->count > 1) return "ERR INCR option supports a single increment-element pair";
    return NULL;
}

/* The pairs of score and member begin at argument `first`. All scores are read before anything changes. */
static void add_pairs(struct call *call, struct sorted_set_addition *addition, uint32_t first) {
    double at_hand[SCORES_AT_HAND];
    double *scores = addition->count <= SCORES_AT_HAND ? at_hand : malloc(addition->count * sizeof(*scores));
    uint32_t i = 0;
    if (!scores) {
        call_no_memory(call);
        return;
    }
    while (i < addition->count && sorted_set_parse_score(call->argv[first + 2 * i], &scores[i])) i++;
    if (i == addition->count) {
        addition->scores = scores;
        addition->first = first + 1;
        addition->stride = 2;
        sorted_set_add(call, addition);
    } else {
        reply_error(call->reply, ERROR_NOT_FLOAT);
    }
    if (scores != at_hand) free(scores);
}

void command_zadd(struct call *call) {
    struct sorted_set_addition addition = {.if_absent = false};
    uint32_t first = parse_options(call, &addition), left = call->argc - first;
    if (left == 0 || left % 2) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    addition.count = left / 2;
    const char *refusal = refusal_of(&addition);
    if (refusal)
        reply_error(call->reply, refusal);
    else
        add_pairs(call, &addition, first);
}

/* Options may stand where the increment should, as in ZADD; nothing is left over then. */
void command_zincrby(struct call *call) {
    struct sorted_set_addition addition = {.increments = true, .count = 1};
    uint32_t first = parse_options(call, &addition);
    if (first != 2)
        reply_error(call->reply, ERROR_SYNTAX);
    else
        add_pairs(call, &addition, 2);
}

/* ---- ZREM ---- */

void command_zrem(struct call *call) {
    struct sorted_set set;
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_WRITE, &set)) return;
    if (call->argc > 3 && set.root && set.access.source) {
        for (uint32_t i = 2; i < call->argc; i++) (void)sorted_set_touch(&set, call->argv[i]);
        if (set.access.missing) return;
    }
    int64_t removed = 0;
    enum page_status status = PAGE_DONE;
    for (uint32_t i = 2; i < call->argc && sorted_set_exists(&set); i++) {
        status = sorted_set_remove(&set, call->argv[i]);
        if (status != PAGE_DONE && status != PAGE_ABSENT) {
            call_effect_part(call, i, 2);
            break;
        }
        removed += status == PAGE_DONE;
    }
    if (removed) {
        call_notify(call, NOTIFY_SORTED_SET, "zrem", &call->keys[0]);
        if (!sorted_set_exists(&set)) call_notify(call, NOTIFY_GENERIC, "del", &call->keys[0]);
    }
    if (status == PAGE_DONE || status == PAGE_ABSENT)
        reply_integer(call->reply, removed);
    else
        call_no_memory(call);
}
