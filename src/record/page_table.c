/* Entries of pages, and the making, changing and freeing of pages in memory. The picture is in page_table.h.
 *
 * A page always occupies exactly the size class of its bytes, as all records do: page_edit() changes it in place when
 * the class stays, and lays it out anew otherwise. So whether a page has to move is arithmetic, and a page of any fill
 * wastes what its class wastes, a few percent.
 *
 * Order of steps in every change: what may fail (reading, allocating) comes first; then the entry is swung, in one
 * store; then the old page is freed. */

#include "record/collection.h"

#include <assert.h>
#include <stdlib.h>

enum { SHORT_PAYLOAD_END = 65536 };

/* What stands for every chunk without a page in the tables of structures that number their pages themselves, so that a
 * few pages with high numbers cost a few chunks. Never written. */
static uint64_t no_entries[PAGE_CHUNK];

/* ---- a page's bytes ---- */

static inline struct heap *heap_of(const struct page_access *access, const struct page_table *table) {
    struct heap *own = table->owner->heap;
    return __builtin_expect(own != NULL, 0) ? own : access->heap;
}

/* Where the page, which is in memory, has its memory from. */
static inline struct heap *heap_with(const struct page_access *access, const struct page_table *table, uint64_t ref) {
    if (__builtin_expect(ref_medium(ref) == MEDIUM_FAR, 0)) return heap_of(access, table)->far;
    return heap_of(access, table);
}

static size_t page_bytes(size_t length) {
    return PAGE_HEADER + (length < SHORT_PAYLOAD_END ? 0 : 2) + length;
}

/* Large allocations ask whether there is room (region.h); so does a command that makes many pages, each megabyte of
 * them. */
static inline bool may_take(struct page_access *access, const struct page_table *table, size_t bytes) {
    size_t before = access->taken / PAGE_GATED_BYTES;
    access->taken += bytes;
    if (__builtin_expect(access->taken / PAGE_GATED_BYTES == before, 1)) return true;
    return region_pool_may_take(heap_of(access, table)->pool, PAGE_GATED_BYTES);
}

static struct record *write_page(struct page_access *access, const struct page_table *table, uint32_t number,
                                 size_t length) {
    assert(length <= PAGE_PAYLOAD_MAX && table->owner->id != UINT32_MAX);
    if (!may_take(access, table, page_bytes(length))) return NULL;
    uint8_t *bytes = heap_allocate(heap_of(access, table), page_bytes(length));
    if (!bytes) return NULL;
    bool is_short = length < SHORT_PAYLOAD_END;
    unsigned width = is_short ? 2 : 4;
    uint32_t id = table->owner->id, key = number | table->part << 31, length32 = (uint32_t)length;
    bytes[0] = RECORD_PAGE | RECORD_RAW << 4;
    bytes[1] = (uint8_t)((is_short ? 2u : 3u) << 3);
    bytes[2] = (uint8_t)access->access;
    bytes[3] = (uint8_t)(access->access >> 8);
    bytes[4] = (uint8_t)(access->access >> 16);
    bytes[5] = PAGE_KEY;
    memcpy(bytes + 6, &length32, width);
    memcpy(bytes + 6 + width, &id, 4);
    memcpy(bytes + 10 + width, &key, 4);
    return (struct record *)bytes;
}

uint32_t page_owner(const struct record *page) {
    uint32_t id;
    memcpy(&id, page_payload(page).data - PAGE_KEY, 4);
    return id;
}

uint32_t page_number(const struct record *page) {
    uint32_t number;
    memcpy(&number, page_payload(page).data - 4, 4);
    return number;
}

static char *payload_of(const struct record *page) {
    return (char *)(uintptr_t)page_payload(page).data;
}

size_t page_payload_filling(size_t length) {
    size_t filling = heap_size_for(page_bytes(length)) - PAGE_HEADER;
    return length < SHORT_PAYLOAD_END ? filling < SHORT_PAYLOAD_END ? filling : SHORT_PAYLOAD_END - 1 : filling - 2;
}

