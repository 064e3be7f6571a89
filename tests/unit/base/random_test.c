/* The published sequence of the generator, and the fairness of its bounds. */

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void sequence_is_the_published_one(void **state) {
    (void)state;
    /* xoshiro256** from the state 1, 2, 3, 4: the first outputs of the authors' program. */
    static const uint64_t expected[] = {
        11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u, 607988272756665600u, 16172922978634559625u,
    };
    struct random random = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_true(random_next(&random) == expected[i]);
}

static void seed_is_spread_by_splitmix64(void **state) {
    (void)state;
    /* The first outputs of splitmix64 from 1234567. */
    static const uint64_t expected[] = {
        6457827717110365317u,
        3203168211198807973u,
        9817491932198370423u,
        4593380528125082431u,
    };
    struct random random;
    random_seed(&random, 1234567);
    assert_memory_equal(random.state, expected, sizeof(expected));
}

static void same_seed_gives_the_same_numbers(void **state) {
    (void)state;
    struct random a, b, c;
    random_seed(&a, 0);
    random_seed(&b, 0);
    random_seed(&c, 1);
    unsigned differing = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t number = random_next(&a);
        assert_true(number == random_next(&b));
        differing += number != random_next(&c);
    }
    assert_int_equal(differing, 100);
}

static void bounded_numbers_are_fair_and_inside(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, 5);
    unsigned counts[7] = {0};
    for (int i = 0; i < 70000; i++) counts[random_below(&random, 7)]++;
    for (int i = 0; i < 7; i++) assert_in_range(counts[i], 9500, 10500);

    /* With a bound of 3 * 2^62 a plain remainder would hit the lowest third twice as often. */
    unsigned low = 0;
    for (int i = 0; i < 30000; i++) low += random_below(&random, 3ull << 62) < 1ull << 62;
    assert_in_range(low, 9500, 10500);
    for (int i = 0; i < 100; i++) assert_true(random_below(&random, 1) == 0);
}

static void ranges_reach_both_ends(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, 6);
    bool seen[5] = {false};
    for (int i = 0; i < 1000; i++) {
        int64_t number = random_between(&random, -2, 2);
        assert_true(number >= -2 && number <= 2);
        seen[number + 2] = true;
    }
    for (int i = 0; i < 5; i++) assert_true(seen[i]);
    assert_true(random_between(&random, INT64_MAX, INT64_MAX) == INT64_MAX);

    bool has_negative = false, has_positive = false;
    for (int i = 0; i < 100; i++) {
        int64_t number = random_between(&random, INT64_MIN, INT64_MAX);
        has_negative |= number < 0;
        has_positive |= number > 0;
    }
    assert_true(has_negative && has_positive);
}

static void fractions_and_rates_are_about_right(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, 7);
    double sum = 0;
    unsigned hits = 0;
    for (int i = 0; i < 100000; i++) {
        double fraction = random_fraction(&random);
        assert_true(fraction >= 0 && fraction < 1);
        sum += fraction;
        hits += random_once_in(&random, 100);
    }
    assert_true(sum > 49500 && sum < 50500);
    assert_in_range(hits, 800, 1200);
}

static void kernel_gives_different_bytes_each_time(void **state) {
    (void)state;
    static uint8_t a[1000], b[1000];
    random_fill_secret(a, sizeof(a));
    random_fill_secret(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_memory_not_equal(a + 900, b + 900, 100);
    struct random first, second;
    random_seed_from_kernel(&first);
    random_seed_from_kernel(&second);
    assert_true(random_next(&first) != random_next(&second));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequence_is_the_published_one),
        cmocka_unit_test(seed_is_spread_by_splitmix64),
        cmocka_unit_test(same_seed_gives_the_same_numbers),
        cmocka_unit_test(bounded_numbers_are_fair_and_inside),
        cmocka_unit_test(ranges_reach_both_ends),
        cmocka_unit_test(fractions_and_rates_are_about_right),
        cmocka_unit_test(kernel_gives_different_bytes_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
