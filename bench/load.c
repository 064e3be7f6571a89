/* The load subcommand: compile the mix, open the connections, start the threads together, wait, add up, print.
 *
 * Connections are opened before the clock starts. Threads never talk to each other; the main thread only reads their
 * counters for the progress line. */
#include "bench/load.h"

#include "bench/client.h"
#include "bench/connection.h"
#include "bench/options.h"
#include "bench/report.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_INTERVAL_MS = 500 };

struct load {
    struct load_options options;
    struct client_mix mix;
    char *values;
    struct client *clients[THREADS_MAX];
    uint64_t started_ns, deadline_ns;
    pthread_mutex_t lock;
    pthread_cond_t thread_ended;
    unsigned running; /* under lock */
};

struct thread_argument {
    struct load *load;
    unsigned thread;
};

static bool compile_mix(struct load *load, char *error, size_t error_size) {
    const struct load_options *options = &load->options;
    struct client_mix *mix = &load->mix;
    unsigned weights = 0;
    for (unsigned i = 0; i < options->mix_count; i++) {
        const struct mix_entry *entry = &options->mix[i];
        struct request_template *request = request_template_create(entry->command, entry->repeat_from, entry->repeat,
                                                                   &options->shape, error, error_size);
        if (request == NULL) return false;
        mix->templates[mix->count] = request;
        weights += entry->weight;
        mix->weight_ends[mix->count++] = weights;
        size_t length = request_template_length_max(request);
        if (length > mix->request_length_max) mix->request_length_max = length;
    }
    return true;
}

/* A fill sends just as many requests as use every key of the thread's stripe. */
static uint64_t requests_of_thread(const struct load *load, unsigned thread) {
    const struct load_options *options = &load->options;
    uint64_t total = options->fill ? options->keys : options->requests;
    uint64_t first = (uint64_t)((unsigned __int128)total * thread / options->threads);
    uint64_t end = (uint64_t)((unsigned __int128)total * (thread + 1) / options->threads);
    if (!options->fill) return end - first;
    unsigned keys = request_template_keys(load->mix.templates[0]);
    return (end - first + keys - 1) / keys;
}

static bool open_clients(struct load *load, char *error, size_t error_size) {
    const struct load_options *options = &load->options;
    int *sockets = calloc(options->connections, sizeof(*sockets));
    assert(sockets != NULL);
    bool good = true;
    for (unsigned thread = 0; good && thread < options->threads; thread++) {
        uint64_t requests = requests_of_thread(load, thread);
        /* A share of nothing must not read as "until the deadline". */
        if (requests == 0 && (options->fill || options->requests > 0)) continue;
        unsigned first = options->connections * thread / options->threads;
        unsigned end = options->connections * (thread + 1) / options->threads;
        for (unsigned i = first; good && i < end; i++) {
            sockets[i] = connection_open(options, error, error_size);
            good = sockets[i] >= 0;
        }
        if (!good) break;
        load->clients[thread] =
            client_create(options, &load->mix, load->values, sockets + first, end - first, thread, requests);
        if (load->clients[thread] == NULL) {
            snprintf(error, error_size, "no memory for %u requests in flight on %u connections", options->pipeline,
                     options->connections);
            good = false;
        }
    }
    free(sockets);
    return good;
}

static void *run_thread(void *context) {
    struct thread_argument *argument = context;
    struct load *load = argument->load;
    client_run(load->clients[argument->thread], load->deadline_ns);
    pthread_mutex_lock(&load->lock);
    load->running--;
    pthread_cond_signal(&load->thread_ended);
    pthread_mutex_unlock(&load->lock);
    return NULL;
}

static uint64_t operations_so_far(const struct load *load) {
    uint64_t operations = 0;
    for (unsigned i = 0; i < load->options.threads; i++)
        if (load->clients[i] != NULL) operations += client_result(load->clients[i])->operations;
    return operations;
}

static void print_progress(const struct load *load, uint64_t *last_operations, uint64_t *last_ns) {
    uint64_t now_ns = client_clock_ns();
    uint64_t operations = operations_so_far(load);
    double seconds = (double)(now_ns - *last_ns) / 1e9;
    fprintf(stderr, "\r%6.1f s  %12llu operations  %10.0f/s ", (double)(now_ns - load->started_ns) / 1e9,
            (unsigned long long)operations, (double)(operations - *last_operations) / seconds);
    *last_operations = operations;
    *last_ns = now_ns;
}

