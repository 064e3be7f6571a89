#ifndef TERRACE_SERVER_SERVER_H
#define TERRACE_SERVER_SERVER_H

/* The server: what wires keyspace, commands, workers and configuration together. One is made by main() and passed
 * by pointer; there is no global one except for the signal handlers. */

#include "server/aof.h"
#include "server/config.h"
#include "server/latency.h"
#include "server/listeners.h"
#include "server/loading.h"
#include "server/metrics.h"
#include "server/own_expiry.h"
#include "server/pause.h"
#include "server/placement.h"
#include "server/pmem_gate.h"
#include "server/pmem_growth.h"
#include "server/process.h"
#include "server/pubsub.h"
#include "server/replication.h"
#include "server/save.h"
#include "server/shutdown.h"
#include "server/slowlog.h"
#include "server/snapshot_job.h"
#include "server/start_load.h"
#include "server/tier_persist.h"
#include "server/tracking.h"
#include "server/worker.h"

enum { SERVER_RUN_ID = 40 };

/* The version of Redis whose commands this server speaks; clients decide by it what they may use. */
#define SERVER_REDIS_VERSION "7.2.4"

/* All other workers stand still: one thread at a time may ask for it. */
struct world {
    pthread_mutex_t turn; /* held by the one who asked */
    pthread_mutex_t lock;
    pthread_cond_t parked_changed, resumed;
    atomic_bool stopping;
    unsigned parked;
    unsigned left; /* workers that have ended: they stand still for ever */
};

struct server {
    struct config config;
    struct pmem_pool *pmem; /* in which the tier stands then; NULL: none */
    struct tier *tier;      /* NULL: none */
    struct keyspace *keyspace;
    struct journal *journal; /* of what is done to the keyspace: journaling.h */
    struct command_table *table;
    struct command_host host;
    struct command_stats **stats; /* one a worker */
    struct worker **workers;
    unsigned worker_count;
    struct placement placement; /* nodes and CPUs of shards and workers */
    struct listeners listeners;
    struct pubsub *pubsub;
    struct tracking *tracking;
    struct pause pause;
    struct shutdown shutdown;
    struct own_expiry own_expiry;
    struct snapshot_job snapshot_job;
    struct replication replication;
    struct save save;
    struct aof aof;
    struct pmem_gate pmem_gate;
    struct pmem_growth pmem_growth;
    struct start_load start_load;
    struct tier_persist tier_persist;
    struct loading loading;
    pthread_mutex_t rewrite_lock; /* one CONFIG REWRITE at a time */
    struct world world;
    _Atomic uint64_t next_client_id;
    atomic_uint clients; /* connected now */
    stat_counter connections_received, connections_rejected;
    atomic_int signal;       /* the last SIGTERM or SIGINT; 0: none */
    atomic_bool quitting;    /* workers leave their loops */
    atomic_bool cron_paused; /* DEBUG PAUSE-CRON: no ticks */
    struct process process;
    struct metrics metrics;
    int64_t next_idle_purge_ns; /* of clock_monotonic_ns() */
    struct slowlog slowlog;
    struct latency latency;
    int64_t started_ms;
    char run_id[SERVER_RUN_ID + 1];
    bool offline;              /* serves nobody, and only looks: pool_export.h */
    bool scripts_unrestricted; /* DEBUG SET-DISABLE-DENY-SCRIPTS */
    char *config_dir;
};

/* The server a command of the server's families runs in. */
static inline struct server *server_of(const struct call *call) {
    return call->dispatcher->host->ctx;
}

/* False: with one line in `error` that says what to do. */
bool server_start(struct server *server, struct socket_error *error);
/* Serves until a shutdown; returns the exit code. */
int server_run(struct server *server);
void server_free(struct server *server);

/* Ends all workers; from any worker's thread. */
void server_quit(struct server *server);

/* Every tick of worker 0: what concerns the whole process. */
void server_tick(struct server *server);
/* Gives a little of what has become free back to the kernel; false: nothing more is due. Worker 0. */
bool server_purge_some(struct server *server);

/* See struct command_host. */
void server_stop_workers(void *ctx, unsigned worker);
void server_resume_workers(void *ctx, unsigned worker);
/* A worker between turns: stands still while somebody asks for it. */
void server_safe_point(struct server *server);
/* A worker that has ended: whoever wants all others to stand still need not wait for it any more. */
void server_leave(struct server *server);
/* Whether all other workers have ended. */
bool server_is_last(struct server *server);

/* Fills `id` with SERVER_RUN_ID random hexadecimal digits and a terminator. */
void server_make_id(char *id);

#endif
