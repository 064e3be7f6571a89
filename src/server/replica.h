#ifndef TERRACE_SERVER_REPLICA_H
#define TERRACE_SERVER_REPLICA_H

/* A replica as its primary sees it, and how the stream comes to it. Private to the primary's side of replication.
 *
 *   ANNOUNCED --PSYNC, SYNC--> WAITING --cut--> COPYING --RDB sent--> COPIED --REPLCONF ACK--> ONLINE
 *       '---------------- PSYNC that can be answered by +CONTINUE ------------------------------^
 *
 *   ANNOUNCED  has told of itself with REPLCONF; not in the table
 *   WAITING    for a snapshot to begin
 *   COPYING    a feeder (replication_full.c) writes to its socket, through a descriptor of its own; its worker reads
 *   COPIED     it has the RDB, and loads it. One that was told the RDB's length goes on to ONLINE at once, as it cannot
 *              mistake what follows for a part of it
 *   ONLINE     its worker sends the stream
 *
 * From COPYING on everything of the stream from `sent` on is kept for it, in the ring or in the spool (spool.h). One
 * that comes back by PSYNC may also be in the append-only file with what it needs (aof_backlog.h).
 *
 * Threads: fields belong to its worker, who also writes `state`, but for COPYING, which is ended by the feeder; atomics
 * may be read by all. The table is under replication->lock. Memory goes with the last reference: connection, feeder. */

#include "server/replication.h"

struct aof_backlog_reader;

enum replica_state { REPLICA_ANNOUNCED, REPLICA_WAITING, REPLICA_COPYING, REPLICA_COPIED, REPLICA_ONLINE };

enum { REPLICA_ADDRESS = 64, REPLICA_ADDRESS_ANNOUNCED = 256 };

struct replica {
    struct replica *next;           /* of the table */
    struct replica *next_of_worker; /* of worker->replicas */
    struct server *server;
    struct connection *connection; /* good while the worker has it */
    struct worker *worker;
    atomic_uint references;
    _Atomic int state;        /* enum replica_state */
    atomic_bool gone;         /* its connection is closed */
    bool listed;              /* in the table */
    bool eof, psync2;         /* capabilities */
    bool field_ttl;           /* it reads RDB_VERSION_FIELD_TTL */
    bool rdb_only;            /* it wants no stream */
    bool without_keys;        /* rdb-filter-only leaves nothing: an empty RDB */
    bool legacy;              /* SYNC: it acknowledges nothing, and is told no id */
    bool measured;            /* it has come near the end once: from then on client-output-buffer-limit is for it */
    int64_t lingers_since_ms; /* above the soft limit; 0: it is not */
    uint64_t moved_to;        /* not measured: where it was when it last moved, and when that was */
    int64_t moved_ms;
    int64_t waits_since_ms; /* WAITING */
    int port;
    char address[REPLICA_ADDRESS_ANNOUNCED]; /* replica-announce-ip, or where it comes from */
    int feeder_fd;                           /* the feeder's; -1: none */
    struct aof_backlog_reader *files;        /* it reads the append-only file: what it needs has left the ring */
    atomic_bool reads_files;                 /* there are `files` */
    _Atomic uint64_t sent;                   /* position of the next byte it gets */
    _Atomic uint64_t acked, acked_on_disk;   /* positions it has said to have applied, and to have on its disk */
    _Atomic int64_t heard_ms;                /* unix time of its last acknowledgement, or word */
};

/* Of the connection; made if there is none. NULL: no memory. */
struct replica *replica_of(struct connection *connection, struct server *server);
void replica_hold(struct replica *replica);
void replica_release(struct replica *replica);
/* Into the table, and into the worker's list; it is a replica from now on. */
void replica_enter(struct replica *replica, enum replica_state state);
static inline enum replica_state replica_state(const struct replica *replica) {
    return (enum replica_state)atomic_load_explicit((_Atomic int *)(uintptr_t)&replica->state, memory_order_acquire);
}
/* As INFO says it. */
const char *replica_state_name(const struct replica *replica);
/* REPLCONF ACK: position, and what is on its disk (-1: not said). On its worker's thread. */
void replica_acknowledge(struct replica *replica, int64_t position, int64_t on_disk);
/* Counts the good ones anew. `lock` is not held. */
void replication_count_good(struct server *server);

#define REPLICATION_GETACK "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"
#define REPLICATION_PING   "*1\r\n$4\r\nPING\r\n"
/* Puts a command into the stream that is no effect of anybody's: PING, REPLCONF GETACK. On the thread of `worker`. */
void replication_tell_stream(struct worker *worker, const char *command);

/* ---- replication_full.c ---- */

/* Every tick of worker 0: begins a full synchronisation if somebody waits for one. */
void replication_full_tick(struct server *server);

/* ---- replication_send.c ---- */

/* Whether the stream from `position` on can be sent: PSYNC. */
bool replication_has(struct server *server, uint64_t position);
/* PSYNC has been answered by +CONTINUE: what is to be sent from the append-only file is held from now on. */
void replication_open_files(struct replica *replica, uint64_t position);
void replication_close_files(struct replica *replica);
/* Worker 0, every tick: pings, limits and timeouts. */
void replication_send_tick(struct server *server);
/* Of the calling worker: newlines for those who wait, timeouts, limits. */
void replication_tend(struct worker *worker);

#endif
