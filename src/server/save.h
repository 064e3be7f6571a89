#ifndef TERRACE_SERVER_SAVE_H
#define TERRACE_SERVER_SAVE_H

/* Snapshots as RDB files: SAVE, BGSAVE, save points, what is written at a shutdown.
 *
 * The file is written by the walkers of a snapshot (snapshot_job.h) beside the running commands; SAVE and SHUTDOWN only
 * wait for it. Changes are counted by the keyspace; those since the last snapshot are the ones after its cut.
 *
 * Threads: workers' threads; the state is under a lock of its own. */

#include "base/span.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct text;

struct save {
    pthread_mutex_t lock;
    _Atomic uint64_t changes_saved; /* of the keyspace, at the cut of the last snapshot that succeeded */
    int64_t last_s;                 /* unix time when it ended, or the server started */
    int64_t last_try_s;             /* when the last one was started by a save point */
    int64_t last_duration_s;
    int64_t started_s;                    /* 0: none is being written */
    int64_t looked_s;                     /* worker 0's: when save points were last looked at */
    uint64_t saves;                       /* that succeeded */
    uint64_t loaded_keys, loaded_expired; /* by the last load */
    bool failed;                          /* the last one did */
    bool scheduled;                       /* BGSAVE SCHEDULE: when what is running has ended */
    /* Held by the worker that begins one, or takes what FLUSHALL has left to do; outside of `lock`. */
    pthread_mutex_t begin_lock;
    atomic_bool flushed;       /* FLUSHALL: what is being saved is of no use, and the file is to be replaced soon */
    atomic_bool given_up;      /* the running one was stopped by that, which is no failure */
    atomic_bool for_flush;     /* the one that replaces the file is scheduled or runs */
    atomic_bool refuse_writes; /* the last one failed, save points are set, and so is stop-writes-on-bgsave-error */
};

void save_init(struct server *server);
void save_free(struct server *server);

/* Where, in the working directory, a snapshot is written until it is whole. Always the same in one process. */
void save_temporary_name(char *name, size_t capacity);

enum save_answer { SAVE_DONE, SAVE_BUSY_SAVING, SAVE_BUSY_OTHERWISE, SAVE_FAILED };
/* No shard lock is held. DONE: it has begun. */
enum save_answer save_in_background(struct server *server);
/* DONE: the file is there. Takes as long as it takes; other workers go on. */
enum save_answer save_now(struct server *server, unsigned worker);
/* Waits until the save that belongs to a FLUSHALL has ended, as if that command had made it; of what is in memory there
 * is mostly nothing to be written. Otherwise returns at once. Not within EXEC. */
void save_finish_flush(struct server *server, unsigned worker);
/* As soon as the snapshot that is running now has ended. */
void save_schedule(struct server *server);

/* Every tick of worker 0: save points and what was scheduled. */
void save_tick(struct server *server);
/* After a load: what is in memory is what the file holds. */
void save_note_loaded(struct server *server, uint64_t keys, uint64_t expired);

/* FLUSHALL has emptied everything; all shards are locked. See struct command_host. */
void save_note_flushed(void *ctx);

/* Whether save points are set: a shutdown saves. */
bool save_is_wanted(const struct server *server);
/* NULL, or the error that commands which write get. */
const char *save_refusal(struct server *server);

/* The lines of INFO persistence that begin with rdb_, and current_*. `changes`: of the keyspace, ever. */
void save_info(struct server *server, uint64_t changes, struct text *text);

#endif
