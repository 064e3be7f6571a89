#ifndef TERRACE_RECORD_RECORD_H
#define TERRACE_RECORD_RECORD_H

/* A record: a key with its value in one allocation, which has exactly one reference to it.
 *
 *    0        1        2..4       5          5+kw       5+kw+vw         +6
 *   +--------+--------+----------+----------+----------+---------------+-----------+-----------+
 *   |type:4  | flags  | access   | key      | value    | expiry (6)    | key       | value     |
 *   |encod.:4|        | (24 bit) | length   | length   | when flagged  |           |           |
 *   +--------+--------+----------+----------+----------+---------------+-----------+-----------+
 *
 *   flags    bit 0    has an expiry: unix milliseconds, 48 bits
 *            bits 1-2 kw: the key length takes 1, 2 or 4 bytes
 *            bits 3-4 vw: the value length takes 0, 1, 2 or 4 bytes; 0 when the encoding implies it
 *            bits 5-6 snapshot epoch the record belongs to
 *            bit 7    the value was edited in place (OBJECT ENCODING tells raw from embstr by it)
 *   access   least recently used: seconds, modulo 2^24; or least frequently used: minutes:16 count:8
 *
 * A small string costs 7 bytes of header. Byte 0 is never zero in a live record (types start at 1), which
 * is how the heap tells a live object from a freed one. All integers are little-endian and unaligned.
 *
 * An integer string is stored as 1, 2, 4 or 8 bytes of two's complement, the shortest that holds it.
 *
 * A record owns nothing outside itself, but for one with RECORD_PAGED, whose value leads to the root of a collection
 * (collection.h); such a record never leaves memory. Everything here is arithmetic on its bytes: no allocation, no
 * lock; the caller holds the lock of the shard that the record belongs to. */

#include "base/span.h"

#include <assert.h>
#include <stdint.h>

enum record_type {
    RECORD_STRING = 1,
    RECORD_LIST,
    RECORD_SET,
    RECORD_SORTED_SET,
    RECORD_HASH,
    RECORD_STREAM,
    RECORD_PAGE, /* of a big collection: page_table.h */
};

enum record_encoding {
    RECORD_RAW = 0, /* the value's bytes */
    RECORD_INT8,
    RECORD_INT16,
    RECORD_INT32,
    RECORD_INT64,
    RECORD_LISTPACK, /* listpack.h; of lists, sets, sorted sets and hashes */
    RECORD_INTSET,   /* intset.h; of sets */
    /* From here on, a hash may have fields that expire. */
    RECORD_PAGED, /* the address of a collection's root: collection.h */
    /* Packed in a manner of its own: a hash whose fields may expire. */
    RECORD_LISTPACK_TIMED,
};

#define RECORD_EXPIRY_NONE  INT64_C(-1)
#define RECORD_EXPIRY_MAX   ((INT64_C(1) << 48) - 1)
#define RECORD_ACCESS_BITS  24
#define RECORD_HEADER_FIXED 5
#define RECORD_HEADER_MAX   (RECORD_HEADER_FIXED + 4 + 4 + 6)

struct record; /* the bytes pictured above; only ever used through a pointer */

/* What a record is made from. `value` is not read for integer encodings. */
struct record_plan {
    enum record_type type;
    enum record_encoding encoding;
    struct span key;
    struct span value; /* `value.data` may be NULL: room is made, the caller fills it */
    int64_t integer;   /* for integer encodings */
    int64_t expiry_ms; /* unix milliseconds, or RECORD_EXPIRY_NONE */
    uint32_t access;
    bool edited;
};

/* What would lay out the same record again. Its spans point into `record`. */
struct record_plan record_plan_of(const struct record *record);
/* Bytes a record made from `plan` takes. */
size_t record_size_for(const struct record_plan *plan);
/* Lays the record out at `memory`, which has at least record_size_for(plan) bytes. The value may overlap
 * nothing in `memory`. */
struct record *record_write(void *memory, const struct record_plan *plan);

/* The shortest encoding that holds `value`. */
enum record_encoding record_integer_encoding(int64_t value);

/* Whether `plan` has the same header shape as `record` and fits in `usable` bytes, so that only the value
 * need be rewritten by record_overwrite(). The keys are known to be equal. */
bool record_can_overwrite(const struct record *record, const struct record_plan *plan, size_t usable);
void record_overwrite(struct record *record, const struct record_plan *plan);

/* ---- read access, used on every command ---- */

static inline const uint8_t *record_bytes(const struct record *record) {
    return (const uint8_t *)record;
}
static inline uint8_t *record_bytes_mutable(struct record *record) {
    return (uint8_t *)record;
}

static inline enum record_type record_type(const struct record *record) {
    return (enum record_type)(record_bytes(record)[0] & 15);
}
static inline enum record_encoding record_encoding(const struct record *record) {
    return (enum record_encoding)(record_bytes(record)[0] >> 4);
}
static inline bool record_has_expiry(const struct record *record) {
    return record_bytes(record)[1] & 1;
}

static inline bool record_is_edited(const struct record *record) {
    return record_bytes(record)[1] & 0x80;
}
static inline void record_set_edited(struct record *record) {
    record_bytes_mutable(record)[1] |= 0x80;
}

/* Which snapshot the record belongs to: 0..3. See keyspace/keyspace_snapshot.h. */
enum { RECORD_EPOCHS = 4, RECORD_EPOCH_SHIFT = 5 };
static inline unsigned record_epoch(const struct record *record) {
    return record_bytes(record)[1] >> RECORD_EPOCH_SHIFT & (RECORD_EPOCHS - 1);
}
static inline void record_set_epoch(struct record *record, unsigned epoch) {
    uint8_t *flags = record_bytes_mutable(record) + 1;
    *flags = (uint8_t)((*flags & ~((RECORD_EPOCHS - 1) << RECORD_EPOCH_SHIFT)) | epoch << RECORD_EPOCH_SHIFT);
}

