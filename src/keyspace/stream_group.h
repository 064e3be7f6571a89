#ifndef TERRACE_KEYSPACE_STREAM_GROUP_H
#define TERRACE_KEYSPACE_STREAM_GROUP_H

/* The consumer groups of a stream: who reads it together, how far they have come, and what was delivered to whom and is
 * not acknowledged (pending).
 *
 * Groups and consumers are in DRAM, in arrays ordered by name. What is pending are items of trees whose pages belong to
 * the stream's collection, like those of its entries:
 *
 *   group->pending       ID -> time of delivery, number of deliveries, number of the consumer
 *   consumer->pending    ID                      so that a consumer's own are found without going through all
 *
 * The group's tree is the truth. A consumer's is an index to it which may, after a change that found no memory half
 * way, have an ID too many: so whoever reads it asks the group's tree, and passes over an ID that is another
 * consumer's.
 *
 * A consumer's number is its place in `slots`, as long as it lives.
 *
 * Statuses are those of page_status.h. Threads: the lock of the stream's shard. */

#include "keyspace/stream_id.h"

#define STREAM_ENTRIES_READ_UNKNOWN INT64_C(-1)

struct stream_consumer {
    struct paged_tree pending;
    int64_t seen_ms;   /* when it last asked for something */
    int64_t active_ms; /* when it last got something; -1: never */
    uint32_t number;
    uint32_t name_length;
    char name[];
};

struct stream_group {
    struct paged_tree pending;
    struct stream_id last; /* delivered */
    int64_t entries_read;  /* STREAM_ENTRIES_READ_UNKNOWN, or how many entries were before `last` and with it */
    struct stream_consumer **sorted; /* owned, by name */
    struct stream_consumer **slots;  /* by number; NULL: free */
    uint32_t count, capacity;        /* of both; numbers are below capacity */
    struct stream_group *next;       /* of those that are given up */
    uint32_t name_length;
    char name[];
};

struct stream_groups {
    struct stream_group **sorted; /* owned, by name */
    uint32_t count, capacity;
    struct stream_group *given_up; /* destroyed, with pages that are not yet freed */
};

static inline struct span stream_group_name(const struct stream_group *group) {
    return span_of(group->name, group->name_length);
}
static inline struct span stream_consumer_name(const struct stream_consumer *consumer) {
    return span_of(consumer->name, consumer->name_length);
}

/* NULL: there is none. */
struct stream_group *stream_group_find(const struct stream_groups *groups, struct span name);
/* Precondition: there is none of this name. NULL: no memory. */
struct stream_group *stream_group_add(struct stream_groups *groups, struct span name, struct page_table *table);
/* Takes it off the list. Its pages are freed by stream_groups_clear(). */
void stream_group_give_up(struct stream_groups *groups, struct stream_group *group);
/* Frees a part of what was given up, in about `budget` pages; true: there is more. Precondition: changes are allowed
 * now (page_begin_change()). */
bool stream_groups_clear(struct stream_groups *groups, struct page_access *access, unsigned budget);
/* Frees everything but pages, in about `budget` steps; true: there is more. */
bool stream_groups_release(struct stream_groups *groups, unsigned budget);
/* `copy` has nothing before. False: no memory; stream_groups_release() frees what it then has. */
bool stream_groups_copy(const struct stream_groups *groups, struct stream_groups *copy, struct page_table *table)
    __attribute__((warn_unused_result));
/* For checkpoints, those that are given up included. `groups` has nothing before. False: damaged, or no memory; then
 * stream_groups_release() frees what there is. */
void stream_groups_save(const struct stream_groups *groups, struct state_writer *out);
bool stream_groups_load(struct stream_groups *groups, struct state_reader *in, struct page_table *table)
    __attribute__((warn_unused_result));
/* Claims the pages of all (page_table.h). */
bool stream_groups_claim(const struct stream_groups *groups) __attribute__((warn_unused_result));
size_t stream_groups_bytes(const struct stream_groups *groups);
/* Checks names, numbers, trees, and that group and consumers agree; for tests and debug builds. */
bool stream_groups_validate(const struct stream_groups *groups, struct page_access *access);

/* NULL: there is none. */
struct stream_consumer *stream_consumer_find(const struct stream_group *group, struct span name);
/* Precondition: there is none of this name. NULL: no memory. */
struct stream_consumer *stream_consumer_add(struct stream_group *group, struct span name, int64_t now_ms);
/* With all that is pending for it. O(pending) */
enum page_status stream_consumer_remove(struct stream_group *group, struct page_access *access,
                                        struct stream_consumer *consumer) __attribute__((warn_unused_result));

/* ---- pending entries ---- */

struct stream_pending {
    int64_t delivered_ms;
    uint64_t deliveries;
    struct stream_consumer *consumer; /* NULL: it is no more (only after an unreadable page) */
};

/* Of an item of the group's tree. */
struct stream_pending stream_pending_of(const struct stream_group *group, struct span value);
/* PAGE_DONE, PAGE_ABSENT or PAGE_MISSING. */
enum page_status stream_pending_find(const struct stream_group *group, struct page_access *access, struct stream_id id,
                                     struct stream_pending *pending) __attribute__((warn_unused_result));
/* Makes the ID pending as told, whosever it was. `before` (NULL: not known) is what stream_pending_find() said. */
enum page_status stream_pending_set(struct stream_group *group, struct page_access *access, struct stream_id id,
                                    const struct stream_pending *pending, const struct stream_pending *before)
    __attribute__((warn_unused_result));
/* PAGE_ABSENT. */
enum page_status stream_pending_remove(struct stream_group *group, struct page_access *access, struct stream_id id)
    __attribute__((warn_unused_result));
/* Has the leaves requested that a change of this ID needs: the group's, the present owner's, and the next owner's
 * (NULL: none). Does nothing where all is in memory. */
void stream_pending_touch(const struct stream_group *group, struct page_access *access, struct stream_id id,
                          const struct stream_consumer *next_owner);

#endif
