/* Collections of a checkpoint: see recovery_collections.h.
 *
 * Those whose pages are to come are on a list. They are found by their id meanwhile: it is sorted once all are there.
 * Chunks of pages of one collection are of different stretches (checkpoint_layout.h), so threads never meet in an
 * entry; what a table counts, and the making of its chunks, is guarded by one of LOCKS locks, chosen by the id. Keys
 * come shard by shard, each shard's by one thread, as those of other records do: a keyspace of one worker has no locks.
 */

#include "persist/recovery_collections.h"

#include "keyspace/keyspace_import.h"
#include "persist/checkpoint_root.h"

#include <stdlib.h>

enum { LOCKS = 64 };

/* One that has been made. */
struct recovered {
    struct collection *root; /* NULL: its key leads to it */
    struct checkpoint_root head;
    uint32_t shard, database;
    struct span key; /* on the list: owned */
};

struct collections {
    struct recovery *recovery;
    pthread_mutex_t lock; /* guards the list while it grows */
    struct recovered *list;
    size_t count, capacity;
    pthread_mutex_t table_locks[LOCKS];
};

static void give_up(struct recovery *recovery, const struct recovered *recovered) {
    keyspace_lock(recovery->keyspace, recovered->shard);
    keyspace_import_give_up(recovery->keyspace, recovered->shard, recovered->root);
    keyspace_unlock(recovery->keyspace, recovered->shard);
}

/* ---- a collection ---- */

/* `count` entries, of numbers from `first` on, the part in the highest bit. */
static bool import_entries(struct recovery *recovery, struct collection *root, uint32_t first, const char *entries,
                           uint32_t count) {
    struct page_table *table = &root->parts[first >> 31];
    for (uint32_t i = 0; i < count; i++) {
        uint64_t entry;
        memcpy(&entry, entries + i * sizeof(entry), sizeof(entry));
        if (!entry) continue;
        entry &= ~CHECKPOINT_PAGE_HAS_PRINT;
        if (!recovery_knows(recovery, entry & PAGE_REF_MASK)) return false;
        if (!page_table_restore_page(table, (first & (PAGE_NUMBER_MAX - 1)) + i, entry)) return false;
    }
    return true;
}

/* Those that stand with the root; false: one cannot be. */
static bool import_pages_beside(struct recovery *recovery, struct collection *root,
                                const struct checkpoint_root_view *view) {
    const uint32_t *end = view->root.end;
    return checkpoint_root_entries(&view->root) == 0 ||
           (import_entries(recovery, root, 0, view->pages.data, end[0]) &&
            import_entries(recovery, root, PAGE_NUMBER_MAX, view->pages.data + end[0] * sizeof(uint64_t), end[1]));
}

/* The shard's lock is held. */
static bool fits(struct recovery *recovery, const struct recovered *recovered) {
    struct collection *root = recovered->root;
    struct page_access access = {.heap = &recovery->keyspace->shards[recovered->shard].heap, .keep_access = true};
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        if (page_table_live(&root->parts[part]) != recovered->head.live[part]) return false;
        page_table_link_free(&root->parts[part]);
    }
    return root->kind->loaded(root, &access);
}

static bool import_key(struct recovery *recovery, struct recovered *recovered) {
    const struct keyspace_imported_key key = {
        .name = recovered->key, .expiry_ms = recovered->head.expiry_ms, .access = recovered->head.access};
    keyspace_lock(recovery->keyspace, recovered->shard);
    bool whole = fits(recovery, recovered);
    bool linked = whole && keyspace_import_collection(recovery->keyspace, recovered->shard, recovered->database, &key,
                                                      recovered->root);
    keyspace_unlock(recovery->keyspace, recovered->shard);
    if (!whole) return recovery_fail(recovery, "has a collection whose pages are not all there");
    if (!linked) return recovery_fail(recovery, "has a key for which there is no memory, or has it twice");
    recovered->root = NULL;
    recovery_count(recovery, 1);
    return true;
}

/* ---- 1. roots ---- */

