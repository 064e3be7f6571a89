/* What a changed directive does to the running server. See config_apply.h.
 *
 * Every function here is called with all workers standing still and the new values in place. One that refuses leaves
 * the server as it was; config_set() then puts the old values back. */

#include "server/config_apply.h"

#include "base/log.h"
#include "server/aof.h"
#include "server/notifications.h"
#include "server/server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { OWN_DESCRIPTORS = 96, DESCRIPTORS_PER_WORKER = 2 }; /* log, journal, a full copy; epoll and eventfd */

/* ---- clients ---- */

static int64_t own_descriptors(const struct server *server) {
    return OWN_DESCRIPTORS + LISTENERS_MAX + (int64_t)server->worker_count * DESCRIPTORS_PER_WORKER;
}

/* Raises the limit of descriptors as far as it is needed and allowed; returns how many clients fit. */
static int64_t make_room_for_clients(const struct server *server, int64_t wanted) {
    struct rlimit limit;
    int64_t own = own_descriptors(server);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
    rlim_t needed = (rlim_t)(wanted + own);
    if (limit.rlim_cur >= needed) return wanted;
    struct rlimit raised = {needed, limit.rlim_max > needed ? limit.rlim_max : needed};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) return wanted; /* with privileges, above the hard limit too */
    raised = (struct rlimit){limit.rlim_max, limit.rlim_max};
    if (limit.rlim_max > limit.rlim_cur && setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    return (int64_t)limit.rlim_cur > own ? (int64_t)limit.rlim_cur - own : 1;
}

static bool change_maxclients(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name;
    int64_t possible = make_room_for_clients(ctx, config->clients.maxclients);
    if (possible >= config->clients.maxclients) return true;
    snprintf(error->text, sizeof(error->text),
             "The operating system is not able to handle the specified number of clients, try with %lld",
             (long long)possible);
    return false;
}

static bool change_password(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    struct server *server = ctx;
    atomic_store(&server->host.open_to_all, config->security.requirepass.length == 0);
    return true;
}

static bool change_client_limits(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)config, (void)name, (void)error;
    struct server *server = ctx;
    for (unsigned i = 0; i < server->worker_count; i++) worker_refresh_limits(server->workers[i]);
    atomic_store(&server->host.reply_bytes_max,
                 (uint64_t)config->clients.output_limits.classes[CONFIG_CLIENT_NORMAL].hard_bytes);
    return true;
}

static bool change_clients_share(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    client_memory_apply(ctx);
    return change_client_limits(ctx, config, name, error);
}

/* ---- listening ---- */

static bool change_listeners(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)config;
    struct socket_error reason;
    if (listeners_change(ctx, &reason)) return true;
    log_warning("%s", reason.text);
    snprintf(error->text, sizeof(error->text), "%s",
             strcmp(name, "port") == 0 ? "Unable to listen on this port. Check server logs."
                                       : "Failed to bind to specified addresses.");
    return false;
}

/* ---- values that are copied ---- */

static bool change_host_values(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    struct server *server = ctx;
    atomic_store(&server->host.bulk_bytes_max, (uint64_t)config->clients.proto_max_bulk_bytes);
    atomic_store(&server->host.rdb_version, (uint32_t)config->persistence.rdb_version);
    atomic_store(&server->host.rdb_plain, !config->persistence.rdb_compression);
    key_delay_set(&server->loading.delay, config->persistence.key_load_delay_us);
    return true;
}

static bool change_value_limits(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    struct server *server = ctx;
    const struct config_encoding *encoding = &config->encoding;
    server->keyspace->limits = (struct value_limits){
        .hash_packed_entries = encoding->hash_packed_entries,
        .hash_packed_bytes = encoding->hash_packed_bytes,
        .list_packed_size = encoding->list_packed_size,
        .set_intset_entries = encoding->set_intset_entries,
        .set_packed_entries = encoding->set_packed_entries,
        .set_packed_bytes = encoding->set_packed_bytes,
        .sorted_set_packed_entries = encoding->sorted_set_packed_entries,
        .sorted_set_packed_bytes = encoding->sorted_set_packed_bytes,
        .stream_node_entries = encoding->stream_node_entries,
        .sparse_bytes = encoding->hll_sparse_bytes_max,
    };
    return true;
}

static bool change_events(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    notifications_apply(ctx, (uint32_t)config->monitoring.keyspace_events);
    return true;
}

static bool change_tracking(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    struct server *server = ctx;
    tracking_limit(server->tracking, (uint64_t)config->clients.tracking_keys_max);
    return true;
}

