/* Pools that become larger: a longer file, also while it is used, a longer part, a further part, a directory; and what
 * stands where. */

#include "pmem/pool_private.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { MEGABYTE = 1 << 20, POOL_BYTES = 32 * MEGABYTE };

static char error[1024], folder[512];

static struct pmem_pool *open_pool(uint64_t size_bytes, bool grow) {
    struct pmem_pool_options options = {.path = "pool", .size_bytes = size_bytes, .grow = grow};
    struct pmem_pool *pool = pmem_pool_open(&options, error, sizeof(error));
    if (!pool) fail_msg("%s", error);
    return pool;
}

static bool can_grow(const struct pmem_pool *pool, uint64_t size_bytes) {
    struct pmem_pool_options options = {.path = "pool", .size_bytes = size_bytes};
    return pmem_pool_can_grow(pool, &options);
}

/* Every segment can be written from end to end, and keeps its number. */
static void fill(struct pmem_pool *pool) {
    for (uint64_t i = 0; i < pmem_pool_segments(pool); i++) {
        struct pmem_area area = pmem_pool_segment(pool, i);
        memset(area.memory, (int)i + 1, area.bytes);
        pmem_area_flush(&area, 0, area.bytes);
        pmem_area_drain(&area);
    }
}

static void verify(struct pmem_pool *pool, uint64_t segments) {
    for (uint64_t i = 0; i < segments; i++) {
        struct pmem_area area = pmem_pool_segment(pool, i);
        for (size_t at = 0; at < area.bytes; at += 4095) assert_int_equal((unsigned char)area.memory[at], i + 1);
    }
}

static void close_and_check(struct pmem_pool *pool) {
    pmem_pool_close(pool);
    assert_int_equal(pmemobj_check("pool", PMEM_POOL_LAYOUT), 1);
}

static void a_file_grows_to_pmem_size(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool(POOL_BYTES, false);
    uint64_t segments = pmem_pool_segments(pool);
    fill(pool);
    assert_false(can_grow(pool, POOL_BYTES));
    assert_false(can_grow(pool, POOL_BYTES / 2));
    assert_true(can_grow(pool, POOL_BYTES + 20 * MEGABYTE));
    pmem_pool_close(pool);
    pool = open_pool(POOL_BYTES + 20 * MEGABYTE, true);
    assert_int_equal(pmem_pool_segments(pool), segments + 20);
    assert_int_equal(pmem_pool_facts(pool).pool_bytes, POOL_BYTES + 20 * MEGABYTE);
    verify(pool, segments);
    fill(pool);
    close_and_check(pool);
    pool = open_pool(POOL_BYTES + 23 * MEGABYTE, true); /* and once more */
    assert_int_equal(pmem_pool_segments(pool), segments + 23);
    verify(pool, segments + 20);
    close_and_check(pool);
    unlink("pool");
}

/* As a crash between the two steps leaves it. */
static void a_file_that_is_longer_already_is_the_pool_as_it_was(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool(POOL_BYTES, false);
    uint64_t segments = pmem_pool_segments(pool);
    fill(pool);
    pmem_pool_close(pool);
    assert_int_equal(truncate("pool", POOL_BYTES + 8 * MEGABYTE), 0);
    pool = open_pool(0, false);
    assert_int_equal(pmem_pool_segments(pool), segments);
    verify(pool, segments);
    assert_true(can_grow(pool, 0));
    pmem_pool_close(pool);
    pool = open_pool(0, true);
    assert_int_equal(pmem_pool_segments(pool), segments + 8);
    verify(pool, segments);
    pmem_pool_close(pool);
    unlink("pool");
}

/* While it is used: areas stay where they are, and what is added is found by the next opening, too. */
static void a_file_grows_while_it_is_used(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool(POOL_BYTES, false);
    uint64_t segments = pmem_pool_segments(pool), bytes = POOL_BYTES;
    fill(pool);
    const char *first = pmem_pool_segment(pool, 0).memory;
    for (unsigned more = 20; more >= 1; more -= 19) {
        bytes += more * (uint64_t)MEGABYTE;
        assert_true(pmem_pool_may_extend(pool, bytes, error, sizeof(error)));
        assert_true(pmem_pool_extend(pool, bytes, error, sizeof(error)));
        assert_int_equal(pmem_pool_segments(pool), segments); /* nobody has seen it */
        assert_true(pmem_pool_take_in(pool, error, sizeof(error)));
        segments += more;
        assert_int_equal(pmem_pool_segments(pool), segments);
        assert_true(pmem_pool_has_segment(pool, segments - 1) && !pmem_pool_has_segment(pool, segments));
        verify(pool, segments - more);
        fill(pool);
        if (more == 1) break;
    }
    assert_ptr_equal(pmem_pool_segment(pool, 0).memory, first);
    assert_int_equal(pmem_pool_facts(pool).pool_bytes, bytes);
    assert_int_equal(pmem_pool_facts(pool).segment_bytes, segments * MEGABYTE);
    pmem_pool_forget_mapped(pool);
    verify(pool, segments);
    close_and_check(pool);
    pool = open_pool(0, false);
    assert_int_equal(pmem_pool_segments(pool), segments);
    verify(pool, segments);
    pmem_pool_close(pool);
    unlink("pool");
}

