/* See replay_runner.h. Commands run as a worker runs what a client sends: in batches, with the cache lines of the keys
 * ahead requested before they are needed.
 *
 * Reading the index ahead of its locks is allowed as to a worker, since the runner takes part in the retiring of memory
 * as one more of them. */

#include "server/replay_runner.h"

#include "base/clock.h"

#include <stdlib.h>

struct replay_runner {
    struct replay_runner_options options;
    struct command_host host;
    struct command_stats *stats;
    struct dispatcher dispatcher;
    struct session session;
    struct reply reply;
    uint64_t failures;
    char first_code[REPLY_CODE_MAX];
};

struct replay_runner *replay_runner_create(const struct replay_runner_options *options) {
    struct replay_runner *runner = aligned_alloc(64, (sizeof(*runner) + 63) / 64 * 64);
    struct command_stats *stats = command_stats_create(command_table_ids(options->table));
    if (runner == NULL || stats == NULL) {
        free(runner);
        if (stats != NULL) command_stats_destroy(stats);
        return NULL;
    }
    memset(runner, 0, sizeof(*runner));
    runner->options = *options;
    runner->stats = stats;
    runner->host.ctx = options->ctx;
    atomic_store(&runner->host.slow_ns, UINT64_MAX);
    atomic_store(&runner->host.open_to_all, true);
    atomic_store(&runner->host.bulk_bytes_max, INT64_MAX);
    dispatcher_init(&runner->dispatcher, options->keyspace, options->table, &runner->host, stats, options->worker, 1);
    runner->dispatcher.port = options->port;
    session_init(&runner->session, 0, clock_unix_ms());
    runner->session.authenticated = true;
    runner->session.replaying = true;
    runner->session.waiter.insists = true;
    reply_init(&runner->reply, NULL, 0, NULL, NULL);
    return runner;
}

void replay_runner_destroy(struct replay_runner *runner) {
    if (runner == NULL) return;
    reply_clear(&runner->reply);
    session_free(&runner->session);
    command_stats_destroy(runner->stats);
    free(runner);
}

uint64_t replay_runner_failures(const struct replay_runner *runner, const char **code) {
    *code = runner->first_code;
    return runner->failures;
}

static void note_errors(struct replay_runner *runner, uint64_t before) {
    if (runner->failures == 0) memcpy(runner->first_code, runner->reply.error_code, sizeof(runner->first_code));
    runner->failures += runner->reply.errors - before;
}

/* However often it has to stop. */
static bool run(struct replay_runner *runner, struct request *requests, unsigned count) {
    struct dispatcher *dispatcher = &runner->dispatcher;
    for (unsigned done = 0; done < count;) {
        enum dispatch_result result;
        uint64_t errors = runner->reply.errors;
        done += dispatch_requests(dispatcher, &runner->session, requests + done, count - done, &runner->reply, &result);
        if (runner->reply.errors != errors) note_errors(runner, errors);
        uint64_t composed = runner->reply.errors;
        reply_clear(&runner->reply);
        runner->reply.errors = composed;
        if (result != DISPATCH_MORE && result != DISPATCH_FULL) return false;
    }
    return true;
}

bool replay_runner_run(struct replay_runner *runner, uint32_t database, struct request *requests, unsigned count) {
    const struct replay_runner_options *options = &runner->options;
    struct retire_list *retired = options->keyspace->retired;
    bool takes_part = options->participant < LIMIT_WORKERS;
    bool looks_ahead = takes_part && !(options->is_shared && options->is_shared(options->ctx));
    struct dispatcher *dispatcher = &runner->dispatcher;
    dispatcher->now_ms = clock_unix_ms();
    runner->session.database = database;
    atomic_store_explicit(&runner->host.loading, !looks_ahead, memory_order_relaxed);
    if (takes_part) retire_online(retired, options->participant);
    bool ran = run(runner, requests, count);
    if (takes_part) retire_offline(retired, options->participant);
    if (dispatcher->port != NULL) {
        tier_port_reap(dispatcher->port);
        tier_port_submit(dispatcher->port);
        tier_port_turn_end(dispatcher->port, clock_monotonic_ns());
    }
    return ran;
}

void replay_runner_leave(struct replay_runner *runner) {
    if (runner->dispatcher.port != NULL) tier_port_drain(runner->dispatcher.port);
}
