#ifndef TERRACE_PERSIST_COMMIT_GATE_H
#define TERRACE_PERSIST_COMMIT_GATE_H

/* What may be told to clients. Under `appendfsync always` a reply must not leave before everything it may have seen is
 * on the disk: neither the acknowledgement of a write, nor the value another client's write has left.
 *
 *   worker, at the end of a turn      position = journal_end(); holds what it composed until durable >= position
 *   the writer of the append-only file, after each fsync      durable = position; wakes the workers that hold something
 *
 *
 * Where the worker itself can make things durable (the journal of a pool), `commit` does: whoever is about to hold
 * calls it first, and mostly need not hold any more.
 *
 * Every effect a reply depends on has been appended before the reply was composed, under the lock of its shard; so the
 * end of the journal, read afterwards, covers it.
 *
 * States, set by the writer alone:
 *   OPEN    nothing is held: another policy, or no append-only file, or not everything is in it yet
 *   HOLDS   as above
 *   BROKEN  the file cannot be written. What is held is never sent: its connections are closed, so that their clients
 *           know only that they do not know. Whatever a turn composed in which the gate broke is treated the same, as
 * it may tell of a change that is lost. Later turns reply freely, since they refuse to write.
 *
 * Threads: any. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum commit_gate_state { COMMIT_GATE_OPEN, COMMIT_GATE_HOLDS, COMMIT_GATE_BROKEN };

struct commit_gate {
    _Atomic int state;         /* enum commit_gate_state */
    _Atomic uint64_t durable;  /* journal position up to which all is on the disk */
    _Atomic uint64_t breaks;   /* times the gate broke: what was held before is not to be sent */
    _Atomic uint64_t holds;    /* replies held so far, of all workers; for forming groups */
    void (*commit)(void *ctx); /* NULL: it happens by itself. Any worker's thread; no lock of a shard is held */
    void *ctx;
};

static inline int commit_gate_state(const struct commit_gate *gate) {
    return atomic_load_explicit((_Atomic int *)(uintptr_t)&gate->state, memory_order_acquire);
}

static inline uint64_t commit_gate_durable(const struct commit_gate *gate) {
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&gate->durable, memory_order_acquire);
}

#endif
