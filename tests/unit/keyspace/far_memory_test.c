/* Records in far memory, which here is of the same node, so that every host can run this: what goes there, that it is
 * read and changed where it lies, how it comes back, and that every way of leaving gives its memory back. What is far
 * stays so unless a test wants it otherwise: coming back by chance is paused. */

#include "base/log.h"
#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_evict.h"
#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_tier.h"
#include "record/collection.h"
#include "tests/support/far_memory.h"
#include "tests/support/temporary_folder.h"
#include "tiering/tier_haul.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    SHARDS = 4,
    LINE_MAX_BYTES = 128,
    SLICES_MAX = 4000,
    FAR_ROOM = 64 << 20,
    LARGE_BYTES = 300000,                 /* has a run of its own, so it can be pinned */
    PAGES_MAX_BYTES = SHARDS * 2 * 65536, /* a page more for each shard and size class in use: two here */
};

/* ---- a server ---- */

static struct in_process *start_with(size_t far_bytes, const struct tier_options *tier) {
    const struct command_family families[] = {
        {string_commands, string_command_count}, {bitmap_commands, bitmap_command_count},
        {key_commands, key_command_count},       {key_expiry_commands, key_expiry_command_count},
        {object_commands, object_command_count}, {database_commands, database_command_count}};
    const struct in_process_options options = {
        .families = families, .family_count = 6, .tier = tier, .far_bytes_max = far_bytes, .shards = SHARDS};
    struct in_process *server = in_process_create_with(&options);
    atomic_store(&server->keyspace->promotion_paused, true);
    return server;
}

static struct in_process *start(void) {
    return start_with(FAR_ROOM, NULL);
}

static struct in_process *start_with_tier(size_t far_bytes) {
    static const struct tier_options tier = {
        .path = "tier", .segment_bytes = 1 << 20, .size_bytes = 64 << 20, .memory_bytes = 64 << 20};
    return start_with(far_bytes, &tier);
}

/* Found without touching anything. */
static struct lookup lookup_of(const struct in_process *server, const char *name) {
    struct view view = {.keyspace = server->keyspace, .port = server->port, .now_ms = server->dispatcher->now_ms};
    struct key key = keyspace_key(server->keyspace, span_of_text(name));
    return keyspace_find(&view, &key);
}

static bool is_in(const struct in_process *server, const char *name, enum medium medium) {
    struct lookup lookup = lookup_of(server, name);
    assert_non_null(lookup.record);
    return ref_medium(lookup.ref) == medium;
}

static void run_each(struct in_process *server, const char *format, unsigned count) {
    char line[LINE_MAX_BYTES];
    for (unsigned i = 0; i < count; i++) {
        snprintf(line, sizeof(line), format, i, i);
        in_process_run(server, line);
    }
}

static void expect_each(struct in_process *server, unsigned count, unsigned step) {
    char line[LINE_MAX_BYTES], expected[LINE_MAX_BYTES];
    for (unsigned i = 0; i < count; i += step) {
        snprintf(line, sizeof(line), "GET key:%u", i);
        int length = snprintf(expected, sizeof(expected), "value-%u", i);
        struct span value = in_process_bulk(server, line);
        assert_int_equal(value.length, length);
        assert_memory_equal(value.data, expected, value.length);
    }
}

static void set_large(struct in_process *server, const char *key, size_t bytes, char first) {
    char *value = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) value[i] = (char)((i * i >> 7) + (unsigned char)first);
    assert_string_equal(in_process_run_with_value(server, "SET", key, span_of(value, bytes)), "+OK\r\n");
    free(value);
}

static void check_large(struct span value, size_t bytes, char first) {
    assert_int_equal(value.length, bytes);
    for (size_t i = 0; i < bytes; i++)
        if (value.data[i] != (char)((i * i >> 7) + (unsigned char)first)) fail_msg("byte %zu", i);
}

/* ---- going ---- */

