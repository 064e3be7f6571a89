#ifndef TERRACE_COMMAND_SORTED_SET_LIMITS_H
#define TERRACE_COMMAND_SORTED_SET_LIMITS_H

/* The limits of ranges as clients write them: of scores "1.5", "(1.5", "-inf"; of members "[a", "(a", "-", "+". */

#include "command/command.h"
#include "keyspace/sorted_set_value.h"

/* Arguments `min` and `max`. False: the error is composed. The members' spans are those of the arguments. */
bool call_score_range(struct call *call, uint32_t min, uint32_t max, struct score_range *range)
    __attribute__((warn_unused_result));
bool call_member_range(struct call *call, uint32_t min, uint32_t max, struct member_range *range)
    __attribute__((warn_unused_result));

#endif
