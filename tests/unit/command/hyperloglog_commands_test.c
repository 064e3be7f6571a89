/* PFADD, PFCOUNT, PFMERGE, PFDEBUG, PFSELFTEST: replies, types, expiry, conversion, values that are corrupt. The
 * representation itself is record/hyperloglog's own test. */

#include "command/families.h"
#include "record/hyperloglog.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define OK       "+OK\r\n"
#define NOT_ONE  "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"
#define CORRUPT  "-INVALIDOBJ Corrupted HLL object detected\r\n"
#define ZEROS    "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00"
#define ELEMENTS 20000

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {hyperloglog_commands, hyperloglog_command_count}};
    *state = in_process_create(families, 2);
    return 0;
}

static void add_numbers(struct in_process *server, const char *key, unsigned first, unsigned count) {
    for (unsigned i = first; i < first + count; i++) {
        char text[16];
        int length = snprintf(text, sizeof(text), "%u", i);
        in_process_run_with_value(server, "PFADD", key, span_of(text, (size_t)length));
    }
}

static void adding_tells_whether_something_changed(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "PFADD k", ":1\r\n");
    in_process_expect(server, "PFADD k", ":0\r\n");
    in_process_expect(server, "PFADD k a b c", ":1\r\n");
    in_process_expect(server, "PFADD k a b c", ":0\r\n");
    in_process_expect(server, "PFCOUNT k", ":3\r\n");
    in_process_expect(server, "PFCOUNT absent", ":0\r\n");
}

static void counting_keeps_the_count_in_the_value(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "PFADD k a");
    struct span value = in_process_bulk(server, "GET k");
    assert_true((uint8_t)value.data[15] & 0x80);
    in_process_expect(server, "PFCOUNT k", ":1\r\n");
    value = in_process_bulk(server, "GET k");
    assert_int_equal(value.data[8], 1);
    assert_int_equal(value.data[15], 0);
}

static void sparse_becomes_dense_and_counts_on(void **state) {
    struct in_process *server = *state;
    add_numbers(server, "k", 0, 100);
    in_process_expect(server, "PFDEBUG ENCODING k", "+sparse\r\n");
    add_numbers(server, "k", 100, ELEMENTS - 100);
    in_process_expect(server, "PFDEBUG ENCODING k", "+dense\r\n");
    in_process_expect(server, "STRLEN k", ":12304\r\n");
    int64_t count = in_process_integer(server, "PFCOUNT k");
    assert_in_range(count, ELEMENTS * 95 / 100, ELEMENTS * 105 / 100);
    assert_int_equal(in_process_integer(server, "PFCOUNT k k"), count);
    in_process_expect(server, "PFADD k 1", ":0\r\n");
}

static void merging_unites(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "PFADD a 1 2 3");
    in_process_run(server, "PFADD b 3 4");
    in_process_expect(server, "PFCOUNT a b absent", ":4\r\n");
    in_process_expect(server, "PFMERGE d a b absent", OK);
    in_process_expect(server, "PFCOUNT d", ":4\r\n");
    in_process_expect(server, "PFMERGE d", OK);
    in_process_expect(server, "PFCOUNT d", ":4\r\n");
    in_process_expect(server, "PFMERGE fresh", OK);
    in_process_expect(server, "PFDEBUG DECODE fresh", "$7\r\nZ:16384\r\n");
    in_process_expect(server, "PFDEBUG TODENSE b", ":1\r\n");
    in_process_expect(server, "PFMERGE d b", OK);
    in_process_expect(server, "PFDEBUG ENCODING d", "+dense\r\n");
    in_process_expect(server, "PFCOUNT d", ":4\r\n");
}

static void changes_keep_the_expiry(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "PFADD k a");
    in_process_run(server, "GETEX k PX 100");
    in_process_run(server, "PFADD k b c d");
    in_process_run(server, "PFCOUNT k");
    in_process_run(server, "PFDEBUG TODENSE k");
    in_process_run(server, "PFADD k e");
    in_process_run(server, "PFMERGE k k");
    in_process_advance(server, 100);
    in_process_expect(server, "GET k", "$-1\r\n");
}

static void what_is_none_is_refused(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "MSET text HYLL number 1234567890123456789 bad \"HYLL\\x02\\x00\\x00\\x00" ZEROS "\"");
    static const char *const keys[] = {"text", "number", "bad"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        static const char *const formats[] = {"PFADD %s a", "PFCOUNT %s",   "PFCOUNT absent %s",
                                              "PFMERGE %s", "PFMERGE d %s", "PFDEBUG GETREG %s"};
        for (size_t k = 0; k < sizeof(formats) / sizeof(formats[0]); k++) {
            char line[64], *at = line;
            const char *hole = strchr(formats[k], '%');
            at = mempcpy(at, formats[k], (size_t)(hole - formats[k]));
            at = stpcpy(at, keys[i]);
            strcpy(at, hole + 2);
            in_process_expect(server, line, NOT_ONE);
        }
    }
    in_process_expect(server, "GET d", "$-1\r\n");
}

/* Runs that name fewer, or more, registers than there are. */
static void corrupt_runs_are_refused(void **state) {
    struct in_process *server = *state;
    static const char *const tails[] = {"\\x40", "\\x7f", "\\x7f\\xff\\x00", "\\x00", ""};
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        char line[160];
        snprintf(line, sizeof(line), "SET k \"HYLL\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80%s\"",
                 tails[i]);
        in_process_expect(server, line, OK);
        in_process_expect(server, "PFCOUNT k", CORRUPT);
        in_process_expect(server, "PFCOUNT k absent", CORRUPT);
        in_process_expect(server, "PFMERGE d k", CORRUPT);
        in_process_expect(server, "PFDEBUG TODENSE k", CORRUPT);
        in_process_run(server, "PFADD k a b c d e f");
    }
}

static void debugging_shows_what_is_inside(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "PFDEBUG ENCODING k", "-ERR The specified key does not exist\r\n");
    in_process_run(server, "PFADD k a");
    in_process_expect(server, "PFDEBUG what k", "-ERR Unknown PFDEBUG subcommand 'what'\r\n");
    in_process_expect(server, "PFDEBUG decode k", "$20\r\nZ:12711 v:2,1 Z:3672\r\n");
    in_process_run(server, "PFDEBUG GETREG k");
    assert_memory_equal(server->reply, "*16384\r\n", 8);
    assert_int_equal(server->reply_length, 8 + 4 * HYPERLOGLOG_REGISTERS);
    assert_int_equal(server->reply[8 + 4 * 12711 + 1], '2');
    in_process_expect(server, "PFDEBUG TODENSE k", ":0\r\n");
    in_process_expect(server, "PFDEBUG DECODE k", "-ERR HLL encoding is not sparse\r\n");
    in_process_expect(server, "PFSELFTEST", OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(adding_tells_whether_something_changed, start, in_process_stop),
        cmocka_unit_test_setup_teardown(counting_keeps_the_count_in_the_value, start, in_process_stop),
        cmocka_unit_test_setup_teardown(sparse_becomes_dense_and_counts_on, start, in_process_stop),
        cmocka_unit_test_setup_teardown(merging_unites, start, in_process_stop),
        cmocka_unit_test_setup_teardown(changes_keep_the_expiry, start, in_process_stop),
        cmocka_unit_test_setup_teardown(what_is_none_is_refused, start, in_process_stop),
        cmocka_unit_test_setup_teardown(corrupt_runs_are_refused, start, in_process_stop),
        cmocka_unit_test_setup_teardown(debugging_shows_what_is_inside, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
