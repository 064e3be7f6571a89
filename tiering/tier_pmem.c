/* Copies between memory and a pool, and the way of tier_io that does nothing else.
 *
 * A copy costs less than handing it to somebody: an attempt is carried out where it is given, by the owner of the
 * instance, and has ended then. A write is durable when it has ended, so the tier's order of things (blocks first, the
 * manifest last) holds without any sync. The owner's event is signalled as if a device had answered; it reaps what has
 * ended at its usual place. */

#include "tiering/tier_pmem.h"

#include "pmem/media.h"
#include "tiering/tier_io_private.h"
#include "tiering/tier_layout.h"

#include <errno.h>
#include <stdint.h>

uint64_t tier_pmem_end(const struct pmem_pool *pool) {
    return TIER_HEADER_BYTES + pmem_pool_segments(pool) * pmem_pool_identity(pool)->segment_bytes;
}

static bool is_within(const struct pmem_pool *pool, uint64_t offset, size_t bytes) {
    uint64_t end = tier_pmem_end(pool);
    return offset >= TIER_HEADER_BYTES && offset <= end && bytes <= end - offset;
}

/* As much of a stretch as lies in one segment. */
struct piece {
    struct pmem_area area;
    uint64_t at;
    size_t bytes;
};

static struct piece piece_of(const struct pmem_pool *pool, uint64_t offset, size_t bytes) {
    uint64_t segment_bytes = pmem_pool_identity(pool)->segment_bytes, behind = offset - TIER_HEADER_BYTES;
    struct piece piece = {.area = pmem_pool_segment(pool, behind / segment_bytes), .at = behind % segment_bytes};
    piece.bytes = bytes < segment_bytes - piece.at ? bytes : (size_t)(segment_bytes - piece.at);
    return piece;
}

/* Returns false, for the caller to return. */
static bool failed(const struct pmem_pool *pool, uint64_t offset) {
    pmem_pool_quarantine(pool, (offset - TIER_HEADER_BYTES) / pmem_pool_identity(pool)->segment_bytes);
    return false;
}

bool tier_pmem_is_bad(const struct pmem_pool *pool, uint32_t segment, uint32_t count) {
    bool bad = false;
    for (uint32_t i = 0; i < count && !bad; i++) bad = pmem_pool_is_bad(pool, segment + i);
    return bad;
}

bool tier_pmem_read(const struct pmem_pool *pool, uint64_t offset, void *into, size_t bytes) {
    if (!is_within(pool, offset, bytes)) return false;
    for (size_t done = 0; done < bytes;) {
        struct piece piece = piece_of(pool, offset + done, bytes - done);
        if (!pmem_media_read(&piece.area, piece.at, (char *)into + done, piece.bytes))
            return failed(pool, offset + done);
        done += piece.bytes;
    }
    return true;
}

size_t tier_pmem_reach(const struct pmem_pool *pool, uint64_t offset) {
    return is_within(pool, offset, 0) ? piece_of(pool, offset, SIZE_MAX).bytes : 0;
}

const char *tier_pmem_at(const struct pmem_pool *pool, uint64_t offset, size_t bytes) {
    if (!is_within(pool, offset, bytes) || bytes > tier_pmem_reach(pool, offset)) return NULL;
    struct piece piece = piece_of(pool, offset, bytes);
    uint64_t segment = (offset - TIER_HEADER_BYTES) / pmem_pool_identity(pool)->segment_bytes;
    return pmem_pool_is_bad(pool, segment) ? NULL : piece.area.memory + piece.at;
}

bool tier_pmem_look(const struct pmem_pool *pool, uint64_t offset, size_t bytes, void (*look)(void *ctx), void *ctx) {
    struct piece piece = piece_of(pool, offset, bytes);
    return pmem_media_touch(&piece.area, piece.at, bytes, look, ctx) || failed(pool, offset);
}

bool tier_pmem_write(const struct pmem_pool *pool, uint64_t offset, const void *from, size_t bytes) {
    if (!is_within(pool, offset, bytes)) return false;
    for (size_t done = 0; done < bytes;) {
        struct piece piece = piece_of(pool, offset + done, bytes - done);
        if (!pmem_media_write(&piece.area, piece.at, (const char *)from + done, piece.bytes))
            return failed(pool, offset + done);
        done += piece.bytes;
        pmem_area_drain(&piece.area); /* the next may be of another pool */
    }
    return true;
}

/* ---- the way ---- */

static int pmem_open(struct tier_io *io) {
    (void)io;
    return 0;
}

static void pmem_close(struct tier_io *io) {
    (void)io;
}

/* Bytes, or a negative errno. */
static int transfer(const struct tier_io *io, const struct tier_op *op) {
    struct tier_io_attempt next = tier_io_next_attempt(io, op);
    bool done = op->write ? tier_pmem_write(io->pmem, next.offset, next.memory, next.bytes)
                          : tier_pmem_read(io->pmem, next.offset, next.memory, next.bytes);
    return done ? (int)next.bytes : -EIO;
}

static void pmem_give(struct tier_io *io, struct tier_io_queue *attempts) {
    struct tier_op *op;
    while ((op = tier_io_queue_pop(attempts)) != NULL) tier_io_attempt_ended(io, op, transfer(io, op));
}

static bool pmem_has_ended(const struct tier_io *io) {
    (void)io;
    return false;
}

static void pmem_collect(struct tier_io *io) {
    tier_io_clear_event(io);
}

const struct tier_io_way tier_io_way_pmem = {
    .kind = TIER_IO_PMEM,
    .open = pmem_open,
    .close = pmem_close,
    .give = pmem_give,
    .has_ended = pmem_has_ended,
    .collect = pmem_collect,
};
