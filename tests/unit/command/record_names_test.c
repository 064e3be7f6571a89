/* The names of types and encodings. */

#include "command/record_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void types_have_names_and_are_found_by_them(void **state) {
    (void)state;
    const char *const names[] = {NULL, "string", "list", "set", "zset", "hash", "stream"};
    for (unsigned i = RECORD_STRING; i <= RECORD_STREAM; i++) {
        enum record_type type = 0;
        assert_string_equal(record_type_name((enum record_type)i), names[i]);
        assert_true(record_type_by_name(span_of_text(names[i]), &type));
        assert_int_equal(type, i);
    }
    enum record_type type = RECORD_HASH;
    assert_true(record_type_by_name(SPAN_LITERAL("StRiNg"), &type));
    assert_int_equal(type, RECORD_STRING);
    assert_false(record_type_by_name(SPAN_LITERAL(""), &type));
    assert_false(record_type_by_name(SPAN_LITERAL("strin"), &type));
    assert_false(record_type_by_name(SPAN_LITERAL("strings"), &type));
    assert_false(record_type_by_name(SPAN_LITERAL("string\0"), &type));
}

static const char *encoding_of(struct record_plan plan) {
    plan.type = RECORD_STRING;
    plan.key = SPAN_LITERAL("key");
    plan.expiry_ms = RECORD_EXPIRY_NONE;
    struct record *record = record_write(malloc(record_size_for(&plan)), &plan);
    const char *name = record_encoding_name(record);
    free(record);
    return name;
}

static void strings_have_three_encodings(void **state) {
    (void)state;
    static const char bytes[RECORD_EMBEDDED_STRING_MAX + 1];
    assert_string_equal(encoding_of((struct record_plan){.encoding = RECORD_INT8, .integer = 1}), "int");
    assert_string_equal(encoding_of((struct record_plan){.encoding = RECORD_INT64, .integer = INT64_MIN}), "int");
    assert_string_equal(encoding_of((struct record_plan){.value = span_of(bytes, 0)}), "embstr");
    assert_string_equal(encoding_of((struct record_plan){.value = span_of(bytes, 44)}), "embstr");
    assert_string_equal(encoding_of((struct record_plan){.value = span_of(bytes, 45)}), "raw");
    assert_string_equal(encoding_of((struct record_plan){.value = span_of(bytes, 3), .edited = true}), "raw");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_names_and_are_found_by_them),
        cmocka_unit_test(strings_have_three_encodings),
    };
    return cmocka_run_group_tests_name("command/record_names", tests, NULL, NULL);
}
