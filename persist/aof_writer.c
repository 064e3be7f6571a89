/* The writer's loop, and what its owner calls. What the writer promises stands in aof_writer.h, its parts in
 * aof_writer_private.h.
 *
 * How long the writer sleeps. Idle: until somebody nudges it. Under everysec and no, for a few milliseconds after each
 * batch: a batch of two thousand commands costs as little as one of two. Under always, until the group is complete. */

#include "base/clock.h"
#include "base/thread_place.h"
#include "persist/aof_writer_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define NAP_NS        (3 * AOF_WRITER_SECOND_NS / 1000) /* between batches, unless they are waited for */
#define IDLE_NS       AOF_WRITER_SECOND_NS              /* without anything to do */
#define LOOK_NS       (AOF_WRITER_SECOND_NS / 10)       /* while something is unsynced: is it late? */
#define GATHER_NS_MAX (AOF_WRITER_SECOND_NS / 200)      /* that a group is waited for, at the longest */

enum { GATHER_MISSES_MAX = 6, GATHER_REST = 8 }; /* groups by which it doubles, and begins */

/* ---- files ---- */

static void change_files(struct aof_writer *writer) {
    const struct file_io *io = writer->options.io;
    pthread_mutex_lock(&writer->lock);
    bool (*name)(void *ctx) = writer->next_name;
    void *ctx = writer->next_ctx;
    pthread_mutex_unlock(&writer->lock);
    aof_writer_wait_for_job(writer);
    bool complete = !writer->failing && (!writer->unsynced || aof_writer_sync_now(writer));
    assert(!writer->batch_open || !complete);
    if (complete && name && !name(ctx)) aof_writer_fail(writer, errno, true);
    io->close(io->ctx, writer->file.fd);
    pthread_mutex_lock(&writer->lock);
    writer->file = writer->next;
    writer->has_next = false;
    writer->generation++;
    atomic_store(&writer->synced_bytes, writer->file.bytes);
    atomic_store(&writer->file_bytes, writer->file.bytes);
    atomic_store(&writer->switching, false);
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    writer->whole_bytes = writer->file.bytes;
    writer->whole_check = writer->file.check;
    writer->whole_position = atomic_load(&writer->written);
    writer->batch_open = writer->unsynced = false;
    writer->unsynced_since_ns = 0;
    writer->stamped_s = 0;
    aof_writer_begin_file(writer);
}

/* The last closing of a file says that all of it was synced. */
static bool end_file(struct aof_writer *writer) {
    const struct file_io *io = writer->options.io;
    bool ended = !writer->failing && aof_writer_sync_now(writer);
    if (ended && !writer->batch_open && writer->file.check.sequence) {
        char line[AOF_CHECK_LINE_MAX];
        size_t length = aof_check_close(&writer->file.check, writer->file.bytes, line);
        ended = aof_writer_write_piece(writer, line, length) && aof_writer_sync_now(writer);
    }
    io->close(io->ctx, writer->file.fd);
    return ended;
}

/* ---- the writer's loop ---- */

static void note_gathered(struct aof_writer *writer, bool complete) {
    if (complete) {
        writer->gather_misses = 0;
        return;
    }
    atomic_fetch_add(&writer->vain_waits, 1);
    if (writer->gather_misses < GATHER_MISSES_MAX) writer->gather_misses++;
    writer->gather_rest = GATHER_REST << writer->gather_misses;
}

/* Under always: sleeps until the group is as large as the clients that were waiting around the last sync, or it has
 * taken too long for that. Where clients need longer to come back than a sync takes, that is always so, and two groups
 * in turn are better than one: then it is left for a while, longer each time. */
static void gather(struct aof_writer *writer) {
    struct commit_gate *gate = writer->options.gate;
    int64_t most = writer->sync_ns < GATHER_NS_MAX ? writer->sync_ns : GATHER_NS_MAX;
    int64_t left = writer->sync_end_ns + most - clock_monotonic_ns();
    uint64_t until = writer->group_base + writer->group_target;
    if (left <= 0 || writer->group_target <= 1 || atomic_load(&gate->holds) >= until) return;
    if (writer->gather_rest > 0) {
        writer->gather_rest--;
        return;
    }
    struct timespec due = aof_writer_in_ns(left);
    pthread_mutex_lock(&writer->lock);
    atomic_store(&writer->gather_until, until);
    while (atomic_load(&gate->holds) < until && !writer->stopping)
        if (pthread_cond_timedwait(&writer->changed, &writer->lock, &due) != 0) break;
    atomic_store(&writer->gather_until, 0);
    pthread_mutex_unlock(&writer->lock);
    note_gathered(writer, atomic_load(&gate->holds) >= until);
}

