/* CRC16 eight bytes at a time.
 *
 * The checksum of a message is its polynomial times x^16 modulo P = x^16 + x^12 + x^5 + 1. It is linear: the checksum
 * of a message is the XOR of the checksums of its bytes, each taken at its distance from the end. So a block of eight
 * bytes needs eight independent table look-ups, where a byte-wise loop needs eight that wait for each other.
 *
 *     tables[d][b] = b * x^(8d + 16) mod P       the share of byte b with d bytes behind it
 *
 * The running checksum is 16 bits, so it is folded into the first two bytes of the next block.
 *
 * As the initial value is 0, zero bytes in front of a message change nothing. A message whose length is no multiple of
 * eight is therefore read as if zeros stood before it: the odd bytes come first, as one short block, and no loop over
 * single bytes is needed at either end.
 *
 * The tables (4 KB) are built by the compiler: entry b is the XOR of the powers of x that the bits of b name, and the
 * powers are a chain of enumeration constants. */

#include "base/crc16.h"

#define NEXT(power) ((((power) << 1) ^ (((power)&0x8000) ? 0x1021 : 0)) & 0xffff)

/* clang-format off */

/* Xn is x^(16 + n) mod P. */
enum {
    X0 = 0x1021,
    X1 = NEXT(X0), X2 = NEXT(X1), X3 = NEXT(X2), X4 = NEXT(X3), X5 = NEXT(X4), X6 = NEXT(X5), X7 = NEXT(X6),
    X8 = NEXT(X7), X9 = NEXT(X8), X10 = NEXT(X9), X11 = NEXT(X10), X12 = NEXT(X11), X13 = NEXT(X12), X14 = NEXT(X13),
    X15 = NEXT(X14), X16 = NEXT(X15), X17 = NEXT(X16), X18 = NEXT(X17), X19 = NEXT(X18), X20 = NEXT(X19),
    X21 = NEXT(X20), X22 = NEXT(X21), X23 = NEXT(X22), X24 = NEXT(X23), X25 = NEXT(X24), X26 = NEXT(X25),
    X27 = NEXT(X26), X28 = NEXT(X27), X29 = NEXT(X28), X30 = NEXT(X29), X31 = NEXT(X30), X32 = NEXT(X31),
    X33 = NEXT(X32), X34 = NEXT(X33), X35 = NEXT(X34), X36 = NEXT(X35), X37 = NEXT(X36), X38 = NEXT(X37),
    X39 = NEXT(X38), X40 = NEXT(X39), X41 = NEXT(X40), X42 = NEXT(X41), X43 = NEXT(X42), X44 = NEXT(X43),
    X45 = NEXT(X44), X46 = NEXT(X45), X47 = NEXT(X46), X48 = NEXT(X47), X49 = NEXT(X48), X50 = NEXT(X49),
    X51 = NEXT(X50), X52 = NEXT(X51), X53 = NEXT(X52), X54 = NEXT(X53), X55 = NEXT(X54), X56 = NEXT(X55),
    X57 = NEXT(X56), X58 = NEXT(X57), X59 = NEXT(X58), X60 = NEXT(X59), X61 = NEXT(X60), X62 = NEXT(X61),
    X63 = NEXT(X62),
};

/* Doubling a list: the entries without the bit whose power is `p`, then the same entries with it. */
#define BIT0(s, p0)                             (s), (s) ^ (p0)
#define BIT1(s, p0, p1)                         BIT0(s, p0), BIT0((s) ^ (p1), p0)
#define BIT2(s, p0, p1, p2)                     BIT1(s, p0, p1), BIT1((s) ^ (p2), p0, p1)
#define BIT3(s, p0, p1, p2, p3)                 BIT2(s, p0, p1, p2), BIT2((s) ^ (p3), p0, p1, p2)
#define BIT4(s, p0, p1, p2, p3, p4)             BIT3(s, p0, p1, p2, p3), BIT3((s) ^ (p4), p0, p1, p2, p3)
#define BIT5(s, p0, p1, p2, p3, p4, p5)         BIT4(s, p0, p1, p2, p3, p4), BIT4((s) ^ (p5), p0, p1, p2, p3, p4)
#define BIT6(s, p0, p1, p2, p3, p4, p5, p6)                                                                           \
    BIT5(s, p0, p1, p2, p3, p4, p5), BIT5((s) ^ (p6), p0, p1, p2, p3, p4, p5)
#define TABLE(p0, p1, p2, p3, p4, p5, p6, p7)                                                                         \
    { BIT6(0, p0, p1, p2, p3, p4, p5, p6), BIT6(p7, p0, p1, p2, p3, p4, p5, p6) }

static const uint16_t tables[8][256] = {
    TABLE(X0, X1, X2, X3, X4, X5, X6, X7),
    TABLE(X8, X9, X10, X11, X12, X13, X14, X15),
    TABLE(X16, X17, X18, X19, X20, X21, X22, X23),
    TABLE(X24, X25, X26, X27, X28, X29, X30, X31),
    TABLE(X32, X33, X34, X35, X36, X37, X38, X39),
    TABLE(X40, X41, X42, X43, X44, X45, X46, X47),
    TABLE(X48, X49, X50, X51, X52, X53, X54, X55),
    TABLE(X56, X57, X58, X59, X60, X61, X62, X63),
};

/* clang-format on */

static inline uint64_t load_big_endian(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The first byte of the block is the highest of `block`. */
static inline uint16_t fold_block(uint64_t block) {
    return tables[7][block >> 56] ^ tables[6][(block >> 48) & 0xff] ^ tables[5][(block >> 40) & 0xff] ^
           tables[4][(block >> 32) & 0xff] ^ tables[3][(block >> 24) & 0xff] ^ tables[2][(block >> 16) & 0xff] ^
           tables[1][(block >> 8) & 0xff] ^ tables[0][block & 0xff];
}

static uint16_t crc16_of_short(const uint8_t *bytes, size_t length) {
    uint16_t crc = 0;
    for (size_t i = 0; i < length; i++) crc = (uint16_t)(tables[0][(crc >> 8) ^ bytes[i]] ^ (crc << 8));
    return crc;
}

uint16_t crc16_compute(const void *data, size_t length) {
    const uint8_t *bytes = data;
    if (length < 8) return crc16_of_short(bytes, length);

    const uint8_t *end = bytes + length;
    size_t odd = length % 8;
    uint16_t crc = 0;
    if (odd != 0) {
        crc = fold_block(load_big_endian(bytes) >> (64 - 8 * odd));
        bytes += odd;
    }
    for (; bytes < end; bytes += 8) crc = fold_block(load_big_endian(bytes) ^ ((uint64_t)crc << 48));
    return crc;
}

unsigned cluster_slot_of_tagged(struct span key) {
    const char *open = key.length > 0 ? memchr(key.data, '{', key.length) : NULL;
    if (open != NULL) {
        const char *tag = open + 1;
        size_t rest = key.length - (size_t)(tag - key.data);
        const char *close = memchr(tag, '}', rest);
        if (close != NULL && close != tag) key = span_of(tag, (size_t)(close - tag));
    }
    return crc16_compute(key.data, key.length) % CLUSTER_SLOTS;
}
