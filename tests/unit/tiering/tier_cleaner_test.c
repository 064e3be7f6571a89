/* Cleaning and evicting segments, with an index that is a plain array: which blocks are offered, under which
 * references, and what becomes of segments that are damaged or cannot be emptied. */

#include "base/log.h"
#include "base/number.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tier_fixture.h"
#include "tiering/tier_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { COUNT = 300, STEPS_MAX = 20000 };

#define EXPIRY_MS INT64_C(2000000000000)

/* What a keyspace would be: for each record where it is; 0: nowhere. */
struct owner {
    struct tier_fixture fixture;
    struct record *records[COUNT];
    uint64_t refs[COUNT];
    unsigned offered, evicted;
    bool refuses; /* there is no room to copy to */
};

static unsigned number_of(const struct record *record) {
    struct span key = record_key(record);
    size_t prefix = strlen("record:");
    int64_t number = COUNT;
    assert_true(number_parse_i64(span_of(key.data + prefix, key.length - prefix), &number));
    return (unsigned)number;
}

static bool survivors(void *ctx, struct tier_port *port, const struct tier_block_view *block, bool evict) {
    struct owner *owner = ctx;
    (void)port;
    if (owner->refuses) return false;
    for (unsigned i = 0; i < block->count; i++) {
        unsigned number = number_of(block->records[i]);
        uint64_t ref = block->refs[i] | (record_has_expiry(block->records[i]) ? REF_VOLATILE : 0);
        assert_true(number < COUNT);
        assert_true(tier_fixture_same(block->records[i], owner->records[number]));
        if (owner->refs[number] != ref) continue;
        owner->offered++;
        uint64_t next = evict ? 0 : tier_fixture_append(&owner->fixture, 0, block->records[i]);
        owner->evicted += evict;
        tier_drop(owner->fixture.tier, ref);
        owner->refs[number] = next;
    }
    return true;
}

/* Steps until there is nothing more to do. */
static void clean(struct owner *owner, enum tier_clean_mode mode) {
    for (unsigned step = 0; step < STEPS_MAX; step++) {
        if (tier_clean(owner->fixture.port, mode, 1000, survivors, owner)) continue;
        if (!tier_is_cleaning(owner->fixture.port)) return;
        tier_fixture_turn(&owner->fixture, 0);
    }
    fail_msg("cleaning never ended");
}

/* One segment, whatever the mode says of when. */
static void clean_one(struct owner *owner, enum tier_clean_mode mode) {
    assert_true(tier_clean(owner->fixture.port, mode, 1000, survivors, owner));
    for (unsigned step = 0; step < STEPS_MAX && tier_is_cleaning(owner->fixture.port); step++)
        if (!tier_clean(owner->fixture.port, mode, UINT64_MAX, survivors, owner)) tier_fixture_turn(&owner->fixture, 0);
    assert_false(tier_is_cleaning(owner->fixture.port));
}

/* Small ones, some of pages, some that are raw as large as a few pages and take a part of one. */
static size_t size_of(unsigned number) {
    return number % 10 == 1 ? 60000 : number % 10 == 2 ? 40000 : number % 10 == 3 ? 20000 : 700 + number;
}

static void fill(struct owner *owner, struct tier_options options, int64_t expiry_ms) {
    *owner = (struct owner){0};
    tier_fixture_open(&owner->fixture, options);
    for (unsigned i = 0; i < COUNT; i++) {
        owner->records[i] = tier_fixture_record(i, size_of(i), i % 2 ? expiry_ms : RECORD_EXPIRY_NONE, i % 10 == 3);
        owner->refs[i] = tier_fixture_append(&owner->fixture, 0, owner->records[i]);
    }
    tier_fixture_settle(&owner->fixture, 0);
}

static void drop(struct owner *owner, unsigned number) {
    if (owner->refs[number]) tier_drop(owner->fixture.tier, owner->refs[number]);
    owner->refs[number] = 0;
}

static void assert_all_can_be_read(struct owner *owner) {
    for (unsigned i = 0; i < COUNT; i++)
        if (owner->refs[i])
            assert_true(tier_fixture_same(tier_fixture_read(&owner->fixture, 0, owner->refs[i]), owner->records[i]));
}

static void end(struct owner *owner) {
    for (unsigned i = 0; i < COUNT; i++) free(owner->records[i]);
    tier_fixture_close(&owner->fixture);
}

