/* Effects into the pool's journal, and replies out once they are there. See pmem_gate.h.
 *
 * `lock` is taken for one copy, one flush and one fence; who finds all that it needs durable when it gets the lock has
 * been served by the one before. It is taken within locks of shards where the ring is full, so nothing that waits for a
 * shard may be done under it. */

#include "server/pmem_gate.h"

#include "base/log.h"
#include "persist/journal.h"
#include "server/journaling.h"
#include "server/misconf.h"
#include "server/server.h"
#include "server/text.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
    SPINS = 200,            /* looks at another worker's copy of an effect: it takes less, unless that one sleeps */
    LATE_PART = 4,          /* writes wait while less than this part of the journal is free */
    RESERVE_PART = 16,      /* for what is appended while MENDING */
    FRAME_OVERHEAD = 128,   /* at most: header, and the rest of the last line */
    TAIL_BYTES = 256 << 20, /* of small commands: what two lanes replay in a second or two */
};

/* ---- the state ---- */

static uint64_t free_bytes(const struct pmem_journal *journal) {
    return pmem_journal_capacity(journal) - pmem_journal_used(journal);
}

/* Half full, or as much as a start should have to replay. */
static bool is_long(const struct pmem_journal *journal) {
    uint64_t half = pmem_journal_capacity(journal) / 2;
    return pmem_journal_used(journal) > (half < TAIL_BYTES ? half : TAIL_BYTES);
}

bool pmem_gate_wants_checkpoint(const struct server *server) {
    const struct pmem_gate *gate = &server->pmem_gate;
    if (!gate->reader || pmem_journal_has_failed(gate->journal)) return false; /* it would mend nothing */
    return atomic_load((_Atomic int *)(uintptr_t)&gate->state) != PMEM_GATE_SOUND || is_long(gate->journal);
}

/* Commands that write wait, unless they are refused: with `lock` held. */
static void set_late(struct pmem_gate *gate) {
    bool needy = atomic_load(&gate->state) != PMEM_GATE_SOUND ||
                 free_bytes(gate->journal) < pmem_journal_capacity(gate->journal) / LATE_PART;
    bool late = needy && !atomic_load(&gate->full);
    if (late == atomic_load_explicit(&gate->late, memory_order_relaxed)) return;
    atomic_store(&gate->late, late);
    journal_set_late(gate->server->journal, late);
}

/* Worker 0 makes checkpoints on its ticks, which may be far away. */
static void press(struct pmem_gate *gate) {
    if (atomic_exchange(&gate->urgent, true)) return;
    worker_wake(gate->server->workers[0]);
}

static void wake_holders(struct pmem_gate *gate) {
    struct server *server = gate->server;
    for (unsigned i = 0; i < server->worker_count; i++)
        if (atomic_load(&server->workers[i]->io.holds)) worker_wake(server->workers[i]);
}

/* What waits for replies that depend on dropped effects is never answered. With `lock` held; that writes wait has to
 * stand before the gate lets later turns reply. */
static void fall_behind(struct pmem_gate *gate) {
    bool failed = pmem_journal_has_failed(gate->journal);
    if (failed && !atomic_exchange(&gate->full, true))
        log_warning("the medium of the pool's journal has failed: commands that write are refused until the server is "
                    "started with a sound pool; what was acknowledged is read as before");
    if (failed)
        misconf_refresh(gate->server);
    else if (atomic_load(&gate->state) != PMEM_GATE_MENDING)
        log_warning("the journal of the pool has no room for an effect: its client is closed, and commands that write "
                    "wait for a checkpoint. A larger pool has a larger journal");
    atomic_fetch_add(&gate->losses, 1);
    atomic_store(&gate->state, PMEM_GATE_BEHIND);
    set_late(gate);
    if (commit_gate_state(&gate->gate) != COMMIT_GATE_BROKEN) atomic_fetch_add(&gate->gate.breaks, 1);
    atomic_store(&gate->gate.state, COMMIT_GATE_BROKEN);
    press(gate);
}

/* ---- committing ---- */

