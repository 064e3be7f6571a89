#ifndef TERRACE_PERSIST_CHECKPOINT_CHECK_H
#define TERRACE_PERSIST_CHECKPOINT_CHECK_H

/* The checkpoint of a pool of persistent memory while nobody uses it: whether every key that it names can be read, and
 * a new one of those that can.
 *
 * What is looked at: each chunk of the file, by its checksum; each block that a slot refers to, by its checksum, and
 * whether it has the record; the file of big collections, by its length and its checksum at the end.
 *
 * Repairing writes checkpoint number + 1 and switches the manifest, in these steps:
 *
 *   1. the file with the good slots and the segments they refer to, synced    a start sees the checkpoint before
 *   2. the collections' file gets its name as a further one                   likewise
 *   3. the manifest is switched                                              the new one
 *   4. both names of the one before are removed                              likewise; the next start removes them
 *
 * A chunk of SEGMENTS that is lost is made up for: a block says itself of which generation it is. Lost chunks of
 * EXPIRIES and FIELDS cost no key: what has expired is then found by looking. A file whose directory is lost, and
 * collections that are, cannot be repaired.
 *
 * Memory: a byte for each segment and a chunk. Threads: one. */

#include "tiering/tier_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checkpoint_health {
    uint64_t keys;       /* whose slot and record are in order */
    uint64_t lost_keys;  /* the others */
    uint64_t blocks;     /* looked at */
    uint64_t bad_blocks; /* damaged, or unreadable */
    uint64_t bad_chunks; /* of the file */
    bool beyond_repair;  /* the file or its directory, or the collections */
    char damage[256];    /* what was found first; "": nothing */
};

/* `tier` as tier_pool_look_pmem() has found it, `prefix` as checkpoint_options.prefix. A pool without a checkpoint is
 * in order. False: no memory. */
bool checkpoint_check(const struct tier_pool *tier, const char *prefix, struct checkpoint_health *health)
    __attribute__((warn_unused_result));

/* Precondition: checkpoint_check() found damage, and that it is not beyond repair. *health of what is kept. False: one
 * line in `error`, and the checkpoint is as it was. */
bool checkpoint_repair(struct tier_pool *tier, const char *prefix, struct checkpoint_health *health, char *error,
                       size_t error_bytes) __attribute__((warn_unused_result));

#endif
