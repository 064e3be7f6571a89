/* Applying the stream, on worker 0, as one more of its connections.
 *
 *   socket -> bytes -> whole commands and transactions -> journal, as they are
 *                                                      -> dispatcher, by a session that replays
 *
 * What is appended is applied before the worker comes to its next safe point, so a cut of the dataset always agrees
 * with the journal's end. What has come in only in part stays in `bytes`; after a loss of the link it is asked for
 * again, as the offset does not count it.
 *
 * Commands that are no part of the dataset (PING, REPLCONF) are passed on, but not run. Whatever else is no command
 * that writes has no business in the stream; it is not run, and the log says so, as of a command that fails. */

#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "server/primary_link_private.h"
#include "server/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    PIECE_BYTES = 128 * 1024, /* read in one go: what others of this worker wait for */
    KEPT_BYTES = 1024 * 1024, /* of a buffer that a large command made grow */
    ERRORS_LOGGED = 20,       /* of one link */
    ROOM_MS_MAX = 1000,       /* as long as a client waits for memory */
};

bool link_apply_begin(struct primary_link *link, struct worker *worker) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &link->server->replication.link};
    int database = atomic_load(&link->server->replication.stream_database);
    link->stream = (struct primary_stream){0};
    session_init(&link->session, 0, worker->dispatcher.now_ms);
    link->session.authenticated = link->session.replaying = link->session.from_primary = true;
    link->session.database = database > 0 ? (uint32_t)database : 0;
    reply_init(&link->reply, NULL, 0, NULL, NULL);
    link->asked = link->held = false;
    link->fresh = true;
    return epoll_ctl(worker->poll_fd, EPOLL_CTL_ADD, link->fd, &event) == 0;
}

