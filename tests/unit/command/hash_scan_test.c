/* Listing, walking and drawing fields, of packed and of big hashes. */

#include "command/families.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static int start(void **state) {
    const struct command_family families[] = {{hash_commands, hash_command_count},
                                              {key_commands, key_command_count},
                                              {object_commands, object_command_count},
                                              {string_commands, string_command_count}};
    *state = in_process_create(families, sizeof(families) / sizeof(families[0]));
    return 0;
}

/* The same with hashes that are big from the third field on. */
static int start_small(void **state) {
    start(state);
    struct in_process *server = *state;
    server->keyspace->limits.hash_packed_entries = 2;
    return 0;
}

static void all_fields_are_listed(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "HGETALL k", "*0\r\n");
    in_process_run(server, "HSET k a 1");
    in_process_expect(server, "HGETALL k", "*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    server->session->protocol = 3;
    in_process_expect(server, "HGETALL k", "%1\r\n$1\r\na\r\n$1\r\n1\r\n");
    in_process_expect(server, "HKEYS k", "*1\r\n$1\r\na\r\n");
    in_process_expect(server, "HVALS k", "*1\r\n$1\r\n1\r\n");
    in_process_expect(server, "HSTRLEN k a", ":1\r\n");
    in_process_expect(server, "HEXISTS k a", ":1\r\n");
    in_process_expect(server, "HEXISTS k b", ":0\r\n");
    in_process_run(server, "HSET k b 2 c 3 d 4");
    assert_memory_equal(in_process_run(server, "HGETALL k"), "%4\r\n", 4);
    assert_memory_equal(in_process_run(server, "HVALS k"), "*4\r\n", 4);
}

/* The fields and values of a step are bulks behind the cursor. */
static void a_scan_meets_every_field(void **state) {
    struct in_process *server = *state;
    enum { FIELDS = 600 };
    static char seen[FIELDS];
    char line[64];
    memset(seen, 0, sizeof(seen));
    for (int i = 0; i < FIELDS; i++) {
        snprintf(line, sizeof(line), "HSET k f%d v", i);
        in_process_run(server, line);
    }
    unsigned long long cursor = 0;
    int steps = 0;
    do {
        snprintf(line, sizeof(line), "HSCAN k %llu COUNT 50 NOVALUES", cursor);
        const char *at = in_process_run(server, line);
        int field, used;
        at = strstr(at, "\r\n") + 2;
        at = strstr(at, "\r\n") + 2;
        cursor = strtoull(at, NULL, 10);
        at = strstr(at, "\r\n") + 2;
        at = strstr(at, "\r\n") + 2;
        for (; sscanf(at, "$%*d\r\nf%d\r\n%n", &field, &used) == 1; at += used) seen[field] = 1;
        steps++;
    } while (cursor && steps < FIELDS);
    assert_int_equal(cursor, 0);
    for (int i = 0; i < FIELDS; i++) assert_true(seen[i]);
    in_process_expect(server, "HSCAN k 0 MATCH f5 COUNT 1000", "*2\r\n$1\r\n0\r\n*2\r\n$2\r\nf5\r\n$1\r\nv\r\n");
    in_process_expect(server, "HSCAN k 0 COUNT 0", "-ERR syntax error\r\n");
    in_process_expect(server, "HSCAN k x", "-ERR invalid cursor\r\n");
    in_process_expect(server, "HSCAN none 0 what", "*2\r\n$1\r\n0\r\n*0\r\n");
}

static void drawn_fields_differ_unless_repeats_are_asked_for(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "HRANDFIELD k", "$-1\r\n");
    in_process_expect(server, "HRANDFIELD k 5", "*0\r\n");
    in_process_run(server, "HSET k a 1 b 2 c 3 d 4");
    for (int i = 0; i < 100; i++) {
        char first, second;
        assert_int_equal(
            sscanf(in_process_run(server, "HRANDFIELD k 2"), "*2\r\n$1\r\n%c\r\n$1\r\n%c\r\n", &first, &second), 2);
        assert_int_not_equal(first, second);
    }
    assert_memory_equal(in_process_run(server, "HRANDFIELD k 9 WITHVALUES"), "*8\r\n", 4);
    assert_memory_equal(in_process_run(server, "HRANDFIELD k -9"), "*9\r\n", 4);
    server->session->protocol = 3;
    assert_memory_equal(in_process_run(server, "HRANDFIELD k 3 WITHVALUES"), "*3\r\n*2\r\n", 8);
    in_process_expect(server, "HRANDFIELD k 1 what", "-ERR syntax error\r\n");
    in_process_expect(server, "HRANDFIELD k -9223372036854775807", "-" ERROR_NO_MEMORY "\r\n");
    in_process_expect(server, "HRANDFIELD k -9223372036854775807 WITHVALUES", "-ERR value is out of range\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_fields_are_listed, start, in_process_stop),
        {"all_fields_are_listed, big", all_fields_are_listed, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(a_scan_meets_every_field, start, in_process_stop),
        {"a_scan_meets_every_field, big", a_scan_meets_every_field, start_small, in_process_stop, NULL},
        cmocka_unit_test_setup_teardown(drawn_fields_differ_unless_repeats_are_asked_for, start, in_process_stop),
        {"drawn_fields_differ_unless_repeats_are_asked_for, big", drawn_fields_differ_unless_repeats_are_asked_for,
         start_small, in_process_stop, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
