/* Checkpoints and recovery, the two together: whatever runs before, during and after a checkpoint, a server that is
 * gone the next moment comes back with exactly what there was at the cut. The random test prints its seed
 * (TERRACE_TEST_SEED). */

#include "base/log.h"
#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_tier.h"
#include "persist/rdb_load.h"
#include "persist/rdb_sink.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/failing_io.h"
#include "tests/support/temporary_folder.h"
#include "tiering/tier_layout.h"
#include "tiering/tier_pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SLICE_NS = 200000, LARGE = 60000 };

static unsigned files_there(void) {
    unsigned count = 0;
    DIR *folder = opendir(".");
    for (const struct dirent *entry; (entry = readdir(folder));) count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

/* ---- simple ones ---- */

static void a_new_pool_is_empty(void **state) {
    (void)state;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    assert_int_equal(checkpoint_recovered.number, 0);
    checkpoint_run(server, "SET key value");
    server = checkpoint_server_again(server); /* no checkpoint was made */
    in_process_expect(server, "GET key", "$-1\r\n");
    in_process_destroy(server);
    assert_int_equal(access("tier", F_OK), 0);
    checkpoint_remove_files();
}

static void all_kinds_of_records_come_back(void **state) {
    (void)state;
    struct snapshot_collector before, after;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    for (unsigned i = 0; i < 30000; i++) {
        checkpoint_run(server, "SELECT %u", i % 3);
        if (i % 7 == 0)
            checkpoint_run(server, "SET key:%u value-%u PX %u", i, i, 100000 + i);
        else
            checkpoint_run(server, "SET key:%u value-%u", i, i);
        if (i % 100 == 0) checkpoint_run(server, "HSET hash:%u a 1 b 2 c %u", i, i);
        if (i % 100 == 1) checkpoint_run(server, "RPUSH list:%u a b %u", i, i);
    }
    char *large = calloc(1, 3 * CHECKPOINT_TEST_SEGMENT);
    for (size_t i = 0; i < 3 * CHECKPOINT_TEST_SEGMENT; i++) large[i] = (char)(i * i >> 7);
    in_process_run_with_value(server, "SET", "large", span_of(large, 3 * CHECKPOINT_TEST_SEGMENT));
    in_process_run_with_value(server, "SET", "longer than a page", span_of(large, 70000));
    in_process_demote(server, "key:1*");
    checkpoint_look(&before, server);
    checkpoint_make(server);
    server = checkpoint_server_again(server);
    assert_int_equal(checkpoint_recovered.number, 1);
    assert_int_equal(checkpoint_recovered.keys, before.count);
    assert_true(checkpoint_recovered.has_journal && !checkpoint_recovered.has_collections);
    assert_int_equal(checkpoint_recovered.journal_sequence, 3);
    assert_int_equal(checkpoint_recovered.journal_mark, 4711);
    checkpoint_look(&after, server);
    assert_true(snapshot_collector_same(&before, &after));
    snapshot_collector_free(&before);
    snapshot_collector_free(&after);
    /* What came back is changed, moved and kept again as anything else. */
    checkpoint_run(server, "SELECT 0");
    in_process_run(server, "GET key:3");
    checkpoint_run(server, "APPEND key:3 -and-more");
    in_process_expect(server, "GET key:3", "$16\r\nvalue-3-and-more\r\n");
    checkpoint_look(&before, server);
    checkpoint_make(server);
    assert_int_equal(files_there(), 2); /* the tier and one checkpoint */
    server = checkpoint_server_again(server);
    checkpoint_look(&after, server);
    assert_true(snapshot_collector_same(&before, &after));
    snapshot_collector_free(&before);
    snapshot_collector_free(&after);
    in_process_destroy(server);
    free(large);
    checkpoint_remove_files();
}

static void big_collections_come_back(void **state) {
    (void)state;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    for (unsigned i = 0; i < 20000; i++) checkpoint_run(server, "RPUSH list element-number-%u", i);
    for (unsigned i = 0; i < 2000; i++) checkpoint_run(server, "SET key:%u %u", i, i);
    checkpoint_run(server, "EXPIRE list 1000");
    in_process_demote(server, "list");
    char *elements = strdup(in_process_run(server, "LRANGE list 0 -1"));
    struct checkpoint_making making;
    checkpoint_begin(&making, server);
    checkpoint_run(server, "RPUSH list one-more");
    checkpoint_run(server, "DEL key:5");
    assert_true(checkpoint_end(&making, NULL));
    server = checkpoint_server_again(server);
    assert_false(checkpoint_recovered.has_collections);
    assert_int_equal(checkpoint_recovered.keys, 2001);
    assert_string_equal(in_process_run(server, "LRANGE list 0 -1"), elements);
    in_process_expect(server, "TTL list", ":1000\r\n");
    in_process_expect(server, "GET key:5", "$1\r\n5\r\n");
    free(elements);
    in_process_destroy(server);
    checkpoint_remove_files();
}

/* ---- what an earlier version has written ---- */

/* The file of collections, of a server whose tier is in another folder. */
static void write_rdb(const char *path) {
    const struct command_family families[] = {{list_commands, list_command_count}};
    struct in_process *server = in_process_create(families, 1);
    struct rdb_file_error failure;
    const struct rdb_file_options options = {
        .path = path, .temporary = "tier.rdb.temporary", .checksum = true, .redis_version = "7.0.15"};
    for (unsigned i = 0; i < 20000; i++) checkpoint_run(server, "RPUSH list element-number-%u", i);
    struct rdb_sink *sink = rdb_sink_open(&options, 1, &failure);
    assert_non_null(sink);
    assert_true(rdb_sink_close(sink, snapshot_walk(server->keyspace, rdb_sink_of(sink), 1), &failure));
    in_process_destroy(server);
}

/* Makes the file one of this version, which differs in nothing but what it may hold. */
static void claim_version(const char *path, uint32_t version) {
    struct checkpoint_header header;
    FILE *file = fopen(path, "r+b");
    assert_int_equal(fread(&header, sizeof(header), 1, file), 1);
    assert_int_equal(header.version, CHECKPOINT_VERSION);
    header.version = version;
    header.checksum = XXH3_64bits(&header, offsetof(struct checkpoint_header, checksum));
    rewind(file);
    assert_int_equal(fwrite(&header, sizeof(header), 1, file), 1);
    fclose(file);
}

static void tell_manifest_of_rdb(const char *path) {
    struct tier_pool pool;
    struct stat status;
    int fd = open("tier", O_RDWR);
    assert_int_equal(stat(path, &status), 0);
    tier_pool_look(fd, TIER_HEADER_BYTES, &pool, checkpoint_error, sizeof(checkpoint_error));
    struct tier_pool_manifest manifest = pool.manifest;
    manifest.collections_bytes = (uint64_t)status.st_size;
    /* In both places: the number is the same. */
    assert_true(tier_pool_switch(fd, &pool, &manifest) && tier_pool_switch(fd, &pool, &manifest));
    close(fd);
}

static void a_checkpoint_of_version_two_is_read(void **state) {
    (void)state;
    struct rdb_load_result result;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    for (unsigned i = 0; i < 2000; i++) checkpoint_run(server, "SET key:%u %u", i, i);
    checkpoint_make(server);
    in_process_destroy(server);
    write_rdb("tier.checkpoint.1.rdb");
    claim_version("tier.checkpoint.1", 2);
    tell_manifest_of_rdb("tier.checkpoint.1.rdb");
    server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    assert_true(checkpoint_recovered.has_collections);
    assert_int_equal(checkpoint_recovered.keys, 2000);
    struct rdb_load_options load = {.keyspace = server->keyspace, .threads = 1, .port = server->port};
    if (rdb_load_file(checkpoint_recovered.collections, &load, &result) != RDB_DONE) fail_msg("%s", result.reason);
    in_process_expect(server, "LINDEX list 19999", "$20\r\nelement-number-19999\r\n");
    in_process_expect(server, "GET key:5", "$1\r\n5\r\n");
    checkpoint_server_stop(server);
}

static void a_pool_is_not_opened_by_a_run_that_does_not_persist(void **state) {
    (void)state;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    checkpoint_run(server, "SET key value");
    checkpoint_make(server);
    in_process_destroy(server);
    const struct tier_options options = {.path = "tier",
                                         .segment_bytes = CHECKPOINT_TEST_SEGMENT,
                                         .size_bytes = 16 * CHECKPOINT_TEST_SEGMENT,
                                         .ports = 1};
    assert_null(tier_create(&options, checkpoint_error, sizeof(checkpoint_error)));
    assert_non_null(strstr(checkpoint_error, "tier-persist"));
    server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    in_process_expect(server, "GET key", "$5\r\nvalue\r\n");
    in_process_destroy(server);
    checkpoint_remove_files();
}

/* ---- what is damaged is refused ---- */

static void flip(const char *path, long at) {
    FILE *file = fopen(path, "r+b");
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ 0x10, file);
    fclose(file);
}

