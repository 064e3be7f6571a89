/* Lists: adding, looking, changing. What pops stands in list_pops.c, what moves in list_moves.c, LPOS in list_search.c.
 *
 * Handlers resolve what the client says (-1 is the last element) into positions and leave the rest to list_value.h. The
 * order of the checks is that of Redis, because it can be seen: LRANGE reads its numbers before it looks at the key,
 * LINDEX and LSET after. */

#include "command/effect_chunks.h"
#include "command/list_handlers.h"

bool list_expect(struct call *call, const struct key *key, enum list_purpose purpose, struct list_value *list) {
    if (list_value_open(list, &call->view, key, purpose)) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

bool list_end_argument(struct call *call, uint32_t index, enum list_end *end) {
    *end = call_is(call, index, "left") ? LIST_FIRST : LIST_LAST;
    if (*end == LIST_FIRST || call_is(call, index, "right")) return true;
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

void list_tell_value(struct call *call, const struct key *key) {
    struct effect_chunks chunks = {.call = call, .name = "RPUSH", .key = key->name};
    struct list_value list;
    struct list_cursor at;
    if (!call_has_effects(call)) return;
    call_effect_of(call, "DEL", key->name);
    if (!list_value_open(&list, &call->view, key, LIST_FOR_WRITE) || !list_value_exists(&list)) return;
    for (list_value_at(&at, &list, 0); at.valid; list_value_next(&at))
        if (!at.missing) effect_chunks_put(&chunks, at.element);
    effect_chunks_end(&chunks);
    if (record_has_expiry(list.lookup.record)) call_effect_expiry(call, key->name, record_expiry(list.lookup.record));
}

/* ---- adding ---- */

static void push(struct call *call, enum list_end end, bool makes_key) {
    struct list_value list;
    if (!list_expect(call, &call->keys[0], LIST_FOR_WRITE, &list)) return;
    if (!makes_key && !list_value_exists(&list)) {
        reply_integer(call->reply, 0);
        return;
    }
    struct list_limits limits = list_limits(call);
    uint64_t before = list_value_length(&list);
    enum page_status status = list_value_push(&list, end, call->argv + 2, call->argc - 2, &limits);
    if (status == PAGE_NO_MEMORY) call_no_memory(call);
    if (status != PAGE_DONE) {
        call_effect_part(call, 2 + (uint32_t)(list_value_length(&list) - before), 2);
        return;
    }
    list_notify_push(call, &call->keys[0], end);
    reply_integer(call->reply, (int64_t)list_value_length(&list));
}

void command_lpush(struct call *call) {
    push(call, LIST_FIRST, true);
}
void command_rpush(struct call *call) {
    push(call, LIST_LAST, true);
}
void command_lpushx(struct call *call) {
    push(call, LIST_FIRST, false);
}
void command_rpushx(struct call *call) {
    push(call, LIST_LAST, false);
}

void command_linsert(struct call *call) {
    struct list_value list;
    bool before = call_is(call, 2, "before");
    if (!before && !call_is(call, 2, "after")) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (!list_expect(call, &call->keys[0], LIST_FOR_WRITE, &list)) return;
    if (!list_value_exists(&list)) {
        reply_integer(call->reply, 0);
        return;
    }
    struct list_limits limits = list_limits(call);
    switch (list_value_insert(&list, before, call->argv[3], call->argv[4], &limits)) {
    case PAGE_DONE:
        call_notify(call, NOTIFY_LIST, "linsert", &call->keys[0]);
        reply_integer(call->reply, (int64_t)list_value_length(&list));
        break;
    case PAGE_ABSENT: reply_integer(call->reply, -1); break;
    case PAGE_NO_MEMORY:
        call_effect_none(call); /* it may have become a big list all the same */
        call_no_memory(call);
        break;
    default: break;
    }
}

/* ---- looking ---- */

void command_llen(struct call *call) {
    struct list_value list;
    if (list_expect(call, &call->keys[0], LIST_FOR_READ, &list))
        reply_integer(call->reply, (int64_t)list_value_length(&list));
}

void command_lindex(struct call *call) {
    struct list_value list;
    struct list_cursor at;
    int64_t index;
    if (!list_expect(call, &call->keys[0], LIST_FOR_READ, &list)) return;
    if (!list_value_exists(&list)) {
        reply_null(call->reply);
        return;
    }
    if (!call_integer(call, 2, &index)) return;
    int64_t position = list_position(list_value_length(&list), index);
    if (position < 0) {
        reply_null(call->reply);
        return;
    }
    list_value_at(&at, &list, (uint64_t)position);
    if (at.valid && !at.missing) reply_bulk(call->reply, at.element);
}

/* The positions from `start` to `end` as clients give them; count 0: there are none. */
struct list_range {
    uint64_t first, count;
};
static struct list_range range_of(uint64_t length, int64_t start, int64_t end) {
    int64_t signed_length = (int64_t)length;
    if (start < 0) start += signed_length;
    if (end < 0) end += signed_length;
    if (start < 0) start = 0;
    if (end >= signed_length) end = signed_length - 1;
    if (start > end) return (struct list_range){0, 0};
    return (struct list_range){(uint64_t)start, (uint64_t)(end - start) + 1};
}

void command_lrange(struct call *call) {
    struct list_value list;
    struct list_cursor at;
    int64_t start, end;
    if (!call_integer(call, 2, &start) || !call_integer(call, 3, &end)) return;
    if (!list_expect(call, &call->keys[0], LIST_FOR_READ, &list)) return;
    struct list_range range = range_of(list_value_length(&list), start, end);
    reply_array(call->reply, range.count);
    if (range.count == 0) return;
    uint64_t behind = range.first + range.count;
    for (list_value_at(&at, &list, range.first); at.valid && at.position < behind; list_value_next(&at))
        if (!at.missing) reply_bulk(call->reply, at.element);
}

/* ---- changing ---- */

void command_lset(struct call *call) {
    struct list_value list;
    int64_t index;
    if (!list_expect(call, &call->keys[0], LIST_FOR_WRITE, &list)) return;
    if (!list_value_exists(&list)) {
        reply_error(call->reply, ERROR_NO_KEY);
        return;
    }
    if (!call_integer(call, 2, &index)) return;
    int64_t position = list_position(list_value_length(&list), index);
    if (position < 0) {
        reply_error(call->reply, ERROR_OUT_OF_RANGE);
        return;
    }
    struct list_limits limits = list_limits(call);
    enum page_status status = list_value_set(&list, (uint64_t)position, call->argv[3], &limits);
    if (status == PAGE_NO_MEMORY) call_no_memory(call);
    if (status != PAGE_DONE) {
        call_effect_none(call); /* it may have become a big list all the same */
        return;
    }
    call_notify(call, NOTIFY_LIST, "lset", &call->keys[0]);
    reply_ok(call->reply);
}

#define ERROR_COUNT_RANGE "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"

void command_lrem(struct call *call) {
    struct list_value list;
    int64_t count;
    uint64_t removed = 0;
    if (!call_integer(call, 2, &count)) return;
    if (count == INT64_MIN) {
        reply_error(call->reply, ERROR_COUNT_RANGE);
        return;
    }
    if (!list_expect(call, &call->keys[0], LIST_FOR_WRITE, &list)) return;
    if (!list_value_exists(&list)) {
        reply_integer(call->reply, 0);
        return;
    }
    uint64_t limit = (uint64_t)(count < 0 ? -count : count), before = list_value_length(&list);
    switch (list_value_remove(&list, call->argv[3], limit, count < 0, &removed)) {
    case PAGE_DONE:
        list_notify_removal(call, &list, "lrem");
        reply_integer(call->reply, (int64_t)removed);
        break;
    case PAGE_ABSENT: reply_integer(call->reply, 0); break;
    case PAGE_NO_MEMORY:
        call_no_memory(call);
        if (list_value_length(&list) != before) list_tell_value(call, &call->keys[0]);
        break;
    default: break;
    }
}

void command_ltrim(struct call *call) {
    struct list_value list;
    int64_t start, end;
    if (!call_integer(call, 2, &start) || !call_integer(call, 3, &end)) return;
    if (!list_expect(call, &call->keys[0], LIST_FOR_WRITE, &list)) return;
    if (list_value_exists(&list)) {
        uint64_t length = list_value_length(&list);
        struct list_range range = range_of(length, start, end);
        enum page_status status = list_value_trim(&list, range.first, range.count);
        if (status == PAGE_NO_MEMORY) call_no_memory(call);
        if (status == PAGE_NO_MEMORY && list_value_length(&list) != length) list_tell_value(call, &call->keys[0]);
        if (status != PAGE_DONE) return;
        list_notify_removal(call, &list, "ltrim");
    }
    reply_ok(call->reply);
}
