/* Union, intersection, difference: weights, aggregates, sets among the sources, storing over a source. */

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

static int start_filled(void **state) {
    start(state);
    in_process_run(*state, "ZADD a 1 x 2 y 3 z");
    in_process_run(*state, "ZADD b 10 y 20 z 30 w");
    in_process_run(*state, "SADD s y v");
    in_process_run(*state, "SET text 1");
    return 0;
}

static void scores_are_put_together(void **state) {
    struct in_process *server = *state;
    in_process_expect(
        server, "ZUNION 2 a b WITHSCORES",
        "*8\r\n$1\r\nx\r\n$1\r\n1\r\n$1\r\ny\r\n$2\r\n12\r\n$1\r\nz\r\n$2\r\n23\r\n$1\r\nw\r\n$2\r\n30\r\n");
    in_process_expect(server, "ZINTER 2 a b WEIGHTS 2 0.5 AGGREGATE MAX WITHSCORES",
                      "*4\r\n$1\r\ny\r\n$1\r\n5\r\n$1\r\nz\r\n$2\r\n10\r\n");
    in_process_expect(server, "ZINTER 2 a b AGGREGATE MIN WITHSCORES",
                      "*4\r\n$1\r\ny\r\n$1\r\n2\r\n$1\r\nz\r\n$1\r\n3\r\n");
    in_process_expect(server, "ZINTER 2 a a WITHSCORES",
                      "*6\r\n$1\r\nx\r\n$1\r\n2\r\n$1\r\ny\r\n$1\r\n4\r\n$1\r\nz\r\n$1\r\n6\r\n");
    in_process_expect(server, "ZDIFF 2 a b WITHSCORES", "*2\r\n$1\r\nx\r\n$1\r\n1\r\n");
    in_process_expect(server, "ZDIFF 3 a none a", "*0\r\n");
    in_process_expect(server, "ZUNION 2 a a WEIGHTS inf -inf WITHSCORES",
                      "*6\r\n$1\r\nx\r\n$1\r\n0\r\n$1\r\ny\r\n$1\r\n0\r\n$1\r\nz\r\n$1\r\n0\r\n");
}

static void members_of_sets_have_the_score_1(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZUNION 2 a s WITHSCORES",
                      "*8\r\n$1\r\nv\r\n$1\r\n1\r\n$1\r\nx\r\n$1\r\n1\r\n$1\r\ny\r\n$1\r\n3\r\n$1\r\nz\r\n$1\r\n3\r\n");
    in_process_expect(server, "ZINTER 2 s a WEIGHTS 5 1 WITHSCORES", "*2\r\n$1\r\ny\r\n$1\r\n7\r\n");
    in_process_expect(server, "ZDIFF 2 s a", "*1\r\n$1\r\nv\r\n");
    in_process_expect(server, "ZDIFF 2 a s", "*2\r\n$1\r\nx\r\n$1\r\nz\r\n");
    in_process_expect(server, "ZUNIONSTORE s 1 s", ":2\r\n");
    in_process_expect(server, "ZSCORE s v", "$1\r\n1\r\n");
}

static void a_result_may_replace_one_of_its_sources(void **state) {
    struct in_process *server = *state;
    for (int round = 0; round < 2; round++) {
        in_process_expect(server, "ZUNIONSTORE r 2 a b", ":4\r\n");
        in_process_expect(server, "ZINTERSTORE r 2 r a", ":3\r\n");
        in_process_expect(server, "ZRANGE r 0 -1 WITHSCORES",
                          "*6\r\n$1\r\nx\r\n$1\r\n2\r\n$1\r\ny\r\n$2\r\n14\r\n$1\r\nz\r\n$2\r\n26\r\n");
        in_process_expect(server, "ZDIFFSTORE r 2 r r", ":0\r\n");
        in_process_expect(server, "SET r 1 NX", "+OK\r\n");
        server->keyspace->limits.sorted_set_packed_entries = 0;
    }
}

static void what_they_have_in_common_is_counted(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZINTERCARD 2 a b", ":2\r\n");
    in_process_expect(server, "ZINTERCARD 2 a b LIMIT 1", ":1\r\n");
    in_process_expect(server, "ZINTERCARD 2 a b LIMIT 0", ":2\r\n");
    in_process_expect(server, "ZINTERCARD 2 a none", ":0\r\n");
    in_process_expect(server, "ZINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative\r\n");
}

static void arguments_are_checked(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZUNION 0 a", "-ERR at least 1 input key is needed for 'zunion' command\r\n");
    in_process_expect(server, "ZUNION 3 a b", "-ERR syntax error\r\n");
    in_process_expect(server, "ZUNION 2 a text", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "ZUNION 1 a WEIGHTS x", "-ERR weight value is not a float\r\n");
    in_process_expect(server, "ZUNION 1 a WEIGHTS", "-ERR syntax error\r\n");
    in_process_expect(server, "ZUNION 1 a AGGREGATE avg", "-ERR syntax error\r\n");
    in_process_expect(server, "ZDIFF 1 a WEIGHTS 1", "-ERR syntax error\r\n");
    in_process_expect(server, "ZUNIONSTORE r 1 a WITHSCORES", "-ERR syntax error\r\n");
    in_process_expect(server, "ZINTERCARD 1 a WITHSCORES", "-ERR syntax error\r\n");
}

static void resp3_has_pairs(void **state) {
    struct in_process *server = *state;
    server->session->protocol = 3;
    in_process_expect(server, "ZDIFF 2 a b WITHSCORES", "*1\r\n*2\r\n$1\r\nx\r\n,1\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(scores_are_put_together, start_filled, in_process_stop),
        cmocka_unit_test_setup_teardown(members_of_sets_have_the_score_1, start_filled, in_process_stop),
        cmocka_unit_test_setup_teardown(a_result_may_replace_one_of_its_sources, start_filled, in_process_stop),
        cmocka_unit_test_setup_teardown(what_they_have_in_common_is_counted, start_filled, in_process_stop),
        cmocka_unit_test_setup_teardown(arguments_are_checked, start_filled, in_process_stop),
        cmocka_unit_test_setup_teardown(resp3_has_pairs, start_filled, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