static bool comes_back(void) {
    const struct tier_options options = {.path = "tier",
                                         .segment_bytes = CHECKPOINT_TEST_SEGMENT,
                                         .size_bytes = CHECKPOINT_TEST_SEGMENTS * CHECKPOINT_TEST_SEGMENT,
                                         .memory_bytes = 8 << 20,
                                         .persist = true,
                                         .ports = 1};
    struct tier *tier = tier_create(&options, checkpoint_error, sizeof(checkpoint_error));
    if (!tier) return false;
    tier_destroy(tier);
    struct in_process *server = checkpoint_server_open(CHECKPOINT_TEST_SEGMENTS);
    enum recovery_status status = checkpoint_recover(server);
    bool good = status == RECOVERY_DONE;
    if (good) in_process_expect(server, "GET key:7", "$7\r\nvalue-7\r\n");
    if (!good) assert_null(strchr(checkpoint_recovered.reason, '\n'));
    in_process_destroy(server);
    return good;
}

static void damaged_header_manifest_and_checkpoint_are_refused(void **state) {
    (void)state;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    for (unsigned i = 0; i < 10; i++) checkpoint_run(server, "SET key:%u value-%u", i, i);
    checkpoint_make(server);
    in_process_destroy(server);
    assert_true(comes_back());
    for (long at = 0; at < 512; at++) {
        flip("tier", at);
        if (comes_back()) fail_msg("byte %ld of the header", at);
        flip("tier", at);
        flip("tier", 4096 + at);
        if (comes_back()) fail_msg("byte %ld of the manifest", at);
        flip("tier", 4096 + at);
    }
    struct stat status;
    assert_int_equal(stat("tier.checkpoint.1", &status), 0);
    for (long at = 0; at < status.st_size; at += 3) {
        flip("tier.checkpoint.1", at);
        if (comes_back()) fail_msg("byte %ld of the checkpoint", at);
        flip("tier.checkpoint.1", at);
    }
    assert_true(comes_back());
    unlink("tier.checkpoint.1");
    assert_false(comes_back());
    checkpoint_remove_files();
}

