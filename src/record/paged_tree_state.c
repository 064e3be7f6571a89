/* Saving a paged_tree without its leaves, and making it again.
 *
 * Of a tree only the row of its leaves is told: how many items each has, its page number, and the separator before it.
 *
 *    0       2             6                   14              22       26
 *   +-------+-------------+-------------------+---------------+--------+---------- - -
 *   | items | page number | first number      | second number | length | tail         what the shape does not have
 *   +-------+-------------+-------------------+---------------+--------+---------- - - is left out
 *
 * The first leaf has no separator, nor have those of a tree without keys. Two bytes of zeros, for no items, end the
 * row. Behind it stand in the same way, without separators, the leaves that were cut off and are still to be dropped
 * (paged_tree_cut.c): their pages are in the table.
 *
 * Nodes are not told. They are made anew, each leaf being put behind the one before as if it had been added there. So
 * what is made is a tree whatever the bytes say: its sums agree, and its nodes are full. What remains to be checked is
 * that separators ascend, that a leaf has as many items as leaves can have, and, once the table has its pages, that
 * each is one leaf's. (In a tree the separator before the first leaf of a node stands further up: it is carried down to
 * the leaf's row.)
 *
 * That a leaf has the items its row says is not looked at, as no page is read: rows and pages come from one checkpoint,
 * whose checksums hold. */

#include "record/paged_tree_private.h"

#include <assert.h>

/* ---- saving ---- */

struct saving {
    const struct paged_tree *tree;
    struct state_writer *out;
    bool separators;
};

static void save_separator(const struct saving *saving, const struct tree_separator *separator) {
    const struct paged_tree_shape *shape = &saving->tree->shape;
    const struct tree_tail *tail = separator->tail;
    for (unsigned i = 0; i < shape->numbers; i++) state_write_u64(saving->out, separator->numbers[i]);
    if (shape->tail) state_write_text(saving->out, tail ? span_of(tail->bytes, tail->length) : span_of("", 0));
}

/* `bound`: the separator before the node's first leaf; NULL: there is none. */
static void save_rows(const struct saving *saving, const struct tree_node *node, const struct tree_separator *bound) {
    for (uint32_t i = 0; i < node->used; i++) {
        const struct tree_entry entry = tree_node_get(node, i);
        const struct tree_separator *separator = i ? &entry.separator : bound;
        if (node->level) {
            save_rows(saving, entry.node, separator);
            continue;
        }
        state_write_u16(saving->out, (uint16_t)entry.count);
        state_write_u32(saving->out, entry.page);
        if (saving->separators && separator) save_separator(saving, separator);
    }
}

void paged_tree_save(const struct paged_tree *tree, struct state_writer *out) {
    struct saving saving = {tree, out, tree_has_keys(tree)};
    if (tree->root) save_rows(&saving, tree->root, NULL);
    state_write_u16(out, 0);
    saving.separators = false;
    uint32_t count;
    struct tree_node *const *pieces = tree_cut_pieces(tree, &count);
    for (uint32_t i = 0; i < count; i++) save_rows(&saving, pieces[i], NULL);
    state_write_u16(out, 0);
}

/* ---- loading ---- */

struct loading {
    struct paged_tree *tree;
    struct state_reader *in;
    bool separators;
    struct tree_path path; /* to the last leaf; its separator: */
    struct paged_key last;
};

/* The tail is the caller's, also when it fails. */
static bool load_separator(struct loading *loading, struct tree_separator *separator) {
    const struct paged_tree_shape *shape = &loading->tree->shape;
    for (unsigned i = 0; i < shape->numbers; i++) separator->numbers[i] = state_read_u64(loading->in);
    struct paged_key key = {{separator->numbers[0], separator->numbers[1]}, span_of("", 0)};
    uint32_t length = shape->tail ? state_read_u32(loading->in) : 0;
    if (length > PAGE_PAYLOAD_MAX || loading->in->failed) return false;
    if (length) {
        separator->tail = tree_tail_allocate(length, &loading->tree->node_bytes);
        if (!separator->tail || !state_read_text(loading->in, separator->tail->bytes, length)) return false;
        key.tail = span_of(separator->tail->bytes, length);
    }
    bool ascends = paged_key_compare(&loading->last, &key) < 0;
    loading->last = key;
    return ascends;
}

