/* HSET, HSETNX, HDEL, HINCRBY and their like, on packed and on big hashes. */

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
    const struct command_family families[] = {{hash_commands, hash_command_count},
                                              {key_commands, key_command_count},
                                              {object_commands, object_command_count},
                                              {string_commands, string_command_count}};
    *state = in_process_create(families, sizeof(families) / sizeof(families[0]));
    return 0;
}

/* The same with hashes that are big from the third field on. */
static int start_small(void **state) {
    start(state);
    struct in_process *server = *state;
    server->keyspace->limits.hash_packed_entries = 2;
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

static void hset_counts_new_fields(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "HSET k a 1 b 2", ":2\r\n");
    in_process_expect(server, "HSET k a 3 c 4 d 5 c 6", ":2\r\n");
    in_process_expect(server, "HMGET k a b c d none", "*5\r\n$1\r\n3\r\n$1\r\n2\r\n$1\r\n6\r\n$1\r\n5\r\n$-1\r\n");
    in_process_expect(server, "HMSET k e 7", "+OK\r\n");
    in_process_expect(server, "HLEN k", ":5\r\n");
}

static void a_pair_that_is_not_whole_is_refused(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "HSET k a 1 b", "-ERR wrong number of arguments for 'hset' command\r\n");
    in_process_expect(server, "HMSET k a 1 b", "-ERR wrong number of arguments for 'hmset' command\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
}

static void hsetnx_sets_once(void **state) {
    struct in_process *server = *state;
    listen_to(server);
    in_process_expect(server, "HSETNX k a 1", ":1\r\n");
    in_process_expect(server, "HSETNX k a 2", ":0\r\n");
    in_process_expect(server, "HGET k a", "$1\r\n1\r\n");
    assert_string_equal(told, "hset:k ");
}

static void hdel_removes_the_key_with_its_last_field(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3 d 4");
    listen_to(server);
    in_process_expect(server, "HDEL k a none a", ":1\r\n");
    in_process_expect(server, "HDEL k none", ":0\r\n");
    in_process_expect(server, "HDEL k d c b a", ":3\r\n");
    in_process_expect(server, "HDEL k d", ":0\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
    assert_string_equal(told, "hdel:k hdel:k del:k ");
}

static void numbers_are_added(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k x 1 y 2 z 3");
    listen_to(server);
    in_process_expect(server, "HINCRBY k a 5", ":5\r\n");
    in_process_expect(server, "HINCRBY k a -7", ":-2\r\n");
    in_process_expect(server, "HINCRBY k a 1000000", ":999998\r\n");
    in_process_expect(server, "HINCRBYFLOAT k a 0.5", "$8\r\n999998.5\r\n");
    in_process_expect(server, "HINCRBYFLOAT k f 3.0e3", "$4\r\n3000\r\n");
    in_process_expect(server, "HGET k f", "$4\r\n3000\r\n");
    assert_string_equal(told, "hincrby:k hincrby:k hincrby:k hincrbyfloat:k hincrbyfloat:k ");
}

static void what_is_no_number_is_refused(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k t text m 9223372036854775807 z 3");
    in_process_expect(server, "HINCRBY k t 1", "-ERR hash value is not an integer\r\n");
    in_process_expect(server, "HINCRBY k z 1.5", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(server, "HINCRBY k m 1", "-ERR increment or decrement would overflow\r\n");
    in_process_expect(server, "HINCRBYFLOAT k t 1", "-ERR hash value is not a float\r\n");
    in_process_expect(server, "HINCRBYFLOAT k z x", "-ERR value is not a valid float\r\n");
    in_process_expect(server, "HINCRBYFLOAT k z inf", "-ERR value is NaN or Infinity\r\n");
    in_process_expect(server, "HMGET k t m z", "*3\r\n$4\r\ntext\r\n$19\r\n9223372036854775807\r\n$1\r\n3\r\n");
}

static void other_types_are_refused(void **state) {
    struct in_process *server = *state;
    static const char *const commands[] = {"HSET k a 1",
                                           "HSETNX k a 1",
                                           "HDEL k a",
                                           "HGET k a",
                                           "HMGET k a",
                                           "HGETALL k",
                                           "HLEN k",
                                           "HINCRBY k a 1",
                                           "HINCRBYFLOAT k a 1",
                                           "HSCAN k 0",
                                           "HRANDFIELD k",
                                           "HEXPIRE k 1 FIELDS 1 a",
                                           "HTTL k FIELDS 1 a",
                                           "HGETDEL k FIELDS 1 a",
                                           "HGETEX k FIELDS 1 a",
                                           "HSETEX k FIELDS 1 a b"};
    in_process_run(server, "SET k text");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        in_process_expect(server, commands[i], "-" ERROR_WRONG_TYPE "\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hset_counts_new_fields, start, in_process_stop),
        {"hset_counts_new_fields, big", hset_counts_new_fields, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(a_pair_that_is_not_whole_is_refused, start, in_process_stop),
        {"a_pair_that_is_not_whole_is_refused, big", a_pair_that_is_not_whole_is_refused, start_small, in_process_stop,
         NULL},
        cmocka_unit_test_setup_teardown(hsetnx_sets_once, start, in_process_stop),
        {"hsetnx_sets_once, big", hsetnx_sets_once, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(hdel_removes_the_key_with_its_last_field, start, in_process_stop),
        {"hdel_removes_the_key_with_its_last_field, big", hdel_removes_the_key_with_its_last_field, start_small,
         in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(numbers_are_added, start, in_process_stop),
        {"numbers_are_added, big", numbers_are_added, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(what_is_no_number_is_refused, start, in_process_stop),
        {"what_is_no_number_is_refused, big", what_is_no_number_is_refused, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(other_types_are_refused, start, in_process_stop),
        {"other_types_are_refused, big", other_types_are_refused, start_small, in_process_stop, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
