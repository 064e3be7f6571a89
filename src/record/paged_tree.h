#ifndef TERRACE_RECORD_PAGED_TREE_H
#define TERRACE_RECORD_PAGED_TREE_H

/* An ordered collection of any size: a B+tree that counts. Leaves are pages (page_table.h), inner nodes are in DRAM.
 *
 *   root --> inner nodes (tree_node.h): child, items below it, the smallest key it may hold; ~25 bytes for each leaf
 *              --> leaves (paged_leaf.h): 2 to 4 KB of items, packed
 *
 * An item is a key and a value, either of which the tree may do without. A key is up to two unsigned numbers and then a
 * tail of bytes; keys are compared by the numbers, then by the tails as memcmp() does, the shorter first. So
 *
 *                     numbers                      tail     value
 *   list              -                            -        element            addressed by position only
 *   sorted set        score, in order's image      member   -
 *   stream            milliseconds, sequence       -        entry
 *   pending entries   milliseconds, sequence       -        consumer, time, count
 *
 * Every item has a position, 0 to count - 1. Trees with keys have each key once. A tree without keys has items where
 * they were put.
 *
 * Several trees may use one page table (a stream and its pending entries).
 *
 * Costs: one leaf is read for a key or a position, plus memory that is small enough to be cached; O(log n).
 *
 * Pages that are not at hand: see page_table.h. An operation on one leaf answers PAGE_MISSING and has changed nothing;
 * those on a range first ask for all of it. A cursor steps over the leaf (see there).
 *
 * Threads: the lock of the shard whose collection it is. */

#include "record/page_status.h"
#include "record/page_table.h"
#include "record/paged_leaf.h"
#include "record/state.h"

struct tree_node;
struct tree_cut;

/* An entry of an inner node, on the way to a leaf. */
struct paged_tree_step {
    struct tree_node *node;
    uint32_t index;
};

enum {
    PAGED_TREE_LEVELS_MAX = 12,   /* nodes are at least an eighth full but for the edges: 2^31 leaves take 8 */
    PAGED_TREE_LEAF_BYTES = 2000, /* payload at which a leaf is split; its page then is 2 KB */
    PAGED_TREE_LIST_BYTES = 4000, /* the same for lists: 4 KB */
};

/* Made by paged_tree_init() within the root of a collection; nobody else writes to it. */
struct paged_tree {
    struct page_table *table;
    struct tree_node *root; /* NULL: empty */
    uint64_t count;         /* of items */
    size_t node_bytes;      /* of inner nodes */
    struct paged_tree_shape shape;
    uint32_t leaf_payload; /* of a full leaf: shape.leaf_bytes, rounded up to what fills the page's size class */
    struct tree_cut *cut;  /* leaves that were cut off and are still to be dropped; NULL: none */
};

/* `shape.leaf_bytes` 0: PAGED_TREE_LEAF_BYTES. A tree that is empty holds no memory. */
void paged_tree_init(struct paged_tree *tree, struct page_table *table, struct paged_tree_shape shape);

static inline uint64_t paged_tree_count(const struct paged_tree *tree) {
    return tree->count;
}

/* Bytes of inner nodes. Pages and table are counted by page_table.h. */
size_t paged_tree_bytes(const struct paged_tree *tree);

/* ---- cursors: reading ----
 *
 *   struct paged_tree_cursor at;
 *   for (paged_tree_at(&at, tree, access, first); at.valid && at.position < end; paged_tree_next(&at)) {
 *       if (at.missing) continue;
 *       ... at.item.key, at.item.value, at.position
 *   }
 *
 * A cursor holds until the tree (or another one in the same table) changes, or a page is made. The spans of `item`
 * point into the leaf, for as long. Where the leaf is missing the cursor stands on its first or last position (by where
 * it comes from), `missing` is set and the item is empty; the next step leaves the leaf. access->missing is set as
 * well, so what was composed will be thrown away: going on to the end of the range has the other leaves requested. */
struct paged_tree_cursor {
    uint64_t position; /* of the item; when not valid: count */
    struct paged_item item;
    bool valid;   /* it is on an item, or in a leaf that is missing */
    bool missing; /* the leaf is not at hand */

    /* the cursor's own */
    const struct paged_tree *tree;
    struct page_access *access;
    struct leaf leaf;
    size_t blob_before; /* bytes of the items before this one in the leaf */
    uint32_t index;     /* in the leaf */
    uint32_t leaf_count;
    struct paged_tree_step path[PAGED_TREE_LEVELS_MAX]; /* by level: 0 leads to the leaf */
};

