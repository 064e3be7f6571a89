/* Streams: see rdb_value_private.h, and rdb_layout.h for the bytes.
 *
 * Each node's listpack is read on its own: its names first, then entry after entry, which are added to the stream as
 * XADD would, deleted ones left out. What a node says of itself has to agree with what is in it.
 *
 * A group's pending entries come in two passes: all of them with their times, then each consumer's IDs. The first pass
 * is kept until the second has told whose each one is; one that is nobody's, or two people's, is refused. */

#include "persist/rdb_value_private.h"

#include <stdlib.h>

enum { ENTRY_FIXED = 3 }; /* flags and the ID's two parts */

struct pending_entry {
    struct stream_id id;
    int64_t delivered_ms;
    uint64_t deliveries; /* the highest bit: a consumer has it */
};
#define PENDING_TAKEN (UINT64_C(1) << 63)

struct stream_load {
    struct rdb_value_loader *loader;
    struct rdb_slices slices;
    struct stream_value stream;
    uint64_t entries;
    struct span *spans; /* of an entry: name, value, name, value ... */
    char (*rooms)[LISTPACK_NUMBER_TEXT_BYTES];
    size_t span_capacity;
    struct pending_entry *pending;
    size_t pending_count, pending_capacity;
};

/* ---- a node's listpack ---- */

struct node {
    const uint8_t *at;
    struct stream_id master;
    uint64_t entries, deleted, fields;
    const uint8_t *names;
};

static bool take_integer(struct node *node, int64_t *number) {
    if (listpack_at_end(node->at)) return false;
    struct listpack_value value = listpack_get(node->at);
    if (!value.integer && !number_parse_i64(value.text, &value.number)) return false;
    *number = value.number;
    node->at = listpack_next(node->at);
    return true;
}

static bool take_count(struct node *node, uint64_t *count) {
    int64_t number;
    if (!take_integer(node, &number) || number < 0) return false;
    *count = (uint64_t)number;
    return true;
}

static bool open_node(struct node *node, const uint8_t *listpack, struct span master) {
    uint64_t ms, sequence, zero;
    memcpy(&ms, master.data, 8);
    memcpy(&sequence, master.data + 8, 8);
    *node =
        (struct node){.at = listpack_first(listpack), .master = {__builtin_bswap64(ms), __builtin_bswap64(sequence)}};
    if (!take_count(node, &node->entries) || !take_count(node, &node->deleted) || !take_count(node, &node->fields))
        return false;
    node->names = node->at;
    for (uint64_t i = 0; i < node->fields; i++) {
        if (listpack_at_end(node->at)) return false;
        node->at = listpack_next(node->at);
    }
    return take_count(node, &zero) && zero == 0;
}

static bool reserve_spans(struct stream_load *load, uint64_t count) {
    if (count <= load->span_capacity) return true;
    size_t capacity = load->span_capacity ? load->span_capacity : 64;
    while (capacity < count) capacity *= 2;
    struct span *spans = realloc(load->spans, capacity * sizeof(*spans));
    if (spans) load->spans = spans;
    char(*rooms)[LISTPACK_NUMBER_TEXT_BYTES] = realloc(load->rooms, capacity * sizeof(*rooms));
    if (rooms) load->rooms = rooms;
    if (!spans || !rooms) return rdb_fail(load->loader, RDB_NO_MEMORY, "there is no memory for it");
    load->span_capacity = capacity;
    return true;
}

static bool take_text(struct stream_load *load, const uint8_t **at, uint64_t place) {
    if (listpack_at_end(*at)) return false;
    load->spans[place] = listpack_get_text(*at, load->rooms[place]);
    *at = listpack_next(*at);
    return true;
}

/* The names and values of the entry, whose fixed part was taken. */
static bool take_fields(struct stream_load *load, struct node *node, bool same, uint64_t fields) {
    const uint8_t *names = node->names;
    for (uint64_t i = 0; i < fields; i++)
        if (!take_text(load, same ? &names : &node->at, 2 * i) || !take_text(load, &node->at, 2 * i + 1)) return false;
    return true;
}

