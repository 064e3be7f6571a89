/* See rdb_input.h.
 *
 * An input over memory and one with a reader differ in two places only: where bytes run out (refill), and where a
 * string goes (rdb_get_bytes). Everything else looks at [at, end).
 *
 * Trust. A length is believed as far as the source can hold it. Of a source whose size is not known a string is read in
 * steps, each as long as what has come already, so that a lie costs the bytes that came with it. Compressed strings say
 * how long they will be; LZF makes at most 264 bytes out of 3, so what claims more is refused before memory for it is
 * taken.
 *
 * The checksum covers what was taken, not what was read ahead: behind the RDB other things may follow. */

#include "persist/rdb_input.h"

#include "base/limits.h"
#include "base/number.h"
#include "persist/crc64.h"
#include "persist/rdb_layout.h"

#include <assert.h>
#include <liblzf/lzf.h>
#include <math.h>
#include <stdlib.h>

enum {
    GROWTH_LEAST = 64 << 10, /* bytes of a string that are taken on trust */
    LZF_RATIO = 100,         /* more than LZF can make of a byte: 264 / 3 */
};

#define ENDS_EARLY "it ends in the middle"

/* ---- failing ---- */

enum rdb_status rdb_input_fail(struct rdb_input *input, enum rdb_status status, const char *reason) {
    if (input->status != RDB_DONE) return input->status;
    input->status = status;
    input->reason = reason;
    input->failed_at = rdb_input_offset(input);
    return status;
}

static void corrupt(struct rdb_input *input, const char *reason) {
    rdb_input_fail(input, RDB_CORRUPT, reason);
}

/* ---- life ---- */

void rdb_text_free(struct rdb_text *text) {
    free(text->own);
    *text = (struct rdb_text){0};
}

void rdb_input_of_memory(struct rdb_input *input, struct span bytes, uint64_t offset) {
    const uint8_t *memory = (const uint8_t *)(bytes.data ? bytes.data : "");
    *input = (struct rdb_input){.at = memory,
                                .end = memory + bytes.length,
                                .memory = memory,
                                .end_offset = offset + bytes.length,
                                .source_bytes = offset + bytes.length};
}

bool rdb_input_of_reader(struct rdb_input *input, rdb_read *read, void *ctx, uint64_t source_bytes, bool sums) {
    *input = (struct rdb_input){.read = read, .ctx = ctx, .source_bytes = source_bytes, .sums = sums};
    input->buffer = malloc(RDB_INPUT_BUFFER);
    input->at = input->end = input->summed = input->buffer;
    return input->buffer != NULL;
}

void rdb_input_free(struct rdb_input *input) {
    free(input->buffer);
    input->buffer = NULL;
}

/* ---- bytes ---- */

static void sum(struct rdb_input *input) {
    if (input->sums) input->checksum = crc64(input->checksum, input->summed, (size_t)(input->at - input->summed));
    input->summed = input->at;
}

uint64_t rdb_input_checksum(struct rdb_input *input) {
    assert(input->sums);
    sum(input);
    return input->checksum;
}

/* Reads once more, behind what is at hand. False: there is no more. */
static bool refill(struct rdb_input *input) {
    if (!input->read) return false;
    size_t kept = (size_t)(input->end - input->at);
    sum(input);
    if (input->at != input->buffer) memmove(input->buffer, input->at, kept);
    input->at = input->summed = input->buffer;
    input->end = input->buffer + kept;
    long count = input->read(input->ctx, input->buffer + kept, RDB_INPUT_BUFFER - kept);
    if (count < 0) rdb_input_fail(input, RDB_IO, "it cannot be read");
    if (count <= 0) return false;
    input->end += count;
    input->end_offset += (uint64_t)count;
    return true;
}

bool rdb_input_have(struct rdb_input *input, size_t count) {
    assert(count <= RDB_INPUT_BUFFER);
    while ((size_t)(input->end - input->at) < count)
        if (input->status != RDB_DONE || !refill(input)) return false;
    return true;
}

