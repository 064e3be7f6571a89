/* RDB files from anyone: whatever the bytes, loading ends, with a reason if not well, and the keyspace is sound.
 *
 * Input: byte 0 chooses, the rest is what follows the header.
 *
 *   bits 0-3   the version, less one
 *   bit 4      duplicates replace
 *   bit 5      bytes come a few at a time, and how many there are is not known
 *   bit 6      limits are so low that hardly anything is packed
 *
 * There is no checksum to be right: it is ignored. */

#include "keyspace/keyspace.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_load.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SHARDS = 4, RESERVE = 256 << 20, PIECE = 7 };
#define NOW_MS INT64_C(2000000000000)

struct source {
    char header[RDB_HEADER_BYTES + 1];
    const uint8_t *data;
    size_t size, at, piece;
};

static long read_source(void *ctx, void *buffer, size_t room) {
    struct source *source = ctx;
    size_t header = source->at < RDB_HEADER_BYTES ? RDB_HEADER_BYTES - source->at : 0;
    if (room > source->piece) room = source->piece;
    if (header) {
        if (room > header) room = header;
        memcpy(buffer, source->header + source->at, room);
    } else {
        size_t at = source->at - RDB_HEADER_BYTES;
        if (room > source->size - at) room = source->size - at;
        if (room) memcpy(buffer, source->data + at, room);
    }
    source->at += room;
    return (long)room;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    const struct keyspace_options keyspace_options = {
        .shards = SHARDS, .databases = 4, .seed = 1, .reserve_bytes = RESERVE};
    struct keyspace *keyspace = keyspace_create(&keyspace_options);
    struct rdb_load_result result;
    struct source source = {.data = data + 1, .size = size - 1, .piece = data[0] & 32 ? PIECE : SIZE_MAX};
    const struct rdb_load_options options = {
        .keyspace = keyspace, .now_ms = NOW_MS, .replace_duplicates = data[0] & 16, .ignore_checksum = true};
    assert(keyspace);
    if (data[0] & 64)
        keyspace->limits = (struct value_limits){.hash_packed_entries = 1,
                                                 .hash_packed_bytes = 8,
                                                 .list_packed_size = 1,
                                                 .set_intset_entries = 1,
                                                 .set_packed_entries = 1,
                                                 .set_packed_bytes = 8,
                                                 .sorted_set_packed_entries = 1,
                                                 .sorted_set_packed_bytes = 8};
    snprintf(source.header, sizeof(source.header), RDB_MAGIC "%04u", (data[0] & 15u) + 1);
    enum rdb_status status = rdb_load_stream(
        read_source, &source, data[0] & 32 ? UINT64_MAX : RDB_HEADER_BYTES + source.size, &options, &result);
    assert((status == RDB_DONE) == (result.reason[0] == '\0'));
    assert(keyspace_validate(keyspace));
    keyspace_destroy(keyspace);
    return 0;
}
