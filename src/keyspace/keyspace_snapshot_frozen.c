/* Big collections of a snapshot: frozen, read by a sink, thawed.
 *
 * A frozen collection is a root of its own with copies of the page tables (collection_freeze()). It belongs to the
 * walker that was given it, and is guarded by the lock of the shard in which the living one is: a RENAME takes both to
 * another shard, which is noticed by looking again once the lock is held.
 *
 * Cold pages are read without a lock. Meanwhile the cleaner may move one that is shared; then it is asked for again
 * under its new reference. What a page of a frozen collection holds never changes, so a copy that was read under a
 * reference is right as long as the table has that reference. */

#include "base/log.h"
#include "keyspace/keyspace_snapshot_private.h"

#include <assert.h>
#include <stdlib.h>

enum { PAGES_AT_FIRST = 16, PAGES_AT_HAND = 64, THAWED_PAGES = 128, READ_TRIES = 3 };

struct frozen {
    struct snapshot_collection value; /* what sinks see */
    struct keyspace_snapshot *snapshot;
    struct shard *locked; /* NULL: not */
    struct record *pinned;
    struct heap *pinned_heap; /* the collection's own that it is from; NULL: one of the shard's */
    uint32_t pinned_in;       /* the shard of that */
    struct page_access access;
    struct read_back *pages; /* read from the tier; owned */
    unsigned page_count, page_capacity;
    char key[];
};

static struct frozen *frozen_of(struct snapshot_collection *value) {
    return (struct frozen *)value;
}
_Static_assert(offsetof(struct frozen, value) == 0, "frozen_of() casts");

/* ---- pages ---- */

static struct read_back *find_page(struct frozen *frozen, uint64_t ref) {
    for (unsigned i = 0; i < frozen->page_count; i++)
        if (frozen->pages[i].ref == ref) return &frozen->pages[i];
    return NULL;
}

/* A copy may have been read under this reference when it led to something else: then it is another page. */
static bool is_page_of(const struct frozen *frozen, const struct record *page, uint64_t ref) {
    const struct collection *root = frozen->value.root;
    if (record_type(page) != RECORD_PAGE || page_owner(page) != root->id) return false;
    const struct page_table *table = &root->parts[page_number(page) >> 31];
    uint32_t number = page_number(page) & (PAGE_NUMBER_MAX - 1);
    return number < table->end && page_ref(table, number) == ref;
}

/* NULL: no memory. */
static struct read_back *add_page(struct frozen *frozen, uint64_t ref) {
    if (frozen->page_count == frozen->page_capacity) {
        unsigned capacity = frozen->page_capacity ? 2 * frozen->page_capacity : PAGES_AT_FIRST;
        struct read_back *pages = realloc(frozen->pages, capacity * sizeof(*pages));
        if (!pages) return NULL;
        frozen->pages = pages;
        frozen->page_capacity = capacity;
    }
    struct read_back *page = &frozen->pages[frozen->page_count++];
    *page = (struct read_back){.ref = ref};
    return page;
}

static const struct record *read_page(struct page_access *access, uint64_t ref) {
    struct frozen *frozen = (struct frozen *)(uintptr_t)access->view;
    struct read_back *page = find_page(frozen, ref);
    if (!page && !(page = add_page(frozen, ref))) {
        atomic_store(&frozen->snapshot->lost, true);
        return NULL;
    }
    page->touched = true;
    if (page->record && is_page_of(frozen, page->record, ref)) return page->record;
    free(page->record);
    page->record = NULL;
    page->wanted = true;
    return NULL;
}

/* A new slice begins: pointers into pages of the one before are gone. What that did not look at is forgotten, if there
 * is much of it. */
static void trim_pages(struct frozen *frozen) {
    unsigned kept = 0;
    bool many = frozen->page_count >= PAGES_AT_HAND;
    for (unsigned i = 0; i < frozen->page_count; i++) {
        struct read_back *page = &frozen->pages[i];
        if (many && !page->touched) {
            free(page->record);
            continue;
        }
        page->touched = false;
        frozen->pages[kept++] = *page;
    }
    frozen->page_count = kept;
}

static bool refuse_change(struct page_access *access) {
    (void)access;
    return false;
}

static bool request_page(struct page_access *access, uint64_t ref) {
    return read_page(access, ref) != NULL;
}

static void pass_nothing(struct page_access *access) {
    (void)access;
}

static void drop_nothing(struct page_access *access, uint64_t ref) {
    (void)access;
    (void)ref;
}

static bool want_nothing(struct page_access *access, uint32_t collection, uint32_t number) {
    (void)access;
    (void)collection;
    (void)number;
    return false;
}

static const struct page_source frozen_source = {.read = read_page,
                                                 .request = request_page,
                                                 .pass = pass_nothing,
                                                 .drop = drop_nothing,
                                                 .wanted = want_nothing,
                                                 .begin_change = refuse_change};

/* ---- the lock ---- */

