#ifndef TERRACE_COMMAND_RANDOM_COUNT_H
#define TERRACE_COMMAND_RANDOM_COUNT_H

/* The count of SRANDMEMBER and HRANDFIELD: positive for different elements, negative for ones that may repeat. */

#include "command/command.h"

struct random_count {
    uint64_t want;
    bool repeats;
};

/* Parses argument `index`. False: an error is composed. */
bool random_count_parse(struct call *call, uint32_t index, struct random_count *count)
    __attribute__((warn_unused_result));

/* Whether a reply of so many repeated elements may be composed: it is as long as the client likes. If not, the error is
 * composed; or, where its output limit would close the client, that is done now, without a reply. `bytes` is what one
 * of them takes, about. */
bool random_count_allow(struct call *call, uint64_t want, uint64_t bytes) __attribute__((warn_unused_result));

#endif
