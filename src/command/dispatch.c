/* Running commands. The steps are drawn in dispatch.h.
 *
 * A batch is prepared before its first command runs: names looked up, keys hashed, then the cache lines of all
 * their index buckets requested, then those of their records. The misses overlap, so a deep pipeline over a keyspace
 * larger than the caches pays a fraction of one DRAM latency per key.
 *
 * Preparation reads the index without a lock, as hints only; the memory it reads is kept alive by the worker's being
 * online (retire.h). */

#include "command/dispatch.h"

#include "base/clock.h"
#include "base/number.h"
#include "command/admission.h"
#include "command/prefetch.h"
#include "command/reply_room.h"
#include "keyspace/keyspace_copy.h"
#include "keyspace/keyspace_snapshot.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define COMMANDS_OF_ALL_SHARDS (COMMAND_EXCLUSIVE | COMMAND_ALL_SHARDS)

void dispatcher_init(struct dispatcher *dispatcher, struct keyspace *keyspace, const struct command_table *table,
                     struct command_host *host, struct command_stats *stats, unsigned worker, uint64_t seed) {
    memset(dispatcher, 0, sizeof(*dispatcher));
    dispatcher->keyspace = keyspace;
    dispatcher->table = table;
    dispatcher->host = host;
    dispatcher->stats = stats;
    dispatcher->worker = worker;
    dispatcher->effects.writer = worker;
    dispatcher->random_state = seed | 1;
}

/* ---- locks of several shards ---- */

void shard_set_lock(struct keyspace *keyspace, const struct shard_set *set) {
    if (!keyspace->locking) return;
    for (unsigned word = 0; word * 64 < keyspace->shard_count; word++)
        for (uint64_t bits = set->bits[word]; bits; bits &= bits - 1)
            shard_lock(&keyspace->shards[word * 64 + (unsigned)__builtin_ctzll(bits)]);
}

void shard_set_unlock(struct keyspace *keyspace, const struct shard_set *set) {
    if (!keyspace->locking) return;
    for (unsigned word = 0; word * 64 < keyspace->shard_count; word++)
        for (uint64_t bits = set->bits[word]; bits; bits &= bits - 1)
            shard_unlock(&keyspace->shards[word * 64 + (unsigned)__builtin_ctzll(bits)]);
}

void keyspace_lock_all(struct keyspace *keyspace) {
    for (uint32_t i = 0; i < keyspace->shard_count; i++) keyspace_lock(keyspace, i);
}

void keyspace_unlock_all(struct keyspace *keyspace) {
    for (uint32_t i = 0; i < keyspace->shard_count; i++) keyspace_unlock(keyspace, i);
}

/* ---- preparation ---- */

static const struct command *find_command(struct dispatcher *dispatcher, struct span name) {
    if (name.length == dispatcher->memo_length && bytes_equal(name.data, dispatcher->memo_name, name.length))
        return dispatcher->memo;
    const struct command *command = command_table_find(dispatcher->table, name);
    if (command && name.length <= sizeof(dispatcher->memo_name)) {
        memcpy(dispatcher->memo_name, name.data, name.length);
        dispatcher->memo_length = name.length;
        dispatcher->memo = command;
    }
    return command;
}

/* Not by the memo for what was told under a name that clients may not use. */
static void resolve(struct dispatcher *dispatcher, const struct session *session, struct request *request) {
    request->command = find_command(dispatcher, request->argv[0]);
    if (!request->command && (session->replaying || session->from_primary))
        request->command = command_table_find_told(dispatcher->table, request->argv[0]);
    if (!request->command || !request->command->subcommand_count || request->argc < 2) return;
    const struct command *subcommand = command_find_subcommand(request->command, request->argv[1]);
    if (subcommand) request->command = subcommand;
}

/* Room for `count` keys: in the arena if they fit. */
static struct key *room_for_keys(struct dispatcher *dispatcher, struct request *request, size_t used, size_t count) {
    if (used + count <= LIMIT_BATCH_KEYS) return dispatcher->keys + used;
    request->own_keys = malloc(count * sizeof(struct key));
    if (!request->own_keys) abort(); /* a fraction of the arguments already received */
    return request->own_keys;
}

/* Commands of a pipeline often go to one key: hashing it again costs more than seeing that it is the one before. */
static inline struct key key_behind(struct dispatcher *dispatcher, size_t used, struct span name) {
    if (used) {
        struct key before = dispatcher->keys[used - 1];
        if (before.name.length == name.length && bytes_equal(before.name.data, name.data, name.length)) {
            before.name = name;
            return before;
        }
    }
    return keyspace_key(dispatcher->keyspace, name);
}

