/* Longest common subsequences, 64 cells at a time.
 *
 * Let L(s, t) be the length for the first s bytes of one string and the first t of the other. The textbook fills a
 * table of these numbers. But along a row they rise by 0 or 1 from cell to cell, so a row is a row of bits, and the
 * next one follows from it with an addition (Crochemore et al. 2001, Hyyro 2004): with V holding a 1 where L does not
 * rise, and U the places of V where the byte of the new row occurs,
 *
 *     V' = (V + U) | (V & ~U)
 *
 * over words with carry. Rows run along the shorter string. The zeros in the first s bits of row t are L(s, t).
 *
 *              short[0] short[1] ...
 *     row 0       1        1              one row for each prefix of the longer string; kept only if the
 *     row 1       0        1              path is wanted
 *     ...
 *
 * The path is walked back from the end of both strings. Equal bytes are part of the subsequence. Otherwise the walk
 * goes to the neighbour with the greater L, and on a tie gives up the last byte of b, not of a: this is what makes the
 * answer the one that Redis gives. The walk carries L of its cell and of the cell a row before; in a row this costs a
 * bit, and for a new row a count of the bits, which is no more than filling the row cost. */

#include "record/lcs.h"

#include "base/bits.h"

#include <stdlib.h>

enum {
    /* Redis holds each number of its table in this many bytes. */
    TABLE_CELL_BYTES = 4,
    MATCHES_AT_FIRST = 16,
};

struct lcs_table {
    struct span shorter;
    struct span longer;
    bool is_a_shorter;
    /* Words of a row. */
    size_t words;
    /* For each byte value a row of the places where it occurs in the shorter string. */
    uint64_t *occurrences;
    /* Row t is at rows + t * words; a single row is overwritten again and again when is_complete is false. */
    uint64_t *rows;
    bool is_complete;
};

static void free_table(struct lcs_table *table) {
    free(table->occurrences);
    free(table->rows);
}

static enum lcs_status allocate_table(struct lcs_table *table, struct span a, struct span b, bool is_complete) {
    bool is_a_shorter = a.length <= b.length;
    *table = (struct lcs_table){
        .shorter = is_a_shorter ? a : b,
        .longer = is_a_shorter ? b : a,
        .is_a_shorter = is_a_shorter,
        .is_complete = is_complete,
    };
    table->words = (table->shorter.length + 63) / 64;
    size_t row_count = is_complete ? table->longer.length + 1 : 1;
    table->occurrences = calloc(256 * table->words, sizeof(uint64_t));
    table->rows = malloc(row_count * table->words * sizeof(uint64_t));
    if (table->occurrences != NULL && table->rows != NULL) return LCS_OK;
    free_table(table);
    return LCS_NO_MEMORY;
}

static void fill_table(struct lcs_table *table) {
    const size_t words = table->words;
    for (size_t s = 0; s < table->shorter.length; s++) {
        table->occurrences[(unsigned char)table->shorter.data[s] * words + s / 64] |= (uint64_t)1 << (s % 64);
    }
    memset(table->rows, 0xff, words * sizeof(uint64_t));
    uint64_t *row = table->rows;
    for (size_t t = 0; t < table->longer.length; t++) {
        const uint64_t *places = table->occurrences + (unsigned char)table->longer.data[t] * words;
        uint64_t *next = table->is_complete ? row + words : row;
        unsigned long long carry = 0;
        for (size_t w = 0; w < words; w++) {
            uint64_t v = row[w];
            uint64_t u = v & places[w];
            unsigned long long sum, sum_carried;
            bool overflows = __builtin_uaddll_overflow(v, u, &sum);
            bool overflows_carried = __builtin_uaddll_overflow(sum, carry, &sum_carried);
            carry = overflows | overflows_carried;
            next[w] = sum_carried | (v & ~u);
        }
        row = next;
    }
}

/* L(s, t), for the last or only row if the table is not complete. */
static uint32_t count_rises(const uint64_t *row, size_t s) {
    uint64_t ones = bits_count(row, s / 64 * sizeof(uint64_t));
    if (s % 64 > 0) {
        uint64_t rest = row[s / 64] << (64 - s % 64);
        ones += bits_count(&rest, sizeof(rest));
    }
    return (uint32_t)(s - ones);
}

/* L(s, t) - L(s - 1, t) */
static inline uint32_t rise_at(const uint64_t *row, size_t s) {
    return ~(row[(s - 1) / 64] >> ((s - 1) % 64)) & 1;
}

/* A place on the way back: the first s bytes of the shorter string and the first t of the longer one. */
struct cell {
    size_t s;
    size_t t;
    /* L(s, t), and L(s, t - 1) unless t is 0. */
    uint32_t here;
    uint32_t row_before;
};

static const uint64_t *row_of(const struct lcs_table *table, size_t t) {
    return table->rows + t * table->words;
}

static void step_along_row(const struct lcs_table *table, struct cell *cell) {
    cell->here -= rise_at(row_of(table, cell->t), cell->s);
    cell->row_before -= rise_at(row_of(table, cell->t - 1), cell->s);
    cell->s--;
}

