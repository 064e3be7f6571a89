/* Streams as RDB has them: entries in nodes (listpacks whose entries share the names of their fields), then numbers,
 * then groups with what is pending.
 *
 * The number of nodes comes first, so nodes have to be known before anything is read: a node is a leaf of the entries'
 * tree, and their number is a sum over the inner nodes, which are in DRAM. A leaf holds 2 KB of entries, or one that is
 * longer; so nodes are about as large as Redis makes them.
 *
 * What is pending for a consumer is, by its own tree, perhaps an ID too many (stream_group.h), which a loader would not
 * accept. The trees agree when there are as many IDs in the consumers' trees as in the group's; where they do not, IDs
 * are first counted by consumer in the group's tree, and each consumer's are then taken from there.
 *
 * Phases, in order: the nodes; the numbers; for each group its head (or the count before it), what is pending; for each
 * consumer its head, what is pending. */

#include "keyspace/stream_value.h"
#include "persist/rdb_save_private.h"
#include "record/listpack.h"

#include <stdlib.h>

enum phase {
    PHASE_BEGIN,
    PHASE_NODES,
    PHASE_NUMBERS,
    PHASE_GROUP,
    PHASE_COUNT,
    PHASE_GROUP_HEAD,
    PHASE_GROUP_PENDING,
    PHASE_CONSUMER,
    PHASE_CONSUMER_PENDING,
    PHASE_END,
};

enum { ENTRY_NUMBERS = 4, NODE_FIXED_BYTES = 64 };

static struct stream_root *root_of(const struct rdb_step *step) {
    return (struct stream_root *)step->save->root;
}

/* ---- nodes ---- */

static void put_id(struct rdb_step *step, struct stream_id id) {
    uint64_t numbers[2] = {__builtin_bswap64(id.ms), __builtin_bswap64(id.sequence)};
    rdb_put_bytes(step->output, numbers, sizeof(numbers));
}

static size_t entry_bytes_max(const struct stream_schemas *schemas, struct span bytes) {
    struct stream_entry entry;
    size_t length = (ENTRY_NUMBERS + 1) * RDB_ELEMENT_BYTES;
    stream_entry_open(&entry, schemas, bytes);
    while (stream_entry_next(&entry)) length += entry.name.length + entry.value.length + 2 * RDB_ELEMENT_BYTES;
    return length;
}

/* Whether the entry has the names of the first one, which is `first`. */
static bool same_names(const struct stream_schemas *schemas, struct span first, struct span bytes) {
    struct stream_entry a, b;
    stream_entry_open(&a, schemas, first);
    stream_entry_open(&b, schemas, bytes);
    if (a.schema && a.schema == b.schema) return true;
    if (a.count != b.count) return false;
    while (stream_entry_next(&a) && stream_entry_next(&b))
        if (!span_equal(a.name, b.name)) return false;
    return true;
}

static void write_entry(struct listpack_writer *writer, const struct stream_schemas *schemas, struct stream_id above,
                        struct span first, struct span bytes) {
    struct stream_entry entry;
    bool same = same_names(schemas, first, bytes);
    stream_entry_open(&entry, schemas, bytes);
    listpack_writer_append_integer(writer, same ? RDB_STREAM_SAME_FIELDS : 0);
    listpack_writer_append_integer(writer, (int64_t)above.ms);
    listpack_writer_append_integer(writer, (int64_t)above.sequence);
    if (!same) listpack_writer_append_integer(writer, entry.count);
    int64_t elements = same ? 3 : 4;
    while (stream_entry_next(&entry)) {
        if (!same) listpack_writer_append_text(writer, entry.name);
        listpack_writer_append_text(writer, entry.value);
        elements += same ? 1 : 2;
    }
    listpack_writer_append_integer(writer, elements);
}