static bool fits(const struct pmem_gate *gate, size_t bytes) {
    uint64_t frames = bytes / (1 << 20) + 2, needed = bytes + frames * FRAME_OVERHEAD;
    uint64_t reserve = pmem_journal_capacity(gate->journal) / RESERVE_PART;
    return atomic_load(&gate->state) == PMEM_GATE_MENDING || needed + reserve <= free_bytes(gate->journal);
}

/* All that has been copied to the ring becomes durable. With `lock` held. */
static void take_all(struct pmem_gate *gate) {
    struct span spans[2];
    bool boundary;
    unsigned count = journal_peek(gate->reader, spans, &boundary);
    if (count == 0) return;
    size_t bytes = spans[0].length + (count > 1 ? spans[1].length : 0);
    if (atomic_load_explicit(&gate->state, memory_order_relaxed) != PMEM_GATE_BEHIND &&
        (!fits(gate, bytes) || !pmem_journal_append(gate->journal, spans, count, !boundary)))
        fall_behind(gate);
    journal_advance(gate->reader, bytes);
    if (atomic_load_explicit(&gate->state, memory_order_relaxed) == PMEM_GATE_BEHIND) return;
    atomic_store(&gate->gate.durable, journal_reader_position(gate->reader));
    set_late(gate);
    if (atomic_load_explicit(&gate->late, memory_order_relaxed) ||
        (is_long(gate->journal) && snapshot_job_purpose(gate->server) == SNAPSHOT_NONE))
        press(gate);
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void commit(void *ctx) {
    struct pmem_gate *gate = ctx;
    const struct journal *journal = gate->server->journal;
    uint64_t wanted = journal_end(journal);
    for (unsigned i = 0; i < SPINS && journal_committed(journal, NULL) < wanted; i++) relax();
    if (commit_gate_durable(&gate->gate) >= wanted) return;
    pthread_mutex_lock(&gate->lock);
    take_all(gate);
    pthread_mutex_unlock(&gate->lock);
    if (gate->server->worker_count > 1) wake_holders(gate);
}

/* Called within a command, when the ring is full. */
static void drain(void *ctx) {
    struct pmem_gate *gate = ctx;
    pthread_mutex_lock(&gate->lock);
    take_all(gate);
    pthread_mutex_unlock(&gate->lock);
}

void pmem_gate_turn(struct worker *worker) {
    struct pmem_gate *gate = &worker->server->pmem_gate;
    if (worker->id == 0 && __builtin_expect(atomic_load_explicit(&gate->urgent, memory_order_relaxed), 0)) {
        atomic_store(&gate->urgent, false);
        worker->next_tick_ns = 0;
    }
    if (journal_reader_position(gate->reader) != journal_end(worker->server->journal)) commit(gate);
}

/* ---- checkpoints ---- */

struct pmem_place pmem_gate_cut(struct server *server) {
    struct pmem_gate *gate = &server->pmem_gate;
    pthread_mutex_lock(&gate->lock);
    take_all(gate);
    journal_forget_database(server->journal);
    struct pmem_place place = pmem_journal_end(gate->journal);
    if (atomic_load(&gate->state) != PMEM_GATE_SOUND && pmem_journal_append_gap(gate->journal))
        atomic_store(&gate->state, PMEM_GATE_MENDING);
    pthread_mutex_unlock(&gate->lock);
    return place;
}

static void set_full(struct pmem_gate *gate, bool full) {
    if (atomic_exchange(&gate->full, full) != full && full)
        log_warning("the journal of the pool is full and no checkpoint can be made: commands that write are refused");
    misconf_refresh(gate->server);
}

void pmem_gate_checkpointed(struct server *server, struct pmem_place place) {
    struct pmem_gate *gate = &server->pmem_gate;
    if (!gate->reader) return;
    pthread_mutex_lock(&gate->lock);
    pmem_journal_reclaim(gate->journal, place);
    if (atomic_load(&gate->state) == PMEM_GATE_MENDING) {
        atomic_store(&gate->state, PMEM_GATE_SOUND);
        atomic_store(&gate->gate.durable, journal_reader_position(gate->reader));
        atomic_store(&gate->gate.state, COMMIT_GATE_HOLDS);
        log_notice("the pool has all data: commands that write go on");
    }
    atomic_store(&gate->full, pmem_journal_has_failed(gate->journal));
    set_late(gate);
    pthread_mutex_unlock(&gate->lock);
    misconf_refresh(server);
    wake_holders(gate);
    if (replication_is_replica(&server->replication)) press(gate); /* a stream that was held up goes on by a tick */
}

void pmem_gate_checkpoint_failed(struct server *server) {
    struct pmem_gate *gate = &server->pmem_gate;
    if (!gate->reader) return;
    pthread_mutex_lock(&gate->lock);
    if (atomic_load(&gate->state) == PMEM_GATE_MENDING) atomic_store(&gate->state, PMEM_GATE_BEHIND);
    bool full = atomic_load(&gate->late);
    pthread_mutex_unlock(&gate->lock);
    if (!full) return;
    set_full(gate, true); /* before writes are let go */
    pthread_mutex_lock(&gate->lock);
    set_late(gate);
    pthread_mutex_unlock(&gate->lock);
}

const char *pmem_gate_refusal(const struct server *server) {
    if (!atomic_load((atomic_bool *)(uintptr_t)&server->pmem_gate.full)) return NULL;
    if (server->pmem_gate.journal && pmem_journal_has_failed(server->pmem_gate.journal))
        return "MISCONF Errors writing to the pool: the medium of its journal has failed, see the log";
    return "MISCONF Errors writing to the pool: its journal is full and no checkpoint can be made, see the log";
}

bool pmem_gate_is_short(const struct server *server) {
    const struct pmem_gate *gate = &server->pmem_gate;
    if (!gate->reader || atomic_load((atomic_bool *)(uintptr_t)&gate->full)) return false;
    return atomic_load((_Atomic int *)(uintptr_t)&gate->state) != PMEM_GATE_BEHIND &&
           free_bytes(gate->journal) < pmem_journal_capacity(gate->journal) / LATE_PART;
}

/* ---- history ---- */

static void tell_history(struct pmem_gate *gate) {
    struct replication *replication = &gate->server->replication;
    int64_t database = replication_is_replica(replication) ? atomic_load(&replication->stream_database) : -1;
    char line[REPLICATION_ID + 48];
    int length = snprintf(line, sizeof(line), "%s %" PRIu64 " %" PRId64, replication->id,
                          journal_reader_position(gate->reader), database);
    if (!pmem_journal_append_history(gate->journal, span_of(line, (size_t)length))) fall_behind(gate);
}

void pmem_gate_tell_history(struct server *server) {
    struct pmem_gate *gate = &server->pmem_gate;
    if (!gate->reader) return;
    pthread_mutex_lock(&gate->lock);
    take_all(gate);
    if (atomic_load(&gate->state) != PMEM_GATE_BEHIND) tell_history(gate); /* else the checkpoint says it */
    pthread_mutex_unlock(&gate->lock);
}

void pmem_gate_leave(struct server *server) {
    struct pmem_gate *gate = &server->pmem_gate;
    if (!gate->reader) return;
    pthread_mutex_lock(&gate->lock);
    take_all(gate);
    journal_set_drain(server->journal, NULL, NULL);
    journal_detach(gate->reader);
    gate->reader = NULL;
    pthread_mutex_unlock(&gate->lock);
}

/* What is held is of the dataset before, all of which has just become durable; positions mean something else from now
 * on, so it is let go by the state. */
void pmem_gate_enter(struct server *server) {
    struct pmem_gate *gate = &server->pmem_gate;
    if (!gate->gate.commit || !gate->journal || gate->reader) return;
    pthread_mutex_lock(&gate->lock);
    gate->reader = journal_attach(server->journal, journal_end(server->journal), true);
    assert(gate->reader); /* it takes the place that was given up */
    journal_set_drain(server->journal, drain, gate);
    atomic_store(&gate->gate.durable, journal_end(server->journal));
    atomic_store(&gate->state, PMEM_GATE_BEHIND);
    atomic_store(&gate->gate.state, COMMIT_GATE_OPEN);
    set_late(gate);
    pthread_mutex_unlock(&gate->lock);
    wake_holders(gate);
    press(gate);
}

/* ---- begin and end ---- */

bool pmem_gate_open(struct server *server, const struct pmem_area *area, char *error, size_t room) {
    struct pmem_gate *gate = &server->pmem_gate;
    gate->server = server;
    pthread_mutex_init(&gate->lock, NULL);
    gate->journal = pmem_journal_open(area, server->offline, NULL, error, room);
    return gate->journal != NULL;
}

/* The pool says already where the dataset stands. */
static bool is_as_replayed(const struct pmem_gate *gate) {
    return strcmp(gate->history.id, gate->server->replication.id) == 0 &&
           gate->history.offset == journal_reader_position(gate->reader);
}

bool pmem_gate_begin(struct server *server, bool covered) {
    struct pmem_gate *gate = &server->pmem_gate;
    uint64_t from = journal_end(server->journal);
    pmem_journal_resume(gate->journal, gate->first, gate->end);
    journal_forget_database(server->journal);
    gate->reader = journal_attach(server->journal, from, true);
    if (!gate->reader) return false;
    journal_set_drain(server->journal, drain, gate);
    atomic_store(&gate->gate.durable, from);
    atomic_store(&gate->gate.state, covered ? COMMIT_GATE_HOLDS : COMMIT_GATE_BROKEN);
    atomic_store(&gate->state, covered ? PMEM_GATE_SOUND : PMEM_GATE_BEHIND);
    gate->gate.ctx = gate;
    gate->gate.commit = commit;
    set_late(gate);
    for (unsigned i = 0; i < server->worker_count; i++) server->workers[i]->io.gate = &gate->gate;
    journaling_refresh(server);
    if (covered && !is_as_replayed(gate)) tell_history(gate);
    if (pmem_gate_wants_checkpoint(server)) press(gate);
    return true;
}

void pmem_gate_end(struct server *server) {
    struct pmem_gate *gate = &server->pmem_gate;
    if (gate->reader) {
        take_all(gate);
        if (atomic_load(&gate->state) == PMEM_GATE_SOUND) pmem_journal_settle(gate->journal);
        journal_set_drain(server->journal, NULL, NULL);
        journal_detach(gate->reader);
        gate->reader = NULL;
        journaling_refresh(server);
    }
    pmem_journal_close(gate->journal);
    gate->journal = NULL;
}

/* ---- INFO ---- */

void pmem_gate_info(struct server *server, struct text *text) {
    static const char *const states[] = {"ok", "behind", "mending"};
    const struct pmem_gate *gate = &server->pmem_gate;
    if (!gate->journal) return;
    struct pmem_journal_figures figures = pmem_journal_figures(gate->journal);
    typedef unsigned long long ull;
    text_add(text, "pmem_journal_status:%s\r\npmem_journal_size:%llu\r\npmem_journal_used:%llu\r\n",
             pmem_journal_has_failed(gate->journal) ? "failed"
                                                    : states[atomic_load((_Atomic int *)(uintptr_t)&gate->state)],
             (ull)figures.capacity_bytes, (ull)figures.used_bytes);
    text_add(text, "pmem_journal_batches:%llu\r\npmem_journal_frames:%llu\r\npmem_journal_sequence:%llu\r\n",
             (ull)figures.batches, (ull)figures.frames, (ull)figures.sequence);
    text_add(text, "pmem_journal_payload_bytes:%llu\r\npmem_journal_written_bytes:%llu\r\n", (ull)figures.payload_bytes,
             (ull)figures.frame_bytes);
    text_add(text, "pmem_journal_writes_wait:%d\r\npmem_journal_losses:%llu\r\n",
             atomic_load((atomic_bool *)(uintptr_t)&gate->late),
             (ull)atomic_load((_Atomic uint64_t *)(uintptr_t)&gate->losses));
    text_add(text, "pmem_journal_replayed_commands:%llu\r\npmem_journal_replay_ms:%lld\r\n",
             (ull)gate->replayed_commands, (long long)gate->replay_ms);
}
