#ifndef TERRACE_TIERING_TIER_HAUL_H
#define TERRACE_TIERING_TIER_HAUL_H

/* How a large record comes to the tier: piece by piece, from where it lies, while its key still leads to memory.
 *
 *   tier_haul_begin()     a place for it is taken
 *   tier_haul_step()      packs and writes some more; again and again, until it answers with something else than BUSY
 *   tier_haul_commit()    all of it is written: this is its reference now
 *
 * Other records are packed and referred to at once, and written later as a part of a unit. One larger than a unit would
 * need its own size in memory for that, just when memory is what is short, and hold its shard for as long as packing
 * it takes. A haul needs TIER_HAUL_PIECES small buffers, and as little time at once as its caller wants.
 *
 * The record is the caller's, who sees to it that neither its place nor its bytes change (heap_pin()) but for those of
 * its header, which tier_haul_begin() is given a copy of; and who finds out at the end whether the key still leads to
 * it. A port has one haul at a time.
 *
 * Threads: the port's. */

#include "tiering/tier.h"

enum { TIER_HAUL_PIECES = 4 };

/* Whether a record of so many bytes is too large for the ordinary way. */
bool tier_is_haul(const struct tier_port *port, size_t record_bytes);

struct tier_haul_cargo {
    const struct record *record;
    const void *header; /* a copy of its first `header_bytes` bytes: its header, as it is to be written */
    size_t header_bytes, bytes;
    bool expires;
    int64_t expiry_ms;
    uint16_t slot, database; /* as of tier_append() */
};

/* Precondition: none is under way. FULL also for a while after a write has failed. */
enum tier_append_status tier_haul_begin(struct tier_port *port, const struct tier_haul_cargo *cargo);
bool tier_haul_is_idle(const struct tier_port *port);

enum tier_haul_status {
    TIER_HAUL_BUSY,    /* there is more to pack */
    TIER_HAUL_WAITS,   /* for writes to end */
    TIER_HAUL_WRITTEN, /* all of it */
    TIER_HAUL_FAILED,  /* to be given up */
};
/* Precondition: one is under way. Goes on for about `budget_ns`. */
enum tier_haul_status tier_haul_step(struct tier_port *port, uint64_t budget_ns);

/* Precondition: it is WRITTEN. The record's reference, volatile mark included; it counts as referred to from now on.
 * The lock of its shard is held. */
uint64_t tier_haul_commit(struct tier_port *port);
/* Nothing of the record is looked at any more. What is being written is waited for by the next haul. */
void tier_haul_give_up(struct tier_port *port);

/* What the caller has to remember of a haul, kept with the port; zeroed at first, and only the caller's. */
struct tier_haul_owner {
    uint64_t ref;
    uint32_t shard, database;
    struct record *record; /* pinned; NULL: no haul */
    struct record *left;   /* one that has arrived: its memory, which is freed piece by piece; NULL: none */
    uint32_t left_shard;
};
struct tier_haul_owner *tier_haul_owner(struct tier_port *port);

/* What the port hauls, for other ports; NULL: nothing. */
void tier_haul_tell(struct tier_port *port, const struct record *record);
/* Whether some port has told that it hauls this one; any thread. */
bool tier_is_hauled(struct tier *tier, const struct record *record);

/* Hauls of all ports; any thread. */
unsigned tier_hauls(const struct tier *tier);

#endif
