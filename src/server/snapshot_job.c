/* See snapshot_job.h.
 *
 * The job is taken by whoever turns `purpose` from NONE; from then until `ended` it belongs to worker 0, but for the
 * walkers' call of on_complete(). Worker 0 hears of both by mail, or, when it waits for the job itself, by the
 * condition it waits for. */

#include "server/snapshot_job.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread_place.h"
#include "server/server.h"

#include <sched.h>
#include <time.h>

enum { WAIT_NS = 1000000, LANES_MIN = 2 /* one for what takes long */, LANES_DEFAULT_MAX = 4, LANES_WITH_TIER = 8 };

void snapshot_job_init(struct server *server) {
    pthread_mutex_init(&server->snapshot_job.lock, NULL);
    pthread_cond_init(&server->snapshot_job.changed, NULL);
}

void snapshot_job_free(struct server *server) {
    pthread_mutex_destroy(&server->snapshot_job.lock);
    pthread_cond_destroy(&server->snapshot_job.changed);
}

/* As many as workers, which leaves the half of a busy machine to each, but no more than a disk can take. A single
 * worker leaves the other processors idle. Those who read from a tier wait for it most of the time, a block each. */
unsigned snapshot_job_lanes(const struct server *server) {
    cpu_set_t processors;
    unsigned lanes = server->worker_count;
    if (server->tier) return LANES_WITH_TIER;
    if (lanes == 1 && sched_getaffinity(0, sizeof(processors), &processors) == 0)
        lanes = (unsigned)CPU_COUNT(&processors);
    return lanes < LANES_MIN ? LANES_MIN : lanes < LANES_DEFAULT_MAX ? lanes : LANES_DEFAULT_MAX;
}

enum snapshot_purpose snapshot_job_purpose(const struct server *server) {
    return (enum snapshot_purpose)atomic_load_explicit(&server->snapshot_job.purpose, memory_order_acquire);
}

/* ---- worker 0 ---- */

