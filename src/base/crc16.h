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

enum { CLUSTER_SLOTS = 16384 };

uint16_t crc16_compute(const void *data, size_t length);

/* The slot of a key that may hold a '{': when a '}' follows the first '{' with at least one byte between, only these
 * bytes are hashed. Called by cluster_slot_of, which is what others use. */
unsigned cluster_slot_of_tagged(struct span key);

/* Whether a '{' occurs, eight bytes at a time: a call of memchr would cost as much as the checksum of a short key. */
static inline bool cluster_key_has_brace(struct span key) {
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t highs = 0x8080808080808080u;
    uint64_t found = 0;
    size_t at = 0;
    for (; key.length - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, key.data + at, 8);
        word ^= ones * '{';
        found |= (word - ones) & ~word & highs;
    }
    if (key.length >= 8) {
        /* The last eight bytes again, instead of a loop over the rest. */
        uint64_t word;
        memcpy(&word, key.data + key.length - 8, 8);
        word ^= ones * '{';
        return (found | ((word - ones) & ~word & highs)) != 0;
    }
    for (; at < key.length; at++) {
        if (key.data[at] == '{') return true;
    }
    return false;
}

/* The cluster slot of a key, 0 to CLUSTER_SLOTS - 1. An empty key is in slot 0. */
static inline unsigned cluster_slot_of(struct span key) {
    if (__builtin_expect(cluster_key_has_brace(key), 0)) return cluster_slot_of_tagged(key);
    return crc16_compute(key.data, key.length) % CLUSTER_SLOTS;
}

#endif
