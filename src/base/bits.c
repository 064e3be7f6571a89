/* Counting, searching and combining bits at the speed of memory.
 *
 * The loops over long strings exist once per instruction set: a variant is a row of function pointers, and the first
 * call picks the last row that this CPU can run. Picking twice is harmless, as every thread picks the same row, so one
 * relaxed atomic pointer is all the synchronisation there is.
 *
 *     scalar     64-bit words; the reference that tests hold the others against
 *     sse2       x86-64 baseline          neon    aarch64 baseline
 *     avx2       nibble look-up by shuffle
 *     avx512     VPOPCNTDQ, masked tails
 *
 * The combining loops are plain byte loops: a compiler vectorises them for the target each copy is compiled for.
 *
 * A combination of many sources is done in blocks that stay in the first-level cache: the first source is copied to the
 * block and the others are folded into it one by one, so the destination costs memory bandwidth once. */

#include "base/bits.h"

#include <assert.h>
#include <stdatomic.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { COMBINE_BLOCK = 8 * 1024 };

struct bits_variant {
    const char *name;
    bool (*is_supported)(void);
    uint64_t (*count)(const uint8_t *bytes, size_t length);
    void (*and_into)(uint8_t *to, const uint8_t *from, size_t length);
    void (*or_into)(uint8_t *to, const uint8_t *from, size_t length);
    void (*xor_into)(uint8_t *to, const uint8_t *from, size_t length);
    void (*invert)(uint8_t *bytes, size_t length);
};

/* ---- Scalar
 * ---------------------------------------------------------------------------------------------------------- */

static inline unsigned count_word(uint64_t word) {
    word -= (word >> 1) & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
    word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)((word * 0x0101010101010101u) >> 56);
}

static inline uint64_t load_word(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    return word;
}

static inline uint64_t to_big_endian(uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

/* Fewer than eight bytes, as a word; the order of the bytes is any. */
static inline uint64_t load_tail(const uint8_t *bytes, size_t length) {
    uint64_t word = 0;
    memcpy(&word, bytes, length);
    return word;
}

static uint64_t count_scalar(const uint8_t *bytes, size_t length) {
    uint64_t sum = 0;
    for (; length >= 8; bytes += 8, length -= 8) sum += count_word(load_word(bytes));
    return sum + count_word(load_tail(bytes, length));
}

static bool is_always_supported(void) {
    return true;
}

/* The four combining loops, compiled for one instruction set. */
#define DEFINE_COMBINING_LOOPS(variant, attributes)                                                                    \
    attributes static void and_##variant(uint8_t *restrict to, const uint8_t *restrict from, size_t length) {          \
        for (size_t i = 0; i < length; i++) to[i] &= from[i];                                                          \
    }                                                                                                                  \
    attributes static void or_##variant(uint8_t *restrict to, const uint8_t *restrict from, size_t length) {           \
        for (size_t i = 0; i < length; i++) to[i] |= from[i];                                                          \
    }                                                                                                                  \
    attributes static void xor_##variant(uint8_t *restrict to, const uint8_t *restrict from, size_t length) {          \
        for (size_t i = 0; i < length; i++) to[i] ^= from[i];                                                          \
    }                                                                                                                  \
    attributes static void invert_##variant(uint8_t *bytes, size_t length) {                                           \
        for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)~bytes[i];                                             \
    }

#define VARIANT_ROW(variant, check)                                                                                    \
    { #variant, check, count_##variant, and_##variant, or_##variant, xor_##variant, invert_##variant }

DEFINE_COMBINING_LOOPS(scalar, )

/* ---- x86-64
 * ---------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)

DEFINE_COMBINING_LOOPS(avx2, __attribute__((target("avx2"))))
DEFINE_COMBINING_LOOPS(avx512, __attribute__((target("avx512f,avx512bw,avx512vl"))))

static uint64_t count_sse2(const uint8_t *bytes, size_t length) {
    const __m128i pairs = _mm_set1_epi8(0x55), quads = _mm_set1_epi8(0x33), nibbles = _mm_set1_epi8(0x0f);
    __m128i sums = _mm_setzero_si128();
    while (length >= 16) {
        /* A byte holds 255 at most, and gains 8 a step. */
        size_t steps = length / 16 < 31 ? length / 16 : 31;
        __m128i per_byte = _mm_setzero_si128();
        for (size_t i = 0; i < steps; i++, bytes += 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)bytes);
            v = _mm_sub_epi8(v, _mm_and_si128(_mm_srli_epi16(v, 1), pairs));
            v = _mm_add_epi8(_mm_and_si128(v, quads), _mm_and_si128(_mm_srli_epi16(v, 2), quads));
            v = _mm_and_si128(_mm_add_epi8(v, _mm_srli_epi16(v, 4)), nibbles);
            per_byte = _mm_add_epi8(per_byte, v);
        }
        sums = _mm_add_epi64(sums, _mm_sad_epu8(per_byte, _mm_setzero_si128()));
        length -= steps * 16;
    }
    uint64_t lanes[2];
    _mm_storeu_si128((__m128i *)lanes, sums);
    return lanes[0] + lanes[1] + count_scalar(bytes, length);
}

