#ifndef TERRACE_KEYSPACE_KEYSPACE_PRIVATE_H
#define TERRACE_KEYSPACE_KEYSPACE_PRIVATE_H

/* What the files of the keyspace share among themselves. The caller of each function holds the shard's lock. */

#include "keyspace/keyspace.h"
#include "keyspace/keyspace_collection.h"

enum { FAR_USES = 16 }; /* a record comes back from far memory at one in so many uses */

/* The heap a record in memory is in. */
static inline struct heap *shard_heap(struct shard *shard, uint64_t ref) {
    return ref_medium(ref) == MEDIUM_FAR ? shard->heap.far : &shard->heap;
}

/* The same where nothing refers to the record any more (it is pinned, or taken out): its address tells. What has a
 * mapping of its own is never far. */
static inline struct heap *keyspace_heap_with(struct shard *shard, const struct record *record) {
    return shard->heap.far && region_contains(shard->heap.far->pool, record) ? shard->heap.far : &shard->heap;
}

/* Gives up the record that `ref` led to, wherever it is; nothing refers to it any more. */
static inline void shard_release(struct keyspace *keyspace, struct shard *shard, uint64_t ref) {
    if (__builtin_expect(!ref_is_cold(ref), 1)) {
        heap_free(shard_heap(shard, ref), ref_record(ref));
        return;
    }
    shard->cold_records--;
    tier_drop(keyspace->tier, ref);
}

/* The same for a record that leaves its index with its value: the collection it may lead to is given up too. */
static inline void shard_release_value(struct keyspace *keyspace, struct shard *shard, uint64_t ref) {
    if (__builtin_expect(!ref_is_cold(ref) && record_is_paged(ref_record(ref)), 0))
        collection_condemn(keyspace, shard, collection_of(ref_record(ref)));
    shard_release(keyspace, shard, ref);
}

/* Where the page, which is in memory, has its memory from. */
static inline struct heap *collection_heap(struct keyspace *keyspace, struct shard *shard, uint64_t ref) {
    struct heap *own = collection_find(keyspace->collections, page_owner(ref_record(ref)))->heap;
    if (!own) return shard_heap(shard, ref);
    return ref_medium(ref) == MEDIUM_FAR ? own->far : own;
}

/* The index of a database, made if there is none. NULL: no memory. */
struct index *keyspace_index_for_insert(struct keyspace *keyspace, struct shard *shard, uint32_t database);
/* Takes the index of a database away from the shard if it is empty, for the next shard that needs one. */
void keyspace_spare_index(struct keyspace *keyspace, struct shard *shard, uint32_t database);

/* Takes the key out of the index; the collection it led to has another already. */
void keyspace_leave_behind(const struct view *view, const struct key *key, struct lookup *lookup);

/* Removes fields that have expired, of hashes whose keys were noted, for about `budget_ns`. `looked_at` counts hashes.
 * True: nothing more is due. */
bool keyspace_sweep_fields(struct keyspace *keyspace, struct shard *shard, int64_t now_ms, uint64_t budget_ns,
                           const struct keyspace_sweeper *sweeper, size_t *looked_at);

/* Whether a record in memory is being sent, and must keep its place and its bytes. */
static inline bool shard_is_pinned(struct shard *shard, uint64_t ref, size_t record_bytes) {
    return record_bytes >= LIMIT_REPLY_COPY_BYTES && heap_is_pinned(shard_heap(shard, ref), ref_record(ref));
}

#endif
