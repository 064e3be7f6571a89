/* Cleaning: a segment is read as a whole, its blocks are offered one by one to who knows the indexes, and what is still
 * referred to is copied out (or, when keys are to be evicted, dropped). When its last record has left, the segment
 * table frees it.
 *
 *   choose -> read -> block, block, ... -> through
 *                     ^ offered again while the writers are busy
 *
 * Which: the sealed segment with the fewest living records for its size, as soon as free segments are few. A segment
 * that lives by more than CLEAN_LIVE_PERCENT is not worth it: copying it would cost more writing than space is won, and
 * the tier is as good as full.
 *
 * A damaged block is passed over: its length is not to be trusted, so the search goes on at the next page. Its records
 * stay referred to and answer with an error; the segment is kept for them. */

#include "base/clock.h"
#include "base/log.h"
#include "tiering/tier_private.h"

#include <string.h>

enum {
    CLEAN_LIVE_PERCENT = 92,
    COMPACT_LIVE_PERCENT = 95,
    FREE_WANTED_PART = 32, /* of all segments this part should be free */
    FREE_WANTED_MIN = 4,
};

/* ---- when ---- */

/* What is pending is as good as free: cleaning more would only make more of it. */
bool tier_needs_cleaning(const struct tier *tier) {
    uint32_t wanted = tier->usable_segments / FREE_WANTED_PART;
    if (wanted < FREE_WANTED_MIN) wanted = FREE_WANTED_MIN;
    wanted += segment_table_kept_for_images(tier->segments);
    uint32_t free = segment_table_free_count(tier->segments) + segment_table_pending_count(tier->segments);
    return free <= wanted || atomic_load_explicit(&tier->out_of_space, memory_order_relaxed);
}

bool tier_can_clean(const struct tier *tier) {
    if (tier_is_failing(tier) || atomic_load_explicit(&tier->checkpoints_fail, memory_order_relaxed)) return false;
    return segment_table_can_clean(tier->segments, CLEAN_LIVE_PERCENT);
}

bool tier_is_full(const struct tier *tier) {
    return atomic_load_explicit(&tier->out_of_space, memory_order_relaxed);
}

bool tier_is_failing(const struct tier *tier) {
    return atomic_load_explicit(&tier->failing, memory_order_relaxed) > 0;
}

/* ---- reading ---- */

static void read_done(struct tier_op *op) {
    struct tier_cleaner *cleaner = (struct tier_cleaner *)((char *)op - offsetof(struct tier_cleaner, op));
    cleaner->reading = false;
    cleaner->ready = true;
}

static void give_up(struct tier_port *port) {
    struct tier_cleaner *cleaner = &port->cleaner;
    segment_table_cleaned(port->tier->segments, cleaner->segment, cleaner->interrupted);
    free(cleaner->memory);
    free(cleaner->raw);
    *cleaner = (struct tier_cleaner){.segment = SEGMENT_NONE};
}

/* False: there is nothing to clean. */
static bool begin(struct tier_port *port, enum tier_clean_mode mode) {
    struct tier *tier = port->tier;
    struct tier_cleaner *cleaner = &port->cleaner;
    uint32_t segment;
    if (mode == TIER_CLEAN_NEEDED && !tier_needs_cleaning(tier)) return false;
    if (mode == TIER_EVICT || mode == TIER_EVICT_VOLATILE)
        segment = segment_table_choose_oldest(tier->segments, mode == TIER_EVICT_VOLATILE);
    else
        segment =
            segment_table_choose(tier->segments, mode == TIER_CLEAN_ALL ? COMPACT_LIVE_PERCENT : CLEAN_LIVE_PERCENT);
    if (segment == SEGMENT_NONE) return false;
    struct segment_info info = segment_table_info(tier->segments, segment);
    *cleaner = (struct tier_cleaner){.segment = segment, .evict = mode == TIER_EVICT || mode == TIER_EVICT_VOLATILE};
    cleaner->bytes = tier_pages_up(info.used_bytes);
    cleaner->memory = tier_allocate_pages(cleaner->bytes ? cleaner->bytes : TIER_PAGE_BYTES);
    if (!cleaner->memory || cleaner->bytes > UINT32_MAX) {
        cleaner->interrupted = true;
        give_up(port);
        return false;
    }
    cleaner->op = (struct tier_op){.memory = cleaner->memory,
                                   .offset = segment_table_offset(tier->segments, segment),
                                   .bytes = (uint32_t)cleaner->bytes,
                                   .done = read_done};
    cleaner->reading = true;
    stat_add(&port->counters.reads, 1);
    stat_add(&port->counters.read_bytes, cleaner->bytes);
    tier_io_start(port->io, &cleaner->op);
    tier_io_submit(port->io);
    return true;
}

