/* The tier as a whole: making it, what is not written yet, and its figures. See tier.h.
 *
 * The list of what is not written yet is short (a dozen units a port) and looked at only for segments that have
 * something unwritten, so one lock and a linear search do. Bytes are copied out under that lock, because the unit is
 * freed by the port that wrote it as soon as it is off the list. */

#include "tiering/tier.h"

#include "base/clock.h"
#include "base/log.h"
#include "memory/heap.h"
#include "tiering/tier_pmem.h"
#include "tiering/tier_private.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SEGMENT_BYTES_MIN = 1 << 20,
    SEGMENT_BYTES_MAX = 8 << 20,
    UNIT_BYTES_MIN = 64 << 10,
    UNIT_BYTES_MAX = 512 << 10,
    SEGMENTS_MIN = 8, /* fewer could not be cleaned */
    RESERVED_MIN = 2,
    WAIT_MS = 20,
    LOOK_MS = 1, /* between two looks whether there is memory, or whether what another port hauls has arrived */
};

_Static_assert(SEGMENT_HOMES_MAX == (int)PMEM_POOLS_MAX, "a home for each pool");

/* ---- sizes ---- */

/* The largest power of two that is at most `value`, within the bounds. */
static size_t power_within(size_t value, size_t least, size_t most) {
    size_t power = least;
    while (power * 2 <= value && power < most) power *= 2;
    return power;
}

