/* Open addressing with linear probing, at most three quarters full; see member_table.h. Copies are laid side by side
 * in blocks, which go all at once. */

#include "command/member_table.h"

#include "keyspace/key_hash.h"

#include <stdlib.h>

enum { CAPACITY_FIRST = 64, COPIES_BYTES = 4096 };

struct member_copies {
    struct member_copies *next;
    size_t used;
    char bytes[COPIES_BYTES];
};

void member_table_init(struct member_table *table, uint64_t seed) {
    *table = (struct member_table){.seed = seed};
}

void member_table_free(struct member_table *table) {
    for (struct member_copies *block = table->copies, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(table->slots);
}

/* The slot of the member, or the free one where it belongs. Precondition: there is a free slot. */
static struct member_slot *slot_for(const struct member_table *table, struct span text, uint32_t hash) {
    size_t mask = table->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct member_slot *slot = &table->slots[i];
        if (!slot->text.data || (slot->hash == hash && span_equal(slot->text, text))) return slot;
    }
}

static bool grow(struct member_table *table) {
    struct member_table larger = *table;
    larger.capacity = table->capacity ? 2 * table->capacity : CAPACITY_FIRST;
    larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
    if (!larger.slots) return false;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].text.data) *slot_for(&larger, table->slots[i].text, table->slots[i].hash) = table->slots[i];
    free(table->slots);
    *table = larger;
    return true;
}

/* Precondition: it is an integer's text, far shorter than a block. */
static const char *copy_of(struct member_table *table, struct span text) {
    struct member_copies *block = table->copies;
    if (!block || COPIES_BYTES - block->used < text.length) {
        block = malloc(sizeof(*block));
        if (!block) return NULL;
        *block = (struct member_copies){.next = table->copies};
        table->copies = block;
    }
    char *copy = memcpy(block->bytes + block->used, text.data, text.length);
    block->used += text.length;
    return copy;
}

static uint32_t hash_of(const struct member_table *table, struct span text) {
    return (uint32_t)(key_hash(text, table->seed) >> 32);
}

enum member_added member_table_add(struct member_table *table, struct span text, bool copy) {
    if (4 * (table->used + 1) > 3 * table->capacity && !grow(table)) return MEMBER_NO_MEMORY;
    uint32_t hash = hash_of(table, text);
    struct member_slot *slot = slot_for(table, text, hash);
    if (slot->text.data) return MEMBER_KNOWN;
    if (copy && !(text.data = copy_of(table, text))) return MEMBER_NO_MEMORY;
    *slot = (struct member_slot){.text = text, .hash = hash};
    table->used++;
    return MEMBER_NEW;
}

void member_table_remove(struct member_table *table, struct span text) {
    if (!table->capacity) return;
    struct member_slot *slot = slot_for(table, text, hash_of(table, text));
    if (slot->text.data) slot->removed = true;
}

const struct member_slot *member_table_next(const struct member_table *table, const struct member_slot *previous) {
    if (!table->capacity) return NULL;
    const struct member_slot *slot = previous ? previous + 1 : table->slots;
    for (; slot < table->slots + table->capacity; slot++)
        if (slot->text.data && !slot->removed) return slot;
    return NULL;
}
