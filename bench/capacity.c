/* The capacity subcommand: fill, look, drive, and the same again with more data.
 *
 * Datasets grow: each load adds the keys that the next one has more, so that filling to 1, 2 and 4 GB loads 4 GB. After
 * each load DBSIZE must be what was loaded. Then the server is driven in a closed loop, which tells what it can do, and
 * in an open loop at a share of that, which tells how long its clients wait. The server's own figures are taken before
 * and after each phase and not during it.
 *
 * A dataset that was not filled is still measured and then the run ends: more keys would only measure the same again.
 * What was found is reported whatever ended the run. */
#include "bench/capacity.h"

#include "bench/capacity_options.h"
#include "bench/capacity_page.h"
#include "bench/capacity_progress.h"
#include "bench/capacity_report.h"
#include "bench/client.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
    REPORT_FILE_MAX = 16 << 20, /* a compared file; 64 steps take a few hundred kilobytes */
    FLUSH_LOOKS_MAX = 150,      /* half a minute */
    FLUSH_LOOKS_CALM = 5,
};
#define FLUSH_LOOK_SECONDS 0.2

struct capacity {
    struct capacity_options options;
    struct value_scheme scheme;
    struct lane_wire wire;
    struct control *control;
    struct probe probe;
    struct progress progress;
    struct capacity_report report;
    uint64_t loading_since_ns;
    char *compared[CAPACITY_COMPARED_MAX];
    char error[512];
};

static bool fail(struct capacity *capacity, const char *text) {
    if (capacity->error[0] == '\0') snprintf(capacity->error, sizeof(capacity->error), "%s", text);
    return false;
}

static bool take_sample(struct capacity *capacity, struct probe_sample *sample) {
    return probe_take(&capacity->probe, sample) || fail(capacity, capacity->control->error);
}

static bool run(struct capacity *capacity, const struct run_plan *plan, struct capacity_phase *phase, const char *name,
                const char *dataset) {
    phase->rate = plan->rate;
    if (!take_sample(capacity, &phase->before)) return false;
    progress_begin(&capacity->progress, name, dataset);
    bool good =
        run_phase(plan, &phase->run, progress_show, &capacity->progress, capacity->error, sizeof(capacity->error));
    progress_end(&capacity->progress);
    phase->done = true;
    if (!good) return false;
    return take_sample(capacity, &phase->after);
}

static void settle(double seconds) {
    struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(fmod(seconds, 1) * 1e9)};
    while (!run_stopped() && clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) continue;
}

/* Keys with a TTL may be gone when more time has passed than that. */
static bool is_filled(const struct capacity *capacity, const struct capacity_step *step) {
    const struct capacity_options *options = &capacity->options;
    double seconds = (double)(client_clock_ns() - capacity->loading_since_ns) / 1e9;
    double least = (double)step->keys;
    if (options->ttl_share > 0 && seconds + 1 > options->ttl_seconds) least *= (1 - options->ttl_share) * 0.98;
    return (double)step->dbsize >= floor(least) && step->dbsize <= (int64_t)step->keys;
}

static bool load(struct capacity *capacity, struct capacity_step *step, const struct capacity_step *previous) {
    struct run_plan plan = {.kind = RUN_LOAD, .options = &capacity->options, .wire = &capacity->wire};
    plan.first_key = previous == NULL ? 0 : previous->keys;
    plan.end_key = step->keys;
    bool good = run(capacity, &plan, &step->load, "load", step->target.text);
    step->payload_bytes = step->load.run.counts.payload_bytes + (previous == NULL ? 0 : previous->payload_bytes);
    step->dbsize = probe_count_keys(&capacity->probe);
    if (step->dbsize < 0) fail(capacity, capacity->control->error);
    step->filled = good && is_filled(capacity, step);
    if (!good || step->dbsize < 0) return false;
    settle(capacity->options.settle_seconds);
    return take_sample(capacity, &step->memory);
}

