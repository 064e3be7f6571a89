/* Fields that end, of packed and of big hashes: HEXPIRE and its kin, HGETEX, HSETEX, HGETDEL, and the sweep. */

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

static struct keyspace_sweeper *const no_tier = NULL;

static void sweep(struct in_process *server) {
    for (uint32_t shard = 0; shard < server->keyspace->shard_count; shard++)
        while (keyspace_sweep(server->keyspace, shard, server->dispatcher->now_ms, 1000000, no_tier) > 0) continue;
}

static uint64_t keys(struct in_process *server) {
    const struct view view = {.keyspace = server->keyspace};
    return keyspace_database_size(&view);
}

static void fields_get_times(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    listen_to(server);
    in_process_expect(server, "HEXPIRE k 10 FIELDS 2 a none", "*2\r\n:1\r\n:-2\r\n");
    in_process_expect(server, "HPEXPIREAT k 2000000020500 FIELDS 1 b", "*1\r\n:1\r\n");
    in_process_expect(server, "HTTL k FIELDS 4 a b c none", "*4\r\n:10\r\n:21\r\n:-1\r\n:-2\r\n");
    in_process_expect(server, "HPTTL k FIELDS 1 b", "*1\r\n:20500\r\n");
    in_process_expect(server, "HEXPIRETIME k FIELDS 1 a", "*1\r\n:2000000010\r\n");
    in_process_expect(server, "HPEXPIRETIME k FIELDS 1 b", "*1\r\n:2000000020500\r\n");
    in_process_expect(server, "HEXPIRE none 10 FIELDS 2 a b", "*2\r\n:-2\r\n:-2\r\n");
    in_process_expect(server, "HTTL none FIELDS 1 a", "*1\r\n:-2\r\n");
    assert_string_equal(told, "hexpire:k hexpire:k ");
    in_process_expect(server, "HLEN k", ":3\r\n");
    in_process_run(server, "HSET k a 9");
    in_process_run(server, "HINCRBY k b 1");
    in_process_expect(server, "HTTL k FIELDS 2 a b", "*2\r\n:-1\r\n:21\r\n");
}

static void conditions_decide(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    in_process_run(server, "HEXPIRE k 100 FIELDS 1 a");
    in_process_expect(server, "HEXPIRE k 50 NX FIELDS 2 a b", "*2\r\n:0\r\n:1\r\n");
    in_process_expect(server, "HEXPIRE k 60 XX FIELDS 2 b c", "*2\r\n:1\r\n:0\r\n");
    in_process_expect(server, "HEXPIRE k 80 GT FIELDS 3 a b c", "*3\r\n:0\r\n:1\r\n:0\r\n");
    in_process_expect(server, "HEXPIRE k 90 LT FIELDS 3 a b c", "*3\r\n:1\r\n:0\r\n:1\r\n");
    in_process_expect(server, "HTTL k FIELDS 3 a b c", "*3\r\n:90\r\n:80\r\n:90\r\n");
}

