/* The file of a checkpoint: chunks one behind the other, and at the end a directory of them.
 *
 * Everything that is read is checked before it is used: sizes against the length that the manifest gives, then the
 * checksum, which covers every byte of a chunk and is seeded with its place. So what a reader hands out is what a
 * writer was given, or nothing. */

#include "persist/checkpoint_file.h"

#include <assert.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

bool checkpoint_path(char path[CHECKPOINT_PATH_MAX], const char *prefix, uint64_t number, const char *suffix) {
    int length =
        snprintf(path, CHECKPOINT_PATH_MAX, "%s.checkpoint.%llu%s", prefix, (unsigned long long)number, suffix);
    return length > 0 && length < CHECKPOINT_PATH_MAX;
}

static uint64_t header_checksum(const struct checkpoint_header *header) {
    return XXH3_64bits(header, offsetof(struct checkpoint_header, checksum));
}

static uint64_t chunk_checksum(const uint8_t *uuid, uint64_t offset, const struct checkpoint_chunk_header *header,
                               const void *payload) {
    uint64_t seed, head;
    memcpy(&seed, uuid, sizeof(seed));
    head = XXH3_64bits_withSeed(header, offsetof(struct checkpoint_chunk_header, checksum), seed + offset);
    return XXH3_64bits_withSeed(payload, header->bytes, head);
}

/* ---- writing ---- */

struct checkpoint_writer {
    pthread_mutex_t lock; /* guards all below */
    const struct file_io *io;
    int fd;
    int error; /* errno of the first failure; 0: none */
    struct checkpoint_identity identity;
    _Atomic uint64_t bytes;
    struct checkpoint_place *places;
    uint32_t count, capacity;
    char path[];
};

static bool fail(struct checkpoint_writer *writer, int error) {
    if (!writer->error) writer->error = error ? error : EIO;
    errno = writer->error;
    return false;
}

static bool append(struct checkpoint_writer *writer, const void *bytes, size_t length) {
    if (file_io_write_all(writer->io, writer->fd, bytes, length) != length) return fail(writer, errno);
    writer->bytes += length;
    return true;
}

static void destroy(struct checkpoint_writer *writer) {
    pthread_mutex_destroy(&writer->lock);
    free(writer->places);
    free(writer);
}

struct checkpoint_writer *checkpoint_writer_create(const char *path, const struct checkpoint_identity *identity,
                                                   const struct file_io *io) {
    struct checkpoint_writer *writer = calloc(1, sizeof(*writer) + strlen(path) + 1);
    if (!writer) return NULL;
    strcpy(writer->path, path);
    pthread_mutex_init(&writer->lock, NULL);
    writer->io = io ? io : &file_io_system;
    writer->identity = *identity;
    writer->fd = writer->io->open(writer->io->ctx, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (writer->fd < 0) {
        int error = errno;
        destroy(writer);
        errno = error;
        return NULL;
    }
    struct checkpoint_header header = {.version = CHECKPOINT_VERSION,
                                       .chunk_header_bytes = sizeof(struct checkpoint_chunk_header),
                                       .number = identity->number,
                                       .shards = identity->shards};
    memcpy(header.magic, CHECKPOINT_MAGIC, sizeof(header.magic));
    memcpy(header.uuid, identity->uuid, sizeof(header.uuid));
    header.checksum = header_checksum(&header);
    (void)append(writer, &header, sizeof(header)); /* a failure is met again */
    return writer;
}

static bool note_place(struct checkpoint_writer *writer, const struct checkpoint_place *place) {
    if (writer->count == writer->capacity) {
        uint32_t capacity = writer->capacity ? writer->capacity * 2 : 256;
        struct checkpoint_place *places = realloc(writer->places, capacity * sizeof(*places));
        if (!places) return fail(writer, ENOMEM);
        writer->places = places;
        writer->capacity = capacity;
    }
    writer->places[writer->count++] = *place;
    return true;
}

static bool add(struct checkpoint_writer *writer, struct checkpoint_chunk_header *header, const void *payload) {
    struct checkpoint_place place = {.offset = writer->bytes,
                                     .bytes = header->bytes,
                                     .kind = header->kind,
                                     .database = header->database,
                                     .shard = header->shard,
                                     .count = header->count};
    if (writer->error) return fail(writer, writer->error);
    header->checksum = chunk_checksum(writer->identity.uuid, place.offset, header, payload);
    return (header->kind == CHECKPOINT_DIRECTORY || note_place(writer, &place)) &&
           append(writer, header, sizeof(*header)) && append(writer, payload, header->bytes);
}

bool checkpoint_writer_add(struct checkpoint_writer *writer, enum checkpoint_kind kind, uint32_t shard,
                           uint16_t database, uint32_t count, const void *payload, size_t bytes) {
    assert(bytes <= CHECKPOINT_PAYLOAD_MAX || kind == CHECKPOINT_DIRECTORY);
    struct checkpoint_chunk_header header = {.magic = CHECKPOINT_CHUNK_MAGIC,
                                             .kind = (uint16_t)kind,
                                             .database = database,
                                             .shard = shard,
                                             .count = count,
                                             .number = writer->identity.number,
                                             .bytes = bytes};
    pthread_mutex_lock(&writer->lock);
    bool added = add(writer, &header, payload);
    int error = errno;
    pthread_mutex_unlock(&writer->lock);
    errno = error;
    return added;
}

static bool sync_folder(const struct checkpoint_writer *writer) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", writer->path);
    return file_io_sync_directory(writer->io, dirname(folder));
}

