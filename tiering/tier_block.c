/* Making and opening blocks.
 *
 * A block should hold as many records as its room allows, and nobody knows beforehand how well they compress. So the
 * compressor is not asked to make a given input small but to fill a given output: it is offered somewhat more than
 * recent blocks took, stops when the room is full, and says how far it came. The records that went in whole are the
 * block's; the beginning of the next one, which the compressor has taken in too, is never unpacked
 * (LZ4_decompress_safe_partial). One compression a block, and none of it for nothing:
 *
 *   scratch   | record | record | record | record | rec...      gathered: 9/8 of what the estimate says
 *   payload   | compressed ...............| not unpacked |      fills its room
 *               raw bytes, stored bytes    ^ of header: whole records only
 *
 * Two cases take a second compression: the estimate was far too low (data has changed), so that all that was gathered
 * fitted and left room; or large records, where what is not unpacked would be worth a block of its own.
 *
 * Data that does not compress is noticed by the estimate, and then only every TRY_EVERYth block is tried. Records that
 * stand alone have an estimate of their own: small ones are among those whose neighbours share blocks.
 *
 * What is read back is not believed. The checksum finds damage, but whoever writes to the file can make a checksum, so
 * each length is checked against what lies around it before it is used. */

#include "tiering/tier_block.h"

#include "base/limits.h"
#include "record/page_table.h"

#include <assert.h>
#include <lz4.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    HEADER_BYTES = sizeof(struct tier_block_header),
    ESTIMATE_FIRST = 512,                           /* in 1024: half, until something is known */
    ESTIMATE_PAYS = 960,                            /* above 15/16 a compressed block would not be kept */
    ESTIMATE_RAW_MIN = 1024,                        /* less input says little about how well more would compress */
    TRY_EVERY = 16,                                 /* blocks, of data that does not compress */
    RECORD_BYTES_MIN = RECORD_HEADER_FIXED + 1 + 1, /* an empty key, an integer of one byte */
    TAIL_BYTES_MAX = TIER_PAGE_BYTES / 8,           /* room worth another block */
    LZ4_EXPANSION_MAX = 255,                        /* a byte of a length stands for as many bytes of a match */
};

#define RECORD_BYTES_MAX (2 * LIMIT_VALUE_BYTES + RECORD_HEADER_MAX)
_Static_assert(RECORD_BYTES_MAX < LZ4_MAX_INPUT_SIZE, "lengths are ints to LZ4");
_Static_assert(TIER_RAW_BYTES_MAX <= UINT16_MAX, "struct gathered counts in 16 bits");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the header is written as it lies in memory");

/* ---- the header ---- */

static uint32_t checksum_of(const void *bytes, size_t length, uint64_t block) {
    size_t skipped = sizeof(uint32_t);
    return (uint32_t)XXH3_64bits_withSeed((const char *)bytes + skipped, length - skipped, block);
}

static uint32_t checksum_of_pieces(const struct tier_block_header *header, uint64_t payload) {
    return checksum_of(header, HEADER_BYTES, payload);
}

/* Of a block that is there as a whole. */
static uint32_t checksum_of_block(const struct tier_block_header *header, const void *bytes, size_t length,
                                  uint64_t block) {
    if (!(header->flags & TIER_FLAG_CHUNKS)) return checksum_of(bytes, length, block);
    return checksum_of_pieces(header,
                              XXH3_64bits_withSeed((const char *)bytes + HEADER_BYTES, length - HEADER_BYTES, block));
}

/* Completes a block whose payload is in place; returns its bytes. */
static size_t write_header(void *into, const struct tier_block_place *place, size_t raw, size_t stored, unsigned count,
                           unsigned flags) {
    struct tier_block_header header = {.generation = place->generation,
                                       .raw_bytes = (uint32_t)raw,
                                       .stored_bytes = (uint32_t)stored,
                                       .count = (uint16_t)count,
                                       .flags = (uint16_t)flags,
                                       .slot = place->slot,
                                       .database = place->database};
    memcpy(into, &header, HEADER_BYTES);
    header.checksum = checksum_of(into, HEADER_BYTES + stored, place->block);
    memcpy(into, &header.checksum, sizeof(header.checksum));
    return HEADER_BYTES + stored;
}

static uint64_t chunks_of(uint64_t raw) {
    return (raw + TIER_CHUNK_BYTES - 1) / TIER_CHUNK_BYTES;
}

