#ifndef TERRACE_KEYSPACE_KEYSPACE_IMPORT_H
#define TERRACE_KEYSPACE_KEYSPACE_IMPORT_H

/* Putting back what a checkpoint has told: keys whose records stand on the tier, and big collections whose pages do, by
 * reference alone.
 *
 * Threads: the shard's lock, but for keyspace_reserve() and what says otherwise. */

#include "keyspace/keyspace.h"
#include "record/collection.h"

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

/* ---- big collections ----
 *
 *   keyspace_import_root()          the root gets its id and its tables, which are empty
 *   page_table_restore_page()       for each page
 *   keyspace_import_collection()    its key leads to it
 *   keyspace_import_end()           once, when all have come
 *
 * Nobody but the caller knows of a root before its key leads to it. */

struct keyspace_imported_root {
    struct collection *root; /* as kind->load() gave it */
    const struct collection_kind *kind;
    uint32_t id;
    int64_t next_expiry_ms;
    uint32_t end[COLLECTION_PARTS];
    uint64_t payload_bytes[COLLECTION_PARTS];
};
/* False: the id is taken, or there is no memory; to be given up in either case. No lock. */
bool keyspace_import_root(struct keyspace *keyspace, const struct keyspace_imported_root *imported)
    __attribute__((warn_unused_result));
/* Frees a root that no key leads to; its pages on the tier stay where they are. */
void keyspace_import_give_up(struct keyspace *keyspace, uint32_t shard, struct collection *root);

struct keyspace_imported_key {
    struct span name;
    int64_t expiry_ms; /* or RECORD_EXPIRY_NONE */
    uint32_t access;   /* access bits */
};
/* All pages are in the tables of `root`, and kind->loaded() was content. False: no memory, or the key has a record in
 * memory already; the root is still the caller's. */
bool keyspace_import_collection(struct keyspace *keyspace, uint32_t shard, uint32_t database,
                                const struct keyspace_imported_key *key, struct collection *root)
    __attribute__((warn_unused_result));
/* Ids between those that were imported may be given out. No lock. */
void keyspace_import_end(struct keyspace *keyspace);

#endif