static bool put_node(struct rdb_step *step, struct paged_tree_cursor at) {
    struct rdb_collection_save *save = step->save;
    const struct stream_schemas *schemas = &root_of(step)->schemas;
    struct paged_tree_cursor first = at;
    struct stream_id master = stream_id_of(&at.item.key);
    struct span first_bytes = at.item.value;
    struct stream_entry names;
    size_t bytes = NODE_FIXED_BYTES + entry_bytes_max(schemas, first_bytes);
    for (uint32_t i = 0; i < first.leaf_count; i++) {
        if (i) paged_tree_next(&at);
        bytes += entry_bytes_max(schemas, at.item.value);
    }
    if (!rdb_reserve_scratch(save, bytes)) return false;
    struct listpack_writer writer;
    listpack_writer_begin(&writer, save->scratch, bytes);
    listpack_writer_append_integer(&writer, first.leaf_count);
    listpack_writer_append_integer(&writer, 0);
    stream_entry_open(&names, schemas, first_bytes);
    listpack_writer_append_integer(&writer, names.count);
    while (stream_entry_next(&names)) listpack_writer_append_text(&writer, names.name);
    listpack_writer_append_integer(&writer, 0);
    at = first;
    for (uint32_t i = 0; i < first.leaf_count; i++) {
        if (i) paged_tree_next(&at);
        struct stream_id id = stream_id_of(&at.item.key);
        struct stream_id above = {id.ms - master.ms, id.sequence - master.sequence};
        write_entry(&writer, schemas, above, first_bytes, at.item.value);
    }
    size_t length = listpack_writer_finish(&writer);
    rdb_put_length(step->output, RDB_STREAM_ID_BYTES);
    put_id(step, master);
    rdb_put_blob(step->output, span_of(save->scratch, length), save->options->compress);
    return !step->output->failed;
}

/* ---- numbers ---- */

static void put_id_numbers(struct rdb_step *step, struct stream_id id) {
    rdb_put_length(step->output, id.ms);
    rdb_put_length(step->output, id.sequence);
}

static void put_numbers(struct rdb_step *step) {
    const struct stream_root *root = root_of(step);
    rdb_put_length(step->output, root->entries.count);
    put_id_numbers(step, root->last);
    put_id_numbers(step, root->first);
    put_id_numbers(step, root->max_deleted);
    rdb_put_length(step->output, root->added);
    rdb_put_length(step->output, root->groups.count);
}

/* ---- groups ---- */

static struct stream_group *group_of(const struct rdb_step *step) {
    return root_of(step)->groups.sorted[step->save->group];
}
static struct stream_consumer *consumer_of(const struct rdb_step *step) {
    return group_of(step)->sorted[step->save->consumer];
}

static bool trees_agree(const struct stream_group *group) {
    uint64_t pending = 0;
    for (uint32_t i = 0; i < group->count; i++) pending += group->sorted[i]->pending.count;
    return pending == group->pending.count;
}

/* counts[number of a consumer], and the sum of all behind them. */
static void count_item(struct rdb_step *step, const struct paged_item *item) {
    struct stream_group *group = group_of(step);
    struct stream_pending pending = stream_pending_of(group, item->value);
    if (!pending.consumer) return;
    step->save->counts[pending.consumer->number]++;
    step->save->counts[group->capacity]++;
}

static bool begin_count(struct rdb_step *step) {
    free(step->save->counts);
    step->save->counts = calloc((size_t)group_of(step)->capacity + 1, sizeof(uint64_t));
    return step->save->counts != NULL;
}

static void put_group_head(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    const struct stream_group *group = group_of(step);
    rdb_put_string(step->output, stream_group_name(group), save->options->compress);
    put_id_numbers(step, group->last);
    rdb_put_length(step->output, (uint64_t)group->entries_read);
    rdb_put_length(step->output, save->counts ? save->counts[group->capacity] : group->pending.count);
}

static void put_group_item(struct rdb_step *step, const struct paged_item *item) {
    struct stream_pending pending = stream_pending_of(group_of(step), item->value);
    if (step->save->counts && !pending.consumer) return;
    put_id(step, stream_id_of(&item->key));
    rdb_put_u64(step->output, (uint64_t)pending.delivered_ms);
    rdb_put_length(step->output, pending.deliveries);
}

