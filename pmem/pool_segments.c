/* Where the segments are.
 *
 * An extent is one object of the heap, of as many whole segments as could be had at once. The heap of libpmemobj
 * consists of zones of just under 16 GB, so extents begin large and become smaller where a zone ends: each failed try
 * halves what is asked for, until not even one segment is left. All of this happens once, while the pool is made; it
 * may be interrupted after any extent, and goes on behind it.
 *
 *   1. transaction begins: the extent is reserved, nobody sees it      recovery sees the extents before
 *   2. table entry and count are saved in the undo log, then written   likewise
 *   3. commit                                                          this one too
 *
 * An object begins 16 bytes behind a multiple of 256 KB. Segments begin at a multiple of 4 KB, so an extent is asked
 * for with a page to spare.
 *
 * A pool that has become longer since has further extents, which are no objects: pool_grow.c.
 *
 * Afterwards a table in DRAM says where each segment begins: 8 bytes for a megabyte and more. Of several pools there is
 * one table, with the first. */

#include "base/log.h"
#include "pmem/pool_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { EXTENT_BYTES_MAX = 1 << 30 };

/* What is in a new extent is nobody's yet, so it is not flushed: that would touch every line of the pool.
 *
 * One extent of `segments`. False: errno, and nothing has changed. */
static bool add_extent(PMEMobjpool *pop, struct pmem_pool_root *root, uint64_t segments) {
    volatile int error = 0;
    struct pmem_pool_extent *extent = &root->extent[root->identity.extents];
    size_t bytes = segments * root->identity.segment_bytes + PMEM_POOL_ALIGNMENT;
    TX_BEGIN(pop) {
        PMEMoid object = pmemobj_tx_xalloc(bytes, PMEM_TYPE_EXTENT, POBJ_XALLOC_NO_FLUSH);
        uint64_t offset = (object.off + PMEM_POOL_ALIGNMENT - 1) / PMEM_POOL_ALIGNMENT * PMEM_POOL_ALIGNMENT;
        pmemobj_tx_add_range_direct(extent, sizeof(*extent));
        pmemobj_tx_add_range_direct(&root->identity, sizeof(root->identity));
        *extent = (struct pmem_pool_extent){.offset = offset, .segments = segments};
        root->identity.extents++;
        if (root->identity.magic[0]) root->identity.checksum = pmem_identity_checksum(&root->identity);
    }
    TX_ONABORT {
        error = pmemobj_tx_errno();
    }
    TX_END
    errno = error;
    return error == 0;
}

bool pmem_segments_make(PMEMobjpool *pop, struct pmem_pool_root *root) {
    const struct pmem_pool_identity *identity = &root->identity;
    uint64_t segments = EXTENT_BYTES_MAX / identity->segment_bytes;
    while (segments > 0 && identity->extents < identity->extents_max) {
        if (add_extent(pop, root, segments)) continue;
        if (errno != ENOMEM) return false;
        segments /= 2;
    }
    return true;
}

/* Whether the table is such as we would have written. */
static bool is_plausible(const struct pmem_pool *pool, const struct pmem_pool_extent *extent) {
    uint64_t segment_bytes = pool->root->identity.segment_bytes;
    return extent->segments > 0 && extent->offset % PMEM_POOL_ALIGNMENT == 0 && extent->offset < pool->pool_bytes &&
           extent->segments <= (pool->pool_bytes - extent->offset) / segment_bytes;
}

bool pmem_segments_count(struct pmem_pool *pool, char *error, size_t error_bytes) {
    const struct pmem_pool_root *root = pool->root;
    pool->own_segments = 0;
    for (uint64_t i = 0; i < root->identity.extents; i++) {
        if (!is_plausible(pool, &root->extent[i]))
            return pmem_pool_complain(error, error_bytes,
                                      "is damaged: extent %llu of its segments does not fit; nothing was changed",
                                      (unsigned long long)i);
        pool->own_segments += root->extent[i].segments;
    }
    return true;
}

/* Where a segment is mapped, which lies in one mapping as a whole. */
static char *address_of(const struct pmem_pool *member, uint64_t offset) {
    uint64_t end = offset + member->root->identity.segment_bytes;
    for (unsigned i = 0; i < member->stretch_count; i++) {
        const struct pmem_stretch *stretch = &member->stretches[i];
        if (end > member->pool_bytes && offset >= stretch->from && end <= stretch->to)
            return stretch->memory + (offset - stretch->from);
    }
    assert(end <= member->pool_bytes);
    return (char *)member->pop + offset;
}

