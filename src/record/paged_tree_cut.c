/* Cutting whole leaves off a paged_tree without going to them.
 *
 * What LTRIM, XTRIM or ZREMRANGEBYSCORE takes away may be millions of items. Leaves that go whole are not dropped one
 * by one: the inner nodes above them are cut apart along the two ways from the root to the range's ends,
 *
 *            root                 a   b | c   d   e | f          | ... |  is cut off: c, d and e as they are,
 *                                    /       \       \                    in a node of their own,
 *            level 1               g  h | i        | j  k                 i in another, and nothing of f's node
 *                                                                         but what stands before the range's end
 *
 * which takes O(log n). The pieces, two for each level at most, are kept in the tree, and their leaves are dropped in
 * slices by paged_tree_drop_cut(). Until then the pages are the table's as before, so that they are moved, tiered and
 * freed with the collection; only the tree does not lead to them any more, and does not count them.
 *
 * Order: memory for the pieces is had before anything is changed, and nothing fails afterwards. */

#include "record/paged_tree_private.h"

#include <assert.h>
#include <stdlib.h>

enum { PIECES_MAX = 2 * PAGED_TREE_LEVELS_MAX };

/* Inner nodes, of any levels, that the tree does not lead to any more. */
struct tree_cut {
    uint32_t count, capacity;
    struct tree_node *pieces[];
};

/* Entries from .. end - 1 of a node, which go. */
struct stretch {
    struct tree_node *node, *piece;
    uint32_t from, end;
};

struct cutting {
    struct tree_path left, right; /* to the first leaf that goes, and the last */
    struct stretch stretches[PIECES_MAX];
    unsigned count;
    bool whole; /* the tree */
};

/* ---- what goes ---- */

static uint64_t leaf_begin(const struct paged_tree *tree, uint64_t position, struct tree_path *path) {
    return position - tree_descend_position(tree, path, position, false);
}

static uint64_t leaf_items(const struct tree_path *path) {
    return tree_node_count(path->at[0].node, path->at[0].index);
}

/* Makes the range one of whole leaves; false: there is none. The ways lead to its first and last leaf. */
static bool find_leaves(const struct paged_tree *tree, uint64_t *first, uint64_t *end, struct cutting *cutting) {
    uint64_t begin = leaf_begin(tree, *first, &cutting->left);
    if (begin != *first) {
        *first = begin + leaf_items(&cutting->left);
        if (*first >= *end) return false;
        (void)leaf_begin(tree, *first, &cutting->left);
    }
    begin = leaf_begin(tree, *end - 1, &cutting->right);
    if (begin + leaf_items(&cutting->right) != *end) {
        *end = begin;
        if (*first >= *end) return false;
        (void)leaf_begin(tree, *end - 1, &cutting->right);
    }
    return true;
}

static void add_stretch(struct cutting *cutting, struct tree_node *node, uint32_t from, uint32_t end) {
    if (from < end) cutting->stretches[cutting->count++] = (struct stretch){node, NULL, from, end};
}

/* Level by level from the leaves: on the left whatever is behind the way goes, on the right what is before it, and
 * where the ways part what is between them. A node all of whose entries go is one of the level above. */
static void find_stretches(const struct paged_tree *tree, struct cutting *cutting) {
    unsigned level = 0, top = tree->root->level;
    uint32_t from = cutting->left.at[0].index, end = cutting->right.at[0].index + 1;
    for (; cutting->left.at[level].node != cutting->right.at[level].node; level++) {
        struct tree_node *left = cutting->left.at[level].node, *right = cutting->right.at[level].node;
        bool left_goes = from == 0, right_goes = end == right->used;
        if (!left_goes) add_stretch(cutting, left, from, left->used);
        if (!right_goes) add_stretch(cutting, right, 0, end);
        from = cutting->left.at[level + 1].index + !left_goes;
        end = cutting->right.at[level + 1].index + right_goes;
    }
    for (; from == 0 && end == cutting->left.at[level].node->used; level++) {
        if (level == top) {
            cutting->whole = true;
            return;
        }
        from = cutting->left.at[level + 1].index;
        end = from + 1;
    }
    add_stretch(cutting, cutting->left.at[level].node, from, end);
}

/* ---- the cut ---- */

