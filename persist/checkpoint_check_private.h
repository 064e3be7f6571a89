#ifndef TERRACE_PERSIST_CHECKPOINT_CHECK_PRIVATE_H
#define TERRACE_PERSIST_CHECKPOINT_CHECK_PRIVATE_H

/* What the files of the check share: the walk through a checkpoint, and the block it has at hand.
 *
 * Threads: one. */

#include "persist/checkpoint_check.h"
#include "persist/checkpoint_file.h"
#include "record/record.h"

/* A segment, as its row says or its blocks do. */
struct check_segment {
    struct checkpoint_segment row; /* run 0: nothing is known of it */
    uint32_t live;                 /* slots and pages that are in order, and are kept */
};

struct checking {
    const struct tier_pool *tier;
    uint64_t seed; /* of the keyspace */
    struct checkpoint_health *health;
    struct checkpoint_reader *reader;
    struct checkpoint_writer *writer; /* NULL: only looking */
    struct check_segment *segments;
    uint64_t segment_count;
    size_t segment_bytes;
    /* The block at hand. */
    char *block, *raw; /* owned; raw: decompressed */
    size_t block_room, raw_room;
    const void *payload; /* NULL: it is damaged, or cannot be read */
    size_t raw_bytes;
    uint64_t block_number;
    bool failed; /* the writer, or there is no memory */
};

/* The first damage is told. */
void checking_note(struct checking *checking, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The payload of a chunk, to be freed. NULL: it is lost, which is counted and told, or there is no memory (failed). */
char *checking_read(struct checking *checking, uint32_t chunk);
/* Into the new checkpoint, if there is to be one. */
void checking_keep(struct checking *checking, enum checkpoint_kind kind, uint32_t shard, uint32_t database,
                   uint32_t count, const void *payload, size_t bytes);

/* ---- blocks: checkpoint_check_blocks.c ---- */

/* The record that `ref` leads to, until the next call; NULL: it is not there, or damaged. Cheap as long as the block
 * stays the same. */
const struct record *checking_record(struct checking *checking, uint64_t ref);
/* A reference that is in order is kept: its segment is needed. Precondition: checking_record() has found it. */
void checking_refer(struct checking *checking, uint64_t ref);
void checking_free_block(struct checking *checking);

/* References are looked at in the order of their blocks, so that each is read once. */
struct check_reference {
    uint64_t ref;
    uint32_t at; /* where it stands among the others */
};
void checking_sort(struct check_reference *references, size_t count);

/* ---- big collections: checkpoint_check_pages.c ---- */

/* Rows of segments and slots have been looked at. */
void checking_collections(struct checking *checking);

#endif
