/* The writer of the append-only file, with files whose writes and syncs fail, come up short or hang when a test says.
 */

#include "base/clock.h"
#include "persist/aof_writer.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- files that fail ---- */

static struct faults {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int write_error, sync_error; /* errno of every call, 0: it works */
    uint64_t room;               /* bytes that may still be written before write_error; UINT64_MAX: any number */
    bool sync_hangs;
    uint64_t bytes_synced; /* length of the file at the end of the last sync */
    unsigned news;         /* calls of the writer's callbacks */
    int failed, resumed;
} faults;

static void reset(void) {
    faults =
        (struct faults){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .room = UINT64_MAX};
}

static ssize_t faulty_write(void *ctx, int fd, const void *bytes, size_t length) {
    (void)ctx;
    pthread_mutex_lock(&faults.lock);
    size_t most = faults.write_error && faults.room < length ? (size_t)faults.room : length;
    int error = most == 0 ? faults.write_error : 0;
    if (faults.write_error && faults.room != UINT64_MAX) faults.room -= most;
    pthread_mutex_unlock(&faults.lock);
    if (error) {
        errno = error;
        return -1;
    }
    return file_io_system.write(NULL, fd, bytes, most);
}

static int faulty_sync(void *ctx, int fd) {
    (void)ctx;
    pthread_mutex_lock(&faults.lock);
    off_t length = lseek(fd, 0, SEEK_END);
    while (faults.sync_hangs) pthread_cond_wait(&faults.changed, &faults.lock);
    int error = faults.sync_error;
    if (!error) faults.bytes_synced = (uint64_t)length;
    pthread_mutex_unlock(&faults.lock);
    errno = error;
    return error ? -1 : 0;
}

static struct file_io faulty_io(void) {
    struct file_io io = file_io_system;
    io.write = faulty_write;
    io.sync = faulty_sync;
    return io;
}

static void set_faults(int write_error, uint64_t room, int sync_error, bool sync_hangs) {
    pthread_mutex_lock(&faults.lock);
    faults.write_error = write_error;
    faults.room = room;
    faults.sync_error = sync_error;
    faults.sync_hangs = sync_hangs;
    pthread_cond_broadcast(&faults.changed);
    pthread_mutex_unlock(&faults.lock);
}

static void on_news(void *ctx) {
    (void)ctx;
    pthread_mutex_lock(&faults.lock);
    faults.news++;
    pthread_cond_broadcast(&faults.changed);
    pthread_mutex_unlock(&faults.lock);
}

static void on_failed(void *ctx, int error) {
    pthread_mutex_lock(&faults.lock);
    faults.failed = error;
    pthread_mutex_unlock(&faults.lock);
    on_news(ctx);
}

static void on_resumed(void *ctx) {
    pthread_mutex_lock(&faults.lock);
    faults.resumed++;
    pthread_mutex_unlock(&faults.lock);
    on_news(ctx);
}

/* ---- the fixture ---- */

struct fixture {
    struct journal *journal;
    struct commit_gate gate;
    struct file_io io;
    struct aof_writer *writer;
};

static struct aof_writer_file make_file(const char *name) {
    char line[AOF_CHECK_LINE_MAX];
    struct aof_writer_file file = {.fd = open(name, O_CREAT | O_TRUNC | O_APPEND | O_WRONLY, 0644)};
    assert_true(file.fd >= 0);
    file.bytes = aof_check_begin(&file.check, 42, line);
    assert_int_equal(write(file.fd, line, file.bytes), file.bytes);
    return file;
}

