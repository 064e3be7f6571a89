/* Text to number and back.
 *
 * Integers are on the hot path: every length, counter and TTL of every command passes here, so they are parsed and
 * written by hand. A text of up to 18 digits cannot overflow, so the loop over the digits checks for digits only and
 * the rare longer text pays for the overflow checks. Writing takes two digits a step from a table of pairs.
 *
 * Floating point texts are left to the C library, whose strtod is what Redis's rules are made of: hexadecimal floats
 * and every spelling of infinity come with it. The library wants a terminated text and a span has none, so it is
 * copied, which also makes an embedded NUL byte end the number early and refuse the text. The process never calls
 * setlocale, so the decimal point is always a point. */

#include "base/number.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    /* 10^18 - 1 fits an int64_t, so this many digits need no overflow check. */
    DIGITS_SAFE = 18,
    DIGITS_MAX_U64 = 20,
    /* Longer floating point texts are legal but unusual; they are copied to the heap. */
    FLOAT_TEXT_ON_STACK = 256,
};

/* Digits without sign. "0" is the only text that may begin with '0'. */
static inline bool parse_digits(const char *digits, size_t count, uint64_t *value) {
    if (count == 0 || count > DIGITS_MAX_U64) return false;
    unsigned first = (unsigned char)digits[0] - '0';
    if (first > 9 || (first == 0 && count > 1)) return false;

    uint64_t sum = first;
    size_t safe = count < DIGITS_SAFE ? count : DIGITS_SAFE;
    for (size_t i = 1; i < safe; i++) {
        unsigned digit = (unsigned char)digits[i] - '0';
        if (digit > 9) return false;
        sum = sum * 10 + digit;
    }
    for (size_t i = safe; i < count; i++) {
        unsigned digit = (unsigned char)digits[i] - '0';
        if (digit > 9) return false;
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, digit, &sum)) return false;
    }
    *value = sum;
    return true;
}

bool number_parse_i64(struct span text, int64_t *value) {
    if (text.length == 0) return false;
    bool negative = text.data[0] == '-';
    uint64_t magnitude;
    if (!parse_digits(text.data + negative, text.length - negative, &magnitude)) return false;
    if (negative) {
        if (magnitude == 0 || magnitude > (uint64_t)INT64_MAX + 1) return false;
        *value = (int64_t)(0 - magnitude);
    } else {
        if (magnitude > (uint64_t)INT64_MAX) return false;
        *value = (int64_t)magnitude;
    }
    return true;
}

bool number_parse_u64(struct span text, uint64_t *value) {
    return parse_digits(text.data, text.length, value);
}

bool number_parse_cursor(struct span text, uint64_t *cursor) {
    if (number_parse_u64(text, cursor)) return true;
    if (text.length == 0) {
        *cursor = 0;
        return true;
    }

    /* The lenient forms. Leading zeros have no bound, so the digits are taken one at a time. */
    const char *at = text.data;
    const char *end = at + text.length;
    bool negative = *at == '-';
    bool has_sign = negative || *at == '+';
    uint64_t sum = 0;
    const char *digits = at += has_sign;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, (unsigned)(*at - '0'), &sum)) {
            return false;
        }
    }
    if (has_sign && at == digits) return false;
    if (at < end && *at != '\0') return false;
    *cursor = negative ? 0 - sum : sum;
    return true;
}

/* What Redis accepts of what strtod and strtold answered: `finish` is where they stopped. */
static bool float_is_accepted(const char *text, size_t length, const char *finish, long double value, int error) {
    if ((size_t)(finish - text) != length || isspace((unsigned char)text[0])) return false;
    if (error == ERANGE && (isinf(value) || value == 0)) return false;
    return !isnan(value);
}

bool number_parse_double(struct span text, double *value) {
    /* Small integers are most of the scores in the world, and exact in a double. */
    int64_t integer;
    if (text.length <= 15 && number_parse_i64(text, &integer)) {
        *value = (double)integer;
        return true;
    }
    if (text.length == 0) return false;

    char on_stack[FLOAT_TEXT_ON_STACK];
    char *copy = text.length < sizeof(on_stack) ? on_stack : malloc(text.length + 1);
    if (copy == NULL) return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';

    char *finish;
    errno = 0;
    double parsed = strtod(copy, &finish);
    bool accepted = float_is_accepted(copy, text.length, finish, parsed, errno);
    if (copy != on_stack) free(copy);
    if (accepted) *value = parsed;
    return accepted;
}

bool number_parse_long_double(struct span text, long double *value) {
    char copy[NUMBER_LONG_DOUBLE_TEXT_MAX];
    if (text.length == 0 || text.length >= sizeof(copy)) return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';

    char *finish;
    errno = 0;
    long double parsed = strtold(copy, &finish);
    if (!float_is_accepted(copy, text.length, finish, parsed, errno)) return false;
    *value = parsed;
    return true;
}

