#ifndef TERRACE_TIERING_TIER_POOL_H
#define TERRACE_TIERING_TIER_POOL_H

/* The header of the tier's file (tier_pool_layout.h): telling whose file it is before anything is written to it, and
 * switching manifests.
 *
 *   what the first megabyte holds      wanted for one run          wanted to persist
 *   nothing, or zeros                  taken                       taken: an empty pool
 *   the header of one run              taken over                  taken over: an empty pool
 *   the header of a pool               refused                     opened as it is
 *   anything else                      refused                     refused
 *
 * In a pool of persistent memory header and manifest are the two sectors of it (pmem/pool_layout.h), each of which
 * changes all at once; so one place for a manifest is enough, and `fd` is not looked at.
 *
 * Threads: one at a time. Nothing here allocates more than a page. */

#include "pmem/pool.h"
#include "tiering/tier_pool_layout.h"

#include <stdbool.h>

enum tier_pool_found {
    TIER_POOL_FOUND_NOTHING, /* it may be overwritten: empty, or left by a run that did not persist */
    TIER_POOL_FOUND_POOL,    /* a pool, whose manifests are in order */
    TIER_POOL_FOUND_FOREIGN, /* must not be touched; the line says why */
};

struct tier_pool {
    struct pmem_pool *pmem; /* where it stands; NULL: in a file */
    struct tier_pool_header header;
    unsigned slot;                      /* where `manifest` stands */
    struct tier_pool_manifest manifest; /* number 0: the pool has no checkpoint yet */
};

/* Looks at the first `bytes` of the file (fewer than a megabyte: all there is) and changes nothing. A pool is
 * read into *pool. FOREIGN: a text in `error`, to be put behind the file's name. */
enum tier_pool_found tier_pool_look(int fd, uint64_t bytes, struct tier_pool *pool, char *error, size_t error_bytes);

/* The same for a pool of persistent memory. Never a run that does not persist: NOTHING is a pool just made. */
enum tier_pool_found tier_pool_look_pmem(struct pmem_pool *pmem, struct tier_pool *pool, char *error,
                                         size_t error_bytes);

/* A new header for a file that may be overwritten: draws the uuid. Segment size, count, seed, shards and flags are the
 * caller's to fill in before it is written. */
void tier_pool_renew(struct tier_pool *pool);
/* Writes the header and empties both manifests. The file is synced. False: errno says why. */
bool tier_pool_write(int fd, struct tier_pool *pool) __attribute__((warn_unused_result));
/* Writes the header alone, which has grown: more segments. */
bool tier_pool_update(int fd, struct tier_pool *pool) __attribute__((warn_unused_result));

/* No checkpoint counts any more. */
bool tier_pool_forget(int fd, struct tier_pool *pool) __attribute__((warn_unused_result));

/* Makes `manifest` the one that counts: fills in magic, uuid and checksum. Its number is above that of pool->manifest.
 * The file is synced before and after. False: errno says why; the one before counts, or perhaps this one: after a
 * failed sync nobody knows. */
bool tier_pool_switch(int fd, struct tier_pool *pool, const struct tier_pool_manifest *manifest)
    __attribute__((warn_unused_result));

#endif
