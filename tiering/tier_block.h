#ifndef TERRACE_TIERING_TIER_BLOCK_H
#define TERRACE_TIERING_TIER_BLOCK_H

/* Making and opening blocks (tier_layout.h): arithmetic on bytes, no input or output, no state.
 *
 * Threads: none of its own; every function works on what it is given. */

#include "record/record.h"
#include "tiering/tier_layout.h"

/* Where a block will stand and whose records it holds. */
struct tier_block_place {
    uint64_t block; /* number: offset / TIER_UNIT_BYTES */
    uint32_t generation;
    uint16_t slot, database;
};

/* How well recent blocks compressed, so that the next is given about as many records as fit. One for each stream of
 * blocks; zeroed at first. */
struct tier_block_estimate {
    uint32_t stored_per_1024; /* 0: not known yet */
    uint32_t untried;         /* blocks since compression was last tried, while it does not pay */
};

/* Lays out a block of the first records of `records` (whole, as many as fit, at most TIER_BLOCK_RECORDS) in
 * `room` bytes at `into`, which end with the page. `compress`: LZ4 where that makes it smaller. `scratch` has
 * TIER_RAW_BYTES_MAX bytes. Returns how many records went in (0: not even the first fits), and the block's bytes in
 * *used, header included, not yet rounded up to a unit. */
unsigned tier_block_pack(void *into, size_t room, const struct tier_block_place *place,
                         const struct record *const *records, unsigned count, bool compress,
                         struct tier_block_estimate *estimate, void *scratch, size_t *used);

/* Bytes that suffice for a block of this one record, however badly it compresses. */
size_t tier_block_alone_bound(const struct record *record);
/* A block of one record alone, of any size; `into` has tier_block_alone_bound() bytes. `estimate` is that of such
 * blocks alone. Returns its bytes. */
size_t tier_block_pack_alone(void *into, const struct tier_block_place *place, const struct record *record,
                             bool compress, struct tier_block_estimate *estimate);

/* A block of one record whose payload is made, and goes away, piece by piece. Its header comes last. */
struct tier_block_pieces {
    struct tier_block_header header; /* without checksum and stored bytes */
    uint64_t block;
    void *state; /* of the checksum */
};
/* `raw_bytes`: the record's size. `chunks`: the payload will be what tier_block_pack_chunk() makes of it; otherwise the
 * record as it is. False: no memory. */
bool tier_block_pieces_begin(struct tier_block_pieces *pieces, const struct tier_block_place *place, size_t raw_bytes,
                             bool chunks) __attribute__((warn_unused_result));
/* The next bytes of the payload. */
void tier_block_pieces_add(struct tier_block_pieces *pieces, const void *bytes, size_t length);
/* Writes the header, which is complete now, to `into`, and gives up the state. */
void tier_block_pieces_end(struct tier_block_pieces *pieces, void *into);
/* It is not wanted any more; also after its end. */
void tier_block_pieces_free(struct tier_block_pieces *pieces);
/* Bytes that suffice for such a block, header included. */
size_t tier_block_pieces_bound(size_t raw_bytes, bool chunks);

#define TIER_CHUNK_BOUND (sizeof(uint32_t) + TIER_CHUNK_BYTES)
/* Packs the next `length` bytes of a record, TIER_CHUNK_BYTES unless they are the last; `into` has TIER_CHUNK_BOUND
 * bytes. Returns the chunk's bytes. */
size_t tier_block_pack_chunk(void *into, const void *bytes, size_t length);

enum tier_block_status {
    TIER_BLOCK_GOOD,
    TIER_BLOCK_STALE,   /* whole, but of another generation: the segment was used again since */
    TIER_BLOCK_DAMAGED, /* a checksum, or a length that cannot be */
};

/* Bytes of the block that begins at `bytes`, by its header alone, which nothing has verified: 0 when it cannot be a
 * block that fits in `limit` bytes. */
size_t tier_block_bytes(const void *bytes, size_t limit);

/* Verifies the block at `bytes` (`available` of them) against its place: checksum and generation, then that its
 * payload's lengths agree. */
enum tier_block_status tier_block_verify(const void *bytes, size_t available, uint64_t block, uint32_t generation);

/* Precondition for tier_block_open(): the block is TIER_BLOCK_GOOD. */

/* The payload as records: a pointer into the block itself, or, of a compressed one, `raw` after decompressing (it has
 * header.raw_bytes bytes). NULL: damaged after all (a payload that does not decompress). */
const void *tier_block_open(const void *bytes, void *raw);
/* Record number `which` of an opened payload; NULL: it has not so many, or they do not lie within `raw_bytes`, or that
 * one has a header no record can have. What it reads is checked first, whatever the payload. Time: 3 ns a record
 * that stands before it. */
const struct record *tier_block_record(const void *payload, size_t raw_bytes, unsigned which);

#endif
