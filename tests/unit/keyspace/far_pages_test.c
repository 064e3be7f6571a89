/* Pages of big collections in far memory, which here is of the same node: that they go there and come back, are read
 * and changed where they lie, and that every way of leaving gives their memory back. The model is a second server
 * without far memory, which is told the same commands and has to answer the same. */

#include "base/log.h"
#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_tier.h"
#include "persist/snapshot.h"
#include "record/collection.h"
#include "tests/support/far_memory.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    SHARDS = 4,
    LINE_BYTES = 256,
    FAR_ROOM = 256 << 20,
};

static struct in_process *start_with(size_t far_bytes, const struct tier_options *tier) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {bitmap_commands, bitmap_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count},
                                              {database_commands, database_command_count},
                                              {hash_commands, hash_command_count},
                                              {list_commands, list_command_count},
                                              {set_commands, set_command_count},
                                              {sorted_set_commands, sorted_set_command_count}};
    const struct in_process_options options = {.families = families,
                                               .family_count = sizeof(families) / sizeof(families[0]),
                                               .tier = tier,
                                               .far_bytes_max = far_bytes,
                                               .shards = SHARDS};
    return in_process_create_with(&options);
}

static struct in_process *start(void) {
    return start_with(FAR_ROOM, NULL);
}

static void drain(struct in_process *server) {
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(server->keyspace, shard, FAR_SLICE_NS)) continue;
}

static struct collection *collection_at(const struct in_process *server, const char *name) {
    struct view view = {.keyspace = server->keyspace, .port = server->port, .now_ms = server->dispatcher->now_ms};
    struct key key = keyspace_key(server->keyspace, span_of_text(name));
    struct lookup lookup = keyspace_find(&view, &key);
    assert_true(lookup.record && record_is_paged(lookup.record));
    return collection_of(lookup.record);
}

static unsigned far_pages(const struct collection *collection) {
    unsigned far = 0;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        const struct page_table *table = &collection->parts[part];
        for (uint32_t i = 0; i < table->end; i++)
            far += page_exists(table, i) && ref_medium(page_ref(table, i)) == MEDIUM_FAR;
    }
    return far;
}

static unsigned pages_of(const struct collection *collection) {
    return page_table_live(&collection->parts[0]) + page_table_live(&collection->parts[1]);
}

static void fill_hash(struct in_process *server, const char *name, unsigned fields, unsigned width) {
    char line[LINE_BYTES];
    for (unsigned i = 0; i < fields; i++) {
        snprintf(line, sizeof(line), "HSET %s field:%u %0*u", name, i, (int)width, i);
        in_process_expect(server, line, ":1\r\n");
    }
}

static void expect_hash(struct in_process *server, const char *name, unsigned fields, unsigned width, unsigned step) {
    char line[LINE_BYTES], expected[LINE_BYTES];
    for (unsigned i = 0; i < fields; i += step) {
        snprintf(line, sizeof(line), "HGET %s field:%u", name, i);
        int length = snprintf(expected, sizeof(expected), "%0*u", (int)width, i);
        struct span value = in_process_bulk(server, line);
        assert_int_equal(value.length, length);
        assert_memory_equal(value.data, expected, value.length);
    }
}

/* ---- a snapshot that reads all pages: the sanitizers look on ---- */

static bool count_record(void *ctx, unsigned lane, uint32_t database, const struct record *image) {
    uint64_t *given = ctx;
    (void)lane;
    (void)database;
    (void)image;
    ++*given;
    return true;
}

static bool read_collection(void *ctx, unsigned lane, uint32_t database, struct snapshot_collection *value) {
    uint64_t *given = ctx;
    (void)lane;
    (void)database;
    for (bool whole = false; !whole;) {
        struct page_access *access = snapshot_collection_lock(value);
        whole = true;
        for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
            struct page_table *table = &value->root->parts[part];
            for (uint32_t i = 0; i < table->end; i++) {
                if (!page_exists(table, i)) continue;
                struct span payload = page_read(access, table, i);
                whole = whole && payload.data;
                for (size_t at = 0; payload.data && at < payload.length; at += 64) *given += payload.data[at] != '\0';
            }
        }
        snapshot_collection_unlock(value);
        if (!whole && !snapshot_collection_fetch(value)) return false;
    }
    return true;
}

