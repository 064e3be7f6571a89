/* The table of segments against a naive one, and under several threads. */

#include "base/random.h"
#include "tiering/segment_table.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT_BYTES = 1 << 20, PAGE_BYTES = 4096 };

static uint64_t given_seed;

static int seed(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    given_seed = given ? strtoull(given, NULL, 10) : 20261121;
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)given_seed);
    return 0;
}

static struct segment_table *create(uint32_t segments, uint32_t reserved) {
    struct segment_table *table = segment_table_create(
        &(struct segment_table_options){.segment_bytes = SEGMENT_BYTES, .segments = segments, .reserved = reserved});
    assert_non_null(table);
    return table;
}

static enum segment_state state_of(const struct segment_table *table, uint32_t segment) {
    return segment_table_info(table, segment).state;
}

static uint32_t sealed_with(struct segment_table *table, uint32_t records, uint32_t dropped, bool expires) {
    uint32_t segment = segment_table_take(table, 1, expires, SEGMENT_FOR_NEW);
    segment_table_add(table, segment, records);
    segment_table_seal(table, segment, SEGMENT_BYTES);
    if (dropped) segment_table_drop(table, segment, dropped);
    return segment;
}

/* ---- one behaviour each ---- */

static void offsets_and_segments_belong_together(void **state) {
    (void)state;
    struct segment_table *table = create(100, 0);
    assert_int_equal(segment_table_segment_bytes(table), SEGMENT_BYTES);
    assert_int_equal(segment_table_offset(table, 7), 7 * SEGMENT_BYTES);
    assert_int_equal(segment_table_of(table, 7 * SEGMENT_BYTES), 7);
    assert_int_equal(segment_table_of(table, 8 * SEGMENT_BYTES - 1), 7);
    segment_table_destroy(table);
    segment_table_destroy(NULL);
}

static bool exists_until_100(const void *ctx, uint32_t segment) {
    (void)ctx;
    return segment % 3 != 1 || segment < 100; /* the second of three pools is the shortest */
}

static void segments_are_taken_where_they_are_wanted(void **state) {
    (void)state;
    struct segment_table *table = segment_table_create(&(struct segment_table_options){
        .segment_bytes = SEGMENT_BYTES, .segments = 300, .persistent = true, .homes = 3, .exists = exists_until_100});
    uint32_t taken[3] = {0};
    assert_int_equal(segment_table_free_at(table, 0), 100);
    assert_int_equal(segment_table_free_at(table, 1), 33);
    assert_int_equal(segment_table_free_count(table), 233);
    assert_int_equal(segment_table_usage(table).absent, 67);
    for (uint32_t i = 0; i < 33; i++) {
        assert_int_equal(segment_table_take_at(table, 1, 1, false, SEGMENT_FOR_NEW), 3 * i + 1);
        assert_int_equal(segment_table_take_at(table, 1, 2, false, SEGMENT_FOR_NEW), 3 * i + 2);
    }
    assert_true(segment_table_validate(table));
    assert_int_equal(segment_table_free_at(table, 1), 0);
    assert_int_equal(segment_table_take_at(table, 1, 1, false, SEGMENT_FOR_NEW), 0); /* it is full: elsewhere */
    assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_NEW), 3);
    segment_table_give_back(table, 4, SEGMENT_FOR_NEW);
    assert_int_equal(segment_table_take_at(table, 1, 1, false, SEGMENT_FOR_NEW), 4);
    for (uint32_t segment; (segment = segment_table_take(table, 1, false, SEGMENT_FOR_NEW)) != SEGMENT_NONE;) {
        assert_true(exists_until_100(NULL, segment));
        taken[segment % 3]++;
    }
    assert_int_equal(taken[1], 0);
    assert_int_equal(taken[0] + taken[2], 233 - 66 - 2);
    assert_true(segment_table_validate(table));
    const struct segment_info info = {.run = 1, .records = 1, .live = 1};
    assert_false(segment_table_restore(table, 103, &info));
    segment_table_destroy(table);
}

static void lowest_numbers_are_taken_first_and_the_reserve_is_the_cleaners(void **state) {
    (void)state;
    struct segment_table *table = create(70, 2);
    for (uint32_t i = 0; i < 68; i++) assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_NEW), i);
    assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_NEW), SEGMENT_NONE);
    assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING), 68);
    segment_table_give_back(table, 3, SEGMENT_FOR_NEW);
    segment_table_give_back(table, 66, SEGMENT_FOR_NEW);
    assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_NEW), 3);
    assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING), 66);
    assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING), 69);
    assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING), SEGMENT_NONE);
    assert_int_equal(segment_table_free_count(table), 0);
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

