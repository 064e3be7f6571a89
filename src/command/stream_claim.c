/* XCLAIM and XAUTOCLAIM: what is pending for one consumer becomes another one's.
 *
 * An ID whose entry was deleted is no longer pending from then on: nobody could do anything about it.
 *
 * Everything that will be read is asked for before the first change (stream_pending_touch()).
 *
 * The effects are claims without conditions, with times and counts as they came out. A journal's times are taken as
 * they are. */

#include "command/stream_argument.h"
#include "command/stream_effect.h"
#include "command/stream_handlers.h"

#include <stdlib.h>

struct claim_request {
    int64_t idle_ms;      /* at least so long since it was delivered */
    int64_t delivered_ms; /* what the time of delivery becomes */
    int64_t deliveries;   /* what their number becomes; -1: one more */
    bool force;           /* makes pending what is not */
    bool ids_only;
    struct stream_id last; /* of the group, at least */
    uint32_t id_end;       /* XCLAIM: behind the last argument that is an ID */
    uint64_t count;        /* XAUTOCLAIM */
    struct stream_id start;
};

enum claim_outcome { CLAIM_DONE, CLAIM_PASSED, CLAIM_DELETED, CLAIM_FAILED };

/* False: an error is composed. */
static bool open_for_claim(struct call *call, struct stream_value *stream, struct stream_group **group) {
    if (!stream_open(call, stream, STREAM_FOR_READ)) return false;
    *group = stream->root ? stream_group_find(&stream->root->groups, call->argv[2]) : NULL;
    if (!*group) stream_reply_no_group(call, call->argv[1], call->argv[2], "");
    return *group != NULL;
}

/* The consumer of argument 3, who has asked for something now. */
static struct stream_consumer *claimant(struct call *call, struct stream_value *stream, struct stream_group *group) {
    bool made;
    struct stream_consumer *consumer = stream_consumer_wanted(call, stream, group, call->argv[3], &made);
    if (!consumer) return NULL;
    if (made) stream_value_used(stream);
    consumer->seen_ms = call->view.now_ms;
    return consumer;
}

static void touch_claim(struct stream_value *stream, const struct stream_group *group, struct stream_id id,
                        const struct stream_consumer *consumer) {
    struct paged_key key = stream_id_key(id);
    (void)paged_tree_touch_key(&stream->root->entries, &stream->access, &key);
    stream_pending_touch(group, &stream->access, id, consumer);
}

static enum claim_outcome claim(struct call *call, const struct claim_request *request, struct stream_value *stream,
                                struct stream_group *group, struct stream_consumer *consumer, struct stream_id id,
                                struct stream_claims *effect) {
    struct paged_key key = stream_id_key(id);
    struct stream_pending before = {.consumer = NULL};
    enum page_status known = stream_pending_find(group, &stream->access, id, &before);
    struct span packed;
    enum page_status there = paged_tree_find(&stream->root->entries, &stream->access, &key, &packed, NULL);
    if (known == PAGE_MISSING || there == PAGE_MISSING) return CLAIM_FAILED;
    if (there == PAGE_ABSENT) {
        if (known != PAGE_DONE) return CLAIM_PASSED;
        if (stream_pending_remove(group, &stream->access, id) != PAGE_DONE) return CLAIM_FAILED;
        stream_effect_ack(call, stream, group, id);
        return CLAIM_DELETED;
    }
    if (known != PAGE_DONE && !request->force) return CLAIM_PASSED;
    if (known == PAGE_DONE && request->idle_ms && call->view.now_ms - before.delivered_ms < request->idle_ms)
        return CLAIM_PASSED;
    struct stream_pending after = {.delivered_ms = request->delivered_ms, .consumer = consumer};
    after.deliveries = known == PAGE_DONE ? before.deliveries : 1;
    if (request->deliveries >= 0)
        after.deliveries = (uint64_t)request->deliveries;
    else if (!request->ids_only)
        after.deliveries++;
    enum page_status status =
        stream_pending_set(group, &stream->access, id, &after, known == PAGE_DONE ? &before : NULL);
    if (status != PAGE_DONE) return CLAIM_FAILED;
    stream_claims_add(effect, id, &after);
    consumer->active_ms = call->view.now_ms;
    if (request->ids_only)
        stream_reply_id(call->reply, id);
    else if (stream_reply_entry_of(call->reply, stream, id) != PAGE_DONE)
        reply_null(call->reply);
    return CLAIM_DONE;
}

static void reply_claim_failure(struct call *call, struct stream_value *stream, struct reply_mark mark) {
    if (stream->access.missing) return;
    reply_rewind(call->reply, mark);
    call_no_memory(call);
}

/* ---- XCLAIM ---- */

