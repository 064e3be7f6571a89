#ifndef TERRACE_SERVER_WORKER_H
#define TERRACE_SERVER_WORKER_H

/* A worker: one thread with its own event loop, its own connections, and a dispatcher that may touch every shard.
 *
 *   loop:  wait -> serve what is ready -> messages from other workers -> tick (every 1/hz s) -> a slice of background
 *          work on the shards it looks after (number modulo workers)
 *
 * Another thread reaches a worker only by a message, or by stopping it (workers_stop). */

#include "net/connection.h"
#include "server/client_memory.h"
#include "server/delivery.h"
#include "server/make_room.h"
#include "server/monitor.h"
#include "server/tier_work.h"

#include <pthread.h>
#include <stdatomic.h>

struct server;
struct worker;

typedef void worker_message(struct worker *worker, void *argument);

struct worker_mail {
    struct worker_mail *next;
    worker_message *run;
    void *argument;
};

struct worker {
    unsigned id;
    struct server *server;
    pthread_t thread;
    _Atomic pthread_t self; /* the thread it runs on, once it does; for worker_is_here() */
    int poll_fd, wake_fd;
    struct connection *connections; /* list; newest first */
    atomic_uint connection_count;
    struct dispatcher dispatcher;
    struct connection_io io;
    struct connection_limits limits;
    char *read_buffer, *reply_buffer;
    struct connection *monitors; /* linked by next_monitor */
    atomic_uint monitor_count;
    struct monitor_feed feed;
    struct delivery delivery;
    bool somebody_paused;   /* a connection waits for CLIENT PAUSE to end, or its command is unfinished */
    unsigned rest_ms;       /* ... and all who wait are content to wait so long */
    bool readers_paused;    /* also such as do not write */
    stat_counter postponed; /* how many do */
    struct make_room room;
    struct client_memory client_memory;
    atomic_uint disk_waiters;          /* its clients in WAIT and WAITAOF: it is woken when more is durable */
    uint64_t disk_seen;                /* what was durable when they were last looked at */
    int file_seen;                     /* enum aof_state then */
    uint64_t acks_seen;                /* replication.acks then */
    bool wants_acks;                   /* somebody waits for replicas: they are to be asked */
    struct replica *replicas;          /* its connections that are replicas; list */
    struct journal_reader *stream_pin; /* for sending to them; NULL: not needed yet */
    atomic_bool stream_sleeps;         /* it sleeps, having sent them everything: wake it when something is appended */
    uint64_t sent_ticks;               /* clock_ticks() when something was last sent to one of them */
    uint64_t stream_seen;              /* the journal's end when others were last woken for it */
    int64_t newline_ms;                /* when those who wait for a copy were last given a sign of life */
    uint64_t journal_seen;             /* its end when the writer of the append-only file was last told */
    bool deaf;                         /* accepts nobody until the next tick: the process has no descriptor left */
    pthread_mutex_t mail_lock;
    struct worker_mail *mail, **mail_last;
    int64_t next_tick_ns; /* clock_monotonic_ns() */
    /* Background work. */
    bool sweeping, draining, compacting, purging;
    uint32_t sweep_left; /* shards still to be visited in this round */
    uint32_t sweep_shard, drain_shard, compact_shard;
    struct tier_waiter sweep_waiter; /* blocks in which much has expired are read for it */
    int64_t sweep_credit_ns;         /* what is left of this tick's share of time */
    uint64_t slice_debt_ns;          /* background time not yet earned by serving */
    int64_t next_help_ns;            /* monotonic: while busy, no slice for walkers before */
    struct tier_work tier_work;
    bool tier_busy;          /* it has more to do at once */
    _Atomic int busy_cpu;    /* where it has lately run while a snapshot is taken; -1: it did not have much to do */
    bool busy;               /* in the tick before: it served for a good part of it */
    uint64_t turn_ns_before; /* `turn_ns` at the last tick */
    bool helps;              /* walkers of a snapshot may leave slices to it: keyspace_snapshot_help() */
    bool helped;             /* the last background slice was one of these */
    /* For INFO. */
    stat_counter turns, turn_ns; /* times the loop went round, and how long it worked */
    stat_counter background_ns, sweep_ns;
    stat_counter expired_percent_hundredths; /* of the volatile records the sweep sees; a moving average */
    stat_counter client_bytes, longest_query_bytes, longest_output_bytes; /* as of the last tick */
    cpu_set_t *affinity;                                                  /* NULL: not pinned */
};

/* False: with one line in `error`. */
bool worker_init(struct worker *worker, struct server *server, unsigned id, struct socket_error *error);
void worker_free(struct worker *worker);
/* Runs until the server shuts down; on the calling thread. */
void worker_run(struct worker *worker);

/* Any thread. The message runs on the worker's thread between turns. */
void worker_post(struct worker *worker, worker_message *run, void *argument);
/* Makes the worker's wait return. Any thread, and signal handlers. */
void worker_wake(struct worker *worker);

/* Whether the caller is the worker's own thread. */
bool worker_is_here(struct worker *worker);
/* For pubsub_create(); `ctx` is the server. A worker looks for itself at the end of its turn. */
void worker_wake_for_messages(void *ctx, unsigned worker);

/* See struct command_host; `ctx` is the server. */
void worker_unblocked(void *ctx, struct blocked *blocked);

/* Walkers of a snapshot leave it nothing from now on, until its next turn with clients. On its own thread, before it
 * waits for something outside of its loop. */
void worker_stop_helping(struct worker *worker);

/* The memory it has for itself. */
size_t worker_buffer_bytes(const struct worker *worker);

/* On the worker's own thread: closes and forgets a connection. */
void worker_close(struct worker *worker, struct connection *connection);
/* Marks a connection of any worker as dead; its worker closes it at once. All other workers stand still. */
void worker_kill(struct connection *connection);
/* The limits of its connections, as the configuration has them now. On its own thread, or while it stands still. */
void worker_refresh_limits(struct worker *worker);
/* On the worker's own thread, after something other than its own input changed a connection. */
void worker_settle(struct worker *worker, struct connection *connection, enum connection_state state);

#endif
