/* The reading side of a port: copies of blocks, those who wait for them, and the order in which they are told.
 *
 *   waiter --holds--> hold --> copy <-- bucket of the port's table, by block number
 *                              copy --waiting--> holds of those who have to be told
 *
 * A copy is listed in the table from the moment its read starts, so whoever wants the same block joins it. It is idle
 * once nobody holds it, and is then kept until the bound on idle copies pushes it out: a pipeline over neighbours, a
 * SCAN and a value read twice in a row find it there. A copy of an older generation of its segment is never answered
 * with: it is taken out of the table and freed when the last hold goes.
 *
 * Memory in place of the device: what is not written yet is copied out of its unit, a mapped file out of the mapping,
 * and a cached one is first asked with RWF_NOWAIT; in all three nobody waits.
 *
 * A large record, and what a port reads beyond its bound, asks for memory first (tier_gate): twice its size, as what is
 * read is there a second time when it is decompressed, or becomes a reply. Who is refused is "hungry", and asks again
 * each turn, the first before the others.
 *
 * Of a pool of persistent memory a block is verified where it lies, and what stands here as its copy is only that: the
 * records are read in place. Until nobody holds it any more and the turn has ended, its segment is pinned, so that
 * what cleaning, a change or an expiry leaves behind is not written over. Compressed blocks are copied. */

#include "base/clock.h"
#include "base/log.h"
#include "memory/heap.h"
#include "tiering/tier_pmem.h"
#include "tiering/tier_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum {
    LOG_NS = 1000000000,
    HUNGER_S = 5, /* as long as room is made for it at most: longer than a write waits for memory */
};

static struct tier_copy **bucket_of(struct tier_port *port, uint64_t block) {
    return &port->buckets[(block * UINT64_C(0x9e3779b97f4a7c15)) >> 54];
}
_Static_assert(TIER_READER_BUCKETS == 1 << 10, "bucket_of() takes ten bits");

/* ---- the table and the idle ones ---- */

static void unlist(struct tier_copy *copy) {
    if (!copy->listed) return;
    struct tier_copy **link = bucket_of(copy->port, copy->block);
    while (*link != copy) link = &(*link)->next_in_bucket;
    *link = copy->next_in_bucket;
    copy->listed = false;
}

static void leave_idle(struct tier_copy *copy) {
    struct tier_port *port = copy->port;
    if (copy->newer)
        copy->newer->older = copy->older;
    else
        port->newest_idle = copy->older;
    if (copy->older)
        copy->older->newer = copy->newer;
    else
        port->oldest_idle = copy->newer;
    copy->newer = copy->older = NULL;
    port->idle_bytes -= copy->buffer_bytes + copy->raw_bytes;
    port->idle_in_place -= copy->in_place;
}

static void become_idle(struct tier_copy *copy) {
    struct tier_port *port = copy->port;
    copy->newer = NULL;
    copy->older = port->newest_idle;
    if (port->newest_idle)
        port->newest_idle->newer = copy;
    else
        port->oldest_idle = copy;
    port->newest_idle = copy;
    port->idle_bytes += copy->buffer_bytes + copy->raw_bytes;
    port->idle_in_place += copy->in_place;
}

/* Nobody may change what is read in place. */
static void check_untouched(const struct tier_copy *copy) {
#ifdef TERRACE_SANITIZE
    struct pmem_pool *pool = copy->port->tier->file.pmem;
    uint64_t offset = tier_block_offset(copy->block);
    if (tier_pmem_is_bad(pool, copy->segment, 1)) return;
    const char *at = tier_pmem_at(pool, offset, tier_pmem_reach(pool, offset));
    assert(at &&
           tier_block_verify(at, tier_pmem_reach(pool, offset), copy->block, copy->generation) == TIER_BLOCK_GOOD);
#else
    (void)copy;
#endif
}

