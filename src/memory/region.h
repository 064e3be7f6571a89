#ifndef TERRACE_MEMORY_REGION_H
#define TERRACE_MEMORY_REGION_H

/* The memory records live in: 2 MB regions of one NUMA node, handed out as runs of 16 KB granules.
 *
 *   reserved addresses   | region 0 | region 1 | region 2 | ...          never moves, never shrinks
 *   one region (2 MB)    | g0 | g1 | g2 | ... | g127 |
 *   a slab page          |    | head, back=1, back=2 |    |              1, 2, 4 .. 64 granules
 *
 * A pool reserves addresses once and gives them memory as they are used, so a granule has a number for
 * life and the description of a slab page is found from any address inside it by arithmetic. All shards
 * of a node share its pool: an empty server costs a few pages.
 *
 * Objects too large for a region (more than REGION_RUN_MAX granules) are mapped one by one, outside it.
 *
 * Threads: every function may be called from any thread; the pool has a lock of its own, taken last.
 * Freed granules keep their memory until region_pool_purge() gives it back to the kernel. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGION_BYTES      (2ul * 1024 * 1024)
#define REGION_GRANULE    (16ul * 1024)
#define REGION_GRANULES   (REGION_BYTES / REGION_GRANULE)
#define REGION_RUN_MAX    64u /* granules: 1 MB */
#define REGION_NO_GRANULE UINT32_MAX

/* What a slab page is, kept outside the page so that pages do not fight for the same cache sets.
 * Owned by the heap that allocated the run; the pool itself uses only `granules`, `back` and `clean`. */
struct slab_page {
    uint32_t next, previous; /* neighbours in the heap's list, as granule numbers */
    uint16_t class_index;
    uint16_t live;      /* objects handed out */
    uint16_t fresh;     /* objects from here on were never handed out */
    uint16_t free_head; /* index + 1 of the first freed object; 0: none */
    uint16_t capacity;
    uint16_t pins;    /* readers outside the shard's lock: see heap_pin() */
    uint8_t granules; /* length of the run; 0: not the head of one */
    uint8_t back;     /* granules back to the head */
    uint8_t bin;      /* which of the heap's lists it is on */
    uint8_t zombie;   /* freed while pinned */
    uint8_t clean;    /* the run held no memory when it was allocated: what is not written takes none */
    uint8_t reserved[7];
};

struct region_pool;

struct region_pool_options {
    int node;             /* NUMA node to bind to; -1: no binding */
    size_t reserve_bytes; /* addresses to reserve; 0: twice the machine's memory */
    bool huge_pages;      /* a thread of the pool turns regions into huge pages once they are full */
};

/* NULL when the addresses cannot be reserved. The pool lives until region_pool_destroy(). */
struct region_pool *region_pool_create(const struct region_pool_options *options);
void region_pool_destroy(struct region_pool *pool);
/* Full regions keep their ordinary pages for now, or no longer: a collapse keeps a processor for milliseconds, which is
 * a bad thing where many threads want one. What waits is done afterwards. Any thread. */
void region_pool_hold_collapses(struct region_pool *pool, bool held);

/* Who has a say in large allocations: whatever takes REGION_GATED_BYTES at once, or grows by that. All may
 * be called from any thread, with the locks of shards held, so they take no lock that anybody holds while allocating.
 */
#define REGION_GATED_BYTES (1ul * 1024 * 1024)
struct region_gate {
    /* False: the allocation fails. */
    bool (*ask)(void *ctx, size_t bytes);
    /* What was granted has become resident, or was not taken after all. */
    void (*settle)(void *ctx, size_t bytes);
    /* Whether it would be granted: a question that changes nothing. */
    bool (*has_room)(void *ctx, size_t bytes);
    /* Whether so much more may become resident for comfort: making a region one huge page fills its holes. */
    bool (*may_fill)(void *ctx, size_t bytes);
    void *ctx;
};
/* Copies `gate`. To be called before other threads use the pool. A pool without one grants everything. */
void region_pool_set_gate(struct region_pool *pool, const struct region_gate *gate);

/* Whether the gate would grant so many bytes now. */
bool region_pool_has_room(const struct region_pool *pool, size_t bytes);
/* The same for who is about to take them in small pieces, and asks now and then: what was reserved for him is used up
 * by so much (memory_limit.h). */
