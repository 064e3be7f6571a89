#ifndef TERRACE_TIERING_GHOST_H
#define TERRACE_TIERING_GHOST_H

/* Which cold records were touched lately: what decides about promotion on the second touch.
 *
 * A table of fingerprints, two bytes a place; a record has four places, which are one word. A touch writes the record's
 * fingerprint there; the oldest of the four makes way. So a record is remembered for about as many touches of other
 * cold records as the table has places, and "touched twice within the window" needs no clock and no memory for each
 * cold key. The ghost queue of 2Q (Johnson and Shasha, 1994), kept as a cache of fingerprints.
 *
 * Threads: any; places are read and written with relaxed atomics, a lost touch does no harm. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ghost;

/* `places` is rounded up to a power of two, at least 1024. NULL: no memory. */
struct ghost *ghost_create(size_t places);
void ghost_destroy(struct ghost *ghost);

/* Whether the record with this key hash was touched within the window; remembers the touch, and forgets the record when
 * it answers true. */
bool ghost_touch(struct ghost *ghost, uint64_t hash);

size_t ghost_bytes(const struct ghost *ghost);

#endif