static void a_run_takes_neighbours_and_is_freed_as_one(void **state) {
    (void)state;
    struct segment_table *table = create(200, 0);
    for (uint32_t i = 0; i < 61; i++) segment_table_take(table, 1, false, SEGMENT_FOR_NEW);
    segment_table_give_back(table, 10, SEGMENT_FOR_NEW);
    segment_table_give_back(table, 11, SEGMENT_FOR_NEW);
    uint32_t run = segment_table_take(table, 5, true, SEGMENT_FOR_NEW);
    assert_int_equal(run, 61); /* across the end of a word of the bitmap */
    assert_int_equal(state_of(table, 65), SEGMENT_CONTINUED);
    assert_int_equal(segment_table_info(table, run).run, 5);
    assert_int_equal(segment_table_take(table, 2, false, SEGMENT_FOR_NEW), 10);
    assert_int_equal(segment_table_take(table, 135, false, SEGMENT_FOR_NEW), SEGMENT_NONE);
    assert_int_equal(segment_table_take(table, 134, false, SEGMENT_FOR_NEW), 66);
    uint32_t generation = segment_table_generation(table, 65);
    segment_table_note_expiry(table, segment_table_offset(table, run), 5000);
    segment_table_add(table, run, 1);
    segment_table_seal(table, run, 5 * SEGMENT_BYTES - 300);
    assert_int_equal(segment_table_usage(table).sealed, 5);
    assert_true(segment_table_validate(table));
    segment_table_drop(table, run, 1);
    assert_int_equal(state_of(table, run), SEGMENT_FREE);
    assert_int_equal(state_of(table, 65), SEGMENT_FREE);
    assert_int_equal(segment_table_generation(table, 65), generation + 1);
    assert_int_equal(segment_table_free_count(table), 5);
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

static void a_run_does_not_jump_over_what_is_taken(void **state) {
    (void)state;
    struct segment_table *table = create(192, 0);
    for (uint32_t i = 0; i < 192; i++) segment_table_take(table, 1, false, SEGMENT_FOR_NEW);
    for (uint32_t i = 60; i < 64; i++) segment_table_give_back(table, i, SEGMENT_FOR_NEW);
    for (uint32_t i = 128; i < 131; i++) segment_table_give_back(table, i, SEGMENT_FOR_NEW);
    assert_int_equal(segment_table_take(table, 5, false, SEGMENT_FOR_NEW), SEGMENT_NONE);
    assert_int_equal(segment_table_take(table, 4, false, SEGMENT_FOR_NEW), 60);
    assert_int_equal(segment_table_take(table, 3, false, SEGMENT_FOR_NEW), 128);
    segment_table_destroy(table);
}

static void an_empty_segment_is_free_only_when_sealed_and_written(void **state) {
    (void)state;
    struct segment_table *table = create(10, 0);
    uint32_t segment = segment_table_take(table, 1, false, SEGMENT_FOR_NEW),
             generation = segment_table_generation(table, 0);
    segment_table_add(table, segment, 3);
    segment_table_write_begins(table, segment);
    segment_table_write_begins(table, segment);
    segment_table_drop(table, segment, 3);
    assert_int_equal(state_of(table, segment), SEGMENT_OPEN);
    segment_table_seal(table, segment, 1000);
    assert_int_equal(state_of(table, segment), SEGMENT_SEALED);
    assert_int_equal(segment_table_choose(table, 100), SEGMENT_NONE);
    assert_int_equal(segment_table_choose_oldest(table, false), SEGMENT_NONE);
    segment_table_write_ends(table, segment);
    assert_true(segment_table_has_unwritten(table, segment));
    assert_true(segment_table_validate(table));
    segment_table_write_ends(table, segment);
    assert_int_equal(state_of(table, segment), SEGMENT_FREE);
    assert_int_equal(segment_table_generation(table, segment), generation + 1);
    segment_table_take(table, 1, false, SEGMENT_FOR_NEW);
    segment_table_seal(table, segment, 0);
    assert_int_equal(state_of(table, segment), SEGMENT_FREE);
    segment_table_destroy(table);
}

static void two_tables_hardly_agree_on_the_first_generation(void **state) {
    (void)state;
    struct segment_table *a = create(1, 0), *b = create(1, 0), *c = create(1, 0);
    assert_true(segment_table_generation(a, 0) != segment_table_generation(b, 0) ||
                segment_table_generation(a, 0) != segment_table_generation(c, 0));
    segment_table_destroy(a);
    segment_table_destroy(b);
    segment_table_destroy(c);
}

static void the_emptiest_is_chosen_within_the_limit(void **state) {
    (void)state;
    struct segment_table *table = create(300, 0);
    for (uint32_t i = 0; i < 150; i++) sealed_with(table, 1000, 100, false);
    sealed_with(table, 1000, 700, false);
    sealed_with(table, 10, 5, false);
    for (uint32_t i = 0; i < 50; i++) sealed_with(table, 1000, 100, false);
    assert_int_equal(segment_table_choose(table, 29), SEGMENT_NONE);
    assert_int_equal(segment_table_choose(table, 30), 150);
    assert_int_equal(state_of(table, 150), SEGMENT_CLEANING);
    assert_int_equal(segment_table_choose(table, 89), 151);
    assert_int_equal(segment_table_choose(table, 89), SEGMENT_NONE);
    assert_int_equal(segment_table_choose(table, 90), 0);
    segment_table_drop(table, 170, 200); /* after its group was looked at */
    assert_int_equal(segment_table_choose(table, 90), 170);
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

static void what_the_cleaner_leaves_decides_what_the_segment_becomes(void **state) {
    (void)state;
    struct segment_table *table = create(10, 0);
    for (uint32_t i = 0; i < 3; i++) sealed_with(table, 10, 5, false);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(segment_table_choose(table, 50), i);
    segment_table_drop(table, 0, 5);
    assert_int_equal(state_of(table, 0), SEGMENT_CLEANING); /* not used again under the cleaner's feet */
    segment_table_cleaned(table, 0, false);
    assert_int_equal(state_of(table, 0), SEGMENT_FREE);
    segment_table_cleaned(table, 1, true);
    assert_int_equal(state_of(table, 1), SEGMENT_SEALED);
    segment_table_drop(table, 2, 4);
    segment_table_cleaned(table, 2, false);
    assert_int_equal(state_of(table, 2), SEGMENT_DAMAGED);
    assert_int_equal(segment_table_usage(table).damaged, 1);
    assert_int_equal(segment_table_choose(table, 100), 1);
    assert_int_equal(segment_table_choose(table, 100), SEGMENT_NONE);
    segment_table_drop(table, 1, 5);
    segment_table_cleaned(table, 1, true);
    assert_int_equal(state_of(table, 1), SEGMENT_FREE);
    segment_table_drop(table, 2, 1);
    assert_int_equal(segment_table_free_count(table), 10);
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

static void the_first_sealed_is_the_oldest(void **state) {
    (void)state;
    struct segment_table *table = create(300, 0);
    for (uint32_t i = 0; i < 200; i++) segment_table_take(table, 1, i % 3 == 0, SEGMENT_FOR_NEW);
    for (uint32_t i = 0; i < 200; i++) {
        segment_table_add(table, 199 - i, 10);
        segment_table_seal(table, 199 - i, 100);
    }
    assert_int_equal(segment_table_choose_oldest(table, false), 199);
    assert_int_equal(segment_table_choose_oldest(table, true), 198);
    assert_int_equal(segment_table_choose_oldest(table, true), 195);
    assert_int_equal(segment_table_choose_oldest(table, false), 197);
    segment_table_cleaned(table, 198, true);
    assert_int_equal(segment_table_choose_oldest(table, false), 198);
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

static void expiries_are_known_by_page(void **state) {
    (void)state;
    struct segment_table *table = create(10, 0);
    uint32_t plain = segment_table_take(table, 1, false, SEGMENT_FOR_NEW),
             segment = segment_table_take(table, 1, true, SEGMENT_FOR_NEW);
    uint64_t offset = segment_table_offset(table, segment), page = offset + 5 * PAGE_BYTES;
    size_t before = segment_table_usage(table).memory_bytes;
    segment_table_note_expiry(table, segment_table_offset(table, plain), 1000);
    assert_int_equal(segment_table_expiry(table, segment_table_offset(table, plain), 1 << 30), SEGMENT_EXPIRY_SOME_DUE);
    assert_int_equal(segment_table_expiry(table, page, 0), SEGMENT_EXPIRY_SOME_DUE);
    segment_table_note_expiry(table, page + 128, 20500);
    segment_table_note_expiry(table, page + 3000, 10500);
    segment_table_note_expiry(table, page, 15000);
    assert_int_equal(segment_table_expiry(table, page + 500, 9999), SEGMENT_EXPIRY_NONE_DUE);
    assert_int_equal(segment_table_expiry(table, page, 10500), SEGMENT_EXPIRY_FEW_DUE);
    assert_int_equal(segment_table_expiry(table, page, 20500), SEGMENT_EXPIRY_SOME_DUE);
    assert_int_equal(segment_table_expiry(table, page, 21001), SEGMENT_EXPIRY_ALL_DUE);
    segment_table_note_swept(table, page, 17000); /* the middle is at 19 s now */
    assert_int_equal(segment_table_expiry(table, page, 16000), SEGMENT_EXPIRY_NONE_DUE);
    assert_int_equal(segment_table_expiry(table, page, 18500), SEGMENT_EXPIRY_FEW_DUE);
    assert_int_equal(segment_table_expiry(table, page, 19500), SEGMENT_EXPIRY_SOME_DUE);
    assert_int_equal(segment_table_expiry(table, page + PAGE_BYTES, 21001), SEGMENT_EXPIRY_SOME_DUE);
    segment_table_note_expiry(table, offset, 0);
    assert_int_equal(segment_table_expiry(table, offset, 1001), SEGMENT_EXPIRY_ALL_DUE);
    segment_table_note_expiry(table, offset, (INT64_C(1) << 48) - 1); /* the year 10889 */
    assert_int_equal(segment_table_expiry(table, offset, INT64_MAX), SEGMENT_EXPIRY_SOME_DUE);
    segment_table_note_expiry(table, page + PAGE_BYTES, (INT64_C(1) << 48) - 1);
    assert_int_equal(segment_table_expiry(table, page + PAGE_BYTES, INT64_C(2000000000000)), SEGMENT_EXPIRY_NONE_DUE);
    /* All of it is forgotten with the segment. */
    segment_table_give_back(table, segment, SEGMENT_FOR_NEW);
    assert_true(segment_table_usage(table).memory_bytes < before);
    segment_table_take(table, 1, true, SEGMENT_FOR_NEW);
    assert_int_equal(segment_table_expiry(table, page, 21001), SEGMENT_EXPIRY_SOME_DUE);
    segment_table_destroy(table);
}

static void usage_adds_up_what_is_filled_and_what_lives(void **state) {
    (void)state;
    struct segment_table *table = create(10, 0);
    sealed_with(table, 100, 25, false);
    sealed_with(table, 100, 100, false);
    uint32_t open = segment_table_take(table, 1, false, SEGMENT_FOR_NEW);
    segment_table_add(table, open, 7);
    struct segment_usage usage = segment_table_usage(table);
    assert_int_equal(usage.segments, 10);
    assert_int_equal(usage.free, 8);
    assert_int_equal(usage.open, 1);
    assert_int_equal(usage.sealed, 1);
    assert_int_equal(usage.highest, 2);
    assert_int_equal(usage.records, 82);
    assert_int_equal(usage.used_bytes, SEGMENT_BYTES);
    assert_int_equal(usage.live_bytes, SEGMENT_BYTES / 4 * 3);
    segment_table_destroy(table);
}

/* ---- against a naive table ---- */

enum { SEGMENTS = 300, RESERVED = 5, STEPS = 200000 };

static struct naive {
    enum segment_state state;
    bool expires;
    uint32_t reuses, run, records, live, writes;
    uint64_t order;
} naive[SEGMENTS];
static uint64_t seals;

static uint32_t naive_free(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < SEGMENTS; i++) count += naive[i].state == SEGMENT_FREE;
    return count;
}

static void naive_release(uint32_t segment) {
    uint32_t run = naive[segment].run;
    for (uint32_t i = segment; i < segment + run; i++) naive[i] = (struct naive){.reuses = naive[i].reuses + 1};
}

static void naive_settle(uint32_t segment) {
    const struct naive *row = &naive[segment];
    if ((row->state == SEGMENT_SEALED || row->state == SEGMENT_DAMAGED) && row->live == 0 && row->writes == 0)
        naive_release(segment);
}

static uint32_t naive_take(uint32_t count, bool expires, bool for_cleaner) {
    if (naive_free() < count + (for_cleaner ? 0 : RESERVED)) return SEGMENT_NONE;
    for (uint32_t begin = 0; begin + count <= SEGMENTS; begin++) {
        uint32_t length = 0;
        while (length < count && naive[begin + length].state == SEGMENT_FREE) length++;
        if (length < count) continue;
        for (uint32_t i = 1; i < count; i++) naive[begin + i].state = SEGMENT_CONTINUED;
        naive[begin].state = SEGMENT_OPEN;
        naive[begin].expires = expires;
        naive[begin].run = count;
        return begin;
    }
    return SEGMENT_NONE;
}

static uint32_t naive_choose(unsigned percent_max) {
    uint32_t best = SEGMENT_NONE, best_share = UINT32_MAX;
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        const struct naive *row = &naive[i];
        if (row->state != SEGMENT_SEALED || row->writes || row->live * 100 > row->records * percent_max) continue;
        uint32_t share = row->live * 254 / row->records;
        if (share < best_share) best_share = share, best = i;
    }
    if (best != SEGMENT_NONE) naive[best].state = SEGMENT_CLEANING;
    return best;
}

static uint32_t naive_choose_oldest(bool only_volatile) {
    uint32_t best = SEGMENT_NONE;
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        const struct naive *row = &naive[i];
        if (row->state != SEGMENT_SEALED || row->writes || (only_volatile && !row->expires)) continue;
        if (best == SEGMENT_NONE || row->order < naive[best].order) best = i;
    }
    if (best != SEGMENT_NONE) naive[best].state = SEGMENT_CLEANING;
    return best;
}

static void compare_all(const struct segment_table *table, const uint32_t *generations) {
    uint64_t records = 0;
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        struct segment_info info = segment_table_info(table, i);
        assert_int_equal(info.state, naive[i].state);
        assert_int_equal(info.expires, naive[i].expires);
        assert_int_equal(info.run, naive[i].run);
        assert_int_equal(info.live, naive[i].live);
        assert_int_equal(info.records, naive[i].records);
        assert_int_equal(info.generation, generations[i] + naive[i].reuses);
        assert_int_equal(segment_table_has_unwritten(table, i), naive[i].writes > 0);
        records += naive[i].live;
    }
    assert_int_equal(segment_table_free_count(table), naive_free());
    assert_int_equal(segment_table_usage(table).records, records);
    assert_true(segment_table_validate(table));
}

