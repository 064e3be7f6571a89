/* The threads of a snapshot. Each lane asks the keyspace for a slice, gives what is in it to the sink, and releases it.
 * Once the sink has refused something, or the snapshot was stopped, slices are still taken and released, which then
 * costs no more than a look at each record, until all records of the cut have been passed. */

#include "persist/snapshot.h"

#include "base/thread_place.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { IDLE_NS = 1000000 };

struct lane {
    struct snapshot *snapshot;
    unsigned number;
    bool ended;
    pthread_t thread;
    struct snapshot_slice slice;
};

struct snapshot {
    struct snapshot_options options;
    struct keyspace_snapshot *walk;
    atomic_bool stopped, over;
    atomic_uint left; /* lanes */
    _Atomic uint64_t done;
    unsigned started; /* threads */
    /* Threads are made before the cut, when they still may fail, and wait here. */
    pthread_mutex_t gate;
    pthread_cond_t opened;
    enum { GATE_CLOSED, GATE_OPEN, GATE_CANCELLED } state;
    struct lane lanes[];
};

void snapshot_stop(struct snapshot *snapshot) {
    atomic_store(&snapshot->stopped, true);
    keyspace_snapshot_abandon(snapshot->walk);
}

bool snapshot_is_over(const struct snapshot *snapshot) {
    return atomic_load(&snapshot->over);
}

static bool goes_on(const struct snapshot *snapshot) {
    return !atomic_load_explicit(&snapshot->stopped, memory_order_relaxed) &&
           !keyspace_snapshot_is_lost(snapshot->walk);
}

static bool give(struct lane *lane, struct snapshot_taken *taken) {
    const struct snapshot_sink *sink = &lane->snapshot->options.sink;
    if (taken->ref) return sink->cold(sink->ctx, lane->number, taken->shard, taken->database, taken->hash, taken->ref);
    if (taken->collection) return sink->collection(sink->ctx, lane->number, taken->database, taken->collection);
    if (taken->walked && sink->walked) return sink->walked(sink->ctx, lane->number, taken->database, taken->image);
    return sink->record(sink->ctx, lane->number, taken->database, taken->image);
}

static void end_lane(struct lane *lane) {
    struct snapshot *snapshot = lane->snapshot;
    const struct snapshot_sink *sink = &snapshot->options.sink;
    lane->ended = true;
    if (goes_on(snapshot) && sink->lane_end && !sink->lane_end(sink->ctx, lane->number)) snapshot_stop(snapshot);
    if (atomic_fetch_sub(&snapshot->left, 1) > 1) return;
    bool whole = goes_on(snapshot);
    atomic_store(&snapshot->over, true);
    if (snapshot->options.complete) snapshot->options.complete(snapshot->options.ctx, whole);
}

/* SNAPSHOT_WALK_END: the lane has ended. */
static enum snapshot_walk step(struct lane *lane) {
    struct snapshot *snapshot = lane->snapshot;
    enum snapshot_walk walk = keyspace_snapshot_walk(snapshot->walk, lane->number, &lane->slice);
    for (unsigned i = 0; i < lane->slice.count; i++) {
        struct snapshot_taken *taken = &lane->slice.taken[i];
        if (goes_on(snapshot) && !give(lane, taken)) snapshot_stop(snapshot);
        snapshot_taken_release(snapshot->walk, taken);
    }
    atomic_fetch_add_explicit(&snapshot->done, lane->slice.count, memory_order_relaxed);
    if (walk == SNAPSHOT_WALK_END) end_lane(lane);
    return walk;
}

/* ---- life ---- */

static void *run(void *argument) {
    struct lane *lane = argument;
    struct snapshot *snapshot = lane->snapshot;
    thread_place_behind();
    pthread_mutex_lock(&snapshot->gate);
    while (snapshot->state == GATE_CLOSED) pthread_cond_wait(&snapshot->opened, &snapshot->gate);
    bool cancelled = snapshot->state == GATE_CANCELLED;
    pthread_mutex_unlock(&snapshot->gate);
    const struct timespec moment = {.tv_nsec = IDLE_NS};
    enum snapshot_walk walk = cancelled ? SNAPSHOT_WALK_END : SNAPSHOT_WALK_ON;
    while (walk != SNAPSHOT_WALK_END) {
        if (snapshot->options.place) snapshot->options.place(snapshot->options.ctx);
        if ((walk = step(lane)) == SNAPSHOT_WALK_IDLE) nanosleep(&moment, NULL);
    }
    return NULL;
}

