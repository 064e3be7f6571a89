/* Lookup and change of keys. The whole-database operations are in keyspace_scan.c, the background work in
 * keyspace_maintain.c.
 *
 * A record always occupies exactly the size class of its bytes: it is overwritten in place when the new bytes
 * have the same class, and laid out anew otherwise. So a shrunken value gives its memory back at once, and
 * whether it fits is arithmetic on the record, without a look at the heap's page. */

#include "keyspace/keyspace.h"

#include "keyspace/key_hash.h"
#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_snapshot.h"

#include <assert.h>
#include <stdlib.h>

enum {
    SHARDS_DEFAULT = 64,
    SHARDS_PER_WORKER = 128,
    DATABASES_DEFAULT = 16,
};

/* ---- memory of the indexes ---- */

static void *allocate_segment(void *ctx, size_t bytes) {
    struct index_memory *memory = ctx;
    return segment_pool_allocate(&memory->segments, bytes);
}

static void free_segment(void *ctx, void *segment) {
    struct index_memory *memory = ctx;
    segment_pool_free(&memory->segments, segment);
}

static void retire_segment(void *ctx, void *segment) {
    struct index_memory *memory = ctx;
    retire_memory(memory->retired, segment, free_segment, memory);
}

static bool should_move(void *ctx, const void *segment) {
    struct index_memory *memory = ctx;
    return segment_pool_is_sparse(&memory->segments, segment);
}

static void retire_malloced(void *ctx, void *block) {
    struct index_memory *memory = ctx;
    retire_memory(memory->retired, block, NULL, NULL);
}

/* An index that splits after having grown 128-fold since a cold record was last touched. */
static bool hash_of_cold(void *ctx, uint64_t ref, uint64_t *hash) {
    struct index_memory *memory = ctx;
    struct record *copy = tier_fetch(memory->tier, ref);
    if (!copy) return false;
    *hash = key_hash(record_key(copy), memory->environment.seed);
    free(copy);
    return true;
}

static struct index_memory *index_memory_of(struct keyspace *keyspace, const struct shard *shard) {
    return &keyspace->index_memory[keyspace_node_of(keyspace, shard->number)];
}

static struct index *take_spare(struct index_memory *memory) {
    if (!memory->spare) return NULL; /* nearly always; and who misses one makes one */
    pthread_mutex_lock(&memory->spare_lock);
    struct index *index = memory->spare;
    if (index) memory->spare = index->next;
    pthread_mutex_unlock(&memory->spare_lock);
    return index;
}

struct index *keyspace_index_for_insert(struct keyspace *keyspace, struct shard *shard, uint32_t database) {
    struct index **index = &shard->databases[database];
    if (*index) return *index;
    struct index_memory *memory = index_memory_of(keyspace, shard);
    struct index *made = take_spare(memory);
    if (!made) made = index_create(&memory->environment);
    __atomic_store_n(index, made, __ATOMIC_RELEASE);
    return made;
}

/* Others may still be reading it without a lock, for hints, and go on so while it is another shard's. */
void keyspace_spare_index(struct keyspace *keyspace, struct shard *shard, uint32_t database) {
    struct index_memory *memory = index_memory_of(keyspace, shard);
    struct index *index = shard->databases[database];
    if (!index || index->count > 0 || index->depth > 0 || index->fields || index->walk.unfinished) return;
    __atomic_store_n(&shard->databases[database], NULL, __ATOMIC_RELEASE);
    index->walk = (struct index_walk){0};
    pthread_mutex_lock(&memory->spare_lock);
    index->next = memory->spare;
    memory->spare = index;
    pthread_mutex_unlock(&memory->spare_lock);
}

static void destroy_spare_indexes(struct index_memory *memory) {
    while (memory->spare) {
        struct index *index = memory->spare;
        memory->spare = index->next;
        index_destroy(index);
    }
}

static bool create_index_memory(struct keyspace *keyspace) {
    keyspace->index_memory = calloc(keyspace->pool_count, sizeof(*keyspace->index_memory));
    if (!keyspace->index_memory) return false;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct index_memory *memory = &keyspace->index_memory[i];
        segment_pool_init(&memory->segments, keyspace->pools[i]);
        pthread_mutex_init(&memory->spare_lock, NULL);
        memory->retired = keyspace->retired;
        memory->tier = keyspace->tier;
        memory->environment = (struct index_environment){.seed = keyspace->seed,
                                                         .allocate = allocate_segment,
                                                         .retire_segment = retire_segment,
                                                         .retire = retire_malloced,
                                                         .should_move = should_move,
                                                         .cold_hash = hash_of_cold,
                                                         .ctx = memory};
    }
    return true;
}