/* The next `count` bytes, which are few; NULL: there are not so many, or something was wrong before. */
static const uint8_t *take(struct rdb_input *input, size_t count) {
    if (rdb_input_failed(input)) return NULL;
    if (__builtin_expect((size_t)(input->end - input->at) < count, 0) && !rdb_input_have(input, count)) {
        rdb_input_fail(input, RDB_ENDS_EARLY, ENDS_EARLY);
        return NULL;
    }
    const uint8_t *bytes = input->at;
    input->at += count;
    return bytes;
}

uint8_t rdb_get_byte(struct rdb_input *input) {
    const uint8_t *bytes = take(input, 1);
    return bytes ? *bytes : 0;
}

static uint16_t get_u16(struct rdb_input *input) {
    const uint8_t *bytes = take(input, 2);
    return bytes ? (uint16_t)(bytes[0] | bytes[1] << 8) : 0;
}

uint32_t rdb_get_u32(struct rdb_input *input) {
    const uint8_t *bytes = take(input, 4);
    uint32_t value = 0;
    if (bytes) memcpy(&value, bytes, 4);
    return value;
}

uint64_t rdb_get_u64(struct rdb_input *input) {
    const uint8_t *bytes = take(input, 8);
    uint64_t value = 0;
    if (bytes) memcpy(&value, bytes, 8);
    return value;
}

