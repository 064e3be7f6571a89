/* Records on their way to colder media.
 *
 * Demotion is a CLOCK whose hand goes round the index of each shard, in hash order: it passes over cold references
 * (eight a cache line), looks at the access bits of what is in memory, and moves what is coldest. Cold is relative: the
 * hand keeps a histogram of how long ago (or how seldom) the records it met were used, and takes those that belong to
 * the coldest quarter. When all are alike, as while new data streams in, that is whatever it comes to.
 *
 * Walking the index instead of the slab pages costs a cache miss for each record met, which prefetching hides, and has
 * two gains: the reference to be swung is at hand, and records that are neighbours in the order of SCAN, of the expiry
 * sweep and of the cleaner become neighbours in blocks, so that these read each block once.
 *
 * Records that expire go to a stream of their own, sorted by expiry, so that a page's range of expiries is narrow and
 * it dies as a whole. */

#include "keyspace/keyspace_tier.h"

#include "base/clock.h"
#include "base/glob.h"
#include "keyspace/key_hash.h"
#include "keyspace/keyspace_evict.h"
#include "keyspace/keyspace_private.h"
#include "keyspace/keyspace_snapshot.h"
#include "tiering/tier_block.h"
#include "tiering/tier_haul.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    GATHER = 128,
    HISTOGRAM_FULL = 4096, /* then it is halved: it follows what the hand meets */
    HISTOGRAM_FEW = 256,   /* too few to tell */
    COLD_PART = 4,         /* the coldest 1/this goes */
    COLD_PART_URGENT = 2,
    PAGES_LOOKED_AT = 8192, /* of a table, at once */
    ROUNDS_MAX = 64, /* gathers of a slice that found nothing in memory: cold references are passed over quickly */
    FREE_STEP_BYTES = 2 << 20, /* of a large record that has arrived on the tier: what the kernel takes back at once */
    RUN_BYTES = 1 << 20,       /* the smallest segment: from here on a record may have a run opened for it alone */
};

/* A record that is to be hauled: pinned, with a copy of its header. */
struct hauled {
    struct record *record; /* NULL: none */
    uint64_t ref;
    uint32_t database;
    uint8_t header[RECORD_HEADER_MAX];
};

struct mover {
    struct keyspace *keyspace;
    struct shard *shard;
    struct tier_port *port;
    const struct demotion *demotion;
    struct index *index;
    uint32_t database;
    uint64_t started;
    size_t freed, far_room;
    size_t needed; /* bytes for which there was no room in the open unit */
    enum tier_stream needed_stream;
    struct hauled hauled;
    bool awaits; /* a record that another port hauls */
};

struct chosen {
    const struct record *records[INDEX_GATHER_MAX];
    uint64_t refs[INDEX_GATHER_MAX];
    struct index_position slots[INDEX_GATHER_MAX];
    unsigned count;
};

/* ---- how cold ---- */

/* Bucket of the histogram: seconds since the last use, logarithmic from 16 on; or how seldom it is used. */
static unsigned coldness(const struct keyspace *keyspace, const struct record *record, int64_t now_ms) {
    if (keyspace->access.frequency)
        return (255 - access_frequency(&keyspace->access, record_access(record), now_ms)) / (256 / CLOCK_BUCKETS);
    uint32_t idle = access_idle_seconds(record_access(record), now_ms);
    if (idle < 16) return idle;
    unsigned shift = 31u - (unsigned)__builtin_clz(idle);
    unsigned bucket = 16 + (shift - 4) * 2 + (idle >> (shift - 1) & 1);
    return bucket < CLOCK_BUCKETS ? bucket : CLOCK_BUCKETS - 1;
}

static void count_in_histogram(struct shard_clock *clock, unsigned bucket) {
    clock->histogram[bucket]++;
    if (++clock->seen < HISTOGRAM_FULL) return;
    clock->seen = 0;
    for (unsigned i = 0; i < CLOCK_BUCKETS; i++) clock->seen += clock->histogram[i] /= 2;
}

/* Records in this bucket or a colder one are to go. */
static unsigned cold_from(const struct shard_clock *clock, bool urgent) {
    if (clock->seen < HISTOGRAM_FEW) return 0;
    uint32_t wanted = clock->seen / (urgent ? COLD_PART_URGENT : COLD_PART), sum = 0;
    for (unsigned bucket = CLOCK_BUCKETS - 1; bucket > 0; bucket--) {
        sum += clock->histogram[bucket];
        if (sum >= wanted) return bucket;
    }
    return 0;
}

/* ---- moving ---- */

