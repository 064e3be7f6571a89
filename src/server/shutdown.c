/* See shutdown.h. */

#include "server/shutdown.h"

#include "base/clock.h"
#include "base/log.h"
#include "command/blocked.h"
#include "server/replica.h"
#include "server/server.h"
#include "server/text.h"

#include <signal.h>
#include <unistd.h>

enum { SIGNAL_TAKEN = -1 }; /* server->signal: it is being carried out, too late to take it back */

static struct server *signalled; /* the one server that signals are for */

static char unfinished[64]; /* where a snapshot is that is not whole yet */

static void on_signal(int number) {
    if (atomic_exchange(&signalled->signal, number) != 0 && number == SIGINT) {
        unlink(unfinished);
        log_write_in_signal(LOG_LEVEL_WARNING, "A second SIGINT: ending at once");
        _exit(1);
    }
    worker_wake(signalled->workers[0]);
}

void shutdown_watch_signals(struct server *server) {
    signalled = server;
    save_temporary_name(unfinished, sizeof(unfinished));
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file past its limit is an error of that write, not the end */
    signal(SIGHUP, SIG_IGN);
}

/* ---- clients ---- */

/* Those that have called SHUTDOWN are told that the server goes on. All workers stand still. */
static void answer_waiters(struct server *server, struct dispatcher *dispatcher) {
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct worker *worker = server->workers[i];
        for (struct connection *at = worker->connections; at; at = at->next) {
            struct blocked *blocked = at->session.blocked;
            if (blocked && blocked->type == BLOCKED_ON_END) (void)blocked_force(dispatcher, blocked, false);
        }
    }
}

static void go_on(struct server *server, unsigned worker) {
    server_stop_workers(server, worker);
    atomic_store(&server->shutdown.waits, false);
    pause_end(server, PAUSE_FOR_SHUTDOWN);
    answer_waiters(server, &server->workers[worker]->dispatcher);
    server_resume_workers(server, worker);
}

/* ---- replicas ---- */

/* One that never acknowledges is not waited for. */
static bool counts(const struct replica *replica) {
    return !replica->legacy && !replica->rdb_only;
}

static bool replicas_have_all(struct server *server) {
    struct replication *replication = &server->replication;
    uint64_t end = replication_offset(server);
    bool all = true;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next)
        all &= !counts(replica) || atomic_load(&replica->acked) >= end;
    pthread_mutex_unlock(&replication->lock);
    return all;
}

static void log_replicas(struct server *server) {
    struct replication *replication = &server->replication;
    uint64_t end = replication_offset(server);
    unsigned count = 0, lagging = 0;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next) {
        uint64_t acked = atomic_load(&replica->acked);
        bool online = replica_state(replica) == REPLICA_ONLINE;
        count++;
        if (acked >= end) continue;
        lagging++;
        int64_t lag_s = online ? (clock_unix_ms() - atomic_load(&replica->heard_ms)) / 1000 : 0;
        log_warning("Lagging replica %s:%d reported offset %llu behind master, lag=%lld, state=%s.", replica->address,
                    replica->port, (unsigned long long)(end - acked), (long long)lag_s, replica_state_name(replica));
    }
    pthread_mutex_unlock(&replication->lock);
    if (count) log_notice("%u of %u replicas are in sync when shutting down.", count - lagging, count);
}

/* ---- the end ---- */

/* Whether nothing is lost without a checkpoint: the pool's journal has all that was done since the last one. */
static bool journal_has_the_rest(struct server *server) {
    bool whole = pmem_gate_is_open(&server->pmem_gate) && atomic_load(&server->pmem_gate.state) == PMEM_GATE_SOUND &&
                 !server->tier_persist.wanted;
    if (whole) log_warning("What the last checkpoint lacks is in the pool's journal, which the next start replays.");
    return whole;
}

/* What has to be on the disk before the end. False: it is not. */
static bool save_all(struct server *server, unsigned worker, int options) {
    bool persists = server->tier && tier_pool_of(server->tier), refused = options & CONFIG_SHUTDOWN_NOSAVE;
    /* A checkpoint holds all that a snapshot would. */
    bool wanted = (options & CONFIG_SHUTDOWN_SAVE) || (save_is_wanted(server) && !refused && !persists);
    snapshot_job_stop(server);
    snapshot_job_wait(server, worker);
    bool checkpoints = persists && !refused && !loading_is_active(&server->loading);
    if (checkpoints && !tier_persist_now(server, worker) && !journal_has_the_rest(server)) return false;
    if (!wanted || loading_is_active(&server->loading)) return true;
    log_notice("Saving the final RDB snapshot before exiting.");
    return save_now(server, worker) == SAVE_DONE;
}

