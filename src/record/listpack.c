/* Packing small collections: see listpack.h for the bytes.
 *
 * What has to be quick is the way of HGET and SISMEMBER through up to a hundred entries and more. The place of the next
 * entry depends on the head of this one, so a walk is a chain of loads, and the aim is that nothing but one load and
 * one addition is on it: the forms that nearly all entries have (short text, small integer) are told apart by branches
 * that the processor predicts, and comparing, which only looks, overlaps with stepping. That is why find() is compiled
 * once for each usual distance and each way of comparing rather than taking them as variables.
 *
 * An element is found by meaning, not by its bytes: an integer may have been packed by others in a longer form, or left
 * as text, and then is still the same element. So a text that spells an integer is looked for as both.
 *
 * Changes come in one shape, a splice: entries that lie side by side give way to others. A plan says how many bytes go
 * and come, and applying it moves the tail once. The tail is moved before elements are written, which is why their
 * texts must not point into the listpack.
 *
 * One oddity is part of the format: an entry of 16383 bytes gets a backlen of three bytes where two would hold it, and
 * so at each further step. Whoever walks forward has to know the length of backlen, so the bounds below are what
 * all readers and writers agree on. */

#include "record/listpack.h"

enum {
    HEAD_TEXT6 = 0x80,
    HEAD_INT13 = 0xc0,
    HEAD_TEXT12 = 0xe0,
    HEAD_TEXT32 = 0xf0,
    HEAD_INT16 = 0xf1,
    HEAD_INT24 = 0xf2,
    HEAD_INT32 = 0xf3,
    HEAD_INT64 = 0xf4,

    TEXT6_MAX = 63,
    TEXT12_MAX = 4095,
    TEXT32_HEAD_BYTES = 5,
    BACKLEN_BYTES_MAX = 5,
};

/* ---- Sizes ---- */

static inline size_t backlen_bytes(size_t content) {
    if (__builtin_expect(content < 128, 1)) return 1;
    if (content < (1u << 14) - 1) return 2;
    if (content < (1u << 21) - 1) return 3;
    return content < (1u << 28) - 1 ? 4 : 5;
}

static inline void write_backlen(uint8_t *at, size_t content, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) at[i] = (uint8_t)((content >> (7 * (bytes - 1 - i)) & 127) | (i > 0 ? 128 : 0));
}

/* Text behind a head of 12 or 32 bits of length; `entry` has such a head. */
static inline struct span long_text(const uint8_t *entry) {
    if (*entry != HEAD_TEXT32) return span_of(entry + 2, (size_t)(*entry & 15) << 8 | entry[1]);
    uint32_t length;
    memcpy(&length, entry + 1, sizeof(length));
    return span_of(entry + TEXT32_HEAD_BYTES, length);
}

size_t listpack_long_entry_bytes(const uint8_t *entry) {
    struct span text = long_text(entry);
    size_t content = (size_t)((const uint8_t *)text.data - entry) + text.length;
    return content + backlen_bytes(content);
}

/* ---- Header ---- */

static void write_header(uint8_t *listpack, size_t bytes, uint32_t count) {
    assert(bytes >= LISTPACK_EMPTY_BYTES && bytes <= LISTPACK_BYTES_MAX);
    uint32_t bytes32 = (uint32_t)bytes;
    uint16_t count16 = count < LISTPACK_COUNT_UNKNOWN ? (uint16_t)count : LISTPACK_COUNT_UNKNOWN;
    memcpy(listpack, &bytes32, sizeof(bytes32));
    memcpy(listpack + 4, &count16, sizeof(count16));
}

void listpack_write_empty(uint8_t *listpack) {
    write_header(listpack, LISTPACK_EMPTY_BYTES, 0);
    listpack[LISTPACK_HEADER_BYTES] = LISTPACK_END;
}

uint32_t listpack_count_by_walking(const uint8_t *listpack) {
    uint32_t count = 0;
    for (const uint8_t *at = listpack_first(listpack); !listpack_at_end(at); at = listpack_next(at)) count++;
    return count;
}

/* ---- Reading ---- */

const uint8_t *listpack_at(const uint8_t *listpack, int64_t index) {
    int64_t count = listpack_count(listpack);
    if (index < 0) index += count;
    if (index < 0 || index >= count) return NULL;
    if (index <= count / 2) return listpack_skip(listpack_first(listpack), (uint32_t)index);

    const uint8_t *at = listpack_end(listpack);
    for (int64_t steps = count - index; steps > 0; steps--) at = listpack_previous(listpack, at);
    return at;
}