/* The gate's promise, down to `left`, is in the resident size, or not needed any more. */
static void settle_promise(struct tier_copy *copy, size_t left) {
    if (copy->asked <= left) return;
    const struct tier_gate *gate = &copy->port->tier->gate;
    gate->settle(gate->ctx, copy->asked - left);
    copy->asked = left;
}

static void free_copy(struct tier_copy *copy) {
    unlist(copy);
    settle_promise(copy, 0);
    if (copy->in_place) {
        check_untouched(copy);
        segment_table_unpin(copy->port->tier->segments, copy->segment);
    }
    stat_add(&copy->port->counters.staged_bytes, -(uint64_t)(copy->buffer_bytes + copy->raw_bytes));
    free(copy->buffer);
    free(copy->raw);
    free(copy);
}

/* Nobody holds it any more. */
static void settle(struct tier_copy *copy) {
    if (copy->state == TIER_COPY_READING) return; /* its end settles it */
    settle_promise(copy, 0);
    if (copy->state == TIER_COPY_GOOD && copy->listed)
        become_idle(copy);
    else
        free_copy(copy);
}

static struct tier_copy *find_copy(struct tier_port *port, uint64_t block, uint32_t generation) {
    struct tier_copy *copy = *bucket_of(port, block);
    while (copy && copy->block != block) copy = copy->next_in_bucket;
    if (!copy || copy->generation == generation) return copy;
    bool is_idle = copy->holds == 0 && copy->state != TIER_COPY_READING;
    unlist(copy);
    if (is_idle) {
        leave_idle(copy);
        free_copy(copy);
    }
    return NULL;
}

/* ---- holds ---- */

static void hold(struct tier_copy *copy, struct tier_waiter *waiter, bool wait) {
    struct tier_port *port = copy->port;
    struct tier_hold *held = port->spare_holds;
    if (held)
        port->spare_holds = held->next;
    else if (!(held = malloc(sizeof(*held))))
        abort(); /* a few bytes; without them a client would hang for ever */
    if (copy->holds++ == 0 && copy->state == TIER_COPY_GOOD) leave_idle(copy);
    *held = (struct tier_hold){.copy = copy, .waiter = wait ? waiter : NULL, .next = waiter->holds};
    waiter->holds = held;
    if (!wait) return;
    waiter->outstanding++;
    held->next_of_copy = copy->waiting;
    copy->waiting = held;
}

static void drop_hold(struct tier_port *port, struct tier_waiter *waiter, struct tier_hold *held) {
    struct tier_copy *copy = held->copy;
    if (copy->drawer == waiter) copy->drawer = NULL;
    if (held->waiter) {
        struct tier_hold **link = &copy->waiting;
        while (*link != held) link = &(*link)->next_of_copy;
        *link = held->next_of_copy;
        held->waiter->outstanding--;
    }
    if (--copy->holds == 0) settle(copy);
    held->next = port->spare_holds;
    port->spare_holds = held;
}

static void release_holds(struct tier_port *port, struct tier_waiter *waiter, struct tier_hold **holds) {
    while (*holds) {
        struct tier_hold *held = *holds;
        *holds = held->next;
        drop_hold(port, waiter, held);
    }
}

void tier_run_begins(struct tier_waiter *waiter) {
    if (!waiter->holds) return;
    waiter->before = waiter->holds;
    waiter->holds = NULL;
}

/* What it had claimed is in its reply now, and nobody else's. */
static void spend(struct tier_hold *holds, const struct tier_waiter *waiter) {
    for (; holds; holds = holds->next)
        if (holds->copy->drawer == waiter && holds->copy->state != TIER_COPY_READING) settle_promise(holds->copy, 0);
}

void tier_run_ends(struct tier_port *port, struct tier_waiter *waiter, bool waits) {
    if (!waits) {
        spend(waiter->before, waiter);
        spend(waiter->holds, waiter);
        tier_release(port, waiter);
    } else if (!waiter->holds) { /* the try has not even begun */
        waiter->holds = waiter->before;
        waiter->before = NULL;
    } else if (waiter->before) {
        release_holds(port, waiter, &waiter->before);
    }
}