/* `given` counts what it gives. */
static struct snapshot *begin_snapshot(struct in_process *server, uint64_t *given) {
    const struct snapshot_options options = {
        .keyspace = server->keyspace,
        .sink = {.ctx = given, .record = count_record, .collection = read_collection},
        .stepped = true};
    struct snapshot *snapshot = snapshot_create(&options);
    assert_true(snapshot && snapshot_begin(snapshot));
    return snapshot;
}

/* ---- one after the other ---- */

static void pages_go_and_are_read_and_changed_where_they_lie(void **state) {
    (void)state;
    enum { FIELDS = 20000, WIDTH = 20 };
    struct in_process *server = start();
    atomic_store(&server->keyspace->promotion_paused, true);
    fill_hash(server, "hash", FIELDS, WIDTH);
    struct collection *hash = collection_at(server, "hash");
    size_t bytes = far_usage(server).record_bytes;
    (void)far_move_all(server);
    assert_int_equal(far_pages(hash), pages_of(hash));
    struct keyspace_usage usage = far_usage(server);
    assert_int_equal(usage.far_records, pages_of(hash));
    assert_int_equal(usage.record_bytes, bytes);
    assert_true(usage.far_record_bytes > bytes / 10 * 9);
    expect_hash(server, "hash", FIELDS, WIDTH, 1);
    in_process_expect(server, "HSET hash field:7 00000000000000000008", ":0\r\n"); /* as long as before */
    drain(server);
    assert_int_equal(far_pages(hash), pages_of(hash));
    in_process_expect(server, "HGET hash field:7", "$20\r\n00000000000000000008\r\n");
    in_process_expect(server, "DEL hash", ":1\r\n");
    drain(server);
    assert_int_equal(far_pool_bytes(server), 0);
    in_process_destroy(server);
}

static void pages_that_are_used_come_back_between_commands(void **state) {
    (void)state;
    enum { FIELDS = 20000, WIDTH = 20 };
    struct in_process *server = start();
    fill_hash(server, "hash", FIELDS, WIDTH);
    (void)far_move_all(server);
    struct collection *hash = collection_at(server, "hash");
    assert_int_equal(far_pages(hash), pages_of(hash));
    expect_hash(server, "hash", FIELDS, WIDTH, 2);
    assert_int_equal(far_pages(hash), pages_of(hash));
    drain(server);
    uint64_t back = far_usage(server).counters.far_promotions;
    assert_int_equal(back, pages_of(hash) - far_pages(hash));
    assert_true(back > 0 && back <= SHARD_FAR_USED);
    expect_hash(server, "hash", FIELDS, WIDTH, 3);
    atomic_store(&server->keyspace->promotion_paused, true);
    drain(server);
    assert_int_equal(far_usage(server).counters.far_promotions, back);
    /* What was used may be gone before it comes back. */
    atomic_store(&server->keyspace->promotion_paused, false);
    expect_hash(server, "hash", FIELDS, WIDTH, 3);
    in_process_expect(server, "DEL hash", ":1\r\n");
    drain(server);
    assert_int_equal(far_pool_bytes(server), 0);
    in_process_destroy(server);
}

/* Its pages, near and far, go with it to other shards without being touched. */
static void a_big_collection_has_a_far_heap_of_its_own(void **state) {
    (void)state;
    enum { FIELDS = 60000, WIDTH = 100 };
    static const char *const names[] = {"hash", "another", "third", "fourth", "fifth", "hash"};
    char line[LINE_BYTES];
    struct in_process *server = start();
    atomic_store(&server->keyspace->promotion_paused, true);
    fill_hash(server, "hash", FIELDS, WIDTH);
    struct collection *hash = collection_at(server, "hash");
    (void)far_move_all(server); /* to the shard's heap */
    assert_int_equal(far_pages(hash), pages_of(hash));
    (void)far_compact(server);
    assert_non_null(hash->heap); /* which they were carried to */
    assert_int_equal(far_pages(hash), 0);
    (void)far_move_all(server);
    assert_int_equal(far_pages(hash), pages_of(hash));
    assert_int_equal(hash->heap->far->sums.live_objects, pages_of(hash));
    for (unsigned i = 0; i + 1 < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(line, sizeof(line), "RENAME %s %s", names[i], names[i + 1]);
        in_process_expect(server, line, "+OK\r\n");
        assert_int_equal(far_pages(hash), pages_of(hash));
        expect_hash(server, names[i + 1], FIELDS, WIDTH, 97);
    }
    in_process_expect(server, "COPY hash copy", ":1\r\n");
    for (unsigned i = 0; i < FIELDS; i++) {
        if (i % 8 == 0) continue;
        snprintf(line, sizeof(line), "HDEL hash field:%u", i);
        in_process_expect(server, line, ":1\r\n");
    }
    (void)far_compact(server);
    expect_hash(server, "hash", FIELDS, WIDTH, 8);
    expect_hash(server, "copy", FIELDS, WIDTH, 11);
    (void)far_move_all(server);
    in_process_expect(server, "DEL hash copy", ":2\r\n");
    drain(server);
    assert_int_equal(far_pool_bytes(server), 0);
    in_process_destroy(server);
}

