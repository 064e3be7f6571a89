/* See slow.h. The dispatcher compares with one threshold, the lower of the two; which of them was passed is sorted out
 * here, where time does not matter any more. The hook runs with shards locked, so it may take only locks of its own. */

#include "server/slow.h"

#include "command/session.h"
#include "server/redact.h"
#include "server/server.h"

enum { NS_PER_US = 1000, NS_PER_MS = 1000000 };

/* ---- the hook ---- */

static void keep_in_slowlog(struct server *server, const struct call *call, uint64_t elapsed_ns) {
    struct span arguments[SLOWLOG_ARGUMENTS];
    struct slowlog_event event = {.unix_seconds = call->view.now_ms / 1000,
                                  .duration_us = (int64_t)(elapsed_ns / NS_PER_US),
                                  .arguments = arguments,
                                  .argument_count = call->argc,
                                  .client_name = call->session->name};
    for (uint32_t i = 0; i < call->argc && i < SLOWLOG_ARGUMENTS; i++) arguments[i] = redact_argument(call, i);
    const struct connection *connection = call->session->connection;
    if (connection) event.client_address = connection->peer.address;
    slowlog_add(&server->slowlog, &event);
}

static void on_slow(void *ctx, const struct call *call, uint64_t elapsed_ns) {
    struct server *server = ctx;
    int64_t slower_than_us = server->config.monitoring.slowlog_slower_than_us;
    uint32_t flags = call->command->flags;
    if (slower_than_us >= 0 && elapsed_ns / NS_PER_US >= (uint64_t)slower_than_us && !(flags & COMMAND_SKIP_SLOWLOG))
        keep_in_slowlog(server, call, elapsed_ns);
    slow_event(server, flags & COMMAND_FAST ? LATENCY_FAST_COMMAND : LATENCY_COMMAND, elapsed_ns, call->view.now_ms);
}

void slow_event(struct server *server, enum latency_event event, uint64_t elapsed_ns, int64_t now_ms) {
    int64_t threshold_ms = server->config.monitoring.latency_monitor_threshold_ms;
    int64_t elapsed_ms = (int64_t)(elapsed_ns / NS_PER_MS);
    if (threshold_ms > 0 && elapsed_ms >= threshold_ms) latency_add(&server->latency, event, now_ms / 1000, elapsed_ms);
}

/* ---- configuration ---- */

/* Saturates: a threshold beyond what a counter of nanoseconds holds is never reached. */
static uint64_t in_ns(int64_t value, uint64_t unit_ns) {
    uint64_t ns;
    return __builtin_mul_overflow((uint64_t)value, unit_ns, &ns) ? UINT64_MAX : ns;
}

static bool take_thresholds(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    struct server *server = ctx;
    uint64_t slow_ns = UINT64_MAX, latency_ns = UINT64_MAX;
    if (config->monitoring.slowlog_slower_than_us >= 0)
        slow_ns = in_ns(config->monitoring.slowlog_slower_than_us, NS_PER_US);
    if (config->monitoring.latency_monitor_threshold_ms > 0)
        latency_ns = in_ns(config->monitoring.latency_monitor_threshold_ms, NS_PER_MS);
    atomic_store_explicit(&server->host.slow_ns, slow_ns < latency_ns ? slow_ns : latency_ns, memory_order_relaxed);
    return true;
}

static bool take_length(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    struct server *server = ctx;
    slowlog_set_length_max(&server->slowlog, (uint64_t)config->monitoring.slowlog_entries_max);
    return true;
}

static bool take_tracking(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    struct server *server = ctx;
    for (unsigned i = 0; i < server->worker_count; i++)
        atomic_store_explicit(&server->stats[i]->latency_tracking, config->monitoring.latency_tracking,
                              memory_order_relaxed);
    return true;
}

void slow_init(struct server *server) {
    struct config *config = &server->config;
    slowlog_init(&server->slowlog, (uint64_t)config->monitoring.slowlog_entries_max);
    latency_init(&server->latency);
    server->host.slow = on_slow;
    (void)take_thresholds(server, config, NULL, NULL);
    (void)take_tracking(server, config, NULL, NULL);
    config_on_change(config, "slowlog-log-slower-than", take_thresholds, server);
    config_on_change(config, "latency-monitor-threshold", take_thresholds, server);
    config_on_change(config, "slowlog-max-len", take_length, server);
    config_on_change(config, "latency-tracking", take_tracking, server);
}

void slow_free(struct server *server) {
    slowlog_destroy(&server->slowlog);
    latency_destroy(&server->latency);
}
