/* A hash table over pages: finding, and the changes of one page. How the table grows is in paged_hash_grow.c, how it is
 * walked and drawn from in paged_hash_walk.c, the bytes of a page in hash_page.c.
 *
 * The hash of a field is XXH3 with a secret seed. Its lowest bits choose the page, its highest eight are the tag; it is
 * not stored, but computed again from the field where a page is split: ~5 ns an item, each item being split about once,
 * against 4 to 8 bytes of memory.
 *
 * Every change of a page is one procedure (change_page): make the page long enough, arrange room for tags and lengths,
 * remove, append. Only making it longer can fail, and comes first. Afterwards the note and the sums follow:
 *
 *   count       = sum of the notes' counts
 *   item_bytes  = sum of lengths + 2 each (SCORES: 12 each)
 *   a page with an item that may expire has NOTE_TIMED (one without may have it until the next sweep)
 *   no page has more than `largest` items */

#include "record/collection.h"
#include "record/paged_hash_private.h"

#include <assert.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    COPY_ON_STACK = 512,
    PAGES_PER_ITEM_MAX = 64, /* where single items are so large that two of them do not fit into a page */
};

void paged_hash_init(struct paged_hash *hash, struct page_table *pages, enum paged_hash_kind kind, uint64_t seed) {
    *hash = (struct paged_hash){.pages = pages, .seed = seed, .kind = kind, .sweep_least_ms = INT64_MAX};
}

void paged_hash_copy(const struct paged_hash *hash, struct paged_hash *copy, struct page_table *pages) {
    *copy = *hash;
    copy->pages = pages;
}

uint64_t paged_hash_code(const struct paged_hash *hash, struct span field) {
    return XXH3_64bits_withSeed(field.data, field.length, hash->seed);
}

static uint8_t tag_of(uint64_t code) {
    return (uint8_t)(code >> 56);
}

/* ---- finding ---- */

enum page_status paged_hash_find_coded(const struct paged_hash *hash, struct page_access *access, uint64_t code,
                                       struct span field, struct paged_hash_item *item) {
    struct paged_hash_item own;
    struct hash_page page;
    size_t length, at;
    if (!hash->page_count) return PAGE_ABSENT;
    if (!paged_hash_open(hash, access, paged_hash_address(hash, (uint32_t)code), &page, &length)) return PAGE_MISSING;
    uint32_t index = hash_page_find(&page, tag_of(code), field, &at, item ? item : &own);
    return index == HASH_PAGE_NOWHERE ? PAGE_ABSENT : PAGE_DONE;
}

enum page_status paged_hash_find(const struct paged_hash *hash, struct page_access *access, struct span field,
                                 struct paged_hash_item *item) {
    return paged_hash_find_coded(hash, access, paged_hash_code(hash, field), field, item);
}

void paged_hash_prefetch(const struct paged_hash *hash, uint64_t code) {
    if (!hash->page_count) return;
    uint64_t ref = page_ref(hash->pages, paged_hash_address(hash, (uint32_t)code));
    if (ref_is_cold(ref)) return;
    const char *page = (const char *)ref_record(ref);
    __builtin_prefetch(page);
    __builtin_prefetch(page + 64);
}

bool paged_hash_touch_code(const struct paged_hash *hash, struct page_access *access, uint32_t code) {
    return !hash->page_count || page_touch(access, hash->pages, paged_hash_address(hash, code));
}

bool paged_hash_touch(const struct paged_hash *hash, struct page_access *access, struct span field) {
    return !access->source || paged_hash_touch_code(hash, access, (uint32_t)paged_hash_code(hash, field));
}

void paged_hash_candidates(struct paged_hash_candidates *candidates, const struct paged_hash *hash,
                           struct page_access *access, uint32_t code) {
    size_t length;
    *candidates = (struct paged_hash_candidates){.code = code, .page.kind = PAGED_HASH_SCORES};
    if (!hash->page_count) return;
    if (!paged_hash_open(hash, access, paged_hash_address(hash, code), &candidates->page, &length))
        candidates->page.count = 0;
}

/* ---- prefetching scores ---- */

static const struct record *resident_page(const struct paged_hash *hash, uint32_t number) {
    uint64_t ref = page_ref(hash->pages, number);
    return ref_is_cold(ref) ? NULL : ref_record(ref);
}

