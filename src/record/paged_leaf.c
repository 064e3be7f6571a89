/* Leaves of a paged_tree. The layout stands in paged_leaf.h.
 *
 * Columns are chosen for what a leaf holds and chosen anew (leaf_recode) when an item comes that they cannot hold. How
 * often that happens has to stay small against the number of items: a number's column takes whole bytes, so it holds up
 * to 256 times the range that made it grow; where the newcomer was the lowest, all room that is left is given to lower
 * numbers, else to higher ones. A length's column is either constant or starts at 0.
 *
 *   base <= x,  (x - base) has `shift` zeros at its end,  (x - base) >> shift < 256 ^ width
 *
 * The rows' end and the bytes' beginning may meet, but never overlap:
 *
 *   header + count * row_bytes + blob <= length
 *
 * A reading of a column takes the eight bytes that end with it. They begin at leaf byte 12 + 4 - 8 or later. */

#include "record/paged_leaf.h"

#include <assert.h>

static uint64_t code_max(unsigned width) {
    return width == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * width) - 1;
}

static unsigned width_of(uint64_t code) {
    return code ? (71u - (unsigned)__builtin_clzll(code)) / 8 : 0;
}

/* ---- header ---- */

void leaf_open(struct leaf *leaf, const struct paged_tree_shape *shape, const void *payload, size_t length) {
    uint8_t *data = (uint8_t *)(uintptr_t)payload;
    uint16_t count;
    memcpy(&count, data, 2);
    leaf->data = data;
    leaf->length = (uint32_t)length;
    leaf->count = count;
    leaf->row_bytes = data[2];
    memcpy(&leaf->blob, data + 8, 4);

    const uint8_t *base = data + LEAF_FIXED_BYTES;
    unsigned end = 0;
    for (unsigned i = 0; i < LEAF_COLUMNS; i++) {
        struct leaf_column *column = &leaf->columns[i];
        column->base = 0;
        column->width = data[4 + i];
        column->shift = 0;
        column->end = (uint8_t)(end += column->width);
        if (i <= LEAF_SECOND && i < shape->numbers) {
            memcpy(&column->base, base, 8);
            base += 8;
        } else if ((i == LEAF_TAIL && shape->tail) || (i == LEAF_VALUE && shape->value)) {
            memcpy(&column->base, base, 4);
            base += 4;
        }
    }
    leaf->columns[LEAF_FIRST].shift = data[3];
    leaf->rows = data + (base - data);
}

static void store_counts(struct leaf *leaf) {
    uint16_t count = (uint16_t)leaf->count;
    memcpy(leaf->data, &count, 2);
    memcpy(leaf->data + 8, &leaf->blob, 4);
}

static void store_header(struct leaf *leaf, const struct paged_tree_shape *shape) {
    store_counts(leaf);
    uint8_t *data = leaf->data, *base = data + LEAF_FIXED_BYTES;
    data[2] = (uint8_t)leaf->row_bytes;
    data[3] = leaf->columns[LEAF_FIRST].shift;
    for (unsigned i = 0; i < LEAF_COLUMNS; i++) {
        data[4 + i] = leaf->columns[i].width;
        size_t bytes = i <= LEAF_SECOND                                ? (i < shape->numbers ? 8 : 0)
                       : (i == LEAF_TAIL ? shape->tail : shape->value) ? 4
                                                                       : 0;
        memcpy(base, &leaf->columns[i].base, bytes);
        base += bytes;
    }
    leaf->rows = base;
}

static void put(struct leaf *leaf, enum leaf_column_name name, uint32_t row, uint64_t x) {
    const struct leaf_column *column = &leaf->columns[name];
    if (!column->width) return;
    uint8_t *at = leaf->rows + (size_t)row * leaf->row_bytes + column->end - 8;
    uint64_t word, code = (x - column->base) >> column->shift;
    unsigned keep = 64 - 8u * column->width;
    memcpy(&word, at, 8);
    word = keep ? (word & ((UINT64_C(1) << keep) - 1)) | code << keep : code;
    memcpy(at, &word, 8);
}