static void what_lives_is_copied_out_and_the_rest_is_free_again(void **state) {
    struct owner owner;
    fill(&owner, (struct tier_options){.compress = *(bool *)*state}, EXPIRY_MS);
    for (unsigned i = 0; i < COUNT; i++)
        if (i % 4 != 1 && i % 10 != 3) drop(&owner, i);
    struct tier_figures before = tier_fixture_figures(&owner.fixture);
    clean(&owner, TIER_CLEAN_ALL);
    tier_fixture_settle(&owner.fixture, 0);
    struct tier_figures after = tier_fixture_figures(&owner.fixture);
    assert_true(after.cleaned_segments >= 2);
    assert_int_equal(after.segments.damaged, 0);
    assert_int_equal(after.cleaned_records, owner.offered);
    assert_true(after.segments.free >= before.segments.free);
    assert_true(after.segments.used_bytes < before.segments.used_bytes);
    assert_int_equal(after.segments.records, before.segments.records);
    assert_all_can_be_read(&owner);
    end(&owner);
}

/* As long as there is room enough. */
static void it_does_nothing_that_is_not_needed(void **state) {
    (void)state;
    struct owner owner;
    fill(&owner, (struct tier_options){.size_bytes = 64 * TIER_FIXTURE_SEGMENT}, RECORD_EXPIRY_NONE);
    for (unsigned i = 0; i < COUNT; i += 2) drop(&owner, i);
    assert_false(tier_clean(owner.fixture.port, TIER_CLEAN_NEEDED, 1000, survivors, &owner));
    clean(&owner, TIER_CLEAN_ALL);
    uint64_t cleaned = tier_fixture_figures(&owner.fixture).cleaned_segments;
    clean(&owner, TIER_CLEAN_ALL); /* nor again what is dense now */
    assert_int_equal(tier_fixture_figures(&owner.fixture).cleaned_segments, cleaned);
    end(&owner);
}

static void the_oldest_segment_is_evicted_first(void **state) {
    (void)state;
    struct owner owner;
    fill(&owner, (struct tier_options){0}, RECORD_EXPIRY_NONE);
    clean_one(&owner, TIER_EVICT);
    assert_true(owner.evicted > 0 && owner.evicted < COUNT);
    for (unsigned i = 0; i < COUNT; i++) assert_int_equal(owner.refs[i] == 0, i < owner.evicted);
    assert_int_equal(tier_fixture_figures(&owner.fixture).evicted_segments, 1);
    assert_all_can_be_read(&owner);
    end(&owner);
}

static void only_what_expires_is_evicted_where_that_is_asked(void **state) {
    (void)state;
    struct owner owner;
    fill(&owner, (struct tier_options){0}, EXPIRY_MS);
    clean(&owner, TIER_EVICT_VOLATILE);
    assert_true(owner.evicted > 0);
    for (unsigned i = 0; i < COUNT; i += 2) assert_true(owner.refs[i] != 0);
    end(&owner);
}

/* Full, and in the middle of a segment that cannot be copied out: evicting must not wait for that. */
static void eviction_does_not_wait_for_cleaning_that_is_stuck(void **state) {
    (void)state;
    struct owner owner;
    fill(&owner, (struct tier_options){0}, RECORD_EXPIRY_NONE);
    for (unsigned i = 100; i < 200; i += 2) drop(&owner, i);
    owner.refuses = true;
    assert_true(tier_clean(owner.fixture.port, TIER_CLEAN_ALL, 1000, survivors, &owner));
    for (unsigned i = 0; i < 5; i++) {
        tier_fixture_turn(&owner.fixture, 0);
        assert_false(tier_clean(owner.fixture.port, TIER_CLEAN_ALL, 1000, survivors, &owner));
        assert_true(tier_is_cleaning(owner.fixture.port));
    }
    assert_true(tier_clean(owner.fixture.port, TIER_EVICT, 1000, survivors, &owner));
    assert_false(tier_is_cleaning(owner.fixture.port));
    owner.refuses = false;
    clean_one(&owner, TIER_EVICT);
    assert_true(owner.evicted > 0);
    assert_int_equal(owner.refs[0], 0);
    assert_all_can_be_read(&owner);
    end(&owner);
}

