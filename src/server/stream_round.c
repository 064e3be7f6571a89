/* Rounds and their groups. See stream_round.h.
 *
 * `ticket` says which round is open and which of its groups is the next to be taken: number << 32 | groups << 16 |
 * next. Who takes a group adds one by compare-and-swap, so a ticket of a round that is over is never good, and whatever
 * the round consists of is seen by whoever has taken one of its groups. `done` counts the groups that have been run;
 * worker 0 waits for those that others have taken, which are at most one for each, of a hundred commands or so.
 *
 * `waits[shard]` is written by who runs the shard's group, and by worker 0 between rounds. */

#include "server/stream_round.h"

#include "base/log.h"
#include "server/server.h"
#include "server/stream_parked.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    COMMANDS = 4096, /* of a round that is split */
    ARGUMENTS = 16384,
    COMMANDS_PER_GROUP = 96, /* long enough to be worth taking, short enough to be waited for */
    COMMANDS_SHARED = 256,   /* fewer are done before another worker has woken up */
    GROUPS = 256,
    SPINS = 2000,       /* before the CPU is left to others */
    ERRORS_LOGGED = 20, /* of one link */
};

struct runner {
    struct session session;
    struct reply reply;
    struct request requests[LIMIT_BATCH_COMMANDS];
    struct stream_command *of[LIMIT_BATCH_COMMANDS];
} __attribute__((aligned(64)));

struct stream_round {
    struct server *server;
    struct stream_parked *parked;
    unsigned runner_count;
    struct runner *runners; /* one a worker */
    bool splits;
    bool alone;              /* what was added is to be run in order */
    unsigned count, most;    /* commands */
    unsigned argument_count; /* in `arguments` */
    struct stream_command *commands;
    struct span *arguments;
    /* While it is run on all workers: numbers of commands by groups. */
    uint16_t *order;
    unsigned ends[GROUPS];
    atomic_bool left_behind;
    atomic_uint errors_logged;
    uint32_t number;
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) atomic_uint done;
    _Alignas(64) unsigned char waits[LIMIT_SHARDS];
};

/* ---- life ---- */

struct stream_round *stream_round_create(struct server *server) {
    struct stream_round *round = aligned_alloc(64, (sizeof(*round) + 63) / 64 * 64);
    if (!round) return NULL;
    memset(round, 0, sizeof(*round));
    round->server = server;
    round->runner_count = server->worker_count;
    round->splits = server->worker_count > 1 || server->tier;
    round->most = round->splits ? COMMANDS : LIMIT_BATCH_COMMANDS;
    round->runners = aligned_alloc(64, server->worker_count * sizeof(*round->runners));
    if (round->runners) memset(round->runners, 0, server->worker_count * sizeof(*round->runners));
    round->commands = malloc(round->most * sizeof(*round->commands));
    round->arguments = malloc(ARGUMENTS * sizeof(*round->arguments));
    round->order = malloc(round->most * sizeof(*round->order));
    round->parked = stream_parked_create(server, round);
    if (round->runners && round->commands && round->arguments && round->order && round->parked) return round;
    stream_round_destroy(round);
    return NULL;
}

void stream_round_destroy(struct stream_round *round) {
    if (!round) return;
    stream_parked_destroy(round->parked);
    free(round->runners);
    free(round->commands);
    free(round->arguments);
    free(round->order);
    free(round);
}

void stream_round_begin(struct stream_round *round, int64_t now_ms) {
    atomic_store(&round->errors_logged, 0);
    for (unsigned i = 0; i < round->runner_count; i++) {
        struct runner *runner = &round->runners[i];
        session_init(&runner->session, 0, now_ms);
        runner->session.authenticated = runner->session.replaying = runner->session.from_primary = true;
        reply_init(&runner->reply, NULL, 0, NULL, NULL);
    }
}

void stream_round_end(struct stream_round *round) {
    for (unsigned i = 0; i < round->runner_count; i++) {
        session_free(&round->runners[i].session);
        reply_clear(&round->runners[i].reply);
    }
}

