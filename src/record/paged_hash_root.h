#ifndef TERRACE_RECORD_PAGED_HASH_ROOT_H
#define TERRACE_RECORD_PAGED_HASH_ROOT_H

/* The root of a collection that is one paged_hash and nothing else: big hashes and big sets. What their kinds
 * (struct collection_kind) have in common.
 *
 * Threads: as collection.h. */

#include "record/collection.h"
#include "record/paged_hash.h"

struct paged_hash_root {
    struct collection collection;
    struct paged_hash items; /* fields, or members */
};

static inline struct paged_hash *paged_hash_of(const struct collection *collection) {
    return &((struct paged_hash_root *)(uintptr_t)collection)->items;
}

/* ---- members of a kind ---- */

struct collection *paged_hash_root_copy(const struct collection *collection);
bool paged_hash_root_save(const struct collection *collection, struct state_writer *out);
bool paged_hash_root_loaded(struct collection *collection, struct page_access *access);
bool paged_hash_root_mend(struct collection *collection, struct page_access *access);
bool paged_hash_root_validate(struct collection *collection, struct page_access *access);
/* In one step. */
void paged_hash_root_prefetch(const struct collection *collection, struct span element, unsigned step);
/* What a kind's load() returns. */
struct collection *paged_hash_root_load(struct state_reader *in, enum paged_hash_kind kind, uint64_t seed);

#endif
