/* Types of roots, and reading them: see checkpoint_root.h. */

#include "persist/checkpoint_root.h"

#include "keyspace/hash_value.h"
#include "keyspace/set_value.h"
#include "record/paged_bytes.h"

static const struct collection_kind *const kinds[] = {&paged_bytes_kind, &hash_kind, &set_kind};

const struct collection_kind *checkpoint_root_kind(uint32_t type) {
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i]->type == type) return kinds[i];
    return NULL;
}

static struct span take(struct span *rest, size_t length) {
    struct span taken = span_of(rest->data, length);
    *rest = span_of(rest->data + length, rest->length - length);
    return taken;
}

bool checkpoint_root_next(struct span *rest, struct checkpoint_root_view *view) {
    struct checkpoint_root *root = &view->root;
    if (rest->length < sizeof(*root)) return false;
    memcpy(root, take(rest, sizeof(*root)).data, sizeof(*root));
    if (root->key_bytes > rest->length || root->state_bytes > rest->length - root->key_bytes) return false;
    view->key = take(rest, root->key_bytes);
    view->state = take(rest, root->state_bytes);
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        if (root->end[part] > PAGE_NUMBER_MAX || root->live[part] > root->end[part]) return false;
    return checkpoint_root_kind(root->type) && root->collection != UINT32_MAX;
}
