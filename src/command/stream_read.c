/* XREAD and XREADGROUP.
 *
 * Both go over their streams twice. The first time everything that can be wrong is found, and the pages that will be
 * read are asked for; the second time entries are replied and, with a group, handed over:
 *
 *   new entries (">")   replied, made pending for the consumer, and the group moves on behind them
 *   history (an ID)     what is pending for the consumer is replied from that ID on, and counted as delivered again
 *
 * When there is nothing to reply the command waits or answers null. It is then called again, as it was, when one of its
 * keys changes; "$" has become the ID that it meant the first time.
 *
 * Handing over changes pages of the same table that the entries are in, after which no cursor is good any more. So it
 * goes by batches: a batch is replied and its IDs are copied, then these are made pending.
 *
 * Its effects are claims of what was delivered, and where the group stands afterwards. */

#include "command/blocking.h"
#include "command/stream_argument.h"
#include "command/stream_effect.h"
#include "command/stream_handlers.h"

enum { BATCH = 64 };

#define SAYS_READ ". You called XREAD instead."
#define ERROR_LAST_OF_GROUP(id)                                                                                        \
    "ERR The " id " ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by " \
    "specifying a proper ID, or use the > ID to get new messages. The " id                                             \
    " ID would just return an empty result set."

struct read_request {
    bool grouped; /* XREADGROUP */
    bool no_ack;  /* what is delivered does not become pending */
    bool blocks;
    int64_t timeout_ms;
    uint64_t count;       /* of each stream at most */
    uint32_t group_index; /* of the argument; 0: none. The consumer's is the next */
    uint32_t first;       /* of the keys; the IDs stand behind all of them */
    uint32_t streams;
};

/* What is to be read of a stream. */
struct read_from {
    bool news; /* ">" */
    struct stream_id after;
};

/* ---- arguments ---- */

static bool refuse(struct call *call, const char *error) {
    reply_error(call->reply, error);
    return false;
}

static bool take_streams(struct call *call, uint32_t index, struct read_request *request) {
    uint32_t rest = call->argc - index - 1;
    request->first = index + 1;
    request->streams = rest / 2;
    if (rest % 2) {
        reply_error_format(call->reply,
                           "ERR Unbalanced '%s' list of streams: for each stream key an ID or '%c' must be specified.",
                           request->grouped ? "xreadgroup" : "xread", request->grouped ? '>' : '$');
        return false;
    }
    /* Where the key specification finds the keys, and where they are: the same but for options that are called STREAMS.
     */
    return (call->key_count == request->streams && call->keys[0].name.data == call->argv[request->first].data) ||
           refuse(call, ERROR_SYNTAX);
}

static bool take_count(struct call *call, uint32_t index, struct read_request *request) {
    int64_t count;
    if (!call_integer(call, index, &count)) return false;
    request->count = count > 0 ? (uint64_t)count : UINT64_MAX;
    return true;
}

/* Takes the option at `*index`, and moves on behind it. */
static bool take_option(struct call *call, uint32_t *index, struct read_request *request) {
    uint32_t at = *index, more = call->argc - 1 - at;
    *index += 2;
    if (more && call_is(call, at, "block"))
        return request->blocks = true, call_timeout_ms(call, at + 1, &request->timeout_ms);
    if (more && call_is(call, at, "count")) return take_count(call, at + 1, request);
    if (more && call_is(call, at, "streams")) return take_streams(call, at, request);
    if (more >= 2 && call_is(call, at, "group")) {
        if (!request->grouped) return refuse(call, "ERR The GROUP option is only supported by XREADGROUP" SAYS_READ);
        request->group_index = at + 1;
        *index = at + 3;
        return true;
    }
    if (!call_is(call, at, "noack")) return refuse(call, ERROR_SYNTAX);
    if (!request->grouped) return refuse(call, "ERR The NOACK option is only supported by XREADGROUP" SAYS_READ);
    request->no_ack = true;
    *index = at + 1;
    return true;
}

static bool parse_request(struct call *call, bool grouped, struct read_request *request) {
    *request = (struct read_request){.grouped = grouped, .count = UINT64_MAX};
    for (uint32_t index = 1; index < call->argc && !request->first;)
        if (!take_option(call, &index, request)) return false;
    if (!request->first) return refuse(call, ERROR_SYNTAX);
    if (grouped && !request->group_index) return refuse(call, "ERR Missing GROUP option for XREADGROUP");
    return true;
}

