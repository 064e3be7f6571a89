/* MGET, MSET, MSETNX: several keys at once, named twice, of other types, and many of them. */

#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void mget_replies_in_order_of_the_arguments(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "MSET a 1 b two");
    in_process_expect(server, "MGET b absent a b", "*4\r\n$3\r\ntwo\r\n$-1\r\n$1\r\n1\r\n$3\r\ntwo\r\n");
}

static void mset_lets_the_last_value_of_a_key_win(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET a 0 EX 100");
    in_process_expect(server, "MSET a 1 b 2 a 3", "+OK\r\n");
    in_process_expect(server, "MGET a b", "*2\r\n$1\r\n3\r\n$1\r\n2\r\n");
    in_process_advance(server, 200000);
    in_process_expect(server, "GET a", "$1\r\n3\r\n");
}

static void msetnx_sets_all_or_nothing(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "MSETNX a 1 b 2 a 3", ":1\r\n");
    in_process_expect(server, "MSETNX c 1 b 9", ":0\r\n");
    in_process_expect(server, "MGET a b c", "*3\r\n$1\r\n3\r\n$1\r\n2\r\n$-1\r\n");
}

static void a_key_without_a_value_is_refused(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n");
    in_process_expect(server, "MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command\r\n");
    in_process_expect(server, "GET a", "$-1\r\n");
}

/* More keys than one batch prepares in its arena. */
static void many_keys_are_set_and_read(void **state) {
    struct in_process *server = *state;
    enum { KEYS = 3000, NAME = 16 };
    static char names[KEYS][NAME];
    static struct span arguments[1 + 2 * KEYS];
    arguments[0] = SPAN_LITERAL("MSET");
    for (size_t i = 0; i < KEYS; i++) {
        int length = snprintf(names[i], NAME, "key:%zu", i);
        arguments[1 + 2 * i] = arguments[2 + 2 * i] = span_of(names[i], (size_t)length);
    }
    assert_string_equal(in_process_run_arguments(server, arguments, 1 + 2 * KEYS), "+OK\r\n");
    arguments[0] = SPAN_LITERAL("MGET");
    for (size_t i = 0; i < KEYS; i++) arguments[1 + i] = span_of_text(names[i]);
    const char *at = in_process_run_arguments(server, arguments, 1 + KEYS);
    assert_memory_equal(at, "*3000\r\n", 7);
    at += 7;
    for (size_t i = 0; i < KEYS; i++) {
        char expected[2 * NAME + 8];
        int length = snprintf(expected, sizeof(expected), "$%zu\r\n%s\r\n", strlen(names[i]), names[i]);
        assert_memory_equal(at, expected, (size_t)length);
        at += length;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mget_replies_in_order_of_the_arguments, in_process_start_strings,
                                        in_process_stop),
        cmocka_unit_test_setup_teardown(mset_lets_the_last_value_of_a_key_win, in_process_start_strings,
                                        in_process_stop),
        cmocka_unit_test_setup_teardown(msetnx_sets_all_or_nothing, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(a_key_without_a_value_is_refused, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(many_keys_are_set_and_read, in_process_start_strings, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
