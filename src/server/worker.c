/* The loop of a worker. See worker.h.
 *
 * Background work (expiry, freeing flushed databases, compaction) is done in slices between turns. While clients are
 * being served it may take a quarter of the worker's time at most; an idle worker goes on at once. So a mass
 * of expired keys is gone quickly, and a request waits for one slice at the longest. */

#include "base/clock.h"
#include "base/log.h"
#include "base/thread_place.h"
#include "keyspace/keyspace_snapshot.h"
#include "server/aof.h"
#include "server/primary_link.h"
#include "server/replica.h"
#include "server/server.h"
#include "server/slow.h"
#include "server/waiting.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    EVENTS = 256,
    ACCEPTS_PER_TURN = 64,
    CLOSING_MS_MAX = 10000, /* without any progress: a round trip takes far less, a dead peer any time */
    REPLY_BUFFER_BYTES = 256 * 1024,
    SLICE_NS = 100000,        /* of background work between two turns */
    SWEEP_SHARE_PERCENT = 3,  /* of a tick, for looking at records that have mostly not expired */
    SWEEP_GO_ON_PERCENT = 10, /* a shard with more expired records than this is worth staying at */
    RESUME_NS = 30000,        /* of a turn, for commands whose cold records have come */
    REPLY_DUE_NS = 30000,     /* after the beginning of a turn, on a server with a tier */
    COMPACT_RECORDS = 16,     /* between two looks at the clock: they may be of 32 KB each */
    BUSY_PART = 4,            /* of a tick: with less to do it shares its CPU with whoever wants it */
    BACKGROUND_PART = 3,      /* background may take 1/(this+1) of a busy worker's time */
    HELP_PART = 15,           /* and slices for the walkers of a snapshot 1/(this+1) of all of it */
};

/* ---- life ---- */

static worker_message adopt, take_unblocked;

static void release_value(void *ctx, void *pinned, uint32_t shard) {
    if (shard == DELIVERY_PIN_TAG)
        message_release(pinned);
    else
        keyspace_unpin(ctx, shard, pinned);
}