/* ---- entries ---- */

void page_table_init(struct page_table *table, struct collection *owner, unsigned part) {
    *table = (struct page_table){.owner = owner, .part = part, .free_head = PAGE_NONE};
}

size_t page_table_bytes(const struct page_table *table) {
    if (!table->chunk_count) return 0;
    size_t entries = 0;
    for (uint32_t i = 0; i < table->chunk_count; i++)
        if (table->chunks[i] != no_entries) entries += table->chunk_count == 1 ? table->first_capacity : PAGE_CHUNK;
    return entries * sizeof(uint64_t) + table->chunk_capacity * sizeof(*table->chunks);
}

static void free_chunk(uint64_t *chunk) {
    if (chunk != no_entries) free(chunk);
}

/* `empty`: one without a page, which is followed by another. */
static bool add_chunk(struct page_table *table, bool empty) {
    if (table->chunk_count == table->chunk_capacity) {
        uint32_t capacity = table->chunk_capacity ? table->chunk_capacity * 2 : 1;
        uint64_t **chunks = realloc(table->chunks, capacity * sizeof(*chunks));
        if (!chunks) return false;
        table->chunks = chunks;
        table->chunk_capacity = capacity;
    }
    uint32_t entries = table->chunk_count || empty ? PAGE_CHUNK : PAGE_CHUNK_FIRST;
    uint64_t *chunk = empty ? no_entries : malloc(entries * sizeof(*chunk));
    if (!chunk) return false;
    if (!table->chunk_count) table->first_capacity = entries;
    table->chunks[table->chunk_count++] = chunk;
    return true;
}

static bool grow_first_chunk(struct page_table *table) {
    uint64_t *chunk = realloc(table->chunks[0], 2ul * table->first_capacity * sizeof(*chunk));
    if (!chunk) return false;
    table->chunks[0] = chunk;
    table->first_capacity *= 2;
    return true;
}

/* Room for the entries below `end`. */
static bool reserve(struct page_table *table, uint32_t end) {
    for (;;) {
        uint32_t room = table->chunk_count == 1 ? table->first_capacity : table->chunk_count * PAGE_CHUNK;
        if (end <= room) return true;
        bool empty = table->part == COLLECTION_HASH && end - 1 >= (table->chunk_count + 1) * PAGE_CHUNK;
        bool grown = table->chunk_count == 1 && room < PAGE_CHUNK ? grow_first_chunk(table) : add_chunk(table, empty);
        if (!grown) return false;
    }
}

static void extend(struct page_table *table, uint32_t end) {
    for (; table->end < end; table->end++)
        if (table->chunks[table->end / PAGE_CHUNK] != no_entries) *page_entry(table, table->end) = 0;
}

/* Gives the number's chunk entries of its own. Precondition: the table is reserved up to it. */
static bool own_chunk(struct page_table *table, uint32_t number) {
    uint64_t **chunk = &table->chunks[number / PAGE_CHUNK];
    if (*chunk != no_entries) return true;
    uint64_t *own = calloc(PAGE_CHUNK, sizeof(*own));
    if (own) *chunk = own;
    return own != NULL;
}

/* ---- who listens for changes ---- */

static void note(struct page_changes *changes, unsigned part, uint32_t number) {
    size_t word = number / 64;
    if (word >= changes->words[part]) {
        size_t words = word + 64 + word / 2;
        uint64_t *bits = realloc(changes->bits[part], words * sizeof(*bits));
        if (!bits) {
            changes->lost = true;
            return;
        }
        memset(bits + changes->words[part], 0, (words - changes->words[part]) * sizeof(*bits));
        changes->bits[part] = bits;
        changes->words[part] = words;
    }
    changes->bits[part][word] |= UINT64_C(1) << number % 64;
}

static inline void note_change(const struct page_table *table, uint32_t number) {
    if (__builtin_expect(table->owner->changes != NULL, 0)) note(table->owner->changes, table->part, number);
}

