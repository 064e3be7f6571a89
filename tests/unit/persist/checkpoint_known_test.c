/* One checkpoint after the other: what has not changed is not written again, whatever else has happened, and what comes
 * back after each is what there was at its cut. The random test prints its seed (TERRACE_TEST_SEED). */

#include "base/log.h"
#include "base/random.h"
#include "keyspace/keyspace_tier.h"
#include "persist/checkpoint_known.h"
#include "tests/support/checkpoint_fixture.h"
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
    SEGMENTS_FEW = 8,
    LINE = 256,
    KEYS = 3000,
    CHANGED = KEYS / 100,
    LONG_KEYS = 3000,
    LONG_VALUE = 1000,
    SLICE_NS = 200000,
};

static void give_up_one(struct in_process *server, unsigned steps) {
    struct checkpoint_making making;
    struct checkpoint_figures figures;
    checkpoint_begin(&making, server);
    for (unsigned i = 0; i < steps; i++) (void)snapshot_step(making.snapshot, 0);
    making.gives_up = true; /* at the latest when all was given */
    snapshot_stop(making.snapshot);
    assert_false(checkpoint_end(&making, &figures));
}

static uint64_t written(struct in_process *server) {
    struct tier_figures figures;
    tier_figures(server->tier, &figures);
    return figures.written_bytes;
}

/* ---- what is in it ---- */

