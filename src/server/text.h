#ifndef TERRACE_SERVER_TEXT_H
#define TERRACE_SERVER_TEXT_H

/* A text that grows as it is written: reports such as INFO.
 *
 * Starts as `struct text text = {0}` and ends with text_free(). When memory for a report of a few kilobytes cannot be
 * had the process aborts, as a reply does. Not for several threads. */

#include "base/span.h"

#include <stdint.h>

struct text {
    char *data; /* not terminated */
    size_t length, capacity;
};

void text_free(struct text *text);
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_add_span(struct text *text, struct span bytes);

static inline struct span text_span(const struct text *text) {
    return span_of(text->data ? text->data : "", text->length);
}

/* A quantity of memory for people: "512B", "1.50K", "23.54G". */
enum { TEXT_HUMAN_MAX = 32 };
void text_human_bytes(uint64_t bytes, char human[TEXT_HUMAN_MAX]);

#endif
