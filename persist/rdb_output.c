/* The elements of RDB, composed into a buffer: see rdb_layout.h for their bytes.
 *
 * A string is compressed straight into the buffer, behind where its lengths will stand, and moved by a byte or two when
 * they turn out shorter than they might have been. Strings beyond COMPRESS_MAX stay as they are: compressing them would
 * need as much memory again.
 *
 * Trying is half of what a snapshot of small values costs, so where many strings in a row could not be compressed
 * (values that are random, encoded or compressed already) only one in TRY_EACH is tried, until one can. Long ones are
 * always tried: there is more to be won, and the search gives up soon. */

#include "persist/rdb_output.h"

#include "base/number.h"
#include "persist/lzf_compress.h"
#include "persist/rdb_layout.h"

#include <stdlib.h>

enum {
    FIRST_CAPACITY = 256,
    SPARE_MAX = 4096, /* that a buffer is given away with */
    KEEP_FACTOR = 4,
    COMPRESS_MAX = 64 << 20,
    INCOMPRESSIBLE_MANY = 32,
    TRY_EACH = 16,
    TRY_ALWAYS = 4096
};

void rdb_output_init(struct rdb_output *output, size_t capacity) {
    *output = (struct rdb_output){.first_capacity = capacity ? capacity : FIRST_CAPACITY};
}

void rdb_output_free(struct rdb_output *output) {
    free(output->bytes);
    free(output->table);
    rdb_output_init(output, output->first_capacity);
}

void rdb_output_clear(struct rdb_output *output) {
    output->length = 0;
    if (output->capacity <= KEEP_FACTOR * output->first_capacity) return;
    free(output->bytes);
    output->bytes = NULL;
    output->capacity = 0;
}

static bool grow(struct rdb_output *output, size_t needed) {
    size_t capacity = output->capacity ? output->capacity : output->first_capacity;
    while (capacity < needed) capacity += capacity / 2;
    uint8_t *bytes = realloc(output->bytes, capacity);
    if (!bytes) {
        output->failed = true;
        return false;
    }
    output->bytes = bytes;
    output->capacity = capacity;
    return true;
}

static bool empty(struct rdb_output *output) {
    if (output->length && !output->drain(output->ctx, output->bytes, output->length)) output->failed = true;
    output->length = 0;
    return !output->failed;
}

uint8_t *rdb_output_room(struct rdb_output *output, size_t length) {
    if (__builtin_expect(output->failed, 0)) return NULL;
    if (__builtin_expect(output->capacity - output->length < length, 0)) {
        if (output->drain && !empty(output)) return NULL;
        if (output->capacity - output->length < length && !grow(output, output->length + length)) return NULL;
    }
    return output->bytes + output->length;
}

char *rdb_output_take(struct rdb_output *output, size_t spare, size_t *length, size_t *capacity) {
    if (!rdb_output_room(output, spare)) return NULL;
    *length = output->length;
    *capacity = output->capacity;
    char *bytes = (char *)output->bytes;
    if (*capacity - *length > spare + SPARE_MAX) {
        char *shorter = realloc(bytes, *length + spare);
        if (shorter) {
            bytes = shorter;
            *capacity = *length + spare;
        }
    }
    output->bytes = NULL;
    output->length = output->capacity = 0;
    return bytes;
}

void rdb_put_bytes(struct rdb_output *output, const void *bytes, size_t length) {
    if (output->drain && length > output->capacity) {
        if (output->failed || !empty(output)) return;
        if (!output->drain(output->ctx, bytes, length)) output->failed = true;
        return;
    }
    uint8_t *at = rdb_output_room(output, length);
    if (!at || !length) return;
    memcpy(at, bytes, length);
    output->length += length;
}

void rdb_put_byte(struct rdb_output *output, uint8_t byte) {
    uint8_t *at = rdb_output_room(output, 1);
    if (!at) return;
    *at = byte;
    output->length++;
}

void rdb_put_u64(struct rdb_output *output, uint64_t number) {
    rdb_put_bytes(output, &number, sizeof(number));
}

void rdb_put_double(struct rdb_output *output, double number) {
    rdb_put_bytes(output, &number, sizeof(number));
}

/* ---- lengths ---- */

static size_t length_bytes(uint64_t length) {
    return length < 1 << 6 ? 1 : length < 1 << 14 ? 2 : length <= UINT32_MAX ? 5 : 9;
}

