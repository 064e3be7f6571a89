#ifndef TERRACE_COMMAND_STREAM_EFFECT_H
#define TERRACE_COMMAND_STREAM_EFFECT_H

/* What commands on streams tell as their effects: IDs as they were chosen, trimming as it came out, and deliveries to
 * consumers as claims with their times and counts. See effect.h. */

#include "command/effect.h"
#include "keyspace/stream_value.h"

/* Puts an ID into the effect that is being composed. */
void effect_put_id(struct call *call, struct stream_id id);

/* "XGROUP CREATECONSUMER key group consumer". */
void stream_effect_consumer(struct call *call, const struct stream_value *stream, const struct stream_group *group,
                            const struct stream_consumer *consumer);
/* "XGROUP SETID key group id ENTRIESREAD n": where the group stands now. */
void stream_effect_position(struct call *call, const struct stream_value *stream, const struct stream_group *group);
/* "XACK key group id": no longer pending. */
void stream_effect_ack(struct call *call, const struct stream_value *stream, const struct stream_group *group,
                       struct stream_id id);

enum { STREAM_EFFECT_IDS = 64 };

/* Entries that become pending, told together as long as consumer, time and count are the same:
 * "XCLAIM key group consumer 0 id ... TIME ms RETRYCOUNT n FORCE JUSTID LASTID id". */
struct stream_claims {
    struct call *call;
    const struct stream_value *stream;
    const struct stream_group *group;
    struct stream_pending pending;
    uint32_t count;
    struct stream_id ids[STREAM_EFFECT_IDS];
};
static inline void stream_claims_begin(struct stream_claims *claims, struct call *call,
                                       const struct stream_value *stream, const struct stream_group *group) {
    claims->call = call;
    claims->stream = stream;
    claims->group = group;
    claims->count = 0;
}
void stream_claims_add(struct stream_claims *claims, struct stream_id id, const struct stream_pending *pending);
void stream_claims_end(struct stream_claims *claims);

#endif
