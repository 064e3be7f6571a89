#ifndef TERRACE_PERSIST_RDB_LAYOUT_H
#define TERRACE_PERSIST_RDB_LAYOUT_H

/* The bytes of an RDB file and of a DUMP payload, which are Redis's; and of the sidecar that lies beside a file.
 *
 *   file      +---------+---------+- - -+---------+--------+-------+- - - - - - -+-----+----------+
 *             | "REDIS" | version | aux | select  | resize | select| records ... | EOF | checksum |
 *             |         | 4 digits|     | database|        |       |             |     | (8)      |
 *             +---------+---------+- - -+---------+--------+-------+- - - - - - -+-----+----------+
 *
 *   record    [fc expiry in unix ms (8)] [f8 idle seconds (length) | f9 frequency (1)] type (1) key (string) value
 *   aux       fa name (string) value (string)
 *   select    fe database (length)
 *   resize    fb keys (length) keys with an expiry (length): a hint
 *   checksum  CRC64 (crc64.h) of all bytes before it, little-endian; 0: none was computed
 *
 *   payload   type (1) value, version (2, little-endian), CRC64 of all bytes before it (8)
 *
 *   length    00nnnnnn                    6 bits                string   length, bytes
 *             01nnnnnn n                  14 bits, big-endian            11000000 + 1 byte    \
 *             10000000 nnnn               32 bits, big-endian            11000001 + 2 bytes    } the text of an integer
 *             10000001 nnnnnnnn           64 bits, big-endian            11000010 + 4 bytes   /  (little-endian)
 *                                                                        11000011 length of the compressed bytes,
 * length of the text, LZF-compressed bytes
 *
 *   value by type
 *     STRING             string
 *     LIST, SET          count (length), then so many strings
 *     HASH               count, then field and value
 *     ZSET               count, then member, score: length byte (253 nan, 254 inf, 255 -inf) and decimal text
 *     ZSET_2             count, then member, score as 8 bytes of a double, little-endian
 *     SET_INTSET, HASH_LISTPACK, ZSET_LISTPACK, SET_LISTPACK    one string: the bytes of intset.h, listpack.h
 *     HASH_ZIPMAP, LIST_ZIPLIST, ZSET_ZIPLIST, HASH_ZIPLIST     one string, in older Redis's packings
 *     LIST_QUICKLIST     count, then strings that are ziplists
 *     LIST_QUICKLIST_2   count of nodes, then each: RDB_NODE_PLAIN and an element, or RDB_NODE_PACKED and a listpack
 *     HASH_METADATA      earliest expiry (8), count, then: ttl (length), field, value. ttl 0: none; else the field
 * expires at earliest + ttl - 1. The older HASH_METADATA_PRE_GA has no "earliest", and ttl is the time HASH_LISTPACK_EX
 * earliest expiry (8), one string: a listpack of field, value, expiry (0: none) in order of expiry, those without at
 * the end. HASH_LISTPACK_EX_PRE_GA has no "earliest" STREAM_LISTPACKS*  see below
 *
 *   stream    count of nodes, then each: master ID (a string of 16 bytes: two numbers, big-endian), listpack (string)
 *             entries, last ID: ms, sequence (lengths, as all that follow)
 *             from _2 on: first ID, greatest deleted ID, entries ever added
 *             count of groups, then each:
 *               name (string), last ID delivered, from _2 on: entries read (all ones: unknown)
 *               count of pending, then each: ID (16 bytes, no length), delivered at (8), deliveries (length)
 *               count of consumers, then each:
 *                 name, seen at (8), from _3 on: active at (8; all ones: never), count of pending, then IDs (16 bytes)
 *
 *   listpack of a node
 *             entries, deleted, fields, names of the first entry's fields, 0
 *             then each: flags (1 deleted, 2 the names are the first entry's), ms and sequence above the master ID's,
 *                        [fields, then name and value, ... | values], how many entries of the listpack it takes
 *
 * Which types a version may have: RDB_VERSION_*. Integers in files are little-endian where not said otherwise. */

#include <assert.h>
#include <stdint.h>

/* ---- versions ---- */

enum {
    RDB_VERSION_MIN = 1,
    RDB_VERSION_DEFAULT = 10,      /* Redis 7.0: what is written unless told otherwise */
    RDB_VERSION_SET_LISTPACK = 11, /* Redis 7.2: packed sets, when a consumer was last active */
    RDB_VERSION_FIELD_TTL = 12,    /* Redis 7.4: fields of hashes that expire */
    RDB_VERSION_MAX = 12,
    RDB_VERSION_CHECKSUM = 5, /* from here on files end with a checksum */
};

#define RDB_MAGIC "REDIS"
enum {
    RDB_MAGIC_BYTES = 5,
    RDB_HEADER_BYTES = 9, /* with the version's four digits */
    RDB_CHECKSUM_BYTES = 8,
    RDB_PAYLOAD_FOOTER_BYTES = 10, /* version and checksum */
};

/* ---- opcodes ---- */

