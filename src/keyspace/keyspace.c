/* Lookup and change of keys. The whole-database operations are in keyspace_scan.c, the background work in
 * keyspace_maintain.c.
 *
 * A record always occupies exactly the size class of its bytes: it is overwritten in place when the new bytes
 * have the same class, and laid out anew otherwise. So a shrunken value gives its memory back at once, and
 * whether it fits is arithmetic on the record, without a look at the heap's page. */

#include "keyspace/keyspace.h"

#include <assert.h>
#include <stdlib.h>

enum { SHARDS_DEFAULT = 64, SHARDS_PER_WORKER = 128, DATABASES_DEFAULT = 16 };

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

static bool create_index_memory(struct keyspace *keyspace) {
    keyspace->index_memory = calloc(keyspace->pool_count, sizeof(*keyspace->index_memory));
    if (!keyspace->index_memory) return false;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct index_memory *memory = &keyspace->index_memory[i];
        segment_pool_init(&memory->segments, keyspace->pools[i]);
        memory->retired = keyspace->retired;
        memory->environment = (struct index_environment){.seed = keyspace->seed,
                                                         .allocate = allocate_segment,
                                                         .retire_segment = retire_segment,
                                                         .retire = retire_malloced,
                                                         .should_move = should_move,
                                                         .ctx = memory};
    }
    return true;
}

/* ---- life ---- */

unsigned keyspace_node_of(const struct keyspace *keyspace, uint32_t shard) {
    return shard * keyspace->pool_count / keyspace->shard_count;
}

static bool create_pools(struct keyspace *keyspace, const struct keyspace_options *options) {
    keyspace->pool_count = options->node_count ? options->node_count : 1;
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
    atomic_init(&keyspace->active_expiry, true);
    keyspace->access = (struct access_policy){.log_factor = 10, .decay_minutes = 1};
    keyspace->retired = retire_create(options->locking);
    keyspace->shards = aligned_alloc(64, keyspace->shard_count * sizeof(struct shard));
    if (!keyspace->retired || !keyspace->shards || !create_pools(keyspace, options) || !create_index_memory(keyspace))
        goto fail;
    memset(keyspace->shards, 0, keyspace->shard_count * sizeof(struct shard));
    for (unsigned i = 0; i < keyspace->shard_count; i++) {
        struct shard *shard = &keyspace->shards[i];
        shard->number = i;
        heap_init(&shard->heap, keyspace->pools[keyspace_node_of(keyspace, i)]);
        shard->databases = calloc(keyspace->database_count, sizeof(*shard->databases));
        if (!shard->databases) goto fail;
    }
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
        for (size_t i = 0; i < count; i++) heap_free(&shard->heap, ref_record(refs[i]));
    } while (position);
    index_destroy(index);
}

void keyspace_destroy(struct keyspace *keyspace) {
    if (!keyspace) return;
    for (unsigned i = 0; keyspace->shards && i < keyspace->shard_count; i++) {
        struct shard *shard = &keyspace->shards[i];
        for (unsigned database = 0; shard->databases && database < keyspace->database_count; database++)
            destroy_index(shard, shard->databases[database], 0);
        for (size_t k = 0; k < shard->condemned_count; k++)
            destroy_index(shard, shard->condemned[k], k == 0 ? shard->condemned_position : 0);
        free(shard->condemned);
        free(shard->databases);
    }
    retire_destroy(keyspace->retired);
    for (unsigned i = 0; keyspace->index_memory && i < keyspace->pool_count; i++)
        segment_pool_destroy(&keyspace->index_memory[i].segments);
    free(keyspace->index_memory);
    for (unsigned i = 0; keyspace->pools && i < keyspace->pool_count; i++) region_pool_destroy(keyspace->pools[i]);
    free(keyspace->pools);
    free(keyspace->shards);
    free(keyspace);
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
    watch_touch(&shard->watches, view->database, key->hash, key->name, expired);
}

static void drop(const struct view *view, const struct key *key, struct lookup *lookup, bool expired) {
    struct shard *shard = lookup->shard;
    index_remove(shard->databases[view->database], lookup->position);
    changed(view, shard, key, expired);
    heap_free(&shard->heap, lookup->record);
    lookup->record = NULL;
    lookup->position = (struct index_position){0};
}

static void drop_expired(const struct view *view, const struct key *key, struct lookup *lookup) {
    lookup->shard->counters.expired++;
    lookup->shard->counters.expired_on_access++;
    drop(view, key, lookup, true);
}

static inline struct lookup find(const struct view *view, const struct key *key) {
    struct lookup lookup = {.shard = &view->keyspace->shards[key->shard]};
    struct index *index = lookup.shard->databases[view->database];
    if (!index) return lookup;
    lookup.position = index_find(index, key->hash, key->name);
    if (!lookup.position.bucket) return lookup;
    lookup.record = ref_record(index_ref_at(lookup.position));
    if (__builtin_expect(record_is_expired(lookup.record, view->now_ms), 0)) drop_expired(view, key, &lookup);
    return lookup;
}

