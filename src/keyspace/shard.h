#ifndef TERRACE_KEYSPACE_SHARD_H
#define TERRACE_KEYSPACE_SHARD_H

/* A shard: one range of cluster slots, with everything its keys need: a lock, a record heap on one NUMA
 * node, an index for each database in use, the keys that transactions watch, and its share of the counters.
 *
 * Whoever holds the lock owns all of it. Several shards are locked in ascending order of their number. */

#include "keyspace/index.h"
#include "keyspace/wait_table.h"
#include "keyspace/watch.h"
#include "memory/heap.h"

#include <stdatomic.h>
#include <stddef.h>

struct shard_counters {
    uint64_t hits, misses;   /* lookups of read commands */
    uint64_t expired;        /* keys removed because their time had come */
    uint64_t expired_fields; /* of hashes */
    uint64_t lazy_freed;     /* collections that were freed in slices */
    uint64_t evicted;
    uint64_t expired_on_access;             /* of `expired` */
    uint64_t moved;                         /* records moved by compaction */
    uint64_t far_hits, tier_hits;           /* of hits: where the record was */
    uint64_t promotions, demotions;         /* from the tier, to it */
    uint64_t far_promotions, far_demotions; /* from far memory, to it */
};

/* Where the hand stands among the pages of the shard's collections. */
struct collection;
struct shard_page_hand {
    struct collection *collection; /* NULL: at the first one */
    uint32_t part, number;
    bool whole;       /* this round began at the first collection */
    bool met, barren; /* as of the clock */
};

/* A page that was used in far memory and is to come back; its number with the part in the highest bit. */
struct shard_far_page {
    uint32_t collection, number;
};
enum { SHARD_FAR_USED = 16 }; /* for a while: what is used often is chosen again */

/* The hand that goes round a shard's indexes looking for records to move to a colder medium; see keyspace_tier.c. */
enum { CLOCK_BUCKETS = 64 };
struct shard_clock {
    uint32_t database;
    uint64_t position;
    unsigned threshold; /* a record in this bucket of coldness or a higher one is moved */
    uint32_t seen;      /* records in the histogram */
    bool met;           /* something in memory that could be moved, in this round */
    bool barren;        /* the round before met nothing of the kind */
    uint16_t histogram[CLOCK_BUCKETS];
};

struct keyspace_snapshot;
struct kept;

/* Three groups of cache lines: what every command writes, which a worker asks for together with the key's record; what
 * is only read, also by workers that do not hold the lock; the rest. */
struct shard {
    _Alignas(64) _Atomic uint32_t lock; /* 0 free, 1 taken */
    _Atomic uint32_t waiters;           /* asleep, or about to be */
    uint64_t changes;                   /* of keys, ever */
    struct watch_table watches;
    struct wait_table *waits; /* keys that blocked clients wait for; NULL: none */
    struct shard_counters counters;

    _Alignas(64) uint32_t number;
    uint8_t epoch;                      /* of what is made now: keyspace_snapshot.h */
    struct index **databases;           /* NULL where a database has no key in this shard */
    struct keyspace_snapshot *snapshot; /* that is being taken; NULL: none */
    struct kept *images;                /* kept for it, not given to its walkers yet */

    _Alignas(64) struct heap heap; /* its `far`: NULL if there is no far memory */
    uint64_t cold_records;         /* on the tier */
    struct shard_clock clock;
    struct collection *collections; /* big ones, whose keys are here: keyspace_collection.h */
    struct collection *condemned_collections;
    struct collection *untidy_collections; /* with pages to be freed */
    struct collection *big_collections;    /* of these, those with heaps of their own */
    struct heap_sums big, big_far;         /* of all heaps that are a collection's own, until they are freed */
    struct collection *heap_hand;          /* the next to be looked at whether it is big */
    struct shard_page_hand page_hand;
    unsigned far_used_count;
    struct shard_far_page far_used[SHARD_FAR_USED];
    struct index **condemned; /* flushed databases, whose records are freed in slices */
    size_t condemned_count, condemned_capacity;
    uint64_t condemned_position;
    uint64_t sweep_position; /* of the expiry sweep */
    uint32_t sweep_database;
    uint32_t compact_database, compact_entry; /* of the index compaction */
};

_Static_assert(offsetof(struct shard, counters.misses) + sizeof(uint64_t) <= 64,
               "lock, counters and watches share a line");

void shard_lock_slow(struct shard *shard);
void shard_wake(struct shard *shard);

static inline void shard_lock(struct shard *shard) {
    uint32_t unlocked = 0;
    if (!atomic_compare_exchange_strong_explicit(&shard->lock, &unlocked, 1, memory_order_acquire,
                                                 memory_order_relaxed))
        shard_lock_slow(shard);
}

/* A plain store frees the lock. Whether somebody sleeps may be read too early to see one who is just falling asleep: he
 * wakes by himself soon (shard.c), which is rare enough to be cheaper than a locked instruction each time. */
static inline void shard_unlock(struct shard *shard) {
    atomic_store_explicit(&shard->lock, 0, memory_order_release);
    if (__builtin_expect(atomic_load_explicit(&shard->waiters, memory_order_relaxed) != 0, 0)) shard_wake(shard);
}

#endif
