/* Writing durably: everything is written or it is said that it is not, and a file is replaced whole. */

#include "persist/file_io.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* What the next calls of write() do: a number of bytes taken, or -errno. */
static const int *script;
static char written[64];
static size_t written_length;

static ssize_t scripted_write(void *ctx, int fd, const void *bytes, size_t length) {
    (void)ctx;
    (void)fd;
    int step = *script++;
    if (step < 0) {
        errno = -step;
        return -1;
    }
    if ((size_t)step > length) step = (int)length;
    memcpy(written + written_length, bytes, (size_t)step);
    written_length += (size_t)step;
    return step;
}

static size_t write_by(const int *steps) {
    struct file_io io = file_io_system;
    io.write = scripted_write;
    script = steps;
    written_length = 0;
    return file_io_write_all(&io, 0, "0123456789", 10);
}

static void short_writes_and_signals_are_gone_on_from(void **state) {
    (void)state;
    assert_int_equal(write_by((const int[]){3, -EINTR, 1, 100}), 10);
    assert_memory_equal(written, "0123456789", 10);
}

static void an_error_tells_how_much_was_written(void **state) {
    (void)state;
    assert_int_equal(write_by((const int[]){3, -ENOSPC}), 3);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(write_by((const int[]){0}), 0);
    assert_int_equal(errno, EIO);
}

static void expect_content(const char *name, const char *content) {
    char text[64] = "";
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof(text) - 1, file) < sizeof(text));
    fclose(file);
    assert_string_equal(text, content);
}

static void a_file_is_replaced(void **state) {
    (void)state;
    assert_true(file_io_replace(&file_io_system, ".", "temp", "name", SPAN_LITERAL("one")));
    expect_content("name", "one");
    assert_true(file_io_replace(&file_io_system, ".", "temp", "name", SPAN_LITERAL("two")));
    expect_content("name", "two");
    assert_int_equal(access("temp", F_OK), -1);
    script = (const int[]){1, -ENOSPC};
    struct file_io io = file_io_system;
    io.write = scripted_write;
    assert_false(file_io_replace(&io, ".", "temp", "name", SPAN_LITERAL("three")));
    assert_int_equal(errno, ENOSPC);
    expect_content("name", "two");
    assert_int_equal(access("temp", F_OK), -1);
    assert_false(file_io_replace(&file_io_system, "nowhere", "temp", "name", SPAN_LITERAL("four")));
    assert_int_equal(errno, ENOENT);
    unlink("name");
}

/* Steps in the order that a power failure asks for. */
static char order[64];

static int noted_sync(void *ctx, int fd) {
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    strcat(order, S_ISDIR(status.st_mode) ? "directory " : "file ");
    return file_io_system.sync(ctx, fd);
}
static int noted_rename(void *ctx, const char *from, const char *to) {
    strcat(order, "rename ");
    return file_io_system.rename(ctx, from, to);
}

static void replacing_syncs_file_then_renames_then_syncs_the_directory(void **state) {
    (void)state;
    struct file_io io = file_io_system;
    io.sync = noted_sync;
    io.rename = noted_rename;
    order[0] = '\0';
    assert_true(file_io_replace(&io, ".", "temp", "name", SPAN_LITERAL("one")));
    assert_string_equal(order, "file rename directory ");
    unlink("name");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_writes_and_signals_are_gone_on_from),
        cmocka_unit_test(an_error_tells_how_much_was_written),
        cmocka_unit_test(a_file_is_replaced),
        cmocka_unit_test(replacing_syncs_file_then_renames_then_syncs_the_directory),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
