/* Lanes: one for each shard of which something is parked. See stream_parked.h.
 *
 * A lane is a client in small: it has a session, with the waiter that the tier tells of reads that have ended, and a
 * queue. The dispatcher runs its commands up to one that waits, and asks for the cold records of those behind as well.
 *
 * Settling may happen while the dispatcher is in the middle of a client's batch, in front of a command that has all
 * other workers stand still; what the dispatcher keeps for that batch is put aside meanwhile. */

#include "server/stream_parked.h"

#include "server/server.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct parked_command {
    struct parked_command *next;
    uint64_t position;
    uint32_t database, argc;
    size_t bytes;       /* of all of it */
    struct span argv[]; /* and the words behind them */
};

struct lane {
    struct lane *next;
    uint32_t shard;
    struct session session;
    struct parked_command *first, **last;
};

struct stream_parked {
    struct server *server;
    struct stream_round *round;
    struct lane *lanes; /* list */
    struct lane *of_shard[LIMIT_SHARDS];
    size_t bytes;
    bool running;
    struct reply reply;
    _Atomic uint64_t oldest; /* UINT64_MAX: nothing is parked */
};

struct stream_parked *stream_parked_create(struct server *server, struct stream_round *round) {
    struct stream_parked *parked = calloc(1, sizeof(*parked));
    if (!parked) return NULL;
    parked->server = server;
    parked->round = round;
    parked->oldest = UINT64_MAX;
    reply_init(&parked->reply, NULL, 0, NULL, NULL);
    return parked;
}

static struct tier_port *port_of(struct stream_parked *parked) {
    return parked->server->workers[0]->dispatcher.port;
}

static void drop_first(struct stream_parked *parked, struct lane *lane) {
    struct parked_command *command = lane->first;
    lane->first = command->next;
    if (!lane->first) lane->last = &lane->first;
    parked->bytes -= command->bytes;
    free(command);
}

static void end_lane(struct stream_parked *parked, struct lane *lane) {
    struct lane **at = &parked->lanes;
    while (*at != lane) at = &(*at)->next;
    *at = lane->next;
    parked->of_shard[lane->shard] = NULL;
    stream_round_unpark(parked->round, lane->shard);
    tier_release(port_of(parked), &lane->session.waiter);
    session_free(&lane->session);
    free(lane);
}

void stream_parked_destroy(struct stream_parked *parked) {
    if (!parked) return;
    for (struct lane *lane = parked->lanes, *next; lane; lane = next) {
        next = lane->next;
        while (lane->first) drop_first(parked, lane);
        end_lane(parked, lane);
    }
    free(parked);
}

static void note_oldest(struct stream_parked *parked) {
    uint64_t oldest = UINT64_MAX;
    for (const struct lane *lane = parked->lanes; lane; lane = lane->next)
        if (lane->first->position < oldest) oldest = lane->first->position;
    atomic_store_explicit(&parked->oldest, oldest, memory_order_release);
}

/* ---- running ---- */

/* Runs what it can of the lane. True: it is empty. */
static bool run_lane(struct stream_parked *parked, struct lane *lane, bool may_wait) {
    struct worker *worker = parked->server->workers[0];
    struct request requests[LIMIT_BATCH_COMMANDS];
    lane->session.waits_for_cold = may_wait;
    while (lane->first) {
        unsigned count = 0;
        struct parked_command *command = lane->first;
        lane->session.database = command->database;
        for (; command && count < LIMIT_BATCH_COMMANDS && command->database == lane->session.database;
             command = command->next)
            requests[count++] = (struct request){.argv = command->argv, .argc = command->argc};
        enum dispatch_result result;
        unsigned done =
            dispatch_requests(&worker->dispatcher, &lane->session, requests, count, &parked->reply, &result);
        if (parked->reply.errors) stream_round_log_error(parked->round, parked->reply.error_code);
        reply_clear(&parked->reply);
        lane->session.closing = false;
        while (done-- > 0) drop_first(parked, lane);
        if (result == DISPATCH_WAITS) return false;
    }
    return true;
}