/* The numbers of a pool's segments go up by how many pools there are. */
static void number_segments(const struct pmem_pool *pool, const struct pmem_pool *member, uint64_t next) {
    const struct pmem_pool_root *root = member->root;
    for (uint64_t i = 0; i < root->identity.extents; i++)
        for (uint64_t k = 0; k < root->extent[i].segments; k++, next += pool->member_count)
            if (!pool->segments[next])
                pool->segments[next] = address_of(member, root->extent[i].offset + k * root->identity.segment_bytes);
}

static uint64_t longest_of(const struct pmem_pool *pool) {
    uint64_t longest = 0;
    for (unsigned i = 0; i < pool->member_count; i++)
        if (pool->members[i]->own_segments > longest) longest = pool->members[i]->own_segments;
    return longest;
}

/* Whoever uses segments beside sees a number only when its place is known. */
void pmem_segments_find_more(struct pmem_pool *pool) {
    for (unsigned i = 0; i < pool->member_count; i++) number_segments(pool, pool->members[i], i);
    atomic_store(&pool->segment_count, longest_of(pool) * pool->member_count);
}

bool pmem_segments_find(struct pmem_pool *pool, char *error, size_t error_bytes) {
    uint64_t most = longest_of(pool) * PMEM_GROWTH;
    if (most < PMEM_SEGMENTS_ROOM) most = PMEM_SEGMENTS_ROOM;
    pool->segments_most = most * pool->member_count;
    pool->segments = calloc(pool->segments_most, sizeof(*pool->segments));
    pool->bad = calloc(pool->segments_most, sizeof(*pool->bad));
    for (unsigned i = 0; i < pool->member_count; i++)
        pool->members[i]->opened_extents = pool->members[i]->root->identity.extents;
    if (!pool->segments || !pool->bad)
        return pmem_pool_complain(error, error_bytes, "out of memory for the table of its segments");
    pmem_segments_find_more(pool);
    return true;
}

bool pmem_pool_has_segment(const struct pmem_pool *pool, uint64_t segment) {
    return segment < pool->segment_count && pool->segments[segment];
}

uint64_t pmem_pool_segments_most(const struct pmem_pool *pool) {
    return pool->segments_most;
}

uint64_t pmem_pool_segments(const struct pmem_pool *pool) {
    return pool->segment_count;
}

void pmem_pool_quarantine(const struct pmem_pool *pool, uint64_t segment) {
    struct pmem_pool *counted = (struct pmem_pool *)(uintptr_t)pool;
    if (atomic_exchange(&pool->bad[segment], true)) return;
    atomic_fetch_add(&counted->bad_count, 1);
    log_warning("pmem: the medium fails in segment %llu: what cannot be read answers with an error, and nothing is "
                "written there any more",
                (unsigned long long)segment);
}

bool pmem_pool_is_bad(const struct pmem_pool *pool, uint64_t segment) {
    return atomic_load_explicit(&pool->bad[segment], memory_order_relaxed);
}

/* Pages of a medium that is mapped itself are nobody's memory. */
static void forget_member(const struct pmem_pool *member) {
    const struct pmem_pool_root *root = member->root;
    if (member->dax) return;
    for (uint64_t i = 0; i < member->opened_extents; i++)
        (void)madvise((char *)member->pop + root->extent[i].offset,
                      root->extent[i].segments * root->identity.segment_bytes, MADV_DONTNEED);
    unsigned stretches = atomic_load(&member->stretch_count);
    for (unsigned i = 0; i < stretches; i++)
        (void)madvise(member->stretches[i].memory, member->stretches[i].to - member->stretches[i].from, MADV_DONTNEED);
}

void pmem_pool_forget_mapped(const struct pmem_pool *pool) {
    for (unsigned i = 0; i < pool->member_count; i++) forget_member(pool->members[i]);
}

void pmem_pool_forget_journal(const struct pmem_pool *pool) {
    const struct pmem_pool_identity *identity = &pool->root->identity;
    if (!pool->dax) (void)madvise((char *)pool->pop + identity->journal_offset, identity->journal_bytes, MADV_DONTNEED);
}

struct pmem_area pmem_pool_segment(const struct pmem_pool *pool, uint64_t segment) {
    return (struct pmem_area){.memory = pool->segments[segment],
                              .bytes = pool->root->identity.segment_bytes,
                              .pool = pool->members[pool->member_count == 1 ? 0 : segment % pool->member_count]->pop};
}
