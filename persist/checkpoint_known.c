/* Looking images up: see checkpoint_known.h.
 *
 * The chunks of a shard and database are read when the walk comes to it, and sorted by hash. They nearly are already: a
 * chunk has them as an earlier walk met them. Where they are too many they are read again for each part of the range of
 * hashes ("window"), which is chosen so that the parts are as many as need be and at most WINDOWS_MAX.
 *
 * Everything in the file was checked when it was read (checkpoint_file.c); still a reference is looked at before it is
 * used, since what is handed out goes into the next checkpoint. */

#include "persist/checkpoint_known.h"

#include "base/log.h"
#include "tiering/tier_block.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { WINDOW_MIN = 1 << 18, WINDOWS_MAX = 16 };

struct image {
    uint64_t hash; /* as a slot has it */
    uint64_t ref;
    struct checkpoint_print print;
};

struct checkpoint_known {
    struct checkpoint_known_options options;
    struct checkpoint_reader *reader;
    bool failed; /* a chunk cannot be read: nothing more is known */
    uint32_t segment_count;
    bool *worth; /* for each segment */
    /* What is at hand. */
    uint32_t shard, database;
    uint64_t from, to; /* hashes of the window, `to` included */
    struct image *images;
    size_t count, capacity;
    char *chunk;
    size_t chunk_room;
};

/* ---- prints ---- */

struct checkpoint_print checkpoint_print_of(const struct record *record, uint64_t seed) {
    const uint8_t *bytes = record_bytes(record);
    XXH128_hash_t body =
        XXH3_128bits_withSeed(bytes + RECORD_HEADER_FIXED, record_size(record) - RECORD_HEADER_FIXED, seed);
    uint64_t all[3] = {body.low64, body.high64,
                       bytes[0] | (uint64_t)(bytes[1] & ~((RECORD_EPOCHS - 1) << RECORD_EPOCH_SHIFT)) << 8};
    XXH128_hash_t whole = XXH3_128bits_withSeed(all, sizeof(all), seed);
    struct checkpoint_print print;
    memcpy(print.bytes, &whole.low64, sizeof(whole.low64));
    memcpy(print.bytes + sizeof(whole.low64), &whole.high64, sizeof(print.bytes) - sizeof(whole.low64));
    return print;
}

/* ---- the file ---- */

static bool read_chunk(struct checkpoint_known *known, uint32_t chunk) {
    const struct checkpoint_place *place = checkpoint_reader_place(known->reader, chunk);
    char error[200] = "there is no memory";
    if (known->chunk_room < place->bytes) {
        free(known->chunk);
        known->chunk_room = (known->chunk = malloc(place->bytes)) ? place->bytes : 0;
    }
    if ((known->chunk || place->bytes == 0) &&
        checkpoint_reader_read(known->reader, chunk, known->chunk, error, sizeof(error)))
        return true;
    log_warning("the file of the last checkpoint %s: what is in memory is written anew", error);
    known->failed = true;
    return false;
}

/* Rows of segments; true: images of one at least are worth keeping. */
static bool find_segments(struct checkpoint_known *known) {
    struct checkpoint_segment row;
    bool any = false;
    for (uint32_t i = 0; i < checkpoint_reader_chunks(known->reader); i++) {
        const struct checkpoint_place *place = checkpoint_reader_place(known->reader, i);
        if (place->kind != CHECKPOINT_SEGMENTS) continue;
        if (!read_chunk(known, i)) return false;
        for (uint32_t k = 0; k < place->count; k++) {
            memcpy(&row, known->chunk + k * sizeof(row), sizeof(row));
            if (row.segment >= known->segment_count) continue;
            bool worth = tier_images_are_worth_keeping(known->options.tier, row.segment, row.generation, row.live);
            known->worth[row.segment] = worth;
            any = any || worth;
        }
    }
    return any;
}

static struct checkpoint_reader *open_reader(const struct checkpoint_known_options *options) {
    const struct tier_pool *pool = tier_pool_of(options->tier);
    const struct tier_pool_manifest *manifest = &pool->manifest;
    struct checkpoint_identity identity = {.number = manifest->number, .shards = pool->header.shards};
    const struct checkpoint_extent extent = {
        .file_bytes = manifest->file_bytes, .directory_at = manifest->directory_at, .chunks = manifest->chunks};
    char path[CHECKPOINT_PATH_MAX], error[200];
    memcpy(identity.uuid, pool->header.uuid, sizeof(identity.uuid));
    if (!checkpoint_path(path, options->prefix, manifest->number, "")) return NULL;
    struct checkpoint_reader *reader = checkpoint_reader_open(path, &identity, &extent, error, sizeof(error));
    if (!reader) log_warning("%s %s: what is in memory is written anew", path, error);
    return reader;
}

struct checkpoint_known *checkpoint_known_open(const struct checkpoint_known_options *options) {
    if (tier_pool_of(options->tier)->manifest.number == 0) return NULL;
    if (!tier_has_room_for_images(options->tier, options->resident_bytes)) return NULL;
    struct checkpoint_known *known = calloc(1, sizeof(*known));
    if (!known) return NULL;
    known->options = *options;
    known->shard = UINT32_MAX;
    known->segment_count = segment_table_usage(tier_segments(options->tier)).segments;
    known->worth = calloc(known->segment_count ? known->segment_count : 1, sizeof(*known->worth));
    if (known->worth && (known->reader = open_reader(options)) && find_segments(known)) return known;
    checkpoint_known_close(known);
    return NULL;
}

void checkpoint_known_close(struct checkpoint_known *known) {
    if (!known) return;
    checkpoint_reader_close(known->reader);
    free(known->worth);
    free(known->images);
    free(known->chunk);
    free(known);
}

