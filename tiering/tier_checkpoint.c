/* The tier's part in checkpoints: what was written before a cut, images, and the switch.
 *
 * A cut has a number. Units remember the last cut before they were opened, and workers close older ones at the end of
 * their turn, so "all that was appended before the cut is written" becomes true soon after it by itself.
 *
 * Images go through a port of their own, whose segments are sealed as IMAGE when they are full, or when a checkpoint is
 * given up. Between checkpoints they stay open, so many small checkpoints share a segment: each begins on a page of its
 * own, and nothing that one refers to is written again.
 *
 *   segment   | images of 5 | images of 6 | 7, given up |          sealed; its room is lost
 *   segment   | images of 8 | images of 9 |                        open
 *
 * Nothing that is pending becomes free without a checkpoint, so a tier on which there is no room for one could never be
 * written again. Therefore the other writers leave free segments to images, and where that has not been enough (memory
 * is large beside the tier) the file becomes larger than it was to be. A device and a pool cannot. */

#include "base/log.h"
#include "tiering/tier_pmem.h"
#include "tiering/tier_private.h"

#include <errno.h>
#include <string.h>

enum {
    PENDING_PART = 8, /* of all segments: waiting for a checkpoint, it is high time for one */
    WASTE_PART = 16,  /* of what is appended */
    GROWTH_PART = 32, /* so much more of them at a time, where images find no room, and so many: */
    GROWTH_MIN = 4,
    IMAGES_PART = 4, /* of all segments, for one checkpoint's images */
};

const struct tier_pool *tier_pool_of(const struct tier *tier) {
    return tier->persist ? &tier->pool : NULL;
}

bool tier_is_device(const struct tier *tier) {
    return tier->file.block_device;
}

struct segment_table *tier_segments(struct tier *tier) {
    return tier->segments;
}

uint64_t tier_last_cut(const struct tier *tier) {
    return atomic_load_explicit(&tier->cut, memory_order_relaxed);
}

void tier_cut(struct tier *tier, uint64_t number) {
    segment_table_cut(tier->segments, number);
    atomic_store_explicit(&tier->cut, number, memory_order_relaxed);
}

bool tier_is_settled(struct tier *tier) {
    uint64_t cut = atomic_load_explicit(&tier->cut, memory_order_relaxed);
    bool settled = true;
    pthread_mutex_lock(&tier->unwritten_lock);
    for (const struct tier_unit *unit = tier->unwritten; unit && settled; unit = unit->next_listed)
        settled = unit->cut >= cut || unit->port->images;
    pthread_mutex_unlock(&tier->unwritten_lock);
    return settled;
}

struct tier_port *tier_image_port(struct tier *tier) {
    return tier->persist ? &tier->ports[tier->port_count - 1] : NULL;
}

bool tier_images_end(struct tier *tier) {
    struct tier_port *port = tier_image_port(tier);
    tier_port_flush(port);
    while (tier_io_in_flight(port->io)) tier_port_wait(port);
    tier_io_reap(port->io);
    return port->units == 0;
}

/* Blocks leave the ends of pages empty. */
static uint64_t segments_for(const struct tier *tier, uint64_t bytes) {
    return bytes ? (bytes + bytes / WASTE_PART) / tier->segment_bytes + 1 : 0;
}

bool tier_has_room_for_images(struct tier *tier, size_t bytes) {
    uint64_t begun = tier_writer_count(tier); /* what is not full when it is sealed */
    return segment_table_free_count(tier->segments) >= 2 * (segments_for(tier, bytes) + begun);
}

/* Each writer of images has a segment that is not full, in which the next checkpoint goes on. */
void tier_keep_for_images(struct tier *tier, size_t now, size_t later) {
    uint32_t begun = tier_writer_count(tier), most = tier->usable_segments / IMAGES_PART;
    uint64_t images = segments_for(tier, later), images_now = segments_for(tier, now) + begun;
    uint64_t next = images + begun, two = 2 * images + begun;
    if (next > most) next = two = most > tier->cleaning_segments ? most - tier->cleaning_segments : 0;
    segment_table_keep_for_images(tier->segments, images_now < UINT32_MAX ? (uint32_t)images_now : UINT32_MAX,
                                  (uint32_t)next, (uint32_t)two);
}

