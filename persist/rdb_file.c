/* An RDB file in the making.
 *
 * Bytes are composed by lanes and written by one of them at a time, a chunk each, so that chunks of several lanes stand
 * one behind the other. Who writes has the turn (`busy`); what is larger than a buffer is written in parts, for which
 * its lane keeps the turn. A failure ends all waiting for it. Each lane sums up its own bytes before it takes the turn;
 * the sums are then joined (crc64_joined()), so the file's checksum costs nothing where lanes would wait.
 *
 * The header says version 10 (or what is configured) before anybody knows whether there is a hash with field TTLs,
 * which only version 12 has. If one was met the header is written again at the end, through a second descriptor; its
 * sum is kept apart from the body's for that.
 *
 * The end, and what a start finds when the power fails behind each step:
 *
 *   1. EOF, checksum; sync of the temporary file      the old file
 *   2. rename over the old file                       the old or the new file, whole
 *   3. sync of the folder                             the new file
 *   4. the sidecar, in the same manner                the new file; a sidecar of another file is known by its id, and
 *                                                     ignored */

#include "persist/rdb_file.h"

#include "base/number.h"
#include "persist/crc64.h"
#include "persist/rdb_layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum {
    WRITE_BYTES = 64 << 10, /* at once */
    SYNC_BYTES = 4 << 20,   /* of each part that the disk is told to write ahead */
    INDEX_CHUNKS_MIN = 4,   /* a smaller file is loaded as quickly without a sidecar */
    HEADER_CAPACITY = 512,
    DIRECT_FACTOR = 2, /* a record of more than a part of the buffer need not go through it */
};

struct rdb_file {
    struct rdb_file_options options; /* its texts are not kept but for the paths, which are owned */
    char *path, *temporary;
    struct rdb_output header;
    int fd;
    uint64_t id;
    size_t history_at; /* of its fields, in the header */
    bool header_changed;
    _Atomic uint64_t bytes; /* written */
    atomic_bool failed;

    pthread_mutex_t mutex; /* of the next three */
    pthread_cond_t turn;   /* `busy` has become false, or the file has failed */
    bool busy;
    struct rdb_file_error error; /* the first one */

    /* Of who has the turn. */
    uint64_t body_crc;
    uint64_t synced; /* the disk was told to write up to here */
    bool field_ttl;
    bool index_lost; /* there was no memory for a row */
    uint64_t keys;
    struct rdb_index_chunk *chunks;
    size_t chunk_count, chunk_capacity;
};

static bool fail(struct rdb_file *file, const char *step, int error) {
    pthread_mutex_lock(&file->mutex);
    if (!file->error.step) file->error = (struct rdb_file_error){step, error};
    atomic_store(&file->failed, true);
    pthread_cond_broadcast(&file->turn);
    pthread_mutex_unlock(&file->mutex);
    return false;
}

static bool has_failed(const struct rdb_file *file) {
    return __builtin_expect(atomic_load_explicit(&file->failed, memory_order_relaxed), 0);
}

struct rdb_file_error rdb_file_error(struct rdb_file *file) {
    pthread_mutex_lock(&file->mutex);
    struct rdb_file_error error = file->error;
    pthread_mutex_unlock(&file->mutex);
    return error;
}

uint64_t rdb_file_bytes(struct rdb_file *file) {
    return atomic_load_explicit(&file->bytes, memory_order_relaxed);
}

/* ---- writing ---- */

/* False: the file has failed, and there is no turn. */
static bool take_turn(struct rdb_file *file) {
    pthread_mutex_lock(&file->mutex);
    while (file->busy && !has_failed(file)) pthread_cond_wait(&file->turn, &file->mutex);
    bool taken = !has_failed(file);
    if (taken) file->busy = true;
    pthread_mutex_unlock(&file->mutex);
    return taken;
}

static void give_turn(struct rdb_file *file) {
    pthread_mutex_lock(&file->mutex);
    file->busy = false;
    pthread_cond_signal(&file->turn);
    pthread_mutex_unlock(&file->mutex);
}

/* The part before the last one has had time to reach the disk: waiting for it keeps what is still to be written small.
 * That the disk does not care is no failure; fsync tells. */