static inline unsigned record_key_width(const struct record *record) {
    return 1u << ((record_bytes(record)[1] >> 1) & 3);
}
/* 0, 1, 2, 4 for the codes 0..3 */
static inline unsigned record_value_width(const struct record *record) {
    return (1u << ((record_bytes(record)[1] >> 3) & 3)) >> 1;
}

static inline size_t record_load_length(const uint8_t *at, unsigned width) {
    if (__builtin_expect(width == 1, 1)) return at[0];
    if (width == 2) return (size_t)at[0] | (size_t)at[1] << 8;
    uint32_t length;
    memcpy(&length, at, 4);
    return length;
}

/* The header's size for each combination of the low five flag bits: fixed part, both lengths, expiry. */
#define RECORD_HEADER_ROW(widths) RECORD_HEADER_FIXED + (widths), RECORD_HEADER_FIXED + (widths) + 6
static const uint8_t record_header_sizes[32] = {
    /* key width 1, 2, 4 and the unused code, for value width 0, 1, 2, 4 */
    RECORD_HEADER_ROW(1), RECORD_HEADER_ROW(2), RECORD_HEADER_ROW(4), RECORD_HEADER_ROW(8),
    RECORD_HEADER_ROW(2), RECORD_HEADER_ROW(3), RECORD_HEADER_ROW(5), RECORD_HEADER_ROW(9),
    RECORD_HEADER_ROW(3), RECORD_HEADER_ROW(4), RECORD_HEADER_ROW(6), RECORD_HEADER_ROW(10),
    RECORD_HEADER_ROW(5), RECORD_HEADER_ROW(6), RECORD_HEADER_ROW(8), RECORD_HEADER_ROW(12),
};

static inline size_t record_header_size(const struct record *record) {
    return record_header_sizes[record_bytes(record)[1] & 31];
}

static inline struct span record_key(const struct record *record) {
    size_t length = record_load_length(record_bytes(record) + RECORD_HEADER_FIXED, record_key_width(record));
    return (struct span){(const char *)record_bytes(record) + record_header_size(record), length};
}

static inline bool record_encoding_is_integer(enum record_encoding encoding) {
    return encoding >= RECORD_INT8 && encoding <= RECORD_INT64;
}
static inline bool record_is_integer(const struct record *record) {
    return record_encoding_is_integer(record_encoding(record));
}
static inline bool record_is_paged(const struct record *record) {
    return record_encoding(record) == RECORD_PAGED;
}

static inline size_t record_value_length(const struct record *record) {
    unsigned width = record_value_width(record);
    if (width == 0) return (size_t)1 << (record_encoding(record) - RECORD_INT8);
    return record_load_length(record_bytes(record) + RECORD_HEADER_FIXED + record_key_width(record), width);
}

/* The value's bytes as stored (for an integer: its two's complement). Valid until the record changes. */
static inline struct span record_value(const struct record *record) {
    struct span key = record_key(record);
    return (struct span){key.data + key.length, record_value_length(record)};
}

static inline int64_t record_integer(const struct record *record) {
    const char *at = record_value(record).data;
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    switch (record_encoding(record)) {
    case RECORD_INT8: memcpy(&i8, at, 1); return i8;
    case RECORD_INT16: memcpy(&i16, at, 2); return i16;
    case RECORD_INT32: memcpy(&i32, at, 4); return i32;
    default: memcpy(&i64, at, 8); return i64;
    }
}

static inline size_t record_size(const struct record *record) {
    struct span value = record_value(record);
    return (size_t)(value.data + value.length - (const char *)record);
}

static inline uint8_t *record_expiry_at(const struct record *record) {
    return (uint8_t *)(uintptr_t)record + RECORD_HEADER_FIXED + record_key_width(record) + record_value_width(record);
}

/* Unix milliseconds, or RECORD_EXPIRY_NONE. */
static inline int64_t record_expiry(const struct record *record) {
    if (!record_has_expiry(record)) return RECORD_EXPIRY_NONE;
    uint32_t low;
    uint16_t high;
    memcpy(&low, record_expiry_at(record), 4);
    memcpy(&high, record_expiry_at(record) + 4, 2);
    return (int64_t)low | (int64_t)high << 32;
}

/* Precondition: the record has an expiry already. */
static inline void record_set_expiry(struct record *record, int64_t expiry_ms) {
    assert(record_has_expiry(record));
    uint32_t low = (uint32_t)expiry_ms;
    uint16_t high = (uint16_t)((uint64_t)expiry_ms >> 32);
    memcpy(record_expiry_at(record), &low, 4);
    memcpy(record_expiry_at(record) + 4, &high, 2);
}

static inline uint32_t record_access(const struct record *record) {
    const uint8_t *at = record_bytes(record) + 2;
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
}

/* Written only when it differs, so that a hot record's cache line stays clean. */
static inline void record_set_access(struct record *record, uint32_t access) {
    if (record_access(record) == access) return;
    uint8_t *at = record_bytes_mutable(record) + 2;
    at[0] = (uint8_t)access;
    at[1] = (uint8_t)(access >> 8);
    at[2] = (uint8_t)(access >> 16);
}

static inline bool record_key_equals(const struct record *record, struct span key) {
    struct span own = record_key(record);
    return own.length == key.length && bytes_equal(own.data, key.data, key.length);
}

/* Changes the stored length of a raw value; the width must hold it (see record_value_room()). */
void record_set_value_length(struct record *record, size_t length);
/* The longest value that `usable` bytes and the width of the length field allow in place. */
size_t record_value_room(const struct record *record, size_t usable);

#endif
