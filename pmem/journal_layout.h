#ifndef TERRACE_PMEM_JOURNAL_LAYOUT_H
#define TERRACE_PMEM_JOURNAL_LAYOUT_H

/* The journal's area of a pool: a page that says how to read it, and a ring of frames.
 *
 *   0        64          128         192       256      4096                                      4096 + capacity
 *   +--------+-----------+-----------+---------+--------+--------------------------------------------+
 *   | header | opening 0 | opening 1 | witness | 0      | ring of frames                             |
 *   +--------+-----------+-----------+---------+--------+--------------------------------------------+
 *
 *   header     0       8         12           16     24         32     60
 *             +-------+---------+------------+------+----------+------+-------+
 *             | magic | version | page bytes | salt | capacity | 0    | crc   |      crc of bytes 0 .. 59
 *             +-------+---------+------------+------+----------+------+-------+
 *
 *   opening    0          8          16           20   60
 *             +----------+----------+------------+----+-----+
 *             | sequence | position | generation | 0  | crc |      of the first frame of that generation
 *             +----------+----------+------------+----+-----+
 *
 *   witness    0          8
 *             +----------+-----------+
 *             | sequence | ~sequence |      all frames below it have been durable. If the two do not fit: says nothing
 *             +----------+-----------+
 *
 *   frame      0     4        8          16         24           28     30      32               multiple of 64
 *             +-----+--------+----------+----------+------------+------+-------+---------+---------+
 *             | crc | length | sequence | position | generation | back | flags | payload | unused  |
 *             +-----+--------+----------+----------+------------+------+-------+---------+---------+
 *
 *   crc        CRC32C of the salt, bytes 4 .. 31 and the payload. The salt is drawn when the area is formatted, so
 *              that no value a client sends passes for a frame
 *   length     bytes of the payload
 *   sequence   1, 2, 3 ... for the life of the pool
 *   position   bytes of the ring that lie before it, counted without end: it stands at position % capacity. A frame
 *              never goes round the end of the ring
 *   generation of the opening in which it was written
 *   back       frames below sequence - back were durable before this one was begun
 *   flags      PMEM_FRAME_OPEN: the effect it ends with goes on in the next frame
 *              PMEM_FRAME_GAP: something is missing in front of it. Its payload, one byte, means nothing. It is the end
 *              for all but those who begin to read with it
 *              PMEM_FRAME_HISTORY: no effect. What the journal is of replication from here on, as text: the id, the
 *              offset, and the database that is selected, -1 if what follows selects one; with a space between them
 *
 * Frames of one batch (mostly there is one) become durable together. A batch is appended in these steps:
 *
 *   1. its frames are written behind the last one             recovery sees the batch before as the last; or a
 *   2. and flushed                                            beginning of this one, of which it takes whole effects
 *   3. a fence                                                the batch
 *   4. replies leave; the witness is moved, without a flush   the batch
 *
 * An opening writes the slot that does not count, of both valid ones that with the lower generation, flushes, fences.
 * Until the fence recovery sees the opening before, of which nothing is lost as no frame was added. From an opening's
 * first sequence on, frames of older generations are dead: they were torn, or nobody had been told of them.
 *
 * Formatting writes everything but the magic, fences, writes the magic, fences. An area without a magic whose ring
 * begins with a line of zeros is not formatted; with anything else it is damaged, as a frame begins there.
 *
 * Integers are little-endian. Which frame is the first that is needed stands in the manifest of the checkpoint. */

#include <stddef.h>
#include <stdint.h>

#define PMEM_JOURNAL_MAGIC   "TERRJRNL"
#define PMEM_JOURNAL_VERSION 1u
#define PMEM_FRAME_OPEN      1u
#define PMEM_FRAME_GAP       2u
#define PMEM_FRAME_HISTORY   4u

enum {
    PMEM_LINE = 64,
    PMEM_JOURNAL_PAGE = 4096,
    PMEM_OPENING_AT = 64,
    PMEM_WITNESS_AT = 192,
    PMEM_FRAME_HEADER = 32,
    PMEM_FRAME_PAYLOAD_MAX = 1 << 20, /* so that the next frame is found behind a damaged one */
};

struct pmem_journal_header {
    char magic[8];
    uint32_t version;
    uint32_t page_bytes;
    uint64_t salt;
    uint64_t capacity;
    uint8_t zero[28];
    uint32_t crc;
};
_Static_assert(sizeof(struct pmem_journal_header) == PMEM_LINE, "as drawn");
_Static_assert(offsetof(struct pmem_journal_header, capacity) == 24, "as drawn");
_Static_assert(offsetof(struct pmem_journal_header, crc) == 60, "as drawn");

struct pmem_journal_opening {
    uint64_t sequence;
    uint64_t position;
    uint32_t generation;
    uint8_t zero[40];
    uint32_t crc;
};
_Static_assert(sizeof(struct pmem_journal_opening) == PMEM_LINE, "as drawn");
_Static_assert(offsetof(struct pmem_journal_opening, generation) == 16, "as drawn");
_Static_assert(offsetof(struct pmem_journal_opening, crc) == 60, "as drawn");

struct pmem_journal_witness {
    uint64_t sequence;
    uint64_t complement;
};
_Static_assert(PMEM_WITNESS_AT + sizeof(struct pmem_journal_witness) <= PMEM_JOURNAL_PAGE, "as drawn");

struct pmem_frame {
    uint32_t crc;
    uint32_t length;
    uint64_t sequence;
    uint64_t position;
    uint32_t generation;
    uint16_t back;
    uint16_t flags;
};
_Static_assert(sizeof(struct pmem_frame) == PMEM_FRAME_HEADER, "as drawn");
_Static_assert(offsetof(struct pmem_frame, generation) == 24, "as drawn");

#endif
