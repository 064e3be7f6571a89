/* A piece of the segment is in memory, and blocks are taken out of it one by one. A block that does not end in the
 * piece begins the next one, which is made large enough for it.
 *
 *   segment   | block | block  |0| block | bl.....ock | ...
 *                  ^ from                ^ at         ^ from + bytes of the piece: read again, from the page of `at`
 *
 * Blocks stand close together in a page, and what is left of a page is zero. Anything else that is no good block of the
 * generation ends the scan: a length that cannot be trusted says nothing about where the next block begins, and what
 * the scan does not give is read another way by who needs it. */

#include "tiering/tier_scan.h"

#include "tiering/tier_pmem.h"
#include "tiering/tier_private.h"

#include <string.h>
#include <unistd.h>

enum {
    PIECE_BYTES = 256 << 10, /* large enough that a disk reads at its full speed */
    WORTH_PART = 16,         /* of the records at least this part has to live */
};

struct tier_scan {
    struct tier *tier;
    uint32_t generation;
    uint64_t base; /* of the segment, in the file */
    size_t bytes;  /* of the segment that are used */
    size_t at;     /* the next block */
    char *piece;
    size_t piece_capacity, from, piece_bytes;
};

struct tier_scan *tier_scan_create(struct tier *tier) {
    struct tier_scan *scan = calloc(1, sizeof(*scan));
    if (!scan) return NULL;
    scan->tier = tier;
    scan->piece_capacity = PIECE_BYTES;
    if ((scan->piece = tier_allocate_pages(PIECE_BYTES))) return scan;
    free(scan);
    return NULL;
}

void tier_scan_destroy(struct tier_scan *scan) {
    if (scan) free(scan->piece);
    free(scan);
}

bool tier_scan_begin(struct tier_scan *scan, const struct tier_frontier *frontier, uint32_t segment) {
    struct segment_table *segments = scan->tier->segments;
    if (!tier_frontier_is_whole(frontier, segment, &scan->generation)) return false;
    struct segment_info info = segment_table_info(segments, segment);
    bool filled = info.state == SEGMENT_SEALED || info.state == SEGMENT_CLEANING || info.state == SEGMENT_DAMAGED;
    if (!filled || info.run > 1 || info.live == 0 || info.live < info.records / WORTH_PART) return false;
    if (segment_table_has_unwritten(segments, segment)) return false;
    scan->base = segment_table_offset(segments, segment);
    scan->bytes = tier_pages_up(info.used_bytes);
    scan->at = scan->from = scan->piece_bytes = 0;
    return true;
}

static bool read_bytes(struct tier *tier, uint64_t offset, char *into, size_t bytes) {
    if (tier->file.pmem) return tier_pmem_read(tier->file.pmem, offset, into, bytes);
    for (size_t got = 0; got < bytes;) {
        ssize_t step = pread(tier->file.fd, into + got, bytes - got, (off_t)(offset + got));
        if (step <= 0) return false;
        got += (size_t)step;
    }
    return true;
}

/* Reads on from the page of the next block, `least` bytes of it or more. */
static bool read_piece(struct tier_scan *scan, size_t least) {
    size_t from = scan->at / TIER_PAGE_BYTES * TIER_PAGE_BYTES, left = scan->bytes - from;
    size_t wanted = tier_pages_up(scan->at - from + least);
    size_t capacity = wanted > PIECE_BYTES ? wanted : PIECE_BYTES;
    if (capacity != scan->piece_capacity) {
        free(scan->piece);
        scan->piece_capacity = capacity;
        if (!(scan->piece = tier_allocate_pages(capacity))) {
            scan->piece_capacity = scan->piece_bytes = 0;
            return false;
        }
    }
    scan->from = from;
    scan->piece_bytes = left < capacity ? left : capacity;
    if (read_bytes(scan->tier, scan->base + from, scan->piece, scan->piece_bytes)) return true;
    scan->piece_bytes = 0;
    return false;
}

static const void *open_into(const char *at, const struct tier_block_header *header, void *memory) {
    const void *payload = tier_block_open(at, memory);
    if (payload && payload != memory) payload = memcpy(memory, payload, header->raw_bytes);
    return payload;
}

unsigned tier_list_records(const void *payload, const struct tier_block_header *header, uint64_t block, size_t end,
                           const struct record **records, uint64_t *refs) {
    const char *next = payload;
    size_t left = header->raw_bytes, pages = tier_pages_up(end) / TIER_PAGE_BYTES;
    bool alone = header->flags & TIER_FLAG_ALONE;
    unsigned count = 0;
    for (; count < header->count && count < TIER_BLOCK_RECORDS; count++) {
        const struct record *record = tier_block_record(next, left, 0);
        if (!record) break;
        unsigned which = !alone ? count : pages < TIER_PAGES_UNKNOWN ? (unsigned)pages : TIER_PAGES_UNKNOWN;
        records[count] = record;
        refs[count] = ref_make(alone ? MEDIUM_TIER_ALONE : MEDIUM_TIER_SHARED, tier_address(block, which), false);
        size_t size = record_size(record);
        next += size;
        left -= size;
    }
    return count;
}

enum tier_scan_status tier_scan_next(struct tier_scan *scan, void *memory, size_t room, struct tier_scan_block *block,
                                     size_t *needed) {
    while (scan->at + sizeof(struct tier_block_header) <= scan->bytes) {
        bool here =
            scan->at >= scan->from && scan->at + sizeof(struct tier_block_header) <= scan->from + scan->piece_bytes;
        if (!here && !read_piece(scan, sizeof(struct tier_block_header))) return TIER_SCAN_FAILED;
        const char *at = scan->piece + (scan->at - scan->from);
        size_t available = scan->from + scan->piece_bytes - scan->at, in_page = scan->at % TIER_PAGE_BYTES;
        uint64_t number = (scan->base + scan->at) / TIER_UNIT_BYTES;
        struct tier_block_header header;
        memcpy(&header, at, sizeof(header));
        if (header.count == 0) { /* the end of a page */
            scan->at += TIER_PAGE_BYTES - in_page;
            continue;
        }
        size_t bytes = tier_block_bytes(at, scan->bytes - scan->at);
        if (bytes > available) {
            if (!read_piece(scan, bytes)) return TIER_SCAN_FAILED;
            continue;
        }
        if (!bytes || tier_block_verify(at, available, number, scan->generation) != TIER_BLOCK_GOOD)
            return TIER_SCAN_FAILED;
        if (header.raw_bytes > room) {
            *needed = header.raw_bytes;
            return TIER_SCAN_NO_ROOM;
        }
        const void *payload = open_into(at, &header, memory);
        if (!payload) return TIER_SCAN_FAILED;
        block->slot = header.slot;
        block->database = header.database;
        block->count = tier_list_records(payload, &header, number, in_page + bytes, block->records, block->refs);
        if (block->count != header.count) return TIER_SCAN_FAILED;
        scan->at += (bytes + TIER_UNIT_BYTES - 1) / TIER_UNIT_BYTES * TIER_UNIT_BYTES;
        block->end = scan->at;
        return TIER_SCAN_BLOCK;
    }
    return TIER_SCAN_END;
}
