#ifndef TERRACE_PMEM_MEDIA_H
#define TERRACE_PMEM_MEDIA_H

/* Copies that survive a medium that fails under them. What cannot be read (or, on a file that was cut off, written) is
 * told by the processor as it is touched: SIGBUS. Between memory and segments everything goes through these, and so do
 * appends to the journal.
 *
 * Threads: any, once pmem_media_watch() has been called. */

#include "pmem/area.h"

#include <stdbool.h>

/* Takes SIGBUS over: what does not concern a copy goes to whoever had it. Nothing happens where that is so already. */
void pmem_media_watch(void);

/* False: the medium failed; what `into` holds is of no use. */
bool pmem_media_read(const struct pmem_area *area, uint64_t offset, void *into, size_t bytes)
    __attribute__((warn_unused_result));
/* As pmem_area_copy(). False: it failed, and part of it may be written. */
bool pmem_media_write(const struct pmem_area *area, uint64_t offset, const void *from, size_t bytes)
    __attribute__((warn_unused_result));
/* Calls `touch`, which may read and write the stretch, and takes or allocates nothing that it would have to give back.
 * False: the medium failed, and `touch` was left where that happened. */
bool pmem_media_touch(const struct pmem_area *area, uint64_t offset, size_t bytes, void (*touch)(void *ctx), void *ctx)
    __attribute__((warn_unused_result));

/* What a failure outside of those means, which nobody can go on from: the process says where it was, in one line, and
 * ends with exit code 1. `what` ("its root") is of a pool's memory from here on, until it is given as NULL. */
void pmem_media_name(const void *memory, uint64_t bytes, const char *what);
/* Likewise whatever fails on this thread, of memory that nobody has named, while this is `on`. */
void pmem_media_opening(bool on);

#endif
