/* See make_room.h.
 *
 * How much is to be freed (`excess`) and given back (`reclaim`) was found out by whoever looked last; all workers take
 * their part of it off the same two counters, so together they do it once.
 *
 * What an eviction frees is at first a hole in a slab page. Holes are filled by the next writes; where memory has to
 * shrink instead, compaction empties the sparsest pages into the others, whole pages become free granules, and those
 * are given back. Under a steady load of writes hardly anything of that happens: the holes are used as they come.
 *
 * A large value is taken out of the index at once and freed in pieces, so that the kernel never works for longer than
 * a slice on taking its pages back. */

#include "server/make_room.h"

#include "base/clock.h"
#include "server/server.h"
#include "server/slow.h"

enum {
    SLICE_NS = 100000,      /* while little is in excess */
    LONG_SLICE_NS = 700000, /* when writes would soon have to wait: those who write pay for the room they take */
    LITTLE_BYTES = 256 << 10,
    TURN_NS = 600000,             /* by all commands of one turn that ask: with a long slice less than 2 ms */
    PURGE_BYTES = 1 << 20,        /* given back at once: some dozens of microseconds */
    PURGE_LEAST_BYTES = 64 << 10, /* looking for less is not worth it */
    COMPACT_RECORDS = 8,          /* between two looks at the clock: they may be of 32 KB each */
    DETACH_BYTES = 4 << 20,       /* a value whose memory takes the kernel up to a millisecond to take back */
    LAZY_BYTES = 1 << 20,         /* likewise, with lazyfree-lazy-eviction */
    FREE_STEP_BYTES = 2 << 20,    /* of a detached value */
    EVICT_DRAIN_NS = 200000,      /* for freeing the pages of what was evicted */
    ALLOCATOR_NS = 5000000,       /* between two times that the allocator gives back its unused pages */
    ALLOCATOR_BYTES = 2 << 20,    /* that make it worth it */
    BIG_ARGUMENT_BYTES = 65536,   /* arguments that are looked at before they are stored */
    TENACITY_NS = 10000,          /* of a slice before a command, for each point of maxmemory-eviction-tenacity */
    TENACITY_LEAST_NS = 20000,
};

static struct memory_limit *limit_of(const struct worker *worker) {
    return &worker->server->metrics.limit;
}

/* ---- what to free ---- */

bool make_room_rule(const struct config *config, struct eviction_rule *rule) {
    int policy = config->memory.maxmemory_policy;
    int64_t samples = config->memory.maxmemory_samples;
    if (policy == CONFIG_EVICT_NOTHING) return false;
    *rule =
        (struct eviction_rule){.order = policy & CONFIG_EVICT_LRU   ? EVICT_BY_IDLE_TIME
                                        : policy & CONFIG_EVICT_LFU ? EVICT_BY_FREQUENCY
                                        : policy & CONFIG_EVICT_TTL ? EVICT_BY_EXPIRY
                                                                    : EVICT_AT_RANDOM,
                               .only_volatile = !(policy & CONFIG_EVICT_ALL_KEYS),
                               .samples = samples > EVICTION_SAMPLES_MAX ? EVICTION_SAMPLES_MAX : (unsigned)samples};
    if (rule->order == EVICT_AT_RANDOM) rule->samples = 1;
    return true;
}

static bool has_condemned(const struct worker *worker) {
    return atomic_load_explicit(&worker->server->keyspace->condemned_collections, memory_order_relaxed) > 0;
}

/* Frees collections that left their keys: those of the last eviction here, others by the background work of all. */
static void drain_condemned(struct worker *worker, uint64_t budget_ns) {
    (void)keyspace_drain(worker->server->keyspace, worker->room.evicted_shard, budget_ns);
    if (!has_condemned(worker)) return;
    if (!worker->draining) worker->drain_shard = worker->id;
    worker->draining = true;
}

