/* BITFIELD and BITFIELD_RO: widths, offsets, overflow, and that a malformed operation changes nothing. */

#include "command/families.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define BAD_OFFSET "-ERR bit offset is not an integer or out of range\r\n"
#define BAD_TYPE   "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.\r\n"
#define SYNTAX     "-ERR syntax error\r\n"

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {bitmap_commands, bitmap_command_count}};
    *state = in_process_create(families, 2);
    return 0;
}

static void operations_run_in_order(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "BITFIELD k SET u8 0 255 GET u4 2 INCRBY i8 0 1 GET u8 0",
                      "*4\r\n:0\r\n:15\r\n:0\r\n:0\r\n");
    in_process_expect_bytes(server, "GET k", "$1\r\n\0\r\n");
    in_process_expect(server, "BITFIELD k SET i64 #1 -2 GET i64 #1 GET u63 64",
                      "*3\r\n:0\r\n:-2\r\n:9223372036854775807\r\n");
    in_process_expect(server, "STRLEN k", ":16\r\n");
    in_process_expect(server, "BITFIELD k", "*0\r\n");
}

static void offsets_with_a_hash_count_fields(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "BITFIELD k SET u8 #2 65", "*1\r\n:0\r\n");
    in_process_expect_bytes(server, "GET k", "$3\r\n\0\0A\r\n");
    in_process_expect(server, "BITFIELD k GET u8 #2 GET u8 16 GET u8 15", "*3\r\n:65\r\n:65\r\n:32\r\n");
}

static void overflow_is_as_asked_for(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "BITFIELD k SET u2 0 3 INCRBY u2 0 1", "*2\r\n:0\r\n:0\r\n");
    in_process_expect(server, "BITFIELD k OVERFLOW SAT INCRBY u2 0 7 INCRBY i4 8 -100", "*2\r\n:3\r\n:-8\r\n");
    in_process_expect(server, "BITFIELD k OVERFLOW FAIL INCRBY u2 0 1 SET u2 0 4 OVERFLOW WRAP INCRBY u2 0 1",
                      "*3\r\n$-1\r\n$-1\r\n:0\r\n");
    server->session->protocol = 3;
    in_process_expect(server, "BITFIELD k OVERFLOW fail INCRBY u1 0 2", "*1\r\n_\r\n");
}

static void a_malformed_operation_undoes_none_because_none_was_done(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "BITFIELD k SET u8 0 1 SET u64 0 1", BAD_TYPE);
    in_process_expect(server, "BITFIELD k SET u8 0 1 SET u8 0 x", "-" ERROR_NOT_INTEGER "\r\n");
    in_process_expect(server, "BITFIELD k SET u8 0 1 GET u8", SYNTAX);
    in_process_expect(server, "BITFIELD k SET u8 0 1 OVERFLOW what", "-ERR Invalid OVERFLOW type specified\r\n");
    in_process_expect(server, "BITFIELD k SET u8 0 1 OVERFLOW", SYNTAX);
    static const char *const types[] = {"", "u", "u0", "i65", "U8", "8", "i-1", "u08"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), "BITFIELD k GET \"%s\" 0", types[i]);
        in_process_expect(server, line, BAD_TYPE);
    }
    static const char *const offsets[] = {"-1", "#-1", "#", "4294967296", "#536870912", "#9223372036854775807", "1.5"};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), "BITFIELD k GET u8 %s", offsets[i]);
        in_process_expect(server, line, BAD_OFFSET);
    }
    in_process_expect(server, "GET k", "$-1\r\n");
}

static void a_field_may_not_reach_past_the_longest_value(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "BITFIELD k GET i64 4294967295", "*1\r\n:0\r\n");
    in_process_expect(server, "BITFIELD k SET i64 4294967295 1", BAD_OFFSET);
    in_process_expect(server, "GET k", "$-1\r\n");
}

static void the_reading_form_writes_nothing(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET k 1");
    in_process_expect(server, "BITFIELD_RO k GET u8 0 GET u8 #1", "*2\r\n:49\r\n:0\r\n");
    in_process_expect(server, "BITFIELD_RO k GET u8 0 SET u8 0 1",
                      "-ERR BITFIELD_RO only supports the GET subcommand\r\n");
    in_process_expect(server, "BITFIELD_RO absent GET u8 0", "*1\r\n:0\r\n");
    in_process_expect(server, "GET k", "$1\r\n1\r\n");
    in_process_expect(server, "GET absent", "$-1\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(operations_run_in_order, start, in_process_stop),
        cmocka_unit_test_setup_teardown(offsets_with_a_hash_count_fields, start, in_process_stop),
        cmocka_unit_test_setup_teardown(overflow_is_as_asked_for, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_malformed_operation_undoes_none_because_none_was_done, start,
                                        in_process_stop),
        cmocka_unit_test_setup_teardown(a_field_may_not_reach_past_the_longest_value, start, in_process_stop),
        cmocka_unit_test_setup_teardown(the_reading_form_writes_nothing, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
