#ifndef TERRACE_TIERING_TIER_H
#define TERRACE_TIERING_TIER_H

/* The mmap tier: records on a file, in blocks (tier_layout.h), written and read without anybody waiting.
 *
 *                        +-- struct tier, one: file, segment table, what is not written yet, ghost
 *   keyspace --> port ---+-- reader     copies of blocks that commands wait for or use
 *              (one a    +-- writers    open segments; their units are written behind
 *               worker)  +-- cleaner    reads a segment, offers its records for copying out
 *
 * The tier knows records and references, and nothing of indexes: who owns a reference tells it when a record leaves
 * (tier_drop), and is asked what still lives while a segment is cleaned.
 *
 * Writing. tier_append() packs records into the port's open unit and answers with their references, which are good at
 * once: until a unit is written, readers find it in memory. So the caller swings its references and frees its memory
 * immediately, and what is not written yet is bounded by units_in_flight. A unit whose write fails stays in memory and
 * is written again later; while there is one, the tier takes nothing new (tier_is_failing).
 *
 * Reading. tier_request() starts a read on behalf of a waiter; when all its reads have ended the waiter is ready, and
 * tier_peek() finds the copies until the waiter is released. A block is read once for all who want it. Copies nobody
 * waits for are kept for a moment, up to a bound.
 *
 * A tier that persists is a pool: its file survives, and its contents are what the last checkpoint says that counts
 * (tier_pool_layout.h). The tier keeps what that checkpoint refers to, and what the one in the making does; whoever
 * makes checkpoints (persist/checkpoint.h) says when all stands still for a cut, and when a checkpoint counts. A file
 * that is not ours is never written to, and a pool never by a run that does not persist.
 *
 * Threads: a port belongs to one worker. tier_drop() and the functions that take a struct tier may be called by any.
 * The caller of tier_append(), tier_peek() and tier_request() holds the lock of the shard whose references these are.
 */

#include "record/reference.h"
#include "tiering/ghost.h"
#include "tiering/segment_table.h"
#include "tiering/tier_file.h"
#include "tiering/tier_io.h"
#include "tiering/tier_pool.h"

#include <stdatomic.h>

struct tier;
struct tier_port;

struct tier_options {
    const char *path;
    struct pmem_pool *pmem; /* a pool of persistent memory at `path`, that outlives the tier, instead of a file; it has
                               its own sizes, and the tier persists. NULL: a file */
    uint64_t size_bytes;    /* of the file, at most; rounded down to whole segments */
    size_t segment_bytes;   /* 0: chosen by memory_bytes */
    size_t memory_bytes;    /* what the server may use altogether; 0: no limit. Buffers are kept small beside it. */
    enum tier_direct direct;
    bool compress;
    bool persist;         /* a pool: what is there is opened, and stays when the server ends */
    uint64_t pool_seed;   /* of key_hash(), for a pool that is made now: one that is there has its own */
    uint32_t pool_shards; /* likewise */
    unsigned ports;
    unsigned roaming; /* so many of them, the last ones, are used by one thread after another; the others by one each */
    unsigned readers; /* so many of them never write */
    size_t ghost_places;
    enum tier_io_kind io;         /* AUTO, except for tests */
    struct tier_io_faults faults; /* for tests */
};

/* NULL: with one line in `error` that says what to do. */
struct tier *tier_create(const struct tier_options *options, char *error, size_t error_bytes);
/* All ports are destroyed by this. The file is removed, unless it is a pool. */
void tier_destroy(struct tier *tier);
/* Where the tier consists of several pools of persistent memory: which of them records of each of `shards` (a power of
 * two) go to while it has room. Before anybody appends; without it, to all in turn. False: no memory. */
bool tier_set_homes(struct tier *tier, const uint8_t *homes, uint32_t shards) __attribute__((warn_unused_result));
struct tier_port *tier_port_of(struct tier *tier, unsigned number);

/* ---- what callers bring ---- */

/* Whoever waits for reads. Zeroed at first; the owner's, kept where it is while it waits. */
struct tier_waiter {
    unsigned outstanding;     /* reads under way */
    bool missed;              /* it was told TIER_PENDING; for the owner to clear. Reads may have ended meanwhile. */
    bool is_ready;            /* on the port's list of ready ones */
    bool committed;           /* the owner's: it has changed something, and cannot wait any more */
    bool refused;             /* there was no memory for what it waited for, which counts as FAILED */
    bool denied;              /* and it has asked for that again; for the owner to clear */
    bool insists;             /* the owner's: what it asks for is read without asking the gate (struct tier_gate) */
    bool stores;              /* the owner's: a command that makes something of what it reads, and no long reply */
    struct tier_hold *holds;  /* copies it keeps */
    struct tier_hold *before; /* those of its last run, kept while it runs again */
    struct tier_waiter *next; /* of that list */
    void *owner;
};

