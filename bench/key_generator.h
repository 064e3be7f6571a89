/* Which key the next command uses: numbers in [0, key count), by a distribution. */
#ifndef BENCH_KEY_GENERATOR_H
#define BENCH_KEY_GENERATOR_H

#include "bench/random.h"

#include <stdint.h>

/* A hotspot is 80 % of the draws on 20 % of the keys, uniform within either part. */
enum key_distribution { KEYS_UNIFORM, KEYS_ZIPF, KEYS_SEQUENTIAL, KEYS_HOTSPOT };

/* Fits 15 decimal digits. */
#define KEYS_MAX 1000000000000000ull

/* One thread's generator; holds no memory of its own. */
struct key_generator {
    enum key_distribution distribution;
    uint64_t count;
    struct random_stream random;
    /* sequential: the stripe [first, end) is walked round and round */
    uint64_t first, end, next;
    /* zipf: see key_generator.c */
    double exponent, integral_low, integral_high, accept_below;
    uint64_t hot; /* hotspot: the ranks below are hot */
    /* zipf and hotspot: how ranks are scattered */
    uint64_t scatter_mask;
    unsigned scatter_shift;
};

/* `count` is 1..KEYS_MAX. `exponent` (above 0) matters to zipf only. Thread `thread` of `threads` walks its own stripe
 * of the range when sequential, and gets its own random stream otherwise. */
void key_generator_init(struct key_generator *generator, enum key_distribution distribution, uint64_t count,
                        double exponent, uint64_t seed, unsigned thread, unsigned threads);

uint64_t key_generator_next_zipf(struct key_generator *generator);
uint64_t key_generator_next_hotspot(struct key_generator *generator);

static inline uint64_t key_generator_next(struct key_generator *generator) {
    switch (generator->distribution) {
    case KEYS_UNIFORM: return random_below(&generator->random, generator->count);
    case KEYS_SEQUENTIAL: {
        uint64_t key = generator->next++;
        if (generator->next == generator->end) generator->next = generator->first;
        return key;
    }
    case KEYS_HOTSPOT: return key_generator_next_hotspot(generator);
    case KEYS_ZIPF: break;
    }
    return key_generator_next_zipf(generator);
}

#endif
