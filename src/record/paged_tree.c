/* Ordered collections: finding, inserting, replacing. paged_tree.h says what the tree is, paged_leaf.h how a leaf is
 * laid out, tree_node.h what is above the leaves; paged_tree_nodes.c changes that part, paged_tree_delete.c deletes.
 *
 * An insertion ends in one of three ways, tried in this order:
 *
 *   the leaf takes the item       one page changes; the counts above grow by one
 *   a leaf is added beside it     for the item alone: at the tree's ends, whose leaves so stay full, and beside items
 * that are as big as a leaf; the leaf that was found does not change the leaf is split, and then   a split changes
 * nothing that can be seen, and has succeeded or not happened. Each makes all is tried again            the leaf
 * smaller, so an end is reached
 *
 * Thus each change that can be seen is made of steps that may fail, all of them first, and steps that cannot.
 *
 * A leaf grows with its items, size class by size class; one at an end of the tree is going to be full soon, and grows
 * by halves. */

#include "record/paged_tree_private.h"

#include <assert.h>

void paged_tree_init(struct paged_tree *tree, struct page_table *table, struct paged_tree_shape shape) {
    if (!shape.leaf_bytes) shape.leaf_bytes = PAGED_TREE_LEAF_BYTES;
    *tree = (struct paged_tree){.table = table, .shape = shape};
    tree->leaf_payload = (uint32_t)page_payload_filling(shape.leaf_bytes);
}

enum page_status paged_tree_find(const struct paged_tree *tree, struct page_access *access, const struct paged_key *key,
                                 struct span *value, uint64_t *position) {
    if (!tree->root) return PAGE_ABSENT;
    struct tree_path path;
    struct leaf leaf;
    tree_descend_key(tree, &path, key);
    if (!tree_open_leaf(tree, access, tree_path_page(&path), &leaf)) return PAGE_MISSING;
    bool found;
    uint32_t row = leaf_search(&leaf, &tree->shape, key, false, &found);
    if (!found) return PAGE_ABSENT;
    if (value) *value = leaf_item(&leaf, row, leaf_blob_before(&leaf, row)).value;
    if (position) {
        *position = row;
        for (unsigned level = 0; level <= tree->root->level; level++)
            *position += tree_node_before(path.at[level].node, path.at[level].index);
    }
    return PAGE_DONE;
}

/* ---- leaves as pages ---- */

bool tree_edit_leaf(const struct paged_tree *tree, struct page_access *access, uint32_t page, struct leaf *leaf,
                    size_t length) {
    assert(length >= leaf->length);
    char *payload = page_edit(access, tree->table, page, length);
    if (!payload) return false;
    leaf_relocate(leaf, &tree->shape, payload, length);
    return true;
}

void tree_shrink_leaf(const struct paged_tree *tree, struct page_access *access, uint32_t page, struct leaf *leaf) {
    size_t before = leaf->length, length = page_payload_filling(leaf_bytes_used(&tree->shape, leaf));
    if (length >= before) return;
    leaf_relocate(leaf, &tree->shape, leaf->data, length);
    char *payload = page_edit(access, tree->table, page, length);
    if (payload)
        leaf_relocate(leaf, &tree->shape, payload, length);
    else
        leaf_relocate(leaf, &tree->shape, leaf->data, before);
}

/* ---- what an item needs ---- */

struct fit {
    size_t bytes;   /* of the leaf with it */
    bool recode;    /* by the plan */
    bool is_enough; /* the leaf does not become too big */
    struct leaf_plan plan;
};

static void plan_fit(const struct leaf *leaf, const struct paged_item *item, struct fit *fit) {
    struct leaf_range range = {0};
    leaf_range_add_rows(&range, leaf, 0, leaf->count);
    leaf_range_add_item(&range, item);
    fit->plan = leaf_plan_for(&range);
    fit->recode = true;
}

