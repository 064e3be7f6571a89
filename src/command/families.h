#ifndef TERRACE_COMMAND_FAMILIES_H
#define TERRACE_COMMAND_FAMILIES_H

/* The families of commands that need nothing of the server: arguments and keyspace in, reply out. Each array stands
 * at the end of its family's file. The server adds its own families (src/server/). */

#include "command/command.h"

extern const struct command_spec string_commands[];
extern const unsigned string_command_count;
extern const struct command_spec transaction_commands[];
extern const unsigned transaction_command_count;

#endif
