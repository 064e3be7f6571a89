#ifndef TERRACE_SERVER_MAKE_ROOM_H
#define TERRACE_SERVER_MAKE_ROOM_H

/* Making room: what a worker does when memory is near the limit (memory_limit.h), and how commands wait for it.
 *
 *   between turns       a slice of at most 100 microseconds: demote or evict what is in excess, give freed memory back,
 *                       empty sparse pages
 *   before a command    that needs memory, at the limit: one more slice; if that does not help the command waits, with
 *                       its connection, as it would for CLIENT PAUSE, and is asked again every millisecond
 *   after MAKE_ROOM_WAIT_MS it is refused
 *   for a long reply    of a command that reads: it is composed when there is room for all of it (reply_room.h)
 *
 * Other connections are served meanwhile; those that need no memory never notice.
 *
 * Threads: the worker's own. */

#include "base/random.h"
#include "keyspace/keyspace_evict.h"

#include <stdbool.h>
#include <stdint.h>

struct config;
struct command_host;
struct server;
struct session;
struct worker;

enum {
    MAKE_ROOM_WAIT_MS = 1000,
    MAKE_ROOM_REPLY_MS = 5000, /* for a long reply, while memory is being freed */
    MAKE_ROOM_DETACHED = 8,
};

/* Of one worker. */
struct make_room {
    struct eviction_pool pool;
    struct random random;
    /* Evicted large values that are being freed piece by piece. */
    struct {
        struct record *record;
        uint32_t shard;
    } detached[MAKE_ROOM_DETACHED];
    unsigned detached_count;
    uint32_t compact_shard;
    uint32_t evicted_shard; /* of the last eviction */
    uint32_t compact_idle;  /* shards in a row of which nothing could be moved */
    uint64_t spent_ns;      /* in this turn, by commands that asked */
    uint64_t allocator_ns;  /* when its unused pages were last given back */
    bool busy;              /* the last slice achieved something */
    bool somebody_waits;    /* a connection waits for memory */
    stat_counter evict_ns;  /* spent on making room, ever */
    /* What a command may have had to wait for at a stretch: the slice that follows a turn, and those before commands of
     * the next. By the clock, and by that of the thread, which stands still while others have the processor. */
    struct make_room_stretch {
        uint64_t ns, cpu_ns;
    } stretch;
    stat_counter longest_ns, longest_cpu_ns;
    stat_counter commands_held; /* that had to wait */
};

void make_room_init(struct worker *worker);

/* Once, at the start: installs what dispatchers ask. */
void make_room_attach(struct server *server);

/* Around work of the tier that is done between turns as well: it counts as a part of the stretch. */
struct make_room_stretch make_room_work_begins(void);
void make_room_work_ends(struct worker *worker, struct make_room_stretch since);

/* After each turn. */
void make_room_turn(struct worker *worker);
/* Whether there is so much to do that the worker should not sleep. */
bool make_room_is_due(const struct worker *worker);
/* How long it may sleep, given how long it otherwise would: milliseconds. */
int make_room_wait_ms(const struct worker *worker, int otherwise_ms);

/* The rule of the configured maxmemory-policy; false: nothing may be evicted. */
bool make_room_rule(const struct config *config, struct eviction_rule *rule);

#endif
