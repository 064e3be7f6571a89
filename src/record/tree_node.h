#ifndef TERRACE_RECORD_TREE_NODE_H
#define TERRACE_RECORD_TREE_NODE_H

/* Inner nodes of a paged_tree: in DRAM, from malloc.
 *
 *   node     level 0 leads to pages, a higher level to nodes one level below; 1 to TREE_NODE_MAX entries
 *   entry    separator, child, number of items below it
 *
 * The separator of an entry is not above any key below it, and above every key below the entry before. The first entry
 * of a node has none: what it would be stands further up. It is as short as can be: the tail is left out where the
 * numbers tell the neighbours apart.
 *
 * An entry is not a struct: each of its parts stands in an array of its own, behind the node's header in this order,
 * those the tree does not have left out.
 *
 *   numbers[0], numbers[1]   uint64_t each
 *   tails                    pointers, NULL: empty; owned by the node
 *   children                 pointers; level 0: page numbers (uint32_t)
 *   counts                   uint64_t; level 0: uint32_t
 *
 * So a leaf costs 8 bytes in a list, 24 in a sorted set or stream, and a search looks at what it compares only. A node
 * grows by steps, and moves then. */

#include "record/paged_leaf.h"

enum { TREE_NODE_MAX = 128 };

struct tree_tail {
    uint32_t length;
    char bytes[];
};

struct tree_node {
    uint16_t used, capacity;
    uint8_t level;
    uint8_t numbers;
    bool tail;
    uint64_t arrays[];
};

struct tree_separator {
    uint64_t numbers[2];
    struct tree_tail *tail; /* NULL: empty */
};

struct tree_entry {
    struct tree_separator separator;
    struct tree_node *node; /* level > 0 */
    uint32_t page;          /* level 0 */
    uint64_t count;
};

/* ---- arrays ---- */

static inline uint64_t *tree_node_numbers(const struct tree_node *node, unsigned i) {
    return (uint64_t *)node->arrays + (size_t)i * node->capacity;
}
static inline struct tree_tail **tree_node_tails(const struct tree_node *node) {
    return (struct tree_tail **)(uint64_t *)node->arrays + (size_t)node->numbers * node->capacity;
}
static inline uint64_t *tree_node_payload(const struct tree_node *node) {
    return (uint64_t *)node->arrays + (size_t)(node->numbers + node->tail) * node->capacity;
}
/* level > 0 */
static inline struct tree_node **tree_node_children(const struct tree_node *node) {
    return (struct tree_node **)tree_node_payload(node);
}
static inline uint64_t *tree_node_counts(const struct tree_node *node) {
    return tree_node_payload(node) + node->capacity;
}
/* level 0 */
static inline uint32_t *tree_node_pages(const struct tree_node *node) {
    return (uint32_t *)tree_node_payload(node);
}
static inline uint32_t *tree_node_leaf_counts(const struct tree_node *node) {
    return tree_node_pages(node) + node->capacity;
}

static inline uint64_t tree_node_count(const struct tree_node *node, uint32_t i) {
    return node->level ? tree_node_counts(node)[i] : tree_node_leaf_counts(node)[i];
}
static inline void tree_node_add_count(struct tree_node *node, uint32_t i, int64_t delta) {
    if (node->level)
        tree_node_counts(node)[i] += (uint64_t)delta;
    else
        tree_node_leaf_counts(node)[i] += (uint32_t)delta;
}

/* ---- life ---- */

/* Bytes from malloc. */
size_t tree_node_bytes(const struct tree_node *node);
/* NULL: no memory. Every function that allocates or frees adds to `bytes` what it took, tails included. */
struct tree_node *tree_node_make(const struct paged_tree_shape *shape, unsigned level, unsigned capacity,
                                 size_t *bytes);
/* The node and its tails, not its children. */
void tree_node_free(struct tree_node *node, size_t *bytes);
/* The node with room for so many entries, which may have moved; NULL: no memory, nothing changed. Precondition: no
 * more than TREE_NODE_MAX. */
struct tree_node *tree_node_reserve(struct tree_node *node, unsigned entries, size_t *bytes);

/* The shortest separator between two keys, lower < upper. False: no memory. */
bool tree_separator_make(struct tree_separator *separator, const struct paged_key *lower, const struct paged_key *upper,
                         size_t *bytes);
struct tree_tail *tree_tail_make(struct span tail, size_t *bytes);
/* The same with undefined bytes. */
struct tree_tail *tree_tail_allocate(size_t length, size_t *bytes);
void tree_tail_free(struct tree_tail *tail, size_t *bytes);

/* ---- reading ---- */

/* The entry below which the key is or would be. */
uint32_t tree_node_search(const struct tree_node *node, const struct paged_key *key);
/* The entry that has the item at `position` below the node, which becomes its position below the entry. With `room` a
 * position behind the last item of an entry is that entry's. Precondition: there is one. */
uint32_t tree_node_find(const struct tree_node *node, uint64_t *position, bool room);
/* Items below the entries before this one; below all. */
uint64_t tree_node_before(const struct tree_node *node, uint32_t i);
static inline uint64_t tree_node_total(const struct tree_node *node) {
    return tree_node_before(node, node->used);
}
struct tree_entry tree_node_get(const struct tree_node *node, uint32_t i);

/* ---- changing ---- */

/* Precondition: there is room. The tail is the node's now; of entry 0 the separator does not matter. */
void tree_node_insert(struct tree_node *node, uint32_t i, const struct tree_entry *entry);
/* Writes over an entry and takes its tail; the old one's tail is freed. */
void tree_node_set_separator(struct tree_node *node, uint32_t i, const struct tree_separator *separator, size_t *bytes);
/* Takes the entry out; its tail is freed, and so is that of an entry which becomes the first. */
void tree_node_remove(struct tree_node *node, uint32_t i, size_t *bytes);
/* Moves entries from .. used - 1 to the end of another node of the same level, which has room. The first one's
 * separator moves along as well. */
void tree_node_move(struct tree_node *node, uint32_t from, struct tree_node *target);
/* The same with entries from .. end - 1; those behind them close the gap. Of an entry which becomes the node's first
 * the tail is freed. */
void tree_node_take(struct tree_node *node, uint32_t from, uint32_t end, struct tree_node *target, size_t *bytes);

#endif
