/* Going through a paged hash: all of it, by cursor, at random, and for what has expired.
 *
 * The cursor of a scan is a position among all 32-bit hashes ordered by their bits reversed. In this order the hashes
 * of one page are one interval, whatever the number of pages, and splitting or merging pages splits or joins intervals:
 * the end of an interval that was visited stays an end or falls inside an interval that is then visited whole. So
 * nothing that is there throughout is passed over.
 *
 * A random item: a page and a number below `largest` are drawn; if the page has that many items it is this one, else
 * both are drawn again. Every item of every page is then equally likely, and only the chosen page is read. `largest`
 * may be above the truth after items have gone; rounds through the notes, a few at a time, bring it down. If luck fails
 * for long the item is counted off: exact as well, but O(pages). */

#include "record/collection.h"
#include "record/paged_hash_private.h"

#include <assert.h>
#include <stdlib.h>

enum {
    ROUND_NOTES = 64,
    TRIES_BETWEEN_ROUNDS = 8,
    TRIES_MAX = 512,
    SAMPLE_DENSE = 4, /* more than a fourth of all is chosen in one pass */
    SWEEP_PASSED = 64,
};

/* ---- walking ---- */

static void open_page(struct paged_hash_walk *walk, uint32_t number) {
    size_t length;
    walk->index = 0;
    walk->at = 0;
    if (!paged_hash_note_count(walk->hash, number) ||
        !paged_hash_open(walk->hash, walk->access, number, &walk->page, &length)) {
        walk->page = (struct hash_page){.kind = walk->hash->kind};
        return;
    }
    if (walk->hash->kind != PAGED_HASH_SCORES) walk->at = hash_page_place(&walk->page, 0);
}

bool paged_hash_walk_next_page(struct paged_hash_walk *walk) {
    if (walk->number == walk->end) return false;
    uint32_t number = walk->number++;
    if (walk->number < walk->end) {
        uint64_t ref = page_ref(walk->hash->pages, walk->number);
        if (!ref_is_cold(ref)) __builtin_prefetch(ref_record(ref));
    }
    open_page(walk, number);
    return true;
}

void paged_hash_walk_all(struct paged_hash_walk *walk, const struct paged_hash *hash, struct page_access *access) {
    *walk = (struct paged_hash_walk){.hash = hash, .access = access, .end = hash->page_count, .page.kind = hash->kind};
}

