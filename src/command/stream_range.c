/* XRANGE and XREVRANGE: the entries of an interval of IDs, in either direction. The tree counts, so how many there are
 * is known before the first is replied. */

#include "command/stream_argument.h"
#include "command/stream_handlers.h"

/* False: the error is composed. `*count` is UINT64_MAX when there is no limit. */
static bool parse_count(struct call *call, uint64_t *count) {
    *count = UINT64_MAX;
    for (uint32_t i = 4; i < call->argc; i += 2) {
        int64_t number;
        if (!call_is(call, i, "count") || i + 1 == call->argc) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!call_integer(call, i + 1, &number)) return false;
        /* Negative numbers count as 0. */
        *count = number > 0 ? (uint64_t)number : 0;
    }
    return true;
}

static void reply_range(struct call *call, bool backward) {
    struct stream_interval interval;
    struct stream_value stream;
    uint64_t count;
    if (!stream_argument_interval(call, backward ? 3 : 2, backward ? 2 : 3, &interval) || !parse_count(call, &count) ||
        !stream_open(call, &stream, STREAM_FOR_READ))
        return;
    if (!stream.root) {
        reply_array(call->reply, 0);
        return;
    }
    if (count == 0) {
        reply_null_array(call->reply);
        return;
    }
    struct stream_positions positions = stream_positions_of(&stream, &interval, count, backward);
    reply_array(call->reply, positions.count);
    stream_reply_positions(call->reply, &stream, &positions, backward);
}

void command_xrange(struct call *call) {
    reply_range(call, false);
}

void command_xrevrange(struct call *call) {
    reply_range(call, true);
}
