/* Values of the capacity benchmark: the same whenever they are made, and only themselves pass the check. */
#include "bench/capacity_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEED = 4711, SIZE_MAX_TESTED = 2 * VALUE_POOL_SIZE + 1000 };

static struct value_scheme make_scheme(uint64_t min, uint64_t max, double compressible, double expiring) {
    struct value_scheme scheme;
    assert_true(value_scheme_init(&scheme, SEED, min, max, compressible, expiring));
    return scheme;
}

static char *write_whole(const struct value_scheme *scheme, uint64_t key, uint32_t version, size_t *size) {
    struct value value = value_describe(scheme, key, version);
    *size = value.size;
    char *bytes = malloc(value.size + 1);
    assert_non_null(bytes);
    value_write(scheme, &value, 0, bytes, value.size);
    return bytes;
}

static bool passes(const struct value_scheme *scheme, uint64_t key, const char *bytes, size_t size, size_t piece) {
    struct value_check check;
    value_check_start(&check, scheme, key, size);
    for (size_t at = 0; at < size; at += piece)
        value_check_feed(&check, scheme, bytes + at, size - at < piece ? size - at : piece);
    return value_check_end(&check);
}

static void a_value_written_in_pieces_is_the_same(void **state) {
    (void)state;
    const size_t sizes[] = {1, 7, 8, 15, 16, 17, 100, 1024, 5000, SIZE_MAX_TESTED};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct value_scheme scheme = make_scheme(sizes[i], sizes[i], 0, 0);
        size_t size;
        char *whole = write_whole(&scheme, 12345, 77, &size);
        assert_int_equal(size, sizes[i]);
        char *pieces = malloc(size);
        struct value value = value_describe(&scheme, 12345, 77);
        size_t step = 1;
        for (size_t at = 0; at < size; at += step, step = step * 3 % 257 + 1) {
            size_t length = size - at < step ? size - at : step;
            value_write(&scheme, &value, at, pieces + at, length);
        }
        assert_memory_equal(whole, pieces, size);
        free(whole);
        free(pieces);
        value_scheme_release(&scheme);
    }
}

static void its_own_value_passes_in_any_pieces_and_version(void **state) {
    (void)state;
    const size_t sizes[] = {1, 9, 16, 24, 333, SIZE_MAX_TESTED};
    const size_t pieces[] = {1, 3, 8, 13, 4096};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct value_scheme scheme = make_scheme(sizes[i], sizes[i], 0.3, 0);
        for (uint32_t version = 0; version < 3; version++) {
            size_t size;
            char *bytes = write_whole(&scheme, 99, version * 0x7fffffffu, &size);
            for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++)
                assert_true(passes(&scheme, 99, bytes, size, pieces[p]));
            free(bytes);
        }
        value_scheme_release(&scheme);
    }
}

static void anything_else_does_not_pass(void **state) {
    (void)state;
    struct value_scheme scheme = make_scheme(300, 300, 0, 0), other_seed;
    size_t size;
    char *bytes = write_whole(&scheme, 5, 9, &size);
    assert_false(passes(&scheme, 6, bytes, size, size));
    assert_false(passes(&scheme, 5, bytes, size - 1, size));
    assert_false(passes(&scheme, 5, bytes, size + 1, size + 1));
    assert_true(value_scheme_init(&other_seed, SEED + 1, 300, 300, 0, 0));
    assert_false(passes(&other_seed, 5, bytes, size, size));
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 0x10;
        assert_false(passes(&scheme, 5, bytes, size, 64));
        bytes[at] ^= 0x10;
    }
    memmove(bytes + 100, bytes + 108, 100);
    assert_false(passes(&scheme, 5, bytes, size, 64));
    /* The halves of two versions are no value: a torn write is seen. */
    char *newer = write_whole(&scheme, 5, 10, &size);
    char *older = write_whole(&scheme, 5, 9, &size);
    memcpy(newer + 150, older + 150, 150);
    assert_false(passes(&scheme, 5, newer, size, 64));
    free(older);
    free(newer);
    free(bytes);
    value_scheme_release(&scheme);
    value_scheme_release(&other_seed);
}

static void sizes_fill_the_range_evenly(void **state) {
    (void)state;
    struct value_scheme scheme = make_scheme(100, 199, 0, 0);
    enum { KEYS = 100000 };
    uint64_t sum = 0, low = UINT64_MAX, high = 0;
    for (uint64_t key = 0; key < KEYS; key++) {
        uint64_t size = value_size(&scheme, key);
        assert_int_equal(size, value_describe(&scheme, key, (uint32_t)key).size);
        sum += size;
        if (size < low) low = size;
        if (size > high) high = size;
    }
    assert_int_equal(low, 100);
    assert_int_equal(high, 199);
    assert_in_range(sum, KEYS * 149, KEYS * 150);
    value_scheme_release(&scheme);
}

static void the_asked_share_of_keys_expires(void **state) {
    (void)state;
    const double shares[] = {0, 0.25, 1};
    for (int i = 0; i < 3; i++) {
        struct value_scheme scheme = make_scheme(10, 10, 0, shares[i]);
        unsigned expiring = 0;
        for (uint64_t key = 0; key < 100000; key++) expiring += value_expires(&scheme, key);
        unsigned wanted = (unsigned)(shares[i] * 100000);
        assert_in_range(expiring, wanted == 0 ? 0 : wanted - wanted / 50, wanted + wanted / 50);
        value_scheme_release(&scheme);
    }
}

/* Words that repeat the one before are what a compressor removes. */
static void the_asked_share_of_bytes_repeats(void **state) {
    (void)state;
    const double shares[] = {0, 0.5, 0.75};
    for (int i = 0; i < 3; i++) {
        struct value_scheme scheme = make_scheme(8192, 8192, shares[i], 0);
        unsigned repeats = 0, words = 0;
        for (uint64_t key = 0; key < 20; key++) {
            size_t size;
            char *bytes = write_whole(&scheme, key, 0, &size);
            for (size_t at = 16; at + 8 <= size; at += 8, words++)
                repeats += memcmp(bytes + at, bytes + at - 8, 8) == 0;
            free(bytes);
        }
        double share = (double)repeats / words;
        assert_true(share > shares[i] - 0.08 && share < shares[i] + 0.02);
        value_scheme_release(&scheme);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_written_in_pieces_is_the_same),
        cmocka_unit_test(its_own_value_passes_in_any_pieces_and_version),
        cmocka_unit_test(anything_else_does_not_pass),
        cmocka_unit_test(sizes_fill_the_range_evenly),
        cmocka_unit_test(the_asked_share_of_keys_expires),
        cmocka_unit_test(the_asked_share_of_bytes_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
