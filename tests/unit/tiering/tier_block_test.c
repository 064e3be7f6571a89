/* Blocks give back byte for byte what went in, fill their room, and are not believed when they were tampered with. */

#include "base/random.h"
#include "tiering/tier_block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { RECORDS = 300, CANARY_BYTES = 64, CANARY = 0xa5 };

static struct random numbers;
static char scratch[TIER_RAW_BYTES_MAX];
static const struct tier_block_place place = {.block = 77, .generation = 5, .slot = 1000, .database = 3};

static int seed(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t value = given ? strtoull(given, NULL, 10) : 20261121;
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)value);
    random_seed(&numbers, value);
    return 0;
}

/* `noise`: how many of a hundred pieces of the value are random bytes; the others stand in one text. 0 compresses
 * very well, 100 not at all. */
static void fill_value(char *value, size_t length, unsigned noise) {
    static const char text[] = "the quick brown fox jumps over the lazy dog while the band plays on and nobody listens";
    while (length > 0) {
        size_t piece = 20 + random_below(&numbers, 20);
        if (piece > length) piece = length;
        bool random = random_below(&numbers, 100) < noise;
        memcpy(value, text + random_below(&numbers, sizeof(text) - 40), piece);
        for (size_t i = 0; random && i < piece; i++) value[i] = (char)random_next(&numbers);
        value += piece;
        length -= piece;
    }
}

static struct record *make_record(size_t key_length, size_t value_length, unsigned noise, bool expires) {
    char *key = malloc(key_length + 1), *value = malloc(value_length + 1);
    for (size_t i = 0; i < key_length; i++) key[i] = (char)random_below(&numbers, 256);
    fill_value(value, value_length, noise);
    struct record_plan plan = {.type = RECORD_STRING,
                               .key = span_of(key, key_length),
                               .value = span_of(value, value_length),
                               .expiry_ms = expires ? 1234567 : RECORD_EXPIRY_NONE,
                               .access = (uint32_t)random_below(&numbers, 1 << 24)};
    if (random_once_in(&numbers, 10)) {
        plan.integer = (int64_t)random_next(&numbers) >> random_below(&numbers, 64);
        plan.encoding = record_integer_encoding(plan.integer);
    }
    /* Of exactly its size, so that the sanitizer sees a byte read too many. */
    struct record *record = record_write(malloc(record_size_for(&plan)), &plan);
    free(key);
    free(value);
    return record;
}

static void free_records(struct record **records, unsigned count) {
    for (unsigned i = 0; i < count; i++) free(records[i]);
}

static struct tier_block_header header_of(const void *block) {
    struct tier_block_header header;
    memcpy(&header, block, sizeof(header));
    return header;
}

/* Opens a copy of exactly `length` bytes and compares what is in it. */
static void expect_contents(const char *block, size_t length, const struct record *const *records, unsigned count) {
    char *copy = malloc(length);
    memcpy(copy, block, length);
    assert_int_equal(tier_block_bytes(copy, length), length);
    assert_int_equal(tier_block_bytes(copy, length - 1), 0);
    assert_int_equal(tier_block_verify(copy, length, place.block, place.generation), TIER_BLOCK_GOOD);
    struct tier_block_header header = header_of(copy);
    assert_int_equal(header.count, count);
    assert_int_equal(header.slot, place.slot);
    assert_int_equal(header.database, place.database);
    char *raw = malloc(header.raw_bytes);
    const void *payload = tier_block_open(copy, raw);
    assert_non_null(payload);
    size_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct record *record = tier_block_record(payload, header.raw_bytes, i);
        assert_non_null(record);
        assert_int_equal(record_size(record), record_size(records[i]));
        assert_memory_equal(record, records[i], record_size(records[i]));
        sum += record_size(record);
    }
    assert_int_equal(sum, header.raw_bytes);
    assert_null(tier_block_record(payload, header.raw_bytes, count));
    assert_null(tier_block_record(payload, header.raw_bytes, count + 1000));
    free(raw);
    free(copy);
}

