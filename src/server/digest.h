#ifndef TERRACE_SERVER_DIGEST_H
#define TERRACE_SERVER_DIGEST_H

/* A digest of data: the same for the same keys, values and expiry flags, whatever order, shards or encodings they are
 * kept in; so two servers, or one before and after, can be compared. Not against forgery. Pure. */

#include "record/record.h"

enum { DIGEST_TEXT = 40 };

struct digest {
    uint64_t high, low;
    uint32_t tail;
};

/* The value, its type and whether it expires. `*digest` starts as zero; several records may be added in any order. */
void digest_add_value(struct digest *digest, const struct record *record);
/* The same with the key and the database it is in. */
void digest_add_record(struct digest *digest, uint32_t database, const struct record *record);

/* Hexadecimal digits and a terminator; zeros for nothing at all. */
void digest_print(const struct digest *digest, char text[DIGEST_TEXT + 1]);

#endif
