#ifndef TERRACE_RECORD_PAGED_HASH_H
#define TERRACE_RECORD_PAGED_HASH_H

/* A hash table of any size over pages of about 1 KB: big hashes and sets, and the scores of big sorted sets.
 *
 *   hash of a field --lowest bits--> page number --> page (hash_page.h): tags, lengths, items
 *
 * Linear hashing: page = bucket. The table grows by a page at a time, by splitting the next bucket in turn, whenever
 * its pages hold more than PAGED_HASH_FILL bytes on average (and there are fewer pages than items), and shrinks in the
 * same manner. So an operation reads one page, and now and then a second one; nothing is ever rebuilt.
 *
 * There are three kinds:
 *
 *   PAGED_HASH_MAP     field -> value, with a time of expiry where a field has one
 *   PAGED_HASH_SET     field alone
 *   PAGED_HASH_SCORES  32 bits of a hash -> 64 bits (a score). The member itself is kept elsewhere (a paged_tree, by
 * its score): a look-up gives all candidates, which the caller verifies there
 *
 * The pages are those of a table that nobody else uses (COLLECTION_HASH). The note of a page tells how many items it
 * has (15 bits) and whether any may expire (the 16th), so a random item is chosen, and a sweep passes by, without
 * reading.
 *
 * An item that has expired is an item like any other here: the caller compares `expiry_ms`.
 *
 * Pages that are not at hand: see page_table.h. Statuses: page_status.h; whatever is not PAGE_DONE has changed nothing,
 * where not said otherwise. Spans in an item point into the page and hold until the next change of the table. Spans
 * handed in must not point into a page of the table.
 *
 * Threads: the lock of the shard whose collection it is. */

#include "base/random.h"
#include "record/hash_page.h"
#include "record/page_status.h"
#include "record/page_table.h"
#include "record/state.h"

enum { PAGED_HASH_FILL = 1000 };
/* Instead of a time: the field keeps the one it has. */
#define PAGED_HASH_EXPIRY_KEEP INT64_C(-2)

/* Made by paged_hash_init() within the root of a collection. All but count and timed are nobody else's business. */
struct paged_hash {
    struct page_table *pages;
    uint64_t seed;
    uint64_t count;      /* of items */
    uint64_t timed;      /* of these, with a time of expiry */
    uint64_t item_bytes; /* of all items, with their tags and lengths */
    uint32_t page_count; /* the next to be made has this number; 0: nothing was ever added */
    enum paged_hash_kind kind;
    uint32_t largest;      /* no page has more items */
    uint32_t largest_next; /* the same of the pages below `largest_at`: becomes `largest` at the end of a round */
    uint32_t largest_at;
    uint32_t sweep_at;
    int64_t sweep_least_ms; /* no item that the sweep has passed expires before */
};

/* `pages` has no pages. `seed` is secret (struct keyspace has one), or clients could choose fields that collide; of
 * SCORES it only serves paged_hash_code(). An empty table holds no memory. */
void paged_hash_init(struct paged_hash *hash, struct page_table *pages, enum paged_hash_kind kind, uint64_t seed);

static inline uint64_t paged_hash_count(const struct paged_hash *hash) {
    return hash->count;
}

/* The hash of a field or member. Of SCORES the lower half is what the functions below take. */
uint64_t paged_hash_code(const struct paged_hash *hash, struct span field);

/* ---- fields: kinds MAP and SET ---- */

/* PAGE_DONE, PAGE_ABSENT, PAGE_MISSING. `item` may be NULL. */
enum page_status paged_hash_find(const struct paged_hash *hash, struct page_access *access, struct span field,
                                 struct paged_hash_item *item) __attribute__((warn_unused_result));
/* The same with the field's code, for who has it already. */
enum page_status paged_hash_find_coded(const struct paged_hash *hash, struct page_access *access, uint64_t code,
                                       struct span field, struct paged_hash_item *item)
    __attribute__((warn_unused_result));
/* Has the CPU fetch what find_coded() will read; a few at a time, then the finds. */
void paged_hash_prefetch(const struct paged_hash *hash, uint64_t code);

/* Has the field's page requested; true: it is at hand. A command that changes several fields touches all first, and if
 * it may add some, asks for what splits will read as well. */