/* ---- reading ---- */

enum tier_status {
    TIER_READY,
    TIER_PENDING, /* the read is under way, or not asked for */
    TIER_FAILED,  /* the block cannot be read, or is damaged */
};

/* Precondition for all: `ref` is cold, and read from its index under the shard's lock that is still held. */

/* The record's copy, if the port has it; valid until tier_trim(), tier_bound() or the end of the worker's turn, or
 * longer, until the waiter that asked for it is released. It must not be changed. */
enum tier_status tier_peek(struct tier_port *port, uint64_t ref, const struct record **record);
/* Has the block read for `waiter`, who keeps it until tier_release(). Returns READY or FAILED when nothing has to be
 * waited for. */
enum tier_status tier_request(struct tier_port *port, uint64_t ref, struct tier_waiter *waiter,
                              const struct record **record);
/* Reads it on the spot: for the few who cannot wait. Counted. */
enum tier_status tier_load(struct tier_port *port, uint64_t ref, const struct record **record);
/* For who has no port (an index that splits): the record in memory of its own, to be freed; NULL: it cannot be read. */
struct record *tier_fetch(struct tier *tier, uint64_t ref);
/* The same for the whole block, which also answers for its other records. No precondition: whether what was read is
 * what the reference leads to, the caller finds out. False: it cannot be read. Freed by tier_fetched_free(). */
struct tier_fetched {
    uint64_t block;
    char *pages, *raw; /* owned; `raw` NULL: it was not compressed */
    const void *payload;
    size_t raw_bytes;
};
bool tier_fetch_block(struct tier *tier, uint64_t ref, struct tier_fetched *fetched)
    __attribute__((warn_unused_result));
/* Inside `fetched`; NULL: it is not in that block. */
const struct record *tier_fetched_record(const struct tier_fetched *fetched, uint64_t ref);
void tier_fetched_free(struct tier_fetched *fetched);

/* Who has a say in what is read beyond the bound on copies: a large record, or more of them than a port should hold.
 * Whoever it refuses waits, and fails when that takes too long; but for waiters that insist, since what they run again
 * has happened elsewhere and cannot be refused. Both functions are called with the locks of shards held. */
struct tier_gate {
    bool (*ask)(void *ctx, size_t bytes);
    /* What was granted is resident, or was not taken after all. */
    void (*settle)(void *ctx, size_t bytes);
    void *ctx;
};
/* Copies `gate`. Before other threads use the tier. Without one all is granted. */
void tier_set_gate(struct tier *tier, const struct tier_gate *gate);
/* What was granted, and is not settled yet, to what the waiter holds: for that a second time. It is this waiter's from
 * now on, and of no other who holds the same: spent when its run ends, another's when it is released without that. */
size_t tier_claim_promised(struct tier_waiter *waiter);
/* Gives that back, but for what others have claimed: from here on the owner asks for what it makes. */
void tier_forgo_promised(struct tier_waiter *waiter);
/* Whether somebody waits for memory: then tier_port_turn_end() is to be called every millisecond. */
bool tier_is_hungry(const struct tier_port *port);

/* Frees copies that nobody holds, down to the bound that a turn ends with. What was peeked at is gone then. */
void tier_trim(struct tier_port *port);
/* The same down to what the port may read without asking, after a command: those that were read ahead for the next ones
 * stay, if what was read on the spot leaves room for them. */
void tier_bound(struct tier_port *port);
/* Whether nothing is gained by asking before it is needed: what is cold lies in memory (a pool). */
bool tier_reads_at_once(const struct tier_port *port);
/* Whether a request beyond what a command cannot do without would take more memory than the port may use. */
bool tier_is_crowded(const struct tier_port *port);
/* Whether even what a command needs is better read on the spot: it is crowded, and there is no gate to ask for more. */
bool tier_is_full_of_copies(const struct tier_port *port);

/* Around each try to run what asks: what it holds from the try before is kept until this one ends. If it has to wait
 * again (`waits`) it keeps what it asked for now, or what it had if that was nothing; else it keeps nothing. */
void tier_run_begins(struct tier_waiter *waiter);
void tier_run_ends(struct tier_port *port, struct tier_waiter *waiter, bool waits);
/* Forgets the waiter altogether, also while it waits. */
void tier_release(struct tier_port *port, struct tier_waiter *waiter);
/* The next waiter whose reads have all ended; NULL: none. */
struct tier_waiter *tier_next_ready(struct tier_port *port);
/* Whether there may be one. */
bool tier_any_ready(const struct tier_port *port);

/* ---- writing ---- */

