/* Background work on shards, in steps that hold a lock for a bounded time: removing what has expired, freeing
 * what was flushed, emptying sparse pages; and the figures of INFO.
 *
 * The expiry sweep walks each index in hash order and touches only records whose reference says that they have
 * an expiry, so keys that live for ever cost it nothing. Fields of hashes come first (keyspace_fields.c). */

#include "base/clock.h"
#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_snapshot.h"

#include <stdlib.h>

enum { SWEEP_RECORDS = 64, DRAIN_RECORDS = 128, COMPACT_SEGMENTS = 32 };

/* ---- expiry ---- */

struct sweep {
    struct keyspace *keyspace;
    struct shard *shard;
    const struct keyspace_sweeper *sweeper;
    int64_t now_ms;
    uint32_t database;
    uint64_t position; /* of the index, where the references at hand were gathered */
    size_t seen, expired;
};

static void remove_at(struct sweep *sweep, struct index_position position, uint64_t ref) {
    index_remove(sweep->shard->databases[sweep->database], position);
    shard_release_value(sweep->keyspace, sweep->shard, ref);
    sweep->shard->changes++;
    sweep->shard->counters.expired++;
    sweep->expired++;
}

static void remove_expired(struct sweep *sweep, uint64_t ref, const struct record *record) {
    struct span name = record_key(record);
    uint64_t hash = key_hash(name, sweep->keyspace->seed);
    struct index_position position = index_find_ref(sweep->shard->databases[sweep->database], hash, ref);
    if (!position.bucket) return;
    keyspace_keep(sweep->shard, sweep->shard->databases[sweep->database], ref, record);
    watch_touch(&sweep->shard->watches, sweep->database, hash, name, true);
    wait_mark(sweep->shard->waits, sweep->database, hash, name);
    keyspace_tell(sweep->keyspace, KEYSPACE_KEY_CHANGED, name, sweep->database, 0);
    keyspace_tell_removed(sweep->keyspace, name, sweep->database);
    keyspace_tell(sweep->keyspace, KEYSPACE_KEY_EXPIRED, name, sweep->database, 0);
    remove_at(sweep, position, ref);
}

/* A cold record goes unread when its page's range of expiries says that it must have expired, and nobody watches or
 * awaits keys here, which would have to be told its name, or may want its image. One of a page in which much has
 * expired is read, for which false is returned: the sweep has to come here again. */
static bool sweep_cold(struct sweep *sweep, uint64_t ref) {
    struct keyspace *keyspace = sweep->keyspace;
    enum segment_expiry expiry = tier_expiry(keyspace->tier, ref, sweep->now_ms);
    const struct record *record = NULL;
    if (expiry == SEGMENT_EXPIRY_NONE_DUE || expiry == SEGMENT_EXPIRY_FEW_DUE) return true;
    if (expiry == SEGMENT_EXPIRY_ALL_DUE && watch_table_is_empty(&sweep->shard->watches) && !sweep->shard->waits &&
        !sweep->shard->snapshot && !keyspace->removal.key &&
        !keyspace_is_heard(keyspace, KEYSPACE_KEY_CHANGED | KEYSPACE_KEY_EXPIRED)) {
        struct index *index = sweep->shard->databases[sweep->database];
        struct index_position position = index_find_near(index, sweep->position, ref);
        if (position.bucket) remove_at(sweep, position, ref);
        return true;
    }
    if (!sweep->sweeper) return true;
    switch (tier_request(sweep->sweeper->port, ref, sweep->sweeper->waiter, &record)) {
    case TIER_PENDING: return false;
    case TIER_READY:
        if (record_is_expired(record, sweep->now_ms)) remove_expired(sweep, ref, record);
        return true;
    default: return true;
    }
}

/* Whether all of them could be looked at. */
static bool sweep_refs(struct sweep *sweep, const uint64_t *refs, size_t count) {
    bool complete = true;
    for (size_t i = 0; i < count; i++)
        if (!ref_is_cold(refs[i])) __builtin_prefetch(ref_record(refs[i]));
    sweep->seen += count;
    for (size_t i = 0; i < count; i++) {
        if (ref_is_cold(refs[i]))
            complete = sweep_cold(sweep, refs[i]) && complete;
        else if (record_is_expired(ref_record(refs[i]), sweep->now_ms))
            remove_expired(sweep, refs[i], ref_record(refs[i]));
    }
    if (complete)
        for (size_t i = 0; i < count; i++)
            if (ref_is_cold(refs[i]) &&
                tier_expiry(sweep->keyspace->tier, refs[i], sweep->now_ms) == SEGMENT_EXPIRY_SOME_DUE)
                tier_note_swept(sweep->keyspace->tier, refs[i], sweep->now_ms);
    return complete;
}

