/* Making a checkpoint. The order of the end is what matters:
 *
 *   1. images, slots and roots that were still being gathered are written
 *   2. blocks that were appended before the cut are written: workers see to that, here it is waited for
 *   3. which segments the slots refer to, and what is known of them; fields that expire; directory; all synced
 *   4. the tier's file is synced, and its manifest is switched: from now on this checkpoint counts
 *   5. the files of the one before are removed
 *
 * What is kept of the images of the one before stays until a checkpoint counts that does not refer to it: in 4 the
 * segment table is told what this one refers to, and gives up the rest. It does so only if this one counts.
 *
 * A failure before 4 leaves the checkpoint before as it was. What fails in 4 leaves it to the next start to find out
 * which of the two it is; both are kept then. */

#include "persist/checkpoint.h"

#include "base/clock.h"
#include "base/crc16.h"
#include "base/log.h"
#include "keyspace/field_expiry.h"
#include "keyspace/index.h"
#include "keyspace/key_hash.h"
#include "persist/checkpoint_collections.h"
#include "persist/checkpoint_known.h"
#include "persist/checkpoint_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SETTLE_PAUSE_NS = 1000000, SETTLE_SECONDS_MAX = 60, ROWS = 1024, FIELDS_ONCE = 4096 };

struct checkpoint {
    struct checkpoint_options options;
    struct tier *tier;
    uint64_t number;
    struct checkpoint_writer *writer; /* NULL: finished, or given up */
    struct checkpoint_parts *parts;
    struct checkpoint_collections *collections;
    struct checkpoint_known *known; /* images of the one before; NULL: none */
    struct checkpoint_known_pages *known_pages;
    bool known_asked;
    bool cut, completed;
    int64_t cut_ms;
    struct checkpoint_journal journal;
    uint64_t file_bytes;
    char prefix[CHECKPOINT_PATH_MAX];
};

static bool say(char *error, size_t error_bytes, const char *what, const char *why) {
    snprintf(error, error_bytes, "checkpoint: %s: %s", what, why);
    return false;
}

/* ---- life ---- */

static bool open_writer(struct checkpoint *checkpoint) {
    const struct tier_pool *pool = tier_pool_of(checkpoint->tier);
    struct checkpoint_identity identity = {.number = checkpoint->number, .shards = pool->header.shards};
    char path[CHECKPOINT_PATH_MAX];
    memcpy(identity.uuid, pool->header.uuid, sizeof(identity.uuid));
    errno = ENAMETOOLONG;
    if (!checkpoint_path(path, checkpoint->prefix, checkpoint->number, "")) return false;
    checkpoint->writer = checkpoint_writer_create(path, &identity, checkpoint->options.io);
    return checkpoint->writer != NULL;
}

static bool create_collections(struct checkpoint *checkpoint) {
    const struct checkpoint_collections_options options = {.parts = checkpoint->parts,
                                                           .writer = checkpoint->writer,
                                                           .shards = checkpoint->options.keyspace->shard_count,
                                                           .shard_shift = checkpoint->options.keyspace->shard_shift,
                                                           .seed = checkpoint->options.keyspace->seed};
    return (checkpoint->collections = checkpoint_collections_create(&options)) != NULL;
}

struct checkpoint *checkpoint_create(const struct checkpoint_options *options, char *error, size_t error_bytes) {
    struct keyspace *keyspace = options->keyspace;
    struct checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
    errno = ENOMEM;
    if (checkpoint) {
        checkpoint->options = *options;
        checkpoint->tier = keyspace->tier;
        assert(tier_pool_of(checkpoint->tier) && keyspace->seed == tier_pool_of(checkpoint->tier)->header.seed &&
               keyspace->shard_count == tier_pool_of(checkpoint->tier)->header.shards);
        snprintf(checkpoint->prefix, sizeof(checkpoint->prefix), "%s", options->prefix);
        checkpoint->number = tier_last_cut(checkpoint->tier) + 1;
        bool opened = open_writer(checkpoint);
        struct checkpoint_parts_options parts = {.tier = checkpoint->tier,
                                                 .writer = checkpoint->writer,
                                                 .shards = keyspace->shard_count,
                                                 .shard_shift = keyspace->shard_shift,
                                                 .seed = keyspace->seed};
        if (opened && (checkpoint->parts = checkpoint_parts_create(&parts)) && create_collections(checkpoint))
            return checkpoint;
    }
    say(error, error_bytes, "cannot be begun", strerror(errno));
    checkpoint_destroy(checkpoint);
    return NULL;
}

