/* Reading a paged_tree along its order: cursors, and asking for pages ahead.
 *
 * A cursor keeps the way from the root, so that going on from a leaf to the next is a step in the lowest node. Within a
 * leaf it keeps how many bytes lie before its item, so that the next item is found without summing up lengths. */

#include "record/paged_tree_private.h"

#include <assert.h>

static void show(struct paged_tree_cursor *cursor) {
    cursor->item = leaf_item(&cursor->leaf, cursor->index, cursor->blob_before);
}

static void stand_at(struct paged_tree_cursor *cursor, uint32_t row) {
    cursor->index = row;
    cursor->blob_before = leaf_blob_before(&cursor->leaf, row);
    show(cursor);
}

/* Opens the leaf that the path leads to. False: it is missing. */
static bool open_leaf(struct paged_tree_cursor *cursor) {
    const struct paged_tree_step *step = &cursor->path[0];
    cursor->leaf_count = (uint32_t)tree_node_count(step->node, step->index);
    cursor->valid = true;
    cursor->missing =
        !tree_open_leaf(cursor->tree, cursor->access, tree_node_pages(step->node)[step->index], &cursor->leaf);
    if (cursor->missing) cursor->item = (struct paged_item){0};
    return !cursor->missing;
}

static void end(struct paged_tree_cursor *cursor) {
    cursor->valid = cursor->missing = false;
    cursor->position = cursor->tree->count;
    cursor->item = (struct paged_item){0};
}

static bool begin(struct paged_tree_cursor *cursor, const struct paged_tree *tree, struct page_access *access) {
    cursor->tree = tree;
    cursor->access = access;
    cursor->valid = cursor->missing = false;
    return tree->root != NULL;
}

void paged_tree_at(struct paged_tree_cursor *cursor, const struct paged_tree *tree, struct page_access *access,
                   uint64_t position) {
    if (!begin(cursor, tree, access) || position >= tree->count) {
        end(cursor);
        return;
    }
    struct tree_path path;
    uint32_t row = tree_descend_position(tree, &path, position, false);
    memcpy(cursor->path, path.at, (tree->root->level + 1u) * sizeof(path.at[0]));
    cursor->position = position;
    cursor->index = row;
    if (open_leaf(cursor)) stand_at(cursor, row);
}

/* ---- steps ---- */

/* To the neighbouring leaf; false: there is none. */
static bool step_leaf(struct paged_tree_cursor *cursor, bool forward) {
    unsigned level = 0, top = cursor->tree->root->level;
    for (;; level++) {
        if (level > top) return false;
        struct paged_tree_step *step = &cursor->path[level];
        if (forward ? step->index + 1u < step->node->used : step->index > 0) {
            step->index = forward ? step->index + 1 : step->index - 1;
            break;
        }
    }
    for (; level; level--) {
        struct tree_node *node = tree_node_children(cursor->path[level].node)[cursor->path[level].index];
        cursor->path[level - 1] = (struct paged_tree_step){node, forward ? 0 : node->used - 1u};
    }
    return true;
}

static void next_leaf(struct paged_tree_cursor *cursor) {
    cursor->position += cursor->leaf_count - cursor->index;
    if (!step_leaf(cursor, true)) {
        end(cursor);
        return;
    }
    cursor->index = 0;
    if (open_leaf(cursor)) stand_at(cursor, 0);
}

void paged_tree_next(struct paged_tree_cursor *cursor) {
    assert(cursor->valid);
    if (cursor->missing || cursor->index + 1 == cursor->leaf_count) {
        next_leaf(cursor);
        return;
    }
    cursor->blob_before += cursor->item.key.tail.length + cursor->item.value.length;
    cursor->index++;
    cursor->position++;
    show(cursor);
}

void paged_tree_previous(struct paged_tree_cursor *cursor) {
    assert(cursor->valid);
    if (cursor->missing || cursor->index == 0) {
        uint64_t first = cursor->position - cursor->index;
        if (!step_leaf(cursor, false)) {
            end(cursor);
            return;
        }
        bool open = open_leaf(cursor);
        cursor->position = first - 1;
        cursor->index = cursor->leaf_count - 1;
        if (open) stand_at(cursor, cursor->index);
        return;
    }
    cursor->index--;
    cursor->position--;
    cursor->blob_before -= leaf_item_bytes(&cursor->leaf, cursor->index);
    show(cursor);
}

/* ---- by key ---- */

static void seek(struct paged_tree_cursor *cursor, const struct paged_tree *tree, struct page_access *access,
                 const struct paged_key *key, bool after) {
    if (!begin(cursor, tree, access)) {
        end(cursor);
        return;
    }
    struct tree_path path;
    tree_descend_key(tree, &path, key);
    cursor->position = 0;
    for (unsigned level = 0; level <= tree->root->level; level++) {
        cursor->path[level] = path.at[level];
        cursor->position += tree_node_before(path.at[level].node, path.at[level].index);
    }
    cursor->index = 0;
    if (!open_leaf(cursor)) return;
    bool found;
    uint32_t row = leaf_search(&cursor->leaf, &tree->shape, key, after, &found);
    cursor->position += row;
    cursor->index = row;
    if (row == cursor->leaf_count)
        next_leaf(cursor);
    else
        stand_at(cursor, row);
}

void paged_tree_seek(struct paged_tree_cursor *cursor, const struct paged_tree *tree, struct page_access *access,
                     const struct paged_key *key) {
    seek(cursor, tree, access, key, false);
}

void paged_tree_seek_after(struct paged_tree_cursor *cursor, const struct paged_tree *tree, struct page_access *access,
                           const struct paged_key *key) {
    seek(cursor, tree, access, key, true);
}

/* ---- asking ahead ---- */

bool paged_tree_touch(const struct paged_tree *tree, struct page_access *access, uint64_t first, uint64_t count) {
    if (first >= tree->count || count == 0 || !access->source) return true;
    if (count > tree->count - first) count = tree->count - first;
    struct tree_path path;
    struct paged_tree_cursor cursor = {.tree = tree};
    uint64_t left = count + tree_descend_position(tree, &path, first, false);
    memcpy(cursor.path, path.at, sizeof(path.at));
    bool at_hand = true;
    for (;;) {
        const struct paged_tree_step *step = &cursor.path[0];
        uint64_t items = tree_node_count(step->node, step->index);
        at_hand &= page_touch(access, tree->table, tree_node_pages(step->node)[step->index]);
        if (items >= left || !step_leaf(&cursor, true)) return at_hand;
        left -= items;
    }
}

bool paged_tree_touch_key(const struct paged_tree *tree, struct page_access *access, const struct paged_key *key) {
    if (!tree->root || !access->source) return true;
    struct tree_path path;
    tree_descend_key(tree, &path, key);
    return page_touch(access, tree->table, tree_path_page(&path));
}
