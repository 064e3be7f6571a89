/* Tables of watched keys: chained hashing by the key's hash, one table a shard, doubled as it fills. A shard
 * that nobody watches costs a comparison of `count` with zero on each write. */

#include "keyspace/watch.h"

#include <assert.h>
#include <stdlib.h>

static bool grow(struct watch_table *table) {
    uint32_t size = table->chains ? (table->mask + 1) * 2 : 16;
    struct watch_entry **chains = calloc(size, sizeof(*chains));
    if (!chains) return table->chains != NULL;
    for (uint32_t i = 0; table->chains && i <= table->mask; i++) {
        for (struct watch_entry *entry = table->chains[i], *next; entry; entry = next) {
            next = entry->next;
            entry->next = chains[entry->hash & (size - 1)];
            chains[entry->hash & (size - 1)] = entry;
        }
    }
    free(table->chains);
    table->chains = chains;
    table->mask = size - 1;
    return true;
}

static bool is_about(const struct watch_entry *entry, uint32_t database, uint64_t hash, struct span key) {
    return entry->hash == hash && entry->database == database &&
           span_equal(span_of(entry->key, entry->key_length), key);
}

static bool is_watched(const struct watch_table *table, uint32_t database, uint64_t hash, struct span key) {
    struct watch_entry *entry = table->chains ? table->chains[hash & table->mask] : NULL;
    while (entry && !is_about(entry, database, hash, key)) entry = entry->next;
    return entry != NULL;
}

bool watch_add(struct watch_table *table, struct watcher *watcher, uint32_t shard, uint32_t database, uint64_t hash,
               struct span key, bool was_expired) {
    if ((!table->chains || table->count > table->mask) && !grow(table)) return false;
    struct watch_entry *entry = malloc(sizeof(*entry) + key.length);
    if (!entry) return false;
    *entry = (struct watch_entry){.owner = watcher,
                                  .hash = hash,
                                  .shard = shard,
                                  .database = database,
                                  .was_expired = was_expired,
                                  .key_length = (uint32_t)key.length};
    memcpy(entry->key, key.data, key.length);
    table->keys += !is_watched(table, database, hash, key);
    entry->next = table->chains[hash & table->mask];
    table->chains[hash & table->mask] = entry;
    table->count++;
    entry->next_of_owner = watcher->entries;
    watcher->entries = entry;
    watcher->bytes += sizeof(*entry) + key.length;
    watcher->count++;
    return true;
}

struct watch_entry *watch_find(const struct watcher *watcher, uint32_t database, uint64_t hash, struct span key) {
    for (struct watch_entry *entry = watcher->entries; entry; entry = entry->next_of_owner)
        if (is_about(entry, database, hash, key)) return entry;
    return NULL;
}

void watch_remove(struct watch_table *table, struct watch_entry *entry) {
    entry->owner->bytes -= sizeof(*entry) + entry->key_length;
    entry->owner->count--;
    struct watch_entry **link = &table->chains[entry->hash & table->mask];
    while (*link != entry) {
        assert(*link);
        link = &(*link)->next;
    }
    *link = entry->next;
    table->count--;
    table->keys -= !is_watched(table, entry->database, entry->hash, span_of(entry->key, entry->key_length));
    free(entry);
    if (table->count == 0) {
        free(table->chains);
        table->chains = NULL;
        table->mask = 0;
    }
}

static void mark(struct watch_entry *entry) {
    atomic_store_explicit(&entry->owner->dirty, true, memory_order_release);
}

void watch_touch(struct watch_table *table, uint32_t database, uint64_t hash, struct span key, bool expired) {
    if (table->count == 0) return;
    for (struct watch_entry *entry = table->chains[hash & table->mask]; entry; entry = entry->next) {
        if (!is_about(entry, database, hash, key)) continue;
        if (expired && entry->was_expired)
            entry->was_expired = false; /* from now on it is simply absent */
        else
            mark(entry);
    }
}

void watch_touch_database(struct watch_table *table, uint32_t database,
                          bool (*visit)(void *ctx, struct watch_entry *entry), void *ctx) {
    if (table->count == 0) return;
    for (uint32_t i = 0; i <= table->mask; i++)
        for (struct watch_entry *entry = table->chains[i]; entry; entry = entry->next)
            if (entry->database == database && visit(ctx, entry)) mark(entry);
}