static void step_on(struct segment_table *table, struct random *numbers, uint32_t segment) {
    struct naive *row = &naive[segment];
    uint32_t count;
    switch (random_below(numbers, 6)) {
    case 0:
        if (row->state != SEGMENT_OPEN) return;
        segment_table_write_begins(table, segment);
        row->writes++;
        return;
    case 1:
        if (row->writes == 0) return;
        segment_table_write_ends(table, segment);
        row->writes--;
        naive_settle(segment);
        return;
    case 2:
        if (row->state != SEGMENT_OPEN) return;
        count = 1 + (uint32_t)random_below(numbers, 500);
        segment_table_add(table, segment, count);
        row->records += count;
        row->live += count;
        return;
    case 3:
        if (row->state == SEGMENT_OPEN) {
            segment_table_seal(table, segment, 1 + random_below(numbers, SEGMENT_BYTES));
            row->state = SEGMENT_SEALED;
            row->order = ++seals;
            naive_settle(segment);
        } else if (row->state == SEGMENT_CLEANING) {
            bool interrupted = random_once_in(numbers, 2);
            segment_table_cleaned(table, segment, interrupted);
            row->state = interrupted ? SEGMENT_SEALED : SEGMENT_DAMAGED;
            naive_settle(segment);
        }
        return;
    default:
        if (row->live == 0) return;
        count = random_once_in(numbers, 4) ? row->live : 1 + (uint32_t)random_below(numbers, row->live);
        segment_table_drop(table, segment, count);
        row->live -= count;
        naive_settle(segment);
    }
}

