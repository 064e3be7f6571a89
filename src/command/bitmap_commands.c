/* Bitmaps: strings as arrays of bits, bit 0 being the highest of byte 0. The arithmetic is base/bits.h's; here are
 * ranges, types and replies.
 *
 * An absent key is an endless row of zeros. Ranges count bytes, or with BIT bits; negative bounds count from the end.
 * A range is brought into the value as bit positions before anything is read. */

#include "base/bits.h"
#include "command/bitmap_handlers.h"
#include "command/bitmap_value.h"
#include "command/families.h"

#include <stdlib.h>

/* ---- single bits ---- */

static void command_setbit(struct call *call) {
    const struct key *key = &call->keys[0];
    uint64_t offset;
    int64_t bit;
    if (!bitmap_offset_parse(call, 2, 0, &offset)) return;
    if (!call_integer_within(call, 3, 0, 1, "ERR bit is not an integer or out of range", &bit)) return;
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    if (!string_expect(call, &lookup)) return;
    char text[NUMBER_TEXT_MAX];
    struct span bytes = lookup.record ? string_bytes(lookup.record, text) : span_of("", 0);
    bool old = bits_get_unsigned((const uint8_t *)bytes.data, bytes.length, offset, 1);
    if (bitmap_has_room(&lookup, offset / 8 + 1) && old == bit) {
        if (!bitmap_settle(call, key, &lookup, offset / 8 + 1)) return;
    } else {
        size_t held;
        uint8_t *edited = bitmap_edit(call, key, &lookup, offset / 8 + 1, &held);
        if (!edited) return;
        bits_set(edited, held, offset, 1, (uint64_t)bit);
    }
    reply_integer(call->reply, old);
}

static void command_getbit(struct call *call) {
    uint64_t offset;
    char text[NUMBER_TEXT_MAX];
    if (!bitmap_offset_parse(call, 2, 0, &offset)) return;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    struct span bytes = lookup.record ? string_bytes(lookup.record, text) : span_of("", 0);
    reply_integer(call->reply, (int64_t)bits_get_unsigned((const uint8_t *)bytes.data, bytes.length, offset, 1));
}

/* ---- ranges ---- */

/* A range as bit positions, both included; empty if first > last. */
struct bit_range {
    int64_t first, last;
};

/* Whether argument `index` says BIT (true) or BYTE. False as the answer: neither, ERROR_SYNTAX is composed. */
static bool parse_unit(struct call *call, uint32_t index, bool *counts_bits) {
    *counts_bits = call_is(call, index, "bit");
    if (*counts_bits || call_is(call, index, "byte")) return true;
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

/* Brings bounds, counted in bits or bytes and from the end when negative, into a value of `length` bytes. */
static struct bit_range clamp_range(int64_t first, int64_t last, bool counts_bits, size_t length) {
    int64_t total = (int64_t)length * (counts_bits ? 8 : 1);
    if (first < 0) first += total;
    if (last < 0) last += total;
    if (first < 0) first = 0;
    if (last < 0) last = 0;
    if (last >= total) last = total - 1;
    if (first > last) return (struct bit_range){0, -1};
    return counts_bits ? (struct bit_range){first, last} : (struct bit_range){first * 8, last * 8 + 7};
}

static void command_bitcount(struct call *call) {
    char text[NUMBER_TEXT_MAX];
    int64_t first = 0, last = -1;
    bool counts_bits = false;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    if (!lookup.record) {
        reply_integer(call->reply, 0);
        return;
    }
    struct span bytes = string_bytes(lookup.record, text);
    if (call->argc != 2) {
        if (call->argc != 4 && call->argc != 5) {
            reply_error(call->reply, ERROR_SYNTAX);
            return;
        }
        if (!call_integer(call, 2, &first) || !call_integer(call, 3, &last)) return;
        if (first < 0 && last < 0 && first > last) {
            reply_integer(call->reply, 0);
            return;
        }
        if (call->argc == 5 && !parse_unit(call, 4, &counts_bits)) return;
    }
    struct bit_range range = clamp_range(first, last, counts_bits, bytes.length);
    reply_integer(call->reply, range.first > range.last ? 0
                                                        : (int64_t)bits_count_range(bytes.data, (uint64_t)range.first,
                                                                                    (uint64_t)range.last));
}

static void command_bitpos(struct call *call) {
    char text[NUMBER_TEXT_MAX];
    int64_t bit, first = 0, last = -1;
    bool counts_bits = false, has_end = call->argc >= 5;
    if (!call_integer(call, 2, &bit)) return;
    if (bit != 0 && bit != 1) {
        reply_error(call->reply, "ERR The bit argument must be 1 or 0.");
        return;
    }
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!lookup.record) {
        reply_integer(call->reply, bit ? BITS_NOT_FOUND : 0);
        return;
    }
    if (!string_expect(call, &lookup)) return;
    struct span bytes = string_bytes(lookup.record, text);
    if (call->argc > 6) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (call->argc >= 4 && !call_integer(call, 3, &first)) return;
    if (call->argc == 6 && !parse_unit(call, 5, &counts_bits)) return;
    if (has_end && !call_integer(call, 4, &last)) return;
    struct bit_range range = clamp_range(first, last, counts_bits, bytes.length);
    int64_t position = BITS_NOT_FOUND;
    if (range.first <= range.last) {
        position = bits_find(bytes.data, (uint64_t)range.first, (uint64_t)range.last, bit);
        /* Without an end the value goes on as zeros: the first one stands right behind it. */
        if (position == BITS_NOT_FOUND && !bit && !has_end) position = (int64_t)bytes.length * 8;
    }
    reply_integer(call->reply, position);
}

