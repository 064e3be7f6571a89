/* Hauls: records that are too large for a unit.
 *
 *   record   | header |  ......  packed ......  | being packed |                 |
 *   block    | piece 0: kept to the end, as the block's header  | written | being written | piece being filled |
 *            | comes first and is known last                    |
 *
 * A block begins a page. Its pieces are as long as units, go to the file as soon as they are full, and then hold the
 * next part; only the first waits until the last. Nobody reads what has no reference yet, so nothing of this is on the
 * list of what is not written, and a haul that is given up leaves nothing behind: the next one begins at the same place
 * as soon as its writes have ended.
 *
 * Hauled records stand in segments of their own, so that their tails can be given back: how well a record compresses is
 * known when all of it is packed. One that may be larger than a segment has a run of them, of which it keeps what it
 * has filled. */

#include "tiering/tier_haul.h"

#include "base/clock.h"
#include "base/log.h"
#include "tiering/tier_private.h"

#include <assert.h>
#include <string.h>

bool tier_is_haul(const struct tier_port *port, size_t record_bytes) {
    return tier_block_pieces_bound(record_bytes, false) > port->tier->unit_bytes;
}

bool tier_haul_is_idle(const struct tier_port *port) {
    return port->haul.state == TIER_HAUL_IDLE;
}

unsigned tier_hauls(const struct tier *tier) {
    return atomic_load_explicit((atomic_uint *)(uintptr_t)&tier->hauls, memory_order_relaxed);
}

struct tier_haul_owner *tier_haul_owner(struct tier_port *port) {
    return &port->haul.owner;
}

void tier_haul_tell(struct tier_port *port, const struct record *record) {
    atomic_store_explicit(&port->hauled, (uintptr_t)record, memory_order_relaxed);
}

bool tier_is_hauled(struct tier *tier, const struct record *record) {
    for (unsigned i = 0; i < tier->port_count; i++)
        if (atomic_load_explicit(&tier->ports[i].hauled, memory_order_relaxed) == (uintptr_t)record) return true;
    return false;
}

/* ---- memory ---- */

static void free_pieces(struct tier_port *port) {
    struct tier_haul *haul = &port->haul;
    for (unsigned i = 0; i < TIER_HAUL_PIECES; i++) {
        if (!haul->pieces[i].memory) continue;
        stat_add(&port->counters.spare_bytes, -(uint64_t)port->tier->unit_bytes);
        tier_give_unit_memory(port, haul->pieces[i].memory);
        haul->pieces[i].memory = NULL;
    }
    free(haul->chunk);
    haul->chunk = NULL;
    tier_block_pieces_free(&haul->block);
}

static bool take_pieces(struct tier_port *port) {
    struct tier_haul *haul = &port->haul;
    for (unsigned i = 0; i < TIER_HAUL_PIECES; i++) {
        if (!(haul->pieces[i].memory = tier_take_unit_memory(port, port->tier->unit_bytes))) return false;
        stat_add(&port->counters.spare_bytes, port->tier->unit_bytes);
        haul->pieces[i].haul = haul;
        haul->pieces[i].used = 0;
    }
    haul->chunk = malloc(TIER_CHUNK_BYTES + TIER_CHUNK_BOUND);
    return haul->chunk != NULL;
}

static void become_idle(struct tier_port *port) {
    free_pieces(port);
    port->haul.state = TIER_HAUL_IDLE;
    atomic_fetch_sub_explicit(&port->tier->hauls, 1, memory_order_relaxed);
}

/* ---- writing ---- */

static void note_failure(struct tier_port *port, const struct tier_op *op) {
    struct tier_haul *haul = &port->haul;
    if (!haul->error)
        log_warning("tier: cannot write at %llu: %s; a large record stays in memory", (unsigned long long)op->offset,
                    strerror(op->error));
    haul->error = op->error;
    haul->retry_ns = clock_monotonic_ns() + TIER_RETRY_NS;
    stat_add(&port->counters.failed_writes, 1);
}

static void piece_done(struct tier_op *op) {
    struct tier_haul_piece *piece = (struct tier_haul_piece *)op;
    struct tier_haul *haul = piece->haul;
    struct tier_port *port = haul->port;
    stat_add(&port->counters.in_flight, (uint64_t)-1);
    piece->used = 0;
    haul->in_flight--;
    if (op->error) {
        note_failure(port, op);
    } else {
        stat_add(&port->counters.writes, 1);
        stat_add(&port->counters.written_bytes, op->bytes);
    }
    if (haul->state == TIER_HAUL_GIVEN_UP && haul->in_flight == 0) tier_haul_end(port);
}
_Static_assert(offsetof(struct tier_haul_piece, op) == 0, "piece_done() casts");

/* The rest of its last page is zero, so that nothing old goes to the disk. */
static void write_piece(struct tier_haul *haul, struct tier_haul_piece *piece) {
    struct tier_port *port = haul->port;
    size_t bytes = tier_pages_up(piece->used);
    memset(piece->memory + piece->used, 0, bytes - piece->used);
    piece->op.memory = piece->memory;
    piece->op.offset = piece->offset;
    piece->op.bytes = (uint32_t)bytes;
    piece->op.write = true;
    piece->op.error = 0;
    piece->op.done = piece_done;
    haul->in_flight++;
    stat_add(&port->counters.in_flight, 1);
    tier_io_start(port->io, &piece->op);
}

