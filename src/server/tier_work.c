/* See tier_work.h. Every worker looks after the shards whose number is its own modulo the number of workers, as with
 * all background work; the bytes that are wanted are taken from them in turn, a few at a time, so that all shards keep
 * the same standard of what is cold. */

#include "server/tier_work.h"

#include "base/clock.h"
#include "server/server.h"

enum {
    SHARD_SLICE_NS = 50000,
    NEAR_SUM_NS = 1000000,    /* between two sums over all shards */
    NEAR_REST_NS = 500000000, /* after a round of all shards that moved nothing */
};

static uint32_t next_shard(const struct worker *worker, uint32_t shard) {
    shard += worker->server->worker_count;
    return shard < worker->server->keyspace->shard_count ? shard : worker->id;
}

/* The shard whose turn it is: one of its own, or when these have nothing to give, one of all: a single big collection
 * is in a single shard. */
static uint32_t take_turn(struct worker *worker, uint32_t own) {
    struct tier_work *work = &worker->tier_work;
    uint32_t shard;
    if (work->barren < own) {
        if (work->demote_shard % worker->server->worker_count != worker->id) work->demote_shard = worker->id;
        shard = work->demote_shard;
        work->demote_shard = next_shard(worker, shard);
    } else {
        shard = work->help_shard % worker->server->keyspace->shard_count;
        work->help_shard = shard + 1;
    }
    return shard;
}

/* What one shard's answer says of all of them. */
static void keep_count(struct worker *worker, uint32_t shard, bool hope, uint32_t own) {
    struct tier_work *work = &worker->tier_work;
    if (!hope)
        work->barren++;
    else if (work->barren > own && shard % worker->server->worker_count != worker->id)
        work->barren = own;
    else if (shard % worker->server->worker_count == worker->id)
        work->barren = 0;
}

size_t tier_work_demote(struct worker *worker, size_t wanted_bytes, bool urgent, uint64_t budget_ns,
                        enum demotion_status *status) {
    struct keyspace *keyspace = worker->server->keyspace;
    struct tier_work *work = &worker->tier_work;
    uint64_t start = clock_ticks();
    size_t freed = 0, step;
    uint32_t own = keyspace->shard_count / worker->server->worker_count + 1, all = own + keyspace->shard_count;
    *status = DEMOTION_NOTHING;
    if (!worker->dispatcher.port) return 0;
    if (work->barren >= all) work->barren = all - 1; /* it is asked again whether that still holds */
    *status = DEMOTION_DONE;
    while (freed < wanted_bytes && clock_elapsed_ns(start) < budget_ns && work->barren < all) {
        struct demotion demotion = {.now_ms = worker->dispatcher.now_ms,
                                    .budget_ns = SHARD_SLICE_NS,
                                    .wanted_bytes = wanted_bytes - freed,
                                    .urgent = urgent};
        uint32_t shard = take_turn(worker, own);
        /* A command may hold it for long. One of another worker's is left to that, who may well be at the same: two who
         * wait for each other free less than one. */
        if (keyspace_is_busy(keyspace, shard)) {
            keep_count(worker, shard, true, own);
            if (shard % worker->server->worker_count != worker->id) break;
            continue;
        }
        *status = keyspace_demote(keyspace, shard, worker->dispatcher.port, &demotion, &step);
        freed += step;
        if (*status == DEMOTION_BUSY || *status == DEMOTION_FULL) return freed;
        bool hope = step || (*status == DEMOTION_DONE && keyspace_may_demote(keyspace, shard));
        keep_count(worker, shard, hope, own);
    }
    *status = work->barren < all ? DEMOTION_DONE : DEMOTION_NOTHING;
    return freed;
}

bool tier_work_evict(struct worker *worker, bool only_volatile, uint64_t budget_ns) {
    if (!worker->dispatcher.port) return false;
    return keyspace_clean(worker->server->keyspace, worker->dispatcher.port,
                          only_volatile ? TIER_EVICT_VOLATILE : TIER_EVICT, worker->dispatcher.now_ms, budget_ns);
}

/* Records in memory of a shard, read without its lock: an estimate. */
static size_t held_bytes(const struct keyspace *keyspace, uint32_t shard) {
    return stat_get(&keyspace->shards[shard].heap.sums.live_bytes);
}

