/* See text.h. The buffer doubles, so that a report costs a handful of allocations. */

#include "server/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXT_FIRST_BYTES = 1024 };

void text_free(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}

/* Makes room for `bytes` more and a terminator that the formatting functions write. */
static void make_room(struct text *text, size_t bytes) {
    size_t needed = text->length + bytes + 1;
    if (needed <= text->capacity) return;
    size_t capacity = text->capacity ? text->capacity : TEXT_FIRST_BYTES;
    while (capacity < needed) capacity *= 2;
    char *data = realloc(text->data, capacity);
    if (!data) abort();
    text->data = data;
    text->capacity = capacity;
}

void text_add(struct text *text, const char *format, ...) {
    va_list arguments;
    make_room(text, 0);
    va_start(arguments, format);
    int length = vsnprintf(text->data + text->length, text->capacity - text->length, format, arguments);
    va_end(arguments);
    assert(length >= 0);
    if ((size_t)length >= text->capacity - text->length) {
        make_room(text, (size_t)length);
        va_start(arguments, format);
        vsnprintf(text->data + text->length, text->capacity - text->length, format, arguments);
        va_end(arguments);
    }
    text->length += (size_t)length;
}

void text_add_span(struct text *text, struct span bytes) {
    if (bytes.length == 0) return;
    make_room(text, bytes.length);
    memcpy(text->data + text->length, bytes.data, bytes.length);
    text->length += bytes.length;
}

void text_human_bytes(uint64_t bytes, char human[TEXT_HUMAN_MAX]) {
    static const char units[] = "KMGTPE";
    if (bytes < 1024) {
        snprintf(human, TEXT_HUMAN_MAX, "%lluB", (unsigned long long)bytes);
        return;
    }
    double value = (double)bytes / 1024;
    unsigned unit = 0;
    for (; value >= 1024; unit++) value /= 1024;
    snprintf(human, TEXT_HUMAN_MAX, "%.2f%c", value, units[unit]);
}
