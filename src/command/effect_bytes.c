/* See effect_bytes.h. */

#include "command/effect_bytes.h"

#include "base/number.h"

#include <stdlib.h>

enum { BUFFER_LEAST = 1024 };

size_t effect_bytes_of(const struct span *argv, uint32_t argc) {
    size_t bytes = 1 + effect_bytes_digits(argc) + 2;
    for (uint32_t i = 0; i < argc; i++) bytes += effect_bytes_of_word(argv[i].length);
    return bytes;
}

char *effect_bytes_write(char *to, const struct span *argv, uint32_t argc) {
    to = effect_bytes_number(to, '*', argc);
    for (uint32_t i = 0; i < argc; i++) to = effect_bytes_word(to, argv[i]);
    return to;
}

static bool is_line_end(const char *at) {
    return at[0] == '\r' && at[1] == '\n';
}

/* The parser has read the numbers, and nobody writes one with fewer digits: where each word stands tells that the line
 * before it has no more of them. */
bool effect_bytes_are(struct span received, const struct span *argv, uint32_t argc) {
    if (received.length == 0 || received.data[0] != '*') return false;
    const char *at = received.data + 1 + effect_bytes_digits(argc) + 2;
    for (uint32_t i = 0; i < argc; i++) {
        at += 1 + effect_bytes_digits(argv[i].length) + 2;
        if (argv[i].data != at || at + argv[i].length + 2 > received.data + received.length) return false;
        at += argv[i].length;
        if (!is_line_end(at)) return false;
        at += 2;
    }
    return at == received.data + received.length;
}

char *effect_bytes_room(struct effect_sink *sink, size_t bytes) {
    if (sink->capacity - sink->length < bytes) {
        size_t capacity = sink->capacity ? sink->capacity * 2 : BUFFER_LEAST;
        while (capacity - sink->length < bytes) capacity *= 2;
        char *moved = realloc(sink->bytes, capacity);
        if (!moved) abort();
        sink->bytes = moved;
        sink->capacity = capacity;
    }
    return sink->bytes + sink->length;
}

void effect_bytes_add(struct effect_sink *sink, const struct span *argv, uint32_t argc) {
    char *to = effect_bytes_room(sink, effect_bytes_of(argv, argc));
    sink->length += (size_t)(effect_bytes_write(to, argv, argc) - to);
    sink->count++;
}

void effect_bytes_select(struct effect_sink *sink, uint32_t database) {
    char text[NUMBER_TEXT_MAX];
    if (sink->length == 0) sink->first_database = sink->mark_database = sink->database = database;
    if (sink->database == database) return;
    struct span words[] = {SPAN_LITERAL("SELECT"), span_of(text, number_format_u64(database, text))};
    effect_bytes_add(sink, words, 2);
    sink->count--; /* it is no effect by itself */
    sink->database = database;
}
