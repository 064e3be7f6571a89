#ifndef TERRACE_PERSIST_CHECKPOINT_PARTS_H
#define TERRACE_PERSIST_CHECKPOINT_PARTS_H

/* What a checkpoint is given, gathered until there is enough of it: slots of a shard and database until they make a
 * chunk of its file, images of a shard and database until they make a block of the tier. Pages of big collections are
 * gathered elsewhere (checkpoint_collections.h); here they are counted, and brought to the tier. Internal to the
 * checkpoint.
 *
 * The walker goes shard by shard, but what writers have kept for it comes from everywhere, so many shards are gathered
 * for at once: each has a place by its number, which it gives up to another that wants it.
 *
 * Threads: the walker's. */

#include "persist/checkpoint_file.h"
#include "tiering/tier.h"

struct checkpoint_parts;

struct checkpoint_parts_options {
    struct tier *tier;
    struct checkpoint_writer *writer; /* NULL: the parts fail from the first chunk on */
    uint32_t shards;
    unsigned shard_shift; /* cluster slot >> this = shard */
    uint64_t seed;        /* of key_hash() */
};

/* NULL: no memory. */
struct checkpoint_parts *checkpoint_parts_create(const struct checkpoint_parts_options *options);
void checkpoint_parts_destroy(struct checkpoint_parts *parts);

/* A record that stands on the tier: `hash` as index_hash_of() gives it. False: it failed; checkpoint_parts_failure().
 */
bool checkpoint_parts_slot(struct checkpoint_parts *parts, uint32_t shard, uint32_t database, uint64_t hash,
                           uint64_t ref) __attribute__((warn_unused_result));
/* One that does not: it is copied, so `image` is the caller's when this returns. `print`: for the next checkpoint;
 * NULL: it is of no use to that. May wait for writes. */
bool checkpoint_parts_image(struct checkpoint_parts *parts, uint32_t database, const struct record *image,
                            const struct checkpoint_print *print) __attribute__((warn_unused_result));
/* One that does not, but whose image at `ref` is kept. */
bool checkpoint_parts_kept(struct checkpoint_parts *parts, uint32_t shard, uint32_t database, uint64_t hash,
                           uint64_t ref, const struct checkpoint_print *print) __attribute__((warn_unused_result));
/* Pages of a big collection in this shard, copied likewise; refs[i] is where records[i] stands then. */
bool checkpoint_parts_append(struct checkpoint_parts *parts, uint32_t shard, uint32_t database,
                             const struct record *const *records, unsigned count, uint64_t *refs)
    __attribute__((warn_unused_result));
/* The checkpoint refers to this page, wherever that stood in it. */
void checkpoint_parts_refer(struct checkpoint_parts *parts, uint64_t ref);
/* Writes what is left. */
bool checkpoint_parts_end(struct checkpoint_parts *parts) __attribute__((warn_unused_result));

/* Why it failed, without the name of a file. */
const char *checkpoint_parts_failure(const struct checkpoint_parts *parts);
/* For each segment of the tier how many records of the checkpoint are in it. */
const uint32_t *checkpoint_parts_live(const struct checkpoint_parts *parts);

struct checkpoint_parts_figures {
    uint64_t slots, images, image_bytes; /* images: that were written */
    uint64_t kept;
};
struct checkpoint_parts_figures checkpoint_parts_figures(const struct checkpoint_parts *parts);

#endif
