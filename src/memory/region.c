/* Regions: where the memory of records comes from and goes back to.
 *
 * The pool reserves one stretch of addresses without memory. Regions are opened in address order; each
 * has a bitmap of used granules. Runs are carved first-fit from the lowest region that has room, so that
 * a shrinking heap leaves its high regions empty. `open` holds one bit per region that has a free granule
 * (a search starts at the lowest set bit), so finding room costs a few words however large the pool.
 *
 * Huge pages: nothing here ever forks, so they only help. But a huge page is cleared as a whole when it is first
 * touched, for up to milliseconds that a command would have to wait, and a small server should stay small. So a region
 * starts with ordinary pages, and when it is full a thread of the pool has the kernel collapse it into one huge page
 * (MADV_COLLAPSE), which costs no memory and no command a wait worth the name. A region of which a part was given back
 * to the kernel is advised against huge pages until it is full again. */

#include "memory/region.h"

#include "base/poison.h"

#include <assert.h>
#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; Debian 12's C library does not name it yet */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum {
    SEARCH_MAX = 32, /* regions looked at for a run of several granules before a new one is opened */
    COLLAPSE_TRIES = 50,
    COLLAPSE_CALM_MS = 100, /* without a region filled: the pool is not growing fast */
    COLLAPSE_PAUSE_MS = 10, /* between two */
    PURGE_HUGE_LEAST = REGION_GRANULES / 16,
    PURGE_IDLE_MOST = 1 << 20, /* at once: the lock is held meanwhile, for as long as a millisecond */
};

struct region_pool {
    struct region_pool_view view;
    pthread_mutex_t lock;
    int node;
    uint32_t region_count; /* opened so far */
    uint32_t region_limit; /* addresses reserved for */
    uint32_t purge_cursor;
    uint64_t *open; /* bit per region: has a free granule */
    uint64_t *full; /* bit per region: to be collapsed; the thread's work */
    uint32_t full_count;
    uint64_t fills; /* regions that became full, ever */
    bool has_thread, collapsing, stopping;
    atomic_bool held; /* nothing is to be collapsed now */
    pthread_t thread;
    pthread_cond_t filled, ending;
    size_t used_granules, dirty_granules, huge_regions;
    size_t idle_granules; /* the least dirty_granules has been since region_pool_purge_idle() was called last */
    atomic_size_t large_bytes;
    struct region_gate gate; /* `ask` NULL: none */
};

/* In front of every large object; one cache line, so that the object is aligned like a slab's. */
struct large_header {
    size_t mapped_bytes;
    size_t bytes;
    uint16_t pins;
    bool zombie;
    char padding[64 - 2 * sizeof(size_t) - 4];
};
_Static_assert(sizeof(struct large_header) == 64, "the header of a large object is one cache line");

static void *collapse_regions(void *argument);

/* Addresses for whole regions. Of `bytes` or as much less as there is; NULL: none. */
static char *map_regions(size_t *bytes) {
    size_t want = *bytes;
    char *raw = MAP_FAILED;
    for (; want >= REGION_BYTES; want = want / 2 / REGION_BYTES * REGION_BYTES) {
        raw =
            mmap(NULL, want + REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (raw != MAP_FAILED) break;
    }
    if (raw == MAP_FAILED) return NULL;
    char *base = (char *)(((uintptr_t)raw + REGION_BYTES - 1) & ~(REGION_BYTES - 1));
    if (base > raw) munmap(raw, (size_t)(base - raw));
    if (base < raw + REGION_BYTES) munmap(base + want, (size_t)(raw + REGION_BYTES - base));
    *bytes = want;
    return base;
}

static size_t machine_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (size_t)pages * (size_t)size : (size_t)1 << 30;
}