static size_t length_at_random(void) {
    switch (random_below(&numbers, 8)) {
    case 0: return 0;
    case 1: return 250 + random_below(&numbers, 12);
    case 2: return random_below(&numbers, 9000);
    case 3: return random_below(&numbers, 1500);
    default: return random_below(&numbers, 120);
    }
}

static void anything_packed_comes_out_byte_for_byte(void **state) {
    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        struct record *records[RECORDS];
        const struct record *const *given = (const struct record *const *)records;
        unsigned count = 1 + (unsigned)random_below(&numbers, RECORDS), at = 0;
        unsigned noise = (unsigned)random_below(&numbers, 101);
        for (unsigned i = 0; i < count; i++)
            records[i] = make_record(random_below(&numbers, 20) ? random_below(&numbers, 40) : 300, length_at_random(),
                                     noise, random_once_in(&numbers, 3));
        struct tier_block_estimate estimate = {.stored_per_1024 = (uint32_t)random_below(&numbers, 1100)};
        char page[TIER_PAGE_BYTES + CANARY_BYTES];
        while (at < count) {
            size_t room = random_once_in(&numbers, 2) ? TIER_PAGE_BYTES : random_below(&numbers, TIER_PAGE_BYTES), used;
            memset(page, CANARY, sizeof(page));
            unsigned packed = tier_block_pack(page, room, &place, given + at, count - at, random_below(&numbers, 4) > 0,
                                              &estimate, scratch, &used);
            for (size_t i = room; i < room + CANARY_BYTES; i++) assert_int_equal((unsigned char)page[i], CANARY);
            if (packed) {
                assert_true(used <= room && packed <= TIER_BLOCK_RECORDS);
                expect_contents(page, used, given + at, packed);
            }
            at += packed ? packed : 1;
        }
        free_records(records, count);
    }
}

static void one_alone_comes_out_byte_for_byte(void **state) {
    (void)state;
    struct tier_block_estimate estimate = {0};
    for (unsigned round = 0; round < 2000; round++) {
        size_t length = random_once_in(&numbers, 20) ? random_below(&numbers, 500000) : length_at_random();
        struct record *record =
            make_record(random_below(&numbers, 30), length, (unsigned)random_below(&numbers, 101), false);
        size_t bound = tier_block_alone_bound(record);
        char *block = malloc(bound);
        bool compress = random_below(&numbers, 4) > 0;
        size_t used = tier_block_pack_alone(block, &place, record, compress, &estimate);
        assert_true(used <= bound && (compress || used == bound));
        assert_true(header_of(block).flags & TIER_FLAG_ALONE);
        expect_contents(block, used, (const struct record *const *)&record, 1);
        free(block);
        free(record);
    }
}

/* A block of one record, made piece by piece. From malloc. */
static char *pack_in_pieces(const struct record *record, bool chunks, size_t *used) {
    struct tier_block_pieces pieces;
    size_t size = record_size(record), bound = tier_block_pieces_bound(size, chunks);
    char *block = malloc(bound), chunk[TIER_CHUNK_BOUND];
    *used = sizeof(struct tier_block_header);
    assert_true(tier_block_pieces_begin(&pieces, &place, size, chunks));
    for (size_t at = 0; at < size; at += TIER_CHUNK_BYTES) {
        const char *from = (const char *)record + at;
        size_t length = size - at < TIER_CHUNK_BYTES ? size - at : TIER_CHUNK_BYTES;
        if (chunks) length = tier_block_pack_chunk(chunk, from, length);
        assert_true(*used + length <= bound);
        memcpy(block + *used, chunks ? chunk : from, length);
        tier_block_pieces_add(&pieces, block + *used, length);
        *used += length;
    }
    tier_block_pieces_end(&pieces, block);
    return block;
}

static void one_in_pieces_comes_out_byte_for_byte(void **state) {
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        size_t length = random_once_in(&numbers, 3)
                            ? TIER_CHUNK_BYTES * (1 + random_below(&numbers, 3)) - 8 + round % 16
                            : 1 + random_below(&numbers, 300000);
        struct record *record =
            make_record(random_below(&numbers, 30), length, (unsigned)random_below(&numbers, 101), round % 2);
        size_t used;
        char *block = pack_in_pieces(record, random_once_in(&numbers, 2), &used);
        expect_contents(block, used, (const struct record *const *)&record, 1);
        size_t at = random_below(&numbers, used);
        block[at] ^= (char)(1 << random_below(&numbers, 8));
        assert_int_not_equal(tier_block_verify(block, used, place.block, place.generation), TIER_BLOCK_GOOD);
        free(block);
        free(record);
    }
}

