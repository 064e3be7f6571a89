/* The record heap against a model that knows every object and its bytes: random sizes, compaction that moves objects,
 * pins that forbid it. */

#include "base/random.h"
#include "memory/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { OBJECTS = 20000 };

/* An object begins with a one (byte 0 is zero in freed ones), then its number, then the same byte all over the rest. */
struct object {
    unsigned char *memory; /* NULL: not allocated */
    size_t bytes;
    bool stubborn; /* refuses to move */
};

struct model {
    struct region_pool *pool;
    struct heap heap;
    struct random random;
    struct object *objects;
    size_t live, moved;
};

static unsigned char filler(size_t number) {
    return (unsigned char)(1 + number * 7 % 255);
}

static void fill(struct model *model, size_t number) {
    struct object *object = &model->objects[number];
    memset(object->memory, filler(number), object->bytes);
    object->memory[0] = 1;
    memcpy(object->memory + 1, &(uint32_t){(uint32_t)number}, 4);
}

static void check(const struct model *model, size_t number) {
    const struct object *object = &model->objects[number];
    uint32_t found;
    memcpy(&found, object->memory + 1, 4);
    assert_int_equal(object->memory[0], 1);
    assert_int_equal(found, number);
    for (size_t i = 5; i<object->bytes; i += object->bytes> 4096 ? 509 : 1)
        assert_int_equal(object->memory[i], filler(number));
    if (object->bytes > 5) assert_int_equal(object->memory[object->bytes - 1], filler(number));
}

static void allocate(struct model *model, size_t number, size_t bytes) {
    struct object *object = &model->objects[number];
    object->memory = heap_allocate(&model->heap, bytes);
    object->bytes = bytes;
    assert_non_null(object->memory);
    assert_int_equal((uintptr_t)object->memory % 8, 0);
    assert_true(heap_usable_bytes(&model->heap, object->memory) >= bytes);
    assert_int_equal(heap_usable_bytes(&model->heap, object->memory), heap_size_for(bytes));
    fill(model, number);
    model->live++;
}

static void release(struct model *model, size_t number) {
    check(model, number);
    heap_free(&model->heap, model->objects[number].memory);
    model->objects[number].memory = NULL;
    model->live--;
}

static bool relocate(void *ctx, void *memory, void *copy, size_t bytes) {
    struct model *model = ctx;
    uint32_t number;
    memcpy(&number, (char *)memory + 1, 4);
    assert_true(number < OBJECTS);
    struct object *object = &model->objects[number];
    assert_ptr_equal(object->memory, memory);
    assert_true(bytes >= object->bytes);
    if (object->stubborn) return false;
    object->memory = copy;
    model->moved++;
    return true;
}

static size_t random_size(struct random *random) {
    switch (random_below(random, 40)) {
    case 0: return 5 + random_below(random, 9000);
    case 1: return 5 + random_below(random, 70000);
    case 2: return random_once_in(random, 20) ? 5 + random_below(random, 3 << 20) : 600;
    default: return 5 + random_below(random, 300);
    }
}

static int set_up(void **state) {
    struct model *model = calloc(1, sizeof(*model));
    const struct region_pool_options options = {.node = -1, .reserve_bytes = 1ul << 30};
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    random_seed(&model->random, seed);
    model->pool = region_pool_create(&options);
    model->objects = calloc(OBJECTS, sizeof(*model->objects));
    heap_init(&model->heap, model->pool);
    *state = model;
    return 0;
}

static int tear_down(void **state) {
    struct model *model = *state;
    for (size_t i = 0; i < OBJECTS; i++)
        if (model->objects[i].memory) release(model, i);
    assert_int_equal(model->heap.sums.live_objects, 0);
    assert_int_equal(model->heap.sums.live_bytes, 0);
    assert_int_equal(model->heap.sums.page_bytes, 0);
    assert_true(heap_validate(&model->heap));
    assert_int_equal(region_pool_usage(model->pool).used_bytes, 0);
    assert_int_equal(region_pool_usage(model->pool).large_bytes, 0);
    region_pool_destroy(model->pool);
    free(model->objects);
    free(model);
    return 0;
}

static void sizes_are_rounded_up_little_and_monotonously(void **state) {
    struct model *model = *state;
    size_t before = 0;
    for (size_t bytes = 1; bytes < 3 << 20; bytes += bytes < 70000 ? 1 : 997) {
        size_t size = heap_size_for(bytes);
        assert_true(size >= bytes && size >= before && size % 8 == 0);
        if (bytes >= 64) assert_true(size - bytes <= (bytes <= 512 ? 7 : bytes <= 8192 ? bytes / 8 : bytes / 2 + 64));
        before = size;
    }
    (void)model;
}

