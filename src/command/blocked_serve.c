/* Serving those who wait. See blocked.h.
 *
 * Marked keys are taken in the order they were marked, each queue is gone through once in order of arrival. Who is
 * served may change other keys (BLMOVE), which are then marked in their turn; as every round but the last serves
 * somebody, and nobody can begin to wait for a key whose lock is held, it comes to an end.
 *
 * What a command marks is within what blocked_reach() has had locked. Where it is not (a key that no command declares),
 * the key stays marked, and blocked_serve_left() takes care of it with the next tick.
 *
 * When a queue has been gone through, its key's mark is void also if those served have set it again: everybody behind
 * them has tried since. */

#include "base/clock.h"
#include "command/blocked.h"
#include "command/dispatch.h"

#include <stdlib.h>

enum {
    GATHERED_MAX = 256, /* waiting clients looked at to find the shards they need; for more, all are locked */
    ROUNDS_MAX = 16,    /* of serving one shard's marked keys: what others mark meanwhile can wait for the next tick */
};

/* ---- which shards ---- */

struct gathering {
    struct keyspace *keyspace;
    const struct shard_set *held;
    struct shard_set *wanted;
    uint64_t number;
    unsigned left; /* of GATHERED_MAX */
};

static void gather(struct gathering *gathering, const struct key *key);

static void gather_queue(struct gathering *gathering, const struct wait_key *key) {
    for (const struct wait_node *node = key->first; node && gathering->left; node = node->next) {
        const struct blocked *blocked = node->owner;
        if (!node->is_spread) continue;
        gathering->left--;
        for (uint32_t i = 0; i < blocked->key_count; i++) shard_set_add(gathering->wanted, blocked->keys[i].shard);
        for (uint32_t i = 0; i < blocked->key_count; i++) gather(gathering, &blocked->keys[i]);
    }
}

/* In whatever database: EXEC's commands may choose theirs, and MOVE names another one. */
static void gather(struct gathering *gathering, const struct key *key) {
    struct wait_key *awaited = NULL;
    if (!shard_set_has(gathering->held, key->shard)) return;
    const struct wait_table *waits = gathering->keyspace->shards[key->shard].waits;
    while (gathering->left && (awaited = wait_find(waits, awaited, key->hash, key->name))) {
        if (!awaited->spread_count || awaited->visited == gathering->number) continue;
        awaited->visited = gathering->number;
        gather_queue(gathering, awaited);
    }
}

/* Keys that were marked by those who do not serve. */
static void gather_marked(struct gathering *gathering) {
    struct keyspace *keyspace = gathering->keyspace;
    if (!wait_is_any_marked(&keyspace->waits)) return;
    for (uint32_t i = 0; i < keyspace->shard_count; i++) {
        if (!shard_set_has(gathering->held, i) || !keyspace->shards[i].waits) continue;
        for (struct wait_key *key = keyspace->shards[i].waits->first_ready; key; key = key->next_ready)
            gather(gathering, &(struct key){span_of(key->name, key->name_length), key->hash, i});
    }
}

bool blocked_reach(struct dispatcher *dispatcher, const struct key *keys, uint32_t key_count,
                   const struct shard_set *held, struct shard_set *wanted) {
    struct gathering gathering = {.keyspace = dispatcher->keyspace,
                                  .held = held,
                                  .wanted = wanted,
                                  .number = ++dispatcher->blocked.gatherings * LIMIT_WORKERS + dispatcher->worker,
                                  .left = GATHERED_MAX};
    for (uint32_t i = 0; i < key_count; i++) gather(&gathering, &keys[i]);
    gather_marked(&gathering);
    for (uint32_t i = 0; i < dispatcher->keyspace->shard_count && !gathering.left; i++) shard_set_add(wanted, i);
    return memcmp(held, wanted, sizeof(*held)) == 0;
}

/* ---- one client ---- */

struct serving {
    struct dispatcher *dispatcher;
    const struct shard_set *held; /* NULL: all */
    struct reply *reply;          /* for the next one; NULL: not made yet */
    int64_t now_ms;               /* what woke them may have taken long */
};

static bool are_held(const struct serving *serving, const struct blocked *blocked) {
    for (uint32_t i = 0; i < blocked->key_count && serving->held; i++)
        if (!shard_set_has(serving->held, blocked->keys[i].shard)) return false;
    return true;
}

static struct reply *reply_for(struct serving *serving, const struct blocked *blocked) {
    if (!serving->reply) {
        serving->reply = malloc(sizeof(*serving->reply));
        if (!serving->reply) abort(); /* a kilobyte; without it what the client has waited for would be lost */
        reply_init(serving->reply, NULL, 0, blocked->release, blocked->release_ctx);
    }
    serving->reply->resp3 = blocked->resp3;
    return serving->reply;
}

