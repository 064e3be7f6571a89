/* Latency histogram: counts of 64-bit values (nanoseconds here) in buckets whose width is at most 1/128 of the value.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

/* Values are capped at 2^42 - 1 ns, 73 minutes: longer than any run waits for a reply. */
enum {
    HISTOGRAM_SUB_BITS = 7,
    HISTOGRAM_VALUE_BITS = 42,
    HISTOGRAM_BUCKETS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS,
};

/* Zeroed memory is an empty histogram. One thread writes it. */
struct histogram {
    uint64_t total;
    uint64_t max;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

/* Adds `count` occurrences of `value`. */
void histogram_record(struct histogram *histogram, uint64_t value, uint64_t count);

/* Adds everything in `from` to `into`. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The smallest recorded bound such that at least `fraction` (0 to 1) of the values are not above it; exact to 1/128,
 * never above the maximum. 0 when empty. */
uint64_t histogram_quantile(const struct histogram *histogram, double fraction);

#endif
