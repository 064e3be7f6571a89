/* Commands on whole databases: SELECT, SWAPDB, DBSIZE, FLUSHDB, FLUSHALL.
 *
 * Flushing and swapping only exchange one pointer per shard, so they take every lock for a moment and no client ever
 * sees half of it; what was flushed is freed afterwards, in slices, whether ASYNC or SYNC was asked for. */

#include "command/database_argument.h"
#include "command/dispatch.h"
#include "command/effect.h"
#include "command/families.h"
#include "command/session.h"

static void command_select(struct call *call) {
    uint32_t database;
    if (!database_argument(call, 1, &database)) return;
    call->session->database = database;
    reply_ok(call->reply);
}

static void command_swapdb(struct call *call) {
    int64_t first, second;
    if (!call_integer_within(call, 1, INT32_MIN, INT32_MAX, "ERR invalid first DB index", &first)) return;
    if (!call_integer_within(call, 2, INT32_MIN, INT32_MAX, "ERR invalid second DB index", &second)) return;
    if (!database_exists(call, first) || !database_exists(call, second)) return;
    if (first != second) {
        keyspace_swap_databases(&call->view, (uint32_t)first, (uint32_t)second);
        call_effect_force(call);
    }
    reply_ok(call->reply);
}

static void command_dbsize(struct call *call) {
    reply_integer(call->reply, (int64_t)keyspace_database_size(&call->view));
}

/* Both modes are accepted and mean the same here. */
static bool flush_mode(struct call *call) {
    if (call->argc == 1 || (call->argc == 2 && (call_is(call, 1, "async") || call_is(call, 1, "sync")))) return true;
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

static void command_flushdb(struct call *call) {
    if (!flush_mode(call)) return;
    keyspace_flush(&call->view);
    keyspace_tell(call->view.keyspace, KEYSPACE_FLUSHED, span_of("", 0), call->view.database, call->view.client);
    call_effect_force(call);
    reply_ok(call->reply);
}

static void command_flushall(struct call *call) {
    if (!flush_mode(call)) return;
    for (uint32_t database = 0; database < call->view.keyspace->database_count; database++) {
        struct view view = database_view(call, database);
        keyspace_flush(&view);
    }
    keyspace_tell(call->view.keyspace, KEYSPACE_FLUSHED, span_of("", 0), call->view.database, call->view.client);
    const struct command_host *host = call->dispatcher->host;
    if (host && host->flushed) host->flushed(host->ctx);
    call_effect_force(call);
    reply_ok(call->reply);
}

#define FLUSH_ARGUMENTS "[async(ASYNC@4.0.0|SYNC@6.2.0)]"
#define FLUSH_HISTORY   "4.0.0 ASYNC was added.\n6.2.0 SYNC was added."
#define FLUSH_TIPS      "request_policy:all_shards response_policy:all_succeeded"

const struct command_spec database_commands[] = {
    {.name = "select",
     .handler = command_select,
     .arity = 2,
     .flags = COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST,
     .categories = CATEGORY_CONNECTION,
     .group = "connection",
     .since = "1.0.0",
     .summary = "Chooses the database that this connection's next commands work on",
     .complexity = "O(1)",
     .arguments = "index:i"},
    {.name = "swapdb",
     .handler = command_swapdb,
     .arity = 3,
     .flags = COMMAND_WRITE | COMMAND_FAST | COMMAND_ALL_SHARDS,
     .categories = CATEGORY_KEYSPACE | CATEGORY_DANGEROUS,
     .group = "server",
     .since = "4.0.0",
     .summary = "Exchanges the contents of two databases",
     .complexity = "O(N), N watched keys of both databases",
     .arguments = "index1:i index2:i"},
    {.name = "dbsize",
     .handler = command_dbsize,
     .arity = 1,
     .flags = COMMAND_READONLY | COMMAND_FAST | COMMAND_WALKS,
     .categories = CATEGORY_KEYSPACE,
     .group = "server",
     .since = "1.0.0",
     .summary = "How many keys the selected database holds",
     .complexity = "O(1)",
     .tips = "request_policy:all_shards response_policy:agg_sum"},
    {.name = "flushdb",
     .handler = command_flushdb,
     .arity = -1,
     .flags = COMMAND_WRITE | COMMAND_ALL_SHARDS,
     .categories = CATEGORY_KEYSPACE | CATEGORY_DANGEROUS,
     .group = "server",
     .since = "1.0.0",
     .summary = "Removes every key of the selected database",
     .complexity = "O(1); the memory of N keys is freed afterwards in O(N)",
     .arguments = FLUSH_ARGUMENTS,
     .history = FLUSH_HISTORY,
     .tips = FLUSH_TIPS},
    {.name = "flushall",
     .handler = command_flushall,
     .arity = -1,
     .flags = COMMAND_WRITE | COMMAND_ALL_SHARDS,
     .categories = CATEGORY_KEYSPACE | CATEGORY_DANGEROUS,
     .group = "server",
     .since = "1.0.0",
     .summary = "Removes every key of every database",
     .complexity = "O(1); the memory of N keys is freed afterwards in O(N)",
     .arguments = FLUSH_ARGUMENTS,
     .history = FLUSH_HISTORY,
     .tips = FLUSH_TIPS},
};
const unsigned database_command_count = sizeof(database_commands) / sizeof(database_commands[0]);
