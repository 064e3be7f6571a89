/* CLIENT PAUSE: who waits, and until when. */

#include "command/session.h"
#include "server/pause.h"
#include "server/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define NOW_MS INT64_C(4102444800000) /* a pause of then has not ended by the real clock either */

static const struct command read_command = {.full_name = "get", .flags = COMMAND_READONLY};
static const struct command write_command = {.full_name = "set", .flags = COMMAND_WRITE};
static const struct command publish_command = {.full_name = "publish", .flags = COMMAND_MAY_REPLICATE};
static const struct command exec_command = {.full_name = "exec", .flags = COMMAND_ENDS_TRANSACTION};

struct fixture {
    struct server *server;
    struct session session;
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->server = calloc(1, sizeof(*fixture->server));
    session_init(&fixture->session, 1, NOW_MS);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    session_free(&fixture->session);
    free(fixture->server);
    free(fixture);
    return 0;
}

static bool waits(struct fixture *fixture, const struct command *command, int64_t now_ms) {
    return pause_must_wait(fixture->server, &fixture->session, command, now_ms);
}

static void nobody_waits_without_a_pause(void **state) {
    assert_false(waits(*state, &write_command, NOW_MS));
}

static void all_wait_until_the_end(void **state) {
    struct fixture *fixture = *state;
    pause_begin(fixture->server, PAUSE_BY_CLIENT, true, NOW_MS + 50);
    assert_true(waits(fixture, &read_command, NOW_MS));
    assert_true(waits(fixture, &write_command, NOW_MS + 49));
    assert_false(waits(fixture, &write_command, NOW_MS + 50));
    assert_false(atomic_load(&fixture->server->host.paused));
}

static void writers_wait_and_readers_do_not(void **state) {
    struct fixture *fixture = *state;
    pause_begin(fixture->server, PAUSE_BY_CLIENT, false, NOW_MS + 50);
    assert_false(waits(fixture, &read_command, NOW_MS));
    assert_true(waits(fixture, &write_command, NOW_MS));
    assert_true(waits(fixture, &publish_command, NOW_MS));
    assert_false(waits(fixture, &exec_command, NOW_MS));
}

static void exec_is_what_was_queued(void **state) {
    struct fixture *fixture = *state;
    fixture->session.transaction.open = true;
    fixture->session.transaction.flags = COMMAND_READONLY;
    pause_begin(fixture->server, PAUSE_BY_CLIENT, false, NOW_MS + 50);
    assert_false(waits(fixture, &exec_command, NOW_MS));
    fixture->session.transaction.flags |= COMMAND_WRITE;
    assert_true(waits(fixture, &exec_command, NOW_MS));
    fixture->session.transaction.open = false;
}

static void monitors_never_wait(void **state) {
    struct fixture *fixture = *state;
    pause_begin(fixture->server, PAUSE_BY_CLIENT, true, NOW_MS + 50);
    fixture->session.monitoring = true;
    assert_false(waits(fixture, &write_command, NOW_MS));
}

static void a_second_pause_only_adds(void **state) {
    struct fixture *fixture = *state;
    pause_begin(fixture->server, PAUSE_BY_CLIENT, true, NOW_MS + 50);
    pause_begin(fixture->server, PAUSE_BY_CLIENT, false, NOW_MS + 20);
    assert_true(waits(fixture, &read_command, NOW_MS + 40));
    pause_begin(fixture->server, PAUSE_BY_CLIENT, false, NOW_MS + 90);
    assert_true(waits(fixture, &read_command, NOW_MS + 80));
}

static void after_the_end_it_begins_anew(void **state) {
    struct fixture *fixture = *state;
    pause_begin(fixture->server, PAUSE_BY_CLIENT, true, NOW_MS + 5000);
    pause_end(fixture->server, PAUSE_BY_CLIENT);
    assert_false(waits(fixture, &write_command, NOW_MS));
    pause_begin(fixture->server, PAUSE_BY_CLIENT, false, NOW_MS + 20);
    assert_false(waits(fixture, &read_command, NOW_MS));
    assert_true(waits(fixture, &write_command, NOW_MS + 19));
    assert_false(waits(fixture, &write_command, NOW_MS + 20));
}

static void the_end_of_one_reason_leaves_the_other(void **state) {
    struct fixture *fixture = *state;
    pause_begin(fixture->server, PAUSE_BY_CLIENT, false, NOW_MS + 50);
    pause_begin(fixture->server, PAUSE_FOR_FAILOVER, true, NOW_MS + 5000);
    assert_true(waits(fixture, &read_command, NOW_MS));
    pause_end(fixture->server, PAUSE_FOR_FAILOVER);
    assert_false(waits(fixture, &read_command, NOW_MS));
    assert_true(waits(fixture, &write_command, NOW_MS + 49));
    assert_false(waits(fixture, &write_command, NOW_MS + 50));
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_server(nobody_waits_without_a_pause),
        with_server(all_wait_until_the_end),
        with_server(writers_wait_and_readers_do_not),
        with_server(exec_is_what_was_queued),
        with_server(monitors_never_wait),
        with_server(a_second_pause_only_adds),
        with_server(after_the_end_it_begins_anew),
        with_server(the_end_of_one_reason_leaves_the_other),
    };
    return cmocka_run_group_tests_name("server/pause", tests, NULL, NULL);
}
