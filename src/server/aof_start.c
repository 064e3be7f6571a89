/* See aof_start.h. Reading the files is persist/aof_load.h, running their commands aof_replay.h; here is what is done
 * in which case, and what the log says of it.
 *
 * What was found is kept from the loading thread, which ends, to the moment when all workers stand still and the writer
 * begins: struct aof_start. */

#include "server/aof_start.h"

#include "base/clock.h"
#include "base/log.h"
#include "command/admission.h"
#include "persist/aof_upgrade.h"
#include "server/aof_replay.h"
#include "server/debug.h"
#include "server/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

typedef unsigned long long ull;

/* What was loaded, for the writer to go on behind. */
struct aof_start {
    bool has_manifest; /* else there was none, and `loaded` says nothing */
    struct aof_manifest manifest;
    struct aof_load_result loaded;
};

/* ---- files ---- */

static void log_outcome(const struct aof_load_result *result, const struct aof_replay *replay, int64_t started_ms) {
    const char *code;
    uint64_t failures = aof_replay_failures(replay, &code);
    if (result->torn_bytes > 0)
        log_warning("the append only file %s ends early (%s): its last %llu bytes, from byte %llu on, were cut off; "
                    "AOF loaded anyway because aof-load-truncated is enabled",
                    result->file, result->reason, (ull)result->torn_bytes, (ull)result->from);
    if (failures > 0)
        log_warning("%llu commands of the append only file failed, the first with -%s; they were passed by",
                    (ull)failures, code);
    log_notice("DB loaded from append only file: %.3f seconds; %llu keys of the base, %llu commands",
               (double)(clock_unix_ms() - started_ms) / 1000, (ull)result->base_keys, (ull)result->commands);
}

/* The files say of which stream they are: it is taken up where they end. */
static void note_history(struct server *server, const struct aof_history *history, uint32_t database) {
    if (history->id[0])
        start_load_note_history(server, history->id, history->position, (int)database);
    else
        aof_backlog_clear(server->replication.files);
}

/* Loads the files of a manifest; at the start, where `backlog` is given, also what they are of the stream. */
static enum aof_load_status load_files(struct server *server, const struct aof_manifest *manifest,
                                       struct aof_backlog *backlog, struct aof_load_result *result) {
    struct aof_load_progress progress = {0};
    struct rdb_load_options rdb;
    int64_t started_ms = clock_unix_ms();
    struct aof_replay *replay = aof_replay_create(server, &progress, false);
    if (replay == NULL) {
        *result = (struct aof_load_result){.status = AOF_LOAD_NO_MEMORY, .reason = "there is no memory to load with"};
        return result->status;
    }
    loading_options(server, &rdb);
    struct aof_load_options options = {.truncate = server->config.persistence.aof_load_truncated,
                                       .apply = aof_replay_apply,
                                       .ctx = replay,
                                       .rdb = &rdb,
                                       .progress = &progress,
                                       .backlog = backlog,
                                       .cancel = &server->loading.cancel};
    enum aof_load_status status = aof_load_directory(server->aof.directory, manifest, &options, result);
    const char *refusal;
    if (status == AOF_LOAD_DONE && !aof_replay_settle(replay, &refusal)) {
        status = result->status = AOF_LOAD_REFUSED;
        snprintf(result->reason, sizeof(result->reason), "%s", refusal);
    }
    if (status == AOF_LOAD_DONE) {
        log_outcome(result, replay, started_ms);
        save_note_loaded(server, result->base_keys, 0);
        if (backlog) note_history(server, &result->history, aof_replay_database(replay));
    }
    aof_replay_destroy(replay);
    return status;
}

/* The manifest, after an upgrade if one is due. False: the log says why. */
static bool find_manifest(struct server *server, struct aof_manifest *manifest, bool *found) {
    const char *stem = server->config.persistence.append_filename, *directory = server->aof.directory;
    char error[AOF_MANIFEST_ERROR_MAX];
    enum aof_manifest_found how = aof_manifest_load(manifest, directory, stem, error);
    if (how == AOF_MANIFEST_UNREADABLE) {
        log_warning("%s/%s.manifest: %s", directory, stem, error);
        return false;
    }
    switch (aof_upgrade(&file_io_system, directory, stem, how, manifest)) {
    case AOF_UPGRADE_NOT_NEEDED: *found = how == AOF_MANIFEST_FOUND; return true;
    case AOF_UPGRADE_DONE:
        log_notice("Successfully migrated an old-style AOF configuration (%s) into the AOF directory (%s).", stem,
                   directory);
        *found = true;
        return true;
    case AOF_UPGRADE_FAILED: break;
    }
    log_warning("cannot move the append only file %s into the directory %s: %s", stem, directory, strerror(errno));
    aof_manifest_free(manifest);
    return false;
}

