/* Serving a connection. The flow is drawn in connection.h. */

#include "net/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SUBSCRIPTION_BYTES = 128, /* of one, about, with its share of the tables */
    VECTORS = 64,             /* slices per writev */
    ROUNDS = 4,               /* reads per turn: a fast sender must not keep the others waiting */
    DROP_MS = 5000,           /* that a large command waits for room before it is dropped, if some may still come */
    PINNED_PART = 16,         /* see is_full() */
    BOUNDED_READ = 256 << 10, /* of a large command, between two looks at the memory limit */
    QUERY_STEP = 16 << 20,    /* most room made at once for an announced value: it need not ever come */
};

static enum connection_state write_own_deferred(struct connection *connection, struct connection_io *io);
static void forget_marks(struct connection *connection, struct connection_io *io);

void connection_io_init(struct connection_io *io, struct dispatcher *dispatcher, const struct connection_limits *limits,
                        char *read_buffer, char *block, size_t block_capacity, reply_release *release,
                        void *release_ctx) {
    *io = (struct connection_io){.dispatcher = dispatcher,
                                 .limits = limits,
                                 .read_buffer = read_buffer,
                                 .block = block,
                                 .block_capacity = block_capacity};
    reply_init(&io->reply, block, block_capacity, release, release_ctx);
}

void connection_io_free(struct connection_io *io) {
    reply_clear(&io->reply);
    free(io->held);
    io->held = NULL;
}

struct connection *connection_create(int fd, const struct socket_peer *peer, uint64_t id, int64_t now_ms,
                                     reply_release *release, void *release_ctx) {
    struct connection *connection = calloc(1, sizeof(*connection));
    if (!connection) {
        close(fd);
        return NULL;
    }
    session_init(&connection->session, id, now_ms);
    connection->session.connection = connection;
    connection->session.waiter.owner = connection;
    connection->fd = fd;
    connection->peer = *peer;
    resp_parser_init(&connection->parser);
    reply_init(&connection->pending, NULL, 0, release, release_ctx);
    return connection;
}

void connection_destroy(struct connection *connection, struct connection_io *io) {
    (void)write_own_deferred(connection, io);
    forget_marks(connection, io);
    close(connection->fd);
    if (io->dispatcher->port) tier_release(io->dispatcher->port, &connection->session.waiter);
    blocked_leave(io->dispatcher, &connection->session);
    transaction_unwatch(io->dispatcher, &connection->session, false);
    session_free(&connection->session);
    resp_parser_reset(&connection->parser);
    reply_clear(&connection->pending);
    free(connection->query);
    free(connection);
}

size_t connection_memory(const struct connection *connection) {
    return connection->query_capacity + connection->parser.own_capacity * sizeof(struct span) +
           reply_bytes_pending(&connection->pending) + connection->session.transaction.bytes +
           connection->session.subscriptions * SUBSCRIPTION_BYTES + connection->session.watcher.bytes +
           connection->session.tracking_bytes + (connection->session.blocked ? connection->session.blocked->bytes : 0);
}

/* ---- held replies ---- */

/* Whether what was composed until now has to wait, and for which position. */
static bool must_hold(struct connection_io *io, uint64_t *position) {
    const struct journal *journal = io->dispatcher->effects.journal;
    if (__builtin_expect(!io->gate || !journal, 1)) return false;
    int state = commit_gate_state(io->gate);
    if (state == COMMIT_GATE_OPEN) return false;
    if (state == COMMIT_GATE_BROKEN && atomic_load(&io->gate->breaks) == io->gate_breaks) return false;
    uint64_t durable = commit_gate_durable(io->gate);
    *position = journal_end(journal);
    if (!io->held_count) { /* what is held now is to be looked at again when either has changed */
        io->released = durable;
        io->released_state = state;
    }
    if (*position > durable && io->gate->commit && state == COMMIT_GATE_HOLDS) {
        io->gate->commit(io->gate->ctx);
        durable = commit_gate_durable(io->gate);
    }
    return *position > durable;
}