static inline int64_t long_integer(const uint8_t *entry) {
    int16_t i16;
    int32_t i32;
    int64_t i64;
    switch (*entry) {
    case HEAD_INT16: memcpy(&i16, entry + 1, sizeof(i16)); return i16;
    case HEAD_INT24:
        i32 = (int32_t)((uint32_t)entry[1] << 8 | (uint32_t)entry[2] << 16 | (uint32_t)entry[3] << 24);
        return i32 >> 8;
    case HEAD_INT32: memcpy(&i32, entry + 1, sizeof(i32)); return i32;
    default: memcpy(&i64, entry + 1, sizeof(i64)); return i64;
    }
}

struct listpack_value listpack_get_long(const uint8_t *entry) {
    assert(*entry >= HEAD_TEXT12 && *entry <= HEAD_INT64);
    if (*entry <= HEAD_TEXT32) return (struct listpack_value){.text = long_text(entry)};
    return (struct listpack_value){.integer = true, .number = long_integer(entry)};
}

/* Most texts do not spell an integer, and most of them show it in their first byte. */
static inline bool spells_integer(struct span text, int64_t *number) {
    if (text.length == 0 || text.length > NUMBER_TEXT_MAX) return false;
    unsigned first = (unsigned char)text.data[0];
    if (first - '0' > 9 && first != '-') return false;
    return number_parse_i64(text, number);
}

bool listpack_equals(const uint8_t *entry, struct span text) {
    struct listpack_value value = listpack_get(entry);
    if (!value.integer) return value.text.length == text.length && bytes_equal(value.text.data, text.data, text.length);
    int64_t number;
    return spells_integer(text, &number) && number == value.number;
}

/* ---- Finding ---- */

/* What is looked for; the number, where the text spells one. */
struct needle {
    struct span text;
    int64_t number;
};

/* Equality of texts that are known to have the same length. A needle's length does not change along the walk, so these
 * branches are predicted; the words overlap instead of leaving a rest to go through byte by byte. */
static inline bool same_bytes(const char *a, const char *b, size_t length) {
    if (length >= 8) {
        uint64_t x, y, u, v;
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        if (x != y) return false;
        memcpy(&u, a + length - 8, 8);
        memcpy(&v, b + length - 8, 8);
        return u == v && (length <= 16 || bytes_equal(a + 8, b + 8, length - 16));
    }
    if (length >= 4) {
        uint32_t x, y, u, v;
        memcpy(&x, a, 4);
        memcpy(&y, b, 4);
        memcpy(&u, a + length - 4, 4);
        memcpy(&v, b + length - 4, 4);
        return x == y && u == v;
    }
    return length == 0 || (a[0] == b[0] && a[length / 2] == b[length / 2] && a[length - 1] == b[length - 1]);
}

static bool matches_long_text(const uint8_t *entry, struct span needle) {
    struct span own = long_text(entry);
    return own.length == needle.length && same_bytes(own.data, needle.data, needle.length);
}

/* `integer` and `skip` are constants where it matters. */
__attribute__((always_inline)) static inline const uint8_t *find(const uint8_t *at, const struct needle *needle,
                                                                 bool integer, unsigned skip) {
    const char *text = needle->text.data;
    size_t length = needle->text.length;
    for (;;) {
        uint8_t head = *at;
        if (__builtin_expect((head & 0xc0) == HEAD_TEXT6, 1)) {
            size_t own = head & TEXT6_MAX;
            if (own == length && same_bytes((const char *)at + 1, text, length)) return at;
            at += own + 2;
        } else if (head < HEAD_TEXT6) {
            if (integer && head == needle->number) return at;
            at += 2;
        } else if (head < HEAD_TEXT12) {
            if (integer && listpack_integer13(at) == needle->number) return at;
            at += 3;
        } else if (head > HEAD_TEXT32) {
            if (head == LISTPACK_END) return NULL;
            if (integer && long_integer(at) == needle->number) return at;
            at = listpack_next(at);
        } else {
            if (matches_long_text(at, needle->text)) return at;
            at = listpack_next(at);
        }
        for (unsigned i = 0; i < skip; i++) {
            if (listpack_at_end(at)) return NULL;
            at = listpack_next(at);
        }
    }
}

const uint8_t *listpack_find(const uint8_t *from, struct span text, unsigned skip) {
    struct needle needle = {.text = text};
    if (spells_integer(text, &needle.number)) {
        if (skip == 0) return find(from, &needle, true, 0);
        if (skip == 1) return find(from, &needle, true, 1);
        return find(from, &needle, true, skip);
    }
    if (skip == 0) return find(from, &needle, false, 0);
    if (skip == 1) return find(from, &needle, false, 1);
    return find(from, &needle, false, skip);
}

