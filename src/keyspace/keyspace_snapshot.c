/* The cut, and what is kept by those who change records. The argument is in keyspace_snapshot.h; the walk is in
 * keyspace_snapshot_walk.c, that of the tier in keyspace_snapshot_cold.c, frozen collections are in
 * keyspace_snapshot_frozen.c.
 *
 * What is kept waits in two stacks, one for big collections. Those who change records push, with one exchange and
 * without a lock: a walker that the kernel has put aside would hold it for milliseconds. A walker takes a stack as a
 * whole, so that nothing can come back to its top while somebody looks at it. */

#include "keyspace/keyspace_snapshot.h"

#include "base/log.h"
#include "keyspace/keyspace_snapshot_private.h"

#include <assert.h>
#include <stdlib.h>

enum {
    WAITING_PART = 32, /* of what the keyspace has in memory: so much may wait, or: */
    IMAGE_SMALL = KEPT_IMAGES / 8,
    LONG_PAGES = 4096, /* of a collection that takes long to give */
};
#define WAITING_BYTES_MIN (8ul << 20)

/* ---- life ---- */

struct keyspace_snapshot *keyspace_snapshot_create(struct keyspace *keyspace, unsigned lanes) {
    struct keyspace_snapshot *snapshot = calloc(1, sizeof(*snapshot) + lanes * sizeof(struct snapshot_lane));
    if (!snapshot) return NULL;
    snapshot->keyspace = keyspace;
    snapshot->lane_count = lanes;
    snapshot->waiting_max = WAITING_BYTES_MIN + (size_t)keyspace->shard_count * KEPT_IMAGES;
    atomic_flag_clear(&snapshot->spare_busy);
    bool made = !keyspace->tier || (snapshot->frontier = tier_frontier_create(keyspace->tier));
    for (unsigned i = 0; i < lanes; i++) {
        snapshot->lanes[i].shard = UINT32_MAX;
        if (!keyspace->tier) continue;
        made = made && (snapshot->lanes[i].buffer = malloc(LANE_BUFFER));
        made = made && (snapshot->lanes[i].scan = snapshot_scan_create(keyspace->tier));
    }
    if (made) return snapshot;
    keyspace_snapshot_destroy(snapshot);
    return NULL;
}

void keyspace_snapshot_want_references(struct keyspace_snapshot *snapshot) {
    assert(!snapshot->cut);
    snapshot->references = true;
    for (unsigned i = 0; i < snapshot->lane_count; i++) {
        snapshot_scan_destroy(snapshot->lanes[i].scan);
        snapshot->lanes[i].scan = NULL;
    }
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
    bytes += shard->heap.sums.live_bytes;
    snapshot->waiting_max += bytes / WAITING_PART;
}

static void hold_collapses(struct keyspace *keyspace, bool held) {
    for (unsigned i = 0; i < keyspace->pool_count; i++) region_pool_hold_collapses(keyspace->pools[i], held);
}

void keyspace_snapshot_cut(struct keyspace_snapshot *snapshot) {
    struct keyspace *keyspace = snapshot->keyspace;
    assert(!keyspace->snapshot);
    for (uint32_t i = 0; i < keyspace->shard_count; i++) cut_shard(snapshot, &keyspace->shards[i]);
    if (snapshot->frontier) tier_frontier_take(snapshot->frontier);
    hold_collapses(keyspace, true);
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

size_t keyspace_snapshot_set_aside_bytes(const struct keyspace_snapshot *snapshot) {
    return atomic_load_explicit(&snapshot->set_aside_bytes, memory_order_relaxed);
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
        for (uint32_t i = 0; i < keyspace->shard_count; i++) {
            assert(!keyspace->shards[i].images);
            keyspace->shards[i].snapshot = NULL;
        }
        keyspace_set_locking(keyspace, snapshot->locking_before);
        hold_collapses(keyspace, false);
    }
    assert(!atomic_load(&snapshot->short_ones) && !atomic_load(&snapshot->long_ones));
    for (unsigned i = 0; i < snapshot->lane_count; i++) {
        assert(!snapshot->lanes[i].kept);
        free(snapshot->lanes[i].buffer);
        snapshot_scan_destroy(snapshot->lanes[i].scan);
    }
    for (struct kept *next; snapshot->spare; snapshot->spare = next) {
        next = snapshot->spare->next;
        free(snapshot->spare);
    }
    tier_frontier_destroy(snapshot->frontier);
    free(snapshot);
}

