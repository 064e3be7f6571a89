/* SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP: single bits, ranges in bytes and bits, and combinations. */

#include "command/families.h"
#include "keyspace/watch.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define BAD_OFFSET "-ERR bit offset is not an integer or out of range\r\n"
#define SYNTAX     "-ERR syntax error\r\n"

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {bitmap_commands, bitmap_command_count},
                                              {transaction_commands, transaction_command_count}};
    *state = in_process_create(families, 3);
    return 0;
}

static void bits_are_set_and_read(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SETBIT k 1 1", ":0\r\n");
    in_process_expect(server, "GET k", "$1\r\n@\r\n");
    in_process_expect(server, "SETBIT k 17 1", ":0\r\n");
    in_process_expect_bytes(server, "GET k", "$3\r\n@\0@\r\n");
    in_process_expect(server, "SETBIT k 1 0", ":1\r\n");
    in_process_expect(server, "GETBIT k 1", ":0\r\n");
    in_process_expect(server, "GETBIT k 17", ":1\r\n");
    in_process_expect(server, "GETBIT k 4294967295", ":0\r\n");
    in_process_expect(server, "GETBIT absent 0", ":0\r\n");
    in_process_run(server, "SET number 12");
    in_process_expect(server, "GETBIT number 2", ":1\r\n");
    in_process_expect(server, "SETBIT number 7 0", ":1\r\n");
    in_process_expect(server, "GET number", "$2\r\n02\r\n");
}

static void offsets_and_bits_are_checked(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "SETBIT k 4294967296 1", BAD_OFFSET);
    in_process_expect(server, "SETBIT k -1 1", BAD_OFFSET);
    in_process_expect(server, "GETBIT k x", BAD_OFFSET);
    in_process_expect(server, "GETBIT k #1", BAD_OFFSET);
    in_process_expect(server, "SETBIT k 1 2", "-ERR bit is not an integer or out of range\r\n");
    in_process_expect(server, "SETBIT k 1 x", "-ERR bit is not an integer or out of range\r\n");
    in_process_expect(server, "GET k", "$-1\r\n");
}

static void writing_what_is_there_already_disturbs_no_watcher(void **state) {
    struct in_process *server = *state;
    struct session *own = server->session, other;
    session_init(&other, 2, IN_PROCESS_START_MS);
    other.authenticated = true;
    in_process_run(server, "SETBIT k 7 1");
    in_process_run(server, "SET number 1");
    in_process_run(server, "WATCH k number absent");
    server->session = &other;
    in_process_expect(server, "SETBIT k 7 1", ":1\r\n");
    in_process_expect(server, "SETBIT number 7 1", ":1\r\n");
    in_process_expect(server, "BITFIELD absent OVERFLOW FAIL SET u8 8 300", "*1\r\n$-1\r\n");
    in_process_expect(server, "STRLEN absent", ":2\r\n");
    in_process_expect(server, "BITFIELD k SET u8 0 1 OVERFLOW FAIL INCRBY u8 0 300", "*2\r\n:1\r\n$-1\r\n");
    server->session = own;
    in_process_run(server, "MULTI");
    in_process_expect(server, "EXEC", "*0\r\n");
    in_process_run(server, "WATCH k");
    server->session = &other;
    in_process_expect(server, "SETBIT k 7 0", ":1\r\n");
    server->session = own;
    in_process_run(server, "MULTI");
    in_process_expect(server, "EXEC", "*-1\r\n");
    session_free(&other);
}

static void bits_are_counted_in_ranges(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET k foobar");
    in_process_expect(server, "BITCOUNT k", ":26\r\n");
    in_process_expect(server, "BITCOUNT k 0 0", ":4\r\n");
    in_process_expect(server, "BITCOUNT k 1 1 byte", ":6\r\n");
    in_process_expect(server, "BITCOUNT k 5 30 BIT", ":17\r\n");
    in_process_expect(server, "BITCOUNT k -2 -1", ":7\r\n");
    in_process_expect(server, "BITCOUNT k -1 -2", ":0\r\n");
    in_process_expect(server, "BITCOUNT k 4 2", ":0\r\n");
    in_process_expect(server, "BITCOUNT k -9223372036854775808 9223372036854775807", ":26\r\n");
    in_process_run(server, "SET one \"\\xff\"");
    in_process_expect(server, "BITCOUNT one -1 -3", ":0\r\n");
    in_process_expect(server, "BITCOUNT one -3 -1", ":8\r\n");
    in_process_expect(server, "BITCOUNT k 0", SYNTAX);
    in_process_expect(server, "BITCOUNT k 0 1 what", SYNTAX);
    in_process_expect(server, "BITCOUNT k 0 x", "-" ERROR_NOT_INTEGER "\r\n");
    in_process_expect(server, "BITCOUNT absent", ":0\r\n");
    in_process_expect(server, "BITCOUNT absent 0", SYNTAX);
    in_process_expect(server, "BITCOUNT absent a b", "-" ERROR_NOT_INTEGER "\r\n");
    in_process_expect(server, "BITPOS absent 0 1 hello", "-" ERROR_NOT_INTEGER "\r\n");
    in_process_expect(server, "BITPOS absent 0 0 1 hello", SYNTAX);
}

