/* See aof_text_sink.h.
 *
 * A lane composes whole commands into its buffer, each part beginning with SELECT, and writes the part when it is full:
 * between two values, or between two steps of a big one. So parts of several lanes may stand in any order, and those of
 * one value stand in theirs. What is written is summed up under the lock that orders the writes, since each checksum
 * goes on from the one before.
 *
 * The end: sync, rename, sync of the directory. What a start finds before the last is the old file or none, which the
 * manifest, stored behind it, does not name yet. */

#include "persist/aof_text_sink.h"

#include "persist/aof_check.h"
#include "persist/aof_layout.h"
#include "persist/aof_text.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    STEP_BYTES = 64 << 10, /* of a big collection under one hold of its shard's lock: some tens of microseconds */
    SYNC_BYTES = 4 << 20,  /* of each part that the disk is told to write ahead */
    HEAD_MAX = 3 * AOF_CHECK_LINE_MAX,
};

struct text_lane {
    struct rdb_output output;
    uint32_t database; /* that its buffer has selected last */
};

struct aof_text_sink {
    const struct file_io *io;
    char directory[PATH_MAX], path[PATH_MAX], temporary[PATH_MAX];
    bool incremental_sync;
    size_t part_bytes;
    int fd;
    atomic_bool failed;

    pthread_mutex_t mutex; /* of what follows, while there are lanes */
    struct aof_check check;
    uint64_t bytes, synced;
    struct rdb_file_error error; /* the first one */

    unsigned lane_count;
    struct text_lane lanes[];
};

/* The mutex is held, or there are no lanes. */
static bool note_failure(struct aof_text_sink *sink, const char *step, int error) {
    if (!sink->error.step) sink->error = (struct rdb_file_error){step, error};
    atomic_store(&sink->failed, true);
    return false;
}

static bool fail(struct aof_text_sink *sink, const char *step, int error) {
    pthread_mutex_lock(&sink->mutex);
    note_failure(sink, step, error);
    pthread_mutex_unlock(&sink->mutex);
    return false;
}

/* ---- writing ---- */

static bool write_bytes(struct aof_text_sink *sink, const void *bytes, size_t length) {
    if (file_io_write_all(sink->io, sink->fd, bytes, length) != length) return note_failure(sink, "write", errno);
    sink->bytes += length;
    return true;
}

/* That the disk does not care is no failure; the sync at the end tells. */
static void sync_ahead(struct aof_text_sink *sink) {
    if (!sink->incremental_sync || sink->bytes - sink->synced < SYNC_BYTES) return;
    sync_file_range(sink->fd, (off_t)sink->synced, (off_t)(sink->bytes - sink->synced), SYNC_FILE_RANGE_WRITE);
    sink->synced = sink->bytes;
}

static bool write_batch(struct aof_text_sink *sink, const struct rdb_output *output) {
    char line[AOF_CHECK_LINE_MAX];
    size_t length = aof_check_open(&sink->check, line);
    if (!write_bytes(sink, line, length)) return false;
    aof_check_feed(&sink->check, output->bytes, output->length);
    if (!write_bytes(sink, output->bytes, output->length)) return false;
    length = aof_check_close(&sink->check, 0, line);
    if (!write_bytes(sink, line, length)) return false;
    sync_ahead(sink);
    return true;
}

/* Writes what the lane has, if it is much or the last. */
static bool settle(struct aof_text_sink *sink, struct text_lane *lane, bool last) {
    if (lane->output.failed) return fail(sink, "compose", ENOMEM);
    if (atomic_load_explicit(&sink->failed, memory_order_relaxed)) return false;
    if (lane->output.length == 0 || (!last && lane->output.length < sink->part_bytes)) return true;
    pthread_mutex_lock(&sink->mutex);
    bool written = !atomic_load(&sink->failed) && write_batch(sink, &lane->output);
    pthread_mutex_unlock(&sink->mutex);
    rdb_output_clear(&lane->output);
    return written;
}

/* ---- what the walkers call ---- */

static void select_database(struct text_lane *lane, uint32_t database) {
    if (lane->output.length && lane->database == database) return;
    aof_text_select(&lane->output, database);
    lane->database = database;
}

static bool take_record(void *ctx, unsigned lane_number, uint32_t database, const struct record *image) {
    struct aof_text_sink *sink = ctx;
    struct text_lane *lane = &sink->lanes[lane_number];
    select_database(lane, database);
    aof_text_record(&lane->output, image);
    return settle(sink, lane, false);
}

