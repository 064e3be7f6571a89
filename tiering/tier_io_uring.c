/* Reads and writes through io_uring.
 *
 * One ring, with room for all that may be under way: never more than `depth` attempts are given, the submission queue
 * has that many entries and the completion queue twice as many, so neither can overflow.
 *
 * From Linux 6.1 on the ring is SINGLE_ISSUER and DEFER_TASKRUN: the end of a transfer is only noted (and the event
 * signalled, once for all that end until the owner looks), and the owner turns the notes into completions when it
 * collects, so it is never interrupted for them. TASKRUN_FLAG shows in shared memory that there are notes; asking costs
 * no system call. Such a ring serves the thread that enables it: it is made disabled, by whoever creates the instance,
 * and enabled by the first hand-over. Older kernels have COOP_TASKRUN (5.19), or neither.
 *
 * No end is missed: a note or a completion is in place before its signal. Collecting clears the event first and looks
 * afterwards; what comes later signals again.
 *
 *   words   note        a transfer that has ended, waiting in the kernel for the owner's thread
 *           completion  its result, in the completion queue */

#include "tiering/tier_io_private.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <liburing/io_uring.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILE_INDEX = 0, SUBMIT_TRIES_MAX = 100 };

struct uring {
    struct io_uring ring;
    bool disabled;    /* until the first hand-over */
    bool fixed_file;  /* the file is registered: the kernel need not look it up and count it for each attempt */
    bool shows_notes; /* TASKRUN_FLAG */
};

/* The best first. What a kernel does not know it refuses with EINVAL. */
static const unsigned setups[] = {
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_R_DISABLED,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};

static int make_ring(struct uring *uring, unsigned depth) {
    int result = -EINVAL;
    for (unsigned i = 0; i < sizeof(setups) / sizeof(*setups) && result == -EINVAL; i++) {
        result = io_uring_queue_init(depth, &uring->ring, setups[i]);
        uring->disabled = setups[i] & IORING_SETUP_R_DISABLED;
        uring->shows_notes = setups[i] & IORING_SETUP_TASKRUN_FLAG;
    }
    return result;
}

/* Kernels before 5.6 have rings, but only for vectors. */
static bool knows_reads_and_writes(struct uring *uring) {
    if (uring->shows_notes) return true;
    struct io_uring_probe *probe = io_uring_get_probe_ring(&uring->ring);
    bool known =
        probe && io_uring_opcode_supported(probe, IORING_OP_READ) && io_uring_opcode_supported(probe, IORING_OP_WRITE);
    io_uring_free_probe(probe);
    return known;
}

static int uring_open(struct tier_io *io) {
    struct uring *uring = calloc(1, sizeof(*uring));
    if (!uring) return ENOMEM;
    int result = make_ring(uring, io->depth);
    if (result < 0) {
        free(uring);
        return -result;
    }
    result = knows_reads_and_writes(uring) ? io_uring_register_eventfd(&uring->ring, io->event_fd) : -ENOSYS;
    if (result < 0) {
        io_uring_queue_exit(&uring->ring);
        free(uring);
        return -result;
    }
    uring->fixed_file = io_uring_register_files(&uring->ring, &io->fd, 1) == 0;
    io->state = uring;
    return 0;
}

static void uring_close(struct tier_io *io) {
    struct uring *uring = io->state;
    /* A ring ends in the background; the file should not stay open (and locked) until then. */
    if (uring->fixed_file) (void)io_uring_unregister_files(&uring->ring);
    io_uring_queue_exit(&uring->ring);
    free(uring);
}

/* Tells the kernel of what stands in the submission queue. When it has no memory for that just now, the owner is made
 * to come back. */
static void submit(const struct tier_io *io, struct uring *uring) {
    for (unsigned tries = 0; tries < SUBMIT_TRIES_MAX && io_uring_sq_ready(&uring->ring) > 0; tries++) {
        int result = io_uring_submit(&uring->ring);
        assert(result != -EEXIST); /* a thread that is not the owner */
    }
    if (io_uring_sq_ready(&uring->ring) > 0) tier_io_signal_event(io);
}

/* Makes this thread the owner. By hand, for the shared library of liburing 2.3 forgets to export io_uring_enable_rings.
 */
static void enable(struct uring *uring) {
    long result = syscall(SYS_io_uring_register, uring->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    assert(result == 0);
    uring->disabled = false;
}

static void uring_give(struct tier_io *io, struct tier_io_queue *attempts) {
    struct uring *uring = io->state;
    if (uring->disabled) enable(uring);
    struct tier_op *op;
    while ((op = tier_io_queue_pop(attempts)) != NULL) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
        assert(sqe); /* as many entries as attempts may be given */
        struct tier_io_attempt next = tier_io_next_attempt(io, op);
        int file = uring->fixed_file ? FILE_INDEX : io->fd;
        if (op->write)
            io_uring_prep_write(sqe, file, next.memory, next.bytes, next.offset);
        else
            io_uring_prep_read(sqe, file, next.memory, next.bytes, next.offset);
        if (uring->fixed_file) sqe->flags |= IOSQE_FIXED_FILE;
        io_uring_sqe_set_data(sqe, op);
    }
    submit(io, uring);
}

static bool has_notes(const struct uring *uring) {
    return uring->shows_notes && (__atomic_load_n(uring->ring.sq.kflags, __ATOMIC_ACQUIRE) & IORING_SQ_TASKRUN);
}

static bool uring_has_ended(const struct tier_io *io) {
    const struct uring *uring = io->state;
    return io_uring_cq_ready(&uring->ring) > 0 || has_notes(uring) || io_uring_sq_ready(&uring->ring) > 0;
}

static void complete_notes(struct uring *uring) {
    int result = io_uring_get_events(&uring->ring);
    assert(result != -EEXIST); /* a thread that is not the owner; once the owner has ended, its notes stay notes */
}

static void take_completions(struct tier_io *io, struct uring *uring) {
    unsigned head, count;
    struct io_uring_cqe *cqe;
    do {
        count = 0;
        io_uring_for_each_cqe(&uring->ring, head, cqe) {
            tier_io_attempt_ended(io, io_uring_cqe_get_data(cqe), cqe->res);
            count++;
        }
        io_uring_cq_advance(&uring->ring, count);
    } while (count > 0);
}

/* Completing signals as well, so the event is cleared behind it. A note that comes between the two has then lost its
 * signal, but its mark is seen, and the second time the clearing comes first: what comes after that signals anew. There
 * is no third time, for the mark may be an old one: the kernel sets it after it has put the note down, so a note
 * completed in between leaves its mark behind until the next. */
static void uring_collect(struct tier_io *io) {
    struct uring *uring = io->state;
    if (io_uring_sq_ready(&uring->ring) > 0) submit(io, uring);
    if (has_notes(uring)) complete_notes(uring);
    tier_io_clear_event(io);
    take_completions(io, uring);
    if (!has_notes(uring)) return;
    tier_io_clear_event(io);
    complete_notes(uring);
    take_completions(io, uring);
}

const struct tier_io_way tier_io_way_uring = {
    .kind = TIER_IO_URING,
    .open = uring_open,
    .close = uring_close,
    .give = uring_give,
    .has_ended = uring_has_ended,
    .collect = uring_collect,
};
