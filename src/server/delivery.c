/* See delivery.h.
 *
 * What a session has noted are pointers into batches that are kept until the turn ends, so noting a message for one
 * more client costs no more than writing a pointer. A short message is then copied into the worker's block of replies,
 * where all that is written at the end of the turn lies together; a long one is sent from where it is, and held until
 * the slowest client has read it. */

#include "server/delivery.h"

#include "base/log.h"
#include "command/blocked.h"
#include "server/client_tracking.h"
#include "server/server.h"

#include <assert.h>
#include <sched.h>
#include <stdlib.h>

enum { KEPT_MESSAGES = 8 }; /* of a session's list, between two turns */

/* A few bytes for each message that is on its way; without them a client would miss one and not know. */
static void *must(void *memory) {
    if (!memory) abort();
    return memory;
}

void delivery_free(struct delivery *delivery) {
    for (size_t i = 0; i < delivery->batch_count; i++) pubsub_release(&delivery->batches[i]);
    free(delivery->batches);
    free(delivery->touched);
}

/* ---- noting ---- */

static void touch(struct delivery *delivery, struct connection *connection) {
    if (delivery->touched_count == delivery->touched_capacity) {
        delivery->touched_capacity = delivery->touched_capacity ? delivery->touched_capacity * 2 : 64;
        delivery->touched = must(realloc(delivery->touched, delivery->touched_capacity * sizeof(struct connection *)));
    }
    delivery->touched[delivery->touched_count++] = connection;
    connection->touched = delivery->touched_count;
}

static void note(void *ctx, void *owner, struct message *message) {
    struct delivery *delivery = ctx;
    struct session *session = owner;
    struct connection *connection = session->connection;
    if (session->message_count == session->message_capacity) {
        session->message_capacity = session->message_capacity ? session->message_capacity * 2 : KEPT_MESSAGES;
        session->messages = must(realloc(session->messages, session->message_capacity * sizeof(struct message *)));
    }
    session->messages[session->message_count++] = message;
    if (!connection->touched) touch(delivery, connection);
}

static void collect(struct worker *worker) {
    struct delivery *delivery = &worker->delivery;
    struct pubsub *pubsub = worker->server->pubsub;
    tracking_broadcast(worker->server->tracking);
    if (!pubsub_has_mail(pubsub, worker->id)) return;
    if (delivery->batch_count == delivery->batch_capacity) {
        delivery->batch_capacity = delivery->batch_capacity ? delivery->batch_capacity * 2 : 4;
        delivery->batches = must(realloc(delivery->batches, delivery->batch_capacity * sizeof(struct inbox_batch)));
    }
    struct inbox_batch *batch = &delivery->batches[delivery->batch_count++];
    *batch = pubsub_take(pubsub, worker->id);
    if (batch->overflowed) delivery->overflowed = true;
    pubsub_visit(batch, note, delivery);
}

/* ---- writing ---- */

static void append(struct reply *reply, struct message *message, struct span bytes) {
    if (bytes.length < LIMIT_REPLY_COPY_BYTES)
        reply_raw(reply, bytes.data, bytes.length);
    else
        reply_raw_pinned(reply, bytes, message_hold(message), DELIVERY_PIN_TAG);
}

static void compose(const struct session *session, struct reply *reply, struct message *message) {
    if (session->protocol == 3 && message->resp3_length) {
        append(reply, message, span_of(message->bytes + message->length, message->resp3_length));
    } else if (session->protocol == 3) {
        reply_raw(reply, ">", 1);
        append(reply, message, span_of(message->bytes + 1, message->length - 1));
    } else if (!message->needs_subscription || session->subscriptions) {
        append(reply, message, span_of(message->bytes, message->length));
    }
}

static void compose_noted(struct session *session, struct reply *reply) {
    for (uint32_t i = 0; i < session->message_count; i++) compose(session, reply, session->messages[i]);
    session->message_count = 0;
    if (session->message_capacity == KEPT_MESSAGES) return;
    free(session->messages);
    session->messages = NULL;
    session->message_capacity = 0;
}

void delivery_take(void *ctx, struct session *session, unsigned worker, struct reply *reply) {
    struct server *server = ctx;
    collect(server->workers[worker]);
    if (session->message_count) compose_noted(session, reply);
}

