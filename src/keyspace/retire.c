/* Retired memory waits in a queue ordered by epoch. A node of the queue is written into the retired block
 * itself only when nobody reads it any more, so the queue has nodes of its own; retiring is rare (growth of an
 * index), so a lock and a small allocation do no harm. When that allocation fails the block is leaked
 * rather than freed too early. */

#include "keyspace/retire.h"

#include <pthread.h>
#include <stdlib.h>

#define OFFLINE UINT64_MAX

struct retired {
    struct retired *next;
    void *memory;
    retire_release *release;
    void *ctx;
    uint64_t epoch;
};

struct retire_list {
    bool deferred;
    _Atomic uint64_t epoch;
    pthread_mutex_t lock;
    struct retired *oldest, **newest;
    uint64_t waiting;
    struct {
        _Alignas(64) _Atomic uint64_t seen;
    } workers[LIMIT_WORKERS];
};

struct retire_list *retire_create(bool deferred) {
    struct retire_list *list = aligned_alloc(64, sizeof(*list));
    if (!list) return NULL;
    list->deferred = deferred;
    atomic_init(&list->epoch, 1);
    pthread_mutex_init(&list->lock, NULL);
    list->oldest = NULL;
    list->newest = &list->oldest;
    list->waiting = 0;
    for (unsigned i = 0; i < LIMIT_WORKERS; i++) atomic_init(&list->workers[i].seen, OFFLINE);
    return list;
}

void retire_destroy(struct retire_list *list) {
    if (!list) return;
    retire_collect(list);
    pthread_mutex_destroy(&list->lock);
    free(list);
}

static void release(const struct retired *retired) {
    if (retired->release)
        retired->release(retired->ctx, retired->memory);
    else
        free(retired->memory);
}

void retire_memory(struct retire_list *list, void *memory, retire_release *release_fn, void *ctx) {
    struct retired retired = {.memory = memory, .release = release_fn, .ctx = ctx};
    if (!list->deferred) {
        release(&retired);
        return;
    }
    struct retired *node = malloc(sizeof(*node));
    if (!node) return;
    pthread_mutex_lock(&list->lock);
    retired.epoch = atomic_load(&list->epoch);
    *node = retired;
    *list->newest = node;
    list->newest = &node->next;
    list->waiting++;
    pthread_mutex_unlock(&list->lock);
}

void retire_online(struct retire_list *list, unsigned worker) {
    if (!list->deferred) return;
    /* The store must be visible before this worker reads any shared pointer. */
    atomic_store(&list->workers[worker].seen, atomic_load(&list->epoch));
}

void retire_offline(struct retire_list *list, unsigned worker) {
    if (list->deferred) atomic_store_explicit(&list->workers[worker].seen, OFFLINE, memory_order_release);
}

uint64_t retire_collect(struct retire_list *list) {
    if (!list->deferred) return 0;
    pthread_mutex_lock(&list->lock);
    atomic_fetch_add(&list->epoch, 1);
    uint64_t safe = OFFLINE;
    for (unsigned i = 0; i < LIMIT_WORKERS; i++) {
        uint64_t seen = atomic_load(&list->workers[i].seen);
        if (seen < safe) safe = seen;
    }
    while (list->oldest && list->oldest->epoch < safe) {
        struct retired *node = list->oldest;
        list->oldest = node->next;
        if (!list->oldest) list->newest = &list->oldest;
        release(node);
        free(node);
        list->waiting--;
    }
    uint64_t waiting = list->waiting;
    pthread_mutex_unlock(&list->lock);
    return waiting;
}
