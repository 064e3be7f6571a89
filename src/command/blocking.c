/* The beginning and the end of a wait: what the handler says, and what the client's own worker does. See blocking.h and
 * blocked.h; serving is in blocked_serve.c.
 *
 * A struct blocked is one allocation:
 *
 *   | struct blocked | keys | nodes | argv | bytes of the arguments |
 *
 * Its nodes are taken out of their queues by whoever serves it, who holds the locks; else by the owner, shard by shard.
 * What is still in a queue although its wait has ended is passed over there, since it can no longer be brought to
 * RETRYING. */

#include "command/blocking.h"

#include "base/clock.h"
#include "base/number.h"
#include "command/blocked.h"
#include "command/dispatch.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>

struct blocked_text {
    struct blocked_text *next;
    char text[];
};

/* ---- timeouts ---- */

static bool check_timeout(struct call *call, int64_t timeout_ms) {
    int64_t due_ms;
    if (timeout_ms < 0)
        reply_error(call->reply, "ERR timeout is negative");
    else if (__builtin_add_overflow(timeout_ms, call->view.now_ms, &due_ms))
        reply_error(call->reply, "ERR timeout is out of range");
    else
        return true;
    return false;
}

bool call_timeout_seconds(struct call *call, uint32_t index, int64_t *timeout_ms) {
    enum { WHOLE_SECONDS_MAX = 1 << 30 };
    long double seconds;
    int64_t whole;
    if (number_parse_i64(call->argv[index], &whole) && whole >= 0 && whole <= WHOLE_SECONDS_MAX) {
        *timeout_ms = whole * 1000;
        return check_timeout(call, *timeout_ms);
    }
    if (!number_parse_long_double(call->argv[index], &seconds)) {
        reply_error(call->reply, "ERR timeout is not a float or out of range");
        return false;
    }
    long double ms = ceill(seconds * 1000);
    if (ms >= 0x1p63L) {
        reply_error(call->reply, "ERR timeout is out of range");
        return false;
    }
    *timeout_ms = ms < 0 ? -1 : (int64_t)ms;
    return check_timeout(call, *timeout_ms);
}

bool call_timeout_ms(struct call *call, uint32_t index, int64_t *timeout_ms) {
    return call_integer_within(call, index, INT64_MIN, INT64_MAX, "ERR timeout is not an integer or out of range",
                               timeout_ms) &&
           check_timeout(call, *timeout_ms);
}

/* ---- the beginning ---- */

static bool inserts(const struct command *command) {
    for (unsigned i = 0; i < COMMAND_KEY_SPECS; i++)
        if (command->spec->keys[i].flags & KEY_INSERT) return true;
    return false;
}

static size_t bytes_for(const struct call *call, uint32_t node_count) {
    size_t bytes = sizeof(struct blocked) + call->key_count * sizeof(struct key) +
                   node_count * sizeof(struct wait_node) + call->argc * sizeof(struct span);
    for (uint32_t i = 0; i < call->argc; i++) bytes += call->argv[i].length;
    return bytes;
}

static void copy_arguments(struct blocked *blocked, const struct call *call, char *at) {
    for (uint32_t i = 0; i < call->argc; i++) {
        memcpy(at, call->argv[i].data, call->argv[i].length);
        blocked->argv[i] = span_of(at, call->argv[i].length);
        at += call->argv[i].length;
    }
}

/* A key's name is one of the arguments; keys stand in their order, so the next one is found at once. */
static void copy_keys(struct blocked *blocked, const struct call *call) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < call->key_count; i++) {
        struct span name = call->keys[i].name;
        uint32_t left = call->argc;
        while (call->argv[at].data != name.data || call->argv[at].length != name.length) {
            at = at + 1 < call->argc ? at + 1 : 0;
            assert(left > 0);
            left--;
        }
        blocked->keys[i] = call->keys[i];
        blocked->keys[i].name = blocked->argv[at];
    }
}

static bool is_spread(const struct blocked *blocked) {
    for (uint32_t i = 1; i < blocked->key_count; i++)
        if (blocked->keys[i].shard != blocked->keys[0].shard) return true;
    return inserts(blocked->command);
}

static struct blocked *make_blocked(const struct call *call, uint32_t node_count, enum blocked_type type) {
    size_t bytes = bytes_for(call, node_count);
    struct blocked *blocked = malloc(bytes);
    if (!blocked) return NULL;
    struct key *keys = (struct key *)(blocked + 1);
    struct wait_node *nodes = (struct wait_node *)(keys + call->key_count);
    struct span *argv = (struct span *)(nodes + node_count);
    *blocked = (struct blocked){.state = BLOCKED_WAITING,
                                .session = call->session,
                                .command = call->command,
                                .argv = argv,
                                .keys = keys,
                                .argc = call->argc,
                                .key_count = call->key_count,
                                .node_count = node_count,
                                .database = call->view.database,
                                .worker = call->dispatcher->worker,
                                .type = type,
                                .resp3 = call->reply->resp3,
                                .keep_access = call->view.keep_access,
                                .release = call->reply->release,
                                .release_ctx = call->reply->release_ctx,
                                .bytes = bytes,
                                .nodes = nodes};
    copy_arguments(blocked, call, (char *)(argv + call->argc));
    copy_keys(blocked, call);
    return blocked;
}