/* ---- sums ---- */

static size_t sum_column(const struct leaf *leaf, enum leaf_column_name name, uint32_t from, uint32_t to) {
    const struct leaf_column *column = &leaf->columns[name];
    size_t sum = (to - from) * column->base;
    if (column->width == 0) return sum;
    if (column->width == 1) {
        const uint8_t *at = leaf->rows + (size_t)from * leaf->row_bytes + column->end - 1;
        uint32_t bytes = 0, n = to - from, step = leaf->row_bytes;
        if (step == 1) /* a loop of its own, which compilers turn into vectors */
            for (uint32_t i = 0; i < n; i++) bytes += at[i];
        else
            for (uint32_t i = 0; i < n; i++, at += step) bytes += *at;
        return sum + bytes;
    }
    for (uint32_t i = from; i < to; i++) sum += leaf_code(leaf, column, i);
    return sum;
}

size_t leaf_sum(const struct leaf *leaf, uint32_t from, uint32_t to) {
    return sum_column(leaf, LEAF_TAIL, from, to) + sum_column(leaf, LEAF_VALUE, from, to);
}

/* ---- search ---- */

int paged_key_compare(const struct paged_key *a, const struct paged_key *b) {
    for (unsigned i = 0; i < 2; i++)
        if (a->numbers[i] != b->numbers[i]) return a->numbers[i] < b->numbers[i] ? -1 : 1;
    return paged_tail_compare(a->tail, b->tail);
}

/* The first row of from .. to - 1 whose first number's code is at least `code`; `to` when there is none. Without
 * branches that depend on the data: they would be mispredicted every other time. */
static uint32_t first_at_least(const struct leaf *leaf, uint64_t code, uint32_t from, uint32_t to) {
    const struct leaf_column *column = &leaf->columns[LEAF_FIRST];
    uint32_t n = to - from;
    while (n > 1) {
        uint32_t half = n / 2;
        from += leaf_code(leaf, column, from + half - 1) < code ? half : 0;
        n -= half;
    }
    return from + (n == 1 && leaf_code(leaf, column, from) < code);
}

