#ifndef TERRACE_SERVER_CONFIG_H
#define TERRACE_SERVER_CONFIG_H

/* The configuration: one struct of typed fields that the server owns and passes by pointer, and the calls
 * behind a start, CONFIG GET, CONFIG SET and CONFIG REWRITE. What a directive is (name, alias, type, bounds,
 * default, help) stands in one row of config_table.c; everything here works from those rows.
 *
 * A start:
 *
 *     config_init(&config);
 *     if (!config_parse_arguments(&config, argc, argv, &action, &error)) { one line on stderr; exit 1 }
 *     switch (action) ...                      // --help, --version, --print-sample-config
 *     chdir(config.general.dir); log_configure(...); config_log_warnings(&config);
 *     config_on_change(&config, "maxmemory", apply_maxmemory, server); ...
 *
 * Threads: config_set() and config_rewrite() are called by one thread while all others stand at a safe point,
 * so every field is read as a plain load anywhere else. Strings are owned by the config, never NULL, and valid
 * until the next config_set(): copy one that must live longer. */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A list of addresses or the like; owned by the config. */
struct config_words {
    size_t count;
    char **words;
};

/* A password: any bytes, zeros too, with one zero behind them; owned by the config. */
struct config_secret {
    size_t length;
    char *bytes; /* never NULL */
};

/* Bytes, or a share of maxmemory. Both 0: no limit. */
struct config_share {
    int64_t bytes;
    int64_t percent; /* 1..100; if set, bytes is 0 */
};

#define CONFIG_SAVE_POINTS_MAX 32 /* each is checked every cron tick; nobody has been seen with more than 5 */
struct config_save_points {
    size_t count;
    struct config_save_point {
        int64_t seconds;
        int64_t changes;
    } points[CONFIG_SAVE_POINTS_MAX];
};

enum config_client_class { CONFIG_CLIENT_NORMAL, CONFIG_CLIENT_REPLICA, CONFIG_CLIENT_PUBSUB, CONFIG_CLIENT_CLASSES };
struct config_output_limits {
    struct config_output_limit {
        int64_t hard_bytes;   /* 0: none */
        int64_t soft_bytes;   /* 0: none */
        int64_t soft_seconds; /* the soft limit may be exceeded this long */
    } classes[CONFIG_CLIENT_CLASSES];
};

#define CONFIG_PERCENTILES_MAX 32 /* INFO latencystats prints each for every command */
struct config_percentiles {
    size_t count;
    double values[CONFIG_PERCENTILES_MAX]; /* 0..100 */
};

enum config_supervised {
    CONFIG_SUPERVISED_NO,
    CONFIG_SUPERVISED_AUTO,
    CONFIG_SUPERVISED_SYSTEMD,
    CONFIG_SUPERVISED_UPSTART
};
enum config_oom_score { CONFIG_OOM_NO, CONFIG_OOM_RELATIVE, CONFIG_OOM_ABSOLUTE };
enum config_tier_compression { CONFIG_TIER_NONE, CONFIG_TIER_LZ4 };

/* Who may use DEBUG, protected directives or MODULE: nobody, everybody, clients of this host. */
enum config_permission { CONFIG_PERMIT_NO, CONFIG_PERMIT_YES, CONFIG_PERMIT_LOCAL };
enum config_diskless_load { CONFIG_DISKLESS_LOAD_NO, CONFIG_DISKLESS_LOAD_ON_EMPTY, CONFIG_DISKLESS_LOAD_SWAP };
enum config_shutdown { /* bits; none set is the default: save if save points exist, wait for replicas */
                       CONFIG_SHUTDOWN_SAVE = 1,
                       CONFIG_SHUTDOWN_NOSAVE = 2,
                       CONFIG_SHUTDOWN_NOW = 4,
                       CONFIG_SHUTDOWN_FORCE = 8,
};
/* A policy is a pool of candidates and a rule to choose among them. */
enum config_maxmemory_policy {
    CONFIG_EVICT_LRU = 1,
    CONFIG_EVICT_LFU = 2,
    CONFIG_EVICT_TTL = 4,
    CONFIG_EVICT_RANDOM = 8,
    CONFIG_EVICT_ALL_KEYS = 16, /* else only keys with an expiry */
    CONFIG_EVICT_NOTHING = 32,
};

struct config {
    struct config_network {
        /* "*" is every IPv4 address, "::*" every IPv6 one; "-" in front: may be missing on this host. */
        struct config_words bind;
        char *bind_source_address; /* "": the kernel chooses */
        int64_t port;              /* 0: no TCP */
        int64_t tcp_backlog;
        char *unixsocket;       /* "": none */
        int64_t unixsocketperm; /* mode bits; 0: as the umask leaves it */
        int64_t timeout_seconds;
        int64_t tcp_keepalive_seconds;
        bool protected_mode;
    } network;

