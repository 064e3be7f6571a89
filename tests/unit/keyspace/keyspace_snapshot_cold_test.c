/* Snapshots of what is mostly cold: segments are read from end to end, and what is given is what there was at the cut
 * whatever becomes of the records, their segments and their bytes meanwhile. TERRACE_SNAPSHOT_SEED replays the random
 * test. */

#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_tier.h"
#include "persist/snapshot.h"
#include "tests/support/in_process.h"
#include "tests/support/snapshot_collector.h"
#include "tests/support/temporary_folder.h"
#include "tiering/tier_layout.h"

#include <fcntl.h>
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
    KEYS = 6000,
    VALUE_BYTES = 900,
    LARGE_BYTES = 400000,
    HAULED_BYTES = 300000,
    LANES = 2,
    LINE = 256
};

static struct random generator;

static uint32_t below(uint32_t bound) {
    return (uint32_t)(random_next(&generator) % bound);
}

static void set(struct in_process *server, int number, size_t bytes) {
    char key[32], *value = malloc(bytes);
    assert_non_null(value);
    snprintf(key, sizeof(key), "key:%d", number);
    for (size_t i = 0; i < bytes; i++) value[i] = (char)random_next(&generator);
    in_process_run_with_value(server, "SET", key, span_of(value, bytes));
    free(value);
}

/* A tier with several full segments, and everything on it. */
static struct in_process *start(void) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count},
                                              {list_commands, list_command_count},
                                              {database_commands, database_command_count}};
    struct tier_options tier = {
        .path = "tier", .segment_bytes = SEGMENT, .size_bytes = 40 * SEGMENT, .memory_bytes = 64 << 20};
    struct in_process *server = in_process_create_with(&(struct in_process_options){
        .families = families, .family_count = sizeof(families) / sizeof(*families), .tier = &tier, .shards = 4});
    for (int i = 0; i < KEYS; i++) {
        set(server, i, i % 1000 ? VALUE_BYTES : LARGE_BYTES);
        if (i % 3 == 0) {
            char line[LINE];
            snprintf(line, sizeof(line), "EXPIRE key:%d 100000", i);
            in_process_run(server, line);
        }
    }
    in_process_demote(server, "*");
    in_process_settle(server);
    return server;
}

static struct tier_figures figures_of(struct in_process *server) {
    struct tier_figures figures;
    tier_figures(server->tier, &figures);
    return figures;
}

struct taking {
    struct in_process *server;
    struct snapshot_collector there, given;
    struct snapshot *snapshot;
    bool whole, over;
};

static void complete(void *ctx, bool whole) {
    struct taking *taking = ctx;
    taking->whole = whole;
    taking->over = true;
}

static void begin(struct taking *taking, struct in_process *server) {
    *taking = (struct taking){.server = server};
    snapshot_collector_init(&taking->there, server->keyspace);
    snapshot_collector_init(&taking->given, server->keyspace);
    const struct snapshot_options options = {.keyspace = server->keyspace,
                                             .sink = snapshot_collector_sink(&taking->given),
                                             .lanes = LANES,
                                             .stepped = true,
                                             .complete = complete,
                                             .ctx = taking};
    assert_non_null(taking->snapshot = snapshot_create(&options));
    snapshot_collector_look(&taking->there, server->port);
    assert_true(snapshot_begin(taking->snapshot));
}

static bool step(struct taking *taking) {
    bool more = false;
    for (unsigned lane = 0; lane < LANES; lane++) more = snapshot_step(taking->snapshot, lane) || more;
    return more;
}

/* Whether all was given, which then is what there was. */
static bool finish(struct taking *taking) {
    while (step(taking)) continue;
    assert_true(taking->over);
    if (taking->whole) assert_true(snapshot_collector_same(&taking->there, &taking->given));
    snapshot_destroy(taking->snapshot);
    snapshot_collector_free(&taking->there);
    snapshot_collector_free(&taking->given);
    assert_true(keyspace_validate(taking->server->keyspace));
    return taking->whole;
}

static void full_segments_are_not_read_block_by_block(void **state) {
    struct taking taking;
    (void)state;
    struct in_process *server = start();
    assert_true(figures_of(server).segments.sealed >= 4);
    begin(&taking, server);
    uint64_t before = figures_of(server).synchronous_reads;
    assert_int_equal(taking.there.count, KEYS);
    assert_true(finish(&taking));
    uint64_t blocks = figures_of(server).synchronous_reads - before;
    print_message("%llu blocks read alone\n", (unsigned long long)blocks);
    assert_true(blocks < KEYS / 4 / 2); /* four of these values fit in a page; it takes two segments that are open */
    in_process_destroy(server);
}

