/* The life of the append-only file: see aof.h. Rewrites are in aof_rewrite.c. */

#include "server/aof.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/aof_base.h"
#include "server/aof_rewrite.h"
#include "server/journaling.h"
#include "server/misconf.h"
#include "server/server.h"
#include "server/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_LANES = 2 /* for the base that is written before anybody is served */ };

bool aof_name_directory(struct server *server) {
    struct aof *aof = &server->aof;
    char *path = NULL;
    if (aof->rewrite) return true;
    if (asprintf(&path, "%s/%s", server->config.general.dir, server->config.persistence.append_dirname) < 0)
        return false;
    free(aof->directory);
    aof->directory = path;
    aof->manifest_known = false;
    return true;
}

void aof_init(struct server *server) {
    struct aof *aof = &server->aof;
    pthread_mutex_init(&aof->lock, NULL);
    pthread_mutex_init(&aof->writer_lock, NULL);
    aof_manifest_init(&aof->manifest);
    aof->last_duration_s = -1;
    if (!aof_name_directory(server)) abort(); /* a path, at start */
    for (unsigned i = 0; i < server->worker_count; i++) server->workers[i]->io.gate = &aof->gate;
}

/* ---- start ---- */

static bool refuse(char *error, size_t room, const char *step) {
    snprintf(error, room, "cannot write the append-only file: %s: %s", step, strerror(errno));
    return false;
}

static bool write_first_base(struct server *server, char *error, size_t room) {
    struct aof *aof = &server->aof;
    const char *stem = server->config.persistence.append_filename;
    char name[512];
    bool as_rdb = server->config.persistence.aof_rdb_preamble;
    struct rdb_file_error reason;
    struct aof_base base;
    errno = ENAMETOOLONG;
    if (!aof_manifest_next_base_name(&aof->manifest, stem, as_rdb, name, sizeof(name)))
        return refuse(error, room, "name");
    bool opened = aof_base_open(&base, server, name, as_rdb, FIRST_LANES, &reason);
    /* Everything that is in memory, before workers run. */
    bool walked = opened && snapshot_walk(server->keyspace, aof_base_sink(&base), FIRST_LANES);
    bool whole = opened && aof_base_close(&base, walked, &reason);
    if (!whole) {
        errno = reason.step ? reason.error : ENOMEM;
        return refuse(error, room, reason.step ? reason.step : "snapshot");
    }
    errno = ENOMEM;
    return aof_manifest_replace_base(&aof->manifest, stem, as_rdb, UINT64_MAX) || refuse(error, room, "manifest");
}

/* A file to write on: the last one, if it is ours and whole, else a new one. */
static bool open_file(struct server *server, const struct aof_load_result *loaded, struct aof_writer_file *file,
                      char *error, size_t room) {
    struct aof *aof = &server->aof;
    const char *stem = server->config.persistence.append_filename;
    const struct aof_file *last = aof_manifest_last_increment(&aof->manifest);
    char name[512];
    if (loaded && loaded->continues && last) {
        *file = (struct aof_writer_file){aof_open_increment(server, last->name), loaded->last_bytes, loaded->check};
        return (file->fd >= 0 && fdatasync(file->fd) == 0) || refuse(error, room, last->name);
    }
    errno = ENAMETOOLONG;
    if (!aof_manifest_next_increment_name(&aof->manifest, stem, name, sizeof(name)) ||
        !aof_make_increment(server, name, file))
        return refuse(error, room, "make an increment");
    if (!aof_begin_in_database(server, file)) {
        (void)refuse(error, room, "write the first command");
        close(file->fd);
        return false;
    }
    errno = ENOMEM;
    if (aof_manifest_add_increment(&aof->manifest, stem) &&
        aof_manifest_store(&aof->manifest, &file_io_system, aof->directory, stem))
        return true;
    (void)refuse(error, room, "store the manifest");
    close(file->fd);
    return false;
}

/* As with Redis a file begins with a base, also of nothing: a directory without one is then never a whole file. */
static bool needs_base(const struct aof_manifest *manifest) {
    return !aof_manifest_base(manifest) && !aof_manifest_last_increment(manifest);
}

bool aof_begin(struct server *server, struct aof_manifest *manifest, const struct aof_load_result *loaded, char *error,
               size_t room) {
    struct aof *aof = &server->aof;
    struct aof_writer_file file;
    if (manifest) {
        aof_manifest_free(&aof->manifest);
        aof->manifest = *manifest;
        aof_manifest_init(manifest);
    }
    aof->manifest_known = true;
    if (!aof_make_directory(server)) return refuse(error, room, aof->directory);
    if (needs_base(&aof->manifest) && !write_first_base(server, error, room)) return false;
    if (!open_file(server, loaded, &file, error, room)) return false;
    journal_forget_database(server->journal);
    if (!aof_create_writer(server, &file, true)) {
        close(file.fd);
        return refuse(error, room, "begin");
    }
    aof->other_bytes = aof_bytes_of(server, &aof->manifest, true);
    aof->base_bytes = aof->other_bytes + file.bytes;
    atomic_store(&aof->state, AOF_ON);
    aof_remove_history(server);
    return true;
}

