#ifndef TERRACE_TIERING_TIER_POOL_LAYOUT_H
#define TERRACE_TIERING_TIER_POOL_LAYOUT_H

/* The first 16 KB of the tier's file: whose it is, and where the last checkpoint of its contents is.
 *
 *   0        4 KB       8 KB       12 KB     16 KB
 *   +--------+----------+----------+---------+-----------
 *   | header | manifest | manifest | 0       | segment 0
 *   +--------+----------+----------+---------+-----------
 *
 * Each of the three takes the first 512 bytes of its page, the rest of which is zero: a sector is written whole or not
 * at all, so nothing here is ever half new.
 *
 *   header     0        8         12      16     32              40         48     56       60      64 ..   504
 *             +--------+---------+-------+------+---------------+----------+------+--------+-------+-------+----------+
 *             | magic  | version | bytes | uuid | segment bytes | segments | seed | shards | flags | 0     | checksum |
 *             +--------+---------+-------+------+---------------+----------+------+--------+-------+-------+----------+
 *
 *   uuid       drawn when the file is made; whatever belongs to it names it
 *   seed       of key_hash(): the indexes of all checkpoints hold hashes made with it
 *   shards     likewise, into which the cluster slots are cut
 *   flags      TIER_POOL_PERSISTENT: what is in the file is to survive. Without it the contents die with the server.
 *
 *   manifest   0       8        16     32           40          48     56            64    72     80    88       504
 *             +-------+--------+------+------------+-----------+------+-------------+-----+------+-----+--------+-----+
 *             | magic | number | uuid | file bytes | directory | keys | collections | aof | aof  | cut | chunks | sum |
 *             |       |        |      |            | at        |      | bytes       | seq | mark | ms  | flags  |     |
 *             +-------+--------+------+------------+-----------+------+-------------+-----+------+-----+--------+-----+
 *
 *   collections bytes: of a file of collections, which earlier versions had beside a checkpoint; 0: there is none
 *   aof seq    the increment of the append-only file that begins at the cut; aof mark: XXH3-64 of its first line
 *
 *   if flags   96         104        112          152      160        168
 *   say so     +----------+----------+------------+--------+----------+---
 *              | sequence | position | history id | offset | database | 0
 *              +----------+----------+------------+--------+----------+---
 *
 *   sequence   and position: of the first frame of the pool's journal behind the cut (pmem/)
 *   history    of replication: the id (40 hexadecimal digits, no zero behind them), bytes of the stream up to the cut,
 *              and the database that the stream has selected there; -1: what follows begins with SELECT
 *
 * A new manifest goes to the slot of the one that does not count; the valid one with the higher number does. A
 * checkpoint becomes the one that counts in these steps:
 *
 *   1. blocks and checkpoint file are written                       recovery sees the checkpoint before
 *   2. all of them, and the directory of the file, are synced       likewise
 *   3. the manifest's page is written                               the one before, or this one, both of them whole
 *   4. the tier's file is synced                                    this one
 *   5. the checkpoint before and the segments only it referred to are given up
 *
 * checksum: XXH3-64 of the 504 bytes before it. Integers are little-endian. */

#include <stddef.h>
#include <stdint.h>

#define TIER_POOL_MAGIC          "TERRTIER"
#define TIER_POOL_MANIFEST_MAGIC "TERRMANI"
#define TIER_POOL_VERSION        1u
#define TIER_POOL_PERSISTENT     1u

#define TIER_MANIFEST_HAS_AOF     1u /* the journal goes on with that increment */
#define TIER_MANIFEST_HAS_PMEM    2u /* the pool's own journal does, at that place */
#define TIER_MANIFEST_HAS_HISTORY 4u

enum { TIER_POOL_SECTOR = 512, TIER_POOL_SLOTS = 2, TIER_UUID_BYTES = 16, TIER_HISTORY_ID = 40 };

struct tier_pool_header {
    char magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint8_t uuid[TIER_UUID_BYTES];
    uint64_t segment_bytes;
    uint64_t segments;
    uint64_t seed;
    uint32_t shards;
    uint32_t flags;
    uint8_t zero[440];
    uint64_t checksum;
};
_Static_assert(sizeof(struct tier_pool_header) == TIER_POOL_SECTOR, "one sector");
_Static_assert(offsetof(struct tier_pool_header, seed) == 48, "as drawn");
_Static_assert(offsetof(struct tier_pool_header, checksum) == 504, "as drawn");

struct tier_pool_manifest {
    char magic[8];
    uint64_t number;
    uint8_t uuid[TIER_UUID_BYTES];
    uint64_t file_bytes;   /* of the checkpoint file */
    uint64_t directory_at; /* in it */
    uint64_t keys;
    uint64_t collections_bytes;
    uint64_t aof_sequence, aof_mark;
    int64_t cut_ms; /* unix */
    uint32_t chunks;
    uint32_t flags;
    uint64_t pmem_sequence, pmem_position;
    char history_id[TIER_HISTORY_ID];
    uint64_t history_offset;
    int32_t history_database;
    uint8_t zero[340];
    uint64_t checksum;
};
_Static_assert(sizeof(struct tier_pool_manifest) == TIER_POOL_SECTOR, "one sector");
_Static_assert(offsetof(struct tier_pool_manifest, aof_sequence) == 64, "as drawn");
_Static_assert(offsetof(struct tier_pool_manifest, chunks) == 88, "as drawn");
_Static_assert(offsetof(struct tier_pool_manifest, pmem_position) == 104, "as drawn");
_Static_assert(offsetof(struct tier_pool_manifest, history_offset) == 152, "as drawn");
_Static_assert(offsetof(struct tier_pool_manifest, checksum) == 504, "as drawn");

#endif
