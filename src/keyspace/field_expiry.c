/* A hash table of the keys whose fields expire: see field_expiry.h.
 *
 * Open addressing with linear probing, at most three quarters full; what is dropped is closed up by moving later
 * entries of its run back, so there are no tombstones. A pass goes through the array in order and stands still at an
 * entry until it is settled: an entry that is moved into a place it has just dropped is looked at there. Growing moves
 * all entries, so a pass that is under way begins again. */

#include "keyspace/field_expiry.h"

#include <stdlib.h>

enum { CAPACITY_FIRST = 16 };

struct field_expiry *field_expiry_create(void) {
    struct field_expiry *expiry = calloc(1, sizeof(*expiry));
    if (expiry) expiry->least_due_ms = expiry->pass_least_ms = INT64_MAX;
    return expiry;
}

void field_expiry_destroy(struct field_expiry *expiry) {
    if (!expiry) return;
    free(expiry->entries);
    free(expiry);
}

static inline uint64_t key_of(uint64_t hash) {
    return hash ? hash : 1;
}

/* Indexes use the highest bits of the hash; all keys of a shard may have some of those in common. */
static inline size_t home_of(const struct field_expiry *expiry, uint64_t key) {
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (expiry->capacity - 1);
}

/* The key's place, or the free one where it belongs. Precondition: there is a free one. */
static size_t place_of(const struct field_expiry *expiry, uint64_t key) {
    size_t at = home_of(expiry, key);
    while (expiry->entries[at].hash && expiry->entries[at].hash != key) at = (at + 1) & (expiry->capacity - 1);
    return at;
}

static bool grow(struct field_expiry *expiry) {
    struct field_expiry larger = *expiry;
    larger.capacity = expiry->capacity ? 2 * expiry->capacity : CAPACITY_FIRST;
    larger.entries = calloc(larger.capacity, sizeof(*larger.entries));
    if (!larger.entries) return false;
    for (size_t i = 0; i < expiry->capacity; i++)
        if (expiry->entries[i].hash) larger.entries[place_of(&larger, expiry->entries[i].hash)] = expiry->entries[i];
    free(expiry->entries);
    *expiry = larger;
    expiry->pass_at = 0;
    return true;
}

void field_expiry_note(struct field_expiry *expiry, uint64_t hash, int64_t due_ms) {
    if (4 * (expiry->count + 1) > 3 * expiry->capacity && !grow(expiry)) return;
    struct field_due *entry = &expiry->entries[place_of(expiry, key_of(hash))];
    if (!entry->hash) {
        *entry = (struct field_due){key_of(hash), due_ms};
        expiry->count++;
    } else if (due_ms < entry->due_ms) {
        entry->due_ms = due_ms;
    }
    if (due_ms < expiry->least_due_ms) expiry->least_due_ms = due_ms;
    if (due_ms < expiry->pass_least_ms) expiry->pass_least_ms = due_ms;
}

const struct field_due *field_expiry_next(struct field_expiry *expiry, int64_t now_ms, bool all) {
    if (expiry->pass_at == 0) expiry->pass_least_ms = INT64_MAX;
    for (; expiry->pass_at < expiry->capacity; expiry->pass_at++) {
        const struct field_due *entry = &expiry->entries[expiry->pass_at];
        if (entry->hash && (all || entry->due_ms <= now_ms)) return entry;
        if (entry->hash && entry->due_ms < expiry->pass_least_ms) expiry->pass_least_ms = entry->due_ms;
    }
    expiry->least_due_ms = expiry->pass_least_ms;
    expiry->pass_at = 0;
    return NULL;
}

/* Closes the gap: an entry further on in the run moves into it, unless that would put it before its home. */
static void drop(struct field_expiry *expiry, size_t gap) {
    size_t mask = expiry->capacity - 1;
    for (size_t at = (gap + 1) & mask; expiry->entries[at].hash; at = (at + 1) & mask) {
        size_t home = home_of(expiry, expiry->entries[at].hash);
        if (((at - home) & mask) < ((at - gap) & mask)) continue;
        expiry->entries[gap] = expiry->entries[at];
        gap = at;
    }
    expiry->entries[gap].hash = 0;
    expiry->count--;
}

void field_expiry_settle(struct field_expiry *expiry, uint64_t hash, int64_t due_ms) {
    size_t place = place_of(expiry, key_of(hash));
    if (!expiry->entries[place].hash) return;
    if (due_ms == INT64_MAX) {
        drop(expiry, place);
        return;
    }
    expiry->entries[place].due_ms = due_ms;
    if (due_ms < expiry->pass_least_ms) expiry->pass_least_ms = due_ms;
    /* Nothing was moved: the pass goes on behind it. */
    if (place == expiry->pass_at) expiry->pass_at++;
}
