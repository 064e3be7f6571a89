/* See bitmap_value.h. An offset is bounded by proto-max-bulk-len, so that its byte is one that a string may have; a
 * field at the highest offsets still reaches some bytes further, which bitmap_edit() refuses. */

#include "command/bitmap_value.h"

bool bitmap_offset_parse(struct call *call, uint32_t index, unsigned field_width, uint64_t *offset) {
    struct span text = call->argv[index];
    bool counts_fields = field_width > 0 && text.length > 0 && text.data[0] == '#';
    int64_t position;
    if (counts_fields) text = span_of(text.data + 1, text.length - 1);
    if (!number_parse_i64(text, &position) ||
        (counts_fields && __builtin_mul_overflow(position, (int64_t)field_width, &position)) || position < 0 ||
        (uint64_t)position / 8 >= string_length_max(call)) {
        reply_error(call->reply, ERROR_BIT_OFFSET);
        return false;
    }
    *offset = (uint64_t)position;
    return true;
}

uint8_t *bitmap_edit(struct call *call, const struct key *key, struct lookup *lookup, size_t length, size_t *held) {
    if (length > LIMIT_VALUE_BYTES) {
        reply_error(call->reply, ERROR_BIT_OFFSET);
        return NULL;
    }
    size_t before = lookup->record ? string_length(lookup->record) : 0;
    *held = length > before ? length : before;
    return (uint8_t *)string_edit(call, key, lookup, *held);
}

bool bitmap_has_room(const struct lookup *lookup, size_t length) {
    return lookup->record && string_length(lookup->record) >= length;
}

bool bitmap_settle(struct call *call, const struct key *key, struct lookup *lookup, size_t length) {
    size_t held;
    if (bitmap_has_room(lookup, length) && !record_is_integer(lookup->record)) {
        keyspace_mark_edited(&call->view, lookup);
        return true;
    }
    call->view.quiet = true;
    bool settled = bitmap_edit(call, key, lookup, length, &held) != NULL;
    call->view.quiet = false;
    return settled;
}
