#ifndef TERRACE_RECORD_LCS_H
#define TERRACE_RECORD_LCS_H

/* The longest common subsequence of two strings, for the LCS command.
 *
 * Where several subsequences are longest, the one that Redis finds is found, with its ranges in Redis's order. Pure,
 * any thread. Time is O(a * b / 64); memory is O(a + b) for the length alone, else at most the bytes of the table that
 * Redis would use, usually a 32nd of them. */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lcs_status {
    LCS_OK,
    /* Redis: "ERR String too long for LCS". */
    LCS_TOO_LONG,
    /* Redis: "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len". */
    LCS_TABLE_TOO_LARGE,
    /* Redis: "ERR Insufficient memory, failed allocating transient memory for LCS". */
    LCS_NO_MEMORY,
};

struct lcs_request {
    bool wants_text;
    bool wants_matches;
    /* Shorter matches are left out. */
    uint64_t match_length_min;
    /* proto-max-bulk-len. It bounds the table that Redis would use: 4 * (a + 1) * (b + 1) bytes. */
    uint64_t table_bytes_max;
};

/* A range that both strings have in common; first and last byte of it in each. */
struct lcs_match {
    uint32_t a_first;
    uint32_t a_last;
    uint32_t b_first;
    uint32_t b_last;
};

static inline uint32_t lcs_match_length(const struct lcs_match *match) {
    return match->a_last - match->a_first + 1;
}

/* `text` (of `length` bytes, not terminated) and `matches` (from the end of the strings to their beginning) are there
 * if asked for. lcs_free_result releases them. */
struct lcs_result {
    uint32_t length;
    char *text;
    struct lcs_match *matches;
    size_t match_count;
};

/* Whether strings of these lengths are within the bound: LCS_OK, LCS_TOO_LONG, LCS_TABLE_TOO_LARGE or LCS_NO_MEMORY, as
 * lcs_compute() would answer first of all. */
__attribute__((warn_unused_result)) enum lcs_status lcs_check_lengths(size_t a, size_t b, uint64_t table_bytes_max);

/* *result is all zero unless the answer is LCS_OK. */
__attribute__((warn_unused_result)) enum lcs_status
lcs_compute(struct span a, struct span b, const struct lcs_request *request, struct lcs_result *result);

void lcs_free_result(struct lcs_result *result);

#endif
