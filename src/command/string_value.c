/* See string_value.h. */

#include "command/string_value.h"

#include "command/dispatch.h"

bool string_expect(struct call *call, const struct lookup *lookup) {
    if (!lookup->record || record_type(lookup->record) == RECORD_STRING) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

static bool store(struct call *call, const struct key *key, struct lookup *lookup, struct record_plan *plan) {
    /* proto-max-bulk-len may be set higher than what a record can hold. */
    if (__builtin_expect(plan->value.length > LIMIT_VALUE_BYTES, 0)) {
        reply_error(call->reply, ERROR_TOO_LONG);
        return false;
    }
    if (keyspace_store(&call->view, key, lookup, plan)) return true;
    call_no_memory(call);
    return false;
}

bool string_store_integer(struct call *call, const struct key *key, struct lookup *lookup, int64_t value,
                          int64_t expiry_ms) {
    struct record_plan plan = {
        .type = RECORD_STRING, .encoding = record_integer_encoding(value), .integer = value, .expiry_ms = expiry_ms};
    return store(call, key, lookup, &plan);
}

bool string_store(struct call *call, const struct key *key, struct lookup *lookup, struct span bytes,
                  int64_t expiry_ms) {
    int64_t value;
    if (bytes.length <= NUMBER_TEXT_MAX && number_parse_i64(bytes, &value))
        return string_store_integer(call, key, lookup, value, expiry_ms);
    struct record_plan plan = {.type = RECORD_STRING, .encoding = RECORD_RAW, .value = bytes, .expiry_ms = expiry_ms};
    return store(call, key, lookup, &plan);
}

bool string_store_raw(struct call *call, const struct key *key, struct lookup *lookup, struct span bytes,
                      int64_t expiry_ms, bool edited) {
    struct record_plan plan = {
        .type = RECORD_STRING, .encoding = RECORD_RAW, .value = bytes, .expiry_ms = expiry_ms, .edited = edited};
    return store(call, key, lookup, &plan);
}

uint64_t string_length_max(const struct call *call) {
    struct command_host *host = call->dispatcher->host;
    if (!host) return LIMIT_VALUE_BYTES;
    uint64_t configured = atomic_load_explicit(&host->bulk_bytes_max, memory_order_relaxed);
    return configured < LIMIT_VALUE_BYTES ? configured : LIMIT_VALUE_BYTES;
}

bool string_expect_length(struct call *call, uint64_t length, uint64_t added) {
    uint64_t most = string_length_max(call);
    if (length <= most && added <= most - length) return true;
    reply_error(call->reply, ERROR_TOO_LONG);
    return false;
}

char *string_edit(struct call *call, const struct key *key, struct lookup *lookup, size_t length) {
    char text[NUMBER_TEXT_MAX];
    if (!lookup->record || record_is_integer(lookup->record)) {
        struct record_plan plan = {.type = RECORD_STRING, .encoding = RECORD_RAW, .expiry_ms = RECORD_EXPIRY_NONE};
        if (lookup->record) {
            plan.value = string_bytes(lookup->record, text);
            plan.expiry_ms = record_expiry(lookup->record);
        }
        if (!store(call, key, lookup, &plan)) return NULL;
    }
    char *bytes = keyspace_edit_value(&call->view, key, lookup, length);
    if (!bytes) call_no_memory(call);
    return bytes;
}

void string_reply(struct call *call, const struct key *key, const struct lookup *lookup) {
    char text[NUMBER_TEXT_MAX];
    struct span bytes = string_bytes(lookup->record, text);
    if (__builtin_expect(bytes.length >= LIMIT_REPLY_COPY_BYTES, 0) && keyspace_pin(&call->view, lookup))
        reply_bulk_pinned(call->reply, bytes, lookup->record, key->shard);
    else
        reply_bulk(call->reply, bytes);
}
