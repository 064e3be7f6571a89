/* Expiry times as arguments: units, bases, and every edge of 64 bits, through SET, SETEX and GETEX. */

#include "command/expiry_argument.h"
#include "command/families.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define OK      "+OK\r\n"
#define INVALID "-ERR invalid expire time in 'set' command\r\n"

/* PEXPIRETIME, so that this test needs no other family. */
static void command_when(struct call *call) {
    struct lookup lookup = keyspace_find(&call->view, &call->keys[0]);
    reply_integer(call->reply, lookup.record ? record_expiry(lookup.record) : -2);
}

/* ANY key time: what EXPIRE accepts, in seconds from now. */
static void command_any(struct call *call) {
    int64_t expiry_ms;
    if (expiry_argument_parse(call, 2, (struct expiry_form){0}, EXPIRY_ANY, &expiry_ms))
        reply_integer(call->reply, expiry_ms);
}

static const struct command_spec own_commands[] = {
    {.name = "when", .handler = command_when, .arity = 2, .keys = {KEY_AT(1, KEY_RO)}, .group = "test"},
    {.name = "any", .handler = command_any, .arity = 3, .keys = {KEY_AT(1, KEY_RO)}, .group = "test"},
};

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count}, {own_commands, 2}};
    *state = in_process_create(families, 2);
    return 0;
}

static void forms_are_told_by_their_word(void **state) {
    (void)state;
    struct expiry_form form;
    assert_true(expiry_form_parse(SPAN_LITERAL("Ex"), &form));
    assert_true(!form.milliseconds && !form.absolute);
    assert_true(expiry_form_parse(SPAN_LITERAL("pX"), &form));
    assert_true(form.milliseconds && !form.absolute);
    assert_true(expiry_form_parse(SPAN_LITERAL("EXAT"), &form));
    assert_true(!form.milliseconds && form.absolute);
    assert_true(expiry_form_parse(SPAN_LITERAL("pxat"), &form));
    assert_true(form.milliseconds && form.absolute);
    assert_false(expiry_form_parse(SPAN_LITERAL("exa"), &form));
    assert_false(expiry_form_parse(SPAN_LITERAL(""), &form));
    assert_false(expiry_form_parse(SPAN_LITERAL("persist"), &form));
}

static void relative_times_count_from_now(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SET k v EX 10", OK);
    assert_int_equal(in_process_integer(server, "WHEN k"), IN_PROCESS_START_MS + 10000);
    in_process_expect(server, "SET k v PX 10", OK);
    assert_int_equal(in_process_integer(server, "WHEN k"), IN_PROCESS_START_MS + 10);
}

static void absolute_times_stand_as_they_are(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SET k v EXAT 2000000001", OK);
    assert_int_equal(in_process_integer(server, "WHEN k"), IN_PROCESS_START_MS + 1000);
    in_process_expect(server, "SET k v PXAT 2000000000007", OK);
    assert_int_equal(in_process_integer(server, "WHEN k"), IN_PROCESS_START_MS + 7);
}

static void times_that_cannot_be_are_refused(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SET k v EX 0", INVALID);
    in_process_expect(server, "SET k v PXAT -1", INVALID);
    in_process_expect(server, "SET k v EX 9223372036854776", INVALID);
    in_process_expect(server, "SET k v EXAT 9223372036854776", INVALID);
    in_process_expect(server, "SET k v PX 9223372036854775807", INVALID);
    in_process_expect(server, "SET k v EX 9223372036854775807", INVALID);
    in_process_expect(server, "SET k v EX 1.5", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(server, "SET k v EX 9223372036854775808", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(server, "SETEX k -1 v", "-ERR invalid expire time in 'setex' command\r\n");
    in_process_expect(server, "PSETEX k 0 v", "-ERR invalid expire time in 'psetex' command\r\n");
    in_process_expect(server, "WHEN k", ":-2\r\n");
}

static void the_far_future_is_kept_as_the_farthest_that_fits(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SET k v PXAT 9223372036854775807", OK);
    assert_int_equal(in_process_integer(server, "WHEN k"), RECORD_EXPIRY_MAX);
    in_process_expect(server, "SET k v EXAT 9223372036854775", OK);
    assert_int_equal(in_process_integer(server, "WHEN k"), RECORD_EXPIRY_MAX);
}

static void any_time_includes_the_past(void **state) {
    struct in_process *server = *state;
    assert_int_equal(in_process_integer(server, "ANY k -10"), IN_PROCESS_START_MS - 10000);
    assert_int_equal(in_process_integer(server, "ANY k -9223372036854775"),
                     IN_PROCESS_START_MS - INT64_C(9223372036854775000));
    in_process_expect(server, "ANY k -9223372036854776", "-ERR invalid expire time in 'any' command\r\n");
    in_process_expect(server, "ANY k 9223372036854775", "-ERR invalid expire time in 'any' command\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_are_told_by_their_word),
        cmocka_unit_test_setup_teardown(relative_times_count_from_now, start, in_process_stop),
        cmocka_unit_test_setup_teardown(absolute_times_stand_as_they_are, start, in_process_stop),
        cmocka_unit_test_setup_teardown(times_that_cannot_be_are_refused, start, in_process_stop),
        cmocka_unit_test_setup_teardown(the_far_future_is_kept_as_the_farthest_that_fits, start, in_process_stop),
        cmocka_unit_test_setup_teardown(any_time_includes_the_past, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
