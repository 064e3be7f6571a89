/* INFO. */

#include "server/families.h"
#include "server/info.h"
#include "server/server.h"

static void command_info(struct call *call) {
    struct text text = {0};
    info_write(server_of(call), &call->view, call->argv + 1, call->argc - 1, &text);
    reply_verbatim(call->reply, text_span(&text));
    text_free(&text);
}

const struct command_spec info_commands[] = {
    {.name = "info",
     .handler = command_info,
     .arity = -1,
     .flags = COMMAND_LOADING | COMMAND_STALE | COMMAND_WALKS,
     .categories = CATEGORY_DANGEROUS,
     .group = "server",
     .since = "1.0.0",
     .summary = "What the server is, does and uses, as text in sections",
     .complexity = "O(1)",
     .arguments = "[section...]",
     .history = "7.0.0 Several sections may be named.",
     .tips = "nondeterministic_output request_policy:all_shards response_policy:special"},
};
const unsigned info_command_count = sizeof(info_commands) / sizeof(info_commands[0]);
