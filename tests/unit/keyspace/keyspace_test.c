/* The keyspace against a naive model: several databases, every kind of change, expiry, sweeps, flushes that are freed
 * in slices, swaps, cursors, compaction and pinned values, in random order. */

#include "base/random.h"
#include "keyspace/keyspace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { DATABASES = 4, KEYS = 3000, SHARDS = 4, VALUE_MAX = 100000 };

/* What a key should hold. A raw value is `length` bytes of a pattern that `seed` names. */
struct expected {
    bool present, integer;
    int64_t number;
    size_t length;
    uint64_t seed;
    int64_t expiry_ms;
};

struct model {
    struct keyspace *keyspace;
    struct random random;
    int64_t now_ms;
    unsigned key_count;
    struct expected (*keys)[KEYS]; /* by database */
    uint64_t hits, misses;
};

static char pattern_byte(uint64_t seed, size_t i) {
    return (char)(seed * 31 + i * 7 + (i >> 8));
}

static void fill(char *bytes, const struct expected *expected, size_t from) {
    for (size_t i = from; i < expected->length; i++) bytes[i] = pattern_byte(expected->seed, i);
}

static void expect_bytes(struct span value, const struct expected *expected) {
    assert_int_equal(value.length, expected->length);
    size_t step = value.length > 5000 ? 61 : 1;
    for (size_t i = 0; i < value.length; i += step) assert_int_equal(value.data[i], pattern_byte(expected->seed, i));
}

static struct view view_of(const struct model *model, uint32_t database) {
    return (struct view){.keyspace = model->keyspace, .database = database, .now_ms = model->now_ms, .random = 1};
}

static struct key key_of(const struct model *model, unsigned number, char text[32]) {
    return keyspace_key(model->keyspace, span_of(text, (size_t)snprintf(text, 32, "key:%u", number)));
}

static bool is_live(const struct model *model, const struct expected *expected) {
    return expected->present && (expected->expiry_ms < 0 || expected->expiry_ms > model->now_ms);
}

static void usage_of(const struct model *model, struct keyspace_usage *usage) {
    struct view view = view_of(model, 0);
    keyspace_usage(&view, usage);
}

static int set_up(void **state) {
    struct model *model = calloc(1, sizeof(*model));
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    random_seed(&model->random, seed);
    const struct keyspace_options options = {.shards = SHARDS, .databases = DATABASES, .seed = seed};
    model->keyspace = keyspace_create(&options);
    model->keys = calloc(DATABASES, sizeof(*model->keys));
    model->now_ms = 1785000000000;
    model->key_count = KEYS;
    *state = model;
    return 0;
}

static int tear_down(void **state) {
    struct model *model = *state;
    assert_true(keyspace_validate(model->keyspace));
    keyspace_destroy(model->keyspace);
    free(model->keys);
    free(model);
    return 0;
}

/* Looks the key up, and compares it with the model, which forgets it too if it has expired. */
static struct lookup find(struct model *model, const struct view *view, const struct key *key,
                          struct expected *expected, bool reading) {
    struct lookup lookup = reading ? keyspace_read(view, key) : keyspace_find_for_write(view, key);
    if (!is_live(model, expected)) expected->present = false;
    assert_int_equal(lookup.record != NULL, expected->present);
    if (reading && expected->present) model->hits++;
    if (reading && !expected->present) model->misses++;
    if (!lookup.record) return lookup;
    assert_true(record_key_equals(lookup.record, key->name));
    assert_int_equal(record_expiry(lookup.record), expected->expiry_ms);
    assert_int_equal(record_is_integer(lookup.record), expected->integer);
    if (expected->integer)
        assert_true(record_integer(lookup.record) == expected->number);
    else
        expect_bytes(record_value(lookup.record), expected);
    return lookup;
}

static size_t random_length(struct random *random) {
    if (random_once_in(random, 60)) return random_below(random, VALUE_MAX);
    return random_below(random, random_once_in(random, 10) ? 3000 : 80);
}

