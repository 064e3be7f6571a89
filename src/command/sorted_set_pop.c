/* Sorted sets: members taken from either end, of the first of several sets that has any, at once or when one has.
 *
 * What is taken is replied first and removed then; if it cannot be removed the reply is taken back. */

#include "command/blocking.h"
#include "command/effect.h"
#include "command/sorted_set_handlers.h"

enum pop_end { POP_MIN, POP_MAX };

/* How a pop replies. */
enum pop_form {
    POP_FLAT,      /* ZPOPMIN: members and scores */
    POP_PAIRS,     /* ... with a count, in RESP3 */
    POP_KEY_FLAT,  /* BZPOPMIN: key, member, score */
    POP_KEY_PAIRS, /* ZMPOP: key, list of pairs */
};

struct pop {
    enum pop_end end;
    enum pop_form form;
    uint64_t count;
};

static void reply_popped(struct call *call, struct sorted_set *set, const struct pop *pop,
                         struct sorted_set_part part) {
    struct reply *reply = call->reply;
    bool pairs = pop->form == POP_PAIRS || pop->form == POP_KEY_PAIRS;
    struct sorted_set_cursor at;
    if (pop->form == POP_FLAT) reply_array(reply, part.count * 2);
    if (pop->form == POP_KEY_FLAT) reply_array(reply, part.count * 2 + 1);
    if (pop->form == POP_KEY_PAIRS) reply_array(reply, 2);
    if (pop->form == POP_KEY_FLAT || pop->form == POP_KEY_PAIRS) reply_bulk(reply, set->key->name);
    if (pairs) reply_array(reply, part.count);
    uint64_t left = part.count;
    sorted_set_at(&at, set, pop->end == POP_MIN ? part.first : part.first + part.count - 1);
    while (at.valid && left > 0 && !at.missing) {
        if (pairs) reply_array(reply, 2);
        reply_bulk(reply, at.member);
        reply_double(reply, at.score);
        if (--left == 0) break;
        if (pop->end == POP_MIN)
            sorted_set_next(&at);
        else
            sorted_set_previous(&at);
    }
}

/* ZMPOP and those that wait name several keys; what is told names the one that had something. */
static void tell_pop(struct call *call, const struct sorted_set *set, const struct pop *pop, uint64_t count) {
    if (pop->form != POP_KEY_FLAT && pop->form != POP_KEY_PAIRS) return;
    effect_begin(call);
    effect_put_text(call, pop->end == POP_MIN ? "ZPOPMIN" : "ZPOPMAX");
    effect_put(call, set->key->name);
    if (pop->form == POP_KEY_PAIRS) effect_put_integer(call, (int64_t)count);
    effect_end(call);
}

/* Precondition: the set has members, count > 0. */
static void pop_from(struct call *call, struct sorted_set *set, const struct pop *pop) {
    uint64_t length = sorted_set_count(set), count = pop->count < length ? pop->count : length;
    const struct sorted_set_part part = {pop->end == POP_MIN ? 0 : length - count, count};
    struct reply_mark mark = reply_mark(call->reply);
    reply_popped(call, set, pop, part);
    if (sorted_set_remove_part(set, part) != PAGE_DONE) {
        sorted_set_tell_removed_ranks(call, set->key, part, length - sorted_set_count(set));
        reply_rewind(call->reply, mark);
        call_no_memory(call);
        return;
    }
    tell_pop(call, set, pop, count);
    call_notify(call, NOTIFY_SORTED_SET, pop->end == POP_MIN ? "zpopmin" : "zpopmax", set->key);
    if (!sorted_set_exists(set)) call_notify(call, NOTIFY_GENERIC, "del", set->key);
}

/* True: the first set there is has been popped from, or an error is composed. False: there is none. */
static bool pop_first(struct call *call, const struct pop *pop) {
    struct sorted_set set;
    for (uint32_t i = 0; i < call->key_count; i++) {
        if (!sorted_set_expect(call, &call->keys[i], SORTED_SET_FOR_WRITE, &set)) return true;
        if (!sorted_set_exists(&set)) continue;
        pop_from(call, &set, pop);
        return true;
    }
    return false;
}

/* ---- ZPOPMIN, ZPOPMAX ---- */

static void pop_one_key(struct call *call, enum pop_end end) {
    struct sorted_set set;
    struct pop pop = {.end = end, .form = POP_FLAT, .count = 1};
    int64_t count;
    if (call->argc > 3) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (call->argc == 3) {
        if (!call_integer_within(call, 2, 0, INT64_MAX, "ERR value is out of range, must be positive", &count)) return;
        pop.count = (uint64_t)count;
        if (call->reply->resp3) pop.form = POP_PAIRS;
    }
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_WRITE, &set)) return;
    if (!sorted_set_exists(&set) || pop.count == 0)
        reply_array(call->reply, 0);
    else
        pop_from(call, &set, &pop);
}

void command_zpopmin(struct call *call) {
    pop_one_key(call, POP_MIN);
}
void command_zpopmax(struct call *call) {
    pop_one_key(call, POP_MAX);
}

/* ---- BZPOPMIN, BZPOPMAX ---- */

static void pop_or_wait(struct call *call, uint32_t timeout_at, const struct pop *pop) {
    int64_t timeout_ms;
    if (!call_timeout_seconds(call, timeout_at, &timeout_ms) || pop_first(call, pop)) return;
    if (!call_block(call, call->keys, call->key_count, timeout_ms, BLOCKED_ON_SORTED_SET))
        reply_null_array(call->reply);
}

void command_bzpopmin(struct call *call) {
    pop_or_wait(call, call->argc - 1, &(struct pop){.end = POP_MIN, .form = POP_KEY_FLAT, .count = 1});
}
void command_bzpopmax(struct call *call) {
    pop_or_wait(call, call->argc - 1, &(struct pop){.end = POP_MAX, .form = POP_KEY_FLAT, .count = 1});
}

/* ---- ZMPOP, BZMPOP ---- */

/* The arguments from `at` on: numkeys key... MIN|MAX [COUNT count]. */
static bool parse_many(struct call *call, uint32_t at, struct pop *pop) {
    int64_t keys, count;
    if (!call_integer_within(call, at, 1, INT64_MAX, "ERR numkeys should be greater than 0", &keys)) return false;
    *pop = (struct pop){.form = POP_KEY_PAIRS, .count = 1};
    uint32_t left = call->argc - at - 1;
    bool counted = false;
    if (keys >= left) goto syntax;
    at += 1 + (uint32_t)keys;
    if (call_is(call, at, "max"))
        pop->end = POP_MAX;
    else if (!call_is(call, at, "min"))
        goto syntax;
    for (at++; at < call->argc; at += 2) {
        if (counted || at + 1 == call->argc || !call_is(call, at, "count")) goto syntax;
        if (!call_integer_within(call, at + 1, 1, INT64_MAX, "ERR count should be greater than 0", &count))
            return false;
        pop->count = (uint64_t)count;
        counted = true;
    }
    return true;
syntax:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

void command_zmpop(struct call *call) {
    struct pop pop;
    if (parse_many(call, 1, &pop) && !pop_first(call, &pop)) reply_null_array(call->reply);
}
void command_bzmpop(struct call *call) {
    struct pop pop;
    if (parse_many(call, 2, &pop)) pop_or_wait(call, 1, &pop);
}