static size_t held_bytes(const struct connection *connection) {
    return connection->marks[0].bytes + connection->marks[1].bytes;
}

static void forget_marks(struct connection *connection, struct connection_io *io) {
    connection->marks[0] = connection->marks[1] = (struct connection_mark){0};
    if (!connection->held) return;
    struct connection *last = io->held[--io->held_count];
    io->held[connection->held - 1] = last;
    last->held = connection->held;
    connection->held = 0;
    if (!io->held_count) atomic_store(&io->holds, false);
}

/* False: no memory. */
static bool enter_held(struct connection *connection, struct connection_io *io) {
    if (connection->held) return true;
    if (io->held_count == io->held_capacity) {
        size_t capacity = io->held_capacity ? 2 * io->held_capacity : 64;
        struct connection **held = realloc(io->held, capacity * sizeof(struct connection *));
        if (!held) return false;
        io->held = held;
        io->held_capacity = capacity;
    }
    io->held[io->held_count++] = connection;
    connection->held = io->held_count;
    connection->held_breaks = io->gate_breaks;
    if (io->held_count == 1) atomic_store(&io->holds, true);
    return true;
}

/* The last `bytes` of `pending` wait for `position`. False: no memory, and they must not be sent. */
static bool mark_held(struct connection *connection, struct connection_io *io, size_t bytes, uint64_t position) {
    struct connection_mark *first = &connection->marks[0], *second = &connection->marks[1];
    if (!enter_held(connection, io)) return false;
    struct connection_mark *mark = !first->bytes || (first->position == position && !second->bytes) ? first : second;
    mark->position = position;
    mark->bytes += bytes;
    atomic_fetch_add(&io->gate->holds, 1);
    return true;
}

/* So many bytes were added that need not wait, but for those in front of them. */
static void extend_marks(struct connection *connection, size_t bytes) {
    connection->marks[connection->marks[1].bytes ? 1 : 0].bytes += bytes;
}

/* Drops the marks of what may leave now. */
static void shift_marks(struct connection *connection, struct connection_io *io) {
    bool open = commit_gate_state(io->gate) == COMMIT_GATE_OPEN;
    uint64_t durable = commit_gate_durable(io->gate);
    while (connection->marks[0].bytes && (open || connection->marks[0].position <= durable)) {
        connection->marks[0] = connection->marks[1];
        connection->marks[1] = (struct connection_mark){0};
    }
    if (!connection->marks[0].bytes) forget_marks(connection, io);
}

/* ---- output ---- */

/* Writes as much of `reply` as the socket takes, but not the last `kept` bytes; false: the connection is broken. */
static bool write_reply(struct connection *connection, struct connection_io *io, struct reply *reply, size_t kept) {
    while (reply_bytes_pending(reply) > kept) {
        struct iovec vectors[VECTORS];
        size_t count = reply_vectors(reply, vectors, VECTORS), left = reply_bytes_pending(reply) - kept;
        for (size_t i = 0; kept && i < count; left -= vectors[i++].iov_len) {
            if (vectors[i].iov_len < left) continue;
            vectors[i].iov_len = left;
            count = i + 1;
        }
        ssize_t sent = count == 1 ? write(connection->fd, vectors[0].iov_base, vectors[0].iov_len)
                                  : writev(connection->fd, vectors, (int)count);
        stat_add(&io->writes, 1);
        if (sent < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN) return false;
            connection->wants_write = true;
            return true;
        }
        stat_add(&io->bytes_out, (uint64_t)sent);
        connection->bytes_out += (uint64_t)sent;
        connection->session.active_ms = io->dispatcher->now_ms; /* it reads, so it is alive */
        reply_consume(reply, (size_t)sent);
    }
    return true;
}

