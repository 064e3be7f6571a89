/* Rounds of a primary's stream: order within a shard, whatever group it falls to; and a cold key, which keeps its shard
 * waiting and nobody else. */

#include "command/families.h"
#include "server/server.h"
#include "server/stream_parked.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { WORKERS = 3, TIER_BYTES = 64 << 20, MANY = 3000 };

struct setting {
    struct in_process *process;
    struct server server;
    struct worker *workers[WORKERS];
    struct stream_round *round;
    uint64_t position;
};

static int start_with(void **state, unsigned workers, const struct tier_options *tier) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {list_commands, list_command_count}};
    struct setting *setting = calloc(1, sizeof(*setting));
    setting->process =
        in_process_create_with(&(struct in_process_options){.families = families, .family_count = 2, .tier = tier});
    setting->server.keyspace = setting->process->keyspace;
    setting->server.tier = setting->process->tier;
    setting->server.workers = setting->workers;
    setting->server.worker_count = workers;
    for (unsigned i = 0; i < workers; i++) {
        setting->workers[i] = aligned_alloc(64, (sizeof(struct worker) + 63) / 64 * 64);
        memset(setting->workers[i], 0, sizeof(struct worker));
        memcpy(&setting->workers[i]->dispatcher, setting->process->dispatcher, sizeof(struct dispatcher));
        setting->workers[i]->id = i;
        setting->workers[i]->wake_fd = -1;
    }
    setting->round = stream_round_create(&setting->server);
    assert_non_null(setting->round);
    stream_round_begin(setting->round, IN_PROCESS_START_MS);
    *state = setting;
    return 0;
}

static int start(void **state) {
    return start_with(state, WORKERS, NULL);
}

static int start_with_tier(void **state) {
    const struct tier_options tier = {.path = "tier", .size_bytes = TIER_BYTES, .memory_bytes = TIER_BYTES / 2};
    return start_with(state, 1, &tier);
}

static int stop(void **state) {
    struct setting *setting = *state;
    stream_round_end(setting->round);
    stream_round_destroy(setting->round);
    in_process_destroy(setting->process);
    for (unsigned i = 0; i < setting->server.worker_count; i++) free(setting->workers[i]);
    free(setting);
    return 0;
}

static void add(struct setting *setting, const char *name, const char *key, const char *value) {
    const char *words[] = {name, key, value};
    struct span *argv = stream_round_room(setting->round, 3);
    if (!argv) {
        stream_round_run(setting->round);
        argv = stream_round_room(setting->round, 3);
    }
    assert_non_null(argv);
    for (unsigned i = 0; i < 3; i++) argv[i] = span_of_text(words[i]);
    uint32_t shard = keyspace_key_shard(setting->server.keyspace, argv[1]);
    assert_true(stream_round_fits(setting->round, shard));
    stream_round_add(setting->round, &(struct stream_command){
                                         .argv = argv, .argc = 3, .shard = shard, .position = setting->position++});
}

static void a_shared_round_keeps_the_order_of_each_key(void **state) {
    struct setting *setting = *state;
    static char keys[MANY][16], values[MANY][16];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(keys[i], sizeof(keys[i]), "list:%u", i % 50);
        snprintf(values[i], sizeof(values[i]), "%u", i);
        add(setting, "RPUSH", keys[i], values[i]);
    }
    stream_round_run(setting->round);
    for (unsigned key = 0; key < 50; key++)
        for (unsigned i = 0; i < MANY / 50; i++) {
            char line[64], wanted[16];
            snprintf(line, sizeof(line), "LINDEX list:%u %u", key, i);
            snprintf(wanted, sizeof(wanted), "%u", i * 50 + key);
            struct span value = in_process_bulk(setting->process, line);
            assert_int_equal(value.length, strlen(wanted));
            assert_memory_equal(value.data, wanted, value.length);
        }
}

/* Two keys of one shard, and one of another. */
static void find_names(const struct setting *setting, char names[3][16]) {
    uint32_t first = 0;
    for (unsigned i = 0, found = 0; found < 3; i++) {
        snprintf(names[found], sizeof(names[found]), "key:%u", i);
        uint32_t shard = keyspace_key_shard(setting->server.keyspace, span_of_text(names[found]));
        if (found == 0) first = shard;
        if ((found == 2) != (shard == first)) found++;
    }
}