static void what_cannot_grow_while_it_is_used_is_refused(void **state) {
    (void)state;
    char text[2048];
    struct stat status;
    struct pmem_pool *pool = open_pool(POOL_BYTES, false);
    assert_false(pmem_pool_may_extend(pool, POOL_BYTES / 2, error, sizeof(error)));
    assert_non_null(strstr(error, "does not become smaller"));
    assert_false(pmem_pool_may_extend(pool, UINT64_C(1) << 50, error, sizeof(error)));
    assert_non_null(strstr(error, "at most until it is opened again"));
    assert_true(pmem_pool_may_extend(pool, POOL_BYTES, error, sizeof(error)));
    pmem_pool_close(pool);
    assert_int_equal(stat("pool", &status), 0);
    assert_int_equal(status.st_size, POOL_BYTES);
    unlink("pool");
    snprintf(text, sizeof(text), "PMEMPOOLSET\n24M %s/part0\n", folder);
    temporary_folder_write("pool", text);
    pool = open_pool(0, false);
    assert_false(pmem_pool_may_extend(pool, 64 * MEGABYTE, error, sizeof(error)));
    assert_non_null(strstr(error, "no single file"));
    pmem_pool_close(pool);
    unlink("pool");
    unlink("part0");
}

static void what_the_medium_has_no_room_for_is_refused(void **state) {
    (void)state;
    struct stat status;
    pmem_pool_close(open_pool(POOL_BYTES, false));
    struct pmem_pool_options options = {.path = "pool", .size_bytes = UINT64_C(1) << 60, .grow = true};
    assert_null(pmem_pool_open(&options, error, sizeof(error)));
    assert_non_null(strstr(error, "is larger than its medium"));
    assert_int_equal(stat("pool", &status), 0);
    assert_int_equal(status.st_size, POOL_BYTES);
    /* A file that was cut off. In a process of its own, as libpmemobj forgets memory when it cannot open one. */
    assert_int_equal(truncate("pool", POOL_BYTES / 2), 0);
    pid_t child = fork();
    if (child == 0) {
        options = (struct pmem_pool_options){.path = "pool"};
        _exit(!pmem_pool_open(&options, error, sizeof(error)) && strstr(error, "cannot be opened") ? 0 : 1);
    }
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    unlink("pool");
}

static void a_pool_set_grows_by_a_part(void **state) {
    (void)state;
    char text[2048];
    snprintf(text, sizeof(text), "PMEMPOOLSET\nOPTION SINGLEHDR\n# one\n24M %s/part0\n", folder);
    temporary_folder_write("pool", text);
    struct pmem_pool *pool = open_pool(0, false);
    uint64_t segments = pmem_pool_segments(pool);
    assert_int_equal(pmem_pool_facts(pool).pool_bytes, 24 * MEGABYTE);
    assert_false(can_grow(pool, UINT64_C(1) << 40)); /* its set file says how long it is */
    fill(pool);
    pmem_pool_close(pool);
    snprintf(text, sizeof(text), "PMEMPOOLSET\nOPTION SINGLEHDR\n24M %s/part0\n12M %s/part1\n", folder, folder);
    temporary_folder_write("pool", text);
    temporary_folder_write("part1", "");
    assert_int_equal(truncate("part1", 12 * MEGABYTE), 0);
    pool = open_pool(0, false);
    assert_int_equal(pmem_pool_segments(pool), segments);
    assert_true(can_grow(pool, 0));
    pmem_pool_close(pool);
    pool = open_pool(0, true);
    assert_int_equal(pmem_pool_segments(pool), segments + 12);
    verify(pool, segments);
    fill(pool);
    close_and_check(pool);
    pool = open_pool(0, false);
    verify(pool, segments + 12);
    pmem_pool_close(pool);
    unlink("pool");
    unlink("part0");
    unlink("part1");
}

