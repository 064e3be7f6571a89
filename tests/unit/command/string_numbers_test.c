/* INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT: sums, limits, what counts as a number, and that the expiry stays. */

#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define NOT_INTEGER "-" ERROR_NOT_INTEGER "\r\n"
#define OVERFLOW    "-ERR increment or decrement would overflow\r\n"

static void counting_starts_at_zero_and_crosses_every_width(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "INCR k", ":1\r\n");
    in_process_expect(server, "DECRBY k 2", ":-1\r\n");
    in_process_expect(server, "DECR k", ":-2\r\n");
    static const int64_t edges[] = {127, 32767, 2147483647, -128, -32768, -2147483648};
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), "SET k %ld", (long)edges[i]);
        in_process_run(server, line);
        int64_t step = edges[i] > 0 ? 1 : -1;
        assert_int_equal(in_process_integer(server, step > 0 ? "INCR k" : "DECR k"), edges[i] + step);
        assert_int_equal(in_process_integer(server, step > 0 ? "DECR k" : "INCR k"), edges[i]);
    }
}

static void sums_outside_64_bits_are_refused(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET high 9223372036854775807");
    in_process_run(server, "SET low -9223372036854775808");
    in_process_expect(server, "INCR high", OVERFLOW);
    in_process_expect(server, "DECR low", OVERFLOW);
    in_process_expect(server, "INCRBY low -1", OVERFLOW);
    in_process_expect(server, "DECRBY high -1", OVERFLOW);
    in_process_expect(server, "DECRBY high -9223372036854775808", "-ERR decrement would overflow\r\n");
    in_process_expect(server, "INCRBY low 9223372036854775807", ":-1\r\n");
    in_process_expect(server, "GET high", "$19\r\n9223372036854775807\r\n");
}

static void only_canonical_integers_count(void **state) {
    struct in_process *server = *state;
    static const char *const texts[] = {"", "1.0", " 1", "1 ", "01", "+1", "-0", "abc", "9223372036854775808"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        in_process_run_with_value(server, "SET", "k", span_of_text(texts[i]));
        in_process_expect(server, "INCR k", NOT_INTEGER);
        assert_string_equal(in_process_run_with_value(server, "INCRBY", "other", span_of_text(texts[i])), NOT_INTEGER);
    }
    /* Bytes that came together by APPEND are a number as well. */
    in_process_run(server, "SET k 12");
    in_process_run(server, "APPEND k 3");
    in_process_expect(server, "INCR k", ":124\r\n");
    in_process_expect(server, "INCR k", ":125\r\n");
}

static void floats_are_spelled_without_exponent_or_trailing_zeros(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "INCRBYFLOAT k 10.50", "$4\r\n10.5\r\n");
    in_process_expect(server, "INCRBYFLOAT k 0.1", "$4\r\n10.6\r\n");
    in_process_expect(server, "INCRBYFLOAT k -10.6", "$1\r\n0\r\n");
    in_process_expect(server, "INCRBYFLOAT k 5.0e3", "$4\r\n5000\r\n");
    in_process_expect(server, "INCR k", ":5001\r\n");
    in_process_expect(server, "INCRBYFLOAT k 200", "$4\r\n5201\r\n");
    in_process_run(server, "SET k 1e400");
    in_process_expect(server, "INCRBYFLOAT k inf", "-ERR increment would produce NaN or Infinity\r\n");
    in_process_expect(server, "INCRBYFLOAT k nan", "-" ERROR_NOT_FLOAT "\r\n");
    in_process_expect(server, "INCRBYFLOAT k \" 1\"", "-" ERROR_NOT_FLOAT "\r\n");
    in_process_run(server, "SET k abc");
    in_process_expect(server, "INCRBYFLOAT k 1", "-" ERROR_NOT_FLOAT "\r\n");
}

static void the_expiry_stays(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET k 99 PX 1000");
    in_process_expect(server, "INCRBY k 100000", ":100099\r\n");
    in_process_expect(server, "INCRBYFLOAT k 0.5", "$8\r\n100099.5\r\n");
    in_process_advance(server, 1000);
    in_process_expect(server, "INCR k", ":1\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counting_starts_at_zero_and_crosses_every_width, in_process_start_strings,
                                        in_process_stop),
        cmocka_unit_test_setup_teardown(sums_outside_64_bits_are_refused, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(only_canonical_integers_count, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(floats_are_spelled_without_exponent_or_trailing_zeros, in_process_start_strings,
                                        in_process_stop),
        cmocka_unit_test_setup_teardown(the_expiry_stays, in_process_start_strings, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
