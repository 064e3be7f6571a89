#ifndef TERRACE_MEMORY_NUMA_TOPOLOGY_H
#define TERRACE_MEMORY_NUMA_TOPOLOGY_H

/* The NUMA nodes of this host, as the kernel shows them below /sys/devices/system/node: which CPUs and how much memory
 * each has, and how far they are from each other. Facts only; what is made of them stands in numa_plan.h.
 *
 * A set of numbers, of CPUs or of nodes, is a cpu_set_t here: 1024 bits, with the C library's macros.
 *
 * Threads: all functions are pure or only read files; any thread. */

#include "base/span.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Hosts have up to 16; memory behind switches adds a few. Nodes past this are not used. */
#define NUMA_NODES_MAX 64

/* Room for any set as text: 512 ranges of one number at the worst, with four digits and a comma. */
#define NUMA_LIST_MAX 4096

#define NUMA_TOPOLOGY_ROOT "/sys/devices/system/node"

struct numa_node {
    int id;                            /* the kernel's number; numbers may have gaps */
    bool has_cpus;                     /* also such as this process may not use */
    cpu_set_t cpus;                    /* those it may use */
    uint64_t memory_bytes, free_bytes; /* 0 where this process may not allocate; free: when it was read */
    unsigned distance[NUMA_NODES_MAX]; /* to each element of `nodes`; 10 is itself */
};

struct numa_topology {
    unsigned node_count;
    struct numa_node nodes[NUMA_NODES_MAX]; /* ascending ids */
};

struct numa_topology_options {
    const char *root;       /* NULL: NUMA_TOPOLOGY_ROOT */
    const cpu_set_t *cpus;  /* those the process may use; NULL: all */
    const cpu_set_t *nodes; /* those whose memory it may use; NULL: all */
};

/* Never fails: a host that shows nothing counts as one node, number 0, with all the CPUs and all the memory. */
void numa_topology_read(struct numa_topology *topology, const struct numa_topology_options *options);

/* The nodes whose memory cgroups and an inherited policy (numactl --membind) let this process use. */
void numa_allowed_nodes(cpu_set_t *nodes);

/* The memory of one node as of now; false where the kernel does not say. */
bool numa_node_memory(const char *root, int node, uint64_t *total_bytes, uint64_t *free_bytes);

/* NULL: there is no such node. Valid as long as the topology. */
const struct numa_node *numa_topology_find(const struct numa_topology *topology, int id);

/* The distance between two nodes; a node that is not there is as far away as can be. */
unsigned numa_topology_distance(const struct numa_topology *topology, int from, int to);

/* "0,2-3": numbers and ascending ranges between commas. False, and `set` unchanged: not of this form, empty, or a
 * number past what a set holds. */
bool numa_list_parse(struct span text, cpu_set_t *set) __attribute__((warn_unused_result));
/* The same form again; "" for the empty set. `separator` stands between ranges. Returns `text`. */
char *numa_list_format(const cpu_set_t *set, char separator, char text[NUMA_LIST_MAX]);

#endif
