#ifndef TERRACE_KEYSPACE_WATCH_H
#define TERRACE_KEYSPACE_WATCH_H

/* Optimistic transactions: who is told when a key changes.
 *
 * A watcher belongs to one client session. Each key it watches is an entry in the table of the key's shard.
 * A change of the key sets the watcher's `dirty`, which its EXEC reads.
 *
 * Locks: a table and its entries belong to the holder of the shard's lock; the list of a watcher's entries
 * belongs to the session's thread. `dirty` is atomic. */

#include "base/span.h"

#include <stdatomic.h>
#include <stdint.h>

struct watch_entry {
    struct watch_entry *next;          /* in the table's chain */
    struct watch_entry *next_of_owner; /* in the watcher's list */
    struct watcher *owner;
    uint64_t hash;
    uint32_t shard;
    uint32_t database;
    bool was_expired; /* the key had expired when the watch began: its removal is no change */
    uint32_t key_length;
    char key[];
};

struct watcher {
    atomic_bool dirty;
    struct watch_entry *entries;
    size_t bytes;   /* of the entries */
    uint32_t count; /* of them */
};

struct watch_table {
    struct watch_entry **chains; /* NULL until the first watch */
    uint32_t mask;
    uint32_t count;
    uint32_t keys; /* different ones among the entries */
};

/* False: no memory. Precondition: this watcher does not watch this key (see watch_find()). */
bool watch_add(struct watch_table *table, struct watcher *watcher, uint32_t shard, uint32_t database, uint64_t hash,
               struct span key, bool was_expired) __attribute__((warn_unused_result));
struct watch_entry *watch_find(const struct watcher *watcher, uint32_t database, uint64_t hash, struct span key);
/* Takes one entry out of its table and frees it; the caller has unlinked it from the watcher. */
void watch_remove(struct watch_table *table, struct watch_entry *entry);

/* The key changed. `expired`: because it was removed after its time. */
void watch_touch(struct watch_table *table, uint32_t database, uint64_t hash, struct span key, bool expired);

static inline bool watch_table_is_empty(const struct watch_table *table) {
    return table->count == 0;
}

/* Calls `visit` for each entry of the database; true marks its watcher dirty. It may change `was_expired`. */
void watch_touch_database(struct watch_table *table, uint32_t database,
                          bool (*visit)(void *ctx, struct watch_entry *entry), void *ctx);

#endif