/* ---- end ---- */

bool aof_destroy_writer(struct server *server) {
    struct aof *aof = &server->aof;
    pthread_mutex_lock(&aof->writer_lock);
    bool complete = !aof->writer || aof_writer_destroy(aof->writer);
    bool had_one = aof->writer != NULL;
    aof->writer = NULL;
    pthread_mutex_unlock(&aof->writer_lock);
    if (!had_one) return true;
    aof_backlog_clear(server->replication.files);
    journaling_refresh(server);
    atomic_store(&aof->error, 0);
    misconf_refresh(server);
    for (unsigned i = 0; i < server->worker_count; i++) worker_wake(server->workers[i]);
    return complete;
}

bool aof_end(struct server *server) {
    struct aof *aof = &server->aof;
    aof_rewrite_finish(server);
    bool complete = aof_destroy_writer(server);
    atomic_store(&aof->state, AOF_OFF);
    aof_manifest_free(&aof->manifest);
    free(aof->directory);
    aof->directory = NULL;
    return complete;
}

/* ---- CONFIG SET ---- */

static bool enable(struct server *server) {
    struct aof *aof = &server->aof;
    if (!aof_name_directory(server) || !aof_make_directory(server)) {
        log_warning("cannot make the directory '%s' of the append-only file: %s", aof->directory, strerror(errno));
        return false;
    }
    aof->retry_ms = 0;
    aof->failures = 0;
    atomic_store(&aof->state, AOF_WAITING);
    pthread_mutex_lock(&aof->lock);
    aof->scheduled = true;
    pthread_mutex_unlock(&aof->lock);
    worker_wake(server->workers[0]);
    server->workers[0]->next_tick_ns = 0;
    log_notice("AOF was enabled. An AOF background was scheduled to start when possible.");
    return true;
}

/* The files stay, complete up to this moment. */
static void disable(struct server *server) {
    struct aof *aof = &server->aof;
    aof_rewrite_cancel(server);
    if (!aof_destroy_writer(server))
        log_warning("the append-only file was switched off before all of it was on the disk");
    atomic_store(&aof->state, AOF_OFF);
    pthread_mutex_lock(&aof->lock);
    aof->scheduled = false;
    pthread_mutex_unlock(&aof->lock);
}

void aof_suspend(struct server *server) {
    if (atomic_load(&server->aof.state) != AOF_OFF) disable(server);
}

void aof_resume(struct server *server) {
    if (!server->config.persistence.appendonly || atomic_load(&server->aof.state) != AOF_OFF) return;
    if (!enable(server)) log_warning("the append-only file stays switched off");
}

bool aof_change(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    struct server *server = ctx;
    struct aof *aof = &server->aof;
    const struct config_persistence *persistence = &config->persistence;
    bool is_on = atomic_load(&aof->state) != AOF_OFF;
    if (strcmp(name, "aof-disable-auto-gc") == 0) aof_remove_history(server);
    if (aof->writer)
        aof_writer_set_policy(aof->writer, (enum aof_sync)persistence->append_fsync, persistence->aof_timestamps);
    if (persistence->appendonly && !is_on && !enable(server)) {
        snprintf(error->text, sizeof(error->text), "Unable to turn on AOF. Check server logs.");
        return false;
    }
    if (!persistence->appendonly && is_on) disable(server);
    return true;
}

void aof_delay(struct server *server, uint32_t delay_us) {
    if (server->aof.writer) aof_writer_delay(server->aof.writer, delay_us);
}

/* ---- turns and ticks ---- */

void aof_nudge(struct worker *worker) {
    struct server *server = worker->server;
    uint64_t end = journal_end(server->journal);
    if (end == worker->journal_seen) return;
    worker->journal_seen = end;
    atomic_thread_fence(memory_order_seq_cst); /* what was appended, before the look whether the writer sleeps */
    aof_writer_nudge(server->aof.writer);
}

/* A rewrite and a checkpoint would each make the next increment, which has one name. A checkpoint that is being begun
 * says so before it looks, under aof->lock, whether there is a rewrite, and this is asked with the lock held: so one of
 * the two sees the other. */
static bool is_beside_snapshot(struct server *server) {
    return snapshot_job_purpose(server) != SNAPSHOT_NONE || atomic_load(&server->tier_persist.making);
}

/* After three failures in a row rewrites become rarer, as when the writer fails. */
static bool may_begin(const struct aof *aof) {
    return !aof->rewrite && clock_unix_ms() >= aof->retry_ms;
}

