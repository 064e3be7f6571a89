#ifndef TERRACE_RECORD_LISTPACK_H
#define TERRACE_RECORD_LISTPACK_H

/* A listpack: a sequence of texts and integers packed into one run of bytes, the value of every small collection. The
 * bytes are exactly those of Redis, so that DUMP, RESTORE and RDB files copy them.
 *
 *    0              4          6                                     total - 1
 *   +--------------+----------+---------+---------+-----   -----+----+
 *   | total bytes  | count    | entry   | entry   |     ...     | ff |
 *   | (4)          | (2)      |         |         |             |    |
 *   +--------------+----------+---------+---------+-----   -----+----+
 *
 *   count   of entries; 65535: as many or more, or no longer known, to be counted by walking
 *   entry   +------+---------------------+---------+
 *           | head | number or text      | backlen |     backlen: bytes of head and content, for walking backward
 *           +------+---------------------+---------+
 *
 *   head, in bits     content                                    head, in bytes
 *   0nnn nnnn         an integer of 0 to 127                     f0, length (4)   text of any length
 *   10ll llll         text of up to 63 bytes                     f1, f2, f3, f4   an integer of 2, 3, 4, 8 bytes
 *   110n nnnn + 1     an integer of 13 bits, signed              ff               the end
 *   1110 llll + 1     text of up to 4095 bytes
 *
 *   The 13-bit integer and the 12-bit length are big-endian, all else is little-endian. backlen is 1 to 5 bytes of 7
 *   bits, the highest first, each but the first with its top bit set: read from its last byte backward.
 *
 * Texts that are the one canonical spelling of a 64-bit integer are stored as the integer, in the shortest form.
 *
 * An entry is known by the address of its first byte, valid until the listpack is changed or moved. A position is an
 * entry or the end, which is where the ff lies; walking forward stops at it:
 *
 *   for (const uint8_t *at = listpack_first(listpack); !listpack_at_end(at); at = listpack_next(at)) ...
 *
 * Nothing here allocates. Who changes a listpack plans the change, makes its bytes as many as
 * listpack_length_after() says when it grows, applies the plan, and cuts the bytes when it has shrunk:
 *
 *   struct listpack_element pair[2] = {listpack_element_of_text(field), listpack_element_of_text(value)};
 *   struct listpack_edit edit = listpack_plan_append(listpack, pair, 2);
 *   size_t length = listpack_length_after(listpack, &edit);      ... room for it; the bytes may move
 *   listpack_apply(listpack, &edit);
 *
 * Plans hold offsets and survive the move; entries do not. All functions are pure, for any thread that may touch the
 * bytes, and trust them: bytes from outside go through listpack_is_valid() first. */

#include "base/number.h"
#include "base/span.h"

#include <assert.h>
#include <stdint.h>

enum {
    LISTPACK_HEADER_BYTES = 6,
    LISTPACK_EMPTY_BYTES = LISTPACK_HEADER_BYTES + 1,
    LISTPACK_END = 0xff,
    LISTPACK_COUNT_UNKNOWN = 65535,
    /* No listpack is ever made longer; the callers convert long before, at their configured thresholds. */
    LISTPACK_BYTES_MAX = 1 << 30,
    /* Room for the text of any integer entry. */
    LISTPACK_NUMBER_TEXT_BYTES = 24,
};
static_assert((int)LISTPACK_NUMBER_TEXT_BYTES >= (int)NUMBER_TEXT_MAX, "room for every integer");

/* ---- Header ---- */

static inline uint32_t listpack_bytes(const uint8_t *listpack) {
    uint32_t bytes;
    memcpy(&bytes, listpack, sizeof(bytes));
    return bytes;
}

/* Writes the empty listpack: LISTPACK_EMPTY_BYTES. */
void listpack_write_empty(uint8_t *listpack);

/* Walks and counts, for listpacks whose header does not know. O(n). */
uint32_t listpack_count_by_walking(const uint8_t *listpack);

/* O(1) up to 65534 entries, else O(n). */
static inline uint32_t listpack_count(const uint8_t *listpack) {
    uint16_t count;
    memcpy(&count, listpack + 4, sizeof(count));
    if (__builtin_expect(count != LISTPACK_COUNT_UNKNOWN, 1)) return count;
    return listpack_count_by_walking(listpack);
}

static inline bool listpack_is_empty(const uint8_t *listpack) {
    return listpack[LISTPACK_HEADER_BYTES] == LISTPACK_END;
}

/* ---- Walking ---- */

/* The first position: the end in an empty listpack. */
static inline const uint8_t *listpack_first(const uint8_t *listpack) {
    return listpack + LISTPACK_HEADER_BYTES;
}
static inline const uint8_t *listpack_end(const uint8_t *listpack) {
    return listpack + listpack_bytes(listpack) - 1;
}
static inline bool listpack_at_end(const uint8_t *position) {
    return *position == LISTPACK_END;
}

/* Bytes of the long forms of an entry: heads e0 to f0. Internal to the functions below. */
size_t listpack_long_entry_bytes(const uint8_t *entry);

