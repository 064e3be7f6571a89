#ifndef TERRACE_BASE_SPAN_H
#define TERRACE_BASE_SPAN_H

/* A borrowed range of bytes: a command argument inside the query buffer, a key inside a record, a
 * literal. A span owns nothing and says nothing about lifetime; the function that hands one out does.
 * The bytes are binary safe and not terminated. */

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct span {
    const char *data;
    size_t length;
};

#define SPAN_LITERAL(text) ((struct span){(text), sizeof(text) - 1})

static inline struct span span_of(const void *data, size_t length) {
    return (struct span){(const char *)data, length};
}

static inline struct span span_of_text(const char *text) {
    return (struct span){text, strlen(text)};
}

/* Equality of `length` bytes, in words: most keys and names are a few dozen bytes, for which a call costs more than the
 * comparison. */
static inline bool bytes_equal(const char *a, const char *b, size_t length) {
    if (length > 64) return memcmp(a, b, length) == 0;
    unsigned long long x, y;
    size_t at = 0;
    if (length >= 8) {
        for (; length - at > 8; at += 8) {
            memcpy(&x, a + at, 8);
            memcpy(&y, b + at, 8);
            if (x != y) return false;
        }
        /* The last word is looked at together with some bytes already seen. */
        memcpy(&x, a + length - 8, 8);
        memcpy(&y, b + length - 8, 8);
        return x == y;
    }
    if (length >= 4) {
        unsigned first, second, third, fourth;
        memcpy(&first, a, 4);
        memcpy(&second, b, 4);
        memcpy(&third, a + length - 4, 4);
        memcpy(&fourth, b + length - 4, 4);
        return first == second && third == fourth;
    }
    for (; at < length; at++)
        if (a[at] != b[at]) return false;
    return true;
}

static inline bool bytes_are_zero(const void *bytes, size_t length) {
    const char *at = bytes;
    return length == 0 || (at[0] == 0 && memcmp(at, at + 1, length - 1) == 0);
}

static inline bool span_equal(struct span a, struct span b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* ASCII case is ignored; `word` is a lower-case literal. For keywords such as "ex" or "match". */
static inline bool span_is_word(struct span text, const char *word) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 'A' && c <= 'Z') c |= 0x20;
        if (word[i] == '\0' || c != (unsigned char)word[i]) return false;
    }
    return word[text.length] == '\0';
}

#endif
