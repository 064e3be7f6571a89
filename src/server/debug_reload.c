/* DEBUG RELOAD: the dataset goes through a snapshot file.
 *
 * DEBUG has stopped all workers and locked all shards, which saving and loading, on threads of their own, need for
 * themselves. So the command lets go of both meanwhile: debug_begin_loading(). */

#include "base/clock.h"
#include "base/log.h"
#include "command/admission.h"
#include "server/debug.h"
#include "server/server.h"

#include <errno.h>
#include <string.h>

bool debug_begin_loading(struct call *call) {
    struct server *server = server_of(call);
    unsigned worker = call->dispatcher->worker;
    if (loading_is_active(&server->loading)) return false;
    keyspace_unlock_all(call->view.keyspace);
    call->view.locked_all = false;
    loading_begin(server, worker, 0);
    server_resume_workers(server, worker);
    return true;
}

void debug_end_loading(struct call *call) {
    struct server *server = server_of(call);
    unsigned worker = call->dispatcher->worker;
    server_stop_workers(server, worker);
    loading_end(server, worker);
    keyspace_lock_all(call->view.keyspace);
    call->view.locked_all = true;
}

void debug_flush_all(struct call *call) {
    struct view view = call->view;
    for (view.database = 0; view.database < view.keyspace->database_count; view.database++) keyspace_flush(&view);
}

/* NULL, or the error. */
static const char *reload(struct call *call, bool save, bool flush, bool merge) {
    struct server *server = server_of(call);
    unsigned worker = call->dispatcher->worker;
    const char *path = server->config.persistence.dbfilename;
    struct rdb_load_options options;
    struct rdb_load_result result;
    snapshot_job_wait(server, worker); /* of a save that is under way, too */
    if (save && save_now(server, worker) != SAVE_DONE) return "ERR the snapshot could not be written; the log says why";
    if (flush) debug_flush_all(call);
    loading_options(server, &options);
    options.replace_duplicates = merge;
    enum rdb_status status = loading_file(server, worker, path, &options, &result);
    if (status != RDB_DONE) {
        log_warning("DEBUG RELOAD: %s: %s", path, result.reason);
        return "ERR Error trying to load the RDB dump, check server logs.";
    }
    save_note_loaded(server, result.keys, result.expired);
    log_notice("DB reloaded by DEBUG RELOAD");
    return NULL;
}

void debug_reload(struct call *call) {
    bool save = true, flush = true, merge = false;
    for (uint32_t i = 2; i < call->argc; i++) {
        if (call_is(call, i, "nosave")) {
            save = false;
        } else if (call_is(call, i, "noflush")) {
            flush = false;
        } else if (call_is(call, i, "merge")) {
            merge = true;
        } else {
            reply_error(call->reply, "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
            return;
        }
    }
    if (call->in_transaction) {
        reply_error(call->reply, "ERR DEBUG RELOAD cannot be part of a transaction");
        return;
    }
    if (!debug_begin_loading(call)) {
        reply_error(call->reply, ADMISSION_LOADING);
        return;
    }
    const char *error = reload(call, save, flush, merge);
    debug_end_loading(call);
    if (error)
        reply_error(call->reply, error);
    else
        reply_ok(call->reply);
}
