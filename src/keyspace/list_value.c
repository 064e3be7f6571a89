/* Lists: see list_value.h.
 *
 * Packed: a listpack, exactly as Redis has it, changed where it is, with room to spare on both sides (packed_list.h):
 * one of half a kilobyte or more that grows gets an eighth more than it needs, and gives back what it shrinks by when
 * more than a quarter is spare, so that stacks and queues are not moved to another size class, or within their record,
 * with each element. Big: a paged_tree without keys; integers are spelled out there.
 *
 * A packed list becomes big before an element comes that would take it past its limits, by Redis's reckoning: the bytes
 * there are and the new texts, without what an entry costs around them. */

#include "keyspace/list_value.h"

#include "record/packed_list.h"

#include <stdlib.h>

enum {
    SPARE_LEAST = 512, /* bytes of a list that has room to spare: to move less is cheap */
    SPARE_PART = 8,    /* room for a part of it is made when it grows */
    SPARE_KEPT = 4,    /* and the room for more than such a part given back when it shrinks */
    SEARCH_AHEAD = 32, /* leaves that a search asks for at least before it has to wait for them */
};

/* ---- the root ---- */

static struct list_root *root_of(const struct collection *collection) {
    return (struct list_root *)(uintptr_t)collection;
}

static struct paged_tree_shape shape(void) {
    return (struct paged_tree_shape){.value = true, .leaf_bytes = PAGED_TREE_LIST_BYTES};
}

static bool release_root(struct collection *collection, unsigned budget) {
    return paged_tree_release(&root_of(collection)->elements, budget);
}

static bool tidy_root(struct collection *collection, struct page_access *access, unsigned budget) {
    return paged_tree_drop_cut(&root_of(collection)->elements, access, budget, NULL, NULL);
}

static struct collection *copy_root(const struct collection *collection) {
    struct list_root *copy = malloc(sizeof(*copy));
    if (!copy) return NULL;
    collection_init(&copy->collection, collection->kind);
    if (paged_tree_copy(&root_of(collection)->elements, &copy->elements, &copy->collection.parts[COLLECTION_TREES]))
        return &copy->collection;
    free(copy);
    return NULL;
}

static bool save(const struct collection *collection, struct state_writer *out) {
    paged_tree_save(&root_of(collection)->elements, out);
    return !out->failed;
}

static struct collection *load(struct state_reader *in, uint64_t seed) {
    struct list_root *root = calloc(1, sizeof(*root));
    (void)seed;
    if (!root) return NULL;
    paged_tree_init(&root->elements, &root->collection.parts[COLLECTION_TREES], shape());
    if (paged_tree_load(&root->elements, in)) return &root->collection;
    while (paged_tree_release(&root->elements, UINT32_MAX)) continue;
    free(root);
    return NULL;
}

static bool loaded(struct collection *collection, struct page_access *access) {
    (void)access;
    if (!paged_tree_claim(&root_of(collection)->elements)) return false;
    (void)page_table_end_claims(&collection->parts[COLLECTION_TREES]);
    return page_table_live(&collection->parts[COLLECTION_HASH]) == 0;
}

static size_t root_bytes(const struct collection *collection) {
    return sizeof(struct list_root) + paged_tree_bytes(&root_of(collection)->elements);
}

static bool validate_root(struct collection *collection, struct page_access *access) {
    return paged_tree_validate(&root_of(collection)->elements, access);
}

const struct collection_kind list_kind = {.type = RECORD_LIST,
                                          .encoding = "quicklist",
                                          .release = release_root,
                                          .tidy = tidy_root,
                                          .copy_root = copy_root,
                                          .save = save,
                                          .load = load,
                                          .loaded = loaded,
                                          .bytes = root_bytes,
                                          .validate = validate_root,
                                          .root_bytes = sizeof(struct list_root)};

/* ---- opening ---- */

struct list_limits list_limits_of(int64_t list_max_listpack_size) {
    enum { SMALLEST = 4096, SIZES = 5, BESIDE_COUNT = 8192 };
    if (list_max_listpack_size >= 0) {
        int64_t count = list_max_listpack_size ? list_max_listpack_size : 1;
        return (struct list_limits){BESIDE_COUNT, count < UINT32_MAX ? (uint32_t)count : UINT32_MAX};
    }
    int64_t step = list_max_listpack_size < -SIZES ? SIZES : -list_max_listpack_size;
    return (struct list_limits){(size_t)SMALLEST << (step - 1), UINT32_MAX};
}