/* False: something is not as it must be, which is logged. */
static bool prepare(struct server *server, unsigned worker, int options) {
    const char *verdict = options & CONFIG_SHUTDOWN_FORCE ? ". Exit anyway." : ", can't exit.";
    bool force = options & CONFIG_SHUTDOWN_FORCE;
    log_replicas(server);
    if (!server->pmem && aof_lacks_base(server)) { /* a pool is what is loaded, and each start writes a first base */
        log_warning("Writing initial AOF%s", verdict);
        if (!force) return false;
    }
    if (save_all(server, worker, options)) return true;
    log_warning("Error trying to save the DB%s", verdict);
    return force;
}

/* Writes wait already. False: the server goes on. */
static bool finish(struct server *server, unsigned worker, int options) {
    if (prepare(server, worker, options)) {
        process_stopping(server);
        server_quit(server);
        return true;
    }
    log_warning("Errors trying to shut down the server. Check the logs for more information.");
    go_on(server, worker);
    return false;
}

/* Whether it waits from now on, or has done so before. */
static bool begin_to_wait(struct server *server, unsigned worker, int options) {
    int64_t most_ms = server->config.general.shutdown_timeout_seconds * 1000;
    struct shutdown *shutdown = &server->shutdown;
    /* From here on nothing that is acknowledged would be in the snapshot, or reach a replica: writes wait. */
    server_stop_workers(server, worker);
    bool waited = atomic_load(&shutdown->waits), paused = atomic_load(&server->host.paused);
    bool waits = !waited && !(options & CONFIG_SHUTDOWN_NOW) && most_ms && !replicas_have_all(server);
    if (!waited) pause_begin(server, PAUSE_FOR_SHUTDOWN, false, INT64_MAX);
    if (waits) {
        shutdown->options = options;
        shutdown->deadline_ms = clock_unix_ms() + most_ms;
        atomic_store(&shutdown->waits, true);
        if (!paused && server->replication.keeper && !replication_is_replica(&server->replication))
            replication_tell_stream(server->workers[worker], REPLICATION_GETACK);
    }
    server_resume_workers(server, worker);
    if (!waits) return waited;
    replication_nudge(server);
    log_notice("Waiting for replicas before shutting down.");
    return true;
}

enum shutdown_answer shutdown_begin(struct server *server, unsigned worker, int options) {
    if (atomic_load(&server->shutdown.waits)) return SHUTDOWN_WAITS;
    log_warning("User requested shutdown...");
    if (begin_to_wait(server, worker, options)) return SHUTDOWN_WAITS;
    return finish(server, worker, options) ? SHUTDOWN_ENDS : SHUTDOWN_FAILED;
}

bool shutdown_abort(struct server *server, unsigned worker) {
    int number = atomic_load(&server->signal);
    bool waits = atomic_load(&server->shutdown.waits);
    if (!waits && (number <= 0 || !atomic_compare_exchange_strong(&server->signal, &number, 0))) return false;
    if (waits) {
        go_on(server, worker);
        atomic_store(&server->signal, 0);
    }
    log_notice("Shutdown manually aborted.");
    return true;
}

/* ---- ticks ---- */

/* One that cannot be carried out may be sent again, and counts if it came meanwhile. */
static void forget_signal(struct server *server) {
    int taken = SIGNAL_TAKEN;
    (void)atomic_compare_exchange_strong(&server->signal, &taken, 0);
}

static void check_signal(struct server *server) {
    int number = atomic_load(&server->signal);
    if (number <= 0) return;
    if (atomic_load(&server->quitting) || !atomic_compare_exchange_strong(&server->signal, &number, SIGNAL_TAKEN))
        return;
    const struct config_general *general = &server->config.general;
    int options = number == SIGTERM ? general->shutdown_on_sigterm : general->shutdown_on_sigint;
    log_warning("%s received", number == SIGTERM ? "SIGTERM" : "SIGINT");
    if (shutdown_begin(server, 0, options) == SHUTDOWN_FAILED) forget_signal(server);
}

void shutdown_tick(struct server *server) {
    const struct shutdown *shutdown = &server->shutdown;
    if (atomic_load_explicit(&server->cron_paused, memory_order_relaxed)) return;
    check_signal(server);
    if (!atomic_load(&server->shutdown.waits) || atomic_load(&server->quitting)) return;
    if (clock_unix_ms() < shutdown->deadline_ms && !replicas_have_all(server)) return;
    if (!finish(server, 0, shutdown->options)) forget_signal(server);
}

void shutdown_info(const struct server *server, struct text *text) {
    if (!atomic_load((atomic_bool *)(uintptr_t)&server->shutdown.waits)) return;
    text_add(text, "shutdown_in_milliseconds:%lld\r\n", (long long)(server->shutdown.deadline_ms - clock_unix_ms()));
}
