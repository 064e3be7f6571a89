/* See scan_argument.h. */

#include "command/scan_argument.h"

#include "base/number.h"

enum { SCAN_COUNT_DEFAULT = 10 };

bool scan_parse_cursor(struct call *call, struct scan_argument *scan) {
    *scan = (struct scan_argument){.want = SCAN_COUNT_DEFAULT, .everything = true};
    if (number_parse_cursor(call->argv[2], &scan->cursor)) return true;
    reply_error(call->reply, "ERR invalid cursor");
    return false;
}

/* False: an error is composed. */
static bool take_count(struct call *call, uint32_t index, struct scan_argument *scan) {
    int64_t count;
    if (!call_integer(call, index, &count)) return false;
    scan->want = (uint64_t)count;
    if (count < 1) reply_error(call->reply, ERROR_SYNTAX);
    return count >= 1;
}

bool scan_parse_options(struct call *call, const char *names_only, struct scan_argument *scan) {
    for (uint32_t i = 3; i < call->argc; i++) {
        bool has_value = i + 1 < call->argc;
        if (has_value && call_is(call, i, "count")) {
            if (!take_count(call, ++i, scan)) return false;
        } else if (has_value && call_is(call, i, "match")) {
            scan->pattern = call->argv[++i];
            scan->everything = glob_is_everything(scan->pattern);
        } else if (names_only && call_is(call, i, names_only)) {
            scan->names_only = true;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

void scan_reply_cursor(struct call *call, uint64_t cursor) {
    char text[NUMBER_TEXT_MAX];
    reply_array(call->reply, 2);
    reply_bulk(call->reply, span_of(text, number_format_u64(cursor, text)));
}
