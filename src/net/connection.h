#ifndef TERRACE_NET_CONNECTION_H
#define TERRACE_NET_CONNECTION_H

/* A client's connection: bytes in, the dispatcher, bytes out.
 *
 *   read      into the worker's buffer when nothing is left over, else behind what is left in `query`
 *   dispatch  in place; what belongs to an unfinished command is kept in `query`
 *   write     at the end of the turn, one write for all replies; what the socket does not take is kept in `pending`
 *
 * Replies of all connections served in a turn are composed one behind the other in the worker's block and written
 * together when the turn ends: a client that serves several connections is then woken once, not once for each.
 * Replies too large for that, or that send values from where they lie, are written at once.
 *
 * A connection with nothing half done owns no buffers at all. While `pending` holds more than
 * LIMIT_PENDING_REPLY_BYTES (or its class's output limit, or maxmemory-clients, if that is larger; values that are sent
 * from where they lie count for a part) its commands are neither read nor run, so a client that does not read cannot
 * make the server grow.
 *
 * Held replies (persist/commit_gate.h). While the gate holds, what is to be written goes to `pending` instead, with a
 * mark: the journal position that has to be durable first. Two marks are enough: what is composed while both are taken
 * joins the second, which becomes the first as soon as that one's bytes may leave.
 *
 *   pending   |.. may leave ..|.. first mark ..|.. second mark ..|
 *
 * Threads: owned by one worker. Others look at it only while that worker stands still. */

#include "command/dispatch.h"
#include "net/socket.h"
#include "persist/commit_gate.h"

enum connection_kind { CONNECTION_NORMAL, CONNECTION_REPLICA, CONNECTION_PUBSUB, CONNECTION_MONITOR, CONNECTION_KINDS };

struct connection_limits {
    size_t query_bytes; /* client-query-buffer-limit */
    size_t all_bytes;   /* maxmemory-clients: who makes them too many is closed; 0: none */
    struct {
        size_t hard_bytes, soft_bytes; /* 0: none */
        int64_t soft_ms;
    } output[CONNECTION_KINDS];
};

struct connection;
struct replica;

/* A reply that waits in the worker's block for the end of the turn. */
struct deferred_reply {
    struct connection *connection; /* NULL: written or closed meanwhile */
    const char *data;
    size_t length;
};

enum {
    CONNECTION_DEFERRED_MAX = 256,
    CONNECTION_HELD_MS = 1000, /* that a large command waits for memory before it is looked at what else can be done */
};

/* What a worker lends to its connections while it serves them. */
struct connection_io {
    struct dispatcher *dispatcher;
    const struct connection_limits *limits;
    char *read_buffer; /* LIMIT_READ_BYTES */
    char *block;       /* replies of this turn */
    size_t block_used, block_capacity;
    struct reply reply; /* being composed; with the rest of the block lent */
    struct deferred_reply deferred[CONNECTION_DEFERRED_MAX];
    unsigned deferred_count;
    stat_counter bytes_in, bytes_out, reads, writes;
    stat_counter query_limit_closes, output_limit_closes;
    struct commit_gate *gate; /* NULL: replies are never held */
    uint64_t gate_breaks;     /* gate->breaks when the turn began */
    struct connection **held; /* those with marks; owned */
    size_t held_count, held_capacity;
    atomic_bool holds; /* held_count is not 0: the worker is to be woken when more is durable */
    uint64_t released; /* what was durable when held replies were last looked at */
    int released_state;
};

/* Bytes of `pending` that wait for a position of the journal. */
struct connection_mark {
    uint64_t position;
    size_t bytes;
};

struct connection {
    struct session session;
    int fd;
    enum connection_kind kind;
    bool wants_write; /* the socket is full: wait until it is writable */
    bool stalled;   /* whole commands may wait in `query`: for `pending` to be sent, cold records, a pause's end, or the
                     * end of a blocking command; nothing is read, so they are bounded by the socket's buffer */
    bool held_back; /* memory is short: the rest of a large command stays in the socket for now */
    bool overheard; /* input came while it waited for cold records: the event loop is not asked for more until it reads
                     */
    bool killed;    /* to be closed by its worker at the next opportunity */
    bool reply_then_close;
    bool is_primary;   /* no connection of a worker's: what CLIENT LIST shows in the place of the link to the primary */
    uint16_t deferred; /* its place in the worker's list of replies to be written, plus 1; 0: none */
    struct resp_parser parser;
    char *query; /* owned; NULL when empty */
    size_t query_length, query_capacity;
    size_t served_bytes; /* of the input whose commands are running just now */
    struct reply pending;
    struct connection_mark marks[2];
    size_t held;                 /* its place among those with marks, plus 1; 0: it has none */
    uint64_t held_breaks;        /* gate->breaks when the turn began that the marks are of */
    int64_t soft_limit_since_ms; /* 0: below the soft limit */
    int64_t held_since_ms;       /* when it was first held back with the present command; 0: it was not */
    uint64_t bytes_in, bytes_out;
    struct connection *next, *previous; /* of the worker's list */
    void *owner;                        /* the worker */
    uint32_t watched_events;            /* what the event loop was asked for */
    struct connection *next_monitor;    /* of the worker's monitors */
    size_t touched;                     /* its place among those with messages to be sent, plus 1; 0: none */
    size_t counted_bytes;               /* what it took when its worker last asked */
    struct replica *replica;            /* it is one, or says so; the server's. NULL: no */
    uint64_t monitor_from;              /* it is shown nothing before this place of the worker's feed */
    struct socket_peer peer;
};

