#ifndef TERRACE_KEYSPACE_KEYSPACE_IMPORT_H
#define TERRACE_KEYSPACE_KEYSPACE_IMPORT_H

/* Putting back what a checkpoint has told: keys whose records stand on the tier, by reference alone.
 *
 * Threads: the shard's lock, but for keyspace_reserve(). */

#include "keyspace/keyspace.h"

/* About so many keys will come into a database, or into one shard of it: indexes without a slot are made as large at
 * once. For the database the shards are locked one by one. */
void keyspace_reserve(struct keyspace *keyspace, uint32_t database, uint64_t count);
void keyspace_import_reserve(struct keyspace *keyspace, uint32_t shard, uint32_t database, uint64_t count);
/* The key with this hash, as index_hash_of() gave it, has the record at `ref`, which is on the tier. It is not there
 * yet, and nobody is told of it. False: no memory. */
bool keyspace_import(struct keyspace *keyspace, uint32_t shard, uint32_t database, uint64_t hash, uint64_t ref)
    __attribute__((warn_unused_result));
/* A hint that fields of the key with this (whole) hash expire then. */
void keyspace_import_fields(struct keyspace *keyspace, uint32_t shard, uint32_t database, uint64_t hash,
                            int64_t due_ms);

#endif
