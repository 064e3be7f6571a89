#ifndef TERRACE_SERVER_PMEM_GROWTH_H
#define TERRACE_SERVER_PMEM_GROWTH_H

/* CONFIG SET pmem-size: pools of persistent memory become larger while the server serves (pmem/pool_layout.h has the
 * steps).
 *
 *   CONFIG SET           all stand still: whether it can be, else it is refused
 *   a thread of its own  the files are made longer, their space reserved; nobody waits for it. What goes wrong now is
 *                        logged, and INFO pmem says it (pmem_growth)
 *   worker 0             all stand still: what was added has become segments
 *
 * A server that ends in between, or is killed, goes on with it when it starts.
 *
 * Threads: as said. */

#include "server/config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct server;

enum pmem_growth_state { PMEM_GROWTH_NONE, PMEM_GROWTH_RUNS, PMEM_GROWTH_FAILED };

/* Part of struct server. */
struct pmem_growth {
    _Atomic int state; /* enum pmem_growth_state, of the last one */
    bool started;      /* the thread is to be joined: the changing thread's, and worker 0's */
    pthread_t thread;
    uint64_t size_bytes;
    bool extended; /* the thread's answer */
    char error[400];
};

/* See config_on_change(). */
bool pmem_growth_change(void *ctx, const struct config *config, const char *name, struct config_error *error);
/* For INFO: "none", "running" or "failed". Any thread. */
const char *pmem_growth_text(const struct server *server);
/* All workers have ended. */
void pmem_growth_end(struct server *server);

#endif
