/* Strings: values as numbers. An integer lives in its record as an integer, so counting neither parses nor spells; the
 * record is overwritten where it lies as long as the number fits its size class. The expiry of the key stays.
 *
 * Bytes that only spell an integer (they were made by APPEND, say) count as one too, in its canonical spelling. What is
 * made of pages is too long to be a number. */

#include "command/effect.h"
#include "command/string_handlers.h"
#include "command/string_value.h"

#include <math.h>

/* The key's value as an integer; an absent key is 0. False: the error is composed. */
static bool integer_of(struct call *call, const struct lookup *lookup, int64_t *value) {
    if (!string_expect(call, lookup)) return false;
    if (!lookup->record) {
        *value = 0;
        return true;
    }
    if (record_is_integer(lookup->record)) {
        *value = record_integer(lookup->record);
        return true;
    }
    if (!record_is_paged(lookup->record) && number_parse_i64(record_value(lookup->record), value)) return true;
    reply_error(call->reply, ERROR_NOT_INTEGER);
    return false;
}

static int64_t expiry_of(const struct lookup *lookup) {
    return lookup->record ? record_expiry(lookup->record) : RECORD_EXPIRY_NONE;
}

static void add(struct call *call, int64_t increment) {
    const struct key *key = &call->keys[0];
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    int64_t value;
    if (!integer_of(call, &lookup, &value)) return;
    if (__builtin_add_overflow(value, increment, &value)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return;
    }
    if (!string_store_integer(call, key, &lookup, value, expiry_of(&lookup))) return;
    call_notify(call, NOTIFY_STRING, "incrby", key);
    reply_integer(call->reply, value);
}

void command_incr(struct call *call) {
    add(call, 1);
}

void command_decr(struct call *call) {
    add(call, -1);
}

void command_incrby(struct call *call) {
    int64_t increment;
    if (call_integer(call, 2, &increment)) add(call, increment);
}

void command_decrby(struct call *call) {
    int64_t decrement;
    if (!call_integer(call, 2, &decrement)) return;
    if (decrement == INT64_MIN)
        reply_error(call->reply, "ERR decrement would overflow");
    else
        add(call, -decrement);
}

/* What comes of floats may differ from machine to machine, so it is told. */
static void tell_result(struct call *call, struct span spelling) {
    const struct span words[] = {SPAN_LITERAL("SET"), call->keys[0].name, spelling, SPAN_LITERAL("KEEPTTL")};
    call_effect(call, words, 4);
}

void command_incrbyfloat(struct call *call) {
    const struct key *key = &call->keys[0];
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    char text[NUMBER_LONG_DOUBLE_TEXT_MAX];
    long double value = 0, increment;
    if (!string_expect(call, &lookup)) return;
    bool is_number = !lookup.record || (!record_is_paged(lookup.record) &&
                                        number_parse_long_double(string_bytes(lookup.record, text), &value));
    if (!is_number || !number_parse_long_double(call->argv[2], &increment)) {
        reply_error(call->reply, ERROR_NOT_FLOAT);
        return;
    }
    value += increment;
    if (isnan(value) || isinf(value)) {
        reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        return;
    }
    struct span spelling = span_of(text, number_format_long_double_human(value, text));
    /* A whole number stays text, as OBJECT ENCODING shows. */
    if (!string_store_raw(call, key, &lookup, spelling, expiry_of(&lookup), false)) return;
    tell_result(call, spelling);
    call_notify(call, NOTIFY_STRING, "incrbyfloat", key);
    reply_bulk(call->reply, spelling);
}
