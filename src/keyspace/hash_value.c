/* Hashes of every encoding behind one set of functions: see hash_value.h for what they promise.
 *
 * A packed hash is changed by a plan (listpack.h), so that its new length is known before anything is written. Where it
 * gets shorter the new bytes are made beside the old ones first: cutting a record may need memory, and then nothing may
 * have changed.
 *
 * A hash becomes big in one step: a root is filled from the packed fields, what is to be added is added to it, and then
 * it takes the record's place. Until then it can be thrown away.
 *
 * Time: packed fields that have expired are passed over by every reader, and are thinned out by whoever opens the hash
 * to change it. Of a big hash with fields due, opening it sweeps a few pages; the rest is hash_value_expire()'s. */

#include "keyspace/hash_value.h"

#include <assert.h>
#include <stdlib.h>

enum {
    COPY_ON_STACK = 4096,
    SWEPT_AT_OPENING = 16, /* pages: ~500 fields, well below 100 us */
    RANDOM_TRIES = 100,
};
/* However the thresholds are set: what is changed in place by moving bytes is kept below. */
#define PACKED_BYTES_MAX (LIMIT_VALUE_BYTES / 2)

/* ---- the kind of big hashes ---- */

static struct collection *load(struct state_reader *in, uint64_t seed) {
    return paged_hash_root_load(in, PAGED_HASH_MAP, seed);
}

