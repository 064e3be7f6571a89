/* The digests of collections: equal where clients see equal values, whatever their encoding and history, and else not.
 */

#include "command/families.h"
#include "server/digest_value.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { MANY = 300 };

static int start(void **state) {
    const struct command_family families[] = {{list_commands, list_command_count},
                                              {set_commands, set_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {hash_commands, hash_command_count},
                                              {stream_commands, stream_command_count},
                                              {string_commands, string_command_count},
                                              {key_commands, key_command_count}};
    *state = in_process_create(families, sizeof(families) / sizeof(families[0]));
    return 0;
}

static struct digest_value value_of(struct in_process *server, const char *name) {
    struct view view = {.keyspace = server->keyspace, .keep_access = true, .now_ms = server->dispatcher->now_ms};
    struct key key = keyspace_key(server->keyspace, span_of_text(name));
    struct lookup lookup = keyspace_find(&view, &key);
    assert_non_null(lookup.record);
    return digest_value_of(&view, lookup.record);
}

static bool same(struct in_process *server, const char *a, const char *b) {
    struct digest_value x = value_of(server, a), y = value_of(server, b);
    return x.low == y.low && x.high == y.high;
}

/* Packed and big, filled in this order and from behind. `order_matters`: only a list's. */
static void fill(struct in_process *server, const char *command, const char *key, bool backward) {
    char line[128];
    for (int i = 0; i < MANY; i++) {
        int number = backward ? MANY - 1 - i : i;
        bool pairs = command[0] == 'H', scores = command[0] == 'Z';
        if (scores)
            snprintf(line, sizeof(line), "%s %s %d.5 m:%d", command, key, number % 7, number);
        else
            snprintf(line, sizeof(line), "%s %s %s%d %s", command, key, number % 3 ? "e:" : "", number,
                     pairs ? "v" : "");
        in_process_run(server, line);
    }
}

static void expect_encodings_alike(struct in_process *server, const char *command, const char *reversing) {
    struct value_limits packed = VALUE_LIMITS_DEFAULT, big = {.list_packed_size = 4};
    packed.set_packed_entries = packed.sorted_set_packed_entries = packed.hash_packed_entries = 1000;
    server->keyspace->limits = packed;
    fill(server, command, "packed", false);
    server->keyspace->limits = big;
    fill(server, reversing, "big", true);
    assert_true(same(server, "packed", "big"));
    assert_true(same(server, "big", "big"));
    in_process_run(server, "DEL packed big");
}

static void encodings_and_order_of_arrival_do_not_show(void **state) {
    struct in_process *server = *state;
    expect_encodings_alike(server, "RPUSH", "LPUSH");
    expect_encodings_alike(server, "SADD", "SADD");
    expect_encodings_alike(server, "ZADD", "ZADD");
    expect_encodings_alike(server, "HSET", "HSET");
}

static void an_intset_is_a_set(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SADD a 1 2 3");
    in_process_run(server, "SADD b x 3 2 1");
    assert_false(same(server, "a", "b"));
    in_process_run(server, "SREM b x");
    assert_true(same(server, "a", "b"));
}

static void what_clients_see_matters(void **state) {
    struct in_process *server = *state;
    const char *const pairs[][2] = {{"RPUSH a x y", "RPUSH b y x"},       {"RPUSH a x", "RPUSH b x x"},
                                    {"RPUSH a xy", "RPUSH b x y"},        {"SADD a x", "SADD b y"},
                                    {"ZADD a 1 x 2 y", "ZADD b 2 x 1 y"}, {"ZADD a 1 x", "ZADD b 1.5 x"},
                                    {"HSET a f v", "HSET b v f"},         {"HSET a f 1 g 2", "HSET b f 2 g 1"},
                                    {"XADD a 1-1 f v", "XADD b 1-2 f v"}, {"XADD a 1-1 f v", "XADD b 1-1 f w"}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        in_process_run(server, pairs[i][0]);
        in_process_run(server, pairs[i][1]);
        if (same(server, "a", "b")) fail_msg("%s and %s", pairs[i][0], pairs[i][1]);
        in_process_run(server, "DEL a b");
    }
}

static void streams_count_with_their_groups(void **state) {
    struct in_process *server = *state;
    for (int i = 0; i < 2; i++) {
        const char *key = i ? "b" : "a";
        char line[64];
        for (int entry = 1; entry <= MANY; entry++) {
            snprintf(line, sizeof(line), "XADD %s %d-1 field %d", key, entry, entry);
            in_process_run(server, line);
        }
        snprintf(line, sizeof(line), "XGROUP CREATE %s g 0", key);
        in_process_run(server, line);
    }
    assert_true(same(server, "a", "b"));
    in_process_run(server, "XREADGROUP GROUP g c COUNT 1 STREAMS a >");
    assert_false(same(server, "a", "b"));
    in_process_advance(server, 1000);
    in_process_run(server, "XREADGROUP GROUP g c COUNT 1 STREAMS b >");
    assert_true(same(server, "a", "b"));
    in_process_run(server, "XACK a g 1-1");
    assert_false(same(server, "a", "b"));
}

static void a_field_that_expires_counts_by_that(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "HSET a f v g w");
    in_process_run(server, "HSET b f v g w");
    in_process_run(server, "HEXPIRE a 100 FIELDS 1 f");
    assert_false(same(server, "a", "b"));
    in_process_run(server, "HEXPIRE b 200 FIELDS 1 f");
    assert_true(same(server, "a", "b"));
    in_process_advance(server, 150000);
    in_process_run(server, "HDEL b f");
    assert_true(same(server, "a", "b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(encodings_and_order_of_arrival_do_not_show, start, in_process_stop),
        cmocka_unit_test_setup_teardown(an_intset_is_a_set, start, in_process_stop),
        cmocka_unit_test_setup_teardown(what_clients_see_matters, start, in_process_stop),
        cmocka_unit_test_setup_teardown(streams_count_with_their_groups, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_field_that_expires_counts_by_that, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
