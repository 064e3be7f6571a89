#ifndef TERRACE_KEYSPACE_SORTED_SET_VALUE_H
#define TERRACE_KEYSPACE_SORTED_SET_VALUE_H

/* The sorted set that a key has, whatever its encoding:
 *
 *   absent
 *   RECORD_LISTPACK   member, score, member, score ... in order     "listpack"
 *   RECORD_PAGED      struct sorted_set_root                        "skiplist"
 *
 *   struct sorted_set set;
 *   if (!sorted_set_open(&set, view, key, SORTED_SET_FOR_READ)) ... WRONGTYPE
 *   struct sorted_set_part part = sorted_set_by_score(&set, &range);
 *   for (sorted_set_at(&at, &set, part.first); part.count && at.valid; part.count--, sorted_set_next(&at))
 *       if (!at.missing) ... at.member, at.score
 *
 * The order is by score, then by member as memcmp() does, the shorter first. Positions count from 0, the lowest score.
 * Every range of scores or of members is a part: a first position and a count. Infinite scores are scores, NaN is not.
 * -0 counts as 0; a big set keeps it, a packed one makes it 0, as Redis does.
 *
 * A set becomes bigger than packed by keyspace->limits and stays so. A set that has no member left is removed with its
 * key.
 *
 * Results are enum page_status: PAGE_DONE; PAGE_ABSENT: no such member, or no set; PAGE_MISSING: the command is going
 * to be run again, what it replied does not matter; PAGE_NO_MEMORY. But for PAGE_DONE nothing has changed, with the
 * exception that is named. Every change counts one change of the key and tells its watchers.
 *
 * A command that changes several members, or what it has not read before, touches all first: then cold pages are read
 * together, and before the first change.
 *
 * Spans handed in must not point into a record or page of the same shard; those handed out hold until something in the
 * shard changes, and as long as the struct they stand in (an integer is spelled there).
 *
 * Threads: the lock of the key's shard. */

#include "keyspace/keyspace.h"
#include "keyspace/keyspace_collection.h"
#include "record/listpack.h"
#include "record/paged_hash.h"
#include "record/paged_tree.h"

/* The root of a big sorted set. */
struct sorted_set_root {
    struct collection collection;
    struct paged_hash scores;  /* of each member of the tree, and perhaps of some that are gone */
    struct paged_tree members; /* score, member */
    bool has_minus_zero;       /* there is, or was, a score of -0: the tree does not tell it from 0 */
};
extern const struct collection_kind sorted_set_kind;

struct sorted_set {
    const struct view *view;
    const struct key *key;
    struct lookup lookup;
    struct page_access access;
    struct sorted_set_root *root; /* of a big set; NULL: packed, or absent */
};

enum sorted_set_purpose { SORTED_SET_FOR_READ, SORTED_SET_FOR_WRITE };

/* False: the key holds something else; the set is then absent. `view` and `key` outlive the set. Reading counts a hit
 * or a miss. */
bool sorted_set_open(struct sorted_set *set, const struct view *view, const struct key *key,
                     enum sorted_set_purpose purpose) __attribute__((warn_unused_result));

static inline bool sorted_set_exists(const struct sorted_set *set) {
    return set->lookup.record != NULL;
}
uint64_t sorted_set_count(const struct sorted_set *set);

/* ---- reading ---- */

/* PAGE_DONE, PAGE_ABSENT, PAGE_MISSING. O(1) and O(log n); packed O(n), as what follows. */
enum page_status sorted_set_score(struct sorted_set *set, struct span member, double *score)
    __attribute__((warn_unused_result));
enum page_status sorted_set_position(struct sorted_set *set, struct span member, uint64_t *position, double *score)
    __attribute__((warn_unused_result));

/* Has what is known of the member requested; true: it is at hand. */
bool sorted_set_touch(struct sorted_set *set, struct span member);

struct sorted_set_cursor {
    struct span member;
    double score;
    uint64_t position;
    bool valid;   /* it is on a member, or on a leaf that is not at hand */
    bool missing; /* there is nothing to see here: it goes on behind the leaf */

    /* the cursor's own */
    struct sorted_set *set;
    const uint8_t *listpack, *entry;
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    struct paged_tree_cursor tree;
};
/* To a position; not valid when there is none. */
void sorted_set_at(struct sorted_set_cursor *cursor, struct sorted_set *set, uint64_t position);
/* Precondition: valid. */
void sorted_set_next(struct sorted_set_cursor *cursor);
void sorted_set_previous(struct sorted_set_cursor *cursor);

/* Positions first .. first + count - 1. Where leaves are not at hand it is about right, so that going through it has
 * about the right leaves requested. */
struct sorted_set_part {
    uint64_t first, count;
};

struct score_range {
    double min, max;
    bool min_open, max_open; /* the limit itself is outside */
};
struct sorted_set_part sorted_set_by_score(struct sorted_set *set, const struct score_range *range);

enum member_limit_kind { MEMBER_LOWEST, MEMBER_CLOSED, MEMBER_OPEN, MEMBER_HIGHEST };
struct member_limit {
    enum member_limit_kind kind;
    struct span member;
};
struct member_range {
    struct member_limit min, max;
};
/* Of a set in which all scores are equal; of another the answer is a part as well, but means nothing. */
struct sorted_set_part sorted_set_by_member(struct sorted_set *set, const struct member_range *range);

/* A step of ZSCAN: `visit` sees members and scores. Returns the next cursor, below 2^53; 0: the end. At least `want`
 * members unless the end comes first. A packed set is one step.
 *
 * The walk goes in the order of hashes, so that a member that is there throughout is seen whatever happens to its
 * score. Members are found by their scores: where many have one score, a step is made so large that the walk through
 * those pays (a 32nd of them at least). */
typedef void sorted_set_visit(void *ctx, struct span member, double score);
uint64_t sorted_set_scan(struct sorted_set *set, uint64_t cursor, uint64_t want, sorted_set_visit *visit, void *ctx);

/* ---- changing: opened SORTED_SET_FOR_WRITE ---- */

/* Gives the member this score, and adds it if need be. `found`: what sorted_set_score() has just said of it (PAGE_DONE
 * with `old_score`, or PAGE_ABSENT). Makes the key when there is none. */
enum page_status sorted_set_put(struct sorted_set *set, struct span member, double score, enum page_status found,
                                double old_score) __attribute__((warn_unused_result));
/* PAGE_ABSENT: is none. */
enum page_status sorted_set_remove(struct sorted_set *set, struct span member) __attribute__((warn_unused_result));
/* Removes the members of a part. Of a big set PAGE_NO_MEMORY may have removed some. */
enum page_status sorted_set_remove_part(struct sorted_set *set, struct sorted_set_part part)
    __attribute__((warn_unused_result));

/* ---- storing a result ---- */

struct scored_member {
    double score;
    struct span member;
};
/* Ascending by score, then by member. */
int scored_member_compare(const void *a, const void *b);

/* The key's value becomes these members, whatever it was; without members the key is removed. They are in order, each
 * member once; here they may point anywhere. PAGE_DONE, PAGE_ABSENT (no members, and there was no key), PAGE_MISSING or
 * PAGE_NO_MEMORY. */
enum page_status sorted_set_store(const struct view *view, const struct key *key, const struct scored_member *members,
                                  uint64_t count) __attribute__((warn_unused_result));

#endif
