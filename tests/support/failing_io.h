#ifndef TERRACE_TESTS_SUPPORT_FAILING_IO_H
#define TERRACE_TESTS_SUPPORT_FAILING_IO_H

/* The system's files, but for one operation that fails: every open, close, write, sync, rename and making of a
 * directory is counted, and a test has each of them fail in turn.
 *
 *   struct failing_io failing;
 *   failing_io_init(&failing, ENOSPC);
 *   for (unsigned at = 1;; at++) {
 *       failing_io_restart(&failing, at);
 *       ... something with &failing.io ...
 *       if (!failing_io_failed(&failing)) break;       it has fewer operations
 *   }
 *
 * What removes files never fails, so that whoever cleans up behind a failure can. One thread. */

#include "persist/file_io.h"

struct failing_io {
    struct file_io io;      /* for what is tested; stays where it is */
    unsigned fail_at;       /* the first operation is 1; 0: none fails */
    unsigned calls;         /* since the restart */
    int error;              /* errno of the failure */
    size_t write_bytes_max; /* of one call: longer writes are short; 0: they are not */
};

void failing_io_init(struct failing_io *failing, int error);
void failing_io_restart(struct failing_io *failing, unsigned fail_at);
static inline bool failing_io_failed(const struct failing_io *failing) {
    return failing->fail_at && failing->calls >= failing->fail_at;
}

#endif
