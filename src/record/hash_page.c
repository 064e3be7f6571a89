/* Reading and changing the bytes of a page of a paged_hash; the picture is in hash_page.h.
 *
 * Tags and lengths stand in front, so that a find touches the page's first lines and then the item's own: the tags are
 * compared sixteen at a time, and the item's place is a sum over bytes, which vectors do as fast. Lengths are one byte
 * each until an item of 256 bytes comes; then all lengths of that page get two or four. Nothing is stored about where
 * items begin, and nothing about hashes but the tag.
 *
 * Items lie side by side in the order of their tags. What grows a page first makes it longer and arranges it (room for
 * more tags, wider lengths), moving from the back to the front so that nothing is overwritten before it was moved. */

#include "record/hash_page.h"

#include <assert.h>

/* ---- heads and lengths ---- */

static void write_head(const struct hash_page *page, uint8_t *bytes) {
    uint16_t head[2] = {(uint16_t)page->count, (uint16_t)(page->room | page->width)};
    if (page->kind == PAGED_HASH_SCORES) head[1] = (uint16_t)page->room;
    memcpy(bytes, head, sizeof(head));
}

static void store_length(uint8_t *at, uint32_t width, size_t length) {
    uint32_t value = (uint32_t)length;
    if (width == 1)
        *at = (uint8_t)length;
    else
        memcpy(at, &value, width);
}

size_t hash_page_sum_wide(const struct hash_page *page, uint32_t count) {
    const uint8_t *at = hash_page_lengths(page);
    size_t sum = 0;
    for (uint32_t i = 0; i < count; i++, at += page->width) sum += record_load_length(at, page->width);
    return sum;
}

/* ---- finding ---- */

uint32_t hash_page_find(const struct hash_page *page, uint8_t tag, struct span field, size_t *at,
                        struct paged_hash_item *item) {
    for (uint32_t i = 0; i < page->count; i += 16) {
        uint64_t hits = hash_page_match16(hash_page_tags(page) + i, tag);
        for (; hits; hits &= hits - 1) {
            uint32_t index = i + ((uint32_t)__builtin_ctzll(hits) >> HASH_PAGE_MASK_SHIFT);
            if (index >= page->count) return HASH_PAGE_NOWHERE;
            size_t length = hash_page_length(page, index);
            if (length < field.length || (page->kind == PAGED_HASH_SET && length != field.length)) continue;
            *at = hash_page_place(page, index);
            hash_page_item(page, index, *at, item);
            if (item->field.length == field.length && bytes_equal(item->field.data, field.data, field.length))
                return index;
        }
    }
    return HASH_PAGE_NOWHERE;
}

/* ---- items ---- */

static unsigned prefix_length(size_t field) {
    return field <= 125 ? 1 : field < 65536 ? 3 : 5;
}

size_t hash_page_addition_length(enum paged_hash_kind kind, const struct hash_page_addition *addition) {
    size_t bytes = addition->field.length;
    if (kind == PAGED_HASH_SET) return bytes;
    return bytes + prefix_length(bytes) + (addition->expiry_ms >= 0 ? 6 : 0) + addition->value.length;
}

static void copy_span(uint8_t *to, struct span from) {
    if (from.length) memcpy(to, from.data, from.length);
}

static void store_expiry(uint8_t *at, int64_t expiry_ms) {
    uint32_t low = (uint32_t)expiry_ms;
    uint16_t high = (uint16_t)((uint64_t)expiry_ms >> 32);
    memcpy(at, &low, 4);
    memcpy(at + 4, &high, 2);
}

static void write_item(enum paged_hash_kind kind, uint8_t *at, const struct hash_page_addition *addition) {
    size_t field = addition->field.length;
    if (kind == PAGED_HASH_MAP) {
        unsigned prefix = prefix_length(field);
        bool timed = addition->expiry_ms >= 0;
        at[0] = (uint8_t)((prefix == 1 ? field : prefix == 3 ? 126 : 127) | (timed ? 128 : 0));
        if (prefix > 1) store_length(at + 1, prefix - 1, field);
        at += prefix;
        if (timed) {
            store_expiry(at, addition->expiry_ms);
            at += 6;
        }
        copy_span(at + field, addition->value);
    }
    copy_span(at, addition->field);
}

/* ---- arranging ---- */

void hash_page_create(struct hash_page *page, enum paged_hash_kind kind, uint8_t *bytes, uint32_t room,
                      uint32_t width) {
    *page = (struct hash_page){bytes, 0, room, width, kind};
    write_head(page, bytes);
}