/* ---- keeping ---- */

void snapshot_push(struct kept *_Atomic *stack, struct kept *first, struct kept *last) {
    last->next = atomic_load_explicit(stack, memory_order_relaxed);
    while (
        !atomic_compare_exchange_weak_explicit(stack, &last->next, first, memory_order_release, memory_order_relaxed))
        continue;
}

/* ---- room for images ----
 *
 * A shard's own until it is full, then on the stack, then the slice's, and used again. */

static struct kept *take_room(struct keyspace_snapshot *snapshot) {
    struct kept *room = NULL;
    if (!atomic_flag_test_and_set_explicit(&snapshot->spare_busy, memory_order_acquire)) {
        if ((room = snapshot->spare)) snapshot->spare = room->next;
        atomic_flag_clear_explicit(&snapshot->spare_busy, memory_order_release);
    }
    if (!room && !(room = malloc(sizeof(*room) + KEPT_IMAGES))) return NULL;
    *room = (struct kept){.bytes = sizeof(*room) + KEPT_IMAGES};
    atomic_fetch_add_explicit(&snapshot->waiting_bytes, room->bytes, memory_order_relaxed);
    return room;
}

static void give_room_back(struct keyspace_snapshot *snapshot, struct kept *room) {
    if (atomic_flag_test_and_set_explicit(&snapshot->spare_busy, memory_order_acquire)) {
        free(room);
        return;
    }
    room->next = snapshot->spare;
    snapshot->spare = room;
    atomic_flag_clear_explicit(&snapshot->spare_busy, memory_order_release);
}

void snapshot_push_images(struct shard *shard) {
    if (!shard->images) return;
    snapshot_push(&shard->snapshot->short_ones, shard->images, shard->images);
    shard->images = NULL;
}

/* NULL: no memory. */
static struct kept *room_for_image(struct shard *shard, size_t bytes) {
    struct kept *room = shard->images;
    if (room && (room->count == KEPT_IMAGES_MAX || KEPT_IMAGES - room->used < bytes)) snapshot_push_images(shard);
    if (!shard->images) shard->images = take_room(shard->snapshot);
    return shard->images;
}

static void keep_small(struct shard *shard, uint32_t database, const struct record *record, size_t bytes) {
    size_t length = (sizeof(struct kept_image) + bytes + 7) & ~(size_t)7;
    struct kept *room = room_for_image(shard, length);
    if (!room) {
        snapshot_lose(shard);
        return;
    }
    char *to = room->images + room->used;
    memcpy(to, &(struct kept_image){database, (uint32_t)length}, sizeof(struct kept_image));
    memcpy(to + sizeof(struct kept_image), record, bytes);
    room->used += (uint32_t)length;
    room->count++;
}

/* ---- what is kept ---- */

static bool is_long(const struct snapshot_collection *value) {
    return page_table_live(&value->root->parts[0]) + page_table_live(&value->root->parts[1]) >= LONG_PAGES;
}

static void enqueue(struct keyspace_snapshot *snapshot, struct kept *kept) {
    bool is_of_others = kept->taken.collection && is_long(kept->taken.collection);
    atomic_fetch_add_explicit(&snapshot->waiting_bytes, kept->bytes, memory_order_relaxed);
    snapshot_push(is_of_others ? &snapshot->long_ones : &snapshot->short_ones, kept, kept);
}

void snapshot_lose(struct shard *shard) {
    if (!atomic_exchange(&shard->snapshot->lost, true))
        log_warning("snapshot: there is no memory for the values of the cut: it is given up");
}

bool snapshot_can_pin(struct shard *shard, uint64_t ref, const struct record *record, size_t bytes) {
    return bytes >= LIMIT_REPLY_COPY_BYTES && !ref_is_cold(ref) && heap_can_pin(shard_heap(shard, ref), record);
}

