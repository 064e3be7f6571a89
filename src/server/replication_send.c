/* The stream, from the ring to the sockets of replicas. See replication.h and replica.h.
 *
 * Nothing is queued for a replica: it has a position, and what lies between that and the journal's committed end is
 * still to be sent. Its worker writes it from the ring itself, which it pins for the moment of the write; what has left
 * the ring is read from the spool, or, after a PSYNC that reaches further back, from the append-only file. Each worker
 * looks at the end of its turn, and wakes those others who sleep with replicas of theirs when it has appended
 * something.
 *
 * A replica that is slow makes the spool run, so what it costs is disk; how much, client-output-buffer-limit replica
 * says. One that is being synchronised, or has not yet caught up since, is not measured by that: closing it would only
 * have it come again. */

#include "base/clock.h"
#include "base/log.h"
#include "persist/aof_backlog.h"
#include "persist/journal_spool.h"
#include "server/replica.h"
#include "server/server.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    ROUND_BYTES = 256 << 10, /* in one write */
    ROUNDS = 4,              /* of a turn, for each replica */
    NEWLINE_MS = 1000,
    /* A busy worker sends a replica so much at once, or after so long: each write wakes it, and that is what costs. */
    GATHER_BYTES = 64 << 10,
    GATHER_NS = 1000000,
};

enum progress { CAUGHT_UP, MORE, FULL, BROKEN, LEFT_BEHIND };

/* ---- sending ---- */

static enum progress note_sent(struct replica *replica, ssize_t sent, size_t wanted) {
    if (sent < 0) {
        if (errno == EINTR) return MORE;
        return errno == EAGAIN ? FULL : BROKEN;
    }
    struct server *server = replica->server;
    atomic_fetch_add_explicit(&replica->sent, (uint64_t)sent, memory_order_relaxed);
    atomic_fetch_add_explicit(&server->replication.bytes_out, (uint64_t)sent, memory_order_relaxed);
    replica->connection->bytes_out += (uint64_t)sent;
    stat_add(&replica->worker->io.bytes_out, (uint64_t)sent);
    return (size_t)sent < wanted ? FULL : MORE;
}

static enum progress send_from_ring(struct worker *worker, struct replica *replica, uint64_t from, uint64_t to) {
    struct span spans[2];
    struct iovec vectors[2];
    if (to - from > ROUND_BYTES) to = from + ROUND_BYTES;
    if (!journal_pin(worker->stream_pin, from)) return LEFT_BEHIND;
    unsigned count = journal_pinned(worker->stream_pin, from, to, spans);
    for (unsigned i = 0; i < count; i++) vectors[i] = (struct iovec){(void *)(uintptr_t)spans[i].data, spans[i].length};
    ssize_t sent = writev(replica->connection->fd, vectors, (int)count);
    int error = errno;
    journal_unpin(worker->stream_pin);
    errno = error;
    return note_sent(replica, sent, (size_t)(to - from));
}

static enum progress send_from_spool(struct worker *worker, struct replica *replica, uint64_t from) {
    ssize_t got = journal_spool_read(replica->server->replication.spool, from, worker->read_buffer, LIMIT_READ_BYTES);
    if (got == 0) return LEFT_BEHIND;
    if (got < 0) return BROKEN;
    return note_sent(replica, write(replica->connection->fd, worker->read_buffer, (size_t)got), (size_t)got);
}

void replication_close_files(struct replica *replica) {
    atomic_store(&replica->reads_files, false);
    aof_backlog_close(replica->files);
    replica->files = NULL;
}

void replication_open_files(struct replica *replica, uint64_t position) {
    replication_close_files(replica);
    replica->files = aof_backlog_open(replica->server->replication.files, position);
    atomic_store(&replica->reads_files, replica->files != NULL);
}