static void a_time_in_the_past_removes(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    listen_to(server);
    in_process_expect(server, "HEXPIRE k 0 FIELDS 2 a a", "*2\r\n:2\r\n:-2\r\n");
    in_process_expect(server, "HEXPIREAT k 1 FIELDS 2 b c", "*2\r\n:2\r\n:2\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
    assert_string_equal(told, "hdel:k hdel:k del:k ");
}

static void expired_fields_are_absent(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    in_process_run(server, "HPEXPIRE k 100 FIELDS 2 a b");
    in_process_advance(server, 100);
    in_process_expect(server, "HGET k a", "$-1\r\n");
    in_process_expect(server, "HEXISTS k b", ":0\r\n");
    in_process_expect(server, "HMGET k a c", "*2\r\n$-1\r\n$1\r\n3\r\n");
    in_process_expect(server, "HGETALL k", "*2\r\n$1\r\nc\r\n$1\r\n3\r\n");
    in_process_expect(server, "HKEYS k", "*1\r\n$1\r\nc\r\n");
    in_process_expect(server, "HRANDFIELD k 5", "*1\r\n$1\r\nc\r\n");
    in_process_expect(server, "HSCAN k 0", "*2\r\n$1\r\n0\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n");
    in_process_expect(server, "HTTL k FIELDS 1 a", "*1\r\n:-2\r\n");
    in_process_expect(server, "HPERSIST k FIELDS 1 a", "*1\r\n:-2\r\n");
    in_process_expect(server, "HSETNX k a 5", ":1\r\n");
    in_process_expect(server, "HINCRBY k b 5", ":5\r\n");
    in_process_expect(server, "HTTL k FIELDS 2 a b", "*2\r\n:-1\r\n:-1\r\n");
    in_process_expect(server, "HLEN k", ":3\r\n");
}

static void hpersist_removes_times(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    in_process_run(server, "HEXPIRE k 10 FIELDS 1 a");
    listen_to(server);
    in_process_expect(server, "HPERSIST k FIELDS 3 a b none", "*3\r\n:1\r\n:-1\r\n:-2\r\n");
    in_process_expect(server, "HPERSIST k FIELDS 1 a", "*1\r\n:-1\r\n");
    assert_string_equal(told, "hpersist:k ");
    in_process_advance(server, 20000);
    in_process_expect(server, "HGET k a", "$1\r\n1\r\n");
}

static void bad_arguments(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    in_process_expect(server, "HEXPIRE k x FIELDS 1 a", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(server, "HEXPIRE k -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0\r\n");
    in_process_expect(server, "HEXPIRE k 70368744178 FIELDS 1 a", "-ERR invalid expire time in 'hexpire' command\r\n");
    in_process_expect(server, "HPEXPIREAT k 70368744177664 FIELDS 1 a",
                      "-ERR invalid expire time in 'hpexpireat' command\r\n");
    in_process_expect(server, "HPEXPIREAT k 70368744177663 FIELDS 1 a", "*1\r\n:1\r\n");
    in_process_expect(server, "HEXPIRE k 1 WHAT FIELDS 1 a",
                      "-ERR Mandatory argument FIELDS is missing or not at the right position\r\n");
    in_process_expect(server, "HEXPIRE k 1 FIELDS 0 a", "-ERR Parameter `numFields` should be greater than 0\r\n");
    in_process_expect(server, "HEXPIRE k 1 FIELDS 2 a",
                      "-ERR The `numfields` parameter must match the number of arguments\r\n");
    in_process_expect(server, "HTTL k FIELDS x a", "-ERR Number of fields must be a positive integer\r\n");
    in_process_expect(server, "HTTL k FIELDS 1", "-ERR wrong number of arguments for 'httl' command\r\n");
}

static void the_sweep_finds_hashes_that_nobody_looks_at(void **state) {
    struct in_process *server = *state;
    enum { HASHES = 100 };
    char line[128];
    for (int i = 0; i < HASHES; i++) {
        snprintf(line, sizeof(line), "HSET k%d a 1 b 2 c 3", i);
        in_process_run(server, line);
        snprintf(line, sizeof(line), "HPEXPIRE k%d %d FIELDS 2 a b", i, 100 + i);
        in_process_run(server, line);
        if (i % 2) continue;
        snprintf(line, sizeof(line), "HPEXPIRE k%d %d FIELDS 1 c", i, 1000);
        in_process_run(server, line);
    }
    listen_to(server);
    sweep(server);
    uint64_t changes = 0, after = 0;
    for (uint32_t i = 0; i < server->keyspace->shard_count; i++) changes += server->keyspace->shards[i].changes;
    in_process_advance(server, 200);
    sweep(server);
    for (uint32_t i = 0; i < server->keyspace->shard_count; i++) after += server->keyspace->shards[i].changes;
    assert_int_equal(after - changes, HASHES);
    assert_int_equal(keys(server), HASHES);
    in_process_expect(server, "HGETALL k4", "*2\r\n$1\r\nc\r\n$1\r\n3\r\n");
    in_process_advance(server, 1000);
    sweep(server);
    assert_int_equal(keys(server), HASHES / 2);
    for (uint32_t i = 0; i < server->keyspace->shard_count; i++) {
        const struct index *index = server->keyspace->shards[i].databases[0];
        if (index && index->fields) assert_int_equal(index->fields->count, 0);
    }
}

static void times_follow_a_hash_to_another_key(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    in_process_run(server, "HPEXPIRE k 100 FIELDS 3 a b c");
    in_process_expect(server, "COPY k copy", ":1\r\n");
    in_process_expect(server, "RENAME k renamed", "+OK\r\n");
    in_process_expect(server, "HPTTL copy FIELDS 1 a", "*1\r\n:100\r\n");
    sweep(server);
    assert_int_equal(keys(server), 2);
    in_process_advance(server, 100);
    sweep(server);
    assert_int_equal(keys(server), 0);
}

static void hgetex_changes_times(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    listen_to(server);
    in_process_expect(server, "HGETEX k FIELDS 2 a none", "*2\r\n$1\r\n1\r\n$-1\r\n");
    in_process_expect(server, "HGETEX k EX 10 FIELDS 2 a none", "*2\r\n$1\r\n1\r\n$-1\r\n");
    in_process_expect(server, "HTTL k FIELDS 1 a", "*1\r\n:10\r\n");
    in_process_expect(server, "HGETEX k PERSIST FIELDS 2 a b", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    in_process_expect(server, "HTTL k FIELDS 1 a", "*1\r\n:-1\r\n");
    in_process_expect(server, "HGETEX k PXAT 1 FIELDS 3 a b c", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
    assert_string_equal(told, "hexpire:k hpersist:k hdel:k del:k ");
    in_process_expect(server, "HGETEX k EX 10 FIELDS 1 a", "*1\r\n$-1\r\n");
    in_process_expect(server, "HGETEX k EX 10 PERSIST FIELDS 1 a",
                      "-ERR Mandatory argument FIELDS is missing or not at the right position\r\n");
}

static void hsetex_sets_all_or_nothing(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "HSETEX k FXX EX 10 FIELDS 1 a 1", ":0\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
    listen_to(server);
    in_process_expect(server, "HSETEX k FNX EX 10 FIELDS 3 a 1 b 2 c 3", ":1\r\n");
    assert_string_equal(told, "hset:k hexpire:k ");
    in_process_expect(server, "HSETEX k FNX FIELDS 2 z 1 a 2", ":0\r\n");
    in_process_expect(server, "HSETEX k FXX FIELDS 2 a 5 z 2", ":0\r\n");
    in_process_expect(server, "HSETEX k FXX KEEPTTL FIELDS 1 a 5", ":1\r\n");
    in_process_expect(server, "HSETEX k FIELDS 1 b 6", ":1\r\n");
    in_process_expect(server, "HTTL k FIELDS 3 a b z", "*3\r\n:10\r\n:-1\r\n:-2\r\n");
    in_process_expect(server, "HMGET k a b", "*2\r\n$1\r\n5\r\n$1\r\n6\r\n");
    told[0] = '\0';
    in_process_expect(server, "HSETEX k PXAT 5 FIELDS 3 a 1 b 2 c 3", ":1\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
    assert_string_equal(told, "hset:k hdel:k del:k ");
    in_process_expect(server, "HSETEX k EX 1 PX 1 FIELDS 1 a b",
                      "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified\r\n");
    in_process_expect(server, "HSETEX k FNX FXX FIELDS 1 a b",
                      "-ERR Only one of FXX or FNX arguments can be specified\r\n");
    in_process_expect(server, "HSETEX k what FIELDS 1 a b", "-ERR unknown argument: what\r\n");
    in_process_expect(server, "HSETEX k FIELDS 0 a b", "-ERR invalid number of fields\r\n");
    in_process_expect(server, "HSETEX k FIELDS 2 a b", "-ERR wrong number of arguments for 'hsetex' command\r\n");
}

static void hgetdel_removes_what_it_replies(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET k a 1 b 2 c 3");
    listen_to(server);
    in_process_expect(server, "HGETDEL k FIELDS 3 a none a", "*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n");
    in_process_expect(server, "HGETDEL k FIELDS 2 b c", "*2\r\n$1\r\n2\r\n$1\r\n3\r\n");
    in_process_expect(server, "HGETDEL k FIELDS 1 b", "*1\r\n$-1\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
    assert_string_equal(told, "hdel:k hdel:k del:k ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fields_get_times, start, in_process_stop),
        {"fields_get_times, big", fields_get_times, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(conditions_decide, start, in_process_stop),
        {"conditions_decide, big", conditions_decide, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(a_time_in_the_past_removes, start, in_process_stop),
        {"a_time_in_the_past_removes, big", a_time_in_the_past_removes, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(expired_fields_are_absent, start, in_process_stop),
        {"expired_fields_are_absent, big", expired_fields_are_absent, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(hpersist_removes_times, start, in_process_stop),
        {"hpersist_removes_times, big", hpersist_removes_times, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(bad_arguments, start, in_process_stop),
        {"bad_arguments, big", bad_arguments, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(the_sweep_finds_hashes_that_nobody_looks_at, start, in_process_stop),
        {"the_sweep_finds_hashes_that_nobody_looks_at, big", the_sweep_finds_hashes_that_nobody_looks_at, start_small,
         in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(times_follow_a_hash_to_another_key, start, in_process_stop),
        {"times_follow_a_hash_to_another_key, big", times_follow_a_hash_to_another_key, start_small, in_process_stop,
         NULL},
        cmocka_unit_test_setup_teardown(hgetex_changes_times, start, in_process_stop),
        {"hgetex_changes_times, big", hgetex_changes_times, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(hsetex_sets_all_or_nothing, start, in_process_stop),
        {"hsetex_sets_all_or_nothing, big", hsetex_sets_all_or_nothing, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(hgetdel_removes_what_it_replies, start, in_process_stop),
        {"hgetdel_removes_what_it_replies, big", hgetdel_removes_what_it_replies, start_small, in_process_stop, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
