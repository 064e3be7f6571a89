/* See pmem_shadow.h. Offsets are those of the pool's file: libpmemobj maps its first page more than once. */

#include "tests/crash/pmem/pmem_shadow.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE = 64, PAGE = 4096, NODRAIN = 1, NOFLUSH = 32, WAITING_MAX = 4 << 20 };

/* The functions of libpmem, as libpmemobj wants them. */
void pmem_flush(const void *at, size_t bytes);
void pmem_drain(void);
void pmem_persist(const void *at, size_t bytes);
int pmem_msync(const void *at, size_t bytes);
void pmem_deep_flush(const void *at, size_t bytes);
int pmem_is_pmem(const void *at, size_t bytes);
void *pmem_memcpy(void *to, const void *from, size_t bytes, unsigned flags);
void *pmem_memmove(void *to, const void *from, size_t bytes, unsigned flags);
void *pmem_memset(void *to, int byte, size_t bytes, unsigned flags);

struct waiting {
    uint64_t offset;
    pthread_t thread;
    char line[LINE];
};

static struct {
    pthread_mutex_t lock;
    bool on;
    struct pmem_shadow_options options;
    uint64_t random, forget, forget_drain;
    int fd;
    uint64_t bytes;   /* of the file; 0: it was not seen yet */
    char *image;      /* what is durable */
    const char *live; /* the file itself */
    /* Where most of the file is mapped, as far as that is known; until munmap() tells that it is not any more. */
    _Atomic(const char *) base;
    size_t mapped;
    struct waiting *waiting;
    size_t count;
    struct pmem_shadow_figures figures;
} shadow = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static uint64_t draw(uint64_t bound) {
    shadow.random += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = shadow.random;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % bound;
}

static void *must(void *memory) {
    if (memory == NULL || memory == MAP_FAILED) abort();
    return memory;
}