static void step_to_row_before(const struct lcs_table *table, struct cell *cell) {
    cell->t--;
    cell->here = cell->row_before;
    if (cell->t > 0) cell->row_before = count_rises(row_of(table, cell->t - 1), cell->s);
}

/* The bytes differ: one of them is given up. */
static void step_to_greater(const struct lcs_table *table, struct cell *cell) {
    uint32_t without_short = cell->here - rise_at(row_of(table, cell->t), cell->s);
    uint32_t without_long = cell->row_before;
    bool gives_up_a = table->is_a_shorter ? without_short > without_long : without_long > without_short;
    if (gives_up_a == table->is_a_shorter) {
        step_along_row(table, cell);
    } else {
        step_to_row_before(table, cell);
    }
}

/* A range that is being walked through from its end. */
struct open_match {
    struct lcs_match match;
    bool is_open;
};

static bool append_match(struct lcs_result *result, size_t *capacity, const struct lcs_match *match) {
    if (result->match_count == *capacity) {
        size_t grown = *capacity > 0 ? *capacity * 2 : MATCHES_AT_FIRST;
        struct lcs_match *matches = realloc(result->matches, grown * sizeof(*matches));
        if (matches == NULL) return false;
        result->matches = matches;
        *capacity = grown;
    }
    result->matches[result->match_count++] = *match;
    return true;
}

static bool close_match(struct open_match *open, const struct lcs_request *request, struct lcs_result *result,
                        size_t *capacity) {
    if (!open->is_open) return true;
    open->is_open = false;
    if (!request->wants_matches || lcs_match_length(&open->match) < request->match_length_min) return true;
    return append_match(result, capacity, &open->match);
}

static void extend_match(struct open_match *open, uint32_t a, uint32_t b) {
    if (open->is_open) {
        open->match.a_first = a;
        open->match.b_first = b;
    } else {
        *open = (struct open_match){{.a_first = a, .a_last = a, .b_first = b, .b_last = b}, true};
    }
}

static bool walk_back(const struct lcs_table *table, const struct lcs_request *request, struct lcs_result *result) {
    struct open_match open = {0};
    size_t capacity = 0;
    struct cell cell = {.s = table->shorter.length, .t = table->longer.length, .here = result->length};
    if (cell.t > 0) cell.row_before = count_rises(row_of(table, cell.t - 1), cell.s);

    while (cell.s > 0 && cell.t > 0) {
        char byte = table->shorter.data[cell.s - 1];
        if (byte != table->longer.data[cell.t - 1]) {
            if (!close_match(&open, request, result, &capacity)) return false;
            step_to_greater(table, &cell);
            continue;
        }
        if (result->text != NULL) result->text[cell.here - 1] = byte;
        uint32_t s = (uint32_t)cell.s - 1, t = (uint32_t)cell.t - 1;
        extend_match(&open, table->is_a_shorter ? s : t, table->is_a_shorter ? t : s);
        step_along_row(table, &cell);
        step_to_row_before(table, &cell);
    }
    return close_match(&open, request, result, &capacity);
}

enum lcs_status lcs_check_lengths(size_t a, size_t b, uint64_t table_bytes_max) {
    if (a >= UINT32_MAX - 1 || b >= UINT32_MAX - 1) return LCS_TOO_LONG;
    uint64_t table_bytes;
    if (__builtin_mul_overflow((uint64_t)(a + 1) * (b + 1), TABLE_CELL_BYTES, &table_bytes)) return LCS_NO_MEMORY;
    return table_bytes <= table_bytes_max ? LCS_OK : LCS_TABLE_TOO_LARGE;
}

enum lcs_status lcs_compute(struct span a, struct span b, const struct lcs_request *request,
                            struct lcs_result *result) {
    *result = (struct lcs_result){0};
    enum lcs_status status = lcs_check_lengths(a.length, b.length, request->table_bytes_max);
    if (status != LCS_OK) return status;
    if (a.length == 0 || b.length == 0) {
        if (request->wants_text && (result->text = malloc(1)) == NULL) return LCS_NO_MEMORY;
        return LCS_OK;
    }

    struct lcs_table table;
    bool wants_path = request->wants_text || request->wants_matches;
    if (allocate_table(&table, a, b, wants_path) != LCS_OK) return LCS_NO_MEMORY;
    fill_table(&table);
    result->length = count_rises(row_of(&table, wants_path ? table.longer.length : 0), table.shorter.length);
    if (request->wants_text) {
        /* One byte more, as an empty text is a text too. */
        result->text = malloc((size_t)result->length + 1);
        if (result->text == NULL) status = LCS_NO_MEMORY;
    }
    if (status == LCS_OK && wants_path && !walk_back(&table, request, result)) status = LCS_NO_MEMORY;
    free_table(&table);
    if (status != LCS_OK) lcs_free_result(result);
    return status;
}

void lcs_free_result(struct lcs_result *result) {
    free(result->text);
    free(result->matches);
    *result = (struct lcs_result){0};
}
