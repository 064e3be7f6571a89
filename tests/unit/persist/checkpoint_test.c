/* Checkpoints and recovery, the two together: whatever runs before, during and after a checkpoint, a server that is
 * gone the next moment comes back with exactly what there was at the cut. The random test prints its seed
 * (TERRACE_TEST_SEED). */

#include "base/log.h"
#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_tier.h"
#include "persist/checkpoint.h"
#include "persist/rdb_load.h"
#include "persist/recovery.h"
#include "tests/support/failing_io.h"
#include "tests/support/in_process.h"
#include "tests/support/snapshot_collector.h"
#include "tests/support/temporary_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, SEGMENTS = 1000, SHARDS = 4, LINE = 256, SLICE_NS = 200000, LARGE = 60000 };

static struct recovery_result recovered;
static char error[CHECKPOINT_PATH_MAX + 300];

/* ---- a server ---- */

static struct in_process *start_sized(unsigned segments) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {hash_commands, hash_command_count},
                                              {set_commands, set_command_count},
                                              {list_commands, list_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count},
                                              {database_commands, database_command_count}};
    const struct tier_options tier = {.path = "tier",
                                      .segment_bytes = SEGMENT,
                                      .size_bytes = (uint64_t)segments * SEGMENT,
                                      .memory_bytes = 8 << 20,
                                      .persist = true,
                                      .pool_seed = 1234567,
                                      .pool_shards = SHARDS};
    return in_process_create_with(&(struct in_process_options){
        .families = families, .family_count = sizeof(families) / sizeof(*families), .tier = &tier, .shards = SHARDS});
}

static enum recovery_status recover(struct in_process *server) {
    const struct recovery_options options = {.keyspace = server->keyspace, .prefix = "tier", .threads = 2};
    return recovery_run(&options, &recovered);
}

static struct in_process *start(void) {
    struct in_process *server = start_sized(SEGMENTS);
    enum recovery_status status = recover(server);
    if (status == RECOVERY_FAILED) fail_msg("%s", recovered.reason);
    assert_true(keyspace_validate(server->keyspace));
    assert_true(segment_table_validate(tier_segments(server->tier)));
    recovery_remove_leftovers(server->tier, "tier");
    return server;
}

/* As a server that is killed: nothing is written any more. */
static struct in_process *start_again(struct in_process *server) {
    in_process_destroy(server);
    return start();
}

static void remove_all_files(void) {
    DIR *folder = opendir(".");
    for (const struct dirent *entry; (entry = readdir(folder));)
        if (strncmp(entry->d_name, "tier", 4) == 0) unlink(entry->d_name);
    closedir(folder);
}

