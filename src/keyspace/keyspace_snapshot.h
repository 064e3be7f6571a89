#ifndef TERRACE_KEYSPACE_KEYSPACE_SNAPSHOT_H
#define TERRACE_KEYSPACE_KEYSPACE_SNAPSHOT_H

/* The keyspace as it was at one moment, the cut, while it goes on changing.
 *
 * At the cut the epoch of every shard is flipped; nothing else is touched. Walkers then go through every index that
 * there was, and take the image of each record of the cut. Whoever is about to change such a record before a walker has
 * come to it keeps its image first (keyspace_keep()), in a queue that walkers take from. So each image is taken once,
 * and memory is needed for what changes, not for what there is.
 *
 * Which records are still to be taken ("old"):
 *
 *   in memory   those whose epoch (record.h) is not the shard's. A record that is made gets the shard's epoch, and so
 *               does one whose image is taken. When no snapshot runs, every record in memory has its shard's epoch.
 *   cold        those that stood on the tier at the cut (struct tier_frontier tells: by segment, generation and how far
 *               the open segments were filled), in a block that was not passed yet, and whose hash is not below the
 *               position to which their index was walked (struct index_walk). Epoch bits on the tier mean nothing.
 *
 * Cold records are taken by segments first: whole ones are read from their beginnings to their ends, by all lanes, a
 * segment each, and a block is passed under the lock of its shard, in the same hold in which what the index still
 * refers to is taken. Then the indexes are walked, for what is in memory and for what the segments left over: that is
 * read block by block. Either way makes a record young for the other, so their order is a matter of speed alone. A
 * record that comes back into memory between the two is old by its epoch, and the walk takes it there. (A checkpoint
 * wants only references of cold records, and scans nothing.)
 *
 * Why that is exact. A reference that is cold now was given out by tier_append() either before the cut, and is old
 * until its block or its hash has been passed, or after it. Then it is a copy of a record that was in memory, whose
 * image was kept if it was old when it was demoted; or of a cold one, moved by the cleaner, whose image was kept as
 * well; or of one that is younger than the cut. In no case is it to be taken. In the other direction, a cold record
 * that comes back into memory while it is old gets an epoch that is not the shard's, and stays old by that. A cold
 * record that is overwritten or removed is at hand as a copy, since it was found by its name, so its image can be kept;
 * the expiry sweep, which could remove unread ones, reads them while a snapshot runs.
 *
 * Walkers read cold records without a lock and look afterwards, with the lock, whether the reference still is in the
 * index and is not younger than the cut: then its segment was never given up, and what was read is what there was.
 *
 * Databases. An index carries the number that its database had at the cut, so SWAPDB does not confuse anything; one
 * that FLUSHDB has condemned is walked like the others, and not freed before.
 *
 * Large values in memory are not copied but pinned (keyspace_pin()): they keep their bytes until they have been given.
 *
 * Big collections are frozen: the root and the page tables of the cut are copied when a command that may change the
 * collection looks its key up, or when a walker comes to it. Pages are shared until the living collection changes or
 * drops one; it then leaves the page to the frozen one and goes on with a copy (page_table.h). The copy of the tables
 * takes 8 bytes a page, and a tree's inner nodes 8 to 24 bytes a leaf; it is made under the shard's lock.
 *
 * Threads: said with each function. A shard's epoch and snapshot are read under its lock. */

#include "keyspace/keyspace.h"
#include "record/collection.h"

struct keyspace_snapshot;

/* ---- for whoever runs a snapshot: persist/snapshot.c ---- */

/* NULL: no memory. */
struct keyspace_snapshot *keyspace_snapshot_create(struct keyspace *keyspace, unsigned lanes);
/* Before the cut: of what is cold only the references are wanted, and nothing is read. What they lead to has to be kept
 * by whoever wants them. */
void keyspace_snapshot_want_references(struct keyspace_snapshot *snapshot);
/* The cut. All workers stand still. The keyspace has locks from here to the end. */
void keyspace_snapshot_cut(struct keyspace_snapshot *snapshot);
/* Nothing is to be taken any more, but everything still has to be walked. Any thread. */
void keyspace_snapshot_abandon(struct keyspace_snapshot *snapshot);
/* Whether images were lost: there was no memory, or a cold record could not be read. Any thread. */
bool keyspace_snapshot_is_lost(const struct keyspace_snapshot *snapshot);
/* All workers stand still, and all lanes have been told SNAPSHOT_WALK_END (or there was no cut). */
void keyspace_snapshot_destroy(struct keyspace_snapshot *snapshot);

uint64_t keyspace_snapshot_keys(const struct keyspace_snapshot *snapshot);        /* at the cut */
size_t keyspace_snapshot_waiting_bytes(const struct keyspace_snapshot *snapshot); /* images that were kept */
/* Pages of big collections that have changed since, and are kept for their frozen copies only. They are no reason for
 * writers to wait (keyspace_snapshot_is_crowded()): what gives a collection of gigabytes takes as long as it takes. */
size_t keyspace_snapshot_set_aside_bytes(const struct keyspace_snapshot *snapshot);

/* What a slice took: an image, a collection, or a reference. Whoever gave it to the sink calls
 * snapshot_taken_release(). */