static void sync_ahead(struct rdb_file *file, uint64_t bytes) {
    if (!file->options.incremental_sync || bytes - file->synced < SYNC_BYTES) return;
    sync_file_range(file->fd, (off_t)file->synced, (off_t)(bytes - file->synced), SYNC_FILE_RANGE_WRITE);
    if (file->synced > SYNC_BYTES)
        sync_file_range(file->fd, (off_t)(file->synced - SYNC_BYTES), SYNC_BYTES,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    file->synced = bytes;
}

/* In steps: most kernels let nobody else have the CPU before such a call is over, be he ever so prompt. */
static size_t write_steps(const struct rdb_file *file, const char *bytes, size_t length) {
    size_t done = 0, step, written;
    do {
        step = length - done < WRITE_BYTES ? length - done : WRITE_BYTES;
        written = file_io_write_all(file->options.io, file->fd, bytes + done, step);
        done += written;
    } while (written == step && done < length);
    return done;
}

static bool write_bytes(struct rdb_file *file, const void *bytes, size_t length) {
    if (has_failed(file)) return false;
    size_t written = write_steps(file, bytes, length);
    uint64_t total = atomic_fetch_add(&file->bytes, written) + written;
    if (written < length) return fail(file, "write", errno);
    sync_ahead(file, total);
    return true;
}

static void add_chunk(struct rdb_file *file, const struct rdb_lane *lane) {
    file->keys += lane->keys;
    if (file->index_lost || !file->options.index) return;
    if (file->chunk_count == file->chunk_capacity) {
        size_t capacity = file->chunk_capacity ? 2 * file->chunk_capacity : 64;
        struct rdb_index_chunk *chunks = realloc(file->chunks, capacity * sizeof(*chunks));
        if (!chunks || capacity > RDB_INDEX_CHUNKS_MAX) {
            file->index_lost = true;
            if (chunks) file->chunks = chunks;
            return;
        }
        file->chunks = chunks;
        file->chunk_capacity = capacity;
    }
    file->chunks[file->chunk_count++] = (struct rdb_index_chunk){.offset = lane->offset,
                                                                 .length = lane->length,
                                                                 .keys = lane->keys,
                                                                 .crc = lane->crc,
                                                                 .database = lane->database};
}

/* ---- the header ---- */

/* As long whatever it says, so that it can be put in place later. */
static void put_history(struct rdb_output *header, const struct rdb_history *history) {
    char text[32];
    snprintf(text, sizeof(text), "%010d", history->database < 0 ? 0 : history->database);
    rdb_put_aux(header, "repl-stream-db", span_of_text(text));
    rdb_put_aux(header, "repl-id", span_of(history->id, sizeof(history->id) - 1));
    snprintf(text, sizeof(text), "%020llu", (unsigned long long)history->offset);
    rdb_put_aux(header, "repl-offset", span_of_text(text));
}

static void put_header(struct rdb_file *file, time_t now) {
    struct rdb_output *header = &file->header;
    const struct rdb_file_options *options = &file->options;
    char text[32];
    snprintf(text, sizeof(text), RDB_MAGIC "%04u", options->save.version);
    rdb_put_bytes(header, text, RDB_HEADER_BYTES);
    rdb_put_aux(header, "redis-ver", span_of_text(options->redis_version ? options->redis_version : "7.0.0"));
    rdb_put_aux(header, "redis-bits", SPAN_LITERAL("64"));
    rdb_put_aux(header, "ctime", span_of(text, number_format_i64(now, text)));
    rdb_put_aux(header, "used-mem", span_of(text, number_format_u64(options->used_memory, text)));
    rdb_put_aux(header, "aof-base", options->aof_base ? SPAN_LITERAL("1") : SPAN_LITERAL("0"));
    if (options->index) {
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)file->id);
        rdb_put_aux(header, RDB_AUX_INDEX, span_of_text(text));
    }
    file->history_at = header->length;
    if (options->history) put_history(header, options->history);
    for (unsigned i = 0; i < options->size_count; i++) {
        rdb_put_byte(header, RDB_OP_SELECT);
        rdb_put_length(header, options->sizes[i].database);
        rdb_put_byte(header, RDB_OP_RESIZE);
        rdb_put_length(header, options->sizes[i].keys);
        rdb_put_length(header, options->sizes[i].expires);
    }
}

