/* Clocks: ticks agree with the monotonic clock, and the wall clock can be frozen. */

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int64_t distance(int64_t a, int64_t b) {
    return a > b ? a - b : b - a;
}

/* Busy for a known monotonic duration; both clocks are read at both ends. */
static void measure_both(int64_t duration_ns, int64_t *monotonic_ns, int64_t *ticks_ns) {
    uint64_t first_ticks = clock_ticks();
    int64_t first_ns = clock_monotonic_ns();
    while (clock_monotonic_ns() - first_ns < duration_ns) {
    }
    *ticks_ns = (int64_t)clock_elapsed_ns(first_ticks);
    *monotonic_ns = clock_monotonic_ns() - first_ns;
}

/* The thread may be descheduled between two readings, so the best of several rounds counts. */
static int64_t best_difference(int64_t duration_ns, int64_t enough_ns) {
    int64_t best = INT64_MAX;
    for (int round = 0; round < 100 && best > enough_ns; round++) {
        int64_t monotonic_ns, ticks_ns;
        measure_both(duration_ns, &monotonic_ns, &ticks_ns);
        int64_t difference = distance(monotonic_ns, ticks_ns);
        if (difference < best) best = difference;
    }
    return best;
}

static void ticks_are_nanoseconds_before_init(void **state) {
    (void)state;
    assert_false(clock_tick_source.hardware);
    assert_int_equal(clock_ticks_to_ns(12345), 12345);
    assert_true(best_difference(1000000, 100000) <= 100000);
}

static void ticks_agree_with_the_monotonic_clock(void **state) {
    (void)state;
    clock_init();
    print_message("ticks come from %s\n", clock_tick_source.hardware ? "the processor" : "clock_gettime");
    assert_true(best_difference(20000000, 200000) <= 200000);
}

static void long_durations_do_not_overflow(void **state) {
    (void)state;
    clock_init();
    uint64_t year_ns = UINT64_C(365) * 86400 * 1000000000;
    uint64_t year_ticks = (uint64_t)(((unsigned __int128)year_ns << 32) / clock_tick_source.ns_per_tick_scaled);
    uint64_t result = clock_ticks_to_ns(year_ticks);
    assert_true(distance((int64_t)result, (int64_t)year_ns) < 1000000);
}

static void a_start_in_the_future_counts_as_zero(void **state) {
    (void)state;
    assert_int_equal(clock_elapsed_ns(UINT64_MAX), 0);
}

static void wall_clock_units_agree(void **state) {
    (void)state;
    int64_t before_ms = clock_unix_ms();
    int64_t us = clock_unix_us();
    int64_t after_ms = clock_unix_ms();
    assert_true(before_ms <= us / 1000 && us / 1000 <= after_ms);
    assert_true(before_ms / 1000 <= (int64_t)time(NULL) + 1);
    assert_true(before_ms / 1000 >= (int64_t)time(NULL) - 60);
}

static void a_frozen_wall_clock_stands_still(void **state) {
    (void)state;
    clock_freeze_unix_us(1234567);
    assert_int_equal(clock_unix_us(), 1234567);
    assert_int_equal(clock_unix_ms(), 1234);
    clock_freeze_unix_us(-1);
    assert_true(clock_unix_ms() > 1600000000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_are_nanoseconds_before_init),
        cmocka_unit_test(ticks_agree_with_the_monotonic_clock),
        cmocka_unit_test(long_durations_do_not_overflow),
        cmocka_unit_test(a_start_in_the_future_counts_as_zero),
        cmocka_unit_test(wall_clock_units_agree),
        cmocka_unit_test(a_frozen_wall_clock_stands_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
