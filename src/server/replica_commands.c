/* REPLICAOF and SLAVEOF: which primary this server copies. */

#include "base/log.h"
#include "server/client_line.h"
#include "server/families.h"
#include "server/primary_link.h"
#include "server/server.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { HOST_MAX = 255, NAME_MAX_SHOWN = 200 };

/* "id=4 addr=127.0.0.1:5000 ..." would be too long: who it was, for the log. */
static void describe(const struct call *call, char who[NAME_MAX_SHOWN]) {
    const struct connection *connection = call->session->connection;
    snprintf(who, NAME_MAX_SHOWN, "id=%llu addr=%s name=%.64s", (unsigned long long)call->session->id,
             connection ? connection->peer.address : "", call->session->name ? call->session->name : "");
}

static void leave(struct call *call) {
    struct server *server = server_of(call);
    char who[NAME_MAX_SHOWN];
    if (replication_is_replica(&server->replication)) {
        describe(call, who);
        primary_link_leave(server);
        log_notice("MASTER MODE enabled (user request from '%s')", who);
    }
    reply_ok(call->reply);
}

static bool is_followed(const struct server *server, const char *host, int64_t port) {
    const struct config_words *words = &server->config.replication.replicaof;
    char number[24];
    snprintf(number, sizeof(number), "%lld", (long long)port);
    return server->replication.link && words->count == 2 && strcmp(words->words[0], host) == 0 &&
           strcmp(words->words[1], number) == 0;
}

/* Whoever waits for a key waits to take something from it, which is no longer for him to do here. The wait ends with
 * its connection, as clients that look for the primary expect it. All workers stand still. */
static void end_waits(struct server *server) {
    static const char why[] =
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n";
    for (unsigned i = 0; i < server->worker_count; i++)
        for (struct connection *at = server->workers[i]->connections; at; at = at->next) {
            const struct blocked *blocked = at->session.blocked;
            if (!blocked || blocked->type == BLOCKED_ON_DISK || blocked->type == BLOCKED_ON_END) continue;
            if (!reply_bytes_pending(&at->pending))
                (void)!send(at->fd, why, sizeof(why) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            worker_kill(at);
        }
}

static void follow(struct call *call) {
    struct server *server = server_of(call);
    const struct connection *connection = call->session->connection;
    char host[HOST_MAX + 1], who[NAME_MAX_SHOWN];
    int64_t port;
    if (connection && connection->kind == CONNECTION_REPLICA) {
        reply_error(call->reply, "ERR Command is not valid when client is a replica.");
        return;
    }
    if (!call_integer_within(call, 2, 0, 65535, "ERR Invalid master port", &port)) return;
    if (call->argv[1].length == 0 || call->argv[1].length > HOST_MAX ||
        memchr(call->argv[1].data, '\0', call->argv[1].length)) {
        reply_error(call->reply, "ERR Invalid master host");
        return;
    }
    memcpy(host, call->argv[1].data, call->argv[1].length);
    host[call->argv[1].length] = '\0';
    if (is_followed(server, host, port)) {
        log_notice("REPLICAOF would result into synchronization with the master we are already connected with. No "
                   "operation performed.");
        reply_simple(call->reply, "OK Already connected to specified master");
        return;
    }
    if (!primary_link_follow(server, host, (int)port)) {
        call_no_memory(call);
        return;
    }
    end_waits(server);
    describe(call, who);
    log_notice("REPLICAOF %s:%lld enabled (user request from '%s')", host, (long long)port, who);
    reply_ok(call->reply);
}

static void command_replicaof(struct call *call) {
    if (atomic_load(&server_of(call)->replication.failover) != FAILOVER_NONE) {
        reply_error(call->reply, "ERR REPLICAOF not allowed while failing over.");
        return;
    }
    if (call_is(call, 1, "no") && call_is(call, 2, "one"))
        leave(call);
    else
        follow(call);
}

#define FLAGS (COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_STALE | COMMAND_NO_ASYNC_LOADING | COMMAND_EXCLUSIVE)

const struct command_spec replica_commands[] = {
    {.name = "replicaof",
     .handler = command_replicaof,
     .arity = 3,
     .flags = FLAGS,
     .group = "server",
     .since = "5.0.0",
     .summary = "Makes the server a replica of another one, or a primary",
     .complexity = "O(1)",
     .arguments = "host:s port:i"},
    {.name = "slaveof",
     .handler = command_replicaof,
     .arity = 3,
     .flags = FLAGS,
     .group = "server",
     .since = "1.0.0",
     .deprecated_since = "5.0.0",
     .replaced_by = "`REPLICAOF`",
     .summary = "The former name of REPLICAOF",
     .complexity = "O(1)",
     .arguments = "host:s port:i"},
};
const unsigned replica_command_count = sizeof(replica_commands) / sizeof(replica_commands[0]);
