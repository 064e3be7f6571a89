#ifndef TERRACE_SERVER_ALLOCATOR_H
#define TERRACE_SERVER_ALLOCATOR_H

/* The allocator of everything that is not a record: jemalloc, its settings and its figures. Sanitizer builds bring
 * their own allocator, of which only the allocated bytes are known. Any thread may call these. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct allocator_usage {
    size_t allocated_bytes; /* handed out */
    size_t active_bytes;    /* in pages that hold something handed out */
    size_t resident_bytes;  /* held of the kernel */
};

/* Figures of this moment; merging those of all arenas takes some microseconds. */
struct allocator_usage allocator_usage(void);

/* Lets a thread of the allocator give unused memory back, so that no worker has to. To be called once, by the process
 * that will serve: threads do not survive a fork. */
void allocator_start(void);

/* Gives all unused memory back to the kernel now. False: not possible with this allocator. */
bool allocator_purge(void);

/* "jemalloc-5.3.0" */
const char *allocator_name(void);

/* For DEBUG: a number of the allocator's, by its name there ("arenas.page"). `sets`: it becomes *value, and *value what
 * it was. False: there is none of that name, or it cannot be had or set. */
bool allocator_control(const char *name, bool sets, int64_t *value) __attribute__((warn_unused_result));
/* The same for texts: *text, if it is not NULL, is set, "" being for names that only trigger something; it becomes what
 * it was, which the allocator owns, or NULL where there is nothing to be had. */
bool allocator_control_text(const char *name, const char **text) __attribute__((warn_unused_result));

/* The allocator's own report, in pieces. */
void allocator_report(void (*write)(void *ctx, const char *piece), void *ctx);

#endif
