/* OBJECT: what it tells, when it refuses to, and that it leaves no trace. */

#include "command/families.h"
#include "tests/support/key_server.h"

#include <setjmp.h>
#include <stdarg.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define expect in_process_expect

static int set_up(void **state) {
    *state = key_server_create();
    return 0;
}

#define FORTY_FOUR "01234567890123456789012345678901234567890abc"

static void encodings(void **state) {
    struct in_process *server = *state;
    expect(server, "SET key -1", "+OK\r\n");
    expect(server, "OBJECT ENCODING key", "$3\r\nint\r\n");
    expect(server, "SET key 9223372036854775807", "+OK\r\n");
    expect(server, "OBJECT ENCODING key", "$3\r\nint\r\n");
    expect(server, "SET key 9223372036854775808", "+OK\r\n");
    expect(server, "OBJECT ENCODING key", "$6\r\nembstr\r\n");
    expect(server, "SET key \"\"", "+OK\r\n");
    expect(server, "OBJECT ENCODING key", "$6\r\nembstr\r\n");
    expect(server, "SET key " FORTY_FOUR, "+OK\r\n");
    expect(server, "OBJECT ENCODING key", "$6\r\nembstr\r\n");
    expect(server, "SET key " FORTY_FOUR "d", "+OK\r\n");
    expect(server, "object encoding key", "$3\r\nraw\r\n");
    expect(server, "OBJECT ENCODING missing", "$-1\r\n");
}

static void edited_values_are_raw_and_stay_so(void **state) {
    struct in_process *server = *state;
    expect(server, "SET key ab", "+OK\r\n");
    expect(server, "APPEND key c", ":3\r\n");
    expect(server, "OBJECT ENCODING key", "$3\r\nraw\r\n");
    expect(server, "EXPIRE key 100", ":1\r\n");
    expect(server, "OBJECT ENCODING key", "$3\r\nraw\r\n");
    expect(server, "RENAME key other", "+OK\r\n");
    expect(server, "OBJECT ENCODING other", "$3\r\nraw\r\n");
    expect(server, "COPY other key", ":1\r\n");
    expect(server, "OBJECT ENCODING key", "$3\r\nraw\r\n");
    expect(server, "SET key abc", "+OK\r\n");
    expect(server, "OBJECT ENCODING key", "$6\r\nembstr\r\n");
}

static void small_integers_look_shared(void **state) {
    struct in_process *server = *state;
    expect(server, "SET key 0", "+OK\r\n");
    expect(server, "OBJECT REFCOUNT key", ":2147483647\r\n");
    expect(server, "SET key 9999", "+OK\r\n");
    expect(server, "OBJECT REFCOUNT key", ":2147483647\r\n");
    expect(server, "SET key 10000", "+OK\r\n");
    expect(server, "OBJECT REFCOUNT key", ":1\r\n");
    expect(server, "SET key -1", "+OK\r\n");
    expect(server, "OBJECT REFCOUNT key", ":1\r\n");
    expect(server, "SET key text", "+OK\r\n");
    expect(server, "OBJECT REFCOUNT key", ":1\r\n");
    expect(server, "OBJECT REFCOUNT missing", "$-1\r\n");
    expect(server, "SET key 0", "+OK\r\n");
    server->keyspace->access.evicts = true;
    expect(server, "OBJECT REFCOUNT key", ":1\r\n");
}

static void idle_time_is_kept_without_a_counting_policy(void **state) {
    struct in_process *server = *state;
    expect(server, "SET key value", "+OK\r\n");
    in_process_advance(server, 61000);
    expect(server, "OBJECT IDLETIME key", ":61\r\n");
    expect(server, "OBJECT ENCODING key", "$6\r\nembstr\r\n");
    expect(server, "OBJECT REFCOUNT key", ":1\r\n");
    expect(server, "OBJECT IDLETIME key", ":61\r\n");
    expect(server, "OBJECT IDLETIME missing", "$-1\r\n");
    expect(server, "OBJECT FREQ missing", "$-1\r\n");
    expect(server, "OBJECT FREQ key",
           "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
           "switching between policies at runtime LRU and LFU data will take some time to adjust.\r\n");
}

static void uses_are_counted_under_a_counting_policy(void **state) {
    struct in_process *server = *state;
    server->keyspace->access.frequency = true;
    expect(server, "SET key value", "+OK\r\n");
    expect(server, "OBJECT FREQ key", ":5\r\n");
    expect(server, "OBJECT FREQ key", ":5\r\n");
    in_process_run(server, "GET key");
    expect(server, "OBJECT FREQ key", ":6\r\n");
    in_process_advance(server, 2 * 60000);
    expect(server, "OBJECT FREQ key", ":4\r\n");
    expect(server, "OBJECT IDLETIME missing", "$-1\r\n");
    expect(server, "OBJECT IDLETIME key",
           "-ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between "
           "policies at runtime LRU and LFU data will take some time to adjust.\r\n");
}

static void absence_in_resp3(void **state) {
    struct in_process *server = *state;
    server->session->protocol = 3;
    expect(server, "OBJECT ENCODING missing", "_\r\n");
    expect(server, "OBJECT FREQ missing", "_\r\n");
}

static void refusals(void **state) {
    struct in_process *server = *state;
    expect(server, "OBJECT", "-ERR wrong number of arguments for 'object' command\r\n");
    expect(server, "OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command\r\n");
    expect(server, "OBJECT HELP me", "-ERR wrong number of arguments for 'object|help' command\r\n");
    expect(server, "OBJECT What key", "-ERR unknown subcommand 'What'. Try OBJECT HELP.\r\n");
    assert_memory_equal(in_process_run(server, "OBJECT HELP"), "*13\r\n+OBJECT <subcommand> ", 24);
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, set_up, in_process_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_server(encodings),
        with_server(edited_values_are_raw_and_stay_so),
        with_server(small_integers_look_shared),
        with_server(idle_time_is_kept_without_a_counting_policy),
        with_server(uses_are_counted_under_a_counting_policy),
        with_server(absence_in_resp3),
        with_server(refusals),
    };
    return cmocka_run_group_tests_name("command/object_commands", tests, NULL, NULL);
}