static void begin(struct fixture *fixture, enum aof_sync policy, size_t ring_bytes) {
    struct journal_options options = {.capacity_bytes = ring_bytes, .writers = 1};
    reset();
    *fixture = (struct fixture){.journal = journal_create(&options), .io = faulty_io()};
    struct aof_writer_options writer = {.journal = fixture->journal,
                                        .gate = &fixture->gate,
                                        .io = &fixture->io,
                                        .file = make_file("one"),
                                        .policy = policy,
                                        .protects = true,
                                        .advanced = on_news,
                                        .failed = on_failed,
                                        .resumed = on_resumed,
                                        .retry_ns = 1000000,
                                        .late_ns = 20000000};
    fixture->writer = aof_writer_create(&writer);
    assert_non_null(fixture->writer);
}

static void end(struct fixture *fixture, bool complete) {
    assert_int_equal(aof_writer_destroy(fixture->writer), complete);
    journal_destroy(fixture->journal);
    unlink("one");
    unlink("two");
}

/* One command, which may hold anything. */
static void append(struct fixture *fixture, const char *value, size_t length) {
    char head[64];
    int bytes = snprintf(head, sizeof(head), "*1\r\n$%zu\r\n", length);
    struct span pieces[3] = {span_of(head, (size_t)bytes), span_of(value, length), span_of("\r\n", 2)};
    journal_append(fixture->journal, 0, 0, pieces, 3);
    aof_writer_nudge(fixture->writer);
}

static void append_number(struct fixture *fixture, unsigned number) {
    char text[32];
    append(fixture, text, (size_t)snprintf(text, sizeof(text), "%u", number));
}

enum { PATIENCE_S = 120 };

typedef bool condition(struct fixture *fixture);

/* Until it holds; what changes it also calls the callbacks, or is looked at again soon. */
static void await(struct fixture *fixture, condition *holds) {
    int64_t enough_ns = clock_monotonic_ns() + PATIENCE_S * INT64_C(1000000000);
    while (!holds(fixture)) {
        struct timespec due;
        clock_gettime(CLOCK_REALTIME, &due);
        due.tv_nsec += 2000000;
        if (due.tv_nsec >= 1000000000) due.tv_sec++, due.tv_nsec -= 1000000000;
        pthread_mutex_lock(&faults.lock);
        pthread_cond_timedwait(&faults.changed, &faults.lock, &due);
        pthread_mutex_unlock(&faults.lock);
        if (clock_monotonic_ns() > enough_ns) fail_msg("what was waited for did not happen");
    }
}

static bool all_durable(struct fixture *fixture) {
    return commit_gate_durable(&fixture->gate) == journal_end(fixture->journal);
}
static bool all_written(struct fixture *fixture) {
    return aof_writer_figures(fixture->writer).written == journal_end(fixture->journal);
}
static bool is_failing(struct fixture *fixture) {
    return aof_writer_figures(fixture->writer).failing && commit_gate_state(&fixture->gate) == COMMIT_GATE_BROKEN;
}
static bool is_lost(struct fixture *fixture) {
    return aof_writer_figures(fixture->writer).lost && all_written(fixture);
}
static bool is_late(struct fixture *fixture) {
    return aof_writer_is_late(fixture->writer) && journal_is_crowded(fixture->journal);
}
static bool is_in_time(struct fixture *fixture) {
    return !aof_writer_is_late(fixture->writer) && !journal_is_crowded(fixture->journal);
}
static bool is_well(struct fixture *fixture) {
    return !aof_writer_figures(fixture->writer).failing && faults.resumed;
}
static bool has_switched(struct fixture *fixture) {
    return !aof_writer_switching(fixture->writer);
}

/* ---- reading back ---- */

static char *read_file(const char *name, size_t *length) {
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*length + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *length, file), *length);
    fclose(file);
    return bytes;
}

struct content {
    unsigned commands, closings, times;
    char *values; /* one behind the other, each followed by a blank */
    size_t length;
    bool ends_closed;
};

static struct span line_at(const char *bytes, size_t at, size_t length) {
    const char *end = memchr(bytes + at, '\n', length - at);
    assert_non_null(end);
    return span_of(bytes + at, (size_t)(end - bytes - (long)at) + 1);
}

