#ifndef TERRACE_RECORD_PAGED_LEAF_H
#define TERRACE_RECORD_PAGED_LEAF_H

/* The bytes of a leaf of a paged_tree: items in order, their numbers and lengths in columns, their bytes behind.
 *
 *    0        2        3       4..7     8          12            ..                              length
 *   +--------+--------+-------+--------+----------+-------------+-------+- - - - -+-------------+
 *   | count  | items' | shift | widths | bytes of | bases of    | rows  |   gap   | bytes       |
 *   |        | row    |       | of the | all      | the columns |       |         | .. 2, 1, 0  |
 *   |        | width  |       | columns| items    |             |       |         |             |
 *   +--------+--------+-------+--------+----------+-------------+-------+- - - - -+-------------+
 *
 * Four columns, of which a tree has those its shape says: first number, second number, length of the tail, length of
 * the value. A column stores x as (x - base) >> shift in `width` bytes, 0 to 8: a column whose values are all the same
 * takes none. Only the first number has a shift (a double's image of small integers ends in many zeros). A row is the
 * columns of one item side by side, so an item's row is found by multiplying, and numbers by binary search. Where the
 * bytes of an item are is the sum of the lengths before it; they are laid down from the leaf's end toward its front, so
 * that an item is added behind the last without moving any other.
 *
 * All functions are arithmetic on the bytes and trust them. */

#include "base/span.h"

#include <stdint.h>

/* What the items of a tree consist of; the same for all leaves of a tree, and not stored in them. */
struct paged_tree_shape {
    uint8_t numbers;     /* 0, 1 or 2 */
    bool tail;           /* keys end with bytes */
    bool value;          /* items have a value */
    uint32_t leaf_bytes; /* payload at which a leaf is split */
};

struct paged_key {
    uint64_t numbers[2]; /* those the shape does not have are 0 */
    struct span tail;    /* empty when the shape has none */
};

struct paged_item {
    struct paged_key key;
    struct span value;
};

enum leaf_column_name { LEAF_FIRST, LEAF_SECOND, LEAF_TAIL, LEAF_VALUE, LEAF_COLUMNS };

enum {
    LEAF_FIXED_BYTES = 12,
    LEAF_HEADER_MAX = LEAF_FIXED_BYTES + 8 + 8 + 4 + 4,
    LEAF_ROW_MAX = 8 + 8 + 4 + 4,
    LEAF_ITEMS_MAX = 1024, /* so that sums over a leaf, and its rows on the stack, stay small */
};

struct leaf_column {
    uint64_t base;
    uint8_t width, shift;
    uint8_t end; /* where the column ends in a row */
};

/* A leaf as it is read or changed: its header taken apart. The bytes belong to the page. */
struct leaf {
    uint8_t *data;
    uint8_t *rows;
    uint32_t length; /* of the payload */
    uint32_t count;
    uint32_t blob; /* bytes of all items */
    uint32_t row_bytes;
    struct leaf_column columns[LEAF_COLUMNS];
};

/* How the columns of a leaf would have to be. */
struct leaf_plan {
    struct leaf_column columns[LEAF_COLUMNS];
    uint32_t row_bytes;
};

/* Bytes before the rows. */
static inline uint32_t leaf_header_bytes(const struct paged_tree_shape *shape) {
    return LEAF_FIXED_BYTES + 8u * shape->numbers + 4u * shape->tail + 4u * shape->value;
}
/* Bytes of a leaf that is completely full. */
static inline size_t leaf_bytes_for(const struct paged_tree_shape *shape, uint32_t row_bytes, uint32_t count,
                                    size_t blob) {
    return leaf_header_bytes(shape) + (size_t)count * row_bytes + blob;
}
static inline size_t leaf_bytes_used(const struct paged_tree_shape *shape, const struct leaf *leaf) {
    return leaf_bytes_for(shape, leaf->row_bytes, leaf->count, leaf->blob);
}

/* ---- reading ---- */

/* Takes the header of `payload` apart. */
void leaf_open(struct leaf *leaf, const struct paged_tree_shape *shape, const void *payload, size_t length);

