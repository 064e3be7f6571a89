/* See rdb_old_packing.h. A reader knows where the last byte, the end mark, is, and never looks at it or beyond for
 * anything else: whatever an entry needs has to be before. */

#include "persist/rdb_old_packing.h"

enum {
    ZIPLIST_HEADER = 10,
    ZIPLIST_LONG_PREVIOUS = 254,
    ZIPLIST_COUNT_UNKNOWN = 65535,
    ZIPMAP_LONG = 254,
    END_MARK = 255,
};

static uint32_t load_u32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

/* ---- ziplists ---- */

bool rdb_ziplist_open(struct rdb_ziplist *list, struct span bytes) {
    const uint8_t *base = (const uint8_t *)bytes.data;
    if (bytes.length < ZIPLIST_HEADER + 1 || load_u32(base) != bytes.length) return false;
    if (base[bytes.length - 1] != END_MARK) return false;
    *list = (struct rdb_ziplist){.base = base,
                                 .at = base + ZIPLIST_HEADER,
                                 .end = base + bytes.length - 1,
                                 .stated = (uint32_t)base[8] | (uint32_t)base[9] << 8};
    return true;
}

/* Bytes of the integer with this head; -1: there is none. */
static int integer_bytes(uint8_t head) {
    switch (head) {
    case 0xc0: return 2;
    case 0xd0: return 4;
    case 0xe0: return 8;
    case 0xf0: return 3;
    case 0xfe: return 1;
    default: return head >= 0xf1 && head <= 0xfd ? 0 : -1;
    }
}

static int64_t load_integer(const uint8_t *at, int bytes, uint8_t head) {
    uint64_t value = 0;
    if (bytes == 0) return (head & 0x0f) - 1;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)at[i] << (8 * i);
    unsigned unused = 64 - 8 * (unsigned)bytes;
    return (int64_t)(value << unused) >> unused;
}

/* The text's length and the bytes of head that say it; 0: the head goes past the end. */
static size_t text_head(const uint8_t *at, size_t room, size_t *length) {
    switch (*at >> 6) {
    case 0: *length = *at & 0x3f; return 1;
    case 1:
        if (room < 2) return 0;
        *length = (size_t)(*at & 0x3f) << 8 | at[1];
        return 2;
    default:
        if (room < 5) return 0;
        *length = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
        return 5;
    }
}

/* Content of the entry at `at`; returns its bytes, 0: it is wrong. */
static size_t read_content(const uint8_t *at, size_t room, struct span *text, char number[NUMBER_TEXT_MAX]) {
    if (room == 0) return 0;
    if (*at >= 0xc0) {
        int bytes = integer_bytes(*at);
        if (bytes < 0 || (size_t)bytes + 1 > room) return 0;
        *text = span_of(number, number_format_i64(load_integer(at + 1, bytes, *at), number));
        return (size_t)bytes + 1;
    }
    size_t length = 0, head = text_head(at, room, &length);
    if (head == 0 || length > room - head) return 0;
    *text = span_of(at + head, length);
    return head + length;
}

enum rdb_entry rdb_ziplist_next(struct rdb_ziplist *list, struct span *text, char room[NUMBER_TEXT_MAX]) {
    size_t left = (size_t)(list->end - list->at);
    if (left == 0) {
        size_t last = (size_t)(list->end - list->base) - list->previous;
        if (list->stated != ZIPLIST_COUNT_UNKNOWN && list->stated != list->count) return RDB_ENTRY_BAD;
        if (load_u32(list->base + 4) != (list->count ? last : ZIPLIST_HEADER)) return RDB_ENTRY_BAD;
        return RDB_ENTRY_END;
    }
    size_t prefix = *list->at < ZIPLIST_LONG_PREVIOUS ? 1 : 5;
    if (*list->at == END_MARK || left < prefix) return RDB_ENTRY_BAD;
    uint32_t previous = prefix == 1 ? *list->at : load_u32(list->at + 1);
    if (previous != list->previous) return RDB_ENTRY_BAD;
    size_t content = read_content(list->at + prefix, left - prefix, text, room);
    if (content == 0) return RDB_ENTRY_BAD;
    list->previous = (uint32_t)(prefix + content);
    list->at += prefix + content;
    list->count++;
    return RDB_ENTRY;
}

/* ---- zipmaps ---- */

bool rdb_zipmap_open(struct rdb_zipmap *map, struct span bytes) {
    const uint8_t *base = (const uint8_t *)bytes.data;
    if (bytes.length < 2 || base[bytes.length - 1] != END_MARK) return false;
    *map = (struct rdb_zipmap){.at = base + 1, .end = base + bytes.length - 1, .stated = base[0]};
    return true;
}

/* Takes a length; false: there is none. */
static bool take_length(struct rdb_zipmap *map, size_t *length) {
    size_t left = (size_t)(map->end - map->at);
    if (left == 0 || *map->at == END_MARK) return false;
    if (*map->at < ZIPMAP_LONG) {
        *length = *map->at++;
        return true;
    }
    if (left < 5) return false;
    *length = load_u32(map->at + 1);
    map->at += 5;
    return true;
}

enum rdb_entry rdb_zipmap_next(struct rdb_zipmap *map, struct span *field, struct span *value) {
    size_t length;
    if (map->at == map->end)
        return map->stated < ZIPMAP_LONG && map->stated != map->count ? RDB_ENTRY_BAD : RDB_ENTRY_END;
    if (!take_length(map, &length) || length > (size_t)(map->end - map->at)) return RDB_ENTRY_BAD;
    *field = span_of(map->at, length);
    map->at += length;
    if (!take_length(map, &length) || map->at == map->end) return RDB_ENTRY_BAD;
    size_t unused = *map->at++, left = (size_t)(map->end - map->at);
    if (length > left || unused > left - length) return RDB_ENTRY_BAD;
    *value = span_of(map->at, length);
    map->at += length + unused;
    map->count++;
    return RDB_ENTRY;
}
