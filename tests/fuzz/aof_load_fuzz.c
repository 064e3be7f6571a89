/* Any bytes as an append-only file: refused, or loaded; and what was loaded is what a second start loads, torn end or
 * not. What is given out are words within bounds, of commands that stand in the file. */

#include "persist/aof_load.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t commands, sum;
};

static bool apply(void *ctx, struct aof_command *commands, unsigned count, const char **refusal) {
    struct seen *seen = ctx;
    (void)refusal;
    assert(count > 0 && count <= AOF_LOAD_BATCH);
    for (unsigned i = 0; i < count; i++) {
        assert(commands[i].argc > 0);
        for (uint32_t word = 0; word < commands[i].argc; word++)
            for (size_t at = 0; at < commands[i].argv[word].length; at++)
                seen->sum = seen->sum * 31 + (unsigned char)commands[i].argv[word].data[at];
        seen->commands++;
    }
    return true;
}

static int forget_sync(void *ctx, int fd) {
    (void)ctx;
    (void)fd;
    return 0;
}

static enum aof_load_status load(const char *path, bool truncate, struct seen *seen, struct aof_load_result *result) {
    struct file_io io = file_io_system;
    io.sync = forget_sync;
    *seen = (struct seen){0};
    struct aof_load_options options = {.truncate = truncate, .io = &io, .apply = apply, .ctx = seen};
    enum aof_load_status status = aof_load_file(path, &options, result);
    assert(status == result->status);
    assert(status == AOF_LOAD_DONE || result->reason[0] != '\0');
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("aof", MFD_CLOEXEC);
        assert(fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    struct seen strict, first, second;
    struct aof_load_result result;
    int emptied = ftruncate(fd, 0);
    assert(emptied == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    enum aof_load_status status = load(path, false, &strict, &result);
    assert(lseek(fd, 0, SEEK_END) == (off_t)size);
    enum aof_load_status cut = load(path, true, &first, &result);
    if (status != AOF_LOAD_TORN) assert(cut == status);
    if (cut != AOF_LOAD_DONE) return 0;
    assert(lseek(fd, 0, SEEK_END) == (off_t)(size - result.torn_bytes));
    cut = load(path, false, &second, &result);
    assert(cut == AOF_LOAD_DONE && result.torn_bytes == 0);
    /* A file that is cut to nothing is not even selected in. */
    assert(second.sum == first.sum || lseek(fd, 0, SEEK_END) == 0);
    return 0;
}
