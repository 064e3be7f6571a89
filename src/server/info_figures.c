/* The sections of INFO that count: memory, statistics, CPU time, keys. See metrics.h for what the figures mean. */

#include "server/allocator.h"
#include "server/aof.h"
#include "server/info.h"
#include "server/server.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static void add_size(struct text *text, const char *name, uint64_t value) {
    text_add(text, "%s:%llu\r\n", name, (unsigned long long)value);
}

static void add_human(struct text *text, const char *name, uint64_t value) {
    char human[TEXT_HUMAN_MAX];
    text_human_bytes(value, human);
    text_add(text, "%s:%llu\r\n%s_human:%s\r\n", name, (unsigned long long)value, name, human);
}

static double ratio(size_t part, size_t whole) {
    return whole ? (double)part / (double)whole : 0;
}

static void add_waste(struct text *text, const char *ratio_name, const char *bytes_name, size_t part, size_t whole) {
    text_add(text, "%s:%.2f\r\n%s:%lld\r\n", ratio_name, ratio(part, whole), bytes_name,
             (long long)part - (long long)whole);
}

/* The name of the policy, as CONFIG GET spells it. */
static void add_policy(struct text *text, const struct config *config) {
    char *policy = NULL;
    size_t length = 0;
    if (!config_get_one(config, SPAN_LITERAL("maxmemory-policy"), &policy, &length)) return;
    text_add(text, "maxmemory_policy:%s\r\n", policy);
    free(policy);
}

static void add_scripts_memory(struct text *text) {
    text_add(
        text,
        "used_memory_lua:0\r\nused_memory_vm_eval:0\r\nused_memory_lua_human:0B\r\nused_memory_scripts_eval:0\r\n"
        "number_of_cached_scripts:0\r\nnumber_of_functions:0\r\nnumber_of_libraries:0\r\nused_memory_vm_functions:0\r\n"
        "used_memory_vm_total:0\r\nused_memory_vm_total_human:0B\r\nused_memory_functions:0\r\nused_memory_scripts:"
        "0\r\n"
        "used_memory_scripts_human:0B\r\n");
}

/* Every resident byte: these, the two `_pages` apart (which are what they say together with the line before), add up to
 * used_memory_rss. */
static void add_kinds(struct text *text, const struct memory_kinds *kinds, size_t record_pages, size_t index_pages) {
    add_size(text, "used_memory_records", kinds->records);
    add_size(text, "used_memory_record_slack", kinds->record_slack);
    add_size(text, "used_memory_record_pages", record_pages);
    add_size(text, "used_memory_index", kinds->index);
    add_size(text, "used_memory_index_slack", kinds->index_slack);
    add_size(text, "used_memory_index_pages", index_pages);
    add_size(text, "used_memory_freed_pages", kinds->freed_pages);
    add_size(text, "used_memory_regions", kinds->regions);
    add_size(text, "used_memory_client_query", kinds->client_query);
    add_size(text, "used_memory_client_reply", kinds->client_reply);
    add_size(text, "used_memory_client_other", kinds->client_other);
    add_size(text, "used_memory_workers", kinds->workers);
    add_size(text, "used_memory_io", kinds->io);
    add_size(text, "used_memory_tier", kinds->tier);
    add_size(text, "used_memory_other", kinds->other);
    add_size(text, "used_memory_allocator_slack", kinds->allocator_slack);
    add_size(text, "used_memory_program", kinds->program);
    add_size(text, "used_memory_mapped_files", kinds->mapped_files);
    text_add(text, "used_memory_unaccounted:%lld\r\n", (long long)kinds->unaccounted);
}

