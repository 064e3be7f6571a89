/* The request parser.
 *
 *   *3\r\n $3\r\n SET\r\n $1\r\n k\r\n $5\r\n hello\r\n
 *
 * A command that lies whole in the buffer, the usual case, is parsed into the caller's array in one pass that has no
 * state (parse_whole). Whatever that pass does not like, errors included, it leaves to the other way, which begins at
 * the command's first byte again. One that is not whole keeps its arguments in `own`, as offsets in place of addresses
 * since the buffer may move; they become addresses when the command is complete. What is kept grows with the bytes
 * received, never with the number a client announces.
 *
 * A command that there turns out to be no memory for is skipped: from then on only counts are kept, of the arguments
 * that are still to come and of the bytes left of the present one. */

#include "resp/parser.h"

#include "base/limits.h"
#include "base/number.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEPT_ARGUMENTS = 64 }; /* room that a parser keeps between commands: a kilobyte */

void resp_parser_init(struct resp_parser *parser) {
    *parser = (struct resp_parser){.bulk_left = -1};
}

void resp_parser_reset(struct resp_parser *parser) {
    free(parser->own);
    free(parser->inline_copy);
    resp_parser_init(parser);
}

void resp_parser_trim(struct resp_parser *parser) {
    if (parser->arguments_left == 0 && parser->own_capacity > KEPT_ARGUMENTS) resp_parser_reset(parser);
}

static enum resp_parse_result fail(struct resp_parser *parser, const char *text) {
    snprintf(parser->error, sizeof(parser->error), "ERR Protocol error: %s", text);
    return RESP_PARSE_ERROR;
}

/* ---- lines ---- */

/* The offset of the next "\r" from `from` that has its "\n" in the buffer, or SIZE_MAX. */
static size_t find_line_end(struct span buffer, size_t from) {
    if (from >= buffer.length) return SIZE_MAX;
    const char *end = memchr(buffer.data + from, '\r', buffer.length - from);
    if (!end || (size_t)(end - buffer.data) + 1 >= buffer.length) return SIZE_MAX;
    return (size_t)(end - buffer.data);
}

/* A length such as "$32\r\n" from its first digit. The common one or two digits are read without a search. */
static inline bool short_length(struct span buffer, size_t from, int64_t *value, size_t *after) {
    if (from + 4 > buffer.length) return false;
    const char *at = buffer.data + from;
    unsigned first = (unsigned)(unsigned char)at[0] - '0', second = (unsigned)(unsigned char)at[1] - '0';
    if (first > 9) return false;
    if (at[1] == '\r' && at[2] == '\n') {
        *value = (int64_t)first;
        *after = from + 3;
        return true;
    }
    if (first == 0 || second > 9 || at[2] != '\r' || at[3] != '\n') return false;
    *value = (int64_t)(first * 10 + second);
    *after = from + 4;
    return true;
}

enum line { LINE_OK, LINE_MISSING, LINE_BAD };

static inline enum line read_length(struct span buffer, size_t from, int64_t *value, size_t *after) {
    if (short_length(buffer, from, value, after)) return LINE_OK;
    size_t end = find_line_end(buffer, from);
    if (end == SIZE_MAX) return LINE_MISSING;
    *after = end + 2;
    return number_parse_i64(span_of(buffer.data + from, end - from), value) ? LINE_OK : LINE_BAD;
}

/* ---- whole commands ---- */

enum {
    LENGTH_LEAST = 5, /* "0\r\n\r\n": what a length and that which it announces take at least */
    LENGTH_DIGITS = 9,
};

/* The number at `at` and its line end; returns what is behind it. NULL: cut off, or not as it is usually written. */
static inline const char *whole_length(const char *at, const char *end, size_t *value) {
    if (end - at < LENGTH_LEAST) return NULL;
    unsigned digit = (unsigned)(unsigned char)*at++ - '0';
    if (digit > 9) return NULL;
    size_t number = digit;
    if (*at != '\r') {
        const char *last = end - at > LENGTH_DIGITS ? at + LENGTH_DIGITS : end - 1;
        if (number == 0) return NULL;
        for (; at < last && (digit = (unsigned)(unsigned char)*at - '0') <= 9; at++) number = number * 10 + digit;
        if (at >= last || *at != '\r') return NULL;
    }
    *value = number;
    return at[1] == '\n' ? at + 2 : NULL;
}