/* Rows low .. high - 1 have the key's first number. */
static uint32_t search_ties(const struct leaf *leaf, const struct paged_tree_shape *shape, const struct paged_key *key,
                            bool after, bool *found, uint32_t low, uint32_t high) {
    size_t before = shape->tail ? leaf_blob_before(leaf, low) : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint64_t second = leaf_get(leaf, LEAF_SECOND, middle);
        size_t skipped = shape->tail ? leaf_sum(leaf, low, middle) : 0;
        int order = (second > key->numbers[1]) - (second < key->numbers[1]);
        if (order == 0 && shape->tail)
            order = paged_tail_compare(leaf_item(leaf, middle, before + skipped).key.tail, key->tail);
        if (order == 0) {
            *found = true;
            return middle + after;
        }
        if (order < 0) {
            low = middle + 1;
            if (shape->tail) before += skipped + leaf_item_bytes(leaf, middle);
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t leaf_search(const struct leaf *leaf, const struct paged_tree_shape *shape, const struct paged_key *key,
                     bool after, bool *found) {
    const struct leaf_column *column = &leaf->columns[LEAF_FIRST];
    uint64_t first = key->numbers[0];
    *found = false;
    if (first < column->base || leaf->count == 0) return 0;
    uint64_t distance = first - column->base, code = distance >> column->shift;
    if (code > code_max(column->width)) return leaf->count;
    bool exact = code << column->shift == distance;
    if (!exact && code == code_max(column->width)) return leaf->count;
    uint32_t low = first_at_least(leaf, code + !exact, 0, leaf->count);
    if (!exact || low == leaf->count || leaf_code(leaf, column, low) != code) return low;

    uint32_t high = low + 1;
    if (high < leaf->count && leaf_code(leaf, column, high) == code)
        high = code == UINT64_MAX ? leaf->count : first_at_least(leaf, code + 1, high, leaf->count);
    return search_ties(leaf, shape, key, after, found, low, high);
}

/* ---- planning ---- */

static void add_to_range(struct leaf_range *range, unsigned column, uint64_t x) {
    if (x < range->low[column]) range->low[column] = x;
    if (x > range->high[column]) range->high[column] = x;
}

static void begin_range(struct leaf_range *range, uint64_t first) {
    if (range->any) return;
    memset(range->low, 0xff, sizeof(range->low));
    range->any = true;
    range->a_first = first;
}

void leaf_range_add_rows(struct leaf_range *range, const struct leaf *leaf, uint32_t from, uint32_t to) {
    if (from >= to) return;
    begin_range(range, leaf_get(leaf, LEAF_FIRST, from));
    for (unsigned column = 0; column < LEAF_COLUMNS; column++) {
        if (leaf->columns[column].width == 0) {
            add_to_range(range, column, leaf->columns[column].base);
            continue;
        }
        for (uint32_t row = from; row < to; row++) {
            uint64_t x = leaf_get(leaf, column, row);
            add_to_range(range, column, x);
            if (column == LEAF_FIRST) range->differing |= x ^ range->a_first;
        }
    }
    /* A column of width 0 was not walked. */
    range->differing |= leaf_get(leaf, LEAF_FIRST, from) ^ range->a_first;
    range->lowest[0] = range->lowest[1] = false;
}

void leaf_range_add_item(struct leaf_range *range, const struct paged_item *item) {
    begin_range(range, item->key.numbers[0]);
    for (unsigned i = 0; i < 2; i++) {
        range->lowest[i] = item->key.numbers[i] < range->low[i];
        add_to_range(range, i, item->key.numbers[i]);
    }
    range->differing |= item->key.numbers[0] ^ range->a_first;
    add_to_range(range, LEAF_TAIL, item->key.tail.length);
    add_to_range(range, LEAF_VALUE, item->value.length);
}

static struct leaf_column plan_number(uint64_t low, uint64_t high, unsigned shift, bool lowest) {
    uint64_t range = (high - low) >> shift;
    struct leaf_column column = {low, (uint8_t)width_of(range), (uint8_t)shift, 0};
    if (column.width == 8) return (struct leaf_column){0, 8, 0, 0};
    if (lowest && column.width) {
        uint64_t room = code_max(column.width) - range, below = low >> shift;
        column.base -= (room < below ? room : below) << shift;
    }
    return column;
}

static struct leaf_column plan_length(uint64_t low, uint64_t high) {
    if (low == high) return (struct leaf_column){low, 0, 0, 0};
    return (struct leaf_column){0, (uint8_t)width_of(high), 0, 0};
}

struct leaf_plan leaf_plan_for(const struct leaf_range *range) {
    assert(range->any);
    struct leaf_plan plan;
    unsigned shift = range->differing ? (unsigned)__builtin_ctzll(range->differing) : 0;
    for (unsigned i = 0; i < 2; i++)
        plan.columns[i] = plan_number(range->low[i], range->high[i], i ? 0 : shift, range->lowest[i]);
    for (unsigned i = LEAF_TAIL; i < LEAF_COLUMNS; i++) plan.columns[i] = plan_length(range->low[i], range->high[i]);
    plan.row_bytes = 0;
    for (unsigned i = 0; i < LEAF_COLUMNS; i++)
        plan.columns[i].end = (uint8_t)(plan.row_bytes += plan.columns[i].width);
    return plan;
}

static inline bool column_holds(const struct leaf_column *column, uint64_t x) {
    uint64_t distance = x - column->base, code = distance >> column->shift;
    if (distance == 0) return true; /* what all have in common, and all that is left out */
    return x >= column->base && code << column->shift == distance && code <= code_max(column->width);
}

bool leaf_holds_value(const struct leaf *leaf, size_t length) {
    return column_holds(&leaf->columns[LEAF_VALUE], length);
}

bool leaf_holds(const struct leaf *leaf, const struct paged_item *item) {
    return column_holds(&leaf->columns[LEAF_FIRST], item->key.numbers[0]) &&
           column_holds(&leaf->columns[LEAF_SECOND], item->key.numbers[1]) &&
           column_holds(&leaf->columns[LEAF_TAIL], item->key.tail.length) && leaf_holds_value(leaf, item->value.length);
}

/* ---- changing ---- */

static void use_plan(struct leaf *leaf, const struct paged_tree_shape *shape, const struct leaf_plan *plan) {
    memcpy(leaf->columns, plan->columns, sizeof(leaf->columns));
    leaf->row_bytes = plan->row_bytes;
    store_header(leaf, shape);
}

void leaf_format(struct leaf *leaf, const struct paged_tree_shape *shape, const struct leaf_plan *plan, void *payload,
                 size_t length) {
    assert(length >= leaf_header_bytes(shape) && length <= UINT32_MAX);
    leaf->data = payload;
    leaf->length = (uint32_t)length;
    leaf->count = leaf->blob = 0;
    use_plan(leaf, shape, plan);
}

static bool same_columns(const struct leaf_column *a, const struct leaf_column *b) {
    for (unsigned i = 0; i < LEAF_COLUMNS; i++)
        if (a[i].base != b[i].base || a[i].width != b[i].width || a[i].shift != b[i].shift) return false;
    return true;
}

static void copy_rows(struct leaf *leaf, uint32_t at, const struct leaf *source, uint32_t from, uint32_t to) {
    if (same_columns(leaf->columns, source->columns)) {
        memcpy(leaf->rows + (size_t)at * leaf->row_bytes, source->rows + (size_t)from * source->row_bytes,
               (size_t)(to - from) * leaf->row_bytes);
        return;
    }
    for (uint32_t row = from; row < to; row++, at++)
        for (unsigned column = 0; column < LEAF_COLUMNS; column++) put(leaf, column, at, leaf_get(source, column, row));
}

void leaf_recode(struct leaf *leaf, const struct paged_tree_shape *shape, const struct leaf_plan *plan) {
    if (same_columns(leaf->columns, plan->columns)) return;
    /* The old header and rows, with the header's bytes in front of the first row. */
    uint8_t saved[LEAF_HEADER_MAX + LEAF_ROW_MAX * LEAF_ITEMS_MAX];
    size_t bytes = leaf_header_bytes(shape) + (size_t)leaf->count * leaf->row_bytes;
    assert(bytes <= sizeof(saved));
    memcpy(saved, leaf->data, bytes);
    struct leaf old = *leaf;
    old.data = saved;
    old.rows = saved + leaf_header_bytes(shape);
    use_plan(leaf, shape, plan);
    copy_rows(leaf, 0, &old, 0, leaf->count);
}

void leaf_relocate(struct leaf *leaf, const struct paged_tree_shape *shape, void *payload, size_t length) {
    if (payload == leaf->data && length == leaf->length) return;
    leaf->data = payload;
    leaf->rows = leaf->data + leaf_header_bytes(shape);
    memmove(leaf->data + length - leaf->blob, leaf->data + leaf->length - leaf->blob, leaf->blob);
    leaf->length = (uint32_t)length;
}

/* The bytes of the rows from `row` on, of which `before` bytes stand behind, move by `down` toward the front. */
static void move_bytes(struct leaf *leaf, size_t before, ptrdiff_t down, size_t bytes) {
    uint8_t *at = leaf->data + leaf->length - before - bytes;
    memmove(at - down, at, bytes);
}

void leaf_insert(struct leaf *leaf, uint32_t row, const struct paged_item *item) {
    size_t before = row == leaf->count ? leaf->blob : leaf_blob_before(leaf, row);
    size_t tail = item->key.tail.length, value = item->value.length;
    uint8_t *at_row = leaf->rows + (size_t)row * leaf->row_bytes;
    if (row < leaf->count) {
        memmove(at_row + leaf->row_bytes, at_row, (size_t)(leaf->count - row) * leaf->row_bytes);
        move_bytes(leaf, before, (ptrdiff_t)(tail + value), leaf->blob - before);
    }
    put(leaf, LEAF_FIRST, row, item->key.numbers[0]);
    put(leaf, LEAF_SECOND, row, item->key.numbers[1]);
    put(leaf, LEAF_TAIL, row, tail);
    put(leaf, LEAF_VALUE, row, value);
    uint8_t *at = leaf->data + leaf->length - before - tail - value;
    if (tail) memcpy(at, item->key.tail.data, tail);
    if (value) memcpy(at + tail, item->value.data, value);
    leaf->count++;
    leaf->blob += (uint32_t)(tail + value);
    store_counts(leaf);
}

void leaf_remove(struct leaf *leaf, uint32_t row, uint32_t count) {
    size_t before = leaf_blob_before(leaf, row), bytes = leaf_sum(leaf, row, row + count);
    uint8_t *at_row = leaf->rows + (size_t)row * leaf->row_bytes;
    memmove(at_row, at_row + (size_t)count * leaf->row_bytes, (size_t)(leaf->count - row - count) * leaf->row_bytes);
    move_bytes(leaf, before + bytes, -(ptrdiff_t)bytes, leaf->blob - before - bytes);
    leaf->count -= count;
    leaf->blob -= (uint32_t)bytes;
    store_counts(leaf);
}

void leaf_append(struct leaf *leaf, const struct leaf *source, uint32_t from, uint32_t to) {
    size_t before = leaf_blob_before(source, from), bytes = leaf_sum(source, from, to);
    copy_rows(leaf, leaf->count, source, from, to);
    memcpy(leaf->data + leaf->length - leaf->blob - bytes, source->data + source->length - before - bytes, bytes);
    leaf->count += to - from;
    leaf->blob += (uint32_t)bytes;
    store_counts(leaf);
}

void leaf_set_value(struct leaf *leaf, uint32_t row, struct span value) {
    size_t old = leaf_get(leaf, LEAF_VALUE, row), before = leaf_blob_before(leaf, row);
    if (value.length != old) {
        /* The tail stands in front of the value, with all that follows in front of it. */
        move_bytes(leaf, before + old, (ptrdiff_t)value.length - (ptrdiff_t)old, leaf->blob - before - old);
        put(leaf, LEAF_VALUE, row, value.length);
        leaf->blob = (uint32_t)(leaf->blob - old + value.length);
        store_counts(leaf);
    }
    if (value.length) memcpy(leaf->data + leaf->length - before - value.length, value.data, value.length);
}

/* ---- checking ---- */

bool leaf_validate(const struct leaf *leaf, const struct paged_tree_shape *shape) {
    if (!leaf->count || leaf->count > LEAF_ITEMS_MAX || leaf_bytes_used(shape, leaf) > leaf->length) return false;
    if (leaf->columns[LEAF_COLUMNS - 1].end != leaf->row_bytes || leaf->row_bytes > LEAF_ROW_MAX) return false;
    if (leaf_sum(leaf, 0, leaf->count) != leaf->blob) return false;
    size_t before = 0;
    struct paged_item last = {0};
    for (uint32_t row = 0; row < leaf->count; row++) {
        struct paged_item item = leaf_item(leaf, row, before);
        before += leaf_item_bytes(leaf, row);
        if (before > leaf->blob) return false;
        if ((shape->numbers || shape->tail) && row && paged_key_compare(&last.key, &item.key) >= 0) return false;
        last = item;
    }
    return true;
}