static bool is_sign(struct span text, char sign) {
    return text.length == 1 && text.data[0] == sign;
}

/* From where stream `i` is to be read. */
static bool parse_from(struct call *call, const struct read_request *request, uint32_t i, struct stream_value *stream,
                       struct read_from *from) {
    uint32_t index = request->first + request->streams + i;
    struct span text = call->argv[index];
    *from = (struct read_from){.news = false};
    if (is_sign(text, '$')) {
        if (request->grouped) return refuse(call, ERROR_LAST_OF_GROUP("$"));
        if (stream->root) from->after = stream->root->last;
        return true;
    }
    if (is_sign(text, '+')) {
        if (request->grouped) return refuse(call, ERROR_LAST_OF_GROUP("+"));
        if (stream->root && stream_value_last_id(stream, &from->after) == PAGE_DONE && !stream_id_is_zero(from->after))
            (void)stream_id_decrement(&from->after);
        return true;
    }
    if (is_sign(text, '>')) {
        from->news = true;
        return request->grouped || refuse(call, "ERR The > ID can be specified only when calling XREADGROUP using the "
                                                "GROUP <group> <consumer> option.");
    }
    if (!stream_argument_id(call, index, &from->after)) return false;
    /* Redis knows ">" by this ID. */
    from->news = request->grouped && stream_id_compare(from->after, STREAM_ID_MAX) == 0;
    return true;
}

/* ---- what there is ---- */

static struct stream_positions entries_after(struct stream_value *stream, struct stream_id after, uint64_t most) {
    struct stream_interval interval = {after, STREAM_ID_MAX};
    if (!stream_id_increment(&interval.first)) return (struct stream_positions){0, 0};
    return stream_positions_of(stream, &interval, most, false);
}

/* Asks for the pages of a consumer's history. */
static void touch_history(struct stream_value *stream, const struct stream_group *group,
                          const struct stream_consumer *consumer, struct stream_id after, uint64_t count) {
    struct paged_key key = stream_id_key(after);
    struct paged_tree_cursor at;
    if (!stream->access.source || !consumer) return;
    paged_tree_seek_after(&at, &consumer->pending, &stream->access, &key);
    for (; at.valid && count; paged_tree_next(&at), count--) {
        if (at.missing) continue;
        (void)paged_tree_touch_key(&group->pending, &stream->access, &at.item.key);
        (void)paged_tree_touch_key(&stream->root->entries, &stream->access, &at.item.key);
    }
}

/* Opens stream `i`, and finds what can be wrong with it. `*group` is NULL for XREAD. */
static bool prepare(struct call *call, const struct read_request *request, uint32_t i, struct stream_value *stream,
                    struct stream_group **group, struct read_from *from) {
    const struct key *key = &call->keys[i];
    *group = NULL;
    if (!stream_open_key(call, stream, key, STREAM_FOR_READ)) return false;
    if (request->grouped) {
        struct span name = call->argv[request->group_index];
        if (stream->root) *group = stream_group_find(&stream->root->groups, name);
        if (!*group) {
            stream_reply_no_group(call, key->name, name, " in XREADGROUP with GROUP option");
            return false;
        }
    }
    if (!parse_from(call, request, i, stream, from)) return false;
    if (!stream->access.source || !stream->root) return true;
    if (request->grouped && !from->news)
        touch_history(stream, *group, stream_consumer_find(*group, call->argv[request->group_index + 1]), from->after,
                      request->count);
    else
        (void)entries_after(stream, *group ? (*group)->last : from->after, request->count);
    return true;
}

/* ---- handing over ---- */

/* Replies a batch and copies its IDs; returns how many. */
static uint32_t reply_batch(struct call *call, struct stream_value *stream, uint64_t position, uint64_t left,
                            struct stream_id ids[BATCH]) {
    struct paged_tree_cursor at;
    uint32_t count = 0;
    paged_tree_at(&at, &stream->root->entries, &stream->access, position);
    for (; at.valid && !at.missing && count < BATCH && count < left; paged_tree_next(&at)) {
        ids[count] = stream_id_of(&at.item.key);
        stream_reply_entry(call->reply, stream->root, ids[count++], at.item.value);
    }
    return count;
}