/* ---- Elements ---- */

static void set_integer_head(struct listpack_element *element, uint8_t head, int64_t number, unsigned bytes) {
    element->head[0] = head;
    memcpy(element->head + 1, &number, bytes);
    element->head_bytes = (uint8_t)(1 + bytes);
}

struct listpack_element listpack_element_of_integer(int64_t number) {
    struct listpack_element element = {.text = {"", 0}};
    if (number >= 0 && number <= 127) {
        element.head[0] = (uint8_t)number;
        element.head_bytes = 1;
    } else if (number >= -4096 && number <= 4095) {
        element.head[0] = (uint8_t)(HEAD_INT13 | ((uint64_t)number >> 8 & 0x1f));
        element.head[1] = (uint8_t)number;
        element.head_bytes = 2;
    } else if (number >= INT16_MIN && number <= INT16_MAX) {
        set_integer_head(&element, HEAD_INT16, number, 2);
    } else if (number >= -(1 << 23) && number < 1 << 23) {
        set_integer_head(&element, HEAD_INT24, number, 3);
    } else if (number >= INT32_MIN && number <= INT32_MAX) {
        set_integer_head(&element, HEAD_INT32, number, 4);
    } else {
        set_integer_head(&element, HEAD_INT64, number, 8);
    }
    element.bytes = element.head_bytes + 1u;
    return element;
}

struct listpack_element listpack_element_of_text(struct span text) {
    int64_t number;
    if (spells_integer(text, &number)) return listpack_element_of_integer(number);

    assert(text.length <= LISTPACK_BYTES_MAX / 2);
    struct listpack_element element = {.text = text};
    uint32_t length = (uint32_t)text.length;
    if (length <= TEXT6_MAX) {
        element.head[0] = (uint8_t)(HEAD_TEXT6 | length);
        element.head_bytes = 1;
    } else if (length <= TEXT12_MAX) {
        element.head[0] = (uint8_t)(HEAD_TEXT12 | length >> 8);
        element.head[1] = (uint8_t)length;
        element.head_bytes = 2;
    } else {
        element.head[0] = HEAD_TEXT32;
        memcpy(element.head + 1, &length, sizeof(length));
        element.head_bytes = TEXT32_HEAD_BYTES;
    }
    uint32_t content = element.head_bytes + length;
    element.bytes = content + (uint32_t)backlen_bytes(content);
    return element;
}

/* Returns where the next entry goes. */
static inline uint8_t *write_entry(uint8_t *at, const struct listpack_element *element) {
    size_t content = element->head_bytes + element->text.length;
    memcpy(at, element->head, element->head_bytes);
    if (element->text.length > 0) memcpy(at + element->head_bytes, element->text.data, element->text.length);
    write_backlen(at + content, content, element->bytes - content);
    return at + element->bytes;
}

/* ---- Changing ---- */

struct listpack_edit listpack_plan_splice(const uint8_t *listpack, const uint8_t *position, uint32_t removed,
                                          const struct listpack_element *elements, uint32_t count) {
    assert(position >= listpack_first(listpack) && position <= listpack_end(listpack));
    struct listpack_edit edit = {
        .offset = (size_t)(position - listpack),
        .inserted_bytes = listpack_elements_bytes(elements, count),
        .elements = elements,
        .inserted_count = count,
    };
    const uint8_t *at = position;
    while (edit.removed_count < removed && !listpack_at_end(at)) {
        at = listpack_next(at);
        edit.removed_count++;
    }
    edit.removed_bytes = (size_t)(at - position);
    return edit;
}

/* What the header says after the edit; an unknown count stays unknown. */
static uint32_t count_after(const uint8_t *listpack, const struct listpack_edit *edit) {
    uint16_t count;
    memcpy(&count, listpack + 4, sizeof(count));
    return count == LISTPACK_COUNT_UNKNOWN ? count : count + edit->inserted_count - edit->removed_count;
}

uint8_t *listpack_apply(uint8_t *listpack, const struct listpack_edit *edit) {
    size_t length = listpack_bytes(listpack);
    size_t length_after = listpack_length_after(listpack, edit);
    size_t tail = edit->offset + edit->removed_bytes;
    assert(edit->offset >= LISTPACK_HEADER_BYTES && tail < length && length_after <= LISTPACK_BYTES_MAX);

    uint8_t *start = listpack + edit->offset;
    if (edit->inserted_bytes != edit->removed_bytes)
        memmove(start + edit->inserted_bytes, listpack + tail, length - tail);
    uint8_t *at = start;
    for (uint32_t i = 0; i < edit->inserted_count; i++) at = write_entry(at, &edit->elements[i]);
    assert(at == start + edit->inserted_bytes && listpack[length_after - 1] == LISTPACK_END);

    write_header(listpack, length_after, count_after(listpack, edit));
    return start;
}

