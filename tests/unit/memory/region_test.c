/* Regions: runs that never overlap, memory that comes back, large objects that grow without being copied. */

#include "base/random.h"
#include "memory/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { RESERVED_REGIONS = 8, RUNS = 2000 };

static struct region_pool *pool_of(size_t regions) {
    const struct region_pool_options options = {.node = -1, .reserve_bytes = regions * REGION_BYTES};
    struct region_pool *pool = region_pool_create(&options);
    assert_non_null(pool);
    return pool;
}

static void an_empty_pool_holds_nothing(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(RESERVED_REGIONS);
    struct region_pool_usage usage = region_pool_usage(pool);
    assert_int_equal(usage.reserved_bytes, 0);
    assert_int_equal(usage.used_bytes, 0);
    assert_int_equal(usage.dirty_bytes, 0);
    assert_int_equal(usage.large_bytes, 0);
    region_pool_destroy(pool);
    region_pool_destroy(NULL);
}

static void a_run_is_found_from_any_address_inside_it(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(RESERVED_REGIONS);
    for (unsigned granules = 1; granules <= REGION_RUN_MAX; granules++) {
        uint32_t run = region_allocate_run(pool, granules);
        assert_int_not_equal(run, REGION_NO_GRANULE);
        assert_int_equal(region_page(pool, run)->granules, granules);
        char *base = region_address(pool, run);
        assert_int_equal((uintptr_t)base % REGION_GRANULE, 0);
        for (size_t offset = 0; offset < granules * REGION_GRANULE; offset += REGION_GRANULE / 2) {
            assert_true(region_contains(pool, base + offset));
            assert_int_equal(region_head_granule(pool, base + offset), run);
        }
        region_free_run(pool, run);
    }
    int outside = 0;
    assert_false(region_contains(pool, &outside));
    assert_false(region_contains(pool, NULL));
    region_pool_destroy(pool);
}

static void a_description_is_zeroed_for_its_next_owner(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(1);
    uint32_t run = region_allocate_run(pool, 2);
    struct slab_page *page = region_page(pool, run);
    page->live = 7;
    page->zombie = 1;
    page->class_index = 3;
    region_free_run(pool, run);
    assert_int_equal(region_allocate_run(pool, 1), run);
    assert_int_equal(page->live, 0);
    assert_int_equal(page->zombie, 0);
    assert_int_equal(page->class_index, 0);
    assert_int_equal(page->granules, 1);
    region_pool_destroy(pool);
}

static void the_end_of_the_addresses_is_no_memory(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(2);
    unsigned count = 0;
    while (region_allocate_run(pool, REGION_RUN_MAX) != REGION_NO_GRANULE) count++;
    assert_int_equal(count, 2 * REGION_GRANULES / REGION_RUN_MAX);
    assert_int_equal(region_allocate_run(pool, 1), REGION_NO_GRANULE);
    assert_int_equal(region_pool_usage(pool).used_bytes, 2 * REGION_BYTES);
    region_free_run(pool, 0);
    assert_int_equal(region_allocate_run(pool, 1), 0);
    region_pool_destroy(pool);
}

/* Each run is filled with its own number, which must be there still when it is freed. */
static void random_runs_never_overlap(void **state) {
    (void)state;
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_seed(&random, seed);
    struct region_pool *pool = pool_of(RESERVED_REGIONS);
    static struct {
        uint32_t run;
        unsigned granules, mark;
    } runs[RUNS];
    size_t count = 0, granules_used = 0;
    unsigned mark = 0;
    for (unsigned step = 0; step < 60000; step++) {
        if (count < RUNS && random_below(&random, 100) < (step / 10000 % 2 ? 40 : 60)) {
            unsigned granules = random_once_in(&random, 4) ? 1 + (unsigned)random_below(&random, REGION_RUN_MAX) : 1;
            uint32_t run = region_allocate_run(pool, granules);
            if (run == REGION_NO_GRANULE) continue;
            for (unsigned i = 0; i < granules; i++)
                memcpy(region_address(pool, run + i), &(unsigned){mark + i}, sizeof(unsigned));
            runs[count].run = run;
            runs[count].granules = granules;
            runs[count++].mark = mark;
            mark += 1000;
            granules_used += granules;
        } else if (count > 0) {
            size_t victim = random_below(&random, count);
            for (unsigned i = 0; i < runs[victim].granules; i++) {
                unsigned found;
                memcpy(&found, region_address(pool, runs[victim].run + i), sizeof(found));
                assert_int_equal(found, runs[victim].mark + i);
            }
            region_free_run(pool, runs[victim].run);
            granules_used -= runs[victim].granules;
            runs[victim] = runs[--count];
        }
        if (step % 1000 == 0) region_pool_purge(pool, 0, random_below(&random, 2 * REGION_BYTES));
        assert_int_equal(region_pool_usage(pool).used_bytes, granules_used * REGION_GRANULE);
    }
    region_pool_destroy(pool);
}

