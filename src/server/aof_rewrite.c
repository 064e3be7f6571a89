/* A rewrite: see aof.h for its steps, and aof_rewrite.h.
 *
 * What is slow, making files and syncing them, is done on a thread made for it, by the writer's thread when it changes
 * files, and on the last walker's thread. A worker only starts the snapshot, and stands still for the cut.
 *
 * The manifest learns of the new increment from the writer, once all before the cut is on the disk. If the writer has
 * failed, or does not exist yet, there is no such moment; then it learns of it together with the new base. */

#include "server/aof_rewrite.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "persist/rdb_layout.h"
#include "server/aof_base.h"
#include "server/journaling.h"
#include "server/misconf.h"
#include "server/server.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_ROOM = 512, RETRY_MS_LEAST = 2000, RETRY_MS_MOST = 60000 };

struct aof_rewrite {
    struct server *server;
    pthread_t thread; /* of its preparation */
    bool prepared;    /* or has failed, and no snapshot has been started: under aof->lock */
    bool failed;      /* before there was a snapshot; likewise */
    bool with_increment;
    atomic_bool cancelled;
    bool named; /* the manifest on disk names the increment: under aof->lock */
    char base[NAME_ROOM], increment[NAME_ROOM];
    struct aof_writer_file file; /* the increment, until the cut gives it away; fd -1: given, or none */
    bool as_rdb;                 /* the base: aof-use-rdb-preamble, as it was when this began */
    struct aof_base file_of_base;
    uint64_t position; /* of the cut */
    const char *step;  /* what failed; NULL: nothing */
    int error;
};

/* ---- files ---- */

static const struct file_io *io = &file_io_system;

const char *aof_directory(const struct server *server) {
    return server->aof.directory;
}

static void path_of(const struct server *server, const char *name, char path[PATH_MAX]) {
    snprintf(path, PATH_MAX, "%s/%s", aof_directory(server), name);
}

bool aof_make_directory(const struct server *server) {
    char parent[PATH_MAX];
    if (mkdir(aof_directory(server), 0755) != 0) return errno == EEXIST;
    snprintf(parent, sizeof(parent), "%s/..", aof_directory(server));
    return file_io_sync_directory(io, parent);
}

int aof_open_increment(const struct server *server, const char *name) {
    char path[PATH_MAX];
    path_of(server, name, path);
    return io->open(io->ctx, path, O_RDWR | O_APPEND, 0);
}

bool aof_make_increment(const struct server *server, const char *name, struct aof_writer_file *file) {
    char path[PATH_MAX], line[AOF_CHECK_LINE_MAX];
    path_of(server, name, path);
    *file = (struct aof_writer_file){.fd = io->open(io->ctx, path, O_RDWR | O_APPEND | O_CREAT | O_TRUNC, 0644)};
    if (file->fd < 0) return false;
    uint64_t seed = 0;
    random_fill_secret(&seed, sizeof(seed));
    size_t length = aof_check_begin(&file->check, seed, line);
    file->bytes = length;
    if (file_io_write_all(io, file->fd, line, length) == length && io->sync(io->ctx, file->fd) == 0) return true;
    int error = errno;
    io->close(io->ctx, file->fd);
    io->unlink(io->ctx, path);
    file->fd = -1;
    errno = error;
    return false;
}

void aof_unlink(const struct server *server, const char *name) {
    char path[PATH_MAX + 8];
    path_of(server, name, path);
    io->unlink(io->ctx, path);
    snprintf(path + strlen(path), 8, RDB_INDEX_SUFFIX); /* of a base, its sidecar */
    io->unlink(io->ctx, path);
}

/* A manifest whose storing failed may be the one on the disk all the same. */
static void unlink_unnamed(const struct server *server, const char *name) {
    struct aof_manifest manifest;
    char error[AOF_MANIFEST_ERROR_MAX];
    const char *stem = server->config.persistence.append_filename;
    enum aof_manifest_found found = aof_manifest_load(&manifest, aof_directory(server), stem, error);
    bool named = found == AOF_MANIFEST_UNREADABLE;
    for (uint32_t i = 0; i < manifest.count; i++) named = named || strcmp(manifest.files[i].name, name) == 0;
    aof_manifest_free(&manifest);
    if (!named) aof_unlink(server, name);
}

static bool store(struct server *server, const struct aof_manifest *manifest) {
    return aof_manifest_store(manifest, io, aof_directory(server), server->config.persistence.append_filename);
}

