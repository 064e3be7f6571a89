/* Request templates.
 *
 * A request is a row of pieces: literal bytes, then at most one thing that differs from request to request.
 *
 *     GET __key__      "*2 $3 GET $16 key:000000000000" + patch 12 digits backwards,  CRLF
 *     SET __key__ __value__                              ... CRLF $32 CRLF" + 32 bytes,  CRLF
 *
 * Keys and fields have a fixed width, so their place is part of the literal (as zeros) and only the digits that are not
 * zero are written over it. Values of a fixed size have their length header in the literal as well. Everything is
 * copied sixteen bytes at a time past the end of what is wanted: literals, the pool of values and the output have that
 * slack.
 *
 * Random values are cut from a pool of random letters at a random place: different every time, at the price of a copy.
 */
#include "bench/request.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COPY_BLOCK = 16,
    COPY_INLINE_MAX = 256,
    VALUE_POOL_SPREAD = 1 << 16, /* places a value can start at; stays in the second-level cache */
    FIELD_WIDTH = 12,
    NUMBER_DIGITS_MAX = 20,
    TEMPLATE_WORDS_MAX = 256,
    REPEAT_MAX = 1024,
};

enum piece_kind { PIECE_LITERAL, PIECE_KEY, PIECE_FIELD, PIECE_VALUE_FIXED, PIECE_VALUE_SIZED, PIECE_NUMBER };

/* The literal comes first, then what the kind says. */
struct piece {
    enum piece_kind kind;
    uint32_t literal_offset;
    uint32_t literal_length;
};

struct request_template {
    struct piece *pieces;
    size_t piece_count;
    char *literals; /* padded with COPY_BLOCK bytes */
    size_t literals_length;
    size_t length_max;
    unsigned keys;
    unsigned suffix_length; /* of a key: its digits end this far before the end of the literal */
};

static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                  "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

/* Writes the decimal digits of `number` so that they end before `end`; writes nothing for 0. Returns the first digit.
 */
static inline char *write_digits_before(char *end, uint64_t number) {
    while (number >= 100) {
        end -= 2;
        memcpy(end, digit_pairs + number % 100 * 2, 2);
        number /= 100;
    }
    if (number >= 10) {
        end -= 2;
        memcpy(end, digit_pairs + number * 2, 2);
    } else if (number > 0) {
        *--end = (char)('0' + number);
    }
    return end;
}

static inline char *copy_padded(char *out, const char *from, size_t length) {
    if (length > COPY_INLINE_MAX) {
        memcpy(out, from, length);
    } else {
        for (size_t done = 0; done < length; done += COPY_BLOCK) memcpy(out + done, from + done, COPY_BLOCK);
    }
    return out + length;
}

/* "$length CRLF" */
static char *write_bulk_header(char *out, uint64_t length) {
    char digits[NUMBER_DIGITS_MAX];
    char *end = digits + sizeof(digits);
    char *first = write_digits_before(end, length);
    if (first == end) *--first = '0';
    *out++ = '$';
    memcpy(out, first, (size_t)(end - first));
    out += end - first;
    memcpy(out, "\r\n", 2);
    return out + 2;
}

static char *write_number(char *out, uint64_t number) {
    char digits[NUMBER_DIGITS_MAX];
    char *end = digits + sizeof(digits);
    char *first = write_digits_before(end, number);
    if (first == end) *--first = '0';
    out = write_bulk_header(out, (uint64_t)(end - first));
    memcpy(out, first, (size_t)(end - first));
    return out + (end - first);
}

static char *write_random_value(char *out, struct request_source *source, uint64_t length) {
    return copy_padded(out, source->values + random_next(&source->random) % VALUE_POOL_SPREAD, length);
}

char *request_compose(const struct request_template *request, struct request_source *source, char *out) {
    const struct request_shape *shape = source->shape;
    for (size_t i = 0; i < request->piece_count; i++) {
        const struct piece *piece = &request->pieces[i];
        out = copy_padded(out, request->literals + piece->literal_offset, piece->literal_length);
        switch (piece->kind) {
        case PIECE_LITERAL: break;
        case PIECE_KEY: write_digits_before(out - request->suffix_length, key_generator_next(&source->keys)); break;
        case PIECE_FIELD: write_digits_before(out, random_below(&source->random, shape->fields)); break;
        case PIECE_VALUE_FIXED: out = write_random_value(out, source, shape->value_size_max); break;
        case PIECE_VALUE_SIZED: {
            uint64_t spread = shape->value_size_max - shape->value_size_min + 1;
            uint64_t length = shape->value_size_min + random_below(&source->random, spread);
            out = write_random_value(write_bulk_header(out, length), source, length);
            break;
        }
        case PIECE_NUMBER: out = write_number(out, random_below(&source->random, shape->integer_max + 1)); break;
        }
    }
    return out;
}

