/* Lists: what the oracle cannot compare (events, encodings) and the corners worth naming. The pops and moves are here
 * too: they share the fixture that notes events. */

#include "command/families.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static char events[1024];

static void note_event(void *ctx, uint32_t class, const char *event, struct span key, uint32_t database) {
    size_t used = strlen(events);
    (void)ctx;
    assert_int_equal(database, 0);
    snprintf(events + used, sizeof(events) - used, "%s%s %.*s", class == NOTIFY_LIST ? "" : "*", event, (int)key.length,
             key.data);
    snprintf(events + strlen(events), sizeof(events) - strlen(events), ";");
}

static int start(void **state) {
    const struct command_family families[] = {{list_commands, list_command_count},
                                              {string_commands, string_command_count},
                                              {key_commands, key_command_count},
                                              {object_commands, object_command_count},
                                              {transaction_commands, transaction_command_count}};
    struct in_process *server = in_process_create(families, sizeof(families) / sizeof(families[0]));
    server->host.notify = note_event;
    atomic_store(&server->host.notify_flags, NOTIFY_LIST | NOTIFY_GENERIC);
    events[0] = '\0';
    *state = server;
    return 0;
}

#define WRONG_TYPE "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"

static void expect_events(struct in_process *server, const char *line, const char *expected) {
    events[0] = '\0';
    in_process_run(server, line);
    if (strcmp(events, expected) != 0) fail_msg("%s: told %s instead of %s", line, events, expected);
}

static void each_effect_is_told_in_order(void **state) {
    struct in_process *server = *state;
    expect_events(server, "LPUSH l a b c", "lpush l;");
    expect_events(server, "RPUSHX l d e f", "rpush l;");
    expect_events(server, "LPUSHX none d", "");
    expect_events(server, "LINSERT l BEFORE a x", "linsert l;");
    expect_events(server, "LINSERT l BEFORE nowhere x", "");
    expect_events(server, "LSET l 0 C", "lset l;");
    expect_events(server, "LREM l 0 x", "lrem l;");
    expect_events(server, "LREM l 0 x", "");
    expect_events(server, "LTRIM l 0 -2", "ltrim l;");
    expect_events(server, "LPOP l", "lpop l;");
    expect_events(server, "LMOVE l m RIGHT LEFT", "lpush m;rpop l;");
    expect_events(server, "RPOP m", "rpop m;*del m;");
    expect_events(server, "LPOP l 0", "");
    expect_events(server, "LMPOP 2 none l LEFT COUNT 9", "lpop l;*del l;");
    expect_events(server, "RPUSH l a", "rpush l;");
    expect_events(server, "RPOPLPUSH l l", "lpush l;rpop l;");
    expect_events(server, "LMOVE l m LEFT LEFT", "lpush m;lpop l;*del l;");
    expect_events(server, "LTRIM m 1 0", "ltrim m;*del m;");
}

static void pops_reply_in_their_forms(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "RPUSH l a 2 c d e f");
    in_process_expect(server, "LPOP l", "$1\r\na\r\n");
    in_process_expect(server, "RPOP l 2", "*2\r\n$1\r\nf\r\n$1\r\ne\r\n");
    in_process_expect(server, "BRPOP none l 0", "*2\r\n$1\r\nl\r\n$1\r\nd\r\n");
    in_process_expect(server, "LMPOP 1 l LEFT", "*2\r\n$1\r\nl\r\n*1\r\n$1\r\n2\r\n");
    in_process_expect(server, "BLMPOP 0 2 none l RIGHT COUNT 5", "*2\r\n$1\r\nl\r\n*1\r\n$1\r\nc\r\n");
    in_process_expect(server, "EXISTS l", ":0\r\n");
    in_process_expect(server, "LPOP l", "$-1\r\n");
    in_process_expect(server, "LPOP l 1", "*-1\r\n");
    in_process_expect(server, "LMPOP 1 l LEFT", "*-1\r\n");
    in_process_expect(server, "LPOP l 1 1", "-ERR wrong number of arguments for 'lpop' command\r\n");
    in_process_expect(server, "LPOP l -1", "-ERR value is out of range, must be positive\r\n");
}

static void what_would_wait_does_not_inside_exec(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "MULTI");
    in_process_run(server, "BLPOP l 0");
    in_process_run(server, "BLMOVE l m LEFT LEFT 0");
    in_process_run(server, "BRPOPLPUSH l m 0");
    in_process_run(server, "BLMPOP 0 1 l LEFT");
    in_process_expect(server, "EXEC", "*4\r\n*-1\r\n$-1\r\n$-1\r\n*-1\r\n");
}

