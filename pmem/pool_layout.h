#ifndef TERRACE_PMEM_POOL_LAYOUT_H
#define TERRACE_PMEM_POOL_LAYOUT_H

/* What a server keeps in a libpmemobj pool. The pool's own bytes (header, lanes, heap) are libpmemobj's; ours begin at
 * its root object, and are reached by offsets from the pool's beginning, which mean the same wherever it is mapped.
 *
 *   root ------+-- identity     whose pool it is
 *              +-- sectors      two of 512 bytes: header and manifest of the tier (tiering/tier_pool_layout.h)
 *              +-- extents      a table: where the segments are
 *              +--> journal     one object: pmem/journal_layout.h
 *              +--> extent 0, 1, ...  objects of whole segments
 *
 *   root       0          512        1024       1536   2048                           root bytes
 *             +----------+----------+----------+------+----------+----------+-- --+
 *             | identity | header   | manifest | 0    | extent 0 | extent 1 | ... |    16 bytes each
 *             +----------+----------+----------+------+----------+----------+-- --+
 *
 *   identity   0       8         12           16     32              40       48        56       64         72
 *             +-------+---------+------------+------+---------------+--------+---------+--------+----------+
 *             | magic | version | root bytes | uuid | segment bytes | jrnl   | journal | extent | max      |
 *             |       |         |            |      |               | offset | bytes   | count  | extents  |
 *             +-------+---------+------------+------+---------------+--------+---------+--------+----------+
 *
 *              72       88      92      96      104    112  ..  504
 *             +--------+-------+-------+-------+------+-----+-----+
 *             | set    | pools | index | flags | room | 0   | sum |
 *             | uuid   |       |       |       |      |     |     |
 *             +--------+-------+-------+-------+------+-----+-----+
 *
 *   set uuid   the same in all pools of a server; pools: how many there are; 0 or 1: this one alone. index: 0 is the
 * one with the journal and the sectors; the others hold segments only, and have no journal flags      PMEM_POOL_JOINED:
 * all pools of the set have been there room       bytes of the pool up to which it has been given to extents, or to
 * libpmemobj; 0: it cannot grow so
 *
 *   extent     0        8          16
 *             +--------+----------+
 *             | offset | segments |      offset: of the first segment, at a multiple of 4 KB
 *             +--------+----------+
 *
 * Segments are numbered through the extents in the order of the table. All of them are allocated while the pool is
 * made and none is ever given back to libpmemobj: who uses which is the tier's to know. So is what is in the sectors:
 * to the pool they are 512 bytes that change all at once.
 *
 * A pool of one file is made in these steps:
 *
 *   1. PATH.making is created, at its full length             recovery sees no pool, and begins again
 *   2. journal, extents: allocated, entered in the root       likewise
 *   3. the identity is written, in a transaction; closed      likewise
 *   4. PATH.making is renamed to PATH; the folder is synced   the pool, or no pool
 *
 * A pool set, or a file that was there and blank, is made in its place: there the identity, which comes last, decides.
 * A pool without it holds nothing yet, and the next start finishes it.
 *
 * Several pools (one for each NUMA node) are made in these steps; the order of their names decides who is which:
 *
 *   1. each, one after the other, as above, with set, pools and index    recovery sees some of the pools, none of which
 *                                                                        is joined: those that are absent are made
 *   2. JOINED is set in each, in a transaction, the highest index first  all of them, without data: the rest is joined
 *   3. index 0 is joined                                                 the set; only now it is used
 *
 * So where one is joined none may be absent: then a pool is missing, and nothing is touched. Segments are numbered
 * through a set in turn: number s is segment s / pools of the pool with index s % pools. That stays so when pools grow,
 * by different lengths too: numbers behind the end of a shorter one are nobody's.
 *
 * A pool becomes larger, when it is opened, in these steps:
 *
 *   1. the file is made longer, its space reserved, and synced; or        recovery sees the pool as it was, longer than
 *      its owner has made a part of the pool set longer, or added one     `room` says: it goes on with 2
 *   2. extents behind `room`, and `room`, are entered in a transaction    the pool as it was, or the larger one
 *   3. the tier's header says how many segments there are (sector)        step 3 is made up for
 *
 * It becomes larger while it is used in the same steps. There the file is mapped once more, from `room` on, as
 * libpmemobj's mapping cannot grow: segments of the new extents are used through that, and from the next opening on
 * through libpmemobj's, which is as long as the file then.
 *
 * These extents are not objects of libpmemobj's heap, which ends where the pool did when it was made. It looks for
 * its zones up to the end of the pool all the same, so the 8 MB in which a zone's own bytes would stand remain zero:
 *
 *   0                     zone bytes         2 * zone bytes
 *   +-- - - ----+---------+---------+--------+---------+------- - -
 *   | heap      | extent  | 0, 8 MB | extent | 0, 8 MB | extent
 *   +-- - - ----+---------+---------+--------+---------+------- - -
 *
 * A pool set of directories grows by libpmemobj, up to the length that the set file names.
 *
 * A sector is replaced by a transaction: libpmemobj saves the old 512 bytes in its undo log, then the new ones are
 * written; recovery sees the old ones until the transaction is committed, and the new ones from then on.
 *
 * sum: XXH3-64 of the 504 bytes before it. Integers are little-endian. What is not named is zero. */