/* Parses a command that lies whole in the buffer; returns its bytes, or 0: it has to be looked at more closely. */
static inline size_t parse_whole(struct span buffer, const struct resp_limits *limits, struct span *argv,
                                 size_t capacity, uint32_t *argc) {
    const char *end = buffer.data + buffer.length;
    size_t count, length;
    if (buffer.length == 0 || buffer.data[0] != '*' || limits->unauthenticated) return 0;
    const char *at = whole_length(buffer.data + 1, end, &count);
    if (!at || count == 0 || count > capacity || count > LIMIT_ARGUMENTS) return 0;
    struct span *to = argv, *last = argv + count;
    for (; to < last; to++) {
        if (at == end || *at != '$') return 0;
        at = whole_length(at + 1, end, &length);
        if (!at || length > limits->bulk_bytes || (size_t)(end - at) < length + 2) return 0;
        *to = span_of(at, length);
        at += length + 2;
    }
    *argc = (uint32_t)count;
    return (size_t)(at - buffer.data);
}

/* ---- inline commands ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0';
}

/* One escape of a double-quoted argument, `at` on the character after the backslash; returns how many were used. */
static size_t unescape(const char *at, size_t left, char *out) {
    if (left >= 3 && at[0] == 'x' && hex_digit(at[1]) >= 0 && hex_digit(at[2]) >= 0) {
        *out = (char)(hex_digit(at[1]) * 16 + hex_digit(at[2]));
        return 3;
    }
    switch (at[0]) {
    case 'n': *out = '\n'; break;
    case 'r': *out = '\r'; break;
    case 't': *out = '\t'; break;
    case 'b': *out = '\b'; break;
    case 'a': *out = '\a'; break;
    default: *out = at[0];
    }
    return 1;
}

/* Reads one argument from text[*at] on, writing it from text + `out` on (never past *at). Returns its length, or
 * SIZE_MAX for unbalanced quotes. */
static size_t split_one(char *text, size_t length, size_t *at, size_t out) {
    size_t begin = out, i = *at;
    char quote = 0;
    while (i < length) {
        char c = text[i];
        if (quote == '"' && c == '\\' && i + 1 < length) {
            char unescaped;
            i += 1 + unescape(text + i + 1, length - i - 1, &unescaped);
            text[out++] = unescaped;
        } else if (quote == '\'' && c == '\\' && i + 1 < length && text[i + 1] == '\'') {
            text[out++] = '\'';
            i += 2;
        } else if (quote && c == quote) {
            if (i + 1 < length && !is_blank(text[i + 1])) return SIZE_MAX;
            *at = i + 1;
            return out - begin;
        } else if (!quote && is_blank(c)) {
            break;
        } else if (!quote && (c == '"' || c == '\'')) {
            quote = c;
            i++;
        } else {
            text[out++] = c;
            i++;
        }
    }
    *at = i;
    return quote ? SIZE_MAX : out - begin;
}

int resp_split_line(char *text, size_t length, struct span *arguments, size_t capacity) {
    size_t at = 0, count = 0;
    while (count < capacity) {
        while (at < length && is_blank(text[at])) at++;
        if (at == length) break;
        size_t begin = at, size = split_one(text, length, &at, begin);
        if (size == SIZE_MAX) return -1;
        arguments[count++] = span_of(text + begin, size);
    }
    return (int)count;
}

static enum resp_parse_result parse_inline(struct resp_parser *parser, struct span buffer, struct span **arguments,
                                           uint32_t *argc, size_t *consumed) {
    const char *end = memchr(buffer.data, '\n', buffer.length);
    if (!end) {
        if (buffer.length > LIMIT_INLINE_BYTES) return fail(parser, "too big inline request");
        return RESP_PARSE_INCOMPLETE;
    }
    size_t length = (size_t)(end - buffer.data);
    *consumed = length + 1;
    if (length > LIMIT_INLINE_BYTES) return fail(parser, "too big inline request");
    if (length && buffer.data[length - 1] == '\r') length--;
    char *copy = realloc(parser->inline_copy, length + 1);
    /* An argument and its blank take two bytes at least. */
    struct span *own = realloc(parser->own, (length / 2 + 1) * sizeof(struct span));
    if (copy) parser->inline_copy = copy;
    if (own) {
        parser->own = own;
        parser->own_capacity = length / 2 + 1;
    }
    if (!copy || !own) return fail(parser, "out of memory");
    memcpy(copy, buffer.data, length);
    int count = resp_split_line(copy, length, own, parser->own_capacity);
    if (count < 0) return fail(parser, "unbalanced quotes in request");
    *arguments = own;
    *argc = (uint32_t)count;
    return count ? RESP_PARSE_DONE : RESP_PARSE_EMPTY;
}

