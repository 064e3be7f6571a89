/* The figures of a step, computed in one place for all forms of the report.
 *
 * A name is what is measured, with its unit last; those of a phase begin with the phase. Counters of the server are
 * differences over the phase; one that went backwards (a restarted server, CONFIG RESETSTAT) is not known. */
#include "bench/capacity_report.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static void add(struct figures *figures, const char *phase, const char *name, double value) {
    assert(figures->count < FIGURES_MAX);
    struct figure *figure = &figures->list[figures->count++];
    int length = snprintf(figure->name, sizeof(figure->name), "%s%s%s", phase, *phase == '\0' ? "" : "_", name);
    assert(length > 0 && length < FIGURE_NAME_MAX);
    figure->value = isfinite(value) ? value : NAN;
}

static double known(int64_t value) {
    return value < 0 ? NAN : (double)value;
}

static double difference(int64_t before, int64_t after) {
    return before < 0 || after < before ? NAN : (double)(after - before);
}

static double quotient(double value, double by) {
    return by > 0 ? value / by : NAN;
}

static void add_latency(struct figures *figures, const char *phase, const struct histogram *latency) {
    static const struct {
        const char *name;
        double fraction;
    } quantiles[] = {{"p50_us", 0.5}, {"p99_us", 0.99}, {"p99.9_us", 0.999}, {"p99.99_us", 0.9999}, {"max_us", 1}};
    bool any = latency->total > 0;
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        double ns = (double)histogram_quantile(latency, quantiles[i].fraction);
        if (quantiles[i].fraction == 1) ns = (double)latency->max;
        add(figures, phase, quantiles[i].name, any ? ns / 1000 : NAN);
    }
}

static void add_server(struct figures *figures, const char *phase, const struct capacity_phase *done) {
    const struct probe_sample *before = &done->before, *after = &done->after;
    double operations = (double)done->run.counts.operations;
    double read = difference(before->io_read_bytes, after->io_read_bytes);
    double written = difference(before->io_write_bytes, after->io_write_bytes);
    add(figures, phase, "cpu_us_per_operation", quotient(difference(before->cpu_ns, after->cpu_ns) / 1000, operations));
    add(figures, phase, "process_read_bytes", read);
    add(figures, phase, "process_write_bytes", written);
    add(figures, phase, "process_read_bytes_per_operation", quotient(read, operations));
    double reads = difference(before->device_reads, after->device_reads);
    add(figures, phase, "device_reads", reads);
    add(figures, phase, "device_reads_per_operation", quotient(reads, operations));
    add(figures, phase, "device_read_bytes", difference(before->device_read_bytes, after->device_read_bytes));
    add(figures, phase, "device_writes", difference(before->device_writes, after->device_writes));
    add(figures, phase, "device_write_bytes", difference(before->device_write_bytes, after->device_write_bytes));
    for (unsigned i = 0; i < PROBE_FIELDS; i++)
        if (probe_field_is_counter(i))
            add(figures, phase, probe_field_name(i), difference(before->info[i], after->info[i]));
    double dram = difference(before->info[PROBE_DRAM_HITS], after->info[PROBE_DRAM_HITS]);
    double far = difference(before->info[PROBE_FAR_HITS], after->info[PROBE_FAR_HITS]);
    double tier = difference(before->info[PROBE_TIER_HITS], after->info[PROBE_TIER_HITS]);
    double all = (isnan(dram) ? 0 : dram) + (isnan(far) ? 0 : far) + (isnan(tier) ? 0 : tier);
    add(figures, phase, "dram_hit_share", quotient(dram, all));
    add(figures, phase, "far_hit_share", quotient(far, all));
    add(figures, phase, "tier_hit_share", quotient(tier, all));
}

static void add_phase(struct figures *figures, const char *phase, const struct capacity_phase *done) {
    const struct lane_counts *counts = &done->run.counts;
    double seconds = done->run.seconds;
    add(figures, phase, "seconds", seconds);
    add(figures, phase, "operations", (double)counts->operations);
    add(figures, phase, "operations_per_second", quotient((double)counts->operations, seconds));
    add(figures, phase, "payload_bytes_per_second", quotient((double)counts->payload_bytes, seconds));
    add(figures, phase, "errors", (double)counts->errors);
    add(figures, phase, "reads", (double)counts->reads);
    add(figures, phase, "hit_share", quotient((double)counts->hits, (double)(counts->hits + counts->misses)));
    add(figures, phase, "wrong", (double)counts->wrong);
    add_latency(figures, phase, &done->run.latency);
    add_server(figures, phase, done);
}

static void add_open(struct figures *figures, const struct capacity_phase *open) {
    add_phase(figures, "open", open);
    add(figures, "open", "intended_per_second", open->rate);
    add(figures, "open", "intended", (double)open->run.intended);
    add(figures, "open", "unfinished", (double)open->run.unfinished);
    const struct histogram *lateness = &open->run.lateness;
    add(figures, "open", "sent_late_p99_us",
        lateness->total > 0 ? (double)histogram_quantile(lateness, 0.99) / 1000 : NAN);
}

static void add_verify(struct figures *figures, const struct capacity_phase *verify) {
    const struct lane_counts *counts = &verify->run.counts;
    add(figures, "verify", "seconds", verify->run.seconds);
    add(figures, "verify", "keys", (double)counts->reads);
    add(figures, "verify", "operations_per_second", quotient((double)counts->operations, verify->run.seconds));
    add(figures, "verify", "wrong", (double)counts->wrong);
    add(figures, "verify", "missing", (double)(counts->misses - counts->expired));
    add(figures, "verify", "missing_with_ttl", (double)counts->expired);
    add(figures, "verify", "errors", (double)counts->errors);
}

static double rss_of(const struct probe_sample *sample) {
    return known(sample->rss_bytes >= 0 ? sample->rss_bytes : sample->info[PROBE_USED_MEMORY_RSS]);
}

static void add_memory(struct figures *figures, const struct capacity_report *report,
                       const struct capacity_step *step) {
    double keys = known(step->dbsize);
    double rss = rss_of(&step->memory);
    double per_key = quotient(rss - rss_of(&report->empty), keys);
    double payload_per_key = quotient((double)step->payload_bytes, keys);
    add(figures, "", "rss_bytes", rss);
    add(figures, "", "used_memory_bytes", known(step->memory.info[PROBE_USED_MEMORY]));
    add(figures, "", "bytes_per_key", per_key);
    add(figures, "", "payload_per_key", payload_per_key);
    add(figures, "", "overhead_per_key", per_key - payload_per_key);
}

void report_compute(const struct capacity_report *report, const struct capacity_step *step, struct figures *figures) {
    figures->count = 0;
    add(figures, "", "keys", (double)step->keys);
    add(figures, "", "dbsize", known(step->dbsize));
    add(figures, "", "filled", step->filled);
    add(figures, "", "payload_bytes", (double)step->payload_bytes);
    add(figures, "", "dram_ratio", quotient((double)step->payload_bytes, report->dram_bytes));
    add_memory(figures, report, step);
    if (step->load.done) add_phase(figures, "load", &step->load);
    if (step->closed.done) add_phase(figures, "closed", &step->closed);
    if (step->open.done) add_open(figures, &step->open);
    if (step->verify.done) add_verify(figures, &step->verify);
}

double report_figure(const struct figures *figures, const char *name) {
    for (unsigned i = 0; i < figures->count; i++)
        if (strcmp(figures->list[i].name, name) == 0) return figures->list[i].value;
    return NAN;
}
