#ifndef TERRACE_KEYSPACE_KEYSPACE_SNAPSHOT_PRIVATE_H
#define TERRACE_KEYSPACE_KEYSPACE_SNAPSHOT_PRIVATE_H

/* What the files of the snapshot share. */

#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_snapshot.h"
#include "tiering/tier_frontier.h"

#include <pthread.h>

/* An image, or a frozen collection, that waits for a walker. */
struct kept {
    struct kept *next;
    struct snapshot_taken taken;
    size_t bytes;
};

struct kept_list {
    struct kept *first, **last;
};

/* A cold record that was read, or could not be (`record` NULL). Owned by the lane. */
struct read_back {
    uint64_t ref;
    struct record *record;
    bool touched; /* in this slice */
    bool wanted;  /* it was in the index at the last look, and not at hand */
    unsigned failures;
};

enum { LANE_BUFFER = 256 << 10, LANE_READS = 256 };

struct snapshot_lane {
    uint32_t shard; /* being walked; UINT32_MAX: none */
    bool ended;
    char *buffer;
    size_t used;
    struct read_back reads[LANE_READS]; /* of the stretch of an index where the walk is */
    unsigned read_count;
};

struct keyspace_snapshot {
    struct keyspace *keyspace;
    struct tier_frontier *frontier; /* NULL: no tier */
    bool locking_before, cut;
    bool references; /* of cold records, not their images */
    atomic_bool abandoned, lost;
    atomic_size_t waiting_bytes;
    size_t waiting_max;
    uint64_t keys;
    _Atomic uint32_t next_shard; /* the next that no lane has begun */
    _Atomic uint32_t shards_walked;
    pthread_mutex_t lock;                   /* of the queue; taken last */
    struct kept_list short_ones, long_ones; /* long: big collections of many pages */
    unsigned lane_count;
    struct snapshot_lane lanes[];
};

static inline bool snapshot_is_given_up(const struct keyspace_snapshot *snapshot) {
    return atomic_load_explicit(&snapshot->abandoned, memory_order_relaxed) ||
           atomic_load_explicit(&snapshot->lost, memory_order_relaxed);
}

/* The frozen copy of the collection that this record, which is of the cut, leads to; it is the caller's. NULL: no
 * memory. The shard's lock is held. */
struct snapshot_collection *snapshot_freeze(struct keyspace_snapshot *snapshot, struct shard *shard,
                                            const struct record *record);
/* No lock is held. */
void snapshot_thaw(struct snapshot_collection *value);

#endif
