/* When keys end. The clock stands still unless a test moves it, so every reply is exact. */

#include "command/families.h"
#include "tests/support/key_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define expect in_process_expect

static int set_up(void **state) {
    *state = key_server_create();
    in_process_expect(*state, "SET key value", "+OK\r\n");
    return 0;
}

static void each_form_sets_the_same_moment(void **state) {
    struct in_process *server = *state;
    expect(server, "TTL missing", ":-2\r\n");
    expect(server, "PTTL missing", ":-2\r\n");
    expect(server, "EXPIRETIME missing", ":-2\r\n");
    expect(server, "PEXPIRETIME missing", ":-2\r\n");
    expect(server, "TTL key", ":-1\r\n");
    expect(server, "PTTL key", ":-1\r\n");
    expect(server, "EXPIRETIME key", ":-1\r\n");
    expect(server, "PEXPIRETIME key", ":-1\r\n");
    const char *const forms[] = {"EXPIRE key 100", "PEXPIRE key 100000", "EXPIREAT key 2000000100",
                                 "PEXPIREAT key 2000000100000"};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        expect(server, forms[i], ":1\r\n");
        expect(server, "TTL key", ":100\r\n");
        expect(server, "PTTL key", ":100000\r\n");
        expect(server, "EXPIRETIME key", ":2000000100\r\n");
        expect(server, "PEXPIRETIME key", ":2000000100000\r\n");
        expect(server, "PERSIST key", ":1\r\n");
        expect(server, "PERSIST key", ":0\r\n");
        expect(server, "TTL key", ":-1\r\n");
    }
    expect(server, "GET key", "$5\r\nvalue\r\n");
    expect(server, "EXPIRE missing 100", ":0\r\n");
    expect(server, "PERSIST missing", ":0\r\n");
}

static void seconds_are_rounded(void **state) {
    struct in_process *server = *state;
    expect(server, "PEXPIRE key 1499", ":1\r\n");
    expect(server, "TTL key", ":1\r\n");
    expect(server, "EXPIRETIME key", ":2000000001\r\n");
    expect(server, "PEXPIRE key 1500", ":1\r\n");
    expect(server, "TTL key", ":2\r\n");
    expect(server, "EXPIRETIME key", ":2000000002\r\n");
    expect(server, "PEXPIRE key 1", ":1\r\n");
    expect(server, "TTL key", ":0\r\n");
    expect(server, "PTTL key", ":1\r\n");
    in_process_advance(server, 1);
    expect(server, "PTTL key", ":-2\r\n");
    expect(server, "DBSIZE", ":0\r\n");
}

static void a_moment_in_the_past_removes(void **state) {
    struct in_process *server = *state;
    const char *const past[] = {"EXPIRE key 0",    "EXPIRE key -1",
                                "PEXPIRE key 0",   "PEXPIRE key -9223372036854775808",
                                "EXPIREAT key 0",  "EXPIREAT key -9223372036854775",
                                "PEXPIREAT key 1", "PEXPIREAT key 2000000000000"};
    for (size_t i = 0; i < sizeof(past) / sizeof(past[0]); i++) {
        expect(server, "SET key value", "+OK\r\n");
        expect(server, past[i], ":1\r\n");
        expect(server, "DBSIZE", ":0\r\n");
        expect(server, past[i], ":0\r\n");
    }
    assert_int_equal(key_server_usage(server).counters.expired, 0); /* removed by a command, not by the clock */
}

static void conditions(void **state) {
    struct in_process *server = *state;
    expect(server, "EXPIRE key 10 XX", ":0\r\n");
    expect(server, "EXPIRE key 10 GT", ":0\r\n");
    expect(server, "EXPIRE key -1 GT", ":0\r\n");
    expect(server, "EXPIRE key 10 XX GT", ":0\r\n");
    expect(server, "EXPIRE key 10 xx lt", ":0\r\n");
    expect(server, "TTL key", ":-1\r\n");
    expect(server, "EXPIRE key 10 NX", ":1\r\n");
    expect(server, "EXPIRE key 20 NX", ":0\r\n");
    expect(server, "EXPIRE key -1 NX", ":0\r\n");
    expect(server, "EXPIRE key 20 XX", ":1\r\n");
    expect(server, "EXPIRE key 20 GT", ":0\r\n");
    expect(server, "EXPIRE key 20 LT", ":0\r\n");
    expect(server, "EXPIRE key 21 LT", ":0\r\n");
    expect(server, "EXPIRE key 19 gt", ":0\r\n");
    expect(server, "EXPIRE key 21 GT XX GT", ":1\r\n");
    expect(server, "EXPIRE key 19 LT xx", ":1\r\n");
    expect(server, "TTL key", ":19\r\n");
    expect(server, "PERSIST key", ":1\r\n");
    expect(server, "EXPIRE key 1000 LT", ":1\r\n");
    expect(server, "EXPIRE key -1 LT", ":1\r\n");
    expect(server, "EXISTS key", ":0\r\n");
    expect(server, "EXPIRE key 1000 LT", ":0\r\n");
}

