#ifndef TERRACE_COMMAND_DISPATCH_H
#define TERRACE_COMMAND_DISPATCH_H

/* From bytes received to replies composed: the path every command takes.
 *
 *   parse a batch -> look up commands -> hash keys, prefetch buckets -> prefetch records
 *     -> for each: check, lock its shards, run the handler, unlock, count
 *
 * A dispatcher belongs to one worker. It knows sessions and replies, not sockets; what only the server can do it
 * asks of its host. */

#include "base/limits.h"
#include "command/blocked.h"
#include "command/command.h"
#include "command/command_stats.h"
#include "command/command_table.h"
#include "command/effect_sink.h"
#include "command/session.h"
#include "resp/parser.h"

enum memory_answer { MEMORY_RUN, MEMORY_WAIT, MEMORY_REFUSED };

/* What the server provides. All functions may be called from any worker; any may be NULL in tests. */
struct command_host {
    void *ctx; /* the server; handlers of the server's own families know its type */
    /* All other workers stand still between these. No shard lock may be held. */
    void (*stop_workers)(void *ctx, unsigned worker);
    void (*resume_workers)(void *ctx, unsigned worker);
    /* Shows a command to MONITOR clients; called while `monitors` is not zero. */
    void (*monitor)(void *ctx, const struct call *call);
    /* A command took at least `slow_ns`, or `latency_ns`. */
    void (*slow)(void *ctx, const struct call *call, uint64_t elapsed_ns);
    /* Whether commands of this kind have to wait now (CLIENT PAUSE); called while `paused` is set. */
    bool (*must_wait)(void *ctx, const struct session *session, const struct command *command, int64_t now_ms);
    /* The session's command is unfinished, and to be run again when others have had their turn, or the worker has slept
     * for `rest_ms`. NULL: commands finish. */
    void (*come_again)(void *ctx, const struct session *session, unsigned rest_ms);
    /* A command that its row marks protected (DEBUG): NULL, or the error text. */
    const char *(*refuse_protected)(void *ctx, const struct session *session, const struct command *command);
    /* Before each batch, while `memory_bounded` is set. */
    void (*look_at_memory)(void *ctx);
    /* Before a command that needs memory, and before any that may reply much while `memory_tight` is set: whether there
     * is memory for it. `bytes`: what its arguments take together; of one that needs none, what its reply is known to
     * take, which is then kept for it as has_room() does. No shard lock is held. */
    enum memory_answer (*ask_memory)(void *ctx, struct session *session, unsigned worker, bool needs_memory,
                                     size_t bytes);
    /* Whether `bytes` more are within the limit; if so they are kept for this thread until it asks again (0: they have
     * been taken), if not, room is made for them. */
    bool (*has_room)(void *ctx, size_t bytes);
    /* `bytes` of those are resident now; set where has_room() is. */
    void (*room_taken)(void *ctx, size_t bytes);
    /* The wait of another worker's client has ended: its owner has to be given `blocked` (blocked_add_finished()). */
    void (*unblocked)(void *ctx, struct blocked *blocked);
    /* Called while `writes_refused` is set: the error for this command, which writes, or is EXEC or PING; NULL: none.
     * The text is the caller's until he asks again. */
    const char *(*why_refused)(void *ctx, const struct command *command);
    /* Whether a command of so many bytes, which will be refused, may be read to its end to be told so. */
    bool (*can_refuse)(void *ctx, size_t bytes);
    /* A keyspace event of a class that is in `notify_flags` (command/notify.h). Shard locks may be held. */
    void (*notify)(void *ctx, uint32_t class, const char *event, struct span key, uint32_t database);
    /* A tracking session has read the call's keys, whose shards are locked. */
    void (*remember)(void *ctx, const struct call *call);
    /* FLUSHALL has emptied all databases; all shards are locked. */
    void (*flushed)(void *ctx);
    /* Writes the messages that have come for the session: before its commands and behind each, while it listens. */
    void (*take_messages)(void *ctx, struct session *session, unsigned worker, struct reply *reply);
    /* Called while `is_replica` is set: the error for a command that may not be run on a replica as it is now; NULL: it
     * may. */
    const char *(*refuse_on_replica)(void *ctx, const struct session *session, const struct command *command);
    /* The same: a client has run a command that writes. The shards of its keys are locked. */
    void (*wrote_on_replica)(void *ctx, const struct call *call);
    atomic_bool is_replica;
    atomic_uint monitors;
    _Atomic uint32_t notify_flags; /* notify-keyspace-events: enum notify_class; 0: nobody is told anything */
    atomic_bool paused;
    atomic_bool writes_refused; /* what they do could not be kept: -MISCONF */
    atomic_bool memory_bounded; /* there is a limit */
    atomic_bool memory_tight;   /* it is nearly reached: replies are kept short, large input is not read */
    atomic_bool out_of_memory;  /* commands that need memory are refused */
    atomic_bool loading; /* the dataset is being loaded: commands that are not marked COMMAND_LOADING are refused, and
                          * nothing of an index is read ahead of its lock */
    atomic_bool loading_aside; /* what is loaded is not served yet, but what was there before is: only commands that
                                * are marked COMMAND_NO_ASYNC_LOADING are refused */
    atomic_bool open_to_all;   /* there is no password: nobody has to authenticate */
    _Atomic uint64_t slow_ns;  /* UINT64_MAX: none is slow */
    _Atomic uint64_t bulk_bytes_max;  /* proto-max-bulk-len */
    _Atomic uint64_t reply_bytes_max; /* hard client-output-buffer-limit of normal clients; 0: none */
    _Atomic uint32_t rdb_version;     /* rdb-version, of DUMP and MIGRATE too; 0: its default */
    atomic_bool checksums_unchecked;  /* RESTORE takes any: for tests of what a damaged payload does */
    atomic_bool rdb_plain;            /* rdbcompression no */
};

