/* See start_load.h. */

#include "server/start_load.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/aof_start.h"
#include "server/pmem_start.h"
#include "server/primary_link.h"
#include "server/server.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the loading thread ---- */

void start_load_note_history(struct server *server, const char *id, uint64_t offset, int database) {
    struct start_load *load = &server->start_load;
    snprintf(load->replication_id, sizeof(load->replication_id), "%s", id);
    load->replication_offset = offset;
    load->replication_database = database;
}

/* The snapshot was written by a server that could say where in whose history it stands: it is taken up there. */
void start_load_note_snapshot(struct server *server, const struct rdb_load_result *result) {
    if (!result->replication_id[0] || result->replication_offset < 0) return;
    start_load_note_history(server, result->replication_id, (uint64_t)result->replication_offset,
                            (int)result->replication_database);
}

static bool load_snapshot(struct server *server) {
    const char *path = server->config.persistence.dbfilename;
    struct rdb_load_options options;
    struct rdb_load_result result;
    int64_t started_ms = clock_unix_ms();
    loading_options(server, &options);
    options.drop_expired = !replication_is_replica(&server->replication);
    if (rdb_load_file(path, &options, &result) != RDB_DONE) {
        log_warning("cannot load the snapshot '%s' (dbfilename): %s", path, result.reason);
        return false;
    }
    save_note_loaded(server, result.keys, result.expired);
    start_load_note_snapshot(server, &result);
    log_notice("DB loaded from disk: %llu keys in %.3f seconds; %llu had expired", (unsigned long long)result.keys,
               (double)(clock_unix_ms() - started_ms) / 1000, (unsigned long long)result.expired);
    return true;
}

static bool has_snapshot(const struct server *server, struct stat *file) {
    return stat(server->config.persistence.dbfilename, file) == 0 || errno != ENOENT;
}

/* A pool that holds nothing takes what there is: the first checkpoint brings it there. */
static bool load_pool(struct server *server) {
    struct stat file;
    bool found;
    if (!pmem_start_load(server, &found)) return false;
    if (found) return true;
    server->start_load.foreign = server->config.persistence.appendonly || has_snapshot(server, &file);
    if (server->config.persistence.appendonly) return aof_start_load(server);
    return !server->start_load.foreign || load_snapshot(server);
}

/* Before the append-only file is written to: its positions are the stream's. */
static void restore_history(struct server *server) {
    const struct start_load *load = &server->start_load;
    if (!load->replication_id[0]) return;
    replication_restore_history(server, load->replication_id, load->replication_offset);
    if (replication_is_replica(&server->replication))
        atomic_store(&server->replication.stream_database, load->replication_database);
}

static void take_over(struct worker *worker, void *argument) {
    struct server *server = argument;
    char error[512] = "";
    if (atomic_load(&server->quitting)) return;
    server_stop_workers(server, worker->id);
    if (!server->start_load.failed) restore_history(server);
    bool done = !server->start_load.failed && aof_start_begin(server, error, sizeof(error)) &&
                pmem_start_begin(server, !server->start_load.foreign, error, sizeof(error));
    loading_end(server, worker->id);
    if (done && server->pmem) aof_resume(server); /* beside a pool it is a copy, and begins anew */
    server_resume_workers(server, worker->id);
    if (error[0]) log_warning("%s", error);
    if (done) {
        process_ready(server);
        primary_link_begin(server);
        return;
    }
    server->start_load.failed = true;
    server_quit(server);
}

static void *load(void *argument) {
    struct server *server = argument;
    bool loaded;
    if (server->pmem) {
        loaded = load_pool(server);
    } else if (server->config.persistence.appendonly) {
        loaded = aof_start_load(server);
    } else {
        enum tier_persist_loaded recovered = tier_persist_load(server, NULL);
        loaded = recovered == TIER_PERSIST_NOTHING ? load_snapshot(server) : recovered == TIER_PERSIST_LOADED;
    }
    if (!loaded) server->start_load.failed = true;
    worker_post(server->workers[0], take_over, server);
    return NULL;
}

/* ---- the main thread ---- */

static bool is_something(const struct server *server, uint64_t *bytes) {
    struct stat file = {0};
    *bytes = 0;
    if (server->pmem || server->config.persistence.appendonly || tier_persist_has_checkpoint(server)) return true;
    bool found = has_snapshot(server, &file);
    *bytes = (uint64_t)file.st_size;
    return found;
}

bool start_load_begin(struct server *server, bool *ready) {
    uint64_t bytes;
    *ready = !is_something(server, &bytes);
    if (*ready) return true;
    loading_begin(server, UINT_MAX, bytes);
    int error = pthread_create(&server->start_load.thread, NULL, load, server);
    if (error) log_warning("cannot create the thread that loads the dataset: %s", strerror(error));
    server->start_load.running = error == 0;
    return error == 0;
}

void start_load_end(struct server *server) {
    if (!server->start_load.running) return;
    atomic_store(&server->loading.cancel, true);
    key_delay_set(&server->loading.delay, 0);
    pthread_join(server->start_load.thread, NULL);
    server->start_load.running = false;
}
