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
#include "server/client_tracking.h"
#include "server/config_apply.h"
#include "server/crash.h"
#include "server/debug.h"
#include "server/families.h"
#include "server/journaling.h"
#include "server/misconf.h"
#include "server/monitor.h"
#include "server/notifications.h"
#include "server/pmem_start.h"
#include "server/primary_link.h"
#include "server/process.h"
#include "server/shutdown.h"
#include "server/slow.h"

#include <assert.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/statvfs.h>
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
    if (__builtin_expect(!atomic_load_explicit(&server->world.stopping, memory_order_acquire), 1)) return;
    if (worker_is_here(server->workers[0])) primary_link_settle(server);
    park(server);
}

void server_stop_workers(void *ctx, unsigned worker) {
    struct server *server = ctx;
    struct world *world = &server->world;
    if (worker == 0) primary_link_settle(server);
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

bool server_is_last(struct server *server) {
    struct world *world = &server->world;
    pthread_mutex_lock(&world->lock);
    bool last = world->left + 1 >= server->worker_count;
    pthread_mutex_unlock(&world->lock);
    return last;
}

/* ---- start ---- */

static const struct command_family *families(unsigned *count) {
    static struct command_family all[48];
    unsigned n = 0;
    all[n++] = (struct command_family){string_commands, string_command_count};
    all[n++] = (struct command_family){bitmap_commands, bitmap_command_count};
    all[n++] = (struct command_family){hyperloglog_commands, hyperloglog_command_count};
    all[n++] = (struct command_family){hash_commands, hash_command_count};
    all[n++] = (struct command_family){set_commands, set_command_count};
    all[n++] = (struct command_family){list_commands, list_command_count};
    all[n++] = (struct command_family){stream_commands, stream_command_count};
    all[n++] = (struct command_family){sort_commands, sort_command_count};
    all[n++] = (struct command_family){sorted_set_commands, sorted_set_command_count};
    all[n++] = (struct command_family){geo_commands, geo_command_count};
    all[n++] = (struct command_family){transaction_commands, transaction_command_count};
    all[n++] = (struct command_family){key_commands, key_command_count};
    all[n++] = (struct command_family){key_expiry_commands, key_expiry_command_count};
    all[n++] = (struct command_family){key_scan_commands, key_scan_command_count};
    all[n++] = (struct command_family){migrate_commands, migrate_command_count};
    all[n++] = (struct command_family){dump_commands, dump_command_count};
    all[n++] = (struct command_family){restore_commands, restore_command_count};
    all[n++] = (struct command_family){object_commands, object_command_count};
    all[n++] = (struct command_family){database_commands, database_command_count};
    all[n++] = (struct command_family){command_commands, command_command_count};
    all[n++] = (struct command_family){connection_commands, connection_command_count};
    all[n++] = (struct command_family){client_commands, client_command_count};
    all[n++] = (struct command_family){pubsub_commands, pubsub_command_count};
    all[n++] = (struct command_family){config_commands, config_command_count};
    all[n++] = (struct command_family){monitor_commands, monitor_command_count};
    all[n++] = (struct command_family){server_commands, server_command_count};
    all[n++] = (struct command_family){info_commands, info_command_count};
    all[n++] = (struct command_family){memory_commands, memory_command_count};
    all[n++] = (struct command_family){slowlog_commands, slowlog_command_count};
    all[n++] = (struct command_family){latency_commands, latency_command_count};
    all[n++] = (struct command_family){tier_commands, tier_command_count};
    all[n++] = (struct command_family){save_commands, save_command_count};
    all[n++] = (struct command_family){persistence_commands, persistence_command_count};
    all[n++] = (struct command_family){waiting_commands, waiting_command_count};
    all[n++] = (struct command_family){failover_commands, failover_command_count};
    all[n++] = (struct command_family){replication_commands, replication_command_count};
    all[n++] = (struct command_family){replica_commands, replica_command_count};
    all[n++] = (struct command_family){debug_commands, debug_command_count};
    *count = n;
    return all;
}

/* Fewer where memory is small: a shard in use has a slab page half empty for each size class it meets. */
enum { SHARDS_LEAST = 8, SHARD_BYTES_LEAST = 4 << 20 };

static unsigned choose_shards(const struct config *config, unsigned workers) {
    if (config->general.shards) return (unsigned)config->general.shards;
    unsigned shards = keyspace_shards_for(workers);
    int64_t memory = config->memory.maxmemory_bytes;
    while (memory && shards > SHARDS_LEAST && (int64_t)shards * SHARD_BYTES_LEAST > memory) shards /= 2;
    return shards;
}

/* Nine tenths of what the file system has free for it. */
static uint64_t free_for(const char *path) {
    char folder[PATH_MAX];
    struct statvfs system;
    snprintf(folder, sizeof(folder), "%s", path);
    if (statvfs(dirname(folder), &system) != 0) return 0;
    return (uint64_t)system.f_bavail * system.f_frsize / 10 * 9;
}

static uint64_t choose_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) seed = (uint64_t)clock_monotonic_ns();
    return seed;
}

