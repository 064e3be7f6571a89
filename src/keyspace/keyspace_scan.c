/* Operations on whole databases: size, flush, swap, cursors, random keys. They go shard by shard.
 *
 * A SCAN cursor is a shard number and the leading bits of a position in its index:
 *
 *    52       43 42                                   0
 *   +-----------+--------------------------------------+
 *   | shard: 10 | position, upper 43 bits              |
 *   +-----------+--------------------------------------+ */

#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_snapshot.h"

#include <stdlib.h>

enum { POSITION_BITS = 43, RANDOM_TRIES = 64 };

uint64_t keyspace_database_size(const struct view *view) {
    uint64_t keys = 0;
    for (uint32_t i = 0; i < view->keyspace->shard_count; i++) {
        struct index *index = keyspace_enter(view, i)->databases[view->database];
        if (index) keys += index->count;
        keyspace_leave(view, i);
    }
    return keys;
}

/* ---- flush and swap ---- */

enum { NO_DATABASE = UINT32_MAX };

struct watch_visit {
    const struct view *view;
    uint32_t before, after; /* where the watched keys are, and where those that come in their place; or NO_DATABASE */
};

static enum keyspace_presence look(const struct watch_visit *visit, uint32_t database,
                                   const struct watch_entry *entry) {
    if (database == NO_DATABASE) return KEYSPACE_ABSENT;
    struct view view = *visit->view;
    struct key key = {span_of(entry->key, entry->key_length), entry->hash, entry->shard};
    view.database = database;
    return keyspace_look(&view, &key);
}

/* A key that has expired is as good as absent, so one may come in the other's place; but a key that had not expired
 * when the watch began, and has now, changed. */
static bool is_changed_by_exchange(void *ctx, struct watch_entry *entry) {
    struct watch_visit *visit = ctx;
    bool was_there = !entry->was_expired && look(visit, visit->before, entry) != KEYSPACE_ABSENT;
    enum keyspace_presence comes = look(visit, visit->after, entry);
    if (was_there || comes == KEYSPACE_LIVE) return true;
    entry->was_expired = comes == KEYSPACE_EXPIRED;
    return false;
}

static bool condemn(struct shard *shard, struct index *index) {
    if (shard->condemned_count == shard->condemned_capacity) {
        size_t capacity = shard->condemned_capacity ? 2 * shard->condemned_capacity : 4;
        struct index **grown = realloc(shard->condemned, capacity * sizeof(*grown));
        if (!grown) return false;
        shard->condemned = grown;
        shard->condemned_capacity = capacity;
    }
    shard->condemned[shard->condemned_count++] = index;
    return true;
}

/* Without memory to remember it, the old index is emptied on the spot. */
static void flush_shard(const struct view *view, struct shard *shard) {
    struct index *index = shard->databases[view->database];
    if (!index || index->count == 0) return;
    struct watch_visit visit = {view, view->database, NO_DATABASE};
    watch_touch_database(&shard->watches, view->database, is_changed_by_exchange, &visit);
    wait_mark_database(shard->waits, view->database, true);
    shard->changes += index->count;
    __atomic_store_n(&shard->databases[view->database], NULL, __ATOMIC_RELEASE);
    if (condemn(shard, index)) return;
    if (index->walk.unfinished) snapshot_lose(shard);
    uint64_t refs[INDEX_GATHER_MAX], position = 0;
    do {
        size_t count = index_gather(index, position, INDEX_GATHER_MAX, false, refs, &position);
        for (size_t i = 0; i < count; i++) shard_release_value(view->keyspace, shard, refs[i]);
    } while (position);
    index_destroy(index);
}

void keyspace_flush(const struct view *view) {
    if (!view_begin_change(view)) return;
    for (uint32_t i = 0; i < view->keyspace->shard_count; i++) {
        flush_shard(view, keyspace_enter(view, i));
        keyspace_leave(view, i);
    }
}

void keyspace_swap_databases(const struct view *view, uint32_t first, uint32_t second) {
    if (!view_begin_change(view)) return;
    for (uint32_t i = 0; i < view->keyspace->shard_count; i++) {
        struct shard *shard = &view->keyspace->shards[i];
        struct watch_visit out = {view, first, second}, in = {view, second, first};
        watch_touch_database(&shard->watches, first, is_changed_by_exchange, &out);
        if (second != first) watch_touch_database(&shard->watches, second, is_changed_by_exchange, &in);
        wait_mark_database(shard->waits, first, false);
        wait_mark_database(shard->waits, second, false);
        struct index *swapped = shard->databases[first];
        __atomic_store_n(&shard->databases[first], shard->databases[second], __ATOMIC_RELEASE);
        __atomic_store_n(&shard->databases[second], swapped, __ATOMIC_RELEASE);
        shard->changes++;
    }
    view_note_change(view);
}

