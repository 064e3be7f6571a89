/* MULTI, EXEC, DISCARD, WATCH, UNWATCH, as two clients of one server see them. */

#include "command/families.h"
#include "command/transaction.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* A second client, and the database commands that transactions are about, free of any family's details. */

static void command_choose(struct call *call) {
    int64_t database;
    if (!call_integer_within(call, 1, 0, 15, NULL, &database)) return;
    call->session->database = (uint32_t)database;
    reply_ok(call->reply);
}

static void command_wipe(struct call *call) {
    keyspace_flush(&call->view);
    reply_ok(call->reply);
}

static void command_swap(struct call *call) {
    assert_true(call->view.locked_all);
    keyspace_swap_databases(&call->view, 0, 1);
    reply_ok(call->reply);
}

/* EXPIREAT in milliseconds. */
static void command_until(struct call *call) {
    int64_t time_ms;
    if (!call_integer(call, 2, &time_ms)) return;
    struct lookup lookup = keyspace_find(&call->view, &call->keys[0]);
    reply_integer(call->reply, lookup.record && keyspace_set_expiry(&call->view, &call->keys[0], &lookup, time_ms));
}

static void command_drop(struct call *call) {
    struct lookup lookup = keyspace_find(&call->view, &call->keys[0]);
    reply_integer(call->reply, lookup.record != NULL);
    if (lookup.record) keyspace_remove(&call->view, &call->keys[0], &lookup);
}

static void command_size(struct call *call) {
    assert_true(call->view.locked_all || !call->session->transaction.open);
    reply_integer(call->reply, (int64_t)keyspace_database_size(&call->view));
}

static const struct command_spec commands[] = {
    {.name = "choose", .handler = command_choose, .arity = 2},
    {.name = "wipe", .handler = command_wipe, .arity = 1, .flags = COMMAND_WRITE | COMMAND_WALKS},
    {.name = "swap", .handler = command_swap, .arity = 1, .flags = COMMAND_WRITE | COMMAND_ALL_SHARDS},
    {.name = "until", .handler = command_until, .arity = 3, .flags = COMMAND_WRITE, .keys = {KEY_AT(1, KEY_RW)}},
    {.name = "drop", .handler = command_drop, .arity = 2, .flags = COMMAND_WRITE, .keys = {KEY_AT(1, KEY_RW)}},
    {.name = "size", .handler = command_size, .arity = 1, .flags = COMMAND_WALKS},
    {.name = "loner", .handler = command_choose, .arity = 1, .flags = COMMAND_NO_MULTI},
};

struct pair {
    struct in_process *server;
    struct session *first, second;
};

static int set_up(void **state) {
    struct pair *pair = calloc(1, sizeof(*pair));
    const struct command_family families[] = {{commands, sizeof(commands) / sizeof(commands[0])},
                                              {string_commands, string_command_count},
                                              {transaction_commands, transaction_command_count}};
    pair->server = in_process_create(families, 3);
    pair->first = pair->server->session;
    session_init(&pair->second, 2, IN_PROCESS_START_MS);
    pair->second.authenticated = true;
    *state = pair;
    return 0;
}

static int tear_down(void **state) {
    struct pair *pair = *state;
    pair->server->session = pair->first;
    transaction_unwatch(pair->server->dispatcher, pair->first, false);
    transaction_unwatch(pair->server->dispatcher, &pair->second, false);
    for (uint32_t i = 0; i < pair->server->keyspace->shard_count; i++)
        assert_int_equal(pair->server->keyspace->shards[i].watches.count, 0);
    session_free(&pair->second);
    in_process_destroy(pair->server);
    free(pair);
    return 0;
}

static void first(struct pair *pair, const char *line, const char *reply) {
    pair->server->session = pair->first;
    in_process_expect(pair->server, line, reply);
}

static void second(struct pair *pair, const char *line) {
    pair->server->session = &pair->second;
    in_process_run(pair->server, line);
    assert_int_not_equal(pair->server->reply[0], '-');
}

static void queued_commands_run_at_exec(void **state) {
    struct pair *pair = *state;
    first(pair, "MULTI", "+OK\r\n");
    first(pair, "SET a 1", "+QUEUED\r\n");
    first(pair, "GET a", "+QUEUED\r\n");
    assert_int_equal(pair->first->transaction.count, 2);
    pair->server->session = &pair->second;
    in_process_expect(pair->server, "GET a", "$-1\r\n");
    first(pair, "EXEC", "*2\r\n+OK\r\n$1\r\n1\r\n");
    assert_int_equal(pair->first->transaction.count, 0);
    assert_int_equal(pair->first->transaction.bytes, 0);
    assert_false(pair->first->transaction.open);
    first(pair, "MULTI", "+OK\r\n");
    first(pair, "EXEC", "*0\r\n");
}