    struct config_general {
        int64_t threads; /* 0: one for each CPU of the affinity mask */
        int64_t shards;  /* 0: chosen from threads and maxmemory; else a power of two */
        int64_t databases;
        bool daemonize;
        int supervised; /* enum config_supervised */
        char *pidfile;
        char *dir; /* absolute */
        bool crash_log_enabled;
        int oom_score_adj;           /* enum config_oom_score */
        int64_t oom_score_values[3]; /* of a primary, a replica, a background process */
        bool always_show_logo;
        bool set_proc_title;
        char *proc_title_template;
        int64_t hz; /* 1..500 */
        bool dynamic_hz;
        int64_t active_expire_effort; /* 1..10 */
        int64_t shutdown_timeout_seconds;
        int shutdown_on_sigint;  /* bits of enum config_shutdown */
        int shutdown_on_sigterm; /* likewise */
    } general;

    struct config_logging {
        int level; /* enum log_level of base/log.h */
        char *logfile;
        bool syslog_enabled;
        char *syslog_ident;
        int syslog_facility; /* of <syslog.h> */
    } logging;

    struct config_security {
        struct config_secret requirepass;     /* empty: no password */
        int enable_debug_command;             /* enum config_permission */
        int enable_protected_configs;         /* likewise */
        struct config_words renamed_commands; /* old name, new name ("" = disabled), old name, ... */
    } security;

    struct config_clients {
        int64_t maxclients;
        int64_t query_buffer_limit_bytes;
        int64_t proto_max_bulk_bytes;
        struct config_output_limits output_limits;
        struct config_share maxmemory_clients;
        int64_t tracking_keys_max; /* 0: no limit */
    } clients;

    struct config_memory {
        int64_t maxmemory_bytes; /* 0: no limit */
        int maxmemory_policy;    /* bits of enum config_maxmemory_policy */
        int64_t maxmemory_samples;
        int64_t maxmemory_eviction_tenacity; /* 0..100 */
        int64_t lfu_log_factor;
        int64_t lfu_decay_time_minutes;
        char *numa_policy;         /* "local", "interleave", or a list of nodes */
        int64_t near_memory_bytes; /* beyond which records go to far memory; 0: by what the nodes have */
        char *far_memory_nodes;    /* "auto", "none", or a list of nodes */
        bool lazyfree_eviction;
        bool lazyfree_expire;
        bool lazyfree_server_del;
        bool lazyfree_user_del;
        bool lazyfree_user_flush;
    } memory;

    struct config_tier {
        char *path;                  /* "": no tier */
        int64_t size_bytes;          /* 0: most of what its file system has free */
        int64_t segment_bytes;       /* 0: chosen by maxmemory */
        int64_t record_budget_bytes; /* 0: none; for tests */
        int compression;             /* enum config_tier_compression */
        int direct_io;               /* enum tier_direct of tiering/tier_file.h */
        bool persist;                /* the tier's file survives: tier_persist.h */
        int64_t checkpoint_seconds;  /* 0: only at a shutdown, and when space is needed */
    } tier;

    struct config_pmem {
        char *pool;         /* "": none; several: with commas */
        char *node;         /* "auto", or a node for each pool */
        int64_t size_bytes; /* of each pool that is made, or shorter */
    } pmem;

    struct config_monitoring {
        int64_t slowlog_slower_than_us; /* negative: nothing is logged */
        int64_t slowlog_entries_max;
        int64_t latency_monitor_threshold_ms; /* 0: off */
        bool latency_tracking;
        struct config_percentiles latency_percentiles;
        int keyspace_events; /* bits of enum notify_class, command/notify.h */
    } monitoring;

    struct config_encoding {
        int64_t hll_sparse_bytes_max;
        int64_t hash_packed_entries, hash_packed_bytes;
        int64_t list_packed_size;
        int64_t set_intset_entries, set_packed_entries, set_packed_bytes;
        int64_t sorted_set_packed_entries, sorted_set_packed_bytes;
        int64_t stream_node_entries;
    } encoding;

    struct config_persistence {
        struct config_save_points save;
        char *dbfilename;
        bool rdb_compression, rdb_checksum, rdb_incremental_fsync;
        bool stop_writes_on_error; /* of a snapshot */
        int64_t rdb_version;
        int64_t key_save_delay_us, key_load_delay_us; /* for tests; negative: 1 us for each so many keys */
        bool appendonly;
        int append_fsync; /* enum aof_sync of persist/aof_writer.h */
        char *append_filename, *append_dirname;
        bool no_fsync_on_rewrite; /* of everysec only */
        int64_t auto_rewrite_percentage, auto_rewrite_min_bytes;
        bool aof_load_truncated, aof_rdb_preamble, aof_timestamps, aof_incremental_fsync;
        bool aof_keeps_history; /* aof-disable-auto-gc */
    } persistence;

