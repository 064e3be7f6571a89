/* Laying records out. The picture is in record.h; this file only decides widths and copies bytes.
 *
 * Overwriting in place is the common case of SET on an existing key: when the new plan has the same header
 * shape (widths, expiry or not) the record stays where it is and only encoding, access, lengths, expiry and
 * value are rewritten. A record whose value grew once keeps its wider length field, which a later shorter
 * value may use as well; nothing depends on the width being minimal. */

#include "record/record.h"

static unsigned key_width_code(size_t length) {
    return length < 256 ? 0 : length < 65536 ? 1 : 2;
}

static unsigned value_width_code(const struct record_plan *plan) {
    if (record_encoding_is_integer(plan->encoding)) return 0;
    return plan->value.length < 256 ? 1 : plan->value.length < 65536 ? 2 : 3;
}

static size_t plan_value_length(const struct record_plan *plan) {
    return record_encoding_is_integer(plan->encoding) ? (size_t)1 << (plan->encoding - RECORD_INT8)
                                                      : plan->value.length;
}

static void store_length(uint8_t *at, unsigned width, size_t length) {
    uint32_t text = (uint32_t)length;
    if (width == 1) {
        at[0] = (uint8_t)length;
    } else if (width == 2) {
        at[0] = (uint8_t)length;
        at[1] = (uint8_t)(length >> 8);
    } else if (width == 4) {
        memcpy(at, &text, 4);
    }
}

enum record_encoding record_integer_encoding(int64_t value) {
    if (value == (int8_t)value) return RECORD_INT8;
    if (value == (int16_t)value) return RECORD_INT16;
    if (value == (int32_t)value) return RECORD_INT32;
    return RECORD_INT64;
}

struct record_plan record_plan_of(const struct record *record) {
    struct record_plan plan = {.type = record_type(record),
                               .encoding = record_encoding(record),
                               .key = record_key(record),
                               .expiry_ms = record_expiry(record),
                               .access = record_access(record),
                               .edited = record_is_edited(record)};
    if (record_is_integer(record))
        plan.integer = record_integer(record);
    else
        plan.value = record_value(record);
    return plan;
}

size_t record_size_for(const struct record_plan *plan) {
    return RECORD_HEADER_FIXED + (1u << key_width_code(plan->key.length)) + ((1u << value_width_code(plan)) >> 1) +
           (plan->expiry_ms >= 0 ? 6 : 0) + plan->key.length + plan_value_length(plan);
}

static void write_value(struct record *record, const struct record_plan *plan) {
    struct span value = record_value(record);
    char *at = (char *)(uintptr_t)value.data;
    if (!record_encoding_is_integer(plan->encoding)) {
        if (plan->value.data) memcpy(at, plan->value.data, plan->value.length);
        return;
    }
    memcpy(at, &plan->integer, value.length); /* little-endian: the low bytes are the short form */
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little-endian");

struct record *record_write(void *memory, const struct record_plan *plan) {
    uint8_t *bytes = memory;
    struct record *record = memory;
    unsigned key_code = key_width_code(plan->key.length), value_code = value_width_code(plan);
    assert(plan->type >= RECORD_STRING && plan->expiry_ms <= RECORD_EXPIRY_MAX);
    bytes[0] = (uint8_t)(plan->type | plan->encoding << 4);
    bytes[1] = (uint8_t)((plan->expiry_ms >= 0) | key_code << 1 | value_code << 3 | plan->edited << 7);
    bytes[2] = (uint8_t)plan->access;
    bytes[3] = (uint8_t)(plan->access >> 8);
    bytes[4] = (uint8_t)(plan->access >> 16);
    unsigned key_width = 1u << key_code;
    store_length(bytes + RECORD_HEADER_FIXED, key_width, plan->key.length);
    store_length(bytes + RECORD_HEADER_FIXED + key_width, (1u << value_code) >> 1, plan->value.length);
    if (plan->expiry_ms >= 0) record_set_expiry(record, plan->expiry_ms);
    memcpy(bytes + record_header_size(record), plan->key.data, plan->key.length);
    write_value(record, plan);
    return record;
}

bool record_can_overwrite(const struct record *record, const struct record_plan *plan, size_t usable) {
    if (record_has_expiry(record) != (plan->expiry_ms >= 0)) return false;
    unsigned width = record_value_width(record), code = value_width_code(plan);
    if ((width == 0) != (code == 0) || width < (1u << code) >> 1) return false;
    return (size_t)(record_value(record).data - (const char *)record) + plan_value_length(plan) <= usable;
}

void record_overwrite(struct record *record, const struct record_plan *plan) {
    uint8_t *bytes = record_bytes_mutable(record);
    bytes[0] = (uint8_t)(plan->type | plan->encoding << 4);
    bytes[1] = (uint8_t)((bytes[1] & 0x7f) | plan->edited << 7);
    record_set_access(record, plan->access);
    if (plan->expiry_ms >= 0) record_set_expiry(record, plan->expiry_ms);
    if (!record_encoding_is_integer(plan->encoding)) record_set_value_length(record, plan->value.length);
    write_value(record, plan);
}

void record_set_value_length(struct record *record, size_t length) {
    unsigned width = record_value_width(record);
    assert(width > 0 && (width == 4 || length < (size_t)1 << (8 * width)));
    store_length(record_bytes_mutable(record) + RECORD_HEADER_FIXED + record_key_width(record), width, length);
}

size_t record_value_room(const struct record *record, size_t usable) {
    unsigned width = record_value_width(record);
    size_t room = usable - (size_t)(record_value(record).data - (const char *)record);
    if (width == 0) return record_value_length(record);
    size_t longest = width == 4 ? UINT32_MAX : ((size_t)1 << (8 * width)) - 1;
    return room < longest ? room : longest;
}
