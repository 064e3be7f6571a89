/* Key numbers.
 *
 * Zipf draws rank k in 1..n with probability proportional to k^-s by rejection-inversion (W. Hörmann and G. Derflinger,
 * "Rejection-inversion to generate variates from monotone discrete distributions", 1996): invert the integral of the
 * continuous hat x^-s, round, and reject the few points between hat and staircase. No table and no sum over n, so a
 * range of a billion keys starts at once, and s may be 1 or more.
 *
 * Ranks are then scattered over the range by a fixed permutation that looks random: hot keys are as seldom neighbours
 * as chance has it. (A multiplication modulo n would do with fewer instructions, but for round n it leaves hot keys in
 * long rows, or spaced so evenly that no two share a block of a tier.) */
#include "bench/key_generator.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

/* Integral of x^-s from 1 to x; continuous in s at 1. */
static double hat_integral(double x, double s) {
    double logarithm = log(x);
    double scaled = (1 - s) * logarithm;
    return fabs(scaled) < 1e-9 ? logarithm : expm1(scaled) / (1 - s);
}

static double hat_integral_inverse(double area, double s) {
    double scaled = area * (1 - s);
    if (scaled < -1) scaled = -1;
    return fabs(scaled) < 1e-9 ? exp(area) : exp(log1p(scaled) / (1 - s));
}

static void init_scatter(struct key_generator *generator) {
    unsigned bits = generator->count == 1 ? 1 : 64 - (unsigned)__builtin_clzll(generator->count - 1);
    generator->scatter_mask = ~0ull >> (64 - bits);
    generator->scatter_shift = (bits + 1) / 2;
}

/* Each step (a product with an odd number modulo a power of two, an exclusive or with the upper half) can be undone,
 * so the whole is one to one on [0, mask], and staying in it until below count makes it so on [0, count). */
static uint64_t scatter(const struct key_generator *generator, uint64_t rank) {
    uint64_t mask = generator->scatter_mask;
    unsigned shift = generator->scatter_shift;
    do {
        rank = (rank ^ 0x5bf03635f0935ad1u) * 0x9e3779b97f4a7c15u & mask;
        rank = (rank ^ rank >> shift) * 0xd6e8feb86659fd93u & mask;
        rank = (rank ^ rank >> shift) * 0xa3b195354a39b70du & mask;
        rank ^= rank >> shift;
    } while (rank >= generator->count);
    return rank;
}

static void init_zipf(struct key_generator *generator, double exponent) {
    assert(exponent > 0);
    generator->exponent = exponent;
    generator->integral_low = hat_integral(1.5, exponent) - 1;
    generator->integral_high = hat_integral((double)generator->count + 0.5, exponent);
    generator->accept_below = 2 - hat_integral_inverse(hat_integral(2.5, exponent) - pow(2, -exponent), exponent);
}

void key_generator_init(struct key_generator *generator, enum key_distribution distribution, uint64_t count,
                        double exponent, uint64_t seed, unsigned thread, unsigned threads) {
    assert(count >= 1 && count <= KEYS_MAX);
    assert(thread < threads);
    *generator = (struct key_generator){.distribution = distribution, .count = count};
    generator->random = random_stream_make(seed, thread);
    generator->first = (uint64_t)((unsigned __int128)count * thread / threads);
    generator->end = (uint64_t)((unsigned __int128)count * (thread + 1) / threads);
    if (generator->end == generator->first) generator->end = generator->first + 1;
    generator->next = generator->first;
    generator->hot = (count + 4) / 5;
    init_scatter(generator);
    if (distribution == KEYS_ZIPF) init_zipf(generator, exponent);
}

static uint64_t draw_rank(struct key_generator *generator) {
    double s = generator->exponent;
    for (;;) {
        double area = generator->integral_high +
                      random_unit(&generator->random) * (generator->integral_low - generator->integral_high);
        double x = hat_integral_inverse(area, s);
        double rank = floor(x + 0.5);
        if (rank < 1) rank = 1;
        if (rank > (double)generator->count) rank = (double)generator->count;
        if (rank - x <= generator->accept_below || area >= hat_integral(rank + 0.5, s) - pow(rank, -s))
            return (uint64_t)rank;
    }
}

uint64_t key_generator_next_zipf(struct key_generator *generator) {
    return scatter(generator, draw_rank(generator) - 1);
}

uint64_t key_generator_next_hotspot(struct key_generator *generator) {
    uint64_t cold = generator->count - generator->hot;
    bool is_hot = cold == 0 || random_below(&generator->random, 5) < 4;
    uint64_t rank = is_hot ? random_below(&generator->random, generator->hot)
                           : generator->hot + random_below(&generator->random, cold);
    return scatter(generator, rank);
}
