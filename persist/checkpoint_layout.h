#ifndef TERRACE_PERSIST_CHECKPOINT_LAYOUT_H
#define TERRACE_PERSIST_CHECKPOINT_LAYOUT_H

/* A checkpoint of a tier that persists: which records there were at its cut, and where on the tier each stands.
 *
 *   <tier-path>.checkpoint.<number>        this file
 *   the tier's file                        all records, and all pages of big collections: cold ones where they were
 *                                          anyway, those in memory as images; and the manifest
 *                                          (tiering/tier_pool_layout.h), which names the one checkpoint that counts,
 *                                          its length and its directory
 *   <tier-path>.checkpoint.<number>.rdb    versions 1 and 2 only: big collections as RDB, where there were any
 *
 *   file       | header, 64 bytes | chunk | chunk | ... | directory, a chunk |
 *
 *   header     0       8         12            16     32       40       44        56
 *             +-------+---------+-------------+------+--------+--------+---------+----------+
 *             | magic | version | chunk bytes | uuid | number | shards | 0       | checksum |
 *             +-------+---------+-------------+------+--------+--------+---------+----------+
 *
 *   chunk      0       4      6          8       12      16       24       32         40
 *             +-------+------+----------+-------+-------+--------+--------+----------+---------
 *             | magic | kind | database | shard | count | number | bytes  | checksum | payload
 *             +-------+------+----------+-------+-------+--------+--------+----------+---------
 *
 * checksum: XXH3-64, of a chunk over its first 32 bytes and its payload, seeded with where it stands and the pool's
 * uuid, so a chunk of another checkpoint, of another pool or from another place is as bad as a damaged one. All of a
 * chunk's bytes are covered; there is nothing between chunks.
 *
 *   kind        payload
 *   SLOTS       `count` slots of 12 bytes, of one shard and database; then a print of 12 bytes for each of the last
 *               bytes / 12 - count of them
 *   SEGMENTS    `count` rows of 32 bytes: every segment that a slot refers to
 *   EXPIRIES    `count` ranges of 8 bytes (segment_table.h) of the pages of segment `shard`
 *   FIELDS      `count` entries of 16 bytes: struct field_due, of one shard and database
 *   ROOTS       `count` big collections of one shard and database, one behind the other: struct checkpoint_root, the
 *               key, what the root knows besides its pages (record/state.h), or the end of it; and, where there are few
 *               pages, an entry for each number of part 0, then of part 1, then the prints of those that have one
 *   STATES      what goes before that, where it is long: a piece of collection `shard`. Pieces stand in their order.
 *               A key of more than CHECKPOINT_ROOT_KEY_MAX bytes does not stand with its root, but before all this
 *   PAGES       of a collection with many pages, `shard`: struct checkpoint_pages, `count` entries of 8 bytes, of pages
 * with numbers that follow each other; then a print of 12 bytes for each entry that says so DIRECTORY   `count` places
 * of 32 bytes: all other chunks
 *
 *   slot       0            6            12
 *             +------------+------------+
 *             | hash       | reference  |
 *             +------------+------------+
 *
 *   hash       the 48 upper bits of what the index knew of it (index_hash_of())
 *   reference  with its volatile mark (record/reference.h); always of a tier's medium
 *
 *   entry      0 where there is no page, else as it stands in the table of pages (record/page_table.h): the note, and
 *              the reference, of a tier's medium, whose volatile mark says that a print follows
 *
 *   print      of a record that was in memory, and whose image this slot leads to: 96 bits of XXH3-128 of what it
 *              contained, seeded with the pool's seed. The next checkpoint of the same server knows by it whether the
 *              record still is what the image says; a start passes it over. What is hashed: 16 bytes of XXH3-128 over
 *              the record from its fifth byte on, then 8 bytes, the first two of the record, without its epoch, and
 *              zeros. (So access bits do not count.)
 *
 * Version 1 had no prints; versions 1 and 2 had no pages, all big collections being in the file beside. Both are read
 * as well.
 *
 * Integers are little-endian. */

#include "tiering/tier_pool_layout.h"

