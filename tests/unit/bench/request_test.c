/* Request templates: the bytes on the wire are exactly the command meant. */
#include "bench/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct request_shape shape;
static char *values;

static int make_shape(void **state) {
    (void)state;
    shape = (struct request_shape){.value_size_min = 3, .value_size_max = 3, .integer_max = 0, .fields = 1};
    assert_true(key_format_parse("key:%012d", &shape.key_format));
    values = request_values_create(100, 1);
    assert_non_null(values);
    return 0;
}

static int free_values(void **state) {
    (void)state;
    free(values);
    return 0;
}

static struct request_template *compile(const char *command, unsigned repeat_from, unsigned repeat) {
    char error[200];
    struct request_template *request =
        request_template_create(command, repeat_from, repeat, &shape, error, sizeof(error));
    assert_non_null(request);
    return request;
}

/* Composes `number` requests and returns the last as a string the caller frees. */
static char *compose(const struct request_template *request, uint64_t first_key, unsigned number) {
    struct request_source source = {.shape = &shape, .values = values, .random = {1}};
    key_generator_init(&source.keys, KEYS_SEQUENTIAL, KEYS_MAX, 0, 1, 0, 1);
    source.keys.next = first_key;
    size_t room = request_template_length_max(request);
    char *out = malloc(room + 1);
    assert_non_null(out);
    char *end = out;
    for (unsigned i = 0; i < number; i++) end = request_compose(request, &source, out);
    assert_true((size_t)(end - out) <= room);
    *end = '\0';
    return out;
}

static void assert_request(const char *command, unsigned repeat_from, unsigned repeat, uint64_t key, unsigned number,
                           const char *expected) {
    struct request_template *request = compile(command, repeat_from, repeat);
    char *bytes = compose(request, key, number);
    assert_string_equal(bytes, expected);
    free(bytes);
    request_template_destroy(request);
}

static void keys_are_zero_padded(void **state) {
    (void)state;
    const char *get = "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012llu\r\n";
    const uint64_t keys[] = {0, 7, 10, 99, 100, 101, 999, 1000, 123456, 10203040506, 999999999999};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char expected[64];
        /* A digit left over from an earlier request would show. */
        for (unsigned number = 1; number <= 2 && keys[i] + 2 < 999999999999; number++) {
            snprintf(expected, sizeof(expected), get, (unsigned long long)(keys[i] + number - 1));
            assert_request("GET __key__", 0, 1, keys[i], number, expected);
        }
        snprintf(expected, sizeof(expected), get, (unsigned long long)keys[i]);
        assert_request("GET __key__", 0, 1, keys[i], 1, expected);
    }
}

static void prefix_and_suffix_of_keys_stay(void **state) {
    (void)state;
    assert_true(key_format_parse("{user:%05d}.name", &shape.key_format));
    assert_request("DEL __key__", 0, 1, 42, 1, "*2\r\n$3\r\nDEL\r\n$17\r\n{user:00042}.name\r\n");
    assert_request("HSET h:__key__ x__field__y v", 0, 1, 42, 1,
                   "*4\r\n$4\r\nHSET\r\n$19\r\nh:{user:00042}.name\r\n$14\r\nx000000000000y\r\n$1\r\nv\r\n");
}

static void a_group_of_words_repeats(void **state) {
    (void)state;
    assert_request("MGET __key__", 1, 3, 8, 1,
                   "*4\r\n$4\r\nMGET\r\n$16\r\nkey:000000000008\r\n$16\r\nkey:000000000009\r\n"
                   "$16\r\nkey:000000000010\r\n");
    struct request_template *request = compile("MSET __key__ __value__", 1, 3);
    assert_int_equal(request_template_keys(request), 3);
    char *bytes = compose(request, 0, 1);
    assert_memory_equal(bytes, "*7\r\n", 4);
    free(bytes);
    request_template_destroy(request);
}