struct request {
    const struct command *command; /* NULL: unknown */
    struct span *argv;
    uint32_t argc;
    uint32_t key_count;
    struct key *keys;
    struct key *own_keys; /* freed after the request; NULL: `keys` is in the arena */
    struct span received; /* what `argv` are spans of; empty: they were not received in this form */
};

/* See reply_room.h. */
struct reply_room {
    struct session *session;
    size_t drawn; /* of what was granted to its copies of cold records */
};

struct dispatcher {
    struct keyspace *keyspace;
    const struct command_table *table;
    struct command_host *host;
    struct command_stats *stats; /* of this worker */
    unsigned worker;
    struct tier_port *port;        /* of this worker; NULL: there is no tier */
    stat_counter *node_executions; /* commands by the node of their first key; NULL: not counted */
    int64_t now_ms;                /* set by the owner before each batch */
    uint64_t ticks;                /* clock_ticks() when the last command ended, or the batch began */
    uint64_t random_state;
    bool no_memory; /* the present command was refused memory */
    struct reply_room reply_room;
    struct effect_sink effects;     /* its journal: NULL while nobody wants one */
    struct blocked_clients blocked; /* of this worker */
    stat_counter watching;          /* sessions of this worker that watch keys */
    /* The last name looked up: pipelines repeat themselves. */
    const struct command *memo;
    char memo_name[16];
    size_t memo_length;
    /* Arena of one batch. */
    struct request requests[LIMIT_BATCH_COMMANDS];
    struct span arguments[LIMIT_BATCH_ARGUMENTS];
    struct key keys[LIMIT_BATCH_KEYS];
};

void dispatcher_init(struct dispatcher *dispatcher, struct keyspace *keyspace, const struct command_table *table,
                     struct command_host *host, struct command_stats *stats, unsigned worker, uint64_t seed);

enum dispatch_result {
    DISPATCH_MORE,    /* all whole commands were run; the rest of the buffer is the beginning of one */
    DISPATCH_FULL,    /* the reply reached LIMIT_PENDING_REPLY_BYTES: send, then call again */
    DISPATCH_PAUSED,  /* the next command has to wait (session->paused): for a pause to end, for memory, or for room in
                       * the journal */
    DISPATCH_WAITS,   /* the next command waits for cold records: when session->waiter is ready, call again */
    DISPATCH_BLOCKED, /* the last command that was run waits for keys (session->blocked): when it has been answered,
                       * call again */
    DISPATCH_CLOSE,   /* send what was composed, then close: the session ended, or the input was malformed */
};

/* Runs the commands in `buffer`; `*consumed` is how much of it is done with. */
enum dispatch_result dispatch_input(struct dispatcher *dispatcher, struct session *session, struct resp_parser *parser,
                                    struct span buffer, struct reply *reply, size_t *consumed);

/* Runs one command whose arguments are already apart; as dispatch_input() does it. For tests, benches and
 * commands that come from elsewhere. */
enum dispatch_result dispatch_arguments(struct dispatcher *dispatcher, struct session *session, struct span *argv,
                                        uint32_t argc, struct reply *reply);

/* Runs a batch of requests whose argv and argc are set: what dispatch_input() does once it has parsed. Returns how many
 * were run; `*result` says why it stopped. */
unsigned dispatch_requests(struct dispatcher *dispatcher, struct session *session, struct request *requests,
                           unsigned count, struct reply *reply, enum dispatch_result *result);

/* Calls the handler of `call->command`, counting and timing it, and has its effects appended to the journal. Locks are
 * the caller's; used by EXEC. */
void dispatch_run(struct call *call);

/* See struct view. */
bool dispatch_leaves_expired(const struct dispatcher *dispatcher, const struct command *command);

/* The same as dispatch_run() once the cold records of its keys are at hand. If they are not, they are asked for and
 * call->waits is set; if one cannot be read the reply is an error. */
void dispatch_staged(struct call *call);

/* The call repeats what was done before, and nobody looks on: it is neither told, served, counted nor shown. */
static inline bool call_is_unseen(const struct call *call) {
    return call->session->replaying && !call->session->from_primary;
}

/* A set of shards to be locked together, in ascending order. */
struct shard_set {
    uint64_t bits[LIMIT_SHARDS / 64];
};
void shard_set_lock(struct keyspace *keyspace, const struct shard_set *set);
void shard_set_unlock(struct keyspace *keyspace, const struct shard_set *set);
static inline void shard_set_add(struct shard_set *set, uint32_t shard) {
    set->bits[shard / 64] |= UINT64_C(1) << (shard % 64);
}
static inline bool shard_set_has(const struct shard_set *set, uint32_t shard) {
    return set->bits[shard / 64] >> (shard % 64) & 1;
}
void keyspace_lock_all(struct keyspace *keyspace);
void keyspace_unlock_all(struct keyspace *keyspace);

static inline uint64_t dispatcher_random(struct dispatcher *dispatcher) {
    uint64_t x = dispatcher->random_state; /* xorshift64* (Marsaglia 2003, Vigna 2014) */
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    dispatcher->random_state = x;
    return x * 0x2545f4914f6cdd1du;
}

#endif
