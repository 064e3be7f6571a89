/* Gathering of slots and images: see checkpoint_parts.h.
 *
 *   part       512 slots, those with prints apart; for each stream (lasting, volatile) images of up to 8 KB together,
 *              copied one behind the other
 *
 * An image becomes a slot when its block is made, for only then its reference is known. One that is not small makes a
 * block at once. */

#include "persist/checkpoint_parts.h"

#include "base/crc16.h"
#include "base/stat_counter.h"
#include "keyspace/index.h"
#include "keyspace/key_hash.h"
#include "tiering/tier_block.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
    PARTS_MIN = 256,
    PART_SLOTS = 512,
    STAGED_BYTES = 8 << 10,
    STAGED_RECORD_MAX = STAGED_BYTES / 4, /* larger ones make blocks of their own, or nearly */
};

struct printed {
    bool is_there;
    struct checkpoint_print print;
};

struct staged_memory {
    struct printed printed[TIER_BLOCK_RECORDS];
    char records[STAGED_BYTES];
};

struct staged {
    struct staged_memory *memory; /* NULL: nothing was ever staged here */
    size_t used;
    unsigned count;
    const struct record *records[TIER_BLOCK_RECORDS];
};

/* Slots with prints; only the walk's parts have any. */
struct printed_slots {
    unsigned count;
    char slots[PART_SLOTS * CHECKPOINT_SLOT_BYTES];
    struct checkpoint_print prints[PART_SLOTS];
};

struct part {
    uint32_t shard, database;
    unsigned count;
    struct printed_slots *printed; /* NULL: there never was one */
    struct staged staged[TIER_STREAMS];
    char slots[PART_SLOTS * CHECKPOINT_SLOT_BYTES];
};

struct checkpoint_parts {
    struct checkpoint_parts_options options;
    const char *failure; /* NULL: none */
    uint32_t segment_count, part_count;
    uint32_t *live;
    stat_counter slots, images, image_bytes, kept;
    char payload[2 * PART_SLOTS * CHECKPOINT_SLOT_BYTES]; /* of a chunk: slots, then prints */
    struct part *parts[];
};

/* ---- life ---- */

struct checkpoint_parts *checkpoint_parts_create(const struct checkpoint_parts_options *options) {
    uint32_t count = options->shards > PARTS_MIN ? options->shards : PARTS_MIN;
    struct checkpoint_parts *parts = calloc(1, sizeof(*parts) + count * sizeof(parts->parts[0]));
    if (!parts) return NULL;
    parts->options = *options;
    parts->part_count = count;
    parts->segment_count = segment_table_usage(tier_segments(options->tier)).segments;
    parts->live = calloc(parts->segment_count, sizeof(*parts->live));
    if (parts->live) return parts;
    free(parts);
    return NULL;
}

void checkpoint_parts_destroy(struct checkpoint_parts *parts) {
    if (!parts) return;
    for (uint32_t i = 0; i < parts->part_count; i++) {
        for (unsigned k = 0; parts->parts[i] && k < TIER_STREAMS; k++) free(parts->parts[i]->staged[k].memory);
        if (parts->parts[i]) free(parts->parts[i]->printed);
        free(parts->parts[i]);
    }
    free(parts->live);
    free(parts);
}

static bool fail(struct checkpoint_parts *parts, const char *why) {
    if (!parts->failure) parts->failure = why;
    return false;
}

/* ---- slots ---- */

static unsigned printed_count(const struct part *part) {
    return part->printed ? part->printed->count : 0;
}

static bool write_slots(struct checkpoint_parts *parts, struct part *part) {
    unsigned plain = part->count, printed = printed_count(part), count = plain + printed;
    size_t bytes = plain * (size_t)CHECKPOINT_SLOT_BYTES;
    if (count == 0) return true;
    memcpy(parts->payload, part->slots, bytes);
    if (printed) {
        memcpy(parts->payload + bytes, part->printed->slots, printed * (size_t)CHECKPOINT_SLOT_BYTES);
        bytes += printed * (size_t)CHECKPOINT_SLOT_BYTES;
        memcpy(parts->payload + bytes, part->printed->prints, printed * sizeof(struct checkpoint_print));
        bytes += printed * sizeof(struct checkpoint_print);
        part->printed->count = 0;
    }
    part->count = 0;
    if (!parts->options.writer) return fail(parts, "has no file");
    if (checkpoint_writer_add(parts->options.writer, CHECKPOINT_SLOTS, part->shard, (uint16_t)part->database, count,
                              parts->payload, bytes))
        return true;
    return fail(parts, strerror(errno));
}

