/* A phase: open the connections, start the threads together, show progress while they run, add up.
 *
 * Connections are opened before the clock starts and closed at the end, so a phase leaves nothing behind in the server
 * but data. Threads never talk to each other; progress is read from their counters. */
#include "bench/capacity_run.h"

#include "bench/capacity_worker.h"
#include "bench/client.h"
#include "bench/connection.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    PROGRESS_INTERVAL_MS = 200,
    LOAD_CONNECTIONS_PER_THREAD = 4, /* more only spread the same bytes over more buffers */
};

/* Set by a signal handler, hence not part of a phase. */
static atomic_bool stop_requested;

void run_stop_all(void) {
    atomic_store_explicit(&stop_requested, true, memory_order_relaxed);
}

bool run_stopped(void) {
    return atomic_load_explicit(&stop_requested, memory_order_relaxed);
}

struct phase {
    const struct run_plan *plan;
    unsigned threads;
    struct capacity_worker *workers[THREADS_MAX];
    uint64_t start_ns;
    pthread_mutex_t lock;
    pthread_cond_t thread_ended;
    unsigned running; /* under lock */
};

struct phase_thread {
    pthread_t id;
    struct phase *phase;
    unsigned number;
};

static bool open_workers(struct phase *phase, char *error, size_t error_size) {
    const struct capacity_options *options = phase->plan->options;
    unsigned connections = options->connections;
    bool streams = phase->plan->kind == RUN_LOAD || phase->plan->kind == RUN_VERIFY;
    if (streams && connections > phase->threads * LOAD_CONNECTIONS_PER_THREAD)
        connections = phase->threads * LOAD_CONNECTIONS_PER_THREAD;
    int *sockets = calloc(connections, sizeof(*sockets));
    assert(sockets != NULL);
    unsigned opened = 0, owned = 0;
    for (; opened < connections; opened++) {
        sockets[opened] = connection_open(&options->server, error, error_size);
        if (sockets[opened] < 0) break;
    }
    bool good = opened == connections;
    for (unsigned thread = 0; good && thread < phase->threads; thread++) {
        unsigned end = connections * (thread + 1) / phase->threads;
        phase->workers[thread] =
            capacity_worker_create(phase->plan, thread, phase->threads, sockets + owned, end - owned);
        owned = end;
        good = phase->workers[thread] != NULL;
        if (!good) snprintf(error, error_size, "no memory for %u connections", connections);
    }
    for (unsigned i = owned; i < opened; i++) close(sockets[i]);
    free(sockets);
    return good;
}

static void *run_thread(void *context) {
    struct phase_thread *thread = context;
    struct phase *phase = thread->phase;
    capacity_worker_run(phase->workers[thread->number], phase->start_ns);
    pthread_mutex_lock(&phase->lock);
    phase->running--;
    pthread_cond_signal(&phase->thread_ended);
    pthread_mutex_unlock(&phase->lock);
    return NULL;
}

static void tell_progress(const struct phase *phase, run_progress_callback *progress, void *context) {
    const struct run_plan *plan = phase->plan;
    struct run_progress now = {.seconds = (double)(client_clock_ns() - phase->start_ns) / 1e9};
    for (unsigned i = 0; i < phase->threads; i++) {
        const struct lane_counts *counts = &capacity_worker_result(phase->workers[i])->counts;
        now.operations += atomic_load_explicit(&counts->operations, memory_order_relaxed);
        now.payload_bytes += atomic_load_explicit(&counts->payload_bytes, memory_order_relaxed);
    }
    bool timed = plan->kind == RUN_CLOSED || plan->kind == RUN_OPEN;
    now.total = timed ? 0 : plan->end_key - plan->first_key;
    if (timed)
        now.share = now.seconds / plan->seconds;
    else if (now.total > 0)
        now.share = (double)now.operations / (double)now.total;
    if (now.share > 1) now.share = 1;
    progress(context, &now);
}

