/* Big collections that get another key, another shard, or a copy; and the heaps of their own that make this cheap.
 *
 * A collection whose pages take COLLECTION_HEAP_BYTES gets a heap of its own at the next compaction of its shard: its
 * pages are copied there once, in about two milliseconds, and from then on it goes to another shard as it is. A smaller
 * one has its pages copied when it changes shard, which takes no longer.
 *
 * Pages in far memory come back with those that are copied. A big collection's have a heap of their own, too, and go
 * with it. One that is used comes back by chance, as records do, but not before the command has ended: it may still
 * read it where it is.
 *
 * Cold pages stay where they are; blocks on the tier that name another shard than the collection's present one are no
 * harm, since pages are found by the collection's id (keyspace_tier.c). */

#include "keyspace/keyspace_collection.h"
#include "keyspace/keyspace_private.h"

#include <assert.h>
#include <stdlib.h>

enum { HEAP_LOOKS = 16 /* collections looked at in a slice */ };
#define COLLECTION_HEAP_BYTES (4ul << 20)

/* ---- from heap to heap ---- */

struct carrying {
    struct shard *from; /* in whose heaps the pages are */
    struct heap *to;
    void **copies;
    size_t count, taken;
};

/* Whether the page has to be carried with this collection: a frozen one's shared pages go with the living one. */
static bool is_carried(const struct page_table *table, uint32_t number) {
    return page_exists(table, number) && !page_is_cold(table, number) &&
           !(table->owner->living && page_is_shared(table, number));
}

static bool copy_out(struct carrying *carrying, const struct collection *collection) {
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        const struct page_table *table = &collection->parts[part];
        for (uint32_t i = 0; i < table->end; i++) {
            if (!is_carried(table, i)) continue;
            const struct record *page = ref_record(page_ref(table, i));
            size_t bytes = record_size(page);
            void *copy = heap_allocate(carrying->to, bytes);
            if (!copy) return false;
            memcpy(copy, page, bytes);
            carrying->copies[carrying->count++] = copy;
        }
    }
    return true;
}

static void take_over(struct carrying *carrying, struct collection *collection) {
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        struct page_table *table = &collection->parts[part];
        for (uint32_t i = 0; i < table->end; i++) {
            if (!is_carried(table, i)) continue;
            uint64_t ref = page_ref(table, i);
            page_swing_shared(table, i, ref, ref_of(carrying->copies[carrying->taken++], MEDIUM_DRAM));
            heap_free(shard_heap(carrying->from, ref), ref_record(ref));
        }
    }
}

static size_t pages_of(const struct collection *collection) {
    return collection ? (size_t)page_table_live(&collection->parts[0]) + page_table_live(&collection->parts[1]) : 0;
}

static bool copy_both(struct carrying *carrying, const struct collection *collection) {
    size_t most = pages_of(collection) + pages_of(collection->frozen);
    carrying->copies = malloc((most ? most : 1) * sizeof(void *));
    return carrying->copies && copy_out(carrying, collection) &&
           (!collection->frozen || copy_out(carrying, collection->frozen));
}

/* All pages in memory, those of a frozen copy as well, or none. For a moment they take twice their room, which is asked
 * for. */
static bool carry_pages(struct collection *collection, struct shard *from, struct heap *to) {
    struct carrying carrying = {from, to, NULL, 0, 0};
    size_t bytes = collection_memory_bytes(collection);
    if (!region_pool_ask(to->pool, bytes)) return false;
    bool copied = copy_both(&carrying, collection);
    region_pool_taken(to->pool, bytes);
    if (copied) {
        take_over(&carrying, collection); /* in the order in which they were copied */
        if (collection->frozen) take_over(&carrying, collection->frozen);
    } else {
        while (carrying.count) heap_free(to, carrying.copies[--carrying.count]);
    }
    free(carrying.copies);
    return copied;
}

static uint64_t payload_bytes(const struct collection *collection) {
    return collection->parts[0].payload_bytes + collection->parts[1].payload_bytes;
}

