#ifndef TERRACE_TIERING_TIER_PRIVATE_H
#define TERRACE_TIERING_TIER_PRIVATE_H

/* What the files of the tier share among themselves. Nobody else includes this. */

#include "base/stat_counter.h"
#include "tiering/tier.h"
#include "tiering/tier_block.h"
#include "tiering/tier_haul.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    TIER_READER_BUCKETS = 1024,
    TIER_UNITS_MAX = 24, /* of one port: more than streams and homes */
    TIER_WRITERS_MAX = TIER_STREAMS * SEGMENT_HOMES_MAX,
    TIER_PORTS_MAX = 64,
    TIER_RETRY_NS = 500000000, /* between two tries to write what could not be written */
};

/* A stretch of a segment in memory, until it is written. */
struct tier_unit {
    struct tier_op op;
    struct tier_port *port;
    char *memory;
    size_t capacity;
    _Atomic size_t used; /* up to here other threads may read: it is complete */
    uint32_t segment;
    uint64_t offset;                                 /* in the file */
    bool failed;                                     /* to be written again */
    uint64_t cut;                                    /* the last one before it was opened */
    struct tier_unit *next_listed, *previous_listed; /* of the tier's list of what is not written */
    struct tier_unit *next_failed;
};

struct tier_writer {
    struct tier_unit *unit; /* being filled; NULL: none */
    uint32_t segment;       /* SEGMENT_NONE: none is open */
    size_t segment_used;    /* where the next unit begins */
    size_t segment_room;    /* bytes of the run */
    struct tier_block_estimate estimate, alone_estimate;
    int64_t opened_ns;
};

/* tier_haul.h */
struct tier_haul;
struct tier_haul_piece {
    struct tier_op op;
    struct tier_haul *haul;
    char *memory; /* of a unit; NULL: no haul */
    size_t used;  /* 0: it may be filled */
    uint64_t offset;
};

enum tier_haul_state {
    TIER_HAUL_IDLE,
    TIER_HAUL_PACKING,
    TIER_HAUL_CLOSED,   /* all is packed, and on its way */
    TIER_HAUL_GIVEN_UP, /* what is on its way is waited for */
};

struct tier_haul {
    struct tier_port *port;
    enum tier_haul_state state;
    struct tier_haul_owner owner;
    struct tier_haul_cargo cargo;
    struct tier_writer writers[TIER_STREAMS]; /* segments that are filled one haul after the other */
    enum tier_stream stream;
    unsigned home;    /* of those segments */
    bool is_run;      /* it has segments for itself */
    bool chunks;      /* compressed */
    uint32_t segment; /* the first of them */
    size_t offset;    /* in it */
    struct tier_block_pieces block;
    size_t at;          /* packed up to here, of the record */
    size_t laid;        /* laid out in pieces, of the block */
    const char *packed; /* next to be laid out */
    size_t packed_bytes;
    char *chunk; /* a chunk as it is, and packed */
    struct tier_haul_piece pieces[TIER_HAUL_PIECES], *filling;
    unsigned in_flight;
    int error;
    int64_t retry_ns; /* after a failure */
};

enum tier_copy_state { TIER_COPY_READING, TIER_COPY_GOOD, TIER_COPY_FAILED, TIER_COPY_STALE };

/* A waiter's claim to a copy. */
struct tier_hold {
    struct tier_copy *copy;
    struct tier_waiter *waiter; /* to be told; NULL: told, or gone */
    struct tier_hold *next;     /* of the waiter */
    struct tier_hold *next_of_copy;
};

/* A block read from the tier. */
struct tier_copy {
    struct tier_op op;
    struct tier_port *port;
    uint64_t block;
    uint32_t generation, segment;
    uint8_t state; /* enum tier_copy_state */
    bool listed;   /* in the table */
    bool alone;
    bool in_place; /* the payload lies in a pool's memory; its segment is pinned */
    unsigned holds;
    bool hungry;                      /* it waits for memory before it is read (on) */
    bool fed;                         /* it need not ask */
    bool refused;                     /* it failed because there was no memory for it */
    char *buffer;                     /* whole pages; NULL: in place, or in `raw`, or not there yet */
    size_t wanted;                    /* bytes of the buffer, while it is hungry */
    size_t asked;                     /* promised to it by the gate, and not settled yet */
    const struct tier_waiter *drawer; /* who counts on that for its reply; NULL: nobody */
    int64_t hungry_ns;
    struct tier_copy *next_hungry;
    size_t buffer_bytes;
    char *raw; /* the payload alone: decompressed, or taken out of its pages; NULL: it is in the buffer */
    const char *payload;
    size_t raw_bytes, payload_bytes;
    uint64_t started;          /* clock_ticks() */
    struct tier_hold *waiting; /* those to be told */
    struct tier_copy *next_in_bucket;
    struct tier_copy *newer, *older; /* of the idle ones */
};