/* What cannot be removed, or not be stored, is tried again behind the next rewrite. */
void aof_remove_history(struct server *server) {
    struct aof *aof = &server->aof;
    struct aof_manifest without;
    if (server->config.persistence.aof_keeps_history) return;
    pthread_mutex_lock(&aof->lock);
    bool any = false;
    for (uint32_t i = 0; i < aof->manifest.count; i++) {
        if (aof->manifest.files[i].type != AOF_FILE_HISTORY) continue;
        aof_unlink(server, aof->manifest.files[i].name);
        any = true;
    }
    if (any && aof_manifest_copy(&without, &aof->manifest)) {
        aof_manifest_forget_history(&without);
        bool stored = store(server, &without);
        if (stored) {
            aof_manifest_free(&aof->manifest);
            aof->manifest = without;
        } else {
            aof_manifest_free(&without);
        }
    }
    pthread_mutex_unlock(&aof->lock);
}

uint64_t aof_bytes_of(const struct server *server, const struct aof_manifest *manifest, bool but_last) {
    const struct aof_file *last = aof_manifest_last_increment(manifest);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < manifest->count; i++) {
        const struct aof_file *file = &manifest->files[i];
        struct stat status;
        char path[PATH_MAX];
        path_of(server, file->name, path);
        if (file->type != AOF_FILE_HISTORY && !(but_last && file == last) && stat(path, &status) == 0)
            bytes += (uint64_t)status.st_size;
    }
    return bytes;
}

/* ---- 1: preparing ---- */

static bool failed_at(struct aof_rewrite *rewrite, const char *step, int error) {
    rewrite->step = step;
    rewrite->error = error;
    return false;
}

/* What the directory holds already, if this server has not looked yet: sequence numbers go on from there. */
static bool know_manifest(struct aof_rewrite *rewrite) {
    struct server *server = rewrite->server;
    struct aof *aof = &server->aof;
    char error[AOF_MANIFEST_ERROR_MAX];
    if (aof->manifest_known) return true;
    aof_manifest_free(&aof->manifest);
    if (aof_manifest_load(&aof->manifest, aof_directory(server), server->config.persistence.append_filename, error) ==
        AOF_MANIFEST_UNREADABLE) {
        log_warning("the manifest of the append-only file cannot be used: %s", error);
        return failed_at(rewrite, "read the manifest", EINVAL);
    }
    aof->manifest_known = true;
    return true;
}

static bool choose_names(struct aof_rewrite *rewrite) {
    struct server *server = rewrite->server;
    const char *stem = server->config.persistence.append_filename;
    pthread_mutex_lock(&server->aof.lock);
    bool known = know_manifest(rewrite);
    bool fits = known &&
                aof_manifest_next_base_name(&server->aof.manifest, stem, rewrite->as_rdb, rewrite->base, NAME_ROOM) &&
                aof_manifest_next_increment_name(&server->aof.manifest, stem, rewrite->increment, NAME_ROOM);
    pthread_mutex_unlock(&server->aof.lock);
    return fits || (known && failed_at(rewrite, "name", ENAMETOOLONG));
}

static bool prepare(struct aof_rewrite *rewrite) {
    struct server *server = rewrite->server;
    struct rdb_file_error error;
    if (!aof_make_directory(server)) return failed_at(rewrite, "mkdir", errno);
    if (!choose_names(rewrite)) return false;
    if (rewrite->with_increment && !aof_make_increment(server, rewrite->increment, &rewrite->file))
        return failed_at(rewrite, "make the increment", errno);
    return aof_base_open(&rewrite->file_of_base, server, rewrite->base, rewrite->as_rdb, snapshot_job_lanes(server),
                         &error) ||
           failed_at(rewrite, error.step, error.error);
}

static void tick_by_mail(struct worker *worker, void *argument);

static void *prepare_thread(void *argument) {
    struct aof_rewrite *rewrite = argument;
    struct server *server = rewrite->server;
    bool prepared = prepare(rewrite);
    pthread_mutex_lock(&server->aof.lock);
    rewrite->failed = !prepared;
    rewrite->prepared = true;
    pthread_mutex_unlock(&server->aof.lock);
    /* Not told which: it may have ended by the time that this is read. */
    worker_post(server->workers[0], tick_by_mail, NULL);
    return NULL;
}

