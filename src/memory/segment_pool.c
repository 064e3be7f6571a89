/* See segment_pool.h.
 *
 * The 256 bits of a page are four words, and a stretch does not cross from one word into the next: finding one of k
 * units is k-1 shifts and ands for each word. Where a stretch ends is told by the next unit that is free or begins
 * another. */

#include "memory/segment_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORDS = 4,
    GRANULES = 4,
    SLACK_BYTES = 128 * 1024, /* a small pool is not worth tidying */
};
#define NONE UINT32_MAX

_Static_assert(WORDS * 64 * SEGMENT_UNIT == GRANULES * REGION_GRANULE, "a page has 256 units");

struct segment_page {
    uint64_t free[WORDS];   /* bit per unit: nothing there */
    uint64_t begins[WORDS]; /* bit per unit: a stretch begins there */
    uint32_t granule;
    uint32_t next, previous;
    uint16_t used;   /* units */
    uint8_t longest; /* the list it is on */
};

void segment_pool_init(struct segment_pool *pool, struct region_pool *regions) {
    *pool = (struct segment_pool){.regions = regions, .spare = NONE};
    pthread_mutex_init(&pool->lock, NULL);
    for (unsigned i = 0; i <= SEGMENT_UNITS_MAX; i++) pool->lists[i] = NONE;
}

void segment_pool_destroy(struct segment_pool *pool) {
    pthread_mutex_destroy(&pool->lock);
    free(pool->pages);
}

/* Bits from which `units` free units follow in the same word. */
static uint64_t run_starts(uint64_t free_bits, unsigned units) {
    uint64_t bits = free_bits;
    for (unsigned i = 1; i < units; i++) bits &= free_bits >> i;
    return bits;
}

static unsigned longest_of(const struct segment_page *page) {
    for (unsigned units = SEGMENT_UNITS_MAX; units > 0; units--)
        for (unsigned word = 0; word < WORDS; word++)
            if (run_starts(page->free[word], units)) return units;
    return 0;
}

/* ---- lists ---- */

static void unlist(struct segment_pool *pool, uint32_t number) {
    struct segment_page *page = &pool->pages[number];
    if (page->previous != NONE)
        pool->pages[page->previous].next = page->next;
    else
        pool->lists[page->longest] = page->next;
    if (page->next != NONE) pool->pages[page->next].previous = page->previous;
}

static void enlist(struct segment_pool *pool, uint32_t number, unsigned longest) {
    struct segment_page *page = &pool->pages[number];
    page->longest = (uint8_t)longest;
    page->previous = NONE;
    page->next = pool->lists[longest];
    if (page->next != NONE) pool->pages[page->next].previous = number;
    pool->lists[longest] = number;
}

static void relist(struct segment_pool *pool, uint32_t number) {
    unsigned longest = longest_of(&pool->pages[number]);
    if (longest == pool->pages[number].longest) return;
    unlist(pool, number);
    enlist(pool, number, longest);
}

/* ---- pages ---- */

static uint32_t new_number(struct segment_pool *pool) {
    if (pool->spare != NONE) {
        uint32_t number = pool->spare;
        pool->spare = pool->pages[number].next;
        return number;
    }
    if (pool->page_count == pool->page_capacity) {
        uint32_t capacity = pool->page_capacity ? 2 * pool->page_capacity : 16;
        struct segment_page *pages = realloc(pool->pages, capacity * sizeof(*pages));
        if (!pages) return NONE;
        pool->pages = pages;
        pool->page_capacity = capacity;
    }
    return pool->page_count++;
}

static uint32_t new_page(struct segment_pool *pool) {
    uint32_t number = new_number(pool);
    if (number == NONE) return NONE;
    struct segment_page *page = &pool->pages[number];
    *page = (struct segment_page){.granule = region_allocate_run(pool->regions, GRANULES)};
    if (page->granule == REGION_NO_GRANULE) {
        page->next = pool->spare;
        pool->spare = number;
        return NONE;
    }
    memset(page->free, 0xff, sizeof(page->free));
    region_page(pool->regions, page->granule)->next = number;
    pool->page_bytes += GRANULES * REGION_GRANULE;
    enlist(pool, number, SEGMENT_UNITS_MAX);
    return number;
}

static void free_page(struct segment_pool *pool, uint32_t number) {
    struct segment_page *page = &pool->pages[number];
    unlist(pool, number);
    region_free_run(pool->regions, page->granule);
    pool->page_bytes -= GRANULES * REGION_GRANULE;
    page->granule = REGION_NO_GRANULE;
    page->next = pool->spare;
    pool->spare = number;
}

/* ---- stretches ---- */