static struct fit fit_of(const struct paged_tree *tree, const struct leaf *leaf, const struct paged_item *item) {
    struct fit fit;
    uint32_t row_bytes = leaf->row_bytes;
    fit.recode = false;
    if (!leaf_holds(leaf, item)) {
        plan_fit(leaf, item, &fit);
        row_bytes = fit.plan.row_bytes;
    }
    size_t blob = leaf->blob + item->key.tail.length + item->value.length;
    fit.bytes = leaf_bytes_for(&tree->shape, row_bytes, leaf->count + 1, blob);
    fit.is_enough = leaf->count < LEAF_ITEMS_MAX && fit.bytes <= tree->leaf_payload;
    return fit;
}

/* How long to make a leaf that has to have `bytes`. */
static size_t roomy(const struct paged_tree *tree, size_t bytes, bool at_end) {
    size_t most = tree->leaf_payload, half = most / 2, small = 512;
    if (bytes > most) return page_payload_filling(bytes);
    if (at_end)
        return bytes > half ? most : bytes > half / 2 ? page_payload_filling(half) : page_payload_filling(half / 2);
    if (bytes < small) bytes += bytes / 4;
    bytes = page_payload_filling(bytes);
    return bytes < most ? bytes : most;
}

static bool at_tree_end(const struct paged_tree *tree, const struct tree_path *path, const struct leaf *leaf,
                        uint32_t row) {
    return (row == leaf->count && tree_path_is_edge(tree, path, 0, true)) ||
           (row == 0 && tree_path_is_edge(tree, path, 0, false));
}

/* ---- inserting ---- */

static enum page_status put_item(struct paged_tree *tree, struct page_access *access, const struct tree_path *path,
                                 struct leaf *leaf, uint32_t row, const struct paged_item *item,
                                 const struct fit *fit) {
    size_t length = leaf->length;
    if (fit->bytes > length) length = roomy(tree, fit->bytes, at_tree_end(tree, path, leaf, row));
    if (!tree_edit_leaf(tree, access, tree_path_page(path), leaf, length)) return tree_failure(access);
    if (fit->recode) leaf_recode(leaf, &tree->shape, &fit->plan);
    leaf_insert(leaf, row, item);
    tree_add_count(tree, path, 1);
    return PAGE_DONE;
}

/* A page with the item alone; PAGE_NONE: no memory, or not now. */
static uint32_t make_leaf(struct paged_tree *tree, struct page_access *access, const struct paged_item *item,
                          bool at_end) {
    struct leaf_range range = {0};
    leaf_range_add_item(&range, item);
    struct leaf_plan plan = leaf_plan_for(&range);
    size_t blob = item->key.tail.length + item->value.length;
    size_t length = roomy(tree, leaf_bytes_for(&tree->shape, plan.row_bytes, 1, blob), at_end);
    char *payload;
    uint32_t page = page_add(access, tree->table, length, &payload);
    if (page == PAGE_NONE) return page;
    struct leaf leaf;
    leaf_format(&leaf, &tree->shape, &plan, payload, length);
    leaf_insert(&leaf, 0, item);
    return page;
}

static enum page_status make_first_leaf(struct paged_tree *tree, struct page_access *access,
                                        const struct paged_item *item) {
    struct tree_node *root = tree_node_make(&tree->shape, 0, 1, &tree->node_bytes);
    uint32_t page = root ? make_leaf(tree, access, item, false) : PAGE_NONE;
    if (page == PAGE_NONE) {
        if (root) tree_node_free(root, &tree->node_bytes);
        return tree_failure(access);
    }
    tree_node_insert(root, 0, &(struct tree_entry){.page = page, .count = 1});
    tree->root = root;
    tree->count = 1;
    return PAGE_DONE;
}

static bool separate(struct paged_tree *tree, struct tree_separator *separator, const struct paged_key *lower,
                     const struct paged_key *upper) {
    *separator = (struct tree_separator){0};
    return !tree_has_keys(tree) || tree_separator_make(separator, lower, upper, &tree->node_bytes);
}

