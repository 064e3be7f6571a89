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
#include "server/families.h"

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
    while (world->parked < server->worker_count - 1) pthread_cond_wait(&world->parked_changed, &world->lock);
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

/* ---- start ---- */

static const struct command_family *families(unsigned *count) {
    static struct command_family all[32];
    unsigned n = 0;
    all[n++] = (struct command_family){string_commands, string_command_count};
    all[n++] = (struct command_family){transaction_commands, transaction_command_count};
    all[n++] = (struct command_family){connection_commands, connection_command_count};
    *count = n;
    return all;
}

static bool listen_all(struct server *server, struct socket_error *error) {
    const struct config_network *network = &server->config.network;
    for (size_t i = 0; network->port && i < network->bind.count; i++) {
        const char *address = network->bind.words[i];
        bool optional = address[0] == '-', missing = false;
        if (server->listener_count == SERVER_LISTENERS - 1) {
            snprintf(error->text, sizeof(error->text), "bind: at most %d addresses can be listened on", SERVER_LISTENERS - 1);
            return false;
        }
        int fd = socket_listen_tcp(address + optional, (int)network->port, (int)network->tcp_backlog, &missing, error);
        if (fd >= 0)
            server->listeners[server->listener_count++] = (struct listener){.fd = fd};
        else if (!(optional && missing))
            return false;
    }
    if (network->unixsocket[0]) {
        int fd = socket_listen_unix(network->unixsocket, (unsigned)network->unixsocketperm, (int)network->tcp_backlog, error);
        if (fd < 0) return false;
        server->listeners[server->listener_count++] = (struct listener){.fd = fd, .is_unix = true};
    }
    if (server->listener_count == 0) {
        snprintf(error->text, sizeof(error->text), "nothing to listen on: set a port, a bind address of this host or a unixsocket");
        return false;
    }
    return true;
}

static unsigned affinity_cpus(cpu_set_t *set) {
    if (sched_getaffinity(0, sizeof(*set), set) != 0) return 1;
    int count = CPU_COUNT(set);
    return count > 0 ? (unsigned)count : 1;
}

/* Several shards for each worker, fewer where memory is small: a shard in use costs a few slab pages. */
static unsigned choose_shards(const struct config *config, unsigned workers) {
    if (config->general.shards) return (unsigned)config->general.shards;
    unsigned shards = 64;
    while (shards < workers * 16 && shards < LIMIT_SHARDS) shards *= 2;
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
                                       .nodes = nodes};
    options.node_count = memory_nodes(nodes, 64);
    if (getrandom(&options.seed, sizeof(options.seed), 0) != sizeof(options.seed)) options.seed = (uint64_t)clock_monotonic_ns();
    server->keyspace = keyspace_create(&options);
    if (!server->keyspace) snprintf(error->text, sizeof(error->text), "cannot reserve memory for the keyspace: %s", strerror(errno));
    return server->keyspace != NULL;
}

static void make_run_id(char *run_id) {
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[SERVER_RUN_ID / 2] = {0};
    (void)!getrandom(bytes, sizeof(bytes), 0);
    for (unsigned i = 0; i < SERVER_RUN_ID; i++) run_id[i] = digits[(bytes[i / 2] >> (i % 2 * 4)) & 15];
    run_id[SERVER_RUN_ID] = '\0';
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
    make_run_id(server->run_id);
    pthread_mutex_init(&server->world.turn, NULL);
    pthread_mutex_init(&server->world.lock, NULL);
    pthread_cond_init(&server->world.parked_changed, NULL);
    pthread_cond_init(&server->world.resumed, NULL);
    server->host.ctx = server;
    server->host.stop_workers = server_stop_workers;
    server->host.resume_workers = server_resume_workers;
    atomic_store(&server->host.slow_ns, UINT64_MAX);
    atomic_store(&server->host.bulk_bytes_max, (uint64_t)server->config.clients.proto_max_bulk_bytes);
    const struct command_family *all = families(&family_count);
    server->table = command_table_create(all, family_count);
    snprintf(error->text, sizeof(error->text), "out of memory");
    return server->table && listen_all(server, error) && create_keyspace(server, workers, error) &&
           create_workers(server, workers, &cpus, error);
}

/* ---- run ---- */

static struct server *signalled; /* the one server that signals are for */

static void on_signal(int number) {
    atomic_store(&signalled->signal, number);
    worker_wake(signalled->workers[0]);
}

static void *run_worker(void *argument) {
    worker_run(argument);
    return NULL;
}

void server_quit(struct server *server) {
    atomic_store(&server->quitting, true);
    for (unsigned i = 0; i < server->worker_count; i++) worker_wake(server->workers[i]);
}

void server_tick(struct server *server) {
    struct keyspace *keyspace = server->keyspace;
    if (atomic_load(&server->signal)) server_quit(server);
    retire_collect(keyspace->retired);
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct region_pool_usage usage = region_pool_usage(keyspace->pools[i]);
        region_pool_purge(keyspace->pools[i], (4ul << 20) + usage.used_bytes / 64, 64ul << 20);
    }
}

int server_run(struct server *server) {
    signalled = server;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    for (unsigned i = 1; i < server->worker_count; i++) {
        if (pthread_create(&server->workers[i]->thread, NULL, run_worker, server->workers[i]) != 0) {
            log_warning("cannot create worker thread %u: %s", i, strerror(errno));
            return 1;
        }
    }
    log_notice("Ready to accept connections");
    worker_run(server->workers[0]);
    server_quit(server);
    for (unsigned i = 1; i < server->worker_count; i++) pthread_join(server->workers[i]->thread, NULL);
    return 0;
}

void server_free(struct server *server) {
    for (unsigned i = 0; i < server->worker_count; i++) {
        worker_free(server->workers[i]);
        free(server->workers[i]);
        command_stats_destroy(server->stats[i]);
    }
    free(server->workers);
    free(server->stats);
    for (unsigned i = 0; i < server->listener_count; i++) close(server->listeners[i].fd);
    if (server->config.network.unixsocket[0]) unlink(server->config.network.unixsocket);
    command_table_destroy(server->table);
    keyspace_destroy(server->keyspace);
}