static uint64_t mask_of(unsigned units) {
    return (UINT64_C(1) << units) - 1;
}

static void *take(struct segment_pool *pool, uint32_t number, unsigned units) {
    struct segment_page *page = &pool->pages[number];
    for (unsigned word = 0; word < WORDS; word++) {
        uint64_t starts = run_starts(page->free[word], units);
        if (!starts) continue;
        unsigned bit = (unsigned)__builtin_ctzll(starts);
        page->free[word] &= ~(mask_of(units) << bit);
        page->begins[word] |= UINT64_C(1) << bit;
        page->used = (uint16_t)(page->used + units);
        pool->used_bytes += units * SEGMENT_UNIT;
        relist(pool, number);
        return (char *)region_address(pool->regions, page->granule) + (word * 64 + bit) * SEGMENT_UNIT;
    }
    return NULL;
}

void *segment_pool_allocate(struct segment_pool *pool, size_t bytes) {
    unsigned units = (unsigned)((bytes + SEGMENT_UNIT - 1) / SEGMENT_UNIT);
    assert(units >= 1 && units <= SEGMENT_UNITS_MAX);
    pthread_mutex_lock(&pool->lock);
    uint32_t number = NONE;
    for (unsigned longest = units; longest <= SEGMENT_UNITS_MAX && number == NONE; longest++)
        number = pool->lists[longest];
    if (number == NONE) number = new_page(pool);
    void *segment = number == NONE ? NULL : take(pool, number, units);
    pthread_mutex_unlock(&pool->lock);
    return segment;
}

/* Units from `bit` on that belong to the stretch beginning there. */
static unsigned length_of(const struct segment_page *page, unsigned word, unsigned bit) {
    uint64_t ends = (page->free[word] | page->begins[word]) >> bit >> 1;
    unsigned length = ends ? (unsigned)__builtin_ctzll(ends) + 1 : 64 - bit;
    return length;
}

void segment_pool_free(struct segment_pool *pool, void *segment) {
    pthread_mutex_lock(&pool->lock);
    uint32_t granule = region_head_granule(pool->regions, segment);
    uint32_t number = region_page(pool->regions, granule)->next;
    struct segment_page *page = &pool->pages[number];
    unsigned unit = (unsigned)((char *)segment - (char *)region_address(pool->regions, granule)) / SEGMENT_UNIT;
    unsigned word = unit / 64, bit = unit % 64;
    assert(page->granule == granule && (page->begins[word] >> bit) & 1);
    unsigned units = length_of(page, word, bit);
    page->begins[word] &= ~(UINT64_C(1) << bit);
    page->free[word] |= mask_of(units) << bit;
    page->used = (uint16_t)(page->used - units);
    pool->used_bytes -= units * SEGMENT_UNIT;
    if (page->used == 0)
        free_page(pool, number);
    else
        relist(pool, number);
    pthread_mutex_unlock(&pool->lock);
}

bool segment_pool_is_loose(struct segment_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    bool loose = pool->page_bytes > pool->used_bytes + pool->used_bytes / 8 + SLACK_BYTES;
    pthread_mutex_unlock(&pool->lock);
    return loose;
}

bool segment_pool_is_sparse(struct segment_pool *pool, const void *segment) {
    pthread_mutex_lock(&pool->lock);
    uint32_t granule = region_head_granule(pool->regions, segment);
    bool sparse = pool->pages[region_page(pool->regions, granule)->next].used < WORDS * 64 / 4 * 3;
    pthread_mutex_unlock(&pool->lock);
    return sparse;
}

bool segment_pool_validate(struct segment_pool *pool) {
    bool valid = true;
    size_t used = 0, bytes = 0;
    pthread_mutex_lock(&pool->lock);
    for (unsigned longest = 0; longest <= SEGMENT_UNITS_MAX; longest++) {
        uint32_t previous = NONE;
        for (uint32_t number = pool->lists[longest]; number != NONE;
             previous = number, number = pool->pages[number].next) {
            const struct segment_page *page = &pool->pages[number];
            unsigned free_units = 0;
            for (unsigned word = 0; word < WORDS; word++) {
                free_units += (unsigned)__builtin_popcountll(page->free[word]);
                valid = valid && !(page->free[word] & page->begins[word]);
            }
            valid = valid && page->previous == previous && page->longest == longest && longest_of(page) == longest &&
                    page->used == WORDS * 64 - free_units && page->used > 0;
            used += page->used * (size_t)SEGMENT_UNIT;
            bytes += GRANULES * REGION_GRANULE;
        }
    }
    valid = valid && used == pool->used_bytes && bytes == pool->page_bytes;
    pthread_mutex_unlock(&pool->lock);
    return valid;
}