/* Also in the middle of a segment, by any command, by the hand and by the cleaner. */
static void change_something(struct in_process *server) {
    char line[LINE];
    uint32_t number = below(KEYS), other = below(KEYS);
    switch (below(14)) {
    case 0: set(server, (int)number, VALUE_BYTES); return;
    case 1: snprintf(line, sizeof(line), "DEL key:%u", number); break;
    case 2: snprintf(line, sizeof(line), "APPEND key:%u more", number); break;
    case 3: snprintf(line, sizeof(line), "RENAME key:%u key:%u", number, other); break;
    case 4: snprintf(line, sizeof(line), "COPY key:%u key:%u", number, other); break;
    case 5: snprintf(line, sizeof(line), "PERSIST key:%u", number); break;
    case 6: snprintf(line, sizeof(line), "MOVE key:%u 1", number); break;
    case 7:
        if (below(50)) return;
        in_process_run(server, below(4) ? "SWAPDB 0 1" : "FLUSHDB");
        return;
    case 8:
        snprintf(line, sizeof(line), "key:%u*", below(100));
        in_process_demote(server, line);
        return;
    case 9:
        for (int i = 0; i < 5; i++) {
            if (!keyspace_clean(server->keyspace, server->port, TIER_CLEAN_ALL, server->dispatcher->now_ms, 100000))
                break;
            in_process_settle(server);
        }
        return;
    default: /* read twice, it comes back into memory */
        snprintf(line, sizeof(line), "GET key:%u", number);
        in_process_run(server, line);
        break;
    }
    in_process_run(server, line);
}

static void what_changes_meanwhile_is_given_as_it_was(void **state) {
    const char *text = getenv("TERRACE_SNAPSHOT_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        struct taking taking;
        print_message("seed %llu\n", (unsigned long long)(seed + round));
        random_seed(&generator, seed + round);
        struct in_process *server = start();
        for (unsigned snapshot = 0; snapshot < 3; snapshot++) {
            begin(&taking, server);
            for (unsigned i = 0; i < 1500; i++) {
                change_something(server);
                if (below(3) == 0) (void)snapshot_step(taking.snapshot, below(LANES));
            }
            assert_true(finish(&taking));
        }
        in_process_destroy(server);
    }
}

/* Large records have open segments of their own, which were begun before the cut. */
static void what_is_hauled_after_the_cut_is_given_once(void **state) {
    struct taking taking;
    (void)state;
    struct in_process *server = start();
    set(server, KEYS, HAULED_BYTES);
    in_process_demote(server, "*");
    in_process_settle(server);
    set(server, KEYS + 1, HAULED_BYTES);
    set(server, KEYS + 2, 3 * SEGMENT); /* a run */
    uint32_t open = figures_of(server).segments.open;
    begin(&taking, server);
    in_process_demote(server, "*");
    in_process_settle(server);
    assert_int_equal(figures_of(server).segments.open, open); /* into the one that was open */
    assert_true(finish(&taking));
    in_process_destroy(server);
}

static void flip_a_byte(off_t offset) {
    unsigned char byte;
    int fd = open("tier", O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}

/* Records in it would be missing without anybody noticing. Where nothing refers to it any more it does no harm. */
static void a_damaged_block_fails_the_snapshot_while_it_is_referred_to(void **state) {
    enum { IN_A_BLOCK = TIER_HEADER_BYTES + 40 * TIER_PAGE_BYTES + 100 };
    struct taking taking;
    char line[LINE];
    (void)state;
    struct in_process *server = start();
    begin(&taking, server);
    flip_a_byte(IN_A_BLOCK);
    assert_false(finish(&taking));
    unsigned lost = 0;
    for (int i = 0; i < KEYS; i++) {
        snprintf(line, sizeof(line), "GET key:%d", i);
        if (in_process_run(server, line)[0] != '-') continue;
        lost++;
        flip_a_byte(IN_A_BLOCK);
        snprintf(line, sizeof(line), "DEL key:%d", i);
        in_process_run(server, line);
        flip_a_byte(IN_A_BLOCK);
    }
    assert_true(lost > 0 && lost < 10);
    begin(&taking, server);
    assert_true(finish(&taking));
    in_process_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_segments_are_not_read_block_by_block),
        cmocka_unit_test(what_changes_meanwhile_is_given_as_it_was),
        cmocka_unit_test(what_is_hauled_after_the_cut_is_given_once),
        cmocka_unit_test(a_damaged_block_fails_the_snapshot_while_it_is_referred_to),
    };
    random_seed(&generator, 1);
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
