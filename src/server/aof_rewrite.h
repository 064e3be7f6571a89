#ifndef TERRACE_SERVER_AOF_REWRITE_H
#define TERRACE_SERVER_AOF_REWRITE_H

/* One rewrite of the append-only file, step by step as aof.h draws them, and the files it is made of. For aof.c alone.
 *
 * Threads: made by a thread of its own, begun and ended by worker 0, completed by a walker. */

#include "server/aof.h"

struct aof_rewrite;

/* Starts the thread that prepares it. aof->lock is held. False: no memory or no thread. */
bool aof_rewrite_begin(struct server *server) __attribute__((warn_unused_result));
/* Worker 0, every tick: one that has been prepared starts its snapshot as soon as no other runs. */
void aof_rewrite_tick(struct server *server);
/* The file is switched off: the rewrite ends without an effect. All workers stand still. */
void aof_rewrite_cancel(struct server *server);
/* Before a shutdown's checkpoint, on any worker's thread, when clients wait: one that has been begun ends without an
 * effect, however far it is, and is waited for. Workers may stand still meanwhile. */
void aof_rewrite_withdraw(struct server *server, unsigned worker);
/* As aof_rewrite_cancel() when all workers have ended; waits for it. On worker 0's thread. */
void aof_rewrite_finish(struct server *server);

/* Begins to write to `file` what the journal gets from now on. Workers stand still, or do not run yet. False: errno;
 * the file is still the caller's. */
bool aof_create_writer(struct server *server, const struct aof_writer_file *file, bool protects)
    __attribute__((warn_unused_result));
/* A file begins in database 0, and the journal says otherwise by a SELECT, but not on a replica, where it holds the
 * primary's bytes and no others: the file, which is new, then begins with a batch that does. Likewise. False: errno. */
bool aof_begin_in_database(struct server *server, struct aof_writer_file *file) __attribute__((warn_unused_result));
/* Ends it; nothing happens without one. Likewise. False: not all is on the disk. */
bool aof_destroy_writer(struct server *server);

/* ---- files, also for the start ---- */

/* The absolute path of appenddirname, as it was when the file was enabled. */
const char *aof_directory(const struct server *server);
/* Takes that path from the configuration; not while a rewrite is under way, whose threads use it: when the next one
 * begins. The file is not ON. False: no memory. */
bool aof_name_directory(struct server *server) __attribute__((warn_unused_result));
/* Makes the directory, and its entry durable. False: errno. */
bool aof_make_directory(const struct server *server);
/* Makes an increment of this name with its header, durable but for its entry in the directory. False: errno. */
bool aof_make_increment(const struct server *server, const char *name, struct aof_writer_file *file);
/* Opens an increment to be written on; -1: errno. */
int aof_open_increment(const struct server *server, const char *name);
/* Removes what the manifest calls history, unless it is to be kept, and stores it without. */
void aof_remove_history(struct server *server);
void aof_unlink(const struct server *server, const char *name);
/* Bytes of all files of the manifest, but the last increment if `but_last`. */
uint64_t aof_bytes_of(const struct server *server, const struct aof_manifest *manifest, bool but_last);

#endif
