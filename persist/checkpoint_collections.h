#ifndef TERRACE_PERSIST_CHECKPOINT_COLLECTIONS_H
#define TERRACE_PERSIST_CHECKPOINT_COLLECTIONS_H

/* Big collections on their way into a checkpoint: the root and, page by page, references. Internal to the checkpoint.
 *
 *   a page that was cold at the cut      its reference, as of a cold record
 *   one in memory, as it was at the      a reference to the image of then (checkpoint_known_pages.h)
 *   checkpoint before
 *   another                              an image of it is appended to the segments of images. So is one of a page
 *                                        that became cold after the cut, or was moved by the cleaner: nothing keeps
 *                                        its segment for this checkpoint
 *
 * A frozen collection is guarded by the lock of a shard. It is taken for about 80 us at a time: what is to be written
 * is copied, or pinned where it is large, and all waiting is done without the lock.
 *
 * Memory: a quarter of a megabyte for copies, 20 bytes a page of a stretch (CHECKPOINT_STRETCH), and 16 KB of roots a
 * shard until they make a chunk.
 *
 * Threads: the walker's. */

#include "keyspace/keyspace_snapshot.h"
#include "persist/checkpoint_known_pages.h"
#include "persist/checkpoint_parts.h"

struct checkpoint_collections;

struct checkpoint_collections_options {
    struct checkpoint_parts *parts;
    struct checkpoint_writer *writer;
    uint32_t shards;
    unsigned shard_shift; /* cluster slot >> this = shard */
    uint64_t seed;        /* of prints */
};

/* NULL: no memory. */
struct checkpoint_collections *checkpoint_collections_create(const struct checkpoint_collections_options *options);
void checkpoint_collections_destroy(struct checkpoint_collections *collections);

/* Gives it; `known` may be NULL. Waits for writes and reads. False: it failed. */
bool checkpoint_collections_give(struct checkpoint_collections *collections, uint32_t database,
                                 struct snapshot_collection *value, struct checkpoint_known_pages *known)
    __attribute__((warn_unused_result));
/* Writes what is left. */
bool checkpoint_collections_end(struct checkpoint_collections *collections) __attribute__((warn_unused_result));

/* Why it failed; NULL: ask checkpoint_parts_failure(). */
const char *checkpoint_collections_failure(const struct checkpoint_collections *collections);

struct checkpoint_collections_figures {
    uint64_t collections, pages, images, image_bytes; /* images: of pages, that were written */
    uint64_t kept;                                    /* of the checkpoint before */
};
/* Any thread. */
struct checkpoint_collections_figures checkpoint_collections_figures(const struct checkpoint_collections *collections);

#endif
