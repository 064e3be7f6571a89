/* Options of the capacity benchmark: what is understood, and one line for what is not. */
#include "bench/capacity_options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { ARGUMENTS_MAX = 24 };

static char line_copy[1000];

/* Splits `line` at spaces and parses it; the options are released by the caller. */
static bool parse(const char *line, struct capacity_options *options, char *error, size_t error_size) {
    char *arguments[ARGUMENTS_MAX + 1] = {(char *)"capacity"};
    int count = 1;
    strcpy(line_copy, line);
    for (char *word = strtok(line_copy, " "); word != NULL && count < ARGUMENTS_MAX; word = strtok(NULL, " "))
        arguments[count++] = word;
    error[0] = '\0';
    return capacity_options_parse(count, arguments, options, error, error_size);
}

static void sizes_have_units(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double bytes;
    } rows[] = {{"100", 100},           {"1k", 1000}, {"1kb", 1024}, {"1.5gb", 1.5 * (1 << 30)},
                {"2TB", 2199023255552}, {"3m", 3e6},  {"10b", 10},   {"0.5mb", 524288}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double bytes = 0;
        assert_true(capacity_parse_bytes(rows[i].text, &bytes));
        assert_true(bytes == rows[i].bytes);
    }
    static const char *const bad[] = {"", "gb", "1xb", "1gbb", "-1", "1 gb", "nan", "inf", "1q", "k1"};
    double bytes;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) assert_false(capacity_parse_bytes(bad[i], &bytes));
}

static void datasets_are_bytes_keys_or_multiples_of_dram(void **state) {
    (void)state;
    struct capacity_options options;
    char error[300];
    assert_true(parse("--sizes 64mb,10x,1gb", &options, error, sizeof(error)));
    assert_int_equal(options.target_count, 3);
    assert_int_equal(options.targets[0].unit, CAPACITY_BYTES);
    assert_true(options.targets[0].amount == 64 << 20);
    assert_int_equal(options.targets[1].unit, CAPACITY_TIMES_DRAM);
    assert_true(options.targets[1].amount == 10);
    assert_string_equal(options.targets[1].text, "10x");
    capacity_options_release(&options);
    assert_true(parse("--keys 1000,2m", &options, error, sizeof(error)));
    assert_int_equal(options.targets[1].unit, CAPACITY_KEYS);
    assert_true(options.targets[1].amount == 2e6);
    capacity_options_release(&options);
}

static void everything_else_is_understood(void **state) {
    (void)state;
    struct capacity_options options;
    char error[300];
    assert_true(parse("--sizes 1mb --value-size 100-2kb --skew zipf:1.2 --read-share 0.5 --ttl-share 0.1 --seed 9 "
                      "--rate 5000 --arrivals even --verify --dram 1gb --compare a,b --html x.html",
                      &options, error, sizeof(error)));
    assert_int_equal(options.value_size_min, 100);
    assert_int_equal(options.value_size_max, 2048);
    assert_int_equal(options.skew, KEYS_ZIPF);
    assert_true(options.zipf_exponent == 1.2 && options.read_share == 0.5 && options.ttl_share == 0.1);
    assert_true(options.rate == 5000 && options.even_arrivals && options.verify && !options.verify_all);
    assert_int_equal(options.seed, 9);
    assert_int_equal(options.dram_bytes, 1 << 30);
    assert_int_equal(options.compared_count, 2);
    assert_string_equal(options.compared[1], "b");
    capacity_options_release(&options);
    assert_true(parse("--compare a.json --html x.html", &options, error, sizeof(error)));
    assert_int_equal(options.target_count, 0);
    capacity_options_release(&options);
}

static void nonsense_is_refused_with_a_line(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "--sizes",
        "--sizes 1gb --keys 5",
        "--sizes x",
        "--sizes 0",
        "--sizes 1gb,,2gb",
        "--keys 10x",
        "--sizes 1gb --read-share 1.1",
        "--sizes 1gb --skew normal",
        "--sizes 1gb --skew zipf:0",
        "--sizes 1gb --value-size 0",
        "--sizes 1gb --value-size 9-5",
        "--sizes 1gb --value-size 1gb",
        "--sizes 1gb --connections 2 --threads 3",
        "--sizes 1gb --pipeline 1.5",
        "--sizes 1gb --arrivals late",
        "--sizes 1gb --compare a.json",
        "--sizes 1gb --nosuch",
        "--sizes 1gb surplus",
        "--compare a.json",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct capacity_options options;
        char error[300];
        assert_false(parse(bad[i], &options, error, sizeof(error)));
        assert_true(strlen(error) > 10);
        assert_null(strchr(error, '\n'));
        capacity_options_release(&options);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(datasets_are_bytes_keys_or_multiples_of_dram),
        cmocka_unit_test(everything_else_is_understood),
        cmocka_unit_test(nonsense_is_refused_with_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
