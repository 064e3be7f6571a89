#ifndef TERRACE_SERVER_METRICS_H
#define TERRACE_SERVER_METRICS_H

/* Figures of the whole process: sums over the workers' counters, rates sampled every tick, and where memory goes. INFO,
 * MEMORY and the out-of-memory check read them; nobody has to stand still for that. */

#include "command/command_stats.h"
#include "keyspace/keyspace.h"
#include "server/memory_limit.h"

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
    struct memory_limit limit;
    struct metrics_rate commands, input_bytes, output_bytes, stream_in_bytes, stream_out_bytes, turns, turn_ns;
    size_t used_bytes_at_start;
    size_t allocator_excess_bytes; /* what the allocator took for resident at the start and was not */
    size_t program_bytes; /* private memory at the start that no kind below accounts for: stacks, data of libraries */
    _Atomic size_t used_bytes_peak;
    _Atomic size_t io_bytes, tier_bytes;           /* see metrics_set_tier_bytes() */
    _Atomic uint64_t main_user_us, main_system_us; /* CPU time of worker 0 */
};

/* At the end of the start, once workers and keyspace exist. */
void metrics_init(struct server *server);
void metrics_free(struct server *server);

/* Every tick of worker 0: rates and peaks. */
void metrics_tick(struct server *server);

/* ---- sums over the workers ---- */

struct metrics_totals {
    uint64_t commands, errors;
    uint64_t bytes_in, bytes_out, reads, writes;
    uint64_t query_limit_closes, output_limit_closes;
    uint64_t turns, turn_ns;
    uint64_t background_ns, sweep_ns, evict_ns;
    uint64_t longest_evict_ns, longest_evict_cpu_ns; /* at a stretch: make_room.h */
    uint64_t commands_held;                          /* that had to wait for memory */
    uint64_t evicted_clients;
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

/* All resident bytes by kind. What the kernel counts is their sum, but for `unaccounted`. */
struct memory_kinds {
    size_t records, record_slack; /* size classes of live records; the rest of their pages, where it was ever touched */
    size_t index, index_slack;    /* segments and directories; the rest of the segments' pages */
    size_t freed_pages;           /* freed, not yet given back */
    size_t regions;               /* descriptions of slab pages */
    size_t client_query, client_reply,
        client_other; /* buffers, values that are being sent, the connections themselves */
    size_t workers;   /* buffers and tables of worker threads */
    size_t io;        /* in flight between memory and a tier */
    size_t tier;      /* what is remembered of a tier's contents */
    size_t other;     /* allocated for everything else */
    size_t allocator_slack;
    size_t program;      /* code, stacks, libraries */
    size_t mapped_files; /* of them, pages of files and shared memory: more than at the start when a tier is mapped */
    int64_t unaccounted; /* resident less all of the above */
};

struct metrics_memory {
    struct keyspace_usage keyspace;
    struct memory_kinds kinds;
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
