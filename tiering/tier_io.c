/* The part of the tier's input and output that does not depend on how the kernel is asked.
 *
 * An operation waits in `started` until the owner submits, then up to `depth` of them are with the way
 * (tier_io_private.h shows the course). Its attempts come back with what the kernel said. What is short goes back to
 * `started` for the rest; what was interrupted too, a bounded number of times. So `done` is told one thing: everything,
 * or why not.
 *
 * The event descriptor is readable at least whenever something has ended that no reap has seen. It may also be readable
 * for nothing: a way can be overtaken between an end and its signal. As epoll would then report it for ever, a reap
 * that finds nothing clears it now and then.
 *
 * Nobody but the owner gets things moving. Where that needs another call of its (operations that are delayed, that
 * failed without the kernel, that the kernel had no memory for), the instance signals its own event.
 *
 * Faults are drawn when an operation starts, from the seed and its number, and lie in private_word. The order in which
 * operations end therefore has no influence on them, and the same operations meet the same faults again.
 *
 *   private_word   | bit to flip: 32 | reaps to wait: 16 | - | flip, short, error | tries: 8 | */

#include "tiering/tier_io.h"

#include "base/random.h"
#include "tiering/tier_io_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    DEPTH = 256,
    DEPTH_MAX = 4096,           /* a ring of that size takes half a megabyte; devices have queues of 1024 */
    TRIES_MAX = 100,            /* attempts in a row without a byte; what lasts longer is no interruption */
    EMPTY_REAPS = 16,           /* a vain wake-up costs at most this many; a busy owner reads the event this seldom */
    DIRECT_ALIGNMENT = 4096,    /* what tier_file.h asks of memory and offsets */
    ATTEMPT_BYTES_MAX = 1 << 30 /* below what the kernel transfers at once, and a multiple of any alignment */
};

#define PLAN_TRIES    UINT64_C(0xff)
#define PLAN_ERROR    (UINT64_C(1) << 8)
#define PLAN_SHORT    (UINT64_C(1) << 9)
#define PLAN_FLIP     (UINT64_C(1) << 10)
#define PLAN_DELAY(n) ((uint64_t)(n) << 16)
#define PLAN_BIT(n)   ((uint64_t)(n) << 32)

/* On the stack of tier_io_wait(), for done may start the same operation again, or free it. */
struct tier_io_waiter {
    const struct tier_op *op;
    bool ended;
    struct tier_io_waiter *outer;
};

/* ---- beginning and end ---- */

static int open_way(struct tier_io *io, enum tier_io_kind kind) {
    int error = EINVAL;
    if (io->pmem) {
        io->way = &tier_io_way_pmem;
        return io->way->open(io);
    }
    if (kind != TIER_IO_THREADS) {
        io->way = &tier_io_way_uring;
        error = io->way->open(io);
    }
    if (kind == TIER_IO_THREADS || (kind == TIER_IO_AUTO && error)) {
        io->way = &tier_io_way_threads;
        error = io->way->open(io);
    }
    return error;
}

struct tier_io *tier_io_create(const struct tier_io_options *options) {
    int flags = options->pmem ? 0 : fcntl(options->fd, F_GETFL);
    if (flags < 0) return NULL;
    struct tier_io *io = calloc(1, sizeof(*io));
    if (!io) return NULL;
    io->fd = options->fd;
    io->pmem = options->pmem;
    io->depth = options->depth ? options->depth : DEPTH;
    if (io->depth > DEPTH_MAX) io->depth = DEPTH_MAX;
    io->alignment = flags & O_DIRECT ? DIRECT_ALIGNMENT : 1;
    io->faults = options->faults;
    io->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int error = io->event_fd < 0 ? errno : open_way(io, options->kind);
    if (!error) return io;
    if (io->event_fd >= 0) close(io->event_fd);
    free(io);
    errno = error;
    return NULL;
}

static void wait_for_event(const struct tier_io *io) {
    struct pollfd event = {.fd = io->event_fd, .events = POLLIN};
    (void)poll(&event, 1, -1);
}

void tier_io_drain(struct tier_io *io) {
    while (io->in_flight > 0) {
        tier_io_submit(io);
        if (tier_io_reap(io) == 0 && io->in_flight > 0) wait_for_event(io);
    }
}

