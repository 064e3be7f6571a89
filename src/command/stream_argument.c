/* Arguments and replies that the stream commands share. */

#include "command/stream_argument.h"

#include "command/stream_effect.h"

/* ---- arguments ---- */

static bool refuse_id(struct call *call) {
    reply_error(call->reply, ERROR_STREAM_ID);
    return false;
}

bool stream_argument_id(struct call *call, uint32_t index, struct stream_id *id) {
    return stream_id_parse(call->argv[index], STREAM_ID_STRICT, 0, id, NULL) || refuse_id(call);
}

/* One end of an interval; `*open`: the ID itself is not part of it. */
static bool parse_end(struct call *call, uint32_t index, uint64_t missing_sequence, struct stream_id *id, bool *open) {
    struct span text = call->argv[index];
    *open = text.length > 1 && text.data[0] == '(';
    if (*open) text = span_of(text.data + 1, text.length - 1);
    return stream_id_parse(text, *open ? STREAM_ID_STRICT : STREAM_ID_RANGE, missing_sequence, id, NULL) ||
           refuse_id(call);
}

bool stream_argument_start(struct call *call, uint32_t index, struct stream_id *id) {
    bool open;
    if (!parse_end(call, index, 0, id, &open)) return false;
    if (!open || stream_id_increment(id)) return true;
    reply_error(call->reply, "ERR invalid start ID for the interval");
    return false;
}

bool stream_argument_interval(struct call *call, uint32_t first_index, uint32_t last_index,
                              struct stream_interval *interval) {
    bool open;
    if (!stream_argument_start(call, first_index, &interval->first) ||
        !parse_end(call, last_index, UINT64_MAX, &interval->last, &open))
        return false;
    if (!open || stream_id_decrement(&interval->last)) return true;
    reply_error(call->reply, "ERR invalid end ID for the interval");
    return false;
}

bool stream_argument_ids(struct call *call, uint32_t first) {
    struct stream_id id;
    for (uint32_t i = first; i < call->argc; i++)
        if (!stream_argument_id(call, i, &id)) return false;
    return true;
}

struct stream_id stream_argument_known_id(const struct call *call, uint32_t index) {
    struct stream_id id = STREAM_ID_MIN;
    (void)!stream_id_parse(call->argv[index], STREAM_ID_STRICT, 0, &id, NULL);
    return id;
}

/* ---- opening ---- */

bool stream_open_key(struct call *call, struct stream_value *stream, const struct key *key,
                     enum stream_purpose purpose) {
    if (stream_value_open(stream, &call->view, key, purpose)) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

bool stream_open(struct call *call, struct stream_value *stream, enum stream_purpose purpose) {
    return stream_open_key(call, stream, &call->keys[0], purpose);
}

void stream_reply_no_group(struct call *call, struct span key, struct span group, const char *rest) {
    reply_error_format(call->reply, "NOGROUP No such key '%.*s' or consumer group '%.*s'%s", (int)key.length, key.data,
                       (int)group.length, group.data, rest);
}

void stream_reply_no_group_of_key(struct call *call, struct span key, struct span group) {
    reply_error_format(call->reply, "NOGROUP No such consumer group '%.*s' for key name '%.*s'", (int)group.length,
                       group.data, (int)key.length, key.data);
}

void stream_reply_failure(struct call *call, enum page_status status) {
    if (status != PAGE_MISSING) call_no_memory(call);
}

struct stream_consumer *stream_consumer_wanted(struct call *call, struct stream_value *stream,
                                               struct stream_group *group, struct span name, bool *made) {
    struct stream_consumer *consumer = stream_consumer_find(group, name);
    *made = false;
    if (consumer) return consumer;
    if (!page_begin_change(&stream->access)) return NULL;
    consumer = stream_consumer_add(group, name, call->view.now_ms);
    *made = consumer != NULL;
    if (consumer) {
        stream_effect_consumer(call, stream, group, consumer);
        call_notify(call, NOTIFY_STREAM, "xgroup-createconsumer", stream->key);
    } else {
        call_no_memory(call);
    }
    return consumer;
}

/* ---- replies ---- */

void stream_reply_id(struct reply *reply, struct stream_id id) {
    char text[STREAM_ID_TEXT_MAX];
    reply_bulk(reply, span_of(text, stream_id_format(id, text)));
}

void stream_reply_entry(struct reply *reply, const struct stream_root *root, struct stream_id id, struct span packed) {
    struct stream_entry entry;
    stream_entry_open(&entry, &root->schemas, packed);
    reply_array(reply, 2);
    stream_reply_id(reply, id);
    reply_array(reply, 2 * (size_t)entry.count);
    while (stream_entry_next(&entry)) {
        if (entry.name_bulk.length)
            reply_raw(reply, entry.name_bulk.data, entry.name_bulk.length);
        else
            reply_bulk(reply, entry.name);
        reply_bulk(reply, entry.value);
    }
}

enum page_status stream_reply_entry_of(struct reply *reply, struct stream_value *stream, struct stream_id id) {
    struct paged_key key = stream_id_key(id);
    struct span packed;
    enum page_status status = paged_tree_find(&stream->root->entries, &stream->access, &key, &packed, NULL);
    if (status == PAGE_DONE) stream_reply_entry(reply, stream->root, id, packed);
    return status;
}

/* ---- ranges ---- */

struct stream_positions stream_positions_of(struct stream_value *stream, const struct stream_interval *interval,
                                            uint64_t most, bool backward) {
    const struct paged_tree *entries = &stream->root->entries;
    struct stream_positions positions = {0, 0};
    struct paged_tree_cursor at;
    if (stream_id_compare(interval->first, interval->last) > 0) return positions;
    struct paged_key first = stream_id_key(interval->first), last = stream_id_key(interval->last);
    if (stream_id_compare(interval->first, stream->root->first) > 0) {
        paged_tree_seek(&at, entries, &stream->access, &first);
        positions.first = at.position;
    }
    uint64_t end = paged_tree_count(entries);
    if (stream_id_compare(interval->last, stream->root->last) < 0) {
        paged_tree_seek_after(&at, entries, &stream->access, &last);
        end = at.position;
    }
    positions.count = end > positions.first ? end - positions.first : 0;
    if (positions.count > most) {
        if (backward) positions.first += positions.count - most;
        positions.count = most;
    }
    if (stream->access.source && positions.count)
        (void)paged_tree_touch(entries, &stream->access, positions.first, positions.count);
    return positions;
}

static void reply_at(struct reply *reply, const struct stream_value *stream, const struct paged_tree_cursor *at) {
    if (at->missing)
        reply_null(reply);
    else
        stream_reply_entry(reply, stream->root, stream_id_of(&at->item.key), at->item.value);
}

void stream_reply_positions(struct reply *reply, struct stream_value *stream, const struct stream_positions *positions,
                            bool backward) {
    const struct paged_tree *entries = &stream->root->entries;
    struct paged_tree_cursor at;
    if (!positions->count) return;
    uint64_t end = positions->first + positions->count;
    paged_tree_at(&at, entries, &stream->access, backward ? end - 1 : positions->first);
    while (at.valid && at.position >= positions->first && at.position < end) {
        reply_at(reply, stream, &at);
        if (backward)
            paged_tree_previous(&at);
        else
            paged_tree_next(&at);
    }
}
