/* The writing side of a port: for each stream an open segment, filled unit by unit.
 *
 *   segment   | unit, written | unit, being written | unit, being filled | not begun |
 *                                                     ^ page | block | block |  |
 *
 * A unit is memory in which blocks are laid out as they will stand in the file. It is on the tier's list of what is not
 * written yet from the moment it is opened until its write has ended, so that its records can be read all the time.
 *
 * Filling a page: as many records as fit make a block up to the page's end. When not even one fits in what is left, and
 * that is too much to waste, the record stands alone in a block that runs on into the next pages. A record larger than
 * a segment has a run of segments for itself: what stood behind it would be in a segment without a row of its own.
 *
 * A write that fails changes nothing for readers. The unit waits, the tier takes nothing new meanwhile, and the write
 * is tried again twice a second. */

#include "base/clock.h"
#include "base/log.h"
#include "tiering/tier_pmem.h"
#include "tiering/tier_private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
    WASTE_SKIPPED = TIER_PAGE_BYTES / 16, /* the end of a page that is not worth a block */
    WASTE_ALONE = TIER_PAGE_BYTES / 8,    /* from here on a record that does not fit is laid across pages */
    OPEN_NS_MAX = 1000000000,             /* a unit is written after this long, however full */
};

/* ---- units ---- */

static void free_spares(struct tier_port *port) {
    while (port->spare_count) free(port->spare_memory[--port->spare_count]);
    stat_set(&port->counters.spare_bytes, 0);
}

/* Memory of this size would go back to the kernel and be cleared again for the next unit. */
void tier_give_unit_memory(struct tier_port *port, char *memory) {
    if (port->spare_count >= port->tier->units_max) {
        free(memory);
        return;
    }
    port->spare_memory[port->spare_count++] = memory;
    stat_add(&port->counters.spare_bytes, port->tier->unit_bytes);
}

static void free_unit(struct tier_unit *unit) {
    struct tier_port *port = unit->port;
    port->units--;
    stat_add(&port->counters.unwritten_bytes, -(uint64_t)unit->capacity);
    if (unit->capacity == port->tier->unit_bytes)
        tier_give_unit_memory(port, unit->memory);
    else
        free(unit->memory);
    free(unit);
}

char *tier_take_unit_memory(struct tier_port *port, size_t bytes) {
    if (bytes != port->tier->unit_bytes || port->spare_count == 0) return tier_allocate_pages(bytes);
    stat_add(&port->counters.spare_bytes, -(uint64_t)bytes);
    return port->spare_memory[--port->spare_count];
}

static void write_done(struct tier_op *op);

static void start_write(struct tier_unit *unit) {
    struct tier_port *port = unit->port;
    unit->op.memory = unit->memory;
    unit->op.offset = unit->offset;
    unit->op.bytes = (uint32_t)tier_pages_up(unit->used);
    unit->op.write = true;
    unit->op.error = 0;
    unit->op.done = write_done;
    stat_add(&port->counters.in_flight, 1);
    tier_io_start(port->io, &unit->op);
}

static void write_failed(struct tier_unit *unit, int error) {
    struct tier_port *port = unit->port;
    stat_add(&port->counters.failed_writes, 1);
    if (!unit->failed) {
        unit->failed = true;
        if (atomic_fetch_add(&port->tier->failing, 1) == 0)
            log_warning("tier: cannot write at %llu: %s; the records stay in memory, the write is tried again",
                        (unsigned long long)unit->offset, strerror(error));
    }
    unit->next_failed = port->failed;
    port->failed = unit;
}

static void write_done(struct tier_op *op) {
    struct tier_unit *unit = (struct tier_unit *)op;
    struct tier_port *port = unit->port;
    struct tier *tier = port->tier;
    stat_add(&port->counters.in_flight, (uint64_t)-1);
    if (op->error) {
        write_failed(unit, op->error);
        return;
    }
    if (unit->failed && atomic_fetch_sub(&tier->failing, 1) == 1) log_notice("tier: writing succeeds again");
    stat_add(&port->counters.writes, 1);
    stat_add(&port->counters.written_bytes, op->bytes);
    tier_unlist_unwritten(tier, unit);
    segment_table_write_ends(tier->segments, unit->segment);
    free_unit(unit);
}
_Static_assert(offsetof(struct tier_unit, op) == 0, "write_done() casts");

/* The rest of the last page is zero, so that nothing old goes to the disk. */
static void close_unit(struct tier_writer *writer) {
    struct tier_unit *unit = writer->unit;
    if (!unit) return;
    writer->unit = NULL;
    size_t bytes = tier_pages_up(unit->used);
    if (unit->used == 0) {
        writer->segment_used -= unit->capacity;
        tier_unlist_unwritten(unit->port->tier, unit);
        segment_table_write_ends(unit->port->tier->segments, unit->segment);
        free_unit(unit);
        return;
    }
    memset(unit->memory + unit->used, 0, bytes - unit->used);
    writer->segment_used -= unit->capacity - bytes; /* the next unit begins right behind */
    start_write(unit);
}

