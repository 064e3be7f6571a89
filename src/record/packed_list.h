#ifndef TERRACE_RECORD_PACKED_LIST_H
#define TERRACE_RECORD_PACKED_LIST_H

/* The value of a packed list's record: a listpack with room to spare, so that both ends may be pushed and popped
 * without the elements between being moved.
 *
 *   offset 0:       | listpack ... | spare |
 *
 *                    0     4        6                offset
 *   otherwise:      | 0   | offset | spare ...       | listpack ... | spare |
 *                     (4)   (2)
 *
 * No listpack begins with four bytes of zero, which is its length. An offset is 0 or 6 .. 65535. What is in the spare
 * bytes means nothing.
 *
 * The form is our own; sizes are little-endian. Arithmetic on bytes, for any thread that may touch them. */

#include "record/listpack.h"

enum { PACKED_LIST_MARK_BYTES = 6 };

static inline size_t packed_list_offset(const uint8_t *value) {
    uint32_t length;
    uint16_t offset;
    memcpy(&length, value, sizeof(length));
    if (__builtin_expect(length != 0, 1)) return 0;
    memcpy(&offset, value + sizeof(length), sizeof(offset));
    return offset;
}

static inline const uint8_t *packed_list_elements(const uint8_t *value) {
    return value + packed_list_offset(value);
}

/* Whether the listpack may begin there. */
static inline bool packed_list_may_begin(int64_t offset) {
    return offset == 0 || (offset >= PACKED_LIST_MARK_BYTES && offset <= UINT16_MAX);
}

/* Carries out an edit of the listpack in a value of `room` bytes, which are at least as many as the listpack will have.
 * The listpack may begin elsewhere afterwards. O(1) at either end while there is room, else O(bytes) */
void packed_list_apply(uint8_t *value, size_t room, const struct listpack_edit *edit);

/* Moves the listpack to the beginning of the value, so that what is behind it may be cut off. O(bytes) */
void packed_list_close_up(uint8_t *value);

#endif