/* ---- BITOP ---- */

/* The values to combine, and room for those that are integers to be spelled in. One allocation; the caller frees it. */
struct bit_sources {
    size_t count, longest;
    char (*texts)[NUMBER_TEXT_MAX];
    struct span values[];
};

/* (Re-)reads the values of the source keys, which have been found to be strings or absent. */
static void read_sources(const struct call *call, struct bit_sources *sources) {
    sources->longest = 0;
    for (size_t i = 0; i < sources->count; i++) {
        struct lookup lookup = keyspace_find(&call->view, &call->keys[1 + i]);
        sources->values[i] = lookup.record ? string_bytes(lookup.record, sources->texts[i]) : span_of("", 0);
        if (sources->values[i].length > sources->longest) sources->longest = sources->values[i].length;
    }
}

static bool expect_sources(struct call *call, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct lookup lookup = keyspace_read(&call->view, &call->keys[1 + i]);
        if (!string_expect(call, &lookup)) return false;
    }
    return true;
}

static bool is_own_source(const struct call *call, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (span_equal(call->keys[0].name, call->keys[1 + i].name)) return true;
    return false;
}

/* The destination is one of the sources: the result is made beside it. */
static bool combine_beside(struct call *call, enum bits_operation operation, const struct bit_sources *sources,
                           struct lookup *destination) {
    uint8_t *result = malloc(sources->longest);
    if (!result) {
        call_no_memory(call);
        return false;
    }
    bits_combine(operation, result, sources->longest, sources->values, sources->count);
    bool stored = string_store_raw(call, &call->keys[0], destination, span_of(result, sources->longest),
                                   RECORD_EXPIRY_NONE, true);
    free(result);
    return stored;
}

/* The result is made in the destination's record. Making room for it may move the sources, so they are found again. */
static bool combine_in_place(struct call *call, enum bits_operation operation, struct bit_sources *sources,
                             struct lookup *destination) {
    struct span room = span_of(NULL, sources->longest);
    if (!string_store_raw(call, &call->keys[0], destination, room, RECORD_EXPIRY_NONE, true)) return false;
    read_sources(call, sources);
    uint8_t *result = (uint8_t *)(uintptr_t)record_value(destination->record).data;
    bits_combine(operation, result, sources->longest, sources->values, sources->count);
    return true;
}

