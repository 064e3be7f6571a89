/* Registry, lists, and access to pages: see keyspace_collection.h.
 *
 * The registry is a table of pointers by id, in blocks that are made when needed and never moved, so it is read without
 * a lock; ids that are free again are used first. Without the lock of the collection's shard only the number of that
 * shard is read, to know which one to lock; since the root's memory may be gone at any time then, it stands here beside
 * the pointer. */

#include "keyspace/keyspace_collection.h"

#include "keyspace/keyspace_private.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    REGISTRY_BLOCK = 4096,
    REGISTRY_GROUP = 1024, /* blocks; and groups */
    SMALL_PAGES = 32,      /* a collection of so many pages is freed at once */
};

/* ---- registry ---- */

struct registry_entry {
    struct collection *collection; /* of the holder of the shard's lock */
    _Atomic uint32_t shard;        /* UINT32_MAX: the id is not in use */
};

struct registry_group {
    _Atomic(struct registry_entry *) blocks[REGISTRY_GROUP];
};

struct collection_registry {
    pthread_mutex_t lock;
    _Atomic(struct registry_group *) groups[REGISTRY_GROUP];
    uint32_t end;
    uint32_t *free_ids;
    size_t free_count, free_capacity;
};

struct collection_registry *collection_registry_create(void) {
    struct collection_registry *registry = calloc(1, sizeof(*registry));
    if (registry) pthread_mutex_init(&registry->lock, NULL);
    return registry;
}

void collection_registry_destroy(struct collection_registry *registry) {
    if (!registry) return;
    for (unsigned i = 0; i < REGISTRY_GROUP; i++) {
        struct registry_group *group = registry->groups[i];
        for (unsigned k = 0; group && k < REGISTRY_GROUP; k++) free(group->blocks[k]);
        free(group);
    }
    free(registry->free_ids);
    pthread_mutex_destroy(&registry->lock);
    free(registry);
}

/* Where an id has its entry; NULL: it has none yet. */
static struct registry_entry *entry_of(const struct collection_registry *registry, uint32_t id) {
    uint32_t block = id / REGISTRY_BLOCK;
    const struct registry_group *group =
        atomic_load_explicit(&registry->groups[block / REGISTRY_GROUP], memory_order_acquire);
    struct registry_entry *entries =
        group ? atomic_load_explicit(&group->blocks[block % REGISTRY_GROUP], memory_order_acquire) : NULL;
    return entries ? &entries[id % REGISTRY_BLOCK] : NULL;
}

/* Precondition: the id was given out. */
static struct registry_entry *entry_known(const struct collection_registry *registry, uint32_t id) {
    struct registry_entry *entry = entry_of(registry, id);
    assert(entry);
    return entry;
}

uint32_t collection_shard(const struct collection_registry *registry, uint32_t id) {
    const struct registry_entry *entry = entry_of(registry, id);
    return entry ? atomic_load_explicit(&entry->shard, memory_order_relaxed) : UINT32_MAX;
}

struct collection *collection_find(const struct collection_registry *registry, uint32_t id) {
    return entry_known(registry, id)->collection;
}

static bool make_block(struct collection_registry *registry, uint32_t id) {
    uint32_t number = id / REGISTRY_BLOCK;
    _Atomic(struct registry_group *) *place = &registry->groups[number / REGISTRY_GROUP];
    if (entry_of(registry, id)) return true;
    struct registry_group *group = *place;
    if (!group) {
        if (!(group = calloc(1, sizeof(*group)))) return false;
        atomic_store_explicit(place, group, memory_order_release);
    }
    struct registry_entry *block = malloc(REGISTRY_BLOCK * sizeof(*block));
    if (!block) return false;
    for (unsigned i = 0; i < REGISTRY_BLOCK; i++) {
        block[i].collection = NULL;
        atomic_init(&block[i].shard, UINT32_MAX);
    }
    atomic_store_explicit(&group->blocks[number % REGISTRY_GROUP], block, memory_order_release);
    return true;
}

