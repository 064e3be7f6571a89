/* Big collections that get another key, another shard, or a copy; and the heaps of their own that make this cheap.
 *
 * A collection whose pages take COLLECTION_HEAP_BYTES gets a heap of its own at the next compaction of its shard: its
 * pages are copied there once, in about two milliseconds, and from then on it goes to another shard as it is. A smaller
 * one has its pages copied when it changes shard, which takes no longer.
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
    struct collection *collection;
    struct heap *from, *to;
    void **copies;
    size_t count;
};

static bool copy_out(struct carrying *carrying) {
    const struct collection *collection = carrying->collection;
    size_t most = (size_t)page_table_live(&collection->parts[0]) + page_table_live(&collection->parts[1]);
    carrying->copies = malloc((most ? most : 1) * sizeof(void *));
    if (!carrying->copies) return false;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        const struct page_table *table = &collection->parts[part];
        for (uint32_t i = 0; i < table->end; i++) {
            if (!page_exists(table, i) || page_is_cold(table, i)) continue;
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

static void take_over(struct carrying *carrying) {
    size_t next = 0;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        struct page_table *table = &carrying->collection->parts[part];
        for (uint32_t i = 0; i < table->end; i++) {
            if (!page_exists(table, i) || page_is_cold(table, i)) continue;
            struct record *page = ref_record(page_ref(table, i));
            page_swing(table, i, ref_of(carrying->copies[next++], MEDIUM_DRAM));
            heap_free(carrying->from, page);
        }
    }
}

/* All pages in memory, or none. For a moment they take twice their room, which is asked for. */
static bool carry_pages(struct collection *collection, struct heap *from, struct heap *to) {
    struct carrying carrying = {collection, from, to, NULL, 0};
    size_t bytes = collection_memory_bytes(collection);
    if (!region_pool_ask(to->pool, bytes)) return false;
    bool copied = copy_out(&carrying);
    region_pool_taken(to->pool, bytes);
    if (copied)
        take_over(&carrying);
    else
        while (carrying.count) heap_free(to, carrying.copies[--carrying.count]);
    free(carrying.copies);
    return copied;
}

static uint64_t payload_bytes(const struct collection *collection) {
    return collection->parts[0].payload_bytes + collection->parts[1].payload_bytes;
}

bool collection_give_heap(struct shard *shard, struct collection *collection) {
    struct heap *heap = malloc(sizeof(*heap));
    if (!heap) return false;
    heap_init(heap, shard->heap.pool);
    if (!carry_pages(collection, &shard->heap, heap)) {
        free(heap);
        return false;
    }
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

/* ---- from shard to shard ---- */

static uint64_t cold_pages(const struct collection *collection) {
    uint64_t cold = 0;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) cold += collection->parts[part].cold;
    return cold;
}

static bool carry(const struct keyspace *keyspace, struct collection *collection, struct shard *from,
                  struct shard *to) {
    if (!collection->heap && !carry_pages(collection, &from->heap, &to->heap)) return false;
    from->cold_records -= cold_pages(collection);
    to->cold_records += cold_pages(collection);
    collection_unlink(from, collection);
    collection_link(keyspace, to, collection);
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
