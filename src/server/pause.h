#ifndef TERRACE_SERVER_PAUSE_H
#define TERRACE_SERVER_PAUSE_H

/* CLIENT PAUSE: for a time the commands of clients wait instead of running, all of them or those that may change
 * data. Monitors are never paused, so that they can watch.
 *
 * Threads: begun and ended while all other workers stand still (COMMAND_EXCLUSIVE), so the fields are plain; whether
 * there is a pause at all is host->paused. A pause that is over is noticed by each worker for itself. */

#include "command/command.h"

struct server;
struct worker;

struct pause {
    bool all;       /* else only commands that may write */
    int64_t end_ms; /* unix milliseconds */
};

/* A pause during a pause makes it wider and longer, never narrower or shorter. */
void pause_begin(struct server *server, bool all, int64_t end_ms);
void pause_end(struct server *server);

/* See struct command_host. */
bool pause_must_wait(void *ctx, const struct session *session, const struct command *command, int64_t now_ms);

/* Every turn of a worker: runs what waited, if the pause is over. */
/* A command of the session is unfinished: as if it had been paused for no time. For struct command_host. */
void pause_come_again(void *ctx, const struct session *session);
void pause_check(struct worker *worker);
/* How long the worker may sleep because of clients that wait for the end: milliseconds, or -1 for any time. */
int pause_wait_ms(const struct worker *worker);

#endif
