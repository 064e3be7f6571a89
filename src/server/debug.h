#ifndef TERRACE_SERVER_DEBUG_H
#define TERRACE_SERVER_DEBUG_H

#include "command/command.h"
#include "command/session.h"

/* See struct command_host: whether this client may use DEBUG (enable-debug-command). NULL: it may. */
const char *debug_refuse(void *ctx, const struct session *session, const struct command *command);

/* DEBUG runs with all workers stopped and all shards locked. A subcommand that needs them at work steps out, and in
 * again before it returns. Not within a transaction. */
void debug_step_out(struct call *call);
void debug_step_in(struct call *call);

/* DEBUG RELOAD. */
void debug_reload(struct call *call);

#endif
