/* LCS: its three kinds of reply, its options and its errors. What is computed is record/lcs's own test. */

#include "command/families.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count}};
    struct in_process *server = in_process_create(families, 1);
    in_process_run(server, "MSET a ohmytext b mynewtext number 123456");
    *state = server;
    return 0;
}

static void the_text_or_its_length_is_replied(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "LCS a b", "$6\r\nmytext\r\n");
    in_process_expect(server, "LCS a b LEN", ":6\r\n");
    in_process_expect(server, "LCS a absent", "$0\r\n\r\n");
    in_process_expect(server, "LCS absent absent LEN", ":0\r\n");
    in_process_expect(server, "LCS number number", "$6\r\n123456\r\n");
}

static void matches_are_listed_from_the_end(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "LCS a b IDX",
                      "*4\r\n$7\r\nmatches\r\n*2\r\n*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n"
                      "*2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n$3\r\nlen\r\n:6\r\n");
    in_process_expect(
        server, "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
        "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n");
    in_process_run(server, "LCS a b IDX MINMATCHLEN -5");
    assert_memory_equal(server->reply, "*4\r\n$7\r\nmatches\r\n*2\r\n", 21);
    in_process_expect(server, "LCS a absent IDX MINMATCHLEN -5", "*4\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n");
    server->session->protocol = 3;
    in_process_expect(server, "LCS a absent IDX", "%2\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:0\r\n");
}

static void options_are_checked(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "LCS a b LEN IDX",
                      "-ERR If you want both the length and indexes, please just use IDX.\r\n");
    in_process_expect(server, "LCS a b MINMATCHLEN", "-ERR syntax error\r\n");
    in_process_expect(server, "LCS a b what", "-ERR syntax error\r\n");
    in_process_expect(server, "LCS a b MINMATCHLEN x", "-" ERROR_NOT_INTEGER "\r\n");
    atomic_store(&server->host.bulk_bytes_max, 100);
    in_process_expect(server, "LCS a b",
                      "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_text_or_its_length_is_replied, start, in_process_stop),
        cmocka_unit_test_setup_teardown(matches_are_listed_from_the_end, start, in_process_stop),
        cmocka_unit_test_setup_teardown(options_are_checked, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
