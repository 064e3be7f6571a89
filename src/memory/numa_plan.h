#ifndef TERRACE_MEMORY_NUMA_PLAN_H
#define TERRACE_MEMORY_NUMA_PLAN_H

/* Who lives where: made once at start from the host's nodes and two directives.
 *
 *     numa-policy        local         shards on the nodes of the workers, as many as there are workers on each
 *                        interleave    shards in turn over all near nodes
 *                        0,2-3         shards in turn over these nodes; workers on their CPUs
 *     far-memory-nodes   auto          nodes with memory that have no CPU at all (CXL, PMEM as memory)
 *                        none, or a list
 *
 * A near node holds shards; a far node is where records of near ones go when they cool. Nodes that are neither
 * (memory beside CPUs this process may not use) stay what the kernel falls back to when a near node is full.
 *
 * Threads: made by one, then only read. */

#include "base/limits.h"
#include "memory/numa_topology.h"

enum { NUMA_ERROR_MAX = 256 };

enum numa_policy { NUMA_LOCAL, NUMA_INTERLEAVE, NUMA_LIST };

struct numa_plan {
    enum numa_policy policy;
    bool bound; /* memory is bound to nodes: false where only one node has any */
    unsigned near_count, far_count;
    struct numa_near {
        int node;
        int far; /* the far node nearest to it; -1: none */
        unsigned shards;
    } near[NUMA_NODES_MAX]; /* ascending nodes */
    int far[NUMA_NODES_MAX];
    unsigned worker_count, shard_count;
    struct numa_worker {
        int node;
        int cpu; /* -1: any CPU of the node this process may use */
    } workers[LIMIT_WORKERS];
    uint8_t shard_near[LIMIT_SHARDS]; /* the element of `near` each shard is on */
};

/* As the directives' values, for errors while the configuration is read: whether they have the form. */
bool numa_policy_is_valid(const char *text);
bool numa_far_is_valid(const char *text);

struct numa_plan_options {
    const char *policy;    /* value of numa-policy */
    const char *far_nodes; /* value of far-memory-nodes */
    unsigned workers;      /* 0: one for each CPU, at most LIMIT_WORKERS */
};

/* Chooses nodes and places the workers. False: the directives do not fit this host; `error` is one line that says what
 * to do. */
bool numa_plan_make(struct numa_plan *plan, const struct numa_topology *topology,
                    const struct numa_plan_options *options, char error[NUMA_ERROR_MAX])
    __attribute__((warn_unused_result));

/* Gives each of `shards` (1..LIMIT_SHARDS) its node. With the local policy shard s is beside worker s modulo workers,
 * the one that does its background work. Precondition: numa_plan_make() was true. */
void numa_plan_deal_shards(struct numa_plan *plan, const struct numa_topology *topology, unsigned shards);

/* What the calling thread allocates from now on comes from `node` while it has memory; -1: from wherever the thread
 * runs. False: the kernel does not permit it, as in some containers. */
bool numa_prefer_node(int node);

#endif
