#ifndef TERRACE_TIERING_TIER_IO_PRIVATE_H
#define TERRACE_TIERING_TIER_IO_PRIVATE_H

/* What tier_io.c and its ways to the kernel (tier_io_uring.c, tier_io_threads.c) share. Nobody else includes this.
 *
 * An operation is made of attempts: one transfer of what is still missing, as far as the kernel goes. A way knows
 * attempts only; tier_io.c decides what follows from their results, and puts the faults between.
 *
 *   started --tier_io_submit()--> given to the way --collect--> ended --tier_io_reap()--> op->done
 *      ^                                                          |
 *      +------------ short, interrupted: another attempt ---------+---> delayed (a fault) ---> op->done
 *
 * Threads: all of it belongs to the owner's thread, except what a way says otherwise. */

#include "tiering/tier_io.h"

struct tier_io_queue {
    struct tier_op *first, *last;
    unsigned count;
};

static inline void tier_io_queue_push(struct tier_io_queue *queue, struct tier_op *op) {
    op->next = NULL;
    if (queue->last)
        queue->last->next = op;
    else
        queue->first = op;
    queue->last = op;
    queue->count++;
}

/* NULL: empty. */
static inline struct tier_op *tier_io_queue_pop(struct tier_io_queue *queue) {
    struct tier_op *op = queue->first;
    if (!op) return NULL;
    queue->first = op->next;
    if (!queue->first) queue->last = NULL;
    queue->count--;
    return op;
}

/* Empties `from` into the end of `into`. */
static inline void tier_io_queue_append(struct tier_io_queue *into, struct tier_io_queue *from) {
    if (!from->first) return;
    if (into->last)
        into->last->next = from->first;
    else
        into->first = from->first;
    into->last = from->last;
    into->count += from->count;
    *from = (struct tier_io_queue){0};
}

/* A way to the kernel. Every function is called by the owner's thread; `open` and `close` also by another. */
struct tier_io_way {
    enum tier_io_kind kind;
    /* Sets io->state. 0, or an errno. */
    int (*open)(struct tier_io *io);
    /* Nothing is under way. */
    void (*close)(struct tier_io *io);
    /* Takes the attempts, which are counted in io->given already, and starts them. They never exceed io->depth. */
    void (*give)(struct tier_io *io, struct tier_io_queue *attempts);
    /* Whether collect would find something; no system call. */
    bool (*has_ended)(const struct tier_io *io);
    /* Hands each attempt that has ended to tier_io_attempt_ended(), and clears the event in a way that loses none. */
    void (*collect)(struct tier_io *io);
};

extern const struct tier_io_way tier_io_way_uring, tier_io_way_threads, tier_io_way_pmem;

struct tier_io_waiter;

struct tier_io {
    const struct tier_io_way *way;
    void *state; /* the way's */
    struct pmem_pool *pmem;
    int fd, event_fd;
    unsigned depth;
    uint32_t alignment; /* of what an attempt may begin and end at: 4096 with O_DIRECT, otherwise 1 */
    unsigned given;     /* attempts the way has */
    unsigned in_flight, empty_reaps;
    bool owed; /* `started` holds what has been submitted and the way had no room for, or has to be tried again */
    struct tier_io_queue started, ended, delayed;
    struct tier_io_waiter *waiters;
    struct tier_io_faults faults;
    uint64_t operations; /* started, ever: what faults are drawn from */
};

struct tier_io_attempt {
    void *memory;
    uint64_t offset;
    uint32_t bytes;
};

/* What the next attempt has to transfer. Reads `op` and io->alignment only, so any thread that has the operation may
 * call it. */
struct tier_io_attempt tier_io_next_attempt(const struct tier_io *io, const struct tier_op *op);
/* `result`: bytes, or a negative errno. Calls nothing of the asker's. */
void tier_io_attempt_ended(struct tier_io *io, struct tier_op *op, int result);

/* Makes the event descriptor readable (any thread), or no longer readable. */
void tier_io_signal_event(const struct tier_io *io);
void tier_io_clear_event(const struct tier_io *io);

#endif
