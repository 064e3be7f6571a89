/* Sets of every encoding behind one set of functions: see set_value.h for what they promise.
 *
 * Packed bytes are a record's value, or, of a set made apart, malloc'ed; the few functions that get and give room for
 * them (packed_bytes(), make_room(), put_packed()) know the difference, nobody else does. Where a record gets shorter
 * the new bytes are made beside the old ones first: cutting it may need memory, and then nothing may have changed.
 *
 * Thresholds are those of Redis 7.2: an intset that gets too many members becomes big at once; one that gets a member
 * which is no integer becomes a listpack if that is within its limits, or else big. */

#include "keyspace/set_value.h"

#include <assert.h>
#include <stdlib.h>

enum { COPY_ON_STACK = 4096, LOOKED_FOR_MAX = 64 };
#define PACKED_BYTES_MAX (LIMIT_VALUE_BYTES / 2)

/* ---- the kind of big sets ---- */

static struct collection *load(struct state_reader *in, uint64_t seed) {
    return paged_hash_root_load(in, PAGED_HASH_SET, seed);
}

const struct collection_kind set_kind = {.type = RECORD_SET,
                                         .encoding = "hashtable",
                                         .copy_root = paged_hash_root_copy,
                                         .save = paged_hash_root_save,
                                         .load = load,
                                         .loaded = paged_hash_root_loaded,
                                         .mend = paged_hash_root_mend,
                                         .prefetch = paged_hash_root_prefetch,
                                         .prefetch_steps = 1,
                                         .validate = paged_hash_root_validate,
                                         .root_bytes = sizeof(struct paged_hash_root)};

/* ---- opening ---- */

/* What the lookup now leads to. */
static void attach(struct set_value *set) {
    const struct record *record = set->lookup.record;
    set->encoding = record ? record_encoding(record) : RECORD_RAW;
    set->root = set->encoding == RECORD_PAGED ? (struct paged_hash_root *)collection_of(record) : NULL;
}

static enum page_status failure(const struct set_value *set) {
    const struct view *view = set->view;
    return set->access.missing || (view->waiter && view->waiter->outstanding) ? PAGE_MISSING : PAGE_NO_MEMORY;
}

static void begin(struct set_value *set, const struct view *view, const struct key *key) {
    *set = (struct set_value){.view = view, .key = key};
    set->access = keyspace_pages(view, &view->keyspace->shards[key->shard]);
}

bool set_value_open(struct set_value *set, const struct view *view, const struct key *key, enum set_purpose purpose) {
    begin(set, view, key);
    set->lookup = purpose == SET_FOR_READ ? keyspace_read(view, key) : keyspace_find_for_write(view, key);
    if (!set->lookup.record) return true;
    if (record_type(set->lookup.record) != RECORD_SET) {
        set->lookup.record = NULL;
        return false;
    }
    attach(set);
    return true;
}

void set_value_begin(struct set_value *set, const struct view *view, const struct key *key) {
    begin(set, view, key);
    set->is_apart = true;
}

const char *set_value_encoding(const struct record *record) {
    switch (record_encoding(record)) {
    case RECORD_INTSET: return "intset";
    case RECORD_LISTPACK: return "listpack";
    default: return "hashtable";
    }
}

/* ---- packed bytes ---- */

static const uint8_t *packed_bytes(const struct set_value *set) {
    return set->is_apart ? set->apart : (const uint8_t *)record_value(set->lookup.record).data;
}

static size_t packed_length(const struct set_value *set) {
    return set->encoding == RECORD_INTSET ? intset_bytes(packed_bytes(set)) : listpack_bytes(packed_bytes(set));
}

/* The packed bytes, now so many, to be changed; those that were there stay. NULL: nothing has changed. */
static uint8_t *make_room(struct set_value *set, size_t length) {
    if (!set->is_apart) return (uint8_t *)keyspace_edit_value(set->view, set->key, &set->lookup, length);
    uint8_t *bytes = realloc(set->apart, length);
    if (bytes) set->apart = bytes;
    return bytes;
}

