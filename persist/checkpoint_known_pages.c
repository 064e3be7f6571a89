/* A cursor through the chunks of a collection's pages: see checkpoint_known_pages.h. */

#include "persist/checkpoint_known_pages.h"

#include "record/reference.h"

#include <stdlib.h>

struct known_page {
    uint64_t ref; /* 0: not known */
    struct checkpoint_print print;
};

struct checkpoint_known_pages {
    struct checkpoint_known *known;
    uint32_t collection, next; /* the chunk that comes next */
    uint32_t first, count;     /* pages at hand */
    struct known_page pages[CHECKPOINT_STRETCH];
};

struct checkpoint_known_pages *checkpoint_known_pages_create(struct checkpoint_known *known) {
    struct checkpoint_known_pages *pages = known ? calloc(1, sizeof(*pages)) : NULL;
    if (!pages) return NULL;
    pages->known = known;
    pages->collection = UINT32_MAX;
    return pages;
}

void checkpoint_known_pages_destroy(struct checkpoint_known_pages *pages) {
    free(pages);
}

/* The file was checked by its sums; what it says is still looked at before it is used. */
static void take_chunk(struct checkpoint_known_pages *pages, const struct checkpoint_place *place,
                       const char *payload) {
    const char *entry = payload + sizeof(struct checkpoint_pages), *print = entry + place->count * sizeof(uint64_t);
    const char *end = payload + place->bytes;
    for (uint32_t i = 0; i < place->count; i++, entry += sizeof(uint64_t)) {
        struct known_page *page = &pages->pages[i];
        uint64_t value;
        memcpy(&value, entry, sizeof(value));
        page->ref = 0;
        if (!(value & CHECKPOINT_PAGE_HAS_PRINT) || (size_t)(end - print) < sizeof(page->print)) continue;
        uint64_t ref = value & (CHECKPOINT_PAGE_HAS_PRINT - 1);
        if (checkpoint_known_is_worth_it(pages->known, ref)) page->ref = ref;
        memcpy(&page->print, print, sizeof(page->print));
        print += sizeof(page->print);
    }
    pages->count = place->count;
}

/* The next chunk, if there is one of this collection. */
static bool advance(struct checkpoint_known_pages *pages) {
    const struct checkpoint_place *place = checkpoint_known_place(pages->known, pages->next);
    if (!place || place->kind != CHECKPOINT_PAGES || place->shard != pages->collection) return false;
    const char *payload = checkpoint_known_read(pages->known, pages->next++);
    if (!payload) return false;
    struct checkpoint_pages head;
    memcpy(&head, payload, sizeof(head));
    pages->first = head.first;
    take_chunk(pages, place, payload);
    return true;
}

void checkpoint_known_pages_bring(struct checkpoint_known_pages *pages, uint32_t collection, uint32_t first) {
    if (!pages) return;
    if (pages->collection != collection) {
        pages->collection = collection;
        pages->next = checkpoint_known_first(pages->known, CHECKPOINT_PAGES, collection);
        pages->first = pages->count = 0;
    }
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
