#ifndef TERRACE_TESTS_SUPPORT_BLOCKING_FAMILY_H
#define TERRACE_TESTS_SUPPORT_BLOCKING_FAMILY_H

/* Commands for testing what blocks, over queues that are records of the type list with items as text, each ended by a
 * comma:
 *
 *   TPUSH key item...             appends; replies how many items there are
 *   TBPOP key... timeout          takes the first item of the first key that has one: [key, item]
 *   TBMOVE source target timeout  moves the first item to the end of the other; replies it
 *   TAFTER key count|$ timeout    waits until there are more items than this, $: than there are; replies how many
 *   TGROUP key timeout            waits until the key is gone or is no queue, which is an error */

#include "command/command.h"

extern const struct command_spec blocking_family[];
extern const unsigned blocking_family_count;

#endif
