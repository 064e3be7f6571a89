/* Several pools that are one: made, found again in any order, finished after a crash, and refused when one is missing
 * or does not belong to them.
 *
 * Flush instructions are forced, so that any memory will do; libpmem looks at the environment as it is loaded, so the
 * program starts itself again. */

#include "pmem/pool_private.h"
#include "tests/support/temporary_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { MEGABYTE = 1 << 20, POOL_BYTES = 24 * MEGABYTE };

static char error[1024];

static struct pmem_pool *open_pools(const char *path, uint64_t size_bytes) {
    struct pmem_pool_options options = {.path = path, .size_bytes = size_bytes};
    error[0] = '\0';
    return pmem_pool_open(&options, error, sizeof(error));
}

static struct pmem_pool *open_good(const char *path, uint64_t size_bytes) {
    struct pmem_pool *pool = open_pools(path, size_bytes);
    if (!pool) fail_msg("%s", error);
    return pool;
}

static void refused(const char *path, const char *because) {
    assert_null(open_pools(path, POOL_BYTES));
    if (!strstr(error, because)) fail_msg("expected '%s' in '%s'", because, error);
    assert_null(strchr(error, '\n'));
}

static void remove_all(void) {
    unlink("a");
    unlink("b");
    unlink("c");
}

static void fill(struct pmem_pool *pool) {
    for (uint64_t i = 0; i < pmem_pool_segments(pool); i++) {
        if (!pmem_pool_has_segment(pool, i)) continue;
        struct pmem_area area = pmem_pool_segment(pool, i);
        pmem_area_copy(&area, 100, &i, sizeof(i));
        pmem_area_drain(&area);
    }
}

static void verify(struct pmem_pool *pool, uint64_t segments) {
    for (uint64_t i = 0; i < segments; i++) {
        if (!pmem_pool_has_segment(pool, i)) continue;
        assert_memory_equal(pmem_pool_segment(pool, i).memory + 100, &i, sizeof(i));
    }
}

static uint64_t existing(const struct pmem_pool *pool) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < pmem_pool_segments(pool); i++) count += pmem_pool_has_segment(pool, i);
    return count;
}

static void pools_are_one_in_whatever_order_they_are_named(void **state) {
    (void)state;
    struct pmem_pool *pool = open_good("a,b,c", POOL_BYTES);
    assert_int_equal(pmem_pool_members(pool), 3);
    assert_true(pmem_pool_facts(pool).made);
    assert_int_equal(pmem_pool_facts(pool).pool_bytes, 3 * POOL_BYTES);
    assert_string_equal(pmem_pool_member(pool, 0).path, "a");
    uint64_t sum = 0;
    for (unsigned i = 0; i < 3; i++) sum += pmem_pool_member(pool, i).segments;
    assert_int_equal(existing(pool), sum);
    /* The first has the journal and so fewer segments: some numbers are nobody's. */
    assert_true(pmem_pool_member(pool, 0).segments < pmem_pool_member(pool, 1).segments);
    assert_true(pmem_pool_segments(pool) > sum);
    assert_int_equal(pmem_pool_facts(pool).segment_bytes, sum * pmem_pool_identity(pool)->segment_bytes);
    for (unsigned i = 0; i < 3; i++) {
        const struct pmem_pool *member = pool->members[i];
        const char *at = pmem_pool_segment(pool, i).memory;
        assert_true(at > (char *)member->pop && at < (char *)member->pop + POOL_BYTES);
    }
    fill(pool);
    uint64_t segments = pmem_pool_segments(pool);
    pmem_pool_close(pool);
    pool = open_good("c,a,b", 0);
    assert_string_equal(pmem_pool_member(pool, 0).path, "a");
    assert_int_equal(pmem_pool_member(pool, 0).named, 1);
    assert_int_equal(pmem_pool_segments(pool), segments);
    verify(pool, segments);
    pmem_pool_close(pool);
    remove_all();
}

