/* What a run of the capacity benchmark found, and its forms: text for people, JSON and CSV for programs. The page is in
 * capacity_page.h. */
#ifndef BENCH_CAPACITY_REPORT_H
#define BENCH_CAPACITY_REPORT_H

#include "bench/capacity_options.h"
#include "bench/capacity_probe.h"
#include "bench/capacity_run.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* One phase at one dataset, with the server before and after. */
struct capacity_phase {
    bool done;
    double rate; /* open loop: operations/s intended */
    struct probe_sample before, after;
    struct run_result run;
};

struct capacity_step {
    struct capacity_target target;
    uint64_t keys;          /* wanted */
    int64_t dbsize;         /* found; -1: not known */
    uint64_t payload_bytes; /* of all keys and values acknowledged so far */
    bool filled;
    struct probe_sample memory; /* after the load has settled */
    struct capacity_phase load, closed, open, verify;
};

struct capacity_report {
    const struct capacity_options *options;
    const struct probe *probe;
    char started[32]; /* UTC, ISO 8601 */
    uint64_t key_length;
    double dram_bytes; /* NAN: not known */
    const char *dram_source;
    struct probe_sample empty; /* before the first load */
    struct capacity_step *steps;
    unsigned step_count;
    char failure[512]; /* why the run ended early; empty when it did not */
};

/* Figures of a step, by name: everything that the forms below show. NAN where a figure is not known. */
enum { FIGURE_NAME_MAX = 48, FIGURES_MAX = 192 };
struct figure {
    char name[FIGURE_NAME_MAX];
    double value;
};
struct figures {
    unsigned count;
    struct figure list[FIGURES_MAX];
};
void report_compute(const struct capacity_report *report, const struct capacity_step *step, struct figures *figures);

/* NAN when there is no such figure. */
double report_figure(const struct figures *figures, const char *name);

/* Tables of a line for each step. */
void report_write_text(const struct capacity_report *report, FILE *out);
/* One object: what was run, and a flat object of figures for each step; null for what is not known. */
void report_write_json(const struct capacity_report *report, FILE *out);
/* A header and a line for each step; empty for what is not known. */
void report_write_csv(const struct capacity_report *report, FILE *out);

#endif
