#ifndef TERRACE_SERVER_DIGEST_H
#define TERRACE_SERVER_DIGEST_H

/* A digest of data: the same for the same keys, values and expiry flags, whatever order, shards or encodings they are
 * kept in; so two servers, or one before and after, can be compared. Not against forgery. Pure; what a value is made of
 * says digest_value.h. */

#include "record/record.h"

enum { DIGEST_TEXT = 40 };

struct digest {
    uint64_t high, low;
    uint32_t tail;
};

/* What stands for a value. */
struct digest_value {
    uint64_t low, high;
};

/* Of a string. Precondition: the record is one. */
struct digest_value digest_of_string(const struct record *record);
/* Of bytes. */
struct digest_value digest_of_bytes(struct span bytes);
/* Of several in this order. */
struct digest_value digest_of_pair(struct digest_value first, struct digest_value second);
/* Adds one to many whose order does not matter; these start as zero. */
static inline void digest_mix(struct digest_value *many, struct digest_value one) {
    many->low ^= one.low;
    many->high ^= one.high;
}

/* The value, its type and whether it expires. `*digest` starts as zero; several records may be added in any order.
 * `value` is that of the record. */
void digest_add_value(struct digest *digest, const struct record *record, struct digest_value value);
/* The same with the key and the database it is in. */
void digest_add_record(struct digest *digest, uint32_t database, const struct record *record,
                       struct digest_value value);

/* Hexadecimal digits and a terminator; zeros for nothing at all. */
void digest_print(const struct digest *digest, char text[DIGEST_TEXT + 1]);

#endif