static void purging_gives_freed_memory_back(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(RESERVED_REGIONS);
    uint32_t kept = region_allocate_run(pool, 1), run = region_allocate_run(pool, 10);
    memset(region_address(pool, kept), 'k', REGION_GRANULE);
    memset(region_address(pool, run), 'x', 10 * REGION_GRANULE);
    region_free_run(pool, run);
    assert_int_equal(region_pool_usage(pool).dirty_bytes, 10 * REGION_GRANULE);
    assert_int_equal(region_pool_purge(pool, 10 * REGION_GRANULE, SIZE_MAX), 0);
    assert_int_equal(region_pool_purge(pool, 0, SIZE_MAX), 10 * REGION_GRANULE);
    assert_int_equal(region_pool_usage(pool).dirty_bytes, 0);
    assert_int_equal(region_pool_purge(pool, 0, SIZE_MAX), 0);
    assert_int_equal(*(char *)region_address(pool, kept), 'k');
    assert_int_equal(region_allocate_run(pool, 10), run);
    assert_int_equal(*(char *)region_address(pool, run), 0);
    region_pool_destroy(pool);
}

static void idle_memory_is_what_nobody_took_since_the_last_look(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(RESERVED_REGIONS);
    uint32_t kept = region_allocate_run(pool, 1), run = region_allocate_run(pool, 10);
    region_free_run(pool, run);
    /* Freed since the last look, so the first one only notes it. */
    assert_int_equal(region_pool_purge_idle(pool, 0), 0);
    /* Six of the ten were needed meanwhile. */
    run = region_allocate_run(pool, 6);
    region_free_run(pool, run);
    assert_int_equal(region_pool_purge_idle(pool, 4 * REGION_GRANULE), 0);
    assert_int_equal(region_pool_purge_idle(pool, 10 * REGION_GRANULE), 0);
    assert_int_equal(region_pool_purge_idle(pool, REGION_GRANULE), 9 * REGION_GRANULE);
    assert_int_equal(region_pool_usage(pool).dirty_bytes, REGION_GRANULE);
    assert_int_equal(region_pool_purge_idle(pool, 0), REGION_GRANULE);
    assert_int_equal(region_pool_usage(pool).dirty_bytes, 0);
    region_free_run(pool, kept);
    region_pool_destroy(pool);
}

static void empty_regions_are_purged_in_parts(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(RESERVED_REGIONS);
    uint32_t runs[6];
    for (unsigned i = 0; i < 6; i++) {
        runs[i] = region_allocate_run(pool, REGION_RUN_MAX);
        memset(region_address(pool, runs[i]), 'x', REGION_RUN_MAX * REGION_GRANULE);
    }
    for (unsigned i = 0; i < 6; i++) region_free_run(pool, runs[i]);
    size_t given = 0, step;
    while ((step = region_pool_purge(pool, 0, 5 * REGION_GRANULE)) > 0) {
        assert_true(step <= 5 * REGION_GRANULE);
        given += step;
    }
    assert_int_equal(given, 3 * REGION_BYTES);
    for (unsigned i = 0; i < 6; i++) {
        runs[i] = region_allocate_run(pool, REGION_RUN_MAX);
        for (unsigned at = 0; at < REGION_RUN_MAX * REGION_GRANULE; at += 4096)
            assert_int_equal(((char *)region_address(pool, runs[i]))[at], 0);
    }
    region_pool_destroy(pool);
}