bool collection_register(struct collection_registry *registry, struct collection *collection) {
    pthread_mutex_lock(&registry->lock);
    uint32_t id = registry->free_count ? registry->free_ids[registry->free_count - 1] : registry->end;
    bool made = id < UINT32_MAX && make_block(registry, id);
    if (made) {
        if (registry->free_count)
            registry->free_count--;
        else
            registry->end++;
        collection->id = id;
        entry_known(registry, id)->collection = collection;
    }
    pthread_mutex_unlock(&registry->lock);
    return made;
}

bool collection_register_again(struct collection_registry *registry, struct collection *collection, uint32_t id) {
    pthread_mutex_lock(&registry->lock);
    bool made = id < UINT32_MAX && make_block(registry, id) && !entry_known(registry, id)->collection;
    if (made) {
        collection->id = id;
        entry_known(registry, id)->collection = collection;
        if (id >= registry->end) registry->end = id + 1;
    }
    pthread_mutex_unlock(&registry->lock);
    return made;
}

/* An id that cannot be remembered as free is not used again. */
static void note_free(struct collection_registry *registry, uint32_t id) {
    if (registry->free_count == registry->free_capacity) {
        size_t capacity = registry->free_capacity ? 2 * registry->free_capacity : 64;
        uint32_t *ids = realloc(registry->free_ids, capacity * sizeof(*ids));
        if (!ids) return;
        registry->free_ids = ids;
        registry->free_capacity = capacity;
    }
    registry->free_ids[registry->free_count++] = id;
}

/* From the highest down, so that the lowest are given out first. */
void collection_registry_close_gaps(struct collection_registry *registry) {
    pthread_mutex_lock(&registry->lock);
    registry->free_count = 0;
    for (uint32_t id = registry->end; id-- > 0;) {
        const struct registry_entry *entry = entry_of(registry, id);
        if (!entry || !entry->collection) note_free(registry, id);
    }
    pthread_mutex_unlock(&registry->lock);
}

void collection_unregister(struct collection_registry *registry, const struct collection *collection) {
    pthread_mutex_lock(&registry->lock);
    struct registry_entry *entry = entry_known(registry, collection->id);
    atomic_store_explicit(&entry->shard, UINT32_MAX, memory_order_relaxed);
    entry->collection = NULL;
    note_free(registry, collection->id);
    pthread_mutex_unlock(&registry->lock);
}

/* ---- those with pages that were cut off ---- */

static void put_untidy(struct shard *shard, struct collection *collection) {
    if (collection->untidy || !collection->kind->tidy || !collection->kind->tidy(collection, NULL, 0)) return;
    collection->untidy = true;
    collection->next_untidy = shard->untidy_collections;
    shard->untidy_collections = collection;
}

static void take_untidy(struct shard *shard, struct collection *collection) {
    struct collection **place = &shard->untidy_collections;
    while (*place != collection) place = &(*place)->next_untidy;
    *place = collection->next_untidy;
    collection->untidy = false;
}

void keyspace_tidy_later(const struct view *view, struct collection *collection) {
    put_untidy(&view->keyspace->shards[collection->shard], collection);
}

/* ---- the shard's list ---- */

void collection_link(const struct keyspace *keyspace, struct shard *shard, struct collection *collection) {
    collection->previous = NULL;
    collection->next = shard->collections;
    if (shard->collections) shard->collections->previous = collection;
    shard->collections = collection;
    if (collection->heap) {
        collection->next_big = shard->big_collections;
        shard->big_collections = collection;
    }
    collection->shard = shard->number;
    put_untidy(shard, collection);
    atomic_store_explicit(&entry_known(keyspace->collections, collection->id)->shard, shard->number,
                          memory_order_relaxed);
}

