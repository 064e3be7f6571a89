/* Values that follow from key, seed and version.
 *
 *     bytes 0..7    version, mixed with the key: one in 2^32 foreign values would pass for a header
 *     bytes 8..     pool[(offset + position) % size] xor mask, the mask being repeated every 8 bytes
 *
 * Offset and mask come from a hash of key, seed and version. So a value costs one pass of loads, xors and stores over a
 * pool that stays in the cache, no two values share a run of bytes that a compressor could find across them, and bytes
 * of another key, another version or another place in the same value do not pass the check.
 *
 * Compressible values have zeros in the pool, the same share of every PERIOD bytes; through the mask they become runs
 * of eight repeated bytes, which LZ4 and others remove almost entirely. */
#include "bench/capacity_value.h"

#include "bench/random.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    PERIOD = 128,
    POOL_SLACK = 8,
};

/* Told apart so that size, header, body and TTL of a key are unrelated. */
enum { DRAW_SIZE = 1, DRAW_HEADER, DRAW_BODY, DRAW_TTL, DRAW_POOL };

static inline uint64_t draw(const struct value_scheme *scheme, uint64_t key, uint64_t what) {
    return random_mix(random_mix(key + what * 0x9e3779b97f4a7c15u) ^ scheme->seed);
}

bool value_scheme_init(struct value_scheme *scheme, uint64_t seed, uint64_t size_min, uint64_t size_max,
                       double compressible, double expiring) {
    assert(size_min <= size_max);
    assert(compressible >= 0 && compressible <= 1 && expiring >= 0 && expiring <= 1);
    *scheme = (struct value_scheme){.seed = random_mix(seed + 1), .size_min = size_min, .size_max = size_max};
    scheme->all_expire = expiring >= 1;
    scheme->expiring_below = scheme->all_expire ? UINT64_MAX : (uint64_t)(expiring * 0x1p64);
    scheme->pool = aligned_alloc(64, VALUE_POOL_SIZE + 64);
    if (scheme->pool == NULL) return false;
    struct random_stream random = random_stream_make(seed, DRAW_POOL);
    size_t filler = (size_t)(compressible * PERIOD + 0.5);
    for (size_t i = 0; i < VALUE_POOL_SIZE; i++)
        scheme->pool[i] = i % PERIOD < PERIOD - filler ? (char)random_next(&random) : 0;
    memcpy(scheme->pool + VALUE_POOL_SIZE, scheme->pool, POOL_SLACK);
    return true;
}

void value_scheme_release(struct value_scheme *scheme) {
    free(scheme->pool);
    scheme->pool = NULL;
}

uint64_t value_size(const struct value_scheme *scheme, uint64_t key) {
    uint64_t range = scheme->size_max - scheme->size_min + 1;
    if (range == 1) return scheme->size_min;
    return scheme->size_min + (uint64_t)(((unsigned __int128)draw(scheme, key, DRAW_SIZE) * range) >> 64);
}

bool value_expires(const struct value_scheme *scheme, uint64_t key) {
    return scheme->all_expire || draw(scheme, key, DRAW_TTL) < scheme->expiring_below;
}

static void set_version(struct value *value, const struct value_scheme *scheme, uint64_t key, uint32_t version) {
    uint64_t body = random_mix(draw(scheme, key, DRAW_BODY) + version);
    value->offset = (uint32_t)body & (VALUE_POOL_SIZE - 1) & ~7u;
    value->mask = random_mix(body ^ scheme->seed);
    value->header = draw(scheme, key, DRAW_HEADER) ^ version;
}

struct value value_describe(const struct value_scheme *scheme, uint64_t key, uint32_t version) {
    struct value value = {.size = value_size(scheme, key)};
    value.versioned = value.size >= VALUE_VERSIONED_MIN;
    set_version(&value, scheme, key, value.versioned ? version : 0);
    return value;
}

/* The mask as it meets a word that starts at `position`. */
static inline uint64_t mask_at(const struct value *value, uint64_t position) {
    unsigned turn = (unsigned)(position & 7) * 8;
    return turn == 0 ? value->mask : value->mask >> turn | value->mask << (64 - turn);
}

/* The pool's bytes for `position`, and in *run how many follow before the pool begins again. */
static inline const char *pool_at(const struct value_scheme *scheme, const struct value *value, uint64_t position,
                                  size_t *run) {
    size_t place = (size_t)(value->offset + position) & (VALUE_POOL_SIZE - 1);
    *run = VALUE_POOL_SIZE - place;
    return scheme->pool + place;
}

static void write_body(const char *restrict pool, uint64_t mask, char *restrict out, size_t length) {
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, pool + i, 8);
        word ^= mask;
        memcpy(out + i, &word, 8);
    }
    for (; i < length; i++, mask >>= 8) out[i] = (char)(pool[i] ^ (char)mask);
}

void value_write(const struct value_scheme *scheme, const struct value *value, uint64_t position, char *out,
                 size_t length) {
    assert(position + length <= value->size);
    while (length > 0 && value->versioned && position < VALUE_HEADER_SIZE) {
        *out++ = (char)(value->header >> (position * 8));
        position++;
        length--;
    }
    while (length > 0) {
        size_t run;
        const char *pool = pool_at(scheme, value, position, &run);
        if (run > length) run = length;
        write_body(pool, mask_at(value, position), out, run);
        out += run;
        position += run;
        length -= run;
    }
}

static bool body_equals(const char *pool, uint64_t mask, const char *data, size_t length) {
    uint64_t difference = 0;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word, wanted;
        memcpy(&word, data + i, 8);
        memcpy(&wanted, pool + i, 8);
        difference |= word ^ wanted ^ mask;
    }
    for (; i < length; i++, mask >>= 8) difference |= (unsigned char)(data[i] ^ pool[i] ^ (char)mask);
    return difference == 0;
}

void value_check_start(struct value_check *check, const struct value_scheme *scheme, uint64_t key, uint64_t size) {
    *check = (struct value_check){.value = value_describe(scheme, key, 0), .key = key};
    check->wrong = size != check->value.size;
}

/* The header is whole: it names the version, or is none of this key's. */
static void take_header(struct value_check *check, const struct value_scheme *scheme) {
    uint64_t header = 0;
    for (unsigned i = 0; i < VALUE_HEADER_SIZE; i++) header |= (uint64_t)(unsigned char)check->header[i] << (i * 8);
    uint64_t version = header ^ draw(scheme, check->key, DRAW_HEADER);
    if (version > UINT32_MAX)
        check->wrong = true;
    else if (version != 0)
        set_version(&check->value, scheme, check->key, (uint32_t)version);
}

void value_check_feed(struct value_check *check, const struct value_scheme *scheme, const char *data, size_t length) {
    if (check->wrong || length > check->value.size - check->position) {
        check->wrong = true;
        return;
    }
    while (length > 0 && check->value.versioned && check->position < VALUE_HEADER_SIZE) {
        check->header[check->position++] = *data++;
        length--;
        if (check->position == VALUE_HEADER_SIZE) take_header(check, scheme);
    }
    while (length > 0 && !check->wrong) {
        size_t run;
        const char *pool = pool_at(scheme, &check->value, check->position, &run);
        if (run > length) run = length;
        check->wrong = !body_equals(pool, mask_at(&check->value, check->position), data, run);
        check->position += run;
        data += run;
        length -= run;
    }
}

bool value_check_end(const struct value_check *check) {
    return !check->wrong && check->position == check->value.size;
}
