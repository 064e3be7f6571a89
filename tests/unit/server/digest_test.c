/* The digest of data: what changes it and what does not. */

#include "server/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static char room[4][256];

static const struct record *make(unsigned slot, const char *key, const char *value, int64_t expiry_ms) {
    struct record_plan plan = {
        .type = RECORD_STRING, .key = span_of_text(key), .value = span_of_text(value), .expiry_ms = expiry_ms};
    return record_write(room[slot], &plan);
}

static const struct record *make_integer(unsigned slot, const char *key, int64_t integer) {
    struct record_plan plan = {.type = RECORD_STRING,
                               .encoding = record_integer_encoding(integer),
                               .key = span_of_text(key),
                               .integer = integer,
                               .expiry_ms = RECORD_EXPIRY_NONE};
    return record_write(room[slot], &plan);
}

static void add_record(struct digest *digest, uint32_t database, const struct record *record) {
    digest_add_record(digest, database, record, digest_of_string(record));
}

static void add_value(struct digest *digest, const struct record *record) {
    digest_add_value(digest, record, digest_of_string(record));
}

static bool same(const struct digest *a, const struct digest *b) {
    char left[DIGEST_TEXT + 1], right[DIGEST_TEXT + 1];
    digest_print(a, left);
    digest_print(b, right);
    assert_int_equal(strlen(left), DIGEST_TEXT);
    return strcmp(left, right) == 0;
}

static void order_does_not_matter(void **state) {
    (void)state;
    const struct record *first = make(0, "a", "1x", RECORD_EXPIRY_NONE),
                        *second = make(1, "b", "2x", RECORD_EXPIRY_NONE);
    struct digest one = {0}, other = {0}, zero = {0};
    add_record(&one, 0, first);
    add_record(&one, 0, second);
    add_record(&other, 0, second);
    add_record(&other, 0, first);
    assert_true(same(&one, &other));
    assert_false(same(&one, &zero));
}

static void everything_that_clients_see_matters(void **state) {
    (void)state;
    const struct record *records[] = {make(0, "a", "x", RECORD_EXPIRY_NONE), make(1, "a", "y", RECORD_EXPIRY_NONE),
                                      make(2, "b", "x", RECORD_EXPIRY_NONE), make(3, "a", "x", 5000)};
    struct digest digests[5] = {{0}};
    for (int i = 0; i < 4; i++) add_record(&digests[i], 0, records[i]);
    add_record(&digests[4], 1, records[0]);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < i; k++) assert_false(same(&digests[i], &digests[k]));
}

static void how_it_is_kept_does_not(void **state) {
    (void)state;
    struct digest text = {0}, integer = {0};
    add_value(&text, make(0, "a", "-1234", 1000));
    add_value(&integer, make(1, "b", "-1234", 2000));
    assert_true(same(&text, &integer));
    struct digest third = {0}, fourth = {0};
    add_record(&third, 3, make(0, "k", "77", RECORD_EXPIRY_NONE));
    add_record(&fourth, 3, make_integer(1, "k", 77));
    assert_true(same(&third, &fourth));
}

static void nothing_is_zeros(void **state) {
    (void)state;
    struct digest digest = {0};
    char text[DIGEST_TEXT + 1];
    digest_print(&digest, text);
    assert_string_equal(text, "0000000000000000000000000000000000000000");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(everything_that_clients_see_matters),
        cmocka_unit_test(how_it_is_kept_does_not),
        cmocka_unit_test(nothing_is_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