/* Bytes freed, or about to be; 0: none, or only in slices to come. */
static size_t evict(struct worker *worker, const struct eviction_rule *rule) {
    struct make_room *room = &worker->room;
    const struct config *config = &worker->server->config;
    bool may_detach = room->detached_count < MAKE_ROOM_DETACHED;
    struct eviction eviction = {.keyspace = worker->server->keyspace,
                                .pool = &room->pool,
                                .random = &room->random,
                                .now_ms = worker->dispatcher.now_ms,
                                .detach_bytes = !may_detach                        ? 0
                                                : config->memory.lazyfree_eviction ? LAZY_BYTES
                                                                                   : DETACH_BYTES};
    struct evicted evicted = keyspace_evict(&eviction, rule);
    if (evicted.exhausted) memory_limit_exhausted(limit_of(worker));
    if (evicted.detached) {
        room->detached[room->detached_count].record = evicted.detached;
        room->detached[room->detached_count++].shard = evicted.shard;
    }
    room->evicted_shard = evicted.shard;
    if (has_condemned(worker)) drain_condemned(worker, EVICT_DRAIN_NS);
    return has_condemned(worker) ? 0 : evicted.bytes;
}

static bool free_a_piece(struct worker *worker) {
    struct make_room *room = &worker->room;
    if (room->detached_count == 0) return false;
    unsigned last = room->detached_count - 1;
    if (keyspace_free_detached(worker->server->keyspace, room->detached[last].shard, &room->detached[last].record,
                               FREE_STEP_BYTES))
        room->detached_count--;
    return true;
}

static int64_t excess(const struct worker *worker) {
    return atomic_load_explicit(&limit_of(worker)->excess_bytes, memory_order_relaxed);
}

static int64_t to_give_back(const struct worker *worker) {
    return atomic_load_explicit(&limit_of(worker)->reclaim_bytes, memory_order_relaxed);
}

/* Demotes, and evicts where that is not possible: no tier, nothing to demote, or a full tier, which first of all drops
 * whole segments. Where nothing may be evicted a full tier is waited for as long as its cleaner can help. Bytes freed;
 * 0: none at present. */
static size_t free_some(struct worker *worker, size_t wanted_bytes, uint64_t budget_ns) {
    if (has_condemned(worker)) { /* what has been given up already comes first */
        drain_condemned(worker, budget_ns);
        return 0;
    }
    struct eviction_rule rule;
    enum demotion_status status;
    bool urgent = memory_limit_level(limit_of(worker)) >= MEMORY_DELAY;
    const struct server *server = worker->server;
    bool may_evict = make_room_rule(&server->config, &rule);
    if (replication_is_replica(&server->replication) && server->config.replication.ignore_maxmemory)
        may_evict = false; /* that is for the primary to do, whose evictions come as commands */
    size_t bytes = tier_work_demote(worker, wanted_bytes, urgent, budget_ns, &status);
    if (bytes > 0) return bytes;
    if (status == DEMOTION_DONE || status == DEMOTION_BUSY) return 0;
    if (status == DEMOTION_FULL && may_evict && tier_work_evict(worker, rule.only_volatile, budget_ns)) return 0;
    if (may_evict) return evict(worker, &rule);
    if (status != DEMOTION_FULL || !tier_can_clean(server->tier)) memory_limit_exhausted(limit_of(worker));
    return 0;
}

/* Whether anything was freed. */
static bool free_excess(struct worker *worker, uint64_t start, uint64_t budget_ns) {
    bool freed = false;
    do {
        bool piece = free_a_piece(worker);
        freed = freed || piece;
        int64_t wanted = excess(worker);
        /* Where no more can be detached, the next large value would have to be freed at once. */
        if (wanted <= 0 || worker->room.detached_count == MAKE_ROOM_DETACHED) {
            if (!piece) break;
            continue;
        }
        size_t bytes = free_some(worker, (size_t)wanted, budget_ns);
        if (bytes == 0) break;
        memory_limit_freed(limit_of(worker), bytes);
        freed = true;
    } while (clock_elapsed_ns(start) < budget_ns);
    return freed;
}

/* ---- what to give back ---- */

static size_t purge_pool(struct region_pool *pool) {
    if (!pool || region_pool_usage(pool).dirty_bytes < PURGE_LEAST_BYTES) return 0;
    return region_pool_purge(pool, 0, PURGE_BYTES);
}

