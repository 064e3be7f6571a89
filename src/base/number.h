#ifndef TERRACE_BASE_NUMBER_H
#define TERRACE_BASE_NUMBER_H

/* Numbers as text, with exactly the acceptance rules and spellings that Redis clients see.
 *
 * All functions are pure and may be called from any thread. A parser takes the whole span: leading or
 * trailing bytes that are not part of the number refuse it. On refusal the parser answers false and leaves the output
 * untouched. Formatters write no terminator and answer the number of bytes written. */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* The longest output of number_format_i64 and number_format_u64: "-9223372036854775808". */
    NUMBER_TEXT_MAX = 20,
    /* The longest output of number_format_double is "-2.2250738585072014e-308", 24 bytes. */
    NUMBER_DOUBLE_TEXT_MAX = 32,
    /* A long double of up to 4933 digits before the point and 17 behind it. Longer texts are refused by
     * number_parse_long_double, as Redis refuses them. */
    NUMBER_LONG_DOUBLE_TEXT_MAX = 5 * 1024,
};

/* Only the one canonical spelling of a signed 64-bit integer: what number_format_i64 would write. No '+', no spaces, no
 * leading zeros, no "-0", not empty. So a text that parses can be stored as the integer and read back unchanged. */
__attribute__((warn_unused_result)) bool number_parse_i64(struct span text, int64_t *value);

/* The same for unsigned 64-bit integers. */
__attribute__((warn_unused_result)) bool number_parse_u64(struct span text, uint64_t *value);

/* A SCAN cursor. Redis reads it with strtoul, and clients may send what that takes: "" is 0, "05" and "+5" are 5, "-1"
 * wraps around, everything behind a NUL byte is ignored. A leading space and an overflow are refused. */
__attribute__((warn_unused_result)) bool number_parse_cursor(struct span text, uint64_t *cursor);

/* Decimal or hexadecimal floats, "inf", "+infinity" and the like in any case. Refused: NaN, leading spaces, overflow,
 * underflow to zero. Texts longer than a stack buffer are copied to the heap; if that fails the text is refused. */
__attribute__((warn_unused_result)) bool number_parse_double(struct span text, double *value);

/* The same at the precision INCRBYFLOAT computes in. Infinity is accepted: the caller refuses the result. */
__attribute__((warn_unused_result)) bool number_parse_long_double(struct span text, long double *value);

/* A quantity of memory as redis.conf writes it: digits, then nothing, b, k (1000), kb (1024), m, mb, g or gb in any
 * case. No digits at all count as 0, as they do in Redis. Refused: signs, spaces, fractions, more than INT64_MAX bytes.
 */
__attribute__((warn_unused_result)) bool number_parse_memory(struct span text, int64_t *bytes);

/* `text` has room for NUMBER_TEXT_MAX bytes. */
size_t number_format_i64(int64_t value, char text[NUMBER_TEXT_MAX]);
size_t number_format_u64(uint64_t value, char text[NUMBER_TEXT_MAX]);

/* The number of bytes number_format_i64 would write. */
size_t number_text_length_i64(int64_t value);

/* A double in a RESP2 reply of Redis 7.0: 17 significant digits (%.17g), "inf", "-inf", "nan". `text` has room for
 * NUMBER_DOUBLE_TEXT_MAX bytes. */
size_t number_format_double(double value, char text[NUMBER_DOUBLE_TEXT_MAX]);

/* A long double as INCRBYFLOAT stores it: 17 digits behind the point, trailing zeros and a bare point removed, never an
 * exponent, never "-0". `text` has room for NUMBER_LONG_DOUBLE_TEXT_MAX bytes. */
size_t number_format_long_double_human(long double value, char text[NUMBER_LONG_DOUBLE_TEXT_MAX]);

#endif
