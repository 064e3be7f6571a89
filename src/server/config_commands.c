/* CONFIG: the configuration as clients see and change it. What directives mean stands in config_table.c, what a
 * changed one does in config_apply.c; here are only arguments and replies. */

#include "command/session.h"
#include "server/families.h"
#include "server/server.h"

#include <stdlib.h>

/* ---- GET ---- */

struct listing {
    struct reply *reply;
    size_t count;
};

static void list_directive(void *ctx, struct span name, struct span value) {
    struct listing *listing = ctx;
    reply_bulk(listing->reply, name);
    reply_bulk(listing->reply, value);
    listing->count++;
}

/* The configuration stays as it is meanwhile: to change it, somebody would have to stop this worker. */
static void command_config_get(struct call *call) {
    struct listing listing = {.reply = call->reply};
    struct reply_aggregate map = reply_begin(call->reply);
    config_get(&server_of(call)->config, call->argv + 2, call->argc - 2, list_directive, &listing);
    reply_end(call->reply, map, '%', listing.count);
}

/* ---- SET ---- */

static void command_config_set(struct call *call) {
    size_t count = (call->argc - 2) / 2;
    if (call->argc % 2 != 0) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    struct config_pair *pairs = malloc(count * sizeof(*pairs));
    if (!pairs) {
        call_no_memory(call);
        return;
    }
    for (size_t i = 0; i < count; i++) pairs[i] = (struct config_pair){call->argv[2 + 2 * i], call->argv[3 + 2 * i]};
    const struct connection *connection = call->session->connection;
    struct config_set_options options = {.client_is_local = connection && connection->peer.is_loopback,
                                         .loading = loading_is_active(&server_of(call)->loading)};
    struct config_error error;
    if (config_set(&server_of(call)->config, pairs, count, &options, &error))
        reply_ok(call->reply);
    else
        reply_error(call->reply, error.text);
    free(pairs);
}

/* ---- REWRITE, RESETSTAT, HELP ---- */

/* Writing a file takes its time, so nobody is stopped for it; two workers writing it at once would be one too many. */
static void command_config_rewrite(struct call *call) {
    struct server *server = server_of(call);
    struct config_error error;
    pthread_mutex_lock(&server->rewrite_lock);
    bool written = config_rewrite(&server->config, &error);
    pthread_mutex_unlock(&server->rewrite_lock);
    if (written)
        reply_ok(call->reply);
    else
        reply_error(call->reply, error.text);
}

static void command_config_resetstat(struct call *call) {
    server_reset_statistics(server_of(call));
    reply_ok(call->reply);
}

static void command_config_help(struct call *call) {
    static const char *const lines[] = {
        "GET <pattern> [<pattern> ...]",
        "    Show the directives whose names match a glob, with their values.",
        "SET <directive> <value> [<directive> <value> ...]",
        "    Change directives, all of them or none.",
        "RESETSTAT",
        "    Set the counters that INFO shows back to zero.",
        "REWRITE",
        "    Bring the configuration file up to date.",
        NULL,
    };
    call_help(call, lines);
}

/* ---- the family ---- */

#define ADMIN_FLAGS (COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE)

static const struct command_spec config_subcommands[] = {
    {.name = "rewrite",
     .handler = command_config_rewrite,
     .arity = 2,
     .flags = ADMIN_FLAGS,
     .group = "server",
     .since = "2.8.0",
     .summary = "Brings the configuration file up to date",
     .complexity = "O(1)"},
    {.name = "resetstat",
     .handler = command_config_resetstat,
     .arity = 2,
     .flags = ADMIN_FLAGS | COMMAND_EXCLUSIVE,
     .group = "server",
     .since = "2.0.0",
     .summary = "Sets the counters of INFO back to zero",
     .complexity = "O(1)"},
    {.name = "help",
     .handler = command_config_help,
     .arity = 2,
     .flags = COMMAND_LOADING | COMMAND_STALE,
     .group = "server",
     .since = "5.0.0",
     .summary = "Explains the subcommands",
     .complexity = "O(1)"},
    {.name = "get",
     .handler = command_config_get,
     .arity = -3,
     .flags = ADMIN_FLAGS,
     .group = "server",
     .since = "2.0.0",
     .summary = "Directives and their values",
     .complexity = "O(N) when N is the number of configuration parameters provided",
     .arguments = "parameter{parameter}...",
     .history = "7.0.0 Takes several patterns"},
    {.name = "set",
     .handler = command_config_set,
     .arity = -4,
     .flags = ADMIN_FLAGS | COMMAND_EXCLUSIVE,
     .group = "server",
     .since = "2.0.0",
     .summary = "Changes directives while the server runs",
     .complexity = "O(N) when N is the number of configuration parameters provided",
     .arguments = "parameter_value{parameter value}...",
     .history = "7.0.0 Takes several directives, all or none of which are set",
     .tips = "request_policy:all_nodes response_policy:all_succeeded"},
};

const struct command_spec config_commands[] = {
    {.name = "config",
     .arity = -2,
     .group = "server",
     .since = "2.0.0",
     .summary = "Commands about the configuration",
     .complexity = "Depends on subcommand.",
     .subcommands = config_subcommands,
     .subcommand_count = sizeof(config_subcommands) / sizeof(config_subcommands[0])},
};
const unsigned config_command_count = sizeof(config_commands) / sizeof(config_commands[0]);
