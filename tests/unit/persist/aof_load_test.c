/* Loading: what is whole is given out, and what is torn is cut exactly. aof_stream_test.c has what is damaged. */

#include "persist/aof_load.h"
#include "tests/support/aof_fixture.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* ---- whole files ---- */

static void a_file_of_redis_is_loaded(void **state) {
    (void)state;
    aof_put_text(&aof_text, "#TS:1700000000\r\n");
    aof_put_command(&aof_text, "SELECT 0");
    aof_put_command(&aof_text, "SET a 1");
    aof_put_command(&aof_text, "MULTI");
    aof_put_command(&aof_text, "SET b 2");
    aof_put_text(&aof_text, "#TS:1700000001\r\n");
    aof_put_command(&aof_text, "DEL a");
    aof_put_command(&aof_text, "exec");
    aof_put_command(&aof_text, "SET c 3");
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(false), AOF_LOAD_DONE);
    aof_expect_given("SELECT 0\nSET a 1\nSET b 2\nDEL a\nSET c 3\n");
    assert_int_equal(aof_result.commands, 5);
    assert_int_equal(aof_result.transactions, 1);
    assert_int_equal(aof_result.bytes, aof_text.length);
    assert_false(aof_result.continues);
}

static void a_file_of_ours_is_loaded_and_written_on(void **state) {
    (void)state;
    const char *const first[] = {"SET a 1", "SET b 2"}, *const second[] = {"MULTI", "DEL a", "DEL b", "EXEC"};
    aof_begin_file(&aof_text);
    aof_put_batch(&aof_text, first, 2);
    aof_put_batch(&aof_text, second, 4);
    struct aof_manifest manifest;
    aof_manifest_init(&manifest);
    const struct aof_file *increment = aof_manifest_add_increment(&manifest, "x");
    assert_non_null(increment);
    for (unsigned round = 0; round < 2; round++) {
        aof_write_as("x.1.incr.aof", &aof_text, aof_text.length);
        aof_given.length = 0;
        assert_int_equal(
            aof_load_directory(".", &manifest, &(struct aof_load_options){.apply = aof_apply}, &aof_result),
            AOF_LOAD_DONE);
        aof_expect_given(round == 0 ? "SET a 1\nSET b 2\nDEL a\nDEL b\n"
                                    : "SET a 1\nSET b 2\nDEL a\nDEL b\nSET a 1\nSET b 2\n");
        assert_true(aof_result.continues);
        assert_int_equal(aof_result.last_bytes, aof_text.length);
        aof_chain = aof_result.check;
        aof_put_batch(&aof_text, first, 2);
    }
    aof_manifest_free(&manifest);
    unlink("x.1.incr.aof");
}

static void what_redis_appended_to_our_file_is_loaded_too(void **state) {
    (void)state;
    const char *const lines[] = {"SET a 1"};
    aof_begin_file(&aof_text);
    aof_put_batch(&aof_text, lines, 1);
    aof_put_command(&aof_text, "SET b 2");
    aof_put_text(&aof_text, "#TS:1700000001\r\n");
    aof_put_command(&aof_text, "SET c 3");
    size_t whole = aof_text.length;
    aof_put_command(&aof_text, "SET d 4");
    aof_write_file(&aof_text, aof_text.length - 3);
    assert_int_equal(aof_load(false), AOF_LOAD_TORN);
    assert_int_equal(aof_load(true), AOF_LOAD_DONE);
    aof_expect_given("SET a 1\nSET b 2\nSET c 3\n");
    assert_int_equal(aof_file_length("file.aof"), whole);
    /* And what we append behind that vouches for it. */
    aof_begin_file(&aof_text);
    size_t from = aof_text.length;
    aof_put_command(&aof_text, "SET b 2");
    aof_check_feed(&aof_chain, aof_text.data + from, aof_text.length - from);
    aof_put_batch(&aof_text, lines, 1);
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(false), AOF_LOAD_DONE);
    aof_expect_given("SET b 2\nSET a 1\n");
}

