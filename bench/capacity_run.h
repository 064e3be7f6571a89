/* One phase of the capacity benchmark: threads that load, read everything back, or drive the server in a closed or an
 * open loop. */
#ifndef BENCH_CAPACITY_RUN_H
#define BENCH_CAPACITY_RUN_H

#include "bench/capacity_lane.h"
#include "bench/capacity_options.h"
#include "bench/histogram.h"

#include <stdbool.h>
#include <stdint.h>

enum run_kind {
    RUN_LOAD,   /* SET of each key of [first_key, end_key), in order */
    RUN_VERIFY, /* GET of each, in order */
    RUN_CLOSED, /* the mix over [0, end_key): a connection sends a pipeline when the last one is answered */
    RUN_OPEN,   /* the mix at `rate`, each operation due at a time that no reply can shift */
};

struct run_plan {
    enum run_kind kind;
    const struct capacity_options *options;
    const struct lane_wire *wire;
    uint64_t first_key, end_key;
    double seconds; /* closed and open */
    double rate;    /* open: operations/s of all threads together */
    uint64_t salt;  /* makes the random choices of this phase its own */
};

/* What a phase did, of one thread or of all. Latencies in nanoseconds: of the open loop from the moment an operation
 * was due, else from the start of its pipeline. */
struct run_result {
    struct lane_counts counts;
    struct histogram latency;
    struct histogram lateness; /* open: from due to sent, the part that the load generator itself may have caused */
    uint64_t intended;         /* open: operations that came due; */
    uint64_t unfinished;       /* those never answered: counted in `latency` as far as was waited */
    uint64_t ended_ns;         /* monotonic clock: the last reply */
    double seconds;            /* of the merged result */
    char failure[LANE_TEXT_MAX];
};

/* Told about every half second; `done` of `total` operations (total 0: until the clock ends it, see `share`). */
struct run_progress {
    uint64_t operations, total, payload_bytes;
    double seconds;
    double share; /* of the phase that has passed, 0 to 1 */
};
typedef void run_progress_callback(void *context, const struct run_progress *progress);

/* Runs the phase to its end with connections of its own. False with one line in `error` when it could not start or had
 * to stop early; `result` holds what was done until then. */
bool run_phase(const struct run_plan *plan, struct run_result *result, run_progress_callback *progress, void *context,
               char *error, size_t error_size);

/* Makes the running phase, and those to come, stop as if their time had come. Async-signal-safe. */
void run_stop_all(void);
bool run_stopped(void);

#endif
