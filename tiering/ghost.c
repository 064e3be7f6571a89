/* The table is an array of words, each a queue of four fingerprints: the newest in the low 16 bits, 0 for nothing.
 *
 *   touch      word = word << 16 | fingerprint       the oldest falls out
 *   forget     the fingerprints above it move down
 *
 * So age needs no clock and no bit: it is the place in the word. With as many touches of other records as the table has
 * places, four have gone to each word on average; a record outlives half that number with a probability of 0.86, the
 * whole number with 0.43, twice the number with 0.04. That is how sharp the window is. A record that was never touched
 * is taken for one that was once in 16384 times.
 *
 * A word is read and written by one access each. Of two threads that touch records of the same word at once, one's
 * touch may be lost. */

#include "tiering/ghost.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { PLACES_MIN = 1024, PLACE_BITS = 16, PLACES_OF_WORD = 4 };

struct ghost {
    size_t words; /* a power of two */
    _Atomic uint64_t table[];
};

struct ghost *ghost_create(size_t places) {
    size_t rounded = PLACES_MIN;
    while (rounded < places && rounded <= SIZE_MAX / 8) rounded *= 2;
    size_t words = rounded / PLACES_OF_WORD;
    struct ghost *ghost = calloc(1, sizeof(*ghost) + words * sizeof(ghost->table[0]));
    if (ghost) ghost->words = words;
    return ghost;
}

void ghost_destroy(struct ghost *ghost) {
    free(ghost);
}

/* Which four places, and what is written there. Mixed, since the keys of one shard or bucket agree in bits of the hash.
 */
struct ghost_spot {
    size_t word;
    uint64_t fingerprint;
};
static struct ghost_spot spot_of(const struct ghost *ghost, uint64_t hash) {
    hash = (hash ^ hash >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= hash >> 29;
    uint64_t fingerprint = hash >> (64 - PLACE_BITS);
    return (struct ghost_spot){hash & (ghost->words - 1), fingerprint ? fingerprint : 1};
}

bool ghost_touch(struct ghost *ghost, uint64_t hash) {
    struct ghost_spot spot = spot_of(ghost, hash);
    _Atomic uint64_t *at = &ghost->table[spot.word];
    uint64_t word = atomic_load_explicit(at, memory_order_relaxed);
    for (unsigned place = 0; place < PLACES_OF_WORD; place++) {
        unsigned shift = place * PLACE_BITS;
        if ((word >> shift & 0xffff) != spot.fingerprint) continue;
        uint64_t newer = word & ((UINT64_C(1) << shift) - 1), older = word >> shift >> PLACE_BITS << shift;
        atomic_store_explicit(at, newer | older, memory_order_relaxed);
        return true;
    }
    atomic_store_explicit(at, word << PLACE_BITS | spot.fingerprint, memory_order_relaxed);
    return false;
}

size_t ghost_bytes(const struct ghost *ghost) {
    return sizeof(*ghost) + ghost->words * sizeof(ghost->table[0]);
}