static struct paged_key key_of_row(const struct leaf *leaf, uint32_t row) {
    return leaf_item(leaf, row, leaf_blob_before(leaf, row)).key;
}

/* The leaf behind this one takes the item as its first, if it has room and is at hand. */
static bool put_into_next(struct paged_tree *tree, struct page_access *access, struct tree_path *path,
                          const struct leaf *leaf, const struct paged_item *item, enum page_status *status) {
    struct tree_node *node = path->at[0].node;
    uint32_t next = path->at[0].index + 1;
    if (next == node->used) return false;
    uint32_t page = tree_node_pages(node)[next];
    struct leaf neighbour;
    if (page_is_cold(tree->table, page) || !tree_open_leaf(tree, access, page, &neighbour)) return false;
    struct fit fit = fit_of(tree, &neighbour, item);
    if (!fit.is_enough) return false;
    struct tree_separator separator;
    struct paged_key last = key_of_row(leaf, leaf->count - 1);
    if (!separate(tree, &separator, &last, &item->key)) {
        *status = PAGE_NO_MEMORY;
        return true;
    }
    path->at[0].index = next;
    *status = put_item(tree, access, path, &neighbour, 0, item, &fit);
    if (*status == PAGE_DONE)
        tree_node_set_separator(node, next, &separator, &tree->node_bytes);
    else
        tree_tail_free(separator.tail, &tree->node_bytes);
    return true;
}

/* Before or behind the leaf, as the row is 0 or count. */
static enum page_status add_leaf(struct paged_tree *tree, struct page_access *access, struct tree_path *path,
                                 const struct leaf *leaf, uint32_t row, const struct paged_item *item) {
    enum page_status status;
    if (row && put_into_next(tree, access, path, leaf, item, &status)) return status;
    if (!page_begin_change(access)) return tree_failure(access);
    bool at_end = at_tree_end(tree, path, leaf, row);
    if (!tree_make_room(tree, path)) return PAGE_NO_MEMORY;
    struct tree_separator separator;
    struct paged_key neighbour = key_of_row(leaf, row ? row - 1 : 0);
    if (!separate(tree, &separator, row ? &neighbour : &item->key, row ? &item->key : &neighbour))
        return PAGE_NO_MEMORY;
    uint32_t page = make_leaf(tree, access, item, at_end);
    if (page == PAGE_NONE) {
        tree_tail_free(separator.tail, &tree->node_bytes);
        return tree_failure(access);
    }
    /* The new entry is always the one behind: before the leaf, the leaf's own becomes that of the new page. */
    struct paged_tree_step *step = &path->at[0];
    struct tree_entry entry = {.separator = separator, .page = page, .count = 0};
    if (row == 0) {
        entry.page = tree_node_pages(step->node)[step->index];
        entry.count = tree_node_count(step->node, step->index);
        tree_node_pages(step->node)[step->index] = page;
        tree_node_add_count(step->node, step->index, -(int64_t)entry.count);
    }
    tree_node_insert(step->node, step->index + 1, &entry);
    if (row) step->index++;
    tree_add_count(tree, path, 1);
    return PAGE_DONE;
}

/* ---- splitting ---- */

uint32_t tree_cut(const struct paged_tree *tree, const struct leaf *leaf, uint32_t row, size_t bytes) {
    if (row > 0 && row < leaf->count && bytes > tree->leaf_payload / 2) return row;
    size_t half = (leaf->blob + (size_t)leaf->count * leaf->row_bytes) / 2, sum = 0;
    uint32_t cut = 0;
    while (cut < leaf->count && sum < half) sum += leaf_item_bytes(leaf, cut++) + leaf->row_bytes;
    return cut == 0 ? 1 : cut == leaf->count ? leaf->count - 1 : cut;
}