void tier_release(struct tier_port *port, struct tier_waiter *waiter) {
    release_holds(port, waiter, &waiter->before);
    release_holds(port, waiter, &waiter->holds);
    waiter->refused = false;
    assert(waiter->outstanding == 0);
    if (!waiter->is_ready) return;
    struct tier_waiter **link = &port->ready, *before = NULL;
    while (*link != waiter) {
        before = *link;
        link = &(*link)->next;
    }
    *link = waiter->next;
    if (port->last_ready == waiter) port->last_ready = before;
    waiter->is_ready = false;
}

/* It may be on the list already: told in the middle of asking, because somebody waited on the spot, it asked for more.
 */
static void make_ready(struct tier_port *port, struct tier_waiter *waiter) {
    if (waiter->is_ready) return;
    waiter->is_ready = true;
    waiter->next = NULL;
    if (port->ready)
        port->last_ready->next = waiter;
    else
        port->ready = waiter;
    port->last_ready = waiter;
}

struct tier_waiter *tier_next_ready(struct tier_port *port) {
    struct tier_waiter *waiter;
    do {
        if (!(waiter = port->ready)) return NULL;
        port->ready = waiter->next;
        if (!port->ready) port->last_ready = NULL;
        waiter->is_ready = false;
    } while (waiter->outstanding);
    return waiter;
}

bool tier_any_ready(const struct tier_port *port) {
    return port->ready != NULL;
}

static void tell_waiting(struct tier_copy *copy) {
    struct tier_hold *held = copy->waiting;
    copy->waiting = NULL;
    for (; held; held = held->next_of_copy) {
        struct tier_waiter *waiter = held->waiter;
        held->waiter = NULL;
        if (--waiter->outstanding == 0) make_ready(copy->port, waiter);
    }
}

/* ---- what was read ---- */

static size_t offset_in_buffer(const struct tier_copy *copy) {
    return (size_t)(tier_block_offset(copy->block) % TIER_PAGE_BYTES);
}

static void resize_buffers(struct tier_copy *copy, size_t buffer_bytes, size_t raw_bytes) {
    uint64_t before = copy->buffer_bytes + copy->raw_bytes;
    copy->buffer_bytes = buffer_bytes;
    copy->raw_bytes = raw_bytes;
    stat_add(&copy->port->counters.staged_bytes, buffer_bytes + raw_bytes - before);
}

/* One line a second at most: a broken device would fill the disk with them. */
static void log_failure(struct tier_copy *copy, const char *what) {
    struct tier_port *port = copy->port;
    int64_t now_ns = clock_monotonic_ns();
    if (now_ns < port->logged_ns + LOG_NS) return;
    port->logged_ns = now_ns;
    log_warning("tier: the block at %llu cannot be read (%s): its keys answer with an error",
                (unsigned long long)tier_block_offset(copy->block), what);
}

/* A small block lies in whole pages. A port that has read much keeps blocks alone. */
static void leave_pages(struct tier_copy *copy) {
    const struct tier_port *port = copy->port;
    size_t staged = stat_get(&port->counters.staged_bytes) - port->idle_bytes;
    if (copy->raw || staged <= port->tier->staged_max / 4 || copy->buffer_bytes < 2 * copy->payload_bytes) return;
    if (!(copy->raw = malloc(copy->payload_bytes ? copy->payload_bytes : 1))) return;
    memcpy(copy->raw, copy->payload, copy->payload_bytes);
    copy->payload = copy->raw;
    free(copy->buffer);
    copy->buffer = NULL;
    resize_buffers(copy, 0, copy->payload_bytes);
}