/* The record's hash is at hand now for the price of computing it, which it will not be once it is cold. */
static void swing(struct mover *mover, const struct record *record, struct index_position slot, uint64_t from,
                  uint64_t to) {
    struct shard *shard = mover->shard;
    size_t size = record_size(record);
    if (ref_is_cold(to) && record_type(record) != RECORD_PAGE) keyspace_keep(shard, mover->index, from, record);
    if (record_type(record) == RECORD_PAGE) {
        bool found = collection_relocate(mover->keyspace, shard, record, from, to);
        assert(found);
        (void)found;
    } else {
        if (index_tag_is_short(slot))
            index_renew_tag(mover->index, slot, key_hash(record_key(record), mover->keyspace->seed));
        index_replace(mover->index, slot, to);
    }
    if (record_type(record) == RECORD_PAGE && !ref_is_cold(from))
        heap_free(collection_heap(mover->keyspace, shard, from), ref_record(from));
    else
        shard_release(mover->keyspace, shard, from);
    if (!ref_is_cold(from)) mover->freed += heap_size_for(size);
    if (ref_is_cold(to)) {
        shard->cold_records++;
        shard->counters.demotions += !ref_is_cold(from);
    } else {
        shard->counters.far_demotions++;
    }
}

static bool is_spent(const struct mover *mover) {
    return clock_elapsed_ns(mover->started) >= mover->demotion->budget_ns ||
           mover->freed >= mover->demotion->wanted_bytes;
}

static void move_to_far(struct mover *mover, const struct record *record, struct index_position slot, uint64_t ref) {
    size_t size = record_size(record);
    if (size > mover->far_room || size > REGION_RUN_MAX * REGION_GRANULE) return;
    struct heap *heap = record_type(record) == RECORD_PAGE ? collection_far_heap(mover->keyspace, mover->shard, record)
                                                           : mover->shard->heap.far;
    void *memory = heap ? heap_allocate(heap, size) : NULL;
    if (!memory) return;
    memcpy(memory, record, size);
    swing(mover, record, slot, ref, ref_of(memory, MEDIUM_FAR));
    mover->far_room -= size;
}

/* All of them, as far as there is room; false: some are left. */
static bool move_to_tier(struct mover *mover, enum tier_stream stream, const struct chosen *chosen) {
    uint16_t slot = (uint16_t)(mover->shard->number << mover->keyspace->shard_shift);
    uint64_t refs[TIER_BLOCK_RECORDS];
    for (unsigned i = 0, taken; i < chosen->count; i += taken) {
        if (i > 0 && is_spent(mover)) return false;
        enum tier_append_status status = tier_append(mover->port, stream, slot, (uint16_t)mover->database,
                                                     chosen->records + i, chosen->count - i, refs, &taken);
        if (status != TIER_APPENDED) {
            mover->needed = tier_block_alone_bound(chosen->records[i]);
            mover->needed_stream = stream;
            return false;
        }
        for (unsigned k = 0; k < taken; k++)
            swing(mover, chosen->records[i + k], chosen->slots[i + k], chosen->refs[i + k], refs[k]);
    }
    return true;
}

/* A page's worth of records that expire at about the same time. Insertion, since they are few and mostly sorted by
 * having been written in turn. */
static void sort_by_expiry(struct chosen *chosen) {
    for (unsigned i = 1; i < chosen->count; i++) {
        const struct record *record = chosen->records[i];
        uint64_t ref = chosen->refs[i];
        struct index_position slot = chosen->slots[i];
        int64_t expiry = record_expiry(record);
        unsigned at = i;
        for (; at > 0 && record_expiry(chosen->records[at - 1]) > expiry; at--) {
            chosen->records[at] = chosen->records[at - 1];
            chosen->refs[at] = chosen->refs[at - 1];
            chosen->slots[at] = chosen->slots[at - 1];
        }
        chosen->records[at] = record;
        chosen->refs[at] = ref;
        chosen->slots[at] = slot;
    }
}

/* ---- hauls: tier_haul.h ---- */

/* Bytes of the record that are under way, or have arrived and are not free yet; 0: the next haul may begin. */
static size_t haul_bytes(struct tier_port *port) {
    const struct tier_haul_owner *owner = tier_haul_owner(port);
    return owner->record ? record_size(owner->record) : owner->left ? 1 : 0;
}

/* True: it does not go with others. Under the lock. */
static bool goes_alone(struct mover *mover, uint64_t ref) {
    struct record *record = ref_record(ref);
    size_t size = record_size(record);
    struct heap *heap = shard_heap(mover->shard, ref);
    if (!tier_is_haul(mover->port, size) || !heap_can_pin(heap, record)) return false;
    if (mover->hauled.record || haul_bytes(mover->port)) return true; /* one at a time */
    heap_pin(heap, record);
    tier_haul_tell(mover->port, record);
    mover->hauled.record = record;
    mover->hauled.ref = ref;
    mover->hauled.database = mover->database;
    memcpy(mover->hauled.header, record, record_header_size(record));
    return true;
}

