/* What is to be done at which distance from maxmemory, and that no two threads are promised the same room. */

#include "server/memory_limit.h"
#include "server/server.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

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

/* ---- reservations ---- */

/* A server with nothing but a limit, about 64 MB above what the process has. */
static int set_up_limit(void **state) {
    struct server *server = calloc(1, sizeof(*server));
    if (!server) return -1;
    server->keyspace = keyspace_create(&(struct keyspace_options){.shards = 1, .reserve_bytes = 16 * MB});
    if (!server->keyspace) return -1;
    struct memory_limit *limit = &server->metrics.limit;
    limit->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    limit->kernel_page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    limit->start_resident_bytes = memory_resident_bytes(limit, NULL);
    limit->limit_bytes = limit->start_resident_bytes + 64 * MB;
    *state = server;
    return 0;
}

static int tear_down_limit(void **state) {
    struct server *server = *state;
    memory_limit_release(&server->metrics.limit);
    memory_limit_free(&server->metrics.limit);
    keyspace_destroy(server->keyspace);
    free(server);
    return 0;
}

struct other_thread {
    struct server *server;
    size_t bytes;
    bool granted;
};

static void *reserve_and_end(void *argument) {
    struct other_thread *other = argument;
    other->granted = memory_limit_reserve(other->server, other->bytes);
    memory_limit_release(&other->server->metrics.limit);
    return NULL;
}

static bool another_gets(struct server *server, size_t bytes) {
    struct other_thread other = {.server = server, .bytes = bytes};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, reserve_and_end, &other), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return other.granted;
}

static void what_one_thread_has_reserved_no_other_gets(void **state) {
    struct server *server = *state;
    assert_true(another_gets(server, 40 * MB));
    assert_true(memory_limit_reserve(server, 40 * MB));
    assert_false(another_gets(server, 40 * MB));
    memory_limit_release(&server->metrics.limit);
    assert_true(another_gets(server, 40 * MB));
    assert_int_equal(server->metrics.limit.promised_bytes, 0);
}

static void a_reservation_replaces_the_last_of_its_thread(void **state) {
    struct server *server = *state;
    assert_true(memory_limit_reserve(server, 40 * MB));
    assert_true(memory_limit_may_read(server, 40 * MB));
    assert_int_equal(server->metrics.limit.promised_bytes, 40 * MB);
    assert_false(memory_limit_reserve(server, 100 * MB)); /* refused: nothing is kept */
    assert_int_equal(server->metrics.limit.promised_bytes, 0);
}

static void what_was_taken_is_reserved_no_longer(void **state) {
    struct server *server = *state;
    struct memory_limit *limit = &server->metrics.limit;
    assert_true(memory_limit_reserve(server, 40 * MB));
    memory_limit_taken(limit, 15 * MB);
    assert_int_equal(limit->promised_bytes, 25 * MB);
    memory_limit_taken(limit, 30 * MB); /* more than that */
    assert_int_equal(limit->promised_bytes, 0);
    memory_limit_taken(limit, MB);
    assert_int_equal(limit->promised_bytes, 0);
}

/* As a server's own: what a pool asks is decided here. */
static void a_question_leaves_what_is_reserved(void **state) {
    struct server *server = *state;
    struct memory_limit *limit = &server->metrics.limit;
    struct region_pool *pool = server->keyspace->pools[0];
    config_init(&server->config);
    server->config.memory.maxmemory_bytes = (int64_t)limit->limit_bytes;
    (void)close(limit->statm_fd);
    memory_limit_init(server);
    assert_true(memory_limit_reserve(server, 40 * MB));
    assert_true(region_pool_has_room(pool, 40 * MB)); /* its own */
    assert_false(region_pool_has_room(pool, 400 * MB));
    assert_int_equal(limit->promised_bytes, 40 * MB);
    assert_true(region_pool_may_take(pool, 8 * MB)); /* about to be taken */
    assert_int_equal(limit->promised_bytes, 32 * MB);
    config_free(&server->config);
}

static void what_is_read_to_be_refused_is_reserved_too(void **state) {
    struct server *server = *state;
    server->metrics.limit.limit_bytes = server->metrics.limit.start_resident_bytes + 32 * MB;
    assert_false(memory_limit_can_refuse(server, 32 * MB)); /* too much at once */
    assert_true(memory_limit_can_refuse(server, 128 << 10));
    assert_int_equal(server->metrics.limit.promised_bytes, 128 << 10);
}

static void without_a_limit_everything_is_granted(void **state) {
    struct server *server = *state;
    assert_true(memory_limit_reserve(server, 40 * MB));
    server->metrics.limit.limit_bytes = 0;
    assert_true(memory_limit_reserve(server, 1024 * MB));
    assert_true(memory_limit_may_read(server, 1024 * MB));
    assert_int_equal(server->metrics.limit.promised_bytes, 0);
}

/* ---- refreshing ---- */

static void the_level_is_renewed_also_while_another_thread_is_adding_up(void **state) {
    struct server *server = *state;
    struct memory_limit *limit = &server->metrics.limit;
    memory_limit_refresh(server);
    assert_int_equal(memory_limit_level(limit), MEMORY_EASY);
    assert_false(atomic_flag_test_and_set(&limit->refreshing));
    assert_true(memory_limit_reserve(server, 32 * MB));
    limit->limit_bytes = limit->start_resident_bytes + 16 * MB;
    memory_limit_refresh(server);
    assert_true(memory_limit_level(limit) > MEMORY_EASY);
    assert_true(atomic_flag_test_and_set(&limit->refreshing)); /* still the other's */
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
        cmocka_unit_test_setup_teardown(what_one_thread_has_reserved_no_other_gets, set_up_limit, tear_down_limit),
        cmocka_unit_test_setup_teardown(a_reservation_replaces_the_last_of_its_thread, set_up_limit, tear_down_limit),
        cmocka_unit_test_setup_teardown(what_was_taken_is_reserved_no_longer, set_up_limit, tear_down_limit),
        cmocka_unit_test_setup_teardown(a_question_leaves_what_is_reserved, set_up_limit, tear_down_limit),
        cmocka_unit_test_setup_teardown(what_is_read_to_be_refused_is_reserved_too, set_up_limit, tear_down_limit),
        cmocka_unit_test_setup_teardown(without_a_limit_everything_is_granted, set_up_limit, tear_down_limit),
        cmocka_unit_test_setup_teardown(the_level_is_renewed_also_while_another_thread_is_adding_up, set_up_limit,
                                        tear_down_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
