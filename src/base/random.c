/* Seeding, and bytes from the kernel; the generator itself is inline in the header.
 *
 * The generator's state must not be all zero and should not be nearly so. splitmix64 spreads a seed of 64 bits over it:
 * a counter with an odd step, each value of it mixed so that seeds that differ in one bit share nothing.
 *
 * getrandom fails only where the system is no place to run (a kernel before 3.17, or a filter that forbids it), so
 * there is no status: the process ends with a line that says so. */

#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void random_seed(struct random *random, uint64_t seed) {
    for (size_t i = 0; i < sizeof(random->state) / sizeof(random->state[0]); i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t mixed = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9u;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
        random->state[i] = mixed ^ mixed >> 31;
    }
}

void random_fill_secret(void *bytes, size_t length) {
    uint8_t *at = bytes;
    while (length > 0) {
        ssize_t filled = getrandom(at, length, 0);
        if (filled < 0) {
            if (errno == EINTR) continue;
            perror("cannot get random bytes from the kernel: getrandom");
            exit(1);
        }
        at += filled;
        length -= (size_t)filled;
    }
}

void random_seed_from_kernel(struct random *random) {
    uint64_t seed;
    random_fill_secret(&seed, sizeof(seed));
    random_seed(random, seed);
}
