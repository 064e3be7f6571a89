/* Random stretches: none overlaps another, none loses its bytes, and everything is given back. */

#include "memory/segment_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { STRETCHES = 4000, STEPS = 200000 };

static struct region_pool *regions;
static struct segment_pool pool;

static int set_up(void **state) {
    (void)state;
    regions = region_pool_create(&(struct region_pool_options){.node = -1, .reserve_bytes = 256ul << 20});
    segment_pool_init(&pool, regions);
    return regions == NULL;
}

static int tear_down(void **state) {
    (void)state;
    segment_pool_destroy(&pool);
    region_pool_destroy(regions);
    return 0;
}

static void stretches_keep_their_bytes_and_do_not_overlap(void **state) {
    (void)state;
    static unsigned char *held[STRETCHES];
    static size_t sizes[STRETCHES];
    unsigned seed = getenv("TEST_SEED") ? (unsigned)atoi(getenv("TEST_SEED")) : 20261121;
    printf("seed %u\n", seed);
    srand(seed);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = (unsigned)rand() % STRETCHES;
        if (held[i]) {
            for (size_t k = 0; k < sizes[i]; k++) assert_int_equal(held[i][k], i & 255);
            segment_pool_free(&pool, held[i]);
            held[i] = NULL;
        } else {
            sizes[i] = 1 + (size_t)rand() % 2048;
            held[i] = segment_pool_allocate(&pool, sizes[i]);
            assert_non_null(held[i]);
            assert_int_equal((uintptr_t)held[i] % 256, 0);
            memset(held[i], (int)(i & 255), sizes[i]);
        }
        if (step % 20000 == 0) assert_true(segment_pool_validate(&pool));
    }
    for (unsigned i = 0; i < STRETCHES; i++)
        if (held[i]) segment_pool_free(&pool, held[i]);
    assert_true(segment_pool_validate(&pool));
    assert_int_equal(pool.used_bytes, 0);
    assert_int_equal(pool.page_bytes, 0);
}

static void segments_that_grow_step_by_step_waste_little(void **state) {
    (void)state;
    static struct {
        void *memory;
        unsigned units;
    } segments[60000];
    unsigned count = 1000;
    srand(7);
    for (unsigned i = 0; i < count; i++)
        segments[i].memory = segment_pool_allocate(&pool, (segments[i].units = 4) * 256);
    while (count < 60000) {
        unsigned i = (unsigned)rand() % count;
        segment_pool_free(&pool, segments[i].memory);
        if (segments[i].units == 8) {
            segments[count].memory = segment_pool_allocate(&pool, (segments[count].units = 4) * 256);
            count++;
            segments[i].units = 3;
        }
        segments[i].memory = segment_pool_allocate(&pool, ++segments[i].units * 256);
    }
    assert_true(pool.page_bytes * 100 < pool.used_bytes * 115);
    for (unsigned i = 0; i < count; i++) segment_pool_free(&pool, segments[i].memory);
    assert_int_equal(pool.page_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stretches_keep_their_bytes_and_do_not_overlap),
        cmocka_unit_test(segments_that_grow_step_by_step_waste_little),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
