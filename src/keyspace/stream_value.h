#ifndef TERRACE_KEYSPACE_STREAM_VALUE_H
#define TERRACE_KEYSPACE_STREAM_VALUE_H

/* The stream that a key has: always a collection, however small, since its IDs and groups outlive its entries.
 *
 *   root (DRAM)   IDs and counts, schemas (stream_schema.h), groups (stream_group.h), producers (stream_producer.h)
 *     entries     a paged_tree: ID -> packed entry
 *     pending     of each group and consumer another tree; all of them share the collection's pages
 *
 *   struct stream_value stream;
 *   if (!stream_value_open(&stream, &call->view, key, STREAM_FOR_READ)) ... WRONGTYPE
 *   if (!stream.root) ... there is no such key
 *
 * A stream without entries stays; only commands on keys (DEL ...) remove it.
 *
 * Statuses are those of page_status.h: PAGE_MISSING means that the command is going to be run again; but for PAGE_DONE
 * nothing has changed. Functions here change the stream, and do not tell anybody: a command that has changed something
 * calls stream_value_changed() or stream_value_used() once.
 *
 * Threads: the lock of the key's shard. */

#include "keyspace/keyspace.h"
#include "keyspace/keyspace_collection.h"
#include "keyspace/stream_group.h"
#include "keyspace/stream_id.h"
#include "keyspace/stream_producer.h"
#include "keyspace/stream_schema.h"

struct stream_root {
    struct collection collection;
    struct paged_tree entries;
    struct stream_id last;        /* given to an entry, or set */
    struct stream_id first;       /* of the entries there are; 0-0: none */
    struct stream_id max_deleted; /* by name, not by trimming */
    uint64_t added;               /* entries ever */
    struct stream_schemas schemas;
    struct stream_groups groups;
    struct stream_producers *producers; /* NULL: nobody has used idempotent IDs, or set them up */
};
extern const struct collection_kind stream_kind;

struct stream_value {
    const struct view *view;
    const struct key *key;
    struct lookup lookup;
    struct page_access access;
    struct stream_root *root; /* NULL: there is no such key */
};

enum stream_purpose { STREAM_FOR_READ, STREAM_FOR_WRITE };

/* False: the key holds something else; there is no stream then. View and key must outlive the stream. */
bool stream_value_open(struct stream_value *stream, const struct view *view, const struct key *key,
                       enum stream_purpose purpose) __attribute__((warn_unused_result));
/* Makes an empty stream where no key is. False: no memory, or not now. */
bool stream_value_create(struct stream_value *stream) __attribute__((warn_unused_result));
/* Tells watchers and those who wait for the key. Counts as a change. */
void stream_value_changed(struct stream_value *stream);
/* Something about groups changed: counts as a change, and nobody is told, as with Redis. Frees a part of the groups
 * that were given up. */
void stream_value_used(struct stream_value *stream);

static inline uint64_t stream_value_length(const struct stream_value *stream) {
    return stream->root ? paged_tree_count(&stream->root->entries) : 0;
}

/* ---- entries ---- */

/* Adds an entry behind all others. Precondition: `id` is above root->last. PAGE_NO_MEMORY, PAGE_MISSING. */
enum page_status stream_value_append(struct stream_value *stream, struct stream_id id, struct stream_fields fields)
    __attribute__((warn_unused_result));

/* Deletes one. PAGE_ABSENT. stream_value_deleted() is to be called after the last one. */
enum page_status stream_value_delete(struct stream_value *stream, struct stream_id id)
    __attribute__((warn_unused_result));
void stream_value_deleted(struct stream_value *stream);

/* Trimming takes entries away from the beginning. */
struct stream_trim {
    enum { STREAM_TRIM_NONE, STREAM_TRIM_LENGTH, STREAM_TRIM_ID } strategy;
    bool approximate;       /* whole nodes only: */
    uint64_t node_entries;  /* so many entries, or those of a page where they are much fewer; 0: those of a page */
    uint64_t length;        /* to be left */
    struct stream_id least; /* to be left */
    uint64_t limit;         /* approximate: entries taken away at most; 0: any number */
};
/* O(pages taken away); `*removed` is the number of entries, also when a page turns out to be unreadable half way. */
enum page_status stream_value_trim(struct stream_value *stream, const struct stream_trim *trim, uint64_t *removed)
    __attribute__((warn_unused_result));

/* The ID of the last entry there is, which may be below root->last; 0-0: there is none. PAGE_MISSING. */
enum page_status stream_value_last_id(struct stream_value *stream, struct stream_id *id)
    __attribute__((warn_unused_result));

/* ---- groups ---- */

/* Where a group stands: how many entries, of all there ever were, are up to `id`; STREAM_ENTRIES_READ_UNKNOWN when
 * deletions make that impossible to tell. */
int64_t stream_value_entries_until(const struct stream_root *root, struct stream_id id);
/* How many entries the group has yet to read; false: impossible to tell. */
bool stream_value_lag(const struct stream_root *root, const struct stream_group *group, int64_t *lag);
/* The entry `id`, above group->last, is delivered to the group. */
void stream_value_advance(const struct stream_root *root, struct stream_group *group, struct stream_id id);

#endif
