/* LATENCY: what was slow, and how long each command takes. */

#include "base/clock.h"
#include "server/families.h"
#include "server/latency_report.h"
#include "server/server.h"

/* ---- events ---- */

static void command_latency_latest(struct call *call) {
    struct reply_aggregate events = reply_begin(call->reply);
    size_t count = 0;
    for (unsigned event = 0; event < LATENCY_EVENTS; event++) {
        struct latency_series series;
        latency_copy(&server_of(call)->latency, (enum latency_event)event, &series);
        if (!series.count) continue;
        const struct latency_sample *last = latency_sample_at(&series, series.count - 1);
        reply_array(call->reply, 4);
        reply_bulk_text(call->reply, latency_event_name((enum latency_event)event));
        reply_integer(call->reply, last->unix_seconds);
        reply_integer(call->reply, last->duration_ms);
        reply_integer(call->reply, series.longest_ms);
        count++;
    }
    reply_end(call->reply, events, '*', count);
}

/* The series that argument `index` names; empty if there is none. */
static void find_series(const struct call *call, uint32_t index, struct latency_series *series) {
    enum latency_event event = latency_event_find(call->argv[index]);
    *series = (struct latency_series){.count = 0};
    if (event != LATENCY_EVENTS) latency_copy(&server_of(call)->latency, event, series);
}

static void command_latency_history(struct call *call) {
    struct latency_series series;
    find_series(call, 2, &series);
    reply_array(call->reply, series.count);
    for (unsigned i = 0; i < series.count; i++) {
        reply_array(call->reply, 2);
        reply_integer(call->reply, latency_sample_at(&series, i)->unix_seconds);
        reply_integer(call->reply, latency_sample_at(&series, i)->duration_ms);
    }
}

static void command_latency_reset(struct call *call) {
    struct latency *latency = &server_of(call)->latency;
    int64_t forgotten = 0;
    for (unsigned event = 0; call->argc == 2 && event < LATENCY_EVENTS; event++)
        forgotten += latency_reset(latency, (enum latency_event)event);
    for (uint32_t i = 2; i < call->argc; i++) {
        enum latency_event event = latency_event_find(call->argv[i]);
        if (event != LATENCY_EVENTS) forgotten += latency_reset(latency, event);
    }
    reply_integer(call->reply, forgotten);
}

static void command_latency_graph(struct call *call) {
    struct latency_series series;
    struct text text = {0};
    find_series(call, 2, &series);
    if (!series.count) {
        struct span name = call->argv[2];
        reply_error_format(call->reply, "ERR No samples available for event '%.*s'",
                           (int)(name.length < 128 ? name.length : 128), name.data);
        return;
    }
    latency_draw(&series, latency_event_name(latency_event_find(call->argv[2])), clock_unix_ms() / 1000, &text);
    reply_verbatim(call->reply, text_span(&text));
    text_free(&text);
}

static void command_latency_doctor(struct call *call) {
    struct text text = {0};
    latency_diagnose(&server_of(call)->latency, &server_of(call)->config, clock_unix_ms() / 1000, &text);
    reply_verbatim(call->reply, text_span(&text));
    text_free(&text);
}

/* ---- histograms ---- */

/* Redis counts in doublings of 1.024 us and calls each by its upper bound in microseconds, as its histogram rounds it:
 * to 1/128. Programs compare such labels, so they are the same here. */
static uint64_t label_us(uint64_t bound_ns) {
    return (bound_ns + bound_ns / 128 - 1) / 1000;
}

/* False: nothing to tell of this command. */
static bool reply_histogram(struct call *call, const struct command *command) {
    uint64_t histogram[STATS_BUCKETS], seen = 0, told = 0;
    struct metrics_command sum;
    size_t pairs = 0;
    metrics_command(server_of(call), command->id, &sum, histogram);
    if (metrics_percentile_us(histogram, 100) == 0) return false;
    reply_bulk_text(call->reply, command->full_name);
    reply_map(call->reply, 2);
    reply_bulk_text(call->reply, "calls");
    reply_integer(call->reply, (int64_t)sum.calls);
    reply_bulk_text(call->reply, "histogram_usec");
    struct reply_aggregate buckets = reply_begin(call->reply);
    unsigned bucket = 0;
    for (uint64_t bound_ns = 1024; bucket < STATS_BUCKETS; bound_ns *= 2) {
        for (; bucket < STATS_BUCKETS && stats_bucket_limit(bucket) <= bound_ns; bucket++) seen += histogram[bucket];
        if (seen == told) continue;
        reply_integer(call->reply, (int64_t)label_us(bound_ns));
        reply_integer(call->reply, (int64_t)seen);
        told = seen;
        pairs++;
    }
    reply_end(call->reply, buckets, '%', pairs);
    return true;
}