static uint8_t *write_length(uint8_t *at, uint64_t length) {
    if (length < 1 << 6) {
        *at++ = (uint8_t)length;
    } else if (length < 1 << 14) {
        *at++ = (uint8_t)(RDB_LENGTH_14BIT | length >> 8);
        *at++ = (uint8_t)length;
    } else {
        bool wide = length > UINT32_MAX;
        *at++ = wide ? RDB_LENGTH_64BIT : RDB_LENGTH_32BIT;
        for (int shift = wide ? 56 : 24; shift >= 0; shift -= 8) *at++ = (uint8_t)(length >> shift);
    }
    return at;
}

void rdb_put_length(struct rdb_output *output, uint64_t length) {
    uint8_t *at = rdb_output_room(output, RDB_LENGTH_BYTES_MAX);
    if (at) output->length = (size_t)(write_length(at, length) - output->bytes);
}

/* ---- strings ---- */

void rdb_put_integer(struct rdb_output *output, int64_t number) {
    uint8_t *at = rdb_output_room(output, 1 + NUMBER_TEXT_MAX);
    if (!at) return;
    unsigned bytes = number == (int8_t)number ? 1 : number == (int16_t)number ? 2 : number == (int32_t)number ? 4 : 0;
    if (bytes) {
        at[0] = (uint8_t)(bytes == 1 ? RDB_STRING_INT8 : bytes == 2 ? RDB_STRING_INT16 : RDB_STRING_INT32);
        memcpy(at + 1, &number, bytes);
    } else {
        bytes = (unsigned)number_format_i64(number, (char *)at + 1);
        at[0] = (uint8_t)bytes;
    }
    output->length += 1 + bytes;
}

static bool is_worth_trying(struct rdb_output *output, size_t length) {
    if (length < RDB_COMPRESS_LENGTH_MIN || length > COMPRESS_MAX) return false;
    if (output->incompressible < INCOMPRESSIBLE_MANY || length >= TRY_ALWAYS) return true;
    output->untried = (output->untried + 1) % TRY_EACH;
    return output->untried == 0;
}

/* False: it would not become shorter, or cannot be tried. */
static bool put_compressed(struct rdb_output *output, struct span text) {
    if (!output->table && !(output->table = calloc(1, sizeof(*output->table)))) return false;
    size_t room = text.length - 4;
    size_t ahead = 1 + length_bytes(room) + length_bytes(text.length);
    uint8_t *at = rdb_output_room(output, ahead + room);
    if (!at) return false;
    size_t packed = lzf_pack(output->table, (const uint8_t *)text.data, text.length, at + ahead, room);
    output->incompressible = packed ? 0 : output->incompressible + 1;
    if (!packed) return false;
    uint8_t *end = at;
    *end++ = RDB_STRING_LZF;
    end = write_length(end, packed);
    end = write_length(end, text.length);
    if (end != at + ahead) memmove(end, at + ahead, packed);
    output->length += (size_t)(end - at) + packed;
    return true;
}

void rdb_put_blob(struct rdb_output *output, struct span bytes, bool compress) {
    if (compress && is_worth_trying(output, bytes.length) && put_compressed(output, bytes)) return;
    if (bytes.length > 1 << 14) { /* perhaps longer than there is room for at once */
        rdb_put_length(output, bytes.length);
        rdb_put_bytes(output, bytes.data, bytes.length);
        return;
    }
    uint8_t *at = rdb_output_room(output, RDB_LENGTH_BYTES_MAX + bytes.length);
    if (!at) return;
    at = write_length(at, bytes.length);
    if (bytes.length) memcpy(at, bytes.data, bytes.length);
    output->length = (size_t)(at - output->bytes) + bytes.length;
}

void rdb_put_string(struct rdb_output *output, struct span text, bool compress) {
    int64_t number;
    if (text.length && text.length <= RDB_INTEGER_TEXT_MAX && text.data[0] <= '9' && number_parse_i64(text, &number) &&
        number == (int32_t)number)
        rdb_put_integer(output, number);
    else
        rdb_put_blob(output, text, compress);
}

void rdb_put_aux(struct rdb_output *output, const char *name, struct span value) {
    rdb_put_byte(output, RDB_OP_AUX);
    rdb_put_string(output, span_of_text(name), false);
    rdb_put_string(output, value, false);
}
