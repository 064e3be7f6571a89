/* See keyspace_evict.h. The scheme is Redis's: a few samples for each eviction, and a pool that keeps good candidates
 * from one to the next, so that five samples come close to knowing the coldest.
 *
 * Samples come from one segment of an index, a couple of hundred slots that lie together; the order of hashes has
 * nothing to do with the use of keys, so neighbours are as good as any others, and one cache miss less each.
 *
 * A candidate is known by its reference. Before it goes, the reference is looked for again under the shard's lock, and
 * the score computed anew: a record that has been used since is spared, which a pool of names would not notice.
 *
 * Words: a place is one database of one shard. */

#include "keyspace/keyspace_evict.h"

#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_snapshot.h"

#include <assert.h>

enum {
    SHARD_TRIES = 16,    /* draws of a shard until one is taken whatever its size */
    PLACE_TRIES = 8,     /* places looked at before all shards are walked through */
    WALK_STEPS = 256,    /* of index_gather() in that walk: some dozens of microseconds */
    EVICT_TRIES = 4,     /* candidates that turn out to have changed */
    FREQUENCY_MAX = 255, /* of access.h */
};

static bool may_go(const struct eviction_rule *rule, uint64_t ref) {
    return !ref_is_cold(ref) && (!rule->only_volatile || (ref & REF_VOLATILE));
}

static uint64_t score_of(const struct eviction *eviction, const struct eviction_rule *rule,
                         const struct record *record) {
    switch (rule->order) {
    case EVICT_BY_IDLE_TIME: return access_idle_seconds(record_access(record), eviction->now_ms);
    case EVICT_BY_FREQUENCY:
        return FREQUENCY_MAX - access_frequency(&eviction->keyspace->access, record_access(record), eviction->now_ms);
    case EVICT_BY_EXPIRY: return record_has_expiry(record) ? (uint64_t)(RECORD_EXPIRY_MAX - record_expiry(record)) : 0;
    case EVICT_AT_RANDOM: break;
    }
    return 0;
}

/* ---- the pool ---- */

static bool is_same_rule(const struct eviction_rule *a, const struct eviction_rule *b) {
    return a->order == b->order && a->only_volatile == b->only_volatile;
}

/* Keeps the candidate if it is better than the worst, or there is room. */
static void pool_add(struct eviction_pool *pool, const struct eviction_candidate *candidate) {
    unsigned place = 0;
    while (place < pool->count && pool->candidates[place].score < candidate->score) place++;
    for (unsigned i = 0; i < pool->count; i++)
        if (pool->candidates[i].ref == candidate->ref && pool->candidates[i].shard == candidate->shard) return;
    if (pool->count < EVICTION_POOL) {
        memmove(pool->candidates + place + 1, pool->candidates + place,
                (pool->count - place) * sizeof(pool->candidates[0]));
        pool->candidates[place] = *candidate;
        pool->count++;
    } else if (place > 0) {
        memmove(pool->candidates, pool->candidates + 1, (place - 1) * sizeof(pool->candidates[0]));
        pool->candidates[place - 1] = *candidate;
    }
}

/* ---- drawing ---- */

/* Records in memory, near and far; without the lock, so an estimate. */
static uint64_t records_of(const struct shard *shard) {
    return stat_get(&shard->heap.sums.live_objects) +
           (shard->heap.far ? stat_get(&shard->heap.far->sums.live_objects) : 0);
}

/* A shard, as likely as it has records in memory: one drawn evenly is taken with the chance that it is as full as the
 * fullest of those drawn. */
static uint32_t draw_shard(const struct eviction *eviction) {
    struct keyspace *keyspace = eviction->keyspace;
    uint64_t fullest = 1;
    uint32_t number = 0;
    for (unsigned try = 0; try < SHARD_TRIES; try++) {
        number = (uint32_t)random_below(eviction->random, keyspace->shard_count);
        uint64_t records = records_of(&keyspace->shards[number]);
        if (records > fullest) fullest = records;
        if (random_below(eviction->random, fullest) < records) break;
    }
    return number;
}

static uint64_t eligible(const struct index *index, bool only_volatile) {
    return !index ? 0 : only_volatile ? index->volatile_count : index->count;
}

