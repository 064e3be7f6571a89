#ifndef TERRACE_SERVER_SHUTDOWN_H
#define TERRACE_SERVER_SHUTDOWN_H

/* Ending on request: SIGTERM, SIGINT, SHUTDOWN. */

#include <stdbool.h>

struct server;

/* From now on SIGTERM and SIGINT ask this server to end; a second SIGINT ends the process on the spot. */
void shutdown_watch_signals(struct server *server);
/* Every tick of worker 0. */
void shutdown_check_signal(struct server *server);

/* Takes back a signal that shutdown_check_signal() has not found yet; logged. False: there is none. Any worker, while
 * all stand still. */
bool shutdown_abort(struct server *server);

/* Ends the server by `options` (bits of enum config_shutdown), after what has to be saved is saved: by SAVE, or when
 * save points are set and NOSAVE is not given. Clients that write wait meanwhile. False: it could not be saved, and the
 * server goes on; the reason is logged. On the thread of `worker`, which holds no lock. */
bool shutdown_begin(struct server *server, unsigned worker, int options, const char *reason)
    __attribute__((warn_unused_result));

#endif
