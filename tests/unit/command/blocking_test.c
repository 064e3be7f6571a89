/* Blocking commands as several clients of one worker see them: who is served, when, in which order, and what ends a
 * wait otherwise. tests/support/blocking_family.h has the commands. */

#include "command/blocking.h"
#include "command/families.h"
#include "tests/support/blocking_family.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { CLIENTS = 5 };

struct table {
    struct in_process *server;
    struct session clients[CLIENTS];
    char *replies[CLIENTS]; /* to what blocked; "" until it is answered */
};

static int start(void **state) {
    const struct command_family families[] = {
        {blocking_family, blocking_family_count},        {transaction_commands, transaction_command_count},
        {string_commands, string_command_count},         {key_commands, key_command_count},
        {key_expiry_commands, key_expiry_command_count}, {database_commands, database_command_count}};
    struct table *table = calloc(1, sizeof(*table));
    table->server = in_process_create(families, sizeof(families) / sizeof(families[0]));
    for (unsigned i = 0; i < CLIENTS; i++) {
        session_init(&table->clients[i], i + 1, IN_PROCESS_START_MS);
        table->clients[i].authenticated = true;
        table->replies[i] = strdup("");
    }
    *state = table;
    return 0;
}

static void turn(struct table *table) {
    struct dispatcher *dispatcher = table->server->dispatcher;
    struct blocked *blocked;
    blocked_expire(dispatcher);
    while ((blocked = blocked_take_finished(dispatcher))) {
        struct iovec vectors[16];
        struct reply reply;
        size_t length = 0;
        long client = blocked->session ? blocked->session - table->clients : -1;
        reply_init(&reply, NULL, 0, NULL, NULL);
        blocked_answer(dispatcher, blocked, &reply);
        char *text = calloc(1, reply_bytes_pending(&reply) + 1);
        size_t count = reply_vectors(&reply, vectors, 16);
        for (size_t i = 0; i < count; i++) {
            memcpy(text + length, vectors[i].iov_base, vectors[i].iov_len);
            length += vectors[i].iov_len;
        }
        reply_clear(&reply);
        if (client < 0) {
            free(text);
            continue;
        }
        free(table->replies[client]);
        table->replies[client] = text;
    }
}

static int stop(void **state) {
    struct table *table = *state;
    for (unsigned i = 0; i < CLIENTS; i++) blocked_leave(table->server->dispatcher, &table->clients[i]);
    turn(table);
    assert_int_equal(stat_get(&table->server->dispatcher->blocked.count), 0);
    assert_int_equal(atomic_load(&table->server->keyspace->waits.keys), 0);
    assert_false(wait_is_any_marked(&table->server->keyspace->waits));
    for (unsigned i = 0; i < CLIENTS; i++) {
        in_process_end_session(table->server, &table->clients[i]);
        session_free(&table->clients[i]);
        free(table->replies[i]);
    }
    table->server->session = &table->server->own_session;
    in_process_destroy(table->server);
    free(table);
    return 0;
}

/* Client `client` sends a line; the reply is what it gets at once, "" if it waits. */
static const char *run(struct table *table, unsigned client, const char *line) {
    table->server->session = &table->clients[client];
    assert_null(table->clients[client].blocked);
    return in_process_run(table->server, line);
}

static void expect(struct table *table, unsigned client, const char *line, const char *reply) {
    assert_string_equal(run(table, client, line), reply);
    turn(table);
}

static void blocks(struct table *table, unsigned client, const char *line) {
    expect(table, client, line, "");
    assert_non_null(table->clients[client].blocked);
    free(table->replies[client]);
    table->replies[client] = strdup("");
}

static void waits_still(struct table *table, unsigned client) {
    assert_non_null(table->clients[client].blocked);
    assert_string_equal(table->replies[client], "");
}

static void was_answered(struct table *table, unsigned client, const char *reply) {
    assert_null(table->clients[client].blocked);
    assert_string_equal(table->replies[client], reply);
}

