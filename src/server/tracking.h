#ifndef TERRACE_SERVER_TRACKING_H
#define TERRACE_SERVER_TRACKING_H

/* Client-side caching (CLIENT TRACKING): which client has read which key, and who is told when a key changes.
 *
 *   a tracking client reads "k"  -> the table of k's shard: "k" -> {client 7, client 12}
 *   anybody changes "k"          -> both are sent an invalidation, "k" is forgotten
 *   with BCAST                   -> instead, each client is told of all keys with its prefixes
 *
 * A client of RESP3 is sent a push; one of RESP2 has to name another connection (REDIRECT) that is subscribed to
 * __redis__:invalidate. All that is sent goes the way of published messages (pubsub.h), so it reaches a client behind
 * the reply of the command that caused it.
 *
 * The table forgets keys, telling their clients, when there are more than tracking-table-max-keys.
 *
 * Threads: the part of the table that belongs to a shard is guarded by that shard's lock: reading a key and remembering
 * who did is one step for those who change it. */

#include "keyspace/keyspace.h"
#include "server/pubsub.h"

struct tracking;

enum tracker_flag {
    TRACKER_BROADCAST = 1 << 0,
    TRACKER_OPT_IN = 1 << 1,
    TRACKER_OPT_OUT = 1 << 2,
    TRACKER_NO_LOOP = 1 << 3,
};

struct tracker_prefix {
    struct tracker_prefix *next;
    size_t length;
    char text[];
};

/* How one client tracks. Its mode is changed only while all other workers stand still. */
struct tracker {
    atomic_uint references;
    atomic_bool ended;               /* its client has stopped tracking */
    atomic_bool broken;              /* who its messages are redirected to has left */
    uint64_t id;                     /* of the client */
    uint32_t flags;                  /* enum tracker_flag */
    struct mailbox *mailbox;         /* its client's */
    struct mailbox *target;          /* where it is redirected to; NULL: it is not */
    size_t prefix_bytes;             /* what they take */
    struct tracker_prefix *prefixes; /* BROADCAST: of the keys it is told of; a list */
    /* For its client's worker only: CLIENT CACHING was said as this command of its session; 0: it was not. */
    uint64_t caching_at;
};

/* Without a limit. NULL: no memory. */
struct tracking *tracking_create(struct pubsub *pubsub, struct keyspace *keyspace);
/* No tracker may be left but in the table. */
void tracking_destroy(struct tracking *tracking);
/* 0: none. When it is lowered some keys are forgotten at once, the others by ticks. All workers stand still. */
void tracking_limit(struct tracking *tracking, uint64_t keys_max);

/* A tracker for the client of `mailbox`, in no mode; it holds the mailbox. NULL: no memory. */
struct tracker *tracking_begin(struct tracking *tracking, struct mailbox *mailbox);
/* Sets the mode: enum tracker_flag, who is told instead of the client (held; NULL: nobody), and prefixes besides those
 * it has; BROADCAST without any means all keys. All other workers stand still. False: no memory, nothing changed. */
bool tracking_set_mode(struct tracking *tracking, struct tracker *tracker, uint32_t flags, struct mailbox *target,
                       const struct span *prefixes, size_t prefix_count) __attribute__((warn_unused_result));
void tracking_end(struct tracking *tracking, struct tracker *tracker);

/* The tracker's client has read the key, whose shard's lock is held. Without memory, or room, it is told at once. */
void tracking_remember(struct tracking *tracking, struct tracker *tracker, const struct key *key);

/* A key has changed; its shard's lock is held. `client`: by whom, 0 for nobody. Who has read it is told at once, who
 * BROADCASTs by the next tracking_broadcast(). */
void tracking_invalidate(struct tracking *tracking, struct span key, uint64_t client);
/* Tells of the keys that have changed since. Any thread; a worker calls it before it delivers messages. */
void tracking_broadcast(struct tracking *tracking);
/* Databases were flushed; all shards' locks are held. */
void tracking_flush(struct tracking *tracking);

/* Every tick, by one worker that holds no shard's lock: forgets some keys when there are too many, and all, some at a
 * time, once nobody tracks. */
void tracking_tick(struct tracking *tracking);

struct tracking_figures {
    uint64_t clients, keys, items, prefixes;
};
struct tracking_figures tracking_figures(struct tracking *tracking);

#endif