static void lock(struct frozen *frozen) {
    struct keyspace *keyspace = frozen->snapshot->keyspace;
    assert(!frozen->locked);
    for (;;) {
        uint32_t number = __atomic_load_n(&frozen->value.root->shard, __ATOMIC_ACQUIRE);
        keyspace_lock(keyspace, number);
        if (__atomic_load_n(&frozen->value.root->shard, __ATOMIC_RELAXED) == number) {
            frozen->locked = &keyspace->shards[number];
            return;
        }
        keyspace_unlock(keyspace, number);
    }
}

static void unlock(struct frozen *frozen) {
    uint32_t number = frozen->locked->number;
    frozen->locked = NULL;
    keyspace_unlock(frozen->snapshot->keyspace, number);
}

struct page_access *snapshot_collection_lock(struct snapshot_collection *value) {
    struct frozen *frozen = frozen_of(value);
    lock(frozen);
    trim_pages(frozen);
    frozen->access = (struct page_access){.heap = &frozen->locked->heap,
                                          .source = &frozen_source,
                                          .view = frozen,
                                          .shard = frozen->locked,
                                          .keep_access = true};
    return &frozen->access;
}

void snapshot_collection_unlock(struct snapshot_collection *value) {
    unlock(frozen_of(value));
}

bool snapshot_collection_fetch(struct snapshot_collection *value) {
    struct frozen *frozen = frozen_of(value);
    assert(!frozen->locked);
    if (snapshot_is_given_up(frozen->snapshot)) return false;
    for (unsigned i = 0; i < frozen->page_count; i++) {
        struct read_back *page = &frozen->pages[i];
        bool wanted = page->wanted;
        page->wanted = false;
        if (!wanted || (page->record = tier_fetch(frozen->snapshot->keyspace->tier, page->ref))) continue;
        if (++page->failures < READ_TRIES) continue;
        if (!atomic_exchange(&frozen->snapshot->lost, true))
            log_warning("snapshot: a page on the tier cannot be read: it is given up");
        return false;
    }
    return true;
}

bool snapshot_collection_is_of_cut(const struct snapshot_collection *value, uint64_t ref) {
    return tier_frontier_has(((const struct frozen *)value)->snapshot->frontier, ref);
}

/* ---- pinned pages ----
 *
 * The page may leave its collection meanwhile, and the collection its shard; the heap stays: a collection gets none of
 * its own while it is frozen, and what it has lives as long as the frozen one. */

bool snapshot_collection_pin(struct snapshot_collection *value, uint64_t ref) {
    struct frozen *frozen = frozen_of(value);
    struct heap *own = value->root->heap;
    if (own && ref_medium(ref) == MEDIUM_FAR) own = own->far;
    struct heap *heap = own ? own : shard_heap(frozen->locked, ref);
    assert(frozen->locked && !frozen->pinned && !ref_is_cold(ref));
    if (!heap_can_pin(heap, ref_record(ref))) return false;
    heap_pin(heap, ref_record(ref));
    frozen->pinned = ref_record(ref);
    frozen->pinned_heap = own;
    frozen->pinned_in = frozen->locked->number;
    return true;
}

void snapshot_collection_unpin(struct snapshot_collection *value) {
    struct frozen *frozen = frozen_of(value);
    if (frozen->pinned_heap) {
        lock(frozen);
        heap_unpin(frozen->pinned_heap, frozen->pinned);
        unlock(frozen);
    } else {
        keyspace_unpin(frozen->snapshot->keyspace, frozen->pinned_in, frozen->pinned);
    }
    frozen->pinned = NULL;
}

/* ---- life ---- */

struct snapshot_collection *snapshot_freeze(struct keyspace_snapshot *snapshot, struct shard *shard,
                                            const struct record *record) {
    struct span key = record_key(record);
    struct frozen *frozen = malloc(sizeof(*frozen) + key.length);
    if (!frozen) return NULL;
    struct collection *root = collection_freeze(snapshot->keyspace, shard, collection_of(record));
    if (!root) {
        free(frozen);
        return NULL;
    }
    root->set_aside_sum = &snapshot->set_aside_bytes;
    memcpy(frozen->key, key.data, key.length);
    frozen->value = (struct snapshot_collection){.root = root,
                                                 .key = span_of(frozen->key, key.length),
                                                 .expiry_ms = record_expiry(record),
                                                 .access = record_access(record)};
    frozen->snapshot = snapshot;
    frozen->locked = NULL;
    frozen->pinned = NULL;
    frozen->pages = NULL;
    frozen->page_count = frozen->page_capacity = 0;
    return &frozen->value;
}

/* A slice at a time, so that a big one holds up nobody. */
void snapshot_thaw(struct snapshot_collection *value) {
    struct frozen *frozen = frozen_of(value);
    struct keyspace *keyspace = frozen->snapshot->keyspace;
    for (bool more = true; more;) {
        lock(frozen);
        uint32_t number = frozen->locked->number;
        atomic_fetch_sub_explicit(&frozen->snapshot->set_aside_bytes, value->root->set_aside_bytes,
                                  memory_order_relaxed);
        value->root->set_aside_bytes = 0;
        more = collection_thaw(keyspace, frozen->locked, value->root, THAWED_PAGES);
        frozen->locked = NULL;
        keyspace_unlock(keyspace, number);
    }
    for (unsigned i = 0; i < frozen->page_count; i++) free(frozen->pages[i].record);
    free(frozen->pages);
    free(frozen);
}
