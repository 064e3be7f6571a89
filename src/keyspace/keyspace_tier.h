#ifndef TERRACE_KEYSPACE_KEYSPACE_TIER_H
#define TERRACE_KEYSPACE_KEYSPACE_TIER_H

/* Moving records between media: to far memory and to the tier when memory is wanted, and out of segments that are
 * cleaned. Bringing back happens where records are used (keyspace.c).
 *
 * Threads: as the background work of keyspace.h; no lock may be held. `port` is the calling worker's. */

#include "keyspace/keyspace.h"

enum demotion_status {
    DEMOTION_DONE,    /* bytes were freed, or the hand moved on */
    DEMOTION_NOTHING, /* a whole round found nothing to move */
    DEMOTION_BUSY,    /* too much is not written yet: when writes have ended */
    DEMOTION_FULL,    /* the tier takes nothing */
};

struct demotion {
    int64_t now_ms;
    uint64_t budget_ns;  /* about how long the shard may be held */
    size_t wanted_bytes; /* enough is enough */
    bool urgent;         /* be less choosy */
    bool far_only;       /* to far memory: it is near memory that is short. Otherwise to the tier: it is all memory */
};

/* Moves the coldest records that the shard's hand comes to. `*freed` is what that gave back of the memory that is
 * short. */
enum demotion_status keyspace_demote(struct keyspace *keyspace, uint32_t shard, struct tier_port *port,
                                     const struct demotion *demotion, size_t *freed);
/* Goes on with the large record that is on its way to the tier, or whose memory is being freed, if there is one
 * (tier_haul.h). `*freed`: bytes that this gave back, or is about to. True: there is more to be done at once. */
bool keyspace_haul(struct keyspace *keyspace, struct tier_port *port, uint64_t budget_ns, size_t *freed);
/* Whether the shard has, or may have, something in memory that could be moved: its hand has met such records or pages
 * in this round or the one before, or has not been round yet. That nothing was freed in a slice does not mean that
 * nothing can be. Takes the shard's lock. */
bool keyspace_may_demote(struct keyspace *keyspace, uint32_t shard);

/* Moves every record whose key matches `pattern` (glob), a slice at a time: `*position` begins at 0 and is 0 again
 * when the shard is through. For TIER DEMOTE. Returns how many were moved; *status is not DONE when it cannot go on
 * now. */
size_t keyspace_demote_matching(struct keyspace *keyspace, uint32_t shard, uint32_t database, struct tier_port *port,
                                struct span pattern, uint64_t budget_ns, uint64_t *position,
                                enum demotion_status *status);

/* A step of cleaning, or of evicting whole segments (tier.h). True: it did something, or is in the middle of it. */
bool keyspace_clean(struct keyspace *keyspace, struct tier_port *port, enum tier_clean_mode mode, int64_t now_ms,
                    uint64_t budget_ns);

/* How much more far memory may take; 0: none, or there is none. */
size_t keyspace_far_room(const struct keyspace *keyspace);

#endif
