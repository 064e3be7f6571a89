#ifndef TERRACE_SERVER_DELIVERY_H
#define TERRACE_SERVER_DELIVERY_H

/* Messages on their last stretch: from a worker's inbox (pubsub.h) into the output of its clients.
 *
 *   delivery_take()  before a listening client's commands and behind each of them: what has come for anybody is noted
 *                    with its sessions, what has come for this one is written behind the reply composed last
 *   delivery_turn()  once a turn: notes what has come, and sends what is noted
 *
 * So a client finds its messages where it expects them: what was published before its command stands before the reply,
 * what the command itself published behind it, and nothing stands within the reply of an EXEC.
 *
 * Threads: on the worker's own thread. */

#include "server/pubsub.h"

#include <stddef.h>

struct server;
struct worker;
struct connection;
struct session;
struct reply;

struct delivery {
    struct inbox_batch *batches; /* what sessions have noted lies in these */
    size_t batch_count, batch_capacity;
    struct connection **touched; /* they have something noted; NULL: closed meanwhile */
    size_t touched_count, touched_capacity;
    bool overflowed; /* messages were lost: all who listen are to be closed */
};

void delivery_free(struct delivery *delivery);
/* See struct command_host. */
void delivery_take(void *ctx, struct session *session, unsigned worker, struct reply *reply);
void delivery_turn(struct worker *worker);
/* The connection is about to be closed: ends all it listens to. */
void delivery_forget(struct worker *worker, struct connection *connection);
/* The session starts again: ends its subscriptions and its tracking. Its address stays. */
void delivery_reset(struct server *server, struct session *session);
/* The connection listens to something, or no longer: to be called after its session's subscriptions changed. */
void delivery_update(struct connection *connection);

/* The session's subscriber, made when it is first needed; NULL: no memory. */
struct subscriber *delivery_subscriber(struct session *session, unsigned worker);
/* The same of its address. */
struct mailbox *delivery_mailbox(struct session *session, unsigned worker);

/* The tag of messages among what replies have pinned. */
#define DELIVERY_PIN_TAG UINT32_MAX

#endif