static bool reserve_pieces(struct paged_tree *tree, unsigned more) {
    uint32_t count = tree->cut ? tree->cut->count : 0, before = tree->cut ? tree->cut->capacity : 0;
    if (count + more <= before) return true;
    uint32_t capacity = count + more;
    struct tree_cut *cut = realloc(tree->cut, sizeof(*cut) + capacity * sizeof(cut->pieces[0]));
    if (!cut) return false;
    if (!before) tree->node_bytes += sizeof(*cut);
    tree->node_bytes += (capacity - before) * sizeof(cut->pieces[0]);
    cut->count = count;
    cut->capacity = capacity;
    tree->cut = cut;
    return true;
}

static bool make_pieces(struct paged_tree *tree, struct cutting *cutting) {
    for (unsigned i = 0; i < cutting->count; i++) {
        struct stretch *stretch = &cutting->stretches[i];
        stretch->piece =
            tree_node_make(&tree->shape, stretch->node->level, stretch->end - stretch->from, &tree->node_bytes);
        if (stretch->piece) continue;
        while (i) tree_node_free(cutting->stretches[--i].piece, &tree->node_bytes);
        return false;
    }
    return true;
}

/* The entries on a way, from the lowest level on, count less by what went below them. */
static void take_stretch(struct paged_tree *tree, const struct cutting *cutting, const struct stretch *stretch) {
    unsigned level = stretch->node->level;
    const struct tree_path *path = cutting->left.at[level].node == stretch->node ? &cutting->left : &cutting->right;
    uint64_t items = 0;
    for (uint32_t i = stretch->from; i < stretch->end; i++) items += tree_node_count(stretch->node, i);
    for (level++; level <= tree->root->level; level++)
        tree_node_add_count(path->at[level].node, path->at[level].index, -(int64_t)items);
    tree->count -= items;
}

static void keep_piece(struct paged_tree *tree, struct tree_node *piece) {
    tree->cut->pieces[tree->cut->count++] = piece;
}

static void join_around(struct paged_tree *tree, uint64_t position) {
    struct tree_path path;
    if (!tree->root || position >= tree->count) return;
    tree_descend_position(tree, &path, position, false);
    tree_join_nodes(tree, &path);
}

enum page_status paged_tree_cut_leaves(struct paged_tree *tree, struct page_access *access, uint64_t first,
                                       uint64_t count, uint64_t *gone) {
    struct cutting cutting = {.count = 0};
    *gone = 0;
    if (first >= tree->count) return PAGE_ABSENT;
    uint64_t before = tree->count, end = count < before - first ? first + count : before;
    if (first == end || !find_leaves(tree, &first, &end, &cutting)) return PAGE_DONE;
    if (!page_begin_change(access)) return tree_failure(access);
    find_stretches(tree, &cutting);
    if (!reserve_pieces(tree, cutting.count + 1) || !make_pieces(tree, &cutting)) return PAGE_NO_MEMORY;

    if (cutting.whole) {
        assert(cutting.count == 0 && first == 0 && end == before);
        keep_piece(tree, tree->root);
        tree->root = NULL;
        tree->count = 0;
    }
    /* Counts first, while the ways lead where they did; within a node the stretch does not reach its way's entry. */
    for (unsigned i = 0; i < cutting.count; i++) take_stretch(tree, &cutting, &cutting.stretches[i]);
    for (unsigned i = 0; i < cutting.count; i++) {
        struct stretch *stretch = &cutting.stretches[i];
        tree_node_take(stretch->node, stretch->from, stretch->end, stretch->piece, &tree->node_bytes);
        keep_piece(tree, stretch->piece);
    }
    if (first) join_around(tree, first - 1);
    join_around(tree, first);
    *gone = before - tree->count;
    assert(*gone == end - first);
    return PAGE_DONE;
}

/* As long as a range is short its leaves are dropped at once: they are a few tens of microseconds. */
enum { CUT_FROM_ITEMS = 1024 };

enum page_status paged_tree_cut_range(struct paged_tree *tree, struct page_access *access, uint64_t first,
                                      uint64_t count) {
    if (first >= tree->count) return PAGE_ABSENT;
    if (count > tree->count - first) count = tree->count - first;
    if (count >= CUT_FROM_ITEMS) {
        uint64_t gone;
        if (!paged_tree_touch_ends(tree, access, first, count)) return PAGE_MISSING;
        enum page_status status = paged_tree_cut_leaves(tree, access, first, count, &gone);
        if (status != PAGE_DONE || gone == count) return status;
        count -= gone;
    }
    return paged_tree_delete_range(tree, access, first, count);
}

/* ---- afterwards ---- */