static void count(const struct call *call, uint64_t elapsed_ns) {
    struct dispatcher *dispatcher = call->dispatcher;
    struct command_host *host = dispatcher->host;
    bool failed = call->reply->errors != 0;
    command_stats_record(dispatcher->stats, call->command->id, elapsed_ns, failed);
    if (failed) command_stats_error(dispatcher->stats, call->reply->error_code);
    if (dispatcher->node_executions && call->key_count)
        stat_add(&dispatcher->node_executions[keyspace_node_of(call->view.keyspace, call->keys[0].shard)], 1);
    if (host && host->slow && elapsed_ns >= atomic_load_explicit(&host->slow_ns, memory_order_relaxed))
        host->slow(host->ctx, call, elapsed_ns);
}

static bool is_refused(const struct call *call) {
    struct command_host *host = call->dispatcher->host;
    return host && (call->command->flags & COMMAND_DENYOOM) &&
           atomic_load_explicit(&host->out_of_memory, memory_order_relaxed);
}

static void fail_unreadable(struct serving *serving, struct blocked *blocked, struct call *call) {
    blocked->spoilt = serving->reply;
    serving->reply = NULL;
    call->reply = reply_for(serving, blocked);
    call->blocks = false;
    reply_error(call->reply, ERROR_UNREADABLE);
}

/* Runs the command of one who waits. False: it found nothing. */
static bool run_again(struct serving *serving, struct blocked *blocked) {
    struct dispatcher *dispatcher = serving->dispatcher;
    struct call call = {.command = blocked->command,
                        .argv = blocked->argv,
                        .argc = blocked->argc,
                        .key_count = blocked->key_count,
                        .keys = blocked->keys,
                        .reply = reply_for(serving, blocked),
                        .session = blocked->session,
                        .dispatcher = dispatcher,
                        .effects = dispatcher->effects.journal ? &dispatcher->effects : NULL,
                        .again = true};
    call.view = (struct view){.keyspace = dispatcher->keyspace,
                              .database = blocked->database,
                              .keep_access = blocked->keep_access,
                              .client = blocked->session->id,
                              .locked_all = !serving->held,
                              .port = dispatcher->port,
                              .now_ms = serving->now_ms,
                              .random = (uint32_t)dispatcher_random(dispatcher)};
    if (is_refused(&call)) {
        call_no_memory(&call);
        command_stats_reject(dispatcher->stats, call.command->id);
        command_stats_error(dispatcher->stats, call.reply->error_code);
        return true;
    }
    uint64_t start = clock_ticks();
    call.view.unreadable = &call.unreadable;
    if (call.effects) effect_sink_open(&call);
    call.command->handler(&call);
    if (call.effects) effect_sink_close(&call);
    if (call.unreadable) fail_unreadable(serving, blocked, &call);
    uint64_t end = clock_ticks();
    blocked->spent_ns += end > start ? clock_ticks_to_ns(end - start) : 0;
    dispatcher->ticks = end;
    if (!call.blocks) count(&call, blocked->spent_ns);
    return !call.blocks;
}

static void hand_over(struct dispatcher *dispatcher, struct blocked *blocked) {
    bool own = blocked->worker == dispatcher->worker;
    atomic_store_explicit(&blocked->state, BLOCKED_SERVED, memory_order_release);
    /* From here on another worker's client may leave, and `blocked` stays only because it has not been handed over. */
    if (own)
        blocked_add_finished(dispatcher, blocked);
    else
        dispatcher->host->unblocked(dispatcher->host->ctx, blocked);
}

/* False: nothing has changed. */
static bool try(struct serving *serving, struct blocked *blocked) {
    int waiting = BLOCKED_WAITING;
    if (!atomic_compare_exchange_strong(&blocked->state, &waiting, BLOCKED_RETRYING)) return false;
    if (!run_again(serving, blocked)) {
        atomic_store_explicit(&blocked->state, BLOCKED_WAITING, memory_order_release);
        return false;
    }
    blocked->reply = serving->reply;
    serving->reply = NULL;
    blocked_leave_queues(serving->dispatcher->keyspace, blocked);
    hand_over(serving->dispatcher, blocked);
    return true;
}

/* ---- one key ---- */

/* The type of the key's value; 0: it has none. One that has expired is left to those who ask for it: nobody has, the
 * clients go on waiting. */
