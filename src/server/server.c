/* Start, stop and the rare moments when all workers stand still.
 *
 * Stopping the world: whoever wants it takes `turn` (parking itself if another asks first), raises `stopping`, wakes
 * everybody, and waits until all others have parked at a safe point, where they hold no lock and are in the middle
 * of nothing. With one worker there is nobody to stop. */

#include "server/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "command/families.h"
#include "server/config_apply.h"
#include "server/crash.h"
#include "server/debug.h"
#include "server/families.h"
#include "server/monitor.h"
#include "server/process.h"
#include "server/shutdown.h"
#include "server/slow.h"

#include <assert.h>
#include <errno.h>
#include <numa.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

/* ---- the world ---- */

static void park(struct server *server) {
    struct world *world = &server->world;
    pthread_mutex_lock(&world->lock);
    world->parked++;
    pthread_cond_broadcast(&world->parked_changed);
    while (atomic_load(&world->stopping)) pthread_cond_wait(&world->resumed, &world->lock);
    world->parked--;
    pthread_cond_broadcast(&world->parked_changed);
    pthread_mutex_unlock(&world->lock);
}

void server_safe_point(struct server *server) {
    if (__builtin_expect(atomic_load_explicit(&server->world.stopping, memory_order_acquire), 0)) park(server);
}

void server_stop_workers(void *ctx, unsigned worker) {
    struct server *server = ctx;
    struct world *world = &server->world;
    if (server->worker_count == 1) return;
    while (pthread_mutex_trylock(&world->turn) != 0) {
        server_safe_point(server);
        sched_yield();
    }
    pthread_mutex_lock(&world->lock);
    /* Those of the previous stop have to be on their way first, or they would be counted as parked. */
    while (world->parked) pthread_cond_wait(&world->parked_changed, &world->lock);
    atomic_store(&world->stopping, true);
    for (unsigned i = 0; i < server->worker_count; i++)
        if (i != worker) worker_wake(server->workers[i]);
    while (world->parked + world->left < server->worker_count - 1)
        pthread_cond_wait(&world->parked_changed, &world->lock);
    pthread_mutex_unlock(&world->lock);
}

void server_resume_workers(void *ctx, unsigned worker) {
    (void)worker;
    struct server *server = ctx;
    struct world *world = &server->world;
    if (server->worker_count == 1) return;
    pthread_mutex_lock(&world->lock);
    atomic_store(&world->stopping, false);
    pthread_cond_broadcast(&world->resumed);
    pthread_mutex_unlock(&world->lock);
    pthread_mutex_unlock(&world->turn);
}

void server_leave(struct server *server) {
    struct world *world = &server->world;
    pthread_mutex_lock(&world->lock);
    world->left++;
    pthread_cond_broadcast(&world->parked_changed);
    pthread_mutex_unlock(&world->lock);
}

/* ---- start ---- */

static const struct command_family *families(unsigned *count) {
    static struct command_family all[32];
    unsigned n = 0;
    all[n++] = (struct command_family){string_commands, string_command_count};
    all[n++] = (struct command_family){bitmap_commands, bitmap_command_count};
    all[n++] = (struct command_family){hyperloglog_commands, hyperloglog_command_count};
    all[n++] = (struct command_family){transaction_commands, transaction_command_count};
    all[n++] = (struct command_family){key_commands, key_command_count};
    all[n++] = (struct command_family){key_expiry_commands, key_expiry_command_count};
    all[n++] = (struct command_family){key_scan_commands, key_scan_command_count};
    all[n++] = (struct command_family){object_commands, object_command_count};
    all[n++] = (struct command_family){database_commands, database_command_count};
    all[n++] = (struct command_family){command_commands, command_command_count};
    all[n++] = (struct command_family){connection_commands, connection_command_count};
    all[n++] = (struct command_family){client_commands, client_command_count};
    all[n++] = (struct command_family){config_commands, config_command_count};
    all[n++] = (struct command_family){monitor_commands, monitor_command_count};
    all[n++] = (struct command_family){server_commands, server_command_count};
    all[n++] = (struct command_family){info_commands, info_command_count};
    all[n++] = (struct command_family){memory_commands, memory_command_count};
    all[n++] = (struct command_family){slowlog_commands, slowlog_command_count};
    all[n++] = (struct command_family){latency_commands, latency_command_count};
    all[n++] = (struct command_family){debug_commands, debug_command_count};
    *count = n;
    return all;
}

static unsigned affinity_cpus(cpu_set_t *set) {
    if (sched_getaffinity(0, sizeof(*set), set) != 0) return 1;
    int count = CPU_COUNT(set);
    return count > 0 ? (unsigned)count : 1;
}

/* Fewer where memory is small: a shard in use costs a few slab pages. */
static unsigned choose_shards(const struct config *config, unsigned workers) {
    if (config->general.shards) return (unsigned)config->general.shards;
    unsigned shards = keyspace_shards_for(workers);
    int64_t memory = config->memory.maxmemory_bytes;
    while (memory && shards > 8 && (int64_t)shards * (1 << 20) > memory) shards /= 2;
    return shards;
}

/* The nodes of this host that have memory; 0 where there is only one, since nothing is to be bound then. */
static unsigned memory_nodes(int *nodes, unsigned capacity) {
    if (numa_available() < 0 || numa_max_node() == 0) return 0;
    unsigned count = 0;
    for (int node = 0; node <= numa_max_node() && count < capacity; node++)
        if (numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned)node)) nodes[count++] = node;
    return count > 1 ? count : 0;
}