static void a_large_object_keeps_its_bytes_when_it_grows(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(1);
    size_t bytes = 3 << 20;
    char *object = region_allocate_large(pool, bytes);
    assert_non_null(object);
    assert_int_equal((uintptr_t)object % 64, 0);
    assert_false(region_contains(pool, object));
    assert_true(region_large_bytes(object) >= bytes);
    memset(object, 'x', bytes);
    object[0] = 'a';
    object[bytes - 1] = 'z';
    assert_int_equal(*region_large_pins(object), 0);
    assert_false(*region_large_zombie(object));
    object = region_resize_large(pool, object, 40 << 20);
    assert_non_null(object);
    assert_int_equal(object[0], 'a');
    assert_int_equal(object[bytes - 1], 'z');
    object[(40 << 20) - 1] = 'e';
    assert_true(region_pool_usage(pool).large_bytes >= 40 << 20);
    object = region_resize_large(pool, object, 2 << 20);
    assert_int_equal(object[0], 'a');
    assert_in_range(region_pool_usage(pool).large_bytes, 2 << 20, (2 << 20) + 8192);
    region_free_large(pool, object);
    assert_int_equal(region_pool_usage(pool).large_bytes, 0);
    region_pool_destroy(pool);
}

/* A gate that grants so many bytes, and keeps book. */
struct book {
    size_t granted, settled, most, refused;
};

static bool grant(void *ctx, size_t bytes) {
    struct book *book = ctx;
    if (bytes > book->most) {
        book->refused++;
        return false;
    }
    book->granted += bytes;
    return true;
}

static bool would_grant(void *ctx, size_t bytes) {
    struct book *book = ctx;
    return bytes <= book->most;
}

static void settle(void *ctx, size_t bytes) {
    struct book *book = ctx;
    book->settled += bytes;
}

static void the_gate_decides_about_what_is_large(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(2);
    struct book book = {.most = 8 << 20};
    assert_true(region_pool_has_room(pool, SIZE_MAX));
    region_pool_set_gate(pool,
                         &(struct region_gate){.ask = grant, .settle = settle, .has_room = would_grant, .ctx = &book});
    assert_true(region_pool_has_room(pool, 8 << 20) && !region_pool_has_room(pool, 9 << 20));
    book.most = 0;
    assert_true(region_pool_has_room(pool, REGION_GATED_BYTES - 1)); /* too little to be asked about */
    book.most = 8 << 20;
    assert_int_equal(book.granted + book.refused, 0); /* a question */
    assert_int_not_equal(region_allocate_run(pool, 4), REGION_NO_GRANULE);
    assert_int_equal(book.granted, 0); /* too small to be asked about */
    assert_int_not_equal(region_allocate_run(pool, REGION_RUN_MAX), REGION_NO_GRANULE);
    assert_int_equal(book.granted, REGION_RUN_MAX * REGION_GRANULE);
    assert_null(region_allocate_large(pool, 9 << 20));
    assert_int_equal(book.refused, 1);
    char *object = region_allocate_large(pool, 3 << 20);
    assert_non_null(object);
    memset(object, 'x', 3 << 20);
    assert_null(region_resize_large(pool, object, 20 << 20)); /* 17 MB more */
    assert_int_equal(object[(3 << 20) - 1], 'x');
    object = region_resize_large(pool, object, 10 << 20); /* 7 MB more */
    assert_non_null(object);
    assert_int_equal(object[(3 << 20) - 1], 'x');
    object = region_resize_large(pool, object, 2 << 20); /* less is always granted */
    assert_non_null(object);
    assert_int_equal(book.granted, book.settled);
    region_free_large(pool, object);
    region_pool_destroy(pool);
}

static void a_run_is_clean_until_its_memory_was_used(void **state) {
    (void)state;
    struct region_pool *pool = pool_of(1);
    uint32_t run = region_allocate_run(pool, 4);
    assert_true(region_page(pool, run)->clean);
    region_free_run(pool, run);
    run = region_allocate_run(pool, 4);
    assert_false(region_page(pool, run)->clean); /* its memory is still there */
    region_free_run(pool, run);
    (void)region_pool_purge(pool, 0, SIZE_MAX);
    run = region_allocate_run(pool, 4);
    assert_true(region_page(pool, run)->clean);
    region_pool_destroy(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_pool_holds_nothing),
        cmocka_unit_test(a_run_is_found_from_any_address_inside_it),
        cmocka_unit_test(a_description_is_zeroed_for_its_next_owner),
        cmocka_unit_test(the_end_of_the_addresses_is_no_memory),
        cmocka_unit_test(random_runs_never_overlap),
        cmocka_unit_test(purging_gives_freed_memory_back),
        cmocka_unit_test(idle_memory_is_what_nobody_took_since_the_last_look),
        cmocka_unit_test(empty_regions_are_purged_in_parts),
        cmocka_unit_test(a_large_object_keeps_its_bytes_when_it_grows),
        cmocka_unit_test(the_gate_decides_about_what_is_large),
        cmocka_unit_test(a_run_is_clean_until_its_memory_was_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
