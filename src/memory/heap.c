/* The slab heap of one shard. See heap.h for its picture.
 *
 * Allocation stays with a page until it is full, then takes the fullest page that has room, so sparse pages drain by
 * themselves and neighbours in time are neighbours in memory; a page's freed
 * objects are reused before its never-used ones, which keep costing no memory until first touched.
 * Compaction works class by class: when the free objects of a class would fill at least one whole page and
 * a twelfth of the class, the sparsest pages are emptied into the fullest. A page that empties goes back
 * to the pool at once. */

#include "memory/heap.h"

#include "base/poison.h"

#include <assert.h>
#include <string.h>

enum {
    SMALL_STEP = 8,
    SMALL_MAX = 512,
    SMALL_CLASSES = (SMALL_MAX - (int)HEAP_OBJECT_MIN) / SMALL_STEP + 1, /* 63 */
    MEDIUM_MAX = 8192,
    MEDIUM_STEPS = 8,
    MEDIUM_CLASSES = 4 * MEDIUM_STEPS, /* 512..8192 */
    FRACTION_CLASSES = 5,              /* a 64 KB page in 6, 5, 4, 3, 2 */
    RUN_CLASS = SMALL_CLASSES + MEDIUM_CLASSES + FRACTION_CLASSES,
    PAGE_SMALL = 1, /* granules */
    PAGE_LARGE = 4,
    PREFETCH_BYTES = 256, /* further on the processor sees by itself where it goes */
    PREFETCHED_ALREADY = 120,
    PREFETCH_PART_MAX = 1024,
    FREE_MARK = 8, /* bytes of a freed object that are read: the zero and the next one's index */
};
_Static_assert(RUN_CLASS < HEAP_CLASSES, "every class has its lists");

#define PAGE_LARGE_BYTES (PAGE_LARGE * REGION_GRANULE)
#define RUN_BYTES_MAX    (REGION_RUN_MAX * REGION_GRANULE)
#define FRACTION_MAX     (PAGE_LARGE_BYTES / 2)

static const uint16_t fraction_size[FRACTION_CLASSES] = {10920, 13104, 16384, 21840, 32768};

static unsigned class_of(size_t bytes) {
    if (bytes <= SMALL_MAX) return bytes <= HEAP_OBJECT_MIN ? 0 : (unsigned)(bytes - HEAP_OBJECT_MIN + 7) / SMALL_STEP;
    if (bytes <= MEDIUM_MAX) {
        unsigned shift = 63u - (unsigned)__builtin_clzll(bytes - 1); /* 9..12: bytes in (2^shift, 2^(shift+1)] */
        unsigned step = (unsigned)((bytes - 1) >> (shift - 3)) & 7;
        return SMALL_CLASSES + (shift - 9) * MEDIUM_STEPS + step;
    }
    unsigned i = 0;
    while (i < FRACTION_CLASSES && bytes > fraction_size[i]) i++;
    return SMALL_CLASSES + MEDIUM_CLASSES + i;
}

static size_t class_size(unsigned index) {
    if (index < SMALL_CLASSES) return HEAP_OBJECT_MIN + index * SMALL_STEP;
    index -= SMALL_CLASSES;
    if (index < MEDIUM_CLASSES) return ((size_t)512 << (index / MEDIUM_STEPS)) / 8 * (index % MEDIUM_STEPS + 9);
    return fraction_size[index - MEDIUM_CLASSES];
}

size_t heap_size_for(size_t bytes) {
    if (bytes <= FRACTION_MAX) return class_size(class_of(bytes));
    if (bytes <= RUN_BYTES_MAX) return (bytes + REGION_GRANULE - 1) / REGION_GRANULE * REGION_GRANULE;
    return (bytes + 64 + 4095) / 4096 * 4096 - 64;
}

static void mark_free(void *object, uint16_t next) {
    memset(object, 0, 4);
    memcpy((char *)object + 4, &next, sizeof(next));
}

static uint16_t next_free(const void *object) {
    uint16_t next;
    memcpy(&next, (const char *)object + 4, sizeof(next));
    return next;
}

void heap_init(struct heap *heap, struct region_pool *pool) {
    memset(heap, 0, sizeof(*heap));
    heap->pool = pool;
    for (unsigned i = 0; i < HEAP_CLASSES; i++) {
        heap->classes[i].current = REGION_NO_GRANULE;
        for (unsigned bin = 0; bin < HEAP_BINS; bin++) heap->classes[i].bins[bin] = REGION_NO_GRANULE;
    }
}

