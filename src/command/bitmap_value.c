/* See bitmap_value.h. An offset is bounded by proto-max-bulk-len, so that its byte is one that a string may have; a
 * field at the highest offsets still reaches some bytes further, which bitmap_edit() refuses.
 *
 * A field of a paged value is read and written through a window: the bytes that it touches, copied out and in. */

#include "command/bitmap_value.h"

#include "command/effect.h"

/* A field of 64 bits that does not begin on a byte. */
enum { WINDOW_BYTES = 9 };
/* A search asks for so much more than it has passed, whenever it meets a page that is not at hand. */
enum { SEARCH_AHEAD_BYTES = 64 * PAGED_BYTES_PAGE };

bool bitmap_offset_parse(struct call *call, uint32_t index, unsigned field_width, uint64_t *offset) {
    struct span text = call->argv[index];
    bool counts_fields = field_width > 0 && text.length > 0 && text.data[0] == '#';
    int64_t position;
    if (counts_fields) text = span_of(text.data + 1, text.length - 1);
    if (!number_parse_i64(text, &position) ||
        (counts_fields && __builtin_mul_overflow(position, (int64_t)field_width, &position)) || position < 0 ||
        (uint64_t)position / 8 >= string_length_max(call)) {
        reply_error(call->reply, ERROR_BIT_OFFSET);
        return false;
    }
    *offset = (uint64_t)position;
    return true;
}

/* ---- reading ---- */

void bitmap_open(struct bitmap *map, const struct call *call, const struct lookup *lookup) {
    map->is_paged = lookup->record && record_is_paged(lookup->record);
    map->writable = NULL;
    map->bytes = span_of("", 0);
    if (map->is_paged)
        map->pages = string_pages_of(call, lookup);
    else if (lookup->record)
        map->bytes = string_bytes(lookup->record, map->text);
    map->length = map->is_paged ? map->pages.bytes->length : map->bytes.length;
}

/* The bytes that a field touches. */
static size_t window_bytes(uint64_t offset, unsigned width) {
    return (offset % 8 + width + 7) / 8;
}

/* Reads the bytes of a field of a paged value; what is missing is zeros, and the access says so. */
static void read_window(struct bitmap *map, uint64_t offset, unsigned width, uint8_t window[WINDOW_BYTES]) {
    (void)!paged_bytes_read(map->pages.bytes, &map->pages.access, offset / 8, window, window_bytes(offset, width));
}

uint64_t bitmap_get(struct bitmap *map, uint64_t offset, unsigned width) {
    if (!map->is_paged) return bits_get_unsigned((const uint8_t *)map->bytes.data, map->bytes.length, offset, width);
    uint8_t window[WINDOW_BYTES];
    read_window(map, offset, width, window);
    return bits_get_unsigned(window, window_bytes(offset, width), offset % 8, width);
}

int64_t bitmap_get_signed(struct bitmap *map, uint64_t offset, unsigned width) {
    if (!map->is_paged) return bits_get_signed((const uint8_t *)map->bytes.data, map->bytes.length, offset, width);
    uint8_t window[WINDOW_BYTES];
    read_window(map, offset, width, window);
    return bits_get_signed(window, window_bytes(offset, width), offset % 8, width);
}

/* The bits of [first, last] that a piece holds, counted from its own first bit. */
struct piece_bits {
    uint64_t first, last;
};

static struct piece_bits bits_of(const struct paged_bytes_piece *piece, uint64_t first, uint64_t last) {
    uint64_t base = piece->offset * 8, end = base + piece->length * 8 - 1;
    return (struct piece_bits){(first > base ? first : base) - base, (last < end ? last : end) - base};
}

uint64_t bitmap_count(struct bitmap *map, uint64_t first, uint64_t last) {
    if (!map->is_paged) return bits_count_range(map->bytes.data, first, last);
    struct string_pages *pages = &map->pages;
    struct paged_bytes_walk walk;
    struct paged_bytes_piece piece;
    uint64_t count = 0, length = last / 8 - first / 8 + 1;
    if (!paged_bytes_touch(pages->bytes, &pages->access, first / 8, length)) return 0;
    paged_bytes_walk_range(&walk, pages->bytes, &pages->access, first / 8, length);
    while (paged_bytes_walk_next(&walk, &piece)) {
        struct piece_bits range = bits_of(&piece, first, last);
        if (piece.data) count += bits_count_range(piece.data, range.first, range.last);
    }
    return count;
}

