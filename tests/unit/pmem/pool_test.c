/* The pool: made, opened again, refused when it is not ours, and never changed by being refused.
 *
 * The files lie in the folder for temporary files, which need not be persistent memory: flush instructions are forced,
 * so that the test takes seconds and the way that matters. libpmem looks at the environment as it is loaded, so the
 * program starts itself again. */

#include "pmem/pool.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <fcntl.h>
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

static char error[1024];

static struct pmem_pool *open_pool(uint64_t size_bytes) {
    struct pmem_pool_options options = {.path = "pool", .size_bytes = size_bytes};
    error[0] = '\0';
    return pmem_pool_open(&options, error, sizeof(error));
}

static void refused(uint64_t size_bytes, const char *because) {
    assert_null(open_pool(size_bytes));
    if (!strstr(error, because)) fail_msg("expected '%s' in '%s'", because, error);
    assert_non_null(strstr(error, "pmem-pool 'pool': "));
    assert_null(strchr(error, '\n'));
}

static void change(off_t at, const void *bytes, size_t count) {
    int fd = open("pool", O_RDWR);
    assert_int_equal(pwrite(fd, bytes, count, at), count);
    close(fd);
}

static void a_pool_is_made_and_found_again(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool(POOL_BYTES);
    if (!pool) fail_msg("%s", error);
    struct pmem_pool_identity identity = *pmem_pool_identity(pool);
    struct pmem_pool_facts facts = pmem_pool_facts(pool);
    assert_true(facts.made && facts.pmem && facts.forced && !facts.dax);
    assert_string_equal(facts.domain, "process");
    assert_int_equal(facts.pool_bytes, POOL_BYTES);
    /* What is not for records: lanes, the journal, and a chunk for each extent. */
    assert_true(facts.segment_bytes + facts.journal_bytes + 8 * MEGABYTE > POOL_BYTES);
    uint64_t segments = pmem_pool_segments(pool);
    pmem_pool_close(pool);

    struct stat status;
    assert_int_equal(stat("pool", &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    pool = open_pool(0);
    assert_non_null(pool);
    assert_memory_equal(&identity, pmem_pool_identity(pool), sizeof(identity));
    assert_false(pmem_pool_facts(pool).made);
    assert_int_equal(pmem_pool_segments(pool), segments);
    pmem_pool_close(pool);
    unlink("pool");
}

static void overlap_not(struct pmem_area a, struct pmem_area b) {
    assert_true(a.memory + a.bytes <= b.memory || b.memory + b.bytes <= a.memory);
}

static void segments_and_journal_lie_apart_and_keep_what_is_written(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool(POOL_BYTES);
    struct pmem_area journal = pmem_pool_journal(pool);
    uint64_t segments = pmem_pool_segments(pool);
    for (uint64_t i = 0; i < segments; i++) {
        struct pmem_area area = pmem_pool_segment(pool, i);
        assert_int_equal((uintptr_t)area.memory % PMEM_POOL_ALIGNMENT, 0);
        overlap_not(area, journal);
        for (uint64_t k = 0; k < i; k++) overlap_not(area, pmem_pool_segment(pool, k));
        pmem_area_copy(&area, area.bytes - sizeof(i), &i, sizeof(i));
        pmem_area_drain(&area);
    }
    for (unsigned i = 0; i < 64 << 10; i++) assert_int_equal(journal.memory[i], 0);
    pmem_pool_close(pool);
    pool = open_pool(0);
    for (uint64_t i = 0; i < segments; i++) {
        struct pmem_area area = pmem_pool_segment(pool, i);
        assert_memory_equal(area.memory + area.bytes - sizeof(i), &i, sizeof(i));
    }
    pmem_pool_close(pool);
    unlink("pool");
}

static void a_sector_is_replaced(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool(POOL_BYTES);
    char zero[PMEM_POOL_SECTOR_BYTES] = "", sector[PMEM_POOL_SECTOR_BYTES];
    assert_memory_equal(pmem_pool_sector(pool, PMEM_SECTOR_MANIFEST), zero, sizeof(zero));
    for (char fill = 1; fill < 100; fill++) {
        memset(sector, fill, sizeof(sector));
        assert_true(pmem_pool_write_sector(pool, PMEM_SECTOR_MANIFEST, sector));
    }
    pmem_pool_close(pool);
    pool = open_pool(0);
    assert_memory_equal(pmem_pool_sector(pool, PMEM_SECTOR_MANIFEST), sector, sizeof(sector));
    assert_memory_equal(pmem_pool_sector(pool, PMEM_SECTOR_HEADER), zero, sizeof(zero));
    pmem_pool_close(pool);
    unlink("pool");
}

static void what_is_no_pool_of_ours_is_refused_and_left_alone(void **state) {
    (void)state;
    refused(0, "does not exist; set pmem-size");
    refused(MEGABYTE, "from 16mb on");
    refused(UINT64_C(1) << 60, "larger than what its file system has free");
    assert_int_equal(access("pool", F_OK), -1);
    assert_int_equal(access("pool.making", F_OK), -1);
    temporary_folder_write("pool", "precious");
    refused(POOL_BYTES, "is not a pool of this server; nothing was changed");
    char text[16] = "";
    int fd = open("pool", O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 8);
    assert_string_equal(text, "precious");
    close(fd);
    unlink("pool");
    assert_int_equal(mkdir("pool", 0700), 0);
    refused(POOL_BYTES, "is neither a file nor a device");
    rmdir("pool");
}

static void another_layout_and_damage_are_refused(void **state) {
    (void)state;
    pmem_pool_close(open_pool(POOL_BYTES));
    change(4096, "terrace-pool-9", 15);
    refused(0, "was made by another version (layout terrace-pool-9");
    change(4096, "somebody-else", 14);
    refused(0, "is a libpmemobj pool of another program");
    change(4096, PMEM_POOL_LAYOUT, sizeof(PMEM_POOL_LAYOUT));
    change(100, "damage", 6);
    refused(0, "cannot be opened");
    unlink("pool");
}

static void a_damaged_root_is_refused(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool(POOL_BYTES);
    const char *base = pmem_pool_journal(pool).memory - pmem_pool_identity(pool)->journal_offset;
    off_t root = (const char *)pmem_pool_identity(pool) - base;
    struct pmem_pool_identity good = *pmem_pool_identity(pool);
    pmem_pool_close(pool);
    for (size_t at = offsetof(struct pmem_pool_identity, version); at < sizeof(good); at += 7) {
        char byte = (char)(((const char *)&good)[at] ^ 4);
        change(root + (off_t)at, &byte, 1);
        refused(0, "");
        change(root, &good, sizeof(good));
    }
    uint64_t far = UINT64_MAX / 4096 * 4096;
    change(root + PMEM_POOL_EXTENTS_AT, &far, sizeof(far));
    refused(0, "extent 0 of its segments does not fit");
    unlink("pool");
}

static void a_pool_in_use_is_refused(void **state) {
    (void)state;
    int ready[2], done[2];
    char byte = 0;
    pmem_pool_close(open_pool(POOL_BYTES));
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(done), 0);
    pid_t child = fork();
    if (child == 0) {
        struct pmem_pool *pool = open_pool(0);
        (void)!write(ready[1], &byte, 1);
        (void)!read(done[0], &byte, 1);
        _exit(pool ? 0 : 1); /* without closing, as one that is killed */
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    refused(0, "in use by another process");
    assert_int_equal(write(done[1], &byte, 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct pmem_pool *pool = open_pool(0);
    if (!pool) fail_msg("%s", error);
    pmem_pool_close(pool);
    unlink("pool");
}

static void a_blank_file_and_a_set_become_pools_in_their_place(void **state) {
    (void)state;
    temporary_folder_write("pool", "");
    assert_int_equal(truncate("pool", POOL_BYTES), 0);
    struct pmem_pool *pool = open_pool(0);
    if (!pool) fail_msg("%s", error);
    assert_int_equal(pmem_pool_facts(pool).pool_bytes, POOL_BYTES);
    pmem_pool_close(pool);
    unlink("pool");

    char folder[512], set[2048];
    assert_non_null(getcwd(folder, sizeof(folder)));
    snprintf(set, sizeof(set), "PMEMPOOLSET\n32M %s/part0\n32M %s/part1\n", folder, folder);
    temporary_folder_write("pool", set);
    pool = open_pool(0);
    if (!pool) fail_msg("%s", error);
    assert_true(pmem_pool_facts(pool).made);
    uint64_t segments = pmem_pool_segments(pool);
    assert_true(segments >= 40);
    pmem_pool_close(pool);
    pool = open_pool(0);
    if (!pool) fail_msg("%s", error);
    assert_int_equal(pmem_pool_segments(pool), segments);
    pmem_pool_close(pool);
    unlink("pool");
    unlink("part0");
    unlink("part1");
}

static void what_a_killed_maker_has_left_is_replaced(void **state) {
    (void)state;
    temporary_folder_write("pool.making", "half of a pool");
    struct pmem_pool *pool = open_pool(POOL_BYTES);
    if (!pool) fail_msg("%s", error);
    pmem_pool_close(pool);
    assert_int_equal(access("pool.making", F_OK), -1);
    unlink("pool");
}

int main(int count, char **arguments) {
    (void)count;
    if (!getenv("PMEM_IS_PMEM_FORCE")) {
        setenv("PMEM_IS_PMEM_FORCE", "1", 1);
        execv("/proc/self/exe", arguments);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_is_made_and_found_again),
        cmocka_unit_test(segments_and_journal_lie_apart_and_keep_what_is_written),
        cmocka_unit_test(a_sector_is_replaced),
        cmocka_unit_test(what_is_no_pool_of_ours_is_refused_and_left_alone),
        cmocka_unit_test(another_layout_and_damage_are_refused),
        cmocka_unit_test(a_damaged_root_is_refused),
        cmocka_unit_test(a_pool_in_use_is_refused),
        cmocka_unit_test(a_blank_file_and_a_set_become_pools_in_their_place),
        cmocka_unit_test(what_a_killed_maker_has_left_is_replaced),
    };
    return cmocka_run_group_tests_name("pool", tests, temporary_folder_enter, temporary_folder_leave);
}