static int64_t random_expiry(struct model *model) {
    if (!random_once_in(&model->random, 4)) return RECORD_EXPIRY_NONE;
    return model->now_ms + (int64_t)random_below(&model->random, 20000) - 100;
}

static void store(struct model *model, const struct view *view, const struct key *key, struct lookup *lookup,
                  struct expected *expected) {
    static char bytes[VALUE_MAX];
    *expected = (struct expected){.present = true,
                                  .integer = random_once_in(&model->random, 3),
                                  .number = (int64_t)(random_next(&model->random) >> random_below(&model->random, 64)),
                                  .length = random_length(&model->random),
                                  .seed = random_next(&model->random),
                                  .expiry_ms = random_expiry(model)};
    struct record_plan plan = {.type = RECORD_STRING, .expiry_ms = expected->expiry_ms};
    if (expected->integer) {
        plan.integer = expected->number;
        plan.encoding = record_integer_encoding(expected->number);
    } else {
        fill(bytes, expected, 0);
        plan.value = span_of(bytes, expected->length);
    }
    assert_true(keyspace_store(view, key, lookup, &plan));
    assert_non_null(lookup->record);
}

static void edit(struct model *model, const struct view *view, const struct key *key, struct lookup *lookup,
                 struct expected *expected) {
    size_t before = expected->length;
    expected->length = random_once_in(&model->random, 3) ? before : random_length(&model->random);
    char *bytes = keyspace_edit_value(view, key, lookup, expected->length);
    assert_non_null(bytes);
    assert_ptr_equal(bytes, record_value(lookup->record).data);
    for (size_t i = before; i < expected->length; i++) assert_int_equal(bytes[i], 0);
    fill(bytes, expected, before);
    assert_true(record_is_edited(lookup->record));
}

static void change_one(struct model *model) {
    char text[32];
    uint32_t database = (uint32_t)random_below(&model->random, DATABASES);
    unsigned number = (unsigned)random_below(&model->random, model->key_count);
    struct expected *expected = &model->keys[database][number];
    struct view view = view_of(model, database);
    struct key key = key_of(model, number, text);
    struct lookup lookup = find(model, &view, &key, expected, random_once_in(&model->random, 2));
    switch (random_below(&model->random, 8)) {
    case 0:
    case 1:
    case 2: store(model, &view, &key, &lookup, expected); break;
    case 3:
    case 4:
        if (expected->present && !expected->integer) edit(model, &view, &key, &lookup, expected);
        break;
    case 5:
        if (!expected->present) break;
        expected->expiry_ms = random_expiry(model);
        assert_true(keyspace_set_expiry(&view, &key, &lookup, expected->expiry_ms));
        break;
    case 6:
        if (!expected->present) break;
        keyspace_remove(&view, &key, &lookup);
        expected->present = false;
        break;
    default: break;
    }
    /* What the call left behind in the lookup is the record as it is now. */
    if (expected->present && !expected->integer) expect_bytes(record_value(lookup.record), expected);
}

/* ---- whole databases ---- */

static void count_model(const struct model *model, uint32_t database, uint64_t *live, uint64_t *present) {
    *live = *present = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        *live += is_live(model, &model->keys[database][i]);
        *present += model->keys[database][i].present;
    }
}

struct scan {
    struct model *model;
    uint32_t database;
    unsigned char seen[KEYS];
};

static void see(void *ctx, const struct record *record) {
    struct scan *scan = ctx;
    struct span name = record_key(record);
    unsigned number = 0;
    for (size_t i = 4; i < name.length; i++) number = number * 10 + (unsigned)(name.data[i] - '0');
    assert_true(number < KEYS);
    assert_true(scan->model->keys[scan->database][number].present);
    scan->seen[number] = 1;
}

