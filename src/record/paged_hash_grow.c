/* How a paged hash grows and shrinks: linear hashing, a page at a time.
 *
 *   pages 0 .. n - 1.    Page n is split off from page p = n without its highest bit: the items of p whose hash has
 * that bit go to n. Merging undoes exactly that: page n - 1 goes back to its parent.
 *
 * So the table is known by the number of its pages alone. A split waits for its page while that is cold, until it is
 * overdue by a quarter; a merge until it is overdue by a half: a table that lies on a tier mostly is not read in order
 * to be kept in shape.
 *
 * Order of steps: the pages that lose items are first brought into memory as they are (page_edit() of the same length),
 * so that nothing can fail once items were copied. A split that cannot have memory for the new page has changed
 * nothing; neither has a merge. */

#include "record/collection.h"
#include "record/paged_hash_private.h"

#include <assert.h>

enum { COLD_SPLIT_FILL = PAGED_HASH_FILL * 5 / 4, TOUCHED_AHEAD_MAX = 256 };

static bool split_is_due(const struct paged_hash *hash, uint64_t fill) {
    return hash->page_count < hash->count && hash->item_bytes > hash->page_count * fill;
}

/* ---- splitting ---- */

struct division {
    uint64_t bits[(HASH_PAGE_ITEMS_MAX + 63) / 64 + 1]; /* of what goes */
    uint32_t moved, kept;
    size_t moved_bytes;
    uint32_t moved_width;
    bool moved_timed, kept_timed;
};

static void divide(const struct paged_hash *hash, const struct hash_page *page, uint32_t bit,
                   struct division *division) {
    memset(division->bits, 0, ((size_t)page->count / 64 + 1) * sizeof(*division->bits));
    division->moved = division->kept = 0;
    division->moved_bytes = 0;
    division->moved_width = 1;
    division->moved_timed = division->kept_timed = false;
    size_t at = hash->kind == PAGED_HASH_SCORES ? 0 : hash_page_place(page, 0);
    for (uint32_t i = 0; i < page->count; i++) {
        struct paged_hash_item item;
        size_t length = hash_page_item(page, i, at, &item);
        at += length;
        uint32_t code = hash->kind == PAGED_HASH_SCORES ? item.code : (uint32_t)paged_hash_code(hash, item.field);
        if (code & bit) {
            hash_page_set_bit(division->bits, i);
            division->moved++;
            division->moved_bytes += length;
            division->moved_timed |= item.expiry_ms >= 0;
            if (hash_page_width_for(length) > division->moved_width)
                division->moved_width = hash_page_width_for(length);
        } else {
            division->kept++;
            division->kept_timed |= item.expiry_ms >= 0;
        }
    }
}

enum page_status paged_hash_split(struct paged_hash *hash, struct page_access *access) {
    uint32_t to = hash->page_count, bit, from = paged_hash_parent(to, &bit);
    if (to >= PAGE_NUMBER_MAX - 1) return PAGE_NO_MEMORY;
    struct hash_page page, target;
    size_t length;
    if (!paged_hash_open(hash, access, from, &page, &length)) return PAGE_MISSING;
    struct division division;
    divide(hash, &page, bit, &division);
    uint8_t *bytes = (uint8_t *)page_edit(access, hash->pages, from, length);
    if (!bytes) return paged_hash_failure(access);
    struct paged_hash_fit fit =
        paged_hash_fit(hash->kind, division.moved, 0, division.moved_width, division.moved_bytes);
    uint8_t *added = (uint8_t *)page_add_at(access, hash->pages, to, fit.length);
    if (!added) return paged_hash_failure(access);
    if (!paged_hash_open(hash, access, from, &page, &length)) return PAGE_MISSING; /* cannot be: it is in memory */
    bytes = (uint8_t *)(uintptr_t)page.bytes;
    hash_page_create(&target, hash->kind, added, fit.room, hash->kind == PAGED_HASH_SCORES ? 0 : fit.width);
    hash_page_append_set(&target, added, &page, division.bits);
    hash_page_remove_set(&page, bytes, division.bits);
    assert(page.count == division.kept && target.count == division.moved);
    hash->page_count++;
    paged_hash_set_note(hash, from, division.kept, division.kept_timed);
    paged_hash_set_note(hash, to, division.moved, division.moved_timed);
    paged_hash_shrink_page(hash, access, from, &page, length);
    return PAGE_DONE;
}

bool paged_hash_prepare_growth(struct paged_hash *hash, struct page_access *access, size_t bytes) {
    if (__builtin_expect(hash->item_bytes + bytes <= hash->page_count * (uint64_t)COLD_SPLIT_FILL, 1)) return true;
    if (hash->page_count > hash->count) return true;
    uint32_t bit, from = paged_hash_parent(hash->page_count, &bit);
    return page_touch(access, hash->pages, from);
}