/* ---- the lists of pages with room ---- */

static unsigned bin_for(const struct slab_page *page) {
    return page->live * (unsigned)HEAP_BINS / page->capacity; /* = HEAP_BINS when full: on no list */
}

static void list_remove(struct heap *heap, struct heap_class *class, uint32_t granule) {
    struct slab_page *page = region_page(heap->pool, granule);
    if (page->previous != REGION_NO_GRANULE)
        region_page(heap->pool, page->previous)->next = page->next;
    else
        class->bins[page->bin] = page->next;
    if (page->next != REGION_NO_GRANULE) region_page(heap->pool, page->next)->previous = page->previous;
}

static void list_insert(struct heap *heap, struct heap_class *class, uint32_t granule, unsigned bin) {
    struct slab_page *page = region_page(heap->pool, granule);
    page->bin = (uint8_t)bin;
    page->previous = REGION_NO_GRANULE;
    page->next = class->bins[bin];
    if (page->next != REGION_NO_GRANULE) region_page(heap->pool, page->next)->previous = granule;
    class->bins[bin] = granule;
}

static void rebin(struct heap *heap, struct heap_class *class, uint32_t granule, struct slab_page *page) {
    unsigned bin = bin_for(page);
    if (bin == page->bin) return;
    if (page->bin < HEAP_BINS) list_remove(heap, class, granule);
    if (bin < HEAP_BINS) list_insert(heap, class, granule, bin);
    page->bin = (uint8_t)bin;
}

/* ---- sums ---- */

static void add_objects(struct heap_sums *sums, int64_t objects, int64_t bytes) {
    stat_add(&sums->live_objects, (uint64_t)objects);
    stat_add(&sums->live_bytes, (uint64_t)bytes);
}

static void add_pages(struct heap_sums *sums, int64_t bytes, int64_t untouched) {
    stat_add(&sums->page_bytes, (uint64_t)bytes);
    stat_add(&sums->untouched_bytes, (uint64_t)untouched);
}

static void count_objects(struct heap *heap, int64_t objects, int64_t bytes) {
    add_objects(&heap->sums, objects, bytes);
    if (heap->together) add_objects(heap->together, objects, bytes);
}

static void count_pages(struct heap *heap, int64_t bytes, int64_t untouched) {
    add_pages(&heap->sums, bytes, untouched);
    if (heap->together) add_pages(heap->together, bytes, untouched);
}

static void add_all(struct heap_sums *sums, const struct heap_sums *part, int64_t sign) {
    add_objects(sums, sign * (int64_t)part->live_objects, sign * (int64_t)part->live_bytes);
    add_pages(sums, sign * (int64_t)part->page_bytes, sign * (int64_t)part->untouched_bytes);
}

void heap_count_in(struct heap *heap, struct heap_sums *together) {
    if (heap->together) add_all(heap->together, &heap->sums, -1);
    if (together) add_all(together, &heap->sums, 1);
    heap->together = together;
}

/* ---- memory that was never touched ---- */

static size_t page_bytes_of(const struct slab_page *page) {
    return page->granules * REGION_GRANULE;
}

/* What the objects handed out so far have touched of a page that was clean, in the kernel's pages. */
static size_t touched_bytes(const struct slab_page *page, unsigned fresh) {
    size_t page_size = 4096, bytes = (fresh * class_size(page->class_index) + page_size - 1) / page_size * page_size;
    return bytes < page_bytes_of(page) ? bytes : page_bytes_of(page);
}

static void count_touched(struct heap *heap, const struct slab_page *page, unsigned before) {
    if (page->clean)
        count_pages(heap, 0, (int64_t)touched_bytes(page, before) - (int64_t)touched_bytes(page, page->fresh));
}

/* ---- allocation ---- */

static uint32_t new_page(struct heap *heap, struct heap_class *class, unsigned index) {
    unsigned granules = index < SMALL_CLASSES ? PAGE_SMALL : PAGE_LARGE;
    uint32_t granule = region_allocate_run(heap->pool, granules);
    if (granule == REGION_NO_GRANULE) return granule;
    struct slab_page *page = region_page(heap->pool, granule);
    page->class_index = (uint16_t)index;
    page->capacity = (uint16_t)(granules * REGION_GRANULE / class_size(index));
    list_insert(heap, class, granule, 0);
    class->pages++;
    int64_t bytes = (int64_t)page_bytes_of(page);
    count_pages(heap, bytes, page->clean ? bytes : 0);
    poison_memory(region_address(heap->pool, granule), granules * REGION_GRANULE);
    return granule;
}

