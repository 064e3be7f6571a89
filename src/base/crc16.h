#ifndef TERRACE_BASE_CRC16_H
#define TERRACE_BASE_CRC16_H

/* CRC16 and the cluster slot of a key.
 *
 * The checksum is CRC-16/XMODEM: polynomial x^16 + x^12 + x^5 + 1, initial value 0, bits not reflected, nothing added
 * at the end. CRC of "123456789" is 0x31C3. The Redis Cluster specification fixes it and the {hash tag} rule.
 *
 * Pure functions, any thread, no initialisation. */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#else
#include <arm_neon.h>
#endif

enum { CLUSTER_SLOTS = 16384 };

uint16_t crc16_compute(const void *data, size_t length);

/* The slot of a key that may hold a '{': when a '}' follows the first '{' with at least one byte between, only these
 * bytes are hashed. Called by cluster_slot_of, which is what others use. */
unsigned cluster_slot_of_tagged(struct span key);

/* Whether a '{' occurs in 16 bytes, or in 8. */
static inline bool crc16_brace_in_16(const char *at) {
#if defined(__SSE2__)
    return _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)at), _mm_set1_epi8('{'))) != 0;
#else
    return vmaxvq_u8(vceqq_u8(vld1q_u8((const uint8_t *)at), vdupq_n_u8('{'))) != 0;
#endif
}

static inline bool crc16_brace_in_8(const char *at) {
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t word;
    memcpy(&word, at, 8);
    word ^= ones * '{';
    return ((word - ones) & ~word & highs) != 0;
}

/* Whether a '{' occurs, many bytes at a time: a call of memchr would cost as much as the checksum of a short key. The
 * last bytes are looked at together with some already seen, instead of one by one. */
static inline bool cluster_key_has_brace(struct span key) {
    size_t at = 0;
    if (key.length >= 16) {
        bool found = crc16_brace_in_16(key.data + key.length - 16);
        for (; key.length - at > 16; at += 16) found |= crc16_brace_in_16(key.data + at);
        return found;
    }
    if (key.length >= 8) return (int)crc16_brace_in_8(key.data) | crc16_brace_in_8(key.data + key.length - 8);
    for (; at < key.length; at++)
        if (key.data[at] == '{') return true;
    return false;
}

/* The cluster slot of a key, 0 to CLUSTER_SLOTS - 1. An empty key is in slot 0. */
static inline unsigned cluster_slot_of(struct span key) {
    if (__builtin_expect(cluster_key_has_brace(key), 0)) return cluster_slot_of_tagged(key);
    return crc16_compute(key.data, key.length) % CLUSTER_SLOTS;
}

#endif
