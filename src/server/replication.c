/* Role, history and the table of replicas. See replication.h.
 *
 * A history is an id and how far it goes. It changes in four ways, each while all workers stand still: it is begun anew
 * (a backlog after a time without one), taken over from a primary, continued under another id (promotion), or found
 * again after a restart. Whatever makes an own replica's offset mean something else closes its connection: it comes
 * back, asks by PSYNC, and is told. */

#include "server/replication.h"

#include "base/clock.h"
#include "base/log.h"
#include "persist/aof_backlog.h"
#include "persist/journal_spool.h"
#include "server/failover.h"
#include "server/journaling.h"
#include "server/misconf.h"
#include "server/primary_link.h"
#include "server/replica.h"
#include "server/server.h"
#include "server/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static const char no_id[] = "0000000000000000000000000000000000000000";

/* ---- life ---- */

bool replication_init(struct server *server) {
    struct replication *replication = &server->replication;
    pthread_mutex_init(&replication->lock, NULL);
    pthread_mutex_init(&replication->spool_lock, NULL);
    server_make_id(replication->id);
    memcpy(replication->id2, no_id, sizeof(no_id));
    replication->second_offset = -1;
    atomic_init(&replication->stream_database, -1);
    replication->spool = journal_spool_create(server->journal);
    replication->files = aof_backlog_create();
    return replication->spool && replication->files;
}

void replication_free(struct server *server) {
    struct replication *replication = &server->replication;
    if (replication->spool) journal_spool_destroy(replication->spool);
    aof_backlog_destroy(replication->files);
    journal_detach(replication->keeper);
    replication->keeper = NULL;
    failover_free(server);
    pthread_mutex_destroy(&replication->lock);
    pthread_mutex_destroy(&replication->spool_lock);
}

/* ---- history ---- */

uint64_t replication_offset(const struct server *server) {
    return journal_committed(server->journal, NULL);
}

/* What the append-only file, or the pool, says of the stream from here on. */
static void tell_file(struct server *server) {
    pmem_gate_tell_history(server);
    if (server->aof.writer) aof_writer_set_history(server->aof.writer, server->replication.id);
}

static void forget_second(struct replication *replication) {
    memcpy(replication->id2, no_id, sizeof(no_id));
    replication->second_offset = -1;
}

bool replication_keep_backlog(struct server *server) {
    struct replication *replication = &server->replication;
    if (replication->keeper) return true;
    uint64_t end = journal_end(server->journal);
    struct journal_reader *keeper = journal_attach(server->journal, end, false);
    if (!keeper) return false;
    pthread_mutex_lock(&replication->lock);
    replication->keeper = keeper;
    replication->backlog_from = end;
    pthread_mutex_unlock(&replication->lock);
    journaling_refresh(server);
    return true;
}

/* Nobody has asked for it for long. What is written from now on is in no backlog, so the history ends. */
static void drop_backlog(struct server *server) {
    struct replication *replication = &server->replication;
    pthread_mutex_lock(&replication->lock);
    struct journal_reader *keeper = replication->keeper;
    replication->keeper = NULL;
    replication->alone_since_ms = 0;
    server_make_id(replication->id);
    forget_second(replication);
    pthread_mutex_unlock(&replication->lock);
    journal_detach(keeper);
    journaling_refresh(server);
    tell_file(server);
}

/* The role decides how readily the kernel ends the process; that it may not be told is logged. */
static void take_role(struct server *server, enum replication_role role) {
    atomic_store(&server->replication.role, role);
    (void)!oom_score_apply(&server->process.oom_score, &server->config, role == REPLICATION_REPLICA);
}

void replication_become_replica(struct server *server) {
    (void)replication_keep_backlog(server); /* without one every copy is a full one, no more */
    take_role(server, REPLICATION_REPLICA);
    journaling_refresh(server);
    misconf_refresh(server);
}

