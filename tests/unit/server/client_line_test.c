/* The line of CLIENT LIST, and what clients are picked by. */

#include "server/client_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { CREATED_MS = 1000000, NOW_MS = CREATED_MS + 61999 };

static struct connection a_connection(void) {
    struct connection connection = {.fd = 9, .peer = {.address = "10.0.0.1:4000", .local = "10.0.0.2:6379"}};
    session_init(&connection.session, 7, CREATED_MS);
    return connection;
}

/* The line, valid until the next one. */
static const char *line_of(const struct connection *connection) {
    static char text[1024];
    FILE *out = fmemopen(text, sizeof(text), "w");
    assert_non_null(out);
    client_line_print(out, connection, NOW_MS);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* The words up to tot-mem, which depends on the size of structs. */
static void expect_beginning(const struct connection *connection, const char *expected) {
    assert_memory_equal(line_of(connection), expected, strlen(expected));
}

static void expect_word(const struct connection *connection, const char *word) {
    char padded[64];
    snprintf(padded, sizeof(padded), " %s ", word);
    if (!strstr(line_of(connection), padded)) fail_msg("no '%s' in %s", word, line_of(connection));
}

static void a_new_connection(void **state) {
    (void)state;
    struct connection connection = a_connection();
    connection.session.active_ms = NOW_MS - 2999;
    expect_beginning(&connection,
                     "id=7 addr=10.0.0.1:4000 laddr=10.0.0.2:6379 fd=9 name= age=61 idle=2 flags=N db=0 sub=0 "
                     "psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 "
                     "oll=0 omem=0 tot-mem=");
    const char *end = strstr(line_of(&connection), " events=");
    assert_string_equal(end, " events=r cmd=NULL user=default redir=-1 resp=2 lib-name= lib-ver= watch=0\n");
}

static void one_that_has_done_things(void **state) {
    (void)state;
    struct connection connection = a_connection();
    const struct command command = {.full_name = "client|list"};
    connection.session.name = "me";
    connection.session.library_name = "driver";
    connection.session.library_version = "1.2";
    connection.session.database = 5;
    connection.session.protocol = 3;
    connection.session.last_command = &command;
    connection.query_length = 10;
    connection.query_capacity = 30;
    connection.session.transaction.open = true;
    connection.session.transaction.count = 2;
    connection.session.transaction.bytes = 99;
    const char *words[] = {"name=me", "db=5",         "multi=2", "qbuf=10",         "qbuf-free=20",
                           "resp=3",  "multi-mem=99", "flags=x", "cmd=client|list", "lib-name=driver"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) expect_word(&connection, words[i]);
    assert_non_null(strstr(line_of(&connection), " lib-ver=1.2 watch=0\n"));
}

static void flags_and_events(void **state) {
    (void)state;
    struct connection connection = a_connection();
    connection.session.monitoring = connection.session.paused = connection.session.no_evict = true;
    connection.session.no_touch = connection.peer.is_unix = connection.killed = true;
    connection.kind = CONNECTION_MONITOR;
    expect_word(&connection, "flags=ObAUeT");
    connection = a_connection();
    atomic_store(&connection.session.watcher.dirty, true);
    connection.session.closing = true;
    expect_word(&connection, "flags=dc");
    connection.wants_write = true;
    expect_word(&connection, "events=rw");
    connection.stalled = true;
    expect_word(&connection, "events=w");
    connection.wants_write = false;
    expect_word(&connection, "events=");
}

static void classes(void **state) {
    (void)state;
    enum client_class class = CLIENT_CLASS_NORMAL;
    struct connection connection = a_connection();
    assert_true(client_class_parse(SPAN_LITERAL("PubSub"), &class));
    assert_int_equal(class, CLIENT_CLASS_PUBSUB);
    assert_true(client_class_parse(SPAN_LITERAL("slave"), &class));
    assert_int_equal(class, CLIENT_CLASS_REPLICA);
    assert_false(client_class_parse(SPAN_LITERAL("monitor"), &class));
    assert_false(client_class_parse(SPAN_LITERAL(""), &class));
    assert_int_equal(client_class_of(&connection), CLIENT_CLASS_NORMAL);
    connection.kind = CONNECTION_MONITOR;
    assert_int_equal(client_class_of(&connection), CLIENT_CLASS_NORMAL);
    connection.kind = CONNECTION_REPLICA;
    assert_int_equal(client_class_of(&connection), CLIENT_CLASS_REPLICA);
}

static void attributes(void **state) {
    (void)state;
    assert_true(client_attribute_is_valid(SPAN_LITERAL("")));
    assert_true(client_attribute_is_valid(SPAN_LITERAL("!name~")));
    assert_false(client_attribute_is_valid(SPAN_LITERAL("a b")));
    assert_false(client_attribute_is_valid(SPAN_LITERAL("a\n")));
    assert_false(client_attribute_is_valid(SPAN_LITERAL("\x7f")));
    assert_false(client_attribute_is_valid(SPAN_LITERAL("\xc3\xa4")));
    assert_false(client_attribute_is_valid(SPAN_LITERAL("a\0")));
    char *attribute = NULL;
    assert_true(client_attribute_set(&attribute, span_of("name and more", 4)));
    assert_string_equal(attribute, "name");
    assert_true(client_attribute_set(&attribute, span_of("", 0)));
    assert_null(attribute);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_connection), cmocka_unit_test(one_that_has_done_things),
        cmocka_unit_test(flags_and_events), cmocka_unit_test(classes),
        cmocka_unit_test(attributes),
    };
    return cmocka_run_group_tests_name("server/client_line", tests, NULL, NULL);
}
