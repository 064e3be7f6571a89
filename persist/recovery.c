/* Recovery: the directory of the checkpoint's file is sorted by kind and shard, so segments come first, by one thread;
 * then each thread takes shard after shard, whose index it fills alone. Big collections follow
 * (recovery_collections.h).
 *
 * Slots come nearly in the order of their hashes, as the walker met them, so a thread works on few cache lines at a
 * time, and an index grows to its size by splitting without anything being read. */

#include "persist/recovery.h"

#include "keyspace/field_expiry.h"
#include "keyspace/keyspace_import.h"
#include "persist/recovery_collections.h"
#include "persist/recovery_private.h"
#include "tiering/tier_block.h"

#include <ctype.h>
#include <dirent.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS_MAX = 64, NUMBER_DIGITS = 20 };

bool recovery_fail(struct recovery *recovery, const char *text) {
    pthread_mutex_lock(&recovery->lock);
    if (!recovery->failed) snprintf(recovery->failure, sizeof(recovery->failure), "%s", text);
    recovery->failed = true;
    pthread_mutex_unlock(&recovery->lock);
    return false;
}

bool recovery_read(struct recovery *recovery, uint32_t chunk, struct recovery_buffer *buffer) {
    const struct checkpoint_place *place = checkpoint_reader_place(recovery->reader, chunk);
    char error[200];
    if (buffer->room < place->bytes) {
        free(buffer->bytes);
        buffer->room = place->bytes;
        if (!(buffer->bytes = malloc(buffer->room))) {
            buffer->room = 0;
            return recovery_fail(recovery, "there is no memory");
        }
    }
    return checkpoint_reader_read(recovery->reader, chunk, buffer->bytes, error, sizeof(error)) ||
           recovery_fail(recovery, error);
}

void recovery_count(struct recovery *recovery, uint64_t keys) {
    atomic_fetch_add_explicit(&recovery->keys, keys, memory_order_relaxed);
    if (recovery->options->keys) atomic_fetch_add_explicit(recovery->options->keys, keys, memory_order_relaxed);
}

/* ---- threads ---- */

struct workload {
    struct recovery *recovery;
    recovery_work *work;
    void *ctx;
    uint32_t count;
    _Atomic uint32_t next;
};

static void *run(void *argument) {
    struct workload *load = argument;
    struct recovery_buffer buffer = {0};
    uint32_t number;
    while (!load->recovery->failed && (number = atomic_fetch_add(&load->next, 1)) < load->count)
        if (!load->work(load->ctx, load->recovery, number, &buffer)) break;
    free(buffer.bytes);
    return NULL;
}

bool recovery_in_threads(struct recovery *recovery, uint32_t count, recovery_work *work, void *ctx) {
    struct workload load = {.recovery = recovery, .work = work, .ctx = ctx, .count = count};
    pthread_t threads[THREADS_MAX];
    unsigned wanted = recovery->options->threads, started = 0;
    if (wanted > THREADS_MAX) wanted = THREADS_MAX;
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, run, &load) == 0) started++;
    run(&load);
    for (unsigned i = 0; i < started; i++) pthread_join(threads[i], NULL);
    return !recovery->failed;
}

/* ---- segments ---- */

static bool restore_segments(struct recovery *recovery, const struct checkpoint_segment *rows, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const struct checkpoint_segment *row = &rows[i];
        struct segment_info info = {.expires = row->flags & CHECKPOINT_SEGMENT_EXPIRES,
                                    .generation = row->generation,
                                    .run = row->run,
                                    .records = row->records,
                                    .live = row->live,
                                    .used_bytes = (size_t)row->used_bytes};
        if (!segment_table_restore(recovery->segments, row->segment, &info))
            return recovery_fail(recovery, "has a segment that cannot be");
        recovery->known[row->segment] = 1;
    }
    return true;
}

static bool restore_expiries(struct recovery *recovery, uint32_t segment, const uint64_t *ranges, uint32_t count) {
    if (segment >= recovery->segment_count || !recovery->known[segment])
        return recovery_fail(recovery, "has expiries of a segment that is not there");
    for (uint32_t i = 0; i < count; i++) segment_table_restore_expiry(recovery->segments, segment, i, ranges[i]);
    return true;
}

/* Rows before ranges: chunks are in the order of their kinds. */
static bool restore_all_segments(struct recovery *recovery) {
    struct recovery_buffer buffer = {0};
    bool good = true;
    for (uint32_t i = 0; i < checkpoint_reader_chunks(recovery->reader) && good; i++) {
        const struct checkpoint_place *place = checkpoint_reader_place(recovery->reader, i);
        if (place->kind != CHECKPOINT_SEGMENTS && place->kind != CHECKPOINT_EXPIRIES) continue;
        good = recovery_read(recovery, i, &buffer);
        if (!good) break;
        good = place->kind == CHECKPOINT_SEGMENTS
                   ? restore_segments(recovery, buffer.bytes, place->count)
                   : restore_expiries(recovery, place->shard, buffer.bytes, place->count);
    }
    free(buffer.bytes);
    return good;
}

/* ---- slots ---- */

