/* Commands about the server as a whole: TIME, ROLE, SHUTDOWN. LOLWUT draws in lolwut.c. */

#include "base/clock.h"
#include "command/blocked.h"
#include "command/session.h"
#include "server/families.h"
#include "server/lolwut.h"
#include "server/server.h"
#include "server/shutdown.h"

static void command_time(struct call *call) {
    int64_t now_us = clock_unix_us();
    reply_array(call->reply, 2);
    reply_bulk_integer(call->reply, now_us / 1000000);
    reply_bulk_integer(call->reply, now_us % 1000000);
}

static void command_role(struct call *call) {
    replication_role(server_of(call), call->reply);
}

/* ---- SHUTDOWN ---- */

static const struct {
    const char *word;
    int option;
} shutdown_words[] = {{"save", CONFIG_SHUTDOWN_SAVE},
                      {"nosave", CONFIG_SHUTDOWN_NOSAVE},
                      {"now", CONFIG_SHUTDOWN_NOW},
                      {"force", CONFIG_SHUTDOWN_FORCE}};

static bool shutdown_options(const struct call *call, int *options, bool *abort) {
    *options = 0;
    *abort = false;
    for (uint32_t i = 1; i < call->argc; i++) {
        int option = 0;
        for (unsigned w = 0; w < sizeof(shutdown_words) / sizeof(shutdown_words[0]); w++)
            if (call_is(call, i, shutdown_words[w].word)) option = shutdown_words[w].option;
        *options |= option;
        if (option) continue;
        if (!call_is(call, i, "abort")) return false;
        *abort = true;
    }
    bool both = (*options & CONFIG_SHUTDOWN_SAVE) && (*options & CONFIG_SHUTDOWN_NOSAVE);
    return !both && !(*abort && *options);
}

static void it_goes_on(const struct blocked *blocked, struct reply *reply) {
    (void)blocked;
    reply_error(reply, "ERR Errors trying to SHUTDOWN. Check logs.");
}

static void carry_out(struct call *call, int options) {
    struct server *server = server_of(call);
    switch (shutdown_begin(server, call->dispatcher->worker, options)) {
    case SHUTDOWN_ENDS: call->session->closing = true; break;
    case SHUTDOWN_FAILED: it_goes_on(NULL, call->reply); break;
    case SHUTDOWN_WAITS:
        if (!call_block(call, NULL, 0, 0, BLOCKED_ON_END))
            reply_ok(call->reply); /* nobody waits for the end of it */
        else if (call->blocks)
            call->session->blocked->time_is_over = it_goes_on;
    }
}

static void command_shutdown(struct call *call) {
    struct server *server = server_of(call);
    int options;
    bool abort;
    if (!shutdown_options(call, &options, &abort)) {
        reply_error(call->reply, ERROR_SYNTAX);
    } else if (abort && shutdown_abort(server, call->dispatcher->worker)) {
        reply_ok(call->reply);
    } else if (abort) {
        reply_error(call->reply, "ERR No shutdown in progress.");
    } else {
        carry_out(call, options);
    }
}

/* ---- LOLWUT ---- */

static void command_lolwut(struct call *call) {
    int64_t ignored;
    if (call->argc >= 3 && call_is(call, 1, "version") && !call_integer(call, 2, &ignored)) return;
    struct text text = {0};
    lolwut_draw(&text, dispatcher_random(call->dispatcher));
    reply_verbatim(call->reply, text_span(&text));
    text_free(&text);
}

#define ALWAYS (COMMAND_LOADING | COMMAND_STALE)

const struct command_spec server_commands[] = {
    {.name = "time",
     .handler = command_time,
     .arity = 1,
     .flags = ALWAYS | COMMAND_FAST,
     .group = "server",
     .since = "2.6.0",
     .summary = "The server's clock: seconds and microseconds since 1970",
     .complexity = "O(1)",
     .tips = "nondeterministic_output"},
    {.name = "role",
     .handler = command_role,
     .arity = 1,
     .flags = ALWAYS | COMMAND_NOSCRIPT | COMMAND_FAST,
     .categories = CATEGORY_ADMIN | CATEGORY_DANGEROUS,
     .group = "server",
     .since = "2.8.12",
     .summary = "Whether this is a primary or a replica, and of what",
     .complexity = "O(1)"},
    {.name = "shutdown",
     .handler = command_shutdown,
     .arity = -1,
     .flags = ALWAYS | COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_NO_MULTI | COMMAND_ALLOW_BUSY,
     .group = "server",
     .since = "1.0.0",
     .summary = "Ends the server",
     .complexity = "O(1); O(N) with a snapshot of N keys",
     .arguments = "[nosave_save(NOSAVE|SAVE)] [NOW@7.0.0] [FORCE@7.0.0] [ABORT@7.0.0]",
     .history = "7.0.0 NOW, FORCE and ABORT were added."},
    {.name = "lolwut",
     .handler = command_lolwut,
     .arity = -1,
     .flags = COMMAND_READONLY | COMMAND_FAST,
     .group = "server",
     .since = "5.0.0",
     .summary = "Draws a terraced hill and tells the version",
     .arguments = "[VERSION version:i]"},
};
const unsigned server_command_count = sizeof(server_commands) / sizeof(server_commands[0]);
