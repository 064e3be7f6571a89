#ifndef TERRACE_KEYSPACE_LIST_VALUE_H
#define TERRACE_KEYSPACE_LIST_VALUE_H

/* The list that a key has, whatever its encoding: absent, one packed record (a listpack), or a collection (a paged_tree
 * whose items are the elements).
 *
 *   struct list_value list;
 *   if (!list_value_open(&list, view, key, LIST_FOR_READ)) ... WRONGTYPE
 *   uint64_t length = list_value_length(&list);                      0: there is no such key
 *   for (list_value_at(&at, &list, first); at.valid && at.position <= last; list_value_next(&at))
 *       if (!at.missing) reply(at.element);
 *
 * Positions count from 0; what clients say (-1 is the last) is resolved by the handler (list_position()). An emptied
 * list's key is removed; a list that grows past its limits becomes a collection and stays one. Every change counts one
 * change of the key and tells its watchers, by the functions of the keyspace.
 *
 * Results are enum page_status: PAGE_DONE; PAGE_ABSENT (no such position, pivot or list); PAGE_MISSING: the command is
 * going to be run again, what it has composed does not matter; PAGE_NO_MEMORY. But for PAGE_DONE nothing has changed,
 * with the exceptions that are named.
 *
 * Elements handed in must not point into the same list; those handed out hold until the list, or another of its shard,
 * changes.
 *
 * Threads: the lock of the key's shard. */

#include "keyspace/keyspace.h"
#include "keyspace/keyspace_collection.h"
#include "record/listpack.h"
#include "record/paged_tree.h"

/* The root of a big list. */
struct list_root {
    struct collection collection;
    struct paged_tree elements;
};
extern const struct collection_kind list_kind;

/* How big a packed list may be. */
struct list_limits {
    size_t bytes; /* of the listpack */
    uint32_t count;
};
/* By list-max-listpack-size: -1 to -5 mean 4, 8, 16, 32, 64 KB; else a number of elements (and 8 KB). */
struct list_limits list_limits_of(int64_t list_max_listpack_size);

struct list_value {
    const struct view *view;
    const struct key *key;
    struct lookup lookup;
    struct page_access access;
    struct list_root *root; /* of a big list; NULL: packed, or absent */
};

enum list_purpose { LIST_FOR_READ, LIST_FOR_WRITE };

/* False: the key holds something else; the list is then absent. Both must outlive the list. */
bool list_value_open(struct list_value *list, const struct view *view, const struct key *key, enum list_purpose purpose)
    __attribute__((warn_unused_result));

static inline bool list_value_exists(const struct list_value *list) {
    return list->lookup.record != NULL;
}
uint64_t list_value_length(const struct list_value *list);

/* The position that a client's index means, or -1: outside. */
static inline int64_t list_position(uint64_t length, int64_t index) {
    if (index < 0) index += (int64_t)length;
    return index >= 0 && (uint64_t)index < length ? index : -1;
}

/* ---- reading ---- */

struct list_cursor {
    struct span element;
    uint64_t position; /* of the element */
    bool valid;        /* it is on an element, or on leaves that are not at hand */
    bool missing;      /* there is nothing to see here: it goes on with the next leaf */

    /* the cursor's own */
    struct list_value *list;
    struct paged_tree_cursor tree;
    const uint8_t *listpack, *entry;
    char room[LISTPACK_NUMBER_TEXT_BYTES];
};

/* To a position; not valid when there is none. The list stays open as long. */
void list_value_at(struct list_cursor *cursor, struct list_value *list, uint64_t position);
static inline void list_value_last(struct list_cursor *cursor, struct list_value *list) {
    uint64_t length = list_value_length(list);
    list_value_at(cursor, list, length ? length - 1 : 0);
}
void list_value_next(struct list_cursor *cursor);
void list_value_previous(struct list_cursor *cursor);

/* Has the pages of a range requested; true when all are at hand. Handlers that read and change ranges of more than one
 * list ask for all of them first. */
bool list_value_touch(struct list_value *list, uint64_t first, uint64_t count);

/* LPOS: positions of elements equal to `element`. `backward`: from the last to the first. */
struct list_search {
    struct span element;
    bool backward;
    uint64_t skip;    /* matches to pass over (RANK - 1) */
    uint64_t want;    /* at most so many; 0: all */
    uint64_t compare; /* at most so many elements are looked at (MAXLEN); 0: all */
};
typedef void list_found(void *ctx, uint64_t position);
/* Returns the number found; `found` is called for each, in the order of the search. Of a list whose pages are cold it
 * asks for more with each run, so that what is near the end where it begins costs little. */
uint64_t list_value_search(struct list_value *list, const struct list_search *search, list_found *found, void *ctx);

/* ---- changing ---- */

enum list_end { LIST_FIRST, LIST_LAST };

/* One after the other at this end, as LPUSH and RPUSH do: LPUSH a b c makes c b a. Makes the key when there is none.
 * All or none, but for a big list that meets PAGE_NO_MEMORY in the middle. */
enum page_status list_value_push(struct list_value *list, enum list_end end, const struct span *elements, size_t count,
                                 const struct list_limits *limits) __attribute__((warn_unused_result));

/* Before or after the first element equal to `pivot`. PAGE_ABSENT: no such element. */
enum page_status list_value_insert(struct list_value *list, bool before, struct span pivot, struct span element,
                                   const struct list_limits *limits) __attribute__((warn_unused_result));

/* PAGE_ABSENT: no such position. */
enum page_status list_value_set(struct list_value *list, uint64_t position, struct span element,
                                const struct list_limits *limits) __attribute__((warn_unused_result));

/* Removes positions first .. first + count - 1, as far as they are. LPOP and RPOP first read them through a cursor. A
 * big list may lose only a part with PAGE_NO_MEMORY. */
enum page_status list_value_delete_range(struct list_value *list, uint64_t first, uint64_t count)
    __attribute__((warn_unused_result));
/* Keeps positions first .. first + count - 1 and removes all else; count 0 removes the key. */
enum page_status list_value_trim(struct list_value *list, uint64_t first, uint64_t count)
    __attribute__((warn_unused_result));
/* LREM: removes elements equal to `element`, at most `limit` (0: all), from the end if `backward`. PAGE_ABSENT: none
 * was. */
enum page_status list_value_remove(struct list_value *list, struct span element, uint64_t limit, bool backward,
                                   uint64_t *removed) __attribute__((warn_unused_result));

/* LMOVE between lists that may be the same (then `target` is `source` itself). `element` is where to put a copy of the
 * element moved: the caller gives a buffer that grows by malloc (struct list_moved), frees it at the end, and may reply
 * from it. PAGE_ABSENT: the source is empty. */
struct list_moved {
    char *bytes; /* malloc'ed; NULL: nothing */
    size_t length;
};
enum page_status list_value_move(struct list_value *source, enum list_end from, struct list_value *target,
                                 enum list_end to, const struct list_limits *limits, struct list_moved *moved)
    __attribute__((warn_unused_result));

#endif
