/* Blocks to which a checkpoint refers: read from the pool, verified, and opened once for all that refer to them. */

#include "persist/checkpoint_check_private.h"
#include "record/reference.h"
#include "tiering/tier_block.h"
#include "tiering/tier_pmem.h"

#include <stdlib.h>

/* ---- reading ---- */

static bool make_room(char **bytes, size_t *room, size_t wanted) {
    if (wanted <= *room) return true;
    char *larger = realloc(*bytes, wanted);
    if (!larger) return false;
    *bytes = larger;
    *room = wanted;
    return true;
}

/* Header first, then as much as it says. */
static bool read_block(struct checking *checking, uint64_t offset, size_t *bytes) {
    struct pmem_pool *pool = checking->tier->pmem;
    struct tier_block_header header;
    uint64_t end = tier_pmem_end(pool);
    if (offset + sizeof(header) > end || !tier_pmem_read(pool, offset, &header, sizeof(header))) return false;
    uint64_t left = end - offset;
    *bytes = tier_block_bytes(&header, left > SIZE_MAX ? SIZE_MAX : (size_t)left);
    return *bytes && make_room(&checking->block, &checking->block_room, *bytes) &&
           tier_pmem_read(pool, offset, checking->block, *bytes);
}

static bool is_good_block(struct checking *checking, uint64_t block, uint32_t segment) {
    const struct check_segment *known = &checking->segments[segment];
    struct tier_block_header header;
    size_t bytes;
    if (!read_block(checking, tier_block_offset(block), &bytes)) return false;
    memcpy(&header, checking->block, sizeof(header));
    uint32_t generation = known->row.run ? known->row.generation : header.generation;
    return tier_block_verify(checking->block, bytes, block, generation) == TIER_BLOCK_GOOD;
}

/* NULL: it does not decompress after all. */
static const void *open_block(struct checking *checking) {
    struct tier_block_header header;
    memcpy(&header, checking->block, sizeof(header));
    checking->raw_bytes = header.raw_bytes;
    bool packed = header.flags & TIER_FLAG_LZ4;
    if (packed && !make_room(&checking->raw, &checking->raw_room, header.raw_bytes ? header.raw_bytes : 1)) return NULL;
    return tier_block_open(checking->block, checking->raw);
}

static void look_at_block(struct checking *checking, uint64_t block, uint32_t segment) {
    if (checking->block_number == block && checking->health->blocks) return;
    checking->block_number = block;
    checking->health->blocks++;
    checking->payload = is_good_block(checking, block, segment) ? open_block(checking) : NULL;
    if (checking->payload) return;
    checking->health->bad_blocks++;
    checking_note(checking, "the block at %llu of segment %u cannot be read or is damaged",
                  (unsigned long long)tier_block_offset(block), segment);
}

void checking_free_block(struct checking *checking) {
    free(checking->block);
    free(checking->raw);
}

/* ---- references ---- */

/* What a row that is lost would have said. */
static void learn(struct checking *checking, uint32_t segment, bool expires) {
    struct checkpoint_segment *row = &checking->segments[segment].row;
    struct tier_block_header header;
    memcpy(&header, checking->block, sizeof(header));
    if (row->run == 0) {
        size_t bytes = sizeof(header) + header.stored_bytes;
        row->segment = segment;
        row->generation = header.generation;
        row->run = (uint32_t)((bytes + checking->segment_bytes - 1) / checking->segment_bytes);
        row->used_bytes = (uint64_t)row->run * checking->segment_bytes;
    }
    if (expires) row->flags |= CHECKPOINT_SEGMENT_EXPIRES;
}

/* UINT64_MAX: there is no such segment. */
static uint64_t segment_of(const struct checking *checking, uint64_t ref) {
    enum medium medium = ref_medium(ref);
    uint64_t offset = tier_block_offset(tier_address_block(ref_address(ref)));
    if ((medium != MEDIUM_TIER_SHARED && medium != MEDIUM_TIER_ALONE) || offset < TIER_HEADER_BYTES) return UINT64_MAX;
    uint64_t segment = (offset - TIER_HEADER_BYTES) / checking->segment_bytes;
    return pmem_pool_has_segment(checking->tier->pmem, segment) ? segment : UINT64_MAX;
}

const struct record *checking_record(struct checking *checking, uint64_t ref) {
    uint64_t segment = segment_of(checking, ref), address = ref_address(ref);
    if (segment == UINT64_MAX) return NULL;
    look_at_block(checking, tier_address_block(address), (uint32_t)segment);
    if (!checking->payload) return NULL;
    unsigned which = ref_medium(ref) == MEDIUM_TIER_ALONE ? 0 : tier_address_which(address);
    const struct record *record = tier_block_record(checking->payload, checking->raw_bytes, which);
    if (record) learn(checking, (uint32_t)segment, (ref & REF_VOLATILE) != 0);
    return record;
}

void checking_refer(struct checking *checking, uint64_t ref) {
    checking->segments[segment_of(checking, ref)].live++;
}

static int by_block(const void *a, const void *b) {
    uint64_t x = ref_address(((const struct check_reference *)a)->ref);
    uint64_t y = ref_address(((const struct check_reference *)b)->ref);
    return (x > y) - (x < y);
}

void checking_sort(struct check_reference *references, size_t count) {
    if (count) qsort(references, count, sizeof(*references), by_block);
}