static bool purge(struct worker *worker) {
    struct keyspace *keyspace = worker->server->keyspace;
    struct memory_limit *limit = limit_of(worker);
    size_t given = 0;
    for (unsigned i = 0; i < keyspace->pool_count && given < PURGE_BYTES; i++) {
        given += purge_pool(keyspace->pools[i]);
        if (keyspace->far_pools) given += purge_pool(keyspace->far_pools[i]);
    }
    memory_limit_given_back(limit, given);
    return given > 0;
}

static bool purge_allocator(struct worker *worker) {
    struct memory_limit *limit = limit_of(worker);
    uint64_t now = (uint64_t)clock_monotonic_ns();
    size_t unused = atomic_load_explicit(&limit->allocator_dirty_bytes, memory_order_relaxed);
    if (unused < ALLOCATOR_BYTES || now < worker->room.allocator_ns + ALLOCATOR_NS) return false;
    worker->room.allocator_ns = now;
    memory_limit_have_allocator_purged(limit);
    return true;
}

/* One shard; after a round in which nothing moved, the holes that are left will stay. False: nothing to be done. */
static bool compact(struct worker *worker, bool *moved) {
    struct keyspace *keyspace = worker->server->keyspace;
    struct make_room *room = &worker->room;
    if (!memory_limit_has_holes(worker->server)) return false;
    if (room->compact_idle >= keyspace->shard_count) {
        memory_limit_compacted(limit_of(worker));
        room->compact_idle = 0;
        return false;
    }
    if (room->compact_shard >= keyspace->shard_count) room->compact_shard = 0;
    if (!keyspace_is_busy(keyspace, room->compact_shard) &&
        keyspace_squeeze(keyspace, room->compact_shard, COMPACT_RECORDS) > 0) {
        room->compact_idle = 0;
        *moved = true;
    } else {
        room->compact_shard++;
        room->compact_idle++;
    }
    return true;
}

/* Whether anything was given back or moved. */
static bool give_back(struct worker *worker, uint64_t start, uint64_t budget_ns) {
    bool busy = purge_allocator(worker);
    do {
        if (purge(worker))
            busy = true;
        else if (!compact(worker, &busy))
            break;
    } while (to_give_back(worker) > 0 && clock_elapsed_ns(start) < budget_ns);
    return busy;
}

/* ---- slices ---- */

static uint64_t thread_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

struct make_room_stretch make_room_work_begins(void) {
    return (struct make_room_stretch){.ns = clock_ticks(), .cpu_ns = thread_ns()};
}

void make_room_work_ends(struct worker *worker, struct make_room_stretch since) {
    struct make_room *room = &worker->room;
    room->stretch.ns += clock_elapsed_ns(since.ns);
    room->stretch.cpu_ns += thread_ns() - since.cpu_ns;
    if (room->stretch.ns > stat_get(&room->longest_ns)) stat_set(&room->longest_ns, room->stretch.ns);
    if (room->stretch.cpu_ns > stat_get(&room->longest_cpu_ns)) stat_set(&room->longest_cpu_ns, room->stretch.cpu_ns);
}

static void slice(struct worker *worker, uint64_t budget_ns) {
    struct make_room_stretch since = make_room_work_begins();
    uint64_t start = clock_ticks();
    bool also_back = to_give_back(worker) > 0;
    bool freed = free_excess(worker, start, also_back ? budget_ns / 2 : budget_ns);
    bool given = also_back && give_back(worker, start, budget_ns);
    uint64_t spent = clock_elapsed_ns(start);
    worker->room.busy = freed || given;
    make_room_work_ends(worker, since);
    stat_add(&worker->room.evict_ns, spent);
    slow_event(worker->server, LATENCY_EVICTION_CYCLE, spent, worker->dispatcher.now_ms);
}

/* ---- waiting ---- */

static uint64_t patience_ns(const struct config *config) {
    int64_t ns = config->memory.maxmemory_eviction_tenacity * TENACITY_NS;
    return ns < TENACITY_LEAST_NS ? TENACITY_LEAST_NS : (uint64_t)ns;
}