/* As it is packed otherwise, where it is not compressed: readers cannot tell them apart. */
static void pieces_that_are_not_compressed_make_an_ordinary_block(void **state) {
    (void)state;
    struct record *record = make_record(20, 200000, 100, true);
    struct tier_block_estimate estimate = {0};
    size_t used, bound = tier_block_alone_bound(record);
    char *block = pack_in_pieces(record, false, &used), *other = malloc(bound);
    assert_int_equal(tier_block_pack_alone(other, &place, record, false, &estimate), used);
    assert_memory_equal(block, other, used);
    free(block);
    free(other);
    free(record);
}

/* Chunks whose lengths somebody changed, with a checksum that is right. */
static void chunks_that_cannot_be_are_not_opened(void **state) {
    (void)state;
    struct record *record = make_record(20, 3 * TIER_CHUNK_BYTES, 30, false);
    size_t used;
    char *block = pack_in_pieces(record, true, &used);
    struct tier_block_header header = header_of(block);
    for (unsigned round = 0; round < 2000; round++) {
        size_t length = used - (random_once_in(&numbers, 2) ? random_below(&numbers, used - sizeof(header)) : 0);
        char *copy = malloc(length), *raw = malloc(header.raw_bytes);
        memcpy(copy, block, length);
        size_t at = sizeof(header) + (random_once_in(&numbers, 2) ? random_below(&numbers, 4)
                                                                  : random_below(&numbers, used - sizeof(header)));
        if (at < length) copy[at] ^= (char)(1 << random_below(&numbers, 8));
        header.stored_bytes = (uint32_t)(length - sizeof(header));
        memcpy(copy, &header, sizeof(header));
        const void *payload = tier_block_bytes(copy, length) == length ? tier_block_open(copy, raw) : NULL;
        if (payload) assert_ptr_equal(payload, raw);
        if (length < used) assert_null(payload);
        free(copy);
        free(raw);
    }
    free(block);
    free(record);
}

static void a_record_alone_is_compressed_where_that_saves_a_unit(void **state) {
    (void)state;
    char block[40000];
    struct tier_block_estimate estimate = {0};
    struct record *record = NULL;
    do {
        free(record);
        record = make_record(10, 30000, 10, false);
    } while (record_is_integer(record));
    assert_true(tier_block_pack_alone(block, &place, record, true, &estimate) < 10000);
    assert_true(header_of(block).flags & TIER_FLAG_LZ4);
    assert_true(tier_block_pack_alone(block, &place, record, false, &estimate) > 30000);
    assert_false(header_of(block).flags & TIER_FLAG_LZ4);
    free(record);
}

/* Packs one record of random or dull bytes; true: compressed. */
static bool packs_compressed(unsigned noise, struct tier_block_estimate *estimate) {
    char block[5000];
    struct record *record = NULL;
    do {
        free(record);
        record = make_record(10, 4000, noise, false);
    } while (record_is_integer(record));
    tier_block_pack_alone(block, &place, record, true, estimate);
    free(record);
    return header_of(block).flags & TIER_FLAG_LZ4;
}

/* Until one turns out to compress. */
static void few_records_alone_are_tried_where_none_compresses(void **state) {
    (void)state;
    struct tier_block_estimate estimate = {0};
    unsigned plain = 0;
    for (unsigned i = 0; i < 40; i++) assert_false(packs_compressed(100, &estimate));
    while (!packs_compressed(0, &estimate)) plain++;
    assert_true(plain > 0 && plain < 16);
    for (unsigned i = 0; i < 40; i++) assert_true(packs_compressed(0, &estimate));
    /* Where every other one does they are all tried. */
    for (unsigned i = 0; i < 40; i++) assert_int_equal(packs_compressed(i % 2 ? 100 : 0, &estimate), i % 2 == 0);
}