/* ---- the place ---- */

/* Its own run, or the open segment of the stream. */
static enum tier_append_status take_place(struct tier_port *port, size_t bytes) {
    struct tier_haul *haul = &port->haul;
    struct tier *tier = port->tier;
    struct tier_writer *writer = &haul->writers[haul->stream];
    haul->is_run = bytes > tier->segment_bytes;
    if (haul->is_run) {
        struct tier_writer run = {.segment = SEGMENT_NONE};
        enum tier_append_status status = tier_open_segment(port, &run, haul->stream, bytes);
        haul->segment = run.segment;
        haul->offset = 0;
        return status;
    }
    if (writer->segment != SEGMENT_NONE &&
        (writer->segment_room - writer->segment_used < bytes || haul->home != port->home)) {
        segment_table_seal(tier->segments, writer->segment, writer->segment_used);
        writer->segment = SEGMENT_NONE;
    }
    if (writer->segment == SEGMENT_NONE) {
        enum tier_append_status status = tier_open_segment(port, writer, haul->stream, bytes);
        if (status != TIER_APPENDED) return status;
        haul->home = port->home;
    }
    haul->segment = writer->segment;
    haul->offset = writer->segment_used;
    return TIER_APPENDED;
}

/* ---- packing ---- */

/* A piece to fill; NULL: all are being written. */
static struct tier_haul_piece *piece_at_hand(struct tier_haul *haul) {
    size_t capacity = haul->port->tier->unit_bytes;
    struct tier_haul_piece *piece = haul->filling;
    if (piece && piece->used < capacity) return piece;
    if (piece && piece != &haul->pieces[0]) write_piece(haul, piece);
    haul->filling = NULL;
    for (unsigned i = 1; i < TIER_HAUL_PIECES && !haul->filling; i++)
        if (haul->pieces[i].used == 0) haul->filling = &haul->pieces[i];
    if (haul->filling) haul->filling->offset = haul->pieces[0].offset + haul->laid;
    return haul->filling;
}

/* Lays out what is packed, as far as there are pieces for it; false: not all of it. */
static bool lay_out(struct tier_haul *haul) {
    while (haul->packed_bytes > 0) {
        struct tier_haul_piece *piece = piece_at_hand(haul);
        if (!piece) return false;
        size_t room = haul->port->tier->unit_bytes - piece->used;
        size_t step = haul->packed_bytes < room ? haul->packed_bytes : room;
        memcpy(piece->memory + piece->used, haul->packed, step);
        piece->used += step;
        haul->laid += step;
        haul->packed += step;
        haul->packed_bytes -= step;
    }
    return true;
}

static size_t next_chunk(const struct tier_haul *haul) {
    size_t left = haul->cargo.bytes - haul->at;
    return left < TIER_CHUNK_BYTES ? left : TIER_CHUNK_BYTES;
}

/* The header is as it was when the haul began; the rest is read from where it lies. */
static const char *first_chunk(struct tier_haul *haul, const void *header, size_t header_bytes) {
    size_t bytes = next_chunk(haul);
    assert(header_bytes <= bytes);
    memcpy(haul->chunk, header, header_bytes);
    memcpy(haul->chunk + header_bytes, (const char *)haul->cargo.record + header_bytes, bytes - header_bytes);
    return haul->chunk;
}

static void pack(struct tier_haul *haul, const char *bytes) {
    size_t length = next_chunk(haul);
    haul->packed = bytes;
    haul->packed_bytes = length;
    if (haul->chunks) {
        haul->packed = haul->chunk + TIER_CHUNK_BYTES;
        haul->packed_bytes = tier_block_pack_chunk(haul->chunk + TIER_CHUNK_BYTES, bytes, length);
    }
    tier_block_pieces_add(&haul->block, haul->packed, haul->packed_bytes);
    haul->at += length;
}

/* All is laid out: the last piece goes, and the first, which has the block's header. */
static void close_block(struct tier_haul *haul) {
    struct tier_haul_piece *first = &haul->pieces[0], *last = haul->filling;
    tier_block_pieces_end(&haul->block, first->memory);
    if (last && last != first && last->used > 0) write_piece(haul, last);
    write_piece(haul, first);
    haul->filling = NULL;
    haul->state = TIER_HAUL_CLOSED;
}

/* ---- the way ---- */