/* ---- shared pages ---- */

/* The table of the other one that may have the same pages; NULL: there is none. */
static inline struct page_table *sibling_of(const struct page_table *table) {
    struct collection *other = table->owner->frozen ? table->owner->frozen : table->owner->living;
    return __builtin_expect(other != NULL, 0) ? &other->parts[table->part] : NULL;
}

bool page_is_shared(const struct page_table *table, uint32_t number) {
    const struct page_table *sibling = sibling_of(table);
    return sibling && number < sibling->end && page_ref(sibling, number) == page_ref(table, number);
}

/* The living one leaves its page, which is in memory, to the frozen one. */
static void set_aside(const struct page_table *table, const struct record *page) {
    struct collection *frozen = table->owner->frozen;
    if (!frozen || !frozen->set_aside_sum) return;
    size_t bytes = heap_size_for(record_size(page));
    frozen->set_aside_bytes += bytes;
    atomic_fetch_add_explicit(frozen->set_aside_sum, bytes, memory_order_relaxed);
}

bool page_refers(const struct page_table *table, uint32_t number, uint64_t ref) {
    const struct page_table *sibling = sibling_of(table);
    return (number < table->end && page_ref(table, number) == ref) ||
           (sibling && number < sibling->end && page_ref(sibling, number) == ref);
}

bool page_swing_shared(struct page_table *table, uint32_t number, uint64_t from, uint64_t to) {
    struct page_table *sibling = sibling_of(table);
    bool own = number < table->end && page_ref(table, number) == from;
    bool others = sibling && number < sibling->end && page_ref(sibling, number) == from;
    if (own) page_swing(table, number, to);
    if (others) page_swing(sibling, number, to);
    return own || others;
}

static void free_chunks(struct page_table *table) {
    while (table->chunk_count) free_chunk(table->chunks[--table->chunk_count]);
    free(table->chunks);
    page_table_init(table, table->owner, table->part);
}

static uint64_t *copy_chunk(const struct page_table *from, uint32_t chunk) {
    if (from->chunks[chunk] == no_entries) return no_entries;
    size_t entries = from->chunk_count == 1 ? from->first_capacity : PAGE_CHUNK;
    size_t used = from->end - chunk * PAGE_CHUNK < entries ? from->end - chunk * PAGE_CHUNK : entries;
    uint64_t *copy = malloc(entries * sizeof(*copy));
    if (copy) memcpy(copy, from->chunks[chunk], used * sizeof(*copy));
    return copy;
}

/* Chunks behind the last entry, which a table may keep for a while, are left out. */
bool page_table_share(struct page_table *table, const struct page_table *from) {
    uint32_t chunks = (from->end + PAGE_CHUNK - 1) / PAGE_CHUNK;
    assert(table->chunk_count == 0 && table->end == 0);
    if (from->end == 0) return true;
    if (!(table->chunks = malloc(chunks * sizeof(*table->chunks)))) return false;
    table->chunk_capacity = chunks;
    table->first_capacity = from->chunk_count == 1 ? from->first_capacity : PAGE_CHUNK;
    for (; table->chunk_count < chunks; table->chunk_count++)
        if (!(table->chunks[table->chunk_count] = copy_chunk(from, table->chunk_count))) {
            free_chunks(table);
            return false;
        }
    table->end = from->end;
    table->free_head = from->free_head;
    table->live = from->live;
    table->cold = from->cold;
    table->payload_bytes = from->payload_bytes;
    return true;
}

/* A collection that has to be frozen has been by now. */
static inline void assert_frozen(const struct page_access *access, const struct page_table *table) {
    assert(table->owner->epoch == access->epoch || table->owner->epoch == COLLECTION_KEYLESS);
    (void)access;
    (void)table;
}

/* ---- reading ---- */

