/* The writing side: where records are put, what happens when writes fall behind or fail, and when the tier is full. */

#include "base/clock.h"
#include "base/log.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tier_fixture.h"
#include "tiering/tier_block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { LARGE_BYTES = 5 << 19, MANY_SEGMENTS = 64 };

#define EXPIRY_MS INT64_C(2000000000000)

static uint32_t free_segments(const struct tier_fixture *fixture) {
    return tier_fixture_figures(fixture).segments.free;
}

static size_t segment_of(uint64_t ref) {
    return (size_t)((tier_block_offset(tier_address_block(ref_address(ref))) - TIER_HEADER_BYTES) /
                    TIER_FIXTURE_SEGMENT);
}

static bool is_large(unsigned number) {
    return number % 10 == 3;
}

static void read_all(struct tier_fixture *fixture, struct record *const *records, const uint64_t *refs,
                     unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (refs[i]) assert_true(tier_fixture_same(tier_fixture_read(fixture, 0, refs[i]), records[i]));
}

/* Larger than a segment, though it may be small once it is compressed: nothing else may stand behind it. */
static void a_record_larger_than_a_segment_has_a_run_for_itself(void **state) {
    enum { COUNT = 40 };
    bool dull = *(bool *)*state;
    struct tier_fixture fixture;
    struct record *records[COUNT];
    uint64_t refs[COUNT] = {0};
    tier_fixture_open(&fixture,
                      (struct tier_options){.compress = dull, .size_bytes = MANY_SEGMENTS * TIER_FIXTURE_SEGMENT});
    for (unsigned i = 0; i < COUNT; i++) {
        size_t bytes = is_large(i) ? LARGE_BYTES : i % 10 == 5 ? 40000 : 200;
        records[i] = tier_fixture_record(i, bytes, i % 20 < 10 ? EXPIRY_MS : RECORD_EXPIRY_NONE, dull);
        refs[i] = tier_fixture_append(&fixture, 0, records[i]);
        for (unsigned k = 0; k < i; k++) /* in none of the segments of a large one's run */
            if (refs[k] && is_large(i) != is_large(k))
                assert_true(segment_of(refs[is_large(i) ? k : i]) - segment_of(refs[is_large(i) ? i : k]) >= 3);
        if (!is_large(i) || i < 20) continue;
        tier_drop(fixture.tier, refs[i - 20]);
        refs[i - 20] = 0;
    }
    read_all(&fixture, records, refs, COUNT);
    tier_fixture_settle(&fixture, 0);
    read_all(&fixture, records, refs, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        if (refs[i]) tier_drop(fixture.tier, refs[i]);
        free(records[i]);
    }
    assert_int_equal(free_segments(&fixture) + tier_fixture_figures(&fixture).segments.open, MANY_SEGMENTS);
    assert_int_equal(tier_fixture_figures(&fixture).segments.records, 0);
    tier_fixture_close(&fixture);
}

static void a_run_that_is_not_used_is_given_back(void **state) {
    (void)state;
    struct tier_fixture fixture;
    tier_fixture_open(&fixture, (struct tier_options){0});
    assert_int_equal(tier_prepare(fixture.port, TIER_STREAM_LASTING, 3 << 20, false), TIER_APPENDED);
    assert_true(free_segments(&fixture) <= TIER_FIXTURE_SEGMENTS - 3);
    struct record *record = tier_fixture_record(1, 100, RECORD_EXPIRY_NONE, false);
    uint64_t ref = tier_fixture_append(&fixture, 0, record);
    assert_int_equal(free_segments(&fixture), TIER_FIXTURE_SEGMENTS - 1);
    assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, ref), record));
    free(record);
    tier_fixture_close(&fixture);
}

static void records_that_expire_stand_in_segments_of_their_own(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *lasting = tier_fixture_record(1, 100, RECORD_EXPIRY_NONE, false);
    struct record *fading = tier_fixture_record(2, 100, 5000000, false);
    tier_fixture_open(&fixture, (struct tier_options){0});
    uint64_t first = tier_fixture_append(&fixture, 0, lasting), second = tier_fixture_append(&fixture, 0, fading);
    assert_int_not_equal(segment_of(first), segment_of(second));
    assert_false(first & REF_VOLATILE);
    assert_true(second & REF_VOLATILE);
    assert_int_equal(tier_expiry(fixture.tier, second, 4990000), SEGMENT_EXPIRY_NONE_DUE);
    assert_int_equal(tier_expiry(fixture.tier, second, 5002000), SEGMENT_EXPIRY_ALL_DUE);
    free(lasting);
    free(fading);
    tier_fixture_close(&fixture);
}

