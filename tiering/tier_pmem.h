#ifndef TERRACE_TIERING_TIER_PMEM_H
#define TERRACE_TIERING_TIER_PMEM_H

/* The tier in a pool of persistent memory instead of a file. Offsets are those of a file (tier_layout.h): the first
 * segment begins at TIER_HEADER_BYTES; what would stand before it is in the pool's sectors (tier_pool.h).
 *
 * Neighbouring segments may lie apart in the pool, so a stretch over several is copied segment by segment.
 *
 * Threads: any. */

#include "pmem/pool.h"
#include "tiering/tier_io.h"

/* How far the offsets reach. */
uint64_t tier_pmem_end(const struct pmem_pool *pool);
/* Whether the medium has failed in any of the `count` segments from this one on. */
bool tier_pmem_is_bad(const struct pmem_pool *pool, uint32_t segment, uint32_t count);
/* False: that is not all within the segments, or the medium failed, and the segment is in quarantine now. */
bool tier_pmem_read(const struct pmem_pool *pool, uint64_t offset, void *into, size_t bytes)
    __attribute__((warn_unused_result));
/* Where these bytes lie in memory, to be read there; NULL: not all in one segment, or it is in quarantine. */
const char *tier_pmem_at(const struct pmem_pool *pool, uint64_t offset, size_t bytes);
/* Calls `look`, which reads nothing but them and takes nothing that it would have to give back. False: the medium
 * failed, and the segment is in quarantine now. Precondition: tier_pmem_at() gives them. */
bool tier_pmem_look(const struct pmem_pool *pool, uint64_t offset, size_t bytes, void (*look)(void *ctx), void *ctx)
    __attribute__((warn_unused_result));
/* How many bytes from there on lie in the same segment. */
size_t tier_pmem_reach(const struct pmem_pool *pool, uint64_t offset);
/* Durable on return. False: likewise; part of it may be written. */
bool tier_pmem_write(const struct pmem_pool *pool, uint64_t offset, const void *from, size_t bytes)
    __attribute__((warn_unused_result));

#endif