bool checkpoint_writer_finish(struct checkpoint_writer *writer, struct checkpoint_extent *extent) {
    *extent = (struct checkpoint_extent){.directory_at = writer->bytes, .chunks = writer->count + 1};
    bool good = checkpoint_writer_add(writer, CHECKPOINT_DIRECTORY, 0, 0, writer->count, writer->places,
                                      writer->count * sizeof(*writer->places));
    extent->file_bytes = writer->bytes;
    if (good && writer->io->sync(writer->io->ctx, writer->fd) != 0) good = fail(writer, errno);
    if (writer->io->close(writer->io->ctx, writer->fd) != 0 && good) good = fail(writer, errno);
    if (good && !sync_folder(writer)) good = fail(writer, errno);
    int error = writer->error;
    if (!good) (void)writer->io->unlink(writer->io->ctx, writer->path);
    destroy(writer);
    errno = error;
    return good;
}

void checkpoint_writer_abandon(struct checkpoint_writer *writer) {
    (void)writer->io->close(writer->io->ctx, writer->fd);
    (void)writer->io->unlink(writer->io->ctx, writer->path);
    destroy(writer);
}

/* ---- reading ---- */

struct checkpoint_reader {
    int fd;
    struct checkpoint_identity identity;
    struct checkpoint_extent extent;
    struct checkpoint_place *places;
    uint32_t count;
};

static bool read_all(int fd, void *into, size_t bytes, uint64_t offset) {
    for (size_t got = 0; got < bytes;) {
        ssize_t step = pread(fd, (char *)into + got, bytes - got, (off_t)(offset + got));
        if (step < 0 && errno == EINTR) continue;
        if (step < 0) return false;
        if (step == 0) {
            errno = 0; /* shorter than it should be */
            return false;
        }
        got += (size_t)step;
    }
    return true;
}

static bool say(char *error, size_t error_bytes, const char *what, uint64_t offset) {
    snprintf(error, error_bytes, "%s at %llu%s%s", what, (unsigned long long)offset, errno ? ": " : "",
             errno ? strerror(errno) : "");
    return false;
}

/* The chunk at place->offset, whose payload is to be as long as the place says. */
static bool read_chunk(const struct checkpoint_reader *reader, const struct checkpoint_place *place, void *payload,
                       char *error, size_t error_bytes) {
    struct checkpoint_chunk_header header;
    errno = 0;
    if (!read_all(reader->fd, &header, sizeof(header), place->offset) ||
        (place->bytes && !read_all(reader->fd, payload, place->bytes, place->offset + sizeof(header))))
        return say(error, error_bytes, "cannot be read", place->offset);
    if (header.magic != CHECKPOINT_CHUNK_MAGIC || header.number != reader->identity.number ||
        header.bytes != place->bytes || header.kind != place->kind || header.database != place->database ||
        header.shard != place->shard || header.count != place->count ||
        header.checksum != chunk_checksum(reader->identity.uuid, place->offset, &header, payload))
        return say(error, error_bytes, "is damaged", place->offset);
    return true;
}

static size_t entry_bytes(enum checkpoint_kind kind) {
    switch (kind) {
    case CHECKPOINT_SEGMENTS: return sizeof(struct checkpoint_segment);
    case CHECKPOINT_EXPIRIES: return sizeof(uint64_t);
    case CHECKPOINT_FIELDS: return 2 * sizeof(uint64_t);
    default: return 0;
    }
}

/* Entries, and a print for some of them. */
static bool pages_are_plausible(const struct checkpoint_place *place) {
    uint64_t least = sizeof(struct checkpoint_pages) + (uint64_t)place->count * sizeof(uint64_t);
    return place->count <= CHECKPOINT_STRETCH && place->bytes >= least &&
           (place->bytes - least) % sizeof(struct checkpoint_print) == 0 &&
           (place->bytes - least) / sizeof(struct checkpoint_print) <= place->count;
}

static bool length_is_plausible(const struct checkpoint_place *place) {
    size_t each = entry_bytes((enum checkpoint_kind)place->kind);
    if (place->bytes > CHECKPOINT_PAYLOAD_MAX) return false;
    if (place->kind == CHECKPOINT_PAGES) return pages_are_plausible(place);
    if (place->kind == CHECKPOINT_ROOTS) return place->bytes / sizeof(struct checkpoint_root) >= place->count;
    if (place->kind == CHECKPOINT_STATES) return place->bytes > 0;
    if (place->kind != CHECKPOINT_SLOTS) return each && place->bytes == each * place->count;
    uint64_t slots_and_prints = place->bytes / CHECKPOINT_SLOT_BYTES;
    return place->bytes % CHECKPOINT_SLOT_BYTES == 0 && slots_and_prints >= place->count &&
           slots_and_prints - place->count <= place->count;
}
_Static_assert(sizeof(struct checkpoint_print) == CHECKPOINT_SLOT_BYTES, "slots and prints are counted together");