static bool take_claim_option(struct call *call, uint32_t *index, struct claim_request *request) {
    uint32_t at = *index;
    bool more = at + 1 < call->argc;
    *index += 2;
    if (more && call_is(call, at, "idle")) {
        int64_t idle_ms;
        if (!call_integer_within(call, at + 1, INT64_MIN, INT64_MAX, "ERR Invalid IDLE option argument for XCLAIM",
                                 &idle_ms))
            return false;
        request->delivered_ms = (int64_t)((uint64_t)call->view.now_ms - (uint64_t)idle_ms);
        return true;
    }
    if (more && call_is(call, at, "time"))
        return call_integer_within(call, at + 1, INT64_MIN, INT64_MAX, "ERR Invalid TIME option argument for XCLAIM",
                                   &request->delivered_ms);
    if (more && call_is(call, at, "retrycount"))
        return call_integer_within(call, at + 1, INT64_MIN, INT64_MAX,
                                   "ERR Invalid RETRYCOUNT option argument for XCLAIM", &request->deliveries);
    if (more && call_is(call, at, "lastid")) return stream_argument_id(call, at + 1, &request->last);
    *index = at + 1;
    request->force |= call_is(call, at, "force");
    request->ids_only |= call_is(call, at, "justid");
    if (call_is(call, at, "force") || call_is(call, at, "justid")) return true;
    reply_error_format(call->reply, "ERR Unrecognized XCLAIM option '%.*s'", (int)call->argv[at].length,
                       call->argv[at].data);
    return false;
}

static bool parse_claim(struct call *call, struct claim_request *request) {
    struct stream_id id;
    *request = (struct claim_request){.delivered_ms = -1, .deliveries = -1};
    if (!call_integer_within(call, 4, INT64_MIN, INT64_MAX, "ERR Invalid min-idle-time argument for XCLAIM",
                             &request->idle_ms))
        return false;
    if (request->idle_ms < 0) request->idle_ms = 0;
    uint32_t index = 5;
    while (index < call->argc && stream_id_parse(call->argv[index], STREAM_ID_STRICT, 0, &id, NULL)) index++;
    request->id_end = index;
    while (index < call->argc)
        if (!take_claim_option(call, &index, request)) return false;
    if (call->view.replays && request->delivered_ms >= 0) return true;
    if (request->delivered_ms < 0 || request->delivered_ms > call->view.now_ms)
        request->delivered_ms = call->view.now_ms;
    return true;
}

void command_xclaim(struct call *call) {
    struct claim_request request;
    struct stream_value stream;
    struct stream_group *group;
    if (!open_for_claim(call, &stream, &group) || !parse_claim(call, &request)) return;
    if (stream.access.source)
        for (uint32_t i = 5; i < request.id_end; i++)
            touch_claim(&stream, group, stream_argument_known_id(call, i), stream_consumer_find(group, call->argv[3]));
    if (stream.access.missing || !page_begin_change(&stream.access)) return;
    call_effect_none(call); /* but for what is told from here on */
    if (stream_id_compare(request.last, group->last) > 0) {
        group->last = request.last;
        stream_effect_position(call, &stream, group);
    }
    struct stream_consumer *consumer = claimant(call, &stream, group);
    if (!consumer) return;
    struct stream_claims effect;
    stream_claims_begin(&effect, call, &stream, group);
    struct reply_mark mark = reply_mark(call->reply);
    struct reply_aggregate around = reply_begin(call->reply);
    size_t claimed = 0;
    enum claim_outcome outcome = CLAIM_DONE;
    for (uint32_t i = 5; i < request.id_end && outcome != CLAIM_FAILED; i++) {
        outcome = claim(call, &request, &stream, group, consumer, stream_argument_known_id(call, i), &effect);
        claimed += outcome == CLAIM_DONE;
    }
    stream_claims_end(&effect);
    if (outcome == CLAIM_FAILED) {
        reply_claim_failure(call, &stream, mark);
        return;
    }
    reply_end(call->reply, around, '*', claimed);
    stream_value_used(&stream);
}

/* ---- XAUTOCLAIM ---- */

enum {
    ATTEMPTS_FACTOR = 10, /* so many IDs are looked at for each that is asked for */
    COUNT_DEFAULT = 100,
    BATCH = 64,
};
#define COUNT_MAX (INT64_MAX / 16)