static bool append(struct stream_load *load, struct stream_id id, uint64_t fields) {
    struct stream_fields entry = {load->spans, (uint32_t)fields};
    enum page_status status;
    unsigned attempt = 0;
    size_t bytes = 0;
    for (uint64_t i = 0; i < 2 * fields; i++) bytes += load->spans[i].length;
    do {
        load->stream.access = load->slices.access;
        status = stream_value_append(&load->stream, id, entry);
        load->slices.access = load->stream.access;
        if (status != PAGE_DONE && !rdb_slices_retry(&load->slices, &attempt)) return false;
    } while (status != PAGE_DONE);
    load->entries++;
    return rdb_slices_step(&load->slices, bytes);
}

#define DAMAGED "a stream's node is damaged"

/* One entry of the node; `*live`: it is not marked as deleted. */
static bool load_entry(struct stream_load *load, struct node *node, uint32_t most_fields, bool *live) {
    int64_t flags, ms, sequence;
    uint64_t fields = node->fields, taken;
    if (!take_integer(node, &flags) || !take_integer(node, &ms) || !take_integer(node, &sequence))
        return rdb_corrupt(load->loader, DAMAGED);
    bool same = flags & RDB_STREAM_SAME_FIELDS;
    if ((!same && !take_count(node, &fields)) || fields == 0 || fields > most_fields)
        return rdb_corrupt(load->loader, DAMAGED);
    if (!reserve_spans(load, 2 * fields)) return false;
    if (!take_fields(load, node, same, fields) || !take_count(node, &taken) ||
        taken != ENTRY_FIXED + (same ? fields : 2 * fields + 1))
        return rdb_corrupt(load->loader, DAMAGED);
    *live = !(flags & RDB_STREAM_DELETED);
    if (!*live) return true;
    struct stream_id id = {node->master.ms + (uint64_t)ms, node->master.sequence + (uint64_t)sequence};
    if (stream_id_compare(id, load->stream.root->last) <= 0)
        return rdb_corrupt(load->loader, "a stream's entries are not in order");
    return append(load, id, fields);
}

static bool load_node(struct stream_load *load) {
    struct rdb_value_loader *loader = load->loader;
    struct rdb_text *id = &loader->texts[0], *bytes = &loader->texts[1];
    struct node node;
    uint64_t live = 0, deleted = 0;
    if (!rdb_get_text(loader->input, id) || !rdb_get_text(loader->input, bytes)) return false;
    if (id->span.length != RDB_STREAM_ID_BYTES) return rdb_corrupt(loader, "the ID of a stream's node is none");
    if (!listpack_is_valid(bytes->span)) return rdb_corrupt(loader, "a listpack is damaged");
    const uint8_t *listpack = (const uint8_t *)bytes->span.data;
    if (!open_node(&node, listpack, id->span)) return rdb_corrupt(loader, DAMAGED);
    uint32_t most = listpack_count(listpack);
    while (!listpack_at_end(node.at)) {
        bool is_live;
        if (!load_entry(load, &node, most, &is_live)) return false;
        is_live ? live++ : deleted++;
    }
    return (live == node.entries && deleted == node.deleted) || rdb_corrupt(loader, DAMAGED);
}

/* ---- groups ---- */

static struct stream_id get_id(struct rdb_input *input) {
    struct stream_id id = {rdb_get_length(input), 0};
    id.sequence = rdb_get_length(input);
    return id;
}

static bool get_raw_id(struct rdb_input *input, struct stream_id *id) {
    *id = (struct stream_id){__builtin_bswap64(rdb_get_u64(input)), 0};
    id->sequence = __builtin_bswap64(rdb_get_u64(input));
    return !rdb_input_failed(input);
}

static bool remember_pending(struct stream_load *load, const struct pending_entry *entry) {
    if (load->pending_count == load->pending_capacity) {
        size_t capacity = load->pending_capacity ? 2 * load->pending_capacity : 64;
        struct pending_entry *pending = realloc(load->pending, capacity * sizeof(*pending));
        if (!pending) return rdb_fail(load->loader, RDB_NO_MEMORY, "there is no memory for it");
        load->pending = pending;
        load->pending_capacity = capacity;
    }
    if (load->pending_count && stream_id_compare(load->pending[load->pending_count - 1].id, entry->id) >= 0)
        return rdb_corrupt(load->loader, "pending entries are not in order");
    load->pending[load->pending_count++] = *entry;
    return true;
}

