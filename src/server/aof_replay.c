/* A dispatcher and a session of their own run what the loader gives out, as a worker runs what a client sends: in
 * batches, with the cache lines of the keys ahead requested before they are needed.
 *
 * The host of that dispatcher is not the server's: nobody watches, measures or refuses here. Reading the index ahead of
 * its locks is allowed as to a worker, since this thread takes part in the retiring of memory as one more of them; with
 * a single worker memory is not retired but freed at once, and the worker, which deletes keys to make room, may do so
 * at any time: then nothing is read ahead where there is a memory limit.
 *
 * Only commands that change something are run. Whatever else stands in the file (a script, an administrator's command)
 * did not come there by writing, and would have effects that are not the dataset's. */

#include "server/aof_replay.h"

#include "base/clock.h"
#include "base/number.h"
#include "command/dispatch.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 32 /* of a command; a longer one is looked up each time */ };

struct aof_replay {
    struct server *server;
    const struct aof_load_progress *files;
    struct command_host host;
    struct command_stats *stats;
    struct dispatcher dispatcher;
    struct session session;
    struct reply reply;
    struct request requests[AOF_LOAD_BATCH];
    unsigned participant;      /* in retiring; LIMIT_WORKERS: there is no place for it */
    char admitted[NAME_BYTES]; /* the last name that was found to be allowed */
    size_t admitted_length;
    uint64_t failures;
    char first_code[REPLY_CODE_MAX];
    char refusal[160];
};

struct aof_replay *aof_replay_create(struct server *server, const struct aof_load_progress *files) {
    struct aof_replay *replay = aligned_alloc(64, (sizeof(*replay) + 63) / 64 * 64);
    struct command_stats *stats = command_stats_create(command_table_ids(server->table));
    if (replay == NULL || stats == NULL) {
        free(replay);
        if (stats != NULL) command_stats_destroy(stats);
        return NULL;
    }
    memset(replay, 0, sizeof(*replay));
    replay->server = server;
    replay->files = files;
    replay->stats = stats;
    replay->host.ctx = server;
    atomic_store(&replay->host.slow_ns, UINT64_MAX);
    atomic_store(&replay->host.open_to_all, true);
    atomic_store(&replay->host.bulk_bytes_max, INT64_MAX);
    unsigned worker = server->worker_count;
    replay->participant = worker < LIMIT_WORKERS ? worker : LIMIT_WORKERS;
    dispatcher_init(&replay->dispatcher, server->keyspace, server->table, &replay->host, stats, worker, 1);
    replay->dispatcher.port = server->loading.port;
    session_init(&replay->session, 0, clock_unix_ms());
    replay->session.authenticated = true;
    replay->session.replaying = true;
    reply_init(&replay->reply, NULL, 0, NULL, NULL);
    return replay;
}

void aof_replay_destroy(struct aof_replay *replay) {
    if (replay == NULL) return;
    reply_clear(&replay->reply);
    session_free(&replay->session);
    command_stats_destroy(replay->stats);
    free(replay);
}

uint32_t aof_replay_database(const struct aof_replay *replay) {
    return replay->session.database;
}

uint64_t aof_replay_failures(const struct aof_replay *replay, const char **code) {
    *code = replay->first_code;
    return replay->failures;
}

/* ---- what may be run ---- */

static bool refuse(struct aof_replay *replay, struct span name, const char *why, const char **refusal) {
    snprintf(replay->refusal, sizeof(replay->refusal), "%s '%.*s'", why, (int)(name.length < 64 ? name.length : 64),
             name.data);
    *refusal = replay->refusal;
    return false;
}

/* PFCOUNT, which notes what it has counted, is a command that reads. */
static bool writes(const struct command *command) {
    return command->flags & (COMMAND_WRITE | COMMAND_MAY_REPLICATE | COMMAND_READONLY);
}