static void scan_all(struct model *model, uint32_t database) {
    static struct scan scan;
    struct view view = view_of(model, database);
    uint64_t cursor = 0, steps = 0;
    scan = (struct scan){.model = model, .database = database};
    do {
        cursor = keyspace_scan(&view, cursor, 1 + random_below(&model->random, 50), NULL, see, &scan);
        assert_true(cursor < UINT64_C(1) << 53);
        assert_true(steps++ < 100000);
    } while (cursor);
    for (unsigned i = 0; i < KEYS; i++)
        if (is_live(model, &model->keys[database][i])) assert_true(scan.seen[i]);
}

static void see_random(void *ctx, const struct record *record) {
    struct scan *scan = ctx;
    see(scan, record);
    assert_false(record_is_expired(record, scan->model->now_ms));
}

static void check_database(struct model *model, uint32_t database) {
    static struct scan scan;
    struct view view = view_of(model, database);
    uint64_t live, present, size = keyspace_database_size(&view);
    count_model(model, database, &live, &present);
    assert_true(size >= live && size <= present);
    struct database_usage usage;
    keyspace_database_usage(&view, database, &usage);
    assert_int_equal(usage.keys, size);
    assert_true(usage.expires <= usage.keys);
    scan = (struct scan){.model = model, .database = database};
    assert_int_equal(keyspace_random(&view, random_next(&model->random), see_random, NULL, &scan), live > 0);
    scan_all(model, database);
}

static void flush(struct model *model, uint32_t database) {
    struct view view = view_of(model, database);
    keyspace_flush(&view);
    for (unsigned i = 0; i < KEYS; i++) model->keys[database][i].present = false;
    assert_int_equal(keyspace_database_size(&view), 0);
}

static void swap(struct model *model, uint32_t first, uint32_t second) {
    struct view view = view_of(model, first);
    view.locked_all = true;
    keyspace_swap_databases(&view, first, second);
    for (unsigned i = 0; i < KEYS; i++) {
        struct expected kept = model->keys[first][i];
        model->keys[first][i] = model->keys[second][i];
        model->keys[second][i] = kept;
    }
}

static void background_step(struct model *model) {
    uint32_t shard = (uint32_t)random_below(&model->random, SHARDS);
    uint32_t database = (uint32_t)random_below(&model->random, DATABASES);
    switch (random_below(&model->random, 12)) {
    case 0: flush(model, database); break;
    case 1: swap(model, database, (uint32_t)random_below(&model->random, DATABASES)); break;
    case 2:
    case 3: check_database(model, database); break;
    case 4: model->now_ms += (int64_t)random_below(&model->random, 3000); break;
    case 5:
    case 6:
        (void)keyspace_sweep(model->keyspace, shard, model->now_ms, random_below(&model->random, 20000), NULL);
        break;
    case 7:
    case 8: (void)keyspace_drain(model->keyspace, shard, random_below(&model->random, 4000)); break;
    default: (void)keyspace_compact(model->keyspace, shard, random_below(&model->random, 300)); break;
    }
}

static void random_operations_agree_with_the_model(void **state) {
    struct model *model = *state;
    for (unsigned step = 0; step < 200000; step++) {
        if (step % 20000 == 0) model->key_count = random_once_in(&model->random, 2) ? KEYS : 100;
        change_one(model);
        if (random_once_in(&model->random, 150)) background_step(model);
        if (step % 10000 == 0) assert_true(keyspace_validate(model->keyspace));
    }
    for (uint32_t database = 0; database < DATABASES; database++) check_database(model, database);
    struct keyspace_usage usage;
    usage_of(model, &usage);
    assert_int_equal(usage.counters.hits, model->hits);
    assert_int_equal(usage.counters.misses, model->misses);
}