static const uint8_t *packed_bytes(const struct list_value *list) {
    return packed_list_elements((const uint8_t *)record_value(list->lookup.record).data);
}

static enum page_status failure(const struct list_value *list) {
    const struct view *view = list->view;
    return list->access.missing || (view->waiter && view->waiter->outstanding) ? PAGE_MISSING : PAGE_NO_MEMORY;
}

/* What the lookup now leads to. */
static void attach(struct list_value *list) {
    const struct record *record = list->lookup.record;
    list->root = record && record_is_paged(record) ? root_of(collection_of(record)) : NULL;
}

static struct page_access pages_of(const struct list_value *list) {
    return keyspace_pages(list->view, &list->view->keyspace->shards[list->key->shard]);
}

bool list_value_open(struct list_value *list, const struct view *view, const struct key *key,
                     enum list_purpose purpose) {
    *list = (struct list_value){.view = view, .key = key};
    list->lookup = purpose == LIST_FOR_READ ? keyspace_read(view, key) : keyspace_find_for_write(view, key);
    if (list->lookup.record && record_type(list->lookup.record) != RECORD_LIST) {
        list->lookup.record = NULL;
        return false;
    }
    attach(list);
    list->access = pages_of(list);
    return true;
}

uint64_t list_value_length(const struct list_value *list) {
    if (!list->lookup.record) return 0;
    return list->root ? paged_tree_count(&list->root->elements) : listpack_count(packed_bytes(list));
}

/* ---- reading ---- */

static void show(struct list_cursor *cursor) {
    if (!cursor->listpack) {
        cursor->valid = cursor->tree.valid;
        cursor->missing = cursor->tree.missing;
        cursor->position = cursor->tree.position;
        cursor->element = cursor->tree.item.value;
        return;
    }
    cursor->valid = cursor->entry && !listpack_at_end(cursor->entry);
    if (cursor->valid) cursor->element = listpack_get_text(cursor->entry, cursor->room);
}

void list_value_at(struct list_cursor *cursor, struct list_value *list, uint64_t position) {
    cursor->list = list;
    cursor->valid = cursor->missing = false;
    cursor->listpack = NULL;
    cursor->position = position;
    cursor->element = span_of(NULL, 0);
    if (position >= list_value_length(list)) return;
    if (list->root) {
        paged_tree_at(&cursor->tree, &list->root->elements, &list->access, position);
    } else {
        cursor->listpack = packed_bytes(list);
        cursor->entry = listpack_at(cursor->listpack, (int64_t)position);
    }
    show(cursor);
}

void list_value_next(struct list_cursor *cursor) {
    if (cursor->listpack) {
        cursor->entry = listpack_next(cursor->entry);
        cursor->position++;
    } else {
        paged_tree_next(&cursor->tree);
    }
    show(cursor);
}

void list_value_previous(struct list_cursor *cursor) {
    if (cursor->listpack) {
        cursor->entry = listpack_previous(cursor->listpack, cursor->entry);
        cursor->position--;
    } else {
        paged_tree_previous(&cursor->tree);
    }
    show(cursor);
}

bool list_value_touch(struct list_value *list, uint64_t first, uint64_t count) {
    return !list->root || paged_tree_touch(&list->root->elements, &list->access, first, count);
}

/* Elements that the search has gone by before it comes to this position. */
static uint64_t gone_by(const struct list_value *list, const struct list_search *search, uint64_t position) {
    return search->backward ? list_value_length(list) - 1 - position : position;
}

uint64_t list_value_search(struct list_value *list, const struct list_search *search, list_found *found, void *ctx) {
    struct list_cursor at;
    uint64_t matches = 0, looked_at = 0;
    unsigned missing = 0;
    if (search->backward)
        list_value_last(&at, list);
    else
        list_value_at(&at, list, 0);
    while (at.valid) {
        uint64_t gone = gone_by(list, search, at.position);
        if (search->compare && gone >= search->compare) break;
        if (at.missing) {
            /* What is wanted may be in these: it asks for as many again as it has looked through. */
            if (++missing > SEARCH_AHEAD && gone - looked_at > looked_at) break;
        } else {
            looked_at++;
            if (span_equal(at.element, search->element) && ++matches > search->skip) {
                found(ctx, at.position);
                if (matches - search->skip == search->want) break;
            }
        }
        if (search->backward)
            list_value_previous(&at);
        else
            list_value_next(&at);
    }
    return matches > search->skip ? matches - search->skip : 0;
}

