#ifndef TERRACE_SERVER_MEMORY_REPORT_H
#define TERRACE_SERVER_MEMORY_REPORT_H

/* MEMORY DOCTOR: the figures of metrics.h, judged. Pure. */

#include "server/metrics.h"
#include "server/text.h"

struct memory_findings {
    const struct metrics_memory *memory;
    uint64_t limit_bytes; /* maxmemory; 0: none */
    unsigned clients;     /* connected */
};

void memory_diagnose(const struct memory_findings *findings, struct text *text);

#endif