static void random_steps_agree_with_a_naive_table(void **state) {
    (void)state;
    static uint32_t generations[SEGMENTS];
    struct random numbers;
    random_seed(&numbers, given_seed);
    struct segment_table *table = create(SEGMENTS, RESERVED);
    for (uint32_t i = 0; i < SEGMENTS; i++) generations[i] = segment_table_generation(table, i);
    for (unsigned step = 0; step < STEPS; step++) {
        bool flag = random_once_in(&numbers, 2), cleaner = random_once_in(&numbers, 4);
        uint32_t count = random_once_in(&numbers, 10) ? 2 + (uint32_t)random_below(&numbers, 20) : 1;
        unsigned percent = (unsigned)random_below(&numbers, 101);
        switch (random_below(&numbers, 24)) {
        case 0: assert_int_equal(segment_table_choose(table, percent), naive_choose(percent)); break;
        case 1: assert_int_equal(segment_table_choose_oldest(table, flag), naive_choose_oldest(flag)); break;
        case 2:
        case 3:
            assert_int_equal(segment_table_take(table, count, flag, cleaner), naive_take(count, flag, cleaner));
            break;
        default: step_on(table, &numbers, (uint32_t)random_below(&numbers, SEGMENTS));
        }
        if (step % 500 == 0) compare_all(table, generations);
    }
    assert_true(seals > STEPS / 200);
    compare_all(table, generations);
    segment_table_destroy(table);
}