/* Whether the client reads too slowly for its class (client-output-buffer-limit). */
static bool over_output_limit(struct connection *connection, struct connection_io *io) {
    size_t bytes = reply_bytes_pending(&connection->pending);
    size_t hard = io->limits->output[connection->kind].hard_bytes,
           soft = io->limits->output[connection->kind].soft_bytes;
    if (hard && bytes >= hard) return true;
    if (!soft || bytes < soft) {
        connection->soft_limit_since_ms = 0;
        return false;
    }
    int64_t now_ms = io->dispatcher->now_ms;
    if (!connection->soft_limit_since_ms) connection->soft_limit_since_ms = now_ms;
    return now_ms - connection->soft_limit_since_ms >= io->limits->output[connection->kind].soft_ms;
}

static bool memory_is_tight(const struct connection_io *io) {
    const struct command_host *host = io->dispatcher->host;
    return host && atomic_load_explicit(&host->memory_tight, memory_order_relaxed);
}

/* Unread replies from which on its commands wait. Where its class has a limit, or all clients together have one, they
 * go on up to that, so that a client which reads too slowly is closed, as the limit promises, instead of being held at
 * a distance from it. */
static size_t most_pending(const struct connection *connection, const struct connection_io *io) {
    if (memory_is_tight(io)) return 1;
    size_t most = LIMIT_PENDING_REPLY_BYTES;
    size_t hard = io->limits->output[connection->kind].hard_bytes,
           soft = io->limits->output[connection->kind].soft_bytes;
    if (hard > most) most = hard;
    if (io->limits->all_bytes > most) most = io->limits->all_bytes;
    return soft > most ? soft : most;
}

/* Values that are sent from where they lie take no memory of their own as long as they are not overwritten: they count
 * for a part of their length. */
static bool is_full(const struct connection *connection, const struct connection_io *io) {
    const struct reply *pending = &connection->pending;
    size_t most = most_pending(connection, io), bytes = reply_bytes_pending(pending), pinned = 0;
    if (bytes < most) return false;
    for (size_t i = pending->sent_slices; i < pending->slice_count; i++)
        if (pending->slices[i].pinned) pinned += pending->slices[i].length;
    if (pinned > bytes) pinned = bytes; /* of the first one a part has been sent */
    return memory_is_tight(io) || bytes - pinned + pinned / PINNED_PART >= most;
}

/* It has not said the password, and there is one. */
static bool is_stranger(const struct connection *connection, const struct connection_io *io) {
    const struct command_host *host = io->dispatcher->host;
    return !connection->session.authenticated && host &&
           !atomic_load_explicit(&host->open_to_all, memory_order_relaxed);
}

/* Lends the rest of the worker's block to the next reply. */
static void lend_rest(struct connection_io *io) {
    reply_clear(&io->reply);
    reply_lend(&io->reply, io->block + io->block_used, io->block_capacity - io->block_used);
}

/* Leaves the composed reply in the block until the end of the turn; false: it has to be written now. */
static bool defer(struct connection *connection, struct connection_io *io) {
    size_t length;
    if (connection->deferred || io->deferred_count == CONNECTION_DEFERRED_MAX) return false;
    const char *data = reply_lent_bytes(&io->reply, &length);
    if (!data) return false;
    io->deferred[io->deferred_count++] = (struct deferred_reply){connection, data, length};
    connection->deferred = (uint16_t)io->deferred_count;
    io->block_used += length;
    lend_rest(io);
    return true;
}

static enum connection_state after_write(struct connection *connection, struct connection_io *io) {
    size_t left = reply_bytes_pending(&connection->pending);
    if (left && over_output_limit(connection, io)) {
        stat_add(&io->output_limit_closes, 1);
        return CONNECTION_DONE;
    }
    return !left && connection->reply_then_close ? CONNECTION_DONE : CONNECTION_OPEN;
}