struct snapshot_taken {
    uint32_t database;
    const struct record *image; /* NULL: a collection, or a reference */
    struct snapshot_collection *collection;
    uint32_t pinned_in; /* the shard in which `image` is pinned; UINT32_MAX: it is not */
    void *owned;        /* to be freed; NULL: in the lane's buffer, or of the next that owns something */
    bool is_room;       /* `owned` is room for images: to be used again */
    bool walked;        /* of a record in memory to which the walk came: of a shard one after the other, in the order of
                           their indexes. The others were kept by who was about to change them */
    size_t kept_bytes;  /* what it counted for while it waited */
    uint64_t ref, hash; /* where images of cold records are not wanted: index_hash_of(); 0: it is no reference */
    uint32_t shard;     /* of the reference */
};
enum { SNAPSHOT_TAKEN_MAX = 512 };
struct snapshot_slice {
    struct snapshot_taken taken[SNAPSHOT_TAKEN_MAX];
    unsigned count;
};

enum snapshot_walk {
    SNAPSHOT_WALK_ON,   /* call again; the slice may be empty */
    SNAPSHOT_WALK_IDLE, /* there is nothing now, but may be: call again in a millisecond or so */
    SNAPSHOT_WALK_END,  /* nothing is left for this lane */
};
/* A slice of the lane's walk: holds a shard's lock for about 100 us at most, apart from freezing a collection, or has a
 * worker do it that helps; may read from the tier without a lock. The slice is filled anew. The lane's thread, no lock
 * held. */
enum snapshot_walk keyspace_snapshot_walk(struct keyspace_snapshot *snapshot, unsigned lane,
                                          struct snapshot_slice *slice);
/* Gives up what one of the slice holds; in the slice's order. No lock held. */
void snapshot_taken_release(struct keyspace_snapshot *snapshot, struct snapshot_taken *taken);

/* Switches the locks of shards on or off. All workers stand still, no lock is held. What is retired at once stays so:
 * walkers read nothing of an index without its shard's lock. */
void keyspace_set_locking(struct keyspace *keyspace, bool locking);

/* Whether so much is waiting for the walkers that writers should wait before their next command, and nothing should be
 * demoted. Any thread; two relaxed loads. */
bool keyspace_snapshot_is_crowded(const struct keyspace *keyspace);

/* ---- for workers: slices they take for the walkers (keyspace_snapshot_help.c) ---- */

/* From now on the calling worker serves soon, between turns that come at once after each other; or no longer. Each
 * worker says so in turn. No lock held. */
void keyspace_snapshot_help(struct keyspace *keyspace, bool helps);
/* Whether a walker waits for somebody to serve it. To be asked by a worker that has stopped to help, before it sleeps:
 * it has to serve then, as the walker may have seen that it helped. */
bool keyspace_snapshot_has_offer(const struct keyspace *keyspace);
/* Takes a slice, for about 40 us apart from freezing a collection. False: none is wanted. A worker's thread, which
 * does not stand still, between its commands; no lock held. */
bool keyspace_snapshot_serve(struct keyspace *keyspace);

/* ---- a frozen collection, for sinks ---- */

/* A big collection as it was at the cut. The fields here may be read at any time, the root only with the lock: it is
 * used with the structure functions and the access that locking gives, which changes nothing. A page that is not at
 * hand is missing (page_table.h): unlock, fetch, lock, and go on.
 *
 *   do {
 *       access = snapshot_collection_lock(value);
 *       status = ... a part of it, at most about 100 us ...
 *       snapshot_collection_unlock(value);
 *   } while (... more ... && (status != missing || snapshot_collection_fetch(value))); */
struct snapshot_collection {
    struct collection *root;
    struct span key;
    int64_t expiry_ms; /* RECORD_EXPIRY_NONE: none */
    uint32_t access;   /* access bits of the key */
    bool walked;       /* a walk came to it: see struct snapshot_taken */
};
struct page_access *snapshot_collection_lock(struct snapshot_collection *value);
void snapshot_collection_unlock(struct snapshot_collection *value);
/* Reads the pages that were missing. False: one cannot be read; the snapshot fails. No lock held. */
bool snapshot_collection_fetch(struct snapshot_collection *value) __attribute__((warn_unused_result));
/* Whether a page's reference, which is cold, led there at the cut already. The lock is held. */
bool snapshot_collection_is_of_cut(const struct snapshot_collection *value, uint64_t ref);
/* Keeps the bytes of a large page, which is in memory, where they are until the other is called, whatever becomes of
 * the page. One at a time. False: it is not large enough to be pinned. The first with the lock held, the other
 * without. */
bool snapshot_collection_pin(struct snapshot_collection *value, uint64_t ref) __attribute__((warn_unused_result));
void snapshot_collection_unpin(struct snapshot_collection *value);

/* ---- for the keyspace: the shard's lock is held ---- */

void snapshot_keep(struct shard *shard, struct index *index, uint64_t ref, const struct record *record);
uint8_t snapshot_epoch_back(struct shard *shard, struct index *index, uint64_t ref, const struct record *record);
void snapshot_lose(struct shard *shard);

/* The record that `ref` leads to (of a cold one the copy) is about to be changed, removed, or moved to the tier. Its
 * index still has it. Also to be called where a command that may change a collection has found it. */
static inline void keyspace_keep(struct shard *shard, struct index *index, uint64_t ref, const struct record *record) {
    if (__builtin_expect(shard->snapshot != NULL, 0)) snapshot_keep(shard, index, ref, record);
}

/* The epoch for a copy of the record that takes its place in memory. */
static inline uint8_t keyspace_epoch_back(struct shard *shard, struct index *index, uint64_t ref,
                                          const struct record *record) {
    if (__builtin_expect(shard->snapshot != NULL, 0)) return snapshot_epoch_back(shard, index, ref, record);
    return shard->epoch;
}

#endif
