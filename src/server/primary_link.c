/* The life of the link: its thread, what it has worker 0 do, and what others want of it. See primary_link.h.
 *
 * A link belongs to one primary. REPLICAOF makes another one and cancels the old, whose thread may be in the middle of
 * a wait: it ends by itself, and worker 0 joins it at a tick. Nobody waits for it with the world standing still, as it
 * may itself be waiting for worker 0. A copy that is being loaded is not cancelled: REPLICAOF is answered by -LOADING
 * then.
 *
 * The descriptor belongs to the thread, from LINK_CONNECTED on to worker 0, which closes it and gives the link back. */

#include "base/clock.h"
#include "base/log.h"
#include "base/thread_place.h"
#include "command/admission.h"
#include "net/connection.h"
#include "server/primary_link_private.h"
#include "server/server.h"
#include "server/stream_parked.h"
#include "server/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RETRY_MS = 1000,
    ACKNOWLEDGE_MS = 1000,
    HELD_PIECE_BYTES = 64 << 10,
    HELD_BYTES_MAX = 16 << 20, /* of the stream, while a pause lasts: the rest waits in the sockets */
};

bool link_is_cancelled(const struct primary_link *link) {
    return atomic_load((atomic_bool *)(uintptr_t)&link->cancelled);
}

void link_set_state(struct primary_link *link, enum primary_link_state state) {
    atomic_store(&link->state, (int)state);
}

static enum primary_link_state state_of(const struct primary_link *link) {
    return (enum primary_link_state)atomic_load((_Atomic int *)(uintptr_t)&link->state);
}

/* ---- between the thread and worker 0 ---- */

