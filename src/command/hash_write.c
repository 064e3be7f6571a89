/* Hashes: changing them. Each command first has all pages it may need asked for, then changes; events follow the
 * effects. */

#include "command/effect_chunks.h"
#include "command/hash_handlers.h"

#include <math.h>

/* Composes what a change that did not come about replies. The hash may be kept in another way all the same, which is
 * not to be told. */
static void refuse(struct call *call, enum page_status status) {
    call_effect_none(call);
    if (status == PAGE_NO_MEMORY) call_no_memory(call);
}

/* ---- HSET, HMSET, HSETNX ---- */

/* False: the reply is composed, or the command is going to be run again. */
static bool set_pairs(struct call *call, uint64_t *added) {
    struct hash_value hash;
    if (call->argc % 2) {
        reply_error_format(call->reply, "ERR wrong number of arguments for '%s' command", call->command->full_name);
        return false;
    }
    if (!hash_open_to_write(call, &hash)) return false;
    enum page_status status = hash_value_set_pairs(&hash, call->argv + 2, call->argc / 2 - 1, added);
    if (__builtin_expect(status != PAGE_DONE, 0)) {
        refuse(call, status);
        hash_effect_pairs_there(call, &hash, call->argv + 2, call->argc / 2 - 1, HASH_EXPIRY_NONE);
        return false;
    }
    call_notify(call, NOTIFY_HASH, "hset", &call->keys[0]);
    return true;
}

void command_hset(struct call *call) {
    uint64_t added;
    if (set_pairs(call, &added)) reply_integer(call->reply, (int64_t)added);
}

void command_hmset(struct call *call) {
    uint64_t added;
    if (set_pairs(call, &added)) reply_ok(call->reply);
}

void command_hsetnx(struct call *call) {
    struct hash_value hash;
    struct hash_entry entry;
    if (!hash_open_to_write(call, &hash)) return;
    enum page_status status = hash_value_get(&hash, call->argv[2], &entry);
    if (status == PAGE_DONE) {
        reply_integer(call->reply, 0);
        return;
    }
    if (status == PAGE_ABSENT) status = hash_value_set(&hash, call->argv[2], call->argv[3], HASH_EXPIRY_NONE, NULL);
    if (status != PAGE_DONE) {
        refuse(call, status);
        return;
    }
    hash_effect_set(call, call->argv[2], call->argv[3]);
    call_notify(call, NOTIFY_HASH, "hset", &call->keys[0]);
    reply_integer(call->reply, 1);
}

/* ---- HDEL ---- */

void command_hdel(struct call *call) {
    struct hash_value hash;
    int64_t deleted = 0;
    if (!hash_open_to_write(call, &hash) || !hash_touch_fields(call, &hash, 2, 1, 0)) return;
    enum page_status status = PAGE_DONE;
    struct effect_chunks effect = {.call = call, .name = "HDEL", .key = call->keys[0].name};
    bool some_expired = hash_has_expired_fields(&hash);
    for (uint32_t i = 2; i < call->argc && hash_value_exists(&hash); i++) {
        status = hash_value_delete(&hash, call->argv[i]);
        deleted += status == PAGE_DONE;
        if (status == PAGE_DONE && some_expired) effect_chunks_put(&effect, call->argv[i]);
        if (status != PAGE_MISSING && status != PAGE_NO_MEMORY) continue;
        if (!some_expired) call_effect_part(call, i, 2);
        break;
    }
    effect_chunks_end(&effect);
    if (deleted) {
        call_notify(call, NOTIFY_HASH, "hdel", &call->keys[0]);
        hash_tell_removed(call, &hash);
    }
    if (status == PAGE_NO_MEMORY)
        call_no_memory(call);
    else
        reply_integer(call->reply, deleted);
}

/* ---- HINCRBY, HINCRBYFLOAT: the field keeps its time ---- */

void command_hincrby(struct call *call) {
    struct hash_value hash;
    struct hash_entry entry;
    int64_t increment, value = 0;
    char text[NUMBER_TEXT_MAX];
    if (!call_integer(call, 3, &increment) || !hash_open_to_write(call, &hash)) return;
    enum page_status found = hash_value_get(&hash, call->argv[2], &entry), status = found;
    if (status == PAGE_DONE && !number_parse_i64(entry.value, &value)) {
        reply_error(call->reply, "ERR hash value is not an integer");
        return;
    }
    if (status != PAGE_MISSING && __builtin_add_overflow(value, increment, &value)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return;
    }
    if (status != PAGE_MISSING)
        status =
            hash_value_set(&hash, call->argv[2], span_of(text, number_format_i64(value, text)), HASH_EXPIRY_KEEP, NULL);
    if (__builtin_expect(status != PAGE_DONE, 0)) {
        refuse(call, status);
        return;
    }
    if (found == PAGE_ABSENT) hash_effect_set(call, call->argv[2], span_of(text, number_format_i64(value, text)));
    call_notify(call, NOTIFY_HASH, "hincrby", &call->keys[0]);
    reply_integer(call->reply, value);
}

void command_hincrbyfloat(struct call *call) {
    struct hash_value hash;
    struct hash_entry entry;
    long double increment, value = 0;
    char text[NUMBER_LONG_DOUBLE_TEXT_MAX];
    if (!number_parse_long_double(call->argv[3], &increment)) {
        reply_error(call->reply, ERROR_NOT_FLOAT);
        return;
    }
    if (isnan(increment) || isinf(increment)) {
        reply_error(call->reply, "ERR value is NaN or Infinity");
        return;
    }
    if (!hash_open_to_write(call, &hash)) return;
    enum page_status status = hash_value_get(&hash, call->argv[2], &entry);
    bool timed = status == PAGE_DONE && entry.expiry_ms != HASH_EXPIRY_NONE;
    if (status == PAGE_DONE && !number_parse_long_double(entry.value, &value)) {
        reply_error(call->reply, "ERR hash value is not a float");
        return;
    }
    value += increment;
    if (isnan(value) || isinf(value)) {
        reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        return;
    }
    struct span spelling = span_of(text, number_format_long_double_human(value, text));
    if (status != PAGE_MISSING) status = hash_value_set(&hash, call->argv[2], spelling, HASH_EXPIRY_KEEP, NULL);
    if (status != PAGE_DONE) {
        refuse(call, status);
        return;
    }
    if (timed)
        hash_effect_set_keeping(call, call->argv[2], spelling);
    else
        hash_effect_set(call, call->argv[2], spelling);
    call_notify(call, NOTIFY_HASH, "hincrbyfloat", &call->keys[0]);
    reply_bulk(call->reply, spelling);
}
