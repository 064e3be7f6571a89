/* Reads and writes by a few threads that wait for the device in the owner's place: for kernels where io_uring is
 * switched off or filtered away, as in many containers.
 *
 * A pool for each instance. Threads are made when there is work that no idle one can take, up to THREADS, and stay. One
 * lock guards both queues; a thread holds it to take an attempt or to put its result down. The event is signalled when
 * the first result comes to an empty queue, under the lock, and cleared under it when the queue is taken: it is
 * readable exactly while there are results. */

#include "tiering/tier_io_private.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* As many transfers as the device sees at once. Enough for a disk; a fast device's depth is io_uring's business. */
enum { THREADS = 8 };

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct tier_io_queue waiting, ended;
    atomic_bool any_ended; /* written under the lock */
    bool stopping;
    unsigned thread_count, idle;
    pthread_t threads[THREADS];
};

/* Waits for the device. Bytes, or a negative errno. */
static int transfer(const struct tier_io *io, const struct tier_op *op) {
    struct tier_io_attempt next = tier_io_next_attempt(io, op);
    ssize_t bytes = op->write ? pwrite(io->fd, next.memory, next.bytes, (off_t)next.offset)
                              : pread(io->fd, next.memory, next.bytes, (off_t)next.offset);
    return bytes < 0 ? -errno : (int)bytes;
}

static void *work(void *argument) {
    struct tier_io *io = argument;
    struct pool *pool = io->state;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        struct tier_op *op = tier_io_queue_pop(&pool->waiting);
        if (!op) {
            pool->idle++;
            pthread_cond_wait(&pool->work, &pool->lock);
            pool->idle--;
            continue;
        }
        pthread_mutex_unlock(&pool->lock);
        int result = transfer(io, op);
        pthread_mutex_lock(&pool->lock);
        op->error = result;
        tier_io_queue_push(&pool->ended, op);
        if (pool->ended.count == 1) {
            atomic_store_explicit(&pool->any_ended, true, memory_order_relaxed);
            tier_io_signal_event(io);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static int threads_open(struct tier_io *io) {
    struct pool *pool = calloc(1, sizeof(*pool));
    if (!pool) return ENOMEM;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    io->state = pool;
    return 0;
}

static void threads_close(struct tier_io *io) {
    struct pool *pool = io->state;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Signals are for the threads that have handlers in mind. */
static bool add_thread(struct tier_io *io, struct pool *pool) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool made = pthread_create(&pool->threads[pool->thread_count], NULL, work, io) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (made) pool->thread_count++;
    return made;
}

static void threads_give(struct tier_io *io, struct tier_io_queue *attempts) {
    struct pool *pool = io->state;
    pthread_mutex_lock(&pool->lock);
    tier_io_queue_append(&pool->waiting, attempts);
    unsigned waiting = pool->waiting.count, idle = pool->idle;
    for (unsigned i = 0; i < waiting && i < idle; i++) pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    /* `idle` still counts those that are being woken: a thread too few until the next hand-over, never none. */
    for (unsigned i = idle; i < waiting && pool->thread_count < THREADS; i++)
        if (!add_thread(io, pool)) break;
    if (pool->thread_count > 0) return;
    /* Not even one: the owner has to wait itself. */
    struct tier_op *op;
    while ((op = tier_io_queue_pop(&pool->waiting)) != NULL) tier_io_attempt_ended(io, op, transfer(io, op));
    tier_io_signal_event(io);
}

static bool threads_has_ended(const struct tier_io *io) {
    const struct pool *pool = io->state;
    return atomic_load_explicit(&pool->any_ended, memory_order_relaxed);
}

static void threads_collect(struct tier_io *io) {
    struct pool *pool = io->state;
    pthread_mutex_lock(&pool->lock);
    struct tier_io_queue ended = pool->ended;
    pool->ended = (struct tier_io_queue){0};
    atomic_store_explicit(&pool->any_ended, false, memory_order_relaxed);
    tier_io_clear_event(io);
    pthread_mutex_unlock(&pool->lock);
    struct tier_op *op;
    while ((op = tier_io_queue_pop(&ended)) != NULL) tier_io_attempt_ended(io, op, op->error);
}

const struct tier_io_way tier_io_way_threads = {
    .kind = TIER_IO_THREADS,
    .open = threads_open,
    .close = threads_close,
    .give = threads_give,
    .has_ended = threads_has_ended,
    .collect = threads_collect,
};