char *request_values_create(uint64_t size_max, uint64_t seed) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t size = size_max + VALUE_POOL_SPREAD + COPY_BLOCK;
    char *values = malloc(size);
    if (values == NULL) return NULL;
    struct random_stream random = random_stream_make(seed, UINT32_MAX);
    for (size_t i = 0; i < size; i++) values[i] = letters[random_next(&random) >> 58];
    return values;
}

/* The words of a command and the pieces made of them so far. */
struct compiler {
    struct request_template *request;
    const struct request_shape *shape;
    size_t literals_room, pieces_room, literal_start;
};

static void add_literal(struct compiler *compiler, const char *bytes, size_t length) {
    struct request_template *request = compiler->request;
    if (request->literals_length + length + COPY_BLOCK > compiler->literals_room) {
        compiler->literals_room = (request->literals_length + length + COPY_BLOCK) * 2;
        request->literals = realloc(request->literals, compiler->literals_room);
        assert(request->literals != NULL);
    }
    memcpy(request->literals + request->literals_length, bytes, length);
    request->literals_length += length;
}

/* Ends the current piece: the literal since the last one, and then `kind`, which takes at most `dynamic_max` bytes. */
static void end_piece(struct compiler *compiler, enum piece_kind kind, size_t dynamic_max) {
    struct request_template *request = compiler->request;
    if (request->piece_count == compiler->pieces_room) {
        compiler->pieces_room = compiler->pieces_room == 0 ? 8 : compiler->pieces_room * 2;
        request->pieces = realloc(request->pieces, compiler->pieces_room * sizeof(*request->pieces));
        assert(request->pieces != NULL);
    }
    size_t length = request->literals_length - compiler->literal_start;
    request->pieces[request->piece_count++] = (struct piece){kind, (uint32_t)compiler->literal_start, (uint32_t)length};
    request->length_max += length + dynamic_max;
    compiler->literal_start = request->literals_length;
}

static const char zeros[] = "000000000000000";

static size_t key_length(const struct key_format *format) {
    return strlen(format->prefix) + format->width + strlen(format->suffix);
}

static void add_key(struct compiler *compiler) {
    const struct key_format *format = &compiler->shape->key_format;
    add_literal(compiler, format->prefix, strlen(format->prefix));
    add_literal(compiler, zeros, format->width);
    add_literal(compiler, format->suffix, strlen(format->suffix));
    end_piece(compiler, PIECE_KEY, 0);
    compiler->request->keys++;
}

/* Length of the placeholder at `at`, 0 when there is none. */
static size_t placeholder_at(const char *at, const char *end, const char *name) {
    size_t length = strlen(name);
    return (size_t)(end - at) >= length && memcmp(at, name, length) == 0 ? length : 0;
}

static void add_literal_header(struct compiler *compiler, size_t length) {
    char header[32];
    add_literal(compiler, header, (size_t)(write_bulk_header(header, length) - header));
}

static void add_value(struct compiler *compiler) {
    const struct request_shape *shape = compiler->shape;
    if (shape->value_kind == VALUE_INTEGER) {
        end_piece(compiler, PIECE_NUMBER, 2 * NUMBER_DIGITS_MAX);
    } else if (shape->value_size_min == shape->value_size_max) {
        add_literal_header(compiler, shape->value_size_max);
        end_piece(compiler, PIECE_VALUE_FIXED, shape->value_size_max);
    } else {
        end_piece(compiler, PIECE_VALUE_SIZED, shape->value_size_max + NUMBER_DIGITS_MAX + 3);
    }
}