/* ---- the packed form, changed ---- */

static enum page_status store_packed(struct list_value *list, const uint8_t *bytes, size_t length) {
    struct record_plan plan = {.type = RECORD_LIST,
                               .encoding = RECORD_LISTPACK,
                               .value = span_of(bytes, length),
                               .expiry_ms = RECORD_EXPIRY_NONE};
    if (!keyspace_store(list->view, list->key, &list->lookup, &plan)) return failure(list);
    attach(list);
    return PAGE_DONE;
}

/* The listpack is from now on these bytes, which are not more than the value has. */
static enum page_status shrink_packed(struct list_value *list, const uint8_t *bytes, size_t length) {
    char *value = keyspace_edit_value(list->view, list->key, &list->lookup, length);
    if (!value) return failure(list);
    memcpy(value, bytes, length);
    return PAGE_DONE;
}

static size_t with_spare(size_t bytes, unsigned part) {
    return bytes < SPARE_LEAST ? bytes : bytes + bytes / part;
}

/* The value of a list that has grown, or shrunk a good deal. */
static size_t room_for(const struct list_value *list, size_t bytes) {
    return keyspace_value_filling(&list->lookup, with_spare(bytes, SPARE_PART));
}

/* Without memory to cut it off, what a list shrinks by stays spare. */
static enum page_status edit_packed(struct list_value *list, const struct listpack_edit *edit) {
    size_t room = record_value_length(list->lookup.record), after = listpack_length_after(packed_bytes(list), edit);
    if (after > room) room = room_for(list, after);
    char *value = keyspace_edit_value(list->view, list->key, &list->lookup, room);
    if (!value) return failure(list);
    packed_list_apply((uint8_t *)value, room, edit);
    size_t kept = with_spare(after, SPARE_KEPT);
    if (room > kept && room > keyspace_value_filling(&list->lookup, kept)) {
        packed_list_close_up((uint8_t *)value);
        keyspace_shorten_value(list->view, list->key, &list->lookup, room_for(list, after));
    }
    return PAGE_DONE;
}

/* The elements in the order in which they come to lie: pushed at the front, the last one pushed is the first. */
static enum page_status push_packed(struct list_value *list, enum list_end end, const struct span *elements,
                                    size_t count) {
    enum { FEW = 16 };
    struct listpack_element few[FEW], *packed = count <= FEW ? few : malloc(count * sizeof(*packed));
    if (!packed) return PAGE_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        packed[i] = listpack_element_of_text(elements[end == LIST_FIRST ? count - 1 - i : i]);
    enum page_status status;
    if (list->lookup.record) {
        const uint8_t *listpack = packed_bytes(list);
        struct listpack_edit edit = end == LIST_FIRST ? listpack_plan_prepend(listpack, packed, (uint32_t)count)
                                                      : listpack_plan_append(listpack, packed, (uint32_t)count);
        status = edit_packed(list, &edit);
    } else {
        uint8_t few_bytes[512];
        size_t length = LISTPACK_EMPTY_BYTES + listpack_elements_bytes(packed, (uint32_t)count);
        uint8_t *bytes = length <= sizeof(few_bytes) ? few_bytes : malloc(length);
        status = PAGE_NO_MEMORY;
        if (bytes) {
            listpack_write_empty(bytes);
            struct listpack_edit edit = listpack_plan_append(bytes, packed, (uint32_t)count);
            listpack_apply(bytes, &edit);
            status = store_packed(list, bytes, length);
        }
        if (bytes != few_bytes) free(bytes);
    }
    if (packed != few) free(packed);
    return status;
}

/* ---- becoming big ---- */

