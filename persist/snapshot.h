#ifndef TERRACE_PERSIST_SNAPSHOT_H
#define TERRACE_PERSIST_SNAPSHOT_H

/* A snapshot: every value of the keyspace as it was at one moment, the cut, given to a sink by walker threads while
 * commands go on. How the values of the cut are had is keyspace/keyspace_snapshot.h; here are the threads.
 *
 *   snapshot = snapshot_create(&options);            any thread; all that needs memory
 *   ... all workers stand still ...
 *   snapshot_begin(snapshot);                        the cut; from here on the sink is called
 *   ... workers go on ...
 *   options.complete(ctx, whole)                     last walker's thread: everything was given, or it was stopped
 *   ... all workers stand still ...
 *   snapshot_destroy(snapshot);                      once `complete` was called
 *
 * A lane is a walker thread. Each calls the sink for itself, with its number, so a sink keeps what it composes by lane.
 * Every key that existed at the cut is given once, in no order, by whichever lane; expired ones that were not removed
 * yet are given as they are.
 *
 * With more than one lane the first never takes a very big collection, so that images which are kept for the snapshot,
 * and for which writers may have to wait, are taken while others give one for minutes. So there should be two at least.
 *
 * A keyspace of one worker has no locks: while a snapshot runs it has them (keyspace_set_locking()). */

#include "keyspace/keyspace_snapshot.h"

enum { SNAPSHOT_LANES_MAX = 16 };

struct snapshot;

/* What a snapshot is given to. All on the thread of lane `lane`, with no lock held; false: the snapshot cannot go on,
 * nothing else is given. */
struct snapshot_sink {
    void *ctx;
    /* A record that is no collection (record_is_paged() is false). Good during the call; what its epoch and access bits
     * say is of no meaning beyond the access bits being about those of the cut. */
    bool (*record)(void *ctx, unsigned lane, uint32_t database, const struct record *image);
    /* Instead of it, of records in memory to which a walk came: each lane gives those of a shard one after the other,
     * in the order of their indexes. What record() is given then was kept by who was about to change it. NULL: record()
     * is given all. */
    bool (*walked)(void *ctx, unsigned lane, uint32_t database, const struct record *image);
    /* A big collection. The sink reads it to its end before it returns: see struct snapshot_collection. */
    bool (*collection)(void *ctx, unsigned lane, uint32_t database, struct snapshot_collection *value);
    /* Instead of the image of a cold record: where it stands on the tier, and what is known of its hash
     * (index_hash_of()). What the references of the cut lead to is kept by the sink's owner. NULL: images are given. */
    bool (*cold)(void *ctx, unsigned lane, uint32_t shard, uint32_t database, uint64_t hash, uint64_t ref);
    /* The lane gives nothing more. Not called after a false, or when the snapshot was stopped. NULL: nothing to do. */
    bool (*lane_end)(void *ctx, unsigned lane);
};

struct snapshot_options {
    struct keyspace *keyspace;
    struct snapshot_sink sink; /* copied */
    unsigned lanes;            /* 1..SNAPSHOT_LANES_MAX; 0: 1 */
    bool stepped;              /* no threads: snapshot_step() does the work. For tests */
    /* The last walker has ended. `whole`: everything was given. */
    void (*complete)(void *ctx, bool whole);
    /* A walker's thread, again and again: a place to leave CPUs that others need. NULL: nothing to do. */
    void (*place)(void *ctx);
    void *ctx;
};

/* With its threads, which wait for the cut. NULL: no memory, or no thread. One at a time in a keyspace. */
struct snapshot *snapshot_create(const struct snapshot_options *options);
/* The cut. Precondition: all workers stand still, and no command is half done. False: there is another snapshot;
 * destroy it, `complete` is not called. */
bool snapshot_begin(struct snapshot *snapshot) __attribute__((warn_unused_result));
/* Gives nothing more: what is left is walked quickly, so that the next cut finds everything in order, and `complete` is
 * called. Any thread, any number of times. */
void snapshot_stop(struct snapshot *snapshot);
/* Whether `complete` has been called, or is being called. Any thread. */
bool snapshot_is_over(const struct snapshot *snapshot);
/* Waits for the walkers, which must be about to end (stop first if need be), and frees everything. Precondition: all
 * workers stand still; no lock is held. NULL is ignored. Also of one that was never begun. */
void snapshot_destroy(struct snapshot *snapshot);

/* Keys given so far, keys of the cut, bytes of images that wait for the walkers, bytes of pages that are kept for
 * frozen collections only. Any thread. */
struct snapshot_figures {
    uint64_t done, total;
    size_t waiting_bytes, set_aside_bytes;
};
struct snapshot_figures snapshot_figures(const struct snapshot *snapshot);

/* All of it, from the cut to the end, while nobody else uses the keyspace. False: not everything was given. */
bool snapshot_walk(struct keyspace *keyspace, struct snapshot_sink sink, unsigned lanes)
    __attribute__((warn_unused_result));

/* One slice of a lane's work, of a stepped snapshot. False: nothing is left for this lane; `complete` is called by the
 * step that ends the last lane. */
bool snapshot_step(struct snapshot *snapshot, unsigned lane);

#endif