static bool parse_operation(struct call *call, enum bits_operation *operation) {
    if (call_is(call, 1, "and")) {
        *operation = BITS_AND;
    } else if (call_is(call, 1, "or")) {
        *operation = BITS_OR;
    } else if (call_is(call, 1, "xor")) {
        *operation = BITS_XOR;
    } else if (call_is(call, 1, "not")) {
        *operation = BITS_NOT;
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    if (*operation != BITS_NOT || call->argc == 4) return true;
    reply_error(call->reply, "ERR BITOP NOT must be called with a single source key.");
    return false;
}

static void command_bitop(struct call *call) {
    enum bits_operation operation;
    size_t count = call->key_count - 1;
    if (!parse_operation(call, &operation) || !expect_sources(call, count)) return;
    struct bit_sources *sources = malloc(sizeof(*sources) + count * (sizeof(struct span) + sizeof(*sources->texts)));
    if (!sources) {
        call_no_memory(call);
        return;
    }
    sources->count = count;
    sources->texts = (void *)&sources->values[count];
    read_sources(call, sources);
    struct lookup destination = keyspace_find_for_write(&call->view, &call->keys[0]);
    bool done = true;
    if (sources->longest > 0)
        done = is_own_source(call, count) ? combine_beside(call, operation, sources, &destination)
                                          : combine_in_place(call, operation, sources, &destination);
    else if (destination.record)
        keyspace_remove(&call->view, &call->keys[0], &destination);
    if (done) reply_integer(call->reply, (int64_t)sources->longest);
    free(sources);
}

/* ---- the family ---- */

#define BITMAP_ROW .categories = CATEGORY_BITMAP, .group = "bitmap"
#define FIELD_GET  "GET encoding_offset{encoding offset:i}"

const struct command_spec bitmap_commands[] = {
    {.name = "bitcount",
     .handler = command_bitcount,
     .arity = -2,
     .flags = COMMAND_READONLY,
     BITMAP_ROW,
     .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS)},
     .since = "2.6.0",
     .summary = "Counts the bits that are 1 in a string",
     .complexity = "O(N) where N is the number of bytes in the range",
     .arguments = "key:k [index{start:i end:i [index_unit(BYTE|BIT)@7.0.0]}]",
     .history = "7.0.0 Added `BYTE` and `BIT`."},
    {.name = "bitfield",
     .handler = command_bitfield,
     .arity = -2,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM,
     BITMAP_ROW,
     .keys = {{.flags = KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE,
               .index = 1,
               .step = 1,
               .notes = "Read or written, as the operations say"}},
     .since = "3.2.0",
     .summary = "Reads and writes integers of any width at any bit of a string",
     .complexity = "O(1) for each operation",
     .arguments = "key:k [operation(" FIELD_GET "|write{[OVERFLOW wrap_sat_fail(WRAP|SAT|FAIL)] "
                  "write_operation(SET encoding_offset_value{encoding offset:i value:i}|"
                  "INCRBY encoding_offset_increment{encoding offset:i increment:i})})...]"},
    {.name = "bitfield_ro",
     .handler = command_bitfield,
     .arity = -2,
     .flags = COMMAND_READONLY | COMMAND_FAST,
     BITMAP_ROW,
     .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS)},
     .since = "6.0.0",
     .summary = "Reads integers of any width at any bit of a string",
     .complexity = "O(1) for each operation",
     .arguments = "key:k [" FIELD_GET "...*]"},
    {.name = "bitop",
     .handler = command_bitop,
     .arity = -4,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM,
     BITMAP_ROW,
     .keys = {KEY_AT(2, KEY_OW | KEY_UPDATE), KEYS_FROM(3, -1, 1, KEY_RO | KEY_ACCESS)},
     .since = "2.6.0",
     .summary = "Combines strings bit by bit and stores the result",
     .complexity = "O(N) where N is the number of bytes combined",
     .arguments = "operation destkey:k key:k..."},
    {.name = "bitpos",
     .handler = command_bitpos,
     .arity = -3,
     .flags = COMMAND_READONLY,
     BITMAP_ROW,
     .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS)},
     .since = "2.8.7",
     .summary = "Finds the first bit that is 0, or 1, in a string",
     .complexity = "O(N) where N is the number of bytes looked at",
     .arguments = "key:k bit:i [index{start:i [end_index{end:i [index_unit(BYTE|BIT)@7.0.0]}]}]",
     .history = "7.0.0 Added `BYTE` and `BIT`."},
    {.name = "getbit",
     .handler = command_getbit,
     .arity = 3,
     .flags = COMMAND_READONLY | COMMAND_FAST,
     BITMAP_ROW,
     .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS)},
     .since = "2.2.0",
     .summary = "The bit at a position in a string",
     .complexity = "O(1)",
     .arguments = "key:k offset:i"},
    {.name = "setbit",
     .handler = command_setbit,
     .arity = 4,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM,
     BITMAP_ROW,
     .keys = {KEY_AT(1, KEY_RW | KEY_ACCESS | KEY_UPDATE)},
     .since = "2.2.0",
     .summary = "Sets the bit at a position in a string, which grows to hold it; replies what it was",
     .complexity = "O(1)",
     .arguments = "key:k offset:i value:i"},
};
const unsigned bitmap_command_count = sizeof(bitmap_commands) / sizeof(bitmap_commands[0]);