void collection_unlink(struct shard *shard, struct collection *collection) {
    if (collection->untidy) take_untidy(shard, collection);
    struct collection **big = &shard->big_collections;
    while (*big && *big != collection) big = &(*big)->next_big;
    if (*big) *big = collection->next_big;
    if (shard->heap_hand == collection) shard->heap_hand = collection->next;
    if (shard->page_hand.collection == collection)
        shard->page_hand = (struct shard_page_hand){.collection = collection->next};
    if (collection->previous)
        collection->previous->next = collection->next;
    else
        shard->collections = collection->next;
    if (collection->next) collection->next->previous = collection->previous;
    collection->next = collection->previous = NULL;
}

void collection_replace(struct keyspace *keyspace, struct collection *shell, struct collection *root) {
    struct shard *shard = &keyspace->shards[shell->shard];
    root->id = shell->id;
    collection_unlink(shard, shell);
    entry_known(keyspace->collections, root->id)->collection = root;
    collection_link(keyspace, shard, root);
}

/* ---- pages that are not in memory ---- */

static const struct view *view_of(const struct page_access *access) {
    return access->view;
}

static const struct record *read_cold_page(struct page_access *access, uint64_t ref) {
    const struct view *view = view_of(access);
    const struct record *page = keyspace_record(view, ref);
    if (!page && !view_misses(view) && view->unreadable) *view->unreadable = true;
    return page;
}

static bool request_cold_page(struct page_access *access, uint64_t ref) {
    return keyspace_request(view_of(access), ref);
}

static void pass_cold_pages(struct page_access *access) {
    const struct view *view = view_of(access);
    if (view->port) tier_trim(view->port);
}

static void drop_cold_page(struct page_access *access, uint64_t ref) {
    shard_release(view_of(access)->keyspace, access->shard, ref);
}

/* Not where somebody waits for memory: it would have to go again, and the command that is run again to ask for it anew.
 */
static bool page_is_wanted(struct page_access *access, uint32_t collection, uint32_t number) {
    const struct view *view = view_of(access);
    struct keyspace *keyspace = view->keyspace;
    if (tier_is_hungry(view->port) || (view->waiter && view->waiter->refused)) return false;
    uint64_t hash = ((uint64_t)collection << 32 | number) * 0x9e3779b97f4a7c15u;
    if (!ghost_touch(tier_ghost(keyspace->tier), hash ^ hash >> 29) ||
        atomic_load_explicit(&keyspace->promotion_paused, memory_order_relaxed))
        return false;
    ((struct shard *)access->shard)->counters.promotions++;
    return true;
}

/* As a record does, it comes back by chance. */
static void use_far_page(struct page_access *access, uint32_t collection, uint32_t number) {
    struct shard *shard = access->shard;
    uint32_t chance = view_of(access)->random ^ number * 0x9e3779b9u;
    if (chance % FAR_USES || shard->far_used_count == SHARD_FAR_USED) return;
    shard->far_used[shard->far_used_count++] = (struct shard_far_page){collection, number};
}

static bool begin_change(struct page_access *access) {
    return view_begin_change(view_of(access));
}

static const struct page_source page_source = {.read = read_cold_page,
                                               .request = request_cold_page,
                                               .pass = pass_cold_pages,
                                               .drop = drop_cold_page,
                                               .wanted = page_is_wanted,
                                               .begin_change = begin_change,
                                               .used_far = use_far_page};

struct page_access keyspace_pages(const struct view *view, struct shard *shard) {
    return (struct page_access){
        .heap = &shard->heap,
        .source = view->keyspace->tier || shard->heap.far ? &page_source : NULL,
        .view = view,
        .shard = shard,
        .access = access_new(&view->keyspace->access, view->now_ms),
        .epoch = shard->epoch,
        .keep_access = view->keep_access,
    };
}

/* What frees: it reads nothing, and asks nobody. */
static struct page_access freeing_access(const struct view *view, struct shard *shard) {
    struct page_access access = keyspace_pages(view, shard);
    access.keep_access = true;
    return access;
}

/* ---- making ---- */

