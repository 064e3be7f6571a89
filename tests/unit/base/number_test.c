/* The spellings and refusals of base/number.h, most of them asked of redis-server 7.0.15 once and written down here. */

#include "base/number.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void integer_parses_only_its_canonical_spelling(void **state) {
    (void)state;
    static const char *const refused[] = {
        "",
        "-",
        "+1",
        "-0",
        "00",
        "01",
        "-01",
        " 1",
        "1 ",
        "1a",
        "a",
        "--1",
        "1-",
        "0x1",
        "1.0",
        "9223372036854775808",
        "/",
        ":",
        "12:45",
        "1/",
        "-/1",
        "-:",
        "123456789012345678901",
        "-9223372036854775809",
        "18446744073709551616",
        "99999999999999999999",
        "1234567890123456789012345678901234567890",
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        int64_t value = 77;
        if (number_parse_i64(span_of_text(refused[i]), &value)) fail_msg("accepted \"%s\"", refused[i]);
        assert_int_equal(value, 77);
    }
    int64_t value;
    assert_false(number_parse_i64(span_of("1\0", 2), &value));
    assert_false(number_parse_i64(span_of(NULL, 0), &value));
    assert_true(number_parse_i64(SPAN_LITERAL("-9223372036854775808"), &value));
    assert_true(value == INT64_MIN);
    assert_true(number_parse_i64(SPAN_LITERAL("9223372036854775807"), &value));
    assert_true(value == INT64_MAX);
    assert_true(number_parse_i64(span_of("123456", 3), &value));
    assert_int_equal(value, 123);
}

static void unsigned_integer_covers_its_whole_range(void **state) {
    (void)state;
    uint64_t value = 77;
    assert_true(number_parse_u64(SPAN_LITERAL("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_true(number_parse_u64(SPAN_LITERAL("0"), &value));
    assert_true(value == 0);
    assert_false(number_parse_u64(SPAN_LITERAL("18446744073709551616"), &value));
    assert_false(number_parse_u64(SPAN_LITERAL("-1"), &value));
    assert_false(number_parse_u64(SPAN_LITERAL("01"), &value));
}

static void assert_integer_round_trips(int64_t value) {
    char expected[32], text[NUMBER_TEXT_MAX];
    size_t expected_length = (size_t)snprintf(expected, sizeof(expected), "%lld", (long long)value);
    size_t length = number_format_i64(value, text);
    assert_int_equal(length, expected_length);
    assert_memory_equal(text, expected, length);
    assert_int_equal(number_text_length_i64(value), length);
    int64_t back;
    assert_true(number_parse_i64(span_of(text, length), &back));
    assert_true(back == value);

    expected_length = (size_t)snprintf(expected, sizeof(expected), "%llu", (unsigned long long)value);
    length = number_format_u64((uint64_t)value, text);
    assert_int_equal(length, expected_length);
    assert_memory_equal(text, expected, length);
    uint64_t unsigned_back;
    assert_true(number_parse_u64(span_of(text, length), &unsigned_back));
    assert_true(unsigned_back == (uint64_t)value);
}

static void integer_round_trips_at_every_length(void **state) {
    (void)state;
    for (int64_t value = -100000; value <= 100000; value++) assert_integer_round_trips(value);
    uint64_t power = 1;
    for (int digits = 1; digits <= 20; digits++) {
        for (int64_t around = -2; around <= 2; around++) {
            assert_integer_round_trips((int64_t)power + around);
            assert_integer_round_trips((int64_t)(0 - power) + around);
        }
        power *= 10;
    }
    for (int shift = 0; shift < 64; shift++) {
        assert_integer_round_trips((int64_t)(1ull << shift));
        assert_integer_round_trips((int64_t)((1ull << shift) - 1));
    }
}

static void cursor_takes_what_strtoul_takes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool accepted;
        uint64_t value;
    } cases[] = {
        {"", true, 0},
        {"0", true, 0},
        {"05", true, 5},
        {"+5", true, 5},
        {" 5", false, 0},
        {"-1", true, UINT64_MAX},
        {"-", false, 0},
        {"+", false, 0},
        {"5a", false, 0},
        {"a", false, 0},
        {"5 ", false, 0},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"-18446744073709551615", true, 1},
        {"-18446744073709551616", false, 0},
        {"00000000000000000000000000000000012", true, 12},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value = 77;
        if (number_parse_cursor(span_of_text(cases[i].text), &value) != cases[i].accepted)
            fail_msg("%s", cases[i].text);
        assert_true(value == (cases[i].accepted ? cases[i].value : 77));
    }
    uint64_t value;
    assert_true(number_parse_cursor(span_of(NULL, 0), &value));
    assert_true(number_parse_cursor(SPAN_LITERAL("7\0x"), &value));
    assert_true(value == 7);
}

