/* Rows of bytes in pages: see paged_bytes.h.
 *
 * Invariants: a page's number is its place in the row; its payload has PAGED_BYTES_PAGE bytes; the bytes behind the
 * end of the row are zero in the pages that exist, so that growing is a matter of the length alone.
 *
 * A change that spans pages takes two passes. The first makes every page ready, that is, existing and in memory: all
 * that can fail is done there, and nothing of it can be seen, since a page that was made holds zeros. Pages made are
 * noted (NOTE_FRESH, in their entries) until the second pass writes them, so that a failure can give them up again. */

#include "record/paged_bytes.h"

#include "base/number.h"

#include <assert.h>
#include <stdlib.h>

enum { NOTE_FRESH = 1 };

/* The part of a range that lies in one page. */
struct stretch {
    uint32_t number;
    uint32_t begin, length; /* within the page */
};

static struct page_table *pages_of(struct paged_bytes *bytes) {
    return &bytes->collection.parts[COLLECTION_HASH];
}

static struct stretch first_stretch(uint64_t offset, uint64_t end) {
    struct stretch stretch = {.number = (uint32_t)(offset / PAGED_BYTES_PAGE),
                              .begin = (uint32_t)(offset % PAGED_BYTES_PAGE)};
    uint64_t room = PAGED_BYTES_PAGE - stretch.begin;
    stretch.length = (uint32_t)(end - offset < room ? end - offset : room);
    return stretch;
}

