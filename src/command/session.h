#ifndef TERRACE_COMMAND_SESSION_H
#define TERRACE_COMMAND_SESSION_H

/* What the server remembers of one client between its commands; nothing of sockets.
 *
 * Owned by the worker that serves the client; other workers touch it only while this one stands still
 * (COMMAND_EXCLUSIVE), except for the watcher's `dirty`. */

#include "command/transaction.h"
#include "keyspace/watch.h"
#include "tiering/tier.h"

#include <stdbool.h>
#include <stdint.h>

/* SKIP: the next command's reply is dropped. CLIENT REPLY itself answers only ON. */
enum session_reply_mode { SESSION_REPLY_ON, SESSION_REPLY_OFF, SESSION_REPLY_SKIP };

struct blocked;
struct subscriber;
struct mailbox;
struct tracker;
struct message;
struct migration;

struct session {
    uint64_t id;
    uint32_t database;
    uint8_t protocol;   /* 2 or 3 */
    uint8_t reply_mode; /* enum session_reply_mode */
    bool told;          /* the command's reply is a message that CLIENT REPLY does not silence */
    bool authenticated;
    bool closing; /* close once the reply is out */
    bool monitoring;
    bool no_touch, no_evict;
    bool paused;             /* the next command waits: for CLIENT PAUSE, memory or the journal */
    bool memory_waits;       /* ... for memory: nothing else lets it go on */
    int64_t memory_until_ms; /* ... at the longest until then, also after it has been tried again; 0: it does not */
    int64_t memory_over_ms;  /* ... when it last waited for as long as one may; 0: never */
    size_t reply_wanted; /* the next command has been tried, and there was no memory for its reply: so much it takes,
                          * about; 0: it has not */
    size_t reply_asked;  /* of that, what is not promised to its copies of cold records already */
    char *name;          /* CLIENT SETNAME; NULL: none; owned */
    char *library_name, *library_version; /* CLIENT SETINFO; owned */
    const struct command *last_command;
    int64_t created_ms, active_ms; /* unix milliseconds */
    uint64_t commands;
    struct transaction transaction;
    struct watcher watcher;
    struct collection_copy *unfinished; /* what a sliced command has begun; NULL: nothing */
    struct migration *migration;        /* what MIGRATE has begun; NULL: nothing */
    struct {
        uint64_t command; /* `commands` while it runs; of any other it is no business */
        uint32_t shard;
        uint64_t position;
        int64_t moved;
    } demotion;                /* how far TIER DEMOTE has come */
    struct tier_waiter waiter; /* for cold records; its port is the worker's */
    bool replaying;            /* its commands come from a journal: nothing expires, is told or refused */
    bool from_primary;         /* ... while clients look on: they are told, served and shown as always */
    bool waits_for_cold;       /* ... and wait for cold records as those of clients do, not on the spot */
    bool reruns;               /* the next command has been tried already, and waited */
    uint64_t random;           /* the same for every try of a command */
    struct blocked *blocked;   /* its last command waits for keys; NULL: it does not */
    uint8_t batch_most; /* commands parsed at once, at most; 0: a full batch. Few after a wait: those behind one that
                         * waits again would be parsed again */
    void *connection;   /* the owner's; NULL in tests */
    bool tracks;        /* the keys it reads are to be remembered */
    struct tracker *tracker;       /* server/tracking.h; NULL: it does not track */
    size_t tracking_bytes;         /* what the tracker's prefixes take */
    bool listens;                  /* messages may come for it: it has subscriptions or a mailbox */
    uint32_t subscriptions;        /* channels, patterns and shard channels */
    struct subscriber *subscriber; /* NULL: it never had any; the server's (server/delivery.h), as the next ones are */
    struct mailbox *mailbox;       /* for messages to it alone; NULL: none was needed */
    struct message **messages;     /* that have come and are to be written behind the present command; not held */
    uint32_t message_count, message_capacity;
};

void session_init(struct session *session, uint64_t id, int64_t now_ms);
/* Frees what the session owns. Its watches must have been dropped (transaction_unwatch()), and its wait ended
 * (blocked_leave()). */
void session_free(struct session *session);

#endif