static void sync_group(struct aof_writer *writer, uint64_t holds_before) {
    struct commit_gate *gate = writer->options.gate;
    (void)aof_writer_sync_now(writer);
    writer->group_target = atomic_load(&gate->holds) - writer->group_base;
    writer->group_base = holds_before;
}

static void idle(struct aof_writer *writer) {
    bool always = atomic_load(&writer->policy) == AOF_SYNC_ALWAYS;
    bool watches = !always && (writer->unsynced_since_ns || atomic_load(&writer->job_since_ns));
    if (!aof_writer_nap(writer, 0)) (void)journal_wait(writer->reader, (uint64_t)(watches ? LOOK_NS : IDLE_NS));
    if (clock_monotonic_ns() - writer->sync_end_ns > 2 * GATHER_NS_MAX) writer->group_target = 0;
}

/* A write has failed, but may be tried again, as long as what waits in the ring leaves room there. */
static void wait_for_retry(struct aof_writer *writer) {
    int64_t until = clock_monotonic_ns() + (int64_t)writer->options.retry_ns, left;
    bool gives_up = false;
    while (!gives_up && (left = until - clock_monotonic_ns()) > 0)
        gives_up =
            aof_writer_nap(writer, left < LOOK_NS ? left : LOOK_NS) || journal_is_crowded(writer->options.journal);
    if (gives_up) aof_writer_fail(writer, writer->error, true);
}

static void mend(struct aof_writer *writer) {
    bool mended = !aof_writer_is_dropping(writer) && aof_writer_sync_now(writer);
    pthread_mutex_lock(&writer->lock);
    if (mended) writer->synced = atomic_load(&writer->written);
    pthread_mutex_unlock(&writer->lock);
    if (mended && writer->failing) aof_writer_recover(writer);
    pthread_mutex_lock(&writer->lock);
    writer->mend_wanted = false;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
}

/* Where the next file begins. To be asked after journal_peek(): what was seen there before a switch was asked for had
 * been appended before its cut. */
static uint64_t switch_position(struct aof_writer *writer) {
    pthread_mutex_lock(&writer->lock);
    uint64_t position = writer->has_next ? writer->next_position : UINT64_MAX;
    pthread_mutex_unlock(&writer->lock);
    return position;
}

static void write_what_is_there(struct aof_writer *writer) {
    struct span spans[2];
    bool boundary, always = atomic_load(&writer->policy) == AOF_SYNC_ALWAYS;
    if (always && !writer->failing) gather(writer);
    uint64_t holds = atomic_load(&writer->options.gate->holds), position = journal_reader_position(writer->reader);
    unsigned count = journal_peek(writer->reader, spans, &boundary);
    uint64_t limit = switch_position(writer);
    size_t bytes = spans[0].length + (count > 1 ? spans[1].length : 0);
    assert(position <= limit);
    if (bytes > limit - position) {
        bytes = (size_t)(limit - position);
        boundary = true;
    }
    if (bytes == 0) return;
    if (aof_writer_is_dropping(writer)) {
        aof_writer_leave_whole(writer);
        journal_advance(writer->reader, bytes);
        atomic_fetch_add(&writer->written, bytes);
        return;
    }
    bool was_failing = writer->failing && !writer->lost;
    if (!aof_writer_write_batch(writer, spans, count, bytes, boundary)) {
        if (!writer->lost) wait_for_retry(writer);
        return;
    }
    if (always || was_failing) sync_group(writer, holds);
    if (was_failing && !writer->lost) aof_writer_recover(writer);
    if (!always) (void)aof_writer_nap(writer, NAP_NS);
}

/* What another policy wrote is waited for since it is always. */
static bool is_owed_a_sync(const struct aof_writer *writer) {
    return writer->unsynced && atomic_load(&writer->policy) == AOF_SYNC_ALWAYS && !writer->failing;
}

