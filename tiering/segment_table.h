#ifndef TERRACE_TIERING_SEGMENT_TABLE_H
#define TERRACE_TIERING_SEGMENT_TABLE_H

/* What is in use on the tier: a row in DRAM for each segment (tier_layout.h).
 *
 *   FREE --take--> OPEN --seal--> SEALED --choose--> CLEANING --cleaned--> FREE, generation + 1
 *                                    \--(last record leaves)--> FREE, generation + 1
 *
 * Where the tier persists, a checkpoint may refer to what is not referred to any more, so a segment becomes PENDING
 * instead of FREE until a later checkpoint counts:
 *
 *   cut n      the moment whose contents checkpoint n holds. A segment taken since the last cut is in no checkpoint
 *              and is FREE at once; one that was taken before is PENDING, in the name of the last cut
 *   n counts   whatever is PENDING in the name of an earlier cut becomes FREE
 *   IMAGE      a segment with copies of records that stay in memory, to which nothing but checkpoints refer: that for
 *              which it was taken, and later ones that go on referring to it. It is FREE when one counts that does not.
 *              One that is not full stays OPEN from checkpoint to checkpoint
 *
 * Records enter a segment while it is OPEN and leave it, by being deleted, overwritten, promoted or copied out by the
 * cleaner, at any time. Only how many live is counted, since whoever drops a reference need not have read the record;
 * bytes that live are estimated from it. A segment whose last record leaves is FREE at once, unless it is OPEN, some of
 * it is not written yet, or the cleaner is in it: then it is kept until segment_table_cleaned(), so that what the
 * cleaner reads is not overwritten and it gives back the segment it was given. One that the cleaner could not empty,
 * because of damage, becomes DAMAGED and is freed when its last record is dropped.
 *
 * Expiry: a segment opened as volatile keeps for each page the range of expiries in the blocks that begin there, so
 * that most expired records are recognised without being read.
 *
 * Homes: where the tier consists of several pools of persistent memory, segment s is in pool s % homes, and who takes
 * one may want it in a certain pool. Pools of different lengths leave numbers that are no segments: ABSENT. So do those
 * that may become longer while they are used, until they have.
 *
 * Segments behind the first of a run (one record larger than a segment) are CONTINUED and follow the first.
 *
 * Generations start from a number drawn at random: what an earlier server left in the file is not taken for ours.
 *
 * Memory: 36 bytes a segment, of those up to the highest ever taken; 8 bytes a page of volatile segments while these
 * are in use.
 *
 * Threads: any thread may call any function; there is one lock inside, not taken by segment_table_generation(),
 * those that pin,
 * segment_table_add(), segment_table_has_unwritten(), segment_table_free_count(), the two about what is kept for
 * images, the two about expiry and, unless the last record leaves, segment_table_drop(). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct segment_table;

enum segment_state {
    SEGMENT_FREE,
    SEGMENT_OPEN,
    SEGMENT_SEALED,
    SEGMENT_CLEANING,
    SEGMENT_DAMAGED,
    SEGMENT_PENDING,
    SEGMENT_IMAGE,
    SEGMENT_ABSENT,
    SEGMENT_CONTINUED, /* the last: a segment is counted in the state of the first of its run */
};

#define SEGMENT_NONE UINT32_MAX

struct segment_table_options {
    size_t segment_bytes; /* a power of two, 1 MB .. 64 MB */
    uint32_t segments;
    uint32_t reserved;   /* free segments that are not for what is new */
    uint32_t base_bytes; /* of the file, before the first segment */
    bool persistent;
    uint64_t cut;                                      /* number of the last checkpoint there was; 0: none */
    unsigned homes;                                    /* up to SEGMENT_HOMES_MAX; 0: 1 */
    bool (*exists)(const void *ctx, uint32_t segment); /* NULL: all do */
    const void *exists_ctx;
};

enum { SEGMENT_HOMES_MAX = 8 };
#define SEGMENT_HOME_ANY UINT32_MAX

/* NULL: no memory. */
struct segment_table *segment_table_create(const struct segment_table_options *options);
void segment_table_destroy(struct segment_table *table);

size_t segment_table_segment_bytes(const struct segment_table *table);
/* The segment a byte of the file is in. */
uint32_t segment_table_of(const struct segment_table *table, uint64_t offset);
uint64_t segment_table_offset(const struct segment_table *table, uint32_t segment);

