#ifndef TERRACE_RECORD_PAGE_TABLE_H
#define TERRACE_RECORD_PAGE_TABLE_H

/* The pages of a big collection: which there are, and where each is.
 *
 * A page is a record of its own (record.h), so it is placed, moved, tiered and saved as any other. Its type is
 * RECORD_PAGE; its key says whose it is:
 *
 *    0      1      2..4     5        6..7              8..11        12..15     16
 *   +------+------+--------+--------+-----------------+------------+----------+-------------- - -
 *   | type | flags| access | 8 (key | payload length  | collection | page     | payload
 *   |      |      |        | length)| (2, or 4 bytes) | id         | number   |
 *   +------+------+--------+--------+-----------------+------------+----------+-------------- - -
 *
 * (With a payload of 64 KB or more the length takes four bytes and the rest stands two bytes further.)
 *
 * The table is an array of entries in DRAM, the page's one reference:
 *
 *    63                48 47                                            0
 *   +--------------------+-----------------------------------------------+
 *   | note (16 bits)     | reference (reference.h); 0: there is no page  |
 *   +--------------------+-----------------------------------------------+
 *
 * The note is the owner's, and known without touching the page: paged_hash keeps the number of its items there.
 * Entries stand in chunks of 512 (the first chunk grows from 4), so that no growth moves more than a chunk and the
 * array of chunks. Numbers that were given up are used again (`free_head`, linked through their entries).
 *
 * A collection has two tables, part 0 and part 1, so that a structure which numbers its pages itself (paged_hash: page
 * = bucket) can stand beside one that does not care (paged_tree). The page number within a page's key has the part in
 * its highest bit.
 *
 * Reading and changing. All goes through a struct page_access, made anew for each command. A page that is on a tier and
 * not at hand is missing: page_read() answers NULL and the access remembers it (`missing`). From then on the access
 * changes nothing any more: the command is going to be run again when the page has come. So whoever composes an answer
 * may just go on, which has the other pages it needs requested at the same time; whoever changes something sees a
 * failure, as if there were no memory, and leaves everything as it was. After the first change of a command, pages are
 * read on the spot and never missing (but may be unreadable, which looks the same and is told in the reply).
 *
 * A page in far memory is read and changed where it lies; what lays it out anew, because its size class changes, puts
 * it into DRAM.
 *
 * Pages shared with a frozen copy of the collection (collection.h) are changed as if they were cold: the change is made
 * to a copy, and the page is left to the frozen one, as is one that is dropped or comes back from the tier.
 *
 * Threads: the lock of the shard whose collection it is. Pointers to a payload hold until the next call that changes
 * the same table or makes a page; those of a cold page until the command's end, or page_pass(). */

#include "base/span.h"
#include "base/stat_counter.h"
#include "memory/heap.h"
#include "record/reference.h"

#include <stdint.h>

struct collection;
struct page_access;

#define PAGE_NONE         UINT32_MAX
#define PAGE_NUMBER_MAX   (UINT32_C(1) << 31) /* pages of a table are below */
#define PAGE_GATED_BYTES  REGION_GATED_BYTES
#define PAGE_WANTED_BYTES (UINT32_C(64) << 10) /* a command that has taken so much brings no more pages back */
#define PAGE_PAYLOAD_MAX  (UINT32_C(600) << 20)
enum { PAGE_CHUNK = 512, PAGE_CHUNK_FIRST = 4, PAGE_HEADER = 16, PAGE_KEY = 8 };

struct page_table {
    uint64_t **chunks;
    struct collection *owner;
    uint32_t chunk_count, chunk_capacity; /* of the array of chunks */
    uint32_t first_capacity;              /* entries of the first chunk, while there is only one */
    uint32_t end;                         /* one more than the highest number ever in use */
    uint32_t free_head;                   /* PAGE_NONE: none */
    uint32_t live, cold;                  /* pages; of these, on a tier */
    uint32_t part;
    uint64_t payload_bytes; /* of all pages, in memory or not */
};

/* How pages that are not in memory are had; what the keyspace provides. All with the access they were called through.
 */
struct page_source {
    /* The page's copy, good for reading during this command; NULL: missing (or unreadable). */
    const struct record *(*read)(struct page_access *access, uint64_t ref);
    /* For page_request(). */
    bool (*request)(struct page_access *access, uint64_t ref);
    /* Of the copies that were read on the spot none is looked at any more. */
    void (*pass)(struct page_access *access);
    /* Nothing refers to it any more. */
    void (*drop)(struct page_access *access, uint64_t ref);
    /* A cold page was used: whether it should come back into memory. */
    bool (*wanted)(struct page_access *access, uint32_t collection, uint32_t number);
    /* The command is about to change something for the first time: false when it will be run again. */
    bool (*begin_change)(struct page_access *access);
    /* A page in far memory was used. It stays where it is while the command runs. NULL: nobody wants to know. */
    void (*used_far)(struct page_access *access, uint32_t collection, uint32_t number);
};