static void put(struct model *model, uint32_t database, unsigned number, size_t length, int64_t expiry_ms) {
    static char bytes[VALUE_MAX];
    char text[32];
    struct expected *expected = &model->keys[database][number];
    struct view view = view_of(model, database);
    struct key key = key_of(model, number, text);
    struct lookup lookup = find(model, &view, &key, expected, false);
    *expected = (struct expected){.present = true, .length = length, .seed = number, .expiry_ms = expiry_ms};
    fill(bytes, expected, 0);
    struct record_plan plan = {.type = RECORD_STRING, .value = span_of(bytes, length), .expiry_ms = expiry_ms};
    assert_true(keyspace_store(&view, &key, &lookup, &plan));
}

static void put_all(struct model *model, uint32_t database, size_t length, int64_t expiry_ms) {
    for (unsigned i = 0; i < KEYS; i++) put(model, database, i, length, expiry_ms);
}

static void expect_nothing_is_left(struct model *model) {
    struct keyspace_usage usage;
    usage_of(model, &usage);
    assert_int_equal(usage.records, 0);
    assert_int_equal(usage.record_bytes, 0);
    assert_int_equal(usage.page_bytes, 0);
}

/* The second flush comes while the first is being freed. */
static void flushed_databases_are_freed_completely_in_slices(void **state) {
    struct model *model = *state;
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t database = 0; database < DATABASES; database++) {
            put_all(model, database, 40, RECORD_EXPIRY_NONE);
            flush(model, database);
            for (uint32_t shard = 0; shard < SHARDS; shard++) (void)keyspace_drain(model->keyspace, shard, 1);
        }
        unsigned steps = 0;
        for (uint32_t shard = 0; shard < SHARDS; shard++)
            while (keyspace_drain(model->keyspace, shard, 1)) steps++;
        assert_true(steps > SHARDS);
        expect_nothing_is_left(model);
    }
}

static void a_half_freed_database_can_be_destroyed(void **state) {
    struct model *model = *state;
    for (uint32_t database = 0; database < 2; database++) {
        for (unsigned i = 0; i < 300; i++) put(model, database, i, i % 30 ? 40 : VALUE_MAX, RECORD_EXPIRY_NONE);
        flush(model, database);
        for (uint32_t shard = 0; shard < SHARDS; shard++) (void)keyspace_drain(model->keyspace, shard, 1);
    }
}

static void a_sweep_removes_all_that_expired_and_nothing_else(void **state) {
    struct model *model = *state;
    for (uint32_t database = 0; database < DATABASES; database++)
        for (unsigned i = 0; i < KEYS; i++)
            put(model, database, i, 20, i % 3 == 0 ? RECORD_EXPIRY_NONE : model->now_ms + (i % 3 == 1 ? 1000 : 5000));
    model->now_ms += 2000;
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_sweep(model->keyspace, shard, model->now_ms, 1000000, NULL) != -1) continue;
    struct keyspace_usage usage;
    usage_of(model, &usage);
    assert_int_equal(usage.counters.expired, DATABASES * KEYS / 3);
    assert_int_equal(usage.counters.expired_on_access, 0);
    assert_int_equal(usage.records, DATABASES * KEYS * 2 / 3);
    for (uint32_t database = 0; database < DATABASES; database++) {
        struct database_usage figures;
        struct view view = view_of(model, database);
        keyspace_database_usage(&view, database, &figures);
        assert_int_equal(figures.keys, KEYS * 2 / 3);
        assert_int_equal(figures.expires, KEYS / 3);
        assert_int_equal(figures.average_ttl_ms, 3000);
        check_database(model, database);
    }
}

static void a_sweep_reports_how_much_had_expired(void **state) {
    struct model *model = *state;
    put_all(model, 1, 20, model->now_ms + 1000);
    assert_int_equal(keyspace_sweep(model->keyspace, 0, model->now_ms, 0, NULL), 0);
    model->now_ms += 1000;
    assert_int_equal(keyspace_sweep(model->keyspace, 0, model->now_ms, 0, NULL), 100);
}