/* The bytes are there: verifies and opens the block. */
static void open_copy(struct tier_copy *copy) {
    struct tier_port_counters *counters = &copy->port->counters;
    const char *at = copy->buffer + offset_in_buffer(copy);
    size_t available = copy->buffer_bytes - offset_in_buffer(copy);
    enum tier_block_status status = tier_block_verify(at, available, copy->block, copy->generation);
    if (status == TIER_BLOCK_GOOD) {
        struct tier_block_header header;
        memcpy(&header, at, sizeof(header));
        bool compressed = header.flags & TIER_FLAG_LZ4;
        if (compressed) copy->raw = malloc(header.raw_bytes ? header.raw_bytes : 1);
        copy->payload = compressed && !copy->raw ? NULL : tier_block_open(at, copy->raw);
        copy->state = copy->payload ? TIER_COPY_GOOD : TIER_COPY_FAILED;
        if (copy->payload) {
            copy->payload_bytes = header.raw_bytes;
            if (compressed) {
                free(copy->buffer);
                copy->buffer = NULL;
                resize_buffers(copy, 0, header.raw_bytes);
            }
            leave_pages(copy);
            return;
        }
    }
    bool reused = segment_table_generation(copy->port->tier->segments, copy->segment) != copy->generation;
    copy->state = reused ? TIER_COPY_STALE : TIER_COPY_FAILED;
    stat_add(reused ? &counters->stale_reads : &counters->failed_reads, 1);
    if (!reused) log_failure(copy, "is damaged");
}

/* What is left of the promise is for what will be made of the block: a reply. */
static void settle_read(struct tier_copy *copy) {
    size_t left = copy->asked / 2;
    if (left > copy->payload_bytes) left = copy->payload_bytes;
    settle_promise(copy, copy->state == TIER_COPY_GOOD ? left : 0);
}

static void end_copy(struct tier_copy *copy) {
    if (copy->state != TIER_COPY_GOOD) unlist(copy); /* the next to ask reads it again */
    settle_read(copy);
    tell_waiting(copy);
    if (copy->holds == 0) settle(copy);
}

static unsigned latency_bucket(uint64_t us) {
    unsigned bucket = us ? 64u - (unsigned)__builtin_clzll(us) : 0;
    return bucket < TIER_LATENCY_BUCKETS ? bucket : TIER_LATENCY_BUCKETS - 1;
}

static bool read_further(struct tier_copy *copy);

static void read_done(struct tier_op *op) {
    struct tier_copy *copy = (struct tier_copy *)op;
    struct tier_port_counters *counters = &copy->port->counters;
    uint64_t ns = clock_elapsed_ns(copy->started);
    stat_add(&counters->latency_us[latency_bucket(ns / 1000)], 1);
    stat_add(&counters->in_flight, (uint64_t)-1);
    if (op->error) {
        copy->state = TIER_COPY_FAILED;
        stat_add(&counters->failed_reads, 1);
        log_failure(copy, strerror(op->error));
    } else if (read_further(copy)) {
        return;
    } else {
        open_copy(copy);
    }
    end_copy(copy);
}
_Static_assert(offsetof(struct tier_copy, op) == 0, "read_done() casts");

static void start_read(struct tier_copy *copy) {
    struct tier_port *port = copy->port;
    copy->op.memory = copy->buffer;
    copy->op.offset = tier_block_offset(copy->block) / TIER_PAGE_BYTES * TIER_PAGE_BYTES;
    copy->op.bytes = (uint32_t)copy->buffer_bytes;
    copy->op.write = false;
    copy->op.error = 0;
    copy->op.done = read_done;
    copy->state = TIER_COPY_READING;
    stat_add(&port->counters.reads, 1);
    stat_add(&port->counters.read_bytes, copy->buffer_bytes);
    stat_add(&port->counters.in_flight, 1);
    tier_io_start(port->io, &copy->op);
}

/* How many pages a block that was longer than its reference could say really has; 0: what was read suffices, or it
 * is no block. */
static size_t pages_missing(const struct tier_copy *copy) {
    size_t at = offset_in_buffer(copy), available = copy->buffer_bytes - at;
    size_t bytes = tier_block_bytes(copy->buffer + at, TIER_FILE_BYTES_MAX);
    return bytes > available && bytes <= HEAP_OBJECT_MAX ? tier_pages_up(at + bytes) : 0;
}