void info_memory(const struct info_source *source, struct text *text) {
    const struct metrics_memory *memory = source->memory;
    size_t used = memory->used_bytes, dataset = memory->keyspace.record_bytes;
    size_t at_start = source->server->metrics.used_bytes_at_start;
    add_human(text, "used_memory", used);
    add_human(text, "used_memory_rss", memory->resident_bytes);
    add_human(text, "used_memory_peak", memory->peak_bytes);
    text_add(text, "used_memory_peak_perc:%.2f%%\r\n", 100 * ratio(used, memory->peak_bytes));
    add_size(text, "used_memory_overhead", used - dataset);
    add_size(text, "used_memory_startup", at_start);
    add_size(text, "used_memory_dataset", dataset);
    text_add(text, "used_memory_dataset_perc:%.2f%%\r\n", used > at_start ? 100 * ratio(dataset, used - at_start) : 0);
    add_size(text, "allocator_allocated", memory->allocated_bytes);
    add_size(text, "allocator_active", memory->active_bytes);
    add_size(text, "allocator_resident", memory->held_bytes);
    add_human(text, "total_system_memory", (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    add_scripts_memory(text);
    add_human(text, "maxmemory", (uint64_t)source->server->config.memory.maxmemory_bytes);
    add_policy(text, &source->server->config);
    add_waste(text, "allocator_frag_ratio", "allocator_frag_bytes", memory->active_bytes, memory->allocated_bytes);
    add_waste(text, "allocator_rss_ratio", "allocator_rss_bytes", memory->held_bytes, memory->active_bytes);
    add_waste(text, "rss_overhead_ratio", "rss_overhead_bytes", memory->resident_bytes, memory->held_bytes);
    add_waste(text, "mem_fragmentation_ratio", "mem_fragmentation_bytes", memory->resident_bytes, used);
    uint64_t ring = replication_buffer_bytes(source->server);
    text_add(text,
             "mem_not_counted_for_evict:0\r\nmem_replication_backlog:%llu\r\nmem_total_replication_buffers:%llu\r\n"
             "mem_clients_slaves:0\r\n",
             (unsigned long long)ring, (unsigned long long)ring);
    add_size(text, "mem_clients_normal", memory->client_bytes);
    text_add(text, "mem_cluster_links:0\r\nmem_aof_buffer:%llu\r\nmem_allocator:%s\r\nactive_defrag_running:0\r\n",
             (unsigned long long)aof_buffer_bytes(source->server), allocator_name());
    uint64_t keys = 0;
    for (uint32_t database = 0; database < source->view->keyspace->database_count; database++) {
        struct database_usage usage;
        keyspace_database_usage(source->view, database, &usage);
        keys += usage.keys;
    }
    /* Records that no database refers to are those of flushed ones. */
    uint64_t flushed = memory->keyspace.records > keys ? memory->keyspace.records - keys : 0;
    add_size(text, "lazyfree_pending_objects", flushed + atomic_load(&source->view->keyspace->condemned_collections));
    add_size(text, "lazyfreed_objects", memory->keyspace.counters.lazy_freed);
    add_kinds(text, &memory->kinds, memory->keyspace.page_bytes, memory->keyspace.segment_page_bytes);
}

/* ---- statistics ---- */

static double kilobytes(const struct metrics_rate *rate) {
    return (double)atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&rate->per_second, memory_order_relaxed) / 1024;
}

static uint64_t per_second(const struct metrics_rate *rate) {
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&rate->per_second, memory_order_relaxed);
}

static void add_traffic(const struct info_source *source, struct text *text) {
    const struct server *server = source->server;
    const struct metrics_totals *totals = source->totals;
    add_size(text, "total_connections_received", stat_get(&server->connections_received));
    add_size(text, "total_commands_processed", totals->commands);
    add_size(text, "instantaneous_ops_per_sec", per_second(&server->metrics.commands));
    add_size(text, "total_net_input_bytes", totals->bytes_in);
    add_size(text, "total_net_output_bytes", totals->bytes_out);
    add_size(text, "total_net_repl_input_bytes", atomic_load(&server->replication.bytes_in));
    add_size(text, "total_net_repl_output_bytes", atomic_load(&server->replication.bytes_out));
    text_add(text, "instantaneous_input_kbps:%.2f\r\ninstantaneous_output_kbps:%.2f\r\n",
             kilobytes(&server->metrics.input_bytes), kilobytes(&server->metrics.output_bytes));
    text_add(text, "instantaneous_input_repl_kbps:%.2f\r\ninstantaneous_output_repl_kbps:%.2f\r\n",
             kilobytes(&server->metrics.stream_in_bytes), kilobytes(&server->metrics.stream_out_bytes));
    add_size(text, "rejected_connections", stat_get(&server->connections_rejected));
    add_size(text, "sync_full", atomic_load(&server->replication.sync_full));
    add_size(text, "sync_partial_ok", atomic_load(&server->replication.sync_partial_ok));
    add_size(text, "sync_partial_err", atomic_load(&server->replication.sync_partial_err));
}

static void add_key_events(const struct info_source *source, struct text *text) {
    const struct shard_counters *counters = &source->memory->keyspace.counters;
    add_size(text, "expired_keys", counters->expired);
    add_size(text, "expired_subkeys", counters->expired_fields);
    text_add(text, "expired_stale_perc:%.2f\r\nexpired_time_cap_reached_count:0\r\n",
             (double)source->totals->expired_percent_hundredths / 100);
    add_size(text, "expire_cycle_cpu_milliseconds", source->totals->sweep_ns / 1000000);
    add_size(text, "evicted_keys", counters->evicted);
    uint64_t exceeded_ms, exceeded_ever_ms;
    memory_limit_exceeded_ms(&source->server->metrics.limit, &exceeded_ms, &exceeded_ever_ms);
    add_size(text, "evicted_clients", source->totals->evicted_clients);
    add_size(text, "total_eviction_exceeded_time", exceeded_ever_ms);
    add_size(text, "current_eviction_exceeded_time", exceeded_ms);
    add_size(text, "keyspace_hits", counters->hits);
    add_size(text, "keyspace_misses", counters->misses);
    add_size(text, "pubsub_channels", pubsub_topics(source->server->pubsub, PUBSUB_CHANNEL));
    add_size(text, "pubsub_patterns", pubsub_topics(source->server->pubsub, PUBSUB_PATTERN));
    add_size(text, "pubsubshard_channels", pubsub_topics(source->server->pubsub, PUBSUB_SHARD_CHANNEL));
    /* Nothing forks; who looks at this waits for a snapshot or a rewrite to begin. */
    text_add(text, "latest_fork_usec:0\r\n");
    add_size(text, "total_forks", atomic_load(&source->server->snapshot_job.jobs));
    text_add(text, "migrate_cached_sockets:0\r\n");
    add_size(text, "slave_expires_tracked_keys", atomic_load(&source->server->own_expiry.count));
    add_size(text, "active_defrag_hits", counters->moved);
    text_add(text, "active_defrag_misses:0\r\nactive_defrag_key_hits:0\r\nactive_defrag_key_misses:0\r\n"
                   "total_active_defrag_time:0\r\ncurrent_active_defrag_time:0\r\n");
    struct tracking_figures tracked = tracking_figures(source->server->tracking);
    add_size(text, "tracking_total_keys", tracked.keys);
    add_size(text, "tracking_total_items", tracked.items);
    add_size(text, "tracking_total_prefixes", tracked.prefixes);
}