/* What goes_alone() chose sets out. No lock is held. */
static enum demotion_status begin_haul(struct mover *mover) {
    struct hauled *hauled = &mover->hauled;
    struct tier_haul_owner *owner = tier_haul_owner(mover->port);
    struct record *record = hauled->record;
    const struct record *header = (const struct record *)hauled->header;
    uint32_t number = mover->shard->number;
    struct tier_haul_cargo cargo = {.record = record,
                                    .header = header,
                                    .header_bytes = record_header_size(header),
                                    .bytes = record_size(record),
                                    .expires = record_has_expiry(header),
                                    .expiry_ms = record_has_expiry(header) ? record_expiry(header) : 0,
                                    .slot = (uint16_t)(number << mover->keyspace->shard_shift),
                                    .database = (uint16_t)hauled->database};
    enum tier_append_status status = tier_haul_begin(mover->port, &cargo);
    hauled->record = NULL;
    if (status == TIER_APPENDED) {
        owner->record = record;
        owner->ref = hauled->ref;
        owner->shard = number;
        owner->database = hauled->database;
        return DEMOTION_DONE;
    }
    tier_haul_tell(mover->port, NULL);
    keyspace_unpin(mover->keyspace, number, record);
    return status == TIER_BUSY ? DEMOTION_BUSY : DEMOTION_FULL;
}

static struct index_position find_slot(const struct keyspace *keyspace, struct shard *shard, uint32_t written_in,
                                       uint64_t hash, uint64_t ref, uint32_t *database);

/* Its slot, if its key still leads to it. Under the lock. */
static struct index_position slot_of_hauled(struct keyspace *keyspace, const struct tier_haul_owner *owner,
                                            uint64_t *hash, uint32_t *database) {
    struct shard *shard = &keyspace->shards[owner->shard];
    *hash = key_hash(record_key(owner->record), keyspace->seed);
    return find_slot(keyspace, shard, owner->database, *hash, owner->ref, database);
}

/* All of it is written. Its key leads to the tier from now on; the bytes that gives back. */
static size_t end_haul(struct keyspace *keyspace, struct tier_port *port) {
    struct tier_haul_owner *owner = tier_haul_owner(port);
    struct shard *shard = &keyspace->shards[owner->shard];
    struct record *record = owner->record;
    struct heap *heap = keyspace_heap_with(shard, record);
    uint64_t hash;
    uint32_t database;
    size_t freed = 0;
    keyspace_lock(keyspace, owner->shard);
    struct index_position slot = slot_of_hauled(keyspace, owner, &hash, &database);
    if (!slot.bucket) {
        tier_haul_give_up(port);
        heap_unpin(heap, record);
    } else {
        struct index *index = shard->databases[database];
        uint64_t ref = tier_haul_commit(port);
        keyspace_keep(shard, index, owner->ref, record);
        if (index_tag_is_short(slot)) index_renew_tag(index, slot, hash);
        index_replace(index, slot, ref);
        shard->cold_records++;
        shard->counters.demotions++;
        freed = heap_size_for(record_size(record));
        heap_unpin(heap, record);
        if (heap_is_pinned(heap, record)) {
            heap_free(heap, record);
        } else {
            owner->left = record;
            owner->left_shard = owner->shard;
        }
    }
    owner->record = NULL;
    tier_haul_tell(port, NULL);
    keyspace_unlock(keyspace, shard->number);
    return freed;
}

static void give_up_haul(struct keyspace *keyspace, struct tier_port *port) {
    struct tier_haul_owner *owner = tier_haul_owner(port);
    tier_haul_give_up(port);
    tier_haul_tell(port, NULL);
    keyspace_unpin(keyspace, owner->shard, owner->record);
    owner->record = NULL;
}

static bool is_wanted(struct keyspace *keyspace, const struct tier_haul_owner *owner) {
    uint64_t hash;
    uint32_t database;
    keyspace_lock(keyspace, owner->shard);
    bool wanted = slot_of_hauled(keyspace, owner, &hash, &database).bucket != NULL;
    keyspace_unlock(keyspace, owner->shard);
    return wanted;
}

bool keyspace_haul(struct keyspace *keyspace, struct tier_port *port, uint64_t budget_ns, size_t *freed) {
    struct tier_haul_owner *owner = tier_haul_owner(port);
    uint64_t start = clock_ticks();
    *freed = 0;
    /* A command may hold the shard for long; then it goes on when that is done. */
    if ((owner->left && keyspace_is_busy(keyspace, owner->left_shard)) ||
        (owner->record && keyspace_is_busy(keyspace, owner->shard)))
        return true;
    while (owner->left && clock_elapsed_ns(start) < budget_ns)
        if (keyspace_free_detached(keyspace, owner->left_shard, &owner->left, FREE_STEP_BYTES)) owner->left = NULL;
    if (owner->left) return true;
    if (!owner->record) return false;
    if (!is_wanted(keyspace, owner)) {
        give_up_haul(keyspace, port);
        return false;
    }
    switch (tier_haul_step(port, budget_ns)) {
    case TIER_HAUL_BUSY: return true;
    case TIER_HAUL_WAITS: return false;
    case TIER_HAUL_WRITTEN: *freed = end_haul(keyspace, port); return owner->left != NULL;
    case TIER_HAUL_FAILED: break;
    }
    give_up_haul(keyspace, port);
    return false;
}

