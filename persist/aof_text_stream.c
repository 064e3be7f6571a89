/* Streams as commands: an XADD for each entry, XSETID for the numbers, then for each group XGROUP CREATE, its
 * consumers, and an XCLAIM for each pending entry.
 *
 * A stream without entries is made by adding one that is trimmed at once. What is pending is read from the group's
 * tree, which says who has it.
 *
 * Phases, in order: the entries; the numbers; for each group its head, what is pending. */

#include "keyspace/stream_value.h"
#include "persist/aof_text_private.h"

enum phase { PHASE_ENTRIES, PHASE_NUMBERS, PHASE_GROUP, PHASE_PENDING, PHASE_END };

static struct stream_root *root_of(const struct rdb_step *step) {
    return (struct stream_root *)step->save->root;
}

static const struct stream_group *group_of(const struct rdb_step *step) {
    return root_of(step)->groups.sorted[step->save->group];
}

static void put_id(struct rdb_output *output, struct stream_id id) {
    char text[STREAM_ID_TEXT_MAX];
    aof_text_word(output, span_of(text, stream_id_format(id, text)));
}

static void put_entry(struct rdb_step *step, const struct paged_item *item) {
    struct stream_entry entry;
    stream_entry_open(&entry, &root_of(step)->schemas, item->value);
    aof_text_head(step->output, 3 + 2 * (uint64_t)entry.count);
    aof_text_literal(step->output, "XADD");
    aof_text_word(step->output, aof_text_key(step));
    put_id(step->output, stream_id_of(&item->key));
    while (stream_entry_next(&entry)) {
        aof_text_word(step->output, entry.name);
        aof_text_word(step->output, entry.value);
    }
}

static void put_empty(struct rdb_step *step) {
    struct stream_id id = root_of(step)->last;
    if (stream_id_is_zero(id)) id.sequence = 1; /* no entry may have 0-0; XSETID puts it right */
    aof_text_head(step->output, 7);
    aof_text_literal(step->output, "XADD");
    aof_text_word(step->output, aof_text_key(step));
    aof_text_literal(step->output, "MAXLEN");
    aof_text_literal(step->output, "0");
    put_id(step->output, id);
    aof_text_literal(step->output, "x");
    aof_text_literal(step->output, "y");
}

static void put_numbers(struct rdb_step *step) {
    const struct stream_root *root = root_of(step);
    aof_text_head(step->output, 7);
    aof_text_literal(step->output, "XSETID");
    aof_text_word(step->output, aof_text_key(step));
    put_id(step->output, root->last);
    aof_text_literal(step->output, "ENTRIESADDED");
    aof_text_unsigned(step->output, root->added);
    aof_text_literal(step->output, "MAXDELETEDID");
    put_id(step->output, root->max_deleted);
}

static void put_consumer(struct rdb_step *step, const struct stream_consumer *consumer) {
    aof_text_head(step->output, 5);
    aof_text_literal(step->output, "XGROUP");
    aof_text_literal(step->output, "CREATECONSUMER");
    aof_text_word(step->output, aof_text_key(step));
    aof_text_word(step->output, stream_group_name(group_of(step)));
    aof_text_word(step->output, stream_consumer_name(consumer));
}

static void put_group(struct rdb_step *step) {
    const struct stream_group *group = group_of(step);
    aof_text_head(step->output, 7);
    aof_text_literal(step->output, "XGROUP");
    aof_text_literal(step->output, "CREATE");
    aof_text_word(step->output, aof_text_key(step));
    aof_text_word(step->output, stream_group_name(group));
    put_id(step->output, group->last);
    aof_text_literal(step->output, "ENTRIESREAD");
    aof_text_integer(step->output, group->entries_read);
    for (uint32_t i = 0; i < group->count; i++) put_consumer(step, group->sorted[i]);
}

static void put_pending(struct rdb_step *step, const struct paged_item *item) {
    const struct stream_group *group = group_of(step);
    struct stream_pending pending = stream_pending_of(group, item->value);
    if (!pending.consumer) return;
    aof_text_head(step->output, 12);
    aof_text_literal(step->output, "XCLAIM");
    aof_text_word(step->output, aof_text_key(step));
    aof_text_word(step->output, stream_group_name(group));
    aof_text_word(step->output, stream_consumer_name(pending.consumer));
    aof_text_literal(step->output, "0");
    put_id(step->output, stream_id_of(&item->key));
    aof_text_literal(step->output, "TIME");
    aof_text_integer(step->output, pending.delivered_ms);
    aof_text_literal(step->output, "RETRYCOUNT");
    aof_text_unsigned(step->output, pending.deliveries);
    aof_text_literal(step->output, "JUSTID");
    aof_text_literal(step->output, "FORCE");
}

static void enter(struct rdb_step *step, enum phase phase) {
    step->save->phase = phase;
    step->save->at = 0;
}

/* One phase, or a part of it. RDB_SAVE_DONE: it has ended, and the next is entered. */
static enum rdb_save_status step_phase(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    const struct stream_root *root = root_of(step);
    enum rdb_save_status status = RDB_SAVE_DONE;
    switch ((enum phase)save->phase) {
    case PHASE_ENTRIES:
        if (root->entries.count == 0) put_empty(step);
        status = aof_text_put_tree(step, &root->entries, NULL, 0, NULL, put_entry);
        if (status == RDB_SAVE_DONE) enter(step, PHASE_NUMBERS);
        break;
    case PHASE_NUMBERS:
        put_numbers(step);
        enter(step, PHASE_GROUP);
        break;
    case PHASE_GROUP:
        if (save->group == root->groups.count) {
            enter(step, PHASE_END);
            break;
        }
        put_group(step);
        enter(step, PHASE_PENDING);
        break;
    case PHASE_PENDING:
        status = aof_text_put_tree(step, &group_of(step)->pending, NULL, 0, NULL, put_pending);
        if (status != RDB_SAVE_DONE) break;
        save->group++;
        enter(step, PHASE_GROUP);
        break;
    case PHASE_END: break;
    }
    return status;
}

enum rdb_save_status aof_text_step_stream(struct rdb_step *step) {
    while (step->save->phase != PHASE_END) {
        enum rdb_save_status status = step_phase(step);
        if (status != RDB_SAVE_DONE) return status;
        if (step->output->failed) return RDB_SAVE_FAILED;
    }
    return RDB_SAVE_DONE;
}