/* How many hashes there are says the note, without a look at the page. */
void paged_hash_prefetch_codes(const struct paged_hash *hash, uint32_t code) {
    if (!hash->page_count) return;
    uint32_t number = paged_hash_address(hash, code);
    const char *page = (const char *)resident_page(hash, number);
    size_t bytes = PAGE_HEADER + HASH_PAGE_HEADER + 4ul * paged_hash_note_count(hash, number);
    for (size_t at = 0; page && at < bytes; at += 64) __builtin_prefetch(page + at);
}

/* The place of a candidate in its page, which is opened; HASH_PAGE_NOWHERE. */
static uint32_t peek(const struct paged_hash *hash, uint32_t code, struct hash_page *page) {
    if (!hash->page_count) return HASH_PAGE_NOWHERE;
    const struct record *record = resident_page(hash, paged_hash_address(hash, code));
    if (!record) return HASH_PAGE_NOWHERE;
    hash_page_open(page, hash->kind, page_payload(record).data);
    return hash_page_find_code(page, code, 0);
}

void paged_hash_prefetch_score(const struct paged_hash *hash, uint32_t code) {
    struct hash_page page;
    uint32_t index = peek(hash, code, &page);
    if (index != HASH_PAGE_NOWHERE)
        __builtin_prefetch(page.bytes + HASH_PAGE_HEADER + (size_t)page.room * 4 + (size_t)index * 8);
}

bool paged_hash_peek_score(const struct paged_hash *hash, uint32_t code, uint64_t *score) {
    struct hash_page page;
    uint32_t index = peek(hash, code, &page);
    if (index == HASH_PAGE_NOWHERE) return false;
    *score = hash_page_score(&page, index);
    return true;
}

/* ---- notes and sizes ---- */

void paged_hash_set_note(struct paged_hash *hash, uint32_t number, uint32_t count, bool timed) {
    page_set_note(hash->pages, number, count | (timed ? NOTE_TIMED : 0));
    if (count > hash->largest) hash->largest = count;
    if (count > hash->largest_next) hash->largest_next = count;
}

void paged_hash_note_expiry(struct paged_hash *hash, int64_t expiry_ms) {
    struct collection *owner = hash->pages->owner;
    if (expiry_ms < owner->next_expiry_ms) owner->next_expiry_ms = expiry_ms;
    if (expiry_ms < hash->sweep_least_ms) hash->sweep_least_ms = expiry_ms;
}

struct paged_hash_fit paged_hash_fit(enum paged_hash_kind kind, uint32_t count, uint32_t room_least, uint32_t width,
                                     size_t items) {
    if (kind == PAGED_HASH_SCORES) {
        uint32_t least = count < 8 ? 8 : count;
        size_t length = page_payload_filling(HASH_PAGE_HEADER + (size_t)least * HASH_PAGE_SCORE_BYTES);
        size_t room = (length - HASH_PAGE_HEADER) / HASH_PAGE_SCORE_BYTES;
        return (struct paged_hash_fit){length, room < HASH_PAGE_ITEMS_MAX ? (uint32_t)room : HASH_PAGE_ITEMS_MAX, 0};
    }
    uint32_t room = hash_page_room_for(count);
    if (room < room_least) room = room_least;
    size_t needed = hash_page_bytes_for(room, width, items), length = page_payload_filling(needed);
    return (struct paged_hash_fit){length <= PAGE_PAYLOAD_MAX ? length : needed, room, width};
}

size_t paged_hash_page_items(const struct hash_page *page) {
    return page->kind == PAGED_HASH_SCORES ? 0 : hash_page_place(page, page->count) - hash_page_place(page, 0);
}

void paged_hash_arrange(struct hash_page *page, uint8_t *bytes, const struct paged_hash_fit *fit) {
    if (page->kind == PAGED_HASH_SCORES)
        hash_page_arrange_scores(page, bytes, fit->room);
    else
        hash_page_arrange(page, bytes, fit->room, fit->width);
}

/* Only where an eighth is gained, or a page that items come to and leave would be moved each time. */
void paged_hash_shrink_page(struct paged_hash *hash, struct page_access *access, uint32_t number,
                            struct hash_page *page, size_t length) {
    struct paged_hash_fit fit = paged_hash_fit(page->kind, page->count, 0, page->width, paged_hash_page_items(page));
    if (fit.length + fit.length / 8 >= length) return;
    uint8_t *bytes = (uint8_t *)(uintptr_t)page->bytes;
    paged_hash_arrange(page, bytes, &fit);
    bytes = (uint8_t *)page_edit(access, hash->pages, number, fit.length);
    if (bytes) page->bytes = bytes;
}

/* ---- changing a page of fields ---- */