static size_t prepare_range(struct dispatcher *dispatcher, struct request *request, size_t used) {
    const struct command *command = request->command;
    int64_t last = command->last_key >= 0 ? command->last_key : (int64_t)request->argc + command->last_key;
    if (last >= request->argc) last = request->argc - 1;
    if (last < command->first_key) return 0;
    if (last == command->first_key && used < LIMIT_BATCH_KEYS) {
        request->keys = &dispatcher->keys[used];
        *request->keys = key_behind(dispatcher, used, request->argv[last]);
        return 1;
    }
    size_t count = (size_t)(last - command->first_key) / (size_t)command->key_step + 1;
    request->keys = room_for_keys(dispatcher, request, used, count);
    for (size_t i = 0; i < count; i++)
        request->keys[i] =
            keyspace_key(dispatcher->keyspace, request->argv[command->first_key + (int64_t)i * command->key_step]);
    return count;
}

static size_t prepare_specs(struct dispatcher *dispatcher, struct request *request, size_t used) {
    uint32_t count = command_fitting_key_positions(request->command, request->argv, request->argc, NULL, 0);
    if (count == 0) return 0;
    uint32_t *positions = malloc(count * sizeof(*positions));
    if (!positions) abort();
    command_fitting_key_positions(request->command, request->argv, request->argc, positions, count);
    request->keys = room_for_keys(dispatcher, request, used, count);
    for (uint32_t i = 0; i < count; i++)
        request->keys[i] = keyspace_key(dispatcher->keyspace, request->argv[positions[i]]);
    free(positions);
    return count;
}

/* Looks the request's command up and hashes its keys. Returns how many keys of the arena it took. */
static size_t prepare(struct dispatcher *dispatcher, const struct session *session, struct request *request,
                      size_t used) {
    request->keys = request->own_keys = NULL;
    request->key_count = 0;
    resolve(dispatcher, session, request);
    const struct command *command = request->command;
    if (!command || command->no_keys || !command_arity_fits(command, request->argc)) return 0;
    size_t count =
        command->first_key ? prepare_range(dispatcher, request, used) : prepare_specs(dispatcher, request, used);
    request->key_count = (uint32_t)count;
    return request->own_keys ? 0 : count;
}

/* ---- running ---- */

static void count_errors(struct dispatcher *dispatcher, const struct reply *reply, uint64_t before) {
    if (reply->errors != before) command_stats_error(dispatcher->stats, reply->error_code);
}

static inline bool is_paused(const struct command_host *host) {
    return atomic_load_explicit((atomic_bool *)(uintptr_t)&host->paused, memory_order_relaxed);
}

static inline void show(const struct call *call) {
    struct command_host *host = call->dispatcher->host;
    if (host && atomic_load_explicit(&host->monitors, memory_order_relaxed) && host->monitor &&
        !(call->command->flags & COMMAND_SKIP_MONITOR))
        host->monitor(host->ctx, call);
}

static const char *why_unreadable(const struct call *call) {
    return call->session->waiter.refused ? ERROR_NO_MEMORY : ERROR_UNREADABLE;
}

/* Whether it has to be run again. Who was refused memory for something does not wait for the rest. */
static bool has_to_wait(struct call *call) {
    if (!view_misses(&call->view)) return call->waits;
    call->unreadable = call->unreadable || call->session->waiter.denied;
    return !call->session->waiter.denied;
}

/* The end of one command is the beginning of the next: one reading of the clock for each. A command that runs others
 * (EXEC) is measured from before the first of them. */
static inline void run(struct call *call) {
    struct dispatcher *dispatcher = call->dispatcher;
    struct command_host *host = dispatcher->host;
    const struct command *command = call->command;
    uint64_t errors = call->reply->errors, start = dispatcher->ticks;
    struct reply_mark mark = {0};
    if (__builtin_expect(call->view.port != NULL, 0)) {
        mark = reply_mark(call->reply);
        call->view.unreadable = &call->unreadable;
    }
    if (__builtin_expect(call->effects != NULL, 0)) effect_sink_open(call);
    command->handler(call);
    call->waits = has_to_wait(call);
    if (__builtin_expect(call->effects != NULL, 0)) effect_sink_close(call);
    if (__builtin_expect(call->waits || call->unfinished || call->reply->starved, 0)) return;
    if (__builtin_expect(call->unreadable, 0)) {
        if (call->blocks) blocked_undo(call);
        reply_forget(call->reply, mark);
        reply_error(call->reply, why_unreadable(call));
    }
    if (__builtin_expect(call_is_unseen(call), 0)) return;
    uint64_t end = clock_ticks();
    uint64_t elapsed = end > start ? clock_ticks_to_ns(end - start) : 0;
    dispatcher->ticks = end;
    if (__builtin_expect(call->blocks, 0)) {
        call->session->blocked->spent_ns = elapsed; /* counted when it ends */
        show(call);
        return;
    }
    bool failed = call->reply->errors != errors + call->counted_errors;
    command_stats_record(dispatcher->stats, command->id, elapsed, failed);
    if (__builtin_expect(dispatcher->node_executions != NULL, 0) && call->key_count)
        stat_add(&dispatcher->node_executions[keyspace_node_of(call->view.keyspace, call->keys[0].shard)], 1);
    if (failed) count_errors(dispatcher, call->reply, errors);
    if (!host) return;
    if (__builtin_expect(call->session->tracks, 0) && (command->flags & COMMAND_READONLY) && host->remember)
        host->remember(host->ctx, call);
    if (__builtin_expect(atomic_load_explicit(&host->is_replica, memory_order_relaxed), 0) &&
        (command->flags & COMMAND_WRITE) && !call->session->replaying && host->wrote_on_replica)
        host->wrote_on_replica(host->ctx, call);
    show(call);
    if (elapsed >= atomic_load_explicit(&host->slow_ns, memory_order_relaxed) && host->slow)
        host->slow(host->ctx, call, elapsed);
}

