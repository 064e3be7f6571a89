#ifndef TERRACE_NET_CONNECTION_H
#define TERRACE_NET_CONNECTION_H

/* A client's connection: bytes in, the dispatcher, bytes out.
 *
 *   read      into the worker's buffer when nothing is left over, else behind what is left in `query`
 *   dispatch  in place; what belongs to an unfinished command is kept in `query`
 *   write     one writev for all replies of the turn; what the socket does not take is kept in `pending`
 *
 * A connection with nothing half done owns no buffers at all. While `pending` holds more than
 * LIMIT_PENDING_REPLY_BYTES its commands are neither read nor run, so a client that does not read cannot make the
 * server grow.
 *
 * Threads: owned by one worker. Others look at it only while that worker stands still. */

#include "command/dispatch.h"
#include "net/socket.h"

enum connection_kind { CONNECTION_NORMAL, CONNECTION_REPLICA, CONNECTION_PUBSUB, CONNECTION_KINDS };

struct connection_limits {
    size_t query_bytes;       /* client-query-buffer-limit */
    struct {
        size_t hard_bytes, soft_bytes; /* 0: none */
        int64_t soft_ms;
    } output[CONNECTION_KINDS];
};

/* What a worker lends to its connections while it serves them. */
struct connection_io {
    struct dispatcher *dispatcher;
    const struct connection_limits *limits;
    char *read_buffer;        /* LIMIT_READ_BYTES */
    struct reply reply;       /* with the worker's block lent */
    stat_counter bytes_in, bytes_out, reads, writes;
    stat_counter query_limit_closes, output_limit_closes;
};

struct connection {
    struct session session;
    int fd;
    enum connection_kind kind;
    bool wants_write;         /* the socket is full: wait until it is writable */
    bool stalled;             /* whole commands wait in `query` until `pending` is sent or a pause ends */
    bool killed;              /* to be closed by its worker at the next opportunity */
    bool reply_then_close;
    struct resp_parser parser;
    char *query;              /* owned; NULL when empty */
    size_t query_length, query_capacity;
    struct reply pending;
    int64_t soft_limit_since_ms; /* 0: below the soft limit */
    uint64_t bytes_in, bytes_out;
    struct connection *next, *previous; /* of the worker's list */
    void *owner;              /* the worker */
    uint32_t watched_events;  /* what the event loop was asked for */
    struct socket_peer peer;
};

/* Takes over `fd`. NULL: no memory; the descriptor is closed. */
struct connection *connection_create(int fd, const struct socket_peer *peer, uint64_t id, int64_t now_ms, reply_release *release,
                                     void *release_ctx);
/* Closes and frees; ends its watches. No shard lock may be held. */
void connection_destroy(struct connection *connection, struct dispatcher *dispatcher);

enum connection_state {
    CONNECTION_OPEN,
    CONNECTION_DONE, /* destroy it */
};

/* The socket is readable. */
enum connection_state connection_read(struct connection *connection, struct connection_io *io);
/* The socket is writable. */
enum connection_state connection_write(struct connection *connection, struct connection_io *io);
/* A pause is over: runs what was waiting. */
enum connection_state connection_resume(struct connection *connection, struct connection_io *io);
/* Sends bytes that no command of this connection asked for (MONITOR lines, messages). */
enum connection_state connection_push(struct connection *connection, struct connection_io *io, const void *data, size_t length);

/* Whether it wants to hear of readable input now. */
static inline bool connection_wants_read(const struct connection *connection) {
    return !connection->stalled && !connection->reply_then_close;
}

/* Memory it holds besides the struct itself. */
size_t connection_memory(const struct connection *connection);

#endif
