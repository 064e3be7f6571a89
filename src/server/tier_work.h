#ifndef TERRACE_SERVER_TIER_WORK_H
#define TERRACE_SERVER_TIER_WORK_H

/* A worker's share of moving records to colder media and of keeping the tier in order: slices between turns.
 *
 * Threads: on the worker's own thread, no shard lock held. */

#include "keyspace/keyspace_tier.h"

struct worker;

/* What a worker remembers about it. */
struct tier_work {
    uint32_t demote_shard; /* where the next slice goes on */
    uint32_t help_shard;   /* likewise, among the shards of all workers */
    uint32_t barren;       /* shards in a row from which nothing can be moved: its own first, then all */
    uint32_t far_shard;    /* likewise, of moving to far memory */
    uint32_t budget_shard; /* likewise, of looking who is over tier-record-budget */
    size_t near_bytes;     /* of records and index in near memory, as of near_sum_ns and without what it moved since */
    uint64_t near_sum_ns, near_rest_ns; /* of clock_monotonic_ns(): the last sum; no moving before that */
    uint32_t near_barren;               /* shards in a row from which nothing could be moved to far memory */
    bool compacting;                    /* TIER COMPACT: until nothing is left worth cleaning */
};

/* Moves cold records until about `wanted_bytes` of memory are free, or the time is up; `*status` says why it stopped.
 * Returns what was freed. NOTHING: there is no tier, or nothing it could take in any shard of any worker. */
size_t tier_work_demote(struct worker *worker, size_t wanted_bytes, bool urgent, uint64_t budget_ns,
                        enum demotion_status *status);

/* Frees whole segments by dropping the keys in them: a full tier under a maxmemory-policy that evicts. True: it is at
 * it. */
bool tier_work_evict(struct worker *worker, bool only_volatile, uint64_t budget_ns);

/* A slice of what is always to be done: cleaning, tier-record-budget. True: there is more to be done at once. */
bool tier_work_slice(struct worker *worker, uint64_t budget_ns);

#endif
