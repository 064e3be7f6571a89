#ifndef TERRACE_PMEM_AREA_H
#define TERRACE_PMEM_AREA_H

/* A stretch of a pool's memory, and the three ways in which bytes written to it become durable. Everything that is
 * written to a pool outside of libpmemobj's transactions goes through these.
 *
 *   pmem_area_copy(area, offset, from, n)     the bytes are on their way
 *   pmem_area_flush(area, offset, n)          likewise, of what plain stores have written
 *   pmem_area_drain(area)                     the fence: all that this thread has sent is durable
 *
 * Where the pool is not persistent memory (a file system without DAX) each copy and flush is an msync that has ended
 * when it returns, and the drain does nothing: so one call per contiguous stretch. A failed msync ends the process:
 * nobody could say then what is durable.
 *
 * An area without a pool is plain memory, for tests: nothing is durable.
 *
 * Threads: any; a drain waits for what its own thread has sent. */

#include <stddef.h>
#include <stdint.h>

struct pmem_area {
    char *memory; /* of `bytes`, at a multiple of 4 KB; the pool's */
    uint64_t bytes;
    void *pool; /* libpmemobj's PMEMobjpool; NULL: plain memory */
};

/* Precondition for all: [offset, offset + bytes) lies within the area. `from` is not in it. */
void pmem_area_copy(const struct pmem_area *area, uint64_t offset, const void *from, size_t bytes);
/* A store past the caches, to be flushed as any other: for what is not read again soon. */
void pmem_area_store(const struct pmem_area *area, uint64_t offset, const void *from, size_t bytes);
void pmem_area_zero(const struct pmem_area *area, uint64_t offset, size_t bytes);
void pmem_area_flush(const struct pmem_area *area, uint64_t offset, size_t bytes);
void pmem_area_drain(const struct pmem_area *area);

#endif
