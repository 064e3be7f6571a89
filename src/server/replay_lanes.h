#ifndef TERRACE_SERVER_REPLAY_LANES_H
#define TERRACE_SERVER_REPLAY_LANES_H

/* Replay by several threads. One thread gives commands in their order; each goes to the lane of its key's shard, and
 * lanes run beside each other:
 *
 *   given     SET a   INCR b   SET a   MSET a b   DEL b
 *
 *   lane 0    SET a   SET a  |          |
 *   lane 1    INCR b         |          |  DEL b
 *   giver                    | MSET a b |
 *
 * Why that is the same as one after the other: what a command of a journal does follows from its words and its keys
 * alone, and commands that share a key share a lane, where they keep their order. Whatever is not so simple is a
 * barrier: lanes end what they have, the giver runs it, and goes on:
 *
 *   - keys of several lanes, or none, or keys that are not found from the words alone
 *   - commands that lock all shards, walk through them, or stop all workers
 *   - what is too long for a block
 *
 * MULTI and EXEC are not given: nobody can see what stands between them.
 *
 * Threads: the giver alone calls; lanes are threads of their own. Memory: for each lane 1.5 MB at most,
 * and the copies of 2 MB of words. */

#include "persist/aof_load.h"
#include "server/replay_runner.h"

enum { REPLAY_LANES_MAX = 16 };

struct replay_lanes;

struct replay_lanes_options {
    struct replay_runner_options runner; /* of the giver */
    unsigned lanes;                      /* 0, or 1: the giver runs all by itself */
    struct tier_port *const *ports;      /* of each lane; NULL: there is no tier */
    unsigned participant;                /* of the first lane; the others follow */
    /* The words stay where they are until replay_lanes_settle(); else they are copied. */
    bool words_stay;
};

/* The keyspace locks as long as there are lanes. NULL: no memory. */
struct replay_lanes *replay_lanes_create(const struct replay_lanes_options *options);
/* What was given and has not been run is dropped. NULL is allowed. */
void replay_lanes_destroy(struct replay_lanes *lanes);

/* Gives a command, which writes, for `database`. False: a command could not be run, not always this one. */
bool replay_lanes_give(struct replay_lanes *lanes, uint32_t database, const struct command *command,
                       const struct aof_command *words) __attribute__((warn_unused_result));
/* Waits until all that was given has been run. False: a command could not be. */
bool replay_lanes_settle(struct replay_lanes *lanes) __attribute__((warn_unused_result));

/* Settled: how many failed. `code`, of one of them: its error's first word; "" if there is none. */
uint64_t replay_lanes_failures(const struct replay_lanes *lanes, const char **code);
/* How often all lanes had to end what they had. */
uint64_t replay_lanes_barriers(const struct replay_lanes *lanes);

#endif
