/* Streams: the root, and what needs more of it than one part. The shape is drawn in stream_value.h.
 *
 * What XADD does is nearly all there is to speed here: an entry is packed into a few bytes on the stack, with the
 * schema that the entry before had, and put behind the last item of the tree.
 *
 * `first` is kept because lags are told from it without reading a page. It is set when an entry comes into an empty
 * stream, and found again after the first one went. */

#include "keyspace/stream_value.h"

#include <stdlib.h>

enum {
    PACKED_ON_STACK = 512,
    GIVEN_UP_BUDGET = 128, /* pages of destroyed groups that a command drops: ~20 us */
};

static const struct paged_tree_shape entries_shape = {.numbers = 2, .value = true};

static struct stream_root *root_of(struct collection *collection) {
    return (struct stream_root *)collection;
}

/* ---- the kind ---- */

static bool stream_release(struct collection *collection, unsigned budget) {
    struct stream_root *root = root_of(collection);
    if (paged_tree_release(&root->entries, budget) || stream_groups_release(&root->groups, budget)) return true;
    stream_schemas_free(&root->schemas);
    stream_producers_free(root->producers);
    root->producers = NULL;
    return false;
}

static bool stream_tidy(struct collection *collection, struct page_access *access, unsigned budget) {
    return paged_tree_drop_cut(&root_of(collection)->entries, access, budget, NULL, NULL);
}

static bool fill_copy(const struct stream_root *from, struct stream_root *to, struct page_table *table) {
    if (!paged_tree_copy(&from->entries, &to->entries, table) || !stream_schemas_copy(&from->schemas, &to->schemas) ||
        !stream_groups_copy(&from->groups, &to->groups, table))
        return false;
    if (!from->producers) return true;
    to->producers = stream_producers_copy(from->producers);
    return to->producers != NULL;
}

static struct collection *stream_copy_root(const struct collection *collection) {
    const struct stream_root *from = (const struct stream_root *)collection;
    struct stream_root *to = calloc(1, sizeof(*to));
    if (!to) return NULL;
    collection_init(&to->collection, &stream_kind);
    to->last = from->last;
    to->first = from->first;
    to->max_deleted = from->max_deleted;
    to->added = from->added;
    paged_tree_init(&to->entries, &to->collection.parts[COLLECTION_TREES], entries_shape);
    if (fill_copy(from, to, &to->collection.parts[COLLECTION_TREES])) return &to->collection;
    while (stream_release(&to->collection, UINT32_MAX)) continue;
    free(to);
    return NULL;
}

static bool stream_save(const struct collection *collection, struct state_writer *out) {
    const struct stream_root *root = (const struct stream_root *)collection;
    stream_id_save(root->last, out);
    stream_id_save(root->first, out);
    stream_id_save(root->max_deleted, out);
    state_write_u64(out, root->added);
    paged_tree_save(&root->entries, out);
    stream_schemas_save(&root->schemas, out);
    stream_groups_save(&root->groups, out);
    state_write_u8(out, root->producers != NULL);
    if (root->producers) stream_producers_save(root->producers, out);
    return !out->failed;
}

static bool load_parts(struct stream_root *root, struct state_reader *in) {
    root->last = stream_id_load(in);
    root->first = stream_id_load(in);
    root->max_deleted = stream_id_load(in);
    root->added = state_read_u64(in);
    if (!paged_tree_load(&root->entries, in) || !stream_schemas_load(&root->schemas, in) ||
        !stream_groups_load(&root->groups, in, root->entries.table))
        return false;
    bool has_producers = state_read_u8(in);
    if (has_producers) root->producers = stream_producers_load(in);
    return !in->failed && has_producers == (root->producers != NULL);
}

static struct collection *stream_load(struct state_reader *in, uint64_t seed) {
    struct stream_root *root = calloc(1, sizeof(*root));
    (void)seed;
    if (!root) return NULL;
    paged_tree_init(&root->entries, &root->collection.parts[COLLECTION_TREES], entries_shape);
    if (load_parts(root, in)) return &root->collection;
    while (stream_release(&root->collection, UINT32_MAX)) continue;
    free(root);
    return NULL;
}

