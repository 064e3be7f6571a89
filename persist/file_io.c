/* The system's own files, and the few sequences that everybody who writes durably needs.
 *
 * A file is replaced in four steps. What a start finds if the power fails behind each of them:
 *
 *   1. write the temporary file       the old file, and a temporary one that nobody reads
 *   2. sync the temporary file        the same
 *   3. rename it over the old one     the old or the new file, whole
 *   4. sync the directory             the new file */

#include "persist/file_io.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int system_open(void *ctx, const char *path, int flags, mode_t mode) {
    (void)ctx;
    return open(path, flags | O_CLOEXEC, mode);
}

static int system_close(void *ctx, int fd) {
    (void)ctx;
    return close(fd);
}

static ssize_t system_write(void *ctx, int fd, const void *bytes, size_t length) {
    (void)ctx;
    return write(fd, bytes, length);
}

static int system_sync(void *ctx, int fd) {
    (void)ctx;
    return fdatasync(fd);
}

static int system_truncate(void *ctx, int fd, int64_t length) {
    (void)ctx;
    return ftruncate(fd, length);
}

static int system_rename(void *ctx, const char *from, const char *to) {
    (void)ctx;
    return rename(from, to);
}

static int system_unlink(void *ctx, const char *path) {
    (void)ctx;
    return unlink(path);
}

static int system_make_directory(void *ctx, const char *path, mode_t mode) {
    (void)ctx;
    return mkdir(path, mode);
}

const struct file_io file_io_system = {
    .open = system_open,
    .close = system_close,
    .write = system_write,
    .sync = system_sync,
    .truncate = system_truncate,
    .rename = system_rename,
    .unlink = system_unlink,
    .make_directory = system_make_directory,
};

size_t file_io_write_all(const struct file_io *io, int fd, const void *bytes, size_t length) {
    size_t done = 0;
    while (done < length) {
        ssize_t written = io->write(io->ctx, fd, (const char *)bytes + done, length - done);
        if (written < 0 && errno == EINTR) continue;
        if (written == 0) errno = EIO;
        if (written <= 0) break;
        done += (size_t)written;
    }
    return done;
}

bool file_io_sync_directory(const struct file_io *io, const char *directory) {
    int fd = io->open(io->ctx, directory, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return false;
    bool synced = io->sync(io->ctx, fd) == 0;
    int error = errno;
    io->close(io->ctx, fd);
    errno = error;
    return synced;
}

static bool write_file(const struct file_io *io, const char *path, struct span content) {
    int fd = io->open(io->ctx, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return false;
    bool written =
        file_io_write_all(io, fd, content.data, content.length) == content.length && io->sync(io->ctx, fd) == 0;
    int error = errno;
    if (io->close(io->ctx, fd) != 0 && written) return false;
    errno = error;
    return written;
}

bool file_io_replace(const struct file_io *io, const char *directory, const char *temporary, const char *name,
                     struct span content) {
    char from[PATH_MAX], to[PATH_MAX];
    if ((size_t)snprintf(from, sizeof(from), "%s/%s", directory, temporary) >= sizeof(from) ||
        (size_t)snprintf(to, sizeof(to), "%s/%s", directory, name) >= sizeof(to)) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (!write_file(io, from, content) || io->rename(io->ctx, from, to) != 0) {
        int error = errno;
        io->unlink(io->ctx, from);
        errno = error;
        return false;
    }
    return file_io_sync_directory(io, directory);
}