static bool admit(struct aof_replay *replay, const struct request *request, const char **refusal) {
    struct span name = request->argv[0];
    if (name.length == replay->admitted_length && bytes_equal(name.data, replay->admitted, name.length)) return true;
    const struct command *command = command_table_find_told(replay->server->table, name);
    if (command == NULL) return refuse(replay, name, "Unknown command", refusal);
    bool container = command->subcommand_count > 0;
    if (container && request->argc > 1) {
        command = command_find_subcommand(command, request->argv[1]);
        if (command == NULL) return refuse(replay, request->argv[1], "Unknown subcommand", refusal);
    }
    if (!writes(command) && !span_is_word(name, "select"))
        return refuse(replay, name, "it holds a command that does not write,", refusal);
    replay->admitted_length = !container && name.length <= sizeof(replay->admitted) ? name.length : 0;
    memcpy(replay->admitted, name.data, replay->admitted_length);
    return true;
}

/* ---- running ---- */

static bool wait_for_room(struct aof_replay *replay, size_t bytes) {
    struct rdb_load_options common;
    loading_options(replay->server, &common);
    return common.wait_for_room == NULL || common.wait_for_room(common.ctx, bytes, 0);
}

static void note_errors(struct aof_replay *replay, uint64_t before) {
    if (replay->failures == 0) memcpy(replay->first_code, replay->reply.error_code, sizeof(replay->first_code));
    replay->failures += replay->reply.errors - before;
}

/* Runs the requests, however often it has to stop. */
static bool run(struct aof_replay *replay, unsigned count, const char **refusal) {
    struct dispatcher *dispatcher = &replay->dispatcher;
    dispatcher->now_ms = clock_unix_ms();
    atomic_store_explicit(&replay->host.loading,
                          replay->participant == LIMIT_WORKERS ||
                              (replay->server->worker_count == 1 &&
                               atomic_load_explicit(&replay->server->host.memory_bounded, memory_order_relaxed)),
                          memory_order_relaxed);
    for (unsigned done = 0; done < count;) {
        enum dispatch_result result;
        uint64_t errors = replay->reply.errors;
        done += dispatch_requests(dispatcher, &replay->session, replay->requests + done, count - done, &replay->reply,
                                  &result);
        if (replay->reply.errors != errors) note_errors(replay, errors);
        uint64_t composed = replay->reply.errors;
        reply_clear(&replay->reply);
        replay->reply.errors = composed;
        if (result != DISPATCH_MORE && result != DISPATCH_FULL) {
            *refusal = "a command of it cannot be run";
            return false;
        }
    }
    return true;
}

/* A command that selects a database which is not there would have what follows go to another one. */
static bool selects_as_told(struct aof_replay *replay, const struct request *request) {
    int64_t database;
    return !span_is_word(request->argv[0], "select") || request->argc != 2 ||
           (number_parse_i64(request->argv[1], &database) && database >= 0 &&
            database < (int64_t)replay->server->keyspace->database_count);
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

bool aof_replay_apply(void *ctx, struct aof_command *commands, unsigned given, const char **refusal) {
    struct aof_replay *replay = ctx;
    struct retire_list *retired = replay->server->keyspace->retired;
    size_t bytes = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < given; i++) {
        struct request *request = &replay->requests[count];
        if (__builtin_expect(is_for_replicas(&commands[i]), 0)) continue;
        count++;
        *request = (struct request){.argv = commands[i].argv, .argc = commands[i].argc};
        if (!admit(replay, request, refusal)) return false;
        if (!selects_as_told(replay, request))
            return refuse(replay, request->argv[1], "there are too few databases (databases) for SELECT", refusal);
        for (uint32_t word = 1; word < request->argc; word++) bytes += request->argv[word].length;
    }
    if (!wait_for_room(replay, bytes)) {
        *refusal = "there is no memory for it (maxmemory)";
        return false;
    }
    key_delay_pass(&replay->server->loading.delay, count);
    if (replay->participant < LIMIT_WORKERS) retire_online(retired, replay->participant);
    bool ran = run(replay, count, refusal);
    if (replay->participant < LIMIT_WORKERS) retire_offline(retired, replay->participant);
    if (replay->dispatcher.port != NULL) {
        tier_port_reap(replay->dispatcher.port);
        tier_port_submit(replay->dispatcher.port);
        tier_port_turn_end(replay->dispatcher.port, clock_monotonic_ns());
    }
    show_progress(replay);
    return ran;
}
