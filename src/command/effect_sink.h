#ifndef TERRACE_COMMAND_EFFECT_SINK_H
#define TERRACE_COMMAND_EFFECT_SINK_H

/* Where the effects of a worker's commands go: from a handler (effect.h) into the journal.
 *
 * dispatch_run() opens the sink before a handler and closes it behind it, while the shards are still locked: what was
 * told, or the command's own words, are then appended. Between effect_sink_begin() and effect_sink_end() effects are
 * collected instead, and appended as one MULTI ... EXEC.
 *
 * Keys and fields that the keyspace removes by itself come through the hooks of struct keyspace_removal, on whatever
 * thread is at it: each such thread has bound its sink. They are appended at once; within a transaction they are put
 * in front of the command that met them.
 *
 * Threads: a sink belongs to its worker. `journal` is changed while all workers stand still. */

#include "base/span.h"
#include "persist/journal.h"

#include <stdbool.h>
#include <stdint.h>

struct call;
struct keyspace;
struct dispatcher;
struct session;
struct command;

enum effect_told { EFFECT_OWN_WORDS, EFFECT_TOLD, EFFECT_NONE, EFFECT_FORCED };

struct effect_sink {
    struct journal *journal; /* NULL: nobody wants effects */
    unsigned writer;         /* number of it */
    /* The present command. */
    bool dirty; /* it changed something: view->effects_dirty */
    enum effect_told told;
    size_t mark;            /* where its effects begin in `bytes` */
    uint32_t mark_count;    /* `count` then */
    uint32_t mark_database; /* `database` then */
    uint32_t words;         /* put since effects_begin() */
    size_t head;            /* where that effect begins */
    bool composing;         /* it has not ended */
    /* What is collected. */
    bool collecting;         /* a transaction is under way */
    uint32_t first_database; /* selected before `bytes` ... */
    uint32_t database;       /* ... and behind them */
    uint32_t count;          /* effects in `bytes` */
    char *bytes;             /* owned */
    size_t length, capacity;
};

/* Zeroed is empty. Frees what the sink owns. */
void effect_sink_free(struct effect_sink *sink);

/* The sink for a command of this session; NULL: nobody wants its effects. One branch while there is no journal. */
struct effect_sink *effect_sink_wanted(struct dispatcher *dispatcher, const struct session *session,
                                       const struct command *command);

/* Around a handler; call->effects is not NULL. */
void effect_sink_open(struct call *call);
void effect_sink_close(struct call *call);

/* Around the commands of a transaction, which begins in `database`. All its locks are held until behind the second. */
void effect_sink_begin(struct effect_sink *sink, uint32_t database);
void effect_sink_end(struct effect_sink *sink);

/* The calling thread's work on keyspaces tells this sink from now on what is removed. NULL: none. */
void effect_sink_bind(struct effect_sink *sink);
/* Has the keyspace tell what it removes (`wanted`), or no longer. All other threads stand still. */
void effect_sink_listen(struct keyspace *keyspace, bool wanted);

#endif
