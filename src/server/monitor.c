/* MONITOR. The way of a line is drawn in monitor.h.
 *
 * A feed is a stretch of text with a lock. Whoever makes the first entry posts a message to the worker, which takes
 * the whole text at once and pushes it to each of its monitors: so a burst of commands costs one message and one write
 * per monitor. A monitor remembers where in the feed it joined, and is shown nothing older. */

#include "server/monitor.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "server/redact.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>

enum { PREFIX_BYTES_MAX = 2 * SOCKET_ADDRESS_MAX }; /* time, database, address */

/* ---- the line ---- */

static const char hex_digits[] = "0123456789abcdef";

/* The letter that follows the backslash; 0: the byte is shown as it is; 'x': as two digits. */
static char escape_of(unsigned char byte) {
    switch (byte) {
    case '\\': return '\\';
    case '"': return '"';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    case '\a': return 'a';
    case '\b': return 'b';
    default: return byte < 0x20 || byte > 0x7e ? 'x' : 0;
    }
}

/* A blank, and the argument between quotes. */
static size_t quoted_length(struct span text) {
    size_t length = 3;
    for (size_t i = 0; i < text.length; i++) {
        char escape = escape_of((unsigned char)text.data[i]);
        length += escape == 0 ? 1 : escape == 'x' ? 4 : 2;
    }
    return length;
}

static char *quote(char *out, struct span text) {
    *out++ = ' ';
    *out++ = '"';
    for (size_t i = 0; i < text.length; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        char escape = escape_of(byte);
        if (escape == 0) {
            *out++ = (char)byte;
            continue;
        }
        *out++ = '\\';
        *out++ = escape;
        if (escape != 'x') continue;
        *out++ = hex_digits[byte >> 4];
        *out++ = hex_digits[byte & 15];
    }
    *out++ = '"';
    return out;
}

static size_t compose_prefix(char *prefix, const struct call *call, int64_t now_us, const char *unix_path) {
    const struct connection *connection = call->session->connection;
    bool is_unix = connection && connection->peer.is_unix;
    int length =
        snprintf(prefix, PREFIX_BYTES_MAX, "+%lld.%06lld [%u %s%.*s]", (long long)(now_us / 1000000),
                 (long long)(now_us % 1000000), call->session->database, is_unix ? "unix:" : "", SOCKET_ADDRESS_MAX,
                 is_unix      ? unix_path
                 : connection ? connection->peer.address
                              : "");
    return (size_t)length;
}

char *monitor_compose_line(const struct call *call, int64_t now_us, const char *unix_path, size_t *length) {
    char prefix[PREFIX_BYTES_MAX];
    size_t prefix_length = compose_prefix(prefix, call, now_us, unix_path);
    *length = prefix_length + 2;
    for (uint32_t i = 0; i < call->argc; i++) {
        *length += quoted_length(redact_argument(call, i));
        if (*length > MONITOR_FEED_BYTES_MAX) return NULL;
    }
    char *line = malloc(*length);
    if (!line) return NULL;
    memcpy(line, prefix, prefix_length);
    char *end = line + prefix_length;
    for (uint32_t i = 0; i < call->argc; i++) end = quote(end, redact_argument(call, i));
    memcpy(end, "\r\n", 2);
    return line;
}

/* ---- feeds ---- */

void monitor_feed_init(struct monitor_feed *feed) {
    *feed = (struct monitor_feed){0};
    pthread_mutex_init(&feed->lock, NULL);
}

void monitor_feed_free(struct monitor_feed *feed) {
    pthread_mutex_destroy(&feed->lock);
    free(feed->data);
}

static bool make_room(struct monitor_feed *feed, size_t length) {
    size_t needed = feed->length + length;
    if (needed > MONITOR_FEED_BYTES_MAX) return false;
    if (needed <= feed->capacity) return true;
    size_t capacity = needed + needed / 2 + 4096;
    char *data = realloc(feed->data, capacity);
    if (!data) return false;
    feed->data = data;
    feed->capacity = capacity;
    return true;
}

