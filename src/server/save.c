/* See save.h. */

#include "server/save.h"

#include "base/clock.h"
#include "base/log.h"
#include "persist/rdb_sink.h"
#include "server/misconf.h"
#include "server/server.h"
#include "server/text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { RETRY_S = 5 /* a save point tries again so long after a failure */ };

/* What a running save needs: its job's context. */
struct save_run {
    struct server *server;
    struct rdb_sink *sink;
    struct rdb_file_error error;
    bool has_history; /* the file says where in that of replication it stands */
    uint64_t changes; /* of the keyspace, at the cut */
    int64_t started_ms;
    bool background, for_flush; /* nobody waits for it: whether it fails has to be told otherwise than by an answer */
};

void save_init(struct server *server) {
    pthread_mutex_init(&server->save.lock, NULL);
    pthread_mutex_init(&server->save.begin_lock, NULL);
    server->save.last_s = server->started_ms / 1000;
    server->save.last_duration_s = -1;
}

void save_free(struct server *server) {
    pthread_mutex_destroy(&server->save.lock);
    pthread_mutex_destroy(&server->save.begin_lock);
}

bool save_is_wanted(const struct server *server) {
    return server->config.persistence.save.count > 0;
}

/* ---- the job ---- */

static bool note_cut(void *ctx) {
    struct save_run *run = ctx;
    struct rdb_history history;
    run->changes = keyspace_changes(run->server->keyspace);
    if (run->has_history && replication_find_history(run->server, &history)) rdb_sink_set_history(run->sink, &history);
    return true;
}

static bool complete(void *ctx, bool whole) {
    struct save_run *run = ctx;
    bool done = rdb_sink_close(run->sink, whole, &run->error);
    run->sink = NULL;
    return done;
}

static void log_end(const struct save_run *run, bool whole, int64_t duration_ms) {
    if (whole)
        log_notice("DB saved on disk in %lld.%03lld s", (long long)duration_ms / 1000, (long long)duration_ms % 1000);
    else if (run->error.step)
        log_warning("the snapshot failed: %s: %s", run->error.step, strerror(run->error.error));
    else
        log_warning("the snapshot was stopped or could not be completed; no file was written");
}

static void ended(void *ctx, bool whole) {
    struct save_run *run = ctx;
    struct server *server = run->server;
    struct save *save = &server->save;
    int64_t duration_ms = clock_unix_ms() - run->started_ms;
    log_end(run, whole, duration_ms);
    pthread_mutex_lock(&save->lock);
    save->started_s = 0;
    save->last_duration_s = duration_ms / 1000;
    bool given_up = atomic_exchange(&save->given_up, false);
    if (run->for_flush && !given_up) atomic_store(&save->for_flush, false);
    if (whole || (run->background && !given_up)) save->failed = !whole;
    if (whole) {
        save->last_s = clock_unix_ms() / 1000;
        save->changes_saved = run->changes;
        save->saves++;
    }
    pthread_mutex_unlock(&save->lock);
    free(run);
}

void save_temporary_name(char *name, size_t capacity) {
    snprintf(name, capacity, "temp-%d.rdb", (int)getpid());
}

static void paths(const struct server *server, char path[PATH_MAX], char temporary[PATH_MAX]) {
    snprintf(path, PATH_MAX, "%s", server->config.persistence.dbfilename);
    save_temporary_name(temporary, PATH_MAX);
}

static struct rdb_sink *open_file(struct save_run *run, unsigned lanes) {
    struct server *server = run->server;
    struct rdb_history history;
    run->has_history = replication_find_history(server, &history);
    const struct config_persistence *persistence = &server->config.persistence;
    const struct access_policy *access = &server->keyspace->access;
    char path[PATH_MAX], temporary[PATH_MAX];
    paths(server, path, temporary);
    bool frequency = access->frequency, wanted = server->config.memory.maxmemory_bytes != 0;
    struct rdb_file_options options = {
        .path = path,
        .temporary = temporary,
        .save = {.version = (unsigned)persistence->rdb_version,
                 .compress = persistence->rdb_compression,
                 .access = !wanted     ? RDB_ACCESS_NONE
                           : frequency ? RDB_ACCESS_FREQUENCY
                                       : RDB_ACCESS_IDLE,
                 .policy = access,
                 .now_ms = clock_unix_ms()},
        .checksum = persistence->rdb_checksum,
        .incremental_sync = persistence->rdb_incremental_fsync,
        .index = true,
        .redis_version = SERVER_REDIS_VERSION,
        .used_memory = memory_resident_bytes(&server->metrics.limit, NULL),
        .history = run->has_history ? &history : NULL,
    };
    return rdb_sink_open(&options, lanes, &run->error);
}