/* Takes over `fd`. NULL: no memory; the descriptor is closed. */
struct connection *connection_create(int fd, const struct socket_peer *peer, uint64_t id, int64_t now_ms,
                                     reply_release *release, void *release_ctx);
/* Writes what waits for the end of the turn, closes and frees; ends its watches. No shard lock may be held. */
void connection_destroy(struct connection *connection, struct connection_io *io);

enum connection_state {
    CONNECTION_OPEN,
    CONNECTION_DONE, /* destroy it */
};

/* `block` is the worker's, for the replies of a turn; the io keeps using it. */
void connection_io_init(struct connection_io *io, struct dispatcher *dispatcher, const struct connection_limits *limits,
                        char *read_buffer, char *block, size_t block_capacity, reply_release *release,
                        void *release_ctx);

/* The end of a turn: writes all deferred replies and calls `settle` for each connection they belong to. */
void connection_write_deferred(struct connection_io *io,
                               void (*settle)(void *ctx, struct connection *connection, enum connection_state state),
                               void *ctx);
/* A turn begins. */
static inline void connection_begin_turn(struct connection_io *io) {
    if (io->gate) io->gate_breaks = atomic_load(&io->gate->breaks);
}
/* Sends what was held and may leave now; `settle` as above. Replies of what connections had sent meanwhile are
 * deferred, so this belongs at the beginning of a turn. */
void connection_release_held(struct connection_io *io,
                             void (*settle)(void *ctx, struct connection *connection, enum connection_state state),
                             void *ctx);
/* Whether that would do anything. To be asked before the worker sleeps: what becomes durable later wakes it. */
static inline bool connection_may_release(const struct connection_io *io) {
    if (!io->held_count) return false;
    atomic_thread_fence(memory_order_seq_cst);
    return commit_gate_durable(io->gate) != io->released || commit_gate_state(io->gate) != io->released_state;
}
/* Frees what the io owns. */
void connection_io_free(struct connection_io *io);

/* Whether the block or the list is nearly full, so that the turn's replies should be written now. */
static inline bool connection_deferred_full(const struct connection_io *io) {
    return io->deferred_count == CONNECTION_DEFERRED_MAX ||
           io->block_capacity - io->block_used < io->block_capacity / 4;
}

/* The socket is readable. */
enum connection_state connection_read(struct connection *connection, struct connection_io *io);
/* The socket is writable. */
enum connection_state connection_write(struct connection *connection, struct connection_io *io);
/* A pause is over, or cold records have arrived: runs what was waiting. */
enum connection_state connection_resume(struct connection *connection, struct connection_io *io);
/* The wait of its last command has ended: sends the reply, frees `blocked`, and runs what was waiting. */
enum connection_state connection_answer(struct connection *connection, struct connection_io *io,
                                        struct blocked *blocked);
/* Sends bytes that no command of this connection asked for (MONITOR lines, messages). */
enum connection_state connection_push(struct connection *connection, struct connection_io *io, const void *data,
                                      size_t length);

/* The same of what was composed in `io->reply`, between turns. */
enum connection_state connection_send(struct connection *connection, struct connection_io *io);

/* Whether it wants to hear of readable input now. */
static inline bool connection_wants_read(const struct connection *connection) {
    return !connection->stalled && !connection->held_back && !connection->reply_then_close;
}

/* There is no memory for the command that is being received: what has come of it is freed, what still comes is passed
 * over, and at its end its client is told -OOM. False: nothing is being received. */
bool connection_drop_command(struct connection *connection);

static inline bool connection_held_for_long(const struct connection *connection, int64_t now_ms) {
    return connection->held_since_ms && now_ms - connection->held_since_ms > CONNECTION_HELD_MS;
}

/* Memory it holds besides the struct itself. */
size_t connection_memory(const struct connection *connection);

#endif
