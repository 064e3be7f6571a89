/* Going through a checkpoint, chunk by chunk: see checkpoint_check.h.
 *
 * The slots of a chunk are of one shard, in the order of their hashes, and records that were moved together share a
 * block; so they are visited in the order of their blocks, and each block is read once a chunk.
 *
 * Checking and repairing are one walk. A repair writes what is in order as it goes, counts it for each segment, and
 * writes the segments' rows last: a reader sorts chunks by their kind. */

#include "persist/checkpoint_check.h"

#include "persist/checkpoint_check_private.h"
#include "persist/crc64.h"
#include "tiering/tier_pmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS_ONCE = 1024, READ_ONCE = 1 << 20 };

void checking_note(struct checking *checking, const char *format, ...) {
    va_list arguments;
    if (checking->health->damage[0]) return;
    va_start(arguments, format);
    vsnprintf(checking->health->damage, sizeof(checking->health->damage), format, arguments);
    va_end(arguments);
}

/* ---- slots ---- */

/* The good ones are gathered at `kept`, in the order they had. Returns how many; no memory: checking->failed. */
static uint32_t look_at_slots(struct checking *checking, const char *chunk, uint32_t count, char *kept) {
    struct check_reference *slots = malloc((count ? count : 1) * sizeof(*slots));
    bool *good = calloc(count ? count : 1, sizeof(*good));
    uint32_t gathered = 0;
    checking->failed |= !slots || !good;
    for (uint32_t i = 0; !checking->failed && i < count; i++) {
        uint64_t hash;
        slots[i].at = i;
        checkpoint_slot_read(chunk + i * (size_t)CHECKPOINT_SLOT_BYTES, &hash, &slots[i].ref);
    }
    if (!checking->failed) checking_sort(slots, count);
    for (uint32_t i = 0; !checking->failed && i < count; i++) {
        good[slots[i].at] = checking_record(checking, slots[i].ref) != NULL;
        if (good[slots[i].at])
            checking_refer(checking, slots[i].ref);
        else
            checking_note(checking, "a key refers to what is not there");
    }
    for (uint32_t i = 0; !checking->failed && i < count; i++)
        if (good[i])
            memcpy(kept + gathered++ * (size_t)CHECKPOINT_SLOT_BYTES, chunk + i * (size_t)CHECKPOINT_SLOT_BYTES,
                   CHECKPOINT_SLOT_BYTES);
    free(slots);
    free(good);
    checking->health->keys += gathered;
    checking->health->lost_keys += count - gathered;
    return gathered;
}

/* ---- chunks ---- */

void checking_keep(struct checking *checking, enum checkpoint_kind kind, uint32_t shard, uint32_t database,
                   uint32_t count, const void *payload, size_t bytes) {
    if (!checking->writer || checking->failed) return;
    checking->failed = !checkpoint_writer_add(checking->writer, kind, shard, (uint16_t)database, count, payload, bytes);
}

static void keep(struct checking *checking, const struct checkpoint_place *place, uint32_t count, const void *payload,
                 size_t bytes) {
    if (count == 0) return;
    checking_keep(checking, (enum checkpoint_kind)place->kind, place->shard, place->database, count, payload, bytes);
}

static void take_rows(struct checking *checking, const struct checkpoint_segment *rows, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        bool sound = rows[i].segment < checking->segment_count && rows[i].run > 0;
        if (sound) checking->segments[rows[i].segment].row = rows[i];
        if (!sound) checking_note(checking, "a segment of the checkpoint's file cannot be");
    }
}

static void look_at_chunk(struct checking *checking, const struct checkpoint_place *place, const char *payload) {
    char *kept;
    switch (place->kind) {
    case CHECKPOINT_SEGMENTS: take_rows(checking, (const void *)payload, place->count); break;
    case CHECKPOINT_SLOTS:
        kept = malloc(place->bytes ? place->bytes : 1);
        checking->failed |= !kept;
        if (!kept) break;
        uint32_t good = look_at_slots(checking, payload, place->count, kept);
        keep(checking, place, good, kept, good * (size_t)CHECKPOINT_SLOT_BYTES);
        free(kept);
        break;
    default: keep(checking, place, place->count, payload, place->bytes);
    }
}

/* Of a chunk that is lost, by its place in the directory. */
static void note_lost(struct checking *checking, const struct checkpoint_place *place, const char *error) {
    checking->health->bad_chunks++;
    checking_note(checking, "the checkpoint's file %s", error);
    if (place->kind == CHECKPOINT_SLOTS || place->kind == CHECKPOINT_ROOTS) checking->health->lost_keys += place->count;
}