static void give_up(struct checkpoint *checkpoint) {
    if (checkpoint->writer) checkpoint_writer_abandon(checkpoint->writer);
    checkpoint->writer = NULL;
    if (checkpoint->cut) tier_abandon(checkpoint->tier, checkpoint->number);
    checkpoint->cut = false;
}

void checkpoint_destroy(struct checkpoint *checkpoint) {
    if (!checkpoint) return;
    if (!checkpoint->completed) give_up(checkpoint);
    checkpoint_known_pages_destroy(checkpoint->known_pages);
    checkpoint_known_close(checkpoint->known);
    checkpoint_collections_destroy(checkpoint->collections);
    checkpoint_parts_destroy(checkpoint->parts);
    free(checkpoint);
}

void checkpoint_cut(struct checkpoint *checkpoint, const struct checkpoint_journal *journal) {
    checkpoint->cut = true;
    checkpoint->cut_ms = clock_unix_ms();
    checkpoint->journal = *journal;
    tier_cut(checkpoint->tier, checkpoint->number);
}

/* ---- what the walker gives ---- */

static bool take_cold(void *ctx, unsigned lane, uint32_t shard, uint32_t database, uint64_t hash, uint64_t ref) {
    struct checkpoint *checkpoint = ctx;
    (void)lane;
    return checkpoint_parts_slot(checkpoint->parts, shard, database, hash, ref);
}

static bool take_record(void *ctx, unsigned lane, uint32_t database, const struct record *image) {
    struct checkpoint *checkpoint = ctx;
    (void)lane;
    return checkpoint_parts_image(checkpoint->parts, database, image, NULL);
}

/* Here, and not at the cut, when all workers stand still: to add up memory and to read the directory of the file before
 * takes its time. */
static struct checkpoint_known *known_images(struct checkpoint *checkpoint) {
    if (checkpoint->known_asked) return checkpoint->known;
    const struct checkpoint_known_options options = {.tier = checkpoint->tier,
                                                     .prefix = checkpoint->prefix,
                                                     .seed = checkpoint->options.keyspace->seed,
                                                     .resident_bytes =
                                                         keyspace_resident_bytes(checkpoint->options.keyspace)};
    checkpoint->known_asked = true;
    checkpoint->known = checkpoint_known_open(&options);
    checkpoint->known_pages = checkpoint_known_pages_create(checkpoint->known);
    return checkpoint->known;
}

static bool take_walked(void *ctx, unsigned lane, uint32_t database, const struct record *image) {
    struct checkpoint *checkpoint = ctx;
    const struct keyspace *keyspace = checkpoint->options.keyspace;
    struct checkpoint_print print = checkpoint_print_of(image, keyspace->seed);
    struct checkpoint_known *known = known_images(checkpoint);
    (void)lane;
    if (known) {
        uint32_t shard = cluster_slot_of(record_key(image)) >> keyspace->shard_shift;
        uint64_t hash = index_hash_whole(key_hash(record_key(image), keyspace->seed)), ref;
        if (checkpoint_known_find(known, shard, database, hash, &print, &ref))
            return checkpoint_parts_kept(checkpoint->parts, shard, database, hash, ref, &print);
    }
    return checkpoint_parts_image(checkpoint->parts, database, image, &print);
}

static bool take_collection(void *ctx, unsigned lane, uint32_t database, struct snapshot_collection *value) {
    struct checkpoint *checkpoint = ctx;
    (void)lane;
    (void)known_images(checkpoint);
    return checkpoint_collections_give(checkpoint->collections, database, value, checkpoint->known_pages);
}

struct snapshot_sink checkpoint_sink(struct checkpoint *checkpoint) {
    return (struct snapshot_sink){.ctx = checkpoint,
                                  .record = take_record,
                                  .walked = take_walked,
                                  .collection = take_collection,
                                  .cold = take_cold};
}

/* ---- what is known of segments ---- */

static bool write_expiries(struct checkpoint *checkpoint, uint32_t segment) {
    const _Atomic uint64_t *ranges;
    uint32_t count = segment_table_expiries(tier_segments(checkpoint->tier), segment, &ranges);
    uint64_t *copy = count ? malloc(count * sizeof(*copy)) : NULL;
    if (count == 0) return true;
    if (!copy) return false;
    for (uint32_t i = 0; i < count; i++) copy[i] = atomic_load_explicit(&ranges[i], memory_order_relaxed);
    bool written =
        checkpoint_writer_add(checkpoint->writer, CHECKPOINT_EXPIRIES, segment, 0, count, copy, count * sizeof(*copy));
    free(copy);
    return written;
}

