#ifndef TERRACE_SERVER_DEBUG_H
#define TERRACE_SERVER_DEBUG_H

#include "command/session.h"

/* See struct command_host: whether this client may use DEBUG (enable-debug-command). NULL: it may. */
const char *debug_refuse(void *ctx, const struct session *session, const struct command *command);

#endif
