/* A thread of a phase.
 *
 * Load, verify and closed loop work lane by lane: a lane is given a batch, and another when enough of it is answered
 * (all of it in the closed loop; half when loading, so that the server never waits for the next batch). Batches are
 * composed as the output buffer has room and sent as the socket takes them.
 *
 * The open loop works by the clock. Operation k of this thread is due at a time drawn in advance of any reply; when it
 * is due it goes to a lane that has nothing unanswered, or else to the one with least. If all are full, or the thread
 * itself is late, the operation waits its turn and its latency runs from when it was due: a server that stalls for a
 * second is charged for every operation that should have started within that second. What was due before the end is
 * still sent and waited for, up to DRAIN_SECONDS; what is then unanswered is recorded with the time waited so far.
 *
 * Nothing is allocated while it runs. */
#include "bench/capacity_worker.h"

#include "bench/client.h"
#include "bench/random.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BUFFER_SIZE = 1 << 18,
    EVENTS_MAX = 256,
    LOAD_DEPTH = 512,    /* requests in flight on a connection that loads: two batches of some 100 KB of 1 KB values */
    OPEN_DEPTH_MIN = 16, /* on one connection of the open loop, before operations wait in the schedule */
    OPEN_DEPTH_MAX = 1024,
    OPEN_DEPTH_ALL = 1 << 18, /* on all connections together, as far as OPEN_DEPTH_MIN allows */
    BUFFERS_ALL = 1 << 28,    /* bytes of output buffers of all connections, as far as LANE_BUFFER_MIN allows */
    OPEN_PROBES = 8,          /* lanes looked at for one that is idle */
    OPEN_BURST = 256,         /* operations sent between two looks at the replies */
    WAKE_MS = 100,            /* how soon a stop, a stall or the end of time is noticed when nothing else happens */
    DRAIN_SECONDS = 10,
};

struct socket_lane {
    int fd;
    bool wants_writable, retired;
    uint64_t batch_left; /* requests still to compose */
    uint64_t started_ns;
    struct lane lane;
};

struct capacity_worker {
    const struct run_plan *plan;
    const struct lane_wire *wire;
    struct key_generator keys;
    struct random_stream random;
    uint64_t next_key, end_key; /* load and verify */
    uint64_t start_ns, deadline_ns, drain_ns, heard_ns;
    double interval_ns, due_ns; /* open: mean gap of this thread; when its next operation is due, after the start */
    unsigned turn;              /* open: where the search for a lane goes on */
    int epoll;
    unsigned lane_count, active;
    struct socket_lane *lanes;
    char *read_buffer;
    struct run_result result;
};

static unsigned lane_depth(const struct run_plan *plan) {
    switch (plan->kind) {
    case RUN_CLOSED: return plan->options->pipeline;
    case RUN_OPEN: {
        unsigned share = OPEN_DEPTH_ALL / plan->options->connections;
        return share < OPEN_DEPTH_MIN ? OPEN_DEPTH_MIN : share > OPEN_DEPTH_MAX ? OPEN_DEPTH_MAX : share;
    }
    default: return LOAD_DEPTH;
    }
}

static uint64_t buffer_size(const struct run_plan *plan) {
    uint64_t value = plan->kind == RUN_VERIFY ? 0 : plan->options->value_size_max;
    uint64_t wanted = (value + LANE_REQUEST_HEAD) * lane_depth(plan);
    uint64_t share = BUFFERS_ALL / plan->options->connections;
    return wanted < share ? wanted : share;
}

