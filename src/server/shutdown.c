/* See shutdown.h. */

#include "server/shutdown.h"

#include "base/log.h"
#include "server/server.h"

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

/* From here on nothing that is acknowledged would be in the snapshot: writes wait. */
static void pause_writes(struct server *server, unsigned worker, bool on) {
    server_stop_workers(server, worker);
    if (on)
        pause_begin(server, false, INT64_MAX);
    else
        pause_end(server);
    server_resume_workers(server, worker);
}

/* What has to be on the disk before the end. False: it is not. */
static bool save_all(struct server *server, unsigned worker, int options) {
    bool persists = server->tier && tier_pool_of(server->tier), refused = options & CONFIG_SHUTDOWN_NOSAVE;
    /* A checkpoint holds all that a snapshot would. */
    bool wanted = (options & CONFIG_SHUTDOWN_SAVE) || (save_is_wanted(server) && !refused && !persists);
    snapshot_job_stop(server);
    snapshot_job_wait(server, worker);
    if (persists && !refused && !loading_is_active(&server->loading) && !tier_persist_now(server, worker)) return false;
    if (!wanted || loading_is_active(&server->loading)) return true;
    return save_now(server, worker) == SAVE_DONE;
}

bool shutdown_begin(struct server *server, unsigned worker, int options, const char *reason) {
    log_notice("%s: shutting down", reason);
    pause_writes(server, worker, true);
    if (!save_all(server, worker, options)) {
        bool force = options & CONFIG_SHUTDOWN_FORCE;
        log_warning("Error trying to save the DB%s",
                    force ? ", ending without it" : ", can't exit: the server goes on");
        if (!force) {
            pause_writes(server, worker, false);
            return false;
        }
    }
    process_stopping(server);
    server_quit(server);
    return true;
}

bool shutdown_abort(struct server *server) {
    int number = atomic_load(&server->signal);
    if (number <= 0 || !atomic_compare_exchange_strong(&server->signal, &number, 0)) return false;
    log_notice("Shutdown manually aborted.");
    return true;
}

void shutdown_check_signal(struct server *server) {
    int number = atomic_load(&server->signal);
    if (atomic_load_explicit(&server->cron_paused, memory_order_relaxed) || number <= 0) return;
    if (atomic_load(&server->quitting) || !atomic_compare_exchange_strong(&server->signal, &number, SIGNAL_TAKEN))
        return;
    const struct config_general *general = &server->config.general;
    int options = number == SIGTERM ? general->shutdown_on_sigterm : general->shutdown_on_sigint;
    /* One that cannot be carried out may be sent again. */
    if (!shutdown_begin(server, 0, options, number == SIGTERM ? "SIGTERM received" : "SIGINT received"))
        atomic_store(&server->signal, 0);
}