static void bind_to_node(struct region_pool *pool, void *memory, size_t bytes) {
    if (pool->node < 0 || numa_available() < 0 || numa_max_node() == 0) return;
    unsigned long mask[16] = {0};
    size_t bits = sizeof(mask) * 8;
    if ((size_t)pool->node >= bits) return;
    mask[(size_t)pool->node / 64] = 1ul << (pool->node % 64);
    /* A node that is full falls back to its neighbours: slower memory beats none. */
    (void)mbind(memory, bytes, MPOL_PREFERRED, mask, bits, 0);
}

struct region_pool *region_pool_create(const struct region_pool_options *options) {
    struct region_pool *pool = calloc(1, sizeof(*pool));
    if (!pool) return NULL;
    size_t want = options->reserve_bytes ? options->reserve_bytes : 2 * machine_memory();
    want = (want + REGION_BYTES - 1) / REGION_BYTES * REGION_BYTES;
    pool->node = options->node;
    pool->view.base = map_regions(&want);
    if (!pool->view.base) goto fail;
    pool->view.bytes = want;
    /* All that needs the kernel's lock on the address space is done once, so that opening a region asks nothing of it.
     */
    bind_to_node(pool, pool->view.base, want);
    (void)madvise(pool->view.base, want, MADV_NOHUGEPAGE);
    pool->region_limit = (uint32_t)(want / REGION_BYTES);
    size_t words = (pool->region_limit + 63) / 64;
    pool->open = calloc(words, sizeof(uint64_t));
    pool->full = calloc(words, sizeof(uint64_t));
    void *descriptions = mmap(NULL, pool->region_limit * sizeof(struct region_description), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!pool->open || !pool->full || descriptions == MAP_FAILED) {
        munmap(pool->view.base, want);
        free(pool->open);
        free(pool->full);
        goto fail;
    }
    pool->view.regions = descriptions;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->filled, NULL);
    pthread_cond_init(&pool->ending, NULL);
    if (options->huge_pages) pool->has_thread = pthread_create(&pool->thread, NULL, collapse_regions, pool) == 0;
    return pool;
fail:
    free(pool);
    return NULL;
}

void region_pool_destroy(struct region_pool *pool) {
    if (!pool) return;
    if (pool->has_thread) {
        pthread_mutex_lock(&pool->lock);
        pool->stopping = true;
        pthread_cond_signal(&pool->filled);
        pthread_cond_signal(&pool->ending);
        pthread_mutex_unlock(&pool->lock);
        pthread_join(pool->thread, NULL);
    }
    unpoison_memory(pool->view.base, (size_t)pool->region_count * REGION_BYTES);
    munmap(pool->view.base, pool->view.bytes);
    munmap(pool->view.regions, pool->region_limit * sizeof(struct region_description));
    pthread_cond_destroy(&pool->filled);
    pthread_cond_destroy(&pool->ending);
    pthread_mutex_destroy(&pool->lock);
    free(pool->open);
    free(pool->full);
    free(pool);
}

static bool open_region(struct region_pool *pool) {
    if (pool->region_count == pool->region_limit) return false;
    pool->open[pool->region_count / 64] |= 1ull << (pool->region_count % 64);
    pool->region_count++;
    return true;
}

/* ---- huge pages ---- */

static bool is_full(const struct region_description *region) {
    return region->used[0] == UINT64_MAX && region->used[1] == UINT64_MAX;
}

static void queue_full(struct region_pool *pool, uint32_t region_index) {
    uint64_t bit = 1ull << (region_index % 64);
    if (pool->full[region_index / 64] & bit) return;
    pool->full[region_index / 64] |= bit;
    pool->full_count++;
}

static void region_filled(struct region_pool *pool, uint32_t region_index) {
    if (!pool->has_thread) return;
    pool->fills++;
    queue_full(pool, region_index);
    if (pool->full_count == 1) pthread_cond_signal(&pool->filled);
}