void tier_io_destroy(struct tier_io *io) {
    if (!io) return;
    tier_io_drain(io);
    io->way->close(io);
    close(io->event_fd);
    free(io);
}

enum tier_io_kind tier_io_kind(const struct tier_io *io) {
    return io->way->kind;
}

int tier_io_event_fd(const struct tier_io *io) {
    return io->event_fd;
}

unsigned tier_io_in_flight(const struct tier_io *io) {
    return io->in_flight;
}

void tier_io_signal_event(const struct tier_io *io) {
    uint64_t one = 1;
    ssize_t written = write(io->event_fd, &one, sizeof(one));
    /* EAGAIN: the counter is at its end, so it is readable, which is all that is wanted. */
    assert(written == sizeof(one) || errno == EAGAIN);
}

void tier_io_clear_event(const struct tier_io *io) {
    uint64_t count;
    ssize_t got = read(io->event_fd, &count, sizeof(count));
    assert(got == sizeof(count) || errno == EAGAIN);
}

/* ---- attempts ---- */

struct tier_io_attempt tier_io_next_attempt(const struct tier_io *io, const struct tier_op *op) {
    uint32_t bytes = op->bytes - op->transferred;
    if (bytes > ATTEMPT_BYTES_MAX) bytes = ATTEMPT_BYTES_MAX;
    if (op->private_word & PLAN_SHORT) {
        uint32_t half = bytes / 2 / io->alignment * io->alignment;
        if (half > 0) bytes = half;
    }
    return (struct tier_io_attempt){(char *)op->memory + op->transferred, op->offset + op->transferred, bytes};
}

void tier_io_attempt_ended(struct tier_io *io, struct tier_op *op, int result) {
    assert(io->given > 0);
    io->given--;
    op->error = result; /* lent until the reap looks at it */
    tier_io_queue_push(&io->ended, op);
}

/* One attempt has ended with `result`. True: the operation has, and op->error says how. */
static bool take_result(const struct tier_io *io, struct tier_op *op, int result) {
    op->error = 0;
    op->private_word &= ~PLAN_SHORT;
    if (result == -EINTR || result == -EAGAIN) {
        if ((op->private_word & PLAN_TRIES) == TRIES_MAX) {
            op->error = -result;
            return true;
        }
        op->private_word++;
        return false;
    }
    if (result < 0) {
        op->error = -result;
        return true;
    }
    uint64_t transferred = (uint64_t)op->transferred + (uint32_t)result;
    if (transferred >= op->bytes) {
        op->transferred = op->bytes;
        if (op->private_word & PLAN_ERROR) op->error = EIO; /* it could not be cut short */
        return true;
    }
    /* O_DIRECT cannot go on in the middle of a page; only the end of the file stops there. */
    transferred -= transferred % io->alignment;
    if (transferred == op->transferred) {
        op->error = EIO;
        return true;
    }
    op->transferred = (uint32_t)transferred;
    op->private_word &= ~PLAN_TRIES;
    return false;
}

/* ---- faults ---- */

static uint64_t draw_plan(struct tier_io *io, const struct tier_op *op) {
    const struct tier_io_faults *faults = &io->faults;
    if (!faults->seed) return 0;
    struct random random;
    random_seed(&random, faults->seed + ++io->operations * UINT64_C(0x9e3779b97f4a7c15));
    /* All is drawn, wanted or not: changing one share leaves the other faults where they are. */
    bool error = random_below(&random, 1000000) < (op->write ? faults->write_error : faults->read_error);
    bool shorter = random_below(&random, 1000000) < faults->short_transfer;
    bool flip = random_below(&random, 1000000) < faults->flipped_bit;
    bool delay = random_below(&random, 1000000) < faults->delay;
    uint32_t bit = (uint32_t)random_next(&random);
    uint32_t reaps_max = faults->delay_reaps_max < UINT16_MAX ? faults->delay_reaps_max : UINT16_MAX;
    uint64_t reaps = reaps_max ? 1 + random_below(&random, reaps_max) : 0;
    return (error ? PLAN_ERROR : 0) | (shorter ? PLAN_SHORT : 0) | (flip && !op->write ? PLAN_FLIP : 0) |
           (delay ? PLAN_DELAY(reaps) : 0) | PLAN_BIT(bit);
}

