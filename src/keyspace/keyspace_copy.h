#ifndef TERRACE_KEYSPACE_KEYSPACE_COPY_H
#define TERRACE_KEYSPACE_KEYSPACE_COPY_H

/* A copy of a big collection, made in slices while the original is in use.
 *
 *   1. pages are copied one after the other, in slices; which of those copied already are changed meanwhile is noted
 *   2. those are copied again, until a slice suffices for what is left
 *   3. in that slice the root is copied and the key is made to lead to it: the copy is of this moment
 *
 * So the copy is atomic, takes place when it ends, and holds the shards of both keys for a slice at a time. Nobody sees
 * the target before. What takes O(pages) in the last step is the copy of a tree's inner nodes, 8 to 24 bytes for each
 * leaf.
 *
 * Threads: the locks of both keys' shards, but for keyspace_copy_free(). */

#include "keyspace/keyspace_collection.h"

struct collection_copy;

enum keyspace_copy_status {
    KEYSPACE_COPY_DONE,
    KEYSPACE_COPY_GOES_ON,   /* another slice is due */
    KEYSPACE_COPY_NO_MEMORY, /* or pages have to be waited for, see view_misses(); the copy can go on later */
};

/* Whether a copy of this value should be made in slices. */
bool keyspace_copy_is_long(const struct lookup *source);

/* NULL: no memory. Freed by keyspace_copy_free(). */
struct collection_copy *keyspace_copy_begin(struct keyspace *keyspace, const struct lookup *source,
                                            const struct view *target_view, const struct key *target_key);
/* Whether this copy is the one of `source` to that key. */
bool keyspace_copy_is_of(const struct collection_copy *copy, const struct lookup *source, const struct key *target_key);
/* A slice of about `budget_ns`. DONE: the target key leads to the copy; the lookups are not valid any more. */
enum keyspace_copy_status keyspace_copy_step(struct collection_copy *copy, const struct view *source_view,
                                             struct lookup *source, const struct view *target_view,
                                             const struct key *target_key, struct lookup *target, uint64_t budget_ns);
/* Gives up what there is of the copy; after DONE nothing but its own memory. No shard lock is held: takes those it
 * needs. NULL is ignored. */
void keyspace_copy_free(struct collection_copy *copy);

#endif