static void double_follows_the_rules_of_scores(void **state) {
    (void)state;
    static const char *const refused[] = {"",   ".",     "nan",    "NAN",    "nan(1)", " 1",
                                          "1 ", "1e400", "-1e400", "1e-400", "e5",     "1,5"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        double value = 77;
        if (number_parse_double(span_of_text(refused[i]), &value)) fail_msg("accepted \"%s\"", refused[i]);
        assert_true(value == 77);
    }
    static const struct {
        const char *text;
        double value;
    } accepted[] = {
        {"inf", INFINITY},
        {"+inf", INFINITY},
        {"-inf", -INFINITY},
        {"Infinity", INFINITY},
        {"INF", INFINITY},
        {"0x10", 16},
        {"1.", 1},
        {".5", 0.5},
        {"+5", 5},
        {"1e5", 100000},
        {"1e-310", 1e-310},
        {"4.9e-324", 4.9e-324},
        {"123456789012345", 123456789012345.0},
        {"-17", -17},
        {"0.1", 0.1},
        {"9007199254740993", 9007199254740992.0},
    };
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        double value = 77;
        if (!number_parse_double(span_of_text(accepted[i].text), &value)) fail_msg("refused %s", accepted[i].text);
        assert_true(value == accepted[i].value);
    }
    double value;
    assert_true(number_parse_double(SPAN_LITERAL("-0"), &value));
    assert_true(value == 0 && signbit(value));
    assert_false(number_parse_double(SPAN_LITERAL("1\0"), &value));

    char text[1000];
    memset(text, '0', sizeof(text));
    text[sizeof(text) - 1] = '5';
    assert_true(number_parse_double(span_of(text, sizeof(text)), &value));
    assert_true(value == 5);
}

static void long_double_follows_the_rules_of_incrbyfloat(void **state) {
    (void)state;
    static const char *const refused[] = {"", ".", "nan", " 1", "1 ", "1e5000", "1e-5000"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        long double value = 77;
        if (number_parse_long_double(span_of_text(refused[i]), &value)) fail_msg("accepted \"%s\"", refused[i]);
        assert_true(value == 77);
    }
    long double value;
    assert_true(number_parse_long_double(SPAN_LITERAL("1e400"), &value));
    assert_true(value == 1e400L);
    assert_true(number_parse_long_double(SPAN_LITERAL("-inf"), &value));
    assert_true(isinf(value));
    assert_true(number_parse_long_double(SPAN_LITERAL("0x10"), &value));
    assert_true(value == 16);

    static char text[NUMBER_LONG_DOUBLE_TEXT_MAX];
    memset(text, '0', sizeof(text));
    assert_false(number_parse_long_double(span_of(text, sizeof(text)), &value));
    assert_true(number_parse_long_double(span_of(text, sizeof(text) - 1), &value));
    assert_true(value == 0);
}

