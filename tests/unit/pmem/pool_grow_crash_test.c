/* What power cuts leave of a pool that is just becoming larger: a state at flushes and drains (pmem_shadow.h), opened
 * by a process of its own. In every one, whether it is opened for growing or grows while it is used,
 *
 *   the pool opens as it was, or as the larger one, with what its segments held, and libpmemobj finds it in order
 *   opened once more for growing, it is the larger one
 *
 * Flushes that are forgotten, one after the other, have to be found now and then. TERRACE_TEST_SEED replays,
 * TERRACE_TEST_LONG takes a state at every one. */

#include "pmem/pool_private.h"
#include "tests/crash/pmem/pmem_shadow.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    MEGABYTE = 1 << 20,
    POOL_BYTES = 16 * MEGABYTE,
    MORE = 6,
    ROUNDS = 2,
    SOME = 200, /* of a thousand flushes and drains */
    EVERY = 1000,
    FORGET_FIRST = 9, /* those before it are of the opening, and make no difference to any state */
    FORGET_LAST = 16,
};

struct run {
    char segments[32];
    uint64_t states;
    bool fine;
};

static struct pmem_pool *open_pool(const char *path, uint64_t size_bytes, bool grow) {
    char error[1024];
    struct pmem_pool_options options = {
        .path = path, .size_bytes = size_bytes, .journal_bytes = MEGABYTE, .grow = grow};
    struct pmem_pool *pool = pmem_pool_open(&options, error, sizeof(error));
    if (!pool) print_message("%s\n", error);
    return pool;
}

/* ---- the checking process ---- */

static bool holds(const struct pmem_pool *pool, uint64_t segments) {
    for (uint64_t i = 0; i < segments; i++)
        if (memcmp(pmem_pool_segment(pool, i).memory + 500, &i, sizeof(i)) != 0) return false;
    return true;
}

static int check(const char *path, uint64_t before) {
    struct pmem_pool *pool = open_pool(path, 0, false);
    uint64_t now = pool ? pmem_pool_segments(pool) : 0;
    bool fine = pool && (now == before || now == before + MORE) && holds(pool, before);
    pmem_pool_close(pool);
    fine = fine && pmemobj_check(path, PMEM_POOL_LAYOUT) == 1;
    pool = fine ? open_pool(path, POOL_BYTES + MORE * MEGABYTE, true) : NULL;
    fine = pool && pmem_pool_segments(pool) == before + MORE && holds(pool, before);
    pmem_pool_close(pool);
    return fine ? 0 : 1;
}

static bool check_state(void *ctx, const char *suffix) {
    struct run *run = ctx;
    (void)suffix;
    if (!run->fine) return false;
    run->states++;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "pool_grow_crash_test", "check", "state", run->segments, (char *)NULL);
        _exit(1);
    }
    int status;
    run->fine = waitpid(child, &status, 0) == child && status == 0;
    return run->fine;
}

/* ---- the growing one ---- */

/* By an opening, of a file that is longer already; or while it is used. */
static void become_larger(bool used) {
    char error[1024] = "";
    struct pmem_pool *pool = open_pool("pool", 0, !used);
    assert_non_null(pool);
    if (used && (!pmem_pool_extend(pool, POOL_BYTES + MORE * MEGABYTE, error, sizeof(error)) ||
                 !pmem_pool_take_in(pool, error, sizeof(error))))
        fail_msg("%s", error);
    if (used) { /* its last segment holds what is put there */
        struct pmem_area area = pmem_pool_segment(pool, pmem_pool_segments(pool) - 1);
        pmem_area_copy(&area, 500, error, 8);
        pmem_area_drain(&area);
    }
    pmem_pool_close(pool);
}

/* A pool grows, under the shadow. `forget`: that flush is lost; 0: none. */
static struct run grow(uint64_t seed, bool used, uint64_t forget, unsigned per_mille) {
    struct run run = {.fine = true};
    struct pmem_pool *pool = open_pool("pool", POOL_BYTES, false);
    assert_non_null(pool);
    for (uint64_t i = 0; i < pmem_pool_segments(pool); i++) {
        struct pmem_area area = pmem_pool_segment(pool, i);
        pmem_area_copy(&area, 500, &i, sizeof(i));
        pmem_area_drain(&area);
    }
    snprintf(run.segments, sizeof(run.segments), "%llu", (unsigned long long)pmem_pool_segments(pool));
    pmem_pool_close(pool);
    if (!used) assert_int_equal(truncate("pool", POOL_BYTES + MORE * MEGABYTE), 0);
    char path[512];
    assert_non_null(getcwd(path, sizeof(path) - 8));
    strcat(path, "/pool"); /* as the kernel names it */
    pmem_shadow_begin(&(struct pmem_shadow_options){
        .path = path, .state = "state", .seed = seed, .per_mille = per_mille, .check = check_state, .ctx = &run});
    pmem_shadow_forget_flush(forget);
    become_larger(used);
    pmem_shadow_end();
    unlink("pool");
    unlink("state");
    return run;
}

static uint64_t seed_of(void) {
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20261121;
    print_message("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

static void every_state_is_the_pool_before_or_the_larger_one(void **state) {
    (void)state;
    uint64_t seed = seed_of();
    const char *long_run = getenv("TERRACE_TEST_LONG");
    unsigned per_mille = long_run && strcmp(long_run, "1") == 0 ? EVERY : SOME;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct run run = grow(seed + round, round % 2, 0, per_mille);
        assert_true(run.fine);
        assert_true(run.states > 3);
    }
}

static void forgotten_flushes_are_found(void **state) {
    (void)state;
    uint64_t seed = seed_of();
    unsigned found = 0;
    for (uint64_t forget = FORGET_FIRST; forget <= FORGET_LAST && !found; forget++)
        found += !grow(seed, false, forget, EVERY).fine;
    assert_int_equal(found, 1);
}

int main(int count, char **arguments) {
    if (!getenv("PMEM_IS_PMEM_FORCE")) {
        setenv("PMEM_IS_PMEM_FORCE", "1", 1);
        execv("/proc/self/exe", arguments);
    }
    if (count == 4) return check(arguments[2], strtoull(arguments[3], NULL, 10));
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_state_is_the_pool_before_or_the_larger_one),
                                       cmocka_unit_test(forgotten_flushes_are_found)};
    return cmocka_run_group_tests_name("pool_grow_crash", tests, temporary_folder_enter, temporary_folder_leave);
}