/* What a slot refers to is kept, so all this is still what it was at the cut, or more. */
static struct checkpoint_segment row_of(struct segment_table *segments, uint32_t segment, uint32_t live) {
    struct segment_info info = segment_table_info(segments, segment);
    bool open = info.state == SEGMENT_OPEN;
    return (struct checkpoint_segment){.segment = segment,
                                       .generation = info.generation,
                                       .run = info.run,
                                       .records = info.records,
                                       .live = live,
                                       .flags = info.expires ? CHECKPOINT_SEGMENT_EXPIRES : 0,
                                       .used_bytes =
                                           open ? info.run * segment_table_segment_bytes(segments) : info.used_bytes};
}

static bool write_segments(struct checkpoint *checkpoint) {
    struct segment_table *segments = tier_segments(checkpoint->tier);
    const uint32_t *live = checkpoint_parts_live(checkpoint->parts);
    uint32_t count = segment_table_usage(segments).segments, filled = 0;
    struct checkpoint_segment rows[ROWS];
    for (uint32_t i = 0; i < count; i++) {
        if (live[i] == 0) continue;
        rows[filled++] = row_of(segments, i, live[i]);
        if (!write_expiries(checkpoint, i)) return false;
        if (filled < ROWS) continue;
        if (!checkpoint_writer_add(checkpoint->writer, CHECKPOINT_SEGMENTS, 0, 0, filled, rows, sizeof(rows)))
            return false;
        filled = 0;
    }
    return filled == 0 ||
           checkpoint_writer_add(checkpoint->writer, CHECKPOINT_SEGMENTS, 0, 0, filled, rows, filled * sizeof(rows[0]));
}

/* ---- fields that expire: hints, so those of now serve as well as those of the cut ---- */

static bool write_fields_of(struct checkpoint *checkpoint, uint32_t shard, uint32_t database) {
    struct keyspace *keyspace = checkpoint->options.keyspace;
    struct field_due *dues = malloc(FIELDS_ONCE * sizeof(*dues));
    bool good = dues != NULL, more = true;
    for (size_t at = 0; good && more;) {
        uint32_t count = 0;
        keyspace_lock(keyspace, shard);
        const struct index *index = keyspace->shards[shard].databases[database];
        const struct field_expiry *fields = index ? index->fields : NULL;
        for (; fields && at < fields->capacity && count < FIELDS_ONCE; at++)
            if (fields->entries[at].hash) dues[count++] = fields->entries[at];
        more = fields && at < fields->capacity;
        keyspace_unlock(keyspace, shard);
        if (count)
            good = checkpoint_writer_add(checkpoint->writer, CHECKPOINT_FIELDS, shard, (uint16_t)database, count, dues,
                                         count * sizeof(*dues));
    }
    free(dues);
    return good;
}

/* Only whether there is one; without the shard's lock. */
static bool has_index(struct keyspace *keyspace, uint32_t shard, uint32_t database) {
    return __atomic_load_n(&keyspace->shards[shard].databases[database], __ATOMIC_RELAXED) != NULL;
}

static bool write_fields(struct checkpoint *checkpoint) {
    struct keyspace *keyspace = checkpoint->options.keyspace;
    for (uint32_t shard = 0; shard < keyspace->shard_count; shard++)
        for (uint32_t database = 0; database < keyspace->database_count; database++)
            if (has_index(keyspace, shard, database) && !write_fields_of(checkpoint, shard, database)) return false;
    return true;
}

/* ---- the end ---- */

