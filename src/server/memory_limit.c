/* See memory_limit.h.
 *
 * The truth is what the kernel counts. Reading it takes about a microsecond, so it is read as often as the distance to
 * the limit asks for: half the time that all memory channels of a host would take to fill it, and never more often than
 * every MIN_FRESH_NS. Sums over all shards cost more and change what is to be done less, so they are made each
 * millisecond, the allocator's figures each few.
 *
 * What is free but still held (freed granules, the allocator's unused pages, holes in slab pages that compaction would
 * close) is reclaimable: it is no reason to evict, but to purge and compact. Some holes stay however much is compacted;
 * when a whole round of compaction has moved nothing, the holes that are left are taken as the floor and no longer
 * counted.
 *
 * Nobody may rely on a figure that somebody else was about to renew: a thread can lose its processor for longer than it
 * takes to fill all memory. So whoever finds the figures too old while another thread is adding up looks at the
 * resident size himself, and judges by that and the other's last sums.
 *
 * What is large is asked for before it is taken, and is decided by the kernel's figure of that moment: by the gate, for
 * what a pool maps, and by reservations, for what a thread is going to read, copy or store. What was granted counts as
 * resident (`promised`) until it is, so that two threads never get the same room. A thread's reservation is what the
 * gate grants it first. */

#include "server/memory_limit.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/allocator.h"
#include "server/config_apply.h"
#include "server/server.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MIN_FRESH_NS = 50000,
    MAX_FRESH_NS = 1000000,
    TIGHT_FRESH_NS = 100000,
    BYTES_PER_NS = 8, /* memory cannot be filled faster */
    SUMS_NS = 1000000,
    ALLOCATOR_NS = 10000000,
    ALLOCATOR_TIGHT_NS = 2000000,
    DEMAND_NS = 200000000,    /* renewed by whoever still waits */
    EXHAUSTED_NS = 5000000,   /* then it is tried again */
    LOG_NS = 1000000000,      /* at most one line each second */
    EXACT_HEADROOM = 1 << 20, /* so near the limit of used memory the sums are made each time */
    FILL_BYTES = 64 << 10,    /* of holes in 2 MB */
    FLOOR_PART = 1024,        /* of how far it is too high, each time that sums are made */
    HOLES_BYTES = 256 << 10,  /* in slab pages, above those that always stay */
    REFUSED_PART = 128, /* of the limit: who refuses goes on until so much is free, not to change his mind each time */
    TRIFLE_PART = 256,  /* of the limit: not worth waiting for */
};

static uint64_t now_ns(void) {
    return (uint64_t)clock_monotonic_ns();
}

static size_t less(size_t from, size_t amount) {
    return from > amount ? from - amount : 0;
}

static size_t load(const _Atomic size_t *figure) {
    return atomic_load_explicit((_Atomic size_t *)(uintptr_t)figure, memory_order_relaxed);
}

static void store(_Atomic size_t *figure, size_t value) {
    atomic_store_explicit(figure, value, memory_order_relaxed);
}

/* ---- judgement ---- */

struct marks {
    size_t soft, calm, delay, limit, gate;
};

static struct marks marks_of(size_t limit) {
    return (struct marks){.soft = limit - limit / 32,
                          .calm = limit - limit / 128 * 3,
                          .delay = limit - limit / 64,
                          .limit = limit,
                          .gate = limit + limit / 64};
}

static enum memory_level higher(enum memory_level a, enum memory_level b) {
    return a > b ? a : b;
}

static void judge_resident(const struct memory_figures *figures, struct memory_judgement *judgement) {
    struct marks marks = marks_of(figures->limit_bytes);
    size_t resident = figures->resident_bytes, kept = less(resident, figures->reclaimable_bytes);
    size_t excess = less(kept, marks.soft);
    if (figures->demand_bytes) {
        size_t needed = less(kept + figures->demand_bytes, marks.delay);
        if (needed > excess) excess = needed;
        judgement->reclaim_bytes = less(resident + figures->demand_bytes, marks.delay);
    }
    if (less(resident, marks.calm) > judgement->reclaim_bytes) judgement->reclaim_bytes = resident - marks.calm;
    if (excess > judgement->excess_bytes) judgement->excess_bytes = excess;
    bool can_shrink =
        figures->can_free || (!figures->refused && figures->reclaimable_bytes > marks.limit / TRIFLE_PART);
    enum memory_level level = MEMORY_EASY;
    if (excess || judgement->reclaim_bytes) level = MEMORY_MAKE_ROOM;
    if (resident > marks.delay && figures->can_free) level = MEMORY_DELAY;
    size_t refused_above = figures->refused ? marks.limit - marks.limit / REFUSED_PART : marks.limit;
    if (resident > refused_above) level = can_shrink ? MEMORY_DELAY : MEMORY_REFUSE;
    judgement->level = higher(judgement->level, level);
}