/* ---- arrays ---- */

static enum resp_parse_result parse_header(struct resp_parser *parser, struct span buffer,
                                           const struct resp_limits *limits) {
    int64_t count = 0;
    size_t after = 0;
    switch (read_length(buffer, 1, &count, &after)) {
    case LINE_MISSING:
        if (buffer.length > LIMIT_INLINE_BYTES) return fail(parser, "too big mbulk count string");
        return RESP_PARSE_INCOMPLETE;
    case LINE_BAD: return fail(parser, "invalid multibulk length");
    case LINE_OK: break;
    }
    if (count > LIMIT_ARGUMENTS) return fail(parser, "invalid multibulk length");
    if (limits->unauthenticated && count > LIMIT_UNAUTHENTICATED_ARGUMENTS)
        return fail(parser, "unauthenticated multibulk length");
    parser->position = after;
    parser->arguments_left = count > 0 ? count : 0;
    return count > 0 ? RESP_PARSE_DONE : RESP_PARSE_EMPTY;
}

static enum resp_parse_result parse_bulk_header(struct resp_parser *parser, struct span buffer,
                                                const struct resp_limits *limits) {
    size_t at = parser->position;
    if (at >= buffer.length) return RESP_PARSE_INCOMPLETE;
    int64_t length = 0;
    size_t after = 0;
    char kind = buffer.data[at];
    enum line line = LINE_BAD;
    if (kind == '$')
        line = read_length(buffer, at + 1, &length, &after);
    else if (find_line_end(buffer, at) == SIZE_MAX)
        line = LINE_MISSING;
    if (line == LINE_MISSING) {
        if (buffer.length - at > LIMIT_INLINE_BYTES) return fail(parser, "too big bulk count string");
        return RESP_PARSE_INCOMPLETE;
    }
    if (kind != '$') {
        char text[48];
        /* An error is one line; whatever the client sent must not add another. */
        snprintf(text, sizeof(text), "expected '$', got '%c'",
                 kind == '\r' || kind == '\n' || kind == '\0' ? ' ' : kind);
        return fail(parser, text);
    }
    if (line == LINE_BAD || length < 0 || (uint64_t)length > limits->bulk_bytes)
        return fail(parser, "invalid bulk length");
    if (limits->unauthenticated && length > LIMIT_UNAUTHENTICATED_BULK)
        return fail(parser, "unauthenticated bulk length");
    parser->bulk_left = length;
    parser->position = after;
    return RESP_PARSE_DONE;
}

static bool own_reserve(struct resp_parser *parser, size_t count) {
    if (count <= parser->own_capacity) return true;
    size_t capacity = parser->own_capacity < 16 ? 16 : parser->own_capacity;
    while (capacity < count) capacity *= 2;
    struct span *own = realloc(parser->own, capacity * sizeof(*own));
    if (!own) return false;
    parser->own = own;
    parser->own_capacity = capacity;
    return true;
}

/* Moves what was parsed so far into the parser's own array, as offsets. */
static bool keep(struct resp_parser *parser, struct span buffer, const struct span *argv, size_t count) {
    if (!own_reserve(parser, parser->own_count + count + 1)) return false;
    for (size_t i = 0; i < count; i++) {
        size_t offset = (size_t)(argv[i].data - buffer.data);
        parser->own[parser->own_count++] = span_of((const char *)(uintptr_t)offset, argv[i].length);
    }
    return true;
}

static enum resp_parse_result finish(struct resp_parser *parser, struct span buffer, struct span *argv, size_t count,
                                     struct span **arguments, uint32_t *argc, size_t *consumed) {
    *consumed = parser->position;
    parser->position = 0;
    *arguments = argv;
    *argc = (uint32_t)count;
    if (parser->own_count) {
        for (size_t i = 0; i < parser->own_count; i++)
            parser->own[i].data = buffer.data + (uintptr_t)parser->own[i].data;
        *arguments = parser->own;
        *argc = (uint32_t)parser->own_count;
        parser->own_count = 0;
    }
    return RESP_PARSE_DONE;
}

