#ifndef TERRACE_RECORD_INTSET_H
#define TERRACE_RECORD_INTSET_H

/* An intset: a set of integers as a sorted array, the value of a small set that has no other members. The bytes are
 * exactly those of Redis, so that DUMP, RESTORE and RDB files copy them.
 *
 *    0            4            8            8 + width
 *   +------------+------------+------------+------------+-----   -----+
 *   | width (4)  | count (4)  | smallest   | next       |     ...     |
 *   +------------+------------+------------+------------+-----   -----+
 *
 *   width   bytes of every member: 2, 4 or 8, as the widest that ever was in the set needs. Never narrowed.
 *
 * Little-endian, two's complement, ascending, no member twice.
 *
 * Nothing here allocates. Who adds a member plans it, makes the bytes as many as the plan says, and applies it; who
 * removes one removes it and cuts the bytes to intset_bytes():
 *
 *   struct intset_edit edit;
 *   if (!intset_plan_add(intset, number, &edit)) return;       ... is a member already
 *   ... room for edit.bytes_after; the bytes may move
 *   intset_apply_add(intset, &edit);
 *
 * All functions are pure, for any thread that may touch the bytes, and trust them: bytes from outside go through
 * intset_is_valid() first. */

#include "base/random.h"
#include "base/span.h"

#include <assert.h>
#include <stdint.h>

enum { INTSET_HEADER_BYTES = 8, INTSET_WIDTH_MIN = 2 };

static inline uint32_t intset_width(const uint8_t *intset) {
    uint32_t width;
    memcpy(&width, intset, sizeof(width));
    return width;
}
static inline uint32_t intset_count(const uint8_t *intset) {
    uint32_t count;
    memcpy(&count, intset + 4, sizeof(count));
    return count;
}
static inline size_t intset_bytes(const uint8_t *intset) {
    return INTSET_HEADER_BYTES + (size_t)intset_count(intset) * intset_width(intset);
}

/* The narrowest width that holds the number: 2, 4 or 8. */
static inline uint32_t intset_width_for(int64_t number) {
    if (number >= INT16_MIN && number <= INT16_MAX) return 2;
    return number >= INT32_MIN && number <= INT32_MAX ? 4 : 8;
}

/* Writes the empty intset: INTSET_HEADER_BYTES. */
void intset_write_empty(uint8_t *intset);

/* Bytes of an intset made at once from `count` numbers of which these are the smallest and the largest. */
size_t intset_bytes_for(int64_t smallest, int64_t largest, uint32_t count);
/* Writes an intset of ascending numbers, none twice; there is room for intset_bytes_for(). O(count) */
void intset_write(uint8_t *intset, const int64_t *numbers, uint32_t count);

/* ---- Reading ---- */

/* The member at `position`, counted from the smallest. position < intset_count(). O(1) */
static inline int64_t intset_get(const uint8_t *intset, uint32_t position) {
    assert(position < intset_count(intset));
    const uint8_t *members = intset + INTSET_HEADER_BYTES;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    switch (intset_width(intset)) {
    case 2: memcpy(&i16, members + (size_t)position * 2, 2); return i16;
    case 4: memcpy(&i32, members + (size_t)position * 4, 4); return i32;
    default: memcpy(&i64, members + (size_t)position * 8, 8); return i64;
    }
}
/* The intset is not empty. */
static inline int64_t intset_smallest(const uint8_t *intset) {
    return intset_get(intset, 0);
}
static inline int64_t intset_largest(const uint8_t *intset) {
    return intset_get(intset, intset_count(intset) - 1);
}
/* Each member equally likely. The intset is not empty. */
static inline int64_t intset_random(const uint8_t *intset, struct random *random) {
    return intset_get(intset, (uint32_t)random_below(random, intset_count(intset)));
}

/* How many members are smaller than `number`: its position, if it is one. O(log n) */
uint32_t intset_rank(const uint8_t *intset, int64_t number);
/* Whether it is a member. *position, unless NULL, is set if so. O(log n) */
bool intset_find(const uint8_t *intset, int64_t number, uint32_t *position);

/* ---- Changing ---- */

struct intset_edit {
    int64_t number;
    uint32_t position; /* where it will be */
    uint32_t width;    /* afterwards */
    size_t bytes_after;
};

/* False, and no plan, when it is a member already. O(log n) */
__attribute__((warn_unused_result)) bool intset_plan_add(const uint8_t *intset, int64_t number,
                                                         struct intset_edit *edit);
/* The bytes are those the plan was made for, and there is room for edit->bytes_after. O(n) */
void intset_apply_add(uint8_t *intset, const struct intset_edit *edit);

/* Removes the member at a position; the width stays. position < intset_count(). O(n) */
void intset_remove_at(uint8_t *intset, uint32_t position);
/* False when it was no member. */
bool intset_remove(uint8_t *intset, int64_t number);
/* Removes `count` members from `position` on, all of which exist. */
void intset_remove_range(uint8_t *intset, uint32_t position, uint32_t count);

/* ---- Checking ---- */

/* Whether these bytes, which may come from anyone, are exactly one intset: width, length, order. An empty one is
 * refused, as Redis refuses it: no key holds it. O(n) */
__attribute__((warn_unused_result)) bool intset_is_valid(struct span bytes);

#endif
