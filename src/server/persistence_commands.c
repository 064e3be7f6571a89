/* BGREWRITEAOF and WAITAOF.
 *
 * WAITAOF waits like a blocked client that waits for no key: its worker ends the wait in aof_turn(), as if its time
 * were over, once what it waits for is durable. In both cases the answer says how far things have come. What the client
 * has written before is taken to be whatever the journal holds at that moment, which is never less. */

#include "command/blocked.h"
#include "server/aof.h"
#include "server/families.h"
#include "server/server.h"

/* ---- BGREWRITEAOF ---- */

static void command_bgrewriteaof(struct call *call) {
    switch (aof_rewrite_start(server_of(call), call->in_transaction)) {
    case AOF_REWRITE_STARTED: reply_simple(call->reply, "Background append only file rewriting started"); return;
    case AOF_REWRITE_SCHEDULED: reply_simple(call->reply, "Background append only file rewriting scheduled"); return;
    case AOF_REWRITE_BUSY:
        reply_error(call->reply, "ERR Background append only file rewriting already in progress");
        return;
    case AOF_REWRITE_FAILED: break;
    }
    reply_error(call->reply, "ERR Can't execute an AOF background rewriting. Please check the server logs for more "
                             "information.");
}

/* ---- WAITAOF ---- */

static bool is_local(const struct server *server, uint64_t position) {
    return atomic_load(&server->aof.state) == AOF_ON && commit_gate_durable(&server->aof.gate) >= position;
}

static void compose_wait(const struct server *server, uint64_t position, struct reply *reply) {
    reply_array(reply, 2);
    reply_integer(reply, is_local(server, position));
    reply_integer(reply, 0); /* there are no replicas */
}

static void time_is_over(const struct blocked *blocked, struct reply *reply) {
    const struct connection *connection = blocked->session->connection;
    const struct worker *worker = connection->owner;
    compose_wait(worker->server, blocked->awaited_position, reply);
}

static bool wait_arguments(struct call *call, int64_t *local, int64_t *replicas, int64_t *timeout_ms) {
    return call_integer_within(call, 1, 0, 1, "ERR value is out of range, value must between 0 and 1", local) &&
           call_integer_within(call, 2, 0, INT32_MAX, "ERR value is out of range, must be positive", replicas) &&
           call_timeout_ms(call, 3, timeout_ms);
}

static void command_waitaof(struct call *call) {
    struct server *server = server_of(call);
    int64_t local, replicas, timeout_ms;
    if (!wait_arguments(call, &local, &replicas, &timeout_ms)) return;
    if (local && atomic_load(&server->aof.state) == AOF_OFF) {
        reply_error(call->reply, "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
        return;
    }
    uint64_t position = journal_end(server->journal);
    bool enough = (!local || is_local(server, position)) && replicas == 0;
    struct connection *connection = call->session->connection;
    if (enough || !connection || !call_block(call, NULL, 0, timeout_ms, BLOCKED_ON_DISK)) {
        compose_wait(server, position, call->reply);
        return;
    }
    if (!call->blocks) return; /* no memory: said already */
    struct blocked *blocked = call->session->blocked;
    blocked->awaited_position = position;
    blocked->needs_more = replicas > 0;
    blocked->time_is_over = time_is_over;
    atomic_fetch_add(&((struct worker *)connection->owner)->disk_waiters, 1);
}

/* ---- declarations ---- */

const struct command_spec persistence_commands[] = {
    {.name = "bgrewriteaof",
     .handler = command_bgrewriteaof,
     .arity = 1,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_NO_ASYNC_LOADING,
     .group = "server",
     .since = "1.0.0",
     .summary = "Writes the append-only file anew in the background.",
     .complexity = "O(1)"},
    {.name = "waitaof",
     .handler = command_waitaof,
     .arity = 4,
     .flags = COMMAND_NOSCRIPT,
     .group = "generic",
     .since = "7.2.0",
     .summary = "Waits until the writes of this client are on the disk of this server and of replicas.",
     .complexity = "O(1)",
     .arguments = "numlocal:i numreplicas:i timeout:i",
     .tips = "request_policy:all_shards response_policy:agg_min"},
};
const unsigned persistence_command_count = sizeof(persistence_commands) / sizeof(persistence_commands[0]);
