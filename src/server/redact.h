#ifndef TERRACE_SERVER_REDACT_H
#define TERRACE_SERVER_REDACT_H

/* What MONITOR and SLOWLOG may show of a command's arguments: all but its secrets. */

#include "command/command.h"

/* Argument `index`, or "(redacted)" in place of a user name or password (AUTH, HELLO AUTH, MIGRATE AUTH) or of the
 * value of a secret directive (CONFIG SET requirepass). Pure, any thread; at most linear in `index`. */
struct span redact_argument(const struct call *call, uint32_t index);

#endif