static void widen_lengths(const struct hash_page *page, const uint8_t *from, uint8_t *to, uint32_t width) {
    for (uint32_t i = page->count; i-- > 0;)
        store_length(to + (size_t)i * width, width, record_load_length(from + (size_t)i * page->width, page->width));
}

void hash_page_arrange(struct hash_page *page, uint8_t *bytes, uint32_t room, uint32_t width) {
    assert(room >= page->count && room % 8 == 0 && width >= page->width);
    page->bytes = bytes;
    if (room == page->room && width == page->width) return;
    size_t from = hash_page_items_at(page->room, page->width), to = hash_page_items_at(room, width);
    size_t items = hash_page_place(page, page->count) - from;
    uint8_t *old_lengths = bytes + HASH_PAGE_HEADER + page->room, *lengths = bytes + HASH_PAGE_HEADER + room;
    assert(room >= page->room || width == page->width);
    if (to > from) memmove(bytes + to, bytes + from, items);
    if (width == page->width)
        memmove(lengths, old_lengths, (size_t)page->count * width);
    else
        widen_lengths(page, old_lengths, lengths, width);
    if (to < from) memmove(bytes + to, bytes + from, items);
    page->room = room;
    page->width = width;
    write_head(page, bytes);
}

/* ---- adding ---- */

static uint8_t *append_item(struct hash_page *page, uint8_t *bytes, uint8_t tag, size_t length) {
    assert(page->count < page->room && hash_page_width_for(length) <= page->width);
    size_t at = hash_page_place(page, page->count);
    bytes[HASH_PAGE_HEADER + page->count] = tag;
    store_length(bytes + HASH_PAGE_HEADER + page->room + (size_t)page->count * page->width, page->width, length);
    page->count++;
    page->bytes = bytes;
    write_head(page, bytes);
    return bytes + at;
}

void hash_page_append(struct hash_page *page, uint8_t *bytes, const struct hash_page_addition *addition) {
    size_t length = hash_page_addition_length(page->kind, addition);
    write_item(page->kind, append_item(page, bytes, addition->tag, length), addition);
}

static void append_scores(struct hash_page *page, uint8_t *bytes, const struct hash_page *from, const uint64_t *bits) {
    for (uint32_t i = 0; i < from->count; i++)
        if (!bits || hash_page_bit(bits, i))
            hash_page_append_score(page, bytes, hash_page_code(from, i), hash_page_score(from, i));
}

void hash_page_append_set(struct hash_page *page, uint8_t *bytes, const struct hash_page *from, const uint64_t *bits) {
    page->bytes = bytes;
    if (page->kind == PAGED_HASH_SCORES) {
        append_scores(page, bytes, from, bits);
        return;
    }
    uint8_t *tags = bytes + HASH_PAGE_HEADER, *lengths = tags + page->room;
    size_t source = hash_page_place(from, 0), at = hash_page_place(page, page->count);
    for (uint32_t i = 0; i < from->count; i++) {
        size_t length = hash_page_length(from, i);
        if (!bits || hash_page_bit(bits, i)) {
            assert(page->count < page->room && hash_page_width_for(length) <= page->width);
            tags[page->count] = hash_page_tags(from)[i];
            store_length(lengths + (size_t)page->count * page->width, page->width, length);
            memcpy(bytes + at, from->bytes + source, length);
            page->count++;
            at += length;
        }
        source += length;
    }
    write_head(page, bytes);
}

void hash_page_overwrite(struct hash_page *page, uint8_t *bytes, size_t at, const struct hash_page_addition *addition) {
    page->bytes = bytes;
    write_item(page->kind, bytes + at, addition);
}

void hash_page_overwrite_expiry(uint8_t *bytes, size_t at, int64_t expiry_ms) {
    assert(bytes[at] & 128);
    unsigned head = bytes[at] & 127;
    store_expiry(bytes + at + (head <= 125 ? 1 : head == 126 ? 3 : 5), expiry_ms);
}

/* ---- removing ---- */

