/* SET with its options, its older relatives, and GETEX: conditions, expiry times, old values, syntax. */

#include "command/families.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define OK     "+OK\r\n"
#define NIL    "$-1\r\n"
#define SYNTAX "-ERR syntax error\r\n"

/* LEFT key: milliseconds to live; -1: for ever; -2: absent. */
static void command_left(struct call *call) {
    struct lookup lookup = keyspace_find(&call->view, &call->keys[0]);
    if (!lookup.record)
        reply_integer(call->reply, -2);
    else if (!record_has_expiry(lookup.record))
        reply_integer(call->reply, -1);
    else
        reply_integer(call->reply, record_expiry(lookup.record) - call->view.now_ms);
}

/* LIST key: makes it something that is no string. */
static void command_list(struct call *call) {
    struct record_plan plan = {.type = RECORD_LIST, .value = SPAN_LITERAL("x"), .expiry_ms = RECORD_EXPIRY_NONE};
    struct lookup lookup = keyspace_find(&call->view, &call->keys[0]);
    if (keyspace_store(&call->view, &call->keys[0], &lookup, &plan)) reply_ok(call->reply);
}

static const struct command_spec own_commands[] = {
    {.name = "left", .handler = command_left, .arity = 2, .keys = {KEY_AT(1, KEY_RO)}, .group = "test"},
    {.name = "list", .handler = command_list, .arity = 2, .keys = {KEY_AT(1, KEY_RO)}, .group = "test"},
};

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count}, {own_commands, 2}};
    *state = in_process_create(families, 2);
    return 0;
}

static void conditions_decide(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SET k 1 XX", NIL);
    in_process_expect(server, "SET k 1 nx", OK);
    in_process_expect(server, "SET k 2 NX", NIL);
    in_process_expect(server, "GET k", "$1\r\n1\r\n");
    in_process_expect(server, "SET k 2 XX XX", OK);
    in_process_expect(server, "GET k", "$1\r\n2\r\n");
    in_process_expect(server, "SETNX k 3", ":0\r\n");
    in_process_expect(server, "SETNX other 3", ":1\r\n");
}

static void a_value_is_replaced_if_it_is_the_expected_one(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SET k new IFEQ old", NIL);
    in_process_expect(server, "GET k", NIL);
    in_process_expect(server, "SET k 12", OK);
    in_process_expect(server, "SET k new IFEQ 012", NIL);
    in_process_expect(server, "SET k new ifeq 12", OK);
    in_process_expect(server, "SET k newer IFEQ old GET", "$3\r\nnew\r\n");
    in_process_expect(server, "GET k", "$3\r\nnew\r\n");
    in_process_expect(server, "SET k newer GET IFEQ new PX 1000", "$3\r\nnew\r\n");
    in_process_expect(server, "LEFT k", ":1000\r\n");
    in_process_expect(server, "SET k newest KEEPTTL IFEQ newer", OK);
    in_process_expect(server, "LEFT k", ":1000\r\n");
    in_process_expect(server, "SET k x IFEQ newest NX", SYNTAX);
    in_process_expect(server, "SET k x XX IFEQ newest", SYNTAX);
    in_process_expect(server, "SET k x IFEQ", SYNTAX);
    in_process_run(server, "LIST other");
    in_process_expect(server, "SET other x IFEQ x", "-" ERROR_WRONG_TYPE "\r\n");
}

/* Zeros of a paged value have no pages. */
static void a_value_made_of_pages_is_compared_whole(void **state) {
    enum { LENGTH = 200000 };
    struct in_process *server = *state;
    char *expected = calloc(1, LENGTH);
    assert_non_null(expected);
    in_process_run(server, "SETRANGE k 199999 x");
    const struct span words[] = {SPAN_LITERAL("SET"), SPAN_LITERAL("k"), SPAN_LITERAL("y"), SPAN_LITERAL("IFEQ"),
                                 span_of(expected, LENGTH)};
    expected[LENGTH - 1] = 'x';
    for (int i = 0; i < 3; i++) {
        expected[i * 99999] ^= 1;
        assert_string_equal(in_process_run_arguments(server, words, 5), NIL);
        expected[i * 99999] ^= 1;
    }
    assert_string_equal(in_process_run_arguments(server, words, 5), OK);
    in_process_expect(server, "GET k", "$1\r\ny\r\n");
    free(expected);
}