bool aof_rewrite_begin(struct server *server) {
    struct aof *aof = &server->aof;
    struct aof_rewrite *rewrite = calloc(1, sizeof(*rewrite));
    if (!rewrite) return false;
    int state = atomic_load(&aof->state);
    if (state != AOF_ON && !aof_name_directory(server)) {
        free(rewrite);
        return false;
    }
    rewrite->server = server;
    rewrite->file.fd = -1;
    rewrite->with_increment = state != AOF_OFF;
    rewrite->as_rdb = server->config.persistence.aof_rdb_preamble;
    aof->rewrite = rewrite;
    if (pthread_create(&rewrite->thread, NULL, prepare_thread, rewrite) != 0) {
        aof->rewrite = NULL;
        free(rewrite);
        return false;
    }
    aof->scheduled = false;
    aof->rewrites++;
    aof->started_ms = clock_unix_ms();
    return true;
}

/* ---- 2: the cut ---- */

/* On the writer's thread: all before the cut is on the disk, nothing behind it is. From here on the manifest says that
 * the new increment follows. */
static bool name_increment(void *ctx) {
    struct aof_rewrite *rewrite = ctx;
    struct server *server = rewrite->server;
    struct aof *aof = &server->aof;
    struct aof_manifest with;
    errno = ENOMEM;
    pthread_mutex_lock(&aof->lock);
    bool stored = aof_manifest_copy(&with, &aof->manifest);
    if (stored) {
        stored = aof_manifest_add_increment(&with, server->config.persistence.append_filename) && store(server, &with);
        struct aof_manifest unused = stored ? aof->manifest : with;
        if (stored) aof->manifest = with;
        int error = errno;
        aof_manifest_free(&unused);
        errno = error;
    }
    rewrite->named = stored;
    pthread_mutex_unlock(&aof->lock);
    return stored;
}

static void advanced(void *ctx) {
    struct server *server = ctx;
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct worker *worker = server->workers[i];
        if (atomic_load(&worker->io.holds) || atomic_load(&worker->disk_waiters)) worker_wake(worker);
    }
    if (atomic_load(&server->replication.synced)) replication_nudge(server);
}

static void writer_failed(void *ctx, int error) {
    struct server *server = ctx;
    char reason[96] = "";
    if (atomic_exchange(&server->aof.error, error) == 0)
        log_warning(
            "the append-only file cannot be written: %s. Commands that write are refused until it can be again.",
            strerror_r(error, reason, sizeof(reason)));
    misconf_refresh(server);
}

static void writer_resumed(void *ctx) {
    struct server *server = ctx;
    if (atomic_exchange(&server->aof.error, 0) != 0) log_notice("the append-only file can be written again");
    misconf_refresh(server);
}

bool aof_create_writer(struct server *server, const struct aof_writer_file *file, bool protects) {
    const struct config_persistence *persistence = &server->config.persistence;
    struct aof_writer_options options = {.journal = server->journal,
                                         .gate = &server->aof.gate,
                                         .from = journal_end(server->journal),
                                         .file = *file,
                                         .policy = (enum aof_sync)persistence->append_fsync,
                                         .timestamps = persistence->aof_timestamps,
                                         .protects = protects,
                                         .backlog = server->replication.files,
                                         .history = server->replication.id,
                                         .ctx = server,
                                         .advanced = advanced,
                                         .failed = writer_failed,
                                         .resumed = writer_resumed};
    server->aof.writer = aof_writer_create(&options);
    if (server->aof.writer) journaling_refresh(server);
    return server->aof.writer != NULL;
}

bool aof_begin_in_database(struct server *server, struct aof_writer_file *file) {
    char batch[2 * AOF_CHECK_LINE_MAX + 64], number[16];
    int database = atomic_load(&server->replication.stream_database);
    if (!replication_is_replica(&server->replication) || database <= 0) return true;
    struct aof_check check = file->check;
    size_t opening = aof_check_open(&check, batch);
    int digits = snprintf(number, sizeof(number), "%d", database);
    int command = snprintf(batch + opening, 64, "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", digits, number);
    size_t length = opening + (size_t)command;
    aof_check_feed(&check, batch + opening, (size_t)command);
    length += aof_check_close(&check, file->bytes, batch + length);
    if (file_io_write_all(io, file->fd, batch, length) != length || io->sync(io->ctx, file->fd) != 0) return false;
    file->check = check;
    file->bytes += length;
    return true;
}

