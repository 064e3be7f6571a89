#ifndef TERRACE_PERSIST_CHECKPOINT_FILE_H
#define TERRACE_PERSIST_CHECKPOINT_FILE_H

/* Writing and reading the file of a checkpoint (checkpoint_layout.h): chunks and their directory, whatever is in them.
 *
 * Threads: a writer's checkpoint_writer_add() may be called by several; a reader is used by any number once it is
 * open. Nothing here logs or exits. */

#include "persist/checkpoint_layout.h"
#include "persist/file_io.h"

#include <stdbool.h>
#include <string.h>

enum { CHECKPOINT_PATH_MAX = 4096 };

/* <prefix>.checkpoint.<number><suffix>; false: too long. */
bool checkpoint_path(char path[CHECKPOINT_PATH_MAX], const char *prefix, uint64_t number, const char *suffix)
    __attribute__((warn_unused_result));

/* ---- writing ---- */

struct checkpoint_writer;

struct checkpoint_identity {
    uint8_t uuid[TIER_UUID_BYTES];
    uint64_t number;
    uint32_t shards;
};

/* What the manifest says of the finished file. */
struct checkpoint_extent {
    uint64_t file_bytes, directory_at;
    uint32_t chunks; /* the directory included */
};

/* Makes the file, replacing one of that name. `io` NULL: the system's. NULL: errno. */
struct checkpoint_writer *checkpoint_writer_create(const char *path, const struct checkpoint_identity *identity,
                                                   const struct file_io *io);
/* False: errno; the writer stays failed. */
bool checkpoint_writer_add(struct checkpoint_writer *writer, enum checkpoint_kind kind, uint32_t shard,
                           uint16_t database, uint32_t count, const void *payload, size_t bytes)
    __attribute__((warn_unused_result));
/* Writes the directory and syncs file and folder. Frees the writer. False: errno, and the file is removed. */
bool checkpoint_writer_finish(struct checkpoint_writer *writer, struct checkpoint_extent *extent)
    __attribute__((warn_unused_result));
/* Removes the file and frees the writer. */
void checkpoint_writer_abandon(struct checkpoint_writer *writer);

/* ---- reading ---- */

struct checkpoint_reader;

/* Opens the file that `extent` describes and reads its directory, sorted by kind, then shard, then place. NULL: one
 * line in `error` that says what is wrong with it. */
struct checkpoint_reader *checkpoint_reader_open(const char *path, const struct checkpoint_identity *identity,
                                                 const struct checkpoint_extent *extent, char *error,
                                                 size_t error_bytes);
void checkpoint_reader_close(struct checkpoint_reader *reader);

uint32_t checkpoint_reader_chunks(const struct checkpoint_reader *reader);
const struct checkpoint_place *checkpoint_reader_place(const struct checkpoint_reader *reader, uint32_t chunk);
/* The first chunk of this kind and shard in that order, or the one that would follow it. */
uint32_t checkpoint_reader_find(const struct checkpoint_reader *reader, enum checkpoint_kind kind, uint32_t shard);
/* Reads the payload of a chunk into `payload`, which has room for its bytes, and checks it. False: damaged, or errno;
 * the text says so. */
bool checkpoint_reader_read(const struct checkpoint_reader *reader, uint32_t chunk, void *payload, char *error,
                            size_t error_bytes) __attribute__((warn_unused_result));

/* ---- slots ---- */

/* How many slots of a chunk have prints: its last ones. */
static inline uint32_t checkpoint_place_prints(const struct checkpoint_place *place) {
    return (uint32_t)(place->bytes / CHECKPOINT_SLOT_BYTES) - place->count;
}

static inline void checkpoint_slot_write(void *at, uint64_t hash, uint64_t ref) {
    uint64_t upper = hash >> 16 | (hash << 48 ? 1 : 0);
    memcpy(at, &upper, 6);
    memcpy((char *)at + 6, &ref, 6);
}
static inline void checkpoint_slot_read(const void *at, uint64_t *hash, uint64_t *ref) {
    uint64_t upper = 0;
    *ref = 0;
    memcpy(&upper, at, 6);
    memcpy(ref, (const char *)at + 6, 6);
    *hash = upper << 16;
}

#endif