/* Segments nobody uses, whoever they are kept for. Cheap. */
uint32_t segment_table_free_count(const struct segment_table *table);
/* Those that the next checkpoint frees: PENDING ones, and images that it needs no more, unless these are few or
 * there is so much room that it goes on referring to what it can. Cheap. */
uint32_t segment_table_pending_count(const struct segment_table *table);
/* What a segment is taken for. Each leaves what those behind it need: what is new leaves what is kept for images, and
 * the reserve, so that the cleaner can finish what it began; the cleaner leaves the next checkpoint's images. */
enum segment_use { SEGMENT_FOR_NEW, SEGMENT_FOR_CLEANING, SEGMENT_FOR_IMAGES };
/* Takes a run of `count` free neighbours (nearly always 1), lowest numbers first, so that a file in little use stays
 * short; opens it. SEGMENT_NONE: there is none for this use. `expires`: keep expiry ranges. */
uint32_t segment_table_take(struct segment_table *table, uint32_t count, bool expires, enum segment_use use);
/* The same of one in pool `home`, where one is free there; else, and for runs of several, wherever there is. */
uint32_t segment_table_take_at(struct segment_table *table, uint32_t count, uint32_t home, bool expires,
                               enum segment_use use);
/* The images of a checkpoint would need `now` segments; those of the next one may need `next`, and those of two, one
 * after the other, `two`: images of the one that counts are set free only when the next one does. So many free segments
 * are kept as `two` are more than there are images, and `next` at least, less those that the checkpoint has taken which
 * is being made. What was taken before is not called back. Cheap, both. */
void segment_table_keep_for_images(struct segment_table *table, uint32_t now, uint32_t next, uint32_t two);
uint32_t segment_table_kept_for_images(const struct segment_table *table);
/* Whether `count` segments could be taken for this use once the next checkpoint counts, as far as their number goes.
 * Cheap. */
bool segment_table_will_have(const struct segment_table *table, uint32_t count, enum segment_use use);
/* What was ABSENT is there from now on, and never do all others take more than if it were not. */
void segment_table_grow_for_images(struct segment_table *table, uint32_t first, uint32_t count);
/* Puts back an open segment to which nothing was written, and which was taken for `use`. */
void segment_table_give_back(struct segment_table *table, uint32_t segment, enum segment_use use);
/* Puts back all but the first `count` segments of an open run: the record in it became smaller than was to be feared.
 */
void segment_table_shorten(struct segment_table *table, uint32_t segment, uint32_t count);
/* No record is added any more. `used_bytes`: what of it is filled, for estimates. Frees it if nothing lives in it. */
void segment_table_seal(struct segment_table *table, uint32_t segment, size_t used_bytes);

/* The same of a segment that holds images. */
void segment_table_seal_images(struct segment_table *table, uint32_t segment, size_t used_bytes);

/* Between these the segment's bytes stay as they are, even if its last record leaves: it is not taken again. The caller
 * of the first holds the lock of a shard whose index refers to a record in it. */
void segment_table_pin(struct segment_table *table, uint32_t segment);
void segment_table_unpin(struct segment_table *table, uint32_t segment);

/* The generation of the segment now. It cannot change while the caller holds the lock of a shard whose index refers to
 * a record in it. */
uint32_t segment_table_generation(const struct segment_table *table, uint32_t segment);

/* `count` records were added (segment OPEN) or left. */
void segment_table_add(struct segment_table *table, uint32_t segment, uint32_t count);
void segment_table_drop(struct segment_table *table, uint32_t segment, uint32_t count);
/* A write of part of the segment began (while it is OPEN: a sealed one may be freed at any time) or ended; while any is
 * under way the segment is neither freed nor chosen for cleaning. */
void segment_table_write_begins(struct segment_table *table, uint32_t segment);
void segment_table_write_ends(struct segment_table *table, uint32_t segment);
bool segment_table_has_unwritten(const struct segment_table *table, uint32_t segment);

/* ---- expiry ---- */

/* A record that expires at `expiry_ms` (unix milliseconds) is in a block that begins at `offset` of the file. The
 * segment is OPEN. */
void segment_table_note_expiry(struct segment_table *table, uint64_t offset, int64_t expiry_ms);
/* FEW: before the middle of what is left of the range, so that reading the page hardly pays yet. */
enum segment_expiry {
    SEGMENT_EXPIRY_NONE_DUE,
    SEGMENT_EXPIRY_FEW_DUE,
    SEGMENT_EXPIRY_SOME_DUE,
    SEGMENT_EXPIRY_ALL_DUE,
};
/* All that had expired by `now_ms` in the page of `offset` was removed: its range begins there. A page is so read once
 * for each halving of its range. */
