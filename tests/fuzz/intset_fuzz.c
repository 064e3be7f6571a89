/* Intsets as RESTORE would deliver them: what is called valid can be read, searched and changed, and stays valid.
 *
 * Input: byte 0 chooses, bytes 1 to 8 are a number to add and to remove, then the bytes:
 *
 *   bit 0   width and count are made to agree with how many bytes there are; bits 1-2 choose the width
 *
 * Everything lies in memory of exactly its size, so that the sanitizer sees a byte too many. */

#include "record/intset.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_valid(const uint8_t *intset) {
    return intset_is_valid(span_of(intset, intset_bytes(intset)));
}

static void read_all(const uint8_t *intset) {
    uint32_t count = intset_count(intset), position;
    for (uint32_t i = 0; i < count; i++) {
        assert(intset_find(intset, intset_get(intset, i), &position) && position == i);
        assert(intset_rank(intset, intset_get(intset, i)) == i);
    }
    assert(intset_smallest(intset) <= intset_largest(intset));
}

/* Adds the number and takes it away: the same members are left, perhaps wider. */
static uint8_t *change(uint8_t *intset, int64_t number) {
    uint32_t count = intset_count(intset);
    bool member = intset_find(intset, number, NULL);
    struct intset_edit edit;
    assert(intset_plan_add(intset, number, &edit) == !member);
    if (!member) {
        intset = realloc(intset, edit.bytes_after);
        intset_apply_add(intset, &edit);
        assert(intset_bytes(intset) == edit.bytes_after);
    }
    assert(is_valid(intset) && intset_find(intset, number, NULL));
    read_all(intset);
    assert(intset_remove(intset, number) && !intset_remove(intset, number));
    assert(intset_count(intset) == count - member && (count == member || is_valid(intset)));
    return intset;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 10) return 0;
    int64_t number;
    memcpy(&number, data + 1, sizeof(number));
    size_t length = size - 9;
    uint8_t *intset = malloc(length);
    memcpy(intset, data + 9, length);
    if (data[0] & 1 && length >= INTSET_HEADER_BYTES) {
        uint32_t width = 2u << (data[0] >> 1 & 3); /* 16 too, which is none */
        uint32_t count = (uint32_t)(length - INTSET_HEADER_BYTES) / width;
        memcpy(intset, &width, sizeof(width));
        memcpy(intset + 4, &count, sizeof(count));
    }
    if (intset_is_valid(span_of(intset, length))) {
        read_all(intset);
        intset = change(intset, number);
    }
    free(intset);
    return 0;
}
