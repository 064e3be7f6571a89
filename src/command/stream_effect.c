/* See stream_effect.h. Group and consumer names are those that the stream has, which stay while a command runs. */

#include "command/stream_effect.h"

void effect_put_id(struct call *call, struct stream_id id) {
    char text[STREAM_ID_TEXT_MAX];
    effect_put(call, span_of(text, stream_id_format(id, text)));
}

void stream_effect_consumer(struct call *call, const struct stream_value *stream, const struct stream_group *group,
                            const struct stream_consumer *consumer) {
    const struct span words[] = {SPAN_LITERAL("XGROUP"), SPAN_LITERAL("CREATECONSUMER"), stream->key->name,
                                 stream_group_name(group), stream_consumer_name(consumer)};
    call_effect(call, words, 5);
}

void stream_effect_position(struct call *call, const struct stream_value *stream, const struct stream_group *group) {
    if (!call_has_effects(call)) return;
    effect_begin(call);
    effect_put_text(call, "XGROUP");
    effect_put_text(call, "SETID");
    effect_put(call, stream->key->name);
    effect_put(call, stream_group_name(group));
    effect_put_id(call, group->last);
    effect_put_text(call, "ENTRIESREAD");
    effect_put_integer(call, group->entries_read);
    effect_end(call);
}

void stream_effect_ack(struct call *call, const struct stream_value *stream, const struct stream_group *group,
                       struct stream_id id) {
    if (!call_has_effects(call)) return;
    effect_begin(call);
    effect_put_text(call, "XACK");
    effect_put(call, stream->key->name);
    effect_put(call, stream_group_name(group));
    effect_put_id(call, id);
    effect_end(call);
}

void stream_claims_end(struct stream_claims *claims) {
    struct call *call = claims->call;
    if (!claims->count) return;
    effect_begin(call);
    effect_put_text(call, "XCLAIM");
    effect_put(call, claims->stream->key->name);
    effect_put(call, stream_group_name(claims->group));
    effect_put(call, stream_consumer_name(claims->pending.consumer));
    effect_put_integer(call, 0);
    for (uint32_t i = 0; i < claims->count; i++) effect_put_id(call, claims->ids[i]);
    effect_put_text(call, "TIME");
    effect_put_integer(call, claims->pending.delivered_ms);
    effect_put_text(call, "RETRYCOUNT");
    effect_put_integer(call, (int64_t)claims->pending.deliveries);
    effect_put_text(call, "FORCE");
    effect_put_text(call, "JUSTID");
    effect_put_text(call, "LASTID");
    effect_put_id(call, claims->group->last);
    effect_end(call);
    claims->count = 0;
}

void stream_claims_add(struct stream_claims *claims, struct stream_id id, const struct stream_pending *pending) {
    if (!call_has_effects(claims->call)) return;
    const struct stream_pending *last = &claims->pending;
    bool alike = claims->count && last->consumer == pending->consumer && last->delivered_ms == pending->delivered_ms &&
                 last->deliveries == pending->deliveries;
    if (claims->count == STREAM_EFFECT_IDS || !alike) stream_claims_end(claims);
    claims->pending = *pending;
    claims->ids[claims->count++] = id;
}