/* Without a path there is no tier. */
static bool create_tier(struct server *server, struct socket_error *error) {
    const struct config *config = &server->config;
    if (!config->tier.path[0] && !server->pmem) {
        if (config->tier.persist) snprintf(error->text, sizeof(error->text), "tier-persist yes: tier-path is not set");
        return !config->tier.persist;
    }
    uint64_t memory = (uint64_t)config->memory.maxmemory_bytes;
    unsigned workers = server->placement.plan.worker_count, lanes = loading_lanes(workers);
    const char *path = server->pmem ? pmem_start_path(server) : config->tier.path;
    struct tier_options options = {.path = path,
                                   .pmem = server->pmem,
                                   .size_bytes =
                                       config->tier.size_bytes ? (uint64_t)config->tier.size_bytes : free_for(path),
                                   .segment_bytes = (size_t)config->tier.segment_bytes,
                                   .memory_bytes = memory,
                                   .direct = (enum tier_direct)config->tier.direct_io,
                                   /* Reading persistent memory costs less than unpacking what is read. */
                                   .compress = config->tier.compression == CONFIG_TIER_LZ4 && !server->pmem,
                                   .persist = config->tier.persist || server->pmem,
                                   .pool_seed = choose_seed(),
                                   .pool_shards = choose_shards(config, workers),
                                   .ports = workers + 1 + lanes,
                                   .roaming = 1 + lanes, /* one for loading, and those that replay */
                                   .readers = lanes,
                                   .ghost_places = (memory ? memory : UINT64_C(8) << 30) / 1024};
    server->tier = tier_create(&options, error->text, sizeof(error->text));
    return server->tier != NULL;
}

static bool create_keyspace(struct server *server, struct socket_error *error) {
    struct placement *placement = &server->placement;
    unsigned workers = placement->plan.worker_count;
    /* A tier that persists has hashes and references in it. */
    const struct tier_pool *pool = server->tier ? tier_pool_of(server->tier) : NULL;
    struct keyspace_options options = {.shards = pool ? pool->header.shards : choose_shards(&server->config, workers),
                                       .databases = (unsigned)server->config.general.databases,
                                       .locking = workers > 1,
                                       .huge_pages = true,
                                       .nodes = placement->nodes,
                                       .node_count = placement->node_count,
                                       .far_nodes = placement->far_bytes ? placement->far_nodes : NULL,
                                       .far_bytes_max = placement->far_bytes,
                                       .shard_nodes = placement->plan.shard_near,
                                       .tier = server->tier};
    placement_deal(placement, options.shards);
    options.seed = pool ? pool->header.seed : choose_seed();
    server->keyspace = keyspace_create(&options);
    if (!server->keyspace)
        snprintf(error->text, sizeof(error->text), "cannot reserve memory for the keyspace: %s", strerror(errno));
    if (!server->keyspace) return false;
    server->keyspace->listener.tell = notifications_hear;
    server->keyspace->listener.ctx = server;
    return true;
}

void server_make_id(char *id) {
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[SERVER_RUN_ID / 2] = {0};
    (void)!getrandom(bytes, sizeof(bytes), 0);
    for (unsigned i = 0; i < SERVER_RUN_ID; i++) id[i] = digits[(bytes[i / 2] >> (i % 2 * 4)) & 15];
    id[SERVER_RUN_ID] = '\0';
}

