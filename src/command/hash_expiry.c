/* Fields that end: the HEXPIRE and HTTL families, HPERSIST.
 *
 * They answer for each field by a number of its own. A condition (NX, XX, GT, LT) takes a field without a time as one
 * that lasts for ever. A time that has passed already removes the field at once. */

#include "command/expiry_argument.h"
#include "command/hash_handlers.h"

/* ---- HEXPIRE, HPEXPIRE, HEXPIREAT, HPEXPIREAT ---- */

enum condition { ALWAYS, IF_NONE, IF_ANY, IF_LATER, IF_EARLIER };

static enum condition parse_condition(const struct call *call, uint32_t index) {
    if (call_is(call, index, "nx")) return IF_NONE;
    if (call_is(call, index, "xx")) return IF_ANY;
    if (call_is(call, index, "gt")) return IF_LATER;
    return call_is(call, index, "lt") ? IF_EARLIER : ALWAYS;
}

static bool condition_holds(enum condition condition, int64_t present_ms, int64_t expiry_ms) {
    bool any = present_ms != HASH_EXPIRY_NONE;
    switch (condition) {
    case IF_NONE: return !any;
    case IF_ANY: return any;
    case IF_LATER: return any && expiry_ms > present_ms;
    case IF_EARLIER: return !any || expiry_ms < present_ms;
    default: return true;
    }
}

/* False: the command is going to be run again, or an error is composed. */
static bool expire_one(struct call *call, struct hash_value *hash, struct span field, enum condition condition,
                       int64_t expiry_ms, enum hash_expiry_result *result) {
    struct hash_entry entry;
    enum page_status status = hash_value_exists(hash) ? hash_value_get(hash, field, &entry) : PAGE_ABSENT;
    *result = HASH_EXPIRY_NO_FIELD;
    if (status == PAGE_DONE) {
        *result = HASH_EXPIRY_UNMET;
        if (!condition_holds(condition, entry.expiry_ms, expiry_ms)) return true;
        status = hash_expire_field(call, hash, field, expiry_ms, result);
    }
    return status == PAGE_DONE || status == PAGE_ABSENT;
}

static void expire(struct call *call, struct expiry_form form) {
    struct hash_value hash;
    struct hash_fields fields;
    int64_t expiry_ms;
    if (!hash_open_to_write(call, &hash) || !hash_parse_expiry(call, 2, form, &expiry_ms)) return;
    enum condition condition = parse_condition(call, 3);
    if (!hash_parse_fields(call, condition == ALWAYS ? 3 : 4, "ERR Parameter `numFields` should be greater than 0",
                           &fields) ||
        !hash_touch_fields(call, &hash, fields.first, 1, fields.count))
        return;
    struct reply_mark mark = reply_mark(call->reply);
    struct hash_changes changes;
    bool complete = true;
    hash_changes_begin(&changes, call, expiry_ms);
    reply_array(call->reply, fields.count);
    for (uint32_t i = 0; i < fields.count && complete; i++) {
        enum hash_expiry_result result;
        struct span field = call->argv[fields.first + i];
        complete = expire_one(call, &hash, field, condition, expiry_ms, &result);
        if (complete) hash_changes_add(&changes, field, result);
        reply_integer(call->reply, result);
    }
    hash_changes_end(&changes);
    bool deleted = changes.deleted, updated = changes.updated;
    if (deleted || updated) call_notify(call, NOTIFY_HASH, deleted ? "hdel" : "hexpire", &call->keys[0]);
    if (deleted) hash_tell_removed(call, &hash);
    if (complete) return;
    reply_rewind(call->reply, mark);
    call_no_memory(call);
}

void command_hexpire(struct call *call) {
    expire(call, (struct expiry_form){0});
}
void command_hpexpire(struct call *call) {
    expire(call, (struct expiry_form){.milliseconds = true});
}
void command_hexpireat(struct call *call) {
    expire(call, (struct expiry_form){.absolute = true});
}
void command_hpexpireat(struct call *call) {
    expire(call, (struct expiry_form){.milliseconds = true, .absolute = true});
}

/* ---- HTTL, HPTTL, HEXPIRETIME, HPEXPIRETIME ---- */

enum { NO_FIELD = -2, NO_EXPIRY = -1 };

/* Each field's time after `base_ms` in units of `unit_ms`, rounded up. */
static void tell_times(struct call *call, int64_t unit_ms, int64_t base_ms) {
    struct hash_value hash;
    struct hash_fields fields;
    struct hash_entry entry;
    if (!hash_open_to_read(call, &hash) || !hash_parse_fields(call, 2, HASH_ERROR_FIELD_COUNT, &fields)) return;
    reply_array(call->reply, fields.count);
    for (uint32_t i = 0; i < fields.count; i++) {
        int64_t told = NO_FIELD;
        if (hash_value_get(&hash, call->argv[fields.first + i], &entry) == PAGE_DONE)
            told =
                entry.expiry_ms == HASH_EXPIRY_NONE ? NO_EXPIRY : (entry.expiry_ms - base_ms + unit_ms - 1) / unit_ms;
        reply_integer(call->reply, told);
    }
}

void command_httl(struct call *call) {
    tell_times(call, 1000, call->view.now_ms);
}
void command_hpttl(struct call *call) {
    tell_times(call, 1, call->view.now_ms);
}
void command_hexpiretime(struct call *call) {
    tell_times(call, 1000, 0);
}
void command_hpexpiretime(struct call *call) {
    tell_times(call, 1, 0);
}

/* ---- HPERSIST ---- */

void command_hpersist(struct call *call) {
    struct hash_value hash;
    struct hash_fields fields;
    if (!hash_open_to_write(call, &hash) || !hash_parse_fields(call, 2, HASH_ERROR_FIELD_COUNT, &fields) ||
        !hash_touch_fields(call, &hash, fields.first, 1, 0))
        return;
    struct reply_mark mark = reply_mark(call->reply);
    bool changed = false;
    struct hash_effect effect;
    call_effect_none(call); /* but for what is told from here on */
    hash_effect_begin(&effect, call, "HPERSIST", HASH_EXPIRY_NONE);
    reply_array(call->reply, fields.count);
    for (uint32_t i = 0; i < fields.count; i++) {
        struct span field = call->argv[fields.first + i];
        struct hash_entry entry;
        enum page_status status = hash_value_get(&hash, field, &entry);
        int64_t told = status != PAGE_DONE ? NO_FIELD : entry.expiry_ms == HASH_EXPIRY_NONE ? NO_EXPIRY : 1;
        if (told == 1) status = hash_value_set_expiry(&hash, field, HASH_EXPIRY_NONE);
        if (status == PAGE_NO_MEMORY) {
            reply_rewind(call->reply, mark);
            call_no_memory(call);
            break;
        }
        changed |= told == 1;
        if (told == 1) hash_effect_add(&effect, field);
        reply_integer(call->reply, told);
    }
    hash_effect_end(&effect);
    if (changed) call_notify(call, NOTIFY_HASH, "hpersist", &call->keys[0]);
}
