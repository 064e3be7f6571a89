#include "tests/support/failing_io.h"

#include <errno.h>

static bool fails(struct failing_io *failing) {
    if (++failing->calls != failing->fail_at) return false;
    errno = failing->error;
    return true;
}

static int failing_open(void *ctx, const char *path, int flags, mode_t mode) {
    return fails(ctx) ? -1 : file_io_system.open(NULL, path, flags, mode);
}

/* The descriptor is gone all the same, as with the system's. */
static int failing_close(void *ctx, int fd) {
    int closed = file_io_system.close(NULL, fd);
    return fails(ctx) ? -1 : closed;
}

static ssize_t failing_write(void *ctx, int fd, const void *bytes, size_t length) {
    size_t most = ((struct failing_io *)ctx)->write_bytes_max;
    return fails(ctx) ? -1 : file_io_system.write(NULL, fd, bytes, most && length > most ? most : length);
}

static int failing_sync(void *ctx, int fd) {
    return fails(ctx) ? -1 : file_io_system.sync(NULL, fd);
}

static int failing_rename(void *ctx, const char *from, const char *to) {
    return fails(ctx) ? -1 : file_io_system.rename(NULL, from, to);
}

static int failing_make_directory(void *ctx, const char *path, mode_t mode) {
    return fails(ctx) ? -1 : file_io_system.make_directory(NULL, path, mode);
}

void failing_io_init(struct failing_io *failing, int error) {
    *failing = (struct failing_io){.io = file_io_system, .error = error};
    failing->io.ctx = failing;
    failing->io.open = failing_open;
    failing->io.close = failing_close;
    failing->io.write = failing_write;
    failing->io.sync = failing_sync;
    failing->io.rename = failing_rename;
    failing->io.make_directory = failing_make_directory;
}

void failing_io_restart(struct failing_io *failing, unsigned fail_at) {
    failing->fail_at = fail_at;
    failing->calls = 0;
}