/* The rows from `row` on go to the new page; the leaf is being edited. */
static void share_out(const struct paged_tree *tree, struct leaf *leaf, uint32_t row, struct leaf *right,
                      const struct leaf_plan *plan, char *payload, size_t length) {
    leaf_format(right, &tree->shape, plan, payload, length);
    leaf_append(right, leaf, row, leaf->count);
    leaf_remove(leaf, row, leaf->count - row);
    struct leaf_range range = {0};
    leaf_range_add_rows(&range, leaf, 0, row);
    struct leaf_plan left = leaf_plan_for(&range);
    leaf_recode(leaf, &tree->shape, &left);
}

enum page_status tree_split_leaf(struct paged_tree *tree, struct page_access *access, struct tree_path *path,
                                 struct leaf *leaf, uint32_t row) {
    assert(row > 0 && row < leaf->count);
    uint32_t page = tree_path_page(path), moved = leaf->count - row;
    if (!page_begin_change(access)) return tree_failure(access);
    if (!tree_make_room(tree, path)) return PAGE_NO_MEMORY;
    if (!tree_edit_leaf(tree, access, page, leaf, leaf->length)) return tree_failure(access);

    struct leaf_range range = {0};
    leaf_range_add_rows(&range, leaf, row, leaf->count);
    struct leaf_plan plan = leaf_plan_for(&range);
    size_t bytes = leaf_bytes_for(&tree->shape, plan.row_bytes, moved, leaf_sum(leaf, row, leaf->count));
    size_t length = page_payload_filling(bytes);
    struct tree_entry entry = {.count = moved};
    struct paged_key lower = key_of_row(leaf, row - 1), upper = key_of_row(leaf, row);
    if (!separate(tree, &entry.separator, &lower, &upper)) return PAGE_NO_MEMORY;
    char *payload;
    entry.page = page_add(access, tree->table, length, &payload);
    if (entry.page == PAGE_NONE) {
        tree_tail_free(entry.separator.tail, &tree->node_bytes);
        return tree_failure(access);
    }

    /* Nothing fails from here on: the leaf is in memory. */
    bool open = tree_open_leaf(tree, access, page, leaf);
    assert(open);
    struct leaf right;
    share_out(tree, leaf, row, &right, &plan, payload, length);
    struct paged_tree_step *step = &path->at[0];
    tree_node_add_count(step->node, step->index, -(int64_t)moved);
    tree_node_insert(step->node, step->index + 1, &entry);
    tree_shrink_leaf(tree, access, page, leaf);
    return PAGE_DONE;
}

/* ---- the way of an insertion ---- */

static enum page_status insert_once(struct paged_tree *tree, struct page_access *access, const struct paged_item *item,
                                    uint64_t position, bool *again) {
    struct tree_path path;
    struct leaf leaf;
    uint32_t row = 0;
    bool by_key = tree_has_keys(tree), found = false;
    if (by_key)
        tree_descend_key(tree, &path, &item->key);
    else
        row = tree_descend_position(tree, &path, position, true);
    if (!tree_open_leaf(tree, access, tree_path_page(&path), &leaf)) return tree_failure(access);
    if (by_key) row = leaf_search(&leaf, &tree->shape, &item->key, false, &found);
    if (found) return PAGE_EXISTS;

    struct fit fit = fit_of(tree, &leaf, item);
    if (fit.is_enough) return put_item(tree, access, &path, &leaf, row, item, &fit);
    size_t bytes = item->key.tail.length + item->value.length;
    bool beside = row == 0 || row == leaf.count;
    if (beside && (leaf.count == 1 || bytes > tree->leaf_payload / 2 || at_tree_end(tree, &path, &leaf, row)))
        return add_leaf(tree, access, &path, &leaf, row, item);
    *again = true;
    return tree_split_leaf(tree, access, &path, &leaf, tree_cut(tree, &leaf, row, bytes));
}