/* ---- cursors ---- */

/* All cold ones are asked for before the first is needed, so that their reads overlap. */
static void visit_all(const struct view *view, const uint64_t *refs, size_t count, keyspace_visit *visit, void *ctx) {
    struct tier_waiter own = {0};
    struct tier_waiter *waiter = view->waiter && view->port && !tier_is_crowded(view->port) ? view->waiter : &own;
    const struct record *record;
    if (view->port)
        for (size_t i = 0; i < count; i++)
            if (ref_is_cold(refs[i])) tier_request(view->port, refs[i], waiter, &record);
    for (size_t i = 0; i < count; i++)
        if ((record = keyspace_record(view, refs[i]))) visit(ctx, record);
    if (!view->port || waiter != &own) return;
    tier_release(view->port, &own);
    tier_trim(view->port);
}

uint64_t keyspace_scan(const struct view *view, uint64_t cursor, size_t want, size_t *met, keyspace_visit *visit,
                       void *ctx) {
    uint32_t number = (uint32_t)(cursor >> POSITION_BITS);
    uint64_t position = cursor << (64 - POSITION_BITS), refs[INDEX_GATHER_MAX];
    size_t found = 0;
    for (; number < view->keyspace->shard_count; number++, position = 0) {
        struct shard *shard = keyspace_enter(view, number);
        struct index *index = shard->databases[view->database];
        while (index && index->count && found < want) {
            size_t count = index_gather(index, position, want - found, false, refs, &position);
            visit_all(view, refs, count, visit, ctx);
            found += count;
            if (met) *met += count;
            if (position == 0) break;
        }
        bool more = index && index->count && position != 0;
        keyspace_leave(view, number);
        if (more) return (uint64_t)number << POSITION_BITS | position >> (64 - POSITION_BITS);
        if (found >= want && number + 1 < view->keyspace->shard_count) return (uint64_t)(number + 1) << POSITION_BITS;
    }
    return 0;
}

/* ---- random keys ---- */

static uint64_t mix(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* SplitMix64 (Steele, Lea, Flood, 2014) */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct draw {
    const struct view *view;
    keyspace_visit *expired;
    void *ctx;
};

static bool is_live(const struct draw *draw, const struct record *record) {
    if (!record_is_expired(record, view_expiry_ms(draw->view))) return true;
    if (draw->expired) draw->expired(draw->ctx, record);
    return false;
}

/* A segment is met as often as its share of the hashes says, 2^-depth, and accepted the more often the denser it is, so
 * that each of its keys is drawn as often as any other key. No segment is twice as dense as the average. */
static const struct record *random_of_index(const struct draw *draw, const struct index *index, uint64_t *state) {
    uint64_t refs[INDEX_GATHER_MAX];
    for (unsigned try = 0; try < RANDOM_TRIES; try++) {
        unsigned depth;
        uint64_t count = index_gather_segment(index, mix(state), refs, &depth);
        if (count == 0 || mix(state) % (2 * index->count) >= count << depth) continue;
        const struct record *record = keyspace_record(draw->view, refs[mix(state) % count]);
        if (!record && view_misses(draw->view)) return NULL; /* this one, when it has arrived */
        if (record && is_live(draw, record)) return record;
    }
    return NULL;
}

/* For a database of which nearly everything has expired: the first live record of a shard. */
static const struct record *first_live(const struct draw *draw, const struct index *index) {
    uint64_t refs[INDEX_GATHER_MAX], position = 0;
    do {
        size_t count = index_gather(index, position, INDEX_GATHER_MAX, false, refs, &position);
        for (size_t i = 0; i < count; i++) {
            const struct record *record = keyspace_record(draw->view, refs[i]);
            if (record && is_live(draw, record)) return record;
            if (!record && view_misses(draw->view)) return NULL;
        }
    } while (position);
    return NULL;
}

bool keyspace_random(const struct view *view, uint64_t random, keyspace_visit *visit, keyspace_visit *expired,
                     void *ctx) {
    struct draw draw = {view, expired, ctx};
    uint64_t total = keyspace_database_size(view), state = random;
    for (unsigned round = 0; round < 2 && total > 0; round++) {
        uint64_t chosen = round == 0 ? mix(&state) % total : 0;
        for (uint32_t i = 0; i < view->keyspace->shard_count; i++) {
            struct index *index = keyspace_enter(view, i)->databases[view->database];
            const struct record *record = NULL;
            uint64_t count = index ? index->count : 0;
            if (count && round == 1) record = first_live(&draw, index);
            if (count && round == 0 && chosen < count) record = random_of_index(&draw, index, &state);
            if (record) visit(ctx, record);
            keyspace_leave(view, i);
            if (record) return true;
            if (view_misses(view)) return false;
            if (round == 0 && chosen < count) break;
            chosen -= count;
        }
    }
    return false;
}
