#ifndef TERRACE_RECORD_COLLECTION_H
#define TERRACE_RECORD_COLLECTION_H

/* The root of a big (paged) collection: what stays in DRAM of it beside the index slot and the record of its key.
 *
 *   index slot --> record (key, expiry; RECORD_PAGED; value: 8 bytes, the root's address)
 *                    --> root: struct collection, then what the type needs (paged_hash, paged_tree ...)
 *                          --> page tables --> pages: records in any medium
 *
 * A type's root begins with a struct collection and comes from malloc. The keyspace makes the record that leads to it,
 * knows all roots by their id, frees them in slices, and moves their pages; the type knows what is in the pages. The
 * record of the key never leaves memory.
 *
 * A collection of many megabytes has a heap of its own, so that it can go from one shard to another (RENAME) without
 * any page being touched; and a second one (the heap's `far`) for its pages in far memory, from the first of these on.
 *
 * The id is the collection's as long as it lives, whatever its key is renamed to, and in whichever shard.
 *
 * A snapshot freezes a collection by copying its root and its tables (keyspace/keyspace_snapshot.h). The two share
 * pages: a page belongs to both as long as both tables have the same reference under the same number, and to the one
 * that has it otherwise. A frozen root has the id and the heap of the living one, and is neither registered nor on a
 * list.
 *
 * Threads: the lock of the shard in which the key is. */

#include "record/page_table.h"
#include "record/state.h"

enum { COLLECTION_PARTS = 2, COLLECTION_TREES = 1, COLLECTION_HASH = 0 };
enum { COLLECTION_KEYLESS = 0xff }; /* the epoch of one that no key leads to yet: of no snapshot */

/* Which pages changed since somebody began to listen: for whoever copies a collection in slices while it is in use. */
struct page_changes {
    uint64_t *bits[COLLECTION_PARTS]; /* a bit for each page number */
    size_t words[COLLECTION_PARTS];
    bool lost; /* there was no memory to note one */
};

struct collection_kind {
    enum record_type type;
    const char *encoding; /* as OBJECT ENCODING names it: "hashtable", "skiplist", "quicklist", "stream", "raw" */
    /* Frees a part of what the root holds outside of its pages, in about `budget` steps; true: there is more. Called
     * before the pages are freed, until it returns false; the root itself is freed by the keyspace. NULL: nothing. */
    bool (*release)(struct collection *collection, unsigned budget);
    /* Frees about `budget` pages that were cut off (paged_tree.h); true: there are more. Budget 0 only asks. NULL:
     * there are never any. */
    bool (*tidy)(struct collection *collection, struct page_access *access, unsigned budget);
    /* A root of its own for a copy: the same contents and page numbers, its tables initialised and still empty (the
     * keyspace copies the pages). NULL: no memory. */
    struct collection *(*copy_root)(const struct collection *collection);
    size_t (*bytes)(const struct collection *collection); /* outside of pages and page tables; NULL: the root alone */
    /* Asks the processor for the memory in which this element is looked up, or the next one put, in `prefetch_steps`
     * steps: each reads what the one before has asked for. Step 0 reads the root. NULL: not worth it. */
    void (*prefetch)(const struct collection *collection, struct span element, unsigned step);
    unsigned prefetch_steps;
    /* The four below bring a collection through a checkpoint.
     *
     * Writes what the root knows besides its pages; the pages themselves are none of its business, those included
     * that were cut off. Of a frozen collection, all of which but its tables is its walker's: no lock is held, the
     * tables are not looked at. False: out->failed. */
    bool (*save)(const struct collection *collection, struct state_writer *out);
    /* A root of which `in` tells, as copy_root() makes one, its tables still empty. `seed` is the keyspace's. The bytes
     * come from a file: all that is in them is checked. NULL: damaged, or no memory. The keyspace then puts the pages
     * into the tables. */
    struct collection *(*load)(struct state_reader *in, uint64_t seed);
    /* The tables are filled; false: they are not those of this root. Reads no page, but notes. */
    bool (*loaded)(struct collection *collection, struct page_access *access);
    /* Pages were lost, and are not in the tables. Makes the root right for those that are left, reading them all;
     * false: nothing can be made of them. NULL: a collection of which a page is lost is lost. */
    bool (*mend)(struct collection *collection, struct page_access *access);
    /* Checks everything; for tests and debug builds. */
    bool (*validate)(struct collection *collection, struct page_access *access);
    size_t root_bytes;
};

struct collection {
    const struct collection_kind *kind;
    struct page_table parts[COLLECTION_PARTS];
    struct page_changes *changes; /* who listens; NULL: nobody */
    struct collection *frozen;    /* as it was at the cut, sharing pages; NULL: there is none */
    struct collection *living;    /* of a frozen one: whose pages it shares; NULL: gone, or not frozen */
    union {
        struct collection *next_untidy; /* of those with pages that were cut off and are still to be freed */
        size_t set_aside_bytes;         /* of a frozen one: its pages in memory that the living one has left to it */
    };
    union {
        struct collection *next_big;   /* of those with heaps of their own */
        _Atomic size_t *set_aside_sum; /* of a frozen one: over all of them; NULL: nobody wants to know */
    };
    struct heap *heap; /* of a collection that is big: its pages in memory; NULL: they are in the shard's heap */
    uint32_t id;
    uint32_t shard;
    struct collection *next, *previous; /* all of the shard, for its demotion hand; or those to be freed */
    int64_t next_expiry_ms; /* of elements (fields with a TTL): none is due before; INT64_MAX: none has one */
    uint8_t epoch;          /* the shard's when it was made or frozen last; COLLECTION_KEYLESS */
    bool untidy;            /* it is on that list */
    bool demote;            /* its pages are to go to the tier: TIER DEMOTE */
    uint32_t demoted; /* ... and so many have been looked at, those of the second part behind those of the first */
};

static inline void collection_init(struct collection *collection, const struct collection_kind *kind) {
    collection->kind = kind;
    for (unsigned i = 0; i < COLLECTION_PARTS; i++) page_table_init(&collection->parts[i], collection, i);
    collection->heap = NULL;
    collection->changes = NULL;
    collection->frozen = collection->living = NULL;
    collection->next_untidy = collection->next_big = NULL;
    collection->epoch = 0;
    collection->id = UINT32_MAX;
    collection->shard = 0;
    collection->next = collection->previous = NULL;
    collection->next_expiry_ms = INT64_MAX;
    collection->untidy = false;
    collection->demote = false;
    collection->demoted = 0;
}

/* The root that a record with encoding RECORD_PAGED leads to. */
static inline struct collection *collection_of(const struct record *record) {
    struct collection *collection;
    memcpy(&collection, record_value(record).data, sizeof(struct collection *));
    return collection;
}

static inline bool collection_has_cold_pages(const struct collection *collection) {
    for (unsigned i = 0; i < COLLECTION_PARTS; i++)
        if (collection->parts[i].cold > 0) return true;
    return false;
}

#endif
