#ifndef TERRACE_BASE_GLOB_H
#define TERRACE_BASE_GLOB_H

/* The glob patterns of KEYS, SCAN MATCH, CONFIG GET, PSUBSCRIBE and ACL:
 *
 *     *          any bytes, also none          ?          any one byte
 *     [abc]      one of these bytes            [^abc]     any one byte but these
 *     [a-z]      a byte of the range           \x         the byte x itself, also within [ ]
 *
 * The corner cases are those of Redis: a set that is not closed ends with the pattern, a range given backwards is
 * turned round, bytes from 0x80 on sort before 0x00 in a range, and an empty text matches the empty pattern only
 * (callers that list keys take "*" as no pattern at all, see glob_is_everything). A pattern that needs more than
 * GLOB_STARS_MAX stars before its last element matches nothing.
 *
 * Pure, any thread. Time is at most pattern length x text length, whatever the pattern. */

#include "base/span.h"

#include <stdbool.h>

/* Redis's protection against abusive patterns; here they cost no more than others, and only the answer is the same. */
#define GLOB_STARS_MAX 1000

enum glob_case { GLOB_CASE_EXACT, GLOB_CASE_IGNORED };

/* With GLOB_CASE_IGNORED, ASCII letters match in either case, except a letter escaped within a set. */
bool glob_match(struct span pattern, struct span text, enum glob_case letters);

/* The pattern "*", for which listing commands skip matching altogether. */
static inline bool glob_is_everything(struct span pattern) {
    return pattern.length == 1 && pattern.data[0] == '*';
}

/* No special byte at all: only one text can match, and it is the pattern itself (but for case). */
static inline bool glob_is_literal(struct span pattern) {
    for (size_t i = 0; i < pattern.length; i++) {
        char c = pattern.data[i];
        if (c == '*' || c == '?' || c == '[' || c == '\\') return false;
    }
    return true;
}

#endif