void config_apply_access(struct server *server, const struct config *config) {
    atomic_store(&server->metrics.limit.evicts, config->memory.maxmemory_policy != CONFIG_EVICT_NOTHING);
    bool by_use = config->memory.maxmemory_policy & (CONFIG_EVICT_LRU | CONFIG_EVICT_LFU);
    server->keyspace->access = (struct access_policy){.frequency = config->memory.maxmemory_policy & CONFIG_EVICT_LFU,
                                                      .evicts = by_use && config->memory.maxmemory_bytes,
                                                      .log_factor = (uint32_t)config->memory.lfu_log_factor,
                                                      .decay_minutes = (uint32_t)config->memory.lfu_decay_time_minutes};
}

static bool change_access(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    config_apply_access(ctx, config);
    return true;
}

/* A tick that was set for a second from now must not make a higher hz wait for it. */
static bool change_hz(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)config, (void)name, (void)error;
    struct server *server = ctx;
    for (unsigned i = 0; i < server->worker_count; i++) server->workers[i]->next_tick_ns = 0;
    return true;
}

/* ---- the process ---- */

static bool change_log_level(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)ctx, (void)name, (void)error;
    log_set_level((enum log_level)config->logging.level);
    return true;
}

static bool change_directory(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)ctx, (void)name;
    if (chdir(config->general.dir) == 0) return true;
    snprintf(error->text, sizeof(error->text), "%s", strerror(errno));
    return false;
}

static bool change_oom_score(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name;
    struct server *server = ctx;
    if (oom_score_apply(&server->process.oom_score, config, replication_is_replica(&server->replication))) return true;
    snprintf(error->text, sizeof(error->text), "Failed to set current oom_score_adj. Check server logs.");
    return false;
}

static const struct {
    const char *name;
    config_change_fn *change;
} hooks[] = {
    {"maxclients", change_maxclients},
    {"requirepass", change_password},
    {"client-query-buffer-limit", change_client_limits},
    {"client-output-buffer-limit", change_client_limits},
    {"maxmemory-clients", change_clients_share},
    {"port", change_listeners},
    {"bind", change_listeners},
    {"proto-max-bulk-len", change_host_values},
    {"rdb-version", change_host_values},
    {"rdbcompression", change_host_values},
    {"key-load-delay", change_host_values},
    {"hash-max-listpack-entries", change_value_limits},
    {"hash-max-listpack-value", change_value_limits},
    {"list-max-listpack-size", change_value_limits},
    {"set-max-intset-entries", change_value_limits},
    {"set-max-listpack-entries", change_value_limits},
    {"set-max-listpack-value", change_value_limits},
    {"zset-max-listpack-entries", change_value_limits},
    {"zset-max-listpack-value", change_value_limits},
    {"stream-node-max-entries", change_value_limits},
    {"hll-sparse-max-bytes", change_value_limits},
    {"notify-keyspace-events", change_events},
    {"tracking-table-max-keys", change_tracking},
    {"maxmemory-policy", change_access},
    {"lfu-log-factor", change_access},
    {"lfu-decay-time", change_access},
    {"hz", change_hz},
    {"loglevel", change_log_level},
    {"dir", change_directory},
    {"oom-score-adj", change_oom_score},
    {"oom-score-adj-values", change_oom_score},
    {"appendonly", aof_change},
    {"appendfsync", aof_change},
    {"aof-timestamp-enabled", aof_change},
    {"repl-backlog-size", replication_change},
    {"min-replicas-to-write", replication_change},
    {"min-replicas-max-lag", replication_change},
    {"aof-disable-auto-gc", aof_change},
    {"pmem-size", pmem_growth_change},
};

/* What main() had to do before there was a server: log, directory, sockets. */
static bool was_done_at_start(config_change_fn *change) {
    return change == change_log_level || change == change_directory || change == change_listeners ||
           change == change_maxclients || change == aof_change || change == change_oom_score ||
           change == pmem_growth_change;
}

static void fit_maxclients(struct server *server) {
    int64_t wanted = server->config.clients.maxclients, possible = make_room_for_clients(server, wanted);
    if (possible >= wanted) return;
    log_warning("maxclients is %lld instead of %lld: the limit of open files allows no more. Raise it (ulimit -n).",
                (long long)possible, (long long)wanted);
    server->config.clients.maxclients = possible;
}

void config_apply(struct server *server) {
    struct config *config = &server->config;
    for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++) {
        struct config_error error;
        if (!was_done_at_start(hooks[i].change)) {
            bool applied = hooks[i].change(server, config, hooks[i].name, &error);
            assert(applied);
        }
        config_on_change(config, hooks[i].name, hooks[i].change, server);
    }
    fit_maxclients(server);
    /* A start that is not allowed to goes on as it was started. */
    (void)!oom_score_apply(&server->process.oom_score, config, replication_is_replica(&server->replication));
}
