/* A small fast random stream (splitmix64, Steele, Lea and Flood 2014): one 64-bit word of state, no failure, not for
 * secrets. A stream belongs to one thread. */
#ifndef BENCH_RANDOM_H
#define BENCH_RANDOM_H

#include <stdint.h>

struct random_stream {
    uint64_t state;
};

static inline uint64_t random_mix(uint64_t word) {
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

/* Streams of one seed start at unrelated places: the number is mixed, since states that differ by a multiple of the
 * step would give the same sequence, shifted. */
static inline struct random_stream random_stream_make(uint64_t seed, uint64_t number) {
    return (struct random_stream){random_mix(seed ^ random_mix(number + 1))};
}

static inline uint64_t random_next(struct random_stream *stream) {
    stream->state += 0x9e3779b97f4a7c15u;
    return random_mix(stream->state);
}

/* Uniform in [0, bound); the bias is below bound / 2^64. */
static inline uint64_t random_below(struct random_stream *stream, uint64_t bound) {
    return (uint64_t)(((unsigned __int128)random_next(stream) * bound) >> 64);
}

/* Uniform in [0, 1). */
static inline double random_unit(struct random_stream *stream) {
    return (double)(random_next(stream) >> 11) * 0x1p-53;
}

#endif
