#ifndef TERRACE_KEYSPACE_FIELD_EXPIRY_H
#define TERRACE_KEYSPACE_FIELD_EXPIRY_H

/* Which keys of an index have fields that expire (HEXPIRE), and when each is to be looked at, so that the sweep finds
 * them without walking all keys.
 *
 * An entry is a hint: 16 bytes, the hash of a key's name and a time. There is an entry for every hash with such fields,
 * due no later than its first field; but there may be entries whose key is gone or has no such fields any more, and
 * ones due too early. Whoever comes along at that time corrects or drops them.
 *
 * Threads: the lock of the shard. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct field_due {
    uint64_t hash; /* 0: free */
    int64_t due_ms;
};

struct field_expiry {
    struct field_due *entries;
    size_t capacity, count;
    int64_t least_due_ms; /* no entry is due before */
    size_t pass_at;       /* where the present pass stands; 0: there is none */
    int64_t pass_least_ms;
};

/* NULL: no memory. */
struct field_expiry *field_expiry_create(void);
void field_expiry_destroy(struct field_expiry *expiry);

/* The key is to be looked at by then at the latest. Where there is no memory to note it, its fields are removed only
 * when somebody changes the hash. */
void field_expiry_note(struct field_expiry *expiry, uint64_t hash, int64_t due_ms);

/* A pass looks at every entry once: begin, then next until it answers NULL, now and then interrupted; each entry it
 * hands out is settled before the next is asked for. Entries that are noted meanwhile may be left for the next pass. */
static inline bool field_expiry_is_due(const struct field_expiry *expiry, int64_t now_ms) {
    return expiry->count && (expiry->pass_at > 0 || expiry->least_due_ms <= now_ms);
}
/* The next entry due at `now_ms`, or, with `all`, the next one. NULL: the pass has ended. */
const struct field_due *field_expiry_next(struct field_expiry *expiry, int64_t now_ms, bool all);
/* The entry that was handed out for this hash is due then; INT64_MAX: it is dropped. */
void field_expiry_settle(struct field_expiry *expiry, uint64_t hash, int64_t due_ms);

#endif
