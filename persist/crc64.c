/* libisal computes this polynomial with carry-less multiplication, inverting the value before and after as most CRCs
 * do; here it is inverted back on both sides.
 *
 * Without inversions a CRC is linear: putting n bytes behind others multiplies what those contribute by x^8n. So two
 * CRCs are joined by one multiplication modulo the polynomial. Numbers are reflected: the highest bit is x^0. */

#include "persist/crc64.h"

#include <isa-l/crc64.h>

#define POLYNOMIAL UINT64_C(0x95ac9329ac4bc9b5) /* without x^64 */
#define X_0        (UINT64_C(1) << 63)
#define X_8        (UINT64_C(1) << 55)

uint64_t crc64(uint64_t crc, const void *bytes, size_t length) {
    if (!length) return crc;
    return ~crc64_jones_refl(~crc, (const unsigned char *)bytes, length);
}

static uint64_t multiply(uint64_t a, uint64_t b) {
    uint64_t product = 0;
    for (; a; a <<= 1) {
        if (a & X_0) product ^= b;
        b = b >> 1 ^ (b & 1 ? POLYNOMIAL : 0); /* b times x */
    }
    return product;
}

uint64_t crc64_joined(uint64_t a, uint64_t b, uint64_t b_length) {
    for (uint64_t power = X_8; b_length; b_length >>= 1, power = multiply(power, power))
        if (b_length & 1) a = multiply(a, power);
    return a ^ b;
}
