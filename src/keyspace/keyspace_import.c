/* Keys of a checkpoint: see keyspace_import.h. */

#include "keyspace/keyspace_import.h"

#include "keyspace/keyspace_private.h"

#include <assert.h>

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