bool tier_grow_for_images(struct tier *tier, uint32_t count) {
    uint32_t from = tier->usable_segments + tier->grown_segments,
             step = tier->usable_segments / GROWTH_PART + GROWTH_MIN;
    if (tier->file.pmem || from >= tier->segment_count || count > tier->segment_count - from) return false;
    if (count < step) count = step < tier->segment_count - from ? step : tier->segment_count - from;
    uint64_t bytes = TIER_HEADER_BYTES + (from + count) * (uint64_t)tier->segment_bytes;
    tier->pool.header.segments = from + count;
    /* The header first: a checkpoint may refer to them from the next line on. */
    if (!tier_file_extend(&tier->file, bytes) || !tier_pool_update(tier->file.fd, &tier->pool)) {
        log_warning("tier: there is no room for the images of a checkpoint, and its file cannot become larger: %s",
                    strerror(errno));
        tier->pool.header.segments = from;
        return false;
    }
    log_warning("tier: there is no room for the images of a checkpoint; for these its file may become %llu bytes large",
                (unsigned long long)bytes);
    segment_table_grow_for_images(tier->segments, from, count);
    tier->grown_segments += count;
    return true;
}

static bool is_being_filled(const struct tier *tier, uint32_t segment) {
    const struct tier_port *port = &tier->ports[tier->port_count - 1];
    for (unsigned i = 0; i < tier_writer_count(tier); i++)
        if (port->writers[i].segment == segment) return true;
    return false;
}

bool tier_images_are_worth_keeping(struct tier *tier, uint32_t segment, uint32_t generation, uint32_t live) {
    if (segment >= tier->segment_count) return false;
    struct segment_info info = segment_table_info(tier->segments, segment);
    bool filling = info.state == SEGMENT_OPEN && is_being_filled(tier, segment);
    if ((info.state != SEGMENT_IMAGE && !filling) || info.generation != generation) return false;
    if (live == 0 || live > info.records) return false;
    if (tier->file.pmem && tier_pmem_is_bad(tier->file.pmem, segment, info.run)) return false;
    if (filling) return (uint64_t)live * 2 >= info.records;
    return (uint64_t)info.used_bytes * live / info.records * 2 >= (uint64_t)info.run * tier->segment_bytes;
}

/* After a failed sync the page cache may have dropped what it could not write, and the next sync says nothing of it. So
 * none counts any more. What goes to the device directly is written or known not to be. */
bool tier_switch(struct tier *tier, const struct tier_pool_manifest *manifest, const uint32_t *referred) {
    if (tier->sync_failed) {
        errno = EIO;
        return false;
    }
    if (!tier_pool_switch(tier->file.fd, &tier->pool, manifest)) {
        tier->sync_failed = tier->file.cached;
        return false;
    }
    segment_table_checkpointed(tier->segments, manifest->number, referred);
    atomic_store_explicit(&tier->awaits_checkpoint, false, memory_order_relaxed);
    return true;
}

bool tier_forget(struct tier *tier) {
    return tier_pool_forget(tier->file.fd, &tier->pool);
}

void tier_abandon(struct tier *tier, uint64_t number) {
    struct tier_port *port = tier_image_port(tier);
    tier_writer_seal_all(port);
    tier_io_drain(port->io);
    tier_writer_forget_failed(port);
    segment_table_abandoned(tier->segments, number);
}

bool tier_wants_checkpoint(const struct tier *tier) {
    uint32_t pending = segment_table_pending_count(tier->segments), free = segment_table_free_count(tier->segments);
    bool awaited = atomic_load_explicit(&tier->awaits_checkpoint, memory_order_relaxed);
    return tier->persist && pending > 0 &&
           (awaited || pending >= tier->usable_segments / PENDING_PART || free < pending ||
            free < segment_table_kept_for_images(tier->segments));
}

void tier_note_checkpoints(struct tier *tier, bool succeed) {
    atomic_store_explicit(&tier->checkpoints_fail, !succeed, memory_order_relaxed);
}
