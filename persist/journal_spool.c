/* The spool: see journal_spool.h.
 *
 * The thread copies a stretch of the ring to the file, and moves `copied` and its place as a reader in this order: what
 * is below `copied` is in the file, what is not is held in the ring, at every moment. Position p stands at offset
 * p - from of the file, where `from` never moves; holes are punched behind those who read.
 *
 * When the file cannot be written the spool gives up what it holds: whoever needed it is told that it is lost, and all
 * others go on. */

#include "persist/journal_spool.h"

#include "base/log.h"
#include "base/thread_place.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LOOK_NS = 3000000,      /* between two looks at the ring; much less than the time in which half of it fills */
    PUNCH_BYTES = 16 << 20, /* given back at once */
    PATH_ROOM = 4096,
};

struct journal_spool {
    struct journal *journal;
    pthread_mutex_t lock;          /* of what follows */
    struct journal_reader *reader; /* NULL: it does not run */
    pthread_t thread;
    char directory[PATH_ROOM];
    int fd; /* -1: nothing has been copied */
    uint64_t from, copied, punched;
    uint64_t written_bytes;
    bool failed;
    atomic_bool ending;
};

struct journal_spool *journal_spool_create(struct journal *journal) {
    struct journal_spool *spool = calloc(1, sizeof(*spool));
    if (!spool) return NULL;
    spool->journal = journal;
    spool->fd = -1;
    pthread_mutex_init(&spool->lock, NULL);
    return spool;
}

void journal_spool_destroy(struct journal_spool *spool) {
    journal_spool_stop(spool);
    pthread_mutex_destroy(&spool->lock);
    free(spool);
}

/* ---- the thread ---- */

static int make_file(const char *directory) {
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char path[PATH_ROOM + 32];
    if (fd >= 0) return fd;
    /* Not every file system knows files without a name. */
    snprintf(path, sizeof(path), "%s/temp-repl-XXXXXX", directory);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

static bool write_all(int fd, struct span bytes, uint64_t offset) {
    while (bytes.length) {
        ssize_t written = pwrite(fd, bytes.data, bytes.length, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes = span_of(bytes.data + written, bytes.length - (size_t)written);
        offset += (uint64_t)written;
    }
    return true;
}

static bool copy_some(struct journal_spool *spool) {
    struct span spans[2];
    unsigned count = journal_peek(spool->reader, spans, NULL);
    if (count == 0) return true;
    if (spool->fd < 0) {
        int fd = make_file(spool->directory);
        pthread_mutex_lock(&spool->lock);
        spool->fd = fd;
        pthread_mutex_unlock(&spool->lock);
    }
    size_t most = journal_capacity(spool->journal) / 8;
    if (spans[0].length > most) spans[0].length = most; /* so that writers get room soon */
    bool written = spool->fd >= 0 && write_all(spool->fd, spans[0], spool->copied - spool->from);
    if (!written) return false;
    pthread_mutex_lock(&spool->lock);
    spool->copied += spans[0].length;
    spool->written_bytes += spans[0].length;
    pthread_mutex_unlock(&spool->lock);
    journal_advance(spool->reader, spans[0].length);
    return true;
}

static void *run(void *argument) {
    struct journal_spool *spool = argument;
    thread_place_roam();
    while (!atomic_load(&spool->ending)) {
        uint64_t waiting = journal_end(spool->journal) - journal_reader_position(spool->reader);
        if (waiting <= journal_capacity(spool->journal) / 2) {
            struct timespec pause = {0, LOOK_NS};
            nanosleep(&pause, NULL); /* journal_wait() would return at once as long as anything waits */
            continue;
        }
        if (copy_some(spool)) continue;
        log_warning("what replicas still need of the stream cannot be kept on disk: %s", strerror(errno));
        pthread_mutex_lock(&spool->lock);
        spool->failed = true;
        pthread_mutex_unlock(&spool->lock);
        break;
    }
    /* Nobody holds up the writers from here on. */
    journal_detach(spool->reader);
    return NULL;
}

/* ---- those who need it ---- */

bool journal_spool_begin(struct journal_spool *spool, uint64_t from, const char *directory) {
    pthread_mutex_lock(&spool->lock);
    bool runs = spool->reader && !spool->failed;
    bool keeps = runs && from >= spool->from && from >= spool->punched;
    pthread_mutex_unlock(&spool->lock);
    if (runs) return keeps;
    journal_spool_stop(spool);
    spool->reader = journal_attach(spool->journal, from, true);
    if (!spool->reader) return false;
    snprintf(spool->directory, sizeof(spool->directory), "%s", directory);
    spool->from = spool->copied = spool->punched = from;
    atomic_store(&spool->ending, false);
    if (pthread_create(&spool->thread, NULL, run, spool) == 0) return true;
    journal_detach(spool->reader);
    spool->reader = NULL;
    return false;
}

void journal_spool_stop(struct journal_spool *spool) {
    if (!spool->reader) return;
    atomic_store(&spool->ending, true);
    pthread_join(spool->thread, NULL);
    pthread_mutex_lock(&spool->lock);
    spool->reader = NULL;
    if (spool->fd >= 0) close(spool->fd);
    spool->fd = -1;
    spool->from = spool->copied = spool->punched = 0;
    spool->failed = false;
    pthread_mutex_unlock(&spool->lock);
}

void journal_spool_keep(struct journal_spool *spool, uint64_t least, bool stays) {
    if (!spool->reader) return;
    pthread_mutex_lock(&spool->lock);
    uint64_t upto = least < spool->copied ? least : spool->copied;
    bool unneeded = !stays && (least >= spool->copied || spool->failed);
    if (!unneeded && spool->fd >= 0 && upto >= spool->punched + PUNCH_BYTES) {
        (void)fallocate(spool->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(spool->punched - spool->from),
                        (off_t)(upto - spool->punched)); /* where it cannot, the file only stays larger */
        spool->punched = upto;
    }
    pthread_mutex_unlock(&spool->lock);
    if (unneeded) journal_spool_stop(spool);
}

ssize_t journal_spool_read(struct journal_spool *spool, uint64_t position, void *buffer, size_t room) {
    ssize_t got = 0;
    pthread_mutex_lock(&spool->lock);
    bool has_it = spool->reader && !spool->failed && position >= spool->punched && position < spool->copied;
    if (has_it) {
        uint64_t left = spool->copied - position;
        got = pread(spool->fd, buffer, room < left ? room : (size_t)left, (off_t)(position - spool->from));
        if (got == 0) got = -1;
    }
    pthread_mutex_unlock(&spool->lock);
    return got;
}

struct journal_spool_figures journal_spool_figures(struct journal_spool *spool) {
    pthread_mutex_lock(&spool->lock);
    struct journal_spool_figures figures = {spool->reader != NULL, spool->from, spool->copied, spool->written_bytes};
    pthread_mutex_unlock(&spool->lock);
    return figures;
}
