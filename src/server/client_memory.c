/* See client_memory.h.
 *
 * One client is closed at a time, then everything is counted again, so that no more are closed than needed. The sums of
 * the other workers are at most a tick old, but for what their clients have grown by since, which is added as it is
 * noted; while there is something to close they are made every CHECK_NS. */

#include "server/client_memory.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/server.h"

enum {
    CHECK_NS = 10000000,
    SMALL_BYTES = 64 << 10, /* closing a client for less helps nobody */
    SMALL_SHARE = 64,       /* nor for less than this part of maxmemory in all: their commands are told -OOM instead */
};

static size_t bytes_of(const struct connection *connection) {
    return sizeof(*connection) + connection_memory(connection);
}

/* Of its unread replies, the values that are sent from where they lie: they are counted there. */
static size_t pinned_bytes(const struct connection *connection) {
    const struct reply *pending = &connection->pending;
    size_t bytes = 0;
    for (size_t i = pending->sent_slices; i < pending->slice_count; i++)
        if (pending->slices[i].pinned) bytes += pending->slices[i].length;
    return bytes;
}

static bool may_be_closed(const struct connection *connection) {
    return !connection->session.no_evict && !connection->killed;
}

static struct connection *largest_of(const struct worker *worker) {
    struct connection *largest = NULL;
    for (struct connection *connection = worker->connections; connection; connection = connection->next)
        if (may_be_closed(connection) && (!largest || bytes_of(connection) > bytes_of(largest))) largest = connection;
    return largest;
}

void client_memory_count(struct worker *worker) {
    struct client_memory *memory = &worker->client_memory;
    size_t query = 0, unfilled = 0, reply = 0, pinned = 0, all = 0;
    const struct connection *largest = largest_of(worker);
    for (struct connection *connection = worker->connections; connection; connection = connection->next) {
        connection->counted_bytes = connection->killed ? 0 : bytes_of(connection);
        if (connection->killed) continue; /* as good as closed */
        query += connection->query_length;
        unfilled += connection->query_capacity - connection->query_length;
        reply += reply_bytes_pending(&connection->pending);
        pinned += pinned_bytes(connection);
        all += bytes_of(connection);
    }
    stat_set(&memory->query_bytes, query);
    stat_set(&memory->reply_bytes, reply);
    stat_set(&memory->pinned_bytes, pinned);
    stat_set(&memory->unfilled_bytes, unfilled);
    stat_set(&memory->other_bytes, all - query - unfilled - reply);
    stat_set(&memory->largest_bytes, largest ? bytes_of(largest) : 0);
    stat_set(&memory->grown_bytes, 0);
}

/* ---- closing ---- */

static void log_eviction(const struct connection *connection, const char *reason) {
    log_notice("closing client id %llu (%s), whose buffers take %zu bytes: %s",
               (unsigned long long)connection->session.id, connection->peer.address, bytes_of(connection), reason);
}

static void evict(struct worker *worker, struct connection *connection, const char *reason) {
    log_eviction(connection, reason);
    stat_add(&worker->client_memory.evicted, 1);
    worker_close(worker, connection);
}

size_t client_memory_limit(const struct config *config) {
    const struct config_share *share = &config->clients.maxmemory_clients;
    if (!share->percent) return (size_t)share->bytes;
    return (size_t)((unsigned __int128)config->memory.maxmemory_bytes * (unsigned)share->percent / 100);
}

static size_t bytes_of_worker(const struct worker *worker) {
    const struct client_memory *memory = &worker->client_memory;
    return stat_get(&memory->query_bytes) + stat_get(&memory->unfilled_bytes) + stat_get(&memory->reply_bytes) +
           stat_get(&memory->other_bytes) + stat_get(&memory->grown_bytes);
}

static size_t total(const struct server *server, bool *is_largest, size_t own_largest) {
    size_t sum = 0;
    *is_largest = own_largest > 0;
    for (unsigned i = 0; i < server->worker_count; i++) {
        const struct client_memory *memory = &server->workers[i]->client_memory;
        sum += bytes_of_worker(server->workers[i]);
        if (stat_get(&memory->largest_bytes) > own_largest) *is_largest = false;
    }
    return sum;
}

