/* LZF knows two things: a run of up to 32 bytes as they are, and a repetition of 3 to 264 bytes from up to 8192 bytes
 * before:
 *
 *   000nnnnn                       n + 1 bytes follow
 *   nnnooooo oooooooo              n + 2 bytes (n 1 to 6) from o + 1 bytes back
 *   111ooooo nnnnnnnn oooooooo     n + 9 bytes
 *
 * Where the three bytes at hand were seen last is looked up in a table by their hash; a position there may be wrong (of
 * another input, or of other bytes with the same hash), and only counts if the bytes are the same. Where nothing is
 * found for long the search moves on by larger steps, so that what cannot be compressed is soon given up. */

#include "persist/lzf_compress.h"

#include <string.h>

enum {
    RUN_MAX = 32,
    MATCH_MIN = 3,
    MATCH_MAX = 264,
    BACK_MAX = 8192,
    SKIP_SHIFT = 5, /* misses until the step grows by one */
};

static inline uint32_t load3(const uint8_t *at) {
    uint32_t bytes;
    memcpy(&bytes, at, 4);
    return bytes << 8; /* the first three, on a little-endian machine */
}

static inline uint32_t hash3(uint32_t bytes) {
    return bytes * UINT32_C(2654435761) >> (32 - LZF_TABLE_BITS);
}

/* How many bytes, at most `most`, are the same. */
static size_t common(const uint8_t *a, const uint8_t *b, size_t most) {
    size_t length = 0;
    for (; length + 8 <= most; length += 8) {
        uint64_t x, y;
        memcpy(&x, a + length, 8);
        memcpy(&y, b + length, 8);
        if (x != y) return length + (size_t)__builtin_ctzll(x ^ y) / 8;
    }
    while (length < most && a[length] == b[length]) length++;
    return length;
}

/* NULL: there is no room. */
static uint8_t *put_run(uint8_t *out, const uint8_t *end, const uint8_t *from, size_t length) {
    if ((size_t)(end - out) < length + (length + RUN_MAX - 1) / RUN_MAX) return NULL;
    while (length) {
        size_t part = length < RUN_MAX ? length : RUN_MAX;
        *out++ = (uint8_t)(part - 1);
        memcpy(out, from, part);
        out += part;
        from += part;
        length -= part;
    }
    return out;
}

static uint8_t *put_match(uint8_t *out, const uint8_t *end, size_t back, size_t length) {
    size_t n = length - 2, o = back - 1;
    if (end - out < 3) return NULL;
    *out++ = (uint8_t)((n < 7 ? n : 7) << 5 | o >> 8);
    if (n >= 7) *out++ = (uint8_t)(n - 7);
    *out++ = (uint8_t)o;
    return out;
}

size_t lzf_pack(struct lzf_table *table, const uint8_t *in, size_t length, uint8_t *out, size_t room) {
    const uint8_t *end = out + room;
    uint8_t *to = out;
    size_t at = 0, run = 0; /* `run` is where the bytes begin that are not yet written */
    size_t misses = 0;
    while (at + 4 <= length) {
        uint32_t bytes = load3(in + at);
        uint32_t *seen = &table->seen[hash3(bytes)];
        size_t candidate = *seen;
        *seen = (uint32_t)at;
        if (candidate >= at || at - candidate > BACK_MAX || load3(in + candidate) != bytes) {
            at += 1 + (misses++ >> SKIP_SHIFT);
            continue;
        }
        size_t most = length - at < MATCH_MAX ? length - at : MATCH_MAX;
        size_t match = MATCH_MIN + common(in + at + MATCH_MIN, in + candidate + MATCH_MIN, most - MATCH_MIN);
        if (!(to = put_run(to, end, in + run, at - run))) return 0;
        if (!(to = put_match(to, end, at - candidate, match))) return 0;
        /* The end of the repetition is remembered too: what follows often repeats from there. */
        if (at + match + 2 <= length) table->seen[hash3(load3(in + at + match - 2))] = (uint32_t)(at + match - 2);
        at += match;
        run = at;
        misses = 0;
    }
    to = put_run(to, end, in + run, length - run);
    return to ? (size_t)(to - out) : 0;
}
