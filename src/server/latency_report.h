#ifndef TERRACE_SERVER_LATENCY_REPORT_H
#define TERRACE_SERVER_LATENCY_REPORT_H

/* The latency monitor's findings for people: LATENCY GRAPH and LATENCY DOCTOR. */

#include "server/latency.h"
#include "server/text.h"

struct config;

/* A column for each sample, oldest first, with its age below. Precondition: series->count > 0. */
void latency_draw(const struct latency_series *series, const char *name, int64_t now_seconds, struct text *text);

/* What was slow, and what may be done about it. */
void latency_diagnose(struct latency *latency, const struct config *config, int64_t now_seconds, struct text *text);

#endif