static void make_cold(struct setting *setting, const char *key) {
    struct in_process *process = setting->process;
    char value[600], line[700];
    memset(value, 'v', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    snprintf(line, sizeof(line), "SET %s %s", key, value);
    in_process_expect(process, line, "+OK\r\n");
    in_process_demote(process, key);
    in_process_settle(process);
}

static void expect_length(struct setting *setting, const char *key, unsigned length) {
    char line[64];
    snprintf(line, sizeof(line), "STRLEN %s", key);
    assert_int_equal(in_process_integer(setting->process, line), length);
}

static void add_beside_a_cold_key(struct setting *setting, char names[3][16]) {
    find_names(setting, names);
    make_cold(setting, names[0]);
    add(setting, "APPEND", names[0], "1");  /* waits */
    add(setting, "APPEND", names[1], "22"); /* of its shard: comes behind it */
    add(setting, "APPEND", names[2], "333");
    add(setting, "APPEND", names[0], "4444");
    stream_round_run(setting->round);
}

static void a_cold_key_keeps_only_its_shard_waiting(void **state) {
    struct setting *setting = *state;
    struct stream_parked *parked = stream_round_parked(setting->round);
    char names[3][16];
    setting->position = 1000;
    add_beside_a_cold_key(setting, names);
    assert_false(stream_parked_is_empty(parked));
    assert_int_equal(stream_parked_oldest(parked, setting->position), 1000);
    expect_length(setting, names[2], 3);
    /* What comes later to that shard waits as well, and other shards go on. */
    add(setting, "APPEND", names[1], "55555");
    add(setting, "APPEND", names[2], "666666");
    stream_round_run(setting->round);
    expect_length(setting, names[2], 9);
    expect_length(setting, names[1], 0);
    while (!stream_parked_is_empty(parked)) {
        tier_port_wait(setting->process->port);
        stream_parked_turn(parked);
    }
    assert_int_equal(stream_parked_oldest(parked, setting->position), setting->position);
    assert_int_equal(stream_parked_bytes(parked), 0);
    expect_length(setting, names[0], 599 + 5);
    expect_length(setting, names[1], 7);
    /* Nothing is left behind any more. */
    add(setting, "APPEND", names[1], "7");
    stream_round_run(setting->round);
    expect_length(setting, names[1], 8);
}

static void what_is_parked_can_be_applied_on_the_spot(void **state) {
    struct setting *setting = *state;
    struct stream_parked *parked = stream_round_parked(setting->round);
    char names[3][16];
    add_beside_a_cold_key(setting, names);
    uint32_t other = keyspace_key_shard(setting->server.keyspace, span_of_text(names[2]));
    stream_parked_settle(parked, other);
    assert_false(stream_parked_is_empty(parked));
    stream_parked_settle(parked, STREAM_ALONE);
    assert_true(stream_parked_is_empty(parked));
    expect_length(setting, names[0], 599 + 5);
    expect_length(setting, names[1], 2);
}

static void *resume_when_parked(void *argument) {
    struct world *world = &((struct server *)argument)->world;
    pthread_mutex_lock(&world->lock);
    while (!world->parked) pthread_cond_wait(&world->parked_changed, &world->lock);
    atomic_store(&world->stopping, false);
    pthread_cond_broadcast(&world->resumed);
    pthread_mutex_unlock(&world->lock);
    return NULL;
}

static void what_is_parked_is_applied_before_all_stand_still(void **state) {
    struct setting *setting = *state;
    char names[3][16];
    setting->server.replication.round = setting->round;
    add_beside_a_cold_key(setting, names);
    server_stop_workers(&setting->server, 0);
    assert_true(stream_parked_is_empty(stream_round_parked(setting->round)));
    server_resume_workers(&setting->server, 0);
    expect_length(setting, names[0], 599 + 5);
}

/* The same where another thread has asked for it, and worker 0 comes to where it is going to wait. */
static void what_is_parked_is_applied_at_a_safe_point(void **state) {
    struct setting *setting = *state;
    struct world *world = &setting->server.world;
    pthread_t other;
    char names[3][16];
    setting->server.replication.round = setting->round;
    setting->workers[0]->self = pthread_self();
    add_beside_a_cold_key(setting, names);
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->parked_changed, NULL);
    pthread_cond_init(&world->resumed, NULL);
    atomic_store(&world->stopping, true);
    assert_int_equal(pthread_create(&other, NULL, resume_when_parked, &setting->server), 0);
    server_safe_point(&setting->server);
    assert_true(stream_parked_is_empty(stream_round_parked(setting->round)));
    pthread_join(other, NULL);
    expect_length(setting, names[0], 599 + 5);
}

static void what_is_parked_may_be_given_up(void **state) {
    struct setting *setting = *state;
    char names[3][16];
    add_beside_a_cold_key(setting, names);
    assert_false(stream_parked_is_empty(stream_round_parked(setting->round))); /* stop() frees it */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_shared_round_keeps_the_order_of_each_key, start, stop),
        cmocka_unit_test_setup_teardown(a_cold_key_keeps_only_its_shard_waiting, start_with_tier, stop),
        cmocka_unit_test_setup_teardown(what_is_parked_can_be_applied_on_the_spot, start_with_tier, stop),
        cmocka_unit_test_setup_teardown(what_is_parked_is_applied_before_all_stand_still, start_with_tier, stop),
        cmocka_unit_test_setup_teardown(what_is_parked_is_applied_at_a_safe_point, start_with_tier, stop),
        cmocka_unit_test_setup_teardown(what_is_parked_may_be_given_up, start_with_tier, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
