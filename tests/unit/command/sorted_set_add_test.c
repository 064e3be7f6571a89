/* ZADD with its options, ZINCRBY, ZREM: conditions, replies, errors, events. */

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
    const struct command_family families[] = {{sorted_set_commands, sorted_set_command_count},
                                              {string_commands, string_command_count},
                                              {transaction_commands, transaction_command_count}};
    *state = in_process_create(families, 3);
    return 0;
}

static void options_decide_who_is_added_or_changed(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZADD k 1 a 2 b", ":2\r\n");
    in_process_expect(server, "ZADD k NX 5 a 3 c", ":1\r\n");
    in_process_expect(server, "ZSCORE k a", "$1\r\n1\r\n");
    in_process_expect(server, "ZADD k XX CH 5 a 3 d", ":1\r\n");
    in_process_expect(server, "ZADD k GT CH 4 a 9 b 1 e", ":2\r\n");
    in_process_expect(server, "ZMSCORE k a b e", "*3\r\n$1\r\n5\r\n$1\r\n9\r\n$1\r\n1\r\n");
    in_process_expect(server, "ZADD k LT CH 4 a 10 b", ":1\r\n");
    in_process_expect(server, "ZADD k CH 4 a", ":0\r\n");
    in_process_expect(server, "ZADD absent XX 1 a", ":0\r\n");
    in_process_expect(server, "ZCARD absent", ":0\r\n");
}

static void incr_replies_the_score_or_nothing(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZADD k INCR 2.5 a", "$3\r\n2.5\r\n");
    in_process_expect(server, "ZADD k GT INCR -1 a", "$-1\r\n");
    in_process_expect(server, "ZADD k XX INCR 1 b", "$-1\r\n");
    in_process_expect(server, "ZINCRBY k inf a", "$3\r\ninf\r\n");
    in_process_expect(server, "ZINCRBY k -inf a", "-ERR resulting score is not a number (NaN)\r\n");
    server->session->protocol = 3;
    in_process_expect(server, "ZINCRBY k 1.5 b", ",1.5\r\n");
    in_process_expect(server, "ZADD k NX INCR 1 b", "_\r\n");
}

static void nothing_changes_when_the_arguments_are_wrong(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZADD k 1 a x b", "-ERR value is not a valid float\r\n");
    in_process_expect(server, "ZADD k nan a", "-ERR value is not a valid float\r\n");
    in_process_expect(server, "ZADD k 1 a 2", "-ERR syntax error\r\n");
    in_process_expect(server, "ZADD k NX XX 1 a", "-ERR XX and NX options at the same time are not compatible\r\n");
    in_process_expect(server, "ZADD k GT LT 1 a",
                      "-ERR GT, LT, and/or NX options at the same time are not compatible\r\n");
    in_process_expect(server, "ZADD k INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair\r\n");
    in_process_expect(server, "ZCARD k", ":0\r\n");
    in_process_expect(server, "SET s 1", "+OK\r\n");
    in_process_expect(server, "ZADD s 1 a", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "ZREM s a", "-" ERROR_WRONG_TYPE "\r\n");
}

static void the_last_member_takes_the_key_with_it(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "ZADD k 1 a 2 b 3 c");
    in_process_expect(server, "ZREM k a x a", ":1\r\n");
    in_process_expect(server, "ZREM k c b c", ":2\r\n");
    in_process_expect(server, "ZREM k c", ":0\r\n");
    in_process_expect(server, "SET k 1 NX", "+OK\r\n");
}

struct heard {
    char text[1000];
};
static void hear(void *ctx, uint32_t class, const char *event, struct span key, uint32_t database) {
    struct heard *heard = ctx;
    size_t length = strlen(heard->text);
    (void)class;
    (void)database;
    snprintf(heard->text + length, sizeof(heard->text) - length, "%s %.*s,", event, (int)key.length, key.data);
}

static void events_tell_what_happened(void **state) {
    struct in_process *server = *state;
    struct heard heard = {""};
    server->host.ctx = &heard;
    server->host.notify = hear;
    atomic_store(&server->host.notify_flags, NOTIFY_GENERIC | NOTIFY_SORTED_SET | NOTIFY_KEYSPACE);
    in_process_run(server, "ZADD k 1 a 2 b 3 c 4 d 5 e");
    in_process_run(server, "ZADD k 1 a");
    in_process_run(server, "ZINCRBY k 1 a");
    in_process_run(server, "ZREM k a");
    in_process_run(server, "ZPOPMIN k 1");
    in_process_run(server, "ZRANGESTORE r k 0 0");
    in_process_run(server, "ZRANGESTORE r k 9 9");
    in_process_run(server, "ZUNIONSTORE u 1 k");
    in_process_run(server, "ZREMRANGEBYSCORE k 3 3");
    in_process_run(server, "ZREMRANGEBYRANK k 0 9");
    in_process_run(server, "ZPOPMAX u 9");
    assert_string_equal(heard.text, "zadd k,zincr k,zrem k,zpopmin k,zrangestore r,del r,zunionstore u,"
                                    "zremrangebyscore k,zremrangebyrank k,del k,zpopmax u,del u,");
    server->host.notify = NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(options_decide_who_is_added_or_changed, start, in_process_stop),
        cmocka_unit_test_setup_teardown(incr_replies_the_score_or_nothing, start, in_process_stop),
        cmocka_unit_test_setup_teardown(nothing_changes_when_the_arguments_are_wrong, start, in_process_stop),
        cmocka_unit_test_setup_teardown(the_last_member_takes_the_key_with_it, start, in_process_stop),
        cmocka_unit_test_setup_teardown(events_tell_what_happened, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
