/* The tier in a pool of persistent memory: records of every size, also where segments lie apart; header and manifest in
 * the pool's sectors. */

#include "pmem/pool.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tier_fixture.h"
#include "tiering/tier_layout.h"
#include "tiering/tier_pmem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { MEGABYTE = 1 << 20 };

static struct pmem_pool *open_pool(void) {
    char error[1024];
    struct pmem_pool_options options = {.path = "pool", .size_bytes = 96 * MEGABYTE};
    struct pmem_pool *pool = pmem_pool_open(&options, error, sizeof(error));
    if (!pool) fail_msg("%s", error);
    return pool;
}

static void open_tier(struct tier_fixture *fixture, struct pmem_pool *pool) {
    tier_fixture_open(fixture, (struct tier_options){.path = "pool",
                                                     .pmem = pool,
                                                     .persist = true,
                                                     .pool_seed = 77,
                                                     .pool_shards = 8,
                                                     .memory_bytes = 64 * MEGABYTE});
}

static void close_tier(struct tier_fixture *fixture, struct pmem_pool *pool) {
    tier_fixture_close(fixture);
    pmem_pool_close(pool);
}

static void bytes_cross_the_gaps_between_segments(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool();
    uint64_t end = tier_pmem_end(pool), bytes = end - TIER_HEADER_BYTES;
    char *written = malloc(bytes), *read = malloc(bytes);
    for (uint64_t i = 0; i < bytes; i++) written[i] = (char)(i * 2654435761u >> 13);
    assert_true(pmem_pool_identity(pool)->extents > 1);
    assert_true(tier_pmem_write(pool, TIER_HEADER_BYTES, written, bytes));
    assert_true(tier_pmem_read(pool, TIER_HEADER_BYTES, read, bytes));
    assert_memory_equal(read, written, bytes);
    assert_true(tier_pmem_read(pool, end - 5, read, 5));
    assert_false(tier_pmem_read(pool, end - 4, read, 5));
    assert_false(tier_pmem_write(pool, end - 4, read, 5));
    assert_false(tier_pmem_read(pool, TIER_HEADER_BYTES - 1, read, 1));
    assert_false(tier_pmem_read(pool, UINT64_MAX - 1, read, 5));
    free(written);
    free(read);
    pmem_pool_close(pool);
    unlink("pool");
}

/* Slot 0 is of the first shard, whose home is the second pool, and slot 16383 of the last. */
static void records_go_to_the_pool_of_their_shard(void **state) {
    (void)state;
    char error[1024];
    const uint8_t homes[8] = {1, 0, 0, 0, 0, 0, 0, 2};
    struct pmem_pool_options options = {.path = "pool,pool2,pool3", .size_bytes = 48 * MEGABYTE};
    struct pmem_pool *pool = pmem_pool_open(&options, error, sizeof(error));
    struct tier_fixture fixture;
    enum { RECORDS = 60 };
    uint64_t refs[RECORDS];
    struct record *records[RECORDS];
    if (!pool) fail_msg("%s", error);
    open_tier(&fixture, pool);
    assert_true(tier_set_homes(fixture.tier, homes, 8));
    for (unsigned i = 0; i < RECORDS; i++) {
        unsigned taken = 0;
        records[i] = tier_fixture_record(i, 100000, RECORD_EXPIRY_NONE, false);
        const struct record *one = records[i];
        uint16_t slot = i % 3 == 0 ? 0 : i % 3 == 1 ? 5000 : 16383;
        while (tier_append(fixture.port, TIER_STREAM_LASTING, slot, 0, &one, 1, &refs[i], &taken) != TIER_APPENDED)
            if (tier_prepare(fixture.port, TIER_STREAM_LASTING, 110000, false) != TIER_APPENDED)
                tier_fixture_turn(&fixture, 0);
        uint64_t offset = tier_block_offset(tier_address_block(ref_address(refs[i])));
        uint64_t segment = (offset - TIER_HEADER_BYTES) / pmem_pool_identity(pool)->segment_bytes;
        assert_int_equal(segment % 3, i % 3 == 0 ? 1 : i % 3 == 1 ? 0 : 2);
    }
    tier_fixture_settle(&fixture, 0);
    for (unsigned i = 0; i < RECORDS; i++) {
        assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, refs[i]), records[i]));
        free(records[i]);
    }
    close_tier(&fixture, pool);
    unlink("pool");
    unlink("pool2");
    unlink("pool3");
}