static void add_loop(const struct info_source *source, struct text *text) {
    const struct metrics *metrics = &source->server->metrics;
    const struct metrics_totals *totals = source->totals;
    uint64_t turns = per_second(&metrics->turns), command_ns = 0;
    for (unsigned id = 0; id < command_table_ids(source->server->table); id++) {
        struct metrics_command sum;
        metrics_command(source->server, id, &sum, NULL);
        command_ns += sum.nanoseconds;
    }
    add_size(text, "eventloop_cycles", totals->turns);
    add_size(text, "eventloop_duration_sum", totals->turn_ns / 1000);
    add_size(text, "eventloop_duration_cmd_sum", command_ns / 1000);
    add_size(text, "instantaneous_eventloop_cycles_per_sec", turns);
    add_size(text, "instantaneous_eventloop_duration_usec", turns ? per_second(&metrics->turn_ns) / turns / 1000 : 0);
}

void info_stats(const struct info_source *source, struct text *text) {
    const struct metrics_totals *totals = source->totals;
    add_traffic(source, text);
    add_key_events(source, text);
    text_add(text, "unexpected_error_replies:0\r\n");
    add_size(text, "total_error_replies", totals->errors);
    text_add(text, "dump_payload_sanitizations:0\r\n");
    add_size(text, "total_reads_processed", totals->reads);
    add_size(text, "total_writes_processed", totals->writes);
    text_add(text, "io_threaded_reads_processed:0\r\nio_threaded_writes_processed:0\r\nreply_buffer_shrinks:0\r\n"
                   "reply_buffer_expands:0\r\n");
    add_loop(source, text);
    text_add(text, "acl_access_denied_auth:0\r\nacl_access_denied_cmd:0\r\nacl_access_denied_key:0\r\nacl_access_"
                   "denied_channel:0\r\n");
    add_size(text, "client_query_buffer_limit_disconnections", totals->query_limit_closes);
    add_size(text, "client_output_buffer_limit_disconnections", totals->output_limit_closes);
    add_size(text, "expired_on_access", source->memory->keyspace.counters.expired_on_access);
    add_size(text, "background_cpu_milliseconds", totals->background_ns / 1000000);
    add_size(text, "eviction_cpu_milliseconds", totals->evict_ns / 1000000);
    add_size(text, "eviction_longest_microseconds", totals->longest_evict_ns / 1000);
    add_size(text, "eviction_longest_cpu_microseconds", totals->longest_evict_cpu_ns / 1000);
    add_size(text, "commands_held_for_memory", totals->commands_held);
}

/* ---- CPU ---- */

static void add_time(struct text *text, const char *name, uint64_t us) {
    text_add(text, "%s:%llu.%06llu\r\n", name, (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000));
}

void info_cpu(const struct info_source *source, struct text *text) {
    struct metrics *metrics = &source->server->metrics;
    struct rusage own = {0}, children = {0};
    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_CHILDREN, &children);
    add_time(text, "used_cpu_sys", metrics_microseconds(own.ru_stime));
    add_time(text, "used_cpu_user", metrics_microseconds(own.ru_utime));
    add_time(text, "used_cpu_sys_children", metrics_microseconds(children.ru_stime));
    add_time(text, "used_cpu_user_children", metrics_microseconds(children.ru_utime));
    add_time(text, "used_cpu_sys_main_thread", atomic_load_explicit(&metrics->main_system_us, memory_order_relaxed));
    add_time(text, "used_cpu_user_main_thread", atomic_load_explicit(&metrics->main_user_us, memory_order_relaxed));
}

/* ---- keys ---- */

void info_keyspace(const struct info_source *source, struct text *text) {
    for (uint32_t database = 0; database < source->view->keyspace->database_count; database++) {
        struct database_usage usage;
        keyspace_database_usage(source->view, database, &usage);
        if (usage.keys == 0 && usage.expires == 0) continue;
        text_add(text, "db%u:keys=%llu,expires=%llu,avg_ttl=%lld\r\n", database, (unsigned long long)usage.keys,
                 (unsigned long long)usage.expires, (long long)usage.average_ttl_ms);
    }
}