static bool stream_loaded(struct collection *collection, struct page_access *access) {
    (void)access;
    const struct stream_root *root = root_of(collection);
    if (!paged_tree_claim(&root->entries) || !stream_groups_claim(&root->groups)) return false;
    (void)page_table_end_claims(&collection->parts[COLLECTION_TREES]);
    return page_table_live(&collection->parts[COLLECTION_HASH]) == 0;
}

static size_t stream_bytes(const struct collection *collection) {
    const struct stream_root *root = (const struct stream_root *)collection;
    return sizeof(*root) + paged_tree_bytes(&root->entries) + stream_schemas_bytes(&root->schemas) +
           stream_groups_bytes(&root->groups) + stream_producers_bytes(root->producers);
}

static bool validate_entries(const struct stream_root *root, struct page_access *access) {
    struct paged_tree_cursor at;
    if (!paged_tree_validate(&root->entries, access)) return false;
    for (paged_tree_first(&at, &root->entries, access); at.valid; paged_tree_next(&at)) {
        if (at.missing) continue;
        struct stream_id id = stream_id_of(&at.item.key);
        if (stream_id_compare(id, root->first) < 0 || stream_id_compare(id, root->last) > 0) return false;
        if (at.position == 0 && stream_id_compare(id, root->first) != 0) return false;
        struct stream_entry entry;
        stream_entry_open(&entry, &root->schemas, at.item.value);
        if (entry.schema && stream_id_compare(id, entry.schema->last_use) > 0) return false;
        while (stream_entry_next(&entry)) continue;
        if (entry.at != entry.end) return false;
    }
    return true;
}

static bool stream_validate(struct collection *collection, struct page_access *access) {
    struct stream_root *root = root_of(collection);
    bool empty = paged_tree_count(&root->entries) == 0;
    if (empty && !stream_id_is_zero(root->first)) return false;
    return validate_entries(root, access) && stream_groups_validate(&root->groups, access);
}

/* Where the next entry is put. */
static void stream_prefetch(const struct collection *collection, struct span element, unsigned step) {
    const struct stream_root *root = (const struct stream_root *)collection;
    (void)element;
    stream_schemas_prefetch(&root->schemas, step);
    paged_tree_prefetch_last(&root->entries, step);
}

const struct collection_kind stream_kind = {
    .type = RECORD_STREAM,
    .encoding = "stream",
    .release = stream_release,
    .tidy = stream_tidy,
    .copy_root = stream_copy_root,
    .save = stream_save,
    .load = stream_load,
    .loaded = stream_loaded,
    .prefetch = stream_prefetch,
    .prefetch_steps = PAGED_TREE_PREFETCH_STEPS,
    .bytes = stream_bytes,
    .validate = stream_validate,
    .root_bytes = sizeof(struct stream_root),
};

/* ---- opening ---- */

bool stream_value_open(struct stream_value *stream, const struct view *view, const struct key *key,
                       enum stream_purpose purpose) {
    stream->view = view;
    stream->key = key;
    stream->root = NULL;
    stream->lookup = purpose == STREAM_FOR_READ ? keyspace_read(view, key) : keyspace_find_for_write(view, key);
    stream->access = keyspace_pages(view, stream->lookup.shard);
    if (!stream->lookup.record) return true;
    if (record_type(stream->lookup.record) != RECORD_STREAM) return false;
    keyspace_before_change(view, &stream->lookup); /* what reads for a group changes what is pending */
    stream->root = root_of(lookup_collection(&stream->lookup));
    return true;
}

bool stream_value_create(struct stream_value *stream) {
    struct collection *collection = keyspace_new_collection(stream->view, stream->key, &stream_kind);
    if (!collection) return false;
    struct stream_root *root = root_of(collection);
    paged_tree_init(&root->entries, &collection->parts[COLLECTION_TREES], entries_shape);
    if (!keyspace_store_collection(stream->view, stream->key, &stream->lookup, collection, false)) {
        keyspace_discard_collection(stream->view, collection);
        return false;
    }
    stream->root = root;
    return true;
}

static void clear_given_up(struct stream_value *stream) {
    if (stream->root->groups.given_up && page_begin_change(&stream->access))
        (void)stream_groups_clear(&stream->root->groups, &stream->access, GIVEN_UP_BUDGET);
}

void stream_value_changed(struct stream_value *stream) {
    keyspace_collection_changed(stream->view, stream->key);
    clear_given_up(stream);
}