static void the_coldest_records_go_to_far_memory(void **state) {
    (void)state;
    enum { COUNT = 40000 };
    char name[LINE_MAX_BYTES];
    unsigned hot = 0, cold = 0;
    size_t freed, total = 0;
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", COUNT);
    in_process_advance(server, 3600 * 1000);
    run_each(server, "GET key:%u", COUNT / 2);
    struct keyspace_usage before = far_usage(server);
    for (unsigned i = 0; i < 200; i++) {
        struct demotion demotion = {
            .now_ms = server->dispatcher->now_ms, .budget_ns = FAR_SLICE_NS, .wanted_bytes = 1000, .far_only = true};
        assert_int_equal(keyspace_demote(server->keyspace, i % SHARDS, NULL, &demotion, &freed), DEMOTION_DONE);
        total += freed;
    }
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "key:%u", i);
        if (!is_in(server, name, MEDIUM_FAR)) continue;
        if (i < COUNT / 2)
            hot++;
        else
            cold++;
    }
    print_message("%u hot and %u cold ones went\n", hot, cold);
    assert_true(cold > COUNT / 16);
    assert_true(hot * 3 < cold); /* before the histogram tells, whatever it comes to goes */
    struct keyspace_usage after = far_usage(server);
    assert_int_equal(after.far_records, hot + cold);
    assert_int_equal(after.counters.far_demotions, hot + cold);
    assert_int_equal(after.far_record_bytes, total);
    assert_int_equal(after.records, COUNT);
    assert_int_equal(after.record_bytes, before.record_bytes);
    assert_true(after.page_bytes >= after.record_bytes && far_pool_bytes(server) >= after.far_record_bytes);
    expect_each(server, COUNT, 7);
    in_process_destroy(server);
}

/* What is far already and has long been idle is no measure for what is to follow. */
static void new_records_follow_however_cold_the_far_ones_are(void **state) {
    (void)state;
    enum { COUNT = 40000 };
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", COUNT);
    (void)far_move_all(server);
    assert_int_equal(far_usage(server).far_records, COUNT);
    in_process_advance(server, 3600 * 1000);
    run_each(server, "SET more:%u value-%u", COUNT / 8);
    (void)far_move_all(server);
    assert_int_equal(far_usage(server).far_records, COUNT + COUNT / 8);
    in_process_destroy(server);
}

static void what_has_a_mapping_of_its_own_or_is_being_sent_stays(void **state) {
    (void)state;
    struct in_process *server = start();
    set_large(server, "mapped", 2 << 20, 'm');
    set_large(server, "sent", LARGE_BYTES, 's');
    set_large(server, "run", LARGE_BYTES, 'r');
    struct view view = {.keyspace = server->keyspace};
    struct lookup sent = lookup_of(server, "sent");
    assert_true(keyspace_pin(&view, &sent));
    (void)far_move_all(server);
    assert_true(is_in(server, "mapped", MEDIUM_DRAM));
    assert_true(is_in(server, "sent", MEDIUM_DRAM));
    assert_true(is_in(server, "run", MEDIUM_FAR));
    keyspace_unpin(server->keyspace, sent.shard->number, sent.record);
    (void)far_move_all(server);
    assert_true(is_in(server, "sent", MEDIUM_FAR));
    check_large(in_process_bulk(server, "GET sent"), LARGE_BYTES, 's');
    assert_int_equal(region_pool_usage(server->keyspace->far_pools[0]).large_bytes, 0);
    in_process_destroy(server);
}

static void what_finds_no_room_stays_near(void **state) {
    (void)state;
    enum { COUNT = 60000, ROOM = 1 << 20 };
    struct in_process *server = start_with(ROOM, NULL);
    run_each(server, "SET key:%u value-%u", COUNT);
    assert_int_equal(keyspace_far_room(server->keyspace), ROOM);
    (void)far_move_all(server);
    struct keyspace_usage usage = far_usage(server);
    assert_true(usage.far_records > COUNT / 8 && usage.far_records < COUNT / 4 * 3);
    assert_int_equal(keyspace_far_room(server->keyspace), 0);
    assert_true(far_pool_bytes(server) <= ROOM + PAGES_MAX_BYTES);
    expect_each(server, COUNT, 7);
    in_process_destroy(server);
}

static void it_goes_on_to_the_tier_when_far_memory_is_full(void **state) {
    (void)state;
    enum { COUNT = 60000, ROOM = 1 << 20 };
    struct in_process *server = start_with_tier(ROOM);
    run_each(server, "SET key:%u value-%u", COUNT);
    (void)far_move_all(server);
    uint64_t far = far_usage(server).far_records;
    assert_true(far > 0);
    assert_int_equal(far_usage(server).cold_records, 0);
    for (unsigned i = 0; i < SLICES_MAX && far_usage(server).cold_records < COUNT / 2; i++) {
        size_t freed;
        if (far_demote(server, i % SHARDS, false, &freed) == DEMOTION_BUSY) in_process_settle(server);
    }
    in_process_settle(server);
    struct keyspace_usage usage = far_usage(server);
    assert_true(usage.cold_records >= COUNT / 2);
    assert_int_equal(usage.records + usage.cold_records, COUNT);
    assert_true(far_pool_bytes(server) <= ROOM + PAGES_MAX_BYTES);
    in_process_demote(server, "key:*");
    in_process_settle(server);
    assert_int_equal(far_usage(server).far_records, 0);
    assert_int_equal(far_pool_bytes(server), 0);
    expect_each(server, COUNT, 7);
    in_process_destroy(server);
}