/* Writes this connection's deferred reply; what the socket does not take is kept, and so is what must be held. */
static enum connection_state write_own_deferred(struct connection *connection, struct connection_io *io) {
    if (!connection->deferred) return CONNECTION_OPEN;
    struct deferred_reply *deferred = &io->deferred[connection->deferred - 1];
    size_t sent = 0;
    uint64_t position;
    connection->deferred = 0;
    deferred->connection = NULL;
    if (must_hold(io, &position)) {
        reply_raw(&connection->pending, deferred->data, deferred->length);
        return mark_held(connection, io, deferred->length, position) ? after_write(connection, io) : CONNECTION_DONE;
    }
    while (sent < deferred->length) {
        ssize_t step = write(connection->fd, deferred->data + sent, deferred->length - sent);
        stat_add(&io->writes, 1);
        if (step < 0 && errno == EINTR) continue;
        if (step < 0 && errno != EAGAIN) return CONNECTION_DONE;
        if (step < 0) {
            connection->wants_write = true;
            reply_raw(&connection->pending, deferred->data + sent, deferred->length - sent);
            break;
        }
        sent += (size_t)step;
        stat_add(&io->bytes_out, (uint64_t)step);
        connection->bytes_out += (uint64_t)step;
        connection->session.active_ms = io->dispatcher->now_ms;
    }
    return after_write(connection, io);
}

void connection_write_deferred(struct connection_io *io,
                               void (*settle)(void *ctx, struct connection *connection, enum connection_state state),
                               void *ctx) {
    for (unsigned i = 0; i < io->deferred_count; i++) {
        struct connection *connection = io->deferred[i].connection;
        if (connection) settle(ctx, connection, write_own_deferred(connection, io));
    }
    io->deferred_count = 0;
    io->block_used = 0;
    lend_rest(io);
}

/* A reply that is too long by itself is not begun, however fast its client would read. */
static bool exceeds_output_limit(struct connection *connection, struct connection_io *io, size_t bytes) {
    size_t hard = io->limits->output[connection->kind].hard_bytes;
    if (__builtin_expect(!hard, 1) || bytes + reply_bytes_pending(&connection->pending) < hard) return false;
    stat_add(&io->output_limit_closes, 1);
    return true;
}

/* Sends what was composed, behind whatever still waits. */
static enum connection_state flush(struct connection *connection, struct connection_io *io) {
    size_t bytes = reply_bytes_pending(&io->reply);
    uint64_t position;
    if (bytes == 0) return after_write(connection, io);
    if (exceeds_output_limit(connection, io, bytes)) {
        reply_clear(&io->reply);
        lend_rest(io);
        return CONNECTION_DONE;
    }
    bool waiting = reply_bytes_pending(&connection->pending) > 0;
    if (!waiting && defer(connection, io)) return CONNECTION_OPEN;
    if (write_own_deferred(connection, io) == CONNECTION_DONE) return CONNECTION_DONE;
    waiting = reply_bytes_pending(&connection->pending) > 0;
    bool holds = must_hold(io, &position), broken = !waiting && !holds && !write_reply(connection, io, &io->reply, 0);
    if (!broken && reply_bytes_pending(&io->reply) > 0) reply_append(&connection->pending, &io->reply);
    if (holds) broken = !mark_held(connection, io, bytes, position);
    /* Behind something held, what need not be held itself must not be taken for it. */
    if (!holds && !broken && connection->held) extend_marks(connection, bytes);
    lend_rest(io);
    return broken ? CONNECTION_DONE : after_write(connection, io);
}

/* Whether it has been sent what the gate's breaking forbids to send. What is durable all the same has lost its mark. */
static bool is_forsaken(const struct connection *connection, const struct connection_io *io) {
    return connection->held && commit_gate_state(io->gate) == COMMIT_GATE_BROKEN &&
           atomic_load(&io->gate->breaks) != connection->held_breaks;
}

void connection_release_held(struct connection_io *io,
                             void (*settle)(void *ctx, struct connection *connection, enum connection_state state),
                             void *ctx) {
    io->released_state = commit_gate_state(io->gate);
    io->released = commit_gate_durable(io->gate);
    /* From the last on: one that has nothing held any more is replaced by one that was looked at already. */
    for (size_t i = io->held_count; i-- > 0;) {
        if (i >= io->held_count) continue; /* several have left at once */
        struct connection *connection = io->held[i];
        shift_marks(connection, io);
        enum connection_state state = CONNECTION_DONE;
        if (!is_forsaken(connection, io))
            state = connection->wants_write ? CONNECTION_OPEN : connection_write(connection, io);
        settle(ctx, connection, state);
    }
}