/* ---- life ---- */

static bool create_pools(struct keyspace *keyspace, const struct keyspace_options *options) {
    keyspace->pool_count = options->node_count ? options->node_count : 1;
    for (unsigned i = 0; i < keyspace->shard_count; i++)
        keyspace->shard_nodes[i] = options->shard_nodes ? options->shard_nodes[i]
                                                        : (uint8_t)(i * keyspace->pool_count / keyspace->shard_count);
    keyspace->pools = calloc(keyspace->pool_count, sizeof(*keyspace->pools));
    if (!keyspace->pools) return false;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct region_pool_options pool = {.node = options->node_count ? options->nodes[i] : -1,
                                           .reserve_bytes = options->reserve_bytes,
                                           .huge_pages = options->huge_pages};
        if (!(keyspace->pools[i] = region_pool_create(&pool))) return false;
    }
    return true;
}

static bool create_far_pools(struct keyspace *keyspace, const struct keyspace_options *options) {
    if (!options->far_nodes) return true;
    keyspace->far_pools = calloc(keyspace->pool_count, sizeof(*keyspace->far_pools));
    if (!keyspace->far_pools) return false;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        if (options->far_nodes[i] < 0) continue;
        struct region_pool_options pool = {
            .node = options->far_nodes[i], .reserve_bytes = options->reserve_bytes, .huge_pages = options->huge_pages};
        if (!(keyspace->far_pools[i] = region_pool_create(&pool))) return false;
    }
    return true;
}

static bool create_shard(struct keyspace *keyspace, unsigned number) {
    struct shard *shard = &keyspace->shards[number];
    unsigned node = keyspace_node_of(keyspace, number);
    shard->number = number;
    heap_init(&shard->heap, keyspace->pools[node]);
    shard->databases = calloc(keyspace_databases_with_aside(keyspace), sizeof(*shard->databases));
    if (!shard->databases) return false;
    if (!keyspace->far_pools || !keyspace->far_pools[node]) return true;
    shard->heap.far = malloc(sizeof(*shard->heap.far));
    if (!shard->heap.far) return false;
    heap_init(shard->heap.far, keyspace->far_pools[node]);
    return true;
}

unsigned keyspace_shards_for(unsigned workers) {
    unsigned shards = SHARDS_DEFAULT;
    while (workers > 1 && shards < workers * SHARDS_PER_WORKER && shards < LIMIT_SHARDS) shards *= 2;
    return shards;
}

struct keyspace *keyspace_create(const struct keyspace_options *options) {
    struct keyspace *keyspace = calloc(1, sizeof(*keyspace));
    if (!keyspace) return NULL;
    keyspace->shard_count = options->shards ? options->shards : SHARDS_DEFAULT;
    keyspace->database_count = options->databases ? options->databases : DATABASES_DEFAULT;
    assert((keyspace->shard_count & (keyspace->shard_count - 1)) == 0 && keyspace->shard_count <= LIMIT_SHARDS);
    keyspace->shard_shift = (unsigned)__builtin_ctz(CLUSTER_SLOTS / keyspace->shard_count);
    keyspace->locking = options->locking;
    keyspace->seed = options->seed;
    keyspace->tier = options->tier;
    keyspace->far_bytes_max = options->far_bytes_max ? options->far_bytes_max : SIZE_MAX;
    atomic_init(&keyspace->active_expiry, true);
    keyspace->access = (struct access_policy){.log_factor = 10, .decay_minutes = 1};
    keyspace->retired = retire_create(options->locking);
    keyspace->collections = collection_registry_create();
    keyspace->limits = VALUE_LIMITS_DEFAULT;
    keyspace->shards = aligned_alloc(64, keyspace->shard_count * sizeof(struct shard));
    if (!keyspace->retired || !keyspace->shards || !keyspace->collections) goto fail;
    memset(keyspace->shards, 0, keyspace->shard_count * sizeof(struct shard));
    if (!create_pools(keyspace, options) || !create_far_pools(keyspace, options) || !create_index_memory(keyspace))
        goto fail;
    for (unsigned i = 0; i < keyspace->shard_count; i++)
        if (!create_shard(keyspace, i)) goto fail;
    return keyspace;
fail:
    keyspace_destroy(keyspace);
    return NULL;
}