static uint64_t freshness(const struct memory_figures *figures, enum memory_level level) {
    if (level >= MEMORY_DELAY) return TIGHT_FRESH_NS;
    size_t taken = figures->bounds_resident ? figures->resident_bytes : figures->used_bytes;
    size_t ns = less(figures->limit_bytes, taken) / BYTES_PER_NS / 2;
    return ns < MIN_FRESH_NS ? MIN_FRESH_NS : ns > MAX_FRESH_NS ? MAX_FRESH_NS : ns;
}

struct memory_judgement memory_judge(const struct memory_figures *figures) {
    struct memory_judgement judgement = {.level = MEMORY_EASY, .fresh_ns = MAX_FRESH_NS};
    if (!figures->limit_bytes) return judgement;
    /* Buffers that are not filled yet are used without being resident. */
    size_t used = figures->used_bytes;
    if (figures->bounds_resident && figures->resident_bytes < used) used = figures->resident_bytes;
    judgement.excess_bytes = less(used, figures->limit_bytes);
    if (judgement.excess_bytes) judgement.level = figures->can_free ? MEMORY_DELAY : MEMORY_REFUSE;
    if (figures->bounds_resident) judge_resident(figures, &judgement);
    judgement.fresh_ns = freshness(figures, judgement.level);
    return judgement;
}

/* ---- figures ---- */

static size_t limit_of(const struct server *server) {
    return load(&server->metrics.limit.limit_bytes);
}

static bool bounds_resident(const struct server *server) {
    return limit_of(server) >= server->metrics.limit.start_resident_bytes + MEMORY_LEAST;
}

size_t memory_resident_bytes(const struct memory_limit *limit, size_t *shared) {
    char text[128], *end;
    ssize_t length = limit->statm_fd < 0 ? -1 : pread(limit->statm_fd, text, sizeof(text) - 1, 0);
    if (shared) *shared = 0;
    if (length <= 0) return 0;
    text[length] = '\0';
    (void)strtoull(text, &end, 10); /* addresses in use */
    size_t resident = (size_t)strtoull(end, &end, 10) * limit->kernel_page_bytes;
    if (shared) *shared = (size_t)strtoull(end, NULL, 10) * limit->kernel_page_bytes;
    return resident;
}

static size_t dirty_bytes(const struct keyspace *keyspace) {
    size_t dirty = 0;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        dirty += region_pool_usage(keyspace->pools[i]).dirty_bytes;
        if (keyspace->far_pools && keyspace->far_pools[i])
            dirty += region_pool_usage(keyspace->far_pools[i]).dirty_bytes;
    }
    return dirty;
}

/* Adds what records take, and the holes between them. What of a sparse value was never written takes nothing. */
static void add_records(size_t live, size_t pages, size_t untouched, size_t *used, size_t *slack) {
    size_t touched = less(pages, untouched);
    *used += live < touched ? live : touched;
    *slack += less(touched, live);
}

static void add_sums(const struct heap_sums *sums, size_t *used, size_t *slack) {
    add_records(stat_get(&sums->live_bytes), stat_get(&sums->page_bytes), stat_get(&sums->untouched_bytes), used,
                slack);
}

static void add_up(struct memory_limit *limit, const struct keyspace *keyspace) {
    size_t used = load(&limit->allocator_bytes), slack = 0;
    for (uint32_t i = 0; i < keyspace->shard_count; i++) {
        const struct shard *shard = &keyspace->shards[i];
        add_sums(&shard->heap.sums, &used, &slack);
        add_sums(&shard->big, &used, &slack);
        if (shard->heap.far) add_sums(&shard->heap.far->sums, &used, &slack);
        add_sums(&shard->big_far, &used, &slack);
    }
    used += keyspace_index_bytes(keyspace);
    store(&limit->used_bytes, used);
    store(&limit->slack_bytes, slack);
    /* The floor sinks again, within a second or so. */
    size_t floor = load(&limit->slack_floor_bytes);
    if (slack < floor) store(&limit->slack_floor_bytes, floor - (floor - slack) / FLOOR_PART - 1);
}