static bool fits_packed(const struct list_value *list, const struct span *elements, size_t count,
                        const struct list_limits *limits) {
    if (list->root) return false;
    size_t bytes = list->lookup.record ? listpack_bytes(packed_bytes(list)) : LISTPACK_EMPTY_BYTES;
    for (size_t i = 0; i < count; i++) {
        bytes += elements[i].length;
        if (bytes > limits->bytes) return false;
    }
    return list_value_length(list) + count <= limits->count;
}

static enum page_status push_tree(struct list_root *root, struct page_access *access, enum list_end end,
                                  struct span element) {
    return end == LIST_FIRST ? paged_tree_push_first(&root->elements, access, element)
                             : paged_tree_push_last(&root->elements, access, element);
}

/* The key's list, which may be absent, as a big one with more elements. All or nothing. */
static enum page_status make_big(struct list_value *list, enum list_end end, const struct span *elements,
                                 size_t count) {
    struct list_root *root = (struct list_root *)keyspace_new_collection(list->view, list->key, &list_kind);
    if (!root) return failure(list);
    paged_tree_init(&root->elements, &root->collection.parts[COLLECTION_TREES], shape());
    enum page_status status = PAGE_DONE;
    struct list_cursor at;
    for (list_value_at(&at, list, 0); at.valid && status == PAGE_DONE; list_value_next(&at))
        status = push_tree(root, &list->access, LIST_LAST, at.element);
    for (size_t i = 0; i < count && status == PAGE_DONE; i++) status = push_tree(root, &list->access, end, elements[i]);
    if (status == PAGE_DONE &&
        !keyspace_store_collection(list->view, list->key, &list->lookup, &root->collection, true))
        status = failure(list);
    if (status == PAGE_DONE)
        attach(list);
    else
        keyspace_discard_collection(list->view, &root->collection);
    return status;
}

/* ---- changing ---- */

enum page_status list_value_push(struct list_value *list, enum list_end end, const struct span *elements, size_t count,
                                 const struct list_limits *limits) {
    if (count == 0) return PAGE_DONE;
    if (fits_packed(list, elements, count, limits)) return push_packed(list, end, elements, count);
    if (!list->root) return make_big(list, end, elements, count);
    enum page_status status = PAGE_DONE;
    size_t pushed = 0;
    for (; pushed < count && status == PAGE_DONE; pushed++)
        status = push_tree(list->root, &list->access, end, elements[pushed]);
    if (pushed > 1 || status == PAGE_DONE) keyspace_collection_changed(list->view, list->key);
    return status;
}

static void note_position(void *ctx, uint64_t position) {
    *(uint64_t *)ctx = position;
}

enum page_status list_value_insert(struct list_value *list, bool before, struct span pivot, struct span element,
                                   const struct list_limits *limits) {
    uint64_t position;
    struct list_search search = {.element = pivot, .want = 1};
    uint64_t found = list_value_search(list, &search, note_position, &position);
    if (list->access.missing) return PAGE_MISSING;
    if (!found) return PAGE_ABSENT;
    if (!before) position++;
    if (fits_packed(list, &element, 1, limits)) {
        const uint8_t *listpack = packed_bytes(list), *at = listpack_skip(listpack_first(listpack), (uint32_t)position);
        struct listpack_element packed = listpack_element_of_text(element);
        struct listpack_edit edit = listpack_plan_insert(listpack, at, &packed, 1);
        return edit_packed(list, &edit);
    }
    enum page_status status = list->root ? PAGE_DONE : make_big(list, LIST_LAST, NULL, 0);
    if (status == PAGE_DONE) status = paged_tree_insert_at(&list->root->elements, &list->access, position, element);
    if (status == PAGE_DONE) keyspace_collection_changed(list->view, list->key);
    return status;
}

enum page_status list_value_set(struct list_value *list, uint64_t position, struct span element,
                                const struct list_limits *limits) {
    if (position >= list_value_length(list)) return PAGE_ABSENT;
    if (fits_packed(list, &element, 1, limits)) {
        const uint8_t *listpack = packed_bytes(list);
        struct listpack_element packed = listpack_element_of_text(element);
        struct listpack_edit edit = listpack_plan_replace(listpack, listpack_at(listpack, (int64_t)position), &packed);
        return edit_packed(list, &edit);
    }
    enum page_status status = list->root ? PAGE_DONE : make_big(list, LIST_LAST, NULL, 0);
    if (status == PAGE_DONE) status = paged_tree_replace_at(&list->root->elements, &list->access, position, element);
    if (status == PAGE_DONE) keyspace_collection_changed(list->view, list->key);
    return status;
}