/* Where it is all memory that is short, far memory is no way out, and what leaves it counts. */
static void memory_is_freed_by_what_leaves_both(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    size_t freed, total = 0;
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", COUNT);
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        (void)far_demote(server, shard, false, &freed);
        assert_int_equal(freed, 0);
    }
    assert_int_equal(far_usage(server).far_records, 0);
    in_process_destroy(server);
    server = start_with_tier(FAR_ROOM);
    run_each(server, "SET key:%u value-%u", COUNT / 2);
    (void)far_move_all(server);
    run_each(server, "SET more:%u value-%u", COUNT / 2);
    size_t before = far_usage(server).record_bytes;
    for (unsigned i = 0; i < SLICES_MAX && far_usage(server).records > 0; i++) {
        if (far_demote(server, i % SHARDS, false, &freed) == DEMOTION_BUSY) in_process_settle(server);
        total += freed;
        assert_int_equal(total, before - far_usage(server).record_bytes);
    }
    assert_int_equal(total, before);
    expect_each(server, COUNT / 2, 7);
    in_process_destroy(server);
}

/* Two near nodes, far memory beside the first only, and as much of it as there is. */
static void only_shards_with_a_far_node_beside_theirs_use_it(void **state) {
    (void)state;
    const int nodes[] = {0, 0}, far_nodes[] = {0, -1};
    struct keyspace *keyspace = keyspace_create(&(struct keyspace_options){
        .shards = SHARDS, .databases = 1, .nodes = nodes, .node_count = 2, .far_nodes = far_nodes, .seed = 7});
    struct view view = {.keyspace = keyspace, .now_ms = IN_PROCESS_START_MS};
    char name[LINE_MAX_BYTES];
    assert_non_null(keyspace);
    assert_true(keyspace_far_room(keyspace) > 0);
    for (unsigned i = 0; i < 1000; i++) {
        int length = snprintf(name, sizeof(name), "key:%u", i);
        struct key key = keyspace_key(keyspace, span_of(name, (size_t)length));
        struct lookup lookup = keyspace_find_for_write(&view, &key);
        struct record_plan plan = {
            .type = RECORD_STRING, .value = SPAN_LITERAL("value"), .expiry_ms = RECORD_EXPIRY_NONE};
        assert_true(keyspace_store(&view, &key, &lookup, &plan));
    }
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        size_t freed;
        const struct demotion demotion = {
            .now_ms = view.now_ms, .budget_ns = 1000 * FAR_SLICE_NS, .wanted_bytes = SIZE_MAX, .far_only = true};
        uint64_t records = keyspace->shards[shard].heap.sums.live_objects;
        (void)keyspace_demote(keyspace, shard, NULL, &demotion, &freed);
        assert_true(records > 100);
        assert_int_equal(keyspace->shards[shard].heap.sums.live_objects, shard < SHARDS / 2 ? 0 : records);
    }
    assert_true(keyspace_validate(keyspace));
    keyspace_destroy(keyspace);
}

/* ---- being there ---- */

/* Runs the line; the key is far before, and afterwards where it was or in DRAM. */
static void change(struct in_process *server, const char *name, const char *line, bool in_place) {
    if (!is_in(server, name, MEDIUM_FAR)) (void)far_move_all(server);
    struct lookup before = lookup_of(server, name);
    assert_int_equal(ref_medium(before.ref), MEDIUM_FAR);
    in_process_run(server, line);
    struct lookup after = lookup_of(server, name);
    if (in_place && after.ref != before.ref) fail_msg("%s moved the record", line);
    if (!in_place && ref_medium(after.ref) != MEDIUM_DRAM) fail_msg("%s left the record in far memory", line);
}

