/* Finding positions of the stream in files that are made here: what is given is what was noted, byte for byte. */

#include "persist/aof_backlog.h"

#include <fcntl.h>
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

static struct aof_backlog *backlog;
static char stream[1 << 20]; /* from position `base` on */
static size_t length;
static uint64_t base;
static int fd = -1;

static void begin_file(void) {
    char name[] = "backlog-XXXXXX";
    if (fd >= 0) close(fd);
    fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    aof_backlog_begin_file(backlog, fd);
    assert_int_equal(write(fd, "#TERRACE:0:1:0:0\r\n", 18), 18);
}

static uint64_t file_end(void) {
    return (uint64_t)lseek(fd, 0, SEEK_END);
}

/* A batch of one command whose value holds whatever may be mistaken for something else. */
static void add_batch(size_t bytes, bool noted) {
    static char value[300000];
    char line[AOF_HISTORY_LINE_MAX];
    uint64_t offset = file_end();
    size_t before = length;
    for (size_t i = 0; i < bytes; i++) value[i] = "#\r\n*1\r\n$3\r\n"[(i + length) % 11];
    length += (size_t)sprintf(stream + length, "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$%zu\r\n", bytes);
    memcpy(stream + length, value, bytes);
    memcpy(stream + length + bytes, "\r\n", 2);
    length += bytes + 2;
    assert_int_equal(write(fd, "#TERRACE+\r\n#TS:1\r\n", 18), 18);
    size_t told = aof_history_compose("0123456789012345678901234567890123456789", base + before, line);
    assert_int_equal(write(fd, line, told), told);
    assert_int_equal(write(fd, stream + before, length - before), length - before);
    assert_int_equal(write(fd, "#TERRACE:9:9:9:0\r\n", 18), 18);
    struct aof_piece piece = {base + before, base + length, offset, file_end(), true};
    if (noted) aof_backlog_note(backlog, &piece);
}

/* Reads to the end from here, in pieces of `room`. */
static void expect_from(size_t at, size_t room) {
    char *piece = malloc(room);
    struct aof_backlog_reader *reader = aof_backlog_open(backlog, base + at);
    assert_non_null(reader);
    while (at < length) {
        ssize_t got = aof_backlog_read(reader, base + at, piece, room);
        assert_true(got > 0);
        assert_memory_equal(piece, stream + at, (size_t)got);
        at += got > 3 ? (size_t)got - 3 : (size_t)got; /* as if a write had been short */
    }
    assert_int_equal(aof_backlog_read(reader, base + length, piece, room), 0);
    aof_backlog_close(reader);
    free(piece);
}

static int begin(void **state) {
    (void)state;
    backlog = aof_backlog_create();
    base = 7000;
    length = 0;
    begin_file();
    return backlog == NULL;
}

static int end(void **state) {
    (void)state;
    aof_backlog_destroy(backlog);
    close(fd);
    fd = -1;
    return 0;
}

static void every_position_is_found_in_every_file(void **state) {
    (void)state;
    uint64_t from, to;
    assert_false(aof_backlog_reach(backlog, &from, &to));
    for (unsigned file = 0; file < 3; file++) {
        if (file) begin_file();
        add_batch(0, true);
        for (unsigned i = 0; i < 5; i++) add_batch(1000 + 70000 * (i % 3), true);
    }
    assert_true(aof_backlog_reach(backlog, &from, &to));
    assert_int_equal(from, base);
    assert_int_equal(to, base + length);
    for (size_t at = 0; at <= length; at += 4099) expect_from(at, 5000);
    expect_from(length, 10);
    assert_null(aof_backlog_open(backlog, base - 1));
    assert_null(aof_backlog_open(backlog, base + length + 1));
}

static void a_reader_gets_to_the_end_of_a_chain_that_grows_and_is_forgotten(void **state) {
    (void)state;
    char piece[64];
    add_batch(1000, true);
    struct aof_backlog_reader *reader = aof_backlog_open(backlog, base);
    assert_int_equal(aof_backlog_read(reader, base, piece, sizeof(piece)) > 0, true);
    for (unsigned file = 0; file < 3; file++) {
        uint64_t cut = base + length, from, to;
        begin_file();
        add_batch(1000, true);
        aof_backlog_forget(backlog, cut);
        assert_true(aof_backlog_reach(backlog, &from, &to));
        assert_int_equal(from, cut);
        assert_null(aof_backlog_open(backlog, cut - 1));
    }
    for (size_t at = 1; at < length;) {
        ssize_t got = aof_backlog_read(reader, base + at, piece, sizeof(piece));
        assert_true(got > 0);
        assert_memory_equal(piece, stream + at, (size_t)got);
        at += (size_t)got;
    }
    aof_backlog_close(reader);
}

static void what_does_not_follow_forgets_all_before(void **state) {
    (void)state;
    uint64_t from, to;
    add_batch(100, true);
    add_batch(100, false);
    size_t gap = length;
    add_batch(100, true);
    assert_true(aof_backlog_reach(backlog, &from, &to));
    assert_int_equal(from, base + gap);
    assert_null(aof_backlog_open(backlog, base));
    expect_from(gap, 100);
    aof_backlog_clear(backlog);
    assert_false(aof_backlog_reach(backlog, &from, &to));
}

static void a_file_that_is_cut_ends_there(void **state) {
    (void)state;
    uint64_t from, to;
    add_batch(100, true);
    size_t kept = length;
    uint64_t offset = file_end();
    add_batch(300000, true);
    struct aof_backlog_reader *reader = aof_backlog_open(backlog, base + length - 1);
    char byte;
    assert_int_equal(aof_backlog_read(reader, base + length - 1, &byte, 1), 1);
    aof_backlog_cut(backlog, base + kept, offset);
    assert_int_equal(aof_backlog_read(reader, base + length, &byte, 1), 0);
    aof_backlog_close(reader);
    assert_true(aof_backlog_reach(backlog, &from, &to));
    assert_int_equal(to, base + kept);
    assert_int_equal(ftruncate(fd, (off_t)offset), 0);
    length = kept;
    add_batch(200, true);
    expect_from(0, 77);
}

static void a_line_of_history_is_read_as_it_was_composed(void **state) {
    (void)state;
    char line[AOF_HISTORY_LINE_MAX];
    struct aof_history history = {.position = 1};
    size_t bytes = aof_history_compose("0123456789abcdef0123456789ABCDEF01234567", UINT64_MAX, line);
    assert_true(aof_history_parse(span_of(line, bytes), &history));
    assert_string_equal(history.id, "0123456789abcdef0123456789ABCDEF01234567");
    assert_true(history.position == UINT64_MAX);
    for (size_t cut = 0; cut < bytes; cut++) assert_false(aof_history_parse(span_of(line, cut), &history));
    line[10] = 'g';
    assert_false(aof_history_parse(span_of(line, bytes), &history));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_position_is_found_in_every_file, begin, end),
        cmocka_unit_test_setup_teardown(a_reader_gets_to_the_end_of_a_chain_that_grows_and_is_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(what_does_not_follow_forgets_all_before, begin, end),
        cmocka_unit_test_setup_teardown(a_file_that_is_cut_ends_there, begin, end),
        cmocka_unit_test(a_line_of_history_is_read_as_it_was_composed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