#include <stddef.h>
#include <stdint.h>

#define PMEM_POOL_LAYOUT_FAMILY "terrace-pool-" /* of the layout's name; a version follows */
#define PMEM_POOL_LAYOUT        "terrace-pool-1"
#define PMEM_POOL_MAGIC         "TERRPMEM"
#define PMEM_POOL_VERSION       1u
#define PMEM_POOL_JOINED        UINT64_C(1)
/* Of libpmemobj's heap: a zone is its header, headers of 65528 chunks, and these. */
#define PMEM_POOL_ZONE_BYTES UINT64_C(17178296320)
#define PMEM_POOL_ZONE_CLEAR (UINT64_C(8) << 20)

enum {
    PMEM_POOL_SECTOR_BYTES = 512,
    PMEM_POOL_UUID_BYTES = 16,
    PMEM_POOL_ALIGNMENT = 4096, /* of journal and segments */
    PMEM_POOL_EXTENTS_AT = 2048,
    PMEM_POOLS_MAX = 8, /* of a server: what has more nodes with persistent memory can make pool sets of several */
};

/* Which object is what, for libpmemobj. */
enum pmem_pool_type { PMEM_TYPE_JOURNAL = 1, PMEM_TYPE_EXTENT = 2 };

enum pmem_pool_sector { PMEM_SECTOR_HEADER, PMEM_SECTOR_MANIFEST, PMEM_SECTORS };

struct pmem_pool_identity {
    char magic[8];
    uint32_t version;
    uint32_t root_bytes;
    uint8_t uuid[PMEM_POOL_UUID_BYTES];
    uint64_t segment_bytes;
    uint64_t journal_offset;
    uint64_t journal_bytes;
    uint64_t extents;
    uint64_t extents_max;
    uint8_t set_uuid[PMEM_POOL_UUID_BYTES];
    uint32_t set_pools;
    uint32_t set_index;
    uint64_t flags;
    uint64_t room;
    uint8_t zero[392];
    uint64_t checksum;
};
_Static_assert(sizeof(struct pmem_pool_identity) == PMEM_POOL_SECTOR_BYTES, "as drawn");
_Static_assert(offsetof(struct pmem_pool_identity, segment_bytes) == 32, "as drawn");
_Static_assert(offsetof(struct pmem_pool_identity, extents_max) == 64, "as drawn");
_Static_assert(offsetof(struct pmem_pool_identity, set_pools) == 88, "as drawn");
_Static_assert(offsetof(struct pmem_pool_identity, room) == 104, "as drawn");
_Static_assert(offsetof(struct pmem_pool_identity, checksum) == 504, "as drawn");
_Static_assert(PMEM_POOL_ZONE_BYTES == 64 + 65528 * (UINT64_C(8) + (256 << 10)), "as drawn");

struct pmem_pool_extent {
    uint64_t offset;
    uint64_t segments;
};
_Static_assert(sizeof(struct pmem_pool_extent) == 16, "as drawn");

struct pmem_pool_root {
    struct pmem_pool_identity identity;
    uint8_t sectors[PMEM_SECTORS][PMEM_POOL_SECTOR_BYTES];
    uint8_t zero[512];
    struct pmem_pool_extent extent[];
};
_Static_assert(offsetof(struct pmem_pool_root, sectors) == 512, "as drawn");
_Static_assert(offsetof(struct pmem_pool_root, extent) == PMEM_POOL_EXTENTS_AT, "as drawn");

#endif