/* The frozen one outlives the living one. */
static void pages_that_a_snapshot_keeps_are_freed_with_it(void **state) {
    (void)state;
    enum { FIELDS = 60000, WIDTH = 100 };
    uint64_t given = 0;
    struct in_process *server = start();
    atomic_store(&server->keyspace->promotion_paused, true);
    fill_hash(server, "hash", FIELDS, WIDTH);
    (void)far_compact(server);
    struct collection *hash = collection_at(server, "hash");
    assert_true(hash->heap && !hash->heap->far);
    struct snapshot *snapshot = begin_snapshot(server, &given);
    in_process_expect(server, "HSET hash another field", ":1\r\n");
    struct collection *frozen = hash->frozen;
    assert_non_null(frozen);
    (void)far_move_all(server);
    assert_true(far_pages(frozen) + 2 > pages_of(frozen)); /* all but what has changed */
    in_process_expect(server, "DEL hash", ":1\r\n");
    drain(server);
    assert_int_equal(far_pages(frozen), frozen->heap->far->sums.live_objects);
    while (snapshot_step(snapshot, 0)) continue;
    snapshot_destroy(snapshot);
    assert_true(given > FIELDS);
    drain(server);
    assert_int_equal(far_pool_bytes(server), 0);
    in_process_destroy(server);
}

/* ---- anything in any order ---- */

enum { MODEL_STEPS = 60000, MODEL_KEYS = 3 };

struct model {
    struct in_process *server, *plain; /* with far memory and without */
    struct random random;
    struct snapshot *snapshot;
    uint64_t far_max, given;
};

static unsigned below(struct model *model, unsigned bound) {
    return (unsigned)random_below(&model->random, bound);
}

static void run_both(struct model *model, const char *line) {
    const char *expected = in_process_run(model->plain, line);
    const char *reply = in_process_run(model->server, line);
    if (model->server->reply_length != model->plain->reply_length ||
        memcmp(reply, expected, model->plain->reply_length) != 0)
        fail_msg("%s: %.60s instead of %.60s", line, reply, expected);
}

static void run_command(struct model *model) {
    char line[LINE_BYTES];
    unsigned key = below(model, MODEL_KEYS), one = below(model, 4000), two = below(model, 4000);
    int width = (int)below(model, 60);
    switch (below(model, 20)) {
    case 0:
    case 1: snprintf(line, sizeof(line), "HSET hash:%u field:%u %0*u", key, one, width, two); break;
    case 2: snprintf(line, sizeof(line), "HGET hash:%u field:%u", key, one); break;
    case 3: snprintf(line, sizeof(line), "HDEL hash:%u field:%u", key, one); break;
    case 4:
    case 5: snprintf(line, sizeof(line), "ZADD sorted:%u %u member:%0*u", key, two, width, one); break;
    case 6: snprintf(line, sizeof(line), "ZRANGE sorted:%u %u %u WITHSCORES", key, one, one + 50); break;
    case 7: snprintf(line, sizeof(line), "ZREMRANGEBYRANK sorted:%u %u %u", key, one, one + two % 40); break;
    case 8:
    case 9: snprintf(line, sizeof(line), "RPUSH list:%u %0*u %u %u", key, width, one, one, two); break;
    case 10: snprintf(line, sizeof(line), "LRANGE list:%u %u %u", key, one, one + 30); break;
    case 11: snprintf(line, sizeof(line), "LPOP list:%u %u", key, one % 6); break;
    case 12: snprintf(line, sizeof(line), "LSET list:%u %u %0*u", key, one, width, two); break;
    case 13: snprintf(line, sizeof(line), "SADD set:%u %0*u", key, width, one); break;
    case 14: snprintf(line, sizeof(line), "SREM set:%u %0*u", key, width, one); break;
    case 15: snprintf(line, sizeof(line), "SETRANGE bytes:%u %u %0*u", key, one * 60, width, two); break;
    case 16: snprintf(line, sizeof(line), "GETRANGE bytes:%u %u %u", key, one * 60, one * 60 + 300); break;
    case 17: snprintf(line, sizeof(line), "LINDEX list:%u %u", key, one); break;
    case 18:
        if (below(model, 8)) return;
        snprintf(line, sizeof(line), "RENAME hash:%u hash:%u", key, two % MODEL_KEYS);
        break;
    default:
        if (below(model, 40)) return;
        snprintf(line, sizeof(line), below(model, 2) ? "DEL sorted:%u hash:%u" : "COPY bytes:%u bytes:%u REPLACE", key,
                 two % MODEL_KEYS);
    }
    run_both(model, line);
}

