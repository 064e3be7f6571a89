#ifndef TERRACE_KEYSPACE_KEY_HASH_H
#define TERRACE_KEYSPACE_KEY_HASH_H

/* The 64-bit hash by which the index finds a key: XXH3 with the keyspace's secret seed, so that nobody can
 * choose keys that collide. */

#include "base/span.h"

#include <stdint.h>

uint64_t key_hash(struct span key, uint64_t seed);

#endif