static bool settle(struct tier *tier) {
    const struct timespec pause = {.tv_nsec = SETTLE_PAUSE_NS};
    int64_t until = clock_monotonic_ns() + SETTLE_SECONDS_MAX * INT64_C(1000000000);
    while (!tier_is_settled(tier)) {
        if (tier_is_failing(tier) || clock_monotonic_ns() > until) return false;
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

static void remove_files(const struct checkpoint *checkpoint, uint64_t number) {
    static const char *const suffixes[] = {"", ".rdb"};
    const struct file_io *io = checkpoint->options.io ? checkpoint->options.io : &file_io_system;
    char path[CHECKPOINT_PATH_MAX];
    if (number == 0) return;
    for (unsigned i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
        if (checkpoint_path(path, checkpoint->prefix, number, suffixes[i])) (void)io->unlink(io->ctx, path);
}

static void note_history(const struct checkpoint *checkpoint, struct tier_pool_manifest *manifest) {
    const struct checkpoint_journal *journal = &checkpoint->journal;
    if (!journal->has_history) return;
    manifest->flags |= TIER_MANIFEST_HAS_HISTORY;
    memcpy(manifest->history_id, journal->history_id, sizeof(manifest->history_id));
    manifest->history_offset = journal->history_offset;
    manifest->history_database = journal->history_database;
}

static const char *failure_of(const struct checkpoint *checkpoint) {
    const char *of_collections = checkpoint_collections_failure(checkpoint->collections);
    return of_collections ? of_collections : checkpoint_parts_failure(checkpoint->parts);
}

/* In the checkpoint's own file. */
static uint64_t keys_of(const struct checkpoint *checkpoint) {
    return checkpoint_parts_figures(checkpoint->parts).slots +
           checkpoint_collections_figures(checkpoint->collections).collections;
}

/* Steps 1 to 3. */
static bool write_all(struct checkpoint *checkpoint, struct tier_pool_manifest *manifest, char *error,
                      size_t error_bytes) {
    struct checkpoint_extent extent;
    if (!checkpoint_parts_end(checkpoint->parts) || !checkpoint_collections_end(checkpoint->collections))
        return say(error, error_bytes, "cannot be written", failure_of(checkpoint));
    if (!tier_images_end(checkpoint->tier) || !settle(checkpoint->tier))
        return say(error, error_bytes, "cannot be written", "the tier's file takes no writes");
    if (!write_segments(checkpoint) || !write_fields(checkpoint))
        return say(error, error_bytes, "cannot be written", strerror(errno));
    struct checkpoint_writer *writer = checkpoint->writer;
    checkpoint->writer = NULL;
    if (!checkpoint_writer_finish(writer, &extent))
        return say(error, error_bytes, "cannot be written", strerror(errno));
    checkpoint->file_bytes = extent.file_bytes;
    *manifest = (struct tier_pool_manifest){.number = checkpoint->number,
                                            .file_bytes = extent.file_bytes,
                                            .directory_at = extent.directory_at,
                                            .chunks = extent.chunks,
                                            .keys = keys_of(checkpoint),
                                            .aof_sequence = checkpoint->journal.sequence,
                                            .aof_mark = checkpoint->journal.mark,
                                            .pmem_sequence = checkpoint->journal.pool_sequence,
                                            .pmem_position = checkpoint->journal.pool_position,
                                            .flags = (checkpoint->journal.present ? TIER_MANIFEST_HAS_AOF : 0) |
                                                     (checkpoint->journal.in_pool ? TIER_MANIFEST_HAS_PMEM : 0),
                                            .cut_ms = checkpoint->cut_ms};
    note_history(checkpoint, manifest);
    return true;
}

bool checkpoint_complete(struct checkpoint *checkpoint, bool whole, char *error, size_t error_bytes) {
    struct tier_pool_manifest manifest;
    uint64_t before = tier_pool_of(checkpoint->tier)->manifest.number;
    assert(checkpoint->cut && !checkpoint->completed);
    bool written = whole && write_all(checkpoint, &manifest, error, error_bytes);
    if (!whole) say(error, error_bytes, "is given up", failure_of(checkpoint));
    if (!written) {
        give_up(checkpoint);
        remove_files(checkpoint, checkpoint->number);
        return false;
    }
    checkpoint->completed = true;
    if (!tier_switch(checkpoint->tier, &manifest, checkpoint_parts_live(checkpoint->parts)))
        return say(error, error_bytes, "cannot be made to count", strerror(errno));
    remove_files(checkpoint, before);
    return true;
}

struct checkpoint_figures checkpoint_figures(const struct checkpoint *checkpoint) {
    struct checkpoint_parts_figures parts = checkpoint_parts_figures(checkpoint->parts);
    struct checkpoint_collections_figures collections = checkpoint_collections_figures(checkpoint->collections);
    return (struct checkpoint_figures){.number = checkpoint->number,
                                       .keys = keys_of(checkpoint),
                                       .images = parts.images,
                                       .image_bytes = parts.image_bytes + collections.image_bytes,
                                       .images_kept = parts.kept,
                                       .collections = collections.collections,
                                       .pages = collections.pages,
                                       .page_images = collections.images,
                                       .page_images_kept = collections.kept,
                                       .file_bytes = checkpoint->file_bytes};
}
