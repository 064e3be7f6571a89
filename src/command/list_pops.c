/* Lists: what takes elements from the ends. LPOP, RPOP, LMPOP, and the same waiting: BLPOP, BRPOP, BLMPOP.
 *
 * All of them compose the elements from where they lie and then delete the range. The replies differ in what stands
 * around the elements:
 *
 *   LPOP key          element                   null
 *   LPOP key count    [element ...]             null array
 *   BLPOP             [key, element]            null array
 *   LMPOP, BLMPOP     [key, [element ...]]      null array */

#include "command/blocking.h"
#include "command/effect.h"
#include "command/list_handlers.h"

struct pop {
    enum list_end end;
    uint64_t count;
    bool names_key; /* the key stands before what was popped */
    bool is_array;  /* an array, even of one element */
};

static void reply_elements(struct reply *reply, struct list_value *list, enum list_end end, uint64_t count) {
    struct list_cursor at;
    if (end == LIST_FIRST)
        list_value_at(&at, list, 0);
    else
        list_value_last(&at, list);
    uint64_t behind = end == LIST_FIRST ? count : list_value_length(list) - count;
    while (at.valid && (end == LIST_FIRST ? at.position < behind : at.position >= behind)) {
        if (!at.missing) reply_bulk(reply, at.element);
        if (count == 1) break;
        if (end == LIST_FIRST)
            list_value_next(&at);
        else
            list_value_previous(&at);
    }
}

/* LMPOP and those that wait name several keys; what is told names the one that had something. */
static void tell_pop(struct call *call, const struct list_value *list, const struct pop *pop, uint64_t count) {
    if (!pop->names_key) return;
    effect_begin(call);
    effect_put_text(call, pop->end == LIST_FIRST ? "LPOP" : "RPOP");
    effect_put(call, list->key->name);
    if (pop->is_array) effect_put_integer(call, (int64_t)count);
    effect_end(call);
}

/* Precondition: the list has elements. */
static void take(struct call *call, struct list_value *list, const struct pop *pop) {
    uint64_t length = list_value_length(list), count = pop->count < length ? pop->count : length;
    struct reply_mark mark = reply_mark(call->reply);
    if (pop->names_key) {
        reply_array(call->reply, 2);
        reply_bulk(call->reply, list->key->name);
    }
    if (pop->is_array) reply_array(call->reply, count);
    if (count == 0) return;
    reply_elements(call->reply, list, pop->end, count);
    enum page_status status = list_value_delete_range(list, pop->end == LIST_FIRST ? 0 : length - count, count);
    if (status == PAGE_NO_MEMORY) {
        reply_rewind(call->reply, mark);
        call_no_memory(call);
        if (list_value_length(list) != length) list_tell_value(call, list->key);
    }
    if (status != PAGE_DONE) return;
    tell_pop(call, list, pop, count);
    list_notify_removal(call, list, list_pop_event(pop->end));
}

static void pop_one_key(struct call *call, enum list_end end) {
    struct list_value list;
    struct pop pop = {.end = end, .count = 1, .is_array = call->argc > 2};
    int64_t count;
    if (call->argc > 3) {
        reply_error_format(call->reply, "ERR wrong number of arguments for '%s' command", call->command->full_name);
        return;
    }
    if (pop.is_array) {
        if (!call_integer_within(call, 2, 0, INT64_MAX, ERROR_NOT_POSITIVE, &count)) return;
        pop.count = (uint64_t)count;
    }
    if (!list_expect(call, &call->keys[0], LIST_FOR_WRITE, &list)) return;
    if (list_value_exists(&list))
        take(call, &list, &pop);
    else if (pop.is_array)
        reply_null_array(call->reply);
    else
        reply_null(call->reply);
}

void command_lpop(struct call *call) {
    pop_one_key(call, LIST_FIRST);
}
void command_rpop(struct call *call) {
    pop_one_key(call, LIST_LAST);
}

/* From the first of the keys that has a list. True: it has replied. */
static bool pop_first_key(struct call *call, const struct pop *pop) {
    struct list_value list;
    for (uint32_t i = 0; i < call->key_count; i++) {
        if (!list_expect(call, &call->keys[i], LIST_FOR_WRITE, &list)) return true;
        if (!list_value_exists(&list)) continue;
        take(call, &list, pop);
        return true;
    }
    return false;
}

/* The same, waiting until one has; argument `timeout` says how long. */
static void pop_first_key_in_time(struct call *call, const struct pop *pop, uint32_t timeout) {
    int64_t timeout_ms;
    if (!call_timeout_seconds(call, timeout, &timeout_ms) || pop_first_key(call, pop)) return;
    if (!call_block(call, call->keys, call->key_count, timeout_ms, BLOCKED_ON_LIST)) reply_null_array(call->reply);
}

void command_blpop(struct call *call) {
    const struct pop pop = {.end = LIST_FIRST, .count = 1, .names_key = true};
    pop_first_key_in_time(call, &pop, call->argc - 1);
}
void command_brpop(struct call *call) {
    const struct pop pop = {.end = LIST_LAST, .count = 1, .names_key = true};
    pop_first_key_in_time(call, &pop, call->argc - 1);
}

/* numkeys key [key ...] LEFT|RIGHT [COUNT count], from argument `first` on. False: the error is composed. */
static bool parse_keys_and_count(struct call *call, uint32_t first, struct pop *pop) {
    int64_t key_count, count = -1;
    if (!call_integer_within(call, first, 1, INT64_MAX, "ERR numkeys should be greater than 0", &key_count))
        return false;
    if (key_count >= call->argc - first - 1) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    uint32_t where = first + (uint32_t)key_count + 1;
    if (!list_end_argument(call, where, &pop->end)) return false;
    for (uint32_t i = where + 1; i < call->argc; i += 2) {
        if (count != -1 || !call_is(call, i, "count") || i + 1 >= call->argc) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!call_integer_within(call, i + 1, 1, INT64_MAX, "ERR count should be greater than 0", &count)) return false;
    }
    pop->count = count == -1 ? 1 : (uint64_t)count;
    return true;
}

void command_lmpop(struct call *call) {
    struct pop pop = {.names_key = true, .is_array = true};
    if (!parse_keys_and_count(call, 1, &pop)) return;
    if (!pop_first_key(call, &pop)) reply_null_array(call->reply);
}

void command_blmpop(struct call *call) {
    struct pop pop = {.names_key = true, .is_array = true};
    if (parse_keys_and_count(call, 2, &pop)) pop_first_key_in_time(call, &pop, 1);
}
