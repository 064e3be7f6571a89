/* Decides which nodes hold shards, which are far memory, and where the workers run. See numa_plan.h.
 *
 * In this order, since each step needs the one before:
 *
 *   1. far nodes, so that none of them is taken for near
 *   2. near candidates: what the list names, or every other node with memory
 *   3. homes of workers: nodes with CPUs, those of the list first. CPUs are dealt one from each home in turn, so that
 *      any number of workers is spread evenly, and as many workers as CPUs get one each
 *   4. near nodes: with the local policy those that have CPUs, and some worker nearest to them
 *   5. the far node of each near one: the nearest, and of several equally near the one fewest share
 *
 * A worker runs on one CPU only when there is a worker for each; fewer would otherwise crowd on the first CPUs
 * together with those of a neighbour server that counted the same way. */

#include "memory/numa_plan.h"

#include <assert.h>
#include <numa.h>
#include <numaif.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the directives ---- */

bool numa_policy_is_valid(const char *text) {
    cpu_set_t nodes;
    return strcmp(text, "local") == 0 || strcmp(text, "interleave") == 0 || numa_list_parse(span_of_text(text), &nodes);
}

bool numa_far_is_valid(const char *text) {
    cpu_set_t nodes;
    return strcmp(text, "auto") == 0 || strcmp(text, "none") == 0 || numa_list_parse(span_of_text(text), &nodes);
}

static bool fail(char error[NUMA_ERROR_MAX], const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool fail(char error[NUMA_ERROR_MAX], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, NUMA_ERROR_MAX, format, arguments);
    va_end(arguments);
    return false;
}

static void nodes_with_memory(const struct numa_topology *topology, cpu_set_t *nodes) {
    CPU_ZERO(nodes);
    for (unsigned i = 0; i < topology->node_count; i++)
        if (topology->nodes[i].memory_bytes) CPU_SET(topology->nodes[i].id, nodes);
}

/* Whether all the nodes have memory; a list that names one without is a mistake to be told. */
static bool check_memory(const char *directive, const cpu_set_t *named, const cpu_set_t *memory,
                         char error[NUMA_ERROR_MAX]) {
    char text[NUMA_LIST_MAX];
    for (int id = 0; id < CPU_SETSIZE; id++)
        if (CPU_ISSET(id, named) && !CPU_ISSET(id, memory))
            return fail(error, "%s names node %d, which has no memory this process may use; nodes that have: %.100s",
                        directive, id, numa_list_format(memory, ',', text));
    return true;
}

/* ---- sets of nodes ---- */

static int nearest(const struct numa_topology *topology, int from, const cpu_set_t *candidates) {
    int best = -1;
    for (int id = 0; id < CPU_SETSIZE; id++) {
        if (!CPU_ISSET(id, candidates)) continue;
        if (best < 0 || numa_topology_distance(topology, from, id) < numa_topology_distance(topology, from, best))
            best = id;
    }
    return best;
}

static void find_cpuless(const struct numa_topology *topology, const cpu_set_t *memory, cpu_set_t *nodes) {
    CPU_ZERO(nodes);
    for (unsigned i = 0; i < topology->node_count; i++) {
        const struct numa_node *node = &topology->nodes[i];
        if (!node->has_cpus && CPU_ISSET(node->id, memory)) CPU_SET(node->id, nodes);
    }
}

/* Leaves the nodes that have CPUs for us; false, and all are left: none has. */
static bool keep_with_cpus(const struct numa_topology *topology, cpu_set_t *nodes) {
    cpu_set_t with;
    CPU_ZERO(&with);
    for (unsigned i = 0; i < topology->node_count; i++)
        if (CPU_COUNT(&topology->nodes[i].cpus)) CPU_SET(topology->nodes[i].id, &with);
    CPU_AND(&with, &with, nodes);
    if (CPU_COUNT(&with) == 0) return false;
    *nodes = with;
    return true;
}