/* The set has these packed bytes from now on, in this encoding. */
static enum page_status put_packed(struct set_value *set, enum record_encoding encoding, const uint8_t *bytes,
                                   size_t length) {
    if (set->is_apart || (set->lookup.record && set->encoding == encoding)) {
        uint8_t *own = make_room(set, length);
        if (!own) return failure(set);
        memcpy(own, bytes, length);
        set->encoding = encoding;
        return PAGE_DONE;
    }
    struct record_plan plan = {
        .type = RECORD_SET, .encoding = encoding, .value = span_of(bytes, length), .expiry_ms = RECORD_EXPIRY_NONE};
    if (set->lookup.record) plan.expiry_ms = record_expiry(set->lookup.record);
    if (!keyspace_store(set->view, set->key, &set->lookup, &plan)) return failure(set);
    attach(set);
    return PAGE_DONE;
}

/* No member is left. Precondition: view_begin_change(), unless apart. */
static void remove_all(struct set_value *set) {
    if (set->is_apart) {
        set_value_discard(set);
        return;
    }
    keyspace_remove(set->view, set->key, &set->lookup);
    set->lookup.record = NULL;
    attach(set);
}

static void big_set_changed(struct set_value *set) {
    if (set->is_apart) return;
    if (set->root->items.count)
        keyspace_collection_changed(set->view, set->key);
    else
        remove_all(set);
}

/* ---- reading ---- */

uint64_t set_value_count(const struct set_value *set) {
    if (set->root) return set->root->items.count;
    if (!set_value_exists(set)) return 0;
    return set->encoding == RECORD_INTSET ? intset_count(packed_bytes(set)) : listpack_count(packed_bytes(set));
}

enum page_status set_value_contains(struct set_value *set, struct span member) {
    if (set->root) return paged_hash_find(&set->root->items, &set->access, member, NULL);
    if (!set_value_exists(set)) return PAGE_ABSENT;
    const uint8_t *bytes = packed_bytes(set);
    int64_t number;
    bool found = set->encoding == RECORD_INTSET ? number_parse_i64(member, &number) && intset_find(bytes, number, NULL)
                                                : listpack_find(listpack_first(bytes), member, 0) != NULL;
    return found ? PAGE_DONE : PAGE_ABSENT;
}

