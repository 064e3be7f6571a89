/* The directives the server acts on.
 *
 * One row each, grouped as `struct config` is. The macros fill in what rows of a type have in common and check at
 * compile time that the field has the type the row's functions will write. How to read a line:
 *
 *     INTEGER("port", NULL, NETWORK, network.port, 0, 65535, NONE, "6379", RUNTIME, "what it does")
 *              name   alias group    field         min max    unit  default flags   help
 *
 * A directive that is only stored stands in config_table_accepted.c; when its feature arrives, it gets a field in
 * config.h and its row moves here. */

#include "server/config_table.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/number.h"
#include "memory/numa_plan.h"
#include "persist/aof_writer.h"
#include "tiering/tier_file.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <syslog.h>

#define MEGABYTE (1024 * 1024)

const char *const config_group_titles[CONFIG_GROUPS] = {
    [CONFIG_GROUP_NETWORK] = "Network",
    [CONFIG_GROUP_GENERAL] = "General",
    [CONFIG_GROUP_LOGGING] = "Log",
    [CONFIG_GROUP_SECURITY] = "Security",
    [CONFIG_GROUP_CLIENTS] = "Clients",
    [CONFIG_GROUP_MEMORY] = "Memory",
    [CONFIG_GROUP_TIER] = "Tier",
    [CONFIG_GROUP_MONITORING] = "Monitoring",
    [CONFIG_GROUP_ENCODING] = "Encodings",
    [CONFIG_GROUP_PERSISTENCE] = "Persistence",
    [CONFIG_GROUP_REPLICATION] = "Replication",
    [CONFIG_GROUP_CLUSTER] = "Cluster",
    [CONFIG_GROUP_TLS] = "TLS",
    [CONFIG_GROUP_OTHER] = "Other",
};

const char *const config_unit_names[CONFIG_UNITS] = {
    [CONFIG_UNIT_NONE] = "",
    [CONFIG_UNIT_SECONDS] = "seconds",
    [CONFIG_UNIT_MILLISECONDS] = "milliseconds",
    [CONFIG_UNIT_MICROSECONDS] = "microseconds",
    [CONFIG_UNIT_MINUTES] = "minutes",
    [CONFIG_UNIT_BYTES] = "bytes",
    [CONFIG_UNIT_PERCENT] = "percent",
};

/* ---- Checks ---- */

static bool check_bind(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    const struct config_words *addresses = value;
    return addresses->count <= 16 ? true : config_fail(error, "Too many bind addresses specified.");
}

static bool check_shards(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    uint64_t shards = (uint64_t) * (int64_t *)value;
    return (shards & (shards - 1)) == 0 ? true : config_fail(error, "argument must be 0 or a power of two");
}

/* Any number is taken, as by Redis, and brought into the range that makes sense. */
static bool check_hz(const struct config *config, void *value, struct config_error *error) {
    (void)config, (void)error;
    int64_t *hz = value;
    if (*hz < 1) *hz = 1;
    if (*hz > 500) *hz = 500;
    return true;
}

static bool check_shutdown(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    int both = CONFIG_SHUTDOWN_SAVE | CONFIG_SHUTDOWN_NOSAVE;
    if ((*(int *)value & both) != both) return true;
    return config_fail(error, "shutdown options SAVE and NOSAVE can't be used simultaneously");
}

static bool check_dbfilename(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    const char *name = *(char **)value;
    return strchr(name, '/') == NULL ? true : config_fail(error, "dbfilename can't be a path, just a filename");
}

static bool check_appendfilename(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    return strchr(*(char **)value, '/') == NULL ? true
                                                : config_fail(error, "appendfilename can't be a path, just a filename");
}

static bool check_appenddirname(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    return strchr(*(char **)value, '/') == NULL ? true
                                                : config_fail(error, "appenddirname can't be a path, just a dirname");
}

static bool check_renames(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    return ((struct config_words *)value)->count % 2 == 0 ? true : config_fail(error, "wrong number of arguments");
}

/* replicaof no one: as if the line were not there. */
static bool check_replicaof(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    struct config_words *words = value;
    int64_t port;
    if (words->count == 0) return true;
    if (words->count != 2) return config_fail(error, "wrong number of arguments");
    if (strcasecmp(words->words[0], "no") == 0 && strcasecmp(words->words[1], "one") == 0) {
        config_type_words.release(words);
        return true;
    }
    if (number_parse_i64(span_of_text(words->words[1]), &port) && port >= 0 && port <= 65535) return true;
    return config_fail(error, "Invalid master port");
}

static bool check_dir(const struct config *config, void *value, struct config_error *error) {
    char **dir = value;
    char absolute[PATH_MAX];
    struct stat status;
    if (!config_resolve_path(config, *dir, absolute)) return config_fail(error, "%s", strerror(ENAMETOOLONG));
    char *real = realpath(absolute, NULL);
    if (!real) return config_fail(error, "%s", strerror(errno));
    if (stat(real, &status) != 0 || !S_ISDIR(status.st_mode)) {
        free(real);
        return config_fail(error, "%s", strerror(ENOTDIR));
    }
    free(*dir);
    *dir = real;
    return true;
}