void link_mail_done(struct primary_link *link) {
    pthread_mutex_lock(&link->lock);
    link->mail_done = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

bool link_call_worker(struct primary_link *link, void (*run)(struct worker *worker, void *link)) {
    link->mail_done = false;
    worker_post(link->server->workers[0], run, link);
    pthread_mutex_lock(&link->lock);
    while (!link->mail_done && !link->deserted) pthread_cond_wait(&link->changed, &link->lock);
    bool done = link->mail_done;
    pthread_mutex_unlock(&link->lock);
    return done;
}

static void give_back(struct primary_link *link) {
    pthread_mutex_lock(&link->lock);
    link->given_back = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* Worker 0, or all stand still: the connection is gone. */
static void lose(struct primary_link *link) {
    link_disconnect(link);
    primary_link_settle(link->server);
    stream_round_end(link->server->replication.round);
    atomic_store(&link->down_since_ms, clock_unix_ms());
    link_set_state(link, LINK_CONNECT);
    give_back(link);
}

static void listen_to(struct primary_link *link, struct worker *worker, bool listens) {
    struct epoll_event event = {.events = listens ? EPOLLIN : 0, .data.ptr = &link->server->replication.link};
    (void)epoll_ctl(worker->poll_fd, EPOLL_CTL_MOD, link->fd, &event);
}

/* By CLIENT PAUSE and its like, as with Redis, by DEBUG RELOAD, and by a pool that waits for a checkpoint. */
static bool is_held_up(const struct server *server) {
    return atomic_load((atomic_bool *)(uintptr_t)&server->host.paused) || loading_is_active(&server->loading) ||
           pmem_gate_is_short(server);
}

/* The stream is received, and applied later; for a pool it waits in the sockets, as all that has been received is
 * applied at once and has to find room. */
static void hold(struct primary_link *link, struct worker *worker) {
    link->held = true;
    if (pmem_gate_is_short(link->server) || link->length >= HELD_BYTES_MAX || !link_reserve(link, HELD_PIECE_BYTES)) {
        listen_to(link, worker, false);
        return;
    }
    ssize_t got = recv(link->fd, link->bytes + link->length, link->capacity - link->length, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        log_notice("Connection with master lost: while the stream was held up");
        lose(link);
        return;
    }
    link->length += (size_t)got;
    atomic_store(&link->unfinished, link->length);
    atomic_store(&link->heard_ms, worker->dispatcher.now_ms);
    atomic_fetch_add(&link->server->replication.bytes_in, (uint64_t)got);
}

/* A command of the stream that stops the world may find REPLICAOF to be before it, which then leaves the link, that is
 * in use, to be ended here. */
static void serve(struct primary_link *link, struct worker *worker) {
    char why[LINK_LINE_MAX];
    if (is_held_up(link->server) && !link->serving) {
        hold(link, worker);
        return;
    }
    link->serving = true;
    bool good = link_apply(link, worker, why);
    link->serving = false;
    bool cancelled = link_is_cancelled(link);
    if (good && !cancelled) return;
    if (!cancelled) log_notice("Connection with master lost: %s", why);
    lose(link);
}

static void begin_showing(struct primary_link *link) {
    struct server *server = link->server;
    if (!link->shown) link->shown = calloc(1, sizeof(*link->shown));
    if (!link->shown) return; /* it works without being seen */
    link->shown->is_primary = true;
    link->shown->session.id = atomic_fetch_add(&server->next_client_id, 1) + 1;
    link->shown->session.created_ms = clock_unix_ms();
    link->shown->session.protocol = 2;
    link->shown->fd = link->fd;
    socket_describe(link->fd, &link->shown->peer);
}

static void take_stream(struct worker *worker, void *argument) {
    struct primary_link *link = argument;
    struct server *server = link->server;
    server_stop_workers(server, worker->id);
    link->failed = link_is_cancelled(link);
    if (!link->failed) {
        if (link->new_id[0]) replication_continue_history(server, link->new_id);
        link->new_id[0] = '\0';
        link->failed = !link_apply_begin(link, worker);
    }
    if (!link->failed) {
        atomic_store(&link->down_since_ms, 0);
        atomic_store(&link->heard_ms, clock_unix_ms());
        link_set_state(link, LINK_CONNECTED);
        begin_showing(link);
        link_acknowledge(link); /* the primary may wait for it before it sends more */
        link->acked_ms = worker->dispatcher.now_ms;
    }
    server_resume_workers(server, worker->id);
    bool taken = !link->failed;
    link_mail_done(link);
    if (taken) serve(link, worker);
}

static char *copy_text(char *old, const char *text) {
    free(old);
    char *copy = strdup(text);
    if (!copy) abort(); /* a word of the configuration */
    return copy;
}

/* The configuration's strings are good only while nobody changes it, which worker 0 would stand still for. */
static void take_settings(struct worker *worker, void *argument) {
    struct primary_link *link = argument;
    const struct config *config = &worker->server->config;
    const struct config_secret *secret = &config->replication.masterauth;
    free(link->password);
    link->password = malloc(secret->length + 1);
    if (!link->password) abort(); /* a word of the configuration */
    memcpy(link->password, secret->bytes, secret->length + 1);
    link->password_length = secret->length;
    link->user = copy_text(link->user, config->replication.masteruser);
    link->source = copy_text(link->source, config->network.bind_source_address);
    link->announced_ip = copy_text(link->announced_ip, config->replication.announce_ip);
    link->diskless_load = config->replication.diskless_load;
    link->announced_port = config->replication.announce_port ? config->replication.announce_port : config->network.port;
    link_mail_done(link);
}

/* ---- the thread ---- */

/* True: the stream is worker 0's. */
static bool attempt(struct primary_link *link, char *why) {
    log_notice("Connecting to MASTER %s:%d", link->host, link->port);
    link_set_state(link, LINK_CONNECTING);
    if (!link_connect(link, why)) return false;
    log_notice("MASTER <-> REPLICA sync started");
    link_set_state(link, LINK_HANDSHAKE);
    atomic_store(&link->heard_ms, clock_unix_ms());
    enum link_answer answer = link_handshake(link, why);
    if (answer == LINK_FAILED) return false;
    if (answer == LINK_FULL_COPY) {
        link_set_state(link, LINK_TRANSFER);
        bool loaded = link_loads_directly(link) ? link_load_directly(link, why)
                                                : link_receive_copy(link, why) && link_load_copy(link, why);
        if (!loaded) return false;
        link->new_id[0] = '\0';
    }
    snprintf(why, LINK_LINE_MAX, "the stream cannot be begun");
    return link_call_worker(link, take_stream) && !link->failed;
}

static void wait_until_given_back(struct primary_link *link) {
    pthread_mutex_lock(&link->lock);
    while (!link->given_back && !link->deserted) pthread_cond_wait(&link->changed, &link->lock);
    link->given_back = false;
    pthread_mutex_unlock(&link->lock);
}

static void rest(struct primary_link *link) {
    struct timespec due;
    clock_gettime(CLOCK_REALTIME, &due);
    due.tv_sec += RETRY_MS / 1000;
    pthread_mutex_lock(&link->lock);
    int status = 0;
    while (!link_is_cancelled(link) && !link->deserted && status != ETIMEDOUT)
        status = pthread_cond_timedwait(&link->changed, &link->lock, &due);
    pthread_mutex_unlock(&link->lock);
}

/* The same line once a second would fill the log. */
static void tell_failure(struct primary_link *link, const char *why) {
    log_warning("MASTER <-> REPLICA sync with %s:%d failed: %s", link->host, link->port, why);
}

static void *run(void *argument) {
    struct primary_link *link = argument;
    char why[LINK_LINE_MAX] = "";
    thread_place_roam();
    while (!link_is_cancelled(link)) {
        if (!link_call_worker(link, take_settings)) break;
        if (attempt(link, why)) {
            wait_until_given_back(link); /* and try again at once */
            continue;
        }
        link_disconnect(link);
        link_set_state(link, LINK_CONNECT);
        if (link_is_cancelled(link)) break;
        tell_failure(link, why);
        rest(link);
    }
    atomic_store(&link->ended, true);
    return NULL;
}

/* ---- life ---- */

static void destroy(struct primary_link *link) {
    if (link->wake_fd >= 0) close(link->wake_fd);
    pthread_mutex_destroy(&link->lock);
    pthread_cond_destroy(&link->changed);
    free(link->shown);
    free(link->bytes);
    free(link->password);
    free(link->user);
    free(link->source);
    free(link->announced_ip);
    free(link);
}

static struct primary_link *create(struct server *server, const char *host, int port) {
    struct primary_link *link = calloc(1, sizeof(*link));
    if (!link) return NULL;
    link->server = server;
    snprintf(link->host, sizeof(link->host), "%s", host);
    link->port = port;
    link->fd = -1;
    link->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    atomic_init(&link->down_since_ms, clock_unix_ms());
    pthread_mutex_init(&link->lock, NULL);
    pthread_cond_init(&link->changed, NULL);
    if (link->wake_fd >= 0) return link;
    destroy(link);
    return NULL;
}

/* Before the first link of the server. False: no memory. */
static bool make_round(struct server *server) {
    if (!server->replication.round) server->replication.round = stream_round_create(server);
    return server->replication.round != NULL;
}

static bool start(struct primary_link *link) {
    link->started = pthread_create(&link->thread, NULL, run, link) == 0;
    return link->started;
}

/* All workers stand still. */
static void cancel(struct primary_link *link) {
    atomic_store(&link->cancelled, true);
    if (state_of(link) == LINK_CONNECTED && !link->serving) lose(link);
    (void)!write(link->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    pthread_mutex_lock(&link->lock);
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* Out of use; worker 0 frees it when its thread has ended. */
static void retire(struct server *server) {
    struct primary_link *link = server->replication.link;
    if (!link) return;
    server->replication.link = NULL;
    cancel(link);
    link->next = server->replication.old_links;
    server->replication.old_links = link;
}

static void reap(struct server *server) {
    for (struct primary_link **at = &server->replication.old_links; *at;) {
        struct primary_link *link = *at;
        if (link->started && !atomic_load(&link->ended)) {
            at = &link->next;
            continue;
        }
        if (link->started) pthread_join(link->thread, NULL);
        *at = link->next;
        destroy(link);
    }
}

static void become_replica(struct server *server) {
    replication_become_replica(server);
    atomic_store(&server->host.is_replica, true);
    atomic_store(&server->keyspace->keeps_expired, true);
    log_set_role('S');
}

bool primary_link_prepare(struct server *server) {
    const struct config_words *words = &server->config.replication.replicaof;
    server->host.refuse_on_replica = primary_link_refusal;
    if (words->count != 2) return true;
    server->replication.link = create(server, words->words[0], atoi(words->words[1]));
    if (!server->replication.link || !make_round(server)) return false;
    become_replica(server);
    return true;
}

void primary_link_begin(struct server *server) {
    struct primary_link *link = server->replication.link;
    /* The id is one of chance then, which no primary has heard of. */
    if (link && !link->started) link->without_history = !server->start_load.replication_id[0];
    if (link && !link->started && !start(link)) log_warning("cannot create the thread of the link to the primary");
}

void primary_link_end(struct server *server) {
    atomic_store(&server->loading.cancel, true);
    retire(server);
    for (struct primary_link *link = server->replication.old_links; link; link = link->next) {
        pthread_mutex_lock(&link->lock);
        link->deserted = true;
        pthread_cond_broadcast(&link->changed);
        pthread_mutex_unlock(&link->lock);
        if (link->started) pthread_join(link->thread, NULL);
        link->started = false;
    }
    reap(server);
    stream_round_destroy(server->replication.round);
    server->replication.round = NULL;
}

/* ---- REPLICAOF ---- */

/* What CONFIG GET and CONFIG REWRITE say. False: no memory. */
static bool note_primary(struct server *server, const char *host, int port) {
    struct config_words *words = &server->config.replication.replicaof, noted = {0};
    char number[16];
    snprintf(number, sizeof(number), "%d", port);
    if (host) {
        noted.words = calloc(2, sizeof(char *));
        if (!noted.words) return false;
        noted.count = 2;
        noted.words[0] = strdup(host);
        noted.words[1] = strdup(number);
        if (!noted.words[0] || !noted.words[1]) {
            free(noted.words[0]);
            free(noted.words[1]);
            free(noted.words);
            return false;
        }
    }
    for (size_t i = 0; i < words->count; i++) free(words->words[i]);
    free(words->words);
    *words = noted;
    return true;
}

bool primary_link_follow(struct server *server, const char *host, int port) {
    struct primary_link *link = create(server, host, port);
    if (!link) return false;
    if (!make_round(server) || !note_primary(server, host, port)) {
        destroy(link);
        return false;
    }
    retire(server);
    become_replica(server);
    server->replication.link = link;
    if (!start(link)) log_warning("cannot create the thread of the link to the primary");
    return true;
}

void primary_link_leave(struct server *server) {
    if (!replication_is_replica(&server->replication)) return;
    retire(server);
    (void)!note_primary(server, NULL, 0);
    atomic_store(&server->host.is_replica, false);
    atomic_store(&server->keyspace->keeps_expired, false);
    replication_become_primary(server);
    log_set_role('M');
}

/* ---- on worker 0 ---- */

bool primary_link_event(struct worker *worker, void *tag) {
    struct replication *replication = &worker->server->replication;
    if (tag != &replication->link) return false;
    /* The event may be of a connection that is gone; then there is nothing to read. */
    if (replication->link && state_of(replication->link) == LINK_CONNECTED) serve(replication->link, worker);
    return true;
}

void primary_link_turn(struct worker *worker) {
    struct replication *replication = &worker->server->replication;
    if (worker->id != 0)
        stream_round_help(replication->round, worker);
    else if (replication->link && state_of(replication->link) == LINK_CONNECTED)
        link_turn(replication->link);
}

void primary_link_settle(struct server *server) {
    if (server->replication.round) stream_parked_settle(stream_round_parked(server->replication.round), STREAM_ALONE);
}

uint64_t primary_link_applied(struct server *server) {
    struct stream_round *round = server->replication.round;
    uint64_t end = replication_offset(server);
    return round ? stream_parked_oldest(stream_round_parked(round), end) : end;
}

/* The pause is over. */
static void go_on(struct primary_link *link, struct worker *worker) {
    link->held = false;
    if (state_of(link) != LINK_CONNECTED) return;
    link->fresh = true; /* there are bytes that were not looked at */
    listen_to(link, worker, true);
    serve(link, worker);
}

void primary_link_tick(struct server *server) {
    struct primary_link *link = server->replication.link;
    int64_t now_ms = server->workers[0]->dispatcher.now_ms;
    if (server->replication.old_links) reap(server);
    if (link && link->held && !is_held_up(server)) go_on(link, server->workers[0]);
    link = server->replication.link;
    if (!link || now_ms - link->acked_ms < ACKNOWLEDGE_MS) return;
    link->acked_ms = now_ms;
    if (state_of(link) == LINK_LOADING) {
        (void)!send(link->fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT); /* we are still there */
        return;
    }
    if (state_of(link) != LINK_CONNECTED) return;
    if (link->held) atomic_store(&link->heard_ms, now_ms); /* it is not the primary that is silent */
    if (now_ms - atomic_load(&link->heard_ms) > server->config.replication.timeout_seconds * 1000) {
        log_warning("MASTER timeout: no data nor PING received...");
        lose(link);
        return;
    }
    link_acknowledge(link);
}

/* ---- what others ask ---- */

struct connection *primary_link_shown(struct server *server) {
    struct primary_link *link = server->replication.link;
    if (!link || state_of(link) != LINK_CONNECTED || !link->shown) return NULL;
    int database = atomic_load(&server->replication.stream_database);
    link->shown->session.active_ms = atomic_load(&link->heard_ms);
    link->shown->session.database = database > 0 ? (uint32_t)database : 0;
    link->shown->query_length = link->length;
    link->shown->query_capacity = link->capacity;
    return link->shown;
}

void primary_link_kill(struct server *server) {
    struct primary_link *link = server->replication.link;
    if (!link || state_of(link) != LINK_CONNECTED || link->serving) return;
    log_notice("Connection with master lost: it was killed by a client");
    lose(link);
}

bool primary_link_is_up(const struct server *server) {
    const struct primary_link *link = server->replication.link;
    return link && state_of(link) == LINK_CONNECTED;
}

const char *primary_link_refusal(void *ctx, const struct session *session, const struct command *command) {
    const struct server *server = ctx;
    if (server->config.replication.read_only && admission_any_has(session, command, COMMAND_WRITE))
        return "READONLY You can't write against a read only replica.";
    if (!server->config.replication.serve_stale_data && !admission_all_have(session, command, COMMAND_STALE) &&
        !primary_link_is_up(server))
        return "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    return NULL;
}

static void info_transfer(const struct primary_link *link, int64_t now_ms, struct text *text) {
    struct primary_link *shown = (struct primary_link *)(uintptr_t)link;
    uint64_t total = atomic_load(&shown->transfer_total), read = atomic_load(&shown->transfer_read);
    text_add(text, "master_sync_total_bytes:%llu\r\nmaster_sync_read_bytes:%llu\r\n", (unsigned long long)total,
             (unsigned long long)read);
    text_add(text, "master_sync_left_bytes:%lld\r\nmaster_sync_perc:%.2f\r\n", total ? (long long)(total - read) : -1LL,
             total ? (double)read * 100 / (double)total : 0.0);
    text_add(text, "master_sync_last_io_seconds_ago:%lld\r\n",
             (long long)((now_ms - atomic_load(&shown->heard_ms)) / 1000));
}

void primary_link_info(struct server *server, struct text *text) {
    struct primary_link *link = server->replication.link;
    const struct config_replication *config = &server->config.replication;
    int64_t now_ms = clock_unix_ms();
    if (!link) return;
    enum primary_link_state state = state_of(link);
    bool up = state == LINK_CONNECTED, syncing = state == LINK_TRANSFER || state == LINK_LOADING;
    int64_t heard_ms = atomic_load(&link->heard_ms), down_ms = atomic_load(&link->down_since_ms);
    unsigned long long offset = replication_offset(server), applied = primary_link_applied(server);
    text_add(text, "master_host:%s\r\nmaster_port:%d\r\nmaster_link_status:%s\r\n", link->host, link->port,
             up ? "up" : "down");
    text_add(text, "master_last_io_seconds_ago:%lld\r\nmaster_sync_in_progress:%d\r\n",
             up ? (long long)((now_ms - heard_ms) / 1000) : -1LL, syncing);
    text_add(text, "slave_read_repl_offset:%llu\r\nslave_repl_offset:%llu\r\n",
             offset + (up ? (unsigned long long)atomic_load(&link->unfinished) : 0), applied);
    if (syncing) info_transfer(link, now_ms, text);
    if (!up) text_add(text, "master_link_down_since_seconds:%lld\r\n", (long long)((now_ms - down_ms) / 1000));
    text_add(text, "slave_priority:%lld\r\nslave_read_only:%d\r\nreplica_announced:%d\r\n", (long long)config->priority,
             config->read_only, config->announced);
}

void primary_link_role(struct server *server, struct reply *reply) {
    static const char *const names[] = {"connect", "connecting", "handshake", "sync", "sync", "connected"};
    const struct primary_link *link = server->replication.link;
    enum primary_link_state state = link ? state_of(link) : LINK_CONNECT;
    reply_array(reply, 5);
    reply_bulk_text(reply, "slave");
    reply_bulk_text(reply, link ? link->host : "");
    reply_integer(reply, link ? link->port : 0);
    reply_bulk_text(reply, names[state]);
    reply_integer(reply, state == LINK_CONNECTED ? (int64_t)replication_offset(server) : -1);
}