static void fill(struct in_process *server) {
    for (unsigned i = 0; i < KEYS; i++) {
        checkpoint_run(server, "SELECT %u", i % 3);
        if (i % 10 == 0)
            checkpoint_run(server, "HSET key:%u field %u another value-%u", i, i, i);
        else if (i % 10 == 1)
            checkpoint_run(server, "SET key:%u value-%u PX %u", i, i, 1000000 + i);
        else
            checkpoint_run(server, "SET key:%u the-value-that-was-the-first-%u", i, i);
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
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    fill(server);
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_int_equal(figures.images, KEYS);
    assert_int_equal(figures.images_kept, 0);
    uint64_t first = written(server);
    for (unsigned i = 0; i < CHANGED; i++) {
        checkpoint_run(server, "SELECT %u", i * 100 % 3);
        checkpoint_run(server, "SET key:%u changed-%u", i * 100, i);
    }
    figures = checkpoint_make(server);
    assert_int_equal(figures.keys, KEYS);
    assert_int_equal(figures.images, CHANGED);
    assert_int_equal(figures.images_kept, KEYS - CHANGED);
    assert_true(written(server) - first < first / 10);
    first = written(server);
    checkpoint_look(&cut, server);
    figures = checkpoint_make(server);
    assert_int_equal(figures.images, 0);
    assert_int_equal(figures.images_kept, KEYS);
    assert_int_equal(written(server), first);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

/* Of what was promoted the image is written once. */
static void what_an_earlier_server_wrote_is_written_when_it_is_in_memory_again(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    fill(server);
    checkpoint_look(&cut, server);
    checkpoint_make(server);
    server = checkpoint_server_again_as(server, &cut);
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_int_equal(figures.images + figures.images_kept, 0);
    checkpoint_run(server, "SELECT 0");
    for (unsigned i = 0; i < 30; i++) checkpoint_run(server, "APPEND key:%u !", i * 30 + 3);
    figures = checkpoint_make(server);
    assert_int_equal(figures.images, 30);
    figures = checkpoint_make(server);
    assert_int_equal(figures.images_kept, 30);
    checkpoint_look(&cut, server);
    figures = checkpoint_make(server);
    assert_int_equal(figures.images_kept, 30);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

static void change_in_every_way(struct in_process *server) {
    checkpoint_run(server, "SELECT 0");
    checkpoint_run(server, "DEL key:3 key:6");
    checkpoint_run(server, "RENAME key:9 key:12");
    checkpoint_run(server, "RENAME key:15 renamed");
    checkpoint_run(server, "COPY key:18 copied");
    checkpoint_run(server, "COPY key:18 key:18 DB 1");
    checkpoint_run(server, "MOVE key:24 2");
    checkpoint_run(server, "PEXPIRE key:27 100000");
    checkpoint_run(server, "PERSIST key:21");
    checkpoint_run(server, "PEXPIRE key:51 5000000"); /* it had another time */
    checkpoint_run(server, "PEXPIRE key:33 1");
    checkpoint_run(server, "PEXPIRE key:36 1");
    checkpoint_run(server, "SET key:39 the-value-that-was-the-first-39"); /* as it was */
    checkpoint_run(server, "SETRANGE key:42 0 T");
    checkpoint_run(server, "HDEL key:30 another");
    checkpoint_run(server, "APPEND key:45 more");
    in_process_advance(server, 10);
    checkpoint_run(server, "GET key:33"); /* expired and removed; key:36 only expired */
    in_process_demote(server, "key:5*");
    checkpoint_run(server, "SET key:57 anew");
    checkpoint_run(server, "DEL key:54");
    for (unsigned i = 0; i < 2; i++) checkpoint_run(server, "GETRANGE key:555 0 1"); /* the second one promotes */
    checkpoint_run(server, "APPEND key:558 more");
    checkpoint_run(server, "SELECT 4");
    checkpoint_run(server, "SET fresh value");
    checkpoint_run(server, "SWAPDB 4 1");
    checkpoint_run(server, "SWAPDB 0 2");
    checkpoint_run(server, "SELECT 1"); /* which was 4 */
    checkpoint_run(server, "SET key:1 in-the-place-of-another");
}

static void changes_of_every_kind_are_in_the_next_checkpoint(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    fill(server);
    checkpoint_make(server);
    for (unsigned round = 0; round < 3; round++) {
        change_in_every_way(server);
        checkpoint_look(&cut, server);
        checkpoint_make(server);
        checkpoint_run(server, "FLUSHALL");
        server = checkpoint_server_again_as(server, &cut);
        checkpoint_run(server, "SELECT 0");
        checkpoint_run(server, "FLUSHDB");
        fill(server);
        checkpoint_make(server);
    }
    checkpoint_run(server, "SELECT 1");
    checkpoint_run(server, "FLUSHDB");
    checkpoint_look(&cut, server);
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_int_equal(figures.images, 0); /* the others are as they were */
    assert_true(figures.images_kept > KEYS / 3);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

static void a_set_to_the_same_value_is_no_change_and_a_swap_back_neither(void **state) {
    (void)state;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    fill(server);
    checkpoint_make(server);
    checkpoint_run(server, "SWAPDB 0 1");
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_true(figures.images > 0 && figures.images_kept > 0 && figures.images + figures.images_kept == KEYS);
    checkpoint_run(server, "SELECT 0");
    checkpoint_run(server, "SET key:4 the-value-that-was-the-first-4"); /* where the swap brought it */
    figures = checkpoint_make(server);
    assert_int_equal(figures.images, 0);
    checkpoint_server_stop(server);
}

/* But for a segment that was not full: it is sealed, and what little it has is written anew. */
static void what_was_given_up_changes_nothing(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    for (unsigned i = 0; i < LONG_KEYS; i++) set_long(server, i, 0);
    checkpoint_make(server);
    for (unsigned steps = 0; steps < 60; steps += 6) {
        for (unsigned i = 0; i < 10; i++) set_long(server, i, steps);
        give_up_one(server, steps);
        set_long(server, 5, 1000 + steps);
    }
    struct checkpoint_figures figures = checkpoint_make(server); /* refers to what the first one wrote */
    assert_true(figures.images >= 10 && figures.images_kept > LONG_KEYS / 2);
    assert_int_equal(figures.images + figures.images_kept, LONG_KEYS);
    figures = checkpoint_make(server);
    assert_int_equal(figures.images, 0);
    checkpoint_look(&cut, server);
    for (unsigned i = 0; i < 5; i++) set_long(server, i, 77);
    give_up_one(server, 1000);
    for (unsigned i = 0; i < LONG_KEYS; i++) set_long(server, LONG_KEYS + i, 0);
    in_process_demote(server, "long:*"); /* over whatever is free */
    in_process_settle(server);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

/* What is kept because somebody is about to change it is of no use to the next checkpoint. */
static void changes_while_one_is_made_are_in_the_next(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct checkpoint_making making;
    struct checkpoint_figures figures;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    fill(server);
    checkpoint_make(server);
    for (unsigned round = 0; round < 4; round++) {
        checkpoint_look(&cut, server);
        checkpoint_begin(&making, server);
        for (unsigned i = 0; i < 400; i++) {
            checkpoint_run(server, "SELECT %u", i % 3);
            if (i % 5)
                checkpoint_run(server, "SET key:%u while-%u", i, round);
            else
                checkpoint_run(server, "DEL key:%u", i);
            if (i % 20 == 0) (void)snapshot_step(making.snapshot, 0);
        }
        assert_true(checkpoint_end(&making, &figures));
        assert_true(figures.images_kept > KEYS / 2);
        if (round % 2 == 0) {
            snapshot_collector_free(&cut);
            checkpoint_look(&cut, server);
            figures = checkpoint_make(server);
            assert_true(figures.images <= 400);
        }
        server = checkpoint_server_again_as(server, &cut);
        checkpoint_run(server, "FLUSHALL");
        fill(server);
        checkpoint_make(server);
    }
    checkpoint_server_stop(server);
}

static void segments_of_which_little_is_wanted_are_written_anew(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct segment_usage usage;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    for (unsigned i = 0; i < LONG_KEYS; i++) set_long(server, i, 0); /* 3 MB: two segments and a beginning */
    checkpoint_make(server);
    usage = segment_table_usage(tier_segments(server->tier));
    assert_int_equal(usage.images, 2);
    for (unsigned i = 0; i < LONG_KEYS; i++)
        if (i % 10 < 7) set_long(server, i, 1);
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_int_equal(figures.images, LONG_KEYS * 7 / 10); /* at the one before all was wanted */
    figures = checkpoint_make(server);
    /* What the old segments still held, and the little that was appended to the last of them. */
    assert_true(figures.images >= LONG_KEYS * 3 / 10 && figures.images < LONG_KEYS * 4 / 10);
    usage = segment_table_usage(tier_segments(server->tier));
    assert_true(usage.images <= 3);
    checkpoint_look(&cut, server);
    figures = checkpoint_make(server);
    assert_int_equal(figures.images, 0);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
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
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    for (unsigned i = 0; i < LONG_KEYS; i++) set_long(server, i, 0);
    for (unsigned round = 1; round <= 30; round++) {
        uint64_t part = random_below(&random, round % 5 ? 20 : 95); /* per cent */
        for (unsigned i = 0; i < LONG_KEYS; i++)
            if (random_below(&random, 100) < part) set_long(server, i, round);
        struct checkpoint_figures figures = checkpoint_make(server);
        struct segment_usage usage = segment_table_usage(tier_segments(server->tier));
        uint64_t wrote = figures.image_bytes / CHECKPOINT_TEST_SEGMENT + 1;
        if (before) assert_true(usage.images <= 2 * before + wrote + TIER_STREAMS);
        before = (uint64_t)LONG_KEYS * (LONG_VALUE + 24) / CHECKPOINT_TEST_SEGMENT + 1;
        assert_int_equal(figures.images + figures.images_kept, LONG_KEYS);
    }
    checkpoint_look(&cut, server);
    checkpoint_make(server);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

static void without_room_for_two_all_is_written_anew(void **state) {
    (void)state;
    struct in_process *server = checkpoint_server_start(SEGMENTS_FEW);
    for (unsigned i = 0; i < LONG_KEYS * 2 / 3; i++) set_long(server, i, 0);
    for (unsigned round = 0; round < 10; round++) {
        set_long(server, round, 1 + round);
        struct checkpoint_figures figures = checkpoint_make(server);
        assert_int_equal(figures.images, LONG_KEYS * 2 / 3);
    }
    checkpoint_server_stop(server);
}

static void what_cannot_be_read_of_the_one_before_is_written_anew(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
    fill(server);
    checkpoint_make(server);
    FILE *file = fopen("tier.checkpoint.1", "r+b");
    assert_non_null(file);
    for (long at = 1000; at < 20000; at += 1000) { /* some of its chunks */
        fseek(file, at, SEEK_SET);
        fputc(0x55, file);
    }
    fclose(file);
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_int_equal(figures.images + figures.images_kept, KEYS);
    assert_true(figures.images >= KEYS - 2 * 512);
    unlink("tier.checkpoint.2");
    checkpoint_look(&cut, server);
    figures = checkpoint_make(server);
    assert_int_equal(figures.images, KEYS);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
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