static void fixed_values_have_their_size(void **state) {
    (void)state;
    struct request_template *request = compile("SET __key__ __value__", 0, 1);
    char *bytes = compose(request, 1, 1);
    const char head[] = "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$3\r\n";
    assert_memory_equal(bytes, head, sizeof(head) - 1);
    assert_int_equal(strlen(bytes), sizeof(head) - 1 + 3 + 2);
    assert_string_equal(bytes + strlen(bytes) - 2, "\r\n");
    free(bytes);
    request_template_destroy(request);
}

static void sized_values_match_their_headers(void **state) {
    (void)state;
    shape.value_size_min = 0;
    shape.value_size_max = 100;
    struct request_template *request = compile("ECHO __value__", 0, 1);
    unsigned smallest = 1000, largest = 0;
    for (unsigned number = 1; number < 1000; number += 1) {
        char *bytes = compose(request, 1, number);
        const char head[] = "*2\r\n$4\r\nECHO\r\n$";
        assert_memory_equal(bytes, head, sizeof(head) - 1);
        char *header_end;
        unsigned size = (unsigned)strtoul(bytes + sizeof(head) - 1, &header_end, 10);
        assert_memory_equal(header_end, "\r\n", 2);
        assert_int_equal(strlen(header_end + 2), size + 2);
        if (size < smallest) smallest = size;
        if (size > largest) largest = size;
        free(bytes);
    }
    assert_true(smallest < 5 && largest > 95 && largest <= 100);
    request_template_destroy(request);
}

static void integer_values_are_plain_numbers(void **state) {
    (void)state;
    shape.value_kind = VALUE_INTEGER;
    assert_request("SET __key__ __value__", 0, 1, 1, 1, "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$1\r\n0\r\n");
    shape.integer_max = 1000000;
    struct request_template *request = compile("ECHO __number__", 0, 1);
    uint64_t sum = 0;
    for (unsigned number = 1; number <= 500; number++) {
        char *bytes = compose(request, 1, number);
        unsigned size;
        int head;
        unsigned long long value;
        assert_int_equal(sscanf(bytes, "*2\r\n$4\r\nECHO\r\n$%u\r\n%n%llu", &size, &head, &value), 2);
        char again[32];
        assert_int_equal(snprintf(again, sizeof(again), "%llu\r\n", value), size + 2);
        assert_string_equal(bytes + head, again);
        assert_true(value <= 1000000);
        sum += value;
        free(bytes);
    }
    assert_true(sum > 500 * 400000ull && sum < 500 * 600000ull);
    request_template_destroy(request);
}

static void unusable_commands_are_refused(void **state) {
    (void)state;
    char error[200] = "";
    assert_null(request_template_create("   ", 0, 1, &shape, error, sizeof(error)));
    assert_true(strlen(error) > 0);
    char many[2000];
    memset(many, 'a', sizeof(many));
    for (size_t i = 1; i < sizeof(many); i += 2) many[i] = ' ';
    many[sizeof(many) - 1] = '\0';
    assert_null(request_template_create(many, 0, 1, &shape, error, sizeof(error)));
}

static void key_formats_need_one_zero_padded_number(void **state) {
    (void)state;
    const char *bad[] = {"key", "key:%d", "key:%5d", "key:%016d", "key:%00d", "key:%05x", "%05d%05d", "%s"};
    struct key_format format;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) assert_false(key_format_parse(bad[i], &format));
    assert_true(key_format_parse("%015d", &format));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keys_are_zero_padded, make_shape, free_values),
        cmocka_unit_test_setup_teardown(prefix_and_suffix_of_keys_stay, make_shape, free_values),
        cmocka_unit_test_setup_teardown(a_group_of_words_repeats, make_shape, free_values),
        cmocka_unit_test_setup_teardown(fixed_values_have_their_size, make_shape, free_values),
        cmocka_unit_test_setup_teardown(sized_values_match_their_headers, make_shape, free_values),
        cmocka_unit_test_setup_teardown(integer_values_are_plain_numbers, make_shape, free_values),
        cmocka_unit_test_setup_teardown(unusable_commands_are_refused, make_shape, free_values),
        cmocka_unit_test_setup_teardown(key_formats_need_one_zero_padded_number, make_shape, free_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