static bool header_possible(const struct tier_block_header *header) {
    uint64_t raw = header->raw_bytes, stored = header->stored_bytes;
    if (header->flags & ~(TIER_FLAG_LZ4 | TIER_FLAG_ALONE | TIER_FLAG_CHUNKS)) return false;
    if (header->count == 0 || raw < (uint64_t)header->count * RECORD_BYTES_MIN) return false;
    if (header->flags & TIER_FLAG_ALONE) {
        if (header->count != 1 || raw > RECORD_BYTES_MAX) return false;
    } else {
        if (header->count > TIER_BLOCK_RECORDS || raw > TIER_RAW_BYTES_MAX) return false;
        if (HEADER_BYTES + stored > TIER_PAGE_BYTES) return false;
    }
    if (header->flags & TIER_FLAG_CHUNKS) {
        uint64_t lengths = chunks_of(raw) * sizeof(uint32_t);
        return header->flags == (TIER_FLAG_LZ4 | TIER_FLAG_ALONE | TIER_FLAG_CHUNKS) && stored > lengths &&
               stored <= raw + lengths;
    }
    if (!(header->flags & TIER_FLAG_LZ4)) return raw == stored;
    return raw > stored && raw <= stored * LZ4_EXPANSION_MAX;
}

/* ---- gathering ---- */

/* Records copied one behind the other. */
struct gathered {
    unsigned count;
    uint16_t ends[TIER_BLOCK_RECORDS]; /* behind each, from the first one's beginning */
};

static size_t gathered_bytes(const struct gathered *gathered) {
    return gathered->count ? gathered->ends[gathered->count - 1] : 0;
}

/* How many of them lie within the first `bytes`. */
static unsigned gathered_within(const struct gathered *gathered, size_t bytes) {
    unsigned count = gathered->count;
    while (count > 0 && gathered->ends[count - 1] > bytes) count--;
    return count;
}

/* Goes on copying until `wanted` bytes are there; never past `limit`. */
static void gather(struct gathered *gathered, char *to, size_t wanted, size_t limit,
                   const struct record *const *records, unsigned count) {
    size_t bytes = gathered_bytes(gathered);
    if (count > TIER_BLOCK_RECORDS) count = TIER_BLOCK_RECORDS;
    while (gathered->count < count && bytes < wanted) {
        unsigned next = gathered->count;
        if (next + 4 < count) __builtin_prefetch(records[next + 4]);
        size_t size = record_size(records[next]);
        if (size > limit - bytes) return;
        memcpy(to + bytes, records[next], size);
        bytes += size;
        gathered->ends[gathered->count++] = (uint16_t)bytes;
    }
}

/* ---- compressing ---- */

static bool worth_trying(struct tier_block_estimate *estimate) {
    if (estimate->stored_per_1024 < ESTIMATE_PAYS) return true;
    if (++estimate->untried < TRY_EVERY) return false;
    estimate->untried = 0;
    return true;
}

static void estimate_learn(struct tier_block_estimate *estimate, size_t raw, size_t stored) {
    if (raw < ESTIMATE_RAW_MIN) return;
    uint32_t before = estimate->stored_per_1024, now = (uint32_t)(stored * 1024 / raw);
    if (now == 0) now = 1;
    /* Of data that did not compress only a sixteenth was looked at: what is seen now counts alone. */
    estimate->stored_per_1024 = before == 0 || before >= ESTIMATE_PAYS ? now : (3 * before + now + 2) / 4;
}

static size_t raw_wanted(const struct tier_block_estimate *estimate, size_t room) {
    uint32_t stored_per_1024 = estimate->stored_per_1024 ? estimate->stored_per_1024 : ESTIMATE_FIRST;
    size_t fits = room * 1024 / stored_per_1024, wanted = fits + fits / 8;
    return wanted > TIER_RAW_BYTES_MAX ? TIER_RAW_BYTES_MAX : wanted;
}

/* Fills `room` bytes at `payload` from the beginning of what is gathered. Returns the bytes stored, and in *taken how
 * many of the gathered ones they stand for. */
static size_t compress_to_fill(char *payload, size_t room, const char *raw, const struct gathered *gathered,
                               size_t *taken) {
    int length = (int)gathered_bytes(gathered);
    int stored = LZ4_compress_destSize(raw, payload, &length, (int)room);
    *taken = stored > 0 ? (size_t)length : 0;
    return stored > 0 ? (size_t)stored : 0;
}

