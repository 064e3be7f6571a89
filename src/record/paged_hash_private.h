#ifndef TERRACE_RECORD_PAGED_HASH_PRIVATE_H
#define TERRACE_RECORD_PAGED_HASH_PRIVATE_H

/* What the files of the paged hash share: where a hash leads to, and how the pages and the counts are kept in step. */

#include "record/paged_hash.h"

enum { NOTE_COUNT = 0x7fff, NOTE_TIMED = 0x8000 };

static inline unsigned paged_hash_note_count(const struct paged_hash *hash, uint32_t number) {
    return page_note(hash->pages, number) & NOTE_COUNT;
}

/* How many of a hash's lowest bits the table uses at most. */
static inline unsigned paged_hash_bits(const struct paged_hash *hash) {
    return hash->page_count <= 1 ? 0 : 32 - (unsigned)__builtin_clz(hash->page_count - 1);
}

/* The page of a hash: by all the bits, or one less where the page that this would be is still to be split off.
 * Precondition: there is a page. */
static inline uint32_t paged_hash_address(const struct paged_hash *hash, uint32_t code) {
    uint32_t mask = (uint32_t)((UINT64_C(1) << paged_hash_bits(hash)) - 1), number = code & mask;
    return number < hash->page_count ? number : number & mask >> 1;
}

/* The page that `number` is split off from, number > 0; `*bit` is the bit of the hash that tells the two apart. */
static inline uint32_t paged_hash_parent(uint32_t number, uint32_t *bit) {
    *bit = UINT32_C(1) << (31 - (unsigned)__builtin_clz(number));
    return number - *bit;
}

/* Opens a page; false: it is missing. `length` is the payload's. */
static inline bool paged_hash_open(const struct paged_hash *hash, struct page_access *access, uint32_t number,
                                   struct hash_page *page, size_t *length) {
    /* Tags and lengths reach into the second line; it comes at the same time as the first. */
    uint64_t ref = page_ref(hash->pages, number);
    if (!ref_is_cold(ref)) __builtin_prefetch((const char *)ref_record(ref) + 64);
    struct span payload = page_read(access, hash->pages, number);
    if (__builtin_expect(!payload.data, 0)) return false;
    hash_page_open(page, hash->kind, payload.data);
    *length = payload.length;
    return true;
}

/* What a change that came to nothing answers. */
static inline enum page_status paged_hash_failure(const struct page_access *access) {
    return access->missing ? PAGE_MISSING : PAGE_NO_MEMORY;
}

/* Bytes that an item counts for. */
static inline size_t paged_hash_item_bytes(const struct paged_hash *hash, size_t length) {
    return hash->kind == PAGED_HASH_SCORES ? HASH_PAGE_SCORE_BYTES : length + 2;
}

/* The note of a page, after its items have changed. */
void paged_hash_set_note(struct paged_hash *hash, uint32_t number, uint32_t count, bool timed);
/* A time of expiry was given to an item, or met where a sweep has passed. */
void paged_hash_note_expiry(struct paged_hash *hash, int64_t expiry_ms);
/* After items have gone: gives back what a page has too much. `length` is its payload's. */
void paged_hash_shrink_page(struct paged_hash *hash, struct page_access *access, uint32_t number,
                            struct hash_page *page, size_t length);

/* Makes a page without an item where there is none. */
enum page_status paged_hash_make_empty(struct paged_hash *hash, struct page_access *access, uint32_t number);

/* How long the page is to be, and what room it has, for so many items. */
struct paged_hash_fit {
    size_t length;
    uint32_t room, width;
};
struct paged_hash_fit paged_hash_fit(enum paged_hash_kind kind, uint32_t count, uint32_t room_least, uint32_t width,
                                     size_t items);
/* Bytes of a page's items; 0 of SCORES. */
size_t paged_hash_page_items(const struct hash_page *page);
void paged_hash_arrange(struct hash_page *page, uint8_t *bytes, const struct paged_hash_fit *fit);

/* paged_hash_grow.c: */

/* Before a change that adds at most so many bytes, and may have the table split a page: asks for that page. False:
 * missing. */
bool paged_hash_prepare_growth(struct paged_hash *hash, struct page_access *access, size_t bytes);
/* After a change: splits or merges, if due; a failure only puts it off. */
void paged_hash_keep_size(struct paged_hash *hash, struct page_access *access);
/* Splits the next page, due or not. */
enum page_status paged_hash_split(struct paged_hash *hash, struct page_access *access);

#endif
