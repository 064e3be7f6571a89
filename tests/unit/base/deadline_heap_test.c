/* Random additions and removals against a plain array. */

#include "base/deadline_heap.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { ITEMS = 200, STEPS = 20000 };

static void the_first_is_always_the_earliest(void **state) {
    (void)state;
    static struct deadline items[ITEMS];
    struct deadline_heap heap = {0};
    struct random random;
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20270401;
    printf("seed %llu\n", (unsigned long long)seed);
    random_seed(&random, seed);
    assert_null(deadline_heap_first(&heap));
    for (unsigned step = 0; step < STEPS; step++) {
        struct deadline *item = &items[random_below(&random, ITEMS)];
        if (item->place) {
            deadline_heap_remove(&heap, item);
        } else {
            item->due_ms = (int64_t)random_below(&random, 100);
            assert_true(deadline_heap_add(&heap, item));
        }
        size_t count = 0;
        int64_t earliest = INT64_MAX;
        for (unsigned i = 0; i < ITEMS; i++) {
            count += items[i].place != 0;
            if (items[i].place && items[i].due_ms < earliest) earliest = items[i].due_ms;
        }
        assert_int_equal(heap.count, count);
        if (count) assert_int_equal(deadline_heap_first(&heap)->due_ms, earliest);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(heap.items[i]->place, i + 1);
            assert_true(heap.items[(i ? i - 1 : 0) / 2]->due_ms <= heap.items[i]->due_ms);
        }
    }
    deadline_heap_free(&heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_is_always_the_earliest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
