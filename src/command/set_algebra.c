/* See set_algebra.h.
 *
 * The plain way is to walk one set and to look for its members in the others, 64 at a time, so that the look-ups in a
 * big set overlap: the smallest set for an intersection, the first for a difference, each in turn for a union (a member
 * is emitted unless a set before has it). That costs no memory and, for a few sets, less than building a table of
 * members would. With many sets, unions and differences go through a table, which reads each member once. */

#include "command/set_algebra.h"

#include "command/member_table.h"

#include <stdlib.h>

enum { TOGETHER = 64, LOOKED_UP_SETS = 4 /* unions of more go through a table */ };

/* Members of the set being walked. */
struct batch {
    struct span texts[TOGETHER];
    unsigned count;
    struct set_member members[TOGETHER]; /* what the texts may point into */
};

static bool fill(struct batch *batch, struct set_walk *walk) {
    batch->count = 0;
    while (batch->count < TOGETHER && set_value_walk_next(walk, &batch->members[batch->count])) {
        batch->texts[batch->count] = batch->members[batch->count].text;
        batch->count++;
    }
    return batch->count > 0;
}

/* Leaves those that `set` has, or those that it has not. Where a page is missing all stay, so that the pages they need
 * of other sets are asked for as well. */
static void keep(struct batch *batch, struct set_value *set, bool having) {
    uint64_t found = 0;
    unsigned kept = 0;
    if (!batch->count) return;
    if (set_value_exists(set) && set_value_contains_many(set, batch->texts, batch->count, &found) != PAGE_DONE) return;
    for (unsigned i = 0; i < batch->count; i++)
        if ((found >> i & 1) == having) batch->texts[kept++] = batch->texts[i];
    batch->count = kept;
}

static bool emit_batch(const struct batch *batch, set_emit *emit, void *ctx) {
    for (unsigned i = 0; i < batch->count; i++)
        if (!emit(ctx, batch->texts[i])) return false;
    return true;
}

/* Emits members of `walked` that all (`having`), or none, of the other sets have. False: no more are wanted. */
static bool look_up(struct set_value *walked, struct set_value *others, uint32_t count, bool having, set_emit *emit,
                    void *ctx) {
    struct set_walk walk;
    struct batch batch;
    if (!set_value_exists(walked)) return true;
    set_value_walk(&walk, walked);
    while (fill(&batch, &walk)) {
        for (uint32_t i = 0; i < count; i++) keep(&batch, &others[i], having);
        if (!emit_batch(&batch, emit, ctx)) return false;
    }
    return true;
}

static int by_count(const void *a, const void *b) {
    uint64_t first = set_value_count(a), second = set_value_count(b);
    return (first > second) - (first < second);
}
static int by_count_descending(const void *a, const void *b) {
    return by_count(b, a);
}

/* ---- through a table ---- */

/* False: no memory. */
static bool gather(struct member_table *table, struct set_value *set) {
    struct set_walk walk;
    struct set_member member;
    if (!set_value_exists(set)) return true;
    set_value_walk(&walk, set);
    while (set_value_walk_next(&walk, &member))
        if (member_table_add(table, member.text, member.text.data == member.room) == MEMBER_NO_MEMORY) return false;
    return true;
}

static void remove_all(struct member_table *table, struct set_value *set) {
    struct set_walk walk;
    struct set_member member;
    if (!set_value_exists(set)) return;
    set_value_walk(&walk, set);
    while (set_value_walk_next(&walk, &member)) member_table_remove(table, member.text);
}

static bool through_table(enum set_operation operation, struct set_value *sets, uint32_t count, uint64_t seed,
                          set_emit *emit, void *ctx) {
    struct member_table table;
    member_table_init(&table, seed);
    bool gathered = gather(&table, &sets[0]);
    for (uint32_t i = 1; i < count && gathered; i++) {
        if (operation == SET_UNION)
            gathered = gather(&table, &sets[i]);
        else
            remove_all(&table, &sets[i]);
    }
    const struct member_slot *slot = NULL;
    while (gathered && (slot = member_table_next(&table, slot)) && emit(ctx, slot->text)) continue;
    member_table_free(&table);
    return gathered;
}

/* Whether looking for each member of the first set in all others is more work than reading all of them once. */
static bool table_is_less(const struct set_value *sets, uint32_t count) {
    uint64_t members = 0;
    for (uint32_t i = 0; i < count; i++) members += set_value_count(&sets[i]);
    return set_value_count(&sets[0]) * (count - 1) > 2 * members;
}

bool set_combine(enum set_operation operation, struct set_value *sets, uint32_t count, uint64_t seed, set_emit *emit,
                 void *ctx) {
    switch (operation) {
    case SET_INTERSECTION:
        qsort(sets, count, sizeof(*sets), by_count);
        look_up(&sets[0], sets + 1, count - 1, true, emit, ctx);
        return true;
    case SET_DIFFERENCE:
        if (table_is_less(sets, count)) return through_table(operation, sets, count, seed, emit, ctx);
        look_up(&sets[0], sets + 1, count - 1, false, emit, ctx);
        return true;
    default:
        if (count > LOOKED_UP_SETS) return through_table(operation, sets, count, seed, emit, ctx);
        qsort(sets, count, sizeof(*sets), by_count_descending);
        for (uint32_t i = 0; i < count; i++)
            if (!look_up(&sets[i], sets, i, false, emit, ctx)) break;
        return true;
    }
}