static void a_move_looks_at_the_source_first(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET s text");
    in_process_expect(server, "LMOVE none s LEFT LEFT", "$-1\r\n");
    in_process_run(server, "RPUSH l a b");
    in_process_expect(server, "LMOVE l s LEFT LEFT", WRONG_TYPE);
    in_process_expect(server, "LMOVE s l LEFT LEFT", WRONG_TYPE);
    in_process_expect(server, "LRANGE l 0 -1", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    in_process_expect(server, "LMOVE l l LEFT RIGHT", "$1\r\na\r\n");
    in_process_expect(server, "LRANGE l 0 -1", "*2\r\n$1\r\nb\r\n$1\r\na\r\n");
}

static void lpos_counts_ranks_from_either_end(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "RPUSH l a b c 1 2 3 c c");
    in_process_expect(server, "LPOS l c", ":2\r\n");
    in_process_expect(server, "LPOS l c RANK -1", ":7\r\n");
    in_process_expect(server, "LPOS l c RANK -1 COUNT 2", "*2\r\n:7\r\n:6\r\n");
    in_process_expect(server, "LPOS l c COUNT 0 MAXLEN 7", "*2\r\n:2\r\n:6\r\n");
    in_process_expect(server, "LPOS l c RANK 4", "$-1\r\n");
    in_process_expect(server, "LPOS none c COUNT 0", "*0\r\n");
    in_process_expect(server, "LPOS l c RANK -9223372036854775808",
                      "-ERR value is out of range, value must between -9223372036854775807 and "
                      "9223372036854775807\r\n");
    in_process_expect(server, "LPOS l c RANK 0",
                      "-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use "
                      "negative to start from the end of the list\r\n");
}

/* The same commands on a list that has become big: each changes a model beside it. */
static void a_big_list_is_as_a_small_one(void **state) {
    struct in_process *server = *state;
    enum { ELEMENTS = 3000 };
    char line[64], expected[64];
    server->keyspace->limits.list_packed_size = 16;
    for (int i = 0; i < ELEMENTS; i++) {
        snprintf(line, sizeof(line), "%s l element:%d", i % 2 ? "RPUSH" : "LPUSH", i);
        assert_int_equal(in_process_integer(server, line), i + 1);
        if (i == 15) in_process_expect(server, "OBJECT ENCODING l", "$8\r\nlistpack\r\n");
    }
    in_process_expect(server, "OBJECT ENCODING l", "$9\r\nquicklist\r\n");
    for (int i = 0; i < ELEMENTS; i += 7) {
        int element = i < ELEMENTS / 2 ? ELEMENTS - 2 - 2 * i : 2 * (i - ELEMENTS / 2) + 1;
        snprintf(line, sizeof(line), "LINDEX l %d", i);
        snprintf(expected, sizeof(expected), "element:%d", element);
        struct span found = in_process_bulk(server, line);
        assert_int_equal(found.length, strlen(expected));
        assert_memory_equal(found.data, expected, found.length);
    }
    assert_int_equal(in_process_integer(server, "LPOS l element:2999"), ELEMENTS - 1);
    assert_int_equal(in_process_integer(server, "LINSERT l AFTER element:0 middle"), ELEMENTS + 1);
    assert_int_equal(in_process_integer(server, "LPOS l middle"), ELEMENTS / 2);
    assert_int_equal(in_process_integer(server, "LREM l 0 middle"), 1);
    in_process_expect(server, "LTRIM l 1000 1009", "+OK\r\n");
    assert_int_equal(in_process_integer(server, "LLEN l"), 10);
    in_process_expect(server, "LMPOP 1 l RIGHT COUNT 2",
                      "*2\r\n$1\r\nl\r\n*2\r\n$11\r\nelement:980\r\n$11\r\nelement:982\r\n");
    in_process_run(server, "LPOP l 8");
    in_process_expect(server, "EXISTS l", ":0\r\n");
}

static void keys_stay_as_they_are_after_a_refusal(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET s text");
    in_process_expect(server, "LPUSH s a", WRONG_TYPE);
    in_process_expect(server, "LINSERT s BETWEEN a b", "-ERR syntax error\r\n");
    in_process_expect(server, "BLPOP s 0", WRONG_TYPE);
    in_process_expect(server, "LSET none 0 x", "-ERR no such key\r\n");
    in_process_expect(server, "LINDEX none x", "$-1\r\n");
    in_process_run(server, "RPUSH l a");
    in_process_expect(server, "LSET l 1 x", "-ERR index out of range\r\n");
    in_process_expect(server, "LINDEX l x", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(server, "LMPOP 0 l LEFT", "-ERR numkeys should be greater than 0\r\n");
    in_process_expect(server, "LMPOP 1 l LEFT COUNT 0", "-ERR count should be greater than 0\r\n");
    in_process_expect(server, "LMPOP 2 l LEFT", "-ERR syntax error\r\n");
    in_process_expect(server, "LRANGE l 0 -1", "*1\r\n$1\r\na\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_effect_is_told_in_order, start, in_process_stop),
        cmocka_unit_test_setup_teardown(pops_reply_in_their_forms, start, in_process_stop),
        cmocka_unit_test_setup_teardown(what_would_wait_does_not_inside_exec, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_move_looks_at_the_source_first, start, in_process_stop),
        cmocka_unit_test_setup_teardown(lpos_counts_ranks_from_either_end, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_big_list_is_as_a_small_one, start, in_process_stop),
        cmocka_unit_test_setup_teardown(keys_stay_as_they_are_after_a_refusal, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
