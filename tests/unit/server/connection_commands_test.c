/* AUTH, HELLO, PING, ECHO, QUIT and RESET, without a socket. */

#include "server/families.h"
#include "server/server.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define expect         in_process_expect
#define WRONG_PASSWORD "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
#define NOT_YET        "-NOAUTH Authentication required.\r\n"

static struct server *owner;

static void require_password(const char *password) {
    const struct config_pair pair = {SPAN_LITERAL("requirepass"), span_of_text(password)};
    const struct config_set_options options = {0};
    struct config_error error;
    assert_true(config_set(&owner->config, &pair, 1, &options, &error));
}

static int set_up(void **state) {
    const struct command_family families[] = {{connection_commands, connection_command_count}};
    struct in_process *server = in_process_create(families, 1);
    owner = calloc(1, sizeof(*owner));
    config_init(&owner->config);
    server->host.ctx = owner;
    *state = server;
    return 0;
}

static int tear_down(void **state) {
    in_process_destroy(*state);
    config_free(&owner->config);
    free(owner);
    return 0;
}

static void ping_and_echo(void **state) {
    struct in_process *server = *state;
    expect(server, "PING", "+PONG\r\n");
    expect(server, "PING hello", "$5\r\nhello\r\n");
    expect(server, "PING a b", "-ERR wrong number of arguments for 'ping' command\r\n");
    expect(server, "ECHO \"\"", "$0\r\n\r\n");
}

static void auth_without_a_password(void **state) {
    struct in_process *server = *state;
    expect(server, "AUTH x",
           "-ERR AUTH <password> called without any password configured for the default user. Are you sure your "
           "configuration is correct?\r\n");
    expect(server, "AUTH default anything", "+OK\r\n");
    expect(server, "AUTH somebody anything", WRONG_PASSWORD);
    expect(server, "AUTH a b c", "-ERR syntax error\r\n");
}

static void auth_with_a_password(void **state) {
    struct in_process *server = *state;
    require_password("secret");
    server->session->authenticated = false;
    expect(server, "ECHO x", NOT_YET);
    expect(server, "AUTH wrong", WRONG_PASSWORD);
    expect(server, "AUTH somebody secret", WRONG_PASSWORD);
    expect(server, "ECHO x", NOT_YET);
    expect(server, "AUTH secret", "+OK\r\n");
    expect(server, "ECHO x", "$1\r\nx\r\n");
    expect(server, "AUTH wrong", WRONG_PASSWORD);
    expect(server, "ECHO x", "$1\r\nx\r\n");
}

static void nobody_has_to_authenticate_where_all_may_come_in(void **state) {
    struct in_process *server = *state;
    server->session->authenticated = false;
    atomic_store(&server->host.open_to_all, true);
    expect(server, "ECHO x", "$1\r\nx\r\n");
    atomic_store(&server->host.open_to_all, false);
    expect(server, "ECHO x", NOT_YET);
}

#define HELLO_2                                                                                                        \
    "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n" SERVER_REDIS_VERSION                               \
    "\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"     \
    "$7\r\nmodules\r\n*0\r\n"

static void hello_switches_the_protocol(void **state) {
    struct in_process *server = *state;
    expect(server, "HELLO", HELLO_2);
    const char *reply = in_process_run(server, "HELLO 3 SETNAME me");
    assert_memory_equal(reply, "%7\r\n", 4);
    assert_int_equal(server->session->protocol, 3);
    assert_string_equal(server->session->name, "me");
    expect(server, "HELLO 2", HELLO_2);
    assert_int_equal(server->session->protocol, 2);
}

static void a_hello_that_fails_changes_nothing(void **state) {
    struct in_process *server = *state;
    expect(server, "HELLO 1", "-NOPROTO unsupported protocol version\r\n");
    expect(server, "HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    expect(server, "HELLO x", "-ERR Protocol version is not an integer or out of range\r\n");
    expect(server, "HELLO 3 what", "-ERR Syntax error in HELLO option 'what'\r\n");
    expect(server, "HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'\r\n");
    expect(server, "HELLO 3 SETNAME \"a b\"",
           "-ERR Client names cannot contain spaces, newlines or special characters.\r\n");
    expect(server, "HELLO 3 SETNAME me AUTH somebody x", WRONG_PASSWORD);
    assert_int_equal(server->session->protocol, 2);
    assert_null(server->session->name);
}

static void hello_asks_for_the_password(void **state) {
    struct in_process *server = *state;
    require_password("secret");
    server->session->authenticated = false;
    assert_memory_equal(in_process_run(server, "HELLO 3"), "-NOAUTH HELLO must be called with", 33);
    expect(server, "HELLO 3 AUTH default wrong", WRONG_PASSWORD);
    assert_memory_equal(in_process_run(server, "HELLO 2 AUTH default secret"), "*14\r\n", 5);
    assert_true(server->session->authenticated);
}

static void quit_ends_the_session(void **state) {
    struct in_process *server = *state;
    expect(server, "QUIT", "+OK\r\n");
    assert_true(server->session->closing);
}

static void reset_forgets(void **state) {
    struct in_process *server = *state;
    struct session *session = server->session;
    require_password("secret");
    in_process_run(server, "HELLO 3 SETNAME me");
    session->database = 3;
    session->no_touch = session->no_evict = session->transaction.open = true;
    session->library_name = strdup("driver");
    expect(server, "RESET", "+RESET\r\n");
    assert_int_equal(session->protocol, 2);
    assert_int_equal(session->database, 0);
    assert_null(session->name);
    assert_false(session->no_touch || session->no_evict || session->transaction.open || session->authenticated);
    assert_string_equal(session->library_name, "driver");
    expect(server, "ECHO x", NOT_YET);
}

static void reset_ends_silence(void **state) {
    struct in_process *server = *state;
    server->session->reply_mode = SESSION_REPLY_OFF;
    expect(server, "PING", "");
    expect(server, "RESET", "+RESET\r\n");
    expect(server, "PING", "+PONG\r\n");
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_server(ping_and_echo),
        with_server(auth_without_a_password),
        with_server(auth_with_a_password),
        with_server(nobody_has_to_authenticate_where_all_may_come_in),
        with_server(hello_switches_the_protocol),
        with_server(a_hello_that_fails_changes_nothing),
        with_server(hello_asks_for_the_password),
        with_server(quit_ends_the_session),
        with_server(reset_forgets),
        with_server(reset_ends_silence),
    };
    return cmocka_run_group_tests_name("server/connection_commands", tests, NULL, NULL);
}