static bool is_satisfied(struct server *server, bool needs_memory, size_t bytes) {
    if (!needs_memory) return bytes ? memory_limit_may_read(server, bytes) : !memory_limit_is_exceeded(server);
    if (memory_limit_level(&server->metrics.limit) >= MEMORY_DELAY) return false;
    return bytes < BIG_ARGUMENT_BYTES || memory_limit_reserve(server, bytes);
}

/* A slice of its own, if commands before it in this turn have not used up the time for that. */
static bool try_at_once(struct worker *worker, bool needs_memory, size_t bytes) {
    struct make_room *room = &worker->room;
    if (room->spent_ns >= TURN_NS) return false;
    uint64_t start = clock_ticks();
    slice(worker, patience_ns(&worker->server->config));
    memory_limit_refresh(worker->server);
    room->spent_ns += clock_elapsed_ns(start);
    return is_satisfied(worker->server, needs_memory, bytes);
}

/* Reading waits for what is being freed. Where nothing can be it goes on, as it does for a while after it has waited in
 * vain: it must not be that each of many small reads waits again. */
static bool goes_on_reading(const struct server *server, const struct session *session, int64_t now_ms) {
    int64_t since_ms = now_ms - session->memory_over_ms;
    return memory_limit_level(&server->metrics.limit) == MEMORY_REFUSE ||
           (since_ms >= 0 && since_ms < MAKE_ROOM_WAIT_MS);
}

/* It has waited for as long as one may. */
static enum memory_answer answer_at_last(struct server *server, bool needs_memory, size_t bytes) {
    if (needs_memory) return MEMORY_REFUSED;
    return !bytes || memory_limit_can_refuse(server, bytes) ? MEMORY_RUN : MEMORY_REFUSED;
}

static int64_t wait_ms(struct server *server, bool needs_memory, size_t bytes) {
    bool hopes = memory_limit_level(&server->metrics.limit) != MEMORY_REFUSE;
    return !needs_memory && bytes && hopes ? MAKE_ROOM_REPLY_MS : MAKE_ROOM_WAIT_MS;
}

static enum memory_answer ask_memory(void *ctx, struct session *session, unsigned worker_id, bool needs_memory,
                                     size_t bytes) {
    struct server *server = ctx;
    struct worker *worker = server->workers[worker_id];
    int64_t now_ms = worker->dispatcher.now_ms, until_ms = session->memory_until_ms;
    memory_limit_refresh_if_due(server);
    session->memory_until_ms = 0;
    session->memory_waits = false;
    if (is_satisfied(server, needs_memory, bytes)) return MEMORY_RUN;
    if (!needs_memory && !bytes && goes_on_reading(server, session, now_ms)) return MEMORY_RUN;
    bool big = bytes >= BIG_ARGUMENT_BYTES;
    if (needs_memory && memory_limit_level(&server->metrics.limit) == MEMORY_REFUSE) return MEMORY_REFUSED;
    if (big && !memory_limit_can_ever_fit(server, bytes)) return MEMORY_REFUSED;
    if (big) memory_limit_demand(server, bytes);
    if (try_at_once(worker, needs_memory, bytes)) return MEMORY_RUN;
    bool over = until_ms && now_ms >= until_ms;
    if (over) session->memory_over_ms = now_ms;
    if (over || !session->connection)
        return answer_at_last(server, needs_memory, bytes); /* or nobody is there to wait */
    if (!until_ms) stat_add(&worker->room.commands_held, 1);
    /* The turn may have begun long ago: a walk through all keys knows only at its end how long its reply is. */
    session->memory_until_ms = until_ms ? until_ms : clock_unix_ms() + wait_ms(server, needs_memory, bytes);
    worker->room.somebody_waits = session->memory_waits = true;
    return MEMORY_WAIT;
}

static void look_at_memory(void *ctx) {
    memory_limit_refresh_if_due(ctx);
}

static bool has_room(void *ctx, size_t bytes) {
    struct server *server = ctx;
    if (bytes == 0) {
        memory_limit_release(&server->metrics.limit);
        return true;
    }
    memory_limit_refresh_if_due(ctx);
    if (memory_limit_may_read(ctx, bytes)) return true;
    memory_limit_demand(ctx, bytes);
    return false;
}

