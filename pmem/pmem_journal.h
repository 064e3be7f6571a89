#ifndef TERRACE_PMEM_PMEM_JOURNAL_H
#define TERRACE_PMEM_PMEM_JOURNAL_H

/* The journal of a pool (journal_layout.h): batches of bytes that are durable when the append returns, and reading them
 * back after whatever happened.
 *
 *   journal = pmem_journal_open()            formats a blank area; changes nothing of another
 *   pmem_journal_read_from(), _next() ...    from the place the last checkpoint tells, to the end
 *   pmem_journal_resume()                    appends behind that end from now on
 *   pmem_journal_append() ...
 *   pmem_journal_reclaim()                   a later checkpoint counts: what lies before its place is not needed
 *
 *   |--- free ---|------------- needed -------------|--- free ---|
 *                first                             end
 *
 * What the bytes mean is the caller's business; an effect that is cut is given out with a mark (`open`), and if its end
 * never came the caller drops it.
 *
 * Threads: one at a time, but for the figures. */

#include "base/span.h"
#include "pmem/area.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pmem_journal;

/* Where a frame begins, or will begin. {0, 0}: the journal's beginning. */
struct pmem_place {
    uint64_t sequence, position;
};

/* The area outlives the journal. `made` (may be NULL): it was blank and has been formatted; a `read_only` one is not.
 * NULL: one line in `error`. */
struct pmem_journal *pmem_journal_open(const struct pmem_area *area, bool read_only, bool *made, char *error,
                                       size_t error_bytes);
/* What was appended stays. NULL is allowed. */
void pmem_journal_close(struct pmem_journal *journal);

/* ---- reading; before pmem_journal_resume() ---- */

struct pmem_journal_reading {
    struct pmem_place next; /* the frame that pmem_journal_next() looks at */
    uint64_t begun;         /* the position of the first */
    uint32_t generation;    /* of the last one */
    char error[160];        /* DAMAGED: what is wrong, in a few words */
};

struct pmem_journal_frame {
    struct span payload; /* of the area itself; empty: a gap, with which the reading has begun */
    uint64_t sequence;
    bool open;    /* goes on in the next */
    bool history; /* the payload is no effect but a line of history */
};

enum pmem_journal_found {
    PMEM_JOURNAL_FRAME,
    PMEM_JOURNAL_END,     /* nothing that was durable lies behind, or nothing that fits: a gap */
    PMEM_JOURNAL_DAMAGED, /* what lies here was durable, and cannot be read any more */
};

/* False: no frame can begin there. */
bool pmem_journal_read_from(struct pmem_place place, struct pmem_journal_reading *reading)
    __attribute__((warn_unused_result));
enum pmem_journal_found pmem_journal_next(const struct pmem_journal *journal, struct pmem_journal_reading *reading,
                                          struct pmem_journal_frame *frame);

/* ---- writing ---- */

/* A new generation begins, durably, with the frame at `end`; what is there now is given up. What lies before `first` is
 * not needed. Preconditions: first <= end, at most the capacity between them; not read-only. */
void pmem_journal_resume(struct pmem_journal *journal, struct pmem_place first, struct pmem_place end);

/* Appends the bytes of all pieces: durable on return, with one fence. `open`: they end within an effect. False: there
 * is no room, and nothing has been written; or pmem_journal_has_failed(). Nothing to append is a precondition's
 * breach. */
bool pmem_journal_append(struct pmem_journal *journal, const struct span *pieces, unsigned count, bool open)
    __attribute__((warn_unused_result));

/* Something is missing from here on: who reads on from an earlier place finds the end. False: no room. */
bool pmem_journal_append_gap(struct pmem_journal *journal) __attribute__((warn_unused_result));

/* A line of history (journal_layout.h), durable on return. False: as of an append. */
bool pmem_journal_append_history(struct pmem_journal *journal, struct span line) __attribute__((warn_unused_result));

/* The medium has failed under an append (media.h): nothing can be appended any more. What was durable stays so, as far
 * as it can be read. Any thread. */
bool pmem_journal_has_failed(const struct pmem_journal *journal);

/* Where the next frame will begin: what a checkpoint with its cut here has to remember. */
struct pmem_place pmem_journal_end(const struct pmem_journal *journal);
/* What lies before `first`, which was an end once, is not needed any more. */
void pmem_journal_reclaim(struct pmem_journal *journal, struct pmem_place first);
/* The witness on the medium, and everything else that was written: for an end in good order. */
void pmem_journal_settle(struct pmem_journal *journal);

/* ---- figures; any thread ---- */

struct pmem_journal_figures {
    uint64_t capacity_bytes, used_bytes;
    uint64_t batches, frames, payload_bytes, frame_bytes; /* appended since the resumption */
    uint64_t sequence;                                    /* of the next frame */
    uint32_t generation;
};
struct pmem_journal_figures pmem_journal_figures(const struct pmem_journal *journal);
/* Of them, for those who look often. */
uint64_t pmem_journal_used(const struct pmem_journal *journal);
uint64_t pmem_journal_capacity(const struct pmem_journal *journal);

#endif