static enum progress send_from_files(struct worker *worker, struct replica *replica, uint64_t from) {
    if (!replica->files) replication_open_files(replica, from);
    if (!replica->files) return LEFT_BEHIND;
    ssize_t got = aof_backlog_read(replica->files, from, worker->read_buffer, LIMIT_READ_BYTES);
    if (got == 0) return LEFT_BEHIND;
    if (got < 0) return BROKEN;
    return note_sent(replica, write(replica->connection->fd, worker->read_buffer, (size_t)got), (size_t)got);
}

static enum progress send_round(struct worker *worker, struct replica *replica, uint64_t committed) {
    uint64_t from = atomic_load_explicit(&replica->sent, memory_order_relaxed);
    if (from >= committed) return CAUGHT_UP;
    enum progress progress = send_from_spool(worker, replica, from);
    if (progress == LEFT_BEHIND) progress = send_from_ring(worker, replica, from, committed);
    if (progress != LEFT_BEHIND && replica->files) replication_close_files(replica);
    /* Between the two looks it may have left the ring, but not without having come into the spool before. */
    if (progress == LEFT_BEHIND) progress = send_from_spool(worker, replica, from);
    if (progress == LEFT_BEHIND) progress = send_from_files(worker, replica, from);
    /* The file's writer holds what it has not written yet, so it can only have come there meanwhile. */
    if (progress == LEFT_BEHIND) progress = send_from_ring(worker, replica, from, committed);
    if (progress == LEFT_BEHIND)
        log_warning("replica %s:%d has fallen behind what is kept of the stream, and is closed", replica->address,
                    replica->port);
    return progress == LEFT_BEHIND ? BROKEN : progress;
}

/* It lags so far that the ring may soon have lost what comes next: from here on it is kept. */
static void keep_for(struct replica *replica, uint64_t waiting) {
    struct server *server = replica->server;
    uint64_t from = atomic_load(&replica->sent);
    if (waiting < journal_capacity(server->journal) / 4 || from < journal_oldest(server->journal)) return;
    if (journal_spool_figures(server->replication.spool).running) return;
    pthread_mutex_lock(&server->replication.spool_lock);
    (void)!journal_spool_begin(server->replication.spool, from, "."); /* it is closed when it falls behind */
    pthread_mutex_unlock(&server->replication.spool_lock);
}

/* Whether the stream may be written: what its connection had to say itself has left. */
static bool is_ready(const struct replica *replica) {
    const struct connection *connection = replica->connection;
    return replica_state(replica) == REPLICA_ONLINE && !connection->wants_write && !connection->deferred &&
           !connection->held && !connection->killed && reply_bytes_pending(&connection->pending) == 0;
}

static enum connection_state serve(struct worker *worker, struct replica *replica, uint64_t committed) {
    enum progress progress = MORE;
    if (!worker->stream_pin) worker->stream_pin = journal_make_pin(worker->server->journal);
    if (!worker->stream_pin) return CONNECTION_DONE;
    for (unsigned round = 0; progress == MORE && round < ROUNDS; round++)
        progress = send_round(worker, replica, committed);
    if (progress == FULL) replica->connection->wants_write = true;
    return progress == BROKEN ? CONNECTION_DONE : CONNECTION_OPEN;
}

static uint64_t unsent(const struct replica *replica, uint64_t committed) {
    uint64_t sent = atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&replica->sent, memory_order_relaxed);
    return committed > sent ? committed - sent : 0;
}

/* One that is within the limits is held to them from then on. */
static void measure(const struct worker *worker, struct replica *replica, uint64_t waiting) {
    size_t hard = worker->limits.output[CONNECTION_REPLICA].hard_bytes,
           soft = worker->limits.output[CONNECTION_REPLICA].soft_bytes;
    replica->measured = (!hard || waiting <= hard) && (!soft || waiting <= soft);
}

/* What may be sent. Under `appendfsync always` nothing leaves that is not on the disk, as with Redis: after a power
 * failure no replica has what its primary has lost. A file that is broken holds nothing up. */
static uint64_t sendable(struct server *server) {
    uint64_t committed = journal_committed(server->journal, NULL);
    if (commit_gate_state(&server->aof.gate) != COMMIT_GATE_HOLDS) return committed;
    uint64_t durable = commit_gate_durable(&server->aof.gate);
    return durable < committed ? durable : committed;
}