/* The list owns it from here on, with a key of its own. */
static bool note_root(struct collections *collections, struct recovered *recovered) {
    struct span name = recovered->key;
    char *key = malloc(name.length + 1);
    pthread_mutex_lock(&collections->lock);
    if (collections->count == collections->capacity) {
        size_t capacity = collections->capacity ? 2 * collections->capacity : 64;
        struct recovered *list = realloc(collections->list, capacity * sizeof(*list));
        if (list) {
            collections->list = list;
            collections->capacity = capacity;
        }
    }
    bool noted = key && collections->count < collections->capacity;
    if (noted) {
        recovered->key = span_of(memcpy(key, name.data, name.length), name.length);
        collections->list[collections->count++] = *recovered;
    }
    pthread_mutex_unlock(&collections->lock);
    if (!noted) free(key);
    return noted;
}

/* Into the keyspace, or, as long as its pages are to come, into the list. */
static bool import_made(struct collections *collections, struct recovered *recovered) {
    struct recovery *recovery = collections->recovery;
    bool waits = recovered->head.page_bytes == 0 && (recovered->head.live[0] || recovered->head.live[1]);
    if (!waits) return import_key(recovery, recovered);
    return note_root(collections, recovered) || recovery_fail(recovery, "there is no memory");
}

static bool import_root(struct collections *collections, const struct checkpoint_place *place,
                        struct checkpoint_root_view *view) {
    struct recovery *recovery = collections->recovery;
    const struct checkpoint_root *head = &view->root;
    struct keyspace_imported_root imported = {
        .root = checkpoint_root_load(recovery->reader, view, recovery->keyspace->seed),
        .kind = checkpoint_root_kind(head->type),
        .id = head->collection,
        .next_expiry_ms = head->next_expiry_ms};
    if (!imported.root) return recovery_fail(recovery, "has a collection that cannot be, or there is no memory for it");
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        imported.end[part] = head->end[part];
        imported.payload_bytes[part] = head->payload_bytes[part];
    }
    struct recovered recovered = {.root = imported.root,
                                  .head = view->root,
                                  .shard = place->shard,
                                  .database = place->database,
                                  .key = view->key};
    bool made =
        keyspace_import_root(recovery->keyspace, &imported) && import_pages_beside(recovery, imported.root, view);
    if (made && import_made(collections, &recovered)) return true;
    if (recovered.root) give_up(recovery, &recovered);
    return recovery_fail(recovery, "has a collection twice, or with a page that cannot be, or no memory for it");
}

static bool import_chunk(struct collections *collections, const struct checkpoint_place *place, const char *payload) {
    struct recovery *recovery = collections->recovery;
    struct checkpoint_root_view view;
    struct span rest = span_of(payload, place->bytes);
    for (uint32_t i = 0; i < place->count; i++) {
        if (!checkpoint_root_next(&rest, &view)) return recovery_fail(recovery, "has a collection that cannot be");
        bool imported = import_root(collections, place, &view);
        free(view.long_key);
        if (!imported) return false;
    }
    return rest.length == 0 || recovery_fail(recovery, "has a collection that cannot be");
}

static bool is_of_roots(const struct recovery *recovery, uint32_t chunk, uint32_t shard) {
    if (chunk >= checkpoint_reader_chunks(recovery->reader)) return false;
    const struct checkpoint_place *place = checkpoint_reader_place(recovery->reader, chunk);
    return place->kind == CHECKPOINT_ROOTS && place->shard == shard;
}

/* Those of a shard, whose first one is `chunk`. */
static bool import_roots(void *ctx, struct recovery *recovery, uint32_t chunk, struct recovery_buffer *buffer) {
    const struct checkpoint_place *place = checkpoint_reader_place(recovery->reader, chunk);
    uint32_t shard = place->shard;
    if (place->kind != CHECKPOINT_ROOTS || (chunk > 0 && is_of_roots(recovery, chunk - 1, shard))) return true;
    for (; is_of_roots(recovery, chunk, shard); chunk++) {
        place = checkpoint_reader_place(recovery->reader, chunk);
        if (shard >= recovery->keyspace->shard_count || place->database >= recovery->keyspace->database_count)
            return recovery_fail(recovery, "has keys of a database or shard that is not there; see `databases`");
        if (!recovery_read(recovery, chunk, buffer) || !import_chunk(ctx, place, buffer->bytes)) return false;
    }
    return true;
}

