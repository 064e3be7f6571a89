/* What kinds of collections do whose root has one paged_hash: it does all of it. */

#include "record/paged_hash_root.h"

#include <stdlib.h>

struct collection *paged_hash_root_copy(const struct collection *collection) {
    struct paged_hash_root *to = calloc(1, sizeof(*to));
    if (!to) return NULL;
    paged_hash_copy(paged_hash_of(collection), &to->items, &to->collection.parts[COLLECTION_HASH]);
    return &to->collection;
}

bool paged_hash_root_save(const struct collection *collection, struct state_writer *out) {
    paged_hash_save(paged_hash_of(collection), out);
    return !out->failed;
}

struct collection *paged_hash_root_load(struct state_reader *in, enum paged_hash_kind kind, uint64_t seed) {
    struct paged_hash_root *root = calloc(1, sizeof(*root));
    if (!root) return NULL;
    if (paged_hash_load(&root->items, &root->collection.parts[COLLECTION_HASH], kind, seed, in))
        return &root->collection;
    free(root);
    return NULL;
}

bool paged_hash_root_loaded(struct collection *collection, struct page_access *access) {
    return paged_hash_loaded(paged_hash_of(collection), access);
}

bool paged_hash_root_mend(struct collection *collection, struct page_access *access) {
    struct paged_hash *hash = paged_hash_of(collection);
    return paged_hash_mend(hash, access) && hash->count > 0;
}

bool paged_hash_root_validate(struct collection *collection, struct page_access *access) {
    return paged_hash_validate(paged_hash_of(collection), access);
}

void paged_hash_root_prefetch(const struct collection *collection, struct span element, unsigned step) {
    (void)step;
    const struct paged_hash *hash = paged_hash_of(collection);
    paged_hash_prefetch(hash, paged_hash_code(hash, element));
}
