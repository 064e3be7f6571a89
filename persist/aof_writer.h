#ifndef TERRACE_PERSIST_AOF_WRITER_H
#define TERRACE_PERSIST_AOF_WRITER_H

/* The thread that brings the journal to the append-only file.
 *
 *   journal ---peek---> write() ---> file ---fdatasync---> durable
 *                        position `written`        position `durable` (in the gate)
 *
 * Each batch of writes ends with an annotation (aof_check.h) wherever an effect ends there. Syncing is by policy:
 *   always     after each batch, by the writer itself. What arrives meanwhile is the next group. So that a group is
 *              not torn in two that follow each other, the writer waits, for at most what a sync takes, until as many
 *              replies are held again as were held around the last sync. Where that turns out to be in vain, since
 *              clients take longer than the disk, it soon does so rarely
 *   everysec   each second, by a second thread, so that a slow disk does not stop the writing
 *   no         never, but for files that are left
 *
 * Files are changed at an exact position of the journal (aof_writer_switch): bytes before it are in the old file, the
 * others in the new one. The old one is synced before anything is written to the new one, so whatever a crash leaves is
 * a beginning of the whole.
 *
 * Failure. A write that fails or comes up short is undone by cutting the file to the last byte that was whole, and
 * tried again each second with the same bytes, which wait in the journal. Two things cannot be mended that way, and
 * then `lost` is set: a sync that failed, after which nobody knows what is on the disk, and a ring full of what waits.
 * From then on what is read is dropped, until a switch begins a new file; only when the owner has made durable what
 * lies before that file's first byte, and says so (aof_writer_mend), is all well again.
 *
 * Threads: the functions may be called from any thread, create, stop and destroy from one. The writer itself waits for
 * no lock of a shard and no worker. */

#include "persist/aof_backlog.h"
#include "persist/aof_check.h"
#include "persist/commit_gate.h"
#include "persist/file_io.h"
#include "persist/journal.h"

enum aof_sync { AOF_SYNC_ALWAYS, AOF_SYNC_EVERY_SECOND, AOF_SYNC_NO };

struct aof_writer;

/* A file to go on with. The descriptor is for writing at its end (O_APPEND), and is the writer's from then on. */
struct aof_writer_file {
    int fd;
    uint64_t bytes;         /* what it holds now, all synced */
    struct aof_check check; /* the chain of its annotations so far */
};

struct aof_writer_options {
    struct journal *journal;
    struct commit_gate *gate;
    const struct file_io *io; /* NULL: the system's */
    uint64_t from;            /* position of the journal that comes behind `file`'s last byte */
    struct aof_writer_file file;
    enum aof_sync policy;
    bool timestamps;             /* aof-timestamp-enabled */
    bool protects;               /* what comes before `from` is durable; else aof_writer_protect() tells later */
    struct aof_backlog *backlog; /* is told where everything comes to stand; NULL: nobody wants to know. Files are
                                  * readable then */
    const char *history; /* the id of the stream that the journal is, for lines of history; NULL: there are none */
    /* Called on the writer's threads, without its lock held. May be NULL. */
    void *ctx;
    void (*advanced)(void *ctx);          /* `durable` has advanced, or the gate has changed its state */
    void (*failed)(void *ctx, int error); /* errno; once until `resumed`, or when it got worse */
    void (*resumed)(void *ctx);           /* all is well again */
    uint64_t retry_ns;                    /* between two tries of a write; 0: a second */
    uint64_t late_ns;                     /* of a sync under everysec before writers have to wait; 0: two seconds */
};

/* Attaches to the journal and starts the threads; no effect behind `from` may have left the ring. NULL: errno; the
 * file is still the caller's. */
struct aof_writer *aof_writer_create(const struct aof_writer_options *options);
/* Writes and syncs what the journal holds, ends the threads, closes the file, detaches. False: not all of it is on the
 * disk. No effect may be appended meanwhile by one who counts on it. `writer` is freed. */
bool aof_writer_destroy(struct aof_writer *writer) __attribute__((warn_unused_result));

/* From `position` on, which must be an effect's boundary that the writer has not even read (the journal's end, while
 * nobody appends), bytes go to `file`. Once the old file is complete and synced, and before anything is written to the
 * new one, `name` is called on the writer's thread: it makes durable that the new file follows the old one; NULL:
 * nothing is to be done. False (errno) is a failure like a sync's: the writer goes over to the new file all the same,
 * to be mended. `name` is called for every switch, but not after a failure. One switch at a time: the one before must
 * be done. Returns at once. */
void aof_writer_switch(struct aof_writer *writer, uint64_t position, const struct aof_writer_file *file,
                       bool (*name)(void *ctx), void *ctx);
bool aof_writer_switching(const struct aof_writer *writer);
/* Waits until it is done; the writer gets there even where it cannot write. */
void aof_writer_await_switch(struct aof_writer *writer);

/* The journal is a stream of another id from here on, or from anywhere before. Of AOF_HISTORY_ID characters. */
void aof_writer_set_history(struct aof_writer *writer, const char *id);
void aof_writer_set_policy(struct aof_writer *writer, enum aof_sync policy, bool timestamps);
/* For tests: the writer sleeps so long before each batch. */
void aof_writer_delay(struct aof_writer *writer, uint32_t delay_us);
/* A rewrite is under way and wants the disk: everysec does not sync meanwhile, and nobody waits for it. `always` is
 * never weakened. */
void aof_writer_defer_syncs(struct aof_writer *writer, bool deferred);
/* What came before the first byte is durable now: replies may be held, and counted upon. */
void aof_writer_protect(struct aof_writer *writer);
/* After `lost`: all that lies before the present file's first byte is durable. The file is synced; if that succeeds too
 * all is well. Waits for it. False: it failed again. */
bool aof_writer_mend(struct aof_writer *writer) __attribute__((warn_unused_result));

/* Any thread that has appended: wakes the writer if it has to be. A load and a comparison when it need not. */
void aof_writer_nudge(struct aof_writer *writer);

/* Unsynced data is older than it may be (everysec): commands that write have to wait before they begin. */
bool aof_writer_is_late(const struct aof_writer *writer);

struct aof_writer_figures {
    uint64_t written;        /* position up to which bytes were given to the system */
    uint64_t durable;        /* ... are on the disk */
    uint64_t file_bytes;     /* of the present file */
    uint64_t delayed_syncs;  /* times a sync was not done when the next was due (aof_delayed_fsync) */
    uint64_t syncs, batches; /* done */
    uint64_t vain_waits;     /* for a group that did not become complete in time */
    uint64_t failures;       /* times it stopped being well */
    bool sync_pending;       /* the second thread is at it */
    bool failing;            /* not all is well */
    bool lost;               /* only a new file helps */
    int error;               /* errno of the first failure; 0: none since the last recovery */
};
struct aof_writer_figures aof_writer_figures(const struct aof_writer *writer);

#endif