static bool replace_buffer(struct tier_copy *copy, size_t bytes) {
    char *buffer = tier_allocate_pages(bytes);
    if (!buffer) return false;
    free(copy->buffer);
    copy->buffer = buffer;
    resize_buffers(copy, bytes, copy->raw_bytes);
    return true;
}

/* ---- memory for it ---- */

/* What the largest piece of memory will be that it needs: a buffer of `bytes` (0: it has one), or what is in it,
 * decompressed. Nobody has verified the header that says so, but no more than a record may have is believed. */
static size_t bytes_needed(const struct tier_copy *copy, size_t bytes) {
    struct tier_block_header header;
    const char *at = copy->buffer ? copy->buffer + offset_in_buffer(copy) : NULL;
    if (!at || !tier_block_bytes(at, TIER_FILE_BYTES_MAX)) return bytes;
    memcpy(&header, at, sizeof(header));
    return (header.flags & TIER_FLAG_LZ4) && header.raw_bytes > bytes ? header.raw_bytes : bytes;
}

/* Whether it may have a buffer of `bytes` (0: it has one), and what follows from that. */
static bool may_take(struct tier_copy *copy, size_t bytes) {
    const struct tier_port *port = copy->port;
    const struct tier *tier = port->tier;
    if (copy->fed || !tier->gate.ask) return true;
    size_t staged = stat_get(&port->counters.staged_bytes) - port->idle_bytes, needed = bytes_needed(copy, bytes);
    if (copy->asked >= 2 * needed || staged + needed <= tier->staged_max) return true;
    if (!tier->gate.ask(tier->gate.ctx, 2 * needed - copy->asked)) return false;
    copy->asked = 2 * needed;
    return true;
}

static void become_hungry(struct tier_copy *copy, size_t wanted) {
    struct tier_port *port = copy->port;
    copy->hungry = true;
    copy->wanted = wanted;
    copy->hungry_ns = clock_monotonic_ns();
    copy->next_hungry = NULL;
    if (port->hungry)
        port->last_hungry->next_hungry = copy;
    else
        port->hungry = copy;
    port->last_hungry = copy;
}

static void leave_hungry(struct tier_copy *copy) {
    struct tier_port *port = copy->port;
    struct tier_copy **link = &port->hungry, *before = NULL;
    while (*link != copy) {
        before = *link;
        link = &before->next_hungry;
    }
    *link = copy->next_hungry;
    if (port->last_hungry == copy) port->last_hungry = before;
    copy->hungry = false;
}

static void renounce(struct tier_hold *holds, const struct tier_waiter *waiter) {
    for (; holds; holds = holds->next)
        if (holds->copy->drawer == waiter) holds->copy->drawer = NULL;
}

/* Each copy counts once, however often it is held. */
static size_t claim(struct tier_hold *holds, struct tier_waiter *waiter) {
    size_t bytes = 0;
    for (; holds; holds = holds->next) {
        if (!holds->copy->asked || holds->copy->drawer) continue;
        holds->copy->drawer = waiter;
        bytes += holds->copy->asked;
    }
    return bytes;
}

size_t tier_claim_promised(struct tier_waiter *waiter) {
    renounce(waiter->holds, waiter);
    renounce(waiter->before, waiter);
    return claim(waiter->holds, waiter) + claim(waiter->before, waiter);
}

static void forgo(struct tier_hold *holds, const struct tier_waiter *waiter) {
    for (; holds; holds = holds->next)
        if (!holds->copy->drawer || holds->copy->drawer == waiter) settle_promise(holds->copy, 0);
}

void tier_forgo_promised(struct tier_waiter *waiter) {
    forgo(waiter->holds, waiter);
    forgo(waiter->before, waiter);
}

bool tier_is_hungry(const struct tier_port *port) {
    return port->hungry != NULL;
}

static bool read_further(struct tier_copy *copy) {
    size_t bytes = copy->alone ? pages_missing(copy) : 0;
    if (!may_take(copy, bytes)) {
        become_hungry(copy, bytes);
        return true;
    }
    if (!bytes || !replace_buffer(copy, bytes)) return false;
    start_read(copy);
    return true;
}

