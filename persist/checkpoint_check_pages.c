/* Big collections of a checkpoint that is checked: see checkpoint_check.h for what is kept of a damaged one.
 *
 * Each is made again as a start would make it, root and tables, but that only pages which are in order are put into the
 * tables. If all are there it is in order. If some are missing, its type may know how to do without them
 * (collection_kind.mend), for which it reads the others. A repair writes what it has then in its hands: the root and
 * the tables; prints are left out, which only a server that is running could use. */

#include "persist/checkpoint_check_private.h"
#include "persist/checkpoint_root.h"
#include "record/reference.h"

#include <stdlib.h>

/* A collection, as its root's chunk has it. */
struct check_root {
    struct checking *checking;
    struct checkpoint_root_view view; /* points into the chunk */
    uint32_t shard, database, pieces;
    struct collection *made;
    uint64_t lost; /* pages */
};

/* ---- pages ---- */

static const struct record *page_at(struct checking *checking, const struct collection *made, uint32_t number,
                                    uint64_t ref) {
    const struct record *page = checking_record(checking, ref);
    bool its_own =
        page && record_type(page) == RECORD_PAGE && page_owner(page) == made->id && page_number(page) == number;
    return its_own ? page : NULL;
}

/* `count` entries, of numbers from `first` on, the part in the highest bit. False: there is no memory. */
static bool take_pages(struct check_root *root, uint32_t first, const char *entries, uint32_t count) {
    struct checking *checking = root->checking;
    struct check_reference *pages = malloc((count ? count : 1) * sizeof(*pages));
    uint32_t there = 0;
    for (uint32_t i = 0; pages && i < count; i++) {
        uint64_t entry;
        memcpy(&entry, entries + i * sizeof(entry), sizeof(entry));
        if (entry) pages[there++] = (struct check_reference){.ref = entry & ~CHECKPOINT_PAGE_HAS_PRINT, .at = i};
    }
    if (pages) checking_sort(pages, there);
    struct page_table *table = &root->made->parts[first >> 31];
    for (uint32_t i = 0; pages && i < there; i++) {
        uint32_t number = first + pages[i].at;
        if (!page_at(checking, root->made, number, pages[i].ref & PAGE_REF_MASK) ||
            !page_table_restore_page(table, number & (PAGE_NUMBER_MAX - 1), pages[i].ref))
            checking_note(checking, "a page of a big collection is not there");
    }
    free(pages);
    return pages != NULL;
}

static bool take_pages_beside(struct check_root *root) {
    const uint32_t *end = root->view.root.end;
    const char *entries = root->view.pages.data;
    return take_pages(root, 0, entries, end[0]) &&
           take_pages(root, PAGE_NUMBER_MAX, entries + end[0] * sizeof(uint64_t), end[1]);
}

static void take_all_pages(struct check_root *root) {
    struct checking *checking = root->checking;
    const struct checkpoint_reader *reader = checking->reader;
    uint32_t chunks = checkpoint_reader_chunks(reader);
    struct checkpoint_pages head;
    if (checkpoint_root_entries(&root->view.root)) {
        checking->failed |= !take_pages_beside(root);
        return;
    }
    for (uint32_t i = checkpoint_reader_find(reader, CHECKPOINT_PAGES, root->made->id); i < chunks; i++) {
        const struct checkpoint_place *place = checkpoint_reader_place(reader, i);
        if (place->kind != CHECKPOINT_PAGES || place->shard != root->made->id || checking->failed) return;
        char *payload = checking_read(checking, i);
        if (payload) memcpy(&head, payload, sizeof(head));
        if (payload && !take_pages(root, head.first, payload + sizeof(head), place->count)) checking->failed = true;
        free(payload);
    }
}

/* ---- mending ---- */

static const struct record *read_page(struct page_access *access, uint64_t ref) {
    return checking_record((struct checking *)(uintptr_t)access->view, ref);
}

static void drop_nothing(struct page_access *access, uint64_t ref) {
    (void)access;
    (void)ref;
}

static bool refuse_change(struct page_access *access) {
    (void)access;
    return false;
}

static const struct page_source pool_source = {.read = read_page, .drop = drop_nothing, .begin_change = refuse_change};

static bool mend(const struct check_root *root) {
    struct page_access access = {.source = &pool_source, .view = root->checking, .keep_access = true};
    const struct collection_kind *kind = root->made->kind;
    return root->lost == 0 || (kind->mend && kind->mend(root->made, &access));
}

/* ---- a new checkpoint ---- */

static bool keep_piece(void *ctx, const void *bytes, size_t length) {
    struct check_root *root = ctx;
    checking_keep(root->checking, CHECKPOINT_STATES, root->made->id, 0, root->pieces++, bytes, length);
    return !root->checking->failed;
}

/* All numbers of a part, for the root. */
static void keep_beside(const struct check_root *root, unsigned part, struct state_writer *pages) {
    const struct page_table *table = &root->made->parts[part];
    for (uint32_t i = 0; i < table->end; i++) {
        bool there = page_exists(table, i);
        state_write_u64(pages, there ? *page_entry(table, i) : 0);
        if (there) checking_refer(root->checking, page_ref(table, i));
    }
}

