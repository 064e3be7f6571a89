#ifndef TERRACE_COMMAND_BLOCKED_H
#define TERRACE_COMMAND_BLOCKED_H

/* Clients whose command waits for keys, and how they are served. What handlers call stands in blocking.h.
 *
 *   handler finds nothing -> call_block(): struct blocked, a node in the queue of each key it waits for
 *   another handler changes such a key -> the key is marked (wait_table.h)
 *   its dispatcher, before it unlocks -> blocked_serve(): for each marked key, for each client in its queue, in order
 * of arrival: the client's command is run again, here; it replies, or goes on waiting the reply -> to the worker that
 * owns the client, which sends it and goes on with the client's input
 *
 * Who ends a wait. `state` is what all agree on: it leaves WAITING once.
 *
 *              .--------(found nothing)-------.
 *              v                              |
 *           WAITING --(holder of the lock)-> RETRYING --> SERVED     by whoever changed a key
 *              |------> TIMED_OUT                                    by the owner
 *              |------> FORCED                                       by CLIENT UNBLOCK ... ERROR
 *              '------> GONE                                         by the owner: the client has left
 *
 * Whoever ends it hands it to the owner, except for GONE; only the owner frees it.
 *
 * Locks. To run a waiting command again takes the shards of all its keys, which are more than those of the command that
 * changed one: BLMOVE's destination, the other keys of a BLPOP. If they were locked only after the change, others could
 * take what was added before the one who waited for it. So a dispatcher that finds somebody waiting in a shard it has
 * just locked asks blocked_reach() which shards serving would take, and locks them all before the change: nobody ever
 * sees a key that has what somebody waits for.
 *
 * Threads: a struct blocked belongs to the worker of its client. Others read what is constant while it waits, and run
 * its command while they hold it in RETRYING. */

#include "base/deadline_heap.h"
#include "base/stat_counter.h"
#include "command/blocking.h"

#include <stdatomic.h>

struct shard_set;

enum blocked_state {
    BLOCKED_WAITING,
    BLOCKED_RETRYING,
    BLOCKED_SERVED,
    BLOCKED_TIMED_OUT,
    BLOCKED_FORCED,
    BLOCKED_GONE,
};

struct blocked_text; /* an argument that was replaced */

/* ON_DISK: what ends the wait. Nothing of this layer looks at it. */
struct blocked_awaited {
    uint64_t position;     /* of the journal */
    uint32_t replicas;     /* so many that have it */
    bool on_disk;          /* on the disk of this server */
    bool replicas_on_disk; /* ... and on theirs */
};

struct blocked {
    _Atomic int state; /* enum blocked_state */
    /* Constant while it waits. */
    struct session *session; /* set to NULL by the owner when the client leaves a wait that has ended */
    const struct command *command;
    struct span *argv; /* with the keys' names, part of this allocation */
    struct key *keys;  /* all of the command's */
    uint32_t argc, key_count, node_count;
    uint32_t database;
    unsigned worker; /* the owner */
    enum blocked_type type;
    bool resp3, keep_access;
    reply_release *release; /* of values that the reply sends from where they lie */
    void *release_ctx;
    struct blocked_text *texts;
    size_t bytes; /* of memory, all together */
    /* The nodes belong to the holders of their keys' shards. */
    struct wait_node *nodes;
    /* The owner's. */
    struct deadline deadline; /* in no heap: it waits for ever */
    /* What is replied when the time is over; NULL: a null array. */
    void (*time_is_over)(const struct blocked *blocked, struct reply *reply);
    struct blocked_awaited awaited;
    bool unanswered;      /* CLIENT REPLY: the client wants no reply to this command */
    struct blocked *next; /* of those whose wait has ended */
    /* Of whoever has it in RETRYING; of the owner when it was served. */
    uint64_t spent_ns;            /* by the runs of the command so far */
    struct reply *reply, *spoilt; /* spoilt: not to be sent, but freed where no lock is held */
};

/* The blocked clients of one worker; part of its dispatcher. Zeroed: empty. */
struct blocked_clients {
    struct deadline_heap deadlines;
    struct blocked *finished, **finished_last; /* to be answered, in the order their waits ended */
    uint64_t gatherings;                       /* see struct wait_key */
    stat_counter count, count_with_deadline;   /* for INFO */
};

/* ---- by the dispatcher that runs a command ---- */

/* The handler has just called call_block(), but the command fails after all: it does not wait. */
void blocked_undo(struct call *call);

/* Adds to `wanted` the shards that are needed to serve those who wait for any of these keys, for the keys that they in
 * turn may change, and for keys there that are marked already. Looks only at keys of shards in `held`, which are
 * locked; so the caller locks what is wanted and asks again, until this returns true: `wanted` is within `held`. */
bool blocked_reach(struct dispatcher *dispatcher, const struct key *keys, uint32_t key_count,
                   const struct shard_set *held, struct shard_set *wanted) __attribute__((warn_unused_result));

/* Serves those who wait for keys of the held shards that are marked, until none is; NULL: all are held. Precondition:
 * blocked_reach() was content with `held`. */
void blocked_serve(struct dispatcher *dispatcher, const struct shard_set *held);

/* Locks and serves what was marked by those who do not serve: expiry and eviction, which only remove keys, and commands
 * that lock shards one by one. No lock may be held. */
void blocked_serve_left(struct dispatcher *dispatcher);

/* Takes it out of all queues. The locks of all its keys are held. */
void blocked_leave_queues(struct keyspace *keyspace, struct blocked *blocked);

/* ---- by the owner ---- */

/* Ends the waits whose time is over. */
void blocked_expire(struct dispatcher *dispatcher);
/* How long the owner may sleep: `most_ms`, or less. */
int blocked_wait_ms(const struct dispatcher *dispatcher, int most_ms);

/* A wait of one of this worker's clients was ended elsewhere. */
void blocked_add_finished(struct dispatcher *dispatcher, struct blocked *blocked);
/* The next whose wait has ended; NULL: no more. To be given to blocked_answer(). */
struct blocked *blocked_take_finished(struct dispatcher *dispatcher);
/* Composes the reply and frees `blocked`; its session is then free for the next command. If the client has left,
 * nothing is composed. No lock may be held. */
void blocked_answer(struct dispatcher *dispatcher, struct blocked *blocked, struct reply *reply);

/* The client leaves, waiting or not. No lock may be held. */
void blocked_leave(struct dispatcher *dispatcher, struct session *session);

/* ---- by anybody who holds all locks ---- */

/* Ends a wait as if its time were over, or with an error. False: it has ended already. */
bool blocked_force(struct dispatcher *dispatcher, struct blocked *blocked, bool with_error);

#endif