/* ---- the hand ---- */

static void add(struct chosen *chosen, uint64_t ref, struct index_position slot) {
    chosen->records[chosen->count] = ref_record(ref);
    chosen->slots[chosen->count] = slot;
    chosen->refs[chosen->count++] = ref;
}

/* Looks at `count` gathered references; true: all that should move has moved. */
static bool look_at(struct mover *mover, const uint64_t *refs, const struct index_position *slots, size_t count) {
    struct shard *shard = mover->shard;
    struct chosen chosen[TIER_STREAMS];
    bool complete = true;
    for (unsigned i = 0; i < TIER_STREAMS; i++) chosen[i].count = 0;
    unsigned threshold = cold_from(&shard->clock, mover->demotion->urgent);
    for (size_t i = 0; i < count; i++)
        if (!ref_is_cold(refs[i])) __builtin_prefetch(ref_record(refs[i]));
    for (size_t i = 0; i < count; i++) {
        if (ref_is_cold(refs[i])) continue;
        struct record *record = ref_record(refs[i]);
        if (!record_is_paged(record)) shard->clock.met = true;
        /* Where near memory is short, what is far already is no measure for what is cold. */
        if (mover->demotion->far_only && ref_medium(refs[i]) == MEDIUM_FAR) continue;
        unsigned bucket = coldness(mover->keyspace, record, mover->demotion->now_ms);
        count_in_histogram(&shard->clock, bucket);
        if (bucket < threshold || record_is_paged(record) || shard_is_pinned(shard, refs[i], record_size(record)))
            continue;
        if (mover->demotion->far_only) {
            if (shard->heap.far) move_to_far(mover, record, slots[i], refs[i]);
            continue;
        }
        if (!mover->port || goes_alone(mover, refs[i])) continue;
        add(&chosen[record_has_expiry(record) ? TIER_STREAM_VOLATILE : TIER_STREAM_LASTING], refs[i], slots[i]);
    }
    sort_by_expiry(&chosen[TIER_STREAM_VOLATILE]);
    for (unsigned i = 0; i < TIER_STREAMS; i++)
        complete = move_to_tier(mover, (enum tier_stream)i, &chosen[i]) && complete;
    return complete;
}

/* The next database with keys, from `from` on and round; the number of databases: there is none. */
static uint32_t next_database(const struct keyspace *keyspace, const struct shard *shard, uint32_t from) {
    for (uint32_t i = 0; i < keyspace->database_count; i++) {
        uint32_t database = (from + i) % keyspace->database_count;
        if (shard->databases[database] && shard->databases[database]->count) return database;
    }
    return keyspace->database_count;
}

/* ---- the hand among pages ---- */

/* Of a collection ten times the memory one page of ten or twenty is there: a few chunks are gone through for a batch,
 * in a microsecond or two. */
enum { LOOKED_AT_ENTRIES = 8 * PAGE_CHUNK };

/* The next pages in memory, from the hand on; moves the hand. Those in far memory are passed over where it is near
 * memory that is short. */
static void gather_pages(struct shard *shard, bool near_only, struct chosen *pages) {
    struct shard_page_hand *hand = &shard->page_hand;
    pages->count = 0;
    if (!hand->collection)
        *hand = (struct shard_page_hand){
            .collection = shard->collections, .whole = true, .barren = hand->whole && !hand->met};
    for (unsigned seen = 0; hand->collection && seen < LOOKED_AT_ENTRIES && pages->count < GATHER;) {
        const struct page_table *table = &hand->collection->parts[hand->part];
        if (hand->number >= table->end) {
            hand->number = 0;
            if (++hand->part < COLLECTION_PARTS) continue;
            hand->part = 0;
            hand->collection = hand->collection->next;
            seen++;
            continue;
        }
        uint64_t ref = page_ref(table, hand->number++);
        seen++;
        if (!page_ref_is_page(ref) || ref_is_cold(ref)) continue;
        hand->met = true;
        if (near_only && ref_medium(ref) == MEDIUM_FAR) continue;
        add(pages, ref, (struct index_position){0});
    }
}

