/* Lists: LPOS, the positions of elements that are equal to one. */

#include "command/list_handlers.h"

#define ERROR_RANK_ZERO                                                                                                \
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start "     \
    "from "                                                                                                            \
    "the end of the list"
#define ERROR_RANK_RANGE "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"

struct lpos_options {
    int64_t rank, length_max;
    int64_t count; /* -1: not given, the reply is one position */
};

/* False: the error is composed. */
static bool parse_options(struct call *call, struct lpos_options *options) {
    for (uint32_t i = 3; i < call->argc; i += 2) {
        bool fine = i + 1 < call->argc;
        if (fine && call_is(call, i, "rank")) {
            if (!call_integer(call, i + 1, &options->rank)) return false;
            if (options->rank != 0 && options->rank != INT64_MIN) continue;
            reply_error(call->reply, options->rank ? ERROR_RANK_RANGE : ERROR_RANK_ZERO);
            return false;
        }
        if (fine && call_is(call, i, "count")) {
            if (!call_integer_within(call, i + 1, 0, INT64_MAX, "ERR COUNT can't be negative", &options->count))
                return false;
        } else if (fine && call_is(call, i, "maxlen")) {
            if (!call_integer_within(call, i + 1, 0, INT64_MAX, "ERR MAXLEN can't be negative", &options->length_max))
                return false;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

static void reply_position(void *ctx, uint64_t position) {
    reply_integer(ctx, (int64_t)position);
}

void command_lpos(struct call *call) {
    struct list_value list;
    struct lpos_options options = {.rank = 1, .count = -1};
    if (!parse_options(call, &options) || !list_expect(call, &call->keys[0], LIST_FOR_READ, &list)) return;
    bool backward = options.rank < 0;
    const struct list_search search = {.element = call->argv[2],
                                       .backward = backward,
                                       .skip = (uint64_t)(backward ? -options.rank : options.rank) - 1,
                                       .want = options.count == -1 ? 1 : (uint64_t)options.count,
                                       .compare = (uint64_t)options.length_max};
    if (options.count == -1) {
        if (!list_value_exists(&list) || list_value_search(&list, &search, reply_position, call->reply) == 0)
            reply_null(call->reply);
    } else if (!list_value_exists(&list)) {
        reply_array(call->reply, 0);
    } else {
        struct reply_aggregate array = reply_begin(call->reply);
        uint64_t found = list_value_search(&list, &search, reply_position, call->reply);
        reply_end(call->reply, array, '*', found);
    }
}