static void set_over(struct snapshot_job *job, bool whole) {
    pthread_mutex_lock(&job->lock);
    job->whole = whole;
    job->over = true;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

static void end_over(struct server *server) {
    struct snapshot_job *job = &server->snapshot_job;
    pthread_mutex_lock(&job->lock);
    bool over = job->over;
    job->over = false;
    pthread_mutex_unlock(&job->lock);
    if (!over) return;
    server_stop_workers(server, 0);
    struct snapshot *snapshot = job->snapshot;
    pthread_mutex_lock(&job->lock);
    job->snapshot = NULL;
    pthread_mutex_unlock(&job->lock);
    snapshot_destroy(snapshot);
    server_resume_workers(server, 0);
    struct snapshot_task task = job->task;
    bool whole = job->whole;
    task.ended(task.ctx, whole);
    atomic_store_explicit(&job->purpose, SNAPSHOT_NONE, memory_order_release);
    pthread_mutex_lock(&job->lock);
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

static void end_by_mail(struct worker *worker, void *argument) {
    (void)argument;
    end_over(worker->server);
}

/* On a walker's thread. */
static void on_complete(void *ctx, bool whole) {
    struct server *server = ctx;
    struct snapshot_job *job = &server->snapshot_job;
    set_over(job, job->task.complete(job->task.ctx, whole));
    worker_post(server->workers[0], end_by_mail, NULL);
}

/* ---- tests: what goes to the sink takes its time before it ---- */

static bool take_record_slowly(void *ctx, unsigned lane, uint32_t database, const struct record *image) {
    struct snapshot_job *job = ctx;
    key_delay_pass(&job->delay, 1);
    return job->task.sink.record(job->task.sink.ctx, lane, database, image);
}

static bool take_collection_slowly(void *ctx, unsigned lane, uint32_t database, struct snapshot_collection *value) {
    struct snapshot_job *job = ctx;
    key_delay_pass(&job->delay, 1);
    return job->task.sink.collection(job->task.sink.ctx, lane, database, value);
}

static bool take_cold_slowly(void *ctx, unsigned lane, uint32_t shard, uint32_t database, uint64_t hash, uint64_t ref) {
    struct snapshot_job *job = ctx;
    key_delay_pass(&job->delay, 1);
    return job->task.sink.cold(job->task.sink.ctx, lane, shard, database, hash, ref);
}

static bool end_lane(void *ctx, unsigned lane) {
    struct snapshot_job *job = ctx;
    return !job->task.sink.lane_end || job->task.sink.lane_end(job->task.sink.ctx, lane);
}

static struct snapshot_sink sink_of(struct server *server) {
    struct snapshot_job *job = &server->snapshot_job;
    int64_t delay_us = server->config.persistence.key_save_delay_us;
    if (delay_us == 0) return job->task.sink;
    key_delay_set(&job->delay, delay_us);
    return (struct snapshot_sink){.ctx = job,
                                  .record = take_record_slowly,
                                  .collection = take_collection_slowly,
                                  .cold = job->task.sink.cold ? take_cold_slowly : NULL,
                                  .lane_end = end_lane};
}

/* On a walker's thread: away from workers that are busy. */
static void place_walker(void *ctx) {
    const struct server *server = ctx;
    cpu_set_t taken;
    CPU_ZERO(&taken);
    for (unsigned i = 0; i < server->worker_count; i++) {
        int cpu = atomic_load_explicit(&server->workers[i]->busy_cpu, memory_order_relaxed);
        if (cpu >= 0) CPU_SET(cpu, &taken);
    }
    thread_place_beside(&taken);
}

/* ---- beginning ---- */

/* Whether it was this call that is to begin the job. */
static bool takes_begin(struct snapshot_job *job, bool *stopped) {
    pthread_mutex_lock(&job->lock);
    bool takes = !job->begun;
    job->begun = true;
    *stopped = job->stopped;
    pthread_mutex_unlock(&job->lock);
    return takes;
}

static void begin_taken(struct server *server) {
    struct snapshot_job *job = &server->snapshot_job;
    bool stopped;
    if (snapshot_job_purpose(server) == SNAPSHOT_NONE || !takes_begin(job, &stopped)) return;
    struct snapshot_options options = {.keyspace = server->keyspace,
                                       .sink = sink_of(server),
                                       .lanes = job->task.lanes ? job->task.lanes : snapshot_job_lanes(server),
                                       .complete = on_complete,
                                       .place = place_walker,
                                       .ctx = server};
    struct snapshot *snapshot = stopped ? NULL : snapshot_create(&options);
    server_stop_workers(server, 0);
    bool begun = snapshot && (!job->task.cut || job->task.cut(job->task.ctx));
    if (begun) {
        pthread_mutex_lock(&job->lock);
        job->snapshot = snapshot;
        pthread_mutex_unlock(&job->lock);
        begun = snapshot_begin(snapshot);
    }
    server_resume_workers(server, 0);
    if (begun) return;
    if (!stopped) log_warning("a snapshot could not begin: no memory, no thread, or no file");
    if (snapshot && !job->snapshot) {
        pthread_mutex_lock(&job->lock);
        job->snapshot = snapshot; /* to be destroyed with the rest */
        pthread_mutex_unlock(&job->lock);
    }
    set_over(job, job->task.complete(job->task.ctx, false));
    end_over(server);
}

static void begin_by_mail(struct worker *worker, void *argument) {
    (void)argument;
    begin_taken(worker->server);
}

/* ---- any worker ---- */

bool snapshot_job_start(struct server *server, const struct snapshot_task *task) {
    struct snapshot_job *job = &server->snapshot_job;
    int none = SNAPSHOT_NONE;
    pthread_mutex_lock(&job->lock);
    bool taken = atomic_compare_exchange_strong(&job->purpose, &none, (int)task->purpose);
    if (taken) {
        job->task = *task;
        job->begun = job->over = job->stopped = false;
        atomic_fetch_add_explicit(&job->jobs, 1, memory_order_relaxed);
        atomic_store_explicit(&job->started_ms, clock_unix_ms(), memory_order_relaxed);
    }
    pthread_mutex_unlock(&job->lock);
    if (taken) worker_post(server->workers[0], begin_by_mail, NULL);
    return taken;
}

uint64_t snapshot_job_count(const struct server *server) {
    return atomic_load(&server->snapshot_job.jobs);
}

void snapshot_job_stop(struct server *server) {
    struct snapshot_job *job = &server->snapshot_job;
    pthread_mutex_lock(&job->lock);
    job->stopped = true;
    key_delay_set(&job->delay, 0);
    if (job->snapshot) snapshot_stop(job->snapshot);
    pthread_mutex_unlock(&job->lock);
}

void snapshot_job_figures(struct server *server, struct snapshot_job_figures *figures) {
    struct snapshot_job *job = &server->snapshot_job;
    *figures = (struct snapshot_job_figures){0};
    pthread_mutex_lock(&job->lock);
    if (snapshot_job_purpose(server) != SNAPSHOT_NONE) {
        struct snapshot_figures now = {0};
        if (job->snapshot) now = snapshot_figures(job->snapshot);
        *figures = (struct snapshot_job_figures){now.done, now.total, now.waiting_bytes + now.set_aside_bytes,
                                                 atomic_load_explicit(&job->started_ms, memory_order_relaxed)};
    }
    pthread_mutex_unlock(&job->lock);
}

/* Until something of the job changes, or a moment has passed. */
static void doze(struct snapshot_job *job, bool ends_it) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NS;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&job->lock);
    if (!job->over || !ends_it) pthread_cond_timedwait(&job->changed, &job->lock, &until);
    pthread_mutex_unlock(&job->lock);
}

void snapshot_job_doze(struct server *server, unsigned worker) {
    doze(&server->snapshot_job, worker == 0);
    if (server->worker_count > 1) server_safe_point(server); /* others may want all to stand still */
}

/* A checkpoint waits for blocks that the waiting worker has under way. */
static void turn_tier(struct server *server, unsigned worker) {
    struct tier_port *port = server->workers[worker]->dispatcher.port;
    if (!port || snapshot_job_purpose(server) != SNAPSHOT_CHECKPOINT) return;
    tier_port_reap(port);
    tier_port_turn_end(port, clock_monotonic_ns());
}

void snapshot_job_wait(struct server *server, unsigned worker) {
    worker_stop_helping(server->workers[worker]);
    while (snapshot_job_purpose(server) != SNAPSHOT_NONE) {
        if (worker == 0) {
            begin_taken(server);
            end_over(server);
            if (snapshot_job_purpose(server) == SNAPSHOT_NONE) return;
        }
        turn_tier(server, worker);
        snapshot_job_doze(server, worker);
    }
}

void snapshot_job_see_off(struct server *server) {
    while (!server_is_last(server)) {
        snapshot_job_stop(server);
        snapshot_job_wait(server, 0);
        snapshot_job_doze(server, 0);
    }
}
