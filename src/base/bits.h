#ifndef TERRACE_BASE_BITS_H
#define TERRACE_BASE_BITS_H

/* Strings as arrays of bits: the arithmetic of BITCOUNT, BITPOS, BITOP and BITFIELD.
 *
 * Bit 0 is the highest bit of byte 0, as clients of Redis know it; so a bit field of several bytes is a big-endian
 * number. Lengths are in bytes, positions and widths in bits. Nothing is kept and nothing is allocated: any thread may
 * call anything at any time. The widest vectors the CPU offers are chosen at the first call. */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The number of bits that are 1 in `length` bytes. */
uint64_t bits_count(const void *bytes, size_t length);

/* The same from bit `first` to bit `last`, both included; 0 when first > last. Bit `last` lies inside the bytes. */
uint64_t bits_count_range(const void *bytes, uint64_t first, uint64_t last);

enum { BITS_NOT_FOUND = -1 };

/* The position, counted from bit 0 of `bytes`, of the first bit equal to `bit` from `first` to `last`, both included;
 * BITS_NOT_FOUND when there is none or first > last. What BITPOS answers when a 0 is looked for in ones alone and no
 * end was given, the position behind the string, is the caller's to say. */
int64_t bits_find(const void *bytes, uint64_t first, uint64_t last, bool bit);

enum bits_operation { BITS_AND, BITS_OR, BITS_XOR, BITS_NOT };

/* Writes `length` bytes to `destination`, which overlaps no source. A source shorter than `length` is continued with
 * zeros; of a longer one only the first `length` bytes are used. `count` is at least 1; BITS_NOT takes exactly one
 * source. A long string may be combined piece by piece. */
void bits_combine(enum bits_operation operation, uint8_t *destination, size_t length, const struct span *sources,
                  size_t count);

/* ---- Fields
 * ---------------------------------------------------------------------------------------------------------- */

enum { BITS_FIELD_WIDTH_MAX = 64 };

/* The field of 1 to 64 bits at bit `offset`. Bits behind the `length` bytes read as 0. The signed form extends the
 * field's highest bit. */
uint64_t bits_get_unsigned(const uint8_t *bytes, size_t length, uint64_t offset, unsigned width);
int64_t bits_get_signed(const uint8_t *bytes, size_t length, uint64_t offset, unsigned width);

/* Stores the lowest `width` bits of `value`. The whole field lies inside the `length` bytes. */
void bits_set(uint8_t *bytes, size_t length, uint64_t offset, unsigned width, uint64_t value);

enum bits_overflow { BITS_OVERFLOW_WRAP, BITS_OVERFLOW_SATURATE, BITS_OVERFLOW_FAIL };

/* value + increment as a field of `width` bits holds it. When the sum does not fit, `policy` decides: the sum modulo
 * 2^width, the nearest value that fits, or false with `result` untouched. BITFIELD SET is an increment of 0: there
 * `value` itself need not fit, and for an unsigned field a negative argument is passed as its two's complement. The
 * width of an unsigned field is 63 at most in Redis; 64 works here. */
__attribute__((warn_unused_result)) bool bits_add_signed(int64_t value, int64_t increment, unsigned width,
                                                         enum bits_overflow policy, int64_t *result);
__attribute__((warn_unused_result)) bool bits_add_unsigned(uint64_t value, int64_t increment, unsigned width,
                                                           enum bits_overflow policy, uint64_t *result);

/* ---- Variants, for tests and benchmarks
 * ------------------------------------------------------------------------------ */

/* The variants compiled in are numbered from 0, the plainest, up. bits_variant_name answers NULL past the last one.
 * bits_variant_use makes every thread use a variant; false if this CPU cannot run it. */
const char *bits_variant_name(size_t variant);
bool bits_variant_use(size_t variant);

#endif