static void *take_object(struct heap *heap, struct heap_class *class, uint32_t granule, size_t size) {
    struct slab_page *page = region_page(heap->pool, granule);
    char *base = region_address(heap->pool, granule), *object;
    if (page->free_head) {
        object = base + (size_t)(page->free_head - 1) * size;
        page->free_head = next_free(object);
    } else {
        object = base + (size_t)page->fresh++ * size;
        count_touched(heap, page, page->fresh - 1u);
    }
    unpoison_memory(object, size);
    page->live++;
    class->current = page->live < page->capacity ? granule : REGION_NO_GRANULE;
    rebin(heap, class, granule, page);
    class->live++;
    count_objects(heap, 1, (int64_t)size);
    return object;
}

static void *allocate_own(struct heap *heap, size_t bytes) {
    void *object;
    size_t size = heap_size_for(bytes);
    if (bytes <= RUN_BYTES_MAX) {
        uint32_t granule = region_allocate_run(heap->pool, (unsigned)(size / REGION_GRANULE));
        if (granule == REGION_NO_GRANULE) return NULL;
        struct slab_page *page = region_page(heap->pool, granule);
        page->class_index = RUN_CLASS;
        page->capacity = page->live = page->fresh = 1;
        page->bin = HEAP_BINS;
        object = region_address(heap->pool, granule);
    } else {
        object = bytes <= HEAP_OBJECT_MAX ? region_allocate_large(heap->pool, bytes) : NULL;
        if (!object) return NULL;
    }
    count_objects(heap, 1, (int64_t)size);
    count_pages(heap, (int64_t)size, 0);
    return object;
}

void *heap_allocate(struct heap *heap, size_t bytes) {
    if (bytes > FRACTION_MAX) return allocate_own(heap, bytes);
    unsigned index = class_of(bytes);
    struct heap_class *class = &heap->classes[index];
    uint32_t granule = class->current;
    for (int bin = HEAP_BINS - 1; bin >= 0 && granule == REGION_NO_GRANULE; bin--) granule = class->bins[bin];
    if (granule == REGION_NO_GRANULE) granule = new_page(heap, class, index);
    if (granule == REGION_NO_GRANULE) return NULL;
    return take_object(heap, class, granule, class_size(index));
}

/* What it reads may be just being changed, and be wrong: pages are described in memory that stays, and the address it
 * leads to is prefetched only, which never fails. */
__attribute__((no_sanitize_thread)) void heap_prefetch(const struct heap *heap, size_t bytes) {
    if (bytes > FRACTION_MAX) return;
    unsigned index = class_of(bytes);
    const struct heap_class *class = &heap->classes[index];
    uint32_t granule = class->current;
    for (int bin = HEAP_BINS - 1; bin >= 0 && granule == REGION_NO_GRANULE; bin--) granule = class->bins[bin];
    if (granule == REGION_NO_GRANULE) return;
    const struct slab_page *page = region_page(heap->pool, granule);
    size_t at = page->free_head ? page->free_head - 1u : page->fresh, size = class_size(index);
    const char *object = (const char *)region_address(heap->pool, granule) + at * size;
    for (size_t line = 0; line < size && line < PREFETCH_BYTES; line += 64) __builtin_prefetch(object + line, 1);
}

/* As above: the class may be just being changed, which leads to a useless prefetch. Into the second level: what is
 * asked for is more than the first has places for requests under way. */
__attribute__((no_sanitize_thread)) void heap_prefetch_part(const struct heap *heap, const void *object,
                                                            enum heap_part part) {
    if (!region_contains(heap->pool, object)) return;
    unsigned index = region_page(heap->pool, region_head_granule(heap->pool, object))->class_index;
    if (index >= RUN_CLASS) return;
    size_t size = class_size(index), from = PREFETCHED_ALREADY, to = size;
    if (part == HEAP_FIRST_QUARTER && size / 4 + PREFETCHED_ALREADY < size) to = size / 4 + PREFETCHED_ALREADY;
    if (part == HEAP_LAST_QUARTER && size - size / 4 > from) from = size - size / 4;
    if (to > from + PREFETCH_PART_MAX) to = from + PREFETCH_PART_MAX;
    for (size_t at = from; at < to; at += 64) __builtin_prefetch((const char *)object + at, 0, 2);
}

