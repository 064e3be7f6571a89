/* The contents of values, for digests. Each type's value module is walked as a command would, so that encodings do not
 * show. Values are opened as for a change: that counts no hit, and nothing is changed. */

#include "server/digest_value.h"

#include "keyspace/hash_value.h"
#include "keyspace/list_value.h"
#include "keyspace/set_value.h"
#include "keyspace/sorted_set_value.h"
#include "keyspace/stream_value.h"
#include "record/paged_bytes.h"

#include <stdlib.h>

static struct digest_value of_number(uint64_t number) {
    return digest_of_bytes(span_of(&number, sizeof(number)));
}

/* A long string is put together first: a digest is of bytes in one stretch. */
static struct digest_value of_string(const struct view *view, const struct key *key, const struct record *record) {
    struct digest_value digest = {0};
    if (!record_is_paged(record)) return digest_of_string(record);
    struct paged_bytes *bytes = paged_bytes_of(collection_of(record));
    struct page_access access = keyspace_pages(view, &view->keyspace->shards[key->shard]);
    char *whole = malloc(bytes->length);
    if (whole && paged_bytes_read(bytes, &access, 0, whole, bytes->length) == PAGE_DONE)
        digest = digest_of_bytes(span_of(whole, bytes->length));
    free(whole);
    return digest;
}

static struct digest_value of_list(const struct view *view, const struct key *key) {
    struct digest_value digest = {0};
    struct list_value list;
    struct list_cursor at;
    if (!list_value_open(&list, view, key, LIST_FOR_WRITE)) return digest;
    for (list_value_at(&at, &list, 0); at.valid; list_value_next(&at))
        if (!at.missing) digest = digest_of_pair(digest, digest_of_bytes(at.element));
    return digest;
}

static struct digest_value of_set(const struct view *view, const struct key *key) {
    struct digest_value digest = {0};
    struct set_value set;
    struct set_walk walk;
    struct set_member member;
    if (!set_value_open(&set, view, key, SET_FOR_WRITE)) return digest;
    set_value_walk(&walk, &set);
    while (set_value_walk_next(&walk, &member)) digest_mix(&digest, digest_of_bytes(member.text));
    return digest;
}

static struct digest_value of_sorted_set(const struct view *view, const struct key *key) {
    struct digest_value digest = {0};
    struct sorted_set set;
    struct sorted_set_cursor at;
    if (!sorted_set_open(&set, view, key, SORTED_SET_FOR_WRITE)) return digest;
    for (sorted_set_at(&at, &set, 0); at.valid; sorted_set_next(&at)) {
        struct digest_value score = digest_of_bytes(span_of(&at.score, sizeof(at.score)));
        if (!at.missing) digest_mix(&digest, digest_of_pair(digest_of_bytes(at.member), score));
    }
    return digest;
}

static struct digest_value of_hash(const struct view *view, const struct key *key) {
    struct digest_value digest = {0};
    struct hash_value hash;
    struct hash_walk walk;
    struct hash_entry entry;
    if (!hash_value_open(&hash, view, key, HASH_FOR_WRITE)) return digest;
    hash_value_walk(&walk, &hash);
    while (hash_value_walk_next(&walk, &entry)) {
        struct digest_value pair = digest_of_pair(digest_of_bytes(entry.field), digest_of_bytes(entry.value));
        digest_mix(&digest, digest_of_pair(pair, of_number(entry.expiry_ms != HASH_EXPIRY_NONE)));
    }
    return digest;
}

/* ---- streams ---- */

static struct digest_value of_id(struct stream_id id) {
    return digest_of_bytes(span_of(&id, sizeof(id)));
}

static struct digest_value of_entries(struct stream_value *stream) {
    struct digest_value digest = {0};
    struct paged_tree_cursor at;
    struct stream_entry entry;
    for (paged_tree_first(&at, &stream->root->entries, &stream->access); at.valid; paged_tree_next(&at)) {
        if (at.missing) continue;
        digest = digest_of_pair(digest, of_id(stream_id_of(&at.item.key)));
        stream_entry_open(&entry, &stream->root->schemas, at.item.value);
        while (stream_entry_next(&entry))
            digest = digest_of_pair(digest, digest_of_pair(digest_of_bytes(entry.name), digest_of_bytes(entry.value)));
    }
    return digest;
}

static struct digest_value of_group(struct stream_value *stream, const struct stream_group *group) {
    struct digest_value digest = digest_of_pair(digest_of_bytes(stream_group_name(group)), of_id(group->last));
    struct paged_tree_cursor at;
    for (uint32_t i = 0; i < group->count; i++)
        digest = digest_of_pair(digest, digest_of_bytes(stream_consumer_name(group->sorted[i])));
    for (paged_tree_first(&at, &group->pending, &stream->access); at.valid; paged_tree_next(&at)) {
        if (at.missing) continue;
        struct stream_pending pending = stream_pending_of(group, at.item.value);
        struct digest_value whose = of_number(pending.deliveries);
        if (pending.consumer) whose = digest_of_pair(whose, digest_of_bytes(stream_consumer_name(pending.consumer)));
        digest = digest_of_pair(digest, digest_of_pair(of_id(stream_id_of(&at.item.key)), whose));
    }
    return digest;
}

static struct digest_value of_stream(const struct view *view, const struct key *key) {
    struct stream_value stream;
    struct digest_value groups = {0};
    if (!stream_value_open(&stream, view, key, STREAM_FOR_WRITE) || !stream.root) return groups;
    for (uint32_t i = 0; i < stream.root->groups.count; i++)
        groups = digest_of_pair(groups, of_group(&stream, stream.root->groups.sorted[i]));
    return digest_of_pair(digest_of_pair(of_entries(&stream), of_id(stream.root->last)), groups);
}

struct digest_value digest_value_of(const struct view *view, const struct record *record) {
    const struct key key = keyspace_key(view->keyspace, record_key(record));
    switch (record_type(record)) {
    case RECORD_LIST: return of_list(view, &key);
    case RECORD_SET: return of_set(view, &key);
    case RECORD_SORTED_SET: return of_sorted_set(view, &key);
    case RECORD_HASH: return of_hash(view, &key);
    case RECORD_STREAM: return of_stream(view, &key);
    default: return of_string(view, &key, record);
    }
}
