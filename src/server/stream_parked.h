#ifndef TERRACE_SERVER_STREAM_PARKED_H
#define TERRACE_SERVER_STREAM_PARKED_H

/* Commands of a primary's stream that wait for cold records, and those of the same shards that came behind them.
 *
 *   shard 3   LPUSH a (waits for a page) | SET b | ...
 *   shard 9   INCR c (its record is being read) | ...
 *
 * The stream has gone on without them: the journal has them, the keyspace does not yet. Therefore all of them are run,
 * waiting on the spot, before all workers stand still for anything, before the link is given up, and those of its
 * shards before a command that concerns several; and what is acknowledged to the primary ends before the oldest.
 *
 * Threads: worker 0's. The caller of stream_parked_oldest() may be any: it may be late. */

#include "server/stream_round.h"

/* Bytes of parked commands beyond which no more of the stream is read: a moment's worth, as long as the device reads
 * at all. */
#define STREAM_PARKED_BYTES_MAX (8ul << 20)

/* NULL: no memory. */
struct stream_parked *stream_parked_create(struct server *server, struct stream_round *round);
/* What is parked is given up. All workers have ended or stand still. NULL is allowed. */
void stream_parked_destroy(struct stream_parked *parked);

/* Behind what is parked of its shard. The words are copied. False: there is no memory for them. */
bool stream_parked_put(struct stream_parked *parked, const struct stream_command *command)
    __attribute__((warn_unused_result));
/* Runs whatever has what it waited for. */
void stream_parked_turn(struct stream_parked *parked);
/* Runs all that is parked of this shard (STREAM_ALONE: of all), waiting for the device. May be called in the middle of
 * a command that holds no locks. */
void stream_parked_settle(struct stream_parked *parked, uint32_t shard);

bool stream_parked_is_empty(const struct stream_parked *parked);
size_t stream_parked_bytes(const struct stream_parked *parked);
/* The position in front of the oldest one; `otherwise` if nothing is parked. Any thread. */
uint64_t stream_parked_oldest(struct stream_parked *parked, uint64_t otherwise);

#endif