static bool watch_fd(struct worker *worker, int fd, uint32_t events, void *tag) {
    struct epoll_event event = {.events = events, .data.ptr = tag};
    return epoll_ctl(worker->poll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

bool worker_init(struct worker *worker, struct server *server, unsigned id, struct socket_error *error) {
    worker->id = id;
    worker->server = server;
    worker->mail_last = &worker->mail;
    worker->busy_cpu = -1;
    pthread_mutex_init(&worker->mail_lock, NULL);
    monitor_feed_init(&worker->feed);
    make_room_init(worker);
    worker->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->read_buffer = malloc(LIMIT_READ_BYTES);
    worker->reply_buffer = malloc(REPLY_BUFFER_BYTES);
    if (worker->poll_fd < 0 || worker->wake_fd < 0 || !worker->read_buffer || !worker->reply_buffer ||
        !watch_fd(worker, worker->wake_fd, EPOLLIN, worker)) {
        snprintf(error->text, sizeof(error->text), "cannot set up worker %u: %s", id, strerror(errno));
        return false;
    }
    if (!listeners_watch(server, worker)) {
        snprintf(error->text, sizeof(error->text), "cannot watch a listening socket: %s", strerror(errno));
        return false;
    }
    dispatcher_init(&worker->dispatcher, server->keyspace, server->table, &server->host, server->stats[id], id,
                    server->keyspace->seed + id * UINT64_C(0x9e3779b97f4a7c15));
    if (server->tier) {
        worker->dispatcher.port = tier_port_of(server->tier, id);
        if (!watch_fd(worker, tier_port_event_fd(worker->dispatcher.port), EPOLLIN, &worker->dispatcher.port)) {
            snprintf(error->text, sizeof(error->text), "cannot watch the tier: %s", strerror(errno));
            return false;
        }
    }
    connection_io_init(&worker->io, &worker->dispatcher, &worker->limits, worker->read_buffer, worker->reply_buffer,
                       REPLY_BUFFER_BYTES, release_value, server->keyspace);
    return true;
}

void worker_free(struct worker *worker) {
    if (worker->dispatcher.port) tier_release(worker->dispatcher.port, &worker->sweep_waiter);
    while (worker->connections) worker_close(worker, worker->connections);
    for (struct worker_mail *mail = worker->mail, *next; mail; mail = next) {
        next = mail->next;
        if (mail->run == adopt) connection_destroy(mail->argument, &worker->io);
        if (mail->run == take_unblocked) take_unblocked(worker, mail->argument);
        free(mail);
    }
    for (struct blocked *blocked; (blocked = blocked_take_finished(&worker->dispatcher));)
        blocked_answer(&worker->dispatcher, blocked, NULL); /* its client has left */
    effect_sink_free(&worker->dispatcher.effects);
    monitor_feed_free(&worker->feed);
    delivery_free(&worker->delivery);
    connection_io_free(&worker->io);
    if (worker->poll_fd >= 0) close(worker->poll_fd);
    if (worker->wake_fd >= 0) close(worker->wake_fd);
    pthread_mutex_destroy(&worker->mail_lock);
    journal_detach(worker->stream_pin);
    free(worker->read_buffer);
    free(worker->reply_buffer);
    free(worker->affinity);
}

size_t worker_buffer_bytes(const struct worker *worker) {
    return sizeof(*worker) + LIMIT_READ_BYTES + REPLY_BUFFER_BYTES;
}

/* ---- messages ---- */

void worker_wake(struct worker *worker) {
    uint64_t one = 1;
    (void)!write(worker->wake_fd, &one, sizeof(one));
}

void worker_post(struct worker *worker, worker_message *run, void *argument) {
    struct worker_mail *mail = malloc(sizeof(*mail));
    if (!mail) abort(); /* a few bytes; without them a client would hang for ever */
    *mail = (struct worker_mail){.run = run, .argument = argument};
    pthread_mutex_lock(&worker->mail_lock);
    bool first = !worker->mail; /* else somebody woke it for the mail before */
    *worker->mail_last = mail;
    worker->mail_last = &mail->next;
    pthread_mutex_unlock(&worker->mail_lock);
    if (first) worker_wake(worker);
}

bool worker_is_here(struct worker *worker) {
    return pthread_equal(atomic_load_explicit(&worker->self, memory_order_relaxed), pthread_self());
}

void worker_wake_for_messages(void *ctx, unsigned worker) {
    struct server *server = ctx;
    if (!worker_is_here(server->workers[worker])) worker_wake(server->workers[worker]);
}

static void read_mail(struct worker *worker) {
    pthread_mutex_lock(&worker->mail_lock);
    struct worker_mail *mail = worker->mail;
    worker->mail = NULL;
    worker->mail_last = &worker->mail;
    pthread_mutex_unlock(&worker->mail_lock);
    while (mail) {
        struct worker_mail *next = mail->next;
        mail->run(worker, mail->argument);
        free(mail);
        mail = next;
    }
}

/* ---- blocked clients ---- */

static void settle(void *worker, struct connection *connection, enum connection_state state) {
    worker_settle(worker, connection, state);
}

static void take_unblocked(struct worker *worker, void *argument) {
    blocked_add_finished(&worker->dispatcher, argument);
}

void worker_unblocked(void *ctx, struct blocked *blocked) {
    struct server *server = ctx;
    worker_post(server->workers[blocked->worker], take_unblocked, blocked);
}

/* Answers those whose wait has ended; what they had sent behind it is run, and may end the waits of others. */
static void answer_blocked(struct worker *worker) {
    struct blocked *blocked;
    blocked_expire(&worker->dispatcher);
    while ((blocked = blocked_take_finished(&worker->dispatcher))) {
        struct connection *connection = blocked->session ? blocked->session->connection : NULL;
        if (connection)
            worker_settle(worker, connection, connection_answer(connection, &worker->io, blocked));
        else
            blocked_answer(&worker->dispatcher, blocked, NULL);
        if (connection_deferred_full(&worker->io)) connection_write_deferred(&worker->io, settle, worker);
    }
}

/* ---- connections ---- */

void worker_close(struct worker *worker, struct connection *connection) {
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        worker->connections = connection->next;
    if (connection->next) connection->next->previous = connection->previous;
    if (connection->session.monitoring) monitor_leave(worker, connection);
    if (connection->replica) replication_forget(worker, connection);
    if (connection->session.paused && !connection->session.memory_waits && stat_get(&worker->postponed))
        stat_set(&worker->postponed, stat_get(&worker->postponed) - 1);
    delivery_forget(worker, connection);
    client_memory_forget(worker, connection);
    connection_destroy(connection, &worker->io);
    atomic_fetch_sub(&worker->connection_count, 1);
    atomic_fetch_sub(&worker->server->clients, 1);
}

void worker_settle(struct worker *worker, struct connection *connection, enum connection_state state) {
    if (state == CONNECTION_DONE || connection->killed) {
        worker_close(worker, connection);
        return;
    }
    if (connection->held_back) worker->room.somebody_waits = true;
    client_memory_note(worker, connection);
    uint32_t wanted = (connection_wants_read(connection) ? (uint32_t)EPOLLIN : 0) |
                      (connection->wants_write ? (uint32_t)EPOLLOUT : 0) |
                      (connection->session.blocked ? (uint32_t)EPOLLRDHUP : 0);
    /* Who waits for cold records has mostly sent all it will send for now: not listening, and listening again when they
     * have come, would be two system calls for each. */
    if (wanted & EPOLLIN)
        connection->overheard = false;
    else if (connection->session.waiter.outstanding && !connection->overheard)
        wanted |= connection->watched_events & EPOLLIN;
    if (wanted == connection->watched_events) return;
    struct epoll_event event = {.events = wanted, .data.ptr = connection};
    epoll_ctl(worker->poll_fd, EPOLL_CTL_MOD, connection->fd, &event);
    connection->watched_events = wanted;
}

static void close_killed(struct worker *worker, void *argument) {
    (void)argument;
    for (struct connection *connection = worker->connections, *next; connection; connection = next) {
        next = connection->next;
        if (connection->killed) worker_close(worker, connection);
    }
}

void worker_kill(struct connection *connection) {
    if (connection->killed) return;
    connection->killed = true;
    connection->session.closing = true; /* its worker may be in the middle of its input */
    worker_post(connection->owner, close_killed, NULL);
}

static void adopt(struct worker *worker, void *argument) {
    struct connection *connection = argument;
    connection->owner = worker;
    connection->next = worker->connections;
    connection->previous = NULL;
    if (worker->connections) worker->connections->previous = connection;
    worker->connections = connection;
    connection->watched_events = EPOLLIN;
    if (!watch_fd(worker, connection->fd, EPOLLIN, connection)) worker_close(worker, connection);
}

static void refuse(int fd, const char *text) {
    (void)!write(fd, text, strlen(text));
    close(fd);
}

static struct worker *least_loaded(struct server *server, struct worker *self) {
    struct worker *best = self;
    for (unsigned i = 0; i < server->worker_count; i++)
        if (atomic_load_explicit(&server->workers[i]->connection_count, memory_order_relaxed) <
            atomic_load_explicit(&best->connection_count, memory_order_relaxed))
            best = server->workers[i];
    return best;
}

static void welcome(struct worker *worker, int fd, const struct socket_peer *peer) {
    struct server *server = worker->server;
    const struct config *config = &server->config;
    stat_add(&server->connections_received, 1);
    /* Counted first, as other workers are accepting too. */
    if (atomic_fetch_add(&server->clients, 1) >= (unsigned)config->clients.maxclients) {
        atomic_fetch_sub(&server->clients, 1);
        stat_add(&server->connections_rejected, 1);
        refuse(fd, "-ERR max number of clients reached\r\n");
        return;
    }
    if (config->network.protected_mode && !config->security.requirepass.length && !peer->is_loopback) {
        atomic_fetch_sub(&server->clients, 1);
        stat_add(&server->connections_rejected, 1);
        refuse(fd,
               "-DENIED this server is in protected mode: it has no password and accepts clients of its own host only. "
               "Set requirepass, or protected-mode no if the network around it is trusted.\r\n");
        return;
    }
    if (!peer->is_unix) socket_tune(fd, config->network.tcp_keepalive_seconds);
    uint64_t id = atomic_fetch_add(&server->next_client_id, 1) + 1;
    struct connection *connection =
        connection_create(fd, peer, id, worker->dispatcher.now_ms, release_value, server->keyspace);
    if (!connection) {
        atomic_fetch_sub(&server->clients, 1);
        return;
    }
    connection->session.authenticated = !config->security.requirepass.length;
    struct worker *owner = least_loaded(server, worker);
    atomic_fetch_add(&owner->connection_count, 1);
    if (owner == worker)
        adopt(worker, connection);
    else
        worker_post(owner, adopt, connection);
}

static void accept_clients(struct worker *worker, struct listener *listener) {
    if (listener->fd < 0) return; /* closed after the event came */
    for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct socket_peer peer;
        int fd = socket_accept(listener->fd, &peer);
        if (fd >= 0) {
            welcome(worker, fd, &peer);
            continue;
        }
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
        log_warning("cannot accept a connection: %s", strerror(errno));
        /* The connection keeps waiting, and would be reported again at once, and again. */
        listeners_ignore(worker->server, worker);
        worker->deaf = true;
        return;
    }
}

struct client_figures {
    size_t bytes, longest_query, longest_output;
};

static void count_client(struct client_figures *figures, const struct connection *connection) {
    size_t output = reply_bytes_pending(&connection->pending);
    figures->bytes += sizeof(*connection) + connection_memory(connection);
    if (connection->query_capacity > figures->longest_query) figures->longest_query = connection->query_capacity;
    if (output > figures->longest_output) figures->longest_output = output;
}

static bool is_overdue(const struct worker *worker, const struct connection *connection) {
    const struct session *session = &connection->session;
    int64_t idle_ms = worker->dispatcher.now_ms - session->active_ms;
    int64_t timeout_ms = worker->server->config.network.timeout_seconds * 1000;
    /* A client that is being closed has this long to take its last reply, each piece of it. */
    if (connection->reply_then_close && idle_ms > CLOSING_MS_MAX) return true;
    return timeout_ms && idle_ms > timeout_ms && !session->monitoring && !session->paused && !session->subscriptions &&
           !session->blocked && connection->kind != CONNECTION_REPLICA;
}

/* Once a tick: idle clients, and clients that are over a soft limit. */
static void tend_connections(struct worker *worker) {
    struct client_figures figures = {0};
    for (struct connection *connection = worker->connections, *next; connection; connection = next) {
        next = connection->next;
        count_client(&figures, connection);
        if (connection->killed || is_overdue(worker, connection)) {
            worker_close(worker, connection);
        } else if (connection->soft_limit_since_ms) {
            worker_settle(worker, connection, connection_push(connection, &worker->io, "", 0));
        }
    }
    stat_set(&worker->client_bytes, figures.bytes);
    stat_set(&worker->longest_query_bytes, figures.longest_query);
    stat_set(&worker->longest_output_bytes, figures.longest_output);
}

/* ---- background ---- */

static void note_expired_percent(struct worker *worker, unsigned percent) {
    uint64_t before = stat_get(&worker->expired_percent_hundredths);
    stat_set(&worker->expired_percent_hundredths, (before * 19 + percent * 100) / 20);
}

/* Looks through shards for expired records until the tick's share is spent; stays where many have expired. */
static void sweep_slice(struct worker *worker, uint64_t budget_ns) {
    struct keyspace *keyspace = worker->server->keyspace;
    if (!atomic_load_explicit(&keyspace->active_expiry, memory_order_relaxed) ||
        atomic_load_explicit(&keyspace->keeps_expired, memory_order_relaxed)) {
        worker->sweeping = false;
        return;
    }
    uint64_t start = clock_ticks();
    const struct keyspace_sweeper sweeper = {worker->dispatcher.port, &worker->sweep_waiter};
    if (worker->sweep_waiter.outstanding) return; /* it goes on where it waits */
    while (worker->sweeping && clock_elapsed_ns(start) < budget_ns) {
        if (worker->sweep_left == 0 || worker->sweep_shard >= keyspace->shard_count) {
            worker->sweep_shard = worker->id;
            if (worker->sweep_left == 0) worker->sweeping = false;
            continue;
        }
        uint64_t step = clock_ticks();
        int expired = keyspace_sweep(keyspace, worker->sweep_shard, worker->dispatcher.now_ms, budget_ns / 4,
                                     sweeper.port ? &sweeper : NULL);
        if (expired >= 0) note_expired_percent(worker, (unsigned)expired);
        if (worker->sweep_waiter.outstanding) break;
        if (expired >= SWEEP_GO_ON_PERCENT) continue;
        worker->sweep_credit_ns -= (int64_t)clock_elapsed_ns(step);
        worker->sweep_shard += worker->server->worker_count;
        worker->sweep_left--;
        if (worker->sweep_credit_ns <= 0) worker->sweeping = false;
    }
    uint64_t spent = clock_elapsed_ns(start);
    stat_add(&worker->sweep_ns, spent);
    slow_event(worker->server, LATENCY_EXPIRE_CYCLE, spent, worker->dispatcher.now_ms);
}

static void drain_slice(struct worker *worker, uint64_t budget_ns) {
    struct keyspace *keyspace = worker->server->keyspace;
    uint64_t start = clock_ticks();
    while (worker->draining && clock_elapsed_ns(start) < budget_ns) {
        if (worker->drain_shard >= keyspace->shard_count) {
            worker->draining = false;
        } else if (!keyspace_drain(keyspace, worker->drain_shard, budget_ns / 2)) {
            worker->drain_shard += worker->server->worker_count;
        }
    }
}

static void compact_slice(struct worker *worker, uint64_t budget_ns) {
    struct keyspace *keyspace = worker->server->keyspace;
    uint64_t start = clock_ticks();
    while (worker->compacting && clock_elapsed_ns(start) < budget_ns) {
        if (worker->compact_shard >= keyspace->shard_count) {
            worker->compacting = false;
        } else if (keyspace_compact(keyspace, worker->compact_shard, COMPACT_RECORDS) == 0) {
            worker->compact_shard += worker->server->worker_count;
        }
    }
}

/* Giving memory back to the kernel takes it a while, page by page. */
static void purge_slice(struct worker *worker, uint64_t budget_ns) {
    uint64_t start = clock_ticks();
    while (worker->purging && clock_elapsed_ns(start) < budget_ns) worker->purging = server_purge_some(worker->server);
}

/* Whether the walkers of a snapshot want a slice, and it is time for one. Those of a busy worker are spread out, by the
 * clock: each costs its clients a little, and while the snapshot goes on more slowly they are left more of the other
 * processors too. */
static bool wants_help(const struct worker *worker) {
    return keyspace_snapshot_has_offer(worker->server->keyspace) &&
           (!worker->busy || clock_monotonic_ns() >= worker->next_help_ns);
}

static bool help_slice(struct worker *worker) {
    int64_t start_ns = clock_monotonic_ns();
    worker->helped = keyspace_snapshot_serve(worker->server->keyspace);
    int64_t now_ns = clock_monotonic_ns();
    worker->next_help_ns = now_ns + (now_ns - start_ns) * HELP_PART;
    return worker->helped;
}

static bool has_background(const struct worker *worker) {
    return (worker->sweeping && !worker->sweep_waiter.outstanding) || worker->draining || worker->compacting ||
           worker->purging || worker->tier_busy;
}

static void run_background(struct worker *worker, uint64_t served_ns, bool idle) {
    uint64_t earned = served_ns / BACKGROUND_PART;
    worker->slice_debt_ns = idle || worker->slice_debt_ns < earned ? 0 : worker->slice_debt_ns - earned;
    bool goes_on = worker->tier_busy && worker->slice_debt_ns == 0;
    struct make_room_stretch since = goes_on ? make_room_work_begins() : (struct make_room_stretch){0};
    worker->tier_busy = worker->slice_debt_ns == 0 && tier_work_slice(worker, SLICE_NS);
    if (goes_on) make_room_work_ends(worker, since);
    bool other = has_background(worker);
    bool helps = worker->slice_debt_ns == 0 && !(worker->helped && other) && wants_help(worker);
    if (worker->slice_debt_ns > 0 || !(other || helps)) return;
    uint64_t start = clock_ticks();
    if (!helps || !help_slice(worker)) {
        worker->helped = false;
        if (worker->sweeping) sweep_slice(worker, SLICE_NS);
        if (worker->draining) drain_slice(worker, SLICE_NS);
        if (worker->compacting) compact_slice(worker, SLICE_NS);
        if (worker->purging) purge_slice(worker, SLICE_NS);
    }
    uint64_t spent = clock_elapsed_ns(start);
    worker->slice_debt_ns = spent;
    stat_add(&worker->background_ns, spent);
}

static void start_background(struct worker *worker, int64_t tick_ns) {
    struct keyspace *keyspace = worker->server->keyspace;
    int64_t effort = worker->server->config.general.active_expire_effort;
    worker->draining = worker->compacting = true;
    worker->purging = worker->id == 0;
    worker->sweeping = !atomic_load(&worker->server->host.paused); /* a paused server changes no data */
    worker->sweep_left =
        (keyspace->shard_count - worker->id + worker->server->worker_count - 1) / worker->server->worker_count;
    worker->sweep_credit_ns = tick_ns * SWEEP_SHARE_PERCENT / 100 * effort;
    worker->drain_shard = worker->compact_shard = worker->id;
}

/* ---- the loop ---- */

/* A walker on the worker's CPU would have the worker wait for whole time slices of the kernel's. */
static void note_cpu(struct worker *worker, int cpu) {
    if (atomic_load_explicit(&worker->busy_cpu, memory_order_relaxed) != cpu)
        atomic_store_explicit(&worker->busy_cpu, cpu, memory_order_relaxed);
}

void worker_refresh_limits(struct worker *worker) {
    const struct config_clients *clients = &worker->server->config.clients;
    worker->limits.query_bytes = (size_t)clients->query_buffer_limit_bytes;
    worker->limits.all_bytes = client_memory_limit(&worker->server->config);
    for (unsigned i = 0; i < CONNECTION_KINDS; i++) {
        const struct config_output_limit *classes = clients->output_limits.classes, *limit = &classes[i];
        if (i == CONNECTION_MONITOR) {
            limit = &classes[CONFIG_CLIENT_NORMAL];
            if (!limit->hard_bytes && !limit->soft_bytes) limit = &classes[CONFIG_CLIENT_PUBSUB];
        }
        worker->limits.output[i].hard_bytes = (size_t)limit->hard_bytes;
        worker->limits.output[i].soft_bytes = (size_t)limit->soft_bytes;
        worker->limits.output[i].soft_ms = limit->soft_seconds * 1000;
    }
}

static void tick(struct worker *worker) {
    int64_t tick_ns = INT64_C(1000000000) / worker->server->config.general.hz;
    worker->next_tick_ns = clock_monotonic_ns() + tick_ns;
    if (!atomic_load_explicit(&worker->server->cron_paused, memory_order_relaxed)) {
        if (worker->deaf) worker->deaf = !listeners_watch(worker->server, worker);
        worker_refresh_limits(worker);
        tend_connections(worker);
        client_memory_count(worker);
        replication_tend(worker);
        start_background(worker, tick_ns);
    }
    uint64_t turn_ns = stat_get(&worker->turn_ns);
    worker->busy = turn_ns > worker->turn_ns_before + (uint64_t)tick_ns / BUSY_PART; /* CONFIG RESETSTAT clears it */
    worker->turn_ns_before = turn_ns;
    if (!worker->busy || !worker->helps) note_cpu(worker, -1);
    if (worker->id == 0) {
        if (wait_is_any_marked(&worker->server->keyspace->waits)) blocked_serve_left(&worker->dispatcher);
        server_tick(worker->server);
    }
}

/* Runs the commands whose cold records have all arrived, a slice of them at a time: a device that answers faster than
 * its answers are served would otherwise keep those waiting who need nothing of it. The others are next turn's. */
static void resume_ready(struct worker *worker) {
    struct tier_waiter *waiter;
    uint64_t start = clock_ticks();
    while (clock_elapsed_ns(start) < RESUME_NS && (waiter = tier_next_ready(worker->dispatcher.port))) {
        struct connection *connection = waiter->owner;
        if (connection) worker_settle(worker, connection, connection_resume(connection, &worker->io));
    }
}

/* With a tier a turn may be long, of many who ask for cold records: who has an answer already need not wait for them.
 * Not with a pool: its records are read where they lie, and whoever is answered by himself takes a fence by himself. */
static bool is_reply_due(const struct worker *worker, uint64_t turn_start) {
    const struct tier_port *port = worker->dispatcher.port;
    return port && worker->io.deferred_count && !tier_reads_at_once(port) &&
           clock_elapsed_ns(turn_start) > REPLY_DUE_NS;
}

static void handle_event(struct worker *worker, const struct epoll_event *event) {
    struct server *server = worker->server;
    void *tag = event->data.ptr;
    if (tag == &worker->dispatcher.port) return; /* its operations are ended every turn */
    if (tag == worker) {
        uint64_t count;
        (void)!read(worker->wake_fd, &count, sizeof(count));
        return;
    }
    if (primary_link_event(worker, tag)) return;
    if (tag >= (void *)server->listeners.table && tag < (void *)(server->listeners.table + LISTENERS_MAX)) {
        accept_clients(worker, tag);
        return;
    }
    struct connection *connection = tag;
    if (connection->killed) {
        worker_close(worker, connection);
        return;
    }
    enum connection_state state = CONNECTION_OPEN;
    if ((event->events & EPOLLIN) && !connection_wants_read(connection)) connection->overheard = true;
    if (event->events & EPOLLOUT) state = connection_write(connection, &worker->io);
    if (state == CONNECTION_OPEN && (event->events & EPOLLIN)) state = connection_read(connection, &worker->io);
    /* An error with nothing to read: the peer is gone. A stalled one is noticed here too. */
    if (state == CONNECTION_OPEN && (event->events & (EPOLLERR | EPOLLHUP)) && !(event->events & EPOLLIN))
        state = CONNECTION_DONE;
    /* A blocked one is not read, and leaves when its client sends no more. */
    if ((event->events & EPOLLRDHUP) && connection->session.blocked) state = CONNECTION_DONE;
    worker_settle(worker, connection, state);
}

static int wait_ms(struct worker *worker) {
    if (has_background(worker) || make_room_is_due(worker) || pubsub_has_mail(worker->server->pubsub, worker->id) ||
        connection_may_release(&worker->io) || (worker->dispatcher.port && tier_any_ready(worker->dispatcher.port)))
        return 0; /* without events the next slice is due at once */
    int64_t left = worker->next_tick_ns - clock_monotonic_ns();
    int tick_ms = left <= 0 ? 0 : (int)(left / 1000000) + 1, pause_ms = pause_wait_ms(worker);
    if (pause_ms >= 0 && pause_ms < tick_ms) tick_ms = pause_ms;
    int stream_ms = replication_wait_ms(worker);
    if (stream_ms >= 0 && stream_ms < tick_ms) tick_ms = stream_ms;
    return make_room_wait_ms(worker, blocked_wait_ms(&worker->dispatcher, tick_ms));
}

static void set_helping(struct worker *worker, bool helps) {
    if (helps == worker->helps) return;
    worker->helps = helps;
    keyspace_snapshot_help(worker->server->keyspace, helps);
}

void worker_stop_helping(struct worker *worker) {
    set_helping(worker, false);
}

/* How long to wait for events, with the walkers of a snapshot in view. A worker whose last turn had something to do
 * (`served`) helps them. A busy one goes on helping while it sleeps between two turns, as it will be back before long:
 * a walker that took a shard's lock meanwhile would have it just when the next commands come. One that is not, and has
 * nothing to do, sleeps without helping, and takes what is offered before. */
static int wait_helping_ms(struct worker *worker, bool served) {
    bool helped = worker->helps;
    bool snapshot = atomic_load_explicit(&worker->server->keyspace->snapshot, memory_order_relaxed);
    set_helping(worker, snapshot && (served || worker->busy));
    if (worker->helps && worker->busy) note_cpu(worker, sched_getcpu());
    if ((helped || worker->helps) && wants_help(worker)) return 0;
    return worker->helps && !worker->busy ? 0 : wait_ms(worker);
}

void worker_run(struct worker *worker) {
    struct server *server = worker->server;
    struct retire_list *retired = server->keyspace->retired;
    struct epoll_event events[EVENTS];
    effect_sink_bind(&worker->dispatcher.effects);
    if (worker->affinity) pthread_setaffinity_np(pthread_self(), sizeof(cpu_set_t), worker->affinity);
    thread_place_prompt();
    atomic_store(&worker->self, pthread_self());
    worker->dispatcher.now_ms = clock_unix_ms();
    worker_refresh_limits(worker);
    int count = 0;
    while (!atomic_load_explicit(&server->quitting, memory_order_acquire)) {
        int timeout = wait_helping_ms(worker, count > 0);
        count = epoll_wait(worker->poll_fd, events, EVENTS, timeout);
        uint64_t start = clock_ticks();
        retire_online(retired, worker->id);
        worker->dispatcher.now_ms = clock_unix_ms();
        server_safe_point(server);
        connection_begin_turn(&worker->io);
        if (worker->io.held_count) connection_release_held(&worker->io, settle, worker);
        waiting_turn(worker);
        for (int i = 0; i < count; i++) {
            handle_event(worker, &events[i]);
            if (connection_deferred_full(&worker->io) || is_reply_due(worker, start))
                connection_write_deferred(&worker->io, settle, worker);
            if (server->worker_count > 1) server_safe_point(server);
        }
        delivery_turn(worker);
        connection_write_deferred(&worker->io, settle, worker);
        replication_turn(worker);
        if (server->aof.writer) aof_nudge(worker);
        if (server->pmem_gate.reader) pmem_gate_turn(worker);
        read_mail(worker);
        pause_check(worker);
        answer_blocked(worker);
        if (server->replication.round) primary_link_turn(worker);
        if (clock_monotonic_ns() >= worker->next_tick_ns) tick(worker);
        if (worker->io.deferred_count) connection_write_deferred(&worker->io, settle, worker);
        struct tier_port *port = worker->dispatcher.port;
        if (port) {
            tier_port_reap(port);
            if (server->replication.round) primary_link_turn(worker);
            resume_ready(worker);
            connection_write_deferred(&worker->io, settle, worker);
            tier_port_submit(port); /* the device works while background work is done */
        }
        uint64_t served_ns = clock_elapsed_ns(start);
        stat_add(&worker->turns, 1);
        stat_add(&worker->turn_ns, served_ns);
        run_background(worker, served_ns, count <= 0);
        make_room_turn(worker);
        delivery_turn(worker);
        if (worker->io.deferred_count) connection_write_deferred(&worker->io, settle, worker);
        if (port) {
            resume_ready(worker); /* those who joined a read that was waited for on the spot */
            if (worker->io.deferred_count) connection_write_deferred(&worker->io, settle, worker);
            tier_port_turn_end(port, clock_monotonic_ns());
        }
        replication_turn(worker);
        if (server->aof.writer) aof_nudge(worker);
        if (server->pmem_gate.reader) pmem_gate_turn(worker);
        retire_offline(retired, worker->id);
    }
    worker_stop_helping(worker);
    if (worker->id == 0) snapshot_job_see_off(server);
    if (worker->dispatcher.port) tier_port_drain(worker->dispatcher.port);
    server_leave(server);
}
