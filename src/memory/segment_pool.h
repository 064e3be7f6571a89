#ifndef TERRACE_MEMORY_SEGMENT_POOL_H
#define TERRACE_MEMORY_SEGMENT_POOL_H

/* Memory for index segments: stretches of 256 to 2048 bytes over the regions of one NUMA node.
 *
 *   page      64 KB: 256 units of 256 bytes, with a bit for each unit that is free and for each that begins a stretch
 *   lists     pages by the longest free stretch they have (0 to 8 units)
 *
 * Segments grow from four units to eight, one at a time, then split into twice four, so what one sets free the next
 * needs a little larger. A heap of size classes would leave pages of each class half empty (measured: 45 % of the
 * index); here neighbours of any size share a page, and the best fitting page is taken.
 *
 * Threads: a lock of its own, taken after any shard's and before the region pool's. */

#include "memory/region.h"

#include <pthread.h>

enum { SEGMENT_UNIT = 256, SEGMENT_UNITS_MAX = 8 };

struct segment_page;

struct segment_pool {
    pthread_mutex_t lock;
    struct region_pool *regions;
    struct segment_page *pages; /* by number; slab_page.next of a page's run holds it */
    uint32_t page_count, page_capacity;
    uint32_t spare; /* head of the list of unused numbers */
    uint32_t lists[SEGMENT_UNITS_MAX + 1];
    size_t used_bytes, page_bytes;
};

void segment_pool_init(struct segment_pool *pool, struct region_pool *regions);
/* Every stretch is gone; the region pool is destroyed afterwards. */
void segment_pool_destroy(struct segment_pool *pool);

/* `bytes` (at most 2048), aligned to 256; contents undefined. NULL: no memory. */
void *segment_pool_allocate(struct segment_pool *pool, size_t bytes) __attribute__((warn_unused_result));
void segment_pool_free(struct segment_pool *pool, void *segment);

/* Whether moving stretches together would give pages back: more than an eighth of the memory is free. */
bool segment_pool_is_loose(struct segment_pool *pool);
/* Whether this stretch stands in a page that is half empty, and should move. */
bool segment_pool_is_sparse(struct segment_pool *pool, const void *segment);

/* Checks counts, lists and bits against each other; for tests and debug builds. */
bool segment_pool_validate(struct segment_pool *pool);

#endif
