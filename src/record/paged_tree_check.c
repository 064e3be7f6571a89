/* Checks a paged_tree for tests and debug builds: every node, every leaf that is at hand.
 *
 * What holds, for each node n with entries 0 .. u - 1:
 *
 *   1 <= u <= TREE_NODE_MAX, children are one level lower
 *   count(i) = items below child i; > 0
 *   separator(i) <= every key below child i, and > every key below child i - 1, for i >= 1
 *   no tail at separator(0)
 *
 * A tree without a root has no items, and no bytes of nodes: the sum over the nodes, those that were cut off among
 * them, is node_bytes. */

#include "record/paged_tree_private.h"

struct check {
    const struct paged_tree *tree;
    struct page_access *access;
    uint64_t count;
    size_t bytes;
    struct paged_key last; /* of the leaves so far, if they could be read */
    bool any;
};

static struct paged_key key_of(const struct tree_entry *entry) {
    const struct tree_tail *tail = entry->separator.tail;
    return (struct paged_key){{entry->separator.numbers[0], entry->separator.numbers[1]},
                              tail ? span_of(tail->bytes, tail->length) : span_of("", 0)};
}

static bool check_leaf(struct check *check, const struct tree_entry *entry, const struct paged_key *separator) {
    check->count += entry->count;
    struct leaf leaf;
    if (!page_exists(check->tree->table, entry->page) || entry->count == 0) return false;
    if (!tree_open_leaf(check->tree, check->access, entry->page, &leaf)) return true;
    if (leaf.count != entry->count || !leaf_validate(&leaf, &check->tree->shape)) return false;
    if (!tree_has_keys(check->tree)) return true;
    struct paged_key first = leaf_item(&leaf, 0, 0).key;
    if (separator && paged_key_compare(separator, &first) > 0) return false;
    if (check->any && paged_key_compare(&check->last, &first) >= 0) return false;
    if (separator && check->any && paged_key_compare(&check->last, separator) >= 0) return false;
    check->last = leaf_item(&leaf, leaf.count - 1, leaf_blob_before(&leaf, leaf.count - 1)).key;
    check->any = true;
    return true;
}

static bool check_node(struct check *check, const struct tree_node *node, const struct paged_key *separator) {
    if (!node->used || node->used > node->capacity || node->used > TREE_NODE_MAX) return false;
    if (node->numbers != check->tree->shape.numbers || node->tail != check->tree->shape.tail) return false;
    if (node->tail && tree_node_tails(node)[0]) return false;
    check->bytes += tree_node_bytes(node);
    for (uint32_t i = 0; i < node->used; i++) {
        struct tree_entry entry = tree_node_get(node, i);
        struct paged_key own = key_of(&entry);
        const struct paged_key *bound = i ? &own : separator;
        uint64_t before = check->count;
        if (entry.separator.tail) check->bytes += sizeof(struct tree_tail) + entry.separator.tail->length;
        if (node->level == 0) {
            if (!check_leaf(check, &entry, bound)) return false;
            continue;
        }
        if (entry.node->level + 1 != node->level || !check_node(check, entry.node, bound)) return false;
        if (check->count - before != entry.count) return false;
    }
    return true;
}

bool paged_tree_validate(const struct paged_tree *tree, struct page_access *access) {
    struct check check = {.tree = tree, .access = access, .bytes = tree_cut_bytes(tree)};
    if (!tree->root) return tree->count == 0 && tree->node_bytes == check.bytes;
    return check_node(&check, tree->root, NULL) && check.count == tree->count && check.bytes == tree->node_bytes;
}
