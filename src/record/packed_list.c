/* Packed lists with room at both ends: see packed_list.h for the bytes.
 *
 * An edit at the first entry moves the front of the listpack, which is its header of six bytes, instead of all behind
 * it; any other edit moves what is behind. Where the end that moves has no room left but the other one has, the whole
 * is slid, and gets three quarters of what is spare on the side that needed it: who only pushes there has most of it,
 * and who takes turns does not slide the list each time. */

#include "record/packed_list.h"

static void set_offset(uint8_t *value, size_t offset) {
    const uint32_t mark = 0;
    uint16_t offset16 = (uint16_t)offset;
    assert(packed_list_may_begin((int64_t)offset));
    if (offset == 0) return; /* the listpack's own header stands there */
    memcpy(value, &mark, sizeof(mark));
    memcpy(value + sizeof(mark), &offset16, sizeof(offset16));
}

void packed_list_close_up(uint8_t *value) {
    size_t offset = packed_list_offset(value);
    if (offset) memmove(value, value + offset, listpack_bytes(value + offset));
}

/* Where the listpack begins after an edit of its front; negative: there is no room, also not by sliding it. */
static int64_t slide_for_front(uint8_t *value, size_t room, size_t *offset, const struct listpack_edit *edit) {
    int64_t shift = (int64_t)edit->removed_bytes - (int64_t)edit->inserted_bytes, begin = (int64_t)*offset + shift;
    if (packed_list_may_begin(begin)) return begin;
    const uint8_t *listpack = value + *offset;
    size_t spare = room - listpack_length_after(listpack, edit);
    begin = (int64_t)(spare - spare / 4);
    if (begin < PACKED_LIST_MARK_BYTES || !packed_list_may_begin(begin)) return -1;
    /* As it is now it may be longer than what will be left, and reach further. */
    int64_t now = begin - shift;
    if (now < 0 || (size_t)now + listpack_bytes(listpack) > room) return -1;
    memmove(value + now, listpack, listpack_bytes(listpack));
    *offset = (size_t)now;
    return begin;
}

static void slide_for_end(uint8_t *value, size_t room, size_t *offset, const struct listpack_edit *edit) {
    size_t after = listpack_length_after(value + *offset, edit);
    if (*offset + after <= room) return;
    size_t begin = (room - after) / 4;
    if (begin < PACKED_LIST_MARK_BYTES || begin > UINT16_MAX) begin = 0;
    memmove(value + begin, value + *offset, listpack_bytes(value + *offset));
    *offset = begin;
    set_offset(value, begin);
}

void packed_list_apply(uint8_t *value, size_t room, const struct listpack_edit *edit) {
    size_t offset = packed_list_offset(value);
    int64_t begin = -1;
    if (edit->offset == LISTPACK_HEADER_BYTES) begin = slide_for_front(value, room, &offset, edit);
    if (begin >= 0) {
        uint8_t *listpack = listpack_apply_front(value + offset, edit);
        assert(listpack == value + begin);
        set_offset(value, (size_t)begin);
    } else {
        slide_for_end(value, room, &offset, edit);
        listpack_apply(value + offset, edit);
    }
}
