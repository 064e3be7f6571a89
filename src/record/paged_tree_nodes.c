/* How a paged_tree grows and shrinks above its leaves.
 *
 * On the way to an insertion nodes are split before they overflow, from the highest full one down, each split leaving a
 * proper tree: so a lack of memory stops anywhere without harm. Nodes at the tree's edges are not halved but begun
 * anew, which leaves those of a tree that only grows at an end full.
 *
 * A node that has fallen below a quarter is joined with a neighbour if the two are not too many together. That needs
 * memory and may be left undone. */

#include "record/paged_tree_private.h"

#include <stdlib.h>

bool tree_path_is_edge(const struct paged_tree *tree, const struct tree_path *path, unsigned level, bool last) {
    for (; level <= tree->root->level; level++) {
        const struct paged_tree_step *step = &path->at[level];
        if (step->index != (last ? step->node->used - 1u : 0)) return false;
    }
    return true;
}

/* ---- growing ---- */

static bool reserve_entry(struct paged_tree *tree, struct tree_path *path, unsigned level) {
    struct tree_node *node = path->at[level].node;
    struct tree_node *grown = tree_node_reserve(node, node->used + 1u, &tree->node_bytes);
    if (!grown) return false;
    path->at[level].node = grown;
    if (node == tree->root)
        tree->root = grown;
    else
        tree_node_children(path->at[level + 1].node)[path->at[level + 1].index] = grown;
    return true;
}

static bool add_root(struct paged_tree *tree, struct tree_path *path) {
    unsigned level = tree->root->level + 1u;
    assert(level < PAGED_TREE_LEVELS_MAX);
    struct tree_node *root = tree_node_make(&tree->shape, level, 2, &tree->node_bytes);
    if (!root) return false;
    tree_node_insert(root, 0, &(struct tree_entry){.node = tree->root, .count = tree->count});
    tree->root = root;
    path->at[level] = (struct paged_tree_step){root, 0};
    return true;
}

/* Precondition: the node above has room. */
static bool split_node(struct paged_tree *tree, struct tree_path *path, unsigned level) {
    struct paged_tree_step *step = &path->at[level], *above = &path->at[level + 1];
    struct tree_node *node = step->node;
    uint32_t cut = node->used / 2u;
    if (tree_path_is_edge(tree, path, level, true))
        cut = node->used - 1u;
    else if (tree_path_is_edge(tree, path, level, false))
        cut = 1;
    struct tree_node *right = tree_node_make(&tree->shape, level, node->used - cut, &tree->node_bytes);
    if (!right) return false;
    tree_node_move(node, cut, right);
    struct tree_entry entry = tree_node_get(right, 0);
    entry.node = right;
    entry.count = tree_node_total(right);
    if (right->tail) tree_node_tails(right)[0] = NULL; /* it is the upper node's now */
    tree_node_add_count(above->node, above->index, -(int64_t)entry.count);
    tree_node_insert(above->node, above->index + 1, &entry);
    if (step->index >= cut) {
        *step = (struct paged_tree_step){right, step->index - cut};
        above->index++;
    }
    return true;
}

bool tree_make_room(struct paged_tree *tree, struct tree_path *path) {
    unsigned level = 0, top = tree->root->level;
    while (level <= top && path->at[level].node->used == TREE_NODE_MAX) level++;
    if (level > top && !add_root(tree, path)) return false;
    for (; level > 0; level--)
        if (!reserve_entry(tree, path, level) || !split_node(tree, path, level - 1)) return false;
    return reserve_entry(tree, path, 0);
}

/* ---- shrinking ---- */

/* Moves all of the entry `i + 1`'s node to the end of the entry i's, and removes the entry. */
static void join_nodes(struct paged_tree *tree, struct tree_node *above, uint32_t i) {
    struct tree_node **children = tree_node_children(above);
    struct tree_node *left = children[i], *right = children[i + 1];
    if (left->used + right->used > TREE_NODE_MAX * 3 / 4) return;
    left = tree_node_reserve(left, left->used + right->used, &tree->node_bytes);
    if (!left) return;
    children[i] = left;
    struct tree_entry entry = tree_node_get(above, i + 1);
    tree_node_set_separator(right, 0, &entry.separator, &tree->node_bytes);
    if (above->tail) tree_node_tails(above)[i + 1] = NULL;
    tree_node_move(right, 0, left);
    tree_node_free(right, &tree->node_bytes);
    tree_node_add_count(above, i, (int64_t)entry.count);
    tree_node_remove(above, i + 1, &tree->node_bytes);
}

