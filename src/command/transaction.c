/* MULTI, EXEC, DISCARD, WATCH, UNWATCH. The queue's layout is in transaction.h.
 *
 * EXEC locks the union of the shards of all queued keys in ascending order, then looks at the watcher: whatever dirtied
 * it held one of the locks before, and nothing can from now until the unlock, because every watched key's shard is
 * in the union too.
 *
 * What has begun cannot wait for the tier, as what it has changed would be seen. So before the first command EXEC
 * waits, without any lock, for the cold records of all queued keys, and for the pages of big collections that the
 * commands ask for when they are rehearsed. */

#include "command/transaction.h"

#include "base/number.h"
#include "command/dispatch.h"
#include "command/reply_room.h"
#include "record/collection.h"

#include <assert.h>
#include <stdlib.h>

void transaction_init(struct transaction *transaction) {
    *transaction = (struct transaction){0};
    transaction->last = NULL; /* set by the first queued command, as the struct may move until then */
}

bool transaction_queue(struct transaction *transaction, const struct command *command, const struct span *argv,
                       uint32_t argc) {
    size_t bytes = sizeof(struct queued_command) + argc * sizeof(struct span);
    for (uint32_t i = 0; i < argc; i++) bytes += argv[i].length;
    struct queued_command *queued = malloc(bytes);
    if (!queued) return false;
    char *at = (char *)(queued->argv + argc);
    *queued = (struct queued_command){.command = command, .argc = argc};
    for (uint32_t i = 0; i < argc; i++) {
        memcpy(at, argv[i].data, argv[i].length);
        queued->argv[i] = span_of(at, argv[i].length);
        at += argv[i].length;
    }
    if (!transaction->first)
        transaction->first = queued;
    else
        *transaction->last = queued;
    transaction->last = &queued->next;
    transaction->count++;
    transaction->flags |= command->flags;
    transaction->lacks |= ~command->flags;
    if (command->spec->reaches && command->spec->reaches(argv, argc)) transaction->flags |= COMMAND_ALL_SHARDS;
    transaction->bytes += bytes;
    return true;
}

void transaction_discard(struct transaction *transaction) {
    for (struct queued_command *queued = transaction->first, *next; queued; queued = next) {
        next = queued->next;
        free(queued);
    }
    transaction_init(transaction);
}

void transaction_unwatch(struct dispatcher *dispatcher, struct session *session, bool locked_all) {
    struct view view = {.keyspace = dispatcher->keyspace, .locked_all = locked_all};
    struct watch_entry *entry = session->watcher.entries;
    if (entry) stat_set(&dispatcher->watching, stat_get(&dispatcher->watching) - 1);
    while (entry) {
        struct watch_entry *next = entry->next_of_owner;
        uint32_t number = entry->shard;
        struct shard *shard = keyspace_enter(&view, number);
        watch_remove(&shard->watches, entry);
        keyspace_leave(&view, number);
        entry = next;
    }
    session->watcher.entries = NULL;
    atomic_store_explicit(&session->watcher.dirty, false, memory_order_relaxed);
}

/* ---- EXEC ---- */

/* The keys of one queued command; freed by the caller. NULL when it has none. */
static struct key *hash_keys(const struct keyspace *keyspace, const struct queued_command *queued, uint32_t *count) {
    *count = command_fitting_key_positions(queued->command, queued->argv, queued->argc, NULL, 0);
    if (*count == 0) return NULL;
    uint32_t *positions = malloc(*count * sizeof(*positions));
    struct key *keys = malloc(*count * sizeof(*keys));
    if (!positions || !keys) abort();
    command_fitting_key_positions(queued->command, queued->argv, queued->argc, positions, *count);
    for (uint32_t i = 0; i < *count; i++) keys[i] = keyspace_key(keyspace, queued->argv[positions[i]]);
    free(positions);
    return keys;
}

static void add_shards(struct shard_set *set, const struct key *keys, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) shard_set_add(set, keys[i].shard);
}

/* The database of what is queued behind this command. */
static uint32_t database_behind(const struct call *exec, const struct queued_command *queued, uint32_t database) {
    int64_t number;
    if (strcmp(queued->command->spec->name, "select") != 0 || !number_parse_i64(queued->argv[1], &number))
        return database;
    return number >= 0 && number < exec->view.keyspace->database_count ? (uint32_t)number : database;
}

/* Has the cold records of all queued commands brought to hand. False: EXEC has to be run again; nothing has changed. */
static bool stage_queued(struct call *call, struct key *const *keys, const uint32_t *counts) {
    struct tier_waiter *waiter = &call->session->waiter;
    struct view view = call->view;
    const struct queued_command *queued = call->session->transaction.first;
    bool pending = false;
    view.database = call->session->database;
    if (!view.port || view.replays) return true;
    for (uint32_t n = 0; queued; queued = queued->next, n++) {
        for (uint32_t i = 0; i < counts[n]; i++)
            pending = keyspace_stage(&view, &keys[n][i], waiter) == KEYSPACE_PENDING || pending;
        view.database = database_behind(call, queued, view.database);
    }
    call->waits = pending;
    return !pending;
}

