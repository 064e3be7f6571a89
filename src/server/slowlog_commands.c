/* SLOWLOG. */

#include "server/families.h"
#include "server/server.h"

enum { ENTRIES_BY_DEFAULT = 10 };

static struct slowlog *slowlog_of(const struct call *call) {
    struct server *server = server_of(call);
    return &server->slowlog;
}

static void begin_entries(void *ctx, uint64_t count) {
    reply_array(ctx, count);
}

static void reply_entry(void *ctx, const struct slowlog_entry *entry) {
    struct reply *reply = ctx;
    reply_array(reply, 6);
    reply_integer(reply, entry->id);
    reply_integer(reply, entry->unix_seconds);
    reply_integer(reply, entry->duration_us);
    reply_array(reply, entry->argument_count);
    for (uint32_t i = 0; i < entry->argument_count; i++) reply_bulk(reply, entry->arguments[i]);
    reply_bulk(reply, entry->client_address);
    reply_bulk(reply, entry->client_name);
}

static void command_slowlog_get(struct call *call) {
    int64_t count = ENTRIES_BY_DEFAULT;
    if (call->argc > 3) {
        reply_error_format(call->reply, "ERR wrong number of arguments for '%s' command", call->command->full_name);
        return;
    }
    if (call->argc == 3 &&
        !call_integer_within(call, 2, -1, INT64_MAX, "ERR count should be greater than or equal to -1", &count))
        return;
    struct slowlog_reader reader = {begin_entries, reply_entry, call->reply};
    slowlog_read(slowlog_of(call), count < 0 ? UINT64_MAX : (uint64_t)count, &reader);
}

static void command_slowlog_len(struct call *call) {
    reply_integer(call->reply, (int64_t)slowlog_length(slowlog_of(call)));
}

static void command_slowlog_reset(struct call *call) {
    slowlog_reset(slowlog_of(call));
    reply_ok(call->reply);
}

static void command_slowlog_help(struct call *call) {
    static const char *const lines[] = {
        "GET [<count>]",
        "    The last <count> slow commands, newest first (default: 10; -1: all of them).",
        "    Of each: id, unix time, microseconds, arguments, client address, client name.",
        "LEN",
        "    How many there are.",
        "RESET",
        "    Forget them.",
        NULL,
    };
    call_help(call, lines);
}

#define ALWAYS (COMMAND_LOADING | COMMAND_STALE)

static const struct command_spec subcommands[] = {
    {.name = "get",
     .handler = command_slowlog_get,
     .arity = -2,
     .flags = ALWAYS | COMMAND_ADMIN,
     .group = "server",
     .since = "2.2.12",
     .summary = "The last slow commands",
     .complexity = "O(N), N entries returned",
     .arguments = "[count:i]",
     .history = "4.0.0 Entries tell the client's address and name.",
     .tips = "request_policy:all_nodes nondeterministic_output"},
    {.name = "len",
     .handler = command_slowlog_len,
     .arity = 2,
     .flags = ALWAYS | COMMAND_ADMIN,
     .group = "server",
     .since = "2.2.12",
     .summary = "How many slow commands are kept",
     .complexity = "O(1)",
     .tips = "request_policy:all_nodes response_policy:agg_sum nondeterministic_output"},
    {.name = "reset",
     .handler = command_slowlog_reset,
     .arity = 2,
     .flags = ALWAYS | COMMAND_ADMIN,
     .group = "server",
     .since = "2.2.12",
     .summary = "Forgets the slow commands",
     .complexity = "O(N), N entries",
     .tips = "request_policy:all_nodes response_policy:all_succeeded"},
    {.name = "help",
     .handler = command_slowlog_help,
     .arity = 2,
     .flags = ALWAYS,
     .group = "server",
     .since = "6.2.0",
     .summary = "What the subcommands do",
     .complexity = "O(1)"},
};

const struct command_spec slowlog_commands[] = {
    {.name = "slowlog",
     .arity = -2,
     .group = "server",
     .since = "2.2.12",
     .summary = "The log of slow commands",
     .complexity = "Depends on the subcommand",
     .subcommands = subcommands,
     .subcommand_count = sizeof(subcommands) / sizeof(subcommands[0])},
};
const unsigned slowlog_command_count = sizeof(slowlog_commands) / sizeof(slowlog_commands[0]);
