/* See random_count.h. */

#include "command/random_count.h"

#include "command/dispatch.h"

enum {
    WITHOUT_LOOKING = 4096, /* bytes of a reply about which nobody is asked */
    ELEMENT_BYTES_MIN = 6,  /* of a reply: "$0", and twice the end of a line */
};
#define RANDOM_REPLY_BYTES_MAX (UINT64_C(16) << 30)

bool random_count_parse(struct call *call, uint32_t index, struct random_count *count) {
    int64_t value;
    if (!call_integer(call, index, &value)) return false;
    if (value == INT64_MIN) {
        reply_error_format(call->reply, "ERR value is out of range, value must between %lld and %lld",
                           (long long)-INT64_MAX, (long long)INT64_MAX);
        return false;
    }
    *count = (struct random_count){(uint64_t)(value < 0 ? -value : value), value < 0};
    return true;
}

bool random_count_allow(struct call *call, uint64_t want, uint64_t bytes) {
    const struct command_host *host = call->dispatcher->host;
    uint64_t total, most = host ? atomic_load_explicit(&host->reply_bytes_max, memory_order_relaxed) : 0;
    if (most && want > most / ELEMENT_BYTES_MIN) {
        call->session->closing = true;
        return false;
    }
    bool allowed = !__builtin_mul_overflow(want, bytes, &total) && total <= RANDOM_REPLY_BYTES_MAX;
    if (allowed && total > WITHOUT_LOOKING && host->has_room) allowed = host->has_room(host->ctx, total);
    if (!allowed) call_no_memory(call);
    return allowed;
}