static bool check_numa_policy(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    if (numa_policy_is_valid(*(char **)value)) return true;
    return config_fail(error, "argument must be 'local', 'interleave' or a list of nodes such as 0,2-3");
}

static bool check_far_nodes(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    if (numa_far_is_valid(*(char **)value)) return true;
    return config_fail(error, "argument must be 'auto', 'none' or a list of nodes such as 0,2-3");
}

static bool check_segment_size(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    int64_t bytes = *(int64_t *)value;
    if (bytes == 0 || (bytes >= MEGABYTE && (bytes & (bytes - 1)) == 0)) return true;
    return config_fail(error, "argument must be 0 or a power of two from 1mb to 64mb");
}

static bool check_title_template(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    static const char *const variables[] = {"title",    "listen-addr", "server-mode", "port",
                                            "tls-port", "unixsocket",  "config-file"};
    const char *at = *(char **)value;
    bool valid = *at != '\0';
    while (valid && (at = strchr(at, '{'))) {
        const char *end = strchr(++at, '}');
        valid = false;
        for (size_t i = 0; end && i < sizeof(variables) / sizeof(variables[0]); i++) {
            if (span_equal(span_of(at, (size_t)(end - at)), span_of_text(variables[i]))) valid = true;
        }
    }
    return valid ? true : config_fail(error, "template format is invalid or contains unknown variables");
}

/* ---- Choices ---- */

static const struct config_choice log_levels[] = {{"debug", LOG_LEVEL_DEBUG},     {"verbose", LOG_LEVEL_VERBOSE},
                                                  {"notice", LOG_LEVEL_NOTICE},   {"warning", LOG_LEVEL_WARNING},
                                                  {"nothing", LOG_LEVEL_NOTHING}, {NULL, 0}};
static const struct config_choice syslog_facilities[] = {{"user", LOG_USER},     {"local0", LOG_LOCAL0},
                                                         {"local1", LOG_LOCAL1}, {"local2", LOG_LOCAL2},
                                                         {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},
                                                         {"local5", LOG_LOCAL5}, {"local6", LOG_LOCAL6},
                                                         {"local7", LOG_LOCAL7}, {NULL, 0}};
static const struct config_choice fsync_choices[] = {
    {"everysec", AOF_SYNC_EVERY_SECOND}, {"always", AOF_SYNC_ALWAYS}, {"no", AOF_SYNC_NO}, {NULL, 0}};
static const struct config_choice supervisors[] = {{"upstart", CONFIG_SUPERVISED_UPSTART},
                                                   {"systemd", CONFIG_SUPERVISED_SYSTEMD},
                                                   {"auto", CONFIG_SUPERVISED_AUTO},
                                                   {"no", CONFIG_SUPERVISED_NO},
                                                   {NULL, 0}};
/* Two names of one choice: the first is the one that is answered. */
static const struct config_choice oom_choices[] = {{"no", CONFIG_OOM_NO},
                                                   {"yes", CONFIG_OOM_RELATIVE},
                                                   {"relative", CONFIG_OOM_RELATIVE},
                                                   {"absolute", CONFIG_OOM_ABSOLUTE},
                                                   {NULL, 0}};
static const struct config_choice permissions[] = {
    {"no", CONFIG_PERMIT_NO}, {"yes", CONFIG_PERMIT_YES}, {"local", CONFIG_PERMIT_LOCAL}, {NULL, 0}};
static const struct config_choice diskless_load_choices[] = {{"disabled", CONFIG_DISKLESS_LOAD_NO},
                                                             {"on-empty-db", CONFIG_DISKLESS_LOAD_ON_EMPTY},
                                                             {"swapdb", CONFIG_DISKLESS_LOAD_SWAP},
                                                             {NULL, 0}};
static const struct config_choice shutdown_options[] = {{"default", 0},
                                                        {"save", CONFIG_SHUTDOWN_SAVE},
                                                        {"nosave", CONFIG_SHUTDOWN_NOSAVE},
                                                        {"now", CONFIG_SHUTDOWN_NOW},
                                                        {"force", CONFIG_SHUTDOWN_FORCE},
                                                        {NULL, 0}};
static const struct config_choice policies[] = {{"volatile-lru", CONFIG_EVICT_LRU},
                                                {"volatile-lfu", CONFIG_EVICT_LFU},
                                                {"volatile-random", CONFIG_EVICT_RANDOM},
                                                {"volatile-ttl", CONFIG_EVICT_TTL},
                                                {"allkeys-lru", CONFIG_EVICT_LRU | CONFIG_EVICT_ALL_KEYS},
                                                {"allkeys-lfu", CONFIG_EVICT_LFU | CONFIG_EVICT_ALL_KEYS},
                                                {"allkeys-random", CONFIG_EVICT_RANDOM | CONFIG_EVICT_ALL_KEYS},
                                                {"noeviction", CONFIG_EVICT_NOTHING},
                                                {NULL, 0}};

