/* Bitmaps: strings as arrays of bits, bit 0 being the highest of byte 0. The arithmetic is base/bits.h's; here are
 * ranges, types and replies.
 *
 * An absent key is an endless row of zeros. Ranges count bytes, or with BIT bits; negative bounds count from the end.
 * A range is brought into the value as bit positions before anything is read. */

#include "command/bitmap_handlers.h"
#include "command/bitmap_value.h"
#include "command/families.h"

/* ---- single bits ---- */

static void command_setbit(struct call *call) {
    const struct key *key = &call->keys[0];
    uint64_t offset;
    int64_t bit;
    if (!bitmap_offset_parse(call, 2, 0, &offset)) return;
    if (!call_integer_within(call, 3, 0, 1, "ERR bit is not an integer or out of range", &bit)) return;
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    if (!string_expect(call, &lookup)) return;
    struct bitmap map;
    bitmap_open(&map, call, &lookup);
    bool old = bitmap_get(&map, offset, 1);
    if (bitmap_misses(&map)) return;
    if (bitmap_has_room(&lookup, offset / 8 + 1) && old == bit) {
        if (!bitmap_settle(call, key, &lookup, offset / 8 + 1)) return;
    } else {
        if (!bitmap_edit(call, key, &lookup, offset / 8 + 1, &map) ||
            !bitmap_end(call, key, &lookup, &map, bitmap_put(&map, offset, 1, (uint64_t)bit)))
            return;
        call_notify(call, NOTIFY_STRING, "setbit", key);
    }
    reply_integer(call->reply, old);
}

static void command_getbit(struct call *call) {
    uint64_t offset;
    struct bitmap map;
    if (!bitmap_offset_parse(call, 2, 0, &offset)) return;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    bitmap_open(&map, call, &lookup);
    reply_integer(call->reply, (int64_t)bitmap_get(&map, offset, 1));
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

/* What BITCOUNT and BITPOS look at. */
struct bit_arguments {
    int64_t first, last;
    bool counts_bits, has_end;
};

/* Also for a key that does not exist: what is wrong is wrong. */
static bool parse_bitcount(struct call *call, struct bit_arguments *wanted) {
    *wanted = (struct bit_arguments){.last = -1};
    if (call->argc == 2) return true;
    if (call->argc != 4 && call->argc != 5) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    return call_integer(call, 2, &wanted->first) && call_integer(call, 3, &wanted->last) &&
           (call->argc == 4 || parse_unit(call, 4, &wanted->counts_bits));
}

static void command_bitcount(struct call *call) {
    struct bitmap map;
    struct bit_arguments wanted;
    if (!parse_bitcount(call, &wanted)) return;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    if (!lookup.record || (wanted.first < 0 && wanted.last < 0 && wanted.first > wanted.last)) {
        reply_integer(call->reply, 0);
        return;
    }
    bitmap_open(&map, call, &lookup);
    struct bit_range range = clamp_range(wanted.first, wanted.last, wanted.counts_bits, map.length);
    uint64_t ones = range.first > range.last ? 0 : bitmap_count(&map, (uint64_t)range.first, (uint64_t)range.last);
    reply_integer(call->reply, (int64_t)ones);
}

static bool parse_bitpos(struct call *call, int64_t *bit, struct bit_arguments *wanted) {
    *wanted = (struct bit_arguments){.last = -1, .has_end = call->argc >= 5};
    if (!call_integer(call, 2, bit)) return false;
    if (*bit != 0 && *bit != 1) {
        reply_error(call->reply, "ERR The bit argument must be 1 or 0.");
        return false;
    }
    if (call->argc > 6) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    return (call->argc < 4 || call_integer(call, 3, &wanted->first)) &&
           (call->argc < 6 || parse_unit(call, 5, &wanted->counts_bits)) &&
           (!wanted->has_end || call_integer(call, 4, &wanted->last));
}

static void command_bitpos(struct call *call) {
    struct bitmap map;
    struct bit_arguments wanted;
    int64_t bit;
    if (!parse_bitpos(call, &bit, &wanted)) return;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    if (!lookup.record) {
        reply_integer(call->reply, bit ? BITS_NOT_FOUND : 0);
        return;
    }
    bitmap_open(&map, call, &lookup);
    struct bit_range range = clamp_range(wanted.first, wanted.last, wanted.counts_bits, map.length);
    int64_t position = BITS_NOT_FOUND;
    if (range.first <= range.last) {
        position = bitmap_find(&map, (uint64_t)range.first, (uint64_t)range.last, bit);
        /* Without an end the value goes on as zeros: the first one stands right behind it. */
        if (position == BITS_NOT_FOUND && !bit && !wanted.has_end) position = (int64_t)map.length * 8;
    }
    reply_integer(call->reply, position);
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
     .element = 2,
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
     .element = 2,
     .since = "2.2.0",
     .summary = "Sets the bit at a position in a string, which grows to hold it; replies what it was",
     .complexity = "O(1)",
     .arguments = "key:k offset:i value:i"},
};
const unsigned bitmap_command_count = sizeof(bitmap_commands) / sizeof(bitmap_commands[0]);
