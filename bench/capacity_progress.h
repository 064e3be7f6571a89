/* What the user sees while a phase runs: a bar on a terminal, now and then a line elsewhere. One thread. */
#ifndef BENCH_CAPACITY_PROGRESS_H
#define BENCH_CAPACITY_PROGRESS_H

#include "bench/capacity_run.h"

#include <stdbool.h>
#include <stdio.h>

struct progress {
    FILE *out;
    bool quiet, terminal;
    const char *phase, *dataset;
    struct run_progress last;
    double rate;         /* operations/s, smoothed */
    double next_line_at; /* seconds of the phase */
};

/* `quiet`: show nothing. */
void progress_init(struct progress *progress, FILE *out, bool quiet);
/* The texts are borrowed until progress_end. */
void progress_begin(struct progress *progress, const char *phase, const char *dataset);
/* A run_progress_callback; `context` is the struct progress. */
void progress_show(void *context, const struct run_progress *now);
void progress_end(struct progress *progress);

#endif