static void every_size_can_be_had_and_given_back(void **state) {
    struct model *model = *state;
    static const size_t sizes[] = {5,     16,    17,    512,   513,   576,     8191,          8192,   8193,
                                   10920, 10921, 32768, 32769, 65536, 1 << 20, (1 << 20) + 1, 4 << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) allocate(model, i, sizes[i]);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) check(model, i);
    assert_true(heap_validate(&model->heap));
    assert_null(heap_allocate(&model->heap, HEAP_OBJECT_MAX + 1));
}

static void random_objects_keep_their_bytes(void **state) {
    struct model *model = *state;
    for (unsigned phase = 0; phase < 8; phase++) {
        unsigned allocate_percent = phase % 2 ? 25 : 75;
        for (unsigned step = 0; step < 20000; step++) {
            size_t number = random_below(&model->random, OBJECTS);
            bool want = random_below(&model->random, 100) < allocate_percent;
            if (want && !model->objects[number].memory)
                allocate(model, number, random_size(&model->random));
            else if (!want && model->objects[number].memory)
                release(model, number);
        }
        assert_int_equal(model->heap.sums.live_objects, model->live);
        assert_true(heap_validate(&model->heap));
    }
    for (size_t i = 0; i < OBJECTS; i++)
        if (model->objects[i].memory) check(model, i);
}

static void compaction_empties_sparse_pages(void **state) {
    struct model *model = *state;
    for (size_t i = 0; i < OBJECTS; i++) allocate(model, i, 5 + random_below(&model->random, 120));
    for (size_t i = 0; i < OBJECTS; i++)
        if (random_below(&model->random, 10) < 8) release(model, i);
    size_t before = model->heap.sums.page_bytes, moved = 0, step;
    while ((step = heap_compact(&model->heap, 100, relocate, model)) > 0) {
        moved += step;
        assert_true(heap_validate(&model->heap));
    }
    assert_int_equal(moved, model->moved);
    assert_true(moved > 0 && moved < OBJECTS / 2);
    assert_true(model->heap.sums.page_bytes < before / 2);
    assert_true(model->heap.sums.page_bytes < model->heap.sums.live_bytes * 5 / 4 + 20 * REGION_GRANULE);
    for (size_t i = 0; i < OBJECTS; i++)
        if (model->objects[i].memory) check(model, i);
}

static void objects_that_refuse_to_move_stay(void **state) {
    struct model *model = *state;
    for (size_t i = 0; i < OBJECTS; i++) allocate(model, i, 40);
    for (size_t i = 0; i < OBJECTS; i++)
        if (random_below(&model->random, 10) < 9)
            release(model, i);
        else
            model->objects[i].stubborn = random_once_in(&model->random, 5);
    for (unsigned round = 0; round < 50; round++) {
        heap_compact(&model->heap, 500, relocate, model);
        assert_true(heap_validate(&model->heap));
    }
    for (size_t i = 0; i < OBJECTS; i++)
        if (model->objects[i].memory) check(model, i);
}

/* The population swells and shrinks, so that pages become sparse again and again. */
static void random_changes_and_compaction_agree_with_the_model(void **state) {
    struct model *model = *state;
    for (unsigned step = 0; step < 200000; step++) {
        size_t number = random_below(&model->random, OBJECTS / 2);
        bool swelling = step / 20000 % 2 == 0;
        if (model->objects[number].memory && !(swelling && random_once_in(&model->random, 2)))
            release(model, number);
        else if (!model->objects[number].memory && swelling)
            allocate(model, number,
                     random_once_in(&model->random, 20) ? random_size(&model->random) : 40 + number % 4 * 16);
        if (step % 300 == 0) heap_compact(&model->heap, random_below(&model->random, 200), relocate, model);
        if (step % 5000 == 0) assert_true(heap_validate(&model->heap));
    }
    assert_true(model->moved > 100);
}

static void a_large_object_grows_in_place(void **state) {
    struct model *model = *state;
    allocate(model, 0, 2 << 20);
    struct object *object = &model->objects[0];
    size_t live = model->heap.sums.live_bytes;
    void *resized = heap_resize_large(&model->heap, object->memory, 9 << 20);
    assert_non_null(resized);
    object->memory = resized;
    check(model, 0);
    assert_true(model->heap.sums.live_bytes > live + (6 << 20));
    assert_true(heap_usable_bytes(&model->heap, resized) >= 9 << 20);
    assert_null(heap_resize_large(&model->heap, resized, 100));
    assert_null(heap_resize_large(&model->heap, resized, HEAP_OBJECT_MAX + 1));
    allocate(model, 1, 100);
    assert_null(heap_resize_large(&model->heap, model->objects[1].memory, 2 << 20));
    fill(model, 0);
}