bool collection_give_heap(struct shard *shard, struct collection *collection) {
    struct heap *heap = collection->frozen ? NULL : malloc(sizeof(*heap)); /* not while there are two owners */
    if (!heap) return false;
    heap_init(heap, shard->heap.pool);
    if (!carry_pages(collection, shard, heap)) {
        free(heap);
        return false;
    }
    heap_count_in(heap, &shard->big); /* not before: while they were twice there it would have looked like growth */
    collection->heap = heap;
    collection->next_big = shard->big_collections;
    shard->big_collections = collection;
    return true;
}

bool collection_give_heaps(struct shard *shard) {
    for (unsigned looks = 0; looks < HEAP_LOOKS && shard->collections; looks++) {
        struct collection *collection = shard->heap_hand ? shard->heap_hand : shard->collections;
        shard->heap_hand = collection->next;
        if (!collection->heap && payload_bytes(collection) >= COLLECTION_HEAP_BYTES)
            return collection_give_heap(shard, collection);
        if (!collection->next) break;
    }
    return false;
}

/* ---- to far memory and back ---- */

struct heap *collection_far_heap(struct keyspace *keyspace, struct shard *shard, const struct record *page) {
    struct heap *own = collection_find(keyspace->collections, page_owner(page))->heap;
    if (!own) return shard->heap.far;
    if (own->far || !(own->far = malloc(sizeof(*own->far)))) return own->far;
    heap_init(own->far, shard->heap.far->pool);
    heap_count_in(own->far, &shard->big_far);
    return own->far;
}

/* It may have left far memory, or be gone, since it was used. */
static void bring_near(struct keyspace *keyspace, struct shard *shard, const struct shard_far_page *used) {
    if (collection_shard(keyspace->collections, used->collection) != shard->number) return;
    struct collection *collection = collection_find(keyspace->collections, used->collection);
    struct page_table *table = &collection->parts[used->number >> 31];
    uint32_t number = used->number & (PAGE_NUMBER_MAX - 1);
    uint64_t ref = page_exists(table, number) ? page_ref(table, number) : 0;
    if (ref_medium(ref) != MEDIUM_FAR) return;
    struct heap *from = collection_heap(keyspace, shard, ref), *to = collection->heap ? collection->heap : &shard->heap;
    size_t bytes = record_size(ref_record(ref));
    void *copy = heap_allocate(to, bytes);
    if (!copy) return;
    memcpy(copy, ref_record(ref), bytes);
    page_swing_shared(table, number, ref, ref_of(copy, MEDIUM_DRAM));
    heap_free(from, ref_record(ref));
    shard->counters.far_promotions++;
}

void collection_bring_near(struct keyspace *keyspace, struct shard *shard) {
    bool paused = atomic_load_explicit(&keyspace->promotion_paused, memory_order_relaxed);
    while (shard->far_used_count) {
        const struct shard_far_page *used = &shard->far_used[--shard->far_used_count];
        if (!paused) bring_near(keyspace, shard, used);
    }
}

/* ---- from shard to shard ---- */

static uint64_t cold_pages(const struct collection *collection) {
    uint64_t cold = 0;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) cold += collection->parts[part].cold;
    return cold;
}

/* Those that only the frozen one has. */
static uint64_t cold_pages_alone(const struct collection *frozen) {
    uint64_t cold = 0;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        const struct page_table *table = &frozen->parts[part];
        for (uint32_t i = 0; i < table->end && table->cold; i++)
            cold += page_exists(table, i) && page_is_cold(table, i) && !page_is_shared(table, i);
    }
    return cold;
}

static bool carry(const struct keyspace *keyspace, struct collection *collection, struct shard *from,
                  struct shard *to) {
    if (!collection->heap && !carry_pages(collection, from, &to->heap)) return false;
    uint64_t cold = cold_pages(collection) + (collection->frozen ? cold_pages_alone(collection->frozen) : 0);
    from->cold_records -= cold;
    to->cold_records += cold;
    if (collection->heap) heap_count_in(collection->heap, &to->big);
    if (collection->heap && collection->heap->far) heap_count_in(collection->heap->far, &to->big_far);
    collection_unlink(from, collection);
    collection_link(keyspace, to, collection);
    /* A walker reads it without a lock, to know which one to take. */
    if (collection->frozen) __atomic_store_n(&collection->frozen->shard, to->number, __ATOMIC_RELEASE);
    return true;
}

