/* See snapshot_collector.h. A record comes to a hash of its bytes, but for the access bits, the epoch and the mark of
 * having been edited; a collection to a hash of what it is in an RDB. */

#include "tests/support/snapshot_collector.h"

#include "keyspace/keyspace_collection.h"
#include "keyspace/keyspace_private.h"
#include "persist/rdb_save.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { STEP_BYTES = 3000, SEED = 99 };

void snapshot_collector_init(struct snapshot_collector *collector, struct keyspace *keyspace) {
    *collector = (struct snapshot_collector){.keyspace = keyspace, .refuse_after = SIZE_MAX};
    pthread_mutex_init(&collector->lock, NULL);
}

void snapshot_collector_free(struct snapshot_collector *collector) {
    free(collector->items);
    pthread_mutex_destroy(&collector->lock);
}

static uint64_t mix(uint64_t a, uint64_t b) {
    const uint64_t both[2] = {a, b};
    return key_hash(span_of((const char *)both, sizeof(both)), SEED);
}

static bool add(struct snapshot_collector *collector, uint32_t database, struct span key, uint64_t value) {
    pthread_mutex_lock(&collector->lock);
    if (collector->count == collector->capacity) {
        collector->capacity = collector->capacity ? 2 * collector->capacity : 1024;
        collector->items = realloc(collector->items, collector->capacity * sizeof(*collector->items));
        assert(collector->items);
    }
    struct collected *item = &collector->items[collector->count++];
    *item = (struct collected){.database = database, .key = key_hash(key, SEED), .value = value};
    snprintf(item->name, sizeof(item->name), "%.*s", (int)(key.length < 40 ? key.length : 40), key.data);
    bool takes = collector->count <= collector->refuse_after;
    pthread_mutex_unlock(&collector->lock);
    return takes;
}

static uint64_t value_of_record(const struct record *record) {
    uint64_t kind = (uint64_t)record_type(record) << 8 | record_encoding(record);
    return mix(mix(kind, (uint64_t)record_expiry(record)), key_hash(record_value(record), SEED));
}

static uint64_t value_of_collection(const struct collection *root, int64_t expiry_ms, const struct rdb_output *output) {
    struct span bytes = span_of((const char *)output->bytes, output->length);
    return mix(mix((uint64_t)root->kind->type, (uint64_t)expiry_ms), key_hash(bytes, SEED));
}

/* ---- as a sink ---- */

static bool take_record(void *ctx, unsigned lane, uint32_t database, const struct record *image) {
    (void)lane;
    return add(ctx, database, record_key(image), value_of_record(image));
}

static bool take_collection(void *ctx, unsigned lane, uint32_t database, struct snapshot_collection *value) {
    const struct rdb_save_options options = {0};
    struct rdb_collection_save save;
    struct rdb_output output;
    enum rdb_save_status status;
    bool readable = true;
    (void)lane;
    rdb_output_init(&output, 0);
    rdb_collection_begin(&save, &options, value->root);
    do {
        struct page_access *access = snapshot_collection_lock(value);
        status = rdb_collection_step(&save, access, &output, STEP_BYTES);
        snapshot_collection_unlock(value);
        if (status == RDB_SAVE_MISSING) readable = snapshot_collection_fetch(value);
    } while (readable && (status == RDB_SAVE_MORE || status == RDB_SAVE_MISSING));
    bool taken = readable && status == RDB_SAVE_DONE &&
                 add(ctx, database, value->key, value_of_collection(value->root, value->expiry_ms, &output));
    rdb_collection_end(&save);
    rdb_output_free(&output);
    return taken;
}

static bool end_lane(void *ctx, unsigned lane) {
    struct snapshot_collector *collector = ctx;
    (void)lane;
    pthread_mutex_lock(&collector->lock);
    collector->lanes_ended++;
    pthread_mutex_unlock(&collector->lock);
    return true;
}

struct snapshot_sink snapshot_collector_sink(struct snapshot_collector *collector) {
    return (struct snapshot_sink){
        .ctx = collector, .record = take_record, .collection = take_collection, .lane_end = end_lane};
}

/* ---- by looking ---- */

static void look_at_collection(struct snapshot_collector *collector, const struct view *view, struct shard *shard,
                               const struct record *record) {
    const struct rdb_save_options options = {0};
    struct rdb_collection_save save;
    struct rdb_output output;
    enum rdb_save_status status;
    struct collection *root = collection_of(record);
    rdb_output_init(&output, 0);
    rdb_collection_begin(&save, &options, root);
    do {
        struct page_access access = keyspace_pages(view, shard);
        status = rdb_collection_step(&save, &access, &output, SIZE_MAX);
    } while (status == RDB_SAVE_MORE);
    assert_int_equal(status, RDB_SAVE_DONE);
    add(collector, view->database, record_key(record), value_of_collection(root, record_expiry(record), &output));
    rdb_collection_end(&save);
    rdb_output_free(&output);
}

static void look_at(struct snapshot_collector *collector, const struct view *view, struct shard *shard, uint64_t ref) {
    struct record *copy = ref_is_cold(ref) ? tier_fetch(collector->keyspace->tier, ref) : NULL;
    const struct record *record = copy ? copy : ref_is_cold(ref) ? NULL : ref_record(ref);
    assert_non_null(record);
    if (record_is_paged(record))
        look_at_collection(collector, view, shard, record);
    else
        add(collector, view->database, record_key(record), value_of_record(record));
    free(copy);
}

void snapshot_collector_look(struct snapshot_collector *collector, struct tier_port *port) {
    struct keyspace *keyspace = collector->keyspace;
    for (uint32_t i = 0; i < keyspace->shard_count; i++)
        for (uint32_t database = 0; database < keyspace->database_count; database++) {
            struct shard *shard = &keyspace->shards[i];
            const struct view view = {.keyspace = keyspace, .database = database, .keep_access = true, .port = port};
            uint64_t refs[INDEX_GATHER_MAX], position = 0;
            do {
                if (!shard->databases[database]) break;
                size_t count =
                    index_gather(shard->databases[database], position, INDEX_GATHER_MAX, false, refs, &position);
                for (size_t k = 0; k < count; k++) look_at(collector, &view, shard, refs[k]);
            } while (position);
        }
    if (port) tier_trim(port);
}

/* ---- comparing ---- */

static int compare(const void *left, const void *right) {
    const struct collected *a = left, *b = right;
    if (a->database != b->database) return a->database < b->database ? -1 : 1;
    return a->key < b->key ? -1 : a->key > b->key;
}

static void sort(struct snapshot_collector *collector) {
    if (collector->count) qsort(collector->items, collector->count, sizeof(*collector->items), compare);
}

bool snapshot_collector_same(struct snapshot_collector *expected, struct snapshot_collector *given) {
    size_t i = 0, k = 0, differences = 0;
    sort(expected);
    sort(given);
    while (i < expected->count || k < given->count) {
        const struct collected *a = i < expected->count ? &expected->items[i] : NULL;
        const struct collected *b = k < given->count ? &given->items[k] : NULL;
        int order = !a ? 1 : !b ? -1 : compare(a, b);
        if (order == 0 && a->value == b->value) {
            i++, k++;
            continue;
        }
        if (differences++ < 10)
            print_error("database %u key %s: %s\n", order <= 0 ? a->database : b->database,
                        order <= 0 ? a->name : b->name,
                        order < 0   ? "not given"
                        : order > 0 ? "given, or given twice"
                                    : "another value");
        i += order <= 0;
        k += order >= 0;
    }
    return differences == 0;
}
