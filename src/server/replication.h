#ifndef TERRACE_SERVER_REPLICATION_H
#define TERRACE_SERVER_REPLICATION_H

/* Replication, in the protocol of Redis (PSYNC2): what both sides share, and the primary's side.
 *
 *   replication.[ch]            role, ids and offsets, the backlog, the table of replicas; INFO, ROLE
 *   replication_commands.c      REPLCONF, PSYNC, SYNC, WAIT, FAILOVER
 *   replication_send.[ch]       from the journal's ring to the sockets of replicas, by their workers
 *   replication_full.[ch]       full synchronisation: one snapshot for all who wait
 *   primary_link.[ch]           the replica's side: connects, receives, applies
 *
 * Offsets. The journal's position is the replication offset: the number of bytes of the stream so far. PSYNC names the
 * first byte it wants, counted from one: `PSYNC id p+1` asks for what follows position p. `second_offset` is counted in
 * the same manner: the first byte that replid2 does not vouch for; -1: there is no replid2 (forty zeros).
 *
 * The stream is what is in the journal: on a primary the effects of its commands; on a replica the very bytes that came
 * from its primary, so that whoever is behind it, or has been beside it, can go on with the same ids and offsets.
 *
 *   backlog_from ... journal_end()     what the ids vouch for, and PSYNC may ask for as far as it is in the ring, or
 *                                      in the increments of the append-only file (aof_backlog.h)
 *
 * While the backlog is active the journal has a reader of replication's own that holds nothing: effects are written.
 *
 * Roles
 *   PRIMARY   workers tell effects; own id
 *   REPLICA   workers tell no effects (journaling_refresh() sees to it), link's bytes are appended instead with
 *             replication_append(); the backlog is always active; keys do not expire by themselves
 *
 * Threads: a change of role, id or backlog is made while all workers stand still, and every reader of these fields is
 * either a worker or holds `lock`. Where nothing else is said, a function may be called by any thread. */

#include "base/span.h"
#include "persist/journal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct worker;
struct connection;
struct text;
struct rdb_history;
struct reply;
struct call;
struct config;
struct config_error;
struct primary_link;
struct stream_round;
struct replica;
struct failover;
struct replication_full;
struct journal_spool;
struct aof_backlog;

enum { REPLICATION_ID = 40, REPLICATION_MARK = 40 /* `$EOF:` and so many bytes */ };

enum replication_role { REPLICATION_PRIMARY, REPLICATION_REPLICA };

enum replication_failover { FAILOVER_NONE, FAILOVER_WAITING, FAILOVER_HANDING_OVER };

/* Part of struct server, as server->replication. */
struct replication {
    pthread_mutex_t lock; /* of the table of replicas, and for reading ids and backlog outside of workers */
    _Atomic int role;     /* enum replication_role */
    char id[REPLICATION_ID + 1], id2[REPLICATION_ID + 1];
    int64_t second_offset;          /* -1: none */
    struct journal_reader *keeper;  /* has effects be written; NULL: the backlog is not active */
    uint64_t backlog_from;          /* position from which on the stream is that of `id` */
    _Atomic int64_t alone_since_ms; /* a primary's last replica left then; 0: there is one, or there was none */
    /* The database the stream has selected at its end, on a replica; the link keeps it up to date. -1: none. */
    _Atomic int stream_database;
    struct primary_link *old_links; /* whose threads are ending: primary_link.c */
    struct stream_round *round;     /* by which the stream of a primary is applied; NULL: there never was one */
    struct primary_link *link; /* NULL: no primary. Made and freed by primary_link.c while all workers stand still */

    /* The primary's. */
    struct replica *replicas;      /* list */
    unsigned replica_count;        /* all in the list */
    atomic_uint synced;            /* those in it that are online or being synchronised */
    atomic_uint good;              /* those online that min-replicas-to-write counts */
    atomic_bool refuses;           /* there are too few good ones: writes are refused with -NOREPLICAS */
    atomic_bool waiters;           /* somebody has ever waited for replicas */
    struct replication_full *full; /* the one whose snapshot is taken; worker 0 */
    int64_t full_retry_ms;         /* none is begun before */
    atomic_uint feeders;           /* threads that send copies */
    atomic_bool sends_field_ttl;   /* copies are of the RDB version that has them: one turned out to need it */
    struct aof_backlog *files;     /* what the append-only file has of the stream */
    struct journal_spool *spool;   /* what slow and new replicas will need, beyond the ring */
    pthread_mutex_t spool_lock;
    int64_t pinged_ms;            /* last PING in the stream */
    _Atomic uint64_t acks;        /* acknowledgements so far */
    _Atomic int failover;         /* enum replication_failover */
    atomic_bool failover_refused; /* the target has answered PSYNC ... FAILOVER with an error */
    struct failover *handover;    /* failover.c */

    /* For INFO. */
    _Atomic uint64_t sync_full, sync_partial_ok, sync_partial_err;
    _Atomic uint64_t bytes_out, bytes_in; /* total_net_repl_output_bytes, _input_bytes */
};