void replication_become_primary(struct server *server) {
    struct replication *replication = &server->replication;
    if (!replication_is_replica(replication)) return;
    pthread_mutex_lock(&replication->lock);
    memcpy(replication->id2, replication->id, sizeof(replication->id2));
    replication->second_offset = (int64_t)replication_offset(server) + 1;
    server_make_id(replication->id);
    replication->alone_since_ms = replication->replica_count ? 0 : clock_unix_ms();
    pthread_mutex_unlock(&replication->lock);
    tell_file(server);
    take_role(server, REPLICATION_PRIMARY);
    atomic_store(&replication->stream_database, -1);
    journal_forget_database(server->journal);
    journaling_refresh(server);
    replication_count_good(server);
    log_notice("Setting secondary replication ID to %s, valid up to offset: %lld. New replication ID is %s",
               replication->id2, (long long)replication->second_offset, replication->id);
}

void replication_adopt_history(struct server *server, const char *id, uint64_t offset) {
    struct replication *replication = &server->replication;
    replication_close_replicas(server);
    journal_spool_stop(replication->spool);
    pmem_gate_leave(server);
    journal_restart(server->journal, offset);
    pmem_gate_enter(server);
    tier_persist_hasten(server);
    (void)replication_keep_backlog(server);
    pthread_mutex_lock(&replication->lock);
    snprintf(replication->id, sizeof(replication->id), "%s", id);
    forget_second(replication);
    replication->backlog_from = offset;
    pthread_mutex_unlock(&replication->lock);
}

void replication_continue_history(struct server *server, const char *id) {
    struct replication *replication = &server->replication;
    if (strcmp(id, replication->id) == 0) return;
    pthread_mutex_lock(&replication->lock);
    memcpy(replication->id2, replication->id, sizeof(replication->id2));
    replication->second_offset = (int64_t)replication_offset(server) + 1;
    snprintf(replication->id, sizeof(replication->id), "%s", id);
    pthread_mutex_unlock(&replication->lock);
    tell_file(server);
    replication_close_replicas(server);
}

void replication_restore_history(struct server *server, const char *id, uint64_t offset) {
    struct replication *replication = &server->replication;
    uint64_t from, to;
    journal_restart(server->journal, offset);
    (void)replication_keep_backlog(server);
    bool reaches_back = aof_backlog_reach(replication->files, &from, &to) && to == offset;
    replication->backlog_from = reaches_back ? from : offset;
    if (replication_is_replica(replication)) {
        snprintf(replication->id, sizeof(replication->id), "%s", id);
        return;
    }
    snprintf(replication->id2, sizeof(replication->id2), "%s", id);
    replication->second_offset = (int64_t)offset + 1;
    replication->alone_since_ms = clock_unix_ms();
}

bool replication_find_history(struct server *server, struct rdb_history *history) {
    struct replication *replication = &server->replication;
    bool replica = replication_is_replica(replication);
    pthread_mutex_lock(&replication->lock);
    bool known = replication->keeper != NULL;
    *history = (struct rdb_history){.offset = replication_offset(server),
                                    .database = replica ? atomic_load(&replication->stream_database) : -1};
    memcpy(history->id, replication->id, sizeof(history->id));
    pthread_mutex_unlock(&replication->lock);
    return known;
}

void replication_change_id(struct server *server) {
    struct replication *replication = &server->replication;
    pthread_mutex_lock(&replication->lock);
    server_make_id(replication->id);
    forget_second(replication);
    pthread_mutex_unlock(&replication->lock);
    tell_file(server);
}

void replication_append(struct server *server, struct span bytes) {
    struct journal_append append;
    journal_begin(server->journal, journaling_stream_writer(server), JOURNAL_SAME_DATABASE, JOURNAL_SAME_DATABASE,
                  bytes.length, &append);
    journal_put(&append, bytes.data, bytes.length);
    (void)journal_commit(&append);
    replication_nudge(server);
}

void replication_tell_stream(struct worker *worker, const char *command) {
    struct journal_append append;
    size_t length = strlen(command);
    journal_begin(worker->server->journal, worker->id, JOURNAL_SAME_DATABASE, JOURNAL_SAME_DATABASE, length, &append);
    journal_put(&append, command, length);
    (void)journal_commit(&append);
}

/* ---- the table ---- */

struct replica *replica_of(struct connection *connection, struct server *server) {
    if (connection->replica) return connection->replica;
    struct replica *replica = calloc(1, sizeof(*replica));
    if (!replica) return NULL;
    replica->server = server;
    replica->connection = connection;
    replica->worker = connection->owner;
    replica->feeder_fd = -1;
    atomic_init(&replica->references, 1);
    connection->replica = replica;
    return replica;
}