static bool measure(struct capacity *capacity, struct capacity_step *step) {
    const struct capacity_options *options = &capacity->options;
    struct run_plan plan = {.kind = RUN_CLOSED, .options = options, .wire = &capacity->wire, .end_key = step->keys};
    plan.seconds = options->warmup_seconds;
    plan.salt = step->keys * 4;
    if (plan.seconds > 0) {
        bool good = run(capacity, &plan, &step->closed, "warm up", step->target.text);
        memset(&step->closed, 0, sizeof(step->closed));
        if (!good || run_stopped()) return good;
    }
    plan.seconds = options->seconds;
    plan.salt++;
    if (!run(capacity, &plan, &step->closed, "closed loop", step->target.text)) return false;
    const struct run_result *closed = &step->closed.run;
    double throughput = closed->seconds > 0 ? (double)closed->counts.operations / closed->seconds : 0;
    plan.rate = options->rate > 0 ? options->rate : throughput * options->rate_share;
    if (plan.rate < 1) plan.rate = 1;
    plan.kind = RUN_OPEN;
    plan.salt++;
    return run_stopped() || run(capacity, &plan, &step->open, "open loop", step->target.text);
}

static bool verify_all(struct capacity *capacity, struct capacity_step *step) {
    struct lane_wire wire = capacity->wire;
    wire.verify = true;
    struct run_plan plan = {.kind = RUN_VERIFY, .options = &capacity->options, .wire = &wire, .end_key = step->keys};
    return run(capacity, &plan, &step->verify, "read back", step->target.text);
}

static int by_keys(const void *left, const void *right) {
    uint64_t a = ((const struct capacity_step *)left)->keys, b = ((const struct capacity_step *)right)->keys;
    return a < b ? -1 : a > b;
}

/* Turns what the user named into numbers of keys, smallest first. */
static bool plan_steps(struct capacity *capacity) {
    const struct capacity_options *options = &capacity->options;
    struct capacity_report *report = &capacity->report;
    double payload =
        (double)report->key_length + ((double)options->value_size_min + (double)options->value_size_max) / 2;
    double most = fmin(pow(10, options->key_format.width), (double)KEYS_MAX);
    report->steps = calloc(options->target_count, sizeof(*report->steps));
    assert(report->steps != NULL);
    for (unsigned i = 0; i < options->target_count; i++) {
        struct capacity_target target = options->targets[i];
        if (target.unit == CAPACITY_TIMES_DRAM && isnan(report->dram_bytes))
            return fail(capacity, "the server has no maxmemory, so a multiple of DRAM needs --dram");
        double bytes = target.unit == CAPACITY_TIMES_DRAM ? target.amount * report->dram_bytes : target.amount;
        double keys = target.unit == CAPACITY_KEYS ? target.amount : round(bytes / payload);
        if (keys > most) return fail(capacity, "--key-format has too few digits for so many keys");
        report->steps[i] = (struct capacity_step){.target = target, .keys = keys < 1 ? 1 : (uint64_t)keys};
    }
    qsort(report->steps, options->target_count, sizeof(*report->steps), by_keys);
    return true;
}

static void find_dram(struct capacity *capacity) {
    struct capacity_report *report = &capacity->report;
    report->dram_bytes = NAN;
    if (capacity->options.dram_bytes > 0) {
        report->dram_bytes = (double)capacity->options.dram_bytes;
        report->dram_source = "--dram";
    } else if (capacity->probe.maxmemory > 0) {
        report->dram_bytes = (double)capacity->probe.maxmemory;
        report->dram_source = "maxmemory";
    }
}

static int64_t rss_of(const struct probe_sample *sample) {
    return sample->rss_bytes >= 0 ? sample->rss_bytes : sample->info[PROBE_USED_MEMORY_RSS];
}

