#ifndef TERRACE_KEYSPACE_KEYSPACE_IMPORT_H
#define TERRACE_KEYSPACE_KEYSPACE_IMPORT_H

/* Putting back what a checkpoint has told: keys whose records stand on the tier, by reference alone.
 *
 * Threads: nobody else uses the shard. Different shards may be filled by different threads. */

#include "keyspace/keyspace.h"

/* The key with this hash, as index_hash_of() gave it, has the record at `ref`, which is on the tier. It is not there
 * yet, and nobody is told of it. False: no memory. */
bool keyspace_import(struct keyspace *keyspace, uint32_t shard, uint32_t database, uint64_t hash, uint64_t ref)
    __attribute__((warn_unused_result));
/* A hint that fields of the key with this (whole) hash expire then. */
void keyspace_import_fields(struct keyspace *keyspace, uint32_t shard, uint32_t database, uint64_t hash,
                            int64_t due_ms);

#endif
