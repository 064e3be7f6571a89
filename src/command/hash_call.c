/* What the commands on hashes share: opening the hash of a call, the FIELDS block, times of fields.
 *
 * A field whose time has come is absent for everybody; hash_value.h removes such fields, and tells of it, when a hash
 * is opened to be changed, before the command has done anything. */

#include "command/expiry_argument.h"
#include "command/hash_handlers.h"

/* Redis keeps two of 48 bits for itself. */
#define FIELD_EXPIRY_MAX ((INT64_C(1) << 46) - 1)

bool hash_open_to_read(struct call *call, struct hash_value *hash) {
    if (__builtin_expect(hash_value_open(hash, &call->view, &call->keys[0], HASH_FOR_READ), 1)) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

bool hash_open_to_write(struct call *call, struct hash_value *hash) {
    if (__builtin_expect(hash_value_open(hash, &call->view, &call->keys[0], HASH_FOR_WRITE), 1)) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

bool hash_touch_fields(struct call *call, struct hash_value *hash, uint32_t first, uint32_t step, uint64_t added) {
    bool at_hand = true;
    if (!hash->root || !hash->access.source) return true;
    for (uint32_t i = first; i < call->argc; i += step) at_hand = hash_value_touch(hash, call->argv[i]) && at_hand;
    return (!added || hash_value_touch_growth(hash, added)) && at_hand;
}

bool hash_parse_fields(struct call *call, uint32_t at, const char *bad_count, struct hash_fields *fields) {
    int64_t count;
    if (at + 1 >= call->argc || !call_is(call, at, "fields")) {
        reply_error(call->reply, "ERR Mandatory argument FIELDS is missing or not at the right position");
        return false;
    }
    if (!call_integer_within(call, at + 1, 1, INT64_MAX, bad_count, &count)) return false;
    *fields = (struct hash_fields){at + 2, call->argc - at - 2};
    if (count == fields->count) return true;
    reply_error(call->reply, "ERR The `numfields` parameter must match the number of arguments");
    return false;
}

bool hash_parse_expiry(struct call *call, uint32_t index, struct expiry_form form, int64_t *expiry_ms) {
    int64_t time, base_ms = form.absolute ? 0 : call->view.now_ms;
    if (!call_integer(call, index, &time)) return false;
    if (time < 0) {
        reply_error(call->reply, "ERR invalid expire time, must be >= 0");
        return false;
    }
    bool in_range = form.milliseconds || time <= FIELD_EXPIRY_MAX / 1000;
    if (in_range && !form.milliseconds) time *= 1000;
    if (!in_range || time > FIELD_EXPIRY_MAX - base_ms) {
        reply_error_format(call->reply, "ERR invalid expire time in '%s' command", call->command->full_name);
        return false;
    }
    *expiry_ms = time + base_ms;
    return true;
}

enum page_status hash_expire_field(struct call *call, struct hash_value *hash, struct span field, int64_t expiry_ms,
                                   enum hash_expiry_result *result) {
    bool passed = expiry_has_passed(call, expiry_ms);
    *result = passed ? HASH_EXPIRY_DELETED : HASH_EXPIRY_SET;
    return passed ? hash_value_delete(hash, field) : hash_value_set_expiry(hash, field, expiry_ms);
}
