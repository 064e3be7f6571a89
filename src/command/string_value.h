#ifndef TERRACE_COMMAND_STRING_VALUE_H
#define TERRACE_COMMAND_STRING_VALUE_H

/* String values as handlers use them: bytes on the outside; in the record an integer, raw bytes, or what leads to the
 * pages of a long value (paged_bytes.h). Shared by the families that work on strings (strings, bitmaps, HyperLogLog).
 * The shard of the key is locked by the caller.
 *
 * Pages are for values that are changed in places: an edit (SETRANGE, SETBIT, BITFIELD, APPEND) that leaves more than
 * STRING_PAGED_BYTES makes them, unless the value is raw and so long that copying it costs more than the edit. SET and
 * the like store raw bytes. A value made of pages is longer than STRING_PAGED_BYTES as long as it lives.
 *
 * A page that is read may be missing (page_table.h): functions say so by PAGE_MISSING or false without an error
 * composed, and the handler just returns. */

#include "base/number.h"
#include "command/command.h"
#include "keyspace/keyspace_collection.h"
#include "record/paged_bytes.h"

#define STRING_PAGED_BYTES   (UINT64_C(64) << 10)
#define STRING_CONVERT_BYTES (UINT64_C(4) << 20)

/* The value's bytes; an integer is spelled into `text`. Valid until the record changes. Precondition: not paged. */
static inline struct span string_bytes(const struct record *record, char text[NUMBER_TEXT_MAX]) {
    assert(!record_is_paged(record));
    if (!record_is_integer(record)) return record_value(record);
    return span_of(text, number_format_i64(record_integer(record), text));
}

/* The length of the value, of any encoding. Precondition: the record is a string. */
static inline size_t string_length(const struct record *record) {
    if (__builtin_expect(record_is_paged(record), 0)) return paged_bytes_of(collection_of(record))->length;
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
 * bytes are zero; the expiry stays. Precondition: length <= LIMIT_VALUE_BYTES; string_edits_pages() is false, or the
 * value does not get longer and is not paged. NULL: no memory; the error is composed, nothing changed. */
char *string_edit(struct call *call, const struct key *key, struct lookup *lookup, size_t length)
    __attribute__((warn_unused_result));

/* Replies with the whole value; a large one is sent from where it lies, one made of pages is copied page by page. */
void string_reply(struct call *call, const struct key *key, const struct lookup *lookup);

/* ---- values made of pages ---- */

struct string_pages {
    struct paged_bytes *bytes;
    struct page_access access;
    bool is_new;       /* no key leads to it yet */
    bool keeps_expiry; /* of what the key holds */
};

/* Precondition: the lookup's record is a paged string. */
struct string_pages string_pages_of(const struct call *call, const struct lookup *lookup);

/* Has the whole value requested; true: it is at hand. For any encoding, also an absent key. */
bool string_touch(const struct call *call, const struct lookup *lookup);

/* Whether the value, of any encoding, consists of these bytes. False as well when pages are missing. */
bool string_equals(const struct call *call, const struct lookup *lookup, struct span bytes);

/* The value in one stretch, of any encoding. One made of pages is copied to *copy, from malloc, for the caller to free
 * (else *copy is NULL); an integer is spelled into `text`. PAGE_DONE, PAGE_MISSING or PAGE_NO_MEMORY. */
enum page_status string_whole(const struct call *call, const struct lookup *lookup, char text[NUMBER_TEXT_MAX],
                              struct span *bytes, char **copy) __attribute__((warn_unused_result));

/* Replies with a part of a paged value, which lies inside it. */
void string_reply_pages(struct call *call, const struct lookup *lookup, uint64_t offset, uint64_t length);

/* Whether an edit, after which the value has at least `length` bytes, is made in pages. */
bool string_edits_pages(const struct lookup *lookup, uint64_t length);

/* An edit in pages. The first function opens the value, or makes one of pages with what the key holds; the second takes
 * how the changes ended, and gives a new one to the key, or forgets it. False: it was not done; without memory the
 * error is composed. if (string_pages_begin(call, key, &lookup, &pages) && string_pages_end(call, key, &lookup, &pages,
 * paged_bytes_write(pages.bytes, &pages.access, ...))) ... Whatever else the command reads is read before.
 * string_pages_begin_new(): an empty value, which will replace what the key holds, with its expiry. */
bool string_pages_begin(struct call *call, const struct key *key, struct lookup *lookup, struct string_pages *pages)
    __attribute__((warn_unused_result));
bool string_pages_begin_new(struct call *call, const struct key *key, struct string_pages *pages)
    __attribute__((warn_unused_result));
bool string_pages_end(struct call *call, const struct key *key, struct lookup *lookup, struct string_pages *pages,
                      enum page_status status) __attribute__((warn_unused_result));

#endif
