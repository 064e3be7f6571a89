/* Command statistics of one worker. See command_stats.h for who may do what. */

#include "command/command_stats.h"

#include <stdlib.h>
#include <string.h>

struct command_stats *command_stats_create(unsigned commands) {
    struct command_stats *stats = calloc(1, sizeof(*stats) + commands * sizeof(struct command_counters));
    if (!stats) return NULL;
    stats->commands = commands;
    atomic_init(&stats->latency_tracking, true);
    return stats;
}

void command_stats_destroy(struct command_stats *stats) {
    if (!stats) return;
    for (unsigned i = 0; i < stats->commands; i++) free(stats->counters[i].histogram);
    free(stats);
}

void command_stats_reset(struct command_stats *stats) {
    for (unsigned i = 0; i < stats->commands; i++) {
        struct command_counters *counters = &stats->counters[i];
        stat_set(&counters->calls, 0);
        stat_set(&counters->nanoseconds, 0);
        stat_set(&counters->rejected, 0);
        stat_set(&counters->failed, 0);
        stat_counter *histogram = atomic_load(&counters->histogram);
        for (unsigned bucket = 0; histogram && bucket < STATS_BUCKETS; bucket++) stat_set(&histogram[bucket], 0);
    }
    for (unsigned i = 0; i < STATS_ERROR_CODES; i++) {
        atomic_store(&stats->errors[i].used, false);
        stat_set(&stats->errors[i].count, 0);
    }
    stat_set(&stats->commands_processed, 0);
    stat_set(&stats->errors_total, 0);
}

stat_counter *command_stats_new_histogram(struct command_counters *counters) {
    stat_counter *histogram = calloc(STATS_BUCKETS, sizeof(*histogram));
    atomic_store_explicit(&counters->histogram, histogram, memory_order_release);
    return histogram;
}

void command_stats_reject(struct command_stats *stats, unsigned id) {
    stat_add(&stats->counters[id].rejected, 1);
}

void command_stats_error(struct command_stats *stats, const char *code) {
    stat_add(&stats->errors_total, 1);
    unsigned i = 0;
    for (; i < STATS_ERROR_CODES - 1; i++) {
        if (!atomic_load_explicit(&stats->errors[i].used, memory_order_relaxed)) {
            strncpy(stats->errors[i].code, code, STATS_ERROR_CODE_MAX - 1);
            atomic_store_explicit(&stats->errors[i].used, true, memory_order_release);
        }
        if (strncmp(stats->errors[i].code, code, STATS_ERROR_CODE_MAX - 1) == 0) break;
    }
    if (i == STATS_ERROR_CODES - 1 && !atomic_load(&stats->errors[i].used)) {
        strcpy(stats->errors[i].code, "ERRORSTATS_OVERFLOW");
        atomic_store_explicit(&stats->errors[i].used, true, memory_order_release);
    }
    stat_add(&stats->errors[i].count, 1);
}