static void put_consumer_head(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    const struct stream_consumer *consumer = consumer_of(step);
    rdb_put_string(step->output, stream_consumer_name(consumer), save->options->compress);
    rdb_put_u64(step->output, (uint64_t)consumer->seen_ms);
    if (rdb_save_version(save->options) >= RDB_VERSION_SET_LISTPACK)
        rdb_put_u64(step->output, (uint64_t)consumer->active_ms);
    rdb_put_length(step->output, save->counts ? save->counts[consumer->number] : consumer->pending.count);
}

static void put_consumer_item(struct rdb_step *step, const struct paged_item *item) {
    if (step->save->counts &&
        stream_pending_of(group_of(step), item->value).consumer != consumer_of(step)) /* of the group's tree */
        return;
    put_id(step, stream_id_of(&item->key));
}

/* ---- the phases ---- */

static void enter(struct rdb_step *step, enum phase phase) {
    step->save->phase = phase;
    step->save->at = 0;
}

static enum rdb_save_status enter_group(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    free(save->counts);
    save->counts = NULL;
    if (save->group == root_of(step)->groups.count) {
        enter(step, PHASE_END);
    } else if (trees_agree(group_of(step))) {
        enter(step, PHASE_GROUP_HEAD);
    } else {
        if (!begin_count(step)) return RDB_SAVE_FAILED;
        enter(step, PHASE_COUNT);
    }
    return RDB_SAVE_DONE;
}

static void enter_consumer(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    if (save->consumer < group_of(step)->count) {
        put_consumer_head(step);
        enter(step, PHASE_CONSUMER_PENDING);
    } else {
        save->group++;
        enter(step, PHASE_GROUP);
    }
}

/* One phase, or a part of it. RDB_SAVE_DONE: it has ended, and the next is entered. */
static enum rdb_save_status step_phase(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    enum rdb_save_status status = RDB_SAVE_DONE;
    switch ((enum phase)save->phase) {
    case PHASE_BEGIN:
        rdb_put_length(step->output, rdb_tree_leaves(&root_of(step)->entries));
        enter(step, PHASE_NODES);
        break;
    case PHASE_NODES:
        status = rdb_put_leaves(step, &root_of(step)->entries, put_node);
        if (status == RDB_SAVE_DONE) enter(step, PHASE_NUMBERS);
        break;
    case PHASE_NUMBERS:
        put_numbers(step);
        enter(step, PHASE_GROUP);
        break;
    case PHASE_GROUP: status = enter_group(step); break;
    case PHASE_COUNT:
        status = rdb_put_tree(step, &group_of(step)->pending, NULL, count_item);
        if (status == RDB_SAVE_DONE) enter(step, PHASE_GROUP_HEAD);
        break;
    case PHASE_GROUP_HEAD:
        put_group_head(step);
        enter(step, PHASE_GROUP_PENDING);
        break;
    case PHASE_GROUP_PENDING:
        status = rdb_put_tree(step, &group_of(step)->pending, NULL, put_group_item);
        if (status != RDB_SAVE_DONE) break;
        rdb_put_length(step->output, group_of(step)->count);
        save->consumer = 0;
        enter(step, PHASE_CONSUMER);
        break;
    case PHASE_CONSUMER: enter_consumer(step); break;
    case PHASE_CONSUMER_PENDING:
        status = rdb_put_tree(step, save->counts ? &group_of(step)->pending : &consumer_of(step)->pending, NULL,
                              put_consumer_item);
        if (status != RDB_SAVE_DONE) break;
        save->consumer++;
        enter(step, PHASE_CONSUMER);
        break;
    case PHASE_END: break;
    }
    return status;
}

enum rdb_save_status rdb_step_stream(struct rdb_step *step) {
    while (step->save->phase != PHASE_END) {
        enum rdb_save_status status = step_phase(step);
        if (status != RDB_SAVE_DONE) return status;
        if (step->output->failed) return RDB_SAVE_FAILED;
    }
    return RDB_SAVE_DONE;
}
