/* Full synchronisation: one snapshot for all replicas that wait for one.
 *
 *   worker 0    a tick finds somebody waiting long enough (repl-diskless-sync-delay), and takes the snapshot job
 *   the cut     all stand still: the position is noted, the spool keeps what comes behind it, a feeder thread begins
 *               for each replica that waits
 *   walkers     compose the RDB into the pass's store: in memory as long as the replicas keep up, else in a file
 *   feeders     send "+FULLRESYNC id position", then the store's bytes as they come, each at its replica's own pace
 *   worker      sends the stream, once the replica is done
 *
 * A replica that understands $EOF gets bytes while they are composed; one that does not, or where repl-diskless-sync is
 * off, gets its length first, and so has to wait for the end. The file is what lets a slow replica fall behind without
 * anybody waiting for it and without memory; it is never synced, and what all have been sent is forgotten, so a pass
 * whose replicas keep up does not touch the disk (persist/copy_store.h).
 *
 * A pass is referenced by the job and by its feeders. When all its replicas have left, the snapshot is given up. */

#include "base/clock.h"
#include "base/log.h"
#include "base/thread_place.h"
#include "persist/copy_store.h"
#include "persist/journal_spool.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_sink.h"
#include "server/replica.h"
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MEMORY_BYTES = 64 << 20, /* of a pass: what replicas are behind by while they do their own work */
    MEMORY_PART = 64,        /* of maxmemory, at the most */
    LOOK_MS = 1000,          /* a feeder that waits looks after its replica so often */
    RETRY_MS = 1000,         /* after a pass that could not begin */
};

enum pass_stage { PASS_RUNNING, PASS_WHOLE, PASS_FAILED };

struct replication_full {
    struct server *server;
    struct rdb_sink *sink;
    struct rdb_file_error error;
    atomic_uint references;
    atomic_uint feeders;
    struct copy_store *store;
    pthread_mutex_t lock;
    pthread_cond_t changed;     /* `written`, or `stage` */
    struct feeder *feeder_list; /* of those that send */
    uint64_t written;
    enum pass_stage stage;
    char id[REPLICATION_ID + 1];
    char mark[REPLICATION_MARK + 1];
    uint64_t position;
    unsigned lanes;
    bool empty; /* no keys: it needs no snapshot */
    int64_t started_ms;
    struct file_io io;
};

static void release_pass(struct replication_full *pass) {
    if (atomic_fetch_sub(&pass->references, 1) != 1) return;
    copy_store_destroy(pass->store);
    pthread_mutex_destroy(&pass->lock);
    pthread_cond_destroy(&pass->changed);
    free(pass);
}

/* ---- the file: what persist/rdb_file.h sees of it ---- */

static int open_pass(void *ctx, const char *path, int flags, mode_t mode) {
    struct replication_full *pass = ctx;
    (void)path, (void)mode;
    if ((flags & O_ACCMODE) == O_WRONLY && !(flags & O_CREAT)) {
        /* The header is wanted anew, for the version of field TTLs; but it has been sent. */
        atomic_store(&pass->server->replication.sends_field_ttl, true);
        errno = EAGAIN;
        return -1;
    }
    return 0; /* no descriptor: all that is done with it is done here */
}

static int close_pass(void *ctx, int fd) {
    (void)ctx, (void)fd;
    return 0;
}

static ssize_t write_pass(void *ctx, int fd, const void *bytes, size_t length) {
    struct replication_full *pass = ctx;
    (void)fd;
    if (!copy_store_write(pass->store, bytes, length)) return -1; /* by one at a time */
    pthread_mutex_lock(&pass->lock);
    pass->written += length;
    pthread_cond_broadcast(&pass->changed);
    pthread_mutex_unlock(&pass->lock);
    return (ssize_t)length;
}

static int nothing_to_sync(void *ctx, int fd) {
    (void)ctx, (void)fd;
    return 0;
}

static int nothing_to_rename(void *ctx, const char *from, const char *to) {
    (void)ctx, (void)from, (void)to;
    return 0;
}

static int nothing_to_unlink(void *ctx, const char *path) {
    (void)ctx, (void)path;
    return 0;
}

/* Whether all who will get this copy have said that they do: the others may never need it, so for them it is tried
 * without first. */
static bool all_read_field_ttl(struct replication_full *pass) {
    struct replication *replication = &pass->server->replication;
    bool all = true;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next)
        if (replica_state(replica) == REPLICA_WAITING && replica->without_keys == pass->empty)
            all &= replica->field_ttl;
    pthread_mutex_unlock(&replication->lock);
    return all;
}