static char *memory_of(uint64_t bytes) {
    return must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

/* ---- the file ---- */

/* A file that was there before the shadow began is durable as it is; one that is being made begins with zeros. */
static void meet_file(const char *path, bool existed) {
    struct stat status;
    shadow.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (shadow.fd < 0 || fstat(shadow.fd, &status) != 0) abort();
    shadow.bytes = (uint64_t)status.st_size;
    shadow.image = memory_of(shadow.bytes);
    shadow.live = must(mmap(NULL, shadow.bytes, PROT_READ, MAP_SHARED, shadow.fd, 0));
    if (existed) memcpy(shadow.image, shadow.live, shadow.bytes);
}

/* The file has become longer: what was added is durable as zeros. */
static void follow_length(void) {
    struct stat status;
    if (fstat(shadow.fd, &status) != 0) abort();
    uint64_t bytes = (uint64_t)status.st_size;
    if (bytes <= shadow.bytes) return;
    char *image = memory_of(bytes);
    memcpy(image, shadow.image, shadow.bytes);
    munmap(shadow.image, shadow.bytes);
    munmap((void *)(uintptr_t)shadow.live, shadow.bytes);
    shadow.image = image;
    shadow.bytes = bytes;
    shadow.live = must(mmap(NULL, bytes, PROT_READ, MAP_SHARED, shadow.fd, 0));
}

/* The offset of an address in the pool's file; false: it is not mapped from it. */
static bool find_offset(const char *at, uint64_t *offset) {
    char line[1024], path[512];
    size_t prefix = strlen(shadow.options.path);
    bool found = false;
    const char *base = shadow.base;
    if (base && at >= base && at < base + shadow.mapped) {
        *offset = (uint64_t)(at - base);
        return true;
    }
    FILE *maps = must(fopen("/proc/self/maps", "re"));
    while (!found && fgets(line, sizeof(line), maps)) {
        unsigned long from, to, file_offset;
        if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %511s", &from, &to, &file_offset, path) != 4) continue;
        if ((unsigned long)at < from || (unsigned long)at >= to || strncmp(path, shadow.options.path, prefix) != 0)
            continue;
        found = true;
        *offset = (unsigned long)at - from + file_offset;
        if (!shadow.bytes) meet_file(path, false);
        if (file_offset == 0 && to - from >= shadow.bytes) {
            shadow.mapped = to - from;
            shadow.base = (const char *)from;
        }
    }
    fclose(maps);
    return found;
}

/* What follows the pool's name in that of its file, until it gets that name. */
static void find_suffix(char *suffix, size_t room) {
    char link[64], path[512];
    suffix[0] = '\0';
    if (access(shadow.options.path, F_OK) == 0) return;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", shadow.fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    path[length > 0 ? length : 0] = '\0';
    size_t prefix = strlen(shadow.options.path);
    snprintf(suffix, room, "%s", strlen(path) > prefix ? path + prefix : "");
}

/* ---- states ---- */

/* How likely a line comes from elsewhere than the image, in eighths: a cut is sharp, or it is not. */
static const unsigned likely[] = {0, 0, 1, 4, 4, 7, 8};

static void mix_line(char *to, uint64_t at, unsigned eighths) {
    bool changed = draw(8) < eighths;
    memcpy(to, (changed ? shadow.live : shadow.image) + at, LINE);
    if (!changed || draw(2)) return;
    size_t first = draw(shadow.count + 1);
    for (size_t i = 0; i < shadow.count; i++) {
        const struct waiting *waiting = &shadow.waiting[(first + i) % shadow.count];
        if (waiting->offset != at) continue;
        memcpy(to, waiting->line, LINE);
        return;
    }
}

/* Most pages of a pool are zero, and stay holes. */
static void write_state(int fd) {
    static const char zero[PAGE];
    unsigned eighths = likely[draw(sizeof(likely) / sizeof(likely[0]))];
    for (uint64_t page = 0; page < shadow.bytes; page += PAGE) {
        char mixed[PAGE];
        const char *from = shadow.image + page;
        if (memcmp(shadow.live + page, from, PAGE) != 0) {
            for (uint64_t at = 0; at < PAGE; at += LINE) mix_line(mixed + at, page + at, eighths);
            from = mixed;
        }
        if (memcmp(from, zero, PAGE) == 0) continue;
        if (pwrite(fd, from, PAGE, (off_t)page) != PAGE) abort();
    }
}

static void make_state(void) {
    char suffix[64];
    follow_length();
    int fd = open(shadow.options.state, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)shadow.bytes) != 0) abort();
    write_state(fd);
    close(fd);
    find_suffix(suffix, sizeof(suffix));
    shadow.figures.states++;
    if (!shadow.options.check(shadow.options.ctx, suffix)) shadow.on = false;
}

static void perhaps(void) {
    if (shadow.bytes && draw(1000) < shadow.options.per_mille) make_state();
}

/* ---- flush and drain; the lock is held ---- */

static void wait_line(uint64_t offset, const char *from) {
    if (!shadow.waiting) shadow.waiting = (struct waiting *)(void *)memory_of(WAITING_MAX * sizeof(struct waiting));
    if (shadow.count == WAITING_MAX) abort();
    struct waiting *waiting = &shadow.waiting[shadow.count++];
    waiting->offset = offset;
    waiting->thread = pthread_self();
    memcpy(waiting->line, from, LINE);
}

static void flush_locked(const char *at, size_t bytes) {
    uint64_t offset;
    if (!bytes || !find_offset(at, &offset)) return;
    shadow.figures.flushes++;
    if (shadow.forget && --shadow.forget == 0) return;
    const char *line = at - offset % LINE;
    uint64_t stop = offset + bytes;
    if (stop > shadow.bytes) follow_length();
    for (offset -= offset % LINE; offset < stop; offset += LINE, line += LINE) {
        wait_line(offset, line);
        shadow.figures.flushed_bytes += LINE;
    }
    perhaps();
}

