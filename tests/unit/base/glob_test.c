/* Glob matching: the corner cases as redis-server 7.0.15 answers them, a fuzz against a matcher that simply tries
 * everything, and patterns that would take such a matcher longer than the age of the universe. */

#include "base/glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static bool matches(const char *pattern, const char *text) {
    return glob_match(span_of_text(pattern), span_of_text(text), GLOB_CASE_EXACT);
}

static bool matches_without_case(const char *pattern, const char *text) {
    return glob_match(span_of_text(pattern), span_of_text(text), GLOB_CASE_IGNORED);
}

static void ordinary_patterns_match(void **state) {
    (void)state;
    assert_true(matches("*", "a"));
    assert_true(matches("h?llo", "hello"));
    assert_false(matches("h?llo", "hllo"));
    assert_true(matches("h*llo", "hllo"));
    assert_true(matches("h*llo", "heeeello"));
    assert_true(matches("h[ae]llo", "hallo"));
    assert_false(matches("h[ae]llo", "hillo"));
    assert_true(matches("h[^e]llo", "hallo"));
    assert_false(matches("h[^e]llo", "hello"));
    assert_true(matches("h[a-b]llo", "hbllo"));
    assert_true(matches("a\\*b", "a*b"));
    assert_false(matches("a\\*b", "axb"));
    assert_true(matches("*a*b*", "xxaxxbxx"));
    assert_false(matches("*a*b*", "xxbxxaxx"));
    assert_true(matches("user:*:name", "user:17:name"));
    assert_true(matches("abc***", "abc"));
    assert_false(matches("abc", "abcd"));
    assert_false(matches("abcd", "abc"));
}

static void corner_cases_are_those_of_redis(void **state) {
    (void)state;
    /* An empty text. */
    assert_true(matches("", ""));
    assert_true(glob_match(span_of(NULL, 0), span_of(NULL, 0), GLOB_CASE_EXACT));
    assert_false(matches("*", ""));
    assert_false(matches("**", ""));
    assert_false(matches("", "a"));
    /* Sets that are not closed, or are empty. */
    assert_true(matches("[abc", "b"));
    assert_false(matches("[abc", "d"));
    assert_false(matches("[", "a"));
    assert_true(matches("[^", "a"));
    assert_false(matches("[]", "a"));
    assert_true(matches("[^]", "a"));
    assert_false(matches("[]a]", "]a]"));
    /* Ranges: backwards, ending in ']', cut off by the end, and of bytes above 0x7f. */
    assert_true(matches("[z-a]", "m"));
    assert_true(matches("[a-]", "a"));
    assert_true(matches("[a-]", "^"));
    assert_true(matches("[a-", "-"));
    assert_true(matches("[\x80-a]", "\x90"));
    assert_true(matches("[\x80-a]", "B"));
    assert_false(matches("[\x80-a]", "b"));
    /* Escapes. */
    assert_true(matches("\\", "\\"));
    assert_true(matches("[\\]]", "]"));
    assert_true(matches("[\\-]", "-"));
    assert_true(matches("[a\\", "\\"));
    assert_true(matches("[\\^a]", "^"));
    assert_true(glob_match(SPAN_LITERAL("a?c"), SPAN_LITERAL("a\0c"), GLOB_CASE_EXACT));
}

static void case_is_ignored_when_asked(void **state) {
    (void)state;
    assert_false(matches("ABC", "abc"));
    assert_true(matches_without_case("ABC", "abc"));
    assert_true(matches_without_case("a?C*", "AbcD"));
    assert_true(matches_without_case("[A-C]", "b"));
    assert_true(matches_without_case("[xyz]", "Y"));
    assert_true(matches_without_case("\\A", "a"));
    assert_false(matches_without_case("[\\A]", "a"));
    assert_false(matches_without_case("[Z-a]", "z"));
    assert_false(matches_without_case("@", "`"));
    assert_false(matches_without_case("[", "{"));
}

/* Tries every length for every star. Elements are understood in another way than in glob.c: a set is first expanded
 * into the 256 bytes it holds. */
static size_t expand_set(const uint8_t *pattern, size_t length, bool ignore_case, bool holds[256]) {
    size_t at = 1;
    bool negated = at < length && pattern[at] == '^';
    if (negated) at++;
    memset(holds, 0, 256 * sizeof(bool));
    for (; at < length && pattern[at] != ']'; at++) {
        if (pattern[at] == '\\' && at + 1 < length) {
            holds[pattern[++at]] = true;
        } else if (at + 2 < length && pattern[at + 1] == '-') {
            int low = (int8_t)pattern[at], high = (int8_t)pattern[at + 2];
            if (low > high) {
                int other = low;
                low = high;
                high = other;
            }
            for (int c = -128; c < 128; c++) {
                int seen = c;
                int from = low, to = high;
                if (ignore_case) {
                    if (seen >= 'A' && seen <= 'Z') seen += 32;
                    if (from >= 'A' && from <= 'Z') from += 32;
                    if (to >= 'A' && to <= 'Z') to += 32;
                }
                if (seen >= from && seen <= to) holds[(uint8_t)c] = true;
            }
            at += 2;
        } else {
            uint8_t c = pattern[at];
            holds[c] = true;
            bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
            if (ignore_case && letter) holds[c ^ 0x20] = true;
        }
    }
    if (negated) {
        for (int c = 0; c < 256; c++) holds[c] = !holds[c];
    }
    return at < length ? at + 1 : at;
}

