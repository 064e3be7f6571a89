/* Text, JSON and CSV of a run. All three only arrange the figures of capacity_figures.c; a figure that is not known is
 * a dash, null or nothing, never a zero. */
#include "bench/capacity_report.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SENT_LATE_NS = 1000000 /* below, lateness is that of any busy host */ };

/* How a column of the text shows its figure. */
struct column {
    const char *title;
    const char *figure;
    double divisor;
    int width, decimals;
};

static const struct column memory_columns[] = {
    {"ratio", "dram_ratio", 1, 7, 2},
    {"keys", "dbsize", 1, 12, 0},
    {"payload MB", "payload_bytes", 1e6, 11, 1},
    {"RSS MB", "rss_bytes", 1e6, 10, 1},
    {"B/key", "bytes_per_key", 1, 9, 1},
    {"payload", "payload_per_key", 1, 10, 1},
    {"overhead", "overhead_per_key", 1, 10, 1},
    {"load MB/s", "load_payload_bytes_per_second", 1e6, 10, 1},
    {"keys/s", "load_operations_per_second", 1, 10, 0},
    {"CPU us", "load_cpu_us_per_operation", 1, 8, 2},
    {"errors", "load_errors", 1, 8, 0},
};
static const struct column closed_columns[] = {
    {"operations/s", "closed_operations_per_second", 1, 13, 0},
    {"p50 us", "closed_p50_us", 1, 10, 0},
    {"p99 us", "closed_p99_us", 1, 10, 0},
    {"CPU us", "closed_cpu_us_per_operation", 1, 8, 2},
    {"hits %", "closed_hit_share", 0.01, 8, 1},
    {"DRAM %", "closed_dram_hit_share", 0.01, 8, 1},
    {"far %", "closed_far_hit_share", 0.01, 8, 1},
    {"tier %", "closed_tier_hit_share", 0.01, 8, 1},
    {"device reads", "closed_device_reads", 1, 13, 0},
    {"read B/op", "closed_process_read_bytes_per_operation", 1, 10, 0},
    {"errors", "closed_errors", 1, 8, 0},
};
static const struct column open_columns[] = {
    {"intended/s", "open_intended_per_second", 1, 12, 0},
    {"done/s", "open_operations_per_second", 1, 11, 0},
    {"p50 us", "open_p50_us", 1, 9, 0},
    {"p99 us", "open_p99_us", 1, 9, 0},
    {"p99.9 us", "open_p99.9_us", 1, 10, 0},
    {"p99.99 us", "open_p99.99_us", 1, 10, 0},
    {"max us", "open_max_us", 1, 10, 0},
    {"late p99", "open_sent_late_p99_us", 1, 9, 0},
    {"open end", "open_unfinished", 1, 9, 0},
    {"errors", "open_errors", 1, 8, 0},
};
static const struct column verify_columns[] = {
    {"keys read", "verify_keys", 1, 12, 0}, {"wrong", "verify_wrong", 1, 9, 0},
    {"missing", "verify_missing", 1, 9, 0}, {"expired", "verify_missing_with_ttl", 1, 9, 0},
    {"errors", "verify_errors", 1, 9, 0},   {"keys/s", "verify_operations_per_second", 1, 12, 0},
};

static struct figures *compute_all(const struct capacity_report *report) {
    struct figures *all = calloc(report->step_count + 1u, sizeof(*all));
    assert(all != NULL);
    for (unsigned i = 0; i < report->step_count; i++) report_compute(report, &report->steps[i], &all[i]);
    return all;
}

static void write_table(const struct capacity_report *report, const struct figures *all, const char *title,
                        const struct column *columns, size_t count, FILE *out) {
    bool any = false;
    for (unsigned step = 0; step < report->step_count; step++)
        for (size_t i = 0; i < count; i++) any = any || !isnan(report_figure(&all[step], columns[i].figure));
    if (!any) return;
    fprintf(out, "\n%s\n  %-12s", title, "dataset");
    for (size_t i = 0; i < count; i++) fprintf(out, "%*s", columns[i].width, columns[i].title);
    fputc('\n', out);
    for (unsigned step = 0; step < report->step_count; step++) {
        fprintf(out, "  %-12s", report->steps[step].target.text);
        for (size_t i = 0; i < count; i++) {
            double value = report_figure(&all[step], columns[i].figure);
            if (isnan(value))
                fprintf(out, "%*s", columns[i].width, "-");
            else
                fprintf(out, "%*.*f", columns[i].width, columns[i].decimals, value / columns[i].divisor);
        }
        fputc('\n', out);
    }
}

static void write_error(FILE *out, const char *dataset, const char *phase, const struct run_result *run) {
    if (run->counts.errors > 0)
        fprintf(out, "%s, %s: %llu error replies, first: %s\n", dataset, phase, (unsigned long long)run->counts.errors,
                run->counts.first_error);
    if (run->counts.wrong > 0)
        fprintf(out, "%s, %s: %llu WRONG values, first: %s\n", dataset, phase, (unsigned long long)run->counts.wrong,
                run->counts.first_wrong);
    if (run->unfinished > 0)
        fprintf(out, "%s, %s: %llu of %llu operations were not answered in time\n", dataset, phase,
                (unsigned long long)run->unfinished, (unsigned long long)run->intended);
}

