/* Key generators: in range, of the distribution asked for, replayable by seed. */
#include "bench/key_generator.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEED = 20240607, DRAWS = 1000000 };

static unsigned *count_draws(enum key_distribution distribution, uint64_t keys, double exponent) {
    unsigned *counts = calloc(keys, sizeof(*counts));
    assert_non_null(counts);
    struct key_generator generator;
    key_generator_init(&generator, distribution, keys, exponent, SEED, 0, 1);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t key = key_generator_next(&generator);
        assert_true(key < keys);
        counts[key]++;
    }
    return counts;
}

/* Within six standard deviations of a binomial count. */
static void assert_frequency(unsigned count, double probability) {
    double expected = DRAWS * probability;
    assert_true(fabs(count - expected) < 6 * sqrt(expected) + 1);
}

static void uniform_hits_every_key_alike(void **state) {
    (void)state;
    unsigned *counts = count_draws(KEYS_UNIFORM, 100, 0);
    for (int i = 0; i < 100; i++) assert_frequency(counts[i], 0.01);
    free(counts);
}

static int descending(const void *left, const void *right) {
    unsigned a = *(const unsigned *)left, b = *(const unsigned *)right;
    return a < b ? 1 : a > b ? -1 : 0;
}

static void zipf_frequencies_follow_the_power_law(void **state) {
    (void)state;
    const double exponents[] = {0.5, 0.99, 1.0, 1.5};
    enum { KEYS = 50 };
    for (size_t e = 0; e < sizeof(exponents) / sizeof(exponents[0]); e++) {
        unsigned *counts = count_draws(KEYS_ZIPF, KEYS, exponents[e]);
        double sum = 0;
        for (int rank = 1; rank <= KEYS; rank++) sum += pow(rank, -exponents[e]);
        /* Ranks are scattered over the keys one to one, so sorting finds them again, up to ties. */
        qsort(counts, KEYS, sizeof(*counts), descending);
        for (int rank = 1; rank <= KEYS; rank++) assert_frequency(counts[rank - 1], pow(rank, -exponents[e]) / sum);
        free(counts);
    }
}

static void zipf_scatters_hot_keys(void **state) {
    (void)state;
    unsigned *counts = count_draws(KEYS_ZIPF, 1000, 0.99);
    unsigned hottest = 0;
    for (unsigned i = 0; i < 1000; i++)
        if (counts[i] > counts[hottest]) hottest = i;
    unsigned neighbour = counts[(hottest + 1) % 1000];
    assert_true(neighbour < counts[hottest] / 3);
    free(counts);
}

static void a_hotspot_is_a_fifth_of_the_keys_scattered(void **state) {
    (void)state;
    unsigned *counts = count_draws(KEYS_HOTSPOT, 1000, 0);
    unsigned hot = 0, runs = 0;
    bool before = false;
    for (int i = 0; i < 1000; i++) {
        bool is_hot = counts[i] > 1500; /* 4000 draws expected of a hot key, 250 of a cold one */
        assert_frequency(counts[i], is_hot ? 0.8 / 200 : 0.2 / 800);
        hot += is_hot;
        runs += is_hot && !before;
        before = is_hot;
    }
    assert_int_equal(hot, 200);
    /* By chance there are 160. */
    assert_in_range(runs, 130, 190);
    free(counts);
}

static void one_key_is_always_that_key(void **state) {
    (void)state;
    const enum key_distribution all[] = {KEYS_UNIFORM, KEYS_ZIPF, KEYS_SEQUENTIAL, KEYS_HOTSPOT};
    for (int i = 0; i < 4; i++) {
        struct key_generator generator;
        key_generator_init(&generator, all[i], 1, 0.99, SEED, 0, 1);
        for (int draw = 0; draw < 100; draw++) assert_int_equal(key_generator_next(&generator), 0);
    }
}

static void sequential_threads_cover_the_range_once(void **state) {
    (void)state;
    enum { KEYS = 1003, THREADS = 4 };
    unsigned char seen[KEYS] = {0};
    for (unsigned thread = 0; thread < THREADS; thread++) {
        struct key_generator generator;
        key_generator_init(&generator, KEYS_SEQUENTIAL, KEYS, 0, SEED, thread, THREADS);
        uint64_t stripe = generator.end - generator.first;
        uint64_t first = 0;
        for (uint64_t i = 0; i < stripe; i++) {
            uint64_t key = key_generator_next(&generator);
            if (i == 0) first = key;
            assert_true(key < KEYS);
            seen[key]++;
        }
        assert_int_equal(key_generator_next(&generator), first);
    }
    for (int i = 0; i < KEYS; i++) assert_int_equal(seen[i], 1);
}

static void a_seed_replays_and_threads_differ(void **state) {
    (void)state;
    struct key_generator one, same, other;
    key_generator_init(&one, KEYS_UNIFORM, 1000000, 0, SEED, 0, 2);
    key_generator_init(&same, KEYS_UNIFORM, 1000000, 0, SEED, 0, 2);
    key_generator_init(&other, KEYS_UNIFORM, 1000000, 0, SEED, 1, 2);
    int equal = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t key = key_generator_next(&one);
        assert_int_equal(key, key_generator_next(&same));
        equal += key == key_generator_next(&other);
    }
    assert_true(equal < 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform_hits_every_key_alike),
        cmocka_unit_test(zipf_frequencies_follow_the_power_law),
        cmocka_unit_test(zipf_scatters_hot_keys),
        cmocka_unit_test(a_hotspot_is_a_fifth_of_the_keys_scattered),
        cmocka_unit_test(one_key_is_always_that_key),
        cmocka_unit_test(sequential_threads_cover_the_range_once),
        cmocka_unit_test(a_seed_replays_and_threads_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