void dispatch_run(struct call *call) {
    run(call);
}

static bool stage(struct call *call) {
    bool pending = false, failed = false;
    for (uint32_t i = 0; i < call->key_count; i++) {
        enum keyspace_stage stage = keyspace_stage(&call->view, &call->keys[i], &call->session->waiter);
        pending = pending || stage == KEYSPACE_PENDING;
        failed = failed || stage == KEYSPACE_FAILED;
    }
    call->waits = pending && !(failed && call->session->waiter.denied);
    if (call->waits || !failed) return !pending;
    uint64_t errors = call->reply->errors;
    reply_error(call->reply, why_unreadable(call));
    command_stats_reject(call->dispatcher->stats, call->command->id);
    count_errors(call->dispatcher, call->reply, errors);
    return false;
}

/* Who repeats what was done before reads on the spot, unless told otherwise. */
static inline bool may_wait(const struct session *session) {
    return !session->replaying || session->waits_for_cold;
}

static inline void run_staged(struct call *call) {
    if (__builtin_expect(!call->view.port, 1) || !may_wait(call->session) || stage(call)) run(call);
}

void dispatch_staged(struct call *call) {
    run_staged(call);
}

/* Somebody may have been given what he waits for. While commands are only run again, nobody is served. */
static inline bool must_serve(const struct call *call) {
    return __builtin_expect(wait_is_any_marked(&call->view.keyspace->waits), 0) && !call_is_unseen(call);
}

static void run_with_all_locked(struct call *call) {
    struct keyspace *keyspace = call->view.keyspace;
    struct command_host *host = call->dispatcher->host;
    bool exclusive = (call->command->flags & COMMAND_EXCLUSIVE) && host && host->stop_workers;
    if (exclusive) host->stop_workers(host->ctx, call->dispatcher->worker);
    keyspace_lock_all(keyspace);
    call->view.locked_all = true;
    dispatch_staged(call);
    if (must_serve(call)) blocked_serve(call->dispatcher, NULL);
    keyspace_unlock_all(keyspace);
    if (exclusive) host->resume_workers(host->ctx, call->dispatcher->worker);
}

/* Somebody waits for a key of a shard it has locked: more shards may have to be locked for serving him. Unlocks. */
static void run_beside_waiters(struct call *call, struct shard_set *held) {
    struct keyspace *keyspace = call->view.keyspace;
    struct shard_set wanted = *held;
    while (!blocked_reach(call->dispatcher, call->keys, call->key_count, held, &wanted)) {
        shard_set_unlock(keyspace, held);
        *held = wanted;
        shard_set_lock(keyspace, held);
    }
    dispatch_staged(call);
    if (!call_is_unseen(call)) blocked_serve(call->dispatcher, held);
    shard_set_unlock(keyspace, held);
}

static void run_with_many_locked(struct call *call) {
    struct keyspace *keyspace = call->view.keyspace;
    struct shard_set set = {0};
    bool awaited = false;
    for (uint32_t i = 0; i < call->key_count; i++) shard_set_add(&set, call->keys[i].shard);
    shard_set_lock(keyspace, &set);
    for (uint32_t i = 0; i < call->key_count && !awaited; i++) awaited = keyspace->shards[call->keys[i].shard].waits;
    if (awaited) {
        run_beside_waiters(call, &set);
        return;
    }
    dispatch_staged(call);
    shard_set_unlock(keyspace, &set);
}

static void run_with_one_locked(struct call *call) {
    struct shard *shard = &call->view.keyspace->shards[call->keys[0].shard];
    shard_lock(shard);
    if (__builtin_expect(shard->waits != NULL, 0)) {
        struct shard_set set = {0};
        shard_set_add(&set, call->keys[0].shard);
        run_beside_waiters(call, &set);
        return;
    }
    dispatch_staged(call);
    shard_unlock(shard);
}

static inline bool needs_all_shards(const struct call *call) {
    const struct command *command = call->command;
    if (command->flags & COMMANDS_OF_ALL_SHARDS) return true;
    return (command->flags & COMMAND_MOVABLE_KEYS) && command->spec->reaches &&
           command->spec->reaches(call->argv, call->argc);
}

static __attribute__((noinline)) void lock_and_run(struct call *call) {
    if (needs_all_shards(call)) {
        run_with_all_locked(call);
    } else if (!call->view.keyspace->locking) {
        dispatch_staged(call);
        if (must_serve(call)) blocked_serve(call->dispatcher, NULL);
    } else if (call->key_count == 0) {
        dispatch_staged(call);
        if ((call->command->flags & COMMAND_WALKS) && must_serve(call)) blocked_serve_left(call->dispatcher);
    } else if (call->key_count == 1) {
        run_with_one_locked(call);
    } else {
        run_with_many_locked(call);
    }
}