/* What makes the figures of an open loop those of something else than the server. */
static void write_open_troubles(const char *dataset, const struct capacity_phase *open, FILE *out) {
    const struct run_result *run = &open->run;
    if (!open->done) return;
    if (run->seconds > 0 && (double)run->counts.operations / run->seconds < 0.98 * open->rate)
        fprintf(out, "%s: the open loop's rate was more than this server, or this load generator, can do\n", dataset);
    uint64_t late_ns = histogram_quantile(&run->lateness, 0.99);
    if (late_ns > SENT_LATE_NS && late_ns > histogram_quantile(&run->latency, 0.99) / 2)
        fprintf(out, "%s: open loop: the load generator itself was late, p99 %.1f ms: its share of the tail is large\n",
                dataset, (double)late_ns / 1e6);
}

static void write_troubles(const struct capacity_report *report, FILE *out) {
    for (unsigned i = 0; i < report->step_count; i++) {
        const struct capacity_step *step = &report->steps[i];
        const char *dataset = step->target.text;
        if (!step->filled)
            fprintf(out, "%s: NOT FILLED: %lld keys instead of %llu\n", dataset, (long long)step->dbsize,
                    (unsigned long long)step->keys);
        write_error(out, dataset, "load", &step->load.run);
        write_error(out, dataset, "closed loop", &step->closed.run);
        write_error(out, dataset, "open loop", &step->open.run);
        write_error(out, dataset, "verification", &step->verify.run);
        write_open_troubles(dataset, &step->open, out);
    }
    if (report->failure[0] != '\0') fprintf(out, "ended early: %s\n", report->failure);
}

/* -1: not known. */
static int64_t empty_rss(const struct capacity_report *report) {
    return report->empty.rss_bytes >= 0 ? report->empty.rss_bytes : report->empty.info[PROBE_USED_MEMORY_RSS];
}

#define COLUMNS(name) name, sizeof(name) / sizeof(name[0])

void report_write_text(const struct capacity_report *report, FILE *out) {
    const struct capacity_options *options = report->options;
    fprintf(out, "%s: %s %s, %s, DRAM ", options->label, report->probe->server_name, report->probe->server_version,
            report->probe->pid != 0 ? "process seen" : "process not seen");
    if (isnan(report->dram_bytes))
        fputs("not known (no maxmemory; --dram tells)\n", out);
    else
        fprintf(out, "%.1f MB (%s)\n", report->dram_bytes / 1e6, report->dram_source);
    int64_t empty = empty_rss(report);
    if (empty >= 0) fprintf(out, "RSS of the empty server: %.1f MB\n", (double)empty / 1e6);
    struct figures *all = compute_all(report);
    write_table(report, all, "load and memory (bytes per key: RSS less that of the empty server)",
                COLUMNS(memory_columns), out);
    write_table(report, all, "closed loop", COLUMNS(closed_columns), out);
    write_table(report, all, "open loop: latency from the moment an operation was due", COLUMNS(open_columns), out);
    write_table(report, all, "every key read back", COLUMNS(verify_columns), out);
    free(all);
    fputc('\n', out);
    write_troubles(report, out);
}

/* Whether every byte above ASCII belongs to a sequence as UTF-8 builds them. */
static bool looks_like_utf8(const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0';) {
        unsigned lead = *at++;
        unsigned more = lead < 0x80 ? 0 : lead < 0xc2 ? 9 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf5 ? 3 : 9;
        if (more == 9) return false;
        for (; more > 0; more--, at++)
            if ((*at & 0xc0) != 0x80) return false;
    }
    return true;
}

/* What a server says need not be UTF-8; its bytes then stand as the characters of the same numbers. */
static void write_json_string(const char *text, FILE *out) {
    unsigned above = looks_like_utf8(text) ? 0x100 : 0x80;
    fputc('"', out);
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f || byte >= above)
            fprintf(out, "\\u%04x", byte);
        else
            fputc(byte, out);
    }
    fputc('"', out);
}

static void write_json_text(const char *name, const char *text, const char *end, FILE *out) {
    fprintf(out, "\"%s\": ", name);
    if (text == NULL)
        fputs("null", out);
    else
        write_json_string(text, out);
    fputs(end, out);
}

static void write_number(double value, FILE *out) {
    if (isnan(value)) return;
    if (value == floor(value) && fabs(value) < 1e15)
        fprintf(out, "%.0f", value);
    else
        fprintf(out, "%.10g", value);
}

static void write_json_number(const char *name, double value, const char *end, FILE *out) {
    fprintf(out, "\"%s\": ", name);
    if (isnan(value)) fputs("null", out);
    write_number(value, out);
    fputs(end, out);
}