void segment_table_note_swept(struct segment_table *table, uint64_t offset, int64_t now_ms);
/* Of the volatile records in blocks that begin in the page of `offset`. SOME_DUE where nothing is known. The
 * caller holds the lock of a shard that refers to a record there. Exact to a second. */
enum segment_expiry segment_table_expiry(const struct segment_table *table, uint64_t offset, int64_t now_ms);

/* ---- cleaning ---- */

/* The sealed segment with the smallest share of living records (to 1/254; the lowest number of several), if that share
 * is at most `live_percent_max`; sets it CLEANING. SEGMENT_NONE: there is none. Whoever chose a segment ends with
 * segment_table_cleaned(). Time: about 1 ns for each 64 segments, this and the next. */
uint32_t segment_table_choose(struct segment_table *table, unsigned live_percent_max);
/* Whether the cleaner is at it, or would find one, and has room to copy to. At the very limit the answer may be no. As
 * cheap. */
bool segment_table_can_clean(const struct segment_table *table, unsigned live_percent_max);
/* The sealed segment that was sealed first; only volatile ones if asked; sets it CLEANING. For eviction. */
uint32_t segment_table_choose_oldest(struct segment_table *table, bool only_volatile);
/* The cleaner has been through: FREE if nothing lives in it, else back to SEALED if `interrupted`, else DAMAGED. */
void segment_table_cleaned(struct segment_table *table, uint32_t segment, bool interrupted);

/* ---- checkpoints: numbers grow ---- */

/* What is referred to now is in checkpoint `number`. All who change references stand still. */
void segment_table_cut(struct segment_table *table, uint64_t number);
/* Checkpoint `number` counts: what only earlier ones referred to becomes FREE. Returns how many segments did.
 * `referred`: for each segment how many records of the checkpoint are in it; NULL: none in images of earlier ones. */
uint32_t segment_table_checkpointed(struct segment_table *table, uint64_t number, const uint32_t *referred);
/* It was given up: segments that were taken for its images become FREE, once they are sealed. Those to which an earlier
 * one refers stay. */
void segment_table_abandoned(struct segment_table *table, uint64_t number);

/* What was ABSENT is there from now on, and FREE. Nothing happens to others. */
void segment_table_appear(struct segment_table *table, uint32_t segment);

struct segment_info {
    enum segment_state state;
    bool expires;
    uint32_t generation, run; /* segments, of the first of a run */
    uint32_t records, live;
    size_t used_bytes;
};
struct segment_info segment_table_info(const struct segment_table *table, uint32_t segment);

/* ---- recovery, before anybody else uses the table ---- */

/* A segment that a checkpoint refers to. `info`: its state does not matter. False: it cannot be (out of range,
 * taken already, none lives), or there is no memory. */
bool segment_table_restore(struct segment_table *table, uint32_t segment, const struct segment_info *info)
    __attribute__((warn_unused_result));
/* The range of expiries of page `page` of a restored segment, as segment_table_expiries() gave it; and that. */
void segment_table_restore_expiry(struct segment_table *table, uint32_t segment, uint32_t page, uint64_t range);
/* How many ranges the segment has, 0: none; *ranges until it is freed. */
uint32_t segment_table_expiries(const struct segment_table *table, uint32_t segment, const _Atomic uint64_t **ranges);
/* All is restored: SEALED, and part of the checkpoint that counts. `which`: a byte for each segment, not 0 where one
 * was restored; others may have been opened meanwhile, by workers that demote. */
void segment_table_restored(struct segment_table *table, const uint8_t *which);

struct segment_usage {
    uint32_t segments; /* numbers: absent ones included */
    uint32_t free, open, sealed, cleaning, damaged, pending, images, absent;
    uint32_t kept;    /* for images, of those that are free */
    uint32_t highest; /* segments up to the last one ever taken */
    uint64_t records; /* that live */
    uint64_t used_bytes,
        live_bytes;      /* filled with blocks, open segments aside; of these still referred to, estimated */
    size_t memory_bytes; /* of the table itself */
};
/* Adds up the rows: about 2 ns a segment. While others change the table, the sums are of no one moment. */
struct segment_usage segment_table_usage(const struct segment_table *table);

/* Segments of pool `home` that nobody uses. Looks at every group. */
uint32_t segment_table_free_at(const struct segment_table *table, uint32_t home);

/* Counts and states against each other; for tests and debug builds. Nothing may change meanwhile. */
bool segment_table_validate(const struct segment_table *table);

#endif