static void seal_segment(struct tier_port *port, struct tier_writer *writer) {
    close_unit(writer);
    if (writer->segment == SEGMENT_NONE) return;
    if (port->images)
        segment_table_seal_images(port->tier->segments, writer->segment, writer->segment_used);
    else
        segment_table_seal(port->tier->segments, writer->segment, writer->segment_used);
    writer->segment = SEGMENT_NONE;
}

/* ---- opening ---- */

static bool is_bad(const struct tier *tier, uint32_t segment, uint32_t count) {
    return tier->file.pmem && tier_pmem_is_bad(tier->file.pmem, segment, count);
}

static enum segment_use use_of(const struct tier_port *port, bool cleaning) {
    return port->images ? SEGMENT_FOR_IMAGES : cleaning ? SEGMENT_FOR_CLEANING : SEGMENT_FOR_NEW;
}

/* One that the medium has failed under is never given back: that is its quarantine. */
static uint32_t take_segments(struct tier_port *port, uint32_t count, enum tier_stream stream, bool cleaning) {
    struct tier *tier = port->tier;
    uint32_t home = tier->shard_homes ? port->home : SEGMENT_HOME_ANY;
    for (;;) {
        uint32_t segment =
            segment_table_take_at(tier->segments, count, home, stream == TIER_STREAM_VOLATILE, use_of(port, cleaning));
        if (segment == SEGMENT_NONE && port->images && tier_grow_for_images(tier, count)) continue;
        if (segment == SEGMENT_NONE || !is_bad(tier, segment, count)) return segment;
    }
}

static enum tier_append_status open_segment(struct tier_port *port, struct tier_writer *writer, enum tier_stream stream,
                                            size_t bytes, bool cleaning) {
    struct tier *tier = port->tier;
    uint32_t count = (uint32_t)((bytes + tier->segment_bytes - 1) / tier->segment_bytes);
    uint32_t segment = take_segments(port, count, stream, cleaning);
    /* What the next checkpoint sets free is as good as there. */
    bool awaited = tier->persist && !port->images &&
                   !atomic_load_explicit(&tier->checkpoints_fail, memory_order_relaxed) &&
                   segment_table_pending_count(tier->segments) >= count &&
                   segment_table_will_have(tier->segments, count, use_of(port, cleaning));
    enum tier_append_status status = awaited ? TIER_BUSY : TIER_FULL;
    if (segment == SEGMENT_NONE && awaited) atomic_store_explicit(&tier->awaits_checkpoint, true, memory_order_relaxed);
    if (segment != SEGMENT_NONE) {
        uint64_t end = segment_table_offset(tier->segments, segment) + (uint64_t)count * tier->segment_bytes;
        status = tier_space_reaches(tier, end);
        if (status != TIER_APPENDED) segment_table_give_back(tier->segments, segment, use_of(port, cleaning));
    }
    /* That there is no room for a run of segments says nothing about other records. */
    if (status != TIER_BUSY && (count == 1 || status == TIER_APPENDED))
        atomic_store_explicit(&tier->out_of_space, status == TIER_FULL, memory_order_relaxed);
    if (status != TIER_APPENDED) return status;
    writer->segment = segment;
    writer->segment_used = 0;
    writer->segment_room = (size_t)count * tier->segment_bytes;
    return TIER_APPENDED;
}

enum tier_append_status tier_open_segment(struct tier_port *port, struct tier_writer *writer, enum tier_stream stream,
                                          size_t bytes) {
    return open_segment(port, writer, stream, bytes, false);
}

static bool open_unit(struct tier_port *port, struct tier_writer *writer, size_t bytes) {
    struct tier *tier = port->tier;
    size_t room = writer->segment_room - writer->segment_used, capacity = tier->unit_bytes;
    if (capacity < bytes) capacity = tier_pages_up(bytes);
    if (capacity > room) capacity = room;
    struct tier_unit *unit = calloc(1, sizeof(*unit));
    if (!unit || !(unit->memory = tier_take_unit_memory(port, capacity))) {
        free(unit);
        return false;
    }
    unit->port = port;
    unit->capacity = capacity;
    unit->segment = writer->segment;
    unit->cut = atomic_load_explicit(&tier->cut, memory_order_relaxed);
    unit->offset = segment_table_offset(tier->segments, writer->segment) + writer->segment_used;
    writer->segment_used += capacity;
    writer->unit = unit;
    writer->opened_ns = port->opened_ns = clock_monotonic_ns();
    port->units++;
    stat_add(&port->counters.unwritten_bytes, capacity);
    segment_table_write_begins(tier->segments, unit->segment);
    tier_list_unwritten(tier, unit);
    return true;
}