static void *write_journal(void *argument) {
    struct aof_writer *writer = argument;
    thread_place_roam();
    aof_writer_begin_file(writer);
    for (;;) {
        pthread_mutex_lock(&writer->lock);
        uint64_t limit = writer->has_next ? writer->next_position : UINT64_MAX;
        bool stops = writer->stopping, mends = writer->mend_wanted && !writer->has_next;
        pthread_mutex_unlock(&writer->lock);
        struct span spans[2];
        uint64_t position = journal_reader_position(writer->reader);
        assert(position <= limit);
        if (position == limit)
            change_files(writer);
        else if (mends)
            mend(writer);
        else if (journal_peek(writer->reader, spans, NULL))
            write_what_is_there(writer);
        else if (stops)
            break;
        else if (aof_writer_owes_history(writer))
            aof_writer_tell_history(writer);
        else if (is_owed_a_sync(writer))
            (void)aof_writer_sync_now(writer);
        else
            idle(writer);
        aof_writer_sync_every_second(writer);
    }
    return NULL;
}

/* ---- the owner ---- */

static bool start_threads(struct aof_writer *writer) {
    int error = pthread_create(&writer->sync_thread, NULL, aof_writer_sync_jobs, writer);
    if (error == 0) {
        error = pthread_create(&writer->write_thread, NULL, write_journal, writer);
        if (error != 0) {
            pthread_mutex_lock(&writer->lock);
            writer->writer_ended = true;
            pthread_cond_broadcast(&writer->changed);
            pthread_mutex_unlock(&writer->lock);
            pthread_join(writer->sync_thread, NULL);
        }
    }
    errno = error;
    return error == 0;
}

static void free_writer(struct aof_writer *writer) {
    journal_detach(writer->reader);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->lock);
    free(writer->buffer);
    free(writer);
}

static void init_waiting(struct aof_writer *writer) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&writer->lock, NULL);
}

struct aof_writer *aof_writer_create(const struct aof_writer_options *options) {
    struct aof_writer *writer = aligned_alloc(64, (sizeof(*writer) + 63) / 64 * 64);
    if (!writer) return NULL;
    memset(writer, 0, sizeof(*writer));
    writer->options = *options;
    if (!options->io) writer->options.io = &file_io_system;
    if (!options->retry_ns) writer->options.retry_ns = AOF_WRITER_SECOND_NS;
    if (!options->late_ns) writer->options.late_ns = 2 * AOF_WRITER_SECOND_NS;
    writer->file = options->file;
    writer->whole_bytes = options->file.bytes;
    writer->whole_check = options->file.check;
    writer->whole_position = options->from;
    writer->synced = options->from;
    if (options->history) snprintf(writer->history, sizeof(writer->history), "%s", options->history);
    atomic_init(&writer->written, options->from);
    atomic_init(&writer->file_bytes, options->file.bytes);
    atomic_init(&writer->synced_bytes, options->file.bytes);
    atomic_init(&writer->policy, options->policy);
    atomic_init(&writer->timestamps, options->timestamps);
    atomic_init(&writer->protects, options->protects);
    init_waiting(writer);
    writer->buffer = malloc(AOF_WRITER_BUFFER_BYTES);
    writer->reader = writer->buffer ? journal_attach(options->journal, options->from, true) : NULL;
    if (!writer->reader || !start_threads(writer)) {
        int error = writer->reader ? errno : ENOMEM;
        free_writer(writer);
        errno = error;
        return NULL;
    }
    pthread_mutex_lock(&writer->lock);
    aof_writer_publish(writer);
    aof_writer_set_gate(writer);
    pthread_mutex_unlock(&writer->lock);
    return writer;
}

static void wake(struct aof_writer *writer) {
    pthread_cond_broadcast(&writer->changed);
    journal_wake(writer->reader);
}

bool aof_writer_destroy(struct aof_writer *writer) {
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    wake(writer);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->write_thread, NULL);
    bool complete = end_file(writer);
    pthread_mutex_lock(&writer->lock);
    writer->writer_ended = true;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->sync_thread, NULL);
    atomic_store(&writer->options.gate->state, COMMIT_GATE_OPEN);
    aof_writer_set_late(writer, false);
    if (writer->has_next) writer->options.io->close(writer->options.io->ctx, writer->next.fd);
    free_writer(writer);
    return complete;
}

