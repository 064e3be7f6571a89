/* Fields that expire, of hashes that nobody looks at: which keys have some is noted as they get them (field_expiry.h),
 * and the sweep of a shard removes what is due.
 *
 * An entry names its key by the hash of its name; slots whose tags suggest that hash are looked at until one has it. A
 * cold record is read only when it is due, by the sweeper's waiter as the sweep of keys does it. A hash of many pages
 * is swept a few pages at a time, and stays due until a round through it has ended. */

#include "base/clock.h"
#include "keyspace/hash_value.h"
#include "keyspace/keyspace_private.h"

#include <stdlib.h>

enum {
    NAME_ON_STACK = 256,
    SWEPT_PAGES = 16, /* ~500 fields, well below 100 us */
    STALE_SLACK = 64,
};

void keyspace_note_fields(const struct view *view, const struct key *key, int64_t due_ms) {
    struct index *index = view->keyspace->shards[key->shard].databases[view->database];
    if (!index || (!index->fields && !(index->fields = field_expiry_create()))) return;
    field_expiry_note(index->fields, key->hash, due_ms);
}

struct field_sweep {
    struct keyspace *keyspace;
    struct shard *shard;
    const struct keyspace_sweeper *sweeper; /* NULL: no tier */
    int64_t now_ms;
    uint64_t start, budget_ns;
    uint32_t database;
};

static bool is_over(const struct field_sweep *sweep) {
    return clock_elapsed_ns(sweep->start) >= sweep->budget_ns;
}

/* Removes what is due from the hash that this record is. Returns when it is to be looked at again; INT64_MAX: never. */
static int64_t sweep_hash(const struct field_sweep *sweep, struct span name) {
    struct tier_waiter *waiter = sweep->sweeper ? sweep->sweeper->waiter : NULL;
    const struct view view = {.keyspace = sweep->keyspace,
                              .database = sweep->database,
                              .keep_access = true,
                              .unheard = true,
                              .port = sweep->sweeper ? sweep->sweeper->port : NULL,
                              .waiter = waiter,
                              .now_ms = sweep->now_ms};
    struct key key = keyspace_key(sweep->keyspace, name);
    struct hash_value hash;
    if (waiter) waiter->committed = waiter->missed = false; /* what it waited for the last time has come */
    if (!hash_value_open(&hash, &view, &key, HASH_FOR_WRITE)) return INT64_MAX;
    bool more = true;
    while (more && hash_value_next_expiry(&hash) <= sweep->now_ms && !(waiter && waiter->outstanding)) {
        more = hash_value_expire(&hash, SWEPT_PAGES, NULL, NULL);
        if (is_over(sweep)) break;
    }
    if (waiter && waiter->outstanding) return sweep->now_ms;
    return hash_value_next_expiry(&hash);
}

/* The name is copied, since the record that holds it is going to change. */
static int64_t sweep_named(const struct field_sweep *sweep, struct span name) {
    char on_stack[NAME_ON_STACK], *copy = name.length <= sizeof(on_stack) ? on_stack : malloc(name.length);
    if (!copy) return sweep->now_ms;
    memcpy(copy, name.data, name.length);
    int64_t due_ms = sweep_hash(sweep, span_of(copy, name.length));
    if (copy != on_stack) free(copy);
    return due_ms;
}

/* Looks at the key of an entry, whose fields, if `due`, are removed. Returns when the entry is due next; INT64_MAX: no
 * such key has fields that expire. */
static int64_t look_at(const struct field_sweep *sweep, const struct field_due *entry, bool due) {
    uint64_t refs[INDEX_CANDIDATES];
    struct index *index = sweep->shard->databases[sweep->database];
    unsigned count = index_candidates(index, entry->hash, refs);
    int64_t next_ms = INT64_MAX;
    for (unsigned i = 0; i < count; i++) {
        const struct record *record = NULL;
        if (!ref_is_cold(refs[i])) {
            record = ref_record(refs[i]);
        } else if (!due) {
            next_ms = entry->due_ms;
        } else if (sweep->sweeper &&
                   tier_request(sweep->sweeper->port, refs[i], sweep->sweeper->waiter, &record) == TIER_PENDING) {
            next_ms = entry->due_ms;
            continue;
        }
        if (!record || record_type(record) != RECORD_HASH || record_encoding(record) == RECORD_LISTPACK ||
            key_hash(record_key(record), sweep->keyspace->seed) != entry->hash)
            continue;
        return due ? sweep_named(sweep, record_key(record)) : entry->due_ms;
    }
    return next_ms;
}

/* True: the pass of this database has ended, and nothing in it is due. */
static bool sweep_database(struct field_sweep *sweep, struct index *index, size_t *looked_at) {
    const struct field_due *next;
    bool complete = true;
    while (!is_over(sweep)) {
        bool all = index->fields->count > 2 * index->count + STALE_SLACK;
        next = field_expiry_next(index->fields, sweep->now_ms, all);
        if (!next) return complete;
        struct field_due entry = *next;
        int64_t due_ms = look_at(sweep, &entry, entry.due_ms <= sweep->now_ms);
        field_expiry_settle(index->fields, entry.hash, due_ms);
        ++*looked_at;
        complete = complete && due_ms > sweep->now_ms;
        if (sweep->sweeper && sweep->sweeper->waiter->outstanding) return false;
    }
    return false;
}

bool keyspace_may_have_field_ttl(const struct keyspace *keyspace) {
    for (uint32_t shard = 0; shard < keyspace->shard_count; shard++)
        for (uint32_t database = 0; database < keyspace->database_count; database++) {
            const struct index *index = keyspace->shards[shard].databases[database];
            if (index && index->fields && index->fields->count) return true;
        }
    return false;
}

bool keyspace_sweep_fields(struct keyspace *keyspace, struct shard *shard, int64_t now_ms, uint64_t budget_ns,
                           const struct keyspace_sweeper *sweeper, size_t *looked_at) {
    struct field_sweep sweep = {keyspace, shard, sweeper, now_ms, clock_ticks(), budget_ns, 0};
    bool complete = true;
    *looked_at = 0;
    for (uint32_t database = 0; database < keyspace->database_count; database++) {
        struct index *index = shard->databases[database];
        sweep.database = database;
        if (index && index->fields && field_expiry_is_due(index->fields, now_ms))
            complete = sweep_database(&sweep, index, looked_at) && complete;
        if (sweeper && sweeper->waiter->outstanding) return false;
    }
    return complete;
}
