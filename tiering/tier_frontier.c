/* A segment's blocks are written from its beginning to its end, and a segment that was freed has another generation
 * when it is used again. So a reference is older than the moment if its segment has the generation that it had then and
 * its block begins below the place to which the segment was filled: everything in a segment that was full, what the
 * port's writer or its hauls had filled in an open one, nothing in a free one. */

#include "tiering/tier_frontier.h"

#include "tiering/tier_private.h"

struct segment_then {
    uint32_t generation;
    uint32_t filled_units; /* of TIER_UNIT_BYTES, rounded up; ALL_UNITS */
    _Atomic uint32_t passed_units;
};
#define ALL_UNITS UINT32_MAX

struct tier_frontier {
    struct tier *tier;
    uint32_t segments; /* behind these all were free */
    struct segment_then then[];
};

struct tier_frontier *tier_frontier_create(struct tier *tier) {
    struct tier_frontier *frontier = calloc(1, sizeof(*frontier) + tier->segment_count * sizeof(struct segment_then));
    if (frontier) frontier->tier = tier;
    return frontier;
}

void tier_frontier_destroy(struct tier_frontier *frontier) {
    free(frontier);
}

/* Open units end where their `used` does; what is behind the last closed one of a segment begins a new page. */
static uint32_t filled_units(const struct tier *tier, const struct tier_writer *writer) {
    size_t bytes = writer->segment_used;
    if (writer->unit)
        bytes =
            (size_t)(writer->unit->offset - segment_table_offset(tier->segments, writer->segment)) + writer->unit->used;
    return (uint32_t)((bytes + TIER_UNIT_BYTES - 1) / TIER_UNIT_BYTES);
}

static void note_open(struct tier_frontier *frontier, const struct tier_writer *writer) {
    if (writer->segment != SEGMENT_NONE && writer->segment < frontier->segments)
        frontier->then[writer->segment].filled_units = filled_units(frontier->tier, writer);
}

/* A haul that is under way stands behind what its segment was filled with, or in segments of its own. */
static void note_open_for_haul(struct tier_frontier *frontier, const struct tier_haul *haul) {
    for (unsigned i = 0; i < TIER_STREAMS; i++) note_open(frontier, &haul->writers[i]);
    if (haul->state != TIER_HAUL_IDLE && haul->is_run && haul->segment < frontier->segments)
        frontier->then[haul->segment].filled_units = 0;
}

void tier_frontier_take(struct tier_frontier *frontier) {
    struct tier *tier = frontier->tier;
    frontier->segments = segment_table_usage(tier->segments).highest;
    if (frontier->segments > tier->segment_count) frontier->segments = tier->segment_count;
    for (uint32_t i = 0; i < frontier->segments; i++) {
        struct segment_info info = segment_table_info(tier->segments, i);
        uint32_t filled = info.state == SEGMENT_FREE ? 0 : ALL_UNITS;
        frontier->then[i] = (struct segment_then){segment_table_generation(tier->segments, i), filled, 0};
    }
    for (unsigned port = 0; port < tier->port_count; port++) {
        for (unsigned i = 0; i < tier_writer_count(tier); i++) note_open(frontier, &tier->ports[port].writers[i]);
        note_open_for_haul(frontier, &tier->ports[port].haul);
    }
}

bool tier_frontier_has(const struct tier_frontier *frontier, uint64_t ref) {
    const struct segment_table *segments = frontier->tier->segments;
    uint64_t offset = tier_block_offset(tier_ref_block(ref));
    uint32_t segment = segment_table_of(segments, offset);
    if (segment >= frontier->segments) return false;
    const struct segment_then *then = &frontier->then[segment];
    if (segment_table_generation(segments, segment) != then->generation) return false;
    uint64_t unit = (offset - segment_table_offset(segments, segment)) / TIER_UNIT_BYTES;
    return unit < then->filled_units && unit >= atomic_load_explicit(&then->passed_units, memory_order_relaxed);
}

uint32_t tier_frontier_segments(const struct tier_frontier *frontier) {
    return frontier->segments;
}

bool tier_frontier_is_whole(const struct tier_frontier *frontier, uint32_t segment, uint32_t *generation) {
    const struct segment_then *then = &frontier->then[segment];
    *generation = then->generation;
    return then->filled_units == ALL_UNITS &&
           segment_table_generation(frontier->tier->segments, segment) == then->generation;
}

void tier_frontier_pass(struct tier_frontier *frontier, uint32_t segment, size_t bytes) {
    atomic_store_explicit(&frontier->then[segment].passed_units, (uint32_t)(bytes / TIER_UNIT_BYTES),
                          memory_order_relaxed);
}
