/* Glob matching that cannot blow up.
 *
 * A pattern is a row of elements. Every element but '*' matches exactly one byte, so a text can be walked with two
 * positions and one memory: where the last '*' stood and how much of the text it has swallowed. On a mismatch the last
 * '*' swallows one byte more and matching resumes behind it. Earlier stars need never be tried again: whatever the
 * elements between two stars matched first leaves the later star the most text to choose from. So there is no recursion
 * and the work is bounded by pattern length x text length, where trying all stars would be exponential.
 *
 * Redis compares bytes of a range as signed characters, as x86 has them; this is spelled out here so that the answer is
 * the same on machines whose characters are unsigned. */

#include "base/glob.h"

#include <stdint.h>

static inline int fold_case(int c, enum glob_case letters) {
    return letters == GLOB_CASE_IGNORED && c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static bool range_holds(signed char low, signed char high, signed char c, enum glob_case letters) {
    if (low > high) {
        signed char swapped = low;
        low = high;
        high = swapped;
    }
    /* The order is settled before the case is: [Z-a] without case is the empty range z-a, as in Redis. */
    int folded = fold_case(c, letters);
    return folded >= fold_case(low, letters) && folded <= fold_case(high, letters);
}

/* `*at` stands behind the '['; it is moved behind the set, whether `c` is in it or not. */
static bool match_set(const char **at, const char *end, char c, enum glob_case letters) {
    const char *p = *at;
    bool negated = p < end && *p == '^';
    p += negated;

    bool found = false;
    while (p < end && *p != ']') {
        if (*p == '\\' && end - p >= 2) {
            found |= p[1] == c;
            p += 2;
        } else if (end - p >= 3 && p[1] == '-') {
            /* The end of a range may be any byte, even ']'. */
            found |= range_holds((signed char)p[0], (signed char)p[2], (signed char)c, letters);
            p += 3;
        } else {
            found |= fold_case(*p, letters) == fold_case(c, letters);
            p++;
        }
    }
    *at = p < end ? p + 1 : p;
    return found != negated;
}

/* One element that is not '*'. `*at` is moved behind it, whether it matched or not. */
static bool match_one(const char **at, const char *end, char c, enum glob_case letters) {
    char element = *(*at)++;
    switch (element) {
    case '?': return true;
    case '[': return match_set(at, end, c, letters);
    case '\\':
        if (*at < end) element = *(*at)++;
        break;
    default: break;
    }
    return fold_case(element, letters) == fold_case(c, letters);
}

bool glob_match(struct span pattern, struct span text, enum glob_case letters) {
    if (pattern.length == 0 || text.length == 0) return pattern.length == text.length;

    const char *p = pattern.data;
    const char *pattern_end = p + pattern.length;
    const char *t = text.data;
    const char *text_end = t + text.length;
    const char *after_star = NULL;
    const char *star_text = NULL;
    unsigned stars = 0;

    while (t < text_end) {
        if (p < pattern_end && *p == '*') {
            while (p < pattern_end && *p == '*') p++;
            if (p == pattern_end) return true;
            if (++stars > GLOB_STARS_MAX) return false;
            after_star = p;
            star_text = t;
        } else if (p < pattern_end && match_one(&p, pattern_end, *t, letters)) {
            t++;
        } else {
            if (after_star == NULL) return false;
            p = after_star;
            t = ++star_text;
        }
    }
    while (p < pattern_end && *p == '*') p++;
    return p == pattern_end;
}
