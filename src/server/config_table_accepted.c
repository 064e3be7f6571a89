/* Directives that are accepted and stored, and on which nothing acts.
 *
 * Files written for Redis must start this server, and drivers, test suites and dashboards read and set directives of
 * features that are not here (yet) or have no meaning here. Such a value is parsed with Redis's type and bounds, kept,
 * and answered by CONFIG GET. A value other than the default in a file earns one warning line, whose reason is given
 * here. Where silence would be a false promise of safety (an append-only file, TLS, access control), the server
 * refuses to start instead. */

#include "server/config_table.h"

#include <stdlib.h>
#include <strings.h>

static const struct config_choice sanitize_choices[] = {{"no", 0}, {"yes", 1}, {"clients", 2}, {NULL, 0}};
static const struct config_choice permissions[] = {
    {"no", CONFIG_PERMIT_NO}, {"yes", CONFIG_PERMIT_YES}, {"local", CONFIG_PERMIT_LOCAL}, {NULL, 0}};
static const struct config_choice pubsub_choices[] = {{"allchannels", 1}, {"resetchannels", 0}, {NULL, 0}};
static const struct config_choice endpoint_choices[] = {{"ip", 0}, {"hostname", 1}, {"unknown-endpoint", 2}, {NULL, 0}};
static const struct config_choice propagation_choices[] = {
    {"ignore", 0}, {"panic", 1}, {"panic-on-replicas", 2}, {NULL, 0}};
static const struct config_choice tls_auth_choices[] = {{"no", 0}, {"yes", 1}, {"optional", 2}, {NULL, 0}};

static bool check_hostname(const struct config *config, void *value, struct config_error *error) {
    (void)config;
    for (const char *c = *(char **)value; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
        if (!letter && !(*c >= '0' && *c <= '9') && *c != '-' && *c != '.') {
            return config_fail(error, "Hostnames may only contain alphanumeric characters, hyphens or dots");
        }
    }
    return true;
}

#define COMMON(name_, alias_, group_, default_, flags_, inert_, ...)                                                   \
    .offset = CONFIG_NO_FIELD, .name = name_, .alias = alias_, .group = CONFIG_GROUP_##group_,                         \
    .default_text = default_, .flags = flags_, .inert = inert_, .help = __VA_ARGS__
#define NUMBER(type_, name_, alias_, group_, min_, max_, unit_, ...)                                                   \
    {                                                                                                                  \
        .type = &config_type_##type_, .min = min_, .max = max_, .unit = CONFIG_UNIT_##unit_,                           \
        COMMON(name_, alias_, group_, __VA_ARGS__)                                                                     \
    }
#define INTEGER(...) NUMBER(integer, __VA_ARGS__)
#define MEMORY(name_, alias_, group_, min_, max_, ...)                                                                 \
    NUMBER(memory, name_, alias_, group_, min_, max_, BYTES, __VA_ARGS__)