struct capacity_worker *capacity_worker_create(const struct run_plan *plan, unsigned thread, unsigned threads,
                                               const int *sockets, unsigned socket_count) {
    const struct capacity_options *options = plan->options;
    struct capacity_worker *worker = calloc(1, sizeof(*worker));
    struct socket_lane *lanes = calloc(socket_count, sizeof(*lanes));
    assert(worker != NULL && lanes != NULL);
    worker->plan = plan;
    worker->wire = plan->wire;
    uint64_t keys = plan->end_key - plan->first_key;
    worker->next_key = plan->first_key + (uint64_t)((unsigned __int128)keys * thread / threads);
    worker->end_key = plan->first_key + (uint64_t)((unsigned __int128)keys * (thread + 1) / threads);
    worker->random = random_stream_make(options->seed ^ plan->salt, THREADS_MAX + thread);
    key_generator_init(&worker->keys, options->skew, plan->end_key, options->zipf_exponent, options->seed ^ plan->salt,
                       thread, threads);
    if (plan->kind == RUN_OPEN) {
        worker->interval_ns = 1e9 * threads / plan->rate;
        worker->due_ns = worker->interval_ns * (thread + 1) / threads;
    }
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    assert(worker->epoll >= 0);
    worker->lanes = lanes;
    worker->lane_count = socket_count;
    worker->read_buffer = malloc(READ_BUFFER_SIZE);
    bool good = worker->read_buffer != NULL;
    for (unsigned i = 0; i < socket_count; i++) {
        lanes[i].fd = sockets[i];
        good = lane_init(&lanes[i].lane, lane_depth(plan), buffer_size(plan)) && good;
    }
    if (good) return worker;
    capacity_worker_destroy(worker);
    return NULL;
}

void capacity_worker_destroy(struct capacity_worker *worker) {
    if (worker == NULL) return;
    for (unsigned i = 0; i < worker->lane_count; i++) {
        close(worker->lanes[i].fd);
        lane_release(&worker->lanes[i].lane);
    }
    close(worker->epoll);
    free(worker->lanes);
    free(worker->read_buffer);
    free(worker);
}

const struct run_result *capacity_worker_result(const struct capacity_worker *worker) {
    return &worker->result;
}

static void fail(struct capacity_worker *worker, const char *what, const char *why) {
    if (worker->result.failure[0] == '\0')
        snprintf(worker->result.failure, sizeof(worker->result.failure), "%s: %s", what, why);
    worker->active = 0;
}

static void watch(struct capacity_worker *worker, struct socket_lane *lane, int operation, bool writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = lane};
    int status = epoll_ctl(worker->epoll, operation, lane->fd, &event);
    assert(status == 0);
    lane->wants_writable = writable;
}

/* One operation of the mix. */
static void add_mixed(struct capacity_worker *worker, struct lane *lane, uint64_t time_ns) {
    uint64_t key = key_generator_next(&worker->keys);
    if (random_unit(&worker->random) < worker->plan->options->read_share)
        lane_get(lane, worker->wire, key, time_ns);
    else
        lane_set(lane, worker->wire, key, (uint32_t)random_next(&worker->random) | 1, time_ns);
}

/* How many requests the lane should send next; 0 when it has to wait for replies, or there is nothing more to do. */
static uint64_t next_batch(struct capacity_worker *worker, struct socket_lane *lane, uint64_t now_ns) {
    const struct run_plan *plan = worker->plan;
    unsigned unanswered = lane_unanswered(&lane->lane);
    if (plan->kind == RUN_CLOSED) {
        if (unanswered > 0 || now_ns >= worker->deadline_ns || run_stopped()) return 0;
        return plan->options->pipeline;
    }
    if (unanswered > lane->lane.depth / 2 || run_stopped()) return 0;
    uint64_t left = worker->end_key - worker->next_key;
    uint64_t room = lane->lane.depth - unanswered;
    return left < room ? left : room;
}

/* Appends requests as far as batch and buffer go. */
static void compose(struct capacity_worker *worker, struct socket_lane *lane, uint64_t now_ns) {
    const struct run_plan *plan = worker->plan;
    lane_compose(&lane->lane, worker->wire);
    if (plan->kind == RUN_OPEN) return;
    if (lane->batch_left == 0 && !lane->lane.composing) {
        lane->batch_left = next_batch(worker, lane, now_ns);
        lane->started_ns = now_ns;
    }
    while (lane->batch_left > 0 && lane_takes_request(&lane->lane)) {
        if (plan->kind == RUN_CLOSED) {
            add_mixed(worker, &lane->lane, lane->started_ns);
        } else {
            if (worker->next_key == worker->end_key) {
                lane->batch_left = 0; /* another lane took the last key meanwhile */
                break;
            }
            uint64_t key = worker->next_key++;
            if (plan->kind == RUN_LOAD)
                lane_set(&lane->lane, worker->wire, key, 0, lane->started_ns);
            else
                lane_get(&lane->lane, worker->wire, key, lane->started_ns);
        }
        lane->batch_left--;
    }
}

