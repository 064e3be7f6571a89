/* Deferred freeing: memory goes when every worker that could see it has moved on, and not before. */

#include "keyspace/retire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static unsigned released;

static void release(void *ctx, void *memory) {
    assert_ptr_equal(ctx, &released);
    assert_non_null(memory);
    released++;
}

static void retire_one(struct retire_list *list) {
    static int memory;
    retire_memory(list, &memory, release, &released);
}

static int reset(void **state) {
    (void)state;
    released = 0;
    return 0;
}

static void one_thread_frees_at_once(void **state) {
    (void)state;
    struct retire_list *list = retire_create(false);
    retire_online(list, 0);
    retire_one(list);
    assert_int_equal(released, 1);
    assert_int_equal(retire_collect(list), 0);
    retire_offline(list, 0);
    retire_memory(list, malloc(10), NULL, NULL);
    retire_destroy(list);
}

static void nobody_online_means_nothing_waits(void **state) {
    (void)state;
    struct retire_list *list = retire_create(true);
    retire_one(list);
    assert_int_equal(released, 0);
    assert_int_equal(retire_collect(list), 0);
    assert_int_equal(released, 1);
    retire_destroy(list);
}

static void a_worker_that_was_online_must_move_on(void **state) {
    (void)state;
    struct retire_list *list = retire_create(true);
    retire_online(list, 3);
    retire_one(list);
    for (unsigned i = 0; i < 5; i++) assert_int_equal(retire_collect(list), 1);
    assert_int_equal(released, 0);
    retire_online(list, 3); /* a quiescent point */
    assert_int_equal(retire_collect(list), 0);
    assert_int_equal(released, 1);
    retire_offline(list, 3);
    retire_destroy(list);
}

static void the_slowest_worker_decides(void **state) {
    (void)state;
    struct retire_list *list = retire_create(true);
    retire_online(list, 0);
    retire_online(list, LIMIT_WORKERS - 1);
    retire_one(list);
    retire_collect(list);
    retire_online(list, 0);
    retire_collect(list);
    assert_int_equal(released, 0);
    retire_offline(list, LIMIT_WORKERS - 1);
    retire_collect(list);
    assert_int_equal(released, 1);
    retire_offline(list, 0);
    retire_destroy(list);
}

static void a_worker_that_came_later_delays_nothing(void **state) {
    (void)state;
    struct retire_list *list = retire_create(true);
    retire_one(list);
    retire_collect(list);
    retire_online(list, 1);
    retire_one(list);
    assert_int_equal(released, 1);
    retire_collect(list);
    assert_int_equal(released, 1);
    retire_online(list, 1);
    retire_one(list); /* after the quiescent point: waits for the next */
    assert_int_equal(retire_collect(list), 1);
    assert_int_equal(released, 2);
    retire_offline(list, 1);
    assert_int_equal(retire_collect(list), 0);
    assert_int_equal(released, 3);
    retire_destroy(list);
}

static void memory_from_malloc_needs_no_function(void **state) {
    (void)state;
    struct retire_list *list = retire_create(true);
    for (unsigned i = 0; i < 100; i++) retire_memory(list, malloc(100), NULL, NULL);
    assert_int_equal(retire_collect(list), 0);
    for (unsigned i = 0; i < 100; i++) retire_memory(list, malloc(100), NULL, NULL);
    retire_destroy(list); /* frees what still waits */
    retire_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_thread_frees_at_once, reset),
        cmocka_unit_test_setup(nobody_online_means_nothing_waits, reset),
        cmocka_unit_test_setup(a_worker_that_was_online_must_move_on, reset),
        cmocka_unit_test_setup(the_slowest_worker_decides, reset),
        cmocka_unit_test_setup(a_worker_that_came_later_delays_nothing, reset),
        cmocka_unit_test_setup(memory_from_malloc_needs_no_function, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