static void a_far_record_is_changed_where_it_is_unless_it_grows(void **state) {
    (void)state;
    struct in_process *server = start();
    in_process_run(server, "MSET key value-1 number 1000 bits aaaaaaaa");
    in_process_run(server, "SET fading value-3 PX 5000");
    set_large(server, "large", 40000, 'l'); /* longer ones become pages when they are edited */
    (void)far_move_all(server);
    assert_int_equal(far_usage(server).far_records, 5);
    change(server, "key", "SET key value-2", true);
    change(server, "key", "SETRANGE key 0 VAL", true);
    change(server, "number", "INCRBY number 234", true);
    change(server, "bits", "SETBIT bits 1 0", true);
    change(server, "fading", "PEXPIRE fading 900000", true);
    change(server, "large", "SETRANGE large 10000 xyz", true);
    change(server, "key", "EXISTS key", true);
    in_process_expect(server, "GET key", "$7\r\nVALue-2\r\n");
    in_process_expect(server, "GET number", "$4\r\n1234\r\n");
    in_process_expect(server, "GET bits", "$8\r\n!aaaaaaa\r\n");
    in_process_expect(server, "PTTL fading", ":900000\r\n");
    in_process_expect(server, "GETRANGE large 10000 10002", "$3\r\nxyz\r\n");
    in_process_expect(server, "OBJECT MEDIUM key", "$3\r\nfar\r\n");
    change(server, "key", "APPEND key -and-much-more-than-its-size-class-has-room-for", false);
    change(server, "number", "SET number a-text-of-another-size-class", false);
    change(server, "bits", "PEXPIRE bits 1000000", false);
    change(server, "fading", "PERSIST fading", false);
    change(server, "large", "SETRANGE large 60000 xyz", false);
    in_process_expect(server, "OBJECT MEDIUM key", "$4\r\ndram\r\n");
    in_process_expect(server, "STRLEN key", ":54\r\n");
    in_process_expect(server, "GET number", "$28\r\na-text-of-another-size-class\r\n");
    in_process_expect(server, "PTTL bits", ":1000000\r\n");
    in_process_expect(server, "GET fading", "$7\r\nvalue-3\r\n");
    in_process_expect(server, "GETRANGE large 10000 10002", "$3\r\nxyz\r\n");
    in_process_expect(server, "STRLEN large", ":60003\r\n");
    assert_int_equal(far_usage(server).records, 5);
    in_process_destroy(server);
}

static void hits_tell_where_the_record_was(void **state) {
    (void)state;
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", 100);
    (void)far_move_all(server);
    in_process_run(server, "SET near value");
    run_each(server, "GET key:%u", 40);
    in_process_run(server, "MGET near key:50 key:51 absent");
    struct keyspace_usage usage = far_usage(server);
    assert_int_equal(usage.counters.hits, 43);
    assert_int_equal(usage.counters.far_hits, 42);
    assert_int_equal(usage.counters.misses, 1);
    in_process_destroy(server);
}

/* ---- coming back ---- */

static void one_use_in_sixteen_brings_a_record_back(void **state) {
    (void)state;
    enum { COUNT = 16000 };
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", COUNT);
    (void)far_move_all(server);
    assert_int_equal(far_usage(server).far_records, COUNT);
    run_each(server, "GET key:%u", COUNT);
    assert_int_equal(far_usage(server).far_records, COUNT); /* paused */
    atomic_store(&server->keyspace->promotion_paused, false);
    run_each(server, "PTTL key:%u", COUNT);
    run_each(server, "OBJECT MEDIUM key:%u", COUNT);
    assert_int_equal(far_usage(server).far_records, COUNT); /* looking is not using */
    run_each(server, "GET key:%u", COUNT);
    struct keyspace_usage usage = far_usage(server);
    print_message("%u of %u came back\n", (unsigned)(COUNT - usage.far_records), COUNT);
    assert_in_range(COUNT - usage.far_records, COUNT / 16 - COUNT / 100, COUNT / 16 + COUNT / 100);
    assert_int_equal(usage.counters.far_promotions, COUNT - usage.far_records);
    assert_int_equal(usage.records, COUNT);
    assert_true(keyspace_validate(server->keyspace));
    for (unsigned i = 0; i < 400; i++) in_process_run(server, "GET key:7");
    assert_true(is_in(server, "key:7", MEDIUM_DRAM));
    expect_each(server, COUNT, 7);
    in_process_destroy(server);
}