/* An operation that is to fail does so instead of its first attempt, or behind one that was cut short, so that some
 * fail with half of it done. */
static bool fails_now(const struct tier_op *op) {
    return (op->private_word & (PLAN_ERROR | PLAN_SHORT)) == PLAN_ERROR;
}

static void flip_bit(struct tier_op *op) {
    if (!(op->private_word & PLAN_FLIP) || op->error || op->bytes == 0) return;
    uint64_t bit = (op->private_word >> 32) % ((uint64_t)op->bytes * 8);
    ((unsigned char *)op->memory)[bit / 8] ^= (unsigned char)(1u << (bit % 8));
}

/* Whether it is still to be kept back; each call counts down. */
static bool stays_delayed(struct tier_op *op) {
    if (!(op->private_word & PLAN_DELAY(UINT16_MAX))) return false;
    op->private_word -= PLAN_DELAY(1);
    return true;
}

/* ---- the owner's calls ---- */

void tier_io_start(struct tier_io *io, struct tier_op *op) {
    op->error = 0;
    op->transferred = 0;
    op->private_word = draw_plan(io, op);
    tier_io_queue_push(&io->started, op);
    io->in_flight++;
}

/* Gives the way what it has room for. */
static void hand_over(struct tier_io *io) {
    struct tier_io_queue attempts = {0};
    unsigned ended_before = io->ended.count;
    while (io->given < io->depth) {
        struct tier_op *op = tier_io_queue_pop(&io->started);
        if (!op) break;
        io->given++;
        if (fails_now(op))
            tier_io_attempt_ended(io, op, -EIO);
        else
            tier_io_queue_push(&attempts, op);
    }
    io->owed = io->started.first != NULL;
    if (attempts.first) io->way->give(io, &attempts);
    if (io->ended.count > ended_before) tier_io_signal_event(io);
}

void tier_io_submit(struct tier_io *io) {
    if (io->started.first) hand_over(io);
}

static void finish(struct tier_io *io, struct tier_op *op) {
    flip_bit(op);
    for (struct tier_io_waiter *waiter = io->waiters; waiter; waiter = waiter->outer)
        if (waiter->op == op) waiter->ended = true;
    io->in_flight--;
    op->done(op);
}

/* Looks at each attempt that has ended by now, not at those that `done` adds, so that it comes to an end. */
static unsigned finish_ended(struct tier_io *io) {
    unsigned finished = 0;
    for (unsigned count = io->ended.count; count > 0; count--) {
        struct tier_op *op = tier_io_queue_pop(&io->ended);
        if (!op) break; /* `done` has reaped too */
        if (!take_result(io, op, op->error)) {
            tier_io_queue_push(&io->started, op);
            io->owed = true;
        } else if (stays_delayed(op)) {
            tier_io_queue_push(&io->delayed, op);
        } else {
            finish(io, op);
            finished++;
        }
    }
    return finished;
}

static unsigned finish_delayed(struct tier_io *io) {
    unsigned finished = 0;
    for (unsigned count = io->delayed.count; count > 0; count--) {
        struct tier_op *op = tier_io_queue_pop(&io->delayed);
        if (!op) break;
        if (stays_delayed(op)) {
            tier_io_queue_push(&io->delayed, op);
        } else {
            finish(io, op);
            finished++;
        }
    }
    return finished;
}

unsigned tier_io_reap(struct tier_io *io) {
    bool idle = !io->way->has_ended(io) && !io->ended.first && !io->delayed.first;
    if (idle && ++io->empty_reaps % EMPTY_REAPS != 0) return 0;
    io->way->collect(io);
    unsigned finished = finish_delayed(io) + finish_ended(io);
    if (io->owed) hand_over(io);
    if (io->ended.first || io->delayed.first) tier_io_signal_event(io);
    return finished;
}

void tier_io_wait(struct tier_io *io, struct tier_op *op) {
    struct tier_io_waiter waiter = {.op = op, .outer = io->waiters};
    io->waiters = &waiter;
    tier_io_submit(io);
    while (!waiter.ended) {
        assert(io->in_flight > 0); /* otherwise `op` was not started, or had ended before */
        if (tier_io_reap(io) == 0 && !waiter.ended) wait_for_event(io);
    }
    io->waiters = waiter.outer;
}