bool number_parse_memory(struct span text, int64_t *bytes) {
    static const struct {
        const char *name;
        int64_t bytes;
    } units[] = {
        {"", 1},
        {"b", 1},
        {"k", 1000},
        {"kb", 1024},
        {"m", 1000 * 1000},
        {"mb", 1024 * 1024},
        {"g", 1000L * 1000 * 1000},
        {"gb", 1024L * 1024 * 1024},
    };
    size_t digits = 0;
    int64_t quantity = 0;
    for (; digits < text.length && text.data[digits] >= '0' && text.data[digits] <= '9'; digits++) {
        int digit = text.data[digits] - '0';
        if (__builtin_mul_overflow(quantity, 10, &quantity) || __builtin_add_overflow(quantity, digit, &quantity)) {
            return false;
        }
    }
    struct span unit = digits == 0 ? text : span_of(text.data + digits, text.length - digits);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (!span_is_word(unit, units[i].name)) continue;
        int64_t product;
        if (__builtin_mul_overflow(quantity, units[i].bytes, &product)) return false;
        *bytes = product;
        return true;
    }
    return false;
}

static const char digit_pairs[] = "0001020304050607080910111213141516171819"
                                  "2021222324252627282930313233343536373839"
                                  "4041424344454647484950515253545556575859"
                                  "6061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

static inline size_t count_digits(uint64_t value) {
    /* The first entry is 0 and not 1, so that 0 counts one digit. */
    static const uint64_t powers[DIGITS_MAX_U64] = {
        0,
        10ull,
        100ull,
        1000ull,
        10000ull,
        100000ull,
        1000000ull,
        10000000ull,
        100000000ull,
        1000000000ull,
        10000000000ull,
        100000000000ull,
        1000000000000ull,
        10000000000000ull,
        100000000000000ull,
        1000000000000000ull,
        10000000000000000ull,
        100000000000000000ull,
        1000000000000000000ull,
        10000000000000000000ull,
    };
    /* bits * log10(2) is the count or one less; 1233 / 4096 is log10(2) closely enough for 64 bits. */
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    unsigned estimate = (bits * 1233) >> 12;
    return estimate + (value >= powers[estimate]);
}

static inline size_t write_digits(uint64_t value, char *text) {
    size_t length = count_digits(value);
    char *at = text + length;
    while (value >= 100) {
        at -= 2;
        memcpy(at, digit_pairs + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        memcpy(at - 2, digit_pairs + 2 * value, 2);
    } else {
        at[-1] = (char)('0' + value);
    }
    return length;
}

size_t number_format_u64(uint64_t value, char text[NUMBER_TEXT_MAX]) {
    return write_digits(value, text);
}

size_t number_format_i64(int64_t value, char text[NUMBER_TEXT_MAX]) {
    if (value >= 0) return write_digits((uint64_t)value, text);
    text[0] = '-';
    return 1 + write_digits(0 - (uint64_t)value, text + 1);
}

size_t number_text_length_i64(int64_t value) {
    return value >= 0 ? count_digits((uint64_t)value) : 1 + count_digits(0 - (uint64_t)value);
}

static size_t copy_text(char *to, const char *text) {
    size_t length = strlen(text);
    memcpy(to, text, length);
    return length;
}

size_t number_format_double(double value, char text[NUMBER_DOUBLE_TEXT_MAX]) {
    if (isnan(value)) return copy_text(text, "nan");
    if (isinf(value)) return copy_text(text, value > 0 ? "inf" : "-inf");
    /* Below 10^17 an integer has at most 17 digits, and %.17g would write it without an exponent. */
    if (value > -1e17 && value < 1e17) {
        int64_t integer = (int64_t)value;
        if ((double)integer == value && !(integer == 0 && signbit(value))) return number_format_i64(integer, text);
    }
    int length = snprintf(text, NUMBER_DOUBLE_TEXT_MAX, "%.17g", value);
    assert(length > 0 && length < NUMBER_DOUBLE_TEXT_MAX);
    return (size_t)length;
}

size_t number_format_long_double_human(long double value, char text[NUMBER_LONG_DOUBLE_TEXT_MAX]) {
    if (isnan(value)) return copy_text(text, "nan");
    if (isinf(value)) return copy_text(text, value > 0 ? "inf" : "-inf");
    int written = snprintf(text, NUMBER_LONG_DOUBLE_TEXT_MAX, "%.17Lf", value);
    assert(written > 0 && written < NUMBER_LONG_DOUBLE_TEXT_MAX);

    /* There is always a point, so the zeros before it are safe. */
    size_t length = (size_t)written;
    while (text[length - 1] == '0') length--;
    if (text[length - 1] == '.') length--;
    if (length == 2 && text[0] == '-' && text[1] == '0') return copy_text(text, "0");
    return length;
}
