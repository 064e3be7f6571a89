/* The state of the writer, what it lets others know of it, and syncing. See aof_writer_private.h.
 *
 * Two threads sync: the writer itself, and for everysec a second one, which is given one job at a time. Before the
 * writer syncs by itself, or leaves a file, it waits for that one, so that nothing counts as durable before what stood
 * in front of it.
 *
 * `durable` is published only while what lies before it is known to be on the disk: not before the first rewrite has
 * ended (`protects`), and not between a loss and its mending. */

#include "base/clock.h"
#include "base/thread_place.h"
#include "persist/aof_writer_private.h"

#include <errno.h>

/* ---- state ---- */

void aof_writer_tell(const struct aof_writer *writer) {
    if (writer->options.advanced) writer->options.advanced(writer->options.ctx);
}

void aof_writer_set_gate(struct aof_writer *writer) {
    struct commit_gate *gate = writer->options.gate;
    int state = COMMIT_GATE_OPEN;
    if (atomic_load(&writer->protects) && atomic_load(&writer->policy) == AOF_SYNC_ALWAYS)
        state = writer->failing ? COMMIT_GATE_BROKEN : COMMIT_GATE_HOLDS;
    if (state == COMMIT_GATE_BROKEN && atomic_load(&gate->state) != COMMIT_GATE_BROKEN)
        atomic_fetch_add(&gate->breaks, 1);
    atomic_store(&gate->state, state);
}

/* With the lock held. */
bool aof_writer_publish(struct aof_writer *writer) {
    struct commit_gate *gate = writer->options.gate;
    if (writer->lost || !atomic_load(&writer->protects) || writer->synced <= atomic_load(&gate->durable)) return false;
    atomic_store(&gate->durable, writer->synced);
    return true;
}

/* The refusal of writes has to stand before the gate lets later turns reply. */
void aof_writer_fail(struct aof_writer *writer, int error, bool lost) {
    pthread_mutex_lock(&writer->lock);
    bool worse = !writer->failing || (lost && !writer->lost);
    if (!writer->failing) atomic_fetch_add(&writer->failures, 1);
    writer->failing = true;
    if (!writer->error) writer->error = error;
    if (lost) {
        writer->lost = true;
        writer->lost_generation = writer->generation;
    }
    pthread_mutex_unlock(&writer->lock);
    if (worse && writer->options.failed) writer->options.failed(writer->options.ctx, error);
    pthread_mutex_lock(&writer->lock);
    aof_writer_set_gate(writer);
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    aof_writer_tell(writer);
}

void aof_writer_recover(struct aof_writer *writer) {
    pthread_mutex_lock(&writer->lock);
    writer->failing = writer->lost = false;
    writer->error = 0;
    aof_writer_publish(writer);
    aof_writer_set_gate(writer);
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    if (writer->options.resumed) writer->options.resumed(writer->options.ctx);
    aof_writer_tell(writer);
}

bool aof_writer_is_dropping(const struct aof_writer *writer) {
    return writer->lost && writer->lost_generation == writer->generation;
}

struct timespec aof_writer_in_ns(int64_t ns) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    int64_t total = at.tv_nsec + ns;
    at.tv_sec += (time_t)(total / AOF_WRITER_SECOND_NS);
    at.tv_nsec = (long)(total % AOF_WRITER_SECOND_NS);
    return at;
}

/* Sleeps so long, unless the owner wants something. True: it does. */
bool aof_writer_nap(struct aof_writer *writer, int64_t ns) {
    struct timespec due = aof_writer_in_ns(ns);
    pthread_mutex_lock(&writer->lock);
    bool wanted = writer->stopping || writer->has_next || writer->mend_wanted;
    if (!wanted && ns > 0) pthread_cond_timedwait(&writer->changed, &writer->lock, &due);
    pthread_mutex_unlock(&writer->lock);
    return wanted;
}

/* ---- syncing ---- */