/* A database of a locked shard, as likely as it has keys of the kind; the number of databases: none has any. */
static uint32_t draw_database(const struct eviction *eviction, const struct shard *shard, bool only_volatile) {
    uint32_t count = eviction->keyspace->database_count, database = 0;
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) total += eligible(shard->databases[i], only_volatile);
    if (total == 0) return count;
    uint64_t chosen = random_below(eviction->random, total);
    while (chosen >= eligible(shard->databases[database], only_volatile))
        chosen -= eligible(shard->databases[database++], only_volatile);
    return database;
}

/* Puts up to `samples` of the references, chosen at random, in front; those that may not go are left out. */
static size_t choose(const struct eviction *eviction, const struct eviction_rule *rule, uint64_t *refs, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (may_go(rule, refs[i])) refs[kept++] = refs[i];
    size_t wanted = kept < rule->samples ? kept : rule->samples;
    for (size_t i = 0; i < wanted; i++) {
        size_t other = i + random_below(eviction->random, kept - i);
        uint64_t ref = refs[i];
        refs[i] = refs[other];
        refs[other] = ref;
        __builtin_prefetch(ref_record(refs[i]));
    }
    return wanted;
}

/* The next references of the kind from a position on, all around the index; for where they are rare. Takes its steps
 * off `*steps`. */
static size_t gather_around(const struct index *index, const struct eviction_rule *rule, uint64_t position,
                            unsigned *steps, uint64_t *refs) {
    size_t kept = 0;
    bool wrapped = false;
    for (; kept == 0 && *steps > 0; --*steps) {
        size_t count = index_gather(index, position, rule->samples, rule->only_volatile, refs, &position);
        for (size_t i = 0; i < count; i++)
            if (may_go(rule, refs[i])) refs[kept++] = refs[i];
        if (position == 0 && wrapped) break;
        if (position == 0) wrapped = true;
    }
    return kept;
}

static struct eviction_candidate candidate_of(const struct eviction *eviction, const struct eviction_rule *rule,
                                              uint32_t shard, uint32_t database, uint64_t ref) {
    const struct record *record = ref_record(ref);
    return (struct eviction_candidate){.score = score_of(eviction, rule, record),
                                       .hash = key_hash(record_key(record), eviction->keyspace->seed),
                                       .ref = ref,
                                       .shard = shard,
                                       .database = database};
}

/* Draws from one shard into the pool. `steps` NULL: from one segment; else from as many as that allows. Returns how
 * many records were drawn; -1: the shard has none of the kind. */
static int draw_from(const struct eviction *eviction, const struct eviction_rule *rule, uint32_t number,
                     unsigned *steps) {
    struct keyspace *keyspace = eviction->keyspace;
    struct shard *shard = &keyspace->shards[number];
    uint64_t refs[INDEX_GATHER_MAX], position = random_next(eviction->random);
    unsigned depth;
    if (records_of(shard) == 0) return -1;
    if (keyspace_is_busy(keyspace, number)) return 0;
    keyspace_lock(keyspace, number);
    uint32_t database = draw_database(eviction, shard, rule->only_volatile);
    if (database == keyspace->database_count) {
        keyspace_unlock(keyspace, number);
        return -1;
    }
    const struct index *index = shard->databases[database];
    size_t count =
        steps ? gather_around(index, rule, position, steps, refs) : index_gather_segment(index, position, refs, &depth);
    count = choose(eviction, rule, refs, count);
    for (size_t i = 0; i < count; i++) {
        struct eviction_candidate candidate = candidate_of(eviction, rule, number, database, refs[i]);
        pool_add(eviction->pool, &candidate);
    }
    keyspace_unlock(keyspace, number);
    return (int)count;
}

/* Whether anything was drawn; `*exhausted`: there is nothing to draw. */
static bool draw(const struct eviction *eviction, const struct eviction_rule *rule, bool *exhausted) {
    for (unsigned try = 0; try < PLACE_TRIES; try++)
        if (draw_from(eviction, rule, draw_shard(eviction), NULL) > 0) return true;
    uint32_t shards = eviction->keyspace->shard_count, first = (uint32_t)random_below(eviction->random, shards);
    unsigned steps = WALK_STEPS;
    *exhausted = true;
    for (uint32_t i = 0; i < shards && (steps > 0 || *exhausted); i++) {
        int drawn = draw_from(eviction, rule, (first + i) % shards, &steps);
        if (drawn > 0) return true;
        if (drawn == 0) *exhausted = false;
    }
    return false;
}

