/* BGREWRITEAOF. */

#include "server/aof.h"
#include "server/families.h"
#include "server/server.h"

static void command_bgrewriteaof(struct call *call) {
    if (!call->in_transaction) save_finish_flush(server_of(call), call->dispatcher->worker);
    switch (aof_rewrite_start(server_of(call), call->in_transaction)) {
    case AOF_REWRITE_STARTED: reply_simple(call->reply, "Background append only file rewriting started"); return;
    case AOF_REWRITE_SCHEDULED: reply_simple(call->reply, "Background append only file rewriting scheduled"); return;
    case AOF_REWRITE_BUSY:
        reply_error(call->reply, "ERR Background append only file rewriting already in progress");
        return;
    case AOF_REWRITE_FAILED: break;
    }
    reply_error(call->reply, "ERR Can't execute an AOF background rewriting. Please check the server logs for more "
                             "information.");
}

/* ---- declarations ---- */

const struct command_spec persistence_commands[] = {
    {.name = "bgrewriteaof",
     .handler = command_bgrewriteaof,
     .arity = 1,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_NO_ASYNC_LOADING,
     .group = "server",
     .since = "1.0.0",
     .summary = "Writes the append-only file anew in the background.",
     .complexity = "O(1)"},
};
const unsigned persistence_command_count = sizeof(persistence_commands) / sizeof(persistence_commands[0]);
