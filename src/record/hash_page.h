#ifndef TERRACE_RECORD_HASH_PAGE_H
#define TERRACE_RECORD_HASH_PAGE_H

/* The bytes of one page of a paged_hash.
 *
 *   MAP, SET
 *    0        2          4            4 + room       4 + room * (1 + width)
 *   +--------+----------+------------+--------------+--------+--------+--- ---+- - - - -+
 *   | count  | room |   | tags       | lengths      | item 0 | item 1 |  ...  | unused  |
 *   | (2)    | width (2)| (1 each)   | (width each) |        |        |       |         |
 *   +--------+----------+------------+--------------+--------+--------+--- ---+- - - - -+
 *
 *   room    tags and lengths there is room for: a multiple of 8. The lowest three bits are the width: 1, 2, 4
 *   tag     the highest 8 bits of the item's hash
 *   length  of the whole item; an item's place is the sum of the lengths before it
 *
 *   item of a SET   the member
 *   item of a MAP   +------------------------+------------+-------+-------+
 *                   | field's length (1,3,5) | expiry (6) | field | value |
 *                   +------------------------+------------+-------+-------+
 *                   byte 0: 0x80 there is an expiry; 0..125 the length, 126: 2 bytes follow, 127: 4 bytes follow
 *
 *   SCORES
 *   +--------+----------+-------------------+--------------------+
 *   | count  | room (2) | hashes (4 each)   | scores (8 each)    |
 *   +--------+----------+-------------------+--------------------+
 *
 * A page is at least as long as what vectors read past the end of an array: HASH_PAGE_SLACK bytes behind tags and
 * lengths. New items go to the end; order means nothing.
 *
 * Everything here is arithmetic on bytes, for any thread that may touch them. */

#include "base/span.h"
#include "record/record.h"

#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#else
#error "the baseline is x86-64 with SSE2 or aarch64 with NEON"
#endif

enum paged_hash_kind { PAGED_HASH_MAP, PAGED_HASH_SET, PAGED_HASH_SCORES };

enum {
    HASH_PAGE_HEADER = 4,
    HASH_PAGE_ITEMS_MAX = 32760, /* in one page: what the note has bits for, and `room` */
    HASH_PAGE_SLACK = 16,
    HASH_PAGE_SCORE_BYTES = 12,
};
#define HASH_PAGE_NOWHERE UINT32_MAX

struct paged_hash_item {
    struct span field;
    struct span value;
    int64_t expiry_ms; /* or RECORD_EXPIRY_NONE */
    uint64_t score;    /* of SCORES, as `code`: all else is empty */
    uint32_t code;
};

/* A page that is being read or changed. */
struct hash_page {
    const uint8_t *bytes; /* NULL: missing */
    uint32_t count, room, width;
    enum paged_hash_kind kind;
};

static inline void hash_page_open(struct hash_page *page, enum paged_hash_kind kind, const void *bytes) {
    uint16_t head[2];
    memcpy(head, bytes, sizeof(head));
    *page = (struct hash_page){bytes, head[0], head[1] & ~7u, head[1] & 7u, kind};
    if (kind == PAGED_HASH_SCORES) *page = (struct hash_page){bytes, head[0], head[1], 0, kind};
}

/* ---- vectors of 16 bytes ---- */

/* A bit (SSE2) or four (NEON) for each of 16 bytes that is `tag`. */
#if defined(__SSE2__)
enum { HASH_PAGE_MASK_SHIFT = 0 };
static inline uint64_t hash_page_match16(const uint8_t *at, uint8_t tag) {
    __m128i tags = _mm_loadu_si128((const __m128i *)at);
    return (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tag)));
}
#else
enum { HASH_PAGE_MASK_SHIFT = 2 };
static inline uint64_t hash_page_match16(const uint8_t *at, uint8_t tag) {
    uint8x16_t equal = vceqq_u8(vld1q_u8(at), vdupq_n_u8(tag));
    uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(equal), 4);
    return vget_lane_u64(vreinterpret_u64_u8(nibbles), 0) & UINT64_C(0x1111111111111111);
}
#endif

