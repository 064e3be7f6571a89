#ifndef TERRACE_SERVER_TIER_PERSIST_H
#define TERRACE_SERVER_TIER_PERSIST_H

/* A tier that persists (tier-persist yes), in the server: when checkpoints are made, and how a start goes on from the
 * last one. What a checkpoint is stands in persist/checkpoint.h and persist/recovery.h.
 *
 * Made: every tier-checkpoint-seconds if anything changed; when the tier waits for space that one would set free; after
 * the append-only file was rewritten; after a full copy of a primary was loaded; at a shutdown, unless NOSAVE.
 *
 * With the append-only file, a checkpoint's cut is also the beginning of a new increment, so what happened since is
 * whole increments. The manifest of the tier says which, and tells it from another of the same name by its first line.
 *
 *   at the start     the append-only file is off     it is on
 *   no checkpoint    the snapshot file, as ever      the append-only file, as ever
 *   a checkpoint     the checkpoint                  the checkpoint and the increments behind it, if they are there;
 *                                                    without any append-only file: the checkpoint, which becomes its
 *                                                    base. Otherwise the append-only file alone: it knows more
 *
 * A checkpoint that is damaged, or does not fit, ends the start with one line.
 *
 * Threads: worker 0, where not said otherwise. */

#include "persist/checkpoint.h"
#include "pmem/pmem_journal.h"

#include <stdatomic.h>

struct aof_manifest;
struct rdb_history;
struct server;
struct text;

struct tier_persist {
    atomic_bool making; /* from when one is begun, on any worker's thread, until it has ended */
    int64_t next_ms;
    uint64_t changes_at;               /* of the keyspace, at the cut of the last one that counts */
    int64_t last_ms, last_duration_ms; /* 0: none was made */
    uint64_t made, failures;
    struct checkpoint_figures last;
    uint64_t number;         /* of the one that counts; 0: none that is known to */
    uint64_t recovered_keys; /* at the start */
    int64_t recovery_ms;
    uint64_t journal_sequence; /* increments from here on are behind the last checkpoint; 0: it has none */
    bool failed;
    bool wanted;   /* another dataset has taken the place of the one it has */
    bool withheld; /* there is none: what the last checkpoint has is worth more */
};

/* Before the server runs. The name of the tier's checkpoints begins with this. */
void tier_persist_prefix(const struct server *server, char prefix[CHECKPOINT_PATH_MAX]);
/* With a pool of persistent memory: where its journal goes on behind the checkpoint that counts, {0, 0} without one. */
struct pmem_place tier_persist_pool_place(const struct server *server);
/* Where the checkpoint that counts stands in the history of replication; its id is "" if it does not say. */
void tier_persist_history(const struct server *server, struct rdb_history *history);
/* Whether there is a checkpoint to start from. */
bool tier_persist_has_checkpoint(const struct server *server);

enum tier_persist_loaded { TIER_PERSIST_NOTHING, TIER_PERSIST_LOADED, TIER_PERSIST_FAILED };
/* On the loading thread: the checkpoint, with its collections. `manifest` is that of the append-only file, NULL if that
 * is off or there is none; if increments are to be loaded behind the checkpoint, all that is older is taken out of it.
 * NOTHING: nothing was loaded, go on as without; FAILED: the log says why. */
enum tier_persist_loaded tier_persist_load(struct server *server, struct aof_manifest *manifest);

/* All workers stand still: what the last checkpoint has is no longer what there is, so another one is made soon. */
void tier_persist_hasten(struct server *server);
/* The same, but a replica's copy could not be loaded: the dataset that was given up for it stays what a start finds,
 * until there is another one, or the server is a primary. */
void tier_persist_withhold(struct server *server);
/* Every tick. */
void tier_persist_tick(struct server *server);
/* At a shutdown, on any worker's thread: makes one, when no other snapshot is running any more, and waits. False: it
 * was not made, and the log says why. */
bool tier_persist_now(struct server *server, unsigned worker);

/* Of INFO tier. */
void tier_persist_info(const struct server *server, struct text *text);

#endif