/* Whether there is somebody to ask for the memory of its reply, and it has changed nothing when it is refused. */
static bool reads_within_memory(const struct call *call) {
    struct command_host *host = call->dispatcher->host;
    return host && host->has_room && (call->command->flags & COMMAND_READONLY) && !call->session->replaying &&
           atomic_load_explicit(&host->memory_bounded, memory_order_relaxed);
}

/* As it runs within EXEC: what has begun cannot wait. */
static struct call queued_call(const struct call *exec, const struct queued_command *queued, struct key *keys,
                               uint32_t key_count, bool locked_all) {
    struct call call = *exec;
    call.command = queued->command;
    call.argv = (struct span *)(uintptr_t)queued->argv;
    call.argc = queued->argc;
    call.keys = keys;
    call.key_count = key_count;
    call.view.database = exec->session->database;
    call.view.locked_all = locked_all;
    call.view.keep_access = exec->session->no_touch || (queued->command->flags & COMMAND_KEEP_ACCESS);
    call.view.leaves_expired = dispatch_leaves_expired(exec->dispatcher, queued->command);
    call.view.waiter = NULL;
    call.effects = NULL;
    call.in_transaction = true;
    call.may_pause = false;
    return call;
}

static void run_queued(struct call *exec, const struct queued_command *queued, struct key *keys, uint32_t key_count,
                       bool locked_all) {
    struct call call = queued_call(exec, queued, keys, key_count, locked_all);
    uint64_t errors = exec->reply->errors;
    call.view.random = (uint32_t)dispatcher_random(exec->dispatcher);
    call.effects = effect_sink_wanted(exec->dispatcher, exec->session, queued->command);
    bool bounded = reads_within_memory(&call);
    struct reply_mark mark = reply_mark(exec->reply);
    size_t drawn = exec->dispatcher->reply_room.drawn;
    if (bounded) reply_room_begin_now(exec->dispatcher, exec->reply);
    dispatch_staged(&call);
    if (call.waits) {
        call.waits = false; /* not at hand after all: it is read on the spot */
        dispatch_run(&call);
    }
    if (bounded && !reply_room_end(exec->session, exec->reply)) {
        exec->session->reply_wanted = 0;
        exec->dispatcher->reply_room.drawn = drawn;
        reply_forget(exec->reply, mark);
        exec->reply->errors = errors;
        reply_error(exec->reply, ERROR_NO_MEMORY);
    }
    exec->counted_errors += exec->reply->errors - errors;
    if (call.view.port) tier_trim(call.view.port); /* what was read on the spot: for so many commands it may be much */
}

static bool has_cold_pages(const struct view *view, const struct key *key) {
    if (view->keyspace->shards[key->shard].cold_records == 0) return false;
    struct lookup lookup = keyspace_find(view, key);
    return lookup.record && record_is_paged(lookup.record) && collection_has_cold_pages(collection_of(lookup.record));
}

/* The command as if a page it needs were missing already: it changes nothing, says nothing, and asks for the pages it
 * comes to. */
static void rehearse(struct call *call) {
    struct session *session = call->session;
    struct reply *reply = call->reply;
    struct reply_mark mark = reply_mark(reply);
    uint64_t errors = reply->errors;
    bool unreadable = false, bounded = reads_within_memory(call);
    call->view.waiter = &session->waiter;
    call->view.keep_access = call->view.leaves_expired = call->view.unheard = true;
    call->view.unreadable = &unreadable;
    session->waiter.missed = true;
    reply_room_begin_together(call->dispatcher, session);
    if (bounded) reply_room_begin_now(call->dispatcher, reply);
    call->command->handler(call);
    if (bounded) (void)reply_room_end(session, reply);
    session->reply_wanted = 0;
    session->waiter.missed = session->waiter.committed = false;
    reply_rewind(reply, mark);
    reply->errors = errors;
}

/* Has the cold pages brought to hand that the queued commands need, as far as that can be told before the first of them
 * has run: the others are read on the spot. False: EXEC has to be run again; nothing has changed. */
static bool rehearse_queued(struct call *exec, struct key *const *keys, const uint32_t *counts, bool locked_all) {
    struct tier_waiter *waiter = &exec->session->waiter;
    if (!exec->view.port || exec->view.replays || tier_reads_at_once(exec->view.port)) return true;
    uint32_t n = 0, database = exec->session->database;
    for (struct queued_command *queued = exec->session->transaction.first; queued; queued = queued->next, n++) {
        struct call call = queued_call(exec, queued, keys[n], counts[n], locked_all);
        bool cold = false;
        call.view.database = database;
        database = database_behind(exec, queued, database);
        struct view look = call.view;
        look.keep_access = look.leaves_expired = true;
        for (uint32_t i = 0; i < counts[n] && !cold; i++) cold = has_cold_pages(&look, &keys[n][i]);
        if (cold) rehearse(&call);
    }
    exec->waits = waiter->outstanding > 0;
    return !exec->waits;
}