static bool is_run(const struct tier_port *port, const struct tier_writer *writer) {
    return writer->segment != SEGMENT_NONE && writer->segment_room > port->tier->segment_bytes;
}

/* Each home has writers of its own. What is prepared is for the shard that could not append: nobody is told which, so
 * the port remembers it. */
static struct tier_writer *writer_of(struct tier_port *port, enum tier_stream stream) {
    return &port->writers[port->home * TIER_STREAMS + stream];
}

enum tier_append_status tier_prepare(struct tier_port *port, enum tier_stream stream, size_t bytes, bool cleaning) {
    struct tier *tier = port->tier;
    struct tier_writer *writer = writer_of(port, stream);
    if (bytes < TIER_PAGE_BYTES) bytes = TIER_PAGE_BYTES;
    if (is_run(port, writer) && bytes <= tier->segment_bytes) seal_segment(port, writer);
    if (writer->unit && writer->unit->capacity - writer->unit->used >= bytes) return TIER_APPENDED;
    if (atomic_load_explicit(&tier->failing, memory_order_relaxed)) return TIER_FULL;
    close_unit(writer);
    /* The cleaner has one more, so that it can finish what it began when writers have taken all. */
    if (port->units >= tier->units_max + cleaning) return TIER_BUSY;
    if (writer->segment != SEGMENT_NONE &&
        (writer->segment_room - writer->segment_used < bytes || is_bad(tier, writer->segment, 1)))
        seal_segment(port, writer);
    if (writer->segment == SEGMENT_NONE) {
        enum tier_append_status status = open_segment(port, writer, stream, bytes, cleaning);
        if (status != TIER_APPENDED) return status;
    }
    return open_unit(port, writer, bytes) ? TIER_APPENDED : TIER_BUSY;
}

/* ---- appending ---- */

static struct tier_block_place place_in(const struct tier_port *port, const struct tier_unit *unit, uint16_t slot,
                                        uint16_t database) {
    return (struct tier_block_place){.block = (unit->offset + unit->used) / TIER_UNIT_BYTES,
                                     .generation = segment_table_generation(port->tier->segments, unit->segment),
                                     .slot = slot,
                                     .database = database};
}

/* Zeroes up to the next block. */
static void advance(struct tier_unit *unit, size_t to) {
    memset(unit->memory + unit->used, 0, to - unit->used);
    unit->used = to;
}

static size_t units_up(size_t bytes) {
    return (bytes + TIER_UNIT_BYTES - 1) / TIER_UNIT_BYTES * TIER_UNIT_BYTES;
}

static void note(struct tier_port *port, struct tier_unit *unit, uint64_t block, size_t block_bytes,
                 const struct record *const *records, unsigned count) {
    struct segment_table *segments = port->tier->segments;
    for (unsigned i = 0; i < count; i++) {
        if (record_has_expiry(records[i]))
            segment_table_note_expiry(segments, tier_block_offset(block), record_expiry(records[i]));
        stat_add(&port->counters.appended_bytes, record_size(records[i]));
    }
    stat_add(&port->counters.appended_records, count);
    segment_table_add(segments, unit->segment, count);
    size_t end = unit->used + block_bytes, next = units_up(end);
    if (next > unit->capacity) next = unit->capacity;
    memset(unit->memory + end, 0, next - end);
    unit->used = next;
}

static enum tier_append_status append_alone(struct tier_port *port, struct tier_writer *writer, uint16_t slot,
                                            uint16_t database, const struct record *record, uint64_t *ref) {
    struct tier_unit *unit = writer->unit;
    if (tier_block_alone_bound(record) > unit->capacity - unit->used) return TIER_BUSY;
    struct tier_block_place place = place_in(port, unit, slot, database);
    size_t in_page = unit->used % TIER_PAGE_BYTES;
    size_t bytes =
        tier_block_pack_alone(unit->memory + unit->used, &place, record, port->tier->compress, &writer->alone_estimate);
    size_t pages = tier_pages_up(in_page + bytes) / TIER_PAGE_BYTES;
    *ref = ref_make(MEDIUM_TIER_ALONE,
                    tier_address(place.block, pages < TIER_PAGES_UNKNOWN ? (unsigned)pages : TIER_PAGES_UNKNOWN),
                    record_has_expiry(record));
    note(port, unit, place.block, bytes, &record, 1);
    return TIER_APPENDED;
}

