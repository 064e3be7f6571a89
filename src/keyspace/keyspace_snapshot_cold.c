/* Cold records, taken segment by segment before the indexes are walked, so that the disk reads large pieces in a row.
 *
 * A lane has a segment for itself. It reads blocks of it into memory of its own, without a lock, until there are enough
 * for a slice; then each block is taken under the lock of its shard: what some index of the cut still refers to, by
 * this very reference, is given, and the block is passed. Who changes a cold record looks under the same lock whether
 * its block was passed (tier_frontier_has()), and keeps the image if it was not.
 *
 *   segment   | passed | passed | read, not taken | read, not taken | not read |
 *                                ^ tier_frontier_pass()
 *
 * Whatever a scan leaves out stays old, and is read block by block when the index is walked: segments that were still
 * open at the cut, those in which next to nothing lives, what is behind a damaged block, records larger than a segment.
 * So a scan may give up a segment at any point, and nothing depends on its reading all. Pages of collections are passed
 * over: the frozen collection they belong to asks for them.
 *
 * Indexes are walked only when all segments are done with: walking earlier would be right as well, but would read
 * blocks that a scan is about to come to. */

#include "base/clock.h"
#include "keyspace/keyspace_snapshot_private.h"
#include "tiering/tier_scan.h"

#include <stdlib.h>
#include <string.h>

enum {
    BLOCKS_MAX = 256,      /* of a slice */
    SEGMENTS_PASSED = 512, /* that need not be read, in a slice */
    ROOM_FOR_BLOCK = TIER_RAW_BYTES_MAX,
};

struct cold_block {
    uint16_t slot, database;
    uint32_t first, count; /* in `records` */
    size_t end;            /* of the segment, up to here */
    void *owned;           /* the record, where it is too large for the lane's buffer */
};

struct snapshot_scan {
    struct tier_scan *scan;
    uint32_t segment; /* SEGMENT_NONE: none */
    bool ended;       /* nothing more is read of it */
    unsigned block_count, next_block, record_count;
    struct cold_block blocks[BLOCKS_MAX];
    const struct record *records[SNAPSHOT_TAKEN_MAX];
    uint64_t refs[SNAPSHOT_TAKEN_MAX];
    struct tier_scan_block block; /* the one that was read last */
};

struct snapshot_scan *snapshot_scan_create(struct tier *tier) {
    struct snapshot_scan *scan = calloc(1, sizeof(*scan));
    if (!scan) return NULL;
    scan->segment = SEGMENT_NONE;
    if ((scan->scan = tier_scan_create(tier))) return scan;
    free(scan);
    return NULL;
}

void snapshot_scan_destroy(struct snapshot_scan *scan) {
    if (!scan) return;
    for (unsigned i = scan->next_block; i < scan->block_count; i++) free(scan->blocks[i].owned);
    tier_scan_destroy(scan->scan);
    free(scan);
}

/* ---- reading ---- */

static void add_block(struct snapshot_scan *scan, void *owned) {
    const struct tier_scan_block *read = &scan->block;
    scan->blocks[scan->block_count++] = (struct cold_block){.slot = read->slot,
                                                            .database = read->database,
                                                            .first = scan->record_count,
                                                            .count = read->count,
                                                            .end = read->end,
                                                            .owned = owned};
    memcpy(scan->records + scan->record_count, read->records, read->count * sizeof(*read->records));
    memcpy(scan->refs + scan->record_count, read->refs, read->count * sizeof(*read->refs));
    scan->record_count += read->count;
}

/* One that needs memory of its own. False: no memory, or no good block. */
static bool read_large(struct snapshot_scan *scan, size_t bytes) {
    void *memory = malloc(bytes);
    if (memory && tier_scan_next(scan->scan, memory, bytes, &scan->block, &bytes) == TIER_SCAN_BLOCK) {
        add_block(scan, memory);
        return true;
    }
    free(memory);
    return false;
}

/* Blocks into the lane's buffer, while there is room for any. What has memory of its own ends it. */
static void read_blocks(struct snapshot_scan *scan, char *buffer) {
    size_t used = 0, needed;
    scan->block_count = scan->next_block = scan->record_count = 0;
    while (scan->block_count < BLOCKS_MAX && scan->record_count + TIER_BLOCK_RECORDS <= SNAPSHOT_TAKEN_MAX &&
           LANE_BUFFER - used >= ROOM_FOR_BLOCK) {
        switch (tier_scan_next(scan->scan, buffer + used, LANE_BUFFER - used, &scan->block, &needed)) {
        case TIER_SCAN_BLOCK: {
            const struct record *last = scan->block.records[scan->block.count - 1];
            used = ((size_t)((const char *)last - buffer) + record_size(last) + 7) & ~(size_t)7;
            add_block(scan, NULL);
            break;
        }
        case TIER_SCAN_NO_ROOM: scan->ended = !read_large(scan, needed); return;
        default: scan->ended = true; return;
        }
    }
}

