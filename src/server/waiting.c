/* WAIT and WAITAOF wait like a blocked client that waits for no key: its worker ends the wait in waiting_turn(), as if
 * its time were over, once what it waits for is there. In both cases the answer says how far things have come. What the
 * client has written before is taken to be whatever the journal holds at that moment, which is never less.
 *
 * Replicas are asked to acknowledge (REPLCONF GETACK in the stream) once a turn at most. */

#include "server/waiting.h"

#include "command/blocked.h"
#include "server/families.h"
#include "server/server.h"

#define ERROR_NO_FILE "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."

static bool lacks_file(const struct server *server) {
    return atomic_load(&server->aof.state) == AOF_OFF && !pmem_gate_is_open(&server->pmem_gate);
}

/* Without an append-only file, what the pool of persistent memory has is on the disk: the answer itself waits for it.
 */
static bool is_local(const struct server *server, uint64_t position) {
    const struct pmem_gate *gate = &server->pmem_gate;
    if (pmem_gate_is_open(gate) && atomic_load(&server->aof.state) == AOF_OFF)
        return atomic_load((_Atomic int *)(uintptr_t)&gate->state) == PMEM_GATE_SOUND;
    return atomic_load(&server->aof.state) == AOF_ON && commit_gate_durable(&server->aof.gate) >= position;
}

/* The append-only file was switched off meanwhile: nothing will get to the disk. */
static bool is_hopeless(const struct server *server, const struct blocked_awaited *awaited) {
    return awaited->on_disk && lacks_file(server);
}

static bool is_fulfilled(struct server *server, const struct blocked_awaited *awaited) {
    return (!awaited->on_disk || is_local(server, awaited->position)) &&
           (!awaited->replicas ||
            replication_count_acks(server, awaited->position, awaited->replicas_on_disk) >= awaited->replicas);
}

static void compose(struct server *server, const struct blocked_awaited *awaited, struct reply *reply) {
    unsigned replicas = replication_count_acks(server, awaited->position, awaited->replicas_on_disk);
    if (awaited->replicas_on_disk) {
        reply_array(reply, 2);
        reply_integer(reply, is_local(server, awaited->position));
    }
    reply_integer(reply, replicas);
}

static void time_is_over(const struct blocked *blocked, struct reply *reply) {
    const struct connection *connection = blocked->session->connection;
    struct server *server = ((struct worker *)connection->owner)->server;
    if (is_hopeless(server, &blocked->awaited))
        reply_error(reply, ERROR_NO_FILE);
    else
        compose(server, &blocked->awaited, reply);
}

static void wait_for(struct call *call, const struct blocked_awaited *awaited, int64_t timeout_ms) {
    struct server *server = server_of(call);
    struct connection *connection = call->session->connection;
    if (is_fulfilled(server, awaited) || !connection || !call_block(call, NULL, 0, timeout_ms, BLOCKED_ON_DISK)) {
        compose(server, awaited, call->reply);
        return;
    }
    if (!call->blocks) return; /* no memory: said already */
    struct blocked *blocked = call->session->blocked;
    struct worker *worker = connection->owner;
    blocked->awaited = *awaited;
    blocked->time_is_over = time_is_over;
    atomic_fetch_add(&worker->disk_waiters, 1);
    if (!awaited->replicas) return;
    worker->wants_acks = true;
    atomic_store(&server->replication.waiters, true);
}

#define NOT_ON_REPLICAS                                                                                                \
    " cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be "  \
    "writable (which is not the default) writes to replicas are just local and are not propagated."

static void command_wait(struct call *call) {
    struct server *server = server_of(call);
    int64_t replicas, timeout_ms;
    if (replication_is_replica(&server->replication)) {
        reply_error(call->reply, "ERR WAIT" NOT_ON_REPLICAS);
        return;
    }
    if (!call_integer_within(call, 1, INT32_MIN, INT32_MAX, NULL, &replicas) || !call_timeout_ms(call, 2, &timeout_ms))
        return;
    struct blocked_awaited awaited = {.position = journal_end(server->journal),
                                      .replicas = replicas > 0 ? (uint32_t)replicas : 0};
    wait_for(call, &awaited, timeout_ms);
}

static void command_waitaof(struct call *call) {
    struct server *server = server_of(call);
    int64_t local, replicas, timeout_ms;
    if (!call_integer_within(call, 1, 0, 1, "ERR value is out of range, value must between 0 and 1", &local) ||
        !call_integer_within(call, 2, 0, INT32_MAX, "ERR value is out of range, must be positive", &replicas) ||
        !call_timeout_ms(call, 3, &timeout_ms))
        return;
    if (replication_is_replica(&server->replication)) {
        reply_error(call->reply, "ERR WAITAOF" NOT_ON_REPLICAS);
        return;
    }
    if (local && lacks_file(server)) {
        reply_error(call->reply, ERROR_NO_FILE);
        return;
    }
    struct blocked_awaited awaited = {.position = journal_end(server->journal),
                                      .replicas = (uint32_t)replicas,
                                      .on_disk = local,
                                      .replicas_on_disk = true};
    wait_for(call, &awaited, timeout_ms);
}

/* ---- turns ---- */

/* Ends the waits that are over, and counts the others: some have ended otherwise since. */
static void look_at_waiters(struct worker *worker) {
    unsigned waiting = 0;
    for (struct connection *connection = worker->connections; connection; connection = connection->next) {
        struct blocked *blocked = connection->session.blocked;
        if (!blocked || blocked->type != BLOCKED_ON_DISK || atomic_load(&blocked->state) != BLOCKED_WAITING) continue;
        bool over = is_fulfilled(worker->server, &blocked->awaited) || is_hopeless(worker->server, &blocked->awaited);
        if (!over || !blocked_force(&worker->dispatcher, blocked, false)) waiting++;
    }
    atomic_store(&worker->disk_waiters, waiting);
}

void waiting_turn(struct worker *worker) {
    if (__builtin_expect(!atomic_load_explicit(&worker->disk_waiters, memory_order_relaxed), 1)) return;
    struct server *server = worker->server;
    int state = atomic_load(&server->aof.state); /* before what is durable: it counts when the file is whole */
    uint64_t durable = commit_gate_durable(&server->aof.gate), acks = atomic_load(&server->replication.acks);
    if (durable == worker->disk_seen && acks == worker->acks_seen && state == worker->file_seen) return;
    worker->file_seen = state;
    worker->disk_seen = durable;
    worker->acks_seen = acks;
    look_at_waiters(worker);
}

/* ---- declarations ---- */

const struct command_spec waiting_commands[] = {
    {.name = "wait",
     .handler = command_wait,
     .arity = 3,
     .flags = COMMAND_NOSCRIPT,
     .categories = CATEGORY_CONNECTION,
     .group = "generic",
     .since = "3.0.0",
     .summary = "Waits until so many replicas have what this client has written.",
     .complexity = "O(1)",
     .arguments = "numreplicas:i timeout:i",
     .tips = "request_policy:all_shards response_policy:agg_min"},
    {.name = "waitaof",
     .handler = command_waitaof,
     .arity = 4,
     .flags = COMMAND_NOSCRIPT,
     .categories = CATEGORY_CONNECTION,
     .group = "generic",
     .since = "7.2.0",
     .summary = "Waits until the writes of this client are on the disk of this server and of replicas.",
     .complexity = "O(1)",
     .arguments = "numlocal:i numreplicas:i timeout:i",
     .tips = "request_policy:all_shards response_policy:agg_min"},
};
const unsigned waiting_command_count = sizeof(waiting_commands) / sizeof(waiting_commands[0]);