bool recovery_knows(const struct recovery *recovery, uint64_t ref) {
    enum medium medium = ref_medium(ref);
    uint64_t offset = tier_block_offset(tier_address_block(ref_address(ref)));
    if ((medium != MEDIUM_TIER_SHARED && medium != MEDIUM_TIER_ALONE) || offset < TIER_HEADER_BYTES) return false;
    uint64_t segment = (offset - TIER_HEADER_BYTES) / segment_table_segment_bytes(recovery->segments);
    return segment < recovery->segment_count && recovery->known[segment];
}

static bool import_slot(struct recovery *recovery, const struct checkpoint_place *place, const char *slot) {
    uint64_t hash, ref;
    checkpoint_slot_read(slot, &hash, &ref);
    if (!recovery_knows(recovery, ref)) return recovery_fail(recovery, "refers to a segment that is not there");
    return keyspace_import(recovery->keyspace, place->shard, place->database, hash, ref) ||
           recovery_fail(recovery, "has a key for which there is no memory, or which cannot be read");
}

/* Workers are at their background work meanwhile: they compact indexes. */
static bool import_slots(struct recovery *recovery, const struct checkpoint_place *place, const char *slots) {
    bool good = true;
    keyspace_lock(recovery->keyspace, place->shard);
    for (uint32_t i = 0; i < place->count && good; i++)
        good = import_slot(recovery, place, slots + i * (size_t)CHECKPOINT_SLOT_BYTES);
    keyspace_unlock(recovery->keyspace, place->shard);
    if (!good) return false;
    recovery_count(recovery, place->count);
    return true;
}

static void import_fields(struct recovery *recovery, const struct checkpoint_place *place,
                          const struct field_due *dues) {
    keyspace_lock(recovery->keyspace, place->shard);
    for (uint32_t i = 0; i < place->count; i++)
        if (dues[i].hash)
            keyspace_import_fields(recovery->keyspace, place->shard, place->database, dues[i].hash, dues[i].due_ms);
    keyspace_unlock(recovery->keyspace, place->shard);
}

static bool is_of_shard(const struct checkpoint_place *place, uint32_t shard, enum checkpoint_kind kind) {
    return place->kind == kind && place->shard == shard;
}

/* Chunks of a shard stand database by database. */
static void reserve(struct recovery *recovery, uint32_t chunk) {
    const struct checkpoint_place *first = checkpoint_reader_place(recovery->reader, chunk), *place = first;
    uint64_t count = 0;
    for (uint32_t i = chunk; i < checkpoint_reader_chunks(recovery->reader); i++) {
        place = checkpoint_reader_place(recovery->reader, i);
        if (!is_of_shard(place, first->shard, CHECKPOINT_SLOTS) || place->database != first->database) break;
        count += place->count;
    }
    keyspace_lock(recovery->keyspace, first->shard);
    keyspace_import_reserve(recovery->keyspace, first->shard, first->database, count);
    keyspace_unlock(recovery->keyspace, first->shard);
}

/* All chunks of the kind and shard that begin with `chunk`. */
static bool import_chunks(struct recovery *recovery, uint32_t chunk, struct recovery_buffer *buffer) {
    const struct checkpoint_place *first = checkpoint_reader_place(recovery->reader, chunk);
    uint32_t end = checkpoint_reader_chunks(recovery->reader), database = UINT32_MAX;
    for (; chunk < end; chunk++) {
        const struct checkpoint_place *place = checkpoint_reader_place(recovery->reader, chunk);
        if (!is_of_shard(place, first->shard, (enum checkpoint_kind)first->kind)) return true;
        if (place->shard >= recovery->keyspace->shard_count || place->database >= recovery->keyspace->database_count)
            return recovery_fail(recovery, "has keys of a database or shard that is not there; see `databases`");
        if (!recovery_read(recovery, chunk, buffer)) return false;
        if (place->kind == CHECKPOINT_SLOTS && place->database != database) reserve(recovery, chunk);
        database = place->database;
        if (place->kind == CHECKPOINT_FIELDS)
            import_fields(recovery, place, buffer->bytes);
        else if (!import_slots(recovery, place, buffer->bytes))
            return false;
    }
    return true;
}

static bool begins_shard(const struct recovery *recovery, uint32_t chunk, enum checkpoint_kind kind) {
    const struct checkpoint_place *place = checkpoint_reader_place(recovery->reader, chunk);
    return place->kind == kind &&
           (chunk == 0 || !is_of_shard(checkpoint_reader_place(recovery->reader, chunk - 1), place->shard, kind));
}

/* `kind`: what is to be imported. */
static bool import_shard(void *kind, struct recovery *recovery, uint32_t chunk, struct recovery_buffer *buffer) {
    return !begins_shard(recovery, chunk, *(const enum checkpoint_kind *)kind) ||
           import_chunks(recovery, chunk, buffer);
}