/* ---- memory in place of the device ---- */

static bool read_memory(struct tier_copy *copy) {
    struct tier *tier = copy->port->tier;
    uint64_t offset = tier_block_offset(copy->block) / TIER_PAGE_BYTES * TIER_PAGE_BYTES;
    if (segment_table_has_unwritten(tier->segments, copy->segment) &&
        tier_copy_unwritten(tier, offset, copy->buffer, copy->buffer_bytes))
        return true;
    if (tier->file.pmem) return tier_pmem_read(tier->file.pmem, offset, copy->buffer, copy->buffer_bytes);
    if (tier->file.mapped) {
        memcpy(copy->buffer, tier->file.mapped + offset, copy->buffer_bytes);
        return true;
    }
    if (!tier->file.cached) return false;
    struct iovec vector = {copy->buffer, copy->buffer_bytes};
    return preadv2(tier->file.fd, &vector, 1, (off_t)offset, RWF_NOWAIT) == (ssize_t)copy->buffer_bytes;
}

/* True: it has been read, and opened. */
static bool read_from_memory_or_device(struct tier_copy *copy) {
    bool there = read_memory(copy);
    size_t bytes = there && copy->alone ? pages_missing(copy) : 0;
    if (there && !may_take(copy, bytes)) {
        copy->state = TIER_COPY_READING;
        become_hungry(copy, bytes);
        return false;
    }
    if (bytes) there = replace_buffer(copy, bytes) && read_memory(copy);
    if (!there) {
        start_read(copy);
        return false;
    }
    stat_add(&copy->port->counters.memory_reads, 1);
    open_copy(copy);
    return true;
}

/* ---- asking ---- */

static size_t bytes_to_read(uint64_t ref) {
    if (ref_medium(ref) != MEDIUM_TIER_ALONE) return TIER_PAGE_BYTES;
    unsigned pages = tier_ref_which(ref);
    return pages == TIER_PAGES_UNKNOWN ? TIER_PAGE_BYTES : (size_t)pages * TIER_PAGE_BYTES;
}

struct looking {
    const char *at;
    size_t available;
    uint64_t block;
    uint32_t generation;
    enum tier_block_status status;
    struct tier_block_header header;
};

static void look_at_block(void *ctx) {
    struct looking *looking = ctx;
    looking->status = tier_block_verify(looking->at, looking->available, looking->block, looking->generation);
    memcpy(&looking->header, looking->at, sizeof(looking->header));
}

/* Whether the block can be read where it lies; then its segment is pinned. What is wrong with it, if anything, is found
 * again, and told, by reading it in the usual way. */
static bool open_in_place(struct tier_copy *copy) {
    struct tier *tier = copy->port->tier;
    struct pmem_pool *pool = tier->file.pmem;
    uint64_t offset = tier_block_offset(copy->block);
    if (!pool || segment_table_has_unwritten(tier->segments, copy->segment)) return false;
    struct looking looking = {
        .available = tier_pmem_reach(pool, offset), .block = copy->block, .generation = copy->generation};
    looking.at = tier_pmem_at(pool, offset, looking.available);
    if (!looking.at || looking.available < sizeof(looking.header) ||
        !tier_pmem_look(pool, offset, looking.available, look_at_block, &looking) ||
        looking.status != TIER_BLOCK_GOOD || (looking.header.flags & TIER_FLAG_LZ4))
        return false;
    segment_table_pin(tier->segments, copy->segment);
    copy->in_place = true;
    copy->payload = tier_block_open(looking.at, NULL);
    copy->state = TIER_COPY_GOOD;
    copy->payload_bytes = looking.header.raw_bytes;
    return true;
}

static void list(struct tier_copy *copy) {
    struct tier_copy **bucket = bucket_of(copy->port, copy->block);
    copy->next_in_bucket = *bucket;
    *bucket = copy;
    copy->listed = true;
}