/* Puts a copy of the cold page into memory. */
static struct record *bring_back(struct page_access *access, struct page_table *table, uint32_t number,
                                 const struct record *cold, size_t length) {
    struct record *page = write_page(access, table, number, length);
    if (!page) return NULL;
    struct span payload = page_payload(cold);
    memcpy(payload_of(page), payload.data, length < payload.length ? length : payload.length);
    uint64_t old = page_ref(table, number);
    bool shared = page_is_shared(table, number);
    page_swing(table, number, ref_of(page, MEDIUM_DRAM));
    if (!shared) access->source->drop(access, old);
    return page;
}

static inline void use_far(struct page_access *access, const struct page_table *table, uint32_t number) {
    if (access->keep_access || !access->source || !access->source->used_far) return;
    access->source->used_far(access, table->owner->id, number | table->part << 31);
}

static const struct record *read_far(struct page_access *access, struct page_table *table, uint32_t number) {
    struct record *page = ref_record(page_ref(table, number));
    if (!access->keep_access) record_set_access(page, access->access);
    use_far(access, table, number);
    return page;
}

const struct record *page_read_elsewhere(struct page_access *access, struct page_table *table, uint32_t number) {
    if (!ref_is_cold(page_ref(table, number))) return read_far(access, table, number);
    const struct record *page = access->source->read(access, page_ref(table, number));
    if (!page) {
        access->missing = true;
        return NULL;
    }
    /* The page that is promoted stands where it will be read: the copy remains valid as well. Who reads much does not
     * bring all of it back: hotter pages would have to go, and there may be no room for it beside the reply. */
    if (!access->keep_access && !access->leaves_cold && access->taken < PAGE_WANTED_BYTES &&
        access->source->wanted(access, table->owner->id, number | table->part << 31)) {
        struct record *own = bring_back(access, table, number, page, page_payload(page).length);
        if (own) return own;
    }
    return page;
}

bool page_touch(struct page_access *access, struct page_table *table, uint32_t number) {
    uint64_t ref = page_ref(table, number);
    if (!ref_is_cold(ref)) return true;
    if (access->source->read(access, ref)) return true;
    access->missing = true;
    return false;
}

bool page_request(struct page_access *access, struct page_table *table, uint32_t number) {
    uint64_t ref = page_ref(table, number);
    if (!ref_is_cold(ref) || access->source->request(access, ref)) return true;
    access->missing = true;
    return false;
}

void page_pass(struct page_access *access) {
    if (access->source) access->source->pass(access);
}

/* ---- changing ---- */

char *page_edit(struct page_access *access, struct page_table *table, uint32_t number, size_t length) {
    uint64_t ref = page_ref(table, number);
    assert(page_ref_is_page(ref) && length <= PAGE_PAYLOAD_MAX);
    struct record *page;
    if (ref_is_cold(ref)) {
        const struct record *cold = access->source->read(access, ref);
        if (!cold) access->missing = true;
        if (!page_begin_change(access)) return NULL;
        assert_frozen(access, table);
        size_t before = page_payload(cold).length;
        page = bring_back(access, table, number, cold, length);
        if (!page) return NULL;
        note_change(table, number);
        table->payload_bytes += length - before;
        return payload_of(page);
    }
    if (!page_begin_change(access)) return NULL;
    assert_frozen(access, table);
    note_change(table, number);
    page = ref_record(ref);
    size_t before = page_payload(page).length, old_bytes = page_bytes(before), bytes = page_bytes(length);
    bool shared = page_is_shared(table, number);
    bool same_width = !shared && (before < SHORT_PAYLOAD_END) == (length < SHORT_PAYLOAD_END);
    struct record *moved = NULL;
    if (same_width && (length == before || heap_size_for(old_bytes) == heap_size_for(bytes)))
        moved = page;
    else if (same_width && before >= SHORT_PAYLOAD_END && ref_medium(ref) == MEDIUM_DRAM)
        moved = heap_resize_large(heap_of(access, table), page, bytes);
    if (moved) {
        if (ref_medium(ref) == MEDIUM_FAR) use_far(access, table, number);
        if (length != before) record_set_value_length(moved, length);
        if (moved != page) page_swing(table, number, ref_of(moved, MEDIUM_DRAM));
    } else {
        if (!(moved = write_page(access, table, number, length))) return NULL;
        memcpy(payload_of(moved), payload_of(page), length < before ? length : before);
        page_swing(table, number, ref_of(moved, MEDIUM_DRAM));
        if (shared)
            set_aside(table, page);
        else
            heap_free(heap_with(access, table, ref), page);
    }
    if (!access->keep_access) record_set_access(moved, access->access);
    table->payload_bytes += length - before;
    return payload_of(moved);
}

