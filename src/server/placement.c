/* Carries the NUMA plan out. See placement.h. */

#include "server/placement.h"

#include "base/log.h"
#include "server/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COUNTERS_PER_LINE = 64 / sizeof(stat_counter),
    FAR_SPARE_PART = 32, /* of a far node's free memory stays free: near its end the kernel takes other nodes */
};

/* ---- choosing ---- */

static void read_topology(struct numa_topology *topology) {
    struct numa_topology_options options = {0};
    cpu_set_t cpus, nodes;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus)) options.cpus = &cpus;
    numa_allowed_nodes(&nodes);
    options.nodes = &nodes;
    numa_topology_read(topology, &options);
}

/* A worker writes its own lines only. */
static bool make_counters(struct placement *placement) {
    const struct numa_plan *plan = &placement->plan;
    if (plan->near_count < 2) return true;
    placement->row = (plan->near_count + COUNTERS_PER_LINE - 1) / COUNTERS_PER_LINE * COUNTERS_PER_LINE;
    size_t bytes = plan->worker_count * placement->row * sizeof(stat_counter);
    placement->executions = aligned_alloc(64, bytes);
    if (placement->executions) placement_reset(placement);
    return placement->executions != NULL;
}

/* Free memory of the far nodes that some near node uses. */
static size_t far_memory(const struct numa_plan *plan, const struct numa_topology *topology) {
    size_t bytes = 0;
    for (unsigned i = 0; i < plan->far_count; i++) {
        bool used = false;
        for (unsigned k = 0; k < plan->near_count; k++) used = used || plan->near[k].far == plan->far[i];
        if (used) bytes += numa_topology_find(topology, plan->far[i])->free_bytes;
    }
    return bytes - bytes / FAR_SPARE_PART;
}

bool placement_choose(struct placement *placement, const struct config *config, struct socket_error *error) {
    struct numa_plan *plan = &placement->plan;
    char text[NUMA_ERROR_MAX];
    struct numa_plan_options options = {.policy = config->memory.numa_policy,
                                        .far_nodes = config->memory.far_memory_nodes,
                                        .workers = (unsigned)config->general.threads};
    read_topology(&placement->topology);
    if (!numa_plan_make(plan, &placement->topology, &options, text)) {
        snprintf(error->text, sizeof(error->text), "%s", text);
        return false;
    }
    placement->node_count = plan->bound ? plan->near_count : 0;
    for (unsigned i = 0; i < plan->near_count; i++) {
        placement->nodes[i] = plan->near[i].node;
        placement->far_nodes[i] = plan->near[i].far;
    }
    for (unsigned i = 0; i < plan->near_count; i++)
        placement->near_bytes += numa_topology_find(&placement->topology, plan->near[i].node)->memory_bytes;
    placement->far_bytes = far_memory(plan, &placement->topology);
    if (make_counters(placement)) return true;
    snprintf(error->text, sizeof(error->text), "out of memory");
    return false;
}

void placement_deal(struct placement *placement, unsigned shards) {
    struct numa_plan *plan = &placement->plan;
    numa_plan_deal_shards(plan, &placement->topology, shards);
    if (!placement->node_count) return;
    for (unsigned i = 0; i < plan->near_count; i++) {
        unsigned workers = 0;
        for (unsigned k = 0; k < plan->worker_count; k++) workers += plan->workers[k].node == plan->near[i].node;
        char far[32] = "none";
        if (plan->near[i].far >= 0) snprintf(far, sizeof(far), "node %d", plan->near[i].far);
        log_notice("NUMA node %d: shards %u, workers %u, far memory %s", plan->near[i].node, plan->near[i].shards,
                   workers, far);
    }
}

void placement_free(struct placement *placement) {
    free(placement->executions);
    placement->executions = NULL;
}

/* ---- threads ---- */

void placement_enter(struct placement *placement, int worker) {
    if (!placement->node_count) return;
    if (numa_prefer_node(worker < 0 ? -1 : placement->plan.workers[worker].node)) return;
    if (!atomic_exchange(&placement->refused, true))
        log_warning(
            "the kernel does not permit binding memory to NUMA nodes: threads stay on their nodes, memory comes "
            "from wherever it is touched first. A container may need the capability SYS_NICE");
}

cpu_set_t *placement_affinity(const struct placement *placement, unsigned worker) {
    const struct numa_worker *place = &placement->plan.workers[worker];
    const struct numa_node *node = numa_topology_find(&placement->topology, place->node);
    if (place->cpu < 0 && (placement->topology.node_count < 2 || !node || !CPU_COUNT(&node->cpus))) return NULL;
    cpu_set_t *cpus = malloc(sizeof(*cpus));
    if (!cpus) return NULL;
    CPU_ZERO(cpus);
    if (place->cpu >= 0)
        CPU_SET(place->cpu, cpus);
    else
        *cpus = node->cpus;
    return cpus;
}

/* ---- counters ---- */

stat_counter *placement_executions(const struct placement *placement, unsigned worker) {
    return placement->executions ? placement->executions + worker * placement->row : NULL;
}

void placement_reset(struct placement *placement) {
    if (!placement->executions) return;
    for (size_t i = 0; i < placement->plan.worker_count * placement->row; i++) stat_set(&placement->executions[i], 0);
}