/* The one that came back is hot; it is others that go when near memory is short again. */
static void use_in_far_memory_counts_as_use(void **state) {
    (void)state;
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", 100);
    (void)far_move_all(server);
    in_process_advance(server, 1000 * 1000);
    in_process_expect(server, "OBJECT IDLETIME key:7", ":1000\r\n");
    in_process_run(server, "GET key:7");
    in_process_expect(server, "OBJECT IDLETIME key:7", ":0\r\n");
    in_process_expect(server, "OBJECT IDLETIME key:8", ":1000\r\n");
    in_process_expect(server, "OBJECT MEDIUM key:7", "$3\r\nfar\r\n");
    in_process_destroy(server);
}

/* ---- leaving ---- */

static void sweep(struct in_process *server) {
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_sweep(server->keyspace, shard, server->dispatcher->now_ms, FAR_SLICE_NS, NULL) >= 0) continue;
}

static void every_way_of_leaving_gives_the_memory_back(void **state) {
    (void)state;
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", 3000);
    run_each(server, "SET fading:%u value-%u PX 5000", 3000);
    run_each(server, "SET flushed:%u value-%u", 3000);
    set_large(server, "large", LARGE_BYTES, 'l');
    (void)far_move_all(server);
    assert_int_equal(far_usage(server).far_records, 9001);
    run_each(server, "DEL key:%u", 3000);
    assert_int_equal(far_usage(server).far_records, 6001);
    in_process_advance(server, 6000);
    in_process_expect(server, "GET fading:7", "$-1\r\n");
    assert_int_equal(far_usage(server).far_records, 6000);
    sweep(server);
    assert_int_equal(far_usage(server).far_records, 3001);
    assert_int_equal(far_usage(server).counters.expired, 3000);
    set_large(server, "large", 2 * LARGE_BYTES, 'm');
    assert_int_equal(far_usage(server).far_records, 3000);
    in_process_run(server, "FLUSHALL");
    in_process_expect(server, "DBSIZE", ":0\r\n");
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(server->keyspace, shard, FAR_SLICE_NS)) continue;
    struct keyspace_usage usage = far_usage(server);
    assert_int_equal(usage.far_records, 0);
    assert_int_equal(usage.far_record_bytes, 0);
    assert_int_equal(usage.page_bytes, 0);
    assert_int_equal(far_pool_bytes(server), 0);
    assert_true(usage.dirty_bytes > LARGE_BYTES);
    (void)region_pool_purge(server->keyspace->far_pools[0], 0, SIZE_MAX);
    assert_int_equal(region_pool_usage(server->keyspace->far_pools[0]).dirty_bytes, 0);
    in_process_destroy(server);
}

static void far_records_are_evicted_as_others_are(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    struct in_process *server = start();
    struct eviction_pool pool = {0};
    struct random random;
    const struct eviction eviction = {.keyspace = server->keyspace,
                                      .pool = &pool,
                                      .random = &random,
                                      .now_ms = IN_PROCESS_START_MS + 1000 * 1000,
                                      .detach_bytes = 1 << 20};
    const struct eviction_rule rule = {.order = EVICT_BY_IDLE_TIME, .samples = 5};
    random_seed(&random, 1);
    run_each(server, "SET key:%u value-%u", COUNT);
    set_large(server, "large", LARGE_BYTES, 'l');
    (void)far_move_all(server);
    in_process_advance(server, 1000 * 1000);
    run_each(server, "SET near:%u value-%u", COUNT);
    for (unsigned i = 0; i <= COUNT; i++) assert_true(keyspace_evict(&eviction, &rule).bytes > 0);
    print_message("%u far ones are left\n", (unsigned)far_usage(server).far_records);
    assert_true(far_usage(server).far_records < COUNT / 10);
    while (far_usage(server).records > 0) assert_true(keyspace_evict(&eviction, &rule).bytes > 0);
    assert_true(keyspace_evict(&eviction, &rule).exhausted);
    assert_int_equal(far_pool_bytes(server), 0);
    in_process_destroy(server);
}