int64_t bitmap_find(struct bitmap *map, uint64_t first, uint64_t last, bool bit) {
    if (!map->is_paged) return bits_find(map->bytes.data, first, last, bit);
    struct string_pages *pages = &map->pages;
    struct paged_bytes_walk walk;
    struct paged_bytes_piece piece;
    paged_bytes_walk_range(&walk, pages->bytes, &pages->access, first / 8, last / 8 - first / 8 + 1);
    while (paged_bytes_walk_next(&walk, &piece)) {
        struct piece_bits range = bits_of(&piece, first, last);
        int64_t found = BITS_NOT_FOUND;
        if (piece.data) {
            found = bits_find(piece.data, range.first, range.last, bit);
        } else if (bitmap_misses(map)) {
            /* Each run asks for about as much as the ones before, so there are few. */
            uint64_t passed = piece.offset - first / 8, rest = walk.end - piece.offset;
            uint64_t ahead = passed + SEARCH_AHEAD_BYTES;
            (void)paged_bytes_touch(pages->bytes, &pages->access, piece.offset, ahead < rest ? ahead : rest);
            return BITS_NOT_FOUND;
        } else if (!bit) {
            found = (int64_t)range.first;
        }
        if (found != BITS_NOT_FOUND) return (int64_t)(piece.offset * 8) + found;
    }
    return BITS_NOT_FOUND;
}

/* ---- changing ---- */

bool bitmap_edit(struct call *call, const struct key *key, struct lookup *lookup, size_t length, struct bitmap *map) {
    if (length > LIMIT_VALUE_BYTES) {
        reply_error(call->reply, ERROR_BIT_OFFSET);
        return false;
    }
    size_t before = lookup->record ? string_length(lookup->record) : 0;
    map->length = length > before ? length : before;
    map->is_paged = string_edits_pages(lookup, length);
    if (map->is_paged) return string_pages_begin(call, key, lookup, &map->pages);
    map->writable = (uint8_t *)string_edit(call, key, lookup, map->length);
    map->bytes = span_of(map->writable, map->length);
    return map->writable != NULL;
}

enum page_status bitmap_prepare(struct bitmap *map, uint64_t offset, unsigned width) {
    if (!map->is_paged) return PAGE_DONE;
    return paged_bytes_prepare(map->pages.bytes, &map->pages.access, offset / 8, window_bytes(offset, width));
}

enum page_status bitmap_put(struct bitmap *map, uint64_t offset, unsigned width, uint64_t value) {
    if (!map->is_paged) {
        bits_set(map->writable, map->length, offset, width, value);
        return PAGE_DONE;
    }
    if (width == 1) {
        uint8_t *byte = paged_bytes_edit_byte(map->pages.bytes, &map->pages.access, offset / 8);
        if (byte) {
            bits_set(byte, 1, offset % 8, 1, value);
            return PAGE_DONE;
        }
        if (bitmap_misses(map)) return PAGE_MISSING;
    }
    uint8_t window[WINDOW_BYTES];
    size_t length = window_bytes(offset, width);
    read_window(map, offset, width, window);
    if (bitmap_misses(map)) return PAGE_MISSING;
    bits_set(window, length, offset % 8, width, value);
    return paged_bytes_write(map->pages.bytes, &map->pages.access, offset / 8, span_of(window, length));
}

bool bitmap_end(struct call *call, const struct key *key, struct lookup *lookup, struct bitmap *map,
                enum page_status status) {
    if (!map->is_paged) return true;
    struct string_pages *pages = &map->pages;
    if (status == PAGE_DONE && pages->bytes->length < map->length)
        status = paged_bytes_set_length(pages->bytes, &pages->access, map->length);
    return string_pages_end(call, key, lookup, pages, status);
}

bool bitmap_has_room(const struct lookup *lookup, size_t length) {
    return lookup->record && string_length(lookup->record) >= length;
}

bool bitmap_settle(struct call *call, const struct key *key, struct lookup *lookup, size_t length) {
    struct bitmap map;
    if (bitmap_has_room(lookup, length) && !record_is_integer(lookup->record)) {
        keyspace_mark_edited(&call->view, lookup);
        return true;
    }
    call->view.quiet = true;
    bool grows = !bitmap_has_room(lookup, length);
    bool settled = bitmap_edit(call, key, lookup, length, &map) && bitmap_end(call, key, lookup, &map, PAGE_DONE);
    call->view.quiet = false;
    /* That it grew no watcher is told; who keeps a copy is. */
    if (settled && grows) call_effect_force(call);
    return settled;
}