/* The next database of the shard, from `from` on, that has volatile keys; the number of databases: none. */
static uint32_t next_volatile(const struct keyspace *keyspace, const struct shard *shard, uint32_t from) {
    while (from < keyspace->database_count && !(shard->databases[from] && shard->databases[from]->volatile_count))
        from++;
    return from;
}

int keyspace_sweep(struct keyspace *keyspace, uint32_t number, int64_t now_ms, uint64_t budget_ns,
                   const struct keyspace_sweeper *sweeper) {
    struct shard *shard = &keyspace->shards[number];
    struct sweep sweep = {keyspace, shard, sweeper, now_ms, 0, 0, 0, 0};
    uint64_t start = clock_ticks(), refs[INDEX_GATHER_MAX];
    bool finished = false, complete = true;
    if (sweeper && sweeper->waiter->outstanding) return 0;
    if (sweeper) tier_run_begins(sweeper->waiter);
    keyspace_lock(keyspace, number);
    size_t hashes;
    bool fields_done = keyspace_sweep_fields(keyspace, shard, now_ms, budget_ns / 2, sweeper, &hashes);
    if (sweeper && sweeper->waiter->outstanding) complete = false;
    while (complete) {
        uint32_t database = next_volatile(keyspace, shard, shard->sweep_database);
        if (database != shard->sweep_database) shard->sweep_position = 0;
        shard->sweep_database = sweep.database = database;
        if (database == keyspace->database_count) {
            shard->sweep_database = 0;
            finished = true;
            break;
        }
        uint64_t next;
        sweep.position = shard->sweep_position;
        size_t count = index_gather(shard->databases[database], sweep.position, SWEEP_RECORDS, true, refs, &next);
        complete = sweep_refs(&sweep, refs, count);
        if (!complete) break;
        shard->sweep_position = next;
        if (next == 0) shard->sweep_database++;
        if (clock_elapsed_ns(start) >= budget_ns) break;
    }
    keyspace_unlock(keyspace, number);
    if (sweeper) tier_run_ends(sweeper->port, sweeper->waiter, !complete);
    if (!fields_done && hashes) return 100;
    if (finished) return -1;
    return sweep.seen ? (int)(sweep.expired * 100 / sweep.seen) : 0;
}

/* ---- flushed databases ---- */

bool keyspace_drain(struct keyspace *keyspace, uint32_t number, uint64_t budget_ns) {
    struct shard *shard = &keyspace->shards[number];
    uint64_t start = clock_ticks(), refs[INDEX_GATHER_MAX];
    keyspace_lock(keyspace, number);
    /* The oldest is freed first; none before a snapshot has walked it. */
    bool more = shard->condemned_count > 0 && !shard->condemned[0]->walk.unfinished;
    while (more) {
        struct index *index = shard->condemned[0]; /* the oldest: condemned_position is in it */
        size_t count =
            index_gather(index, shard->condemned_position, DRAIN_RECORDS, false, refs, &shard->condemned_position);
        for (size_t i = 0; i < count; i++)
            if (!ref_is_cold(refs[i])) __builtin_prefetch(ref_record(refs[i]));
        for (size_t i = 0; i < count; i++) shard_release_value(keyspace, shard, refs[i]);
        if (!shard->condemned_position) {
            shard->condemned_count--;
            memmove(shard->condemned, shard->condemned + 1, shard->condemned_count * sizeof(struct index *));
            index_destroy(index);
            more = shard->condemned_count > 0 && !shard->condemned[0]->walk.unfinished;
        }
        if (clock_elapsed_ns(start) >= budget_ns) break;
    }
    if (shard->far_used_count) collection_bring_near(keyspace, shard);
    bool collections = collection_drain(keyspace, shard, DRAIN_RECORDS);
    while (collections && clock_elapsed_ns(start) < budget_ns)
        collections = collection_drain(keyspace, shard, DRAIN_RECORDS);
    keyspace_unlock(keyspace, number);
    return more || collections;
}

/* ---- compaction ---- */

struct relocation {
    struct keyspace *keyspace;
    struct shard *shard;
    enum medium medium; /* the heap's */
};

/* A record does not say which database it is in; nearly always it is the first. Records of a condemned index are
 * not found, and are about to be freed anyway. */