/* To a position; not valid when it is not below count. */
void paged_tree_at(struct paged_tree_cursor *cursor, const struct paged_tree *tree, struct page_access *access,
                   uint64_t position);
static inline void paged_tree_first(struct paged_tree_cursor *cursor, const struct paged_tree *tree,
                                    struct page_access *access) {
    paged_tree_at(cursor, tree, access, 0);
}
static inline void paged_tree_last(struct paged_tree_cursor *cursor, const struct paged_tree *tree,
                                   struct page_access *access) {
    paged_tree_at(cursor, tree, access, tree->count ? tree->count - 1 : 0);
}

/* To the first item whose key is not below `key`; not valid (position: count) when there is none. So the number of
 * items below a key is at.position. When the leaf is missing the position is that of the leaf's first item. */
void paged_tree_seek(struct paged_tree_cursor *cursor, const struct paged_tree *tree, struct page_access *access,
                     const struct paged_key *key);
/* The same for the first item whose key is above `key`. */
void paged_tree_seek_after(struct paged_tree_cursor *cursor, const struct paged_tree *tree, struct page_access *access,
                           const struct paged_key *key);

/* One item on, or back; before the first and behind the last the cursor is no longer valid. Precondition: valid. */
void paged_tree_next(struct paged_tree_cursor *cursor);
void paged_tree_previous(struct paged_tree_cursor *cursor);

/* The item with this key: its value, which points into the leaf, and (at more cost) its position. Either may be NULL.
 * PAGE_DONE, PAGE_ABSENT or PAGE_MISSING. */
enum page_status paged_tree_find(const struct paged_tree *tree, struct page_access *access, const struct paged_key *key,
                                 struct span *value, uint64_t *position) __attribute__((warn_unused_result));

/* Has the leaves of positions first .. first + count - 1 requested, as far as they are; true when all are at hand. */
bool paged_tree_touch(const struct paged_tree *tree, struct page_access *access, uint64_t first, uint64_t count);
/* The leaf where the key is or would be. */
bool paged_tree_touch_key(const struct paged_tree *tree, struct page_access *access, const struct paged_key *key);

/* Ask the processor for memory, for all that is resident; with a few trees, or keys, at a time. PREFETCH_STEPS steps,
 * from 0 on, lead to where an item is put behind the last one: each reads what the one before has asked for. */
enum { PAGED_TREE_PREFETCH_STEPS = 4 };
void paged_tree_prefetch_last(const struct paged_tree *tree, unsigned step);
/* The leaf that has the key; nodes are read on the spot. */
void paged_tree_prefetch_key(const struct paged_tree *tree, const struct paged_key *key);

/* ---- changing ----
 *
 * All answer PAGE_DONE, or what is named, or PAGE_MISSING or PAGE_NO_MEMORY, and then nothing has changed. Keys and
 * values are copied; they must not point into pages of the table. Cursors are no longer good, whatever is answered. */

/* Precondition: the tree has keys. PAGE_EXISTS: and is left as it is. */
enum page_status paged_tree_insert(struct paged_tree *tree, struct page_access *access, const struct paged_key *key,
                                   struct span value) __attribute__((warn_unused_result));
/* Before the item that has this position; position <= count. Precondition: the tree has no keys. */
enum page_status paged_tree_insert_at(struct paged_tree *tree, struct page_access *access, uint64_t position,
                                      struct span value) __attribute__((warn_unused_result));
static inline enum page_status paged_tree_push_first(struct paged_tree *tree, struct page_access *access,
                                                     struct span value) {
    return paged_tree_insert_at(tree, access, 0, value);
}
static inline enum page_status paged_tree_push_last(struct paged_tree *tree, struct page_access *access,
                                                    struct span value) {
    return paged_tree_insert_at(tree, access, tree->count, value);
}

/* Gives the item another value, of any length. PAGE_ABSENT. */
enum page_status paged_tree_replace(struct paged_tree *tree, struct page_access *access, const struct paged_key *key,
                                    struct span value) __attribute__((warn_unused_result));
enum page_status paged_tree_replace_at(struct paged_tree *tree, struct page_access *access, uint64_t position,
                                       struct span value) __attribute__((warn_unused_result));

/* PAGE_ABSENT. */
enum page_status paged_tree_delete(struct paged_tree *tree, struct page_access *access, const struct paged_key *key)
    __attribute__((warn_unused_result));

/* Deletes the items at positions first .. first + count - 1 (as far as they are). Leaves that go whole are not read.
 * The leaves at both ends are asked for first: PAGE_MISSING has changed nothing. PAGE_NO_MEMORY may have deleted some.
 * O(leaves) */