static void compaction_gives_the_memory_of_deleted_keys_back(void **state) {
    struct model *model = *state;
    char text[32];
    put_all(model, 0, 100, RECORD_EXPIRY_NONE);
    put_all(model, 2, 100, model->now_ms + 100000);
    struct keyspace_usage before, after;
    usage_of(model, &before);
    for (unsigned i = 0; i < KEYS; i++) {
        if (i % 10 < 2) continue;
        for (uint32_t database = 0; database <= 2; database += 2) {
            struct view view = view_of(model, database);
            struct key key = key_of(model, i, text);
            struct lookup lookup = find(model, &view, &key, &model->keys[database][i], false);
            keyspace_remove(&view, &key, &lookup);
            model->keys[database][i].present = false;
        }
    }
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_compact(model->keyspace, shard, 100)) continue;
    usage_of(model, &after);
    assert_true(after.counters.moved > 0);
    assert_true(after.page_bytes < before.page_bytes / 2);
    for (uint32_t database = 0; database <= 2; database += 2)
        for (unsigned i = 0; i < KEYS; i++) {
            struct view view = view_of(model, database);
            struct key key = key_of(model, i, text);
            find(model, &view, &key, &model->keys[database][i], true);
        }
}

/* Each way to change or remove the key; the bytes being sent must stay as they were. */
static void a_pinned_value_stays_whatever_becomes_of_its_key(void **state) {
    struct model *model = *state;
    static const size_t lengths[] = {40000, 4 << 20};
    char text[32];
    for (unsigned way = 0; way < 14; way++) {
        size_t length = lengths[way % 2];
        char *bytes = malloc(length);
        memset(bytes, 'p', length);
        struct view view = view_of(model, 0);
        struct key key = key_of(model, way, text);
        struct lookup lookup = keyspace_find(&view, &key);
        struct record_plan plan = {
            .type = RECORD_STRING, .value = span_of(bytes, length), .expiry_ms = RECORD_EXPIRY_NONE};
        assert_true(keyspace_store(&view, &key, &lookup, &plan));
        struct record *record = lookup.record;
        struct span value = record_value(record);
        assert_true(keyspace_pin(&view, &lookup));
        memset(bytes, 'q', length);
        switch (way / 2) {
        case 0: assert_true(keyspace_store(&view, &key, &lookup, &plan)); break;
        case 1: keyspace_remove(&view, &key, &lookup); break;
        case 2: assert_true(keyspace_set_expiry(&view, &key, &lookup, model->now_ms + 1)); break;
        case 3: memset(keyspace_edit_value(&view, &key, &lookup, length), 'q', length); break;
        case 4: memset(keyspace_edit_value(&view, &key, &lookup, length + 70000), 'q', length + 70000); break;
        case 5: memset(keyspace_edit_value(&view, &key, &lookup, 10), 'q', 10); break;
        case 6:
            keyspace_flush(&view);
            while (keyspace_drain(model->keyspace, key.shard, 1)) continue;
            break;
        }
        for (size_t i = 0; i < length; i += 100) assert_int_equal(value.data[i], 'p');
        keyspace_unpin(model->keyspace, key.shard, record);
        keyspace_flush(&view);
        for (uint32_t shard = 0; shard < SHARDS; shard++)
            while (keyspace_drain(model->keyspace, shard, 1000)) continue;
        expect_nothing_is_left(model);
        free(bytes);
    }
}

static void a_small_value_cannot_be_pinned(void **state) {
    struct model *model = *state;
    char text[32];
    put(model, 0, 0, 1000, RECORD_EXPIRY_NONE);
    struct view view = view_of(model, 0);
    struct key key = key_of(model, 0, text);
    struct lookup lookup = keyspace_find(&view, &key);
    assert_false(keyspace_pin(&view, &lookup));
}