static void wait_for_threads(struct phase *phase, run_progress_callback *progress, void *context) {
    struct timespec wake;
    clock_gettime(CLOCK_MONOTONIC, &wake);
    pthread_mutex_lock(&phase->lock);
    while (phase->running > 0) {
        wake.tv_nsec += PROGRESS_INTERVAL_MS * 1000000l;
        wake.tv_sec += wake.tv_nsec / 1000000000;
        wake.tv_nsec %= 1000000000;
        while (phase->running > 0 && pthread_cond_timedwait(&phase->thread_ended, &phase->lock, &wake) == 0) continue;
        pthread_mutex_unlock(&phase->lock);
        if (progress != NULL) tell_progress(phase, progress, context);
        pthread_mutex_lock(&phase->lock);
    }
    pthread_mutex_unlock(&phase->lock);
}

static void run_threads(struct phase *phase, run_progress_callback *progress, void *context) {
    struct phase_thread *threads = calloc(phase->threads, sizeof(*threads));
    assert(threads != NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&phase->lock, NULL);
    pthread_cond_init(&phase->thread_ended, &attributes);
    phase->start_ns = client_clock_ns();
    phase->running = phase->threads;
    for (unsigned i = 0; i < phase->threads; i++) {
        threads[i].phase = phase;
        threads[i].number = i;
        int status = pthread_create(&threads[i].id, NULL, run_thread, &threads[i]);
        assert(status == 0);
    }
    wait_for_threads(phase, progress, context);
    for (unsigned i = 0; i < phase->threads; i++) pthread_join(threads[i].id, NULL);
    pthread_cond_destroy(&phase->thread_ended);
    pthread_mutex_destroy(&phase->lock);
    pthread_condattr_destroy(&attributes);
    free(threads);
}

static void merge_counts(struct lane_counts *into, const struct lane_counts *from) {
    into->operations += from->operations;
    into->payload_bytes += from->payload_bytes;
    into->reads += from->reads;
    into->writes += from->writes;
    into->hits += from->hits;
    into->misses += from->misses;
    into->expired += from->expired;
    if (into->wrong == 0) memcpy(into->first_wrong, from->first_wrong, sizeof(into->first_wrong));
    into->wrong += from->wrong;
    if (into->errors == 0) memcpy(into->first_error, from->first_error, sizeof(into->first_error));
    into->errors += from->errors;
}

static void merge_results(const struct phase *phase, struct run_result *result) {
    memset(result, 0, sizeof(*result));
    result->ended_ns = phase->start_ns;
    for (unsigned i = 0; i < phase->threads; i++) {
        const struct run_result *part = capacity_worker_result(phase->workers[i]);
        merge_counts(&result->counts, &part->counts);
        histogram_merge(&result->latency, &part->latency);
        histogram_merge(&result->lateness, &part->lateness);
        result->intended += part->intended;
        result->unfinished += part->unfinished;
        if (part->ended_ns > result->ended_ns) result->ended_ns = part->ended_ns;
        if (result->failure[0] == '\0') memcpy(result->failure, part->failure, sizeof(result->failure));
    }
    result->seconds = (double)(result->ended_ns - phase->start_ns) / 1e9;
}

bool run_phase(const struct run_plan *plan, struct run_result *result, run_progress_callback *progress, void *context,
               char *error, size_t error_size) {
    struct phase *phase = calloc(1, sizeof(*phase));
    assert(phase != NULL);
    memset(result, 0, sizeof(*result));
    phase->plan = plan;
    phase->threads = plan->options->threads;
    bool good = open_workers(phase, error, error_size);
    if (good) {
        run_threads(phase, progress, context);
        merge_results(phase, result);
        good = result->failure[0] == '\0';
        if (!good) snprintf(error, error_size, "%s", result->failure);
    }
    for (unsigned i = 0; i < phase->threads; i++) capacity_worker_destroy(phase->workers[i]);
    free(phase);
    return good;
}