/* Every annotation must be right; commands are of one word. */
static struct content read_back(const char *name) {
    struct content content = {0};
    struct aof_check check;
    struct aof_annotation note;
    size_t length;
    char *bytes = read_file(name, &length);
    content.values = calloc(1, length + 1);
    for (size_t at = 0; at < length;) {
        struct span line = line_at(bytes, at, length);
        size_t whole = line.length;
        enum aof_line kind = line.data[0] == '#' ? aof_check_classify(line, &note) : AOF_LINE_OTHER;
        content.ends_closed = kind == AOF_LINE_CLOSING || kind == AOF_LINE_HEADER;
        if (line.data[0] == '*' && line.data[1] == '2') { /* the SELECT in front of the first effect */
            for (unsigned i = 0; i < 4; i++) whole += line_at(bytes, at + whole, length).length;
        } else if (line.data[0] == '*') {
            struct span size = line_at(bytes, at + whole, length);
            size_t value = strtoul(size.data + 1, NULL, 10);
            memcpy(content.values + content.length, size.data + size.length, value);
            content.length += value;
            content.values[content.length++] = ' ';
            whole += size.length + value + 2;
            content.commands++;
        }
        if (line.data[0] == '#' && strncmp(line.data, "#TS:", 4) == 0) content.times++;
        assert_int_not_equal(kind, AOF_LINE_BROKEN);
        if (kind == AOF_LINE_HEADER) assert_true(aof_check_follow(&check, &note));
        if (kind == AOF_LINE_CLOSING) assert_true(aof_check_verify(&check, &note));
        if (kind == AOF_LINE_CLOSING) content.closings++;
        if (kind == AOF_LINE_OTHER || kind == AOF_LINE_OPENING) aof_check_feed(&check, bytes + at, whole);
        at += whole;
    }
    free(bytes);
    return content;
}

/* The file holds the numbers from `first` to `last`, once each and in order; SELECTs have two words and are not here.
 */
static void expect_numbers(const char *name, unsigned first, unsigned last) {
    struct content content = read_back(name);
    char *expected = malloc((last - first + 2) * 12), *at = expected;
    *at = '\0';
    for (unsigned i = first; i <= last; i++) at += sprintf(at, "%u ", i);
    content.values[content.length] = '\0';
    assert_string_equal(content.values, expected);
    assert_true(content.ends_closed);
    free(content.values);
    free(expected);
}

/* ---- tests ---- */

static void everything_is_written_and_vouched_for(void **state) {
    (void)state;
    for (int policy = AOF_SYNC_ALWAYS; policy <= AOF_SYNC_NO; policy++) {
        struct fixture fixture;
        begin(&fixture, (enum aof_sync)policy, 0);
        for (unsigned i = 1; i <= 3000; i++) append_number(&fixture, i);
        assert_true(aof_writer_destroy(fixture.writer));
        expect_numbers("one", 1, 3000);
        journal_destroy(fixture.journal);
        unlink("one");
    }
}

static void durable_never_runs_ahead_of_the_disk(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_ALWAYS, 0);
    assert_int_equal(commit_gate_state(&fixture.gate), COMMIT_GATE_HOLDS);
    set_faults(0, UINT64_MAX, 0, true);
    append_number(&fixture, 1);
    await(&fixture, all_written);
    assert_int_equal(commit_gate_durable(&fixture.gate), 0);
    set_faults(0, UINT64_MAX, 0, false);
    await(&fixture, all_durable);
    assert_int_equal(faults.bytes_synced, aof_writer_figures(fixture.writer).file_bytes);
    end(&fixture, true);
}

static void every_second_syncs_by_itself(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_EVERY_SECOND, 0);
    assert_int_equal(commit_gate_state(&fixture.gate), COMMIT_GATE_OPEN);
    append_number(&fixture, 1);
    await(&fixture, all_durable);
    end(&fixture, true);
}