/* ---- several threads ---- */

enum { WRITERS = 3, ROUNDS = 4000, SHARED_SEGMENTS = 80, BOXES = 64 };

/* Each thread fills segments and puts its records, one word each, where others find and drop them. */
static struct shared {
    struct segment_table *table;
    _Atomic uint32_t boxes[BOXES]; /* segment + 1 of a living record */
    atomic_uint finished;
} shared;

static void put_or_drop(struct random *numbers, uint32_t held) {
    uint32_t before = atomic_exchange(&shared.boxes[random_below(numbers, BOXES)], held);
    if (before) segment_table_drop(shared.table, before - 1, 1);
}

static void *write_segments(void *ctx) {
    struct random numbers;
    random_seed(&numbers, given_seed + (uintptr_t)ctx);
    struct segment_table *table = shared.table;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t segment = segment_table_take(table, 1 + random_once_in(&numbers, 8), round % 2, SEGMENT_FOR_NEW);
        if (segment == SEGMENT_NONE) {
            put_or_drop(&numbers, 0);
            continue;
        }
        uint32_t generation = segment_table_generation(table, segment), count = (uint32_t)random_below(&numbers, 12);
        segment_table_write_begins(table, segment);
        for (uint32_t i = 0; i < count; i++) {
            segment_table_add(table, segment, 1);
            segment_table_note_expiry(table, segment_table_offset(table, segment), 1000 * i);
            put_or_drop(&numbers, segment + 1);
        }
        if (segment_table_generation(table, segment) != generation) abort();
        segment_table_seal(table, segment, SEGMENT_BYTES);
        segment_table_write_ends(table, segment);
        for (uint32_t i = 0; i < count; i++) put_or_drop(&numbers, 0);
    }
    atomic_fetch_add(&shared.finished, 1);
    return NULL;
}

static void *clean_segments(void *ctx) {
    struct random numbers;
    random_seed(&numbers, given_seed + (uintptr_t)ctx);
    struct segment_table *table = shared.table;
    while (atomic_load(&shared.finished) < WRITERS) {
        uint32_t segment = random_once_in(&numbers, 3) ? segment_table_choose_oldest(table, random_once_in(&numbers, 2))
                                                       : segment_table_choose(table, 90);
        (void)segment_table_usage(table);
        if (segment == SEGMENT_NONE) continue;
        uint32_t generation = segment_table_generation(table, segment);
        for (unsigned i = 0; i < BOXES; i++) {
            uint32_t held = segment + 1;
            if (atomic_compare_exchange_strong(&shared.boxes[i], &held, 0)) segment_table_drop(table, segment, 1);
        }
        if (segment_table_generation(table, segment) != generation) abort();
        segment_table_cleaned(table, segment, random_once_in(&numbers, 2));
    }
    return NULL;
}

static void threads_lose_no_segment(void **state) {
    (void)state;
    pthread_t threads[WRITERS + 1];
    shared.table = create(SHARED_SEGMENTS, 3);
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_segments, (void *)i), 0);
    assert_int_equal(pthread_create(&threads[WRITERS], NULL, clean_segments, (void *)(uintptr_t)WRITERS), 0);
    for (unsigned i = 0; i <= WRITERS; i++) pthread_join(threads[i], NULL);
    assert_true(segment_table_validate(shared.table));
    uint64_t held = 0;
    for (unsigned i = 0; i < BOXES; i++) held += shared.boxes[i] != 0;
    assert_int_equal(segment_table_usage(shared.table).records, held);
    for (unsigned i = 0; i < BOXES; i++)
        if (shared.boxes[i]) segment_table_drop(shared.table, shared.boxes[i] - 1, 1);
    assert_int_equal(segment_table_free_count(shared.table), SHARED_SEGMENTS);
    assert_true(segment_table_validate(shared.table));
    segment_table_destroy(shared.table);
}

