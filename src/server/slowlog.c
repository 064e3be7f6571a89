/* See slowlog.h. Entries form a list, each in one allocation with all its bytes; they are made and freed outside the
 * lock, so that a worker that adds one waits for pointers to change and for nothing else. */

#include "server/slowlog.h"

#include <stdio.h>
#include <stdlib.h>

void slowlog_init(struct slowlog *log, uint64_t length_max) {
    *log = (struct slowlog){.length_max = length_max};
    pthread_mutex_init(&log->lock, NULL);
}

static void free_entries(struct slowlog_entry *entry) {
    while (entry) {
        struct slowlog_entry *older = entry->older;
        free(entry);
        entry = older;
    }
}

void slowlog_destroy(struct slowlog *log) {
    free_entries(log->newest);
    pthread_mutex_destroy(&log->lock);
    *log = (struct slowlog){0};
}

/* ---- entries ---- */

struct writer {
    struct slowlog_entry *entry; /* NULL: only the bytes are counted */
    char *at;
    size_t bytes;
};

static struct span put(struct writer *writer, struct span bytes) {
    struct span placed = span_of(writer->at, bytes.length);
    writer->bytes += bytes.length;
    if (!writer->entry) return placed;
    if (bytes.length) memcpy(writer->at, bytes.data, bytes.length);
    writer->at += bytes.length;
    return placed;
}

static struct span put_argument(struct writer *writer, struct span argument) {
    if (argument.length <= SLOWLOG_ARGUMENT_BYTES) return put(writer, argument);
    char note[48];
    int length = snprintf(note, sizeof(note), "... (%zu more bytes)", argument.length - SLOWLOG_ARGUMENT_BYTES);
    struct span placed = put(writer, span_of(argument.data, SLOWLOG_ARGUMENT_BYTES));
    placed.length += put(writer, span_of(note, (size_t)length)).length;
    return placed;
}

static void put_event(struct writer *writer, const struct slowlog_event *event) {
    bool all = event->argument_count <= SLOWLOG_ARGUMENTS;
    uint32_t whole = all ? event->argument_count : SLOWLOG_ARGUMENTS - 1;
    for (uint32_t i = 0; i < whole; i++) {
        struct span placed = put_argument(writer, event->arguments[i]);
        if (writer->entry) writer->entry->arguments[i] = placed;
    }
    if (!all) {
        char note[48];
        int length = snprintf(note, sizeof(note), "... (%u more arguments)", event->argument_count - whole);
        struct span placed = put(writer, span_of(note, (size_t)length));
        if (writer->entry) writer->entry->arguments[whole] = placed;
    }
    struct span address = put(writer, span_of_text(event->client_address ? event->client_address : ""));
    struct span name = put(writer, span_of_text(event->client_name ? event->client_name : ""));
    if (!writer->entry) return;
    writer->entry->client_address = address;
    writer->entry->client_name = name;
}

static struct slowlog_entry *make_entry(const struct slowlog_event *event) {
    struct writer writer = {0};
    put_event(&writer, event);
    uint32_t count = event->argument_count < SLOWLOG_ARGUMENTS ? event->argument_count : SLOWLOG_ARGUMENTS;
    size_t fixed = sizeof(struct slowlog_entry) + count * sizeof(struct span);
    struct slowlog_entry *entry = malloc(fixed + writer.bytes);
    if (!entry) return NULL;
    *entry = (struct slowlog_entry){
        .unix_seconds = event->unix_seconds, .duration_us = event->duration_us, .argument_count = count};
    writer = (struct writer){.entry = entry, .at = (char *)entry + fixed};
    put_event(&writer, event);
    return entry;
}

/* ---- the list ---- */

/* Takes what is too much off the list and returns it, linked by `older`. */
static struct slowlog_entry *cut(struct slowlog *log) {
    struct slowlog_entry *dropped = NULL;
    while (log->length > log->length_max) {
        struct slowlog_entry *entry = log->oldest;
        log->oldest = entry->newer;
        if (log->oldest)
            log->oldest->older = NULL;
        else
            log->newest = NULL;
        log->length--;
        entry->older = dropped;
        dropped = entry;
    }
    return dropped;
}

void slowlog_add(struct slowlog *log, const struct slowlog_event *event) {
    struct slowlog_entry *entry = make_entry(event);
    if (!entry) return;
    struct slowlog_entry *dropped = entry;
    pthread_mutex_lock(&log->lock);
    if (log->length_max > 0) { /* what is never kept gets no number either */
        entry->id = log->next_id++;
        entry->older = log->newest;
        if (log->newest)
            log->newest->newer = entry;
        else
            log->oldest = entry;
        log->newest = entry;
        log->length++;
        dropped = cut(log);
    }
    pthread_mutex_unlock(&log->lock);
    free_entries(dropped);
}

void slowlog_set_length_max(struct slowlog *log, uint64_t length_max) {
    pthread_mutex_lock(&log->lock);
    log->length_max = length_max;
    struct slowlog_entry *dropped = cut(log);
    pthread_mutex_unlock(&log->lock);
    free_entries(dropped);
}

uint64_t slowlog_length(struct slowlog *log) {
    pthread_mutex_lock(&log->lock);
    uint64_t length = log->length;
    pthread_mutex_unlock(&log->lock);
    return length;
}

void slowlog_reset(struct slowlog *log) {
    pthread_mutex_lock(&log->lock);
    struct slowlog_entry *dropped = log->newest;
    log->newest = log->oldest = NULL;
    log->length = 0;
    pthread_mutex_unlock(&log->lock);
    free_entries(dropped);
}

void slowlog_read(struct slowlog *log, uint64_t count, const struct slowlog_reader *reader) {
    pthread_mutex_lock(&log->lock);
    if (count > log->length) count = log->length;
    reader->begin(reader->ctx, count);
    for (const struct slowlog_entry *entry = log->newest; count > 0; entry = entry->older, count--)
        reader->visit(reader->ctx, entry);
    pthread_mutex_unlock(&log->lock);
}