/* Locks the shards of `set`, and those that are needed to serve who waits for keys there, which are added to it. */
static void lock_with_reach(struct call *call, struct key *const *keys, const uint32_t *counts, struct shard_set *set) {
    struct keyspace *keyspace = call->view.keyspace;
    for (;;) {
        bool enough = true;
        shard_set_lock(keyspace, set);
        struct shard_set wanted = *set;
        if (!keyspace->locking || !atomic_load_explicit(&keyspace->waits.keys, memory_order_relaxed)) return;
        for (uint32_t n = 0; n < call->session->transaction.count; n++)
            enough = blocked_reach(call->dispatcher, keys[n], counts[n], set, &wanted) && enough;
        if (enough) return;
        shard_set_unlock(keyspace, set);
        *set = wanted;
    }
}

static void execute(struct call *call) {
    struct session *session = call->session;
    struct transaction *transaction = &session->transaction;
    struct keyspace *keyspace = call->view.keyspace;
    struct command_host *host = call->dispatcher->host;
    bool exclusive = transaction->flags & COMMAND_EXCLUSIVE;
    bool all = transaction->flags & (COMMAND_ALL_SHARDS | COMMAND_EXCLUSIVE | COMMAND_WALKS);
    struct key **keys = calloc(transaction->count ? transaction->count : 1, sizeof(*keys));
    uint32_t *counts = calloc(transaction->count ? transaction->count : 1, sizeof(*counts));
    if (!keys || !counts) abort();
    struct shard_set set = {0};
    uint32_t n = 0;
    for (struct queued_command *queued = transaction->first; queued; queued = queued->next, n++) {
        keys[n] = hash_keys(keyspace, queued, &counts[n]);
        add_shards(&set, keys[n], counts[n]);
    }
    for (struct watch_entry *entry = session->watcher.entries; entry; entry = entry->next_of_owner)
        shard_set_add(&set, entry->shard);
    if (exclusive && host && host->stop_workers) host->stop_workers(host->ctx, call->dispatcher->worker);
    if (all)
        keyspace_lock_all(keyspace);
    else
        lock_with_reach(call, keys, counts, &set);
    bool staged = stage_queued(call, keys, counts) && rehearse_queued(call, keys, counts, all);
    bool dirty = atomic_load_explicit(&session->watcher.dirty, memory_order_acquire);
    if (dirty) {
        call->waits = false;
        reply_null_array(call->reply);
    } else if (staged) {
        reply_array(call->reply, transaction->count);
        struct effect_sink *effects =
            call->dispatcher->effects.journal && !session->replaying ? &call->dispatcher->effects : NULL;
        n = 0;
        reply_room_begin_together(call->dispatcher, session);
        if (effects) effect_sink_begin(effects, session->database);
        for (struct queued_command *queued = transaction->first; queued; queued = queued->next, n++)
            run_queued(call, queued, keys[n], counts[n], all);
        if (effects) effect_sink_end(effects);
        if (wait_is_any_marked(&keyspace->waits) && !call_is_unseen(call))
            blocked_serve(call->dispatcher, all ? NULL : &set);
    }
    if (all)
        keyspace_unlock_all(keyspace);
    else
        shard_set_unlock(keyspace, &set);
    if (exclusive && host && host->resume_workers) host->resume_workers(host->ctx, call->dispatcher->worker);
    for (uint32_t i = 0; i < transaction->count; i++) free(keys[i]);
    free(keys);
    free(counts);
}

/* A watched key that expired since is a change, although nobody removed it yet. */
static void notice_expired_watches(struct call *call) {
    for (struct watch_entry *entry = call->session->watcher.entries; entry; entry = entry->next_of_owner) {
        if (entry->was_expired) continue;
        struct view view = call->view;
        view.database = entry->database;
        view.keep_access = true;
        struct key key = {span_of(entry->key, entry->key_length), entry->hash, entry->shard};
        keyspace_enter(&view, entry->shard);
        (void)keyspace_find(&view, &key);
        keyspace_leave(&view, entry->shard);
    }
}

/* The same for the watched keys, each under its lock. */
static bool stage_watches(struct call *call) {
    if (!call->view.port || call->view.replays) return true;
    for (struct watch_entry *entry = call->session->watcher.entries; entry; entry = entry->next_of_owner) {
        struct view view = call->view;
        struct key key = {span_of(entry->key, entry->key_length), entry->hash, entry->shard};
        view.database = entry->database;
        keyspace_enter(&view, entry->shard);
        if (keyspace_stage(&view, &key, &call->session->waiter) == KEYSPACE_PENDING) call->waits = true;
        keyspace_leave(&view, entry->shard);
    }
    return !call->waits;
}