/* Bytes of an entry, backlen included. */
static inline size_t listpack_entry_bytes(const uint8_t *entry) {
    static const uint8_t integer_bytes[5] = {0, 4, 5, 6, 10};
    uint8_t head = *entry;
    if (__builtin_expect((head & 0xc0) == 0x80, 1)) return (size_t)(head & 0x3f) + 2;
    if (head < 0x80) return 2;
    if (head < 0xe0) return 3;
    if (head > 0xf0) return integer_bytes[head & 7];
    return listpack_long_entry_bytes(entry);
}

/* The position behind an entry, which is not the end itself. O(1) */
static inline const uint8_t *listpack_next(const uint8_t *entry) {
    return entry + listpack_entry_bytes(entry);
}
/* The entry before a position, which may be the end; NULL before the first. O(1) */
static inline const uint8_t *listpack_previous(const uint8_t *listpack, const uint8_t *position) {
    if (position == listpack_first(listpack)) return NULL;
    const uint8_t *at = position - 1;
    size_t content = *at & 127;
    for (unsigned shift = 7; *at & 128; shift += 7) content |= (size_t)(*--at & 127) << shift;
    return at - content;
}
/* NULL in an empty listpack. */
static inline const uint8_t *listpack_last(const uint8_t *listpack) {
    return listpack_previous(listpack, listpack_end(listpack));
}

/* `steps` entries further, or the end when there are fewer. O(steps) */
static inline const uint8_t *listpack_skip(const uint8_t *position, uint32_t steps) {
    for (; steps > 0 && !listpack_at_end(position); steps--) position = listpack_next(position);
    return position;
}

/* The entry at an index: 0 is the first, -1 the last; NULL when there is none. Walks from the nearer side, O(n). */
const uint8_t *listpack_at(const uint8_t *listpack, int64_t index);

/* ---- Reading ---- */

struct listpack_value {
    bool integer;
    int64_t number;   /* when integer, else 0 */
    struct span text; /* when not integer; points into the entry */
};

/* Of heads c0 to df, and e0 to f4. Internal. */
static inline int64_t listpack_integer13(const uint8_t *entry) {
    uint32_t bits = (uint32_t)(entry[0] & 0x1f) << 8 | entry[1];
    return (int32_t)(bits << 19) >> 19;
}
struct listpack_value listpack_get_long(const uint8_t *entry);

static inline struct listpack_value listpack_get(const uint8_t *entry) {
    uint8_t head = *entry;
    if (__builtin_expect((head & 0xc0) == 0x80, 1))
        return (struct listpack_value){.text = span_of(entry + 1, head & 0x3f)};
    if (head < 0x80) return (struct listpack_value){.integer = true, .number = head};
    if (head < 0xe0) return (struct listpack_value){.integer = true, .number = listpack_integer13(entry)};
    return listpack_get_long(entry);
}

/* The value as text: the entry's own bytes, or the integer written to `room`. Valid as long as both. */
static inline struct span listpack_text_of(const struct listpack_value *value, char room[LISTPACK_NUMBER_TEXT_BYTES]) {
    if (!value->integer) return value->text;
    return span_of(room, number_format_i64(value->number, room));
}
static inline struct span listpack_get_text(const uint8_t *entry, char room[LISTPACK_NUMBER_TEXT_BYTES]) {
    struct listpack_value value = listpack_get(entry);
    return listpack_text_of(&value, room);
}

/* Whether the entry, as text, is `text`. */
bool listpack_equals(const uint8_t *entry, struct span text);

/* The first entry that is `text`, looking at `from`, at the entry `skip` + 1 behind it, and so on; NULL when there is
 * none. So skip is 1 to look among the fields of field, value, field, value. `from` is a position. O(n), and quick. */
const uint8_t *listpack_find(const uint8_t *from, struct span text, unsigned skip);

/* ---- Elements: what is going to be an entry ---- */

/* An element borrows its text until it has been written. Its fields are for reading only. */
struct listpack_element {
    struct span text; /* empty for an integer */
    uint32_t bytes;   /* the whole entry's, backlen included */
    uint8_t head_bytes;
    uint8_t head[9]; /* of a text: head; of an integer: head and content */
};

/* A text as Redis packs it: as an integer when it spells one. At most LISTPACK_BYTES_MAX / 2 bytes. */
struct listpack_element listpack_element_of_text(struct span text);
struct listpack_element listpack_element_of_integer(int64_t number);

/* For copying an entry between listpacks; the text of `value` is borrowed. */
static inline struct listpack_element listpack_element_of_value(const struct listpack_value *value) {
    return value->integer ? listpack_element_of_integer(value->number) : listpack_element_of_text(value->text);
}

/* Bytes the elements take as entries. */
static inline size_t listpack_elements_bytes(const struct listpack_element *elements, uint32_t count) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) bytes += elements[i].bytes;
    return bytes;
}

/* ---- Changing ---- */

/* One change: entries that lie side by side are replaced by others; either may be none. The elements are borrowed until
 * the plan is applied, and their texts point to no byte of the listpack that is changed. */
struct listpack_edit {
    size_t offset; /* where the change begins, from the listpack's first byte */
    size_t removed_bytes;
    size_t inserted_bytes;
    const struct listpack_element *elements;
    uint32_t inserted_count;
    uint32_t removed_count;
};

