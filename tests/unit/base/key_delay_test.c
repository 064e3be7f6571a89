/* Delays by the key: every key, one in so many, and one that is taken back while it lasts. */

#include "base/clock.h"
#include "base/key_delay.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int64_t nanoseconds_of(struct key_delay *delay, unsigned keys) {
    int64_t since_ns = clock_monotonic_ns();
    key_delay_pass(delay, keys);
    return clock_monotonic_ns() - since_ns;
}

static void every_key_takes_its_time(void **state) {
    (void)state;
    struct key_delay delay = {0};
    key_delay_pass(&delay, 1000000);
    assert_int_equal(delay.passed, 0);
    key_delay_set(&delay, 2000);
    assert_true(nanoseconds_of(&delay, 10) >= 20 * 1000000);
    assert_int_equal(delay.passed, 10);
}

static void below_zero_it_is_one_key_in_so_many(void **state) {
    (void)state;
    struct key_delay delay = {0};
    unsigned rounds = 0;
    key_delay_set(&delay, -1000000);
    key_delay_pass(&delay, 1);
    /* None has slept: each would take a microsecond and more. Another process may have had the processor. */
    while (nanoseconds_of(&delay, 1000) >= 1000 * 1000) assert_in_range(++rounds, 1, 900);
    assert_int_equal(delay.passed, 1 + 1000 * (rounds + 1));
}

static void *pass_many(void *ctx) {
    key_delay_pass(ctx, 1000000);
    return NULL;
}

static void a_delay_that_is_taken_back_ends(void **state) {
    (void)state;
    struct key_delay delay = {0};
    pthread_t thread;
    key_delay_set(&delay, 3600LL * 1000000);
    assert_int_equal(pthread_create(&thread, NULL, pass_many, &delay), 0);
    while (atomic_load(&delay.passed) == 0) continue;
    key_delay_set(&delay, 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(delay.passed, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_takes_its_time),
        cmocka_unit_test(below_zero_it_is_one_key_in_so_many),
        cmocka_unit_test(a_delay_that_is_taken_back_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
