/* See digest.h. Each record is hashed by itself and the hashes are combined by exclusive or, which knows no order. An
 * integer counts as its text, so that how a value is stored does not matter; the same is done within values. */

#include "server/digest.h"

#include "base/number.h"

#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { VALUE_SEED = 1, TAIL_SEED = 2, PAIR_SEED = 3 };

/* What the hash of one record is made from; no padding. */
struct ingredients {
    XXH128_hash_t key;
    struct digest_value value;
    uint32_t database, type, expires, reserved;
};
_Static_assert(sizeof(struct ingredients) == 48, "the bytes that are hashed have no gaps");

static struct digest_value value_of(XXH128_hash_t hash) {
    return (struct digest_value){hash.low64, hash.high64};
}

struct digest_value digest_of_bytes(struct span bytes) {
    return value_of(XXH3_128bits_withSeed(bytes.data, bytes.length, VALUE_SEED));
}

struct digest_value digest_of_pair(struct digest_value first, struct digest_value second) {
    const struct digest_value both[2] = {first, second};
    return value_of(XXH3_128bits_withSeed(both, sizeof(both), PAIR_SEED));
}

struct digest_value digest_of_string(const struct record *record) {
    char text[NUMBER_TEXT_MAX];
    struct span value = record_value(record);
    if (record_is_integer(record)) value = span_of(text, number_format_i64(record_integer(record), text));
    return digest_of_bytes(value);
}

static void add(struct digest *digest, const struct ingredients *ingredients) {
    XXH128_hash_t hash = XXH3_128bits(ingredients, sizeof(*ingredients));
    digest->high ^= hash.high64;
    digest->low ^= hash.low64;
    digest->tail ^= (uint32_t)XXH3_64bits_withSeed(ingredients, sizeof(*ingredients), TAIL_SEED);
}

static struct ingredients ingredients_of(const struct record *record, struct digest_value value) {
    return (struct ingredients){.value = value, .type = record_type(record), .expires = record_has_expiry(record)};
}

void digest_add_value(struct digest *digest, const struct record *record, struct digest_value value) {
    struct ingredients ingredients = ingredients_of(record, value);
    add(digest, &ingredients);
}

void digest_add_record(struct digest *digest, uint32_t database, const struct record *record,
                       struct digest_value value) {
    struct ingredients ingredients = ingredients_of(record, value);
    struct span key = record_key(record);
    ingredients.key = XXH3_128bits(key.data, key.length);
    ingredients.database = database + 1;
    add(digest, &ingredients);
}

void digest_print(const struct digest *digest, char text[DIGEST_TEXT + 1]) {
    snprintf(text, DIGEST_TEXT + 1, "%016llx%016llx%08x", (unsigned long long)digest->high,
             (unsigned long long)digest->low, digest->tail);
}