struct tier_cleaner {
    uint32_t segment; /* SEGMENT_NONE: nothing to do */
    bool reading, ready, evict, interrupted;
    struct tier_op op;
    char *memory; /* a segment */
    size_t bytes, at;
    /* The block at hand, offered again while the writers are busy. */
    bool offered;
    struct tier_block_view view;
    const struct record *records[TIER_BLOCK_RECORDS];
    uint64_t refs[TIER_BLOCK_RECORDS];
    char *raw;
    size_t raw_capacity;
};

struct tier_port_counters {
    stat_counter reads, coalesced_reads, read_bytes, memory_reads, synchronous_reads, failed_reads, stale_reads;
    stat_counter writes, written_bytes, failed_writes, appended_records, appended_bytes;
    stat_counter cleaned_segments, cleaned_records, cleaned_bytes, evicted_segments;
    stat_counter staged_bytes, unwritten_bytes, spare_bytes, in_flight;
    stat_counter latency_us[TIER_LATENCY_BUCKETS];
};

struct tier_port {
    struct tier *tier;
    bool images; /* what it writes is a checkpoint's alone */
    struct tier_io *io;
    /* Reader. */
    struct tier_copy *buckets[TIER_READER_BUCKETS];
    struct tier_copy *newest_idle, *oldest_idle;
    size_t idle_bytes;
    unsigned idle_in_place;                 /* how many of them are */
    int64_t logged_ns;                      /* when a failure was told last */
    struct tier_copy *hungry, *last_hungry; /* in order of arrival */
    struct tier_waiter *ready, *last_ready;
    struct tier_hold *spare_holds;
    /* Writers. */
    unsigned home;                                /* of the shard whose records were appended last */
    struct tier_writer writers[TIER_WRITERS_MAX]; /* TIER_STREAMS for each home */
    unsigned units;                               /* that exist */
    char *spare_memory[TIER_UNITS_MAX + 1];       /* of units that were written, each of unit_bytes */
    unsigned spare_count;
    int64_t opened_ns; /* when a unit was opened last */
    struct tier_unit *failed;
    int64_t retry_ns;
    struct tier_haul haul;
    atomic_uintptr_t hauled; /* the record; 0: none */
    char scratch[TIER_RAW_BYTES_MAX];
    struct tier_cleaner cleaner;
    struct tier_port_counters counters;
};

/* Who reserves space on the disk ahead: tier_space.c. */
struct tier_space {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t wanted; /* the file should reach to here */
    bool started, stopping;
};

struct tier {
    struct tier_file file;
    struct tier_pool pool;
    bool persist;
    bool pool_found; /* it was there before */
    bool written;    /* the header: the file is worth keeping */
    bool sync_failed;
    _Atomic uint64_t cut;
    atomic_bool checkpoints_fail;
    struct tier_space space;
    _Atomic uint64_t reserved_bytes; /* of the file, that may be written */
    struct segment_table *segments;
    struct ghost *ghost;
    size_t segment_bytes, unit_bytes;
    uint32_t segment_count;           /* numbers, also of those that may come while it is used */
    _Atomic uint32_t usable_segments; /* of them, those that are there, tier_grow_for_images() aside */
    uint32_t grown_segments;          /* by that; only the thread that makes a checkpoint asks */
    uint32_t cleaning_segments;       /* kept for who cleans */
    unsigned homes;                   /* pools of persistent memory it consists of; 1: of one thing */
    uint8_t *shard_homes;             /* where records of each shard belong; NULL: anywhere */
    uint32_t shards;
    size_t staged_max, idle_max; /* of a port */
    struct tier_gate gate;
    unsigned units_max; /* of a port */
    bool compress;
    bool bounded;        /* what the server may use is limited */
    bool reads_memory;   /* what is read is copied at once: mapped */
    unsigned port_count; /* that of the images, the last, included */
    struct tier_port *ports;
    pthread_mutex_t unwritten_lock;
    struct tier_unit *unwritten;
    atomic_uint hauls;             /* under way */
    atomic_uint failing;           /* units that could not be written */
    atomic_bool out_of_space;      /* no segment could be had when one was wanted last */
    atomic_bool awaits_checkpoint; /* somebody waits for the segments that the next one sets free */
    atomic_int space_error;        /* errno of the last refusal of the file system; 0: none */
    stat_counter fetches;          /* by tier_fetch(); under the lock of unwritten */
};