struct lookup keyspace_find(const struct view *view, const struct key *key) {
    return find(view, key);
}

static inline void renew_access(const struct view *view, struct record *record) {
    if (view->keep_access) return;
    record_set_access(record,
                      access_touched(&view->keyspace->access, record_access(record), view->now_ms, view->random));
}

struct lookup keyspace_read(const struct view *view, const struct key *key) {
    struct lookup lookup = find(view, key);
    if (lookup.record) {
        lookup.shard->counters.hits++;
        renew_access(view, lookup.record);
    } else {
        lookup.shard->counters.misses++;
    }
    return lookup;
}

struct lookup keyspace_find_for_write(const struct view *view, const struct key *key) {
    struct lookup lookup = find(view, key);
    if (lookup.record) renew_access(view, lookup.record);
    return lookup;
}

/* ---- change ---- */

static bool is_pinned(const struct shard *shard, const struct record *record, size_t size) {
    return size >= LIMIT_REPLY_COPY_BYTES && heap_is_pinned(&shard->heap, record);
}

static struct index *index_for_insert(const struct view *view, struct shard *shard) {
    struct index **index = &shard->databases[view->database];
    if (!*index)
        __atomic_store_n(
            index,
            index_create(&view->keyspace->index_memory[keyspace_node_of(view->keyspace, shard->number)].environment),
            __ATOMIC_RELEASE);
    return *index;
}

/* Puts `record` where the lookup's record was, or into the index when there was none. */
static bool link_record(const struct view *view, const struct key *key, struct lookup *lookup, struct record *record) {
    struct shard *shard = lookup->shard;
    if (lookup->record) {
        index_replace(shard->databases[view->database], lookup->position, ref_of(record));
        heap_free(&shard->heap, lookup->record);
    } else {
        struct index *index = index_for_insert(view, shard);
        if (!index || !index_insert(index, key->hash, ref_of(record))) {
            heap_free(&shard->heap, record);
            return false;
        }
        lookup->position = index_find_ref(index, key->hash, ref_of(record));
    }
    lookup->record = record;
    return true;
}

bool keyspace_store(const struct view *view, const struct key *key, struct lookup *lookup, struct record_plan *plan) {
    struct shard *shard = lookup->shard;
    struct record *old = lookup->record;
    plan->key = key->name;
    plan->access = old && view->keyspace->access.frequency ? record_access(old)
                                                           : access_new(&view->keyspace->access, view->now_ms);
    size_t size = record_size_for(plan);
    if (old) {
        size_t old_size = record_size(old), class = heap_size_for(old_size);
        if (heap_size_for(size) == class && record_can_overwrite(old, plan, class) &&
            !is_pinned(shard, old, old_size)) {
            record_overwrite(old, plan);
            changed(view, shard, key, false);
            return true;
        }
    }
    void *memory = heap_allocate(&shard->heap, size);
    if (!memory || !link_record(view, key, lookup, record_write(memory, plan))) return false;
    changed(view, shard, key, false);
    return true;
}

void keyspace_remove(const struct view *view, const struct key *key, struct lookup *lookup) {
    drop(view, key, lookup, false);
}

bool keyspace_set_expiry(const struct view *view, const struct key *key, struct lookup *lookup, int64_t expiry_ms) {
    struct shard *shard = lookup->shard;
    struct record *record = lookup->record;
    if (record_has_expiry(record) && expiry_ms >= 0) {
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
    bool pinned = is_pinned(shard, record, old_size);
    if (!pinned && record_value_room(record, heap_size_for(size)) >= length) {
        if (heap_size_for(size) == class) {
            record_set_value_length(record, length);
            return true;
        }
        struct record *moved = heap_resize_large(&shard->heap, record, size);
        if (moved) {
            lookup->record = moved;
            index_replace(shard->databases[view->database], lookup->position, ref_of(moved));
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
    assert(lookup->record && record_encoding(lookup->record) == RECORD_RAW && length <= LIMIT_VALUE_BYTES);
    size_t before = record_value_length(lookup->record);
    bool must_copy = is_pinned(lookup->shard, lookup->record, record_size(lookup->record));
    if ((length != before || must_copy) && !resize_record(view, key, lookup, length)) return NULL;
    record_set_edited(lookup->record);
    char *value = (char *)(uintptr_t)record_value(lookup->record).data;
    if (length > before) memset(value + before, 0, length - before);
    changed(view, lookup->shard, key, false);
    return value;
}

void keyspace_touched(const struct view *view, const struct key *key) {
    changed(view, &view->keyspace->shards[key->shard], key, false);
}

/* ---- pins ---- */

bool keyspace_pin(const struct view *view, uint32_t shard, struct record *record) {
    struct heap *heap = &view->keyspace->shards[shard].heap;
    if (!heap_can_pin(heap, record)) return false;
    heap_pin(heap, record);
    return true;
}

void keyspace_unpin(struct keyspace *keyspace, uint32_t shard, struct record *record) {
    keyspace_lock(keyspace, shard);
    heap_unpin(&keyspace->shards[shard].heap, record);
    keyspace_unlock(keyspace, shard);
}