static uint32_t reverse(uint32_t bits) {
    bits = (bits >> 1 & 0x55555555) | (bits & 0x55555555) << 1;
    bits = (bits >> 2 & 0x33333333) | (bits & 0x33333333) << 2;
    bits = (bits >> 4 & 0x0f0f0f0f) | (bits & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(bits);
}

uint64_t paged_hash_walk_scan(struct paged_hash_walk *walk, const struct paged_hash *hash, struct page_access *access,
                              uint64_t cursor) {
    paged_hash_walk_all(walk, hash, access);
    walk->end = 0;
    if (!hash->page_count || cursor > UINT32_MAX) return 0;
    uint32_t number = paged_hash_address(hash, reverse((uint32_t)cursor));
    walk->number = number;
    walk->end = number + 1;
    /* How many bits the hashes of this page have in common: all, if it was split already or was split off. */
    unsigned bits = paged_hash_bits(hash);
    uint32_t half = bits ? UINT32_C(1) << (bits - 1) : 0;
    if (bits && number < half && number + half >= hash->page_count) bits--;
    uint64_t next = (uint64_t)reverse(number) + (UINT64_C(1) << (32 - bits));
    return next > UINT32_MAX ? 0 : next;
}

/* ---- random ---- */

/* A few more notes of the round that finds out how many items the fullest page has. */
static void go_round(struct paged_hash *hash) {
    for (unsigned i = 0; i < ROUND_NOTES; i++) {
        if (hash->largest_at >= hash->page_count) {
            hash->largest = hash->largest_next;
            hash->largest_next = 0;
            hash->largest_at = 0;
            return;
        }
        uint32_t count = paged_hash_note_count(hash, hash->largest_at++);
        if (count > hash->largest_next) hash->largest_next = count;
    }
}

static uint64_t count_off(const struct paged_hash *hash, uint64_t position) {
    for (uint32_t number = 0; number < hash->page_count; number++) {
        uint32_t count = paged_hash_note_count(hash, number);
        if (position < count) return paged_hash_place(number, (uint32_t)position);
        position -= count;
    }
    assert(false);
    return 0;
}

/* Precondition: there are items. */
static uint64_t draw(struct paged_hash *hash, struct random *random) {
    for (unsigned tries = 1; tries <= TRIES_MAX; tries++) {
        uint32_t number = (uint32_t)random_below(random, hash->page_count);
        uint32_t index = (uint32_t)random_below(random, hash->largest);
        if (index < paged_hash_note_count(hash, number)) return paged_hash_place(number, index);
        if (tries % TRIES_BETWEEN_ROUNDS == 0) go_round(hash);
    }
    return count_off(hash, random_below(random, hash->count));
}

enum page_status paged_hash_at(const struct paged_hash *hash, struct page_access *access, uint64_t place,
                               struct paged_hash_item *item) {
    struct hash_page page;
    size_t length;
    uint32_t index = place & 0xffff;
    if (!paged_hash_open(hash, access, (uint32_t)(place >> 16), &page, &length)) return PAGE_MISSING;
    assert(index < page.count && hash->kind != PAGED_HASH_SCORES);
    hash_page_item(&page, index, hash_page_place(&page, index), item);
    return PAGE_DONE;
}

enum page_status paged_hash_random(struct paged_hash *hash, struct page_access *access, struct random *random,
                                   struct paged_hash_item *item) {
    if (!hash->count) return PAGE_ABSENT;
    return paged_hash_at(hash, access, draw(hash, random), item);
}

static int compare_places(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Each item in turn is taken with the chance that it must have for `want` to be reached. */
static void sample_in_one_pass(const struct paged_hash *hash, struct random *random, size_t want, uint64_t *places) {
    uint64_t left = hash->count;
    size_t have = 0;
    for (uint32_t number = 0; number < hash->page_count && have < want; number++) {
        uint32_t count = paged_hash_note_count(hash, number);
        for (uint32_t index = 0; index < count; index++, left--)
            if (random_below(random, left) < want - have) places[have++] = paged_hash_place(number, index);
    }
    assert(have == want);
}

void paged_hash_sample(struct paged_hash *hash, struct random *random, size_t want, uint64_t *places) {
    assert(want <= hash->count);
    if (want > 1 && want > hash->count / SAMPLE_DENSE) {
        sample_in_one_pass(hash, random, want, places);
        return;
    }
    /* Drawn until there are as many different ones: no item is favoured. */
    size_t have = 0;
    while (have < want) {
        while (have < want) places[have++] = draw(hash, random);
        qsort(places, want, sizeof(*places), compare_places);
        have = 0;
        for (size_t i = 0; i < want; i++)
            if (i == 0 || places[i] != places[i - 1]) places[have++] = places[i];
    }
}

/* ---- removing what was chosen ---- */

struct removal {
    struct paged_hash *hash;
    struct page_access *access;
    paged_hash_visit *visit;
    void *ctx;
    uint64_t bits[(HASH_PAGE_ITEMS_MAX + 63) / 64 + 1];
};

/* Removes the items whose bits are set, `count` of them, from a page that is opened. False: no memory. */
static bool remove_from_page(struct removal *removal, uint32_t number, struct hash_page *page, size_t length) {
    struct paged_hash *hash = removal->hash;
    uint8_t *bytes = (uint8_t *)page_edit(removal->access, hash->pages, number, length);
    if (!bytes) return false;
    page->bytes = bytes;
    size_t at = hash_page_place(page, 0);
    bool timed = false;
    for (uint32_t i = 0; i < page->count; i++) {
        struct paged_hash_item item;
        size_t item_length = hash_page_item(page, i, at, &item);
        at += item_length;
        if (!hash_page_bit(removal->bits, i)) {
            timed |= item.expiry_ms >= 0;
            continue;
        }
        if (removal->visit) removal->visit(removal->ctx, &item);
        hash->count--;
        hash->timed -= item.expiry_ms >= 0;
        hash->item_bytes -= paged_hash_item_bytes(hash, item_length);
    }
    hash_page_remove_set(page, bytes, removal->bits);
    paged_hash_set_note(hash, number, page->count, timed);
    paged_hash_shrink_page(hash, removal->access, number, page, length);
    return true;
}

static void clear_bits(struct removal *removal, const struct hash_page *page) {
    memset(removal->bits, 0, ((size_t)page->count / 64 + 1) * sizeof(*removal->bits));
}

enum page_status paged_hash_remove_places(struct paged_hash *hash, struct page_access *access, const uint64_t *places,
                                          size_t count, paged_hash_visit *visit, void *ctx, size_t *removed) {
    if (removed) *removed = 0;
    bool at_hand = true;
    for (size_t i = 0; access->source && i < count; i++)
        if (!page_touch(access, hash->pages, (uint32_t)(places[i] >> 16))) at_hand = false;
    if (!at_hand) return PAGE_MISSING;
    struct removal removal;
    removal.hash = hash, removal.access = access, removal.visit = visit, removal.ctx = ctx;
    size_t pages = 0;
    for (size_t i = 0, end; i < count; i = end, pages++) {
        uint32_t number = (uint32_t)(places[i] >> 16);
        struct hash_page page;
        size_t length;
        if (!paged_hash_open(hash, access, number, &page, &length)) return PAGE_MISSING;
        clear_bits(&removal, &page);
        for (end = i; end < count && places[end] >> 16 == number; end++)
            hash_page_set_bit(removal.bits, places[end] & 0xffff);
        if (!remove_from_page(&removal, number, &page, length)) return paged_hash_failure(access);
        if (removed) *removed = end;
    }
    /* As many steps as deletes one by one would have made. */
    for (size_t i = 0; i < count; i++) {
        uint32_t before = hash->page_count;
        paged_hash_keep_size(hash, access);
        if (hash->page_count == before) break;
    }
    return PAGE_DONE;
}

/* ---- expiry ---- */

/* Removes what has expired from a page, and learns when the next will. False: not now. */
static bool sweep_page(struct removal *removal, uint32_t number, int64_t now_ms) {
    struct paged_hash *hash = removal->hash;
    struct hash_page page;
    size_t length;
    if (!paged_hash_open(hash, removal->access, number, &page, &length)) return false;
    clear_bits(removal, &page);
    int64_t least_ms = INT64_MAX;
    uint32_t expired = 0;
    size_t at = hash_page_place(&page, 0);
    for (uint32_t i = 0; i < page.count; i++) {
        struct paged_hash_item item;
        at += hash_page_item(&page, i, at, &item);
        if (item.expiry_ms < 0) continue;
        if (item.expiry_ms <= now_ms) {
            hash_page_set_bit(removal->bits, i);
            expired++;
        } else if (item.expiry_ms < least_ms) {
            least_ms = item.expiry_ms;
        }
    }
    if (expired && !remove_from_page(removal, number, &page, length)) return false;
    if (!expired && least_ms == INT64_MAX) paged_hash_set_note(hash, number, page.count, false);
    if (least_ms < hash->sweep_least_ms) hash->sweep_least_ms = least_ms;
    if (expired) paged_hash_keep_size(hash, removal->access);
    return true;
}

bool paged_hash_sweep(struct paged_hash *hash, struct page_access *access, int64_t now_ms, unsigned budget,
                      paged_hash_visit *visit, void *ctx) {
    struct removal removal;
    removal.hash = hash, removal.access = access, removal.visit = visit, removal.ctx = ctx;
    if (hash->sweep_at == 0) hash->sweep_least_ms = INT64_MAX;
    uint64_t steps = (uint64_t)budget * SWEEP_PASSED;
    for (; hash->sweep_at < hash->page_count && steps > 0 && hash->timed; hash->sweep_at++) {
        bool timed = page_note(hash->pages, hash->sweep_at) & NOTE_TIMED;
        uint64_t cost = timed ? SWEEP_PASSED : 1;
        steps -= cost < steps ? cost : steps;
        if (timed && !sweep_page(&removal, hash->sweep_at, now_ms)) return true;
    }
    if (hash->sweep_at < hash->page_count && hash->timed) return true;
    hash->sweep_at = 0;
    hash->pages->owner->next_expiry_ms = hash->timed ? hash->sweep_least_ms : INT64_MAX;
    return false;
}

/* ---- checking ---- */

struct sums {
    uint64_t count, timed, item_bytes;
    bool all; /* no page was missing */
};

static bool page_is_valid(const struct paged_hash *hash, uint32_t number, const struct hash_page *page, size_t length,
                          struct sums *sums) {
    uint64_t timed_before = sums->timed;
    if (!hash_page_validate(page, length) || page->count != paged_hash_note_count(hash, number)) return false;
    size_t at = hash->kind == PAGED_HASH_SCORES ? 0 : hash_page_place(page, 0);
    for (uint32_t i = 0; i < page->count; i++) {
        struct paged_hash_item item;
        size_t item_length = hash_page_item(page, i, at, &item);
        uint64_t code = hash->kind == PAGED_HASH_SCORES ? item.code : paged_hash_code(hash, item.field);
        if (paged_hash_address(hash, (uint32_t)code) != number) return false;
        if (hash->kind != PAGED_HASH_SCORES && hash_page_tags(page)[i] != (uint8_t)(code >> 56)) return false;
        at += item_length;
        sums->timed += item.expiry_ms >= 0;
        sums->item_bytes += paged_hash_item_bytes(hash, item_length);
        if (item.expiry_ms >= 0 && item.expiry_ms < hash->pages->owner->next_expiry_ms) return false;
    }
    return sums->timed == timed_before || (page_note(hash->pages, number) & NOTE_TIMED);
}

bool paged_hash_validate(const struct paged_hash *hash, struct page_access *access) {
    struct sums sums = {.all = true};
    if (!page_table_validate(hash->pages) || page_table_end(hash->pages) != hash->page_count) return false;
    for (uint32_t number = 0; number < hash->page_count; number++) {
        if (!page_exists(hash->pages, number)) return false;
        sums.count += paged_hash_note_count(hash, number);
        if (paged_hash_note_count(hash, number) > hash->largest) return false;
        struct hash_page page;
        size_t length;
        if (!paged_hash_open(hash, access, number, &page, &length))
            sums.all = false;
        else if (!page_is_valid(hash, number, &page, length, &sums))
            return false;
    }
    if (sums.count != hash->count) return false;
    return !sums.all || (sums.timed == hash->timed && sums.item_bytes == hash->item_bytes);
}
