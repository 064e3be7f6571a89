/* Opening blocks whose bytes are anything: nothing outside them is read, and what is called a record is one.
 *
 * Input: byte 0 chooses, then the bytes:
 *
 *   bit 0   they are a payload; else a block, which is given the checksum it should have, or would never be opened
 *   bit 1   of a block: the lengths in its header are made to agree with how many bytes there are
 *
 * Everything is copied to memory of exactly its size, so that the sanitizer sees a byte read too many. */

#include "tiering/tier_block.h"

#include <assert.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOCK = 12345, RAW_MAX = 1 << 20, RECORDS_TRIED = 140 };

static unsigned checked; /* gives the compiler no reason to leave out a reading */

static void use_record(const struct record *record, const char *begin, size_t length) {
    const char *at = (const char *)record;
    assert(at >= begin && at < begin + length);
    assert(record_size(record) <= length - (size_t)(at - begin));
    struct record_plan plan = record_plan_of(record);
    assert(record_size_for(&plan) <= record_size(record)); /* a width may be wider than need be */
    for (size_t i = 0; i < plan.key.length; i++) checked += (unsigned char)plan.key.data[i];
    struct span value = record_value(record);
    for (size_t i = 0; i < value.length; i++) checked += (unsigned char)value.data[i];
    checked += (unsigned)record_expiry(record);
    if (record_is_integer(record)) checked += (unsigned)record_integer(record);
}

static void use_payload(const void *payload, size_t length) {
    for (unsigned i = 0; i < RECORDS_TRIED; i++) {
        const struct record *record = tier_block_record(payload, length, i);
        if (record) use_record(record, payload, length);
    }
}

static void use_block(char *block, size_t size, bool agree) {
    struct tier_block_header header;
    if (size < sizeof(header)) {
        assert(tier_block_bytes(block, size) == 0);
        return;
    }
    memcpy(&header, block, sizeof(header));
    if (agree) {
        header.stored_bytes = (uint32_t)(size - sizeof(header));
        header.flags &= TIER_FLAG_LZ4 | TIER_FLAG_ALONE | TIER_FLAG_CHUNKS;
        if (header.flags & TIER_FLAG_CHUNKS) header.flags |= TIER_FLAG_LZ4 | TIER_FLAG_ALONE;
        header.raw_bytes = header.flags & TIER_FLAG_LZ4 ? header.raw_bytes % RAW_MAX : header.stored_bytes;
        memcpy(block, &header, sizeof(header));
    }
    size_t bytes = tier_block_bytes(block, size);
    assert(bytes <= size);
    if (bytes == 0) {
        assert(tier_block_verify(block, size, BLOCK, header.generation) == TIER_BLOCK_DAMAGED);
        return;
    }
    if (header.flags & TIER_FLAG_CHUNKS)
        header.checksum = (uint32_t)XXH3_64bits_withSeed(
            block + 4, sizeof(header) - 4, XXH3_64bits_withSeed(block + sizeof(header), bytes - sizeof(header), BLOCK));
    else
        header.checksum = (uint32_t)XXH3_64bits_withSeed(block + 4, bytes - 4, BLOCK);
    memcpy(block, &header.checksum, sizeof(header.checksum));
    assert(tier_block_verify(block, size, BLOCK, header.generation) == TIER_BLOCK_GOOD);
    assert(tier_block_verify(block, size, BLOCK, header.generation + 1) == TIER_BLOCK_STALE);
    char *raw = malloc(header.raw_bytes);
    const void *payload = raw ? tier_block_open(block, raw) : NULL;
    if (payload) use_payload(payload, header.raw_bytes);
    free(raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t length = size - 1;
    char *copy = malloc(length);
    memcpy(copy, data + 1, length);
    if (data[0] & 1)
        use_payload(copy, length);
    else
        use_block(copy, length, data[0] & 2);
    free(copy);
    return 0;
}