/* False: an error is to be replied, or the command is going to be run again. What was made pending before stays so, and
 * is the consumer's history. */
static bool hand_over(struct call *call, struct stream_value *stream, struct stream_group *group,
                      struct stream_consumer *consumer, const struct stream_id *ids, uint32_t count, bool no_ack) {
    struct stream_pending pending = {.delivered_ms = call->view.now_ms, .deliveries = 1, .consumer = consumer};
    struct stream_claims effect;
    uint32_t done = 0;
    if (!page_begin_change(&stream->access)) return false;
    stream_claims_begin(&effect, call, stream, group);
    for (; done < count; done++) {
        if (!no_ack && stream_pending_set(group, &stream->access, ids[done], &pending, NULL) != PAGE_DONE) break;
        if (!no_ack) stream_claims_add(&effect, ids[done], &pending);
        stream_value_advance(stream->root, group, ids[done]);
    }
    stream_claims_end(&effect);
    if (!no_ack && done) consumer->active_ms = call->view.now_ms;
    return done == count;
}

static bool deliver_new(struct call *call, const struct read_request *request, struct stream_value *stream,
                        struct stream_group *group, struct stream_consumer *consumer,
                        const struct stream_positions *positions) {
    struct stream_id ids[BATCH];
    uint64_t done = 0;
    const struct stream_id before = group->last;
    reply_array(call->reply, positions->count);
    while (done < positions->count) {
        uint32_t count = reply_batch(call, stream, positions->first + done, positions->count - done, ids);
        if (!count || !hand_over(call, stream, group, consumer, ids, count, request->no_ack)) break;
        done += count;
    }
    if (stream_id_compare(before, group->last) != 0) stream_effect_position(call, stream, group);
    return done == positions->count;
}

/* One that is still there is delivered once more; of one that was deleted only the ID is left. */
static bool deliver_again(struct call *call, struct stream_value *stream, struct stream_group *group,
                          struct stream_id id, struct stream_claims *effect) {
    struct stream_pending pending = {.consumer = NULL};
    enum page_status known = stream_pending_find(group, &stream->access, id, &pending);
    enum page_status status = stream_reply_entry_of(call->reply, stream, id);
    if (known == PAGE_MISSING || status == PAGE_MISSING) return false;
    if (status == PAGE_ABSENT) {
        reply_array(call->reply, 2);
        stream_reply_id(call->reply, id);
        reply_null_array(call->reply);
    } else if (known == PAGE_DONE && pending.consumer) {
        const struct stream_pending before = pending;
        pending.delivered_ms = call->view.now_ms;
        pending.deliveries++;
        if (stream_pending_set(group, &stream->access, id, &pending, &before) != PAGE_DONE) return false;
        stream_claims_add(effect, id, &pending);
    }
    return true;
}

static bool deliver_history(struct call *call, const struct read_request *request, struct stream_value *stream,
                            struct stream_group *group, struct stream_consumer *consumer, struct stream_id after) {
    struct paged_key key = stream_id_key(after);
    struct paged_tree_cursor at;
    uint64_t total = paged_tree_count(&consumer->pending);
    paged_tree_seek_after(&at, &consumer->pending, &stream->access, &key);
    uint64_t first = at.position, count = total - first < request->count ? total - first : request->count;
    struct stream_claims effect;
    stream_claims_begin(&effect, call, stream, group);
    reply_array(call->reply, count);
    while (count) {
        struct stream_id ids[BATCH];
        uint32_t batch = 0;
        paged_tree_at(&at, &consumer->pending, &stream->access, first);
        for (; at.valid && !at.missing && batch < BATCH && batch < count; paged_tree_next(&at))
            ids[batch++] = stream_id_of(&at.item.key);
        uint32_t done = 0;
        while (done < batch && deliver_again(call, stream, group, ids[done], &effect)) done++;
        stream_claims_end(&effect);
        if (!batch || done < batch) return false;
        first += batch;
        count -= batch;
    }
    return true;
}

/* ---- serving ---- */

/* The aggregate around all streams, whose size is known only at the end when there are several. */
struct read_reply {
    uint32_t served;
    bool deferred;
    struct reply_aggregate around;
    struct reply_mark mark;
};