/* `print` NULL: none. Without memory for it, it is left out. */
static char *place_of_slot(struct part *part, const struct checkpoint_print *print) {
    if (print && !part->printed) part->printed = calloc(1, sizeof(*part->printed));
    if (!print || !part->printed) return part->slots + part->count++ * (size_t)CHECKPOINT_SLOT_BYTES;
    unsigned at = part->printed->count++;
    part->printed->prints[at] = *print;
    return part->printed->slots + at * (size_t)CHECKPOINT_SLOT_BYTES;
}

void checkpoint_parts_refer(struct checkpoint_parts *parts, uint64_t ref) {
    struct segment_table *segments = tier_segments(parts->options.tier);
    uint32_t segment = segment_table_of(segments, tier_block_offset(tier_address_block(ref_address(ref))));
    assert(ref_is_cold(ref) && segment < parts->segment_count);
    parts->live[segment]++;
}

static bool add_slot(struct checkpoint_parts *parts, struct part *part, uint64_t hash, uint64_t ref,
                     const struct checkpoint_print *print) {
    checkpoint_parts_refer(parts, ref);
    stat_add(&parts->slots, 1);
    checkpoint_slot_write(place_of_slot(part, print), hash, ref);
    return part->count + printed_count(part) < PART_SLOTS || write_slots(parts, part);
}

/* ---- images ---- */

/* As many of the records as one block takes; waits for room. 0: it failed. */
static unsigned append(struct checkpoint_parts *parts, uint32_t shard, uint32_t database, enum tier_stream stream,
                       const struct record *const *records, unsigned count, uint64_t *refs) {
    struct tier_port *port = tier_image_port(parts->options.tier);
    uint16_t slot = (uint16_t)(shard << parts->options.shard_shift);
    unsigned taken;
    for (;;) {
        if (tier_append(port, stream, slot, (uint16_t)database, records, count, refs, &taken) == TIER_APPENDED)
            return taken;
        switch (tier_prepare(port, stream, tier_block_alone_bound(records[0]), true)) {
        case TIER_APPENDED: break;
        case TIER_BUSY: tier_port_wait(port); break;
        default: fail(parts, "the tier has no room for what is in memory"); return 0;
        }
        if (tier_is_failing(parts->options.tier)) {
            fail(parts, "the tier cannot be written");
            return 0;
        }
    }
}

static bool write_images(struct checkpoint_parts *parts, struct part *part, enum tier_stream stream,
                         const struct record *const *records, const struct printed *printed, unsigned count) {
    uint64_t refs[TIER_BLOCK_RECORDS];
    for (unsigned i = 0, taken; i < count; i += taken) {
        taken = append(parts, part->shard, part->database, stream, records + i, count - i, refs);
        if (taken == 0) return false;
        for (unsigned k = 0; k < taken; k++) {
            uint64_t hash = key_hash(record_key(records[i + k]), parts->options.seed);
            const struct printed *with = &printed[i + k];
            if (!add_slot(parts, part, index_hash_whole(hash), refs[k], with->is_there ? &with->print : NULL))
                return false;
        }
    }
    return true;
}

bool checkpoint_parts_append(struct checkpoint_parts *parts, uint32_t shard, uint32_t database,
                             const struct record *const *records, unsigned count, uint64_t *refs) {
    for (unsigned i = 0, taken; i < count; i += taken) {
        taken = append(parts, shard, database, TIER_STREAM_LASTING, records + i, count - i, refs + i);
        if (taken == 0) return false;
    }
    return true;
}

static bool write_staged(struct checkpoint_parts *parts, struct part *part, enum tier_stream stream) {
    struct staged *staged = &part->staged[stream];
    bool written = staged->count == 0 ||
                   write_images(parts, part, stream, staged->records, staged->memory->printed, staged->count);
    staged->count = 0;
    staged->used = 0;
    return written;
}

