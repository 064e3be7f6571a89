#ifndef TERRACE_PERSIST_CHECKPOINT_ROOT_H
#define TERRACE_PERSIST_CHECKPOINT_ROOT_H

/* The roots of big collections in a checkpoint's file (ROOTS, STATES; checkpoint_layout.h): which types can be there,
 * and how a root stands in its chunk.
 *
 * Threads: none of its own. */

#include "persist/checkpoint_file.h"
#include "record/collection.h"

#include <stdbool.h>

/* The collections of this type; NULL: those cannot be in the file. */
const struct collection_kind *checkpoint_root_kind(uint32_t type);

struct checkpoint_root_key {
    struct span name;
    int64_t expiry_ms; /* or RECORD_EXPIRY_NONE */
    uint32_t access;   /* access bits */
};
/* Before what the root knows is written to `state`: a key that is too long to stand with the root. */
void checkpoint_root_begin(struct state_writer *state, struct span key);
/* Whether its pages stand with the root. */
static inline bool checkpoint_root_has_pages(const struct collection *root) {
    return page_table_end(&root->parts[0]) <= CHECKPOINT_PAGES_BESIDE &&
           page_table_end(&root->parts[1]) <= CHECKPOINT_PAGES_BESIDE - page_table_end(&root->parts[0]);
}
/* Appends the root to `out`: what it knew is in `pieces` STATES chunks and, the end of it, in `state`. `pages`: entries
 * and prints, of one that has its pages beside it. */
void checkpoint_root_write(struct state_writer *out, const struct collection *root,
                           const struct checkpoint_root_key *key, uint32_t pieces, struct span state,
                           struct span pages);

/* A root in a chunk. The spans point into it, but for a long key. */
struct checkpoint_root_view {
    struct checkpoint_root root;
    struct span key, state, pages;
    char *long_key; /* NULL: none; the caller frees it */
};

/* How many of view->pages are entries. */
static inline uint32_t checkpoint_root_entries(const struct checkpoint_root *root) {
    return root->page_bytes ? root->end[0] + root->end[1] : 0;
}

/* Takes the next root off `rest`. False: it is not whole, or cannot be. */
bool checkpoint_root_next(struct span *rest, struct checkpoint_root_view *view) __attribute__((warn_unused_result));
/* The root itself, from what it knew, its tables still to be initialised: see collection_kind.load. The pieces that
 * stand elsewhere are read; a long key is one of them, and is known from here on. NULL: damaged, or no memory. */
struct collection *checkpoint_root_load(const struct checkpoint_reader *reader, struct checkpoint_root_view *view,
                                        uint64_t seed);

#endif
