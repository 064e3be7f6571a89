#ifndef TERRACE_SERVER_PLACEMENT_H
#define TERRACE_SERVER_PLACEMENT_H

/* Where the server's shards and workers are on this host: carries the plan of numa_plan.h out.
 *
 *   records, index   regions bound to the shard's node, by the keyspace
 *   a worker's own   its struct, statistics and big buffers are made while the starting thread prefers the worker's
 *   memory           node; what it allocates later is touched first by itself, and it prefers its node too
 *   the thread       runs on the CPUs of its node, or on one of them when there is a worker for each CPU
 *
 * On a host with one node nothing is bound, and only the last line has a meaning.
 *
 * Threads: chosen and dealt before the workers run, only read afterwards, the counters apart. */

#include "command/command_stats.h"
#include "memory/numa_plan.h"
#include "net/socket.h"

struct config;

struct placement {
    struct numa_topology topology;
    struct numa_plan plan;
    /* What the keyspace is told: the plan's near nodes, and beside each its far node or -1. */
    int nodes[NUMA_NODES_MAX], far_nodes[NUMA_NODES_MAX];
    unsigned node_count;      /* 0: nothing is bound */
    size_t near_bytes;        /* memory of the near nodes */
    size_t far_bytes;         /* what records may occupy on the far nodes; 0: there is none */
    atomic_bool refused;      /* the kernel does not permit binding */
    stat_counter *executions; /* a row of cache lines for each worker; NULL: one near node */
    size_t row;               /* counters in a row; the first near_count are used */
};

/* Reads the host and decides; `threads` is the directive, 0 for a worker on each CPU. How many workers there will be is
 * plan.worker_count. False: with one line in `error`. */
bool placement_choose(struct placement *placement, const struct config *config, struct socket_error *error)
    __attribute__((warn_unused_result));
/* Once the number of shards is known; logs the outcome where the host has several nodes. */
void placement_deal(struct placement *placement, unsigned shards);
void placement_free(struct placement *placement);

/* From here on the calling thread allocates for this worker; -1: for nobody in particular. */
void placement_enter(struct placement *placement, int worker);

/* The CPUs this worker should run on, for free(); NULL: all, or no memory for so much as the set. */
cpu_set_t *placement_affinity(const struct placement *placement, unsigned worker);

/* The counters a worker adds to, one for each near node, when it runs a command on a key there. NULL where there is but
 * one near node: nothing is to be told apart then. */
stat_counter *placement_executions(const struct placement *placement, unsigned worker);
/* CONFIG RESETSTAT. */
void placement_reset(struct placement *placement);

#endif
