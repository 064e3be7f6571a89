/* See loading.h.
 *
 * Locks. With several workers the keyspace locks in any case. With one it does not, until it loads: then that worker
 * still serves, and the loader's threads change shards beside it. The switch happens on the worker's own thread, or
 * before it runs, so nobody is in the middle of anything. Memory of an index that nobody may read any more is freed at
 * once with one worker, so nothing may be read ahead of a lock meanwhile: the dispatcher sees to that.
 *
 * Room. Loading needs memory as commands do, and waits for it as they do: workers demote or evict between their turns,
 * and are woken for it. Where nothing can be freed any more the load goes on as long as allocations succeed. */

#include "server/loading.h"

#include "base/clock.h"
#include "base/thread_place.h"
#include "keyspace/keyspace_snapshot.h"
#include "server/server.h"
#include "server/shutdown.h"
#include "server/text.h"

#include <limits.h>
#include <sched.h>
#include <time.h>

enum {
    FEW_THREADS = 4,         /* that load, of a server with fewer workers, where there are so many CPUs */
    LOOK_NS = 1000000,       /* between two looks whether there is room */
    PATIENCE_MS = 60000,     /* for memory that is to become free */
    LAST_PATIENCE_MS = 2000, /* for memory where nothing can be freed */
};

/* ---- the state ---- */

/* Whoever asks may still look at that of the load before. */
static void start_progress(struct rdb_load_progress *progress, uint64_t total_bytes) {
    atomic_store(&progress->loaded_bytes, 0);
    atomic_store(&progress->loaded_keys, 0);
    atomic_store(&progress->expected_keys, 0);
    atomic_store(&progress->used_memory, 0);
    atomic_store(&progress->total_bytes, total_bytes);
}

void loading_begin(struct server *server, unsigned worker, uint64_t total_bytes) {
    (void)worker;
    struct loading *loading = &server->loading;
    struct keyspace *keyspace = server->keyspace;
    start_progress(&loading->progress, total_bytes);
    atomic_store(&loading->started_ms, clock_unix_ms());
    loading->locking_before = keyspace->locking;
    loading->expiry_before = atomic_exchange(&keyspace->active_expiry, false);
    loading->port = server->tier ? tier_port_of(server->tier, server->placement.plan.worker_count) : NULL;
    if (!keyspace->locking) keyspace_set_locking(keyspace, true);
    atomic_store(&loading->active, true);
    atomic_store(&server->host.loading, true);
}

void loading_begin_aside(struct server *server, unsigned worker) {
    loading_begin(server, worker, 0);
    atomic_store(&server->loading.aside, true);
    atomic_store(&server->host.loading_aside, true);
}

void loading_end(struct server *server, unsigned worker) {
    (void)worker;
    struct loading *loading = &server->loading;
    struct keyspace *keyspace = server->keyspace;
    if (!loading->locking_before) keyspace_set_locking(keyspace, false);
    atomic_store(&keyspace->active_expiry, loading->expiry_before);
    atomic_store(&server->host.loading, false);
    atomic_store(&server->host.loading_aside, false);
    atomic_store(&loading->active, false);
    atomic_store(&loading->aside, false);
}

void loading_advance(struct server *server, uint64_t loaded_bytes) {
    atomic_store_explicit(&server->loading.progress.loaded_bytes, loaded_bytes, memory_order_relaxed);
}

/* ---- room ---- */

static bool is_cancelled(const struct server *server) {
    return atomic_load_explicit((atomic_bool *)(uintptr_t)&server->loading.cancel, memory_order_relaxed) ||
           atomic_load_explicit((atomic_bool *)(uintptr_t)&server->quitting, memory_order_relaxed);
}

static void rest(struct server *server) {
    for (unsigned i = 0; i < server->worker_count; i++)
        if (server->workers && server->workers[i]) worker_wake(server->workers[i]);
    nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    memory_limit_refresh_if_due(server);
}

static bool wait_for_room(void *ctx, size_t bytes, unsigned attempt) {
    struct server *server = ctx;
    struct memory_limit *limit = &server->metrics.limit;
    int64_t since_ms = clock_unix_ms();
    memory_limit_refresh_if_due(server);
    if (attempt > 0) {
        memory_limit_demand(server, bytes);
        rest(server);
    }
    for (;;) {
        enum memory_level level = memory_limit_level(limit);
        int64_t waited_ms = clock_unix_ms() - since_ms;
        if (is_cancelled(server)) return false;
        if (level < MEMORY_DELAY) return attempt < LAST_PATIENCE_MS || level < MEMORY_MAKE_ROOM;
        if (level == MEMORY_REFUSE) return attempt < LAST_PATIENCE_MS;
        if (waited_ms >= PATIENCE_MS) return false;
        rest(server);
    }
}

/* ---- what every load has in common ---- */

static unsigned threads_for(unsigned workers) {
    cpu_set_t cpus;
    unsigned count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
    if (count > FEW_THREADS) count = FEW_THREADS;
    return workers > count ? workers : count;
}

