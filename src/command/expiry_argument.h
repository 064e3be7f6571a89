#ifndef TERRACE_COMMAND_EXPIRY_ARGUMENT_H
#define TERRACE_COMMAND_EXPIRY_ARGUMENT_H

/* Expiry times as arguments: EX, PX, EXAT and PXAT of SET and GETEX, the time of SETEX and PSETEX, and the times of the
 * EXPIRE commands. All of them have the same rules of overflow and the same error text.
 *
 * A record holds 48 bits of milliseconds: times behind the year 10889 are accepted and kept as that year's. */

#include "command/command.h"

/* How an expiry time is written. All zero: seconds from now. */
struct expiry_form {
    bool milliseconds;
    bool absolute; /* since 1970 instead of since now */
};

/* Whether `word` is EX, PX, EXAT or PXAT, in any case; *form is what it means. */
bool expiry_form_parse(struct span word, struct expiry_form *form);

enum expiry_past {
    /* SET, GETEX, SETEX: a time of 0 or less is an error; an absolute time that has passed is not. */
    EXPIRY_POSITIVE,
    /* EXPIRE and its kin: any time will do; a negative one lies in the past. */
    EXPIRY_ANY,
};

/* Parses argument `index`. *expiry_ms is unix milliseconds, at most RECORD_EXPIRY_MAX; it may have passed already
 * (expiry_has_passed()), and is negative only if EXPIRY_ANY. False: an error is composed, ERROR_NOT_INTEGER or "ERR
 * invalid expire time in 'name' command". */
bool expiry_argument_parse(struct call *call, uint32_t index, struct expiry_form form, enum expiry_past past,
                           int64_t *expiry_ms) __attribute__((warn_unused_result));

static inline bool expiry_has_passed(const struct call *call, int64_t expiry_ms) {
    return expiry_ms <= view_expiry_ms(&call->view);
}

#endif