static void open_gate(struct snapshot *snapshot, bool cancel) {
    pthread_mutex_lock(&snapshot->gate);
    if (snapshot->state == GATE_CLOSED) snapshot->state = cancel ? GATE_CANCELLED : GATE_OPEN;
    pthread_cond_broadcast(&snapshot->opened);
    pthread_mutex_unlock(&snapshot->gate);
}

static bool start_threads(struct snapshot *snapshot) {
    for (; snapshot->started < snapshot->options.lanes; snapshot->started++) {
        struct lane *lane = &snapshot->lanes[snapshot->started];
        if (pthread_create(&lane->thread, NULL, run, lane) != 0) return false;
    }
    return true;
}

struct snapshot *snapshot_create(const struct snapshot_options *options) {
    unsigned lanes = options->lanes ? options->lanes : 1;
    assert(lanes <= SNAPSHOT_LANES_MAX);
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot) + lanes * sizeof(struct lane));
    if (!snapshot) return NULL;
    snapshot->options = *options;
    snapshot->options.lanes = lanes;
    atomic_init(&snapshot->left, lanes);
    pthread_mutex_init(&snapshot->gate, NULL);
    pthread_cond_init(&snapshot->opened, NULL);
    for (unsigned i = 0; i < lanes; i++) {
        snapshot->lanes[i].snapshot = snapshot;
        snapshot->lanes[i].number = i;
    }
    snapshot->walk = keyspace_snapshot_create(options->keyspace, lanes);
    if (snapshot->walk && options->sink.cold) keyspace_snapshot_want_references(snapshot->walk);
    if (snapshot->walk && (options->stepped || start_threads(snapshot))) return snapshot;
    snapshot_destroy(snapshot);
    return NULL;
}

bool snapshot_begin(struct snapshot *snapshot) {
    if (atomic_load(&snapshot->options.keyspace->snapshot)) return false;
    keyspace_snapshot_cut(snapshot->walk);
    open_gate(snapshot, false);
    return true;
}

void snapshot_destroy(struct snapshot *snapshot) {
    if (!snapshot) return;
    open_gate(snapshot, true);
    for (unsigned i = 0; i < snapshot->started; i++) pthread_join(snapshot->lanes[i].thread, NULL);
    keyspace_snapshot_destroy(snapshot->walk);
    pthread_mutex_destroy(&snapshot->gate);
    pthread_cond_destroy(&snapshot->opened);
    free(snapshot);
}

/* ---- from outside ---- */

bool snapshot_step(struct snapshot *snapshot, unsigned lane) {
    assert(snapshot->options.stepped);
    return !snapshot->lanes[lane].ended && step(&snapshot->lanes[lane]) != SNAPSHOT_WALK_END;
}

struct snapshot_figures snapshot_figures(const struct snapshot *snapshot) {
    return (struct snapshot_figures){.done = atomic_load_explicit(&snapshot->done, memory_order_relaxed),
                                     .total = keyspace_snapshot_keys(snapshot->walk),
                                     .waiting_bytes = keyspace_snapshot_waiting_bytes(snapshot->walk),
                                     .set_aside_bytes = keyspace_snapshot_set_aside_bytes(snapshot->walk)};
}

/* ---- all at once ---- */

struct walk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over, whole;
};

static void walk_complete(void *ctx, bool whole) {
    struct walk *walk = ctx;
    pthread_mutex_lock(&walk->lock);
    walk->over = true;
    walk->whole = whole;
    pthread_cond_signal(&walk->changed);
    pthread_mutex_unlock(&walk->lock);
}

bool snapshot_walk(struct keyspace *keyspace, struct snapshot_sink sink, unsigned lanes) {
    struct walk walk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct snapshot_options options = {
        .keyspace = keyspace, .sink = sink, .lanes = lanes, .complete = walk_complete, .ctx = &walk};
    struct snapshot *snapshot = snapshot_create(&options);
    bool begun = snapshot && snapshot_begin(snapshot);
    pthread_mutex_lock(&walk.lock);
    while (begun && !walk.over) pthread_cond_wait(&walk.changed, &walk.lock);
    pthread_mutex_unlock(&walk.lock);
    snapshot_destroy(snapshot);
    return begun && walk.whole;
}