__attribute__((target("avx2,popcnt"))) static uint64_t count_avx2(const uint8_t *bytes, size_t length) {
    const __m256i nibbles = _mm256_set1_epi8(0x0f);
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, /* the same again: */
                                            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    __m256i sums = _mm256_setzero_si256();
    while (length >= 32) {
        size_t steps = length / 32 < 31 ? length / 32 : 31;
        __m256i per_byte = _mm256_setzero_si256();
        for (size_t i = 0; i < steps; i++, bytes += 32) {
            __m256i v = _mm256_loadu_si256((const __m256i *)bytes);
            __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(v, nibbles));
            __m256i high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibbles));
            per_byte = _mm256_add_epi8(per_byte, _mm256_add_epi8(low, high));
        }
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(per_byte, _mm256_setzero_si256()));
        length -= steps * 32;
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)lanes, sums);
    uint64_t sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];
    for (; length >= 8; bytes += 8, length -= 8) sum += (uint64_t)__builtin_popcountll(load_word(bytes));
    return sum + (uint64_t)__builtin_popcountll(load_tail(bytes, length));
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq"))) static uint64_t count_avx512(const uint8_t *bytes,
                                                                                                  size_t length) {
    __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
    for (; length >= 128; bytes += 128, length -= 128) {
        even = _mm512_add_epi64(even, _mm512_popcnt_epi64(_mm512_loadu_si512(bytes)));
        odd = _mm512_add_epi64(odd, _mm512_popcnt_epi64(_mm512_loadu_si512(bytes + 64)));
    }
    if (length >= 64) {
        even = _mm512_add_epi64(even, _mm512_popcnt_epi64(_mm512_loadu_si512(bytes)));
        bytes += 64;
        length -= 64;
    }
    if (length > 0) {
        /* A masked load touches no byte outside the mask, so it may start anywhere. */
        __m512i tail = _mm512_maskz_loadu_epi8(((__mmask64)1 << length) - 1, bytes);
        odd = _mm512_add_epi64(odd, _mm512_popcnt_epi64(tail));
    }
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(even, odd));
}

static bool is_avx2_supported(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
}

static bool is_avx512_supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq");
}

/* SSE2 is what everything here is compiled for, so the plain loops are the SSE2 loops. */
#define and_sse2    and_scalar
#define or_sse2     or_scalar
#define xor_sse2    xor_scalar
#define invert_sse2 invert_scalar

static const struct bits_variant variants[] = {
    VARIANT_ROW(scalar, is_always_supported),
    VARIANT_ROW(sse2, is_always_supported),
    VARIANT_ROW(avx2, is_avx2_supported),
    VARIANT_ROW(avx512, is_avx512_supported),
};

/* ---- aarch64
 * --------------------------------------------------------------------------------------------------------- */

#elif defined(__aarch64__)

static uint64_t count_neon(const uint8_t *bytes, size_t length) {
    uint64_t sum = 0;
    while (length >= 16) {
        /* A 16-bit lane gains 16 a step and holds 65535. */
        size_t steps = length / 16 < 4000 ? length / 16 : 4000;
        uint16x8_t lanes = vdupq_n_u16(0);
        for (size_t i = 0; i < steps; i++, bytes += 16) lanes = vpadalq_u8(lanes, vcntq_u8(vld1q_u8(bytes)));
        sum += vaddlvq_u16(lanes);
        length -= steps * 16;
    }
    return sum + count_scalar(bytes, length);
}

#define and_neon    and_scalar
#define or_neon     or_scalar
#define xor_neon    xor_scalar
#define invert_neon invert_scalar

static const struct bits_variant variants[] = {
    VARIANT_ROW(scalar, is_always_supported),
    VARIANT_ROW(neon, is_always_supported),
};

#else

static const struct bits_variant variants[] = {VARIANT_ROW(scalar, is_always_supported)};

#endif

/* ---- Choice
 * ---------------------------------------------------------------------------------------------------------- */

enum { VARIANT_COUNT = sizeof(variants) / sizeof(variants[0]) };

static _Atomic(const struct bits_variant *) chosen_variant;

static const struct bits_variant *choose_variant(void) {
    const struct bits_variant *best = &variants[0];
    for (size_t i = 1; i < VARIANT_COUNT; i++) {
        if (variants[i].is_supported()) best = &variants[i];
    }
    atomic_store_explicit(&chosen_variant, best, memory_order_relaxed);
    return best;
}