static char *make_page(struct page_access *access, struct page_table *table, uint32_t number, size_t length) {
    struct record *page = write_page(access, table, number, length);
    assert_frozen(access, table);
    if (!page) return NULL;
    *page_entry(table, number) = ref_of(page, MEDIUM_DRAM);
    note_change(table, number);
    table->live++;
    table->payload_bytes += length;
    return payload_of(page);
}

uint32_t page_add(struct page_access *access, struct page_table *table, size_t length, char **payload) {
    if (!page_begin_change(access)) return PAGE_NONE;
    if (table->free_head != PAGE_NONE) {
        uint32_t number = table->free_head, next = (uint32_t)*page_entry(table, number);
        *payload = make_page(access, table, number, length);
        if (!*payload) return PAGE_NONE;
        table->free_head = next;
        return number;
    }
    if (table->end == PAGE_NUMBER_MAX || !reserve(table, table->end + 1)) return PAGE_NONE;
    extend(table, table->end + 1);
    *payload = make_page(access, table, table->end - 1, length);
    if (*payload) return table->end - 1;
    table->end--;
    return PAGE_NONE;
}

char *page_add_at(struct page_access *access, struct page_table *table, uint32_t number, size_t length) {
    assert(number < PAGE_NUMBER_MAX && !page_exists(table, number) && table->free_head == PAGE_NONE);
    if (!page_begin_change(access)) return NULL;
    uint32_t end = table->end;
    if (number >= end) {
        if (!reserve(table, number + 1)) return NULL;
        extend(table, number + 1);
    }
    char *payload = own_chunk(table, number) ? make_page(access, table, number, length) : NULL;
    if (!payload) table->end = end;
    return payload;
}

/* Frees what `ref` leads to, unless it is left to the other one that shares it. */
static void release_page(struct page_access *access, struct page_table *table, uint64_t ref, bool shared) {
    if (ref_is_cold(ref)) {
        if (!shared) access->source->drop(access, ref);
        table->cold--;
    } else if (shared) {
        set_aside(table, ref_record(ref));
    } else {
        heap_free(heap_with(access, table, ref), ref_record(ref));
    }
    table->live--;
}

/* What a cold page counts for is known only roughly without reading it: the average. */
static void forget_bytes(struct page_table *table, uint64_t ref) {
    uint64_t bytes = ref_is_cold(ref) ? table->payload_bytes / table->live : page_payload(ref_record(ref)).length;
    table->payload_bytes -= bytes < table->payload_bytes ? bytes : table->payload_bytes;
}

bool page_drop(struct page_access *access, struct page_table *table, uint32_t number) {
    uint64_t ref = page_ref(table, number);
    assert(page_ref_is_page(ref));
    if (!page_begin_change(access)) return false;
    assert_frozen(access, table);
    bool shared = page_is_shared(table, number);
    forget_bytes(table, ref);
    note_change(table, number);
    *page_entry(table, number) = (uint64_t)PAGE_FREE_MEDIUM << REF_MEDIUM_SHIFT | table->free_head;
    table->free_head = number;
    release_page(access, table, ref, shared);
    return true;
}