static int by_id(const void *a, const void *b) {
    uint32_t left = ((const struct recovered *)a)->head.collection;
    uint32_t right = ((const struct recovered *)b)->head.collection;
    return (left > right) - (left < right);
}

/* NULL: there is none. */
static struct recovered *find(struct collections *collections, uint32_t id) {
    const struct recovered wanted = {.head.collection = id};
    return collections->count ? bsearch(&wanted, collections->list, collections->count, sizeof(wanted), by_id) : NULL;
}

/* ---- 2. pages ---- */

static bool import_pages(void *ctx, struct recovery *recovery, uint32_t chunk, struct recovery_buffer *buffer) {
    struct collections *collections = ctx;
    const struct checkpoint_place *place = checkpoint_reader_place(recovery->reader, chunk);
    struct checkpoint_pages head;
    if (place->kind != CHECKPOINT_PAGES) return true;
    struct recovered *recovered = find(collections, place->shard);
    if (!recovered) return recovery_fail(recovery, "has pages of a collection that is not there");
    if (!recovery_read(recovery, chunk, buffer)) return false;
    memcpy(&head, buffer->bytes, sizeof(head));
    pthread_mutex_t *lock = &collections->table_locks[place->shard % LOCKS];
    pthread_mutex_lock(lock);
    bool good =
        import_entries(recovery, recovered->root, head.first, (const char *)buffer->bytes + sizeof(head), place->count);
    pthread_mutex_unlock(lock);
    return good || recovery_fail(recovery, "has a page that cannot be");
}

/* ---- 3. keys ---- */

/* Those of a shard, whose first one is `number`. */
static bool import_keys(void *ctx, struct recovery *recovery, uint32_t number, struct recovery_buffer *buffer) {
    struct collections *collections = ctx;
    struct recovered *list = collections->list;
    uint32_t shard = list[number].shard;
    (void)buffer;
    if (number > 0 && list[number - 1].shard == shard) return true;
    for (size_t i = number; i < collections->count && list[i].shard == shard; i++)
        if (!import_key(recovery, &list[i])) return false;
    return true;
}

static int by_shard(const void *a, const void *b) {
    uint32_t left = ((const struct recovered *)a)->shard, right = ((const struct recovered *)b)->shard;
    return (left > right) - (left < right);
}

/* ---- all of them ---- */

static void sort(struct collections *collections, int (*order)(const void *, const void *)) {
    qsort(collections->list, collections->count, sizeof(*collections->list), order);
}

static bool import_all(struct collections *collections) {
    struct recovery *recovery = collections->recovery;
    uint32_t chunks = checkpoint_reader_chunks(recovery->reader);
    if (!recovery_in_threads(recovery, chunks, import_roots, collections)) return false;
    if (collections->count == 0) return true;
    sort(collections, by_id);
    if (!recovery_in_threads(recovery, chunks, import_pages, collections)) return false;
    sort(collections, by_shard);
    return recovery_in_threads(recovery, (uint32_t)collections->count, import_keys, collections);
}

bool recovery_import_collections(struct recovery *recovery) {
    struct collections collections = {.recovery = recovery};
    pthread_mutex_init(&collections.lock, NULL);
    for (unsigned i = 0; i < LOCKS; i++) pthread_mutex_init(&collections.table_locks[i], NULL);
    bool good = import_all(&collections);
    for (size_t i = 0; i < collections.count; i++) {
        if (collections.list[i].root) give_up(recovery, &collections.list[i]);
        free((char *)(uintptr_t)collections.list[i].key.data);
    }
    if (good) keyspace_import_end(recovery->keyspace);
    for (unsigned i = 0; i < LOCKS; i++) pthread_mutex_destroy(&collections.table_locks[i]);
    pthread_mutex_destroy(&collections.lock);
    free(collections.list);
    return good;
}
