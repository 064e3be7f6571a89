#ifndef TERRACE_TIERING_TIER_FRONTIER_H
#define TERRACE_TIERING_TIER_FRONTIER_H

/* What stood on the tier at one moment: for each segment its generation then, and how far it was filled. A snapshot
 * tells with it which references are older than its cut.
 *
 * Memory: 8 bytes a segment. Time of taking it: about 30 ns a segment that was ever in use.
 *
 * Threads: created and destroyed by one thread; taken while nobody uses the tier's ports; asked by any thread after
 * that. */

#include "tiering/tier.h"

struct tier_frontier;

/* Nothing is behind it until it is taken. `tier` outlives it. NULL: no memory. */
struct tier_frontier *tier_frontier_create(struct tier *tier);
void tier_frontier_destroy(struct tier_frontier *frontier);
void tier_frontier_take(struct tier_frontier *frontier);

/* Whether the record stood there at the moment. Precondition: `ref` is cold, and somebody refers to it now. */
bool tier_frontier_has(const struct tier_frontier *frontier, uint64_t ref);

#endif
