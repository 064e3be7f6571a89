/* Batches. See aof_writer_private.h.
 *
 * A batch is what the journal has when the writer looks, from an opening to a closing (aof_layout.h). An effect that is
 * larger than the ring comes in pieces: its batch stays open until the effect is whole. Bytes leave the journal as they
 * are written; if a later piece fails, the file is cut to what has left, and the writer goes on from there. */

#include "base/clock.h"
#include "persist/aof_writer_private.h"

#include <errno.h>
#include <stdio.h>

enum {
    PIECE_BYTES = 1 << 20, /* after which the ring gets its room back */
    TIME_LINE_MAX = 40,    /* "#TS:" and a number */
};

/* ---- writing ---- */

/* Writes all of it or nothing: the file ends where it did, as far as that can be had. */
bool aof_writer_write_piece(struct aof_writer *writer, const void *bytes, size_t length) {
    const struct file_io *io = writer->options.io;
    if (file_io_write_all(io, writer->file.fd, bytes, length) == length) {
        writer->file.bytes += length;
        return true;
    }
    int error = errno;
    bool cut = io->truncate(io->ctx, writer->file.fd, (int64_t)writer->file.bytes) == 0;
    aof_writer_fail(writer, error, !cut || writer->lost);
    return false;
}

/* The line that says when, once a second. It belongs to the batch. */
static size_t time_line(struct aof_writer *writer, char *line) {
    int64_t now_s = clock_unix_ms() / 1000;
    if (!atomic_load(&writer->timestamps) || now_s == writer->stamped_s) return 0;
    writer->stamped_s = now_s;
    return (size_t)snprintf(line, TIME_LINE_MAX, "#TS:%lld\r\n", (long long)now_s);
}

static size_t history_line(struct aof_writer *writer, char *line) {
    if (!atomic_load(&writer->history_due)) return 0;
    pthread_mutex_lock(&writer->lock);
    size_t length = aof_history_compose(writer->history, atomic_load(&writer->written), line);
    atomic_store(&writer->history_due, false);
    pthread_mutex_unlock(&writer->lock);
    return length;
}

static size_t open_batch(struct aof_writer *writer, char *lines) {
    if (writer->batch_open) return 0;
    size_t length = aof_check_open(&writer->file.check, lines), opening = length;
    length += history_line(writer, lines + length);
    length += time_line(writer, lines + length);
    aof_check_feed(&writer->file.check, lines + opening, length - opening);
    return length;
}

/* The stretch has come to the file, where it begins at `offset`. */
static void note(const struct aof_writer *writer, size_t length, uint64_t offset, bool begins) {
    uint64_t from = atomic_load(&writer->written);
    struct aof_piece piece = {from, from + length, offset, writer->file.bytes, begins};
    if (writer->options.backlog) aof_backlog_note(writer->options.backlog, &piece);
}

/* One stretch of the ring with what belongs before and behind it. False: nothing of it was written. */
static bool write_stretch(struct aof_writer *writer, struct span stretch, bool closes) {
    struct aof_check before = writer->file.check;
    bool begins = !writer->batch_open, tells = atomic_load(&writer->history_due);
    char lines[AOF_CHECK_LINE_MAX];
    uint64_t bytes_before = writer->file.bytes;
    size_t head = open_batch(writer, writer->buffer), tail;
    aof_check_feed(&writer->file.check, stretch.data, stretch.length);
    /* Where nothing is ever synced, whatever is damaged before the end is no tear. */
    uint64_t synced = atomic_load(&writer->policy) == AOF_SYNC_NO ? 0 : atomic_load(&writer->synced_bytes);
    tail = closes ? aof_check_close(&writer->file.check, synced, lines) : 0;
    bool done;
    if (head + stretch.length + tail <= AOF_WRITER_BUFFER_BYTES) {
        memcpy(writer->buffer + head, stretch.data, stretch.length);
        memcpy(writer->buffer + head + stretch.length, lines, tail);
        done = aof_writer_write_piece(writer, writer->buffer, head + stretch.length + tail);
    } else {
        done = aof_writer_write_piece(writer, writer->buffer, head) &&
               aof_writer_write_piece(writer, stretch.data, stretch.length) &&
               aof_writer_write_piece(writer, lines, tail);
    }
    if (!done) {
        const struct file_io *io = writer->options.io;
        writer->file.check = before;
        if (writer->file.bytes != bytes_before && io->truncate(io->ctx, writer->file.fd, (int64_t)bytes_before) != 0)
            aof_writer_fail(writer, errno, true);
        writer->file.bytes = bytes_before;
        if (tells) atomic_store(&writer->history_due, true);
        return false;
    }
    note(writer, stretch.length, bytes_before, begins);
    writer->batch_open = !closes;
    if (closes) {
        writer->whole_bytes = writer->file.bytes;
        writer->whole_check = writer->file.check;
        writer->whole_position = atomic_load(&writer->written) + stretch.length;
    }
    return true;
}

