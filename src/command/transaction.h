#ifndef TERRACE_COMMAND_TRANSACTION_H
#define TERRACE_COMMAND_TRANSACTION_H

/* MULTI: commands kept until EXEC, which locks the shards of all their keys, runs them and unlocks.
 *
 * A queued command is one allocation: the entry, its argument spans, its arguments' bytes. Its keys are hashed again
 * at EXEC, when they are needed. Owned by the session. */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command;
struct dispatcher;
struct session;

struct queued_command {
    struct queued_command *next;
    const struct command *command;
    uint32_t argc;
    struct span argv[];
};

struct transaction {
    bool open;
    bool refused; /* a command could not be queued: EXEC will be refused */
    uint32_t count;
    uint32_t flags; /* of all queued commands together */
    uint32_t lacks; /* those that one of them does not have */
    size_t bytes;
    struct queued_command *first, **last;
};

void transaction_init(struct transaction *transaction);
/* False: no memory. Copies the arguments. */
bool transaction_queue(struct transaction *transaction, const struct command *command, const struct span *argv,
                       uint32_t argc) __attribute__((warn_unused_result));
/* Forgets everything queued, and MULTI itself. */
void transaction_discard(struct transaction *transaction);
/* Ends all watches of a session. Takes shard locks; none may be held unless `locked_all`. */
void transaction_unwatch(struct dispatcher *dispatcher, struct session *session, bool locked_all);

#endif