static void command_exec(struct call *call) {
    struct session *session = call->session;
    struct transaction *transaction = &session->transaction;
    if (!transaction->open) {
        reply_error(call->reply, "ERR EXEC without MULTI");
        return;
    }
    if (transaction->refused) {
        reply_error(call->reply, "EXECABORT Transaction discarded because of previous errors.");
    } else {
        if (!stage_watches(call)) return;
        notice_expired_watches(call);
        execute(call);
        if (call->waits) return;
    }
    transaction_discard(transaction);
    transaction_unwatch(call->dispatcher, session, false);
}

static void command_multi(struct call *call) {
    if (call->session->transaction.open) {
        reply_error(call->reply, "ERR MULTI calls can not be nested");
        return;
    }
    call->session->transaction.open = true;
    reply_ok(call->reply);
}

static void command_discard(struct call *call) {
    if (!call->session->transaction.open) {
        reply_error(call->reply, "ERR DISCARD without MULTI");
        return;
    }
    transaction_discard(&call->session->transaction);
    transaction_unwatch(call->dispatcher, call->session, false);
    reply_ok(call->reply);
}

static bool watch_key(struct call *call, const struct key *key) {
    struct session *session = call->session;
    if (watch_find(&session->watcher, call->view.database, key->hash, key->name)) return true;
    struct shard *shard = &call->view.keyspace->shards[key->shard];
    bool is_first = !session->watcher.entries;
    bool added = watch_add(&shard->watches, &session->watcher, key->shard, call->view.database, key->hash, key->name,
                           keyspace_look(&call->view, key) == KEYSPACE_EXPIRED);
    if (added && is_first) stat_add(&call->dispatcher->watching, 1);
    return added;
}

static void command_watch(struct call *call) {
    if (call->session->transaction.open) {
        reply_error(call->reply, "ERR WATCH inside MULTI is not allowed");
        return;
    }
    for (uint32_t i = 0; i < call->key_count; i++) {
        if (watch_key(call, &call->keys[i])) continue;
        call_no_memory(call);
        return;
    }
    reply_ok(call->reply);
}

static void command_unwatch(struct call *call) {
    transaction_unwatch(call->dispatcher, call->session, call->view.locked_all);
    reply_ok(call->reply);
}

#define TRANSACTION_FLAGS (COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST | COMMAND_ALLOW_BUSY)

const struct command_spec transaction_commands[] = {
    {.name = "multi",
     .handler = command_multi,
     .arity = 1,
     .flags = TRANSACTION_FLAGS | COMMAND_CONTROL,
     .categories = CATEGORY_TRANSACTION,
     .group = "transactions",
     .since = "1.2.0",
     .summary = "Begins a transaction: what follows is queued until EXEC",
     .complexity = "O(1)"},
    {.name = "exec",
     .handler = command_exec,
     .arity = 1,
     .flags = COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_SKIP_SLOWLOG | COMMAND_CONTROL |
              COMMAND_ENDS_TRANSACTION,
     .categories = CATEGORY_TRANSACTION,
     .group = "transactions",
     .since = "1.2.0",
     .summary = "Runs all queued commands as one",
     .complexity = "That of the queued commands"},
    {.name = "discard",
     .handler = command_discard,
     .arity = 1,
     .flags = TRANSACTION_FLAGS | COMMAND_CONTROL,
     .categories = CATEGORY_TRANSACTION,
     .group = "transactions",
     .since = "2.0.0",
     .summary = "Forgets the queued commands and ends the transaction",
     .complexity = "O(N), N queued commands"},
    {.name = "watch",
     .handler = command_watch,
     .arity = -2,
     .flags = TRANSACTION_FLAGS | COMMAND_CONTROL,
     .categories = CATEGORY_TRANSACTION,
     .group = "transactions",
     .since = "2.2.0",
     .keys = {KEYS_FROM(1, -1, 1, KEY_RO)},
     .summary = "Makes the next EXEC fail if one of the keys changes before it",
     .complexity = "O(1) per key",
     .arguments = "key:k..."},
    {.name = "unwatch",
     .handler = command_unwatch,
     .arity = 1,
     .flags = TRANSACTION_FLAGS | COMMAND_WALKS,
     .categories = CATEGORY_TRANSACTION,
     .group = "transactions",
     .since = "2.2.0",
     .summary = "Forgets all watched keys",
     .complexity = "O(1) per key"},
};
const unsigned transaction_command_count = sizeof(transaction_commands) / sizeof(transaction_commands[0]);
