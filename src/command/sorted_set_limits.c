/* Limits of ranges. Scores are read as strtod() reads them, which takes more than what ZADD does: leading blanks,
 * nothing at all (0), numbers too large (infinity); what follows a NUL byte is not seen. */

#include "command/sorted_set_limits.h"

#include <math.h>
#include <stdlib.h>

enum { LIMIT_TEXT_BYTES = 512 }; /* longer ones are refused: the smallest double has 1074 digits, nobody writes them */

static bool parse_score_limit(struct span text, double *score, bool *open) {
    char copy[LIMIT_TEXT_BYTES], *end;
    int64_t integer;
    *open = text.length > 0 && text.data[0] == '(';
    if (*open) text = span_of(text.data + 1, text.length - 1);
    if (text.length <= NUMBER_TEXT_MAX && number_parse_i64(text, &integer)) {
        *score = (double)integer;
        return true;
    }
    if (text.length >= sizeof(copy)) return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    *score = strtod(copy, &end);
    return *end == '\0' && !isnan(*score);
}

bool call_score_range(struct call *call, uint32_t min, uint32_t max, struct score_range *range) {
    if (parse_score_limit(call->argv[min], &range->min, &range->min_open) &&
        parse_score_limit(call->argv[max], &range->max, &range->max_open))
        return true;
    reply_error(call->reply, "ERR min or max is not a float");
    return false;
}

static bool parse_member_limit(struct span text, struct member_limit *limit) {
    char first = text.length ? text.data[0] : '\0';
    bool alone = text.length == 1 || (text.length > 1 && text.data[1] == '\0');
    if (first == '[' || first == '(') {
        limit->kind = first == '[' ? MEMBER_CLOSED : MEMBER_OPEN;
        limit->member = span_of(text.data + 1, text.length - 1);
        return true;
    }
    limit->kind = first == '-' ? MEMBER_LOWEST : MEMBER_HIGHEST;
    limit->member = span_of(NULL, 0);
    return alone && (first == '-' || first == '+');
}

bool call_member_range(struct call *call, uint32_t min, uint32_t max, struct member_range *range) {
    if (parse_member_limit(call->argv[min], &range->min) && parse_member_limit(call->argv[max], &range->max))
        return true;
    reply_error(call->reply, "ERR min or max not valid string range item");
    return false;
}