/* NULL: no memory. `fed`: it cannot wait for any. */
static struct tier_copy *begin_copy(struct tier_port *port, uint64_t ref, uint32_t segment, uint32_t generation,
                                    bool fed) {
    struct tier_copy *copy = calloc(1, sizeof(*copy));
    size_t bytes = bytes_to_read(ref);
    if (!copy) return NULL;
    copy->port = port;
    copy->block = tier_ref_block(ref);
    copy->segment = segment;
    copy->generation = generation;
    copy->alone = ref_medium(ref) == MEDIUM_TIER_ALONE;
    if (open_in_place(copy)) {
        list(copy);
        stat_add(&port->counters.memory_reads, 1);
        become_idle(copy);
        return copy;
    }
    copy->fed = fed;
    copy->started = clock_ticks();
    if (!may_take(copy, bytes)) {
        list(copy);
        copy->state = TIER_COPY_READING;
        become_hungry(copy, bytes);
        return copy;
    }
    if (!(copy->buffer = tier_allocate_pages(bytes))) {
        settle_promise(copy, 0);
        free(copy);
        return NULL;
    }
    resize_buffers(copy, bytes, 0);
    list(copy);
    if (!read_from_memory_or_device(copy)) return copy;
    settle_read(copy);
    if (copy->state == TIER_COPY_GOOD)
        become_idle(copy);
    else
        unlist(copy);
    return copy;
}

/* ---- the hungry ---- */

static void fail_hungry(struct tier_copy *copy, const char *why) {
    leave_hungry(copy);
    copy->refused = true;
    for (struct tier_hold *held = copy->waiting; held; held = held->next_of_copy) held->waiter->refused = true;
    copy->state = TIER_COPY_FAILED;
    stat_add(&copy->port->counters.failed_reads, 1);
    log_failure(copy, why);
    end_copy(copy);
}

/* It has what it asked for. Meanwhile its block may still be in memory, as it was when it came. */
static void feed(struct tier_copy *copy) {
    leave_hungry(copy);
    bool fed = copy->wanted == 0 || replace_buffer(copy, copy->wanted);
    if (!fed) {
        copy->state = TIER_COPY_FAILED;
        stat_add(&copy->port->counters.failed_reads, 1);
    }
    if (!fed || read_from_memory_or_device(copy)) end_copy(copy);
}

void tier_reader_feed(struct tier_port *port, int64_t now_ns) {
    while (port->hungry) {
        struct tier_copy *copy = port->hungry;
        if (copy->holds == 0) { /* nobody wants it any more */
            leave_hungry(copy);
            free_copy(copy);
        } else if (may_take(copy, copy->wanted)) {
            feed(copy);
        } else if (now_ns - copy->hungry_ns > HUNGER_S * INT64_C(1000000000)) {
            fail_hungry(copy, "no memory for it");
        } else {
            return;
        }
    }
}

static struct tier_copy *find_for(struct tier_port *port, uint64_t ref, uint32_t *segment, uint32_t *generation) {
    struct segment_table *segments = port->tier->segments;
    uint64_t block = tier_ref_block(ref);
    *segment = segment_table_of(segments, tier_block_offset(block));
    *generation = segment_table_generation(segments, *segment);
    return find_copy(port, block, *generation);
}

static enum tier_status status_of(const struct tier_copy *copy, uint64_t ref, const struct record **record) {
    if (copy->state == TIER_COPY_READING || copy->state == TIER_COPY_STALE) return TIER_PENDING;
    *record = copy->state == TIER_COPY_GOOD
                  ? tier_block_record(copy->payload, copy->payload_bytes, tier_ref_ordinal(ref))
                  : NULL;
    return *record ? TIER_READY : TIER_FAILED;
}

/* A failed copy is in the table no more, but those who waited for it still hold it. NULL: there is none. */
static struct tier_copy *find_failed(const struct tier_hold *holds, uint64_t block, uint32_t generation) {
    for (const struct tier_hold *held = holds; held; held = held->next)
        if (held->copy->block == block && held->copy->generation == generation && held->copy->state == TIER_COPY_FAILED)
            return held->copy;
    return NULL;
}

