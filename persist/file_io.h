#ifndef TERRACE_PERSIST_FILE_IO_H
#define TERRACE_PERSIST_FILE_IO_H

/* What persistence asks of the file system when it writes: a table of functions, so that a test can make any of them
 * fail, come up short or forget what was not synced. The system's own is file_io_system.
 *
 * Functions are those of POSIX: -1 and errno on failure, a write may be short. They may be called from any thread; what
 * stands behind a test's table has to be ready for that. */

#include "base/span.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/types.h>

struct file_io {
    void *ctx;
    int (*open)(void *ctx, const char *path, int flags, mode_t mode);
    int (*close)(void *ctx, int fd);
    ssize_t (*write)(void *ctx, int fd, const void *bytes, size_t length);
    int (*sync)(void *ctx, int fd); /* data, and what is needed to find it: fdatasync; of a directory: fsync */
    int (*truncate)(void *ctx, int fd, int64_t length);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*make_directory)(void *ctx, const char *path, mode_t mode);
};

extern const struct file_io file_io_system;

/* Writes all of it, going on after short writes and signals. Returns how many bytes were written: less than `length`
 * only on an error, with errno. */
size_t file_io_write_all(const struct file_io *io, int fd, const void *bytes, size_t length)
    __attribute__((warn_unused_result));

/* Makes what was created, renamed or removed in the directory durable. False: errno. */
bool file_io_sync_directory(const struct file_io *io, const char *directory) __attribute__((warn_unused_result));

/* Makes directory/name hold exactly `content`, or leaves it as it was: temporary file (directory/temporary), sync,
 * rename, sync of the directory. False: errno; the temporary file is removed. After a failed sync of the directory the
 * new content is in place, but may be gone after a power failure. */
bool file_io_replace(const struct file_io *io, const char *directory, const char *temporary, const char *name,
                     struct span content) __attribute__((warn_unused_result));

#endif