static bool sync_file(struct aof_writer *writer, int fd) {
    const struct file_io *io = writer->options.io;
    int result;
    do result = io->sync(io->ctx, fd);
    while (result != 0 && errno == EINTR);
    atomic_fetch_add(&writer->syncs, 1);
    return result == 0;
}

static struct sync_job job_now(const struct aof_writer *writer) {
    return (struct sync_job){writer->file.fd, writer->written, writer->file.bytes, writer->generation};
}

static void count_synced(struct aof_writer *writer, const struct sync_job *job) {
    pthread_mutex_lock(&writer->lock);
    if (job->generation == writer->generation) atomic_store(&writer->synced_bytes, job->bytes);
    if (!writer->lost && job->position > writer->synced) writer->synced = job->position;
    bool advanced = aof_writer_publish(writer);
    pthread_mutex_unlock(&writer->lock);
    if (advanced) aof_writer_tell(writer);
}

void *aof_writer_sync_jobs(void *argument) {
    struct aof_writer *writer = argument;
    thread_place_roam();
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        while (!writer->has_job && !writer->writer_ended) pthread_cond_wait(&writer->changed, &writer->lock);
        if (!writer->has_job) break;
        struct sync_job job = writer->job;
        pthread_mutex_unlock(&writer->lock);
        bool synced = sync_file(writer, job.fd);
        int error = errno;
        if (synced)
            count_synced(writer, &job);
        else
            aof_writer_fail(writer, error, true);
        pthread_mutex_lock(&writer->lock);
        atomic_store(&writer->job_since_ns, 0);
        writer->has_job = false;
        pthread_cond_broadcast(&writer->changed);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

/* Precondition: none is being done. */
static void give_job(struct aof_writer *writer) {
    pthread_mutex_lock(&writer->lock);
    writer->job = job_now(writer);
    writer->has_job = true;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
}

void aof_writer_wait_for_job(struct aof_writer *writer) {
    pthread_mutex_lock(&writer->lock);
    while (writer->has_job) pthread_cond_wait(&writer->changed, &writer->lock);
    pthread_mutex_unlock(&writer->lock);
}

/* On the spot; false: it failed. */
bool aof_writer_sync_now(struct aof_writer *writer) {
    struct sync_job job = job_now(writer);
    aof_writer_wait_for_job(writer);
    int64_t start = clock_monotonic_ns();
    if (!sync_file(writer, job.fd)) {
        aof_writer_fail(writer, errno, true);
        return false;
    }
    writer->sync_end_ns = clock_monotonic_ns();
    writer->sync_ns += (writer->sync_end_ns - start - writer->sync_ns) / 8;
    writer->unsynced_since_ns = 0;
    writer->unsynced = false;
    count_synced(writer, &job);
    return true;
}

void aof_writer_set_late(struct aof_writer *writer, bool late) {
    if (atomic_exchange(&writer->late, late) != late) journal_set_late(writer->options.journal, late);
}

/* everysec: is a sync due, is one late? */
void aof_writer_sync_every_second(struct aof_writer *writer) {
    int64_t now = clock_monotonic_ns(), late_ns = (int64_t)writer->options.late_ns;
    int64_t in_job = atomic_load(&writer->job_since_ns);
    bool applies = atomic_load(&writer->policy) == AOF_SYNC_EVERY_SECOND && !atomic_load(&writer->deferred) &&
                   !aof_writer_is_dropping(writer);
    if (applies && writer->unsynced_since_ns && now >= writer->sync_due_ns) {
        if (!in_job) {
            atomic_store(&writer->job_since_ns, writer->unsynced_since_ns);
            writer->unsynced_since_ns = 0;
            writer->sync_due_ns = now + AOF_WRITER_SECOND_NS;
            writer->delay_counted = false;
            give_job(writer);
            in_job = atomic_load(&writer->job_since_ns);
        } else if (!writer->delay_counted) {
            writer->delay_counted = true;
            atomic_fetch_add(&writer->delayed_syncs, 1);
        }
    }
    int64_t oldest = in_job ? in_job : writer->unsynced_since_ns;
    aof_writer_set_late(writer, applies && oldest && now - oldest > late_ns);
}