static void room_taken(void *ctx, size_t bytes) {
    struct server *server = ctx;
    memory_limit_taken(&server->metrics.limit, bytes);
}

static bool can_refuse(void *ctx, size_t bytes) {
    memory_limit_refresh_if_due(ctx);
    return memory_limit_can_refuse(ctx, bytes);
}

/* Others' replies may have left meanwhile although nothing can be freed. */
static bool has_room_for_reply(struct server *server, const struct session *session) {
    if (!session->reply_wanted || memory_limit_level(&server->metrics.limit) != MEMORY_REFUSE) return false;
    return memory_limit_may_read(server, session->reply_asked);
}

/* What it waits for then, if it does, may be something else: that is not of this wait. */
static void go_on(struct worker *worker, struct connection *connection) {
    struct session *session = &connection->session;
    session->paused = session->memory_waits = false;
    session->active_ms = worker->dispatcher.now_ms; /* it was we who kept it idle */
    enum connection_state state = connection_resume(connection, &worker->io);
    if (!session->memory_waits) session->memory_until_ms = 0;
    worker_settle(worker, connection, state);
}

/* Lets those go on that wait; who has to wait longer says so again. */
static void resume(struct worker *worker) {
    struct server *server = worker->server;
    bool tight = memory_limit_level(&server->metrics.limit) >= MEMORY_DELAY;
    worker->room.somebody_waits = false;
    for (struct connection *connection = worker->connections, *next; connection; connection = next) {
        struct session *session = &connection->session;
        next = connection->next;
        bool for_long = connection_held_for_long(connection, worker->dispatcher.now_ms);
        if (connection->held_back && (!tight || for_long)) {
            connection->held_back = false;
            worker_settle(worker, connection, CONNECTION_OPEN);
        } else if (session->memory_waits && (!tight || worker->dispatcher.now_ms >= session->memory_until_ms ||
                                             has_room_for_reply(server, session))) {
            go_on(worker, connection);
        } else if (connection->held_back || session->memory_waits) {
            worker->room.somebody_waits = true;
        }
    }
}

/* ---- the worker's loop ---- */

/* In proportion to what is in excess: about a microsecond a kilobyte is what demotion takes. */
static uint64_t slice_ns(const struct worker *worker) {
    int64_t bytes = excess(worker);
    if (bytes <= LITTLE_BYTES || !worker->dispatcher.port) return SLICE_NS;
    uint64_t ns = (uint64_t)bytes;
    return ns > LONG_SLICE_NS ? LONG_SLICE_NS : ns;
}

void make_room_turn(struct worker *worker) {
    struct server *server = worker->server;
    struct make_room *room = &worker->room;
    room->spent_ns = 0;
    room->stretch = (struct make_room_stretch){0};
    room->busy = false;
    memory_limit_release(&server->metrics.limit); /* what the last command did not take */
    client_memory_check(worker);
    bool bounded = atomic_load_explicit(&server->host.memory_bounded, memory_order_relaxed);
    if (!bounded && !room->somebody_waits && room->detached_count == 0) return;
    memory_limit_refresh_if_due(server);
    if (memory_limit_level(limit_of(worker)) >= MEMORY_MAKE_ROOM || room->detached_count > 0)
        slice(worker, slice_ns(worker));
    if (room->somebody_waits) resume(worker);
}

bool make_room_is_due(const struct worker *worker) {
    return worker->room.busy;
}

int make_room_wait_ms(const struct worker *worker, int otherwise_ms) {
    bool hungry = worker->dispatcher.port && tier_is_hungry(worker->dispatcher.port);
    return (worker->room.somebody_waits || hungry) && otherwise_ms > 1 ? 1 : otherwise_ms;
}

void make_room_init(struct worker *worker) {
    worker->room = (struct make_room){0};
    random_seed_from_kernel(&worker->room.random);
    worker->room.compact_shard = worker->id;
}

void make_room_attach(struct server *server) {
    server->host.look_at_memory = look_at_memory;
    server->host.ask_memory = ask_memory;
    server->host.has_room = has_room;
    server->host.room_taken = room_taken;
    server->host.can_refuse = can_refuse;
}