static void sparse_pages_of_far_memory_are_emptied(void **state) {
    (void)state;
    enum { COUNT = 80000, KEPT = 8 };
    char line[LINE_MAX_BYTES];
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", COUNT);
    (void)far_move_all(server);
    (void)far_compact(server);
    size_t before = far_pool_bytes(server);
    uint64_t moved = far_usage(server).counters.moved;
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(line, sizeof(line), "DEL key:%u", i);
        if (i % KEPT) in_process_run(server, line);
    }
    assert_true(far_compact(server) > COUNT / KEPT / 4);
    assert_true(far_usage(server).counters.moved > moved);
    assert_true(far_pool_bytes(server) < before / 3);
    assert_int_equal(far_usage(server).far_records, COUNT / KEPT);
    expect_each(server, COUNT, KEPT);
    assert_true(is_in(server, "key:8", MEDIUM_FAR));
    in_process_destroy(server);
}

static void a_far_value_that_is_being_sent_keeps_its_bytes(void **state) {
    (void)state;
    static const char *const lines[] = {"DEL large", "SETRANGE large 5 xyz", "SET large small", "FLUSHALL",
                                        "GET large"};
    struct in_process *server = start_with_tier(FAR_ROOM);
    struct view view = {.keyspace = server->keyspace};
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        size_t freed;
        set_large(server, "large", LARGE_BYTES, 'l');
        (void)far_move_all(server);
        struct lookup lookup = lookup_of(server, "large");
        assert_int_equal(ref_medium(lookup.ref), MEDIUM_FAR);
        assert_true(keyspace_pin(&view, &lookup));
        (void)far_demote(server, lookup.shard->number, false, &freed);
        assert_true(is_in(server, "large", MEDIUM_FAR));
        in_process_run(server, lines[i]);
        for (uint32_t shard = 0; shard < SHARDS; shard++)
            while (keyspace_drain(server->keyspace, shard, FAR_SLICE_NS)) continue;
        set_large(server, "other", LARGE_BYTES, 'o'); /* whatever was freed is used again */
        (void)far_move_all(server);
        check_large(record_value(lookup.record), LARGE_BYTES, 'l');
        keyspace_unpin(server->keyspace, lookup.shard->number, lookup.record);
        in_process_run(server, "DEL large other");
        assert_int_equal(far_pool_bytes(server), 0);
    }
    in_process_destroy(server);
}

/* ---- anything in any order ---- */

enum { MODEL_KEYS = 300, MODEL_STEPS = 40000, MODEL_VALUE_MAX = 40000, MODEL_PINS = 4 };

struct model {
    struct in_process *server;
    struct random random;
    struct {
        char *data; /* NULL: absent */
        size_t length;
        int64_t expiry_ms;
    } keys[MODEL_KEYS];
    struct {
        struct record *record; /* NULL: none */
        uint32_t shard;
        char *copy; /* of the value */
        size_t length;
    } pins[MODEL_PINS];
    uint64_t far_max, cold_max;
};

static unsigned below(struct model *model, unsigned bound) {
    return (unsigned)random_below(&model->random, bound);
}

static void forget(struct model *model, unsigned i) {
    free(model->keys[i].data);
    model->keys[i].data = NULL;
}

static bool is_gone(const struct model *model, unsigned i) {
    return !model->keys[i].data || (model->keys[i].expiry_ms != RECORD_EXPIRY_NONE &&
                                    model->keys[i].expiry_ms <= model->server->dispatcher->now_ms);
}

static void model_set(struct model *model, unsigned i) {
    char name[LINE_MAX_BYTES];
    size_t length = below(model, 20) ? below(model, below(model, 4) ? 200 : MODEL_VALUE_MAX) : LARGE_BYTES;
    /* A first byte that is no digit: an encoding is not the matter here. */
    char *value = malloc(length + 1);
    memset(value, 'a' + (int)below(model, 26), length + 1);
    snprintf(name, sizeof(name), "key:%u", i);
    assert_string_equal(in_process_run_with_value(model->server, "SET", name, span_of(value, length)), "+OK\r\n");
    forget(model, i);
    model->keys[i].data = value;
    model->keys[i].length = length;
    model->keys[i].expiry_ms = RECORD_EXPIRY_NONE;
}

static void model_set_range(struct model *model, unsigned i) {
    char line[LINE_MAX_BYTES];
    size_t length = model->keys[i].length, at = length ? below(model, (unsigned)length + 20) : 0;
    if (is_gone(model, i)) return;
    snprintf(line, sizeof(line), "SETRANGE key:%u %zu XYZ", i, at);
    in_process_run(model->server, line);
    if (at + 3 > length) {
        model->keys[i].data = realloc(model->keys[i].data, at + 4);
        memset(model->keys[i].data + length, 0, at + 3 - length);
        model->keys[i].length = at + 3;
    }
    memcpy(model->keys[i].data + at, "XYZ", 3);
}

