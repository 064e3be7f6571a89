/* See latency.h. The kinds of events are few and known, so their series are an array: nothing a client does makes it
 * grow. */

#include "server/latency.h"

#include <assert.h>

static const char *const names[LATENCY_EVENTS] = {
    [LATENCY_COMMAND] = "command",
    [LATENCY_FAST_COMMAND] = "fast-command",
    [LATENCY_EXPIRE_CYCLE] = "expire-cycle",
    [LATENCY_EVICTION_CYCLE] = "eviction-cycle",
};

void latency_init(struct latency *latency) {
    *latency = (struct latency){0};
    pthread_mutex_init(&latency->lock, NULL);
}

void latency_destroy(struct latency *latency) {
    pthread_mutex_destroy(&latency->lock);
}

const char *latency_event_name(enum latency_event event) {
    assert(event < LATENCY_EVENTS);
    return names[event];
}

enum latency_event latency_event_find(struct span name) {
    for (unsigned event = 0; event < LATENCY_EVENTS; event++)
        if (span_is_word(name, names[event])) return (enum latency_event)event;
    return LATENCY_EVENTS;
}

void latency_add(struct latency *latency, enum latency_event event, int64_t unix_seconds, int64_t duration_ms) {
    assert(event < LATENCY_EVENTS);
    pthread_mutex_lock(&latency->lock);
    struct latency_series *series = &latency->series[event];
    if (duration_ms > series->longest_ms) series->longest_ms = duration_ms;
    struct latency_sample *last =
        &series->samples[(series->first + series->count + LATENCY_SAMPLES - 1) % LATENCY_SAMPLES];
    if (series->count && last->unix_seconds == unix_seconds) {
        if (duration_ms > last->duration_ms) last->duration_ms = duration_ms;
    } else {
        if (series->count == LATENCY_SAMPLES)
            series->first = (series->first + 1) % LATENCY_SAMPLES;
        else
            series->count++;
        series->samples[(series->first + series->count - 1) % LATENCY_SAMPLES] =
            (struct latency_sample){unix_seconds, duration_ms};
    }
    pthread_mutex_unlock(&latency->lock);
}

void latency_copy(struct latency *latency, enum latency_event event, struct latency_series *series) {
    pthread_mutex_lock(&latency->lock);
    *series = latency->series[event];
    pthread_mutex_unlock(&latency->lock);
}

bool latency_reset(struct latency *latency, enum latency_event event) {
    pthread_mutex_lock(&latency->lock);
    bool had = latency->series[event].count > 0;
    latency->series[event] = (struct latency_series){0};
    pthread_mutex_unlock(&latency->lock);
    return had;
}

void latency_analyse(const struct latency_series *series, int64_t now_seconds, struct latency_analysis *analysis) {
    assert(series->count > 0);
    *analysis = (struct latency_analysis){.shortest_ms = INT64_MAX};
    int64_t sum = 0, distance = 0;
    for (unsigned i = 0; i < series->count; i++) {
        int64_t duration_ms = latency_sample_at(series, i)->duration_ms;
        sum += duration_ms;
        if (duration_ms < analysis->shortest_ms) analysis->shortest_ms = duration_ms;
        if (duration_ms > analysis->longest_ms) analysis->longest_ms = duration_ms;
    }
    analysis->average_ms = sum / series->count;
    for (unsigned i = 0; i < series->count; i++) {
        int64_t off = latency_sample_at(series, i)->duration_ms - analysis->average_ms;
        distance += off < 0 ? -off : off;
    }
    analysis->deviation_ms = distance / series->count;
    int64_t span_seconds = now_seconds - latency_sample_at(series, 0)->unix_seconds;
    analysis->period_seconds = (double)(span_seconds > 0 ? span_seconds : 0) / series->count;
}
