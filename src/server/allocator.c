/* The allocator's settings, in this one place, and its figures.
 *
 *   dirty_decay_ms:1000,muzzy_decay_ms:0  freed pages are reused for a second, then go back to the kernel, so that RSS
 *                                         follows what is used
 *   narenas                               left alone: each worker's thread gets an arena of its own, and those that no
 *                                         thread uses cost nothing (an empty server is 5.1 MB with one worker, 5.7 MB
 *                                         with four, and narenas:1 saves 0.4 MB of that)
 *
 * Decay needs somebody to notice that time passes. Allocations do, but a server that has just freed much and is now
 * idle makes none; hence jemalloc's background thread, one for all arenas. */

#include "server/allocator.h"

#ifdef TERRACE_SANITIZE

/* Of the sanitizers' common run-time; weak because UBSan alone has none. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

struct allocator_usage allocator_usage(void) {
    size_t bytes = __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : 0;
    return (struct allocator_usage){bytes, bytes, bytes};
}

void allocator_start(void) {}
bool allocator_purge(void) {
    return false;
}
const char *allocator_name(void) {
    return "sanitizer";
}
bool allocator_control(const char *name, bool sets, int64_t *value) {
    (void)name, (void)sets, (void)value;
    return false;
}
bool allocator_control_text(const char *name, const char **text) {
    (void)name, (void)text;
    return false;
}
void allocator_report(void (*write)(void *ctx, const char *piece), void *ctx) {
    write(ctx, "The allocator of a sanitizer build keeps no statistics.\n");
}

#else

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stdint.h>
#include <stdio.h>

const char *malloc_conf = "dirty_decay_ms:1000,muzzy_decay_ms:0,max_background_threads:1";

static size_t figure(const char *name) {
    size_t value = 0, size = sizeof(value);
    return mallctl(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

/* To jemalloc, what lies in a thread's cache is handed out: hundreds of kilobytes that nobody has. */
struct allocator_usage allocator_usage(void) {
    uint64_t epoch = 1;
    char name[48];
    snprintf(name, sizeof(name), "stats.arenas.%u.tcache_bytes", (unsigned)MALLCTL_ARENAS_ALL);
    mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
    size_t allocated = figure("stats.allocated"), cached = figure(name);
    return (struct allocator_usage){allocated > cached ? allocated - cached : 0, figure("stats.active"),
                                    figure("stats.resident")};
}

void allocator_start(void) {
    bool on = true;
    mallctl("background_thread", NULL, NULL, &on, sizeof(on));
}

bool allocator_purge(void) {
    char name[32];
    snprintf(name, sizeof(name), "arena.%u.purge", (unsigned)MALLCTL_ARENAS_ALL);
    return mallctl(name, NULL, NULL, NULL, 0) == 0;
}

/* How wide a number is it does not tell: from the widest down, until one fits. */
bool allocator_control(const char *name, bool sets, int64_t *value) {
    for (size_t width = sizeof(*value); width > 0; width /= 2) {
        int64_t before = 0, wanted = *value;
        size_t size = width;
        int error = mallctl(name, &before, &size, sets ? &wanted : NULL, sets ? width : 0);
        if (error == EINVAL) continue;
        if (error == EPERM && sets) return mallctl(name, NULL, NULL, &wanted, width) == 0; /* it can only be set */
        *value = before;
        return error == 0;
    }
    return false;
}

bool allocator_control_text(const char *name, const char **text) {
    const char *before = NULL, *wanted = *text;
    size_t size = sizeof(before);
    *text = NULL;
    if (wanted && !wanted[0]) return mallctl(name, NULL, NULL, NULL, 0) == 0;
    int error = mallctl(name, &before, &size, wanted ? &wanted : NULL, wanted ? sizeof(wanted) : 0);
    if (error == EPERM && wanted) return mallctl(name, NULL, NULL, &wanted, sizeof(wanted)) == 0;
    if (error == 0 && size == sizeof(before)) *text = before;
    return error == 0;
}

#define TEXT_OF(x)          #x
#define VERSION_OF(a, b, c) "jemalloc-" TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)

const char *allocator_name(void) {
    return VERSION_OF(JEMALLOC_VERSION_MAJOR, JEMALLOC_VERSION_MINOR, JEMALLOC_VERSION_BUGFIX);
}

void allocator_report(void (*write)(void *ctx, const char *piece), void *ctx) {
    malloc_stats_print(write, ctx, NULL);
}

#endif