/* ---- input ---- */

/* Keeps the first unconsumed bytes of `buffer`, which may be `query` itself. False: no memory. */
static bool keep_rest(struct connection *connection, struct span buffer, size_t consumed) {
    size_t rest = buffer.length - consumed;
    if (rest == 0) {
        if (!connection->query) return true; /* nearly always: what came was complete */
        free(connection->query);
        connection->query = NULL;
        connection->query_length = connection->query_capacity = 0;
        return true;
    }
    if (buffer.data == connection->query) {
        if (consumed) memmove(connection->query, buffer.data + consumed, rest);
    } else {
        /* Nothing more is read into it while its commands wait, which may be for memory. */
        size_t capacity = rest + (connection->stalled ? 0 : LIMIT_READ_BYTES / 4);
        char *query = malloc(capacity);
        if (!query) return false;
        memcpy(query, buffer.data + consumed, rest);
        free(connection->query);
        connection->query = query;
        connection->query_capacity = capacity;
    }
    connection->query_length = rest;
    return true;
}

/* Runs the commands in `buffer` and sends their replies. */
static enum connection_state serve_commands(struct connection *connection, struct connection_io *io,
                                            struct span buffer) {
    size_t consumed = 0;
    connection->stalled = false;
    for (;;) {
        size_t step = 0;
        io->reply.resp3 = connection->session.protocol == 3;
        enum dispatch_result result =
            dispatch_input(io->dispatcher, &connection->session, &connection->parser,
                           span_of(buffer.data + consumed, buffer.length - consumed), &io->reply, &step);
        consumed += step;
        if (result == DISPATCH_CLOSE) connection->reply_then_close = true;
        if (flush(connection, io) == CONNECTION_DONE) return CONNECTION_DONE;
        if (connection->session.transaction.bytes >= io->limits->query_bytes) {
            /* What MULTI has queued is input that waits, like the rest of it. */
            stat_add(&io->query_limit_closes, 1);
            return CONNECTION_DONE;
        }
        if (result == DISPATCH_CLOSE) return CONNECTION_OPEN;
        if (result == DISPATCH_PAUSED || result == DISPATCH_WAITS || result == DISPATCH_BLOCKED)
            connection->stalled = true;
        bool full = is_full(connection, io);
        /* Strangers have no claim on memory: what they do not read is held for nobody. */
        if (full && is_stranger(connection, io) && !memory_is_tight(io)) {
            stat_add(&io->output_limit_closes, 1);
            return CONNECTION_DONE;
        }
        if (result == DISPATCH_FULL && !full) continue;
        if (full) connection->stalled = true;
        return keep_rest(connection, buffer, consumed) ? CONNECTION_OPEN : CONNECTION_DONE;
    }
}

static enum connection_state serve(struct connection *connection, struct connection_io *io, struct span buffer) {
    connection->served_bytes = buffer.length;
    enum connection_state state = serve_commands(connection, io, buffer);
    connection->served_bytes = 0;
    return state;
}

/* How large the query buffer should be for what comes next. */
static size_t wanted_capacity(const struct connection *connection) {
    size_t free_bytes = connection->query_capacity - connection->query_length;
    size_t wanted = resp_parser_wanted(&connection->parser, connection->query_length);
    /* The rest of a value that fits is worth no larger buffer, which would take a copy of all that has come. */
    if (free_bytes >= LIMIT_READ_BYTES || (wanted && free_bytes >= wanted)) return connection->query_capacity;
    if (wanted < LIMIT_READ_BYTES / 4) wanted = LIMIT_READ_BYTES / 4;
    if (wanted > QUERY_STEP) wanted = QUERY_STEP;
    return connection->query_length + wanted;
}

