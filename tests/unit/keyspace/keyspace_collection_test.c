/* Big collections in the keyspace, whatever they hold: a kind whose pages carry a pattern of their numbers is filled,
 * changed, moved to the tier, renamed across shards, copied, removed, flushed, and checked after each. */

#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_collection.h"
#include "keyspace/keyspace_copy.h"
#include "keyspace/keyspace_tier.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, KEYS = 6, PAGES = 300, SHARDS = 4 };

/* ---- a kind ---- */

static bool release_root(struct collection *collection, unsigned budget) {
    (void)collection, (void)budget;
    return false;
}

static struct collection *copy_root(const struct collection *collection) {
    return calloc(1, collection->kind->root_bytes);
}

static const struct collection_kind kind = {.type = RECORD_HASH,
                                            .encoding = "hashtable",
                                            .release = release_root,
                                            .copy_root = copy_root,
                                            .root_bytes = sizeof(struct collection)};

/* What a page holds: its seed, again and again. */
static void fill(char *payload, size_t length, uint32_t seed) {
    for (size_t i = 0; i < length; i++) payload[i] = (char)(seed >> (i % 4 * 8) ^ i >> 2);
}

/* ---- a server, and what its keys should hold ---- */

struct model_key {
    bool exists;
    uint32_t seeds[PAGES]; /* 0: there is no such page */
    size_t lengths[PAGES];
};

struct model {
    struct in_process *server;
    struct random random;
    struct model_key keys[KEYS];
};

static struct view view_of(const struct model *model) {
    return (struct view){
        .keyspace = model->server->keyspace, .port = model->server->port, .now_ms = model->server->dispatcher->now_ms};
}

static struct key key_of(const struct model *model, unsigned number) {
    static const char *const names[KEYS] = {"one", "two", "three", "four", "five", "six"};
    return keyspace_key(model->server->keyspace, span_of_text(names[number]));
}

static size_t draw_length(struct model *model) {
    return 1 + random_below(&model->random, random_below(&model->random, 4) ? 3000 : 250000);
}

static void change_page(struct model *model, unsigned number) {
    struct view view = view_of(model);
    struct key key = key_of(model, number);
    struct model_key *expected = &model->keys[number];
    struct lookup lookup = keyspace_find_for_write(&view, &key);
    assert_int_equal(lookup.record != NULL, expected->exists);
    if (!lookup.record) {
        struct collection *made = keyspace_new_collection(&view, &key, &kind);
        assert_non_null(made);
        assert_true(keyspace_store_collection(&view, &key, &lookup, made, false));
        expected->exists = true;
    }
    struct collection *collection = lookup_collection(&lookup);
    struct page_access access = keyspace_pages(&view, lookup.shard);
    struct page_table *table = &collection->parts[COLLECTION_HASH];
    uint32_t page = (uint32_t)random_below(&model->random, PAGES);
    if (expected->seeds[page] && random_below(&model->random, 3) == 0) {
        assert_true(page_drop_at(&access, table, page));
        expected->seeds[page] = 0;
        return;
    }
    size_t length = draw_length(model), before = expected->lengths[page];
    char *payload;
    if (expected->seeds[page]) {
        payload = page_edit(&access, table, page, length);
        assert_non_null(payload);
        for (size_t i = 0; i < length && i < before; i++)
            assert_int_equal(payload[i], (char)(expected->seeds[page] >> (i % 4 * 8) ^ i >> 2));
    } else {
        payload = page_add_at(&access, table, page, length);
        assert_non_null(payload);
        page_set_note(table, page, page);
    }
    expected->seeds[page] = (uint32_t)random_next(&model->random) | 1;
    expected->lengths[page] = length;
    fill(payload, length, expected->seeds[page]);
}

