#ifndef TERRACE_SERVER_POOL_EXPORT_H
#define TERRACE_SERVER_POOL_EXPORT_H

/* What a pool of persistent memory holds, as an RDB file, without a server: loaded as at a start (the checkpoint, then
 * the journal's frames) in this process, which serves nobody, and given to the writer of snapshots. Nothing of the pool
 * is changed, neither its journal nor its checkpoint; it must not be in use. Keys that have expired are written with
 * the time that they had.
 *
 * The file is written as `<file>.making`, and renamed when it is whole.
 *
 * Threads: one, of a process that does nothing else; those it starts have ended when it returns. What it loaded stays
 * in memory: the process is to end. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `pool`: as pmem-pool. *keys: how many there are. False: one line in `error`, and no file. */
bool pool_export(const char *pool, const char *file, uint64_t *keys, char *error, size_t room)
    __attribute__((warn_unused_result));

#endif
