/* Percentiles of the workers' histograms. */

#include "server/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void percentiles_are_within_a_step(void **state) {
    (void)state;
    uint64_t histogram[STATS_BUCKETS] = {0};
    assert_true(metrics_percentile_us(histogram, 50) == 0);
    for (uint64_t us = 1; us <= 1000; us++) histogram[stats_bucket(us * 1000)]++;
    const double percents[] = {1, 25, 50, 90, 99, 99.9, 100};
    for (unsigned i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        double expected = percents[i] * 10, got = metrics_percentile_us(histogram, percents[i]);
        assert_true(got >= expected && got <= expected * 1.126);
    }
    assert_true(metrics_percentile_us(histogram, 0) <= 1.2);
}

static void one_sample_is_every_percentile(void **state) {
    (void)state;
    uint64_t histogram[STATS_BUCKETS] = {0};
    histogram[stats_bucket(UINT64_MAX)] = 1;
    assert_true(metrics_percentile_us(histogram, 50) == metrics_percentile_us(histogram, 100));
    assert_true(metrics_percentile_us(histogram, 50) > 1e9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_within_a_step),
        cmocka_unit_test(one_sample_is_every_percentile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
