/* Tables of awaited keys: chained hashing by the key's hash, doubled as it fills. A shard for which nobody waits has no
 * table, and pays for this with a look at a null pointer on each change.
 *
 * A queue can be gone through while its nodes are taken out, also those that stand next: the key's cursor, which says
 * where to go on, steps over a node that leaves. */

#include "keyspace/wait_table.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_CHAINS = 4 };

static bool grow(struct wait_table *table) {
    uint32_t size = table->chains ? (table->mask + 1) * 2 : FIRST_CHAINS;
    struct wait_key **chains = calloc(size, sizeof(*chains));
    if (!chains) return table->chains != NULL;
    for (uint32_t i = 0; table->chains && i <= table->mask; i++) {
        for (struct wait_key *key = table->chains[i], *next; key; key = next) {
            next = key->next;
            key->next = chains[key->hash & (size - 1)];
            chains[key->hash & (size - 1)] = key;
        }
    }
    free(table->chains);
    table->chains = chains;
    table->mask = size - 1;
    return true;
}

static void drop_if_empty(struct wait_table **table) {
    if ((*table)->count) return;
    free((*table)->chains);
    free(*table);
    *table = NULL;
}

static struct wait_key *find_in(const struct wait_table *table, uint32_t database, uint64_t hash, struct span name) {
    struct wait_key *key = NULL;
    while ((key = wait_find(table, key, hash, name)) && key->database != database) {
    }
    return key;
}

struct wait_key *wait_find(const struct wait_table *table, const struct wait_key *previous, uint64_t hash,
                           struct span name) {
    if (!table || !table->chains) return NULL;
    struct wait_key *key = previous ? previous->next : table->chains[hash & table->mask];
    while (key && (key->hash != hash || !span_equal(span_of(key->name, key->name_length), name))) key = key->next;
    return key;
}

static struct wait_key *make_key(struct wait_table *table, uint32_t database, uint64_t hash, struct span name) {
    if ((!table->chains || table->count > table->mask) && !grow(table)) return NULL;
    struct wait_key *key = malloc(sizeof(*key) + name.length);
    if (!key) return NULL;
    *key = (struct wait_key){.hash = hash, .database = database, .name_length = (uint32_t)name.length};
    memcpy(key->name, name.data, name.length);
    key->next = table->chains[hash & table->mask];
    table->chains[hash & table->mask] = key;
    table->count++;
    atomic_fetch_add_explicit(&table->figures->keys, 1, memory_order_relaxed);
    return key;
}

bool wait_add(struct wait_table **table, struct wait_figures *figures, uint32_t database, uint64_t hash,
              struct span name, struct wait_node *node) {
    if (!*table) {
        *table = calloc(1, sizeof(**table));
        if (!*table) return false;
        (*table)->figures = figures;
    }
    struct wait_key *key = find_in(*table, database, hash, name);
    if (!key) key = make_key(*table, database, hash, name);
    if (!key) {
        drop_if_empty(table);
        return false;
    }
    node->key = key;
    node->next = NULL;
    node->previous = key->last;
    if (key->last)
        key->last->next = node;
    else
        key->first = node;
    key->last = node;
    key->count++;
    key->spread_count += node->is_spread;
    key->absence_count += node->wants_absence;
    if (node->wants_absence && key->absence_count == 1)
        atomic_fetch_add_explicit(&figures->keys_of_absence, 1, memory_order_relaxed);
    return true;
}

static void free_key(struct wait_table **table, struct wait_key *key) {
    struct wait_key **link = &(*table)->chains[key->hash & (*table)->mask];
    while (*link != key) {
        assert(*link);
        link = &(*link)->next;
    }
    *link = key->next;
    if (key->ready) wait_unmark(*table, key);
    (*table)->count--;
    atomic_fetch_sub_explicit(&(*table)->figures->keys, 1, memory_order_relaxed);
    free(key);
    drop_if_empty(table);
}

void wait_remove(struct wait_table **table, struct wait_node *node) {
    struct wait_key *key = node->key;
    if (!key) return;
    assert(*table && key->count > 0);
    if (key->cursor == node) key->cursor = node->next;
    if (node->previous)
        node->previous->next = node->next;
    else
        key->first = node->next;
    if (node->next)
        node->next->previous = node->previous;
    else
        key->last = node->previous;
    node->key = NULL;
    key->count--;
    key->spread_count -= node->is_spread;
    key->absence_count -= node->wants_absence;
    if (node->wants_absence && key->absence_count == 0)
        atomic_fetch_sub_explicit(&(*table)->figures->keys_of_absence, 1, memory_order_relaxed);
    if (key->count == 0 && !key->held) free_key(table, key);
}

void wait_hold(struct wait_key *key) {
    assert(!key->held);
    key->held = true;
}

void wait_release(struct wait_table **table, struct wait_key *key) {
    key->held = false;
    if (key->count == 0) free_key(table, key);
}

/* ---- marks ---- */

static void mark(struct wait_table *table, struct wait_key *key) {
    if (key->ready) return;
    key->ready = true;
    key->order = atomic_fetch_add_explicit(&table->figures->marked, 1, memory_order_relaxed);
    key->next_ready = NULL;
    key->previous_ready = table->last_ready;
    if (table->last_ready)
        table->last_ready->next_ready = key;
    else
        table->first_ready = key;
    table->last_ready = key;
}

void wait_mark_slow(struct wait_table *table, uint32_t database, uint64_t hash, struct span name) {
    struct wait_key *key = find_in(table, database, hash, name);
    if (key) mark(table, key);
}

void wait_mark_database(struct wait_table *table, uint32_t database, bool absence) {
    if (!table) return;
    for (uint32_t i = 0; i <= table->mask; i++)
        for (struct wait_key *key = table->chains[i]; key; key = key->next)
            if (key->database == database && (!absence || key->absence_count)) mark(table, key);
}

void wait_unmark(struct wait_table *table, struct wait_key *key) {
    assert(key->ready);
    key->ready = false;
    if (key->previous_ready)
        key->previous_ready->next_ready = key->next_ready;
    else
        table->first_ready = key->next_ready;
    if (key->next_ready)
        key->next_ready->previous_ready = key->previous_ready;
    else
        table->last_ready = key->previous_ready;
    atomic_fetch_add_explicit(&table->figures->unmarked, 1, memory_order_relaxed);
}
