#ifndef TERRACE_SERVER_PMEM_GATE_H
#define TERRACE_SERVER_PMEM_GATE_H

/* With a pool a reply means durable. Who brings the effects to the pool's journal is the worker itself, when replies of
 * its turn are about to leave (commit_gate.h):
 *
 *   commands of the turn    effects to the ring in memory (persist/journal.h), replies to the worker's block
 *   before the first write  under a lock: whatever the ring holds becomes one batch of the pool's journal, one fence
 *   then                    all replies leave
 *
 * So workers that come together commit together, and the order is the ring's. If another worker is just copying an
 * effect in front of ours, our replies are held until that one's turn ends.
 *
 * Space comes from checkpoints. Half full: one is wanted. Three quarters: commands that write wait. If it fails they
 * are refused (misconf.h) until one succeeds. An effect that does not fit at all cannot wait, as its command is half
 * done:
 *
 *   SOUND  ---no room for an effect--->  BEHIND  ---cut of a checkpoint--->  MENDING  ---it counts---> SOUND
 *                                          ^------------- it failed ------------'
 *
 *   BEHIND   effects are dropped, the gate is broken: whoever waits for a reply is closed, commands that write wait
 *   MENDING  effects are appended again, behind a mark (PMEM_FRAME_GAP) that nobody reads past but who begins there
 *
 * A server that begins with data the pool does not have (a snapshot that was loaded) begins BEHIND. A replica whose
 * dataset is replaced by a full copy falls BEHIND, too, without anything being dropped: until the checkpoint that
 * follows counts, a start finds the dataset before, with its history, and from then on the new one.
 *
 * What is appended is the replication stream, byte for byte, so the pool says where in which history it stands: the
 * manifest for the cut, a line in the journal wherever the id changes, and so many bytes behind it.
 *
 * Threads: as said at each function; all changes of the journal happen under `lock`. */

#include "persist/commit_gate.h"
#include "persist/rdb_file.h"
#include "pmem/pmem_journal.h"

#include <pthread.h>

struct journal_reader;
struct server;
struct text;
struct worker;

enum pmem_gate_state { PMEM_GATE_SOUND, PMEM_GATE_BEHIND, PMEM_GATE_MENDING };

/* Part of struct server. */
struct pmem_gate {
    struct commit_gate gate;
    struct server *server;
    struct pmem_journal *journal; /* NULL: there is no pool */
    struct pmem_place end;        /* of what was replayed */
    struct pmem_place first;      /* from where it was */
    pthread_mutex_t lock;
    struct journal_reader *reader; /* NULL: not begun, or ended */
    _Atomic int state;             /* enum pmem_gate_state */
    atomic_bool full;              /* and a checkpoint failed: writes are refused */
    atomic_bool late;              /* writes wait */
    atomic_bool urgent;            /* worker 0 is to look at once whether a checkpoint is due */
    _Atomic uint64_t losses;       /* times it fell BEHIND */
    struct rdb_history history;    /* of what was replayed, id "": not known; not kept up to date */
    uint64_t replayed_commands, replayed_frames;
    int64_t replay_ms;
};

/* At the start, before the journal's ring is made: the pool's journal, formatted if its area is blank. False: one line
 * in `error`. The area stays mapped until pmem_gate_end(). */
bool pmem_gate_open(struct server *server, const struct pmem_area *area, char *error, size_t room)
    __attribute__((warn_unused_result));
static inline bool pmem_gate_is_open(const struct pmem_gate *gate) {
    return gate->journal != NULL;
}
/* Whether there is anything behind `from`: the place in the manifest of the last checkpoint, {0, 0} without one. */
bool pmem_gate_has_tail(const struct server *server, struct pmem_place from);
/* On the loading thread, once the checkpoint has been recovered: runs what lies behind `from`, where the dataset stood
 * at `history`. False: the log says why, and nothing has changed in the pool. */
bool pmem_gate_replay(struct server *server, struct pmem_place from, const struct rdb_history *history)
    __attribute__((warn_unused_result));
/* All workers stand still, or do not run yet; pmem_gate_replay() has been called. From here on replies are held.
 * `covered`: all that is in memory comes from the pool. False: no memory. */
bool pmem_gate_begin(struct server *server, bool covered) __attribute__((warn_unused_result));
/* All workers have ended: brings what is left to the journal and closes it. The area is not used any more. */
void pmem_gate_end(struct server *server);

/* Around journal_restart(), and the change of the dataset that is the reason for it. All workers stand still. Nothing
 * happens unless it was begun. */
void pmem_gate_leave(struct server *server);
void pmem_gate_enter(struct server *server);
/* The id of the history has changed. Any worker's thread. */
void pmem_gate_tell_history(struct server *server);
/* The stream of a primary should wait for a checkpoint, as clients that write do. Any thread. */
bool pmem_gate_is_short(const struct server *server);

/* The cut of a checkpoint: all workers stand still. What the manifest has to remember. */
struct pmem_place pmem_gate_cut(struct server *server);
/* That checkpoint counts, or is given up. Any thread. */
void pmem_gate_checkpointed(struct server *server, struct pmem_place place);
void pmem_gate_checkpoint_failed(struct server *server);
/* It should be made now. Any thread. */
bool pmem_gate_wants_checkpoint(const struct server *server);

/* The end of a turn: what it appended without a reply, or others wait for. */
void pmem_gate_turn(struct worker *worker);

/* Commands that write are refused: why; NULL: they are not. Any thread. */
const char *pmem_gate_refusal(const struct server *server);

/* Of INFO pmem: the lines that begin with pmem_journal_. */
void pmem_gate_info(struct server *server, struct text *text);

#endif