static bool open_sink(struct replication_full *pass) {
    struct server *server = pass->server;
    struct replication *replication = &server->replication;
    const struct config_persistence *persistence = &server->config.persistence;
    unsigned version = (unsigned)persistence->rdb_version;
    if (atomic_load(&replication->sends_field_ttl) ||
        (keyspace_may_have_field_ttl(server->keyspace) && all_read_field_ttl(pass)))
        version = RDB_VERSION_FIELD_TTL;
    struct rdb_history history = {
        .offset = pass->position,
        .database = replication_is_replica(replication) ? atomic_load(&replication->stream_database) : -1};
    memcpy(history.id, replication->id, sizeof(history.id));
    struct rdb_file_options options = {.path = "replica.rdb",
                                       .temporary = "replica.rdb",
                                       .io = &pass->io,
                                       .save = {.version = version,
                                                .compress = persistence->rdb_compression,
                                                .access = RDB_ACCESS_NONE,
                                                .policy = &server->keyspace->access,
                                                .now_ms = clock_unix_ms()},
                                       .checksum = persistence->rdb_checksum,
                                       .redis_version = SERVER_REDIS_VERSION,
                                       .used_memory = memory_resident_bytes(&server->metrics.limit, NULL),
                                       .history = &history};
    pass->sink = rdb_sink_open(&options, pass->lanes, &pass->error);
    return pass->sink != NULL;
}

static void end_pass(struct replication_full *pass, enum pass_stage stage) {
    pthread_mutex_lock(&pass->lock);
    pass->stage = stage;
    pthread_cond_broadcast(&pass->changed);
    pthread_mutex_unlock(&pass->lock);
}

/* ---- feeders ---- */

struct feeder {
    struct replication_full *pass;
    struct replica *replica;
    int64_t moved_ms; /* when the socket last took something */
    bool by_mark;     /* $EOF: */
    struct feeder *next;
    uint64_t at; /* what lies before has been sent; under the pass's lock */
};

static bool is_given_up(const struct feeder *feeder) {
    const struct server *server = feeder->pass->server;
    if (atomic_load((atomic_bool *)(uintptr_t)&feeder->replica->gone)) return true;
    int64_t most_ms = server->config.replication.timeout_seconds * 1000;
    if (clock_unix_ms() - feeder->moved_ms <= most_ms) return false;
    log_warning("Disconnecting timedout replica (full sync): %s:%d", feeder->replica->address, feeder->replica->port);
    return true;
}

/* The socket takes no more: waits. False: the replica is given up. */
static bool wait_for_socket(struct feeder *feeder) {
    struct pollfd wanted = {.fd = feeder->replica->feeder_fd, .events = POLLOUT};
    int ready = poll(&wanted, 1, LOOK_MS);
    if (ready > 0 && (wanted.revents & (POLLERR | POLLHUP))) return false;
    return !is_given_up(feeder);
}

static void note_moved(struct feeder *feeder, size_t bytes) {
    feeder->moved_ms = clock_unix_ms();
    atomic_fetch_add_explicit(&feeder->pass->server->replication.bytes_out, bytes, memory_order_relaxed);
}

static bool send_text(struct feeder *feeder, const char *text, size_t length) {
    while (length) {
        ssize_t sent = write(feeder->replica->feeder_fd, text, length);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno != EAGAIN || !wait_for_socket(feeder))) return false;
        if (sent <= 0) continue;
        note_moved(feeder, (size_t)sent);
        text += sent;
        length -= (size_t)sent;
    }
    return true;
}

/* What all feeders have sent is not needed any more. With the pass's lock held; a pass whose last feeder has left is
 * about to end. */
static void forget_sent(struct replication_full *pass) {
    uint64_t least = UINT64_MAX;
    for (const struct feeder *feeder = pass->feeder_list; feeder; feeder = feeder->next)
        if (feeder->at < least) least = feeder->at;
    if (pass->feeder_list) copy_store_forget(pass->store, least);
}

static void note_sent(struct feeder *feeder, uint64_t at) {
    struct replication_full *pass = feeder->pass;
    if (at / COPY_STORE_CHUNK == feeder->at / COPY_STORE_CHUNK) return;
    pthread_mutex_lock(&pass->lock);
    feeder->at = at;
    forget_sent(pass);
    pthread_mutex_unlock(&pass->lock);
}