void link_acknowledge(struct primary_link *link) {
    char offset[24], command[96];
    int digits = snprintf(offset, sizeof(offset), "%llu", (unsigned long long)replication_offset(link->server));
    int length =
        snprintf(command, sizeof(command), "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$%d\r\n%s\r\n", digits, offset);
    (void)!send(link->fd, command, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- one batch ---- */

struct batch {
    struct request requests[LIMIT_BATCH_COMMANDS];
    struct span arguments[LIMIT_BATCH_ARGUMENTS];
    unsigned count;
    size_t used; /* of `arguments` */
    struct span *own;
};

static void log_errors(struct primary_link *link, const char *code) {
    if (link->errors_logged++ >= ERRORS_LOGGED) return;
    log_warning("== CRITICAL == a command of the stream failed on this replica: %s", code);
}

/* The commands of the batch, however often the dispatcher stops. */
static void run_batch(struct primary_link *link, struct worker *worker, struct batch *batch) {
    for (unsigned done = 0; done < batch->count;) {
        enum dispatch_result result;
        uint64_t errors = link->reply.errors;
        done += dispatch_requests(&worker->dispatcher, &link->session, batch->requests + done, batch->count - done,
                                  &link->reply, &result);
        if (link->reply.errors != errors) log_errors(link, link->reply.error_code);
        reply_clear(&link->reply);
        link->session.closing = false;
    }
    free(batch->own);
    batch->own = NULL;
    batch->count = 0;
    batch->used = 0;
}

/* The word behind the name; of an item that has one. */
static struct span second_word(const struct aof_item *item) {
    const char *at = item->name.data + item->name.length + 3; /* CR LF $ */
    size_t length = 0;
    for (; *at != '\r'; at++) length = length * 10 + (size_t)(*at - '0');
    return span_of(at + 2, length);
}

static bool is_of_dataset(struct primary_link *link, const struct aof_item *item) {
    const struct command *command = command_table_find(link->server->table, item->name);
    if (command && command->subcommand_count && item->argc > 1)
        command = command_find_subcommand(command, second_word(item));
    if (!command) return true; /* the dispatcher has an error for it */
    return (command->flags & (COMMAND_WRITE | COMMAND_MAY_REPLICATE | COMMAND_READONLY)) ||
           span_is_word(item->name, "select") || span_is_word(item->name, "multi") || span_is_word(item->name, "exec");
}

/* Adds a command; false: there is no memory for its arguments. */
static bool add(struct primary_link *link, struct worker *worker, struct batch *batch, const char *bytes,
                const struct aof_item *item) {
    bool fits = item->argc <= LIMIT_BATCH_ARGUMENTS - batch->used;
    if (batch->count == LIMIT_BATCH_COMMANDS || (!fits && batch->count)) run_batch(link, worker, batch);
    struct span *argv = batch->arguments + batch->used;
    if (item->argc > LIMIT_BATCH_ARGUMENTS) {
        argv = batch->own = malloc(item->argc * sizeof(*argv));
        if (!argv) return false;
    } else {
        batch->used += item->argc;
    }
    aof_parse_words(bytes, item, argv);
    batch->requests[batch->count++] = (struct request){.argv = argv, .argc = item->argc};
    if (batch->own) run_batch(link, worker, batch);
    return true;
}

/* A command that selects a database which is not there would have what follows go to another one. */
static bool selects_as_told(struct primary_link *link, const char *bytes, const struct aof_item *item) {
    struct span argv[2];
    int64_t database;
    if (item->argc != 2) return false;
    aof_parse_words(bytes, item, argv);
    return number_parse_i64(argv[1], &database) && database >= 0 &&
           database < (int64_t)link->server->keyspace->database_count;
}

/* ---- what was received ---- */

/* Takes `item` into the batch, or does with it what is to be done. False: `why` says what is wrong. */
static bool take(struct primary_link *link, struct worker *worker, struct batch *batch, const char *bytes,
                 const struct aof_item *item, char *why) {
    if (span_is_word(item->name, "ping")) return true;
    if (span_is_word(item->name, "replconf")) {
        struct span argv[3];
        if (item->argc == 3) aof_parse_words(bytes, item, argv);
        if (item->argc == 3 && span_is_word(argv[1], "getack")) link->asked = true;
        return true;
    }
    if (span_is_word(item->name, "select") && !selects_as_told(link, bytes, item)) {
        snprintf(why, LINK_LINE_MAX, "the primary selects a database that is not here: raise `databases`");
        return false;
    }
    if (!is_of_dataset(link, item)) {
        log_errors(link, "it is no command that writes");
        return true;
    }
    if (add(link, worker, batch, bytes, item)) return true;
    snprintf(why, LINK_LINE_MAX, "no memory for a command of the stream");
    return false;
}

/* How much of what is there is whole, and may be appended and run. */
static size_t whole_bytes(struct primary_link *link, struct primary_stream *ahead, bool *bad, char *why) {
    size_t at = 0, whole = 0;
    struct aof_item item;
    for (;;) {
        enum primary_stream_next next = primary_stream_next(ahead, span_of(link->bytes + at, link->length - at), &item);
        *bad = next == PRIMARY_STREAM_BAD;
        if (*bad)
            snprintf(why, LINK_LINE_MAX, "what the primary sends is no stream of commands, at offset %llu",
                     (unsigned long long)(replication_offset(link->server) + at + item.bad_at));
        if (next != PRIMARY_STREAM_COMMAND) return whole;
        at += item.length;
        if (!ahead->in_transaction) whole = at;
    }
}

static bool run_whole(struct primary_link *link, struct worker *worker, size_t whole, char *why) {
    static _Thread_local struct batch batch; /* too large for the stack; only worker 0 has one */
    struct aof_item item;
    bool taken = true;
    for (size_t at = 0; at < whole && taken; at += item.length) {
        (void)aof_parse_item(span_of(link->bytes + at, whole - at), &item);
        taken = take(link, worker, &batch, link->bytes + at, &item, why);
    }
    run_batch(link, worker, &batch);
    return taken;
}

/* Runs what is whole of what was received. */
static bool digest(struct primary_link *link, struct worker *worker, char *why) {
    bool bad;
    size_t whole = whole_bytes(link, &link->stream, &bad, why);
    if (whole > 0) {
        replication_append(link->server, span_of(link->bytes, whole));
        bool taken = run_whole(link, worker, whole, why);
        atomic_store(&link->server->replication.stream_database, (int)link->session.database);
        link_consume(link, whole);
        if (!taken) return false;
    }
    atomic_store(&link->unfinished, link->length);
    if (link->asked && !bad) link_acknowledge(link);
    link->asked = false;
    return !bad;
}

static void shrink(struct primary_link *link) {
    if (link->length > 0 || link->capacity <= KEPT_BYTES) return;
    free(link->bytes);
    link->bytes = NULL;
    link->capacity = 0;
}

/* The replica has less memory than its primary, and a tier: what comes waits in the socket while room is made, which
 * the worker does between its turns. Where nothing can be freed the stream goes on all the same. */
static bool waits_for_room(struct primary_link *link, struct worker *worker) {
    struct server *server = link->server;
    if (!server->config.memory.maxmemory_bytes) return false;
    memory_limit_refresh_if_due(server);
    bool waits = memory_limit_level(&server->metrics.limit) == MEMORY_DELAY;
    if (waits && !link->waits_since_ms) link->waits_since_ms = worker->dispatcher.now_ms;
    if (!waits) link->waits_since_ms = 0;
    return waits && worker->dispatcher.now_ms - link->waits_since_ms < ROOM_MS_MAX;
}

bool link_apply(struct primary_link *link, struct worker *worker, char *why) {
    bool unseen = link->fresh && link->length > 0; /* it came with the answer to PSYNC, or behind the copy */
    link->fresh = false;
    if (unseen && !digest(link, worker, why)) return false;
    if (waits_for_room(link, worker)) return true;
    if (!link_reserve(link, PIECE_BYTES)) {
        snprintf(why, LINK_LINE_MAX, "no memory for a command of the stream");
        return false;
    }
    ssize_t got = recv(link->fd, link->bytes + link->length, link->capacity - link->length, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (got <= 0) {
        snprintf(why, LINK_LINE_MAX, "%s", got < 0 ? strerror(errno) : "the primary closed the connection");
        return false;
    }
    link->length += (size_t)got;
    atomic_store(&link->heard_ms, worker->dispatcher.now_ms);
    atomic_fetch_add(&link->server->replication.bytes_in, (uint64_t)got);
    bool digested = digest(link, worker, why);
    shrink(link);
    return digested;
}