/* Replaces `removed` entries from `position` on, fewer when the end comes first, by `count` elements. O(removed) */
struct listpack_edit listpack_plan_splice(const uint8_t *listpack, const uint8_t *position, uint32_t removed,
                                          const struct listpack_element *elements, uint32_t count);

/* Before a position; to insert behind an entry, before the next position. O(count), as the following. */
static inline struct listpack_edit listpack_plan_insert(const uint8_t *listpack, const uint8_t *position,
                                                        const struct listpack_element *elements, uint32_t count) {
    return listpack_plan_splice(listpack, position, 0, elements, count);
}
static inline struct listpack_edit listpack_plan_append(const uint8_t *listpack,
                                                        const struct listpack_element *elements, uint32_t count) {
    return listpack_plan_splice(listpack, listpack_end(listpack), 0, elements, count);
}
/* The elements keep their order: elements[0] becomes the first. */
static inline struct listpack_edit listpack_plan_prepend(const uint8_t *listpack,
                                                         const struct listpack_element *elements, uint32_t count) {
    return listpack_plan_splice(listpack, listpack_first(listpack), 0, elements, count);
}
static inline struct listpack_edit listpack_plan_replace(const uint8_t *listpack, const uint8_t *entry,
                                                         const struct listpack_element *element) {
    return listpack_plan_splice(listpack, entry, 1, element, 1);
}
static inline struct listpack_edit listpack_plan_delete(const uint8_t *listpack, const uint8_t *entry, uint32_t count) {
    return listpack_plan_splice(listpack, entry, count, NULL, 0);
}

/* The total of bytes once the plan is applied. Not above LISTPACK_BYTES_MAX, or the plan must not be applied. */
static inline size_t listpack_length_after(const uint8_t *listpack, const struct listpack_edit *edit) {
    return listpack_bytes(listpack) + edit->inserted_bytes - edit->removed_bytes;
}

/* Carries the plan out. The bytes at `listpack` are those the plan was made for, and there is room for
 * listpack_length_after(). Returns the position where the change began: the first entry inserted, or what follows the
 * removed ones. O(bytes behind it) */
uint8_t *listpack_apply(uint8_t *listpack, const struct listpack_edit *edit);
/* The same for an edit whose offset is that of the first entry, where the listpack's front is moved and all behind the
 * change stays: returns where the listpack begins now, by removed_bytes - inserted_bytes further on. The bytes before
 * it that it grows by are the caller's to use. O(count) */
uint8_t *listpack_apply_front(uint8_t *listpack, const struct listpack_edit *edit);

/* ---- Building ---- */

/* Writes a listpack from front to end. Nothing but entries is written before listpack_writer_finish(), so a listpack
 * can be thinned out in place: a writer over its own bytes, to which the entries worth keeping are appended in turn
 * (next position read first), never runs ahead of the walk. */
struct listpack_writer {
    uint8_t *listpack, *at, *limit;
    uint32_t count;
};

/* `capacity` is at least LISTPACK_EMPTY_BYTES; appending past it is a bug. */
static inline void listpack_writer_begin(struct listpack_writer *writer, uint8_t *listpack, size_t capacity) {
    assert(capacity >= LISTPACK_EMPTY_BYTES);
    *writer = (struct listpack_writer){listpack, listpack + LISTPACK_HEADER_BYTES, listpack + capacity - 1, 0};
}
void listpack_writer_append(struct listpack_writer *writer, const struct listpack_element *element);
static inline void listpack_writer_append_text(struct listpack_writer *writer, struct span text) {
    struct listpack_element element = listpack_element_of_text(text);
    listpack_writer_append(writer, &element);
}
static inline void listpack_writer_append_integer(struct listpack_writer *writer, int64_t number) {
    struct listpack_element element = listpack_element_of_integer(number);
    listpack_writer_append(writer, &element);
}
/* Copies `count` entries as they are: all those from entry `from` up to position `to`. */
void listpack_writer_append_entries(struct listpack_writer *writer, const uint8_t *from, const uint8_t *to,
                                    uint32_t count);
/* Bytes the listpack would have if it were finished now. */
static inline size_t listpack_writer_length(const struct listpack_writer *writer) {
    return (size_t)(writer->at - writer->listpack) + 1;
}
/* Writes header and end; returns the total of bytes. */
size_t listpack_writer_finish(struct listpack_writer *writer);

/* ---- Checking ---- */

/* Whether these bytes, which may come from anyone, are exactly one listpack: every head, length, backlen, the count,
 * the end. Integers in a longer form than need be, and such that were left as text, are taken, as Redis takes them; all
 * functions here work on them. An empty listpack is valid. O(n) */
__attribute__((warn_unused_result)) bool listpack_is_valid(struct span bytes);

/* The same, and `check` is content with every entry in turn. `index` counts from 0. The entry has been checked itself
 * but not what follows it. */
__attribute__((warn_unused_result)) bool
listpack_is_valid_deep(struct span bytes, bool (*check)(const uint8_t *entry, uint32_t index, void *context),
                       void *context);

#endif