/* The pools go as a whole, so only what stands outside them is freed piece by piece; large values have mappings
 * of their own and are found through the index. Records before `position` are freed already. */
static void destroy_index(struct shard *shard, struct index *index, uint64_t position) {
    uint64_t refs[INDEX_GATHER_MAX];
    if (!index) return;
    do {
        size_t count = index_gather(index, position, INDEX_GATHER_MAX, false, refs, &position);
        for (size_t i = 0; i < count; i++)
            if (!ref_is_cold(refs[i])) heap_free(shard_heap(shard, refs[i]), ref_record(refs[i]));
    } while (position);
    index_destroy(index);
}

void keyspace_destroy(struct keyspace *keyspace) {
    if (!keyspace) return;
    for (unsigned i = 0; keyspace->shards && i < keyspace->shard_count; i++) {
        struct shard *shard = &keyspace->shards[i];
        collection_destroy_all(keyspace, shard);
        for (unsigned database = 0; shard->databases && database < keyspace_databases_with_aside(keyspace); database++)
            destroy_index(shard, shard->databases[database], 0);
        for (size_t k = 0; k < shard->condemned_count; k++)
            destroy_index(shard, shard->condemned[k], k == 0 ? shard->condemned_position : 0);
        free(shard->condemned);
        free(shard->databases);
        free(shard->heap.far);
    }
    for (unsigned i = 0; keyspace->index_memory && i < keyspace->pool_count; i++)
        destroy_spare_indexes(&keyspace->index_memory[i]);
    retire_destroy(keyspace->retired);
    collection_registry_destroy(keyspace->collections);
    for (unsigned i = 0; keyspace->index_memory && i < keyspace->pool_count; i++) {
        segment_pool_destroy(&keyspace->index_memory[i].segments);
        pthread_mutex_destroy(&keyspace->index_memory[i].spare_lock);
    }
    free(keyspace->index_memory);
    for (unsigned i = 0; keyspace->pools && i < keyspace->pool_count; i++) region_pool_destroy(keyspace->pools[i]);
    for (unsigned i = 0; keyspace->far_pools && i < keyspace->pool_count; i++)
        region_pool_destroy(keyspace->far_pools[i]);
    free(keyspace->pools);
    free(keyspace->far_pools);
    free(keyspace->shards);
    free(keyspace);
}

/* What was retired while there were no locks is free; what is retired from now on is, as before, freed at once where
 * there is one worker. */
void keyspace_set_locking(struct keyspace *keyspace, bool locking) {
    keyspace->locking = locking;
}

struct shard *keyspace_enter(const struct view *view, uint32_t shard) {
    if (!view->locked_all) keyspace_lock(view->keyspace, shard);
    return &view->keyspace->shards[shard];
}

void keyspace_leave(const struct view *view, uint32_t shard) {
    if (!view->locked_all) keyspace_unlock(view->keyspace, shard);
}

/* ---- lookup ---- */

static void changed(const struct view *view, struct shard *shard, const struct key *key, bool expired) {
    if (view->quiet) return;
    shard->changes++;
    if (!expired) view_note_change(view);
    watch_touch(&shard->watches, view->database, key->hash, key->name, expired);
    wait_mark(shard->waits, view->database, key->hash, key->name);
    keyspace_tell(view->keyspace, KEYSPACE_KEY_CHANGED, key->name, view->database, expired ? 0 : view->client);
}

static void drop(const struct view *view, const struct key *key, struct lookup *lookup, bool expired) {
    struct shard *shard = lookup->shard;
    struct index *index = shard->databases[view->database];
    keyspace_keep(shard, index, lookup->ref, lookup->record);
    index_remove(index, lookup->position);
    changed(view, shard, key, expired);
    shard_release_value(view->keyspace, shard, lookup->ref);
    lookup->record = NULL;
    lookup->position = (struct index_position){0};
}

void keyspace_leave_behind(const struct view *view, const struct key *key, struct lookup *lookup) {
    struct shard *shard = lookup->shard;
    struct index *index = shard->databases[view->database];
    keyspace_keep(shard, index, lookup->ref, lookup->record);
    index_remove(index, lookup->position);
    changed(view, shard, key, false);
    shard_release(view->keyspace, shard, lookup->ref);
    lookup->record = NULL;
    lookup->position = (struct index_position){0};
}

