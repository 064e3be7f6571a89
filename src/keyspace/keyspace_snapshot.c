/* The cut, what is kept by those who change records, and the walk. The argument is in keyspace_snapshot.h; frozen
 * collections are in keyspace_snapshot_frozen.c.
 *
 * A lane walks a shard to its end before it takes the next one, so of one shard's lock a walker is the only one that
 * asks often. Between slices it empties the queue first, since what waits there takes memory.
 *
 * A stretch of an index is taken as a whole or, where cold records in it have not been read, only what is in memory:
 * that may be done again, since what was taken is marked by its epoch. Only when all cold ones are at hand are they
 * taken as well, and the position moves on. */

#include "keyspace/keyspace_snapshot.h"

#include "base/clock.h"
#include "base/log.h"
#include "keyspace/keyspace_snapshot_private.h"

#include <assert.h>
#include <stdlib.h>

enum {
    GATHER = 64,             /* slots of a stretch */
    SLICE_NS = 80000,        /* the lock is held about this long */
    BUFFER_SPARE = 64 << 10, /* what is larger is pinned, or has memory of its own */
    WAITING_PART = 32,       /* of what the keyspace has in memory: so much may wait, or: */
    READ_TRIES = 3,
    LONG_PAGES = 4096, /* of a collection that takes long to give */
};
#define WAITING_BYTES_MIN (8ul << 20)

/* ---- life ---- */

struct keyspace_snapshot *keyspace_snapshot_create(struct keyspace *keyspace, unsigned lanes) {
    struct keyspace_snapshot *snapshot = calloc(1, sizeof(*snapshot) + lanes * sizeof(struct snapshot_lane));
    if (!snapshot) return NULL;
    snapshot->keyspace = keyspace;
    snapshot->lane_count = lanes;
    snapshot->short_ones.last = &snapshot->short_ones.first;
    snapshot->long_ones.last = &snapshot->long_ones.first;
    snapshot->waiting_max = WAITING_BYTES_MIN;
    pthread_mutex_init(&snapshot->lock, NULL);
    bool made = !keyspace->tier || (snapshot->frontier = tier_frontier_create(keyspace->tier));
    for (unsigned i = 0; i < lanes; i++) {
        snapshot->lanes[i].shard = UINT32_MAX;
        made = made && (snapshot->lanes[i].buffer = malloc(LANE_BUFFER));
    }
    if (made) return snapshot;
    keyspace_snapshot_destroy(snapshot);
    return NULL;
}

void keyspace_snapshot_want_references(struct keyspace_snapshot *snapshot) {
    assert(!snapshot->cut);
    snapshot->references = true;
}

static void cut_shard(struct keyspace_snapshot *snapshot, struct shard *shard) {
    size_t bytes = 0;
    shard->epoch = (uint8_t)((shard->epoch + 1) % RECORD_EPOCHS);
    shard->snapshot = snapshot;
    for (uint32_t database = 0; database < snapshot->keyspace->database_count; database++) {
        struct index *index = shard->databases[database];
        if (!index) continue;
        index->walk = (struct index_walk){.unfinished = index->count > 0, .database = database};
        snapshot->keys += index->count;
    }
    bytes += shard->heap.live_bytes;
    snapshot->waiting_max += bytes / WAITING_PART;
}

void keyspace_snapshot_cut(struct keyspace_snapshot *snapshot) {
    struct keyspace *keyspace = snapshot->keyspace;
    assert(!keyspace->snapshot);
    for (uint32_t i = 0; i < keyspace->shard_count; i++) cut_shard(snapshot, &keyspace->shards[i]);
    if (snapshot->frontier) tier_frontier_take(snapshot->frontier);
    snapshot->locking_before = keyspace->locking;
    snapshot->cut = true;
    keyspace_set_locking(keyspace, true);
    atomic_store(&keyspace->snapshot, snapshot);
}

void keyspace_snapshot_abandon(struct keyspace_snapshot *snapshot) {
    atomic_store(&snapshot->abandoned, true);
}

bool keyspace_snapshot_is_lost(const struct keyspace_snapshot *snapshot) {
    return atomic_load(&snapshot->lost);
}

uint64_t keyspace_snapshot_keys(const struct keyspace_snapshot *snapshot) {
    return snapshot->keys;
}

size_t keyspace_snapshot_waiting_bytes(const struct keyspace_snapshot *snapshot) {
    return atomic_load_explicit(&snapshot->waiting_bytes, memory_order_relaxed);
}

bool keyspace_snapshot_is_crowded(const struct keyspace *keyspace) {
    const struct keyspace_snapshot *snapshot = atomic_load_explicit(&keyspace->snapshot, memory_order_relaxed);
    return snapshot && keyspace_snapshot_waiting_bytes(snapshot) >= snapshot->waiting_max;
}

