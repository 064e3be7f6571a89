#ifndef TERRACE_COMMAND_HASH_HANDLERS_H
#define TERRACE_COMMAND_HASH_HANDLERS_H

/* The handlers of the hash family, which its table (hash_table.c) names, and what they share. See command_handler in
 * command.h. */

#include "command/effect_chunks.h"
#include "keyspace/hash_value.h"

/* hash_read.c: fields and values. */
command_handler command_hget, command_hmget, command_hexists, command_hlen, command_hstrlen;
command_handler command_hgetall, command_hkeys, command_hvals;
/* hash_scan.c: some of the fields. */
command_handler command_hscan, command_hrandfield;
/* hash_write.c */
command_handler command_hset, command_hmset, command_hsetnx, command_hdel;
command_handler command_hincrby, command_hincrbyfloat;
/* hash_expiry.c: fields that end. */
command_handler command_hexpire, command_hpexpire, command_hexpireat, command_hpexpireat;
command_handler command_httl, command_hpttl, command_hexpiretime, command_hpexpiretime, command_hpersist;
/* hash_together.c: values and times in one command. */
command_handler command_hgetex, command_hsetex, command_hgetdel;

enum hash_expiry_result {
    HASH_EXPIRY_NO_FIELD = -2,
    HASH_EXPIRY_UNMET = 0,
    HASH_EXPIRY_SET = 1,
    HASH_EXPIRY_DELETED = 2
};

/* ---- effects: hash_effect.c ----
 *
 * A big hash may hold fields that have expired and that nobody has removed yet. They are absent for the command, but
 * not for who runs its effect again, as no time passes there. So what a command did is told without conditions, and
 * without counting on what such a field had. */

static inline bool hash_has_expired_fields(const struct hash_value *hash) {
    return hash->root && hash->root->collection.next_expiry_ms <= view_expiry_ms(hash->view);
}

enum { HASH_EFFECT_FIELDS = 64 };

/* "NAME key [expiry_ms] FIELDS numfields field ...", for fields that are found one by one; several commands when there
 * are many. The fields' spans hold until the end. */
struct hash_effect {
    struct call *call;
    const char *name;
    int64_t expiry_ms; /* HASH_EXPIRY_NONE: is no argument */
    uint32_t count;
    struct span fields[HASH_EFFECT_FIELDS];
};
static inline void hash_effect_begin(struct hash_effect *effect, struct call *call, const char *name,
                                     int64_t expiry_ms) {
    effect->call = call;
    effect->name = name;
    effect->expiry_ms = expiry_ms;
    effect->count = 0;
}
void hash_effect_add(struct hash_effect *effect, struct span field);
void hash_effect_end(struct hash_effect *effect);

/* "HSET key field value": the field has no time any more. */
void hash_effect_set(struct call *call, struct span field, struct span value);
/* "HSETEX key KEEPTTL FIELDS 1 field value". */
void hash_effect_set_keeping(struct call *call, struct span field, struct span value);
/* A command that was to give pairs of field and value, all with this time or HASH_EXPIRY_NONE, and failed half-way:
 * tells those that are as they were to be. Its own words are not to be told: call_effect_none() was called before. */
void hash_effect_pairs_there(struct call *call, struct hash_value *hash, const struct span *pairs, uint32_t count,
                             int64_t expiry_ms);

/* What a command does to times of fields, all to the same one: what of it is to be told, as HPEXPIREAT and HDEL. */
struct hash_changes {
    bool updated, deleted;
    struct hash_effect effect;
    struct effect_chunks deletions;
};
void hash_changes_begin(struct hash_changes *changes, struct call *call, int64_t expiry_ms);
/* What hash_expire_field() said of the field, whose span holds until the end. */
void hash_changes_add(struct hash_changes *changes, struct span field, enum hash_expiry_result result);
void hash_changes_end(struct hash_changes *changes);

/* ---- hash_call.c ---- */

/* Opens the hash of the call's first key. False: it holds something else, and the error is composed. */
bool hash_open_to_read(struct call *call, struct hash_value *hash) __attribute__((warn_unused_result));
bool hash_open_to_write(struct call *call, struct hash_value *hash) __attribute__((warn_unused_result));

/* Has the pages of the fields at arguments `first`, first + step ... asked for, where they may be missing; true: all
 * are at hand. `added`: so many may be new. */
bool hash_touch_fields(struct call *call, struct hash_value *hash, uint32_t first, uint32_t step, uint64_t added)
    __attribute__((warn_unused_result));

/* Tells that the last field went, and the key with it. */
static inline void hash_tell_removed(struct call *call, const struct hash_value *hash) {
    if (!hash_value_exists(hash)) call_notify(call, NOTIFY_GENERIC, "del", &call->keys[0]);
}

/* Where the fields of "FIELDS numfields field ..." stand among the arguments. */
struct hash_fields {
    uint32_t first, count;
};
/* Parses it from argument `at` on, to the last; `bad_count` is the error for a count that is none. False: an error is
 * composed. */
bool hash_parse_fields(struct call *call, uint32_t at, const char *bad_count, struct hash_fields *fields)
    __attribute__((warn_unused_result));
#define HASH_ERROR_FIELD_COUNT "ERR Number of fields must be a positive integer"

/* A field's time. Parses argument `index` into unix milliseconds; it may have passed already. Redis's limit is its own
 * here: 46 bits. */
struct expiry_form;
bool hash_parse_expiry(struct call *call, uint32_t index, struct expiry_form form, int64_t *expiry_ms)
    __attribute__((warn_unused_result));

/* Gives a field that exists this time, or removes it if the time has passed. */
enum page_status hash_expire_field(struct call *call, struct hash_value *hash, struct span field, int64_t expiry_ms,
                                   enum hash_expiry_result *result) __attribute__((warn_unused_result));

#endif