/* As look_at(); a page that stays because there is no room for it now comes up again at the next round. */
static bool look_at_pages(struct mover *mover) {
    struct shard *shard = mover->shard;
    struct chosen pages, cold = {.count = 0};
    gather_pages(shard, mover->demotion->far_only, &pages);
    unsigned threshold = cold_from(&shard->clock, mover->demotion->urgent);
    for (unsigned i = 0; i < pages.count; i++) __builtin_prefetch(pages.records[i]);
    for (unsigned i = 0; i < pages.count; i++) {
        unsigned bucket = coldness(mover->keyspace, pages.records[i], mover->demotion->now_ms);
        count_in_histogram(&shard->clock, bucket);
        if (bucket >= threshold) add(&cold, pages.refs[i], (struct index_position){0});
    }
    if (!mover->demotion->far_only) return move_to_tier(mover, TIER_STREAM_LASTING, &cold);
    for (unsigned i = 0; i < cold.count; i++) move_to_far(mover, cold.records[i], cold.slots[i], cold.refs[i]);
    return true;
}

/* Goes on with the hand until the slice is over, or something is in the way. */
static enum demotion_status go_round(struct mover *mover) {
    struct shard *shard = mover->shard;
    struct shard_clock *clock = &shard->clock;
    struct index_position slots[INDEX_GATHER_MAX];
    uint64_t refs[INDEX_GATHER_MAX], next;
    for (unsigned round = 0; round < ROUNDS_MAX && !is_spent(mover) && !mover->hauled.record; round++) {
        uint32_t database = next_database(mover->keyspace, shard, clock->database);
        if (database == mover->keyspace->database_count) return DEMOTION_NOTHING;
        if (database != clock->database) clock->position = 0;
        if (database < clock->database) { /* a new round */
            clock->barren = !clock->met;
            clock->met = false;
        }
        clock->database = mover->database = database;
        mover->index = shard->databases[database];
        size_t count = index_gather_resident(mover->index, clock->position, refs, slots, &next);
        if (!look_at(mover, refs, slots, count)) return DEMOTION_BUSY;
        bool moves_pages = mover->demotion->far_only ? shard->heap.far != NULL : mover->port != NULL;
        if (shard->collections && moves_pages && !look_at_pages(mover)) return DEMOTION_BUSY;
        clock->position = next;
        if (next == 0) clock->database++;
    }
    return DEMOTION_DONE;
}

/* A record for which the tier has no room although it has for others stays where it is. */
static void pass_over(struct keyspace *keyspace, struct shard *shard) {
    uint64_t refs[INDEX_GATHER_MAX], next;
    keyspace_lock(keyspace, shard->number);
    struct shard_clock *clock = &shard->clock;
    if (clock->database < keyspace->database_count && shard->databases[clock->database]) {
        index_gather(shard->databases[clock->database], clock->position, GATHER, false, refs, &next);
        clock->position = next;
        if (next == 0) clock->database++;
    }
    keyspace_unlock(keyspace, shard->number);
}

static enum demotion_status open_unit(struct mover *mover, enum tier_stream stream, size_t bytes) {
    switch (tier_prepare(mover->port, stream, bytes, false)) {
    case TIER_APPENDED: return DEMOTION_DONE;
    case TIER_BUSY: return DEMOTION_BUSY;
    default: return DEMOTION_FULL;
    }
}

static enum demotion_status prepare(struct mover *mover, enum tier_stream stream, size_t bytes) {
    enum demotion_status status = open_unit(mover, stream, bytes);
    if (status != DEMOTION_FULL || bytes <= TIER_PAGE_BYTES) return status;
    /* There may be room for smaller ones. */
    pass_over(mover->keyspace, mover->shard);
    return tier_is_full(mover->keyspace->tier) ? DEMOTION_FULL : DEMOTION_DONE;
}

size_t keyspace_far_room(const struct keyspace *keyspace) {
    size_t used = 0;
    if (!keyspace->far_pools) return 0;
    for (unsigned i = 0; i < keyspace->pool_count; i++)
        if (keyspace->far_pools[i]) used += region_pool_usage(keyspace->far_pools[i]).used_bytes;
    return used < keyspace->far_bytes_max ? keyspace->far_bytes_max - used : 0;
}