static bool start_alone(struct server *server, bool background) {
    struct save *save = &server->save;
    struct save_run *run = calloc(1, sizeof(*run));
    if (!run) return false;
    run->server = server;
    run->background = background;
    run->for_flush = background && atomic_load(&save->for_flush);
    unsigned lanes = run->for_flush ? 1 : snapshot_job_lanes(server); /* there is next to nothing to walk */
    run->started_ms = clock_unix_ms();
    run->sink = open_file(run, lanes);
    if (!run->sink) {
        log_end(run, false, 0);
        free(run);
        pthread_mutex_lock(&save->lock);
        if (background) save->failed = true;
        pthread_mutex_unlock(&save->lock);
        return false;
    }
    struct snapshot_task task = {.purpose = SNAPSHOT_SAVE,
                                 .lanes = lanes,
                                 .sink = rdb_sink_of(run->sink),
                                 .cut = note_cut,
                                 .complete = complete,
                                 .ended = ended,
                                 .ctx = run};
    pthread_mutex_lock(&save->lock);
    bool started = snapshot_job_start(server, &task);
    if (started) {
        save->started_s = run->started_ms / 1000;
        save->scheduled = false;
    }
    pthread_mutex_unlock(&save->lock);
    if (started) return true;
    (void)!rdb_sink_close(run->sink, false, &run->error);
    free(run);
    return false;
}

/* One at a time, so that two never write to one temporary file. */
static bool start(struct server *server, bool background) {
    pthread_mutex_lock(&server->save.begin_lock);
    bool started = snapshot_job_purpose(server) != SNAPSHOT_SAVE && start_alone(server, background);
    pthread_mutex_unlock(&server->save.begin_lock);
    return started;
}

/* ---- who asks ---- */

enum save_answer save_in_background(struct server *server) {
    enum snapshot_purpose purpose = snapshot_job_purpose(server);
    if (purpose == SNAPSHOT_NONE) {
        if (start(server, true)) return SAVE_DONE;
        purpose = snapshot_job_purpose(server); /* another worker may have been quicker */
    }
    if (purpose == SNAPSHOT_NONE) return SAVE_FAILED;
    return purpose == SNAPSHOT_SAVE ? SAVE_BUSY_SAVING : SAVE_BUSY_OTHERWISE;
}

enum save_answer save_now(struct server *server, unsigned worker) {
    if (snapshot_job_purpose(server) == SNAPSHOT_SAVE) return SAVE_BUSY_SAVING;
    uint64_t jobs, saves;
    bool started;
    /* A rewrite or a checkpoint ends first: the dataset is walked by one snapshot at a time. Another worker may begin
     * one in between. */
    do {
        snapshot_job_wait(server, worker);
        jobs = snapshot_job_count(server);
        saves = server->save.saves;
        started = start(server, false);
    } while (!started && snapshot_job_count(server) != jobs);
    if (!started) return SAVE_FAILED;
    snapshot_job_wait(server, worker);
    return server->save.saves != saves ? SAVE_DONE : SAVE_FAILED;
}

void save_schedule(struct server *server) {
    pthread_mutex_lock(&server->save.lock);
    server->save.scheduled = true;
    pthread_mutex_unlock(&server->save.lock);
}

/* The save point that is due; NULL: none. The lock is held. */
static const struct config_save_point *due_point(const struct server *server, int64_t now_s, uint64_t changes) {
    const struct save *save = &server->save;
    const struct config_save_points *points = &server->config.persistence.save;
    if (save->failed && now_s - save->last_try_s <= RETRY_S) return NULL;
    for (size_t i = 0; i < points->count; i++)
        if (changes >= (uint64_t)points->points[i].changes && now_s - save->last_s >= points->points[i].seconds)
            return &points->points[i];
    return NULL;
}

static void take_flush(struct server *server);

/* At once, so that what is written next is not part of it. */
static void begin_for_flush(struct worker *worker, void *argument) {
    (void)argument;
    struct server *server = worker->server;
    take_flush(server);
    if (atomic_load(&server->save.for_flush) && snapshot_job_purpose(server) == SNAPSHOT_NONE &&
        !loading_is_active(&server->loading))
        (void)save_in_background(server);
}

/* As in Redis the file of what was flushed does not stay: a crash would bring it back. */
void save_note_flushed(void *ctx) {
    struct server *server = ctx;
    struct save *save = &server->save;
    uint64_t changes = 0;
    for (uint32_t i = 0; i < server->keyspace->shard_count; i++) changes += server->keyspace->shards[i].changes;
    if (save_is_wanted(server)) atomic_store(&save->changes_saved, changes);
    atomic_store(&save->flushed, true);
    worker_post(server->workers[0], begin_for_flush, NULL);
}

static void take_flush_locked(struct server *server) {
    if (!atomic_exchange(&server->save.flushed, false)) return;
    if (snapshot_job_purpose(server) == SNAPSHOT_SAVE) {
        atomic_store(&server->save.given_up, true);
        snapshot_job_stop(server);
    }
    if (!save_is_wanted(server)) return;
    atomic_store(&server->save.for_flush, true);
    save_schedule(server);
}

