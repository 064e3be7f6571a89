#ifndef TERRACE_SERVER_MESSAGE_H
#define TERRACE_SERVER_MESSAGE_H

/* What clients are sent without having asked for it just then, and the address of one such client.
 *
 * Both live as long as somebody refers to them: any thread may hold and release. */

#include "base/span.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes that several clients are sent: first as clients of RESP2 get them, an array. Those of RESP3 are the same with
 * '>' for the first byte, unless others follow for them. Either may be nothing at all: then these clients get none. */
struct message {
    atomic_uint references;
    uint32_t length;         /* for RESP2 */
    uint32_t resp3_length;   /* behind those; 0: the same */
    bool needs_subscription; /* a client of RESP2 gets it only while it is subscribed to something */
    char bytes[];
};

static inline size_t message_bytes(const struct message *message) {
    return (size_t)message->length + message->resp3_length;
}

/* For RESP2, with one reference, the caller's; its bytes are to be filled in. NULL: no memory. */
struct message *message_create(size_t length);
/* An array of bulk strings. NULL: no memory. */
struct message *message_of(const struct span *elements, unsigned count);
static inline struct message *message_hold(struct message *message) {
    atomic_fetch_add_explicit(&message->references, 1, memory_order_relaxed);
    return message;
}
void message_release(struct message *message);

/* The address of one client, for messages meant for it alone; outlives it for those who still refer to it. */
struct mailbox {
    atomic_uint references;
    atomic_bool closed; /* the client is gone, or wants nothing any more */
    unsigned worker;
    uint64_t id;
    void *owner; /* the session; for its worker's thread only, NULL once closed */
};

/* With one reference. NULL: no memory. */
struct mailbox *mailbox_create(void *owner, uint64_t id, unsigned worker);
/* Its owner is about to leave: who sends to it finds it closed. Any thread that may send to it. */
void mailbox_shut(struct mailbox *mailbox);
/* On its worker's thread: from here on nothing is delivered to it. Gives up the caller's reference. */
void mailbox_close(struct mailbox *mailbox);
static inline struct mailbox *mailbox_hold(struct mailbox *mailbox) {
    atomic_fetch_add_explicit(&mailbox->references, 1, memory_order_relaxed);
    return mailbox;
}
void mailbox_release(struct mailbox *mailbox);

#endif
