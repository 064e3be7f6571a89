/* The tier as a whole: records of all sizes go there and come back, whatever the way to the file; what does not fit
 * together is refused with a line that says why; its figures. */

#include "base/log.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tier_fixture.h"
#include "tiering/tier_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { MEGABYTE = 1 << 20 };

/* ---- every size, every way ---- */

struct way {
    enum tier_io_kind io;
    enum tier_direct direct;
    bool compress, mapped;
};

static const size_t sizes[] = {1,       10,           100,      1000,         3900,    4000,    4060,   4096,
                               5000,    8192,         16000,    16384,        20000,   65000,   131072, 520000,
                               1000000, MEGABYTE - 1, MEGABYTE, MEGABYTE + 1, 5 << 20, 20 << 20};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static const char *choose_path(const struct way *way, char path[64]) {
    snprintf(path, 64, way->mapped ? "/dev/shm/terrace-test-%d" : "tier", (int)getpid());
    return path;
}

static void open_way(struct tier_fixture *fixture, const struct way *way, char path[64]) {
    if (way->mapped && access("/dev/shm", W_OK) != 0) {
        print_message("skipped: no /dev/shm here\n");
        skip();
    }
    tier_fixture_open(fixture, (struct tier_options){.path = choose_path(way, path),
                                                     .size_bytes = 128 * MEGABYTE,
                                                     .memory_bytes = 256 * MEGABYTE,
                                                     .direct = way->direct,
                                                     .io = way->io,
                                                     .compress = way->compress});
}

static void read_back(struct tier_fixture *fixture, struct record *const *records, const uint64_t *refs) {
    for (unsigned i = 0; i < 2 * SIZES; i++) {
        if (!tier_fixture_same(tier_fixture_read(fixture, 0, refs[i]), records[i]))
            fail_msg("%zu bytes did not come back", record_size(records[i]));
        struct record *copy = tier_fetch(fixture->tier, refs[i]);
        assert_true(tier_fixture_same(copy, records[i]));
        free(copy);
        tier_fixture_turn(fixture, 0);
    }
}

static void records_of_every_size_come_back(void **state) {
    struct tier_fixture fixture;
    struct record *records[2 * SIZES];
    uint64_t refs[2 * SIZES];
    char path[64];
    open_way(&fixture, *state, path);
    for (unsigned i = 0; i < 2 * SIZES; i++) {
        records[i] = tier_fixture_record(i, sizes[i / 2], i % 3 ? RECORD_EXPIRY_NONE : INT64_C(2000000000000), i % 2);
        refs[i] = tier_fixture_append(&fixture, 0, records[i]);
    }
    read_back(&fixture, records, refs); /* some of it is not written yet */
    tier_fixture_settle(&fixture, 0);
    read_back(&fixture, records, refs);
    struct tier_figures figures = tier_fixture_figures(&fixture);
    assert_int_equal(figures.failed_reads + figures.stale_reads, 0);
    assert_int_equal(figures.appended_records, 2 * SIZES);
    assert_int_equal(figures.mapped, ((const struct way *)*state)->mapped);
    if (figures.mapped) assert_int_equal(figures.reads, 0);
    for (unsigned i = 0; i < 2 * SIZES; i++) {
        tier_drop(fixture.tier, refs[i]);
        free(records[i]);
    }
    assert_int_equal(tier_fixture_figures(&fixture).segments.records, 0);
    tier_fixture_close(&fixture);
    assert_int_equal(access(path, F_OK), -1); /* the file goes with it */
}

/* ---- refusals ---- */

static void assert_refused(struct tier_options options, const char *words) {
    char error[512] = "";
    assert_null(tier_create(&options, error, sizeof(error)));
    if (!strstr(error, words)) fail_msg("'%s' does not say '%s'", error, words);
    assert_null(strchr(error, '\n'));
}

static void what_cannot_work_is_refused_in_one_line(void **state) {
    (void)state;
    struct tier_options options = {.path = "tier", .size_bytes = 4 * MEGABYTE, .segment_bytes = MEGABYTE, .ports = 1};
    assert_refused(options, "tier-size");
    options.size_bytes = 16 * MEGABYTE;
    options.path = "nowhere/tier";
    assert_refused(options, "nowhere/tier");
    options.path = ".";
    assert_refused(options, "tier-path");
}