size_t resp_parser_skip(struct resp_parser *parser, size_t buffered) {
    size_t behind = buffered - parser->position;
    parser->own_count = 0;
    parser->position = 0;
    parser->skipping = true;
    if (parser->bulk_left < 0) return behind; /* the beginning of a bulk string's header */
    parser->bulk_left += 2 - (int64_t)behind;
    return 0;
}

/* Passes over what has come of the command that is not wanted. */
static enum resp_parse_result skip(struct resp_parser *parser, struct span buffer, const struct resp_limits *limits,
                                   size_t *consumed) {
    while (parser->arguments_left > 0) {
        if (parser->bulk_left < 0) {
            enum resp_parse_result result = parse_bulk_header(parser, buffer, limits);
            if (result == RESP_PARSE_INCOMPLETE) break;
            if (result != RESP_PARSE_DONE) return result;
            parser->bulk_left += 2;
        }
        int64_t rest = (int64_t)(buffer.length - parser->position);
        int64_t step = rest < parser->bulk_left ? rest : parser->bulk_left;
        parser->position += (size_t)step;
        parser->bulk_left -= step;
        if (parser->bulk_left > 0) break;
        parser->bulk_left = -1;
        parser->arguments_left--;
    }
    *consumed = parser->position;
    parser->position = 0;
    if (parser->arguments_left > 0) return *consumed ? RESP_PARSE_EMPTY : RESP_PARSE_INCOMPLETE;
    parser->skipping = false;
    return RESP_PARSE_SKIPPED;
}

static __attribute__((noinline)) enum resp_parse_result
parse_stepwise(struct resp_parser *parser, struct span buffer, const struct resp_limits *limits, struct span *argv,
               size_t capacity, struct span **arguments, uint32_t *argc, size_t *consumed) {
    size_t count = 0;
    if (__builtin_expect(parser->skipping, 0)) return skip(parser, buffer, limits, consumed);
    if (parser->arguments_left == 0) {
        if (buffer.length == 0) return RESP_PARSE_INCOMPLETE;
        if (buffer.data[0] != '*') return parse_inline(parser, buffer, arguments, argc, consumed);
        parser->position = 0;
        enum resp_parse_result result = parse_header(parser, buffer, limits);
        if (result == RESP_PARSE_EMPTY) {
            *consumed = parser->position;
            parser->position = 0;
        }
        if (result != RESP_PARSE_DONE) return result;
    }
    while (parser->arguments_left > 0) {
        if (parser->bulk_left < 0) {
            enum resp_parse_result result = parse_bulk_header(parser, buffer, limits);
            if (result == RESP_PARSE_INCOMPLETE) break;
            if (result != RESP_PARSE_DONE) return result;
        }
        if (buffer.length - parser->position < (size_t)parser->bulk_left + 2) break;
        struct span argument = span_of(buffer.data + parser->position, (size_t)parser->bulk_left);
        if (parser->own_count || count == capacity) {
            if (!keep(parser, buffer, argv, count) || !keep(parser, buffer, &argument, 1))
                return fail(parser, "out of memory");
            count = 0;
        } else {
            argv[count++] = argument;
        }
        parser->position += (size_t)parser->bulk_left + 2;
        parser->bulk_left = -1;
        parser->arguments_left--;
    }
    if (parser->arguments_left == 0) return finish(parser, buffer, argv, count, arguments, argc, consumed);
    if (count && !keep(parser, buffer, argv, count)) return fail(parser, "out of memory");
    return RESP_PARSE_INCOMPLETE;
}

enum resp_parse_result resp_parse(struct resp_parser *parser, struct span buffer, const struct resp_limits *limits,
                                  struct span *argv, size_t capacity, struct span **arguments, uint32_t *argc,
                                  size_t *consumed) {
    size_t whole = 0;
    if (parser->arguments_left == 0) whole = parse_whole(buffer, limits, argv, capacity, argc);
    if (__builtin_expect(whole == 0, 0))
        return parse_stepwise(parser, buffer, limits, argv, capacity, arguments, argc, consumed);
    *consumed = whole;
    *arguments = argv;
    return RESP_PARSE_DONE;
}

size_t resp_parser_wanted(const struct resp_parser *parser, size_t buffered) {
    if (parser->arguments_left == 0 || parser->bulk_left < 0 || parser->skipping) return 0;
    size_t end = parser->position + (size_t)parser->bulk_left + 2;
    return end > buffered ? end - buffered : 0;
}