/* The next full region, off the list. Precondition: full_count > 0. */
static uint32_t next_full(struct region_pool *pool) {
    for (uint32_t word = 0;; word++) {
        if (!pool->full[word]) continue;
        uint32_t bit = (uint32_t)__builtin_ctzll(pool->full[word]);
        pool->full[word] &= pool->full[word] - 1;
        pool->full_count--;
        return word * 64 + bit;
    }
}

enum collapse_result { COLLAPSE_DONE, COLLAPSE_LATER, COLLAPSE_NEVER, COLLAPSE_NO_ROOM };

/* A huge page is resident as a whole, also where nothing was ever written. */
static bool may_fill(const struct region_pool *pool, char *memory) {
    enum { PAGES = REGION_BYTES / 4096 };
    unsigned char resident[PAGES];
    size_t missing = 0;
    if (!pool->gate.may_fill || mincore(memory, REGION_BYTES, resident) != 0) return true;
    for (unsigned i = 0; i < PAGES; i++) missing += !(resident[i] & 1);
    return missing == 0 || pool->gate.may_fill(pool->gate.ctx, missing * 4096);
}

/* Has the kernel get a huge page ready, which it then has at hand for the collapse: threads that touch the region sleep
 * while its bytes are copied, which a hypervisor that gives memory at its first touch draws out to many milliseconds.
 */
static void warm_huge_page(const struct region_pool *pool, char *spare) {
    if (!spare || (pool->gate.may_fill && !pool->gate.may_fill(pool->gate.ctx, REGION_BYTES))) return;
    *(volatile char *)spare = 1;
    (void)madvise(spare, REGION_BYTES, MADV_DONTNEED);
}

/* Later: pages that the kernel holds in its own lists just now are let go within moments. */
static enum collapse_result collapse(const struct region_pool *pool, uint32_t region_index, char *spare) {
    char *memory = pool->view.base + (size_t)region_index * REGION_BYTES;
    if (!may_fill(pool, memory)) return COLLAPSE_NO_ROOM;
    warm_huge_page(pool, spare);
    /* A kernel before 6.1 does not know the second and leaves it to its own thread. */
    (void)madvise(memory, REGION_BYTES, MADV_HUGEPAGE);
    if (madvise(memory, REGION_BYTES, MADV_COLLAPSE) == 0) return COLLAPSE_DONE;
    return errno == EAGAIN || errno == EBUSY ? COLLAPSE_LATER : COLLAPSE_NEVER;
}

/* The collapse gave memory to granules that were freed meanwhile: they are to be purged again. */
static void notice_free_granules(struct region_pool *pool, struct region_description *region) {
    for (unsigned word = 0; word < 2; word++) {
        uint64_t clean = ~region->used[word] & ~region->dirty[word];
        region->dirty[word] |= clean;
        pool->dirty_granules += (size_t)__builtin_popcountll(clean);
    }
}

/* Waits with the lock given up; returns early only when the pool ends. */
static void pause_ms(struct region_pool *pool, unsigned ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!pool->stopping && pthread_cond_timedwait(&pool->ending, &pool->lock, &until) == 0) {
    }
}

static void after_collapse(struct region_pool *pool, uint32_t region_index, enum collapse_result result) {
    struct region_description *region = &pool->view.regions[region_index];
    if (result != COLLAPSE_NO_ROOM) region->advised = true;
    if (result == COLLAPSE_DONE && !region->huge) {
        region->huge = true;
        pool->huge_regions++;
    }
    if (!is_full(region))
        notice_free_granules(pool, region);
    else if (result == COLLAPSE_NO_ROOM || (result == COLLAPSE_LATER && ++region->tries < COLLAPSE_TRIES))
        queue_full(pool, region_index);
}

/* A collapse takes the processor for milliseconds, which the kernel does not interrupt even for a thread of higher
 * priority. So it is done at idle priority, one at a time, and not while the pool is growing fast. */
