#ifndef TERRACE_SERVER_MONITOR_H
#define TERRACE_SERVER_MONITOR_H

/* MONITOR: connections that are shown every command the server runs.
 *
 *   command runs on any worker -> one line -> the feed of each worker that has monitors
 *                                               -> that worker, between turns -> its monitors' sockets
 *
 * A line is in the feeds before the command's reply is sent, so a client that waits for replies sees its commands in
 * order, whichever workers served them. Administrative commands are not shown, secrets are blanked (redact.h).
 *
 * A monitor that reads too slowly is closed by client-output-buffer-limit like any other client; where the class
 * `normal` has no limit, that of `pubsub` holds, since a monitor gets what it did not ask for one by one. */

#include "command/command.h"

#include <pthread.h>
#include <stdatomic.h>

struct connection;
struct worker;

/* Lines that a worker has not taken yet. It takes them once a turn; more than this between two turns means that it is
 * stuck behind its own work, and its monitors are closed rather than shown a gap. */
#define MONITOR_FEED_BYTES_MAX (64ul * 1024 * 1024)

struct monitor_feed {
    pthread_mutex_t lock; /* for all below */
    char *data;
    size_t length, capacity;
    uint64_t end; /* bytes ever appended */
    bool overflowed;
};

void monitor_feed_init(struct monitor_feed *feed);
void monitor_feed_free(struct monitor_feed *feed);

/* On the worker's own thread. */
void monitor_join(struct worker *worker, struct connection *connection);
void monitor_leave(struct worker *worker, struct connection *connection);

/* The line shown for `call`, with its '+' and line end, in memory the caller frees. `unix_path` is shown for clients
 * of the unix socket. NULL: longer than MONITOR_FEED_BYTES_MAX, or no memory. */
char *monitor_compose_line(const struct call *call, int64_t now_us, const char *unix_path, size_t *length);

/* See struct command_host: puts the line into the feeds. */
void monitor_show(void *ctx, const struct call *call);

extern const struct command_spec monitor_commands[];
extern const unsigned monitor_command_count;

#endif