/* ---- checkpoints ---- */

static uint32_t take_with_record(struct segment_table *table) {
    uint32_t segment = segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING);
    assert_int_not_equal(segment, SEGMENT_NONE);
    segment_table_add(table, segment, 1);
    segment_table_seal(table, segment, 4096);
    return segment;
}

static void what_a_checkpoint_refers_to_is_kept_until_a_later_one_counts(void **state) {
    (void)state;
    const struct segment_table_options options = {
        .segment_bytes = SEGMENT_BYTES, .segments = 16, .persistent = true, .base_bytes = 16384};
    struct segment_table *table = segment_table_create(&options);
    assert_int_equal(segment_table_offset(table, 1), 16384 + SEGMENT_BYTES);
    assert_int_equal(segment_table_of(table, 16384 + SEGMENT_BYTES - 1), 0);
    uint32_t old = take_with_record(table), other = take_with_record(table);
    segment_table_cut(table, 1);
    uint32_t young = take_with_record(table);
    segment_table_drop(table, young, 1);
    assert_int_equal(state_of(table, young), SEGMENT_FREE); /* no checkpoint knows it */
    segment_table_drop(table, old, 1);
    assert_int_equal(state_of(table, old), SEGMENT_PENDING);
    uint32_t image = segment_table_take(table, 1, false, SEGMENT_FOR_IMAGES);
    segment_table_add(table, image, 5);
    segment_table_seal_images(table, image, 4096);
    assert_int_equal(segment_table_checkpointed(table, 1, NULL), 0);
    assert_int_equal(state_of(table, old), SEGMENT_PENDING);
    assert_int_equal(state_of(table, image), SEGMENT_IMAGE);
    assert_int_equal(segment_table_pending_count(table), 1);
    segment_table_cut(table, 2);
    segment_table_drop(table, other, 1);
    segment_table_abandoned(table, 2);
    assert_int_equal(state_of(table, old), SEGMENT_PENDING);
    segment_table_cut(table, 3);
    assert_int_equal(segment_table_checkpointed(table, 3, NULL), 3);
    assert_int_equal(state_of(table, old), SEGMENT_FREE);
    assert_int_equal(state_of(table, other), SEGMENT_FREE);
    assert_int_equal(state_of(table, image), SEGMENT_FREE);
    assert_int_equal(segment_table_free_count(table), 16);
    segment_table_destroy(table);
}

static uint32_t take_for_images(struct segment_table *table, uint32_t count) {
    uint32_t segment = segment_table_take(table, 1, false, SEGMENT_FOR_IMAGES);
    assert_int_not_equal(segment, SEGMENT_NONE);
    segment_table_add(table, segment, count);
    return segment;
}

static void images_are_kept_as_long_as_a_checkpoint_refers_to_them(void **state) {
    (void)state;
    const struct segment_table_options options = {.segment_bytes = SEGMENT_BYTES, .segments = 16, .persistent = true};
    struct segment_table *table = segment_table_create(&options);
    uint32_t referred[16] = {0};
    segment_table_cut(table, 1);
    uint32_t full = take_for_images(table, 5), begun = take_for_images(table, 2), other = take_for_images(table, 1);
    segment_table_seal_images(table, full, 4096);
    segment_table_seal_images(table, other, 4096);
    referred[full] = 5, referred[begun] = 2, referred[other] = 1;
    assert_int_equal(segment_table_checkpointed(table, 1, referred), 0);
    /* The next one goes on in the segment that is not full, and is given up: only what was taken for it is free. */
    segment_table_cut(table, 2);
    uint32_t young = take_for_images(table, 3);
    segment_table_add(table, begun, 4);
    segment_table_seal_images(table, begun, 4096);
    segment_table_seal_images(table, young, 4096);
    segment_table_abandoned(table, 2);
    assert_int_equal(state_of(table, young), SEGMENT_FREE);
    assert_int_equal(state_of(table, full), SEGMENT_IMAGE);
    assert_int_equal(state_of(table, begun), SEGMENT_IMAGE);
    /* Two that count, and refer to some of them. */
    segment_table_cut(table, 3);
    referred[other] = 0;
    assert_int_equal(segment_table_checkpointed(table, 3, referred), 1);
    assert_int_equal(state_of(table, other), SEGMENT_FREE);
    segment_table_cut(table, 4);
    referred[full] = 1;
    assert_int_equal(segment_table_checkpointed(table, 4, referred), 0);
    segment_table_cut(table, 5);
    referred[full] = 0;
    assert_int_equal(segment_table_checkpointed(table, 5, referred), 1);
    assert_int_equal(state_of(table, full), SEGMENT_FREE);
    assert_int_equal(state_of(table, begun), SEGMENT_IMAGE);
    segment_table_cut(table, 6);
    assert_int_equal(segment_table_checkpointed(table, 6, NULL), 1);
    assert_int_equal(segment_table_free_count(table), 16);
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

/* What each may take of what is free, from the least important on. */
static void verify_room(struct segment_table *table, uint32_t for_new, uint32_t for_cleaning) {
    uint32_t taken[16], count = 0;
    for (uint32_t segment; (segment = segment_table_take(table, 1, false, SEGMENT_FOR_NEW)) != SEGMENT_NONE;)
        taken[count++] = segment;
    assert_int_equal(count, for_new);
    for (uint32_t segment; (segment = segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING)) != SEGMENT_NONE;)
        taken[count++] = segment;
    assert_int_equal(count, for_cleaning);
    while (count > 0) segment_table_give_back(table, taken[--count], SEGMENT_FOR_NEW);
}