/* The stretch from `first` on, as far as it has pages. */
static void keep_stretch(const struct check_root *root, unsigned part, uint32_t first) {
    struct {
        struct checkpoint_pages head;
        uint64_t entries[CHECKPOINT_STRETCH];
    } payload = {.head.first = first | part << 31};
    const struct page_table *table = &root->made->parts[part];
    uint32_t count = 0;
    for (uint32_t i = 0; i < CHECKPOINT_STRETCH && first + i < table->end; i++) {
        if (!page_exists(table, first + i)) continue;
        payload.entries[i] = *page_entry(table, first + i);
        checking_refer(root->checking, page_ref(table, first + i));
        count = i + 1;
    }
    if (count)
        checking_keep(root->checking, CHECKPOINT_PAGES, root->made->id, 0, count, &payload,
                      sizeof(payload.head) + count * sizeof(payload.entries[0]));
}

static void keep_pages(const struct check_root *root, struct state_writer *beside) {
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        if (checkpoint_root_has_pages(root->made)) {
            keep_beside(root, part, beside);
            continue;
        }
        for (uint32_t first = 0; first < root->made->parts[part].end; first += CHECKPOINT_STRETCH)
            keep_stretch(root, part, first);
    }
}

static void keep_collection(struct check_root *root) {
    struct checking *checking = root->checking;
    struct state_writer state = {.piece = keep_piece, .ctx = root}, pages = {0}, out = {0};
    const struct checkpoint_root_key key = {
        .name = root->view.key, .expiry_ms = root->view.root.expiry_ms, .access = root->view.root.access};
    keep_pages(root, &pages);
    checkpoint_root_begin(&state, key.name);
    bool saved = root->made->kind->save(root->made, &state);
    checkpoint_root_write(&out, root->made, &key, root->pieces, span_of(state.bytes, state.length),
                          span_of(pages.bytes, pages.length));
    checking->failed = checking->failed || !saved || pages.failed || out.failed;
    checking_keep(checking, CHECKPOINT_ROOTS, root->shard, root->database, 1, out.bytes, out.length);
    state_writer_free(&state);
    state_writer_free(&pages);
    state_writer_free(&out);
}

/* ---- collections ---- */

/* The root with its tables, empty; NULL: it cannot be. */
static struct collection *make(const struct checking *checking, struct checkpoint_root_view *view) {
    struct collection *made = checkpoint_root_load(checking->reader, view, checking->seed);
    if (!made) return NULL;
    collection_init(made, checkpoint_root_kind(view->root.type));
    made->id = view->root.collection;
    made->next_expiry_ms = view->root.next_expiry_ms;
    return made;
}

static bool make_tables(const struct check_root *root) {
    const struct checkpoint_root *head = &root->view.root;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        if (!page_table_restore(&root->made->parts[part], head->end[part], head->payload_bytes[part])) return false;
    return true;
}

static void unmake(struct collection *made) {
    struct page_access access = {.source = &pool_source};
    while (made->kind->release && made->kind->release(made, UINT32_MAX)) continue;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++)
        while (page_table_release(&access, &made->parts[part], UINT32_MAX)) continue;
    free(made);
}

static void look_at_root(struct check_root *root) {
    struct checking *checking = root->checking;
    const struct checkpoint_root *head = &root->view.root;
    uint64_t there;
    if (!(root->made = make(checking, &root->view))) {
        checking_note(checking, "the root of a big collection is damaged");
        checking->health->lost_keys++;
        return;
    }
    checking->failed |= !make_tables(root);
    if (!checking->failed) take_all_pages(root);
    there = (uint64_t)root->made->parts[0].live + root->made->parts[1].live;
    root->lost = (uint64_t)head->live[0] + head->live[1] - there;
    if (checking->failed || !mend(root)) {
        checking->health->lost_keys++;
    } else {
        checking->health->keys++;
        checking->health->pages += there;
        checking->health->lost_pages += root->lost;
        keep_collection(root);
    }
    unmake(root->made);
}

static void look_at_roots(struct checking *checking, const struct checkpoint_place *place, const char *payload) {
    struct span rest = span_of(payload, place->bytes);
    for (uint32_t i = 0; i < place->count && !checking->failed; i++) {
        struct check_root root = {.checking = checking, .shard = place->shard, .database = place->database};
        if (!checkpoint_root_next(&rest, &root.view)) {
            checking_note(checking, "the root of a big collection is damaged");
            checking->health->lost_keys += place->count - i;
            return;
        }
        look_at_root(&root);
        free(root.view.long_key);
    }
}

void checking_collections(struct checking *checking) {
    for (uint32_t i = checkpoint_reader_find(checking->reader, CHECKPOINT_ROOTS, 0);
         i < checkpoint_reader_chunks(checking->reader) && !checking->failed; i++) {
        const struct checkpoint_place *place = checkpoint_reader_place(checking->reader, i);
        if (place->kind != CHECKPOINT_ROOTS) return;
        char *payload = checking_read(checking, i);
        if (payload) look_at_roots(checking, place, payload);
        free(payload);
    }
}
