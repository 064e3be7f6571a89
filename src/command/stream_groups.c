/* Consumer groups: XGROUP, XACK, XPENDING.
 *
 * What changes a group tells no watchers, as with Redis; only who waits to read in a group that is destroyed is woken,
 * to be told. */

#include "command/blocking.h"
#include "command/stream_argument.h"
#include "command/stream_effect.h"
#include "command/stream_handlers.h"

/* ---- XGROUP ---- */

#define ERROR_NEEDS_KEY                                                                                                \
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM "      \
    "option to create an empty stream automatically."

struct group_request {
    bool make_stream;
    int64_t entries_read;
};

static void reply_misuse(struct call *call) {
    reply_error_format(call->reply, "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try XGROUP HELP.",
                       (int)call->argv[1].length, call->argv[1].data);
}

/* Options of CREATE and SETID, from argument 5 on. */
static bool parse_group_request(struct call *call, bool creates, struct group_request *request) {
    *request = (struct group_request){.entries_read = STREAM_ENTRIES_READ_UNKNOWN};
    for (uint32_t i = 5; i < call->argc; i++) {
        if (creates && call_is(call, i, "mkstream")) {
            request->make_stream = true;
        } else if (call_is(call, i, "entriesread") && i + 1 < call->argc) {
            if (!call_integer(call, ++i, &request->entries_read)) return false;
            if (request->entries_read >= 0 || request->entries_read == STREAM_ENTRIES_READ_UNKNOWN) continue;
            reply_error(call->reply, "ERR value for ENTRIESREAD must be positive or -1");
            return false;
        } else {
            reply_misuse(call);
            return false;
        }
    }
    return true;
}

/* Opens the stream, which has to be there. */
static bool open_existing(struct call *call, struct stream_value *stream) {
    if (!stream_open(call, stream, STREAM_FOR_WRITE)) return false;
    if (!stream->root) reply_error(call->reply, ERROR_NEEDS_KEY);
    return stream->root != NULL;
}

/* The group of argument 3, which has to be there as well; NULL: an error is composed. */
static struct stream_group *open_group(struct call *call, struct stream_value *stream) {
    if (!open_existing(call, stream)) return NULL;
    struct stream_group *group = stream_group_find(&stream->root->groups, call->argv[3]);
    if (!group) stream_reply_no_group_of_key(call, call->argv[2], call->argv[3]);
    return group;
}

/* Argument 4: an ID, or "$" for the last one. SETID takes "-" and "+" as well, CREATE does not. */
static bool parse_position(struct call *call, const struct stream_value *stream, enum stream_id_form form,
                           struct stream_id *id) {
    if (call->argv[4].length == 1 && call->argv[4].data[0] == '$') {
        *id = stream->root ? stream->root->last : STREAM_ID_MIN;
        return true;
    }
    if (stream_id_parse(call->argv[4], form, 0, id, NULL)) return true;
    reply_error(call->reply, ERROR_STREAM_ID);
    return false;
}

/* The position as an ID, which "$" is not later. */
static void tell_position(struct call *call, const char *subcommand, const struct group_request *request,
                          struct stream_id last) {
    if (!call_has_effects(call)) return;
    effect_begin(call);
    effect_put_text(call, "XGROUP");
    effect_put_text(call, subcommand);
    effect_put(call, call->argv[2]);
    effect_put(call, call->argv[3]);
    effect_put_id(call, last);
    if (request->make_stream) effect_put_text(call, "MKSTREAM");
    if (request->entries_read != STREAM_ENTRIES_READ_UNKNOWN) {
        effect_put_text(call, "ENTRIESREAD");
        effect_put_integer(call, request->entries_read);
    }
    effect_end(call);
}

void command_xgroup_create(struct call *call) {
    struct group_request request;
    struct stream_value stream;
    struct stream_id last;
    if (!parse_group_request(call, true, &request)) return;
    if (!(request.make_stream ? stream_open(call, &stream, STREAM_FOR_WRITE) : open_existing(call, &stream))) return;
    if (call->argc > 8) {
        reply_misuse(call);
        return;
    }
    if (!parse_position(call, &stream, STREAM_ID_STRICT, &last)) return;
    if (stream.root && stream_group_find(&stream.root->groups, call->argv[3])) {
        reply_error(call->reply, "BUSYGROUP Consumer Group name already exists");
        return;
    }
    struct stream_group *group = NULL;
    bool creates = !stream.root;
    if ((stream.root || stream_value_create(&stream)) && page_begin_change(&stream.access))
        group = stream_group_add(&stream.root->groups, call->argv[3], &stream.root->collection.parts[COLLECTION_TREES]);
    if (!group) {
        if (creates && stream.root) keyspace_remove(&call->view, stream.key, &stream.lookup);
        call_effect_none(call);
        call_no_memory(call);
        return;
    }
    tell_position(call, "CREATE", &request, last);
    group->last = last;
    group->entries_read = request.entries_read;
    reply_ok(call->reply);
    call_notify(call, NOTIFY_STREAM, "xgroup-create", stream.key);
    stream_value_used(&stream);
}

