#ifndef TERRACE_SERVER_AOF_H
#define TERRACE_SERVER_AOF_H

/* The append-only file in the server: when it is written, rewritten, refused and waited for. The writing itself is
 * persist/aof_writer.h, what may be told to clients meanwhile persist/commit_gate.h.
 *
 *   OFF ---CONFIG SET appendonly yes---> WAITING ---first base is durable---> ON      (at start: ON at once)
 *    ^------------------------- CONFIG SET appendonly no ------------------------'
 *
 * A rewrite
 *   1. a thread of its own makes the next increment, and the manifest names it      base, old increments, new one
 *   2. the cut: the writer goes over to the new increment at its very position
 *   3. walkers write the new base
 *   4. the manifest names new base and new increment; the rest is history           base, increment
 *   5. history is removed
 * A crash behind any step finds a manifest whose files make up everything. While the writer cannot write (or is
 * WAITING) step 1 leaves the manifest alone, as what lies between the old increment and the cut is nowhere else yet.
 *
 * Beside a pool of persistent memory (pmem_gate.h) the file is a copy: replies do not wait for it, under no policy, and
 * a start loads the pool and begins the file again, with a base of its own (aof_resume()). Only while the pool holds
 * nothing is the file loaded.
 *
 * When the writer fails, commands that write are refused (misconf.h) and rewrites are tried, less and less often, up to
 * once a minute, until one succeeds; the writer tries by itself too. Under `always` the connections of held replies are
 * closed: their clients must not take for granted what is not on the disk, nor wait for it.
 *
 * Threads: begin and end before and after workers run; CONFIG's changes while all stand still; the rest is said at each
 * function. */

#include "persist/aof_load.h"
#include "persist/aof_manifest.h"
#include "persist/aof_writer.h"
#include "server/config.h"

#include <pthread.h>

struct call;
struct server;
struct text;
struct worker;
struct aof_rewrite;

enum aof_state { AOF_OFF, AOF_WAITING, AOF_ON };

struct aof {
    struct commit_gate gate;
    struct aof_writer *writer;   /* NULL: nothing is written. Changed while all workers stand still */
    _Atomic int state;           /* enum aof_state */
    atomic_int error;            /* errno for which writes are refused; 0: they are not */
    pthread_mutex_t writer_lock; /* who uses the writer while workers may take it away */
    pthread_mutex_t lock;        /* of what follows */
    char *directory;             /* absolute */
    bool manifest_known;         /* `manifest` is what is on the disk */
    struct aof_manifest manifest;
    struct aof_rewrite *rewrite; /* under way; NULL: none */
    bool scheduled;
    bool failed;                      /* the last rewrite did */
    uint64_t rewrites;                /* begun */
    unsigned failures;                /* since the last that succeeded */
    int64_t started_ms;               /* of the one under way, unix time; 0: none is */
    int64_t last_duration_s;          /* -1: there was none */
    int64_t retry_ms;                 /* before which no further one is begun by itself */
    uint64_t base_bytes, other_bytes; /* of all files at the end of the last rewrite; of all but the present one now */
};

/* After the server is made, before workers run. */
void aof_init(struct server *server);
/* At start, `appendonly yes`, after the dataset has been loaded, before workers run: begins to write behind it.
 * `loaded`: what loading the directory of `manifest`, which is taken over, has found; NULL (both): there was none, and
 * what is in memory becomes the first base on the spot. False: `error` (of `room` bytes) is one line. */
bool aof_begin(struct server *server, struct aof_manifest *manifest, const struct aof_load_result *loaded, char *error,
               size_t room) __attribute__((warn_unused_result));
/* All workers have ended, and so has every snapshot: writes and syncs what is left. False: not all is on the disk. */
bool aof_end(struct server *server);

/* CONFIG SET, for the directives of the append-only file; all workers stand still. See config_on_change(). */
bool aof_change(void *ctx, const struct config *config, const char *name, struct config_error *error);

/* For DEBUG: the writer, if there is one, sleeps so long before each batch. All workers stand still. */
void aof_delay(struct server *server, uint32_t delay_us);

/* Around a dataset that is replaced by another one: the file is given up, and begun again with a base of its own. All
 * workers stand still; no snapshot is running, and the calling worker is 0. */
void aof_suspend(struct server *server);
void aof_resume(struct server *server);

/* The end of a worker's turn: the writer hears of what was appended. */
void aof_nudge(struct worker *worker);

/* Whether the first base is being written, or is about to be: without it there is no file. Any thread. */
bool aof_lacks_base(struct server *server);

/* Every tick of worker 0: scheduled and automatic rewrites, and tries after failures. */
void aof_tick(struct server *server);

enum aof_rewrite_answer { AOF_REWRITE_STARTED, AOF_REWRITE_SCHEDULED, AOF_REWRITE_BUSY, AOF_REWRITE_FAILED };
/* Any worker, no shard lock held. SCHEDULED: another snapshot is being written. */
enum aof_rewrite_answer aof_rewrite_start(struct server *server, bool only_schedule);

/* What the journal's ring has taken of memory so far; 0: nothing is written. */
uint64_t aof_buffer_bytes(const struct server *server);
/* The lines of INFO persistence that begin with aof_: first those that are always there, then those of an enabled
 * file. */
void aof_info(struct server *server, struct text *text);
void aof_info_enabled(struct server *server, struct text *text);

#endif