/* ---- life ---- */

/* Before workers are made, after the journal. False: no memory. */
bool replication_init(struct server *server) __attribute__((warn_unused_result));
/* All workers have ended, their connections are still there: ends the threads that send copies. */
void replication_end(struct server *server);
void replication_free(struct server *server);
/* Every tick of worker 0. Calls primary_link_tick() as well. */
void replication_tick(struct server *server);

/* ---- both sides ---- */

static inline bool replication_is_replica(const struct replication *replication) {
    return atomic_load_explicit(&replication->role, memory_order_relaxed) == REPLICATION_REPLICA;
}

/* Bytes of the stream that are whole: master_repl_offset. */
uint64_t replication_offset(const struct server *server);

/* All of the following: all workers stand still (server_stop_workers), on a worker's thread.
 *
 * Makes the backlog active, beginning with what comes next, if it is not; keeps id and offset. False: no memory. */
bool replication_keep_backlog(struct server *server);

/* REPLICAOF host port, of a primary or a replica: the role is REPLICA from now on, the backlog is active, id and offset
 * stay, so that PSYNC can be tried with them. Replicas of this server stay connected until the history changes. */
void replication_become_replica(struct server *server);

/* REPLICAOF NO ONE: PRIMARY under a new id; the old one becomes id2 with second_offset = offset + 1. The next effect
 * begins with SELECT. */
void replication_become_primary(struct server *server);

/* A replica after +FULLRESYNC, before its dataset is replaced or once it was: the history is `id` from `offset` on and
 * nothing before it; id2 is forgotten. Own replicas are closed, the journal is begun anew at `offset` (an append-only
 * file is switched off before and begun again by the caller). */
void replication_adopt_history(struct server *server, const char *id, uint64_t offset);

/* A replica after +CONTINUE `id`. If that is another id the old one becomes id2 up to here, and own replicas are
 * closed, so that they learn of it. */
void replication_continue_history(struct server *server, const char *id);

/* Start, after the RDB or the append-only file was loaded, before the latter is written to: the dataset is what `id`
 * had at `offset`. On a replica the history goes on under this id; on a primary it becomes id2 of a new one, as nothing
 * was lost. */
void replication_restore_history(struct server *server, const char *id, uint64_t offset);

/* Where the dataset stands in the history of replication, to be kept with it. False: nobody has asked for a backlog, so
 * the history is nobody's and may be forgotten. */
bool replication_find_history(struct server *server, struct rdb_history *history);

/* DEBUG CHANGE-REPL-ID: another id, and no second one. Any worker's thread. */
void replication_change_id(struct server *server);

/* Bytes of the primary's stream, whole commands, appended as they are and passed on to own replicas. By one thread at a
 * time; it may be a worker's or the link's. Whoever takes a cut of the keyspace (a full sync of a chained replica) must
 * find everything that was appended applied, and nothing else: so append and apply happen with no safe point between
 * (what waits for a tier: primary_link_settle()), and whole transactions at once. Waits while the ring is full of what
 * the append-only file has to take. */
void replication_append(struct server *server, struct span bytes);

/* Effects, or a REPLCONF GETACK or PING, have been appended outside of a worker's turn: senders are woken. */
void replication_nudge(struct server *server);

/* What INFO replication and ROLE say about the link, called by the functions below: primary_link.c.
 *   primary_link_info(server, text)     lines from master_host to slave_read_repl_offset... of a replica
 *   primary_link_role(server, reply)    the whole reply of ROLE on a replica */
void replication_info(struct server *server, struct text *text);
void replication_role(struct server *server, struct reply *reply);
/* CONFIG RESETSTAT. */
void replication_reset_figures(struct server *server);

/* ---- the primary's side, to be called by the server ---- */

/* A worker's turn: sends what the ring holds, and looks after those in WAIT. Cheap when there are no replicas. */
void replication_turn(struct worker *worker);
/* How long the worker may sleep before it has to send something; -1: until whoever appends next wakes it. */
int replication_wait_ms(struct worker *worker);
/* The connection is about to be destroyed by its worker. */
void replication_forget(struct worker *worker, struct connection *connection);
/* Closes the connections of all replicas; they come back and ask again. All workers stand still. */
void replication_close_replicas(struct server *server);
/* How many have acknowledged everything up to `position`; `on_disk`: have it durable. */
unsigned replication_count_acks(struct server *server, uint64_t position, bool on_disk);
/* What the ring has taken of memory while the backlog is active. */
uint64_t replication_buffer_bytes(const struct server *server);
/* "NOREPLICAS ..." if writes have to be refused for want of good replicas; NULL otherwise. */
const char *replication_refusal(struct server *server);
/* What a line of CLIENT LIST says of a replica's output that waits; zero for others. */
uint64_t replication_waiting_bytes(const struct server *server, const struct connection *connection);
/* CONFIG SET of what belongs to replication: repl-backlog-size and the like. All workers stand still. */
bool replication_change(void *ctx, const struct config *config, const char *name, struct config_error *error);

#endif
