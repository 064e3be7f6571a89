/* See copy_store.h. */

#include "persist/copy_store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum { PATH_ROOM = 4096, CHUNKS_FIRST = 64 };

/* A file, on a disk or in memory. It is closed when its last chunk is forgotten and no other will be put into it. */
struct backing {
    int fd;
    bool in_memory;
    bool filling; /* the next chunk for a disk goes there */
    uint64_t chunks;
    off_t end, most; /* behind the last chunk's place, and where that is to be on a disk */
};

struct chunk {
    struct backing *backing;
    off_t offset;
};

struct copy_store {
    pthread_mutex_t lock; /* of all but `written`, which is the writer's */
    uint64_t memory_most, memory_now, file_bytes;
    uint64_t written;
    unsigned files;
    struct backing *filling; /* NULL: none */
    struct chunk *chunks;    /* those not forgotten: `count` from [head] on, the first of which is chunk `first` */
    size_t first, head, count, room;
    char directory[PATH_ROOM];
};

struct copy_store *copy_store_create(uint64_t memory_bytes, const char *directory) {
    struct copy_store *store = calloc(1, sizeof(*store));
    if (!store) return NULL;
    pthread_mutex_init(&store->lock, NULL);
    store->memory_most = memory_bytes;
    snprintf(store->directory, sizeof(store->directory), "%s", directory);
    return store;
}

/* ---- files, with the lock held ---- */