static void serve_replicas(struct worker *worker, bool at_once) {
    uint64_t committed = sendable(worker->server);
    at_once |= clock_elapsed_ns(worker->sent_ticks) >= GATHER_NS;
    for (struct replica *replica = worker->replicas, *next; replica; replica = next) {
        next = replica->next_of_worker;
        uint64_t waiting = unsent(replica, committed);
        if (replica_state(replica) != REPLICA_ONLINE) continue;
        keep_for(replica, waiting);
        if (!replica->measured) measure(worker, replica, waiting);
        if (!waiting || !(at_once || waiting >= GATHER_BYTES) || !is_ready(replica)) continue;
        worker->sent_ticks = clock_ticks();
        worker_settle(worker, replica->connection, serve(worker, replica, committed));
    }
}

/* ---- turns ---- */

void replication_nudge(struct server *server) {
    atomic_thread_fence(memory_order_seq_cst); /* what was appended, before the look who sleeps */
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct worker *worker = server->workers[i];
        if (atomic_load_explicit(&worker->stream_sleeps, memory_order_relaxed) &&
            atomic_exchange(&worker->stream_sleeps, false))
            worker_wake(worker);
    }
}

void replication_turn(struct worker *worker) {
    struct server *server = worker->server;
    if (__builtin_expect(!atomic_load_explicit(&server->replication.synced, memory_order_relaxed), 1)) return;
    bool asks = worker->wants_acks;
    if (asks) {
        worker->wants_acks = false;
        if (server->replication.keeper && !replication_is_replica(&server->replication))
            replication_tell_stream(worker, REPLICATION_GETACK);
    }
    if (worker->replicas) serve_replicas(worker, asks);
    uint64_t end = journal_end(server->journal);
    if (end == worker->stream_seen) return;
    worker->stream_seen = end;
    if (server->worker_count > 1) replication_nudge(server);
}

int replication_wait_ms(struct worker *worker) {
    bool waits = false;
    if (__builtin_expect(!worker->replicas, 1)) return -1;
    atomic_store(&worker->stream_sleeps, true); /* who appends from here on wakes us, or brings it to the disk */
    uint64_t committed = sendable(worker->server);
    for (const struct replica *replica = worker->replicas; replica; replica = replica->next_of_worker)
        waits |= is_ready(replica) && unsent(replica, committed);
    return !waits ? -1 : clock_elapsed_ns(worker->sent_ticks) < GATHER_NS ? GATHER_NS / 1000000 : 0;
}

bool replication_has(struct server *server, uint64_t position) {
    const struct replication *replication = &server->replication;
    uint64_t oldest = journal_oldest(server->journal), first, last;
    if (!replication->keeper || position < replication->backlog_from ||
        position > journal_committed(server->journal, NULL))
        return false;
    return position >= oldest ||
           (aof_backlog_reach(replication->files, &first, &last) && position >= first && last >= oldest);
}

uint64_t replication_waiting_bytes(const struct server *server, const struct connection *connection) {
    const struct replica *replica = connection->replica;
    if (!replica || replica_state(replica) != REPLICA_ONLINE) return 0;
    return unsent(replica, journal_committed(server->journal, NULL));
}

/* ---- ticks ---- */

/* One that still has to take what was written during its copy is given the time it needs, as long as it takes anything:
 * to close it would be to begin again. */
static bool stands_still(struct worker *worker, struct replica *replica) {
    uint64_t sent = atomic_load(&replica->sent);
    int64_t now_ms = worker->dispatcher.now_ms;
    if (sent != replica->moved_to || !replica->moved_ms) {
        replica->moved_to = sent;
        replica->moved_ms = now_ms;
    }
    return now_ms - replica->moved_ms > worker->server->config.replication.timeout_seconds * 1000;
}

