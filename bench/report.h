/* The outcome of a load, as text for people or JSON for programs. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench/histogram.h"

#include <stdint.h>
#include <stdio.h>

struct report {
    double seconds;
    uint64_t operations, errors, bytes_sent, bytes_received;
    uint64_t seed;
    const char *first_error; /* empty when there were none */
    const struct histogram *latency_ns;
};

void report_print_text(const struct report *report, FILE *out);

/* One object on one line. Latencies are microseconds, rates per second. */
void report_print_json(const struct report *report, FILE *out);

#endif
