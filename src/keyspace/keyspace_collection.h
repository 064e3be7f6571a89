#ifndef TERRACE_KEYSPACE_KEYSPACE_COLLECTION_H
#define TERRACE_KEYSPACE_KEYSPACE_COLLECTION_H

/* Big collections in the keyspace: their making, their freeing in slices, and access to their pages.
 *
 * A value that has grown past the size of a packed record becomes a collection (record/collection.h):
 *
 *   struct collection *root = keyspace_new_collection(view, key, &kind);
 *   ... fill it through an access from keyspace_pages() ...
 *   if (!keyspace_store_collection(view, key, &lookup, root)) keyspace_discard_collection(view, root);
 *
 * Every collection is known by its id (struct collection_registry), so that whoever meets a page - the heap when it
 * moves it, the cleaner of the tier - finds the page's entry; and it is on the list of its shard, which the demotion
 * hand goes along.
 *
 * A collection that leaves its key (removed, expired, evicted, flushed, replaced) is condemned: it goes to a list of
 * its shard and is freed in slices by keyspace_drain(). Small ones are freed at once.
 *
 * Threads: the lock of the key's shard for all of it, unless said otherwise. */

#include "keyspace/keyspace.h"
#include "record/collection.h"

struct collection_registry;

struct collection_registry *collection_registry_create(void);
void collection_registry_destroy(struct collection_registry *registry);
/* In which shard the collection with this id is; UINT32_MAX: there is none. Without that shard's lock it may be another
 * one, or none, a moment later. */
uint32_t collection_shard(const struct collection_registry *registry, uint32_t id);
/* The collection. Precondition: it is in a shard whose lock is held. */
struct collection *collection_find(const struct collection_registry *registry, uint32_t id);

/* ---- access ---- */

/* For reading and changing the pages of the shard's collections during this command. */
struct page_access keyspace_pages(const struct view *view, struct shard *shard);

/* The root. Precondition: the record is there and record_is_paged(). */
static inline struct collection *lookup_collection(const struct lookup *lookup) {
    return collection_of(lookup->record);
}

/* ---- making ---- */

/* A root of kind->root_bytes, zeroed but for its struct collection; its key will be `key`. NULL: no memory, or the
 * command is going to be run again. */
struct collection *keyspace_new_collection(const struct view *view, const struct key *key,
                                           const struct collection_kind *kind) __attribute__((warn_unused_result));
/* The key's value is the collection from now on; what it was before is given up, its expiry stays if `keep_expiry`.
 * False: no memory, nothing changed: the collection is still the caller's. The lookup is renewed. */
bool keyspace_store_collection(const struct view *view, const struct key *key, struct lookup *lookup,
                               struct collection *collection, bool keep_expiry) __attribute__((warn_unused_result));
/* Gives up a collection that no key leads to. */
void keyspace_discard_collection(const struct view *view, struct collection *collection);

/* The collection was changed through its pages: tells watchers and counts, as the functions of keyspace.h do for
 * records. Once a command, or once an element; as the command counts (Redis counts each element in its `dirty`). */
static inline void keyspace_collection_changed(const struct view *view, const struct key *key) {
    keyspace_touched(view, key);
}

/* Pages may have been cut off a collection (paged_tree_cut_range()): they are freed in slices by keyspace_drain(). */
void keyspace_tidy_later(const struct view *view, struct collection *collection);

/* ---- whole values, of any encoding ---- */

/* Gives what `source` leads to to another key, with its expiry, and removes the source key. `target` was looked up
 * before `source`. False: no memory, nothing changed. Lookups of both are no longer valid. */
bool keyspace_move_value(const struct view *source_view, const struct key *source_key, struct lookup *source,
                         const struct view *target_view, const struct key *target_key, struct lookup *target)
    __attribute__((warn_unused_result));
/* The same, and the source keeps its own. */
bool keyspace_copy_value(const struct view *source_view, struct lookup *source, const struct view *target_view,
                         const struct key *target_key, struct lookup *target) __attribute__((warn_unused_result));

/* ---- for the keyspace itself ---- */

/* The value of this record, which leaves its index, is given up as well if it is a collection. */
void collection_condemn(struct keyspace *keyspace, struct shard *shard, struct collection *collection);
/* A slice of freeing what was condemned or cut off; true: there is more. */
bool collection_drain(struct keyspace *keyspace, struct shard *shard, unsigned budget_pages);
bool collection_register(struct collection_registry *registry, struct collection *collection);
/* The same under the id that it had when a checkpoint was made. False: another has that id, or there is no memory.
 * Until collection_registry_close_gaps() ids below are not given out; from then on those that no collection has are. */
bool collection_register_again(struct collection_registry *registry, struct collection *collection, uint32_t id)
    __attribute__((warn_unused_result));
void collection_registry_close_gaps(struct collection_registry *registry);
void collection_unregister(struct collection_registry *registry, const struct collection *collection);
void collection_link(const struct keyspace *keyspace, struct shard *shard, struct collection *collection);
void collection_unlink(struct shard *shard, struct collection *collection);
/* Puts `root`, whose tables are those of `shell`, in its place: on the lists and behind its id. */
void collection_replace(struct keyspace *keyspace, struct collection *shell, struct collection *root);
/* Gives the collection a heap of its own, and moves its pages there. False: no memory. */
bool collection_give_heap(struct shard *shard, struct collection *collection);
/* Looks at a few collections of the shard, and gives the first that has become big a heap of its own; true: it did. */
bool collection_give_heaps(struct shard *shard);
/* Where the page, which is in DRAM, has its place in far memory. NULL: no memory. Precondition: the shard has some. */
struct heap *collection_far_heap(struct keyspace *keyspace, struct shard *shard, const struct record *page);
/* Brings those pages into DRAM that were used in far memory and are to come back. */
void collection_bring_near(struct keyspace *keyspace, struct shard *shard);
/* Swings the entry of a page that heap_compact() moves. */
bool collection_relocate(struct keyspace *keyspace, struct shard *shard, const struct record *page, uint64_t from,
                         uint64_t to);
/* A copy of the root and the tables, which shares the pages and is the caller's until it is thawed, also when the
 * living one goes. One at a time. NULL: no memory. */
struct collection *collection_freeze(struct keyspace *keyspace, struct shard *shard, struct collection *living);
/* Frees a frozen one and what pages it does not share; true: there is more. */
bool collection_thaw(struct keyspace *keyspace, struct shard *shard, struct collection *frozen, unsigned budget_pages);
/* Frees all at the end, whatever lists it is on. */
void collection_destroy_all(struct keyspace *keyspace, struct shard *shard);
bool collection_validate_all(struct keyspace *keyspace, struct shard *shard);

/* Bytes of a collection: pages as they would be in memory, tables and root. */
size_t collection_bytes(const struct collection *collection);
/* Of these, what is in memory; cold pages count as they do on average. */
size_t collection_memory_bytes(const struct collection *collection);

#endif