/* ---- a disk that fails ---- */

static bool make_with(struct in_process *server, const struct file_io *io) {
    struct checkpoint_making making;
    return checkpoint_begin_with(&making, server, io) && checkpoint_end(&making, NULL);
}

static void a_checkpoint_that_fails_leaves_the_one_before(void **state) {
    (void)state;
    struct failing_io failing;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    unsigned failed = 0;
    failing_io_init(&failing, ENOSPC);
    for (unsigned i = 0; i < 300; i++) checkpoint_run(server, "RPUSH list %0100u", i);
    checkpoint_run(server, "SET key 0");
    checkpoint_make(server);
    uint64_t number = 1;
    for (unsigned fail_at = 1;; fail_at++) {
        failing_io_restart(&failing, fail_at);
        checkpoint_run(server, "SET key %u", fail_at);
        bool made = make_with(server, &failing.io);
        if (made) number = tier_pool_of(server->tier)->manifest.number;
        failed += !made;
        assert_int_equal(tier_pool_of(server->tier)->manifest.number, number);
        if (!failing_io_failed(&failing)) break;
        server = checkpoint_server_again(server);
        assert_int_equal(checkpoint_recovered.number, number);
    }
    assert_true(failed > 5);
    in_process_destroy(server);
    checkpoint_remove_files();
}

/* ---- everything at random ---- */

static unsigned below(struct random *random, unsigned bound) {
    return (unsigned)random_below(random, bound);
}