static void *collapse_regions(void *argument) {
    struct region_pool *pool = argument;
    unsigned wait_ms = COLLAPSE_CALM_MS;
    size_t spare_bytes = REGION_BYTES;
    char *spare = map_regions(&spare_bytes);
    if (spare) bind_to_node(pool, spare, spare_bytes);
    if (spare) (void)madvise(spare, spare_bytes, MADV_HUGEPAGE);
    (void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &(struct sched_param){0});
    pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        if (pool->full_count == 0) {
            pthread_cond_wait(&pool->filled, &pool->lock);
            continue;
        }
        uint64_t fills = pool->fills;
        pause_ms(pool, wait_ms);
        bool held = atomic_load_explicit(&pool->held, memory_order_relaxed);
        wait_ms = pool->fills == fills && !held ? COLLAPSE_PAUSE_MS : COLLAPSE_CALM_MS;
        if (pool->stopping || pool->fills != fills || held) continue;
        uint32_t region_index = next_full(pool);
        struct region_description *region = &pool->view.regions[region_index];
        if (!is_full(region)) continue;
        pool->collapsing = true;
        pthread_mutex_unlock(&pool->lock);
        enum collapse_result result = collapse(pool, region_index, spare);
        pthread_mutex_lock(&pool->lock);
        pool->collapsing = false;
        after_collapse(pool, region_index, result);
        if (result == COLLAPSE_NO_ROOM) wait_ms = COLLAPSE_CALM_MS;
    }
    pthread_mutex_unlock(&pool->lock);
    if (spare) munmap(spare, spare_bytes);
    return NULL;
}

void region_pool_hold_collapses(struct region_pool *pool, bool held) {
    atomic_store_explicit(&pool->held, held, memory_order_relaxed);
}

/* ---- the gate ---- */

void region_pool_set_gate(struct region_pool *pool, const struct region_gate *gate) {
    pool->gate = *gate;
}

bool region_pool_ask(const struct region_pool *pool, size_t bytes) {
    return bytes < REGION_GATED_BYTES || !pool->gate.ask || pool->gate.ask(pool->gate.ctx, bytes);
}

void region_pool_taken(const struct region_pool *pool, size_t bytes) {
    if (bytes >= REGION_GATED_BYTES && pool->gate.settle) pool->gate.settle(pool->gate.ctx, bytes);
}

bool region_pool_has_room(const struct region_pool *pool, size_t bytes) {
    return bytes < REGION_GATED_BYTES || !pool->gate.has_room || pool->gate.has_room(pool->gate.ctx, bytes);
}

bool region_pool_may_take(const struct region_pool *pool, size_t bytes) {
    if (!region_pool_ask(pool, bytes)) return false;
    region_pool_taken(pool, bytes);
    return true;
}

/* Has the kernel give the memory now; false: there is none. A kernel that cannot gives it when it is touched. In steps,
 * between which other threads get at the address space. */
static bool populate(const struct region_pool *pool, char *memory, size_t bytes) {
    for (size_t done = 0; pool->gate.ask && done < bytes;) {
        size_t step = bytes - done < REGION_BYTES ? bytes - done : REGION_BYTES;
        if (madvise(memory + done, step, MADV_POPULATE_WRITE) == 0)
            done += step;
        else if (errno == ENOMEM || errno == EFAULT)
            return false;
        else if (errno != EINTR && errno != EAGAIN)
            return true;
    }
    return true;
}

/* ---- runs ---- */

/* The first free run of `granules` in a region, or REGION_GRANULES. */
static unsigned find_run(const struct region_description *region, unsigned granules) {
    unsigned length = 0;
    for (unsigned i = 0; i < REGION_GRANULES; i++) {
        if (i % 64 == 0 && length == 0 && region->used[i / 64] == UINT64_MAX) {
            i += 63;
            continue;
        }
        length = (region->used[i / 64] >> (i % 64)) & 1 ? 0 : length + 1;
        if (length == granules) return i + 1 - granules;
    }
    return REGION_GRANULES;
}