/* Steps 1 and 2. */
static bool choose_nodes(struct numa_plan *plan, const struct numa_topology *topology,
                         const struct numa_plan_options *options, cpu_set_t *near, cpu_set_t *far,
                         char error[NUMA_ERROR_MAX]) {
    cpu_set_t memory, listed, both;
    bool automatic = strcmp(options->far_nodes, "auto") == 0;
    nodes_with_memory(topology, &memory);
    CPU_ZERO(far);
    CPU_ZERO(&listed);
    if (automatic)
        find_cpuless(topology, &memory, far);
    else if (numa_list_parse(span_of_text(options->far_nodes), far) &&
             !check_memory("far-memory-nodes", far, &memory, error))
        return false;
    plan->policy = strcmp(options->policy, "interleave") == 0 ? NUMA_INTERLEAVE : NUMA_LOCAL;
    if (numa_list_parse(span_of_text(options->policy), &listed)) {
        plan->policy = NUMA_LIST;
        if (!check_memory("numa-policy", &listed, &memory, error)) return false;
        CPU_AND(&both, &listed, far);
        if (CPU_COUNT(&both) && !automatic)
            return fail(error, "node %d stands both in numa-policy and in far-memory-nodes",
                        nearest(topology, 0, &both));
        CPU_XOR(far, far, &both);
        *near = listed;
        return true;
    }
    /* Memory beside no CPU at all is odd, but it is all there is. */
    if (automatic && CPU_EQUAL(far, &memory)) CPU_ZERO(far);
    CPU_XOR(near, &memory, far);
    if (plan->policy == NUMA_LOCAL) (void)keep_with_cpus(topology, near);
    if (CPU_COUNT(near) == 0)
        return fail(error, "far-memory-nodes %.60s leaves no node for shards", options->far_nodes);
    return true;
}

/* ---- workers ---- */

static void choose_homes(const struct numa_plan *plan, const struct numa_topology *topology, const cpu_set_t *near,
                         cpu_set_t *homes) {
    *homes = *near;
    if (plan->policy == NUMA_LIST && keep_with_cpus(topology, homes)) return;
    memset(homes, 0xff, sizeof(*homes));
    (void)keep_with_cpus(topology, homes);
}

static int next_cpu(const cpu_set_t *cpus, int after) {
    for (int cpu = after + 1; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, cpus)) return cpu;
    return -1;
}

/* One CPU from each home in turn, from the beginning again when all are given out. */
static void deal_cpus(struct numa_plan *plan, const struct numa_topology *topology, const cpu_set_t *homes) {
    int dealt[NUMA_NODES_MAX];
    unsigned count = 0, before;
    memset(dealt, 0xff, sizeof(dealt));
    while (count < plan->worker_count) {
        before = count;
        for (unsigned i = 0; i < topology->node_count && count < plan->worker_count; i++) {
            const struct numa_node *node = &topology->nodes[i];
            int cpu = CPU_ISSET(node->id, homes) ? next_cpu(&node->cpus, dealt[i]) : -1;
            if (cpu < 0) continue;
            dealt[i] = cpu;
            plan->workers[count++] = (struct numa_worker){node->id, cpu};
        }
        if (count == before) memset(dealt, 0xff, sizeof(dealt));
    }
}

static void place_workers(struct numa_plan *plan, const struct numa_topology *topology, unsigned wanted,
                          const cpu_set_t *near) {
    cpu_set_t homes;
    unsigned cpus = 0;
    choose_homes(plan, topology, near, &homes);
    for (unsigned i = 0; i < topology->node_count; i++)
        if (CPU_ISSET(topology->nodes[i].id, &homes)) cpus += (unsigned)CPU_COUNT(&topology->nodes[i].cpus);
    plan->worker_count = wanted ? wanted : cpus ? cpus : 1;
    if (plan->worker_count > LIMIT_WORKERS) plan->worker_count = LIMIT_WORKERS;
    if (cpus)
        deal_cpus(plan, topology, &homes);
    else
        for (unsigned i = 0; i < plan->worker_count; i++) plan->workers[i].node = nearest(topology, 0, near);
    if (plan->worker_count > 1 && plan->worker_count == cpus) return;
    for (unsigned i = 0; i < plan->worker_count; i++) plan->workers[i].cpu = -1;
}