/* How full, in a thousand, blocks are on average, once the estimate has seen some. */
static unsigned fill_of(size_t value_length, unsigned noise, bool *compressed) {
    struct tier_block_estimate estimate = {0};
    struct record *records[RECORDS];
    char page[TIER_PAGE_BYTES];
    size_t used, sum = 0;
    for (unsigned i = 0; i < RECORDS; i++) records[i] = make_record(16, value_length, noise, false);
    for (unsigned round = 0; round < 250; round++) {
        unsigned first = (unsigned)random_below(&numbers, RECORDS - TIER_BLOCK_RECORDS);
        assert_true(tier_block_pack(page, sizeof(page), &place, (const struct record *const *)records + first,
                                    TIER_BLOCK_RECORDS, true, &estimate, scratch, &used) > 0);
        if (round >= 50) sum += used;
    }
    *compressed = header_of(page).flags & TIER_FLAG_LZ4;
    free_records(records, RECORDS);
    return (unsigned)(sum * 1000 / 200 / TIER_PAGE_BYTES);
}

static void pages_are_filled_on_steady_data(void **state) {
    (void)state;
    bool compressed;
    assert_in_range(fill_of(100, 30, &compressed), 930, 1000);
    assert_true(compressed);
    assert_in_range(fill_of(1000, 30, &compressed), 930, 1000);
    assert_true(compressed);
    assert_in_range(fill_of(100, 100, &compressed), 930, 1000);
    assert_false(compressed);
}

static void the_estimate_follows_what_is_seen(void **state) {
    (void)state;
    struct tier_block_estimate estimate = {0};
    char page[TIER_PAGE_BYTES];
    size_t used;
    struct record *dense[64], *loose[64];
    for (unsigned i = 0; i < 64; i++) {
        dense[i] = make_record(16, 500, 100, false);
        loose[i] = make_record(16, 500, 20, false);
    }
    for (unsigned i = 0; i < 20; i++)
        tier_block_pack(page, sizeof(page), &place, (const struct record *const *)dense, 64, true, &estimate, scratch,
                        &used);
    assert_in_range(estimate.stored_per_1024, 960, 1100);
    /* What does not compress is looked at once in sixteen; then it is seen that the data has changed. */
    unsigned tries = 0;
    do {
        assert_true(++tries <= 16);
        tier_block_pack(page, sizeof(page), &place, (const struct record *const *)loose, 64, true, &estimate, scratch,
                        &used);
    } while (!(header_of(page).flags & TIER_FLAG_LZ4));
    assert_true(tries > 1);
    assert_in_range(estimate.stored_per_1024, 200, 700);
    free_records(dense, 64);
    free_records(loose, 64);
}

static void what_cannot_fit_is_not_packed(void **state) {
    (void)state;
    struct tier_block_estimate estimate = {0};
    char page[TIER_PAGE_BYTES];
    size_t used;
    struct record *small = make_record(4, 0, 0, false), *dense = NULL, *huge = NULL;
    do {
        free(dense);
        dense = make_record(8, 5000, 100, false);
    } while (record_is_integer(dense));
    do {
        free(huge);
        huge = make_record(8, TIER_RAW_BYTES_MAX, 0, false);
    } while (record_is_integer(huge));
    const struct record *one = small;
    for (size_t room = 0; room <= sizeof(struct tier_block_header) + 10; room++)
        assert_int_equal(tier_block_pack(page, room, &place, &one, 1, true, &estimate, scratch, &used), 0);
    one = dense;
    assert_int_equal(tier_block_pack(page, sizeof(page), &place, &one, 1, true, &estimate, scratch, &used), 0);
    assert_int_equal(tier_block_pack(page, sizeof(page), &place, &one, 1, false, &estimate, scratch, &used), 0);
    one = huge; /* would compress to nothing, but unpacking a shared block is bounded */
    assert_int_equal(tier_block_pack(page, sizeof(page), &place, &one, 1, true, &estimate, scratch, &used), 0);
    free(small);
    free(dense);
    free(huge);
}

