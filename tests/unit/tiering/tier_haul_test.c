/* Hauls: records larger than a unit come out as they went in, whatever their size and however they compress; what is
 * given up, or cannot be written, leaves nothing behind. */

#include "base/clock.h"
#include "base/log.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tier_fixture.h"
#include "tiering/segment_table.h"
#include "tiering/tier_haul.h"
#include "tiering/tier_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define EXPIRY_MS INT64_C(2000000000000)

static struct tier_haul_cargo cargo_of(const struct record *record) {
    return (struct tier_haul_cargo){.record = record,
                                    .header = record,
                                    .header_bytes = record_header_size(record),
                                    .bytes = record_size(record),
                                    .expires = record_has_expiry(record),
                                    .expiry_ms = record_has_expiry(record) ? record_expiry(record) : 0};
}

static enum tier_append_status begin(struct tier_fixture *fixture, const struct record *record) {
    const struct tier_haul_cargo cargo = cargo_of(record);
    enum tier_append_status status;
    while ((status = tier_haul_begin(fixture->port, &cargo)) == TIER_BUSY) tier_fixture_turn(fixture, 0);
    return status;
}

/* Goes on in the smallest steps. */
static enum tier_haul_status go_on(struct tier_fixture *fixture) {
    enum tier_haul_status status;
    while ((status = tier_haul_step(fixture->port, 0)) == TIER_HAUL_BUSY || status == TIER_HAUL_WAITS)
        if (status == TIER_HAUL_WAITS) tier_fixture_turn(fixture, 0);
    return status;
}

static uint64_t haul(struct tier_fixture *fixture, const struct record *record) {
    assert_int_equal(begin(fixture, record), TIER_APPENDED);
    assert_int_equal(tier_hauls(fixture->tier), 1);
    assert_int_equal(go_on(fixture), TIER_HAUL_WRITTEN);
    uint64_t ref = tier_haul_commit(fixture->port);
    assert_true(tier_haul_is_idle(fixture->port));
    assert_int_equal(tier_hauls(fixture->tier), 0);
    return ref;
}

static uint32_t free_segments(const struct tier_fixture *fixture) {
    return tier_fixture_figures(fixture).segments.free;
}

/* Sizes around those of units, pages and segments. */
static void any_large_record_comes_out_as_it_went_in(void **state) {
    static const size_t sizes[] = {131072, 200001, 262144 - 50, 262144, 1 << 20, (1 << 20) - 80, 3000000, 5 << 20};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    bool compress = *(bool *)*state;
    for (unsigned kind = 0; kind < 4; kind++) {
        bool dull = kind & 1, expires = kind & 2;
        struct tier_fixture fixture;
        struct record *records[COUNT];
        uint64_t refs[COUNT];
        tier_fixture_open(&fixture, (struct tier_options){.compress = compress, .size_bytes = 40 << 20});
        for (unsigned i = 0; i < COUNT; i++) {
            records[i] = tier_fixture_record(i, sizes[i], expires ? EXPIRY_MS : RECORD_EXPIRY_NONE, dull);
            assert_true(tier_is_haul(fixture.port, record_size(records[i])));
            refs[i] = haul(&fixture, records[i]);
            assert_int_equal(ref_medium(refs[i]), MEDIUM_TIER_ALONE);
            assert_int_equal((refs[i] & REF_VOLATILE) != 0, expires);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, refs[i]), records[i]));
            struct record *fetched = tier_fetch(fixture.tier, refs[i]);
            assert_true(tier_fixture_same(fetched, records[i]));
            free(fetched);
        }
        struct tier_figures figures = tier_fixture_figures(&fixture);
        assert_int_equal(figures.segments.records, COUNT);
        assert_int_equal(figures.appended_records, COUNT);
        assert_true(segment_table_validate(tier_segments(fixture.tier)));
        for (unsigned i = 0; i < COUNT; i++) {
            tier_drop(fixture.tier, refs[i]);
            free(records[i]);
        }
        tier_fixture_close(&fixture);
    }
}

/* A run is taken for the worst case, and what compression saves is given back. */
static void a_run_is_no_longer_than_the_record_became(void **state) {
    (void)state;
    struct tier_fixture fixture;
    tier_fixture_open(&fixture, (struct tier_options){.compress = true});
    uint32_t before = free_segments(&fixture);
    struct record *record = tier_fixture_record(1, 6 << 20, RECORD_EXPIRY_NONE, true);
    assert_int_equal(begin(&fixture, record), TIER_APPENDED);
    assert_int_equal(free_segments(&fixture), before - 7);
    assert_int_equal(go_on(&fixture), TIER_HAUL_WRITTEN);
    uint64_t ref = tier_haul_commit(fixture.port);
    assert_int_equal(free_segments(&fixture), before - 1);
    assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, ref), record));
    tier_drop(fixture.tier, ref);
    assert_int_equal(free_segments(&fixture), before);
    free(record);
    tier_fixture_close(&fixture);
}

