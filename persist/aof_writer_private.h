#ifndef TERRACE_PERSIST_AOF_WRITER_PRIVATE_H
#define TERRACE_PERSIST_AOF_WRITER_PRIVATE_H

/* The parts of the writer (aof_writer.h): its state and syncing (aof_writer_sync.c), batches (aof_writer_batch.c), and
 * the loop with what the owner calls (aof_writer.c). For these three alone.
 *
 * Threads: the writer's own, where not said otherwise. */

#include "persist/aof_writer.h"

#include <pthread.h>
#include <time.h>

#define AOF_WRITER_SECOND_NS INT64_C(1000000000)
enum {
    AOF_WRITER_BUFFER_BYTES = 128 << 10
}; /* batches up to this are one write; larger ones are written as they lie */

struct sync_job {
    int fd;
    uint64_t position, bytes;
    uint64_t generation; /* of the file */
};

struct aof_writer {
    struct aof_writer_options options;
    struct journal_reader *reader;
    pthread_t write_thread, sync_thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* of what follows */
    bool stopping, writer_ended;
    bool has_next, mend_wanted;
    uint64_t next_position;
    struct aof_writer_file next;
    bool (*next_name)(void *ctx);
    void *next_ctx;
    struct sync_job job; /* the second thread is at it */
    bool has_job;
    char history[AOF_HISTORY_ID + 1]; /* empty: none */
    int error;
    uint64_t synced; /* position up to which the files were synced */
    /* Read by anybody; these change under the lock. */
    atomic_bool failing, lost;
    _Atomic uint64_t generation; /* of the present file; counts switches */
    _Atomic uint64_t lost_generation;
    _Atomic int policy;
    _Atomic uint32_t delay_us; /* before each batch; for tests */
    atomic_bool timestamps, deferred, protects, late, switching;
    atomic_bool history_due;                            /* the next batch begins with a line of history */
    _Atomic uint64_t written, file_bytes, synced_bytes; /* synced_bytes: of the present file */
    _Atomic uint64_t delayed_syncs, syncs, batches, vain_waits, failures;
    _Atomic int64_t job_since_ns;  /* when the oldest byte of the sync under way was written; 0: none is */
    _Atomic uint64_t gather_until; /* the writer sleeps until gate->holds is this; 0: it does not */
    /* The writer's own. */
    struct aof_writer_file file;
    uint64_t whole_bytes, whole_position; /* of the file, up to its last closing */
    struct aof_check whole_check;
    bool batch_open;
    int64_t stamped_s;                   /* the last time line */
    bool unsynced;                       /* bytes may not be on the disk */
    int64_t unsynced_since_ns;           /* 0: all that is written was handed to a sync */
    int64_t sync_due_ns, sync_ns;        /* sync_ns: what one takes, smoothed */
    int64_t sync_end_ns;                 /* when the last one of `always` ended */
    uint64_t group_base, group_target;   /* gate->holds when the last batch began; replies a group should have */
    unsigned gather_misses, gather_rest; /* groups in a row that did not become complete; not to be waited for */
    bool delay_counted;
    bool history_waits; /* for a batch: it could not be written on its own */
    char *buffer;
};

/* ---- state; any of the two threads, the lock not held ---- */

void aof_writer_tell(const struct aof_writer *writer);
/* A file could not be written or synced: commands that write are refused before the gate lets later turns reply.
 * `lost`: trying again does not help. */
void aof_writer_fail(struct aof_writer *writer, int error, bool lost);
void aof_writer_recover(struct aof_writer *writer);
/* What is read is dropped: the present file is lost. */
bool aof_writer_is_dropping(const struct aof_writer *writer);
/* The lock is held. Publishing: true if `durable` has advanced. */
void aof_writer_set_gate(struct aof_writer *writer);
bool aof_writer_publish(struct aof_writer *writer);
void aof_writer_set_late(struct aof_writer *writer, bool late);

/* A monotonic time so many nanoseconds from now. */
struct timespec aof_writer_in_ns(int64_t ns);
/* Sleeps so long, unless the owner wants something. True: it does. */
bool aof_writer_nap(struct aof_writer *writer, int64_t ns);

/* ---- syncing ---- */

void *aof_writer_sync_jobs(void *argument); /* the second thread */
void aof_writer_wait_for_job(struct aof_writer *writer);
/* On the spot. False: it failed, and is told. */
bool aof_writer_sync_now(struct aof_writer *writer);
/* everysec: starts the sync that is due, and sees whether one is late. */
void aof_writer_sync_every_second(struct aof_writer *writer);

/* ---- writing ---- */

/* Writes all of it or nothing: the file ends where it did, as far as that can be had. False: it failed, and is told. */
bool aof_writer_write_piece(struct aof_writer *writer, const void *bytes, size_t length);
/* Writes so many bytes of what the journal shows. False: it failed; what was written has left the journal. */
bool aof_writer_write_batch(struct aof_writer *writer, const struct span spans[2], unsigned count, size_t bytes,
                            bool boundary);
/* A file begins: the backlog is told, and a line of history stands in front as soon as anything can be written. */
void aof_writer_begin_file(struct aof_writer *writer);
/* A line of history is due, and can be written on its own. */
bool aof_writer_owes_history(const struct aof_writer *writer);
/* Does so. One that cannot be written stays due, and comes with the next batch. */
void aof_writer_tell_history(struct aof_writer *writer);
/* Nothing that follows can be brought to the file: ends it where it was last whole. */
void aof_writer_leave_whole(struct aof_writer *writer);

#endif