void stream_value_used(struct stream_value *stream) {
    stream->lookup.shard->changes++;
    view_note_change(stream->view);
    clear_given_up(stream);
}

/* ---- entries ---- */

/* An empty stream uses no schema. */
static struct stream_id schemas_used_from(const struct stream_root *root) {
    return paged_tree_count(&root->entries) ? root->first : STREAM_ID_MAX;
}

enum page_status stream_value_append(struct stream_value *stream, struct stream_id id, struct stream_fields fields) {
    struct stream_root *root = stream->root;
    char on_stack[PACKED_ON_STACK], *bytes = on_stack;
    int schema = stream_schemas_find(&root->schemas, fields, schemas_used_from(root));
    size_t length = stream_entry_bytes(fields, schema);
    if (length > PAGE_PAYLOAD_MAX / 2) return PAGE_NO_MEMORY;
    if (length > sizeof(on_stack) && !(bytes = malloc(length))) return PAGE_NO_MEMORY;
    stream_entry_pack(fields, schema, bytes);
    struct paged_key key = stream_id_key(id);
    enum page_status status = paged_tree_insert(&root->entries, &stream->access, &key, span_of(bytes, length));
    if (bytes != on_stack) free(bytes);
    if (status != PAGE_DONE) return status;
    if (schema >= 0) root->schemas.list[schema]->last_use = id;
    if (paged_tree_count(&root->entries) == 1) root->first = id;
    root->last = id;
    root->added++;
    return PAGE_DONE;
}

/* After entries went. Where the page cannot be read `first` stays: it is below the first entry, which is what uses of
 * schemas need. */
static void find_first(struct stream_value *stream) {
    struct stream_root *root = stream->root;
    struct paged_tree_cursor at;
    paged_tree_first(&at, &root->entries, &stream->access);
    if (!at.valid)
        root->first = STREAM_ID_MIN;
    else if (!at.missing)
        root->first = stream_id_of(&at.item.key);
}

enum page_status stream_value_delete(struct stream_value *stream, struct stream_id id) {
    struct paged_key key = stream_id_key(id);
    enum page_status status = paged_tree_delete(&stream->root->entries, &stream->access, &key);
    if (status == PAGE_DONE && stream_id_compare(id, stream->root->max_deleted) > 0) stream->root->max_deleted = id;
    return status;
}

void stream_value_deleted(struct stream_value *stream) {
    find_first(stream);
}

/* How many entries from the beginning are to go, exactly. */
static uint64_t surplus(struct stream_value *stream, const struct stream_trim *trim) {
    const struct stream_root *root = stream->root;
    uint64_t count = paged_tree_count(&root->entries);
    if (trim->strategy == STREAM_TRIM_LENGTH) return count > trim->length ? count - trim->length : 0;
    if (count == 0 || stream_id_compare(trim->least, root->first) <= 0) return 0;
    struct paged_tree_cursor at;
    struct paged_key key = stream_id_key(trim->least);
    paged_tree_seek(&at, &root->entries, &stream->access, &key);
    return at.position;
}

/* Whether pages hold few entries, so that whole ones are less than what is asked to go together. */
static bool goes_by_pages(const struct stream_root *root, uint64_t node_entries) {
    enum { LARGE_ENTRIES = 4 };
    uint64_t pages = page_table_live(root->entries.table) - paged_tree_cut_pages(&root->entries);
    uint64_t count = paged_tree_count(&root->entries);
    return node_entries == 0 || (pages && count / pages < node_entries / LARGE_ENTRIES);
}

/* Of `most` entries from the beginning, those of whole nodes. All that there are are whole, too. */
static uint64_t in_whole_nodes(struct stream_value *stream, uint64_t most, const struct stream_trim *trim) {
    struct paged_tree_cursor at;
    uint64_t count = paged_tree_count(&stream->root->entries);
    if (trim->limit && trim->limit < most) most = trim->limit;
    if (!goes_by_pages(stream->root, trim->node_entries)) {
        /* Nodes are counted from the first entry there ever was. */
        uint64_t added = stream->root->added, gone = added > count ? added - count : 0;
        uint64_t odd = (gone + most) % trim->node_entries;
        return most == count ? most : odd < most ? most - odd : 0;
    }
    paged_tree_at(&at, &stream->root->entries, &stream->access, most);
    return at.valid ? most - at.index : count;
}