/* Takes the feed's text and shows it to this worker's monitors. */
static void deliver(struct worker *worker, void *argument) {
    (void)argument;
    struct monitor_feed *feed = &worker->feed;
    pthread_mutex_lock(&feed->lock);
    char *data = feed->data;
    size_t length = feed->length;
    uint64_t start = feed->end - length;
    bool overflowed = feed->overflowed;
    feed->data = NULL;
    feed->length = feed->capacity = 0;
    feed->overflowed = false;
    pthread_mutex_unlock(&feed->lock);
    if (overflowed) log_warning("monitors are closed: more than %lu bytes waited to be shown", MONITOR_FEED_BYTES_MAX);
    for (struct connection *monitor = worker->monitors, *next; monitor; monitor = next) {
        next = monitor->next_monitor;
        if (monitor->reply_then_close) continue;
        size_t skip = monitor->monitor_from > start ? (size_t)(monitor->monitor_from - start) : 0;
        enum connection_state state = CONNECTION_DONE;
        if (!overflowed) state = connection_push(monitor, &worker->io, data + skip, length - skip);
        if (overflowed) stat_add(&worker->io.output_limit_closes, 1);
        worker_settle(worker, monitor, state);
    }
    free(data);
}

/* `line` NULL: there was no room for it. */
static void append(struct worker *worker, const char *line, size_t length) {
    struct monitor_feed *feed = &worker->feed;
    pthread_mutex_lock(&feed->lock);
    bool first = feed->length == 0 && !feed->overflowed;
    if (line && make_room(feed, length)) {
        memcpy(feed->data + feed->length, line, length);
        feed->length += length;
        feed->end += length;
    } else {
        feed->overflowed = true;
    }
    pthread_mutex_unlock(&feed->lock);
    if (first) worker_post(worker, deliver, NULL);
}

void monitor_show(void *ctx, const struct call *call) {
    struct server *server = ctx;
    if (call->command->flags & COMMAND_ADMIN) return;
    size_t length;
    char *line = monitor_compose_line(call, clock_unix_us(), server->config.network.unixsocket, &length);
    for (unsigned i = 0; i < server->worker_count; i++)
        if (atomic_load_explicit(&server->workers[i]->monitor_count, memory_order_relaxed) > 0)
            append(server->workers[i], line, length);
    free(line);
}

/* ---- coming and going ---- */

void monitor_join(struct worker *worker, struct connection *connection) {
    pthread_mutex_lock(&worker->feed.lock);
    connection->monitor_from = worker->feed.end;
    pthread_mutex_unlock(&worker->feed.lock);
    connection->kind = CONNECTION_MONITOR;
    connection->session.monitoring = true;
    connection->next_monitor = worker->monitors;
    worker->monitors = connection;
    atomic_fetch_add(&worker->monitor_count, 1);
    atomic_fetch_add(&worker->server->host.monitors, 1);
}

void monitor_leave(struct worker *worker, struct connection *connection) {
    struct connection **link = &worker->monitors;
    while (*link != connection) link = &(*link)->next_monitor;
    *link = connection->next_monitor;
    connection->next_monitor = NULL;
    connection->kind = CONNECTION_NORMAL;
    connection->session.monitoring = false;
    atomic_fetch_sub(&worker->monitor_count, 1);
    atomic_fetch_sub(&worker->server->host.monitors, 1);
}

static void command_monitor(struct call *call) {
    struct session *session = call->session;
    if (session->transaction.open) {
        reply_error(call->reply, "ERR MONITOR isn't allowed for DENY BLOCKING client");
        return;
    }
    if (session->monitoring) return; /* no reply at all: the stream goes on, as Redis has it */
    struct server *server = server_of(call);
    monitor_join(server->workers[call->dispatcher->worker], session->connection);
    reply_ok(call->reply);
}

const struct command_spec monitor_commands[] = {
    {.name = "monitor",
     .handler = command_monitor,
     .arity = 1,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE,
     .group = "server",
     .since = "1.0.0",
     .summary = "Shows every command the server runs, as it runs"},
};
const unsigned monitor_command_count = sizeof(monitor_commands) / sizeof(monitor_commands[0]);
