/* Small sets of integers: see intset.h for the bytes.
 *
 * Members are looked up by halving without branches: what a comparison says is random to the processor, so a branch on
 * it would be mispredicted every other time, while a mask costs a cycle. The search is written once as a
 * macro and compiled for each width, so that no step asks for it.
 *
 * A number that does not fit the width makes all members wider. It is then smaller or larger than every member, so it
 * goes to one of the two ends, and the members are widened from the last to the first: each is written at or behind
 * where it was read, and overwrites only what has been read. */

#include "record/intset.h"

static void write_header(uint8_t *intset, uint32_t width, uint32_t count) {
    memcpy(intset, &width, sizeof(width));
    memcpy(intset + 4, &count, sizeof(count));
}

static inline uint8_t *member_at(uint8_t *intset, uint32_t width, uint32_t position) {
    return intset + INTSET_HEADER_BYTES + (size_t)position * width;
}

/* The low bytes of a number are the number in fewer bytes. */
static inline void write_member(uint8_t *intset, uint32_t width, uint32_t position, int64_t number) {
    uint8_t *at = member_at(intset, width, position);
    switch (width) {
    case 2: memcpy(at, &number, 2); break;
    case 4: memcpy(at, &number, 4); break;
    default: memcpy(at, &number, 8); break;
    }
}

void intset_write_empty(uint8_t *intset) {
    write_header(intset, INTSET_WIDTH_MIN, 0);
}

static uint32_t width_for_both(int64_t a, int64_t b) {
    uint32_t width_a = intset_width_for(a), width_b = intset_width_for(b);
    return width_a > width_b ? width_a : width_b;
}

size_t intset_bytes_for(int64_t smallest, int64_t largest, uint32_t count) {
    return INTSET_HEADER_BYTES + (size_t)count * width_for_both(smallest, largest);
}

void intset_write(uint8_t *intset, const int64_t *numbers, uint32_t count) {
    uint32_t width = count == 0 ? INTSET_WIDTH_MIN : width_for_both(numbers[0], numbers[count - 1]);
    write_header(intset, width, count);
    for (uint32_t i = 0; i < count; i++) {
        assert(i == 0 || numbers[i - 1] < numbers[i]);
        write_member(intset, width, i, numbers[i]);
    }
}

/* ---- Finding ---- */

/* How many of `count` members are smaller than `number`, which the type holds. Invariant: the answer lies between
 * `base` and `base` + `left`. */
#define DEFINE_RANK(name, type)                                                                                        \
    static uint32_t name(const uint8_t *members, uint32_t count, type number) {                                        \
        uint32_t base = 0, left = count;                                                                               \
        while (left > 0) {                                                                                             \
            uint32_t half = (left + 1) / 2;                                                                            \
            type member;                                                                                               \
            memcpy(&member, members + (size_t)(base + half - 1) * sizeof(type), sizeof(type));                         \
            base += half & (0 - (uint32_t)(member < number));                                                          \
            left -= half;                                                                                              \
        }                                                                                                              \
        return base;                                                                                                   \
    }
DEFINE_RANK(rank_of_2, int16_t)
DEFINE_RANK(rank_of_4, int32_t)
DEFINE_RANK(rank_of_8, int64_t)

uint32_t intset_rank(const uint8_t *intset, int64_t number) {
    uint32_t count = intset_count(intset);
    uint32_t width = intset_width(intset);
    const uint8_t *members = intset + INTSET_HEADER_BYTES;
    if (intset_width_for(number) > width) return number < 0 ? 0 : count;
    switch (width) {
    case 2: return rank_of_2(members, count, (int16_t)number);
    case 4: return rank_of_4(members, count, (int32_t)number);
    default: return rank_of_8(members, count, number);
    }
}

bool intset_find(const uint8_t *intset, int64_t number, uint32_t *position) {
    uint32_t rank = intset_rank(intset, number);
    if (rank == intset_count(intset) || intset_get(intset, rank) != number) return false;
    if (position) *position = rank;
    return true;
}

/* ---- Changing ---- */

bool intset_plan_add(const uint8_t *intset, int64_t number, struct intset_edit *edit) {
    uint32_t rank = intset_rank(intset, number);
    uint32_t count = intset_count(intset);
    if (rank < count && intset_get(intset, rank) == number) return false;

    uint32_t width = intset_width(intset), needed = intset_width_for(number);
    if (width < needed) width = needed;
    *edit = (struct intset_edit){
        .number = number,
        .position = rank,
        .width = width,
        .bytes_after = INTSET_HEADER_BYTES + ((size_t)count + 1) * width,
    };
    return true;
}

void intset_apply_add(uint8_t *intset, const struct intset_edit *edit) {
    uint32_t count = intset_count(intset);
    assert(edit->position <= count);
    assert(edit->bytes_after == INTSET_HEADER_BYTES + ((size_t)count + 1) * edit->width);
    if (edit->width == intset_width(intset)) {
        uint8_t *at = member_at(intset, edit->width, edit->position);
        memmove(at + edit->width, at, (size_t)(count - edit->position) * edit->width);
    } else {
        assert(edit->width > intset_width(intset) && (edit->position == 0 || edit->position == count));
        uint32_t shift = edit->position == 0 ? 1 : 0;
        for (uint32_t i = count; i-- > 0;) write_member(intset, edit->width, i + shift, intset_get(intset, i));
    }
    write_member(intset, edit->width, edit->position, edit->number);
    write_header(intset, edit->width, count + 1);
}

void intset_remove_range(uint8_t *intset, uint32_t position, uint32_t count) {
    uint32_t count_before = intset_count(intset), width = intset_width(intset);
    assert(position <= count_before && count <= count_before - position);
    memmove(member_at(intset, width, position), member_at(intset, width, position + count),
            (size_t)(count_before - position - count) * width);
    write_header(intset, width, count_before - count);
}

void intset_remove_at(uint8_t *intset, uint32_t position) {
    intset_remove_range(intset, position, 1);
}

bool intset_remove(uint8_t *intset, int64_t number) {
    uint32_t position;
    if (!intset_find(intset, number, &position)) return false;
    intset_remove_at(intset, position);
    return true;
}

/* ---- Checking ---- */

bool intset_is_valid(struct span bytes) {
    const uint8_t *intset = (const uint8_t *)bytes.data;
    if (bytes.length < INTSET_HEADER_BYTES) return false;
    uint32_t width = intset_width(intset), count = intset_count(intset);
    if (width != 2 && width != 4 && width != 8) return false;
    if (count == 0 || bytes.length != INTSET_HEADER_BYTES + (size_t)count * width) return false;
    for (uint32_t i = 1; i < count; i++)
        if (intset_get(intset, i - 1) >= intset_get(intset, i)) return false;
    return true;
}
