/* Longest common subsequences: examples as redis-server 7.0.15 answers them, and a fuzz against the textbook table. */

#include "record/lcs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static const uint64_t table_bytes_max = 512ull * 1024 * 1024;

static struct lcs_result compute(struct span a, struct span b, uint64_t match_length_min) {
    const struct lcs_request request = {.wants_text = true,
                                        .wants_matches = true,
                                        .match_length_min = match_length_min,
                                        .table_bytes_max = table_bytes_max};
    struct lcs_result result;
    assert_int_equal(lcs_compute(a, b, &request, &result), LCS_OK);
    return result;
}

static void assert_match(const struct lcs_match *match, uint32_t a_first, uint32_t a_last, uint32_t b_first,
                         uint32_t b_last) {
    assert_int_equal(match->a_first, a_first);
    assert_int_equal(match->a_last, a_last);
    assert_int_equal(match->b_first, b_first);
    assert_int_equal(match->b_last, b_last);
}

static void example_of_the_documentation_is_answered(void **state) {
    (void)state;
    struct lcs_result result = compute(SPAN_LITERAL("ohmytext"), SPAN_LITERAL("mynewtext"), 0);
    assert_int_equal(result.length, 6);
    assert_memory_equal(result.text, "mytext", 6);
    assert_int_equal(result.match_count, 2);
    assert_match(&result.matches[0], 4, 7, 5, 8);
    assert_match(&result.matches[1], 2, 3, 0, 1);
    assert_int_equal(lcs_match_length(&result.matches[0]), 4);
    lcs_free_result(&result);

    result = compute(SPAN_LITERAL("ohmytext"), SPAN_LITERAL("mynewtext"), 3);
    assert_int_equal(result.length, 6);
    assert_int_equal(result.match_count, 1);
    assert_match(&result.matches[0], 4, 7, 5, 8);
    lcs_free_result(&result);
}

static void nothing_in_common_is_an_empty_answer(void **state) {
    (void)state;
    struct lcs_result result = compute(SPAN_LITERAL("abc"), SPAN_LITERAL("xyz"), 0);
    assert_int_equal(result.length, 0);
    assert_non_null(result.text);
    assert_int_equal(result.match_count, 0);
    lcs_free_result(&result);

    result = compute(span_of(NULL, 0), SPAN_LITERAL("xyz"), 0);
    assert_int_equal(result.length, 0);
    assert_non_null(result.text);
    lcs_free_result(&result);
    assert_null(result.text);
}

static void table_of_redis_bounds_the_lengths(void **state) {
    (void)state;
    struct lcs_result result;
    /* 4 * (9 + 1) * (4 + 1) */
    struct lcs_request request = {.table_bytes_max = 200};
    assert_int_equal(lcs_compute(SPAN_LITERAL("123456789"), SPAN_LITERAL("1379"), &request, &result), LCS_OK);
    assert_int_equal(result.length, 4);
    assert_null(result.text);
    assert_null(result.matches);
    request.table_bytes_max = 199;
    assert_int_equal(lcs_compute(SPAN_LITERAL("123456789"), SPAN_LITERAL("1379"), &request, &result),
                     LCS_TABLE_TOO_LARGE);
    assert_int_equal(result.length, 0);

    /* Nothing is read when the lengths are refused. */
    request.table_bytes_max = UINT64_MAX;
    assert_int_equal(lcs_compute(span_of("x", UINT32_MAX - 1), SPAN_LITERAL("x"), &request, &result), LCS_TOO_LONG);
    assert_int_equal(lcs_compute(SPAN_LITERAL("x"), span_of("x", UINT32_MAX - 1), &request, &result), LCS_TOO_LONG);
    assert_int_equal(lcs_compute(span_of("x", UINT32_MAX - 2), span_of("x", UINT32_MAX - 2), &request, &result),
                     LCS_NO_MEMORY);
}

enum { FUZZ_LENGTH_MAX = 300 };

