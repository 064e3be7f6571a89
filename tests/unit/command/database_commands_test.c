/* SELECT, SWAPDB, DBSIZE, FLUSHDB, FLUSHALL, and what they tell watchers. */

#include "command/families.h"
#include "tests/support/key_server.h"

#include <setjmp.h>
#include <stdarg.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define expect in_process_expect

enum { DRAIN_NS = 1000000 };

static int set_up(void **state) {
    *state = key_server_create();
    return 0;
}

static void databases_are_apart(void **state) {
    struct in_process *server = *state;
    expect(server, "SET key zero", "+OK\r\n");
    expect(server, "SELECT 15", "+OK\r\n");
    expect(server, "GET key", "$-1\r\n");
    expect(server, "SET key fifteen", "+OK\r\n");
    expect(server, "SET other fifteen", "+OK\r\n");
    expect(server, "DBSIZE", ":2\r\n");
    expect(server, "SELECT 0", "+OK\r\n");
    expect(server, "DBSIZE", ":1\r\n");
    expect(server, "GET key", "$4\r\nzero\r\n");
}

static void numbers_that_are_no_database(void **state) {
    struct in_process *server = *state;
    expect(server, "SELECT 16", "-ERR DB index is out of range\r\n");
    expect(server, "SELECT -1", "-ERR DB index is out of range\r\n");
    expect(server, "SELECT x", "-ERR value is not an integer or out of range\r\n");
    expect(server, "SELECT 99999999999",
           "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n");
    expect(server, "SELECT 99999999999999999999", "-ERR value is not an integer or out of range\r\n");
    expect(server, "SWAPDB x y", "-ERR invalid first DB index\r\n");
    expect(server, "SWAPDB 16 y", "-ERR invalid second DB index\r\n");
    expect(server, "SWAPDB 99999999999 0", "-ERR invalid first DB index\r\n");
    expect(server, "SWAPDB 0 16", "-ERR DB index is out of range\r\n");
    expect(server, "SWAPDB -1 0", "-ERR DB index is out of range\r\n");
    assert_int_equal(server->session->database, 0);
}

static void swapping_exchanges_contents(void **state) {
    struct in_process *server = *state;
    key_server_fill(server, 100, "SET key:%u zero");
    expect(server, "SWAPDB 0 1", "+OK\r\n");
    expect(server, "DBSIZE", ":0\r\n");
    expect(server, "SET key:1 new", "+OK\r\n");
    expect(server, "SWAPDB 1 0", "+OK\r\n");
    expect(server, "DBSIZE", ":100\r\n");
    expect(server, "GET key:1", "$4\r\nzero\r\n");
    expect(server, "SWAPDB 0 0", "+OK\r\n");
    expect(server, "DBSIZE", ":100\r\n");
    expect(server, "SELECT 1", "+OK\r\n");
    expect(server, "GET key:1", "$3\r\nnew\r\n");
}

static void flushing_one_or_all(void **state) {
    struct in_process *server = *state;
    key_server_fill(server, 1000, "SET key:%u x");
    expect(server, "SELECT 3", "+OK\r\n");
    key_server_fill(server, 10, "SET key:%u x");
    expect(server, "FLUSHDB what", "-ERR syntax error\r\n");
    expect(server, "FLUSHDB SYNC ASYNC", "-ERR syntax error\r\n");
    expect(server, "FLUSHALL what", "-ERR syntax error\r\n");
    expect(server, "DBSIZE", ":10\r\n");
    expect(server, "FLUSHDB", "+OK\r\n");
    expect(server, "DBSIZE", ":0\r\n");
    expect(server, "SET key x", "+OK\r\n");
    expect(server, "SELECT 0", "+OK\r\n");
    expect(server, "DBSIZE", ":1000\r\n");
    expect(server, "FLUSHALL async", "+OK\r\n");
    expect(server, "DBSIZE", ":0\r\n");
    expect(server, "SELECT 3", "+OK\r\n");
    expect(server, "DBSIZE", ":0\r\n");
    expect(server, "SET key x", "+OK\r\n");
    expect(server, "FLUSHDB sync", "+OK\r\n");
    expect(server, "GET key", "$-1\r\n");
}

