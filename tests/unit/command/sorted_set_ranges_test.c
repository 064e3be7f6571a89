/* Ranges by rank, score and member, their options and errors; packed and big alike. */

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

#define NOT_FLOAT "-ERR min or max is not a float\r\n"
#define NOT_ITEM  "-ERR min or max not valid string range item\r\n"

/* Packed at first, then big. */
static void with_both(struct in_process *server, void (*check)(struct in_process *server)) {
    in_process_run(server, "ZADD k 1 a 2 b 3 c 4 d");
    in_process_run(server, "ZADD l 0 a 0 b 0 c 0 d");
    check(server);
    server->keyspace->limits.sorted_set_packed_entries = 0;
    in_process_run(server, "ZADD k 0 x");
    in_process_run(server, "ZREM k x");
    in_process_run(server, "ZADD l 0 x");
    in_process_run(server, "ZREM l x");
    check(server);
}

static void check_ranks(struct in_process *server) {
    in_process_expect(server, "ZRANGE k 1 2", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
    in_process_expect(server, "ZRANGE k -2 -1 REV WITHSCORES", "*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\na\r\n$1\r\n1\r\n");
    in_process_expect(server, "ZREVRANGE k 0 0", "*1\r\n$1\r\nd\r\n");
    in_process_expect(server, "ZRANGE k 4 9", "*0\r\n");
    in_process_expect(server, "ZRANGE k 2 1", "*0\r\n");
    in_process_expect(server, "ZRANGE k 0 1 LIMIT 0 1",
                      "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX\r\n");
    in_process_expect(server, "ZRANGE k 0 x", "-" ERROR_NOT_INTEGER "\r\n");
}
static void ranks_count_from_either_end(void **state) {
    with_both(*state, check_ranks);
}

static void check_scores(struct in_process *server) {
    in_process_expect(server, "ZRANGEBYSCORE k (1 3", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
    in_process_expect(server, "ZRANGEBYSCORE k -inf +inf LIMIT 1 2", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
    in_process_expect(server, "ZREVRANGEBYSCORE k +inf -inf LIMIT 1 1", "*1\r\n$1\r\nc\r\n");
    in_process_expect(server, "ZRANGE k 9 (3 BYSCORE REV", "*1\r\n$1\r\nd\r\n");
    in_process_expect(server, "ZRANGEBYSCORE k 0 9 LIMIT 0 -1 WITHSCORES",
                      "*8\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3\r\n$1\r\nd\r\n$1\r\n4\r\n");
    in_process_expect(server, "ZRANGEBYSCORE k 0 9 LIMIT -1 2", "*0\r\n");
    in_process_expect(server, "ZCOUNT k 2 (4", ":2\r\n");
    in_process_expect(server, "ZCOUNT k 3 2", ":0\r\n");
    in_process_expect(server, "ZCOUNT k (2 2", ":0\r\n");
    in_process_expect(server, "ZCOUNT k nan 2", NOT_FLOAT);
    in_process_expect(server, "ZCOUNT k 1 2x", NOT_FLOAT);
}
static void ranges_of_scores_are_open_or_closed(void **state) {
    with_both(*state, check_scores);
}

static void check_members(struct in_process *server) {
    in_process_expect(server, "ZRANGEBYLEX l [b (d", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
    in_process_expect(server, "ZRANGEBYLEX l - +  LIMIT 3 5", "*1\r\n$1\r\nd\r\n");
    in_process_expect(server, "ZREVRANGEBYLEX l + (b", "*2\r\n$1\r\nd\r\n$1\r\nc\r\n");
    in_process_expect(server, "ZRANGE l (c - BYLEX REV", "*2\r\n$1\r\nb\r\n$1\r\na\r\n");
    in_process_expect(server, "ZLEXCOUNT l - +", ":4\r\n");
    in_process_expect(server, "ZLEXCOUNT l + -", ":0\r\n");
    in_process_expect(server, "ZLEXCOUNT l [b [b", ":1\r\n");
    in_process_expect(server, "ZLEXCOUNT l b +", NOT_ITEM);
    in_process_expect(server, "ZRANGE l - + BYLEX WITHSCORES",
                      "-ERR syntax error, WITHSCORES not supported in combination with BYLEX\r\n");
}
static void ranges_of_members_are_open_or_closed(void **state) {
    with_both(*state, check_members);
}

static void check_stored(struct in_process *server) {
    in_process_run(server, "SET t text");
    in_process_expect(server, "ZRANGESTORE t k 1 2", ":2\r\n");
    in_process_expect(server, "ZRANGE t 0 -1 WITHSCORES", "*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3\r\n");
    in_process_expect(server, "ZRANGESTORE t t -inf 2 BYSCORE", ":1\r\n");
    in_process_expect(server, "ZRANGESTORE t k 9 9", ":0\r\n");
    in_process_expect(server, "GET t", "$-1\r\n");
    in_process_expect(server, "ZRANGESTORE t k 0 1 WITHSCORES", "-ERR syntax error\r\n");
}
static void a_range_is_stored(void **state) {
    with_both(*state, check_stored);
}

static void ranges_are_removed(void **state) {
    struct in_process *server = *state;
    for (int round = 0; round < 2; round++) {
        in_process_run(server, "ZADD k 1 a 2 b 3 c 4 d 5 e");
        in_process_expect(server, "ZREMRANGEBYRANK k 0 0", ":1\r\n");
        in_process_expect(server, "ZREMRANGEBYSCORE k (2 3", ":1\r\n");
        in_process_expect(server, "ZREMRANGEBYSCORE k 9 10", ":0\r\n");
        in_process_expect(server, "ZRANGE k 0 -1", "*3\r\n$1\r\nb\r\n$1\r\nd\r\n$1\r\ne\r\n");
        in_process_expect(server, "ZREMRANGEBYRANK k -1 -1", ":1\r\n");
        in_process_expect(server, "ZREMRANGEBYLEX k - +", ":2\r\n");
        in_process_expect(server, "ZCARD k", ":0\r\n");
        server->keyspace->limits.sorted_set_packed_entries = 0;
    }
}

static void resp3_has_pairs(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "ZADD k 1.5 a");
    server->session->protocol = 3;
    in_process_expect(server, "ZRANGE k 0 -1 WITHSCORES", "*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n");
    in_process_expect(server, "ZRANGE k 0 -1", "*1\r\n$1\r\na\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ranks_count_from_either_end, start, in_process_stop),
        cmocka_unit_test_setup_teardown(ranges_of_scores_are_open_or_closed, start, in_process_stop),
        cmocka_unit_test_setup_teardown(ranges_of_members_are_open_or_closed, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_range_is_stored, start, in_process_stop),
        cmocka_unit_test_setup_teardown(ranges_are_removed, start, in_process_stop),
        cmocka_unit_test_setup_teardown(resp3_has_pairs, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
