/* Key numbers.
 *
 * Zipf draws rank k in 1..n with probability proportional to k^-s by rejection-inversion (W. Hörmann and G. Derflinger,
 * "Rejection-inversion to generate variates from monotone discrete distributions", 1996): invert the integral of the
 * continuous hat x^-s, round, and reject the few points between hat and staircase. No table and no sum over n, so a
 * range of a billion keys starts at once, and s may be 1 or more.
 *
 * Ranks are then scattered over the range by a multiplication modulo n with a factor coprime to n (a bijection), so
 * that hot keys are not neighbours. */
#include "bench/key_generator.h"

#include <assert.h>
#include <math.h>

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

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b) {
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void init_zipf(struct key_generator *generator, double exponent) {
    assert(exponent > 0);
    generator->exponent = exponent;
    generator->integral_low = hat_integral(1.5, exponent) - 1;
    generator->integral_high = hat_integral((double)generator->count + 0.5, exponent);
    generator->accept_below = 2 - hat_integral_inverse(hat_integral(2.5, exponent) - pow(2, -exponent), exponent);
    uint64_t multiplier = (uint64_t)((double)generator->count * 0.6180339887) | 1;
    while (greatest_common_divisor(multiplier, generator->count) != 1) multiplier += 2;
    generator->multiplier = multiplier;
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
    uint64_t rank = draw_rank(generator) - 1;
    return (uint64_t)((unsigned __int128)rank * generator->multiplier % generator->count);
}