static const struct config_choice compressions[] = {{"lz4", CONFIG_TIER_LZ4}, {"none", CONFIG_TIER_NONE}, {NULL, 0}};
static const struct config_choice direct_io[] = {
    {"auto", TIER_DIRECT_AUTO}, {"yes", TIER_DIRECT_YES}, {"no", TIER_DIRECT_NO}, {NULL, 0}};

/* ---- Rows ---- */

/* The field's offset; an array of negative size if the field is not of the type. */
#define FIELD(field_type, field)                                                                                       \
    (offsetof(struct config, field) +                                                                                  \
     0 * sizeof(char[__builtin_types_compatible_p(field_type, __typeof__(((struct config *)0)->field)) ? 1 : -1]))

#define COMMON(name_, alias_, group_, default_, flags_, ...)                                                           \
    .name = name_, .alias = alias_, .group = CONFIG_GROUP_##group_, .default_text = default_, .flags = flags_,         \
    .help = __VA_ARGS__
#define NUMBER(type_, name_, alias_, group_, field_, min_, max_, unit_, default_, flags_, ...)                         \
    {                                                                                                                  \
        .type = &config_type_##type_, .offset = FIELD(int64_t, field_), .min = min_, .max = max_,                      \
        .unit = CONFIG_UNIT_##unit_, COMMON(name_, alias_, group_, default_, flags_, __VA_ARGS__)                      \
    }
#define INTEGER(...) NUMBER(integer, __VA_ARGS__)
#define MEMORY(name_, alias_, group_, field_, min_, max_, ...)                                                         \
    NUMBER(memory, name_, alias_, group_, field_, min_, max_, BYTES, __VA_ARGS__)
#define BOOL(name_, alias_, group_, field_, default_, flags_, ...)                                                     \
    {                                                                                                                  \
        .type = &config_type_bool, .offset = FIELD(bool, field_),                                                      \
        COMMON(name_, alias_, group_, default_, flags_, __VA_ARGS__)                                                   \
    }
#define STRING(name_, alias_, group_, field_, default_, flags_, ...)                                                   \
    {                                                                                                                  \
        .type = &config_type_string, .offset = FIELD(char *, field_),                                                  \
        COMMON(name_, alias_, group_, default_, flags_, __VA_ARGS__)                                                   \
    }
#define CHOICE(name_, alias_, group_, field_, choices_, default_, flags_, ...)                                         \
    {                                                                                                                  \
        .type = &config_type_choice, .offset = FIELD(int, field_), .choices = choices_,                                \
        COMMON(name_, alias_, group_, default_, flags_, __VA_ARGS__)                                                   \
    }
#define FLAGS(name_, alias_, group_, field_, choices_, default_, flags_, ...)                                          \
    {                                                                                                                  \
        .type = &config_type_flags, .offset = FIELD(int, field_), .choices = choices_,                                 \
        COMMON(name_, alias_, group_, default_, flags_, __VA_ARGS__)                                                   \
    }
#define SPECIAL(type_, field_type_, name_, alias_, group_, field_, default_, flags_, ...)                              \
    {                                                                                                                  \
        .type = &config_type_##type_, .offset = FIELD(field_type_, field_),                                            \
        COMMON(name_, alias_, group_, default_, flags_, __VA_ARGS__)                                                   \
    }

#define RUNTIME CONFIG_RUNTIME
#define START   0
#define FIXED   CONFIG_OURS /* START, of a directive that Redis does not have */

/* Why a directive has no effect. */
#define FREED_AT_ONCE "freeing takes no time worth putting off"