/* ---- blocks ---- */

static const void *open_block(struct tier_cleaner *cleaner, const char *at, const struct tier_block_header *header) {
    if ((header->flags & TIER_FLAG_LZ4) && cleaner->raw_capacity < header->raw_bytes) {
        free(cleaner->raw);
        cleaner->raw_capacity = header->raw_bytes;
        if (!(cleaner->raw = malloc(cleaner->raw_capacity))) {
            cleaner->raw_capacity = 0;
            return NULL;
        }
    }
    return tier_block_open(at, cleaner->raw);
}

/* Makes the next good block ready to be offered; false: the segment has been gone through. */
static bool next_block(struct tier_port *port) {
    struct tier *tier = port->tier;
    struct tier_cleaner *cleaner = &port->cleaner;
    uint64_t base = segment_table_offset(tier->segments, cleaner->segment);
    uint32_t generation = segment_table_generation(tier->segments, cleaner->segment);
    while (cleaner->at + sizeof(struct tier_block_header) <= cleaner->bytes) {
        const char *at = cleaner->memory + cleaner->at;
        size_t left = cleaner->bytes - cleaner->at, in_page = cleaner->at % TIER_PAGE_BYTES;
        uint64_t block = (base + cleaner->at) / TIER_UNIT_BYTES;
        struct tier_block_header header;
        memcpy(&header, at, sizeof(header));
        size_t bytes = tier_block_bytes(at, left);
        bool good = bytes && tier_block_verify(at, left, block, generation) == TIER_BLOCK_GOOD;
        const void *payload = good ? open_block(cleaner, at, &header) : NULL;
        if (!payload) { /* the end of a page, or damage */
            if (header.count) stat_add(&port->counters.failed_reads, 1);
            cleaner->at += TIER_PAGE_BYTES - in_page;
            continue;
        }
        cleaner->view = (struct tier_block_view){header.slot, header.database, 0, cleaner->records, cleaner->refs};
        cleaner->view.count =
            tier_list_records(payload, &header, block, in_page + bytes, cleaner->records, cleaner->refs);
        cleaner->at += (bytes + TIER_UNIT_BYTES - 1) / TIER_UNIT_BYTES * TIER_UNIT_BYTES;
        if (cleaner->view.count == 0) continue;
        cleaner->offered = true;
        return true;
    }
    return false;
}

static void finish(struct tier_port *port) {
    struct tier_cleaner *cleaner = &port->cleaner;
    stat_add(cleaner->evict ? &port->counters.evicted_segments : &port->counters.cleaned_segments, 1);
    give_up(port);
}

/* What it copies out is counted by what is appended meanwhile. */
static bool offer(struct tier_port *port, tier_survivors *survivors, void *ctx) {
    struct tier_port_counters *counters = &port->counters;
    uint64_t records = stat_get(&counters->appended_records), bytes = stat_get(&counters->appended_bytes);
    bool through = survivors(ctx, port, &port->cleaner.view, port->cleaner.evict);
    stat_add(&counters->cleaned_records, stat_get(&counters->appended_records) - records);
    stat_add(&counters->cleaned_bytes, stat_get(&counters->appended_bytes) - bytes);
    return through;
}

bool tier_clean(struct tier_port *port, enum tier_clean_mode mode, uint64_t budget_ns, tier_survivors *survivors,
                void *ctx) {
    struct tier_cleaner *cleaner = &port->cleaner;
    uint64_t start = clock_ticks();
    if (cleaner->segment == SEGMENT_NONE) return begin(port, mode);
    if (cleaner->reading) return false;
    if (cleaner->op.error) {
        log_warning("tier: cannot read the segment at %llu to clean it: %s", (unsigned long long)cleaner->op.offset,
                    strerror(cleaner->op.error));
        stat_add(&port->counters.failed_reads, 1);
        give_up(port);
        return true;
    }
    do {
        if (!cleaner->offered && !next_block(port)) {
            finish(port);
            return true;
        }
        if (!offer(port, survivors, ctx)) {
            /* No room to copy out, and keys are to be evicted: not one by one from here, but the oldest. */
            bool evict = mode == TIER_EVICT || mode == TIER_EVICT_VOLATILE;
            if (!evict || cleaner->evict) return false;
            cleaner->interrupted = true;
            give_up(port);
            return true;
        }
        cleaner->offered = false;
    } while (clock_elapsed_ns(start) < budget_ns);
    return true;
}

bool tier_is_cleaning(const struct tier_port *port) {
    return port->cleaner.segment != SEGMENT_NONE;
}

void tier_cleaner_free(struct tier_port *port) {
    if (port->cleaner.segment == SEGMENT_NONE) return;
    port->cleaner.interrupted = true;
    give_up(port);
}
