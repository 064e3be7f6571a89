#ifndef TERRACE_PERSIST_CHECKPOINT_ROOT_H
#define TERRACE_PERSIST_CHECKPOINT_ROOT_H

/* The roots of big collections in a checkpoint's file (ROOTS, STATES; checkpoint_layout.h): which types can be there,
 * and how a root stands in its chunk.
 *
 * Threads: none of its own. */

#include "persist/checkpoint_layout.h"
#include "record/collection.h"

#include <stdbool.h>

/* The collections of this type; NULL: those cannot be in the file. */
const struct collection_kind *checkpoint_root_kind(uint32_t type);

/* A root in a chunk. The spans point into it. */
struct checkpoint_root_view {
    struct checkpoint_root root;
    struct span key, state;
};

/* Takes the next root off `rest`. False: it is not whole, or cannot be. */
bool checkpoint_root_next(struct span *rest, struct checkpoint_root_view *view) __attribute__((warn_unused_result));

#endif