static void join_if_small(struct paged_tree *tree, const struct paged_tree_step *step,
                          const struct paged_tree_step *above) {
    if (step->node->used >= TREE_NODE_MAX / 4) return;
    uint32_t before = above->node->used;
    if (above->index + 1u < before) join_nodes(tree, above->node, above->index);
    if (above->index && before == above->node->used) join_nodes(tree, above->node, above->index - 1);
}

static void lower_root(struct paged_tree *tree) {
    while (tree->root && tree->root->level && tree->root->used == 1) {
        struct tree_node *root = tree->root;
        tree->root = tree_node_children(root)[0];
        tree_node_free(root, &tree->node_bytes);
    }
}

void tree_join_nodes(struct paged_tree *tree, struct tree_path *path) {
    for (unsigned level = 0; level < tree->root->level; level++)
        join_if_small(tree, &path->at[level], &path->at[level + 1]);
    lower_root(tree);
}

void tree_remove_entry(struct paged_tree *tree, struct tree_path *path) {
    unsigned top = tree->root->level;
    for (unsigned level = 0; level <= top; level++) {
        struct paged_tree_step *step = &path->at[level];
        tree_node_remove(step->node, step->index, &tree->node_bytes);
        if (step->node->used) {
            /* Joining takes an entry from the node above, which may thereby become small itself. */
            for (; level < top; level++) join_if_small(tree, &path->at[level], &path->at[level + 1]);
            break;
        }
        if (step->node == tree->root) tree->root = NULL;
        tree_node_free(step->node, &tree->node_bytes);
    }
    lower_root(tree);
}

/* ---- all of them ---- */

/* Those above lose their last entry. */
void tree_release_node(struct paged_tree *tree, struct tree_node **place) {
    struct tree_node *above = NULL, *node = *place;
    while (node->level && node->used) {
        above = node;
        node = tree_node_children(node)[node->used - 1u];
    }
    if (above)
        tree_node_remove(above, above->used - 1u, &tree->node_bytes);
    else
        *place = NULL;
    tree_node_free(node, &tree->node_bytes);
}

bool paged_tree_release(struct paged_tree *tree, unsigned budget) {
    if (tree->cut && tree_release_cut(tree, &budget)) return true;
    for (; tree->root && budget; budget--) tree_release_node(tree, &tree->root);
    if (tree->root) return true;
    tree->count = 0;
    return false;
}

struct tree_node *tree_copy_node(const struct tree_node *node, const struct paged_tree_shape *shape, size_t *bytes) {
    struct tree_node *copy = tree_node_make(shape, node->level, node->used, bytes);
    if (!copy) return NULL;
    for (uint32_t i = 0; i < node->used; i++) {
        struct tree_entry entry = tree_node_get(node, i);
        const struct tree_tail *tail = entry.separator.tail;
        entry.separator.tail = tail ? tree_tail_make(span_of(tail->bytes, tail->length), bytes) : NULL;
        bool whole = !tail || entry.separator.tail;
        if (whole && node->level) whole = (entry.node = tree_copy_node(entry.node, shape, bytes)) != NULL;
        if (!whole) {
            tree_tail_free(entry.separator.tail, bytes);
            struct paged_tree partial = {.root = copy, .shape = *shape, .node_bytes = *bytes};
            while (paged_tree_release(&partial, 1000)) continue;
            *bytes = partial.node_bytes;
            return NULL;
        }
        tree_node_insert(copy, i, &entry);
    }
    return copy;
}

bool paged_tree_copy(const struct paged_tree *tree, struct paged_tree *copy, struct page_table *table) {
    *copy = *tree;
    copy->table = table;
    copy->root = NULL;
    copy->cut = NULL;
    copy->node_bytes = 0;
    bool copied = tree_copy_cut(tree, copy);
    if (copied && tree->root)
        copied = (copy->root = tree_copy_node(tree->root, &tree->shape, &copy->node_bytes)) != NULL;
    if (copied) return true;
    while (paged_tree_release(copy, 1000)) continue;
    copy->count = 0;
    return false;
}

size_t paged_tree_bytes(const struct paged_tree *tree) {
    return tree->node_bytes;
}
