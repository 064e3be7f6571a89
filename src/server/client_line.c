/* The line of a client. See client_line.h.
 *
 *   id=7 addr=127.0.0.1:50012 laddr=127.0.0.1:6379 fd=12 name= age=3 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1
 *   qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=1408 events=r cmd=get user=default
 *   redir=-1 resp=2 lib-name= lib-ver= watch=0
 *
 * Of the figures of memory, argv-mem is mostly 0, since arguments are parts of the query buffer, and rbs and rbp are,
 * since a connection has no reply buffer of its own; what waits to be read by the client is oll pieces of omem
 * bytes. */

#include "server/client_line.h"

#include "server/tracking.h"

#include <stdlib.h>

enum { FLAGS_MAX = 16, LONG_WORD_BYTES = 32 << 10 };

/* One letter for each thing that is special about the client; N: nothing. */
static void list_flags(const struct connection *connection, char *flags) {
    const struct session *session = &connection->session;
    const struct {
        bool set;
        char letter;
    } known[] = {
        {session->monitoring, 'O'},
        {connection->is_primary, 'M'},
        {connection->kind == CONNECTION_REPLICA, 'S'},
        {connection->kind == CONNECTION_PUBSUB, 'P'},
        {session->transaction.open, 'x'},
        {session->paused || session->blocked, 'b'},
        {atomic_load_explicit(&session->watcher.dirty, memory_order_relaxed), 'd'},
        {session->closing || connection->reply_then_close, 'c'},
        {connection->killed, 'A'},
        {connection->peer.is_unix, 'U'},
        {session->no_evict, 'e'},
        {session->no_touch, 'T'},
        {session->tracker, 't'},
        {session->tracker && atomic_load(&session->tracker->broken), 'R'},
        {session->tracker && session->tracker->flags & TRACKER_BROADCAST, 'B'},
    };
    char *end = flags;
    _Static_assert(sizeof(known) / sizeof(known[0]) < FLAGS_MAX, "room for each flag and the end");
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].set) *end++ = known[i].letter;
    if (end == flags) *end++ = 'N';
    *end = '\0';
}

static const char *or_empty(const char *text) {
    return text ? text : "";
}

static const char *events_of(const struct connection *connection) {
    if (connection->wants_write) return connection_wants_read(connection) ? "rw" : "w";
    return connection_wants_read(connection) ? "r" : "";
}

static int64_t redirect_of(const struct tracker *tracker) {
    return !tracker ? -1 : tracker->target ? (int64_t)tracker->target->id : 0;
}

static void print_subscriptions(FILE *out, const struct subscriber *subscriber) {
    static const struct subscriber nothing;
    const uint32_t *counts = (subscriber ? subscriber : &nothing)->counts;
    fprintf(out, " sub=%u psub=%u ssub=%u", counts[PUBSUB_CHANNEL], counts[PUBSUB_PATTERN],
            counts[PUBSUB_SHARD_CHANNEL]);
}

void client_line_print(FILE *out, const struct connection *connection, int64_t now_ms) {
    const struct session *session = &connection->session;
    const struct reply *pending = &connection->pending;
    size_t query = connection->served_bytes ? connection->served_bytes : connection->query_length, words = 0;
    /* The words before a long one that is being received count as arguments, as they do in Redis. */
    if (connection->parser.arguments_left && connection->parser.bulk_left >= LONG_WORD_BYTES &&
        !connection->parser.skipping && connection->parser.position <= query)
        words = connection->parser.position;
    size_t room = connection->query_capacity > query ? connection->query_capacity - query : 0;
    char flags[FLAGS_MAX];
    list_flags(connection, flags);
    fprintf(out, "id=%llu addr=%s laddr=%s fd=%d name=%s age=%lld idle=%lld flags=%s db=%u",
            (unsigned long long)session->id, connection->peer.address, connection->peer.local, connection->fd,
            or_empty(session->name), (long long)(now_ms - session->created_ms) / 1000,
            (long long)(now_ms - session->active_ms) / 1000, flags, session->database);
    print_subscriptions(out, session->subscriber);
    fprintf(out, " multi=%lld qbuf=%zu qbuf-free=%zu argv-mem=%zu multi-mem=%zu rbs=0 rbp=0 obl=0 oll=%zu omem=%zu",
            session->transaction.open ? (long long)session->transaction.count : -1LL, query - words, room, words,
            session->transaction.bytes, pending->slice_count - pending->sent_slices, reply_bytes_pending(pending));
    fprintf(out, " tot-mem=%zu events=%s cmd=%s user=default redir=%lld resp=%u lib-name=%s lib-ver=%s watch=%u\n",
            sizeof(*connection) + connection_memory(connection), events_of(connection),
            session->last_command ? session->last_command->full_name : "NULL", (long long)redirect_of(session->tracker),
            session->protocol, or_empty(session->library_name), or_empty(session->library_version),
            session->watcher.count);
}

bool client_class_parse(struct span name, enum client_class *class) {
    static const struct {
        const char *name;
        enum client_class class;
    } classes[] = {{"normal", CLIENT_CLASS_NORMAL},
                   {"slave", CLIENT_CLASS_REPLICA},
                   {"replica", CLIENT_CLASS_REPLICA},
                   {"pubsub", CLIENT_CLASS_PUBSUB},
                   {"master", CLIENT_CLASS_MASTER}};
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (!span_is_word(name, classes[i].name)) continue;
        *class = classes[i].class;
        return true;
    }
    return false;
}

enum client_class client_class_of(const struct connection *connection) {
    if (connection->is_primary) return CLIENT_CLASS_MASTER;
    switch (connection->kind) {
    case CONNECTION_REPLICA: return CLIENT_CLASS_REPLICA;
    case CONNECTION_PUBSUB: return CLIENT_CLASS_PUBSUB;
    default: return CLIENT_CLASS_NORMAL;
    }
}

bool client_attribute_is_valid(struct span text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < '!' || text.data[i] > '~') return false;
    return true;
}

bool client_attribute_set(char **attribute, struct span text) {
    char *copy = text.length ? strndup(text.data, text.length) : NULL;
    if (text.length && !copy) return false;
    free(*attribute);
    *attribute = copy;
    return true;
}
