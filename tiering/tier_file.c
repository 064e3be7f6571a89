/* Opening the tier's file.
 *
 *   1. stat: whatever is not a regular file or a block device is refused before it is opened, for opening can do things
 *   2. open, or make with mode 0600; then the lock, on the open file, so that it goes with the process however that
 * ends
 *   3. the same file still under that name? A server that ended may have removed it just before we got its lock
 *   4. is it ours, by its contents: asked of the caller, while nothing about the file has changed
 *   5. does the size fit: the file is grown to it, which costs no space
 *   6. mapped (tmpfs, DAX), or O_DIRECT, if a read and a write of the first page get through, or cached
 *   7. only now is anything cut off that a larger tier has left behind
 *
 * Whatever fails before 7 is undone: a file that was there gets its length back, one that was made is removed.
 *
 * The lock is one of the open file (F_OFD_SETLK), not of the process, which would lose it as soon as any descriptor of
 * the file is closed. It goes when the last reference to the open file goes, and an io_uring of a killed server may
 * hold one for a moment longer; so the lock is tried for LOCK_TRIES pauses before another server is blamed. For the
 * same reason closing unlocks explicitly. */

#include "tiering/tier_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum {
    OPEN_TRIES = 10, /* the file was removed, or appeared, under our hands: a server that restarts in a loop */
    LOCK_TRIES = 50,
    LOCK_PAUSE_NS = 10 * 1000 * 1000,
    PAGE_BYTES = 4096,
    INTERRUPTIONS_MAX = 1000, /* of one reservation, by signals */
};

struct inside {
    pthread_mutex_t lock; /* guards reserved_bytes and can_reserve */
    char *path;           /* absolute: the working directory may change */
    size_t segment_bytes;
    bool block_device;
    bool can_reserve;
};

/* What opening knows along the way. */
struct opening {
    struct tier_file_options *options;
    char *error;
    size_t error_bytes;
    int fd;
    bool made; /* by us */
    bool block_device;
    off_t was_bytes; /* -1: not known yet */
};

enum outcome { DONE, AGAIN, FAILED };

/* "tier-path NAME: TEXT". Returns false, for the caller to return. */
static bool complain(const struct opening *opening, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool complain(const struct opening *opening, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    snprintf(opening->error, opening->error_bytes, "tier-path '%.200s': %s", opening->options->path, text);
    return false;
}

/* ---- open and lock ---- */

static bool kind_is_allowed(struct opening *opening, const struct stat *status) {
    opening->block_device = S_ISBLK(status->st_mode);
    if (S_ISREG(status->st_mode) || opening->block_device) return true;
    return complain(opening, "%s; name a file, which is made where there is none",
                    S_ISDIR(status->st_mode) ? "is a directory" : "is neither a regular file nor a block device");
}

static bool complain_of_opening(const struct opening *opening) {
    if (errno == ENOENT) return complain(opening, "the directory it should be in does not exist; make it first");
    if (opening->block_device && errno == EBUSY)
        return complain(opening, "the block device is mounted, or in use by another server");
    return complain(opening, "cannot be opened for reading and writing: %s", strerror(errno));
}

static void pause_for_lock(void) {
    (void)nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
}

/* O_EXCL: not one that is mounted. It is a lock too, and lingers as the other does. */
static int open_device(const char *path) {
    int fd;
    for (unsigned tries = 0; (fd = open(path, O_RDWR | O_CLOEXEC | O_EXCL)) < 0; tries++) {
        if (errno != EBUSY || tries >= LOCK_TRIES) return -1;
        pause_for_lock();
    }
    return fd;
}

static enum outcome open_once(struct opening *opening) {
    struct stat status;
    const char *path = opening->options->path;
    if (stat(path, &status) == 0) {
        if (!kind_is_allowed(opening, &status)) return FAILED;
        opening->fd = opening->block_device ? open_device(path) : open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
        if (opening->fd < 0 && errno == ENOENT) return AGAIN;
    } else {
        opening->fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
        if (opening->fd < 0 && errno == EEXIST) return AGAIN;
        opening->made = opening->fd >= 0;
    }
    if (opening->fd < 0) {
        complain_of_opening(opening);
        return FAILED;
    }
    if (fstat(opening->fd, &status) == 0) return kind_is_allowed(opening, &status) ? DONE : FAILED;
    complain_of_opening(opening);
    return FAILED;
}

static bool lock(const struct opening *opening) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    for (unsigned tries = 0; fcntl(opening->fd, F_OFD_SETLK, &whole) != 0; tries++) {
        if (errno == EINTR && tries < LOCK_TRIES) continue;
        if (errno != EAGAIN && errno != EACCES) {
            complain(opening, "cannot be locked: %s", strerror(errno));
            if (opening->made) (void)unlink(opening->options->path);
            return false;
        }
        if (tries >= LOCK_TRIES) return complain(opening, "in use by another server; give each server its own file");
        pause_for_lock();
    }
    return true;
}

