#ifndef TERRACE_PERSIST_RDB_LOAD_PRIVATE_H
#define TERRACE_PERSIST_RDB_LOAD_PRIVATE_H

/* What the parts of a load share: the file from front to end (rdb_load.c), the threads that insert (rdb_load_crew.c),
 * the sidecar (rdb_load_index.c). */

#include "persist/rdb_insert.h"
#include "persist/rdb_layout.h"

#include <pthread.h>

/* ---- threads ----
 *
 * A crew takes jobs: bytes that are whole records, or (with a sidecar) a chunk of the file which a member reads itself.
 * The first failure ends everybody's work. */
enum { RDB_CREW_MAX = 64 };

struct rdb_job {
    uint8_t *bytes; /* of the crew; NULL: the bytes are read from the file */
    size_t length;
    uint64_t offset; /* in the file */
    uint32_t database;
    uint64_t crc; /* of a chunk of the file */
    struct rdb_job *next;
};

struct rdb_crew {
    const struct rdb_load_options *options;
    int fd; /* of chunks */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct rdb_job *jobs, **last; /* to be done */
    struct rdb_job *spare;
    struct rdb_job *all; /* an array */
    unsigned job_count;
    const struct rdb_index_chunk *chunks; /* with a sidecar: taken one after the other */
    uint64_t chunk_count, next_chunk;
    bool ended;
    pthread_t threads[RDB_CREW_MAX];
    unsigned thread_count;
    /* Under the lock: the first failure, and figures of those who have ended. */
    enum rdb_status status;
    const char *reason;
    uint64_t failed_at;
    uint64_t keys, expired, empty, replaced;
};

/* A chunk of the file that is longer than this is loaded by the calling thread, as it is read. */
#define RDB_CHUNK_AT_ONCE (UINT64_C(16) << 20)

void rdb_crew_begin(struct rdb_crew *crew, const struct rdb_load_options *options);
/* Starts the members. None (crew->thread_count is 0): the caller does the work. */
void rdb_crew_start(struct rdb_crew *crew);
/* A job whose `bytes` have room for RDB_INPUT_BUFFER; waits until there is one. NULL: the crew has failed. */
struct rdb_job *rdb_crew_spare(struct rdb_crew *crew);
void rdb_crew_give(struct rdb_crew *crew, struct rdb_job *job);
void rdb_crew_fail(struct rdb_crew *crew, enum rdb_status status, const char *reason, uint64_t offset);
/* No more jobs will come: waits until all are done, and frees what the crew has. */
void rdb_crew_end(struct rdb_crew *crew);

/* ---- the sidecar ---- */

struct rdb_index {
    struct rdb_index_head head;
    struct rdb_index_chunk *chunks; /* malloc'ed */
};

/* The sidecar of the file at `path`, if there is one, it is whole, and it belongs to a file of so many bytes. */
bool rdb_index_read(struct rdb_index *index, const char *path, uint64_t file_bytes) __attribute__((warn_unused_result));
void rdb_index_free(struct rdb_index *index);

#endif