static void memory_units_are_those_of_the_configuration_file(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } accepted[] = {
        {"0", 0},
        {"1", 1},
        {"1b", 1},
        {"1k", 1000},
        {"1K", 1000},
        {"1kB", 1024},
        {"1m", 1000000},
        {"1mb", 1048576},
        {"1g", 1000000000},
        {"1gb", 1073741824},
        {"100mb", 104857600},
        {"007", 7},
        {"", 0},
        {"k", 0},
        {"9223372036854775807", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        int64_t bytes = 77;
        if (!number_parse_memory(span_of_text(accepted[i].text), &bytes)) fail_msg("refused %s", accepted[i].text);
        assert_true(bytes == accepted[i].bytes);
    }
    static const char *const refused[] = {"-1",
                                          "-0",
                                          "+5",
                                          "1.5gb",
                                          " 5",
                                          "5 ",
                                          "1t",
                                          "5bb",
                                          "gb1",
                                          "9223372036854775808",
                                          "9223372036854775807k",
                                          "20000000000gb"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        int64_t bytes = 77;
        if (number_parse_memory(span_of_text(refused[i]), &bytes)) fail_msg("accepted \"%s\"", refused[i]);
        assert_true(bytes == 77);
    }
}

static void assert_double_text(double value, const char *expected) {
    char text[NUMBER_DOUBLE_TEXT_MAX + 1];
    text[number_format_double(value, text)] = '\0';
    assert_string_equal(text, expected);
}

static void double_is_written_with_seventeen_digits(void **state) {
    (void)state;
    assert_double_text(0.1, "0.10000000000000001");
    assert_double_text(3, "3");
    assert_double_text(-0.0, "-0");
    assert_double_text(0, "0");
    assert_double_text(INFINITY, "inf");
    assert_double_text(-INFINITY, "-inf");
    assert_double_text(NAN, "nan");
    assert_double_text(-2.2250738585072014e-308, "-2.2250738585072014e-308");
    srand48(1);
    for (int i = 0; i < 100000; i++) {
        double value = ldexp(drand48() - 0.5, (int)(drand48() * 140) - 40);
        if (i % 2) value = trunc(value);
        char expected[64];
        snprintf(expected, sizeof(expected), "%.17g", value);
        assert_double_text(value, expected);
    }
    for (double power = 1; power < 1e19; power *= 10) {
        char expected[64];
        snprintf(expected, sizeof(expected), "%.17g", power);
        assert_double_text(power, expected);
    }
}

static void assert_long_double_text(long double value, const char *expected) {
    static char text[NUMBER_LONG_DOUBLE_TEXT_MAX + 1];
    text[number_format_long_double_human(value, text)] = '\0';
    assert_string_equal(text, expected);
}

static void long_double_is_written_without_trailing_zeros(void **state) {
    (void)state;
    assert_long_double_text(3200.0L, "3200");
    assert_long_double_text(0.1L, "0.1");
    assert_long_double_text(10.5L + 0.1L, "10.6");
    assert_long_double_text(-0.0L, "0");
    assert_long_double_text(-1e-30L, "0");
    assert_long_double_text(1e-17L, "0.00000000000000001");
    assert_long_double_text(-100, "-100");
    assert_long_double_text(1e20L, "100000000000000000000");
    assert_long_double_text(INFINITY, "inf");
    assert_long_double_text(-INFINITY, "-inf");

    /* The longest finite text must fit. */
    static char text[NUMBER_LONG_DOUBLE_TEXT_MAX];
    assert_in_range(number_format_long_double_human(-__LDBL_MAX__, text), 4000, NUMBER_LONG_DOUBLE_TEXT_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integer_parses_only_its_canonical_spelling),
        cmocka_unit_test(unsigned_integer_covers_its_whole_range),
        cmocka_unit_test(integer_round_trips_at_every_length),
        cmocka_unit_test(cursor_takes_what_strtoul_takes),
        cmocka_unit_test(double_follows_the_rules_of_scores),
        cmocka_unit_test(long_double_follows_the_rules_of_incrbyfloat),
        cmocka_unit_test(memory_units_are_those_of_the_configuration_file),
        cmocka_unit_test(double_is_written_with_seventeen_digits),
        cmocka_unit_test(long_double_is_written_without_trailing_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