enum rdb_opcode {
    RDB_OP_SLOT_INFO = 244, /* slot, keys, keys with expiry: three lengths */
    RDB_OP_FUNCTION = 245,  /* a string: a library's source */
    RDB_OP_FUNCTION_PRE_GA = 246,
    RDB_OP_MODULE_AUX = 247,
    RDB_OP_IDLE = 248,
    RDB_OP_FREQUENCY = 249,
    RDB_OP_AUX = 250,
    RDB_OP_RESIZE = 251,
    RDB_OP_EXPIRY_MS = 252,
    RDB_OP_EXPIRY_S = 253, /* 4 bytes: unix seconds */
    RDB_OP_SELECT = 254,
    RDB_OP_EOF = 255,
};

/* ---- types ---- */

enum rdb_type {
    RDB_STRING = 0,
    RDB_LIST = 1,
    RDB_SET = 2,
    RDB_ZSET = 3,
    RDB_HASH = 4,
    RDB_ZSET_2 = 5,
    RDB_MODULE_PRE_GA = 6,
    RDB_MODULE_2 = 7,
    RDB_HASH_ZIPMAP = 9,
    RDB_LIST_ZIPLIST = 10,
    RDB_SET_INTSET = 11,
    RDB_ZSET_ZIPLIST = 12,
    RDB_HASH_ZIPLIST = 13,
    RDB_LIST_QUICKLIST = 14,
    RDB_STREAM_LISTPACKS = 15,
    RDB_HASH_LISTPACK = 16,
    RDB_ZSET_LISTPACK = 17,
    RDB_LIST_QUICKLIST_2 = 18,
    RDB_STREAM_LISTPACKS_2 = 19,
    RDB_SET_LISTPACK = 20,
    RDB_STREAM_LISTPACKS_3 = 21,
    RDB_HASH_METADATA_PRE_GA = 22,
    RDB_HASH_LISTPACK_EX_PRE_GA = 23,
    RDB_HASH_METADATA = 24,
    RDB_HASH_LISTPACK_EX = 25,
};

/* ---- lengths and strings ---- */

enum {
    RDB_LENGTH_14BIT = 0x40,
    RDB_LENGTH_32BIT = 0x80,
    RDB_LENGTH_64BIT = 0x81,
    RDB_STRING_SPECIAL = 0xc0, /* both highest bits: the rest says what follows */
    RDB_STRING_INT8 = 0xc0,
    RDB_STRING_INT16 = 0xc1,
    RDB_STRING_INT32 = 0xc2,
    RDB_STRING_LZF = 0xc3,
    RDB_LENGTH_BYTES_MAX = 9,
    RDB_INTEGER_TEXT_MAX = 11,    /* no text longer than this is written as an integer */
    RDB_COMPRESS_LENGTH_MIN = 21, /* shorter strings are not worth compressing */
};

enum { RDB_NODE_PLAIN = 1, RDB_NODE_PACKED = 2 };
enum { RDB_SCORE_NAN = 253, RDB_SCORE_INFINITE = 254, RDB_SCORE_MINUS_INFINITE = 255 };
enum { RDB_STREAM_ID_BYTES = 16, RDB_STREAM_DELETED = 1, RDB_STREAM_SAME_FIELDS = 2 };

/* The aux field whose value, 16 hexadecimal digits, names the sidecar that belongs to the file. */
#define RDB_AUX_INDEX "terrace-index"

/* ---- the sidecar: <file>.idx ----
 *
 * With it several threads can load a file at once. It is a help only: without it, or with one that does not belong to
 * the file, the file is read from front to end.
 *
 *    0                64              64 + 48 n           + 8
 *   +----------------+----------------+- - - - -+---------+
 *   | struct         | struct         |         | CRC64   |
 *   | rdb_index_head | rdb_index_chunk|         |         |
 *   +----------------+----------------+- - - - -+---------+
 *
 * It belongs to the file whose RDB_AUX_INDEX names its `id`, and which is exactly `file_bytes` long. Chunks are in
 * order, the first begins at `body_offset`, each where the one before ends, and the last ends at `body_end`, where the
 * EOF opcode stands; they may be loaded in any order. A chunk begins with the opcode that selects its database and is
 * followed by whole records of that database. The CRC64s of the chunks replace that of the file, which need not be
 * computed again by who checks them all and that of the bytes before `body_offset`. */

#define RDB_INDEX_MAGIC   "TRCRDBI"
#define RDB_INDEX_SUFFIX  ".idx"
#define RDB_INDEX_VERSION 1

struct rdb_index_head {
    char magic[8]; /* RDB_INDEX_MAGIC, terminated */
    uint32_t version;
    uint32_t chunk_count;
    uint64_t id; /* random */
    uint64_t file_bytes;
    uint64_t body_offset, body_end;
    uint64_t head_crc; /* of the bytes before body_offset */
    uint64_t keys;     /* of all chunks */
};
static_assert(sizeof(struct rdb_index_head) == 64, "no padding");

struct rdb_index_chunk {
    uint64_t offset, length; /* in bytes, from the file's first */
    uint64_t keys;
    uint64_t crc;
    uint32_t database;
    uint32_t reserved;
    uint64_t reserved2;
};
static_assert(sizeof(struct rdb_index_chunk) == 48, "no padding");

enum { RDB_INDEX_CHUNKS_MAX = 64 << 20 }; /* 64 TB of chunks of a megabyte */

#endif
