/* The header of a tier's file: whose file it is, and which manifest counts. */

#include "tests/support/temporary_folder.h"
#include "tiering/tier_layout.h"
#include "tiering/tier_pool.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, FILE_BYTES = 4 * SEGMENT };

static char error[400];
static struct tier_pool pool;

static int open_file(void) {
    int fd = open("tier", O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    return fd;
}

static enum tier_pool_found look(int fd) {
    error[0] = '\0';
    return tier_pool_look(fd, (uint64_t)lseek(fd, 0, SEEK_END), &pool, error, sizeof(error));
}

static void make(int fd, uint32_t flags) {
    tier_pool_renew(&pool);
    pool.header.segment_bytes = SEGMENT;
    pool.header.segments = 3;
    pool.header.seed = 99;
    pool.header.shards = 8;
    pool.header.flags = flags;
    assert_true(tier_pool_write(fd, &pool));
    assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
}

static void end(int fd) {
    close(fd);
    unlink("tier");
}

static void an_empty_file_may_be_taken_and_any_other_may_not(void **state) {
    (void)state;
    int fd = open_file();
    assert_int_equal(look(fd), TIER_POOL_FOUND_NOTHING);
    assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
    assert_int_equal(look(fd), TIER_POOL_FOUND_NOTHING);
    for (off_t at = 0; at < SEGMENT; at += 99991) { /* as file systems have it that leave their first sectors alone */
        assert_int_equal(pwrite(fd, "x", 1, at), 1);
        assert_int_equal(look(fd), TIER_POOL_FOUND_FOREIGN);
        assert_non_null(strstr(error, "not a tier"));
        assert_int_equal(pwrite(fd, "", 1, at), 1);
    }
    end(fd);
}

static void what_one_run_has_left_may_be_taken(void **state) {
    (void)state;
    int fd = open_file();
    make(fd, 0);
    assert_int_equal(look(fd), TIER_POOL_FOUND_NOTHING);
    end(fd);
}

static void a_pool_tells_what_it_was_made_with(void **state) {
    (void)state;
    int fd = open_file();
    make(fd, TIER_POOL_PERSISTENT);
    assert_int_equal(look(fd), TIER_POOL_FOUND_POOL);
    assert_int_equal(pool.header.seed, 99);
    assert_int_equal(pool.header.shards, 8);
    assert_int_equal(pool.header.segments, 3);
    assert_int_equal(pool.manifest.number, 0);
    end(fd);
}

static void switch_to(int fd, uint64_t number) {
    const struct tier_pool_manifest manifest = {.number = number, .keys = number * 10};
    assert_true(tier_pool_switch(fd, &pool, &manifest));
}

static void the_newest_manifest_counts(void **state) {
    (void)state;
    static const uint64_t numbers[] = {1, 2, 5, 7, 8, 10}; /* those between were given up */
    int fd = open_file();
    make(fd, TIER_POOL_PERSISTENT);
    for (unsigned i = 0; i < 6; i++) {
        switch_to(fd, numbers[i]);
        assert_int_equal(look(fd), TIER_POOL_FOUND_POOL);
        assert_int_equal(pool.manifest.number, numbers[i]);
        assert_int_equal(pool.manifest.keys, numbers[i] * 10);
    }
    assert_true(tier_pool_forget(fd, &pool));
    assert_int_equal(look(fd), TIER_POOL_FOUND_POOL);
    assert_int_equal(pool.manifest.number, 0);
    end(fd);
}

/* What was whole before counts, as no sector of it is touched; that its files are there still is for others to see. */
static void a_switch_cut_short_leaves_the_one_before(void **state) {
    (void)state;
    int fd = open_file();
    make(fd, TIER_POOL_PERSISTENT);
    switch_to(fd, 1);
    switch_to(fd, 2);
    assert_int_equal(pwrite(fd, "torn", 4, (off_t)(1 + pool.slot) * TIER_PAGE_BYTES + 100), 4);
    assert_int_equal(look(fd), TIER_POOL_FOUND_POOL);
    assert_int_equal(pool.manifest.number, 1);
    assert_int_equal(pwrite(fd, "torn", 4, (off_t)(1 + pool.slot) * TIER_PAGE_BYTES + 100), 4);
    assert_int_equal(look(fd), TIER_POOL_FOUND_FOREIGN);
    assert_non_null(strstr(error, "manifest"));
    end(fd);
}

static void every_flipped_bit_of_the_header_is_refused(void **state) {
    (void)state;
    int fd = open_file();
    make(fd, TIER_POOL_PERSISTENT);
    for (off_t at = 0; at < TIER_POOL_SECTOR; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t byte, flipped;
            assert_int_equal(pread(fd, &byte, 1, at), 1);
            flipped = (uint8_t)(byte ^ 1 << bit);
            assert_int_equal(pwrite(fd, &flipped, 1, at), 1);
            if (look(fd) != TIER_POOL_FOUND_FOREIGN) fail_msg("bit %u of byte %ld", bit, (long)at);
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
    assert_int_equal(look(fd), TIER_POOL_FOUND_POOL);
    end(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_may_be_taken_and_any_other_may_not),
        cmocka_unit_test(what_one_run_has_left_may_be_taken),
        cmocka_unit_test(a_pool_tells_what_it_was_made_with),
        cmocka_unit_test(the_newest_manifest_counts),
        cmocka_unit_test(a_switch_cut_short_leaves_the_one_before),
        cmocka_unit_test(every_flipped_bit_of_the_header_is_refused),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
