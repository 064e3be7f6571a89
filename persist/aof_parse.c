/* Passing over items, and taking words.
 *
 * Most of an append-only file is passed over twice: once to find where the last whole batch or transaction ends, once
 * to take the words. Both stay in the cache for a small command, and passing over touches only the lengths of large
 * words. A beginning of an item is told from damage byte by byte: whatever is no item and no beginning of one is BAD,
 * and where it becomes so is what an error message can name. */

#include "persist/aof_parse.h"

#include "persist/aof_layout.h"

enum number_result { NUMBER_DONE, NUMBER_SHORT, NUMBER_BAD };

/* Reads "<digits>CRLF" at `*at`, which is left behind it, or at what is bad. No more digits than AOF_WORD_BYTES_MAX
 * has, no leading zeros. */
static inline enum number_result take_number(const char **at, const char *end, uint64_t *number) {
    const char *p = *at;
    uint64_t value = 0;
    while (p < end && *p >= '0' && *p <= '9') {
        if (p - *at == 10 || (p > *at && value == 0)) {
            *at = p;
            return NUMBER_BAD;
        }
        value = value * 10 + (uint64_t)(*p++ - '0');
    }
    bool digits = p > *at;
    *at = p;
    if (p == end) return NUMBER_SHORT;
    if (!digits || *p != '\r') return NUMBER_BAD;
    *at = ++p;
    if (p == end) return NUMBER_SHORT;
    if (*p != '\n') return NUMBER_BAD;
    *at = p + 1;
    *number = value;
    return NUMBER_DONE;
}

static enum aof_parse_result bad(struct aof_item *item, struct span bytes, const char *at) {
    item->bad_at = (size_t)(at - bytes.data);
    return AOF_PARSE_BAD;
}

static enum aof_parse_result short_of(struct aof_item *item, struct span bytes, size_t at_least) {
    item->length = at_least > bytes.length ? at_least : bytes.length + 1;
    return AOF_PARSE_SHORT;
}

static enum aof_parse_result parse_line(struct span bytes, struct aof_item *item) {
    size_t room = bytes.length < AOF_ANNOTATION_MAX ? bytes.length : AOF_ANNOTATION_MAX;
    const char *newline = memchr(bytes.data, '\n', room);
    if (newline == NULL)
        return room == AOF_ANNOTATION_MAX ? bad(item, bytes, bytes.data + room) : short_of(item, bytes, 0);
    item->length = (size_t)(newline + 1 - bytes.data);
    item->argc = 0;
    return AOF_PARSE_LINE;
}

enum aof_parse_result aof_parse_item(struct span bytes, struct aof_item *item) {
    const char *at = bytes.data, *end = bytes.data + bytes.length;
    uint64_t count, length;
    if (at == end) return short_of(item, bytes, 0);
    if (*at == '#') return parse_line(bytes, item);
    if (*at != '*') return bad(item, bytes, at);
    at++;
    enum number_result result = take_number(&at, end, &count);
    if (result == NUMBER_SHORT) return short_of(item, bytes, 0);
    if (result == NUMBER_BAD || count == 0 || count > INT32_MAX) return bad(item, bytes, at);
    for (uint64_t i = 0; i < count; i++) {
        if (at == end) return short_of(item, bytes, 0);
        if (*at != '$') return bad(item, bytes, at);
        at++;
        result = take_number(&at, end, &length);
        if (result == NUMBER_SHORT) return short_of(item, bytes, 0);
        if (result == NUMBER_BAD || length > AOF_WORD_BYTES_MAX) return bad(item, bytes, at);
        if ((uint64_t)(end - at) < length + 2) {
            /* What there is of the CR LF has to be one. */
            if ((uint64_t)(end - at) == length + 1 && end[-1] != '\r') return bad(item, bytes, end - 1);
            return short_of(item, bytes, (size_t)(at - bytes.data) + length + 2);
        }
        if (i == 0) item->name = span_of(at, length);
        at += length;
        if (at[0] != '\r') return bad(item, bytes, at);
        if (at[1] != '\n') return bad(item, bytes, at + 1);
        at += 2;
    }
    item->length = (size_t)(at - bytes.data);
    item->argc = (uint32_t)count;
    return AOF_PARSE_COMMAND;
}

/* The number at `*at`, which is known to be one; `*at` is left behind its CR LF. */
static inline uint64_t known_number(const char **at) {
    const char *p = *at;
    uint64_t value = 0;
    while (*p != '\r') value = value * 10 + (uint64_t)(*p++ - '0');
    *at = p + 2;
    return value;
}

void aof_parse_words(const char *command, const struct aof_item *item, struct span *argv) {
    const char *at = command + 1;
    known_number(&at);
    for (uint32_t i = 0; i < item->argc; i++) {
        at++;
        size_t length = known_number(&at);
        argv[i] = span_of(at, length);
        at += length + 2;
    }
}
