#ifndef TERRACE_PERSIST_LZF_COMPRESS_H
#define TERRACE_PERSIST_LZF_COMPRESS_H

/* Compression into LZF, the format that RDB files hold; any LZF decompressor reads it.
 *
 * Many small strings are compressed one after the other, so what remembers where bytes were seen is small enough to
 * stay in the first cache and is never cleared: what a former input left there is seen to be wrong by comparing. */

#include <stddef.h>
#include <stdint.h>

enum { LZF_TABLE_BITS = 12 };

/* Belongs to one thread at a time. Zeroed once, at first. */
struct lzf_table {
    uint32_t seen[1 << LZF_TABLE_BITS];
};

/* Writes at most `room` bytes to `out`; returns how many, or 0: they would be more. `length` is below 2^32. */
size_t lzf_pack(struct lzf_table *table, const uint8_t *in, size_t length, uint8_t *out, size_t room);

#endif
