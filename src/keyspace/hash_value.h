#ifndef TERRACE_KEYSPACE_HASH_VALUE_H
#define TERRACE_KEYSPACE_HASH_VALUE_H

/* The hash that a key has, whatever its encoding:
 *
 *   absent
 *   RECORD_LISTPACK         field, value, field, value ...                     "listpack"
 *   RECORD_LISTPACK_TIMED   field, value, expiry (0: none), field, value ...   "listpackex"
 *   RECORD_PAGED            struct paged_hash_root                             "hashtable"
 *
 *   struct hash_value hash;
 *   if (!hash_value_open(&hash, view, key, HASH_FOR_WRITE)) ... WRONGTYPE
 *   switch (hash_value_set(&hash, field, value, HASH_EXPIRY_NONE, &is_new)) ...
 *
 * A hash becomes bigger than packed by keyspace->limits and stays so. A field that has expired counts as absent
 * everywhere; it is removed when somebody comes along who changes the hash, or by hash_value_expire(). A hash that has
 * no field left is removed with its key.
 *
 * Results are enum page_status: PAGE_DONE; PAGE_ABSENT: no such field, or no hash; PAGE_MISSING: the command is going
 * to be run again, what it replied does not matter; PAGE_NO_MEMORY. But for PAGE_DONE nothing has changed. Every change
 * counts one change of the key and tells its watchers.
 *
 * A command that changes several fields calls hash_value_touch() for each before the first change, so that cold pages
 * are read together.
 *
 * Spans handed in must not point into a record or page of the same shard; those handed out hold until something in the
 * shard changes, and as long as the struct they stand in (an integer is spelled there).
 *
 * Threads: the lock of the key's shard. */

#include "keyspace/keyspace.h"
#include "keyspace/keyspace_collection.h"
#include "record/listpack.h"
#include "record/paged_hash_root.h"

extern const struct collection_kind hash_kind;

#define HASH_EXPIRY_NONE RECORD_EXPIRY_NONE
#define HASH_EXPIRY_KEEP PAGED_HASH_EXPIRY_KEEP

struct hash_value {
    const struct view *view;
    const struct key *key;
    struct lookup lookup;
    struct page_access access;
    struct paged_hash_root *root; /* of a big hash; NULL: packed, or absent */
    bool timed;                   /* packed, with expiries */
};

/* A field with its value. */
struct hash_entry {
    struct span field, value;
    int64_t expiry_ms; /* or HASH_EXPIRY_NONE */
    char field_room[LISTPACK_NUMBER_TEXT_BYTES], value_room[LISTPACK_NUMBER_TEXT_BYTES];
};

enum hash_purpose { HASH_FOR_READ, HASH_FOR_WRITE };

/* False: the key holds something else; the hash is then absent. `view` and `key` outlive the hash. Reading counts a hit
 * or a miss. */
bool hash_value_open(struct hash_value *hash, const struct view *view, const struct key *key, enum hash_purpose purpose)
    __attribute__((warn_unused_result));

static inline bool hash_value_exists(const struct hash_value *hash) {
    return hash->lookup.record != NULL;
}
/* Fields that have not expired; of a big hash, also those that have, and that nobody has met yet. */
uint64_t hash_value_count(const struct hash_value *hash);
/* As OBJECT ENCODING names it. Precondition: the record is a hash. */
const char *hash_value_encoding(const struct record *record);

/* ---- reading ---- */

enum page_status hash_value_get(struct hash_value *hash, struct span field, struct hash_entry *entry)
    __attribute__((warn_unused_result));

/* Has the field's page requested; true: it is at hand. */
bool hash_value_touch(struct hash_value *hash, struct span field);
/* The same for what adding so many fields may read besides. */
bool hash_value_touch_growth(struct hash_value *hash, uint64_t fields);

/* All fields:  hash_value_walk(&walk, &hash);  while (hash_value_walk_next(&walk, &entry)) ...
 * Pages that are not at hand are passed over and requested, and the command is run again. The hash may not change
 * meanwhile. */
struct hash_walk {
    struct hash_value *hash;
    struct paged_hash_walk pages;
    const uint8_t *at; /* of a packed one; NULL: the end */
};
void hash_value_walk(struct hash_walk *walk, struct hash_value *hash);
/* A step of HSCAN: the walk goes over what belongs to this cursor (0 at first). Returns the next cursor; 0: the end. A
 * packed hash is one step. Repeat until enough fields were met. */
uint64_t hash_value_scan(struct hash_walk *walk, struct hash_value *hash, uint64_t cursor);
bool hash_value_walk_next(struct hash_walk *walk, struct hash_entry *entry);

/* A random field, each equally likely. See paged_hash.h about `random`. PAGE_ABSENT: none.
 */
enum page_status hash_value_random(struct hash_value *hash, struct random *random, struct hash_entry *entry)
    __attribute__((warn_unused_result));
/* `want` different fields (or all, when there are fewer), each set of as many equally likely. PAGE_MISSING: some were
 * not visited. */
typedef void hash_value_visit(void *ctx, const struct hash_entry *entry);
enum page_status hash_value_sample(struct hash_value *hash, struct random *random, uint64_t want,
                                   hash_value_visit *visit, void *ctx) __attribute__((warn_unused_result));

/* ---- changing: opened HASH_FOR_WRITE ---- */

/* Adds the field, or gives it another value; makes the key when there is none. `expiry_ms`: unix milliseconds after
 * now, HASH_EXPIRY_NONE (as HSET) or HASH_EXPIRY_KEEP (as HINCRBY). `is_new` may be NULL. */
enum page_status hash_value_set(struct hash_value *hash, struct span field, struct span value, int64_t expiry_ms,
                                bool *is_new) __attribute__((warn_unused_result));
/* field, value, field, value ...: as HSET does it, quicker than one by one. All pages are asked for first.
 * PAGE_NO_MEMORY in a big hash may have set some. `added` counts new fields. */
enum page_status hash_value_set_pairs(struct hash_value *hash, const struct span *pairs, size_t pair_count,
                                      uint64_t *added) __attribute__((warn_unused_result));
/* HASH_EXPIRY_NONE removes it. PAGE_ABSENT: no such field. */
enum page_status hash_value_set_expiry(struct hash_value *hash, struct span field, int64_t expiry_ms)
    __attribute__((warn_unused_result));
/* PAGE_ABSENT: no such field. With the last field the key goes: hash_value_exists() tells. */
enum page_status hash_value_delete(struct hash_value *hash, struct span field) __attribute__((warn_unused_result));

/* Removes fields that have expired: of a packed hash all, of a big one on about `budget` pages; `visit` (or NULL) sees
 * each before. True: there is more to look at. */
bool hash_value_expire(struct hash_value *hash, unsigned budget, hash_value_visit *visit, void *ctx);
/* No field expires before; INT64_MAX: none does at all. O(fields) of a packed hash. */
int64_t hash_value_next_expiry(const struct hash_value *hash);

#endif