static void waiting_clients_are_served_in_the_order_they_came(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbpop k 0");
    blocks(table, 2, "tbpop k 0");
    blocks(table, 3, "tbpop k 0");
    expect(table, 0, "tpush k a b", ":2\r\n");
    was_answered(table, 1, "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
    was_answered(table, 2, "*2\r\n$1\r\nk\r\n$1\r\nb\r\n");
    waits_still(table, 3);
    expect(table, 0, "exists k", ":0\r\n");
    blocks(table, 1, "tbpop k 0");
    expect(table, 0, "tpush k c", ":1\r\n");
    was_answered(table, 3, "*2\r\n$1\r\nk\r\n$1\r\nc\r\n");
    waits_still(table, 1);
}

static void one_who_waits_for_several_keys_gets_the_first_that_has_something(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbpop one two three 0");
    expect(table, 0, "multi", "+OK\r\n");
    expect(table, 0, "tpush three c", "+QUEUED\r\n");
    expect(table, 0, "tpush two b", "+QUEUED\r\n");
    expect(table, 0, "exec", "*2\r\n:1\r\n:1\r\n");
    was_answered(table, 1, "*2\r\n$3\r\ntwo\r\n$1\r\nb\r\n");
    expect(table, 0, "exists one two three", ":1\r\n");
    blocks(table, 1, "tbpop one one two 0");
    expect(table, 0, "tpush one x y", ":2\r\n");
    was_answered(table, 1, "*2\r\n$3\r\none\r\n$1\r\nx\r\n");
}

static void exec_serves_after_its_last_command_and_its_own_do_not_block(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbpop k 0");
    expect(table, 0, "multi", "+OK\r\n");
    expect(table, 0, "tpush k a", "+QUEUED\r\n");
    expect(table, 0, "tbpop k 0", "+QUEUED\r\n");
    expect(table, 0, "tbpop k 0", "+QUEUED\r\n");
    expect(table, 0, "tbmove k l 0", "+QUEUED\r\n");
    expect(table, 0, "exec", "*4\r\n:1\r\n*2\r\n$1\r\nk\r\n$1\r\na\r\n*-1\r\n$-1\r\n");
    waits_still(table, 1);
}

static void moves_chain(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbmove a b 0");
    blocks(table, 2, "tbmove b c 0");
    blocks(table, 3, "tbmove c a 0");
    blocks(table, 4, "tbpop a 0");
    expect(table, 0, "tpush a x", ":1\r\n");
    was_answered(table, 1, "$1\r\nx\r\n");
    was_answered(table, 2, "$1\r\nx\r\n");
    was_answered(table, 3, "$1\r\nx\r\n");
    was_answered(table, 4, "*2\r\n$1\r\na\r\n$1\r\nx\r\n");
}

static void a_value_of_another_type_serves_nobody(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbpop k 0");
    expect(table, 0, "set k text", "+OK\r\n");
    waits_still(table, 1);
    expect(table, 0, "del k", ":1\r\n");
    waits_still(table, 1);
    expect(table, 0, "tpush other v", ":1\r\n");
    expect(table, 0, "rename other k", "+OK\r\n");
    was_answered(table, 1, "*2\r\n$1\r\nk\r\n$1\r\nv\r\n");
    blocks(table, 1, "tbmove k target 0");
    expect(table, 0, "set target text", "+OK\r\n");
    expect(table, 0, "tpush k v", ":1\r\n");
    was_answered(table, 1, "-" ERROR_WRONG_TYPE "\r\n");
}

static void keys_of_other_databases_are_other_keys(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbpop k 0");
    expect(table, 0, "select 1", "+OK\r\n");
    expect(table, 0, "tpush k a", ":1\r\n");
    waits_still(table, 1);
    expect(table, 0, "swapdb 0 1", "+OK\r\n");
    was_answered(table, 1, "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
    blocks(table, 1, "tbpop k 0");
    expect(table, 0, "tpush k a", ":1\r\n");
    expect(table, 0, "move k 0", ":1\r\n");
    was_answered(table, 1, "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
}

static void one_who_needs_a_key_is_told_that_it_is_gone(void **state) {
    struct table *table = *state;
    expect(table, 0, "tpush k a", ":1\r\n");
    blocks(table, 1, "tgroup k 0");
    blocks(table, 2, "tbpop other 0");
    expect(table, 0, "tpush k b", ":2\r\n");
    waits_still(table, 1);
    expect(table, 0, "del k", ":1\r\n");
    was_answered(table, 1, "-NOGROUP it is gone\r\n");
    expect(table, 0, "tpush k a", ":1\r\n");
    blocks(table, 1, "tgroup k 0");
    assert_int_equal(atomic_load(&table->server->keyspace->waits.keys_of_absence), 1);
    expect(table, 0, "set k text", "+OK\r\n");
    was_answered(table, 1, "-" ERROR_WRONG_TYPE "\r\n");
    expect(table, 0, "del k", ":1\r\n");
    expect(table, 0, "tpush k a", ":1\r\n");
    blocks(table, 1, "tgroup k 0");
    expect(table, 0, "flushall", "+OK\r\n");
    was_answered(table, 1, "-NOGROUP it is gone\r\n");
    expect(table, 0, "tpush k a", ":1\r\n");
    expect(table, 0, "pexpire k 10", ":1\r\n");
    blocks(table, 1, "tgroup k 0");
    in_process_advance(table->server, 11);
    expect(table, 0, "exists k", ":0\r\n");
    was_answered(table, 1, "-NOGROUP it is gone\r\n");
    waits_still(table, 2);
}

static void what_is_resolved_at_the_first_run_stays_so(void **state) {
    struct table *table = *state;
    expect(table, 0, "tpush k a b", ":2\r\n");
    blocks(table, 1, "tafter k $ 0");
    blocks(table, 2, "tafter k 3 0");
    blocks(table, 3, "tafter k $ 0");
    expect(table, 0, "tpush k c", ":3\r\n");
    was_answered(table, 1, ":3\r\n");
    waits_still(table, 2);
    was_answered(table, 3, ":3\r\n");
}

static void a_wait_ends_in_time(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbpop k 0.05");
    blocks(table, 2, "tbpop k 0.0201");
    blocks(table, 3, "tafter k 0 30");
    assert_int_equal(stat_get(&table->server->dispatcher->blocked.count_with_deadline), 3);
    in_process_advance(table->server, 20);
    turn(table);
    waits_still(table, 2);
    in_process_advance(table->server, 1);
    turn(table);
    was_answered(table, 2, "*-1\r\n");
    table->clients[3].protocol = 3; /* what counts is what it was when it began to wait */
    in_process_advance(table->server, 9);
    turn(table);
    was_answered(table, 3, "*-1\r\n");
    waits_still(table, 1);
    expect(table, 0, "tpush k a", ":1\r\n");
    was_answered(table, 1, "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
}

static void timeouts_are_refused_as_redis_refuses_them(void **state) {
    struct table *table = *state;
    const char *const not_float = "-ERR timeout is not a float or out of range\r\n";
    const char *const negative = "-ERR timeout is negative\r\n", *const range = "-ERR timeout is out of range\r\n";
    expect(table, 0, "tbpop k abc", not_float);
    expect(table, 0, "tbpop k nan", not_float);
    expect(table, 0, "tbpop k \" 1\"", not_float);
    expect(table, 0, "tbpop k \"\"", not_float);
    expect(table, 0, "tbpop k -1", negative);
    expect(table, 0, "tbpop k -inf", negative);
    expect(table, 0, "tbpop k inf", range);
    expect(table, 0, "tbpop k 9223372036854775", range);
    expect(table, 0, "tbpop k 9223372036854776", range);
    expect(table, 0, "tafter k 0 1.5", "-ERR timeout is not an integer or out of range\r\n");
    expect(table, 0, "tafter k 0 -1", negative);
    expect(table, 0, "tafter k 0 9223372036854775807", range);
    blocks(table, 0, "tbpop k -0.00001");
    blocks(table, 1, "tbpop k 0x1");
    blocks(table, 2, "tbpop k 1e-5");
    in_process_advance(table->server, 1);
    turn(table);
    was_answered(table, 2, "*-1\r\n");
    waits_still(table, 0);
}

static void a_client_that_leaves_takes_nothing(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbpop k 10");
    blocks(table, 2, "tbpop k 0");
    blocked_leave(table->server->dispatcher, &table->clients[1]);
    assert_null(table->clients[1].blocked);
    expect(table, 0, "tpush k a", ":1\r\n");
    was_answered(table, 2, "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
    blocks(table, 2, "tbpop k 0");
    assert_string_equal(run(table, 0, "tpush k a"), ":1\r\n"); /* served, but not answered yet */
    blocked_leave(table->server->dispatcher, &table->clients[2]);
    turn(table);
    assert_string_equal(table->replies[2], "");
}

static void a_wait_can_be_ended_by_force(void **state) {
    struct table *table = *state;
    struct dispatcher *dispatcher = table->server->dispatcher;
    blocks(table, 1, "tbpop k 0");
    blocks(table, 2, "tbpop k 0");
    assert_true(blocked_force(dispatcher, table->clients[1].blocked, true));
    assert_false(blocked_force(dispatcher, table->clients[1].blocked, false));
    assert_true(blocked_force(dispatcher, table->clients[2].blocked, false));
    expect(table, 0, "tpush k a", ":1\r\n");
    was_answered(table, 1, "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
    was_answered(table, 2, "*-1\r\n");
    expect(table, 0, "exists k", ":1\r\n");
}

static void without_memory_a_command_that_needs_it_ends_with_an_error(void **state) {
    struct table *table = *state;
    blocks(table, 1, "tbmove k other 0");
    expect(table, 0, "set text 1", "+OK\r\n");
    expect(table, 0, "tpush source a", ":1\r\n");
    atomic_store(&table->server->host.out_of_memory, true);
    expect(table, 0, "rename source k", "+OK\r\n");
    was_answered(table, 1, "-" ERROR_NO_MEMORY "\r\n");
    atomic_store(&table->server->host.out_of_memory, false);
    expect(table, 0, "tbpop k 0", "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
}

static void a_served_command_counts_once(void **state) {
    struct table *table = *state;
    struct in_process *server = table->server;
    const struct command *command = command_table_find(server->table, SPAN_LITERAL("tbpop"));
    struct command_counters *counters = &server->stats->counters[command->id];
    blocks(table, 1, "tbpop k 0.001");
    assert_int_equal(stat_get(&counters->calls), 0);
    in_process_advance(server, 1);
    turn(table);
    assert_int_equal(stat_get(&counters->calls), 1);
    blocks(table, 1, "tbpop k 0");
    expect(table, 0, "tpush k a", ":1\r\n");
    assert_int_equal(stat_get(&counters->calls), 2);
    blocks(table, 1, "tbpop k 0");
    blocked_force(server->dispatcher, table->clients[1].blocked, true);
    turn(table);
    assert_int_equal(stat_get(&counters->calls), 3);
    assert_int_equal(stat_get(&counters->failed), 1);
}

static void who_wants_no_reply_gets_none(void **state) {
    struct table *table = *state;
    table->clients[1].reply_mode = SESSION_REPLY_SKIP;
    blocks(table, 1, "tbpop k 0");
    expect(table, 0, "tpush k a", ":1\r\n");
    was_answered(table, 1, "");
    expect(table, 1, "tpush k a", ":1\r\n");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(waiting_clients_are_served_in_the_order_they_came),
        TEST(one_who_waits_for_several_keys_gets_the_first_that_has_something),
        TEST(exec_serves_after_its_last_command_and_its_own_do_not_block),
        TEST(moves_chain),
        TEST(a_value_of_another_type_serves_nobody),
        TEST(keys_of_other_databases_are_other_keys),
        TEST(one_who_needs_a_key_is_told_that_it_is_gone),
        TEST(what_is_resolved_at_the_first_run_stays_so),
        TEST(a_wait_ends_in_time),
        TEST(timeouts_are_refused_as_redis_refuses_them),
        TEST(a_client_that_leaves_takes_nothing),
        TEST(a_wait_can_be_ended_by_force),
        TEST(without_memory_a_command_that_needs_it_ends_with_an_error),
        TEST(a_served_command_counts_once),
        TEST(who_wants_no_reply_gets_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