/* A server may free what it forgot in the background; until that ends its memory is no baseline. */
static bool wait_for_memory(struct capacity *capacity) {
    struct probe_sample sample;
    int64_t lowest = INT64_MAX;
    unsigned calm = 0;
    for (unsigned i = 0; i < FLUSH_LOOKS_MAX && calm < FLUSH_LOOKS_CALM && !run_stopped(); i++) {
        if (!take_sample(capacity, &sample)) return false;
        int64_t rss = rss_of(&sample);
        calm = rss > lowest - lowest / 100 ? calm + 1 : 0;
        if (rss < lowest) lowest = rss;
        settle(FLUSH_LOOK_SECONDS);
    }
    return true;
}

static bool empty_server(struct capacity *capacity) {
    if (capacity->options.flush) {
        if (control_ask(capacity->control, "FLUSHDB") == NULL) return fail(capacity, capacity->control->error);
        if (!wait_for_memory(capacity)) return false;
    }
    int64_t keys = probe_count_keys(&capacity->probe);
    if (keys < 0) return fail(capacity, capacity->control->error);
    if (keys > 0) return fail(capacity, "the database is not empty; --flush empties it, or choose another --database");
    return take_sample(capacity, &capacity->report.empty);
}

/* False, with a line in capacity->error, when nothing can be measured. */
static bool prepare(struct capacity *capacity) {
    const struct capacity_options *options = &capacity->options;
    struct capacity_report *report = &capacity->report;
    time_t now = time(NULL);
    struct tm utc;
    strftime(report->started, sizeof(report->started), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    if (!value_scheme_init(&capacity->scheme, options->seed, options->value_size_min, options->value_size_max,
                           options->compressible, options->ttl_share))
        return fail(capacity, "no memory");
    lane_wire_init(&capacity->wire, &capacity->scheme, &options->key_format, options->ttl_seconds, options->verify);
    report->options = options;
    report->probe = &capacity->probe;
    report->key_length = capacity->wire.key_length;
    capacity->control =
        control_open(&options->server, options->timeout_seconds, capacity->error, sizeof(capacity->error));
    if (capacity->control == NULL) return false;
    if (!probe_init(&capacity->probe, capacity->control, options, capacity->error, sizeof(capacity->error)))
        return false;
    if (options->label == NULL) capacity->options.label = capacity->probe.server_name;
    find_dram(capacity);
    return plan_steps(capacity) && empty_server(capacity);
}

static void measure_steps(struct capacity *capacity) {
    struct capacity_report *report = &capacity->report;
    const struct capacity_step *previous = NULL;
    bool good = true;
    capacity->loading_since_ns = client_clock_ns();
    while (good && report->step_count < capacity->options.target_count && !run_stopped()) {
        struct capacity_step *step = &report->steps[report->step_count++];
        good = load(capacity, step, previous);
        if (!good || run_stopped()) break;
        good = measure(capacity, step);
        previous = step;
        if (!step->filled) break;
    }
    if (good && capacity->options.verify_all && report->step_count > 0 && !run_stopped())
        good = verify_all(capacity, &report->steps[report->step_count - 1]);
    if (!good) snprintf(report->failure, sizeof(report->failure), "%s", capacity->error);
    if (good && run_stopped()) snprintf(report->failure, sizeof(report->failure), "interrupted");
}

/* Whether everything that was to be filled was, and everything that was read back was right. */
static bool is_good(const struct capacity_report *report) {
    if (report->failure[0] != '\0') return false;
    for (unsigned i = 0; i < report->step_count; i++) {
        const struct capacity_step *step = &report->steps[i];
        const struct lane_counts *verified = &step->verify.run.counts;
        if (!step->filled || step->closed.run.counts.wrong > 0 || step->open.run.counts.wrong > 0) return false;
        if (verified->wrong > 0 || verified->errors > 0 || verified->misses > verified->expired) return false;
    }
    return report->step_count > 0;
}

static bool write_file(struct capacity *capacity, const char *path,
                       void (*writer)(const struct capacity *capacity, FILE *out)) {
    if (path == NULL) return true;
    FILE *out = fopen(path, "we");
    if (out != NULL) writer(capacity, out);
    bool good = out != NULL && ferror(out) == 0;
    if (out != NULL) good = fclose(out) == 0 && good;
    if (!good) fprintf(stderr, "terrace-bench: cannot write %s: %s\n", path, strerror(errno));
    return good;
}

static void write_json(const struct capacity *capacity, FILE *out) {
    report_write_json(&capacity->report, out);
}

static void write_csv(const struct capacity *capacity, FILE *out) {
    report_write_csv(&capacity->report, out);
}

static void write_html(const struct capacity *capacity, FILE *out) {
    const char *runs[CAPACITY_COMPARED_MAX + 1];
    size_t count = 0;
    char *own = NULL;
    size_t length = 0;
    if (capacity->report.step_count > 0) {
        FILE *memory = open_memstream(&own, &length);
        assert(memory != NULL);
        report_write_json(&capacity->report, memory);
        fclose(memory);
        runs[count++] = own;
    }
    for (unsigned i = 0; i < capacity->options.compared_count; i++) runs[count++] = capacity->compared[i];
    page_write(runs, count, out);
    free(own);
}

/* Before the measurement: a mistyped name should not cost an hour. */
static bool read_compared(struct capacity *capacity) {
    for (unsigned i = 0; i < capacity->options.compared_count; i++) {
        const char *path = capacity->options.compared[i];
        char *text = calloc(1, REPORT_FILE_MAX);
        assert(text != NULL);
        capacity->compared[i] = text;
        FILE *file = fopen(path, "re");
        size_t length = file == NULL ? 0 : fread(text, 1, REPORT_FILE_MAX - 1, file);
        int reason = file == NULL ? errno : 0;
        if (file != NULL) fclose(file);
        if (page_is_report(text, length)) continue;
        snprintf(capacity->error, sizeof(capacity->error), "--compare: %.300s: %s", path,
                 reason != 0 ? strerror(reason) : "not a report that --json wrote");
        return false;
    }
    return true;
}

static void stop_on_signal(int number) {
    (void)number;
    run_stop_all();
}

static void prepare_process(unsigned connections) {
    /* The first interrupt ends the run and reports what was measured; a second one ends the process. */
    struct sigaction action = {.sa_handler = stop_on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= connections + 64u) return;
    limit.rlim_cur = limit.rlim_max;
    /* When this is not enough, connecting says so. */
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* The exit code. */
static int run_all(struct capacity *capacity) {
    const struct capacity_options *options = &capacity->options;
    if (!read_compared(capacity)) {
        fprintf(stderr, "terrace-bench: %s\n", capacity->error);
        return 1;
    }
    bool good = true;
    if (options->target_count > 0) {
        prepare_process(options->connections);
        if (!prepare(capacity)) {
            fprintf(stderr, "terrace-bench: %s\n", capacity->error);
            return 1;
        }
        progress_init(&capacity->progress, stderr, options->quiet);
        measure_steps(capacity);
        report_write_text(&capacity->report, stdout);
        good = fflush(stdout) == 0 && is_good(&capacity->report);
        good = write_file(capacity, options->json_path, write_json) && good;
        good = write_file(capacity, options->csv_path, write_csv) && good;
    }
    return write_file(capacity, options->html_path, write_html) && good ? 0 : 1;
}

int capacity_main(int count, char **arguments) {
    struct capacity *capacity = calloc(1, sizeof(*capacity));
    assert(capacity != NULL);
    int code = 1;
    if (!capacity_options_parse(count, arguments, &capacity->options, capacity->error, sizeof(capacity->error))) {
        fprintf(stderr, "terrace-bench: %s\n", capacity->error);
    } else if (capacity->options.help) {
        fputs(capacity_options_help, stdout);
        code = 0;
    } else {
        code = run_all(capacity);
    }
    control_close(capacity->control);
    value_scheme_release(&capacity->scheme);
    for (unsigned i = 0; i < CAPACITY_COMPARED_MAX; i++) free(capacity->compared[i]);
    free(capacity->report.steps);
    capacity_options_release(&capacity->options);
    free(capacity);
    return code;
}
