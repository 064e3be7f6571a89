#ifndef TERRACE_SERVER_LOADING_H
#define TERRACE_SERVER_LOADING_H

/* The server while it loads its dataset: workers serve clients, which get -LOADING for all but the commands that are
 * marked COMMAND_LOADING; threads of the loader fill the keyspace; the memory limit holds and the tier is written.
 *
 *   loading_begin(server, worker, total_bytes);
 *   loading_options(server, &options);
 *   status = rdb_load_file(path, &options, &result);
 *   loading_end(server, worker);
 *
 * Between begin and end nothing expires and nothing is evicted by age: expiry sweeps are off.
 *
 * Threads: begin and end are called by one thread at a time; the questions by any. */

#include "base/key_delay.h"
#include "persist/rdb_load.h"

#include <stdatomic.h>

struct reply;
struct server;
struct text;

struct loading {
    atomic_bool active;
    bool locking_before;    /* what keyspace->locking was */
    bool expiry_before;     /* likewise, keyspace->active_expiry */
    struct tier_port *port; /* of the thread that loads; NULL: there is no tier */
    struct rdb_load_progress progress;
    _Atomic int64_t started_ms;
    atomic_bool cancel;     /* the server is to end */
    struct key_delay delay; /* key-load-delay */
};

/* `worker`: on whose thread it is called, which is also the one that loads; UINT_MAX: on none of theirs, and they do
 * not run yet. Then the end is on the thread of a worker. No shard lock may be held; that other workers stand still is
 * allowed, and not needed. */
void loading_begin(struct server *server, unsigned worker, uint64_t total_bytes);
void loading_end(struct server *server, unsigned worker);

/* What every load in this server has in common: keyspace, threads, port, room, progress, cancel. Returns `options`. */
const struct rdb_load_options *loading_options(struct server *server, struct rdb_load_options *options);

/* rdb_load_file() from a command (DEBUG RELOAD), on the thread of that worker, which goes on making room for what is
 * loaded. No shard lock may be held, and other workers run. */
enum rdb_status loading_file(struct server *server, unsigned worker, const char *path,
                             const struct rdb_load_options *options, struct rdb_load_result *result)
    __attribute__((warn_unused_result));

/* The port of a thread that replays beside the one that loads; NULL: there is no tier. */
enum { LOADING_LANES_MAX = 8 };
struct tier_port *loading_port_of_lane(const struct server *server, unsigned lane);
/* How many there are, of a server with so many workers. */
unsigned loading_lanes(unsigned workers);

/* Bytes that others than the RDB loader have loaded (an AOF). */
void loading_advance(struct server *server, uint64_t loaded_bytes);

static inline bool loading_is_active(const struct loading *loading) {
    return atomic_load_explicit((atomic_bool *)(uintptr_t)&loading->active, memory_order_relaxed);
}

/* The lines of INFO persistence: loading, async_loading, and while it loads loading_*. */
void loading_info(struct server *server, struct text *text);

#endif