/* ---- refusals ---- */

/* A refused EXEC ends the transaction all the same, and its error says so. */
static void refuse(struct dispatcher *dispatcher, struct session *session, const struct request *request,
                   struct reply *reply, const char *refusal) {
    uint64_t errors = reply->errors;
    if (request->command && (request->command->flags & COMMAND_ENDS_TRANSACTION)) {
        reply_error_format(reply, "EXECABORT Transaction discarded because of: %s",
                           strncmp(refusal, "ERR ", 4) == 0 ? refusal + 4 : refusal);
        transaction_discard(&session->transaction);
        transaction_unwatch(dispatcher, session, false);
    } else {
        reply_error(reply, refusal);
        if (session->transaction.open) session->transaction.refused = true;
    }
    if (request->command) command_stats_reject(dispatcher->stats, request->command->id);
    count_errors(dispatcher, reply, errors);
}

static void queue(struct session *session, const struct request *request, struct reply *reply) {
    struct transaction *transaction = &session->transaction;
    if (transaction->refused || transaction_queue(transaction, request->command, request->argv, request->argc)) {
        reply_simple(reply, "QUEUED");
        return;
    }
    transaction->refused = true;
    reply_error(reply, ERROR_NO_MEMORY);
}

/* What a command needs beside the records of its declared keys (pages of big collections, keys it comes to by itself)
 * is not staged: it is run to its end with what is at hand, without changing anything once something was missing, and
 * again when that has come. */
static bool run_with_tier(struct call *call) {
    struct session *session = call->session;
    struct reply_mark mark = reply_mark(call->reply);
    uint64_t errors = call->reply->errors;
    call->view.port = call->dispatcher->port;
    if ((call->command->flags & (COMMAND_READONLY | COMMAND_WRITE)) && may_wait(session))
        call->view.waiter = &session->waiter;
    session->waiter.committed = session->waiter.missed = session->waiter.denied = false;
    session->waiter.stores = call->command->flags & COMMAND_DENYOOM;
    if (!session->reruns) session->random = dispatcher_random(call->dispatcher);
    lock_and_run(call);
    tier_bound(call->view.port);
    session->reruns = call->waits;
    if (!call->waits) return false;
    reply_rewind(call->reply, mark);
    call->reply->errors = errors;
    session->commands--;
    return true;
}

/* A command that may do its work in slices: its place is kept while others run. What it has begun is given up when it
 * ends otherwise. */
static bool run_in_slices(struct call *call) {
    struct session *session = call->session;
    struct command_host *host = call->dispatcher->host;
    struct reply_mark mark = reply_mark(call->reply);
    uint64_t errors = call->reply->errors;
    call->may_pause = host && host->come_again && !session->replaying;
    bool waits = false;
    if (call->dispatcher->port)
        waits = run_with_tier(call);
    else
        lock_and_run(call);
    if (waits) return true;
    if (!call->unfinished) {
        keyspace_copy_free(session->unfinished);
        session->unfinished = NULL;
        return false;
    }
    reply_rewind(call->reply, mark);
    call->reply->errors = errors;
    session->commands--;
    session->paused = true;
    host->come_again(host->ctx, session, call->rest_ms);
    return true;
}

/* On a replica what has expired is removed by the primary; while clients are paused, by nobody. */
bool dispatch_leaves_expired(const struct dispatcher *dispatcher, const struct command *command) {
    bool paused = dispatcher->host && is_paused(dispatcher->host);
    return (paused || atomic_load_explicit(&dispatcher->keyspace->keeps_expired, memory_order_relaxed)) &&
           !(command->flags & COMMAND_WRITE);
}

/* Whether the request may run; if not, its error is composed. */
static __attribute__((noinline)) bool admit_or_refuse(struct dispatcher *dispatcher, struct session *session,
                                                      const struct request *request, struct reply *reply) {
    char refusal[ADMISSION_REFUSAL_MAX];
    if (admission_ask(dispatcher, session, request, refusal)) return true;
    refuse(dispatcher, session, request, reply, refusal);
    return false;
}

