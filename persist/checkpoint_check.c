/* Going through a checkpoint, chunk by chunk: see checkpoint_check.h.
 *
 * The slots of a chunk are of one shard, in the order of their hashes, and records that were moved together share a
 * block; so they are visited in the order of their blocks, and each block is read once a chunk.
 *
 * Checking and repairing are one walk. A repair writes the slots that are in order as it goes, counts them for each
 * segment, and writes the segments' rows last: a reader sorts chunks by their kind. */

#include "persist/checkpoint_check.h"

#include "persist/checkpoint_file.h"
#include "persist/crc64.h"
#include "record/reference.h"
#include "tiering/tier_block.h"
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

/* A segment, as its row says or its blocks do. */
struct known {
    struct checkpoint_segment row; /* run 0: nothing is known of it */
    uint32_t live;                 /* slots that are in order */
};

struct going {
    const struct tier_pool *tier;
    struct checkpoint_health *health;
    struct checkpoint_reader *reader;
    struct checkpoint_writer *writer; /* NULL: only looking */
    struct known *segments;
    uint64_t segment_count;
    size_t segment_bytes;
    char *block; /* the one at hand */
    size_t block_room;
    uint64_t block_number;
    uint32_t block_segment;
    bool block_good, failed; /* failed: the writer */
};

static void note(struct checkpoint_health *health, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct checkpoint_health *health, const char *format, ...) {
    va_list arguments;
    if (health->damage[0]) return;
    va_start(arguments, format);
    vsnprintf(health->damage, sizeof(health->damage), format, arguments);
    va_end(arguments);
}

/* ---- blocks ---- */

static bool make_room(struct going *going, size_t bytes) {
    if (bytes <= going->block_room) return true;
    char *block = realloc(going->block, bytes);
    if (!block) return false;
    going->block = block;
    going->block_room = bytes;
    return true;
}

/* Header first, then as much as it says. */
static bool read_block(struct going *going, uint64_t offset, size_t *bytes) {
    struct pmem_pool *pool = going->tier->pmem;
    struct tier_block_header header;
    uint64_t end = tier_pmem_end(pool);
    if (offset + sizeof(header) > end || !tier_pmem_read(pool, offset, &header, sizeof(header))) return false;
    uint64_t left = end - offset;
    *bytes = tier_block_bytes(&header, left > SIZE_MAX ? SIZE_MAX : (size_t)left);
    return *bytes && make_room(going, *bytes) && tier_pmem_read(pool, offset, going->block, *bytes);
}

/* What a row that is lost would have said. */
static void learn(struct going *going, uint32_t segment, bool expires) {
    struct checkpoint_segment *row = &going->segments[segment].row;
    struct tier_block_header header;
    memcpy(&header, going->block, sizeof(header));
    if (row->run == 0) {
        size_t bytes = sizeof(header) + header.stored_bytes;
        row->segment = segment;
        row->generation = header.generation;
        row->run = (uint32_t)((bytes + going->segment_bytes - 1) / going->segment_bytes);
        row->used_bytes = (uint64_t)row->run * going->segment_bytes;
    }
    if (expires) row->flags |= CHECKPOINT_SEGMENT_EXPIRES;
}

static bool is_good_block(struct going *going, uint64_t block, uint32_t segment) {
    const struct known *known = &going->segments[segment];
    struct tier_block_header header;
    size_t bytes;
    if (!read_block(going, tier_block_offset(block), &bytes)) return false;
    memcpy(&header, going->block, sizeof(header));
    uint32_t generation = known->row.run ? known->row.generation : header.generation;
    return tier_block_verify(going->block, bytes, block, generation) == TIER_BLOCK_GOOD;
}

static void look_at_block(struct going *going, uint64_t block, uint32_t segment) {
    if (going->block_number == block && going->health->blocks) return;
    going->block_number = block;
    going->block_segment = segment;
    going->health->blocks++;
    going->block_good = is_good_block(going, block, segment);
    if (going->block_good) return;
    going->health->bad_blocks++;
    note(going->health, "the block at %llu of segment %u cannot be read or is damaged",
         (unsigned long long)tier_block_offset(block), segment);
}