/* Returns how many records went into the payload, compressed; 0: none, or it does not pay. */
static unsigned pack_compressed(char *payload, size_t room, struct gathered *gathered, char *scratch,
                                const struct record *const *records, unsigned count,
                                struct tier_block_estimate *estimate, size_t *raw, size_t *stored) {
    size_t taken, all = gathered_bytes(gathered);
    *stored = compress_to_fill(payload, room, scratch, gathered, &taken);
    if (taken == all && *stored < room - room / 16) {
        struct tier_block_estimate seen = {.stored_per_1024 = (uint32_t)(*stored * 1024 / all) + 1};
        gather(gathered, scratch, raw_wanted(&seen, room), TIER_RAW_BYTES_MAX, records, count);
        if (gathered_bytes(gathered) > all) *stored = compress_to_fill(payload, room, scratch, gathered, &taken);
    }
    if (taken == 0) return 0;
    estimate_learn(estimate, taken, *stored);
    unsigned packed = gathered_within(gathered, taken);
    if (packed == 0) return 0;
    *raw = gathered->ends[packed - 1];
    if ((taken - *raw) * *stored >= TAIL_BYTES_MAX * taken) {
        int exact = LZ4_compress_default(scratch, payload, (int)*raw, (int)room);
        if (exact <= 0) return 0;
        *stored = (size_t)exact;
    }
    return packed;
}

static size_t units(size_t stored) {
    return (HEADER_BYTES + stored + TIER_UNIT_BYTES - 1) / TIER_UNIT_BYTES;
}

/* Reading a plain block costs nothing, so a compressed one has to be smaller by a sixteenth, and by a unit. */
static bool worth_keeping(unsigned packed, size_t raw, size_t stored, unsigned plain, size_t plain_bytes) {
    if (packed == 0) return false;
    if (plain == 0) return true;
    if (packed < plain || stored * 16 > raw * 15) return false;
    return packed > plain || units(stored) < units(plain_bytes);
}

unsigned tier_block_pack(void *into, size_t room, const struct tier_block_place *place,
                         const struct record *const *records, unsigned count, bool compress,
                         struct tier_block_estimate *estimate, void *scratch, size_t *used) {
    struct gathered gathered = {.count = 0};
    assert(room <= TIER_PAGE_BYTES);
    if (room <= HEADER_BYTES) return 0;
    room -= HEADER_BYTES;
    char *payload = (char *)into + HEADER_BYTES;
    unsigned plain;
    if (compress && worth_trying(estimate)) {
        size_t wanted = raw_wanted(estimate, room), raw = 0, stored = 0;
        gather(&gathered, scratch, wanted > room ? wanted : room, TIER_RAW_BYTES_MAX, records, count);
        if (gathered.count == 0) return 0;
        plain = gathered_within(&gathered, room);
        size_t plain_bytes = plain ? gathered.ends[plain - 1] : 0;
        unsigned packed = pack_compressed(payload, room, &gathered, scratch, records, count, estimate, &raw, &stored);
        if (worth_keeping(packed, raw, stored, plain, plain_bytes)) {
            *used = write_header(into, place, raw, stored, packed, TIER_FLAG_LZ4);
            return packed;
        }
        memcpy(payload, scratch, plain_bytes);
    } else {
        gather(&gathered, payload, room, room, records, count);
        plain = gathered.count;
    }
    if (plain == 0) return 0;
    *used = write_header(into, place, gathered.ends[plain - 1], gathered.ends[plain - 1], plain, 0);
    return plain;
}

/* ---- alone ---- */

size_t tier_block_alone_bound(const struct record *record) {
    return HEADER_BYTES + record_size(record);
}

/* The mean of the last ones, so that it is given up only where hardly any record compresses; one that does is enough to
 * begin again. */
static void estimate_learn_alone(struct tier_block_estimate *estimate, size_t size, size_t stored) {
    uint32_t before = estimate->stored_per_1024, now = stored ? (uint32_t)(stored * 1024 / size) : 1024;
    estimate->stored_per_1024 = before == 0 ? now + 1 : (3 * before + now + 3) / 4;
}

/* Bytes of the record compressed; 0: it does not pay, or was not tried. */
static size_t compress_alone(char *payload, const struct record *record, size_t size,
                             struct tier_block_estimate *estimate) {
    size_t limit = size - size / 16;
    if (limit == size || !worth_trying(estimate)) return 0;
    int stored = LZ4_compress_default((const char *)record, payload, (int)size, (int)limit);
    estimate_learn_alone(estimate, size, stored > 0 ? (size_t)stored : 0);
    return stored > 0 ? (size_t)stored : 0;
}

