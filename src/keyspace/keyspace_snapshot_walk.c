/* The walk: what a slice takes, from the indexes and from what was kept. Where there is a tier its segments come first
 * (keyspace_snapshot_cold.c).
 *
 * A lane walks a shard to its end before it takes the next one, so of one shard's lock a walker is the only one that
 * asks often. Between slices it empties the queue first, since what waits there takes memory.
 *
 * A stretch of an index is taken as a whole or, where cold records in it have not been read, only what is in memory:
 * that may be done again, since what was taken is marked by its epoch. Only when all cold ones are at hand are they
 * taken as well, and the position moves on.
 *
 * The part of a slice that needs the shard's lock is done by a worker where one comes by often enough
 * (keyspace_snapshot_help.c), else on the walker's thread. */

#include "base/clock.h"
#include "base/log.h"
#include "keyspace/keyspace_snapshot_private.h"

#include <assert.h>
#include <stdlib.h>

enum {
    GATHER = 64,             /* slots of a stretch */
    BUFFER_SPARE = 64 << 10, /* what is larger is pinned, or has memory of its own */
    FROZEN_PAGES = 64,       /* of collections that are frozen in a slice */
    READ_TRIES = 3,
    CACHE_LINE = 64,
    PREFETCH_MAX = 512, /* of a record: the processor sees by itself that more is read */
};

/* ---- what a slice takes ---- */

static struct snapshot_taken *add(struct walker *walker, struct snapshot_taken taken) {
    struct snapshot_slice *slice = walker->slice;
    assert(slice->count < SNAPSHOT_TAKEN_MAX);
    slice->taken[slice->count] = taken;
    return &slice->taken[slice->count++];
}

/* Bytes left in the lane's buffer, which is made for the first copy: nothing is needed to find that a server is empty,
 * as FLUSHALL does where there are save points. */
static size_t lane_room(struct snapshot_lane *lane) {
    if (!lane->buffer) lane->buffer = malloc(LANE_BUFFER);
    return lane->buffer ? LANE_BUFFER - lane->used : 0;
}

/* False: there was no memory, and the snapshot is lost. */
static bool take_copy(struct walker *walker, const struct record *record, size_t bytes) {
    struct snapshot_lane *lane = walker->lane;
    struct snapshot_taken taken = {.database = walker->index->walk.database, .pinned_in = UINT32_MAX, .walked = true};
    void *memory;
    if (bytes <= lane_room(lane)) {
        memory = lane->buffer + lane->used;
        lane->used += bytes;
    } else if (!(memory = taken.owned = malloc(bytes))) {
        return false;
    }
    memcpy(memory, record, bytes);
    taken.image = memory;
    add(walker, taken);
    return true;
}

static uint64_t pages_of(const struct collection *collection) {
    return (uint64_t)page_table_live(&collection->parts[0]) + page_table_live(&collection->parts[1]);
}

static void take_resident(struct walker *walker, uint64_t ref) {
    struct shard *shard = walker->shard;
    struct record *record = ref_record(ref);
    bool given_up = snapshot_is_given_up(walker->snapshot), taken = true;
    if (record_epoch(record) == shard->epoch) return;
    record_set_epoch(record, shard->epoch);
    if (record_is_paged(record)) {
        if (!given_up) snapshot_keep_collection(shard, walker->index, record, true);
        collection_of(record)->epoch = shard->epoch;
        walker->frozen += 1 + pages_of(collection_of(record));
    } else if (!given_up) {
        size_t bytes = record_size(record);
        if (snapshot_can_pin(shard, ref, record, bytes))
            add(walker, snapshot_pin(shard, ref, walker->index->walk.database))->walked = true;
        else
            taken = take_copy(walker, record, bytes);
    }
    if (!taken) snapshot_lose(shard);
}

/* ---- cold records ---- */