/* "config|set" too. */
static const struct command *find_command(const struct command_table *table, struct span name) {
    const char *bar = name.length ? memchr(name.data, '|', name.length) : NULL;
    if (!bar) return command_table_find(table, name);
    const struct command *container = command_table_find(table, span_of(name.data, (size_t)(bar - name.data)));
    if (!container) return NULL;
    return command_find_subcommand(container, span_of(bar + 1, name.length - (size_t)(bar - name.data) - 1));
}

static void command_latency_histogram(struct call *call) {
    const struct command_table *table = server_of(call)->table;
    struct reply_aggregate commands = reply_begin(call->reply);
    size_t count = 0;
    for (unsigned id = 0; call->argc == 2 && id < command_table_ids(table); id++)
        count += reply_histogram(call, command_table_by_id(table, id));
    for (uint32_t i = 2; i < call->argc; i++) {
        const struct command *command = find_command(table, call->argv[i]);
        if (!command) continue;
        count += reply_histogram(call, command);
        for (unsigned k = 0; k < command->subcommand_count; k++)
            count += reply_histogram(call, &command->subcommands[k]);
    }
    reply_end(call->reply, commands, '%', count);
}

static void command_latency_help(struct call *call) {
    static const char *const lines[] = {
        "DOCTOR",
        "    What was slow, and what may be done about it, in words.",
        "GRAPH <event>",
        "    The samples of <event> as a graph of characters.",
        "HISTORY <event>",
        "    The samples of <event>: unix time and milliseconds of each.",
        "LATEST",
        "    The last sample of each event, and its longest.",
        "RESET [<event> ...]",
        "    Forget the samples of these events (default: of all).",
        "HISTOGRAM [<command> ...]",
        "    How many calls of each command took how long (default: of all commands that were called).",
        NULL,
    };
    call_help(call, lines);
}

#define ALWAYS (COMMAND_LOADING | COMMAND_STALE)
#define ROW(name_, handler_, arity_, summary_, complexity_, ...)                                                       \
    {                                                                                                                  \
        .name = name_, .handler = handler_, .arity = arity_, .flags = ALWAYS | COMMAND_ADMIN | COMMAND_NOSCRIPT,       \
        .group = "server", .summary = summary_, .complexity = complexity_, __VA_ARGS__                                 \
    }
#define SPECIAL "nondeterministic_output request_policy:all_nodes response_policy:special"

static const struct command_spec subcommands[] = {
    ROW("doctor", command_latency_doctor, 2, "What was slow and what may help, in words", "O(1)", .since = "2.8.13",
        .tips = SPECIAL),
    ROW("graph", command_latency_graph, 3, "An event's samples as a graph", "O(1)", .since = "2.8.13",
        .arguments = "event", .tips = SPECIAL),
    ROW("histogram", command_latency_histogram, -2, "How many calls of each command took how long",
        "O(N), N commands that were called", .since = "7.0.0", .arguments = "[command...]", .tips = SPECIAL),
    ROW("history", command_latency_history, 3, "An event's samples", "O(1)", .since = "2.8.13", .arguments = "event",
        .tips = SPECIAL),
    ROW("latest", command_latency_latest, 2, "The last sample of each event", "O(1)", .since = "2.8.13",
        .tips = SPECIAL),
    ROW("reset", command_latency_reset, -2, "Forgets the samples of events", "O(1)", .since = "2.8.13",
        .arguments = "[event...]", .tips = "request_policy:all_nodes response_policy:all_succeeded"),
    {.name = "help",
     .handler = command_latency_help,
     .arity = 2,
     .flags = ALWAYS,
     .group = "server",
     .since = "2.8.13",
     .summary = "What the subcommands do",
     .complexity = "O(1)"},
};

const struct command_spec latency_commands[] = {
    {.name = "latency",
     .arity = -2,
     .group = "server",
     .since = "2.8.13",
     .summary = "The latency monitor",
     .complexity = "Depends on the subcommand",
     .subcommands = subcommands,
     .subcommand_count = sizeof(subcommands) / sizeof(subcommands[0])},
};
const unsigned latency_command_count = sizeof(latency_commands) / sizeof(latency_commands[0]);