static bool send_stretch(struct feeder *feeder, uint64_t *at, uint64_t to) {
    while (*at < to) {
        ssize_t sent = copy_store_send(feeder->pass->store, feeder->replica->feeder_fd, *at, to);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno != EAGAIN || !wait_for_socket(feeder))) return false;
        if (sent == 0) return false;
        if (sent < 0) continue;
        note_moved(feeder, (size_t)sent);
        *at += (uint64_t)sent;
        note_sent(feeder, *at);
    }
    return true;
}

/* Waits until there is more of the file than `at`, or it has ended. */
static enum pass_stage wait_for_more(struct feeder *feeder, uint64_t at, uint64_t *written) {
    struct replication_full *pass = feeder->pass;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOOK_MS / 1000;
    pthread_mutex_lock(&pass->lock);
    int status = 0;
    while (pass->stage == PASS_RUNNING && (!feeder->by_mark || pass->written <= at) && status != ETIMEDOUT)
        status = pthread_cond_timedwait(&pass->changed, &pass->lock, &until);
    enum pass_stage stage = pass->stage;
    *written = pass->written;
    pthread_mutex_unlock(&pass->lock);
    return stage;
}

static void copied(struct replica *replica, enum replica_state state) {
    atomic_store(&replica->heard_ms, clock_unix_ms());
    atomic_store_explicit(&replica->state, (int)state, memory_order_release);
}

static bool send_by_mark(struct feeder *feeder) {
    struct replication_full *pass = feeder->pass;
    uint64_t at = 0, written = 0;
    enum pass_stage stage = PASS_RUNNING;
    if (!send_text(feeder, "$EOF:", 5) || !send_text(feeder, pass->mark, REPLICATION_MARK) ||
        !send_text(feeder, "\r\n", 2))
        return false;
    while (stage == PASS_RUNNING || at < written) {
        if (at >= written) stage = wait_for_more(feeder, at, &written);
        if (at >= written) feeder->moved_ms = clock_unix_ms(); /* it is not the replica that takes its time */
        if (stage == PASS_FAILED || is_given_up(feeder) || !send_stretch(feeder, &at, written)) return false;
    }
    /* Whoever has the mark acknowledges at once, and may do so before this thread goes on. */
    copied(feeder->replica, REPLICA_COPIED);
    return send_text(feeder, pass->mark, REPLICATION_MARK);
}

/* Newlines tell the replica that it has not been forgotten. */
static bool send_by_length(struct feeder *feeder) {
    uint64_t at = 0, written;
    char head[32];
    enum pass_stage stage;
    while ((stage = wait_for_more(feeder, 0, &written)) == PASS_RUNNING)
        if (!send_text(feeder, "\n", 1)) return false;
    if (stage == PASS_FAILED) return false;
    int length = snprintf(head, sizeof(head), "$%llu\r\n", (unsigned long long)written);
    return send_text(feeder, head, (size_t)length) && send_stretch(feeder, &at, written);
}

static bool feed(struct feeder *feeder) {
    struct replication_full *pass = feeder->pass;
    char head[REPLICATION_ID + 48];
    int length = snprintf(head, sizeof(head), "+FULLRESYNC %s %llu\r\n", pass->id, (unsigned long long)pass->position);
    if (!feeder->replica->legacy && !send_text(feeder, head, (size_t)length)) return false;
    return feeder->by_mark ? send_by_mark(feeder) : send_by_length(feeder);
}

static void end_feeder(struct feeder *feeder, bool fed) {
    struct replica *replica = feeder->replica;
    struct replication_full *pass = feeder->pass;
    struct server *server = pass->server;
    if (fed) {
        log_notice("%s %s:%d has been sent its copy", replica->legacy ? "Client" : "Replica", replica->address,
                   replica->port);
        if (!feeder->by_mark) copied(replica, replica->rdb_only ? REPLICA_COPIED : REPLICA_ONLINE);
    } else {
        shutdown(replica->feeder_fd, SHUT_RDWR); /* its worker closes it */
    }
    close(replica->feeder_fd);
    worker_wake(replica->worker);
    pthread_mutex_lock(&pass->lock);
    struct feeder **link = &pass->feeder_list;
    while (*link && *link != feeder) link = &(*link)->next;
    if (*link) *link = feeder->next;
    forget_sent(pass);
    bool alone = atomic_fetch_sub(&pass->feeders, 1) == 1 && pass->stage == PASS_RUNNING && !pass->empty;
    pthread_mutex_unlock(&pass->lock);
    if (alone) snapshot_job_stop(server); /* for nobody */
    replica_release(replica);
    release_pass(pass);
    free(feeder);
    atomic_fetch_sub(&server->replication.feeders, 1);
}

