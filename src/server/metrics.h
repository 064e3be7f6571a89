#ifndef TERRACE_SERVER_METRICS_H
#define TERRACE_SERVER_METRICS_H

/* Figures of the whole process: sums over the workers' counters, rates sampled every tick, and where memory goes. INFO,
 * MEMORY and the out-of-memory check read them; nobody has to stand still for that. */

#include "command/command_stats.h"
#include "keyspace/keyspace.h"

#include <stddef.h>
#include <sys/time.h>

struct server;

/* A rate is the mean over this many samples, METRICS_INTERVAL_MS apart: Redis's own figures. */
enum { METRICS_SAMPLES = 16, METRICS_INTERVAL_MS = 100 };

/* Sampled by one thread, read by any. */
struct metrics_rate {
    uint64_t last; /* the counter when it was last looked at */
    uint64_t samples[METRICS_SAMPLES];
    unsigned next;
    _Atomic uint64_t per_second;
};

struct metrics {
    int64_t sampled_ns; /* clock_monotonic_ns() */
    int statm_fd;       /* /proc/self/statm; -1: not there */
    size_t page_bytes;
    struct metrics_rate commands, input_bytes, output_bytes, turns, turn_ns;
    size_t used_bytes_at_start, resident_bytes_at_start;
    _Atomic size_t used_bytes_peak;
    _Atomic uint64_t main_user_us, main_system_us; /* CPU time of worker 0 */
};

/* At the end of the start, once workers and keyspace exist. */
void metrics_init(struct server *server);
void metrics_free(struct server *server);

/* Every tick of worker 0: rates, peaks, and whether the server is out of memory. */
void metrics_tick(struct server *server);

/* ---- sums over the workers ---- */

struct metrics_totals {
    uint64_t commands, errors;
    uint64_t bytes_in, bytes_out, reads, writes;
    uint64_t query_limit_closes, output_limit_closes;
    uint64_t turns, turn_ns;
    uint64_t background_ns, sweep_ns;
    uint64_t expired_percent_hundredths; /* of the volatile keys that the last sweeps saw, in 1/100 percent */
    uint64_t client_bytes;               /* of all connections, as of each worker's last tick */
    uint64_t longest_query_bytes, longest_output_bytes; /* of one connection, likewise */
};
void metrics_sum(const struct server *server, struct metrics_totals *totals);

/* The counters of command `id`, summed; `histogram` has STATS_BUCKETS places, or is NULL. */
struct metrics_command {
    uint64_t calls, nanoseconds, rejected, failed;
};
void metrics_command(const struct server *server, unsigned id, struct metrics_command *sum, uint64_t *histogram);

/* The duration, in microseconds, that `percent` of the durations in the histogram do not exceed; within 12 %. 0 when it
 * is empty. */
double metrics_percentile_us(const uint64_t *histogram, double percent);

/* A time of getrusage() in microseconds. */
uint64_t metrics_microseconds(struct timeval time);

/* ---- memory ---- */

struct metrics_memory {
    struct keyspace_usage keyspace;
    size_t used_bytes; /* records, and all that was allocated beside them (index, buffers, ...) */
    size_t peak_bytes;
    size_t resident_bytes; /* RSS */
    size_t client_bytes;
    /* Records and allocator together, as the three steps from "handed out" to "held of the kernel". */
    size_t allocated_bytes, active_bytes, held_bytes;
};
/* No shard lock may be held unless view->locked_all. */
void metrics_memory(struct server *server, const struct view *view, struct metrics_memory *memory);

/* CONFIG RESETSTAT. Precondition: all other workers stand still and all shards are locked (COMMAND_EXCLUSIVE). */
void server_reset_statistics(struct server *server);

#endif
