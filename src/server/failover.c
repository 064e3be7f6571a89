/* See failover.h. The position all must reach is noted once writes wait; a REPLCONF GETACK in front of it has the
 * replicas say at once how far they are. */

#include "server/failover.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/families.h"
#include "server/primary_link.h"
#include "server/replica.h"
#include "server/server.h"

#include <stdlib.h>
#include <string.h>

struct failover {
    bool chosen; /* TO */
    bool forced;
    char host[REPLICA_ADDRESS_ANNOUNCED];
    int port;
    int64_t until_ms; /* 0: for ever */
    int64_t handing_since_ms;
    uint64_t position; /* that a replica has to have */
};

static int state_of(const struct server *server) {
    return atomic_load((_Atomic int *)(uintptr_t)&server->replication.failover);
}

static void finish(struct server *server) {
    server_stop_workers(server, 0);
    atomic_store(&server->replication.failover, FAILOVER_NONE);
    pause_end(server, PAUSE_FOR_FAILOVER);
    server_resume_workers(server, 0);
}

/* Of a hand-over: this server is a primary again. `worker` is the caller's; all others stand still. */
static void give_up(struct server *server) {
    if (state_of(server) == FAILOVER_HANDING_OVER) primary_link_leave(server);
    atomic_store(&server->replication.failover, FAILOVER_NONE);
    pause_end(server, PAUSE_FOR_FAILOVER);
}

static void give_up_because(struct server *server, const char *why) {
    log_notice("Aborting failover: %s", why);
    server_stop_workers(server, 0);
    give_up(server);
    server_resume_workers(server, 0);
}

/* A replica that has everything becomes the target. */
static bool find_target(struct server *server, struct failover *failover) {
    struct replication *replication = &server->replication;
    bool found = false;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica && !found; replica = replica->next) {
        bool wanted =
            !failover->chosen || (replica->port == failover->port && strcmp(replica->address, failover->host) == 0);
        found =
            wanted && replica_state(replica) == REPLICA_ONLINE && atomic_load(&replica->acked) >= failover->position;
        if (!found) continue;
        memcpy(failover->host, replica->address, sizeof(failover->host));
        failover->port = replica->port;
    }
    pthread_mutex_unlock(&replication->lock);
    return found;
}

static void hand_over(struct server *server, struct failover *failover) {
    log_notice("Failing over to %s:%d", failover->host, failover->port);
    failover->handing_since_ms = clock_unix_ms();
    atomic_store(&server->replication.failover_refused, false);
    server_stop_workers(server, 0);
    atomic_store(&server->replication.failover, FAILOVER_HANDING_OVER);
    if (!primary_link_follow(server, failover->host, failover->port)) give_up(server);
    server_resume_workers(server, 0);
}

static void wait_for_target(struct server *server, struct failover *failover) {
    bool late = failover->until_ms && clock_unix_ms() >= failover->until_ms;
    if (find_target(server, failover))
        hand_over(server, failover);
    else if (late && failover->forced) {
        log_notice("Failover to %s:%d time out exceeded, failing over.", failover->host, failover->port);
        hand_over(server, failover);
    } else if (late)
        give_up_because(server, "Replica never caught up before timeout");
}

void failover_tick(struct server *server) {
    struct failover *failover = server->replication.handover;
    int state = state_of(server);
    if (state == FAILOVER_NONE) return;
    if (state == FAILOVER_WAITING) {
        wait_for_target(server, failover);
        return;
    }
    int64_t most_ms = server->config.replication.timeout_seconds * 1000;
    if (primary_link_is_up(server)) {
        finish(server);
        log_notice("The failover to %s:%d is complete", failover->host, failover->port);
    } else if (atomic_load(&server->replication.failover_refused)) {
        give_up_because(server, "Failover target rejected psync request");
    } else if (clock_unix_ms() - failover->handing_since_ms > most_ms) {
        give_up_because(server, "the target has not answered for repl-timeout");
    }
}

void failover_free(struct server *server) {
    free(server->replication.handover);
    server->replication.handover = NULL;
}

/* ---- the command ---- */

static bool parse_target(struct call *call, uint32_t at, struct failover *wanted) {
    struct span host = call->argv[at + 1];
    int64_t port;
    if (!call_integer_within(call, at + 2, INT32_MIN, INT32_MAX, NULL, &port)) return false;
    size_t length = host.length < sizeof(wanted->host) ? host.length : 0; /* what is longer is nobody's */
    memcpy(wanted->host, host.data, length);
    wanted->port = (int)port;
    wanted->chosen = true;
    return true;
}

