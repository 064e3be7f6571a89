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
 *   identity   0       8         12           16     32              40       48        56       64       72  ..  504
 *             +-------+---------+------------+------+---------------+--------+---------+--------+--------+-----+-----+
 *             | magic | version | root bytes | uuid | segment bytes | jrnl   | journal | extent | max    | 0   | sum |
 *             |       |         |            |      |               | offset | bytes   | count  | extents|     |     |
 *             +-------+---------+------------+------+---------------+--------+---------+--------+--------+-----+-----+
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

enum {
    PMEM_POOL_SECTOR_BYTES = 512,
    PMEM_POOL_UUID_BYTES = 16,
    PMEM_POOL_ALIGNMENT = 4096, /* of journal and segments */
    PMEM_POOL_EXTENTS_AT = 2048,
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
    uint8_t zero[432];
    uint64_t checksum;
};
_Static_assert(sizeof(struct pmem_pool_identity) == PMEM_POOL_SECTOR_BYTES, "as drawn");
_Static_assert(offsetof(struct pmem_pool_identity, segment_bytes) == 32, "as drawn");
_Static_assert(offsetof(struct pmem_pool_identity, extents_max) == 64, "as drawn");
_Static_assert(offsetof(struct pmem_pool_identity, checksum) == 504, "as drawn");

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