void replica_hold(struct replica *replica) {
    atomic_fetch_add(&replica->references, 1);
}

void replica_release(struct replica *replica) {
    if (atomic_fetch_sub(&replica->references, 1) == 1) free(replica);
}

/* Where it comes from, without the port. */
static void take_address(struct replica *replica) {
    const char *address = replica->connection->peer.address, *end = strrchr(address, ':');
    int length = end ? (int)(end - address) : (int)strlen(address);
    if (replica->address[0]) return;
    if (address[0] == '[' && length > 2) address++, length -= 2;
    snprintf(replica->address, sizeof(replica->address), "%.*s", length, address);
}

void replica_enter(struct replica *replica, enum replica_state state) {
    struct replication *replication = &replica->server->replication;
    struct worker *worker = replica->worker;
    take_address(replica);
    replica->connection->kind = CONNECTION_REPLICA;
    atomic_store(&replica->heard_ms, clock_unix_ms());
    replica->waits_since_ms = clock_unix_ms();
    atomic_store(&replica->state, (int)state);
    pthread_mutex_lock(&replication->lock);
    replica->listed = true;
    replica->next = replication->replicas;
    replication->replicas = replica;
    replication->replica_count++;
    replication->alone_since_ms = 0;
    pthread_mutex_unlock(&replication->lock);
    replica->next_of_worker = worker->replicas;
    worker->replicas = replica;
    atomic_fetch_add(&replication->synced, 1);
}

static void leave_table(struct replication *replication, struct replica *replica) {
    pthread_mutex_lock(&replication->lock);
    struct replica **at = &replication->replicas;
    while (*at && *at != replica) at = &(*at)->next;
    if (*at) *at = replica->next;
    replica->listed = false;
    if (--replication->replica_count == 0) replication->alone_since_ms = clock_unix_ms();
    pthread_mutex_unlock(&replication->lock);
    atomic_fetch_sub(&replication->synced, 1);
}

void replication_forget(struct worker *worker, struct connection *connection) {
    struct replica *replica = connection->replica;
    struct server *server = worker->server;
    if (!replica) return;
    connection->replica = NULL;
    atomic_store(&replica->gone, true);
    if (replica->listed) {
        struct replica **at = &worker->replicas;
        while (*at && *at != replica) at = &(*at)->next_of_worker;
        if (*at) *at = replica->next_of_worker;
        leave_table(&server->replication, replica);
        log_notice("Connection with replica %s:%d lost.", replica->address, replica->port);
        replication_close_files(replica);
        shutdown(connection->fd, SHUT_RDWR); /* the feeder's descriptor, too */
        /* As long as the feeder has that, closing this one would not end the events. */
        (void)epoll_ctl(worker->poll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
        replication_count_good(server);
    }
    replica_release(replica);
}

void replication_close_replicas(struct server *server) {
    struct replication *replication = &server->replication;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next)
        worker_kill(replica->connection);
    pthread_mutex_unlock(&replication->lock);
}

void replica_acknowledge(struct replica *replica, int64_t position, int64_t on_disk) {
    struct replication *replication = &replica->server->replication;
    bool first = replica_state(replica) == REPLICA_COPIED && !replica->rdb_only;
    atomic_store(&replica->heard_ms, replica->worker->dispatcher.now_ms);
    if (position > (int64_t)atomic_load(&replica->acked)) atomic_store(&replica->acked, (uint64_t)position);
    if (on_disk > (int64_t)atomic_load(&replica->acked_on_disk))
        atomic_store(&replica->acked_on_disk, (uint64_t)on_disk);
    if (first) {
        atomic_store(&replica->state, REPLICA_ONLINE);
        log_notice("Synchronization with replica %s:%d succeeded", replica->address, replica->port);
        replication_count_good(replica->server);
    }
    atomic_fetch_add(&replication->acks, 1);
    if (!atomic_load(&replication->waiters)) return;
    for (unsigned i = 0; i < replica->server->worker_count; i++) {
        struct worker *worker = replica->server->workers[i];
        if (worker != replica->worker && atomic_load(&worker->disk_waiters)) worker_wake(worker);
    }
}