struct page_access {
    struct heap *heap;
    const struct page_source *source; /* NULL: every page is in memory, and changes are always allowed */
    const void *view;                 /* the source's */
    void *shard;                      /* the source's */
    uint32_t access;                  /* access bits of what is used now */
    size_t taken;                     /* bytes of pages it made: room for each PAGE_GATED_BYTES is asked for */
    uint8_t epoch;                    /* the shard's: what is changed must have been frozen, if it has to be */
    bool keep_access;                 /* looking is not using */
    bool leaves_cold;                 /* what is read on a tier stays there, however often it is used */
    bool missing;                     /* a page was not at hand: answers are not true, and changes are refused */
};

void page_table_init(struct page_table *table, struct collection *owner, unsigned part);

/* Number of pages there are, and one more than the highest number in use. */
static inline uint32_t page_table_live(const struct page_table *table) {
    return table->live;
}
static inline uint32_t page_table_end(const struct page_table *table) {
    return table->end;
}

/* Where an entry stands. Precondition: number < table->end. */
static inline uint64_t *page_entry(const struct page_table *table, uint32_t number) {
    return &table->chunks[number / PAGE_CHUNK][number % PAGE_CHUNK];
}
#define PAGE_REF_MASK ((UINT64_C(1) << 48) - 1)
static inline uint64_t page_ref(const struct page_table *table, uint32_t number) {
    return *page_entry(table, number) & PAGE_REF_MASK;
}
/* The medium code of an entry that is on the free list. */
#define PAGE_FREE_MEDIUM 7
static inline bool page_ref_is_page(uint64_t ref) {
    return ref != 0 && (enum medium)PAGE_FREE_MEDIUM != ref_medium(ref);
}
static inline bool page_exists(const struct page_table *table, uint32_t number) {
    return number < table->end && page_ref_is_page(page_ref(table, number));
}
static inline bool page_is_cold(const struct page_table *table, uint32_t number) {
    return ref_is_cold(page_ref(table, number));
}

static inline unsigned page_note(const struct page_table *table, uint32_t number) {
    return (unsigned)(*page_entry(table, number) >> 48);
}
static inline void page_set_note(const struct page_table *table, uint32_t number, unsigned note) {
    uint64_t *entry = page_entry(table, number);
    *entry = (*entry & PAGE_REF_MASK) | (uint64_t)note << 48;
}

/* Of the record: the payload, whose page it is, its number with the part in the highest bit. */
static inline struct span page_payload(const struct record *page) {
    unsigned width = record_value_width(page);
    const char *at = (const char *)page + RECORD_HEADER_FIXED + 1;
    return span_of(at + width + PAGE_KEY, record_load_length((const uint8_t *)at, width));
}
uint32_t page_owner(const struct record *page);
uint32_t page_number(const struct record *page);

/* Of a page that is not in DRAM. */
const struct record *page_read_elsewhere(struct page_access *access, struct page_table *table, uint32_t number);

/* The payload; `data` is NULL when the page is missing. Precondition: it exists. */
static inline struct span page_read(struct page_access *access, struct page_table *table, uint32_t number) {
    uint64_t ref = page_ref(table, number);
    const struct record *page;
    if (__builtin_expect(ref_medium(ref) != MEDIUM_DRAM, 0)) {
        page = page_read_elsewhere(access, table, number);
        if (!page) return span_of(NULL, 0);
    } else {
        page = ref_record(ref);
        if (!access->keep_access) record_set_access((struct record *)(uintptr_t)page, access->access);
    }
    return page_payload(page);
}

/* Whether it is at hand; has it requested if not. */
bool page_touch(struct page_access *access, struct page_table *table, uint32_t number);
/* The same for who can read it on the spot when he comes to it: it is requested as long as few are. False: something is
 * missing, and the command is going to be run again. */
bool page_request(struct page_access *access, struct page_table *table, uint32_t number);
/* Cold pages that the command has read until now are not looked at any more, of whatever collection: their copies may
 * go. For who reads more pages than there may be room for at once. */
void page_pass(struct page_access *access);

/* The payload, now `length` bytes long, to be changed: bytes that were there stay, as many as fit; added ones are
 * undefined. A page in memory whose size class stays the same is changed in place, so shrinking is done after the bytes
 * have been moved together, growing before. NULL: missing, or no memory; nothing has changed. */