static enum page_status remove_key(struct list_value *list) {
    if (!view_begin_change(list->view)) return failure(list);
    keyspace_remove(list->view, list->key, &list->lookup);
    list->lookup.record = NULL;
    attach(list);
    return PAGE_DONE;
}

/* Without going to the leaves between; they are freed later. */
static enum page_status cut_range(struct list_value *list, uint64_t first, uint64_t count) {
    enum page_status status = paged_tree_cut_range(&list->root->elements, &list->access, first, count);
    if (paged_tree_has_cut(&list->root->elements)) keyspace_tidy_later(list->view, &list->root->collection);
    return status;
}

enum page_status list_value_delete_range(struct list_value *list, uint64_t first, uint64_t count) {
    uint64_t length = list_value_length(list);
    if (first >= length) return PAGE_ABSENT;
    if (count > length - first) count = length - first;
    if (count == 0) return PAGE_DONE;
    if (count == length) return remove_key(list);
    if (!list->root) {
        const uint8_t *listpack = packed_bytes(list);
        struct listpack_edit edit =
            listpack_plan_delete(listpack, listpack_at(listpack, (int64_t)first), (uint32_t)count);
        return edit_packed(list, &edit);
    }
    enum page_status status = cut_range(list, first, count);
    if (status == PAGE_DONE || list_value_length(list) != length) keyspace_collection_changed(list->view, list->key);
    return status;
}

static enum page_status trim_packed(struct list_value *list, uint64_t first, uint64_t count) {
    const uint8_t *listpack = packed_bytes(list);
    size_t length = listpack_bytes(listpack);
    uint8_t *copy = malloc(length);
    if (!copy) return PAGE_NO_MEMORY;
    const uint8_t *from = listpack_skip(listpack_first(listpack), (uint32_t)first);
    struct listpack_writer writer;
    listpack_writer_begin(&writer, copy, length);
    listpack_writer_append_entries(&writer, from, listpack_skip(from, (uint32_t)count), (uint32_t)count);
    enum page_status status = shrink_packed(list, copy, listpack_writer_finish(&writer));
    free(copy);
    return status;
}

enum page_status list_value_trim(struct list_value *list, uint64_t first, uint64_t count) {
    uint64_t length = list_value_length(list);
    if (length == 0) return PAGE_ABSENT;
    if (first >= length || count == 0) return remove_key(list);
    if (count > length - first) count = length - first;
    if (!list->root) return trim_packed(list, first, count);
    /* Both ends of what stays are cut within a leaf. */
    bool at_hand = list_value_touch(list, first, 1);
    if (!list_value_touch(list, first + count - 1, 1) || !at_hand) return PAGE_MISSING;
    enum page_status status = PAGE_DONE;
    if (first + count < length) status = cut_range(list, first + count, length - first - count);
    if (status == PAGE_DONE && first) status = cut_range(list, 0, first);
    if (status == PAGE_DONE || list_value_length(list) != length) keyspace_collection_changed(list->view, list->key);
    return status;
}

/* ---- by value ---- */

static enum page_status remove_packed(struct list_value *list, struct span element, uint64_t limit, bool backward,
                                      uint64_t *removed) {
    size_t length = listpack_bytes(packed_bytes(list));
    uint8_t *copy = malloc(length);
    if (!copy) return PAGE_NO_MEMORY;
    memcpy(copy, packed_bytes(list), length);
    const uint8_t *at = backward ? listpack_last(copy) : listpack_first(copy);
    while (at && !listpack_at_end(at) && (!limit || *removed < limit)) {
        const uint8_t *previous = backward ? listpack_previous(copy, at) : NULL;
        if (listpack_equals(at, element)) {
            struct listpack_edit edit = listpack_plan_delete(copy, at, 1);
            at = listpack_apply(copy, &edit);
            ++*removed;
        } else if (!backward) {
            at = listpack_next(at);
        }
        if (backward) at = previous;
    }
    enum page_status status = *removed ? PAGE_DONE : PAGE_ABSENT;
    if (*removed && listpack_is_empty(copy))
        status = remove_key(list);
    else if (*removed)
        status = shrink_packed(list, copy, listpack_bytes(copy));
    free(copy);
    return status;
}

