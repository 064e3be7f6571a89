#ifndef TERRACE_SERVER_INBOX_H
#define TERRACE_SERVER_INBOX_H

/* The messages that wait for a worker to hand them to its clients (pubsub.h).
 *
 * Any thread puts entries in, one takes all of them out at once. Entries are numbered, so that a subscription can tell
 * what was put in before it began. */

#include "server/message.h"

#include <pthread.h>
#include <stddef.h>

/* The most that may wait. A worker that is so far behind closes its subscribers, as each of them would be by its own
 * output limit. */
#define INBOX_BYTES_MAX (64ul << 20)

struct part; /* of pubsub.c */

struct inbox_entry {
    struct part *part;       /* NULL: for one client */
    struct mailbox *mailbox; /* NULL: for the part's subscribers */
    struct message *message;
    uint64_t number;
};

/* What was taken out at once; `entries` is owned by the taker. */
struct inbox_batch {
    struct inbox_entry *entries;
    size_t count;
    bool overflowed; /* more was put in than could be kept: some are lost */
};

struct inbox {
    pthread_mutex_t lock;
    atomic_bool filled;
    bool overflowed;
    struct inbox_entry *entries;
    size_t count, capacity, bytes;
    _Atomic uint64_t number; /* of the next entry */
} __attribute__((aligned(64)));

/* Precondition: all bytes are zero. */
void inbox_init(struct inbox *inbox);
/* Its entries have been taken. */
void inbox_free(struct inbox *inbox);

/* Holds the message and sets the number; what else the entry refers to is the caller's. False: there is no room, the
 * batch will tell. `*first`: nothing had waited. */
bool inbox_put(struct inbox *inbox, struct inbox_entry *entry, bool *first) __attribute__((warn_unused_result));
struct inbox_batch inbox_take(struct inbox *inbox);

static inline bool inbox_is_filled(const struct inbox *inbox) {
    return atomic_load_explicit(&inbox->filled, memory_order_acquire);
}
static inline uint64_t inbox_next_number(const struct inbox *inbox) {
    return atomic_load(&inbox->number);
}

#endif