static void what_was_not_synced_is_when_the_policy_becomes_always(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_NO, 0);
    append_number(&fixture, 1);
    await(&fixture, all_written);
    assert_int_equal(commit_gate_durable(&fixture.gate), 0);
    aof_writer_set_policy(fixture.writer, AOF_SYNC_ALWAYS, false);
    await(&fixture, all_durable);
    end(&fixture, true);
}

static void a_sync_that_takes_too_long_makes_writers_wait(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_EVERY_SECOND, 0);
    set_faults(0, UINT64_MAX, 0, true);
    append_number(&fixture, 1);
    await(&fixture, is_late);
    append_number(&fixture, 2);
    await(&fixture, all_written); /* the writing goes on */
    set_faults(0, UINT64_MAX, 0, false);
    await(&fixture, is_in_time);
    end(&fixture, true);
}

static void a_short_write_is_undone_and_tried_again(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_ALWAYS, 0);
    append_number(&fixture, 1);
    await(&fixture, all_durable);
    uint64_t durable = commit_gate_durable(&fixture.gate), bytes = aof_writer_figures(fixture.writer).file_bytes;
    set_faults(ENOSPC, 7, 0, false);
    append_number(&fixture, 2);
    await(&fixture, is_failing);
    assert_int_equal(faults.failed, ENOSPC);
    assert_int_equal(commit_gate_state(&fixture.gate), COMMIT_GATE_BROKEN);
    assert_int_equal(fixture.gate.breaks, 1);
    assert_int_equal(commit_gate_durable(&fixture.gate), durable);
    size_t length;
    free(read_file("one", &length));
    assert_int_equal(length, bytes);
    append_number(&fixture, 3);
    set_faults(0, UINT64_MAX, 0, false);
    await(&fixture, is_well);
    await(&fixture, all_durable);
    assert_int_equal(commit_gate_state(&fixture.gate), COMMIT_GATE_HOLDS);
    assert_true(aof_writer_destroy(fixture.writer));
    expect_numbers("one", 1, 3);
    journal_destroy(fixture.journal);
    unlink("one");
}

static bool refuse_name(void *ctx) {
    (void)ctx;
    errno = EROFS;
    return false;
}

static unsigned names;
static uint64_t synced_at_name;
static bool accept_name(void *ctx) {
    (void)ctx;
    names++;
    pthread_mutex_lock(&faults.lock);
    synced_at_name = faults.bytes_synced;
    pthread_mutex_unlock(&faults.lock);
    return true;
}

static void files_change_at_the_very_position(void **state) {
    (void)state;
    for (int policy = AOF_SYNC_ALWAYS; policy <= AOF_SYNC_NO; policy++) {
        struct fixture fixture;
        begin(&fixture, (enum aof_sync)policy, 0);
        names = 0;
        for (unsigned i = 1; i <= 200; i++) append_number(&fixture, i);
        struct aof_writer_file two = make_file("two");
        aof_writer_switch(fixture.writer, journal_end(fixture.journal), &two, accept_name, NULL);
        for (unsigned i = 201; i <= 300; i++) append_number(&fixture, i);
        aof_writer_await_switch(fixture.writer);
        assert_int_equal(names, 1);
        size_t length;
        free(read_file("one", &length));
        assert_int_equal(synced_at_name, length);
        assert_true(aof_writer_destroy(fixture.writer));
        expect_numbers("one", 1, 200);
        expect_numbers("two", 201, 300);
        journal_destroy(fixture.journal);
        unlink("one");
        unlink("two");
    }
}

/* At each cut so many more may be appended: else files grow faster than a busy machine looks through them. */
enum { MORE_AT_A_CUT = 20000 };

static struct crowd {
    struct fixture *fixture;
    pthread_mutex_t world; /* held: nobody appends */
    atomic_bool wanted;    /* by who makes a cut: who appends would have it again before anybody else wakes */
    atomic_uint allowed;
    unsigned last;
    bool stopping;
} crowd;