static void model_expire(struct model *model, unsigned i) {
    char line[LINE_MAX_BYTES];
    unsigned ms = 1 + below(model, 20000);
    if (is_gone(model, i)) return;
    snprintf(line, sizeof(line), "PEXPIRE key:%u %u", i, ms);
    in_process_expect(model->server, line, ":1\r\n");
    model->keys[i].expiry_ms = model->server->dispatcher->now_ms + ms;
}

static void model_get(struct model *model, unsigned i) {
    char line[LINE_MAX_BYTES];
    snprintf(line, sizeof(line), "GET key:%u", i);
    if (is_gone(model, i)) {
        in_process_expect(model->server, line, "$-1\r\n");
        return;
    }
    struct span value = in_process_bulk(model->server, line);
    assert_int_equal(value.length, model->keys[i].length);
    assert_memory_equal(value.data, model->keys[i].data, value.length);
}

/* Begins to send a value, or ends it. */
static void model_pin(struct model *model, unsigned i) {
    char name[LINE_MAX_BYTES];
    unsigned pin = below(model, MODEL_PINS);
    struct view view = {.keyspace = model->server->keyspace};
    if (model->pins[pin].record) {
        assert_memory_equal(record_value(model->pins[pin].record).data, model->pins[pin].copy, model->pins[pin].length);
        keyspace_unpin(model->server->keyspace, model->pins[pin].shard, model->pins[pin].record);
        free(model->pins[pin].copy);
        model->pins[pin].record = NULL;
        return;
    }
    snprintf(name, sizeof(name), "key:%u", i);
    struct lookup lookup = lookup_of(model->server, name);
    if (!lookup.record || !keyspace_pin(&view, &lookup)) return;
    model->pins[pin].record = lookup.record;
    model->pins[pin].shard = lookup.shard->number;
    model->pins[pin].length = record_value_length(lookup.record);
    model->pins[pin].copy = malloc(model->pins[pin].length);
    memcpy(model->pins[pin].copy, record_value(lookup.record).data, model->pins[pin].length);
}

static void model_flush(struct model *model) {
    in_process_run(model->server, "FLUSHALL");
    for (unsigned i = 0; i < MODEL_KEYS; i++) forget(model, i);
}

static void model_count_pages(const struct collection *collection, uint64_t records[3], size_t bytes[3]) {
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        const struct page_table *table = &collection->parts[part];
        for (uint32_t i = 0; i < table->end; i++) {
            if (!page_exists(table, i)) continue;
            uint64_t ref = page_ref(table, i);
            unsigned medium = ref_is_cold(ref) ? 2 : ref_medium(ref) == MEDIUM_FAR;
            records[medium]++;
            if (medium < 2) bytes[medium] += heap_size_for(record_size(ref_record(ref)));
        }
    }
}

/* What a haul has pinned, or is still freeing, is in the heaps although no key leads to it. */
static void end_hauls(struct in_process *server) {
    const struct tier_haul_owner *owner = tier_haul_owner(server->port);
    size_t freed;
    while (owner->record || owner->left) {
        (void)keyspace_haul(server->keyspace, server->port, FAR_SLICE_NS, &freed);
        in_process_settle(server);
    }
}

/* The sums of the heaps are those of the records that the index leads to. */
static void model_count(struct model *model) {
    uint64_t records[3] = {0};
    size_t bytes[3] = {0};
    char name[LINE_MAX_BYTES];
    if (model->server->port) end_hauls(model->server);
    sweep(model->server);
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(model->server->keyspace, shard, FAR_SLICE_NS)) continue;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        snprintf(name, sizeof(name), "key:%u", i);
        struct lookup lookup = lookup_of(model->server, name);
        if (!lookup.record) continue;
        unsigned medium = lookup_is_cold(&lookup) ? 2 : ref_medium(lookup.ref) == MEDIUM_FAR;
        records[medium]++;
        bytes[medium] += heap_size_for(record_size(lookup.record));
        if (record_is_paged(lookup.record)) model_count_pages(collection_of(lookup.record), records, bytes);
    }
    struct keyspace_usage usage = far_usage(model->server);
    assert_int_equal(usage.far_records, records[1]);
    assert_int_equal(usage.far_record_bytes, bytes[1]);
    assert_int_equal(usage.cold_records, records[2]);
    assert_int_equal(usage.records, records[0] + records[1]);
    assert_int_equal(usage.record_bytes, bytes[0] + bytes[1]);
    if (usage.far_records > model->far_max) model->far_max = usage.far_records;
    if (usage.cold_records > model->cold_max) model->cold_max = usage.cold_records;
}

