/* The segments' rows, and what finds a row without looking at all of them.
 *
 * Free segments are the zeros of a bitmap; the search begins at the lowest word that may have one. A run of several is
 * searched for bit by bit: that is for records larger than a segment only.
 *
 * For choosing, 64 segments are a group, and a group has bounds: no sealed segment in it lives by a smaller share, none
 * was sealed earlier. A choice reads the bounds of all groups, and the rows of those alone that could hold something
 * better than what was found so far. A bound that proves too low, since the segment it came from is gone, is corrected
 * then
 * ("refined"). A file of 4 million segments (16 TB) has 64 Ki groups: 64 KB of shares, 256 KB of orders.
 *
 *   share of a row   0 .. 254: how many of its records live, in 254ths, rounded down; 255 as a bound: nothing sealed
 *   order            counts sealings, from 1 on; 0: nothing sealed
 *
 * Records leave without the lock. Whoever takes the count to zero takes the lock, and looks again what the row has
 * become meanwhile: `release_if_empty` decides from the row alone, so it does no harm to come late or twice. Everybody
 * else lowers the group's bound of shares. Two orders of events make that safe, both of them sequentially consistent:
 *
 *   drop:  live -= n; read state, read bound        seal:   state = SEALED; read live, lower bound
 *                                                   refine: bound = 255;    read live, lower bound
 *
 * Either the drop sees the new state (the raised bound) and lowers the bound itself, or the other sees the lowered
 * count. */

#include "tiering/segment_table.h"

#include "base/random.h"
#include "tiering/tier_layout.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 64, SHARE_FULL = 254, SHARE_NONE = 255, STATES = SEGMENT_CONTINUED + 1 };
enum { ORDER_ANY, ORDER_VOLATILE, ORDERS };

struct row {
    _Atomic uint32_t live, records;
    _Atomic uint32_t reuses;     /* generation, from the table's first one */
    _Atomic uint32_t used_units; /* of TIER_UNIT_BYTES; from seal on */
    uint32_t order;
    _Atomic uint16_t writes;
    _Atomic uint8_t state;
    bool expires;
    /* For each page the earliest expiry (high half) and the latest, in seconds, outwards; 0: nothing known. */
    _Atomic uint64_t *expiries;
};
_Static_assert(sizeof(struct row) == 32 || sizeof(void *) != 8, "two to a cache line");

struct segment_table {
    pthread_mutex_t lock;
    unsigned shift; /* of segment_bytes */
    uint32_t base;  /* bytes before the first segment */
    bool persistent;
    _Atomic uint32_t *pins; /* of each segment */
    uint64_t cut, *cuts; /* the last one; for each segment the last one before it was taken, NULL unless persistent */
    uint32_t segments, reserved, groups;
    _Atomic uint32_t images_now, images_next, images_of_two; /* see segment_table_keep_for_images() */
    _Atomic uint32_t images_taken;                           /* since the cut, until its checkpoint has ended */
    _Atomic uint32_t images_open, images_grown;
    uint32_t first_generation;
    uint32_t next_order;
    uint32_t first_free_group; /* none before it has a free segment */
    unsigned homes;
    uint32_t first_free_at[SEGMENT_HOMES_MAX]; /* likewise, of each home */
    uint64_t every[SEGMENT_HOMES_MAX];         /* bits k, k + homes, ... of a group */
    _Atomic uint32_t highest, counts[STATES];
    size_t expiry_bytes;
    struct row *rows;
    uint64_t *taken;          /* a bit each; those behind the last segment are 1 */
    _Atomic uint8_t *share;   /* bounds, of each group */
    uint32_t *oldest[ORDERS]; /* bounds, of each group; guarded by the lock */
};

/* ---- life ---- */

static void mark_absent(struct segment_table *table, const struct segment_table_options *options) {
    for (uint32_t i = 0; options->exists && i < table->segments; i++) {
        if (options->exists(options->exists_ctx, i)) continue;
        table->rows[i].state = SEGMENT_ABSENT;
        table->taken[i / GROUP] |= UINT64_C(1) << i % GROUP;
        table->counts[SEGMENT_FREE]--;
        table->counts[SEGMENT_ABSENT]++;
    }
}