static enum page_status insert(struct paged_tree *tree, struct page_access *access, const struct paged_item *item,
                               uint64_t position) {
    if (!tree->root) return make_first_leaf(tree, access, item);
    for (;;) {
        bool again = false;
        enum page_status status = insert_once(tree, access, item, position, &again);
        if (!again || status != PAGE_DONE) return status;
    }
}

enum page_status paged_tree_insert(struct paged_tree *tree, struct page_access *access, const struct paged_key *key,
                                   struct span value) {
    assert(tree_has_keys(tree));
    return insert(tree, access, &(struct paged_item){*key, value}, 0);
}

enum page_status paged_tree_insert_at(struct paged_tree *tree, struct page_access *access, uint64_t position,
                                      struct span value) {
    assert(!tree_has_keys(tree) && position <= tree->count);
    return insert(tree, access, &(struct paged_item){.value = value}, position);
}

/* ---- replacing ---- */

static enum page_status replace_once(struct paged_tree *tree, struct page_access *access, struct tree_path *path,
                                     struct leaf *leaf, uint32_t row, struct span value, bool *again) {
    uint32_t row_bytes = leaf->row_bytes;
    struct leaf_plan plan;
    bool recode = !leaf_holds_value(leaf, value.length);
    if (recode) {
        struct fit fit;
        struct paged_key key = key_of_row(leaf, row);
        plan_fit(leaf, &(struct paged_item){key, value}, &fit);
        plan = fit.plan;
        row_bytes = plan.row_bytes;
    }
    size_t blob = leaf->blob + value.length - leaf_get(leaf, LEAF_VALUE, row);
    size_t bytes = leaf_bytes_for(&tree->shape, row_bytes, leaf->count, blob), length = leaf->length;
    if (bytes > tree->leaf_payload && bytes > length && leaf->count > 1) {
        *again = true;
        uint32_t cut = tree_cut(tree, leaf, row, value.length);
        return tree_split_leaf(tree, access, path, leaf, cut);
    }
    uint32_t page = tree_path_page(path);
    if (bytes > length) length = roomy(tree, bytes, false);
    /* Wider rows have to be beside the old value for a moment. */
    size_t both = leaf_bytes_for(&tree->shape, row_bytes, leaf->count, leaf->blob);
    if (both > length) length = page_payload_filling(both);
    if (!tree_edit_leaf(tree, access, page, leaf, length)) return tree_failure(access);
    if (recode) leaf_recode(leaf, &tree->shape, &plan);
    leaf_set_value(leaf, row, value);
    if (bytes < length - length / 4) tree_shrink_leaf(tree, access, page, leaf);
    return PAGE_DONE;
}

/* By key, or if there is none, by position. */
static enum page_status replace(struct paged_tree *tree, struct page_access *access, const struct paged_key *key,
                                uint64_t position, struct span value) {
    for (;;) {
        if (!tree->root || (!key && position >= tree->count)) return PAGE_ABSENT;
        struct tree_path path;
        struct leaf leaf;
        uint32_t row = 0;
        bool again = false, found = true;
        if (key)
            tree_descend_key(tree, &path, key);
        else
            row = tree_descend_position(tree, &path, position, false);
        if (!tree_open_leaf(tree, access, tree_path_page(&path), &leaf)) return tree_failure(access);
        if (key) row = leaf_search(&leaf, &tree->shape, key, false, &found);
        if (!found) return PAGE_ABSENT;
        enum page_status status = replace_once(tree, access, &path, &leaf, row, value, &again);
        if (!again || status != PAGE_DONE) return status;
    }
}

enum page_status paged_tree_replace(struct paged_tree *tree, struct page_access *access, const struct paged_key *key,
                                    struct span value) {
    return replace(tree, access, key, 0, value);
}

enum page_status paged_tree_replace_at(struct paged_tree *tree, struct page_access *access, uint64_t position,
                                       struct span value) {
    return replace(tree, access, NULL, position, value);
}