void keyspace_snapshot_destroy(struct keyspace_snapshot *snapshot) {
    if (!snapshot) return;
    struct keyspace *keyspace = snapshot->keyspace;
    if (snapshot->cut) {
        atomic_store(&keyspace->snapshot, NULL);
        for (uint32_t i = 0; i < keyspace->shard_count; i++) keyspace->shards[i].snapshot = NULL;
        keyspace_set_locking(keyspace, snapshot->locking_before);
    }
    assert(!snapshot->short_ones.first && !snapshot->long_ones.first);
    for (unsigned i = 0; i < snapshot->lane_count; i++) free(snapshot->lanes[i].buffer);
    tier_frontier_destroy(snapshot->frontier);
    pthread_mutex_destroy(&snapshot->lock);
    free(snapshot);
}

/* ---- keeping ---- */

static void append(struct kept_list *list, struct kept *kept) {
    kept->next = NULL;
    *list->last = kept;
    list->last = &kept->next;
}

static bool is_long(const struct snapshot_collection *value) {
    return page_table_live(&value->root->parts[0]) + page_table_live(&value->root->parts[1]) >= LONG_PAGES;
}

static void enqueue(struct keyspace_snapshot *snapshot, struct kept *kept) {
    bool is_of_others = kept->taken.collection && is_long(kept->taken.collection);
    atomic_fetch_add_explicit(&snapshot->waiting_bytes, kept->bytes, memory_order_relaxed);
    pthread_mutex_lock(&snapshot->lock);
    append(is_of_others ? &snapshot->long_ones : &snapshot->short_ones, kept);
    pthread_mutex_unlock(&snapshot->lock);
}

void snapshot_lose(struct shard *shard) {
    if (!atomic_exchange(&shard->snapshot->lost, true))
        log_warning("snapshot: there is no memory for the values of the cut: it is given up");
}

static bool can_pin(struct shard *shard, uint64_t ref, const struct record *record, size_t bytes) {
    return bytes >= LIMIT_REPLY_COPY_BYTES && !ref_is_cold(ref) && heap_can_pin(shard_heap(shard, ref), record);
}

/* What large records are pinned for: they keep their bytes whatever becomes of the key. */
static struct snapshot_taken pin(struct shard *shard, uint64_t ref, uint32_t database) {
    heap_pin(shard_heap(shard, ref), ref_record(ref));
    return (struct snapshot_taken){.database = database, .image = ref_record(ref), .pinned_in = shard->number};
}

static void keep_image(struct shard *shard, struct index *index, uint64_t ref, const struct record *record) {
    size_t bytes = record_size(record);
    bool pinned = can_pin(shard, ref, record, bytes);
    struct kept *kept = malloc(sizeof(*kept) + (pinned ? 0 : bytes));
    if (!kept) {
        snapshot_lose(shard);
        return;
    }
    kept->bytes = sizeof(*kept) + bytes;
    if (pinned) {
        kept->taken = pin(shard, ref, index->walk.database);
    } else {
        memcpy(kept + 1, record, bytes);
        kept->taken = (struct snapshot_taken){
            .database = index->walk.database, .image = (const struct record *)(kept + 1), .pinned_in = UINT32_MAX};
    }
    enqueue(shard->snapshot, kept);
}

static void keep_collection(struct shard *shard, struct index *index, const struct record *record) {
    struct kept *kept = malloc(sizeof(*kept));
    struct snapshot_collection *value = kept ? snapshot_freeze(shard->snapshot, shard, record) : NULL;
    if (!value) {
        free(kept);
        snapshot_lose(shard);
        return;
    }
    kept->taken =
        (struct snapshot_taken){.database = index->walk.database, .collection = value, .pinned_in = UINT32_MAX};
    kept->bytes = sizeof(*kept) + value->root->kind->root_bytes;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) kept->bytes += page_table_bytes(&value->root->parts[part]);
    enqueue(shard->snapshot, kept);
}

static bool is_old_cold(const struct shard *shard, const struct index *index, uint64_t ref,
                        const struct record *record) {
    const struct keyspace_snapshot *snapshot = shard->snapshot;
    return index->walk.unfinished && tier_frontier_has(snapshot->frontier, ref) &&
           key_hash(record_key(record), snapshot->keyspace->seed) >= index->walk.position;
}

static struct snapshot_taken reference(const struct shard *shard, const struct index *index, uint64_t ref,
                                       uint64_t hash) {
    return (struct snapshot_taken){
        .database = index->walk.database, .ref = ref, .hash = hash, .shard = shard->number, .pinned_in = UINT32_MAX};
}

