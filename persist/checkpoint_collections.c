/* Giving a frozen collection: see checkpoint_collections.h.
 *
 * The pages of each part are gone through by stretches. Of a stretch there is an entry for each number, which is 0
 * until it is known where the page stands; a slice, under the lock, fills in what it can and stages what has to be
 * written, and when the lock is free that is appended and its entries are filled in as well. A page that has to be read
 * first is passed over, read without the lock, and met again by the next slice, which begins with the first entry that
 * is missing. Entries and prints then make a chunk.
 *
 * A stretch that was begun is not disturbed by anything: what a frozen page holds never changes, and whatever moves it
 * leaves what was noted of it alone, a reference of the cut as much as an image. */

#include "persist/checkpoint_collections.h"

#include "base/clock.h"
#include "base/crc16.h"
#include "base/stat_counter.h"
#include "persist/checkpoint_root.h"

#include <errno.h>
#include <stdlib.h>

enum {
    SLICE_NS = 80000,
    LOOKED_AT_ONCE = 32, /* entries between two looks at the clock */
    STAGED_BYTES = 256 << 10,
    STAGED_MAX = 512,
    MISSING_MAX = 48,       /* pages that are read between two slices */
    ROOTS_BYTES = 16 << 10, /* gathered of each shard */
    CACHE_LINE = 64,
    PREFETCHED_AHEAD = 4, /* pages, and of each as much as most have */
    PREFETCHED_BYTES = 1024,
};

struct stretch {
    uint32_t first, end; /* numbers */
    uint64_t entries[CHECKPOINT_STRETCH];
    struct checkpoint_print prints[CHECKPOINT_STRETCH]; /* of entries that say so */
};

/* A page that is to be written: where its entry is in the stretch, and what stands beside the reference there. */
struct written {
    const struct record *record;
    uint32_t index;
    uint64_t note;
    struct checkpoint_print print;
};

/* What a slice has copied for the tier. */
struct staged {
    size_t used;
    unsigned count;
    struct written pages[STAGED_MAX];
    char bytes[STAGED_BYTES];
};

/* Roots of a shard, until they make a chunk. */
struct gathered {
    uint32_t database, count;
    struct state_writer bytes;
};

struct checkpoint_collections {
    struct checkpoint_collections_options options;
    const char *failure;                 /* NULL: none */
    struct gathered *gathered;           /* of each shard */
    struct state_writer entries, prints; /* of the collection at hand, if they are to stand with its root */
    stat_counter collections, pages, images, image_bytes, kept;
    struct stretch stretch;
    struct staged staged;
    char payload[sizeof(struct checkpoint_pages) +
                 CHECKPOINT_STRETCH * (sizeof(uint64_t) + sizeof(struct checkpoint_print))];
};

/* A collection that is being given. */
struct giving {
    struct checkpoint_collections *to;
    struct snapshot_collection *value;
    struct checkpoint_known_pages *known;
    uint32_t shard, database, part, pieces;
    bool beside;           /* its pages are to stand with its root */
    uint32_t at;           /* the number where the slice stands */
    uint32_t missing_from; /* the first page met that has to be read; UINT32_MAX: none */
    unsigned missing;      /* how many */
    struct written large;  /* met last, and not copied; record NULL: there is none */
    bool pinned;
};

/* ---- life ---- */

struct checkpoint_collections *checkpoint_collections_create(const struct checkpoint_collections_options *options) {
    struct checkpoint_collections *collections = malloc(sizeof(*collections));
    if (!collections) return NULL;
    memset(collections, 0, offsetof(struct checkpoint_collections, stretch));
    collections->options = *options;
    collections->staged.count = 0;
    collections->staged.used = 0;
    if ((collections->gathered = calloc(options->shards, sizeof(*collections->gathered)))) return collections;
    free(collections);
    return NULL;
}

void checkpoint_collections_destroy(struct checkpoint_collections *collections) {
    if (!collections) return;
    for (uint32_t i = 0; i < collections->options.shards; i++) state_writer_free(&collections->gathered[i].bytes);
    free(collections->gathered);
    state_writer_free(&collections->entries);
    state_writer_free(&collections->prints);
    free(collections);
}

static bool fail(struct checkpoint_collections *collections, const char *why) {
    if (!collections->failure) collections->failure = why;
    return false;
}