static inline const struct bits_variant *current_variant(void) {
    const struct bits_variant *variant = atomic_load_explicit(&chosen_variant, memory_order_relaxed);
    return variant != NULL ? variant : choose_variant();
}

const char *bits_variant_name(size_t variant) {
    return variant < VARIANT_COUNT ? variants[variant].name : NULL;
}

bool bits_variant_use(size_t variant) {
    assert(variant < VARIANT_COUNT);
    if (!variants[variant].is_supported()) return false;
    atomic_store_explicit(&chosen_variant, &variants[variant], memory_order_relaxed);
    return true;
}

/* ---- Counting and searching
 * ------------------------------------------------------------------------------------------ */

uint64_t bits_count(const void *bytes, size_t length) {
    if (length <= 8) return count_word(length == 0 ? 0 : load_tail(bytes, length));
    return current_variant()->count(bytes, length);
}

/* The bits of a byte from bit `first` on, and up to bit `last`, counted from its highest bit. */
static inline unsigned mask_from(unsigned first) {
    return 0xffu >> first;
}

static inline unsigned mask_up_to(unsigned last) {
    return 0xffu & (0xff00u >> (last + 1));
}

uint64_t bits_count_range(const void *bytes, uint64_t first, uint64_t last) {
    if (first > last) return 0;
    const uint8_t *begin = (const uint8_t *)bytes + first / 8;
    const uint8_t *end = (const uint8_t *)bytes + last / 8;
    unsigned head = mask_from(first % 8), tail = mask_up_to(last % 8);
    if (begin == end) return count_word(*begin & head & tail);
    return count_word(*begin & head) + bits_count(begin + 1, (size_t)(end - begin - 1)) + count_word(*end & tail);
}

/* The first byte that is not `skipped`, or `end`. */
static const uint8_t *skip_bytes(const uint8_t *at, const uint8_t *end, uint8_t skipped) {
    const uint64_t word = 0x0101010101010101u * skipped;
    for (; end - at >= 32; at += 32) {
        uint64_t differing = (load_word(at) ^ word) | (load_word(at + 8) ^ word) | (load_word(at + 16) ^ word) |
                             (load_word(at + 24) ^ word);
        if (differing != 0) break;
    }
    for (; end - at >= 8; at += 8) {
        uint64_t differing = load_word(at) ^ word;
        if (differing != 0) return at + __builtin_clzll(to_big_endian(differing)) / 8;
    }
    while (at < end && *at == skipped) at++;
    return at;
}

int64_t bits_find(const void *bytes, uint64_t first, uint64_t last, bool bit) {
    if (first > last) return BITS_NOT_FOUND;
    const uint8_t *base = bytes;
    const uint8_t *at = base + first / 8;
    const uint8_t *end = base + last / 8;
    const unsigned flip = bit ? 0 : 0xff;

    /* The first byte loses the bits before `first`; later ones are whole; what is found behind `last` does not count.
     */
    unsigned wanted = (*at ^ flip) & mask_from(first % 8);
    if (wanted == 0 && at < end) {
        at = skip_bytes(at + 1, end, (uint8_t)flip);
        wanted = *at ^ flip;
    }
    if (wanted == 0) return BITS_NOT_FOUND;
    uint64_t position = (uint64_t)(at - base) * 8 + (unsigned)__builtin_clz(wanted) - 24;
    return position <= last ? (int64_t)position : BITS_NOT_FOUND;
}

/* ---- Combining
 * ------------------------------------------------------------------------------------------------------- */

/* How many of `length` bytes from `offset` on the source has. */
static inline size_t source_bytes(struct span source, size_t offset, size_t length) {
    size_t rest = source.length > offset ? source.length - offset : 0;
    return rest < length ? rest : length;
}

static void combine_block(const struct bits_variant *variant, enum bits_operation operation, uint8_t *block,
                          size_t offset, size_t length, const struct span *sources, size_t count) {
    size_t present = source_bytes(sources[0], offset, length);
    if (present > 0) memcpy(block, sources[0].data + offset, present);
    if (present < length) memset(block + present, 0, length - present);
    if (operation == BITS_NOT) variant->invert(block, length);

    for (size_t i = 1; i < count; i++) {
        present = source_bytes(sources[i], offset, length);
        const uint8_t *from = present > 0 ? (const uint8_t *)sources[i].data + offset : NULL;
        switch (operation) {
        case BITS_AND:
            if (present > 0) variant->and_into(block, from, present);
            if (present < length) memset(block + present, 0, length - present);
            break;
        case BITS_OR:
            if (present > 0) variant->or_into(block, from, present);
            break;
        case BITS_XOR:
            if (present > 0) variant->xor_into(block, from, present);
            break;
        case BITS_NOT: break;
        }
    }
}