enum tier_stream { TIER_STREAM_LASTING, TIER_STREAM_VOLATILE, TIER_STREAMS };

enum tier_append_status {
    TIER_APPENDED,
    TIER_BUSY, /* too much is not written yet: later */
    TIER_FULL, /* no segment is free; or the tier is failing */
};

/* Packs the first of `records` into one block; *taken says how many, refs[] where they are now. All are of the shard
 * that begins with cluster slot `slot`, of `database`, and either all volatile or none. */
enum tier_append_status tier_append(struct tier_port *port, enum tier_stream stream, uint16_t slot, uint16_t database,
                                    const struct record *const *records, unsigned count, uint64_t *refs,
                                    unsigned *taken);
/* Opens a unit with room for `bytes` more, if there is none: what may take a moment (a segment, memory, space on the
 * disk), and therefore is done before a shard is locked. tier_append() fills what is open, and answers TIER_BUSY when
 * it is full. */
enum tier_append_status tier_prepare(struct tier_port *port, enum tier_stream stream, size_t bytes, bool cleaning);

/* The record that `ref` led to is not referred to any more. Any thread. */
void tier_drop(struct tier *tier, uint64_t ref);

/* ---- expiry ---- */

/* Whether a volatile cold record has expired, as far as that is known without reading it; SOME_DUE: worth reading. */
enum segment_expiry tier_expiry(const struct tier *tier, uint64_t ref, int64_t now_ms);

/* The sweep has removed whatever had expired in the page where this record's block begins. */
void tier_note_swept(struct tier *tier, uint64_t ref, int64_t now_ms);

/* ---- cleaning ---- */

/* A block of a segment that is being cleaned. refs[i] is where records[i] stands; some may have left. */
struct tier_block_view {
    uint16_t slot, database;
    unsigned count;
    const struct record *const *records;
    const uint64_t *refs; /* without the volatile mark */
};
/* Copies out, or drops, what of it is still referred to. False: it has to be asked again later. */
typedef bool tier_survivors(void *ctx, struct tier_port *port, const struct tier_block_view *block, bool evict);

enum tier_clean_mode {
    TIER_CLEAN_NEEDED,   /* when free segments are few */
    TIER_CLEAN_ALL,      /* whatever has dead space worth having: TIER COMPACT */
    TIER_EVICT,          /* drop the oldest segment */
    TIER_EVICT_VOLATILE, /* the oldest one whose records expire */
};
/* A step of cleaning, bounded by `budget_ns`. True: it did something, or is in the middle of it. */
bool tier_clean(struct tier_port *port, enum tier_clean_mode mode, uint64_t budget_ns, tier_survivors *survivors,
                void *ctx);
/* Whether the port is in the middle of a segment. */
bool tier_is_cleaning(const struct tier_port *port);
/* Whether free segments are so few that cleaning pays; and whether cleaning alone would not help. */
bool tier_needs_cleaning(const struct tier *tier);
bool tier_is_full(const struct tier *tier);
/* Whether the cleaner is at work, or has some to do and room for it: what is full now need not stay so. */
bool tier_can_clean(const struct tier *tier);
bool tier_is_failing(const struct tier *tier);

/* ---- a worker's turn ---- */

/* Ends what has ended; before serving. */
void tier_port_reap(struct tier_port *port);
/* Hands over what was started, before other work is done. */
void tier_port_submit(struct tier_port *port);
/* Hands over what was started; trims copies that nobody waits for; retries writes. After serving. `now_ns` is
 * monotonic. */
void tier_port_turn_end(struct tier_port *port, int64_t now_ns);
/* Waits for everything under way, before the thread whose port it is ends. */
void tier_port_drain(struct tier_port *port);
/* For epoll. */
int tier_port_event_fd(const struct tier_port *port);
unsigned tier_port_in_flight(const struct tier_port *port);
/* Waits until something that is under way has ended; at once if nothing is. For commands of operators. */
void tier_port_wait(struct tier_port *port);
/* Closes open units that are old, so that little is left unwritten in an idle server. Tests: writes everything. */
void tier_port_flush(struct tier_port *port);

/* ---- checkpoints: of a tier that persists ---- */

/* Its header, and the manifest that counts. NULL: it does not persist. */
const struct tier_pool *tier_pool_of(const struct tier *tier);
/* On a block device, beside which there is no place for files. */
/* The pool of persistent memory in which it lies has more segments now (pmem_pool_take_in()). Nobody switches to a
 * checkpoint meanwhile. False: the header does not say so, which the next start makes up for. */
bool tier_take_in(struct tier *tier) __attribute__((warn_unused_result));
bool tier_is_device(const struct tier *tier);
struct segment_table *tier_segments(struct tier *tier);

