#ifndef TERRACE_SERVER_MEMORY_LIMIT_H
#define TERRACE_SERVER_MEMORY_LIMIT_H

/* maxmemory: how much memory the process has, how near that is to the limit, and what is to be done about it.
 *
 *   bytes          0 .......................................... limit
 *   resident                              | soft  | calm | delay |      | gate
 *   (RSS)                             1/32 below   3/128  1/64     limit  1/64 above
 *
 *   above soft     records are evicted or demoted, between turns, until what cannot be given back otherwise is below
 *   above calm     freed memory is given back to the kernel at once, sparse pages are emptied
 *   above delay    commands that need memory wait
 *   gate           allocations of a megabyte and more never go beyond it
 *
 * A limit that is less than MEMORY_LEAST above what the process has at its start cannot bound the resident size; then
 * used memory counts instead, and commands wait as soon as that is above the limit; a single command may go beyond it,
 * as in Redis.
 *
 * Threads: any may call any of these. One at a time adds up; whoever comes meanwhile goes on with the last sums, but
 * looks at the resident size himself. A reservation belongs to the thread that made it. */

#include "base/stat_counter.h"
#include "server/allocator_purger.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct server;

enum { MEMORY_LEAST = 8 << 20 };

enum memory_level {
    MEMORY_EASY,
    MEMORY_MAKE_ROOM, /* near the limit: there is work, nobody waits */
    MEMORY_DELAY,     /* commands that need memory wait for it */
    MEMORY_REFUSE,    /* and nothing can be freed: they are refused */
};

/* What the judgement is made of. */
struct memory_figures {
    size_t limit_bytes; /* 0: none */
    size_t used_bytes;  /* handed out: records, index, buffers */
    size_t resident_bytes;
    size_t reclaimable_bytes; /* of these, what is free and can be given back */
    size_t demand_bytes;      /* somebody waits for so much at once */
    bool bounds_resident;
    bool can_free; /* there is something to evict or demote */
    bool refused;  /* commands were refused until now */
};

struct memory_judgement {
    enum memory_level level;
    size_t excess_bytes;  /* to be evicted or demoted */
    size_t reclaim_bytes; /* to be given back to the kernel */
    uint64_t fresh_ns;    /* how long the figures can be relied on */
};

/* Pure. */
struct memory_judgement memory_judge(const struct memory_figures *figures);

struct memory_limit {
    int statm_fd; /* /proc/self/statm; -1: not there */
    size_t kernel_page_bytes;
    size_t start_resident_bytes;
    atomic_flag refreshing;
    /* As configured, for threads that load as well: to them the configuration may be in the middle of a change. */
    _Atomic size_t limit_bytes; /* maxmemory; 0: none */
    atomic_bool evicts;         /* maxmemory-policy is not noeviction */
    /* Figures, as of the last refresh. */
    _Atomic size_t resident_bytes, shared_bytes, used_bytes, dirty_bytes, slack_bytes;
    _Atomic size_t allocator_bytes, allocator_dirty_bytes, allocator_floor_bytes;
    _Atomic size_t slack_floor_bytes;                       /* what compaction could not squeeze out the last time */
    _Atomic uint64_t due_ns, sums_due_ns, allocator_due_ns; /* of clock_monotonic_ns() */
    /* The judgement. */
    atomic_uint level; /* enum memory_level */
    _Atomic int64_t excess_bytes, reclaim_bytes;
    /* From others. */
    _Atomic size_t promised_bytes; /* granted by the gate or reserved, not resident yet */
    _Atomic size_t demand_bytes;
    _Atomic uint64_t demand_until_ns, exhausted_until_ns;
    /* For INFO. */
    stat_counter over_ns;                           /* time over the limit, ever; without the present one */
    _Atomic uint64_t over_since_ns, tight_since_ns; /* 0: not so at present */
    _Atomic uint64_t logged_ns;
    atomic_bool refused; /* the log has said so */
    struct allocator_purger purger;
};

/* At the end of the start, once workers and keyspace exist: measures, sets the gates, follows the configuration. */
void memory_limit_init(struct server *server);
void memory_limit_free(struct memory_limit *limit);

/* Resident bytes now, from the kernel; `shared`, if not NULL, is how many of them are of files and shared memory. Takes
 * about a microsecond. 0: unknown. */
size_t memory_resident_bytes(const struct memory_limit *limit, size_t *shared);

/* Looks again: `memory_limit_refresh` at once, the other if the figures are too old for how near the limit is. */
void memory_limit_refresh(struct server *server);
void memory_limit_refresh_if_due(struct server *server);

static inline enum memory_level memory_limit_level(const struct memory_limit *limit) {
    return (enum memory_level)atomic_load_explicit((atomic_uint *)(uintptr_t)&limit->level, memory_order_relaxed);
}

/* Reservations. A thread has one at a time: each of these gives up its last one, and keeps `bytes` for it if it returns
 * true. What is reserved counts as resident, for all others, until the next of these calls or memory_limit_release().
 *
 * Whether `bytes` more are still within the limit. */
bool memory_limit_reserve(struct server *server, size_t bytes);
/* Whether so much of a command may be read: as much as there is room for; where commands are refused, a little beyond
 * the limit, so that they can be. */
bool memory_limit_may_read(struct server *server, size_t bytes);
/* Whether so many bytes more, for a moment, are within what the limit may be exceeded by: for a command that is read
 * only to be refused. */
bool memory_limit_can_refuse(struct server *server, size_t bytes);
/* So many of them have become resident. */
void memory_limit_taken(struct memory_limit *limit, size_t bytes);
/* The memory has been taken, or never will be. */
void memory_limit_release(struct memory_limit *limit);

/* Whether they could ever be, with everything freed that can be. */
bool memory_limit_can_ever_fit(struct server *server, size_t bytes);
/* So far above the limit that replies have to wait as well. */
bool memory_limit_is_exceeded(struct server *server);

/* Whether compaction is likely to find something. */
bool memory_limit_has_holes(struct server *server);

/* Somebody waits for so much memory at once: room is made for it. */
void memory_limit_demand(struct server *server, size_t bytes);

/* What making room reports: freed (the excess shrinks by it), given back, nothing left to free, nothing left to
 * compact. */
void memory_limit_freed(struct memory_limit *limit, size_t bytes);
void memory_limit_given_back(struct memory_limit *limit, size_t bytes);
void memory_limit_exhausted(struct memory_limit *limit);
void memory_limit_compacted(struct memory_limit *limit);

/* Has the allocator give back its unused pages; returns about how much that was. Takes some dozens of microseconds for
 * a megabyte. */
size_t memory_limit_purge_allocator(struct memory_limit *limit);
/* The same soon, by another thread. */
void memory_limit_have_allocator_purged(struct memory_limit *limit);

/* How long memory has been short, in nanoseconds, with nothing left to free; 0: it is not so. */
uint64_t memory_limit_stuck_ns(struct server *server);
/* Milliseconds over the limit: since it last was below, and ever. */
void memory_limit_exceeded_ms(const struct memory_limit *limit, uint64_t *now_ms, uint64_t *ever_ms);

#endif
