/* A library to be preloaded into a server: makes its file operations fail, and remembers how to undo what a power cut
 * would have undone.
 *
 * Only what happens to files in the directory IO_SHIM_UNDER is looked at. What it does is said by further variables:
 *
 *   IO_SHIM_COUNTS=file   eight counters of 64 bits, mapped and shared: operations so far, by kind (enum kind)
 *   IO_SHIM_FAIL=kind:n:errno[:for ever]
 *                         the n-th operation of that kind (1 is the first) fails with that error; with a fourth field
 *                         all later ones of the kind fail too. A write that fails with ENOSPC writes its first half.
 *   IO_SHIM_SYNC_MS=n     each sync takes so much longer: a slow disk
 *   IO_SHIM_UNDO=dir      every change is first noted in dir/log with what it overwrites; files that are removed or
 *                         replaced stay in that directory under other names. power_cut.py reads it.
 *
 * The log, one entry after the other, numbers in decimal:
 *
 *   W inode offset length size-before old-bytes\n<old bytes>    a write
 *   T inode offset length size-before old-bytes\n<old bytes>    the file was cut, or made longer; length is the new
 * size S inode\n                                                   its bytes are durable D path\n the directory is
 * durable C inode path\n                                              created R inode path new-path backup-or-dash\n
 * renamed U inode path backup\n                                       removed
 *
 * A lock makes log and operation one step. Paths must not hold blanks.
 *
 * What goes through io_uring would pass by unseen: there is none for who is watched, who then has threads call pread()
 * and pwrite(). */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { KIND_WRITE, KIND_SYNC, KIND_RENAME, KIND_OPEN, KIND_CUT, KIND_UNLINK, KIND_CLOSE, KINDS };
static const char *const kind_names[KINDS] = {"write", "sync", "rename", "open", "cut", "unlink", "close"};

static struct {
    char under[PATH_MAX], undo[PATH_MAX];
    int log_fd;
    _Atomic uint64_t *counts;
    int fail_kind;
    uint64_t fail_at;
    int fail_error;
    bool fail_for_ever;
    unsigned backups, sync_ms;
    pthread_mutex_t lock;
} shim = {.log_fd = -1, .fail_kind = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

#define REAL(name)                                                                                                     \
    static __typeof__(name) *real;                                                                                     \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* ---- set-up ---- */

static void read_failure(const char *text) {
    char name[16] = "", for_ever[16] = "";
    unsigned long long at;
    int error;
    if (sscanf(text, "%15[a-z]:%llu:%d:%15s", name, &at, &error, for_ever) < 3) abort();
    for (int kind = 0; kind < KINDS; kind++)
        if (strcmp(name, kind_names[kind]) == 0) shim.fail_kind = kind;
    if (shim.fail_kind < 0) abort();
    shim.fail_at = at;
    shim.fail_error = error;
    shim.fail_for_ever = for_ever[0] != '\0';
}

__attribute__((constructor)) static void begin(void) {
    static _Atomic uint64_t own_counts[KINDS];
    const char *under = getenv("IO_SHIM_UNDER"), *undo = getenv("IO_SHIM_UNDO"), *counts = getenv("IO_SHIM_COUNTS");
    shim.counts = own_counts;
    if (!under || !realpath(under, shim.under)) return;
    if (counts) {
        int fd = open(counts, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, 4096) != 0) abort();
        void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) abort();
        shim.counts = map;
        close(fd);
    }
    if (getenv("IO_SHIM_SYNC_MS")) shim.sync_ms = (unsigned)atoi(getenv("IO_SHIM_SYNC_MS"));
    if (getenv("IO_SHIM_FAIL")) read_failure(getenv("IO_SHIM_FAIL"));
    if (!undo) return;
    char path[PATH_MAX + 8];
    if (!realpath(undo, shim.undo)) abort();
    snprintf(path, sizeof(path), "%s/log", shim.undo);
    shim.log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (shim.log_fd < 0) abort();
}

/* ---- what is looked at ---- */

