/* The line MONITOR shows. */

#include "command/session.h"
#include "net/connection.h"
#include "server/monitor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static const struct command set_command = {.full_name = "set"}, auth_command = {.full_name = "auth"};

static void expect_line(struct call *call, const char *expected) {
    size_t length;
    char *line = monitor_compose_line(call, INT64_C(1339518083000412), "/run/server.sock", &length);
    assert_non_null(line);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(line, expected, length);
    free(line);
}

static void it_tells_time_database_address_and_words(void **state) {
    (void)state;
    struct connection connection = {.peer = {.address = "127.0.0.1:60866"}};
    struct session session = {.database = 9, .connection = &connection};
    struct span argv[] = {SPAN_LITERAL("SET"), SPAN_LITERAL("key"), SPAN_LITERAL("")};
    struct call call = {.command = &set_command, .argv = argv, .argc = 3, .session = &session};
    expect_line(&call, "+1339518083.000412 [9 127.0.0.1:60866] \"SET\" \"key\" \"\"\r\n");
    connection.peer.is_unix = true;
    expect_line(&call, "+1339518083.000412 [9 unix:/run/server.sock] \"SET\" \"key\" \"\"\r\n");
}

static void bytes_that_are_not_plain_are_escaped(void **state) {
    (void)state;
    struct session session = {0};
    struct span argv[] = {SPAN_LITERAL("\\ \" \n\r\t\a\b"), SPAN_LITERAL("\0\x1f\x7f\xff~")};
    struct call call = {.command = &set_command, .argv = argv, .argc = 2, .session = &session};
    expect_line(&call, "+1339518083.000412 [0 ] \"\\\\ \\\" \\n\\r\\t\\a\\b\" \"\\x00\\x1f\\x7f\\xff~\"\r\n");
}

static void secrets_are_not_shown(void **state) {
    (void)state;
    struct session session = {0};
    struct span argv[] = {SPAN_LITERAL("AUTH"), SPAN_LITERAL("secret")};
    struct call call = {.command = &auth_command, .argv = argv, .argc = 2, .session = &session};
    expect_line(&call, "+1339518083.000412 [0 ] \"AUTH\" \"(redacted)\"\r\n");
}

/* Four times as long as the argument: that is decided before anything is allocated. */
static void a_line_that_no_feed_holds_is_not_made(void **state) {
    (void)state;
    size_t bytes = MONITOR_FEED_BYTES_MAX / 4, length;
    char *value = calloc(1, bytes);
    assert_non_null(value);
    struct session session = {0};
    struct span argv[] = {SPAN_LITERAL("SET"), SPAN_LITERAL("key"), {value, bytes}};
    struct call call = {.command = &set_command, .argv = argv, .argc = 3, .session = &session};
    assert_null(monitor_compose_line(&call, 0, "", &length));
    free(value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_time_database_address_and_words),
        cmocka_unit_test(bytes_that_are_not_plain_are_escaped),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(a_line_that_no_feed_holds_is_not_made),
    };
    return cmocka_run_group_tests_name("server/monitor", tests, NULL, NULL);
}
