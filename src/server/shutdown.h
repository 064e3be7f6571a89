#ifndef TERRACE_SERVER_SHUTDOWN_H
#define TERRACE_SERVER_SHUTDOWN_H

/* Ending on request: SIGTERM, SIGINT, SHUTDOWN.
 *
 *   asked --all replicas have everything, or NOW--> saving --> the end
 *     '--> waiting --they have it, or shutdown-timeout--^  '--cannot be saved--> the server goes on
 *             '--SHUTDOWN ABORT--> the server goes on
 *
 * From the moment it is asked for clients that write wait. Those that have called SHUTDOWN are blocked until the end,
 * or told that it has not come to that. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct text;

/* Part of struct server, as server->shutdown. All but `waits` is changed while all workers stand still. */
struct shutdown {
    atomic_bool waits; /* for replicas */
    int options;
    int64_t deadline_ms; /* unix time */
};

/* From now on SIGTERM and SIGINT ask this server to end; a second SIGINT ends the process on the spot. */
void shutdown_watch_signals(struct server *server);
/* Every tick of worker 0: a signal, and a shutdown that waits. */
void shutdown_tick(struct server *server);

/* Takes back a shutdown that waits, or a signal that was not looked at yet; logged. False: there is none. On the thread
 * of `worker`, which holds no lock. */
bool shutdown_abort(struct server *server, unsigned worker);

enum shutdown_answer {
    SHUTDOWN_ENDS,
    SHUTDOWN_FAILED, /* it could not be saved: logged, and the server goes on */
    SHUTDOWN_WAITS,  /* for replicas; also one that was asked for before: then `options` are those of that one */
};
/* Ends the server by `options` (bits of enum config_shutdown), after what has to be saved is saved: by SAVE, or when
 * save points are set and NOSAVE is not given. On the thread of `worker`, which holds no lock. */
enum shutdown_answer shutdown_begin(struct server *server, unsigned worker, int options);

/* The line of INFO server while it waits. */
void shutdown_info(const struct server *server, struct text *text);

#endif