bool page_drop_at(struct page_access *access, struct page_table *table, uint32_t number) {
    uint64_t ref = page_ref(table, number);
    assert(page_ref_is_page(ref) && table->free_head == PAGE_NONE);
    if (!page_begin_change(access)) return false;
    assert_frozen(access, table);
    bool shared = page_is_shared(table, number);
    forget_bytes(table, ref);
    note_change(table, number);
    *page_entry(table, number) = 0;
    release_page(access, table, ref, shared);
    while (table->end && *page_entry(table, table->end - 1) == 0) table->end--;
    while (table->chunk_count > 1 && (table->chunk_count - 2) * PAGE_CHUNK >= table->end)
        free_chunk(table->chunks[--table->chunk_count]);
    return true;
}

bool page_table_release(struct page_access *access, struct page_table *table, unsigned budget) {
    while (table->end && budget--) {
        uint32_t number = table->end - 1;
        uint64_t ref = page_ref(table, number);
        bool shared = page_ref_is_page(ref) && page_is_shared(table, number);
        table->end = number;
        if (page_ref_is_page(ref)) release_page(access, table, ref, shared);
        if (table->end % PAGE_CHUNK == 0) free_chunk(table->chunks[--table->chunk_count]);
    }
    if (table->end) return true;
    free_chunks(table);
    return false;
}

void page_table_link_free(struct page_table *table) {
    for (uint32_t i = 0; i < table->end && table->part == COLLECTION_TREES; i++) {
        if (page_exists(table, i)) continue;
        *page_entry(table, i) = (uint64_t)PAGE_FREE_MEDIUM << REF_MEDIUM_SHIFT | table->free_head;
        table->free_head = i;
    }
}

/* ---- putting back ---- */

bool page_table_restore(struct page_table *table, uint32_t end, uint64_t payload_bytes) {
    assert(table->end == 0);
    if (end > PAGE_NUMBER_MAX || !reserve(table, end)) return false;
    extend(table, end);
    table->payload_bytes = payload_bytes;
    return true;
}

bool page_table_restore_page(struct page_table *table, uint32_t number, uint64_t entry) {
    uint64_t ref = entry & PAGE_REF_MASK;
    if (number >= table->end || !page_ref_is_page(ref) || !ref_is_cold(ref) || *page_entry(table, number) != 0)
        return false;
    if (!own_chunk(table, number)) return false;
    *page_entry(table, number) = entry;
    table->live++;
    table->cold++;
    return true;
}

/* ---- claims ---- */

bool page_claim(struct page_table *table, uint32_t number) {
    if (!page_exists(table, number) || page_note(table, number)) return false;
    page_set_note(table, number, 1);
    return true;
}

uint32_t page_table_end_claims(struct page_table *table) {
    uint32_t unclaimed = 0;
    for (uint32_t number = 0; number < table->end; number++) {
        if (!page_exists(table, number)) continue;
        unclaimed += page_note(table, number) == 0;
        page_set_note(table, number, 0);
    }
    return unclaimed;
}

/* ---- checking ---- */

static bool entry_is_valid(const struct page_table *table, uint32_t number) {
    uint64_t ref = page_ref(table, number);
    if (ref_is_cold(ref)) return true;
    const struct record *page = ref_record(ref);
    return record_type(page) == RECORD_PAGE && page_owner(page) == table->owner->id &&
           page_number(page) == (number | table->part << 31);
}

bool page_table_validate(const struct page_table *table) {
    uint32_t live = 0, cold = 0, unused = 0, listed = 0;
    for (uint32_t i = 0; i < table->end; i++) {
        uint64_t ref = page_ref(table, i);
        if (page_ref_is_page(ref)) {
            live++;
            cold += ref_is_cold(ref);
            if (!entry_is_valid(table, i)) return false;
        } else if (ref) {
            unused++;
        }
    }
    for (uint32_t i = table->free_head; i != PAGE_NONE && listed <= unused; listed++) {
        if (i >= table->end || page_ref_is_page(page_ref(table, i))) return false;
        i = (uint32_t)*page_entry(table, i);
    }
    return live == table->live && cold == table->cold && listed == unused;
}