/* ---- the plan ---- */

static int far_node_for(const struct numa_plan *plan, const struct numa_topology *topology, int node) {
    int best = -1;
    unsigned best_distance = 0, best_users = 0;
    for (unsigned i = 0; i < plan->far_count; i++) {
        unsigned distance = numa_topology_distance(topology, node, plan->far[i]), users = 0;
        for (unsigned k = 0; k < plan->near_count; k++) users += plan->near[k].far == plan->far[i];
        if (best >= 0 && (distance > best_distance || (distance == best_distance && users >= best_users))) continue;
        best = plan->far[i];
        best_distance = distance;
        best_users = users;
    }
    return best;
}

/* Steps 4 and 5. Only nodes of the topology are in the sets, so NUMA_NODES_MAX is enough. */
static void fill_nodes(struct numa_plan *plan, const struct numa_topology *topology, const cpu_set_t *near,
                       const cpu_set_t *far) {
    cpu_set_t used = *near;
    if (plan->policy == NUMA_LOCAL) {
        CPU_ZERO(&used);
        for (unsigned i = 0; i < plan->worker_count; i++)
            CPU_SET(nearest(topology, plan->workers[i].node, near), &used);
    }
    for (int id = 0; id < CPU_SETSIZE; id++) {
        if (CPU_ISSET(id, &used)) plan->near[plan->near_count++] = (struct numa_near){.node = id, .far = -1};
        if (CPU_ISSET(id, far)) plan->far[plan->far_count++] = id;
    }
    for (unsigned i = 0; i < plan->near_count; i++)
        plan->near[i].far = far_node_for(plan, topology, plan->near[i].node);
}

bool numa_plan_make(struct numa_plan *plan, const struct numa_topology *topology,
                    const struct numa_plan_options *options, char error[NUMA_ERROR_MAX]) {
    cpu_set_t near, far, memory;
    assert(numa_policy_is_valid(options->policy) && numa_far_is_valid(options->far_nodes));
    memset(plan, 0, sizeof(*plan));
    if (!choose_nodes(plan, topology, options, &near, &far, error)) return false;
    place_workers(plan, topology, options->workers, &near);
    fill_nodes(plan, topology, &near, &far);
    nodes_with_memory(topology, &memory);
    plan->bound = CPU_COUNT(&memory) > 1;
    return true;
}

void numa_plan_deal_shards(struct numa_plan *plan, const struct numa_topology *topology, unsigned shards) {
    uint8_t beside[LIMIT_WORKERS];
    cpu_set_t near;
    assert(shards >= 1 && shards <= LIMIT_SHARDS && plan->near_count > 0);
    CPU_ZERO(&near);
    for (unsigned i = 0; i < plan->near_count; i++) CPU_SET(plan->near[i].node, &near);
    for (unsigned worker = 0; worker < plan->worker_count; worker++) {
        int node = nearest(topology, plan->workers[worker].node, &near);
        for (unsigned i = 0; i < plan->near_count; i++)
            if (plan->near[i].node == node) beside[worker] = (uint8_t)i;
    }
    plan->shard_count = shards;
    for (unsigned i = 0; i < plan->near_count; i++) plan->near[i].shards = 0;
    for (unsigned shard = 0; shard < shards; shard++) {
        unsigned index = plan->policy == NUMA_LOCAL ? beside[shard % plan->worker_count] : shard % plan->near_count;
        plan->shard_near[shard] = (uint8_t)index;
        plan->near[index].shards++;
    }
}

bool numa_prefer_node(int node) {
    unsigned long mask[CPU_SETSIZE / (8 * sizeof(unsigned long))] = {0};
    size_t word_bits = 8 * sizeof(unsigned long);
    if (numa_available() < 0) return false;
    if (node < 0) return set_mempolicy(MPOL_DEFAULT, NULL, 0) == 0;
    if (node >= CPU_SETSIZE) return false;
    mask[(size_t)node / word_bits] = 1ul << ((size_t)node % word_bits);
    return set_mempolicy(MPOL_PREFERRED, mask, CPU_SETSIZE) == 0;
}
