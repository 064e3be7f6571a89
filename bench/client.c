/* The closed loop.
 *
 * A connection is in turn idle, writing a batch of up to `pipeline` requests, and waiting for the replies of all of
 * them; then it starts the next batch. A turn costs one recv, one send and one reading of the clock, and allocates
 * nothing: replies are read into one buffer of the thread and only counted, requests are composed into the connection's
 * own buffer, which is sent whole. EPOLLOUT is asked for only when the socket did not take the batch at once.
 *
 * Latency is recorded per reply: from just before its batch was written to just after the recv that completed it. */
#include "bench/client.h"

#include "bench/reply_skipper.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BUFFER_SIZE = 1 << 16,
    EVENTS_MAX = 256,
};

struct connection {
    int fd;
    bool wants_writable;
    unsigned outstanding; /* requests of the batch not answered yet */
    uint64_t started_ns;
    char *batch, *batch_at, *batch_end; /* the part [batch_at, batch_end) is still to be sent */
    struct reply_skipper skipper;
};

struct client {
    const struct client_mix *mix;
    struct request_source source;
    unsigned pipeline;
    uint64_t requests_left; /* UINT64_MAX: the clock decides */
    uint64_t deadline_ns;
    int epoll;
    unsigned connection_count, active;
    struct connection *connections;
    char *read_buffer;
    struct client_result result;
};

/* Set by a signal handler, hence not part of a client. */
static atomic_bool stop_requested;

void client_stop_all(void) {
    atomic_store_explicit(&stop_requested, true, memory_order_relaxed);
}