/* ---- parts ---- */

static bool write_part(struct checkpoint_parts *parts, struct part *part) {
    for (unsigned i = 0; i < TIER_STREAMS; i++)
        if (!write_staged(parts, part, (enum tier_stream)i)) return false;
    return write_slots(parts, part);
}

/* NULL: it failed. */
static struct part *part_for(struct checkpoint_parts *parts, uint32_t shard, uint32_t database) {
    struct part **place = &parts->parts[(shard + database * 31) % parts->part_count];
    if (parts->failure) return NULL;
    if (!*place && !(*place = calloc(1, sizeof(**place)))) {
        fail(parts, "there is no memory");
        return NULL;
    }
    struct part *part = *place;
    if (part->shard != shard || part->database != database) {
        if (!write_part(parts, part)) return NULL;
        part->shard = shard;
        part->database = database;
    }
    return part;
}

bool checkpoint_parts_slot(struct checkpoint_parts *parts, uint32_t shard, uint32_t database, uint64_t hash,
                           uint64_t ref) {
    struct part *part = part_for(parts, shard, database);
    return part && add_slot(parts, part, hash, ref, NULL);
}

bool checkpoint_parts_kept(struct checkpoint_parts *parts, uint32_t shard, uint32_t database, uint64_t hash,
                           uint64_t ref, const struct checkpoint_print *print) {
    struct part *part = part_for(parts, shard, database);
    stat_add(&parts->kept, 1);
    return part && add_slot(parts, part, hash, ref, print);
}

static bool stage(struct checkpoint_parts *parts, struct part *part, enum tier_stream stream,
                  const struct record *image, size_t bytes, const struct printed *printed) {
    struct staged *staged = &part->staged[stream];
    if (!staged->memory && !(staged->memory = malloc(sizeof(*staged->memory))))
        return fail(parts, "there is no memory");
    if ((bytes > STAGED_BYTES - staged->used || staged->count == TIER_BLOCK_RECORDS) &&
        !write_staged(parts, part, stream))
        return false;
    staged->memory->printed[staged->count] = *printed;
    staged->records[staged->count++] = memcpy(staged->memory->records + staged->used, image, bytes);
    staged->used += bytes;
    return true;
}

bool checkpoint_parts_image(struct checkpoint_parts *parts, uint32_t database, const struct record *image,
                            const struct checkpoint_print *print) {
    struct printed printed = {.is_there = print != NULL};
    if (print) printed.print = *print;
    uint32_t shard = cluster_slot_of(record_key(image)) >> parts->options.shard_shift;
    enum tier_stream stream = record_has_expiry(image) ? TIER_STREAM_VOLATILE : TIER_STREAM_LASTING;
    struct part *part = part_for(parts, shard, database);
    size_t bytes = record_size(image);
    if (!part) return false;
    stat_add(&parts->images, 1);
    stat_add(&parts->image_bytes, bytes);
    if (bytes <= STAGED_RECORD_MAX) return stage(parts, part, stream, image, bytes, &printed);
    return write_images(parts, part, stream, &image, &printed, 1);
}

bool checkpoint_parts_end(struct checkpoint_parts *parts) {
    for (uint32_t i = 0; i < parts->part_count && !parts->failure; i++)
        if (parts->parts[i]) (void)write_part(parts, parts->parts[i]);
    return !parts->failure;
}

/* ---- figures ---- */

const char *checkpoint_parts_failure(const struct checkpoint_parts *parts) {
    return parts->failure ? parts->failure : "was stopped";
}

const uint32_t *checkpoint_parts_live(const struct checkpoint_parts *parts) {
    return parts->live;
}

struct checkpoint_parts_figures checkpoint_parts_figures(const struct checkpoint_parts *parts) {
    return (struct checkpoint_parts_figures){.slots = stat_get(&parts->slots),
                                             .images = stat_get(&parts->images),
                                             .image_bytes = stat_get(&parts->image_bytes),
                                             .kept = stat_get(&parts->kept)};
}