static const char *skew_name(enum key_distribution skew) {
    return skew == KEYS_ZIPF ? "zipf" : skew == KEYS_HOTSPOT ? "hotspot" : "uniform";
}

static void write_json_settings(const struct capacity_report *report, FILE *out) {
    const struct capacity_options *options = report->options;
    fputs("  \"settings\": {", out);
    write_json_number("value_size_min", (double)options->value_size_min, ", ", out);
    write_json_number("value_size_max", (double)options->value_size_max, ", ", out);
    write_json_number("key_bytes", (double)report->key_length, ", ", out);
    write_json_number("compressible", options->compressible, ", ", out);
    write_json_number("ttl_share", options->ttl_share, ", ", out);
    write_json_number("ttl_seconds", options->ttl_seconds, ",\n    ", out);
    write_json_text("skew", skew_name(options->skew), ", ", out);
    write_json_number("zipf_exponent", options->skew == KEYS_ZIPF ? options->zipf_exponent : NAN, ", ", out);
    write_json_number("read_share", options->read_share, ", ", out);
    write_json_number("connections", options->connections, ", ", out);
    write_json_number("threads", options->threads, ", ", out);
    write_json_number("pipeline", options->pipeline, ",\n    ", out);
    write_json_number("seconds", options->seconds, ", ", out);
    write_json_text("arrivals", options->even_arrivals ? "even" : "random", ", ", out);
    write_json_number("verify", options->verify, ", ", out);
    write_json_number("seed", (double)options->seed, "},\n", out);
}

static void write_json_step(const struct capacity_step *step, const struct figures *figures, FILE *out) {
    fputs("    {", out);
    write_json_text("target", step->target.text, ",\n     ", out);
    const struct {
        const char *name;
        const struct run_result *run;
    } phases[] = {{"load_first_error", &step->load.run},
                  {"closed_first_error", &step->closed.run},
                  {"open_first_error", &step->open.run},
                  {"verify_first_error", &step->verify.run}};
    for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
        const struct lane_counts *counts = &phases[i].run->counts;
        write_json_text(phases[i].name, counts->errors > 0 ? counts->first_error : NULL, ",\n     ", out);
    }
    for (unsigned i = 0; i < figures->count; i++)
        write_json_number(figures->list[i].name, figures->list[i].value,
                          i + 1 < figures->count ? (i % 4 == 3 ? ",\n     " : ", ") : "}", out);
}

void report_write_json(const struct capacity_report *report, FILE *out) {
    const struct capacity_options *options = report->options;
    fputs("{\n  \"format\": \"terrace-capacity 1\",\n  ", out);
    write_json_text("label", options->label, ", ", out);
    write_json_text("started", report->started, ",\n", out);
    fputs("  \"server\": {", out);
    write_json_text("name", report->probe->server_name, ", ", out);
    write_json_text("version", report->probe->server_version, ", ", out);
    write_json_number("process_id", report->probe->pid > 0 ? report->probe->pid : NAN, ", ", out);
    write_json_number("dram_bytes", report->dram_bytes, ", ", out);
    write_json_text("dram_source", report->dram_source, ", ", out);
    write_json_text("rss_source", report->empty.rss_bytes >= 0 ? "/proc" : "INFO", ", ", out);
    int64_t rss = empty_rss(report);
    write_json_number("empty_rss_bytes", rss >= 0 ? (double)rss : NAN, "},\n", out);
    write_json_settings(report, out);
    write_json_text("failure", report->failure[0] != '\0' ? report->failure : NULL, ",\n", out);
    fputs("  \"steps\": [\n", out);
    struct figures *all = compute_all(report);
    for (unsigned i = 0; i < report->step_count; i++) {
        write_json_step(&report->steps[i], &all[i], out);
        fputs(i + 1 < report->step_count ? ",\n" : "\n", out);
    }
    fputs("  ]\n}\n", out);
    free(all);
}

static void write_csv_text(const char *text, FILE *out) {
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

/* The columns are the first step's that has most figures; a step that ended early leaves some empty. */
void report_write_csv(const struct capacity_report *report, FILE *out) {
    struct figures *all = compute_all(report);
    const struct figures *widest = &all[0];
    for (unsigned i = 1; i < report->step_count; i++)
        if (all[i].count > widest->count) widest = &all[i];
    fputs("label,server,version,target", out);
    for (unsigned i = 0; i < widest->count; i++) fprintf(out, ",%s", widest->list[i].name);
    fputs(",load_first_error\n", out);
    for (unsigned step = 0; step < report->step_count; step++) {
        const char *texts[] = {report->options->label, report->probe->server_name, report->probe->server_version,
                               report->steps[step].target.text};
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
            if (i > 0) fputc(',', out);
            write_csv_text(texts[i], out);
        }
        for (unsigned i = 0; i < widest->count; i++) {
            fputc(',', out);
            write_number(report_figure(&all[step], widest->list[i].name), out);
        }
        fputc(',', out);
        write_csv_text(report->steps[step].load.run.counts.first_error, out);
        fputc('\n', out);
    }
    free(all);
}