static enum page_status remove_from_tree(struct list_value *list, struct span element, uint64_t limit, bool backward,
                                         uint64_t *removed) {
    struct paged_tree *tree = &list->root->elements;
    struct paged_tree_cursor at;
    if (backward)
        paged_tree_last(&at, tree, &list->access);
    else
        paged_tree_first(&at, tree, &list->access);
    while (at.valid && (!limit || *removed < limit)) {
        if (at.missing) return failure(list);
        uint64_t position = at.position, deleted;
        if (!span_equal(at.item.value, element)) {
            if (backward)
                paged_tree_previous(&at);
            else
                paged_tree_next(&at);
            continue;
        }
        enum page_status status = paged_tree_delete_some(tree, &list->access, position, 1, &deleted);
        if (status != PAGE_DONE) return status;
        ++*removed;
        if (backward && position == 0) break;
        paged_tree_at(&at, tree, &list->access, backward ? position - 1 : position);
    }
    return PAGE_DONE;
}

enum page_status list_value_remove(struct list_value *list, struct span element, uint64_t limit, bool backward,
                                   uint64_t *removed) {
    *removed = 0;
    if (!list->lookup.record) return PAGE_ABSENT;
    enum page_status status;
    if (!list->root) {
        status = remove_packed(list, element, limit, backward, removed);
    } else {
        /* Whatever is going to be looked at is at hand before anything changes; with a limit that may be less. */
        if (!list_value_touch(list, 0, list_value_length(list))) return PAGE_MISSING;
        status = remove_from_tree(list, element, limit, backward, removed);
        if (*removed) keyspace_collection_changed(list->view, list->key);
        if (status == PAGE_DONE && list_value_length(list) == 0) return remove_key(list);
        if (status == PAGE_DONE && !*removed) status = PAGE_ABSENT;
    }
    if (status != PAGE_DONE && !list->root) *removed = 0;
    return status;
}

/* ---- moving ---- */

/* Lookups of one shard do not outlive a change of another key there. */
static bool look_again(struct list_value *list) {
    list->lookup = keyspace_find_for_write(list->view, list->key);
    attach(list);
    return list->lookup.record != NULL;
}

enum page_status list_value_move(struct list_value *source, enum list_end from, struct list_value *target,
                                 enum list_end to, const struct list_limits *limits, struct list_moved *moved) {
    *moved = (struct list_moved){NULL, 0};
    uint64_t length = list_value_length(source);
    if (length == 0) return PAGE_ABSENT;
    struct list_cursor at;
    list_value_at(&at, source, from == LIST_FIRST ? 0 : length - 1);
    uint64_t there = list_value_length(target);
    bool at_hand = there == 0 || list_value_touch(target, to == LIST_FIRST ? 0 : there - 1, 1);
    if (!at.valid || at.missing || !at_hand) return failure(source);

    size_t bytes = at.element.length;
    char *copy = malloc(bytes + 1);
    if (!copy) return PAGE_NO_MEMORY;
    memcpy(copy, at.element.data, bytes);
    struct span element = span_of(copy, bytes);
    enum page_status status = list_value_push(target, to, &element, 1, limits);
    if (status == PAGE_DONE && source != target && !look_again(source)) status = PAGE_NO_MEMORY;
    if (status == PAGE_DONE) {
        /* In the same list the newcomer may stand in front of, or behind, the one to go. */
        bool same = source == target;
        uint64_t now = list_value_length(source), beside = same && from == to;
        uint64_t position = from == LIST_FIRST ? beside : now - 1 - beside;
        status = list_value_delete_range(source, position, 1);
        if (status != PAGE_DONE && (same || look_again(target))) {
            uint64_t last = list_value_length(target) - 1;
            enum page_status undone = list_value_delete_range(target, to == LIST_FIRST ? 0 : last, 1);
            (void)undone; /* without memory even for that, the element is in both: better than in none */
        }
    }
    if (status == PAGE_DONE && source != target) (void)look_again(target);
    if (status == PAGE_DONE)
        *moved = (struct list_moved){copy, bytes};
    else
        free(copy);
    return status;
}
