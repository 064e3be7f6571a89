#ifndef TERRACE_PERSIST_CHECKPOINT_H
#define TERRACE_PERSIST_CHECKPOINT_H

/* Making a checkpoint: all records as they were at a cut, as references to where they stand on the tier
 * (checkpoint_layout.h), so that a restart has to read the references and nothing else.
 *
 *   checkpoint = checkpoint_create(&options, error)       any thread
 *   ... a snapshot with checkpoint_sink(checkpoint), of one lane, that wants references ...
 *   checkpoint_cut(checkpoint, &journal)                  at the cut: workers stand still
 *   checkpoint_complete(checkpoint, whole, error)         when the snapshot has given everything, or was stopped
 *   checkpoint_destroy(checkpoint)
 *
 * What is given:
 *
 *   a cold record       its reference. Its block stays where it is: from the cut on the tier keeps every segment that
 *                       was referred to (segment_table.h), until the next checkpoint counts
 *   one in memory       its image is appended to segments of images, as demotion would do it; it stays in memory. After
 *                       a restart the image is an ordinary cold record
 *   one in memory, as   a reference to the image that the checkpoint before refers to (checkpoint_known.h)
 *   it was at the
 *   checkpoint before
 *   a big collection    what its root knows, and its pages as if they were records: checkpoint_collections.h
 *
 * What it costs: writing what has changed in memory (compressed as the tier is), 12 bytes a cold key and 24 bytes one
 * in memory, 8 bytes a cold page and 20 bytes one in memory, of trees another 6 and a separator. The images of two
 * checkpoints are on the tier while the second is being made, those which both refer to once.
 *
 * What recovery sees. Images are immutable, and a segment of images is used again only when a checkpoint counts that
 * does not refer to it. So, of checkpoint n that counts and n + 1 in the making:
 *
 *   1. n + 1 refers to images of n                  n and all it refers to; nothing of n was touched
 *   2. n + 1 appends images, also to a segment      n: what is behind its images, on pages of its own, is nobody's
 *      in which n has some
 *   3. n + 1 is given up                            n; segments taken for n + 1 are free, others are kept for n
 *   4. the manifest is switched                     n or n + 1, all of which is there
 *   5. segments to which n + 1 does not refer       n + 1
 *      are used again
 *
 * Threads: one at a time, each function on any; the sink's on the walker's. */

#include "persist/checkpoint_file.h"
#include "persist/snapshot.h"

struct checkpoint;

struct checkpoint_options {
    struct keyspace *keyspace; /* with a tier that persists */
    const char *prefix;        /* of the names of its files: the path of the tier, or for a device another */
    const struct file_io *io;  /* NULL: the system's */
};

/* Where the journal goes on behind the cut. Of a pool of persistent memory: the place in its own journal. */
struct checkpoint_journal {
    bool in_pool;
    uint64_t pool_sequence, pool_position;
    bool present;
    uint64_t sequence, mark; /* of the increment of the append-only file that begins there; tells it from others */
    bool has_history;        /* of replication: where in which the cut stands; tier_pool_layout.h */
    char history_id[TIER_HISTORY_ID];
    uint64_t history_offset;
    int32_t history_database;
};

/* NULL: one line in `error`. */
struct checkpoint *checkpoint_create(const struct checkpoint_options *options, char *error, size_t error_bytes);
struct snapshot_sink checkpoint_sink(struct checkpoint *checkpoint);
void checkpoint_cut(struct checkpoint *checkpoint, const struct checkpoint_journal *journal);
/* Makes it the checkpoint that counts, and removes the files of the one before. Waits for writes and syncs. False: the
 * one before counts, the line says why. After this the checkpoint is only good for its figures. */
bool checkpoint_complete(struct checkpoint *checkpoint, bool whole, char *error, size_t error_bytes)
    __attribute__((warn_unused_result));
/* Gives up what was not completed. NULL is ignored. */
void checkpoint_destroy(struct checkpoint *checkpoint);

struct checkpoint_figures {
    uint64_t number, keys, images, collections;
    uint64_t image_bytes;                          /* of records and pages, as they are in memory */
    uint64_t images_kept;                          /* of the checkpoint before; `images` were written */
    uint64_t pages, page_images, page_images_kept; /* of big collections; the same of those */
    uint64_t file_bytes;                           /* of its own file */
};
struct checkpoint_figures checkpoint_figures(const struct checkpoint *checkpoint);

#endif
