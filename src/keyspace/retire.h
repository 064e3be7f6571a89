#ifndef TERRACE_KEYSPACE_RETIRE_H
#define TERRACE_KEYSPACE_RETIRE_H

/* Deferred freeing of memory that another worker may still be reading without a lock (prefetch hints).
 *
 * A worker is online while it serves a batch and offline while it waits for events. Memory retired at epoch
 * e is freed once every worker that is online has come online, or passed a quiescent point, after e.
 * (Quiescent-state based reclamation; Hart, McKenney, Brown and Walpole, 2007.) */

#include "base/limits.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct retire_list;

/* `deferred` false: one thread only, memory is freed at once. NULL: no memory. */
struct retire_list *retire_create(bool deferred);
void retire_destroy(struct retire_list *list); /* frees everything; no worker may be online */

/* Calls `release(ctx, memory)` once nobody can be reading `memory`; from any thread, with any locks held by the caller
 * of retire_collect(). `release` NULL: the memory came from malloc. Any thread. */
typedef void retire_release(void *ctx, void *memory);
void retire_memory(struct retire_list *list, void *memory, retire_release *release, void *ctx);

/* Worker `worker` (0..LIMIT_WORKERS-1) may read unlocked memory between these. Also called between batches
 * as a quiescent point. Cheap: one store and one fence. */
void retire_online(struct retire_list *list, unsigned worker);
void retire_offline(struct retire_list *list, unsigned worker);

/* Frees what no worker can see any more. Called now and then by any thread; returns blocks still waiting. */
uint64_t retire_collect(struct retire_list *list);

#endif