/* ---- copies ---- */

/* Copies every page of `from` into the tables of `to`, which are empty. */
static bool copy_pages(struct page_access *source, struct collection *from, struct page_access *target,
                       struct collection *to) {
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        struct page_table *old = &from->parts[part], *new = &to->parts[part];
        for (uint32_t i = 0; i < old->end; i++) {
            if (!page_exists(old, i)) continue;
            struct span payload = page_read(source, old, i);
            char *copy = payload.data ? page_add_at(target, new, i, payload.length) : NULL;
            if (!copy) return false;
            memcpy(copy, payload.data, payload.length);
            page_set_note(new, i, page_note(old, i));
        }
        page_table_link_free(new);
    }
    return true;
}

static struct collection *copy_collection(const struct view *source_view, struct collection *from,
                                          const struct view *target_view, const struct key *key) {
    if (!view_begin_change(target_view)) return NULL;
    struct collection *to = from->kind->copy_root(from);
    if (!to) return NULL;
    collection_init(to, from->kind);
    to->epoch = target_view->keyspace->shards[key->shard].epoch;
    to->next_expiry_ms = from->next_expiry_ms;
    if (!collection_register(target_view->keyspace->collections, to)) {
        if (from->kind->release)
            while (from->kind->release(to, UINT32_MAX)) continue;
        free(to);
        return NULL;
    }
    struct shard *target_shard = &target_view->keyspace->shards[key->shard];
    collection_link(target_view->keyspace, target_shard, to);
    struct page_access source = keyspace_pages(source_view, &source_view->keyspace->shards[from->shard]);
    struct page_access target = keyspace_pages(target_view, target_shard);
    source.keep_access = true;
    if (copy_pages(&source, from, &target, to)) return to;
    collection_condemn(target_view->keyspace, target_shard, to);
    return NULL;
}

static bool store_like(const struct view *view, const struct key *key, struct lookup *lookup,
                       const struct record_plan *like, struct collection *collection) {
    struct record_plan plan = *like;
    plan.value = span_of((const char *)&collection, sizeof(struct collection *));
    return keyspace_store(view, key, lookup, &plan);
}

/* A command has its keys at hand before it runs, but perhaps not the pages of a collection; a copy reads those on the
 * spot. */
bool keyspace_copy_value(const struct view *source_view, struct lookup *source, const struct view *target_view,
                         const struct key *target_key, struct lookup *target) {
    struct record_plan plan = record_plan_of(source->record);
    if (!record_is_paged(source->record)) return keyspace_store(target_view, target_key, target, &plan);
    struct collection *collection = copy_collection(source_view, lookup_collection(source), target_view, target_key);
    if (!collection) return false;
    if (store_like(target_view, target_key, target, &plan, collection)) return true;
    keyspace_discard_collection(target_view, collection);
    return false;
}

bool keyspace_move_value(const struct view *source_view, const struct key *source_key, struct lookup *source,
                         const struct view *target_view, const struct key *target_key, struct lookup *target) {
    struct record_plan plan = record_plan_of(source->record);
    uint32_t access = record_access(source->record);
    struct collection *collection = record_is_paged(source->record) ? lookup_collection(source) : NULL;
    struct shard *from = source->shard, *to = target->shard;
    if (!view_begin_change(source_view)) return false;
    if (collection && from != to && !carry(source_view->keyspace, collection, from, to)) return false;
    if (!keyspace_store(target_view, target_key, target, &plan)) {
        /* Back to where it was; without memory for that it is the target shard's, where nothing leads to it. */
        if (collection && from != to) (void)carry(source_view->keyspace, collection, to, from);
        return false;
    }
    record_set_access(target->record, access);
    struct lookup left = keyspace_find(source_view, source_key);
    keyspace_leave_behind(source_view, source_key, &left);
    return true;
}
