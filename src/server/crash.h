#ifndef TERRACE_SERVER_CRASH_H
#define TERRACE_SERVER_CRASH_H

/* The last words of a server that crashes: which signal, where, and the calls that led there, in the log; then the
 * signal takes its course, so that the exit status and a core file are the true ones. */

#include <stdbool.h>

/* Before threads exist. Leaves signals alone that something else (a sanitizer) already handles. */
void crash_install(void);
/* Whether anything is written. Any thread. */
void crash_report(bool on);

/* Gives the calling thread a stack of its own for this, since its usual one may be what overflowed. The result is to be
 * passed to crash_drop_own_stack() by the same thread when it ends; NULL: no memory, and nothing to drop. */
void *crash_use_own_stack(void);
void crash_drop_own_stack(void *stack);

#endif