static void keep_reference(struct shard *shard, const struct index *index, uint64_t ref, const struct record *record) {
    struct kept *kept = malloc(sizeof(*kept));
    if (!kept) {
        snapshot_lose(shard);
        return;
    }
    uint64_t hash = index_hash_whole(key_hash(record_key(record), shard->snapshot->keyspace->seed));
    *kept = (struct kept){.taken = reference(shard, index, ref, hash), .bytes = sizeof(*kept)};
    enqueue(shard->snapshot, kept);
}

void snapshot_keep(struct shard *shard, struct index *index, uint64_t ref, const struct record *record) {
    bool given_up = snapshot_is_given_up(shard->snapshot);
    if (ref_is_cold(ref)) {
        if (given_up || !is_old_cold(shard, index, ref, record)) return;
        if (shard->snapshot->references)
            keep_reference(shard, index, ref, record);
        else
            keep_image(shard, index, ref, record);
        return;
    }
    if (record_epoch(record) == shard->epoch) return;
    record_set_epoch(ref_record(ref), shard->epoch);
    if (record_is_paged(record)) {
        struct collection *living = collection_of(record);
        if (!given_up) keep_collection(shard, index, record);
        living->epoch = shard->epoch;
    } else if (!given_up) {
        keep_image(shard, index, ref, record);
    }
}

uint8_t snapshot_epoch_back(struct shard *shard, struct index *index, uint64_t ref, const struct record *record) {
    if (!ref_is_cold(ref)) return (uint8_t)record_epoch(record);
    bool old = is_old_cold(shard, index, ref, record);
    return old ? (uint8_t)((shard->epoch + RECORD_EPOCHS - 1) % RECORD_EPOCHS) : shard->epoch;
}

/* ---- what a slice takes ---- */

struct walker {
    struct keyspace_snapshot *snapshot;
    struct snapshot_lane *lane;
    struct snapshot_slice *slice;
    struct shard *shard;
    struct index *index;
    bool froze; /* a collection, in this slice */
};

static struct snapshot_taken *add(struct walker *walker, struct snapshot_taken taken) {
    struct snapshot_slice *slice = walker->slice;
    assert(slice->count < SNAPSHOT_TAKEN_MAX);
    slice->taken[slice->count] = taken;
    return &slice->taken[slice->count++];
}

/* False: there was no memory, and the snapshot is lost. */
static bool take_copy(struct walker *walker, const struct record *record, size_t bytes) {
    struct snapshot_lane *lane = walker->lane;
    struct snapshot_taken taken = {.database = walker->index->walk.database, .pinned_in = UINT32_MAX};
    void *memory = lane->buffer + lane->used;
    if (bytes > LANE_BUFFER - lane->used) {
        if (!(memory = taken.owned = malloc(bytes))) return false;
    } else {
        lane->used += bytes;
    }
    memcpy(memory, record, bytes);
    taken.image = memory;
    add(walker, taken);
    return true;
}

