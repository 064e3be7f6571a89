/* One checkpoint after the other: what has not changed is not written again, whatever else has happened, and what comes
 * back after each is what there was at its cut. The random test prints its seed (TERRACE_TEST_SEED). */

#include "base/log.h"
#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_tier.h"
#include "persist/checkpoint.h"
#include "persist/checkpoint_known.h"
#include "persist/recovery.h"
#include "tests/support/in_process.h"
#include "tests/support/snapshot_collector.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    SEGMENT = 1 << 20,
    SEGMENTS = 400,
    SEGMENTS_FEW = 8,
    SHARDS = 4,
    LINE = 256,
    KEYS = 3000,
    CHANGED = KEYS / 100,
    LONG_KEYS = 3000,
    LONG_VALUE = 1000,
    SLICE_NS = 200000,
};

static char error[CHECKPOINT_PATH_MAX + 300];

/* ---- a server ---- */

static struct in_process *start_sized(unsigned segments) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {hash_commands, hash_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count},
                                              {database_commands, database_command_count}};
    const struct tier_options tier = {.path = "tier",
                                      .segment_bytes = SEGMENT,
                                      .size_bytes = (uint64_t)segments * SEGMENT,
                                      .memory_bytes = 8 << 20,
                                      .persist = true,
                                      .pool_seed = 7654321,
                                      .pool_shards = SHARDS};
    struct in_process *server = in_process_create_with(&(struct in_process_options){
        .families = families, .family_count = sizeof(families) / sizeof(*families), .tier = &tier, .shards = SHARDS});
    const struct recovery_options options = {.keyspace = server->keyspace, .prefix = "tier", .threads = 1};
    struct recovery_result recovered;
    if (recovery_run(&options, &recovered) == RECOVERY_FAILED) fail_msg("%s", recovered.reason);
    assert_true(segment_table_validate(tier_segments(server->tier)));
    return server;
}

static struct in_process *start(void) {
    return start_sized(SEGMENTS);
}