static void free_blocked(struct blocked *blocked) {
    for (struct blocked_text *text = blocked->texts, *next; text; text = next) {
        next = text->next;
        free(text);
    }
    if (blocked->reply) reply_clear(blocked->reply);
    if (blocked->spoilt) reply_clear(blocked->spoilt);
    free(blocked->reply);
    free(blocked->spoilt);
    free(blocked);
}

void blocked_leave_queues(struct keyspace *keyspace, struct blocked *blocked) {
    for (uint32_t i = 0; i < blocked->node_count; i++)
        wait_remove(&keyspace->shards[blocked->nodes[i].shard].waits, &blocked->nodes[i]);
}

static bool enter_queues(struct call *call, struct blocked *blocked, const struct key *keys) {
    struct keyspace *keyspace = call->view.keyspace;
    bool spread = is_spread(blocked);
    for (uint32_t i = 0; i < blocked->node_count; i++)
        blocked->nodes[i] = (struct wait_node){.owner = blocked,
                                               .shard = keys[i].shard,
                                               .wants_absence = blocked->type == BLOCKED_ON_GROUP,
                                               .is_spread = spread};
    for (uint32_t i = 0; i < blocked->node_count; i++)
        if (!wait_add(&keyspace->shards[keys[i].shard].waits, &keyspace->waits, blocked->database, keys[i].hash,
                      keys[i].name, &blocked->nodes[i])) {
            blocked_leave_queues(keyspace, blocked);
            return false;
        }
    return true;
}

static void count_clients(struct blocked_clients *clients, int64_t more) {
    stat_set(&clients->count, (uint64_t)((int64_t)stat_get(&clients->count) + more));
    stat_set(&clients->count_with_deadline, clients->deadlines.count);
}

static bool park(struct call *call, const struct key *keys, uint32_t key_count, int64_t timeout_ms,
                 enum blocked_type type) {
    struct blocked_clients *clients = &call->dispatcher->blocked;
    struct blocked *blocked = make_blocked(call, key_count, type);
    if (!blocked) return false;
    blocked->deadline.due_ms = call->view.now_ms + timeout_ms;
    if (timeout_ms && !deadline_heap_add(&clients->deadlines, &blocked->deadline)) {
        free_blocked(blocked);
        return false;
    }
    if (!enter_queues(call, blocked, keys)) {
        deadline_heap_remove(&clients->deadlines, &blocked->deadline);
        free_blocked(blocked);
        return false;
    }
    call->session->blocked = blocked;
    count_clients(clients, 1);
    return true;
}

bool call_block(struct call *call, const struct key *keys, uint32_t key_count, int64_t timeout_ms,
                enum blocked_type type) {
    if (call->in_transaction) return false;
    /* Its cold records have yet to come: what it found is not the truth, and it is going to be run again. */
    if (view_misses(&call->view)) return true;
    call->blocks = call->again || park(call, keys, key_count, timeout_ms, type);
    if (!call->blocks) call_no_memory(call);
    return true;
}

void blocked_undo(struct call *call) {
    struct blocked *blocked = call->session->blocked;
    struct blocked_clients *clients = &call->dispatcher->blocked;
    blocked_leave_queues(call->view.keyspace, blocked);
    deadline_heap_remove(&clients->deadlines, &blocked->deadline);
    count_clients(clients, -1);
    call->session->blocked = NULL;
    call->blocks = false;
    free_blocked(blocked);
}

void call_block_argument(struct call *call, uint32_t index, struct span text) {
    struct blocked *blocked = call->session->blocked;
    if (call->again || !call->blocks) return;
    struct blocked_text *copy = malloc(sizeof(*copy) + text.length);
    if (!copy) abort(); /* a few bytes; without them the command would wait for something else */
    memcpy(copy->text, text.data, text.length);
    copy->next = blocked->texts;
    blocked->texts = copy;
    blocked->argv[index] = span_of(copy->text, text.length);
    blocked->bytes += sizeof(*copy) + text.length;
}

void call_ready(struct call *call, const struct key *key) {
    wait_mark(call->view.keyspace->shards[key->shard].waits, call->view.database, key->hash, key->name);
}

/* ---- the end ---- */

static bool end(struct blocked *blocked, enum blocked_state state) {
    int waiting = BLOCKED_WAITING;
    return atomic_compare_exchange_strong(&blocked->state, &waiting, (int)state);
}

