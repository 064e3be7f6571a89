/* One load thread: its connections, driven by one epoll loop. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "bench/histogram.h"
#include "bench/options.h"
#include "bench/request.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a thread did. `operations` and the byte counts may be read while it runs (relaxed); the rest after it ended. */
struct client_result {
    _Atomic uint64_t operations, bytes_sent, bytes_received;
    uint64_t ended_ns; /* monotonic clock, last reply */
    uint64_t errors;
    char first_error[256];    /* text of an error reply; empty when there was none */
    char failure[256];        /* why the thread stopped early; empty when it did not */
    struct histogram latency; /* nanoseconds */
};

/* The commands of the mix, compiled; shared by all threads, read-only. */
struct client_mix {
    unsigned count;
    struct request_template *templates[MIX_ENTRIES_MAX];
    unsigned weight_ends[MIX_ENTRIES_MAX]; /* running sums of the weights */
    size_t request_length_max;
};

struct client;

/* A client for `socket_count` open sockets, which it owns from now on. `requests` is this thread's share, 0: until
 * `deadline_ns`. Everything pointed to outlives the client. NULL: not enough memory for the request buffers. */
struct client *client_create(const struct load_options *options, const struct client_mix *mix, const char *values,
                             const int *sockets, unsigned socket_count, unsigned thread, uint64_t requests);
void client_destroy(struct client *client);

/* Runs the load to its end on the calling thread. */
void client_run(struct client *client, uint64_t deadline_ns);

/* Makes every client of the process stop as if its deadline had passed. Async-signal-safe. */
void client_stop_all(void);

const struct client_result *client_result(const struct client *client);

uint64_t client_clock_ns(void);

#endif