void rdb_file_set_history(struct rdb_file *file, const struct rdb_history *history) {
    struct rdb_output fields;
    assert(file->options.history);
    rdb_output_init(&fields, HEADER_CAPACITY);
    put_history(&fields, history);
    assert(fields.failed || file->history_at + fields.length <= file->header.length);
    if (!fields.failed) memcpy(file->header.bytes + file->history_at, fields.bytes, fields.length);
    file->header_changed = true;
    rdb_output_free(&fields);
}

/* What was met needs a later version than the header says. The old and the new header are equally long. */
static void raise_version(struct rdb_file *file) {
    char version[RDB_HEADER_BYTES + 1];
    if (!file->field_ttl || file->options.save.version >= RDB_VERSION_FIELD_TTL) return;
    snprintf(version, sizeof(version), RDB_MAGIC "%04u", (unsigned)RDB_VERSION_FIELD_TTL);
    memcpy(file->header.bytes, version, RDB_HEADER_BYTES);
    file->header_changed = true;
}

static bool renew_header(struct rdb_file *file) {
    raise_version(file);
    if (!file->header_changed) return true;
    const struct file_io *io = file->options.io;
    int fd = io->open(io->ctx, file->temporary, O_WRONLY, 0);
    if (fd < 0) return fail(file, "open", errno);
    bool written = file_io_write_all(io, fd, file->header.bytes, file->header.length) == file->header.length;
    if (!written) fail(file, "write", errno);
    if (io->close(io->ctx, fd) != 0 && written) return fail(file, "close", errno);
    return written;
}

/* ---- life ---- */

static void destroy(struct rdb_file *file) {
    pthread_mutex_destroy(&file->mutex);
    pthread_cond_destroy(&file->turn);
    rdb_output_free(&file->header);
    free(file->chunks);
    free(file->path);
    free(file->temporary);
    free(file);
}

struct rdb_file *rdb_file_open(const struct rdb_file_options *options, struct rdb_file_error *error) {
    *error = (struct rdb_file_error){"open", ENOMEM};
    struct rdb_file *file = calloc(1, sizeof(*file));
    if (!file) return NULL;
    file->options = *options;
    if (!file->options.io) file->options.io = &file_io_system;
    if (!file->options.chunk_bytes) file->options.chunk_bytes = RDB_CHUNK_BYTES;
    if (!file->options.save.version) file->options.save.version = RDB_VERSION_DEFAULT;
    pthread_mutex_init(&file->mutex, NULL);
    pthread_cond_init(&file->turn, NULL);
    rdb_output_init(&file->header, HEADER_CAPACITY);
    file->path = strdup(options->path);
    file->temporary = strdup(options->temporary);
    if (getrandom(&file->id, sizeof(file->id), 0) != sizeof(file->id)) file->options.index = false;
    put_header(file, time(NULL));
    if (!file->path || !file->temporary || file->header.failed) {
        destroy(file);
        return NULL;
    }
    const struct file_io *io = file->options.io;
    file->fd = io->open(io->ctx, file->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file->fd < 0) {
        error->error = errno;
        destroy(file);
        return NULL;
    }
    if (!write_bytes(file, file->header.bytes, file->header.length)) {
        *error = file->error;
        rdb_file_abandon(file);
        return NULL;
    }
    *error = (struct rdb_file_error){0};
    return file;
}

void rdb_file_abandon(struct rdb_file *file) {
    const struct file_io *io = file->options.io;
    if (file->fd >= 0) io->close(io->ctx, file->fd);
    io->unlink(io->ctx, file->temporary);
    destroy(file);
}

/* The folder of a path, and where the name begins. `folder` has room for the path and two more. */
static const char *split_path(const char *path, char *folder) {
    const char *slash = strrchr(path, '/');
    if (!slash) {
        strcpy(folder, ".");
        return path;
    }
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    memcpy(folder, path, length);
    folder[length] = '\0';
    return slash + 1;
}