size_t tier_block_pack_alone(void *into, const struct tier_block_place *place, const struct record *record,
                             bool compress, struct tier_block_estimate *estimate) {
    size_t size = record_size(record);
    char *payload = (char *)into + HEADER_BYTES;
    assert(size <= RECORD_BYTES_MAX);
    size_t stored = compress ? compress_alone(payload, record, size, estimate) : 0;
    if (stored > 0 && units(stored) < units(size))
        return write_header(into, place, size, stored, 1, TIER_FLAG_ALONE | TIER_FLAG_LZ4);
    memcpy(payload, record, size);
    return write_header(into, place, size, size, 1, TIER_FLAG_ALONE);
}

/* ---- in pieces ---- */

size_t tier_block_pieces_bound(size_t raw_bytes, bool chunks) {
    return HEADER_BYTES + raw_bytes + (chunks ? chunks_of(raw_bytes) * sizeof(uint32_t) : 0);
}

bool tier_block_pieces_begin(struct tier_block_pieces *pieces, const struct tier_block_place *place, size_t raw_bytes,
                             bool chunks) {
    XXH3_state_t *state = XXH3_createState();
    assert(raw_bytes <= RECORD_BYTES_MAX);
    *pieces = (struct tier_block_pieces){
        .header = {.generation = place->generation,
                   .raw_bytes = (uint32_t)raw_bytes,
                   .count = 1,
                   .flags = (uint16_t)(chunks ? TIER_FLAG_LZ4 | TIER_FLAG_ALONE | TIER_FLAG_CHUNKS : TIER_FLAG_ALONE),
                   .slot = place->slot,
                   .database = place->database},
        .block = place->block,
        .state = state};
    if (!state) return false;
    XXH3_64bits_reset_withSeed(state, place->block);
    if (chunks) return true;
    /* As write_header() has it: the header is a part of the bytes that are summed up. */
    pieces->header.stored_bytes = (uint32_t)raw_bytes;
    XXH3_64bits_update(state, (const char *)&pieces->header + sizeof(uint32_t), HEADER_BYTES - sizeof(uint32_t));
    return true;
}

void tier_block_pieces_add(struct tier_block_pieces *pieces, const void *bytes, size_t length) {
    XXH3_64bits_update(pieces->state, bytes, length);
    if (pieces->header.flags & TIER_FLAG_CHUNKS) pieces->header.stored_bytes += (uint32_t)length;
}

void tier_block_pieces_end(struct tier_block_pieces *pieces, void *into) {
    uint64_t sum = XXH3_64bits_digest(pieces->state);
    bool chunks = pieces->header.flags & TIER_FLAG_CHUNKS;
    pieces->header.checksum = chunks ? checksum_of_pieces(&pieces->header, sum) : (uint32_t)sum;
    memcpy(into, &pieces->header, HEADER_BYTES);
    tier_block_pieces_free(pieces);
}

void tier_block_pieces_free(struct tier_block_pieces *pieces) {
    XXH3_freeState(pieces->state);
    pieces->state = NULL;
}

/* One that does not become smaller by a sixteenth is left as it is. */
size_t tier_block_pack_chunk(void *into, const void *bytes, size_t length) {
    char *payload = (char *)into + sizeof(uint32_t);
    size_t limit = length - length / 16;
    int stored = limit < length ? LZ4_compress_default(bytes, payload, (int)length, (int)limit) : 0;
    if (stored <= 0) memcpy(payload, bytes, length);
    uint32_t word = stored > 0 ? (uint32_t)stored : (uint32_t)length;
    memcpy(into, &word, sizeof(word));
    return sizeof(word) + word;
}

/* False: the chunks are not what they should be. */
static bool unpack_chunks(const char *payload, size_t stored, char *raw, size_t raw_bytes) {
    while (raw_bytes > 0) {
        uint32_t length, wanted = raw_bytes < TIER_CHUNK_BYTES ? (uint32_t)raw_bytes : TIER_CHUNK_BYTES;
        if (stored < sizeof(length)) return false;
        memcpy(&length, payload, sizeof(length));
        payload += sizeof(length);
        stored -= sizeof(length);
        if (length > wanted || length > stored) return false;
        if (length == wanted)
            memcpy(raw, payload, wanted);
        else if (LZ4_decompress_safe(payload, raw, (int)length, (int)wanted) != (int)wanted)
            return false;
        payload += length;
        stored -= length;
        raw += wanted;
        raw_bytes -= wanted;
    }
    return stored == 0;
}