void bits_combine(enum bits_operation operation, uint8_t *destination, size_t length, const struct span *sources,
                  size_t count) {
    assert(count >= 1 && (operation != BITS_NOT || count == 1));
    const struct bits_variant *variant = current_variant();
    for (size_t offset = 0; offset < length; offset += COMBINE_BLOCK) {
        size_t size = length - offset < COMBINE_BLOCK ? length - offset : COMBINE_BLOCK;
        combine_block(variant, operation, destination + offset, offset, size, sources, count);
    }
}

/* ---- Fields
 * ---------------------------------------------------------------------------------------------------------- */

/* A field of 64 bits touches nine bytes unless it starts on a byte. */
enum { FIELD_BYTES_MAX = 9 };

uint64_t bits_get_unsigned(const uint8_t *bytes, size_t length, uint64_t offset, unsigned width) {
    assert(width >= 1 && width <= BITS_FIELD_WIDTH_MAX);
    uint8_t window[FIELD_BYTES_MAX] = {0};
    uint64_t first = offset / 8;
    unsigned shift = offset % 8;
    if (first < length) {
        size_t present = length - first < FIELD_BYTES_MAX ? length - first : FIELD_BYTES_MAX;
        memcpy(window, bytes + first, present);
    }
    uint64_t value = to_big_endian(load_word(window)) << shift | (uint64_t)window[8] >> (8 - shift);
    return value >> (64 - width);
}

int64_t bits_get_signed(const uint8_t *bytes, size_t length, uint64_t offset, unsigned width) {
    uint64_t sign = (uint64_t)1 << (width - 1);
    return (int64_t)((bits_get_unsigned(bytes, length, offset, width) ^ sign) - sign);
}

void bits_set(uint8_t *bytes, size_t length, uint64_t offset, unsigned width, uint64_t value) {
    assert(width >= 1 && width <= BITS_FIELD_WIDTH_MAX);
    assert(offset <= UINT64_MAX - width && (offset + width + 7) / 8 <= length);
    /* Byte by byte from the end of the field, each taking as many of the lowest bits of `value` as it holds. */
    uint64_t end = offset + width;
    while (width > 0) {
        unsigned used = end % 8 == 0 ? 8 : end % 8;
        unsigned taken = used < width ? used : width;
        unsigned mask = (0xffu >> (8 - taken)) << (8 - used);
        uint8_t *byte = bytes + (end - 1) / 8;
        *byte = (uint8_t)((*byte & ~mask) | ((unsigned)(value << (8 - used)) & mask));
        value >>= taken;
        width -= taken;
        end -= taken;
    }
}

bool bits_add_signed(int64_t value, int64_t increment, unsigned width, enum bits_overflow policy, int64_t *result) {
    assert(width >= 1 && width <= BITS_FIELD_WIDTH_MAX);
    const int64_t max = (int64_t)(((uint64_t)1 << (width - 1)) - 1);
    const int64_t min = -max - 1;
    const __int128 sum = (__int128)value + increment;
    if (sum >= min && sum <= max) {
        *result = (int64_t)sum;
    } else if (policy == BITS_OVERFLOW_SATURATE) {
        /* BITFIELD ... SAT SET of a number near INT64_MIN stores the highest value of the field: in Redis max - value
         * overflows there. Clients can see it, so it is kept. */
        bool is_taken_for_high = width < BITS_FIELD_WIDTH_MAX && value <= INT64_MIN + max;
        *result = sum > max || is_taken_for_high ? max : min;
    } else if (policy == BITS_OVERFLOW_WRAP) {
        uint64_t sign = (uint64_t)1 << (width - 1);
        uint64_t low = ((uint64_t)value + (uint64_t)increment) & (UINT64_MAX >> (64 - width));
        *result = (int64_t)((low ^ sign) - sign);
    } else {
        return false;
    }
    return true;
}

bool bits_add_unsigned(uint64_t value, int64_t increment, unsigned width, enum bits_overflow policy, uint64_t *result) {
    assert(width >= 1 && width <= BITS_FIELD_WIDTH_MAX);
    const uint64_t max = UINT64_MAX >> (64 - width);
    const __int128 sum = (__int128)value + increment;
    if (sum >= 0 && sum <= max) {
        *result = (uint64_t)sum;
    } else if (policy == BITS_OVERFLOW_SATURATE) {
        *result = sum > max ? max : 0;
    } else if (policy == BITS_OVERFLOW_WRAP) {
        *result = (value + (uint64_t)increment) & max;
    } else {
        return false;
    }
    return true;
}
