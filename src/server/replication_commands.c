/* REPLCONF, PSYNC, SYNC: what a replica says to its primary.
 *
 *   PING, AUTH                      as any client
 *   REPLCONF listening-port 6380    where it listens; ip-address: where it wants to be known
 *   REPLCONF capa eof capa psync2   what it understands; of Terrace also field-ttl: RDB with fields that expire
 *   PSYNC <id> <offset>             +CONTINUE and the stream, or +FULLRESYNC, an RDB and the stream
 *   REPLCONF ACK <offset>           from then on, each second; never answered
 *
 * A full copy is only asked for here: it begins when worker 0 says so (replication_full.c), and its answer is written
 * by whoever sends it. */

#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "server/families.h"
#include "server/primary_link.h"
#include "server/replica.h"
#include "server/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

static struct replica *caller(struct call *call) {
    struct connection *connection = call->session->connection;
    struct replica *replica = connection ? replica_of(connection, server_of(call)) : NULL;
    if (!replica) reply_error(call->reply, "ERR out of memory");
    return replica;
}

/* ---- REPLCONF ---- */

enum option_answer { OPTION_TAKEN, OPTION_SILENT, OPTION_REFUSED };

static enum option_answer take_port(struct call *call, struct replica *replica, uint32_t value) {
    int64_t port;
    if (!call_integer_within(call, value, INT32_MIN, INT32_MAX, NULL, &port)) return OPTION_REFUSED;
    replica->port = (int)port;
    return OPTION_TAKEN;
}

static enum option_answer take_address(struct call *call, struct replica *replica, uint32_t value) {
    struct span address = call->argv[value];
    if (address.length >= sizeof(replica->address)) {
        reply_error_format(call->reply, "ERR REPLCONF ip-address provided by replica instance is too long: %zu bytes",
                           address.length);
        return OPTION_REFUSED;
    }
    for (size_t i = 0; i < address.length; i++)
        if (address.data[i] <= ' ' || address.data[i] > '~') {
            reply_error(call->reply, "ERR REPLCONF ip-address is not an address");
            return OPTION_REFUSED;
        }
    memcpy(replica->address, address.data, address.length);
    replica->address[address.length] = '\0';
    return OPTION_TAKEN;
}

/* ACK position [FACK position]. Whoever is no replica is not heard, and nobody is answered. */
static enum option_answer take_acknowledgement(struct call *call, uint32_t value) {
    const struct connection *connection = call->session->connection;
    struct replica *replica = connection ? connection->replica : NULL;
    int64_t position, on_disk = -1;
    if (!replica || !replica->listed || !number_parse_i64(call->argv[value], &position)) return OPTION_SILENT;
    if (call->argc > value + 2 && call_is(call, value + 1, "fack") &&
        !number_parse_i64(call->argv[value + 2], &on_disk))
        on_disk = -1;
    replica_acknowledge(replica, position, on_disk);
    return OPTION_SILENT;
}

static enum option_answer take_rdb_only(struct call *call, struct replica *replica, uint32_t value) {
    int64_t wanted;
    if (!call_integer_within(call, value, 0, 1, NULL, &wanted)) return OPTION_REFUSED;
    replica->rdb_only = wanted;
    return OPTION_TAKEN;
}

/* The parts an RDB shall have: of these only the functions are ever named, and there are none. */
static enum option_answer take_filter(struct call *call, struct replica *replica, uint32_t value) {
    struct span filter = call->argv[value];
    if (filter.length && !span_is_word(filter, "functions")) {
        reply_error_format(call->reply, "ERR Unsupported rdb-filter-only option: %.*s",
                           (int)(filter.length < 64 ? filter.length : 64), filter.data);
        return OPTION_REFUSED;
    }
    replica->without_keys = true;
    return OPTION_TAKEN;
}

/* "7.4.1", of Redis since 7.2. */
static enum option_answer take_version(struct call *call, struct replica *replica, uint32_t value) {
    char text[32];
    int major = 0, minor = 0;
    snprintf(text, sizeof(text), "%.*s", (int)(call->argv[value].length < 31 ? call->argv[value].length : 31),
             call->argv[value].data);
    if (sscanf(text, "%d.%d", &major, &minor) == 2 && (major > 7 || (major == 7 && minor >= 4)))
        replica->field_ttl = true;
    return OPTION_TAKEN;
}