static void a_pool_set_grows_with_its_last_part(void **state) {
    (void)state;
    char text[2048];
    snprintf(text, sizeof(text), "PMEMPOOLSET\n24M %s/part0\n16M %s/part1\n", folder, folder);
    temporary_folder_write("pool", text);
    struct pmem_pool *pool = open_pool(0, false);
    uint64_t segments = pmem_pool_segments(pool);
    fill(pool);
    pmem_pool_close(pool);
    snprintf(text, sizeof(text), "PMEMPOOLSET\n24M %s/part0\n26M %s/part1\n", folder, folder);
    temporary_folder_write("pool", text);
    assert_int_equal(truncate("part1", 26 * MEGABYTE), 0);
    pool = open_pool(0, true);
    assert_int_equal(pmem_pool_segments(pool), segments + 10);
    verify(pool, segments);
    fill(pool);
    close_and_check(pool);
    unlink("pool");
    unlink("part0");
    unlink("part1");
}

static void a_directory_set_grows_by_libpmemobj(void **state) {
    (void)state;
    char text[2048];
    assert_int_equal(mkdir("parts", 0700), 0);
    snprintf(text, sizeof(text), "PMEMPOOLSET\nOPTION SINGLEHDR\n160M %s/parts\n", folder);
    temporary_folder_write("pool", text);
    struct pmem_pool *pool = open_pool(0, false);
    uint64_t segments = pmem_pool_segments(pool);
    assert_true(segments > 100);
    fill(pool);
    pmem_pool_close(pool);
    snprintf(text, sizeof(text), "PMEMPOOLSET\nOPTION SINGLEHDR\n320M %s/parts\n", folder);
    temporary_folder_write("pool", text);
    pool = open_pool(0, false);
    assert_true(can_grow(pool, 0));
    pmem_pool_close(pool);
    pool = open_pool(0, true);
    assert_true(pmem_pool_segments(pool) > segments + 100);
    verify(pool, segments);
    segments = pmem_pool_segments(pool);
    pmem_pool_close(pool);
    pool = open_pool(0, false);
    assert_int_equal(pmem_pool_segments(pool), segments);
    pmem_pool_close(pool);
    unlink("pool");
    assert_int_equal(system("rm -r parts"), 0);
}

static void extents_keep_out_of_the_way_of_zones(void **state) {
    (void)state;
    struct pmem_pool_extent extents[8];
    uint64_t zone = PMEM_POOL_ZONE_BYTES, clear = PMEM_POOL_ZONE_CLEAR, segment = 8 * MEGABYTE;
    uint64_t count = pmem_pool_deal_out(POOL_BYTES + 100, 3 * zone + clear + segment, segment, extents, 8);
    assert_int_equal(count, 4);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t from = extents[i].offset, to = from + extents[i].segments * segment;
        assert_int_equal(from % PMEM_POOL_ALIGNMENT, 0);
        assert_true(to <= 3 * zone + clear + segment);
        for (uint64_t k = 1; k <= 3; k++) assert_true(to <= k * zone || from >= k * zone + clear);
        if (i > 0) assert_true(from >= extents[i - 1].offset + extents[i - 1].segments * segment);
    }
    /* Two segments at the most are lost to a zone's end, and its beginning. */
    assert_true(extents[1].segments * segment + clear + 2 * segment > zone);
    assert_int_equal(pmem_pool_deal_out(zone + 5, zone + clear + segment, segment, extents, 8), 1);
    assert_int_equal(extents[0].offset, zone + clear);
}

static int enter(void **state) {
    int result = temporary_folder_enter(state);
    return getcwd(folder, sizeof(folder)) ? result : -1;
}

int main(int count, char **arguments) {
    (void)count;
    if (!getenv("PMEM_IS_PMEM_FORCE")) {
        setenv("PMEM_IS_PMEM_FORCE", "1", 1);
        execv("/proc/self/exe", arguments);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_grows_to_pmem_size),
        cmocka_unit_test(a_file_that_is_longer_already_is_the_pool_as_it_was),
        cmocka_unit_test(a_file_grows_while_it_is_used),
        cmocka_unit_test(what_cannot_grow_while_it_is_used_is_refused),
        cmocka_unit_test(what_the_medium_has_no_room_for_is_refused),
        cmocka_unit_test(a_pool_set_grows_by_a_part),
        cmocka_unit_test(a_pool_set_grows_with_its_last_part),
        cmocka_unit_test(a_directory_set_grows_by_libpmemobj),
        cmocka_unit_test(extents_keep_out_of_the_way_of_zones),
    };
    return cmocka_run_group_tests_name("pool_grow", tests, enter, temporary_folder_leave);
}