static void arguments_are_copied(void **state) {
    struct pair *pair = *state;
    struct transaction transaction;
    char text[] = "SET key value";
    const struct span argv[] = {span_of(text, 3), span_of(text + 4, 3), span_of(text + 8, 5)};
    transaction_init(&transaction);
    const struct command *command = command_table_find(pair->server->table, argv[0]);
    for (unsigned i = 0; i < 100; i++) assert_true(transaction_queue(&transaction, command, argv, 3));
    memset(text, 'x', sizeof(text));
    unsigned count = 0;
    for (struct queued_command *queued = transaction.first; queued; queued = queued->next, count++) {
        assert_ptr_equal(queued->command, command);
        assert_int_equal(queued->argc, 3);
        assert_true(span_equal(queued->argv[2], SPAN_LITERAL("value")));
    }
    assert_int_equal(count, 100);
    assert_true(transaction.bytes >= 100 * 11);
    assert_true(transaction.flags & COMMAND_WRITE);
    transaction_discard(&transaction);
    assert_int_equal(transaction.count, 0);
}

static void a_transaction_may_be_discarded(void **state) {
    struct pair *pair = *state;
    first(pair, "MULTI", "+OK\r\n");
    first(pair, "SET a 1", "+QUEUED\r\n");
    first(pair, "DISCARD", "+OK\r\n");
    first(pair, "GET a", "$-1\r\n");
    first(pair, "DISCARD", "-ERR DISCARD without MULTI\r\n");
    first(pair, "EXEC", "-ERR EXEC without MULTI\r\n");
}

static void transactions_do_not_nest(void **state) {
    struct pair *pair = *state;
    first(pair, "MULTI", "+OK\r\n");
    first(pair, "MULTI", "-ERR MULTI calls can not be nested\r\n");
    first(pair, "WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n");
    first(pair, "SET a 1", "+QUEUED\r\n");
    first(pair, "EXEC", "*1\r\n+OK\r\n");
}

static void an_error_while_queueing_refuses_the_whole(void **state) {
    struct pair *pair = *state;
    static const char *const bad[] = {"GET", "nosuch", "loner", "until"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        first(pair, "MULTI", "+OK\r\n");
        first(pair, "SET a 1", "+QUEUED\r\n");
        pair->server->session = pair->first;
        in_process_run(pair->server, bad[i]);
        assert_int_equal(pair->server->reply[0], '-');
        first(pair, "SET b 1", "+QUEUED\r\n");
        first(pair, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
        first(pair, "GET a", "$-1\r\n");
    }
}

static void an_error_while_running_stops_nothing(void **state) {
    struct pair *pair = *state;
    first(pair, "MULTI", "+OK\r\n");
    first(pair, "SET a 1", "+QUEUED\r\n");
    first(pair, "until a x", "+QUEUED\r\n");
    first(pair, "SET b 2", "+QUEUED\r\n");
    first(pair, "EXEC", "*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n+OK\r\n");
    first(pair, "GET b", "$1\r\n2\r\n");
}

static void the_database_may_change_inside(void **state) {
    struct pair *pair = *state;
    first(pair, "MULTI", "+OK\r\n");
    first(pair, "SET a zero", "+QUEUED\r\n");
    first(pair, "choose 3", "+QUEUED\r\n");
    first(pair, "SET a three", "+QUEUED\r\n");
    first(pair, "EXEC", "*3\r\n+OK\r\n+OK\r\n+OK\r\n");
    first(pair, "GET a", "$5\r\nthree\r\n");
    first(pair, "choose 0", "+OK\r\n");
    first(pair, "GET a", "$4\r\nzero\r\n");
}

static void commands_that_walk_run_inside(void **state) {
    struct pair *pair = *state;
    first(pair, "SET a 1", "+OK\r\n");
    first(pair, "MULTI", "+OK\r\n");
    first(pair, "size", "+QUEUED\r\n");
    first(pair, "swap", "+QUEUED\r\n");
    first(pair, "size", "+QUEUED\r\n");
    first(pair, "wipe", "+QUEUED\r\n");
    first(pair, "UNWATCH", "+QUEUED\r\n");
    first(pair, "EXEC", "*5\r\n:1\r\n+OK\r\n:0\r\n+OK\r\n+OK\r\n");
}

/* ---- WATCH ---- */

static void attempt(struct pair *pair, bool runs) {
    first(pair, "MULTI", "+OK\r\n");
    first(pair, "SET mine 1", "+QUEUED\r\n");
    first(pair, "EXEC", runs ? "*1\r\n+OK\r\n" : "*-1\r\n");
    assert_null(pair->first->watcher.entries);
}

static void a_change_of_a_watched_key_fails_exec(void **state) {
    struct pair *pair = *state;
    static const char *const changes[] = {"SET a 2",   "SET a 1", "drop a", "until a 3000000000000",
                                          "until a 1", "wipe",    "swap"};
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        second(pair, "SET a 1");
        first(pair, "WATCH x a", "+OK\r\n");
        second(pair, changes[i]);
        attempt(pair, false);
        attempt(pair, true);
        second(pair, "wipe");
    }
}

static void a_new_key_is_a_change(void **state) {
    struct pair *pair = *state;
    first(pair, "WATCH a", "+OK\r\n");
    second(pair, "SET a 1");
    attempt(pair, false);
}