/* At every step of the way, and the next one begins in the same place. */
static void what_is_given_up_leaves_nothing_behind(void **state) {
    static const size_t sizes[] = {300000, 3 << 20};
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        struct tier_fixture fixture;
        struct record *record = tier_fixture_record(1, sizes[kind], RECORD_EXPIRY_NONE, false);
        tier_fixture_open(&fixture, (struct tier_options){.compress = true});
        uint32_t before = free_segments(&fixture);
        for (unsigned steps = 0;; steps++) {
            enum tier_haul_status status = TIER_HAUL_BUSY;
            assert_int_equal(begin(&fixture, record), TIER_APPENDED);
            for (unsigned i = 0; i < steps && status != TIER_HAUL_WRITTEN; i++) {
                status = tier_haul_step(fixture.port, 0);
                if (status == TIER_HAUL_WAITS) tier_fixture_turn(&fixture, 0);
            }
            tier_haul_give_up(fixture.port);
            while (!tier_haul_is_idle(fixture.port)) tier_fixture_turn(&fixture, 0);
            assert_int_equal(tier_hauls(fixture.tier), 0);
            assert_true(free_segments(&fixture) >= before - (kind == 0));
            if (status == TIER_HAUL_WRITTEN) break;
        }
        uint64_t ref = haul(&fixture, record);
        assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, ref), record));
        assert_int_equal(tier_fixture_figures(&fixture).segments.records, 1);
        assert_true(segment_table_validate(tier_segments(fixture.tier)));
        free(record);
        tier_fixture_close(&fixture);
    }
}

static void a_write_that_fails_ends_the_haul_and_the_record_stays(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 1 << 20, RECORD_EXPIRY_NONE, false);
    const struct tier_haul_cargo cargo = cargo_of(record);
    tier_fixture_open(&fixture, (struct tier_options){.faults = {.seed = 1, .write_error = 1000000}});
    assert_int_equal(begin(&fixture, record), TIER_APPENDED);
    assert_int_equal(go_on(&fixture), TIER_HAUL_FAILED);
    tier_haul_give_up(fixture.port);
    while (!tier_haul_is_idle(fixture.port)) tier_fixture_turn(&fixture, 0);
    assert_int_equal(tier_haul_begin(fixture.port, &cargo), TIER_FULL);
    assert_true(tier_fixture_figures(&fixture).failed_writes > 0);
    assert_int_equal(tier_fixture_figures(&fixture).segments.records, 0);
    free(record);
    tier_fixture_close(&fixture);
}

/* The bytes that the header was are what is written, whatever became of it since. */
static void the_header_is_that_of_the_beginning(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 400000, EXPIRY_MS, false);
    struct record *before = malloc(record_size(record));
    memcpy(before, record, record_size(record));
    tier_fixture_open(&fixture, (struct tier_options){.compress = false});
    struct tier_haul_cargo cargo = cargo_of(record);
    cargo.header = before;
    record_set_access(record, 12345);
    while (tier_haul_begin(fixture.port, &cargo) == TIER_BUSY) tier_fixture_turn(&fixture, 0);
    assert_int_equal(go_on(&fixture), TIER_HAUL_WRITTEN);
    uint64_t ref = tier_haul_commit(fixture.port);
    assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, ref), before));
    free(before);
    free(record);
    tier_fixture_close(&fixture);
}

static void what_is_larger_than_the_tier_is_told(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 20 << 20, RECORD_EXPIRY_NONE, false);
    tier_fixture_open(&fixture, (struct tier_options){.compress = true});
    assert_int_equal(begin(&fixture, record), TIER_FULL);
    assert_true(tier_haul_is_idle(fixture.port));
    free(record);
    tier_fixture_close(&fixture);
}

static void it_can_be_destroyed_on_the_way(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 2 << 20, RECORD_EXPIRY_NONE, true);
    tier_fixture_open(&fixture, (struct tier_options){.compress = true});
    assert_int_equal(begin(&fixture, record), TIER_APPENDED);
    for (unsigned i = 0; i < 3; i++) (void)tier_haul_step(fixture.port, 0);
    tier_fixture_close(&fixture);
    free(record);
}

int main(void) {
    static bool yes = true, no = false;
    log_set_level(LOG_LEVEL_NOTHING);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(any_large_record_comes_out_as_it_went_in, &yes),
        cmocka_unit_test_prestate(any_large_record_comes_out_as_it_went_in, &no),
        cmocka_unit_test(a_run_is_no_longer_than_the_record_became),
        cmocka_unit_test(what_is_given_up_leaves_nothing_behind),
        cmocka_unit_test(a_write_that_fails_ends_the_haul_and_the_record_stays),
        cmocka_unit_test(the_header_is_that_of_the_beginning),
        cmocka_unit_test(what_is_larger_than_the_tier_is_told),
        cmocka_unit_test(it_can_be_destroyed_on_the_way),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