void command_xgroup_setid(struct call *call) {
    struct group_request request;
    struct stream_value stream;
    struct stream_id last;
    if (!parse_group_request(call, false, &request)) return;
    struct stream_group *group = open_group(call, &stream);
    if (!group) return;
    if (call->argc > 7) {
        reply_misuse(call);
        return;
    }
    if (!parse_position(call, &stream, STREAM_ID_RANGE, &last) || !page_begin_change(&stream.access)) return;
    tell_position(call, "SETID", &request, last);
    group->last = last;
    group->entries_read = request.entries_read;
    reply_ok(call->reply);
    call_notify(call, NOTIFY_STREAM, "xgroup-setid", stream.key);
    stream_value_used(&stream);
}

void command_xgroup_destroy(struct call *call) {
    struct stream_value stream;
    if (!open_existing(call, &stream)) return;
    struct stream_group *group = stream_group_find(&stream.root->groups, call->argv[3]);
    if (group) {
        if (!page_begin_change(&stream.access)) return;
        stream_group_give_up(&stream.root->groups, group);
        call_effect_force(call);
        call_notify(call, NOTIFY_STREAM, "xgroup-destroy", stream.key);
        stream_value_used(&stream);
        call_ready(call, stream.key);
    }
    reply_integer(call->reply, group != NULL);
}

void command_xgroup_createconsumer(struct call *call) {
    struct stream_value stream;
    bool made;
    struct stream_group *group = open_group(call, &stream);
    if (!group || !stream_consumer_wanted(call, &stream, group, call->argv[4], &made)) return;
    if (made) stream_value_used(&stream);
    reply_integer(call->reply, made);
}

void command_xgroup_delconsumer(struct call *call) {
    struct stream_value stream;
    int64_t pending = 0;
    struct stream_group *group = open_group(call, &stream);
    if (!group) return;
    struct stream_consumer *consumer = stream_consumer_find(group, call->argv[4]);
    if (consumer) {
        pending = (int64_t)paged_tree_count(&consumer->pending);
        enum page_status status = stream_consumer_remove(group, &stream.access, consumer);
        if (status != PAGE_DONE) {
            stream_reply_failure(call, status);
            return;
        }
        call_effect_force(call);
        call_notify(call, NOTIFY_STREAM, "xgroup-delconsumer", stream.key);
        stream_value_used(&stream);
    }
    reply_integer(call->reply, pending);
}

void command_xgroup_help(struct call *call) {
    static const char *const lines[] = {
        "CREATE <key> <groupname> <id|$> [option]",
        "    Make a consumer group that begins behind <id>, or behind the last entry. Options are:",
        "    * MKSTREAM",
        "      Make the stream if there is none.",
        "    * ENTRIESREAD entries_read",
        "      How many entries the group counts as read (for internal use).",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Make a consumer in the group.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Remove the consumer and what is pending for it.",
        "DESTROY <key> <groupname>",
        "    Remove the group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        "    Have the group go on behind <id>, or behind the last entry.",
        NULL,
    };
    call_help(call, lines);
}

/* ---- XACK ---- */

static void begin_ack(struct call *call) {
    effect_begin(call);
    for (uint32_t i = 0; i < 3; i++) effect_put(call, call->argv[i]);
}

void command_xack(struct call *call) {
    struct stream_value stream;
    struct stream_group *group = NULL;
    int64_t removed = 0;
    if (!stream_open(call, &stream, STREAM_FOR_READ)) return;
    if (stream.root) group = stream_group_find(&stream.root->groups, call->argv[2]);
    if (!group) {
        reply_integer(call->reply, 0);
        return;
    }
    if (!stream_argument_ids(call, 3)) return;
    if (stream.access.source)
        for (uint32_t i = 3; i < call->argc; i++)
            stream_pending_touch(group, &stream.access, stream_argument_known_id(call, i), NULL);
    for (uint32_t i = 3; i < call->argc && !stream.access.missing; i++) {
        enum page_status status = stream_pending_remove(group, &stream.access, stream_argument_known_id(call, i));
        if (status != PAGE_DONE) continue;
        if (removed++ == 0) begin_ack(call);
        effect_put(call, call->argv[i]);
    }
    if (removed) {
        effect_end(call);
        stream_value_used(&stream);
    }
    if (stream.access.missing) return;
    reply_integer(call->reply, removed);
}

/* ---- XPENDING ---- */

struct pending_request {
    bool extended;
    struct stream_interval interval;
    int64_t idle_ms;
    uint64_t count;
    uint32_t consumer_index; /* 0: of all consumers */
};

