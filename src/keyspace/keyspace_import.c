/* Keys and collections of a checkpoint: see keyspace_import.h. */

#include "keyspace/keyspace_import.h"

#include "keyspace/key_hash.h"
#include "keyspace/keyspace_private.h"

#include <assert.h>
#include <stdlib.h>

void keyspace_import_reserve(struct keyspace *keyspace, uint32_t shard, uint32_t database, uint64_t count) {
    struct index *index = keyspace_index_for_insert(keyspace, &keyspace->shards[shard], database);
    if (index) (void)index_reserve(index, count); /* without it the index grows */
}

/* Slots of the cluster spread keys evenly, unless they share hash tags; the small surplus that is left out grows. */
void keyspace_reserve(struct keyspace *keyspace, uint32_t database, uint64_t count) {
    for (uint32_t shard = 0; shard < keyspace->shard_count; shard++) {
        keyspace_lock(keyspace, shard);
        keyspace_import_reserve(keyspace, shard, database, count / keyspace->shard_count);
        keyspace_unlock(keyspace, shard);
    }
}

bool keyspace_import(struct keyspace *keyspace, uint32_t number, uint32_t database, uint64_t hash, uint64_t ref) {
    assert(ref_is_cold(ref) && database < keyspace->database_count);
    struct index *index = keyspace_index_for_insert(keyspace, &keyspace->shards[number], database);
    if (!index || !index_import(index, hash, ref)) return false;
    keyspace->shards[number].cold_records++;
    return true;
}

void keyspace_import_fields(struct keyspace *keyspace, uint32_t number, uint32_t database, uint64_t hash,
                            int64_t due_ms) {
    struct index *index = keyspace->shards[number].databases[database];
    if (!index || (!index->fields && !(index->fields = field_expiry_create()))) return;
    field_expiry_note(index->fields, hash, due_ms);
}

/* ---- big collections ---- */

bool keyspace_import_root(struct keyspace *keyspace, const struct keyspace_imported_root *imported) {
    struct collection *root = imported->root;
    collection_init(root, imported->kind);
    root->next_expiry_ms = imported->next_expiry_ms;
    root->epoch = COLLECTION_KEYLESS;
    if (!collection_register_again(keyspace->collections, root, imported->id)) return false;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        if (!page_table_restore(&root->parts[part], imported->end[part], imported->payload_bytes[part])) return false;
    return true;
}

static void leave_page(struct page_access *access, uint64_t ref) {
    (void)access;
    (void)ref;
}

void keyspace_import_give_up(struct keyspace *keyspace, uint32_t shard, struct collection *root) {
    static const struct page_source source = {.drop = leave_page};
    struct page_access access = {.source = &source, .heap = &keyspace->shards[shard].heap};
    if (root->id != UINT32_MAX) collection_unregister(keyspace->collections, root);
    while (root->kind->release && root->kind->release(root, UINT32_MAX)) continue;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        while (page_table_release(&access, &root->parts[part], UINT32_MAX)) continue;
    free(root);
}

/* The record that leads to it, in the index; false: no memory. */
static bool link_key(struct keyspace *keyspace, struct shard *shard, uint32_t database,
                     const struct keyspace_imported_key *key, struct collection *root) {
    uint64_t hash = key_hash(key->name, keyspace->seed);
    struct index *index = keyspace_index_for_insert(keyspace, shard, database);
    struct record_plan plan = {.type = root->kind->type,
                               .encoding = RECORD_PAGED,
                               .key = key->name,
                               .value = span_of((const char *)&root, sizeof(struct collection *)),
                               .expiry_ms = key->expiry_ms,
                               .access = key->access};
    if (!index || index_find(index, hash, key->name, NULL).bucket) return false;
    void *memory = heap_allocate(&shard->heap, record_size_for(&plan));
    if (!memory) return false;
    struct record *record = record_write(memory, &plan);
    record_set_epoch(record, shard->epoch);
    if (index_insert(index, hash, ref_of(record, MEDIUM_DRAM)).bucket) return true;
    heap_free(&shard->heap, record);
    return false;
}

bool keyspace_import_collection(struct keyspace *keyspace, uint32_t number, uint32_t database,
                                const struct keyspace_imported_key *key, struct collection *root) {
    struct shard *shard = &keyspace->shards[number];
    if (!link_key(keyspace, shard, database, key, root)) return false;
    root->epoch = shard->epoch;
    collection_link(keyspace, shard, root);
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) shard->cold_records += root->parts[part].cold;
    if (root->next_expiry_ms != INT64_MAX)
        keyspace_import_fields(keyspace, number, database, key_hash(key->name, keyspace->seed), root->next_expiry_ms);
    return true;
}

void keyspace_import_end(struct keyspace *keyspace) {
    collection_registry_close_gaps(keyspace->collections);
}