static bool begin_block(struct tier_haul *haul, const struct tier_haul_cargo *cargo) {
    struct tier_port *port = haul->port;
    struct segment_table *segments = port->tier->segments;
    uint64_t offset = segment_table_offset(segments, haul->segment) + haul->offset;
    struct tier_block_place place = {.block = offset / TIER_UNIT_BYTES,
                                     .generation = segment_table_generation(segments, haul->segment),
                                     .slot = cargo->slot,
                                     .database = cargo->database};
    if (!take_pieces(port)) return false;
    const char *first = first_chunk(haul, cargo->header, cargo->header_bytes);
    size_t length = next_chunk(haul);
    haul->chunks =
        port->tier->compress && tier_block_pack_chunk(haul->chunk + TIER_CHUNK_BYTES, first, length) < length;
    if (!tier_block_pieces_begin(&haul->block, &place, cargo->bytes, haul->chunks)) return false;
    haul->laid = haul->pieces[0].used = sizeof(struct tier_block_header);
    haul->pieces[0].offset = offset;
    haul->filling = &haul->pieces[0];
    pack(haul, first);
    return true;
}

enum tier_append_status tier_haul_begin(struct tier_port *port, const struct tier_haul_cargo *cargo) {
    struct tier_haul *haul = &port->haul;
    struct tier *tier = port->tier;
    size_t bound = tier_pages_up(tier_block_pieces_bound(cargo->bytes, tier->compress));
    if (haul->state == TIER_HAUL_GIVEN_UP) return TIER_BUSY;
    assert(haul->state == TIER_HAUL_IDLE);
    if (tier_is_failing(tier) || clock_monotonic_ns() < haul->retry_ns) return TIER_FULL;
    if (tier->shard_homes) port->home = tier_home_of_slot(tier, cargo->slot);
    haul->port = port;
    haul->stream = cargo->expires ? TIER_STREAM_VOLATILE : TIER_STREAM_LASTING;
    enum tier_append_status status = take_place(port, bound);
    if (status != TIER_APPENDED) return status;
    haul->cargo = *cargo;
    haul->cargo.header = NULL; /* the caller's */
    haul->at = haul->error = 0;
    haul->in_flight = 0;
    atomic_fetch_add_explicit(&tier->hauls, 1, memory_order_relaxed);
    haul->state = TIER_HAUL_PACKING;
    if (begin_block(haul, cargo)) return TIER_APPENDED;
    tier_haul_end(port);
    return TIER_BUSY;
}

enum tier_haul_status tier_haul_step(struct tier_port *port, uint64_t budget_ns) {
    struct tier_haul *haul = &port->haul;
    uint64_t start = clock_ticks();
    bool packed = false; /* something, however little time there is */
    while (haul->state == TIER_HAUL_PACKING && !haul->error) {
        if (!lay_out(haul)) return TIER_HAUL_WAITS;
        if (haul->at == haul->cargo.bytes) {
            close_block(haul);
            break;
        }
        if (packed && clock_elapsed_ns(start) >= budget_ns) return TIER_HAUL_BUSY;
        pack(haul, (const char *)haul->cargo.record + haul->at);
        packed = true;
    }
    assert(haul->state == TIER_HAUL_PACKING || haul->state == TIER_HAUL_CLOSED);
    if (haul->error) return TIER_HAUL_FAILED;
    return haul->in_flight ? TIER_HAUL_WAITS : TIER_HAUL_WRITTEN;
}

uint64_t tier_haul_commit(struct tier_port *port) {
    struct tier_haul *haul = &port->haul;
    struct tier *tier = port->tier;
    struct tier_writer *writer = &haul->writers[haul->stream];
    uint64_t offset = haul->pieces[0].offset;
    size_t bytes = tier_pages_up(haul->laid), pages = bytes / TIER_PAGE_BYTES;
    assert(haul->state == TIER_HAUL_CLOSED && haul->in_flight == 0 && !haul->error);
    if (haul->cargo.expires) segment_table_note_expiry(tier->segments, offset, haul->cargo.expiry_ms);
    segment_table_add(tier->segments, haul->segment, 1);
    stat_add(&port->counters.appended_records, 1);
    stat_add(&port->counters.appended_bytes, haul->cargo.bytes);
    if (haul->is_run) {
        uint32_t count = (uint32_t)((bytes + tier->segment_bytes - 1) / tier->segment_bytes);
        segment_table_shorten(tier->segments, haul->segment, count);
        segment_table_seal(tier->segments, haul->segment, bytes);
    } else {
        writer->segment_used += bytes;
    }
    uint64_t which = pages < TIER_PAGES_UNKNOWN ? pages : TIER_PAGES_UNKNOWN;
    uint64_t ref =
        ref_make(MEDIUM_TIER_ALONE, tier_address(offset / TIER_UNIT_BYTES, (unsigned)which), haul->cargo.expires);
    become_idle(port);
    return ref;
}

void tier_haul_end(struct tier_port *port) {
    struct tier_haul *haul = &port->haul;
    if (haul->is_run) segment_table_give_back(port->tier->segments, haul->segment, SEGMENT_FOR_NEW);
    become_idle(port);
}

void tier_haul_give_up(struct tier_port *port) {
    struct tier_haul *haul = &port->haul;
    assert(haul->state == TIER_HAUL_PACKING || haul->state == TIER_HAUL_CLOSED);
    haul->state = TIER_HAUL_GIVEN_UP;
    if (haul->in_flight == 0) tier_haul_end(port);
}

void tier_haul_free(struct tier_port *port) {
    if (port->haul.state != TIER_HAUL_IDLE) free_pieces(port);
}
