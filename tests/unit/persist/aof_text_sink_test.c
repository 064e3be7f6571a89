/* A base of commands as a file: its parts follow the chain of checksums, it can be loaded as an increment is, and
 * whatever fails leaves no file. */

#include "persist/aof_load.h"
#include "persist/aof_text_sink.h"
#include "tests/support/failing_io.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { RECORDS = 300, LANES = 2 };

static const struct aof_text_options plain = {
    .directory = ".", .name = "base", .temporary = "temp-base", .seed = 7, .timestamp_s = 1, .part_bytes = 1000};

static bool put_record(struct snapshot_sink *sink, unsigned number) {
    char key[32], value[64];
    const struct record_plan plan = {
        .type = RECORD_STRING,
        .key = span_of(key, (size_t)snprintf(key, sizeof(key), "key:%u", number)),
        .value = span_of(value, (size_t)snprintf(value, sizeof(value), "value of %u", number)),
        .expiry_ms = number % 3 ? RECORD_EXPIRY_NONE : INT64_C(2000000000000) + number,
    };
    struct record *record = record_write(malloc(record_size_for(&plan)), &plan);
    bool taken = sink->record(sink->ctx, number % LANES, number % 7 ? 0 : 3, record);
    free(record);
    return taken;
}

static bool write_base(const struct aof_text_options *options, struct rdb_file_error *error) {
    struct aof_text_sink *file = aof_text_sink_open(options, LANES, error);
    if (!file) return false;
    struct snapshot_sink sink = aof_text_sink_of(file);
    bool whole = true;
    for (unsigned i = 0; i < RECORDS && whole; i++) whole = put_record(&sink, i);
    for (unsigned i = 0; i < LANES && whole; i++) whole = sink.lane_end(sink.ctx, i);
    return aof_text_sink_close(file, whole, error);
}

/* ---- reading it ---- */

struct seen {
    unsigned commands, sets, expiries, selects;
};

static bool note(void *ctx, struct aof_command *commands, unsigned count, const char **refusal) {
    struct seen *seen = ctx;
    (void)refusal;
    for (unsigned i = 0; i < count; i++) {
        seen->sets += span_equal(commands[i].argv[0], SPAN_LITERAL("SET"));
        seen->expiries += span_equal(commands[i].argv[0], SPAN_LITERAL("PEXPIREAT"));
        seen->selects += span_equal(commands[i].argv[0], SPAN_LITERAL("SELECT"));
    }
    seen->commands += count;
    return true;
}

static enum aof_load_status load(struct seen *seen) {
    struct aof_load_options options = {.apply = note, .ctx = seen};
    struct aof_load_result result;
    *seen = (struct seen){0};
    return aof_load_file("base", &options, &result);
}

static void what_was_given_is_there(void **state) {
    (void)state;
    struct rdb_file_error error;
    struct seen seen;
    assert_true(write_base(&plain, &error));
    assert_null(error.step);
    assert_int_equal(load(&seen), AOF_LOAD_DONE);
    assert_int_equal(seen.sets, RECORDS);
    assert_int_equal(seen.expiries, RECORDS / 3);
    assert_true(seen.selects > LANES);
    assert_int_equal(access("temp-base", F_OK), -1);
    assert_int_equal(unlink("base"), 0);
}

static void a_flipped_bit_is_found(void **state) {
    (void)state;
    struct rdb_file_error error;
    struct seen seen;
    assert_true(write_base(&plain, &error));
    FILE *file = fopen("base", "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long length = ftell(file);
    for (long at = 5; at < length; at += 97) {
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        int byte = getc(file);
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        assert_int_not_equal(putc(byte ^ 4, file), EOF);
        assert_int_equal(fflush(file), 0);
        assert_int_not_equal(load(&seen), AOF_LOAD_DONE);
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        assert_int_not_equal(putc(byte, file), EOF);
        assert_int_equal(fflush(file), 0);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(load(&seen), AOF_LOAD_DONE);
    assert_int_equal(unlink("base"), 0);
}

static void whatever_fails_leaves_no_file(void **state) {
    (void)state;
    struct aof_text_options options = plain;
    struct failing_io failing;
    failing_io_init(&failing, ENOSPC);
    options.io = &failing.io;
    unsigned fail_at = 0;
    for (;;) {
        struct rdb_file_error error;
        failing_io_restart(&failing, ++fail_at);
        bool written = write_base(&options, &error);
        if (!failing_io_failed(&failing)) {
            assert_true(written);
            break;
        }
        assert_int_equal(access("temp-base", F_OK), -1);
        if (written) continue; /* it was something that does not matter, after the directory was synced */
        assert_non_null(error.step);
        assert_int_equal(error.error, ENOSPC);
        /* Only where the directory could not be synced it has its name already. */
        bool named = access("base", F_OK) == 0;
        assert_true(!named || strcmp(error.step, "fsync of the directory") == 0);
        if (named) assert_int_equal(unlink("base"), 0);
    }
    assert_true(fail_at > 20);
    (void)unlink("base");
}

static void a_snapshot_that_was_stopped_leaves_none(void **state) {
    (void)state;
    struct rdb_file_error error;
    struct aof_text_sink *file = aof_text_sink_open(&plain, LANES, &error);
    assert_non_null(file);
    struct snapshot_sink sink = aof_text_sink_of(file);
    for (unsigned i = 0; i < RECORDS; i++) assert_true(put_record(&sink, i));
    assert_false(aof_text_sink_close(file, false, &error));
    assert_null(error.step);
    assert_int_equal(access("base", F_OK), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_given_is_there),
        cmocka_unit_test(a_flipped_bit_is_found),
        cmocka_unit_test(whatever_fails_leaves_no_file),
        cmocka_unit_test(a_snapshot_that_was_stopped_leaves_none),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
