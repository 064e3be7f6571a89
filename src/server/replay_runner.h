#ifndef TERRACE_SERVER_REPLAY_RUNNER_H
#define TERRACE_SERVER_REPLAY_RUNNER_H

/* Runs commands of a journal (an append-only file, a pool) again, for one thread: a dispatcher and a session of its
 * own, as a worker has them, with a host at which nobody watches, measures or refuses. Commands that fail are counted
 * and passed by.
 *
 * Threads: one, but several runners may run beside each other and beside workers; the keyspace locks. */

#include "command/dispatch.h"

struct replay_runner;

struct replay_runner_options {
    struct keyspace *keyspace;
    const struct command_table *table;
    struct tier_port *port; /* of this runner alone; NULL: there is no tier */
    unsigned worker;        /* a number that is no worker's */
    unsigned participant;   /* in the keyspace's retiring, of this runner alone; LIMIT_WORKERS: there is no place */
    /* Whether somebody beside may free at once what the index does not need any more: nothing is read ahead then. Asked
     * before each run. NULL: nobody does. */
    bool (*is_shared)(void *ctx);
    void *ctx;
};

/* NULL: no memory. */
struct replay_runner *replay_runner_create(const struct replay_runner_options *options);
void replay_runner_destroy(struct replay_runner *runner);

/* Runs the requests, of which argv and argc are set, in `database`. At most LIMIT_BATCH_COMMANDS. False: one of them
 * cannot be run at all. */
bool replay_runner_run(struct replay_runner *runner, uint32_t database, struct request *requests, unsigned count)
    __attribute__((warn_unused_result));

/* The last call of the thread that has run it: waits for what is under way to the tier. */
void replay_runner_leave(struct replay_runner *runner);

/* How many failed. `code`, of the first one: its error's first word; "" if there is none. */
uint64_t replay_runner_failures(const struct replay_runner *runner, const char **code);

#endif