static bool cut(void *ctx) {
    struct aof_rewrite *rewrite = ctx;
    struct server *server = rewrite->server;
    struct aof *aof = &server->aof;
    if (rewrite->cancelled) return false;
    if (!rewrite->with_increment) return true;
    journal_forget_database(server->journal);
    rewrite->position = journal_end(server->journal);
    if (!aof_begin_in_database(server, &rewrite->file)) return failed_at(rewrite, "write the first command", errno);
    if (aof->writer) {
        aof->other_bytes += aof_writer_figures(aof->writer).file_bytes;
        aof_writer_switch(aof->writer, rewrite->position, &rewrite->file, name_increment, rewrite);
        rewrite->file.fd = -1;
        return true;
    }
    if (!aof_create_writer(server, &rewrite->file, false)) return failed_at(rewrite, "begin to write", errno);
    rewrite->file.fd = -1;
    return true;
}

/* ---- 3, 4, 5: the walkers have ended ---- */

/* The new base takes the place of all that is older. aof->lock is held. */
static bool replace_base(struct aof_rewrite *rewrite) {
    struct server *server = rewrite->server;
    struct aof *aof = &server->aof;
    const char *stem = server->config.persistence.append_filename;
    struct aof_manifest manifest;
    if (!aof_manifest_copy(&manifest, &aof->manifest)) return failed_at(rewrite, "manifest", ENOMEM);
    const struct aof_file *increment = NULL;
    bool complete = true;
    if (rewrite->with_increment && !rewrite->named) complete = aof_manifest_add_increment(&manifest, stem) != NULL;
    if (rewrite->with_increment) increment = aof_manifest_last_increment(&manifest);
    uint64_t keep_from = increment ? increment->sequence : UINT64_MAX;
    complete = complete && aof_manifest_replace_base(&manifest, stem, rewrite->as_rdb, keep_from);
    errno = ENOMEM;
    if (!complete || !store(server, &manifest)) {
        int error = errno;
        aof_manifest_free(&manifest);
        return failed_at(rewrite, "store the manifest", error);
    }
    aof_manifest_free(&aof->manifest);
    aof->manifest = manifest;
    rewrite->named = rewrite->with_increment;
    if (rewrite->with_increment) aof_backlog_forget(server->replication.files, rewrite->position);
    aof->base_bytes = aof_bytes_of(server, &manifest, false);
    aof->other_bytes = aof_bytes_of(server, &manifest, rewrite->with_increment);
    return true;
}

/* The writer's state follows the manifest's. aof->writer_lock is held. */
static bool rely_on_base(struct aof_rewrite *rewrite) {
    struct aof *aof = &rewrite->server->aof;
    if (!aof->writer || rewrite->cancelled) return true;
    aof_writer_protect(aof->writer);
    if (aof_writer_figures(aof->writer).failing && !aof_writer_mend(aof->writer))
        return failed_at(rewrite, "sync the increment", atomic_load(&aof->error));
    atomic_store(&aof->state, AOF_ON);
    advanced(rewrite->server); /* what waited for a whole file */
    return true;
}

static bool complete(void *ctx, bool whole) {
    struct aof_rewrite *rewrite = ctx;
    struct server *server = rewrite->server;
    struct aof *aof = &server->aof;
    struct rdb_file_error error;
    whole = whole && !rewrite->cancelled && !rewrite->step;
    bool written = aof_base_close(&rewrite->file_of_base, whole, &error), done = false;
    if (!written && error.step) failed_at(rewrite, error.step, error.error);
    pthread_mutex_lock(&aof->writer_lock);
    if (aof->writer && !rewrite->cancelled) aof_writer_await_switch(aof->writer);
    if (written) {
        pthread_mutex_lock(&aof->lock);
        done = !rewrite->cancelled && replace_base(rewrite);
        pthread_mutex_unlock(&aof->lock);
        if (!done) unlink_unnamed(server, rewrite->base);
        done = done && rely_on_base(rewrite);
    }
    pthread_mutex_unlock(&aof->writer_lock);
    if (done) aof_remove_history(server);
    return done;
}

/* ---- the end, on worker 0 ---- */

static void log_end(const struct aof_rewrite *rewrite, bool whole, int64_t duration_ms) {
    char reason[96] = "";
    if (whole)
        log_notice("the append-only file was rewritten in %lld.%03lld s", (long long)duration_ms / 1000,
                   (long long)duration_ms % 1000);
    else if (rewrite->step)
        log_warning("rewriting the append-only file failed: %s: %s", rewrite->step,
                    strerror_r(rewrite->error, reason, sizeof(reason)));
    else
        log_warning("the rewrite of the append-only file was stopped");
}

/* The first base did not come about: what was written since the cut leads nowhere, and the next try begins anew. */
static void give_up_waiting(struct aof_rewrite *rewrite) {
    struct server *server = rewrite->server;
    struct aof *aof = &server->aof;
    if (atomic_load(&aof->state) != AOF_WAITING || !aof->writer || rewrite->cancelled) return;
    server_stop_workers(server, 0);
    aof_destroy_writer(server);
    server_resume_workers(server, 0);
}

