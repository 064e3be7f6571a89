#ifndef TERRACE_KEYSPACE_BUCKET_H
#define TERRACE_KEYSPACE_BUCKET_H

/* One cache line of the index: eight slots of eight bytes, stored as eight tags and eight references so
 * that one 128-bit compare looks at all of them.
 *
 *    0                16      22      28                                  58     64
 *   +----------------+-------+-------+-----------------------------------+------+
 *   | 8 tags, 16 bit | ref 0 | ref 1 | ...                                ref 7 |
 *   +----------------+-------+-------+-----------------------------------+------+
 *
 *   tag   v hash bits (v = 15 when fresh), then a 1, then zeros; 0: the slot is empty
 *   ref   where the record is: record/reference.h
 *
 * The trailing 1 lets a tag lose its leading bits without being looked up again: when a segment splits, the
 * first bit has told the half and is shifted out; the record, wherever it lies, is not read. A tag that
 * has become short compares on the bits it still has. */

#include "record/reference.h"

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#else
#error "the baseline is x86-64 with SSE2 or aarch64 with NEON"
#endif

enum { BUCKET_SLOTS = 8 };

struct bucket {
    uint16_t tags[BUCKET_SLOTS];
    uint8_t refs[BUCKET_SLOTS * 6];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct bucket) == 64, "a bucket is one cache line");

/* The two bytes before a reference belong to the line too (a tag or the reference before). */
static inline uint64_t bucket_ref(const struct bucket *bucket, unsigned slot) {
    uint64_t word;
    memcpy(&word, (const uint8_t *)bucket + 14 + slot * 6, 8);
    return word >> 16;
}

static inline void bucket_set_ref(struct bucket *bucket, unsigned slot, uint64_t ref) {
    uint64_t word;
    uint8_t *at = (uint8_t *)bucket + 14 + slot * 6;
    memcpy(&word, at, 8);
    word = (word & 0xffff) | ref << 16;
    memcpy(at, &word, 8);
}

struct bucket_match {
    unsigned hits;    /* bit per slot: the tag agrees with the wanted one on all the bits it has */
    unsigned empties; /* bit per slot: nothing there */
};

static inline struct bucket_match bucket_match(const struct bucket *bucket, uint16_t wanted) {
#if defined(__SSE2__)
    __m128i tags = _mm_load_si128((const __m128i *)bucket->tags);
    __m128i zero = _mm_setzero_si128();
    __m128i marker_and_below = _mm_xor_si128(tags, _mm_add_epi16(tags, _mm_set1_epi16(-1)));
    __m128i differs = _mm_andnot_si128(marker_and_below, _mm_xor_si128(tags, _mm_set1_epi16((short)wanted)));
    __m128i pair = _mm_packs_epi16(_mm_cmpeq_epi16(differs, zero), _mm_cmpeq_epi16(tags, zero));
    unsigned mask = (unsigned)_mm_movemask_epi8(pair);
    unsigned empties = mask >> 8;
    return (struct bucket_match){(mask & 0xff) & ~empties, empties};
#else
    uint16x8_t tags = vld1q_u16(bucket->tags), zero = vdupq_n_u16(0);
    uint16x8_t marker_and_below = veorq_u16(tags, vsubq_u16(tags, vdupq_n_u16(1)));
    uint16x8_t differs = vbicq_u16(veorq_u16(tags, vdupq_n_u16(wanted)), marker_and_below);
    const uint16_t bit_of[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    uint16x8_t bits = vld1q_u16(bit_of);
    unsigned hits = vaddvq_u16(vandq_u16(vceqq_u16(differs, zero), bits));
    unsigned empties = vaddvq_u16(vandq_u16(vceqq_u16(tags, zero), bits));
    return (struct bucket_match){hits & ~empties, empties};
#endif
}

static inline unsigned bucket_empties(const struct bucket *bucket) {
    return bucket_match(bucket, 1).empties;
}

/* Bit per slot: what is there is not on a tier. A reference's last byte says that; no branch depends on one of them, as
 * nobody could foresee it. */
static inline unsigned bucket_residents(const struct bucket *bucket) {
    const unsigned cold = (~MEDIUM_FAR & 7u) << (REF_MEDIUM_SHIFT - 40);
    unsigned residents = 0;
    for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
        residents |= (unsigned)((bucket->refs[slot * 6 + 5] & cold) == 0) << slot;
    return residents & ~bucket_empties(bucket);
}
_Static_assert(MEDIUM_FAR == 1, "what is not on a tier has none of the higher bits of its medium");

#endif
