/* Values that need not be remembered: each follows from its key, the seed and a version, so whoever reads one back can
 * tell whether it is right without a table of what was written. */
#ifndef BENCH_CAPACITY_VALUE_H
#define BENCH_CAPACITY_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* A power of two; small enough to stay in a second-level cache beside the buffers of the sockets. */
    VALUE_POOL_SIZE = 1 << 17,
    /* The first bytes of a value of at least VALUE_VERSIONED_MIN bytes tell its version. */
    VALUE_HEADER_SIZE = 8,
    VALUE_VERSIONED_MIN = 16,
};

/* What all values of a run have in common. Read-only once made, shared by all threads. */
struct value_scheme {
    uint64_t seed;
    uint64_t size_min, size_max;
    uint64_t expiring_below; /* a key's draw below this has a TTL */
    bool all_expire;
    char *pool; /* VALUE_POOL_SIZE bytes and some slack */
};

/* One value, as a recipe. Small and by value; valid as long as its scheme. */
struct value {
    uint64_t size;
    uint64_t header;
    uint64_t mask;
    uint32_t offset;
    bool versioned;
};

/* A value that is being read back in pieces. Zeroed or started anew for each. */
struct value_check {
    struct value value;
    uint64_t key, position;
    bool wrong;
    char header[VALUE_HEADER_SIZE];
};

/* `compressible` (0 to 1) is the share of a value that a compressor can remove, `expiring` the share of keys with a
 * TTL. False: no memory. Release in both cases. */
bool value_scheme_init(struct value_scheme *scheme, uint64_t seed, uint64_t size_min, uint64_t size_max,
                       double compressible, double expiring);
void value_scheme_release(struct value_scheme *scheme);

/* The size of a key's value, whatever its version: what was loaded stays as large as it was. */
uint64_t value_size(const struct value_scheme *scheme, uint64_t key);
bool value_expires(const struct value_scheme *scheme, uint64_t key);

/* Version 0 is what a load writes. A value too small for a header has only that version. */
struct value value_describe(const struct value_scheme *scheme, uint64_t key, uint32_t version);

/* Writes the bytes [position, position + length) of the value; they must exist. */
void value_write(const struct value_scheme *scheme, const struct value *value, uint64_t position, char *out,
                 size_t length);

/* Begins to check a value of `size` bytes read for `key`, then takes its bytes in order, in any pieces.
 * value_check_end: true when all of it was a value of that key. */
void value_check_start(struct value_check *check, const struct value_scheme *scheme, uint64_t key, uint64_t size);
void value_check_feed(struct value_check *check, const struct value_scheme *scheme, const char *data, size_t length);
bool value_check_end(const struct value_check *check);

#endif