static bool parse_pending_request(struct call *call, struct pending_request *request) {
    *request = (struct pending_request){.extended = call->argc > 3};
    uint32_t start = 3;
    int64_t count;
    if (!request->extended) return true;
    if (call->argc < 6 || call->argc > 9) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    if (call_is(call, 3, "idle")) {
        if (!call_integer(call, 4, &request->idle_ms)) return false;
        if (call->argc < 8) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        start += 2;
    }
    if (!call_integer(call, start + 2, &count) || !stream_argument_interval(call, start, start + 1, &request->interval))
        return false;
    request->count = count > 0 ? (uint64_t)count : 0;
    if (start + 3 < call->argc) request->consumer_index = start + 3;
    return true;
}

static struct span name_of(const struct stream_pending *pending) {
    return pending->consumer ? stream_consumer_name(pending->consumer) : span_of("", 0);
}

static void reply_edge(struct call *call, struct paged_tree_cursor *at) {
    if (at->missing)
        reply_null(call->reply);
    else
        stream_reply_id(call->reply, stream_id_of(&at->item.key));
}

static void reply_summary(struct call *call, struct stream_value *stream, const struct stream_group *group) {
    struct paged_tree_cursor at;
    reply_array(call->reply, 4);
    reply_integer(call->reply, (int64_t)paged_tree_count(&group->pending));
    if (paged_tree_count(&group->pending) == 0) {
        reply_null(call->reply);
        reply_null(call->reply);
        reply_null_array(call->reply);
        return;
    }
    paged_tree_first(&at, &group->pending, &stream->access);
    reply_edge(call, &at);
    paged_tree_last(&at, &group->pending, &stream->access);
    reply_edge(call, &at);
    uint32_t busy = 0;
    for (uint32_t i = 0; i < group->count; i++) busy += paged_tree_count(&group->sorted[i]->pending) > 0;
    reply_array(call->reply, busy);
    for (uint32_t i = 0; i < group->count; i++) {
        const struct stream_consumer *consumer = group->sorted[i];
        if (paged_tree_count(&consumer->pending) == 0) continue;
        reply_array(call->reply, 2);
        reply_bulk(call->reply, stream_consumer_name(consumer));
        reply_bulk_integer(call->reply, (int64_t)paged_tree_count(&consumer->pending));
    }
}

/* One ID of the interval; returns whether it was replied. */
static bool reply_pending(struct call *call, const struct pending_request *request, struct stream_id id,
                          const struct stream_pending *pending) {
    int64_t idle_ms = call->view.now_ms - pending->delivered_ms;
    if (request->idle_ms && idle_ms < request->idle_ms) return false;
    reply_array(call->reply, 4);
    stream_reply_id(call->reply, id);
    reply_bulk(call->reply, name_of(pending));
    reply_integer(call->reply, idle_ms > 0 ? idle_ms : 0);
    reply_integer(call->reply, (int64_t)pending->deliveries);
    return true;
}

/* Goes along the consumer's tree if one is named, and looks each ID up in the group's. */
static void reply_extended(struct call *call, const struct pending_request *request, struct stream_value *stream,
                           const struct stream_group *group, const struct stream_consumer *consumer) {
    const struct paged_tree *tree = consumer ? &consumer->pending : &group->pending;
    struct paged_key first = stream_id_key(request->interval.first);
    struct paged_tree_cursor at;
    size_t replied = 0;
    struct reply_aggregate around = reply_begin(call->reply);
    paged_tree_seek(&at, tree, &stream->access, &first);
    for (; at.valid && replied < request->count; paged_tree_next(&at)) {
        struct stream_pending pending;
        if (at.missing) {
            /* As if all of the leaf were replied, or the rest of the tree would be asked for. */
            replied += at.leaf_count;
            continue;
        }
        struct stream_id id = stream_id_of(&at.item.key);
        if (stream_id_compare(id, request->interval.last) > 0) break;
        if (!consumer)
            pending = stream_pending_of(group, at.item.value);
        else if (stream_pending_find(group, &stream->access, id, &pending) != PAGE_DONE || pending.consumer != consumer)
            continue;
        replied += reply_pending(call, request, id, &pending);
    }
    reply_end(call->reply, around, '*', replied);
}

void command_xpending(struct call *call) {
    struct pending_request request;
    struct stream_value stream;
    struct stream_group *group = NULL;
    const struct stream_consumer *consumer = NULL;
    if (!parse_pending_request(call, &request) || !stream_open(call, &stream, STREAM_FOR_READ)) return;
    if (stream.root) group = stream_group_find(&stream.root->groups, call->argv[2]);
    if (!group) {
        stream_reply_no_group(call, call->argv[1], call->argv[2], "");
        return;
    }
    if (!request.extended) {
        reply_summary(call, &stream, group);
        return;
    }
    if (request.consumer_index) {
        consumer = stream_consumer_find(group, call->argv[request.consumer_index]);
        if (!consumer) {
            reply_array(call->reply, 0);
            return;
        }
    }
    reply_extended(call, &request, &stream, group, consumer);
}