static struct read_back *find_read(struct snapshot_lane *lane, uint64_t ref) {
    for (unsigned i = 0; i < lane->read_count; i++)
        if (lane->reads[i].ref == ref) return &lane->reads[i];
    return NULL;
}

static void forget_reads(struct snapshot_lane *lane) {
    while (lane->read_count) free(lane->reads[--lane->read_count].record);
}

/* Notes those that have to be read; false: some have. A stretch has few enough for all. */
static bool are_at_hand(struct walker *walker, const uint64_t *refs, size_t count) {
    struct snapshot_lane *lane = walker->lane;
    bool all = true;
    if (snapshot_is_given_up(walker->snapshot)) return true;
    for (size_t i = 0; i < count; i++) {
        if (!ref_is_cold(refs[i]) || !tier_frontier_has(walker->snapshot->frontier, refs[i])) continue;
        struct read_back *read = find_read(lane, refs[i]);
        if (read && read->record) continue;
        all = false;
        if (!read) {
            if (lane->read_count == LANE_READS) forget_reads(lane); /* of references that have left meanwhile */
            read = &lane->reads[lane->read_count++];
            *read = (struct read_back){.ref = refs[i]};
        }
        read->wanted = true;
    }
    return all;
}

static struct record *copy_of(const struct record *record) {
    struct record *copy = record ? malloc(record_size(record)) : NULL;
    if (copy) memcpy(copy, record, record_size(record));
    return copy;
}

/* Without a lock. Neighbours in an index often are neighbours in a block, so each block is read once for all. One that
 * cannot be read may have left its index meanwhile, which the next look at that shows; if it has not, the snapshot
 * cannot be whole. */
static void read_missing(struct walker *walker) {
    struct snapshot_lane *lane = walker->lane;
    struct tier *tier = walker->snapshot->keyspace->tier;
    struct tier_fetched fetched;
    for (unsigned i = 0; i < lane->read_count; i++) {
        if (!lane->reads[i].wanted) continue;
        bool read = tier_fetch_block(tier, lane->reads[i].ref, &fetched);
        for (unsigned k = i; read && k < lane->read_count; k++) {
            struct read_back *other = &lane->reads[k];
            if (!other->wanted || !(other->record = copy_of(tier_fetched_record(&fetched, other->ref)))) continue;
            other->wanted = false;
        }
        if (read) tier_fetched_free(&fetched);
        if (!lane->reads[i].wanted) continue;
        lane->reads[i].wanted = false;
        if (++lane->reads[i].failures < READ_TRIES) continue;
        if (!atomic_exchange(&walker->snapshot->lost, true))
            log_warning("snapshot: a record on the tier cannot be read: it is given up");
    }
}

static void take_cold(struct walker *walker, uint64_t ref) {
    struct read_back *read = find_read(walker->lane, ref);
    if (!read || !read->record || !tier_frontier_has(walker->snapshot->frontier, ref)) return;
    add(walker, (struct snapshot_taken){.database = walker->index->walk.database,
                                        .image = read->record,
                                        .owned = read->record,
                                        .pinned_in = UINT32_MAX});
    read->record = NULL;
}

static void take_reference(struct walker *walker, uint64_t ref, uint64_t hash) {
    if (snapshot_is_given_up(walker->snapshot) || !tier_frontier_has(walker->snapshot->frontier, ref)) return;
    add(walker, snapshot_reference(walker->shard, walker->index, ref, hash));
}

/* ---- the walk ---- */

static struct index *unfinished_index(const struct keyspace *keyspace, const struct shard *shard) {
    for (size_t i = 0; i < shard->condemned_count; i++)
        if (shard->condemned[i]->walk.unfinished) return shard->condemned[i];
    for (uint32_t i = 0; i < keyspace->database_count; i++)
        if (shard->databases[i] && shard->databases[i]->walk.unfinished) return shard->databases[i];
    return NULL;
}

/* A frozen collection keeps pages from being changed in place, so it is given soon: few small ones, or a large one, end
 * the slice. */