/* Part of what the allocator holds beyond its pages in use is its own tables: what is left right after it has given
 * back all it can. */
static void ask_allocator(struct memory_limit *limit, bool purged) {
    struct allocator_usage usage = allocator_usage();
    size_t beyond = less(usage.resident_bytes, usage.active_bytes);
    if (purged) store(&limit->allocator_floor_bytes, beyond);
    store(&limit->allocator_bytes, usage.allocated_bytes);
    store(&limit->allocator_dirty_bytes, less(beyond, load(&limit->allocator_floor_bytes)));
}

static bool is_near_used_limit(const struct server *server) {
    size_t limit = limit_of(server);
    return limit && !bounds_resident(server) && load(&server->metrics.limit.used_bytes) + EXACT_HEADROOM > limit;
}

static void renew_sums(struct server *server, uint64_t now) {
    struct memory_limit *limit = &server->metrics.limit;
    bool tight = memory_limit_level(limit) >= MEMORY_DELAY, exact = is_near_used_limit(server);
    if (exact || now >= atomic_load_explicit(&limit->allocator_due_ns, memory_order_relaxed)) {
        ask_allocator(limit, false);
        atomic_store_explicit(&limit->allocator_due_ns, now + (tight ? ALLOCATOR_TIGHT_NS : ALLOCATOR_NS),
                              memory_order_relaxed);
    }
    if (exact || now >= atomic_load_explicit(&limit->sums_due_ns, memory_order_relaxed)) {
        add_up(limit, server->keyspace);
        atomic_store_explicit(&limit->sums_due_ns, now + SUMS_NS, memory_order_relaxed);
    }
    store(&limit->dirty_bytes, dirty_bytes(server->keyspace));
}

static void look_at_resident(struct memory_limit *limit) {
    size_t shared;
    /* In this order: what is no longer promised is in the resident size. */
    size_t promised = load(&limit->promised_bytes);
    atomic_thread_fence(memory_order_seq_cst);
    store(&limit->resident_bytes, memory_resident_bytes(limit, &shared) + promised);
    store(&limit->shared_bytes, shared);
}

/* What is held though nothing uses it. */
static size_t reclaimable(const struct memory_limit *limit) {
    return load(&limit->dirty_bytes) + load(&limit->allocator_dirty_bytes) +
           less(load(&limit->slack_bytes), load(&limit->slack_floor_bytes));
}

static bool can_free(const struct server *server, uint64_t now) {
    const struct memory_limit *limit = &server->metrics.limit;
    /* Far memory is no way out: it is bounded too. */
    if (!atomic_load_explicit(&limit->evicts, memory_order_relaxed) && !server->tier) return false;
    return now >= atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&limit->exhausted_until_ns, memory_order_relaxed);
}

static size_t demand(struct memory_limit *limit, uint64_t now) {
    if (now < atomic_load_explicit(&limit->demand_until_ns, memory_order_relaxed)) return load(&limit->demand_bytes);
    store(&limit->demand_bytes, 0);
    return 0;
}

/* ---- refreshing ---- */

static void keep_time(_Atomic uint64_t *since_ns, bool is_so, uint64_t now) {
    uint64_t since = atomic_load_explicit(since_ns, memory_order_relaxed);
    if (is_so != (since != 0)) atomic_store_explicit(since_ns, is_so ? now : 0, memory_order_relaxed);
}

static void tell(struct memory_limit *limit, enum memory_level level, uint64_t now) {
    bool refuses = level == MEMORY_REFUSE;
    if (refuses == atomic_load_explicit(&limit->refused, memory_order_relaxed)) return;
    if (now < atomic_load_explicit(&limit->logged_ns, memory_order_relaxed) + LOG_NS) return;
    atomic_store_explicit(&limit->logged_ns, now, memory_order_relaxed);
    atomic_store_explicit(&limit->refused, refuses, memory_order_relaxed);
    if (refuses)
        log_warning("maxmemory is reached and nothing can be freed: commands that need memory are refused");
    else
        log_notice("below maxmemory again: all commands are served");
}

