/* Taking members from either end: forms of replies, the first set that has any, what EXEC does with what would wait. */

#include "command/families.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static int start(void **state) {
    const struct command_family families[] = {{sorted_set_commands, sorted_set_command_count},
                                              {set_commands, set_command_count},
                                              {string_commands, string_command_count},
                                              {transaction_commands, transaction_command_count}};
    *state = in_process_create(families, 4);
    return 0;
}

static void members_are_taken_from_either_end(void **state) {
    struct in_process *server = *state;
    for (int round = 0; round < 2; round++) {
        in_process_run(server, "ZADD k 1 a 2 b 3 c 4 d 5 e");
        in_process_expect(server, "ZPOPMIN k", "*2\r\n$1\r\na\r\n$1\r\n1\r\n");
        in_process_expect(server, "ZPOPMAX k 2", "*4\r\n$1\r\ne\r\n$1\r\n5\r\n$1\r\nd\r\n$1\r\n4\r\n");
        in_process_expect(server, "ZPOPMIN k 0", "*0\r\n");
        in_process_expect(server, "ZPOPMIN k 10", "*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3\r\n");
        in_process_expect(server, "ZPOPMIN k", "*0\r\n");
        server->keyspace->limits.sorted_set_packed_entries = 0;
    }
    in_process_expect(server, "ZPOPMIN k -1", "-ERR value is out of range, must be positive\r\n");
    in_process_expect(server, "ZPOPMIN k 1 2", "-ERR syntax error\r\n");
}

static void resp3_nests_when_a_count_is_given(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "ZADD k 1 a 2 b 3 c");
    server->session->protocol = 3;
    in_process_expect(server, "ZPOPMIN k", "*2\r\n$1\r\na\r\n,1\r\n");
    in_process_expect(server, "ZPOPMIN k 1", "*1\r\n*2\r\n$1\r\nb\r\n,2\r\n");
}

static void the_first_set_with_members_gives_them(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "ZADD k 1 a 2 b 3 c");
    in_process_expect(server, "ZMPOP 2 none k MIN", "*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    in_process_expect(server, "ZMPOP 2 none k MAX COUNT 5",
                      "*2\r\n$1\r\nk\r\n*2\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n");
    in_process_expect(server, "ZMPOP 2 none k MAX", "*-1\r\n");
    in_process_run(server, "SET s 1");
    in_process_run(server, "ZADD k 1 a 2 b");
    in_process_expect(server, "ZMPOP 2 s k MIN", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "BZPOPMIN none k 0", "*3\r\n$1\r\nk\r\n$1\r\na\r\n$1\r\n1\r\n");
    in_process_expect(server, "BZMPOP 0 1 k MAX", "*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n");
    in_process_expect(server, "BZPOPMAX s k 0", "-" ERROR_WRONG_TYPE "\r\n");
}

static void arguments_are_checked(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZMPOP 0 k MIN", "-ERR numkeys should be greater than 0\r\n");
    in_process_expect(server, "ZMPOP 2 k MIN", "-ERR syntax error\r\n");
    in_process_expect(server, "ZMPOP 1 k MID", "-ERR syntax error\r\n");
    in_process_expect(server, "ZMPOP 1 k MIN COUNT 0", "-ERR count should be greater than 0\r\n");
    in_process_expect(server, "ZMPOP 1 k MIN COUNT 1 COUNT 1", "-ERR syntax error\r\n");
    in_process_expect(server, "BZPOPMIN k x", "-ERR timeout is not a float or out of range\r\n");
    in_process_expect(server, "BZPOPMIN k -1", "-ERR timeout is negative\r\n");
}

static void nothing_waits_inside_a_transaction(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "MULTI");
    in_process_run(server, "BZPOPMIN k 0");
    in_process_run(server, "BZMPOP 0 1 k MIN");
    in_process_expect(server, "EXEC", "*2\r\n*-1\r\n*-1\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(members_are_taken_from_either_end, start, in_process_stop),
        cmocka_unit_test_setup_teardown(resp3_nests_when_a_count_is_given, start, in_process_stop),
        cmocka_unit_test_setup_teardown(the_first_set_with_members_gives_them, start, in_process_stop),
        cmocka_unit_test_setup_teardown(arguments_are_checked, start, in_process_stop),
        cmocka_unit_test_setup_teardown(nothing_waits_inside_a_transaction, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