bool paged_hash_touch(const struct paged_hash *hash, struct page_access *access, struct span field);
bool paged_hash_touch_growth(const struct paged_hash *hash, struct page_access *access, uint64_t items, uint64_t bytes);

/* Adds the field, or gives it another value (of a SET: PAGE_EXISTS, and nothing changes). `expiry_ms` is unix
 * milliseconds, RECORD_EXPIRY_NONE or PAGED_HASH_EXPIRY_KEEP; of a SET, none, and `value` is empty. `is_new` may be
 * NULL. A value of the same length is written in place. */
enum page_status paged_hash_set(struct paged_hash *hash, struct page_access *access, struct span field,
                                struct span value, int64_t expiry_ms, bool *is_new) __attribute__((warn_unused_result));
/* PAGE_ABSENT. Kind MAP. */
enum page_status paged_hash_set_expiry(struct paged_hash *hash, struct page_access *access, struct span field,
                                       int64_t expiry_ms) __attribute__((warn_unused_result));
/* PAGE_ABSENT. */
enum page_status paged_hash_delete(struct paged_hash *hash, struct page_access *access, struct span field)
    __attribute__((warn_unused_result));

/* ---- scores: kind SCORES; `code` is the lower half of paged_hash_code() ----
 *
 *   struct paged_hash_candidates candidates;
 *   uint64_t score;
 *   paged_hash_candidates(&candidates, hash, access, code);
 *   while (paged_hash_next_candidate(&candidates, &score))
 *       if (the tree has (score, member)) ... it is this one
 *
 * When the page is missing there are none, and access->missing tells. */
struct paged_hash_candidates {
    struct hash_page page;
    uint32_t code, next;
};
void paged_hash_candidates(struct paged_hash_candidates *candidates, const struct paged_hash *hash,
                           struct page_access *access, uint32_t code);
static inline bool paged_hash_next_candidate(struct paged_hash_candidates *candidates, uint64_t *score) {
    uint32_t index = hash_page_find_code(&candidates->page, candidates->code, candidates->next);
    if (index == HASH_PAGE_NOWHERE) return false;
    candidates->next = index + 1;
    *score = hash_page_score(&candidates->page, index);
    return true;
}
/* Has the CPU fetch the hashes of a page, and then, when they have come, the score of the first candidate. */
void paged_hash_prefetch_codes(const struct paged_hash *hash, uint32_t code);
void paged_hash_prefetch_score(const struct paged_hash *hash, uint32_t code);
/* That score; false: there is none, or it is not in memory. */
bool paged_hash_peek_score(const struct paged_hash *hash, uint32_t code, uint64_t *score);
bool paged_hash_touch_code(const struct paged_hash *hash, struct page_access *access, uint32_t code);
/* Adds it, whatever is there already. */
enum page_status paged_hash_insert_score(struct paged_hash *hash, struct page_access *access, uint32_t code,
                                         uint64_t score) __attribute__((warn_unused_result));
/* Of one item that is exactly so. PAGE_ABSENT: there is none. */
enum page_status paged_hash_replace_score(struct paged_hash *hash, struct page_access *access, uint32_t code,
                                          uint64_t score, uint64_t new_score) __attribute__((warn_unused_result));
enum page_status paged_hash_delete_score(struct paged_hash *hash, struct page_access *access, uint32_t code,
                                         uint64_t score) __attribute__((warn_unused_result));

/* ---- walking: all kinds ----
 *
 *   struct paged_hash_walk walk;
 *   paged_hash_walk_all(&walk, hash, access);
 *   while (paged_hash_walk_next(&walk, &item)) ...
 *
 * A page that is missing is passed over (access->missing is set, so what is composed will be thrown away), which has
 * all of them requested. A walk holds until the table changes. */
struct paged_hash_walk {
    const struct paged_hash *hash;
    struct page_access *access;
    struct hash_page page;
    size_t at; /* of the next item in the page */
    uint32_t index, number, end;
};
void paged_hash_walk_all(struct paged_hash_walk *walk, const struct paged_hash *hash, struct page_access *access);
/* One page: that of a cursor, 0 at first. Returns the cursor of the next step, below 2^33; 0: this is the last. Items
 * come in the order of their hashes' bits reversed, page by page, so one that is there throughout is met however the
 * table grows and shrinks; it may be met twice. Any number is taken for a cursor. */