uint64_t client_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void add_relaxed(_Atomic uint64_t *counter, uint64_t amount) {
    /* One writer: a load and a store instead of a locked add. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount, memory_order_relaxed);
}

static void fail(struct client *client, const char *what, const char *why) {
    if (client->result.failure[0] == '\0')
        snprintf(client->result.failure, sizeof(client->result.failure), "%s: %s", what, why);
    client->active = 0;
}

struct client *client_create(const struct load_options *options, const struct client_mix *mix, const char *values,
                             const int *sockets, unsigned socket_count, unsigned thread, uint64_t requests) {
    struct client *client = calloc(1, sizeof(*client));
    assert(client != NULL);
    client->mix = mix;
    client->pipeline = options->pipeline;
    client->requests_left = requests == 0 ? UINT64_MAX : requests;
    client->source.shape = &options->shape;
    client->source.values = values;
    client->source.random = random_stream_make(options->seed, THREADS_MAX + thread);
    key_generator_init(&client->source.keys, options->distribution, options->keys, options->zipf_exponent,
                       options->seed, thread, options->threads);
    client->epoll = epoll_create1(EPOLL_CLOEXEC);
    assert(client->epoll >= 0);
    client->read_buffer = malloc(READ_BUFFER_SIZE);
    client->connections = calloc(socket_count, sizeof(*client->connections));
    assert(client->read_buffer != NULL && client->connections != NULL);
    client->connection_count = socket_count;
    for (unsigned i = 0; i < socket_count; i++) client->connections[i].fd = sockets[i];
    for (unsigned i = 0; i < socket_count; i++) {
        client->connections[i].batch = malloc(mix->request_length_max * options->pipeline);
        if (client->connections[i].batch == NULL) {
            client_destroy(client);
            return NULL;
        }
    }
    return client;
}

void client_destroy(struct client *client) {
    if (client == NULL) return;
    for (unsigned i = 0; i < client->connection_count; i++) {
        close(client->connections[i].fd);
        free(client->connections[i].batch);
    }
    close(client->epoll);
    free(client->connections);
    free(client->read_buffer);
    free(client);
}

const struct client_result *client_result(const struct client *client) {
    return &client->result;
}

static inline const struct request_template *pick_template(struct client *client) {
    const struct client_mix *mix = client->mix;
    if (mix->count == 1) return mix->templates[0];
    uint64_t ticket = random_below(&client->source.random, mix->weight_ends[mix->count - 1]);
    unsigned i = 0;
    while (ticket >= mix->weight_ends[i]) i++;
    return mix->templates[i];
}

static void watch(struct client *client, struct connection *connection, int operation, bool writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = connection};
    int status = epoll_ctl(client->epoll, operation, connection->fd, &event);
    assert(status == 0);
    connection->wants_writable = writable;
}

static void send_batch(struct client *client, struct connection *connection) {
    size_t length = (size_t)(connection->batch_end - connection->batch_at);
    ssize_t sent = send(connection->fd, connection->batch_at, length, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            fail(client, "connection lost", strerror(errno));
            return;
        }
        sent = 0;
    }
    connection->batch_at += sent;
    add_relaxed(&client->result.bytes_sent, (uint64_t)sent);
    bool more = connection->batch_at < connection->batch_end;
    if (more != connection->wants_writable) watch(client, connection, EPOLL_CTL_MOD, more);
}

/* Composes and sends the connection's next batch, or retires the connection when the load is over. */
static void start_batch(struct client *client, struct connection *connection, uint64_t now_ns) {
    uint64_t count = client->pipeline;
    if (count > client->requests_left) count = client->requests_left;
    bool stop = atomic_load_explicit(&stop_requested, memory_order_relaxed);
    if (count == 0 || stop || now_ns >= client->deadline_ns) {
        client->active--;
        return;
    }
    if (client->requests_left != UINT64_MAX) client->requests_left -= count;
    char *out = connection->batch;
    for (uint64_t i = 0; i < count; i++) out = request_compose(pick_template(client), &client->source, out);
    connection->batch_at = connection->batch;
    connection->batch_end = out;
    connection->outstanding = (unsigned)count;
    connection->started_ns = now_ns;
    send_batch(client, connection);
}

static void read_replies(struct client *client, struct connection *connection) {
    ssize_t got = recv(connection->fd, client->read_buffer, READ_BUFFER_SIZE, 0);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        fail(client, "connection lost", got == 0 ? "closed by the server" : strerror(errno));
        return;
    }
    int64_t replies = reply_skipper_feed(&connection->skipper, client->read_buffer, (size_t)got);
    uint64_t now_ns = client_clock_ns();
    if (replies < 0 || replies > (int64_t)connection->outstanding) {
        fail(client, "protocol violation", replies < 0 ? "the answer is not RESP" : "more replies than requests");
        return;
    }
    histogram_record(&client->result.latency, now_ns - connection->started_ns, (uint64_t)replies);
    add_relaxed(&client->result.operations, (uint64_t)replies);
    add_relaxed(&client->result.bytes_received, (uint64_t)got);
    connection->outstanding -= (unsigned)replies;
    if (connection->outstanding == 0) {
        client->result.ended_ns = now_ns;
        start_batch(client, connection, now_ns);
    }
}

static void collect_errors(struct client *client) {
    for (unsigned i = 0; i < client->connection_count; i++) {
        const struct reply_skipper *skipper = &client->connections[i].skipper;
        if (client->result.errors == 0 && skipper->errors > 0)
            memcpy(client->result.first_error, skipper->first_error, sizeof(skipper->first_error));
        client->result.errors += skipper->errors;
    }
}

void client_run(struct client *client, uint64_t deadline_ns) {
    static_assert(sizeof(client->result.first_error) == sizeof(((struct reply_skipper *)0)->first_error), "same text");
    client->deadline_ns = deadline_ns;
    client->active = client->connection_count;
    client->result.ended_ns = client_clock_ns();
    for (unsigned i = 0; i < client->connection_count && client->active > 0; i++) {
        watch(client, &client->connections[i], EPOLL_CTL_ADD, false);
        start_batch(client, &client->connections[i], client_clock_ns());
    }
    struct epoll_event events[EVENTS_MAX];
    while (client->active > 0) {
        int ready = epoll_wait(client->epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready && client->active > 0; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) send_batch(client, connection);
            if ((events[i].events & ~(unsigned)EPOLLOUT) && client->active > 0) read_replies(client, connection);
        }
    }
    collect_errors(client);
}