static int by_kind_and_shard(const void *a, const void *b) {
    const struct checkpoint_place *left = a, *right = b;
    if (left->kind != right->kind) return left->kind < right->kind ? -1 : 1;
    if (left->shard != right->shard) return left->shard < right->shard ? -1 : 1;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

static bool places_are_plausible(const struct checkpoint_reader *reader) {
    uint64_t sum = sizeof(struct checkpoint_header);
    for (uint32_t i = 0; i < reader->count; i++) {
        const struct checkpoint_place *place = &reader->places[i];
        if (!length_is_plausible(place) || place->offset != sum) return false;
        sum += sizeof(struct checkpoint_chunk_header) + place->bytes;
    }
    return sum == reader->extent.directory_at;
}

static bool read_directory(struct checkpoint_reader *reader, char *error, size_t error_bytes) {
    const struct checkpoint_extent *extent = &reader->extent;
    uint64_t bytes = (uint64_t)(extent->chunks - 1) * sizeof(struct checkpoint_place);
    errno = 0;
    if (extent->chunks == 0 || extent->directory_at < sizeof(struct checkpoint_header) ||
        extent->file_bytes < extent->directory_at ||
        extent->file_bytes - extent->directory_at != sizeof(struct checkpoint_chunk_header) + bytes)
        return say(error, error_bytes, "does not fit its manifest", extent->directory_at);
    reader->count = extent->chunks - 1;
    reader->places = malloc(bytes ? bytes : 1);
    if (!reader->places) return say(error, error_bytes, "is too large", 0);
    struct checkpoint_place directory = {
        .offset = extent->directory_at, .bytes = bytes, .kind = CHECKPOINT_DIRECTORY, .count = reader->count};
    if (!read_chunk(reader, &directory, reader->places, error, error_bytes)) return false;
    if (!places_are_plausible(reader)) return say(error, error_bytes, "has a damaged directory", directory.offset);
    qsort(reader->places, reader->count, sizeof(*reader->places), by_kind_and_shard);
    return true;
}

static bool check_header(const struct checkpoint_reader *reader, char *error, size_t error_bytes) {
    struct checkpoint_header header;
    errno = 0;
    if (!read_all(reader->fd, &header, sizeof(header), 0)) return say(error, error_bytes, "cannot be read", 0);
    if (memcmp(header.magic, CHECKPOINT_MAGIC, sizeof(header.magic)) != 0 ||
        header.checksum != header_checksum(&header))
        return say(error, error_bytes, "is damaged", 0);
    if (header.version < CHECKPOINT_VERSION_MIN || header.version > CHECKPOINT_VERSION ||
        header.chunk_header_bytes != sizeof(struct checkpoint_chunk_header))
        return say(error, error_bytes, "was made by another version", 0);
    if (memcmp(header.uuid, reader->identity.uuid, TIER_UUID_BYTES) != 0 || header.number != reader->identity.number ||
        header.shards != reader->identity.shards)
        return say(error, error_bytes, "belongs to another tier, or another moment", 0);
    if ((uint64_t)lseek(reader->fd, 0, SEEK_END) != reader->extent.file_bytes)
        return say(error, error_bytes, "does not have the length its manifest gives", 0);
    return true;
}

struct checkpoint_reader *checkpoint_reader_open(const char *path, const struct checkpoint_identity *identity,
                                                 const struct checkpoint_extent *extent, char *error,
                                                 size_t error_bytes) {
    struct checkpoint_reader *reader = calloc(1, sizeof(*reader));
    if (!reader) {
        snprintf(error, error_bytes, "out of memory");
        return NULL;
    }
    reader->identity = *identity;
    reader->extent = *extent;
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0) {
        snprintf(error, error_bytes, "cannot be opened: %s", strerror(errno));
    } else if (check_header(reader, error, error_bytes) && read_directory(reader, error, error_bytes)) {
        return reader;
    }
    checkpoint_reader_close(reader);
    return NULL;
}

void checkpoint_reader_close(struct checkpoint_reader *reader) {
    if (!reader) return;
    if (reader->fd >= 0) close(reader->fd);
    free(reader->places);
    free(reader);
}

uint32_t checkpoint_reader_chunks(const struct checkpoint_reader *reader) {
    return reader->count;
}

const struct checkpoint_place *checkpoint_reader_place(const struct checkpoint_reader *reader, uint32_t chunk) {
    return &reader->places[chunk];
}

uint32_t checkpoint_reader_find(const struct checkpoint_reader *reader, enum checkpoint_kind kind, uint32_t shard) {
    uint32_t low = 0, high = reader->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct checkpoint_place *place = &reader->places[middle];
        if (place->kind < kind || (place->kind == kind && place->shard < shard))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool checkpoint_reader_read(const struct checkpoint_reader *reader, uint32_t chunk, void *payload, char *error,
                            size_t error_bytes) {
    return read_chunk(reader, &reader->places[chunk], payload, error, error_bytes);
}
