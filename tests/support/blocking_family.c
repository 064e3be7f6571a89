/* See blocking_family.h. */

#include "tests/support/blocking_family.h"

#include "base/number.h"
#include "command/blocking.h"

#include <stdlib.h>

/* The queue's text; empty when there is none. False: it is no queue, and the error is composed. */
static bool look(struct call *call, const struct key *key, struct lookup *lookup, struct span *text) {
    *lookup = keyspace_find_for_write(&call->view, key);
    *text = lookup->record ? record_value(lookup->record) : span_of("", 0);
    if (!lookup->record || record_type(lookup->record) == RECORD_LIST) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

static int64_t count_items(struct span text) {
    int64_t count = 0;
    for (size_t i = 0; i < text.length; i++) count += text.data[i] == ',';
    return count;
}

static bool store(struct call *call, const struct key *key, struct lookup *lookup, struct span text) {
    struct record_plan plan = {.type = RECORD_LIST, .value = text, .expiry_ms = RECORD_EXPIRY_NONE};
    if (keyspace_store(&call->view, key, lookup, &plan)) return true;
    call_no_memory(call);
    return false;
}

/* Appends to a copy: the value may not move while it is copied from. */
static bool append(struct call *call, const struct key *key, struct span item) {
    struct lookup lookup;
    struct span text;
    if (!look(call, key, &lookup, &text)) return false;
    char *longer = malloc(text.length + item.length + 1);
    if (!longer) abort();
    memcpy(longer, text.data, text.length);
    memcpy(longer + text.length, item.data, item.length);
    longer[text.length + item.length] = ',';
    bool stored = store(call, key, &lookup, span_of(longer, text.length + item.length + 1));
    free(longer);
    return stored;
}

/* Takes the first item, which is copied to memory of the caller's. NULL: it was none, or is no queue, which is told. */
static char *take(struct call *call, const struct key *key, bool *failed) {
    struct lookup lookup;
    struct span text;
    *failed = !look(call, key, &lookup, &text);
    if (*failed || text.length == 0) return NULL;
    size_t length = (size_t)((const char *)memchr(text.data, ',', text.length) - text.data);
    char *item = strndup(text.data, length), *rest = strndup(text.data + length + 1, text.length - length - 1);
    if (!item || !rest) abort();
    if (*rest)
        *failed = !store(call, key, &lookup, span_of_text(rest));
    else
        keyspace_remove(&call->view, key, &lookup);
    free(rest);
    return item;
}

static void command_tpush(struct call *call) {
    struct lookup lookup;
    struct span text;
    for (uint32_t i = 2; i < call->argc; i++)
        if (!append(call, &call->keys[0], call->argv[i])) return;
    if (look(call, &call->keys[0], &lookup, &text)) reply_integer(call->reply, count_items(text));
}

static void command_tbpop(struct call *call) {
    int64_t timeout_ms;
    bool failed;
    if (!call_timeout_seconds(call, call->argc - 1, &timeout_ms)) return;
    for (uint32_t i = 0; i < call->key_count; i++) {
        char *item = take(call, &call->keys[i], &failed);
        if (failed) return;
        if (!item) continue;
        reply_array(call->reply, 2);
        reply_bulk(call->reply, call->keys[i].name);
        reply_bulk_text(call->reply, item);
        free(item);
        return;
    }
    if (!call_block(call, call->keys, call->key_count, timeout_ms, BLOCKED_ON_LIST)) reply_null_array(call->reply);
}

static void command_tbmove(struct call *call) {
    int64_t timeout_ms;
    bool failed;
    if (!call_timeout_seconds(call, 3, &timeout_ms)) return;
    char *item = take(call, &call->keys[0], &failed);
    if (failed) return;
    if (!item) {
        if (!call_block(call, &call->keys[0], 1, timeout_ms, BLOCKED_ON_LIST)) reply_null(call->reply);
        return;
    }
    if (append(call, &call->keys[1], span_of_text(item))) reply_bulk_text(call->reply, item);
    free(item);
}

static void command_tafter(struct call *call) {
    char digits[NUMBER_TEXT_MAX];
    struct lookup lookup;
    struct span text;
    int64_t timeout_ms, count;
    if (!call_timeout_ms(call, 3, &timeout_ms) || !look(call, &call->keys[0], &lookup, &text)) return;
    bool from_now = call_is(call, 2, "$");
    int64_t now = count_items(text);
    if (from_now)
        count = now;
    else if (!call_integer(call, 2, &count))
        return;
    if (now > count)
        reply_integer(call->reply, now);
    else if (!call_block(call, call->keys, 1, timeout_ms, BLOCKED_ON_LIST))
        reply_null_array(call->reply);
    else if (from_now)
        call_block_argument(call, 2, span_of(digits, number_format_i64(count, digits)));
}

static void command_tgroup(struct call *call) {
    struct lookup lookup;
    struct span text;
    int64_t timeout_ms;
    if (!call_timeout_seconds(call, 2, &timeout_ms) || !look(call, &call->keys[0], &lookup, &text)) return;
    if (!lookup.record)
        reply_error(call->reply, "NOGROUP it is gone");
    else if (!call_block(call, call->keys, 1, timeout_ms, BLOCKED_ON_GROUP))
        reply_null_array(call->reply);
}

const struct command_spec blocking_family[] = {
    {.name = "tpush",
     .handler = command_tpush,
     .arity = -3,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM,
     .keys = {KEY_AT(1, KEY_RW | KEY_INSERT)}},
    {.name = "tbpop",
     .handler = command_tbpop,
     .arity = -3,
     .flags = COMMAND_WRITE | COMMAND_BLOCKING,
     .keys = {KEYS_FROM(1, -2, 1, KEY_RW | KEY_DELETE)}},
    {.name = "tbmove",
     .handler = command_tbmove,
     .arity = 4,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_BLOCKING,
     .keys = {KEY_AT(1, KEY_RW | KEY_DELETE), KEY_AT(2, KEY_RW | KEY_INSERT)}},
    {.name = "tafter",
     .handler = command_tafter,
     .arity = 4,
     .flags = COMMAND_READONLY | COMMAND_BLOCKING,
     .keys = {KEY_AT(1, KEY_RO)}},
    {.name = "tgroup",
     .handler = command_tgroup,
     .arity = 3,
     .flags = COMMAND_WRITE | COMMAND_BLOCKING,
     .keys = {KEY_AT(1, KEY_RO)}},
};
const unsigned blocking_family_count = sizeof(blocking_family) / sizeof(blocking_family[0]);
