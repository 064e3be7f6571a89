/* See digest.h. Each record is hashed by itself and the hashes are combined by exclusive or, which knows no order. An
 * integer counts as its text, so that how a value is stored does not matter. */

#include "server/digest.h"

#include "base/number.h"

#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { VALUE_SEED = 1, TAIL_SEED = 2 };

/* What the hash of one record is made from; no padding. */
struct ingredients {
    XXH128_hash_t key, value;
    uint32_t database, type, expires, reserved;
};
_Static_assert(sizeof(struct ingredients) == 48, "the bytes that are hashed have no gaps");

static XXH128_hash_t hash_value(const struct record *record) {
    char text[NUMBER_TEXT_MAX];
    struct span value = record_value(record);
    if (record_is_integer(record)) value = span_of(text, number_format_i64(record_integer(record), text));
    return XXH3_128bits_withSeed(value.data, value.length, VALUE_SEED);
}

static void add(struct digest *digest, const struct ingredients *ingredients) {
    XXH128_hash_t hash = XXH3_128bits(ingredients, sizeof(*ingredients));
    digest->high ^= hash.high64;
    digest->low ^= hash.low64;
    digest->tail ^= (uint32_t)XXH3_64bits_withSeed(ingredients, sizeof(*ingredients), TAIL_SEED);
}

static struct ingredients ingredients_of(const struct record *record) {
    return (struct ingredients){
        .value = hash_value(record), .type = record_type(record), .expires = record_has_expiry(record)};
}

void digest_add_value(struct digest *digest, const struct record *record) {
    struct ingredients ingredients = ingredients_of(record);
    add(digest, &ingredients);
}

void digest_add_record(struct digest *digest, uint32_t database, const struct record *record) {
    struct ingredients ingredients = ingredients_of(record);
    struct span key = record_key(record);
    ingredients.key = XXH3_128bits(key.data, key.length);
    ingredients.database = database + 1;
    add(digest, &ingredients);
}

void digest_print(const struct digest *digest, char text[DIGEST_TEXT + 1]) {
    snprintf(text, DIGEST_TEXT + 1, "%016llx%016llx%08x", (unsigned long long)digest->high,
             (unsigned long long)digest->low, digest->tail);
}
