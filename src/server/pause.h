#ifndef TERRACE_SERVER_PAUSE_H
#define TERRACE_SERVER_PAUSE_H

/* CLIENT PAUSE, and what else has clients wait for a time: their commands do not run, all of them or those that may
 * change data. Monitors are never paused, so that they can watch. Each reason has a pause of its own: clients wait as
 * long as one of them lasts.
 *
 * Threads: begun and ended while all other workers stand still (COMMAND_EXCLUSIVE), so the fields are plain; whether
 * there is a pause at all is host->paused. A pause that is over is noticed by each worker for itself. */

#include "command/command.h"

struct server;
struct worker;

enum pause_reason { PAUSE_BY_CLIENT, PAUSE_FOR_SHUTDOWN, PAUSE_FOR_FAILOVER, PAUSE_REASONS };

struct pause {
    struct {
        bool all;       /* else only commands that may write */
        int64_t end_ms; /* unix milliseconds; 0: there is none */
    } of[PAUSE_REASONS];
};

/* A pause during one of the same reason makes it wider and longer, never narrower or shorter. */
void pause_begin(struct server *server, enum pause_reason reason, bool all, int64_t end_ms);
void pause_end(struct server *server, enum pause_reason reason);

/* See struct command_host. */
bool pause_must_wait(void *ctx, const struct session *session, const struct command *command, int64_t now_ms);

/* A command of the session is unfinished: as if it had been paused for no time, or for as long as the worker has
 * nothing else to do and `rest_ms` last. For struct command_host. */
void pause_come_again(void *ctx, const struct session *session, unsigned rest_ms);
/* Every turn of a worker: runs what waited, if the pause is over. */
void pause_check(struct worker *worker);
/* How long the worker may sleep because of clients that wait for the end: milliseconds, or -1 for any time. */
int pause_wait_ms(const struct worker *worker);

#endif