static void begin_stream(struct call *call, const struct read_request *request, struct read_reply *reply,
                         const struct key *key) {
    bool resp3 = call->reply->resp3;
    if (reply->served++ == 0) {
        reply->deferred = request->streams > 1;
        if (reply->deferred)
            reply->around = reply_begin(call->reply);
        else if (resp3)
            reply_map(call->reply, 1);
        else
            reply_array(call->reply, 1);
    }
    if (!resp3) reply_array(call->reply, 2);
    reply_bulk(call->reply, key->name);
}

/* The consumer, who has asked for something now. */
static struct stream_consumer *consumer_asking(struct call *call, const struct read_request *request,
                                               struct stream_value *stream, struct stream_group *group) {
    bool made;
    struct stream_consumer *consumer =
        stream_consumer_wanted(call, stream, group, call->argv[request->group_index + 1], &made);
    if (!consumer) return NULL;
    consumer->seen_ms = call->view.now_ms;
    if (made) stream_value_used(stream);
    return consumer;
}

/* False: nothing more is to be done; the error is composed, or the command is going to be run again. */
static bool serve_group(struct call *call, const struct read_request *request, struct read_reply *reply,
                        struct stream_value *stream, struct stream_group *group, const struct read_from *from) {
    struct stream_positions news = {0, 0};
    if (from->news) news = entries_after(stream, group->last, request->count);
    if (stream->access.missing) return false;
    struct stream_consumer *consumer = consumer_asking(call, request, stream, group);
    if (!consumer) return false;
    if (from->news && !news.count) return true;
    begin_stream(call, request, reply, stream->key);
    bool done = from->news ? deliver_new(call, request, stream, group, consumer, &news)
                           : deliver_history(call, request, stream, group, consumer, from->after);
    stream_value_used(stream);
    if (done || stream->access.missing) return done;
    reply_rewind(call->reply, reply->mark);
    call_no_memory(call);
    return false;
}

static bool serve_plain(struct call *call, const struct read_request *request, struct read_reply *reply,
                        struct stream_value *stream, const struct read_from *from) {
    if (!stream->root) return true;
    struct stream_positions news = entries_after(stream, from->after, request->count);
    if (!news.count) return true;
    begin_stream(call, request, reply, stream->key);
    reply_array(call->reply, news.count);
    stream_reply_positions(call->reply, stream, &news, false);
    return true;
}

/* There is nothing to be had now. */
static void wait_or_answer(struct call *call, const struct read_request *request) {
    if (!request->blocks || !call_block(call, call->keys, request->streams, request->timeout_ms,
                                        request->grouped ? BLOCKED_ON_GROUP : BLOCKED_ON_STREAM)) {
        reply_null_array(call->reply);
        return;
    }
    for (uint32_t i = 0; i < request->streams; i++) {
        uint32_t index = request->first + request->streams + i;
        struct stream_value stream;
        char text[STREAM_ID_TEXT_MAX];
        if (!is_sign(call->argv[index], '$') ||
            !stream_value_open(&stream, &call->view, &call->keys[i], STREAM_FOR_READ))
            continue;
        struct stream_id last = stream.root ? stream.root->last : STREAM_ID_MIN;
        call_block_argument(call, index, span_of(text, stream_id_format(last, text)));
    }
}

static void read_streams(struct call *call, bool grouped) {
    struct read_request request;
    struct stream_value stream;
    struct stream_group *group = NULL;
    struct read_from from;
    struct read_reply reply = {.served = 0, .mark = reply_mark(call->reply)};
    if (!parse_request(call, grouped, &request)) return;
    call_effect_none(call); /* but for what is told from here on */
    for (uint32_t i = 0; i < request.streams; i++)
        if (!prepare(call, &request, i, &stream, &group, &from)) return;
    for (uint32_t i = 0; i < request.streams; i++) {
        /* Of one stream everything is known from before. */
        if (request.streams > 1 && !prepare(call, &request, i, &stream, &group, &from)) return;
        bool go_on = grouped ? serve_group(call, &request, &reply, &stream, group, &from)
                             : serve_plain(call, &request, &reply, &stream, &from);
        if (!go_on) return;
    }
    if (reply.deferred)
        reply_end(call->reply, reply.around, call->reply->resp3 ? '%' : '*', reply.served);
    else if (!reply.served)
        wait_or_answer(call, &request);
}

void command_xread(struct call *call) {
    read_streams(call, false);
}

void command_xreadgroup(struct call *call) {
    read_streams(call, true);
}