static void stop(struct in_process *server) {
    char path[CHECKPOINT_PATH_MAX];
    uint64_t last = tier_last_cut(server->tier);
    in_process_destroy(server);
    for (uint64_t i = 0; i <= last; i++)
        if (checkpoint_path(path, "tier", i, "")) unlink(path);
    unlink("tier");
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

static void look(struct snapshot_collector *collector, struct in_process *server) {
    snapshot_collector_init(collector, server->keyspace);
    snapshot_collector_look(collector, server->port);
}

/* Kills the server; the next one has what there was at the cut, which is given up. */
static struct in_process *start_again_as(struct in_process *server, struct snapshot_collector *cut) {
    struct snapshot_collector back;
    in_process_destroy(server);
    server = start();
    look(&back, server);
    assert_true(snapshot_collector_same(cut, &back));
    snapshot_collector_free(&back);
    snapshot_collector_free(cut);
    return server;
}

/* ---- a checkpoint ---- */

struct making {
    struct in_process *server;
    struct checkpoint *checkpoint;
    struct snapshot *snapshot;
    bool whole, gives_up;
};

static void given(void *ctx, bool whole) {
    struct making *making = ctx;
    making->whole = whole;
}

static const struct checkpoint_journal journal = {.present = true, .sequence = 1, .mark = 1};

static void begin(struct making *making, struct in_process *server) {
    const struct checkpoint_options options = {.keyspace = server->keyspace, .prefix = "tier"};
    *making = (struct making){.server = server, .checkpoint = checkpoint_create(&options, error, sizeof(error))};
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

static bool complete(struct making *making, struct checkpoint_figures *figures) {
    while (snapshot_step(making->snapshot, 0)) continue;
    in_process_settle(making->server);
    bool counts = checkpoint_complete(making->checkpoint, making->whole && !making->gives_up, error, sizeof(error));
    *figures = checkpoint_figures(making->checkpoint);
    snapshot_destroy(making->snapshot);
    checkpoint_destroy(making->checkpoint);
    tier_note_checkpoints(making->server->tier, counts);
    assert_true(segment_table_validate(tier_segments(making->server->tier)));
    return counts;
}

static struct checkpoint_figures make(struct in_process *server) {
    struct making making;
    struct checkpoint_figures figures;
    begin(&making, server);
    if (!complete(&making, &figures)) fail_msg("%s", error);
    return figures;
}

static void give_up_one(struct in_process *server, unsigned steps) {
    struct making making;
    struct checkpoint_figures figures;
    begin(&making, server);
    for (unsigned i = 0; i < steps; i++) (void)snapshot_step(making.snapshot, 0);
    making.gives_up = true; /* at the latest when all was given */
    snapshot_stop(making.snapshot);
    assert_false(complete(&making, &figures));
}

static uint64_t written(struct in_process *server) {
    struct tier_figures figures;
    tier_figures(server->tier, &figures);
    return figures.written_bytes;
}

/* ---- what is in it ---- */

static void fill(struct in_process *server) {
    for (unsigned i = 0; i < KEYS; i++) {
        run(server, "SELECT %u", i % 3);
        if (i % 10 == 0)
            run(server, "HSET key:%u field %u another value-%u", i, i, i);
        else if (i % 10 == 1)
            run(server, "SET key:%u value-%u PX %u", i, i, 1000000 + i);
        else
            run(server, "SET key:%u the-value-that-was-the-first-%u", i, i);
    }
}

static void set_long(struct in_process *server, unsigned key, unsigned version) {
    static char value[LONG_VALUE];
    char name[LINE];
    struct random random;
    random_seed(&random, key * UINT64_C(1000003) + version);
    for (unsigned i = 0; i < LONG_VALUE; i++) value[i] = (char)random_below(&random, 256);
    snprintf(name, sizeof(name), "long:%u", key);
    in_process_run_with_value(server, "SET", name, span_of(value, sizeof(value)));
}

/* ---- the tests ---- */

static void what_has_not_changed_is_not_written_again(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = start();
    fill(server);
    struct checkpoint_figures figures = make(server);
    assert_int_equal(figures.images, KEYS);
    assert_int_equal(figures.images_kept, 0);
    uint64_t first = written(server);
    for (unsigned i = 0; i < CHANGED; i++) {
        run(server, "SELECT %u", i * 100 % 3);
        run(server, "SET key:%u changed-%u", i * 100, i);
    }
    figures = make(server);
    assert_int_equal(figures.keys, KEYS);
    assert_int_equal(figures.images, CHANGED);
    assert_int_equal(figures.images_kept, KEYS - CHANGED);
    assert_true(written(server) - first < first / 10);
    first = written(server);
    look(&cut, server);
    figures = make(server);
    assert_int_equal(figures.images, 0);
    assert_int_equal(figures.images_kept, KEYS);
    assert_int_equal(written(server), first);
    server = start_again_as(server, &cut);
    stop(server);
}

/* Of what was promoted the image is written once. */
static void what_an_earlier_server_wrote_is_written_when_it_is_in_memory_again(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = start();
    fill(server);
    look(&cut, server);
    make(server);
    server = start_again_as(server, &cut);
    struct checkpoint_figures figures = make(server);
    assert_int_equal(figures.images + figures.images_kept, 0);
    run(server, "SELECT 0");
    for (unsigned i = 0; i < 30; i++) run(server, "APPEND key:%u !", i * 30 + 3);
    figures = make(server);
    assert_int_equal(figures.images, 30);
    figures = make(server);
    assert_int_equal(figures.images_kept, 30);
    look(&cut, server);
    figures = make(server);
    assert_int_equal(figures.images_kept, 30);
    server = start_again_as(server, &cut);
    stop(server);
}

static void change_in_every_way(struct in_process *server) {
    run(server, "SELECT 0");
    run(server, "DEL key:3 key:6");
    run(server, "RENAME key:9 key:12");
    run(server, "RENAME key:15 renamed");
    run(server, "COPY key:18 copied");
    run(server, "COPY key:18 key:18 DB 1");
    run(server, "MOVE key:24 2");
    run(server, "PEXPIRE key:27 100000");
    run(server, "PERSIST key:21");
    run(server, "PEXPIRE key:51 5000000"); /* it had another time */
    run(server, "PEXPIRE key:33 1");
    run(server, "PEXPIRE key:36 1");
    run(server, "SET key:39 the-value-that-was-the-first-39"); /* as it was */
    run(server, "SETRANGE key:42 0 T");
    run(server, "HDEL key:30 another");
    run(server, "APPEND key:45 more");
    in_process_advance(server, 10);
    run(server, "GET key:33"); /* expired and removed; key:36 only expired */
    in_process_demote(server, "key:5*");
    run(server, "SET key:57 anew");
    run(server, "DEL key:54");
    for (unsigned i = 0; i < 2; i++) run(server, "GETRANGE key:555 0 1"); /* the second one promotes */
    run(server, "APPEND key:558 more");
    run(server, "SELECT 4");
    run(server, "SET fresh value");
    run(server, "SWAPDB 4 1");
    run(server, "SWAPDB 0 2");
    run(server, "SELECT 1"); /* which was 4 */
    run(server, "SET key:1 in-the-place-of-another");
}

static void changes_of_every_kind_are_in_the_next_checkpoint(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = start();
    fill(server);
    make(server);
    for (unsigned round = 0; round < 3; round++) {
        change_in_every_way(server);
        look(&cut, server);
        make(server);
        run(server, "FLUSHALL");
        server = start_again_as(server, &cut);
        run(server, "SELECT 0");
        run(server, "FLUSHDB");
        fill(server);
        make(server);
    }
    run(server, "SELECT 1");
    run(server, "FLUSHDB");
    look(&cut, server);
    struct checkpoint_figures figures = make(server);
    assert_int_equal(figures.images, 0); /* the others are as they were */
    assert_true(figures.images_kept > KEYS / 3);
    server = start_again_as(server, &cut);
    stop(server);
}

static void a_set_to_the_same_value_is_no_change_and_a_swap_back_neither(void **state) {
    (void)state;
    struct in_process *server = start();
    fill(server);
    make(server);
    run(server, "SWAPDB 0 1");
    struct checkpoint_figures figures = make(server);
    assert_true(figures.images > 0 && figures.images_kept > 0 && figures.images + figures.images_kept == KEYS);
    run(server, "SELECT 0");
    run(server, "SET key:4 the-value-that-was-the-first-4"); /* where the swap brought it */
    figures = make(server);
    assert_int_equal(figures.images, 0);
    stop(server);
}

/* But for a segment that was not full: it is sealed, and what little it has is written anew. */
static void what_was_given_up_changes_nothing(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = start();
    for (unsigned i = 0; i < LONG_KEYS; i++) set_long(server, i, 0);
    make(server);
    for (unsigned steps = 0; steps < 60; steps += 6) {
        for (unsigned i = 0; i < 10; i++) set_long(server, i, steps);
        give_up_one(server, steps);
        set_long(server, 5, 1000 + steps);
    }
    struct checkpoint_figures figures = make(server); /* refers to what the first one wrote */
    assert_true(figures.images >= 10 && figures.images_kept > LONG_KEYS / 2);
    assert_int_equal(figures.images + figures.images_kept, LONG_KEYS);
    figures = make(server);
    assert_int_equal(figures.images, 0);
    look(&cut, server);
    for (unsigned i = 0; i < 5; i++) set_long(server, i, 77);
    give_up_one(server, 1000);
    for (unsigned i = 0; i < LONG_KEYS; i++) set_long(server, LONG_KEYS + i, 0);
    in_process_demote(server, "long:*"); /* over whatever is free */
    in_process_settle(server);
    server = start_again_as(server, &cut);
    stop(server);
}

/* What is kept because somebody is about to change it is of no use to the next checkpoint. */
static void changes_while_one_is_made_are_in_the_next(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct making making;
    struct checkpoint_figures figures;
    struct in_process *server = start();
    fill(server);
    make(server);
    for (unsigned round = 0; round < 4; round++) {
        look(&cut, server);
        begin(&making, server);
        for (unsigned i = 0; i < 400; i++) {
            run(server, "SELECT %u", i % 3);
            if (i % 5)
                run(server, "SET key:%u while-%u", i, round);
            else
                run(server, "DEL key:%u", i);
            if (i % 20 == 0) (void)snapshot_step(making.snapshot, 0);
        }
        assert_true(complete(&making, &figures));
        assert_true(figures.images_kept > KEYS / 2);
        if (round % 2 == 0) {
            snapshot_collector_free(&cut);
            look(&cut, server);
            figures = make(server);
            assert_true(figures.images <= 400);
        }
        server = start_again_as(server, &cut);
        run(server, "FLUSHALL");
        fill(server);
        make(server);
    }
    stop(server);
}

static void segments_of_which_little_is_wanted_are_written_anew(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct segment_usage usage;
    struct in_process *server = start();
    for (unsigned i = 0; i < LONG_KEYS; i++) set_long(server, i, 0); /* 3 MB: two segments and a beginning */
    make(server);
    usage = segment_table_usage(tier_segments(server->tier));
    assert_int_equal(usage.images, 2);
    for (unsigned i = 0; i < LONG_KEYS; i++)
        if (i % 10 < 7) set_long(server, i, 1);
    struct checkpoint_figures figures = make(server);
    assert_int_equal(figures.images, LONG_KEYS * 7 / 10); /* at the one before all was wanted */
    figures = make(server);
    /* What the old segments still held, and the little that was appended to the last of them. */
    assert_true(figures.images >= LONG_KEYS * 3 / 10 && figures.images < LONG_KEYS * 4 / 10);
    usage = segment_table_usage(tier_segments(server->tier));
    assert_true(usage.images <= 3);
    look(&cut, server);
    figures = make(server);
    assert_int_equal(figures.images, 0);
    server = start_again_as(server, &cut);
    stop(server);
}

/* The bound of checkpoint_known.h. */
static void space_is_bounded(void **state) {
    (void)state;
    struct random random;
    const char *text = getenv("TERRACE_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 20261121, before = 0;
    print_message("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&random, seed);
    struct snapshot_collector cut;
    struct in_process *server = start();
    for (unsigned i = 0; i < LONG_KEYS; i++) set_long(server, i, 0);
    for (unsigned round = 1; round <= 30; round++) {
        uint64_t part = random_below(&random, round % 5 ? 20 : 95); /* per cent */
        for (unsigned i = 0; i < LONG_KEYS; i++)
            if (random_below(&random, 100) < part) set_long(server, i, round);
        struct checkpoint_figures figures = make(server);
        struct segment_usage usage = segment_table_usage(tier_segments(server->tier));
        uint64_t wrote = figures.image_bytes / SEGMENT + 1;
        if (before) assert_true(usage.images <= 2 * before + wrote + TIER_STREAMS);
        before = (uint64_t)LONG_KEYS * (LONG_VALUE + 24) / SEGMENT + 1;
        assert_int_equal(figures.images + figures.images_kept, LONG_KEYS);
    }
    look(&cut, server);
    make(server);
    server = start_again_as(server, &cut);
    stop(server);
}

static void without_room_for_two_all_is_written_anew(void **state) {
    (void)state;
    struct in_process *server = start_sized(SEGMENTS_FEW);
    for (unsigned i = 0; i < LONG_KEYS * 2 / 3; i++) set_long(server, i, 0);
    for (unsigned round = 0; round < 10; round++) {
        set_long(server, round, 1 + round);
        struct checkpoint_figures figures = make(server);
        assert_int_equal(figures.images, LONG_KEYS * 2 / 3);
    }
    stop(server);
}

static void what_cannot_be_read_of_the_one_before_is_written_anew(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = start();
    fill(server);
    make(server);
    FILE *file = fopen("tier.checkpoint.1", "r+b");
    assert_non_null(file);
    for (long at = 1000; at < 20000; at += 1000) { /* some of its chunks */
        fseek(file, at, SEEK_SET);
        fputc(0x55, file);
    }
    fclose(file);
    struct checkpoint_figures figures = make(server);
    assert_int_equal(figures.images + figures.images_kept, KEYS);
    assert_true(figures.images >= KEYS - 2 * 512);
    unlink("tier.checkpoint.2");
    look(&cut, server);
    figures = make(server);
    assert_int_equal(figures.images, KEYS);
    server = start_again_as(server, &cut);
    stop(server);
}

static void a_print_is_of_all_that_a_start_brings_back(void **state) {
    (void)state;
    struct record_plan plan = {.type = RECORD_STRING,
                               .key = SPAN_LITERAL("key"),
                               .value = SPAN_LITERAL("value"),
                               .expiry_ms = 1000,
                               .access = 17};
    char memory[2][64];
    struct record *one = record_write(memory[0], &plan), *other = record_write(memory[1], &plan);
    struct checkpoint_print print = checkpoint_print_of(one, 5), same;
    record_set_access(other, 18);
    record_set_epoch(other, 3);
    same = checkpoint_print_of(other, 5);
    assert_memory_equal(&print, &same, sizeof(print));
    for (size_t bit = 0; bit < record_size(one) * 8; bit++) {
        size_t byte = bit / 8;
        if (byte >= 2 && byte < RECORD_HEADER_FIXED) continue; /* access */
        if (byte == 1 && bit % 8 != 7) continue;               /* epoch, and what tells the size */
        if (byte == 5 || byte == 6) continue;                  /* likewise */
        memcpy(memory[1], memory[0], sizeof(memory[1]));
        memory[1][byte] = (char)(memory[1][byte] ^ 1 << bit % 8);
        struct checkpoint_print different = checkpoint_print_of((struct record *)memory[1], 5);
        assert_memory_not_equal(&print, &different, sizeof(print));
    }
    same = checkpoint_print_of(one, 6);
    assert_memory_not_equal(&print, &same, sizeof(print));
}

int main(void) {
    log_set_level(LOG_LEVEL_NOTHING);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_print_is_of_all_that_a_start_brings_back),
        cmocka_unit_test(what_has_not_changed_is_not_written_again),
        cmocka_unit_test(what_an_earlier_server_wrote_is_written_when_it_is_in_memory_again),
        cmocka_unit_test(changes_of_every_kind_are_in_the_next_checkpoint),
        cmocka_unit_test(a_set_to_the_same_value_is_no_change_and_a_swap_back_neither),
        cmocka_unit_test(what_was_given_up_changes_nothing),
        cmocka_unit_test(changes_while_one_is_made_are_in_the_next),
        cmocka_unit_test(segments_of_which_little_is_wanted_are_written_anew),
        cmocka_unit_test(space_is_bounded),
        cmocka_unit_test(without_room_for_two_all_is_written_anew),
        cmocka_unit_test(what_cannot_be_read_of_the_one_before_is_written_anew),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
