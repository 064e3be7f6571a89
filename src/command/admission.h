#ifndef TERRACE_COMMAND_ADMISSION_H
#define TERRACE_COMMAND_ADMISSION_H

/* Whether a request may run: that there is such a command, with so many arguments, for such a session (its password,
 * transaction, subscriptions), on a server in such a state (loading, a replica, out of memory, unable to keep what is
 * written). Pure questions; what becomes of a refused request is the dispatcher's.
 *
 * Threads: the worker's. */

#include "command/dispatch.h"

#define ADMISSION_LOADING "LOADING Redis is loading the dataset in memory"

enum { ADMISSION_REFUSAL_MAX = 512 }; /* an error text, with what of the arguments it quotes */

/* If it may not, `refusal` is the error. */
bool admission_ask(struct dispatcher *dispatcher, const struct session *session, const struct request *request,
                   char refusal[ADMISSION_REFUSAL_MAX]);

/* EXEC is no better than what was queued: whether the command has one of `flags`, or what it would run has ... */
bool admission_any_has(const struct session *session, const struct command *command, uint32_t flags);
/* ... and whether all of that has `flag`. */
bool admission_all_have(const struct session *session, const struct command *command, uint32_t flag);

static inline bool admission_needs_password(const struct command_host *host, const struct session *session) {
    return !session->authenticated &&
           !(host && atomic_load_explicit((atomic_bool *)(uintptr_t)&host->open_to_all, memory_order_relaxed));
}

static inline bool admission_is_loading(const struct command_host *host) {
    return host && atomic_load_explicit((atomic_bool *)(uintptr_t)&host->loading, memory_order_relaxed);
}

/* Nearly every command: nothing that admission_ask() would look at more closely. */
static inline bool admission_is_plain(const struct dispatcher *dispatcher, const struct session *session,
                                      const struct request *request) {
    const struct command *command = request->command;
    struct command_host *host = dispatcher->host;
    return command && command->handler && !command->subcommand_count && command_arity_fits(command, request->argc) &&
           !(command->flags & COMMAND_PROTECTED) && session->authenticated && !session->monitoring &&
           !session->transaction.open && !session->subscriptions && !dispatcher->no_memory && host &&
           !atomic_load_explicit(&host->out_of_memory, memory_order_relaxed) &&
           !atomic_load_explicit(&host->writes_refused, memory_order_acquire) &&
           !atomic_load_explicit(&host->is_replica, memory_order_relaxed) && !admission_is_loading(host);
}

#endif