unsigned replication_count_acks(struct server *server, uint64_t position, bool on_disk) {
    struct replication *replication = &server->replication;
    unsigned count = 0;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next) {
        _Atomic uint64_t *acked = on_disk ? &replica->acked_on_disk : &replica->acked;
        if (replica_state(replica) == REPLICA_ONLINE && atomic_load(acked) >= position) count++;
    }
    pthread_mutex_unlock(&replication->lock);
    return count;
}

/* ---- min-replicas-to-write ---- */

void replication_count_good(struct server *server) {
    struct replication *replication = &server->replication;
    const struct config_replication *config = &server->config.replication;
    /* Whole seconds count, less a tick, after which it is looked at again: writes are refused within lag + 1 s. */
    int64_t tick_ms = 1000 / server->config.general.hz, begun_ms = tick_ms < 500 ? 999 - tick_ms : 499;
    int64_t oldest_ms = clock_unix_ms() - config->replicas_lag_seconds_max * 1000 - begun_ms;
    unsigned good = 0;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next)
        if (replica_state(replica) == REPLICA_ONLINE && atomic_load(&replica->heard_ms) >= oldest_ms) good++;
    pthread_mutex_unlock(&replication->lock);
    atomic_store(&replication->good, good);
    bool wanted = config->replicas_to_write && config->replicas_lag_seconds_max && !replication_is_replica(replication);
    bool refuses = wanted && good < config->replicas_to_write;
    if (atomic_exchange(&replication->refuses, refuses) != refuses) misconf_refresh(server);
}

const char *replication_refusal(struct server *server) {
    if (!atomic_load_explicit(&server->replication.refuses, memory_order_relaxed)) return NULL;
    return "NOREPLICAS Not enough good replicas to write.";
}

/* ---- ticks and settings ---- */

static void end_backlog_in_time(struct server *server) {
    struct replication *replication = &server->replication;
    int64_t seconds = server->config.replication.backlog_ttl_seconds;
    if (!replication->keeper || !seconds || replication_is_replica(replication) || !replication->alone_since_ms) return;
    if (clock_unix_ms() - replication->alone_since_ms < seconds * 1000) return;
    server_stop_workers(server, 0);
    if (replication->alone_since_ms && !atomic_load(&replication->synced)) {
        drop_backlog(server);
        log_notice("Replication backlog freed after %lld seconds without connected replicas.", (long long)seconds);
    }
    server_resume_workers(server, 0);
}

void replication_tick(struct server *server) {
    primary_link_tick(server);
    failover_tick(server);
    end_backlog_in_time(server);
    replication_full_tick(server);
    replication_send_tick(server);
    if (server->config.replication.replicas_to_write || atomic_load(&server->replication.refuses))
        replication_count_good(server);
}

bool replication_change(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    struct server *server = ctx;
    (void)name;
    if (!journal_grow(server->journal, (size_t)config->replication.backlog_bytes)) {
        snprintf(error->text, sizeof(error->text), "no memory for a backlog of this size, or the disk is too slow");
        return false;
    }
    replication_count_good(server);
    return true;
}

uint64_t replication_buffer_bytes(const struct server *server) {
    if (!server->replication.keeper) return 0;
    uint64_t written = journal_end(server->journal) - server->replication.backlog_from;
    return written < journal_capacity(server->journal) ? written : journal_capacity(server->journal);
}

/* ---- INFO and ROLE ---- */

void replication_reset_figures(struct server *server) {
    struct replication *replication = &server->replication;
    _Atomic uint64_t *figures[] = {&replication->sync_full, &replication->sync_partial_ok,
                                   &replication->sync_partial_err, &replication->bytes_out, &replication->bytes_in};
    for (unsigned i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) atomic_store(figures[i], 0);
}

static const char *const state_names[] = {
    [REPLICA_ANNOUNCED] = "wait_bgsave", [REPLICA_WAITING] = "wait_bgsave", [REPLICA_COPYING] = "send_bulk",
    [REPLICA_COPIED] = "send_bulk",      [REPLICA_ONLINE] = "online",
};

const char *replica_state_name(const struct replica *replica) {
    return state_names[replica_state(replica)];
}