/* True: some shard is still over its share, and what stands in the way is only time. */
static bool keep_budget(struct worker *worker, uint64_t budget_ns) {
    struct keyspace *keyspace = worker->server->keyspace;
    struct tier_work *work = &worker->tier_work;
    size_t share = (size_t)worker->server->config.tier.record_budget_bytes / keyspace->shard_count, freed;
    uint64_t start = clock_ticks();
    bool more = false;
    if (!share) return false;
    if (work->budget_shard % worker->server->worker_count != worker->id) work->budget_shard = worker->id;
    for (uint32_t i = worker->id; i < keyspace->shard_count && clock_elapsed_ns(start) < budget_ns;
         i += worker->server->worker_count) {
        size_t held = held_bytes(keyspace, work->budget_shard);
        struct demotion demotion = {.now_ms = worker->dispatcher.now_ms,
                                    .budget_ns = SHARD_SLICE_NS,
                                    .wanted_bytes = held > share ? held - share : 0,
                                    .urgent = true};
        enum demotion_status status = DEMOTION_DONE;
        if (held > share)
            status = keyspace_demote(keyspace, work->budget_shard, worker->dispatcher.port, &demotion, &freed);
        if (status == DEMOTION_BUSY || status == DEMOTION_FULL) return false; /* the end of a write wakes the worker */
        more = more || (held > share && freed > 0);
        work->budget_shard = next_shard(worker, work->budget_shard);
    }
    return more;
}

/* What near memory is wanted for: the holes that moving leaves in pages are no reason to move more. */
static size_t near_wanted(struct worker *worker, uint64_t now) {
    struct keyspace *keyspace = worker->server->keyspace;
    struct tier_work *work = &worker->tier_work;
    if (now < work->near_sum_ns + NEAR_SUM_NS) return work->near_bytes;
    work->near_sum_ns = now;
    work->near_bytes = keyspace_index_bytes(keyspace);
    for (uint32_t i = 0; i < keyspace->shard_count; i++) work->near_bytes += held_bytes(keyspace, i);
    return work->near_bytes;
}

/* Bytes in use on the near nodes, holes and all. */
static size_t near_used(const struct keyspace *keyspace) {
    size_t used = 0;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct region_pool_usage usage = region_pool_usage(keyspace->pools[i]);
        used += usage.used_bytes + usage.large_bytes;
    }
    return used;
}

/* Memory of the near nodes is short: the coldest records go to far memory, or where that is full, to the tier. True:
 * there is more to do. */
static bool keep_near(struct worker *worker, uint64_t budget_ns) {
    struct server *server = worker->server;
    struct keyspace *keyspace = server->keyspace;
    struct tier_work *work = &worker->tier_work;
    size_t most = (size_t)server->config.memory.near_memory_bytes, freed;
    if (!keyspace->far_pools) return false;
    if (!most) most = server->placement.near_bytes / 16 * 15;
    uint64_t now = (uint64_t)clock_monotonic_ns();
    if (now < work->near_rest_ns || near_used(keyspace) <= most) return false;
    size_t wanted = near_wanted(worker, now);
    bool room = keyspace_far_room(keyspace) > 0;
    if (wanted <= most || (!room && !worker->dispatcher.port)) return false;
    struct demotion demotion = {
        .now_ms = worker->dispatcher.now_ms, .budget_ns = budget_ns, .wanted_bytes = wanted - most, .far_only = room};
    if (work->far_shard % server->worker_count != worker->id) work->far_shard = worker->id;
    (void)keyspace_demote(keyspace, work->far_shard, worker->dispatcher.port, &demotion, &freed);
    work->far_shard = next_shard(worker, work->far_shard);
    work->near_bytes -= freed < work->near_bytes ? freed : work->near_bytes;
    work->near_barren = freed ? 0 : work->near_barren + 1;
    if (work->near_barren <= keyspace->shard_count / server->worker_count) return true;
    work->near_barren = 0;
    work->near_rest_ns = now + NEAR_REST_NS;
    return false;
}

bool tier_work_slice(struct worker *worker, uint64_t budget_ns) {
    struct tier_port *port = worker->dispatcher.port;
    struct tier_work *work = &worker->tier_work;
    bool near = keep_near(worker, budget_ns / 2);
    if (!port) return near;
    size_t freed;
    bool hauls = keyspace_haul(worker->server->keyspace, port, budget_ns, &freed);
    if (freed) memory_limit_freed(&worker->server->metrics.limit, freed);
    bool over = keep_budget(worker, budget_ns);
    enum tier_clean_mode mode = work->compacting ? TIER_CLEAN_ALL : TIER_CLEAN_NEEDED;
    bool busy = keyspace_clean(worker->server->keyspace, port, mode, worker->dispatcher.now_ms, budget_ns);
    if (!busy && work->compacting && !tier_is_cleaning(port)) work->compacting = false;
    return busy || over || near || hauls;
}