static bool create_keyspace(struct server *server, unsigned workers, struct socket_error *error) {
    int nodes[64];
    struct keyspace_options options = {.shards = choose_shards(&server->config, workers),
                                       .databases = (unsigned)server->config.general.databases,
                                       .locking = workers > 1,
                                       .huge_pages = true,
                                       .nodes = nodes};
    options.node_count = memory_nodes(nodes, 64);
    if (getrandom(&options.seed, sizeof(options.seed), 0) != sizeof(options.seed))
        options.seed = (uint64_t)clock_monotonic_ns();
    server->keyspace = keyspace_create(&options);
    if (!server->keyspace)
        snprintf(error->text, sizeof(error->text), "cannot reserve memory for the keyspace: %s", strerror(errno));
    return server->keyspace != NULL;
}

void server_make_id(char *id) {
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[SERVER_RUN_ID / 2] = {0};
    (void)!getrandom(bytes, sizeof(bytes), 0);
    for (unsigned i = 0; i < SERVER_RUN_ID; i++) id[i] = digits[(bytes[i / 2] >> (i % 2 * 4)) & 15];
    id[SERVER_RUN_ID] = '\0';
}

static bool create_workers(struct server *server, unsigned count, const cpu_set_t *cpus, struct socket_error *error) {
    server->workers = calloc(count, sizeof(*server->workers));
    server->stats = calloc(count, sizeof(*server->stats));
    if (!server->workers || !server->stats) return false;
    int cpu = -1;
    for (unsigned i = 0; i < count; i++) {
        server->stats[i] = command_stats_create(command_table_ids(server->table));
        server->workers[i] = aligned_alloc(64, (sizeof(struct worker) + 63) / 64 * 64);
        if (!server->stats[i] || !server->workers[i]) return false;
        memset(server->workers[i], 0, sizeof(struct worker));
        server->worker_count++;
        if (!worker_init(server->workers[i], server, i, error)) return false;
        /* One worker a CPU, and each stays where its memory is. */
        if (count != (unsigned)CPU_COUNT(cpus) || count == 1) continue;
        do cpu++;
        while (!CPU_ISSET(cpu, cpus));
        server->workers[i]->affinity = malloc(sizeof(cpu_set_t));
        if (!server->workers[i]->affinity) continue;
        CPU_ZERO(server->workers[i]->affinity);
        CPU_SET(cpu, server->workers[i]->affinity);
    }
    return true;
}

bool server_start(struct server *server, struct socket_error *error) {
    cpu_set_t cpus;
    unsigned workers = affinity_cpus(&cpus), family_count;
    if (server->config.general.threads) workers = (unsigned)server->config.general.threads;
    if (workers > LIMIT_WORKERS) workers = LIMIT_WORKERS;
    server->started_ms = clock_unix_ms();
    server_make_id(server->run_id);
    server_make_id(server->replication_id);
    pthread_mutex_init(&server->world.turn, NULL);
    pthread_mutex_init(&server->world.lock, NULL);
    pthread_mutex_init(&server->rewrite_lock, NULL);
    pthread_cond_init(&server->world.parked_changed, NULL);
    pthread_cond_init(&server->world.resumed, NULL);
    server->host.ctx = server;
    server->host.stop_workers = server_stop_workers;
    server->host.resume_workers = server_resume_workers;
    server->host.monitor = monitor_show;
    server->host.must_wait = pause_must_wait;
    const struct command_family *all = families(&family_count);
    server->table = command_table_create(all, family_count);
    snprintf(error->text, sizeof(error->text), "out of memory");
    bool started = server->table && listeners_open(server, error) && create_keyspace(server, workers, error) &&
                   create_workers(server, workers, &cpus, error);
    if (!started) return false;
    server->host.refuse_protected = debug_refuse;
    config_apply(server);
    slow_init(server);
    metrics_init(server);
    return true;
}

/* ---- run ---- */

static void *run_worker(void *argument) {
    void *stack = crash_use_own_stack();
    worker_run(argument);
    crash_drop_own_stack(stack);
    return NULL;
}

void server_quit(struct server *server) {
    atomic_store(&server->quitting, true);
    for (unsigned i = 0; i < server->worker_count; i++) worker_wake(server->workers[i]);
}

void server_tick(struct server *server) {
    struct keyspace *keyspace = server->keyspace;
    shutdown_check_signal(server);
    if (atomic_load_explicit(&server->cron_paused, memory_order_relaxed)) return;
    metrics_tick(server);
    retire_collect(keyspace->retired);
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct region_pool_usage usage = region_pool_usage(keyspace->pools[i]);
        region_pool_purge(keyspace->pools[i], (4ul << 20) + usage.used_bytes / 64, 64ul << 20);
    }
}

int server_run(struct server *server) {
    shutdown_watch_signals(server);
    for (unsigned i = 1; i < server->worker_count; i++) {
        if (pthread_create(&server->workers[i]->thread, NULL, run_worker, server->workers[i]) != 0) {
            log_warning("cannot create worker thread %u: %s", i, strerror(errno));
            return 1;
        }
    }
    process_ready(server);
    log_notice("Ready to accept connections");
    worker_run(server->workers[0]);
    server_quit(server);
    for (unsigned i = 1; i < server->worker_count; i++) pthread_join(server->workers[i]->thread, NULL);
    process_end(server);
    return 0;
}

void server_free(struct server *server) {
    /* From here on a second signal would find no worker to wake. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    for (unsigned i = 0; i < server->worker_count; i++) {
        worker_free(server->workers[i]);
        free(server->workers[i]);
        command_stats_destroy(server->stats[i]);
    }
    free(server->workers);
    free(server->stats);
    slow_free(server);
    metrics_free(server);
    listeners_close(server);
    command_table_destroy(server->table);
    keyspace_destroy(server->keyspace);
}