static void set_used(struct region_pool *pool, uint32_t region_index, unsigned first, unsigned granules) {
    struct region_description *region = &pool->view.regions[region_index];
    bool clean = true;
    for (unsigned i = first; i < first + granules; i++) {
        uint64_t bit = 1ull << (i % 64);
        region->used[i / 64] |= bit;
        if (region->dirty[i / 64] & bit) {
            region->dirty[i / 64] &= ~bit;
            if (--pool->dirty_granules < pool->idle_granules) pool->idle_granules = pool->dirty_granules;
            clean = false;
        }
        memset(&region->pages[i], 0, sizeof(region->pages[i]));
        region->pages[i].back = (uint8_t)(i - first);
    }
    region->pages[first].granules = (uint8_t)granules;
    region->pages[first].clean = clean;
    pool->used_granules += granules;
    if (is_full(region)) {
        pool->open[region_index / 64] &= ~(1ull << (region_index % 64));
        region->tries = 0;
        region_filled(pool, region_index);
    }
}

static uint32_t take_run(struct region_pool *pool, uint32_t region_index, unsigned granules) {
    unsigned first = find_run(&pool->view.regions[region_index], granules);
    if (first == REGION_GRANULES) return REGION_NO_GRANULE;
    set_used(pool, region_index, first, granules);
    return region_index * (uint32_t)REGION_GRANULES + first;
}

uint32_t region_allocate_run(struct region_pool *pool, unsigned granules) {
    assert(granules >= 1 && granules <= REGION_RUN_MAX);
    uint32_t run = REGION_NO_GRANULE;
    if (!region_pool_ask(pool, granules * REGION_GRANULE)) return run;
    pthread_mutex_lock(&pool->lock);
    unsigned searched = 0;
    for (uint32_t word = 0; word * 64 < pool->region_count && searched < SEARCH_MAX; word++) {
        for (uint64_t bits = pool->open[word]; bits && searched < SEARCH_MAX; bits &= bits - 1, searched++) {
            run = take_run(pool, word * 64 + (uint32_t)__builtin_ctzll(bits), granules);
            if (run != REGION_NO_GRANULE) goto done;
        }
    }
    if (open_region(pool)) run = take_run(pool, pool->region_count - 1, granules);
done:
    if (run != REGION_NO_GRANULE) unpoison_memory(region_address(pool, run), granules * REGION_GRANULE);
    pthread_mutex_unlock(&pool->lock);
    region_pool_taken(pool, granules * REGION_GRANULE);
    return run;
}

void region_free_run(struct region_pool *pool, uint32_t granule) {
    uint32_t region_index = granule / REGION_GRANULES;
    unsigned first = granule % REGION_GRANULES;
    pthread_mutex_lock(&pool->lock);
    struct region_description *region = &pool->view.regions[region_index];
    unsigned granules = region->pages[first].granules;
    assert(granules > 0);
    poison_memory(region_address(pool, granule), granules * REGION_GRANULE);
    for (unsigned i = first; i < first + granules; i++) {
        region->used[i / 64] &= ~(1ull << (i % 64));
        region->dirty[i / 64] |= 1ull << (i % 64);
        region->pages[i].granules = 0;
    }
    pool->used_granules -= granules;
    pool->dirty_granules += granules;
    pool->open[region_index / 64] |= 1ull << (region_index % 64);
    pthread_mutex_unlock(&pool->lock);
}

/* The kernel does that with the whole address space locked, even where nothing changes. */
static void forbid_huge(struct region_description *region, char *memory) {
    if (region->advised) (void)madvise(memory, REGION_BYTES, MADV_NOHUGEPAGE);
    region->advised = false;
}

/* Gives back dirty granules of one region, at most `most`, but a huge page that is free as a whole at once; returns how
 * many. */