static bool relocate(void *ctx, void *object, void *copy, size_t bytes) {
    (void)bytes;
    struct relocation *relocation = ctx;
    struct record *record = object;
    if (record_type(record) == RECORD_PAGE) {
        if (!collection_relocate(relocation->keyspace, relocation->shard, record, ref_of(record, relocation->medium),
                                 ref_of(copy, relocation->medium)))
            return false;
        relocation->shard->counters.moved++;
        return true;
    }
    uint64_t hash = key_hash(record_key(record), relocation->keyspace->seed);
    for (uint32_t database = 0; database < keyspace_databases_with_aside(relocation->keyspace); database++) {
        struct index *index = relocation->shard->databases[database];
        if (!index || !index->count) continue;
        struct index_position position = index_find_ref(index, hash, ref_of(record, relocation->medium));
        if (!position.bucket) continue;
        index_replace(index, position, ref_of(copy, relocation->medium));
        relocation->shard->counters.moved++;
        return true;
    }
    return false;
}

/* A stretch of the shard's indexes; what it frees of pages shows in the pool. */
static unsigned compact_index(struct keyspace *keyspace, struct shard *shard) {
    if (shard->compact_database >= keyspace_databases_with_aside(keyspace)) shard->compact_database = 0;
    struct index *index = shard->databases[shard->compact_database];
    unsigned moved = index ? index_compact(index, &shard->compact_entry, COMPACT_SEGMENTS) : 0;
    if (!index || shard->compact_entry == 0) shard->compact_database++;
    return moved;
}

static size_t compact(struct keyspace *keyspace, uint32_t number, size_t budget_records, bool gives_heaps) {
    struct shard *shard = &keyspace->shards[number];
    struct relocation relocation = {keyspace, shard, MEDIUM_DRAM};
    keyspace_lock(keyspace, number);
    size_t moved = heap_compact(&shard->heap, budget_records, relocate, &relocation);
    for (struct collection *big = shard->big_collections; big && moved < budget_records; big = big->next_big)
        moved += heap_compact(big->heap, budget_records - moved, relocate, &relocation);
    if (gives_heaps && moved < budget_records && collection_give_heaps(shard)) moved = budget_records;
    relocation.medium = MEDIUM_FAR;
    if (shard->heap.far && moved < budget_records)
        moved += heap_compact(shard->heap.far, budget_records - moved, relocate, &relocation);
    for (struct collection *big = shard->big_collections; big && moved < budget_records; big = big->next_big)
        if (big->heap->far) moved += heap_compact(big->heap->far, budget_records - moved, relocate, &relocation);
    if (moved < budget_records &&
        segment_pool_is_loose(&keyspace->index_memory[keyspace_node_of(keyspace, number)].segments))
        moved += compact_index(keyspace, shard);
    keyspace_unlock(keyspace, number);
    return moved;
}

size_t keyspace_compact(struct keyspace *keyspace, uint32_t number, size_t budget_records) {
    return compact(keyspace, number, budget_records, true);
}

size_t keyspace_squeeze(struct keyspace *keyspace, uint32_t number, size_t budget_records) {
    return compact(keyspace, number, budget_records, false);
}

/* ---- figures ---- */

static void add_sums(struct keyspace_usage *usage, const struct heap_sums *sums) {
    usage->records += sums->live_objects;
    usage->record_bytes += sums->live_bytes;
    usage->page_bytes += sums->page_bytes;
}

static void add_far_sums(struct keyspace_usage *usage, const struct heap_sums *sums) {
    usage->far_records += sums->live_objects;
    usage->far_record_bytes += sums->live_bytes;
    add_sums(usage, sums);
}

size_t keyspace_resident_bytes(const struct keyspace *keyspace) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < keyspace->shard_count; i++) {
        const struct shard *shard = &keyspace->shards[i];
        bytes += stat_get(&shard->heap.sums.live_bytes) + stat_get(&shard->big.live_bytes);
        if (shard->heap.far)
            bytes += stat_get(&shard->heap.far->sums.live_bytes) + stat_get(&shard->big_far.live_bytes);
    }
    return bytes;
}

size_t keyspace_index_bytes(const struct keyspace *keyspace) {
    size_t bytes = 0;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct segment_pool *segments = &keyspace->index_memory[i].segments;
        pthread_mutex_lock(&segments->lock);
        bytes += segments->used_bytes;
        pthread_mutex_unlock(&segments->lock);
    }
    return bytes;
}

