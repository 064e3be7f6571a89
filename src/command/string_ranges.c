/* Strings: parts of values. Positions and lengths come from clients as any 64-bit number and are brought into the
 * value, or refused, before they are used. APPEND and SETRANGE change the value where it lies and keep the key's
 * expiry. */

#include "command/string_handlers.h"
#include "command/string_value.h"

void command_append(struct call *call) {
    const struct key *key = &call->keys[0];
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    struct span added = call->argv[2];
    if (!string_expect(call, &lookup)) return;
    size_t length = lookup.record ? string_length(lookup.record) : 0;
    if (!lookup.record) {
        if (!string_store(call, key, &lookup, added, RECORD_EXPIRY_NONE)) return;
    } else {
        if (!string_expect_length(call, length, added.length)) return;
        char *bytes = string_edit(call, key, &lookup, length + added.length);
        if (!bytes) return;
        memcpy(bytes + length, added.data, added.length);
    }
    reply_integer(call->reply, (int64_t)(length + added.length));
}

/* The part of `bytes` from `first` to `last`, both included and counted from the end when negative. */
static struct span cut(struct span bytes, int64_t first, int64_t last) {
    int64_t length = (int64_t)bytes.length;
    const struct span nothing = {"", 0};
    if (first < 0 && last < 0 && first > last) return nothing;
    if (first < 0) first += length;
    if (last < 0) last += length;
    if (first < 0) first = 0;
    if (last < 0) last = 0;
    if (last >= length) last = length - 1;
    return first > last ? nothing : span_of(bytes.data + first, (size_t)(last - first + 1));
}

void command_getrange(struct call *call) {
    int64_t first, last;
    char text[NUMBER_TEXT_MAX];
    if (!call_integer(call, 2, &first) || !call_integer(call, 3, &last)) return;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    struct span bytes = lookup.record ? string_bytes(lookup.record, text) : span_of("", 0);
    reply_bulk(call->reply, cut(bytes, first, last));
}

void command_setrange(struct call *call) {
    const struct key *key = &call->keys[0];
    struct span part = call->argv[3];
    int64_t offset;
    if (!call_integer(call, 2, &offset)) return;
    if (offset < 0) {
        reply_error(call->reply, "ERR offset is out of range");
        return;
    }
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    if (!string_expect(call, &lookup)) return;
    size_t length = lookup.record ? string_length(lookup.record) : 0;
    if (part.length > 0) {
        if (!string_expect_length(call, (uint64_t)offset, part.length)) return;
        size_t end = (size_t)offset + part.length;
        if (end > length) length = end;
        char *bytes = string_edit(call, key, &lookup, length);
        if (!bytes) return;
        memcpy(bytes + offset, part.data, part.length);
    }
    reply_integer(call->reply, (int64_t)length);
}
