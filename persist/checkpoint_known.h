#ifndef TERRACE_PERSIST_CHECKPOINT_KNOWN_H
#define TERRACE_PERSIST_CHECKPOINT_KNOWN_H

/* The images of the last checkpoint, for the next one: whether a record in memory still is what an image of it says, so
 * that the image need not be written again. Internal to the checkpoint.
 *
 * "Still is" is asked of the bytes, not of what happened to them: the checkpoint's file has a print of each record
 * whose image it refers to (checkpoint_layout.h), and a record of the same shard, database and print is the same
 * record. So nothing is kept with the keys in memory, nothing that changes a record has to say so, and a key that was
 * moved, renamed, swapped with its database, flushed, promoted or set to what it was before needs no thought. That two
 * different records have the same print is as likely as 1 in 2^96: a server that compares 10^9 changed records a second
 * would meet it after 10^12 years.
 *
 * Which images are known:
 *
 *   - those of the checkpoint that counts, if this server made it. What an earlier server wrote became ordinary cold
 *     records at the start, which leave their segments when they are promoted
 *   - in segments that are worth it (tier_images_are_worth_keeping())
 *   - of records to which the walk came. One that was kept, because somebody was about to change it, is written without
 *     a print: the next checkpoint would not find it unchanged
 *   - none while the tier has no room for all images twice (tier_has_room_for_images()); then all are written anew, and
 *     what segments held that is dead is given up
 *
 * An image that is not known, for whatever reason, is written: that is always right.
 *
 * Space. Each segment that is referred to again was wanted by half or more at the checkpoint before. So the segments of
 * images hold at most: twice what the checkpoint before referred to, what this one wrote, and for each stream and pool
 * one that is not full.
 *
 * A medium that loses a part of an image is noticed by a start, as with cold records that nobody has read; an image in
 * memory does not renew it, unless the segment is known to be bad.
 *
 * Memory: 32 bytes an image of a shard and database, one of these at a time; of more than WINDOW_MIN images only those
 * of a part of the range of hashes, down to a sixteenth, since the walk goes in their order. Beside that the directory
 * of the file, 32 bytes for each 512 keys, and a byte a segment.
 *
 * Threads: the walker's. */

#include "persist/checkpoint_file.h"
#include "tiering/tier.h"

struct checkpoint_known;

struct checkpoint_known_options {
    struct tier *tier;
    const char *prefix;
    uint64_t seed;         /* of key_hash(), and of prints */
    size_t resident_bytes; /* of records in memory, at most */
};

/* NULL: none is known. What cannot be read is logged. */
struct checkpoint_known *checkpoint_known_open(const struct checkpoint_known_options *options);
void checkpoint_known_close(struct checkpoint_known *known);

struct checkpoint_print checkpoint_print_of(const struct record *record, uint64_t seed);

/* The image of the record with this hash (index_hash_whole()) and print; false: none is known. Cheap as long as shard
 * and database stay the same and hashes grow. */
bool checkpoint_known_find(struct checkpoint_known *known, uint32_t shard, uint32_t database, uint64_t hash,
                           const struct checkpoint_print *print, uint64_t *ref) __attribute__((warn_unused_result));

/* ---- for pages: checkpoint_known_pages.h ---- */

/* The first chunk of this kind and shard in the order of the directory, or the one that would follow it. */
uint32_t checkpoint_known_first(const struct checkpoint_known *known, enum checkpoint_kind kind, uint32_t shard);
/* NULL: there are no more. */
const struct checkpoint_place *checkpoint_known_place(const struct checkpoint_known *known, uint32_t chunk);
/* The payload of a chunk, until the next call for this `known`; NULL: it cannot be read, which was logged. */
const char *checkpoint_known_read(struct checkpoint_known *known, uint32_t chunk);
/* Whether the image that `ref` leads to may be referred to again. */
bool checkpoint_known_is_worth_it(const struct checkpoint_known *known, uint64_t ref);

#endif