static void a_missing_or_foreign_pool_is_refused(void **state) {
    (void)state;
    pmem_pool_close(open_good("a,b", POOL_BYTES));
    refused("a", "'a': is one of a set of 2 pools, and 1 were named; nothing was changed");
    refused("a,b,c", "is one of a set of 2 pools, and 3 were named");
    assert_int_equal(access("c", F_OK), -1);
    refused("a,a", "is named twice");
    assert_int_equal(rename("b", "away"), 0);
    refused("a,b", "'b': is not there, or empty, and the others are pools of a set that was complete");
    assert_int_equal(access("b", F_OK), -1);
    pmem_pool_close(open_good("b,c", POOL_BYTES));
    refused("a,b", "'b': belongs to another set than the pools before it");
    unlink("b");
    unlink("c");
    assert_int_equal(rename("a", "c"), 0);
    refused("a,away", "'a': is not there"); /* the one with the journal is lost: what is left must not be overwritten */
    assert_int_equal(rename("c", "a"), 0);
    assert_int_equal(system("cp a copy"), 0);
    refused("a,copy", "'copy': cannot be opened"); /* libpmemobj tells two of one kind itself */
    unlink("copy");
    pmem_pool_close(open_good("b", POOL_BYTES));
    refused("a,b", "'b': is a pool of its own, and cannot be one of 2; nothing was changed");
    unlink("b");
    assert_int_equal(rename("away", "b"), 0);
    pmem_pool_close(open_good("a,b", 0));
    remove_all();
}

static void what_was_begun_is_finished(void **state) {
    (void)state;
    struct pmem_pool_place place = {.set_uuid = "the set", .pools = 3, .index = 0};
    struct pmem_pool_options options = {.path = "b", .size_bytes = POOL_BYTES, .segment_bytes = 2 * MEGABYTE};
    bool absent;
    struct pmem_pool *begun = pmem_pool_open_one(&options, &place, &absent, error, sizeof(error));
    if (!begun) fail_msg("%s", error);
    pmem_pool_close_one(begun);
    struct pmem_pool *pool = open_good("a,b,c", POOL_BYTES);
    assert_string_equal(pmem_pool_member(pool, 0).path, "b");
    assert_int_equal(pmem_pool_member(pool, 1).named, 0);
    for (unsigned i = 0; i < 3; i++) {
        const struct pmem_pool_identity *identity = &pool->members[i]->root->identity;
        assert_string_equal((const char *)identity->set_uuid, "the set");
        assert_int_equal(identity->segment_bytes, 2 * MEGABYTE);
        assert_true(identity->flags & PMEM_POOL_JOINED);
    }
    pmem_pool_close(pool);
    remove_all();
}

static void what_was_made_in_vain_goes_again(void **state) {
    (void)state;
    temporary_folder_write("b", "precious");
    refused("a,b", "'b': is not a pool of this server");
    assert_int_equal(access("a", F_OK), -1);
    unlink("b");
    refused("a,nowhere/b", "cannot be looked at");
    assert_int_equal(access("a", F_OK), -1);
}

static void a_set_grows_with_its_numbers_kept(void **state) {
    (void)state;
    struct pmem_pool *pool = open_good("a,b", POOL_BYTES);
    uint64_t segments = pmem_pool_segments(pool), before = existing(pool);
    bool had[256] = {false};
    assert_true(segments < 256);
    for (uint64_t i = 0; i < segments; i++) had[i] = pmem_pool_has_segment(pool, i);
    fill(pool);
    pmem_pool_close(pool);
    assert_int_equal(truncate("b", POOL_BYTES + 9 * MEGABYTE), 0); /* its owner has made it longer */
    struct pmem_pool_options options = {.path = "a,b", .size_bytes = POOL_BYTES + 5 * MEGABYTE, .grow = true};
    pool = pmem_pool_open(&options, error, sizeof(error));
    if (!pool) fail_msg("%s", error);
    assert_int_equal(existing(pool), before + 5 + 9);
    assert_true(pmem_pool_segments(pool) >= segments + 18);
    for (uint64_t i = 0; i < segments; i++)
        if (had[i]) assert_memory_equal(pmem_pool_segment(pool, i).memory + 100, &i, sizeof(i));
    fill(pool);
    segments = pmem_pool_segments(pool);
    assert_false(pmem_pool_can_grow(pool, &options));
    pmem_pool_close(pool);
    pool = open_good("a,b", 0);
    assert_int_equal(pmem_pool_segments(pool), segments);
    verify(pool, segments);
    pmem_pool_close(pool);
    remove_all();
}

int main(int count, char **arguments) {
    (void)count;
    if (!getenv("PMEM_IS_PMEM_FORCE")) {
        setenv("PMEM_IS_PMEM_FORCE", "1", 1);
        execv("/proc/self/exe", arguments);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pools_are_one_in_whatever_order_they_are_named),
        cmocka_unit_test(a_missing_or_foreign_pool_is_refused),
        cmocka_unit_test(what_was_begun_is_finished),
        cmocka_unit_test(what_was_made_in_vain_goes_again),
        cmocka_unit_test(a_set_grows_with_its_numbers_kept),
    };
    return cmocka_run_group_tests_name("pool_set", tests, temporary_folder_enter, temporary_folder_leave);
}