/* ---- freeing ---- */

static void free_large(struct heap *heap, void *object) {
    int64_t size = (int64_t)region_large_bytes(object);
    count_objects(heap, -1, -size);
    count_pages(heap, -size, 0);
    if (*region_large_pins(object))
        *region_large_zombie(object) = true;
    else
        region_free_large(heap->pool, object);
}

void heap_free(struct heap *heap, void *object) {
    if (!region_contains(heap->pool, object)) {
        free_large(heap, object);
        return;
    }
    uint32_t granule = region_head_granule(heap->pool, object);
    struct slab_page *page = region_page(heap->pool, granule);
    int64_t bytes = (int64_t)page_bytes_of(page);
    if (page->class_index == RUN_CLASS) {
        count_objects(heap, -1, -bytes);
        count_pages(heap, -bytes, 0);
        if (page->pins)
            page->zombie = 1;
        else
            region_free_run(heap->pool, granule);
        return;
    }
    struct heap_class *class = &heap->classes[page->class_index];
    size_t size = class_size(page->class_index);
    size_t offset = (size_t)((char *)object - (char *)region_address(heap->pool, granule));
    assert(page->live > 0 && offset % size == 0);
    mark_free(object, page->free_head);
    poison_memory((char *)object + FREE_MARK, size - FREE_MARK);
    page->free_head = (uint16_t)(offset / size + 1);
    page->live--;
    class->live--;
    count_objects(heap, -1, -(int64_t)size);
    if (page->live > 0) {
        rebin(heap, class, granule, page);
        return;
    }
    if (page->bin < HEAP_BINS) list_remove(heap, class, granule);
    if (class->current == granule) class->current = REGION_NO_GRANULE;
    class->pages--;
    count_pages(heap, -bytes, page->clean ? (int64_t)touched_bytes(page, page->fresh) - bytes : 0);
    region_free_run(heap->pool, granule);
}

size_t heap_usable_bytes(const struct heap *heap, const void *object) {
    if (!region_contains(heap->pool, object)) return region_large_bytes(object);
    const struct slab_page *page = region_page(heap->pool, region_head_granule(heap->pool, object));
    return page->class_index == RUN_CLASS ? page->granules * REGION_GRANULE : class_size(page->class_index);
}

void *heap_resize_large(struct heap *heap, void *object, size_t bytes) {
    if (region_contains(heap->pool, object) || bytes <= RUN_BYTES_MAX || bytes > HEAP_OBJECT_MAX) return NULL;
    assert(!*region_large_pins(object));
    size_t before = region_large_bytes(object);
    void *moved = region_resize_large(heap->pool, object, bytes);
    if (!moved) return NULL;
    size_t after = region_large_bytes(moved);
    int64_t more = (int64_t)after - (int64_t)before;
    count_objects(heap, 0, more);
    count_pages(heap, more, 0);
    return moved;
}

/* ---- pins ---- */

bool heap_can_pin(const struct heap *heap, const void *object) {
    return !region_contains(heap->pool, object) ||
           region_page(heap->pool, region_head_granule(heap->pool, object))->class_index == RUN_CLASS;
}

static uint16_t *pins_of(const struct heap *heap, void *object) {
    if (!region_contains(heap->pool, object)) return region_large_pins(object);
    return &region_page(heap->pool, region_head_granule(heap->pool, object))->pins;
}

void heap_pin(struct heap *heap, void *object) {
    assert(heap_can_pin(heap, object));
    uint16_t *pins = pins_of(heap, object);
    assert(*pins < UINT16_MAX);
    ++*pins;
}

void heap_unpin(struct heap *heap, void *object) {
    uint16_t *pins = pins_of(heap, object);
    assert(*pins > 0);
    if (--*pins > 0) return;
    if (!region_contains(heap->pool, object)) {
        if (*region_large_zombie(object)) region_free_large(heap->pool, object);
        return;
    }
    uint32_t granule = region_head_granule(heap->pool, object);
    if (region_page(heap->pool, granule)->zombie) region_free_run(heap->pool, granule);
}