void blocked_add_finished(struct dispatcher *dispatcher, struct blocked *blocked) {
    struct blocked_clients *clients = &dispatcher->blocked;
    blocked->next = NULL;
    if (clients->finished)
        *clients->finished_last = blocked;
    else
        clients->finished = blocked;
    clients->finished_last = &blocked->next;
}

struct blocked *blocked_take_finished(struct dispatcher *dispatcher) {
    struct blocked *blocked = dispatcher->blocked.finished;
    if (blocked) dispatcher->blocked.finished = blocked->next;
    return blocked;
}

/* A clock that was set back, or a client that is just being tried, only makes it later. */
void blocked_expire(struct dispatcher *dispatcher) {
    struct deadline_heap *deadlines = &dispatcher->blocked.deadlines;
    struct deadline *first;
    while ((first = deadline_heap_first(deadlines)) && first->due_ms <= dispatcher->now_ms) {
        struct blocked *blocked = (struct blocked *)((char *)first - offsetof(struct blocked, deadline));
        if (end(blocked, BLOCKED_TIMED_OUT))
            blocked_add_finished(dispatcher, blocked);
        else if (atomic_load(&blocked->state) == BLOCKED_RETRYING)
            return;
        deadline_heap_remove(deadlines, first);
    }
}

int blocked_wait_ms(const struct dispatcher *dispatcher, int most_ms) {
    if (dispatcher->blocked.finished) return 0;
    const struct deadline *first = deadline_heap_first(&dispatcher->blocked.deadlines);
    if (!first) return most_ms;
    int64_t left = first->due_ms - clock_unix_ms();
    if (left < 0) left = 0;
    return left < most_ms ? (int)left : most_ms;
}

/* The owner is done with the wait, whatever ended it. */
static void forget(struct dispatcher *dispatcher, struct blocked *blocked) {
    struct keyspace *keyspace = dispatcher->keyspace;
    struct blocked_clients *clients = &dispatcher->blocked;
    bool served = atomic_load_explicit(&blocked->state, memory_order_acquire) == BLOCKED_SERVED;
    for (uint32_t i = 0; i < blocked->node_count && !served; i++) {
        struct wait_node *node = &blocked->nodes[i];
        keyspace_lock(keyspace, node->shard);
        wait_remove(&keyspace->shards[node->shard].waits, node);
        keyspace_unlock(keyspace, node->shard);
    }
    deadline_heap_remove(&clients->deadlines, &blocked->deadline);
    if (!clients->deadlines.count) deadline_heap_free(&clients->deadlines);
    count_clients(clients, -1);
    blocked->session->blocked = NULL;
    blocked->session = NULL;
}

static void record(struct dispatcher *dispatcher, const struct blocked *blocked, bool failed) {
    command_stats_record(dispatcher->stats, blocked->command->id, blocked->spent_ns, failed);
}

/* What was served has been counted by whoever served it. */
static void compose(struct dispatcher *dispatcher, struct blocked *blocked, struct reply *reply) {
    struct reply_mark mark = reply_mark(reply);
    switch (atomic_load(&blocked->state)) {
    case BLOCKED_SERVED:
        if (!blocked->unanswered) reply_append(reply, blocked->reply);
        return;
    case BLOCKED_FORCED:
        reply_error(reply, "UNBLOCKED client unblocked via CLIENT UNBLOCK");
        command_stats_error(dispatcher->stats, reply->error_code);
        record(dispatcher, blocked, true);
        break;
    default:
        if (blocked->time_is_over)
            blocked->time_is_over(blocked, reply);
        else
            reply_null_array(reply);
        record(dispatcher, blocked, false);
    }
    if (blocked->unanswered) reply_rewind(reply, mark);
}

void blocked_answer(struct dispatcher *dispatcher, struct blocked *blocked, struct reply *reply) {
    if (blocked->session) {
        compose(dispatcher, blocked, reply);
        forget(dispatcher, blocked);
    }
    free_blocked(blocked);
}

void blocked_leave(struct dispatcher *dispatcher, struct session *session) {
    struct blocked *blocked = session->blocked;
    if (!blocked) return;
    while (!end(blocked, BLOCKED_GONE) && atomic_load(&blocked->state) == BLOCKED_RETRYING) sched_yield();
    bool gone = atomic_load(&blocked->state) == BLOCKED_GONE;
    forget(dispatcher, blocked);
    if (gone) free_blocked(blocked); /* else it stands among the finished, or is on its way there */
}

bool blocked_force(struct dispatcher *dispatcher, struct blocked *blocked, bool with_error) {
    struct command_host *host = dispatcher->host;
    if (!end(blocked, with_error ? BLOCKED_FORCED : BLOCKED_TIMED_OUT)) return false;
    if (blocked->worker == dispatcher->worker)
        blocked_add_finished(dispatcher, blocked);
    else
        host->unblocked(host->ctx, blocked);
    return true;
}
