/* APPEND, GETRANGE, SUBSTR, SETRANGE: bounds of every sign, growth, and the limit of a value's length. */

#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define EMPTY    "$0\r\n\r\n"
#define TOO_LONG "-" ERROR_TOO_LONG "\r\n"

static void ranges_are_cut_to_the_value(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET k \"Hello World\"");
    in_process_expect(server, "GETRANGE k 0 4", "$5\r\nHello\r\n");
    in_process_expect(server, "SUBSTR k -5 -1", "$5\r\nWorld\r\n");
    in_process_expect(server, "GETRANGE k 0 -1", "$11\r\nHello World\r\n");
    in_process_expect(server, "GETRANGE k -100 2", "$3\r\nHel\r\n");
    in_process_expect(server, "GETRANGE k 9 9223372036854775807", "$2\r\nld\r\n");
    in_process_expect(server, "GETRANGE k -9223372036854775808 0", "$1\r\nH\r\n");
    in_process_expect(server, "GETRANGE k 5 3", EMPTY);
    in_process_expect(server, "GETRANGE k -1 -3", EMPTY);
    in_process_expect(server, "GETRANGE k 11 20", EMPTY);
    in_process_expect(server, "GETRANGE absent 0 -1", EMPTY);
    in_process_expect(server, "GETRANGE absent 0 x", "-" ERROR_NOT_INTEGER "\r\n");
    in_process_run(server, "SET one x");
    in_process_expect(server, "GETRANGE one -1 -3", EMPTY);
    in_process_expect(server, "GETRANGE one -3 -1", "$1\r\nx\r\n");
    in_process_run(server, "SET number -1234");
    in_process_expect(server, "GETRANGE number 1 2", "$2\r\n12\r\n");
}

static void append_adds_to_whatever_is_there(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "APPEND k 12", ":2\r\n");
    in_process_expect(server, "APPEND k \"\"", ":2\r\n");
    in_process_expect(server, "APPEND k x", ":3\r\n");
    in_process_expect(server, "GET k", "$3\r\n12x\r\n");
    in_process_run(server, "SET k v PX 10");
    in_process_expect(server, "APPEND k w", ":2\r\n");
    in_process_advance(server, 10);
    in_process_expect(server, "GET k", "$-1\r\n");
}

/* Growth through every size class, against a plain buffer. */
static void append_keeps_every_byte_while_growing(void **state) {
    struct in_process *server = *state;
    enum { STEPS = 400, MOST = 1000 };
    static char expected[STEPS * MOST];
    size_t length = 0;
    for (size_t step = 0; step < STEPS; step++) {
        char part[MOST];
        size_t part_length = (step * 37) % MOST;
        for (size_t i = 0; i < part_length; i++) part[i] = expected[length + i] = (char)(step + i);
        in_process_run_with_value(server, "APPEND", "k", span_of(part, part_length));
        length += part_length;
    }
    assert_true(span_equal(in_process_bulk(server, "GET k"), span_of(expected, length)));
}

static void setrange_pads_with_zeros(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SETRANGE k 3 abc", ":6\r\n");
    in_process_expect_bytes(server, "GET k", "$6\r\n\0\0\0abc\r\n");
    in_process_expect(server, "SETRANGE k 1 XY", ":6\r\n");
    in_process_expect_bytes(server, "GET k", "$6\r\n\0XYabc\r\n");
    in_process_expect(server, "SETRANGE k 1000000 \"\"", ":6\r\n");
    in_process_expect(server, "SETRANGE other 10 \"\"", ":0\r\n");
    in_process_expect(server, "GET other", "$-1\r\n");
    in_process_run(server, "SET number 1234");
    in_process_expect(server, "SETRANGE number 1 x", ":4\r\n");
    in_process_expect(server, "GET number", "$4\r\n1x34\r\n");
}

static void no_value_outgrows_the_limit(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SETRANGE k -1 x", "-ERR offset is out of range\r\n");
    in_process_expect(server, "SETRANGE k 536870912 x", TOO_LONG);
    in_process_expect(server, "SETRANGE k 9223372036854775807 x", TOO_LONG);
    in_process_expect(server, "SETRANGE k 9223372036854775808 x", "-" ERROR_NOT_INTEGER "\r\n");
    in_process_expect(server, "GET k", "$-1\r\n");
    atomic_store(&server->host.bulk_bytes_max, 1000);
    in_process_expect(server, "SETRANGE k 998 x", ":999\r\n");
    in_process_expect(server, "APPEND k yz", TOO_LONG);
    in_process_expect(server, "APPEND k y", ":1000\r\n");
    in_process_expect(server, "SETRANGE k 999 yz", TOO_LONG);
    in_process_expect(server, "STRLEN k", ":1000\r\n");
}

static void the_longest_value_is_half_a_gigabyte(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SETRANGE k 536870911 x", ":536870912\r\n");
    in_process_expect_bytes(server, "GETRANGE k -2 -1", "$2\r\n\0x\r\n");
    in_process_expect(server, "APPEND k y", TOO_LONG);
    in_process_expect(server, "STRLEN k", ":536870912\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ranges_are_cut_to_the_value, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(append_adds_to_whatever_is_there, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(append_keeps_every_byte_while_growing, in_process_start_strings,
                                        in_process_stop),
        cmocka_unit_test_setup_teardown(setrange_pads_with_zeros, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(no_value_outgrows_the_limit, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(the_longest_value_is_half_a_gigabyte, in_process_start_strings,
                                        in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