/* Sends what there is, composing more as the buffer empties, until the socket is full or the lane has to wait. */
static void pump(struct capacity_worker *worker, struct socket_lane *lane, uint64_t now_ns) {
    bool full = false;
    for (;;) {
        compose(worker, lane, now_ns);
        size_t length = lane->lane.out_end - lane->lane.out_at;
        if (length == 0) break;
        ssize_t sent = send(lane->fd, lane->lane.out + lane->lane.out_at, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            fail(worker, "connection lost", strerror(errno));
            return;
        }
        if (sent > 0) {
            lane_sent(&lane->lane, (size_t)sent);
            worker->heard_ns = now_ns;
        }
        full = sent < (ssize_t)length;
        if (full) break;
    }
    if (full != lane->wants_writable) watch(worker, lane, EPOLL_CTL_MOD, full);
    bool idle = lane_unanswered(&lane->lane) == 0 && !lane_has_output(&lane->lane) && lane->batch_left == 0;
    if (worker->plan->kind != RUN_OPEN && idle && !lane->retired) {
        lane->retired = true;
        worker->active--;
    }
}

static void read_replies(struct capacity_worker *worker, struct socket_lane *lane) {
    ssize_t got = recv(lane->fd, worker->read_buffer, READ_BUFFER_SIZE, 0);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        fail(worker, "connection lost", got == 0 ? "closed by the server" : strerror(errno));
        return;
    }
    uint64_t now_ns = client_clock_ns();
    worker->heard_ns = now_ns;
    if (!lane_feed(&lane->lane, worker->wire, worker->read_buffer, (size_t)got, now_ns, &worker->result.counts,
                   &worker->result.latency)) {
        fail(worker, "protocol violation", "an answer is not RESP, or not to what was asked");
        return;
    }
    worker->result.ended_ns = now_ns;
    pump(worker, lane, now_ns);
}

static uint64_t unanswered_of_all(const struct capacity_worker *worker) {
    uint64_t unanswered = 0;
    for (unsigned i = 0; i < worker->lane_count; i++) unanswered += lane_unanswered(&worker->lanes[i].lane);
    return unanswered;
}

/* Waits at most until `until_ns` and handles what came. */
static void wait_for_events(struct capacity_worker *worker, uint64_t until_ns) {
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_ns = client_clock_ns();
    uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    if (wait_ns > WAKE_MS * 1000000ull) wait_ns = WAKE_MS * 1000000ull;
    struct timespec wait = {.tv_nsec = (long)wait_ns};
    int ready = epoll_pwait2(worker->epoll, events, EVENTS_MAX, &wait, NULL);
    for (int i = 0; i < ready && worker->active > 0; i++) {
        struct socket_lane *lane = events[i].data.ptr;
        if (events[i].events & ~(unsigned)EPOLLOUT) read_replies(worker, lane);
        if ((events[i].events & EPOLLOUT) && worker->active > 0) pump(worker, lane, client_clock_ns());
    }
    now_ns = client_clock_ns();
    double silent = ((double)now_ns - (double)worker->heard_ns) / 1e9;
    if (silent > worker->plan->options->timeout_seconds && worker->active > 0 && unanswered_of_all(worker) > 0)
        fail(worker, "no answer", "the server took or sent nothing for as long as --timeout allows");
}

static struct socket_lane *choose_lane(struct capacity_worker *worker) {
    struct socket_lane *best = NULL;
    for (unsigned probe = 0; probe < worker->lane_count; probe++) {
        struct socket_lane *lane = &worker->lanes[worker->turn];
        worker->turn = worker->turn + 1 == worker->lane_count ? 0 : worker->turn + 1;
        if (!lane_takes_request(&lane->lane)) continue;
        unsigned unanswered = lane_unanswered(&lane->lane);
        if (best == NULL || unanswered < lane_unanswered(&best->lane)) best = lane;
        if (unanswered == 0 || probe >= OPEN_PROBES) break;
    }
    return best;
}