enum demotion_status keyspace_demote(struct keyspace *keyspace, uint32_t number, struct tier_port *port,
                                     const struct demotion *demotion, size_t *freed) {
    struct mover mover = {.keyspace = keyspace,
                          .shard = &keyspace->shards[number],
                          .port = port,
                          .demotion = demotion,
                          .started = clock_ticks(),
                          .far_room = keyspace_far_room(keyspace)};
    enum demotion_status status = DEMOTION_DONE;
    *freed = 0;
    if (keyspace_snapshot_is_crowded(keyspace)) return DEMOTION_BUSY;
    if (port && !demotion->far_only) {
        if (haul_bytes(port)) {
            (void)keyspace_haul(keyspace, port, demotion->budget_ns, freed);
            if (*freed > 0 || haul_bytes(port) >= demotion->wanted_bytes) return *freed ? DEMOTION_DONE : DEMOTION_BUSY;
        }
        status = prepare(&mover, TIER_STREAM_LASTING, 0);
        if (status != DEMOTION_DONE) return status;
    }
    do {
        mover.needed = 0;
        keyspace_lock(keyspace, number);
        status = go_round(&mover);
        keyspace_unlock(keyspace, number);
        enum demotion_status begun = mover.hauled.record ? begin_haul(&mover) : DEMOTION_DONE;
        if (status == DEMOTION_BUSY)
            status = mover.needed ? prepare(&mover, mover.needed_stream, mover.needed) : DEMOTION_DONE;
        /* A run is given back when it is not used now, and opening it may have taken all the time. */
        if (mover.needed >= RUN_BYTES) mover.started = clock_ticks();
        /* The hand has passed the one that could not set out. There may be room for smaller ones. */
        if (begun == DEMOTION_BUSY || (begun == DEMOTION_FULL && tier_is_full(keyspace->tier))) status = begun;
    } while (status == DEMOTION_DONE && mover.needed && !is_spent(&mover));
    *freed = mover.freed;
    /* What is under way will free something. */
    if (status == DEMOTION_NOTHING && keyspace->tier && tier_hauls(keyspace->tier)) return DEMOTION_BUSY;
    return status;
}

bool keyspace_may_demote(struct keyspace *keyspace, uint32_t number) {
    keyspace_lock(keyspace, number);
    const struct shard *shard = &keyspace->shards[number];
    const struct shard_clock *clock = &shard->clock;
    const struct shard_page_hand *hand = &shard->page_hand;
    bool any = next_database(keyspace, shard, 0) < keyspace->database_count;
    bool records = any && (clock->met || !clock->barren);
    bool pages = any && shard->collections && (hand->met || !hand->barren);
    keyspace_unlock(keyspace, number);
    return records || pages;
}

/* ---- by name ---- */

/* The references from `position` on whose keys match; returns where to go on. */
static uint64_t choose_matching(struct mover *mover, uint64_t position, struct span pattern,
                                struct chosen chosen[TIER_STREAMS]) {
    struct shard *shard = mover->shard;
    struct index_position slots[INDEX_GATHER_MAX];
    uint64_t refs[INDEX_GATHER_MAX], next;
    size_t count = index_gather_resident(mover->index, position, refs, slots, &next);
    for (unsigned i = 0; i < TIER_STREAMS; i++) chosen[i].count = 0;
    for (size_t i = 0; i < count; i++) {
        if (ref_is_cold(refs[i])) continue;
        const struct record *record = ref_record(refs[i]);
        if (!glob_match(pattern, record_key(record), GLOB_CASE_EXACT)) continue;
        if (record_is_paged(record)) {
            collection_of(record)->demote = true;
            collection_of(record)->demoted = 0;
            continue;
        }
        if (shard_is_pinned(shard, refs[i], record_size(record))) {
            mover->awaits = mover->awaits || tier_is_hauled(mover->keyspace->tier, record);
            continue;
        }
        if (goes_alone(mover, refs[i])) break; /* the others come when this one is done */
        add(&chosen[record_has_expiry(record) ? TIER_STREAM_VOLATILE : TIER_STREAM_LASTING], refs[i], slots[i]);
    }
    return next;
}

/* Where the references are done with, and the pages of collections that matched are not. */
#define POSITION_OF_PAGES UINT64_MAX

/* Looks at some pages of the first collection that matched and is not done with; NULL: there is none. */
static struct collection *choose_matching_pages(struct shard *shard, struct chosen *pages, uint32_t *next) {
    struct collection *collection = shard->collections;
    while (collection && !collection->demote) collection = collection->next;
    pages->count = 0;
    if (!collection) return NULL;
    const struct page_table *parts = collection->parts;
    _Static_assert(COLLECTION_PARTS == 2, "page numbers of one follow those of the other");
    uint64_t end = (uint64_t)parts[0].end + parts[1].end, at = collection->demoted;
    for (uint64_t last = at + PAGES_LOOKED_AT; at < end && at < last && pages->count < GATHER; at++) {
        const struct page_table *table = &parts[at >= parts[0].end];
        uint32_t number = (uint32_t)(at - (table == parts ? 0 : parts[0].end));
        if (page_exists(table, number) && !page_is_cold(table, number))
            add(pages, page_ref(table, number), (struct index_position){0});
    }
    *next = (uint32_t)at;
    return collection;
}

/* A slice of them. What comes back into memory behind the hand meanwhile is in use and stays. False: none is left. */
static bool demote_matching_pages(struct mover *mover, struct chosen *pages) {
    uint32_t next;
    struct collection *collection = choose_matching_pages(mover->shard, pages, &next);
    if (!collection) return false;
    if (!move_to_tier(mover, TIER_STREAM_LASTING, pages)) return true;
    if (next == collection->demoted) collection->demote = false;
    collection->demoted = next;
    return true;
}