static int make_file(const char *directory) {
    char path[PATH_ROOM + 32];
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    snprintf(path, sizeof(path), "%s/temp-repl-XXXXXX", directory); /* not every file system knows such files */
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

/* NULL: errno. */
static struct backing *make_backing(struct copy_store *store, bool in_memory) {
    struct backing *backing = calloc(1, sizeof(*backing));
    if (!backing) return NULL;
    *backing =
        (struct backing){.in_memory = in_memory,
                         .fd = in_memory ? memfd_create("terrace-copy", MFD_CLOEXEC) : make_file(store->directory)};
    if (backing->fd < 0) {
        int error = errno;
        free(backing);
        errno = error;
        return NULL;
    }
    if (in_memory)
        store->memory_now += COPY_STORE_CHUNK;
    else
        store->files++;
    return backing;
}

static void close_if_unused(struct copy_store *store, struct backing *backing) {
    if (backing->chunks || backing->filling) return;
    if (backing->in_memory)
        store->memory_now -= COPY_STORE_CHUNK;
    else
        store->files--;
    close(backing->fd);
    free(backing);
}

static struct backing *file_to_fill(struct copy_store *store) {
    if (store->filling && store->filling->end < store->filling->most) return store->filling;
    struct backing *next = make_backing(store, false);
    if (!next) return NULL;
    next->most = (off_t)COPY_STORE_FILE << (store->files - 1);
    if (store->filling) {
        store->filling->filling = false;
        close_if_unused(store, store->filling);
    }
    next->filling = true;
    return store->filling = next;
}

void copy_store_destroy(struct copy_store *store) {
    if (!store) return;
    copy_store_forget(store, UINT64_MAX);
    if (store->filling) {
        store->filling->filling = false;
        close_if_unused(store, store->filling);
    }
    pthread_mutex_destroy(&store->lock);
    free(store->chunks);
    free(store);
}

/* ---- writing ---- */

static bool reserve_chunk(struct copy_store *store) {
    if (store->head + store->count < store->room) return true;
    if (store->head > store->room / 2) {
        memmove(store->chunks, store->chunks + store->head, store->count * sizeof(*store->chunks));
        store->head = 0;
        return true;
    }
    size_t room = store->room ? store->room * 2 : CHUNKS_FIRST;
    struct chunk *chunks = realloc(store->chunks, room * sizeof(*chunks));
    if (!chunks) return false;
    store->chunks = chunks;
    store->room = room;
    return true;
}

/* Where the chunk goes that is begun. False: errno. */
static bool place_chunk(struct copy_store *store, bool in_memory) {
    struct backing *backing = NULL;
    if (in_memory && store->memory_now + COPY_STORE_CHUNK <= store->memory_most) backing = make_backing(store, true);
    if (!backing) backing = file_to_fill(store);
    if (!backing) return false;
    if (!backing->in_memory) store->file_bytes += COPY_STORE_CHUNK;
    store->chunks[store->head + store->count++] = (struct chunk){backing, backing->end};
    backing->end += COPY_STORE_CHUNK;
    backing->chunks++;
    return true;
}

static bool begin_chunk(struct copy_store *store) {
    pthread_mutex_lock(&store->lock);
    bool placed = reserve_chunk(store) && place_chunk(store, true);
    pthread_mutex_unlock(&store->lock);
    return placed;
}

/* The memory of the machine is less than was hoped for: nothing of the last chunk is in it yet. */
static bool move_to_file(struct copy_store *store) {
    pthread_mutex_lock(&store->lock);
    struct backing *backing = store->chunks[store->head + store->count - 1].backing;
    bool moved = backing->in_memory;
    if (moved) {
        store->count--;
        backing->chunks--;
        close_if_unused(store, backing);
        moved = place_chunk(store, false);
    }
    pthread_mutex_unlock(&store->lock);
    return moved;
}

/* What stands at `at`, which was not forgotten: nobody closes its file. */
static struct chunk chunk_of(struct copy_store *store, uint64_t at) {
    pthread_mutex_lock(&store->lock);
    size_t index = (size_t)(at / COPY_STORE_CHUNK);
    assert(index >= store->first && index - store->first < store->count);
    struct chunk chunk = store->chunks[store->head + index - store->first];
    pthread_mutex_unlock(&store->lock);
    chunk.offset += (off_t)(at % COPY_STORE_CHUNK);
    return chunk;
}

static ssize_t write_part(struct copy_store *store, const char *from, size_t length) {
    struct chunk chunk = chunk_of(store, store->written);
    return pwrite(chunk.backing->fd, from, length, chunk.offset);
}

bool copy_store_write(struct copy_store *store, const void *bytes, size_t length) {
    const char *from = bytes;
    bool begun = store->written % COPY_STORE_CHUNK != 0;
    while (length > 0) {
        size_t within = store->written % COPY_STORE_CHUNK;
        size_t part = COPY_STORE_CHUNK - within < length ? COPY_STORE_CHUNK - within : length;
        if (!begun && !begin_chunk(store)) return false;
        begun = true;
        ssize_t wrote = write_part(store, from, part);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0 && within == 0 && move_to_file(store)) wrote = write_part(store, from, part);
        if (wrote <= 0) return false;
        store->written += (uint64_t)wrote;
        from += wrote;
        length -= (size_t)wrote;
        begun = store->written % COPY_STORE_CHUNK != 0;
    }
    return true;
}

/* ---- sending ---- */

ssize_t copy_store_send(struct copy_store *store, int socket, uint64_t at, uint64_t to) {
    uint64_t end = (at / COPY_STORE_CHUNK + 1) * COPY_STORE_CHUNK;
    struct chunk chunk = chunk_of(store, at);
    return sendfile(socket, chunk.backing->fd, &chunk.offset, (size_t)((to < end ? to : end) - at));
}

void copy_store_forget(struct copy_store *store, uint64_t upto) {
    pthread_mutex_lock(&store->lock);
    for (; store->count && store->first < upto / COPY_STORE_CHUNK; store->first++, store->count--) {
        struct backing *backing = store->chunks[store->head++].backing;
        backing->chunks--;
        close_if_unused(store, backing);
    }
    pthread_mutex_unlock(&store->lock);
}

struct copy_store_figures copy_store_figures(struct copy_store *store) {
    pthread_mutex_lock(&store->lock);
    struct copy_store_figures figures = {store->memory_now, store->file_bytes, store->files};
    pthread_mutex_unlock(&store->lock);
    return figures;
}