/* One argument: bulk header, contents with placeholders, CRLF. */
static void add_word(struct compiler *compiler, const char *word, const char *end) {
    size_t whole = (size_t)(end - word);
    if (placeholder_at(word, end, "__value__") == whole) {
        add_value(compiler);
    } else if (placeholder_at(word, end, "__number__") == whole) {
        end_piece(compiler, PIECE_NUMBER, 2 * NUMBER_DIGITS_MAX);
    } else {
        size_t length = 0;
        for (const char *at = word; at < end;) {
            size_t key = placeholder_at(at, end, "__key__");
            size_t field = placeholder_at(at, end, "__field__");
            length += key ? key_length(&compiler->shape->key_format) : field ? FIELD_WIDTH : 1;
            at += key ? key : field ? field : 1;
        }
        add_literal_header(compiler, length);
        for (const char *at = word; at < end;) {
            size_t key = placeholder_at(at, end, "__key__");
            size_t field = placeholder_at(at, end, "__field__");
            if (key) {
                add_key(compiler);
            } else if (field) {
                add_literal(compiler, zeros, FIELD_WIDTH);
                end_piece(compiler, PIECE_FIELD, 0);
            } else {
                add_literal(compiler, at, 1);
            }
            at += key ? key : field ? field : 1;
        }
    }
    add_literal(compiler, "\r\n", 2);
}

struct word {
    const char *start, *end;
};

static size_t split_words(const char *command, struct word *words, size_t room) {
    size_t count = 0;
    for (const char *at = command; *at != '\0';) {
        size_t length = strcspn(at, " ");
        if (length > 0) {
            if (count == room) return room + 1;
            words[count++] = (struct word){at, at + length};
        }
        at += length;
        if (*at == ' ') at++;
    }
    return count;
}

struct request_template *request_template_create(const char *command, unsigned repeat_from, unsigned repeat,
                                                 const struct request_shape *shape, char *error, size_t error_size) {
    struct word words[TEMPLATE_WORDS_MAX];
    size_t count = split_words(command, words, TEMPLATE_WORDS_MAX);
    if (count == 0 || count > TEMPLATE_WORDS_MAX) {
        snprintf(error, error_size, "a command has 1 to %d words", TEMPLATE_WORDS_MAX);
        return NULL;
    }
    if (repeat == 0 || repeat > REPEAT_MAX) {
        snprintf(error, error_size, "a command takes 1 to %d keys", REPEAT_MAX);
        return NULL;
    }
    assert(repeat_from < count);
    struct request_template *request = calloc(1, sizeof(*request));
    assert(request != NULL);
    request->suffix_length = (unsigned)strlen(shape->key_format.suffix);
    struct compiler compiler = {.request = request, .shape = shape};
    char header[32];
    size_t arguments = repeat_from + (count - repeat_from) * repeat;
    add_literal(&compiler, header, (size_t)snprintf(header, sizeof(header), "*%zu\r\n", arguments));
    for (size_t i = 0; i < repeat_from; i++) add_word(&compiler, words[i].start, words[i].end);
    for (unsigned round = 0; round < repeat; round++)
        for (size_t i = repeat_from; i < count; i++) add_word(&compiler, words[i].start, words[i].end);
    end_piece(&compiler, PIECE_LITERAL, 0);
    request->length_max += COPY_BLOCK;
    return request;
}

void request_template_destroy(struct request_template *request) {
    if (request == NULL) return;
    free(request->pieces);
    free(request->literals);
    free(request);
}

size_t request_template_length_max(const struct request_template *request) {
    return request->length_max;
}

unsigned request_template_keys(const struct request_template *request) {
    return request->keys;
}

bool key_format_parse(const char *text, struct key_format *format) {
    const char *percent = strchr(text, '%');
    if (percent == NULL || (size_t)(percent - text) >= sizeof(format->prefix)) return false;
    if (percent[1] != '0') return false;
    char *after;
    unsigned long width = strtoul(percent + 2, &after, 10);
    if (width < 1 || width >= sizeof(zeros) || *after != 'd') return false;
    const char *suffix = after + 1;
    if (strchr(suffix, '%') != NULL || strlen(suffix) >= sizeof(format->suffix)) return false;
    memset(format, 0, sizeof(*format));
    memcpy(format->prefix, text, (size_t)(percent - text));
    format->width = (unsigned)width;
    memcpy(format->suffix, suffix, strlen(suffix));
    return true;
}
