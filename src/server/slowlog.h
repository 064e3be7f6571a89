#ifndef TERRACE_SERVER_SLOWLOG_H
#define TERRACE_SERVER_SLOWLOG_H

/* The slow log: the last commands that took long, newest first.
 *
 * Threads: any; a mutex of its own is taken last and never held for anything but memory. An entry keeps at most
 * SLOWLOG_ARGUMENTS arguments of at most SLOWLOG_ARGUMENT_BYTES bytes, and says how much was left out, as Redis's
 * entries do; so it costs some 5 kB at most. */

#include "base/span.h"

#include <pthread.h>
#include <stdint.h>

enum { SLOWLOG_ARGUMENTS = 32, SLOWLOG_ARGUMENT_BYTES = 128 };

struct slowlog_entry {
    struct slowlog_entry *older, *newer;
    int64_t id;
    int64_t unix_seconds;
    int64_t duration_us;
    struct span client_address, client_name;
    uint32_t argument_count;
    struct span arguments[]; /* the bytes of all spans follow */
};

struct slowlog {
    pthread_mutex_t lock;
    struct slowlog_entry *newest, *oldest;
    uint64_t length, length_max;
    int64_t next_id;
};

void slowlog_init(struct slowlog *log, uint64_t length_max);
void slowlog_destroy(struct slowlog *log);

struct slowlog_event {
    int64_t unix_seconds;
    int64_t duration_us;
    const struct span *arguments; /* borrowed */
    uint32_t argument_count;
    const char *client_address, *client_name;
};
/* Without memory for it, the entry is not kept. */
void slowlog_add(struct slowlog *log, const struct slowlog_event *event);

void slowlog_set_length_max(struct slowlog *log, uint64_t length_max);
uint64_t slowlog_length(struct slowlog *log);
void slowlog_reset(struct slowlog *log);

/* Calls `begin` with the number of entries that follow, then `visit` for each, newest first, at most `count` of them.
 * The log is locked meanwhile: neither may call it again. */
struct slowlog_reader {
    void (*begin)(void *ctx, uint64_t count);
    void (*visit)(void *ctx, const struct slowlog_entry *entry);
    void *ctx;
};
void slowlog_read(struct slowlog *log, uint64_t count, const struct slowlog_reader *reader);

#endif