static void room_is_kept_for_the_images_of_this_checkpoint_and_the_next(void **state) {
    (void)state;
    const struct segment_table_options options = {
        .segment_bytes = SEGMENT_BYTES, .segments = 16, .reserved = 1, .persistent = true};
    struct segment_table *table = segment_table_create(&options);
    uint32_t referred[16] = {0}, images[3];
    verify_room(table, 15, 16);
    segment_table_keep_for_images(table, 3, 3, 6);
    verify_room(table, 16 - 6, 16 - 3);
    for (uint64_t number = 1; number < 4; number++) {
        segment_table_cut(table, number);
        /* With each that is taken there is one less to come; those of the checkpoint before are free at its end. */
        for (uint32_t i = 0; i < 3; i++) {
            images[i] = take_for_images(table, 1);
            verify_room(table, 16 - 6 - (number > 1), 16 - 3 - (number > 1 ? 3 : 0));
        }
        uint32_t unused = take_for_images(table, 0);
        segment_table_give_back(table, unused, SEGMENT_FOR_IMAGES);
        for (uint32_t i = 0; i < 3; i++) segment_table_seal_images(table, images[i], 4096);
        referred[images[0]] = referred[images[1]] = referred[images[2]] = 1;
        segment_table_checkpointed(table, number, referred);
        memset(referred, 0, sizeof(referred));
        verify_room(table, 16 - 6 - 1, 16 - 3 - 3); /* the reserve */
    }
    assert_int_equal(segment_table_pending_count(table), 0);
    /* Memory has been emptied meanwhile: two are too many, once there is no room to keep them. */
    segment_table_keep_for_images(table, 1, 0, 0);
    assert_int_equal(segment_table_pending_count(table), 0);
    uint32_t taken[16], count = 0;
    while (segment_table_free_count(table) >= 2)
        taken[count++] = segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING);
    assert_int_equal(segment_table_pending_count(table), 2);
    while (count > 0) segment_table_give_back(table, taken[--count], SEGMENT_FOR_CLEANING);
    segment_table_keep_for_images(table, 3, 3, 6);
    /* One that is given up has needed nothing. */
    segment_table_cut(table, 4);
    segment_table_seal_images(table, take_for_images(table, 1), 4096);
    segment_table_abandoned(table, 4);
    verify_room(table, 16 - 6 - 1, 16 - 3 - 3);
    /* What is new takes what is there; the images still find their room. */
    while (segment_table_take(table, 1, false, SEGMENT_FOR_NEW) != SEGMENT_NONE) {
    }
    while (segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING) != SEGMENT_NONE) {
    }
    segment_table_cut(table, 5);
    for (uint32_t i = 0; i < 3; i++) take_for_images(table, 1);
    assert_int_equal(segment_table_free_count(table), 0);
    assert_int_equal(segment_table_kept_for_images(table), 0);
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

static bool is_below_eight(const void *ctx, uint32_t segment) {
    (void)ctx;
    return segment < 8;
}

static void what_grows_for_images_is_theirs(void **state) {
    (void)state;
    const struct segment_table_options options = {
        .segment_bytes = SEGMENT_BYTES, .segments = 16, .persistent = true, .exists = is_below_eight};
    struct segment_table *table = segment_table_create(&options);
    uint32_t images[5], begun = 0;
    verify_room(table, 8, 8);
    for (unsigned i = 0; i < 6; i++) assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_NEW), i);
    segment_table_cut(table, 1);
    while ((images[begun] = segment_table_take(table, 1, false, SEGMENT_FOR_IMAGES)) != SEGMENT_NONE) begun++;
    assert_int_equal(begun, 2);
    segment_table_grow_for_images(table, 8, 3);
    while (begun < 5) images[begun++] = take_for_images(table, 1);
    assert_int_equal(images[4], 10);
    assert_int_equal(segment_table_take(table, 1, false, SEGMENT_FOR_IMAGES), SEGMENT_NONE);
    for (unsigned i = 0; i < 5; i++) segment_table_seal_images(table, images[i], 4096);
    segment_table_checkpointed(table, 1, NULL);
    segment_table_cut(table, 2);
    segment_table_checkpointed(table, 2, NULL);
    /* Of eight two are free, whichever they are. */
    assert_int_equal(segment_table_free_count(table), 5);
    verify_room(table, 2, 2);
    assert_int_equal(segment_table_usage(table).absent, 5);
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