/* Makes room behind what is kept; false: too much, or no memory. */
static bool make_room(struct connection *connection, struct connection_io *io) {
    size_t capacity = wanted_capacity(connection);
    if (connection->query_length >= io->limits->query_bytes) {
        stat_add(&io->query_limit_closes, 1);
        return false;
    }
    if (capacity <= connection->query_capacity) return true;
    if (capacity < connection->query_capacity + connection->query_capacity / 2)
        capacity = connection->query_capacity + connection->query_capacity / 2;
    /* realloc() would copy, and so touch, also what is not filled yet: megabytes. */
    char *query = malloc(capacity);
    if (!query) return false;
    memcpy(query, connection->query, connection->query_length);
    free(connection->query);
    connection->query = query;
    connection->query_capacity = capacity;
    return true;
}

/* Nothing is going to be freed, so the command will be refused; a moderate one is read to its end all the same, since
 * it may be one that frees memory. */
static bool is_read_to_be_refused(const struct connection *connection, const struct connection_io *io) {
    struct command_host *host = io->dispatcher->host;
    bool hopeless = connection_held_for_long(connection, io->dispatcher->now_ms);
    return (hopeless || atomic_load_explicit(&host->out_of_memory, memory_order_relaxed)) && host->can_refuse &&
           host->can_refuse(host->ctx, connection->query_length +
                                           resp_parser_wanted(&connection->parser, connection->query_length));
}

bool connection_drop_command(struct connection *connection) {
    if (connection->parser.arguments_left == 0 || connection->parser.skipping || connection->stalled) return false;
    size_t kept = resp_parser_skip(&connection->parser, connection->query_length);
    connection->held_back = false;
    connection->held_since_ms = 0;
    struct span buffer = span_of(connection->query, connection->query_length);
    return keep_rest(connection, buffer, connection->query_length - kept);
}

/* Whether it has waited for long enough, and was dropped. */
static bool drop_command(struct connection *connection, const struct connection_io *io) {
    bool none = atomic_load_explicit(&io->dispatcher->host->out_of_memory, memory_order_relaxed);
    int64_t held_ms = connection->held_since_ms ? io->dispatcher->now_ms - connection->held_since_ms : 0;
    return held_ms > (none ? CONNECTION_HELD_MS : DROP_MS) && connection_drop_command(connection);
}

/* Whether the rest of a large command has to stay in the socket for now: memory is short, or there is none for another
 * copy of what has come so far, which a longer buffer may take. `*room` is cut to what can be answered for. */
static bool must_hold_back(struct connection *connection, struct connection_io *io, size_t *room) {
    struct command_host *host = io->dispatcher->host;
    bool grows = wanted_capacity(connection) > connection->query_capacity;
    connection->held_back = false;
    if (!host || !atomic_load_explicit(&host->memory_bounded, memory_order_relaxed)) return false;
    *room = BOUNDED_READ;
    if (connection->query_length <= LIMIT_TIGHT_BYTES) {
        *room = LIMIT_READ_BYTES;
        connection->held_since_ms = 0;
        return false;
    }
    bool has_room = !host->has_room || host->has_room(host->ctx, *room + (grows ? connection->query_length : 0));
    connection->held_back = !has_room && !is_read_to_be_refused(connection, io) && !drop_command(connection, io);
    if (!connection->held_back)
        connection->held_since_ms = 0;
    else if (!connection->held_since_ms)
        connection->held_since_ms = io->dispatcher->now_ms;
    return connection->held_back;
}

/* What was answered for has been taken. */
static void give_up_room(struct connection_io *io) {
    struct command_host *host = io->dispatcher->host;
    if (host && host->has_room) (void)host->has_room(host->ctx, 0);
}

