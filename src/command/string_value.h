#ifndef TERRACE_COMMAND_STRING_VALUE_H
#define TERRACE_COMMAND_STRING_VALUE_H

/* String values as handlers use them: bytes on the outside, integers or raw bytes in the record. Shared by the
 * families that work on strings (strings, bitmaps, HyperLogLog). The shard of the key is locked by the caller. */

#include "base/number.h"
#include "command/command.h"

/* The value's bytes; an integer is spelled into `text`. Valid until the record changes. */
static inline struct span string_bytes(const struct record *record, char text[NUMBER_TEXT_MAX]) {
    if (!record_is_integer(record)) return record_value(record);
    return span_of(text, number_format_i64(record_integer(record), text));
}

/* The length of those bytes. */
static inline size_t string_length(const struct record *record) {
    return record_is_integer(record) ? number_text_length_i64(record_integer(record)) : record_value_length(record);
}

/* The key, which is about to get another value whatever it holds. Its access bits are written with that value; only a
 * frequency has to be renewed before, since the new value takes it over. */
static inline struct lookup string_find_to_replace(const struct call *call, const struct key *key) {
    return __builtin_expect(call->view.keyspace->access.frequency, 0) ? keyspace_find_for_write(&call->view, key)
                                                                      : keyspace_find(&call->view, key);
}

/* Composes WRONGTYPE and returns false unless the key is absent or holds a string. */
bool string_expect(struct call *call, const struct lookup *lookup) __attribute__((warn_unused_result));

/* Sets the key to these bytes, as an integer when they are the canonical text of one. `expiry_ms` is unix milliseconds
 * or RECORD_EXPIRY_NONE. False: no memory; the error is composed, nothing changed. `bytes` may not point into a record
 * of the same shard. */
bool string_store(struct call *call, const struct key *key, struct lookup *lookup, struct span bytes, int64_t expiry_ms)
    __attribute__((warn_unused_result));
bool string_store_integer(struct call *call, const struct key *key, struct lookup *lookup, int64_t value,
                          int64_t expiry_ms) __attribute__((warn_unused_result));

/* The same, but the bytes stay bytes even if they spell an integer. `edited`: as OBJECT ENCODING tells it, see
 * record.h. `bytes.data` may be NULL: room is made, and the caller fills lookup->record's value before anything else.
 */
bool string_store_raw(struct call *call, const struct key *key, struct lookup *lookup, struct span bytes,
                      int64_t expiry_ms, bool edited) __attribute__((warn_unused_result));

/* Whether a value may grow to `length` + `added` bytes (proto-max-bulk-len); if not, composes ERROR_TOO_LONG. */
bool string_expect_length(struct call *call, uint64_t length, uint64_t added) __attribute__((warn_unused_result));
/* The longest value allowed, at most LIMIT_VALUE_BYTES. */
uint64_t string_length_max(const struct call *call);

/* The value's bytes, `length` long, to be changed in place: an absent key is created, an integer becomes text, added
 * bytes are zero; the expiry stays. Precondition: length <= LIMIT_VALUE_BYTES. NULL: no memory; the error is composed,
 * nothing changed. */
char *string_edit(struct call *call, const struct key *key, struct lookup *lookup, size_t length)
    __attribute__((warn_unused_result));

/* Replies with the whole value; a large one is sent from where it lies. */
void string_reply(struct call *call, const struct key *key, const struct lookup *lookup);

#endif