struct collection *keyspace_new_collection(const struct view *view, const struct key *key,
                                           const struct collection_kind *kind) {
    assert(kind->root_bytes >= sizeof(struct collection));
    if (!view_begin_change(view)) return NULL;
    struct collection *collection = calloc(1, kind->root_bytes);
    if (!collection) return NULL;
    collection_init(collection, kind);
    collection->epoch = view->keyspace->shards[key->shard].epoch;
    if (!collection_register(view->keyspace->collections, collection)) {
        free(collection);
        return NULL;
    }
    collection_link(view->keyspace, &view->keyspace->shards[key->shard], collection);
    return collection;
}

bool keyspace_store_collection(const struct view *view, const struct key *key, struct lookup *lookup,
                               struct collection *collection, bool keep_expiry) {
    struct record_plan plan = {.type = collection->kind->type,
                               .encoding = RECORD_PAGED,
                               .value = span_of((const char *)&collection, sizeof(struct collection *)),
                               .expiry_ms = RECORD_EXPIRY_NONE};
    if (keep_expiry && lookup->record) plan.expiry_ms = record_expiry(lookup->record);
    return keyspace_store(view, key, lookup, &plan);
}

void keyspace_discard_collection(const struct view *view, struct collection *collection) {
    collection_condemn(view->keyspace, &view->keyspace->shards[collection->shard], collection);
}

/* ---- freeing ---- */

/* A part of it; true: there is more. Otherwise the root is gone. What a living and a frozen one share, the heap as
 * well, is left to the one that stays. */
static bool free_some(struct keyspace *keyspace, struct shard *shard, struct collection *collection,
                      unsigned budget_pages) {
    const struct view view = {.keyspace = keyspace};
    struct page_access access = freeing_access(&view, shard);
    if (collection->kind->release && collection->kind->release(collection, budget_pages)) return true;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        if (page_table_release(&access, &collection->parts[part], budget_pages)) return true;
    if (collection->frozen) {
        collection->frozen->living = NULL;
    } else if (collection->living) {
        collection->living->frozen = NULL;
    } else {
        if (collection->heap) free(collection->heap->far);
        free(collection->heap);
    }
    free(collection);
    return false;
}

/* ---- freezing ---- */

struct collection *collection_freeze(struct keyspace *keyspace, struct shard *shard, struct collection *living) {
    struct collection *root = living->kind->copy_root(living);
    assert(!living->frozen);
    if (!root) return NULL;
    collection_init(root, living->kind);
    root->id = living->id;
    root->heap = living->heap;
    root->shard = shard->number;
    root->epoch = COLLECTION_KEYLESS;
    root->next_expiry_ms = living->next_expiry_ms;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        if (!page_table_share(&root->parts[part], &living->parts[part])) {
            /* Nothing is shared yet, so the pages it has already are none of its own: they are only forgotten. */
            root->living = living;
            living->frozen = root;
            while (collection_thaw(keyspace, shard, root, UINT32_MAX)) continue;
            return NULL;
        }
    root->living = living;
    living->frozen = root;
    return root;
}

bool collection_thaw(struct keyspace *keyspace, struct shard *shard, struct collection *frozen, unsigned budget_pages) {
    return free_some(keyspace, shard, frozen, budget_pages);
}

void collection_condemn(struct keyspace *keyspace, struct shard *shard, struct collection *collection) {
    collection_unlink(shard, collection);
    collection->changes = NULL;
    collection_unregister(keyspace->collections, collection);
    uint32_t pages = page_table_live(&collection->parts[0]) + page_table_live(&collection->parts[1]);
    if (pages <= SMALL_PAGES && !free_some(keyspace, shard, collection, 2 * SMALL_PAGES)) return;
    collection->next = shard->condemned_collections;
    shard->condemned_collections = collection;
    atomic_fetch_add_explicit(&keyspace->condemned_collections, 1, memory_order_relaxed);
}

/* Those which share pages with a snapshot, or are going to be frozen for one, wait for its end: to change a page would
 * be to copy it. */