/* Neighbours in one block: far fewer blocks than records. */
static void records_are_packed_together(void **state) {
    (void)state;
    enum { COUNT = 64 };
    struct tier_fixture fixture;
    struct record *records[COUNT];
    const struct record *array[COUNT];
    uint64_t refs[COUNT];
    unsigned taken;
    tier_fixture_open(&fixture, (struct tier_options){0});
    for (unsigned i = 0; i < COUNT; i++) array[i] = records[i] = tier_fixture_record(i, 20, RECORD_EXPIRY_NONE, false);
    assert_int_equal(tier_append(fixture.port, TIER_STREAM_LASTING, 0, 0, array, COUNT, refs, &taken), TIER_BUSY);
    assert_int_equal(tier_prepare(fixture.port, TIER_STREAM_LASTING, 0, false), TIER_APPENDED);
    assert_int_equal(tier_append(fixture.port, TIER_STREAM_LASTING, 0, 0, array, COUNT, refs, &taken), TIER_APPENDED);
    assert_int_equal(taken, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(ref_medium(refs[i]), MEDIUM_TIER_SHARED);
        assert_int_equal(tier_address_block(ref_address(refs[i])), tier_address_block(ref_address(refs[0])));
        assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, refs[i]), records[i]));
        free(records[i]);
    }
    tier_fixture_close(&fixture);
}

static void too_much_unwritten_is_busy_until_writes_have_ended(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 60000, RECORD_EXPIRY_NONE, false);
    const struct record *one = record;
    uint64_t ref;
    unsigned taken, appended = 0;
    enum tier_append_status status = TIER_APPENDED;
    tier_fixture_open(&fixture, (struct tier_options){0});
    for (; appended < 1000 && status == TIER_APPENDED; appended++) {
        status = tier_prepare(fixture.port, TIER_STREAM_LASTING, tier_block_alone_bound(record), false);
        if (status == TIER_APPENDED)
            assert_int_equal(tier_append(fixture.port, TIER_STREAM_LASTING, 0, 0, &one, 1, &ref, &taken),
                             TIER_APPENDED);
    }
    assert_int_equal(status, TIER_BUSY);
    assert_true(tier_fixture_figures(&fixture).unwritten_bytes <= 2 << 20);
    tier_fixture_settle(&fixture, 0);
    assert_int_equal(tier_fixture_figures(&fixture).unwritten_bytes, 0);
    assert_int_equal(tier_prepare(fixture.port, TIER_STREAM_LASTING, 60100, false), TIER_APPENDED);
    free(record);
    tier_fixture_close(&fixture);
}

static void writes_that_fail_are_tried_again_and_lose_nothing(void **state) {
    (void)state;
    enum { COUNT = 60 };
    struct tier_fixture fixture;
    struct record *records[COUNT];
    uint64_t refs[COUNT];
    bool failing = false;
    tier_fixture_open(&fixture, (struct tier_options){.faults = {.seed = 3, .write_error = 500000}});
    for (unsigned i = 0; i < COUNT; i++) {
        records[i] = tier_fixture_record(i, 30000, RECORD_EXPIRY_NONE, false);
        while (tier_is_failing(fixture.tier)) { /* it takes nothing new, and serves what it has */
            failing = true;
            assert_int_equal(tier_prepare(fixture.port, TIER_STREAM_VOLATILE, 0, false), TIER_FULL);
            for (unsigned k = 0; k < i; k++)
                assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, refs[k]), records[k]));
            tier_fixture_turn(&fixture, 0);
        }
        refs[i] = tier_fixture_append(&fixture, 0, records[i]);
        tier_port_flush(fixture.port);
        tier_fixture_turn(&fixture, 0);
    }
    assert_true(failing);
    tier_fixture_settle(&fixture, 0);
    assert_false(tier_is_failing(fixture.tier));
    for (unsigned i = 0; i < COUNT; i++) {
        assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, refs[i]), records[i]));
        free(records[i]);
    }
    assert_true(tier_fixture_figures(&fixture).failed_writes > 0);
    tier_fixture_close(&fixture);
}