static void access_is_renewed_by_use_only(void **state) {
    struct model *model = *state;
    char text[32];
    put(model, 0, 0, 10, RECORD_EXPIRY_NONE);
    struct view view = view_of(model, 0);
    struct key key = key_of(model, 0, text);
    view.now_ms += 10000;
    struct record *record = keyspace_find(&view, &key).record;
    assert_int_equal(access_idle_seconds(record_access(record), view.now_ms), 10);
    view.keep_access = true;
    record = keyspace_read(&view, &key).record;
    assert_int_equal(access_idle_seconds(record_access(record), view.now_ms), 10);
    view.keep_access = false;
    record = keyspace_read(&view, &key).record;
    assert_int_equal(access_idle_seconds(record_access(record), view.now_ms), 0);
}

static void without_memory_a_change_changes_nothing(void **state) {
    (void)state;
    const struct keyspace_options options = {.shards = 1, .databases = 1, .reserve_bytes = REGION_BYTES};
    struct keyspace *keyspace = keyspace_create(&options);
    struct view view = {.keyspace = keyspace, .now_ms = 1};
    static char bytes[1000];
    struct record_plan plan = {
        .type = RECORD_STRING, .value = span_of(bytes, sizeof(bytes)), .expiry_ms = RECORD_EXPIRY_NONE};
    struct key key;
    struct lookup lookup;
    char text[32];
    unsigned count = 0;
    for (;; count++) {
        key = keyspace_key(keyspace, span_of(text, (size_t)snprintf(text, sizeof(text), "key:%u", count)));
        lookup = keyspace_find(&view, &key);
        if (!keyspace_store(&view, &key, &lookup, &plan)) break;
    }
    assert_in_range(count, 1500, 2097);
    assert_null(lookup.record);
    assert_int_equal(keyspace_database_size(&view), count);
    assert_true(keyspace_validate(keyspace));
    key = keyspace_key(keyspace, SPAN_LITERAL("key:0"));
    lookup = keyspace_find(&view, &key);
    assert_false(keyspace_set_expiry(&view, &key, &lookup, 100000));
    assert_null(keyspace_edit_value(&view, &key, &lookup, 30000));
    lookup = keyspace_find(&view, &key);
    assert_int_equal(record_value_length(lookup.record), 1000);
    assert_int_equal(record_expiry(lookup.record), RECORD_EXPIRY_NONE);
    assert_true(keyspace_validate(keyspace));
    keyspace_destroy(keyspace);
}

static void a_cursor_of_nowhere_ends_the_scan(void **state) {
    struct model *model = *state;
    static struct scan scan;
    put_all(model, 0, 10, RECORD_EXPIRY_NONE);
    scan = (struct scan){.model = model};
    struct view view = view_of(model, 0);
    assert_int_equal(keyspace_scan(&view, UINT64_MAX, 10, NULL, see, &scan), 0);
    assert_int_equal(keyspace_scan(&view, (uint64_t)SHARDS << 43, 10, NULL, see, &scan), 0);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t cursor = random_next(&model->random) >> random_below(&model->random, 64);
        assert_true(keyspace_scan(&view, cursor, 10, NULL, see, &scan) < UINT64_C(1) << 53);
    }
}

int main(void) {
#define ON_MODEL(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        ON_MODEL(random_operations_agree_with_the_model),
        ON_MODEL(flushed_databases_are_freed_completely_in_slices),
        ON_MODEL(a_half_freed_database_can_be_destroyed),
        ON_MODEL(a_sweep_removes_all_that_expired_and_nothing_else),
        ON_MODEL(a_sweep_reports_how_much_had_expired),
        ON_MODEL(compaction_gives_the_memory_of_deleted_keys_back),
        ON_MODEL(a_pinned_value_stays_whatever_becomes_of_its_key),
        ON_MODEL(a_small_value_cannot_be_pinned),
        ON_MODEL(access_is_renewed_by_use_only),
        cmocka_unit_test(without_memory_a_change_changes_nothing),
        ON_MODEL(a_cursor_of_nowhere_ends_the_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
