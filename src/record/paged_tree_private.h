#ifndef TERRACE_RECORD_PAGED_TREE_PRIVATE_H
#define TERRACE_RECORD_PAGED_TREE_PRIVATE_H

/* What the sources of paged_tree share: ways from the root to a leaf, and leaves as pages. */

#include "record/paged_tree.h"
#include "record/tree_node.h"

struct tree_path {
    struct paged_tree_step at[PAGED_TREE_LEVELS_MAX]; /* by level */
};

static inline bool tree_has_keys(const struct paged_tree *tree) {
    return tree->shape.numbers || tree->shape.tail;
}

static inline uint32_t tree_path_page(const struct tree_path *path) {
    return tree_node_pages(path->at[0].node)[path->at[0].index];
}

/* What it means that a page could not be had. */
static inline enum page_status tree_failure(const struct page_access *access) {
    return access->missing ? PAGE_MISSING : PAGE_NO_MEMORY;
}

/* To the leaf that has the key. Precondition of all: the tree is not empty. */
static inline void tree_descend_key(const struct paged_tree *tree, struct tree_path *path,
                                    const struct paged_key *key) {
    struct tree_node *node = tree->root;
    for (;;) {
        uint32_t index = tree_node_search(node, key);
        path->at[node->level] = (struct paged_tree_step){node, index};
        if (!node->level) return;
        node = tree_node_children(node)[index];
    }
}

/* To the leaf that has the position; returns the row. `room`: for insertion, so position may be count. */
static inline uint32_t tree_descend_position(const struct paged_tree *tree, struct tree_path *path, uint64_t position,
                                             bool room) {
    struct tree_node *node = tree->root;
    bool last = room ? position == tree->count : position + 1 == tree->count;
    for (;;) {
        uint32_t index;
        if (last) { /* the edges are where lists grow and shrink: no sums there */
            index = node->used - 1u;
        } else if (position == 0) {
            index = 0;
        } else {
            index = tree_node_find(node, &position, room);
        }
        path->at[node->level] = (struct paged_tree_step){node, index};
        if (!node->level) break;
        node = tree_node_children(node)[index];
    }
    if (!last) return (uint32_t)position;
    return tree_node_leaf_counts(node)[node->used - 1u] - !room;
}

/* The counts along a path change, and the tree's. */
static inline void tree_add_count(struct paged_tree *tree, const struct tree_path *path, int64_t delta) {
    for (unsigned level = 0; level <= tree->root->level; level++)
        tree_node_add_count(path->at[level].node, path->at[level].index, delta);
    tree->count += (uint64_t)delta;
}

/* Header and rows are looked at in any case, and lie in the first lines: they are fetched at the same time. */
enum { TREE_LEAF_PREFETCH = 5 * 64 };

static inline bool tree_open_leaf(const struct paged_tree *tree, struct page_access *access, uint32_t page,
                                  struct leaf *leaf) {
    uint64_t ref = page_ref(tree->table, page);
    if (!ref_is_cold(ref)) {
        const char *at = (const char *)ref_record(ref);
        for (unsigned ahead = 0; ahead < TREE_LEAF_PREFETCH; ahead += 64) __builtin_prefetch(at + ahead);
    }
    struct span payload = page_read(access, tree->table, page);
    if (!payload.data) return false;
    leaf_open(leaf, &tree->shape, payload.data, payload.length);
    return true;
}

/* Makes an open leaf one that may be changed, of `length` bytes, which are enough for its items. False: nothing
 * changed. */
bool tree_edit_leaf(const struct paged_tree *tree, struct page_access *access, uint32_t page, struct leaf *leaf,
                    size_t length) __attribute__((warn_unused_result));
/* Shortens a leaf that tree_edit_leaf() has opened to what its items need, or leaves it as it is. */
void tree_shrink_leaf(const struct paged_tree *tree, struct page_access *access, uint32_t page, struct leaf *leaf);

/* Whether the path is the tree's first, or last, at this level and all above. */
bool tree_path_is_edge(const struct paged_tree *tree, const struct tree_path *path, unsigned level, bool last);

/* Room for one more entry in the lowest node of the path, splitting nodes up to the root: that changes nothing that can
 * be seen. The path follows. False: no memory. */
bool tree_make_room(struct paged_tree *tree, struct tree_path *path) __attribute__((warn_unused_result));
/* Takes the entry of the lowest node out of the tree, and nodes that become empty with it; joins nodes that have become
 * small. The leaf has been dropped or moved; its items are no longer counted. The path is used up. */
void tree_remove_entry(struct paged_tree *tree, struct tree_path *path);

/* Joins the nodes along a way, from the lowest level on, with neighbours where they have become small; gives up roots
 * with a single entry. The path is used up. */
void tree_join_nodes(struct paged_tree *tree, struct tree_path *path);

/* Frees the last node of the lowest level below `place`, or the node there, which then is NULL. */
void tree_release_node(struct paged_tree *tree, struct tree_node **place);
/* The node and all below it, over the same page numbers; NULL: no memory. */
struct tree_node *tree_copy_node(const struct tree_node *node, const struct paged_tree_shape *shape, size_t *bytes);
/* What was cut off, for those who give up or copy a tree. */
bool tree_release_cut(struct paged_tree *tree, unsigned *budget);
bool tree_copy_cut(const struct paged_tree *tree, struct paged_tree *copy) __attribute__((warn_unused_result));
/* Adds up what node_bytes counts of it; for checks. */
size_t tree_cut_bytes(const struct paged_tree *tree);
/* For those who save and load it: its pieces, which stay the tree's; one more, whose bytes are counted already. */
struct tree_node *const *tree_cut_pieces(const struct paged_tree *tree, uint32_t *count);
bool tree_adopt_cut(struct paged_tree *tree, struct tree_node *piece) __attribute__((warn_unused_result));

/* Splits the leaf before the row, which is neither 0 nor count. The path is used up. */
enum page_status tree_split_leaf(struct paged_tree *tree, struct page_access *access, struct tree_path *path,
                                 struct leaf *leaf, uint32_t row) __attribute__((warn_unused_result));
/* Where a leaf is best cut so that `bytes` more come in before `row`. Precondition: it has more than one item. */
uint32_t tree_cut(const struct paged_tree *tree, const struct leaf *leaf, uint32_t row, size_t bytes);

#endif