static void a_pinned_object_outlives_its_being_freed(void **state) {
    struct model *model = *state;
    static const size_t sizes[] = {40000, 3 << 20};
    for (size_t i = 0; i < 2; i++) {
        unsigned char *memory;
        allocate(model, i, sizes[i]);
        memory = model->objects[i].memory;
        assert_true(heap_can_pin(&model->heap, memory));
        assert_false(heap_is_pinned(&model->heap, memory));
        heap_pin(&model->heap, memory);
        heap_pin(&model->heap, memory);
        assert_true(heap_is_pinned(&model->heap, memory));
        release(model, i);
        /* Others are allocated and written meanwhile; its bytes stay. */
        for (size_t k = 10; k < 40; k++) allocate(model, k, sizes[i]);
        for (size_t k = 5; k < sizes[i]; k++) assert_int_equal(memory[k], filler(i));
        heap_unpin(&model->heap, memory);
        assert_int_equal(memory[5], filler(i));
        heap_unpin(&model->heap, memory);
        for (size_t k = 10; k < 40; k++) release(model, k);
    }
}

static void small_objects_cannot_be_pinned(void **state) {
    struct model *model = *state;
    allocate(model, 0, 100);
    allocate(model, 1, 32768);
    allocate(model, 2, 32769);
    assert_false(heap_can_pin(&model->heap, model->objects[0].memory));
    assert_false(heap_can_pin(&model->heap, model->objects[1].memory));
    assert_true(heap_can_pin(&model->heap, model->objects[2].memory));
    assert_false(heap_is_pinned(&model->heap, model->objects[0].memory));
}

static void two_heaps_share_a_pool(void **state) {
    struct model *model = *state;
    struct heap other;
    heap_init(&other, model->pool);
    unsigned char *objects[500];
    for (size_t i = 0; i < 500; i++) {
        allocate(model, i, 100);
        objects[i] = heap_allocate(&other, 100);
        memset(objects[i], 200, 100);
    }
    for (size_t i = 0; i < 500; i++) {
        check(model, i);
        assert_int_equal(objects[i][99], 200);
        heap_free(&other, objects[i]);
    }
    assert_int_equal(other.sums.page_bytes, 0);
}

static bool same_sums(const struct heap_sums *a, const struct heap_sums *b) {
    return a->live_objects == b->live_objects && a->live_bytes == b->live_bytes && a->page_bytes == b->page_bytes &&
           a->untouched_bytes == b->untouched_bytes;
}

static void heaps_are_counted_together(void **state) {
    static const size_t sizes[] = {16, 100, 5000, 40000, 300000, 3 << 20};
    struct model *model = *state;
    struct heap heaps[2];
    struct heap_sums sums = {0}, elsewhere = {0}, nothing = {0};
    unsigned char *objects[2][6];
    for (unsigned h = 0; h < 2; h++) {
        heap_init(&heaps[h], model->pool);
        for (unsigned i = 0; i < 6; i++) {
            if (i == 3) heap_count_in(&heaps[h], &sums); /* what is there already counts as well */
            objects[h][i] = heap_allocate(&heaps[h], sizes[i]);
            objects[h][i][0] = 1;
        }
    }
    objects[0][5] = heap_resize_large(&heaps[0], objects[0][5], 5 << 20);
    assert_non_null(objects[0][5]);
    assert_int_equal(sums.live_objects, 12);
    assert_int_equal(sums.live_bytes, heaps[0].sums.live_bytes + heaps[1].sums.live_bytes);
    assert_int_equal(sums.page_bytes, heaps[0].sums.page_bytes + heaps[1].sums.page_bytes);
    assert_int_equal(sums.untouched_bytes, heaps[0].sums.untouched_bytes + heaps[1].sums.untouched_bytes);
    heap_count_in(&heaps[0], &elsewhere);
    assert_true(same_sums(&elsewhere, &heaps[0].sums) && same_sums(&sums, &heaps[1].sums));
    heap_count_in(&heaps[1], NULL);
    assert_true(same_sums(&sums, &nothing));
    for (unsigned i = 0; i < 12; i++) heap_free(&heaps[i / 6], objects[i / 6][i % 6]);
    assert_true(same_sums(&elsewhere, &nothing));
}

