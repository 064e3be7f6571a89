/* The table itself: every row is sound, every directive of Redis is known with its default, and the sample file in
 * deploy/ is what the table generates. */

#include "server/config_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* CONFIG GET * of redis-server 7.0.15 without a configuration file, sorted. Left out, because they differ on purpose
 * or from one host to another: bind, dir (depends on where it runs), sanitize-dump-payload (always yes here),
 * syslog-ident (terrace here). */
static const struct {
    const char *name;
    const char *value;
} redis_defaults[] = {
    {"acl-pubsub-default", "resetchannels"},
    {"aclfile", ""},
    {"acllog-max-len", "128"},
    {"active-defrag-cycle-max", "25"},
    {"active-defrag-cycle-min", "1"},
    {"active-defrag-ignore-bytes", "104857600"},
    {"active-defrag-max-scan-fields", "1000"},
    {"active-defrag-threshold-lower", "10"},
    {"active-defrag-threshold-upper", "100"},
    {"active-expire-effort", "1"},
    {"activedefrag", "no"},
    {"activerehashing", "yes"},
    {"always-show-logo", "no"},
    {"aof-disable-auto-gc", "no"},
    {"aof-load-truncated", "yes"},
    {"aof-rewrite-incremental-fsync", "yes"},
    {"aof-timestamp-enabled", "no"},
    {"aof-use-rdb-preamble", "yes"},
    {"aof_rewrite_cpulist", ""},
    {"appenddirname", "appendonlydir"},
    {"appendfilename", "appendonly.aof"},
    {"appendfsync", "everysec"},
    {"appendonly", "no"},
    {"auto-aof-rewrite-min-size", "67108864"},
    {"auto-aof-rewrite-percentage", "100"},
    {"bgsave_cpulist", ""},
    {"bind-source-addr", ""},
    {"bio_cpulist", ""},
    {"busy-reply-threshold", "5000"},
    {"client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"},
    {"client-query-buffer-limit", "1073741824"},
    {"cluster-allow-pubsubshard-when-down", "yes"},
    {"cluster-allow-reads-when-down", "no"},
    {"cluster-allow-replica-migration", "yes"},
    {"cluster-announce-bus-port", "0"},
    {"cluster-announce-hostname", ""},
    {"cluster-announce-ip", ""},
    {"cluster-announce-port", "0"},
    {"cluster-announce-tls-port", "0"},
    {"cluster-config-file", "nodes.conf"},
    {"cluster-enabled", "no"},
    {"cluster-link-sendbuf-limit", "0"},
    {"cluster-migration-barrier", "1"},
    {"cluster-node-timeout", "15000"},
    {"cluster-port", "0"},
    {"cluster-preferred-endpoint-type", "ip"},
    {"cluster-replica-no-failover", "no"},
    {"cluster-replica-validity-factor", "10"},
    {"cluster-require-full-coverage", "yes"},
    {"cluster-slave-no-failover", "no"},
    {"cluster-slave-validity-factor", "10"},
    {"crash-log-enabled", "yes"},
    {"crash-memcheck-enabled", "yes"},
    {"daemonize", "no"},
    {"databases", "16"},
    {"dbfilename", "dump.rdb"},
    {"disable-thp", "yes"},
    {"dynamic-hz", "yes"},
    {"enable-debug-command", "no"},
    {"enable-module-command", "no"},
    {"enable-protected-configs", "no"},
    {"hash-max-listpack-entries", "512"},
    {"hash-max-listpack-value", "64"},
    {"hash-max-ziplist-entries", "512"},
    {"hash-max-ziplist-value", "64"},
    {"hll-sparse-max-bytes", "3000"},
    {"hz", "10"},
    {"ignore-warnings", ""},
    {"io-threads-do-reads", "no"},
    {"io-threads", "1"},
    {"jemalloc-bg-thread", "yes"},
    {"latency-monitor-threshold", "0"},
    {"latency-tracking-info-percentiles", "50 99 99.9"},
    {"latency-tracking", "yes"},
    {"lazyfree-lazy-eviction", "no"},
    {"lazyfree-lazy-expire", "no"},
    {"lazyfree-lazy-server-del", "no"},
    {"lazyfree-lazy-user-del", "no"},
    {"lazyfree-lazy-user-flush", "no"},
    {"lfu-decay-time", "1"},
    {"lfu-log-factor", "10"},
    {"list-compress-depth", "0"},
    {"list-max-listpack-size", "-2"},
    {"list-max-ziplist-size", "-2"},
    {"logfile", ""},
    {"loglevel", "notice"},
    {"lua-time-limit", "5000"},
    {"masterauth", ""},
    {"masteruser", ""},
    {"maxclients", "10000"},
    {"maxmemory-clients", "0"},
    {"maxmemory-eviction-tenacity", "10"},
    {"maxmemory-policy", "noeviction"},
    {"maxmemory-samples", "5"},
    {"maxmemory", "0"},
    {"min-replicas-max-lag", "10"},
    {"min-replicas-to-write", "0"},
    {"min-slaves-max-lag", "10"},
    {"min-slaves-to-write", "0"},
    {"no-appendfsync-on-rewrite", "no"},
    {"notify-keyspace-events", ""},
    {"oom-score-adj-values", "0 200 800"},
    {"oom-score-adj", "no"},
    {"pidfile", ""},
    {"port", "6379"},
    {"proc-title-template", "{title} {listen-addr} {server-mode}"},
    {"propagation-error-behavior", "ignore"},
    {"protected-mode", "yes"},
    {"proto-max-bulk-len", "536870912"},
    {"rdb-del-sync-files", "no"},
    {"rdb-save-incremental-fsync", "yes"},
    {"rdbchecksum", "yes"},
    {"rdbcompression", "yes"},
    {"repl-backlog-size", "1048576"},
    {"repl-backlog-ttl", "3600"},
    {"repl-disable-tcp-nodelay", "no"},
    {"repl-diskless-load", "disabled"},
    {"repl-diskless-sync-delay", "5"},
    {"repl-diskless-sync-max-replicas", "0"},
    {"repl-diskless-sync", "yes"},
    {"repl-ping-replica-period", "10"},
    {"repl-ping-slave-period", "10"},
    {"repl-timeout", "60"},
    {"replica-announce-ip", ""},
    {"replica-announce-port", "0"},
    {"replica-announced", "yes"},
    {"replica-ignore-disk-write-errors", "no"},
    {"replica-ignore-maxmemory", "yes"},
    {"replica-lazy-flush", "no"},
    {"replica-priority", "100"},
    {"replica-read-only", "yes"},
    {"replica-serve-stale-data", "yes"},
    {"replicaof", ""},
    {"requirepass", ""},
    {"save", "3600 1 300 100 60 10000"},
    {"server_cpulist", ""},
    {"set-max-intset-entries", "512"},
    {"set-proc-title", "yes"},
    {"shutdown-on-sigint", "default"},
    {"shutdown-on-sigterm", "default"},
    {"shutdown-timeout", "10"},
    {"slave-announce-ip", ""},
    {"slave-announce-port", "0"},
    {"slave-ignore-maxmemory", "yes"},
    {"slave-lazy-flush", "no"},
    {"slave-priority", "100"},
    {"slave-read-only", "yes"},
    {"slave-serve-stale-data", "yes"},
    {"slaveof", ""},
    {"slowlog-log-slower-than", "10000"},
    {"slowlog-max-len", "128"},
    {"socket-mark-id", "0"},
    {"stop-writes-on-bgsave-error", "yes"},
    {"stream-node-max-bytes", "4096"},
    {"stream-node-max-entries", "100"},
    {"supervised", "no"},
    {"syslog-enabled", "no"},
    {"syslog-facility", "local0"},
    {"tcp-backlog", "511"},
    {"tcp-keepalive", "300"},
    {"timeout", "0"},
    {"tls-auth-clients", "yes"},
    {"tls-ca-cert-dir", ""},
    {"tls-ca-cert-file", ""},
    {"tls-cert-file", ""},
    {"tls-ciphersuites", ""},
    {"tls-ciphers", ""},
    {"tls-client-cert-file", ""},
    {"tls-client-key-file-pass", ""},
    {"tls-client-key-file", ""},
    {"tls-cluster", "no"},
    {"tls-dh-params-file", ""},
    {"tls-key-file-pass", ""},
    {"tls-key-file", ""},
    {"tls-port", "0"},
    {"tls-prefer-server-ciphers", "no"},
    {"tls-protocols", ""},
    {"tls-replication", "no"},
    {"tls-session-cache-size", "20480"},
    {"tls-session-cache-timeout", "300"},
    {"tls-session-caching", "yes"},
    {"tracking-table-max-keys", "1000000"},
    {"unixsocketperm", "0"},
    {"unixsocket", ""},
    {"zset-max-listpack-entries", "128"},
    {"zset-max-listpack-value", "64"},
    {"zset-max-ziplist-entries", "128"},
    {"zset-max-ziplist-value", "64"},
};