static void drop_expired(const struct view *view, const struct key *key, struct lookup *lookup) {
    if (view->replays) return;
    if (view->leaves_expired) {
        lookup->record = NULL;
        lookup->position = (struct index_position){0};
        return;
    }
    lookup->shard->counters.expired++;
    lookup->shard->counters.expired_on_access++;
    drop(view, key, lookup, true);
    keyspace_tell_removed(view->keyspace, key->name, view->database);
    keyspace_tell(view->keyspace, KEYSPACE_KEY_EXPIRED, key->name, view->database, 0);
}

static bool can_wait(const struct view *view) {
    return view->waiter && !view->waiter->committed;
}

const struct record *keyspace_record(const struct view *view, uint64_t ref) {
    const struct record *record = NULL;
    if (!ref_is_cold(ref)) return ref_record(ref);
    if (!view->port) return NULL;
    bool may_ask = can_wait(view) && !tier_is_full_of_copies(view->port);
    /* What is at hand is asked for as well: it has to stay so while the command waits for other pages. */
    enum tier_status status =
        may_ask ? tier_request(view->port, ref, view->waiter, &record) : tier_peek(view->port, ref, &record);
    /* Who waits for others already would have it read for nothing: it would be gone when he comes back. */
    if (!may_ask && status == TIER_PENDING && !view_misses(view)) status = tier_load(view->port, ref, &record);
    return status == TIER_READY ? record : NULL;
}

bool keyspace_request(const struct view *view, uint64_t ref) {
    const struct record *record;
    if (!ref_is_cold(ref) || !view->port) return true;
    if (can_wait(view) && !tier_is_crowded(view->port)) (void)tier_request(view->port, ref, view->waiter, &record);
    return !view_misses(view);
}

/* A lookup that may meet cold records: remembers the one looked at last, which is the one that matched. */
struct cold_lookup {
    const struct view *view;
    const struct record *last;
};

static const struct record *record_of_cold(void *ctx, uint64_t ref) {
    struct cold_lookup *cold = ctx;
    return cold->last = keyspace_record(cold->view, ref);
}

static struct lookup find_with_tier(const struct view *view, const struct key *key, struct index *index) {
    struct lookup lookup = {.shard = &view->keyspace->shards[key->shard]};
    struct cold_lookup cold = {view, NULL};
    const struct index_cold source = {record_of_cold, &cold};
    lookup.position = index_find(index, key->hash, key->name, &source);
    if (!lookup.position.bucket) return lookup;
    lookup.ref = index_ref_at(lookup.position);
    lookup.record = ref_is_cold(lookup.ref) ? (struct record *)(uintptr_t)cold.last : ref_record(lookup.ref);
    return lookup;
}

static inline struct lookup find(const struct view *view, const struct key *key) {
    struct lookup lookup = {.shard = &view->keyspace->shards[key->shard]};
    struct index *index = lookup.shard->databases[view->database];
    if (!index) return lookup;
    if (view->port) {
        lookup = find_with_tier(view, key, index);
        if (!lookup.record) return lookup;
    } else {
        lookup.position = index_find(index, key->hash, key->name, NULL);
        if (!lookup.position.bucket) return lookup;
        lookup.ref = index_ref_at(lookup.position);
        lookup.record = ref_record(lookup.ref);
    }
    if (__builtin_expect(record_is_expired(lookup.record, view->now_ms), 0)) drop_expired(view, key, &lookup);
    return lookup;
}

struct lookup keyspace_find(const struct view *view, const struct key *key) {
    return find(view, key);
}

enum keyspace_presence keyspace_look(const struct view *view, const struct key *key) {
    struct index *index = view->keyspace->shards[key->shard].databases[view->database];
    struct lookup lookup = index ? find_with_tier(view, key, index) : (struct lookup){0};
    if (!lookup.record) return KEYSPACE_ABSENT;
    return record_is_expired(lookup.record, view_expiry_ms(view)) ? KEYSPACE_EXPIRED : KEYSPACE_LIVE;
}

static inline void renew_access(const struct view *view, struct record *record) {
    record_set_access(record,
                      access_touched(&view->keyspace->access, record_access(record), view->now_ms, view->random));
}