/* Several workers may look at once: who comes second finds it taken altogether, or not at all. */
static void take_flush(struct server *server) {
    pthread_mutex_lock(&server->save.begin_lock);
    take_flush_locked(server);
    pthread_mutex_unlock(&server->save.begin_lock);
}

void save_finish_flush(struct server *server, unsigned worker) {
    struct save *save = &server->save;
    take_flush(server);
    if (!atomic_load(&save->for_flush)) return;
    snapshot_job_wait(server, worker); /* itself, or what has to end before */
    /* Another worker may be about to begin it, or quicker. */
    if (atomic_load(&save->for_flush) && save_in_background(server) != SAVE_FAILED) snapshot_job_wait(server, worker);
    atomic_store(&save->for_flush, false); /* if it could not be written, the next try is a save point's */
}

void save_tick(struct server *server) {
    struct save *save = &server->save;
    const struct config_persistence *persistence = &server->config.persistence;
    int64_t now_s = clock_unix_ms() / 1000;
    take_flush(server);
    bool refuse = save->failed && save_is_wanted(server) && persistence->stop_writes_on_error;
    if (atomic_exchange(&save->refuse_writes, refuse) != refuse) misconf_refresh(server);
    if (snapshot_job_purpose(server) != SNAPSHOT_NONE || loading_is_active(&server->loading)) return;
    if (!save->scheduled && (!save_is_wanted(server) || now_s == save->looked_s)) return;
    save->looked_s = now_s;
    pthread_mutex_lock(&save->lock);
    bool scheduled = save->scheduled;
    uint64_t changes = keyspace_changes(server->keyspace) - save->changes_saved;
    const struct config_save_point *point = scheduled ? NULL : due_point(server, now_s, changes);
    if (point || scheduled) save->last_try_s = now_s;
    save->scheduled = false;
    pthread_mutex_unlock(&save->lock);
    if (point)
        log_notice("%llu changes in %lld seconds: saving", (unsigned long long)changes, (long long)point->seconds);
    if (point || scheduled) (void)save_in_background(server);
}

void save_note_loaded(struct server *server, uint64_t keys, uint64_t expired) {
    pthread_mutex_lock(&server->save.lock);
    server->save.loaded_keys = keys;
    server->save.loaded_expired = expired;
    server->save.changes_saved = keyspace_changes(server->keyspace);
    pthread_mutex_unlock(&server->save.lock);
}

const char *save_refusal(struct server *server) {
    if (!atomic_load_explicit(&server->save.refuse_writes, memory_order_relaxed)) return NULL;
    return "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands "
           "that may modify the data set are disabled, because this instance is configured to report errors during "
           "writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for "
           "details about the RDB error.";
}

/* ---- INFO ---- */

void save_info(struct server *server, uint64_t changes, struct text *text) {
    struct save *save = &server->save;
    struct snapshot_job_figures job;
    snapshot_job_figures(server, &job);
    /* A copy for replicas is one as well, to those who look from outside. */
    enum snapshot_purpose purpose = snapshot_job_purpose(server);
    bool saving = purpose == SNAPSHOT_SAVE, writing = saving || purpose == SNAPSHOT_REPLICA;
    double percent = job.total ? (double)job.done * 100 / (double)job.total : 0;
    int64_t spent_ms = job.started_ms ? clock_unix_ms() - job.started_ms : 0;
    int64_t left_s =
        job.done ? (int64_t)((double)spent_ms * (double)(job.total - job.done) / (double)job.done) / 1000 : -1;
    text_add(text, "current_cow_peak:%zu\r\ncurrent_cow_size:%zu\r\ncurrent_cow_size_age:0\r\n", job.kept_bytes,
             job.kept_bytes);
    text_add(text, "current_fork_perc:%.2f\r\ncurrent_save_keys_processed:%llu\r\ncurrent_save_keys_total:%llu\r\n",
             percent, (unsigned long long)job.done, (unsigned long long)job.total);
    text_add(text, "current_save_eta_seconds:%lld\r\n", (long long)left_s);
    pthread_mutex_lock(&save->lock);
    text_add(text, "rdb_changes_since_last_save:%llu\r\nrdb_bgsave_in_progress:%d\r\nrdb_last_save_time:%lld\r\n",
             (unsigned long long)(changes - save->changes_saved), writing, (long long)save->last_s);
    text_add(text, "rdb_last_bgsave_status:%s\r\nrdb_last_bgsave_time_sec:%lld\r\nrdb_current_bgsave_time_sec:%lld\r\n",
             save->failed ? "err" : "ok", (long long)save->last_duration_s,
             saving ? (long long)(clock_unix_ms() / 1000 - save->started_s) : -1);
    text_add(text, "rdb_saves:%llu\r\nrdb_last_cow_size:0\r\nrdb_last_load_keys_expired:%llu\r\n",
             (unsigned long long)save->saves, (unsigned long long)save->loaded_expired);
    text_add(text, "rdb_last_load_keys_loaded:%llu\r\n", (unsigned long long)save->loaded_keys);
    pthread_mutex_unlock(&save->lock);
}
