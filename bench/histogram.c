/* Log-linear histogram.
 *
 * Values below 2^(SUB_BITS + 1) have a bucket each. Above, every power of two is cut into 2^SUB_BITS equal buckets:
 *
 *     shift = (position of the highest bit) - SUB_BITS        0 for small values
 *     index = (shift << SUB_BITS) + (value >> shift)
 *
 * value >> shift lies in [2^SUB_BITS, 2^(SUB_BITS+1)) for shift >= 1, so the index is continuous over the powers and
 * the relative error is bounded by 2^-SUB_BITS everywhere. Recording is a count-leading-zeros, a shift and an add. */
#include "bench/histogram.h"

#include <assert.h>
#include <math.h>

static unsigned bucket_of(uint64_t value) {
    unsigned highest = 63 - (unsigned)__builtin_clzll(value | 1);
    unsigned shift = highest > HISTOGRAM_SUB_BITS ? highest - HISTOGRAM_SUB_BITS : 0;
    return (shift << HISTOGRAM_SUB_BITS) + (unsigned)(value >> shift);
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_upper(unsigned index) {
    unsigned group = index >> HISTOGRAM_SUB_BITS;
    unsigned shift = group > 1 ? group - 1 : 0;
    uint64_t base = index - (shift << HISTOGRAM_SUB_BITS);
    return ((base + 1) << shift) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value, uint64_t count) {
    const uint64_t cap = (1ull << HISTOGRAM_VALUE_BITS) - 1;
    if (value > cap) value = cap;
    unsigned index = bucket_of(value);
    assert(index < HISTOGRAM_BUCKETS);
    histogram->counts[index] += count;
    histogram->total += count;
    if (count > 0 && value > histogram->max) histogram->max = value;
}

void histogram_merge(struct histogram *into, const struct histogram *from) {
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) into->counts[i] += from->counts[i];
    into->total += from->total;
    if (from->max > into->max) into->max = from->max;
}

uint64_t histogram_quantile(const struct histogram *histogram, double fraction) {
    if (histogram->total == 0) return 0;
    uint64_t wanted = (uint64_t)ceil(fraction * (double)histogram->total);
    if (wanted == 0) wanted = 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= wanted) {
            uint64_t upper = bucket_upper(i);
            return upper < histogram->max ? upper : histogram->max;
        }
    }
    return histogram->max;
}