/* False: the error is composed. */
static bool parse(struct call *call, struct failover *wanted) {
    int64_t timeout_ms = 0;
    for (uint32_t i = 1; i < call->argc; i++) {
        if (call_is(call, i, "timeout") && i + 1 < call->argc && !timeout_ms) {
            if (!call_integer(call, ++i, &timeout_ms)) return false;
            if (timeout_ms > 0) continue;
            reply_error(call->reply, "ERR FAILOVER timeout must be greater than 0");
            return false;
        }
        if (call_is(call, i, "to") && i + 2 < call->argc && !wanted->chosen) {
            if (!parse_target(call, i, wanted)) return false;
            i += 2;
            continue;
        }
        bool forces = call_is(call, i, "force") && !wanted->forced;
        wanted->forced |= forces;
        if (forces) continue;
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    int64_t now_ms = clock_unix_ms();
    if (timeout_ms) wanted->until_ms = timeout_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + timeout_ms;
    return true;
}

/* NULL: there is such a replica. */
static const char *why_no_target(struct server *server, const struct failover *wanted) {
    struct replication *replication = &server->replication;
    const char *why = "ERR FAILOVER target HOST and PORT is not a replica.";
    if (!wanted->chosen) return NULL;
    pthread_mutex_lock(&replication->lock);
    for (const struct replica *replica = replication->replicas; replica; replica = replica->next)
        if (replica->port == wanted->port && strcmp(replica->address, wanted->host) == 0)
            why = replica_state(replica) == REPLICA_ONLINE ? NULL : "ERR FAILOVER target replica is not online.";
    pthread_mutex_unlock(&replication->lock);
    return why;
}

static const char *why_not(struct server *server, const struct failover *wanted) {
    struct replication *replication = &server->replication;
    if (state_of(server) != FAILOVER_NONE) return "ERR FAILOVER already in progress.";
    if (replication_is_replica(replication)) return "ERR FAILOVER is not valid when server is a replica.";
    if (!replication->replica_count) return "ERR FAILOVER requires connected replicas.";
    if (wanted->forced && (!wanted->until_ms || !wanted->chosen))
        return "ERR FAILOVER with force option requires both a timeout and target HOST and IP.";
    return why_no_target(server, wanted);
}

static void begin(struct server *server, struct worker *worker, const struct failover *wanted) {
    struct replication *replication = &server->replication;
    *replication->handover = *wanted;
    pause_begin(server, PAUSE_FOR_FAILOVER, false, INT64_MAX);
    if (replication->keeper) replication_tell_stream(worker, REPLICATION_GETACK);
    replication->handover->position = journal_end(server->journal);
    atomic_store(&replication->failover, FAILOVER_WAITING);
    replication_nudge(server);
}

static void command_failover(struct call *call) {
    struct server *server = server_of(call);
    struct replication *replication = &server->replication;
    struct failover wanted = {0};
    if (call->argc == 2 && call_is(call, 1, "abort")) {
        if (state_of(server) == FAILOVER_NONE) {
            reply_error(call->reply, "ERR No failover in progress.");
            return;
        }
        log_notice("Aborting failover: by command");
        give_up(server);
        reply_simple(call->reply, "OK");
        return;
    }
    if (!parse(call, &wanted)) return;
    const char *why = why_not(server, &wanted);
    if (why) {
        reply_error(call->reply, why);
        return;
    }
    if (!replication->handover) replication->handover = calloc(1, sizeof(*replication->handover));
    if (!replication->handover) {
        call_no_memory(call);
        return;
    }
    log_notice("FAILOVER requested to %s", wanted.chosen ? wanted.host : "any replica");
    begin(server, server->workers[call->dispatcher->worker], &wanted);
    reply_simple(call->reply, "OK");
}

const struct command_spec failover_commands[] = {
    {.name = "failover",
     .handler = command_failover,
     .arity = -1,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_STALE | COMMAND_EXCLUSIVE,
     .group = "server",
     .since = "6.2.0",
     .summary = "Hands the role of the primary to a replica",
     .complexity = "O(1)",
     .arguments = "[TO target{host:s port:i [FORCE]}] [ABORT] [TIMEOUT milliseconds:i]"},
};
const unsigned failover_command_count = sizeof(failover_commands) / sizeof(failover_commands[0]);
