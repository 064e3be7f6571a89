/* GET, GETDEL and STRLEN: whole values, short and long, and what happens to a long one while it is being sent. */

#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void get_replies_what_set_stored(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "GET k", "$-1\r\n");
    in_process_expect(server, "SET k hello", "+OK\r\n");
    in_process_expect(server, "GET k", "$5\r\nhello\r\n");
    in_process_expect(server, "SET k \"\"", "+OK\r\n");
    in_process_expect(server, "GET k", "$0\r\n\r\n");
    in_process_expect(server, "SET k \"\\x00\\r\\n\\xff\"", "+OK\r\n");
    in_process_expect_bytes(server, "GET k", "$4\r\n\0\r\n\xff\r\n");
    server->session->protocol = 3;
    in_process_expect(server, "GET other", "_\r\n");
}

static void integers_keep_their_spelling(void **state) {
    struct in_process *server = *state;
    static const char *const texts[] = {"0",
                                        "-1",
                                        "127",
                                        "128",
                                        "-32769",
                                        "2147483648",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "9223372036854775808",
                                        "007",
                                        "+1",
                                        "-0",
                                        " 1"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        in_process_run_with_value(server, "SET", "k", span_of_text(texts[i]));
        assert_true(span_equal(in_process_bulk(server, "GET k"), span_of_text(texts[i])));
        assert_int_equal(in_process_integer(server, "STRLEN k"), strlen(texts[i]));
    }
    in_process_expect(server, "STRLEN absent", ":0\r\n");
}

static void getdel_takes_the_key_away(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET k value");
    in_process_expect(server, "GETDEL k", "$5\r\nvalue\r\n");
    in_process_expect(server, "GETDEL k", "$-1\r\n");
    in_process_expect(server, "GET k", "$-1\r\n");
}

static void long_values_come_back_whole(void **state) {
    struct in_process *server = *state;
    size_t length = 3 * 1024 * 1024 + 5;
    char *bytes = malloc(length);
    assert_non_null(bytes);
    for (size_t i = 0; i < length; i++) bytes[i] = (char)(i * 31 + i / 1000);
    assert_string_equal(in_process_run_with_value(server, "SET", "k", span_of(bytes, length)), "+OK\r\n");
    assert_true(span_equal(in_process_bulk(server, "GET k"), span_of(bytes, length)));
    assert_true(span_equal(in_process_bulk(server, "GETDEL k"), span_of(bytes, length)));
    in_process_expect(server, "GET k", "$-1\r\n");
    free(bytes);
}

/* A reply that refers to the value must not see what later commands make of it. */
static void a_value_being_sent_does_not_change(void **state) {
    struct in_process *server = *state;
    enum { LENGTH = 200000 };
    static char bytes[LENGTH];
    static const char *const changes[] = {"SETRANGE k 0 xxxx", "APPEND k tail", "SET k short", "GETDEL k",
                                          "INCRBYFLOAT k 1"};
    memset(bytes, 'a', LENGTH);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        in_process_run_with_value(server, "SET", "k", span_of(bytes, LENGTH));
        char line[64];
        snprintf(line, sizeof(line), "GET k\r\n%s", changes[i]);
        in_process_run(server, line);
        const char *first = strstr(server->reply, "\r\n") + 2;
        assert_memory_equal(server->reply, "$200000\r\n", 9);
        assert_memory_equal(first, bytes, LENGTH);
    }
}

static void reads_count_hits_and_misses(void **state) {
    struct in_process *server = *state;
    struct keyspace_usage usage;
    in_process_run(server, "SET k v");
    in_process_run(server, "GET k");
    in_process_run(server, "STRLEN k");
    in_process_run(server, "GET other");
    keyspace_usage(&(struct view){.keyspace = server->keyspace}, &usage);
    assert_int_equal(usage.counters.hits, 2);
    assert_int_equal(usage.counters.misses, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(get_replies_what_set_stored, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(integers_keep_their_spelling, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(getdel_takes_the_key_away, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(long_values_come_back_whole, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(a_value_being_sent_does_not_change, in_process_start_strings, in_process_stop),
        cmocka_unit_test_setup_teardown(reads_count_hits_and_misses, in_process_start_strings, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