/* A record outside DRAM was used. A cold one comes back if that was not the first time lately; one in far memory, which
 * is read and changed where it is, by chance, so that those used often are soon back. Without room both stay. */
static void used_elsewhere(const struct view *view, const struct key *key, struct lookup *lookup) {
    struct keyspace *keyspace = view->keyspace;
    bool cold = lookup_is_cold(lookup);
    bool wanted = cold ? ghost_touch(tier_ghost(keyspace->tier), key->hash) : view->random % FAR_USES == 0;
    if (wanted && !atomic_load_explicit(&keyspace->promotion_paused, memory_order_relaxed) &&
        keyspace_bring_back(view, lookup))
        cold = false;
    if (!cold) renew_access(view, lookup->record);
}

static inline void used(const struct view *view, const struct key *key, struct lookup *lookup) {
    if (__builtin_expect(ref_medium(lookup->ref) == MEDIUM_DRAM, 1))
        renew_access(view, lookup->record);
    else
        used_elsewhere(view, key, lookup);
}

struct lookup keyspace_read(const struct view *view, const struct key *key) {
    struct lookup lookup = find(view, key);
    if (lookup.record) {
        lookup.shard->counters.hits++;
        if (__builtin_expect(ref_medium(lookup.ref) != MEDIUM_DRAM, 0)) {
            if (ref_is_cold(lookup.ref))
                lookup.shard->counters.tier_hits++;
            else
                lookup.shard->counters.far_hits++;
        }
        if (!view->keep_access) used(view, key, &lookup);
    } else {
        lookup.shard->counters.misses++;
        if (!view->unheard && !view_misses(view))
            keyspace_tell(view->keyspace, KEYSPACE_KEY_MISSED, key->name, view->database, view->client);
    }
    return lookup;
}

void keyspace_before_change(const struct view *view, const struct lookup *lookup) {
    if (__builtin_expect(lookup->shard->snapshot != NULL, 0) && record_is_paged(lookup->record))
        keyspace_keep(lookup->shard, lookup->shard->databases[view->database], lookup->ref, lookup->record);
}

struct lookup keyspace_find_for_write(const struct view *view, const struct key *key) {
    struct lookup lookup = find(view, key);
    /* Whatever is done to a cold record takes it to memory anyway. */
    if (lookup.record && !view->keep_access && !lookup_is_cold(&lookup)) renew_access(view, lookup.record);
    if (lookup.record) keyspace_before_change(view, &lookup);
    return lookup;
}

enum keyspace_stage keyspace_stage(const struct view *view, const struct key *key, struct tier_waiter *waiter) {
    const struct shard *shard = &view->keyspace->shards[key->shard];
    if (shard->cold_records == 0) return KEYSPACE_STAGED;
    struct index *index = shard->databases[view->database];
    uint64_t refs[INDEX_CANDIDATES];
    unsigned count = index ? index_cold_candidates(index, key->hash, key->name, refs) : 0;
    enum keyspace_stage stage = KEYSPACE_STAGED;
    for (unsigned i = 0; i < count; i++) {
        const struct record *record = NULL;
        switch (tier_request(view->port, refs[i], waiter, &record)) {
        case TIER_READY:
            if (record_key_equals(record, key->name)) return KEYSPACE_STAGED;
            break;
        case TIER_PENDING: stage = KEYSPACE_PENDING; break;
        case TIER_FAILED:
            if (stage == KEYSPACE_STAGED) stage = KEYSPACE_FAILED;
            break;
        }
    }
    return stage;
}

/* ---- change ---- */

/* Puts `record`, which is in DRAM, where the lookup's record was, or into the index when there was none. */
static bool link_record(const struct view *view, const struct key *key, struct lookup *lookup, struct record *record) {
    struct shard *shard = lookup->shard;
    uint64_t ref = ref_of(record, MEDIUM_DRAM);
    record_set_epoch(record, shard->epoch);
    if (lookup->record) {
        keyspace_keep(shard, shard->databases[view->database], lookup->ref, lookup->record);
        index_replace(shard->databases[view->database], lookup->position, ref);
        shard_release(view->keyspace, shard, lookup->ref);
    } else {
        struct index *index = keyspace_index_for_insert(view->keyspace, shard, view->database);
        if (index) lookup->position = index_insert(index, key->hash, ref);
        if (!lookup->position.bucket) {
            heap_free(&shard->heap, record);
            return false;
        }
        keyspace_tell(view->keyspace, KEYSPACE_KEY_NEW, key->name, view->database, view->client);
    }
    lookup->record = record;
    lookup->ref = ref;
    return true;
}

