/* INFO numa: a line for each node of the host.
 *
 *     node0:cpus=0-3+8-11,shards=512,bytes=73400320,far=0,local=912034,remote=88,workers=8,memory=...,free=...
 *
 * `far` is 1 for far memory; `bytes` is what records and index occupy there. An execution is a command on keys; it is
 * local when its worker runs on the node of its first key's shard. Where all shards are on one node, the workers'
 * places alone decide, so every command counts and nothing is counted for this. CPUs are separated by '+', as a comma
 * ends a field. */

#include "server/info.h"
#include "server/server.h"

struct node_figures {
    unsigned workers, shards;
    size_t bytes;
    uint64_t local, remote;
};

/* What commands of `worker` on shards of near node `index` count as. */
static void add_executions(const struct server *server, unsigned worker, unsigned index, struct node_figures *figures) {
    const struct placement *placement = &server->placement;
    const stat_counter *row = placement_executions(placement, worker);
    uint64_t count = row ? stat_get(&row[index]) : stat_get(&server->stats[worker]->commands_processed);
    if (placement->plan.workers[worker].node == placement->plan.near[index].node)
        figures->local += count;
    else
        figures->remote += count;
}

static void add_near(const struct server *server, unsigned index, struct node_figures *figures) {
    struct keyspace *keyspace = server->keyspace;
    for (unsigned worker = 0; worker < server->worker_count; worker++) add_executions(server, worker, index, figures);
    for (uint32_t shard = 0; shard < keyspace->shard_count; shard++)
        figures->shards += keyspace_node_of(keyspace, shard) == index;
    struct region_pool_usage usage = region_pool_usage(keyspace->pools[index]);
    figures->bytes += usage.used_bytes + usage.large_bytes;
}

/* Each near node has a pool of its own on the far one. */
static void add_far(const struct server *server, unsigned index, struct node_figures *figures) {
    struct region_pool **pools = server->keyspace->far_pools;
    if (!pools || !pools[index]) return;
    struct region_pool_usage usage = region_pool_usage(pools[index]);
    figures->bytes += usage.used_bytes + usage.large_bytes;
}

static struct node_figures figures_of(const struct server *server, const struct numa_node *node) {
    const struct numa_plan *plan = &server->placement.plan;
    struct node_figures figures = {0};
    for (unsigned worker = 0; worker < server->worker_count; worker++)
        figures.workers += plan->workers[worker].node == node->id;
    for (unsigned i = 0; i < plan->near_count; i++) {
        if (plan->near[i].node == node->id) add_near(server, i, &figures);
        if (plan->near[i].far == node->id) add_far(server, i, &figures);
    }
    return figures;
}

static bool is_far(const struct numa_plan *plan, int node) {
    for (unsigned i = 0; i < plan->far_count; i++)
        if (plan->far[i] == node) return true;
    return false;
}

static void add_node(const struct numa_node *node, const struct node_figures *figures, bool far, struct text *text) {
    char cpus[NUMA_LIST_MAX];
    uint64_t total_bytes = node->memory_bytes, free_bytes = node->free_bytes;
    if (total_bytes) (void)numa_node_memory(NULL, node->id, &total_bytes, &free_bytes);
    text_add(text, "node%d:cpus=%s,shards=%u,bytes=%zu,far=%d,local=%llu,remote=%llu", node->id,
             numa_list_format(&node->cpus, '+', cpus), figures->shards, figures->bytes, far,
             (unsigned long long)figures->local, (unsigned long long)figures->remote);
    text_add(text, ",workers=%u,memory=%llu,free=%llu\r\n", figures->workers, (unsigned long long)total_bytes,
             (unsigned long long)free_bytes);
}

static void add_lists(const struct placement *placement, const char *policy, struct text *text) {
    const struct numa_plan *plan = &placement->plan;
    char list[NUMA_LIST_MAX];
    cpu_set_t nodes;
    text_add(text, "numa_policy:%s\r\nnuma_nodes:%u\r\n", policy, placement->topology.node_count);
    CPU_ZERO(&nodes);
    for (unsigned i = 0; i < plan->near_count; i++) CPU_SET(plan->near[i].node, &nodes);
    text_add(text, "numa_near_nodes:%s\r\n", numa_list_format(&nodes, ',', list));
    CPU_ZERO(&nodes);
    for (unsigned i = 0; i < plan->far_count; i++) CPU_SET(plan->far[i], &nodes);
    text_add(text, "numa_far_nodes:%s\r\n", numa_list_format(&nodes, ',', list));
    text_add(text, "numa_binding:%s\r\n",
             placement->node_count == 0                                                                  ? "none"
             : atomic_load_explicit((atomic_bool *)(uintptr_t)&placement->refused, memory_order_relaxed) ? "refused"
                                                                                                         : "bound");
}

void info_numa(const struct info_source *source, struct text *text) {
    const struct server *server = source->server;
    const struct placement *placement = &server->placement;
    const struct numa_topology *topology = &placement->topology;
    struct node_figures figures[NUMA_NODES_MAX];
    uint64_t local = 0, remote = 0;
    for (unsigned i = 0; i < topology->node_count; i++) {
        figures[i] = figures_of(server, &topology->nodes[i]);
        local += figures[i].local;
        remote += figures[i].remote;
    }
    add_lists(placement, server->config.memory.numa_policy, text);
    text_add(text, "numa_local_executions:%llu\r\nnuma_remote_executions:%llu\r\n", (unsigned long long)local,
             (unsigned long long)remote);
    for (unsigned i = 0; i < topology->node_count; i++)
        add_node(&topology->nodes[i], &figures[i], is_far(&placement->plan, topology->nodes[i].id), text);
}