static bool write_chunk(struct checkpoint_collections *collections, enum checkpoint_kind kind, uint32_t shard,
                        uint32_t database, uint32_t count, const void *payload, size_t bytes) {
    return checkpoint_writer_add(collections->options.writer, kind, shard, (uint16_t)database, count, payload, bytes) ||
           fail(collections, strerror(errno));
}

/* ---- entries ---- */

/* It is known where the page stands: `ref`, and if there is one its print. */
static void note_entry(struct giving *giving, const struct written *page, uint64_t ref, bool has_print) {
    struct stretch *stretch = &giving->to->stretch;
    stretch->entries[page->index] = page->note | ref | (has_print ? CHECKPOINT_PAGE_HAS_PRINT : 0);
    if (has_print) stretch->prints[page->index] = page->print;
    checkpoint_parts_refer(giving->to->options.parts, ref);
    stat_add(&giving->to->pages, 1);
}

/* Whether an image of it is known; then that is referred to. */
static bool is_kept(struct giving *giving, struct written *page) {
    uint64_t ref;
    uint32_t number = (giving->to->stretch.first + page->index) | giving->part << 31;
    page->print = checkpoint_print_of(page->record, giving->to->options.seed);
    if (!checkpoint_known_pages_find(giving->known, number, &page->print, &ref)) return false;
    note_entry(giving, page, ref, true);
    stat_add(&giving->to->kept, 1);
    return true;
}

/* ---- a slice: the lock is held ---- */

static bool has_room(const struct staged *staged, size_t bytes) {
    return staged->count < STAGED_MAX && bytes <= STAGED_BYTES - staged->used;
}

static void stage(struct staged *staged, const struct written *page, size_t bytes) {
    struct written *copy = &staged->pages[staged->count++];
    *copy = *page;
    copy->record = memcpy(staged->bytes + staged->used, page->record, bytes);
    staged->used += (bytes + 7) & ~(size_t)7;
}

/* True: it was dealt with. False: it ends the slice, either as `large` or to be met again. */
static bool take_record(struct giving *giving, struct written *page, uint64_t ref) {
    size_t bytes = record_size(page->record);
    bool resident = !ref_is_cold(ref);
    if (bytes >= LIMIT_REPLY_COPY_BYTES && (!resident || snapshot_collection_pin(giving->value, ref))) {
        giving->large = *page;
        giving->pinned = resident;
        return false;
    }
    if (is_kept(giving, page)) return true;
    if (!has_room(&giving->to->staged, bytes)) return false;
    stage(&giving->to->staged, page, bytes);
    return true;
}

static bool take_page(struct giving *giving, struct page_access *access, uint64_t entry) {
    uint64_t ref = entry & PAGE_REF_MASK;
    struct written page = {.index = giving->at - giving->to->stretch.first, .note = entry & ~PAGE_REF_MASK};
    if (!ref_is_cold(ref)) {
        page.record = ref_record(ref);
        return take_record(giving, &page, ref);
    }
    if (snapshot_collection_is_of_cut(giving->value, ref)) {
        note_entry(giving, &page, ref, false);
        return true;
    }
    if ((page.record = access->source->read(access, ref))) return take_record(giving, &page, ref);
    if (giving->missing++ == 0) giving->missing_from = giving->at;
    return giving->missing < MISSING_MAX;
}

/* What an earlier slice has dealt with. */
static bool is_done(const struct giving *giving, uint32_t number) {
    return giving->to->stretch.entries[number - giving->to->stretch.first] != 0;
}

static void prefetch(const struct page_table *table, uint32_t number) {
    if (number >= table->end || !page_exists(table, number)) return;
    uint64_t ref = page_ref(table, number);
    if (ref_is_cold(ref)) return;
    for (size_t at = 0; at < PREFETCHED_BYTES; at += CACHE_LINE) __builtin_prefetch((const char *)ref_record(ref) + at);
}

static void fill_slice(struct giving *giving, struct page_access *access) {
    const struct page_table *table = &giving->value->root->parts[giving->part];
    uint32_t end = giving->to->stretch.end;
    uint64_t started = clock_ticks();
    for (unsigned looked = 1; giving->at < end; giving->at++, looked++) {
        if (looked % LOOKED_AT_ONCE == 0 && clock_elapsed_ns(started) >= SLICE_NS) return;
        prefetch(table, giving->at + PREFETCHED_AHEAD);
        if (!page_exists(table, giving->at) || is_done(giving, giving->at)) continue;
        if (!take_page(giving, access, *page_entry(table, giving->at))) return;
    }
}