static void check(struct model *model, unsigned number) {
    struct view view = view_of(model);
    struct key key = key_of(model, number);
    const struct model_key *expected = &model->keys[number];
    struct lookup lookup = keyspace_read(&view, &key);
    assert_int_equal(lookup.record != NULL, expected->exists);
    if (!lookup.record) return;
    struct collection *collection = lookup_collection(&lookup);
    struct page_access access = keyspace_pages(&view, lookup.shard);
    uint32_t live = 0;
    for (uint32_t page = 0; page < PAGES; page++) {
        struct page_table *table = &collection->parts[COLLECTION_HASH];
        assert_int_equal(page_exists(table, page), expected->seeds[page] != 0);
        if (!expected->seeds[page]) continue;
        live++;
        struct span payload = page_read(&access, table, page);
        assert_non_null(payload.data);
        assert_int_equal(payload.length, expected->lengths[page]);
        assert_int_equal(page_note(table, page), page);
        for (size_t i = 0; i < payload.length; i++)
            assert_int_equal(payload.data[i], (char)(expected->seeds[page] >> (i % 4 * 8) ^ i >> 2));
    }
    assert_int_equal(page_table_live(&collection->parts[COLLECTION_HASH]), live);
}

static void give_another_name(struct model *model, unsigned from, unsigned to, bool copy) {
    struct view view = view_of(model);
    struct key source_key = key_of(model, from), target_key = key_of(model, to);
    if (from == to || !model->keys[from].exists) return;
    struct lookup target = keyspace_find(&view, &target_key), source = keyspace_find(&view, &source_key);
    if (copy) {
        assert_true(keyspace_copy_value(&view, &source, &view, &target_key, &target));
    } else {
        assert_true(keyspace_move_value(&view, &source_key, &source, &view, &target_key, &target));
    }
    model->keys[to] = model->keys[from];
    if (!copy) memset(&model->keys[from], 0, sizeof(model->keys[from]));
}

static void remove_key(struct model *model, unsigned number) {
    struct view view = view_of(model);
    struct key key = key_of(model, number);
    struct lookup lookup = keyspace_find(&view, &key);
    if (lookup.record) keyspace_remove(&view, &key, &lookup);
    memset(&model->keys[number], 0, sizeof(model->keys[number]));
}

static void tend(struct model *model) {
    struct in_process *server = model->server;
    uint32_t shard = (uint32_t)random_below(&model->random, SHARDS);
    switch (random_below(&model->random, 6)) {
    case 0:
        if (server->port) in_process_demote(server, "*");
        break;
    case 1:
        if (server->port) in_process_settle(server);
        break;
    case 2: (void)keyspace_compact(server->keyspace, shard, 100); break;
    case 3: (void)keyspace_drain(server->keyspace, shard, 10000); break;
    case 4:
        for (unsigned i = 0; server->port && i < 50; i++) {
            (void)keyspace_clean(server->keyspace, server->port, TIER_CLEAN_ALL, server->dispatcher->now_ms, 1000000);
            in_process_turn(server);
        }
        break;
    case 5:
        if (server->port) {
            size_t freed;
            struct demotion demotion = {
                .now_ms = server->dispatcher->now_ms, .budget_ns = 1000000, .wanted_bytes = 100000, .urgent = true};
            (void)keyspace_demote(server->keyspace, shard, server->port, &demotion, &freed);
        }
        break;
    }
    if (server->port && random_below(&model->random, 4) == 0) in_process_settle(server);
}

/* In slices, between which the source changes, and may be removed or renamed; the copy is what it was at the end. */
static void copy_slowly(struct model *model, unsigned from, unsigned to) {
    struct view view = view_of(model);
    struct key source_key = key_of(model, from), target_key = key_of(model, to);
    enum keyspace_copy_status status = KEYSPACE_COPY_GOES_ON;
    if (from == to || !model->keys[from].exists) return;
    struct lookup source = keyspace_find(&view, &source_key);
    struct collection_copy *copy = keyspace_copy_begin(view.keyspace, &source, &view, &target_key);
    assert_non_null(copy);
    while (status == KEYSPACE_COPY_GOES_ON) {
        for (uint64_t i = random_below(&model->random, 20); i > 0; i--) change_page(model, from);
        if (random_below(&model->random, 300) == 0)
            give_another_name(model, from, (unsigned)random_below(&model->random, KEYS), false);
        if (random_below(&model->random, 300) == 0) remove_key(model, from);
        if (random_below(&model->random, 20) == 0) tend(model);
        struct lookup target = keyspace_find(&view, &target_key);
        source = keyspace_find(&view, &source_key);
        if (!source.record || !keyspace_copy_is_of(copy, &source, &target_key)) break;
        status = keyspace_copy_step(copy, &view, &source, &view, &target_key, &target, 1);
        assert_true(status != KEYSPACE_COPY_NO_MEMORY);
    }
    keyspace_copy_free(copy);
    if (status == KEYSPACE_COPY_DONE) model->keys[to] = model->keys[from];
}

