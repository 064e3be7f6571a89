/* IDs of entries: order, neighbours, and every spelling that clients may send. */

#include "keyspace/stream_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static struct stream_id id_of(uint64_t ms, uint64_t sequence) {
    return (struct stream_id){ms, sequence};
}

static void order_is_by_time_and_then_by_sequence(void **state) {
    (void)state;
    assert_true(stream_id_compare(id_of(1, 9), id_of(2, 0)) < 0);
    assert_true(stream_id_compare(id_of(2, 1), id_of(2, 0)) > 0);
    assert_int_equal(stream_id_compare(id_of(2, 1), id_of(2, 1)), 0);
}

static void neighbours_carry_and_wrap_around(void **state) {
    (void)state;
    struct stream_id id = id_of(1, UINT64_MAX);
    assert_true(stream_id_increment(&id));
    assert_int_equal(stream_id_compare(id, id_of(2, 0)), 0);
    assert_true(stream_id_decrement(&id));
    assert_int_equal(stream_id_compare(id, id_of(1, UINT64_MAX)), 0);
    id = STREAM_ID_MAX;
    assert_false(stream_id_increment(&id));
    assert_true(stream_id_is_zero(id));
    assert_false(stream_id_decrement(&id));
    assert_int_equal(stream_id_compare(id, STREAM_ID_MAX), 0);
}

static void ids_are_written_as_they_are_read(void **state) {
    (void)state;
    char text[STREAM_ID_TEXT_MAX];
    struct stream_id id = STREAM_ID_MIN;
    size_t length = stream_id_format(STREAM_ID_MAX, text);
    assert_int_equal(length, STREAM_ID_TEXT_MAX);
    assert_memory_equal(text, "18446744073709551615-18446744073709551615", length);
    assert_true(stream_id_parse(span_of(text, length), STREAM_ID_STRICT, 0, &id, NULL));
    assert_int_equal(stream_id_compare(id, STREAM_ID_MAX), 0);
}

static void spellings(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum stream_id_form form;
        bool accepted, open;
        uint64_t ms, sequence;
    } cases[] = {
        {"5-3", STREAM_ID_STRICT, true, false, 5, 3},
        {"5", STREAM_ID_STRICT, true, false, 5, 77},
        {"007-+3", STREAM_ID_STRICT, true, false, 7, 3},
        {" 5-1", STREAM_ID_STRICT, true, false, 5, 1},
        {"5--03", STREAM_ID_STRICT, true, false, 5, UINT64_MAX - 2},
        {"5--3", STREAM_ID_STRICT, false, false, 0, 0},
        {"5-3 ", STREAM_ID_STRICT, false, false, 0, 0},
        {"5-", STREAM_ID_STRICT, false, false, 0, 0},
        {"", STREAM_ID_STRICT, false, false, 0, 0},
        {"-1", STREAM_ID_STRICT, false, false, 0, 0},
        {"18446744073709551616-0", STREAM_ID_STRICT, false, false, 0, 0},
        {"-", STREAM_ID_STRICT, false, false, 0, 0},
        {"+", STREAM_ID_NEW, false, false, 0, 0},
        {"-", STREAM_ID_RANGE, true, false, 0, 0},
        {"+", STREAM_ID_RANGE, true, false, UINT64_MAX, UINT64_MAX},
        {"5-*", STREAM_ID_NEW, true, true, 5, 0},
        {"5-*", STREAM_ID_STRICT, false, false, 0, 0},
        {"*", STREAM_ID_NEW, false, false, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct stream_id id = STREAM_ID_MIN;
        bool open = false;
        bool accepted = stream_id_parse(span_of_text(cases[i].text), cases[i].form, 77, &id,
                                        cases[i].form == STREAM_ID_NEW ? &open : NULL);
        if (accepted != cases[i].accepted || open != cases[i].open ||
            stream_id_compare(id, id_of(cases[i].ms, cases[i].sequence)) != 0)
            fail_msg("'%s'", cases[i].text);
    }
}

static void what_is_too_long_is_refused(void **state) {
    (void)state;
    char text[200];
    struct stream_id id;
    memset(text, '0', sizeof(text));
    assert_true(stream_id_parse(span_of(text, 127), STREAM_ID_STRICT, 0, &id, NULL));
    assert_false(stream_id_parse(span_of(text, 128), STREAM_ID_STRICT, 0, &id, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_by_time_and_then_by_sequence), cmocka_unit_test(neighbours_carry_and_wrap_around),
        cmocka_unit_test(ids_are_written_as_they_are_read),      cmocka_unit_test(spellings),
        cmocka_unit_test(what_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