/* Also when nothing was ever written. */
static void it_can_be_destroyed_while_writes_fail(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 30000, RECORD_EXPIRY_NONE, false);
    tier_fixture_open(&fixture, (struct tier_options){.faults = {.seed = 3, .write_error = 1000000}});
    (void)tier_fixture_append(&fixture, 0, record);
    tier_port_flush(fixture.port);
    tier_fixture_turn(&fixture, 0);
    assert_true(tier_is_failing(fixture.tier));
    free(record);
    tier_fixture_close(&fixture);
}

static void a_full_tier_says_so_and_goes_on_when_there_is_room_again(void **state) {
    (void)state;
    enum { MOST = 2000 };
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 30000, RECORD_EXPIRY_NONE, false);
    uint64_t refs[MOST];
    unsigned count = 0;
    tier_fixture_open(&fixture, (struct tier_options){.size_bytes = 8 * TIER_FIXTURE_SEGMENT});
    for (;; count++) {
        enum tier_append_status status;
        while ((status = tier_prepare(fixture.port, TIER_STREAM_LASTING, 30100, false)) == TIER_BUSY)
            tier_fixture_turn(&fixture, 0);
        if (status == TIER_FULL) break;
        assert_true(count < MOST);
        refs[count] = tier_fixture_append(&fixture, 0, record);
    }
    assert_true(count >= 5 * TIER_FIXTURE_SEGMENT / 30100);
    assert_true(tier_is_full(fixture.tier) && tier_needs_cleaning(fixture.tier));
    assert_true(free_segments(&fixture) > 0); /* the cleaner's reserve */
    assert_int_equal(tier_prepare(fixture.port, TIER_STREAM_LASTING, 0, true), TIER_APPENDED);
    tier_fixture_settle(&fixture, 0);
    for (unsigned i = 0; i < count / 2; i++) tier_drop(fixture.tier, refs[i]);
    assert_int_equal(tier_prepare(fixture.port, TIER_STREAM_VOLATILE, 30100, false), TIER_APPENDED);
    assert_false(tier_is_full(fixture.tier));
    for (unsigned i = count / 2; i < count; i++)
        assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, refs[i]), record));
    free(record);
    tier_fixture_close(&fixture);
}

static void what_is_written_little_by_little_is_on_the_device_after_a_while(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 100, RECORD_EXPIRY_NONE, false);
    tier_fixture_open(&fixture, (struct tier_options){0});
    (void)tier_fixture_append(&fixture, 0, record);
    tier_port_turn_end(fixture.port, clock_monotonic_ns());
    assert_int_equal(tier_port_in_flight(fixture.port), 0);
    tier_port_turn_end(fixture.port, clock_monotonic_ns() + 2 * INT64_C(1000000000));
    assert_int_equal(tier_port_in_flight(fixture.port), 1);
    while (tier_port_in_flight(fixture.port)) tier_port_wait(fixture.port);
    assert_int_equal(tier_fixture_figures(&fixture).unwritten_bytes, 0);
    assert_int_equal(tier_fixture_figures(&fixture).written_bytes, TIER_PAGE_BYTES);
    free(record);
    tier_fixture_close(&fixture);
}

int main(void) {
    static bool sharp = false, dull = true;
    const struct CMUnitTest tests[] = {
        {"a_record_larger_than_a_segment_has_a_run_for_itself", a_record_larger_than_a_segment_has_a_run_for_itself,
         NULL, NULL, &sharp},
        {"a_record_larger_than_a_segment_has_a_run_for_itself (compressed)",
         a_record_larger_than_a_segment_has_a_run_for_itself, NULL, NULL, &dull},
        cmocka_unit_test(a_run_that_is_not_used_is_given_back),
        cmocka_unit_test(records_that_expire_stand_in_segments_of_their_own),
        cmocka_unit_test(records_are_packed_together),
        cmocka_unit_test(too_much_unwritten_is_busy_until_writes_have_ended),
        cmocka_unit_test(writes_that_fail_are_tried_again_and_lose_nothing),
        cmocka_unit_test(it_can_be_destroyed_while_writes_fail),
        cmocka_unit_test(a_full_tier_says_so_and_goes_on_when_there_is_room_again),
        cmocka_unit_test(what_is_written_little_by_little_is_on_the_device_after_a_while),
    };
    log_set_level(LOG_LEVEL_NOTHING);
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