static double next_gap(struct capacity_worker *worker) {
    if (worker->plan->options->even_arrivals) return worker->interval_ns;
    return -log1p(-random_unit(&worker->random)) * worker->interval_ns;
}

/* Sends what is due. False when no lane could take the next operation. */
static bool send_due(struct capacity_worker *worker) {
    uint64_t now_ns = client_clock_ns();
    for (unsigned sent = 0; sent < OPEN_BURST; sent++) {
        uint64_t due_ns = worker->start_ns + (uint64_t)worker->due_ns;
        if (due_ns > now_ns || due_ns >= worker->deadline_ns || worker->active == 0) return true;
        struct socket_lane *lane = choose_lane(worker);
        if (lane == NULL) return false;
        if (lane_unanswered(&lane->lane) == 0) worker->heard_ns = now_ns;
        add_mixed(worker, &lane->lane, due_ns);
        worker->result.intended++;
        worker->due_ns += next_gap(worker);
        pump(worker, lane, now_ns);
        now_ns = client_clock_ns();
        histogram_record(&worker->result.lateness, now_ns - due_ns, 1);
    }
    return true;
}

/* Operations that nobody answered, sent or not: they have waited at least until now. */
static void record_unfinished(struct capacity_worker *worker) {
    uint64_t now_ns = client_clock_ns();
    for (unsigned i = 0; i < worker->lane_count; i++) {
        struct lane *lane = &worker->lanes[i].lane;
        for (unsigned at = lane->first; at != lane->end; at++, worker->result.unfinished++)
            histogram_record(&worker->result.latency, now_ns - lane->requests[at & lane->ring_mask].time_ns, 1);
    }
    if (run_stopped()) return;
    for (;; worker->due_ns += next_gap(worker)) {
        uint64_t due_ns = worker->start_ns + (uint64_t)worker->due_ns;
        if (due_ns >= worker->deadline_ns) return;
        worker->result.intended++;
        worker->result.unfinished++;
        histogram_record(&worker->result.latency, now_ns - due_ns, 1);
    }
}

static void run_open(struct capacity_worker *worker) {
    /* Timers of a thread are by default rounded up by 50 microseconds, which would count as latency. */
    prctl(PR_SET_TIMERSLACK, 1ul, 0, 0, 0);
    worker->active = 1;
    while (worker->active > 0) {
        bool sent = send_due(worker);
        uint64_t now_ns = client_clock_ns();
        uint64_t due_ns = worker->start_ns + (uint64_t)worker->due_ns;
        bool more = due_ns < worker->deadline_ns;
        if (now_ns >= worker->drain_ns || run_stopped()) break;
        if (!more && unanswered_of_all(worker) == 0) break;
        wait_for_events(worker, more && sent ? due_ns : UINT64_MAX);
    }
    record_unfinished(worker);
}

void capacity_worker_run(struct capacity_worker *worker, uint64_t start_ns) {
    const struct run_plan *plan = worker->plan;
    worker->start_ns = worker->heard_ns = worker->result.ended_ns = start_ns;
    bool timed = plan->kind == RUN_CLOSED || plan->kind == RUN_OPEN;
    worker->deadline_ns = timed ? start_ns + (uint64_t)(plan->seconds * 1e9) : UINT64_MAX;
    worker->drain_ns = timed ? worker->deadline_ns + DRAIN_SECONDS * 1000000000ull : UINT64_MAX;
    worker->active = worker->lane_count;
    for (unsigned i = 0; i < worker->lane_count; i++) watch(worker, &worker->lanes[i], EPOLL_CTL_ADD, false);
    if (plan->kind == RUN_OPEN) {
        run_open(worker);
        return;
    }
    for (unsigned i = 0; i < worker->lane_count && worker->active > 0; i++)
        pump(worker, &worker->lanes[i], client_clock_ns());
    while (worker->active > 0) wait_for_events(worker, UINT64_MAX);
}