size_t keyspace_demote_matching(struct keyspace *keyspace, uint32_t number, uint32_t database, struct tier_port *port,
                                struct span pattern, uint64_t budget_ns, uint64_t *position,
                                enum demotion_status *status) {
    const struct demotion demotion = {.budget_ns = budget_ns, .wanted_bytes = SIZE_MAX};
    struct shard *shard = &keyspace->shards[number];
    struct mover mover = {
        .keyspace = keyspace, .shard = shard, .port = port, .demotion = &demotion, .database = database};
    struct chosen chosen[TIER_STREAMS];
    uint64_t next = 0;
    size_t moved = 0, freed;
    bool complete = true;
    if (haul_bytes(port)) {
        (void)keyspace_haul(keyspace, port, budget_ns, &freed);
        *status = DEMOTION_BUSY;
        if (*position == 0) *position = 1; /* as good as 0, and not the end */
        return freed > 0;
    }
    *status = open_unit(&mover, TIER_STREAM_LASTING, 0);
    if (*status == DEMOTION_BUSY && *position == 0) *position = 1;
    if (*status != DEMOTION_DONE) return 0;
    do { /* what was opened for a record is used at once */
        mover.started = clock_ticks();
        mover.needed = 0;
        complete = true;
        keyspace_lock(keyspace, number);
        uint64_t before = shard->counters.demotions;
        mover.index = shard->databases[database];
        if (mover.index && *position != POSITION_OF_PAGES) {
            next = choose_matching(&mover, *position, pattern, chosen);
            for (unsigned i = 0; i < TIER_STREAMS; i++)
                complete = move_to_tier(&mover, (enum tier_stream)i, &chosen[i]) && complete;
            if (next == 0 && shard->collections) next = POSITION_OF_PAGES;
        } else {
            next = mover.index && demote_matching_pages(&mover, &chosen[TIER_STREAM_LASTING]) ? POSITION_OF_PAGES : 0;
        }
        moved += (size_t)(shard->counters.demotions - before);
        keyspace_unlock(keyspace, number);
        if (mover.hauled.record) {
            *status = begin_haul(&mover);
            if (*status == DEMOTION_DONE) *status = DEMOTION_BUSY;
            complete = false;
            break;
        }
        if (mover.needed) *status = open_unit(&mover, mover.needed_stream, mover.needed);
    } while (mover.needed && *status == DEMOTION_DONE);
    if (mover.awaits && complete) { /* it is not moved before it has arrived */
        *status = DEMOTION_BUSY;
        complete = false;
    }
    if (complete)
        *position = next;
    else if (*position == 0)
        *position = 1; /* as good as 0, and not the end */
    return moved;
}

/* ---- cleaning ---- */

struct survival {
    struct keyspace *keyspace;
    int64_t now_ms;
    /* Pages whose collection has moved to another shard since the block was written: these shards come after the
     * block's own, in ascending order. */
    uint32_t own_shard, next_shard;
    int64_t last_shard;
};

/* In which database the slot is that refers to this record; SWAPDB may have moved it since it was written. */
static struct index_position find_slot(const struct keyspace *keyspace, struct shard *shard, uint32_t written_in,
                                       uint64_t hash, uint64_t ref, uint32_t *database) {
    for (uint32_t i = 0; i < keyspace->database_count; i++) {
        uint32_t candidate = i == 0 ? written_in : i <= written_in ? i - 1 : i;
        struct index *index = candidate < keyspace->database_count ? shard->databases[candidate] : NULL;
        if (!index || !index->count) continue;
        struct index_position position = index_find_ref(index, hash, ref);
        if (!position.bucket) continue;
        *database = candidate;
        return position;
    }
    return (struct index_position){0};
}

static void remove_slot(struct keyspace *keyspace, struct shard *shard, uint32_t database, uint64_t hash,
                        const struct record *record, struct index_position position, bool expired) {
    uint64_t ref = index_ref_at(position);
    keyspace_keep(shard, shard->databases[database], ref, record);
    index_remove(shard->databases[database], position);
    shard->changes++;
    if (expired)
        shard->counters.expired++;
    else
        shard->counters.evicted++;
    watch_touch(&shard->watches, database, hash, record_key(record), expired);
    wait_mark(shard->waits, database, hash, record_key(record));
    keyspace_tell(keyspace, KEYSPACE_KEY_CHANGED, record_key(record), database, 0);
    keyspace_tell_removed(keyspace, record_key(record), database);
    keyspace_tell(keyspace, expired ? KEYSPACE_KEY_EXPIRED : KEYSPACE_KEY_EVICTED, record_key(record), database, 0);
    shard_release_value(keyspace, shard, ref);
}

