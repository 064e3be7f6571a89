#ifndef TERRACE_BASE_RANDOM_H
#define TERRACE_BASE_RANDOM_H

/* Pseudo-random numbers: xoshiro256** of David Blackman and Sebastiano Vigna (2018), seeded through their splitmix64.
 *
 * Fast and of good quality, but predictable from its output: nothing secret comes from here (random_fill_secret does
 * that). A struct random belongs to one thread; nothing is shared. The same seed gives the same numbers on every
 * machine. */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

/* Any seed will do, 0 too. */
void random_seed(struct random *random, uint64_t seed);

/* Seeds from the kernel, so that two processes or threads do not agree. Cannot fail. */
void random_seed_from_kernel(struct random *random);

/* Bytes that nobody can guess, from the kernel: run ids, hash secrets, passwords. Cannot fail. */
void random_fill_secret(void *bytes, size_t length);

static inline uint64_t random_next(struct random *random) {
    uint64_t *s = random->state;
    uint64_t scrambled = s[1] * 5;
    scrambled = (scrambled << 7 | scrambled >> 57) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = s[3] << 45 | s[3] >> 19;
    return scrambled;
}

/* 0 to bound - 1, each equally likely. bound > 0. Daniel Lemire's method (2019): the high half of a product, drawn
 * again in the rare case that would favour some numbers. */
static inline uint64_t random_below(struct random *random, uint64_t bound) {
    assert(bound > 0);
    unsigned __int128 product = (unsigned __int128)random_next(random) * bound;
    if ((uint64_t)product < bound) {
        uint64_t unfair = (0 - bound) % bound;
        while ((uint64_t)product < unfair) product = (unsigned __int128)random_next(random) * bound;
    }
    return (uint64_t)(product >> 64);
}

/* low to high, both included, each equally likely. low <= high. */
static inline int64_t random_between(struct random *random, int64_t low, int64_t high) {
    assert(low <= high);
    uint64_t count = (uint64_t)high - (uint64_t)low + 1;
    uint64_t offset = count == 0 ? random_next(random) : random_below(random, count);
    return (int64_t)((uint64_t)low + offset);
}

/* 0 <= x < 1, in steps of 2^-53. */
static inline double random_fraction(struct random *random) {
    return (double)(random_next(random) >> 11) * 0x1p-53;
}

/* True once in `rate` calls on average. rate > 0. */
static inline bool random_once_in(struct random *random, uint64_t rate) {
    return random_below(random, rate) == 0;
}

#endif