/* New in 7.2, and obsolete or hidden names that files and test suites still use. */
static const char *const also_known[] = {"bind",
                                         "dir",
                                         "sanitize-dump-payload",
                                         "syslog-ident",
                                         "threads",
                                         "shards",
                                         "set-max-listpack-entries",
                                         "set-max-listpack-value",
                                         "cluster-announce-human-nodename",
                                         "locale-collate",
                                         "server-cpulist",
                                         "rename-command",
                                         "hide-user-data-from-log",
                                         "user",
                                         "loadmodule",
                                         "rdb-key-save-delay",
                                         "key-load-delay",
                                         "watchdog-period",
                                         "list-max-ziplist-entries",
                                         "lua-replicate-commands"};

static void every_directive_of_redis_has_its_default(void **state) {
    (void)state;
    struct config config;
    config_init(&config);
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof(redis_defaults) / sizeof(redis_defaults[0]); i++) {
        char *value;
        if (!config_get_one(&config, span_of_text(redis_defaults[i].name), &value, NULL)) {
            print_error("%s is unknown\n", redis_defaults[i].name);
            wrong++;
            continue;
        }
        if (strcmp(value, redis_defaults[i].value) != 0) {
            print_error("%s is '%s', not '%s'\n", redis_defaults[i].name, value, redis_defaults[i].value);
            wrong++;
        }
        free(value);
    }
    config_free(&config);
    assert_int_equal(wrong, 0);
}