static enum option_answer take_option(struct call *call, struct replica *replica, uint32_t name) {
    uint32_t value = name + 1;
    if (call_is(call, name, "listening-port")) return take_port(call, replica, value);
    if (call_is(call, name, "ip-address")) return take_address(call, replica, value);
    if (call_is(call, name, "ack")) return take_acknowledgement(call, value);
    if (call_is(call, name, "getack")) return OPTION_SILENT; /* from a primary only: primary_link.c */
    if (call_is(call, name, "rdb-only")) return take_rdb_only(call, replica, value);
    if (call_is(call, name, "rdb-filter-only")) return take_filter(call, replica, value);
    if (call_is(call, name, "version")) return take_version(call, replica, value);
    if (call_is(call, name, "capa")) {
        replica->eof |= call_is(call, value, "eof");
        replica->psync2 |= call_is(call, value, "psync2");
        replica->field_ttl |= call_is(call, value, "field-ttl"); /* of Terrace */
        return OPTION_TAKEN;
    }
    reply_error_format(call->reply, "ERR Unrecognized REPLCONF option: %.*s",
                       (int)(call->argv[name].length < 64 ? call->argv[name].length : 64), call->argv[name].data);
    return OPTION_REFUSED;
}

static void command_replconf(struct call *call) {
    if (call->argc % 2 == 0) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    struct replica *replica = caller(call);
    for (uint32_t i = 1; replica && i < call->argc; i += 2)
        if (take_option(call, replica, i) != OPTION_TAKEN) return;
    if (replica) reply_simple(call->reply, "OK");
}

/* ---- PSYNC and SYNC ---- */

/* Whether `id` at position `from` is this server's history, and still to be had. */
static bool can_continue(struct server *server, const struct replica *replica, struct span id, int64_t offset) {
    struct replication *replication = &server->replication;
    bool ours = id.length == REPLICATION_ID && strncasecmp(id.data, replication->id, REPLICATION_ID) == 0;
    bool second = id.length == REPLICATION_ID && strncasecmp(id.data, replication->id2, REPLICATION_ID) == 0;
    if (!ours && !(second && offset <= replication->second_offset)) {
        if (!span_is_word(id, "?"))
            log_notice("Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '%.*s', my "
                       "replication IDs are '%s' and '%s')",
                       (int)(id.length < 64 ? id.length : 64), id.data, replication->id, replication->id2);
        return false;
    }
    if (offset >= 1 && replication_has(server, (uint64_t)offset - 1)) return true;
    log_notice("Unable to partial resync with replica %s:%d for lack of backlog (Replica request was: %lld).",
               replica->address, replica->port, (long long)offset);
    return false;
}

static void tune_socket(const struct server *server, int fd) {
    int delays = server->config.replication.disable_tcp_nodelay ? 0 : 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &delays, sizeof(delays)); /* a unix socket has none */
}

static void go_on(struct call *call, struct replica *replica, int64_t offset) {
    struct server *server = server_of(call);
    uint64_t from = (uint64_t)offset - 1;
    atomic_store(&replica->sent, from);
    atomic_store(&replica->acked, from);
    replica_enter(replica, REPLICA_ONLINE);
    if (from < journal_oldest(server->journal)) replication_open_files(replica, from);
    atomic_fetch_add(&server->replication.sync_partial_ok, 1);
    if (replica->psync2) {
        char answer[sizeof("CONTINUE ") + REPLICATION_ID];
        snprintf(answer, sizeof(answer), "CONTINUE %s", server->replication.id);
        reply_simple(call->reply, answer);
    } else {
        reply_simple(call->reply, "CONTINUE");
    }
    log_notice("Partial resynchronization request from %s:%d accepted. Sending %llu bytes of backlog starting from "
               "offset %lld.",
               replica->address, replica->port, (unsigned long long)(journal_committed(server->journal, NULL) - from),
               (long long)offset);
    replication_count_good(server);
}