bool keyspace_bring_back(const struct view *view, struct lookup *lookup) {
    struct shard *shard = lookup->shard;
    struct index *index = shard->databases[view->database];
    size_t size = record_size(lookup->record);
    void *memory = heap_allocate(&shard->heap, size);
    if (!memory) return false;
    memcpy(memory, lookup->record, size);
    record_set_epoch(memory, keyspace_epoch_back(shard, index, lookup->ref, lookup->record));
    uint64_t ref = ref_of(memory, MEDIUM_DRAM);
    index_replace(index, lookup->position, ref);
    shard_release(view->keyspace, shard, lookup->ref);
    if (ref_is_cold(lookup->ref))
        shard->counters.promotions++;
    else
        shard->counters.far_promotions++;
    lookup->record = memory;
    lookup->ref = ref;
    return true;
}

static bool store(const struct view *view, const struct key *key, struct lookup *lookup, struct record_plan *plan) {
    struct shard *shard = lookup->shard;
    struct record *old = lookup->record;
    struct collection *replaced = old && record_is_paged(old) ? collection_of(old) : NULL;
    if (!view_begin_change(view)) return false;
    plan->key = key->name;
    plan->access = old && view->keyspace->access.frequency ? record_access(old)
                                                           : access_new(&view->keyspace->access, view->now_ms);
    size_t size = record_size_for(plan);
    if (old && !ref_is_cold(lookup->ref)) {
        keyspace_keep(shard, shard->databases[view->database], lookup->ref, old);
        size_t old_size = record_size(old), class = heap_size_for(old_size);
        if (heap_size_for(size) == class && record_can_overwrite(old, plan, class) &&
            !shard_is_pinned(shard, lookup->ref, old_size)) {
            record_overwrite(old, plan);
            changed(view, shard, key, false);
            if (__builtin_expect(replaced != NULL, 0)) collection_condemn(view->keyspace, shard, replaced);
            return true;
        }
    }
    void *memory = heap_allocate(&shard->heap, size);
    if (!memory || !link_record(view, key, lookup, record_write(memory, plan))) return false;
    changed(view, shard, key, false);
    if (__builtin_expect(replaced != NULL, 0)) collection_condemn(view->keyspace, shard, replaced);
    return true;
}

/* A hash that comes to this key with fields that expire: when, the sweep finds out. */
static void note_timed(const struct view *view, const struct key *key, const struct record *record) {
    if (!record_is_paged(record) || collection_of(record)->next_expiry_ms != INT64_MAX)
        keyspace_note_fields(view, key, view->now_ms);
}

bool keyspace_store(const struct view *view, const struct key *key, struct lookup *lookup, struct record_plan *plan) {
    if (!store(view, key, lookup, plan)) return false;
    if (__builtin_expect(plan->encoding >= RECORD_PAGED, 0)) note_timed(view, key, lookup->record);
    return true;
}

void keyspace_remove(const struct view *view, const struct key *key, struct lookup *lookup) {
    if (view_begin_change(view)) drop(view, key, lookup, false);
}

bool keyspace_set_expiry(const struct view *view, const struct key *key, struct lookup *lookup, int64_t expiry_ms) {
    struct shard *shard = lookup->shard;
    struct record *record = lookup->record;
    if (!view_begin_change(view)) return false;
    if (!lookup_is_cold(lookup)) keyspace_keep(shard, shard->databases[view->database], lookup->ref, record);
    if (record_has_expiry(record) && expiry_ms >= 0 && !lookup_is_cold(lookup) &&
        !shard_is_pinned(shard, lookup->ref, record_size(record))) {
        record_set_expiry(record, expiry_ms);
    } else if (record_has_expiry(record) || expiry_ms >= 0) {
        struct record_plan plan = record_plan_of(record);
        plan.expiry_ms = expiry_ms;
        void *memory = heap_allocate(&shard->heap, record_size_for(&plan));
        if (!memory || !link_record(view, key, lookup, record_write(memory, &plan))) return false;
    }
    changed(view, shard, key, false);
    return true;
}