/* The slot that still refers to record `i` of the block; NULL bucket: it has left. */
static struct index_position slot_of(const struct survival *survival, struct shard *shard,
                                     const struct tier_block_view *block, unsigned i, uint64_t *hash, uint64_t *ref,
                                     uint32_t *database) {
    const struct record *record = block->records[i];
    *hash = key_hash(record_key(record), survival->keyspace->seed);
    *ref = block->refs[i] | (record_has_expiry(record) ? REF_VOLATILE : 0);
    return find_slot(survival->keyspace, shard, block->database, *hash, *ref, database);
}

/* What has expired, or all of it. */
static void drop_from(const struct survival *survival, struct shard *shard, const struct tier_block_view *block,
                      bool all) {
    uint64_t hash, ref;
    uint32_t database;
    for (unsigned i = 0; i < block->count; i++) {
        if (record_type(block->records[i]) == RECORD_PAGE) continue;
        bool expired = record_is_expired(block->records[i], survival->now_ms);
        if (!expired && !all) continue;
        struct index_position slot = slot_of(survival, shard, block, i, &hash, &ref, &database);
        if (slot.bucket) remove_slot(survival->keyspace, shard, database, hash, block->records[i], slot, expired);
    }
}

/* Whether its collection, which is in this shard, still refers to the page there. */
static bool page_survives(struct survival *survival, const struct shard *shard, const struct record *page,
                          uint64_t ref) {
    uint32_t home = collection_shard(survival->keyspace->collections, page_owner(page));
    if (home != shard->number) {
        bool later = home != survival->own_shard && home > survival->last_shard;
        if (later && home < survival->next_shard) survival->next_shard = home;
        return false;
    }
    const struct collection *collection = collection_find(survival->keyspace->collections, page_owner(page));
    return page_refers(&collection->parts[page_number(page) >> 31], page_number(page) & (PAGE_NUMBER_MAX - 1), ref);
}

/* What is to be copied out: of one database at a time, which is nearly always all. */
static void choose_survivors(struct survival *survival, struct mover *mover, const struct tier_block_view *block,
                             struct chosen chosen[TIER_STREAMS]) {
    bool any = false;
    uint64_t hash, ref;
    uint32_t database;
    for (unsigned i = 0; i < TIER_STREAMS; i++) chosen[i].count = 0;
    for (unsigned i = 0; i < block->count; i++) {
        const struct record *record = block->records[i];
        if (record_type(record) == RECORD_PAGE) {
            struct chosen *pages = &chosen[TIER_STREAM_LASTING];
            if (!page_survives(survival, mover->shard, record, block->refs[i])) continue;
            pages->records[pages->count] = record;
            pages->refs[pages->count++] = block->refs[i];
            continue;
        }
        struct index_position slot = slot_of(survival, mover->shard, block, i, &hash, &ref, &database);
        if (!slot.bucket || (any && database != mover->database)) continue;
        any = true;
        mover->database = database;
        mover->index = mover->shard->databases[database];
        struct chosen *stream = &chosen[record_has_expiry(record) ? TIER_STREAM_VOLATILE : TIER_STREAM_LASTING];
        stream->records[stream->count] = record;
        stream->slots[stream->count] = slot;
        stream->refs[stream->count++] = ref;
    }
}

static bool survivors(void *ctx, struct tier_port *port, const struct tier_block_view *block, bool evict) {
    static const struct demotion unlimited = {.budget_ns = UINT64_MAX, .wanted_bytes = SIZE_MAX};
    struct survival *survival = ctx;
    struct keyspace *keyspace = survival->keyspace;
    uint32_t number = block->slot >> keyspace->shard_shift;
    struct chosen chosen[TIER_STREAMS];
    if (number >= keyspace->shard_count) return true;
    if (keyspace_snapshot_is_crowded(keyspace)) return false;
    struct mover mover = {.keyspace = keyspace, .port = port, .demotion = &unlimited};
    survival->own_shard = number;
    survival->last_shard = -1;
    for (;;) {
        survival->next_shard = UINT32_MAX;
        mover.needed = 0;
        mover.shard = &keyspace->shards[number];
        keyspace_lock(keyspace, number);
        drop_from(survival, mover.shard, block, evict);
        choose_survivors(survival, &mover, block, chosen);
        for (unsigned i = 0; i < TIER_STREAMS; i++) (void)move_to_tier(&mover, (enum tier_stream)i, &chosen[i]);
        keyspace_unlock(keyspace, number);
        if (chosen[0].count + chosen[1].count == 0) {
            if (survival->next_shard == UINT32_MAX) return true;
            survival->last_shard = number = survival->next_shard;
            continue;
        }
        if (mover.needed && tier_prepare(port, mover.needed_stream, mover.needed, true) != TIER_APPENDED) return false;
    }
}

bool keyspace_clean(struct keyspace *keyspace, struct tier_port *port, enum tier_clean_mode mode, int64_t now_ms,
                    uint64_t budget_ns) {
    struct survival survival = {.keyspace = keyspace, .now_ms = now_ms};
    return tier_clean(port, mode, budget_ns, survivors, &survival);
}
