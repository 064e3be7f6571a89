/* See expiry_argument.h. Clients may send any 64-bit number, so each step (seconds to milliseconds, relative to
 * absolute) is checked before it is taken; what can be refused is what Redis refuses, no more. */

#include "command/expiry_argument.h"

enum { MS_PER_SECOND = 1000 };

bool expiry_form_parse(struct span word, struct expiry_form *form) {
    bool milliseconds = span_is_word(word, "px") || span_is_word(word, "pxat");
    if (!milliseconds && !span_is_word(word, "ex") && !span_is_word(word, "exat")) return false;
    *form = (struct expiry_form){.milliseconds = milliseconds, .absolute = word.length == 4};
    return true;
}

/* False: out of range. `base_ms` is not negative. */
static bool to_unix_ms(int64_t time, bool milliseconds, int64_t base_ms, int64_t *expiry_ms) {
    if (!milliseconds && __builtin_mul_overflow(time, MS_PER_SECOND, &time)) return false;
    return !__builtin_add_overflow(time, base_ms, expiry_ms);
}

bool expiry_argument_parse(struct call *call, uint32_t index, struct expiry_form form, enum expiry_past past,
                           int64_t *expiry_ms) {
    int64_t time;
    if (!call_integer(call, index, &time)) return false;
    int64_t base_ms = form.absolute ? 0 : call->view.now_ms;
    if ((past == EXPIRY_POSITIVE && time <= 0) || !to_unix_ms(time, form.milliseconds, base_ms, expiry_ms)) {
        reply_error_format(call->reply, "ERR invalid expire time in '%s' command", call->command->full_name);
        return false;
    }
    if (*expiry_ms > RECORD_EXPIRY_MAX) *expiry_ms = RECORD_EXPIRY_MAX;
    return true;
}