/* Copies `bytes` at `offset` out of a unit not written yet; false: that is not (all) in one. */
bool tier_copy_unwritten(struct tier *tier, uint64_t offset, void *into, size_t bytes);
/* The records of an opened block, and where references to them lead, without the volatile mark; returns how many, which
 * is fewer than there should be if one cannot be. `end` is where the block ends, counted from the page it begins in. */
unsigned tier_list_records(const void *payload, const struct tier_block_header *header, uint64_t block, size_t end,
                           const struct record **records, uint64_t *refs);
void tier_list_unwritten(struct tier *tier, struct tier_unit *unit);
void tier_unlist_unwritten(struct tier *tier, struct tier_unit *unit);

/* A checkpoint finds no room for `count` segments of images, and without one nothing that is pending is ever free
 * again: the file becomes larger than it was to be. By the thread that makes the checkpoint. False: it cannot, which
 * was logged. */
bool tier_grow_for_images(struct tier *tier, uint32_t count) __attribute__((warn_unused_result));

/* False: no thread. */
bool tier_space_start(struct tier *tier);
void tier_space_stop(struct tier *tier);
/* Whether the file may be written up to `end`: APPENDED; soon: BUSY; not unless something changes: FULL. */
enum tier_append_status tier_space_reaches(struct tier *tier, uint64_t end);

void tier_reader_free(struct tier_port *port);
/* Those that wait for memory ask again. */
void tier_reader_feed(struct tier_port *port, int64_t now_ns);
/* What is in place is let go whatever the bound is. */
void tier_reader_trim(struct tier_port *port, size_t most);
void tier_writer_turn_end(struct tier_port *port, int64_t now_ns);
/* Closes what is open, segments too. */
void tier_writer_seal_all(struct tier_port *port);
/* What could not be written is not wanted any more. */
void tier_writer_forget_failed(struct tier_port *port);
void tier_writer_free(struct tier_port *port);
void tier_cleaner_free(struct tier_port *port);
/* Memory of the size of a unit, or another; NULL: none. */
char *tier_take_unit_memory(struct tier_port *port, size_t bytes);
/* Memory of the size of a unit. */
void tier_give_unit_memory(struct tier_port *port, char *memory);
/* A segment, or a run of them, for `bytes`; the writer has none. */
enum tier_append_status tier_open_segment(struct tier_port *port, struct tier_writer *writer, enum tier_stream stream,
                                          size_t bytes);
/* The haul is over, or given up and its writes have ended. */
void tier_haul_end(struct tier_port *port);
void tier_haul_free(struct tier_port *port);

/* What a reference says. */
static inline uint64_t tier_ref_block(uint64_t ref) {
    return tier_address_block(ref_address(ref));
}
static inline unsigned tier_ref_which(uint64_t ref) {
    return tier_address_which(ref_address(ref));
}
/* The record's place in its block. */
static inline unsigned tier_ref_ordinal(uint64_t ref) {
    return ref_medium(ref) == MEDIUM_TIER_ALONE ? 0 : tier_ref_which(ref);
}

/* Only where shards have homes. `slot`: any of the shard's. */
static inline unsigned tier_home_of_slot(const struct tier *tier, uint16_t slot) {
    return tier->shard_homes[(uint32_t)slot * tier->shards >> 14];
}

static inline unsigned tier_writer_count(const struct tier *tier) {
    return TIER_STREAMS * tier->homes;
}

static inline void *tier_allocate_pages(size_t bytes) {
    void *memory = NULL;
    return posix_memalign(&memory, TIER_PAGE_BYTES, bytes) == 0 ? memory : NULL;
}

static inline size_t tier_pages_up(size_t bytes) {
    return (bytes + TIER_PAGE_BYTES - 1) / TIER_PAGE_BYTES * TIER_PAGE_BYTES;
}

#endif
