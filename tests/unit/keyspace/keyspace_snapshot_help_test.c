/* Slices that workers take for walkers: all lanes are served, and who sleeps for a shard gets it. */

#include "command/families.h"
#include "keyspace/keyspace_snapshot.h"
#include "keyspace/keyspace_snapshot_private.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { LANES = 3, ROUNDS = 5, KEYS = 20000, STRETCH = 64 /* slots of an index */, OFFERED = 1 };

static struct in_process *start(void) {
    const struct command_family families[] = {{string_commands, string_command_count}};
    return in_process_create_with(&(struct in_process_options){.families = families, .family_count = 1, .shards = 1});
}

/* ---- lanes in turn ---- */

struct counting {
    struct walker walker;
    unsigned served;
};

static bool count(struct walker *walker, uint64_t budget_ns) {
    (void)budget_ns;
    ((struct counting *)walker)->served++;
    return false;
}

/* A lane that offers its next slice at once must not keep the worker from the others. */
static void test_lanes_are_served_in_turn(void **state) {
    (void)state;
    struct in_process *server = start();
    struct keyspace_snapshot *snapshot = keyspace_snapshot_create(server->keyspace, LANES);
    assert_non_null(snapshot);
    keyspace_snapshot_cut(snapshot);
    struct counting lanes[LANES] = {0};
    for (unsigned round = 0; round < ROUNDS * LANES; round++) {
        for (unsigned i = 0; i < LANES; i++) {
            lanes[i].walker.part = count;
            snapshot->lanes[i].walker = &lanes[i].walker;
            atomic_store(&snapshot->lanes[i].offer, OFFERED);
        }
        assert_true(keyspace_snapshot_serve(server->keyspace));
    }
    for (unsigned i = 0; i < LANES; i++) {
        assert_int_equal(lanes[i].served, ROUNDS);
        atomic_store(&snapshot->lanes[i].offer, 0);
    }
    assert_false(keyspace_snapshot_serve(server->keyspace));
    keyspace_snapshot_destroy(snapshot);
    in_process_destroy(server);
}

/* ---- whoever waits ---- */

static void release(struct keyspace_snapshot *snapshot, struct snapshot_slice *slice) {
    for (unsigned i = 0; i < slice->count; i++) snapshot_taken_release(snapshot, &slice->taken[i]);
}

/* A walker ends its slice as soon as somebody sleeps for the shard, and offers the next one. */
static void test_a_walker_gives_way(void **state) {
    (void)state;
    struct in_process *server = start();
    for (int i = 0; i < KEYS; i++) {
        char line[64];
        snprintf(line, sizeof(line), "SET key:%d value", i);
        in_process_run(server, line);
    }
    struct keyspace_snapshot *snapshot = keyspace_snapshot_create(server->keyspace, 1);
    assert_non_null(snapshot);
    keyspace_snapshot_cut(snapshot);
    struct shard *shard = &server->keyspace->shards[0];
    static struct snapshot_slice slice;
    atomic_store(&shard->waiters, 1);
    snapshot->lanes[0].alone = 7;
    assert_int_equal(keyspace_snapshot_walk(snapshot, 0, &slice), SNAPSHOT_WALK_ON);
    assert_true(slice.count <= STRETCH);
    assert_int_equal(snapshot->lanes[0].alone, 0);
    uint64_t given = slice.count;
    release(snapshot, &slice);
    while (keyspace_snapshot_walk(snapshot, 0, &slice) != SNAPSHOT_WALK_END) {
        given += slice.count;
        release(snapshot, &slice);
    }
    assert_int_equal(given, KEYS);
    atomic_store(&shard->waiters, 0);
    keyspace_snapshot_destroy(snapshot);
    in_process_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_are_served_in_turn),
        cmocka_unit_test(test_a_walker_gives_way),
    };
    return cmocka_run_group_tests_name("keyspace/keyspace_snapshot_help", tests, NULL, NULL);
}
