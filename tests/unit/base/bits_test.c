/* Every variant this CPU can run against bit by bit references; field arithmetic as BITFIELD of redis-server 7.0.15 has
 * it. */

#include "base/bits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static uint64_t next_random(void) {
    return (uint64_t)mrand48() << 32 ^ (uint64_t)(uint32_t)mrand48();
}

static void fill_randomly(uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)next_random();
}

static bool bit_of(const uint8_t *bytes, uint64_t position) {
    return bytes[position / 8] >> (7 - position % 8) & 1;
}

/* Runs a check with each variant. The bytes are allocated to their exact size so that the address sanitizer sees a read
 * past the end. */
static void with_every_variant(void (*check)(void)) {
    for (size_t variant = 0; bits_variant_name(variant) != NULL; variant++) {
        if (!bits_variant_use(variant)) {
            printf("this CPU does not run the variant %s\n", bits_variant_name(variant));
            continue;
        }
        check();
    }
}

static void check_count(void) {
    for (size_t length = 0; length < 700; length++) {
        for (size_t skew = 0; skew < 3; skew++) {
            uint8_t *bytes = malloc(length + skew + 1);
            fill_randomly(bytes, length + skew);
            uint64_t expected = 0;
            for (uint64_t i = 0; i < length * 8; i++) expected += bit_of(bytes + skew, i);
            uint8_t *exact = malloc(length > 0 ? length : 1);
            memcpy(exact, bytes + skew, length);
            assert_true(bits_count(exact, length) == expected);
            assert_true(bits_count(bytes + skew, length) == expected);
            free(exact);
            free(bytes);
        }
    }
    size_t length = 3000017;
    uint8_t *ones = malloc(length);
    memset(ones, 0xff, length);
    assert_true(bits_count(ones, length) == length * 8);
    free(ones);
}

static void count_equals_the_sum_of_the_bits(void **state) {
    (void)state;
    with_every_variant(check_count);
}

static void check_count_range(void) {
    uint8_t bytes[80];
    for (int round = 0; round < 20000; round++) {
        fill_randomly(bytes, sizeof(bytes));
        uint64_t first = next_random() % (sizeof(bytes) * 8), last = next_random() % (sizeof(bytes) * 8);
        uint64_t expected = 0;
        for (uint64_t i = first; i <= last && first <= last; i++) expected += bit_of(bytes, i);
        assert_true(bits_count_range(bytes, first, last) == expected);
    }
}

static void count_of_a_range_has_exact_ends(void **state) {
    (void)state;
    with_every_variant(check_count_range);
}

static void find_answers_the_first_bit_of_the_range(void **state) {
    (void)state;
    enum { LENGTH = 200 };
    uint8_t *bytes = malloc(LENGTH);
    for (int round = 0; round < 100000; round++) {
        bool wanted = round % 2;
        memset(bytes, wanted ? 0 : 0xff, LENGTH);
        for (int flips = (int)(next_random() % 4); flips > 0; flips--) {
            bytes[next_random() % LENGTH] ^= (uint8_t)(1u << next_random() % 8);
        }
        uint64_t first = next_random() % (LENGTH * 8), last = next_random() % (LENGTH * 8);
        int64_t expected = BITS_NOT_FOUND;
        for (uint64_t i = first; i <= last && first <= last; i++) {
            if (bit_of(bytes, i) == wanted) {
                expected = (int64_t)i;
                break;
            }
        }
        assert_true(bits_find(bytes, first, last, wanted) == expected);
    }
    free(bytes);
}

static uint8_t combine_byte(enum bits_operation operation, uint8_t a, uint8_t b) {
    switch (operation) {
    case BITS_AND: return a & b;
    case BITS_OR: return a | b;
    case BITS_XOR: return a ^ b;
    case BITS_NOT: break;
    }
    return (uint8_t)~a;
}

