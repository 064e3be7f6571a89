/* When keys end: the EXPIRE, TTL and EXPIRETIME families, PERSIST.
 *
 * A record keeps its time in 48 bits of unix milliseconds, which last until the year 10889. Later times, which clients
 * may ask for up to INT64_MAX, are kept as that last moment: the key lives on as it should, TTL and EXPIRETIME then
 * tell the last moment instead of the one asked for, and GT and LT compare with it.
 *
 * A time that has already passed is no error: the key is removed at once. */

#include "command/effect_chunks.h"
#include "command/expiry_argument.h"
#include "command/families.h"

/* ---- EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT ---- */

struct conditions {
    bool only_volatile;   /* XX */
    bool only_persistent; /* NX */
    bool only_later;      /* GT */
    bool only_earlier;    /* LT */
};

static bool parse_conditions(struct call *call, struct conditions *conditions) {
    *conditions = (struct conditions){0};
    for (uint32_t i = 3; i < call->argc; i++) {
        if (call_is(call, i, "nx")) {
            conditions->only_persistent = true;
        } else if (call_is(call, i, "xx")) {
            conditions->only_volatile = true;
        } else if (call_is(call, i, "gt")) {
            conditions->only_later = true;
        } else if (call_is(call, i, "lt")) {
            conditions->only_earlier = true;
        } else {
            size_t length = call->argv[i].length < INT32_MAX ? call->argv[i].length : INT32_MAX;
            reply_error_format(call->reply, "ERR Unsupported option %.*s", (int)length, call->argv[i].data);
            return false;
        }
    }
    const char *conflict = NULL;
    if (conditions->only_persistent &&
        (conditions->only_volatile || conditions->only_later || conditions->only_earlier))
        conflict = "ERR NX and XX, GT or LT options at the same time are not compatible";
    else if (conditions->only_later && conditions->only_earlier)
        conflict = "ERR GT and LT options at the same time are not compatible";
    if (conflict) reply_error(call->reply, conflict);
    return !conflict;
}

/* A key without an expiry lasts for ever: any time is earlier, none is later. */
static bool conditions_hold(const struct conditions *conditions, const struct record *record, int64_t time_ms) {
    if (!record_has_expiry(record)) return !conditions->only_volatile && !conditions->only_later;
    int64_t current = record_expiry(record);
    if (conditions->only_persistent) return false;
    if (conditions->only_later && time_ms <= current) return false;
    return !conditions->only_earlier || time_ms < current;
}

static void expire(struct call *call, struct expiry_form form) {
    struct conditions conditions;
    int64_t time_ms;
    if (!parse_conditions(call, &conditions) || !expiry_argument_parse(call, 2, form, EXPIRY_ANY, &time_ms)) return;
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (!lookup.record || !conditions_hold(&conditions, lookup.record, time_ms)) {
        reply_integer(call->reply, 0);
        return;
    }
    if (expiry_has_passed(call, time_ms)) {
        keyspace_remove(&call->view, &call->keys[0], &lookup);
        call_effect_of(call, "DEL", call->keys[0].name);
        call_notify(call, NOTIFY_GENERIC, "del", &call->keys[0]);
    } else if (!keyspace_set_expiry(&call->view, &call->keys[0], &lookup, time_ms)) {
        call_no_memory(call);
        return;
    } else {
        call_effect_expiry(call, call->keys[0].name, time_ms);
        call_notify(call, NOTIFY_GENERIC, "expire", &call->keys[0]);
    }
    reply_integer(call->reply, 1);
}

static void command_expire(struct call *call) {
    expire(call, (struct expiry_form){0});
}
static void command_pexpire(struct call *call) {
    expire(call, (struct expiry_form){.milliseconds = true});
}
static void command_expireat(struct call *call) {
    expire(call, (struct expiry_form){.absolute = true});
}
static void command_pexpireat(struct call *call) {
    expire(call, (struct expiry_form){.milliseconds = true, .absolute = true});
}

/* ---- TTL, PTTL, EXPIRETIME, PEXPIRETIME, PERSIST ---- */

enum { NO_KEY = -2, NO_EXPIRY = -1 };