static bool create_worker(struct server *server, unsigned id, struct socket_error *error) {
    server->stats[id] = command_stats_create(command_table_ids(server->table));
    server->workers[id] = aligned_alloc(64, (sizeof(struct worker) + 63) / 64 * 64);
    if (!server->stats[id] || !server->workers[id]) return false;
    memset(server->workers[id], 0, sizeof(struct worker));
    server->worker_count++;
    if (!worker_init(server->workers[id], server, id, error)) return false;
    server->workers[id]->affinity = placement_affinity(&server->placement, id);
    server->workers[id]->dispatcher.node_executions = placement_executions(&server->placement, id);
    return true;
}

static bool create_pubsub(struct server *server) {
    server->pubsub =
        pubsub_create(server->placement.plan.worker_count, server->keyspace->seed, worker_wake_for_messages, server);
    if (server->pubsub) server->tracking = tracking_create(server->pubsub, server->keyspace);
    return server->tracking != NULL;
}

static bool create_workers(struct server *server, struct socket_error *error) {
    unsigned count = server->placement.plan.worker_count;
    bool created = true;
    server->workers = calloc(count, sizeof(*server->workers));
    server->stats = calloc(count, sizeof(*server->stats));
    if (!server->workers || !server->stats) return false;
    for (unsigned i = 0; i < count && created; i++) {
        placement_enter(&server->placement, (int)i);
        created = create_worker(server, i, error);
    }
    placement_enter(&server->placement, -1);
    return created;
}

/* As rename-command says. */
static bool rename_commands(struct server *server, struct socket_error *error) {
    const struct config_words *words = &server->config.security.renamed_commands;
    for (size_t i = 0; i + 1 < words->count; i += 2) {
        const char *name = words->words[i], *new_name = words->words[i + 1];
        switch (command_table_rename(server->table, span_of_text(name), span_of_text(new_name))) {
        case COMMAND_RENAMED: break;
        case COMMAND_RENAME_UNKNOWN:
            snprintf(error->text, sizeof(error->text), "rename-command %s: No such command in rename-command", name);
            return false;
        case COMMAND_RENAME_TAKEN:
            snprintf(error->text, sizeof(error->text), "rename-command %s: Target command name %s already exists", name,
                     new_name);
            return false;
        case COMMAND_RENAME_NO_MEMORY: return false;
        }
    }
    return true;
}

bool server_start(struct server *server, struct socket_error *error) {
    unsigned family_count;
    server->started_ms = clock_unix_ms();
    server_make_id(server->run_id);
    pthread_mutex_init(&server->world.turn, NULL);
    pthread_mutex_init(&server->world.lock, NULL);
    pthread_mutex_init(&server->rewrite_lock, NULL);
    pthread_cond_init(&server->world.parked_changed, NULL);
    pthread_cond_init(&server->world.resumed, NULL);
    server->host.ctx = server;
    server->host.stop_workers = server_stop_workers;
    server->host.resume_workers = server_resume_workers;
    server->host.monitor = monitor_show;
    server->host.take_messages = delivery_take;
    server->host.notify = notifications_tell;
    server->host.remember = client_tracking_remember;
    server->host.unblocked = worker_unblocked;
    server->host.flushed = save_note_flushed;
    server->host.must_wait = pause_must_wait;
    server->host.come_again = pause_come_again;
    const struct command_family *all = families(&family_count);
    server->table = command_table_create(all, family_count);
    snprintf(error->text, sizeof(error->text), "out of memory");
    bool started = server->table && rename_commands(server, error) &&
                   placement_choose(&server->placement, &server->config, error) && listeners_open(server, error) &&
                   pmem_start_open(server, error->text, sizeof(error->text)) && create_tier(server, error) &&
                   create_keyspace(server, error) && pmem_start_place(server, error->text, sizeof(error->text)) &&
                   create_pubsub(server) && journaling_create(server) && replication_init(server) &&
                   create_workers(server, error);
    if (!started) return false;
    server->host.refuse_protected = debug_refuse;
    server->host.why_refused = misconf_text;
    aof_init(server);
    own_expiry_init(server);
    config_apply(server);
    slow_init(server);
    metrics_init(server);
    snapshot_job_init(server);
    save_init(server);
    return primary_link_prepare(server);
}

