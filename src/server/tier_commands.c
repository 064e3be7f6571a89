/* TIER: for operators. STATS shows INFO tier as a map, DEMOTE moves keys out of memory now, COMPACT cleans whatever has
 * dead space. */

#include "base/clock.h"
#include "base/number.h"
#include "server/families.h"
#include "server/info.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/tier_work.h"

#define ERROR_NO_TIER "ERR there is no tier; set tier-path"

enum { DEMOTE_SLICE_NS = 100000, DEMOTE_REST_MS = 1 };

static bool has_tier(struct call *call) {
    if (server_of(call)->tier) return true;
    reply_error(call->reply, ERROR_NO_TIER);
    return false;
}

/* `name:value` lines become pairs; a figure is an integer where it is one. */
static void reply_lines(struct reply *reply, struct span lines) {
    struct reply_aggregate aggregate = reply_begin(reply);
    size_t pairs = 0;
    const char *at = lines.data, *end = at + lines.length;
    while (at < end) {
        const char *line_end = memchr(at, '\r', (size_t)(end - at));
        const char *colon = line_end ? memchr(at, ':', (size_t)(line_end - at)) : NULL;
        if (!line_end) break;
        if (colon) {
            struct span value = span_of(colon + 1, (size_t)(line_end - colon - 1));
            int64_t integer;
            reply_bulk(reply, span_of(at, (size_t)(colon - at)));
            if (number_parse_i64(value, &integer))
                reply_integer(reply, integer);
            else
                reply_bulk(reply, value);
            pairs++;
        }
        at = line_end + 2;
    }
    reply_end(reply, aggregate, '%', pairs);
}

static void command_tier_stats(struct call *call) {
    struct server *server = server_of(call);
    struct metrics_memory memory;
    struct metrics_totals totals;
    struct text text = {0};
    metrics_memory(server, &call->view, &memory);
    metrics_sum(server, &totals);
    struct info_source source = {server, &call->view, &memory, &totals};
    info_tier(&source, &text);
    reply_lines(call->reply, text_span(&text));
    text_free(&text);
}

/* A slice of the pattern's demotion. True: the end, and the reply is composed. Busy is the tier until a write has
 * ended, or a checkpoint, for which all workers have to be free for a moment, has set segments free. */
static bool demote_slice(struct call *call) {
    struct keyspace *keyspace = call->view.keyspace;
    struct session *session = call->session;
    uint64_t start = clock_ticks();
    while (session->demotion.shard < keyspace->shard_count) {
        enum demotion_status status;
        session->demotion.moved += (int64_t)keyspace_demote_matching(
            keyspace, session->demotion.shard, call->view.database, call->dispatcher->port, call->argv[2],
            DEMOTE_SLICE_NS, &session->demotion.position, &status);
        if (status == DEMOTION_FULL) {
            reply_error_format(call->reply, "ERR the tier is full; %lld keys were moved",
                               (long long)session->demotion.moved);
            return true;
        }
        if (session->demotion.position == 0) session->demotion.shard++;
        call->rest_ms = status == DEMOTION_BUSY ? DEMOTE_REST_MS : 0;
        if (status == DEMOTION_BUSY || clock_elapsed_ns(start) > DEMOTE_SLICE_NS) return false;
    }
    reply_integer(call->reply, session->demotion.moved);
    return true;
}

/* Shard by shard, in slices between which others are served. */
static void command_tier_demote(struct call *call) {
    struct session *session = call->session;
    if (!has_tier(call)) return;
    if (session->demotion.command != session->commands) {
        session->demotion.command = session->commands;
        session->demotion.shard = 0;
        session->demotion.position = 0;
        session->demotion.moved = 0;
    }
    bool done;
    while (!(done = demote_slice(call)) && !call->may_pause)
        if (call->rest_ms) tier_port_wait(call->dispatcher->port);
    call->unfinished = !done;
}

static void command_tier_compact(struct call *call) {
    struct server *server = server_of(call);
    if (!has_tier(call)) return;
    for (unsigned i = 0; i < server->worker_count; i++) server->workers[i]->tier_work.compacting = true;
    reply_simple(call->reply, "Background compaction of the tier started");
}

static void command_tier_help(struct call *call) {
    static const char *const lines[] = {
        "COMPACT",
        "    Rewrite, in the background, segments of the tier that have dead space.",
        "DEMOTE <pattern>",
        "    Move the keys that match <pattern> from memory to the tier; replies how many.",
        "STATS",
        "    The figures of INFO tier.",
        NULL,
    };
    call_help(call, lines);
}

static const struct command_spec tier_subcommands[] = {
    {.name = "compact",
     .handler = command_tier_compact,
     .arity = 2,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_EXCLUSIVE,
     .group = "server",
     .since = "7.2.0",
     .summary = "Rewrites segments of the tier that have dead space",
     .complexity = "O(1); the work is done in the background"},
    {.name = "demote",
     .handler = command_tier_demote,
     .arity = 3,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_WALKS | COMMAND_NO_MULTI | COMMAND_SLICED,
     .group = "server",
     .since = "7.2.0",
     .summary = "Moves keys from memory to the tier",
     .complexity = "O(N), N keys of the database",
     .arguments = "pattern:p"},
    {.name = "help",
     .handler = command_tier_help,
     .arity = 2,
     .flags = COMMAND_LOADING | COMMAND_STALE,
     .group = "server",
     .since = "7.2.0",
     .summary = "What the subcommands do",
     .complexity = "O(1)"},
    {.name = "stats",
     .handler = command_tier_stats,
     .arity = 2,
     .flags = COMMAND_WALKS,
     .group = "server",
     .since = "7.2.0",
     .summary = "The figures of the tier",
     .complexity = "O(1)",
     .tips = "nondeterministic_output"},
};

const struct command_spec tier_commands[] = {
    {.name = "tier",
     .arity = -2,
     .group = "server",
     .since = "7.2.0",
     .summary = "Commands about the tier",
     .complexity = "Depends on the subcommand",
     .subcommands = tier_subcommands,
     .subcommand_count = sizeof(tier_subcommands) / sizeof(tier_subcommands[0])},
};
const unsigned tier_command_count = sizeof(tier_commands) / sizeof(tier_commands[0]);