static void wait_for_threads(struct load *load) {
    bool show = !load->options.quiet && isatty(STDERR_FILENO);
    uint64_t last_operations = 0;
    uint64_t last_ns = load->started_ns;
    struct timespec wake;
    clock_gettime(CLOCK_MONOTONIC, &wake);
    pthread_mutex_lock(&load->lock);
    while (load->running > 0) {
        wake.tv_nsec += PROGRESS_INTERVAL_MS * 1000000;
        wake.tv_sec += wake.tv_nsec / 1000000000;
        wake.tv_nsec %= 1000000000;
        while (load->running > 0 && pthread_cond_timedwait(&load->thread_ended, &load->lock, &wake) == 0) continue;
        if (show && load->running > 0) print_progress(load, &last_operations, &last_ns);
    }
    pthread_mutex_unlock(&load->lock);
    if (show) fprintf(stderr, "\r%60s\r", "");
}

static void run_threads(struct load *load) {
    pthread_t threads[THREADS_MAX];
    struct thread_argument arguments[THREADS_MAX];
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&load->lock, NULL);
    pthread_cond_init(&load->thread_ended, &attributes);
    bool timed = !load->options.fill && load->options.requests == 0;
    load->started_ns = client_clock_ns();
    load->deadline_ns = timed ? load->started_ns + (uint64_t)(load->options.seconds * 1e9) : UINT64_MAX;
    for (unsigned i = 0; i < load->options.threads; i++) load->running += load->clients[i] != NULL;
    for (unsigned i = 0; i < load->options.threads; i++) {
        if (load->clients[i] == NULL) continue;
        arguments[i] = (struct thread_argument){load, i};
        int status = pthread_create(&threads[i], NULL, run_thread, &arguments[i]);
        assert(status == 0);
    }
    wait_for_threads(load);
    for (unsigned i = 0; i < load->options.threads; i++)
        if (load->clients[i] != NULL) pthread_join(threads[i], NULL);
    pthread_cond_destroy(&load->thread_ended);
    pthread_mutex_destroy(&load->lock);
    pthread_condattr_destroy(&attributes);
}

/* Adds the threads up and prints; false with a message when one of them had to stop early. */
static bool print_result(const struct load *load, char *error, size_t error_size) {
    struct histogram *latency = calloc(1, sizeof(*latency));
    assert(latency != NULL);
    struct report report = {.first_error = "", .latency_ns = latency, .seed = load->options.seed};
    bool good = true;
    uint64_t ended_ns = load->started_ns;
    for (unsigned i = 0; i < load->options.threads; i++) {
        if (load->clients[i] == NULL) continue;
        const struct client_result *result = client_result(load->clients[i]);
        if (good && result->failure[0] != '\0') {
            snprintf(error, error_size, "%s", result->failure);
            good = false;
        }
        report.operations += result->operations;
        report.bytes_sent += result->bytes_sent;
        report.bytes_received += result->bytes_received;
        if (report.errors == 0 && result->errors > 0) report.first_error = result->first_error;
        report.errors += result->errors;
        if (result->ended_ns > ended_ns) ended_ns = result->ended_ns;
        histogram_merge(latency, &result->latency);
    }
    report.seconds = (double)(ended_ns - load->started_ns) / 1e9;
    if (load->options.json)
        report_print_json(&report, stdout);
    else
        report_print_text(&report, stdout);
    free(latency);
    return good;
}

static void raise_descriptor_limit(unsigned connections) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= connections + 64u) return;
    limit.rlim_cur = limit.rlim_max;
    /* When this is not enough, connecting says so. */
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void stop_on_signal(int number) {
    (void)number;
    client_stop_all();
}

/* The first interrupt ends the load and reports what was measured; a second one ends the process. */
static void install_stop_signals(void) {
    struct sigaction action = {.sa_handler = stop_on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static bool run_load(struct load *load, char *error, size_t error_size) {
    if (!compile_mix(load, error, error_size)) return false;
    if (load->options.fill && request_template_keys(load->mix.templates[0]) == 0) {
        snprintf(error, error_size, "--fill needs a command with __key__");
        return false;
    }
    load->values = request_values_create(load->options.shape.value_size_max, load->options.seed);
    if (load->values == NULL) {
        snprintf(error, error_size, "no memory for values of this size");
        return false;
    }
    raise_descriptor_limit(load->options.connections);
    if (!open_clients(load, error, error_size)) return false;
    install_stop_signals();
    run_threads(load);
    return print_result(load, error, error_size);
}

int load_main(int count, char **arguments) {
    char error[512] = "";
    struct load *load = calloc(1, sizeof(*load));
    assert(load != NULL);
    bool good = load_options_parse(count, arguments, &load->options, error, sizeof(error));
    if (good && load->options.help)
        fputs(load_options_help, stdout);
    else if (good)
        good = run_load(load, error, sizeof(error));
    if (!good) fprintf(stderr, "terrace-bench: %s\n", error);
    for (unsigned i = 0; i < THREADS_MAX; i++) client_destroy(load->clients[i]);
    for (unsigned i = 0; i < load->mix.count; i++) request_template_destroy(load->mix.templates[i]);
    free(load->values);
    load_options_release(&load->options);
    free(load);
    return good ? 0 : 1;
}