struct segment_table *segment_table_create(const struct segment_table_options *options) {
    struct segment_table *table = calloc(1, sizeof(*table));
    if (!table) return NULL;
    pthread_mutex_init(&table->lock, NULL);
    table->shift = (unsigned)__builtin_ctzll(options->segment_bytes);
    table->segments = options->segments;
    table->reserved = options->reserved;
    table->base = options->base_bytes;
    table->persistent = options->persistent;
    table->cut = options->cut;
    table->images_now = UINT32_MAX;
    table->groups = (uint32_t)(((uint64_t)options->segments + GROUP - 1) / GROUP);
    table->next_order = 1;
    table->homes = options->homes ? options->homes : 1;
    assert(table->homes <= SEGMENT_HOMES_MAX);
    for (unsigned bit = 0; bit < GROUP; bit++) table->every[bit % table->homes] |= UINT64_C(1) << bit;
    random_fill_secret(&table->first_generation, sizeof(table->first_generation));
    table->counts[SEGMENT_FREE] = options->segments;
    /* Fresh memory is not resident until it is used, so rows of segments never taken cost nothing. */
    table->rows = calloc(options->segments ? options->segments : 1, sizeof(*table->rows));
    table->taken = calloc(table->groups + 1, sizeof(*table->taken));
    table->share = calloc(table->groups + 1, sizeof(*table->share));
    table->pins = calloc(options->segments ? options->segments : 1, sizeof(*table->pins));
    if (table->persistent) table->cuts = calloc(options->segments ? options->segments : 1, sizeof(*table->cuts));
    bool complete = table->rows && table->taken && table->share && table->pins && (table->cuts || !table->persistent);
    for (unsigned i = 0; i < ORDERS; i++) {
        table->oldest[i] = calloc(table->groups + 1, sizeof(*table->oldest[i]));
        complete &= table->oldest[i] != NULL;
    }
    if (!complete) {
        segment_table_destroy(table);
        return NULL;
    }
    for (uint32_t group = 0; group < table->groups; group++) table->share[group] = SHARE_NONE;
    if (options->segments % GROUP) table->taken[table->groups - 1] = UINT64_MAX << options->segments % GROUP;
    mark_absent(table, options);
    return table;
}

void segment_table_destroy(struct segment_table *table) {
    if (!table) return;
    uint32_t highest = table->highest;
    for (uint32_t i = 0; i < highest; i++) free(table->rows[i].expiries);
    for (unsigned i = 0; i < ORDERS; i++) free(table->oldest[i]);
    free((void *)table->share);
    free(table->taken);
    free(table->cuts);
    free((void *)table->pins);
    free(table->rows);
    pthread_mutex_destroy(&table->lock);
    free(table);
}

size_t segment_table_segment_bytes(const struct segment_table *table) {
    return (size_t)1 << table->shift;
}

uint32_t segment_table_of(const struct segment_table *table, uint64_t offset) {
    return (uint32_t)((offset - table->base) >> table->shift);
}

uint64_t segment_table_offset(const struct segment_table *table, uint32_t segment) {
    return table->base + ((uint64_t)segment << table->shift);
}

uint32_t segment_table_free_count(const struct segment_table *table) {
    return atomic_load_explicit(&table->counts[SEGMENT_FREE], memory_order_relaxed);
}