static void a_full_table_awaits_only_what_is_going_to_come(void **state) {
    (void)state;
    const struct segment_table_options options = {
        .segment_bytes = SEGMENT_BYTES, .segments = 64, .reserved = 1, .persistent = true};
    struct segment_table *table = segment_table_create(&options);
    uint32_t referred[64] = {0}, taken = 0, segment;
    segment_table_cut(table, 1);
    for (unsigned i = 0; i < 9; i++) {
        segment = take_for_images(table, 1);
        segment_table_seal_images(table, segment, 4096);
        referred[segment] = 1;
    }
    segment_table_checkpointed(table, 1, referred);
    segment_table_keep_for_images(table, 8, 9, 17);
    while ((segment = segment_table_take(table, 1, false, SEGMENT_FOR_NEW)) != SEGMENT_NONE) {
        taken = segment;
        segment_table_add(table, segment, 10);
        segment_table_seal(table, segment, SEGMENT_BYTES);
    }
    /* One image more than was estimated: the next checkpoint writes as many again. */
    assert_int_equal(segment_table_free_count(table), 10);
    assert_int_equal(segment_table_pending_count(table), 0);
    assert_false(segment_table_will_have(table, 1, SEGMENT_FOR_NEW));
    assert_true(segment_table_will_have(table, 1, SEGMENT_FOR_CLEANING));
    assert_false(segment_table_can_clean(table, 92));
    segment_table_cut(table, 2);
    segment_table_checkpointed(table, 2, referred);
    segment_table_drop(table, taken, 5);
    assert_true(segment_table_can_clean(table, 92));
    assert_false(segment_table_can_clean(table, 40));
    segment_table_drop(table, taken, 5);
    assert_int_equal(state_of(table, taken), SEGMENT_PENDING);
    assert_int_equal(segment_table_pending_count(table), 1);
    assert_true(segment_table_will_have(table, 1, SEGMENT_FOR_NEW));
    assert_false(segment_table_will_have(table, 2, SEGMENT_FOR_NEW));
    /* The cleaner leaves nine for the next checkpoint, and has one more to copy to. */
    assert_int_not_equal(segment_table_take(table, 1, false, SEGMENT_FOR_CLEANING), SEGMENT_NONE);
    segment_table_drop(table, taken == 20 ? 21 : 20, 8);
    assert_false(segment_table_can_clean(table, 92));
    assert_true(segment_table_validate(table));
    segment_table_destroy(table);
}

static void restored_segments_are_as_they_were(void **state) {
    (void)state;
    const struct segment_table_options options = {
        .segment_bytes = SEGMENT_BYTES, .segments = 16, .persistent = true, .cut = 7};
    struct segment_table *table = segment_table_create(&options);
    struct segment_info info = {
        .run = 3, .generation = 42, .records = 10, .live = 4, .used_bytes = 8192, .expires = true};
    assert_true(segment_table_restore(table, 5, &info));
    assert_false(segment_table_restore(table, 7, &info));  /* taken */
    assert_false(segment_table_restore(table, 14, &info)); /* behind the end */
    info.live = 11;
    assert_false(segment_table_restore(table, 1, &info));                  /* more than there are */
    uint32_t taken = segment_table_take(table, 1, false, SEGMENT_FOR_NEW); /* by a worker that demotes meanwhile */
    segment_table_restored(table, (const uint8_t[16]){[5] = 1});
    assert_int_equal(state_of(table, taken), SEGMENT_OPEN);
    segment_table_write_begins(table, taken);
    segment_table_write_ends(table, taken);
    segment_table_give_back(table, taken, SEGMENT_FOR_NEW);
    info = segment_table_info(table, 5);
    assert_int_equal(info.state, SEGMENT_SEALED);
    assert_int_equal(info.generation, 42);
    assert_int_equal(info.run, 3);
    assert_int_equal(info.live, 4);
    assert_int_equal(info.used_bytes, 8192);
    segment_table_drop(table, 5, 4);
    assert_int_equal(state_of(table, 5), SEGMENT_PENDING); /* checkpoint 7 has it */
    segment_table_cut(table, 8);
    assert_int_equal(segment_table_checkpointed(table, 8, NULL), 3);
    assert_int_equal(segment_table_generation(table, 5), 43);
    segment_table_destroy(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_checkpoint_refers_to_is_kept_until_a_later_one_counts),
        cmocka_unit_test(images_are_kept_as_long_as_a_checkpoint_refers_to_them),
        cmocka_unit_test(room_is_kept_for_the_images_of_this_checkpoint_and_the_next),
        cmocka_unit_test(what_grows_for_images_is_theirs),
        cmocka_unit_test(a_full_table_awaits_only_what_is_going_to_come),
        cmocka_unit_test(restored_segments_are_as_they_were),
        cmocka_unit_test(offsets_and_segments_belong_together),
        cmocka_unit_test(segments_are_taken_where_they_are_wanted),
        cmocka_unit_test(lowest_numbers_are_taken_first_and_the_reserve_is_the_cleaners),
        cmocka_unit_test(a_run_takes_neighbours_and_is_freed_as_one),
        cmocka_unit_test(a_run_does_not_jump_over_what_is_taken),
        cmocka_unit_test(an_empty_segment_is_free_only_when_sealed_and_written),
        cmocka_unit_test(two_tables_hardly_agree_on_the_first_generation),
        cmocka_unit_test(the_emptiest_is_chosen_within_the_limit),
        cmocka_unit_test(what_the_cleaner_leaves_decides_what_the_segment_becomes),
        cmocka_unit_test(the_first_sealed_is_the_oldest),
        cmocka_unit_test(expiries_are_known_by_page),
        cmocka_unit_test(usage_adds_up_what_is_filled_and_what_lives),
        cmocka_unit_test(random_steps_agree_with_a_naive_table),
        cmocka_unit_test(threads_lose_no_segment),
    };
    return cmocka_run_group_tests(tests, seed, NULL);
}
