/* Commands about the connection itself. */

#include "command/session.h"
#include "server/families.h"
#include "server/server.h"

static void command_ping(struct call *call) {
    if (call->argc > 2) {
        reply_error_format(call->reply, "ERR wrong number of arguments for '%s' command", call->command->full_name);
    } else if (call->argc == 2) {
        reply_bulk(call->reply, call->argv[1]);
    } else {
        reply_raw(call->reply, "+PONG\r\n", 7);
    }
}

const struct command_spec connection_commands[] = {
    {.name = "ping", .handler = command_ping, .arity = -1, .flags = COMMAND_FAST, .categories = CATEGORY_CONNECTION,
     .group = "connection", .since = "1.0.0", .summary = "Answers PONG, or the given message", .complexity = "O(1)",
     .arguments = "[message:s]", .tips = "request_policy:all_shards response_policy:all_succeeded"},
};
const unsigned connection_command_count = sizeof(connection_commands) / sizeof(connection_commands[0]);
