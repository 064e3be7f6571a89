#ifndef TERRACE_SERVER_CLIENT_MEMORY_H
#define TERRACE_SERVER_CLIENT_MEMORY_H

/* What clients' buffers take, and who has to give it back: the clients that take most are closed when all together are
 * above maxmemory-clients; and when memory has been short for CLIENT_MEMORY_STUCK_MS although nothing is left to evict
 * or demote, and clients hold more than a small part of maxmemory, the largest loses the command it is sending (which
 * is then refused with -OOM), or, if it is one that does not read its replies, is closed.
 *
 * Each worker counts its own connections and publishes the sums and its largest client; the worker that has the largest
 * of all closes it. Clients that asked not to be evicted (CLIENT NO-EVICT) count, but are spared.
 *
 * Threads: the worker's own, except for reading the figures. */

#include "base/stat_counter.h"

#include <stddef.h>

struct config;
struct connection;
struct server;
struct worker;

enum { CLIENT_MEMORY_STUCK_MS = 2000 };

struct client_memory {
    /* Of all connections, as of the last count. */
    stat_counter query_bytes, reply_bytes, other_bytes;
    stat_counter pinned_bytes;   /* of the replies: values that lie in records */
    stat_counter unfilled_bytes; /* of their query buffers, besides: allocated, and hardly resident yet */
    stat_counter largest_bytes;  /* of one that may be closed */
    stat_counter evicted;        /* clients closed here, ever */
    stat_counter grown_bytes;    /* all since then, when clients grow: what they have taken more */
    uint64_t next_check_ns;
};

/* maxmemory-clients in bytes; 0: no limit. */
size_t client_memory_limit(const struct config *config);

/* Counts the worker's connections. Every tick. */
void client_memory_count(struct worker *worker);

/* After whatever may have changed what the connection takes: asks for a check at once if it grew and all together are
 * above maxmemory-clients. O(workers). */
void client_memory_note(struct worker *worker, struct connection *connection);

/* The connection is closed. */
void client_memory_forget(struct worker *worker, const struct connection *connection);

/* maxmemory-clients has changed: marks the largest of all to be closed until
 * the others are below it. All workers stand still. */
void client_memory_apply(struct server *server);

/* After each turn: closes the largest client of all if it is this worker's and has to go. */
void client_memory_check(struct worker *worker);

#endif