static unsigned append_shared(struct tier_port *port, struct tier_writer *writer, uint16_t slot, uint16_t database,
                              const struct record *const *records, unsigned count, uint64_t *refs) {
    struct tier_unit *unit = writer->unit;
    struct tier_block_place place = place_in(port, unit, slot, database);
    size_t room = TIER_PAGE_BYTES - unit->used % TIER_PAGE_BYTES, bytes;
    unsigned packed = tier_block_pack(unit->memory + unit->used, room, &place, records, count, port->tier->compress,
                                      &writer->estimate, port->scratch, &bytes);
    if (packed == 0) return 0;
    for (unsigned i = 0; i < packed; i++)
        refs[i] = ref_make(MEDIUM_TIER_SHARED, tier_address(place.block, i), record_has_expiry(records[i]));
    note(port, unit, place.block, bytes, records, packed);
    return packed;
}

enum tier_append_status tier_append(struct tier_port *port, enum tier_stream stream, uint16_t slot, uint16_t database,
                                    const struct record *const *records, unsigned count, uint64_t *refs,
                                    unsigned *taken) {
    if (port->tier->shard_homes) port->home = tier_home_of_slot(port->tier, slot);
    struct tier_writer *writer = writer_of(port, stream);
    struct tier_unit *unit = writer->unit;
    *taken = 0;
    assert(count > 0);
    if (!unit) return TIER_BUSY;
    if (is_run(port, writer)) {
        if (tier_block_alone_bound(records[0]) <= port->tier->segment_bytes) return TIER_BUSY;
        if (append_alone(port, writer, slot, database, records[0], refs) != TIER_APPENDED) return TIER_BUSY;
        *taken = 1;
        seal_segment(port, writer);
        return TIER_APPENDED;
    }
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        size_t left = TIER_PAGE_BYTES - unit->used % TIER_PAGE_BYTES;
        if (left < WASTE_SKIPPED) advance(unit, unit->used + left);
        left = TIER_PAGE_BYTES - unit->used % TIER_PAGE_BYTES;
        if (unit->used + left > unit->capacity) return TIER_BUSY;
        *taken = append_shared(port, writer, slot, database, records, count, refs);
        if (*taken > 0) return TIER_APPENDED;
        /* Not even the first fits in what is left of the page. */
        if (left == TIER_PAGE_BYTES || left >= WASTE_ALONE) break;
        advance(unit, unit->used + left);
    }
    enum tier_append_status status = append_alone(port, writer, slot, database, records[0], refs);
    if (status == TIER_APPENDED) *taken = 1;
    return status;
}

/* ---- the turn ---- */

static void retry_failed(struct tier_port *port, int64_t now_ns) {
    if (!port->failed || now_ns < port->retry_ns) return;
    port->retry_ns = now_ns + TIER_RETRY_NS;
    struct tier_unit *unit = port->failed;
    port->failed = NULL;
    while (unit) {
        struct tier_unit *next = unit->next_failed;
        start_write(unit);
        unit = next;
    }
}

void tier_writer_turn_end(struct tier_port *port, int64_t now_ns) {
    retry_failed(port, now_ns);
    if (port->spare_count && now_ns - port->opened_ns > OPEN_NS_MAX) free_spares(port);
    uint64_t cut = atomic_load_explicit(&port->tier->cut, memory_order_relaxed);
    for (unsigned i = 0; i < tier_writer_count(port->tier); i++) {
        struct tier_writer *writer = &port->writers[i];
        if (writer->unit && (now_ns - writer->opened_ns > OPEN_NS_MAX || writer->unit->cut != cut)) close_unit(writer);
    }
}

void tier_port_flush(struct tier_port *port) {
    for (unsigned i = 0; i < tier_writer_count(port->tier); i++) close_unit(&port->writers[i]);
    tier_io_submit(port->io);
}

void tier_writer_seal_all(struct tier_port *port) {
    for (unsigned i = 0; i < tier_writer_count(port->tier); i++) seal_segment(port, &port->writers[i]);
    tier_io_submit(port->io);
}

void tier_writer_forget_failed(struct tier_port *port) {
    while (port->failed) {
        struct tier_unit *unit = port->failed;
        port->failed = unit->next_failed;
        atomic_fetch_sub(&port->tier->failing, 1);
        tier_unlist_unwritten(port->tier, unit);
        segment_table_write_ends(port->tier->segments, unit->segment);
        free_unit(unit);
    }
}

/* Nobody reads any more: what was not written is forgotten with the file. */
void tier_writer_free(struct tier_port *port) {
    for (unsigned i = 0; i < tier_writer_count(port->tier); i++) {
        struct tier_unit *unit = port->writers[i].unit;
        if (!unit) continue;
        tier_unlist_unwritten(port->tier, unit);
        free_unit(unit);
        port->writers[i].unit = NULL;
    }
    while (port->failed) {
        struct tier_unit *unit = port->failed;
        port->failed = unit->next_failed;
        tier_unlist_unwritten(port->tier, unit);
        free_unit(unit);
    }
    free_spares(port);
}
