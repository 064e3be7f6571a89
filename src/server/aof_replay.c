/* Commands are looked at here, one by one and in their order, and run by lanes (replay_lanes.h): as many as the server
 * has threads that load.
 *
 * With a single worker memory is not retired but freed at once, and the worker, which deletes keys to make room, may do
 * so at any time beside the lanes: then nothing is read ahead of its lock.
 *
 * Only commands that change something are run. Whatever else stands in the file (a script, an administrator's command)
 * did not come there by writing, and would have effects that are not the dataset's. */

#include "server/aof_replay.h"

#include "base/number.h"
#include "server/replay_lanes.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 32 /* of a command; a longer one is looked up each time */ };

struct aof_replay {
    struct server *server;
    const struct aof_load_progress *files;
    struct replay_lanes *lanes;
    const struct command *select;
    uint32_t database;
    const struct command *admitted; /* the last one that was found to be allowed */
    char admitted_name[NAME_BYTES]; /* its name, if that says all */
    size_t admitted_length;
    char refusal[160];
};

/* Workers free what an index does not need any more, at once where there is one of them. */
static bool is_shared(void *ctx) {
    const struct server *server = ctx;
    return server->worker_count == 1;
}

struct aof_replay *aof_replay_create(struct server *server, const struct aof_load_progress *files, bool words_stay) {
    struct aof_replay *replay = calloc(1, sizeof(*replay));
    struct rdb_load_options common;
    struct tier_port *ports[REPLAY_LANES_MAX];
    if (replay == NULL) return NULL;
    loading_options(server, &common);
    unsigned worker = server->worker_count, lanes = common.threads;
    if (lanes > LOADING_LANES_MAX) lanes = LOADING_LANES_MAX;
    for (unsigned i = 0; i < lanes; i++) ports[i] = loading_port_of_lane(server, i);
    struct replay_lanes_options options = {.runner = {.keyspace = server->keyspace,
                                                      .table = server->table,
                                                      .port = server->loading.port,
                                                      .worker = worker,
                                                      .participant = worker < LIMIT_WORKERS ? worker : LIMIT_WORKERS,
                                                      .is_shared = is_shared,
                                                      .ctx = server},
                                           .lanes = server->keyspace->locking ? lanes : 0,
                                           .ports = server->loading.port ? ports : NULL,
                                           .participant = worker + 1,
                                           .words_stay = words_stay};
    replay->server = server;
    replay->files = files;
    replay->select = command_table_find_told(server->table, SPAN_LITERAL("select"));
    replay->lanes = replay_lanes_create(&options);
    if (replay->lanes != NULL) return replay;
    free(replay);
    return NULL;
}

void aof_replay_destroy(struct aof_replay *replay) {
    if (replay == NULL) return;
    replay_lanes_destroy(replay->lanes);
    free(replay);
}

uint32_t aof_replay_database(const struct aof_replay *replay) {
    return replay->database;
}

uint64_t aof_replay_failures(const struct aof_replay *replay, const char **code) {
    return replay_lanes_failures(replay->lanes, code);
}

/* ---- what may be run ---- */

/* Returns NULL, for the caller to return. */
static const struct command *refuse(struct aof_replay *replay, struct span name, const char *why,
                                    const char **refusal) {
    snprintf(replay->refusal, sizeof(replay->refusal), "%s '%.*s'", why, (int)(name.length < 64 ? name.length : 64),
             name.data);
    *refusal = replay->refusal;
    return NULL;
}

/* PFCOUNT, which notes what it has counted, is a command that reads. */
static bool writes(const struct command *command) {
    return command->flags & (COMMAND_WRITE | COMMAND_MAY_REPLICATE | COMMAND_READONLY);
}

/* NULL: it may not. */
static const struct command *admit(struct aof_replay *replay, const struct aof_command *request, const char **refusal) {
    struct span name = request->argv[0];
    if (name.length == replay->admitted_length && bytes_equal(name.data, replay->admitted_name, name.length))
        return replay->admitted;
    const struct command *command = command_table_find_told(replay->server->table, name);
    if (command == NULL) return refuse(replay, name, "Unknown command", refusal);
    bool container = command->subcommand_count > 0;
    if (container && request->argc > 1) {
        command = command_find_subcommand(command, request->argv[1]);
        if (command == NULL) return refuse(replay, request->argv[1], "Unknown subcommand", refusal);
    }
    if (!writes(command) && command != replay->select)
        return refuse(replay, name, "it holds a command that does not write,", refusal);
    replay->admitted_length = !container && name.length <= NAME_BYTES ? name.length : 0;
    memcpy(replay->admitted_name, name.data, replay->admitted_length);
    return replay->admitted = command;
}

/* ---- running ---- */

static bool wait_for_room(struct aof_replay *replay, size_t bytes) {
    struct rdb_load_options common;
    loading_options(replay->server, &common);
    return common.wait_for_room == NULL || common.wait_for_room(common.ctx, bytes, 0);
}

bool aof_replay_select(struct aof_replay *replay, int64_t database) {
    if (database < 0 || database >= (int64_t)replay->server->keyspace->database_count) return false;
    replay->database = (uint32_t)database;
    return true;
}

/* One that is not there would have what follows go to another one. False: it is not. */
static bool select_database(struct aof_replay *replay, const struct aof_command *command) {
    int64_t database;
    if (command->argc != 2) return true; /* it fails, and changes nothing */
    return number_parse_i64(command->argv[1], &database) && aof_replay_select(replay, database);
}

static void show_progress(const struct aof_replay *replay) {
    if (replay->files == NULL) return;
    struct rdb_load_progress *shown = &replay->server->loading.progress;
    uint64_t total = atomic_load_explicit(&replay->files->total_bytes, memory_order_relaxed);
    atomic_store_explicit(&shown->total_bytes, total, memory_order_relaxed);
    loading_advance(replay->server, atomic_load_explicit(&replay->files->loaded_bytes, memory_order_relaxed));
}

/* A replica keeps its primary's stream as it comes, with the words that are only for replicas. */
static bool is_for_replicas(const struct aof_command *command) {
    return span_is_word(command->argv[0], "ping") || span_is_word(command->argv[0], "replconf");
}

static bool give(struct aof_replay *replay, const struct aof_command *words, const char **refusal) {
    const struct command *command = admit(replay, words, refusal);
    if (!command) return false;
    if (command == replay->select) {
        if (select_database(replay, words)) return true;
        refuse(replay, words->argv[1], "there are too few databases (databases) for SELECT", refusal);
        return false;
    }
    if (replay_lanes_give(replay->lanes, replay->database, command, words)) return true;
    *refusal = "a command of it cannot be run";
    return false;
}

bool aof_replay_apply(void *ctx, struct aof_command *commands, unsigned given, const char **refusal) {
    struct aof_replay *replay = ctx;
    size_t bytes = 0;
    for (unsigned i = 0; i < given; i++)
        for (uint32_t word = 1; word < commands[i].argc; word++) bytes += commands[i].argv[word].length;
    if (!wait_for_room(replay, bytes)) {
        *refusal = "there is no memory for it (maxmemory)";
        return false;
    }
    key_delay_pass(&replay->server->loading.delay, given);
    for (unsigned i = 0; i < given; i++)
        if (!is_for_replicas(&commands[i]) && !give(replay, &commands[i], refusal)) return false;
    show_progress(replay);
    return true;
}

bool aof_replay_settle(struct aof_replay *replay, const char **refusal) {
    if (replay_lanes_settle(replay->lanes)) return true;
    *refusal = "a command of it cannot be run";
    return false;
}
