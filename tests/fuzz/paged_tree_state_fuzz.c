/* Fuzzes what makes a paged_tree from the bytes of a checkpoint: the first byte is its shape, the second how long
 * pieces are, the others its state. What is accepted has to be a tree over the pages that there are, all of them cold,
 * and to be told as the same bytes again. */

#include "record/collection.h"
#include "record/paged_tree.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

enum { PAGES = 40 };

struct input {
    const uint8_t *at;
    size_t left, piece;
};

static const struct collection_kind kind = {.type = RECORD_LIST, .encoding = "quicklist"};

static const struct record *read_nothing(struct page_access *access, uint64_t ref) {
    (void)access;
    (void)ref;
    return NULL;
}

static void drop_nothing(struct page_access *access, uint64_t ref) {
    (void)access;
    (void)ref;
}

static const struct page_source source = {.read = read_nothing, .drop = drop_nothing};

static bool next_piece(void *ctx, struct span *piece) {
    struct input *input = ctx;
    size_t length = input->left < input->piece ? input->left : input->piece;
    *piece = span_of((const char *)input->at, length);
    input->at += length;
    input->left -= length;
    return length > 0;
}

/* Of pages nothing is looked at. */
static void make_pages(struct page_table *table, struct heap *heap) {
    struct page_access access = {.heap = heap};
    for (uint32_t i = 0; i < PAGES; i++) {
        char *payload;
        uint32_t number = page_add(&access, table, 64, &payload);
        struct record *record = ref_record(page_ref(table, number));
        page_swing(table, number, (uint64_t)MEDIUM_TIER_SHARED << REF_MEDIUM_SHIFT | (i + 1));
        heap_free(heap, record);
    }
}

static void expect_same_bytes(const struct paged_tree *tree, const uint8_t *data, size_t size) {
    struct state_writer out = {0};
    paged_tree_save(tree, &out);
    assert(!out.failed && out.length == size && memcmp(out.bytes, data, size) == 0);
    state_writer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct region_pool *pool;
    if (!pool) pool = region_pool_create(&(struct region_pool_options){.node = -1, .reserve_bytes = 64ul << 20});
    if (size < 2) return 0;
    struct heap heap;
    struct collection collection;
    struct paged_tree tree;
    struct input input = {data + 2, size - 2, 1u + data[1]};
    struct state_reader in = {.piece = next_piece, .ctx = &input};
    struct page_access access = {.heap = &heap, .source = &source, .keep_access = true};
    assert(pool);
    heap_init(&heap, pool);
    collection_init(&collection, &kind);
    collection.id = 1;
    struct page_table *table = &collection.parts[COLLECTION_TREES];
    make_pages(table, &heap);
    paged_tree_init(&tree, table,
                    (struct paged_tree_shape){.numbers = data[0] % 3, .tail = data[0] & 4, .value = true});
    if (paged_tree_load(&tree, &in) && state_read_all(&in)) {
        expect_same_bytes(&tree, data + 2, size - 2);
        if (paged_tree_claim(&tree)) {
            (void)page_table_end_claims(table);
            assert(paged_tree_validate(&tree, &access) && page_table_validate(table));
        }
    }
    while (paged_tree_release(&tree, 100)) continue;
    assert(paged_tree_bytes(&tree) == 0);
    while (page_table_release(&access, table, 100)) continue;
    assert(stat_get(&heap.sums.live_objects) == 0);
    return 0;
}
