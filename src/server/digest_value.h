#ifndef TERRACE_SERVER_DIGEST_VALUE_H
#define TERRACE_SERVER_DIGEST_VALUE_H

/* What a value of any type contributes to a digest (digest.h):
 *
 *   list         the elements in their order
 *   set          the members
 *   sorted set   the members with their scores
 *   hash         the fields with their values, and whether they expire
 *   stream       IDs and fields of the entries, the last ID; the groups, how far they are, and what is pending for whom
 *
 * Not the encoding, not the order of what has none, and no times that are told by the clock.
 *
 * Threads: the lock of the record's shard. Looking is not using: `view` should keep access. */

#include "keyspace/keyspace.h"
#include "server/digest.h"

/* `record` is that of a key of view->database which has not expired. Pages that cannot be read are left out, and told
 * through the view. */
struct digest_value digest_value_of(const struct view *view, const struct record *record);

#endif
