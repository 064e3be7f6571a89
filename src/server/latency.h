#ifndef TERRACE_SERVER_LATENCY_H
#define TERRACE_SERVER_LATENCY_H

/* The latency monitor: for each kind of event, when it last took long, and how long.
 *
 * Threads: any; a mutex of its own is taken last. Whoever times an event compares with latency-monitor-threshold
 * itself, so that nothing is locked for what is quick. */

#include "base/span.h"

#include <pthread.h>
#include <stdint.h>

enum latency_event {
    LATENCY_COMMAND,
    LATENCY_FAST_COMMAND, /* a command whose row says that it takes constant time */
    LATENCY_EXPIRE_CYCLE,
    LATENCY_EVICTION_CYCLE,
    LATENCY_EVENTS,
};

enum { LATENCY_SAMPLES = 160 }; /* of one event, at most one a second: as many as Redis keeps */

struct latency_sample {
    int64_t unix_seconds;
    int64_t duration_ms;
};

struct latency_series {
    struct latency_sample samples[LATENCY_SAMPLES]; /* a ring */
    unsigned first, count;
    int64_t longest_ms; /* ever, until reset */
};

struct latency {
    pthread_mutex_t lock;
    struct latency_series series[LATENCY_EVENTS];
};

void latency_init(struct latency *latency);
void latency_destroy(struct latency *latency);

/* "command", "fast-command", ... */
const char *latency_event_name(enum latency_event event);
/* Any case; LATENCY_EVENTS: unknown. */
enum latency_event latency_event_find(struct span name);

/* Several in one second count as one, the longest. */
void latency_add(struct latency *latency, enum latency_event event, int64_t unix_seconds, int64_t duration_ms);
/* A copy; `count` is 0 when nothing was slow. */
void latency_copy(struct latency *latency, enum latency_event event, struct latency_series *series);
/* Whether there was anything to forget. */
bool latency_reset(struct latency *latency, enum latency_event event);

/* Sample `index` of a series, 0 being the oldest. */
static inline const struct latency_sample *latency_sample_at(const struct latency_series *series, unsigned index) {
    return &series->samples[(series->first + index) % LATENCY_SAMPLES];
}

struct latency_analysis {
    int64_t shortest_ms, longest_ms, average_ms;
    int64_t deviation_ms;  /* mean distance from the average */
    double period_seconds; /* mean time between samples */
};
/* Precondition: series->count > 0. */
void latency_analyse(const struct latency_series *series, int64_t now_seconds, struct latency_analysis *analysis);

#endif