/* The client sends no more, but may still be waiting for what is held. */
static enum connection_state end_of_input(struct connection *connection, struct connection_io *io) {
    uint64_t position;
    if (!connection->held && !(connection->deferred && must_hold(io, &position))) return CONNECTION_DONE;
    connection->reply_then_close = true;
    return CONNECTION_OPEN;
}

enum connection_state connection_read(struct connection *connection, struct connection_io *io) {
    for (unsigned round = 0; round < ROUNDS && connection_wants_read(connection); round++) {
        char *into = io->read_buffer;
        size_t room = LIMIT_READ_BYTES, most = SIZE_MAX;
        if (connection->query_length && must_hold_back(connection, io, &most)) break;
        if (connection->query_length) {
            if (!make_room(connection, io)) return CONNECTION_DONE;
            into = connection->query + connection->query_length;
            room = connection->query_capacity - connection->query_length;
            if (room > most) room = most;
        }
        ssize_t got = read(connection->fd, into, room);
        stat_add(&io->reads, 1);
        give_up_room(io);
        if (got == 0) return end_of_input(connection, io);
        if (got < 0) return errno == EAGAIN || errno == EINTR ? CONNECTION_OPEN : CONNECTION_DONE;
        stat_add(&io->bytes_in, (uint64_t)got);
        connection->bytes_in += (uint64_t)got;
        connection->session.active_ms = io->dispatcher->now_ms;
        struct span buffer = span_of(into, (size_t)got);
        if (connection->query_length) {
            connection->query_length += (size_t)got;
            if (connection->query_length > io->limits->query_bytes) {
                stat_add(&io->query_limit_closes, 1);
                return CONNECTION_DONE;
            }
            buffer = span_of(connection->query, connection->query_length);
        }
        if (serve(connection, io, buffer) == CONNECTION_DONE) return CONNECTION_DONE;
        if ((size_t)got < room) break;
    }
    return CONNECTION_OPEN;
}

enum connection_state connection_resume(struct connection *connection, struct connection_io *io) {
    if (!connection->stalled || connection->session.waiter.outstanding || connection->session.blocked ||
        is_full(connection, io))
        return CONNECTION_OPEN;
    return serve(connection, io, span_of(connection->query, connection->query_length));
}

/* It was served by another worker's command, in a turn in which the gate may have broken: what it got is perhaps not
 * on the disk, and must not be told. */
static bool is_lost_service(const struct connection_io *io, const struct blocked *blocked) {
    return io->gate && commit_gate_state(io->gate) == COMMIT_GATE_BROKEN && (blocked->command->flags & COMMAND_WRITE) &&
           atomic_load_explicit((_Atomic int *)(uintptr_t)&blocked->state, memory_order_acquire) == BLOCKED_SERVED;
}

enum connection_state connection_answer(struct connection *connection, struct connection_io *io,
                                        struct blocked *blocked) {
    io->reply.resp3 = connection->session.protocol == 3;
    struct reply_mark mark = reply_mark(&io->reply);
    bool lost = is_lost_service(io, blocked);
    blocked_answer(io->dispatcher, blocked, &io->reply);
    if (lost) {
        reply_rewind(&io->reply, mark);
        return CONNECTION_DONE;
    }
    connection->session.active_ms = io->dispatcher->now_ms; /* it was idle because it waited */
    if (flush(connection, io) == CONNECTION_DONE) return CONNECTION_DONE;
    return connection_resume(connection, io);
}

enum connection_state connection_write(struct connection *connection, struct connection_io *io) {
    connection->wants_write = false;
    if (!write_reply(connection, io, &connection->pending, held_bytes(connection))) return CONNECTION_DONE;
    if (reply_bytes_pending(&connection->pending) == 0 && connection->reply_then_close) return CONNECTION_DONE;
    return connection_resume(connection, io);
}

enum connection_state connection_send(struct connection *connection, struct connection_io *io) {
    return flush(connection, io);
}

enum connection_state connection_push(struct connection *connection, struct connection_io *io, const void *data,
                                      size_t length) {
    reply_raw(&io->reply, data, length);
    return flush(connection, io);
}