char *checking_read(struct checking *checking, uint32_t chunk) {
    const struct checkpoint_place *place = checkpoint_reader_place(checking->reader, chunk);
    char error[200], *payload = malloc(place->bytes ? place->bytes : 1);
    checking->failed |= !payload;
    if (!payload || checkpoint_reader_read(checking->reader, chunk, payload, error, sizeof(error))) return payload;
    note_lost(checking, place, error);
    free(payload);
    return NULL;
}

static bool is_of_collections(const struct checkpoint_place *place) {
    return place->kind == CHECKPOINT_ROOTS || place->kind == CHECKPOINT_STATES || place->kind == CHECKPOINT_PAGES;
}

/* In two rounds, since what slots refer to is known only when all rows are. Expiries are hints, which a repair leaves
 * out: a row without them is looked at when something is due. */
static void look_at_chunks(struct checking *checking, bool rows) {
    for (uint32_t i = 0; i < checkpoint_reader_chunks(checking->reader) && !checking->failed; i++) {
        const struct checkpoint_place *place = checkpoint_reader_place(checking->reader, i);
        if ((place->kind == CHECKPOINT_SEGMENTS) != rows || is_of_collections(place)) continue;
        if (place->kind == CHECKPOINT_EXPIRIES && checking->writer) continue;
        char *payload = checking_read(checking, i);
        if (payload) look_at_chunk(checking, place, payload);
        free(payload);
    }
}

static void keep_rows(struct checking *checking) {
    static const struct checkpoint_place place = {.kind = CHECKPOINT_SEGMENTS};
    struct checkpoint_segment rows[ROWS_ONCE];
    uint32_t filled = 0;
    for (uint64_t i = 0; i < checking->segment_count; i++) {
        const struct check_segment *known = &checking->segments[i];
        if (known->live == 0) continue;
        rows[filled] = known->row;
        rows[filled].live = known->live;
        if (rows[filled].records < known->live) rows[filled].records = known->live;
        if (++filled < ROWS_ONCE) continue;
        keep(checking, &place, filled, rows, sizeof(rows));
        filled = 0;
    }
    keep(checking, &place, filled, rows, filled * sizeof(rows[0]));
}

/* ---- the files ---- */

/* A value that says 0 was written without one. */
static bool has_good_end(int fd, uint64_t bytes) {
    char *buffer = malloc(READ_ONCE);
    uint64_t sum = 0, said = 0, at = 0;
    bool read = buffer && bytes > sizeof(said);
    while (read && at < bytes - sizeof(said)) {
        uint64_t left = bytes - sizeof(said) - at;
        ssize_t got = pread(fd, buffer, left < READ_ONCE ? (size_t)left : READ_ONCE, (off_t)at);
        read = got > 0;
        if (read) sum = crc64(sum, buffer, (size_t)got);
        at += read ? (uint64_t)got : 0;
    }
    read = read && pread(fd, &said, sizeof(said), (off_t)at) == sizeof(said);
    free(buffer);
    return read && (said == 0 || said == sum);
}

static bool collections_are_good(const struct tier_pool_manifest *manifest, const char *prefix) {
    char path[CHECKPOINT_PATH_MAX];
    struct stat status;
    if (manifest->collections_bytes == 0) return true;
    int fd = checkpoint_path(path, prefix, manifest->number, ".rdb") ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    bool good = fd >= 0 && fstat(fd, &status) == 0 && (uint64_t)status.st_size == manifest->collections_bytes &&
                has_good_end(fd, manifest->collections_bytes);
    if (fd >= 0) close(fd);
    return good;
}

static struct checkpoint_reader *open_reader(const struct tier_pool *tier, const char *prefix, char *error,
                                             size_t error_bytes) {
    const struct tier_pool_manifest *manifest = &tier->manifest;
    struct checkpoint_identity identity = {.number = manifest->number, .shards = tier->header.shards};
    const struct checkpoint_extent extent = {
        .file_bytes = manifest->file_bytes, .directory_at = manifest->directory_at, .chunks = manifest->chunks};
    char path[CHECKPOINT_PATH_MAX];
    memcpy(identity.uuid, tier->header.uuid, sizeof(identity.uuid));
    snprintf(error, error_bytes, "its path is too long");
    if (!checkpoint_path(path, prefix, manifest->number, "")) return NULL;
    return checkpoint_reader_open(path, &identity, &extent, error, error_bytes);
}