static bool import_all(struct recovery *recovery, uint64_t keys) {
    enum checkpoint_kind slots = CHECKPOINT_SLOTS, fields = CHECKPOINT_FIELDS;
    uint32_t chunks = checkpoint_reader_chunks(recovery->reader);
    return recovery_in_threads(recovery, chunks, import_shard, &slots) && recovery_import_collections(recovery) &&
           recovery_in_threads(recovery, chunks, import_shard, &fields) &&
           (recovery->keys == keys || recovery_fail(recovery, "has more or fewer keys than its manifest says"));
}

/* ---- all of it ---- */

static bool recover(struct recovery *recovery, const struct tier_pool *pool, const char *path) {
    const struct tier_pool_manifest *manifest = &pool->manifest;
    struct checkpoint_identity identity = {.number = manifest->number, .shards = pool->header.shards};
    const struct checkpoint_extent extent = {
        .file_bytes = manifest->file_bytes, .directory_at = manifest->directory_at, .chunks = manifest->chunks};
    char error[200];
    memcpy(identity.uuid, pool->header.uuid, sizeof(identity.uuid));
    recovery->segment_count = segment_table_usage(recovery->segments).segments;
    recovery->known = calloc(recovery->segment_count, 1);
    if (!recovery->known) return recovery_fail(recovery, "there is no memory");
    recovery->reader = checkpoint_reader_open(path, &identity, &extent, error, sizeof(error));
    if (!recovery->reader) return recovery_fail(recovery, error);
    bool good = restore_all_segments(recovery) && import_all(recovery, manifest->keys);
    checkpoint_reader_close(recovery->reader);
    if (good) segment_table_restored(recovery->segments, recovery->known);
    return good;
}

static bool find_collections(const struct tier_pool_manifest *manifest, const char *prefix,
                             struct recovery_result *result) {
    struct stat status;
    if (!checkpoint_path(result->collections, prefix, manifest->number, ".rdb")) return false;
    result->has_collections = manifest->collections_bytes > 0;
    if (!result->has_collections) return true;
    if (stat(result->collections, &status) == 0 && (uint64_t)status.st_size == manifest->collections_bytes) return true;
    snprintf(result->reason, sizeof(result->reason),
             "%s is not there, or does not have the length the manifest of its checkpoint gives", result->collections);
    return false;
}

enum recovery_status recovery_run(const struct recovery_options *options, struct recovery_result *result) {
    const struct tier_pool *pool = tier_pool_of(options->keyspace->tier);
    const struct tier_pool_manifest *manifest = &pool->manifest;
    char path[CHECKPOINT_PATH_MAX];
    memset(result, 0, sizeof(*result));
    if (manifest->number == 0) return RECOVERY_NOTHING;
    *result = (struct recovery_result){.number = manifest->number,
                                       .cut_ms = manifest->cut_ms,
                                       .has_journal = manifest->flags & TIER_MANIFEST_HAS_AOF,
                                       .journal_sequence = manifest->aof_sequence,
                                       .journal_mark = manifest->aof_mark};
    struct recovery recovery = {
        .options = options, .keyspace = options->keyspace, .segments = tier_segments(options->keyspace->tier)};
    if (!checkpoint_path(path, options->prefix, manifest->number, "")) {
        snprintf(result->reason, sizeof(result->reason), "the path of the tier is too long");
        return RECOVERY_FAILED;
    }
    if (!find_collections(manifest, options->prefix, result)) return RECOVERY_FAILED;
    pthread_mutex_init(&recovery.lock, NULL);
    bool good = recover(&recovery, pool, path);
    free(recovery.known);
    pthread_mutex_destroy(&recovery.lock);
    result->keys = recovery.keys;
    if (good) return RECOVERY_DONE;
    snprintf(result->reason, sizeof(result->reason), "%s %s", path, recovery.failure);
    return RECOVERY_FAILED;
}

/* ---- leftovers ---- */

/* The number in "<base>.checkpoint.<number>[.rdb[.temporary]]"; 0: it is another name. */
static uint64_t number_in(const char *name, const char *base) {
    static const char middle[] = ".checkpoint.";
    size_t length = strlen(base);
    if (strncmp(name, base, length) != 0 || strncmp(name + length, middle, sizeof(middle) - 1) != 0) return 0;
    const char *digits = name + length + sizeof(middle) - 1, *end = digits;
    while (isdigit((unsigned char)*end)) end++;
    if (end == digits || end - digits > NUMBER_DIGITS) return 0;
    if (*end && strcmp(end, ".rdb") != 0 && strcmp(end, ".rdb.temporary") != 0) return 0;
    return strtoull(digits, NULL, 10);
}

void recovery_remove_leftovers(const struct tier *tier, const char *prefix) {
    uint64_t counts = tier_pool_of(tier)->manifest.number;
    char folder_of[CHECKPOINT_PATH_MAX], base_of[CHECKPOINT_PATH_MAX];
    snprintf(folder_of, sizeof(folder_of), "%s", prefix);
    snprintf(base_of, sizeof(base_of), "%s", prefix);
    const char *base = basename(base_of);
    DIR *folder = opendir(dirname(folder_of));
    if (!folder) return;
    for (const struct dirent *entry; (entry = readdir(folder));) {
        uint64_t number = number_in(entry->d_name, base);
        if (number && number != counts) (void)unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
}
