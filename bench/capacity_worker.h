/* One thread of a phase: its lanes on their sockets, driven by one epoll loop. */
#ifndef BENCH_CAPACITY_WORKER_H
#define BENCH_CAPACITY_WORKER_H

#include "bench/capacity_run.h"

#include <stdbool.h>
#include <stdint.h>

struct capacity_worker;

/* Thread `thread` of `threads`, with `socket_count` open non-blocking sockets that it owns from now on. The plan
 * outlives it. NULL: no memory (the sockets are closed). */
struct capacity_worker *capacity_worker_create(const struct run_plan *plan, unsigned thread, unsigned threads,
                                               const int *sockets, unsigned socket_count);
void capacity_worker_destroy(struct capacity_worker *worker);

/* Runs this thread's part of the phase, which begins at `start_ns` of the monotonic clock. */
void capacity_worker_run(struct capacity_worker *worker, uint64_t start_ns);

/* While it runs, only counts.operations and counts.payload_bytes may be read. */
const struct run_result *capacity_worker_result(const struct capacity_worker *worker);

#endif
