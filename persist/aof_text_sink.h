#ifndef TERRACE_PERSIST_AOF_TEXT_SINK_H
#define TERRACE_PERSIST_AOF_TEXT_SINK_H

/* The base of an append-only file, as commands, as the sink of a snapshot: like rdb_sink.h, a lane for each walker.
 *
 *   sink = aof_text_sink_open(&options, lanes, &error);
 *   ... a snapshot with aof_text_sink_of(sink) ...
 *   aof_text_sink_close(sink, whole, &error)
 *
 * The file is written under a temporary name, and has its own only when it is whole and synced. It carries the chained
 * checksums of an increment (aof_layout.h): a batch for each part that a lane writes.
 *
 * Threads: opened and closed by one thread while no walker runs. */

#include "persist/rdb_file.h"
#include "persist/snapshot.h"

struct aof_text_sink;

struct aof_text_options {
    const char *directory;    /* all texts are copied */
    const char *name;         /* in the directory */
    const char *temporary;    /* likewise */
    const struct file_io *io; /* NULL: the system's */
    uint64_t seed;            /* aof_check_begin() */
    int64_t timestamp_s;      /* aof-timestamp-enabled: unix time, told at the beginning; 0: none is */
    bool incremental_sync;    /* the disk is kept busy all along, so that the end is quick */
    size_t part_bytes;        /* of a lane's buffer; 0: RDB_CHUNK_BYTES */
};

/* NULL: `*error` says why. Owned by the caller, until aof_text_sink_close(). */
struct aof_text_sink *aof_text_sink_open(const struct aof_text_options *options, unsigned lanes,
                                         struct rdb_file_error *error) __attribute__((warn_unused_result));
struct snapshot_sink aof_text_sink_of(struct aof_text_sink *sink);
/* Completes the file and gives it its name if the snapshot is `whole`, removes it otherwise; frees the sink. False:
 * there is no new file, and `*error` says why (`step` NULL: because the snapshot was not whole). */
bool aof_text_sink_close(struct aof_text_sink *sink, bool whole, struct rdb_file_error *error)
    __attribute__((warn_unused_result));

#endif