static bool tidy_some(struct keyspace *keyspace, struct shard *shard, unsigned budget_pages) {
    const struct view view = {.keyspace = keyspace};
    struct collection *collection = shard->untidy_collections;
    while (collection && (collection->frozen || collection->epoch != shard->epoch))
        collection = collection->next_untidy;
    if (!collection) return false;
    struct page_access access = freeing_access(&view, shard);
    if (!collection->kind->tidy(collection, &access, budget_pages)) take_untidy(shard, collection);
    return shard->untidy_collections != NULL;
}

bool collection_drain(struct keyspace *keyspace, struct shard *shard, unsigned budget_pages) {
    struct collection *collection = shard->condemned_collections;
    if (!collection) return shard->untidy_collections && tidy_some(keyspace, shard, budget_pages);
    struct collection *next = collection->next;
    if (!free_some(keyspace, shard, collection, budget_pages)) {
        shard->condemned_collections = next;
        shard->counters.lazy_freed++;
        atomic_fetch_sub_explicit(&keyspace->condemned_collections, 1, memory_order_relaxed);
    }
    return shard->condemned_collections || shard->untidy_collections;
}

void collection_destroy_all(struct keyspace *keyspace, struct shard *shard) {
    while (shard->collections) collection_condemn(keyspace, shard, shard->collections);
    while (collection_drain(keyspace, shard, UINT32_MAX)) continue;
}

/* ---- moving pages ---- */

bool collection_relocate(struct keyspace *keyspace, struct shard *shard, const struct record *page, uint64_t from,
                         uint64_t to) {
    if (collection_shard(keyspace->collections, page_owner(page)) != shard->number) return false;
    struct collection *collection = collection_find(keyspace->collections, page_owner(page));
    uint32_t number = page_number(page);
    return page_swing_shared(&collection->parts[number >> 31], number & (PAGE_NUMBER_MAX - 1), from, to);
}

static bool root_is_valid(struct collection *collection, struct page_access *access) {
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        if (!page_table_validate(&collection->parts[part])) return false;
    return !collection->kind->validate || collection->kind->validate(collection, access);
}

/* More are counted than are on the list: those of condemned collections, and of frozen ones whose living one is gone.
 */
static bool counts_big_heaps(const struct shard *shard) {
    uint64_t objects = 0, far_objects = 0;
    for (const struct collection *big = shard->big_collections; big; big = big->next_big) {
        objects += big->heap->sums.live_objects;
        if (big->heap->far) far_objects += big->heap->far->sums.live_objects;
    }
    return (int64_t)shard->big.live_objects >= (int64_t)objects &&
           (int64_t)shard->big_far.live_objects >= (int64_t)far_objects;
}

/* What is in cold pages is passed over: without a port nothing is read. */
bool collection_validate_all(struct keyspace *keyspace, struct shard *shard) {
    if (!counts_big_heaps(shard)) return false;
    const struct view view = {.keyspace = keyspace};
    struct page_access access = freeing_access(&view, shard);
    for (struct collection *collection = shard->collections; collection; collection = collection->next) {
        if (collection_find(keyspace->collections, collection->id) != collection) return false;
        struct collection *frozen = collection->frozen;
        if (collection->heap && !heap_validate(collection->heap)) return false;
        if (collection->heap && collection->heap->far && !heap_validate(collection->heap->far)) return false;
        if (!root_is_valid(collection, &access)) return false;
        if (frozen && (frozen->living != collection || !root_is_valid(frozen, &access))) return false;
    }
    return true;
}

size_t collection_bytes(const struct collection *collection) {
    size_t bytes = collection->kind->bytes ? collection->kind->bytes(collection) : collection->kind->root_bytes;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        const struct page_table *table = &collection->parts[part];
        bytes += page_table_bytes(table) + table->payload_bytes + (size_t)table->live * PAGE_HEADER;
    }
    return bytes;
}

size_t collection_memory_bytes(const struct collection *collection) {
    size_t bytes = collection_bytes(collection);
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        const struct page_table *table = &collection->parts[part];
        if (!table->cold) continue;
        bytes -= (size_t)(table->payload_bytes / table->live * table->cold) + (size_t)table->cold * PAGE_HEADER;
    }
    return bytes;
}
