#ifndef TERRACE_SERVER_STREAM_ROUND_H
#define TERRACE_SERVER_STREAM_ROUND_H

/* Applying the stream of a primary on all workers.
 *
 *   stream   SET a | SET b | INCR a | MULTI .. EXEC | SET c | LPUSH d | ...
 *   rounds   `--- one ------------'  `--- alone ---'  `--- one ---------
 *
 * A round is a piece of the stream whose commands each concern one shard. They are dealt to groups by their shards, so
 * that what concerns one key stays in its order; worker 0 and whoever else comes by take one group after the other,
 * and worker 0 goes on when the last one has been run. So between two rounds everything up to a place of the stream is
 * applied and nothing behind it, except for what is parked (stream_parked.h). A short round is run by worker 0 as it
 * is. What concerns several shards, or more than keys, and transactions are rounds of their own, run in order.
 *
 * Where there is a tier, a command that needs a cold record is left behind by its group, with all of its shard that
 * follow it; the others go on. Worker 0 parks them at the end of the round.
 *
 * Threads: worker 0 owns the round and calls everything, but for stream_round_help(). */

#include "base/span.h"
#include "command/command.h"

#include <stdbool.h>
#include <stdint.h>

struct server;
struct worker;
struct stream_round;
struct stream_parked;

enum { STREAM_ALONE = UINT32_MAX }; /* shard of a command that does not concern one shard only */

/* The words are the caller's, and stay until the round has been run. */
struct stream_command {
    struct span *argv;
    uint32_t argc;
    uint32_t database;
    uint32_t shard;    /* or STREAM_ALONE */
    bool left;         /* the round's: it, or one of its shard before it, waits for a cold record */
    uint64_t position; /* of the stream, in front of it */
};

/* NULL: no memory. */
struct stream_round *stream_round_create(struct server *server);
/* No worker runs, or all stand still. NULL is allowed. */
void stream_round_destroy(struct stream_round *round);
/* The link begins anew: errors are told again. */
void stream_round_begin(struct stream_round *round, int64_t now_ms);
/* Nothing of the link is left: what its sessions hold is given back. */
void stream_round_end(struct stream_round *round);

/* Whether commands have to be told apart by shards: there are several workers, or a tier. */
bool stream_round_splits(const struct stream_round *round);
/* Room for the words of the command that is added next. NULL: the round has to be run first, or, if nothing has been
 * added, the command has too many words for it and brings its own array, to be run at once. */
struct span *stream_round_room(struct stream_round *round, uint32_t argc);
/* Whether a command of this shard can be added to what is there; otherwise that has to be run first. */
bool stream_round_fits(const struct stream_round *round, uint32_t shard);
/* Precondition: it fits. */
void stream_round_add(struct stream_round *round, const struct stream_command *command);
/* Runs what was added; the stream up to there has been appended to the journal. */
void stream_round_run(struct stream_round *round);

struct stream_parked *stream_round_parked(struct stream_round *round);
/* For stream_parked.c: of this shard nothing is parked any more. */
void stream_round_unpark(struct stream_round *round, uint32_t shard);
/* An error that a command of the stream answered with, told to the log a few times. Any worker. */
void stream_round_log_error(struct stream_round *round, const char *code);

/* Any other worker, every turn: takes groups of a round that is being run. NULL is allowed; one load if there is none.
 */
void stream_round_help(struct stream_round *round, struct worker *worker);

#endif