static void model_step(struct model *model) {
    struct in_process *server = model->server;
    unsigned i = below(model, MODEL_KEYS), action = below(model, 1000);
    char line[LINE_MAX_BYTES];
    size_t freed;
    if (action < 250)
        model_set(model, i);
    else if (action < 550)
        model_get(model, i);
    else if (action < 650)
        model_set_range(model, i);
    else if (action < 700)
        model_expire(model, i);
    else if (action < 740)
        model_pin(model, i);
    else if (action < 790) {
        snprintf(line, sizeof(line), "DEL key:%u", i);
        in_process_expect(server, line, is_gone(model, i) ? ":0\r\n" : ":1\r\n");
        forget(model, i);
    } else if (action < 940) {
        bool far_only = !server->port || below(model, 3);
        if (far_demote(server, below(model, SHARDS), far_only, &freed) == DEMOTION_BUSY) in_process_settle(server);
    } else if (action < 970)
        (void)keyspace_compact(server->keyspace, below(model, SHARDS), 50);
    else if (action < 995)
        in_process_advance(server, below(model, 2000));
    else if (action < 999)
        model_count(model);
    else
        model_flush(model);
    if (server->port) in_process_turn(server);
}

static void run_model(struct in_process *server) {
    struct model model = {.server = server};
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20261121;
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&model.random, seed);
    atomic_store(&server->keyspace->promotion_paused, false);
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        model_step(&model);
        if (step % 500 == 0) assert_true(keyspace_validate(server->keyspace));
    }
    for (unsigned i = 0; i < MODEL_KEYS; i++) model_get(&model, i);
    model_count(&model);
    struct keyspace_usage usage = far_usage(server);
    print_message("at most %llu far and %llu on the tier, %llu went to far memory, %llu came back\n",
                  (unsigned long long)model.far_max, (unsigned long long)model.cold_max,
                  (unsigned long long)usage.counters.far_demotions, (unsigned long long)usage.counters.far_promotions);
    assert_true(model.far_max > 20 && usage.counters.far_promotions > 10);
    assert_int_equal(model.cold_max > 0, server->port != NULL);
    for (unsigned i = 0; i < MODEL_KEYS; i++) forget(&model, i);
    for (unsigned i = 0; i < MODEL_PINS; i++) {
        if (!model.pins[i].record) continue;
        keyspace_unpin(server->keyspace, model.pins[i].shard, model.pins[i].record);
        free(model.pins[i].copy);
    }
    in_process_destroy(server);
}

static void random_changes_with_far_memory(void **state) {
    (void)state;
    run_model(start_with(4 << 20, NULL));
}

static void random_changes_with_far_memory_and_a_tier(void **state) {
    (void)state;
    run_model(start_with_tier(4 << 20));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_coldest_records_go_to_far_memory),
        cmocka_unit_test(new_records_follow_however_cold_the_far_ones_are),
        cmocka_unit_test(what_has_a_mapping_of_its_own_or_is_being_sent_stays),
        cmocka_unit_test(what_finds_no_room_stays_near),
        cmocka_unit_test(it_goes_on_to_the_tier_when_far_memory_is_full),
        cmocka_unit_test(memory_is_freed_by_what_leaves_both),
        cmocka_unit_test(only_shards_with_a_far_node_beside_theirs_use_it),
        cmocka_unit_test(a_far_record_is_changed_where_it_is_unless_it_grows),
        cmocka_unit_test(hits_tell_where_the_record_was),
        cmocka_unit_test(one_use_in_sixteen_brings_a_record_back),
        cmocka_unit_test(use_in_far_memory_counts_as_use),
        cmocka_unit_test(every_way_of_leaving_gives_the_memory_back),
        cmocka_unit_test(far_records_are_evicted_as_others_are),
        cmocka_unit_test(sparse_pages_of_far_memory_are_emptied),
        cmocka_unit_test(a_far_value_that_is_being_sent_keeps_its_bytes),
        cmocka_unit_test(random_changes_with_far_memory),
        cmocka_unit_test(random_changes_with_far_memory_and_a_tier),
    };
    log_set_level(LOG_LEVEL_NOTHING);
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
