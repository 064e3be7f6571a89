/* INFO: which sections are wanted, and those that tell who the server is. See info.h. */

#include "server/info.h"

#include "base/clock.h"
#include "server/server.h"
#include "server/version.h"

#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

/* ---- who we are ---- */

static void add_listeners(const struct server *server, struct text *text) {
    const struct config_network *network = &server->config.network;
    unsigned number = 0;
    if (network->port) {
        text_add(text, "listener%u:name=tcp", number++);
        for (size_t i = 0; i < network->bind.count; i++) text_add(text, ",bind=%s", network->bind.words[i]);
        text_add(text, ",port=%lld\r\n", (long long)network->port);
    }
    if (network->unixsocket[0]) text_add(text, "listener%u:name=unix,bind=%s\r\n", number, network->unixsocket);
}

static void info_server(const struct info_source *source, struct text *text) {
    const struct server *server = source->server;
    int64_t now_us = clock_unix_us(), uptime_s = (now_us / 1000 - server->started_ms) / 1000;
    struct utsname system = {0};
    char executable[4096];
    uname(&system);
    ssize_t length = readlink("/proc/self/exe", executable, sizeof(executable) - 1);
    executable[length > 0 ? length : 0] = '\0';
    text_add(text, "redis_version:%s\r\nserver_name:terrace\r\nterrace_version:%s\r\n", COMPATIBLE_VERSION,
             TERRACE_VERSION);
    text_add(text, "redis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_build_id:0\r\nredis_mode:standalone\r\n");
    text_add(text, "os:%s %s %s\r\narch_bits:%zu\r\n", system.sysname, system.release, system.machine,
             sizeof(void *) * 8);
    text_add(text, "monotonic_clock:%s\r\n", clock_tick_source.hardware ? "processor counter" : "POSIX clock_gettime");
    text_add(text, "multiplexing_api:epoll\r\natomicvar_api:c11-builtin\r\ngcc_version:%d.%d.%d\r\n", __GNUC__,
             __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
    text_add(text, "process_id:%ld\r\nprocess_supervised:%s\r\nrun_id:%s\r\n", (long)getpid(),
             server->process.supervisor ? server->process.supervisor : "no", server->run_id);
    text_add(text, "tcp_port:%lld\r\nserver_time_usec:%lld\r\n", (long long)server->config.network.port,
             (long long)now_us);
    text_add(text, "uptime_in_seconds:%lld\r\nuptime_in_days:%lld\r\n", (long long)uptime_s,
             (long long)(uptime_s / 86400));
    shutdown_info(server, text);
    text_add(text, "hz:%lld\r\nconfigured_hz:%lld\r\n", (long long)server->config.general.hz,
             (long long)server->config.general.hz);
    text_add(text, "lru_clock:%lld\r\n", (long long)(now_us / 1000000 & ((1 << RECORD_ACCESS_BITS) - 1)));
    text_add(text, "executable:%s\r\nconfig_file:%s\r\nio_threads_active:0\r\n", executable,
             config_file_path(&server->config));
    add_listeners(server, text);
    text_add(text, "threads:%u\r\nshards:%u\r\n", server->worker_count, server->keyspace->shard_count);
}

static void info_clients(const struct info_source *source, struct text *text) {
    struct server *server = source->server;
    text_add(text, "connected_clients:%u\r\ncluster_connections:0\r\nmaxclients:%lld\r\n",
             atomic_load_explicit(&server->clients, memory_order_relaxed) - atomic_load(&server->replication.synced),
             (long long)server->config.clients.maxclients);
    text_add(text, "client_recent_max_input_buffer:%llu\r\nclient_recent_max_output_buffer:%llu\r\n",
             (unsigned long long)source->totals->longest_query_bytes,
             (unsigned long long)source->totals->longest_output_bytes);
    struct wait_figures *waits = &server->keyspace->waits;
    uint64_t blocked = 0, with_deadline = 0, watching = 0;
    for (unsigned i = 0; i < server->worker_count; i++) {
        blocked += stat_get(&server->workers[i]->dispatcher.blocked.count) + stat_get(&server->workers[i]->postponed);
        with_deadline += stat_get(&server->workers[i]->dispatcher.blocked.count_with_deadline);
        watching += stat_get(&server->workers[i]->dispatcher.watching);
    }
    text_add(text, "blocked_clients:%llu\r\ntracking_clients:%llu\r\n", (unsigned long long)blocked,
             (unsigned long long)tracking_figures(server->tracking).clients);
    text_add(text, "pubsub_clients:%llu\r\nwatching_clients:%llu\r\nclients_in_timeout_table:%llu\r\n",
             (unsigned long long)pubsub_listeners(server->pubsub), (unsigned long long)watching,
             (unsigned long long)with_deadline);
    text_add(text, "total_watched_keys:%llu\r\n", (unsigned long long)source->memory->keyspace.watched_keys);
    text_add(text, "total_blocking_keys:%u\r\ntotal_blocking_keys_on_nokey:%u\r\n",
             atomic_load_explicit(&waits->keys, memory_order_relaxed),
             atomic_load_explicit(&waits->keys_of_absence, memory_order_relaxed));
    text_add(text, "monitor_clients:%u\r\n", atomic_load_explicit(&server->host.monitors, memory_order_relaxed));
}

static void info_persistence(const struct info_source *source, struct text *text) {
    loading_info(source->server, text);
    save_info(source->server, source->memory->keyspace.changes, text);
    aof_info(source->server, text);
    text_add(text, "module_fork_in_progress:0\r\nmodule_fork_last_cow_size:0\r\n");
    aof_info_enabled(source->server, text);
}

static void info_replication(const struct info_source *source, struct text *text) {
    replication_info(source->server, text);
}

static void info_modules(const struct info_source *source, struct text *text) {
    (void)source, (void)text;
}

static void info_cluster(const struct info_source *source, struct text *text) {
    (void)source;
    text_add(text, "cluster_enabled:0\r\n");
}

/* ---- choosing ---- */

static const struct section {
    const char *name, *heading;
    info_section_writer *write;
    bool by_default;
    bool ours; /* shown when asked for by name only: "all" and "everything" are the sections of Redis */
} sections[] = {
    {"server", "Server", info_server, true},
    {"clients", "Clients", info_clients, true},
    {"memory", "Memory", info_memory, true},
    {"persistence", "Persistence", info_persistence, true},
    {"stats", "Stats", info_stats, true},
    {"replication", "Replication", info_replication, true},
    {"cpu", "CPU", info_cpu, true},
    {"modules", "Modules", info_modules, true},
    {"commandstats", "Commandstats", info_commandstats, false},
    {"errorstats", "Errorstats", info_errorstats, true},
    {"latencystats", "Latencystats", info_latencystats, false},
    {"cluster", "Cluster", info_cluster, true},
    {"keyspace", "Keyspace", info_keyspace, true},
    {"numa", "NUMA", info_numa, false, true},
    {"tier", "Tier", info_tier, false, true},
    {"pmem", "Pmem", info_pmem, false, true},
};

enum { SECTIONS = sizeof(sections) / sizeof(sections[0]) };

static void choose(const struct span *names, size_t count, bool wanted[SECTIONS]) {
    for (unsigned s = 0; s < SECTIONS; s++) wanted[s] = count == 0 && sections[s].by_default;
    for (size_t i = 0; i < count; i++) {
        bool all = span_is_word(names[i], "all") || span_is_word(names[i], "everything");
        bool standard = span_is_word(names[i], "default");
        for (unsigned s = 0; s < SECTIONS; s++)
            if ((all && !sections[s].ours) || (standard && sections[s].by_default) ||
                span_is_word(names[i], sections[s].name))
                wanted[s] = true;
    }
}

void info_write(struct server *server, const struct view *view, const struct span *names, size_t count,
                struct text *text) {
    bool wanted[SECTIONS], first = true;
    struct metrics_memory memory;
    struct metrics_totals totals;
    choose(names, count, wanted);
    metrics_memory(server, view, &memory);
    metrics_sum(server, &totals);
    struct info_source source = {server, view, &memory, &totals};
    for (unsigned s = 0; s < SECTIONS; s++) {
        if (!wanted[s]) continue;
        text_add(text, "%s# %s\r\n", first ? "" : "\r\n", sections[s].heading);
        sections[s].write(&source, text);
        first = false;
    }
}