static void what_is_larger_than_the_buffer_is_loaded(void **state) {
    (void)state;
    enum { LARGE = 3000000, WORDS = 200000, MANY = 40000 };
    char part[64];
    char *large = malloc(LARGE);
    assert_non_null(large);
    memset(large, 'v', LARGE);
    aof_put(&aof_text, part, (size_t)sprintf(part, "*2\r\n$1\r\nk\r\n$%d\r\n", LARGE));
    aof_put(&aof_text, large, LARGE);
    aof_put_text(&aof_text, "\r\n");
    aof_put(&aof_text, part, (size_t)sprintf(part, "*%d\r\n", WORDS));
    for (unsigned i = 0; i < WORDS; i++) aof_put_text(&aof_text, "$1\r\nw\r\n");
    aof_put_command(&aof_text, "MULTI");
    for (unsigned i = 0; i < MANY; i++) aof_put_command(&aof_text, "SET some-key some-value");
    aof_put_command(&aof_text, "EXEC");
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(false), AOF_LOAD_DONE);
    assert_int_equal(aof_result.commands, MANY + 2);
    assert_int_equal(aof_given.length, 2 + LARGE + 1 + WORDS * 2 + MANY * strlen("SET some-key some-value\n"));
    assert_memory_equal(aof_given.data + 2, large, LARGE);
    free(large);
}

/* ---- torn ---- */

/* Every length of a file of 1,000 commands: what is aof_given out is what the cut file then holds, twice. */
static void every_truncation(bool ours) {
    struct aof_bytes lines = {0};
    size_t whole_lines[1001] = {0},
           ends[1001] = {0}; /* by count of commands that are whole: bytes aof_given, bytes kept */
    unsigned steps = 0;
    char line[64];
    if (ours) aof_begin_file(&aof_text);
    ends[0] = aof_text.length;
    for (unsigned i = 0; i < 1000;) {
        if (ours) aof_open_batch(&aof_text);
        for (unsigned in_batch = ours ? 1 + i % 7 : 1; in_batch > 0 && i < 1000; in_batch--, i++) {
            snprintf(line, sizeof(line), "DEL %u", i);
            aof_put_command(&aof_text, line);
            aof_put_text(&lines, line);
            aof_put_text(&lines, "\n");
        }
        if (ours) aof_close_batch(&aof_text);
        steps++;
        whole_lines[steps] = lines.length;
        ends[steps] = aof_text.length;
    }
    unsigned step = 0;
    for (size_t length = 0; length <= aof_text.length; length++) {
        while (step < steps && ends[step + 1] <= length) step++;
        size_t kept = length < ends[0] ? 0 : ends[step];
        aof_write_file(&aof_text, length);
        if (length % 37 == 0) {
            assert_int_equal(aof_load(false), length == kept ? AOF_LOAD_DONE : AOF_LOAD_TORN);
            assert_int_equal(aof_file_length("file.aof"), length);
        }
        for (unsigned again = 0; again < (length % 5 == 0 ? 2 : 1); again++) {
            assert_int_equal(aof_load(true), AOF_LOAD_DONE);
            assert_int_equal(aof_given.length, length < ends[0] ? 0 : whole_lines[step]);
            assert_memory_equal(aof_given.data, lines.data, aof_given.length);
            assert_int_equal(aof_result.torn_bytes, again ? 0 : length - kept);
            assert_int_equal(aof_result.last_bytes, kept);
        }
        assert_int_equal(aof_file_length("file.aof"), kept);
    }
    free(lines.data);
}

static void every_truncation_of_a_file_of_redis(void **state) {
    (void)state;
    every_truncation(false);
}

static void every_truncation_of_a_file_of_ours(void **state) {
    (void)state;
    every_truncation(true);
}