/* ---- taking ---- */

/* The index of the cut that refers to the record there; NULL: none does any more. Where it was when it was written
 * comes first. */
static struct index *find_index(const struct keyspace *keyspace, struct shard *shard, uint32_t database, uint64_t hash,
                                uint64_t ref) {
    for (uint32_t i = 0; i < keyspace->database_count + shard->condemned_count; i++) {
        uint32_t number = i == 0 ? database : i <= database ? i - 1 : i;
        struct index *index = i >= keyspace->database_count       ? shard->condemned[i - keyspace->database_count]
                              : number < keyspace->database_count ? shard->databases[number]
                                                                  : NULL;
        if (index && index->walk.unfinished && index_find_ref(index, hash, ref).bucket) return index;
    }
    return NULL;
}

static void take_record(struct walker *walker, struct cold_block *block, uint32_t number) {
    struct snapshot_scan *scan = walker->lane->scan;
    const struct record *record = scan->records[number];
    if (record_type(record) == RECORD_PAGE) return;
    uint64_t hash = key_hash(record_key(record), walker->snapshot->keyspace->seed);
    uint64_t ref = scan->refs[number] | (record_has_expiry(record) ? REF_VOLATILE : 0);
    struct index *index = find_index(walker->snapshot->keyspace, walker->shard, block->database, hash, ref);
    if (!index || !snapshot_is_old_cold(walker->shard, index, ref, record)) return;
    walker->slice->taken[walker->slice->count++] = (struct snapshot_taken){
        .database = index->walk.database, .image = record, .owned = block->owned, .pinned_in = UINT32_MAX};
    block->owned = NULL;
}

static void take_block(struct walker *walker, struct cold_block *block) {
    struct keyspace_snapshot *snapshot = walker->snapshot;
    uint32_t number = block->slot >> snapshot->keyspace->shard_shift;
    if (number < snapshot->keyspace->shard_count) {
        walker->shard = &snapshot->keyspace->shards[number];
        keyspace_lock(snapshot->keyspace, number);
        if (!snapshot_is_given_up(snapshot))
            for (uint32_t i = 0; i < block->count; i++) take_record(walker, block, block->first + i);
        tier_frontier_pass(snapshot->frontier, walker->lane->scan->segment, block->end);
        keyspace_unlock(snapshot->keyspace, number);
    }
    free(block->owned);
}

/* A part of what was read; true: all of it. */
static bool take_blocks(struct walker *walker, uint64_t budget_ns) {
    struct snapshot_scan *scan = walker->lane->scan;
    uint64_t started = clock_ticks();
    while (scan->next_block < scan->block_count) {
        take_block(walker, &scan->blocks[scan->next_block++]);
        if (clock_elapsed_ns(started) >= budget_ns) break;
    }
    return scan->next_block == scan->block_count;
}

/* ---- segments ---- */

/* False: there is none left to begin. */
static bool begin_segment(struct keyspace_snapshot *snapshot, struct snapshot_scan *scan) {
    uint32_t segments = tier_frontier_segments(snapshot->frontier);
    for (unsigned i = 0; i < SEGMENTS_PASSED && atomic_load(&snapshot->next_segment) < segments; i++) {
        uint32_t segment = atomic_fetch_add(&snapshot->next_segment, 1);
        if (segment >= segments) return false;
        if (tier_scan_begin(scan->scan, snapshot->frontier, segment)) {
            scan->segment = segment;
            scan->ended = false;
            return true;
        }
        atomic_fetch_add(&snapshot->segments_scanned, 1);
    }
    return atomic_load(&snapshot->next_segment) < segments;
}

enum snapshot_scanned snapshot_scan_slice(struct walker *walker) {
    struct keyspace_snapshot *snapshot = walker->snapshot;
    struct snapshot_scan *scan = walker->lane->scan;
    bool taken = scan->next_block == scan->block_count;
    if (taken && snapshot_is_given_up(snapshot)) return SNAPSHOT_SCANNED_ALL;
    if (taken && scan->segment == SEGMENT_NONE && !begin_segment(snapshot, scan)) {
        bool all = atomic_load(&snapshot->segments_scanned) >= tier_frontier_segments(snapshot->frontier);
        return all ? SNAPSHOT_SCANNED_ALL : SNAPSHOT_SCAN_WAITS;
    }
    if (scan->segment == SEGMENT_NONE) return SNAPSHOT_SCANNED;
    if (taken) read_blocks(scan, walker->lane->buffer);
    walker->part = take_blocks;
    if (!snapshot_have_done(walker, &taken)) taken = take_blocks(walker, SNAPSHOT_SLICE_NS);
    if (taken && scan->ended) {
        scan->segment = SEGMENT_NONE;
        atomic_fetch_add(&snapshot->segments_scanned, 1);
    }
    return SNAPSHOT_SCANNED;
}