void aof_writer_switch(struct aof_writer *writer, uint64_t position, const struct aof_writer_file *file,
                       bool (*name)(void *ctx), void *ctx) {
    pthread_mutex_lock(&writer->lock);
    assert(!writer->has_next);
    writer->next = *file;
    writer->next_name = name;
    writer->next_ctx = ctx;
    writer->next_position = position;
    writer->has_next = true;
    atomic_store(&writer->switching, true);
    wake(writer);
    pthread_mutex_unlock(&writer->lock);
}

bool aof_writer_switching(const struct aof_writer *writer) {
    return atomic_load((atomic_bool *)(uintptr_t)&writer->switching);
}

void aof_writer_await_switch(struct aof_writer *writer) {
    pthread_mutex_lock(&writer->lock);
    while (writer->has_next) pthread_cond_wait(&writer->changed, &writer->lock);
    pthread_mutex_unlock(&writer->lock);
}

void aof_writer_set_history(struct aof_writer *writer, const char *id) {
    pthread_mutex_lock(&writer->lock);
    snprintf(writer->history, sizeof(writer->history), "%s", id);
    atomic_store(&writer->history_due, true);
    wake(writer);
    pthread_mutex_unlock(&writer->lock);
}

void aof_writer_delay(struct aof_writer *writer, uint32_t delay_us) {
    atomic_store(&writer->delay_us, delay_us);
}

void aof_writer_set_policy(struct aof_writer *writer, enum aof_sync policy, bool timestamps) {
    pthread_mutex_lock(&writer->lock);
    atomic_store(&writer->policy, policy);
    atomic_store(&writer->timestamps, timestamps);
    aof_writer_set_gate(writer);
    wake(writer);
    pthread_mutex_unlock(&writer->lock);
    aof_writer_tell(writer);
}

void aof_writer_defer_syncs(struct aof_writer *writer, bool deferred) {
    atomic_store(&writer->deferred, deferred);
}

void aof_writer_protect(struct aof_writer *writer) {
    pthread_mutex_lock(&writer->lock);
    atomic_store(&writer->protects, true);
    aof_writer_publish(writer);
    aof_writer_set_gate(writer);
    pthread_mutex_unlock(&writer->lock);
    aof_writer_tell(writer);
}

bool aof_writer_mend(struct aof_writer *writer) {
    pthread_mutex_lock(&writer->lock);
    writer->mend_wanted = true;
    wake(writer);
    while (writer->mend_wanted) pthread_cond_wait(&writer->changed, &writer->lock);
    bool mended = !writer->failing;
    pthread_mutex_unlock(&writer->lock);
    return mended;
}

void aof_writer_nudge(struct aof_writer *writer) {
    uint64_t until = atomic_load(&writer->gather_until);
    if (until == 0) {
        journal_wake(writer->reader);
    } else if (atomic_load(&writer->options.gate->holds) >= until) {
        pthread_mutex_lock(&writer->lock);
        pthread_cond_broadcast(&writer->changed);
        pthread_mutex_unlock(&writer->lock);
    }
}

bool aof_writer_is_late(const struct aof_writer *writer) {
    return atomic_load_explicit((atomic_bool *)(uintptr_t)&writer->late, memory_order_relaxed);
}

struct aof_writer_figures aof_writer_figures(const struct aof_writer *of) {
    struct aof_writer *writer = (struct aof_writer *)(uintptr_t)of; /* the lock is no part of what is looked at */
    pthread_mutex_lock(&writer->lock);
    struct aof_writer_figures figures = {.written = atomic_load(&writer->written),
                                         .durable = atomic_load(&writer->options.gate->durable),
                                         .file_bytes = atomic_load(&writer->file_bytes),
                                         .delayed_syncs = atomic_load(&writer->delayed_syncs),
                                         .syncs = atomic_load(&writer->syncs),
                                         .batches = atomic_load(&writer->batches),
                                         .vain_waits = atomic_load(&writer->vain_waits),
                                         .failures = atomic_load(&writer->failures),
                                         .sync_pending = writer->has_job,
                                         .failing = writer->failing,
                                         .lost = writer->lost,
                                         .error = writer->error};
    pthread_mutex_unlock(&writer->lock);
    return figures;
}
