#ifndef TERRACE_KEYSPACE_WAIT_TABLE_H
#define TERRACE_KEYSPACE_WAIT_TABLE_H

/* Who waits for which keys: one table a shard, there only while somebody waits.
 *
 *   shard->waits -> table --hash--> wait_key (database, name) -> node -> node -> node     in order of arrival
 *                     `- ready keys, in the order they were marked
 *
 * A change of a key marks it ready; whoever holds the shard's lock then takes ready keys and lets those who wait try
 * again (blocked.h). The table knows nothing of who waits and for what.
 *
 * Locks: everything belongs to the holder of the shard's lock, except the figures, which are atomic. */

#include "base/span.h"

#include <stdatomic.h>
#include <stdint.h>

struct wait_key;

/* One of the keys that somebody waits for. Embedded in the waiter, who owns it. */
struct wait_node {
    struct wait_node *next, *previous; /* in the key's queue */
    struct wait_key *key;              /* NULL: it stands in no queue */
    void *owner;
    uint32_t shard;     /* the key's; for the owner */
    bool wants_absence; /* also wants to know when the key is gone */
    bool is_spread;     /* to try again may take other shards than the key's */
};

/* One for all shards: how many keys were ever marked ready, and how many of these marks are done with; how many keys
 * somebody waits for. */
struct wait_figures {
    char apart[64]; /* where clients block, these change all the time; what stands before them is only read */
    _Atomic uint64_t marked, unmarked;
    atomic_uint keys, keys_of_absence;
};

struct wait_key {
    struct wait_key *next; /* in the table's chain */
    struct wait_key *next_ready, *previous_ready;
    struct wait_node *first, *last;
    struct wait_node *cursor; /* the one to try next, while the queue is gone through */
    uint64_t hash;
    uint64_t order;   /* of its mark */
    uint64_t visited; /* by whoever gathers shards to be locked: the number of the gathering */
    uint32_t database;
    uint32_t count, absence_count, spread_count; /* of nodes */
    bool ready, held;                            /* held: stays though its queue is empty */
    uint32_t name_length;
    char name[];
};

struct wait_table {
    struct wait_figures *figures;
    struct wait_key **chains;
    uint32_t mask, count;
    struct wait_key *first_ready, *last_ready;
};

/* Puts the node at the end of the key's queue. `*table` is made if it is NULL. False: no memory, nothing changed. */
bool wait_add(struct wait_table **table, struct wait_figures *figures, uint32_t database, uint64_t hash,
              struct span name, struct wait_node *node) __attribute__((warn_unused_result));
/* Takes it out. The key goes with its last node, and the table with its last key: `*table` is then NULL. Nothing
 * happens if it stands in no queue. */
void wait_remove(struct wait_table **table, struct wait_node *node);

/* The next key of this name after `previous` (NULL: the first), in whatever database; NULL: no more. */
struct wait_key *wait_find(const struct wait_table *table, const struct wait_key *previous, uint64_t hash,
                           struct span name);

/* Keeps the key while its queue is gone through; wait_release() ends that, and frees what is empty. */
void wait_hold(struct wait_key *key);
void wait_release(struct wait_table **table, struct wait_key *key);

/* Marks a key that somebody waits for. */
void wait_mark_slow(struct wait_table *table, uint32_t database, uint64_t hash, struct span name);
static inline void wait_mark(struct wait_table *table, uint32_t database, uint64_t hash, struct span name) {
    if (__builtin_expect(table != NULL, 0)) wait_mark_slow(table, database, hash, name);
}
/* All keys of a database; with `absence` only those whose absence somebody wants to know of. */
void wait_mark_database(struct wait_table *table, uint32_t database, bool absence);
/* Precondition: it is marked. */
void wait_unmark(struct wait_table *table, struct wait_key *key);

/* How many marks have been set and not voided, in all shards: as wait_is_any_marked(), never too few for whoever has
 * set one himself. */
static inline uint64_t wait_count_marked(struct wait_figures *figures) {
    uint64_t unmarked = atomic_load_explicit(&figures->unmarked, memory_order_acquire);
    return atomic_load_explicit(&figures->marked, memory_order_relaxed) - unmarked;
}

/* Whether any shard has a marked key. Any thread, without a lock. True for whoever has marked one himself: as
 * `unmarked` is read first, the marks that others set and void meanwhile cannot make up for his. */
static inline bool wait_is_any_marked(struct wait_figures *figures) {
    uint64_t unmarked = atomic_load_explicit(&figures->unmarked, memory_order_acquire);
    return atomic_load_explicit(&figures->marked, memory_order_relaxed) != unmarked;
}

#endif