/* By one thread at a time. */
static void keep_account(struct server *server, enum memory_level level, uint64_t now) {
    struct memory_limit *limit = &server->metrics.limit;
    size_t bytes = limit_of(server);
    bool over = bytes && load(bounds_resident(server) ? &limit->resident_bytes : &limit->used_bytes) > bytes;
    uint64_t over_since = atomic_load_explicit(&limit->over_since_ns, memory_order_relaxed);
    if (over_since && !over) stat_add(&limit->over_ns, now - over_since);
    keep_time(&limit->over_since_ns, over, now);
    keep_time(&limit->tight_since_ns, level >= MEMORY_DELAY, now);
    tell(limit, level, now);
}

/* The time is that at which looking began: a thread that was held up in between publishes what is due again at once. */
static void publish(struct server *server, const struct memory_judgement *judgement, uint64_t now) {
    struct memory_limit *limit = &server->metrics.limit;
    bool tight = judgement->level >= MEMORY_DELAY;
    atomic_store_explicit(&limit->excess_bytes, (int64_t)judgement->excess_bytes, memory_order_relaxed);
    atomic_store_explicit(&limit->reclaim_bytes, (int64_t)judgement->reclaim_bytes, memory_order_relaxed);
    atomic_store_explicit(&limit->level, judgement->level, memory_order_relaxed);
    atomic_store_explicit(&server->host.memory_tight, tight && bounds_resident(server), memory_order_relaxed);
    atomic_store_explicit(&server->host.out_of_memory, judgement->level == MEMORY_REFUSE, memory_order_relaxed);
    /* Reading must not be what takes the last of it. */
    atomic_store_explicit(&server->keyspace->promotion_paused, tight, memory_order_relaxed);
    atomic_store_explicit(&limit->due_ns, now + judgement->fresh_ns, memory_order_relaxed);
}

static void refresh(struct server *server, uint64_t now) {
    struct memory_limit *limit = &server->metrics.limit;
    bool alone = !atomic_flag_test_and_set_explicit(&limit->refreshing, memory_order_acquire);
    if (alone) renew_sums(server, now);
    look_at_resident(limit);
    struct memory_figures figures = {.limit_bytes = limit_of(server),
                                     .used_bytes = load(&limit->used_bytes),
                                     .resident_bytes = load(&limit->resident_bytes),
                                     .reclaimable_bytes = reclaimable(limit),
                                     .demand_bytes = demand(limit, now),
                                     .bounds_resident = bounds_resident(server),
                                     .can_free = can_free(server, now),
                                     .refused = memory_limit_level(limit) == MEMORY_REFUSE};
    struct memory_judgement judgement = memory_judge(&figures);
    publish(server, &judgement, now);
    if (!alone) return;
    keep_account(server, judgement.level, now);
    atomic_flag_clear_explicit(&limit->refreshing, memory_order_release);
}

void memory_limit_refresh(struct server *server) {
    refresh(server, now_ns());
}

void memory_limit_refresh_if_due(struct server *server) {
    uint64_t now = now_ns();
    if (now >= atomic_load_explicit(&server->metrics.limit.due_ns, memory_order_relaxed)) refresh(server, now);
}

/* ---- reservations ---- */

/* This thread's part of `promised_bytes`. */
static _Thread_local size_t reserved_bytes;

/* Promises `bytes` to this thread instead of what it had reserved; returns what is promised to others. */
static size_t exchange_reservation(struct memory_limit *limit, size_t bytes) {
    size_t before = reserved_bytes;
    reserved_bytes = bytes;
    return atomic_fetch_add_explicit(&limit->promised_bytes, bytes - before, memory_order_seq_cst) - before;
}

/* First the promise, then the look: of two who ask at the same moment at least one sees the other. */
static bool reserve(struct memory_limit *limit, size_t bytes, size_t most) {
    size_t others = exchange_reservation(limit, bytes);
    if (memory_resident_bytes(limit, NULL) + others + bytes <= most) return true;
    memory_limit_release(limit);
    return false;
}

/* Whether so much could be given if nothing but the program took memory. What could not is not promised for a moment
 * either: others would take that for a want of memory, and evict. */
static bool could_ever_give(const struct server *server, size_t bytes) {
    size_t most = limit_of(server);
    return !most || !bounds_resident(server) || server->metrics.limit.start_resident_bytes + bytes <= most;
}

bool memory_limit_reserve(struct server *server, size_t bytes) {
    struct memory_limit *limit = &server->metrics.limit;
    size_t most = limit_of(server);
    memory_limit_release(limit);
    if (!most || !bounds_resident(server)) return true;
    return could_ever_give(server, bytes) && reserve(limit, bytes, most);
}

void memory_limit_release(struct memory_limit *limit) {
    if (reserved_bytes) (void)exchange_reservation(limit, 0);
}