/* A file that was cut off fails as a medium does: with SIGBUS. */
static void a_failing_medium_is_an_error_of_its_segment(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool();
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 3000, RECORD_EXPIRY_NONE, false);
    uint64_t refs[10];
    char page[4096];
    open_tier(&fixture, pool);
    for (unsigned i = 0; i < 10; i++) refs[i] = tier_fixture_append(&fixture, 0, record);
    tier_fixture_settle(&fixture, 0);
    struct pmem_area first = pmem_pool_segment(pool, 0);
    const char *base = pmem_pool_journal(pool).memory - pmem_pool_identity(pool)->journal_offset;
    assert_int_equal(truncate("pool", first.memory - base), 0);
    for (unsigned i = 0; i < 10; i++) assert_null(tier_fixture_read(&fixture, 0, refs[i]));
    assert_true(tier_fixture_figures(&fixture).failed_reads >= 10);
    assert_int_equal(pmem_pool_facts(pool).bad_segments, 1);
    assert_false(tier_pmem_write(pool, TIER_HEADER_BYTES + 5 * MEGABYTE, page, sizeof(page)));
    assert_true(tier_pmem_is_bad(pool, 0, 1) && tier_pmem_is_bad(pool, 4, 2) && !tier_pmem_is_bad(pool, 1, 4));
    /* Back again, what is written goes past those. */
    assert_int_equal(truncate("pool", 96 * MEGABYTE), 0);
    struct record *large = tier_fixture_record(2, 900000, RECORD_EXPIRY_NONE, false);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t ref = tier_fixture_append(&fixture, 0, large);
        uint64_t at = tier_block_offset(tier_address_block(ref_address(ref))) - TIER_HEADER_BYTES;
        assert_false(tier_pmem_is_bad(pool, (uint32_t)(at / MEGABYTE), 1));
    }
    tier_fixture_settle(&fixture, 0);
    free(record);
    free(large);
    close_tier(&fixture, pool);
    unlink("pool");
}

static void records_of_every_size_come_back(void **state) {
    (void)state;
    static const size_t sizes[] = {1,     100,    3900,         4096,         5000,    16384,
                                   65000, 520000, MEGABYTE - 1, MEGABYTE + 1, 20 << 20};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
    struct pmem_pool *pool = open_pool();
    struct tier_fixture fixture;
    struct record *records[SIZES];
    uint64_t refs[SIZES];
    open_tier(&fixture, pool);
    for (unsigned i = 0; i < SIZES; i++) {
        records[i] = tier_fixture_record(i, sizes[i], RECORD_EXPIRY_NONE, false);
        refs[i] = tier_fixture_append(&fixture, 0, records[i]);
    }
    for (unsigned round = 0; round < 2; round++) { /* the first time some of it is not written yet */
        for (unsigned i = 0; i < SIZES; i++) {
            assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, refs[i]), records[i]));
            struct record *copy = tier_fetch(fixture.tier, refs[i]);
            assert_true(tier_fixture_same(copy, records[i]));
            free(copy);
        }
        tier_fixture_settle(&fixture, 0);
    }
    struct tier_figures figures = tier_fixture_figures(&fixture);
    assert_true(figures.pmem && !figures.uring && !figures.direct);
    assert_int_equal(figures.reads, 0);
    assert_true(figures.writes > 0);
    for (unsigned i = 0; i < SIZES; i++) free(records[i]);
    close_tier(&fixture, pool);
    unlink("pool");
}

