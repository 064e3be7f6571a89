/* Fuzzes what is done to a paged_tree: the bytes are a shape, then operations, and a sorted array says what should come
 * of them. Leaves are so small that every few operations split or join some; lengths go past a whole leaf. All pages
 * are in memory: what missing ones change is tested by the unit test. */

#include "record/collection.h"
#include "record/paged_tree.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

enum { ITEMS_MAX = 600, TAIL_MAX = 64, VALUE_MAX = 1 << 10 };

struct input {
    const uint8_t *at;
    size_t left;
};

struct item {
    struct paged_key key; /* without the tail: see key_of() */
    uint16_t tail_length, value_length;
    uint8_t tail_letter, value_letter;
};

struct fuzz {
    struct heap heap;
    struct collection collection;
    struct paged_tree tree;
    struct page_access access;
    struct item items[ITEMS_MAX];
    size_t count;
};

static const struct collection_kind kind = {.type = RECORD_LIST, .encoding = "quicklist"};

static uint8_t next(struct input *input) {
    if (!input->left) return 0;
    input->left--;
    return *input->at++;
}

/* The bytes of a tail or value: letters alike but for the last, so that tails share long beginnings. */
static struct span text(char *room, uint16_t length, uint8_t letter) {
    memset(room, 'a', length);
    if (length) room[length - 1] = (char)letter;
    return span_of(room, length);
}

static struct paged_key key_of(const struct item *item, char room[TAIL_MAX]) {
    struct paged_key key = item->key;
    key.tail = text(room, item->tail_length, item->tail_letter);
    return key;
}

static struct item read_item(const struct fuzz *fuzz, struct input *input) {
    struct item item = {0};
    for (unsigned i = 0; i < fuzz->tree.shape.numbers; i++) {
        uint8_t number = next(input);
        /* Small, wide and outermost numbers, and such that end in zeros. */
        item.key.numbers[i] = number < 192   ? number
                              : number < 224 ? (uint64_t)number << 40
                                             : 0 - (uint64_t)(255 - number);
    }
    if (fuzz->tree.shape.tail) item.tail_length = next(input) % TAIL_MAX, item.tail_letter = next(input);
    if (fuzz->tree.shape.value) {
        uint8_t length = next(input);
        item.value_length = length < 250 ? length % 32 : (uint16_t)(length - 249) * (VALUE_MAX / 8);
        item.value_letter = length;
    }
    return item;
}

static size_t find(const struct fuzz *fuzz, const struct item *item, bool *found) {
    char room[TAIL_MAX], other_room[TAIL_MAX];
    struct paged_key key = key_of(item, room);
    size_t i = 0;
    int order = -1;
    for (; i < fuzz->count; i++) {
        struct paged_key other = key_of(&fuzz->items[i], other_room);
        if ((order = paged_key_compare(&other, &key)) >= 0) break;
    }
    *found = i < fuzz->count && order == 0;
    return i;
}

static void model_insert(struct fuzz *fuzz, size_t i, const struct item *item) {
    memmove(&fuzz->items[i + 1], &fuzz->items[i], (fuzz->count - i) * sizeof(*item));
    fuzz->items[i] = *item;
    fuzz->count++;
}

static void model_remove(struct fuzz *fuzz, size_t i, size_t count) {
    memmove(&fuzz->items[i], &fuzz->items[i + count], (fuzz->count - i - count) * sizeof(*fuzz->items));
    fuzz->count -= count;
}

static void compare(struct fuzz *fuzz) {
    assert(paged_tree_validate(&fuzz->tree, &fuzz->access) && paged_tree_count(&fuzz->tree) == fuzz->count);
    char tail[TAIL_MAX], value[VALUE_MAX];
    struct paged_tree_cursor at;
    size_t i = 0;
    for (paged_tree_first(&at, &fuzz->tree, &fuzz->access); at.valid; paged_tree_next(&at), i++) {
        struct paged_key key = key_of(&fuzz->items[i], tail);
        assert(at.position == i && paged_key_compare(&at.item.key, &key) == 0);
        assert(span_equal(at.item.value, text(value, fuzz->items[i].value_length, fuzz->items[i].value_letter)));
    }
    assert(i == fuzz->count);
}