enum tier_status tier_peek(struct tier_port *port, uint64_t ref, const struct record **record) {
    uint32_t segment, generation;
    struct tier_copy *copy = find_for(port, ref, &segment, &generation);
    return copy ? status_of(copy, ref, record) : TIER_PENDING;
}

enum tier_status tier_request(struct tier_port *port, uint64_t ref, struct tier_waiter *waiter,
                              const struct record **record) {
    uint32_t segment, generation;
    struct tier_copy *copy = find_for(port, ref, &segment, &generation);
    if (copy) {
        stat_add(&port->counters.coalesced_reads, 1);
    } else {
        copy = find_failed(waiter->before, tier_ref_block(ref), generation);
        if (copy) { /* remembered as long as it waits for others, or it would be asked for in turn with them for ever */
            hold(copy, waiter, false);
            waiter->denied |= copy->refused;
            return TIER_FAILED;
        }
        copy = begin_copy(port, ref, segment, generation, waiter->insists);
        if (!copy) return TIER_FAILED;
    }
    if (copy->state == TIER_COPY_FAILED || copy->state == TIER_COPY_STALE) { /* at once, from memory */
        free_copy(copy);
        return TIER_FAILED;
    }
    hold(copy, waiter, copy->state == TIER_COPY_READING);
    if (waiter->insists) {
        copy->fed = true;
        if (copy->hungry) feed(copy);
    }
    enum tier_status status = status_of(copy, ref, record);
    if (status == TIER_PENDING) waiter->missed = true;
    return status;
}

enum tier_status tier_load(struct tier_port *port, uint64_t ref, const struct record **record) {
    uint32_t segment, generation;
    struct tier_copy *copy = find_for(port, ref, &segment, &generation);
    if (!copy && !(copy = begin_copy(port, ref, segment, generation, true))) return TIER_FAILED;
    if (copy->state == TIER_COPY_READING) {
        struct tier_waiter waiter = {0};
        stat_add(&port->counters.synchronous_reads, 1);
        hold(copy, &waiter, true);
        copy->fed = true;
        if (copy->hungry) feed(copy);
        while (copy->state == TIER_COPY_READING) tier_io_wait(port->io, &copy->op);
        enum tier_status status = status_of(copy, ref, record);
        tier_release(port, &waiter);
        return status == TIER_PENDING ? TIER_FAILED : status;
    }
    enum tier_status status = status_of(copy, ref, record);
    if (copy->state != TIER_COPY_GOOD && copy->holds == 0) free_copy(copy);
    return status == TIER_PENDING ? TIER_FAILED : status;
}

bool tier_reads_at_once(const struct tier_port *port) {
    return port->tier->file.pmem != NULL;
}

bool tier_is_crowded(const struct tier_port *port) {
    return stat_get(&port->counters.staged_bytes) - port->idle_bytes > port->tier->staged_max;
}

bool tier_is_full_of_copies(const struct tier_port *port) {
    return !port->tier->gate.ask && tier_is_crowded(port);
}

/* ---- the turn ---- */

void tier_reader_trim(struct tier_port *port, size_t most) {
    for (struct tier_copy *copy = port->newest_idle, *older; port->idle_in_place > 0; copy = older) {
        older = copy->older;
        if (!copy->in_place) continue;
        leave_idle(copy);
        free_copy(copy);
    }
    while (port->idle_bytes > most) {
        struct tier_copy *copy = port->oldest_idle;
        leave_idle(copy);
        free_copy(copy);
    }
}

void tier_reader_free(struct tier_port *port) {
    while (port->hungry) {
        struct tier_copy *copy = port->hungry;
        leave_hungry(copy);
        free_copy(copy);
    }
    tier_reader_trim(port, 0);
    while (port->spare_holds) {
        struct tier_hold *next = port->spare_holds->next;
        free(port->spare_holds);
        port->spare_holds = next;
    }
}
