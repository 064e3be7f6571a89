#ifndef TERRACE_KEYSPACE_KEYSPACE_EVICT_H
#define TERRACE_KEYSPACE_KEYSPACE_EVICT_H

/* Eviction: finding a record that is worth least, and removing it.
 *
 *   draw     a few records of one place chosen at random: a shard (the more records it has, the likelier), a database
 *            of it, a segment of its index
 *   rank     the best of what was drawn so far are remembered in a pool, as hash and reference, without holding
 *            anything: a record may move, change or vanish meanwhile
 *   evict    the best of the pool, provided that it is still there and still as cold as it was
 *
 * Only records in memory are drawn, near and far: what is on a tier takes none.
 *
 * Threads: any; no shard lock may be held. A pool belongs to one thread. */

#include "base/random.h"
#include "keyspace/keyspace.h"

enum { EVICTION_POOL = 16, EVICTION_SAMPLES_MAX = 64 };

enum eviction_order {
    EVICT_BY_IDLE_TIME, /* the longest unused first */
    EVICT_BY_FREQUENCY, /* the least used first */
    EVICT_BY_EXPIRY,    /* what expires soonest first */
    EVICT_AT_RANDOM,
};

struct eviction_rule {
    enum eviction_order order;
    bool only_volatile; /* keys without an expiry stay */
    unsigned samples;   /* drawn for each one evicted; 1 to EVICTION_SAMPLES_MAX */
};

/* A record that may go. The higher its score the better. */
struct eviction_candidate {
    uint64_t score;
    uint64_t hash, ref;
    uint32_t shard, database;
};

struct eviction_pool {
    struct eviction_candidate candidates[EVICTION_POOL]; /* by score, ascending */
    unsigned count;
    struct eviction_rule rule; /* by which they were ranked: a pool of another rule is forgotten */
};

struct eviction {
    struct keyspace *keyspace;
    struct eviction_pool *pool;
    struct random *random;
    int64_t now_ms;
    /* Values from this size on are not freed but handed over in `detached`, to be freed in pieces by
     * keyspace_free_detached(). */
    size_t detach_bytes;
};

/* What an eviction took away. */
struct evicted {
    size_t bytes;            /* of memory, detached ones included; 0: nothing was found that may go */
    struct record *detached; /* NULL: it is freed */
    uint32_t shard;          /* of `detached` */
    bool exhausted;          /* there is nothing that may go, as opposed to not found this time */
};

/* Evicts one record. Takes about a microsecond, most of it waiting for memory; up to some dozens where records that may
 * go are rare, and may then fail to find one that is there. Watchers are told as of any removal. */
struct evicted keyspace_evict(const struct eviction *eviction, const struct eviction_rule *rule);

/* Whether somebody holds the shard's lock just now: work that could as well be done elsewhere need not wait for a
 * command that may be filling hundreds of megabytes. A hint. */
static inline bool keyspace_is_busy(struct keyspace *keyspace, uint32_t shard) {
    return keyspace->locking && atomic_load_explicit(&keyspace->shards[shard].lock, memory_order_relaxed) != 0;
}

/* Frees at most `step_bytes` of a detached record; true: it is gone, false: `*record` has become shorter and may have
 * moved. */
bool keyspace_free_detached(struct keyspace *keyspace, uint32_t shard, struct record **record, size_t step_bytes);

#endif