/* Replies with the key's time after `base_ms` in units of `unit_ms`, rounded to the nearest. */
static void tell_time(struct call *call, int64_t unit_ms, int64_t base_ms) {
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    int64_t told = NO_KEY;
    if (lookup.record) told = NO_EXPIRY;
    if (lookup.record && record_has_expiry(lookup.record))
        told = (record_expiry(lookup.record) - base_ms + unit_ms / 2) / unit_ms;
    reply_integer(call->reply, told);
}

static void command_ttl(struct call *call) {
    tell_time(call, 1000, call->view.now_ms);
}
static void command_pttl(struct call *call) {
    tell_time(call, 1, call->view.now_ms);
}
static void command_expiretime(struct call *call) {
    tell_time(call, 1000, 0);
}
static void command_pexpiretime(struct call *call) {
    tell_time(call, 1, 0);
}

static void command_persist(struct call *call) {
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    bool expires = lookup.record && record_has_expiry(lookup.record);
    if (expires && !keyspace_set_expiry(&call->view, &call->keys[0], &lookup, RECORD_EXPIRY_NONE)) {
        call_no_memory(call);
        return;
    }
    if (expires) call_notify(call, NOTIFY_GENERIC, "persist", &call->keys[0]);
    reply_integer(call->reply, expires);
}

/* ---- rows ---- */

#define EXPIRE_ROW(name_, handler_, since_, summary_, time_)                                                           \
    {                                                                                                                  \
        .name = (name_), .handler = (handler_), .arity = -3, .flags = COMMAND_WRITE | COMMAND_FAST,                    \
        .categories = CATEGORY_KEYSPACE, .keys = {KEY_AT(1, KEY_RW | KEY_UPDATE)}, .group = "generic",                 \
        .since = (since_), .summary = (summary_), .complexity = "O(1)",                                                \
        .arguments = "key:k " time_ " [condition(NX|XX|GT|LT)@7.0.0]",                                                 \
        .history = "7.0.0 NX, XX, GT and LT were added."                                                               \
    }

#define TTL_ROW(name_, handler_, since_, summary_, history_, tips_)                                                    \
    {                                                                                                                  \
        .name = (name_), .handler = (handler_), .arity = 2,                                                            \
        .flags = COMMAND_READONLY | COMMAND_FAST | COMMAND_KEEP_ACCESS, .categories = CATEGORY_KEYSPACE,               \
        .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS)}, .group = "generic", .since = (since_), .summary = (summary_),        \
        .complexity = "O(1)", .arguments = "key:k", .history = (history_), .tips = (tips_)                             \
    }

#define TTL_HISTORY "2.8.0 The reply for a missing key is -2."
#define TTL_TIPS    "nondeterministic_output"

const struct command_spec key_expiry_commands[] = {
    EXPIRE_ROW("expire", command_expire, "1.0.0", "Lets a key end after some seconds", "seconds:i"),
    EXPIRE_ROW("pexpire", command_pexpire, "2.6.0", "Lets a key end after some milliseconds", "milliseconds:i"),
    EXPIRE_ROW("expireat", command_expireat, "1.2.0", "Lets a key end at a unix time in seconds",
               "unix-time-seconds:t"),
    EXPIRE_ROW("pexpireat", command_pexpireat, "2.6.0", "Lets a key end at a unix time in milliseconds",
               "unix-time-milliseconds:t"),
    TTL_ROW("ttl", command_ttl, "1.0.0", "The seconds until a key ends", TTL_HISTORY, TTL_TIPS),
    TTL_ROW("pttl", command_pttl, "2.6.0", "The milliseconds until a key ends", TTL_HISTORY, TTL_TIPS),
    TTL_ROW("expiretime", command_expiretime, "7.0.0", "The unix time in seconds at which a key ends", NULL, NULL),
    TTL_ROW("pexpiretime", command_pexpiretime, "7.0.0", "The unix time in milliseconds at which a key ends", NULL,
            NULL),
    {.name = "persist",
     .handler = command_persist,
     .arity = 2,
     .flags = COMMAND_WRITE | COMMAND_FAST,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEY_AT(1, KEY_RW | KEY_UPDATE)},
     .group = "generic",
     .since = "2.2.0",
     .summary = "Lets a key last until it is removed",
     .complexity = "O(1)",
     .arguments = "key:k"},
};
const unsigned key_expiry_command_count = sizeof(key_expiry_commands) / sizeof(key_expiry_commands[0]);