void memory_limit_taken(struct memory_limit *limit, size_t bytes) {
    if (reserved_bytes) (void)exchange_reservation(limit, less(reserved_bytes, bytes));
}

bool memory_limit_may_read(struct server *server, size_t bytes) {
    struct memory_limit *limit = &server->metrics.limit;
    size_t most = limit_of(server);
    memory_limit_release(limit);
    if (!most || !bounds_resident(server)) return true;
    enum memory_level level = memory_limit_level(limit);
    if (level == MEMORY_DELAY) return false;
    if (level == MEMORY_REFUSE) most += most / 50;
    return reserve(limit, bytes, most);
}

bool memory_limit_can_refuse(struct server *server, size_t bytes) {
    size_t most = limit_of(server);
    return bytes <= most / 64 && reserve(&server->metrics.limit, bytes, most + most / 40);
}

/* ---- questions ---- */

/* What no eviction can free: all that is not records or their index. */
bool memory_limit_can_ever_fit(struct server *server, size_t bytes) {
    const struct memory_limit *limit = &server->metrics.limit;
    size_t floor = load(&limit->allocator_bytes) + limit->start_resident_bytes;
    return !limit_of(server) || !bounds_resident(server) || floor + bytes <= limit_of(server);
}

bool memory_limit_is_exceeded(struct server *server) {
    size_t most = limit_of(server);
    return most && bounds_resident(server) && load(&server->metrics.limit.resident_bytes) > most + most / 64;
}

bool memory_limit_has_holes(struct server *server) {
    const struct memory_limit *limit = &server->metrics.limit;
    return load(&limit->slack_bytes) > load(&limit->slack_floor_bytes) + HOLES_BYTES;
}

/* ---- reports ---- */

void memory_limit_demand(struct server *server, size_t bytes) {
    struct memory_limit *limit = &server->metrics.limit;
    if (!memory_limit_can_ever_fit(server, bytes)) return;
    if (bytes > load(&limit->demand_bytes)) store(&limit->demand_bytes, bytes);
    atomic_store_explicit(&limit->demand_until_ns, now_ns() + DEMAND_NS, memory_order_relaxed);
}

void memory_limit_freed(struct memory_limit *limit, size_t bytes) {
    atomic_fetch_sub_explicit(&limit->excess_bytes, (int64_t)bytes, memory_order_relaxed);
}

void memory_limit_given_back(struct memory_limit *limit, size_t bytes) {
    atomic_fetch_sub_explicit(&limit->reclaim_bytes, (int64_t)bytes, memory_order_relaxed);
}

size_t memory_limit_purge_allocator(struct memory_limit *limit) {
    size_t before = load(&limit->allocator_dirty_bytes);
    (void)allocator_purge();
    ask_allocator(limit, true);
    memory_limit_given_back(limit, before);
    return before;
}

static void purge_aside(void *ctx) {
    (void)memory_limit_purge_allocator(ctx);
}

void memory_limit_have_allocator_purged(struct memory_limit *limit) {
    if (!allocator_purger_ask(&limit->purger)) (void)memory_limit_purge_allocator(limit);
}

void memory_limit_exhausted(struct memory_limit *limit) {
    uint64_t now = now_ns(), before = atomic_load_explicit(&limit->exhausted_until_ns, memory_order_relaxed);
    atomic_store_explicit(&limit->exhausted_until_ns, now + EXHAUSTED_NS, memory_order_relaxed);
    if (before < now) atomic_store_explicit(&limit->due_ns, 0, memory_order_relaxed);
}

void memory_limit_compacted(struct memory_limit *limit) {
    store(&limit->slack_floor_bytes, load(&limit->slack_bytes));
}

uint64_t memory_limit_stuck_ns(struct server *server) {
    struct memory_limit *limit = &server->metrics.limit;
    uint64_t now = now_ns(), since = atomic_load_explicit(&limit->tight_since_ns, memory_order_relaxed);
    return since && since < now && !can_free(server, now) ? now - since : 0;
}

void memory_limit_exceeded_ms(const struct memory_limit *limit, uint64_t *now_ms, uint64_t *ever_ms) {
    uint64_t since = atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&limit->over_since_ns, memory_order_relaxed);
    uint64_t now = now_ns(), present = since && since < now ? now - since : 0;
    *now_ms = present / 1000000;
    *ever_ms = (stat_get(&limit->over_ns) + present) / 1000000;
}