static void a_transaction_without_exec_is_dropped_from_its_multi_on(void **state) {
    (void)state;
    aof_put_command(&aof_text, "SET a 1");
    size_t kept = aof_text.length;
    aof_put_command(&aof_text, "MULTI");
    aof_put_command(&aof_text, "SET b 2");
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(false), AOF_LOAD_TORN);
    assert_non_null(strstr(aof_result.reason, "EXEC"));
    assert_int_equal(aof_load(true), AOF_LOAD_DONE);
    aof_expect_given("SET a 1\n");
    assert_int_equal(aof_file_length("file.aof"), kept);
}

static void a_length_beyond_the_file_is_torn_and_not_allocated(void **state) {
    (void)state;
    aof_put_command(&aof_text, "SET a 1");
    aof_put_text(&aof_text, "*2\r\n$3\r\nDEL\r\n$4294967296\r\nabc");
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(true), AOF_LOAD_DONE);
    aof_expect_given("SET a 1\n");
    aof_put_text(&aof_text, "*2\r\n$3\r\nDEL\r\n$4294967297\r\nabc");
}

static int failing_truncate(void *ctx, int fd, int64_t length) {
    (void)ctx;
    (void)fd;
    (void)length;
    errno = EROFS;
    return -1;
}

static void a_torn_file_that_cannot_be_cut_is_refused(void **state) {
    (void)state;
    aof_put_command(&aof_text, "SET a 1");
    aof_write_file(&aof_text, aof_text.length - 1);
    struct file_io io = file_io_system;
    io.truncate = failing_truncate;
    assert_int_equal(aof_load_with(&(struct aof_load_options){.truncate = true, .apply = aof_apply, .io = &io}),
                     AOF_LOAD_TORN);
    assert_non_null(strstr(aof_result.reason, "Read-only file system"));
}

/* ---- several files ---- */

/* A base of commands and two increments of ours. */
static void with_two_increments(bool second_is_synced, size_t cut_first, size_t cut_second,
                                enum aof_load_status expected, const char *lines, bool continues) {
    const char *const one[] = {"SET a 1", "SET b 2"}, *const two[] = {"SET c 3"};
    struct aof_manifest manifest;
    aof_manifest_init(&manifest);
    assert_non_null(aof_manifest_replace_base(&manifest, "x", false, 0));
    assert_non_null(aof_manifest_add_increment(&manifest, "x"));
    assert_non_null(aof_manifest_add_increment(&manifest, "x"));
    aof_text.length = 0;
    aof_put_command(&aof_text, "SET base 0");
    aof_write_as("x.1.base.aof", &aof_text, aof_text.length);
    aof_everything_synced = true;
    aof_begin_file(&aof_text);
    aof_put_batch(&aof_text, one, 2);
    size_t first_end = aof_text.length;
    aof_put_batch(&aof_text, one, 2);
    aof_write_as("x.1.incr.aof", &aof_text, aof_text.length - cut_first);
    aof_begin_file(&aof_text);
    aof_everything_synced = second_is_synced;
    aof_put_batch(&aof_text, two, 1);
    aof_put_batch(&aof_text, two, 1);
    aof_write_as("x.2.incr.aof", &aof_text, aof_text.length - cut_second);
    for (unsigned again = 0; again < 2; again++) {
        aof_given.length = 0;
        struct aof_load_options options = {.truncate = true, .apply = aof_apply};
        assert_int_equal(aof_load_directory(".", &manifest, &options, &aof_result), expected);
        if (expected != AOF_LOAD_DONE) break;
        aof_expect_given(lines);
        assert_int_equal(aof_result.torn_bytes > 0, again == 0 && cut_first + cut_second > 0);
        assert_int_equal(aof_result.continues, continues);
        if (cut_first > 0) assert_int_equal(aof_file_length("x.1.incr.aof"), first_end);
    }
    assert_int_equal(aof_result.base_bytes,
                     expected == AOF_LOAD_DONE ? aof_file_length("x.1.base.aof") : aof_result.base_bytes);
    aof_manifest_free(&manifest);
    unlink("x.1.base.aof");
    unlink("x.1.incr.aof");
    unlink("x.2.incr.aof");
}

