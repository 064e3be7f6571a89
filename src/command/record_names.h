#ifndef TERRACE_COMMAND_RECORD_NAMES_H
#define TERRACE_COMMAND_RECORD_NAMES_H

/* The words by which clients know types and encodings: TYPE, SCAN TYPE, OBJECT ENCODING and DEBUG OBJECT speak them.
 *
 * Pure functions; the names are literals. */

#include "base/span.h"
#include "record/record.h"

/* The longest string, in bytes, that clients are told is "embstr": what Redis keeps in one 64-byte allocation. */
enum { RECORD_EMBEDDED_STRING_MAX = 44 };

/* "string", "list", "set", "zset", "hash" or "stream". */
const char *record_type_name(enum record_type type);

/* In any case. False: no type is called so. */
bool record_type_by_name(struct span name, enum record_type *type) __attribute__((warn_unused_result));

/* "int", "embstr", "raw", ...: the name of the encoding in which Redis would hold this value. */
const char *record_encoding_name(const struct record *record);

#endif