enum page_status set_value_contains_many(struct set_value *set, const struct span *members, unsigned count,
                                         uint64_t *found) {
    assert(count <= LOOKED_FOR_MAX);
    uint64_t codes[LOOKED_FOR_MAX];
    bool missing = false;
    *found = 0;
    for (unsigned i = 0; set->root && i < count; i++) {
        codes[i] = paged_hash_code(&set->root->items, members[i]);
        paged_hash_prefetch(&set->root->items, codes[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        enum page_status status =
            set->root ? paged_hash_find_coded(&set->root->items, &set->access, codes[i], members[i], NULL)
                      : set_value_contains(set, members[i]);
        if (status == PAGE_DONE) *found |= UINT64_C(1) << i;
        missing |= status == PAGE_MISSING;
    }
    return missing ? PAGE_MISSING : PAGE_DONE;
}

bool set_value_touch(struct set_value *set, struct span member) {
    return !set->root || paged_hash_touch(&set->root->items, &set->access, member);
}

bool set_value_touch_growth(struct set_value *set, uint64_t members) {
    return !set->root || paged_hash_touch_growth(&set->root->items, &set->access, members, 32 * members);
}

void set_value_walk(struct set_walk *walk, struct set_value *set) {
    walk->set = set;
    walk->at = NULL;
    walk->position = 0;
    if (set->root)
        paged_hash_walk_all(&walk->pages, &set->root->items, &set->access);
    else if (set_value_exists(set) && set->encoding == RECORD_LISTPACK)
        walk->at = listpack_first(packed_bytes(set));
}

uint64_t set_value_scan(struct set_walk *walk, struct set_value *set, uint64_t cursor) {
    set_value_walk(walk, set);
    return set->root ? paged_hash_walk_scan(&walk->pages, &set->root->items, &set->access, cursor) : 0;
}

static void spell(struct set_member *member, int64_t number) {
    member->text = span_of(member->room, number_format_i64(number, member->room));
}

bool set_value_walk_next(struct set_walk *walk, struct set_member *member) {
    struct set_value *set = walk->set;
    if (set->root) {
        struct paged_hash_item item;
        if (!paged_hash_walk_next(&walk->pages, &item)) return false;
        member->text = item.field;
        return true;
    }
    if (walk->at) {
        if (listpack_at_end(walk->at)) return false;
        member->text = listpack_get_text(walk->at, member->room);
        walk->at = listpack_next(walk->at);
        return true;
    }
    if (!set_value_exists(set) || walk->position == intset_count(packed_bytes(set))) return false;
    spell(member, intset_get(packed_bytes(set), walk->position++));
    return true;
}

/* ---- random ---- */

enum page_status set_value_random(struct set_value *set, struct random *random, struct set_member *member) {
    if (set->root) {
        struct paged_hash_item item;
        enum page_status status = paged_hash_random(&set->root->items, &set->access, random, &item);
        if (status == PAGE_DONE) member->text = item.field;
        return status;
    }
    if (!set_value_exists(set)) return PAGE_ABSENT;
    const uint8_t *bytes = packed_bytes(set);
    if (set->encoding == RECORD_INTSET)
        spell(member, intset_random(bytes, random));
    else
        member->text =
            listpack_get_text(listpack_at(bytes, (int64_t)random_below(random, listpack_count(bytes))), member->room);
    return PAGE_DONE;
}

enum page_status set_value_sample(struct set_value *set, struct random *random, uint64_t want, set_value_visit *visit,
                                  void *ctx) {
    uint64_t count = set_value_count(set);
    struct set_member member;
    if (want > count) want = count;
    if (!set->root || want == count) {
        struct set_walk walk;
        set_value_walk(&walk, set);
        for (; want && set_value_walk_next(&walk, &member); count--) {
            if (want < count && random_below(random, count) >= want) continue;
            visit(ctx, member.text);
            want--;
        }
        return set->access.missing ? PAGE_MISSING : PAGE_DONE;
    }
    if (!want) return PAGE_DONE;
    uint64_t *places = malloc(want * sizeof(*places));
    if (!places) return PAGE_NO_MEMORY;
    paged_hash_sample(&set->root->items, random, want, places);
    enum page_status result = PAGE_DONE;
    for (uint64_t i = 0; i < want; i++) {
        struct paged_hash_item item;
        enum page_status status = paged_hash_at(&set->root->items, &set->access, places[i], &item);
        if (status == PAGE_DONE)
            visit(ctx, item.field);
        else
            result = status;
    }
    free(places);
    return result;
}

/* ---- adding ---- */

/* A set of what is there and this member, as pages. */
static enum page_status add_in_new_root(struct set_value *set, struct span member) {
    struct paged_hash_root *root = (struct paged_hash_root *)keyspace_new_collection(set->view, set->key, &set_kind);
    if (!root) return failure(set);
    struct span none = span_of(NULL, 0);
    paged_hash_init(&root->items, &root->collection.parts[COLLECTION_HASH], PAGED_HASH_SET, set->view->keyspace->seed);
    struct set_walk walk;
    struct set_member old;
    set_value_walk(&walk, set);
    enum page_status status = PAGE_DONE;
    while (status == PAGE_DONE && set_value_walk_next(&walk, &old))
        status = paged_hash_set(&root->items, &set->access, old.text, none, RECORD_EXPIRY_NONE, NULL);
    if (status == PAGE_DONE)
        status = paged_hash_set(&root->items, &set->access, member, none, RECORD_EXPIRY_NONE, NULL);
    if (status == PAGE_DONE && !set->is_apart &&
        !keyspace_store_collection(set->view, set->key, &set->lookup, &root->collection, true))
        status = failure(set);
    if (status != PAGE_DONE) {
        keyspace_discard_collection(set->view, &root->collection);
    } else if (set->is_apart) {
        free(set->apart);
        set->apart = NULL;
        set->root = root;
        set->encoding = RECORD_PAGED;
    } else {
        attach(set);
    }
    return status;
}

/* A listpack of what is there (nothing, or an intset) and this member. */
static enum page_status add_in_new_listpack(struct set_value *set, struct span member) {
    const uint8_t *intset = set_value_exists(set) ? packed_bytes(set) : NULL;
    uint32_t count = intset ? intset_count(intset) : 0;
    struct listpack_element element = listpack_element_of_text(member);
    size_t capacity = LISTPACK_EMPTY_BYTES + element.bytes + (size_t)count * 11;
    uint8_t on_stack[COPY_ON_STACK], *bytes = capacity <= sizeof(on_stack) ? on_stack : malloc(capacity);
    if (!bytes) return PAGE_NO_MEMORY;
    struct listpack_writer writer;
    listpack_writer_begin(&writer, bytes, capacity);
    for (uint32_t i = 0; i < count; i++) listpack_writer_append_integer(&writer, intset_get(intset, i));
    listpack_writer_append(&writer, &element);
    enum page_status status = put_packed(set, RECORD_LISTPACK, bytes, listpack_writer_finish(&writer));
    if (bytes != on_stack) free(bytes);
    return status;
}

static enum page_status add_first(struct set_value *set, struct span member) {
    const struct value_limits *limits = &set->view->keyspace->limits;
    int64_t number;
    if (limits->set_intset_entries > 0 && number_parse_i64(member, &number)) {
        uint8_t bytes[INTSET_HEADER_BYTES + 8];
        intset_write(bytes, &number, 1);
        return put_packed(set, RECORD_INTSET, bytes, intset_bytes(bytes));
    }
    if (limits->set_packed_entries > 0 && (int64_t)member.length <= limits->set_packed_bytes)
        return add_in_new_listpack(set, member);
    return add_in_new_root(set, member);
}

static enum page_status add_to_intset(struct set_value *set, struct span member) {
    const struct value_limits *limits = &set->view->keyspace->limits;
    const uint8_t *bytes = packed_bytes(set);
    uint32_t count = intset_count(bytes);
    int64_t number;
    if (number_parse_i64(member, &number)) {
        struct intset_edit edit;
        if (!intset_plan_add(bytes, number, &edit)) return PAGE_EXISTS;
        if ((int64_t)count + 1 > limits->set_intset_entries || edit.bytes_after > PACKED_BYTES_MAX)
            return add_in_new_root(set, member);
        uint8_t *own = make_room(set, edit.bytes_after);
        if (!own) return failure(set);
        intset_apply_add(own, &edit);
        return PAGE_DONE;
    }
    size_t longest = number_text_length_i64(intset_smallest(bytes)),
           last = number_text_length_i64(intset_largest(bytes));
    if (last > longest) longest = last;
    if (member.length > longest) longest = member.length;
    if ((int64_t)count < limits->set_packed_entries && (int64_t)longest <= limits->set_packed_bytes)
        return add_in_new_listpack(set, member);
    return add_in_new_root(set, member);
}

static enum page_status add_to_listpack(struct set_value *set, struct span member) {
    const struct value_limits *limits = &set->view->keyspace->limits;
    const uint8_t *bytes = packed_bytes(set);
    if (listpack_find(listpack_first(bytes), member, 0)) return PAGE_EXISTS;
    if ((int64_t)listpack_count(bytes) >= limits->set_packed_entries ||
        (int64_t)member.length > limits->set_packed_bytes || listpack_bytes(bytes) + member.length > PACKED_BYTES_MAX)
        return add_in_new_root(set, member);
    struct listpack_element element = listpack_element_of_text(member);
    struct listpack_edit edit = listpack_plan_append(bytes, &element, 1);
    uint8_t *own = make_room(set, listpack_length_after(bytes, &edit));
    if (!own) return failure(set);
    listpack_apply(own, &edit);
    return PAGE_DONE;
}

enum page_status set_value_add(struct set_value *set, struct span member) {
    if (set->root) {
        enum page_status status =
            paged_hash_set(&set->root->items, &set->access, member, span_of(NULL, 0), RECORD_EXPIRY_NONE, NULL);
        if (status == PAGE_DONE) big_set_changed(set);
        return status;
    }
    if (!set_value_exists(set)) return add_first(set, member);
    return set->encoding == RECORD_INTSET ? add_to_intset(set, member) : add_to_listpack(set, member);
}

/* ---- removing ---- */

/* A copy of the packed bytes, on the stack if they fit there; NULL: no memory. */
static uint8_t *copy_packed(const struct set_value *set, uint8_t *on_stack) {
    size_t length = packed_length(set);
    uint8_t *copy = length <= COPY_ON_STACK ? on_stack : malloc(length);
    if (copy) memcpy(copy, packed_bytes(set), length);
    return copy;
}

static bool remove_from_packed(uint8_t *bytes, enum record_encoding encoding, struct span member) {
    if (encoding == RECORD_INTSET) {
        int64_t number;
        return number_parse_i64(member, &number) && intset_remove(bytes, number);
    }
    const uint8_t *at = listpack_find(listpack_first(bytes), member, 0);
    if (!at) return false;
    struct listpack_edit edit = listpack_plan_delete(bytes, at, 1);
    listpack_apply(bytes, &edit);
    return true;
}

enum page_status set_value_remove(struct set_value *set, struct span member) {
    enum page_status status;
    if (set->root) {
        status = paged_hash_delete(&set->root->items, &set->access, member);
        if (status == PAGE_DONE) big_set_changed(set);
        return status;
    }
    if (!set_value_exists(set)) return PAGE_ABSENT;
    if (set_value_count(set) == 1) {
        status = set_value_contains(set, member);
        if (status != PAGE_DONE) return status;
        if (!set->is_apart && !view_begin_change(set->view)) return failure(set);
        remove_all(set);
        return PAGE_DONE;
    }
    uint8_t on_stack[COPY_ON_STACK], *copy = copy_packed(set, on_stack);
    if (!copy) return PAGE_NO_MEMORY;
    status = PAGE_ABSENT;
    if (remove_from_packed(copy, set->encoding, member)) {
        size_t length = set->encoding == RECORD_INTSET ? intset_bytes(copy) : listpack_bytes(copy);
        status = put_packed(set, set->encoding, copy, length);
    }
    if (copy != on_stack) free(copy);
    return status;
}

/* ---- popping ---- */

struct pop {
    set_value_visit *visit;
    void *ctx;
};

static void visit_item(void *ctx, const struct paged_hash_item *item) {
    const struct pop *pop = ctx;
    pop->visit(pop->ctx, item->field);
}

/* Every member goes, and the key with them. */
static enum page_status pop_all(struct set_value *set, const struct pop *pop) {
    struct set_walk walk;
    struct set_member member;
    if (set->root && set->access.source) {
        /* All pages are asked for before anything is visited. */
        set_value_walk(&walk, set);
        while (set_value_walk_next(&walk, &member)) continue;
        if (set->access.missing) return PAGE_MISSING;
    }
    if (!set->is_apart && !view_begin_change(set->view)) return failure(set);
    set_value_walk(&walk, set);
    while (set_value_walk_next(&walk, &member)) pop->visit(pop->ctx, member.text);
    remove_all(set);
    return PAGE_DONE;
}

static enum page_status pop_from_pages(struct set_value *set, struct random *random, uint64_t want,
                                       const struct pop *pop) {
    uint64_t own, *places = want == 1 ? &own : malloc(want * sizeof(*places));
    size_t removed;
    if (!places) return PAGE_NO_MEMORY;
    paged_hash_sample(&set->root->items, random, want, places);
    enum page_status status = paged_hash_remove_places(&set->root->items, &set->access, places, want, visit_item,
                                                       (void *)(uintptr_t)pop, &removed);
    if (removed) big_set_changed(set);
    if (places != &own) free(places);
    return status;
}

/* Splits the listpack `from` in two: entries that stay, in `stay`, and their number chosen, in `go`. */
static void split_listpack(const uint8_t *from, uint64_t want, struct random *random, struct listpack_writer *stay,
                           struct listpack_writer *go) {
    uint64_t count = listpack_count(from);
    for (const uint8_t *at = listpack_first(from), *next; !listpack_at_end(at); at = next, count--) {
        next = listpack_next(at);
        bool goes = want > 0 && random_below(random, count) < want;
        want -= goes;
        listpack_writer_append_entries(goes ? go : stay, at, next, 1);
    }
}

static enum page_status pop_from_listpack(struct set_value *set, struct random *random, uint64_t want,
                                          const struct pop *pop) {
    size_t length = packed_length(set);
    uint8_t *copies = malloc(2 * length);
    if (!copies) return PAGE_NO_MEMORY;
    struct listpack_writer stay, go;
    listpack_writer_begin(&stay, copies, length);
    listpack_writer_begin(&go, copies + length, length);
    split_listpack(packed_bytes(set), want, random, &stay, &go);
    size_t rest = listpack_writer_finish(&stay);
    listpack_writer_finish(&go);
    enum page_status status = put_packed(set, RECORD_LISTPACK, copies, rest);
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    for (const uint8_t *at = listpack_first(copies + length); status == PAGE_DONE && !listpack_at_end(at);
         at = listpack_next(at))
        pop->visit(pop->ctx, listpack_get_text(at, room));
    free(copies);
    return status;
}

static enum page_status pop_from_intset(struct set_value *set, struct random *random, uint64_t want,
                                        const struct pop *pop) {
    size_t length = packed_length(set);
    uint32_t count = intset_count(packed_bytes(set));
    uint8_t *copy = malloc(length + want * sizeof(int64_t));
    if (!copy) return PAGE_NO_MEMORY;
    uint8_t *popped = copy + length;
    memcpy(copy, packed_bytes(set), length);
    for (uint64_t i = 0; i < want; i++) {
        uint32_t position = (uint32_t)random_below(random, count - i);
        int64_t number = intset_get(copy, position);
        memcpy(popped + i * sizeof(number), &number, sizeof(number));
        intset_remove_at(copy, position);
    }
    enum page_status status = put_packed(set, RECORD_INTSET, copy, intset_bytes(copy));
    for (uint64_t i = 0; status == PAGE_DONE && i < want; i++) {
        struct set_member member;
        int64_t number;
        memcpy(&number, popped + i * sizeof(number), sizeof(number));
        spell(&member, number);
        pop->visit(pop->ctx, member.text);
    }
    free(copy);
    return status;
}

enum page_status set_value_pop(struct set_value *set, struct random *random, uint64_t want, set_value_visit *visit,
                               void *ctx) {
    const struct pop pop = {visit, ctx};
    uint64_t count = set_value_count(set);
    if (!count) return PAGE_ABSENT;
    if (!want) return PAGE_DONE;
    if (want >= count) return pop_all(set, &pop);
    if (set->root) return pop_from_pages(set, random, want, &pop);
    if (set->encoding == RECORD_INTSET) return pop_from_intset(set, random, want, &pop);
    return pop_from_listpack(set, random, want, &pop);
}

/* ---- apart ---- */

enum page_status set_value_store(struct set_value *set) {
    assert(set->is_apart);
    struct lookup lookup = keyspace_find_for_write(set->view, set->key);
    if (!view_begin_change(set->view)) return failure(set);
    if (set_value_count(set) == 0) {
        set_value_discard(set);
        if (lookup.record) keyspace_remove(set->view, set->key, &lookup);
        lookup.record = NULL;
    } else if (set->root) {
        if (!keyspace_store_collection(set->view, set->key, &lookup, &set->root->collection, false))
            return failure(set);
    } else {
        struct record_plan plan = {.type = RECORD_SET,
                                   .encoding = set->encoding,
                                   .value = span_of(set->apart, packed_length(set)),
                                   .expiry_ms = RECORD_EXPIRY_NONE};
        if (!keyspace_store(set->view, set->key, &lookup, &plan)) return failure(set);
        free(set->apart);
    }
    set->apart = NULL;
    set->is_apart = false;
    set->lookup = lookup;
    attach(set);
    return PAGE_DONE;
}

void set_value_discard(struct set_value *set) {
    assert(set->is_apart);
    free(set->apart);
    if (set->root) keyspace_discard_collection(set->view, &set->root->collection);
    set->apart = NULL;
    set->root = NULL;
    set->encoding = RECORD_RAW;
}