static void step_snapshot(struct model *model) {
    if (!model->snapshot) {
        model->snapshot = begin_snapshot(model->server, &model->given);
    } else if (!snapshot_step(model->snapshot, 0)) {
        snapshot_destroy(model->snapshot);
        model->snapshot = NULL;
    }
}

static void model_step(struct model *model) {
    struct in_process *server = model->server;
    unsigned action = below(model, 1000);
    size_t freed;
    if (action < 800) {
        run_command(model);
    } else if (action < 900) {
        bool far_only = !server->port || below(model, 3);
        if (far_demote(server, below(model, SHARDS), far_only, &freed) == DEMOTION_BUSY) in_process_settle(server);
    } else if (action < 940) {
        (void)keyspace_compact(server->keyspace, below(model, SHARDS), 50);
    } else if (action < 970) {
        (void)keyspace_drain(server->keyspace, below(model, SHARDS), FAR_SLICE_NS);
    } else if (action < 990) {
        step_snapshot(model);
    } else {
        in_process_advance(server, 1000);
        in_process_advance(model->plain, 1000);
    }
    if (server->port) in_process_turn(server);
}

static void run_model(struct in_process *server) {
    struct model model = {.server = server, .plain = start_with(0, NULL)};
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20261122;
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&model.random, seed);
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        model_step(&model);
        uint64_t far = step % 100 ? 0 : far_usage(server).far_records;
        if (far > model.far_max) model.far_max = far;
        if (step % 1000 == 0) assert_true(keyspace_validate(server->keyspace));
    }
    while (model.snapshot) step_snapshot(&model);
    struct keyspace_usage usage = far_usage(server);
    print_message("at most %llu far, %llu went to far memory, %llu came back, %llu were demoted\n",
                  (unsigned long long)model.far_max, (unsigned long long)usage.counters.far_demotions,
                  (unsigned long long)usage.counters.far_promotions, (unsigned long long)usage.counters.demotions);
    assert_true(model.far_max > 40 && usage.counters.far_promotions > 100 && model.given > 1000);
    in_process_run(server, "FLUSHALL");
    for (unsigned i = 0; i < 100; i++) drain(server);
    if (server->port) in_process_settle(server);
    assert_int_equal(far_pool_bytes(server), 0);
    in_process_destroy(server);
    in_process_destroy(model.plain);
}

static void random_changes_with_far_memory(void **state) {
    (void)state;
    run_model(start());
}

static void random_changes_with_far_memory_and_a_tier(void **state) {
    (void)state;
    static const struct tier_options tier = {
        .path = "tier", .segment_bytes = 1 << 20, .size_bytes = 64 << 20, .memory_bytes = 64 << 20};
    run_model(start_with(FAR_ROOM, &tier));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_go_and_are_read_and_changed_where_they_lie),
        cmocka_unit_test(pages_that_are_used_come_back_between_commands),
        cmocka_unit_test(a_big_collection_has_a_far_heap_of_its_own),
        cmocka_unit_test(pages_that_a_snapshot_keeps_are_freed_with_it),
        cmocka_unit_test(random_changes_with_far_memory),
        cmocka_unit_test(random_changes_with_far_memory_and_a_tier),
    };
    log_set_level(LOG_LEVEL_NOTHING);
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