static size_t pack_some(char *page, bool compress) {
    struct tier_block_estimate estimate = {0};
    struct record *records[40];
    size_t used;
    for (unsigned i = 0; i < 40; i++) records[i] = make_record(12, 150, 30, i % 2);
    assert_true(tier_block_pack(page, TIER_PAGE_BYTES, &place, (const struct record *const *)records, 40, compress,
                                &estimate, scratch, &used) > 1);
    free_records(records, 40);
    return used;
}

static void every_flipped_bit_is_found(void **state) {
    (void)state;
    char page[TIER_PAGE_BYTES];
    for (unsigned compress = 0; compress < 2; compress++) {
        size_t used = pack_some(page, compress);
        for (size_t bit = 0; bit < used * 8; bit++) {
            page[bit / 8] ^= (char)(1 << bit % 8);
            assert_int_equal(tier_block_verify(page, used, place.block, place.generation), TIER_BLOCK_DAMAGED);
            page[bit / 8] ^= (char)(1 << bit % 8);
        }
        assert_int_equal(tier_block_verify(page, used, place.block, place.generation), TIER_BLOCK_GOOD);
    }
}

static void another_place_generation_or_length_is_found(void **state) {
    (void)state;
    char page[TIER_PAGE_BYTES];
    size_t used = pack_some(page, true);
    assert_int_equal(tier_block_verify(page, used, place.block + 1, place.generation), TIER_BLOCK_DAMAGED);
    assert_int_equal(tier_block_verify(page, used, place.block, place.generation + 1), TIER_BLOCK_STALE);
    assert_int_equal(tier_block_verify(page, used - 1, place.block, place.generation), TIER_BLOCK_DAMAGED);
    assert_int_equal(tier_block_verify(page, sizeof(page), place.block, place.generation), TIER_BLOCK_GOOD);
    for (size_t length = 0; length < sizeof(struct tier_block_header); length++)
        assert_int_equal(tier_block_bytes(page, length), 0);
    char zeros[TIER_PAGE_BYTES] = {0};
    assert_int_equal(tier_block_bytes(zeros, sizeof(zeros)), 0);
    assert_int_equal(tier_block_verify(zeros, sizeof(zeros), 0, 0), TIER_BLOCK_DAMAGED);
}

static void make_checksum_right(char *block, size_t length) {
    uint32_t checksum = (uint32_t)XXH3_64bits_withSeed(block + 4, length - 4, place.block);
    memcpy(block, &checksum, sizeof(checksum));
}

/* Bytes changed by somebody who knows how to make a checksum. What is opened is of exactly its size, so under the
 * address sanitizer this test sees every byte that is read outside. */
static void right_checksums_over_wrong_bytes_read_nothing_outside(void **state) {
    (void)state;
    char page[TIER_PAGE_BYTES];
    unsigned opened = 0, refused = 0;
    for (unsigned round = 0; round < 30000; round++) {
        size_t used = round % 100 < 2 || round == 0 ? pack_some(page, round % 2) : header_of(page).stored_bytes + 24;
        char *block = malloc(used);
        memcpy(block, page, used);
        for (unsigned i = random_below(&numbers, 4) + 1; i > 0; i--) {
            size_t at = random_once_in(&numbers, 3) ? 8 + random_below(&numbers, 12) : random_below(&numbers, used);
            block[at] = (char)random_next(&numbers);
        }
        make_checksum_right(block, used);
        if (tier_block_verify(block, used, place.block, header_of(block).generation) != TIER_BLOCK_GOOD) {
            refused++;
        } else {
            struct tier_block_header header = header_of(block);
            char *raw = malloc(header.raw_bytes);
            const void *payload = tier_block_open(block, raw);
            for (unsigned i = 0; payload && i < 140; i++) {
                const struct record *record = tier_block_record(payload, header.raw_bytes, i);
                if (!record) continue;
                opened++;
                const char *begin = (const char *)record, *first = payload;
                assert_true(begin >= first && begin + record_size(record) <= first + header.raw_bytes);
                if (record_is_integer(record)) (void)record_integer(record);
                (void)record_expiry(record);
            }
            free(raw);
        }
        free(block);
    }
    assert_true(opened > 1000 && refused > 1000);
}