enum page_status paged_tree_delete_range(struct paged_tree *tree, struct page_access *access, uint64_t first,
                                         uint64_t count) __attribute__((warn_unused_result));
/* Asks for the leaves at both ends of such a range, as far as they do not go whole; true: they are at hand. */
bool paged_tree_touch_ends(struct paged_tree *tree, struct page_access *access, uint64_t first, uint64_t count);
/* A step of the same, for slices: deletes from the leaf that has the item `first`, at most `count` items, and says how
 * many. PAGE_ABSENT: there is no such position. */
enum page_status paged_tree_delete_some(struct paged_tree *tree, struct page_access *access, uint64_t first,
                                        uint64_t count, uint64_t *deleted) __attribute__((warn_unused_result));

/* ---- cutting off ----
 *
 * For ranges of any length: leaves that go whole are cut off with the nodes above them and stay in the table, where the
 * tree does not lead to them any more; they are to be dropped by paged_tree_drop_cut(), and go with the tree at the
 * latest. O(log n), no leaf is read. */

/* Takes the leaves away that lie wholly within positions first .. first + count - 1, and says how many items went with
 * them. What is left of the range begins at `first` and is less than two leaves. PAGE_NO_MEMORY has changed nothing. */
enum page_status paged_tree_cut_leaves(struct paged_tree *tree, struct page_access *access, uint64_t first,
                                       uint64_t count, uint64_t *gone) __attribute__((warn_unused_result));
/* As paged_tree_delete_range(), cutting off when the range is long. */
enum page_status paged_tree_cut_range(struct paged_tree *tree, struct page_access *access, uint64_t first,
                                      uint64_t count) __attribute__((warn_unused_result));
/* Whether there are leaves to be dropped. */
static inline bool paged_tree_has_cut(const struct paged_tree *tree) {
    return tree->cut != NULL;
}
/* How many there are. O(nodes above them) */
uint64_t paged_tree_cut_pages(const struct paged_tree *tree);
/* Drops about `budget` of them; true: there are more. Before a leaf goes its items are shown to `visit` (NULL: they
 * need not be), unless it is cold, or on its way there; it may change other tables, not this one. The spans point into
 * the leaf. */
typedef void paged_tree_visit(void *ctx, const struct paged_item *item);
bool paged_tree_drop_cut(struct paged_tree *tree, struct page_access *access, unsigned budget, paged_tree_visit *visit,
                         void *ctx);

/* ---- for collection_kind ---- */

/* Frees about `budget` inner nodes; true: there are more. The pages are not freed (page_table_release() does that); the
 * tree is not to be used meanwhile, and is empty at the end. */
bool paged_tree_release(struct paged_tree *tree, unsigned budget);
/* Gives up an empty or full tree whose table lives on: inner nodes and pages, in about `budget` steps; true: there is
 * more. A stream's consumer group that is destroyed. Pages are dropped without being read. When pages may not be
 * dropped now (access->missing) it answers true. */
bool paged_tree_clear(struct paged_tree *tree, struct page_access *access, unsigned budget);
/* Makes `copy` (not initialised) a tree of the same contents over `table`, which will have the same pages under the
 * same numbers. False: no memory; then `copy` is empty. */
bool paged_tree_copy(const struct paged_tree *tree, struct paged_tree *copy, struct page_table *table)
    __attribute__((warn_unused_result));

/* ---- for checkpoints: paged_tree_state.c ----
 *
 * Between the two stands a file. The tree that is loaded has the same items under the same page numbers, and the same
 * leaves that were cut off. */

/* Appends what the tree knows besides its pages: 6 bytes a leaf, and its separator. Of a frozen copy no lock is needed,
 * since nobody else looks at its nodes. O(leaves) */
void paged_tree_save(const struct paged_tree *tree, struct state_writer *out);
/* Makes the tree again, which was initialised and is empty; its table need not have the pages yet. False: damaged, or
 * no memory; it is to be released then. The bytes come from a file: what they say is checked as far as it can be
 * without the pages. */
bool paged_tree_load(struct paged_tree *tree, struct state_reader *in) __attribute__((warn_unused_result));
/* Claims all of its pages, those of leaves that were cut off among them (page_claim()). False: one is not there, or is
 * another leaf's as well. */
bool paged_tree_claim(const struct paged_tree *tree) __attribute__((warn_unused_result));

/* Checks order, counts, separators and every leaf that is at hand; for tests and debug builds. */
bool paged_tree_validate(const struct paged_tree *tree, struct page_access *access);

#endif