static size_t purge_region(struct region_pool *pool, uint32_t region_index, size_t most) {
    struct region_description *region = &pool->view.regions[region_index];
    char *memory = pool->view.base + (size_t)region_index * REGION_BYTES;
    size_t dirty = (size_t)__builtin_popcountll(region->dirty[0]) + (size_t)__builtin_popcountll(region->dirty[1]);
    bool was_huge = region->huge;
    if (was_huge) pool->huge_regions--;
    region->huge = false;
    if (!region->used[0] && !region->used[1] && (was_huge || dirty <= most)) {
        region->dirty[0] = region->dirty[1] = 0;
        (void)madvise(memory, REGION_BYTES, MADV_DONTNEED);
        forbid_huge(region, memory);
        return dirty;
    }
    forbid_huge(region, memory);
    size_t given = 0;
    for (unsigned i = 0; i < REGION_GRANULES && given < most;) {
        unsigned end = i;
        for (; end < REGION_GRANULES && (region->dirty[end / 64] >> (end % 64)) & 1 && given < most; end++, given++)
            region->dirty[end / 64] &= ~(UINT64_C(1) << (end % 64));
        if (end > i) (void)madvise(memory + i * REGION_GRANULE, (end - i) * REGION_GRANULE, MADV_DONTNEED);
        i = end > i ? end : i + 1;
    }
    return given;
}

/* `whole_huge`: a huge page stays one unless a good part of it is given back. */
static size_t purge(struct region_pool *pool, size_t keep_bytes, size_t budget_bytes, bool whole_huge) {
    size_t given = 0;
    for (uint32_t step = 0; step < pool->region_count && given * REGION_GRANULE < budget_bytes; step++) {
        if (pool->dirty_granules * REGION_GRANULE <= keep_bytes) break;
        if (pool->purge_cursor >= pool->region_count) pool->purge_cursor = 0;
        /* From the top down: the low regions are where the next run is taken. */
        uint32_t region_index = pool->region_count - 1 - pool->purge_cursor;
        struct region_description *region = &pool->view.regions[region_index];
        size_t dirty = (size_t)__builtin_popcountll(region->dirty[0]) + (size_t)__builtin_popcountll(region->dirty[1]);
        size_t granules = 0, left = budget_bytes - given * REGION_GRANULE;
        size_t most = left / REGION_GRANULE + (left % REGION_GRANULE != 0);
        if (dirty && !(whole_huge && region->huge && dirty < PURGE_HUGE_LEAST))
            granules = purge_region(pool, region_index, most);
        if (granules == dirty || granules == 0) pool->purge_cursor++;
        pool->dirty_granules -= granules;
        given += granules;
    }
    if (pool->idle_granules > pool->dirty_granules) pool->idle_granules = pool->dirty_granules;
    return given * REGION_GRANULE;
}

size_t region_pool_purge(struct region_pool *pool, size_t keep_bytes, size_t budget_bytes) {
    pthread_mutex_lock(&pool->lock);
    size_t given = purge(pool, keep_bytes, budget_bytes, false);
    pthread_mutex_unlock(&pool->lock);
    return given;
}

size_t region_pool_purge_idle(struct region_pool *pool, size_t keep_bytes) {
    pthread_mutex_lock(&pool->lock);
    size_t idle_bytes = pool->idle_granules * REGION_GRANULE, given = 0;
    size_t budget_bytes = idle_bytes > keep_bytes ? idle_bytes - keep_bytes : 0;
    if (budget_bytes > PURGE_IDLE_MOST) budget_bytes = PURGE_IDLE_MOST;
    if (budget_bytes) given = purge(pool, keep_bytes, budget_bytes, true);
    pool->idle_granules = pool->dirty_granules;
    pthread_mutex_unlock(&pool->lock);
    return given;
}

static struct large_header *header_of(const void *object) {
    return (struct large_header *)((uintptr_t)object - sizeof(struct large_header));
}