const struct config_row config_rows_served[] = {
    /* Network */
    SPECIAL(words, struct config_words, "bind", NULL, NETWORK, network.bind, "* -::*", RUNTIME,
            "Addresses to listen on; a minus before one means it may be missing on this host", .check = check_bind),
    STRING("bind-source-addr", NULL, NETWORK, network.bind_source_address, "", RUNTIME,
           "Address that the connection to a primary comes from; empty: the kernel chooses"),
    INTEGER("port", NULL, NETWORK, network.port, 0, 65535, NONE, "6379", RUNTIME, "TCP port; 0 for no TCP at all"),
    INTEGER("tcp-backlog", NULL, NETWORK, network.tcp_backlog, 0, INT32_MAX, NONE, "511", START,
            "Connections the kernel may queue before they are accepted"),
    STRING("unixsocket", NULL, NETWORK, network.unixsocket, "", START, "Path of a Unix socket to listen on as well"),
    NUMBER(octal, "unixsocketperm", NULL, NETWORK, network.unixsocketperm, 0, 0777, NONE, "0", START,
           "Permissions of the Unix socket, octal; 0 leaves them to the umask"),
    INTEGER("timeout", NULL, NETWORK, network.timeout_seconds, 0, INT32_MAX, SECONDS, "0", RUNTIME,
            "Close a connection that has been idle this long; 0 for never"),
    INTEGER("tcp-keepalive", NULL, NETWORK, network.tcp_keepalive_seconds, 0, INT32_MAX, SECONDS, "300", RUNTIME,
            "Probe silent peers at this interval so that dead ones are noticed; 0 for never"),
    BOOL("protected-mode", NULL, NETWORK, network.protected_mode, "yes", RUNTIME,
         "Without a password, refuse clients of other hosts"),

    /* General */
    INTEGER("threads", NULL, GENERAL, general.threads, 0, LIMIT_WORKERS, NONE, "0", FIXED,
            "Worker threads; 0 for one on each CPU the process may use"),
    INTEGER("shards", NULL, GENERAL, general.shards, 0, LIMIT_SHARDS, NONE, "0", FIXED,
            "Parts the keyspace is cut into, a power of two; 0 to choose from threads and maxmemory",
            .check = check_shards),
    INTEGER("databases", NULL, GENERAL, general.databases, 1, LIMIT_DATABASES, NONE, "16", START,
            "Number of databases SELECT can choose from"),
    BOOL("daemonize", NULL, GENERAL, general.daemonize, "no", START, "Run in the background"),
    CHOICE("supervised", NULL, GENERAL, general.supervised, supervisors, "no", START,
           "Tell the supervisor that started the server when it is ready"),
    STRING("pidfile", NULL, GENERAL, general.pidfile, "", START,
           "File that holds the process id while the server runs"),
    STRING("dir", NULL, GENERAL, general.dir, "./", RUNTIME | CONFIG_IF_LOADED | CONFIG_PROTECTED,
           "Working directory; data files and relative paths are found there", .check = check_dir),
    INTEGER("hz", NULL, GENERAL, general.hz, 0, INT32_MAX, NONE, "10", RUNTIME,
            "Rounds of background work per second, 1 to 500", .check = check_hz),
    BOOL("dynamic-hz", NULL, GENERAL, general.dynamic_hz, "yes", RUNTIME, "Raise hz while many clients are connected",
         .inert = "hz stays as it is set"),
    INTEGER("active-expire-effort", NULL, GENERAL, general.active_expire_effort, 1, 10, NONE, "1", RUNTIME,
            "How much time removing expired keys may take, 1 to 10"),
    INTEGER("shutdown-timeout", NULL, GENERAL, general.shutdown_timeout_seconds, 0, INT32_MAX, SECONDS, "10", RUNTIME,
            "How long a shutdown waits for replicas that lag behind"),
    FLAGS("shutdown-on-sigint", NULL, GENERAL, general.shutdown_on_sigint, shutdown_options, "default", RUNTIME,
          "What SIGINT does: default, or some of save, nosave, now, force", .check = check_shutdown),
    FLAGS("shutdown-on-sigterm", NULL, GENERAL, general.shutdown_on_sigterm, shutdown_options, "default", RUNTIME,
          "What SIGTERM does: default, or some of save, nosave, now, force", .check = check_shutdown),
    CHOICE("oom-score-adj", NULL, GENERAL, general.oom_score_adj, oom_choices, "no", RUNTIME,
           "Tell the kernel how readily to end the server when memory runs out: no, relative (yes) or absolute"),
    SPECIAL(scores, int64_t[3], "oom-score-adj-values", NULL, GENERAL, general.oom_score_values, "0 200 800", RUNTIME,
            "Scores for that, of a primary, a replica and a background process"),
    BOOL("set-proc-title", NULL, GENERAL, general.set_proc_title, "yes", START,
         "Show address and mode in the process title"),
    STRING("proc-title-template", NULL, GENERAL, general.proc_title_template, "{title} {listen-addr} {server-mode}",
           RUNTIME, "The process title, built from variables in braces", .check = check_title_template),
    BOOL("crash-log-enabled", NULL, GENERAL, general.crash_log_enabled, "yes", RUNTIME,
         "Log where the server was when it crashes"),
    BOOL("always-show-logo", NULL, GENERAL, general.always_show_logo, "no", START,
         "Show the logo even when the log is not a terminal"),

    /* Log */
    CHOICE("loglevel", NULL, LOGGING, logging.level, log_levels, "notice", RUNTIME,
           "Least important lines to log: debug, verbose, notice, warning, nothing"),
    STRING("logfile", NULL, LOGGING, logging.logfile, "", START, "Log file; empty for standard output"),
    BOOL("syslog-enabled", NULL, LOGGING, logging.syslog_enabled, "no", START, "Log to the system's log too"),
    STRING("syslog-ident", NULL, LOGGING, logging.syslog_ident, "terrace", START, "Name in the system's log"),
    CHOICE("syslog-facility", NULL, LOGGING, logging.syslog_facility, syslog_facilities, "local0", START,
           "Facility in the system's log: user, local0 ... local7"),

    /* Security */
    SPECIAL(secret, struct config_secret, "requirepass", NULL, SECURITY, security.requirepass, "", RUNTIME,
            "Password that clients must give; empty for none"),
    CHOICE("enable-debug-command", NULL, SECURITY, security.enable_debug_command, permissions, "no", START,
           "Who may use DEBUG: no, yes, or local connections only"),
    CHOICE("enable-protected-configs", NULL, SECURITY, security.enable_protected_configs, permissions, "no", START,
           "Who may set protected directives at run time: no, yes, or local connections only"),
    SPECIAL(words, struct config_words, "rename-command", NULL, SECURITY, security.renamed_commands, "",
            CONFIG_FILE_ONLY | CONFIG_HIDDEN | CONFIG_ADDS, "Give a command another name, or none (\"\")",
            .check = check_renames),

    /* Clients */
    INTEGER("maxclients", NULL, CLIENTS, clients.maxclients, 1, UINT32_MAX, NONE, "10000", RUNTIME,
            "Connections at the same time"),
    MEMORY("client-query-buffer-limit", NULL, CLIENTS, clients.query_buffer_limit_bytes, MEGABYTE, INT64_MAX,
           "1073741824", RUNTIME, "Unparsed input a client may pile up before it is disconnected"),
    MEMORY("proto-max-bulk-len", NULL, CLIENTS, clients.proto_max_bulk_bytes, MEGABYTE, INT64_MAX, "536870912", RUNTIME,
           "Longest single argument of a command"),
    SPECIAL(limits, struct config_output_limits, "client-output-buffer-limit", NULL, CLIENTS, clients.output_limits,
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", RUNTIME | CONFIG_MERGES,
            "Unread output (hard limit, soft limit, seconds above the soft one) that disconnects a client, per class"),
    SPECIAL(share, struct config_share, "maxmemory-clients", NULL, CLIENTS, clients.maxmemory_clients, "0", RUNTIME,
            "Memory all clients together may use, in bytes or percent of maxmemory; 0 for no limit"),
    INTEGER("tracking-table-max-keys", NULL, CLIENTS, clients.tracking_keys_max, 0, INT64_MAX, NONE, "1000000", RUNTIME,
            "Keys remembered for client-side caching; 0 for no limit"),

    /* Memory */
    MEMORY("maxmemory", NULL, MEMORY, memory.maxmemory_bytes, 0, INT64_MAX, "0", RUNTIME,
           "Memory the process may occupy; 0 for no limit"),
    CHOICE("maxmemory-policy", NULL, MEMORY, memory.maxmemory_policy, policies, "noeviction", RUNTIME,
           "Which keys go when maxmemory is reached"),
    INTEGER("maxmemory-samples", NULL, MEMORY, memory.maxmemory_samples, 1, INT32_MAX, NONE, "5", RUNTIME,
            "Keys compared for each one that goes"),
    INTEGER("maxmemory-eviction-tenacity", NULL, MEMORY, memory.maxmemory_eviction_tenacity, 0, 100, NONE, "10",
            RUNTIME, "How much a command may be delayed by making room, 0 to 100"),
    INTEGER("lfu-log-factor", NULL, MEMORY, memory.lfu_log_factor, 0, INT32_MAX, NONE, "10", RUNTIME,
            "How slowly a key's access counter saturates"),
    INTEGER("lfu-decay-time", NULL, MEMORY, memory.lfu_decay_time_minutes, 0, INT32_MAX, MINUTES, "1", RUNTIME,
            "Time after which an access counter loses one point; 0 for never"),
    STRING(
        "numa-policy", NULL, MEMORY, memory.numa_policy, "local", FIXED,
        "NUMA nodes that hold the keys: local (those of the workers), interleave (all near ones), or a list as 0,2-3",
        .check = check_numa_policy),
    MEMORY("near-memory-size", NULL, MEMORY, memory.near_memory_bytes, 0, INT64_MAX, "0", RUNTIME,
           "Memory that keys may take on near nodes before the coldest go to far memory; 0 for 15/16 of those nodes"),
    STRING("far-memory-nodes", NULL, MEMORY, memory.far_memory_nodes, "auto", FIXED,
           "NUMA nodes used as far memory: auto (those without CPUs), none, or a list as 2,4-5",
           .check = check_far_nodes),
    BOOL("lazyfree-lazy-eviction", NULL, MEMORY, memory.lazyfree_eviction, "no", RUNTIME,
         "Release evicted values in the background"),
    BOOL("lazyfree-lazy-expire", NULL, MEMORY, memory.lazyfree_expire, "no", RUNTIME,
         "Release expired values in the background", .inert = FREED_AT_ONCE),
    BOOL("lazyfree-lazy-server-del", NULL, MEMORY, memory.lazyfree_server_del, "no", RUNTIME,
         "Release values that a command overwrites in the background", .inert = FREED_AT_ONCE),
    BOOL("lazyfree-lazy-user-del", NULL, MEMORY, memory.lazyfree_user_del, "no", RUNTIME, "Let DEL work as UNLINK",
         .inert = FREED_AT_ONCE),
    BOOL("lazyfree-lazy-user-flush", NULL, MEMORY, memory.lazyfree_user_flush, "no", RUNTIME,
         "Let FLUSHALL and FLUSHDB work in the background unless told SYNC", .inert = FREED_AT_ONCE),

    /* Tier */
    STRING("tier-path", NULL, TIER, tier.path, "", FIXED,
           "File (or block device) that holds the records memory has no room for; empty for no tier"),
    MEMORY("tier-size", NULL, TIER, tier.size_bytes, 0, INT64_MAX, "0", FIXED,
           "How large the tier's file may grow; 0 for nine tenths of what its file system has free. With tier-persist, "
           "below four times maxmemory, a checkpoint that finds no room makes it larger"),
    CHOICE("tier-compression", NULL, TIER, tier.compression, compressions, "lz4", FIXED,
           "Whether blocks on the tier are compressed"),
    CHOICE("tier-direct-io", NULL, TIER, tier.direct_io, direct_io, "auto", FIXED,
           "Whether the page cache is bypassed: auto where the file system allows it"),
    BOOL("tier-persist", NULL, TIER, tier.persist, "no", FIXED,
         "Whether the tier's file survives the server: a start then reads its last checkpoint instead of a snapshot"),
    INTEGER("tier-checkpoint-seconds", NULL, TIER, tier.checkpoint_seconds, 0, INT32_MAX, SECONDS, "900", RUNTIME,
            "With tier-persist: time between two checkpoints; 0 for none but at a shutdown or when space is needed"),
    MEMORY("tier-segment-size", NULL, TIER, tier.segment_bytes, 0, 64 * MEGABYTE, "0", FIXED,
           "Unit in which space on the tier is reused, a power of two; 0 to choose by maxmemory",
           .check = check_segment_size),
    MEMORY(
        "tier-record-budget", NULL, TIER, tier.record_budget_bytes, 0, INT64_MAX, "0", RUNTIME,
        "Memory for records, beyond which they move to the tier although maxmemory would allow more; 0 for no limit"),

    STRING(
        "pmem-pool", NULL, TIER, pmem.pool, "", FIXED,
        "Pool of persistent memory (a file on a DAX file system, or a pool set) that holds data and journal, in place "
        "of tier-path: what is answered is durable; several, one for each NUMA node, with commas; empty for none"),
    MEMORY("pmem-size", NULL, TIER, pmem.size_bytes, 0, INT64_MAX, "0", RUNTIME,
           "How large each pool is made where pmem-pool names nothing yet; a file that is shorter grows"),
    STRING("pmem-node", NULL, TIER, pmem.node, "auto", FIXED,
           "NUMA node of each pool, with commas, whose shards' records go there: auto asks the kernel"),

    /* Monitoring */
    INTEGER("slowlog-log-slower-than", NULL, MONITORING, monitoring.slowlog_slower_than_us, -1, INT64_MAX, MICROSECONDS,
            "10000", RUNTIME, "Commands slower than this are kept for SLOWLOG; -1 for none"),
    INTEGER("slowlog-max-len", NULL, MONITORING, monitoring.slowlog_entries_max, 0, INT64_MAX, NONE, "128", RUNTIME,
            "Entries SLOWLOG keeps"),
    INTEGER("latency-monitor-threshold", NULL, MONITORING, monitoring.latency_monitor_threshold_ms, 0, INT64_MAX,
            MILLISECONDS, "0", RUNTIME, "Events slower than this are kept for LATENCY; 0 for none"),
    BOOL("latency-tracking", NULL, MONITORING, monitoring.latency_tracking, "yes", RUNTIME,
         "Keep a latency histogram of each command"),
    SPECIAL(percentiles, struct config_percentiles, "latency-tracking-info-percentiles", NULL, MONITORING,
            monitoring.latency_percentiles, "50 99 99.9", RUNTIME, "Percentiles shown in INFO latencystats"),
    SPECIAL(events, int, "notify-keyspace-events", NULL, MONITORING, monitoring.keyspace_events, "", RUNTIME,
            "Changes of keys that are published, a letter for each class, and K or E for where; empty for none"),

    /* Encodings */
    INTEGER("hash-max-listpack-entries", "hash-max-ziplist-entries", ENCODING, encoding.hash_packed_entries, 0,
            INT64_MAX, NONE, "512", RUNTIME, "Fields up to which a hash is packed"),
    MEMORY("hash-max-listpack-value", "hash-max-ziplist-value", ENCODING, encoding.hash_packed_bytes, 0, INT64_MAX,
           "64", RUNTIME, "Longest field or value of a packed hash"),
    INTEGER("list-max-listpack-size", "list-max-ziplist-size", ENCODING, encoding.list_packed_size, INT32_MIN,
            INT32_MAX, NONE, "-2", RUNTIME, "Size of a packed list: elements, or -1 to -5 for 4 to 64 kB"),
    INTEGER("set-max-intset-entries", NULL, ENCODING, encoding.set_intset_entries, 0, INT64_MAX, NONE, "512", RUNTIME,
            "Members up to which a set of integers is an array"),
    INTEGER("set-max-listpack-entries", NULL, ENCODING, encoding.set_packed_entries, 0, INT64_MAX, NONE, "128", RUNTIME,
            "Members up to which a set is packed"),
    MEMORY("set-max-listpack-value", NULL, ENCODING, encoding.set_packed_bytes, 0, INT64_MAX, "64", RUNTIME,
           "Longest member of a packed set"),
    INTEGER("zset-max-listpack-entries", "zset-max-ziplist-entries", ENCODING, encoding.sorted_set_packed_entries, 0,
            INT64_MAX, NONE, "128", RUNTIME, "Members up to which a sorted set is packed"),
    MEMORY("zset-max-listpack-value", "zset-max-ziplist-value", ENCODING, encoding.sorted_set_packed_bytes, 0,
           INT64_MAX, "64", RUNTIME, "Longest member of a packed sorted set"),
    INTEGER("stream-node-max-entries", NULL, ENCODING, encoding.stream_node_entries, 0, INT64_MAX, NONE, "100", RUNTIME,
            "Entries of a stream that are trimmed together by MAXLEN ~ and MINID ~; 0: those of a page"),
    MEMORY("hll-sparse-max-bytes", NULL, ENCODING, encoding.hll_sparse_bytes_max, 0, INT64_MAX, "3000", RUNTIME,
           "Size at which a HyperLogLog becomes dense"),

    /* Persistence */
    SPECIAL(
        save, struct config_save_points, "save", NULL, PERSISTENCE, persistence.save, "3600 1 300 100 60 10000",
        RUNTIME | CONFIG_ADDS | CONFIG_DEPENDS,
        "Write a snapshot when so many changes were made in so many seconds; \"\" for never, which is the default with "
        "tier-persist and pmem-pool"),
    STRING("dbfilename", NULL, PERSISTENCE, persistence.dbfilename, "dump.rdb", RUNTIME | CONFIG_PROTECTED,
           "Name of the snapshot file in `dir`", .check = check_dbfilename),
    BOOL("rdbcompression", NULL, PERSISTENCE, persistence.rdb_compression, "yes", RUNTIME,
         "Compress strings in snapshots"),
    BOOL("rdbchecksum", NULL, PERSISTENCE, persistence.rdb_checksum, "yes", START, "End snapshots with a checksum"),
    BOOL("rdb-save-incremental-fsync", NULL, PERSISTENCE, persistence.rdb_incremental_fsync, "yes", RUNTIME,
         "Flush a snapshot to the disk while it is written"),
    INTEGER("rdb-version", NULL, PERSISTENCE, persistence.rdb_version, 10, 12, NONE, "10", RUNTIME,
            "Version of snapshots: 10 for Redis 7.0 and later, 11 for 7.2, 12 for 7.4"),
    BOOL("stop-writes-on-bgsave-error", NULL, PERSISTENCE, persistence.stop_writes_on_error, "yes", RUNTIME,
         "Refuse writes after a failed snapshot"),
    INTEGER("rdb-key-save-delay", NULL, PERSISTENCE, persistence.key_save_delay_us, INT32_MIN, INT32_MAX, MICROSECONDS,
            "0", RUNTIME | CONFIG_HIDDEN, "For tests: pause after each key saved"),
    INTEGER("key-load-delay", NULL, PERSISTENCE, persistence.key_load_delay_us, INT32_MIN, INT32_MAX, MICROSECONDS, "0",
            RUNTIME | CONFIG_HIDDEN, "For tests: pause after each key loaded"),
    BOOL("appendonly", NULL, PERSISTENCE, persistence.appendonly, "no", RUNTIME | CONFIG_IF_LOADED,
         "Log every write to the append-only file"),
    STRING("appendfilename", NULL, PERSISTENCE, persistence.append_filename, "appendonly.aof", START,
           "Name that those of the append-only files begin with", .check = check_appendfilename),
    STRING("appenddirname", NULL, PERSISTENCE, persistence.append_dirname, "appendonlydir", START,
           "Directory of the append-only files, within `dir`", .check = check_appenddirname),
    CHOICE("appendfsync", NULL, PERSISTENCE, persistence.append_fsync, fsync_choices, "everysec", RUNTIME,
           "When the append-only file is flushed: always (before any reply that depends on it), everysec, no"),
    BOOL("no-appendfsync-on-rewrite", NULL, PERSISTENCE, persistence.no_fsync_on_rewrite, "no", RUNTIME,
         "Let everysec not flush during a rewrite"),
    INTEGER("auto-aof-rewrite-percentage", NULL, PERSISTENCE, persistence.auto_rewrite_percentage, 0, INT32_MAX,
            PERCENT, "100", RUNTIME, "Growth since the last rewrite that triggers the next; 0: never"),
    MEMORY("auto-aof-rewrite-min-size", NULL, PERSISTENCE, persistence.auto_rewrite_min_bytes, 0, INT64_MAX, "67108864",
           RUNTIME, "Size below which no rewrite is triggered"),
    BOOL("aof-load-truncated", NULL, PERSISTENCE, persistence.aof_load_truncated, "yes", RUNTIME,
         "Cut off the torn end of the append-only file instead of refusing to start"),
    BOOL("aof-use-rdb-preamble", NULL, PERSISTENCE, persistence.aof_rdb_preamble, "yes", RUNTIME,
         "Write the base of the append-only file as RDB, not as commands"),
    BOOL("aof-timestamp-enabled", NULL, PERSISTENCE, persistence.aof_timestamps, "no", RUNTIME,
         "Note the time in the append-only file, each second"),
    BOOL("aof-rewrite-incremental-fsync", NULL, PERSISTENCE, persistence.aof_incremental_fsync, "yes", RUNTIME,
         "Flush the base to the disk while it is written"),
    BOOL("aof-disable-auto-gc", NULL, PERSISTENCE, persistence.aof_keeps_history, "no", RUNTIME,
         "Keep the append-only files that a rewrite has superseded"),

    SPECIAL(words, struct config_words, "replicaof", "slaveof", REPLICATION, replication.replicaof, "", START,
            "Primary to copy: host and port; at run time by the command of that name", .check = check_replicaof),
    SPECIAL(secret, struct config_secret, "masterauth", NULL, REPLICATION, replication.masterauth, "", RUNTIME,
            "Password for the primary"),
    STRING("masteruser", NULL, REPLICATION, replication.masteruser, "", RUNTIME, "User name for the primary"),
    BOOL("replica-serve-stale-data", "slave-serve-stale-data", REPLICATION, replication.serve_stale_data, "yes",
         RUNTIME, "Answer reads while the primary is out of reach"),
    BOOL("replica-read-only", "slave-read-only", REPLICATION, replication.read_only, "yes", RUNTIME,
         "Refuse writes on a replica"),
    BOOL("replica-ignore-maxmemory", "slave-ignore-maxmemory", REPLICATION, replication.ignore_maxmemory, "yes",
         RUNTIME, "Leave eviction to the primary"),
    BOOL("replica-announced", NULL, REPLICATION, replication.announced, "yes", RUNTIME,
         "Let Sentinel list this replica"),
    STRING("replica-announce-ip", "slave-announce-ip", REPLICATION, replication.announce_ip, "", RUNTIME,
           "Address a replica reports"),
    INTEGER("replica-announce-port", "slave-announce-port", REPLICATION, replication.announce_port, 0, 65535, NONE, "0",
            RUNTIME, "Port a replica reports"),
    INTEGER("replica-priority", "slave-priority", REPLICATION, replication.priority, 0, INT32_MAX, NONE, "100", RUNTIME,
            "Rank in a failover; lower goes first, 0 never"),
    BOOL("repl-disable-tcp-nodelay", NULL, REPLICATION, replication.disable_tcp_nodelay, "no", RUNTIME,
         "Fewer, larger packets to replicas"),
    BOOL("repl-diskless-sync", NULL, REPLICATION, replication.diskless_sync, "yes", RUNTIME,
         "Send full copies without a file"),
    CHOICE("repl-diskless-load", NULL, REPLICATION, replication.diskless_load, diskless_load_choices, "disabled",
           RUNTIME,
           "Load a full copy without a file: disabled; on-empty-db; swapdb: beside the present dataset, which stays if "
           "it fails"),
    INTEGER("repl-diskless-sync-delay", NULL, REPLICATION, replication.diskless_sync_delay_seconds, 0, INT32_MAX,
            SECONDS, "5", RUNTIME, "Wait for more replicas before a full copy"),
    INTEGER("repl-diskless-sync-max-replicas", NULL, REPLICATION, replication.diskless_sync_replicas_max, 0, INT32_MAX,
            NONE, "0", RUNTIME, "Replicas that end this wait; 0 for none"),
    INTEGER("repl-ping-replica-period", "repl-ping-slave-period", REPLICATION, replication.ping_seconds, 1, INT32_MAX,
            SECONDS, "10", RUNTIME, "Interval of pings to replicas"),
    INTEGER("repl-timeout", NULL, REPLICATION, replication.timeout_seconds, 1, INT32_MAX, SECONDS, "60", RUNTIME,
            "Silence after which a link is given up"),
    MEMORY("repl-backlog-size", NULL, REPLICATION, replication.backlog_bytes, 1, INT64_MAX, "1048576", RUNTIME,
           "Recent writes kept for replicas that reconnect"),
    INTEGER("repl-backlog-ttl", NULL, REPLICATION, replication.backlog_ttl_seconds, 0, INT64_MAX, SECONDS, "3600",
            RUNTIME, "How long they are kept without any replica"),
    INTEGER("min-replicas-to-write", "min-slaves-to-write", REPLICATION, replication.replicas_to_write, 0, INT32_MAX,
            NONE, "0", RUNTIME, "Replicas without which writes are refused"),
    INTEGER("min-replicas-max-lag", "min-slaves-max-lag", REPLICATION, replication.replicas_lag_seconds_max, 0,
            INT32_MAX, SECONDS, "10", RUNTIME, "Lag up to which a replica counts"),
};

const size_t config_rows_served_count = sizeof(config_rows_served) / sizeof(config_rows_served[0]);

/* ---- Look-up ---- */

size_t config_row_count(void) {
    return config_rows_served_count + config_rows_accepted_count;
}

const struct config_row *config_row_at(size_t index) {
    assert(index < config_row_count());
    if (index < config_rows_served_count) return &config_rows_served[index];
    return &config_rows_accepted[index - config_rows_served_count];
}

static bool is_named(const char *candidate, struct span name) {
    return candidate && strlen(candidate) == name.length && strncasecmp(candidate, name.data, name.length) == 0;
}

size_t config_row_find(struct span name) {
    for (size_t i = 0; i < config_row_count(); i++) {
        const struct config_row *row = config_row_at(i);
        if (is_named(row->name, name) || is_named(row->alias, name)) return i;
    }
    return SIZE_MAX;
}