/* ---- opening ---- */

size_t tier_block_bytes(const void *bytes, size_t limit) {
    struct tier_block_header header;
    if (limit < HEADER_BYTES) return 0;
    memcpy(&header, bytes, HEADER_BYTES);
    size_t needed = HEADER_BYTES + (size_t)header.stored_bytes;
    return needed <= limit && header_possible(&header) ? needed : 0;
}

enum tier_block_status tier_block_verify(const void *bytes, size_t available, uint64_t block, uint32_t generation) {
    struct tier_block_header header;
    size_t length = tier_block_bytes(bytes, available);
    if (length == 0) return TIER_BLOCK_DAMAGED;
    memcpy(&header, bytes, HEADER_BYTES);
    if (header.checksum != checksum_of_block(&header, bytes, length, block)) return TIER_BLOCK_DAMAGED;
    return header.generation == generation ? TIER_BLOCK_GOOD : TIER_BLOCK_STALE;
}

const void *tier_block_open(const void *bytes, void *raw) {
    struct tier_block_header header;
    memcpy(&header, bytes, HEADER_BYTES);
    const char *payload = (const char *)bytes + HEADER_BYTES;
    if (!(header.flags & TIER_FLAG_LZ4)) return payload;
    if (header.flags & TIER_FLAG_CHUNKS)
        return unpack_chunks(payload, header.stored_bytes, raw, header.raw_bytes) ? raw : NULL;
    int wanted = (int)header.raw_bytes;
    return LZ4_decompress_safe_partial(payload, raw, (int)header.stored_bytes, wanted, wanted) == wanted ? raw : NULL;
}

/* The size that the record at `at` says it has, if it lies within `left` bytes; 0: it does not. Two kinds of header are
 * most of all there are: short keys with a value shorter than 256 or 65536 bytes; one load gives all that is asked of
 * them. */
static inline size_t size_within(const uint8_t *at, size_t left) {
    enum { KEY_BYTE = 0x06, VALUE_SHORT = 0x08, VALUE_MEDIUM = 0x10, WIDTHS = 0x1e };
    size_t size;
    if (left >= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        unsigned widths = (unsigned)(word >> 8) & WIDTHS, expiry = (unsigned)(word >> 8) & 1;
        if (widths == VALUE_SHORT || widths == VALUE_MEDIUM) {
            size_t value = widths == VALUE_SHORT ? (word >> 48) & 0xff : word >> 48;
            size = RECORD_HEADER_FIXED + 1 + (widths >> 3) + 6 * expiry + ((word >> 40) & 0xff) + value;
            return size <= left ? size : 0;
        }
    }
    const struct record *record = (const struct record *)at;
    if (left < RECORD_BYTES_MIN || (at[1] & KEY_BYTE) == KEY_BYTE || record_header_size(record) > left) return 0;
    if (record_value_width(record) == 0 && (!record_is_integer(record) || record_encoding(record) > RECORD_INT64))
        return 0;
    size = record_header_size(record) + record_load_length(at + RECORD_HEADER_FIXED, record_key_width(record)) +
           record_value_length(record);
    return size <= left ? size : 0;
}

/* Whether a record of known size is one that the readers of records can take. */
static bool record_possible(const struct record *record) {
    enum record_type type = record_type(record);
    if (type < RECORD_STRING || type > RECORD_PAGE || record_is_paged(record)) return false;
    if (type == RECORD_PAGE && (record_encoding(record) != RECORD_RAW || record_key(record).length != PAGE_KEY ||
                                record_key_width(record) != 1 || record_has_expiry(record)))
        return false;
    return record_encoding(record) <= RECORD_LISTPACK_TIMED &&
           record_is_integer(record) == (record_value_width(record) == 0);
}

const struct record *tier_block_record(const void *payload, size_t raw_bytes, unsigned which) {
    const uint8_t *at = payload;
    size_t left = raw_bytes, size;
    for (; which > 0; which--) {
        if ((size = size_within(at, left)) == 0) return NULL;
        at += size;
        left -= size;
    }
    const struct record *record = (const struct record *)at;
    return size_within(at, left) && record_possible(record) ? record : NULL;
}