static uint64_t pages_holding(uint64_t length) {
    return (length + PAGED_BYTES_PAGE - 1) / PAGED_BYTES_PAGE;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* ---- the kind ---- */

static struct collection *copy_root(const struct collection *collection) {
    struct paged_bytes *copy = calloc(1, sizeof(*copy));
    if (!copy) return NULL;
    copy->length = ((const struct paged_bytes *)collection)->length;
    return &copy->collection;
}

static bool validate_root(struct collection *collection, struct page_access *access) {
    return paged_bytes_validate(paged_bytes_of(collection), access);
}

/* Elements are bits, by their number. */
static void prefetch(const struct collection *collection, struct span element, unsigned step) {
    (void)step; /* there is one */
    const struct page_table *pages = &collection->parts[COLLECTION_HASH];
    int64_t bit;
    if (!number_parse_i64(element, &bit) || bit < 0) return;
    uint64_t number = (uint64_t)bit / 8 / PAGED_BYTES_PAGE;
    if (number >= page_table_end(pages) || !page_exists(pages, (uint32_t)number)) return;
    uint64_t ref = page_ref(pages, (uint32_t)number);
    if (!ref_is_cold(ref))
        __builtin_prefetch(page_payload(ref_record(ref)).data + (uint64_t)bit / 8 % PAGED_BYTES_PAGE, 1);
}

static bool save(const struct collection *collection, struct state_writer *out) {
    state_write_u64(out, ((const struct paged_bytes *)collection)->length);
    return !out->failed;
}

static struct collection *load(struct state_reader *in, uint64_t seed) {
    (void)seed;
    uint64_t length = state_read_u64(in);
    struct paged_bytes *bytes = in->failed || length > PAGED_BYTES_MAX ? NULL : calloc(1, sizeof(*bytes));
    if (!bytes) return NULL;
    bytes->length = length;
    return &bytes->collection;
}

/* Every page is full; which there are is the row's own business. */
static bool loaded(struct collection *collection, struct page_access *access) {
    (void)access;
    const struct page_table *pages = &collection->parts[COLLECTION_HASH];
    return page_table_end(pages) <= pages_holding(PAGED_BYTES_MAX) &&
           pages->payload_bytes == (uint64_t)page_table_live(pages) * PAGED_BYTES_PAGE;
}

const struct collection_kind paged_bytes_kind = {.type = RECORD_STRING,
                                                 .encoding = "raw",
                                                 .copy_root = copy_root,
                                                 .save = save,
                                                 .load = load,
                                                 .loaded = loaded,
                                                 .prefetch = prefetch,
                                                 .prefetch_steps = 1,
                                                 .validate = validate_root,
                                                 .root_bytes = sizeof(struct paged_bytes)};

/* ---- reading ---- */

/* page_touch() or page_request() for each page of the range; true: for each of them. */
static bool ask_for(struct paged_bytes *bytes, struct page_access *access, uint64_t offset, uint64_t length,
                    bool (*ask)(struct page_access *access, struct page_table *table, uint32_t number)) {
    struct page_table *pages = pages_of(bytes);
    if (!pages->cold || !length || offset >= bytes->length) return true;
    uint64_t last = (smaller(length, bytes->length - offset) + offset - 1) / PAGED_BYTES_PAGE;
    bool at_hand = true;
    for (uint64_t i = offset / PAGED_BYTES_PAGE; i <= last && i < page_table_end(pages); i++)
        if (page_exists(pages, (uint32_t)i) && !ask(access, pages, (uint32_t)i)) at_hand = false;
    return at_hand;
}

bool paged_bytes_touch(struct paged_bytes *bytes, struct page_access *access, uint64_t offset, uint64_t length) {
    return ask_for(bytes, access, offset, length, page_touch);
}

bool paged_bytes_request(struct paged_bytes *bytes, struct page_access *access, uint64_t offset, uint64_t length) {
    return ask_for(bytes, access, offset, length, page_request);
}

void paged_bytes_walk_range(struct paged_bytes_walk *walk, struct paged_bytes *bytes, struct page_access *access,
                            uint64_t offset, uint64_t length) {
    uint64_t at = smaller(offset, bytes->length);
    *walk = (struct paged_bytes_walk){
        .bytes = bytes, .access = access, .at = at, .end = at + smaller(length, bytes->length - at)};
}

/* Where the zeros that begin at page `number`, which does not exist, end. */
static uint64_t end_of_zeros(const struct page_table *pages, uint32_t number, uint64_t limit) {
    uint32_t next = number + 1;
    while (next < page_table_end(pages) && !page_exists(pages, next)) next++;
    return next < page_table_end(pages) ? smaller((uint64_t)next * PAGED_BYTES_PAGE, limit) : limit;
}

bool paged_bytes_walk_next(struct paged_bytes_walk *walk, struct paged_bytes_piece *piece) {
    if (walk->at >= walk->end) return false;
    struct page_table *pages = pages_of(walk->bytes);
    struct stretch stretch = first_stretch(walk->at, walk->end);
    *piece = (struct paged_bytes_piece){.offset = walk->at, .length = stretch.length};
    if (page_exists(pages, stretch.number)) {
        struct span payload = page_read(walk->access, pages, stretch.number);
        if (payload.data) piece->data = payload.data + stretch.begin;
    } else {
        piece->length = end_of_zeros(pages, stretch.number, walk->end) - walk->at;
    }
    walk->at += piece->length;
    return true;
}

enum page_status paged_bytes_read(struct paged_bytes *bytes, struct page_access *access, uint64_t offset, void *to,
                                  size_t length) {
    struct paged_bytes_walk walk;
    struct paged_bytes_piece piece;
    size_t filled = 0;
    paged_bytes_walk_range(&walk, bytes, access, offset, length);
    while (paged_bytes_walk_next(&walk, &piece)) {
        if (piece.data)
            memcpy((char *)to + filled, piece.data, piece.length);
        else
            memset((char *)to + filled, 0, piece.length);
        filled += piece.length;
    }
    memset((char *)to + filled, 0, length - filled);
    return access->missing ? PAGE_MISSING : PAGE_DONE;
}

/* ---- changing ---- */

static enum page_status failure(const struct page_access *access) {
    return access->missing ? PAGE_MISSING : PAGE_NO_MEMORY;
}

/* Has the page in memory; one that is made is fresh, and zeros unless all of it is about to be written. */
static bool make_ready(struct page_access *access, struct page_table *pages, uint32_t number, bool zeroed) {
    if (page_exists(pages, number)) return page_edit(access, pages, number, PAGED_BYTES_PAGE) != NULL;
    char *payload = page_add_at(access, pages, number, PAGED_BYTES_PAGE);
    if (!payload) return false;
    if (zeroed) memset(payload, 0, PAGED_BYTES_PAGE);
    page_set_note(pages, number, NOTE_FRESH);
    return true;
}

/* Precondition: changes have begun, so that it cannot be refused. */
static void give_up(struct page_access *access, struct page_table *pages, uint32_t number) {
    bool dropped = page_drop_at(access, pages, number);
    assert(dropped);
}

/* Pages of the range are no longer fresh: they stay, or, if `go`, they are given up. */
static void settle_fresh(struct page_access *access, struct page_table *pages, uint64_t offset, uint64_t end, bool go) {
    for (uint64_t i = offset / PAGED_BYTES_PAGE; i < pages_holding(end) && i < page_table_end(pages); i++) {
        uint32_t number = (uint32_t)i;
        if (!page_exists(pages, number) || page_note(pages, number) != NOTE_FRESH) continue;
        page_set_note(pages, number, 0);
        if (go) give_up(access, pages, number);
    }
}

/* The first pass. `data` is what will be written, NULL: anything may be. */
static enum page_status make_all_ready(struct paged_bytes *bytes, struct page_access *access, uint64_t offset,
                                       uint64_t end, const char *data) {
    struct page_table *pages = pages_of(bytes);
    if (!paged_bytes_touch(bytes, access, offset, end - offset)) return PAGE_MISSING;
    if (!page_begin_change(access)) return failure(access);
    for (uint64_t at = offset; at < end;) {
        struct stretch stretch = first_stretch(at, end);
        bool stays_absent =
            data && !page_exists(pages, stretch.number) && bytes_are_zero(data + (at - offset), stretch.length);
        bool whole = data && stretch.length == PAGED_BYTES_PAGE;
        if (!stays_absent && !make_ready(access, pages, stretch.number, !whole)) {
            settle_fresh(access, pages, offset, end, true);
            return failure(access);
        }
        at += stretch.length;
    }
    return PAGE_DONE;
}

/* The commonest: inside one page that exists. */
static enum page_status write_one(struct page_access *access, struct page_table *pages, struct stretch stretch,
                                  const char *data) {
    char *payload = page_edit(access, pages, stretch.number, PAGED_BYTES_PAGE);
    if (!payload) return failure(access);
    memcpy(payload + stretch.begin, data, stretch.length);
    return PAGE_DONE;
}

uint8_t *paged_bytes_edit_byte(struct paged_bytes *bytes, struct page_access *access, uint64_t offset) {
    struct page_table *pages = pages_of(bytes);
    uint32_t number = (uint32_t)(offset / PAGED_BYTES_PAGE);
    if (offset >= bytes->length || !page_exists(pages, number) || page_is_cold(pages, number)) return NULL;
    char *payload = page_edit(access, pages, number, PAGED_BYTES_PAGE);
    return payload ? (uint8_t *)payload + offset % PAGED_BYTES_PAGE : NULL;
}

/* The second pass: the pages are in memory, nothing can fail. */
static void write_ready(struct page_access *access, struct page_table *pages, uint64_t offset, struct span data) {
    uint64_t end = offset + data.length;
    for (uint64_t at = offset; at < end;) {
        struct stretch stretch = first_stretch(at, end);
        if (page_exists(pages, stretch.number)) {
            enum page_status status = write_one(access, pages, stretch, data.data + (at - offset));
            assert(status == PAGE_DONE);
            page_set_note(pages, stretch.number, 0);
        }
        at += stretch.length;
    }
}

enum page_status paged_bytes_write(struct paged_bytes *bytes, struct page_access *access, uint64_t offset,
                                   struct span data) {
    struct page_table *pages = pages_of(bytes);
    uint64_t end = offset + data.length;
    assert(end <= PAGED_BYTES_MAX);
    if (!data.length) return PAGE_DONE;
    struct stretch first = first_stretch(offset, end);
    bool simple = first.length == data.length && page_exists(pages, first.number);
    enum page_status status =
        simple ? write_one(access, pages, first, data.data) : make_all_ready(bytes, access, offset, end, data.data);
    if (status != PAGE_DONE) return status;
    if (!simple) write_ready(access, pages, offset, data);
    if (end > bytes->length) bytes->length = end;
    return PAGE_DONE;
}

enum page_status paged_bytes_prepare(struct paged_bytes *bytes, struct page_access *access, uint64_t offset,
                                     uint64_t length) {
    assert(offset + length <= PAGED_BYTES_MAX);
    enum page_status status = make_all_ready(bytes, access, offset, offset + length, NULL);
    if (status == PAGE_DONE) settle_fresh(access, pages_of(bytes), offset, offset + length, false);
    return status;
}

enum page_status paged_bytes_set_length(struct paged_bytes *bytes, struct page_access *access, uint64_t length) {
    assert(length <= PAGED_BYTES_MAX);
    if (length < bytes->length) {
        enum page_status status = paged_bytes_zero(bytes, access, length, bytes->length - length);
        if (status != PAGE_DONE) return status;
    } else if (!page_begin_change(access)) {
        return failure(access);
    }
    bytes->length = length;
    return PAGE_DONE;
}

/* The part of a page at the edge of a range; has the page in memory. False: it could not be had. */
static bool edge_ready(struct page_access *access, struct page_table *pages, struct stretch stretch) {
    return stretch.length == PAGED_BYTES_PAGE || !page_exists(pages, stretch.number) ||
           page_edit(access, pages, stretch.number, PAGED_BYTES_PAGE);
}

/* Precondition: the edges are ready. */
static void zero_ready(struct page_access *access, struct page_table *pages, struct stretch stretch) {
    if (!page_exists(pages, stretch.number)) return;
    if (stretch.length == PAGED_BYTES_PAGE) {
        give_up(access, pages, stretch.number);
        return;
    }
    char *payload = page_edit(access, pages, stretch.number, PAGED_BYTES_PAGE);
    assert(payload);
    memset(payload + stretch.begin, 0, stretch.length);
}

enum page_status paged_bytes_zero(struct paged_bytes *bytes, struct page_access *access, uint64_t offset,
                                  uint64_t length) {
    struct page_table *pages = pages_of(bytes);
    if (!length || offset >= bytes->length) return PAGE_DONE;
    uint64_t end = offset + smaller(length, bytes->length - offset);
    /* What follows the end is zeros anyway: the last page goes as a whole. */
    if (end == bytes->length) end = pages_holding(end) * PAGED_BYTES_PAGE;
    struct stretch head = first_stretch(offset, end);
    uint64_t tail_at = (end - 1) / PAGED_BYTES_PAGE * PAGED_BYTES_PAGE;
    struct stretch tail = first_stretch(tail_at > offset ? tail_at : offset, end);
    bool at_hand = head.length == PAGED_BYTES_PAGE || paged_bytes_touch(bytes, access, offset, 1);
    if (tail.length < PAGED_BYTES_PAGE && !paged_bytes_touch(bytes, access, tail_at, 1)) at_hand = false;
    if (!at_hand) return PAGE_MISSING;
    if (!page_begin_change(access) || !edge_ready(access, pages, head) || !edge_ready(access, pages, tail))
        return failure(access);
    for (uint64_t at = offset; at < end;) {
        struct stretch stretch = first_stretch(at, end);
        zero_ready(access, pages, stretch);
        at += stretch.length;
    }
    return PAGE_DONE;
}

/* ---- checking ---- */

bool paged_bytes_validate(struct paged_bytes *bytes, struct page_access *access) {
    struct page_table *pages = pages_of(bytes);
    if (!page_table_validate(pages) || page_table_live(&bytes->collection.parts[COLLECTION_TREES])) return false;
    if (bytes->length > PAGED_BYTES_MAX || page_table_end(pages) > pages_holding(PAGED_BYTES_MAX)) return false;
    for (uint32_t i = 0; i < page_table_end(pages); i++) {
        if (!page_exists(pages, i)) continue;
        struct span payload = page_read(access, pages, i);
        if (page_note(pages, i) || (payload.data && payload.length != PAGED_BYTES_PAGE)) return false;
        uint64_t begin = (uint64_t)i * PAGED_BYTES_PAGE;
        uint64_t held = begin < bytes->length ? smaller(bytes->length - begin, PAGED_BYTES_PAGE) : 0;
        if (payload.data && !bytes_are_zero(payload.data + held, PAGED_BYTES_PAGE - held)) return false;
    }
    return true;
}
