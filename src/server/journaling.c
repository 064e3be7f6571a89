/* See journaling.h. */

#include "server/journaling.h"

#include "server/server.h"

enum {
    LOOK_MS = 1,                /* what a full ring takes to be written is some dozens of these */
    RING_BYTES_LEAST = 1 << 20, /* what a busy server appends while the disk is flushed once */
    RING_PART = 16,             /* of maxmemory, at the most: all of the ring is touched in time */
    PMEM_RING_BYTES = 1 << 20,
    PMEM_RING_BYTES_LEAST = 64 << 10,
    PMEM_RING_PART = 8, /* of a pool's journal, at the most */
};
#define RING_BYTES ((size_t)16 << 20)

static size_t ring_bytes(const struct config *config) {
    size_t most = (size_t)config->memory.maxmemory_bytes / RING_PART, power = RING_BYTES;
    while (most && power > most && power > RING_BYTES_LEAST) power /= 2;
    size_t backlog = (size_t)config->replication.backlog_bytes;
    return power > backlog ? power : backlog;
}

unsigned journaling_stream_writer(const struct server *server) {
    return server->placement.plan.worker_count;
}

/* What writers that wait for the journal of a pool have appended before must still find room there. Each turn empties
 * the ring, so it need not be larger than a cache, but where an append-only file is written too, or replicas shall find
 * more of the stream. */
static size_t pmem_ring_bytes(const struct pmem_gate *gate, const struct config *config, size_t power) {
    size_t backlog = (size_t)config->replication.backlog_bytes, enough = PMEM_RING_BYTES;
    if (!pmem_gate_is_open(gate)) return power;
    while (enough < backlog && enough < power) enough *= 2;
    if (power > enough && !config->persistence.appendonly) power = enough;
    while (power > PMEM_RING_BYTES_LEAST && power > pmem_journal_capacity(gate->journal) / PMEM_RING_PART) power /= 2;
    return power;
}

bool journaling_create(struct server *server) {
    struct journal_options options = {
        .capacity_bytes = pmem_ring_bytes(&server->pmem_gate, &server->config, ring_bytes(&server->config)),
        .writers = server->placement.plan.worker_count + 1,
        /* The stream of a primary is appended by worker 0. */
        .alone = server->placement.plan.worker_count == 1};
    server->journal = journal_create(&options);
    return server->journal != NULL;
}

void journaling_free(struct server *server) {
    journal_destroy(server->journal);
    server->journal = NULL;
}

void journaling_refresh(struct server *server) {
    bool active = journal_is_active(server->journal) && !replication_is_replica(&server->replication);
    for (unsigned i = 0; i < server->worker_count; i++)
        server->workers[i]->dispatcher.effects.journal = active ? server->journal : NULL;
    effect_sink_listen(server->keyspace, active);
}

int journaling_wait_ms(const struct worker *worker) {
    const struct journal *journal = worker->dispatcher.effects.journal;
    bool crowded =
        (journal && journal_is_crowded(journal)) || keyspace_snapshot_is_crowded(worker->dispatcher.keyspace);
    return crowded ? LOOK_MS : -1;
}