static void what_does_not_touch_the_key_is_no_change(void **state) {
    struct pair *pair = *state;
    static const char *const other[] = {"GET a", "SET b 1", "drop nosuch", "choose 1", "SET a 1", "wipe", "drop a"};
    second(pair, "SET a 1");
    first(pair, "WATCH a a a", "+OK\r\n");
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) second(pair, other[i]);
    attempt(pair, true);
}

static void ones_own_change_counts_too(void **state) {
    struct pair *pair = *state;
    first(pair, "WATCH a", "+OK\r\n");
    first(pair, "SET a 1", "+OK\r\n");
    attempt(pair, false);
}

static void an_unwatched_key_is_forgotten(void **state) {
    struct pair *pair = *state;
    static const char *const ends[] = {"UNWATCH", "EXEC", "DISCARD"};
    for (size_t i = 0; i < 3; i++) {
        first(pair, "WATCH a b", "+OK\r\n");
        second(pair, "SET a 1");
        if (i > 0) first(pair, "MULTI", "+OK\r\n");
        pair->server->session = pair->first;
        in_process_run(pair->server, ends[i]);
        attempt(pair, true);
    }
}

static void an_absent_key_that_is_wiped_is_no_change(void **state) {
    struct pair *pair = *state;
    first(pair, "WATCH a", "+OK\r\n");
    second(pair, "SET b 1");
    second(pair, "wipe");
    second(pair, "swap");
    attempt(pair, true);
}

static void a_key_that_comes_by_a_swap_is_a_change(void **state) {
    struct pair *pair = *state;
    second(pair, "choose 1");
    second(pair, "SET a 1");
    first(pair, "WATCH a", "+OK\r\n");
    second(pair, "swap");
    attempt(pair, false);
}

/* ---- expiry ---- */

static void set_with_expiry(struct pair *pair, const char *key, int64_t from_now_ms) {
    char line[64];
    snprintf(line, sizeof(line), "SET %s 1", key);
    second(pair, line);
    snprintf(line, sizeof(line), "until %s %lld", key, (long long)(pair->server->dispatcher->now_ms + from_now_ms));
    second(pair, line);
}

static void a_key_that_expires_meanwhile_is_a_change(void **state) {
    struct pair *pair = *state;
    set_with_expiry(pair, "a", 1000);
    first(pair, "WATCH a", "+OK\r\n");
    in_process_advance(pair->server, 2000);
    attempt(pair, false);
    set_with_expiry(pair, "a", 1000);
    first(pair, "WATCH a", "+OK\r\n");
    in_process_advance(pair->server, 2000);
    second(pair, "GET a"); /* finds it expired, and removes it */
    attempt(pair, false);
}

static void a_key_that_had_expired_before_is_none(void **state) {
    struct pair *pair = *state;
    set_with_expiry(pair, "a", 1000);
    in_process_advance(pair->server, 2000);
    first(pair, "WATCH a", "+OK\r\n");
    attempt(pair, true);
    set_with_expiry(pair, "b", 1000);
    in_process_advance(pair->server, 2000);
    first(pair, "WATCH b", "+OK\r\n");
    second(pair, "GET b");
    attempt(pair, true);
    set_with_expiry(pair, "c", 1000);
    in_process_advance(pair->server, 2000);
    first(pair, "WATCH c", "+OK\r\n");
    second(pair, "SET c 1");
    attempt(pair, false);
}

static void watched_keys_of_several_databases(void **state) {
    struct pair *pair = *state;
    set_with_expiry(pair, "a", 1000);
    first(pair, "choose 5", "+OK\r\n");
    first(pair, "WATCH a", "+OK\r\n");
    first(pair, "choose 0", "+OK\r\n");
    second(pair, "SET a 2");
    attempt(pair, true);
    first(pair, "choose 5", "+OK\r\n");
    first(pair, "WATCH a", "+OK\r\n");
    first(pair, "choose 0", "+OK\r\n");
    second(pair, "choose 5");
    second(pair, "SET a 2");
    attempt(pair, false);
}

int main(void) {
#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_PAIR(queued_commands_run_at_exec),
        WITH_PAIR(arguments_are_copied),
        WITH_PAIR(a_transaction_may_be_discarded),
        WITH_PAIR(transactions_do_not_nest),
        WITH_PAIR(an_error_while_queueing_refuses_the_whole),
        WITH_PAIR(an_error_while_running_stops_nothing),
        WITH_PAIR(the_database_may_change_inside),
        WITH_PAIR(commands_that_walk_run_inside),
        WITH_PAIR(a_change_of_a_watched_key_fails_exec),
        WITH_PAIR(a_new_key_is_a_change),
        WITH_PAIR(what_does_not_touch_the_key_is_no_change),
        WITH_PAIR(ones_own_change_counts_too),
        WITH_PAIR(an_unwatched_key_is_forgotten),
        WITH_PAIR(an_absent_key_that_is_wiped_is_no_change),
        WITH_PAIR(a_key_that_comes_by_a_swap_is_a_change),
        WITH_PAIR(a_key_that_expires_meanwhile_is_a_change),
        WITH_PAIR(a_key_that_had_expired_before_is_none),
        WITH_PAIR(watched_keys_of_several_databases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