static bool sync_folder(struct rdb_file *file) {
    char *folder = malloc(strlen(file->path) + 2);
    if (!folder) return fail(file, "fsync", ENOMEM);
    split_path(file->path, folder);
    bool synced = file_io_sync_directory(file->options.io, folder);
    if (!synced) fail(file, "fsync of the folder", errno);
    free(folder);
    return synced;
}

/* ---- the sidecar ---- */

static bool compose_index(struct rdb_file *file, struct rdb_output *index, uint64_t file_bytes) {
    struct rdb_index_head head = {.magic = RDB_INDEX_MAGIC,
                                  .version = RDB_INDEX_VERSION,
                                  .chunk_count = (uint32_t)file->chunk_count,
                                  .id = file->id,
                                  .file_bytes = file_bytes,
                                  .body_offset = file->header.length,
                                  .body_end = file_bytes - 1 - RDB_CHECKSUM_BYTES,
                                  .head_crc = crc64(0, file->header.bytes, file->header.length),
                                  .keys = file->keys};
    rdb_put_bytes(index, &head, sizeof(head));
    rdb_put_bytes(index, file->chunks, file->chunk_count * sizeof(*file->chunks));
    if (!index->failed) rdb_put_u64(index, crc64(0, index->bytes, index->length));
    return !index->failed;
}

/* Best effort: a file without a sidecar is as good. */
static void write_index(struct rdb_file *file) {
    const struct file_io *io = file->options.io;
    size_t room = strlen(file->path) + strlen(file->temporary) + sizeof(RDB_INDEX_SUFFIX) + 2;
    char *texts = calloc(3, room);
    struct rdb_output index;
    if (!texts) return;
    char *folder = texts, *name = texts + room, *temporary = texts + 2 * room;
    snprintf(temporary, room, "%s" RDB_INDEX_SUFFIX, split_path(file->temporary, folder));
    snprintf(name, room, "%s" RDB_INDEX_SUFFIX, split_path(file->path, folder));
    rdb_output_init(&index, 0);
    bool wanted = file->options.index && !file->index_lost && file->chunk_count >= INDEX_CHUNKS_MIN;
    bool written = wanted && compose_index(file, &index, rdb_file_bytes(file)) &&
                   file_io_replace(io, folder, temporary, name, span_of(index.bytes, index.length));
    if (!written) { /* what is there belongs to the file before */
        snprintf(temporary, room, "%s" RDB_INDEX_SUFFIX, file->path);
        io->unlink(io->ctx, temporary);
    }
    rdb_output_free(&index);
    free(texts);
}

/* ---- the end ---- */

static bool write_end(struct rdb_file *file) {
    const uint8_t eof = RDB_OP_EOF;
    uint64_t body_bytes = rdb_file_bytes(file) - file->header.length;
    if (!renew_header(file)) return false;
    uint64_t crc = crc64_joined(crc64(0, file->header.bytes, file->header.length), file->body_crc, body_bytes);
    crc = file->options.checksum ? crc64(crc, &eof, 1) : 0;
    uint8_t end[1 + RDB_CHECKSUM_BYTES] = {eof};
    memcpy(end + 1, &crc, sizeof(crc));
    return write_bytes(file, end, sizeof(end));
}

static bool publish(struct rdb_file *file) {
    const struct file_io *io = file->options.io;
    if (!write_end(file)) return false;
    if (io->sync(io->ctx, file->fd) != 0) return fail(file, "fsync", errno);
    int closed = io->close(io->ctx, file->fd);
    file->fd = -1;
    if (closed != 0) return fail(file, "close", errno);
    if (io->rename(io->ctx, file->temporary, file->path) != 0) return fail(file, "rename", errno);
    return true;
}

bool rdb_file_finish(struct rdb_file *file, struct rdb_file_error *error) {
    bool published = !has_failed(file) && publish(file);
    bool synced = published && sync_folder(file);
    *error = file->error;
    if (!published) {
        rdb_file_abandon(file);
        return false;
    }
    write_index(file);
    destroy(file);
    return synced;
}

/* ---- lanes ---- */