static void newer_and_older_names_are_known(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(also_known) / sizeof(also_known[0]); i++) {
        if (config_row_find(span_of_text(also_known[i])) == SIZE_MAX) fail_msg("%s is unknown", also_known[i]);
    }
    assert_int_equal(config_row_find(SPAN_LITERAL("no-such-directive")), SIZE_MAX);
    assert_int_equal(config_row_find(SPAN_LITERAL("")), SIZE_MAX);
    assert_int_equal(config_row_find(SPAN_LITERAL("HASH-max-ZIPLIST-entries")),
                     config_row_find(SPAN_LITERAL("hash-max-listpack-entries")));
}

static void names_are_unique_and_rows_complete(void **state) {
    (void)state;
    for (size_t i = 0; i < config_row_count(); i++) {
        const struct config_row *row = config_row_at(i);
        assert_int_equal(config_row_find(span_of_text(row->name)), i);
        if (row->alias) assert_int_equal(config_row_find(span_of_text(row->alias)), i);
        assert_non_null(row->type);
        assert_non_null(row->default_text);
        if (!row->help || strlen(row->help) < 5) fail_msg("%s has no help", row->name);
        if (row->help[strlen(row->help) - 1] == '.') fail_msg("%s: the help ends in a full stop", row->name);
        bool needs_choices = row->type == &config_type_choice || row->type == &config_type_flags;
        assert_true(needs_choices == (row->choices != NULL));
        bool is_number = row->type == &config_type_integer || row->type == &config_type_memory;
        if (is_number && row->min >= row->max) fail_msg("%s has no range", row->name);
    }
}