static bool parse_autoclaim(struct call *call, struct claim_request *request) {
    int64_t count = COUNT_DEFAULT;
    *request = (struct claim_request){.delivered_ms = call->view.now_ms, .deliveries = -1};
    if (!call_integer_within(call, 4, INT64_MIN, INT64_MAX, "ERR Invalid min-idle-time argument for XAUTOCLAIM",
                             &request->idle_ms))
        return false;
    if (request->idle_ms < 0) request->idle_ms = 0;
    if (!stream_argument_start(call, 5, &request->start)) return false;
    for (uint32_t i = 6; i < call->argc; i++) {
        if (call_is(call, i, "count") && i + 1 < call->argc) {
            if (!call_integer_within(call, ++i, 1, COUNT_MAX, "ERR COUNT must be > 0", &count)) return false;
        } else if (call_is(call, i, "justid")) {
            request->ids_only = true;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    request->count = (uint64_t)count;
    return true;
}

/* The IDs that were found deleted, and have to be replied at the end; own memory, from malloc. */
struct deleted_ids {
    struct stream_id *list;
    size_t count, capacity;
};

static bool keep_deleted(struct deleted_ids *deleted, struct stream_id id) {
    if (deleted->count == deleted->capacity) {
        size_t capacity = deleted->capacity ? 2 * deleted->capacity : 16;
        struct stream_id *list = realloc(deleted->list, capacity * sizeof(*list));
        if (!list) return false;
        deleted->list = list;
        deleted->capacity = capacity;
    }
    deleted->list[deleted->count++] = id;
    return true;
}

/* Where XAUTOCLAIM is. */
struct claim_walk {
    struct stream_claims effect;
    uint64_t left, attempts; /* to reply, and to look at */
    size_t claimed;
    struct deleted_ids deleted;
    struct stream_id next; /* to look at; 0-0: there is none */
};

/* Copies the IDs from walk->next on, and moves it behind them. */
static uint32_t next_batch(struct stream_value *stream, const struct stream_group *group, struct claim_walk *walk,
                           struct stream_id ids[BATCH + 1]) {
    struct paged_key key = stream_id_key(walk->next);
    struct paged_tree_cursor at;
    uint32_t count = 0;
    paged_tree_seek(&at, &group->pending, &stream->access, &key);
    for (; at.valid && !at.missing && count <= BATCH; paged_tree_next(&at)) ids[count++] = stream_id_of(&at.item.key);
    return count;
}

/* Claims a batch. False: it did not work. */
static bool claim_batch(struct call *call, const struct claim_request *request, struct stream_value *stream,
                        struct stream_group *group, struct stream_consumer *consumer, struct claim_walk *walk) {
    struct stream_id ids[BATCH + 1];
    uint32_t count = next_batch(stream, group, walk, ids), done = 0;
    for (; done < count && done < BATCH && walk->left && walk->attempts; done++, walk->attempts--) {
        enum claim_outcome outcome = claim(call, request, stream, group, consumer, ids[done], &walk->effect);
        if (outcome == CLAIM_FAILED) return false;
        if (outcome == CLAIM_DELETED && !keep_deleted(&walk->deleted, ids[done])) return false;
        walk->claimed += outcome == CLAIM_DONE;
        walk->left -= outcome != CLAIM_PASSED;
    }
    walk->next = done < count ? ids[done] : STREAM_ID_MIN;
    return true;
}

/* Asks for all that may be looked at. */
static void touch_walk(struct call *call, const struct claim_request *request, struct stream_value *stream,
                       const struct stream_group *group) {
    const struct stream_consumer *consumer = stream_consumer_find(group, call->argv[3]);
    struct paged_key key = stream_id_key(request->start);
    struct paged_tree_cursor at;
    uint64_t count = request->count * ATTEMPTS_FACTOR;
    paged_tree_seek(&at, &group->pending, &stream->access, &key);
    for (; at.valid && count; paged_tree_next(&at), count--)
        if (!at.missing) touch_claim(stream, group, stream_id_of(&at.item.key), consumer);
}

static void reply_walk(struct call *call, const struct claim_walk *walk) {
    reply_array(call->reply, walk->deleted.count);
    for (size_t i = 0; i < walk->deleted.count; i++) stream_reply_id(call->reply, walk->deleted.list[i]);
}

void command_xautoclaim(struct call *call) {
    struct claim_request request;
    struct stream_value stream;
    struct stream_group *group;
    if (!parse_autoclaim(call, &request) || !open_for_claim(call, &stream, &group)) return;
    if (stream.access.source) touch_walk(call, &request, &stream, group);
    if (stream.access.missing || !page_begin_change(&stream.access)) return;
    call_effect_none(call); /* but for what is told from here on */
    struct stream_consumer *consumer = claimant(call, &stream, group);
    if (!consumer) return;
    struct claim_walk walk = {
        .left = request.count, .attempts = request.count * ATTEMPTS_FACTOR, .next = request.start};
    stream_claims_begin(&walk.effect, call, &stream, group);
    struct reply_mark mark = reply_mark(call->reply);
    reply_array(call->reply, 3);
    /* The cursor stands before what is claimed: it is composed aside, and is known at the end. */
    struct reply claimed;
    reply_init(&claimed, NULL, 0, call->reply->release, call->reply->release_ctx);
    claimed.resp3 = call->reply->resp3;
    struct reply *whole = call->reply;
    call->reply = &claimed;
    bool worked;
    do worked = claim_batch(call, &request, &stream, group, consumer, &walk);
    while (worked && walk.left && walk.attempts && !stream_id_is_zero(walk.next));
    stream_claims_end(&walk.effect);
    call->reply = whole;
    if (worked) {
        stream_reply_id(whole, walk.next);
        reply_array(whole, walk.claimed);
        reply_append(whole, &claimed);
        reply_walk(call, &walk);
        stream_value_used(&stream);
    } else {
        reply_clear(&claimed);
        reply_claim_failure(call, &stream, mark);
    }
    free(walk.deleted.list);
}