/* ---- chunks ---- */

uint32_t checkpoint_known_first(const struct checkpoint_known *known, enum checkpoint_kind kind, uint32_t shard) {
    return checkpoint_reader_find(known->reader, kind, shard);
}

const struct checkpoint_place *checkpoint_known_place(const struct checkpoint_known *known, uint32_t chunk) {
    return chunk < checkpoint_reader_chunks(known->reader) ? checkpoint_reader_place(known->reader, chunk) : NULL;
}

const char *checkpoint_known_read(struct checkpoint_known *known, uint32_t chunk) {
    return !known->failed && read_chunk(known, chunk) ? known->chunk : NULL;
}

/* ---- images of a shard and database ---- */

bool checkpoint_known_is_worth_it(const struct checkpoint_known *known, uint64_t ref) {
    uint64_t offset = tier_block_offset(tier_address_block(ref_address(ref)));
    if (!ref_is_cold(ref) || offset < TIER_HEADER_BYTES) return false;
    uint32_t segment = segment_table_of(tier_segments(known->options.tier), offset);
    return segment < known->segment_count && known->worth[segment];
}

static bool note_image(struct checkpoint_known *known, const struct image *image) {
    if (known->count == known->capacity) {
        size_t capacity = known->capacity ? known->capacity * 2 : 1024;
        struct image *images = realloc(known->images, capacity * sizeof(*images));
        if (!images) return false;
        known->images = images;
        known->capacity = capacity;
    }
    known->images[known->count++] = *image;
    return true;
}

/* Those of the chunk at hand that are in the window. */
static bool note_images(struct checkpoint_known *known, const struct checkpoint_place *place) {
    uint32_t prints = checkpoint_place_prints(place);
    const char *slot = known->chunk + (place->count - prints) * (size_t)CHECKPOINT_SLOT_BYTES;
    const char *print = known->chunk + place->count * (size_t)CHECKPOINT_SLOT_BYTES;
    for (uint32_t i = 0; i < prints; i++) {
        struct image image;
        checkpoint_slot_read(slot + i * (size_t)CHECKPOINT_SLOT_BYTES, &image.hash, &image.ref);
        if (image.hash < known->from || image.hash > known->to || !checkpoint_known_is_worth_it(known, image.ref))
            continue;
        memcpy(&image.print, print + i * sizeof(image.print), sizeof(image.print));
        if (!note_image(known, &image)) return false;
    }
    return true;
}

static int by_hash(const void *a, const void *b) {
    uint64_t left = ((const struct image *)a)->hash, right = ((const struct image *)b)->hash;
    return (left > right) - (left < right);
}

static bool is_of(const struct checkpoint_known *known, uint32_t chunk, uint32_t shard) {
    if (chunk >= checkpoint_reader_chunks(known->reader)) return false;
    const struct checkpoint_place *place = checkpoint_reader_place(known->reader, chunk);
    return place->kind == CHECKPOINT_SLOTS && place->shard == shard;
}

/* Sets the window around the hash. */
static void choose_window(struct checkpoint_known *known, uint32_t first, uint64_t hash) {
    uint64_t images = 0, windows;
    for (uint32_t i = first; is_of(known, i, known->shard); i++) {
        const struct checkpoint_place *place = checkpoint_reader_place(known->reader, i);
        if (place->database == known->database) images += checkpoint_place_prints(place);
    }
    windows = 1 + images / WINDOW_MIN;
    if (windows > WINDOWS_MAX) windows = WINDOWS_MAX;
    uint64_t width = windows == 1 ? UINT64_MAX : UINT64_MAX / windows + 1;
    known->from = hash / width * width;
    known->to = windows == 1 || known->from > UINT64_MAX - width ? UINT64_MAX : known->from + width - 1;
    if (windows == 1) known->from = 0;
}

/* What was not read, since there is no memory or the file is damaged, is not known. */
static void bring_to_hand(struct checkpoint_known *known, uint32_t shard, uint32_t database, uint64_t hash) {
    known->shard = shard;
    known->database = database;
    known->count = 0;
    uint32_t first = checkpoint_known_first(known, CHECKPOINT_SLOTS, shard);
    choose_window(known, first, hash);
    bool good = !known->failed, sorted = true;
    for (uint32_t i = first; good && is_of(known, i, shard); i++) {
        const struct checkpoint_place *place = checkpoint_reader_place(known->reader, i);
        if (place->database != database || checkpoint_place_prints(place) == 0) continue;
        good = read_chunk(known, i) && note_images(known, place);
    }
    for (size_t i = 1; i < known->count && sorted; i++) sorted = known->images[i - 1].hash <= known->images[i].hash;
    if (!sorted) qsort(known->images, known->count, sizeof(*known->images), by_hash);
}

bool checkpoint_known_find(struct checkpoint_known *known, uint32_t shard, uint32_t database, uint64_t hash,
                           const struct checkpoint_print *print, uint64_t *ref) {
    char slot[CHECKPOINT_SLOT_BYTES];
    uint64_t ignored;
    checkpoint_slot_write(slot, hash, 0);
    checkpoint_slot_read(slot, &hash, &ignored);
    if (known->shard != shard || known->database != database || hash < known->from || hash > known->to)
        bring_to_hand(known, shard, database, hash);
    size_t low = 0, high = known->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (known->images[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < known->count && known->images[low].hash == hash; low++) {
        if (memcmp(&known->images[low].print, print, sizeof(*print)) != 0) continue;
        *ref = known->images[low].ref;
        return true;
    }
    return false;
}