bool stream_round_splits(const struct stream_round *round) {
    return round->splits;
}

struct stream_parked *stream_round_parked(struct stream_round *round) {
    return round->parked;
}

void stream_round_unpark(struct stream_round *round, uint32_t shard) {
    round->waits[shard] = 0;
}

void stream_round_log_error(struct stream_round *round, const char *code) {
    if (atomic_fetch_add(&round->errors_logged, 1) >= ERRORS_LOGGED) return;
    log_warning("== CRITICAL == a command of the stream failed on this replica: %s", code);
}

/* ---- filling ---- */

struct span *stream_round_room(struct stream_round *round, uint32_t argc) {
    if (round->count == round->most || argc > ARGUMENTS - round->argument_count) return NULL;
    return round->arguments + round->argument_count;
}

static bool is_alone(const struct stream_round *round, uint32_t shard) {
    return shard == STREAM_ALONE && round->splits;
}

bool stream_round_fits(const struct stream_round *round, uint32_t shard) {
    return round->count == 0 || round->alone == is_alone(round, shard);
}

void stream_round_add(struct stream_round *round, const struct stream_command *command) {
    round->alone = is_alone(round, command->shard);
    if (command->argv == round->arguments + round->argument_count) round->argument_count += command->argc;
    round->commands[round->count++] = *command;
}

/* ---- running, on any worker ---- */

static void leave(struct stream_round *round, struct stream_command *command) {
    command->left = true;
    atomic_store_explicit(&round->left_behind, true, memory_order_relaxed);
}

/* The next commands of the list that can be run together: of one database, and none that has been left behind. */
static unsigned gather(struct stream_round *round, struct runner *runner, const uint16_t *list, unsigned count,
                       unsigned *at) {
    unsigned gathered = 0;
    for (; *at < count && gathered < LIMIT_BATCH_COMMANDS; (*at)++) {
        struct stream_command *command = &round->commands[list ? list[*at] : *at];
        if (command->shard != STREAM_ALONE && round->waits[command->shard]) {
            leave(round, command);
            continue;
        }
        if (gathered && command->database != runner->of[0]->database) break;
        runner->requests[gathered] = (struct request){.argv = command->argv, .argc = command->argc};
        runner->of[gathered++] = command;
    }
    return gathered;
}

/* Request number `at` waits for a cold record. What was asked for goes on being read, for the one who parks it. */
static unsigned go_round(struct stream_round *round, struct worker *worker, struct runner *runner, unsigned at,
                         unsigned count) {
    unsigned kept = at;
    tier_release(worker->dispatcher.port, &runner->session.waiter);
    runner->session.reruns = false;
    round->waits[runner->of[at]->shard] = 1;
    for (unsigned i = at; i < count; i++) {
        if (round->waits[runner->of[i]->shard]) {
            leave(round, runner->of[i]);
            continue;
        }
        runner->of[kept] = runner->of[i];
        runner->requests[kept++] = (struct request){.argv = runner->of[i]->argv, .argc = runner->of[i]->argc};
    }
    return kept;
}

/* The commands of the list, in order; NULL: all of them. */
static void run_list(struct stream_round *round, struct worker *worker, const uint16_t *list, unsigned count) {
    struct runner *runner = &round->runners[worker->id];
    runner->session.waits_for_cold = worker->dispatcher.port && !round->alone;
    for (unsigned at = 0; at < count;) {
        unsigned gathered = gather(round, runner, list, count, &at);
        if (gathered) runner->session.database = runner->of[0]->database;
        for (unsigned done = 0; done < gathered;) {
            enum dispatch_result result;
            uint64_t errors = runner->reply.errors;
            done += dispatch_requests(&worker->dispatcher, &runner->session, runner->requests + done, gathered - done,
                                      &runner->reply, &result);
            if (runner->reply.errors != errors) stream_round_log_error(round, runner->reply.error_code);
            reply_clear(&runner->reply);
            runner->session.closing = false;
            if (result == DISPATCH_WAITS) gathered = go_round(round, worker, runner, done, gathered);
        }
    }
}