static void check_combine_once(enum bits_operation operation, size_t longest) {
    enum { SOURCES_MAX = 6 };
    struct span sources[SOURCES_MAX];
    uint8_t *owned[SOURCES_MAX];
    size_t count = operation == BITS_NOT ? 1 : 1 + next_random() % SOURCES_MAX;
    for (size_t i = 0; i < count; i++) {
        size_t length = next_random() % 4 == 0 ? 0 : next_random() % (longest + 1);
        owned[i] = malloc(length + 1);
        fill_randomly(owned[i], length);
        sources[i] = length > 0 ? span_of(owned[i], length) : span_of(NULL, 0);
    }
    size_t length = next_random() % (longest + 10);
    uint8_t *destination = malloc(length + 1);
    destination[length] = 0x5a;
    bits_combine(operation, destination, length, sources, count);
    assert_int_equal(destination[length], 0x5a);
    for (size_t at = 0; at < length; at++) {
        uint8_t expected = at < sources[0].length ? owned[0][at] : 0;
        if (operation == BITS_NOT) expected = (uint8_t)~expected;
        for (size_t i = 1; i < count; i++) {
            expected = combine_byte(operation, expected, at < sources[i].length ? owned[i][at] : 0);
        }
        assert_int_equal(destination[at], expected);
    }
    for (size_t i = 0; i < count; i++) free(owned[i]);
    free(destination);
}

static void check_combine(void) {
    for (enum bits_operation operation = BITS_AND; operation <= BITS_NOT; operation++) {
        for (size_t longest = 1; longest < 300; longest++) check_combine_once(operation, longest);
        for (int round = 0; round < 10; round++) check_combine_once(operation, 30000);
    }
}

static void combination_of_many_sources_equals_byte_by_byte(void **state) {
    (void)state;
    with_every_variant(check_combine);
}

static void field_at_every_offset_and_width_is_read_and_written(void **state) {
    (void)state;
    enum { LENGTH = 20 };
    uint8_t *bytes = malloc(LENGTH), before[LENGTH];
    for (unsigned width = 1; width <= 64; width++) {
        for (uint64_t offset = 0; offset + width <= LENGTH * 8; offset++) {
            fill_randomly(bytes, LENGTH);
            memcpy(before, bytes, LENGTH);
            uint64_t expected = 0;
            for (unsigned i = 0; i < width; i++) expected = expected << 1 | bit_of(bytes, offset + i);
            assert_true(bits_get_unsigned(bytes, LENGTH, offset, width) == expected);
            int64_t expected_signed = (int64_t)(expected << (64 - width)) >> (64 - width);
            assert_true(bits_get_signed(bytes, LENGTH, offset, width) == expected_signed);

            uint64_t value = next_random();
            bits_set(bytes, LENGTH, offset, width, value);
            for (uint64_t i = 0; i < LENGTH * 8; i++) {
                bool inside = i >= offset && i < offset + width;
                bool wanted = inside ? value >> (offset + width - 1 - i) & 1 : bit_of(before, i);
                assert_int_equal(bit_of(bytes, i), wanted);
            }
        }
    }
    free(bytes);
}

static void field_behind_the_end_reads_as_zeros(void **state) {
    (void)state;
    uint8_t *bytes = malloc(3);
    memset(bytes, 0xff, 3);
    assert_true(bits_get_unsigned(bytes, 3, 16, 16) == 0xff00);
    assert_true(bits_get_unsigned(bytes, 3, 20, 64) == 0xf000000000000000u);
    assert_true(bits_get_unsigned(bytes, 3, 24, 8) == 0);
    assert_true(bits_get_unsigned(bytes, 3, 4294967295, 63) == 0);
    assert_true(bits_get_unsigned(NULL, 0, 0, 64) == 0);
    assert_true(bits_get_signed(bytes, 3, 23, 2) == -2);
    free(bytes);
}

struct sum_case {
    int64_t value;
    int64_t increment;
    unsigned width;
    bool overflows;
    int64_t wrapped;
    int64_t saturated;
};