static size_t large_mapping(size_t bytes) {
    size_t page = 4096;
    return (bytes + sizeof(struct large_header) + page - 1) / page * page;
}

static void *map_large(struct region_pool *pool, size_t mapped) {
    void *memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    bind_to_node(pool, memory, mapped);
    if (mapped >= 2 * REGION_BYTES) (void)madvise(memory, mapped, MADV_HUGEPAGE);
    if (populate(pool, memory, mapped)) return memory;
    munmap(memory, mapped);
    return NULL;
}

void *region_allocate_large(struct region_pool *pool, size_t bytes) {
    size_t mapped = large_mapping(bytes);
    if (!region_pool_ask(pool, mapped)) return NULL;
    struct large_header *header = map_large(pool, mapped);
    region_pool_taken(pool, mapped);
    if (!header) return NULL;
    header->mapped_bytes = mapped;
    header->bytes = bytes;
    atomic_fetch_add_explicit(&pool->large_bytes, mapped, memory_order_relaxed);
    return header + 1;
}

/* Longer or shorter, wherever the kernel puts it; NULL: unchanged. Memory that the kernel cannot give now is no reason
 * to fail any more: the mapping may have moved. */
static struct large_header *remap_large(struct region_pool *pool, struct large_header *header, size_t mapped) {
    size_t before = header->mapped_bytes, grown = mapped > before ? mapped - before : 0;
    if (!region_pool_ask(pool, grown)) return NULL;
    void *memory = mremap(header, before, mapped, MREMAP_MAYMOVE);
    if (memory != MAP_FAILED) (void)populate(pool, (char *)memory + before, grown);
    region_pool_taken(pool, grown);
    if (memory == MAP_FAILED) return NULL;
    header = memory;
    header->mapped_bytes = mapped;
    return header;
}

void *region_resize_large(struct region_pool *pool, void *object, size_t bytes) {
    struct large_header *header = header_of(object);
    size_t mapped = large_mapping(bytes), before = header->mapped_bytes;
    if (mapped != before) {
        header = remap_large(pool, header, mapped);
        if (!header) return NULL;
        atomic_fetch_add_explicit(&pool->large_bytes, mapped - before, memory_order_relaxed);
    }
    header->bytes = bytes;
    return header + 1;
}

void region_free_large(struct region_pool *pool, void *object) {
    struct large_header *header = header_of(object);
    atomic_fetch_sub_explicit(&pool->large_bytes, header->mapped_bytes, memory_order_relaxed);
    munmap(header, header->mapped_bytes);
}

size_t region_large_bytes(const void *object) {
    return header_of(object)->mapped_bytes - sizeof(struct large_header);
}
uint16_t *region_large_pins(void *object) {
    return &header_of(object)->pins;
}
bool *region_large_zombie(void *object) {
    return &header_of(object)->zombie;
}

struct region_pool_usage region_pool_usage(struct region_pool *pool) {
    struct region_pool_usage usage;
    pthread_mutex_lock(&pool->lock);
    usage.reserved_bytes = (size_t)pool->region_count * REGION_BYTES;
    usage.used_bytes = pool->used_granules * REGION_GRANULE;
    usage.dirty_bytes = pool->dirty_granules * REGION_GRANULE;
    usage.huge_bytes = pool->huge_regions * REGION_BYTES;
    usage.large_bytes = atomic_load_explicit(&pool->large_bytes, memory_order_relaxed);
    pthread_mutex_unlock(&pool->lock);
    return usage;
}

bool region_pool_is_settled(struct region_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    bool settled = pool->full_count == 0 && !pool->collapsing;
    pthread_mutex_unlock(&pool->lock);
    return settled;
}

int region_node_of(const void *address) {
    void *page = (void *)((uintptr_t)address & ~4095ul);
    int node = -1;
    if (numa_available() < 0 || move_pages(0, 1, &page, NULL, &node, 0) != 0) return -1;
    return node;
}