static bool still_has_its_name(int fd, const char *path) {
    struct stat ours, named;
    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

/* On false nothing is open. */
static bool open_and_lock(struct opening *opening) {
    for (unsigned tries = 0; tries < OPEN_TRIES; tries++) {
        enum outcome outcome = open_once(opening);
        if (outcome == AGAIN) continue;
        bool locked = outcome == DONE && lock(opening);
        if (locked && still_has_its_name(opening->fd, opening->options->path)) return true;
        /* One that we made is left: another server has locked it meanwhile. */
        if (opening->fd >= 0) close(opening->fd);
        opening->fd = -1;
        opening->made = false;
        if (!locked) return false;
    }
    return complain(opening, "is a link to nothing, or made and removed all the time; name a file of this server only");
}

/* ---- size ---- */

static bool check_file_system(const struct opening *opening) {
    struct statfs system;
    if (fstatfs(opening->fd, &system) != 0 || system.f_type != HUGETLBFS_MAGIC) return true;
    return complain(opening, "hugetlbfs takes no write(); use a tmpfs mounted with huge=always");
}

static bool judge(struct opening *opening) {
    struct tier_file_options *options = opening->options;
    char text[400] = "";
    opening->was_bytes = lseek(opening->fd, 0, SEEK_END);
    if (opening->was_bytes < 0) return complain(opening, "its size cannot be found out: %s", strerror(errno));
    if (!options->judge ||
        options->judge(options->ctx, options, opening->fd, (uint64_t)opening->was_bytes, text, sizeof(text)))
        return true;
    return complain(opening, "%s", text);
}

static bool check_size(struct opening *opening) {
    uint64_t size = opening->options->size_bytes;
    if (opening->block_device) {
        if ((uint64_t)opening->was_bytes >= size) return true;
        return complain(opening, "the device has %lld bytes, fewer than tier-size", (long long)opening->was_bytes);
    }
    /* Asked first, for trying would be answered with a signal. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur)
        return complain(opening, "tier-size is above this process's limit of file sizes, %llu bytes (ulimit -f)",
                        (unsigned long long)limit.rlim_cur);
    if ((uint64_t)opening->was_bytes >= size || ftruncate(opening->fd, (off_t)size) == 0) return true;
    if (errno == EFBIG || errno == EINVAL)
        return complain(opening, "its file system has no files as large as tier-size, %llu bytes",
                        (unsigned long long)size);
    return complain(opening, "cannot be made as large as tier-size: %s", strerror(errno));
}

/* ---- how it is read ---- */

static bool is_dax(int fd) {
#ifdef STATX_ATTR_DAX
    struct statx status;
    return statx(fd, "", AT_EMPTY_PATH, 0, &status) == 0 && (status.stx_attributes & STATX_ATTR_DAX);
#else
    (void)fd;
    return false;
#endif
}

static bool is_direct_when_mapped(const struct opening *opening) {
    struct statfs system;
    if (opening->block_device || fstatfs(opening->fd, &system) != 0) return false;
    return system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC || is_dax(opening->fd);
}

static bool map(struct tier_file *file, const struct opening *opening) {
    void *mapped = mmap(NULL, opening->options->size_bytes, PROT_READ, MAP_SHARED, opening->fd, 0);
    if (mapped == MAP_FAILED) return complain(opening, "cannot be mapped: %s", strerror(errno));
    /* Records lie at random: reading ahead would only fill the resident set. */
    (void)madvise(mapped, opening->options->size_bytes, MADV_RANDOM);
    file->mapped = mapped;
    return true;
}

/* Whether a page can be read and, unchanged, written. A device that is full or broken is met elsewhere. */
static bool direct_transfers_work(int fd) {
    void *page = aligned_alloc(PAGE_BYTES, PAGE_BYTES);
    if (!page) return false;
    memset(page, 0, PAGE_BYTES);
    bool work = true;
    ssize_t bytes = pread(fd, page, PAGE_BYTES, 0);
    if (bytes < 0)
        work = errno != EINVAL && errno != EOPNOTSUPP;
    else if (pwrite(fd, page, PAGE_BYTES, 0) < 0)
        work = errno != EINVAL && errno != EOPNOTSUPP;
    free(page);
    return work;
}

/* The flag is set on the open file, because opening it again would lose the lock. */
static bool make_direct(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return false;
    if (direct_transfers_work(fd)) return true;
    (void)fcntl(fd, F_SETFL, flags);
    return false;
}

static bool choose_way(struct tier_file *file, const struct opening *opening) {
    if (is_direct_when_mapped(opening)) return map(file, opening);
    file->direct = opening->options->direct != TIER_DIRECT_NO && make_direct(opening->fd);
    file->cached = !file->direct;
    if (!file->direct && opening->options->direct == TIER_DIRECT_YES)
        return complain(opening, "its file system refuses direct I/O; set tier-direct-io to auto or no");
    return true;
}

/* ---- open and close ---- */

static void undo(struct tier_file *file, const struct opening *opening) {
    if (file->mapped) munmap((void *)(uintptr_t)file->mapped, opening->options->size_bytes);
    if (opening->made)
        (void)unlink(opening->options->path);
    else if (!opening->block_device && opening->was_bytes >= 0)
        (void)!ftruncate(opening->fd, opening->was_bytes);
    close(opening->fd);
    *file = (struct tier_file){.fd = -1};
}

static bool make_inside(struct tier_file *file, const struct opening *opening) {
    struct inside *inside = calloc(1, sizeof(*inside));
    char *path = realpath(opening->options->path, NULL);
    if (!inside || !path) {
        free(inside);
        free(path);
        return complain(opening, "%s", strerror(errno));
    }
    pthread_mutex_init(&inside->lock, NULL);
    inside->path = path;
    inside->segment_bytes = opening->options->segment_bytes;
    inside->block_device = opening->block_device;
    inside->can_reserve = !opening->block_device;
    file->inside = inside;
    return true;
}

bool tier_file_open(struct tier_file *file, const struct tier_file_options *options, char *error, size_t error_bytes) {
    assert(options->segment_bytes > 0 && options->size_bytes > 0);
    struct tier_file_options judged = *options;
    struct opening opening = {
        .options = &judged, .error = error, .error_bytes = error_bytes, .fd = -1, .was_bytes = -1};
    *file = (struct tier_file){.fd = -1};
    if (error_bytes > 0) error[0] = '\0';
    if (!open_and_lock(&opening)) return false;
    if (!check_file_system(&opening) || !judge(&opening) || !check_size(&opening) || !choose_way(file, &opening) ||
        !make_inside(file, &opening)) {
        undo(file, &opening);
        return false;
    }
    file->fd = opening.fd;
    file->made = opening.made;
    file->block_device = opening.block_device;
    file->size_bytes = judged.size_bytes;
    /* A mapping needs its whole length; elsewhere the file grows with what is reserved. */
    off_t size = (off_t)judged.size_bytes;
    off_t wanted = file->mapped || opening.was_bytes > size ? size : opening.was_bytes;
    /* Where it fails the file is larger than it has to be. */
    if (!opening.block_device) (void)!ftruncate(file->fd, wanted);
    return true;
}

void tier_file_close(struct tier_file *file, bool remove) {
    struct inside *inside = file->inside;
    if (!inside) return;
    if (file->mapped) munmap((void *)(uintptr_t)file->mapped, file->size_bytes);
    /* Removed while it is locked: nobody who waits for the lock mistakes the removed file for the one of that name. */
    if (remove && !inside->block_device && still_has_its_name(file->fd, inside->path)) (void)unlink(inside->path);
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    (void)fcntl(file->fd, F_OFD_SETLK, &whole);
    close(file->fd);
    pthread_mutex_destroy(&inside->lock);
    free(inside->path);
    free(inside);
    *file = (struct tier_file){.fd = -1};
}

/* ---- space ---- */

static bool reserve(const struct tier_file *file, struct inside *inside, uint64_t end) {
    off_t from = (off_t)file->reserved_bytes, bytes = (off_t)(end - file->reserved_bytes);
    for (unsigned tries = 0; fallocate(file->fd, 0, from, bytes) != 0; tries++) {
        if (errno == EINTR && tries < INTERRUPTIONS_MAX) continue;
        if (errno != EOPNOTSUPP && errno != ENOSYS) return false;
        inside->can_reserve = false;
        return true;
    }
    return true;
}

bool tier_file_extend(struct tier_file *file, uint64_t size_bytes) {
    struct inside *inside = file->inside;
    struct rlimit limit;
    errno = ENOTSUP;
    if (file->pmem || file->mapped || file->block_device) return false;
    errno = EFBIG;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size_bytes > limit.rlim_cur)
        return false;
    pthread_mutex_lock(&inside->lock);
    if (size_bytes > file->size_bytes) file->size_bytes = size_bytes;
    pthread_mutex_unlock(&inside->lock);
    return true;
}

bool tier_file_reserve(struct tier_file *file, uint64_t offset) {
    struct inside *inside = file->inside;
    if (offset > file->size_bytes) {
        errno = EFBIG;
        return false;
    }
    uint64_t header = file->size_bytes % inside->segment_bytes;
    uint64_t segments = offset > header ? (offset - header + inside->segment_bytes - 1) / inside->segment_bytes : 0;
    uint64_t end = header + segments * inside->segment_bytes;
    pthread_mutex_lock(&inside->lock);
    bool done = end <= file->reserved_bytes || !inside->can_reserve || reserve(file, inside, end);
    int error = errno;
    if (done && end > file->reserved_bytes) file->reserved_bytes = end;
    pthread_mutex_unlock(&inside->lock);
    errno = error;
    return done;
}

void tier_file_forget_mapped(struct tier_file *file) {
    if (file->mapped) (void)madvise((void *)(uintptr_t)file->mapped, file->size_bytes, MADV_DONTNEED);
}