/* ---- the gate ---- */

static bool ask_gate(void *ctx, size_t bytes) {
    struct server *server = ctx;
    struct memory_limit *limit = &server->metrics.limit;
    size_t most = limit_of(server);
    if (!could_ever_give(server, bytes)) return false;
    size_t others = exchange_reservation(limit, less(reserved_bytes, bytes));
    atomic_fetch_add_explicit(&limit->promised_bytes, bytes, memory_order_seq_cst);
    if (!most || !bounds_resident(server)) return true;
    if (memory_resident_bytes(limit, NULL) + others + bytes <= marks_of(most).gate) return true;
    atomic_fetch_sub_explicit(&limit->promised_bytes, bytes, memory_order_relaxed);
    memory_limit_demand(server, bytes);
    return false;
}

/* What this thread has reserved is its own. */
static bool gate_has_room(void *ctx, size_t bytes) {
    struct server *server = ctx;
    struct memory_limit *limit = &server->metrics.limit;
    size_t most = limit_of(server), own = reserved_bytes < bytes ? reserved_bytes : bytes;
    if (!most || !bounds_resident(server)) return true;
    return memory_resident_bytes(limit, NULL) + less(load(&limit->promised_bytes), own) + bytes <= marks_of(most).gate;
}

static void settle_gate(void *ctx, size_t bytes) {
    struct server *server = ctx;
    atomic_fetch_sub_explicit(&server->metrics.limit.promised_bytes, bytes, memory_order_release);
}

/* What is on the tier can be read even if it is larger than all that may be used. What unread replies take now comes
 * back. */
static bool ask_to_read(void *ctx, size_t bytes) {
    struct server *server = ctx;
    if (could_ever_give(server, bytes)) return ask_gate(ctx, bytes);
    atomic_fetch_add_explicit(&server->metrics.limit.promised_bytes, bytes, memory_order_seq_cst);
    return true;
}

/* Huge pages that fill hardly any holes are worth their memory up to the limit, others only below the first mark. */
static bool may_fill(void *ctx, size_t bytes) {
    struct server *server = ctx;
    struct memory_limit *limit = &server->metrics.limit;
    size_t most = limit_of(server);
    if (!most || !bounds_resident(server)) return true;
    size_t taken = memory_resident_bytes(limit, NULL) + load(&limit->promised_bytes) + bytes;
    return taken <= (bytes <= FILL_BYTES ? marks_of(most).delay : marks_of(most).soft - most / 32);
}

/* ---- life ---- */

static bool take_limit(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)name, (void)error;
    struct server *server = ctx;
    struct memory_limit *limit = &server->metrics.limit;
    store(&limit->limit_bytes, (size_t)config->memory.maxmemory_bytes);
    atomic_store(&server->host.memory_bounded, config->memory.maxmemory_bytes != 0);
    atomic_store(&limit->exhausted_until_ns, 0);
    atomic_store(&limit->sums_due_ns, 0);
    atomic_store(&limit->allocator_due_ns, 0);
    config_apply_access(server, config);
    memory_limit_refresh(server);
    return true;
}

void memory_limit_init(struct server *server) {
    struct memory_limit *limit = &server->metrics.limit;
    struct region_gate gate = {
        .ask = ask_gate, .settle = settle_gate, .has_room = gate_has_room, .may_fill = may_fill, .ctx = server};
    atomic_flag_clear(&limit->refreshing);
    limit->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    limit->kernel_page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    limit->start_resident_bytes = memory_resident_bytes(limit, NULL);
    (void)memory_limit_purge_allocator(limit);
    for (unsigned i = 0; i < server->keyspace->pool_count; i++) {
        region_pool_set_gate(server->keyspace->pools[i], &gate);
        if (server->keyspace->far_pools && server->keyspace->far_pools[i])
            region_pool_set_gate(server->keyspace->far_pools[i], &gate);
    }
    struct tier_gate reading = {.ask = ask_to_read, .settle = settle_gate, .ctx = server};
    if (server->tier) tier_set_gate(server->tier, &reading);
    (void)take_limit(server, &server->config, NULL, NULL);
    config_on_change(&server->config, "maxmemory", take_limit, server);
    allocator_purger_start(&limit->purger, purge_aside, limit);
}

void memory_limit_free(struct memory_limit *limit) {
    allocator_purger_stop(&limit->purger);
    if (limit->statm_fd >= 0) close(limit->statm_fd);
}
