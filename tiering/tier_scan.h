#ifndef TERRACE_TIERING_TIER_SCAN_H
#define TERRACE_TIERING_TIER_SCAN_H

/* Reading segments from their beginnings to their ends, in large pieces and without a port, for who wants what stood on
 * the tier at a moment (tier_frontier.h).
 *
 *   tier_scan_begin(scan, frontier, segment)
 *   while (tier_scan_next(scan, memory, room, &block, &needed) == TIER_SCAN_BLOCK) ... block.view, until block.end ...
 *
 * What is read is what stood there, whoever changes the tier meanwhile: blocks say of which generation they are.
 * Whether somebody still refers to it the caller finds out.
 *
 * Threads: a scan belongs to one. */

#include "tiering/tier.h"
#include "tiering/tier_frontier.h"
#include "tiering/tier_layout.h"

struct tier_scan;

/* NULL: no memory. `tier` outlives it. */
struct tier_scan *tier_scan_create(struct tier *tier);
void tier_scan_destroy(struct tier_scan *scan);

/* False: the segment is not worth it, or not to be had this way. It was not full at the moment, or has been used again;
 * next to nothing lives in it; a part of it is not written yet; or it is one of those that hold a single record. */
bool tier_scan_begin(struct tier_scan *scan, const struct tier_frontier *frontier, uint32_t segment);

struct tier_scan_block {
    uint16_t slot, database; /* as it was written */
    unsigned count;
    const struct record *records[TIER_BLOCK_RECORDS]; /* in the caller's memory */
    uint64_t refs[TIER_BLOCK_RECORDS];                /* without the volatile mark */
    size_t end;                                       /* bytes of the segment up to the next block */
};

enum tier_scan_status {
    TIER_SCAN_BLOCK,
    TIER_SCAN_NO_ROOM, /* call again with as much as it needs */
    TIER_SCAN_END,     /* of the segment */
    TIER_SCAN_FAILED,  /* it cannot be read, or is damaged, from here on; or no memory */
};
/* The next block, its records in `memory`, which has `room` bytes. */
enum tier_scan_status tier_scan_next(struct tier_scan *scan, void *memory, size_t room, struct tier_scan_block *block,
                                     size_t *needed) __attribute__((warn_unused_result));

#endif