/* True: it waits, and has to be run again. */
static inline bool run_request(struct dispatcher *dispatcher, struct session *session, struct request *request,
                               struct reply *reply) {
    session->commands++;
    if (__builtin_expect(!admission_is_plain(dispatcher, session, request), 0) &&
        !admit_or_refuse(dispatcher, session, request, reply))
        return false;
    session->last_command = request->command;
    if (session->transaction.open && !(request->command->flags & COMMAND_CONTROL)) {
        queue(session, request, reply);
        return false;
    }
    struct call call = {.command = request->command,
                        .argv = request->argv,
                        .argc = request->argc,
                        .key_count = request->key_count,
                        .keys = request->keys,
                        .reply = reply,
                        .session = session,
                        .dispatcher = dispatcher,
                        .received = request->received,
                        .effects = effect_sink_wanted(dispatcher, session, request->command),
                        .in_transaction = session->replaying};
    call.view = (struct view){.keyspace = dispatcher->keyspace,
                              .database = session->database,
                              .keep_access = session->no_touch || (request->command->flags & COMMAND_KEEP_ACCESS),
                              .replays = session->replaying,
                              .leaves_expired = dispatch_leaves_expired(dispatcher, request->command),
                              .client = session->id,
                              .now_ms = dispatcher->now_ms,
                              .random = (uint32_t)(dispatcher->ticks * 0x9e3779b97f4a7c15u >> 32)};
    if (__builtin_expect(session->unfinished != NULL, 0) || (request->command->flags & COMMAND_SLICED))
        return run_in_slices(&call);
    if (__builtin_expect(dispatcher->port != NULL, 0)) return run_with_tier(&call);
    if (call.view.keyspace->locking || (request->command->flags & (COMMANDS_OF_ALL_SHARDS | COMMAND_MOVABLE_KEYS))) {
        lock_and_run(&call);
    } else {
        run_staged(&call);
        if (must_serve(&call)) {
            dispatcher->blocked.likely_shard = call.key_count ? call.keys[0].shard : 0;
            blocked_serve(dispatcher, NULL);
        }
    }
    return false;
}

/* CLIENT REPLY: the reply of a command whose client does not want it is composed and forgotten. What a subscription
 * tells is no reply. */
static bool run_as_wanted(struct dispatcher *dispatcher, struct session *session, struct request *request,
                          struct reply *reply) {
    uint8_t mode = session->reply_mode;
    struct reply_mark mark = reply_mark(reply);
    if (mode == SESSION_REPLY_SKIP) session->reply_mode = SESSION_REPLY_ON;
    session->told = false;
    if (run_request(dispatcher, session, request, reply)) {
        session->reply_mode = mode;
        return true;
    }
    bool unwanted = mode == SESSION_REPLY_SKIP || session->reply_mode == SESSION_REPLY_OFF;
    if (unwanted && !session->told) reply_rewind(reply, mark);
    if (session->blocked) session->blocked->unanswered = true;
    return false;
}

static bool run_as_replied(struct dispatcher *dispatcher, struct session *session, struct request *request,
                           struct reply *reply) {
    if (__builtin_expect(session->reply_mode == SESSION_REPLY_ON, 1))
        return run_request(dispatcher, session, request, reply);
    return run_as_wanted(dispatcher, session, request, reply);
}

/* It was refused memory: as if it had not been run. What it wants is known when it has run to its end. */
static void take_back(struct session *session, struct reply *reply, struct reply_mark mark, uint64_t errors,
                      bool waits) {
    if (waits) {
        session->reply_wanted = 0;
        return;
    }
    session->commands--;
    reply_rewind(reply, mark);
    reply->errors = errors;
}

/* A read that was refused memory for its reply is run when there is enough. True: it waits. */
static __attribute__((noinline)) bool run_with_room(struct dispatcher *dispatcher, struct session *session,
                                                    struct request *request, struct reply *reply) {
    struct reply_mark mark = reply_mark(reply);
    uint64_t errors = reply->errors;
    for (;;) {
        enum memory_answer answer = reply_room_begin(dispatcher, session, reply);
        if (answer == MEMORY_REFUSED) {
            session->commands++;
            refuse(dispatcher, session, request, reply, ERROR_NO_MEMORY);
        }
        if (answer != MEMORY_RUN) return answer == MEMORY_WAIT;
        bool waits = run_request(dispatcher, session, request, reply);
        if (reply_room_end(session, reply)) return waits;
        take_back(session, reply, mark, errors, waits);
        if (waits) return true;
    }
}

/* Nearly always the reply is so short that it asks nobody. */
static inline bool run_bounded(struct dispatcher *dispatcher, struct session *session, struct request *request,
                               struct reply *reply) {
    if (__builtin_expect(session->reply_wanted != 0, 0)) return run_with_room(dispatcher, session, request, reply);
    struct reply_mark mark = reply_mark(reply);
    uint64_t errors = reply->errors;
    reply_room_begin_short(dispatcher, session, reply);
    bool waits = run_request(dispatcher, session, request, reply);
    if (__builtin_expect(reply_room_end(session, reply), 1)) return waits;
    take_back(session, reply, mark, errors, waits);
    return waits || run_with_room(dispatcher, session, request, reply);
}

/* Where the reply is forgotten, so is the question. */
static inline bool is_bounded(const struct dispatcher *dispatcher, const struct session *session,
                              const struct request *request, bool bounded) {
    return bounded && request->command && (request->command->flags & COMMAND_READONLY) && dispatcher->host->has_room &&
           session->reply_mode == SESSION_REPLY_ON && !session->replaying && !session->transaction.open;
}

/* The batch has to stop for cold records: those of the commands behind are asked for as well, so that all reads are
 * under way together. */
