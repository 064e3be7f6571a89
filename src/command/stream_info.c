/* XINFO: what a stream, its groups and their consumers are, in short or (STREAM ... FULL) in full.
 *
 * The radix tree that replies speak of is Redis's; ours has leaves where that has keys, and we say so many. */

#include "command/stream_argument.h"
#include "command/stream_handlers.h"

enum { FULL_COUNT_DEFAULT = 10 };

static bool open_existing(struct call *call, struct stream_value *stream) {
    if (!stream_open(call, stream, STREAM_FOR_READ)) return false;
    if (!stream->root) reply_error(call->reply, ERROR_NO_KEY);
    return stream->root != NULL;
}

static void reply_field(struct reply *reply, const char *name, int64_t value) {
    reply_bulk_text(reply, name);
    reply_integer(reply, value);
}

static void reply_id_field(struct reply *reply, const char *name, struct stream_id id) {
    reply_bulk_text(reply, name);
    stream_reply_id(reply, id);
}

/* ---- STREAM ---- */

/* Leaves of the entries. All trees share one table, which counts pages: exact while what is pending in a group, or for
 * a consumer, fits a page. */
static uint64_t leaves_of(const struct stream_root *root) {
    uint64_t count = paged_tree_count(&root->entries), leaves = page_table_live(root->entries.table);
    for (uint32_t i = 0; i < root->groups.count && leaves > 1; i++) {
        const struct stream_group *group = root->groups.sorted[i];
        leaves -= paged_tree_count(&group->pending) > 0;
        for (uint32_t k = 0; k < group->count && leaves > 1; k++)
            leaves -= paged_tree_count(&group->sorted[k]->pending) > 0;
    }
    return leaves < count ? leaves : count;
}

static void reply_edge(struct call *call, struct stream_value *stream, const char *name, bool last) {
    struct paged_tree_cursor at;
    reply_bulk_text(call->reply, name);
    if (last)
        paged_tree_last(&at, &stream->root->entries, &stream->access);
    else
        paged_tree_first(&at, &stream->root->entries, &stream->access);
    if (at.valid && !at.missing)
        stream_reply_entry(call->reply, stream->root, stream_id_of(&at.item.key), at.item.value);
    else
        reply_null(call->reply);
}

/* The fields that both forms begin with, after a map's header for so many more pairs. */
static void reply_common(struct call *call, const struct stream_root *root, size_t more) {
    const struct stream_producers *producers = root->producers;
    struct reply *reply = call->reply;
    uint64_t leaves = leaves_of(root);
    reply_map(reply, 7 + more + (producers ? 6 : 0));
    reply_field(reply, "length", (int64_t)paged_tree_count(&root->entries));
    reply_field(reply, "radix-tree-keys", (int64_t)leaves);
    reply_field(reply, "radix-tree-nodes", (int64_t)leaves + 1);
    reply_id_field(reply, "last-generated-id", root->last);
    reply_id_field(reply, "max-deleted-entry-id", root->max_deleted);
    reply_field(reply, "entries-added", (int64_t)root->added);
    reply_id_field(reply, "recorded-first-entry-id", root->first);
    if (!producers) return;
    reply_field(reply, "idmp-duration", producers->duration_s);
    reply_field(reply, "idmp-maxsize", producers->size_max);
    reply_field(reply, "pids-tracked", producers->count);
    reply_field(reply, "iids-tracked", (int64_t)stream_producers_tracked(producers));
    reply_field(reply, "iids-added", (int64_t)producers->ids_added);
    reply_field(reply, "iids-duplicates", (int64_t)producers->duplicates);
}

static void reply_counters(struct call *call, const struct stream_root *root, const struct stream_group *group) {
    int64_t lag;
    reply_bulk_text(call->reply, "entries-read");
    if (group->entries_read == STREAM_ENTRIES_READ_UNKNOWN)
        reply_null(call->reply);
    else
        reply_integer(call->reply, group->entries_read);
    reply_bulk_text(call->reply, "lag");
    if (stream_value_lag(root, group, &lag))
        reply_integer(call->reply, lag);
    else
        reply_null(call->reply);
}

/* What is pending in a group, or for one consumer: [ID, consumer, time, deliveries], without the consumer for one. */
static void reply_pending(struct call *call, struct stream_value *stream, const struct stream_group *group,
                          const struct stream_consumer *consumer, uint64_t most) {
    const struct paged_tree *tree = consumer ? &consumer->pending : &group->pending;
    uint64_t count = paged_tree_count(tree) < most ? paged_tree_count(tree) : most;
    struct paged_tree_cursor at;
    reply_array(call->reply, count);
    paged_tree_first(&at, tree, &stream->access);
    for (; at.valid && at.position < count; paged_tree_next(&at)) {
        struct stream_pending pending = {.consumer = NULL};
        if (at.missing) continue;
        struct stream_id id = stream_id_of(&at.item.key);
        if (!consumer)
            pending = stream_pending_of(group, at.item.value);
        else if (stream_pending_find(group, &stream->access, id, &pending) != PAGE_DONE)
            pending = (struct stream_pending){.consumer = NULL};
        reply_array(call->reply, consumer ? 3 : 4);
        stream_reply_id(call->reply, id);
        if (!consumer)
            reply_bulk(call->reply, pending.consumer ? stream_consumer_name(pending.consumer) : span_of("", 0));
        reply_integer(call->reply, pending.delivered_ms);
        reply_integer(call->reply, (int64_t)pending.deliveries);
    }
}

