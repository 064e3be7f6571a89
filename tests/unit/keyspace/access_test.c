/* Access bits: clocks that wrap, counters that rise by chance and fall with time. */

#include "base/random.h"
#include "keyspace/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define NOW INT64_C(1785000000123)

static const struct access_policy recent = {.log_factor = 10, .decay_minutes = 1};
static const struct access_policy frequent = {.frequency = true, .log_factor = 10, .decay_minutes = 1};

static void idle_time_counts_from_the_last_use(void **state) {
    (void)state;
    uint32_t access = access_new(&recent, NOW);
    assert_int_equal(access_idle_seconds(access, NOW), 0);
    assert_int_equal(access_idle_seconds(access, NOW + 59000), 59);
    access = access_touched(&recent, access, NOW + 59000, 0);
    assert_int_equal(access_idle_seconds(access, NOW + 60000), 1);
}

static void idle_time_wraps_with_24_bits(void **state) {
    (void)state;
    int64_t edge = ((INT64_C(1) << 24) * 200 - 1) * 1000; /* all 24 bits of the second are set */
    uint32_t access = access_new(&recent, edge);
    assert_int_equal(access, 0xffffff);
    assert_int_equal(access_idle_seconds(access, edge + 5000), 5);
    assert_int_equal(access_idle_seconds(access, edge + (INT64_C(1) << 24) * 1000), 0);
}

static void a_given_idle_time_is_reported(void **state) {
    (void)state;
    static const uint32_t seconds[] = {0, 1, 3600, 0xffffff};
    for (size_t i = 0; i < 4; i++) {
        uint32_t access = access_from_idle_seconds(seconds[i], NOW);
        assert_true(access < 1u << 24);
        assert_int_equal(access_idle_seconds(access, NOW), seconds[i]);
    }
}

static void a_new_record_starts_at_five(void **state) {
    (void)state;
    uint32_t access = access_new(&frequent, NOW);
    assert_int_equal(access_frequency(&frequent, access, NOW), ACCESS_COUNTER_NEW);
    assert_int_equal(access_frequency(&frequent, access_from_frequency(200, NOW), NOW), 200);
}

static void the_counter_falls_by_one_per_period(void **state) {
    (void)state;
    uint32_t access = access_from_frequency(100, NOW);
    assert_int_equal(access_frequency(&frequent, access, NOW + 60000), 99);
    assert_int_equal(access_frequency(&frequent, access, NOW + 99 * 60000), 1);
    assert_int_equal(access_frequency(&frequent, access, NOW + 100 * 60000), 0);
    assert_int_equal(access_frequency(&frequent, access, NOW + 1000 * 60000), 0);
    const struct access_policy slow = {.frequency = true, .log_factor = 10, .decay_minutes = 10};
    assert_int_equal(access_frequency(&slow, access, NOW + 100 * 60000), 90);
    const struct access_policy never = {.frequency = true, .log_factor = 10};
    assert_int_equal(access_frequency(&never, access, NOW + 60000 * 60000ll), 100);
}

static void minutes_wrap_with_16_bits(void **state) {
    (void)state;
    int64_t edge = (INT64_C(65536) * 500 - 1) * 60000;
    uint32_t access = access_from_frequency(50, edge);
    assert_int_equal(access >> 8, 0xffff);
    assert_int_equal(access_frequency(&frequent, access, edge + 3 * 60000), 47);
}

static void a_use_renews_the_time_of_decay(void **state) {
    (void)state;
    uint32_t access = access_from_frequency(100, NOW);
    access = access_touched(&frequent, access, NOW + 10 * 60000, UINT32_MAX);
    assert_int_equal(access & 0xff, 90);
    assert_int_equal(access_frequency(&frequent, access, NOW + 11 * 60000), 89);
}

/* With probability 1 / ((counter - 5) * factor + 1). */
static void the_counter_rises_as_rarely_as_it_should(void **state) {
    (void)state;
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_seed(&random, seed);
    static const uint8_t counters[] = {0, 5, 6, 10, 50, 254, 255};
    enum { TRIES = 200000 };
    for (size_t i = 0; i < sizeof(counters); i++) {
        unsigned rose = 0;
        for (unsigned k = 0; k < TRIES; k++) {
            uint32_t access = access_from_frequency(counters[i], NOW);
            access = access_touched(&frequent, access, NOW, (uint32_t)random_next(&random));
            rose += (access & 0xff) == counters[i] + 1u;
            assert_true((access & 0xff) >= counters[i]);
        }
        double above = counters[i] > 5 ? counters[i] - 5 : 0,
               wanted = counters[i] == 255 ? 0 : TRIES / (above * 10 + 1);
        assert_true(rose >= wanted * 0.8 - 20 && rose <= wanted * 1.2 + 20);
    }
}

static void without_a_log_factor_every_use_counts(void **state) {
    (void)state;
    const struct access_policy every = {.frequency = true, .decay_minutes = 1};
    uint32_t access = access_new(&every, NOW);
    for (unsigned i = 0; i < 300; i++) access = access_touched(&every, access, NOW, UINT32_MAX);
    assert_int_equal(access_frequency(&every, access, NOW), 255);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_time_counts_from_the_last_use),
        cmocka_unit_test(idle_time_wraps_with_24_bits),
        cmocka_unit_test(a_given_idle_time_is_reported),
        cmocka_unit_test(a_new_record_starts_at_five),
        cmocka_unit_test(the_counter_falls_by_one_per_period),
        cmocka_unit_test(minutes_wrap_with_16_bits),
        cmocka_unit_test(a_use_renews_the_time_of_decay),
        cmocka_unit_test(the_counter_rises_as_rarely_as_it_should),
        cmocka_unit_test(without_a_log_factor_every_use_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