/* What a column stores for a row. Its bytes are read with those before them, which are the leaf's in any case. */
static inline uint64_t leaf_code(const struct leaf *leaf, const struct leaf_column *column, uint32_t row) {
    uint64_t word;
    memcpy(&word, leaf->rows + (size_t)row * leaf->row_bytes + column->end - 8, 8);
    return column->width ? word >> (64 - 8 * column->width) : 0;
}
static inline uint64_t leaf_get(const struct leaf *leaf, enum leaf_column_name name, uint32_t row) {
    const struct leaf_column *column = &leaf->columns[name];
    return column->base + (leaf_code(leaf, column, row) << column->shift);
}
static inline size_t leaf_item_bytes(const struct leaf *leaf, uint32_t row) {
    return leaf_get(leaf, LEAF_TAIL, row) + leaf_get(leaf, LEAF_VALUE, row);
}

/* Bytes of the items of rows from .. to - 1; of those before `row`. */
size_t leaf_sum(const struct leaf *leaf, uint32_t from, uint32_t to);
static inline size_t leaf_blob_before(const struct leaf *leaf, uint32_t row) {
    return row <= leaf->count / 2 ? leaf_sum(leaf, 0, row) : leaf->blob - leaf_sum(leaf, row, leaf->count);
}

/* An item, given leaf_blob_before() of its row. */
static inline struct paged_item leaf_item(const struct leaf *leaf, uint32_t row, size_t blob_before) {
    size_t tail = leaf_get(leaf, LEAF_TAIL, row), value = leaf_get(leaf, LEAF_VALUE, row);
    const uint8_t *at = leaf->data + leaf->length - blob_before - tail - value;
    return (struct paged_item){{{leaf_get(leaf, LEAF_FIRST, row), leaf_get(leaf, LEAF_SECOND, row)}, span_of(at, tail)},
                               span_of(at + tail, value)};
}

/* As memcmp(), and the shorter first. */
static inline int paged_tail_compare(struct span a, struct span b) {
    int order = memcmp(a.data ? a.data : "", b.data ? b.data : "", a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}
int paged_key_compare(const struct paged_key *a, const struct paged_key *b);

/* The first row whose key is not below `key`, or with `after`, that is above it; `found`: a row has the key. */
uint32_t leaf_search(const struct leaf *leaf, const struct paged_tree_shape *shape, const struct paged_key *key,
                     bool after, bool *found);

/* ---- planning: which columns hold certain items ---- */

struct leaf_range {
    uint64_t low[LEAF_COLUMNS], high[LEAF_COLUMNS];
    uint64_t differing; /* bits in which first numbers differ */
    uint64_t a_first;   /* any of the first numbers */
    bool any;
    bool lowest[2]; /* the number was the lowest when it came, and came last: others below may follow */
};

void leaf_range_add_rows(struct leaf_range *range, const struct leaf *leaf, uint32_t from, uint32_t to);
void leaf_range_add_item(struct leaf_range *range, const struct paged_item *item);
/* A range that starts as {0}, to which something was added. */
struct leaf_plan leaf_plan_for(const struct leaf_range *range);

/* Whether the columns, as they are, hold this item. */
bool leaf_holds(const struct leaf *leaf, const struct paged_item *item);
/* Whether they hold values of this length. */
bool leaf_holds_value(const struct leaf *leaf, size_t length);

/* ---- changing: the room must be there ---- */

/* Lays out an empty leaf. Precondition: length >= leaf_header_bytes(). */
void leaf_format(struct leaf *leaf, const struct paged_tree_shape *shape, const struct leaf_plan *plan, void *payload,
                 size_t length);
/* Gives the leaf other columns, which hold all of its items. */
void leaf_recode(struct leaf *leaf, const struct paged_tree_shape *shape, const struct leaf_plan *plan);
/* The payload at `payload` becomes `length` bytes: the items' bytes move to the new end. Before it shrinks, and after
 * it has grown. `payload` may have moved; the rest of it is the leaf's. */
void leaf_relocate(struct leaf *leaf, const struct paged_tree_shape *shape, void *payload, size_t length);
/* Precondition: leaf_holds(). */
void leaf_insert(struct leaf *leaf, uint32_t row, const struct paged_item *item);
void leaf_remove(struct leaf *leaf, uint32_t row, uint32_t count);
/* Copies rows from .. to - 1 of another leaf behind the last. Precondition: the columns hold them. */
void leaf_append(struct leaf *leaf, const struct leaf *source, uint32_t from, uint32_t to);
/* Precondition: leaf_holds_value(). */
void leaf_set_value(struct leaf *leaf, uint32_t row, struct span value);

/* Checks everything but the order against other leaves. */
bool leaf_validate(const struct leaf *leaf, const struct paged_tree_shape *shape);

#endif
