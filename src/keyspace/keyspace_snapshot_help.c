/* Slices of a walk that workers take for the walkers.
 *
 * A walker runs behind everybody else, so the kernel may put it aside at any point, also where it holds a shard's lock;
 * then a worker that wants the shard sleeps for as long as others keep the walker from running, which are milliseconds.
 * Therefore a walker does not lock shards that workers are busy with. It offers the slice, and a worker fills it
 * between two of its turns, where it costs the worker's clients the time of the copies and nothing else:
 *
 *   walker   EMPTY -> OFFERED        sleeps on the word
 *   worker   OFFERED -> TAKEN        whoever changes it has the slice
 *   worker   TAKEN -> FILLED         wakes the walker
 *   walker   OFFERED -> EMPTY        has waited too long, and takes the slice itself
 *
 * Helpers are workers that are serving clients, and look at the offers in each turn. A worker that runs out of work
 * first stops being one and then looks once more; a walker first offers and then looks whether there are helpers. One
 * of them sees the other, so no offer is left to workers that are asleep for long, and these are not woken for it:
 * walkers of an idle server lock shards themselves, as nobody wants them. A worker that is busy altogether helps also
 * while it sleeps for the moment until its clients have sent more: an offer waits for it.
 *
 * A helper may be kept from its turn: by a long command, or by the kernel. Then walkers go on by themselves for a
 * while. */

#include "keyspace/keyspace_snapshot_private.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SERVED_NS = 40000,      /* of a slice that a worker takes: its clients wait for it */
    PATIENCE_NS = 20000000, /* longer than most turns, and than a busy worker lets pass between two slices */
    ALONE_SLICES = 32,      /* after it is lost */
};

enum snapshot_offer { OFFER_EMPTY, OFFER_OPEN, OFFER_TAKEN, OFFER_FILLED };

/* ---- workers ---- */

void keyspace_snapshot_help(struct keyspace *keyspace, bool helps) {
    if (helps)
        atomic_fetch_add(&keyspace->snapshot_helpers, 1);
    else
        atomic_fetch_sub(&keyspace->snapshot_helpers, 1);
}

bool keyspace_snapshot_has_offer(const struct keyspace *keyspace) {
    struct keyspace_snapshot *snapshot = atomic_load_explicit(&keyspace->snapshot, memory_order_acquire);
    for (unsigned i = 0; snapshot && i < snapshot->lane_count; i++)
        if (atomic_load(&snapshot->lanes[i].offer) == OFFER_OPEN) return true;
    return false;
}

static bool change_offer(struct snapshot_lane *lane, uint32_t from, uint32_t to) {
    return atomic_compare_exchange_strong(&lane->offer, &from, to);
}

/* The lanes in turn: a worker has time for few slices, and one that is always passed over would lose patience. */
bool keyspace_snapshot_serve(struct keyspace *keyspace) {
    struct keyspace_snapshot *snapshot = atomic_load_explicit(&keyspace->snapshot, memory_order_acquire);
    unsigned first = snapshot ? atomic_load_explicit(&snapshot->next_served, memory_order_relaxed) : 0;
    for (unsigned i = 0; snapshot && i < snapshot->lane_count; i++) {
        unsigned number = (first + i) % snapshot->lane_count;
        struct snapshot_lane *lane = &snapshot->lanes[number];
        if (atomic_load_explicit(&lane->offer, memory_order_relaxed) != OFFER_OPEN ||
            !change_offer(lane, OFFER_OPEN, OFFER_TAKEN))
            continue;
        atomic_store_explicit(&snapshot->next_served, number + 1, memory_order_relaxed);
        lane->part_done = lane->walker->part(lane->walker, SERVED_NS);
        atomic_store(&lane->offer, OFFER_FILLED);
        syscall(SYS_futex, &lane->offer, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        return true;
    }
    return false;
}

/* ---- walkers ---- */

static void sleep_while(struct snapshot_lane *lane, enum snapshot_offer offer) {
    const struct timespec patience = {.tv_nsec = PATIENCE_NS};
    syscall(SYS_futex, &lane->offer, FUTEX_WAIT_PRIVATE, offer, &patience, NULL, 0);
}

bool snapshot_have_done(struct walker *walker, bool *part_done) {
    struct keyspace *keyspace = walker->snapshot->keyspace;
    struct snapshot_lane *lane = walker->lane;
    if (atomic_load_explicit(&keyspace->snapshot_helpers, memory_order_relaxed) == 0) return false;
    if (lane->alone > 0) {
        lane->alone--;
        return false;
    }
    lane->walker = walker;
    atomic_store(&lane->offer, OFFER_OPEN);
    if (atomic_load(&keyspace->snapshot_helpers) == 0) {
        if (change_offer(lane, OFFER_OPEN, OFFER_EMPTY)) return false;
    } else {
        sleep_while(lane, OFFER_OPEN);
        if (change_offer(lane, OFFER_OPEN, OFFER_EMPTY)) {
            lane->alone = ALONE_SLICES;
            return false;
        }
    }
    while (atomic_load(&lane->offer) != OFFER_FILLED) sleep_while(lane, OFFER_TAKEN);
    atomic_store(&lane->offer, OFFER_EMPTY);
    *part_done = lane->part_done;
    return true;
}
