#ifndef TERRACE_PERSIST_RDB_FILE_H
#define TERRACE_PERSIST_RDB_FILE_H

/* Writing an RDB file, with one thread or several, so that at any moment either the old file or the new one is there.
 *
 *   file = rdb_file_open(&options, &error)              a temporary file with a header
 *   rdb_lane_init(&lane, file)                          for each thread
 *     rdb_lane_record(&lane, database, record) ...      composed into the lane's buffer, written as a chunk when full
 *   rdb_lane_end(&lane)
 *   rdb_file_finish(file, &error)                       end, checksum, fsync, rename, fsync of the folder
 *   or rdb_file_abandon(file)                           the temporary file is removed
 *
 * A big collection goes through the lane in steps (rdb_save.h), and is written between these, so that no lock need be
 * held while writing:
 *
 *   if (!rdb_lane_collection_begin(&lane, &save, database, root, key, expiry_ms, access)) ...
 *   do {
 *       ... lock ...
 *       status = rdb_collection_step(&save, &access, &lane.output, RDB_LANE_STEP_BYTES);
 *       ... unlock ...
 *   } while (rdb_lane_collection_settle(&lane) && (status == RDB_SAVE_MORE || status == RDB_SAVE_MISSING));
 *   rdb_lane_collection_end(&lane, &save)               in any case: without it the other lanes might wait for ever
 *
 * A lane writes whole chunks (rdb_layout.h), so lanes do not disturb each other. What is too large for a buffer is
 * written as it comes: its lane then has the file for itself up to the value's end, and the others wait when their
 * buffers are full. So a lane may wait for locks and pages, but for another lane only through this.
 *
 * With options.index a sidecar is written beside the file, for loading with several threads. That it cannot be written
 * is no failure. Who removes the file removes the sidecar (RDB_INDEX_SUFFIX) as well; one that is left over belongs
 * to no file, and is ignored.
 *
 * After the first failure nothing is written any more, and every function answers false. Nothing here logs or exits.
 *
 * Threads: a lane belongs to one; the rest to one thread while there is no lane, where not said otherwise. */

#include "persist/file_io.h"
#include "persist/rdb_save.h"

struct rdb_file;

/* Keys of a database at the cut, and how many of them expire: a hint for whoever loads. */
struct rdb_database_size {
    uint32_t database;
    uint64_t keys, expires;
};

/* Of what history the file's values are, and how far it goes: what replication goes on with (PSYNC). */
struct rdb_history {
    char id[41];
    uint64_t offset;
    int database; /* the one the stream has selected there; -1: it will say */
};

struct rdb_file_options {
    const char *path;             /* of the finished file */
    const char *temporary;        /* in the same folder */
    const struct file_io *io;     /* NULL: the system's */
    struct rdb_save_options save; /* save.policy outlives the file */
    bool checksum;                /* rdbchecksum */
    bool incremental_sync; /* rdb-save-incremental-fsync: the disk is kept busy all along, so that the end is quick */
    bool index;            /* write a sidecar */
    bool aof_base;         /* it begins an append-only file; what the header says */
    const char *redis_version;         /* what the header says */
    uint64_t used_memory;              /* likewise */
    const struct rdb_history *history; /* likewise; NULL: nothing. See rdb_file_set_history() */
    const struct rdb_database_size *sizes;
    unsigned size_count;
    size_t chunk_bytes; /* of a lane's buffer; 0: RDB_CHUNK_BYTES */
};

enum { RDB_CHUNK_BYTES = 1 << 20, RDB_LANE_STEP_BYTES = 32 << 10 };

struct rdb_file_error {
    const char *step; /* "open", "write", "fsync", "rename", "compose"; NULL: none */
    int error;        /* errno */
};

/* Makes the temporary file, replacing one that was left there, and writes its header. Everything in `options` is
 * copied. NULL: `*error` says why. */
struct rdb_file *rdb_file_open(const struct rdb_file_options *options, struct rdb_file_error *error)
    __attribute__((warn_unused_result));
/* Completes the file and gives it its name; frees `file` in any case. False: the temporary file is removed and the old
 * one untouched; `*error` says why. (Where it was only the folder that could not be synced, the new file is there, but
 * may not outlive a power failure.) */
bool rdb_file_finish(struct rdb_file *file, struct rdb_file_error *error) __attribute__((warn_unused_result));
/* A file that was opened with a history has another one after all. Before it is finished, by one thread. */
void rdb_file_set_history(struct rdb_file *file, const struct rdb_history *history);
/* Removes the temporary file and frees `file`. */
void rdb_file_abandon(struct rdb_file *file);

/* Any thread. */
struct rdb_file_error rdb_file_error(struct rdb_file *file);
uint64_t rdb_file_bytes(struct rdb_file *file); /* written so far */

/* ---- lanes ---- */

/* But for `output` its fields are rdb_file.c's. */
struct rdb_lane {
    struct rdb_output output;
    struct rdb_file *file;
    uint32_t database;       /* of what is in the buffer, or in the open chunk */
    uint64_t keys;           /* there */
    bool open;               /* it has the file for itself: a part of a chunk is written */
    uint64_t offset, length; /* of the part */
    uint64_t crc;
};

void rdb_lane_init(struct rdb_lane *lane, struct rdb_file *file);
/* Writes what is left and frees the lane's memory. */
bool rdb_lane_end(struct rdb_lane *lane);

/* A record that is no big collection. No lock may be held. */
bool rdb_lane_record(struct rdb_lane *lane, uint32_t database, const struct record *record);

/* The head of a big collection; `root` is to outlive the save. False: the file has failed, nothing was begun. No lock
 * may be held. */
bool rdb_lane_collection_begin(struct rdb_lane *lane, struct rdb_collection_save *save, uint32_t database,
                               struct collection *root, struct span key, int64_t expiry_ms, uint32_t access);
/* Between steps: writes if the buffer is full. No lock may be held. */
bool rdb_lane_collection_settle(struct rdb_lane *lane);
/* Frees what the save has. A save whose last step did not answer RDB_SAVE_DONE has the file fail. */
bool rdb_lane_collection_end(struct rdb_lane *lane, struct rdb_collection_save *save);

#endif
