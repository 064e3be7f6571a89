/* Listpacks as RESTORE would deliver them: what is called valid can be walked, searched and changed, and stays valid.
 *
 * Input: byte 0 chooses, bytes 1 and 2 say where and how much is changed, then the bytes:
 *
 *   bit 0      the total and the end are made right, or few inputs would be more than looked at
 *   bit 1      the count is made unknown
 *   bits 2-3   the distance in which is searched
 *
 * Everything lies in memory of exactly its size, so that the sanitizer sees a byte too many. */

#include "record/listpack.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ELEMENTS_MAX = 4 };

static bool refuse_last(const uint8_t *entry, uint32_t index, void *context) {
    (void)entry;
    return index + 1 != *(const uint32_t *)context;
}

/* Both ways lead over the same entries, and each is found. Returns their number. */
static uint32_t walk(const uint8_t *listpack, unsigned skip) {
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    uint32_t forward = 0, backward = 0;
    const uint8_t *at = listpack_first(listpack);
    for (; !listpack_at_end(at); at = listpack_next(at), forward++) {
        struct span text = listpack_get_text(at, room);
        assert(listpack_equals(at, text));
        assert(listpack_find(at, text, skip) == at);
        struct listpack_value value = listpack_get(at);
        struct listpack_element element = listpack_element_of_value(&value);
        assert(element.bytes <= listpack_entry_bytes(at));
    }
    assert(at == listpack_end(listpack));
    while ((at = listpack_previous(listpack, at)) != NULL) backward++;
    assert(forward == backward && forward == listpack_count(listpack));
    assert(listpack_at(listpack, forward) == NULL && listpack_at(listpack, -(int64_t)forward - 1) == NULL);
    assert(forward == 0 || listpack_at(listpack, forward - 1) == listpack_last(listpack));
    return forward;
}

/* Replaces some entries by pieces of the input, one of which is looked for afterwards. */
static uint8_t *change(uint8_t *listpack, uint8_t where, uint8_t how_much, struct span pieces) {
    struct listpack_element elements[ELEMENTS_MAX];
    uint32_t count = how_much % (ELEMENTS_MAX + 1), removed = how_much / (ELEMENTS_MAX + 1) % 8;
    struct span piece = span_of(pieces.data, pieces.length / ELEMENTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        elements[i] = listpack_element_of_text(piece);
        piece.data += piece.length;
    }
    uint32_t count_before = listpack_count(listpack);
    const uint8_t *position = listpack_skip(listpack_first(listpack), where);
    struct listpack_edit edit = listpack_plan_splice(listpack, position, removed, elements, count);
    size_t before = listpack_bytes(listpack), after = listpack_length_after(listpack, &edit);
    if (after > before) listpack = realloc(listpack, after);
    listpack_apply(listpack, &edit);
    if (after < before) listpack = realloc(listpack, after);
    assert(listpack_is_valid(span_of(listpack, after)));
    assert(listpack_count(listpack) == count_before + count - edit.removed_count);
    struct span first_piece = span_of(pieces.data, piece.length);
    assert(count == 0 || listpack_find(listpack_first(listpack), first_piece, 0) != NULL);
    return listpack;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) return 0;
    size_t length = size - 3;
    uint32_t total = (uint32_t)length;
    uint8_t *listpack = malloc(length);
    memcpy(listpack, data + 3, length);
    if (length >= LISTPACK_EMPTY_BYTES) {
        if (data[0] & 1) memcpy(listpack, &total, sizeof(total));
        if (data[0] & 1) listpack[length - 1] = LISTPACK_END;
        if (data[0] & 2) memset(listpack + 4, 0xff, 2);
    }
    if (listpack_is_valid(span_of(listpack, length))) {
        uint32_t count = walk(listpack, data[0] >> 2 & 3);
        assert(listpack_is_valid_deep(span_of(listpack, length), refuse_last, &count) == (count == 0));
        listpack = change(listpack, data[1], data[2], span_of(data + 3, length));
        walk(listpack, 0);
    }
    free(listpack);
    return 0;
}
