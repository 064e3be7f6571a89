/* See copy_store.h. A chunk stands at the same offset in either file, both of which are sparse; `places` says in which.
 * A chunk that was forgotten is punched out of its file: of memory it is free at once, of a disk it mostly never gets
 * there. Pages that a socket still holds live on until it has done with them. */

#include "persist/copy_store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum { PATH_ROOM = 4096, PLACES_FIRST = 1024 };

enum place { IN_MEMORY, IN_FILE };

struct copy_store {
    pthread_mutex_t lock; /* of all but `written`, which is the writer's */
    int fds[2];           /* by place; -1: none */
    uint64_t memory_most, memory_now, file_bytes;
    uint64_t written, forgotten; /* the latter in whole chunks */
    uint8_t *places;             /* of each chunk */
    size_t places_room;
    char directory[PATH_ROOM];
};

struct copy_store *copy_store_create(uint64_t memory_bytes, const char *directory) {
    struct copy_store *store = calloc(1, sizeof(*store));
    if (!store) return NULL;
    pthread_mutex_init(&store->lock, NULL);
    store->memory_most = memory_bytes;
    store->fds[IN_MEMORY] = memory_bytes ? memfd_create("terrace-copy", MFD_CLOEXEC) : -1;
    store->fds[IN_FILE] = -1;
    snprintf(store->directory, sizeof(store->directory), "%s", directory);
    return store;
}

void copy_store_destroy(struct copy_store *store) {
    if (!store) return;
    for (unsigned i = 0; i < 2; i++)
        if (store->fds[i] >= 0) close(store->fds[i]);
    pthread_mutex_destroy(&store->lock);
    free(store->places);
    free(store);
}

static int make_file(const char *directory) {
    char path[PATH_ROOM + 32];
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    snprintf(path, sizeof(path), "%s/temp-repl-XXXXXX", directory); /* not every file system knows such files */
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

/* ---- writing ---- */

static bool reserve_place(struct copy_store *store, size_t chunk) {
    if (chunk < store->places_room) return true;
    size_t room = store->places_room ? store->places_room * 2 : PLACES_FIRST;
    uint8_t *places = realloc(store->places, room);
    if (!places) return false;
    store->places = places;
    store->places_room = room;
    return true;
}

/* Where the chunk goes that is begun; `not_memory`: that has turned out to be full. False: errno. */
static bool place_chunk(struct copy_store *store, size_t chunk, bool not_memory) {
    pthread_mutex_lock(&store->lock);
    bool good = reserve_place(store, chunk);
    bool memory =
        !not_memory && store->fds[IN_MEMORY] >= 0 && store->memory_now + COPY_STORE_CHUNK <= store->memory_most;
    if (good && memory) {
        store->places[chunk] = IN_MEMORY;
        store->memory_now += COPY_STORE_CHUNK;
    } else if (good) {
        if (store->fds[IN_FILE] < 0) store->fds[IN_FILE] = make_file(store->directory);
        good = store->fds[IN_FILE] >= 0;
        store->places[chunk] = IN_FILE;
        store->file_bytes += COPY_STORE_CHUNK;
    }
    pthread_mutex_unlock(&store->lock);
    return good;
}

static int fd_of(struct copy_store *store, uint64_t at) {
    pthread_mutex_lock(&store->lock);
    assert(at >= store->forgotten);
    int fd = store->fds[store->places[at / COPY_STORE_CHUNK]];
    pthread_mutex_unlock(&store->lock);
    return fd;
}

/* The memory of the machine is less than was hoped for: nothing of this chunk is in it yet. */
static bool move_to_file(struct copy_store *store, size_t chunk) {
    pthread_mutex_lock(&store->lock);
    bool was_memory = store->places[chunk] == IN_MEMORY;
    if (was_memory) store->memory_now -= COPY_STORE_CHUNK;
    pthread_mutex_unlock(&store->lock);
    return was_memory && place_chunk(store, chunk, true);
}

bool copy_store_write(struct copy_store *store, const void *bytes, size_t length) {
    const char *from = bytes;
    while (length > 0) {
        size_t chunk = (size_t)(store->written / COPY_STORE_CHUNK), within = store->written % COPY_STORE_CHUNK;
        size_t part = COPY_STORE_CHUNK - within < length ? COPY_STORE_CHUNK - within : length;
        if (within == 0 && !place_chunk(store, chunk, false)) return false;
        ssize_t wrote = pwrite(fd_of(store, store->written), from, part, (off_t)store->written);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0 && within == 0 && move_to_file(store, chunk))
            wrote = pwrite(fd_of(store, store->written), from, part, (off_t)store->written);
        if (wrote <= 0) return false;
        store->written += (uint64_t)wrote;
        from += wrote;
        length -= (size_t)wrote;
    }
    return true;
}

/* ---- sending ---- */

ssize_t copy_store_send(struct copy_store *store, int socket, uint64_t at, uint64_t to) {
    off_t offset = (off_t)at;
    uint64_t end = (at / COPY_STORE_CHUNK + 1) * COPY_STORE_CHUNK;
    return sendfile(socket, fd_of(store, at), &offset, (size_t)((to < end ? to : end) - at));
}

void copy_store_forget(struct copy_store *store, uint64_t upto) {
    pthread_mutex_lock(&store->lock);
    for (; store->forgotten + COPY_STORE_CHUNK <= upto; store->forgotten += COPY_STORE_CHUNK) {
        enum place place = store->places[store->forgotten / COPY_STORE_CHUNK];
        /* Where it cannot, the file only stays larger. */
        bool punched = fallocate(store->fds[place], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)store->forgotten,
                                 COPY_STORE_CHUNK) == 0;
        if (punched && place == IN_MEMORY) store->memory_now -= COPY_STORE_CHUNK;
    }
    pthread_mutex_unlock(&store->lock);
}

struct copy_store_figures copy_store_figures(struct copy_store *store) {
    pthread_mutex_lock(&store->lock);
    struct copy_store_figures figures = {store->memory_now, store->file_bytes};
    pthread_mutex_unlock(&store->lock);
    return figures;
}