static void signed_sum_overflows_as_asked(void **state) {
    (void)state;
    static const struct sum_case cases[] = {
        {100, 27, 8, false, 127, 127},
        {100, 28, 8, true, -128, 127},
        {-100, -28, 8, false, -128, -128},
        {-100, -29, 8, true, 127, -128},
        {300, 0, 8, true, 44, 127},
        {-300, 0, 8, true, -44, -128},
        {0, 1, 1, true, -1, 0},
        {-1, -1, 1, true, 0, -1},
        {INT64_MAX, 1, 64, true, INT64_MIN, INT64_MAX},
        {INT64_MIN, -1, 64, true, INT64_MAX, INT64_MIN},
        {INT64_MIN, INT64_MAX, 64, false, -1, -1},
        {5, INT64_MAX, 8, true, 4, 127},
        {-5, INT64_MIN, 8, true, -5, -128},
        {INT64_MIN, 0, 8, true, 0, 127},
        {INT64_MIN + 127, 0, 8, true, 127, 127},
        {INT64_MIN + 128, 0, 8, true, -128, -128},
        {INT64_MAX, 0, 63, true, -1, ((int64_t)1 << 62) - 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct sum_case *c = &cases[i];
        int64_t result = 77;
        assert_true(bits_add_signed(c->value, c->increment, c->width, BITS_OVERFLOW_WRAP, &result));
        assert_true(result == c->wrapped);
        assert_true(bits_add_signed(c->value, c->increment, c->width, BITS_OVERFLOW_SATURATE, &result));
        assert_true(result == c->saturated);
        result = 77;
        assert_int_equal(bits_add_signed(c->value, c->increment, c->width, BITS_OVERFLOW_FAIL, &result), !c->overflows);
        assert_true(result == (c->overflows ? 77 : c->wrapped));
    }
}

static void unsigned_sum_overflows_as_asked(void **state) {
    (void)state;
    static const struct sum_case cases[] = {
        {200, 55, 8, false, 255, 255},   {200, 56, 8, true, 0, 255},
        {10, -10, 8, false, 0, 0},       {10, -11, 8, true, 255, 0},
        {-1, 0, 8, true, 255, 255},      {1, 0, 1, false, 1, 1},
        {1, 1, 1, true, 0, 1},           {INT64_MAX, 1, 63, true, 0, INT64_MAX},
        {0, INT64_MIN, 63, true, 0, 0},  {0, -1, 63, true, INT64_MAX, 0},
        {5, INT64_MAX, 8, true, 4, 255},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct sum_case *c = &cases[i];
        uint64_t result = 77;
        assert_true(bits_add_unsigned((uint64_t)c->value, c->increment, c->width, BITS_OVERFLOW_WRAP, &result));
        assert_true(result == (uint64_t)c->wrapped);
        assert_true(bits_add_unsigned((uint64_t)c->value, c->increment, c->width, BITS_OVERFLOW_SATURATE, &result));
        assert_true(result == (uint64_t)c->saturated);
        result = 77;
        assert_int_equal(bits_add_unsigned((uint64_t)c->value, c->increment, c->width, BITS_OVERFLOW_FAIL, &result),
                         !c->overflows);
        assert_true(result == (uint64_t)(c->overflows ? 77 : c->wrapped));
    }
}

static int announce_seed(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    long seed = given != NULL ? atol(given) : (long)time(NULL);
    printf("TERRACE_TEST_SEED=%ld\n", seed);
    srand48(seed);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(count_equals_the_sum_of_the_bits),
        cmocka_unit_test(count_of_a_range_has_exact_ends),
        cmocka_unit_test(find_answers_the_first_bit_of_the_range),
        cmocka_unit_test(combination_of_many_sources_equals_byte_by_byte),
        cmocka_unit_test(field_at_every_offset_and_width_is_read_and_written),
        cmocka_unit_test(field_behind_the_end_reads_as_zeros),
        cmocka_unit_test(signed_sum_overflows_as_asked),
        cmocka_unit_test(unsigned_sum_overflows_as_asked),
    };
    return cmocka_run_group_tests(tests, announce_seed, NULL);
}
