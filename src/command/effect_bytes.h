#ifndef TERRACE_COMMAND_EFFECT_BYTES_H
#define TERRACE_COMMAND_EFFECT_BYTES_H

/* The bytes of effects: RESP arrays of bulk strings, written to where there is room, and the growing buffer of a sink.
 * For effect.c and effect_sink.c. */

#include "base/span.h"
#include "command/effect_sink.h"

enum {
    EFFECT_NUMBER_BYTES = 16, /* the most that a head takes beside a word: "$4294967295\r\n" and the word's "\r\n" */
    EFFECT_HEAD_BYTES = 4,    /* of an effect of less than ten words */
};

/* Writes `sign`, the number and a line's end; returns the end. */
static inline char *effect_bytes_number(char *to, char sign, uint64_t number) {
    char digits[20];
    unsigned count = 0;
    *to++ = sign;
    do digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count > 0) *to++ = digits[--count];
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

static inline size_t effect_bytes_digits(uint64_t number) {
    if (number < 100) return number < 10 ? 1 : 2;
    size_t count = 2;
    for (; number >= 100; number /= 10) count++;
    return count;
}

/* Writes a word; returns the end. */
static inline char *effect_bytes_word(char *to, struct span word) {
    to = effect_bytes_number(to, '$', word.length);
    memcpy(to, word.data, word.length);
    to += word.length;
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

static inline size_t effect_bytes_of_word(size_t length) {
    return 1 + effect_bytes_digits(length) + 2 + length + 2;
}

/* What the words take as a command. */
size_t effect_bytes_of(const struct span *argv, uint32_t argc);
/* Writes it; `to` has effect_bytes_of() bytes. Returns the end. */
char *effect_bytes_write(char *to, const struct span *argv, uint32_t argc);

/* Whether `received` are these very bytes: what a client sent that writes as we do, and of which the words are spans.
 * It may also have been an inline command, or have no line's end behind a word. */
bool effect_bytes_are(struct span received, const struct span *argv, uint32_t argc);

/* Room for `bytes` more behind the sink's; where they begin. Without memory the process ends: an effect that is lost
 * would be worse. */
char *effect_bytes_room(struct effect_sink *sink, size_t bytes);
/* Selects the database for what is added next, if another one is selected; in front of all else it is the one that the
 * sink's bytes begin in. */
void effect_bytes_select(struct effect_sink *sink, uint32_t database);
/* Adds an effect. */
void effect_bytes_add(struct effect_sink *sink, const struct span *argv, uint32_t argc);

#endif