double rdb_get_double(struct rdb_input *input) {
    uint64_t bits = rdb_get_u64(input);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

double rdb_get_text_double(struct rdb_input *input) {
    uint8_t length = rdb_get_byte(input);
    double value = 0;
    switch (length) {
    case RDB_SCORE_NAN: return (double)NAN;
    case RDB_SCORE_INFINITE: return (double)INFINITY;
    case RDB_SCORE_MINUS_INFINITE: return -(double)INFINITY;
    default: break;
    }
    const uint8_t *text = take(input, length);
    if (text && !number_parse_double(span_of(text, length), &value)) corrupt(input, "a score is no number");
    return value;
}

bool rdb_skip_bytes(struct rdb_input *input, uint64_t count) {
    while (!rdb_input_failed(input)) {
        size_t here = (size_t)(input->end - input->at);
        if (here >= count) {
            input->at += count;
            return true;
        }
        input->at = input->end;
        count -= here;
        if (!refill(input)) rdb_input_fail(input, RDB_ENDS_EARLY, ENDS_EARLY);
    }
    return false;
}

/* ---- lengths ---- */

/* `special`: which of the encodings of strings it is instead; -1: it is a length. */
static uint64_t get_length(struct rdb_input *input, int *special) {
    uint8_t head = rdb_get_byte(input);
    const uint8_t *rest;
    uint64_t length = 0;
    *special = -1;
    switch (head & RDB_STRING_SPECIAL) {
    case 0: return head;
    case RDB_LENGTH_14BIT: return (uint64_t)(head & 0x3f) << 8 | rdb_get_byte(input);
    case RDB_STRING_SPECIAL: *special = head; return 0;
    default: break;
    }
    if (head != RDB_LENGTH_32BIT && head != RDB_LENGTH_64BIT) {
        corrupt(input, "a length has an unknown form");
        return 0;
    }
    size_t width = head == RDB_LENGTH_32BIT ? 4 : 8;
    if (!(rest = take(input, width))) return 0;
    for (size_t i = 0; i < width; i++) length = length << 8 | rest[i];
    return length;
}

uint64_t rdb_get_length(struct rdb_input *input) {
    int special;
    uint64_t length = get_length(input, &special);
    if (special >= 0) corrupt(input, "a length has the form of a string");
    return rdb_input_failed(input) ? 0 : length;
}

uint64_t rdb_get_count(struct rdb_input *input, unsigned least_bytes) {
    uint64_t count = rdb_get_length(input);
    if (count > rdb_input_left(input) / least_bytes) corrupt(input, "there cannot be so many elements");
    return rdb_input_failed(input) ? 0 : count;
}

/* ---- strings ---- */

static bool reserve(struct rdb_input *input, struct rdb_text *text, size_t capacity) {
    if (capacity <= text->capacity) return true;
    char *own = realloc(text->own, capacity);
    if (!own) {
        rdb_input_fail(input, RDB_NO_MEMORY, "no memory for a string");
        return false;
    }
    text->own = own;
    text->capacity = capacity;
    return true;
}

/* Copies them together, from as many refills as it takes. */
static bool gather(struct rdb_input *input, size_t count, struct rdb_text *text) {
    size_t have = 0;
    while (have < count) {
        size_t here = (size_t)(input->end - input->at), wanted = count - have;
        if (here > wanted) here = wanted;
        if (here == 0) {
            if (!refill(input)) {
                rdb_input_fail(input, RDB_ENDS_EARLY, ENDS_EARLY);
                return false;
            }
            continue;
        }
        size_t trusted = input->source_bytes != UINT64_MAX ? count : 2 * (have + here) + GROWTH_LEAST;
        if (have + here > text->capacity && !reserve(input, text, trusted < count ? trusted : count)) return false;
        memcpy(text->own + have, input->at, here);
        input->at += here;
        have += here;
    }
    text->span = span_of(count ? text->own : "", count);
    return true;
}

bool rdb_get_bytes(struct rdb_input *input, size_t count, struct rdb_text *text) {
    text->span = span_of("", 0);
    if (rdb_input_failed(input)) return false;
    size_t here = (size_t)(input->end - input->at);
    if (count > (input->memory ? here : rdb_input_left(input))) {
        rdb_input_fail(input, RDB_ENDS_EARLY, ENDS_EARLY);
        return false;
    }
    if (!input->memory) return gather(input, count, text);
    text->span = span_of(input->at, count);
    input->at += count;
    return true;
}

static bool get_compressed(struct rdb_input *input, struct rdb_text *text) {
    uint64_t packed_bytes = rdb_get_length(input), bytes = rdb_get_length(input);
    struct rdb_text packed = {0};
    if (rdb_input_failed(input)) return false;
    if (bytes > LIMIT_VALUE_BYTES || packed_bytes > UINT32_MAX || bytes > packed_bytes * LZF_RATIO || bytes == 0) {
        corrupt(input, "a compressed string has an impossible length");
        return false;
    }
    bool done = rdb_get_bytes(input, packed_bytes, &packed) && reserve(input, text, bytes);
    if (done && lzf_decompress(packed.span.data, (unsigned)packed_bytes, text->own, (unsigned)bytes) != bytes) {
        corrupt(input, "a compressed string cannot be expanded");
        done = false;
    }
    if (done) text->span = span_of(text->own, bytes);
    rdb_text_free(&packed);
    return done;
}

bool rdb_get_string(struct rdb_input *input, struct rdb_text *text, bool *is_integer, int64_t *integer) {
    int special;
    uint64_t length = get_length(input, &special);
    text->span = span_of("", 0);
    *is_integer = special >= RDB_STRING_INT8 && special <= RDB_STRING_INT32;
    switch (special) {
    case -1:
        if (length > LIMIT_VALUE_BYTES) corrupt(input, "a string is longer than any can be");
        return !rdb_input_failed(input) && rdb_get_bytes(input, length, text);
    case RDB_STRING_INT8: *integer = (int8_t)rdb_get_byte(input); break;
    case RDB_STRING_INT16: *integer = (int16_t)get_u16(input); break;
    case RDB_STRING_INT32: *integer = (int32_t)rdb_get_u32(input); break;
    case RDB_STRING_LZF: return get_compressed(input, text);
    default: corrupt(input, "a string has an unknown encoding"); break;
    }
    return !rdb_input_failed(input);
}

bool rdb_get_text(struct rdb_input *input, struct rdb_text *text) {
    bool is_integer;
    int64_t integer = 0;
    if (!rdb_get_string(input, text, &is_integer, &integer)) return false;
    if (!is_integer) return true;
    if (!reserve(input, text, NUMBER_TEXT_MAX)) return false;
    text->span = span_of(text->own, number_format_i64(integer, text->own));
    return true;
}

bool rdb_skip_string(struct rdb_input *input) {
    int special;
    uint64_t length = get_length(input, &special);
    switch (special) {
    case -1: break;
    case RDB_STRING_INT8: length = 1; break;
    case RDB_STRING_INT16: length = 2; break;
    case RDB_STRING_INT32: length = 4; break;
    case RDB_STRING_LZF:
        length = rdb_get_length(input);
        (void)rdb_get_length(input);
        break;
    default: corrupt(input, "a string has an unknown encoding"); break;
    }
    return !rdb_input_failed(input) && rdb_skip_bytes(input, length);
}