static bool is_over_limit(struct worker *worker, struct replica *replica) {
    size_t hard = worker->limits.output[CONNECTION_REPLICA].hard_bytes,
           soft = worker->limits.output[CONNECTION_REPLICA].soft_bytes;
    uint64_t waiting = replication_waiting_bytes(worker->server, replica->connection);
    if (!replica->measured) return stands_still(worker, replica);
    if (hard && waiting > hard) return true;
    if (!soft || waiting <= soft) {
        replica->lingers_since_ms = 0;
        return false;
    }
    int64_t now_ms = worker->dispatcher.now_ms;
    if (!replica->lingers_since_ms) replica->lingers_since_ms = now_ms;
    return now_ms - replica->lingers_since_ms >= worker->limits.output[CONNECTION_REPLICA].soft_ms;
}

/* A feeder watches over its replica itself, and whoever gave SYNC says nothing any more. */
static bool is_silent(struct worker *worker, struct replica *replica) {
    enum replica_state state = replica_state(replica);
    if (state == REPLICA_WAITING || state == REPLICA_COPYING || replica->legacy || replica->rdb_only) return false;
    int64_t heard_ms = atomic_load(&replica->heard_ms), read_ms = replica->connection->session.active_ms;
    if (read_ms > heard_ms) heard_ms = read_ms; /* one that loads sends newlines */
    return worker->dispatcher.now_ms - heard_ms > worker->server->config.replication.timeout_seconds * 1000;
}

void replication_tend(struct worker *worker) {
    int64_t now_ms = worker->dispatcher.now_ms;
    bool newline = now_ms - worker->newline_ms >= NEWLINE_MS;
    if (!worker->replicas) return;
    if (newline) worker->newline_ms = now_ms;
    for (struct replica *replica = worker->replicas, *next; replica; replica = next) {
        next = replica->next_of_worker;
        struct connection *connection = replica->connection;
        enum replica_state state = replica_state(replica);
        if (state == REPLICA_WAITING && newline) (void)!write(connection->fd, "\n", 1);
        bool late = state == REPLICA_ONLINE && is_over_limit(worker, replica), silent = is_silent(worker, replica);
        if (!late && !silent) continue;
        if (late) stat_add(&worker->io.output_limit_closes, 1);
        log_warning(late ? "Replica %s:%d is closed: more waits for it than client-output-buffer-limit allows"
                         : "Disconnecting timedout replica (streaming sync): %s:%d",
                    replica->address, replica->port);
        worker_close(worker, connection);
    }
}

/* The least position somebody still needs; `copying`: who is being synchronised needs what comes, too. */
static uint64_t least_needed(struct server *server, bool *copying, bool *pingable) {
    struct replication *replication = &server->replication;
    uint64_t least = journal_committed(server->journal, NULL);
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next) {
        enum replica_state state = replica_state(replica);
        uint64_t sent = atomic_load(&replica->sent);
        if (state == REPLICA_ANNOUNCED || state == REPLICA_WAITING || replica->rdb_only) continue;
        *copying |= state != REPLICA_ONLINE;
        *pingable = true;
        if (sent < least && !atomic_load(&replica->reads_files)) least = sent;
    }
    pthread_mutex_unlock(&replication->lock);
    return least;
}

void replication_send_tick(struct server *server) {
    struct replication *replication = &server->replication;
    bool copying = false, pingable = false;
    int64_t now_ms = clock_unix_ms();
    uint64_t least = least_needed(server, &copying, &pingable);
    /* One that is not far behind has the ring. */
    bool behind = journal_end(server->journal) - least > journal_capacity(server->journal) / 4;
    pthread_mutex_lock(&replication->spool_lock);
    journal_spool_keep(replication->spool, least, copying || behind);
    pthread_mutex_unlock(&replication->spool_lock);
    if (!pingable) replication->pinged_ms = now_ms; /* the first one is due a period after the first replica */
    if (!pingable || replication_is_replica(replication) || atomic_load(&server->host.paused)) return;
    if (now_ms - replication->pinged_ms < server->config.replication.ping_seconds * 1000) return;
    replication->pinged_ms = now_ms;
    replication_tell_stream(server->workers[0], REPLICATION_PING);
    replication_nudge(server);
}