static void impossible_records_are_refused(void **state) {
    (void)state;
    /* type and encoding, flags, access, key length, value length ... */
    const struct {
        unsigned char bytes[12];
        bool good;
    } cases[] = {
        {{1, 8, 0, 0, 0, 1, 3, 'k', 'a', 'b', 'c', 0}, true},
        {{1, 8, 0, 0, 0, 1, 4, 'k', 'a', 'b', 'c', 0}, true},
        {{1, 8, 0, 0, 0, 1, 5, 'k', 'a', 'b', 'c', 0}, false}, /* one byte too long */
        {{0, 8, 0, 0, 0, 1, 4, 'k', 'a', 'b', 'c', 0}, false}, /* no type */
        {{8, 8, 0, 0, 0, 1, 4, 'k', 'a', 'b', 'c', 0}, false},
        {{7, 8, 0, 0, 0, 1, 4, 'k', 'a', 'b', 'c', 0}, false},    /* a page that says nobody's */
        {{0x71, 8, 0, 0, 0, 1, 4, 'k', 'a', 'b', 'c', 0}, false}, /* the root of a collection: never on a tier */
        {{0x11, 0, 0, 0, 0, 1, 'k', 5, 0, 0, 0, 0}, true},
        {{0x91, 0, 0, 0, 0, 1, 'k', 5, 0, 0, 0, 0}, false},         /* no such encoding */
        {{0x01, 0, 0, 0, 0, 1, 'k', 5, 0, 0, 0, 0}, false},         /* text without a length */
        {{0x11, 8, 0, 0, 0, 1, 1, 'k', 5, 0, 0, 0}, false},         /* an integer with one */
        {{1, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, false},           /* the key width that is not used */
        {{1, 0x0c, 0, 0, 0, 255, 255, 255, 255, 1, 'k', 0}, false}, /* 4 GB of key */
        {{1, 0x18, 0, 0, 0, 1, 255, 255, 255, 255, 'k', 0}, false},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *payload = malloc(12);
        memcpy(payload, cases[i].bytes, 12);
        assert_int_equal(tier_block_record(payload, 12, 0) != NULL, cases[i].good);
        free(payload);
    }
    char *one = malloc(1);
    *one = 1;
    assert_null(tier_block_record(one, 1, 0));
    assert_null(tier_block_record(one, 0, 0));
    free(one);
}

static void any_header_in_any_length_reads_nothing_outside(void **state) {
    (void)state;
    for (unsigned flags = 0; flags < 256; flags++) {
        for (size_t length = 0; length < 40; length++) {
            unsigned char *payload = malloc(length ? length : 1);
            memset(payload, 0, length);
            if (length > 0) payload[0] = flags & 0x18 ? RECORD_STRING : RECORD_STRING | RECORD_INT8 << 4;
            if (length > 1) payload[1] = (unsigned char)flags;
            /* Empty keys and values: there as soon as the header is. */
            const struct record *record = tier_block_record(payload, length, 0);
            bool whole = length > 1 && length >= record_header_sizes[flags & 31] + (flags & 0x18 ? 0u : 1u);
            assert_int_equal(record != NULL, whole && (flags & 6) != 6);
            (void)tier_block_record(payload, length, 1);
            free(payload);
        }
    }
}

static void headers_that_cannot_be_are_refused(void **state) {
    (void)state;
    const struct {
        uint32_t raw, stored;
        uint16_t count, flags;
        bool good;
    } cases[] = {
        {100, 100, 5, 0, true},
        {100, 100, 14, 0, true},
        {100, 100, 15, 0, false}, /* more records than bytes for their headers */
        {100, 100, 0, 0, false},
        {100, 99, 5, 0, false},
        {100, 50, 5, TIER_FLAG_LZ4, true},
        {100, 100, 5, TIER_FLAG_LZ4, false},
        {10000, 30, 5, TIER_FLAG_LZ4, false}, /* nothing unpacks to so much */
        {100, 50, 5, 4, false},
        {TIER_RAW_BYTES_MAX, 4072, 128, TIER_FLAG_LZ4, true},
        {TIER_RAW_BYTES_MAX + 1, 4072, 128, TIER_FLAG_LZ4, false},
        {TIER_RAW_BYTES_MAX, 4072, 129, TIER_FLAG_LZ4, false},
        {TIER_RAW_BYTES_MAX, 4073, 128, TIER_FLAG_LZ4, false}, /* past the page */
        {4073, 4073, 3, 0, false},
        {5000, 5000, 1, TIER_FLAG_ALONE, true},
        {5000, 5000, 2, TIER_FLAG_ALONE, false},
        {UINT32_MAX, UINT32_MAX, 1, TIER_FLAG_ALONE, false},
        {100000, 5000, 1, TIER_FLAG_ALONE | TIER_FLAG_LZ4 | TIER_FLAG_CHUNKS, true},
        {100000, 100008, 1, TIER_FLAG_ALONE | TIER_FLAG_LZ4 | TIER_FLAG_CHUNKS, true}, /* two lengths */
        {100000, 100009, 1, TIER_FLAG_ALONE | TIER_FLAG_LZ4 | TIER_FLAG_CHUNKS, false},
        {100000, 8, 1, TIER_FLAG_ALONE | TIER_FLAG_LZ4 | TIER_FLAG_CHUNKS, false},
        {100000, 5000, 1, TIER_FLAG_ALONE | TIER_FLAG_CHUNKS, false},
        {10000, 500, 1, TIER_FLAG_LZ4 | TIER_FLAG_CHUNKS, false},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tier_block_header header = {.raw_bytes = cases[i].raw,
                                           .stored_bytes = cases[i].stored,
                                           .count = cases[i].count,
                                           .flags = cases[i].flags};
        size_t expected = cases[i].good ? sizeof(header) + cases[i].stored : 0;
        assert_int_equal(tier_block_bytes(&header, SIZE_MAX), expected);
    }
}

static void a_payload_shorter_than_announced_is_not_opened(void **state) {
    (void)state;
    char page[TIER_PAGE_BYTES], raw[TIER_RAW_BYTES_MAX];
    struct tier_block_estimate estimate = {0};
    struct record *records[4];
    size_t used;
    for (unsigned i = 0; i < 4; i++) records[i] = make_record(12, 500, 10, false);
    /* All of them fit, so nothing follows them in the payload. */
    assert_int_equal(tier_block_pack(page, sizeof(page), &place, (const struct record *const *)records, 4, true,
                                     &estimate, scratch, &used),
                     4);
    struct tier_block_header header = header_of(page);
    assert_true(header.flags & TIER_FLAG_LZ4);
    header.raw_bytes++;
    memcpy(page, &header, sizeof(header));
    make_checksum_right(page, used);
    assert_int_equal(tier_block_verify(page, used, place.block, place.generation), TIER_BLOCK_GOOD);
    assert_null(tier_block_open(page, raw));
    free_records(records, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anything_packed_comes_out_byte_for_byte),
        cmocka_unit_test(one_alone_comes_out_byte_for_byte),
        cmocka_unit_test(one_in_pieces_comes_out_byte_for_byte),
        cmocka_unit_test(pieces_that_are_not_compressed_make_an_ordinary_block),
        cmocka_unit_test(chunks_that_cannot_be_are_not_opened),
        cmocka_unit_test(a_record_alone_is_compressed_where_that_saves_a_unit),
        cmocka_unit_test(few_records_alone_are_tried_where_none_compresses),
        cmocka_unit_test(pages_are_filled_on_steady_data),
        cmocka_unit_test(the_estimate_follows_what_is_seen),
        cmocka_unit_test(what_cannot_fit_is_not_packed),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(another_place_generation_or_length_is_found),
        cmocka_unit_test(right_checksums_over_wrong_bytes_read_nothing_outside),
        cmocka_unit_test(impossible_records_are_refused),
        cmocka_unit_test(any_header_in_any_length_reads_nothing_outside),
        cmocka_unit_test(headers_that_cannot_be_are_refused),
        cmocka_unit_test(a_payload_shorter_than_announced_is_not_opened),
    };
    return cmocka_run_group_tests(tests, seed, NULL);
}