void hash_page_remove(struct hash_page *page, uint8_t *bytes, uint32_t index) {
    assert(index < page->count);
    page->bytes = bytes;
    size_t at = hash_page_place(page, index), length = hash_page_length(page, index);
    size_t end = hash_page_place(page, page->count);
    memmove(bytes + at, bytes + at + length, end - at - length);
    uint32_t behind = page->count - index - 1;
    uint8_t *tag = bytes + HASH_PAGE_HEADER + index;
    uint8_t *own = bytes + HASH_PAGE_HEADER + page->room + (size_t)index * page->width;
    memmove(tag, tag + 1, behind);
    memmove(own, own + page->width, (size_t)behind * page->width);
    page->count--;
    write_head(page, bytes);
}

static void remove_scores(struct hash_page *page, uint8_t *bytes, const uint64_t *bits) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < page->count; i++)
        if (!hash_page_bit(bits, i))
            hash_page_set_score(page, bytes, kept++, hash_page_code(page, i), hash_page_score(page, i));
    page->count = kept;
    write_head(page, bytes);
}

void hash_page_remove_set(struct hash_page *page, uint8_t *bytes, const uint64_t *bits) {
    page->bytes = bytes;
    if (page->kind == PAGED_HASH_SCORES) {
        remove_scores(page, bytes, bits);
        return;
    }
    uint8_t *tags = bytes + HASH_PAGE_HEADER, *lengths = tags + page->room;
    size_t from = hash_page_place(page, 0), to = from;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < page->count; i++) {
        size_t length = hash_page_length(page, i);
        if (!hash_page_bit(bits, i)) {
            if (to != from) memmove(bytes + to, bytes + from, length);
            tags[kept] = tags[i];
            store_length(lengths + (size_t)kept * page->width, page->width, length);
            kept++;
            to += length;
        }
        from += length;
    }
    page->count = kept;
    write_head(page, bytes);
}

/* ---- scores ---- */

void hash_page_arrange_scores(struct hash_page *page, uint8_t *bytes, uint32_t room) {
    assert(room >= page->count && room >= 8);
    page->bytes = bytes;
    if (room == page->room) return;
    memmove(bytes + HASH_PAGE_HEADER + (size_t)room * 4, bytes + HASH_PAGE_HEADER + (size_t)page->room * 4,
            (size_t)page->count * 8);
    page->room = room;
    write_head(page, bytes);
}

void hash_page_set_score(struct hash_page *page, uint8_t *bytes, uint32_t index, uint32_t code, uint64_t score) {
    memcpy(bytes + HASH_PAGE_HEADER + (size_t)index * 4, &code, 4);
    memcpy(bytes + HASH_PAGE_HEADER + (size_t)page->room * 4 + (size_t)index * 8, &score, 8);
}

void hash_page_append_score(struct hash_page *page, uint8_t *bytes, uint32_t code, uint64_t score) {
    assert(page->count < page->room);
    page->bytes = bytes;
    hash_page_set_score(page, bytes, page->count++, code, score);
    write_head(page, bytes);
}

void hash_page_remove_score(struct hash_page *page, uint8_t *bytes, uint32_t index) {
    page->bytes = bytes;
    page->count--;
    hash_page_set_score(page, bytes, index, hash_page_code(page, page->count), hash_page_score(page, page->count));
    write_head(page, bytes);
}

/* ---- checking ---- */

static bool pair_is_valid(const uint8_t *at, size_t length) {
    unsigned prefix = length == 0 ? 1 : (at[0] & 127) == 127 ? 5 : (at[0] & 127) == 126 ? 3 : 1;
    if (length < prefix) return false;
    size_t field = prefix == 1 ? at[0] & 127 : record_load_length(at + 1, prefix - 1);
    return length >= prefix + (at[0] & 128 ? 6 : 0) + field && prefix == prefix_length(field);
}

bool hash_page_validate(const struct hash_page *page, size_t length) {
    if (page->count > page->room || page->count > HASH_PAGE_ITEMS_MAX) return false;
    if (page->kind == PAGED_HASH_SCORES)
        return page->room >= 8 && length >= HASH_PAGE_HEADER + (size_t)page->room * HASH_PAGE_SCORE_BYTES;
    if (page->room < 8 || (page->width != 1 && page->width != 2 && page->width != 4)) return false;
    if (length < hash_page_bytes_for(page->room, page->width, 0)) return false;
    if (length < hash_page_place(page, page->count)) return false;
    size_t at = hash_page_place(page, 0);
    for (uint32_t i = 0; i < page->count; at += hash_page_length(page, i++))
        if (page->kind == PAGED_HASH_MAP && !pair_is_valid(page->bytes + at, hash_page_length(page, i))) return false;
    return true;
}
