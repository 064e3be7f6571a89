#ifndef TERRACE_KEYSPACE_KEYSPACE_SNAPSHOT_PRIVATE_H
#define TERRACE_KEYSPACE_KEYSPACE_SNAPSHOT_PRIVATE_H

/* What the files of the snapshot share. */

#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_snapshot.h"
#include "tiering/tier_frontier.h"
#include "tiering/tier_layout.h"

#include <stdatomic.h>

/* What waits for a walker: a frozen collection, a reference, a large image; or many small images, one behind the
 * other, each behind a struct kept_image and aligned like it. */
struct kept {
    struct kept *next;
    struct snapshot_taken taken; /* where `count` is 0 */
    size_t bytes;                /* what it counts for while it waits */
    uint32_t count, used;        /* images, and bytes of them */
    char images[];
};

struct kept_image {
    uint32_t database, bytes;
};

enum { KEPT_IMAGES = 16 << 10, KEPT_IMAGES_MAX = 256 }; /* bytes and number: a slice has room for twice as many */

/* A cold record that was read, or could not be (`record` NULL). Owned by the lane. */
struct read_back {
    uint64_t ref;
    struct record *record;
    bool touched; /* in this slice */
    bool wanted;  /* it was in the index at the last look, and not at hand */
    unsigned failures;
};

enum {
    LANE_BUFFER = 256 << 10,
    LANE_READS = 256,
    SNAPSHOT_SLICE_NS = 80000 /* a walker holds a shard's lock about this long */
};

/* A slice that is being filled. Its lane's own; while the lane has offered it, of whoever took the offer. */
struct walker {
    struct keyspace_snapshot *snapshot;
    struct snapshot_lane *lane;
    struct snapshot_slice *slice;
    struct shard *shard;
    struct index *index;
    uint64_t frozen; /* pages of collections, in this slice; one more for each */
    /* What is done under locks of shards, for about `budget_ns`; true: that was all. Any thread, but one for a lane at
     * a time; no lock held. */
    bool (*part)(struct walker *walker, uint64_t budget_ns);
};

struct snapshot_lane {
    uint32_t shard; /* being walked; UINT32_MAX: none */
    bool ended;
    char *buffer; /* LANE_BUFFER; NULL: nothing was copied to it yet, and there is no tier */
    size_t used;
    struct read_back reads[LANE_READS]; /* of the stretch of an index where the walk is */
    unsigned read_count;
    struct kept *kept;          /* taken from the queue, not given yet */
    struct snapshot_scan *scan; /* NULL: no segments are scanned */
    /* keyspace_snapshot_help.c */
    _Atomic uint32_t offer; /* enum snapshot_offer; slept on */
    struct walker *walker;  /* that is offered */
    bool part_done;         /* what became of it */
    unsigned alone;         /* slices before the lane offers one again */
};

struct keyspace_snapshot {
    struct keyspace *keyspace;
    struct tier_frontier *frontier; /* NULL: no tier */
    bool locking_before, cut;
    bool references; /* of cold records, not their images */
    atomic_bool abandoned, lost;
    atomic_size_t waiting_bytes, set_aside_bytes;
    size_t waiting_max;
    uint64_t keys;
    _Atomic uint32_t next_shard; /* the next that no lane has begun */
    _Atomic uint32_t shards_walked;
    _Atomic uint32_t next_segment, segments_scanned;     /* likewise; of the tier */
    struct kept *_Atomic short_ones, *_Atomic long_ones; /* stacks; long: big collections of many pages */
    struct kept *spare;                                  /* room for images, used before */
    atomic_flag spare_busy;       /* who finds it so does without: nobody waits for anybody here */
    _Atomic unsigned next_served; /* the lane whose offer is looked at first */
    unsigned lane_count;
    struct snapshot_lane lanes[];
};

static inline bool snapshot_is_given_up(const struct keyspace_snapshot *snapshot) {
    return atomic_load_explicit(&snapshot->abandoned, memory_order_relaxed) ||
           atomic_load_explicit(&snapshot->lost, memory_order_relaxed);
}

/* ---- keeping; the shard's lock is held, but for pushing ---- */

/* Puts what hangs together from `first` to `last` on the stack. Any thread. */
void snapshot_push(struct kept *_Atomic *stack, struct kept *first, struct kept *last);
/* Nothing of the shard is kept any more: walkers may have the images it has. */
void snapshot_push_images(struct shard *shard);
bool snapshot_can_pin(struct shard *shard, uint64_t ref, const struct record *record, size_t bytes);
/* What large records are pinned for: they keep their bytes whatever becomes of the key. */
struct snapshot_taken snapshot_pin(struct shard *shard, uint64_t ref, uint32_t database);
/* `walked`: a walk came to it. */
void snapshot_keep_collection(struct shard *shard, struct index *index, const struct record *record, bool walked);
struct snapshot_taken snapshot_reference(const struct shard *shard, const struct index *index, uint64_t ref,
                                         uint64_t hash);

/* ---- the walk ---- */

/* Has a worker do the walker's part of a slice. False: nobody comes by; it was not done. The lane's thread. */
bool snapshot_have_done(struct walker *walker, bool *part_done);

/* ---- cold records, by segments ---- */

/* NULL: no memory. */
struct snapshot_scan *snapshot_scan_create(struct tier *tier);
void snapshot_scan_destroy(struct snapshot_scan *scan);
enum snapshot_scanned {
    SNAPSHOT_SCANNED,     /* a slice, which may be empty */
    SNAPSHOT_SCAN_WAITS,  /* for other lanes */
    SNAPSHOT_SCANNED_ALL, /* the indexes may be walked */
};
/* The lane's thread. */
enum snapshot_scanned snapshot_scan_slice(struct walker *walker);
/* Whether the cold record is of the cut, and nobody has taken it. The shard's lock is held; the index refers to it. */
bool snapshot_is_old_cold(const struct shard *shard, const struct index *index, uint64_t ref,
                          const struct record *record);

/* ---- frozen collections ---- */

/* The frozen copy of the collection that this record, which is of the cut, leads to; it is the caller's. NULL: no
 * memory. The shard's lock is held. */
struct snapshot_collection *snapshot_freeze(struct keyspace_snapshot *snapshot, struct shard *shard,
                                            const struct record *record);
/* No lock is held. */
void snapshot_thaw(struct snapshot_collection *value);

#endif