#define OTHER(type_, ...)                                                                                              \
    { .type = &config_type_##type_, COMMON(__VA_ARGS__) }
#define BOOL(...)   OTHER(bool, __VA_ARGS__)
#define STRING(...) OTHER(string, __VA_ARGS__)
#define WORDS(...)  OTHER(words, __VA_ARGS__)
#define CHOICE(choices_, ...)                                                                                          \
    { .type = &config_type_choice, .choices = choices_, COMMON(__VA_ARGS__) }

#define RUNTIME CONFIG_RUNTIME
#define START   0
#define FIXED   CONFIG_OURS /* START, of a name that Redis 7.0 does not have, or a later one sets at run time */
#define HIDDEN  CONFIG_HIDDEN

/* Why a directive has no effect. */
#define NO_TYPES    "this data type is not available yet"
#define NO_CLUSTER  "cluster mode is not available yet"
#define NO_TLS      "TLS is not available yet"
#define NO_SCRIPTS  "scripts are not available yet"
#define NO_ACL      "users are not available yet"
#define OWN_THREADS "the workers do their own I/O, see `threads`"
#define OWN_HEAP    "the record heap compacts itself all the time"
#define NOT_HERE    "it has no meaning here"

const struct config_row config_rows_accepted[] = {
    /* Network */
    INTEGER("socket-mark-id", NULL, NETWORK, 0, UINT32_MAX, NONE, "0", START, NOT_HERE,
            "Mark set on listening sockets"),
    INTEGER("max-new-connections-per-cycle", NULL, NETWORK, 1, 1000, NONE, "10", RUNTIME, NOT_HERE,
            "Connections accepted before commands are served again"),

    /* General */
    INTEGER("io-threads", NULL, GENERAL, 1, 128, NONE, "1", START, OWN_THREADS, "Threads that read and write sockets"),
    BOOL("io-threads-do-reads", NULL, GENERAL, "no", FIXED, OWN_THREADS, "Whether those threads also read"),
    STRING("server_cpulist", "server-cpulist", GENERAL, "", FIXED, "start the server under taskset or a cpuset instead",
           "CPUs the server runs on"),
    STRING("bio_cpulist", "bio-cpulist", GENERAL, "", FIXED, NOT_HERE, "CPUs of background threads"),
    STRING("aof_rewrite_cpulist", "aof-rewrite-cpulist", GENERAL, "", FIXED, NOT_HERE, "CPUs of the rewrite process"),
    STRING("bgsave_cpulist", "bgsave-cpulist", GENERAL, "", FIXED, NOT_HERE, "CPUs of the snapshot process"),
    BOOL("disable-thp", NULL, GENERAL, "yes", START, "nothing forks here, so huge pages only help",
         "Switch huge pages off"),
    STRING("ignore-warnings", NULL, GENERAL, "", RUNTIME, NOT_HERE,
           "Warnings that do not keep the server from starting"),
    BOOL("hide-user-data-from-log", NULL, GENERAL, "no", RUNTIME | CONFIG_HIDDEN, "the log shows no values",
         "Keep what clients store out of the log"),
    BOOL("crash-memcheck-enabled", NULL, GENERAL, "yes", RUNTIME, NOT_HERE, "Test the memory after a crash"),
    BOOL("use-exit-on-panic", NULL, GENERAL, "no", RUNTIME | HIDDEN, NOT_HERE, "Exit instead of aborting"),
    INTEGER("loading-process-events-interval-bytes", NULL, GENERAL, 1024, INT32_MAX, BYTES, "2097152", RUNTIME | HIDDEN,
            "clients are answered by other threads meanwhile", "What is loaded between two looks at clients"),
    INTEGER("watchdog-period", NULL, GENERAL, 0, INT32_MAX, MILLISECONDS, "0", RUNTIME | HIDDEN, NOT_HERE,
            "Report a server that hangs for this long"),
    STRING("locale-collate", NULL, GENERAL, "", RUNTIME, NO_TYPES, "Locale by which SORT ALPHA compares"),
    BOOL("enable-debug-assert", NULL, GENERAL, "no", START | HIDDEN, NOT_HERE, "Costly self-checks"),
    CHOICE(propagation_choices, "propagation-error-behavior", NULL, GENERAL, "ignore", RUNTIME, "it is logged",
           "What to do when a replicated command fails"),

    /* Security */
    CHOICE(permissions, "enable-module-command", NULL, SECURITY, "no", START, "there are no modules",
           "Who may use MODULE"),
    CHOICE(pubsub_choices, "acl-pubsub-default", NULL, SECURITY, "resetchannels", RUNTIME, NO_ACL,
           "Channels a new user may use"),
    INTEGER("acllog-max-len", NULL, SECURITY, 0, INT64_MAX, NONE, "128", RUNTIME, NO_ACL, "Entries ACL LOG keeps"),
    STRING("aclfile", NULL, SECURITY, "", START, NULL, "File of users and their rights",
           .refused = "users are not available yet, so its rules would not be enforced"),
    WORDS("user", NULL, SECURITY, "", CONFIG_FILE_ONLY | CONFIG_ADDS | HIDDEN, NULL, "A user and its rights",
          .refused = "users are not available yet, so these rules would not be enforced"),
    WORDS("loadmodule", NULL, SECURITY, "", CONFIG_FILE_ONLY | CONFIG_ADDS | HIDDEN, NULL, "A module to load",
          .refused = "modules cannot be loaded"),

    /* Clients */
    BOOL("reply-buffer-resizing", NULL, CLIENTS, "yes", RUNTIME | HIDDEN, NOT_HERE, "Resize reply buffers by use"),

    /* Memory */
    BOOL("activerehashing", NULL, MEMORY, "yes", RUNTIME, "the index grows without rehashing",
         "Spend idle time on rehashing"),
    BOOL("activedefrag", NULL, MEMORY, "no", RUNTIME, OWN_HEAP, "Defragment memory in the background"),
    MEMORY("active-defrag-ignore-bytes", NULL, MEMORY, 1, INT64_MAX, "104857600", RUNTIME, OWN_HEAP,
           "Waste below which defragmentation does not start"),
    INTEGER("active-defrag-threshold-lower", NULL, MEMORY, 0, 1000, PERCENT, "10", RUNTIME, OWN_HEAP,
            "Waste at which defragmentation starts"),
    INTEGER("active-defrag-threshold-upper", NULL, MEMORY, 0, 1000, PERCENT, "100", RUNTIME, OWN_HEAP,
            "Waste at which it works hardest"),
    INTEGER("active-defrag-cycle-min", NULL, MEMORY, 1, 99, PERCENT, "1", RUNTIME, OWN_HEAP, "Least CPU it uses"),
    INTEGER("active-defrag-cycle-max", NULL, MEMORY, 1, 99, PERCENT, "25", RUNTIME, OWN_HEAP, "Most CPU it uses"),
    INTEGER("active-defrag-max-scan-fields", NULL, MEMORY, 1, INT64_MAX, NONE, "1000", RUNTIME, OWN_HEAP,
            "Elements of a collection visited at once"),
    BOOL("jemalloc-bg-thread", NULL, MEMORY, "yes", RUNTIME, NOT_HERE, "Let the allocator purge in its own thread"),

    /* Encodings */
    INTEGER("list-compress-depth", NULL, ENCODING, 0, INT32_MAX, NONE, "0", RUNTIME, NO_TYPES,
            "Pages at each end of a list that stay uncompressed; 0 for no compression"),
    MEMORY("stream-node-max-bytes", NULL, ENCODING, 0, INT64_MAX, "4096", RUNTIME, NO_TYPES,
           "Size of a stream's pages"),
    INTEGER("list-max-ziplist-entries", NULL, ENCODING, 0, INT64_MAX, NONE, "0", CONFIG_FILE_ONLY | HIDDEN, NOT_HERE,
            "Obsolete since Redis 3.2"),
    INTEGER("list-max-ziplist-value", NULL, ENCODING, 0, INT64_MAX, NONE, "0", CONFIG_FILE_ONLY | HIDDEN, NOT_HERE,
            "Obsolete since Redis 3.2"),

    /* Persistence */
    BOOL("rdb-del-sync-files", NULL, PERSISTENCE, "no", RUNTIME, "files made for replicas are always deleted",
         "Delete snapshots made for replicas"),
    CHOICE(sanitize_choices, "sanitize-dump-payload", NULL, PERSISTENCE, "yes", RUNTIME,
           "payloads are always validated in full", "Validate payloads of RESTORE and RDB in full"),

    /* Replication */
    BOOL("replica-lazy-flush", "slave-lazy-flush", REPLICATION, "no", RUNTIME,
         "an emptied dataset is always freed in the background",
         "Empty a replica in the background before a full copy"),
    BOOL("replica-ignore-disk-write-errors", NULL, REPLICATION, "no", RUNTIME,
         "a replica always goes on, and says so in its log", "Keep applying writes that cannot be persisted"),

    /* Cluster */
    BOOL("cluster-enabled", NULL, CLUSTER, "no", START, NULL, "Run as a node of a cluster",
         .refused = "cluster mode is not available yet"),
    STRING("cluster-config-file", NULL, CLUSTER, "nodes.conf", START, NO_CLUSTER, "File the node keeps its view in"),
    INTEGER("cluster-node-timeout", NULL, CLUSTER, 0, INT64_MAX, MILLISECONDS, "15000", RUNTIME, NO_CLUSTER,
            "Silence after which a node counts as failed"),
    INTEGER("cluster-port", NULL, CLUSTER, 0, 65535, NONE, "0", START, NO_CLUSTER,
            "Port of the bus; 0 for port + 10000"),
    INTEGER("cluster-replica-validity-factor", "cluster-slave-validity-factor", CLUSTER, 0, INT32_MAX, NONE, "10",
            RUNTIME, NO_CLUSTER, "How stale a replica may be that takes over"),
    BOOL("cluster-replica-no-failover", "cluster-slave-no-failover", CLUSTER, "no", RUNTIME, NO_CLUSTER,
         "Never take over"),
    INTEGER("cluster-migration-barrier", NULL, CLUSTER, 0, INT32_MAX, NONE, "1", RUNTIME, NO_CLUSTER,
            "Replicas a primary keeps before it lends one"),
    BOOL("cluster-allow-replica-migration", NULL, CLUSTER, "yes", RUNTIME, NO_CLUSTER, "Let replicas change primaries"),
    BOOL("cluster-require-full-coverage", NULL, CLUSTER, "yes", RUNTIME, NO_CLUSTER, "Stop when a slot has no node"),
    BOOL("cluster-allow-reads-when-down", NULL, CLUSTER, "no", RUNTIME, NO_CLUSTER, "Answer reads when stopped"),
    BOOL("cluster-allow-pubsubshard-when-down", NULL, CLUSTER, "yes", RUNTIME, NO_CLUSTER, "Publish when stopped"),
    MEMORY("cluster-link-sendbuf-limit", NULL, CLUSTER, 0, INT64_MAX, "0", RUNTIME, NO_CLUSTER,
           "Unsent bytes that close a link; 0 for no limit"),
    STRING("cluster-announce-ip", NULL, CLUSTER, "", RUNTIME, NO_CLUSTER, "Address the node reports"),
    INTEGER("cluster-announce-port", NULL, CLUSTER, 0, 65535, NONE, "0", RUNTIME, NO_CLUSTER, "Port the node reports"),
    INTEGER("cluster-announce-bus-port", NULL, CLUSTER, 0, 65535, NONE, "0", RUNTIME, NO_CLUSTER,
            "Bus port it reports"),
    INTEGER("cluster-announce-tls-port", NULL, CLUSTER, 0, 65535, NONE, "0", RUNTIME, NO_CLUSTER,
            "TLS port it reports"),
    STRING("cluster-announce-hostname", NULL, CLUSTER, "", RUNTIME, NO_CLUSTER, "Host name the node reports",
           .check = check_hostname),
    STRING("cluster-announce-human-nodename", NULL, CLUSTER, "", RUNTIME, NO_CLUSTER, "Name of the node in logs"),
    CHOICE(endpoint_choices, "cluster-preferred-endpoint-type", NULL, CLUSTER, "ip", RUNTIME, NO_CLUSTER,
           "How clients are sent to other nodes"),

    /* TLS */
    INTEGER("tls-port", NULL, TLS, 0, 65535, NONE, "0", RUNTIME, NULL, "TCP port for TLS; 0 for none",
            .refused = "TLS is not available yet"),
    STRING("tls-cert-file", NULL, TLS, "", RUNTIME, NO_TLS, "Certificate"),
    STRING("tls-key-file", NULL, TLS, "", RUNTIME, NO_TLS, "Its private key"),
    STRING("tls-key-file-pass", NULL, TLS, "", RUNTIME, NO_TLS, "Passphrase of the key"),
    STRING("tls-client-cert-file", NULL, TLS, "", RUNTIME, NO_TLS, "Certificate for outgoing connections"),
    STRING("tls-client-key-file", NULL, TLS, "", RUNTIME, NO_TLS, "Its private key"),
    STRING("tls-client-key-file-pass", NULL, TLS, "", RUNTIME, NO_TLS, "Passphrase of that key"),
    STRING("tls-dh-params-file", NULL, TLS, "", RUNTIME, NO_TLS, "Diffie-Hellman parameters"),
    STRING("tls-ca-cert-file", NULL, TLS, "", RUNTIME, NO_TLS, "Certificates trusted for peers"),
    STRING("tls-ca-cert-dir", NULL, TLS, "", RUNTIME, NO_TLS, "Directory of such certificates"),
    CHOICE(tls_auth_choices, "tls-auth-clients", NULL, TLS, "yes", RUNTIME, NO_TLS,
           "Whether clients need a certificate"),
    BOOL("tls-replication", NULL, TLS, "no", RUNTIME, NO_TLS, "Encrypt replication"),
    BOOL("tls-cluster", NULL, TLS, "no", RUNTIME, NO_TLS, "Encrypt the cluster bus"),
    STRING("tls-protocols", NULL, TLS, "", RUNTIME, NO_TLS, "Protocol versions allowed"),
    STRING("tls-ciphers", NULL, TLS, "", RUNTIME, NO_TLS, "Ciphers up to TLS 1.2"),
    STRING("tls-ciphersuites", NULL, TLS, "", RUNTIME, NO_TLS, "Ciphers of TLS 1.3"),
    BOOL("tls-prefer-server-ciphers", NULL, TLS, "no", RUNTIME, NO_TLS, "Follow the server's order of ciphers"),
    BOOL("tls-session-caching", NULL, TLS, "yes", RUNTIME, NO_TLS, "Let clients resume sessions"),
    INTEGER("tls-session-cache-size", NULL, TLS, 0, INT32_MAX, NONE, "20480", RUNTIME, NO_TLS, "Sessions kept"),
    INTEGER("tls-session-cache-timeout", NULL, TLS, 0, INT32_MAX, SECONDS, "300", RUNTIME, NO_TLS, "How long"),
    INTEGER("max-new-tls-connections-per-cycle", NULL, TLS, 1, 1000, NONE, "1", RUNTIME, NO_TLS,
            "TLS connections accepted before commands are served again"),

    /* Other */
    INTEGER("busy-reply-threshold", "lua-time-limit", OTHER, 0, INT64_MAX, MILLISECONDS, "5000", RUNTIME, NO_SCRIPTS,
            "Time after which a script may be interrupted"),
    BOOL("lua-enable-deprecated-api", NULL, OTHER, "no", START | HIDDEN, NO_SCRIPTS, "Old functions in scripts"),
    BOOL("lua-replicate-commands", NULL, OTHER, "yes", CONFIG_FILE_ONLY | HIDDEN, NO_SCRIPTS, "Obsolete since Redis 7"),
    BOOL("lazyexpire-nested-arbitrary-keys", NULL, OTHER, "yes", RUNTIME | HIDDEN, NO_SCRIPTS,
         "Expire keys touched by scripts and loops"),
};

const size_t config_rows_accepted_count = sizeof(config_rows_accepted) / sizeof(config_rows_accepted[0]);
