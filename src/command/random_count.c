/* See random_count.h. */

#include "command/random_count.h"

#include "command/dispatch.h"

enum { WITHOUT_LOOKING = 4096 }; /* bytes of a reply about which nobody is asked */
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
    uint64_t total;
    bool allowed = !__builtin_mul_overflow(want, bytes, &total) && total <= RANDOM_REPLY_BYTES_MAX;
    if (allowed && total > WITHOUT_LOOKING && host->has_room) allowed = host->has_room(host->ctx, total);
    if (!allowed) call_no_memory(call);
    return allowed;
}
