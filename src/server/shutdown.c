/* See shutdown.h. */

#include "server/shutdown.h"

#include "base/log.h"
#include "server/server.h"

#include <signal.h>
#include <unistd.h>

static struct server *signalled; /* the one server that signals are for */

static void on_signal(int number) {
    if (atomic_exchange(&signalled->signal, number) != 0 && number == SIGINT) {
        log_write_in_signal(LOG_LEVEL_WARNING, "A second SIGINT: ending at once");
        _exit(1);
    }
    worker_wake(signalled->workers[0]);
}

void shutdown_watch_signals(struct server *server) {
    signalled = server;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file past its limit is an error of that write, not the end */
    signal(SIGHUP, SIG_IGN);
}

bool shutdown_begin(struct server *server, int options, const char *reason) {
    log_notice("%s: shutting down", reason);
    if (options & CONFIG_SHUTDOWN_SAVE) {
        log_warning("no snapshot is written: snapshots are not available yet");
        if (!(options & CONFIG_SHUTDOWN_FORCE)) return false;
    }
    process_stopping(server);
    server_quit(server);
    return true;
}

/* Whoever sends a signal means it: what cannot be saved does not keep the process alive. */
void shutdown_check_signal(struct server *server) {
    int number = atomic_load(&server->signal);
    if (number == 0 || atomic_load(&server->quitting)) return;
    const struct config_general *general = &server->config.general;
    int options = number == SIGTERM ? general->shutdown_on_sigterm : general->shutdown_on_sigint;
    (void)!shutdown_begin(server, options | CONFIG_SHUTDOWN_FORCE,
                          number == SIGTERM ? "SIGTERM received" : "SIGINT received");
}