void rdb_lane_init(struct rdb_lane *lane, struct rdb_file *file) {
    *lane = (struct rdb_lane){.file = file};
    rdb_output_init(&lane->output, file->options.chunk_bytes + file->options.chunk_bytes / 4);
}

/* Writes these bytes of the lane's chunk; `last`: they are its last. */
static bool write_part(struct rdb_lane *lane, const void *bytes, size_t length, bool last) {
    struct rdb_file *file = lane->file;
    uint64_t crc = crc64(lane->open ? lane->crc : 0, bytes, length);
    if (!lane->open) {
        if (!take_turn(file)) return false;
        lane->open = true;
        lane->offset = rdb_file_bytes(file);
        lane->length = 0;
    }
    bool written = write_bytes(file, bytes, length);
    lane->crc = crc;
    lane->length += length;
    if (written && !last) return true;
    if (written) {
        file->body_crc = crc64_joined(file->body_crc, lane->crc, lane->length);
        file->field_ttl |= lane->output.field_ttl;
        add_chunk(file, lane);
    }
    lane->open = false;
    lane->keys = 0;
    give_turn(file);
    return written;
}

static bool write_buffer(struct rdb_lane *lane, bool last) {
    if (lane->output.failed) fail(lane->file, "compose", ENOMEM);
    bool written = write_part(lane, lane->output.bytes, lane->output.length, last);
    rdb_output_clear(&lane->output);
    return written;
}

static bool drain(void *ctx, const void *bytes, size_t length) {
    return write_part(ctx, bytes, length, false);
}

/* Makes sure that a record of this database can follow. */
static bool begin_record(struct rdb_lane *lane, uint32_t database) {
    assert(!lane->open);
    if (has_failed(lane->file)) return false;
    bool full = lane->output.length >= lane->file->options.chunk_bytes;
    if (lane->output.length && (full || lane->database != database) && !write_buffer(lane, true)) return false;
    if (!lane->output.length) {
        rdb_put_byte(&lane->output, RDB_OP_SELECT);
        rdb_put_length(&lane->output, database);
        lane->database = database;
    }
    lane->keys++;
    return true;
}

/* The record is complete: what was written of it has to be followed by the rest, and a full buffer may go. */
static bool end_record(struct rdb_lane *lane) {
    if (!lane->open && !lane->output.failed && lane->output.length < lane->file->options.chunk_bytes) return true;
    return write_buffer(lane, true);
}

bool rdb_lane_record(struct rdb_lane *lane, uint32_t database, const struct record *record) {
    const struct rdb_file_options *options = &lane->file->options;
    if (!begin_record(lane, database)) return false;
    if (record_size(record) > options->chunk_bytes / DIRECT_FACTOR) {
        lane->output.drain = drain;
        lane->output.ctx = lane;
    }
    rdb_save_record(&lane->output, &options->save, record);
    lane->output.drain = NULL;
    return end_record(lane);
}

bool rdb_lane_collection_begin(struct rdb_lane *lane, struct rdb_collection_save *save, uint32_t database,
                               struct collection *root, struct span key, int64_t expiry_ms, uint32_t access) {
    const struct rdb_save_options *options = &lane->file->options.save;
    rdb_collection_begin(save, options, root);
    if (!begin_record(lane, database)) return false;
    rdb_save_collection_head(&lane->output, options, root, key, expiry_ms, access);
    return true;
}

bool rdb_lane_collection_settle(struct rdb_lane *lane) {
    if (has_failed(lane->file)) return false;
    if (lane->output.length < lane->file->options.chunk_bytes) return true;
    return write_buffer(lane, false);
}

bool rdb_lane_collection_end(struct rdb_lane *lane, struct rdb_collection_save *save) {
    bool complete = save->status == RDB_SAVE_DONE;
    rdb_collection_end(save);
    if (!complete) fail(lane->file, "compose", lane->output.failed ? ENOMEM : EIO);
    return end_record(lane) && complete;
}

bool rdb_lane_end(struct rdb_lane *lane) {
    bool written = lane->output.length || lane->open ? write_buffer(lane, true) : !has_failed(lane->file);
    rdb_output_free(&lane->output);
    return written;
}