/* The first page, when there is none yet. */
enum page_status paged_hash_make_empty(struct paged_hash *hash, struct page_access *access, uint32_t number) {
    bool scores = hash->kind == PAGED_HASH_SCORES;
    struct paged_hash_fit fit = paged_hash_fit(hash->kind, 0, 0, 1, 0);
    uint8_t *bytes = (uint8_t *)page_add_at(access, hash->pages, number, fit.length);
    if (!bytes) return paged_hash_failure(access);
    struct hash_page page;
    hash_page_create(&page, hash->kind, bytes, fit.room, scores ? 0 : fit.width);
    return PAGE_DONE;
}

static enum page_status make_first_page(struct paged_hash *hash, struct page_access *access) {
    if (hash->page_count) return PAGE_DONE;
    enum page_status status = paged_hash_make_empty(hash, access, 0);
    if (status == PAGE_DONE) hash->page_count = 1;
    return status;
}

/* A page, and the item in it with which something is to be done. */
struct target {
    struct hash_page page;
    size_t length; /* of the payload */
    uint32_t number, index;
    size_t at;          /* of the item */
    size_t item_length; /* 0: there is none */
    struct paged_hash_item item;
};

/* False: the page is missing. Precondition: there are pages. */
static bool look_up(const struct paged_hash *hash, struct page_access *access, uint64_t code, struct span field,
                    struct target *target) {
    target->number = paged_hash_address(hash, (uint32_t)code);
    if (!paged_hash_open(hash, access, target->number, &target->page, &target->length)) return false;
    target->index = hash_page_find(&target->page, tag_of(code), field, &target->at, &target->item);
    if (target->index != HASH_PAGE_NOWHERE) target->item_length = hash_page_length(&target->page, target->index);
    return true;
}

/* The page as it will be while the item goes and the addition (NULL: none) comes. False: more than a page holds. */
static bool fit_change(const struct target *target, const struct hash_page_addition *addition, size_t added,
                       struct paged_hash_fit *fit) {
    const struct hash_page *page = &target->page;
    bool removes = target->index != HASH_PAGE_NOWHERE;
    uint32_t count = page->count - removes + (addition != NULL), width = hash_page_width_for(added);
    size_t items = paged_hash_page_items(page), after = items + added - (removes ? target->item_length : 0);
    if (count > HASH_PAGE_ITEMS_MAX || after > PAGE_PAYLOAD_MAX) return false;
    uint32_t room = count > page->room ? hash_page_room_for(count) : page->room;
    size_t needed = hash_page_bytes_for(room, width > page->width ? width : page->width, after > items ? after : items);
    if (needed > PAGE_PAYLOAD_MAX) return false;
    *fit = (struct paged_hash_fit){target->length, room, width > page->width ? width : page->width};
    if (needed > target->length) {
        fit->length = page_payload_filling(needed);
        if (fit->length > PAGE_PAYLOAD_MAX) fit->length = needed;
    }
    return true;
}

/* Removes the target's item, if there is one, and appends the addition (NULL: nothing). */
static enum page_status change_page(struct paged_hash *hash, struct page_access *access, struct target *target,
                                    const struct hash_page_addition *addition) {
    struct hash_page *page = &target->page;
    size_t added = addition ? hash_page_addition_length(hash->kind, addition) : 0;
    bool removes = target->index != HASH_PAGE_NOWHERE;
    struct paged_hash_fit fit;
    if (!fit_change(target, addition, added, &fit)) return PAGE_NO_MEMORY;
    bool timed = (page_note(hash->pages, target->number) & NOTE_TIMED) || (addition && addition->expiry_ms >= 0);
    uint8_t *bytes = (uint8_t *)page_edit(access, hash->pages, target->number, fit.length);
    if (!bytes) return paged_hash_failure(access);
    hash_page_arrange(page, bytes, fit.room, fit.width);
    if (removes) {
        hash->timed -= target->item.expiry_ms >= 0;
        hash->count--;
        hash->item_bytes -= paged_hash_item_bytes(hash, target->item_length);
        hash_page_remove(page, bytes, target->index);
    }
    if (addition) {
        hash->timed += addition->expiry_ms >= 0;
        hash->count++;
        hash->item_bytes += paged_hash_item_bytes(hash, added);
        hash_page_append(page, bytes, addition);
        if (addition->expiry_ms >= 0) paged_hash_note_expiry(hash, addition->expiry_ms);
    }
    paged_hash_set_note(hash, target->number, page->count, timed);
    if (removes && added < target->item_length) paged_hash_shrink_page(hash, access, target->number, page, fit.length);
    return PAGE_DONE;
}