static void take_resident(struct walker *walker, uint64_t ref) {
    struct shard *shard = walker->shard;
    struct record *record = ref_record(ref);
    bool given_up = snapshot_is_given_up(walker->snapshot), taken = true;
    if (record_epoch(record) == shard->epoch) return;
    record_set_epoch(record, shard->epoch);
    if (record_is_paged(record)) {
        if (!given_up) keep_collection(shard, walker->index, record);
        collection_of(record)->epoch = shard->epoch;
        walker->froze = true;
    } else if (!given_up) {
        size_t bytes = record_size(record);
        if (can_pin(shard, ref, record, bytes))
            add(walker, pin(shard, ref, walker->index->walk.database));
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
    add(walker, reference(walker->shard, walker->index, ref, hash));
}

/* ---- the walk ---- */

static struct index *unfinished_index(const struct keyspace *keyspace, const struct shard *shard) {
    for (size_t i = 0; i < shard->condemned_count; i++)
        if (shard->condemned[i]->walk.unfinished) return shard->condemned[i];
    for (uint32_t i = 0; i < keyspace->database_count; i++)
        if (shard->databases[i] && shard->databases[i]->walk.unfinished) return shard->databases[i];
    return NULL;
}

/* A frozen collection ends the slice: it keeps pages from being changed in place, so it is given soon. */
static bool is_full(const struct walker *walker) {
    return walker->froze || walker->slice->count > SNAPSHOT_TAKEN_MAX / 2 ||
           walker->lane->used > LANE_BUFFER - BUFFER_SPARE;
}

/* A stretch of the index; false: cold records have to be read first, or the slice is full. */
static bool walk_stretch(struct walker *walker) {
    struct index_walk *walk = &walker->index->walk;
    bool references = walker->snapshot->references;
    uint64_t refs[INDEX_GATHER_MAX], hashes[INDEX_GATHER_MAX], next;
    size_t count = references ? index_gather_hashes(walker->index, walk->position, GATHER, refs, hashes, &next)
                              : index_gather(walker->index, walk->position, GATHER, false, refs, &next);
    if (walker->slice->count + count > SNAPSHOT_TAKEN_MAX) return false;
    for (size_t i = 0; i < count; i++)
        if (!ref_is_cold(refs[i])) __builtin_prefetch(ref_record(refs[i]));
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

/* True: the shard is done. */
static bool walk_shard(struct walker *walker) {
    struct keyspace *keyspace = walker->snapshot->keyspace;
    uint32_t number = walker->lane->shard;
    uint64_t started = clock_ticks();
    walker->shard = &keyspace->shards[number];
    keyspace_lock(keyspace, number);
    bool goes_on = true;
    while (goes_on && (walker->index = unfinished_index(keyspace, walker->shard)))
        goes_on = walk_stretch(walker) && !is_full(walker) && clock_elapsed_ns(started) < SLICE_NS;
    bool done = goes_on;
    keyspace_unlock(keyspace, number);
    if (!done) read_missing(walker);
    return done;
}

static struct kept *take_first(struct kept_list *list) {
    struct kept *kept = list->first;
    if (kept && !(list->first = kept->next)) list->last = &list->first;
    return kept;
}

/* Of what was kept as much as a slice holds, or one collection. The first lane leaves long ones to the others, so that
 * there is always somebody who empties the queue, for which writers may be waiting. */
static void take_kept(struct walker *walker) {
    struct keyspace_snapshot *snapshot = walker->snapshot;
    bool takes_long = snapshot->lane_count == 1 || walker->lane != &snapshot->lanes[0];
    struct kept *kept;
    pthread_mutex_lock(&snapshot->lock);
    while (walker->slice->count < SNAPSHOT_TAKEN_MAX && (kept = take_first(&snapshot->short_ones))) {
        struct snapshot_taken *taken = add(walker, kept->taken);
        taken->kept_bytes = kept->bytes;
        taken->owned = kept;
    }
    if (takes_long && !walker->slice->count && (kept = take_first(&snapshot->long_ones))) {
        struct snapshot_taken *taken = add(walker, kept->taken);
        taken->kept_bytes = kept->bytes;
        taken->owned = kept;
    }
    pthread_mutex_unlock(&snapshot->lock);
}

/* The first lane stays to the end, and looks into the queue now and then. */
static enum snapshot_walk nothing_to_walk(const struct keyspace_snapshot *snapshot, const struct snapshot_lane *lane) {
    bool all_walked = atomic_load(&snapshot->shards_walked) == snapshot->keyspace->shard_count;
    return lane == &snapshot->lanes[0] && !all_walked ? SNAPSHOT_WALK_IDLE : SNAPSHOT_WALK_END;
}

enum snapshot_walk keyspace_snapshot_walk(struct keyspace_snapshot *snapshot, unsigned number,
                                          struct snapshot_slice *slice) {
    struct snapshot_lane *lane = &snapshot->lanes[number];
    struct walker walker = {.snapshot = snapshot, .lane = lane, .slice = slice};
    slice->count = 0;
    lane->used = 0;
    take_kept(&walker);
    if (slice->count) return SNAPSHOT_WALK_ON;
    if (lane->shard == UINT32_MAX) {
        uint32_t shard = atomic_load(&snapshot->next_shard);
        if (shard < snapshot->keyspace->shard_count) shard = atomic_fetch_add(&snapshot->next_shard, 1);
        if (shard >= snapshot->keyspace->shard_count) return nothing_to_walk(snapshot, lane);
        lane->shard = shard;
    }
    if (walk_shard(&walker)) {
        lane->shard = UINT32_MAX;
        atomic_fetch_add(&snapshot->shards_walked, 1);
    }
    return SNAPSHOT_WALK_ON;
}

void snapshot_taken_release(struct keyspace_snapshot *snapshot, struct snapshot_taken *taken) {
    if (taken->pinned_in != UINT32_MAX)
        keyspace_unpin(snapshot->keyspace, taken->pinned_in, (struct record *)(uintptr_t)taken->image);
    if (taken->collection) snapshot_thaw(taken->collection);
    if (taken->kept_bytes) atomic_fetch_sub_explicit(&snapshot->waiting_bytes, taken->kept_bytes, memory_order_relaxed);
    free(taken->owned);
}