static bool take_collection(void *ctx, unsigned lane_number, uint32_t database, struct snapshot_collection *value) {
    struct aof_text_sink *sink = ctx;
    struct text_lane *lane = &sink->lanes[lane_number];
    struct aof_text_save save;
    enum rdb_save_status status;
    bool whole = true;
    aof_text_begin(&save, value->root, value->key, value->expiry_ms);
    do {
        select_database(lane, database);
        struct page_access *access = snapshot_collection_lock(value);
        status = aof_text_step(&save, access, &lane->output, STEP_BYTES);
        snapshot_collection_unlock(value);
        if (status == RDB_SAVE_FAILED) whole = fail(sink, "compose", lane->output.failed ? ENOMEM : EIO);
        if (status == RDB_SAVE_MISSING) whole = snapshot_collection_fetch(value);
        whole = whole && settle(sink, lane, false);
    } while (whole && status != RDB_SAVE_DONE);
    aof_text_end(&save);
    return whole;
}

static bool end_lane(void *ctx, unsigned lane) {
    struct aof_text_sink *sink = ctx;
    return settle(sink, &sink->lanes[lane], true);
}

struct snapshot_sink aof_text_sink_of(struct aof_text_sink *sink) {
    return (struct snapshot_sink){
        .ctx = sink, .record = take_record, .collection = take_collection, .lane_end = end_lane};
}

/* ---- the beginning and the end ---- */

static void destroy(struct aof_text_sink *sink) {
    for (unsigned i = 0; i < sink->lane_count; i++) rdb_output_free(&sink->lanes[i].output);
    if (sink->fd >= 0) sink->io->close(sink->io->ctx, sink->fd);
    pthread_mutex_destroy(&sink->mutex);
    free(sink);
}

static bool name_files(struct aof_text_sink *sink, const struct aof_text_options *options) {
    const char *directory = options->directory;
    errno = ENAMETOOLONG;
    return snprintf(sink->directory, PATH_MAX, "%s", directory) < PATH_MAX &&
           snprintf(sink->path, PATH_MAX, "%s/%s", directory, options->name) < PATH_MAX &&
           snprintf(sink->temporary, PATH_MAX, "%s/%s", directory, options->temporary) < PATH_MAX;
}

static bool write_header(struct aof_text_sink *sink, const struct aof_text_options *options) {
    char head[HEAD_MAX];
    size_t length = aof_check_begin(&sink->check, options->seed, head), time = 0;
    if (options->timestamp_s)
        time = (size_t)snprintf(head + length, AOF_CHECK_LINE_MAX, AOF_TIME_TAG "%lld\r\n",
                                (long long)options->timestamp_s);
    aof_check_feed(&sink->check, head + length, time);
    return write_bytes(sink, head, length + time);
}

struct aof_text_sink *aof_text_sink_open(const struct aof_text_options *options, unsigned lanes,
                                         struct rdb_file_error *error) {
    struct aof_text_sink *sink = calloc(1, sizeof(*sink) + lanes * sizeof(sink->lanes[0]));
    *error = (struct rdb_file_error){"allocate", ENOMEM};
    if (!sink) return NULL;
    pthread_mutex_init(&sink->mutex, NULL);
    sink->io = options->io ? options->io : &file_io_system;
    sink->incremental_sync = options->incremental_sync;
    sink->part_bytes = options->part_bytes ? options->part_bytes : RDB_CHUNK_BYTES;
    sink->lane_count = lanes;
    sink->fd = -1;
    for (unsigned i = 0; i < lanes; i++)
        rdb_output_init(&sink->lanes[i].output, sink->part_bytes + sink->part_bytes / 4);
    if (name_files(sink, options))
        sink->fd = sink->io->open(sink->io->ctx, sink->temporary, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (sink->fd < 0) note_failure(sink, "open", errno);
    if (sink->fd >= 0 && write_header(sink, options)) return sink;
    *error = sink->error;
    if (sink->fd >= 0) sink->io->unlink(sink->io->ctx, sink->temporary);
    destroy(sink);
    return NULL;
}

static bool publish(struct aof_text_sink *sink) {
    const struct file_io *io = sink->io;
    if (io->sync(io->ctx, sink->fd) != 0) return note_failure(sink, "fsync", errno);
    int closed = io->close(io->ctx, sink->fd);
    sink->fd = -1;
    if (closed != 0) return note_failure(sink, "close", errno);
    if (io->rename(io->ctx, sink->temporary, sink->path) != 0) return note_failure(sink, "rename", errno);
    return true;
}

bool aof_text_sink_close(struct aof_text_sink *sink, bool whole, struct rdb_file_error *error) {
    bool published = whole && !atomic_load(&sink->failed) && publish(sink);
    bool synced = published && (file_io_sync_directory(sink->io, sink->directory) ||
                                note_failure(sink, "fsync of the directory", errno));
    *error = sink->error;
    if (!published) sink->io->unlink(sink->io->ctx, sink->temporary);
    destroy(sink);
    return synced;
}