static void a_file_in_use_is_refused(void **state) {
    (void)state;
    struct tier_fixture fixture;
    tier_fixture_open(&fixture, (struct tier_options){0});
    assert_refused(
        (struct tier_options){.path = "tier", .size_bytes = 16 * MEGABYTE, .segment_bytes = MEGABYTE, .ports = 1},
        "in use");
    tier_fixture_close(&fixture);
    tier_fixture_open(&fixture, (struct tier_options){0});
    tier_fixture_close(&fixture);
}

/* ---- figures ---- */

static void buffers_and_segments_follow_the_memory(void **state) {
    (void)state;
    struct tier_fixture small, large;
    tier_fixture_open(&small,
                      (struct tier_options){.path = "small", .memory_bytes = 64 * MEGABYTE, .segment_bytes = 0});
    tier_fixture_open(&large,
                      (struct tier_options){
                          .path = "large", .memory_bytes = (size_t)8 << 30, .segment_bytes = 8 * MEGABYTE, .ports = 4});
    assert_int_equal(tier_fixture_figures(&small).segment_bytes, MEGABYTE);
    assert_int_equal(tier_fixture_figures(&large).segment_bytes, 8 * MEGABYTE);
    assert_int_equal(tier_fixture_figures(&large).size_bytes, 128 * MEGABYTE);
    assert_true(tier_fixture_figures(&small).metadata_bytes < 64 * MEGABYTE / 32);
    tier_fixture_close(&small);
    tier_fixture_close(&large);
}

static void figures_can_be_reset_but_not_what_is_held(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 50000, RECORD_EXPIRY_NONE, false);
    tier_fixture_open(&fixture, (struct tier_options){0});
    uint64_t ref = tier_fixture_append(&fixture, 0, record);
    tier_fixture_settle(&fixture, 0);
    assert_non_null(tier_fixture_read(&fixture, 0, ref));
    (void)tier_fixture_append(&fixture, 0, record);
    struct tier_figures before = tier_fixture_figures(&fixture), after;
    uint64_t latencies = 0;
    for (unsigned i = 0; i < TIER_LATENCY_BUCKETS; i++) latencies += before.latency_us[i];
    assert_int_equal(latencies, before.reads);
    assert_true(before.reads + before.memory_reads > 0 && before.written_bytes > 0 && before.unwritten_bytes > 0);
    assert_int_equal(tier_buffer_bytes(fixture.tier), before.unwritten_bytes + before.staged_bytes);
    tier_reset_figures(fixture.tier);
    after = tier_fixture_figures(&fixture);
    assert_int_equal(after.reads + after.writes + after.appended_records + after.synchronous_reads, 0);
    assert_int_equal(after.unwritten_bytes, before.unwritten_bytes);
    assert_int_equal(after.staged_bytes, before.staged_bytes);
    assert_int_equal(after.segments.records, before.segments.records);
    free(record);
    tier_fixture_close(&fixture);
}

int main(void) {
    static struct way ways[] = {
        {TIER_IO_AUTO, TIER_DIRECT_AUTO, false, false},   {TIER_IO_AUTO, TIER_DIRECT_AUTO, true, false},
        {TIER_IO_THREADS, TIER_DIRECT_AUTO, true, false}, {TIER_IO_AUTO, TIER_DIRECT_NO, false, false},
        {TIER_IO_THREADS, TIER_DIRECT_NO, true, false},   {TIER_IO_AUTO, TIER_DIRECT_AUTO, true, true}};
    const struct CMUnitTest tests[] = {
        {"records_of_every_size_come_back (direct)", records_of_every_size_come_back, NULL, NULL, &ways[0]},
        {"records_of_every_size_come_back (compressed)", records_of_every_size_come_back, NULL, NULL, &ways[1]},
        {"records_of_every_size_come_back (compressed, threads)", records_of_every_size_come_back, NULL, NULL,
         &ways[2]},
        {"records_of_every_size_come_back (cached)", records_of_every_size_come_back, NULL, NULL, &ways[3]},
        {"records_of_every_size_come_back (cached, threads)", records_of_every_size_come_back, NULL, NULL, &ways[4]},
        {"records_of_every_size_come_back (mapped)", records_of_every_size_come_back, NULL, NULL, &ways[5]},
        cmocka_unit_test(what_cannot_work_is_refused_in_one_line),
        cmocka_unit_test(a_file_in_use_is_refused),
        cmocka_unit_test(buffers_and_segments_follow_the_memory),
        cmocka_unit_test(figures_can_be_reset_but_not_what_is_held),
    };
    log_set_level(LOG_LEVEL_NOTHING);
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