static bool has_grown(struct server *server) {
    const struct config_persistence *persistence = &server->config.persistence;
    struct aof *aof = &server->aof;
    if (atomic_load(&aof->state) != AOF_ON || !persistence->auto_rewrite_percentage) return false;
    uint64_t bytes = aof->other_bytes + aof_writer_figures(aof->writer).file_bytes;
    uint64_t base = aof->base_bytes ? aof->base_bytes : 1;
    if (bytes <= (uint64_t)persistence->auto_rewrite_min_bytes || bytes <= base) return false;
    double growth = (double)(bytes - base) * 100 / (double)base;
    if (growth < (double)persistence->auto_rewrite_percentage) return false;
    log_notice("Starting automatic rewriting of AOF on %.0f%% growth", growth);
    return true;
}

bool aof_lacks_base(struct server *server) {
    struct aof *aof = &server->aof;
    pthread_mutex_lock(&aof->lock);
    bool lacks =
        atomic_load(&aof->state) == AOF_WAITING && (aof->rewrite || (aof->scheduled && !is_beside_snapshot(server)));
    pthread_mutex_unlock(&aof->lock);
    return lacks;
}

void aof_tick(struct server *server) {
    struct aof *aof = &server->aof;
    aof_rewrite_tick(server);
    pthread_mutex_lock(&aof->lock);
    bool needed = atomic_load(&aof->state) == AOF_WAITING || atomic_load(&aof->error);
    if (!is_beside_snapshot(server) && may_begin(aof) && (aof->scheduled || needed || has_grown(server)) &&
        !aof_rewrite_begin(server))
        log_warning("a rewrite of the append-only file could not begin: %s", strerror(errno));
    pthread_mutex_unlock(&aof->lock);
}

enum aof_rewrite_answer aof_rewrite_start(struct server *server, bool only_schedule) {
    struct aof *aof = &server->aof;
    enum aof_rewrite_answer answer = AOF_REWRITE_SCHEDULED;
    pthread_mutex_lock(&aof->lock);
    if (aof->rewrite)
        answer = AOF_REWRITE_BUSY;
    else if (only_schedule || is_beside_snapshot(server))
        aof->scheduled = true;
    else
        answer = aof_rewrite_begin(server) ? AOF_REWRITE_STARTED : AOF_REWRITE_FAILED;
    aof->retry_ms = 0;
    pthread_mutex_unlock(&aof->lock);
    return answer;
}

/* ---- INFO ---- */

uint64_t aof_buffer_bytes(const struct server *server) {
    if (!journal_is_active(server->journal)) return 0;
    return journal_end(server->journal) - journal_oldest(server->journal);
}

void aof_info(struct server *server, struct text *text) {
    struct aof *aof = &server->aof;
    int64_t now_ms = clock_unix_ms();
    pthread_mutex_lock(&aof->lock);
    /* Whoever is told that it has ended can begin the next one: the job has to be free as well. */
    bool rewriting = aof->rewrite || snapshot_job_purpose(server) == SNAPSHOT_REWRITE;
    text_add(text, "aof_enabled:%d\r\naof_rewrite_in_progress:%d\r\naof_rewrite_scheduled:%d\r\n",
             atomic_load(&aof->state) != AOF_OFF, rewriting, aof->scheduled);
    text_add(text, "aof_last_rewrite_time_sec:%lld\r\naof_current_rewrite_time_sec:%lld\r\n",
             (long long)aof->last_duration_s, aof->rewrite ? (long long)((now_ms - aof->started_ms) / 1000) : -1LL);
    text_add(text, "aof_last_bgrewrite_status:%s\r\naof_rewrites:%llu\r\naof_rewrites_consecutive_failures:%u\r\n",
             aof->failed ? "err" : "ok", (unsigned long long)aof->rewrites, aof->failures);
    text_add(text, "aof_last_write_status:%s\r\naof_last_cow_size:0\r\n", atomic_load(&aof->error) ? "err" : "ok");
    pthread_mutex_unlock(&aof->lock);
}

void aof_info_enabled(struct server *server, struct text *text) {
    struct aof *aof = &server->aof;
    struct aof_writer_figures figures = {0};
    if (atomic_load(&aof->state) == AOF_OFF) return;
    if (aof->writer) figures = aof_writer_figures(aof->writer);
    uint64_t end = journal_end(server->journal);
    pthread_mutex_lock(&aof->lock);
    text_add(text, "aof_current_size:%llu\r\naof_base_size:%llu\r\naof_pending_rewrite:%d\r\n",
             (unsigned long long)(aof->other_bytes + figures.file_bytes), (unsigned long long)aof->base_bytes,
             aof->scheduled);
    pthread_mutex_unlock(&aof->lock);
    text_add(text, "aof_buffer_length:%llu\r\naof_pending_bio_fsync:%d\r\naof_delayed_fsync:%llu\r\n",
             (unsigned long long)(aof->writer && end > figures.written ? end - figures.written : 0),
             figures.sync_pending, (unsigned long long)figures.delayed_syncs);
    text_add(text, "aof_written_offset:%llu\r\naof_durable_offset:%llu\r\naof_fsyncs:%llu\r\naof_batches:%llu\r\n",
             (unsigned long long)figures.written, (unsigned long long)figures.durable,
             (unsigned long long)figures.syncs, (unsigned long long)figures.batches);
}
