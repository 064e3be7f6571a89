/* The latency histogram: quantiles within 1/128, maximum exact, merging is addition. */
#include "bench/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct histogram *make(void) {
    struct histogram *histogram = calloc(1, sizeof(*histogram));
    assert_non_null(histogram);
    return histogram;
}

static void empty_histogram_answers_zero(void **state) {
    (void)state;
    struct histogram *histogram = make();
    assert_int_equal(histogram_quantile(histogram, 0.99), 0);
    free(histogram);
}

static void small_values_are_exact(void **state) {
    (void)state;
    struct histogram *histogram = make();
    for (uint64_t value = 1; value <= 200; value++) histogram_record(histogram, value, 1);
    assert_int_equal(histogram->total, 200);
    assert_int_equal(histogram_quantile(histogram, 0.5), 100);
    assert_int_equal(histogram_quantile(histogram, 0.99), 198);
    assert_int_equal(histogram_quantile(histogram, 1), 200);
    assert_int_equal(histogram_quantile(histogram, 0), 1);
    free(histogram);
}

/* One value per power of two and its neighbours: never below the value, never above it by more than 1/128. */
static void every_magnitude_is_exact_to_one_part_in_128(void **state) {
    (void)state;
    for (unsigned bit = 0; bit < HISTOGRAM_VALUE_BITS; bit++) {
        for (int64_t offset = -1; offset <= 1; offset++) {
            uint64_t value = (1ull << bit) + (uint64_t)offset;
            struct histogram *histogram = make();
            histogram_record(histogram, value, 1);
            histogram_record(histogram, (1ull << HISTOGRAM_VALUE_BITS) - 1, 1);
            uint64_t found = histogram_quantile(histogram, 0.5);
            assert_true(found >= value);
            assert_true(found - value <= value / 128);
            free(histogram);
        }
    }
}

static void values_past_the_range_are_capped(void **state) {
    (void)state;
    struct histogram *histogram = make();
    histogram_record(histogram, UINT64_MAX, 1);
    assert_int_equal(histogram->max, (1ull << HISTOGRAM_VALUE_BITS) - 1);
    assert_int_equal(histogram_quantile(histogram, 0.5), histogram->max);
    free(histogram);
}

static void counts_weigh(void **state) {
    (void)state;
    struct histogram *histogram = make();
    histogram_record(histogram, 10, 99);
    histogram_record(histogram, 1000000, 1);
    histogram_record(histogram, 5000000, 0);
    assert_int_equal(histogram->total, 100);
    assert_int_equal(histogram_quantile(histogram, 0.99), 10);
    assert_int_equal(histogram_quantile(histogram, 0.999), 1000000);
    assert_int_equal(histogram->max, 1000000);
    free(histogram);
}

static void merging_equals_recording_together(void **state) {
    (void)state;
    struct histogram *first = make(), *second = make(), *both = make();
    for (uint64_t i = 1; i < 5000; i++) {
        histogram_record(i % 3 ? first : second, i * i, i % 7);
        histogram_record(both, i * i, i % 7);
    }
    histogram_merge(first, second);
    assert_memory_equal(first, both, sizeof(*both));
    free(first);
    free(second);
    free(both);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_histogram_answers_zero),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(every_magnitude_is_exact_to_one_part_in_128),
        cmocka_unit_test(values_past_the_range_are_capped),
        cmocka_unit_test(counts_weigh),
        cmocka_unit_test(merging_equals_recording_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
