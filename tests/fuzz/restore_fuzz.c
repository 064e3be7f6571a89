/* What RESTORE takes: whatever the bytes, they are refused or make a sound value, which can be dumped, and what was
 * dumped is taken again.
 *
 * Input: byte 0 chooses limits, the rest is a type byte and a value. */

#include "keyspace/keyspace_collection.h"
#include "persist/rdb_save.h"
#include "persist/rdb_value_load.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SHARDS = 4, RESERVE = 256 << 20 };
#define NOW_MS INT64_C(2000000000000)

/* The key becomes what the bytes say; false: they are refused. */
static bool restore(const struct view *view, const char *name, struct span bytes) {
    struct rdb_value_loader loader;
    struct rdb_value value;
    struct rdb_input input;
    const struct key key = keyspace_key(view->keyspace, span_of_text(name));
    rdb_value_loader_init(&loader, view);
    rdb_input_of_memory(&input, bytes, 0);
    uint8_t type = rdb_get_byte(&input);
    enum rdb_status status = rdb_value_load(&loader, &input, type, &key, &value);
    assert((status == RDB_DONE) == (input.status == RDB_DONE) && (status == RDB_DONE || input.reason));
    bool there = status == RDB_DONE && !value.is_empty;
    if (there) {
        struct lookup lookup = keyspace_find(view, &key);
        there = rdb_value_store(view, &key, &lookup, &value, RECORD_EXPIRY_NONE, 0);
        if (!there) rdb_value_discard(&loader, &key, &value);
    }
    rdb_value_loader_free(&loader);
    return there;
}

static void dump(const struct view *view, const char *name, struct rdb_output *output) {
    const struct rdb_save_options options = {.compress = true, .version = 12};
    const struct key key = keyspace_key(view->keyspace, span_of_text(name));
    struct lookup lookup = keyspace_find(view, &key);
    struct rdb_collection_save save;
    if (!record_is_paged(lookup.record)) {
        rdb_save_value(output, &options, lookup.record);
        return;
    }
    struct page_access access = keyspace_pages(view, lookup.shard);
    rdb_collection_begin(&save, &options, lookup_collection(&lookup));
    rdb_save_collection_type(output, &options, lookup_collection(&lookup));
    enum rdb_save_status status = rdb_collection_step(&save, &access, output, SIZE_MAX);
    assert(status == RDB_SAVE_DONE);
    rdb_collection_end(&save);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const struct keyspace_options options = {.shards = SHARDS, .seed = 1, .reserve_bytes = RESERVE};
    struct keyspace *keyspace = keyspace_create(&options);
    const struct view view = {.keyspace = keyspace, .now_ms = NOW_MS};
    assert(keyspace);
    if (data[0] & 1) {
        int64_t few = data[0] >> 4;
        keyspace->limits = (struct value_limits){few, few, few, few, few, few, few, few};
    }
    if (restore(&view, "key", span_of(data + 1, size - 1))) {
        struct rdb_output output;
        rdb_output_init(&output, 0);
        dump(&view, "key", &output);
        assert(!output.failed);
        bool again = restore(&view, "copy", span_of(output.bytes, output.length));
        assert(again);
        rdb_output_free(&output);
    }
    assert(keyspace_validate(keyspace));
    keyspace_destroy(keyspace);
    return 0;
}
