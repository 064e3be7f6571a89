#ifndef TERRACE_TIERING_TIER_LAYOUT_H
#define TERRACE_TIERING_TIER_LAYOUT_H

/* What stands on the tier, and how a reference says where.
 *
 *   file       | header | segment 0 | segment 1 | ...            each of the same size, 1 MB .. 64 MB
 *   header     16 KB: tier_pool_layout.h
 *   segment    | page 0 | page 1 | ...                           4 KB each
 *   page       | block | block | ..| the beginning of a block    blocks start at multiples of 128 bytes
 *   block      | header, 24 bytes | payload: records one behind the other, LZ4-compressed or not |
 *
 * A block holds records of one shard and one database. Either it ends in the page it begins in and holds up to 128
 * records, or it holds one record alone and takes as many pages as it needs: so one read is enough for any record, and
 * no space is lost to records that do not divide a page. A record too large for a segment has a run of whole segments,
 * and its block begins the first.
 *
 * A reference's 44 address bits:
 *
 *    43                              7 6         0
 *   +---------------------------------+-----------+
 *   | block: 37, in units of 128 bytes | which: 7 |        16 TB
 *   +---------------------------------+-----------+
 *
 *   which, of medium TIER_SHARED   the record's place in its block, 0..127
 *   which, of medium TIER_ALONE    pages that have to be read, 1..126; 127: so many that the header must be read first
 *
 *    0          4            8           12             16      18      20      22         24
 *   +----------+------------+-----------+--------------+-------+-------+-------+----------+---------
 *   | checksum | generation | raw bytes | stored bytes | count | flags | slot  | database | payload
 *   +----------+------------+-----------+--------------+-------+-------+-------+----------+---------
 *
 *   checksum     low half of XXH3-64 over everything behind it, seeded with the block's number: a block written to the
 *                wrong place is as bad as a damaged one
 *   generation   of the segment: grows each time the segment is used again, so an old block is told from a damaged one
 *   slot         first cluster slot of the shard its records belong to
 *   raw bytes    of the records. What a compressed payload holds behind them, the beginning of one that did not
 *                fit any more, is nobody's
 *
 * A record that was packed piece by piece and compressed (TIER_FLAG_CHUNKS) is a sequence of chunks, each of which
 * stands for the next TIER_CHUNK_BYTES of it, the last one for what is left:
 *
 *   payload    | length, 4 bytes | LZ4-compressed, or as it is where that has this length | length | ...
 *
 * Its stored bytes are known only when all is packed, so the checksum is of the header's bytes behind the checksum,
 * seeded with XXH3-64 of the payload, which is seeded with the block's number.
 *
 * All integers are little-endian. Space between blocks is zero. */

#include <stddef.h>
#include <stdint.h>

#define TIER_HEADER_BYTES   (16u * 1024)
#define TIER_PAGE_BYTES     4096u
#define TIER_UNIT_BYTES     128u
#define TIER_WHICH_BITS     7u
#define TIER_BLOCK_RECORDS  128u
#define TIER_PAGES_UNKNOWN  127u
#define TIER_RAW_BYTES_MAX  (16u * 1024) /* of a shared block: what decompressing one costs is bounded by it */
#define TIER_FILE_BYTES_MAX (UINT64_C(1) << 44)
#define TIER_CHUNK_BYTES    (64u * 1024)

#define TIER_FLAG_LZ4    1u
#define TIER_FLAG_ALONE  2u /* one record alone, also where the block happens to end in the page it begins in */
#define TIER_FLAG_CHUNKS 4u /* compressed in chunks: with both of the others */

struct tier_block_header {
    uint32_t checksum;
    uint32_t generation;
    uint32_t raw_bytes;
    uint32_t stored_bytes;
    uint16_t count;
    uint16_t flags;
    uint16_t slot;
    uint16_t database;
};
_Static_assert(sizeof(struct tier_block_header) == 24, "as drawn");
_Static_assert(offsetof(struct tier_block_header, count) == 16, "as drawn");

/* Addresses as references hold them. */
static inline uint64_t tier_address(uint64_t block, unsigned which) {
    return block << TIER_WHICH_BITS | which;
}
static inline uint64_t tier_address_block(uint64_t address) {
    return address >> TIER_WHICH_BITS;
}
static inline unsigned tier_address_which(uint64_t address) {
    return (unsigned)(address & ((1u << TIER_WHICH_BITS) - 1));
}
static inline uint64_t tier_block_offset(uint64_t block) {
    return block * TIER_UNIT_BYTES;
}

#endif