bool aof_writer_owes_history(const struct aof_writer *writer) {
    bool due = atomic_load((atomic_bool *)(uintptr_t)&writer->history_due);
    return due && !writer->history_waits && !writer->failing && !writer->batch_open;
}

void aof_writer_begin_file(struct aof_writer *writer) {
    if (writer->options.backlog) aof_backlog_begin_file(writer->options.backlog, writer->file.fd);
    if (!writer->history[0]) return;
    atomic_store(&writer->history_due, true);
    writer->history_waits = false;
    if (!writer->failing) aof_writer_tell_history(writer);
}

/* Nothing is lost if it fails, so that is no failure: it is a piece of its own, which is taken back. */
void aof_writer_tell_history(struct aof_writer *writer) {
    const struct file_io *io = writer->options.io;
    struct aof_check before = writer->file.check;
    char lines[2 * AOF_CHECK_LINE_MAX + AOF_HISTORY_LINE_MAX + TIME_LINE_MAX];
    uint64_t offset = writer->file.bytes;
    if (writer->batch_open) return; /* with the next one */
    writer->history_waits = false;
    size_t length = open_batch(writer, lines);
    uint64_t synced = atomic_load(&writer->policy) == AOF_SYNC_NO ? 0 : atomic_load(&writer->synced_bytes);
    length += aof_check_close(&writer->file.check, synced, lines + length);
    if (file_io_write_all(io, writer->file.fd, lines, length) != length) {
        int error = errno;
        writer->file.check = before;
        writer->stamped_s = 0;
        writer->history_waits = true;
        atomic_store(&writer->history_due, true);
        if (io->truncate(io->ctx, writer->file.fd, (int64_t)offset) != 0) aof_writer_fail(writer, error, true);
        return;
    }
    writer->file.bytes += length;
    writer->whole_bytes = writer->file.bytes;
    writer->whole_check = writer->file.check;
    writer->unsynced = true;
    if (!writer->unsynced_since_ns) writer->unsynced_since_ns = clock_monotonic_ns();
    atomic_store(&writer->file_bytes, writer->file.bytes);
    note(writer, 0, offset, true);
}

/* Writes so many bytes of what the journal shows. False: it failed; what was written has left the journal. */
bool aof_writer_write_batch(struct aof_writer *writer, const struct span spans[2], unsigned count, size_t bytes,
                            bool boundary) {
    uint32_t delay_us = atomic_load_explicit(&writer->delay_us, memory_order_relaxed);
    if (__builtin_expect(delay_us, 0))
        nanosleep(&(struct timespec){.tv_sec = delay_us / 1000000, .tv_nsec = delay_us % 1000000 * 1000L}, NULL);
    writer->unsynced = true;
    if (!writer->unsynced_since_ns) writer->unsynced_since_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < count && bytes > 0; i++) {
        size_t at = 0, of_span = spans[i].length < bytes ? spans[i].length : bytes;
        while (at < of_span) {
            size_t piece = of_span - at < PIECE_BYTES ? of_span - at : PIECE_BYTES;
            if (!write_stretch(writer, span_of(spans[i].data + at, piece), boundary && piece == bytes)) return false;
            at += piece;
            bytes -= piece;
            journal_advance(writer->reader, piece);
            atomic_fetch_add(&writer->written, piece);
        }
    }
    atomic_store(&writer->file_bytes, writer->file.bytes);
    atomic_fetch_add(&writer->batches, 1);
    return true;
}

/* Nothing that follows can be brought here: what is left is to end the file where it was last whole. */
void aof_writer_leave_whole(struct aof_writer *writer) {
    const struct file_io *io = writer->options.io;
    if (writer->file.bytes == writer->whole_bytes) return;
    if (io->truncate(io->ctx, writer->file.fd, (int64_t)writer->whole_bytes) != 0) return;
    writer->file.bytes = writer->whole_bytes;
    writer->file.check = writer->whole_check;
    writer->batch_open = false;
    if (writer->options.backlog) aof_backlog_cut(writer->options.backlog, writer->whole_position, writer->whole_bytes);
}