uint64_t paged_hash_walk_scan(struct paged_hash_walk *walk, const struct paged_hash *hash, struct page_access *access,
                              uint64_t cursor);
bool paged_hash_walk_next_page(struct paged_hash_walk *walk);
static inline bool paged_hash_walk_next(struct paged_hash_walk *walk, struct paged_hash_item *item) {
    while (__builtin_expect(walk->index == walk->page.count, 0))
        if (!paged_hash_walk_next_page(walk)) return false;
    walk->at += hash_page_item(&walk->page, walk->index++, walk->at, item);
    return true;
}

/* ---- random: kinds MAP and SET ----
 *
 * Each item is equally likely, wherever it is. A command that is run again must draw the same numbers, or it might wait
 * for another page each time: seed `random` from what stays the same for the command (session->random where there is a
 * tier). */

/* PAGE_ABSENT: the table is empty. */
enum page_status paged_hash_random(struct paged_hash *hash, struct page_access *access, struct random *random,
                                   struct paged_hash_item *item) __attribute__((warn_unused_result));
/* Where an item is; holds until the table changes. */
static inline uint64_t paged_hash_place(uint32_t page, uint32_t index) {
    return (uint64_t)page << 16 | index;
}
/* `want` different ones, each set of as many equally likely, in ascending order. Precondition: want <= count. Reads no
 * page. O(want log want), or O(count) when want is a large part of it. */
void paged_hash_sample(struct paged_hash *hash, struct random *random, size_t want, uint64_t *places);
/* PAGE_DONE or PAGE_MISSING. */
enum page_status paged_hash_at(const struct paged_hash *hash, struct page_access *access, uint64_t place,
                               struct paged_hash_item *item) __attribute__((warn_unused_result));
/* Removes the items at these places, which are ascending; `visit` (or NULL) sees each before. The pages are asked for
 * first: PAGE_MISSING has changed nothing. PAGE_NO_MEMORY may have removed some; `removed` (or NULL) says how many. */
typedef void paged_hash_visit(void *ctx, const struct paged_hash_item *item);
enum page_status paged_hash_remove_places(struct paged_hash *hash, struct page_access *access, const uint64_t *places,
                                          size_t count, paged_hash_visit *visit, void *ctx, size_t *removed)
    __attribute__((warn_unused_result));

/* ---- expiry: kind MAP ---- */

/* A slice of a sweep through all pages, which is going on in the table itself: removes what has expired at `now_ms` on
 * the next `budget` pages (those on which nothing can expire cost next to nothing and count as a 64th); `visit` (or
 * NULL) sees each before it goes. True: there is more. False: a sweep has ended, and the collection's next_expiry_ms is
 * what was seen. Stops, and is to be called again, where a page is missing. */
bool paged_hash_sweep(struct paged_hash *hash, struct page_access *access, int64_t now_ms, unsigned budget,
                      paged_hash_visit *visit, void *ctx);

/* ---- for collection_kind ---- */

/* There is nothing outside of the pages: no release, no bytes. Makes `copy` the same table over `pages`, which will
 * have the same pages and notes. */
void paged_hash_copy(const struct paged_hash *hash, struct paged_hash *copy, struct page_table *pages);

/* What the table knows besides its pages. */
void paged_hash_save(const struct paged_hash *hash, struct state_writer *out);
/* The same table over `pages`, which are still to come. False: what was saved cannot be. */
bool paged_hash_load(struct paged_hash *hash, struct page_table *pages, enum paged_hash_kind kind, uint64_t seed,
                     struct state_reader *in) __attribute__((warn_unused_result));
/* The pages have come: whether they are those of this table, by their notes. Reads none. Where one is missing, an empty
 * one takes its place: it was lost, and paged_hash_mend() has seen to the rest. False also: no memory. */
bool paged_hash_loaded(struct paged_hash *hash, struct page_access *access) __attribute__((warn_unused_result));
/* Pages were lost: counts anew, from those that are left, reading them all. False: one cannot be read, or is none of
 * this table's. */
bool paged_hash_mend(struct paged_hash *hash, struct page_access *access) __attribute__((warn_unused_result));

/* Checks counts, notes and every page that is at hand; for tests and debug builds. */
bool paged_hash_validate(const struct paged_hash *hash, struct page_access *access);

#endif