uint8_t *listpack_apply_front(uint8_t *listpack, const struct listpack_edit *edit) {
    size_t length_after = listpack_length_after(listpack, edit);
    uint32_t count = count_after(listpack, edit);
    assert(edit->offset == LISTPACK_HEADER_BYTES && length_after <= LISTPACK_BYTES_MAX);
    /* Forward or back. */
    uint8_t *front = listpack + edit->removed_bytes - edit->inserted_bytes, *at = front + LISTPACK_HEADER_BYTES;
    for (uint32_t i = 0; i < edit->inserted_count; i++) at = write_entry(at, &edit->elements[i]);
    assert(at == listpack + edit->offset + edit->removed_bytes); /* the end is not looked at: it may be far away */
    write_header(front, length_after, count);
    return front;
}

/* ---- Building ---- */

void listpack_writer_append(struct listpack_writer *writer, const struct listpack_element *element) {
    assert(element->bytes <= (size_t)(writer->limit - writer->at));
    writer->at = write_entry(writer->at, element);
    writer->count++;
}

void listpack_writer_append_entries(struct listpack_writer *writer, const uint8_t *from, const uint8_t *to,
                                    uint32_t count) {
    size_t bytes = (size_t)(to - from);
    assert(to >= from && bytes <= (size_t)(writer->limit - writer->at));
    memmove(writer->at, from, bytes);
    writer->at += bytes;
    writer->count += count;
}

size_t listpack_writer_finish(struct listpack_writer *writer) {
    *writer->at = LISTPACK_END;
    size_t length = listpack_writer_length(writer);
    write_header(writer->listpack, length, writer->count);
    return length;
}

/* ---- Checking ---- */

/* The bytes of the entry, if all of it, with the backlen it should have, lies within the `left` bytes that there are up
 * to the end; else 0. */
static size_t checked_entry_bytes(const uint8_t *entry, size_t left) {
    static const uint8_t content_of_integer[] = {3, 4, 5, 9};
    uint8_t head = *entry;
    size_t content;
    if (head < HEAD_TEXT6) {
        content = 1;
    } else if (head < HEAD_INT13) {
        content = 1 + (head & TEXT6_MAX);
    } else if (head < HEAD_TEXT12) {
        content = 2;
    } else if (head <= HEAD_TEXT32) {
        size_t head_bytes = head == HEAD_TEXT32 ? TEXT32_HEAD_BYTES : 2;
        if (left < head_bytes) return 0;
        content = head_bytes + long_text(entry).length;
    } else if (head <= HEAD_INT64) {
        content = content_of_integer[head - HEAD_INT16];
    } else {
        return 0;
    }
    size_t tail = backlen_bytes(content);
    if (content > left || tail > left - content) return 0;
    uint8_t expected[BACKLEN_BYTES_MAX];
    write_backlen(expected, content, tail);
    return memcmp(entry + content, expected, tail) == 0 ? content + tail : 0;
}

bool listpack_is_valid_deep(struct span bytes, bool (*check)(const uint8_t *entry, uint32_t index, void *context),
                            void *context) {
    const uint8_t *listpack = (const uint8_t *)bytes.data;
    if (bytes.length < LISTPACK_EMPTY_BYTES || bytes.length > LISTPACK_BYTES_MAX) return false;
    if (listpack_bytes(listpack) != bytes.length) return false;
    const uint8_t *end = listpack + bytes.length - 1;
    if (*end != LISTPACK_END) return false;

    uint32_t count = 0;
    const uint8_t *at = listpack + LISTPACK_HEADER_BYTES;
    while (at < end) {
        size_t entry_bytes = checked_entry_bytes(at, (size_t)(end - at));
        if (entry_bytes == 0) return false;
        if (check && !check(at, count, context)) return false;
        at += entry_bytes;
        count++;
    }
    uint16_t stated;
    memcpy(&stated, listpack + 4, sizeof(stated));
    return stated == LISTPACK_COUNT_UNKNOWN || stated == count;
}

bool listpack_is_valid(struct span bytes) {
    return listpack_is_valid_deep(bytes, NULL, NULL);
}
