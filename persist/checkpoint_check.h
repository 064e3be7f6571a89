#ifndef TERRACE_PERSIST_CHECKPOINT_CHECK_H
#define TERRACE_PERSIST_CHECKPOINT_CHECK_H

/* The checkpoint of a pool of persistent memory while nobody uses it: whether every key that it names can be read, and
 * a new one of those that can.
 *
 * What is looked at: each chunk of the file, by its checksum; each block that a slot or a page of a big collection
 * refers to, by its checksum, and whether it has that record, or that page; the file of collections that were written
 * as a whole, by its length and its checksum at the end.
 *
 * A collection of which pages are lost: a hash and a set keep the others, and what was in the lost ones is missing; a
 * string, which would have zeros in their place, is lost, and so is any other whose order or whose bounds stand in its
 * pages. A collection whose root is lost is lost.
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
 * a file of collections that is, cannot be repaired.
 *
 * Memory: a row for each segment, a chunk, the roots of big collections with their keys, and the table of one of them.
 * Threads: one. */

#include "tiering/tier_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checkpoint_health {
    uint64_t keys;       /* whose slot and record are in order, and big collections of which something is kept */
    uint64_t lost_keys;  /* the others */
    uint64_t pages;      /* of those collections, that are in order */
    uint64_t lost_pages; /* of those collections; what was in them is missing */
    uint64_t blocks;     /* looked at */
    uint64_t bad_blocks; /* damaged, or unreadable */
    uint64_t bad_chunks; /* of the file */
    bool beyond_repair;  /* the file or its directory, or the file of collections */
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