static bool add_first(struct loading *loading, const struct tree_entry *entry) {
    struct paged_tree *tree = loading->tree;
    tree->root = tree_node_make(&tree->shape, 0, 1, &tree->node_bytes);
    if (!tree->root) return false;
    tree_node_insert(tree->root, 0, entry);
    loading->path.at[0] = (struct paged_tree_step){tree->root, 0};
    tree->count = entry->count;
    return true;
}

/* Behind the last one. The separator's tail is the tree's from here on. */
static bool add_leaf(struct loading *loading, const struct tree_entry *entry) {
    struct paged_tree *tree = loading->tree;
    struct paged_tree_step *step = &loading->path.at[0];
    if (!tree_make_room(tree, &loading->path)) {
        tree_tail_free(entry->separator.tail, &tree->node_bytes);
        return false;
    }
    struct tree_entry uncounted = *entry;
    uncounted.count = 0;
    tree_node_insert(step->node, ++step->index, &uncounted);
    tree_add_count(tree, &loading->path, (int64_t)entry->count);
    return true;
}

static bool load_leaf(struct loading *loading, uint32_t items) {
    struct paged_tree *tree = loading->tree;
    struct tree_entry entry = {.count = items, .page = state_read_u32(loading->in)};
    if (items > LEAF_ITEMS_MAX || loading->in->failed) return false;
    if (!tree->root) return add_first(loading, &entry);
    if (loading->separators && !load_separator(loading, &entry.separator)) {
        tree_tail_free(entry.separator.tail, &tree->node_bytes);
        return false;
    }
    return add_leaf(loading, &entry);
}

static bool load_rows(struct paged_tree *tree, struct state_reader *in, bool separators) {
    struct loading loading = {.tree = tree, .in = in, .separators = separators, .last = {.tail = span_of("", 0)}};
    for (uint32_t items; (items = state_read_u16(in)) != 0;)
        if (!load_leaf(&loading, items)) return false;
    return !in->failed;
}

/* What was cut off becomes one piece. It is made as a tree of its own, whose nodes are handed over. */
static bool load_cut(struct paged_tree *tree, struct state_reader *in) {
    struct paged_tree piece = {.table = tree->table, .shape = tree->shape, .leaf_payload = tree->leaf_payload};
    bool loaded = load_rows(&piece, in, false);
    if (loaded && !piece.root) return true;
    if (loaded && tree_adopt_cut(tree, piece.root)) {
        tree->node_bytes += piece.node_bytes;
        return true;
    }
    while (paged_tree_release(&piece, 1000)) continue;
    return false;
}

bool paged_tree_load(struct paged_tree *tree, struct state_reader *in) {
    assert(!tree->root && !tree->cut);
    return load_rows(tree, in, tree_has_keys(tree)) && load_cut(tree, in);
}

/* ---- claiming ---- */

static bool claim_below(const struct paged_tree *tree, const struct tree_node *node) {
    for (uint32_t i = 0; i < node->used; i++) {
        bool claimed = node->level ? claim_below(tree, tree_node_children(node)[i])
                                   : page_claim(tree->table, tree_node_pages(node)[i]);
        if (!claimed) return false;
    }
    return true;
}

bool paged_tree_claim(const struct paged_tree *tree) {
    if (tree->root && !claim_below(tree, tree->root)) return false;
    uint32_t count;
    struct tree_node *const *pieces = tree_cut_pieces(tree, &count);
    for (uint32_t i = 0; i < count; i++)
        if (!claim_below(tree, pieces[i])) return false;
    return true;
}
