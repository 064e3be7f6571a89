#ifndef TERRACE_PERSIST_CRC64_H
#define TERRACE_PERSIST_CRC64_H

/* The CRC64 that ends RDB files and DUMP payloads: Jones's polynomial, reflected, beginning with 0 and not inverted at
 * the end. Of "123456789" it is e9c6d914c4b8d9ca.
 *
 * Pure; as fast as memory. */

#include <stddef.h>
#include <stdint.h>

/* Continues `crc`, which is 0 at the beginning. */
uint64_t crc64(uint64_t crc, const void *bytes, size_t length);

/* Of bytes a and b one after the other, from what each has alone. O(log b_length) */
uint64_t crc64_joined(uint64_t a, uint64_t b, uint64_t b_length);

#endif