static void fields_do_not_overlap(void **state) {
    (void)state;
    for (size_t i = 0; i < config_rows_served_count; i++) {
        const struct config_row *a = config_row_at(i);
        assert_true(a->offset != CONFIG_NO_FIELD);
        for (size_t k = 0; k < i; k++) {
            const struct config_row *b = config_row_at(k);
            bool apart = a->offset + a->type->size <= b->offset || b->offset + b->type->size <= a->offset;
            if (!apart) fail_msg("%s and %s share a field", a->name, b->name);
        }
    }
    for (size_t i = config_rows_served_count; i < config_row_count(); i++) {
        const struct config_row *row = config_row_at(i);
        assert_true(row->offset == CONFIG_NO_FIELD);
        if ((row->inert == NULL) == (row->refused == NULL))
            fail_msg("%s must be either without effect or refused", row->name);
    }
}

/* The file whose path relative to the top of the sources is `name`. */
static FILE *open_source(const char *name) {
    static const char here[] = "tests/unit/server/config_table_test.c";
    char path[4096];
    size_t top = strlen(__FILE__) - strlen(here);
    const char *file_name = __FILE__;
    assert_string_equal(file_name + top, here);
    snprintf(path, sizeof(path), "%.*s%s", (int)top, __FILE__, name);
    return fopen(path, "r");
}

static void the_sample_file_is_what_the_table_generates(void **state) {
    (void)state;
    char *expected = NULL;
    size_t expected_length = 0;
    FILE *out = open_memstream(&expected, &expected_length);
    config_print_sample(out);
    fclose(out);

    FILE *file = open_source("deploy/terrace.conf");
    assert_non_null(file);
    char *actual = calloc(1, expected_length + 2);
    size_t actual_length = fread(actual, 1, expected_length + 1, file);
    fclose(file);
    if (actual_length != expected_length || memcmp(actual, expected, expected_length) != 0) {
        fail_msg("deploy/terrace.conf is stale: write the output of `terrace-server --print-sample-config` to it");
    }
    free(actual);
    free(expected);
}

static void the_sample_file_says_the_defaults(void **state) {
    (void)state;
    struct config config, defaults;
    struct config_error error = {""};
    config_init(&config);
    config_init(&defaults);
    FILE *file = open_source("deploy/terrace.conf");
    if (!config_load_stream(&config, file, "terrace.conf", &error)) fail_msg("%s", error.text);
    fclose(file);
    if (!config_finish_load(&config, &error)) fail_msg("%s", error.text);
    for (size_t i = 0; i < config_row_count(); i++) {
        if (config_row_at(i)->flags & CONFIG_FILE_ONLY) continue;
        char *a = NULL, *b = NULL;
        struct span name = span_of_text(config_row_at(i)->name);
        assert_true(config_get_one(&config, name, &a, NULL) && config_get_one(&defaults, name, &b, NULL));
        assert_string_equal(a, b);
        free(a);
        free(b);
    }
    config_free(&config);
    config_free(&defaults);
}

static void help_names_every_directive_the_server_acts_on(void **state) {
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    config_print_help(out, "terrace-server");
    fclose(out);
    for (size_t i = 0; i < config_rows_served_count; i++) {
        char option[128];
        snprintf(option, sizeof(option), "  --%s ", config_row_at(i)->name);
        bool shown = strstr(text, option) != NULL;
        if (shown == !!(config_row_at(i)->flags & CONFIG_HIDDEN)) fail_msg("%s", option);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_directive_of_redis_has_its_default),
        cmocka_unit_test(newer_and_older_names_are_known),
        cmocka_unit_test(names_are_unique_and_rows_complete),
        cmocka_unit_test(fields_do_not_overlap),
        cmocka_unit_test(the_sample_file_is_what_the_table_generates),
        cmocka_unit_test(the_sample_file_says_the_defaults),
        cmocka_unit_test(help_names_every_directive_the_server_acts_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
