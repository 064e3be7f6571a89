/* The sections of INFO about commands: how often and how long they ran, how they failed, and percentiles. Subcommands
 * have rows of their own ("client|list"). */

#include "server/info.h"
#include "server/server.h"

#include <stdlib.h>

void info_commandstats(const struct info_source *source, struct text *text) {
    const struct server *server = source->server;
    for (unsigned id = 0; id < command_table_ids(server->table); id++) {
        struct metrics_command sum;
        metrics_command(server, id, &sum, NULL);
        if (!sum.calls && !sum.rejected && !sum.failed) continue;
        uint64_t us = sum.nanoseconds / 1000;
        text_add(text, "cmdstat_%s:calls=%llu,usec=%llu,usec_per_call=%.2f,rejected_calls=%llu,failed_calls=%llu\r\n",
                 command_table_by_id(server->table, id)->full_name, (unsigned long long)sum.calls,
                 (unsigned long long)us, sum.calls ? (double)us / (double)sum.calls : 0,
                 (unsigned long long)sum.rejected, (unsigned long long)sum.failed);
    }
}

/* ---- errors ---- */

struct error_sum {
    const char *code;
    uint64_t count;
};

static int by_code(const void *left, const void *right) {
    return strcmp(((const struct error_sum *)left)->code, ((const struct error_sum *)right)->code);
}

void info_errorstats(const struct info_source *source, struct text *text) {
    const struct server *server = source->server;
    struct error_sum *sums = malloc(server->worker_count * STATS_ERROR_CODES * sizeof(*sums));
    size_t count = 0;
    if (!sums) return;
    for (unsigned i = 0; i < server->worker_count; i++) {
        const struct command_stats *stats = server->stats[i];
        for (unsigned k = 0; k < STATS_ERROR_CODES; k++)
            if (atomic_load_explicit(&stats->errors[k].used, memory_order_acquire))
                sums[count++] = (struct error_sum){stats->errors[k].code, stat_get(&stats->errors[k].count)};
    }
    if (count) qsort(sums, count, sizeof(*sums), by_code);
    for (size_t i = 0; i < count; i++) {
        uint64_t total = sums[i].count;
        while (i + 1 < count && strcmp(sums[i].code, sums[i + 1].code) == 0) total += sums[++i].count;
        if (total) text_add(text, "errorstat_%s:count=%llu\r\n", sums[i].code, (unsigned long long)total);
    }
    free(sums);
}

/* ---- percentiles ---- */

void info_latencystats(const struct info_source *source, struct text *text) {
    const struct server *server = source->server;
    const struct config_percentiles *percentiles = &server->config.monitoring.latency_percentiles;
    uint64_t histogram[STATS_BUCKETS];
    if (!server->config.monitoring.latency_tracking) return;
    for (unsigned id = 0; id < command_table_ids(server->table); id++) {
        struct metrics_command sum;
        metrics_command(server, id, &sum, histogram);
        if (metrics_percentile_us(histogram, 100) == 0) continue;
        text_add(text, "latency_percentiles_usec_%s:", command_table_by_id(server->table, id)->full_name);
        for (size_t i = 0; i < percentiles->count; i++)
            text_add(text, "%sp%.15g=%.3f", i ? "," : "", percentiles->values[i],
                     metrics_percentile_us(histogram, percentiles->values[i]));
        text_add(text, "\r\n");
    }
}
