/* Refusals and their texts: see admission.h. The order of the questions is Redis's, so that who would be refused for
 * two reasons is told the same one. */

#include "command/admission.h"

#include <stdio.h>
#include <string.h>

enum { ARGUMENTS_SHOWN = 128 /* bytes of arguments quoted by "unknown command" */ };

static void explain_unknown(const struct request *request, char refusal[ADMISSION_REFUSAL_MAX]) {
    char shown[ARGUMENTS_SHOWN + 64];
    size_t length = 0;
    for (uint32_t i = 1; i < request->argc && length < ARGUMENTS_SHOWN; i++) {
        size_t room = ARGUMENTS_SHOWN - length;
        length += (size_t)snprintf(shown + length, sizeof(shown) - length, "'%.*s' ",
                                   (int)(request->argv[i].length < room ? request->argv[i].length : room),
                                   request->argv[i].data);
    }
    shown[length] = '\0';
    snprintf(refusal, ADMISSION_REFUSAL_MAX, "ERR unknown command '%.*s', with args beginning with: %s",
             (int)(request->argv[0].length < 128 ? request->argv[0].length : 128), request->argv[0].data, shown);
}

static void explain_subcommand(const struct request *request, char refusal[ADMISSION_REFUSAL_MAX]) {
    char name[64];
    size_t length = strlen(request->command->spec->name);
    if (length >= sizeof(name)) length = sizeof(name) - 1;
    for (size_t i = 0; i < length; i++) name[i] = (char)(request->command->spec->name[i] & ~0x20);
    struct span subcommand = request->argv[1];
    snprintf(refusal, ADMISSION_REFUSAL_MAX, "ERR unknown subcommand '%.*s'. Try %.*s HELP.",
             (int)(subcommand.length < 128 ? subcommand.length : 128), subcommand.data, (int)length, name);
}

bool admission_any_has(const struct session *session, const struct command *command, uint32_t flags) {
    if (command->flags & flags) return true;
    return (command->flags & COMMAND_ENDS_TRANSACTION) && session->transaction.open &&
           (session->transaction.flags & flags);
}

bool admission_all_have(const struct session *session, const struct command *command, uint32_t flag) {
    if (!(command->flags & flag)) return false;
    return !(command->flags & COMMAND_ENDS_TRANSACTION) || !session->transaction.open ||
           !(session->transaction.lacks & flag);
}

#define ERROR_SUBSCRIBED                                                                                               \
    "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"

/* What is refused while nothing can be kept. PING is, too, so that those who watch the server by it take notice. */
static bool would_write(const struct session *session, const struct command *command) {
    return admission_any_has(session, command, COMMAND_WRITE) || strcmp(command->full_name, "ping") == 0;
}

static bool refuse_with(char refusal[ADMISSION_REFUSAL_MAX], const char *text) {
    snprintf(refusal, ADMISSION_REFUSAL_MAX, "%s", text);
    return false;
}

static bool is_refused_while_loading(struct command_host *host, const struct session *session,
                                     const struct command *command) {
    if (atomic_load_explicit(&host->loading_aside, memory_order_relaxed))
        return admission_any_has(session, command, COMMAND_NO_ASYNC_LOADING);
    return !admission_all_have(session, command, COMMAND_LOADING);
}

bool admission_ask(struct dispatcher *dispatcher, const struct session *session, const struct request *request,
                   char refusal[ADMISSION_REFUSAL_MAX]) {
    const struct command *command = request->command;
    struct command_host *host = dispatcher->host;
    if (!command) {
        explain_unknown(request, refusal);
        return false;
    }
    if (command->subcommand_count && request->argc >= 2) {
        explain_subcommand(request, refusal);
        return false;
    }
    if (!command->handler || !command_arity_fits(command, request->argc)) {
        snprintf(refusal, ADMISSION_REFUSAL_MAX, "ERR wrong number of arguments for '%s' command", command->full_name);
        return false;
    }
    if (host && (command->flags & COMMAND_PROTECTED) && host->refuse_protected) {
        const char *text = host->refuse_protected(host->ctx, session, command);
        if (text) return refuse_with(refusal, text);
    }
    if (!session->authenticated && !(command->flags & COMMAND_NO_AUTH) && admission_needs_password(host, session))
        return refuse_with(refusal, "NOAUTH Authentication required.");
    if (session->monitoring && (command->flags & (COMMAND_WRITE | COMMAND_READONLY | COMMAND_MAY_REPLICATE)))
        return refuse_with(refusal, "ERR Replica can't interact with the keyspace");
    if (session->transaction.open && (command->flags & COMMAND_NO_MULTI) && !(command->flags & COMMAND_CONTROL))
        return refuse_with(refusal, "ERR Command not allowed inside a transaction");
    if (session->subscriptions && session->protocol == 2 && !(command->flags & COMMAND_WHILE_SUBSCRIBED)) {
        snprintf(refusal, ADMISSION_REFUSAL_MAX, ERROR_SUBSCRIBED, command->full_name);
        return false;
    }
    if (host && !session->replaying && admission_any_has(session, command, COMMAND_DENYOOM) &&
        (dispatcher->no_memory || atomic_load_explicit(&host->out_of_memory, memory_order_relaxed)))
        return refuse_with(refusal, ERROR_NO_MEMORY);
    if (host && __builtin_expect(atomic_load_explicit(&host->writes_refused, memory_order_acquire), 0) &&
        !session->replaying && would_write(session, command)) {
        const char *text = host->why_refused(host->ctx, command);
        if (text) return refuse_with(refusal, text);
    }
    if (host && __builtin_expect(atomic_load_explicit(&host->is_replica, memory_order_relaxed), 0) &&
        !session->replaying) {
        const char *text = host->refuse_on_replica(host->ctx, session, command);
        if (text) return refuse_with(refusal, text);
    }
    if (__builtin_expect(admission_is_loading(host), 0) && !session->replaying &&
        is_refused_while_loading(host, session, command))
        return refuse_with(refusal, ADMISSION_LOADING);
    return true;
}
