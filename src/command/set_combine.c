/* Sets: SINTER, SUNION, SDIFF and their STORE forms, SINTERCARD. How the members are found is in set_algebra.c.
 *
 * A STORE form builds its result apart and puts it in the place of the destination when it is complete, so the
 * destination may be one of the sources. Where sources may be cold it combines them twice: first without keeping the
 * result, to have everything at hand before the first change. */

#include "command/set_algebra.h"
#include "command/set_handlers.h"

#include <stdlib.h>

enum { SETS_ON_STACK = 8 };

/* ---- sources ---- */

struct sources {
    struct set_value *sets;
    uint32_t count;
    bool some_absent, some_paged; /* paged, and perhaps not at hand */
    struct set_value room[SETS_ON_STACK];
};

static void close_sources(struct sources *sources) {
    if (sources->sets != sources->room) free(sources->sets);
}

/* Opens the sets of `count` keys from the call's key `first` on. False: the error is composed. */
static bool open_sources(struct call *call, struct sources *sources, uint32_t first, uint32_t count) {
    sources->count = count;
    sources->some_absent = sources->some_paged = false;
    sources->sets = count <= SETS_ON_STACK ? sources->room : malloc(count * sizeof(*sources->sets));
    if (!sources->sets) {
        call_no_memory(call);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct set_value *set = &sources->sets[i];
        if (!set_open(call, set, first + i, SET_FOR_READ)) {
            close_sources(sources);
            return false;
        }
        sources->some_absent |= !set_value_exists(set);
        sources->some_paged |= set->root && set->access.source;
    }
    return true;
}

static bool some_missing(const struct sources *sources) {
    for (uint32_t i = 0; i < sources->count; i++)
        if (sources->sets[i].access.missing) return true;
    return false;
}

/* An intersection with a set that does not exist is empty; nothing need be read. */
static bool combine(struct call *call, enum set_operation operation, struct sources *sources, set_emit *emit,
                    void *ctx) {
    if (operation == SET_INTERSECTION && sources->some_absent) return true;
    return set_combine(operation, sources->sets, sources->count, call->view.keyspace->seed, emit, ctx);
}

/* ---- to the client ---- */

struct answer {
    struct reply *reply;
    size_t count;
};

static bool reply_member(void *ctx, struct span member) {
    struct answer *answer = ctx;
    reply_bulk(answer->reply, member);
    answer->count++;
    return true;
}

static void reply_combined(struct call *call, enum set_operation operation) {
    struct sources sources;
    struct answer answer = {.reply = call->reply};
    if (!open_sources(call, &sources, 0, call->key_count)) return;
    struct reply_mark mark = reply_mark(call->reply);
    struct reply_aggregate aggregate = reply_begin(call->reply);
    if (combine(call, operation, &sources, reply_member, &answer)) {
        reply_end(call->reply, aggregate, '~', answer.count);
    } else {
        reply_rewind(call->reply, mark);
        call_no_memory(call);
    }
    close_sources(&sources);
}

void command_sinter(struct call *call) {
    reply_combined(call, SET_INTERSECTION);
}
void command_sunion(struct call *call) {
    reply_combined(call, SET_UNION);
}
void command_sdiff(struct call *call) {
    reply_combined(call, SET_DIFFERENCE);
}

/* ---- SINTERCARD ---- */

struct tally {
    uint64_t count, limit; /* 0: no limit */
};

static bool count_member(void *ctx, struct span member) {
    (void)member;
    struct tally *tally = ctx;
    return ++tally->count != tally->limit;
}

/* False: an error is composed. */
static bool parse_card(struct call *call, uint32_t *keys, uint64_t *limit) {
    int64_t number;
    *limit = 0;
    if (!call_integer_within(call, 1, 1, INT64_MAX, "ERR numkeys should be greater than 0", &number)) return false;
    if (number > call->argc - 2) {
        reply_error(call->reply, "ERR Number of keys can't be greater than number of args");
        return false;
    }
    *keys = (uint32_t)number;
    for (uint32_t i = 2 + *keys; i < call->argc; i += 2) {
        if (!call_is(call, i, "limit") || i + 1 == call->argc) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!call_integer_within(call, i + 1, 0, INT64_MAX, "ERR LIMIT can't be negative", &number)) return false;
        *limit = (uint64_t)number;
    }
    return true;
}

void command_sintercard(struct call *call) {
    struct sources sources;
    struct tally tally = {0};
    uint32_t keys;
    if (!parse_card(call, &keys, &tally.limit) || !open_sources(call, &sources, 0, keys)) return;
    if (combine(call, SET_INTERSECTION, &sources, count_member, &tally))
        reply_integer(call->reply, (int64_t)tally.count);
    else
        call_no_memory(call);
    close_sources(&sources);
}

/* ---- STORE ---- */

struct result {
    struct set_value set;
    enum page_status status;
};

static bool drop_member(void *ctx, struct span member) {
    (void)ctx;
    (void)member;
    return true;
}

static bool keep_member(void *ctx, struct span member) {
    struct result *result = ctx;
    result->status = set_value_add(&result->set, member);
    return result->status == PAGE_DONE || result->status == PAGE_EXISTS;
}

/* The destination gets nothing, and so goes. */
static void store_nothing(struct call *call) {
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (lookup.record) {
        keyspace_remove(&call->view, &call->keys[0], &lookup);
        call_notify(call, NOTIFY_GENERIC, "del", &call->keys[0]);
    }
    reply_integer(call->reply, 0);
}

static void build_and_store(struct call *call, enum set_operation operation, struct sources *sources,
                            const char *event) {
    struct result result = {.status = PAGE_DONE};
    set_value_begin(&result.set, &call->view, &call->keys[0]);
    if (!combine(call, operation, sources, keep_member, &result)) result.status = PAGE_NO_MEMORY;
    bool complete = result.status == PAGE_DONE || result.status == PAGE_EXISTS;
    uint64_t count = set_value_count(&result.set);
    if (complete && count) result.status = set_value_store(&result.set);
    if (!complete || !count || result.status != PAGE_DONE) set_value_discard(&result.set);
    if (result.status == PAGE_NO_MEMORY) {
        call_no_memory(call);
    } else if (complete && !count) {
        store_nothing(call);
    } else if (result.status == PAGE_DONE) {
        call_notify(call, NOTIFY_SET, event, &call->keys[0]);
        reply_integer(call->reply, (int64_t)count);
    }
}

static void store_combined(struct call *call, enum set_operation operation, const char *event) {
    struct sources sources;
    if (!open_sources(call, &sources, 1, call->key_count - 1)) return;
    bool at_hand = true;
    if (sources.some_paged) at_hand = combine(call, operation, &sources, drop_member, NULL) && !some_missing(&sources);
    if (at_hand) build_and_store(call, operation, &sources, event);
    close_sources(&sources);
}

void command_sinterstore(struct call *call) {
    store_combined(call, SET_INTERSECTION, "sinterstore");
}
void command_sunionstore(struct call *call) {
    store_combined(call, SET_UNION, "sunionstore");
}
void command_sdiffstore(struct call *call) {
    store_combined(call, SET_DIFFERENCE, "sdiffstore");
}