static uint32_t textbook_table[FUZZ_LENGTH_MAX + 1][FUZZ_LENGTH_MAX + 1];

static void fill_textbook_table(struct span a, struct span b) {
    for (size_t i = 0; i <= a.length; i++) {
        for (size_t j = 0; j <= b.length; j++) {
            uint32_t *cell = &textbook_table[i][j];
            if (i == 0 || j == 0) {
                *cell = 0;
            } else if (a.data[i - 1] == b.data[j - 1]) {
                *cell = textbook_table[i - 1][j - 1] + 1;
            } else {
                uint32_t without_a = textbook_table[i - 1][j], without_b = textbook_table[i][j - 1];
                *cell = without_a > without_b ? without_a : without_b;
            }
        }
    }
}

/* Walks the textbook table and checks each pair of equal bytes against the answer. */
static void assert_textbook_path(struct span a, struct span b, const struct lcs_result *result) {
    fill_textbook_table(a, b);
    uint32_t left = textbook_table[a.length][b.length];
    assert_int_equal(result->length, left);
    size_t at = 0;
    uint32_t into = 0;
    for (size_t i = a.length, j = b.length; i > 0 && j > 0;) {
        if (a.data[i - 1] != b.data[j - 1]) {
            /* A match ends with the equal bytes: in the middle of one, bytes cannot differ. */
            assert_int_equal(into, 0);
            if (textbook_table[i - 1][j] > textbook_table[i][j - 1]) {
                i--;
            } else {
                j--;
            }
            continue;
        }
        assert_true(at < result->match_count);
        const struct lcs_match *match = &result->matches[at];
        assert_int_equal(match->a_last - into, i - 1);
        assert_int_equal(match->b_last - into, j - 1);
        assert_int_equal(result->text[--left], a.data[i - 1]);
        if (++into == lcs_match_length(match)) {
            assert_int_equal(match->b_last - match->b_first, match->a_last - match->a_first);
            at++;
            into = 0;
        }
        i--;
        j--;
    }
    assert_int_equal(at, result->match_count);
    assert_int_equal(into, 0);
    assert_int_equal(left, 0);
}

static size_t fill_text(char *text, long alphabet) {
    size_t length = (size_t)(lrand48() % (lrand48() % 2 ? FUZZ_LENGTH_MAX + 1 : 20));
    /* Long runs of one letter make the additions carry from word to word. */
    long run_max = lrand48() % 4 == 0 ? 150 : 1;
    for (size_t i = 0; i < length;) {
        char letter = (char)('a' + lrand48() % alphabet);
        for (long run = 1 + lrand48() % run_max; run > 0 && i < length; run--) text[i++] = letter;
    }
    return length;
}

static void random_strings_take_the_path_of_the_textbook(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    long seed = given != NULL ? atol(given) : (long)time(NULL);
    printf("TERRACE_TEST_SEED=%ld\n", seed);
    srand48(seed);
    static char a_text[FUZZ_LENGTH_MAX], b_text[FUZZ_LENGTH_MAX];
    for (int round = 0; round < 2000; round++) {
        long alphabet = 1 + lrand48() % 20;
        struct span a = span_of(a_text, fill_text(a_text, alphabet));
        struct span b = span_of(b_text, fill_text(b_text, alphabet));
        struct lcs_result result = compute(a, b, 0);
        assert_textbook_path(a, b, &result);
        lcs_free_result(&result);

        const struct lcs_request length_only = {.table_bytes_max = table_bytes_max};
        assert_int_equal(lcs_compute(a, b, &length_only, &result), LCS_OK);
        assert_int_equal(result.length, textbook_table[a.length][b.length]);
        lcs_free_result(&result);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(example_of_the_documentation_is_answered),
        cmocka_unit_test(nothing_in_common_is_an_empty_answer),
        cmocka_unit_test(table_of_redis_bounds_the_lengths),
        cmocka_unit_test(random_strings_take_the_path_of_the_textbook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
