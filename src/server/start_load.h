#ifndef TERRACE_SERVER_START_LOAD_H
#define TERRACE_SERVER_START_LOAD_H

/* The dataset at the start: from the append-only file if that is on, else from the snapshot file.
 *
 *   main thread             start_load_begin(), then workers are started
 *   the loading thread      reads; workers serve -LOADING meanwhile
 *   worker 0, by mail       what was loaded is taken over, the append-only file goes on behind it, the server is ready
 *
 * With a pool of persistent memory: from the pool (pmem_start.h), or the snapshot file while it holds nothing.
 *
 * What cannot be loaded ends the server with exit code 1 and one line that names file and offset: it is not started
 * empty in the place of data that is there. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct aof_start;
struct rdb_load_result;
struct server;

struct start_load {
    pthread_t thread;
    bool running;            /* the thread is to be joined */
    bool foreign;            /* what was loaded is not in the pool of persistent memory yet */
    bool failed;             /* the server ends with exit code 1 */
    char replication_id[41]; /* of the history that the dataset is a part of; "": it does not say */
    uint64_t replication_offset;
    int replication_database; /* selected there; -1: not said */
    struct aof_start *aof;    /* what was found of the append-only file; NULL: it is off, or has been taken over */
};

/* On the main thread, before workers run. *ready: there is nothing to load. False: no thread for it. */
bool start_load_begin(struct server *server, bool *ready) __attribute__((warn_unused_result));
/* The loading thread: the dataset is what the stream `id` had at `offset`, with this database selected (-1: not known);
 * it is taken up there (replication_restore_history()). */
void start_load_note_history(struct server *server, const char *id, uint64_t offset, int database);
/* The same from a snapshot, if it says. */
void start_load_note_snapshot(struct server *server, const struct rdb_load_result *result);
/* All workers have ended: ends the loading as well. */
void start_load_end(struct server *server);

#endif