static void a_damaged_block_is_passed_over_and_its_segment_kept_for_its_records(void **state) {
    (void)state;
    struct owner owner;
    fill(&owner, (struct tier_options){0}, RECORD_EXPIRY_NONE);
    uint64_t damaged = owner.refs[11], block = tier_address_block(ref_address(damaged));
    for (unsigned i = 20; i < COUNT; i++)
        if (i % 3) drop(&owner, i);
    tier_fixture_damage("tier", damaged);
    clean(&owner, TIER_CLEAN_ALL);
    struct tier_figures figures = tier_fixture_figures(&owner.fixture);
    assert_int_equal(figures.segments.damaged, 1);
    assert_true(figures.failed_reads > 0);
    assert_int_equal(owner.refs[11], damaged);
    for (unsigned i = 0; i < COUNT; i++) {
        if (!owner.refs[i]) continue;
        bool same = tier_fixture_same(tier_fixture_read(&owner.fixture, 0, owner.refs[i]), owner.records[i]);
        if (tier_address_block(ref_address(owner.refs[i])) == block)
            assert_false(same);
        else if (!same)
            fail_msg("record %u was lost", i);
    }
    assert_null(tier_fetch(owner.fixture.tier, damaged));
    /* It is free when the last that stayed behind is gone. */
    size_t segment = (size_t)((tier_block_offset(block) - TIER_HEADER_BYTES) / TIER_FIXTURE_SEGMENT);
    for (unsigned i = 0; i < COUNT; i++)
        if (owner.refs[i] && (tier_block_offset(tier_address_block(ref_address(owner.refs[i]))) - TIER_HEADER_BYTES) /
                                     TIER_FIXTURE_SEGMENT ==
                                 segment)
            drop(&owner, i);
    assert_int_equal(tier_fixture_figures(&owner.fixture).segments.damaged, 0);
    end(&owner);
}

static void a_segment_that_cannot_be_read_is_not_tried_again_and_again(void **state) {
    (void)state;
    struct owner owner;
    fill(&owner, (struct tier_options){.faults = {.seed = 1, .read_error = 1000000}}, RECORD_EXPIRY_NONE);
    for (unsigned i = 0; i < COUNT; i += 2) drop(&owner, i);
    uint32_t sealed = tier_fixture_figures(&owner.fixture).segments.sealed;
    clean_one(&owner, TIER_CLEAN_ALL);
    struct tier_figures figures = tier_fixture_figures(&owner.fixture);
    assert_int_equal(owner.offered, 0);
    assert_int_equal(figures.failed_reads, 1);
    assert_int_equal(figures.segments.damaged, 1);
    assert_int_equal(figures.segments.sealed, sealed - 1);
    end(&owner);
}

static void it_can_be_destroyed_in_the_middle(void **state) {
    (void)state;
    struct owner owner;
    fill(&owner, (struct tier_options){.compress = true}, RECORD_EXPIRY_NONE);
    for (unsigned i = 0; i < COUNT; i += 2) drop(&owner, i);
    owner.refuses = true;
    assert_true(tier_clean(owner.fixture.port, TIER_CLEAN_ALL, 1000, survivors, &owner));
    tier_fixture_turn(&owner.fixture, 0);
    (void)tier_clean(owner.fixture.port, TIER_CLEAN_ALL, 1000, survivors, &owner);
    assert_true(tier_is_cleaning(owner.fixture.port));
    end(&owner);
}

int main(void) {
    static bool plain = false, compressed = true;
    const struct CMUnitTest tests[] = {
        {"what_lives_is_copied_out_and_the_rest_is_free_again", what_lives_is_copied_out_and_the_rest_is_free_again,
         NULL, NULL, &plain},
        {"what_lives_is_copied_out_and_the_rest_is_free_again (compressed)",
         what_lives_is_copied_out_and_the_rest_is_free_again, NULL, NULL, &compressed},
        cmocka_unit_test(it_does_nothing_that_is_not_needed),
        cmocka_unit_test(the_oldest_segment_is_evicted_first),
        cmocka_unit_test(only_what_expires_is_evicted_where_that_is_asked),
        cmocka_unit_test(eviction_does_not_wait_for_cleaning_that_is_stuck),
        cmocka_unit_test(a_damaged_block_is_passed_over_and_its_segment_kept_for_its_records),
        cmocka_unit_test(a_segment_that_cannot_be_read_is_not_tried_again_and_again),
        cmocka_unit_test(it_can_be_destroyed_in_the_middle),
    };
    log_set_level(LOG_LEVEL_NOTHING);
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
