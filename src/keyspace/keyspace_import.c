/* Keys of a checkpoint: see keyspace_import.h. */

#include "keyspace/keyspace_import.h"

#include "keyspace/keyspace_private.h"

#include <assert.h>

bool keyspace_import(struct keyspace *keyspace, uint32_t number, uint32_t database, uint64_t hash, uint64_t ref) {
    struct shard *shard = &keyspace->shards[number];
    assert(ref_is_cold(ref) && database < keyspace->database_count);
    struct index **index = &shard->databases[database];
    if (!*index) *index = index_create(&keyspace->index_memory[keyspace_node_of(keyspace, number)].environment);
    if (!*index || !index_import(*index, hash, ref)) return false;
    shard->cold_records++;
    return true;
}

void keyspace_import_fields(struct keyspace *keyspace, uint32_t number, uint32_t database, uint64_t hash,
                            int64_t due_ms) {
    struct index *index = keyspace->shards[number].databases[database];
    if (!index || (!index->fields && !(index->fields = field_expiry_create()))) return;
    field_expiry_note(index->fields, hash, due_ms);
}