char *page_edit(struct page_access *access, struct page_table *table, uint32_t number, size_t length)
    __attribute__((warn_unused_result));

/* Makes a page with an undefined payload and note 0, at the next free number; PAGE_NONE: no memory, or not now. */
uint32_t page_add(struct page_access *access, struct page_table *table, size_t length, char **payload)
    __attribute__((warn_unused_result));
/* The same at a number where there is none, for structures that number their pages themselves; they use no other.
 * Numbers between the end and it become empty entries. NULL: as above. */
char *page_add_at(struct page_access *access, struct page_table *table, uint32_t number, size_t length)
    __attribute__((warn_unused_result));

/* Gives the page up. It need not be at hand. False: not now (access->missing). page_drop_at() is for structures that
 * number their pages themselves: the highest numbers that are empty leave the table. */
bool page_drop(struct page_access *access, struct page_table *table, uint32_t number)
    __attribute__((warn_unused_result));
bool page_drop_at(struct page_access *access, struct page_table *table, uint32_t number)
    __attribute__((warn_unused_result));

/* Whether a change may be made now; the first one of a command settles it (see above). Structures ask before they
 * change anything outside pages. */
static inline bool page_begin_change(struct page_access *access) {
    return !access->missing && (!access->source || access->source->begin_change(access));
}

/* How long a payload may be for its page to fill the same size class as one of `length`: what a page that is going to
 * grow, or is to be full, should be made for. */
size_t page_payload_filling(size_t length);

/* Frees about `budget` pages, also cold ones, whatever the access says of changes, but for those that are shared; true:
 * there are more. When there are
 * none, what the table has allocated is freed, and it may be initialised again or forgotten. */
bool page_table_release(struct page_access *access, struct page_table *table, unsigned budget);

/* Bytes of chunks. */
size_t page_table_bytes(const struct page_table *table);

/* ---- for those who move pages: the keyspace ---- */

/* The reference now is `to`; the note stays. */
static inline void page_swing(struct page_table *table, uint32_t number, uint64_t to) {
    uint64_t *entry = page_entry(table, number);
    table->cold += (uint32_t)ref_is_cold(to) - (uint32_t)ref_is_cold(*entry & PAGE_REF_MASK);
    *entry = (*entry & ~PAGE_REF_MASK) | to;
}

/* Whether the page, which exists, also belongs to the frozen copy of its collection, or to the living one. */
bool page_is_shared(const struct page_table *table, uint32_t number);
/* Whether the entry, or that of the frozen copy, is this reference. */
bool page_refers(const struct page_table *table, uint32_t number, uint64_t ref);
/* Swings the entry from one reference to another wherever it stands, in the table or in that of its frozen copy. False:
 * in neither. */
bool page_swing_shared(struct page_table *table, uint32_t number, uint64_t from, uint64_t to);
/* Makes an empty table a copy of another, with the same pages and notes; its owner and part stay. False: no memory,
 * nothing changed. */
bool page_table_share(struct page_table *table, const struct page_table *from) __attribute__((warn_unused_result));

/* After pages were made by page_add_at() in a table that is to be used by page_add(): lists the empty numbers
 * as free. Nothing to do for a table whose user numbers the pages himself (COLLECTION_HASH). */
void page_table_link_free(struct page_table *table);

/* ---- putting back what a checkpoint told ---- */

/* Makes an empty table of numbers below `end`, with no page yet; all that will come have so many bytes of payload.
 * False: no memory; what there is of the table goes with page_table_release(). */
bool page_table_restore(struct page_table *table, uint32_t end, uint64_t payload_bytes)
    __attribute__((warn_unused_result));
/* Puts a page that is on a tier in its place, with its note. False: it cannot be there (the number, the reference, or
 * there is one already), or there is no memory. In the end page_table_link_free(). */
bool page_table_restore_page(struct page_table *table, uint32_t number, uint64_t entry)
    __attribute__((warn_unused_result));

/* Then, for a table whose user leaves numbers to it (COLLECTION_TREES) and has no use for notes, which are what claims
 * are: something leads to the page. False: it is not there, or something else does. */
bool page_claim(struct page_table *table, uint32_t number) __attribute__((warn_unused_result));
/* When everything has claimed what is its own: claims are forgotten. Returns the number of pages to which nothing
 * leads; there should be none, and they are the table's until it is released. */
uint32_t page_table_end_claims(struct page_table *table);

/* Checks entries, counts and pages in memory; for tests and debug builds. */
bool page_table_validate(const struct page_table *table);

#endif
