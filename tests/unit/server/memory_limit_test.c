/* What is to be done at which distance from maxmemory. */

#include "server/memory_limit.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MB    (UINT64_C(1) << 20)
#define LIMIT (1024 * MB)

/* A server that holds what it uses, and may evict. */
static struct memory_figures at(size_t bytes) {
    return (struct memory_figures){
        .limit_bytes = LIMIT, .used_bytes = bytes, .resident_bytes = bytes, .bounds_resident = true, .can_free = true};
}

static enum memory_level level_of(struct memory_figures figures) {
    return memory_judge(&figures).level;
}

static void without_a_limit_nothing_is_done(void **state) {
    (void)state;
    struct memory_figures figures = at(LIMIT * 2);
    figures.limit_bytes = 0;
    struct memory_judgement judgement = memory_judge(&figures);
    assert_int_equal(judgement.level, MEMORY_EASY);
    assert_int_equal(judgement.excess_bytes + judgement.reclaim_bytes, 0);
}

static void the_levels_rise_towards_the_limit(void **state) {
    (void)state;
    assert_int_equal(level_of(at(LIMIT / 2)), MEMORY_EASY);
    assert_int_equal(level_of(at(LIMIT - 33 * MB)), MEMORY_EASY);
    assert_int_equal(level_of(at(LIMIT - 30 * MB)), MEMORY_MAKE_ROOM);
    assert_int_equal(level_of(at(LIMIT - 17 * MB)), MEMORY_MAKE_ROOM);
    assert_int_equal(level_of(at(LIMIT - 15 * MB)), MEMORY_DELAY);
    assert_int_equal(level_of(at(LIMIT + MB)), MEMORY_DELAY);
}

static void the_excess_is_what_is_above_the_first_mark(void **state) {
    (void)state;
    struct memory_figures figures = at(LIMIT - 30 * MB);
    assert_int_equal(memory_judge(&figures).excess_bytes, 2 * MB);
    figures.reclaimable_bytes = 10 * MB; /* free, only not given back: no reason to evict */
    assert_int_equal(memory_judge(&figures).excess_bytes, 0);
}

static void memory_is_given_back_only_when_it_is_short(void **state) {
    (void)state;
    struct memory_figures figures = at(LIMIT - 30 * MB);
    figures.reclaimable_bytes = 100 * MB;
    assert_int_equal(memory_judge(&figures).reclaim_bytes, 0);
    figures.resident_bytes = LIMIT - 20 * MB;
    assert_int_equal(memory_judge(&figures).reclaim_bytes, 4 * MB);
}

static void who_cannot_free_anything_serves_until_the_limit_and_then_refuses(void **state) {
    (void)state;
    struct memory_figures figures = at(LIMIT - MB);
    figures.can_free = false;
    assert_int_equal(level_of(figures), MEMORY_MAKE_ROOM);
    figures.resident_bytes = LIMIT + MB;
    assert_int_equal(level_of(figures), MEMORY_REFUSE);
    figures.reclaimable_bytes = 20 * MB; /* that will do for a moment */
    assert_int_equal(level_of(figures), MEMORY_DELAY);
}

static void refusing_ends_a_little_below_the_limit(void **state) {
    (void)state;
    struct memory_figures figures = at(LIMIT - MB);
    figures.can_free = false;
    figures.refused = true;
    assert_int_equal(level_of(figures), MEMORY_REFUSE);
    figures.resident_bytes = figures.used_bytes = LIMIT - 9 * MB;
    assert_int_equal(level_of(figures), MEMORY_MAKE_ROOM);
}

static void room_is_made_for_who_waits(void **state) {
    (void)state;
    struct memory_figures figures = at(LIMIT - 100 * MB);
    figures.demand_bytes = 200 * MB;
    struct memory_judgement judgement = memory_judge(&figures);
    assert_int_equal(judgement.excess_bytes, 116 * MB);
    assert_int_equal(judgement.reclaim_bytes, 116 * MB);
    assert_int_equal(judgement.level, MEMORY_MAKE_ROOM);
}

static void buffers_not_yet_filled_are_no_excess(void **state) {
    (void)state;
    struct memory_figures figures = at(LIMIT / 2);
    figures.used_bytes = LIMIT + 100 * MB;
    assert_int_equal(level_of(figures), MEMORY_EASY);
}

static void a_tiny_limit_bounds_what_is_used(void **state) {
    (void)state;
    struct memory_figures figures = {
        .limit_bytes = 3 * MB, .used_bytes = 3 * MB, .resident_bytes = 9 * MB, .can_free = true};
    assert_int_equal(level_of(figures), MEMORY_EASY);
    figures.used_bytes += 100;
    struct memory_judgement judgement = memory_judge(&figures);
    assert_int_equal(judgement.level, MEMORY_DELAY);
    assert_int_equal(judgement.excess_bytes, 100);
    figures.can_free = false;
    assert_int_equal(level_of(figures), MEMORY_REFUSE);
}

static void figures_are_renewed_more_often_near_the_limit(void **state) {
    (void)state;
    struct memory_figures far = at(LIMIT / 2), near = at(LIMIT - 4 * MB), tight = at(LIMIT);
    near.can_free = false;
    assert_int_equal(memory_judge(&far).fresh_ns, 1000000);
    assert_true(memory_judge(&near).fresh_ns < memory_judge(&far).fresh_ns);
    assert_true(memory_judge(&tight).fresh_ns <= 100000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_limit_nothing_is_done),
        cmocka_unit_test(the_levels_rise_towards_the_limit),
        cmocka_unit_test(the_excess_is_what_is_above_the_first_mark),
        cmocka_unit_test(memory_is_given_back_only_when_it_is_short),
        cmocka_unit_test(who_cannot_free_anything_serves_until_the_limit_and_then_refuses),
        cmocka_unit_test(refusing_ends_a_little_below_the_limit),
        cmocka_unit_test(room_is_made_for_who_waits),
        cmocka_unit_test(buffers_not_yet_filled_are_no_excess),
        cmocka_unit_test(a_tiny_limit_bounds_what_is_used),
        cmocka_unit_test(figures_are_renewed_more_often_near_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