static bool is_in_pool(const struct pmem_pool *pool, const void *memory) {
    const char *base = pmem_pool_journal(pool).memory - pmem_pool_identity(pool)->journal_offset, *at = memory;
    return at >= base && at < base + pmem_pool_facts(pool).pool_bytes;
}

static void records_are_read_where_they_lie(void **state) {
    (void)state;
    enum { RECORDS = 40 };
    struct pmem_pool *pool = open_pool();
    struct tier_fixture fixture;
    struct record *records[RECORDS], *large = tier_fixture_record(1000, 900000, RECORD_EXPIRY_NONE, false);
    const struct record *read[RECORDS];
    struct tier_waiter waiter = {0};
    uint64_t refs[RECORDS];
    open_tier(&fixture, pool);
    for (unsigned i = 0; i < RECORDS; i++) {
        records[i] = tier_fixture_record(i, 3000, RECORD_EXPIRY_NONE, false);
        refs[i] = tier_fixture_append(&fixture, 0, records[i]);
    }
    tier_fixture_settle(&fixture, 0);
    tier_run_begins(&waiter);
    for (unsigned i = 0; i < RECORDS; i++) {
        assert_int_equal(tier_request(fixture.port, refs[i], &waiter, &read[i]), TIER_READY);
        assert_true(is_in_pool(pool, read[i]) && tier_fixture_same(read[i], records[i]));
    }
    assert_int_equal(tier_fixture_figures(&fixture).staged_bytes, 0);
    /* All leave, and so much is written that their segment would be used again. */
    for (unsigned i = 0; i < RECORDS; i++) tier_drop(fixture.tier, refs[i]);
    for (unsigned round = 0; round < 2; round++) {
        if (round == 1) tier_run_ends(fixture.port, &waiter, false);
        for (unsigned i = 0; i < 300; i++) {
            uint64_t ref = tier_fixture_append(&fixture, 0, large);
            tier_fixture_settle(&fixture, 0);
            tier_drop(fixture.tier, ref);
        }
        if (round == 1) break;
        for (unsigned i = 0; i < RECORDS; i++) assert_true(tier_fixture_same(read[i], records[i]));
    }
    assert_false(tier_fixture_same(read[0], records[0]));
    for (unsigned i = 0; i < RECORDS; i++) free(records[i]);
    free(large);
    close_tier(&fixture, pool);
    unlink("pool");
}

/* All bytes of the blocks: what is read then is an error, or what was written. */
static void no_flipped_byte_of_a_segment_is_read(void **state) {
    (void)state;
    enum { RECORDS = 60 };
    struct pmem_pool *pool = open_pool();
    struct tier_fixture fixture;
    struct record *records[RECORDS];
    uint64_t refs[RECORDS], detected = 0, end = 0;
    open_tier(&fixture, pool);
    for (unsigned i = 0; i < RECORDS; i++) {
        records[i] = tier_fixture_record(i, i % 10 == 9 ? 9000 : 100 + 20 * i, RECORD_EXPIRY_NONE, i % 2);
        refs[i] = tier_fixture_append(&fixture, 0, records[i]);
    }
    tier_fixture_settle(&fixture, 0);
    for (unsigned i = 0; i < RECORDS; i++) {
        uint64_t at = tier_block_offset(tier_address_block(ref_address(refs[i]))) - TIER_HEADER_BYTES;
        if (at + 9500 > end) end = at + 9500;
    }
    struct pmem_area segment = pmem_pool_segment(pool, 0);
    assert_true(end < segment.bytes);
    for (uint64_t at = 0; at < end; at++) {
        bool failed = false;
        segment.memory[at] ^= (char)(1 + at % 255);
        for (unsigned i = 0; i < RECORDS; i++) {
            uint64_t block = tier_block_offset(tier_address_block(ref_address(refs[i]))) - TIER_HEADER_BYTES;
            const struct record *read;
            if (at < block || at > block + 9500) continue; /* not in its block */
            if (tier_load(fixture.port, refs[i], &read) != TIER_READY)
                failed = true;
            else
                assert_true(tier_fixture_same(read, records[i]));
            tier_trim(fixture.port);
        }
        segment.memory[at] ^= (char)(1 + at % 255);
        detected += failed;
    }
    assert_true(detected > end / 2);
    print_message("%llu of %llu flips detected, the others without effect\n", (unsigned long long)detected,
                  (unsigned long long)end);
    for (unsigned i = 0; i < RECORDS; i++) free(records[i]);
    close_tier(&fixture, pool);
    unlink("pool");
}

