/* A full copy without a file, for repl-diskless-load: from the socket into databases that nobody sees, which take the
 * place of the others once all of it has come.
 *
 *   worker 0   begins: the keyspace is being loaded beside what it holds
 *   thread     reads the RDB from the socket as it comes, and puts it aside
 *   worker 0   ends: swaps, and frees what was there before; or frees what was put aside, and nothing has happened
 *
 * Meanwhile the present dataset is served if it is an older state of what comes (the same id), and refused with
 * -LOADING otherwise, as by Redis. Both take memory at the same time: who has not enough of that uses the file. */

#include "base/log.h"
#include "server/primary_link_private.h"
#include "server/server.h"

#include <stdio.h>
#include <string.h>

struct direct {
    struct primary_link *link;
    struct link_copy_head head;
    uint64_t given;              /* bytes, to the loader */
    char last[REPLICATION_MARK]; /* of these: a loader reads on behind the RDB's end */
    char why[LINK_LINE_MAX];
};

static bool is_empty(const struct keyspace *keyspace) {
    for (uint32_t shard = 0; shard < keyspace->shard_count; shard++)
        for (uint32_t database = 0; database < keyspace->database_count; database++) {
            const struct index *index = keyspace->shards[shard].databases[database];
            if (index && index->count) return false;
        }
    return true;
}

static void look_whether_empty(struct worker *worker, void *argument) {
    struct primary_link *link = argument;
    server_stop_workers(worker->server, worker->id);
    link->failed = !is_empty(worker->server->keyspace);
    server_resume_workers(worker->server, worker->id);
    link_mail_done(link);
}

bool link_loads_directly(struct primary_link *link) {
    if (link->diskless_load != CONFIG_DISKLESS_LOAD_ON_EMPTY) return link->diskless_load == CONFIG_DISKLESS_LOAD_SWAP;
    return link_call_worker(link, look_whether_empty) && !link->failed;
}

/* ---- reading ---- */

static void note_last(struct direct *direct, const char *bytes, size_t length) {
    if (length >= REPLICATION_MARK) {
        memcpy(direct->last, bytes + length - REPLICATION_MARK, REPLICATION_MARK);
        return;
    }
    memmove(direct->last, direct->last + length, REPLICATION_MARK - length);
    memcpy(direct->last + REPLICATION_MARK - length, bytes, length);
}

/* The primary sends nothing behind the mark before it is answered, and a loader would wait for more. */
static bool has_come_to_mark(const struct direct *direct) {
    return direct->head.mark[0] && !direct->link->length && direct->given >= REPLICATION_MARK &&
           memcmp(direct->last, direct->head.mark, REPLICATION_MARK) == 0;
}

/* For rdb_load_stream(). */
static long read_some(void *ctx, void *buffer, size_t room) {
    struct direct *direct = ctx;
    struct primary_link *link = direct->link;
    if (!direct->head.mark[0] && room > direct->head.total - direct->given)
        room = (size_t)(direct->head.total - direct->given);
    if (room == 0 || has_come_to_mark(direct)) return 0;
    if (!link->length && !link_receive(link, direct->why)) return -1;
    size_t taken = link->length < room ? link->length : room;
    memcpy(buffer, link->bytes, taken);
    note_last(direct, buffer, taken);
    link_consume(link, taken);
    direct->given += taken;
    atomic_fetch_add(&link->transfer_read, taken);
    return (long)taken;
}

/* What stands behind the RDB is what was announced, and nothing else. */
static bool ends_well(struct direct *direct, const struct rdb_load_result *result) {
    char rest[REPLICATION_MARK];
    if (!direct->head.mark[0]) return result->bytes == direct->head.total;
    while (direct->given < result->bytes + REPLICATION_MARK)
        if (read_some(direct, rest, (size_t)(result->bytes + REPLICATION_MARK - direct->given)) <= 0) return false;
    return direct->given == result->bytes + REPLICATION_MARK &&
           memcmp(direct->last, direct->head.mark, REPLICATION_MARK) == 0;
}

/* ---- on worker 0 ---- */

static void begin(struct worker *worker, void *argument) {
    struct primary_link *link = argument;
    struct server *server = link->server;
    link->failed = !link_stop_to_load(link, worker);
    if (!link->failed) {
        if (strcmp(link->new_id, server->replication.id) == 0)
            loading_begin_aside(server, worker->id);
        else
            loading_begin(server, worker->id, 0);
        link_set_state(link, LINK_LOADING);
    }
    server_resume_workers(server, worker->id);
    link_mail_done(link);
}

static struct view view_of(struct server *server, const struct worker *worker) {
    return (struct view){.keyspace = server->keyspace, .locked_all = true, .now_ms = worker->dispatcher.now_ms};
}

static void swap_and_flush(struct server *server, struct worker *worker, bool swap) {
    struct keyspace *keyspace = server->keyspace;
    struct view view = view_of(server, worker);
    keyspace_lock_all(keyspace);
    for (uint32_t database = 0; database < keyspace->database_count; database++) {
        if (swap) keyspace_swap_databases(&view, database, keyspace_aside(keyspace, database));
        view.database = keyspace_aside(keyspace, database);
        keyspace_flush(&view);
    }
    keyspace_unlock_all(keyspace);
}

static void end(struct worker *worker, void *argument) {
    struct primary_link *link = argument;
    struct server *server = link->server;
    server_stop_workers(server, worker->id);
    loading_end(server, worker->id);
    if (!link->failed) aof_suspend(server);
    swap_and_flush(server, worker, !link->failed);
    if (!link->failed) {
        own_expiry_forget(server);
        replication_adopt_history(server, link->new_id, link->new_offset);
        atomic_store(&server->replication.stream_database, link->database);
        link->without_history = false;
        aof_resume(server);
    }
    server_resume_workers(server, worker->id);
    link_mail_done(link);
}

/* ---- the thread ---- */

static bool load(struct direct *direct, char *why) {
    struct primary_link *link = direct->link;
    struct rdb_load_options options;
    struct rdb_load_result result = {0};
    loading_options(link->server, &options);
    options.aside = true;
    enum rdb_status status = rdb_load_stream(read_some, direct, UINT64_MAX, &options, &result);
    bool loaded = status == RDB_DONE && ends_well(direct, &result);
    link->database =
        result.replication_id[0] && result.replication_database >= 0 ? (int)result.replication_database : 0;
    if (loaded)
        save_note_loaded(link->server, result.keys, result.expired);
    else
        snprintf(why, LINK_LINE_MAX, "Failed trying to load the MASTER synchronization DB from socket: %.200s",
                 direct->why[0]       ? direct->why
                 : status != RDB_DONE ? result.reason
                                      : "it does not end as it should");
    return loaded;
}

bool link_load_directly(struct primary_link *link, char *why) {
    struct direct direct = {.link = link};
    if (!link_copy_head(link, &direct.head, why)) return false;
    if (!link_call_worker(link, begin) || link->failed) {
        snprintf(why, LINK_LINE_MAX, "the link is no longer wanted, or the dataset is being loaded");
        return false;
    }
    log_notice("MASTER <-> REPLICA sync: Loading DB in memory");
    bool loaded = load(&direct, why);
    link->failed = !loaded;
    if (!link_call_worker(link, end)) return false;
    if (loaded)
        log_notice("MASTER <-> REPLICA sync: Finished with success");
    else
        log_notice("MASTER <-> REPLICA sync: the copy was given up, and the data before it are kept");
    return loaded;
}