static void end(struct aof_rewrite *rewrite, bool whole) {
    struct server *server = rewrite->server;
    struct aof *aof = &server->aof;
    int64_t now_ms = clock_unix_ms();
    pthread_join(rewrite->thread, NULL);
    if (aof_base_is_open(&rewrite->file_of_base)) {
        struct rdb_file_error unused;
        (void)!aof_base_close(&rewrite->file_of_base, false, &unused);
    }
    if (!whole) give_up_waiting(rewrite);
    if (rewrite->file.fd >= 0) io->close(io->ctx, rewrite->file.fd);
    if (rewrite->with_increment && !rewrite->named && rewrite->increment[0]) unlink_unnamed(server, rewrite->increment);
    pthread_mutex_lock(&aof->lock);
    log_end(rewrite, whole, now_ms - aof->started_ms);
    aof->last_duration_s = (now_ms - aof->started_ms) / 1000;
    aof->started_ms = 0;
    if (!rewrite->cancelled) {
        aof->failed = !whole;
        aof->failures = whole ? 0 : aof->failures + 1;
        int64_t wait_ms = (int64_t)RETRY_MS_LEAST << (aof->failures < 6 ? aof->failures : 6);
        aof->retry_ms = whole ? 0 : now_ms + (wait_ms < RETRY_MS_MOST ? wait_ms : RETRY_MS_MOST);
    }
    aof->rewrite = NULL;
    pthread_mutex_unlock(&aof->lock);
    if (aof->writer) aof_writer_defer_syncs(aof->writer, false);
    free(rewrite);
}

static void ended(void *ctx, bool whole) {
    end(ctx, whole);
}

/* ---- worker 0 ---- */

static void tick_by_mail(struct worker *worker, void *argument) {
    (void)argument;
    aof_rewrite_tick(worker->server);
}

void aof_rewrite_tick(struct server *server) {
    struct aof *aof = &server->aof;
    pthread_mutex_lock(&aof->lock);
    struct aof_rewrite *rewrite = aof->rewrite;
    bool prepared = rewrite && rewrite->prepared;
    pthread_mutex_unlock(&aof->lock);
    if (!prepared) return;
    if (rewrite->cancelled || rewrite->failed) {
        end(rewrite, false);
        return;
    }
    /* Half a dataset would become the base. A tick comes again when it is whole. */
    if (snapshot_job_purpose(server) != SNAPSHOT_NONE || loading_is_active(&server->loading)) return;
    struct snapshot_task task = {.purpose = SNAPSHOT_REWRITE,
                                 .lanes = snapshot_job_lanes(server),
                                 .sink = aof_base_sink(&rewrite->file_of_base),
                                 .cut = cut,
                                 .complete = complete,
                                 .ended = ended,
                                 .ctx = rewrite};
    rewrite->prepared = false;
    if (!snapshot_job_start(server, &task))
        rewrite->prepared = true; /* somebody was quicker: at the next tick */
    else if (aof->writer)
        aof_writer_defer_syncs(aof->writer, server->config.persistence.no_fsync_on_rewrite);
}

/* What its threads have sent to worker 0 is not read any more. */
void aof_rewrite_finish(struct server *server) {
    aof_rewrite_cancel(server);
    if (snapshot_job_purpose(server) == SNAPSHOT_REWRITE) snapshot_job_wait(server, 0);
    if (server->aof.rewrite) end(server->aof.rewrite, false);
}

/* Whether there is one. The words are those that who watches Redis's log looks for. */
static bool cancel(struct server *server, const char *reason) {
    struct aof *aof = &server->aof;
    pthread_mutex_lock(&aof->lock);
    struct aof_rewrite *rewrite = aof->rewrite;
    if (rewrite && !atomic_exchange(&rewrite->cancelled, true))
        log_notice("Killing running AOF rewrite child: %s", reason);
    pthread_mutex_unlock(&aof->lock);
    if (rewrite && snapshot_job_purpose(server) == SNAPSHOT_REWRITE) snapshot_job_stop(server);
    return rewrite;
}

void aof_rewrite_cancel(struct server *server) {
    cancel(server, "the append-only file is switched off");
}

void aof_rewrite_withdraw(struct server *server, unsigned worker) {
    while (cancel(server, "the server shuts down")) {
        if (worker == 0) aof_rewrite_tick(server);
        snapshot_job_doze(server, worker);
    }
}