/* Gives the record room for a value of `length` bytes; its address may change, its bytes do not. */
static bool resize_record(const struct view *view, const struct key *key, struct lookup *lookup, size_t length) {
    struct shard *shard = lookup->shard;
    struct record *record = lookup->record;
    size_t old_size = record_size(record), old_length = record_value_length(record);
    size_t size = old_size - old_length + length, class = heap_size_for(old_size);
    bool pinned = shard_is_pinned(shard, lookup->ref, old_size);
    if (!pinned && record_value_room(record, heap_size_for(size)) >= length) {
        if (heap_size_for(size) == class) {
            record_set_value_length(record, length);
            return true;
        }
        struct record *moved = heap_resize_large(shard_heap(shard, lookup->ref), record, size);
        if (moved) {
            lookup->record = moved;
            lookup->ref = ref_of(moved, ref_medium(lookup->ref));
            index_replace(shard->databases[view->database], lookup->position, lookup->ref);
            record_set_value_length(moved, length);
            return true;
        }
    }
    struct record_plan plan = record_plan_of(record);
    struct span value = plan.value;
    plan.value = span_of(NULL, length);
    void *memory = heap_allocate(&shard->heap, record_size_for(&plan));
    if (!memory) return false;
    struct record *copy = record_write(memory, &plan);
    memcpy((char *)(uintptr_t)record_value(copy).data, value.data, length < value.length ? length : value.length);
    return link_record(view, key, lookup, copy);
}

char *keyspace_edit_value(const struct view *view, const struct key *key, struct lookup *lookup, size_t length) {
    assert(lookup->record && !record_is_integer(lookup->record) && !record_is_paged(lookup->record) &&
           length <= LIMIT_VALUE_BYTES);
    if (!view_begin_change(view)) return NULL;
    if (lookup_is_cold(lookup) && !keyspace_bring_back(view, lookup)) return NULL;
    keyspace_keep(lookup->shard, lookup->shard->databases[view->database], lookup->ref, lookup->record);
    size_t before = record_value_length(lookup->record);
    bool must_copy = shard_is_pinned(lookup->shard, lookup->ref, record_size(lookup->record));
    if ((length != before || must_copy) && !resize_record(view, key, lookup, length)) return NULL;
    record_set_edited(lookup->record);
    char *value = (char *)(uintptr_t)record_value(lookup->record).data;
    if (length > before) memset(value + before, 0, length - before);
    changed(view, lookup->shard, key, false);
    return value;
}

void keyspace_shorten_value(const struct view *view, const struct key *key, struct lookup *lookup, size_t length) {
    size_t before = record_value_length(lookup->record), size = record_size(lookup->record);
    if (length >= before) return;
    if (heap_size_for(size) == heap_size_for(size - before + length)) {
        record_set_value_length(lookup->record, length);
        return;
    }
    struct view quiet = *view;
    quiet.quiet = true;
    (void)!resize_record(&quiet, key, lookup, length);
}

size_t keyspace_value_filling(const struct lookup *lookup, size_t length) {
    size_t size = record_size(lookup->record) - record_value_length(lookup->record) + length;
    return length + heap_size_for(size) - size;
}

void keyspace_mark_edited(const struct view *view, struct lookup *lookup) {
    if (record_is_edited(lookup->record) || (lookup_is_cold(lookup) && !keyspace_bring_back(view, lookup))) return;
    if (shard_is_pinned(lookup->shard, lookup->ref, record_size(lookup->record))) return;
    record_set_edited(lookup->record);
}

void keyspace_touched(const struct view *view, const struct key *key) {
    changed(view, &view->keyspace->shards[key->shard], key, false);
}

/* ---- pins ---- */

bool keyspace_pin(const struct view *view, const struct lookup *lookup) {
    (void)view;
    if (lookup_is_cold(lookup)) return false;
    struct heap *heap = keyspace_heap_with(lookup->shard, lookup->record);
    if (!heap_can_pin(heap, lookup->record)) return false;
    heap_pin(heap, lookup->record);
    return true;
}

void keyspace_unpin(struct keyspace *keyspace, uint32_t shard, struct record *record) {
    keyspace_lock(keyspace, shard);
    heap_unpin(keyspace_heap_with(&keyspace->shards[shard], record), record);
    keyspace_unlock(keyspace, shard);
}
