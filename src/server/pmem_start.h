#ifndef TERRACE_SERVER_PMEM_START_H
#define TERRACE_SERVER_PMEM_START_H

/* A pool of persistent memory in the server (pmem-pool), or several that are one: in which order it is opened, loaded
 * and closed.
 *
 *   server_start      pool, its journal (pmem_gate.h), then the tier in it, whose header gives the keyspace its seed;
 *                     where it can grow it is looked at first, to the manifest, and then opened again for that
 *   loading thread    the last checkpoint; the journal's frames behind it. In an empty pool, the snapshot file instead
 *   take-over         all stand still: from here on replies wait for the pool's journal
 *   the end           the checkpoint of a shutdown; the journal is closed; the tier, then the pool
 *
 * Threads: the main thread, where not said otherwise. */

#include <stdbool.h>
#include <stddef.h>

struct server;

/* Nothing happens without pmem-pool. False: one line in `error`. */
bool pmem_start_open(struct server *server, char *error, size_t room) __attribute__((warn_unused_result));
/* Once the keyspace has its shards: records of each go to the pool of its node (pmem-node). False: one line in `error`.
 */
bool pmem_start_place(struct server *server, char *error, size_t room) __attribute__((warn_unused_result));
/* Of the pool with the journal: checkpoints stand beside it. */
const char *pmem_start_path(const struct server *server);
/* On the loading thread. *found: the pool held data, which are loaded now; false: load what else there is. False: it
 * cannot be loaded, and the log says why. */
bool pmem_start_load(struct server *server, bool *found) __attribute__((warn_unused_result));
/* Worker 0, all stand still, the data are loaded. `covered`: all of them are in the pool. False: one line in `error`.
 */
bool pmem_start_begin(struct server *server, bool covered, char *error, size_t room)
    __attribute__((warn_unused_result));
/* Worker 0, now and then. */
void pmem_start_tick(struct server *server);
/* All workers have ended. */
void pmem_start_end(struct server *server);
/* After the tier. */
void pmem_start_close(struct server *server);

#endif
