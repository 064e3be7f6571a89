/* The second touch within the window is recognised, later ones less and less, strangers hardly ever. */

#include "base/random.h"
#include "tiering/ghost.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { PLACES = 1 << 16, SAMPLE = 2000 };

static struct random numbers;

static int seed(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t value = given ? strtoull(given, NULL, 10) : 20261121;
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)value);
    random_seed(&numbers, value);
    return 0;
}

static void the_second_touch_is_known_and_then_forgotten(void **state) {
    (void)state;
    struct ghost *ghost = ghost_create(0);
    for (uint64_t hash = 0; hash < 5; hash++) {
        assert_false(ghost_touch(ghost, hash));
        assert_true(ghost_touch(ghost, hash));
        assert_false(ghost_touch(ghost, hash));
        assert_true(ghost_touch(ghost, hash));
    }
    ghost_destroy(ghost);
}

/* Of a hundred, the share still known after `touches` of others. */
static unsigned percent_known_after(size_t touches) {
    struct ghost *ghost = ghost_create(PLACES);
    static uint64_t sample[SAMPLE];
    unsigned known = 0;
    for (unsigned i = 0; i < PLACES; i++) ghost_touch(ghost, random_next(&numbers));
    for (unsigned i = 0; i < SAMPLE; i++) ghost_touch(ghost, sample[i] = random_next(&numbers));
    for (size_t i = 0; i < touches; i++) ghost_touch(ghost, random_next(&numbers));
    for (unsigned i = 0; i < SAMPLE; i++) known += ghost_touch(ghost, sample[i]);
    ghost_destroy(ghost);
    return known * 100 / SAMPLE;
}

static void the_window_is_about_as_many_touches_as_there_are_places(void **state) {
    (void)state;
    assert_in_range(percent_known_after(PLACES / 8), 97, 100);
    assert_in_range(percent_known_after(PLACES / 2), 80, 92);
    assert_in_range(percent_known_after(PLACES), 35, 52);
    assert_in_range(percent_known_after(PLACES * 2), 1, 8);
    assert_in_range(percent_known_after(PLACES * 4), 0, 1);
}

static void strangers_are_hardly_ever_taken_for_known(void **state) {
    (void)state;
    struct ghost *ghost = ghost_create(PLACES);
    unsigned wrong = 0;
    for (unsigned i = 0; i < 1000000; i++) wrong += ghost_touch(ghost, random_next(&numbers));
    assert_in_range(wrong, 20, 140); /* one in 16384: 61 */
    ghost_destroy(ghost);
}

/* The bits by which keys found their shard or bucket may be equal in all of them. */
static void hashes_that_agree_in_many_bits_do_not_crowd_one_place(void **state) {
    (void)state;
    for (unsigned shift = 0; shift <= 48; shift += 16) {
        struct ghost *ghost = ghost_create(PLACES);
        unsigned known = 0;
        for (uint64_t i = 0; i < PLACES / 8; i++) ghost_touch(ghost, 0x1234567890abcdef ^ i << shift);
        for (uint64_t i = 0; i < PLACES / 8; i++) known += ghost_touch(ghost, 0x1234567890abcdef ^ i << shift);
        assert_true(known > PLACES / 8 / 100 * 97);
        ghost_destroy(ghost);
    }
}

static void to_forget_one_keeps_the_others(void **state) {
    (void)state;
    enum { COUNT = 256 };
    static uint64_t sample[COUNT];
    struct ghost *ghost = ghost_create(1024);
    unsigned known = 0;
    for (unsigned i = 0; i < COUNT; i++) ghost_touch(ghost, sample[i] = random_next(&numbers));
    for (unsigned i = COUNT; i > 0; i--) known += ghost_touch(ghost, sample[i - 1]);
    assert_in_range(known, COUNT - 15, COUNT);
    ghost_destroy(ghost);
}

static void size_is_two_bytes_a_place(void **state) {
    (void)state;
    const size_t asked[] = {0, 1024, 1025, 100000}, given[] = {1024, 1024, 2048, 131072};
    for (unsigned i = 0; i < 4; i++) {
        struct ghost *ghost = ghost_create(asked[i]);
        assert_in_range(ghost_bytes(ghost), 2 * given[i], 2 * given[i] + 64);
        ghost_destroy(ghost);
    }
    ghost_destroy(NULL);
}

static void *touch_many(void *ghost) {
    for (uint64_t i = 0; i < 20000; i++) {
        ghost_touch(ghost, i * 0x9e3779b97f4a7c15);
        ghost_touch(ghost, i * 0x9e3779b97f4a7c15);
    }
    return NULL;
}

static void several_threads_may_touch_at_once(void **state) {
    (void)state;
    struct ghost *ghost = ghost_create(1024);
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, touch_many, ghost), 0);
    for (unsigned i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    ghost_destroy(ghost);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_touch_is_known_and_then_forgotten),
        cmocka_unit_test(the_window_is_about_as_many_touches_as_there_are_places),
        cmocka_unit_test(strangers_are_hardly_ever_taken_for_known),
        cmocka_unit_test(hashes_that_agree_in_many_bits_do_not_crowd_one_place),
        cmocka_unit_test(to_forget_one_keeps_the_others),
        cmocka_unit_test(size_is_two_bytes_a_place),
        cmocka_unit_test(several_threads_may_touch_at_once),
    };
    return cmocka_run_group_tests(tests, seed, NULL);
}