static void change_something(struct in_process *server, struct random *random) {
    static char large[LARGE];
    unsigned key = below(random, 3000);
    char pattern[16];
    switch (below(random, 24)) {
    case 0: checkpoint_run(server, "DEL k%u", key); break;
    case 1: checkpoint_run(server, "PEXPIRE k%u %u", key, 1 + below(random, 3000)); break;
    case 2: checkpoint_run(server, "RENAME k%u k%u", key, below(random, 3000)); break;
    case 3: checkpoint_run(server, "COPY k%u k%u DB %u", key, below(random, 3000), below(random, 3)); break;
    case 4: checkpoint_run(server, "SELECT %u", below(random, 3)); break;
    case 5: checkpoint_run(server, "HSET h%u f%u v%u", key, below(random, 5), key); break;
    case 6: checkpoint_run(server, "SADD s%u m%u", key, below(random, 5)); break;
    case 7: checkpoint_run(server, "APPEND k%u more", key); break;
    case 8:
        memset(large, 'a' + (int)below(random, 20), sizeof(large));
        checkpoint_run(server, "DEL k%u", key);
        snprintf(pattern, sizeof(pattern), "k%u", key);
        in_process_run_with_value(server, "SET", pattern, span_of(large, below(random, LARGE)));
        break;
    case 9:
        if (below(random, 100) == 0) checkpoint_run(server, below(random, 2) ? "FLUSHDB" : "SWAPDB 0 1");
        break;
    case 10: in_process_advance(server, below(random, 20)); break;
    case 11:
        keyspace_sweep(server->keyspace, below(random, CHECKPOINT_TEST_SHARDS), server->dispatcher->now_ms, SLICE_NS,
                       NULL);
        break;
    case 12: keyspace_drain(server->keyspace, below(random, CHECKPOINT_TEST_SHARDS), SLICE_NS); break;
    case 13:
        if (below(random, 10)) break;
        snprintf(pattern, sizeof(pattern), "%c%u*", "khs"[below(random, 3)], below(random, 10));
        in_process_demote(server, pattern);
        break;
    case 14:
        if (below(random, 10)) break;
        for (int i = 0; i < 20 && keyspace_clean(server->keyspace, server->port, TIER_CLEAN_ALL, 0, SLICE_NS); i++)
            in_process_settle(server);
        break;
    case 15: in_process_turn(server); break;
    case 16:
    case 17: checkpoint_run(server, "GET k%u", key); break;
    default: checkpoint_run(server, "SET k%u %u-%0*u", key, below(random, 1000), 1 + below(random, 100), 7); break;
    }
}

static void the_cut_comes_back_whatever_happens(void **state) {
    (void)state;
    struct random random;
    const char *text = getenv("TERRACE_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 20261121;
    print_message("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&random, seed);
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    struct snapshot_collector cut;
    checkpoint_look(&cut, server);
    for (unsigned round = 0; round < 40; round++) {
        struct checkpoint_making making;
        for (unsigned i = 0; i < 2000; i++) change_something(server, &random);
        unsigned checkpoints = below(&random, 4);
        for (unsigned i = 0; i < checkpoints; i++) {
            struct snapshot_collector next;
            unsigned changes = below(&random, 2000), steps = below(&random, 10);
            bool dies = below(&random, 5) == 0, stops = below(&random, 5) == 0;
            checkpoint_look(&next, server);
            checkpoint_begin(&making, server);
            for (unsigned k = 0; k < changes; k++) {
                change_something(server, &random);
                if (below(&random, 10) < steps) (void)snapshot_step(making.snapshot, 0);
            }
            if (dies || stops) snapshot_stop(making.snapshot);
            bool counts = checkpoint_end(&making, NULL);
            assert_true(counts || dies || stops);
            if (counts) {
                snapshot_collector_free(&cut);
                cut = next;
            } else {
                snapshot_collector_free(&next);
            }
            if (dies) break;
        }
        for (unsigned i = below(&random, 2000); i > 0; i--) change_something(server, &random);
        if (below(&random, 3) == 0) continue;
        server = checkpoint_server_again(server);
        struct snapshot_collector back;
        checkpoint_look(&back, server);
        if (!snapshot_collector_same(&cut, &back)) fail_msg("round %u", round);
        snapshot_collector_free(&back);
    }
    snapshot_collector_free(&cut);
    in_process_destroy(server);
    checkpoint_remove_files();
}

int main(void) {
    log_set_level(LOG_LEVEL_NOTHING);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_pool_is_empty),
        cmocka_unit_test(all_kinds_of_records_come_back),
        cmocka_unit_test(big_collections_come_back),
        cmocka_unit_test(a_checkpoint_of_version_two_is_read),
        cmocka_unit_test(a_pool_is_not_opened_by_a_run_that_does_not_persist),
        cmocka_unit_test(damaged_header_manifest_and_checkpoint_are_refused),
        cmocka_unit_test(a_checkpoint_that_fails_leaves_the_one_before),
        cmocka_unit_test(the_cut_comes_back_whatever_happens),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