/* ---- removing ---- */

static void take_out(const struct eviction *eviction, const struct eviction_candidate *candidate, struct shard *shard,
                     struct index_position position, struct evicted *evicted) {
    struct record *record = ref_record(candidate->ref);
    struct heap *heap = shard_heap(shard, candidate->ref);
    keyspace_keep(shard, shard->databases[candidate->database], candidate->ref, record);
    index_remove(shard->databases[candidate->database], position);
    shard->changes++;
    shard->counters.evicted++;
    watch_touch(&shard->watches, candidate->database, candidate->hash, record_key(record), false);
    wait_mark(shard->waits, candidate->database, candidate->hash, record_key(record));
    keyspace_tell(eviction->keyspace, KEYSPACE_KEY_CHANGED, record_key(record), candidate->database, 0);
    keyspace_tell_removed(eviction->keyspace, record_key(record), candidate->database);
    keyspace_tell(eviction->keyspace, KEYSPACE_KEY_EVICTED, record_key(record), candidate->database, 0);
    evicted->bytes = heap_size_for(record_size(record));
    evicted->shard = candidate->shard;
    if (record_is_paged(record)) {
        struct collection *collection = collection_of(record);
        evicted->bytes += collection_memory_bytes(collection);
        collection_condemn(eviction->keyspace, shard, collection);
    }
    bool detach = eviction->detach_bytes && evicted->bytes >= eviction->detach_bytes && !heap_is_pinned(heap, record);
    if (detach)
        evicted->detached = record;
    else
        heap_free(heap, record);
}

/* False: it is not what it was any more. */
static bool evict_candidate(const struct eviction *eviction, const struct eviction_rule *rule,
                            const struct eviction_candidate *candidate, struct evicted *evicted) {
    struct shard *shard = &eviction->keyspace->shards[candidate->shard];
    struct index_position position = {0};
    if (keyspace_is_busy(eviction->keyspace, candidate->shard)) return false;
    keyspace_lock(eviction->keyspace, candidate->shard);
    struct index *index = shard->databases[candidate->database];
    if (index && index->count) position = index_find_ref(index, candidate->hash, candidate->ref);
    bool still = position.bucket && may_go(rule, candidate->ref) &&
                 score_of(eviction, rule, ref_record(candidate->ref)) >= candidate->score;
    if (still) {
        take_out(eviction, candidate, shard, position, evicted);
        /* Near a limit of some hundreds of kilobytes it is the indexes of many shards, with a key or two each, that
         * take most: without this there would soon be nothing else. */
        keyspace_spare_index(eviction->keyspace, shard, candidate->database);
    }
    keyspace_unlock(eviction->keyspace, candidate->shard);
    return still;
}

struct evicted keyspace_evict(const struct eviction *eviction, const struct eviction_rule *rule) {
    struct eviction_pool *pool = eviction->pool;
    struct evicted evicted = {0};
    assert(rule->samples >= 1 && rule->samples <= EVICTION_SAMPLES_MAX);
    /* Candidates that are no better than others are not worth remembering. */
    if (rule->order == EVICT_AT_RANDOM || !is_same_rule(&pool->rule, rule)) pool->count = 0;
    pool->rule = *rule;
    for (unsigned try = 0; try < EVICT_TRIES && evicted.bytes == 0; try++) {
        if (!draw(eviction, rule, &evicted.exhausted) && pool->count == 0) break;
        evicted.exhausted = false;
        while (pool->count > 0 && evicted.bytes == 0)
            (void)evict_candidate(eviction, rule, &pool->candidates[--pool->count], &evicted);
    }
    return evicted;
}

bool keyspace_free_detached(struct keyspace *keyspace, uint32_t shard, struct record **record, size_t step_bytes) {
    struct heap *heap = keyspace_heap_with(&keyspace->shards[shard], *record);
    keyspace_lock(keyspace, shard);
    size_t bytes = heap_usable_bytes(heap, *record);
    struct record *shorter = bytes > step_bytes ? heap_resize_large(heap, *record, bytes - step_bytes) : NULL;
    if (!shorter) heap_free(heap, *record);
    keyspace_unlock(keyspace, shard);
    *record = shorter;
    return shorter == NULL;
}
