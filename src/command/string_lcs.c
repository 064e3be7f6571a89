/* Strings: LCS, the longest common subsequence of two values. The computation is record/lcs.h's; here are the options,
 * the errors and the reply. */

#include "command/string_handlers.h"
#include "command/string_value.h"
#include "record/lcs.h"

#include <stdlib.h>

struct lcs_options {
    bool length_only;   /* LEN */
    bool matches;       /* IDX */
    bool match_lengths; /* WITHMATCHLEN */
    int64_t match_length_min;
};

/* False: the error is composed. */
static bool parse_options(struct call *call, struct lcs_options *options) {
    for (uint32_t i = 3; i < call->argc; i++) {
        if (call_is(call, i, "idx")) {
            options->matches = true;
        } else if (call_is(call, i, "len")) {
            options->length_only = true;
        } else if (call_is(call, i, "withmatchlen")) {
            options->match_lengths = true;
        } else if (call_is(call, i, "minmatchlen") && i + 1 < call->argc) {
            if (!call_integer(call, ++i, &options->match_length_min)) return false;
            if (options->match_length_min < 0) options->match_length_min = 0;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    if (!options->matches || !options->length_only) return true;
    reply_error(call->reply, "ERR If you want both the length and indexes, please just use IDX.");
    return false;
}

static void reply_range(struct reply *reply, uint32_t first, uint32_t last) {
    reply_array(reply, 2);
    reply_integer(reply, first);
    reply_integer(reply, last);
}

static void reply_matches(struct reply *reply, const struct lcs_result *result, bool with_lengths) {
    reply_map(reply, 2);
    reply_bulk_text(reply, "matches");
    reply_array(reply, result->match_count);
    for (size_t i = 0; i < result->match_count; i++) {
        const struct lcs_match *match = &result->matches[i];
        reply_array(reply, with_lengths ? 3 : 2);
        reply_range(reply, match->a_first, match->a_last);
        reply_range(reply, match->b_first, match->b_last);
        if (with_lengths) reply_integer(reply, lcs_match_length(match));
    }
    reply_bulk_text(reply, "len");
    reply_integer(reply, result->length);
}

static const char *error_text(enum lcs_status status) {
    switch (status) {
    case LCS_TOO_LONG: return "ERR String too long for LCS";
    case LCS_TABLE_TOO_LARGE: return "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
    case LCS_NO_MEMORY: return "ERR Insufficient memory, failed allocating transient memory for LCS";
    case LCS_OK: break;
    }
    return NULL;
}

/* The two values in one stretch each; those made of pages are copied to `copies`. The computation's own bound comes
 * first, so that a copy is no longer than what it allows. */
static enum lcs_status read_values(struct call *call, const struct lookup lookups[2], uint64_t table_bytes_max,
                                   char texts[2][NUMBER_TEXT_MAX], struct span values[2], char *copies[2]) {
    size_t lengths[2] = {0};
    for (int i = 0; i < 2; i++)
        if (lookups[i].record) lengths[i] = string_length(lookups[i].record);
    enum lcs_status fits = lcs_check_lengths(lengths[0], lengths[1], table_bytes_max);
    if (fits != LCS_OK) return fits;
    bool missing = false;
    for (int i = 0; i < 2; i++)
        if (!string_touch(call, &lookups[i])) missing = true;
    for (int i = 0; i < 2 && !missing; i++)
        if (lookups[i].record && string_whole(call, &lookups[i], texts[i], &values[i], &copies[i]) != PAGE_DONE)
            return LCS_NO_MEMORY;
    return missing ? LCS_NO_MEMORY : LCS_OK;
}

static void compute(struct call *call, const struct lcs_options *options, const struct span values[2]) {
    const struct lcs_request request = {.wants_text = !options->matches && !options->length_only,
                                        .wants_matches = options->matches,
                                        .match_length_min = (uint64_t)options->match_length_min,
                                        .table_bytes_max = string_length_max(call)};
    struct lcs_result result;
    enum lcs_status status = lcs_compute(values[0], values[1], &request, &result);
    if (status != LCS_OK)
        reply_error(call->reply, error_text(status));
    else if (options->matches)
        reply_matches(call->reply, &result, options->match_lengths);
    else if (options->length_only)
        reply_integer(call->reply, result.length);
    else
        reply_bulk(call->reply, span_of(result.text, result.length));
    if (status == LCS_OK) lcs_free_result(&result);
}

void command_lcs(struct call *call) {
    struct lcs_options options = {0};
    char texts[2][NUMBER_TEXT_MAX], *copies[2] = {NULL, NULL};
    struct span values[2] = {{"", 0}, {"", 0}};
    struct lookup lookups[2];
    /* Looking the second key up may remove it as expired, but moves no other record. */
    for (int i = 0; i < 2; i++) lookups[i] = keyspace_read(&call->view, &call->keys[i]);
    for (int i = 0; i < 2; i++) {
        if (!lookups[i].record || record_type(lookups[i].record) == RECORD_STRING) continue;
        reply_error(call->reply, "ERR The specified keys must contain string values");
        return;
    }
    if (!parse_options(call, &options)) return;
    /* What is replied while pages are missing does not matter. */
    enum lcs_status status = read_values(call, lookups, string_length_max(call), texts, values, copies);
    if (status == LCS_OK)
        compute(call, &options, values);
    else
        reply_error(call->reply, error_text(status));
    for (int i = 0; i < 2; i++) free(copies[i]);
}