static bool has_record(struct going *going, unsigned which) {
    struct tier_block_header header;
    memcpy(&header, going->block, sizeof(header));
    void *raw = header.flags & TIER_FLAG_LZ4 ? malloc(header.raw_bytes ? header.raw_bytes : 1) : NULL;
    bool readable = raw || !(header.flags & TIER_FLAG_LZ4);
    const void *payload = readable ? tier_block_open(going->block, raw) : NULL;
    bool there = payload && tier_block_record(payload, header.raw_bytes, which) != NULL;
    free(raw);
    return there;
}

/* ---- slots ---- */

struct slot {
    uint64_t ref;
    uint32_t at; /* in the chunk */
};

static int by_block(const void *a, const void *b) {
    uint64_t x = ref_address(((const struct slot *)a)->ref), y = ref_address(((const struct slot *)b)->ref);
    return (x > y) - (x < y);
}

static bool is_good_slot(struct going *going, uint64_t ref) {
    enum medium medium = ref_medium(ref);
    uint64_t address = ref_address(ref), offset = tier_block_offset(tier_address_block(address));
    if ((medium != MEDIUM_TIER_SHARED && medium != MEDIUM_TIER_ALONE) || offset < TIER_HEADER_BYTES) return false;
    uint64_t segment = (offset - TIER_HEADER_BYTES) / going->segment_bytes;
    if (!pmem_pool_has_segment(going->tier->pmem, segment)) return false;
    look_at_block(going, tier_address_block(address), (uint32_t)segment);
    unsigned which = medium == MEDIUM_TIER_ALONE ? 0 : tier_address_which(address);
    if (!going->block_good || !has_record(going, which)) return false;
    learn(going, (uint32_t)segment, (ref & REF_VOLATILE) != 0);
    going->segments[segment].live++;
    return true;
}

/* The good ones are gathered at `kept`, in the order they had. Returns how many; no memory: going->failed. */
static uint32_t look_at_slots(struct going *going, const char *chunk, uint32_t count, char *kept) {
    struct slot *slots = malloc((count ? count : 1) * sizeof(*slots));
    bool *good = calloc(count ? count : 1, sizeof(*good));
    uint32_t gathered = 0;
    going->failed |= !slots || !good;
    for (uint32_t i = 0; !going->failed && i < count; i++) {
        uint64_t hash;
        slots[i].at = i;
        checkpoint_slot_read(chunk + i * (size_t)CHECKPOINT_SLOT_BYTES, &hash, &slots[i].ref);
    }
    if (!going->failed) qsort(slots, count, sizeof(*slots), by_block);
    for (uint32_t i = 0; !going->failed && i < count; i++) {
        good[slots[i].at] = is_good_slot(going, slots[i].ref);
        if (!good[slots[i].at]) note(going->health, "a key refers to what is not there");
    }
    for (uint32_t i = 0; !going->failed && i < count; i++)
        if (good[i])
            memcpy(kept + gathered++ * (size_t)CHECKPOINT_SLOT_BYTES, chunk + i * (size_t)CHECKPOINT_SLOT_BYTES,
                   CHECKPOINT_SLOT_BYTES);
    free(slots);
    free(good);
    going->health->keys += gathered;
    going->health->lost_keys += count - gathered;
    return gathered;
}

/* ---- chunks ---- */

static void keep(struct going *going, const struct checkpoint_place *place, uint32_t count, const void *payload,
                 size_t bytes) {
    if (!going->writer || going->failed || count == 0) return;
    going->failed = !checkpoint_writer_add(going->writer, (enum checkpoint_kind)place->kind, place->shard,
                                           place->database, count, payload, bytes);
}

static void take_rows(struct going *going, const struct checkpoint_segment *rows, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        bool sound = rows[i].segment < going->segment_count && rows[i].run > 0;
        if (sound) going->segments[rows[i].segment].row = rows[i];
        if (!sound) note(going->health, "a segment of the checkpoint's file cannot be");
    }
}