static void run_model(bool tiered, uint64_t seed, unsigned steps) {
    const struct command_family families[] = {{key_commands, key_command_count},
                                              {database_commands, database_command_count}};
    const struct tier_options tier = {
        .path = "tier", .segment_bytes = SEGMENT, .size_bytes = 512 * SEGMENT, .memory_bytes = 64 << 20};
    struct model *model = calloc(1, sizeof(*model));
    model->server = in_process_create_with(&(struct in_process_options){
        .families = families, .family_count = 2, .tier = tiered ? &tier : NULL, .shards = SHARDS});
    random_seed(&model->random, seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (unsigned step = 0; step < steps; step++) {
        unsigned first = (unsigned)random_below(&model->random, KEYS);
        unsigned second = (unsigned)random_below(&model->random, KEYS);
        switch (random_below(&model->random, 400)) {
        case 0: remove_key(model, first); break;
        case 1: give_another_name(model, first, second, false); break;
        case 2: give_another_name(model, first, second, true); break;
        case 3: check(model, first); break;
        case 7: copy_slowly(model, first, second); break;
        case 4:
            if (random_below(&model->random, 20) == 0) {
                in_process_expect(model->server, "FLUSHALL", "+OK\r\n");
                memset(model->keys, 0, sizeof(model->keys));
            }
            break;
        case 5:
        case 6: tend(model); break;
        default: change_page(model, first); break;
        }
        if (step % 1000 == 0) assert_true(keyspace_validate(model->server->keyspace));
        if (model->server->port && step % 64 == 0) in_process_turn(model->server);
    }
    for (unsigned i = 0; i < KEYS; i++) check(model, i);
    for (unsigned i = 0; i < KEYS; i++) remove_key(model, i);
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(model->server->keyspace, shard, 1000)) continue;
    struct keyspace_usage usage;
    struct view view = view_of(model);
    keyspace_usage(&view, &usage);
    assert_int_equal(usage.records, 0);
    assert_int_equal(usage.cold_records, 0);
    in_process_destroy(model->server);
    free(model);
}

static void in_memory(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) run_model(false, seed, 20000);
}

static void on_a_tier(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) run_model(true, seed, 10000);
}

/* ---- freeing ---- */

static void free_in_slices(bool own_heap) {
    struct model *model = calloc(1, sizeof(*model));
    const struct command_family families[] = {{key_commands, key_command_count}};
    model->server = in_process_create(families, 1);
    random_seed(&model->random, 7);
    for (unsigned i = 0; i < 5 * PAGES; i++) change_page(model, 0);
    struct key key = key_of(model, 0);
    struct shard *shard = &model->server->keyspace->shards[key.shard];
    if (own_heap) assert_true(collection_give_heap(shard, shard->collections));
    struct view view = view_of(model);
    struct keyspace_usage usage;
    in_process_expect(model->server, "DEL one", ":1\r\n");
    keyspace_usage(&view, &usage);
    assert_true(usage.records > PAGES / 2);
    unsigned steps = 1;
    while (keyspace_drain(model->server->keyspace, key.shard, 1)) steps++;
    assert_true(steps > 1);
    keyspace_usage(&view, &usage);
    assert_int_equal(usage.records, 0);
    in_process_destroy(model->server);
    free(model);
}

static void a_large_one_is_freed_in_slices(void **state) {
    (void)state;
    free_in_slices(false);
}

/* Until it is freed, what it takes is counted. */
static void one_with_its_own_heap_is_freed_in_slices(void **state) {
    (void)state;
    free_in_slices(true);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_memory), cmocka_unit_test(on_a_tier),
                                       cmocka_unit_test(a_large_one_is_freed_in_slices),
                                       cmocka_unit_test(one_with_its_own_heap_is_freed_in_slices)};
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