static void request_ahead(struct dispatcher *dispatcher, struct session *session, const struct request *requests,
                          unsigned count) {
    struct view view = {.keyspace = dispatcher->keyspace,
                        .database = session->database,
                        .port = dispatcher->port,
                        .now_ms = dispatcher->now_ms};
    if (session->transaction.open) return;
    for (unsigned i = 0; i < count; i++)
        for (uint32_t k = 0; k < requests[i].key_count; k++) {
            if (tier_is_crowded(dispatcher->port)) return;
            const struct key *key = &requests[i].keys[k];
            keyspace_lock(dispatcher->keyspace, key->shard);
            (void)keyspace_stage(&view, key, &session->waiter);
            keyspace_unlock(dispatcher->keyspace, key->shard);
        }
}

static size_t argument_bytes(const struct session *session, const struct request *request) {
    size_t bytes = 0;
    if (request->command->flags & COMMAND_ENDS_TRANSACTION) return session->transaction.bytes;
    for (uint32_t i = 1; i < request->argc; i++) bytes += request->argv[i].length;
    return bytes;
}

static bool must_wait_for_memory(struct dispatcher *dispatcher, struct session *session,
                                 const struct request *request) {
    struct command_host *host = dispatcher->host;
    bool needs = admission_any_has(session, request->command, COMMAND_DENYOOM);
    bool replies =
        (request->command->flags & COMMAND_READONLY) && atomic_load_explicit(&host->memory_tight, memory_order_relaxed);
    if ((!needs && !replies) || session->reply_wanted || !host->ask_memory) return false;
    enum memory_answer answer =
        host->ask_memory(host->ctx, session, dispatcher->worker, needs, needs ? argument_bytes(session, request) : 0);
    dispatcher->no_memory = answer == MEMORY_REFUSED;
    session->paused = answer == MEMORY_WAIT;
    return session->paused;
}

/* Changes are read by somebody who has fallen behind: of the journal, or the walkers of a snapshot. */
static inline bool followers_lag(const struct dispatcher *dispatcher) {
    const struct journal *journal = dispatcher->effects.journal;
    return (journal && journal_is_crowded(journal)) ||
           (atomic_load_explicit(&dispatcher->keyspace->snapshot, memory_order_relaxed) &&
            keyspace_snapshot_is_crowded(dispatcher->keyspace));
}

/* What would write waits, before it locks anything, until those who follow have caught up. */
static bool must_wait_for_followers(struct dispatcher *dispatcher, struct session *session,
                                    const struct request *request) {
    struct command_host *host = dispatcher->host;
    const struct command *command = request->command;
    bool queued = session->transaction.open && !(command->flags & COMMAND_ENDS_TRANSACTION);
    if (queued || !admission_any_has(session, command, COMMAND_WRITE | COMMAND_MAY_REPLICATE) || !session->connection ||
        !host->come_again || !followers_lag(dispatcher))
        return false;
    session->paused = true;
    host->come_again(host->ctx, session, 0);
    return true;
}

/* Whether must_wait() has to be asked: it looks at each command. */
static inline bool may_have_to_wait(struct dispatcher *dispatcher, const struct request *request, bool bounded) {
    const struct command *command = request->command;
    dispatcher->no_memory = false;
    return (bounded && command &&
            ((command->flags & (COMMAND_DENYOOM | COMMAND_ENDS_TRANSACTION)) ||
             atomic_load_explicit(&dispatcher->host->memory_tight, memory_order_relaxed))) ||
           followers_lag(dispatcher) || (dispatcher->host && is_paused(dispatcher->host));
}

static __attribute__((noinline)) bool must_wait(struct dispatcher *dispatcher, struct session *session,
                                                const struct request *request, bool bounded) {
    struct command_host *host = dispatcher->host;
    if (!host || !request->command || session->replaying) return false;
    if (must_wait_for_followers(dispatcher, session, request)) return true;
    /* What is refused anyway is so at once. */
    if (is_paused(host) && command_arity_fits(request->command, request->argc)) {
        session->paused = host->must_wait && host->must_wait(host->ctx, session, request->command, dispatcher->now_ms);
        if (session->paused) return true;
    }
    return bounded && must_wait_for_memory(dispatcher, session, request);
}

/* Reply bytes composed before they are sent. */
static size_t most_reply(const struct command_host *host, bool bounded) {
    bool tight = bounded && atomic_load_explicit(&host->memory_tight, memory_order_relaxed);
    return tight ? LIMIT_TIGHT_BYTES : LIMIT_PENDING_REPLY_BYTES;
}

/* Whether there is a memory limit; looks how near it is, once a batch. */
static bool look_at_memory(struct dispatcher *dispatcher) {
    struct command_host *host = dispatcher->host;
    dispatcher->no_memory = false;
    if (!host || !atomic_load_explicit(&host->memory_bounded, memory_order_relaxed)) return false;
    if (host->look_at_memory) host->look_at_memory(host->ctx);
    return true;
}

static inline void take_messages(struct dispatcher *dispatcher, struct session *session, struct reply *reply) {
    struct command_host *host = dispatcher->host;
    if (__builtin_expect(session->listens, 0) && host->take_messages)
        host->take_messages(host->ctx, session, dispatcher->worker, reply);
}