static void change_by_key(struct fuzz *fuzz, struct input *input, uint8_t operation) {
    char tail[TAIL_MAX], room[VALUE_MAX];
    struct item item = read_item(fuzz, input);
    struct paged_key key = key_of(&item, tail);
    struct span value = text(room, item.value_length, item.value_letter), got;
    bool found;
    uint64_t position;
    size_t i = find(fuzz, &item, &found);
    switch (operation) {
    case 0:
        assert(paged_tree_insert(&fuzz->tree, &fuzz->access, &key, value) == (found ? PAGE_EXISTS : PAGE_DONE));
        if (!found) model_insert(fuzz, i, &item);
        break;
    case 1:
        assert(paged_tree_delete(&fuzz->tree, &fuzz->access, &key) == (found ? PAGE_DONE : PAGE_ABSENT));
        if (found) model_remove(fuzz, i, 1);
        break;
    case 2:
        assert(paged_tree_replace(&fuzz->tree, &fuzz->access, &key, value) == (found ? PAGE_DONE : PAGE_ABSENT));
        if (found) fuzz->items[i] = item;
        break;
    default:
        assert(paged_tree_find(&fuzz->tree, &fuzz->access, &key, &got, &position) == (found ? PAGE_DONE : PAGE_ABSENT));
        if (found) assert(position == i);
        break;
    }
}

static void change_by_position(struct fuzz *fuzz, struct input *input, uint8_t operation) {
    char room[VALUE_MAX];
    size_t i = (next(input) | (size_t)next(input) << 8) % (fuzz->count + 1);
    struct item item = read_item(fuzz, input);
    struct span value = text(room, item.value_length, item.value_letter);
    uint64_t deleted;
    bool there = i < fuzz->count;
    enum page_status status;
    switch (operation) {
    case 0:
        status = paged_tree_insert_at(&fuzz->tree, &fuzz->access, i, value);
        assert(status == PAGE_DONE);
        model_insert(fuzz, i, &item);
        break;
    case 1:
        status = paged_tree_delete_some(&fuzz->tree, &fuzz->access, i, 1, &deleted);
        assert(status == (there ? PAGE_DONE : PAGE_ABSENT));
        if (there) model_remove(fuzz, i, 1);
        break;
    default:
        status = paged_tree_replace_at(&fuzz->tree, &fuzz->access, i, value);
        assert(status == (there ? PAGE_DONE : PAGE_ABSENT));
        if (there) fuzz->items[i] = item;
        break;
    }
}

static void delete_range(struct fuzz *fuzz, struct input *input) {
    size_t first = (next(input) | (size_t)next(input) << 8) % (fuzz->count + 1), count = next(input);
    enum page_status status = paged_tree_delete_range(&fuzz->tree, &fuzz->access, first, count);
    assert(status == (first < fuzz->count ? PAGE_DONE : PAGE_ABSENT));
    model_remove(fuzz, first, count < fuzz->count - first ? count : fuzz->count - first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct region_pool *pool;
    if (!pool) pool = region_pool_create(&(struct region_pool_options){.node = -1, .reserve_bytes = 64ul << 20});
    struct fuzz *fuzz = calloc(1, sizeof(*fuzz));
    assert(pool && fuzz);
    struct input input = {data, size};
    heap_init(&fuzz->heap, pool);
    collection_init(&fuzz->collection, &kind);
    fuzz->collection.id = 1;
    fuzz->access = (struct page_access){.heap = &fuzz->heap};
    uint8_t shape = next(&input);
    paged_tree_init(
        &fuzz->tree, &fuzz->collection.parts[COLLECTION_TREES],
        (struct paged_tree_shape){
            .numbers = shape % 3, .tail = shape & 4, .value = shape & 8, .leaf_bytes = 100 + (shape >> 4) * 30u});
    bool by_key = fuzz->tree.shape.numbers || fuzz->tree.shape.tail;
    while (input.left) {
        uint8_t operation = next(&input) % 16;
        if (operation == 15)
            delete_range(fuzz, &input);
        else if (operation == 14)
            compare(fuzz);
        else if (operation < 8 && fuzz->count >= ITEMS_MAX - 1)
            continue;
        else if (by_key)
            change_by_key(fuzz, &input, operation < 8 ? 0 : (uint8_t)(operation - 7) % 4);
        else
            change_by_position(fuzz, &input, operation < 8 ? 0 : (uint8_t)(operation - 7) % 4);
    }
    compare(fuzz);
    while (paged_tree_clear(&fuzz->tree, &fuzz->access, 3)) continue;
    while (page_table_release(&fuzz->access, fuzz->tree.table, 100)) continue;
    assert(stat_get(&fuzz->heap.sums.live_objects) == 0);
    free(fuzz);
    return 0;
}