/* False: no memory, or the writer failed. */
static bool go_through(struct checking *checking, const char *prefix) {
    char error[200];
    struct checkpoint_health *health = checking->health;
    *health = (struct checkpoint_health){0};
    if (checking->tier->manifest.number == 0) return true;
    checking->seed = checking->tier->header.seed;
    checking->segment_bytes = (size_t)checking->tier->header.segment_bytes;
    checking->segment_count = pmem_pool_segments(checking->tier->pmem);
    checking->segments = calloc(checking->segment_count ? checking->segment_count : 1, sizeof(*checking->segments));
    if (!checking->segments) return false;
    checking->reader = open_reader(checking->tier, prefix, error, sizeof(error));
    if (!checking->reader) {
        health->beyond_repair = true;
        checking_note(checking, "the checkpoint's file %s", error);
    }
    for (unsigned round = 0; checking->reader && round < 2; round++) look_at_chunks(checking, round == 0);
    if (checking->reader) checking_collections(checking);
    if (!collections_are_good(&checking->tier->manifest, prefix)) {
        health->beyond_repair = true;
        checking_note(checking, "the checkpoint's file of big collections is not there, or damaged");
    }
    keep_rows(checking);
    if (checking->reader) checkpoint_reader_close(checking->reader);
    free(checking->segments);
    checking_free_block(checking);
    return !checking->failed;
}

bool checkpoint_check(const struct tier_pool *tier, const char *prefix, struct checkpoint_health *health) {
    struct checking checking = {.tier = tier, .health = health};
    return go_through(&checking, prefix);
}

/* ---- repairing ---- */

static bool fail(char *error, size_t error_bytes, const char *step) {
    snprintf(error, error_bytes, "a checkpoint without what is damaged cannot be written: %s: %s", step,
             strerror(errno));
    return false;
}

/* The file of collections under its next name too, durably. */
static bool carry_collections(const struct tier_pool_manifest *manifest, const char *prefix) {
    char from[CHECKPOINT_PATH_MAX], to[CHECKPOINT_PATH_MAX];
    if (manifest->collections_bytes == 0) return true;
    errno = ENAMETOOLONG;
    if (!checkpoint_path(from, prefix, manifest->number, ".rdb") ||
        !checkpoint_path(to, prefix, manifest->number + 1, ".rdb"))
        return false;
    (void)unlink(to);
    if (link(from, to) != 0) return false;
    char *end = strrchr(from, '/');
    if (end) *end = '\0';
    int fd = open(end ? from : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return synced;
}

static void remove_files(const char *prefix, uint64_t number) {
    static const char *const suffixes[] = {"", ".rdb"};
    char path[CHECKPOINT_PATH_MAX];
    for (unsigned i = 0; i < 2; i++)
        if (checkpoint_path(path, prefix, number, suffixes[i])) (void)unlink(path);
}

bool checkpoint_repair(struct tier_pool *tier, const char *prefix, struct checkpoint_health *health, char *error,
                       size_t error_bytes) {
    struct tier_pool_manifest next = tier->manifest;
    struct checkpoint_extent extent;
    char path[CHECKPOINT_PATH_MAX];
    uint64_t before = tier->manifest.number;
    next.number = before + 1;
    errno = ENAMETOOLONG;
    if (!checkpoint_path(path, prefix, next.number, "")) return fail(error, error_bytes, "name");
    struct checkpoint_identity identity = {.number = next.number, .shards = tier->header.shards};
    memcpy(identity.uuid, tier->header.uuid, sizeof(identity.uuid));
    struct checking checking = {
        .tier = tier, .health = health, .writer = checkpoint_writer_create(path, &identity, NULL)};
    if (!checking.writer) return fail(error, error_bytes, path);
    if (!go_through(&checking, prefix) || health->beyond_repair) {
        int code = errno;
        checkpoint_writer_abandon(checking.writer);
        errno = code;
        return fail(error, error_bytes, path);
    }
    if (!checkpoint_writer_finish(checking.writer, &extent)) return fail(error, error_bytes, path);
    next.file_bytes = extent.file_bytes;
    next.directory_at = extent.directory_at;
    next.chunks = extent.chunks;
    next.keys = health->keys;
    if (!carry_collections(&tier->manifest, prefix) || !tier_pool_switch(-1, tier, &next)) {
        (void)fail(error, error_bytes, "manifest");
        remove_files(prefix, next.number);
        return false;
    }
    remove_files(prefix, before);
    return true;
}