static void settle(void *worker, struct connection *connection, enum connection_state state) {
    worker_settle(worker, connection, state);
}

static void send_noted(struct worker *worker, struct connection *connection) {
    struct session *session = &connection->session;
    connection->touched = 0;
    if (!session->message_count) return;
    if (connection->reply_then_close || connection->killed) {
        session->message_count = 0;
        return;
    }
    compose_noted(session, &worker->io.reply);
    worker_settle(worker, connection, connection_send(connection, &worker->io));
    if (connection_deferred_full(&worker->io)) connection_write_deferred(&worker->io, settle, worker);
}

/* A worker that is so far behind has no subscriber that is not. */
static void close_listeners(struct worker *worker) {
    log_warning("clients that listen for messages are closed: more than %lu bytes waited for worker %u",
                INBOX_BYTES_MAX, worker->id);
    for (struct connection *connection = worker->connections, *next; connection; connection = next) {
        next = connection->next;
        if (!connection->session.listens) continue;
        stat_add(&worker->io.output_limit_closes, 1);
        worker_close(worker, connection);
    }
}

/* What ends a client's wait may also change a key that it has cached: the reply is due before the message, as if it had
 * run the command itself. It is on its way here. */
static bool awaits_reply(const struct connection *connection) {
    const struct blocked *blocked = connection->session.blocked;
    if (!blocked) return false;
    while (atomic_load(&blocked->state) == BLOCKED_RETRYING) sched_yield();
    return atomic_load(&blocked->state) != BLOCKED_WAITING;
}

/* Returns how many connections have to wait for their turn. */
static size_t send_all(struct worker *worker) {
    struct delivery *delivery = &worker->delivery;
    size_t kept = 0;
    for (size_t i = 0; i < delivery->touched_count; i++) {
        struct connection *connection = delivery->touched[i];
        if (connection && awaits_reply(connection)) {
            delivery->touched[kept++] = connection;
            connection->touched = kept;
        } else if (connection) {
            send_noted(worker, connection);
        }
    }
    delivery->touched_count = kept;
    return kept;
}

void delivery_turn(struct worker *worker) {
    struct delivery *delivery = &worker->delivery;
    collect(worker);
    if (delivery->batch_count == 0) return;
    if (send_all(worker) == 0) {
        for (size_t i = 0; i < delivery->batch_count; i++) pubsub_release(&delivery->batches[i]);
        delivery->batch_count = 0;
    }
    if (!delivery->overflowed) return;
    delivery->overflowed = false;
    close_listeners(worker);
}

/* ---- coming and going ---- */

void delivery_update(struct connection *connection) {
    struct session *session = &connection->session;
    session->subscriptions = session->subscriber ? subscriber_total(session->subscriber) : 0;
    session->listens = session->subscriptions || session->mailbox;
    if (connection->kind == CONNECTION_NORMAL && session->subscriptions) connection->kind = CONNECTION_PUBSUB;
    if (connection->kind == CONNECTION_PUBSUB && !session->subscriptions) connection->kind = CONNECTION_NORMAL;
}

struct subscriber *delivery_subscriber(struct session *session, unsigned worker) {
    if (!session->subscriber) session->subscriber = subscriber_create(session, worker);
    return session->subscriber;
}

struct mailbox *delivery_mailbox(struct session *session, unsigned worker) {
    if (!session->mailbox) session->mailbox = mailbox_create(session, session->id, worker);
    session->listens = session->subscriptions || session->mailbox;
    return session->mailbox;
}

void delivery_reset(struct server *server, struct session *session) {
    client_tracking_end(server, session);
    if (!session->subscriber) return;
    subscriber_destroy(server->pubsub, session->subscriber);
    session->subscriber = NULL;
    delivery_update(session->connection);
}

void delivery_forget(struct worker *worker, struct connection *connection) {
    struct session *session = &connection->session;
    if (connection->touched) worker->delivery.touched[connection->touched - 1] = NULL;
    connection->touched = 0;
    delivery_reset(worker->server, session);
    if (session->mailbox) mailbox_close(session->mailbox);
    session->mailbox = NULL;
    free(session->messages);
    session->messages = NULL;
    session->message_count = session->message_capacity = 0;
    session->listens = false;
}
