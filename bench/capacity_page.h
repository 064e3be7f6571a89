/* The HTML page of one or several runs: one file that needs nothing else, least of all a network. */
#ifndef BENCH_CAPACITY_PAGE_H
#define BENCH_CAPACITY_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Whether the text is one JSON object (RFC 8259, at most 32 levels deep) that says it is a report of this tool. Decides
 * what may stand on the page; nothing else of its content is trusted. */
bool page_is_report(const char *text, size_t length);

/* Writes the page with the runs' JSON texts, in this order. Each must be a report. */
void page_write(const char *const *runs, size_t run_count, FILE *out);

#endif