static void look_at_chunk(struct going *going, const struct checkpoint_place *place, const char *payload) {
    char *kept;
    switch (place->kind) {
    case CHECKPOINT_SEGMENTS: take_rows(going, (const void *)payload, place->count); break;
    case CHECKPOINT_SLOTS:
        kept = malloc(place->bytes ? place->bytes : 1);
        going->failed |= !kept;
        if (!kept) break;
        uint32_t good = look_at_slots(going, payload, place->count, kept);
        keep(going, place, good, kept, good * (size_t)CHECKPOINT_SLOT_BYTES);
        free(kept);
        break;
    default: keep(going, place, place->count, payload, place->bytes);
    }
}

/* Of a chunk that is lost, by its place in the directory. */
static void note_lost(struct going *going, const struct checkpoint_place *place, const char *error) {
    going->health->bad_chunks++;
    note(going->health, "the checkpoint's file %s", error);
    if (place->kind == CHECKPOINT_SLOTS) going->health->lost_keys += place->count;
}

/* In two rounds, since what slots refer to is known only when all rows are. Expiries are hints, which a repair leaves
 * out: a row without them is looked at when something is due. */
static void look_at_chunks(struct going *going, bool rows) {
    char error[200];
    for (uint32_t i = 0; i < checkpoint_reader_chunks(going->reader) && !going->failed; i++) {
        const struct checkpoint_place *place = checkpoint_reader_place(going->reader, i);
        if ((place->kind == CHECKPOINT_SEGMENTS) != rows) continue;
        if (place->kind == CHECKPOINT_EXPIRIES && going->writer) continue;
        char *payload = malloc(place->bytes ? place->bytes : 1);
        going->failed |= !payload;
        if (payload && checkpoint_reader_read(going->reader, i, payload, error, sizeof(error)))
            look_at_chunk(going, place, payload);
        else if (payload)
            note_lost(going, place, error);
        free(payload);
    }
}

static void keep_rows(struct going *going) {
    static const struct checkpoint_place place = {.kind = CHECKPOINT_SEGMENTS};
    struct checkpoint_segment rows[ROWS_ONCE];
    uint32_t filled = 0;
    for (uint64_t i = 0; i < going->segment_count; i++) {
        const struct known *known = &going->segments[i];
        if (known->live == 0) continue;
        rows[filled] = known->row;
        rows[filled].live = known->live;
        if (rows[filled].records < known->live) rows[filled].records = known->live;
        if (++filled < ROWS_ONCE) continue;
        keep(going, &place, filled, rows, sizeof(rows));
        filled = 0;
    }
    keep(going, &place, filled, rows, filled * sizeof(rows[0]));
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
static bool go_through(struct going *going, const char *prefix) {
    char error[200];
    struct checkpoint_health *health = going->health;
    *health = (struct checkpoint_health){0};
    if (going->tier->manifest.number == 0) return true;
    going->segment_bytes = (size_t)going->tier->header.segment_bytes;
    going->segment_count = pmem_pool_segments(going->tier->pmem);
    going->segments = calloc(going->segment_count ? going->segment_count : 1, sizeof(*going->segments));
    if (!going->segments) return false;
    going->reader = open_reader(going->tier, prefix, error, sizeof(error));
    if (!going->reader) {
        health->beyond_repair = true;
        note(health, "the checkpoint's file %s", error);
    }
    for (unsigned round = 0; going->reader && round < 2; round++) look_at_chunks(going, round == 0);
    if (!collections_are_good(&going->tier->manifest, prefix)) {
        health->beyond_repair = true;
        note(health, "the checkpoint's file of big collections is not there, or damaged");
    }
    keep_rows(going);
    if (going->reader) checkpoint_reader_close(going->reader);
    free(going->segments);
    free(going->block);
    return !going->failed;
}

bool checkpoint_check(const struct tier_pool *tier, const char *prefix, struct checkpoint_health *health) {
    struct going going = {.tier = tier, .health = health};
    return go_through(&going, prefix);
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
    struct going going = {.tier = tier, .health = health, .writer = checkpoint_writer_create(path, &identity, NULL)};
    if (!going.writer) return fail(error, error_bytes, path);
    if (!go_through(&going, prefix) || health->beyond_repair) {
        int code = errno;
        checkpoint_writer_abandon(going.writer);
        errno = code;
        return fail(error, error_bytes, path);
    }
    if (!checkpoint_writer_finish(going.writer, &extent)) return fail(error, error_bytes, path);
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
