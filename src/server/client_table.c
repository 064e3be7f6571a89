/* The rows of CLIENT and its subcommands. */

#include "server/client_handlers.h"
#include "server/families.h"

#define OWN_FLAGS   (COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE)
#define ADMIN_FLAGS (OWN_FLAGS | COMMAND_ADMIN)

#define SUBCOMMAND(name_, handler_, arity_, flags_, since_, summary_, complexity_, ...)                                \
    {                                                                                                                  \
        .name = name_, .handler = handler_, .arity = arity_, .flags = flags_, .categories = CATEGORY_CONNECTION,       \
        .group = "connection", .since = since_, .summary = summary_, .complexity = complexity_, __VA_ARGS__            \
    }

static const struct command_spec client_subcommands[] = {
    SUBCOMMAND("pause", client_pause, -3, ADMIN_FLAGS | COMMAND_EXCLUSIVE, "2.9.50",
               "Lets commands of all clients wait for a time", "O(1)", .arguments = "timeout:i [mode(WRITE|ALL)@6.2.0]",
               .history = "6.2.0 A mode, in which only commands that write wait"),
    SUBCOMMAND("reply", client_reply, 3, OWN_FLAGS, "3.2.0", "Which commands of this connection are answered", "O(1)",
               .arguments = "on_off_skip(ON|OFF|SKIP)"),
    SUBCOMMAND("tracking", client_tracking, -3, OWN_FLAGS | COMMAND_EXCLUSIVE, "6.0.0",
               "Whether this connection is told when keys that it has read change",
               "O(1). Some options may introduce additional complexity.",
               .arguments = "status(ON|OFF) [REDIRECT client-id:i] [PREFIX prefix...*] [BCAST] [OPTIN] [OPTOUT] "
                            "[NOLOOP]"),
    SUBCOMMAND("caching", client_caching, 3, OWN_FLAGS, "6.0.0", "Whether what the next command reads is tracked",
               "O(1)", .arguments = "mode(YES|NO)"),
    SUBCOMMAND("trackinginfo", client_trackinginfo, 2, OWN_FLAGS, "6.2.0", "How this connection tracks keys", "O(1)",
               .history = NULL),
    SUBCOMMAND("getredir", client_getredir, 2, OWN_FLAGS, "6.0.0",
               "The connection that gets this one's invalidation messages", "O(1)"),
    SUBCOMMAND("kill", client_kill, -3, ADMIN_FLAGS | COMMAND_EXCLUSIVE, "2.4.0", "Closes connections",
               "O(N) where N is the number of client connections",
               .arguments =
                   "filter(ip:port!2.8.12|new-format([ID client-id:i@2.8.12]|"
                   "[TYPE normal_master_slave_pubsub(NORMAL|MASTER@3.2.0|SLAVE|REPLICA@5.0.0|PUBSUB)@2.8.12]|"
                   "[USER username]|[ADDR ip:port]|[LADDR ip:port@6.2.0]|[SKIPME yes/no]|[MAXAGE maxage:i@7.4.0])...)",
               .history = "2.8.12 Filters as pairs of words\n2.8.12 The filter `ID`\n3.2.0 The class `master`\n"
                          "5.0.0 `replica` instead of `slave`, which is still understood\n6.2.0 The filter "
                          "`LADDR`\n7.4.0 The filter `MAXAGE`"),
    SUBCOMMAND("getname", client_getname, 2, OWN_FLAGS, "2.6.9", "The name of this connection", "O(1)"),
    SUBCOMMAND("id", client_id, 2, OWN_FLAGS, "5.0.0", "The number of this connection", "O(1)"),
    SUBCOMMAND("list", client_list, -2, ADMIN_FLAGS | COMMAND_EXCLUSIVE, "2.4.0", "One line for each connection",
               "O(N) where N is the number of client connections",
               .arguments = "[TYPE normal_master_replica_pubsub(NORMAL|MASTER|REPLICA|PUBSUB)@5.0.0] "
                            "[ID id{client-id:i...}@6.2.0]",
               .history = "2.8.12 The field `id`\n5.0.0 Picks a class\n6.0.0 The field `user`\n"
                          "6.2.0 The fields `argv-mem`, `tot-mem`, `laddr` and `redir`; picks by number\n"
                          "7.0.0 The fields `resp`, `multi-mem`, `rbs` and `rbp`\n7.0.3 The field `ssub`",
               .tips = "nondeterministic_output"),
    SUBCOMMAND("unblock", client_unblock, -3, ADMIN_FLAGS | COMMAND_EXCLUSIVE, "5.0.0",
               "Ends the wait of a blocked client", "O(log N) where N is the number of client connections",
               .arguments = "client-id:i [unblock-type(TIMEOUT|ERROR)]"),
    SUBCOMMAND("unpause", client_unpause, 2, ADMIN_FLAGS | COMMAND_EXCLUSIVE, "6.2.0", "Ends a pause",
               "O(N) Where N is the number of paused clients"),
    SUBCOMMAND("info", client_info, 2, OWN_FLAGS, "6.2.0", "This connection's line of the list", "O(1)",
               .tips = "nondeterministic_output"),
    SUBCOMMAND("setname", client_setname, 3, OWN_FLAGS, "2.6.9", "Names this connection", "O(1)",
               .arguments = "connection-name"),
    SUBCOMMAND("help", client_help, 2, COMMAND_LOADING | COMMAND_STALE, "5.0.0", "Explains the subcommands", "O(1)"),
    SUBCOMMAND("no-evict", client_no_evict, 3, ADMIN_FLAGS, "7.0.0",
               "Whether this connection survives when clients use too much memory", "O(1)",
               .arguments = "enabled(ON|OFF)"),
    SUBCOMMAND("no-touch", client_no_touch, 3, OWN_FLAGS, "7.2.0", "Whether what this connection reads counts as used",
               "O(1)", .arguments = "enabled(ON|OFF)"),
    SUBCOMMAND("setinfo", client_setinfo, 4, OWN_FLAGS, "7.2.0", "Tells which client library this is", "O(1)",
               .arguments = "attr(LIB-NAME libname|LIB-VER libver)",
               .tips = "request_policy:all_nodes response_policy:all_succeeded"),
};

const struct command_spec client_commands[] = {
    {.name = "client",
     .arity = -2,
     .group = "connection",
     .since = "2.4.0",
     .summary = "Commands about connections",
     .complexity = "Depends on subcommand.",
     .subcommands = client_subcommands,
     .subcommand_count = sizeof(client_subcommands) / sizeof(client_subcommands[0])},
};
const unsigned client_command_count = sizeof(client_commands) / sizeof(client_commands[0]);
