/* Deleting from a paged_tree.
 *
 * A leaf all of whose items go is dropped without being read. One that loses some is shortened when a quarter of it
 * would lie waste, and joined with a neighbour when the two fill no more than three quarters of a leaf; with neighbours
 * that are not in memory it is left alone. Leaves at the tree's ends are on their way to be full or empty, and are
 * shortened later. Shortening and joining may fail for lack of memory, and are then left undone. */

#include "record/paged_tree_private.h"

#include <assert.h>

/* ---- joining leaves ---- */

/* Appends the items of the entry `i + 1`'s leaf to the entry i's. */
static bool join_leaves(struct paged_tree *tree, struct page_access *access, struct tree_path *path, uint32_t i) {
    struct tree_node *node = path->at[0].node;
    uint32_t left_page = tree_node_pages(node)[i], right_page = tree_node_pages(node)[i + 1];
    struct leaf left, right;
    if (page_is_cold(tree->table, left_page) || page_is_cold(tree->table, right_page)) return false;
    if (!tree_open_leaf(tree, access, left_page, &left) || !tree_open_leaf(tree, access, right_page, &right))
        return false;
    /* Mostly the neighbour is full: known before anything is planned. */
    if (leaf_bytes_used(&tree->shape, &left) + leaf_bytes_used(&tree->shape, &right) > tree->leaf_payload) return false;
    struct leaf_range range = {0};
    leaf_range_add_rows(&range, &left, 0, left.count);
    leaf_range_add_rows(&range, &right, 0, right.count);
    struct leaf_plan plan = leaf_plan_for(&range);
    uint32_t left_count = left.count, count = left.count + right.count;
    size_t bytes = leaf_bytes_for(&tree->shape, plan.row_bytes, count, (size_t)left.blob + right.blob);
    if (count > LEAF_ITEMS_MAX || bytes > tree->leaf_payload - tree->leaf_payload / 4) return false;

    size_t length = page_payload_filling(bytes);
    if (!tree_edit_leaf(tree, access, left_page, &left, length > left.length ? length : left.length)) return false;
    if (!tree_open_leaf(tree, access, right_page, &right)) return false;
    leaf_recode(&left, &tree->shape, &plan);
    leaf_append(&left, &right, 0, right.count);
    if (!page_drop(access, tree->table, right_page)) {
        leaf_remove(&left, left_count, count - left_count);
        return false;
    }
    tree_node_add_count(node, i, (int64_t)(count - left_count));
    path->at[0].index = i + 1;
    tree_remove_entry(tree, path);
    return true;
}

static void join_if_small(struct paged_tree *tree, struct page_access *access, struct tree_path *path,
                          const struct leaf *leaf) {
    if (leaf_bytes_used(&tree->shape, leaf) >= tree->leaf_payload / 4) return;
    uint32_t index = path->at[0].index, used = path->at[0].node->used;
    if (index + 1 < used && join_leaves(tree, access, path, index)) return;
    if (index) join_leaves(tree, access, path, index - 1);
}

/* ---- deleting ---- */

static enum page_status drop_leaf(struct paged_tree *tree, struct page_access *access, struct tree_path *path) {
    if (!page_drop(access, tree->table, tree_path_page(path))) return tree_failure(access);
    tree_add_count(tree, path, -(int64_t)tree_node_count(path->at[0].node, path->at[0].index));
    tree_remove_entry(tree, path);
    return PAGE_DONE;
}

/* Some of the leaf's rows, not all. */
static enum page_status delete_rows(struct paged_tree *tree, struct page_access *access, struct tree_path *path,
                                    struct leaf *leaf, uint32_t row, uint32_t count) {
    uint32_t page = tree_path_page(path);
    if (!tree_edit_leaf(tree, access, page, leaf, leaf->length)) return tree_failure(access);
    leaf_remove(leaf, row, count);
    tree_add_count(tree, path, -(int64_t)count);
    bool at_end = tree_path_is_edge(tree, path, 0, true) || tree_path_is_edge(tree, path, 0, false);
    size_t used = leaf_bytes_used(&tree->shape, leaf);
    if (used < (at_end ? leaf->length / 2 : leaf->length - leaf->length / 4))
        tree_shrink_leaf(tree, access, page, leaf);
    join_if_small(tree, access, path, leaf);
    return PAGE_DONE;
}