static void refusals_in_order(void **state) {
    struct in_process *server = *state;
    expect(server, "EXPIRE key", "-ERR wrong number of arguments for 'expire' command\r\n");
    expect(server, "EXPIRE key x what", "-ERR Unsupported option what\r\n");
    expect(server, "EXPIRE key x NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n");
    expect(server, "EXPIRE key x NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n");
    expect(server, "EXPIRE key x LT NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n");
    expect(server, "EXPIRE key x GT LT XX", "-ERR GT and LT options at the same time are not compatible\r\n");
    expect(server, "EXPIRE missing x NX", "-ERR value is not an integer or out of range\r\n");
    expect(server, "EXPIRE key 9223372036854775808", "-ERR value is not an integer or out of range\r\n");
    expect(server, "EXPIRE key \"10 \"", "-ERR value is not an integer or out of range\r\n");
    expect(server, "TTL key", ":-1\r\n");
}

static void overflow_is_refused(void **state) {
    struct in_process *server = *state;
    expect(server, "EXPIRE key 9223372036854775807", "-ERR invalid expire time in 'expire' command\r\n");
    expect(server, "EXPIRE key 9223372036854775", "-ERR invalid expire time in 'expire' command\r\n");
    expect(server, "EXPIRE key 9223370036854775", ":1\r\n");
    expect(server, "EXPIRE key 9223370036854776", "-ERR invalid expire time in 'expire' command\r\n");
    expect(server, "EXPIRE missing -9223372036854776", "-ERR invalid expire time in 'expire' command\r\n");
    expect(server, "EXPIRE missing -9223372036854775", ":0\r\n");
    expect(server, "PEXPIRE key 9223372036854775807", "-ERR invalid expire time in 'pexpire' command\r\n");
    expect(server, "PEXPIRE key 9223370036854775807", ":1\r\n");
    expect(server, "PEXPIRE key 9223370036854775808", "-ERR invalid expire time in 'pexpire' command\r\n");
    expect(server, "EXPIREAT key 9223372036854776", "-ERR invalid expire time in 'expireat' command\r\n");
    expect(server, "EXPIREAT key 9223372036854775", ":1\r\n");
    expect(server, "PEXPIREAT key 9223372036854775807", ":1\r\n");
    expect(server, "GET key", "$5\r\nvalue\r\n");
}

/* 2^48 - 1 milliseconds is the last moment a record can hold. */
static void far_moments_become_the_last_one(void **state) {
    struct in_process *server = *state;
    expect(server, "PEXPIREAT key 281474976710654", ":1\r\n");
    expect(server, "PEXPIRETIME key", ":281474976710654\r\n");
    expect(server, "PEXPIREAT key 281474976710655 GT", ":1\r\n");
    expect(server, "PEXPIRETIME key", ":281474976710655\r\n");
    expect(server, "PEXPIREAT key 281474976710656", ":1\r\n");
    expect(server, "PEXPIRETIME key", ":281474976710655\r\n");
    expect(server, "EXPIRETIME key", ":281474976711\r\n");
    expect(server, "PTTL key", ":279474976710655\r\n");
    expect(server, "PEXPIREAT key 9223372036854775807 GT", ":0\r\n");
    in_process_advance(server, INT64_C(1000) * 365 * 86400 * 1000);
    expect(server, "EXISTS key", ":1\r\n");
}

static void integers_keep_their_value(void **state) {
    struct in_process *server = *state;
    expect(server, "SET number -12345678901", "+OK\r\n");
    expect(server, "EXPIRE number 5", ":1\r\n");
    expect(server, "GET number", "$12\r\n-12345678901\r\n");
    expect(server, "PERSIST number", ":1\r\n");
    expect(server, "GET number", "$12\r\n-12345678901\r\n");
    expect(server, "OBJECT ENCODING number", "$3\r\nint\r\n");
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, set_up, in_process_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_server(each_form_sets_the_same_moment),
        with_server(seconds_are_rounded),
        with_server(a_moment_in_the_past_removes),
        with_server(conditions),
        with_server(refusals_in_order),
        with_server(overflow_is_refused),
        with_server(far_moments_become_the_last_one),
        with_server(integers_keep_their_value),
    };
    return cmocka_run_group_tests_name("command/key_expiry_commands", tests, NULL, NULL);
}