static void what_was_never_touched_is_known(void **state) {
    (void)state;
    const struct region_pool_options options = {.node = -1, .reserve_bytes = 4 * REGION_BYTES};
    struct region_pool *pool = region_pool_create(&options);
    struct heap heap;
    heap_init(&heap, pool);
    unsigned char *objects[64];
    for (unsigned i = 0; i < 64; i++) {
        objects[i] = heap_allocate(&heap, 1024);
        objects[i][0] = 1;
        /* Of the 64 KB page, the 4 KB pieces that no object has reached. */
        assert_int_equal(heap.sums.untouched_bytes, 65536 - (i + 4) / 4 * 4096);
    }
    for (unsigned i = 0; i < 32; i++) heap_free(&heap, objects[i]);
    assert_int_equal(heap.sums.untouched_bytes, 0); /* freed is not untouched */
    for (unsigned i = 32; i < 64; i++) heap_free(&heap, objects[i]);
    objects[0] = heap_allocate(&heap, 1024);
    objects[0][0] = 1;
    assert_int_equal(heap.sums.page_bytes, 65536);
    assert_int_equal(heap.sums.untouched_bytes, 0); /* the page came back with its memory */
    heap_free(&heap, objects[0]);
    (void)region_pool_purge(pool, 0, SIZE_MAX);
    objects[0] = heap_allocate(&heap, 1024);
    objects[0][0] = 1;
    assert_int_equal(heap.sums.untouched_bytes, 65536 - 4096);
    assert_true(heap_validate(&heap));
    heap_free(&heap, objects[0]);
    assert_int_equal(heap.sums.untouched_bytes, 0);
    region_pool_destroy(pool);
}

static void without_memory_nothing_changes(void **state) {
    (void)state;
    const struct region_pool_options options = {.node = -1, .reserve_bytes = REGION_BYTES};
    struct region_pool *pool = region_pool_create(&options);
    struct heap heap;
    heap_init(&heap, pool);
    unsigned char *memory;
    size_t count = 0;
    while ((memory = heap_allocate(&heap, 8000))) {
        memory[0] = 1;
        count++;
    }
    assert_int_equal(heap.sums.live_objects, count);
    assert_int_equal(count, REGION_BYTES / 65536 * (65536 / heap_size_for(8000)));
    assert_null(heap_allocate(&heap, 40000));
    assert_null(heap_allocate(&heap, 16));
    assert_true(heap_validate(&heap));
    region_pool_destroy(pool);
}

static void a_prefetch_changes_nothing(void **state) {
    struct model *model = *state;
    struct heap heap;
    heap_init(&heap, model->pool);
    heap_prefetch(&heap, 1000);
    void *first = heap_allocate(&heap, 1000), *second = heap_allocate(&heap, 1000);
    memset(first, 1, 1000);
    memset(second, 1, 1000);
    heap_free(&heap, first);
    heap_prefetch(&heap, 1000);
    heap_prefetch(&heap, HEAP_OBJECT_MAX);
    static const enum heap_part parts[] = {HEAP_FIRST_KILOBYTE, HEAP_FIRST_QUARTER, HEAP_LAST_QUARTER};
    void *run = heap_allocate(&heap, 200000), *large = heap_allocate(&heap, 3 << 20);
    memset(run, 1, 1);
    memset(large, 1, 1);
    const void *places[] = {first, second, run, large, &heap, NULL};
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        for (unsigned part = 0; part < 3; part++) heap_prefetch_part(&heap, places[i], parts[part]);
    heap_free(&heap, run);
    heap_free(&heap, large);
    assert_true(heap_validate(&heap));
    assert_ptr_equal(heap_allocate(&heap, 1000), first);
    *(char *)first = 1;
    heap_free(&heap, first);
    heap_free(&heap, second);
    assert_int_equal(heap.sums.live_objects, 0);
}

int main(void) {
#define ON_MODEL(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        ON_MODEL(sizes_are_rounded_up_little_and_monotonously),
        ON_MODEL(every_size_can_be_had_and_given_back),
        ON_MODEL(random_objects_keep_their_bytes),
        ON_MODEL(compaction_empties_sparse_pages),
        ON_MODEL(objects_that_refuse_to_move_stay),
        ON_MODEL(random_changes_and_compaction_agree_with_the_model),
        ON_MODEL(a_large_object_grows_in_place),
        ON_MODEL(a_pinned_object_outlives_its_being_freed),
        ON_MODEL(small_objects_cannot_be_pinned),
        ON_MODEL(two_heaps_share_a_pool),
        ON_MODEL(heaps_are_counted_together),
        ON_MODEL(a_prefetch_changes_nothing),
        cmocka_unit_test(what_was_never_touched_is_known),
        cmocka_unit_test(without_memory_nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