static void flushed_memory_comes_back(void **state) {
    struct in_process *server = *state;
    struct keyspace_usage before = key_server_usage(server);
    key_server_fill(server, 5000, "SET key:%u 0123456789012345678901234567890123456789");
    expect(server, "FLUSHALL", "+OK\r\n");
    for (uint32_t shard = 0; shard < server->keyspace->shard_count; shard++)
        while (keyspace_drain(server->keyspace, shard, DRAIN_NS)) {
        }
    struct keyspace_usage after = key_server_usage(server);
    assert_int_equal(after.record_bytes, before.record_bytes);
    assert_int_equal(after.index_bytes, before.index_bytes);
}

/* ---- watchers ---- */

static void watchers_of_keys_that_went(void **state) {
    struct in_process *server = *state;
    expect(server, "SET key x", "+OK\r\n");
    assert_false(key_server_watcher_is_told(server, "WATCH missing", "FLUSHALL"));
    expect(server, "SET key x", "+OK\r\n");
    assert_true(key_server_watcher_is_told(server, "WATCH key", "FLUSHDB"));
    expect(server, "SET key x", "+OK\r\n");
    assert_true(key_server_watcher_is_told(server, "WATCH missing key", "FLUSHALL"));
    expect(server, "SET key x", "+OK\r\n");
    assert_false(key_server_watcher_is_told(server, "WATCH missing", "SWAPDB 0 1"));
    assert_true(key_server_watcher_is_told(server, "WATCH key", "SWAPDB 0 1"));
    assert_false(key_server_watcher_is_told(server, "WATCH key", "SWAPDB 0 0"));
}

static void an_expired_key_is_as_good_as_none_to_watchers(void **state) {
    struct in_process *server = *state;
    expect(server, "SELECT 1", "+OK\r\n");
    expect(server, "SET key x PX 10", "+OK\r\n");
    server->dispatcher->now_ms += 20;
    assert_false(key_server_watcher_is_told(server, "WATCH key", "SWAPDB 0 1")); /* it comes in the place of none */
    assert_false(key_server_watcher_is_told(server, "WATCH key", "SWAPDB 0 1")); /* and goes */
    expect(server, "SELECT 0", "+OK\r\n");
    expect(server, "SET key y PX 10", "+OK\r\n");
    server->dispatcher->now_ms += 20;
    assert_false(key_server_watcher_is_told(server, "WATCH key", "SWAPDB 0 1"));
    assert_false(key_server_watcher_is_told(server, "WATCH key", "FLUSHALL"));
    expect(server, "SELECT 1", "+OK\r\n");
    expect(server, "SET key z", "+OK\r\n");
    assert_true(key_server_watcher_is_told(server, "WATCH key", "SWAPDB 0 1"));
}

static void inside_a_transaction(void **state) {
    struct in_process *server = *state;
    expect(server, "MULTI", "+OK\r\n");
    expect(server, "SET key zero", "+QUEUED\r\n");
    expect(server, "SELECT 1", "+QUEUED\r\n");
    expect(server, "SET key one", "+QUEUED\r\n");
    expect(server, "SWAPDB 0 1", "+QUEUED\r\n");
    expect(server, "GET key", "+QUEUED\r\n");
    expect(server, "FLUSHDB", "+QUEUED\r\n");
    expect(server, "DBSIZE", "+QUEUED\r\n");
    expect(server, "KEYS *", "+QUEUED\r\n");
    expect(server, "EXEC", "*8\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n$4\r\nzero\r\n+OK\r\n:0\r\n*0\r\n");
    assert_int_equal(server->session->database, 1);
    expect(server, "SELECT 0", "+OK\r\n");
    expect(server, "GET key", "$3\r\none\r\n");
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, set_up, in_process_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_server(databases_are_apart),
        with_server(numbers_that_are_no_database),
        with_server(swapping_exchanges_contents),
        with_server(flushing_one_or_all),
        with_server(flushed_memory_comes_back),
        with_server(watchers_of_keys_that_went),
        with_server(an_expired_key_is_as_good_as_none_to_watchers),
        with_server(inside_a_transaction),
    };
    return cmocka_run_group_tests_name("command/database_commands", tests, NULL, NULL);
}
