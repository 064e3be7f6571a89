#ifndef TERRACE_COMMAND_MEMBER_TABLE_H
#define TERRACE_COMMAND_MEMBER_TABLE_H

/* A table of different members, for as long as a command takes: what SUNION and SDIFF of many sets put together.
 *
 * It borrows the bytes of members where they lie and copies only those that lie nowhere (integers of packed sets, which
 * are spelled as they are read). It owns its slots and the copies. One thread. */

#include "base/span.h"

#include <stdint.h>

struct member_slot {
    struct span text; /* data NULL: free */
    uint32_t hash;
    bool removed;
};

struct member_copies;

struct member_table {
    struct member_slot *slots;
    size_t capacity, used; /* slots: a power of two; in use, removed ones included */
    struct member_copies *copies;
    uint64_t seed;
};

enum member_added { MEMBER_NEW, MEMBER_KNOWN, MEMBER_NO_MEMORY };

void member_table_init(struct member_table *table, uint64_t seed);
void member_table_free(struct member_table *table);
/* `copy`: the bytes are gone when this returns. A member that was removed is known. */
enum member_added member_table_add(struct member_table *table, struct span text, bool copy)
    __attribute__((warn_unused_result));
/* Nothing happens to one that is not there. */
void member_table_remove(struct member_table *table, struct span text);

/* All that are there: for (slot = NULL; (slot = member_table_next(&table, slot));) */
const struct member_slot *member_table_next(const struct member_table *table, const struct member_slot *previous);

#endif