/* The number of the last cut there was; 0: none. */
uint64_t tier_last_cut(const struct tier *tier);
/* All that is referred to now is what checkpoint `number` holds. Workers stand still. */
void tier_cut(struct tier *tier, uint64_t number);
/* Whether all that was appended before the last cut has been written. Workers see to it in their turns. */
bool tier_is_settled(struct tier *tier);

/* The port by which a checkpoint appends images: copies of records that stay in memory, to which nothing but
 * checkpoints refer. Of one thread at a time. They are appended as other records are (tier_prepare() with `cleaning`).
 */
struct tier_port *tier_image_port(struct tier *tier);
/* No more images: what is open is written, and waited for; the next checkpoint goes on in the same segments. False: it
 * could not be. */
bool tier_images_end(struct tier *tier) __attribute__((warn_unused_result));

/* Whether a checkpoint should refer to images of the one before instead of writing them again: whether there is room
 * for that. What it does not refer to any more takes space until so little of a segment is wanted that it is written
 * anew. So there has to be room for all images twice, those of this checkpoint and of the next one, which may find all
 * of them changed. `bytes`: what is in memory, at most. */
bool tier_has_room_for_images(struct tier *tier, size_t bytes);
/* Whether images in this segment, to `live` of which the last checkpoint refers, are worth being referred to again. The
 * segment has to have been written by this server's checkpoints, to be as the checkpoint knows it (`generation`), and
 * undamaged as far as is known; and half of it, by bytes, has to be wanted: else what is dead would hold more space
 * than what lives. Of one that is not full yet, half of what is in it. While no checkpoint counts the answer is good.
 */
bool tier_images_are_worth_keeping(struct tier *tier, uint32_t segment, uint32_t generation, uint32_t live);

/* `now` bytes of records are in memory, and there may be `later`: room for the images of all of them, twice, is left to
 * checkpoints, so that one can be made when nothing else can be written; for only a checkpoint sets free what is
 * pending. Where that were more than half of the tier a quarter of it is all. To be told often, but not while one is
 * made: what that needs is what there was at its cut. */
void tier_keep_for_images(struct tier *tier, size_t now, size_t later);

/* Checkpoint manifest->number counts from now on, and what only those before it referred to is given up. All that it
 * refers to must be written; it is synced here. `referred`: as segment_table_checkpointed() wants it. False, with
 * errno: the one before still counts, as far as is known. */
bool tier_switch(struct tier *tier, const struct tier_pool_manifest *manifest, const uint32_t *referred)
    __attribute__((warn_unused_result));
/* Before anything is on it: no checkpoint counts any more, and the tier is an empty one. False: errno. */
bool tier_forget(struct tier *tier) __attribute__((warn_unused_result));
/* It was not finished: its images are given up. */
void tier_abandon(struct tier *tier, uint64_t number);
/* Whether a checkpoint would set free what the tier, or the next checkpoint, is in need of. */
bool tier_wants_checkpoint(const struct tier *tier);
/* Whether free segments will come from the next checkpoint, so that who writes waits for them. */
void tier_note_checkpoints(struct tier *tier, bool succeed);

/* ---- figures ---- */

enum { TIER_LATENCY_BUCKETS = 32 }; /* powers of two of microseconds */

struct tier_figures {
    struct segment_usage segments;
    uint64_t reads, coalesced_reads, read_bytes;
    uint64_t memory_reads; /* answered by what was not written yet, by the mapping or by the page cache */
    uint64_t synchronous_reads, failed_reads, stale_reads;
    uint64_t writes, written_bytes, failed_writes;
    uint64_t appended_records, appended_bytes; /* bytes of records, as they were in memory */
    uint64_t cleaned_segments, cleaned_records, cleaned_bytes;
    uint64_t evicted_segments;
    uint64_t in_flight;       /* operations now */
    uint64_t unwritten_bytes; /* units in memory, waiting to be written */
    uint64_t staged_bytes;    /* copies of blocks */
    uint64_t latency_us[TIER_LATENCY_BUCKETS];
    size_t metadata_bytes; /* segment table, ghost, buffers that are always there */
    size_t segment_bytes;
    uint64_t size_bytes;
    bool mapped, direct, uring, pmem, failing, full;
};
void tier_figures(struct tier *tier, struct tier_figures *figures);
/* CONFIG RESETSTAT. All workers stand still. */
void tier_reset_figures(struct tier *tier);

/* Now and then, by one thread: drops pages of a mapped tier from this process's resident set. */
void tier_tick(struct tier *tier);
/* In-flight and staged memory, cheaply; any thread. */
size_t tier_buffer_bytes(const struct tier *tier);

/* What remembers first touches; as long as the tier. */
struct ghost *tier_ghost(struct tier *tier);

#endif
