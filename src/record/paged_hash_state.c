/* A paged hash through a checkpoint: what it knows besides its pages is a dozen numbers, written one behind the other.
 *
 *   count, timed, item bytes   8 bytes each
 *   pages                      4
 *   largest, largest next, largest at, sweep at   4 each
 *   sweep least                8
 *
 * The seed is the keyspace's, and the pool keeps it. Notes stand with the references of the pages, so what was loaded
 * is checked against them without a page being read: their counts add up to `count`, and none has more than `largest`.
 */

#include "record/collection.h"
#include "record/paged_hash_private.h"

void paged_hash_save(const struct paged_hash *hash, struct state_writer *out) {
    state_write_u64(out, hash->count);
    state_write_u64(out, hash->timed);
    state_write_u64(out, hash->item_bytes);
    state_write_u32(out, hash->page_count);
    state_write_u32(out, hash->largest);
    state_write_u32(out, hash->largest_next);
    state_write_u32(out, hash->largest_at);
    state_write_u32(out, hash->sweep_at);
    state_write_i64(out, hash->sweep_least_ms);
}

/* `largest_at` and `sweep_at` may be behind the last page: pages are given up. */
static bool can_be(const struct paged_hash *hash) {
    return hash->page_count < PAGE_NUMBER_MAX && hash->timed <= hash->count && hash->largest <= HASH_PAGE_ITEMS_MAX &&
           hash->largest_next <= HASH_PAGE_ITEMS_MAX && hash->count <= (uint64_t)hash->page_count * hash->largest;
}

bool paged_hash_load(struct paged_hash *hash, struct page_table *pages, enum paged_hash_kind kind, uint64_t seed,
                     struct state_reader *in) {
    paged_hash_init(hash, pages, kind, seed);
    hash->count = state_read_u64(in);
    hash->timed = state_read_u64(in);
    hash->item_bytes = state_read_u64(in);
    hash->page_count = state_read_u32(in);
    hash->largest = state_read_u32(in);
    hash->largest_next = state_read_u32(in);
    hash->largest_at = state_read_u32(in);
    hash->sweep_at = state_read_u32(in);
    hash->sweep_least_ms = state_read_i64(in);
    return !in->failed && can_be(hash);
}

bool paged_hash_loaded(struct paged_hash *hash, struct page_access *access) {
    uint64_t count = 0;
    if (page_table_end(hash->pages) != hash->page_count) return false;
    for (uint32_t number = 0; number < hash->page_count; number++) {
        if (!page_exists(hash->pages, number) && paged_hash_make_empty(hash, access, number) != PAGE_DONE) return false;
        unsigned items = paged_hash_note_count(hash, number);
        if (items > hash->largest) return false;
        count += items;
    }
    return count == hash->count;
}

static void add_page(struct paged_hash *hash, const struct hash_page *page) {
    size_t at = hash->kind == PAGED_HASH_SCORES ? 0 : hash_page_place(page, 0);
    hash->count += page->count;
    for (uint32_t i = 0; i < page->count; i++) {
        struct paged_hash_item item;
        size_t length = hash_page_item(page, i, at, &item);
        at += length;
        hash->timed += item.expiry_ms >= 0;
        hash->item_bytes += paged_hash_item_bytes(hash, length);
    }
}

bool paged_hash_mend(struct paged_hash *hash, struct page_access *access) {
    hash->count = hash->timed = hash->item_bytes = 0;
    hash->pages->payload_bytes = 0;
    for (uint32_t number = 0; number < page_table_end(hash->pages); number++) {
        struct hash_page page;
        size_t length;
        if (!page_exists(hash->pages, number)) continue;
        if (!paged_hash_open(hash, access, number, &page, &length) || !hash_page_validate(&page, length)) return false;
        if (page.count != paged_hash_note_count(hash, number)) return false;
        add_page(hash, &page);
        hash->pages->payload_bytes += length;
    }
    return page_table_end(hash->pages) == hash->page_count;
}