struct snapshot_taken snapshot_pin(struct shard *shard, uint64_t ref, uint32_t database) {
    heap_pin(shard_heap(shard, ref), ref_record(ref));
    return (struct snapshot_taken){.database = database, .image = ref_record(ref), .pinned_in = shard->number};
}

static void keep_image(struct shard *shard, struct index *index, uint64_t ref, const struct record *record) {
    size_t bytes = record_size(record);
    if (bytes <= IMAGE_SMALL) {
        keep_small(shard, index->walk.database, record, bytes);
        return;
    }
    bool pinned = snapshot_can_pin(shard, ref, record, bytes);
    struct kept *kept = malloc(sizeof(*kept) + (pinned ? 0 : bytes));
    if (!kept) {
        snapshot_lose(shard);
        return;
    }
    *kept = (struct kept){.bytes = sizeof(*kept) + bytes};
    if (pinned) {
        kept->taken = snapshot_pin(shard, ref, index->walk.database);
    } else {
        memcpy(kept + 1, record, bytes);
        kept->taken = (struct snapshot_taken){
            .database = index->walk.database, .image = (const struct record *)(kept + 1), .pinned_in = UINT32_MAX};
    }
    enqueue(shard->snapshot, kept);
}

void snapshot_keep_collection(struct shard *shard, struct index *index, const struct record *record, bool walked) {
    struct kept *kept = malloc(sizeof(*kept));
    struct snapshot_collection *value = kept ? snapshot_freeze(shard->snapshot, shard, record) : NULL;
    if (!value) {
        free(kept);
        snapshot_lose(shard);
        return;
    }
    value->walked = walked;
    *kept = (struct kept){.taken = {.database = index->walk.database, .collection = value, .pinned_in = UINT32_MAX},
                          .bytes = sizeof(*kept) + value->root->kind->root_bytes};
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) kept->bytes += page_table_bytes(&value->root->parts[part]);
    enqueue(shard->snapshot, kept);
}

bool snapshot_is_old_cold(const struct shard *shard, const struct index *index, uint64_t ref,
                          const struct record *record) {
    const struct keyspace_snapshot *snapshot = shard->snapshot;
    return index->walk.unfinished && tier_frontier_has(snapshot->frontier, ref) &&
           key_hash(record_key(record), snapshot->keyspace->seed) >= index->walk.position;
}

struct snapshot_taken snapshot_reference(const struct shard *shard, const struct index *index, uint64_t ref,
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
    *kept = (struct kept){.taken = snapshot_reference(shard, index, ref, hash), .bytes = sizeof(*kept)};
    enqueue(shard->snapshot, kept);
}

void snapshot_keep(struct shard *shard, struct index *index, uint64_t ref, const struct record *record) {
    bool given_up = snapshot_is_given_up(shard->snapshot);
    if (ref_is_cold(ref)) {
        if (given_up || !snapshot_is_old_cold(shard, index, ref, record)) return;
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
        if (!given_up) snapshot_keep_collection(shard, index, record, false);
        living->epoch = shard->epoch;
    } else if (!given_up) {
        keep_image(shard, index, ref, record);
    }
}

uint8_t snapshot_epoch_back(struct shard *shard, struct index *index, uint64_t ref, const struct record *record) {
    if (!ref_is_cold(ref)) return (uint8_t)record_epoch(record);
    bool old = snapshot_is_old_cold(shard, index, ref, record);
    return old ? (uint8_t)((shard->epoch + RECORD_EPOCHS - 1) % RECORD_EPOCHS) : shard->epoch;
}

/* ---- release ---- */

void snapshot_taken_release(struct keyspace_snapshot *snapshot, struct snapshot_taken *taken) {
    if (taken->pinned_in != UINT32_MAX)
        keyspace_unpin(snapshot->keyspace, taken->pinned_in, (struct record *)(uintptr_t)taken->image);
    if (taken->collection) snapshot_thaw(taken->collection);
    if (taken->kept_bytes) atomic_fetch_sub_explicit(&snapshot->waiting_bytes, taken->kept_bytes, memory_order_relaxed);
    if (taken->is_room)
        give_room_back(snapshot, taken->owned);
    else
        free(taken->owned);
}