static unsigned files_there(void) {
    unsigned count = 0;
    DIR *folder = opendir(".");
    for (const struct dirent *entry; (entry = readdir(folder));) count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void run(struct in_process *server, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void run(struct in_process *server, const char *format, ...) {
    char line[LINE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    in_process_run(server, line);
}

/* ---- a checkpoint ---- */

struct making {
    struct in_process *server;
    struct checkpoint *checkpoint;
    struct snapshot *snapshot;
    bool whole, over;
};

static void given(void *ctx, bool whole) {
    struct making *making = ctx;
    making->whole = whole;
    making->over = true;
}

static const struct checkpoint_journal journal = {.present = true, .sequence = 3, .mark = 4711};

static void begin(struct making *making, struct in_process *server) {
    *making = (struct making){.server = server};
    const struct checkpoint_options options = {.keyspace = server->keyspace, .prefix = "tier"};
    making->checkpoint = checkpoint_create(&options, error, sizeof(error));
    if (!making->checkpoint) fail_msg("%s", error);
    const struct snapshot_options snapshot = {.keyspace = server->keyspace,
                                              .sink = checkpoint_sink(making->checkpoint),
                                              .lanes = 1,
                                              .stepped = true,
                                              .complete = given,
                                              .ctx = making};
    making->snapshot = snapshot_create(&snapshot);
    assert_non_null(making->snapshot);
    checkpoint_cut(making->checkpoint, &journal);
    assert_true(snapshot_begin(making->snapshot));
}

static bool complete(struct making *making) {
    while (snapshot_step(making->snapshot, 0)) continue;
    assert_true(making->over);
    in_process_settle(making->server);
    bool counts = checkpoint_complete(making->checkpoint, making->whole, error, sizeof(error));
    snapshot_destroy(making->snapshot);
    checkpoint_destroy(making->checkpoint);
    tier_note_checkpoints(making->server->tier, counts);
    assert_true(segment_table_validate(tier_segments(making->server->tier)));
    return counts;
}

static void make(struct in_process *server) {
    struct making making;
    begin(&making, server);
    if (!complete(&making)) fail_msg("%s", error);
}

static void look(struct snapshot_collector *collector, struct in_process *server) {
    snapshot_collector_init(collector, server->keyspace);
    snapshot_collector_look(collector, server->port);
}

/* ---- simple ones ---- */

static void a_new_pool_is_empty(void **state) {
    (void)state;
    struct in_process *server = start();
    assert_int_equal(recovered.number, 0);
    run(server, "SET key value");
    server = start_again(server); /* no checkpoint was made */
    in_process_expect(server, "GET key", "$-1\r\n");
    in_process_destroy(server);
    assert_int_equal(access("tier", F_OK), 0);
    remove_all_files();
}

static void all_kinds_of_records_come_back(void **state) {
    (void)state;
    struct snapshot_collector before, after;
    struct in_process *server = start();
    for (unsigned i = 0; i < 30000; i++) {
        run(server, "SELECT %u", i % 3);
        if (i % 7 == 0)
            run(server, "SET key:%u value-%u PX %u", i, i, 100000 + i);
        else
            run(server, "SET key:%u value-%u", i, i);
        if (i % 100 == 0) run(server, "HSET hash:%u a 1 b 2 c %u", i, i);
        if (i % 100 == 1) run(server, "RPUSH list:%u a b %u", i, i);
    }
    char *large = calloc(1, 3 * SEGMENT);
    for (size_t i = 0; i < 3 * SEGMENT; i++) large[i] = (char)(i * i >> 7);
    in_process_run_with_value(server, "SET", "large", span_of(large, 3 * SEGMENT));
    in_process_run_with_value(server, "SET", "longer than a page", span_of(large, 70000));
    in_process_demote(server, "key:1*");
    look(&before, server);
    make(server);
    server = start_again(server);
    assert_int_equal(recovered.number, 1);
    assert_int_equal(recovered.keys, before.count);
    assert_true(recovered.has_journal && !recovered.has_collections);
    assert_int_equal(recovered.journal_sequence, 3);
    assert_int_equal(recovered.journal_mark, 4711);
    look(&after, server);
    assert_true(snapshot_collector_same(&before, &after));
    snapshot_collector_free(&before);
    snapshot_collector_free(&after);
    /* What came back is changed, moved and kept again as anything else. */
    run(server, "SELECT 0");
    in_process_run(server, "GET key:3");
    run(server, "APPEND key:3 -and-more");
    in_process_expect(server, "GET key:3", "$16\r\nvalue-3-and-more\r\n");
    look(&before, server);
    make(server);
    assert_int_equal(files_there(), 2); /* the tier and one checkpoint */
    server = start_again(server);
    look(&after, server);
    assert_true(snapshot_collector_same(&before, &after));
    snapshot_collector_free(&before);
    snapshot_collector_free(&after);
    in_process_destroy(server);
    free(large);
    remove_all_files();
}

static void big_collections_come_back(void **state) {
    (void)state;
    struct in_process *server = start();
    for (unsigned i = 0; i < 20000; i++) run(server, "RPUSH list element-number-%u", i);
    for (unsigned i = 0; i < 2000; i++) run(server, "SET key:%u %u", i, i);
    run(server, "EXPIRE list 1000");
    in_process_demote(server, "list");
    char *elements = strdup(in_process_run(server, "LRANGE list 0 -1"));
    struct making making;
    begin(&making, server);
    run(server, "RPUSH list one-more");
    run(server, "DEL key:5");
    assert_true(complete(&making));
    server = start_again(server);
    assert_true(recovered.has_collections);
    assert_int_equal(recovered.keys, 2000);
    struct rdb_load_result result;
    struct rdb_load_options load = {.keyspace = server->keyspace, .threads = 1, .port = server->port};
    if (rdb_load_file(recovered.collections, &load, &result) != RDB_DONE) fail_msg("%s", result.reason);
    assert_string_equal(in_process_run(server, "LRANGE list 0 -1"), elements);
    in_process_expect(server, "TTL list", ":1000\r\n");
    in_process_expect(server, "GET key:5", "$1\r\n5\r\n");
    free(elements);
    in_process_destroy(server);
    remove_all_files();
}

static void a_pool_is_not_opened_by_a_run_that_does_not_persist(void **state) {
    (void)state;
    struct in_process *server = start();
    run(server, "SET key value");
    make(server);
    in_process_destroy(server);
    const struct tier_options options = {
        .path = "tier", .segment_bytes = SEGMENT, .size_bytes = 16 * SEGMENT, .ports = 1};
    assert_null(tier_create(&options, error, sizeof(error)));
    assert_non_null(strstr(error, "tier-persist"));
    server = start();
    in_process_expect(server, "GET key", "$5\r\nvalue\r\n");
    in_process_destroy(server);
    remove_all_files();
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
                                         .segment_bytes = SEGMENT,
                                         .size_bytes = SEGMENTS * SEGMENT,
                                         .memory_bytes = 8 << 20,
                                         .persist = true,
                                         .ports = 1};
    struct tier *tier = tier_create(&options, error, sizeof(error));
    if (!tier) return false;
    tier_destroy(tier);
    struct in_process *server = start_sized(SEGMENTS);
    enum recovery_status status = recover(server);
    bool good = status == RECOVERY_DONE;
    if (good) in_process_expect(server, "GET key:7", "$7\r\nvalue-7\r\n");
    if (!good) assert_null(strchr(recovered.reason, '\n'));
    in_process_destroy(server);
    return good;
}

static void damaged_header_manifest_and_checkpoint_are_refused(void **state) {
    (void)state;
    struct in_process *server = start();
    for (unsigned i = 0; i < 10; i++) run(server, "SET key:%u value-%u", i, i);
    make(server);
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
    remove_all_files();
}

/* ---- a disk that fails ---- */

static bool make_with(struct in_process *server, const struct file_io *io) {
    struct making making = {.server = server};
    const struct checkpoint_options options = {.keyspace = server->keyspace, .prefix = "tier", .io = io};
    making.checkpoint = checkpoint_create(&options, error, sizeof(error));
    if (!making.checkpoint) return false;
    const struct snapshot_options snapshot = {.keyspace = server->keyspace,
                                              .sink = checkpoint_sink(making.checkpoint),
                                              .stepped = true,
                                              .complete = given,
                                              .ctx = &making};
    making.snapshot = snapshot_create(&snapshot);
    assert_non_null(making.snapshot);
    checkpoint_cut(making.checkpoint, &journal);
    assert_true(snapshot_begin(making.snapshot));
    return complete(&making);
}

static void a_checkpoint_that_fails_leaves_the_one_before(void **state) {
    (void)state;
    struct failing_io failing;
    struct in_process *server = start();
    unsigned failed = 0;
    failing_io_init(&failing, ENOSPC);
    for (unsigned i = 0; i < 300; i++) run(server, "RPUSH list %0100u", i);
    run(server, "SET key 0");
    make(server);
    uint64_t number = 1;
    for (unsigned fail_at = 1;; fail_at++) {
        failing_io_restart(&failing, fail_at);
        run(server, "SET key %u", fail_at);
        bool made = make_with(server, &failing.io);
        if (made) number = tier_pool_of(server->tier)->manifest.number;
        failed += !made;
        assert_int_equal(tier_pool_of(server->tier)->manifest.number, number);
        if (!failing_io_failed(&failing)) break;
        server = start_again(server);
        assert_int_equal(recovered.number, number);
    }
    assert_true(failed > 5);
    in_process_destroy(server);
    remove_all_files();
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
    case 0: run(server, "DEL k%u", key); break;
    case 1: run(server, "PEXPIRE k%u %u", key, 1 + below(random, 3000)); break;
    case 2: run(server, "RENAME k%u k%u", key, below(random, 3000)); break;
    case 3: run(server, "COPY k%u k%u DB %u", key, below(random, 3000), below(random, 3)); break;
    case 4: run(server, "SELECT %u", below(random, 3)); break;
    case 5: run(server, "HSET h%u f%u v%u", key, below(random, 5), key); break;
    case 6: run(server, "SADD s%u m%u", key, below(random, 5)); break;
    case 7: run(server, "APPEND k%u more", key); break;
    case 8:
        memset(large, 'a' + (int)below(random, 20), sizeof(large));
        run(server, "DEL k%u", key);
        snprintf(pattern, sizeof(pattern), "k%u", key);
        in_process_run_with_value(server, "SET", pattern, span_of(large, below(random, LARGE)));
        break;
    case 9:
        if (below(random, 100) == 0) run(server, below(random, 2) ? "FLUSHDB" : "SWAPDB 0 1");
        break;
    case 10: in_process_advance(server, below(random, 20)); break;
    case 11: keyspace_sweep(server->keyspace, below(random, SHARDS), server->dispatcher->now_ms, SLICE_NS, NULL); break;
    case 12: keyspace_drain(server->keyspace, below(random, SHARDS), SLICE_NS); break;
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
    case 17: run(server, "GET k%u", key); break;
    default: run(server, "SET k%u %u-%0*u", key, below(random, 1000), 1 + below(random, 100), 7); break;
    }
}

static void the_cut_comes_back_whatever_happens(void **state) {
    (void)state;
    struct random random;
    const char *text = getenv("TERRACE_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 20261121;
    print_message("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&random, seed);
    struct in_process *server = start();
    struct snapshot_collector cut;
    look(&cut, server);
    for (unsigned round = 0; round < 40; round++) {
        struct making making;
        for (unsigned i = 0; i < 2000; i++) change_something(server, &random);
        unsigned checkpoints = below(&random, 4);
        for (unsigned i = 0; i < checkpoints; i++) {
            struct snapshot_collector next;
            unsigned changes = below(&random, 2000), steps = below(&random, 10);
            bool dies = below(&random, 5) == 0, stops = below(&random, 5) == 0;
            look(&next, server);
            begin(&making, server);
            for (unsigned k = 0; k < changes; k++) {
                change_something(server, &random);
                if (below(&random, 10) < steps) (void)snapshot_step(making.snapshot, 0);
            }
            if (dies || stops) snapshot_stop(making.snapshot);
            bool counts = complete(&making);
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
        server = start_again(server);
        struct snapshot_collector back;
        look(&back, server);
        if (!snapshot_collector_same(&cut, &back)) fail_msg("round %u", round);
        snapshot_collector_free(&back);
    }
    snapshot_collector_free(&cut);
    in_process_destroy(server);
    remove_all_files();
}

int main(void) {
    log_set_level(LOG_LEVEL_NOTHING);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_pool_is_empty),
        cmocka_unit_test(all_kinds_of_records_come_back),
        cmocka_unit_test(big_collections_come_back),
        cmocka_unit_test(a_pool_is_not_opened_by_a_run_that_does_not_persist),
        cmocka_unit_test(damaged_header_manifest_and_checkpoint_are_refused),
        cmocka_unit_test(a_checkpoint_that_fails_leaves_the_one_before),
        cmocka_unit_test(the_cut_comes_back_whatever_happens),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