static void header_and_manifest_are_found_again(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool();
    struct tier_fixture fixture;
    open_tier(&fixture, pool);
    for (uint64_t number = 1; number <= 3; number++) {
        struct tier_pool_manifest manifest = {.number = number, .keys = 10 * number, .pmem_position = 4096};
        assert_true(tier_switch(fixture.tier, &manifest, NULL));
    }
    close_tier(&fixture, pool);
    pool = open_pool();
    open_tier(&fixture, pool);
    const struct tier_pool *found = tier_pool_of(fixture.tier);
    assert_int_equal(found->header.seed, 77);
    assert_int_equal(found->header.shards, 8);
    assert_int_equal(found->manifest.number, 3);
    assert_int_equal(found->manifest.keys, 30);
    assert_int_equal(found->manifest.pmem_position, 4096);
    assert_true(tier_forget(fixture.tier));
    close_tier(&fixture, pool);
    pool = open_pool();
    open_tier(&fixture, pool);
    assert_int_equal(tier_pool_of(fixture.tier)->manifest.number, 0);
    close_tier(&fixture, pool);
    unlink("pool");
}

static void a_damaged_sector_is_refused(void **state) {
    (void)state;
    struct pmem_pool *pool = open_pool();
    struct tier_fixture fixture;
    open_tier(&fixture, pool);
    struct tier_pool_manifest manifest = {.number = 1};
    assert_true(tier_switch(fixture.tier, &manifest, NULL));
    tier_fixture_close(&fixture);
    for (int sector = 0; sector < PMEM_SECTORS; sector++) {
        char good[PMEM_POOL_SECTOR_BYTES], bad[PMEM_POOL_SECTOR_BYTES], error[512] = "";
        struct tier_options options = {.path = "pool", .pmem = pool, .persist = true, .ports = 1};
        memcpy(good, pmem_pool_sector(pool, (enum pmem_pool_sector)sector), sizeof(good));
        memcpy(bad, good, sizeof(bad));
        bad[50] ^= 1;
        assert_true(pmem_pool_write_sector(pool, (enum pmem_pool_sector)sector, bad));
        assert_null(tier_create(&options, error, sizeof(error)));
        assert_non_null(strstr(error, "damaged; nothing was changed"));
        assert_true(pmem_pool_write_sector(pool, (enum pmem_pool_sector)sector, good));
    }
    pmem_pool_close(pool);
    unlink("pool");
}

int main(int count, char **arguments) {
    (void)count;
    if (!getenv("PMEM_IS_PMEM_FORCE")) { /* libpmem looks at it as it is loaded */
        setenv("PMEM_IS_PMEM_FORCE", "1", 1);
        execv("/proc/self/exe", arguments);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_cross_the_gaps_between_segments),
        cmocka_unit_test(records_go_to_the_pool_of_their_shard),
        cmocka_unit_test(a_failing_medium_is_an_error_of_its_segment),
        cmocka_unit_test(records_of_every_size_come_back),
        cmocka_unit_test(records_are_read_where_they_lie),
        cmocka_unit_test(no_flipped_byte_of_a_segment_is_read),
        cmocka_unit_test(header_and_manifest_are_found_again),
        cmocka_unit_test(a_damaged_sector_is_refused),
    };
    return cmocka_run_group_tests_name("tier in a pool", tests, temporary_folder_enter, temporary_folder_leave);
}