/* The sum of `count` bytes, of which up to 15 more can be read. */
static inline size_t hash_page_sum8(const uint8_t *at, uint32_t count) {
#if defined(__SSE2__)
    static const uint8_t window[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    __m128i zero = _mm_setzero_si128(), sum = zero;
    uint32_t i = 0;
    for (; i + 16 <= count; i += 16)
        sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_loadu_si128((const __m128i *)(at + i)), zero));
    __m128i keep = _mm_loadu_si128((const __m128i *)(window + 16 - (count - i)));
    sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_and_si128(_mm_loadu_si128((const __m128i *)(at + i)), keep), zero));
    return (size_t)_mm_cvtsi128_si64(sum) + (size_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(sum, sum));
#else
    size_t sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += at[i];
    return sum;
#endif
}

/* ---- reading: MAP and SET ---- */

static inline const uint8_t *hash_page_tags(const struct hash_page *page) {
    return page->bytes + HASH_PAGE_HEADER;
}
static inline const uint8_t *hash_page_lengths(const struct hash_page *page) {
    return page->bytes + HASH_PAGE_HEADER + page->room;
}
static inline size_t hash_page_items_at(uint32_t room, uint32_t width) {
    return HASH_PAGE_HEADER + (size_t)room * (1 + width);
}

static inline size_t hash_page_length(const struct hash_page *page, uint32_t index) {
    return record_load_length(hash_page_lengths(page) + (size_t)index * page->width, page->width);
}

/* Sums of wide lengths. Internal. */
size_t hash_page_sum_wide(const struct hash_page *page, uint32_t count);

/* Where item `index` begins, counted from the page's first byte; of `count`, where the items end. */
static inline size_t hash_page_place(const struct hash_page *page, uint32_t index) {
    size_t items = hash_page_items_at(page->room, page->width);
    if (__builtin_expect(page->width == 1, 1)) return items + hash_page_sum8(hash_page_lengths(page), index);
    return items + hash_page_sum_wide(page, index);
}

/* Reads a MAP's item. Internal. */
static inline void hash_page_read_pair(const uint8_t *at, size_t length, struct paged_hash_item *item) {
    const uint8_t *end = at + length;
    uint8_t head = *at++;
    size_t field = head & 127;
    if (__builtin_expect(field > 125, 0)) {
        unsigned width = field == 126 ? 2 : 4;
        field = record_load_length(at, width);
        at += width;
    }
    item->expiry_ms = RECORD_EXPIRY_NONE;
    if (__builtin_expect(head & 128, 0)) {
        uint32_t low;
        uint16_t high;
        memcpy(&low, at, 4);
        memcpy(&high, at + 4, 2);
        item->expiry_ms = (int64_t)low | (int64_t)high << 32;
        at += 6;
    }
    item->field = span_of(at, field);
    item->value = span_of(at + field, (size_t)(end - at) - field);
}

/* ---- reading: SCORES ---- */

static inline uint32_t hash_page_code(const struct hash_page *page, uint32_t index) {
    uint32_t code;
    memcpy(&code, page->bytes + HASH_PAGE_HEADER + (size_t)index * 4, 4);
    return code;
}
static inline uint64_t hash_page_score(const struct hash_page *page, uint32_t index) {
    uint64_t score;
    memcpy(&score, page->bytes + HASH_PAGE_HEADER + (size_t)page->room * 4 + (size_t)index * 8, 8);
    return score;
}

/* The first item with this hash, from item `from` on; HASH_PAGE_NOWHERE. */
static inline uint32_t hash_page_find_code(const struct hash_page *page, uint32_t code, uint32_t from) {
    uint32_t i = from;
#if defined(__SSE2__)
    const uint8_t *codes = page->bytes + HASH_PAGE_HEADER;
    __m128i wanted = _mm_set1_epi32((int)code);
    for (; i < page->count; i += 8) {
        /* Behind the hashes stand the scores: twice as many bytes, at least 64. */
        __m128i a = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(codes + (size_t)i * 4)), wanted);
        __m128i b = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(codes + (size_t)i * 4 + 16)), wanted);
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(a, b), _mm_setzero_si128()));
        if (!mask) continue;
        i += (uint32_t)__builtin_ctz(mask);
        return i < page->count ? i : HASH_PAGE_NOWHERE;
    }
#else
    for (; i < page->count; i++)
        if (hash_page_code(page, i) == code) return i;
#endif
    return HASH_PAGE_NOWHERE;
}

/* ---- reading: all kinds ---- */

