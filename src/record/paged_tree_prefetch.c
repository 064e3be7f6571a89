/* Asking the processor for the memory of a tree ahead of the commands that will want it.
 *
 * The way to an item is a chain of addresses, each of which stands in memory that has to come first: node, page table,
 * entry, leaf, and within the leaf what its header says. One command after the other waits for each link. Asking is
 * therefore done in steps, and every step for a whole group of commands before the next: then a group waits for a link
 * once.
 *
 * A step goes the way again as far as memory has come and asks for the next link. It changes nothing. */

#include "record/paged_tree_private.h"

enum { LINE = 64 };

static inline void ask_for(const void *memory, size_t bytes) {
    for (size_t at = 0; at < bytes; at += LINE) __builtin_prefetch((const char *)memory + at);
}

/* The leaf's record; NULL: it is not in memory. */
static inline const struct record *leaf_record(const struct paged_tree *tree, uint32_t page) {
    uint64_t ref = page_ref(tree->table, page);
    return ref_is_cold(ref) ? NULL : ref_record(ref);
}

static uint32_t last_page(const struct paged_tree *tree) {
    const struct tree_node *node = tree->root;
    while (node->level) node = tree_node_children(node)[node->used - 1u];
    return tree_node_pages(node)[node->used - 1u];
}

/* Where the next row and the next item go. */
static void ask_for_end(const struct paged_tree *tree, const struct record *record) {
    struct span payload = page_payload(record);
    struct leaf leaf;
    leaf_open(&leaf, &tree->shape, payload.data, payload.length);
    __builtin_prefetch(leaf.rows + (size_t)leaf.count * leaf.row_bytes, 1);
    __builtin_prefetch(leaf.data + leaf.length - leaf.blob - 1, 1);
}

void paged_tree_prefetch_last(const struct paged_tree *tree, unsigned step) {
    if (!tree->root) return;
    if (step == 0) {
        ask_for(tree->root, 2 * LINE);
        __builtin_prefetch(tree->table->chunks);
        return;
    }
    uint32_t page = last_page(tree);
    if (step == 1) {
        __builtin_prefetch(page_entry(tree->table, page));
        return;
    }
    const struct record *record = leaf_record(tree, page);
    if (!record) return;
    if (step == 2)
        ask_for(record, 2 * LINE);
    else
        ask_for_end(tree, record);
}

void paged_tree_prefetch_key(const struct paged_tree *tree, const struct paged_key *key) {
    struct tree_path path;
    if (!tree->root) return;
    tree_descend_key(tree, &path, key);
    const struct record *record = leaf_record(tree, tree_path_page(&path));
    if (record) ask_for(record, TREE_LEAF_PREFETCH);
}