/* Whether the call comes from somebody who may become a replica now; if not, the answer, if any, is composed. */
static bool may_begin(struct call *call) {
    const struct connection *connection = call->session->connection;
    struct server *server = server_of(call);
    if (!connection) {
        reply_error(call->reply, "ERR SYNC and PSYNC need a connection");
        return false;
    }
    if (connection->replica && connection->replica->listed) return false; /* as Redis: said twice */
    if (atomic_load(&server->replication.failover) != FAILOVER_NONE) {
        reply_error(call->reply, "NOMASTERLINK Can't SYNC while failing over");
        return false;
    }
    if (replication_is_replica(&server->replication) && !primary_link_is_up(server)) {
        reply_error(call->reply, "NOMASTERLINK Can't SYNC while not connected with my master");
        return false;
    }
    if (reply_bytes_pending(&connection->pending) == 0) return true;
    reply_error(call->reply, "ERR SYNC and PSYNC are invalid with pending output");
    return false;
}

static void ask_for_copy(struct call *call, struct replica *replica) {
    struct server *server = server_of(call);
    replica_enter(replica, REPLICA_WAITING);
    atomic_fetch_add(&server->replication.sync_full, 1);
    log_notice("Replica %s:%d asks for synchronization, and gets a full copy", replica->address, replica->port);
}

/* The primary of this replica asks it to become one. False: the error is composed. */
static bool take_over(struct call *call) {
    struct server *server = server_of(call);
    struct replication *replication = &server->replication;
    const struct connection *connection = call->session->connection;
    struct span id = call->argv[1];
    unsigned worker = call->dispatcher->worker;
    if (!replication_is_replica(replication)) {
        reply_error(call->reply, "ERR PSYNC FAILOVER can't be sent to a master.");
        return false;
    }
    if (!connection || id.length != REPLICATION_ID || strncasecmp(id.data, replication->id, REPLICATION_ID) != 0) {
        reply_error(call->reply, "ERR PSYNC FAILOVER replid must match my replid.");
        return false;
    }
    server_stop_workers(server, worker);
    primary_link_leave(server);
    server_resume_workers(server, worker);
    log_notice("MASTER MODE enabled (failover request from '%s')", connection->peer.address);
    return true;
}

static void command_psync(struct call *call) {
    struct server *server = server_of(call);
    int64_t offset;
    if (!call_integer(call, 2, &offset)) return;
    if (call->argc > 3 && call_is(call, 3, "failover") && !take_over(call)) return;
    if (!may_begin(call)) return;
    struct replica *replica = caller(call);
    if (!replica) return;
    tune_socket(server, replica->connection->fd);
    if (can_continue(server, replica, call->argv[1], offset)) {
        go_on(call, replica, offset);
        return;
    }
    if (!span_is_word(call->argv[1], "?")) atomic_fetch_add(&server->replication.sync_partial_err, 1);
    ask_for_copy(call, replica);
}

/* The oldest form, which redis-cli still uses: an RDB and the stream, without a line in front. */
static void command_sync(struct call *call) {
    if (!may_begin(call)) return;
    struct replica *replica = caller(call);
    if (!replica) return;
    replica->legacy = true;
    tune_socket(server_of(call), replica->connection->fd);
    ask_for_copy(call, replica);
}

/* ---- declarations ---- */

#define FLAGS (COMMAND_ADMIN | COMMAND_NOSCRIPT)

const struct command_spec replication_commands[] = {
    {.name = "replconf",
     .handler = command_replconf,
     .arity = -1,
     .flags = FLAGS | COMMAND_LOADING | COMMAND_STALE | COMMAND_ALLOW_BUSY,
     .group = "server",
     .since = "3.0.0",
     .summary = "What replicas and primaries tell each other about the stream",
     .complexity = "O(1)",
     .internal = true},
    {.name = "psync",
     .handler = command_psync,
     .arity = -3,
     .flags = FLAGS | COMMAND_NO_ASYNC_LOADING | COMMAND_NO_MULTI,
     .group = "server",
     .since = "2.8.0",
     .summary = "Asks for the stream from an offset on, or for a full copy",
     .arguments = "replicationid:s offset:i"},
    {.name = "sync",
     .handler = command_sync,
     .arity = 1,
     .flags = FLAGS | COMMAND_NO_ASYNC_LOADING | COMMAND_NO_MULTI,
     .group = "server",
     .since = "1.0.0",
     .summary = "Asks for a full copy and the stream behind it"},
};
const unsigned replication_command_count = sizeof(replication_commands) / sizeof(replication_commands[0]);
