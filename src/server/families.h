#ifndef TERRACE_SERVER_FAMILIES_H
#define TERRACE_SERVER_FAMILIES_H

/* The families of commands that need the server itself: call->dispatcher->host->ctx is the struct server. */

#include "command/command.h"

extern const struct command_spec connection_commands[];
extern const unsigned connection_command_count;

#endif