enum page_status paged_tree_delete(struct paged_tree *tree, struct page_access *access, const struct paged_key *key) {
    if (!tree->root) return PAGE_ABSENT;
    struct tree_path path;
    struct leaf leaf;
    tree_descend_key(tree, &path, key);
    if (!tree_open_leaf(tree, access, tree_path_page(&path), &leaf)) return tree_failure(access);
    bool found;
    uint32_t row = leaf_search(&leaf, &tree->shape, key, false, &found);
    if (!found) return PAGE_ABSENT;
    return leaf.count == 1 ? drop_leaf(tree, access, &path) : delete_rows(tree, access, &path, &leaf, row, 1);
}

enum page_status paged_tree_delete_some(struct paged_tree *tree, struct page_access *access, uint64_t first,
                                        uint64_t count, uint64_t *deleted) {
    *deleted = 0;
    if (first >= tree->count || count == 0) return first >= tree->count ? PAGE_ABSENT : PAGE_DONE;
    struct tree_path path;
    uint32_t row = tree_descend_position(tree, &path, first, false);
    uint32_t there = (uint32_t)tree_node_count(path.at[0].node, path.at[0].index);
    uint32_t some = count < there - row ? (uint32_t)count : there - row;
    enum page_status status;
    if (some == there) {
        status = drop_leaf(tree, access, &path);
    } else {
        struct leaf leaf;
        if (!tree_open_leaf(tree, access, tree_path_page(&path), &leaf)) return tree_failure(access);
        status = delete_rows(tree, access, &path, &leaf, row, some);
    }
    if (status == PAGE_DONE) *deleted = some;
    return status;
}

/* The leaf of this position, unless positions first .. last take it whole. */
static bool touch_end(struct paged_tree *tree, struct page_access *access, uint64_t position, uint64_t first,
                      uint64_t last) {
    struct tree_path path;
    uint32_t row = tree_descend_position(tree, &path, position, false);
    uint64_t begin = position - row, end = begin + tree_node_count(path.at[0].node, path.at[0].index);
    if (first <= begin && last + 1 >= end) return true;
    return page_touch(access, tree->table, tree_path_page(&path));
}

bool paged_tree_touch_ends(struct paged_tree *tree, struct page_access *access, uint64_t first, uint64_t count) {
    if (!access->source) return true; /* every page is in memory */
    uint64_t last = first + count - 1;
    bool at_hand = touch_end(tree, access, first, first, last);
    return touch_end(tree, access, last, first, last) && at_hand;
}

enum page_status paged_tree_delete_range(struct paged_tree *tree, struct page_access *access, uint64_t first,
                                         uint64_t count) {
    if (first >= tree->count) return PAGE_ABSENT;
    if (count > tree->count - first) count = tree->count - first;
    if (count == 0) return PAGE_DONE;
    if (!paged_tree_touch_ends(tree, access, first, count)) return PAGE_MISSING;
    while (count) {
        uint64_t deleted;
        enum page_status status = paged_tree_delete_some(tree, access, first, count, &deleted);
        if (status != PAGE_DONE) return status;
        count -= deleted;
    }
    return PAGE_DONE;
}

bool paged_tree_clear(struct paged_tree *tree, struct page_access *access, unsigned budget) {
    assert(!tree->cut);
    for (; tree->root && budget; budget--) {
        struct tree_path path;
        tree_descend_position(tree, &path, tree->count - 1, false);
        if (drop_leaf(tree, access, &path) != PAGE_DONE) return true;
    }
    return tree->root != NULL;
}