#define CHECKPOINT_MAGIC       "TERRCKPT"
#define CHECKPOINT_CHUNK_MAGIC UINT32_C(0x4b4e4843) /* "CHNK" */
#define CHECKPOINT_VERSION     3u
#define CHECKPOINT_VERSION_MIN 1u /* that is read */

enum checkpoint_kind {
    CHECKPOINT_SLOTS = 1,
    CHECKPOINT_SEGMENTS,
    CHECKPOINT_EXPIRIES,
    CHECKPOINT_FIELDS,
    CHECKPOINT_DIRECTORY,
    CHECKPOINT_ROOTS,
    CHECKPOINT_STATES,
    CHECKPOINT_PAGES,
};

struct checkpoint_header {
    char magic[8];
    uint32_t version;
    uint32_t chunk_header_bytes;
    uint8_t uuid[TIER_UUID_BYTES];
    uint64_t number;
    uint32_t shards;
    uint8_t zero[12];
    uint64_t checksum;
};
_Static_assert(sizeof(struct checkpoint_header) == 64, "as drawn");
_Static_assert(offsetof(struct checkpoint_header, checksum) == 56, "as drawn");

struct checkpoint_chunk_header {
    uint32_t magic;
    uint16_t kind;
    uint16_t database;
    uint32_t shard;
    uint32_t count;
    uint64_t number;
    uint64_t bytes;
    uint64_t checksum;
};
_Static_assert(sizeof(struct checkpoint_chunk_header) == 40, "as drawn");
_Static_assert(offsetof(struct checkpoint_chunk_header, checksum) == 32, "as drawn");

struct checkpoint_place {
    uint64_t offset;
    uint64_t bytes; /* of the payload */
    uint16_t kind;
    uint16_t database;
    uint32_t shard;
    uint32_t count;
    uint32_t zero;
};
_Static_assert(sizeof(struct checkpoint_place) == 32, "as drawn");

#define CHECKPOINT_SEGMENT_EXPIRES 1u

struct checkpoint_segment {
    uint32_t segment, generation, run;
    uint32_t records, live; /* `live` of them are in this checkpoint */
    uint32_t flags;
    uint64_t used_bytes;
};
_Static_assert(sizeof(struct checkpoint_segment) == 32, "as drawn");

struct checkpoint_print {
    uint8_t bytes[12];
};
_Static_assert(sizeof(struct checkpoint_print) == 12, "as drawn");

/* A big collection, all but its pages. */
struct checkpoint_root {
    uint32_t collection; /* the id by which its pages name it */
    uint32_t type;       /* enum record_type */
    int64_t expiry_ms;
    int64_t next_expiry_ms;    /* of its elements */
    uint64_t payload_bytes[2]; /* of the pages of each part */
    uint32_t end[2], live[2];
    uint32_t access;
    uint32_t key_bytes, state_bytes; /* that follow */
    uint32_t pieces;                 /* STATES chunks that come before these */
    uint32_t page_bytes; /* of entries and prints behind them; 0: they are in PAGES chunks, if there are any */
    uint32_t zero;
};
_Static_assert(sizeof(struct checkpoint_root) == 80, "no holes");

enum { CHECKPOINT_PAGES_BESIDE = 64 }; /* numbers of both parts together, at most, that stand with their root */

#define CHECKPOINT_ROOT_KEY_MAX (1u << 20)

struct checkpoint_pages {
    uint32_t first; /* number of the first entry, with the part in its highest bit */
    uint32_t zero;
};
_Static_assert(sizeof(struct checkpoint_pages) == 8, "as said");

#define CHECKPOINT_PAGE_HAS_PRINT (UINT64_C(1) << 47) /* of an entry: REF_VOLATILE, which pages have no use for */
/* Numbers of pages that may stand in one chunk: from a multiple of this on. So a reader finds a page in the chunk of
 * its stretch, and those who fill a table from several chunks never meet. */
enum { CHECKPOINT_STRETCH = 4096 };

enum { CHECKPOINT_SLOT_BYTES = 12, CHECKPOINT_PAYLOAD_MAX = 1 << 26 };

#endif