bool region_pool_may_take(const struct region_pool *pool, size_t bytes);
/* The same, and what was granted is kept until region_pool_taken() says that it is resident, or was not taken. */
bool region_pool_ask(const struct region_pool *pool, size_t bytes) __attribute__((warn_unused_result));
void region_pool_taken(const struct region_pool *pool, size_t bytes);

/* A run of `granules` (1..REGION_RUN_MAX) granules; the number of its first granule, or
 * REGION_NO_GRANULE when there is no memory. Its description is zeroed except `granules`. */
uint32_t region_allocate_run(struct region_pool *pool, unsigned granules);
void region_free_run(struct region_pool *pool, uint32_t granule);

/* Memory for one object too large for a run; NULL when there is none, or the gate refuses. The header in front of it is
 * the pool's. Where a gate is set the memory is resident at once, so that what was granted shows without delay. */
void *region_allocate_large(struct region_pool *pool, size_t bytes);
/* Grows or shrinks in place or by moving whole pages, never by copying bytes. NULL: unchanged. */
void *region_resize_large(struct region_pool *pool, void *object, size_t bytes);
void region_free_large(struct region_pool *pool, void *object);
size_t region_large_bytes(const void *object);
/* The pin count of a large object, guarded as its owner guards it. */
uint16_t *region_large_pins(void *object);
bool *region_large_zombie(void *object);

/* Gives the memory of freed granules back to the kernel, at most `budget_bytes` of it.
 * Returns how much was given. Keeps `keep_bytes` of freed memory for reuse. */
size_t region_pool_purge(struct region_pool *pool, size_t keep_bytes, size_t budget_bytes);
/* The same of as much as was free all the time since this was called last, but for `keep_bytes`: nobody has needed it.
 * Huge pages of which little is free stay whole. To be called a few times a second. */
size_t region_pool_purge_idle(struct region_pool *pool, size_t keep_bytes);

struct region_pool_usage {
    size_t reserved_bytes; /* addresses of all regions in use */
    size_t used_bytes;     /* in runs that are allocated */
    size_t dirty_bytes;    /* freed, memory still held */
    size_t large_bytes;    /* mapped for large objects */
    size_t huge_bytes;     /* in huge pages: resident, touched or not */
};
struct region_pool_usage region_pool_usage(struct region_pool *pool);
/* Whether no full region waits to become a huge page; for benches that want the keyspace at rest. */
bool region_pool_is_settled(struct region_pool *pool);

/* The node on which the page of `address` really is, read back from the kernel; -1: unknown. */
int region_node_of(const void *address);

/* ---- arithmetic used on every allocation, therefore visible here ---- */

struct region_description {
    uint64_t used[2];  /* bit per granule: in a run */
    uint64_t dirty[2]; /* bit per granule: free, but holding memory */
    uint16_t tries;    /* to make it a huge page, since it was last full */
    bool huge;         /* it is one: resident as a whole */
    bool advised;      /* the kernel may still make it one */
    struct slab_page pages[REGION_GRANULES];
};

/* The first members of every pool. */
struct region_pool_view {
    char *base;
    size_t bytes;
    struct region_description *regions;
};

static inline bool region_contains(const struct region_pool *pool, const void *address) {
    const struct region_pool_view *view = (const struct region_pool_view *)pool;
    return (size_t)((const char *)address - view->base) < view->bytes;
}

static inline struct slab_page *region_page(const struct region_pool *pool, uint32_t granule) {
    const struct region_pool_view *view = (const struct region_pool_view *)pool;
    return &view->regions[granule / REGION_GRANULES].pages[granule % REGION_GRANULES];
}

static inline void *region_address(const struct region_pool *pool, uint32_t granule) {
    const struct region_pool_view *view = (const struct region_pool_view *)pool;
    return view->base + (size_t)granule * REGION_GRANULE;
}

/* The number of the head granule of the run that holds `address`. Precondition: region_contains(). */
static inline uint32_t region_head_granule(const struct region_pool *pool, const void *address) {
    const struct region_pool_view *view = (const struct region_pool_view *)pool;
    uint32_t granule = (uint32_t)((size_t)((const char *)address - view->base) / REGION_GRANULE);
    return granule - region_page(pool, granule)->back;
}

_Static_assert(sizeof(struct slab_page) == 32, "a slab page is described in 32 bytes");

#endif
