#ifndef TERRACE_SERVER_DEBUG_H
#define TERRACE_SERVER_DEBUG_H

#include "command/command.h"
#include "command/session.h"

/* See struct command_host: whether this client may use DEBUG (enable-debug-command). NULL: it may. */
const char *debug_refuse(void *ctx, const struct session *session, const struct command *command);

/* DEBUG runs with all workers stopped and all shards locked. A subcommand that loads the dataset anew needs them at
 * work, and nobody else at the dataset: between these two, clients of all workers are told -LOADING, from the moment on
 * at which all stood still, so that nothing is acknowledged that what is loaded does not hold. False: something is
 * being loaded already, and nothing has changed. Not within a transaction. */
bool debug_begin_loading(struct call *call);
void debug_end_loading(struct call *call);

/* In between. */
void debug_flush_all(struct call *call);

/* DEBUG RELOAD. */
void debug_reload(struct call *call);

#endif