static void drain_locked(void) {
    size_t kept = 0;
    shadow.figures.drains++;
    if (shadow.forget_drain && --shadow.forget_drain == 0) return;
    perhaps();
    for (size_t i = 0; i < shadow.count; i++) {
        const struct waiting *waiting = &shadow.waiting[i];
        if (!pthread_equal(waiting->thread, pthread_self())) {
            shadow.waiting[kept++] = *waiting;
            continue;
        }
        memcpy(shadow.image + waiting->offset, waiting->line, LINE);
    }
    shadow.count = kept;
    perhaps();
}

static void act(const void *at, size_t bytes, bool flush, bool drain) {
    if (!shadow.on) return;
    pthread_mutex_lock(&shadow.lock);
    if (shadow.on && flush) flush_locked(at, bytes);
    if (shadow.on && drain) drain_locked();
    pthread_mutex_unlock(&shadow.lock);
}

/* ---- instead of libpmem ---- */

void pmem_flush(const void *at, size_t bytes) {
    act(at, bytes, true, false);
}

void pmem_drain(void) {
    act(NULL, 0, false, true);
}

void pmem_persist(const void *at, size_t bytes) {
    act(at, bytes, true, true);
}

int pmem_msync(const void *at, size_t bytes) {
    act(at, bytes, true, true);
    return 0;
}

void pmem_deep_flush(const void *at, size_t bytes) {
    act(at, bytes, true, false);
}

int pmem_is_pmem(const void *at, size_t bytes) {
    (void)at, (void)bytes;
    return 1;
}

static void *copied(void *to, size_t bytes, unsigned flags) {
    act(to, bytes, !(flags & NOFLUSH), !(flags & (NOFLUSH | NODRAIN)));
    return to;
}

void *pmem_memcpy(void *to, const void *from, size_t bytes, unsigned flags) {
    return copied(memcpy(to, from, bytes), bytes, flags);
}

void *pmem_memmove(void *to, const void *from, size_t bytes, unsigned flags) {
    return copied(memmove(to, from, bytes), bytes, flags);
}

void *pmem_memset(void *to, int byte, size_t bytes, unsigned flags) {
    return copied(memset(to, byte, bytes), bytes, flags);
}

/* ---- instead of libc ---- */

/* A pool that is closed may be mapped elsewhere, and across where it was, when it is opened again: offsets that are
 * counted from the old place would be wrong, and lines durable that are not. */
int munmap(void *at, size_t bytes) {
    const char *from = at, *base = shadow.base;
    if (base && from < base + shadow.mapped && base < from + bytes) shadow.base = NULL;
    return (int)syscall(SYS_munmap, at, bytes);
}

/* ---- life ---- */

void pmem_shadow_begin(const struct pmem_shadow_options *options) {
    pmem_shadow_end();
    shadow.options = *options;
    shadow.random = options->seed;
    if (access(options->path, F_OK) == 0) meet_file(options->path, true);
    shadow.on = true;
}

void pmem_shadow_end(void) {
    shadow.on = false;
    if (shadow.fd >= 0) close(shadow.fd);
    if (shadow.bytes) {
        munmap(shadow.image, shadow.bytes);
        munmap((void *)(uintptr_t)shadow.live, shadow.bytes);
    }
    if (shadow.waiting) munmap(shadow.waiting, WAITING_MAX * sizeof(struct waiting));
    shadow.waiting = NULL;
    shadow.count = 0;
    shadow.fd = -1;
    shadow.bytes = 0;
    shadow.base = NULL;
    shadow.forget = shadow.forget_drain = 0;
    shadow.figures = (struct pmem_shadow_figures){0};
}

void pmem_shadow_forget_flush(uint64_t n) {
    shadow.forget = n;
}

void pmem_shadow_forget_drain(uint64_t n) {
    shadow.forget_drain = n;
}

struct pmem_shadow_figures pmem_shadow_figures(void) {
    return shadow.figures;
}