/* ---- between slices: no lock is held ---- */

static bool append_staged(struct giving *giving) {
    struct checkpoint_collections *to = giving->to;
    struct staged *staged = &to->staged;
    const struct record *records[STAGED_MAX];
    uint64_t refs[STAGED_MAX];
    for (unsigned i = 0; i < staged->count; i++) {
        records[i] = staged->pages[i].record;
        stat_add(&to->image_bytes, record_size(records[i]));
    }
    if (!checkpoint_parts_append(to->options.parts, giving->shard, giving->database, records, staged->count, refs))
        return false;
    for (unsigned i = 0; i < staged->count; i++) note_entry(giving, &staged->pages[i], refs[i], true);
    stat_add(&to->images, staged->count);
    staged->count = 0;
    staged->used = 0;
    return true;
}

/* A page that was pinned, or is a copy of its own. */
static bool append_large(struct giving *giving) {
    struct checkpoint_collections *to = giving->to;
    struct written *page = &giving->large;
    uint64_t ref;
    if (!page->record) return true;
    bool good = is_kept(giving, page);
    if (!good && checkpoint_parts_append(to->options.parts, giving->shard, giving->database, &page->record, 1, &ref)) {
        note_entry(giving, page, ref, true);
        stat_add(&to->images, 1);
        stat_add(&to->image_bytes, record_size(page->record));
        good = true;
    }
    if (giving->pinned) snapshot_collection_unpin(giving->value);
    page->record = NULL;
    return good;
}

static bool take_slice(struct giving *giving) {
    giving->missing = 0;
    giving->missing_from = UINT32_MAX;
    struct page_access *access = snapshot_collection_lock(giving->value);
    fill_slice(giving, access);
    snapshot_collection_unlock(giving->value);
    bool written = append_large(giving) && append_staged(giving);
    if (!written || !giving->missing) return written;
    giving->at = giving->missing_from;
    return snapshot_collection_fetch(giving->value) || fail(giving->to, "a page of a collection cannot be read");
}

/* ---- stretches ---- */

/* For the root, with which all of them stand. */
static void keep_beside(struct checkpoint_collections *to) {
    const struct stretch *stretch = &to->stretch;
    state_write(&to->entries, stretch->entries, (stretch->end - stretch->first) * sizeof(stretch->entries[0]));
    for (uint32_t i = 0; i < stretch->end - stretch->first; i++)
        if (stretch->entries[i] & CHECKPOINT_PAGE_HAS_PRINT)
            state_write(&to->prints, &stretch->prints[i], sizeof(stretch->prints[i]));
}

/* The chunk of it, from the first page to the last. */
static bool write_stretch(struct giving *giving) {
    struct checkpoint_collections *to = giving->to;
    const struct stretch *stretch = &to->stretch;
    uint32_t begin = 0, end = stretch->end - stretch->first;
    while (begin < end && !stretch->entries[begin]) begin++;
    while (end > begin && !stretch->entries[end - 1]) end--;
    if (begin == end) return true;
    const struct checkpoint_pages head = {.first = (stretch->first + begin) | giving->part << 31};
    char *at = to->payload;
    memcpy(at, &head, sizeof(head));
    memcpy(at += sizeof(head), stretch->entries + begin, (end - begin) * sizeof(uint64_t));
    at += (end - begin) * sizeof(uint64_t);
    for (uint32_t i = begin; i < end; i++) {
        if (!(stretch->entries[i] & CHECKPOINT_PAGE_HAS_PRINT)) continue;
        memcpy(at, &stretch->prints[i], sizeof(stretch->prints[i]));
        at += sizeof(stretch->prints[i]);
    }
    return write_chunk(to, CHECKPOINT_PAGES, giving->value->root->id, 0, end - begin, to->payload,
                       (size_t)(at - to->payload));
}

static bool give_stretch(struct giving *giving, uint32_t first, uint32_t end) {
    struct stretch *stretch = &giving->to->stretch;
    stretch->first = first;
    stretch->end = end;
    memset(stretch->entries, 0, (end - first) * sizeof(stretch->entries[0]));
    checkpoint_known_pages_bring(giving->known, giving->value->root->id, first | giving->part << 31);
    giving->at = first;
    while (giving->at < end)
        if (!take_slice(giving)) return false;
    if (!giving->beside) return write_stretch(giving);
    keep_beside(giving->to);
    return true;
}