static uint32_t more(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static uint32_t less(uint32_t from, uint32_t what) {
    return from > what ? from - what : 0;
}

static uint32_t images_of(const struct segment_table *table) {
    return atomic_load_explicit(&table->counts[SEGMENT_IMAGE], memory_order_relaxed) +
           atomic_load_explicit(&table->images_open, memory_order_relaxed);
}

/* Images that there will be when the next checkpoint counts. What is needed is an estimate: images that are hardly more
 * are not taken for stale, or one checkpoint would follow the other for nothing. */
static uint32_t images_then(const struct segment_table *table) {
    uint64_t now = atomic_load_explicit(&table->images_now, memory_order_relaxed), images = images_of(table);
    bool is_kept = segment_table_free_count(table) >= 2 * now;
    return (uint32_t)(images > now && (is_kept || images <= now + now / 8 + 1) ? images : now);
}

static uint32_t pending_of(const struct segment_table *table) {
    return atomic_load_explicit(&table->counts[SEGMENT_PENDING], memory_order_relaxed);
}

uint32_t segment_table_pending_count(const struct segment_table *table) {
    return pending_of(table) + less(images_of(table), images_then(table));
}

static struct row *row_of(const struct segment_table *table, uint32_t segment) {
    assert(segment < table->segments);
    return &table->rows[segment];
}

static void lock(const struct segment_table *table) {
    pthread_mutex_lock((pthread_mutex_t *)&table->lock);
}

static void unlock(const struct segment_table *table) {
    pthread_mutex_unlock((pthread_mutex_t *)&table->lock);
}

/* ---- bounds; the lock is held unless said otherwise ---- */

static unsigned share_of(uint32_t live, uint32_t records) {
    if (live >= records) return records ? SHARE_FULL : 0;
    return (unsigned)((uint64_t)live * SHARE_FULL / records);
}

/* With or without the lock. */
static void lower_share(struct segment_table *table, uint32_t segment, unsigned share) {
    _Atomic uint8_t *bound = &table->share[segment / GROUP];
    uint8_t seen = atomic_load(bound);
    while (share < seen && !atomic_compare_exchange_weak(bound, &seen, (uint8_t)share)) {
    }
}

static unsigned row_share(const struct row *row) {
    return share_of(atomic_load(&row->live), atomic_load(&row->records));
}

/* How long ago, in sealings. */
static uint32_t age_of(const struct segment_table *table, uint32_t order) {
    return order ? table->next_order - order : 0;
}

static void note_order(struct segment_table *table, uint32_t segment) {
    const struct row *row = row_of(table, segment);
    for (unsigned i = 0; i < ORDERS; i++) {
        if (i == ORDER_VOLATILE && !row->expires) continue;
        uint32_t *bound = &table->oldest[i][segment / GROUP];
        if (age_of(table, row->order) > age_of(table, *bound)) *bound = row->order;
    }
}

/* ---- states; the lock is held ---- */

/* Of the segment that begins a run; most are runs of one. */
static uint32_t run_of(const struct segment_table *table, uint32_t segment) {
    uint32_t run = 1;
    while (segment + run < table->segments && row_of(table, segment + run)->state == SEGMENT_CONTINUED) run++;
    return run;
}

/* The counts go by runs: a continued segment is counted where its first one is. */
static void set_state(struct segment_table *table, uint32_t segment, uint32_t run, enum segment_state state) {
    struct row *row = row_of(table, segment);
    table->counts[row->state] -= run;
    table->counts[state] += run;
    atomic_store(&row->state, (uint8_t)state);
}

static void set_taken(struct segment_table *table, uint32_t segment, bool taken) {
    uint64_t bit = UINT64_C(1) << segment % GROUP;
    if (taken) {
        table->taken[segment / GROUP] |= bit;
    } else {
        uint32_t *first_at = &table->first_free_at[segment % table->homes];
        table->taken[segment / GROUP] &= ~bit;
        if (segment / GROUP < table->first_free_group) table->first_free_group = segment / GROUP;
        if (segment / GROUP < *first_at) *first_at = segment / GROUP;
    }
}

static size_t expiry_bytes(const struct segment_table *table, uint32_t run) {
    /* A run has one block, which begins in its first page. */
    return (run > 1 ? 1 : segment_table_segment_bytes(table) / TIER_PAGE_BYTES) * sizeof(uint64_t);
}

/* It is anybody's again. */
static void become_free(struct segment_table *table, uint32_t segment) {
    uint32_t run = run_of(table, segment);
    struct row *row = row_of(table, segment);
    if (row->expiries) table->expiry_bytes -= expiry_bytes(table, run);
    free((void *)row->expiries);
    row->expiries = NULL;
    row->expires = false;
    row->live = row->records = row->used_units = 0;
    set_state(table, segment, run, SEGMENT_FREE);
    for (uint32_t i = 0; i < run; i++) {
        row[i].state = SEGMENT_FREE;
        row[i].reuses++;
        set_taken(table, segment + i, false);
    }
}

/* Nothing refers to it, unless a checkpoint does; one that is being made may still ask what is in it. */
static void release(struct segment_table *table, uint32_t segment) {
    if (!table->persistent || table->cuts[segment] >= table->cut) {
        become_free(table, segment);
        return;
    }
    set_state(table, segment, run_of(table, segment), SEGMENT_PENDING);
    table->cuts[segment] = table->cut;
}

/* True: it is free now. */
static bool release_if_empty(struct segment_table *table, uint32_t segment) {
    struct row *row = row_of(table, segment);
    if (row->state != SEGMENT_SEALED && row->state != SEGMENT_DAMAGED) return false;
    if (atomic_load(&row->live) > 0 || row->writes > 0) return false;
    release(table, segment);
    return true;
}

/* Lets the cleaner find it, or frees it. Its order is known already. */
static void become_sealed(struct segment_table *table, uint32_t segment) {
    set_state(table, segment, run_of(table, segment), SEGMENT_SEALED);
    if (release_if_empty(table, segment)) return;
    lower_share(table, segment, row_share(row_of(table, segment)));
    note_order(table, segment);
}

/* ---- taking and sealing ---- */

/* Of a group, those that are free, but for what somebody still looks at. */
static uint64_t usable(const struct segment_table *table, uint32_t group) {
    uint64_t free_ones = ~table->taken[group], found = free_ones;
    for (uint64_t bits = free_ones; bits; bits &= bits - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(bits);
        if (atomic_load(&table->pins[group * GROUP + bit]) > 0) found &= ~(UINT64_C(1) << bit);
    }
    return found;
}

static uint32_t find_free(struct segment_table *table) {
    while (table->first_free_group < table->groups && table->taken[table->first_free_group] == UINT64_MAX)
        table->first_free_group++;
    for (uint32_t group = table->first_free_group; group < table->groups; group++) {
        uint64_t found = usable(table, group);
        if (found) return group * GROUP + (uint32_t)__builtin_ctzll(found);
    }
    return SEGMENT_NONE;
}

/* The bits of a group that are of that home. */
static uint64_t bits_at(const struct segment_table *table, uint32_t group, uint32_t home) {
    unsigned first = (unsigned)((uint64_t)group * GROUP % table->homes);
    return table->every[(home + table->homes - first) % table->homes];
}

static uint32_t find_free_at(struct segment_table *table, uint32_t home) {
    for (uint32_t *group = &table->first_free_at[home]; *group < table->groups; ++*group) {
        uint64_t zeros = ~table->taken[*group] & bits_at(table, *group, home);
        if (zeros) return *group * GROUP + (uint32_t)__builtin_ctzll(zeros);
    }
    return SEGMENT_NONE;
}

static uint32_t find_free_run(const struct segment_table *table, uint32_t count) {
    uint32_t length = 0;
    for (uint32_t group = table->first_free_group; group < table->groups; group++) {
        uint64_t taken = ~usable(table, group);
        if (taken == UINT64_MAX) {
            length = 0;
            continue;
        }
        for (unsigned bit = 0; bit < GROUP; bit++) {
            length = taken >> bit & 1 ? 0 : length + 1;
            if (length == count) return group * GROUP + bit + 1 - count;
        }
    }
    return SEGMENT_NONE;
}

static uint32_t find(struct segment_table *table, uint32_t count, uint32_t home) {
    if (count > 1) return find_free_run(table, count);
    uint32_t segment = home < table->homes ? find_free_at(table, home) : SEGMENT_NONE;
    return segment != SEGMENT_NONE ? segment : find_free(table);
}

/* Where there are so many images, of which the checkpoint that is being made has taken so many. For the next one; and
 * of the segments that came for images those that are not in use as such. */
static uint32_t kept_for_next(const struct segment_table *table, uint32_t images, uint32_t taken) {
    uint32_t needed = less(atomic_load_explicit(&table->images_next, memory_order_relaxed), taken);
    return more(needed, less(atomic_load_explicit(&table->images_grown, memory_order_relaxed), images));
}

static uint32_t kept_for_two(const struct segment_table *table, uint32_t images, uint32_t taken) {
    uint32_t two = less(atomic_load_explicit(&table->images_of_two, memory_order_relaxed), images);
    return more(two, kept_for_next(table, images, taken));
}

static uint32_t kept_with(const struct segment_table *table, enum segment_use use, uint32_t images, uint32_t taken) {
    uint32_t for_next = kept_for_next(table, images, taken);
    switch (use) {
    case SEGMENT_FOR_IMAGES: return 0;
    case SEGMENT_FOR_CLEANING: return for_next;
    default: return more(kept_for_two(table, images, taken), for_next + table->reserved);
    }
}

static uint32_t taken_of(const struct segment_table *table) {
    return atomic_load_explicit(&table->images_taken, memory_order_relaxed);
}

uint32_t segment_table_kept_for_images(const struct segment_table *table) {
    return kept_for_two(table, images_of(table), taken_of(table));
}

static uint32_t kept_from(const struct segment_table *table, enum segment_use use) {
    return kept_with(table, use, images_of(table), taken_of(table));
}

bool segment_table_will_have(const struct segment_table *table, uint32_t count, enum segment_use use) {
    uint64_t unused = (uint64_t)segment_table_free_count(table) + pending_of(table) + images_of(table);
    uint32_t images = images_then(table);
    return unused >= (uint64_t)images + kept_with(table, use, images, 0) + count;
}

static uint32_t take_run(struct segment_table *table, uint32_t count, uint32_t home, enum segment_use use) {
    uint32_t kept = kept_from(table, use), left = table->counts[SEGMENT_FREE];
    if (left < kept || left - kept < count) return SEGMENT_NONE;
    uint32_t segment = find(table, count, home);
    if (segment == SEGMENT_NONE) return SEGMENT_NONE;
    for (uint32_t i = 0; i < count; i++) {
        set_taken(table, segment + i, true);
        if (i > 0) row_of(table, segment + i)->state = SEGMENT_CONTINUED;
    }
    set_state(table, segment, count, SEGMENT_OPEN);
    if (table->persistent) table->cuts[segment] = table->cut;
    if (use == SEGMENT_FOR_IMAGES) {
        table->images_taken += count;
        table->images_open += count;
    }
    if (segment + count > table->highest) table->highest = segment + count;
    return segment;
}

uint32_t segment_table_take(struct segment_table *table, uint32_t count, bool expires, enum segment_use use) {
    return segment_table_take_at(table, count, SEGMENT_HOME_ANY, expires, use);
}

uint32_t segment_table_take_at(struct segment_table *table, uint32_t count, uint32_t home, bool expires,
                               enum segment_use use) {
    assert(count > 0);
    /* Without memory for them the ranges are just not known. */
    _Atomic uint64_t *expiries = expires ? calloc(1, expiry_bytes(table, count)) : NULL;
    lock(table);
    uint32_t segment = take_run(table, count, home, use);
    if (segment != SEGMENT_NONE) {
        struct row *row = row_of(table, segment);
        row->expires = expires;
        row->expiries = expiries;
        if (expiries) table->expiry_bytes += expiry_bytes(table, count);
        expiries = NULL;
    }
    unlock(table);
    free(expiries);
    return segment;
}

void segment_table_give_back(struct segment_table *table, uint32_t segment, enum segment_use use) {
    lock(table);
    const struct row *row = row_of(table, segment);
    if (use == SEGMENT_FOR_IMAGES) {
        uint32_t run = run_of(table, segment);
        table->images_open -= run;
        table->images_taken = less(table->images_taken, run);
    }
    assert(row->state == SEGMENT_OPEN && row->live == 0 && row->writes == 0);
    release(table, segment);
    unlock(table);
}

void segment_table_shorten(struct segment_table *table, uint32_t segment, uint32_t count) {
    lock(table);
    struct row *row = row_of(table, segment);
    uint32_t run = run_of(table, segment);
    assert(row->state == SEGMENT_OPEN && count > 0 && count <= run);
    if (row->expiries && run > 1 && count == 1) count = 2; /* it has the range of a run's only block */
    table->counts[SEGMENT_OPEN] -= run - count;
    table->counts[SEGMENT_FREE] += run - count;
    for (uint32_t i = count; i < run; i++) {
        row[i].state = SEGMENT_FREE;
        row[i].reuses++;
        set_taken(table, segment + i, false);
    }
    unlock(table);
}

static void take_order(struct segment_table *table, struct row *row) {
    row->order = table->next_order++;
    if (table->next_order == 0) table->next_order = 1;
}

void segment_table_seal(struct segment_table *table, uint32_t segment, size_t used_bytes) {
    lock(table);
    struct row *row = row_of(table, segment);
    assert(row->state == SEGMENT_OPEN);
    row->used_units = (uint32_t)((used_bytes + TIER_UNIT_BYTES - 1) / TIER_UNIT_BYTES);
    take_order(table, row);
    become_sealed(table, segment);
    unlock(table);
}

void segment_table_pin(struct segment_table *table, uint32_t segment) {
    assert(segment < table->segments);
    atomic_fetch_add(&table->pins[segment], 1);
}

void segment_table_unpin(struct segment_table *table, uint32_t segment) {
    uint32_t before = atomic_fetch_sub(&table->pins[segment], 1);
    assert(before > 0);
}

uint32_t segment_table_generation(const struct segment_table *table, uint32_t segment) {
    return table->first_generation + atomic_load_explicit(&row_of(table, segment)->reuses, memory_order_acquire);
}

/* ---- records and writes ---- */

void segment_table_add(struct segment_table *table, uint32_t segment, uint32_t count) {
    struct row *row = row_of(table, segment);
    assert(row->state == SEGMENT_OPEN);
    atomic_fetch_add_explicit(&row->records, count, memory_order_relaxed);
    atomic_fetch_add_explicit(&row->live, count, memory_order_relaxed);
}

void segment_table_drop(struct segment_table *table, uint32_t segment, uint32_t count) {
    struct row *row = row_of(table, segment);
    uint32_t before = atomic_fetch_sub(&row->live, count);
    assert(before >= count);
    if (before == count) {
        lock(table);
        release_if_empty(table, segment);
        unlock(table);
    } else if (atomic_load(&row->state) == SEGMENT_SEALED) {
        lower_share(table, segment, share_of(before - count, atomic_load(&row->records)));
    }
}

void segment_table_write_begins(struct segment_table *table, uint32_t segment) {
    lock(table);
    struct row *row = row_of(table, segment);
    assert(row->state == SEGMENT_OPEN && row->writes < UINT16_MAX);
    row->writes++;
    unlock(table);
}

void segment_table_write_ends(struct segment_table *table, uint32_t segment) {
    lock(table);
    struct row *row = row_of(table, segment);
    assert(row->writes > 0);
    row->writes--;
    release_if_empty(table, segment);
    unlock(table);
}

bool segment_table_has_unwritten(const struct segment_table *table, uint32_t segment) {
    return atomic_load_explicit(&row_of(table, segment)->writes, memory_order_acquire) > 0;
}

/* ---- expiry ---- */

static _Atomic uint64_t *expiries_at(const struct segment_table *table, uint64_t offset) {
    uint32_t segment = segment_table_of(table, offset);
    const struct row *row = row_of(table, segment);
    if (!row->expiries) return NULL;
    size_t page = (size_t)(offset - segment_table_offset(table, segment)) / TIER_PAGE_BYTES;
    return &row->expiries[page];
}

void segment_table_note_expiry(struct segment_table *table, uint64_t offset, int64_t expiry_ms) {
    _Atomic uint64_t *at = expiries_at(table, offset);
    assert(expiry_ms >= 0);
    if (!at) return;
    uint64_t first = (uint64_t)expiry_ms / 1000, last = ((uint64_t)expiry_ms + 999) / 1000;
    if (last == 0) last = 1;
    if (first > UINT32_MAX) first = UINT32_MAX; /* the year 2106 or later */
    if (last > UINT32_MAX) last = UINT32_MAX;
    uint64_t seen = atomic_load_explicit(at, memory_order_relaxed), wider;
    do {
        uint64_t known_first = seen ? seen >> 32 : UINT32_MAX, known_last = (uint32_t)seen;
        wider = (first < known_first ? first : known_first) << 32 | (last > known_last ? last : known_last);
    } while (wider != seen &&
             !atomic_compare_exchange_weak_explicit(at, &seen, wider, memory_order_relaxed, memory_order_relaxed));
}

void segment_table_note_swept(struct segment_table *table, uint64_t offset, int64_t now_ms) {
    _Atomic uint64_t *at = expiries_at(table, offset);
    uint64_t seen = at ? atomic_load_explicit(at, memory_order_relaxed) : 0, narrower;
    uint64_t now = now_ms > 0 ? (uint64_t)now_ms / 1000 : 0;
    do {
        if (seen == 0 || now <= seen >> 32 || now > (uint32_t)seen) return;
        narrower = now << 32 | (uint32_t)seen;
    } while (!atomic_compare_exchange_weak_explicit(at, &seen, narrower, memory_order_relaxed, memory_order_relaxed));
}

enum segment_expiry segment_table_expiry(const struct segment_table *table, uint64_t offset, int64_t now_ms) {
    _Atomic uint64_t *at = expiries_at(table, offset);
    uint64_t known = at ? atomic_load_explicit(at, memory_order_relaxed) : 0;
    if (known == 0) return SEGMENT_EXPIRY_SOME_DUE;
    if (now_ms < (int64_t)(known >> 32) * 1000) return SEGMENT_EXPIRY_NONE_DUE;
    uint32_t last = (uint32_t)known;
    if (last != UINT32_MAX && now_ms > (int64_t)last * 1000) return SEGMENT_EXPIRY_ALL_DUE;
    return now_ms < (int64_t)((known >> 32) + last) * 500 ? SEGMENT_EXPIRY_FEW_DUE : SEGMENT_EXPIRY_SOME_DUE;
}

/* ---- cleaning; the lock is held in what is static ---- */

/* Rows of the group, as the half-open range that was ever taken. */
static uint32_t group_end(const struct segment_table *table, uint32_t group) {
    uint32_t end = (group + 1) * GROUP, highest = table->highest;
    return end < highest ? end : highest;
}

static uint32_t groups_used(const struct segment_table *table) {
    return (uint32_t)(((uint64_t)table->highest + GROUP - 1) / GROUP);
}

/* Corrects the bound; and where a segment that may be cleaned beats *best, takes it instead. */
static void refine_share(struct segment_table *table, uint32_t group, unsigned percent_max, uint32_t *best,
                         unsigned *best_share) {
    unsigned bound = SHARE_NONE;
    atomic_store(&table->share[group], SHARE_NONE);
    for (uint32_t i = group * GROUP; i < group_end(table, group); i++) {
        const struct row *row = row_of(table, i);
        if (row->state != SEGMENT_SEALED) continue;
        uint32_t live = atomic_load(&row->live), records = atomic_load(&row->records);
        unsigned share = share_of(live, records);
        if (share < bound) bound = share;
        if (row->writes > 0 || (uint64_t)live * 100 > (uint64_t)records * percent_max || share >= *best_share) continue;
        *best = i;
        *best_share = share;
    }
    lower_share(table, group * GROUP, bound);
}

uint32_t segment_table_choose(struct segment_table *table, unsigned live_percent_max) {
    uint32_t best = SEGMENT_NONE;
    unsigned best_share = SHARE_NONE;
    /* Where even the bound is above the limit nothing can be found. */
    unsigned limit = live_percent_max >= 100 ? SHARE_FULL : live_percent_max * SHARE_FULL / 100;
    lock(table);
    uint32_t groups = groups_used(table);
    for (uint32_t group = 0; group < groups; group++) {
        unsigned bound = atomic_load_explicit(&table->share[group], memory_order_relaxed);
        if (bound <= limit && bound < best_share) refine_share(table, group, live_percent_max, &best, &best_share);
    }
    if (best != SEGMENT_NONE) set_state(table, best, run_of(table, best), SEGMENT_CLEANING);
    unlock(table);
    return best;
}

bool segment_table_can_clean(const struct segment_table *table, unsigned live_percent_max) {
    if (segment_table_free_count(table) <= kept_from(table, SEGMENT_FOR_CLEANING)) return false;
    if (atomic_load_explicit(&table->counts[SEGMENT_CLEANING], memory_order_relaxed) > 0) return true;
    /* The bounds are rounded down: one that is at the limit may be above. */
    unsigned limit = live_percent_max * SHARE_FULL / 100;
    uint32_t groups = groups_used(table);
    for (uint32_t group = 0; group < groups; group++)
        if (atomic_load_explicit(&table->share[group], memory_order_relaxed) < limit) return true;
    return false;
}

static void refine_order(struct segment_table *table, uint32_t group, unsigned which, uint32_t *best,
                         uint32_t *best_age) {
    uint32_t *bound = &table->oldest[which][group];
    *bound = 0;
    for (uint32_t i = group * GROUP; i < group_end(table, group); i++) {
        const struct row *row = row_of(table, i);
        if (row->state != SEGMENT_SEALED || (which == ORDER_VOLATILE && !row->expires)) continue;
        uint32_t age = age_of(table, row->order);
        if (age > age_of(table, *bound)) *bound = row->order;
        if (row->writes > 0 || age <= *best_age) continue;
        *best = i;
        *best_age = age;
    }
}

uint32_t segment_table_choose_oldest(struct segment_table *table, bool only_volatile) {
    uint32_t best = SEGMENT_NONE, best_age = 0;
    unsigned which = only_volatile ? ORDER_VOLATILE : ORDER_ANY;
    lock(table);
    uint32_t groups = groups_used(table);
    for (uint32_t group = 0; group < groups; group++)
        if (age_of(table, table->oldest[which][group]) > best_age) refine_order(table, group, which, &best, &best_age);
    if (best != SEGMENT_NONE) set_state(table, best, run_of(table, best), SEGMENT_CLEANING);
    unlock(table);
    return best;
}

void segment_table_cleaned(struct segment_table *table, uint32_t segment, bool interrupted) {
    lock(table);
    assert(row_of(table, segment)->state == SEGMENT_CLEANING);
    if (interrupted) {
        become_sealed(table, segment);
    } else {
        set_state(table, segment, run_of(table, segment), SEGMENT_DAMAGED);
        release_if_empty(table, segment);
    }
    unlock(table);
}

/* ---- checkpoints ---- */

void segment_table_seal_images(struct segment_table *table, uint32_t segment, size_t used_bytes) {
    lock(table);
    struct row *row = row_of(table, segment);
    assert(row->state == SEGMENT_OPEN && table->persistent);
    row->used_units = (uint32_t)((used_bytes + TIER_UNIT_BYTES - 1) / TIER_UNIT_BYTES);
    uint32_t run = run_of(table, segment);
    set_state(table, segment, run, SEGMENT_IMAGE);
    table->images_open -= run;
    unlock(table);
}

void segment_table_cut(struct segment_table *table, uint64_t number) {
    lock(table);
    assert(table->persistent && number > table->cut);
    table->cut = number;
    table->images_taken = 0;
    unlock(table);
}

/* What images are in the name of: the last checkpoint that refers to them, or for which the segment was taken. */
uint32_t segment_table_checkpointed(struct segment_table *table, uint64_t number, const uint32_t *referred) {
    uint32_t freed = 0;
    lock(table);
    table->images_taken = 0;
    for (uint32_t i = 0; i < table->highest; i++) {
        enum segment_state state = (enum segment_state)row_of(table, i)->state;
        if ((state != SEGMENT_PENDING && state != SEGMENT_IMAGE) || table->cuts[i] >= number) continue;
        if (state == SEGMENT_IMAGE && referred && referred[i]) {
            table->cuts[i] = number;
            continue;
        }
        freed += run_of(table, i);
        become_free(table, i);
    }
    unlock(table);
    return freed;
}

void segment_table_abandoned(struct segment_table *table, uint64_t number) {
    lock(table);
    table->images_taken = 0;
    for (uint32_t i = 0; i < table->highest; i++)
        if (row_of(table, i)->state == SEGMENT_IMAGE && table->cuts[i] == number) become_free(table, i);
    unlock(table);
}

void segment_table_keep_for_images(struct segment_table *table, uint32_t now, uint32_t next, uint32_t two) {
    atomic_store_explicit(&table->images_now, now, memory_order_relaxed);
    atomic_store_explicit(&table->images_next, next, memory_order_relaxed);
    atomic_store_explicit(&table->images_of_two, two, memory_order_relaxed);
}

/* ---- recovery ---- */

bool segment_table_restore(struct segment_table *table, uint32_t segment, const struct segment_info *info) {
    if (segment >= table->segments || info->run == 0 || info->run > table->segments - segment) return false;
    if (info->live == 0 || info->live > info->records) return false;
    for (uint32_t i = 0; i < info->run; i++)
        if (row_of(table, segment + i)->state != SEGMENT_FREE) return false;
    struct row *row = row_of(table, segment);
    if (info->expires && !(row->expiries = calloc(1, expiry_bytes(table, info->run)))) return false;
    lock(table);
    if (info->expires) table->expiry_bytes += expiry_bytes(table, info->run);
    row->expires = info->expires;
    row->reuses = info->generation - table->first_generation;
    row->records = info->records;
    row->live = info->live;
    row->used_units = (uint32_t)(info->used_bytes / TIER_UNIT_BYTES);
    for (uint32_t i = 0; i < info->run; i++) {
        set_taken(table, segment + i, true);
        if (i > 0) row[i].state = SEGMENT_CONTINUED;
    }
    set_state(table, segment, info->run, SEGMENT_OPEN);
    if (segment + info->run > table->highest) table->highest = segment + info->run;
    unlock(table);
    return true;
}

uint32_t segment_table_expiries(const struct segment_table *table, uint32_t segment, const _Atomic uint64_t **ranges) {
    const struct row *row = row_of(table, segment);
    *ranges = row->expiries;
    return row->expiries ? (uint32_t)(expiry_bytes(table, run_of(table, segment)) / sizeof(uint64_t)) : 0;
}

void segment_table_restore_expiry(struct segment_table *table, uint32_t segment, uint32_t page, uint64_t range) {
    const struct row *row = row_of(table, segment);
    if (row->expiries && page < expiry_bytes(table, run_of(table, segment)) / sizeof(uint64_t))
        row->expiries[page] = range;
}

void segment_table_restored(struct segment_table *table, const uint8_t *which) {
    lock(table);
    for (uint32_t i = 0; i < table->highest; i++) {
        struct row *row = row_of(table, i);
        if (!which[i]) continue;
        assert(row->state == SEGMENT_OPEN);
        table->cuts[i] = table->cut ? table->cut - 1 : 0; /* the checkpoint refers to it */
        take_order(table, row);
        become_sealed(table, i);
    }
    unlock(table);
}

/* ---- looking ---- */

static void appear(struct segment_table *table, uint32_t segment) {
    if (row_of(table, segment)->state != SEGMENT_ABSENT) return;
    set_taken(table, segment, false);
    set_state(table, segment, 1, SEGMENT_FREE);
}

void segment_table_appear(struct segment_table *table, uint32_t segment) {
    lock(table);
    appear(table, segment);
    unlock(table);
}

void segment_table_grow_for_images(struct segment_table *table, uint32_t first, uint32_t count) {
    lock(table);
    for (uint32_t i = 0; i < count; i++) appear(table, first + i);
    table->images_grown += count;
    unlock(table);
}

struct segment_info segment_table_info(const struct segment_table *table, uint32_t segment) {
    lock(table);
    const struct row *row = row_of(table, segment);
    bool first = row->state != SEGMENT_FREE && row->state != SEGMENT_CONTINUED && row->state != SEGMENT_ABSENT;
    struct segment_info info = {.state = (enum segment_state)row->state,
                                .expires = row->expires,
                                .generation = segment_table_generation(table, segment),
                                .run = first ? run_of(table, segment) : 0,
                                .records = row->records,
                                .live = row->live,
                                .used_bytes = (size_t)row->used_units * TIER_UNIT_BYTES};
    unlock(table);
    return info;
}

struct segment_usage segment_table_usage(const struct segment_table *table) {
    lock(table);
    struct segment_usage usage = {.segments = table->segments,
                                  .free = table->counts[SEGMENT_FREE],
                                  .open = table->counts[SEGMENT_OPEN],
                                  .sealed = table->counts[SEGMENT_SEALED],
                                  .cleaning = table->counts[SEGMENT_CLEANING],
                                  .damaged = table->counts[SEGMENT_DAMAGED],
                                  .pending = table->counts[SEGMENT_PENDING],
                                  .images = table->counts[SEGMENT_IMAGE],
                                  .absent = table->counts[SEGMENT_ABSENT],
                                  .kept = segment_table_kept_for_images(table),
                                  .highest = table->highest,
                                  .memory_bytes = sizeof(*table) + table->expiry_bytes};
    unlock(table);
    usage.memory_bytes += (size_t)usage.highest * (sizeof(struct row) + (table->cuts ? sizeof(*table->cuts) : 0));
    usage.memory_bytes += table->groups * (sizeof(*table->taken) + sizeof(*table->share) + ORDERS * sizeof(uint32_t));
    for (uint32_t i = 0; i < usage.highest; i++) {
        const struct row *row = row_of(table, i);
        uint8_t state = atomic_load_explicit(&row->state, memory_order_relaxed);
        if (state == SEGMENT_IMAGE || state == SEGMENT_PENDING) continue;
        uint64_t live = atomic_load_explicit(&row->live, memory_order_relaxed);
        uint64_t records = atomic_load_explicit(&row->records, memory_order_relaxed);
        uint64_t used = (uint64_t)atomic_load_explicit(&row->used_units, memory_order_relaxed) * TIER_UNIT_BYTES;
        usage.records += live;
        usage.used_bytes += used;
        if (records) usage.live_bytes += live < records ? used * live / records : used;
    }
    return usage;
}

uint32_t segment_table_free_at(const struct segment_table *table, uint32_t home) {
    uint32_t count = 0;
    lock(table);
    for (uint32_t group = table->first_free_at[home]; group < table->groups; group++)
        count += (uint32_t)__builtin_popcountll(~table->taken[group] & bits_at(table, group, home));
    unlock(table);
    return count;
}

/* ---- checking ---- */

static bool row_valid(const struct segment_table *table, uint32_t segment) {
    const struct row *row = row_of(table, segment);
    bool taken = table->taken[segment / GROUP] >> segment % GROUP & 1;
    if (row->live > row->records || taken == (row->state == SEGMENT_FREE)) return false;
    switch ((enum segment_state)row->state) {
    case SEGMENT_FREE: return row->records == 0 && row->writes == 0 && !row->expires && !row->expiries;
    case SEGMENT_ABSENT: return row->records == 0 && row->live == 0;
    case SEGMENT_CONTINUED: return segment > 0 && row[-1].state != SEGMENT_FREE && row->records == 0 && !row->expiries;
    case SEGMENT_SEALED:
        if (row_share(row) < table->share[segment / GROUP]) return false;
        for (unsigned i = 0; i < ORDERS; i++) {
            if (i == ORDER_VOLATILE && !row->expires) continue;
            if (age_of(table, row->order) > age_of(table, table->oldest[i][segment / GROUP])) return false;
        }
        return row->live > 0 || row->writes > 0;
    case SEGMENT_DAMAGED: return row->live > 0;
    case SEGMENT_PENDING: return table->persistent && row->live == 0;
    case SEGMENT_IMAGE: return table->persistent;
    case SEGMENT_OPEN:
    case SEGMENT_CLEANING: return true;
    default: return false;
    }
}

bool segment_table_validate(const struct segment_table *table) {
    uint32_t counts[STATES] = {0}, first = SEGMENT_FREE, highest = table->highest;
    bool valid = true;
    lock(table);
    for (uint32_t i = 0; i < table->segments && valid; i++) {
        uint32_t state = row_of(table, i)->state;
        valid = row_valid(table, i);
        if (state != SEGMENT_CONTINUED) first = state;
        counts[first]++;
        if (state != SEGMENT_FREE && state != SEGMENT_ABSENT && i >= highest) valid = false;
        if (state == SEGMENT_FREE && i / GROUP < table->first_free_group) valid = false;
        if (state == SEGMENT_FREE && i / GROUP < table->first_free_at[i % table->homes]) valid = false;
    }
    for (unsigned i = 0; i < STATES && valid; i++) valid = counts[i] == table->counts[i];
    valid = valid && table->images_open <= table->counts[SEGMENT_OPEN];
    unlock(table);
    return valid;
}
