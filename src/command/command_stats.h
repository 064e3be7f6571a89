#ifndef TERRACE_COMMAND_COMMAND_STATS_H
#define TERRACE_COMMAND_COMMAND_STATS_H

/* What commands cost: calls, time, refusals, failures, and a latency histogram per command, kept by each worker for
 * itself and summed when asked.
 *
 * Written by one worker, read by any: plain loads and stores that are atomic, no locked instruction.
 *
 * The histogram is log-linear: 8 steps per doubling of nanoseconds, from 64 ns to 18 minutes, so that a percentile is
 * exact within 12 %. It is allocated when the command is first called. */

#include "base/stat_counter.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    STATS_STEPS = 8,
    STATS_FIRST_BIT = 6,
    STATS_LAST_BIT = 40,
    STATS_BUCKETS = (STATS_LAST_BIT - STATS_FIRST_BIT) * STATS_STEPS
};

struct command_counters {
    stat_counter calls, nanoseconds, rejected, failed;
    _Atomic(stat_counter *) histogram; /* STATS_BUCKETS counters; NULL until the first call */
};

enum { STATS_ERROR_CODES = 64, STATS_ERROR_CODE_MAX = 32 };

struct command_stats {
    unsigned commands; /* ids 0 .. commands-1 */
    _Atomic bool latency_tracking;
    stat_counter commands_processed;
    stat_counter errors_total;
    struct {
        _Atomic bool used; /* `code` is complete */
        char code[STATS_ERROR_CODE_MAX];
        stat_counter count;
    } errors[STATS_ERROR_CODES]; /* by first word; the last one collects what does not fit */
    struct command_counters counters[];
};

struct command_stats *command_stats_create(unsigned commands);
void command_stats_destroy(struct command_stats *stats);
/* Written by the owner between commands; readers see zeros or old figures, never garbage. */
void command_stats_reset(struct command_stats *stats);

/* Of command_stats_record(), for a command's first call. NULL: no memory. */
stat_counter *command_stats_new_histogram(struct command_counters *counters);
void command_stats_reject(struct command_stats *stats, unsigned id);
void command_stats_error(struct command_stats *stats, const char *code);

static inline unsigned stats_bucket(uint64_t ns) {
    if (ns < (1u << STATS_FIRST_BIT)) return 0;
    unsigned bit = 63u - (unsigned)__builtin_clzll(ns);
    if (bit >= STATS_LAST_BIT) return STATS_BUCKETS - 1;
    return (bit - STATS_FIRST_BIT) * STATS_STEPS + (unsigned)((ns >> (bit - 3)) & 7);
}

static inline void command_stats_record(struct command_stats *stats, unsigned id, uint64_t elapsed_ns, bool failed) {
    struct command_counters *counters = &stats->counters[id];
    stat_add(&stats->commands_processed, 1);
    stat_add(&counters->calls, 1);
    stat_add(&counters->nanoseconds, elapsed_ns);
    if (failed) stat_add(&counters->failed, 1);
    if (!atomic_load_explicit(&stats->latency_tracking, memory_order_relaxed)) return;
    stat_counter *histogram = atomic_load_explicit(&counters->histogram, memory_order_relaxed);
    if (!histogram && !(histogram = command_stats_new_histogram(counters))) return;
    stat_add(&histogram[stats_bucket(elapsed_ns)], 1);
}

/* The exclusive upper bound of a bucket, in nanoseconds. */
static inline uint64_t stats_bucket_limit(unsigned bucket) {
    return (UINT64_C(9) + bucket % STATS_STEPS) << (bucket / STATS_STEPS + STATS_FIRST_BIT - 3);
}

#endif