/* ---- run ---- */

static void *run_worker(void *argument) {
    struct worker *worker = argument;
    void *stack = crash_use_own_stack();
    placement_enter(&worker->server->placement, (int)worker->id);
    worker_run(worker);
    crash_drop_own_stack(stack);
    return NULL;
}

void server_quit(struct server *server) {
    atomic_store(&server->quitting, true);
    atomic_store(&server->loading.cancel, true);
    key_delay_set(&server->loading.delay, 0);
    for (unsigned i = 0; i < server->worker_count; i++) worker_wake(server->workers[i]);
}

/* Some free memory is kept for what comes next; most of it only as long as that keeps coming. */
static bool purge_some(struct region_pool *pool) {
    enum { SOME = 256 << 10 }; /* of ordinary pages that takes some dozens of microseconds */
    size_t used_bytes = region_pool_usage(pool).used_bytes;
    return region_pool_purge(pool, (4ul << 20) + used_bytes / 64, SOME) > 0;
}

bool server_purge_some(struct server *server) {
    struct keyspace *keyspace = server->keyspace;
    bool given = false;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        given |= purge_some(keyspace->pools[i]);
        if (keyspace->far_pools && keyspace->far_pools[i]) given |= purge_some(keyspace->far_pools[i]);
    }
    return given;
}

static void purge_idle_of(struct region_pool *pool) {
    region_pool_purge_idle(pool, (256ul << 10) + region_pool_usage(pool).used_bytes / 256);
}

static void purge_idle(struct server *server) {
    enum { IDLE_NS = 250000000 };
    struct keyspace *keyspace = server->keyspace;
    int64_t now_ns = clock_monotonic_ns();
    if (now_ns < server->next_idle_purge_ns) return;
    server->next_idle_purge_ns = now_ns + IDLE_NS;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        purge_idle_of(keyspace->pools[i]);
        if (keyspace->far_pools && keyspace->far_pools[i]) purge_idle_of(keyspace->far_pools[i]);
    }
}

void server_tick(struct server *server) {
    struct keyspace *keyspace = server->keyspace;
    shutdown_tick(server);
    save_tick(server);
    replication_tick(server);
    own_expiry_tick(server);
    tier_persist_tick(server);
    if (!loading_is_active(&server->loading)) aof_tick(server);
    if (atomic_load_explicit(&server->cron_paused, memory_order_relaxed)) return;
    metrics_tick(server);
    tracking_tick(server->tracking);
    retire_collect(keyspace->retired);
    if (server->tier) tier_tick(server->tier);
    pmem_start_tick(server);
    purge_idle(server);
}

int server_run(struct server *server) {
    bool ready;
    shutdown_watch_signals(server);
    if (!start_load_begin(server, &ready)) return 1;
    for (unsigned i = 1; i < server->worker_count; i++) {
        if (pthread_create(&server->workers[i]->thread, NULL, run_worker, server->workers[i]) != 0) {
            log_warning("cannot create worker thread %u: %s", i, strerror(errno));
            return 1;
        }
    }
    if (ready) process_ready(server);
    if (ready) primary_link_begin(server);
    placement_enter(&server->placement, 0);
    worker_run(server->workers[0]);
    server_quit(server);
    for (unsigned i = 1; i < server->worker_count; i++) pthread_join(server->workers[i]->thread, NULL);
    start_load_end(server);
    primary_link_end(server);
    snapshot_job_stop(server);
    snapshot_job_wait(server, 0);
    replication_end(server);
    bool kept = aof_end(server);
    pmem_start_end(server);
    process_end(server);
    return server->start_load.failed || !kept;
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
    tracking_destroy(server->tracking);
    pubsub_destroy(server->pubsub);
    slow_free(server);
    save_free(server);
    snapshot_job_free(server);
    listeners_close(server);
    command_table_destroy(server->table);
    keyspace_destroy(server->keyspace);
    replication_free(server);
    own_expiry_free(server);
    journaling_free(server);
    tier_destroy(server->tier);
    pmem_start_close(server);
    metrics_free(server); /* threads of keyspace and tier ask what is resident until they end */
    placement_free(&server->placement);
}