/* Reads item `index`, which begins at `at` (of the first: hash_page_place(page, 0)); returns its length. */
static inline size_t hash_page_item(const struct hash_page *page, uint32_t index, size_t at,
                                    struct paged_hash_item *item) {
    if (page->kind == PAGED_HASH_SCORES) {
        *item = (struct paged_hash_item){.expiry_ms = RECORD_EXPIRY_NONE,
                                         .score = hash_page_score(page, index),
                                         .code = hash_page_code(page, index)};
        return 0;
    }
    size_t length = hash_page_length(page, index);
    item->score = item->code = 0;
    if (page->kind == PAGED_HASH_MAP) {
        hash_page_read_pair(page->bytes + at, length, item);
    } else {
        item->field = span_of(page->bytes + at, length);
        item->value = span_of(NULL, 0);
        item->expiry_ms = RECORD_EXPIRY_NONE;
    }
    return length;
}

/* The item with this field; HASH_PAGE_NOWHERE. `at` is where it begins. */
uint32_t hash_page_find(const struct hash_page *page, uint8_t tag, struct span field, size_t *at,
                        struct paged_hash_item *item);

/* ---- changing: MAP and SET ----
 *
 * `bytes` are those of a page that may be written to. Each function leaves a whole page and renews `page`. */

/* An item that is going to be written. */
struct hash_page_addition {
    struct span field, value;
    int64_t expiry_ms;
    uint8_t tag;
};

/* Bytes of the item alone. */
size_t hash_page_addition_length(enum paged_hash_kind kind, const struct hash_page_addition *addition);
static inline uint32_t hash_page_width_for(size_t item_length) {
    return item_length < 256 ? 1 : item_length < 65536 ? 2 : 4;
}
static inline uint32_t hash_page_room_for(uint32_t count) {
    return count ? (count + 7) & ~7u : 8;
}
/* The length of a page with that much room and that many bytes of items. */
static inline size_t hash_page_bytes_for(uint32_t room, uint32_t width, size_t items) {
    return hash_page_items_at(room, width) + (items > HASH_PAGE_SLACK ? items : HASH_PAGE_SLACK);
}

/* An empty page. */
void hash_page_create(struct hash_page *page, enum paged_hash_kind kind, uint8_t *bytes, uint32_t room, uint32_t width);
/* Other room and width, neither less than the items need; there are bytes enough for both the old and the new. */
void hash_page_arrange(struct hash_page *page, uint8_t *bytes, uint32_t room, uint32_t width);
/* Behind the others. There is room, and width. */
void hash_page_append(struct hash_page *page, uint8_t *bytes, const struct hash_page_addition *addition);
/* The same with those items of another page of the same kind whose bit is set; NULL: all. Also of SCORES. */
void hash_page_append_set(struct hash_page *page, uint8_t *bytes, const struct hash_page *from, const uint64_t *bits);
/* Writes over an item of the same length. */
void hash_page_overwrite(struct hash_page *page, uint8_t *bytes, size_t at, const struct hash_page_addition *addition);
/* Of an item that has an expiry. */
void hash_page_overwrite_expiry(uint8_t *bytes, size_t at, int64_t expiry_ms);
void hash_page_remove(struct hash_page *page, uint8_t *bytes, uint32_t index);

/* ---- changing: all kinds ---- */

static inline bool hash_page_bit(const uint64_t *bits, uint32_t index) {
    return bits[index / 64] >> (index % 64) & 1;
}
static inline void hash_page_set_bit(uint64_t *bits, uint32_t index) {
    bits[index / 64] |= UINT64_C(1) << (index % 64);
}
/* Removes all items whose bit is set. */
void hash_page_remove_set(struct hash_page *page, uint8_t *bytes, const uint64_t *bits);

/* ---- changing: SCORES ---- */

/* The scores move to where they stand in a page with this room. */
void hash_page_arrange_scores(struct hash_page *page, uint8_t *bytes, uint32_t room);
void hash_page_set_score(struct hash_page *page, uint8_t *bytes, uint32_t index, uint32_t code, uint64_t score);
void hash_page_append_score(struct hash_page *page, uint8_t *bytes, uint32_t code, uint64_t score);
void hash_page_remove_score(struct hash_page *page, uint8_t *bytes, uint32_t index);

/* Whether a page of `length` bytes is as pictured; for tests and debug builds. */
bool hash_page_validate(const struct hash_page *page, size_t length);

#endif