enum page_status stream_value_trim(struct stream_value *stream, const struct stream_trim *trim, uint64_t *removed) {
    struct paged_tree *entries = &stream->root->entries;
    *removed = 0;
    uint64_t count = surplus(stream, trim);
    if (count && trim->approximate) count = in_whole_nodes(stream, count, trim);
    /* The new first entry's leaf is read after the change: have it at hand before. */
    if (stream->access.source && count && count < paged_tree_count(entries))
        (void)paged_tree_touch(entries, &stream->access, count, 1);
    if (stream->access.missing) return PAGE_MISSING;
    if (!count) return PAGE_DONE;
    uint64_t before = paged_tree_count(entries);
    enum page_status status = paged_tree_cut_range(entries, &stream->access, 0, count);
    if (paged_tree_has_cut(entries)) keyspace_tidy_later(stream->view, &stream->root->collection);
    *removed = before - paged_tree_count(entries);
    if (*removed) find_first(stream);
    return status;
}

enum page_status stream_value_last_id(struct stream_value *stream, struct stream_id *id) {
    struct stream_root *root = stream->root;
    struct paged_tree_cursor at;
    paged_tree_last(&at, &root->entries, &stream->access);
    *id = at.valid && !at.missing ? stream_id_of(&at.item.key) : STREAM_ID_MIN;
    return at.valid && at.missing ? PAGE_MISSING : PAGE_DONE;
}

/* ---- groups ---- */

/* Whether entries from `from` on were deleted by name, so that counting them would go wrong. */
static bool has_gaps_from(const struct stream_root *root, struct stream_id from) {
    return paged_tree_count(&root->entries) && !stream_id_is_zero(root->max_deleted) &&
           stream_id_compare(from, root->max_deleted) <= 0;
}

/* Deletions by name, if there were any, lie before the first entry there is. */
static bool has_no_gaps(const struct stream_root *root) {
    return stream_id_is_zero(root->max_deleted) || stream_id_compare(root->max_deleted, root->first) < 0;
}

int64_t stream_value_entries_until(const struct stream_root *root, struct stream_id id) {
    uint64_t count = paged_tree_count(&root->entries);
    int to_last = stream_id_compare(id, root->last);
    if (root->added == 0) return 0;
    if (count == 0 && to_last <= 0) return (int64_t)root->added;
    if (!stream_id_is_zero(id) && stream_id_compare(id, root->max_deleted) < 0) return STREAM_ENTRIES_READ_UNKNOWN;
    if (to_last == 0) return (int64_t)root->added;
    if (to_last > 0) return STREAM_ENTRIES_READ_UNKNOWN;
    if (has_no_gaps(root)) {
        int to_first = stream_id_compare(id, root->first);
        if (to_first < 0) return (int64_t)(root->added - count);
        if (to_first == 0) return (int64_t)(root->added - count + 1);
    }
    return STREAM_ENTRIES_READ_UNKNOWN;
}

bool stream_value_lag(const struct stream_root *root, const struct stream_group *group, int64_t *lag) {
    uint64_t count = paged_tree_count(&root->entries);
    *lag = 0;
    if (root->added == 0 || count == 0) return true;
    /* All that is left is ahead of the group, however many were trimmed in between. */
    if (stream_id_compare(group->last, root->first) < 0 && stream_id_compare(root->max_deleted, root->first) < 0) {
        *lag = (int64_t)count;
        return true;
    }
    int64_t read = group->entries_read;
    if (read == STREAM_ENTRIES_READ_UNKNOWN || has_gaps_from(root, group->last))
        read = stream_value_entries_until(root, group->last);
    if (read == STREAM_ENTRIES_READ_UNKNOWN) return false;
    *lag = (int64_t)(root->added - (uint64_t)read);
    return true;
}

void stream_value_advance(const struct stream_root *root, struct stream_group *group, struct stream_id id) {
    bool follows = stream_id_compare(group->last, root->first) >= 0 && !has_gaps_from(root, group->last);
    if (group->entries_read != STREAM_ENTRIES_READ_UNKNOWN && follows)
        group->entries_read++;
    else if (root->added)
        group->entries_read = stream_value_entries_until(root, id);
    group->last = id;
}