static void *append_all_the_time(void *argument) {
    (void)argument;
    for (bool stops = false; !stops;) {
        while (atomic_load(&crowd.wanted)) sched_yield();
        pthread_mutex_lock(&crowd.world);
        bool appends = crowd.last < atomic_load(&crowd.allowed);
        if (appends) append_number(crowd.fixture, ++crowd.last);
        stops = crowd.stopping;
        pthread_mutex_unlock(&crowd.world);
        if (!appends) sched_yield();
    }
    return NULL;
}

/* A cut: from here on numbers go to that file. Returns the first of them. */
static unsigned cut_to(struct fixture *fixture, const char *name) {
    struct aof_writer_file file = make_file(name);
    atomic_fetch_add(&crowd.allowed, MORE_AT_A_CUT);
    atomic_store(&crowd.wanted, true);
    pthread_mutex_lock(&crowd.world);
    atomic_store(&crowd.wanted, false);
    unsigned first = crowd.last + 1;
    aof_writer_switch(fixture->writer, journal_end(fixture->journal), &file, accept_name, NULL);
    pthread_mutex_unlock(&crowd.world);
    aof_writer_await_switch(fixture->writer);
    return first;
}

static void files_change_while_effects_are_appended(void **state) {
    (void)state;
    for (int policy = AOF_SYNC_ALWAYS; policy <= AOF_SYNC_NO; policy++) {
        struct fixture fixture;
        pthread_t thread;
        begin(&fixture, (enum aof_sync)policy, 0);
        crowd = (struct crowd){.fixture = &fixture, .world = PTHREAD_MUTEX_INITIALIZER};
        assert_int_equal(pthread_create(&thread, NULL, append_all_the_time, NULL), 0);
        unsigned first = 1;
        for (unsigned round = 0; round < 30; round++) {
            unsigned next = cut_to(&fixture, round % 2 ? "one" : "two");
            if (next > first) expect_numbers(round % 2 ? "two" : "one", first, next - 1);
            first = next;
        }
        atomic_store(&crowd.wanted, true);
        pthread_mutex_lock(&crowd.world);
        atomic_store(&crowd.wanted, false);
        crowd.stopping = true;
        pthread_mutex_unlock(&crowd.world);
        pthread_join(thread, NULL);
        end(&fixture, true);
    }
}

static void a_failed_sync_is_mended_by_a_new_file_only(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_ALWAYS, 0);
    append_number(&fixture, 1);
    await(&fixture, all_durable);
    uint64_t durable = commit_gate_durable(&fixture.gate);
    set_faults(0, UINT64_MAX, EIO, false);
    append_number(&fixture, 2);
    await(&fixture, is_lost);
    assert_int_equal(faults.failed, EIO);
    set_faults(0, UINT64_MAX, 0, false);
    append_number(&fixture, 3);
    await(&fixture, all_written); /* dropped: the ring must not fill */
    assert_int_equal(commit_gate_durable(&fixture.gate), durable);
    struct aof_writer_file two = make_file("two");
    names = 0;
    aof_writer_switch(fixture.writer, journal_end(fixture.journal), &two, accept_name, NULL);
    append_number(&fixture, 4);
    await(&fixture, has_switched);
    await(&fixture, all_written);
    assert_int_equal(names, 0);
    assert_int_equal(commit_gate_durable(&fixture.gate), durable);
    assert_int_equal(commit_gate_state(&fixture.gate), COMMIT_GATE_BROKEN);
    assert_true(aof_writer_mend(fixture.writer));
    assert_true(all_durable(&fixture));
    assert_int_equal(commit_gate_state(&fixture.gate), COMMIT_GATE_HOLDS);
    append_number(&fixture, 5);
    assert_true(aof_writer_destroy(fixture.writer));
    expect_numbers("two", 4, 5);
    journal_destroy(fixture.journal);
    unlink("one");
    unlink("two");
}