static bool match_naively(const uint8_t *pattern, size_t pattern_length, const uint8_t *text, size_t text_length,
                          bool ignore_case) {
    if (pattern_length == 0) return text_length == 0;
    if (pattern[0] == '*') {
        for (size_t skip = 0; skip <= text_length; skip++) {
            if (match_naively(pattern + 1, pattern_length - 1, text + skip, text_length - skip, ignore_case))
                return true;
        }
        return false;
    }
    if (text_length == 0) return false;
    bool holds[256];
    size_t used = 1;
    if (pattern[0] == '?') {
        memset(holds, 1, sizeof(holds));
    } else if (pattern[0] == '[') {
        used = expand_set(pattern, pattern_length, ignore_case, holds);
    } else {
        if (pattern[0] == '\\' && pattern_length > 1) used = 2;
        uint8_t c = pattern[used - 1];
        memset(holds, 0, sizeof(holds));
        holds[c] = true;
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (ignore_case && letter) holds[c ^ 0x20] = true;
    }
    return holds[text[0]] &&
           match_naively(pattern + used, pattern_length - used, text + 1, text_length - 1, ignore_case);
}

static void random_patterns_match_as_the_naive_matcher_says(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    long seed = given != NULL ? atol(given) : (long)time(NULL);
    printf("TERRACE_TEST_SEED=%ld\n", seed);
    srand48(seed);
    static const char pattern_bytes[] = "**??[[]]^^--\\abcABC\x80\xff";
    static const char text_bytes[] = "aabbccABC-]^\\*\x80\xff";
    size_t matched = 0;
    for (int round = 0; round < 400000; round++) {
        uint8_t pattern[12], text[8];
        size_t pattern_length = (size_t)(lrand48() % 12);
        size_t text_length = 1 + (size_t)(lrand48() % 8);
        for (size_t i = 0; i < pattern_length; i++) {
            pattern[i] = (uint8_t)pattern_bytes[lrand48() % (long)(sizeof(pattern_bytes) - 1)];
        }
        for (size_t i = 0; i < text_length; i++) {
            text[i] = (uint8_t)text_bytes[lrand48() % (long)(sizeof(text_bytes) - 1)];
        }
        for (int ignore_case = 0; ignore_case < 2; ignore_case++) {
            bool expected = match_naively(pattern, pattern_length, text, text_length, ignore_case);
            bool answer = glob_match(span_of(pattern, pattern_length), span_of(text, text_length),
                                     ignore_case ? GLOB_CASE_IGNORED : GLOB_CASE_EXACT);
            if (answer != expected) {
                fail_msg("pattern \"%.*s\" text \"%.*s\": %d", (int)pattern_length, pattern, (int)text_length, text,
                         answer);
            }
            matched += answer;
        }
    }
    assert_true(matched > 10000);
}

static void repeated_stars_take_no_exponential_time(void **state) {
    (void)state;
    const size_t length = 2 * GLOB_STARS_MAX;
    char pattern[2 * GLOB_STARS_MAX + 1], text[10001];
    for (size_t i = 0; i < length; i += 2) memcpy(pattern + i, "*?", 2);
    memset(text, 'a', 10000);
    assert_true(glob_match(span_of(pattern, length), span_of(text, 10000), GLOB_CASE_EXACT));
    pattern[length] = 'b';
    assert_false(glob_match(span_of(pattern, length + 1), span_of(text, 10000), GLOB_CASE_EXACT));
    for (size_t i = 0; i < length; i += 2) memcpy(pattern + i, "*a", 2);
    assert_false(glob_match(span_of(pattern, length + 1), span_of(text, 10000), GLOB_CASE_EXACT));
}

static void more_stars_than_redis_follows_match_nothing(void **state) {
    (void)state;
    const size_t length = 2 * (GLOB_STARS_MAX + 1);
    char pattern[2 * (GLOB_STARS_MAX + 1)], text[10001];
    for (size_t i = 0; i < length; i += 2) memcpy(pattern + i, "?*", 2);
    memset(text, 'a', 10000);
    /* The last star ends the pattern and needs no following. */
    assert_true(glob_match(span_of(pattern, length), span_of(text, 10000), GLOB_CASE_EXACT));
    for (size_t i = 0; i < length; i += 2) memcpy(pattern + i, "*?", 2);
    assert_false(glob_match(span_of(pattern, length), span_of(text, 10000), GLOB_CASE_EXACT));
}

static void literal_and_everything_are_recognised(void **state) {
    (void)state;
    assert_true(glob_is_everything(SPAN_LITERAL("*")));
    assert_false(glob_is_everything(SPAN_LITERAL("**")));
    assert_true(glob_is_literal(SPAN_LITERAL("maxmemory-policy]")));
    assert_false(glob_is_literal(SPAN_LITERAL("max*")));
    assert_false(glob_is_literal(SPAN_LITERAL("a?")));
    assert_false(glob_is_literal(SPAN_LITERAL("[a]")));
    assert_false(glob_is_literal(SPAN_LITERAL("\\a")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_patterns_match),
        cmocka_unit_test(corner_cases_are_those_of_redis),
        cmocka_unit_test(case_is_ignored_when_asked),
        cmocka_unit_test(random_patterns_match_as_the_naive_matcher_says),
        cmocka_unit_test(repeated_stars_take_no_exponential_time),
        cmocka_unit_test(more_stars_than_redis_follows_match_nothing),
        cmocka_unit_test(literal_and_everything_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
