#ifndef TERRACE_TESTS_CRASH_PMEM_SHADOW_H
#define TERRACE_TESTS_CRASH_PMEM_SHADOW_H

/* What a power cut would leave of a pool, found by standing between libpmemobj and libpmem.
 *
 * The nine functions that libpmemobj takes from libpmem are here, and munmap(). They keep an image of the pool of what
 * is durable:
 *
 *   flush     the lines as they are now wait, for this thread
 *   drain     what waits for this thread goes to the image
 *   memcpy .. copies, and flushes and drains as its flags say
 *
 * The file itself has what was stored, flushed or not. A state is made line by line: from the image, from what waits,
 * or from the file, by chance; every state could be what a power cut at this moment leaves. The check is called with it
 * before the flush or drain goes on.
 *
 * A line that is never flushed stays different in the image, so a missing flush is found; what becomes durable in the
 * wrong order is found as well.
 *
 * Linked into a program. Threads: any; one state at a time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pmem_shadow_options {
    const char *path;  /* the pool's file begins with this name */
    const char *state; /* the file that a state is written to; its folder has room for a pool */
    uint64_t seed;
    unsigned per_mille; /* of flushes and drains at which a state is made */
    /* `suffix`: what follows `path` in the name that the file has just now. False: no more states. */
    bool (*check)(void *ctx, const char *suffix);
    void *ctx;
};

/* The pool's file need not be there yet. */
void pmem_shadow_begin(const struct pmem_shadow_options *options);
void pmem_shadow_end(void);

/* For planted bugs: the n-th flush from now on is forgotten; 0: none. */
void pmem_shadow_forget_flush(uint64_t n);
/* Likewise the n-th drain: what was flushed before it waits for the next one. */
void pmem_shadow_forget_drain(uint64_t n);

struct pmem_shadow_figures {
    uint64_t flushes, drains, states, flushed_bytes;
};
struct pmem_shadow_figures pmem_shadow_figures(void);

#endif