static void increments_are_loaded_in_their_order(void **state) {
    (void)state;
    with_two_increments(true, 0, 0, AOF_LOAD_DONE, "SET base 0\nSET a 1\nSET b 2\nSET a 1\nSET b 2\nSET c 3\nSET c 3\n",
                        true);
}

static void the_last_increment_may_be_torn(void **state) {
    (void)state;
    with_two_increments(true, 0, 1, AOF_LOAD_DONE, "SET base 0\nSET a 1\nSET b 2\nSET a 1\nSET b 2\nSET c 3\n", true);
}

static void another_one_may_not_once_a_later_one_was_synced(void **state) {
    (void)state;
    with_two_increments(true, 1, 0, AOF_LOAD_CORRUPT, NULL, false);
    assert_string_equal(aof_result.file, "x.1.incr.aof");
}

static void later_files_that_were_never_synced_go_with_a_torn_one(void **state) {
    (void)state;
    with_two_increments(false, 1, 0, AOF_LOAD_DONE, "SET base 0\nSET a 1\nSET b 2\n", false);
}

static void a_missing_file_is_named(void **state) {
    (void)state;
    struct aof_manifest manifest;
    aof_manifest_init(&manifest);
    assert_non_null(aof_manifest_add_increment(&manifest, "gone"));
    assert_int_equal(aof_load_directory(".", &manifest, &(struct aof_load_options){.apply = aof_apply}, &aof_result),
                     AOF_LOAD_IO);
    assert_non_null(strstr(aof_result.reason, "gone.1.incr.aof cannot be opened: No such file or directory"));
    aof_manifest_free(&manifest);
}

/* ---- being stopped ---- */

static void whoever_runs_the_commands_may_refuse(void **state) {
    (void)state;
    for (unsigned i = 0; i < 1000; i++) aof_put_command(&aof_text, "SET a 1");
    aof_write_file(&aof_text, aof_text.length);
    aof_refuse_at = 3;
    assert_int_equal(aof_load(true), AOF_LOAD_REFUSED);
    assert_non_null(strstr(aof_result.reason, "no more of this"));
    assert_int_equal(aof_applied, 3);
    assert_int_equal(aof_file_length("file.aof"), aof_text.length);
}

static void loading_is_cancelled(void **state) {
    (void)state;
    atomic_bool cancel = true;
    aof_put_command(&aof_text, "SET a 1");
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load_with(&(struct aof_load_options){.apply = aof_apply, .cancel = &cancel}),
                     AOF_LOAD_CANCELLED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_file_of_redis_is_loaded, aof_clean),
        cmocka_unit_test_teardown(a_file_of_ours_is_loaded_and_written_on, aof_clean),
        cmocka_unit_test_teardown(what_redis_appended_to_our_file_is_loaded_too, aof_clean),
        cmocka_unit_test_teardown(what_is_larger_than_the_buffer_is_loaded, aof_clean),
        cmocka_unit_test_teardown(every_truncation_of_a_file_of_redis, aof_clean),
        cmocka_unit_test_teardown(every_truncation_of_a_file_of_ours, aof_clean),
        cmocka_unit_test_teardown(a_transaction_without_exec_is_dropped_from_its_multi_on, aof_clean),
        cmocka_unit_test_teardown(a_length_beyond_the_file_is_torn_and_not_allocated, aof_clean),
        cmocka_unit_test_teardown(a_torn_file_that_cannot_be_cut_is_refused, aof_clean),
        cmocka_unit_test_teardown(increments_are_loaded_in_their_order, aof_clean),
        cmocka_unit_test_teardown(the_last_increment_may_be_torn, aof_clean),
        cmocka_unit_test_teardown(another_one_may_not_once_a_later_one_was_synced, aof_clean),
        cmocka_unit_test_teardown(later_files_that_were_never_synced_go_with_a_torn_one, aof_clean),
        cmocka_unit_test_teardown(a_missing_file_is_named, aof_clean),
        cmocka_unit_test_teardown(whoever_runs_the_commands_may_refuse, aof_clean),
        cmocka_unit_test_teardown(loading_is_cancelled, aof_clean),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