const struct collection_kind hash_kind = {.type = RECORD_HASH,
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

static const uint8_t *packed_bytes(const struct hash_value *hash) {
    return (const uint8_t *)record_value(hash->lookup.record).data;
}

static unsigned stride(const struct hash_value *hash) {
    return hash->timed ? 3 : 2;
}

static enum page_status failure(const struct hash_value *hash) {
    const struct view *view = hash->view;
    return hash->access.missing || view_misses(view) ? PAGE_MISSING : PAGE_NO_MEMORY;
}

/* What the lookup now leads to. */
static void attach(struct hash_value *hash) {
    const struct record *record = hash->lookup.record;
    hash->root = record && record_is_paged(record) ? (struct paged_hash_root *)collection_of(record) : NULL;
    hash->timed = record && record_encoding(record) == RECORD_LISTPACK_TIMED;
}

static void remove_key(struct hash_value *hash) {
    keyspace_remove(hash->view, hash->key, &hash->lookup);
    hash->lookup.record = NULL;
    attach(hash);
}

bool hash_value_open(struct hash_value *hash, const struct view *view, const struct key *key,
                     enum hash_purpose purpose) {
    *hash = (struct hash_value){.view = view, .key = key};
    hash->lookup = purpose == HASH_FOR_READ ? keyspace_read(view, key) : keyspace_find_for_write(view, key);
    hash->access = keyspace_pages(view, &view->keyspace->shards[key->shard]);
    if (!hash->lookup.record) return true;
    if (record_type(hash->lookup.record) != RECORD_HASH) {
        hash->lookup.record = NULL;
        return false;
    }
    attach(hash);
    if (hash->root && __builtin_expect(hash->root->collection.next_expiry_ms <= view_expiry_ms(view), 0))
        hash_value_expire(hash, SWEPT_AT_OPENING, NULL, NULL);
    else if (hash->timed && (purpose == HASH_FOR_WRITE || hash_value_count(hash) == 0))
        hash_value_expire(hash, 0, NULL, NULL);
    return true;
}

const char *hash_value_encoding(const struct record *record) {
    switch (record_encoding(record)) {
    case RECORD_LISTPACK: return "listpack";
    case RECORD_LISTPACK_TIMED: return "listpackex";
    default: return "hashtable";
    }
}

/* ---- packed fields ---- */

static int64_t packed_expiry(const struct hash_value *hash, const uint8_t *at) {
    if (!hash->timed) return HASH_EXPIRY_NONE;
    int64_t expiry_ms = listpack_get(listpack_skip(at, 2)).number;
    return expiry_ms ? expiry_ms : HASH_EXPIRY_NONE;
}

static bool is_expired(const struct hash_value *hash, int64_t expiry_ms) {
    return expiry_ms >= 0 && expiry_ms <= view_expiry_ms(hash->view);
}

/* Reads the field at `at`; returns the next one. */
static const uint8_t *read_packed(const struct hash_value *hash, const uint8_t *at, struct hash_entry *entry) {
    const uint8_t *value = listpack_next(at);
    entry->field = listpack_get_text(at, entry->field_room);
    entry->value = listpack_get_text(value, entry->value_room);
    entry->expiry_ms = packed_expiry(hash, at);
    value = listpack_next(value);
    return hash->timed ? listpack_next(value) : value;
}

/* NULL: there is no such field. One that has expired is found. */
static const uint8_t *find_packed(const struct hash_value *hash, struct span field) {
    return listpack_find(listpack_first(packed_bytes(hash)), field, stride(hash) - 1);
}

uint64_t hash_value_count(const struct hash_value *hash) {
    if (!hash->lookup.record) return 0;
    if (hash->root) return hash->root->items.count;
    const uint8_t *listpack = packed_bytes(hash);
    if (!hash->timed) return listpack_count(listpack) / 2;
    uint64_t count = 0;
    for (const uint8_t *at = listpack_first(listpack); !listpack_at_end(at); at = listpack_skip(at, 3))
        count += !is_expired(hash, packed_expiry(hash, at));
    return count;
}

/* The packed bytes are from now on these. */
static enum page_status replace_packed(struct hash_value *hash, const uint8_t *bytes, size_t length) {
    char *value = keyspace_edit_value(hash->view, hash->key, &hash->lookup, length);
    if (!value) return failure(hash);
    memcpy(value, bytes, length);
    return PAGE_DONE;
}

/* Without memory to cut it off, the rest of a listpack that shrinks stays behind it, which its own header makes
 * harmless. */
static enum page_status edit_packed(struct hash_value *hash, const struct listpack_edit *edit) {
    const uint8_t *old = packed_bytes(hash);
    size_t before = listpack_bytes(old), after = listpack_length_after(old, edit);
    char *value = keyspace_edit_value(hash->view, hash->key, &hash->lookup, after > before ? after : before);
    if (!value) return failure(hash);
    listpack_apply((uint8_t *)value, edit);
    keyspace_shorten_value(hash->view, hash->key, &hash->lookup, after);
    return PAGE_DONE;
}

static enum page_status store_packed(struct hash_value *hash, const uint8_t *bytes, size_t length, bool timed) {
    struct record_plan plan = {.type = RECORD_HASH,
                               .encoding = timed ? RECORD_LISTPACK_TIMED : RECORD_LISTPACK,
                               .value = span_of(bytes, length),
                               .expiry_ms = RECORD_EXPIRY_NONE};
    if (hash->lookup.record) plan.expiry_ms = record_expiry(hash->lookup.record);
    if (!keyspace_store(hash->view, hash->key, &hash->lookup, &plan)) return failure(hash);
    attach(hash);
    return PAGE_DONE;
}

/* Gives every field its third element, so that some may expire. */
static enum page_status make_timed(struct hash_value *hash) {
    const uint8_t *listpack = packed_bytes(hash);
    struct listpack_element none = listpack_element_of_integer(0);
    size_t capacity = listpack_bytes(listpack) + (size_t)none.bytes * listpack_count(listpack) / 2;
    uint8_t *bytes = malloc(capacity);
    if (!bytes) return PAGE_NO_MEMORY;
    struct listpack_writer writer;
    listpack_writer_begin(&writer, bytes, capacity);
    for (const uint8_t *at = listpack_first(listpack), *next; !listpack_at_end(at); at = next) {
        next = listpack_skip(at, 2);
        listpack_writer_append_entries(&writer, at, next, 2);
        listpack_writer_append(&writer, &none);
    }
    size_t length = listpack_writer_finish(&writer);
    enum page_status status = store_packed(hash, bytes, length, true);
    free(bytes);
    return status;
}

/* ---- becoming big ---- */

/* A root with all fields that are there; `*status` says why there is none. */
static struct paged_hash_root *make_root(struct hash_value *hash, enum page_status *status) {
    struct paged_hash_root *root = (struct paged_hash_root *)keyspace_new_collection(hash->view, hash->key, &hash_kind);
    *status = failure(hash);
    if (!root) return NULL;
    paged_hash_init(&root->items, &root->collection.parts[COLLECTION_HASH], PAGED_HASH_MAP, hash->view->keyspace->seed);
    struct hash_walk walk;
    struct hash_entry entry;
    hash_value_walk(&walk, hash);
    while (hash_value_walk_next(&walk, &entry)) {
        *status = paged_hash_set(&root->items, &hash->access, entry.field, entry.value, entry.expiry_ms, NULL);
        if (*status == PAGE_DONE) continue;
        keyspace_discard_collection(hash->view, &root->collection);
        return NULL;
    }
    *status = PAGE_DONE;
    return root;
}

/* A big hash of what is there and this field. */
static enum page_status set_in_new_root(struct hash_value *hash, struct span field, struct span value,
                                        int64_t expiry_ms) {
    enum page_status status;
    struct paged_hash_root *root = make_root(hash, &status);
    if (!root) return status;
    status = paged_hash_set(&root->items, &hash->access, field, value, expiry_ms, NULL);
    if (status == PAGE_DONE &&
        !keyspace_store_collection(hash->view, hash->key, &hash->lookup, &root->collection, true))
        status = failure(hash);
    if (status == PAGE_DONE)
        attach(hash);
    else
        keyspace_discard_collection(hash->view, &root->collection);
    return status;
}

/* ---- reading ---- */

static void take_item(const struct paged_hash_item *item, struct hash_entry *entry) {
    entry->field = item->field;
    entry->value = item->value;
    entry->expiry_ms = item->expiry_ms;
}

enum page_status hash_value_get(struct hash_value *hash, struct span field, struct hash_entry *entry) {
    if (!hash->lookup.record) return PAGE_ABSENT;
    if (hash->root) {
        struct paged_hash_item item;
        enum page_status status = paged_hash_find(&hash->root->items, &hash->access, field, &item);
        if (status != PAGE_DONE) return status;
        if (is_expired(hash, item.expiry_ms)) return PAGE_ABSENT;
        take_item(&item, entry);
        return PAGE_DONE;
    }
    const uint8_t *at = find_packed(hash, field);
    if (!at) return PAGE_ABSENT;
    read_packed(hash, at, entry);
    return is_expired(hash, entry->expiry_ms) ? PAGE_ABSENT : PAGE_DONE;
}

bool hash_value_touch(struct hash_value *hash, struct span field) {
    return !hash->root || paged_hash_touch(&hash->root->items, &hash->access, field);
}

bool hash_value_touch_growth(struct hash_value *hash, uint64_t fields) {
    return !hash->root || paged_hash_touch_growth(&hash->root->items, &hash->access, fields, 64 * fields);
}

void hash_value_walk(struct hash_walk *walk, struct hash_value *hash) {
    walk->hash = hash;
    walk->at = hash->lookup.record && !hash->root ? listpack_first(packed_bytes(hash)) : NULL;
    if (hash->root) paged_hash_walk_all(&walk->pages, &hash->root->items, &hash->access);
}

uint64_t hash_value_scan(struct hash_walk *walk, struct hash_value *hash, uint64_t cursor) {
    hash_value_walk(walk, hash);
    return hash->root ? paged_hash_walk_scan(&walk->pages, &hash->root->items, &hash->access, cursor) : 0;
}

bool hash_value_walk_next(struct hash_walk *walk, struct hash_entry *entry) {
    if (walk->hash->root) {
        struct paged_hash_item item;
        do {
            if (!paged_hash_walk_next(&walk->pages, &item)) return false;
        } while (is_expired(walk->hash, item.expiry_ms));
        take_item(&item, entry);
        return true;
    }
    while (walk->at && !listpack_at_end(walk->at)) {
        walk->at = read_packed(walk->hash, walk->at, entry);
        if (!is_expired(walk->hash, entry->expiry_ms)) return true;
    }
    return false;
}

/* ---- random ---- */

/* Visits `want` of the `count` fields of a walk, each set as likely. */
static void sample_walk(struct hash_value *hash, struct random *random, uint64_t want, uint64_t count,
                        hash_value_visit *visit, void *ctx) {
    struct hash_walk walk;
    struct hash_entry entry;
    hash_value_walk(&walk, hash);
    for (; want && hash_value_walk_next(&walk, &entry); count--) {
        if (want < count && random_below(random, count) >= want) continue;
        visit(ctx, &entry);
        want--;
    }
}

static uint64_t count_walk(struct hash_value *hash) {
    struct hash_walk walk;
    struct hash_entry entry;
    uint64_t count = 0;
    hash_value_walk(&walk, hash);
    while (hash_value_walk_next(&walk, &entry)) count++;
    return count;
}

enum page_status hash_value_random(struct hash_value *hash, struct random *random, struct hash_entry *entry) {
    if (!hash->lookup.record) return PAGE_ABSENT;
    for (unsigned tries = 0; hash->root && tries < RANDOM_TRIES; tries++) {
        struct paged_hash_item item;
        enum page_status status = paged_hash_random(&hash->root->items, &hash->access, random, &item);
        if (status != PAGE_DONE) return status;
        if (is_expired(hash, item.expiry_ms)) continue;
        take_item(&item, entry);
        return PAGE_DONE;
    }
    /* Packed, or nearly all has expired. */
    uint64_t count = hash->root ? count_walk(hash) : hash_value_count(hash);
    if (hash->access.missing) return PAGE_MISSING;
    if (!count) return PAGE_ABSENT;
    struct hash_walk walk;
    hash_value_walk(&walk, hash);
    for (uint64_t skip = random_below(random, count) + 1; skip > 0; skip--)
        if (!hash_value_walk_next(&walk, entry)) return PAGE_MISSING;
    return PAGE_DONE;
}

static enum page_status sample_pages(struct hash_value *hash, struct random *random, uint64_t want,
                                     hash_value_visit *visit, void *ctx) {
    struct paged_hash *fields = &hash->root->items;
    uint64_t *places = malloc(want * sizeof(*places));
    if (!places) return PAGE_NO_MEMORY;
    paged_hash_sample(fields, random, want, places);
    enum page_status result = PAGE_DONE;
    for (uint64_t i = 0; i < want; i++) {
        struct paged_hash_item item;
        struct hash_entry entry;
        enum page_status status = paged_hash_at(fields, &hash->access, places[i], &item);
        if (status != PAGE_DONE) {
            result = status;
            continue;
        }
        take_item(&item, &entry);
        visit(ctx, &entry);
    }
    free(places);
    return result;
}

enum page_status hash_value_sample(struct hash_value *hash, struct random *random, uint64_t want,
                                   hash_value_visit *visit, void *ctx) {
    bool due = hash->root && hash->root->collection.next_expiry_ms <= view_expiry_ms(hash->view);
    uint64_t count = due ? count_walk(hash) : hash_value_count(hash);
    if (want > count) want = count;
    if (!want) return hash->access.missing ? PAGE_MISSING : PAGE_DONE;
    if (hash->root && !due && want < count) return sample_pages(hash, random, want, visit, ctx);
    sample_walk(hash, random, want, count, visit, ctx);
    return hash->access.missing ? PAGE_MISSING : PAGE_DONE;
}

/* ---- changing ---- */

/* A field that has expired goes, for those who run the commands again and do not know that it has expired. */
static void tell_field_gone(const struct hash_value *hash, struct span field) {
    const struct keyspace_removal *removal = &hash->view->keyspace->removal;
    if (__builtin_expect(removal->field != NULL, 0)) removal->field(hash->key->name, hash->view->database, field);
}

static enum page_status set_in_root(struct hash_value *hash, struct span field, struct span value, int64_t expiry_ms,
                                    bool *is_new) {
    struct paged_hash *fields = &hash->root->items;
    bool added, was_expired = false;
    if (fields->timed) {
        struct paged_hash_item item;
        enum page_status found = paged_hash_find(fields, &hash->access, field, &item);
        if (found == PAGE_MISSING) return found;
        was_expired = found == PAGE_DONE && is_expired(hash, item.expiry_ms);
        if (was_expired && expiry_ms == HASH_EXPIRY_KEEP) expiry_ms = HASH_EXPIRY_NONE;
    }
    enum page_status status = paged_hash_set(fields, &hash->access, field, value, expiry_ms, &added);
    if (status != PAGE_DONE) return status;
    if (was_expired) tell_field_gone(hash, field);
    if (is_new) *is_new = added || was_expired;
    keyspace_collection_changed(hash->view, hash->key);
    return PAGE_DONE;
}

static enum page_status create_packed(struct hash_value *hash, struct span field, struct span value,
                                      int64_t expiry_ms) {
    struct listpack_element elements[3] = {listpack_element_of_text(field), listpack_element_of_text(value),
                                           listpack_element_of_integer(expiry_ms)};
    unsigned count = expiry_ms >= 0 ? 3 : 2;
    size_t capacity = LISTPACK_EMPTY_BYTES + listpack_elements_bytes(elements, count);
    uint8_t on_stack[COPY_ON_STACK], *bytes = capacity <= sizeof(on_stack) ? on_stack : malloc(capacity);
    if (!bytes) return PAGE_NO_MEMORY;
    struct listpack_writer writer;
    listpack_writer_begin(&writer, bytes, capacity);
    for (unsigned i = 0; i < count; i++) listpack_writer_append(&writer, &elements[i]);
    enum page_status status = store_packed(hash, bytes, listpack_writer_finish(&writer), expiry_ms >= 0);
    if (bytes != on_stack) free(bytes);
    return status;
}

/* Whether the hash may stay packed with this field and value in it, which is an additional one if `adds`. */
static bool stays_packed(const struct hash_value *hash, struct span field, struct span value, bool adds) {
    const struct value_limits *limits = &hash->view->keyspace->limits;
    uint64_t longest = field.length > value.length ? field.length : value.length;
    if ((int64_t)longest > limits->hash_packed_bytes || longest > PACKED_BYTES_MAX / 4) return false;
    uint64_t count = adds, bytes = 0;
    if (hash->lookup.record) {
        count += listpack_count(packed_bytes(hash)) / stride(hash);
        bytes = listpack_bytes(packed_bytes(hash));
    }
    return (int64_t)count <= limits->hash_packed_entries && bytes + field.length + value.length < PACKED_BYTES_MAX;
}

/* Of a packed hash, or none. */
static enum page_status set_packed(struct hash_value *hash, struct span field, struct span value, int64_t expiry_ms) {
    if (!hash->lookup.record) return create_packed(hash, field, value, expiry_ms);
    if (expiry_ms >= 0 && !hash->timed) {
        enum page_status status = make_timed(hash);
        if (status != PAGE_DONE) return status;
    }
    const uint8_t *listpack = packed_bytes(hash), *at = find_packed(hash, field);
    struct listpack_element elements[3] = {listpack_element_of_text(field), listpack_element_of_text(value),
                                           listpack_element_of_integer(expiry_ms >= 0 ? expiry_ms : 0)};
    struct listpack_edit edit =
        at ? listpack_plan_splice(listpack, listpack_next(at), stride(hash) - 1, elements + 1, stride(hash) - 1)
           : listpack_plan_append(listpack, elements, stride(hash));
    return edit_packed(hash, &edit);
}

static enum page_status set_field(struct hash_value *hash, struct span field, struct span value, int64_t expiry_ms,
                                  bool *is_new) {
    if (hash->root) return set_in_root(hash, field, value, expiry_ms, is_new);
    const uint8_t *at = hash->lookup.record ? find_packed(hash, field) : NULL;
    int64_t before_ms = at ? packed_expiry(hash, at) : HASH_EXPIRY_NONE;
    bool was_expired = is_expired(hash, before_ms);
    if (expiry_ms == HASH_EXPIRY_KEEP) expiry_ms = was_expired ? HASH_EXPIRY_NONE : before_ms;
    enum page_status status = stays_packed(hash, field, value, !at) ? set_packed(hash, field, value, expiry_ms)
                                                                    : set_in_new_root(hash, field, value, expiry_ms);
    if (status == PAGE_DONE && was_expired) tell_field_gone(hash, field);
    if (status == PAGE_DONE && is_new) *is_new = !at || was_expired;
    return status;
}

enum page_status hash_value_set(struct hash_value *hash, struct span field, struct span value, int64_t expiry_ms,
                                bool *is_new) {
    enum page_status status = set_field(hash, field, value, expiry_ms, is_new);
    if (expiry_ms >= 0 && status == PAGE_DONE) keyspace_note_fields(hash->view, hash->key, expiry_ms);
    return status;
}

/* A new hash of all pairs in one record; false: it is not to be packed, or a field comes twice. */
static bool create_from_pairs(struct hash_value *hash, const struct span *pairs, size_t pair_count,
                              enum page_status *status) {
    uint8_t bytes[COPY_ON_STACK];
    struct listpack_writer writer;
    if ((int64_t)pair_count > hash->view->keyspace->limits.hash_packed_entries) return false;
    listpack_writer_begin(&writer, bytes, sizeof(bytes));
    for (size_t i = 0; i < 2 * pair_count; i++) {
        if (i % 2 == 0) {
            if (!stays_packed(hash, pairs[i], pairs[i + 1], true)) return false;
            *writer.at = LISTPACK_END;
            if (listpack_find(bytes + LISTPACK_HEADER_BYTES, pairs[i], 1)) return false;
        }
        struct listpack_element element = listpack_element_of_text(pairs[i]);
        if (listpack_writer_length(&writer) + element.bytes > sizeof(bytes)) return false;
        listpack_writer_append(&writer, &element);
    }
    *status = store_packed(hash, bytes, listpack_writer_finish(&writer), false);
    return true;
}

enum page_status hash_value_set_pairs(struct hash_value *hash, const struct span *pairs, size_t pair_count,
                                      uint64_t *added) {
    enum page_status status;
    *added = 0;
    if (!hash->lookup.record && pair_count > 1 && create_from_pairs(hash, pairs, pair_count, &status)) {
        if (status == PAGE_DONE) *added = pair_count;
        return status;
    }
    if (pair_count > 1) {
        for (size_t i = 0; i < pair_count; i++) hash_value_touch(hash, pairs[2 * i]);
        hash_value_touch_growth(hash, pair_count);
        if (hash->access.missing) return PAGE_MISSING;
    }
    for (size_t i = 0; i < pair_count; i++) {
        bool is_new;
        status = hash_value_set(hash, pairs[2 * i], pairs[2 * i + 1], HASH_EXPIRY_NONE, &is_new);
        if (status != PAGE_DONE) return status;
        *added += is_new;
    }
    return PAGE_DONE;
}

/* The field is there and has not expired. PAGE_DONE, PAGE_ABSENT, PAGE_MISSING. */
static enum page_status expect_in_root(struct hash_value *hash, struct span field) {
    struct paged_hash_item item;
    if (!hash->root->items.timed) return PAGE_DONE;
    enum page_status status = paged_hash_find(&hash->root->items, &hash->access, field, &item);
    return status == PAGE_DONE && is_expired(hash, item.expiry_ms) ? PAGE_ABSENT : status;
}

static enum page_status set_expiry(struct hash_value *hash, struct span field, int64_t expiry_ms) {
    if (!hash->lookup.record) return PAGE_ABSENT;
    enum page_status status;
    if (hash->root) {
        status = expect_in_root(hash, field);
        if (status == PAGE_DONE) status = paged_hash_set_expiry(&hash->root->items, &hash->access, field, expiry_ms);
        if (status == PAGE_DONE) keyspace_collection_changed(hash->view, hash->key);
        return status;
    }
    const uint8_t *at = find_packed(hash, field);
    if (!at || is_expired(hash, packed_expiry(hash, at))) return PAGE_ABSENT;
    if (!hash->timed) {
        if (expiry_ms < 0) return PAGE_DONE;
        status = make_timed(hash);
        if (status != PAGE_DONE) return status;
        at = find_packed(hash, field);
    }
    struct listpack_element element = listpack_element_of_integer(expiry_ms >= 0 ? expiry_ms : 0);
    struct listpack_edit edit = listpack_plan_replace(packed_bytes(hash), listpack_skip(at, 2), &element);
    return edit_packed(hash, &edit);
}

enum page_status hash_value_set_expiry(struct hash_value *hash, struct span field, int64_t expiry_ms) {
    enum page_status status = set_expiry(hash, field, expiry_ms);
    if (expiry_ms >= 0 && status == PAGE_DONE) keyspace_note_fields(hash->view, hash->key, expiry_ms);
    return status;
}

enum page_status hash_value_delete(struct hash_value *hash, struct span field) {
    if (!hash->lookup.record) return PAGE_ABSENT;
    if (hash->root) {
        enum page_status status = expect_in_root(hash, field);
        if (status == PAGE_DONE) status = paged_hash_delete(&hash->root->items, &hash->access, field);
        if (status != PAGE_DONE) return status;
        if (hash->root->items.count)
            keyspace_collection_changed(hash->view, hash->key);
        else
            remove_key(hash);
        return PAGE_DONE;
    }
    const uint8_t *at = find_packed(hash, field);
    if (!at || is_expired(hash, packed_expiry(hash, at))) return PAGE_ABSENT;
    if (listpack_count(packed_bytes(hash)) == stride(hash)) {
        if (!view_begin_change(hash->view)) return failure(hash);
        remove_key(hash);
        return PAGE_DONE;
    }
    struct listpack_edit edit = listpack_plan_delete(packed_bytes(hash), at, stride(hash));
    return edit_packed(hash, &edit);
}

/* ---- expiry ---- */

/* Tells that so many fields have expired, and the key with them if it is `emptied`. */
static void tell_expired(const struct hash_value *hash, uint64_t count, bool emptied) {
    hash->lookup.shard->counters.expired_fields += count;
    struct keyspace *keyspace = hash->view->keyspace;
    keyspace_tell(keyspace, KEYSPACE_FIELDS_EXPIRED, hash->key->name, hash->view->database, 0);
    if (emptied) keyspace_tell(keyspace, KEYSPACE_KEY_EMPTIED, hash->key->name, hash->view->database, 0);
}

/* The packed fields without those that have expired; they are visited. */
static void expire_packed(struct hash_value *hash, hash_value_visit *visit, void *ctx) {
    const uint8_t *listpack = packed_bytes(hash);
    uint64_t live = hash_value_count(hash);
    if (live == listpack_count(listpack) / 3 || !view_begin_change(hash->view)) return;
    size_t length = listpack_bytes(listpack);
    uint8_t *old = malloc(2 * length), *thinned = old + length;
    if (!old) return;
    memcpy(old, listpack, length);
    struct listpack_writer writer;
    listpack_writer_begin(&writer, thinned, length);
    for (const uint8_t *at = listpack_first(old), *next; !listpack_at_end(at); at = next) {
        next = listpack_skip(at, 3);
        if (!is_expired(hash, packed_expiry(hash, at))) listpack_writer_append_entries(&writer, at, next, 3);
    }
    size_t rest = listpack_writer_finish(&writer);
    bool gone = live > 0 ? replace_packed(hash, thinned, rest) == PAGE_DONE : true;
    if (gone) tell_expired(hash, listpack_count(old) / 3 - live, live == 0);
    for (const uint8_t *at = listpack_first(old); gone && !listpack_at_end(at);) {
        struct hash_entry entry;
        at = read_packed(hash, at, &entry);
        if (!is_expired(hash, entry.expiry_ms)) continue;
        tell_field_gone(hash, entry.field);
        if (visit) visit(ctx, &entry);
    }
    if (live == 0) remove_key(hash);
    free(old);
}

struct expiry_visit {
    const struct hash_value *hash;
    hash_value_visit *visit;
    void *ctx;
    uint64_t count;
};

static void visit_expired(void *ctx, const struct paged_hash_item *item) {
    struct expiry_visit *expiry = ctx;
    struct hash_entry entry;
    expiry->count++;
    take_item(item, &entry);
    tell_field_gone(expiry->hash, entry.field);
    if (expiry->visit) expiry->visit(expiry->ctx, &entry);
}

static bool expire(struct hash_value *hash, unsigned budget, hash_value_visit *visit, void *ctx) {
    if (!hash->root) {
        if (hash->timed) expire_packed(hash, visit, ctx);
        return false;
    }
    struct expiry_visit expiry = {hash, visit, ctx, 0};
    bool missing = hash->access.missing;
    keyspace_before_change(hash->view, &hash->lookup); /* it may have been opened to be read */
    bool more =
        paged_hash_sweep(&hash->root->items, &hash->access, view_expiry_ms(hash->view), budget, visit_expired, &expiry);
    /* That an expired field could not be reached makes no answer untrue. */
    hash->access.missing = missing;
    if (expiry.count) tell_expired(hash, expiry.count, hash->root->items.count == 0);
    if (hash->root->items.count == 0)
        remove_key(hash);
    else if (expiry.count)
        keyspace_collection_changed(hash->view, hash->key);
    return more && hash->root;
}

/* What expires is told field by field; to the command it is no change of its own. */
bool hash_value_expire(struct hash_value *hash, unsigned budget, hash_value_visit *visit, void *ctx) {
    bool *dirty = hash->view->effects_dirty;
    bool before = dirty && *dirty;
    if (!hash->lookup.record) return false;
    bool more = expire(hash, budget, visit, ctx);
    if (dirty) *dirty = before;
    return more;
}

int64_t hash_value_next_expiry(const struct hash_value *hash) {
    int64_t least_ms = INT64_MAX;
    if (!hash->lookup.record) return least_ms;
    if (hash->root) return hash->root->collection.next_expiry_ms;
    if (!hash->timed) return least_ms;
    for (const uint8_t *at = listpack_first(packed_bytes(hash)); !listpack_at_end(at); at = listpack_skip(at, 3)) {
        int64_t expiry_ms = packed_expiry(hash, at);
        if (expiry_ms >= 0 && expiry_ms < least_ms) least_ms = expiry_ms;
    }
    return least_ms;
}