static bool is_full(const struct walker *walker) {
    return walker->frozen >= FROZEN_PAGES || walker->slice->count > SNAPSHOT_TAKEN_MAX / 2 ||
           walker->lane->used > LANE_BUFFER - BUFFER_SPARE;
}

/* All heads are asked for together, then what follows the heads of those that are to be copied. */
static void prefetch_residents(const struct shard *shard, const uint64_t *refs, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!ref_is_cold(refs[i])) __builtin_prefetch(ref_record(refs[i]));
    for (size_t i = 0; i < count; i++) {
        if (ref_is_cold(refs[i])) continue;
        const struct record *record = ref_record(refs[i]);
        size_t bytes = record_epoch(record) == shard->epoch ? 0 : record_size(record);
        for (size_t at = CACHE_LINE; at < bytes && at < PREFETCH_MAX; at += CACHE_LINE)
            __builtin_prefetch((const char *)record + at);
    }
}

/* A stretch of the index; false: cold records have to be read first, or the slice is full. */
static bool walk_stretch(struct walker *walker) {
    struct index_walk *walk = &walker->index->walk;
    bool references = walker->snapshot->references;
    uint64_t refs[INDEX_GATHER_MAX], hashes[INDEX_GATHER_MAX], next;
    size_t count = references ? index_gather_hashes(walker->index, walk->position, GATHER, refs, hashes, &next)
                              : index_gather(walker->index, walk->position, GATHER, false, refs, &next);
    if (walker->slice->count + count > SNAPSHOT_TAKEN_MAX) return false;
    prefetch_residents(walker->shard, refs, count);
    for (size_t i = 0; i < count && !is_full(walker); i++)
        if (!ref_is_cold(refs[i])) take_resident(walker, refs[i]);
    if (is_full(walker) || (!references && !are_at_hand(walker, refs, count))) return false;
    for (size_t i = 0; i < count; i++) {
        if (!ref_is_cold(refs[i])) continue;
        if (references)
            take_reference(walker, refs[i], hashes[i]);
        else
            take_cold(walker, refs[i]);
    }
    forget_reads(walker->lane);
    walk->position = next;
    walk->unfinished = next != 0;
    return true;
}

/* Somebody sleeps for the shard's lock: what a walker does can wait. */
static bool is_wanted(const struct shard *shard) {
    return atomic_load_explicit(&shard->waiters, memory_order_relaxed) > 0;
}

/* Goes on with the shard of the lane for about `budget_ns`, under its lock. True: the shard is done. */
static bool walk_shard(struct walker *walker, uint64_t budget_ns) {
    struct keyspace *keyspace = walker->snapshot->keyspace;
    uint32_t number = walker->lane->shard;
    uint64_t started = clock_ticks();
    walker->shard = &keyspace->shards[number];
    keyspace_lock(keyspace, number);
    bool goes_on = true;
    while (goes_on && (walker->index = unfinished_index(keyspace, walker->shard)))
        goes_on = walk_stretch(walker) && !is_full(walker) && !is_wanted(walker->shard) &&
                  clock_elapsed_ns(started) < budget_ns;
    if (is_wanted(walker->shard)) walker->lane->alone = 0; /* there is a worker about, who may do it */
    if (goes_on) snapshot_push_images(walker->shard);      /* whatever changes now is younger than the cut */
    keyspace_unlock(keyspace, number);
    return goes_on;
}

/* ---- what was kept ---- */

/* The last one stands for all. */
static void take(struct walker *walker, struct kept *kept) {
    struct snapshot_taken *taken = kept->count ? NULL : add(walker, kept->taken);
    const char *at = kept->images;
    for (uint32_t i = 0; i < kept->count; i++) {
        struct kept_image image;
        memcpy(&image, at, sizeof(image));
        taken = add(walker, (struct snapshot_taken){.database = image.database,
                                                    .image = (const struct record *)(at + sizeof(image)),
                                                    .pinned_in = UINT32_MAX});
        at += image.bytes;
    }
    taken->kept_bytes = kept->bytes;
    taken->owned = kept;
    taken->is_room = kept->count > 0;
}

