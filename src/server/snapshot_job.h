#ifndef TERRACE_SERVER_SNAPSHOT_JOB_H
#define TERRACE_SERVER_SNAPSHOT_JOB_H

/* One snapshot at a time, whatever it is for: BGSAVE, the base of a rewritten append-only file, a checkpoint of the
 * tier, a copy for replicas.
 *
 * Who wants one describes it as a task and starts it; the walker (persist/snapshot.h) gives the values of the cut to
 * the task's sink, on threads of its own.
 *
 *   snapshot_job_start()     any worker's thread, also within a command: the job is taken
 *   `cut`                    worker 0 between its turns, soon: all workers stand still, this moment is what is saved
 *   the sink's functions     walkers' threads
 *   `complete`               a walker's thread, once everything was given to the sink, or the snapshot was stopped;
 *                            worker 0 if it could not even begin
 *   `ended`                  worker 0: the result is to be made known; after it another snapshot may be started
 *
 * `complete` and `ended` are called exactly once for each job that was started, whatever happens. */

#include "base/key_delay.h"
#include "persist/snapshot.h"

#include <pthread.h>
#include <stdatomic.h>

struct server;

enum snapshot_purpose { SNAPSHOT_NONE, SNAPSHOT_SAVE, SNAPSHOT_REWRITE, SNAPSHOT_CHECKPOINT, SNAPSHOT_REPLICA };

struct snapshot_task {
    enum snapshot_purpose purpose;
    unsigned lanes; /* walker threads, 1..SNAPSHOT_LANES_MAX; 0: snapshot_job_lanes() */
    struct snapshot_sink sink;
    /* All workers stand still. False: it cannot be done after all: it ends as one that is not whole. NULL: nothing to
     * do. */
    bool (*cut)(void *ctx);
    /* Finishes what the sink was given (the end of the file, sync, rename), or removes it if it is not `whole`. Returns
     * whether there is a whole one now. */
    bool (*complete)(void *ctx, bool whole);
    /* The last that is heard of the job. */
    void (*ended)(void *ctx, bool whole);
    void *ctx;
};

/* Part of struct server. */
struct snapshot_job {
    _Atomic int purpose; /* enum snapshot_purpose */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* `over`, or the end */
    struct snapshot_task task;
    struct snapshot *snapshot;
    struct key_delay delay; /* rdb-key-save-delay, as it was at the cut; none once it is stopped */
    bool begun, over, whole, stopped;
    _Atomic int64_t started_ms;
    _Atomic uint64_t jobs; /* ever started */
};

void snapshot_job_init(struct server *server);
void snapshot_job_free(struct server *server);

/* How many walkers this server uses by itself. */
unsigned snapshot_job_lanes(const struct server *server);

/* False: one is running, or taken: snapshot_job_purpose(). The task is copied. */
bool snapshot_job_start(struct server *server, const struct snapshot_task *task) __attribute__((warn_unused_result));
/* SNAPSHOT_NONE: none is running. Any thread. */
enum snapshot_purpose snapshot_job_purpose(const struct server *server);
/* How many were ever started: who could not start one sees whether another was quicker. Any thread. */
uint64_t snapshot_job_count(const struct server *server);
/* Stops the one that is running, which then ends as one that is not whole. Any thread. */
void snapshot_job_stop(struct server *server);

/* Of the running one; zero without one. Any thread. */
struct snapshot_job_figures {
    uint64_t done, total; /* keys */
    size_t kept_bytes;    /* only for it: images that wait for the walkers, pages of collections that have changed */
    int64_t started_ms;   /* unix time */
};
void snapshot_job_figures(struct server *server, struct snapshot_job_figures *figures);

/* Waits until the running one has ended; for commands that save on the spot, and for the shutdown. Other workers go on,
 * and may make all stand still meanwhile. On the thread of `worker`, which holds no lock. */
void snapshot_job_wait(struct server *server, unsigned worker);
/* A moment of such a wait. */
void snapshot_job_doze(struct server *server, unsigned worker);
/* The server ends: stays with the other workers until the last of them has ended, as one may wait for a job that only
 * worker 0 can begin or end. Its thread. */
void snapshot_job_see_off(struct server *server);

#endif