static void *run_feeder(void *argument) {
    struct feeder *feeder = argument;
    thread_place_roam();
    end_feeder(feeder, feed(feeder));
    return NULL;
}

/* False: no thread, descriptor or memory. */
static bool begin_feeder(struct replication_full *pass, struct replica *replica) {
    struct feeder *feeder = calloc(1, sizeof(*feeder));
    pthread_attr_t attributes;
    pthread_t thread;
    if (!feeder) return false;
    replica->feeder_fd = dup(replica->connection->fd);
    *feeder = (struct feeder){.pass = pass,
                              .replica = replica,
                              .moved_ms = clock_unix_ms(),
                              .by_mark = replica->eof && pass->server->config.replication.diskless_sync};
    pthread_mutex_lock(&pass->lock);
    feeder->next = pass->feeder_list;
    pass->feeder_list = feeder;
    pthread_mutex_unlock(&pass->lock);
    replica_hold(replica);
    atomic_fetch_add(&pass->references, 1);
    atomic_fetch_add(&pass->feeders, 1);
    atomic_fetch_add(&pass->server->replication.feeders, 1);
    atomic_store(&replica->sent, pass->position);
    atomic_store(&replica->acked, 0);
    atomic_store(&replica->state, REPLICA_COPYING);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool begun = replica->feeder_fd >= 0 && pthread_create(&thread, &attributes, run_feeder, feeder) == 0;
    pthread_attr_destroy(&attributes);
    if (!begun) end_feeder(feeder, false);
    return begun;
}

/* All who wait and may have this copy. All workers stand still. Returns how many. */
static unsigned begin_feeders(struct replication_full *pass) {
    struct replication *replication = &pass->server->replication;
    unsigned begun = 0;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next)
        if (replica_state(replica) == REPLICA_WAITING && replica->without_keys == pass->empty &&
            !replica->connection->killed)
            begun += begin_feeder(pass, replica);
    pthread_mutex_unlock(&replication->lock);
    return begun;
}

/* ---- the snapshot ---- */

static bool take_record(void *ctx, unsigned lane, uint32_t database, const struct record *image) {
    struct snapshot_sink sink = rdb_sink_of(((struct replication_full *)ctx)->sink);
    return sink.record(sink.ctx, lane, database, image);
}

static bool take_collection(void *ctx, unsigned lane, uint32_t database, struct snapshot_collection *value) {
    struct snapshot_sink sink = rdb_sink_of(((struct replication_full *)ctx)->sink);
    return sink.collection(sink.ctx, lane, database, value);
}

static bool end_lane(void *ctx, unsigned lane) {
    struct snapshot_sink sink = rdb_sink_of(((struct replication_full *)ctx)->sink);
    return sink.lane_end(sink.ctx, lane);
}

/* All workers stand still: from here on the stream is the replicas'. */
static bool begin_stream(struct replication_full *pass) {
    struct server *server = pass->server;
    struct replication *replication = &server->replication;
    if (!replication_keep_backlog(server)) return false;
    if (!replication_is_replica(replication)) journal_forget_database(server->journal);
    memcpy(pass->id, replication->id, sizeof(pass->id));
    pass->position = journal_end(server->journal);
    return true;
}

/* Likewise. */
static bool cut(void *ctx) {
    struct replication_full *pass = ctx;
    struct replication *replication = &pass->server->replication;
    if (!begin_stream(pass)) return false;
    pthread_mutex_lock(&replication->spool_lock);
    bool kept = journal_spool_begin(replication->spool, pass->position, ".");
    pthread_mutex_unlock(&replication->spool_lock);
    return kept && open_sink(pass) && begin_feeders(pass) > 0;
}

static bool complete(void *ctx, bool whole) {
    struct replication_full *pass = ctx;
    bool done = pass->sink && rdb_sink_close(pass->sink, whole, &pass->error);
    pass->sink = NULL;
    end_pass(pass, done ? PASS_WHOLE : PASS_FAILED);
    return done;
}

static void ended(void *ctx, bool whole) {
    struct replication_full *pass = ctx;
    struct replication *replication = &pass->server->replication;
    int64_t now_ms = clock_unix_ms();
    if (whole)
        log_notice("the copy for replicas is complete: %llu bytes after %lld ms", (unsigned long long)pass->written,
                   (long long)(now_ms - pass->started_ms));
    else
        log_warning("the copy for replicas was given up: %s%s%s", pass->error.step ? pass->error.step : "stopped",
                    pass->error.step ? ": " : "", pass->error.step ? strerror(pass->error.error) : "");
    if (!whole) replication->full_retry_ms = now_ms + RETRY_MS;
    replication->full = NULL;
    release_pass(pass);
}

