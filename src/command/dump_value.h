#ifndef TERRACE_COMMAND_DUMP_VALUE_H
#define TERRACE_COMMAND_DUMP_VALUE_H

/* A value as DUMP gives it away and RESTORE takes it: for DUMP and MIGRATE. */

#include "command/command.h"
#include "persist/rdb_output.h"

/* Adds the payload of the key's value to `output`, which is empty. False: there was no memory, or pages have to be
 * waited for (view_misses()), or cannot be read. The lock of the key's shard is held; the lookup is of this moment. */
bool dump_value(struct call *call, const struct lookup *lookup, struct rdb_output *output)
    __attribute__((warn_unused_result));

#endif