static inline void prefetch_for(struct prefetcher *prefetcher, const struct dispatcher *dispatcher,
                                const struct request *request) {
    if (prefetcher->count && request->keys && !request->own_keys)
        prefetch_up_to(prefetcher, (size_t)(request->keys - dispatcher->keys) + request->key_count - 1);
}

/* Commands that are only run again wait for nothing by themselves, so the cold records of the whole batch are asked for
 * and waited for before: one after the other they would be read a hundred times slower. Nobody takes the waiter off the
 * port's ready ones for it; it leaves them when the batch ends (tier_run_ends()), so none outlives its session. */
static void fetch_for_replay(struct dispatcher *dispatcher, struct session *session, const struct request *requests,
                             unsigned count, struct prefetcher *prefetcher) {
    for (unsigned i = 0; i < count; i++) {
        prefetch_for(prefetcher, dispatcher, &requests[i]);
        request_ahead(dispatcher, session, &requests[i], 1);
    }
    while (session->waiter.outstanding) tier_port_wait(dispatcher->port);
    session->waiter.missed = false;
}

unsigned dispatch_requests(struct dispatcher *dispatcher, struct session *session, struct request *requests,
                           unsigned count, struct reply *reply, enum dispatch_result *result) {
    size_t keys = 0;
    unsigned done = 0;
    bool bounded = look_at_memory(dispatcher);
    for (unsigned i = 0; i < count; i++) keys += prepare(dispatcher, session, &requests[i], keys);
    if (count > 1)
        for (unsigned i = 0; i < count; i++) prefetch_room(dispatcher, &requests[i]);
    struct prefetcher prefetcher;
    prefetch_begin(&prefetcher, dispatcher, session->database, admission_is_loading(dispatcher->host) ? 0 : keys,
                   requests, count);
    *result = DISPATCH_MORE;
    take_messages(dispatcher, session, reply);
    dispatcher->ticks = clock_ticks();
    if (dispatcher->port) tier_run_begins(&session->waiter);
    if (dispatcher->port && !may_wait(session) && !tier_reads_at_once(dispatcher->port))
        fetch_for_replay(dispatcher, session, requests, count, &prefetcher);
    while (done < count && *result == DISPATCH_MORE) {
        if (may_have_to_wait(dispatcher, &requests[done], bounded) &&
            must_wait(dispatcher, session, &requests[done], bounded)) {
            *result = DISPATCH_PAUSED;
            break;
        }
        prefetch_for(&prefetcher, dispatcher, &requests[done]);
        if (__builtin_expect(is_bounded(dispatcher, session, &requests[done], bounded), 0)
                ? run_bounded(dispatcher, session, &requests[done], reply)
                : run_as_replied(dispatcher, session, &requests[done], reply)) {
            if (!session->paused) request_ahead(dispatcher, session, requests + done + 1, count - done - 1);
            *result = session->paused ? DISPATCH_PAUSED : DISPATCH_WAITS;
            break;
        }
        done++;
        take_messages(dispatcher, session, reply);
        if (session->closing)
            *result = DISPATCH_CLOSE;
        else if (session->blocked)
            *result = DISPATCH_BLOCKED;
        else if (reply_bytes_pending(reply) >= most_reply(dispatcher->host, bounded))
            *result = DISPATCH_FULL;
    }
    /* Who waits for room for the reply keeps what it is to be made of. */
    bool keeps = *result == DISPATCH_WAITS || (*result == DISPATCH_PAUSED && session->reply_wanted);
    if (dispatcher->port) tier_run_ends(dispatcher->port, &session->waiter, keeps);
    for (unsigned i = 0; i < count; i++)
        if (__builtin_expect(requests[i].own_keys != NULL, 0)) free(requests[i].own_keys);
    return done;
}

/* ---- input ---- */

struct batch {
    unsigned count;
    size_t arguments; /* of the arena */
    bool malformed;
    bool dropped; /* it begins with the end of a command that was passed over: nothing else is in it */
    size_t ends[LIMIT_BATCH_COMMANDS]; /* where each of `count` commands ends in the buffer */
};

/* Parses up to a batch of commands from `buffer`; returns how many bytes were looked at and are not part of an
 * unfinished command. */
static size_t parse_batch(struct dispatcher *dispatcher, const struct session *session, struct resp_parser *parser,
                          struct span buffer, struct batch *batch) {
    struct command_host *host = dispatcher->host;
    struct resp_limits limits = {.unauthenticated = admission_needs_password(host, session),
                                 .bulk_bytes = host ? atomic_load_explicit(&host->bulk_bytes_max, memory_order_relaxed)
                                                    : LIMIT_VALUE_BYTES};
    /* The limits of a client not yet authenticated may end with its next command. */
    unsigned most = limits.unauthenticated ? 1 : session->batch_most ? session->batch_most : LIMIT_BATCH_COMMANDS;
    size_t at = 0;
    batch->count = 0;
    batch->arguments = 0;
    batch->malformed = batch->dropped = false;
    while (batch->count < most && batch->arguments < LIMIT_BATCH_ARGUMENTS) {
        struct request *request = &dispatcher->requests[batch->count];
        struct span *argv = dispatcher->arguments + batch->arguments;
        size_t consumed = 0;
        enum resp_parse_result result =
            resp_parse(parser, span_of(buffer.data + at, buffer.length - at), &limits, argv,
                       LIMIT_BATCH_ARGUMENTS - batch->arguments, &request->argv, &request->argc, &consumed);
        if (result == RESP_PARSE_INCOMPLETE) break;
        if (result == RESP_PARSE_ERROR) {
            batch->malformed = true;
            break;
        }
        request->received = span_of(buffer.data + at, consumed);
        at += consumed;
        if (result == RESP_PARSE_EMPTY) continue;
        if (result == RESP_PARSE_SKIPPED) {
            batch->dropped = true;
            break;
        }
        batch->ends[batch->count++] = at;
        if (request->argv != argv) break; /* the parser's own array holds one command at a time */
        batch->arguments += request->argc;
    }
    return at;
}

