#ifndef TERRACE_COMMAND_PREFETCH_H
#define TERRACE_COMMAND_PREFETCH_H

/* Prefetching works ahead of execution in groups of keys:
 *
 *   step          0          1            2              3
 *   buckets of    group 0    group 1      group 2        group 3
 *   records of               group 0      group 1        group 2
 *   and, of big collections, the pages
 *   of elements                           group 0        group 1
 *   then run                              group 0        group 1
 *
 * so memory works while commands run. A group's requests are issued together, because each first has to be translated,
 * and the processor overlaps only those translations that stand close to each other.
 *
 * Threads: a worker's own. It reads indexes without locks (retire.h); the roots of big collections it reads only where
 * there is no other worker. */

#include "command/dispatch.h"

struct prefetcher {
    struct dispatcher *dispatcher;
    uint32_t database;
    size_t count;                            /* keys of the batch in the arena */
    size_t buckets, records;                 /* requested so far */
    size_t ready;                            /* keys whose records were requested a step ago */
    const struct request *next, *end;        /* whose elements of big collections are to be requested */
    const struct request *reaching, *behind; /* the next whose records are to be, and the end of all */
    struct index_hint hints[LIMIT_BATCH_KEYS];
};

/* For the first `keys` keys of the dispatcher's arena, which are those of `requests`. */
void prefetch_begin(struct prefetcher *prefetcher, struct dispatcher *dispatcher, uint32_t database, size_t keys,
                    const struct request *requests, unsigned count);
void prefetch_step(struct prefetcher *prefetcher);
/* Where the value will be put that the command brings, if it is a large one: memory that was freed a while ago. */
void prefetch_room(const struct dispatcher *dispatcher, const struct request *request);

/* To be called before a command runs whose last key is number `last`. */
static inline void prefetch_up_to(struct prefetcher *prefetcher, size_t last) {
    while (last >= prefetcher->ready) prefetch_step(prefetcher);
}

#endif
