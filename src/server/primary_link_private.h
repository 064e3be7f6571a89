#ifndef TERRACE_SERVER_PRIMARY_LINK_PRIVATE_H
#define TERRACE_SERVER_PRIMARY_LINK_PRIVATE_H

/* What the files of the link share. */

#include "command/dispatch.h"
#include "server/primary_link.h"
#include "server/primary_stream.h"
#include "server/replication.h"
#include "server/stream_round.h"

enum primary_link_state {
    LINK_CONNECT, /* to be tried again */
    LINK_CONNECTING,
    LINK_HANDSHAKE,
    LINK_TRANSFER,
    LINK_LOADING,
    LINK_CONNECTED,
};

enum { LINK_HOST_MAX = 256, LINK_LINE_MAX = 512 };

/* The name that was looked up last. */
struct primary_link_memo {
    const struct command *command;
    int kind; /* primary_link_apply.c's */
    size_t length;
    char name[16];
};

struct primary_link {
    struct primary_link *next; /* of those that are being ended */
    struct server *server;
    char host[LINK_HOST_MAX];
    int port;
    pthread_t thread;
    bool started;      /* there is a thread */
    atomic_bool ended; /* which has ended, and can be joined */
    atomic_bool cancelled;
    _Atomic int state;             /* enum primary_link_state */
    _Atomic int64_t heard_ms;      /* unix time when something was received */
    _Atomic int64_t down_since_ms; /* unix time; 0: it is up. From the beginning: it has never been up */
    int wake_fd;                   /* ends the thread's waits */

    /* What the thread waits for, under `lock`. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool mail_done, given_back, deserted;

    /* The connection: the thread's, worker 0's while state is CONNECTED. */
    int fd;
    bool without_history;                 /* a load has failed: nothing can be continued */
    bool failing;                         /* the last try has, and the log says why */
    char *password, *user, *announced_ip; /* as the configuration had them when the try began; owned */
    char *source;                         /* address the connection is to come from; "": any; likewise */
    size_t password_length;               /* it may hold any bytes */
    int64_t announced_port;
    int diskless_load; /* enum config_diskless_load */
    _Atomic uint64_t transfer_total, transfer_read;

    /* What has been received and not been used yet. */
    char *bytes; /* owned */
    size_t length, capacity;

    /* A full copy. */
    char file[64];
    char new_id[REPLICATION_ID + 1];
    uint64_t new_offset;
    int database; /* that the stream has selected, where it has been looked at */
    bool failed;

    /* Worker 0's. */
    struct primary_stream stream;
    struct primary_link_memo memo;
    int selected;              /* what was selected before the transaction that is open; without one, `database` */
    uint64_t base;             /* position of bytes[0] while they are looked at ... */
    size_t taken;              /* and how many of them have been, ... */
    size_t appended;           /* are in the journal, ... */
    size_t whole;              /* and up to where a transaction goes on that has been begun */
    bool asked;                /* REPLCONF GETACK */
    uint64_t owes_upto;        /* it was asked, and is to acknowledge when this much is applied; 0: nothing */
    struct connection *shown;  /* what CLIENT LIST shows; owned */
    bool held;                 /* a pause holds the stream up */
    bool serving;              /* in the middle of link_apply() */
    _Atomic size_t unfinished; /* bytes that have come and are not whole yet */
    bool fresh;                /* nothing has been applied yet */
    int64_t acked_ms;
    int64_t waits_since_ms; /* for room; 0: it does not */
};

/* ---- primary_link_wire.c: the thread's reading and writing ---- */

/* Connects. False: `why` (LINK_LINE_MAX bytes) is one line. */
bool link_connect(struct primary_link *link, char *why) __attribute__((warn_unused_result));
/* Sends a command of these words, up to a NULL. */
bool link_send(struct primary_link *link, const char *const *words, char *why) __attribute__((warn_unused_result));
/* The same with words that may hold any bytes. */
bool link_send_spans(struct primary_link *link, const struct span *words, unsigned count, char *why)
    __attribute__((warn_unused_result));
/* The next line that is not empty, without its end. */
bool link_line(struct primary_link *link, char line[LINK_LINE_MAX], char *why) __attribute__((warn_unused_result));
/* Has at least one byte in link->bytes; waits for it up to repl-timeout. */
bool link_receive(struct primary_link *link, char *why) __attribute__((warn_unused_result));
/* `bytes` of what was received have been used. */
void link_consume(struct primary_link *link, size_t bytes);
void link_disconnect(struct primary_link *link);
/* Room behind what was received. */
bool link_reserve(struct primary_link *link, size_t room) __attribute__((warn_unused_result));

/* ---- primary_link_handshake.c ---- */

enum link_answer { LINK_FAILED, LINK_CONTINUES, LINK_FULL_COPY };
/* From PING to the answer of PSYNC. */
enum link_answer link_handshake(struct primary_link *link, char *why);

/* ---- primary_link_copy.c ---- */

/* Receives the full copy to a file. */
bool link_receive_copy(struct primary_link *link, char *why) __attribute__((warn_unused_result));
/* Replaces the dataset by it. */
bool link_load_copy(struct primary_link *link, char *why) __attribute__((warn_unused_result));

/* ---- primary_link_direct.c ---- */

/* repl-diskless-load: whether the copy is to be loaded from the socket, as things are. */
bool link_loads_directly(struct primary_link *link);
/* Receives the full copy and replaces the dataset by it; if that fails the dataset is what it was. */
bool link_load_directly(struct primary_link *link, char *why) __attribute__((warn_unused_result));

/* ---- of primary_link_copy.c, for both ---- */

struct link_copy_head {
    char mark[41];  /* of $EOF:; empty: the length is known */
    uint64_t total; /* 0: not known */
};
/* What stands in front of a copy. */
bool link_copy_head(struct primary_link *link, struct link_copy_head *head, char *why)
    __attribute__((warn_unused_result));
/* All stand still, and no snapshot runs: one that was begun would have another dataset under its hands. False: the copy
 * may not be loaded, as the link is cancelled or DEBUG RELOAD is at work; it is asked for again then. */
bool link_stop_to_load(struct primary_link *link, struct worker *worker) __attribute__((warn_unused_result));

/* ---- primary_link_apply.c: on worker 0 ---- */

/* The stream begins, with what is in link->bytes. */
bool link_apply_begin(struct primary_link *link, struct worker *worker) __attribute__((warn_unused_result));
/* The socket is readable. False: `why` says why the link is of no use any more. */
bool link_apply(struct primary_link *link, struct worker *worker, char *why) __attribute__((warn_unused_result));
/* Every turn: goes on with what waited for the tier. */
void link_turn(struct primary_link *link);
/* REPLCONF ACK. What the socket does not take is left out: the next one says more. */
void link_acknowledge(struct primary_link *link);

/* ---- primary_link.c ---- */

/* Runs `run` on worker 0 between its turns, with the link as argument, and waits until it has called link_mail_done().
 * False: the server ends, and it was not run. */
bool link_call_worker(struct primary_link *link, void (*run)(struct worker *worker, void *link))
    __attribute__((warn_unused_result));
void link_mail_done(struct primary_link *link);
bool link_is_cancelled(const struct primary_link *link);
void link_set_state(struct primary_link *link, enum primary_link_state state);

#endif
