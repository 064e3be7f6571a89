/* One set: members added, removed, moved, looked for, walked through; on packed and on big sets. */

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
    const struct command_family families[] = {{set_commands, set_command_count},
                                              {key_commands, key_command_count},
                                              {object_commands, object_command_count},
                                              {string_commands, string_command_count}};
    *state = in_process_create(families, 4);
    return 0;
}

/* The same with sets that are big from the third member on. */
static int start_small(void **state) {
    start(state);
    struct in_process *server = *state;
    server->keyspace->limits.set_intset_entries = server->keyspace->limits.set_packed_entries = 2;
    return 0;
}

/* What was told: "event:key " for each. */
static char told[1024];

static void hear(void *ctx, uint32_t class, const char *event, struct span key, uint32_t database) {
    (void)ctx;
    (void)class;
    (void)database;
    size_t length = strlen(told);
    snprintf(told + length, sizeof(told) - length, "%s:%.*s ", event, (int)key.length, key.data);
}

static void listen_to(struct in_process *server) {
    told[0] = '\0';
    server->host.notify = hear;
    atomic_store(&server->host.notify_flags, UINT32_MAX);
}

static void members_are_added_once(void **state) {
    struct in_process *server = *state;
    listen_to(server);
    in_process_expect(server, "SADD k 3 a 3 b", ":3\r\n");
    in_process_expect(server, "SADD k a b 03", ":1\r\n");
    in_process_expect(server, "SADD k a", ":0\r\n");
    in_process_expect(server, "SCARD k", ":4\r\n");
    in_process_expect(server, "SISMEMBER k 03", ":1\r\n");
    in_process_expect(server, "SMISMEMBER k a none 3 4", "*4\r\n:1\r\n:0\r\n:1\r\n:0\r\n");
    in_process_expect(server, "SMISMEMBER none a", "*1\r\n:0\r\n");
    assert_string_equal(told, "sadd:k sadd:k ");
}

static void a_set_without_members_goes(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SADD k a b c d");
    listen_to(server);
    in_process_expect(server, "SREM k a none a", ":1\r\n");
    in_process_expect(server, "SREM k none", ":0\r\n");
    in_process_expect(server, "SREM k b c d a", ":3\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
    in_process_expect(server, "SREM k a", ":0\r\n");
    assert_string_equal(told, "srem:k srem:k del:k ");
}

static void a_member_moves(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SADD a 1 2 x");
    in_process_run(server, "SADD b 2 3 y");
    listen_to(server);
    in_process_expect(server, "SMOVE a b x", ":1\r\n");
    in_process_expect(server, "SMOVE a b 2", ":1\r\n");
    in_process_expect(server, "SMOVE a b none", ":0\r\n");
    in_process_expect(server, "SMOVE a a 1", ":1\r\n");
    in_process_expect(server, "SMOVE none b 1", ":0\r\n");
    in_process_expect(server, "SMOVE a new 1", ":1\r\n");
    in_process_expect(server, "EXISTS a", ":0\r\n");
    in_process_expect(server, "SMEMBERS new", "*1\r\n$1\r\n1\r\n");
    in_process_expect(server, "SCARD b", ":4\r\n");
    assert_string_equal(told, "srem:a sadd:b srem:a srem:a del:a sadd:new ");
    in_process_run(server, "SET t text");
    in_process_expect(server, "SMOVE b t 2", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "SMOVE none t 2", ":0\r\n");
    in_process_expect(server, "SISMEMBER b 2", ":1\r\n");
}

static void encodings_follow_the_limits(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SADD k 1");
    in_process_expect(server, "OBJECT ENCODING k", "$6\r\nintset\r\n");
    in_process_run(server, "SADD k a");
    in_process_expect(server, "OBJECT ENCODING k", "$8\r\nlistpack\r\n");
    in_process_run(server, "SADD k aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    in_process_expect(server, "OBJECT ENCODING k", "$9\r\nhashtable\r\n");
    server->session->protocol = 3;
    assert_memory_equal(in_process_run(server, "SMEMBERS k"), "~3\r\n", 4);
}

static void a_scan_meets_every_member(void **state) {
    struct in_process *server = *state;
    enum { MEMBERS = 600 };
    static char seen[MEMBERS];
    char line[64];
    memset(seen, 0, sizeof(seen));
    for (int i = 0; i < MEMBERS; i++) {
        snprintf(line, sizeof(line), "SADD k m%d", i);
        in_process_run(server, line);
    }
    unsigned long long cursor = 0;
    int steps = 0;
    do {
        snprintf(line, sizeof(line), "SSCAN k %llu COUNT 50", cursor);
        const char *at = in_process_run(server, line);
        int member, used;
        at = strstr(at, "\r\n") + 2;
        at = strstr(at, "\r\n") + 2;
        cursor = strtoull(at, NULL, 10);
        at = strstr(at, "\r\n") + 2;
        at = strstr(at, "\r\n") + 2;
        for (; sscanf(at, "$%*d\r\nm%d\r\n%n", &member, &used) == 1; at += used) seen[member] = 1;
    } while (cursor && ++steps < MEMBERS);
    assert_int_equal(cursor, 0);
    for (int i = 0; i < MEMBERS; i++) assert_true(seen[i]);
    in_process_expect(server, "SSCAN k 0 MATCH m5 COUNT 1000", "*2\r\n$1\r\n0\r\n*1\r\n$2\r\nm5\r\n");
    in_process_expect(server, "SSCAN k 0 NOVALUES", "-" ERROR_SYNTAX "\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(members_are_added_once, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_set_without_members_goes, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_member_moves, start, in_process_stop),
        cmocka_unit_test_setup_teardown(encodings_follow_the_limits, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_scan_meets_every_member, start, in_process_stop),
        {"members_are_added_once, big", members_are_added_once, start_small, in_process_stop, NULL},
        {"a_set_without_members_goes, big", a_set_without_members_goes, start_small, in_process_stop, NULL},
        {"a_member_moves, big", a_member_moves, start_small, in_process_stop, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