bool paged_hash_touch_growth(const struct paged_hash *hash, struct page_access *access, uint64_t items,
                             uint64_t bytes) {
    if (!hash->page_count || !access->source) return true;
    uint64_t wanted = (hash->item_bytes + bytes + 2 * items) / PAGED_HASH_FILL + 1, end = hash->count + items;
    if (wanted < end) end = wanted;
    if (end > hash->page_count + (uint64_t)TOUCHED_AHEAD_MAX) end = hash->page_count + (uint64_t)TOUCHED_AHEAD_MAX;
    bool at_hand = true;
    for (uint64_t number = hash->page_count; number < end && number < PAGE_NUMBER_MAX; number++) {
        uint32_t bit, from = paged_hash_parent((uint32_t)number, &bit);
        if (from < hash->page_count && !page_touch(access, hash->pages, from)) at_hand = false;
    }
    return at_hand;
}

/* ---- merging ---- */

/* Whether there are `times` as many pages as there should be at the most. */
static bool merge_is_due(const struct paged_hash *hash, uint64_t times) {
    return hash->page_count > 1 && (hash->item_bytes * 2 * times < hash->page_count * (uint64_t)PAGED_HASH_FILL ||
                                    hash->page_count > 2 * times * hash->count + 1);
}

/* What was not yet swept comes to a page that may have been. */
static void note_expiries(struct paged_hash *hash, const struct hash_page *page) {
    size_t at = hash_page_place(page, 0);
    for (uint32_t i = 0; i < page->count; i++) {
        struct paged_hash_item item;
        at += hash_page_item(page, i, at, &item);
        if (item.expiry_ms >= 0) paged_hash_note_expiry(hash, item.expiry_ms);
    }
}

/* Undoes the last split; false: not now, and nothing has changed. */
static bool merge(struct paged_hash *hash, struct page_access *access) {
    uint32_t from = hash->page_count - 1, bit, to = paged_hash_parent(from, &bit);
    struct hash_page source, target;
    size_t source_length, target_length;
    if (!paged_hash_open(hash, access, from, &source, &source_length)) return false;
    if (!paged_hash_open(hash, access, to, &target, &target_length)) return false;
    uint32_t count = source.count + target.count, width = source.width > target.width ? source.width : target.width;
    size_t items = paged_hash_page_items(&source) + paged_hash_page_items(&target);
    if (count > HASH_PAGE_ITEMS_MAX || items > PAGE_PAYLOAD_MAX / 2) return false;
    struct paged_hash_fit fit = paged_hash_fit(hash->kind, count, target.room, width, items);
    if (fit.length < target_length) fit.length = target_length;
    if (!page_edit(access, hash->pages, from, source_length)) return false;
    uint8_t *bytes = (uint8_t *)page_edit(access, hash->pages, to, fit.length);
    if (!bytes) return false;
    if (!paged_hash_open(hash, access, from, &source, &source_length)) return false; /* cannot be: it is in memory */
    hash_page_open(&target, hash->kind, bytes);
    paged_hash_arrange(&target, bytes, &fit);
    hash_page_append_set(&target, bytes, &source, NULL);
    unsigned notes = page_note(hash->pages, from) | page_note(hash->pages, to);
    if (page_note(hash->pages, from) & NOTE_TIMED) note_expiries(hash, &source);
    bool dropped = page_drop_at(access, hash->pages, from);
    assert(dropped);
    hash->page_count--;
    paged_hash_set_note(hash, to, count, notes & NOTE_TIMED);
    return true;
}

static bool merge_is_cheap(const struct paged_hash *hash) {
    uint32_t from = hash->page_count - 1, bit, to = paged_hash_parent(from, &bit);
    return !page_is_cold(hash->pages, from) && !page_is_cold(hash->pages, to);
}

/* ---- after each change ---- */

static void adjust(struct paged_hash *hash, struct page_access *access) {
    if (split_is_due(hash, PAGED_HASH_FILL)) {
        uint32_t bit, from = paged_hash_parent(hash->page_count, &bit);
        if (page_is_cold(hash->pages, from) && !split_is_due(hash, COLD_SPLIT_FILL)) return;
        enum page_status status = paged_hash_split(hash, access);
        (void)status;
    } else if (merge_is_due(hash, 1) && (merge_is_cheap(hash) || merge_is_due(hash, 2))) {
        merge(hash, access);
    }
}

void paged_hash_keep_size(struct paged_hash *hash, struct page_access *access) {
    if (__builtin_expect(!split_is_due(hash, PAGED_HASH_FILL) && !merge_is_due(hash, 1), 1)) return;
    /* The change is made; that a page cannot be read now makes no answer untrue. */
    bool missing = access->missing;
    adjust(hash, access);
    access->missing = missing;
}