/* Buffers together stay at a few percent of the memory that the server may use. */
static void choose_sizes(struct tier *tier, const struct tier_options *options) {
    size_t memory = options->memory_bytes ? options->memory_bytes : (size_t)8 << 30, ports = options->ports;
    tier->segment_bytes = options->segment_bytes ? options->segment_bytes
                                                 : power_within(memory / 256, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    /* A quarter of what a port may have unwritten: each transfer costs the same few microseconds, however large. */
    tier->unit_bytes = power_within(memory / 256 / ports, UNIT_BYTES_MIN, UNIT_BYTES_MAX);
    size_t units = memory / 64 / ports / tier->unit_bytes;
    tier->units_max = units < 3 ? 3 : units > TIER_UNITS_MAX ? TIER_UNITS_MAX : (unsigned)units;
    tier->staged_max = memory / 32 / ports;
    if (tier->staged_max < (size_t)1 << 20) tier->staged_max = (size_t)1 << 20;
    tier->idle_max = tier->staged_max / 8;
}

/* ---- life ---- */

/* The image port's owner is another thread with every checkpoint, and that of a roaming port with every load, which an
 * io_uring would not have. */
static bool create_port(struct tier *tier, unsigned number, const struct tier_options *options, char *error,
                        size_t error_bytes) {
    struct tier_port *port = &tier->ports[number];
    struct tier_io_options io = {
        .fd = tier->file.fd, .pmem = options->pmem, .kind = options->io, .faults = options->faults};
    if (io.faults.seed) io.faults.seed += number;
    port->tier = tier;
    port->images = number == options->ports;
    if (number + options->roaming >= options->ports) io.kind = TIER_IO_THREADS;
    port->cleaner.segment = SEGMENT_NONE;
    for (unsigned i = 0; i < TIER_WRITERS_MAX; i++) port->writers[i].segment = SEGMENT_NONE;
    for (unsigned i = 0; i < TIER_STREAMS; i++) port->haul.writers[i].segment = SEGMENT_NONE;
    port->io = tier_io_create(&io);
    if (port->io) return true;
    snprintf(error, error_bytes, "tier: cannot set up reading and writing of %s", options->path);
    return false;
}

/* ---- the file ---- */

struct judging {
    struct tier *tier;
    const struct tier_options *options;
};

/* Whose file it is decides over sizes too: those of a pool are its own, but for growing. */
static bool judge_file(void *ctx, struct tier_file_options *file, int fd, uint64_t bytes, char *error,
                       size_t error_bytes) {
    struct judging *judging = ctx;
    struct tier *tier = judging->tier;
    const struct tier_options *options = judging->options;
    enum tier_pool_found found = tier_pool_look(fd, bytes, &tier->pool, error, error_bytes);
    if (found == TIER_POOL_FOUND_FOREIGN) return false;
    tier->pool_found = found == TIER_POOL_FOUND_POOL;
    if (tier->pool_found && !options->persist) {
        snprintf(error, error_bytes,
                 "holds a data set; set tier-persist to yes to open it, or name another file. Nothing was changed");
        return false;
    }
    if (tier->pool_found) tier->segment_bytes = tier->pool.header.segment_bytes;
    uint64_t size = options->size_bytes;
    struct stat status;
    if (fstat(fd, &status) == 0 && S_ISBLK(status.st_mode) && size + TIER_HEADER_BYTES > bytes && size <= bytes)
        size = bytes - TIER_HEADER_BYTES;
    uint64_t segments = size / tier->segment_bytes;
    if (tier->pool_found && segments < tier->pool.header.segments) segments = tier->pool.header.segments;
    if (!tier->pool_found) tier_pool_renew(&tier->pool);
    tier->segment_count = (uint32_t)segments;
    atomic_store(&tier->usable_segments, tier->segment_count);
    file->segment_bytes = tier->segment_bytes;
    file->size_bytes = TIER_HEADER_BYTES + segments * tier->segment_bytes;
    return true;
}

static uint32_t usable_of(const struct tier *tier, const struct pmem_pool *pmem) {
    return (uint32_t)(pmem_pool_facts(pmem).segment_bytes / tier->segment_bytes);
}

/* The pool says how much there is. */
static bool open_pmem(struct tier *tier, const struct tier_options *options, char *error, size_t error_bytes) {
    char text[400] = "";
    struct stat status;
    enum tier_pool_found found = tier_pool_look_pmem(options->pmem, &tier->pool, text, sizeof(text));
    if (found == TIER_POOL_FOUND_FOREIGN) {
        snprintf(error, error_bytes, "pmem-pool '%.200s': %s", options->path, text);
        return false;
    }
    tier->pool_found = found == TIER_POOL_FOUND_POOL;
    if (!tier->pool_found) tier_pool_renew(&tier->pool);
    tier->segment_bytes = pmem_pool_identity(options->pmem)->segment_bytes;
    uint64_t most = pmem_pool_segments_most(options->pmem), addressed = TIER_FILE_BYTES_MAX / tier->segment_bytes;
    tier->segment_count = (uint32_t)(most < addressed ? most : addressed);
    tier->usable_segments = usable_of(tier, options->pmem);
    tier->homes = pmem_pool_members(options->pmem);
    if (tier->units_max < tier_writer_count(tier) + 2) tier->units_max = tier_writer_count(tier) + 2;
    tier->file = (struct tier_file){.fd = -1, .pmem = options->pmem};
    tier->file.size_bytes = TIER_HEADER_BYTES + tier->segment_count * (uint64_t)tier->segment_bytes;
    tier->file.block_device = stat(options->path, &status) == 0 && !S_ISREG(status.st_mode);
    return true;
}

static bool open_file(struct tier *tier, const struct tier_options *options, char *error, size_t error_bytes) {
    if (options->pmem) return open_pmem(tier, options, error, error_bytes);
    uint64_t segments = options->size_bytes / tier->segment_bytes;
    if (segments < SEGMENTS_MIN || segments > UINT32_MAX / 2) {
        snprintf(error, error_bytes, "tier-size %llu: from %zu bytes on a tier is of use",
                 (unsigned long long)options->size_bytes, SEGMENTS_MIN * tier->segment_bytes);
        return false;
    }
    struct judging judging = {tier, options};
    struct tier_file_options file = {.path = options->path,
                                     .size_bytes = TIER_HEADER_BYTES + segments * tier->segment_bytes,
                                     .segment_bytes = tier->segment_bytes,
                                     .direct = options->direct,
                                     .judge = judge_file,
                                     .ctx = &judging};
    return tier_file_open(&tier->file, &file, error, error_bytes);
}

/* Numbers for what tier_grow_for_images() may add: for the images of two checkpoints. */
static uint32_t growth_of(const struct tier *tier, const struct tier_options *options) {
    if (!tier->persist || tier->file.pmem || tier->file.mapped || tier->file.block_device) return 0;
    uint64_t count = tier->segment_count, most = 2 * count;
    if (options->memory_bytes) most = 2 * options->memory_bytes / tier->segment_bytes + SEGMENTS_MIN;
    return count + most > TIER_FILE_BYTES_MAX / tier->segment_bytes - 1 ? 0 : (uint32_t)most;
}

/* Last of all: until here a file that was there is as it was. */
static bool write_header(struct tier *tier, const struct tier_options *options, char *error, size_t error_bytes) {
    struct tier_pool_header *header = &tier->pool.header;
    uint64_t segments = options->pmem ? pmem_pool_segments(options->pmem) : tier->usable_segments;
    bool grown = header->segments != segments;
    header->segments = segments;
    if (!tier->pool_found) {
        header->segment_bytes = tier->segment_bytes;
        header->seed = options->pool_seed;
        header->shards = options->pool_shards ? options->pool_shards : 1;
        header->flags = options->persist ? TIER_POOL_PERSISTENT : 0;
    }
    bool good = true;
    if (!tier->pool_found)
        good = tier_pool_write(tier->file.fd, &tier->pool);
    else if (grown)
        good = tier_pool_update(tier->file.fd, &tier->pool);
    if (!good) snprintf(error, error_bytes, "tier-path '%s': cannot be written: %s", options->path, strerror(errno));
    tier->written = good;
    return good;
}

/* Of segments so many are kept for who cleans; there is less for that where images need room too. */
static uint32_t choose_reserve(const struct tier *tier, const struct tier_options *options) {
    uint64_t reserved = (uint64_t)(options->ports - options->readers) * (tier_writer_count(tier) + 1);
    uint32_t most = tier->usable_segments / (tier->persist ? 8 : 4);
    if (reserved > most) reserved = most;
    return reserved < RESERVED_MIN ? RESERVED_MIN : (uint32_t)reserved;
}

static bool is_there(const void *ctx, uint32_t segment) {
    const struct tier *tier = ctx;
    return tier->file.pmem ? pmem_pool_has_segment(tier->file.pmem, segment) : segment < tier->usable_segments;
}

bool tier_take_in(struct tier *tier) {
    const struct pmem_pool *pmem = tier->file.pmem;
    uint64_t segments = pmem_pool_segments(pmem);
    for (uint32_t i = 0; i < segments && i < tier->segment_count; i++)
        if (pmem_pool_has_segment(pmem, i)) segment_table_appear(tier->segments, i);
    atomic_store(&tier->usable_segments, usable_of(tier, pmem));
    atomic_store(&tier->out_of_space, false);
    tier->pool.header.segments = segments;
    return tier_pool_update(tier->file.fd, &tier->pool);
}

static bool create_parts(struct tier *tier, const struct tier_options *options, char *error, size_t error_bytes) {
    unsigned ports = options->ports + options->persist;
    if (!open_file(tier, options, error, error_bytes)) return false;
    tier->cut = tier->pool.manifest.number;
    tier->segment_count += growth_of(tier, options);
    tier->cleaning_segments = choose_reserve(tier, options);
    struct segment_table_options table = {.segment_bytes = tier->segment_bytes,
                                          .segments = tier->segment_count,
                                          .reserved = tier->cleaning_segments,
                                          .base_bytes = TIER_HEADER_BYTES,
                                          .persistent = options->persist,
                                          .cut = tier->cut,
                                          .homes = tier->homes,
                                          .exists = tier->segment_count > tier->usable_segments ? is_there : NULL,
                                          .exists_ctx = tier};
    if (!tier_space_start(tier)) {
        snprintf(error, error_bytes, "tier: cannot start a thread");
        return false;
    }
    tier->segments = segment_table_create(&table);
    tier->ghost = ghost_create(options->ghost_places);
    tier->ports = calloc(ports, sizeof(*tier->ports));
    if (!tier->segments || !tier->ghost || !tier->ports) {
        snprintf(error, error_bytes, "tier: out of memory");
        return false;
    }
    for (unsigned i = 0; i < ports; i++) {
        if (!create_port(tier, i, options, error, error_bytes)) return false;
        tier->port_count++;
    }
    return write_header(tier, options, error, error_bytes);
}

struct tier *tier_create(const struct tier_options *options, char *error, size_t error_bytes) {
    struct tier *tier = calloc(1, sizeof(*tier));
    if (!tier) {
        snprintf(error, error_bytes, "tier: out of memory");
        return NULL;
    }
    tier->file.fd = -1;
    tier->homes = 1;
    tier->compress = options->compress;
    tier->persist = options->persist;
    tier->bounded = options->memory_bytes > 0;
    pthread_mutex_init(&tier->unwritten_lock, NULL);
    choose_sizes(tier, options);
    if (create_parts(tier, options, error, error_bytes)) return tier;
    tier_destroy(tier);
    return NULL;
}

/* What goes with the server is the file of one that does not persist, and one that was made for nothing. */
static bool leaves_file(const struct tier *tier) {
    return tier->pool_found || (tier->persist && tier->written);
}

void tier_destroy(struct tier *tier) {
    if (!tier) return;
    tier_space_stop(tier);
    for (unsigned i = 0; i < tier->port_count; i++) tier_io_destroy(tier->ports[i].io);
    for (unsigned i = 0; i < tier->port_count; i++) {
        tier_cleaner_free(&tier->ports[i]);
        tier_haul_free(&tier->ports[i]);
        tier_writer_free(&tier->ports[i]);
        tier_reader_free(&tier->ports[i]);
    }
    free(tier->ports);
    free(tier->shard_homes);
    ghost_destroy(tier->ghost);
    segment_table_destroy(tier->segments);
    if (tier->file.fd >= 0) tier_file_close(&tier->file, !leaves_file(tier));
    pthread_mutex_destroy(&tier->unwritten_lock);
    free(tier);
}

bool tier_set_homes(struct tier *tier, const uint8_t *homes, uint32_t shards) {
    tier->shard_homes = malloc(shards);
    if (!tier->shard_homes) return false;
    for (uint32_t i = 0; i < shards; i++) tier->shard_homes[i] = homes[i] < tier->homes ? homes[i] : 0;
    tier->shards = shards;
    return true;
}

void tier_set_gate(struct tier *tier, const struct tier_gate *gate) {
    tier->gate = *gate;
}

struct tier_port *tier_port_of(struct tier *tier, unsigned number) {
    return &tier->ports[number];
}

struct ghost *tier_ghost(struct tier *tier) {
    return tier->ghost;
}

/* ---- what is not written yet ---- */

void tier_list_unwritten(struct tier *tier, struct tier_unit *unit) {
    pthread_mutex_lock(&tier->unwritten_lock);
    unit->next_listed = tier->unwritten;
    if (tier->unwritten) tier->unwritten->previous_listed = unit;
    tier->unwritten = unit;
    pthread_mutex_unlock(&tier->unwritten_lock);
}

void tier_unlist_unwritten(struct tier *tier, struct tier_unit *unit) {
    pthread_mutex_lock(&tier->unwritten_lock);
    if (unit->previous_listed)
        unit->previous_listed->next_listed = unit->next_listed;
    else
        tier->unwritten = unit->next_listed;
    if (unit->next_listed) unit->next_listed->previous_listed = unit->previous_listed;
    pthread_mutex_unlock(&tier->unwritten_lock);
}

bool tier_copy_unwritten(struct tier *tier, uint64_t offset, void *into, size_t bytes) {
    bool found = false;
    pthread_mutex_lock(&tier->unwritten_lock);
    for (struct tier_unit *unit = tier->unwritten; unit && !found; unit = unit->next_listed) {
        /* Not by its capacity: a unit that was closed early overlaps with the next, and what is behind `used` is just
         * being written. */
        size_t used = atomic_load_explicit(&unit->used, memory_order_acquire);
        if (offset < unit->offset || offset >= unit->offset + used) continue;
        size_t at = (size_t)(offset - unit->offset), there = used - at < bytes ? used - at : bytes;
        memcpy(into, unit->memory + at, there);
        memset((char *)into + there, 0, bytes - there);
        found = true;
    }
    pthread_mutex_unlock(&tier->unwritten_lock);
    return found;
}

/* ---- reading without a port ---- */

static bool fetch_bytes(struct tier *tier, uint64_t offset, char *into, size_t bytes) {
    if (tier_copy_unwritten(tier, offset, into, bytes)) return true;
    if (tier->file.pmem) return tier_pmem_read(tier->file.pmem, offset, into, bytes);
    for (size_t got = 0; got < bytes;) {
        ssize_t step = pread(tier->file.fd, into + got, bytes - got, (off_t)(offset + got));
        if (step <= 0) return false;
        got += (size_t)step;
    }
    return true;
}

/* The block at `offset` of the first page, verified, as pages; NULL: it cannot be read. */
static char *fetch_block(struct tier *tier, uint64_t ref) {
    uint64_t block = tier_ref_block(ref), offset = tier_block_offset(block), page = offset / TIER_PAGE_BYTES;
    uint32_t generation = segment_table_generation(tier->segments, segment_table_of(tier->segments, offset));
    size_t in_page = (size_t)(offset % TIER_PAGE_BYTES), bytes = TIER_PAGE_BYTES;
    char *memory = NULL;
    for (;;) {
        free(memory);
        memory = tier_allocate_pages(bytes);
        if (!memory || !fetch_bytes(tier, page * TIER_PAGE_BYTES, memory, bytes)) break;
        size_t needed = in_page + tier_block_bytes(memory + in_page, HEAP_OBJECT_MAX);
        if (needed > bytes && bytes == TIER_PAGE_BYTES) {
            bytes = tier_pages_up(needed);
            continue;
        }
        if (tier_block_verify(memory + in_page, bytes - in_page, block, generation) != TIER_BLOCK_GOOD) break;
        return memory;
    }
    free(memory);
    return NULL;
}

bool tier_fetch_block(struct tier *tier, uint64_t ref, struct tier_fetched *fetched) {
    struct tier_block_header header;
    atomic_fetch_add_explicit(&tier->fetches, 1, memory_order_relaxed);
    *fetched = (struct tier_fetched){.block = tier_ref_block(ref), .pages = fetch_block(tier, ref)};
    if (!fetched->pages) return false;
    const char *at = fetched->pages + tier_block_offset(fetched->block) % TIER_PAGE_BYTES;
    memcpy(&header, at, sizeof(header));
    if (header.flags & TIER_FLAG_LZ4) fetched->raw = malloc(header.raw_bytes ? header.raw_bytes : 1);
    bool readable = fetched->raw || !(header.flags & TIER_FLAG_LZ4);
    fetched->payload = readable ? tier_block_open(at, fetched->raw) : NULL;
    fetched->raw_bytes = header.raw_bytes;
    if (fetched->payload) return true;
    tier_fetched_free(fetched);
    return false;
}

const struct record *tier_fetched_record(const struct tier_fetched *fetched, uint64_t ref) {
    if (!fetched->payload || tier_ref_block(ref) != fetched->block) return NULL;
    return tier_block_record(fetched->payload, fetched->raw_bytes, tier_ref_ordinal(ref));
}

void tier_fetched_free(struct tier_fetched *fetched) {
    free(fetched->raw);
    free(fetched->pages);
    *fetched = (struct tier_fetched){0};
}

struct record *tier_fetch(struct tier *tier, uint64_t ref) {
    struct tier_fetched fetched;
    if (!tier_fetch_block(tier, ref, &fetched)) return NULL;
    const struct record *record = tier_fetched_record(&fetched, ref);
    struct record *copy = record ? malloc(record_size(record)) : NULL;
    if (copy) memcpy(copy, record, record_size(record));
    tier_fetched_free(&fetched);
    return copy;
}

/* ---- small ones ---- */

void tier_drop(struct tier *tier, uint64_t ref) {
    uint64_t offset = tier_block_offset(tier_ref_block(ref));
    segment_table_drop(tier->segments, segment_table_of(tier->segments, offset), 1);
}

enum segment_expiry tier_expiry(const struct tier *tier, uint64_t ref, int64_t now_ms) {
    return segment_table_expiry(tier->segments, tier_block_offset(tier_ref_block(ref)), now_ms);
}

void tier_note_swept(struct tier *tier, uint64_t ref, int64_t now_ms) {
    segment_table_note_swept(tier->segments, tier_block_offset(tier_ref_block(ref)), now_ms);
}

void tier_port_reap(struct tier_port *port) {
    tier_io_reap(port->io);
}

void tier_trim(struct tier_port *port) {
    tier_reader_trim(port, port->tier->idle_max);
}

void tier_bound(struct tier_port *port) {
    if (port->idle_bytes > port->tier->staged_max) tier_reader_trim(port, port->tier->staged_max);
}

void tier_port_submit(struct tier_port *port) {
    tier_io_submit(port->io);
}

void tier_port_turn_end(struct tier_port *port, int64_t now_ns) {
    tier_reader_trim(port, port->tier->idle_max);
    tier_reader_feed(port, now_ns);
    tier_writer_turn_end(port, now_ns);
    tier_io_submit(port->io);
}

int tier_port_event_fd(const struct tier_port *port) {
    return tier_io_event_fd(port->io);
}

void tier_port_drain(struct tier_port *port) {
    tier_io_drain(port->io);
}

/* A while is enough: whoever waits looks again. */
void tier_port_wait(struct tier_port *port) {
    struct pollfd event = {.fd = tier_io_event_fd(port->io), .events = POLLIN};
    tier_port_turn_end(port, clock_monotonic_ns());
    if (tier_io_in_flight(port->io) && tier_io_reap(port->io) == 0)
        (void)poll(&event, 1, WAIT_MS);
    else if (port->hungry || tier_hauls(port->tier))
        (void)poll(NULL, 0, LOOK_MS);
    tier_io_reap(port->io);
}

unsigned tier_port_in_flight(const struct tier_port *port) {
    return tier_io_in_flight(port->io);
}

/* ---- figures ---- */

size_t tier_buffer_bytes(const struct tier *tier) {
    size_t bytes = 0;
    for (unsigned i = 0; i < tier->port_count; i++) {
        const struct tier_port_counters *counters = &tier->ports[i].counters;
        bytes +=
            stat_get(&counters->staged_bytes) + stat_get(&counters->unwritten_bytes) + stat_get(&counters->spare_bytes);
    }
    return bytes;
}

static void add_port(struct tier_figures *figures, const struct tier_port_counters *counters) {
    figures->reads += stat_get(&counters->reads);
    figures->coalesced_reads += stat_get(&counters->coalesced_reads);
    figures->read_bytes += stat_get(&counters->read_bytes);
    figures->memory_reads += stat_get(&counters->memory_reads);
    figures->synchronous_reads += stat_get(&counters->synchronous_reads);
    figures->failed_reads += stat_get(&counters->failed_reads);
    figures->stale_reads += stat_get(&counters->stale_reads);
    figures->writes += stat_get(&counters->writes);
    figures->written_bytes += stat_get(&counters->written_bytes);
    figures->failed_writes += stat_get(&counters->failed_writes);
    figures->appended_records += stat_get(&counters->appended_records);
    figures->appended_bytes += stat_get(&counters->appended_bytes);
    figures->cleaned_segments += stat_get(&counters->cleaned_segments);
    figures->cleaned_records += stat_get(&counters->cleaned_records);
    figures->cleaned_bytes += stat_get(&counters->cleaned_bytes);
    figures->evicted_segments += stat_get(&counters->evicted_segments);
    figures->in_flight += stat_get(&counters->in_flight);
    figures->unwritten_bytes += stat_get(&counters->unwritten_bytes);
    figures->staged_bytes += stat_get(&counters->staged_bytes);
    for (unsigned i = 0; i < TIER_LATENCY_BUCKETS; i++) figures->latency_us[i] += stat_get(&counters->latency_us[i]);
}

void tier_figures(struct tier *tier, struct tier_figures *figures) {
    *figures = (struct tier_figures){.segments = segment_table_usage(tier->segments),
                                     .segment_bytes = tier->segment_bytes,
                                     .size_bytes = (uint64_t)tier->usable_segments * tier->segment_bytes,
                                     .mapped = tier->file.mapped != NULL,
                                     .direct = tier->file.direct,
                                     .pmem = tier->file.pmem != NULL,
                                     .uring = tier_io_kind(tier->ports[0].io) == TIER_IO_URING,
                                     .failing = tier_is_failing(tier),
                                     .full = tier_is_full(tier)};
    for (unsigned i = 0; i < tier->port_count; i++) add_port(figures, &tier->ports[i].counters);
    figures->synchronous_reads += stat_get(&tier->fetches);
    figures->metadata_bytes =
        figures->segments.memory_bytes + ghost_bytes(tier->ghost) + tier->port_count * sizeof(struct tier_port);
}

void tier_tick(struct tier *tier) {
    if (tier->file.pmem && tier->bounded) pmem_pool_forget_mapped(tier->file.pmem);
    if (!tier->file.pmem) tier_file_forget_mapped(&tier->file);
}

/* The gauges at the end of the counters stay. */
void tier_reset_figures(struct tier *tier) {
    for (unsigned i = 0; i < tier->port_count; i++) {
        struct tier_port_counters *counters = &tier->ports[i].counters;
        stat_counter *first = &counters->reads;
        for (stat_counter *counter = first; counter < &counters->staged_bytes; counter++) stat_set(counter, 0);
        for (unsigned k = 0; k < TIER_LATENCY_BUCKETS; k++) stat_set(&counters->latency_us[k], 0);
    }
    stat_set(&tier->fetches, 0);
}
