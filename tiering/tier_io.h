#ifndef TERRACE_TIERING_TIER_IO_H
#define TERRACE_TIERING_TIER_IO_H

/* Reads and writes of the tier file that nobody waits for.
 *
 *   tier_io_start(op) ... tier_io_submit()   hands everything started over with one system call
 *   the descriptor becomes readable          epoll wakes the owner
 *   tier_io_reap()                           calls op->done for what has ended
 *
 * Two ways: io_uring (liburing), and a few threads with pread and pwrite where the kernel forbids io_uring. In a pool
 * of persistent memory a third, which copies on the spot. For tests, faults are put between: errors, short transfers,
 * delays, flipped bits, by a seed.
 *
 * A short transfer is continued, EINTR and EAGAIN are tried again, inside: op->done sees all bytes or an error. Reading
 * past the end of the file is an error (EIO).
 *
 * Threads: an instance belongs to one thread, the first that submits; each worker has its own. Another thread may make
 * it, and destroy it when nothing is in flight. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tier_io;
struct tier_op;

typedef void tier_op_done(struct tier_op *op);

/* Embedded in whatever asks; the asker's until done is called, not moved or changed meanwhile. */
struct tier_op {
    void *memory; /* aligned to 4 KB, as are offset and bytes, when the file is direct */
    uint64_t offset;
    uint32_t bytes;
    bool write;
    int error;          /* for done: 0: all bytes were transferred; an errno otherwise */
    tier_op_done *done; /* on the owner's thread, from tier_io_reap() or tier_io_wait(); may start others */
    /* The instance's own. */
    struct tier_op *next;
    uint32_t transferred;
    uint64_t private_word;
};

/* Faults for tests: each share is per million operations. */
struct tier_io_faults {
    uint64_t seed; /* 0: no faults at all */
    uint32_t read_error, write_error, short_transfer, flipped_bit, delay;
    uint32_t delay_reaps_max; /* a delayed operation ends this many reaps later, at most */
};

enum tier_io_kind { TIER_IO_AUTO, TIER_IO_URING, TIER_IO_THREADS, TIER_IO_PMEM };

struct pmem_pool;

struct tier_io_options {
    int fd;                 /* not looked at with a pool */
    struct pmem_pool *pmem; /* NULL: none. With it `kind` is PMEM, whatever was asked for. */
    enum tier_io_kind kind; /* AUTO: io_uring where the kernel allows it */
    unsigned depth;         /* operations the kernel is given at once; the rest queues here. 0: 256 */
    struct tier_io_faults faults;
};

/* NULL: errno says why (TIER_IO_URING where it is forbidden, no memory). */
struct tier_io *tier_io_create(const struct tier_io_options *options);
/* Waits for what is under way; their `done` is called. By the owner, unless nothing is in flight. NULL: nothing
 * happens. */
void tier_io_destroy(struct tier_io *io);

/* Which one AUTO became. */
enum tier_io_kind tier_io_kind(const struct tier_io *io);
/* For epoll (EPOLLIN, level-triggered): readable when something may have ended, and now and then for nothing.
 * tier_io_reap() clears it, at the latest with the 16th call that finds nothing. */
int tier_io_event_fd(const struct tier_io *io);

void tier_io_start(struct tier_io *io, struct tier_op *op);
/* Hands over what was started since. Cheap when there is nothing. */
void tier_io_submit(struct tier_io *io);
/* Ends what has ended; returns how many. Cheap when there is nothing. */
unsigned tier_io_reap(struct tier_io *io);
/* Submits, then waits until `op` has ended; others that end meanwhile are ended too. Precondition: `op` was started and
 * has not ended. */
void tier_io_wait(struct tier_io *io, struct tier_op *op);
/* Submits, then waits until nothing is in flight, what `done` starts meanwhile included. The owner's last call before
 * its thread ends: for io_uring no other thread can end its operations. */
void tier_io_drain(struct tier_io *io);
/* Operations started and not ended. */
unsigned tier_io_in_flight(const struct tier_io *io);

#endif