void stream_parked_turn(struct stream_parked *parked) {
    if (!parked->lanes || parked->running) return;
    parked->running = true;
    for (struct lane *lane = parked->lanes, *next; lane; lane = next) {
        next = lane->next;
        if (!lane->session.waiter.outstanding && run_lane(parked, lane, true)) end_lane(parked, lane);
    }
    parked->running = false;
    note_oldest(parked);
}

static void settle_lanes(struct stream_parked *parked, uint32_t shard) {
    for (struct lane *lane = parked->lanes, *next; lane; lane = next) {
        next = lane->next;
        if (shard != STREAM_ALONE && lane->shard != shard) continue;
        bool ended = run_lane(parked, lane, false);
        assert(ended);
        end_lane(parked, lane);
    }
}

void stream_parked_settle(struct stream_parked *parked, uint32_t shard) {
    if (!parked->lanes || parked->running || (shard != STREAM_ALONE && !parked->of_shard[shard])) return;
    struct dispatcher *dispatcher = &parked->server->workers[0]->dispatcher;
    struct key *keys = malloc(sizeof(dispatcher->keys));
    if (!keys) abort(); /* some kilobytes; without them replicas would part */
    uint64_t ticks = dispatcher->ticks;
    bool no_memory = dispatcher->no_memory;
    memcpy(keys, dispatcher->keys, sizeof(dispatcher->keys));
    parked->running = true;
    settle_lanes(parked, shard);
    parked->running = false;
    memcpy(dispatcher->keys, keys, sizeof(dispatcher->keys));
    dispatcher->ticks = ticks;
    dispatcher->no_memory = no_memory;
    free(keys);
    note_oldest(parked);
}

/* ---- parking ---- */

static struct lane *lane_of(struct stream_parked *parked, uint32_t shard) {
    struct lane *lane = parked->of_shard[shard];
    if (lane) return lane;
    lane = calloc(1, sizeof(*lane));
    if (!lane) abort(); /* there are no more than there are shards */
    lane->shard = shard;
    lane->last = &lane->first;
    session_init(&lane->session, 0, parked->server->workers[0]->dispatcher.now_ms);
    lane->session.authenticated = lane->session.replaying = lane->session.from_primary = true;
    lane->next = parked->lanes;
    parked->lanes = parked->of_shard[shard] = lane;
    return lane;
}

bool stream_parked_put(struct stream_parked *parked, const struct stream_command *command) {
    size_t words = 0, head = sizeof(struct parked_command) + command->argc * sizeof(struct span);
    for (uint32_t i = 0; i < command->argc; i++) words += command->argv[i].length;
    struct parked_command *copy = malloc(head + words);
    if (!copy) return false;
    struct lane *lane = lane_of(parked, command->shard);
    copy->next = NULL;
    copy->position = command->position;
    copy->database = command->database;
    copy->argc = command->argc;
    copy->bytes = head + words;
    char *to = (char *)copy + head;
    for (uint32_t i = 0; i < command->argc; i++) {
        copy->argv[i] = span_of(to, command->argv[i].length);
        if (command->argv[i].length) memcpy(to, command->argv[i].data, command->argv[i].length);
        to += command->argv[i].length;
    }
    *lane->last = copy;
    lane->last = &copy->next;
    parked->bytes += copy->bytes;
    if (atomic_load_explicit(&parked->oldest, memory_order_relaxed) == UINT64_MAX)
        atomic_store_explicit(&parked->oldest, command->position, memory_order_release);
    return true;
}

/* ---- figures ---- */

bool stream_parked_is_empty(const struct stream_parked *parked) {
    return parked->lanes == NULL;
}

size_t stream_parked_bytes(const struct stream_parked *parked) {
    return parked->bytes;
}

uint64_t stream_parked_oldest(struct stream_parked *parked, uint64_t otherwise) {
    uint64_t oldest = atomic_load_explicit(&parked->oldest, memory_order_acquire);
    return oldest < otherwise ? oldest : otherwise;
}