static void get_replies_the_old_value_whether_or_not_it_is_replaced(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SET k 1 GET", NIL);
    in_process_expect(server, "SET k 2 GET", "$1\r\n1\r\n");
    in_process_expect(server, "SET k 3 NX GET", "$1\r\n2\r\n");
    in_process_expect(server, "SET k 3 GET XX", "$1\r\n2\r\n");
    in_process_expect(server, "SET other 1 XX GET", NIL);
    in_process_expect(server, "GET other", NIL);
    in_process_expect(server, "GETSET k 4", "$1\r\n3\r\n");
    in_process_expect(server, "GETSET new 4", NIL);
    in_process_expect(server, "GET k", "$1\r\n4\r\n");
}

static void what_is_no_string_may_be_replaced_but_not_read(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "LIST k");
    in_process_expect(server, "SET k 1 GET", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "GETSET k 1", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "GETEX k EX 0", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "SETNX k 1", ":0\r\n");
    in_process_expect(server, "GET k", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "SET k 1", OK);
    in_process_expect(server, "GET k", "$1\r\n1\r\n");
}

static void a_new_value_loses_the_expiry_unless_kept(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SETEX k 100 v", OK);
    in_process_expect(server, "SET k w KEEPTTL", OK);
    in_process_expect(server, "LEFT k", ":100000\r\n");
    in_process_expect(server, "SET k w", OK);
    in_process_expect(server, "LEFT k", ":-1\r\n");
    in_process_expect(server, "PSETEX k 100 v", OK);
    in_process_expect(server, "GETSET k w", "$1\r\nv\r\n");
    in_process_expect(server, "LEFT k", ":-1\r\n");
    in_process_expect(server, "SET other v KEEPTTL", OK);
    in_process_expect(server, "LEFT other", ":-1\r\n");
}

static void a_key_is_gone_when_its_time_has_come(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET k v PX 50");
    in_process_advance(server, 49);
    in_process_expect(server, "GET k", "$1\r\nv\r\n");
    in_process_advance(server, 1);
    in_process_expect(server, "SET k w XX", NIL);
    in_process_expect(server, "GET k", NIL);
    in_process_expect(server, "SET k v EXAT 1", OK);
    in_process_expect(server, "GET k", NIL);
}

static void options_that_contradict_are_refused(void **state) {
    struct in_process *server = *state;
    static const char *const lines[] = {
        "SET k v NX XX",          "SET k v XX NX",   "SET k v EX",   "SET k v EX 1 PX 1", "SET k v EX 1 KEEPTTL",
        "SET k v KEEPTTL PXAT 1", "SET k v PERSIST", "SET k v what", "GETEX k NX",        "GETEX k PERSIST EX 1",
        "GETEX k EX 1 PERSIST",   "GETEX k KEEPTTL", "GETEX k EX"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) in_process_expect(server, lines[i], SYNTAX);
    in_process_expect(server, "GET k", NIL);
    in_process_expect(server, "SET k v EX 1 EX 2", OK);
    in_process_expect(server, "LEFT k", ":2000\r\n");
}

static void getex_changes_only_the_expiry(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "GETEX k EX 0", NIL);
    in_process_run(server, "SET k v");
    in_process_expect(server, "GETEX k EX 10", "$1\r\nv\r\n");
    in_process_expect(server, "LEFT k", ":10000\r\n");
    in_process_expect(server, "GETEX k", "$1\r\nv\r\n");
    in_process_expect(server, "LEFT k", ":10000\r\n");
    in_process_expect(server, "GETEX k EX 0", "-ERR invalid expire time in 'getex' command\r\n");
    in_process_expect(server, "GETEX k PERSIST", "$1\r\nv\r\n");
    in_process_expect(server, "LEFT k", ":-1\r\n");
    in_process_expect(server, "GETEX k PXAT 5", "$1\r\nv\r\n");
    struct view view = {.keyspace = server->keyspace};
    assert_int_equal(keyspace_database_size(&view), 0);
    in_process_expect(server, "GET k", NIL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(conditions_decide, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_value_is_replaced_if_it_is_the_expected_one, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_value_made_of_pages_is_compared_whole, start, in_process_stop),
        cmocka_unit_test_setup_teardown(get_replies_the_old_value_whether_or_not_it_is_replaced, start,
                                        in_process_stop),
        cmocka_unit_test_setup_teardown(what_is_no_string_may_be_replaced_but_not_read, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_new_value_loses_the_expiry_unless_kept, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_key_is_gone_when_its_time_has_come, start, in_process_stop),
        cmocka_unit_test_setup_teardown(options_that_contradict_are_refused, start, in_process_stop),
        cmocka_unit_test_setup_teardown(getex_changes_only_the_expiry, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
