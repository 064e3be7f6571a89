#ifndef TERRACE_COMMAND_HASH_HANDLERS_H
#define TERRACE_COMMAND_HASH_HANDLERS_H

/* The handlers of the hash family, which its table (hash_table.c) names, and what they share. See command_handler in
 * command.h. */

#include "command/command.h"
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

enum hash_expiry_result {
    HASH_EXPIRY_NO_FIELD = -2,
    HASH_EXPIRY_UNMET = 0,
    HASH_EXPIRY_SET = 1,
    HASH_EXPIRY_DELETED = 2
};
/* Gives a field that exists this time, or removes it if the time has passed. */
enum page_status hash_expire_field(struct call *call, struct hash_value *hash, struct span field, int64_t expiry_ms,
                                   enum hash_expiry_result *result) __attribute__((warn_unused_result));

#endif