/* Memory has been short for long, nothing is left to free, and clients' buffers have a part in that. */
static bool is_stuck_on_clients(const struct server *server, uint64_t stuck_ms, size_t sum, size_t largest) {
    return stuck_ms >= CLIENT_MEMORY_STUCK_MS && largest >= SMALL_BYTES &&
           sum > (size_t)server->config.memory.maxmemory_bytes / SMALL_SHARE;
}

static void close_largest(struct worker *worker, const char *reason) {
    struct connection *largest = largest_of(worker);
    if (!largest) return;
    evict(worker, largest, reason);
    client_memory_count(worker);
}

/* A client that is sending a large command loses that, and is told so; one that does not read is closed. */
static void relieve(struct worker *worker) {
    struct connection *largest = largest_of(worker);
    if (!largest || largest->query_capacity < bytes_of(largest) / 2 || !connection_drop_command(largest)) {
        close_largest(worker, "memory is short, and nothing else can be freed");
        return;
    }
    worker_settle(worker, largest, CONNECTION_OPEN);
    client_memory_count(worker);
}

void client_memory_check(struct worker *worker) {
    struct server *server = worker->server;
    struct client_memory *memory = &worker->client_memory;
    size_t limit = client_memory_limit(&server->config);
    bool tight = atomic_load_explicit(&server->host.memory_tight, memory_order_relaxed);
    uint64_t stuck_ms = tight ? memory_limit_stuck_ns(server) / 1000000 : 0;
    if (limit == 0 && stuck_ms < CLIENT_MEMORY_STUCK_MS && !worker->room.somebody_waits) return;
    uint64_t now = (uint64_t)clock_monotonic_ns();
    if (now < memory->next_check_ns) return;
    memory->next_check_ns = now + CHECK_NS;
    client_memory_count(worker);
    bool is_largest;
    for (;;) {
        size_t own = stat_get(&memory->largest_bytes), sum = total(server, &is_largest, own);
        if (!is_largest) return;
        if (limit && sum > limit) {
            close_largest(worker, "all clients together are above maxmemory-clients");
            continue;
        }
        /* One for each check: what it frees has to show first. */
        if (is_stuck_on_clients(server, stuck_ms, sum, own)) relieve(worker);
        return;
    }
}

void client_memory_note(struct worker *worker, struct connection *connection) {
    struct client_memory *memory = &worker->client_memory;
    size_t bytes = bytes_of(connection), before = connection->counted_bytes;
    if (bytes == before) return;
    connection->counted_bytes = bytes;
    /* Added up modulo 2^64, so that what grows and shrinks again is counted right. */
    stat_set(&memory->grown_bytes, stat_get(&memory->grown_bytes) + bytes - before);
    if (bytes < before) return;
    bool is_largest;
    size_t limit = client_memory_limit(&worker->server->config);
    if (!limit || total(worker->server, &is_largest, bytes) <= limit) return;
    memory->next_check_ns = 0;
}

void client_memory_forget(struct worker *worker, const struct connection *connection) {
    struct client_memory *memory = &worker->client_memory;
    stat_set(&memory->grown_bytes, stat_get(&memory->grown_bytes) - connection->counted_bytes);
}

static size_t count_all(struct server *server) {
    size_t sum = 0;
    for (unsigned i = 0; i < server->worker_count; i++) {
        client_memory_count(server->workers[i]);
        sum += bytes_of_worker(server->workers[i]);
    }
    return sum;
}

static struct connection *largest_of_all(const struct server *server) {
    struct connection *largest = NULL;
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct connection *own = largest_of(server->workers[i]);
        if (own && (!largest || bytes_of(own) > bytes_of(largest))) largest = own;
    }
    return largest;
}

void client_memory_apply(struct server *server) {
    size_t limit = client_memory_limit(&server->config), sum = count_all(server);
    struct connection *largest;
    while (limit && sum > limit && (largest = largest_of_all(server))) {
        struct worker *worker = largest->owner;
        log_eviction(largest, "all clients together are above maxmemory-clients");
        stat_add(&worker->client_memory.evicted, 1);
        worker_kill(largest);
        sum -= bytes_of(largest);
    }
    (void)count_all(server); /* so that no worker takes those for alive, and closes more */
}
