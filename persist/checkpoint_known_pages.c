/* A cursor through the chunks of a collection's pages: see checkpoint_known_pages.h. */

#include "persist/checkpoint_known_pages.h"

#include "persist/checkpoint_root.h"
#include "record/reference.h"

#include <stdlib.h>

struct known_page {
    uint64_t ref; /* 0: not known */
    struct checkpoint_print print;
};

/* Pages that stand with their root, in what is at hand of a shard and database. */
struct beside {
    uint32_t collection, end[COLLECTION_PARTS];
    struct span pages;
};

struct checkpoint_known_pages {
    struct checkpoint_known *known;
    /* Roots of a shard and database. */
    uint32_t shard, database;
    struct state_writer roots; /* their chunks, one behind the other */
    struct beside *beside;     /* by their ids */
    size_t beside_count, beside_capacity;
    /* The collection of which pages are at hand. */
    uint32_t collection, next; /* the chunk that comes next */
    uint32_t first, count;     /* pages at hand */
    struct known_page pages[CHECKPOINT_STRETCH];
};

struct checkpoint_known_pages *checkpoint_known_pages_create(struct checkpoint_known *known) {
    struct checkpoint_known_pages *pages = known ? calloc(1, sizeof(*pages)) : NULL;
    if (!pages) return NULL;
    pages->known = known;
    pages->shard = pages->collection = UINT32_MAX;
    return pages;
}

void checkpoint_known_pages_destroy(struct checkpoint_known_pages *pages) {
    if (!pages) return;
    state_writer_free(&pages->roots);
    free(pages->beside);
    free(pages);
}

/* The file was checked by its sums; what it says is still looked at before it is used. The prints of these entries are
 * taken off `prints`. */
static void take_entries(struct checkpoint_known_pages *pages, uint32_t first, const char *entries, uint32_t count,
                         struct span *prints) {
    pages->first = first;
    pages->count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct known_page *page = &pages->pages[i];
        uint64_t value;
        memcpy(&value, entries + i * sizeof(value), sizeof(value));
        page->ref = 0;
        if (!(value & CHECKPOINT_PAGE_HAS_PRINT) || prints->length < sizeof(page->print)) continue;
        uint64_t ref = value & (CHECKPOINT_PAGE_HAS_PRINT - 1);
        if (checkpoint_known_is_worth_it(pages->known, ref)) page->ref = ref;
        memcpy(&page->print, prints->data, sizeof(page->print));
        *prints = span_of(prints->data + sizeof(page->print), prints->length - sizeof(page->print));
    }
}

/* ---- with their roots ---- */

static int by_collection(const void *a, const void *b) {
    uint32_t left = ((const struct beside *)a)->collection, right = ((const struct beside *)b)->collection;
    return (left > right) - (left < right);
}

static bool note_beside(struct checkpoint_known_pages *pages, const struct checkpoint_root_view *view) {
    if (pages->beside_count == pages->beside_capacity) {
        size_t capacity = pages->beside_capacity ? 2 * pages->beside_capacity : 256;
        struct beside *beside = realloc(pages->beside, capacity * sizeof(*beside));
        if (!beside) return false;
        pages->beside = beside;
        pages->beside_capacity = capacity;
    }
    pages->beside[pages->beside_count++] = (struct beside){
        .collection = view->root.collection, .end = {view->root.end[0], view->root.end[1]}, .pages = view->pages};
    return true;
}

/* Of all chunks of roots, once they do not move any more. */
static void note_all_beside(struct checkpoint_known_pages *pages) {
    struct span rest = span_of(pages->roots.bytes, pages->roots.length);
    struct checkpoint_root_view view;
    while (rest.length && checkpoint_root_next(&rest, &view))
        if (checkpoint_root_entries(&view.root) && !note_beside(pages, &view)) break;
    if (pages->beside_count) qsort(pages->beside, pages->beside_count, sizeof(*pages->beside), by_collection);
}

/* What cannot be read, or for which there is no memory, is not known. */
void checkpoint_known_pages_begin(struct checkpoint_known_pages *pages, uint32_t shard, uint32_t database,
                                  bool walked) {
    if (!pages || !walked || (pages->shard == shard && pages->database == database)) return;
    const struct checkpoint_place *place;
    uint32_t chunk = checkpoint_known_first(pages->known, CHECKPOINT_ROOTS, shard);
    pages->shard = shard;
    pages->database = database;
    pages->roots.length = pages->beside_count = 0;
    for (; (place = checkpoint_known_place(pages->known, chunk)); chunk++) {
        if (place->kind != CHECKPOINT_ROOTS || place->shard != shard) break;
        const char *payload = place->database == database ? checkpoint_known_read(pages->known, chunk) : NULL;
        if (payload) state_write(&pages->roots, payload, place->bytes);
    }
    if (!pages->roots.failed) note_all_beside(pages);
    pages->roots.failed = false;
}

/* False: they do not stand with the root, or that is not at hand. */
static bool take_beside(struct checkpoint_known_pages *pages, uint32_t collection, unsigned part) {
    const struct beside wanted = {.collection = collection}, *beside = NULL;
    if (pages->beside_count)
        beside = bsearch(&wanted, pages->beside, pages->beside_count, sizeof(wanted), by_collection);
    if (!beside) return false;
    uint32_t entries = beside->end[0] + beside->end[1];
    const char *at = beside->pages.data;
    struct span prints = span_of(at + entries * sizeof(uint64_t), beside->pages.length - entries * sizeof(uint64_t));
    take_entries(pages, 0, at, beside->end[0], &prints);
    if (part == 1)
        take_entries(pages, PAGE_NUMBER_MAX, at + beside->end[0] * sizeof(uint64_t), beside->end[1], &prints);
    return true;
}

/* ---- in chunks of their own ---- */

/* The next chunk, if there is one of this collection. */
static bool advance(struct checkpoint_known_pages *pages) {
    const struct checkpoint_place *place = checkpoint_known_place(pages->known, pages->next);
    if (!place || place->kind != CHECKPOINT_PAGES || place->shard != pages->collection) return false;
    const char *payload = checkpoint_known_read(pages->known, pages->next++);
    if (!payload) return false;
    struct checkpoint_pages head;
    memcpy(&head, payload, sizeof(head));
    size_t entries = sizeof(head), print = entries + place->count * sizeof(uint64_t);
    struct span prints = span_of(payload + print, place->bytes - print);
    take_entries(pages, head.first, payload + entries, place->count, &prints);
    return true;
}

void checkpoint_known_pages_bring(struct checkpoint_known_pages *pages, uint32_t collection, uint32_t first) {
    if (!pages) return;
    if (pages->collection != collection) {
        pages->collection = collection;
        pages->next = checkpoint_known_first(pages->known, CHECKPOINT_PAGES, collection);
        pages->first = pages->count = 0;
    }
    if (take_beside(pages, collection, first >> 31)) return;
    while (pages->count == 0 || (uint64_t)pages->first + pages->count <= first)
        if (!advance(pages)) {
            pages->count = 0;
            return;
        }
}

bool checkpoint_known_pages_find(const struct checkpoint_known_pages *pages, uint32_t number,
                                 const struct checkpoint_print *print, uint64_t *ref) {
    if (!pages || number < pages->first || number - pages->first >= pages->count) return false;
    const struct known_page *page = &pages->pages[number - pages->first];
    if (!page->ref || memcmp(&page->print, print, sizeof(*print)) != 0) return false;
    *ref = page->ref;
    return true;
}