static void the_first_bit_is_found(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET k \"\\xff\\xf0\\x00\"");
    in_process_expect(server, "BITPOS k 0", ":12\r\n");
    in_process_expect(server, "BITPOS k 1 2", ":-1\r\n");
    in_process_expect(server, "BITPOS k 0 13 -1 BIT", ":13\r\n");
    in_process_expect(server, "BITPOS k 1 7 15 BIT", ":7\r\n");
    in_process_expect(server, "BITPOS k 0 -1", ":16\r\n");
    in_process_run(server, "SET ones \"\\xff\\xff\"");
    in_process_expect(server, "BITPOS ones 0", ":16\r\n");
    in_process_expect(server, "BITPOS ones 0 1", ":16\r\n");
    in_process_expect(server, "BITPOS ones 0 0 -1", ":-1\r\n");
    in_process_expect(server, "BITPOS ones 0 5", ":-1\r\n");
    in_process_expect(server, "BITPOS absent 0", ":0\r\n");
    in_process_expect(server, "BITPOS absent 1", ":-1\r\n");
    in_process_expect(server, "BITPOS k 2", "-ERR The bit argument must be 1 or 0.\r\n");
    in_process_expect(server, "BITPOS k x", "-" ERROR_NOT_INTEGER "\r\n");
    in_process_expect(server, "BITPOS k 1 0 1 what", SYNTAX);
    in_process_expect(server, "BITPOS k 1 0 1 BIT more", SYNTAX);
}

static void strings_are_combined(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "MSET a abc b \"\\xff\\x0f\" n 7");
    in_process_expect(server, "BITOP and d a b", ":3\r\n");
    in_process_expect_bytes(server, "GET d", "$3\r\na\x02\0\r\n");
    in_process_expect(server, "BITOP OR d a b absent", ":3\r\n");
    in_process_expect(server, "GET d",
                      "$3\r\n\xffo"
                      "c\r\n");
    in_process_expect(server, "BITOP XOR d a a", ":3\r\n");
    in_process_expect_bytes(server, "GET d", "$3\r\n\0\0\0\r\n");
    in_process_expect(server, "BITOP NOT d n", ":1\r\n");
    in_process_expect(server, "GET d", "$1\r\n\xc8\r\n");
    in_process_expect(server, "BITOP NOT d n n", "-ERR BITOP NOT must be called with a single source key.\r\n");
    in_process_expect(server, "BITOP WHAT d n", SYNTAX);
}

static void the_destination_may_be_a_source(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "MSET n 7 long 0123456789");
    in_process_run(server, "SET n 7 EX 1");
    in_process_expect(server, "BITOP XOR n n long", ":10\r\n");
    in_process_expect(server, "GET n", "$10\r\n\a123456789\r\n");
    in_process_advance(server, 2000);
    in_process_expect(server, "BITOP XOR n long n", ":10\r\n");
    in_process_expect_bytes(server, "GET n", "$10\r\n7\0\0\0\0\0\0\0\0\0\r\n");
    in_process_expect(server, "BITOP AND n absent", ":0\r\n");
    in_process_expect(server, "GET n", "$-1\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bits_are_set_and_read, start, in_process_stop),
        cmocka_unit_test_setup_teardown(offsets_and_bits_are_checked, start, in_process_stop),
        cmocka_unit_test_setup_teardown(writing_what_is_there_already_disturbs_no_watcher, start, in_process_stop),
        cmocka_unit_test_setup_teardown(bits_are_counted_in_ranges, start, in_process_stop),
        cmocka_unit_test_setup_teardown(the_first_bit_is_found, start, in_process_stop),
        cmocka_unit_test_setup_teardown(strings_are_combined, start, in_process_stop),
        cmocka_unit_test_setup_teardown(the_destination_may_be_a_source, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