static bool visit_leaf(const struct paged_tree *tree, struct page_access *access, uint32_t page,
                       paged_tree_visit *visit, void *ctx) {
    struct leaf leaf;
    if (page_is_cold(tree->table, page) || !tree_open_leaf(tree, access, page, &leaf)) return false;
    size_t before = 0;
    for (uint32_t row = 0; row < leaf.count; row++) {
        const struct paged_item item = leaf_item(&leaf, row, before);
        before += leaf_item_bytes(&leaf, row);
        visit(ctx, &item);
    }
    return true;
}

static void free_cut(struct paged_tree *tree) {
    tree->node_bytes -= sizeof(*tree->cut) + tree->cut->capacity * sizeof(tree->cut->pieces[0]);
    free(tree->cut);
    tree->cut = NULL;
}

/* Takes the last entry of the last piece's last node away; nodes without entries go with it. */
static bool drop_entry(struct paged_tree *tree, struct page_access *access, paged_tree_visit *visit, void *ctx) {
    struct tree_node *above = NULL, *node = tree->cut->pieces[tree->cut->count - 1];
    while (node->level && node->used) {
        above = node;
        node = tree_node_children(node)[node->used - 1u];
    }
    if (node->used) {
        uint32_t page = tree_node_pages(node)[node->used - 1u];
        if (visit) (void)visit_leaf(tree, access, page, visit, ctx);
        if (!page_drop(access, tree->table, page)) return false;
        tree_node_remove(node, node->used - 1u, &tree->node_bytes);
    }
    if (node->used) return true;
    if (above)
        tree_node_remove(above, above->used - 1u, &tree->node_bytes);
    else if (--tree->cut->count == 0)
        free_cut(tree);
    tree_node_free(node, &tree->node_bytes);
    return true;
}

bool paged_tree_drop_cut(struct paged_tree *tree, struct page_access *access, unsigned budget, paged_tree_visit *visit,
                         void *ctx) {
    for (; tree->cut && budget; budget--)
        if (!drop_entry(tree, access, visit, ctx)) break;
    return tree->cut != NULL;
}

bool tree_release_cut(struct paged_tree *tree, unsigned *budget) {
    for (; tree->cut && *budget; --*budget) {
        struct tree_node **place = &tree->cut->pieces[tree->cut->count - 1];
        tree_release_node(tree, place);
        if (!*place && --tree->cut->count == 0) free_cut(tree);
    }
    return tree->cut != NULL;
}

bool tree_adopt_cut(struct paged_tree *tree, struct tree_node *piece) {
    if (!reserve_pieces(tree, 1)) return false;
    keep_piece(tree, piece);
    return true;
}

struct tree_node *const *tree_cut_pieces(const struct paged_tree *tree, uint32_t *count) {
    *count = tree->cut ? tree->cut->count : 0;
    return tree->cut ? tree->cut->pieces : NULL;
}

bool tree_copy_cut(const struct paged_tree *tree, struct paged_tree *copy) {
    if (!tree->cut) return true;
    if (!reserve_pieces(copy, tree->cut->count)) return false;
    for (uint32_t i = 0; i < tree->cut->count; i++) {
        struct tree_node *piece = tree_copy_node(tree->cut->pieces[i], &tree->shape, &copy->node_bytes);
        if (!piece) return false;
        keep_piece(copy, piece);
    }
    return true;
}

static size_t bytes_below(const struct tree_node *node) {
    size_t bytes = tree_node_bytes(node);
    for (uint32_t i = 0; i < node->used; i++) {
        struct tree_entry entry = tree_node_get(node, i);
        if (entry.separator.tail) bytes += sizeof(struct tree_tail) + entry.separator.tail->length;
        if (node->level) bytes += bytes_below(entry.node);
    }
    return bytes;
}

size_t tree_cut_bytes(const struct paged_tree *tree) {
    if (!tree->cut) return 0;
    size_t bytes = sizeof(*tree->cut) + tree->cut->capacity * sizeof(tree->cut->pieces[0]);
    for (uint32_t i = 0; i < tree->cut->count; i++) bytes += bytes_below(tree->cut->pieces[i]);
    return bytes;
}

static uint64_t leaves_below(const struct tree_node *node) {
    if (!node->level) return node->used;
    uint64_t leaves = 0;
    for (uint32_t i = 0; i < node->used; i++) leaves += leaves_below(tree_node_children(node)[i]);
    return leaves;
}

uint64_t paged_tree_cut_pages(const struct paged_tree *tree) {
    uint64_t leaves = 0;
    for (uint32_t i = 0; tree->cut && i < tree->cut->count; i++) leaves += leaves_below(tree->cut->pieces[i]);
    return leaves;
}