/* Takes groups until none is left, or another round is open. */
static void take_groups(struct stream_round *round, struct worker *worker, uint32_t number) {
    uint64_t ticket = atomic_load_explicit(&round->ticket, memory_order_acquire);
    for (;;) {
        unsigned groups = ticket >> 16 & 0xffff, next = ticket & 0xffff;
        if ((uint32_t)(ticket >> 32) != number || next >= groups) return;
        if (!atomic_compare_exchange_weak_explicit(&round->ticket, &ticket, ticket + 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        unsigned begin = next ? round->ends[next - 1] : 0;
        run_list(round, worker, round->order + begin, round->ends[next] - begin);
        atomic_fetch_add_explicit(&round->done, 1, memory_order_release);
        ticket = atomic_load_explicit(&round->ticket, memory_order_acquire);
    }
}

void stream_round_help(struct stream_round *round, struct worker *worker) {
    if (!round) return;
    uint64_t ticket = atomic_load_explicit(&round->ticket, memory_order_acquire);
    if ((ticket & 0xffff) < (ticket >> 16 & 0xffff)) take_groups(round, worker, (uint32_t)(ticket >> 32));
}

/* ---- a round, on worker 0 ---- */

/* Sorts the numbers of the commands by groups, keeping their order within. */
static unsigned deal(struct stream_round *round) {
    unsigned groups = round->count / COMMANDS_PER_GROUP, at = 0, begins[GROUPS];
    if (groups < round->runner_count) groups = round->runner_count;
    if (groups > GROUPS) groups = GROUPS;
    memset(round->ends, 0, groups * sizeof(*round->ends));
    for (unsigned i = 0; i < round->count; i++) round->ends[round->commands[i].shard % groups]++;
    for (unsigned i = 0; i < groups; i++) {
        begins[i] = at;
        at += round->ends[i];
        round->ends[i] = at;
    }
    for (unsigned i = 0; i < round->count; i++) round->order[begins[round->commands[i].shard % groups]++] = (uint16_t)i;
    return groups;
}

static void run_shared(struct stream_round *round) {
    struct server *server = round->server;
    unsigned groups = deal(round), spins = 0, wanted = round->count / COMMANDS_SHARED;
    atomic_store_explicit(&round->done, 0, memory_order_relaxed);
    round->number++;
    atomic_store_explicit(&round->ticket, (uint64_t)round->number << 32 | (uint64_t)groups << 16, memory_order_release);
    for (unsigned i = 1; i < server->worker_count && i <= wanted; i++) worker_wake(server->workers[i]);
    take_groups(round, server->workers[0], round->number);
    while (atomic_load_explicit(&round->done, memory_order_acquire) < groups)
        if (++spins > SPINS) sched_yield();
}

/* There is no memory to keep the command with: its shard is waited for. */
static void run_on_the_spot(struct stream_round *round, uint16_t number) {
    stream_parked_settle(round->parked, round->commands[number].shard);
    stream_round_unpark(round, round->commands[number].shard);
    round->alone = true;
    run_list(round, round->server->workers[0], &number, 1);
}

/* What was left behind goes to where its shard's commands wait. */
static void park_left(struct stream_round *round) {
    if (!atomic_load_explicit(&round->left_behind, memory_order_relaxed)) return;
    atomic_store_explicit(&round->left_behind, false, memory_order_relaxed);
    for (unsigned i = 0; i < round->count; i++)
        if (round->commands[i].left && !stream_parked_put(round->parked, &round->commands[i]))
            run_on_the_spot(round, (uint16_t)i);
    stream_parked_turn(round->parked); /* asks for what they wait for */
}

void stream_round_run(struct stream_round *round) {
    if (round->count == 0) return;
    if (!round->alone && round->runner_count > 1 && round->count >= COMMANDS_SHARED)
        run_shared(round);
    else
        run_list(round, round->server->workers[0], NULL, round->count);
    park_left(round);
    round->count = round->argument_count = 0;
}