/* Redis's count: 0 is what it says of one that has not acknowledged anything yet. */
static void add_replicas(struct server *server, struct text *text) {
    struct replication *replication = &server->replication;
    int64_t now_ms = clock_unix_ms();
    unsigned number = 0;
    pthread_mutex_lock(&replication->lock);
    text_add(text, "connected_slaves:%u\r\n", replication->replica_count);
    if (server->config.replication.replicas_to_write && server->config.replication.replicas_lag_seconds_max)
        text_add(text, "min_slaves_good_slaves:%u\r\n", atomic_load(&replication->good));
    for (struct replica *replica = replication->replicas; replica; replica = replica->next) {
        enum replica_state state = replica_state(replica);
        int64_t lag_s = state == REPLICA_ONLINE ? now_ms / 1000 - atomic_load(&replica->heard_ms) / 1000 : 0;
        text_add(text, "slave%u:ip=%s,port=%d,state=%s,offset=%llu,lag=%lld\r\n", number++, replica->address,
                 replica->port, replica_state_name(replica), (unsigned long long)atomic_load(&replica->acked),
                 (long long)lag_s);
    }
    pthread_mutex_unlock(&replication->lock);
}

static uint64_t oldest_position(const struct server *server) {
    const struct replication *replication = &server->replication;
    uint64_t oldest = journal_oldest(server->journal);
    return oldest > replication->backlog_from ? oldest : replication->backlog_from;
}

/* What PSYNC may ask for beyond the ring; 0: nothing. */
static uint64_t first_byte_in_files(const struct server *server) {
    const struct replication *replication = &server->replication;
    uint64_t from, to;
    if (!replication->keeper || !aof_backlog_reach(replication->files, &from, &to)) return 0;
    return (from > replication->backlog_from ? from : replication->backlog_from) + 1;
}

void replication_info(struct server *server, struct text *text) {
    static const char *const failovers[] = {"no-failover", "waiting-for-sync", "failover-in-progress"};
    struct replication *replication = &server->replication;
    bool replica = replication_is_replica(replication);
    text_add(text, "role:%s\r\n", replica ? "slave" : "master");
    if (replica) primary_link_info(server, text);
    add_replicas(server, text);
    pthread_mutex_lock(&replication->lock);
    uint64_t end = replication_offset(server), oldest = oldest_position(server);
    bool active = replication->keeper != NULL;
    text_add(text, "master_failover_state:%s\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\n",
             failovers[atomic_load(&replication->failover)], replication->id, replication->id2);
    text_add(text, "master_repl_offset:%llu\r\nsecond_repl_offset:%lld\r\nrepl_backlog_active:%d\r\n",
             (unsigned long long)(replica ? primary_link_applied(server) : end), (long long)replication->second_offset,
             active);
    text_add(text, "repl_backlog_aof_first_byte_offset:%llu\r\n", (unsigned long long)first_byte_in_files(server));
    text_add(text, "repl_backlog_size:%lld\r\nrepl_backlog_first_byte_offset:%llu\r\nrepl_backlog_histlen:%llu\r\n",
             (long long)server->config.replication.backlog_bytes, active ? (unsigned long long)oldest + 1 : 0ull,
             active && end > oldest ? (unsigned long long)(end - oldest) : 0ull);
    pthread_mutex_unlock(&replication->lock);
}

void replication_role(struct server *server, struct reply *reply) {
    struct replication *replication = &server->replication;
    if (replication_is_replica(replication)) {
        primary_link_role(server, reply);
        return;
    }
    unsigned online = 0;
    pthread_mutex_lock(&replication->lock);
    for (struct replica *replica = replication->replicas; replica; replica = replica->next)
        online += replica_state(replica) == REPLICA_ONLINE;
    reply_array(reply, 3);
    reply_bulk_text(reply, "master");
    reply_integer(reply, (int64_t)replication_offset(server));
    reply_array(reply, online);
    for (struct replica *replica = replication->replicas; replica && online; replica = replica->next) {
        if (replica_state(replica) != REPLICA_ONLINE) continue;
        online--;
        reply_array(reply, 3);
        reply_bulk_text(reply, replica->address);
        reply_bulk_integer(reply, replica->port);
        reply_bulk_integer(reply, (int64_t)atomic_load(&replica->acked));
    }
    pthread_mutex_unlock(&replication->lock);
}
