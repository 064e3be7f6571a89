/* What is packed is unpacked by the library that everybody uses. */

#include "base/random.h"
#include "persist/lzf_compress.h"

#include <liblzf/lzf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { LENGTH_MAX = 40000, ROUNDS = 4000 };

static struct lzf_table table;

/* Returns the packed length. */
static size_t expect_round_trip(const uint8_t *in, size_t length, size_t room) {
    static uint8_t packed[2 * LENGTH_MAX], out[LENGTH_MAX];
    memset(packed, 0xee, room + 1);
    size_t bytes = lzf_pack(&table, in, length, packed, room);
    assert_true(bytes <= room);
    assert_int_equal(packed[room], 0xee);
    if (!bytes) return 0;
    assert_int_equal(lzf_decompress(packed, (unsigned)bytes, out, LENGTH_MAX), length);
    assert_memory_equal(out, in, length);
    return bytes;
}

static void anything_comes_back(void **state) {
    (void)state;
    static uint8_t in[LENGTH_MAX];
    struct random random;
    uint64_t seed = 20;
    random_seed(&random, seed);
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t length = random_below(&random, round % 50 ? 600 : LENGTH_MAX) + 1;
        unsigned letters = 1u + (unsigned)random_below(&random, round % 3 ? 4 : 255);
        unsigned repeat = 1u + (unsigned)random_below(&random, 300);
        for (size_t i = 0; i < length; i++)
            in[i] = i >= repeat && random_below(&random, 20) ? in[i - repeat] : (uint8_t)random_below(&random, letters);
        expect_round_trip(in, length, random_below(&random, 2) ? length - length / 8 : length + length / 16 + 2);
    }
}

static void what_repeats_becomes_short(void **state) {
    (void)state;
    static uint8_t in[LENGTH_MAX];
    memset(in, 'x', sizeof(in));
    assert_true(expect_round_trip(in, 100, 96) < 10);
    assert_true(expect_round_trip(in, LENGTH_MAX, LENGTH_MAX - 4) < LENGTH_MAX / 80);
    for (unsigned i = 0; i < 1000; i++) snprintf((char *)in + 10 * i, 11, "user:%05u", i);
    assert_true(expect_round_trip(in, 10000, 9996) < 6000);
}

static void what_does_not_is_given_up(void **state) {
    (void)state;
    static uint8_t in[LENGTH_MAX];
    struct random random;
    random_seed(&random, 3);
    for (unsigned i = 0; i < LENGTH_MAX; i++) in[i] = (uint8_t)random_below(&random, 256);
    assert_int_equal(expect_round_trip(in, 1000, 996), 0);
    assert_int_equal(expect_round_trip(in, LENGTH_MAX, LENGTH_MAX - 4), 0);
    assert_true(expect_round_trip(in, 1000, 1100) > 1000);
    for (size_t length = 1; length < 8; length++) assert_int_equal(expect_round_trip(in, length, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anything_comes_back),
        cmocka_unit_test(what_repeats_becomes_short),
        cmocka_unit_test(what_does_not_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