    struct config_replication {
        struct config_words replicaof; /* host and port; none: a primary */
        struct config_secret masterauth;
        char *masteruser;
        bool serve_stale_data, read_only, ignore_maxmemory;
        bool announced;        /* Sentinel may list it */
        char *announce_ip;     /* "": the address its connection has */
        int64_t announce_port; /* 0: `port` */
        int64_t priority;      /* 0: never promoted */
        bool disable_tcp_nodelay;
        bool diskless_sync;
        int diskless_load; /* enum config_diskless_load */
        int64_t diskless_sync_delay_seconds, diskless_sync_replicas_max;
        int64_t ping_seconds, timeout_seconds;
        int64_t backlog_bytes, backlog_ttl_seconds;
        int64_t replicas_to_write, replicas_lag_seconds_max; /* min-replicas-to-write, min-replicas-max-lag */
    } replication;

    struct config_state *state; /* private to the config files: hooks, origins, values of directives without a field */
};

/* One line of text, without a newline and without control characters. */
struct config_error {
    char text[512];
};

/* Every field at its default. Relative paths are resolved against the working directory of this moment. Aborts only
 * when memory is exhausted. Release with config_free(). */
void config_init(struct config *config);
void config_free(struct config *config);

/* ---- Start ---- */

enum config_action {
    CONFIG_ACTION_START,
    CONFIG_ACTION_HELP,
    CONFIG_ACTION_VERSION,
    CONFIG_ACTION_PRINT_SAMPLE,
};

/* `terrace-server [file | -] [--name value ...]...`; what stands later wins. "-" reads standard input, also as
 * the last argument. Checks the outcome, see config_finish_load(). On false, `error` is the line to show. */
bool config_parse_arguments(struct config *config, int argc, char **argv, enum config_action *action,
                            struct config_error *error) __attribute__((warn_unused_result));

/* The parts of config_parse_arguments(). An error reads `terrace.conf:12: unknown directive 'foo'`. The first
 * file loaded by path is the one config_rewrite() writes. */
bool config_load_file(struct config *config, const char *path, struct config_error *error)
    __attribute__((warn_unused_result));
bool config_load_stream(struct config *config, FILE *stream, const char *name, struct config_error *error)
    __attribute__((warn_unused_result));

/* To be called once everything is loaded: false if a directive asks for something that would be a false
 * promise (cluster-enabled yes...). Collects one warning for each directive without effect. */
bool config_finish_load(struct config *config, struct config_error *error) __attribute__((warn_unused_result));

/* One log line for each warning collected. */
void config_log_warnings(const struct config *config);

/* The absolute path of the file, or "" (no file, or standard input). For INFO's config_file and the proc title. */
const char *config_file_path(const struct config *config);

void config_print_help(FILE *out, const char *program);
/* The sample configuration file, equal to deploy/terrace.conf. */
void config_print_sample(FILE *out);

/* ---- CONFIG GET ---- */

typedef void config_visit_fn(void *ctx, struct span name, struct span value);

/* Calls `visit` once for each directive name that one of the patterns matches (globs; case is ignored), aliases
 * included, values spelled as Redis does. A name asked for without a glob comes back as it was written. */
void config_get(const struct config *config, const struct span *patterns, size_t count, config_visit_fn *visit,
                void *ctx);

/* The value of one directive by exact name; false if there is none. The text is to be freed by the caller. */
bool config_get_one(const struct config *config, struct span name, char **value, size_t *length);

/* ---- CONFIG SET ---- */

struct config_pair {
    struct span name;
    struct span value;
};

struct config_set_options {
    bool client_is_local; /* decides where enable-protected-configs is `local` */
    bool loading;         /* the dataset is being loaded */
};

/* Sets all pairs or none. On false `error` is the whole error reply without '-' and line end, such as
 * "ERR CONFIG SET failed (possibly related to argument 'port') - argument must be between 0 and 65535 inclusive". */
bool config_set(struct config *config, const struct config_pair *pairs, size_t count,
                const struct config_set_options *options, struct config_error *error)
    __attribute__((warn_unused_result));

/* Called by config_set() after all fields have their new values, for directives whose value changed. May refuse
 * by returning false with a message in `error` ("Unable to listen on this port..."): then every field gets its old
 * value back, and hooks that had already agreed are called again to apply the old values (their answer is ignored).
 * A function registered with the same ctx for several names is called once per config_set(). */
typedef bool config_change_fn(void *ctx, const struct config *config, const char *name, struct config_error *error);

/* `name` is a directive's main name (asserted). One hook for a name. Not called at start. */
void config_on_change(struct config *config, const char *name, config_change_fn *fn, void *ctx);

/* ---- CONFIG REWRITE ---- */

/* Brings the file up to date: comments, order and unchanged lines stay; changed directives are replaced where they
 * stand, others appended below a marker line. Written to a temporary file, fsynced and renamed over the old one.
 * On false `error` is the whole error reply without '-' ("ERR The server is running without a config file"). */
bool config_rewrite(struct config *config, struct config_error *error) __attribute__((warn_unused_result));
/* The same, with a line for every directive: what is written can be compared with what is read again. */
bool config_rewrite_all(struct config *config, struct config_error *error) __attribute__((warn_unused_result));

#endif
