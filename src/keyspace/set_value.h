#ifndef TERRACE_KEYSPACE_SET_VALUE_H
#define TERRACE_KEYSPACE_SET_VALUE_H

/* The set that a key has, whatever its encoding:
 *
 *   absent
 *   RECORD_INTSET     integers alone, few        "intset"
 *   RECORD_LISTPACK   few members, all short     "listpack"
 *   RECORD_PAGED      struct paged_hash_root     "hashtable"
 *
 *   struct set_value set;
 *   if (!set_value_open(&set, view, key, SET_FOR_WRITE)) ... WRONGTYPE
 *   switch (set_value_add(&set, member)) ...
 *
 * It goes from one to the next below by keyspace->limits, and never back. A set that has no member left is removed with
 * its key.
 *
 * A set can also be made apart from the keyspace, and become the value of a key when it is complete (SUNIONSTORE):
 *
 *   set_value_begin(&set, view, key);
 *   ... set_value_add() ...
 *   status = set_value_store(&set);        the key's value, of whatever type, is replaced; an empty set removes it
 *   or set_value_discard(&set);
 *
 * Results are enum page_status: PAGE_DONE; PAGE_ABSENT: no such member, or no set; PAGE_EXISTS: is a member already;
 * PAGE_MISSING: the command is going to be run again, what it replied does not matter; PAGE_NO_MEMORY. But for
 * PAGE_DONE nothing has changed. Every change of a key's set counts one change of the key and tells its watchers.
 *
 * A command that adds, removes or looks for several members calls set_value_touch() for each before the first change.
 *
 * Spans handed in must not point into a record or page of the same shard; those handed out hold until something in the
 * shard changes, and as long as the struct they stand in (an integer is spelled there).
 *
 * Threads: the lock of the key's shard. */

#include "keyspace/keyspace.h"
#include "keyspace/keyspace_collection.h"
#include "record/intset.h"
#include "record/listpack.h"
#include "record/paged_hash_root.h"

extern const struct collection_kind set_kind;

struct set_value {
    const struct view *view;
    const struct key *key;
    struct lookup lookup;
    struct page_access access;
    struct paged_hash_root *root;  /* of a big set; NULL: packed, or absent */
    uint8_t *apart;                /* a packed set made apart: malloc'ed */
    enum record_encoding encoding; /* of what is there */
    bool is_apart;
};

struct set_member {
    struct span text;
    char room[LISTPACK_NUMBER_TEXT_BYTES];
};

enum set_purpose { SET_FOR_READ, SET_FOR_WRITE };

/* False: the key holds something else; the set is then absent. `view` and `key` outlive the set. Reading counts a hit
 * or a miss. */
bool set_value_open(struct set_value *set, const struct view *view, const struct key *key, enum set_purpose purpose)
    __attribute__((warn_unused_result));

/* Of a set made apart: that it has members. */
static inline bool set_value_exists(const struct set_value *set) {
    return set->lookup.record || set->root || set->apart;
}
uint64_t set_value_count(const struct set_value *set);
/* As OBJECT ENCODING names it. Precondition: the record is a set. */
const char *set_value_encoding(const struct record *record);

/* ---- reading ---- */

/* PAGE_DONE: is a member; PAGE_ABSENT, PAGE_MISSING. */
enum page_status set_value_contains(struct set_value *set, struct span member) __attribute__((warn_unused_result));
/* Looks for `count` members at once, which is quicker by far in big sets: bit i of `found` says whether members[i] is
 * one. At most 64. PAGE_DONE or PAGE_MISSING. */
enum page_status set_value_contains_many(struct set_value *set, const struct span *members, unsigned count,
                                         uint64_t *found) __attribute__((warn_unused_result));

/* Has the member's page requested; true: it is at hand. */
bool set_value_touch(struct set_value *set, struct span member);
/* The same for what adding so many members may read besides. */
bool set_value_touch_growth(struct set_value *set, uint64_t members);

/* All members:  set_value_walk(&walk, &set);  while (set_value_walk_next(&walk, &member)) ...
 * Pages that are not at hand are passed over and requested, and the command is run again. The set may not change
 * meanwhile. */
struct set_walk {
    struct set_value *set;
    struct paged_hash_walk pages;
    const uint8_t *at; /* listpack: the next entry; NULL: the end */
    uint32_t position; /* intset */
};
void set_value_walk(struct set_walk *walk, struct set_value *set);
/* A step of SSCAN: the walk goes over what belongs to this cursor (0 at first). Returns the next cursor; 0: the end. A
 * packed set is one step. Repeat until enough members were met. */
uint64_t set_value_scan(struct set_walk *walk, struct set_value *set, uint64_t cursor);
bool set_value_walk_next(struct set_walk *walk, struct set_member *member);

/* A random member, each equally likely. See paged_hash.h about `random`. PAGE_ABSENT: none.
 */
enum page_status set_value_random(struct set_value *set, struct random *random, struct set_member *member)
    __attribute__((warn_unused_result));
/* `want` different members (or all, when there are fewer), each set of as many equally likely. PAGE_MISSING: some were
 * not visited. */
typedef void set_value_visit(void *ctx, struct span member);
enum page_status set_value_sample(struct set_value *set, struct random *random, uint64_t want, set_value_visit *visit,
                                  void *ctx) __attribute__((warn_unused_result));

/* ---- changing: opened SET_FOR_WRITE, or made apart ---- */

/* PAGE_EXISTS: is a member already. Makes the key when there is none. */
enum page_status set_value_add(struct set_value *set, struct span member) __attribute__((warn_unused_result));
/* PAGE_ABSENT: is none. With the last member the key goes: set_value_exists() tells. */
enum page_status set_value_remove(struct set_value *set, struct span member) __attribute__((warn_unused_result));
/* Removes `want` random members (or all); `visit` sees each before it goes. PAGE_MISSING has removed none,
 * PAGE_NO_MEMORY maybe some. Counts one change. */
enum page_status set_value_pop(struct set_value *set, struct random *random, uint64_t want, set_value_visit *visit,
                               void *ctx) __attribute__((warn_unused_result));

/* ---- apart ---- */

/* An empty set that will be the value of `key`. The lookup is not made before set_value_store(). */
void set_value_begin(struct set_value *set, const struct view *view, const struct key *key);
/* Replaces the key's value; afterwards the set is as if opened for writing. PAGE_DONE, PAGE_MISSING or PAGE_NO_MEMORY;
 * if not PAGE_DONE it is still apart, to be discarded. */
enum page_status set_value_store(struct set_value *set) __attribute__((warn_unused_result));
void set_value_discard(struct set_value *set);

#endif