static bool load_snapshot(struct server *server) {
    const char *path = server->config.persistence.dbfilename;
    struct rdb_load_options options;
    struct rdb_load_result result;
    struct stat status;
    if (stat(path, &status) != 0 && errno == ENOENT) return true;
    loading_options(server, &options);
    options.drop_expired = !replication_is_replica(&server->replication);
    if (rdb_load_file(path, &options, &result) != RDB_DONE) {
        log_warning("cannot load the snapshot '%s' (dbfilename): %s", path, result.reason);
        return false;
    }
    save_note_loaded(server, result.keys, result.expired);
    start_load_note_snapshot(server, &result);
    log_notice("there is no append only file yet: %llu keys loaded from the snapshot '%s', which become its base",
               (ull)result.keys, path);
    return true;
}

/* ---- the start ---- */

/* Of which a checkpoint of the tier may have all but the last increments. */
static bool copy_manifest(const struct aof_start *start, struct aof_manifest *tail) {
    aof_manifest_init(tail);
    if (!start->has_manifest || aof_manifest_copy(tail, &start->manifest)) return true;
    log_warning("there is no memory to load the append only file with");
    return false;
}

bool aof_start_load(struct server *server) {
    struct aof_start *start = calloc(1, sizeof(*start));
    if (start == NULL) {
        log_warning("there is no memory to load the append only file with");
        return false;
    }
    server->start_load.aof = start;
    if (!find_manifest(server, &start->manifest, &start->has_manifest)) return false;
    struct aof_manifest tail;
    if (!copy_manifest(start, &tail)) return false;
    enum tier_persist_loaded recovered = tier_persist_load(server, start->has_manifest ? &tail : NULL);
    bool loaded = recovered == TIER_PERSIST_LOADED;
    if (recovered != TIER_PERSIST_FAILED && start->has_manifest)
        loaded = load_files(server, &tail, server->replication.files, &start->loaded) == AOF_LOAD_DONE;
    else if (recovered == TIER_PERSIST_NOTHING)
        loaded = load_snapshot(server);
    aof_manifest_free(&tail);
    if (loaded || recovered == TIER_PERSIST_FAILED || !start->has_manifest) return loaded;
    if (start->loaded.status != AOF_LOAD_CANCELLED) log_warning("%s", start->loaded.reason);
    return false;
}

bool aof_start_begin(struct server *server, char *error, size_t room) {
    struct aof_start *start = server->start_load.aof;
    if (start == NULL) return true;
    bool begun = start->has_manifest ? aof_begin(server, &start->manifest, &start->loaded, error, room)
                                     : aof_begin(server, NULL, NULL, error, room);
    aof_manifest_free(&start->manifest);
    free(start);
    server->start_load.aof = NULL;
    return begun;
}

/* ---- DEBUG LOADAOF ---- */

/* Waits until the files hold everything that the journal does. Nothing is appended any more. False: the writer is in
 * trouble. */
static bool wait_for_writer(struct server *server) {
    for (;;) {
        struct aof_writer *writer = server->aof.writer;
        if (writer == NULL) return true;
        struct aof_writer_figures figures = aof_writer_figures(writer);
        if (figures.written >= journal_end(server->journal)) return true;
        if (figures.failing) return false;
        aof_writer_nudge(writer);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

struct files_load {
    struct server *server;
    const struct aof_manifest *manifest;
    struct aof_load_result *result;
    enum aof_load_status status;
};

static void load_files_beside(void *ctx) {
    struct files_load *load = ctx;
    load->status = load_files(load->server, load->manifest, NULL, load->result);
}

static bool reload(struct call *call) {
    struct server *server = server_of(call);
    unsigned worker = call->dispatcher->worker;
    struct aof_manifest manifest;
    struct aof_load_result result = {0};
    bool found = false;
    snapshot_job_wait(server, worker);
    bool loaded = wait_for_writer(server) && find_manifest(server, &manifest, &found);
    if (loaded) {
        struct files_load load = {server, &manifest, &result, AOF_LOAD_DONE};
        debug_flush_all(call);
        if (found) loading_run_beside(server, worker, load_files_beside, &load);
        loaded = load.status == AOF_LOAD_DONE;
        aof_manifest_free(&manifest);
    }
    if (loaded)
        log_notice("Append Only File loaded by DEBUG LOADAOF");
    else
        log_warning("DEBUG LOADAOF: %s", result.reason[0] ? result.reason : "the append only file cannot be loaded");
    return loaded;
}

void debug_loadaof(struct call *call) {
    if (call->in_transaction) {
        reply_error(call->reply, "ERR DEBUG LOADAOF cannot be part of a transaction");
        return;
    }
    if (pmem_gate_is_open(&server_of(call)->pmem_gate)) {
        reply_error(call->reply, "ERR a server with a pool of persistent memory has no append only file");
        return;
    }
    if (!debug_begin_loading(call)) {
        reply_error(call->reply, ADMISSION_LOADING);
        return;
    }
    bool loaded = reload(call);
    debug_end_loading(call);
    if (loaded)
        reply_ok(call->reply);
    else
        reply_error(call->reply, "ERR Error trying to load the AOF files, check server logs.");
}