void keyspace_usage(const struct view *view, struct keyspace_usage *usage) {
    struct keyspace *keyspace = view->keyspace;
    *usage = (struct keyspace_usage){0};
    for (uint32_t i = 0; i < keyspace->shard_count; i++) {
        struct shard *shard = keyspace_enter(view, i);
        usage->counters.hits += shard->counters.hits;
        usage->counters.misses += shard->counters.misses;
        usage->counters.expired += shard->counters.expired;
        usage->counters.expired_fields += shard->counters.expired_fields;
        usage->counters.lazy_freed += shard->counters.lazy_freed;
        usage->counters.evicted += shard->counters.evicted;
        usage->counters.expired_on_access += shard->counters.expired_on_access;
        usage->counters.moved += shard->counters.moved;
        usage->changes += shard->changes;
        usage->counters.far_hits += shard->counters.far_hits;
        usage->counters.tier_hits += shard->counters.tier_hits;
        usage->counters.promotions += shard->counters.promotions;
        usage->counters.demotions += shard->counters.demotions;
        usage->counters.far_promotions += shard->counters.far_promotions;
        usage->counters.far_demotions += shard->counters.far_demotions;
        usage->cold_records += shard->cold_records;
        usage->watched_keys += shard->watches.keys;
        add_sums(usage, &shard->heap.sums);
        add_sums(usage, &shard->big);
        if (shard->heap.far) add_far_sums(usage, &shard->heap.far->sums);
        add_far_sums(usage, &shard->big_far);
        for (uint32_t database = 0; database < keyspace_databases_with_aside(keyspace); database++)
            if (shard->databases[database]) usage->index_bytes += shard->databases[database]->bytes;
        for (size_t k = 0; k < shard->condemned_count; k++) usage->index_bytes += shard->condemned[k]->bytes;
        keyspace_leave(view, i);
    }
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct segment_pool *segments = &keyspace->index_memory[i].segments;
        usage->dirty_bytes += region_pool_usage(keyspace->pools[i]).dirty_bytes;
        if (keyspace->far_pools && keyspace->far_pools[i])
            usage->dirty_bytes += region_pool_usage(keyspace->far_pools[i]).dirty_bytes;
        pthread_mutex_lock(&segments->lock);
        usage->segment_bytes += segments->used_bytes;
        usage->segment_page_bytes += segments->page_bytes;
        pthread_mutex_unlock(&segments->lock);
    }
}

uint64_t keyspace_changes(struct keyspace *keyspace) {
    uint64_t changes = 0;
    for (uint32_t i = 0; i < keyspace->shard_count; i++) {
        keyspace_lock(keyspace, i);
        changes += keyspace->shards[i].changes;
        keyspace_unlock(keyspace, i);
    }
    return changes;
}

void keyspace_database_usage(const struct view *view, uint32_t database, struct database_usage *usage) {
    struct keyspace *keyspace = view->keyspace;
    *usage = (struct database_usage){0};
    uint64_t refs[INDEX_GATHER_MAX], next;
    int64_t ttl_sum = 0, samples = 0;
    for (uint32_t i = 0; i < keyspace->shard_count; i++) {
        struct index *index = keyspace_enter(view, i)->databases[database];
        if (index) {
            usage->keys += index->count;
            usage->expires += index->volatile_count;
            usage->index_bytes += index->bytes;
        }
        if (index && index->volatile_count && samples < INDEX_GATHER_MAX) {
            size_t count = index_gather(index, 0, 16, true, refs, &next);
            for (size_t k = 0; k < count; k++) {
                if (ref_is_cold(refs[k])) continue;
                int64_t ttl = record_expiry(ref_record(refs[k])) - view->now_ms;
                ttl_sum += ttl > 0 ? ttl : 0;
                samples++;
            }
        }
        keyspace_leave(view, i);
    }
    usage->average_ttl_ms = samples ? ttl_sum / samples : 0;
}

/* While no snapshot is taken, whatever is in memory is of the shard's epoch. */
static bool epochs_are_valid(const struct shard *shard, const struct index *index) {
    uint64_t refs[INDEX_GATHER_MAX], position = 0;
    if (shard->snapshot) return true;
    if (index->walk.unfinished) return false;
    do {
        size_t count = index_gather(index, position, INDEX_GATHER_MAX, false, refs, &position);
        for (size_t i = 0; i < count; i++)
            if (!ref_is_cold(refs[i]) && record_epoch(ref_record(refs[i])) != shard->epoch) return false;
    } while (position);
    return true;
}

bool keyspace_validate(struct keyspace *keyspace) {
    bool valid = true;
    for (uint32_t i = 0; i < keyspace->shard_count && valid; i++) {
        keyspace_lock(keyspace, i);
        struct shard *shard = &keyspace->shards[i];
        for (uint32_t database = 0; database < keyspace_databases_with_aside(keyspace) && valid; database++)
            if (shard->databases[database])
                valid =
                    index_validate(shard->databases[database]) && epochs_are_valid(shard, shard->databases[database]);
        valid = valid && collection_validate_all(keyspace, shard);
        valid = valid && heap_validate(&shard->heap) && (!shard->heap.far || heap_validate(shard->heap.far));
        keyspace_unlock(keyspace, i);
    }
    return valid;
}