static bool is_under(const char *path) {
    size_t length = strlen(shim.under);
    return length && strncmp(path, shim.under, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* The absolute path of something in `dir_fd`, whose last part need not exist. */
static bool absolute(int dir_fd, const char *path, char full[PATH_MAX]) {
    char base[PATH_MAX] = "";
    char link[64];
    if (path[0] == '/') return snprintf(full, PATH_MAX, "%s", path) < PATH_MAX;
    if (dir_fd == AT_FDCWD) {
        if (!getcwd(base, sizeof(base))) return false;
    } else {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
        ssize_t length = readlink(link, base, sizeof(base) - 1);
        if (length < 0) return false;
        base[length] = '\0';
    }
    return (size_t)snprintf(full, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

static bool path_of_fd(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return false;
    path[length] = '\0';
    return is_under(path);
}

static bool is_watched(int fd, struct stat *file) {
    char path[PATH_MAX];
    if (!shim.under[0] || fd == shim.log_fd || !path_of_fd(fd, path)) return false;
    return fstat(fd, file) == 0 && (S_ISREG(file->st_mode) || S_ISDIR(file->st_mode));
}

/* Counts the operation; whether it has to fail (errno is set). */
static bool fails(enum kind kind) {
    uint64_t number = atomic_fetch_add(&shim.counts[kind], 1) + 1;
    if (shim.fail_kind != (int)kind || number < shim.fail_at) return false;
    if (number > shim.fail_at && !shim.fail_for_ever) return false;
    errno = shim.fail_error;
    return true;
}

/* ---- the log ---- */

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    REAL(write);
    while (length) {
        ssize_t written = real(shim.log_fd, at, length);
        if (written <= 0) abort();
        at += written;
        length -= (size_t)written;
    }
}

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
    char line[3 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    put(line, (size_t)length);
}

/* What stands at these bytes of the file, which are going to be overwritten or cut off. */
static void note_change(char type, int fd, const struct stat *file, off_t offset, off_t length, off_t end) {
    off_t old = file->st_size > offset ? (file->st_size < end ? file->st_size : end) - offset : 0;
    char *bytes = old > 0 ? malloc((size_t)old) : NULL;
    char self[64];
    if (old > 0) {
        /* The file may be open for writing only. */
        snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
        REAL(openat);
        int again = real(AT_FDCWD, self, O_RDONLY | O_CLOEXEC);
        if (again < 0 || pread(again, bytes, (size_t)old, offset) != old) abort();
        close(again);
    }
    note("%c %llu %lld %lld %lld %lld\n", type, (unsigned long long)file->st_ino, (long long)offset, (long long)length,
         (long long)file->st_size, (long long)old);
    if (old > 0) put(bytes, (size_t)old);
    free(bytes);
}

static bool keeps_log(void) {
    return shim.log_fd >= 0;
}

static void lock(void) {
    if (keeps_log()) pthread_mutex_lock(&shim.lock);
}

static void unlock(void) {
    int error = errno;
    if (keeps_log()) pthread_mutex_unlock(&shim.lock);
    errno = error;
}

/* Keeps a file that is about to lose its name; the name it is kept under. */
static void keep(const char *path, char backup[PATH_MAX]) {
    snprintf(backup, PATH_MAX, "%.4000s/kept-%u", shim.undo, shim.backups++);
    if (link(path, backup) != 0) abort();
}

/* ---- writing ---- */

static off_t where(int fd, const struct stat *file) {
    return fcntl(fd, F_GETFL) & O_APPEND ? file->st_size : lseek(fd, 0, SEEK_CUR);
}

static ssize_t failed_write(int fd, const void *bytes, size_t length, off_t offset) {
    int error = errno;
    ssize_t half = -1;
    if (error == ENOSPC && length > 1) {
        REAL(pwrite);
        half = real(fd, bytes, length / 2, offset);
        if (half > 0) return half; /* the next one, which has no room at all, is told so */
    }
    errno = error;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct stat file;
    REAL(write);
    if (!is_watched(fd, &file)) return real(fd, bytes, length);
    lock();
    (void)fstat(fd, &file);
    off_t offset = where(fd, &file);
    if (keeps_log()) note_change('W', fd, &file, offset, (off_t)length, offset + (off_t)length);
    bool fail = fails(KIND_WRITE);
    ssize_t done = fail ? failed_write(fd, bytes, length, offset) : real(fd, bytes, length);
    if (fail && done > 0 && !(fcntl(fd, F_GETFL) & O_APPEND)) lseek(fd, done, SEEK_CUR);
    unlock();
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    struct stat file;
    REAL(pwrite);
    if (!is_watched(fd, &file)) return real(fd, bytes, length, offset);
    lock();
    (void)fstat(fd, &file);
    if (keeps_log()) note_change('W', fd, &file, offset, (off_t)length, offset + (off_t)length);
    ssize_t done = fails(KIND_WRITE) ? failed_write(fd, bytes, length, offset) : real(fd, bytes, length, offset);
    unlock();
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite(fd, bytes, length, offset);
}

static off_t total_of(const struct iovec *pieces, int count) {
    off_t total = 0;
    for (int i = 0; i < count; i++) total += (off_t)pieces[i].iov_len;
    return total;
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    struct stat file;
    REAL(writev);
    if (!is_watched(fd, &file)) return real(fd, pieces, count);
    lock();
    (void)fstat(fd, &file);
    off_t offset = where(fd, &file), total = total_of(pieces, count);
    if (keeps_log()) note_change('W', fd, &file, offset, total, offset + total);
    ssize_t done = fails(KIND_WRITE) ? -1 : real(fd, pieces, count);
    unlock();
    return done;
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset) {
    struct stat file;
    REAL(pwritev);
    if (!is_watched(fd, &file)) return real(fd, pieces, count, offset);
    lock();
    (void)fstat(fd, &file);
    off_t total = total_of(pieces, count);
    if (keeps_log()) note_change('W', fd, &file, offset, total, offset + total);
    ssize_t done = fails(KIND_WRITE) ? -1 : real(fd, pieces, count, offset);
    unlock();
    return done;
}

int ftruncate(int fd, off_t size) {
    struct stat file;
    REAL(ftruncate);
    if (!is_watched(fd, &file)) return real(fd, size);
    lock();
    (void)fstat(fd, &file);
    if (keeps_log()) note_change('T', fd, &file, size < file.st_size ? size : file.st_size, size, file.st_size);
    int result = fails(KIND_CUT) ? -1 : real(fd, size);
    unlock();
    return result;
}

int ftruncate64(int fd, off_t size) {
    return ftruncate(fd, size);
}

/* liburing's; its struct is not looked at. */
struct io_uring;
int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags) {
    static int (*real)(unsigned, struct io_uring *, unsigned);
    if (shim.under[0]) return -ENOSYS;
    if (!real) real = (int (*)(unsigned, struct io_uring *, unsigned))dlsym(RTLD_NEXT, "io_uring_queue_init");
    return real ? real(entries, ring, flags) : -ENOSYS;
}

/* ---- syncing ---- */

static void note_synced(int fd, const struct stat *file) {
    char path[PATH_MAX];
    if (S_ISDIR(file->st_mode) && path_of_fd(fd, path))
        note("D %s\n", path);
    else
        note("S %llu\n", (unsigned long long)file->st_ino);
}

static int sync_with(int (*real)(int), int fd) {
    struct stat file;
    if (!is_watched(fd, &file)) return real(fd);
    if (shim.sync_ms) usleep(shim.sync_ms * 1000);
    lock();
    int result = fails(KIND_SYNC) ? -1 : real(fd);
    if (result == 0 && keeps_log()) note_synced(fd, &file);
    unlock();
    return result;
}

int fsync(int fd) {
    REAL(fsync);
    return sync_with(real, fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return sync_with(real, fd);
}

/* ---- names ---- */

static int open_with(int (*real)(int, const char *, int, ...), int dir_fd, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    struct stat file;
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    if (!shim.under[0] || !writes || !absolute(dir_fd, path, full) || !is_under(full))
        return real(dir_fd, path, flags, mode);
    lock();
    bool existed = stat(full, &file) == 0;
    if (fails(KIND_OPEN)) {
        unlock();
        return -1;
    }
    if (existed && (flags & O_TRUNC) && keeps_log() && S_ISREG(file.st_mode)) {
        int old = real(dir_fd, path, O_RDONLY | O_CLOEXEC, 0);
        if (old >= 0) {
            note_change('T', old, &file, 0, 0, file.st_size);
            close(old);
        }
    }
    int fd = real(dir_fd, path, flags, mode);
    if (fd >= 0 && !existed && keeps_log() && fstat(fd, &file) == 0 && S_ISREG(file.st_mode))
        note("C %llu %s\n", (unsigned long long)file.st_ino, full);
    unlock();
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(arguments, unsigned) : 0;
}

int openat(int dir_fd, const char *path, int flags, ...) {
    REAL(openat);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_with(real, dir_fd, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    REAL(openat);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_with(real, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    REAL(openat);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_with(real, AT_FDCWD, path, flags, mode);
}

static int rename_with(int (*real)(int, const char *, int, const char *), int from_fd, const char *from, int to_fd,
                       const char *to) {
    char old_path[PATH_MAX], new_path[PATH_MAX], backup[PATH_MAX] = "-";
    struct stat file, replaced;
    if (!shim.under[0] || !absolute(from_fd, from, old_path) || !absolute(to_fd, to, new_path) || !is_under(new_path))
        return real(from_fd, from, to_fd, to);
    lock();
    if (fails(KIND_RENAME)) {
        unlock();
        return -1;
    }
    bool logged = keeps_log() && stat(old_path, &file) == 0;
    if (logged && stat(new_path, &replaced) == 0 && S_ISREG(replaced.st_mode)) keep(new_path, backup);
    int result = real(from_fd, from, to_fd, to);
    if (result == 0 && logged) note("R %llu %s %s %s\n", (unsigned long long)file.st_ino, old_path, new_path, backup);
    unlock();
    return result;
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    REAL(renameat);
    return rename_with(real, from_fd, from, to_fd, to);
}

int rename(const char *from, const char *to) {
    REAL(renameat);
    return rename_with(real, AT_FDCWD, from, AT_FDCWD, to);
}

static int unlink_with(int (*real)(int, const char *, int), int dir_fd, const char *path, int flags) {
    char full[PATH_MAX], backup[PATH_MAX];
    struct stat file;
    if (!shim.under[0] || !absolute(dir_fd, path, full) || !is_under(full)) return real(dir_fd, path, flags);
    lock();
    if (fails(KIND_UNLINK)) {
        unlock();
        return -1;
    }
    bool logged = keeps_log() && stat(full, &file) == 0 && S_ISREG(file.st_mode);
    if (logged) keep(full, backup);
    int result = real(dir_fd, path, flags);
    if (result == 0 && logged) note("U %llu %s %s\n", (unsigned long long)file.st_ino, full, backup);
    unlock();
    return result;
}

int unlinkat(int dir_fd, const char *path, int flags) {
    REAL(unlinkat);
    return unlink_with(real, dir_fd, path, flags);
}

int unlink(const char *path) {
    REAL(unlinkat);
    return unlink_with(real, AT_FDCWD, path, 0);
}