static enum page_status overwrite(struct paged_hash *hash, struct page_access *access, struct target *target,
                                  const struct hash_page_addition *addition) {
    uint8_t *bytes = (uint8_t *)page_edit(access, hash->pages, target->number, target->length);
    if (!bytes) return paged_hash_failure(access);
    hash_page_overwrite(&target->page, bytes, target->at, addition);
    if (addition->expiry_ms >= 0) paged_hash_note_expiry(hash, addition->expiry_ms);
    return PAGE_DONE;
}

/* An item so large that it does not fit beside what is in its page: splits until the two are apart. */
static enum page_status make_way(struct paged_hash *hash, struct page_access *access, uint64_t code,
                                 const struct hash_page_addition *addition, struct target *target) {
    size_t added = hash_page_addition_length(hash->kind, addition);
    struct paged_hash_fit fit;
    if (hash_page_bytes_for(8, 4, added) > PAGE_PAYLOAD_MAX) return PAGE_NO_MEMORY;
    while (!fit_change(target, addition, added, &fit)) {
        if (hash->page_count / PAGES_PER_ITEM_MAX > hash->count) return PAGE_NO_MEMORY;
        enum page_status status = paged_hash_split(hash, access);
        if (status != PAGE_DONE) return status;
        if (!look_up(hash, access, code, addition->field, target)) return PAGE_MISSING;
    }
    return PAGE_DONE;
}

enum page_status paged_hash_set(struct paged_hash *hash, struct page_access *access, struct span field,
                                struct span value, int64_t expiry_ms, bool *is_new) {
    uint64_t code = paged_hash_code(hash, field);
    struct target target;
    enum page_status status = make_first_page(hash, access);
    if (status != PAGE_DONE) return status;
    if (!look_up(hash, access, code, field, &target)) return PAGE_MISSING;
    bool adds = target.index == HASH_PAGE_NOWHERE;
    if (expiry_ms == PAGED_HASH_EXPIRY_KEEP) expiry_ms = adds ? RECORD_EXPIRY_NONE : target.item.expiry_ms;
    struct hash_page_addition addition = {field, value, expiry_ms, tag_of(code)};
    size_t added = hash_page_addition_length(hash->kind, &addition);
    if (is_new) *is_new = adds;
    if (!adds && hash->kind == PAGED_HASH_SET) return PAGE_EXISTS;
    if (!adds && added == target.item_length && (expiry_ms >= 0) == (target.item.expiry_ms >= 0))
        return overwrite(hash, access, &target, &addition);
    if (!paged_hash_prepare_growth(hash, access, paged_hash_item_bytes(hash, added))) return PAGE_MISSING;
    struct paged_hash_fit fit;
    if (__builtin_expect(!fit_change(&target, &addition, added, &fit), 0)) {
        status = make_way(hash, access, code, &addition, &target);
        if (status != PAGE_DONE) return status;
    }
    status = change_page(hash, access, &target, &addition);
    if (status == PAGE_DONE) paged_hash_keep_size(hash, access);
    return status;
}

enum page_status paged_hash_set_expiry(struct paged_hash *hash, struct page_access *access, struct span field,
                                       int64_t expiry_ms) {
    uint64_t code = paged_hash_code(hash, field);
    struct target target;
    if (!hash->page_count) return PAGE_ABSENT;
    if (!look_up(hash, access, code, field, &target)) return PAGE_MISSING;
    if (target.index == HASH_PAGE_NOWHERE) return PAGE_ABSENT;
    if (expiry_ms < 0 && target.item.expiry_ms < 0) return PAGE_DONE;
    if (expiry_ms >= 0 && target.item.expiry_ms >= 0) {
        uint8_t *bytes = (uint8_t *)page_edit(access, hash->pages, target.number, target.length);
        if (!bytes) return paged_hash_failure(access);
        hash_page_overwrite_expiry(bytes, target.at, expiry_ms);
        paged_hash_note_expiry(hash, expiry_ms);
        return PAGE_DONE;
    }
    /* The item gets longer or shorter: it is taken out and put in anew, the value from a copy. */
    struct span value = target.item.value;
    char on_stack[COPY_ON_STACK], *copy = value.length <= sizeof(on_stack) ? on_stack : malloc(value.length);
    if (!copy) return PAGE_NO_MEMORY;
    if (value.length) memcpy(copy, value.data, value.length);
    enum page_status status = paged_hash_set(hash, access, field, span_of(copy, value.length), expiry_ms, NULL);
    if (copy != on_stack) free(copy);
    return status;
}