static bool load_group_pending(struct stream_load *load) {
    struct rdb_input *input = load->loader->input;
    uint64_t count = rdb_get_count(input, RDB_STREAM_ID_BYTES + 8 + 1);
    load->pending_count = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct pending_entry entry;
        if (!get_raw_id(input, &entry.id)) return false;
        uint64_t delivered_ms = rdb_get_u64(input);
        entry.delivered_ms = delivered_ms > RECORD_EXPIRY_MAX ? load->loader->now_ms : (int64_t)delivered_ms;
        entry.deliveries = rdb_get_length(input) & ~PENDING_TAKEN;
        if (rdb_input_failed(input) || !remember_pending(load, &entry)) return false;
    }
    return !rdb_input_failed(input);
}

static struct pending_entry *find_pending(struct stream_load *load, struct stream_id id) {
    size_t low = 0, high = load->pending_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = stream_id_compare(load->pending[middle].id, id);
        if (order == 0) return &load->pending[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool give_pending(struct stream_load *load, struct stream_group *group, struct stream_consumer *consumer,
                         struct stream_id id) {
    struct pending_entry *entry = find_pending(load, id);
    enum page_status status;
    unsigned attempt = 0;
    if (!entry) return rdb_corrupt(load->loader, "a consumer has an entry that is not pending");
    if (entry->deliveries & PENDING_TAKEN) return rdb_corrupt(load->loader, "a pending entry is there twice");
    struct stream_pending pending = {entry->delivered_ms, entry->deliveries, consumer};
    while ((status = stream_pending_set(group, &load->slices.access, id, &pending, NULL)) != PAGE_DONE)
        if (!rdb_slices_retry(&load->slices, &attempt)) return false;
    entry->deliveries |= PENDING_TAKEN;
    return rdb_slices_step(&load->slices, RDB_STREAM_ID_BYTES);
}

static bool load_consumer(struct stream_load *load, uint8_t type, struct stream_group *group, uint64_t *given) {
    struct rdb_input *input = load->loader->input;
    struct rdb_text *name = &load->loader->texts[0];
    struct stream_id id;
    if (!rdb_get_text(input, name)) return false;
    int64_t seen_ms = (int64_t)rdb_get_u64(input);
    int64_t active_ms = type == RDB_STREAM_LISTPACKS_3 ? (int64_t)rdb_get_u64(input) : seen_ms;
    uint64_t count = rdb_get_count(input, RDB_STREAM_ID_BYTES);
    if (rdb_input_failed(input)) return false;
    if (stream_consumer_find(group, name->span)) return rdb_corrupt(load->loader, "a consumer is there twice");
    struct stream_consumer *consumer = stream_consumer_add(group, name->span, seen_ms);
    if (!consumer) return rdb_fail(load->loader, RDB_NO_MEMORY, "there is no memory for it");
    consumer->seen_ms = seen_ms;
    consumer->active_ms = active_ms;
    for (uint64_t i = 0; i < count; i++)
        if (!get_raw_id(input, &id) || !give_pending(load, group, consumer, id)) return false;
    *given += count;
    return true;
}

static bool load_group(struct stream_load *load, uint8_t type) {
    struct rdb_input *input = load->loader->input;
    struct rdb_text *name = &load->loader->texts[0];
    struct stream_root *root = load->stream.root;
    uint64_t given = 0;
    if (!rdb_get_text(input, name)) return false;
    struct stream_id last = get_id(input);
    int64_t entries_read = STREAM_ENTRIES_READ_UNKNOWN;
    if (type == RDB_STREAM_LISTPACKS)
        entries_read = stream_value_entries_until(root, last);
    else
        entries_read = (int64_t)rdb_get_length(input);
    if (rdb_input_failed(input)) return false;
    if (stream_group_find(&root->groups, name->span)) return rdb_corrupt(load->loader, "a group is there twice");
    struct stream_group *group = stream_group_add(&root->groups, name->span, &root->collection.parts[COLLECTION_TREES]);
    if (!group) return rdb_fail(load->loader, RDB_NO_MEMORY, "there is no memory for it");
    group->last = last;
    group->entries_read = entries_read < 0 || entries_read > INT64_MAX / 2 ? STREAM_ENTRIES_READ_UNKNOWN : entries_read;
    if (!load_group_pending(load)) return false;
    uint64_t consumers = rdb_get_count(input, 10);
    for (uint64_t i = 0; i < consumers; i++)
        if (!load_consumer(load, type, group, &given)) return false;
    if (rdb_input_failed(input)) return false;
    return given == load->pending_count || rdb_corrupt(load->loader, "a pending entry is nobody's");
}

/* ---- the whole ---- */

static bool load_ids(struct stream_load *load, uint8_t type) {
    struct rdb_input *input = load->loader->input;
    struct stream_root *root = load->stream.root;
    uint64_t length = rdb_get_length(input), added = length;
    struct stream_id last = get_id(input);
    if (type != RDB_STREAM_LISTPACKS) {
        (void)get_id(input); /* the first: the entries tell */
        root->max_deleted = get_id(input);
        added = rdb_get_length(input);
    }
    if (rdb_input_failed(input)) return false;
    if (length != load->entries || stream_id_compare(last, root->last) < 0)
        return rdb_corrupt(load->loader, "a stream's length or last ID is not that of its entries");
    root->last = last;
    root->added = added < length || added > INT64_MAX / 2 ? length : added;
    return true;
}

static bool load_all(struct stream_load *load, uint8_t type) {
    struct rdb_input *input = load->loader->input;
    uint64_t nodes = rdb_get_count(input, 2);
    for (uint64_t i = 0; i < nodes; i++)
        if (!load_node(load)) return false;
    if (rdb_input_failed(input) || !load_ids(load, type)) return false;
    uint64_t groups = rdb_get_count(input, 5);
    for (uint64_t i = 0; i < groups; i++)
        if (!load_group(load, type)) return false;
    return !rdb_input_failed(input);
}

static bool make_root(struct stream_load *load) {
    unsigned attempt = 0;
    struct collection *collection;
    while (!(collection = keyspace_new_collection(&load->slices.view, load->loader->key, &stream_kind)))
        if (!rdb_slices_retry(&load->slices, &attempt)) return false;
    struct stream_root *root = (struct stream_root *)collection;
    paged_tree_init(&root->entries, &collection->parts[COLLECTION_TREES],
                    (struct paged_tree_shape){.numbers = 2, .value = true});
    load->stream = (struct stream_value){.view = &load->slices.view, .key = load->loader->key, .root = root};
    return true;
}

bool rdb_load_stream_value(struct rdb_value_loader *loader, uint8_t type, struct rdb_value *value) {
    struct stream_load load = {.loader = loader};
    rdb_slices_begin(&load.slices, loader);
    bool loaded = make_root(&load) && load_all(&load, type);
    if (loaded)
        *value = (struct rdb_value){
            .type = RECORD_STREAM, .encoding = RECORD_PAGED, .collection = &load.stream.root->collection};
    else if (load.stream.root)
        keyspace_discard_collection(&load.slices.view, &load.stream.root->collection);
    rdb_slices_end(&load.slices);
    free(load.spans);
    free(load.rooms);
    free(load.pending);
    return loaded;
}

/* ---- passing by ---- */

static bool skip_strings(struct rdb_input *input, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        if (!rdb_skip_string(input)) return false;
    return !rdb_input_failed(input);
}

static void skip_lengths(struct rdb_input *input, unsigned count) {
    while (count--) (void)rdb_get_length(input);
}

static bool skip_group(struct rdb_input *input, uint8_t type) {
    if (!rdb_skip_string(input)) return false;
    skip_lengths(input, type == RDB_STREAM_LISTPACKS ? 2 : 3);
    uint64_t pending = rdb_get_count(input, RDB_STREAM_ID_BYTES + 8 + 1);
    for (uint64_t i = 0; i < pending && rdb_skip_bytes(input, RDB_STREAM_ID_BYTES + 8); i++) skip_lengths(input, 1);
    uint64_t consumers = rdb_get_count(input, 10);
    for (uint64_t i = 0; i < consumers && rdb_skip_string(input); i++) {
        (void)rdb_skip_bytes(input, type == RDB_STREAM_LISTPACKS_3 ? 16 : 8);
        uint64_t count = rdb_get_count(input, RDB_STREAM_ID_BYTES);
        (void)rdb_skip_bytes(input, count * RDB_STREAM_ID_BYTES);
    }
    return !rdb_input_failed(input);
}

bool rdb_skip_stream_value(struct rdb_input *input, uint8_t type) {
    uint64_t nodes = rdb_get_count(input, 2);
    if (!skip_strings(input, 2 * nodes)) return false;
    skip_lengths(input, type == RDB_STREAM_LISTPACKS ? 3 : 8);
    uint64_t groups = rdb_get_count(input, 5);
    for (uint64_t i = 0; i < groups; i++)
        if (!skip_group(input, type)) return false;
    return !rdb_input_failed(input);
}
