#ifndef TERRACE_TIERING_TIER_FRONTIER_H
#define TERRACE_TIERING_TIER_FRONTIER_H

/* What stood on the tier at one moment: for each segment its generation then, and how far it was filled. A snapshot
 * tells with it which references are older than its cut, and which of these it has not passed yet.
 *
 * Memory: 12 bytes a segment. Time of taking it: about 30 ns a segment that was ever in use.
 *
 * Threads: created and destroyed by one thread; taken while nobody uses the tier's ports; asked by any thread after
 * that. */

#include "tiering/tier.h"

struct tier_frontier;

/* Nothing is behind it until it is taken. `tier` outlives it. NULL: no memory. */
struct tier_frontier *tier_frontier_create(struct tier *tier);
void tier_frontier_destroy(struct tier_frontier *frontier);
void tier_frontier_take(struct tier_frontier *frontier);

/* Whether the record stood there at the moment, in no block that was passed. Precondition: `ref` is cold, and somebody
 * refers to it now. */
bool tier_frontier_has(const struct tier_frontier *frontier, uint64_t ref);

/* ---- segments that are gone through: tier_scan.h ---- */

/* Numbers below this; 0 before it is taken. */
uint32_t tier_frontier_segments(const struct tier_frontier *frontier);
/* Whether the segment was full at the moment and is the same still; sets its generation. */
bool tier_frontier_is_whole(const struct tier_frontier *frontier, uint32_t segment, uint32_t *generation);
/* What begins in the first `bytes` of the segment has been passed. Of a segment only one thread says so, and it
 * holds the lock of the shard to which the blocks passed by this belong: so whoever asks about a reference of that
 * shard, with its lock, has an exact answer. */
void tier_frontier_pass(struct tier_frontier *frontier, uint32_t segment, size_t bytes);

#endif
