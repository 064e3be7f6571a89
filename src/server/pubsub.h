#ifndef TERRACE_SERVER_PUBSUB_H
#define TERRACE_SERVER_PUBSUB_H

/* Who hears what: topics (channels, patterns, shard channels), their subscribers, and the way of a message to them.
 *
 *   topic "news" --> part of worker 0 --> subscribers there      one message, counted references
 *                \-> part of worker 3 --> subscribers there        |
 *   publish: for each part an entry in that worker's inbox  <------+
 *   worker 3, between two commands or turns: pubsub_take() -> for each entry, each subscriber of the part
 *
 * A message is composed once, by the publisher, and handed to each worker that has subscribers; what remains is done
 * where the subscribers are. Nobody but its worker looks at the subscribers of a part.
 *
 * Order: entries of one topic are made under its lock, so all its subscribers see its messages in one order, and those
 * of one publisher in his. A subscription hears of what is published after it was entered, nothing older that is still
 * on its way: it remembers how many entries the inbox had had by then.
 *
 * Threads: any thread may publish, also with shard locks held: no shard lock is ever taken in here. A subscriber
 * belongs to one worker and is used on its thread only. */

#include "server/inbox.h"

struct pubsub;

/* ---- clients that messages are for ---- */

enum pubsub_kind { PUBSUB_CHANNEL, PUBSUB_PATTERN, PUBSUB_SHARD_CHANNEL, PUBSUB_KINDS };

/* A client as pub/sub knows it; owned by its session. */
struct subscriber {
    void *owner; /* the session */
    unsigned worker;
    uint32_t counts[PUBSUB_KINDS]; /* subscriptions of each kind */
    struct subscription **chains;  /* of all of them, by the topic's hash */
    uint32_t mask;
    struct subscription *first, *last; /* in the order in which they began */
};

struct subscriber *subscriber_create(void *owner, unsigned worker);
/* Ends its subscriptions. NULL is fine. */
void subscriber_destroy(struct pubsub *pubsub, struct subscriber *subscriber);

static inline uint32_t subscriber_total(const struct subscriber *subscriber) {
    return subscriber->counts[PUBSUB_CHANNEL] + subscriber->counts[PUBSUB_PATTERN] +
           subscriber->counts[PUBSUB_SHARD_CHANNEL];
}

/* ---- the whole ---- */

/* `wake` makes a worker take its entries soon; it may be called from any thread, with locks held. `seed` is secret.
 * NULL: no memory. */
struct pubsub *pubsub_create(unsigned workers, uint64_t seed, void (*wake)(void *ctx, unsigned worker), void *ctx);
/* No subscriber may be left. */
void pubsub_destroy(struct pubsub *pubsub);

enum pubsub_result { PUBSUB_DONE, PUBSUB_NOTHING, PUBSUB_NO_MEMORY };
/* NOTHING: it is subscribed already; not at all. */
enum pubsub_result pubsub_subscribe(struct pubsub *pubsub, struct subscriber *subscriber, enum pubsub_kind kind,
                                    struct span name) __attribute__((warn_unused_result));
enum pubsub_result pubsub_unsubscribe(struct pubsub *pubsub, struct subscriber *subscriber, enum pubsub_kind kind,
                                      struct span name);
/* The name of the oldest subscription of the kind, good until it ends; data NULL: there is none. */
struct span subscriber_oldest(const struct subscriber *subscriber, enum pubsub_kind kind);

/* Sends a message to the subscribers of the channel and, if it is not a shard channel, of patterns that fit. Returns
 * how many there are. Where nobody listens nothing is written that others read. Without memory nobody is sent anything.
 */
uint64_t pubsub_publish(struct pubsub *pubsub, enum pubsub_kind kind, struct span channel, struct span text);
/* Sends to one client; the message stays the caller's. */
void pubsub_send(struct pubsub *pubsub, struct mailbox *mailbox, struct message *message);

/* ---- the receiving worker ---- */

/* Whether anything waits for the worker; cheap. */
bool pubsub_has_mail(const struct pubsub *pubsub, unsigned worker);
struct inbox_batch pubsub_take(struct pubsub *pubsub, unsigned worker);
/* Calls `visit` for each client and message, in order. It may not subscribe or unsubscribe anybody. */
void pubsub_visit(const struct inbox_batch *batch, void (*visit)(void *ctx, void *owner, struct message *message),
                  void *ctx);
/* Gives up what the entries refer to, the messages among it. */
void pubsub_release(struct inbox_batch *batch);

/* ---- figures ---- */

/* Topics of the kind. */
uint64_t pubsub_topics(const struct pubsub *pubsub, enum pubsub_kind kind);
/* Clients that have subscribed to any. */
uint64_t pubsub_listeners(const struct pubsub *pubsub);
uint64_t pubsub_subscribers(struct pubsub *pubsub, enum pubsub_kind kind, struct span name);
/* The names of the kind's topics, with locks held: `visit` may only note them. */
void pubsub_walk(struct pubsub *pubsub, enum pubsub_kind kind, void (*visit)(void *ctx, struct span name), void *ctx);

#endif