static struct replication_full *make_pass(struct server *server, bool empty) {
    struct replication_full *pass = calloc(1, sizeof(*pass));
    uint64_t limit = (uint64_t)server->config.memory.maxmemory_bytes, memory = MEMORY_BYTES;
    if (!pass) return NULL;
    if (limit && memory > limit / MEMORY_PART) memory = limit / MEMORY_PART;
    *pass = (struct replication_full){.server = server,
                                      .store = copy_store_create(memory, "."),
                                      .lanes = empty ? 1 : snapshot_job_lanes(server),
                                      .empty = empty,
                                      .started_ms = clock_unix_ms(),
                                      .io = file_io_system};
    pass->io.ctx = pass;
    pass->io.open = open_pass;
    pass->io.close = close_pass;
    pass->io.write = write_pass;
    pass->io.sync = nothing_to_sync;
    pass->io.rename = nothing_to_rename;
    pass->io.unlink = nothing_to_unlink;
    atomic_init(&pass->references, 1);
    pthread_mutex_init(&pass->lock, NULL);
    pthread_cond_init(&pass->changed, NULL);
    server_make_id(pass->mark);
    if (pass->store) return pass;
    log_warning("a copy for replicas needs memory: %s", strerror(errno));
    release_pass(pass);
    return NULL;
}

static bool begin_snapshot(struct server *server) {
    struct replication_full *pass = make_pass(server, false);
    if (!pass) return false;
    struct snapshot_task task = {
        .purpose = SNAPSHOT_REPLICA,
        .lanes = pass->lanes,
        .sink = {.ctx = pass, .record = take_record, .collection = take_collection, .lane_end = end_lane},
        .cut = cut,
        .complete = complete,
        .ended = ended,
        .ctx = pass};
    server->replication.full = pass;
    if (snapshot_job_start(server, &task)) return true;
    server->replication.full = NULL;
    release_pass(pass);
    return false;
}

/* For those who want no keys: redis-cli --replica, for the stream alone, and --functions-rdb, of which there are none.
 */
static bool begin_empty(struct server *server) {
    struct replication_full *pass = make_pass(server, true);
    if (!pass) return false;
    server_stop_workers(server, 0);
    bool opened = begin_stream(pass) && open_sink(pass);
    if (opened) (void)begin_feeders(pass);
    server_resume_workers(server, 0);
    if (opened) (void)complete(pass, true);
    release_pass(pass);
    return opened;
}

/* ---- ticks ---- */

struct demand {
    unsigned waiting, without_keys;
    int64_t since_ms;
};

static struct demand look_at_demand(struct replication *replication) {
    struct demand demand = {0};
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next) {
        if (replica_state(replica) != REPLICA_WAITING) continue;
        if (replica->without_keys) {
            demand.without_keys++;
            continue;
        }
        if (!demand.waiting++ || replica->waits_since_ms < demand.since_ms) demand.since_ms = replica->waits_since_ms;
    }
    pthread_mutex_unlock(&replication->lock);
    return demand;
}

void replication_full_tick(struct server *server) {
    struct replication *replication = &server->replication;
    const struct config_replication *config = &server->config.replication;
    int64_t now_ms = clock_unix_ms();
    if (!atomic_load(&replication->synced) || now_ms < replication->full_retry_ms) return;
    struct demand demand = look_at_demand(replication);
    bool begun = true;
    if (demand.without_keys) begun = begin_empty(server);
    bool enough = config->diskless_sync_replicas_max && demand.waiting >= config->diskless_sync_replicas_max;
    int64_t delay_ms = config->diskless_sync && !enough ? config->diskless_sync_delay_seconds * 1000 : 0;
    if (demand.waiting && !replication->full && now_ms - demand.since_ms >= delay_ms &&
        snapshot_job_purpose(server) == SNAPSHOT_NONE && !loading_is_active(&server->loading))
        begun = begun && begin_snapshot(server);
    if (!begun) replication->full_retry_ms = now_ms + RETRY_MS;
}

void replication_end(struct server *server) {
    struct replication *replication = &server->replication;
    struct timespec moment = {0, 1000000};
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next) {
        atomic_store(&replica->gone, true);
        shutdown(replica->connection->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&replication->lock);
    while (atomic_load(&replication->feeders)) nanosleep(&moment, NULL);
}