enum page_status paged_hash_delete(struct paged_hash *hash, struct page_access *access, struct span field) {
    struct target target;
    if (!hash->page_count) return PAGE_ABSENT;
    if (!look_up(hash, access, paged_hash_code(hash, field), field, &target)) return PAGE_MISSING;
    if (target.index == HASH_PAGE_NOWHERE) return PAGE_ABSENT;
    enum page_status status = change_page(hash, access, &target, NULL);
    if (status == PAGE_DONE) paged_hash_keep_size(hash, access);
    return status;
}

/* ---- changing a page of scores ---- */

enum page_status paged_hash_insert_score(struct paged_hash *hash, struct page_access *access, uint32_t code,
                                         uint64_t score) {
    enum page_status status = make_first_page(hash, access);
    if (status != PAGE_DONE) return status;
    if (!paged_hash_prepare_growth(hash, access, HASH_PAGE_SCORE_BYTES)) return PAGE_MISSING;
    uint32_t number = paged_hash_address(hash, code);
    struct hash_page page;
    size_t length;
    if (!paged_hash_open(hash, access, number, &page, &length)) return PAGE_MISSING;
    if (page.count == HASH_PAGE_ITEMS_MAX) return PAGE_NO_MEMORY;
    struct paged_hash_fit fit = {length, page.room, 0};
    if (page.count == page.room) fit = paged_hash_fit(PAGED_HASH_SCORES, page.count + 1, 0, 0, 0);
    uint8_t *bytes = (uint8_t *)page_edit(access, hash->pages, number, fit.length);
    if (!bytes) return paged_hash_failure(access);
    hash_page_arrange_scores(&page, bytes, fit.room);
    hash_page_append_score(&page, bytes, code, score);
    hash->count++;
    hash->item_bytes += HASH_PAGE_SCORE_BYTES;
    paged_hash_set_note(hash, number, page.count, false);
    paged_hash_keep_size(hash, access);
    return PAGE_DONE;
}

/* The place of exactly this item, its page opened for being changed; HASH_PAGE_NOWHERE: `*status` says why. */
static uint32_t edit_score(struct paged_hash *hash, struct page_access *access, uint32_t code, uint64_t score,
                           struct target *target, uint8_t **bytes, enum page_status *status) {
    *status = PAGE_ABSENT;
    if (!hash->page_count) return HASH_PAGE_NOWHERE;
    target->number = paged_hash_address(hash, code);
    *status = PAGE_MISSING;
    if (!paged_hash_open(hash, access, target->number, &target->page, &target->length)) return HASH_PAGE_NOWHERE;
    uint32_t index = hash_page_find_code(&target->page, code, 0);
    while (index != HASH_PAGE_NOWHERE && hash_page_score(&target->page, index) != score)
        index = hash_page_find_code(&target->page, code, index + 1);
    *status = PAGE_ABSENT;
    if (index == HASH_PAGE_NOWHERE) return HASH_PAGE_NOWHERE;
    *bytes = (uint8_t *)page_edit(access, hash->pages, target->number, target->length);
    if (!*bytes) {
        *status = paged_hash_failure(access);
        return HASH_PAGE_NOWHERE;
    }
    target->page.bytes = *bytes;
    return index;
}

enum page_status paged_hash_replace_score(struct paged_hash *hash, struct page_access *access, uint32_t code,
                                          uint64_t score, uint64_t new_score) {
    struct target target;
    uint8_t *bytes;
    enum page_status status;
    uint32_t index = edit_score(hash, access, code, score, &target, &bytes, &status);
    if (index == HASH_PAGE_NOWHERE) return status;
    hash_page_set_score(&target.page, bytes, index, code, new_score);
    return PAGE_DONE;
}

enum page_status paged_hash_delete_score(struct paged_hash *hash, struct page_access *access, uint32_t code,
                                         uint64_t score) {
    struct target target;
    uint8_t *bytes;
    enum page_status status;
    uint32_t index = edit_score(hash, access, code, score, &target, &bytes, &status);
    if (index == HASH_PAGE_NOWHERE) return status;
    hash_page_remove_score(&target.page, bytes, index);
    hash->count--;
    hash->item_bytes -= HASH_PAGE_SCORE_BYTES;
    paged_hash_set_note(hash, target.number, target.page.count, false);
    paged_hash_shrink_page(hash, access, target.number, &target.page, target.length);
    paged_hash_keep_size(hash, access);
    return PAGE_DONE;
}
