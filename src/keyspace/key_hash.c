/* One file includes xxHash's inline implementation; link-time optimisation carries it to the callers. */

#include "keyspace/key_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t key_hash(struct span key, uint64_t seed) {
    return XXH3_64bits_withSeed(key.data, key.length, seed);
}