bool heap_is_pinned(const struct heap *heap, const void *object) {
    return heap_can_pin(heap, object) && *pins_of(heap, (void *)(uintptr_t)object) > 0;
}

/* ---- compaction ---- */

static size_t class_free(const struct heap_class *class, unsigned index) {
    unsigned granules = index < SMALL_CLASSES ? PAGE_SMALL : PAGE_LARGE;
    return (size_t) class->pages * (granules * REGION_GRANULE / class_size(index)) - class->live;
}

static bool worth_compacting(const struct heap_class *class, unsigned index) {
    if (class->pages < 2) return false;
    size_t capacity = (index < SMALL_CLASSES ? PAGE_SMALL : PAGE_LARGE) * REGION_GRANULE / class_size(index);
    size_t spare = class_free(class, index);
    return spare > 2 * capacity && spare * 12 > (size_t) class->pages * capacity;
}

static uint32_t sparsest_page(const struct heap_class *class) {
    for (unsigned bin = 0; bin < HEAP_BINS; bin++)
        if (class->bins[bin] != REGION_NO_GRANULE) return class->bins[bin];
    return REGION_NO_GRANULE;
}

/* Moves the objects of one page into others of its class. The page is off the lists meanwhile, so that
 * no copy lands in it. */
static size_t empty_page(struct heap *heap, unsigned index, uint32_t granule, heap_relocate *relocate, void *ctx) {
    struct heap_class *class = &heap->classes[index];
    struct slab_page *page = region_page(heap->pool, granule);
    size_t size = class_size(index), moved = 0;
    char *base = region_address(heap->pool, granule);
    if (class->current == granule) class->current = REGION_NO_GRANULE;
    list_remove(heap, class, granule);
    page->bin = HEAP_BINS;
    unsigned fresh = page->fresh;
    for (unsigned i = 0; i < fresh; i++) {
        char *object = base + i * size;
        if (object[0] == 0) continue;
        void *copy = heap_allocate(heap, size);
        if (!copy) break;
        memcpy(copy, object, size);
        if (!relocate(ctx, object, copy, size)) {
            heap_free(heap, copy);
            continue;
        }
        moved++;
        bool last = page->live == 1;
        heap_free(heap, object);
        if (last) return moved;
        if (page->bin < HEAP_BINS) {
            list_remove(heap, class, granule);
            page->bin = HEAP_BINS;
        }
    }
    rebin(heap, class, granule, page);
    return moved;
}

size_t heap_compact(struct heap *heap, size_t budget_objects, heap_relocate *relocate, void *ctx) {
    size_t moved = 0;
    for (unsigned step = 0; step < RUN_CLASS && moved < budget_objects; step++) {
        unsigned index = heap->compact_class;
        struct heap_class *class = &heap->classes[index];
        while (moved < budget_objects && worth_compacting(class, index)) {
            uint32_t granule = sparsest_page(class);
            if (granule == REGION_NO_GRANULE || region_page(heap->pool, granule)->bin == HEAP_BINS - 1) break;
            size_t count = empty_page(heap, index, granule, relocate, ctx);
            moved += count;
            if (count == 0) break;
        }
        if (moved < budget_objects) heap->compact_class = (index + 1) % RUN_CLASS;
    }
    return moved;
}

bool heap_validate(const struct heap *heap) {
    size_t live_bytes = 0;
    for (unsigned index = 0; index < RUN_CLASS; index++) {
        const struct heap_class *class = &heap->classes[index];
        live_bytes += class->live * class_size(index);
        for (unsigned bin = 0; bin < HEAP_BINS; bin++) {
            uint32_t previous = REGION_NO_GRANULE;
            for (uint32_t granule = class->bins[bin]; granule != REGION_NO_GRANULE;) {
                const struct slab_page *page = region_page(heap->pool, granule);
                if (page->class_index != index || page->bin != bin || page->previous != previous) return false;
                if (bin_for(page) != bin || page->fresh > page->capacity) return false;
                unsigned freed = 0;
                const char *base = region_address(heap->pool, granule);
                for (unsigned i = page->free_head; i; i = next_free(base + (i - 1) * class_size(index))) freed++;
                if (page->live + freed != page->fresh) return false;
                previous = granule;
                granule = page->next;
            }
        }
    }
    const struct heap_sums *sums = &heap->sums;
    return live_bytes <= sums->live_bytes && sums->live_bytes + sums->untouched_bytes <= sums->page_bytes;
}
