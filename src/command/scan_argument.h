#ifndef TERRACE_COMMAND_SCAN_ARGUMENT_H
#define TERRACE_COMMAND_SCAN_ARGUMENT_H

/* The arguments of HSCAN, SSCAN and ZSCAN, and how far one step of them goes: key cursor [MATCH pattern] [COUNT count],
 * and a word for the bare names: HSCAN's NOVALUES, ZSCAN's NOSCORES (which came with Valkey 8). */

#include "base/glob.h"
#include "command/command.h"

struct scan_argument {
    uint64_t cursor;
    uint64_t want; /* COUNT: so many elements are looked at, unless the end comes first */
    struct span pattern;
    bool everything; /* the pattern is "*", or there is none */
    bool names_only;
};

/* Parses argument 2. False: an error is composed. */
bool scan_parse_cursor(struct call *call, struct scan_argument *scan) __attribute__((warn_unused_result));
/* Parses the options behind it, which Redis does only once it knows that there is such a key. `names_only` is the
 * word that asks for names only, in lower case; NULL: there is none. False: an error is composed. */
bool scan_parse_options(struct call *call, const char *names_only, struct scan_argument *scan)
    __attribute__((warn_unused_result));

static inline bool scan_shows(const struct scan_argument *scan, struct span element) {
    return scan->everything || glob_match(scan->pattern, element, GLOB_CASE_EXACT);
}

/* Replies with the next cursor, ahead of the elements. */
void scan_reply_cursor(struct call *call, uint64_t cursor);

/* How many elements a step over one page counts for that showed `met`. One that was not at hand, or empty, counts as
 * others do, so that a walk over cold pages asks for no more of them than it needs. */
static inline uint64_t scan_progress(uint64_t met, uint64_t elements, uint64_t pages) {
    uint64_t average = pages ? elements / pages : 0;
    if (met) return met;
    return average ? average : 1;
}

#endif