/* The end of a command that there was no memory to receive. */
static void refuse_dropped(struct dispatcher *dispatcher, struct session *session, struct reply *reply) {
    struct request unknown = {0};
    struct reply_mark mark = reply_mark(reply);
    refuse(dispatcher, session, &unknown, reply, ERROR_NO_MEMORY);
    if (session->reply_mode != SESSION_REPLY_ON) reply_rewind(reply, mark);
    if (session->reply_mode == SESSION_REPLY_SKIP) session->reply_mode = SESSION_REPLY_ON;
}

/* A batch that a wait has cut off is followed by one command, and these by twice as many as before. */
static inline void set_next_batch(struct session *session, enum dispatch_result result) {
    if (result == DISPATCH_BLOCKED)
        session->batch_most = 1;
    else if (session->batch_most && result == DISPATCH_MORE)
        session->batch_most = session->batch_most * 2 < LIMIT_BATCH_COMMANDS ? (uint8_t)(session->batch_most * 2) : 0;
}

enum dispatch_result dispatch_input(struct dispatcher *dispatcher, struct session *session, struct resp_parser *parser,
                                    struct span buffer, struct reply *reply, size_t *consumed) {
    *consumed = 0;
    for (;;) {
        struct batch batch;
        struct span rest = span_of(buffer.data + *consumed, buffer.length - *consumed);
        size_t parsed = parse_batch(dispatcher, session, parser, rest, &batch);
        enum dispatch_result result = DISPATCH_MORE;
        unsigned done = dispatch_requests(dispatcher, session, dispatcher->requests, batch.count, reply, &result);
        set_next_batch(session, result);
        if (done < batch.count) {
            /* What was parsed behind the last command that ran is parsed again later. */
            *consumed += done ? batch.ends[done - 1] : 0;
            resp_parser_reset(parser);
            return result;
        }
        *consumed += parsed;
        if (result != DISPATCH_MORE) {
            if (batch.malformed) resp_parser_reset(parser);
            return result;
        }
        if (!batch.malformed) resp_parser_trim(parser);
        if (__builtin_expect(batch.dropped, 0)) refuse_dropped(dispatcher, session, reply);
        if (batch.malformed) {
            reply_error(reply, parser->error);
            command_stats_error(dispatcher->stats, reply->error_code);
            session->closing = true;
            return DISPATCH_CLOSE;
        }
        if (batch.count == 0 && parsed == 0) return DISPATCH_MORE;
        if (*consumed == buffer.length) return DISPATCH_MORE;
    }
}

enum dispatch_result dispatch_arguments(struct dispatcher *dispatcher, struct session *session, struct span *argv,
                                        uint32_t argc, struct reply *reply) {
    struct request request = {.argv = argv, .argc = argc};
    enum dispatch_result result;
    assert(argc > 0);
    dispatch_requests(dispatcher, session, &request, 1, reply, &result);
    return result;
}

/* ---- helpers of handlers ---- */

bool call_integer(struct call *call, uint32_t index, int64_t *value) {
    if (number_parse_i64(call->argv[index], value)) return true;
    reply_error(call->reply, ERROR_NOT_INTEGER);
    return false;
}

bool call_integer_within(struct call *call, uint32_t index, int64_t min, int64_t max, const char *error,
                         int64_t *value) {
    if (number_parse_i64(call->argv[index], value) && *value >= min && *value <= max) return true;
    reply_error(call->reply, error ? error : ERROR_NOT_INTEGER);
    return false;
}

void call_help(struct call *call, const char *const *lines) {
    char name[64];
    const char *command = (call->command->parent ? call->command->parent : call->command)->spec->name;
    size_t length = 0, count = 0;
    for (; command[length] && length + 1 < sizeof(name); length++) name[length] = (char)(command[length] & ~0x20);
    name[length] = '\0';
    while (lines[count]) count++;
    char heading[160];
    snprintf(heading, sizeof(heading), "%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name);
    reply_array(call->reply, count + 3);
    reply_simple(call->reply, heading);
    for (size_t i = 0; i < count; i++) reply_simple(call->reply, lines[i]);
    reply_simple(call->reply, "HELP");
    reply_simple(call->reply, "    Prints this help.");
}