unsigned loading_lanes(unsigned workers) {
    unsigned threads = threads_for(workers);
    return threads < LOADING_LANES_MAX ? threads : LOADING_LANES_MAX;
}

/* Behind those of the workers and of the thread that loads. */
struct tier_port *loading_port_of_lane(const struct server *server, unsigned lane) {
    return server->tier ? tier_port_of(server->tier, server->placement.plan.worker_count + 1 + lane) : NULL;
}

const struct rdb_load_options *loading_options(struct server *server, struct rdb_load_options *options) {
    *options = (struct rdb_load_options){.keyspace = server->keyspace,
                                         .now_ms = clock_unix_ms(),
                                         .threads = threads_for(server->placement.plan.worker_count),
                                         .port = server->loading.port,
                                         .wait_for_room = wait_for_room,
                                         .ctx = server,
                                         .progress = &server->loading.progress,
                                         .cancel = &server->loading.cancel,
                                         .delay = &server->loading.delay};
    return options;
}

/* ---- by a worker ---- */

struct beside {
    void (*run)(void *ctx);
    void *ctx;
    atomic_bool ended;
};

static void *run_beside(void *ctx) {
    struct beside *beside = ctx;
    thread_place_roam();
    beside->run(beside->ctx);
    atomic_store(&beside->ended, true);
    return NULL;
}

void loading_run_beside(struct server *server, unsigned worker_id, void (*run)(void *ctx), void *ctx) {
    struct beside beside = {.run = run, .ctx = ctx};
    struct worker *worker = server->workers[worker_id];
    struct tier_port *port = worker->dispatcher.port;
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_beside, &beside) != 0) {
        run(ctx);
        return;
    }
    while (!atomic_load(&beside.ended)) {
        server_safe_point(server);
        if (worker_id == 0) shutdown_tick(server); /* its turns, which look for signals, wait for the load */
        worker->dispatcher.now_ms = clock_unix_ms();
        make_room_turn(worker);
        if (port) {
            tier_port_reap(port);
            tier_port_submit(port);
            tier_port_turn_end(port, clock_monotonic_ns());
        }
        nanosleep(&(struct timespec){.tv_nsec = make_room_is_due(worker) ? 0 : LOOK_NS}, NULL);
    }
    pthread_join(thread, NULL);
}

struct file_load {
    const char *path;
    const struct rdb_load_options *options;
    struct rdb_load_result *result;
};

static void load_file(void *ctx) {
    struct file_load *load = ctx;
    (void)!rdb_load_file(load->path, load->options, load->result);
}

enum rdb_status loading_file(struct server *server, unsigned worker, const char *path,
                             const struct rdb_load_options *options, struct rdb_load_result *result) {
    struct file_load load = {.path = path, .options = options, .result = result};
    loading_run_beside(server, worker, load_file, &load);
    return result->status;
}

/* ---- INFO ---- */

static uint64_t seconds_left(uint64_t loaded, uint64_t total, int64_t elapsed_ms) {
    if (!loaded || loaded >= total) return 0;
    return (uint64_t)((double)elapsed_ms * (double)(total - loaded) / (double)loaded / 1000);
}

void loading_info(struct server *server, struct text *text) {
    struct loading *loading = &server->loading;
    struct rdb_load_progress *progress = &loading->progress;
    bool active = loading_is_active(loading);
    bool aside = active && atomic_load(&loading->aside);
    text_add(text, "loading:%d\r\nasync_loading:%d\r\n", active && !aside, aside);
    if (!active) return;
    uint64_t total = atomic_load_explicit(&progress->total_bytes, memory_order_relaxed);
    uint64_t loaded = atomic_load_explicit(&progress->loaded_bytes, memory_order_relaxed);
    int64_t started_ms = atomic_load_explicit(&loading->started_ms, memory_order_relaxed);
    if (total < loaded) total = loaded;
    text_add(text, "loading_start_time:%lld\r\nloading_total_bytes:%llu\r\nloading_rdb_used_mem:%llu\r\n",
             (long long)(started_ms / 1000), (unsigned long long)total,
             (unsigned long long)atomic_load_explicit(&progress->used_memory, memory_order_relaxed));
    text_add(text, "loading_loaded_bytes:%llu\r\nloading_loaded_perc:%.2f\r\nloading_eta_seconds:%llu\r\n",
             (unsigned long long)loaded, total ? (double)loaded * 100 / (double)total : 0.0,
             (unsigned long long)seconds_left(loaded, total, clock_unix_ms() - started_ms));
    text_add(text, "loading_loaded_keys:%llu\r\nloading_total_keys:%llu\r\n",
             (unsigned long long)atomic_load_explicit(&progress->loaded_keys, memory_order_relaxed),
             (unsigned long long)atomic_load_explicit(&progress->expected_keys, memory_order_relaxed));
}
