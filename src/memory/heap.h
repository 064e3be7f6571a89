#ifndef TERRACE_MEMORY_HEAP_H
#define TERRACE_MEMORY_HEAP_H

/* A shard's record heap: slabs of equal-sized objects over the regions of one NUMA node.
 *
 *   size class    16, 24, 32 .. 512 (step 8), then eight steps per doubling to 8 KB, then fractions
 *                 of 64 KB to 32 KB; larger objects have a run of their own, very large ones a mapping
 *   slab page     16 KB for classes up to 512 bytes, 64 KB above
 *   object        starts with a byte that is not zero while it is live (a record's type byte is);
 *                 a freed one has zero there and the index of the next freed one after it
 *
 * So the live objects of a page can be walked without a bitmap, and any object can be moved by whoever
 * can find its one reference: heap_compact() empties sparse pages that way.
 *
 * Invariants, for each class with pages P:
 *   live(p) + free(p) + never handed out(p) = capacity(p)
 *   a page with room is on exactly one bin list, chosen by how full it is; a full page is on none
 *
 * Threads: none of its own. The caller holds the shard's lock for every call; the sums may be read without it. */

#include "base/stat_counter.h"
#include "memory/region.h"

#define HEAP_CLASSES    104
#define HEAP_BINS       8
#define HEAP_OBJECT_MIN 16u
#define HEAP_OBJECT_MAX (600ul * 1024 * 1024) /* a value of 512 MB, its key and header */

struct heap_class {
    uint32_t bins[HEAP_BINS]; /* heads of lists of pages with room, from sparse to nearly full */
    uint32_t current;         /* page being filled; none when it is full or gone */
    uint32_t pages;
    uint32_t live; /* objects */
};

/* Of one heap, or of several together. */
struct heap_sums {
    stat_counter live_objects;
    stat_counter live_bytes;      /* the class sizes of live objects */
    stat_counter page_bytes;      /* slab pages, runs and mappings behind them */
    stat_counter untouched_bytes; /* of page_bytes, never written since the kernel gave them: they take no memory yet */
};

struct heap {
    struct region_pool *pool;
    struct heap *far; /* where its objects go that are moved to far memory; its owner's, who makes it; NULL: nowhere */
    struct heap_sums sums;
    struct heap_sums *together; /* of the heaps that are counted together with it; NULL: it is counted alone */
    unsigned compact_class;     /* where heap_compact() goes on */
    struct heap_class classes[HEAP_CLASSES];
};

void heap_init(struct heap *heap, struct region_pool *pool);
/* From now on it is counted in `together`, and no longer where it was before. NULL: nowhere. */
void heap_count_in(struct heap *heap, struct heap_sums *together);

/* At least `bytes` bytes, 8-byte aligned, not zeroed; NULL when there is no memory. The caller must make
 * the first byte non-zero before the next heap call. */
void *heap_allocate(struct heap *heap, size_t bytes) __attribute__((warn_unused_result));
void heap_free(struct heap *heap, void *object);
/* Has the processor fetch the place that the next object of this size will probably get. A hint: it changes nothing,
 * and is the one call that needs no lock. */
void heap_prefetch(const struct heap *heap, size_t bytes);
/* The same with a part of an object that is larger than two lines, of which the first two are left out. `object` may be
 * any address; one that is no object of a slab page is passed over. */
enum heap_part { HEAP_FIRST_KILOBYTE, HEAP_FIRST_QUARTER, HEAP_LAST_QUARTER };
void heap_prefetch_part(const struct heap *heap, const void *object, enum heap_part part);

/* Bytes that an object of this size really occupies; equal sizes mean "fits in place". */
size_t heap_size_for(size_t bytes);
/* Bytes that `object` occupies, of which the caller may use all. */
size_t heap_usable_bytes(const struct heap *heap, const void *object);

/* Grows or shrinks a large object without copying its bytes where that is possible (both sizes are of
 * mappings of their own); NULL: do it by allocating anew. Not for pinned objects. */
void *heap_resize_large(struct heap *heap, void *object, size_t bytes);

/* A pinned object keeps its address and its bytes until it is unpinned, also after heap_free(). Only
 * objects that have a run or a mapping of their own can be pinned: heap_can_pin(). */
bool heap_can_pin(const struct heap *heap, const void *object);
void heap_pin(struct heap *heap, void *object);
void heap_unpin(struct heap *heap, void *object);
bool heap_is_pinned(const struct heap *heap, const void *object);

/* Moves `object` to `copy` (already filled) by swinging its one reference; false: its reference was
 * not found, or it may not move now. */
typedef bool heap_relocate(void *ctx, void *object, void *copy, size_t bytes);

/* Empties sparse pages for about `budget_objects` moved objects. Returns the number moved;
 * 0: nothing is worth moving. */
size_t heap_compact(struct heap *heap, size_t budget_objects, heap_relocate *relocate, void *ctx);

/* Walks every invariant above; for tests and debug builds. */
bool heap_validate(const struct heap *heap);

#endif