static void reply_full_group(struct call *call, struct stream_value *stream, const struct stream_group *group,
                             uint64_t most) {
    struct reply *reply = call->reply;
    reply_map(reply, 7);
    reply_bulk_text(reply, "name");
    reply_bulk(reply, stream_group_name(group));
    reply_id_field(reply, "last-delivered-id", group->last);
    reply_counters(call, stream->root, group);
    reply_field(reply, "pel-count", (int64_t)paged_tree_count(&group->pending));
    reply_bulk_text(reply, "pending");
    reply_pending(call, stream, group, NULL, most);
    reply_bulk_text(reply, "consumers");
    reply_array(reply, group->count);
    for (uint32_t i = 0; i < group->count; i++) {
        const struct stream_consumer *consumer = group->sorted[i];
        reply_map(reply, 5);
        reply_bulk_text(reply, "name");
        reply_bulk(reply, stream_consumer_name(consumer));
        reply_field(reply, "seen-time", consumer->seen_ms);
        reply_field(reply, "active-time", consumer->active_ms);
        reply_field(reply, "pel-count", (int64_t)paged_tree_count(&consumer->pending));
        reply_bulk_text(reply, "pending");
        reply_pending(call, stream, group, consumer, most);
    }
}

static void reply_full(struct call *call, struct stream_value *stream, uint64_t most) {
    struct stream_root *root = stream->root;
    const struct stream_interval all = {STREAM_ID_MIN, STREAM_ID_MAX};
    struct stream_positions entries = stream_positions_of(stream, &all, most, false);
    reply_common(call, root, 2);
    reply_bulk_text(call->reply, "entries");
    reply_array(call->reply, entries.count);
    stream_reply_positions(call->reply, stream, &entries, false);
    reply_bulk_text(call->reply, "groups");
    reply_array(call->reply, root->groups.count);
    for (uint32_t i = 0; i < root->groups.count; i++) reply_full_group(call, stream, root->groups.sorted[i], most);
}

static void reply_misuse(struct call *call) {
    reply_error_format(call->reply, "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try XINFO HELP.",
                       (int)call->argv[1].length, call->argv[1].data);
}

void command_xinfo_stream(struct call *call) {
    struct stream_value stream;
    int64_t count = FULL_COUNT_DEFAULT;
    if (!open_existing(call, &stream)) return;
    if (call->argc == 3) {
        reply_common(call, stream.root, 3);
        reply_field(call->reply, "groups", stream.root->groups.count);
        reply_edge(call, &stream, "first-entry", false);
        reply_edge(call, &stream, "last-entry", true);
        return;
    }
    if ((call->argc != 4 && call->argc != 6) || !call_is(call, 3, "full") ||
        (call->argc == 6 && !call_is(call, 4, "count"))) {
        reply_misuse(call);
        return;
    }
    if (call->argc == 6 && !call_integer(call, 5, &count)) return;
    if (count < 0) count = FULL_COUNT_DEFAULT;
    reply_full(call, &stream, count ? (uint64_t)count : UINT64_MAX);
}

/* ---- GROUPS, CONSUMERS ---- */

void command_xinfo_groups(struct call *call) {
    struct stream_value stream;
    if (!open_existing(call, &stream)) return;
    const struct stream_groups *groups = &stream.root->groups;
    reply_array(call->reply, groups->count);
    for (uint32_t i = 0; i < groups->count; i++) {
        const struct stream_group *group = groups->sorted[i];
        reply_map(call->reply, 6);
        reply_bulk_text(call->reply, "name");
        reply_bulk(call->reply, stream_group_name(group));
        reply_field(call->reply, "consumers", group->count);
        reply_field(call->reply, "pending", (int64_t)paged_tree_count(&group->pending));
        reply_id_field(call->reply, "last-delivered-id", group->last);
        reply_counters(call, stream.root, group);
    }
}

void command_xinfo_consumers(struct call *call) {
    struct stream_value stream;
    if (!open_existing(call, &stream)) return;
    const struct stream_group *group = stream_group_find(&stream.root->groups, call->argv[3]);
    if (!group) {
        stream_reply_no_group_of_key(call, call->argv[2], call->argv[3]);
        return;
    }
    reply_array(call->reply, group->count);
    for (uint32_t i = 0; i < group->count; i++) {
        const struct stream_consumer *consumer = group->sorted[i];
        int64_t idle_ms = call->view.now_ms - consumer->seen_ms;
        int64_t inactive_ms = call->view.now_ms - consumer->active_ms;
        reply_map(call->reply, 4);
        reply_bulk_text(call->reply, "name");
        reply_bulk(call->reply, stream_consumer_name(consumer));
        reply_field(call->reply, "pending", (int64_t)paged_tree_count(&consumer->pending));
        reply_field(call->reply, "idle", idle_ms > 0 ? idle_ms : 0);
        reply_field(call->reply, "inactive", consumer->active_ms == -1 ? -1 : inactive_ms > 0 ? inactive_ms : 0);
    }
}

void command_xinfo_help(struct call *call) {
    static const char *const lines[] = {
        "CONSUMERS <key> <groupname>",
        "    The consumers of a group.",
        "GROUPS <key>",
        "    The groups of a stream.",
        "STREAM <key> [FULL [COUNT <count>]",
        "    What the stream is; with FULL, <count> of its entries and all of its groups.",
        NULL,
    };
    call_help(call, lines);
}