static void a_file_that_cannot_be_named_has_to_be_mended(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_EVERY_SECOND, 0);
    append_number(&fixture, 1);
    struct aof_writer_file two = make_file("two");
    aof_writer_switch(fixture.writer, journal_end(fixture.journal), &two, refuse_name, NULL);
    append_number(&fixture, 2);
    await(&fixture, has_switched);
    assert_int_equal(faults.failed, EROFS);
    assert_true(aof_writer_figures(fixture.writer).lost);
    assert_true(aof_writer_mend(fixture.writer));
    await(&fixture, all_durable);
    assert_true(aof_writer_destroy(fixture.writer));
    expect_numbers("one", 1, 1);
    expect_numbers("two", 2, 2);
    journal_destroy(fixture.journal);
    unlink("one");
    unlink("two");
}

static void a_full_ring_ends_the_tries(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_EVERY_SECOND, 64 << 10);
    set_faults(ENOSPC, 0, 0, false);
    char *value = calloc(1, 1000);
    memset(value, 'x', 1000);
    for (unsigned i = 0; i < 200; i++) append(&fixture, value, 1000); /* would hang, if it were held for ever */
    free(value);
    await(&fixture, is_lost);
    end(&fixture, false);
}

static void an_effect_larger_than_the_ring_is_one_batch(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_ALWAYS, 64 << 10);
    size_t length = 1 << 20;
    char *value = malloc(length);
    memset(value, 'y', length);
    append(&fixture, value, length);
    append_number(&fixture, 7);
    await(&fixture, all_durable);
    assert_true(aof_writer_destroy(fixture.writer));
    struct content content = read_back("one");
    assert_int_equal(content.commands, 2);
    assert_memory_equal(content.values, value, length);
    assert_true(content.ends_closed);
    free(content.values);
    free(value);
    journal_destroy(fixture.journal);
    unlink("one");
}

/* ---- groups ---- */

/* While the file is synced ten clients' commands arrive, and none afterwards: half of those that the writer knows. */
static struct coming {
    struct fixture *fixture;
    unsigned turns;
} coming;

static int sync_among_clients(void *ctx, int fd) {
    struct fixture *fixture = coming.fixture;
    if (coming.turns > 0) {
        coming.turns--;
        append_number(fixture, coming.turns);
        atomic_fetch_add(&fixture->gate.holds, 10);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL); /* what a disk takes */
    }
    return faulty_sync(ctx, fd);
}

static void groups_that_never_become_complete_are_hardly_waited_for(void **state) {
    (void)state;
    struct fixture fixture;
    begin(&fixture, AOF_SYNC_ALWAYS, 1 << 20);
    coming = (struct coming){&fixture, 400};
    fixture.io.sync = sync_among_clients;
    append_number(&fixture, 1000);
    await(&fixture, all_durable);
    struct aof_writer_figures figures = aof_writer_figures(fixture.writer);
    assert_true(figures.batches > 400);
    assert_in_range(figures.vain_waits, 1, 20);
    end(&fixture, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_written_and_vouched_for),
        cmocka_unit_test(durable_never_runs_ahead_of_the_disk),
        cmocka_unit_test(every_second_syncs_by_itself),
        cmocka_unit_test(what_was_not_synced_is_when_the_policy_becomes_always),
        cmocka_unit_test(a_sync_that_takes_too_long_makes_writers_wait),
        cmocka_unit_test(a_short_write_is_undone_and_tried_again),
        cmocka_unit_test(files_change_at_the_very_position),
        cmocka_unit_test(files_change_while_effects_are_appended),
        cmocka_unit_test(a_failed_sync_is_mended_by_a_new_file_only),
        cmocka_unit_test(a_file_that_cannot_be_named_has_to_be_mended),
        cmocka_unit_test(a_full_ring_ends_the_tries),
        cmocka_unit_test(an_effect_larger_than_the_ring_is_one_batch),
        cmocka_unit_test(groups_that_never_become_complete_are_hardly_waited_for),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