static bool has_room_for(const struct walker *walker, const struct kept *kept) {
    return walker->slice->count + (kept->count ? kept->count : 1) <= SNAPSHOT_TAKEN_MAX;
}

/* One of the big collections, of which others may take the rest. */
static void take_long(struct walker *walker) {
    struct kept *_Atomic *stack = &walker->snapshot->long_ones;
    if (!atomic_load_explicit(stack, memory_order_relaxed)) return;
    struct kept *first = atomic_exchange_explicit(stack, NULL, memory_order_acquire);
    if (!first) return;
    struct kept *last = first->next;
    while (last && last->next) last = last->next;
    if (last) snapshot_push(stack, first->next, last);
    take(walker, first);
}

/* Of what was kept as much as a slice holds, or one collection. The first lane leaves long ones to the others, so that
 * there is always somebody who empties the queue, for which writers may be waiting. */
static void take_kept(struct walker *walker) {
    struct keyspace_snapshot *snapshot = walker->snapshot;
    struct snapshot_lane *lane = walker->lane;
    bool takes_long = snapshot->lane_count == 1 || lane != &snapshot->lanes[0];
    if (!lane->kept && atomic_load_explicit(&snapshot->short_ones, memory_order_relaxed))
        lane->kept = atomic_exchange_explicit(&snapshot->short_ones, NULL, memory_order_acquire);
    while (lane->kept && has_room_for(walker, lane->kept)) {
        struct kept *kept = lane->kept;
        lane->kept = kept->next;
        take(walker, kept);
    }
    if (takes_long && !walker->slice->count) take_long(walker);
}

/* ---- a slice ---- */

/* False: there is no shard left to begin. */
static bool begin_shard(struct keyspace_snapshot *snapshot, struct snapshot_lane *lane) {
    if (lane->shard != UINT32_MAX) return true;
    uint32_t shard = atomic_load(&snapshot->next_shard);
    if (shard < snapshot->keyspace->shard_count) shard = atomic_fetch_add(&snapshot->next_shard, 1);
    if (shard >= snapshot->keyspace->shard_count) return false;
    lane->shard = shard;
    return true;
}

enum snapshot_walk keyspace_snapshot_walk(struct keyspace_snapshot *snapshot, unsigned number,
                                          struct snapshot_slice *slice) {
    struct snapshot_lane *lane = &snapshot->lanes[number];
    struct walker walker = {.snapshot = snapshot, .lane = lane, .slice = slice, .part = walk_shard};
    /* Looked at first: once it is true nothing is kept any more, and who then finds nothing waiting has done. */
    bool all_walked = atomic_load(&snapshot->shards_walked) == snapshot->keyspace->shard_count;
    slice->count = 0;
    lane->used = 0;
    take_kept(&walker);
    if (slice->count) return SNAPSHOT_WALK_ON;
    if (lane->scan) {
        enum snapshot_scanned scanned = snapshot_scan_slice(&walker);
        if (scanned != SNAPSHOT_SCANNED_ALL)
            return scanned == SNAPSHOT_SCAN_WAITS ? SNAPSHOT_WALK_IDLE : SNAPSHOT_WALK_ON;
        walker.part = walk_shard;
    }
    if (!begin_shard(snapshot, lane)) return all_walked ? SNAPSHOT_WALK_END : SNAPSHOT_WALK_IDLE;
    bool done;
    if (!snapshot_have_done(&walker, &done)) done = walk_shard(&walker, SNAPSHOT_SLICE_NS);
    if (done) {
        lane->shard = UINT32_MAX;
        atomic_fetch_add(&snapshot->shards_walked, 1);
    } else {
        read_missing(&walker);
    }
    return SNAPSHOT_WALK_ON;
}