static bool give_pages(struct giving *giving) {
    for (giving->part = 0; giving->part < COLLECTION_PARTS; giving->part++) {
        uint32_t end = page_table_end(&giving->value->root->parts[giving->part]);
        for (uint32_t first = 0; first < end; first += CHECKPOINT_STRETCH) {
            uint32_t length = end - first < CHECKPOINT_STRETCH ? end - first : CHECKPOINT_STRETCH;
            if (!give_stretch(giving, first, first + length)) return false;
        }
    }
    return true;
}

/* ---- roots ---- */

static bool write_roots(struct checkpoint_collections *collections, uint32_t shard) {
    struct gathered *gathered = &collections->gathered[shard];
    if (gathered->count == 0) return true;
    bool written = write_chunk(collections, CHECKPOINT_ROOTS, shard, gathered->database, gathered->count,
                               gathered->bytes.bytes, gathered->bytes.length);
    gathered->count = 0;
    gathered->bytes.length = 0;
    return written;
}

static bool write_piece(void *ctx, const void *bytes, size_t length) {
    struct giving *giving = ctx;
    return write_chunk(giving->to, CHECKPOINT_STATES, giving->value->root->id, 0, giving->pieces++, bytes, length);
}

static struct span pages_beside(struct giving *giving) {
    struct checkpoint_collections *to = giving->to;
    if (!giving->beside) return span_of(NULL, 0);
    state_write(&to->entries, to->prints.bytes, to->prints.length);
    return span_of(to->entries.bytes, to->entries.length);
}

static bool gather_root(struct giving *giving, struct gathered *gathered) {
    const struct collection *root = giving->value->root;
    struct state_writer state = {.piece = write_piece, .ctx = giving};
    const struct checkpoint_root_key key = {
        .name = giving->value->key, .expiry_ms = giving->value->expiry_ms, .access = giving->value->access};
    checkpoint_root_begin(&state, key.name);
    bool saved = root->kind->save(root, &state) && !state.failed;
    checkpoint_root_write(&gathered->bytes, root, &key, giving->pieces, span_of(state.bytes, state.length),
                          pages_beside(giving));
    gathered->count++;
    state_writer_free(&state);
    return saved && !giving->to->entries.failed && !giving->to->prints.failed && !gathered->bytes.failed;
}

static bool give_root(struct giving *giving) {
    struct gathered *gathered = &giving->to->gathered[giving->shard];
    if ((gathered->database != giving->database || gathered->bytes.length >= ROOTS_BYTES) &&
        !write_roots(giving->to, giving->shard))
        return false;
    gathered->database = giving->database;
    return gather_root(giving, gathered) || fail(giving->to, "there is no memory");
}

/* ---- giving ---- */

bool checkpoint_collections_give(struct checkpoint_collections *collections, uint32_t database,
                                 struct snapshot_collection *value, struct checkpoint_known_pages *known) {
    struct giving giving = {.to = collections,
                            .value = value,
                            .known = known,
                            .shard = cluster_slot_of(value->key) >> collections->options.shard_shift,
                            .database = database,
                            .beside = checkpoint_root_has_pages(value->root)};
    stat_add(&collections->collections, 1);
    collections->entries.length = collections->prints.length = 0;
    checkpoint_known_pages_begin(known, giving.shard, database, value->walked);
    return give_pages(&giving) && give_root(&giving);
}

bool checkpoint_collections_end(struct checkpoint_collections *collections) {
    for (uint32_t shard = 0; shard < collections->options.shards; shard++)
        if (!write_roots(collections, shard)) return false;
    return true;
}

/* ---- figures ---- */

const char *checkpoint_collections_failure(const struct checkpoint_collections *collections) {
    return collections->failure;
}

struct checkpoint_collections_figures checkpoint_collections_figures(const struct checkpoint_collections *collections) {
    return (struct checkpoint_collections_figures){.collections = stat_get(&collections->collections),
                                                   .pages = stat_get(&collections->pages),
                                                   .images = stat_get(&collections->images),
                                                   .image_bytes = stat_get(&collections->image_bytes),
                                                   .kept = stat_get(&collections->kept)};
}