static unsigned look_at(const struct serving *serving, const struct shard *shard, const struct wait_key *awaited) {
    struct key key = {span_of(awaited->name, awaited->name_length), awaited->hash, shard->number};
    struct view view = {.keyspace = serving->dispatcher->keyspace,
                        .database = awaited->database,
                        .keep_access = true,
                        .unheard = true,
                        .leaves_expired = true,
                        .locked_all = !serving->held,
                        .port = serving->dispatcher->port,
                        .now_ms = serving->now_ms};
    struct lookup lookup = keyspace_find(&view, &key);
    return lookup.record ? (unsigned)record_type(lookup.record) : 0;
}

static bool is_for(const struct blocked *blocked, unsigned type) {
    static const uint8_t wanted[BLOCKED_TYPES] = {[BLOCKED_ON_LIST] = RECORD_LIST,
                                                  [BLOCKED_ON_SORTED_SET] = RECORD_SORTED_SET,
                                                  [BLOCKED_ON_STREAM] = RECORD_STREAM};
    return blocked->type == BLOCKED_ON_GROUP || wanted[blocked->type] == type;
}

/* False: somebody cannot be served with what is held. The key stays marked. */
static bool serve_key(struct serving *serving, struct shard *shard, struct wait_key *key) {
    bool missed = false;
    wait_unmark(shard->waits, key);
    wait_hold(key);
    unsigned type = look_at(serving, shard, key);
    key->cursor = key->first;
    while (key->cursor && (type || key->absence_count)) {
        struct blocked *blocked = key->cursor->owner;
        key->cursor = key->cursor->next;
        if (!is_for(blocked, type)) continue;
        if (!are_held(serving, blocked))
            missed = true;
        else if (try(serving, blocked))
            type = look_at(serving, shard, key);
    }
    key->cursor = NULL;
    if (key->ready) wait_unmark(shard->waits, key);
    if (missed) wait_mark(shard->waits, key->database, key->hash, span_of(key->name, key->name_length));
    wait_release(&shard->waits, key);
    return !missed;
}

/* Of the held shards, the one with the key that was marked first; NULL: none. */
static struct shard *next_shard(const struct serving *serving) {
    struct keyspace *keyspace = serving->dispatcher->keyspace;
    struct shard *next = NULL, *likely = &keyspace->shards[serving->dispatcher->blocked.likely_shard];
    bool alone = wait_count_marked(&keyspace->waits) == 1; /* whichever is found is the one */
    if (alone && !serving->held && likely->waits && likely->waits->first_ready) return likely;
    for (uint32_t word = 0; word * 64 < keyspace->shard_count; word++) {
        uint64_t bits = serving->held ? serving->held->bits[word] : UINT64_MAX;
        for (; bits; bits &= bits - 1) {
            uint32_t number = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (number >= keyspace->shard_count) break;
            struct shard *shard = &keyspace->shards[number];
            if (!shard->waits || !shard->waits->first_ready) continue;
            if (alone) return shard;
            if (!next || shard->waits->first_ready->order < next->waits->first_ready->order) next = shard;
        }
    }
    return next;
}

void blocked_serve(struct dispatcher *dispatcher, const struct shard_set *held) {
    struct serving serving = {.dispatcher = dispatcher, .held = held, .now_ms = clock_unix_ms()};
    struct shard *shard;
    while (wait_is_any_marked(&dispatcher->keyspace->waits) && (shard = next_shard(&serving)))
        if (!serve_key(&serving, shard, shard->waits->first_ready)) break;
    if (serving.reply) reply_clear(serving.reply);
    free(serving.reply);
}

/* ---- what was left ---- */

/* With one shard locked, or with all that serving its first marked key takes. */
static void serve_shard(struct dispatcher *dispatcher, uint32_t number) {
    struct keyspace *keyspace = dispatcher->keyspace;
    struct shard *shard = &keyspace->shards[number];
    struct shard_set held = {0}, wanted;
    shard_set_add(&held, number);
    shard_set_lock(keyspace, &held);
    for (unsigned i = 0; i < ROUNDS_MAX && shard->waits && shard->waits->first_ready; i++) {
        const struct wait_key *marked = shard->waits->first_ready;
        struct key key = {span_of(marked->name, marked->name_length), marked->hash, number};
        wanted = held;
        if (blocked_reach(dispatcher, &key, 1, &held, &wanted)) {
            blocked_serve(dispatcher, &held);
        } else {
            shard_set_unlock(keyspace, &held);
            held = wanted;
            shard_set_lock(keyspace, &held);
        }
    }
    shard_set_unlock(keyspace, &held);
}

void blocked_serve_left(struct dispatcher *dispatcher) {
    struct keyspace *keyspace = dispatcher->keyspace;
    for (uint32_t i = 0; i < keyspace->shard_count && wait_is_any_marked(&keyspace->waits); i++)
        serve_shard(dispatcher, i);
}
