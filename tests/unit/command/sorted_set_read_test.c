/* Ranks with scores, random members (uniform, packed and big), and steps of ZSCAN. */

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

static void rank_tells_the_score_if_asked(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "ZADD k 1 a 2.5 b");
    in_process_expect(server, "ZRANK k b", ":1\r\n");
    in_process_expect(server, "ZREVRANK k b", ":0\r\n");
    in_process_expect(server, "ZRANK k b WITHSCORE", "*2\r\n:1\r\n$3\r\n2.5\r\n");
    in_process_expect(server, "ZRANK k x", "$-1\r\n");
    in_process_expect(server, "ZRANK k x WITHSCORE", "*-1\r\n");
    in_process_expect(server, "ZRANK k b WITHSCORES", "-ERR syntax error\r\n");
    server->session->protocol = 3;
    in_process_expect(server, "ZREVRANK k a WITHSCORE", "*2\r\n:1\r\n,1\r\n");
    in_process_expect(server, "ZRANK none a WITHSCORE", "_\r\n");
}

/* Lines of the reply that name members: "m<number>". */
static unsigned tally(const char *reply, unsigned *met, unsigned members) {
    unsigned count = 0;
    for (const char *at = strstr(reply, "\nm"); at; at = strstr(at + 1, "\nm"), count++) {
        unsigned number = (unsigned)strtoul(at + 2, NULL, 10);
        assert_true(number < members);
        met[number]++;
    }
    return count;
}

static void expect_uniform(const unsigned *met, unsigned members, unsigned draws) {
    double expected = (double)draws / members, sum = 0;
    for (unsigned i = 0; i < members; i++) sum += (met[i] - expected) * (met[i] - expected) / expected;
    assert_true(sum < members + 6 * 1.4142 * __builtin_sqrt(members));
}

/* Drawn with repetition; different ones, few of many; and most of them. */
static void random_members_are_uniform(void **state) {
    struct in_process *server = *state;
    for (unsigned round = 0; round < 2; round++) {
        enum { MEMBERS = 300, ROUNDS = 600 };
        unsigned repeated[MEMBERS] = {0}, few[MEMBERS] = {0}, most[MEMBERS] = {0};
        unsigned members = round ? MEMBERS : 100;
        char line[100];
        for (unsigned i = 0; i < members; i++) {
            snprintf(line, sizeof(line), "ZADD k%u %u m%u", round, i / 10, i);
            in_process_run(server, line);
        }
        for (unsigned i = 0; i < ROUNDS; i++) {
            snprintf(line, sizeof(line), "ZRANDMEMBER k%u -10", round);
            assert_int_equal(tally(in_process_run(server, line), repeated, members), 10);
            snprintf(line, sizeof(line), "ZRANDMEMBER k%u 10", round);
            assert_int_equal(tally(in_process_run(server, line), few, members), 10);
            snprintf(line, sizeof(line), "ZRANDMEMBER k%u %u", round, members - 10);
            assert_int_equal(tally(in_process_run(server, line), most, members), members - 10);
        }
        expect_uniform(repeated, members, ROUNDS * 10);
        expect_uniform(few, members, ROUNDS * 10);
        for (unsigned i = 0; i < members; i++) most[i] = ROUNDS - most[i];
        expect_uniform(most, members, ROUNDS * 10);
    }
}

static void different_members_are_different(void **state) {
    struct in_process *server = *state;
    for (unsigned i = 0; i < 300; i++) {
        char line[100];
        snprintf(line, sizeof(line), "ZADD k 1 m%u", i);
        in_process_run(server, line);
    }
    for (unsigned want = 0; want <= 300; want += 10) {
        char line[100];
        unsigned met[300] = {0};
        snprintf(line, sizeof(line), "ZRANDMEMBER k %u WITHSCORES", want);
        assert_int_equal(tally(in_process_run(server, line), met, 300), want);
        for (unsigned i = 0; i < 300; i++) assert_true(met[i] <= 1);
    }
}

static void counts_past_what_can_be_replied_are_refused(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZRANDMEMBER k", "$-1\r\n");
    in_process_expect(server, "ZRANDMEMBER k 1", "*0\r\n");
    in_process_run(server, "ZADD k 1 a");
    in_process_expect(server, "ZRANDMEMBER k 0", "*0\r\n");
    in_process_expect(server, "ZRANDMEMBER k -9223372036854775807", "-ERR value is out of range\r\n");
    in_process_expect(server, "ZRANDMEMBER k 1 x", "-ERR syntax error\r\n");
    in_process_expect(server, "ZRANDMEMBER k -2 WITHSCORES", "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\na\r\n$1\r\n1\r\n");
    server->session->protocol = 3;
    in_process_expect(server, "ZRANDMEMBER k 5 WITHSCORES", "*1\r\n*2\r\n$1\r\na\r\n,1\r\n");
}

/* Also when all scores are the same, where a step has to look for its members. */
static void scan_sees_every_member_once_while_nothing_changes(void **state) {
    struct in_process *server = *state;
    for (unsigned same = 0; same < 2; same++) {
        unsigned met[3000] = {0}, steps = 0, seen = 0;
        char line[100];
        for (unsigned i = 0; i < 3000; i++) {
            snprintf(line, sizeof(line), "ZADD k%u %u m%u", same, same ? 5 : i, i);
            in_process_run(server, line);
        }
        unsigned long cursor = 0;
        do {
            snprintf(line, sizeof(line), "ZSCAN k%u %lu COUNT 20", same, cursor);
            const char *reply = in_process_run(server, line);
            seen += tally(reply, met, 3000);
            cursor = strtoul(strchr(strchr(reply, '$'), '\n') + 1, NULL, 10);
            steps++;
        } while (cursor);
        assert_int_equal(seen, 3000);
        for (unsigned i = 0; i < 3000; i++) assert_int_equal(met[i], 1);
        assert_true(steps > 10);
    }
}

static void scan_checks_its_arguments(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "ZADD k 1 ab 2.5 b");
    in_process_expect(server, "ZSCAN k 0 MATCH a*", "*2\r\n$1\r\n0\r\n*2\r\n$2\r\nab\r\n$1\r\n1\r\n");
    in_process_expect(server, "ZSCAN k x", "-ERR invalid cursor\r\n");
    in_process_expect(server, "ZSCAN k 0 COUNT 0", "-ERR syntax error\r\n");
    in_process_expect(server, "ZSCAN k 0 MATCH", "-ERR syntax error\r\n");
    in_process_expect(server, "ZSCAN none 0 COUNT 0", "*2\r\n$1\r\n0\r\n*0\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rank_tells_the_score_if_asked, start, in_process_stop),
        cmocka_unit_test_setup_teardown(random_members_are_uniform, start, in_process_stop),
        cmocka_unit_test_setup_teardown(different_members_are_different, start, in_process_stop),
        cmocka_unit_test_setup_teardown(counts_past_what_can_be_replied_are_refused, start, in_process_stop),
        cmocka_unit_test_setup_teardown(scan_sees_every_member_once_while_nothing_changes, start, in_process_stop),
        cmocka_unit_test_setup_teardown(scan_checks_its_arguments, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
